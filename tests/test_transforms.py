"""Transforms: literal small arrays, other implementations, gradients, and the older protocol."""

import math

import keras
import numpy as np
import pytest
import scipy.ndimage
from conftest import small_cnn, value_of
from keras import ops

from vis import backend
from vis.callbacks import OptimizerCallback
from vis.input_modifiers import (
    Blur,
    Compose,
    Crop,
    Flip,
    InputModifier,
    Jitter,
    Noise,
    Pad,
    Resize,
    Rotate,
    Scale,
    Transform,
    standard_transforms,
)
from vis.losses import ActivationMaximization
from vis.optimizer import Optimizer
from vis.utils.images import resize


def applied(transform, images, numbers=()):
    """Applies a transform to an array."""
    images = ops.convert_to_tensor(np.asarray(images, "float32"))
    return value_of(transform.apply(images, numbers))


def line(transform, values, numbers=()):
    return applied(transform, np.reshape(values, (1, -1, 1)), numbers).ravel().tolist()


def plane(transform, values, numbers=()):
    return applied(transform, np.array(values)[None, ..., None], numbers)[0, ..., 0].tolist()


def test_jitter_by_hand():
    assert line(Jitter(2), [1, 2, 3, 4], [np.int32(1)]) == [4, 1, 2, 3]
    assert line(Jitter(2), [1, 2, 3, 4], [np.int32(-2)]) == [3, 4, 1, 2]
    assert plane(Jitter(2), [[1, 2, 3], [4, 5, 6]], [np.int32(1), np.int32(-1)]) == [[5, 6, 4], [2, 3, 1]]
    assert plane(Jitter(0), [[1, 2], [3, 4]], [np.int32(0), np.int32(0)]) == [[1, 2], [3, 4]]


def test_scale_by_hand():
    assert line(Scale(), [1, 2, 3, 4], [np.float32(2)]) == [1.75, 2.25, 2.75, 3.25]
    assert line(Scale(), [1, 2, 3, 4], [np.float32(0.5)]) == [1, 1.5, 3.5, 4]  # beyond the edges it goes on flat
    assert line(Scale(), [1, 2, 3, 4], [np.float32(1)]) == [1, 2, 3, 4]
    assert plane(Scale(), [[0, 0, 0], [0, 8, 0], [0, 0, 0]], [np.float32(2)]) == [[2, 4, 2], [4, 8, 4], [2, 4, 2]]


def test_rotate_by_hand():
    turned = plane(Rotate(), [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [np.float32(np.pi / 2)])
    np.testing.assert_allclose(turned, [[7, 4, 1], [8, 5, 2], [9, 6, 3]], atol=1e-5)  # clockwise
    back = plane(Rotate(), [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [np.float32(-np.pi / 2)])
    np.testing.assert_allclose(back, [[3, 6, 9], [2, 5, 8], [1, 4, 7]], atol=1e-5)
    eighth = plane(Rotate(), [[0, 0, 0], [0, 1, 0], [0, 0, 0]], [np.float32(np.pi / 4)])
    far = (1 - math.sqrt(0.5)) ** 2  # half a diagonal away along both axes
    np.testing.assert_allclose(eighth, [[0, far, 0], [far, 1, far], [0, far, 0]], atol=1e-5)
    assert plane(Rotate(), [[1, 2], [3, 4]], [np.float32(0)]) == [[1, 2], [3, 4]]


def test_blur_by_hand():
    side = math.exp(-0.5)
    expected = [1 / (1 + side + side**4), side / (1 + 2 * side), side**4 / (1 + side + side**4)]
    np.testing.assert_allclose(line(Blur(1.0), [1, 0, 0]), expected, rtol=1e-5)
    np.testing.assert_allclose(line(Blur(3.0), [5, 5, 5, 5]), [5, 5, 5, 5], rtol=1e-5)
    assert line(Blur(0), [1, 0, 2]) == [1, 0, 2]


def test_flip_by_hand():
    square = [[1, 2], [3, 4]]
    assert plane(Flip(), square, [np.float32(1)]) == [[2, 1], [4, 3]]
    assert plane(Flip(), square, [np.float32(0)]) == square
    assert plane(Flip(0), square, [np.float32(1)]) == plane(Flip(-2), square, [np.float32(1)]) == [[3, 4], [1, 2]]
    assert line(Flip(), [1, 2, 3], [np.float32(1)]) == [3, 2, 1]


def test_pad_by_hand():
    assert line(Pad(1), [1, 3], []) == [2, 1, 3, 2]
    assert line(Pad(2, 0.5), [1, 3], []) == [0.5, 0.5, 1, 3, 0.5, 0.5]
    assert line(Pad(0), [1, 3], []) == [1, 3]
    assert plane(Pad(1), [[1, 2], [3, 6]]) == [[3, 3, 3, 3], [3, 1, 2, 3], [3, 3, 6, 3], [3, 3, 3, 3]]
    two = np.array([[[1.0, 10], [3, 30]], [[5, 0], [7, 0]]])  # each image and channel its own mean
    assert applied(Pad(1), two).tolist() == [[[2, 20], [1, 10], [3, 30], [2, 20]], [[6, 0], [5, 0], [7, 0], [6, 0]]]


def test_crop_by_hand():
    assert line(Crop(2), [1, 2, 3, 4], [np.int32(0)]) == [1, 2]
    assert line(Crop(2), [1, 2, 3, 4], [np.int32(2)]) == [3, 4]
    assert line(Crop(0.75), [1, 2, 3, 4], [np.int32(1)]) == [2, 3, 4]
    assert line(Crop(1), [1, 2, 3], [np.int32(0)]) == [1, 2, 3]  # the whole, not one pixel
    assert plane(Crop(2), [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [np.int32(1), np.int32(0)]) == [[4, 5], [7, 8]]


def test_noise_by_hand():
    assert line(Noise(), [1, 2], [np.float32([[[0.5], [-1]]])]) == [1.5, 1]


def test_compose_by_hand():
    both = Compose([Pad(1, 0.0), Jitter(1)])
    assert line(both, [1, 2], [[], [np.int32(1)]]) == [0, 0, 1, 2]
    assert line(Compose([Jitter(1), Pad(1, 0.0)]), [1, 2], [[np.int32(1)], []]) == [0, 2, 1, 0]
    assert line(Compose([]), [1, 2], []) == [1, 2]


@pytest.mark.parametrize("degrees", [7, -33, 90, 200])
def test_rotate_is_that_of_scipy(degrees, rng):
    images = rng.random((2, 7, 9, 2))
    got = applied(Rotate(), images, [np.float32(math.radians(degrees))])
    # scipy turns the other way round.
    expected = scipy.ndimage.rotate(images, -degrees, axes=(2, 1), reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 9, 2), (2, 7, 9, 2), (1, 5, 4, 6, 1)])
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.37])
def test_scale_is_that_of_scipy(shape, factor, rng):
    images = rng.random(shape)
    centre = (np.array(shape[1:-1]) - 1) / 2
    matrix = np.eye(len(centre)) / factor
    got = applied(Scale(), images, [np.float32(factor)])
    for n, c in np.ndindex(shape[0], shape[-1]):
        expected = scipy.ndimage.affine_transform(
            images[n, ..., c], matrix, centre - matrix @ centre, order=1, mode="nearest"
        )
        np.testing.assert_allclose(got[n, ..., c], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 9, 2), (2, 7, 9, 2), (1, 5, 4, 6, 1)])
@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_blur_is_that_of_scipy(shape, sigma, rng):
    images = rng.random(shape)
    smooth = {"sigma": [0, *[sigma] * (len(shape) - 2), 0], "mode": "constant", "truncate": 30}
    inside = scipy.ndimage.gaussian_filter(np.ones(shape), **smooth)
    expected = scipy.ndimage.gaussian_filter(images, **smooth) / inside
    np.testing.assert_allclose(applied(Blur(sigma), images), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 2), (2, 7, 9, 2), (1, 5, 4, 6, 1)])
def test_the_others_are_those_of_numpy(shape, rng):
    images = rng.random(shape).astype("float32")
    axes = tuple(range(1, len(shape) - 1))
    offsets = [int(n) for n in rng.integers(-3, 4, len(axes))]
    rolled = applied(Jitter(3), images, [np.int32(n) for n in offsets])
    np.testing.assert_array_equal(rolled, np.roll(images, offsets, axes))
    for axis in axes:
        flipped = applied(Flip(axis - 1), images, [np.float32(1)])
        np.testing.assert_array_equal(flipped, np.flip(images, axis))
    padded = applied(Pad(2, 0.25), images)
    np.testing.assert_allclose(
        padded, np.pad(images, [(0, 0), *[(2, 2)] * len(axes), (0, 0)], constant_values=0.25), atol=1e-6
    )
    starts = [np.int32(n % 2) for n in range(len(axes))]
    cropped = applied(Crop(3), images, starts)
    np.testing.assert_array_equal(cropped, images[(slice(None), *(slice(n, n + 3) for n in starts), slice(None))])


def test_rotate_turns_each_slice_of_a_volume(rng):
    volume = rng.random((2, 3, 5, 6, 2))
    angle = [np.float32(0.4)]
    expected = np.stack([applied(Rotate(), volume[:, i], angle) for i in range(3)], axis=1)
    np.testing.assert_allclose(applied(Rotate(), volume, angle), expected, atol=1e-6)


@pytest.mark.parametrize("shape, sizes", [((1, 9, 2), [5]), ((2, 7, 9, 2), [9, 4]), ((1, 5, 4, 6, 1), [5, 6, 3])])
def test_resize_is_that_of_the_library_and_of_numpy(shape, sizes, rng):
    images = rng.random(shape).astype("float32")
    np.testing.assert_allclose(applied(Resize(sizes), images), resize(images, sizes), atol=1e-6)
    axes = [(np.arange(n) + 0.5) * given / n - 0.5 for n, given in zip(sizes, shape[1:-1])]
    places = np.meshgrid(*axes, indexing="ij")
    expected = scipy.ndimage.map_coordinates(images[0, ..., 0], places, order=1, mode="nearest")
    np.testing.assert_allclose(applied(Resize(sizes), images)[0, ..., 0], expected, atol=1e-5)


def test_resize_of_another_number_of_axes():
    with pytest.raises(ValueError, match=r"`sizes` must hold one number for each of the 2 spatial axes.*\[4\]"):
        Resize(4).spatial([8, 8])


def back(transform, place, numbers, sizes):
    """Tells where the value at a place comes from, in double precision: a second implementation."""
    middle = (np.array(sizes) - 1) / 2
    if isinstance(transform, Jitter):
        return (place - np.array(numbers)) % sizes
    if isinstance(transform, Scale):
        return np.clip((place - middle) / numbers[0] + middle, 0, 2 * middle)
    if isinstance(transform, Rotate):
        turned = np.exp(1j * numbers[0]) * complex(*(place - middle))
        return np.clip([turned.real, turned.imag] + middle, 0, 2 * middle)
    return np.clip((place + 0.5) * sizes / transform.spatial(sizes) - 0.5, 0, 2 * middle)


def test_moves_that_follow_one_another_read_once(rng):
    moves = [Jitter(3), Scale(0.8, 1.2), Rotate(30), Jitter(2), Resize([6, 8])]
    images = rng.random((2, 7, 9, 3))
    numbers = Compose(moves).draw(rng, images.shape)
    got = applied(Compose(moves), images, numbers)
    assert got.shape == (2, 6, 8, 3)
    for y, x in np.ndindex(6, 8):
        place = np.array([y, x], "float64")
        for move, own in reversed(list(zip(moves, numbers))):
            place = back(move, place, np.array(own, "float64"), [7, 9])
        (low_y, low_x), (part_y, part_x) = np.floor(place).astype(int), place % 1
        high_y, high_x = min(low_y + 1, 6), min(low_x + 1, 8)
        above = (1 - part_x) * images[:, low_y, low_x] + part_x * images[:, low_y, high_x]
        below = (1 - part_x) * images[:, high_y, low_x] + part_x * images[:, high_y, high_x]
        np.testing.assert_allclose(got[:, y, x], (1 - part_y) * above + part_y * below, atol=1e-4)


@pytest.mark.parametrize(
    "moves", [[Rotate(20), Pad(1), Jitter(2)], [Jitter(2), Jitter(1)], [Jitter(2), Flip(), Scale()]]
)
def test_what_blurs_at_most_once_is_as_one_after_the_other(moves, rng):
    images, both = rng.random((2, 7, 9, 2)), Compose(moves)
    numbers = both.draw(rng, images.shape)
    expected = images
    for move, own in zip(moves, numbers):
        expected = applied(move, expected, own)
    np.testing.assert_array_equal(applied(both, images, numbers), expected)


@pytest.mark.parametrize("moves", [[Jitter(2), Rotate(20)], [Jitter(1), Scale(), Jitter(1)]])
def test_rolling_beside_a_single_reading_changes_nothing_within(moves, rng):
    images, both = rng.random((1, 20, 22, 2)), Compose(moves)
    numbers = both.draw(rng, images.shape)
    expected = images
    for move, own in zip(moves, numbers):
        expected = applied(move, expected, own)
    within = np.abs(applied(both, images, numbers) - expected) < 1e-4
    assert within.mean() > 0.8  # elsewhere is the seam of the roll, where neighbours were none


def test_a_transform_of_ones_own_is_asked(rng):
    class Still(Scale):
        def apply(self, images, numbers):
            return images

    images, both = rng.random((1, 5, 6, 1)).astype("float32"), Compose([Compose([Jitter(0)]), Still(), Rotate(0)])
    np.testing.assert_array_equal(applied(both, images, both.draw(rng, images.shape)), images)


ALL = {
    "Jitter": lambda: Jitter(2),
    "Scale": lambda: Scale(0.7, 1.4),
    "Rotate": lambda: Rotate(30),
    "Resize": lambda: Resize([5, 9]),
    "moves": lambda: Compose([Jitter(2), Scale(0.7, 1.4), Rotate(30), Resize([5, 9])]),
    "Blur": lambda: Blur(0.8),
    "Flip": lambda: Flip(),
    "Pad": lambda: Pad(2),
    "Pad, filled": lambda: Pad(0.3, value=0.5),
    "Crop": lambda: Crop(0.7),
    "Noise": lambda: Noise(0.1),
    "Compose": lambda: Compose([Pad(1), Jitter(1), Rotate(20), Crop(5)]),
    "standard": standard_transforms,
}


@pytest.mark.parametrize("name", ALL)
def test_gradients_agree_with_finite_differences(name, rng):
    transform, shape = ALL[name](), (1, 6, 7, 2)
    images = rng.random(shape)
    numbers = transform.draw(np.random.default_rng(3), shape)
    weights = rng.normal(size=applied(transform, images, numbers).shape)

    def score(x):
        changed = transform.apply(x, keras.tree.map_structure(ops.convert_to_tensor, numbers))
        return ops.sum(ops.multiply(changed, ops.convert_to_tensor(weights.astype("float32"))), axis=(1, 2, 3)), ()

    _, _, gradient = backend.value_and_grad(score, ops.convert_to_tensor(images.astype("float32")))
    for index in list(np.ndindex(shape))[::11]:
        ends = []
        for step in (0.5, -0.5):  # all of them are linear in the image
            moved = images.copy()
            moved[index] += step
            ends.append((applied(transform, moved, numbers).astype("float64") * weights).sum())
        assert value_of(gradient)[index] == pytest.approx(ends[0] - ends[1], abs=1e-4)


SPATIAL = [
    (Jitter(2), [8, 6], [8, 6]),
    (Scale(), [8, 6], [8, 6]),
    (Rotate(), [8, 6], [8, 6]),
    (Blur(), [8], [8]),
    (Flip(), [8, 6, 4], [8, 6, 4]),
    (Noise(), [8, 6], [8, 6]),
    (Pad(3), [8, 6], [14, 12]),
    (Pad(0.25), [8, 6], [12, 8]),
    (Pad(0), [8], [8]),
    (Crop(3), [8, 6], [3, 3]),
    (Crop(0.5), [8, 7], [4, 3]),
    (Crop(1.0), [8, 7], [8, 7]),
    (Crop(0.9), [20], [18]),
    (Compose([Pad(2), Crop(8)]), [8, 6], [8, 8]),
    (Compose([]), (8, 6), [8, 6]),
    (standard_transforms(), [224, 224], [246, 246]),
    (standard_transforms(1), [100], [110]),
    (standard_transforms(3), [20, 40, 60], [22, 44, 66]),
]


@pytest.mark.parametrize("transform, before, after", SPATIAL, ids=range(len(SPATIAL)))
def test_sizes_are_as_announced(transform, before, after):
    assert transform.spatial(before) == after
    if math.prod(before) < 1000:
        shape = (2, *before, 1)
        got = applied(transform, np.zeros(shape), transform.draw(np.random.default_rng(0), shape))
        assert got.shape == (2, *after, 1)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_standard_transforms_of_signals_images_and_volumes(axes, rng):
    images = rng.random((2, *[12, 10, 8][:axes], 3)).astype("float32")
    transform = standard_transforms(axes)
    seen = [applied(transform, images, transform.draw(rng, images.shape)) for _ in range(2)]
    assert (seen[0] != seen[1]).any()
    for changed in seen:
        assert list(changed.shape[1:-1]) == transform.spatial(images.shape[1:-1])
        assert images.min() - 1e-5 <= changed.min() and changed.max() <= images.max() + 1e-5


def drawn(transform, seed=0, count=400, shape=(1, 10, 20, 1)):
    generator = np.random.default_rng(seed)
    return [transform.draw(generator, shape) for _ in range(count)]


def test_what_is_drawn():
    offsets = np.array(drawn(Jitter((2, 0.1))))
    assert sorted(set(offsets[:, 0])) == [-2, -1, 0, 1, 2] and sorted(set(offsets[:, 1])) == [-2, -1, 0, 1, 2]
    factors = np.array(drawn(Scale(0.5, 2.0))).ravel()
    assert 0.5 <= factors.min() < 0.52 and 1.9 < factors.max() <= 2 and 0.4 < (factors < 1).mean() < 0.6
    angles = np.degrees(np.array(drawn(Rotate(15)))).ravel()
    assert -15 <= angles.min() < -14 and 14 < angles.max() <= 15
    assert 0.4 < np.array(drawn(Flip())).mean() < 0.6
    starts = np.array(drawn(Crop(8)))
    assert sorted(set(starts[:, 0])) == [0, 1, 2] and sorted(set(starts[:, 1])) == list(range(13))
    noise = np.array(drawn(Noise(0.3), count=20))
    assert noise.shape == (20, 1, 1, 10, 20, 1) and noise.std() == pytest.approx(0.3, rel=0.05)
    assert drawn(Blur(2)) == drawn(Pad(2)) == [[]] * 400
    nested = drawn(Compose([Pad(3), Crop(10), Jitter(1)]), count=200)
    assert max(numbers[1][0] for numbers in nested) == 6 and nested[0][0] == []  # the crop sees the border


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_draws_the_same_numbers(name):
    transform = ALL[name]()
    first, again, other = (drawn(transform, seed, 5, (1, 9, 8, 2)) for seed in (1, 1, 2))
    flat = [np.concatenate([np.ravel(x) for x in keras.tree.flatten(d) or [0]]) for d in (first, again, other)]
    np.testing.assert_array_equal(flat[0], flat[1])
    if name not in ("Blur", "Pad", "Pad, filled", "Resize"):
        assert (flat[0] != flat[2]).any()


SAME_SIZE = {
    "Jitter": Jitter,
    "Scale": lambda seed=None: Scale(0.7, 1.4, seed=seed),
    "Rotate": lambda seed=None: Rotate(30, seed=seed),
    "Blur": lambda seed=None: Blur(0.8, seed=seed),
    "Flip": lambda seed=None: Flip(seed=seed),
    "Noise": lambda seed=None: Noise(0.1, seed=seed),
    "Compose": lambda seed=None: Compose([Pad(2), Jitter(1), Crop(9)], seed=seed),
}


@pytest.mark.parametrize("name", SAME_SIZE)
def test_pre_with_a_seed_repeats(name, rng):
    images = rng.random((2, 9, 9, 3))
    before = images.copy()
    make = (lambda seed=None: Jitter(3, seed=seed)) if name == "Jitter" else SAME_SIZE[name]
    one, again, other = (np.stack([m.pre(images) for _ in range(4)]) for m in (make(5), make(5), make(6)))
    np.testing.assert_array_equal(one, again)
    if name != "Blur":
        assert (one != other).any() and (one[0] != one[1:]).any()
    assert one.shape == (4, 2, 9, 9, 3) and isinstance(one, np.ndarray)
    assert make().pre(images).shape == images.shape
    np.testing.assert_array_equal(images, before)
    assert make().post(images) is images


class Recorder(OptimizerCallback):
    def __init__(self):
        self.values, self.gradients = [], []

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        self.values.append(np.array(wrt_value))
        self.gradients.append(np.array(grads))


@pytest.mark.parametrize("name", SAME_SIZE)
def test_transforms_in_minimize(name, rng):
    model = small_cnn()
    seed_input = rng.random((1, 9, 7, 3), dtype="float32")
    make = SAME_SIZE[name] if name != "Compose" else lambda seed=None: Compose([Jitter(1), Noise(0.1)], seed=seed)
    optimizer = Optimizer(model, [(ActivationMaximization("preds", 1), 1)], input_range=(0, 1))
    recorder = Recorder()
    image, _, _ = optimizer.minimize(
        seed_input, 3, [make(seed=4)], callbacks=[recorder], verbose=False, optimizer=keras.optimizers.SGD(0.1)
    )
    assert image.shape == (9, 7, 3) and np.isfinite(image).all()
    # A second implementation: `pre`, then the step; the change is not taken back.
    by_hand, x = make(seed=4), seed_input
    for value, gradient in zip(recorder.values, recorder.gradients):
        changed = by_hand.pre(x)
        np.testing.assert_allclose(value, changed, atol=1e-5)
        x = changed - 0.1 * gradient


def test_old_and_new_modifiers_together(rng):
    calls = []

    class Old(InputModifier):
        def pre(self, inp):
            calls.append("pre")
            return inp + 1

        def post(self, inp):
            calls.append("post")
            return np.clip(inp, 0, 1)

    optimizer = Optimizer(small_cnn(), [(ActivationMaximization("preds", 1), 1)], input_range=(0, 1))
    recorder = Recorder()
    seed_input = rng.random((1, 9, 7, 3), dtype="float32")
    optimizer.minimize(seed_input, 2, [Old(), Flip(seed=1), Jitter(1, seed=2)], callbacks=[recorder], verbose=False)
    assert calls == ["pre", "post"] * 2
    flip, jitter = Flip(seed=1), Jitter(1, seed=2)
    np.testing.assert_allclose(recorder.values[0], jitter.pre(flip.pre(seed_input + 1)), atol=1e-6)


def test_minimize_cannot_follow_a_change_of_size():
    optimizer = Optimizer(small_cnn(), [(ActivationMaximization("preds", 1), 1)])
    for transform in (Pad(1), Crop(5), Compose([Pad(1)])):
        with pytest.raises(ValueError, match=f"{type(transform).__name__} changes the size.*FeatureVisualization"):
            optimizer.minimize(np.zeros((1, 9, 7, 3)), 2, [transform], verbose=False)
    optimizer.minimize(np.zeros((1, 9, 7, 3)), 1, [Pad(0), Crop(1)], verbose=False)


def test_pre_where_the_channels_are_first(monkeypatch, rng):
    images = rng.random((2, 5, 6, 3)).astype("float32")
    last = Rotate(30, seed=1).pre(images)
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    first = Rotate(30, seed=1).pre(np.moveaxis(images, -1, 1))
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last, atol=1e-6)


class Darken(Transform):
    """As in the docstring of `Transform`: its numbers are Python's own."""

    def draw(self, generator, shape):
        return [generator.uniform(0.5, 1)]

    def apply(self, images, numbers):
        return images * numbers[0]


def test_a_transform_of_ones_own():
    images = np.ones((1, 3, 3, 1), "float32")
    assert applied(Darken(), images, [0.25]).tolist() == (images / 4).tolist()
    assert 0.5 <= Darken(seed=0).pre(images).max() <= 1
    twice = Compose([Darken(), Darken()]).pre(images)
    assert 0.25 <= twice.max() <= 1
    with pytest.raises(NotImplementedError, match=r"Transform must define `apply\(images, numbers\)`"):
        Transform().apply(images, [])


def test_transforms_with_two_spatial_axes_too_few(rng):
    with pytest.raises(ValueError, match=r"Rotate needs two spatial axes.*\(1, 9, 2\).*Leave it out"):
        Rotate().draw(rng, (1, 9, 2))
    with pytest.raises(ValueError, match="`axis` must be one of 1 spatial axes. Received: axis=1"):
        line(Flip(1), [1, 2], [np.float32(1)])
    with pytest.raises(ValueError, match="each of the 1 spatial axes. Received: 2 numbers"):
        Jitter((1, 2)).draw(rng, (1, 9, 2))


@pytest.mark.parametrize("size, sizes", [(9, [8, 8]), (8, [8, 7]), (0.1, [8, 8])])
def test_a_crop_that_leaves_nothing_or_too_much(size, sizes, rng):
    for call in (lambda: Crop(size).spatial(sizes), lambda: Crop(size).draw(rng, (1, *sizes, 1))):
        with pytest.raises(ValueError, match=f"Crop must leave a piece of the image. Received: size={size}"):
            call()


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda: Scale(1.2, 1.1), ValueError, "`low` must not be above `high`. Received: 1.2 and 1.1"),
        (lambda: Scale(0, 1), ValueError, "`low` must be above 0"),
        (lambda: Scale(-1, 1), ValueError, "`low`.*at least 0"),
        (lambda: Scale("1", 2), TypeError, "`low` must be a number"),
        (lambda: Scale(1, float("inf")), ValueError, "`high`.*finite"),
        (lambda: Rotate(-5), ValueError, "`degrees`.*at least 0"),
        (lambda: Rotate(None), TypeError, "`degrees` must be a number"),
        (lambda: Blur(-1), ValueError, "`sigma`.*at least 0"),
        (lambda: Blur("soft"), TypeError, "`sigma` must be a number"),
        (lambda: Flip(0.5), TypeError, "`axis` must be an integer"),
        (lambda: Flip(True), TypeError, "`axis` must be an integer"),
        (lambda: Pad(-0.1), ValueError, "`width`.*at least 0"),
        (lambda: Pad(1, "grey"), TypeError, "`value` must be a number"),
        (lambda: Pad(1, float("nan")), ValueError, "`value` must be a finite number"),
        (lambda: Crop(0), ValueError, "`size` must be above 0"),
        (lambda: Crop(-1), ValueError, "`size`.*at least 0"),
        (lambda: Crop([4, 4]), TypeError, "`size` must be a number"),
        (lambda: Noise(-0.1), ValueError, "`std`.*at least 0"),
        (lambda: Noise("loud"), TypeError, "`std` must be a number"),
        (lambda: Noise(seed=1.5), TypeError, "`seed` must be an integer"),
        (lambda: Noise(seed=-1), ValueError, "`seed` must be at least 0"),
        (lambda: Resize([4, 0]), ValueError, "`sizes` must be at least 1"),
        (lambda: Resize(2.5), TypeError, "`sizes` must be an integer"),
        (lambda: Compose([Jitter, Pad()]), TypeError, "must hold transforms.*Jitter"),
        (lambda: Compose(["jitter"]), TypeError, "must hold transforms.*'jitter'"),
        (lambda: Compose([InputModifier()]), TypeError, "only `pre` and `post` is for `Optimizer.minimize`"),
        (lambda: standard_transforms(0), ValueError, "`spatial_axes` must be at least 1"),
        (lambda: standard_transforms(2.0), TypeError, "`spatial_axes` must be an integer"),
    ],
)
def test_wrong_arguments(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_the_list_of_a_compose_is_its_own():
    given = [Pad(1)]
    both = Compose(given)
    given.append(Pad(5))
    assert both.spatial([4]) == [6]
    assert Compose(Pad(1)).spatial([4]) == [6]  # one alone
