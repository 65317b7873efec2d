"""Feature visualisation: it goes up, agrees with slow loops, repeats, does no harm, and words its errors."""

import contextlib

import keras
import numpy as np
import pytest
import zoo
from conftest import needs_seeds_that_restart, slow, value_of
from keras import layers, ops
from test_no_harm import same_snapshots, snapshot

import vis
from vis import backend
from vis.backprop_modifiers import REDIRECTED
from vis.callbacks import GifGenerator, OptimizerCallback, Print
from vis.input_modifiers import Crop, InputModifier, Jitter, Noise, Pad, Rotate, Transform
from vis.losses import (
    ActivationMaximization,
    Caricature,
    DeepDream,
    Direction,
    Diversity,
    FeatureInversion,
    Interpolation,
    Loss,
    Neuron,
)
from vis.parameterizations import Fourier, LaplacianPyramid, MagnitudeConstrained, Pixels
from vis.regularizers import LPNorm, TotalVariation
from vis.utils.validation import VisualizationWarning


def weighted(model):
    """Gives a model the same weights on every backend."""
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0.05, 0.3, w.shape).astype("float32") for w in model.get_weights()])
    return model


def small(activation="elu"):
    """A convolution and a dense layer on 8x8 images; nowhere flat."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation=activation, name="conv")(inputs)
    return weighted(keras.Model(inputs, layers.Dense(3, name="preds")(layers.Flatten()(x)), name="small"))


def linear(units=2):
    """A linear model of 4x4 grey images."""
    return weighted(keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(units, name="preds")]))


def plain(model, loss, **options):
    """A visualisation that compiles fast: pixels, no transforms."""
    return vis.FeatureVisualization(model, loss, **{"parameterization": Pixels(), "transforms": [], **options})


def total(fv):
    """Returns the sum of all terms and images at each step."""
    return sum(values.sum(axis=1) for values in fv.history.values())


PHOTO = np.random.default_rng(5).uniform(0.2, 0.8, (8, 8, 3)).astype("float32")
LOSSES = {
    "channel": lambda: ActivationMaximization("conv", 2),
    "class": lambda: ActivationMaximization("preds", 1),
    "neuron": lambda: Neuron("conv", 1),
    "direction": lambda: Direction("conv", [1, -1, 0.5, 0], 1),
    "dream": lambda: DeepDream("conv"),
    "diversity": lambda: ActivationMaximization("conv", 2) + Diversity("conv"),
    "interpolation": lambda: Interpolation("preds", 0, 2),
    "inversion": lambda: FeatureInversion("conv", PHOTO),
    "caricature": lambda: Caricature("conv", PHOTO),
}


@pytest.mark.parametrize("name", LOSSES)
def test_it_goes_up(name):
    fv = plain(small(), LOSSES[name]())
    images = fv(num_images=2, steps=20, seed=0)
    assert images.shape == (2, 8, 8, 3) and np.isfinite(images).all()
    assert total(fv)[-1] < total(fv)[0]


@pytest.mark.parametrize("name", ["class", *slow("neuron", "diversity", "inversion")])
def test_it_goes_up_through_the_standard_transforms(name):
    fv = vis.FeatureVisualization(small(), LOSSES[name]())
    images = fv(num_images=2, steps=20, seed=0)
    assert images.shape == (2, 8, 8, 3) and images.dtype == "float32"
    assert np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1
    losses = total(fv)
    assert losses[-3:].mean() < losses[:3].mean()


@pytest.mark.parametrize("make", [Fourier, MagnitudeConstrained, vis.parameterizations.LaplacianPyramid])
def test_it_goes_up_whatever_images_are_made_of(make):
    fv = vis.FeatureVisualization(small(), ActivationMaximization("preds", 1), make(), [Jitter(1), Noise(0.01)])
    images = fv(steps=20, seed=0)
    assert total(fv)[-3:].mean() < total(fv)[:3].mean() and images.std() > 0.01


@pytest.mark.parametrize("sign", [1, -1])
def test_the_optimum_of_a_linear_model(sign):
    model = linear()
    fv = plain(
        model, sign * ActivationMaximization("preds", 1), optimizer=keras.optimizers.Adam(1.0), input_range=(-2, 3)
    )
    image = fv(steps=60, seed=0)[0].ravel()
    weights = sign * model.get_weights()[0][:, 1]
    np.testing.assert_allclose(image, np.where(weights > 0, 3, -2), atol=0.05)


class Parabola(Loss):
    """The squared distance of the input from numbers inside the range."""

    name = "Parabola"
    target = np.linspace(0.2, 0.8, 16).reshape(1, 4, 4, 1).astype("float32")

    def __init__(self):
        self.name = "Parabola"

    def sources(self):
        return [None]

    def arguments(self, shapes):
        return [self.target]

    def value(self, tensors, arguments):
        return ops.sum(ops.square(tensors[0] - arguments[0]), axis=(1, 2, 3))


OPTIMIZERS = {
    "SGD with momentum": lambda: keras.optimizers.SGD(0.3, momentum=0.8, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "RMSprop": lambda: keras.optimizers.RMSprop(
        keras.optimizers.schedules.InverseTimeDecay(0.3, 10, 1.0), centered=True
    ),
    "a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.3, 20, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_find_the_bottom_of_a_parabola_and_stay_as_they_are(name):
    optimizer = OPTIMIZERS[name]()
    config = str(optimizer.get_config())
    fv = plain(linear(), Parabola(), optimizer=optimizer)
    image = fv(steps=150, seed=0)
    np.testing.assert_allclose(image, Parabola.target, atol=0.02)
    assert not optimizer.built and int(value_of(optimizer.iterations)) == 0
    assert str(optimizer.get_config()) == config
    np.testing.assert_array_equal(fv(steps=150, seed=0), image)  # begins anew, the schedule as well


def test_the_optimizer_decides():
    images = [plain(linear(), Parabola(), optimizer=keras.optimizers.SGD(rate))(steps=3, seed=0) for rate in (0.1, 0.2)]
    assert np.abs(images[0] - images[1]).max() > 1e-3


def slow_loop(model, x, steps, low, high, offsets):
    """Five lines of Adam in NumPy; the gradient of the network by the seam, that of the rest by hand."""
    conv = keras.Function(model.inputs, [model.get_layer("conv").output, model.output])
    unbounded = np.log((x - low) / (high - x)).astype("float64")
    first = second = np.zeros_like(unbounded)
    rows, importance = [], 0

    def score(image):
        maps, classes = conv([image])
        terms = ops.stack([-2 * classes[:, 1], 0.5 * ops.mean(ops.square(maps), axis=(1, 2, 3))])
        return ops.sum(terms, axis=0), terms

    for i in range(steps):
        sigmoid = 1 / (1 + np.exp(-unbounded))
        image = low + (high - low) * sigmoid
        moved = np.roll(image, offsets[i], (1, 2)).astype("float32")
        _, terms, gradient = backend.value_and_grad(score, ops.convert_to_tensor(moved))
        gradient = np.roll(value_of(gradient), [-n for n in offsets[i]], (1, 2)).astype("float64")
        down, right = np.diff(image, axis=1), np.diff(image, axis=2)
        variation = sum((step**2).sum(axis=(1, 2, 3)) for step in (down, right)) / image[0].size
        rows.append([*value_of(terms), 0.1 * variation])
        slope = np.zeros_like(image)
        slope[:, 1:] += 2 * down
        slope[:, :-1] -= 2 * down
        slope[:, :, 1:] += 2 * right
        slope[:, :, :-1] -= 2 * right
        gradient = gradient + 0.1 * slope / image[0].size
        importance = importance + np.abs(gradient).sum(axis=-1)
        gradient = gradient * (high - low) * sigmoid * (1 - sigmoid)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = 0.05 * np.sqrt(1 - 0.999 ** (i + 1)) / (1 - 0.9 ** (i + 1))
        unbounded = unbounded - rate * first / (np.sqrt(second) + 1e-7)
    return low + (high - low) / (1 + np.exp(-unbounded)), np.array(rows), importance


@pytest.mark.parametrize("jitter", [0, 2])
def test_it_is_a_slow_loop(jitter, rng):
    model = small()
    loss = 2 * ActivationMaximization("preds", 1) - 0.5 * DeepDream("conv")
    fv = plain(
        model, loss, transforms=[Jitter(jitter)], regularizers=[(TotalVariation(None), 0.1)], input_range=(-1, 2)
    )
    start = rng.uniform(-0.5, 1.5, (2, 8, 8, 3))
    images = fv(num_images=2, steps=5, seed=3, seed_input=start)
    draw = np.random.default_rng(3)
    offsets = [[int(draw.integers(-jitter, jitter + 1)) for _ in range(2)] for _ in range(5)]
    expected, rows, importance = slow_loop(model, start, 5, -1, 2, offsets)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    assert list(fv.history) == ["ActivationMax Loss", "DeepDream(conv)", "TV Loss"]
    for values, row in zip(fv.history.values(), rows.transpose(1, 0, 2)):
        assert values.shape == (5, 2) and values.dtype == "float32"
        np.testing.assert_allclose(values, row, rtol=1e-3, atol=1e-5)
    assert fv.importance.shape == (2, 8, 8) and fv.importance.dtype == "float32"
    np.testing.assert_allclose(fv.importance, importance, rtol=1e-3, atol=1e-4)


def test_the_gradient_goes_through_the_transforms():
    # The piece that the crop leaves out gets none, so it stays.
    model = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalAveragePooling2D(name="mean")])

    class Left(Transform):
        def apply(self, images, numbers):
            return images[:, :, :2]

        def spatial(self, sizes):
            return [sizes[0], 2]

    fv = plain(model, ActivationMaximization("mean", 0), transforms=[Left()])
    image = fv(steps=5, seed_input=np.full((4, 4, 1), 0.5))[0, ..., 0]
    assert (image[:, :2] > 0.51).all() and (image[:, 2:] == 0.5).all()
    assert (fv.importance[0, :, 2:] == 0).all() and (fv.importance[0, :, :2] > 0).all()


@pytest.fixture(scope="module")
def shared():
    """One visualisation with random transforms, compiled once."""
    return plain(small(), ActivationMaximization("preds", 1), transforms=[Jitter(2), Noise(0.05)])


def test_the_same_seed_the_same_picture(shared):
    first = shared(num_images=2, steps=4, seed=1)
    history = shared.history
    others = [shared(num_images=2, steps=4, seed=seed) for seed in (2, None, None)]
    np.testing.assert_array_equal(shared(num_images=2, steps=4, seed=1), first)
    np.testing.assert_array_equal(shared.history["ActivationMax Loss"], history["ActivationMax Loss"])
    for i, one in enumerate(others):
        assert all((one != other).any() for other in [first, *others[i + 1 :]])
    again = plain(small(), ActivationMaximization("preds", 1), transforms=[Jitter(2), Noise(0.05)])
    np.testing.assert_array_equal(again(num_images=2, steps=4, seed=1), first)


@pytest.mark.parametrize("make", [*slow(Fourier, LaplacianPyramid, MagnitudeConstrained), Pixels])
def test_the_first_call_is_the_second_bit_for_bit(make):
    for loss in (ActivationMaximization("preds", 1), FeatureInversion("conv", PHOTO)):
        fv = vis.FeatureVisualization(small(), loss, make())
        first, second = (fv(num_images=2, steps=3, seed=1) for _ in range(2))
        np.testing.assert_array_equal(first, second)


@needs_seeds_that_restart
def test_the_global_seeds_neither_matter_nor_change(shared):
    first = shared(num_images=2, steps=4, seed=1)
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(shared(num_images=2, steps=4, seed=1), first)
    drawn = [np.random.rand(), value_of(keras.random.uniform((2,))).tolist()]
    keras.utils.set_random_seed(99)
    assert [np.random.rand(), value_of(keras.random.uniform((2,))).tolist()] == drawn


def test_more_steps_begin_as_fewer_do(shared):
    # 1, 50 and 1 steps in three compiled calls, whatever the callbacks, are the same 52 steps.
    short, names = shared(steps=52, seed=1), shared.history
    longer = shared(steps=60, seed=1)
    np.testing.assert_allclose(
        shared.history["ActivationMax Loss"][:52], names["ActivationMax Loss"], rtol=1e-4, atol=1e-5
    )
    assert (short != longer).any()


class Recorder(OptimizerCallback):
    def __init__(self, every=1, fail_at=None):
        self.every, self.fail_at, self.calls, self.ended = every, fail_at, [], 0

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        self.calls.append((i, named_losses, float(overall_loss), grads, np.array(wrt_value)))
        if i == self.fail_at:
            raise KeyError("stop")

    def on_end(self):
        self.ended += 1


class Vandal(Recorder):
    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        wrt_value[:] = 7
        named_losses.clear()


def test_callbacks_watch_and_change_nothing(shared):
    image = shared(steps=10, seed=1)
    values = shared.history["ActivationMax Loss"][:, 0]
    watchers = [Recorder(), Recorder(3), Recorder(4), Recorder(10), Recorder(11)]
    np.testing.assert_allclose(shared(steps=10, seed=1, callbacks=[*watchers, Vandal()]), image, atol=1e-6)
    np.testing.assert_allclose(shared.history["ActivationMax Loss"][:, 0], values, rtol=1e-5)
    assert [[call[0] for call in w.calls] for w in watchers] == [list(range(10)), [2, 5, 8], [3, 7], [9], []]
    assert [w.ended for w in watchers] == [1] * 5
    for i, named, overall, grads, images in watchers[0].calls:
        ((name, value),) = named
        assert name == "ActivationMax Loss" and grads is None
        assert value == pytest.approx(values[i], rel=1e-5) and overall == pytest.approx(values[i], rel=1e-5)
        assert images.shape == (1, 8, 8, 3) and images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(watchers[1].calls[0][4], watchers[0].calls[2][4], atol=1e-6)
    np.testing.assert_allclose(watchers[3].calls[0][4], image, atol=1e-6)  # the images after the step
    assert np.abs(watchers[0].calls[0][4] - image).max() > 1e-3


def test_callbacks_end_after_exceptions(shared):
    first, second = Recorder(fail_at=3), Recorder(2)
    with pytest.raises(KeyError, match="stop"):
        shared(steps=10, seed=1, callbacks=[first, second])
    assert (first.ended, second.ended, len(first.calls)) == (1, 1, 4)
    for bad in ({"seed_input": np.zeros((5, 5, 3))}, {"seed": -1}, {"seed_input": np.full((8, 8, 3), 2.0)}):
        watcher = Recorder()
        with pytest.raises(ValueError):
            shared(steps=2, callbacks=[watcher], **bad)
        assert (watcher.ended, watcher.calls) == (1, [])
    watcher = Recorder()
    with pytest.raises(ValueError, match="`steps`"):
        shared(steps=-1, callbacks=[watcher])
    assert watcher.ended == 1  # as of `Optimizer.minimize`


def test_printed_progress_and_a_gif(shared, capsys, tmp_path):
    gif = GifGenerator(tmp_path / "film", (0, 1), every=2, deprocess=False)
    shared(steps=4, seed=1, callbacks=[Print(every=2), gif], verbose=1)
    printed = capsys.readouterr().out
    assert printed.count("ActivationMax Loss") == 2 and "Iteration: 4" in printed and "4/4" in printed
    assert gif.path.stat().st_size > 100


def test_no_steps_return_the_start(shared):
    given = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    watcher = Recorder()
    shared(steps=2, seed=1)
    np.testing.assert_array_equal(shared(num_images=2, steps=0, seed_input=given, callbacks=[watcher]), given)
    assert (watcher.ended, watcher.calls) == (1, [])
    # The history is that of the last call: no steps.
    assert shared.history["ActivationMax Loss"].shape == (0, 2)
    assert shared.importance.shape == (2, 8, 8) and not shared.importance.any()


def test_no_steps_return_what_would_be_drawn(shared):
    drawn = shared(steps=0, seed=4)
    np.testing.assert_array_equal(shared(steps=0, seed=4), drawn)
    assert drawn.shape == (1, 8, 8, 3) and np.abs(drawn - 0.5).max() < 0.03 and drawn.std() > 0
    assert shared.history["ActivationMax Loss"].shape == (0, 1)
    assert (shared(steps=0, seed=5) != drawn).any()
    moved = shared(steps=1, seed=4)
    assert 0 < np.abs(moved - drawn).max() < 0.02  # one step of Adam(0.05) on a sigmoid: 0.0125


def test_the_seed_input_is_where_it_starts(shared):
    given = np.random.default_rng(0).uniform(0.1, 0.9, (8, 8, 3)).astype("float32")
    before = given.copy()
    one = shared(steps=1, seed_input=given)
    assert np.abs(one - given).max() < 0.02
    np.testing.assert_array_equal(given, before)
    three = shared(num_images=3, steps=1, seed_input=given, seed=1)
    assert three.shape == (3, 8, 8, 3)
    whole = shared(steps=1, seed_input=np.stack([given, given[::-1]]))  # as many as given
    assert whole.shape == (2, 8, 8, 3) and np.abs(whole[1] - given[::-1]).max() < 0.02


@pytest.mark.parametrize("input_range", [(0, 255), (-2.1179, 2.64), (-123.68, 151.061), (0.1, 0.3)])
def test_a_result_can_be_gone_on_with(input_range):
    rate = keras.optimizers.SGD(1e6)
    fv = plain(linear(), ActivationMaximization("preds", 1), optimizer=rate, input_range=input_range)
    images = fv(steps=2, seed=0)
    assert images.min() >= np.float32(input_range[0]) and images.max() <= np.float32(input_range[1])
    assert images.max() - images.min() > 0.9 * (input_range[1] - input_range[0])
    fv(steps=1, seed_input=images)


def test_many_is_one_after_the_other():
    model, start = small(), np.random.default_rng(0).uniform(0.2, 0.8, (8, 8, 3))
    loss = ActivationMaximization("preds", 0) + 0.1 * DeepDream("conv")
    fv = plain(model, loss, regularizers=[(LPNorm(None), 0.5)])
    together = fv.many([2, 0, -2], steps=5, seed_input=start)
    history = fv.history
    assert together.shape == (3, 8, 8, 3) and history["ActivationMax Loss"].shape == (5, 3)
    for i, index in enumerate([2, 0, 1]):
        one = plain(
            model, ActivationMaximization("preds", index) + 0.1 * DeepDream("conv"), regularizers=[(LPNorm(None), 0.5)]
        )
        np.testing.assert_allclose(one(steps=5, seed_input=start)[0], together[i], atol=1e-4)
        for name, values in one.history.items():
            np.testing.assert_allclose(values[:, 0], history[name][:, i], rtol=1e-3, atol=1e-5)
    assert loss.terms[0][0].filter_indices == [0]
    np.testing.assert_array_equal(fv.many(range(3), steps=2, seed=1), fv.many(np.arange(3), steps=2, seed=1))


def test_losses_of_one_name_have_records_of_their_own():
    loss = ActivationMaximization("conv", 0) - ActivationMaximization("conv", 1) + ActivationMaximization("preds", 1)
    fv = plain(small(), loss)
    fv(steps=2, seed=0)
    assert list(fv.history) == ["ActivationMax Loss", "ActivationMax Loss 2", "ActivationMax Loss 3"]
    assert fv.history["ActivationMax Loss"][0, 0] != fv.history["ActivationMax Loss 2"][0, 0]


class Root(Loss):
    """Becomes NaN when the mean of the channel passes a border."""

    def __init__(self, border):
        self.name, self._border = "Root", border

    def sources(self):
        return ["preds"]

    def value(self, tensors, arguments):
        return ops.sqrt(self._border - tensors[0][:, 1])


def test_a_loss_that_becomes_nan_is_named():
    model, watcher = linear(), Recorder()
    at_start = float(value_of(model(np.full((1, 4, 4, 1), 0.5)))[0, 1])
    fv = plain(model, Root(at_start + 0.05) + DeepDream("preds"))
    before = snapshot(model)
    with pytest.raises(FloatingPointError, match=r"became nan at iteration \d+, in: Root\. Lower its weight"):
        fv(steps=60, seed_input=np.full((4, 4, 1), 0.5), callbacks=[watcher])
    assert watcher.ended == 1 and all(np.isfinite(call[4]).all() for call in watcher.calls[:-1])
    same_snapshots(before, snapshot(model))


def dead():
    """A ReLU whose third channel no image reaches: its plain gradient is zero. The first is alive in places."""
    model = weighted(keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(3, 3, activation="relu", name="conv")]))
    kernel, bias = model.layers[0].get_weights()
    bias[0], bias[2] = 0.0, -100.0
    kernel[..., 0] -= kernel[..., 0].mean()
    model.layers[0].set_weights([kernel, bias])
    return model


def pixels_move(fv, **options):
    start = np.full((6, 6, 1), 0.5, "float32")
    return np.abs(fv(steps=5, seed_input=start, **options) - start).max(axis=(1, 2, 3))


@pytest.mark.parametrize("loss", [lambda: ActivationMaximization("conv", 2), lambda: Neuron("conv", 2)])
def test_a_dead_unit_is_woken(loss):
    model = dead()
    _, _, gradient = backend.value_and_grad(lambda x: (model(x)[:, 0, 0, 2], ()), ops.ones((1, 6, 6, 1)))
    assert not value_of(gradient).any()
    before = snapshot(model)
    fv = plain(model, loss())
    assert pixels_move(fv)[0] > 0.02
    # It moves the way that raises the unit before its ReLU.
    kernel = model.layers[0].get_weights()[0][:, :, 0, 2]
    image = fv(steps=30, seed_input=np.full((6, 6, 1), 0.5))[0, ..., 0]
    inside = sum((kernel * image[i : i + 3, j : j + 3]).sum() for i in range(4) for j in range(4))
    assert inside > 16 * 0.5 * kernel.sum() + 0.1
    same_snapshots(before, snapshot(model))


def test_a_dead_unit_is_woken_beside_a_living_one():
    fv = plain(dead(), ActivationMaximization("conv", 0))
    start = np.full((6, 6, 1), 0.5, "float32")
    images = fv.many([0, 2], steps=5, seed_input=start)
    assert (np.abs(images - start).max(axis=(1, 2, 3)) > 0.02).all()


def test_a_dead_unit_is_woken_beside_a_regularizer():
    # The regularizer has a gradient, the loss none: what counts is the loss.
    model, start = dead(), np.random.default_rng(0).uniform(0.3, 0.7, (6, 6, 1))
    with_one, without = (
        plain(model, ActivationMaximization("conv", 2), regularizers=r)(steps=8, seed_input=start)
        for r in ([(TotalVariation(None), 1e-6)], None)
    )
    np.testing.assert_allclose(with_one, without, atol=0.02)


def test_a_living_unit_is_not_touched_by_the_rescue():
    model = dead()
    start = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6, 1)).astype("float32")
    fv = plain(model, ActivationMaximization("conv", 0), optimizer=keras.optimizers.SGD(1.0))
    image = fv(steps=1, seed_input=start)
    _, _, gradient = backend.value_and_grad(
        lambda x: (-ops.mean(model(x)[..., 0], axis=(1, 2)), ()), ops.convert_to_tensor(start)
    )
    assert value_of(gradient).any() and (value_of(model(start))[..., 0] == 0).any()
    slope = value_of(gradient) * start * (1 - start)
    expected = 1 / (1 + np.exp(-(np.log(start / (1 - start)) - slope)))
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_what_cannot_be_woken_warns_and_stays():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Rescaling(0.0, name="nothing")])
    with pytest.warns(VisualizationWarning, match="redirected"):
        image = plain(model, ActivationMaximization("nothing", 0))(steps=2, seed_input=np.full((4, 4, 1), 0.5))
    np.testing.assert_allclose(image, 0.5)


KINDS = [
    "nested",
    "nested in Sequential",
    "lazy Sequential",
    "subclassed",
    "signal",
    "volume",
    "mixed precision",
    "shared layer",
    "preprocessing",
]


PROBABLE = (
    "nested",
    "nested in Sequential",
    "lazy Sequential",
    "subclassed",
    "signal",
    "mixed precision",
    "preprocessing",
)


@pytest.mark.parametrize("name", KINDS)
def test_models_of_every_kind(name):
    model, x = zoo.make(name)
    unknown = name in ("subclassed", "lazy Sequential")
    size = {"seed_input": np.full(x.shape[1:], 0.5)} if unknown and not getattr(model, "inputs", None) else {}
    shape = x.shape[1:]
    transforms = [Jitter(1)] if len(shape) > 2 else None
    probable = name in PROBABLE
    options = {"transforms": transforms, "input_range": (0, 255) if name == "preprocessing" else (0, 1)}
    with pytest.warns(VisualizationWarning, match="ends in a softmax") if probable else contextlib.nullcontext():
        fv = vis.FeatureVisualization(model, ActivationMaximization(-1, 1), **options)
    before = snapshot(model)
    images = fv(num_images=2, steps=12, seed=0, **size)
    same_snapshots(before, snapshot(model))
    assert images.shape == (2, *shape) and images.dtype == "float32" and np.isfinite(images).all()
    if name != "preprocessing":  # its noise is off, its images are of another range
        assert total(fv)[-3:].mean() <= total(fv)[:3].mean()
    assert fv.importance.shape == (2, *shape[:-1])


def test_an_inner_layer_of_a_nested_model():
    model, _ = zoo.make("nested")
    fv = plain(model, ActivationMaximization("backbone/conv2", 1) + ActivationMaximization("conv1", 0))
    fv(steps=10, seed=0)
    assert total(fv)[-1] < total(fv)[0]


class OwnFlat(keras.Model):
    """A subclassed model that takes one size of image only."""

    def __init__(self):
        super().__init__()
        self.flat, self.head = layers.Flatten(), layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.flat(x))


def test_a_subclassed_model_of_one_size():
    # Nobody knows that it takes one size alone: images have their own size again after the transforms.
    model = OwnFlat()
    model(np.zeros((1, 40, 24, 1), "float32"))
    fv = vis.FeatureVisualization(weighted(model), ActivationMaximization("head", 1))
    assert fv(steps=2, seed=0, seed_input=np.full((40, 24, 1), 0.5)).shape == (1, 40, 24, 1)


def test_a_subclassed_model_of_vectors():
    model = OwnFlat()
    model(np.zeros((1, 6), "float32"))
    fv = vis.FeatureVisualization(weighted(model), ActivationMaximization("head", 1))
    fv(steps=4, seed=0, seed_input=np.full((1, 6), 0.5))
    assert total(fv)[-1] < total(fv)[0]


def test_vectors():
    model = weighted(keras.Sequential([keras.Input((6,)), layers.Dense(4, "elu"), layers.Dense(2, name="preds")]))
    fv = vis.FeatureVisualization(model, ActivationMaximization("preds", 1), input_range=(-1, 1))
    images = fv(num_images=3, steps=20, seed=0)
    assert images.shape == (3, 6) and fv.importance.shape == (3,)
    assert total(fv)[-1] < total(fv)[0] and np.abs(images).max() <= 1


def in_both_layouts():
    """One network on channels_last and on channels_first images; TensorFlow has no such convolution on CPUs."""
    last = keras.Input((6, 5, 3))
    x = layers.Conv2D(2, 3, activation="elu", name="conv")(last)
    last = weighted(keras.Model(last, layers.Dense(2, name="preds")(layers.Flatten()(x))))
    first = keras.Input((3, 6, 5))
    x = layers.Cropping2D(0, data_format="channels_first", name="format")(first)
    x = layers.Conv2D(2, 3, activation="elu", name="conv", data_format="channels_last")(layers.Permute((2, 3, 1))(x))
    return last, weighted(keras.Model(first, layers.Dense(2, name="preds")(layers.Flatten()(x))))


@pytest.mark.parametrize("seeded", [False, True])
def test_channels_first_is_channels_last_transposed(seeded):
    images, importance = [], []
    start = np.random.default_rng(0).uniform(0.2, 0.8, (2, 6, 5, 3))
    for model, axis in zip(in_both_layouts(), (3, 1)):
        fv = vis.FeatureVisualization(model, ActivationMaximization("preds", 1) + DeepDream("conv"))
        watcher = Recorder(5)
        given = {"seed_input": np.moveaxis(start, -1, axis)} if seeded else {}
        got = fv(num_images=2, steps=5, seed=0, callbacks=[watcher], **given)
        assert got.shape == watcher.calls[0][4].shape == ((2, 6, 5, 3) if axis == 3 else (2, 3, 6, 5))
        images.append(np.moveaxis(got, axis, -1))
        importance.append(fv.importance)
    np.testing.assert_allclose(images[0], images[1], atol=1e-4)
    np.testing.assert_allclose(importance[0], importance[1], rtol=1e-3)
    if seeded:  # channels last is understood, too
        got = fv(num_images=2, steps=5, seed=0, seed_input=start)
        np.testing.assert_allclose(np.moveaxis(got, 1, -1), images[1], atol=1e-6)


def test_a_channels_first_convolution():
    if keras.config.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolutions on CPUs")
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(4, 3, activation="elu", data_format="channels_first", name="conv")(inputs)
    model = weighted(keras.Model(inputs, x))
    fv, twin = (
        vis.FeatureVisualization(m, Neuron("conv", 1, (0, 4)), transforms=[Jitter(1)]) for m in (model, small())
    )
    np.testing.assert_allclose(np.moveaxis(fv(steps=4, seed=0), 1, -1), twin(steps=4, seed=0), atol=1e-4)


def test_a_model_without_fixed_size():
    inputs = keras.Input((None, None, 3))
    model = weighted(keras.Model(inputs, layers.Conv2D(2, 3, activation="elu", name="conv")(inputs)))
    fv = vis.FeatureVisualization(model, ActivationMaximization("conv", 1))
    with pytest.raises(ValueError, match="`seed_input` is needed where the model's input has no fixed size"):
        fv(steps=1)
    for size in ((40, 24), (9, 8)):
        images = fv(steps=3, seed=0, seed_input=np.full((1, *size, 3), 0.5))
        assert images.shape == (1, *size, 3)


def test_the_centre_of_a_subclassed_model_is_that_of_the_image():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(1, 1, name="conv")

        def call(self, x):
            return self.conv(x)

    model = Own()
    model(np.zeros((1, 5, 5, 1), "float32"))
    model.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    fv = plain(model, Neuron("conv", 0))
    for size in (5, 9):
        image = fv(steps=2, seed_input=np.full((size, size, 1), 0.5))[0, ..., 0]
        assert list(zip(*np.nonzero(image > 0.501))) == [(size // 2, size // 2)]


def test_a_loss_of_keras_vis():
    class Squares(Loss):
        def __init__(self, model):
            self.name, self.model = "squares", model

        def build_loss(self):
            return -ops.sum(ops.square(self.model.outputs[0]))

    model = linear()
    fv = plain(model, Squares(model) + ActivationMaximization("preds", 0))
    images = fv(num_images=2, steps=8, seed=0)
    assert images.shape == (2, 4, 4, 1) and total(fv)[-1] < total(fv)[0]
    assert fv.history["squares"].shape == (8, 2)


class Darken(Transform):
    """As in the docstring of `Transform`: its numbers are Python's own."""

    def draw(self, generator, shape):
        return [generator.uniform(0.5, 1), int(generator.integers(2))]

    def apply(self, images, numbers):
        return images * numbers[0]


def test_a_transform_of_ones_own():
    fv = plain(linear(), ActivationMaximization("preds", 1), transforms=[Darken(), Pad(1), Darken()])
    fv(steps=6, seed=0)
    values = fv.history["ActivationMax Loss"]
    assert np.isfinite(values).all() and len(set(values.ravel().tolist())) == 6


@pytest.mark.parametrize("fails", [False, True])
def test_no_harm(fails, rng):
    model, start = zoo.make("residual")[0], rng.random((8, 8, 3)).astype("float32")
    kept, indices, pairs = start.copy(), [0, 2], [(TotalVariation(None), 1)]
    optimizer, transforms, callbacks = keras.optimizers.Adam(0.1), [Jitter(1)], [Recorder(fail_at=2 if fails else None)]
    before = snapshot(model)
    loss = ActivationMaximization("joined", 1) + DeepDream("inner")
    fv = plain(model, loss, transforms=transforms, regularizers=pairs, optimizer=optimizer)
    for call in (
        lambda: fv(num_images=2, steps=3, seed=0, seed_input=start, callbacks=callbacks),
        lambda: fv.many(indices, steps=3, seed=0, callbacks=callbacks),
    ):
        if fails:
            with pytest.raises(KeyError):
                call()
        else:
            call()
        same_snapshots(dict(before), snapshot(model))
    np.testing.assert_array_equal(start, kept)
    assert indices == [0, 2] and len(transforms) == len(callbacks) == len(pairs) == 1 and not optimizer.built
    assert str(loss) == "ActivationMax Loss + DeepDream(inner)"


def traces(fv):
    """How often the loop was compiled."""
    (loop,) = fv._energy.memory._shelves["loops"].values()
    graph = loop._compiled[None].graph
    return (
        graph.experimental_get_tracing_count()
        if hasattr(graph, "experimental_get_tracing_count")
        else graph._cache_size()
    )


@pytest.mark.skipif(keras.config.backend() == "torch", reason="PyTorch runs eagerly")
def test_the_loop_is_compiled_once():
    fv = plain(small(), ActivationMaximization("preds", 1), transforms=[Jitter(2), Noise(0.1)])
    fv(steps=3, seed=0)
    assert traces(fv) == 1
    for options in (
        {"steps": 60},
        {"steps": 4, "callbacks": [Recorder(3)]},
        {"steps": 2, "seed_input": PHOTO},
        {"steps": 1, "seed": 3},
    ):
        fv(**options)
        assert traces(fv) == 1
    each = plain(small(), ActivationMaximization("preds", 1))
    each.many([0, 1], steps=3)
    each.many([2, 0], steps=3)
    assert traces(each) == 1


def test_changed_weights_and_activations_are_seen():
    model, start = small("relu"), np.full((8, 8, 3), 0.5)
    fv = plain(model, ActivationMaximization("preds", 1))

    def first_value():
        fv(steps=2, seed_input=start)
        return float(fv.history["ActivationMax Loss"][0, 0])

    def wanted():
        return -float(value_of(model(start[None].astype("float32")))[0, 1])

    assert first_value() == pytest.approx(wanted(), rel=1e-4)
    model.set_weights([0.5 * w + 0.01 for w in model.get_weights()])
    assert first_value() == pytest.approx(wanted(), rel=1e-4)
    model.get_layer("conv").activation = keras.activations.tanh
    assert first_value() == pytest.approx(wanted(), rel=1e-4)


class Counting(layers.Layer):
    """Counts the calls on real tensors."""

    calls = 0

    def call(self, x):
        Counting.calls += not keras.backend.is_keras_tensor(x)
        return x


def test_the_network_is_evaluated_as_far_as_needed():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, name="conv")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="late")(Counting()(x)))
    counts = {}
    for name in ("conv", "late"):
        Counting.calls = 0
        plain(model, ActivationMaximization(name, 1))(steps=12, seed=0)
        counts[name] = Counting.calls
    assert counts["conv"] <= 1 and counts["late"] >= (12 if keras.config.backend() == "torch" else 1)


def test_transforms_regularizers_and_range_decide(rng):
    start = rng.uniform(0.2, 0.8, (8, 8, 3))
    base = {"transforms": [], "regularizers": None, "input_range": (0, 1), "parameterization": Pixels()}
    results = []
    for change in (
        {},
        {"transforms": [Jitter(3)]},
        {"regularizers": TotalVariation(None)},
        {"regularizers": [(TotalVariation(None), 2)]},
        {"input_range": (0, 2)},
        {"parameterization": Fourier()},
    ):
        fv = vis.FeatureVisualization(small(), ActivationMaximization("preds", 1), **{**base, **change})
        results.append(fv(steps=4, seed=0, seed_input=start))
    for i, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-4 for other in results[i + 1 :])


def refused(kind, words, **options):
    arguments = {"model": small(), "loss": ActivationMaximization("conv", 0), **options}
    with pytest.raises(kind, match=words):
        vis.FeatureVisualization(**arguments)


def test_probabilities_are_warned_of():
    model = small()
    model.get_layer("preds").activation = keras.activations.softmax
    for loss in (
        ActivationMaximization("preds", 1),
        2 * Neuron(-1, 0) - DeepDream("conv"),
        Interpolation("preds", 0, 1),
    ):
        with pytest.warns(VisualizationWarning, match="'preds' ends in a softmax.*swap_softmax") as found:
            plain(model, loss)
        assert len(found) == 1
    plain(model, ActivationMaximization("conv", 1))  # no warning


def test_wrong_arguments():
    refused(TypeError, "`model` must be a Keras 3 model. Received: 'vgg'", model="vgg")
    refused(TypeError, "`loss` must be a loss.*Received: 'conv'", loss="conv")
    refused(TypeError, "`loss` must be a loss", loss=[(DeepDream("conv"), 1)])
    refused(TypeError, "`parameterization` must be one of", parameterization="fourier")
    refused(TypeError, "`parameterization` must be one of", parameterization=Fourier)
    refused(TypeError, "`transforms` must hold transforms", transforms=["jitter"])
    refused(TypeError, "only `pre` and `post` is for `Optimizer.minimize`", transforms=[InputModifier()])
    refused(TypeError, "Keras optimizer.*'adam'", optimizer="adam")
    refused(TypeError, "pairs", regularizers=[TotalVariation(None)])
    refused(TypeError, "weight of 'TV Loss' must be a number", regularizers=[(TotalVariation(None), "1")])
    for wrong in ((1, 0), (0, 0), (0, float("inf")), 1, (0, 1, 2)):
        refused(ValueError, "`input_range` must be a pair", input_range=wrong)
    refused(ValueError, "Did you mean.*'conv'", loss=DeepDream("cnv"))
    refused(ValueError, "belong to the model.*'conv'", loss=DeepDream(small().get_layer("conv")))
    two = ActivationMaximization(small().get_layer("conv"), 0) + DeepDream(small().get_layer("conv"))
    refused(ValueError, "belong to the model", loss=two)
    refused(ValueError, "one input.*2 inputs", model=zoo.two_inputs_list()[0], loss=DeepDream("conv"))
    refused(ValueError, "at least one loss with a weight", loss=0 * DeepDream("conv"))
    words = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(5, 2, name="conv")])
    refused(ValueError, "dtype int32, and whole numbers have no gradient", model=words)


@pytest.mark.parametrize(
    "loss, words",
    [
        (lambda: ActivationMaximization("conv", 4), "Received: 4, but layer 'conv'.*choose from 0 to 3"),
        (lambda: Neuron("conv", 4), "`channel` is out of range"),
        (lambda: Neuron("conv", 0, (0, 6)), "`position` is out of range. Received: 6.*axis 1"),
        (lambda: Neuron("conv", 0, (0,)), "one index for each of 2 spatial axes"),
        (lambda: Direction("conv", [1, 2, 3]), "`vector` must have 4 numbers.*Received: 3"),
        (lambda: Direction("conv", np.ones((3, 4))), "`vector`.*3"),
        (lambda: Interpolation("conv", 0, 9), "Received: 9"),
        (lambda: FeatureInversion("conv", np.zeros((8, 7, 3))), r"`image`.*\(8, 7, 3\)"),
        (lambda: FeatureInversion("conv", np.zeros((3, 8, 8, 3))), "`image`.*3"),
    ],
)
def test_wrong_losses(loss, words):
    model = small()
    before = snapshot(model)
    with pytest.raises(ValueError, match=words):
        plain(model, loss())(num_images=2, steps=2)
    same_snapshots(before, snapshot(model))


@pytest.mark.parametrize(
    "options, kind, words",
    [
        ({"steps": -1}, ValueError, "`steps` must be at least 0"),
        ({"steps": 2.0}, TypeError, "`steps` must be an integer"),
        ({"num_images": 0}, ValueError, "`num_images` must be at least 1"),
        ({"num_images": "two"}, TypeError, "`num_images` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"seed": 0.5}, TypeError, "`seed` must be an integer"),
        (
            {"seed_input": np.full((8, 8, 3), 1.5)},
            ValueError,
            "lie in `input_range`, 0 to 1. Received: values from 1.5 to 1.5",
        ),
        ({"seed_input": np.full((8, 8, 3), -0.1)}, ValueError, "`seed_input` must lie in `input_range`"),
        ({"seed_input": np.zeros((8, 7, 3))}, ValueError, r"`seed_input` does not fit.*\(8, 7, 3\)"),
        ({"seed_input": np.full((8, 8, 3), np.nan)}, ValueError, "`seed_input` must be finite"),
        ({"seed_input": "cat.jpg"}, ValueError, "`seed_input` must be numbers"),
        ({"seed_input": np.zeros((3, 8, 8, 3)), "num_images": 2}, ValueError, "must hold 1 or 2 images. Received: 3"),
        ({"seed_input": np.zeros((0, 8, 8, 3))}, ValueError, "`seed_input` must not be empty"),
        ({"callbacks": [print]}, TypeError, "`callbacks` must hold objects"),
        ({"callbacks": Recorder}, TypeError, "`callbacks` must hold objects"),
    ],
)
def test_wrong_calls(shared, options, kind, words):
    with pytest.raises(kind, match=words):
        shared(**{"steps": 2, **options})


def test_wrong_calls_of_many(shared):
    for indices, kind, words in [
        ([0, 3], ValueError, "Received: 3, but layer 'preds'"),
        ([], ValueError, "must not be empty"),
        ([0.5], TypeError, "0.5"),
        (None, (TypeError, ValueError), "`filter_indices`"),
    ]:
        with pytest.raises(kind, match=words):
            shared.many(indices, steps=2)
    with pytest.raises(TypeError, match=r"`many` needs an `ActivationMaximization`.*DeepDream\(conv\)"):
        plain(small(), DeepDream("conv")).many([0, 1])
    with pytest.raises(ValueError, match="must hold 1 or 2 images. Received: 3"):
        shared.many([0, 1], steps=2, seed_input=np.zeros((3, 8, 8, 3)))


def test_a_loss_that_the_input_does_not_reach():
    class Constant(Loss):
        def __init__(self):
            self.name = "constant"

        def sources(self):
            return [None]

        def value(self, tensors, arguments):
            return ops.zeros((tensors[0].shape[0],))

    class Side(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(2,))

        def call(self, x):
            return ops.broadcast_to(self.kernel, (ops.shape(x)[0], 2))

    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, Side(name="side")(inputs))
    for loss in (Constant(), ActivationMaximization("side", 0)):
        with pytest.raises(ValueError, match="does not depend on the input"):
            plain(model, loss)(steps=2)
    hidden = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    hidden.unused = layers.Dense(3, name="unused")
    with pytest.raises(ValueError, match="unused"):
        plain(hidden, ActivationMaximization("unused", 0))(steps=2)


def test_transforms_that_do_not_fit():
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(2, 5, name="conv")(inputs)
    free = keras.Model(inputs, x)
    start = np.full((8, 8, 1), 0.5)
    fv = plain(free, ActivationMaximization("conv", 0), transforms=[Crop(3)])
    assert fv(steps=2, seed_input=start).shape == (1, 8, 8, 1)  # the piece is enlarged again
    with pytest.raises(ValueError, match=r"could not be called on the input. Received: input \(1, 4, 4, 1\)"):
        fv(steps=2, seed_input=start[:4, :4])
    with pytest.raises(ValueError, match="Crop must leave a piece of the image. Received: size=9"):
        plain(free, ActivationMaximization("conv", 0), transforms=[Crop(9)])(steps=2, seed_input=start)
    signal = weighted(keras.Sequential([keras.Input((9, 2)), layers.Conv1D(2, 3, name="conv")]))
    with pytest.raises(ValueError, match="Rotate needs two spatial axes"):
        plain(signal, ActivationMaximization("conv", 0), transforms=[Rotate()])(steps=2)
    fixed = plain(small(), ActivationMaximization("conv", 0), transforms=[Crop(3)])
    assert fixed(steps=2, seed=0).shape == (1, 8, 8, 3)  # put back to the size that the network takes


def test_a_spectrum_of_the_wrong_shape():
    fv = vis.FeatureVisualization(small(), DeepDream("conv"), MagnitudeConstrained(np.ones((3, 8, 4))))
    with pytest.raises(ValueError, match=r"`spectrum` must have the shape \(3, 8, 5\).*Received: \(3, 8, 4\)"):
        fv(steps=2)
    vector = vis.FeatureVisualization(
        keras.Sequential([keras.Input((4,)), layers.Dense(2)]), ActivationMaximization(-1, 0), Fourier()
    )
    with pytest.raises(ValueError, match=r"at least one spatial axis.*Pixels\(\)"):
        vector(steps=2)


def test_a_value_of_the_wrong_shape():
    class Whole(Loss):
        def __init__(self):
            self.name = "whole"

        def sources(self):
            return ["preds"]

        def value(self, tensors, arguments):
            return ops.mean(tensors[0])

    with pytest.raises(ValueError, match=r"one number a sample, a tensor of shape \(2,\)"):
        plain(linear(), Whole())(num_images=2, steps=1)


def test_after_an_error_it_still_works(shared):
    image = shared(steps=3, seed=1)
    with pytest.raises(KeyError):
        shared(steps=5, seed=2, callbacks=[Recorder(fail_at=2)])
    with pytest.raises(ValueError):
        shared(steps=5, seed_input=np.full((8, 8, 3), 7.0))
    np.testing.assert_array_equal(shared(steps=3, seed=1), image)


def test_a_transform_that_breaks_its_word_is_named():
    class Half(vis.input_modifiers.Transform):
        def apply(self, images, numbers):
            return images[:, :4]

    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\), as their `spatial` says. Received: \(1, 4, 8, 3\)"):
        plain(small(), ActivationMaximization("conv", 0), transforms=[Half()])(steps=1)


def test_the_model_must_be_built():
    with pytest.raises(ValueError, match="must be built"):
        vis.FeatureVisualization(keras.Sequential([layers.Dense(2)]), ActivationMaximization(-1, 0))


def test_a_rescue_begins_again_with_the_same_random_numbers():
    class Spy(vis.input_modifiers.Transform):
        drawn = []

        def draw(self, generator, shape):
            self.drawn.append(float(generator.random()))
            return [np.float32(0)]

        def apply(self, images, numbers):
            return images + numbers[0]

    spy = Spy()
    plain(dead(), ActivationMaximization("conv", 2), transforms=[spy])(steps=2, seed=0)
    first, again = spy.drawn[-3:-1]  # the first step without a gradient, and once more with one
    assert first == again != spy.drawn[-1]


def test_redirected_gradients_by_hand():
    x = ops.convert_to_tensor([[-1.0, -1.0, 2.0, 8.0], [-1.0, -1.0, -2.0, 8.0], [-1.0, -1.0, -2.0, 8.0]])
    y = ops.convert_to_tensor([[0.0, 0.0, 2.0, 6.0], [0.0, 0.0, 0.0, 6.0], [0.0, 0.0, 0.0, 6.0]])  # a ReLU6
    upstream = ops.convert_to_tensor([[1.0, -1.0, 3.0, 1.0], [1.0, -1.0, -3.0, 1.0], [1.0, 2.0, 3.0, -1.0]])
    expected = [
        [0.0, 0.0, 3.0, 0.0],  # alive: the plain gradient
        [0.0, -1.0, -3.0, 1.0],  # dead: what a descent takes back into the open part
        [0.0, 0.0, 0.0, 0.0],  # nothing of it goes there
    ]
    assert value_of(REDIRECTED.function(x, y, upstream)).tolist() == expected


def test_the_strength_is_that_of_the_gradient():
    model = linear()
    fv = plain(model, 2 * ActivationMaximization("preds", 0))
    fv(steps=1, seed=0)
    (loop,) = fv._energy.memory._shelves["loops"].values()
    loop.restart()
    terms, strength = loop.advance(1, np.random.default_rng(0), fv._weights, fv._arguments(fv._losses, loop))
    kernel = model.layers[-1].get_weights()[0][:, 0]
    np.testing.assert_allclose(strength, [[2 * np.sqrt(np.mean(kernel**2))]], rtol=1e-5)
    np.testing.assert_allclose(terms[:, :, 0], fv.history["ActivationMax Loss"], rtol=1e-5)


# --- defaults that would be wrong without a word


def test_three_channels_of_a_signal_are_no_colours():
    shape = (2, 16, 3)
    for kind in (Pixels, Fourier):
        own, plain_one = kind(decorrelate=True), kind(decorrelate=False)
        parameters = plain_one.initial(shape, np.random.default_rng(0))
        decoded = [
            value_of(one.decode([ops.convert_to_tensor(p) for p in parameters], shape)) for one in (own, plain_one)
        ]
        np.testing.assert_array_equal(*decoded)
        picture = (2, 8, 8, 3)
        parameters = plain_one.initial(picture, np.random.default_rng(0))
        tensors = [ops.convert_to_tensor(p) for p in parameters]
        assert not np.allclose(value_of(own.decode(tensors, picture)), value_of(plain_one.decode(tensors, picture)))


@pytest.mark.parametrize("kind", [FeatureInversion, Caricature])
def test_target_images_of_another_range_are_said(kind, rng):
    image = rng.uniform(0, 255, (8, 8, 3))
    with pytest.warns(VisualizationWarning, match="`image` of .* 0 to 1.*Received.*input_range"):
        plain(small(), 2 * kind("conv", image))
    plain(small(), kind("conv", image), input_range=(0, 255))
    plain(small(), kind("conv", image / 255))


def rescaled(*first):
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for layer in first:
        x = layer(x)
    return weighted(keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(x)))


def test_a_model_that_rescales_bytes_is_not_shown_fractions():
    for first in (
        layers.Rescaling(1 / 255),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3409.0, 3262.0, 3291.0]),  # ConvNeXt
    ):
        with pytest.warns(VisualizationWarning, match=r"`input_range`.*0 to 255.*input_range=\(0, 255\)"):
            plain(rescaled(first), DeepDream("conv"))
        plain(rescaled(first), DeepDream("conv"), input_range=(0, 255))
    plain(rescaled(layers.Normalization(mean=[0.5, 0.4, 0.4], variance=[0.05, 0.05, 0.05])), DeepDream("conv"))
    plain(rescaled(layers.Rescaling(2.0)), DeepDream("conv"))
    plain(rescaled(), DeepDream("conv"))
    real = keras.applications.MobileNetV3Small((32, 32, 3), alpha=0.75, weights=None, classes=3)
    with pytest.warns(VisualizationWarning, match="`input_range`"):
        plain(real, DeepDream(-3))
