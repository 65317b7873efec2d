"""Parameterizations: they hold photographs, stay in range, invert exactly, and have the right gradients."""

import functools
import math

import keras
import numpy as np
import pytest
from conftest import ROOT, value_of
from keras import ops

import vis
from vis import backend
from vis.losses import ActivationMaximization
from vis.parameterizations import (
    Fourier,
    LaplacianPyramid,
    MagnitudeConstrained,
    Parameterization,
    Pixels,
    inverse_transform,
    spectrum_of,
    transform,
)
from vis.utils.images import resize
from vis.utils.utils import load_img

SIZES = [(24, 20), (24, 19), (21, 19)]
KINDS = {
    "Pixels": lambda images: Pixels(),
    "Pixels, decorrelated": lambda images: Pixels(decorrelate=True),
    "Fourier": lambda images: Fourier(),
    "Fourier, as it is": lambda images: Fourier(decorrelate=False),
    "Fourier, no decay": lambda images: Fourier(decay=0),
    "Fourier, steep": lambda images: Fourier(decay=2.0),
    "LaplacianPyramid": lambda images: LaplacianPyramid(),
    "LaplacianPyramid, one level": lambda images: LaplacianPyramid(1, decorrelate=False),
    "MagnitudeConstrained": lambda images: MagnitudeConstrained(spectrum_of(images)),
    "MagnitudeConstrained, as it is": lambda images: MagnitudeConstrained(
        spectrum_of(images, decorrelate=False), decorrelate=False
    ),
}


@functools.cache
def photograph(name="cat", size=(24, 20)):
    """A photograph, `(1, *size, 3)` in [0, 1], a grey level away from the ends as the fit needs."""
    whole = np.asarray(load_img(ROOT / f"examples/imagenet/data/photos/{name}.jpg"), "float32")[None] / 255
    image = resize(np.moveaxis(whole, -1, 0)[:, 0], size)
    return np.clip(np.moveaxis(image, 0, -1)[None], 1 / 255, 1 - 1 / 255)


def decoded(parameterization, parameters, shape, input_range=(0, 1)):
    return value_of(parameterization.decode([ops.convert_to_tensor(p) for p in parameters], shape, input_range))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_it_fits_a_photograph(name, size):
    image = photograph(size=size)
    kind = KINDS[name](image)
    parameters = kind.encode(image)
    assert all(p.dtype == "float32" for p in parameters)
    fitted = decoded(kind, parameters, image.shape)
    assert fitted.shape == image.shape and fitted.dtype == "float32"
    np.testing.assert_allclose(fitted, image, atol=2e-4)


@pytest.mark.parametrize("name", KINDS)
def test_it_fits_in_another_range(name):
    image = 255 * photograph("espresso") - 128
    kind = KINDS[name]((image + 128) / 255)
    np.testing.assert_allclose(
        decoded(kind, kind.encode(image, (-128, 127)), image.shape, (-128, 127)), image, atol=0.05
    )


@pytest.mark.parametrize("kind", [Pixels(), Fourier(), LaplacianPyramid()])
def test_a_batch_is_its_images(kind):
    images = np.concatenate([photograph("cat"), photograph("espresso"), photograph("rocket")])
    together = kind.encode(images)
    np.testing.assert_allclose(decoded(kind, together, images.shape), images, atol=2e-4)
    alone = np.concatenate([decoded(kind, kind.encode(image[None]), (1, *image.shape)) for image in images])
    np.testing.assert_allclose(alone, images, atol=2e-4)


@pytest.mark.parametrize("shape", [(2, 9, 1), (1, 1, 3), (1, 7, 1, 3), (1, 4, 3, 5, 3)])
@pytest.mark.parametrize(
    "make", [Pixels, Fourier, LaplacianPyramid, lambda: None], ids=["Pixels", "Fourier", "Pyramid", "Magnitude"]
)
def test_signals_volumes_and_thin_images(make, shape, rng):
    images = rng.uniform(0.1, 0.9, (1, *shape[1:])).astype("float32").repeat(shape[0], axis=0)
    kind = make() or MagnitudeConstrained(spectrum_of(images))
    np.testing.assert_allclose(decoded(kind, kind.encode(images), shape), images, atol=2e-4)
    drawn = decoded(kind, kind.initial(shape, rng), shape)
    assert drawn.shape == shape and np.isfinite(drawn).all()


def test_vectors_are_for_pixels_alone(rng):
    vectors = rng.uniform(0.1, 0.9, (2, 5)).astype("float32")
    np.testing.assert_allclose(decoded(Pixels(), Pixels().encode(vectors), (2, 5)), vectors, atol=1e-6)
    assert Pixels(decorrelate=True).initial((2, 3), rng)[0].shape == (2, 3)
    for kind in (Fourier(), LaplacianPyramid(), MagnitudeConstrained()):
        with pytest.raises(ValueError, match=r"at least one spatial axis.*\(2, 5\).*`Pixels\(\)`"):
            kind.initial((2, 5), rng)


def test_what_is_near_the_ends_is_moved_half_a_grey_level():
    images = np.array([0.0, 1 / 1024, 0.5, 1.0], "float32").reshape(1, 2, 2, 1)
    got = decoded(Pixels(), Pixels().encode(images), images.shape).ravel()
    np.testing.assert_allclose(got, [1 / 512, 1 / 512, 0.5, 1 - 1 / 512], atol=1e-6)


@pytest.mark.parametrize("sizes", [(8,), (7,), (6, 8), (5, 7), (6, 7), (5, 8), (1, 4), (4, 1), (4, 3, 5)])
def test_the_inverse_transform_is_that_of_numpy(sizes, rng):
    values = rng.normal(size=(2, *sizes, 3))
    spectrum = transform(values)
    axes = tuple(range(2, 2 + len(sizes)))
    np.testing.assert_allclose(spectrum, np.fft.rfftn(np.moveaxis(values, -1, 1), axes=axes), atol=1e-10)
    parts = [ops.convert_to_tensor(part.astype("float32")) for part in (spectrum.real, spectrum.imag)]
    back = value_of(inverse_transform(*parts, list(sizes)))
    np.testing.assert_allclose(back, np.moveaxis(values, -1, 1), atol=1e-5)
    # And of spectra that are of no real image, as the optimisation makes them.
    anything = rng.normal(size=spectrum.shape) + 1j * rng.normal(size=spectrum.shape)
    parts = [ops.convert_to_tensor(part.astype("float32")) for part in (anything.real, anything.imag)]
    expected = np.fft.irfftn(anything, s=sizes, axes=axes)
    np.testing.assert_allclose(value_of(inverse_transform(*parts, list(sizes))), expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [(7,), (6, 8), (5, 7), (4, 3, 5)])
def test_the_gradient_of_the_inverse_transform(sizes, rng):
    shape = (2, 3, *sizes[:-1], sizes[-1] // 2 + 1)
    weights = rng.normal(size=(2, 3, *sizes)).astype("float32")

    def score(parts):
        back = inverse_transform(*parts, list(sizes))
        return ops.sum(ops.reshape(ops.multiply(back, weights), (2, -1)), axis=-1), ()

    parts = [ops.convert_to_tensor(rng.normal(size=shape).astype("float32")) for _ in range(2)]
    _, _, gradients = backend.value_and_grad(score, parts)
    for _ in range(3):  # it is linear: the gradient times anything is what becomes of that
        real, imaginary = rng.normal(size=(2, *shape))
        axes = tuple(range(2, 2 + len(sizes)))
        expected = (np.fft.irfftn(real + 1j * imaginary, s=sizes, axes=axes) * weights).sum()
        got = sum((value_of(g) * part).sum() for g, part in zip(gradients, (real, imaginary)))
        assert got == pytest.approx(expected, abs=1e-4)


def test_the_transform_of_a_wave_by_hand():
    wave = np.cos(2 * np.pi * np.arange(8) / 8).reshape(1, 8, 1)
    np.testing.assert_allclose(transform(wave)[0, 0], [0, 4, 0, 0, 0], atol=1e-12)


def test_colours_come_back_exactly_and_are_correlated(rng):
    image = photograph()
    kind = Pixels(decorrelate=True)
    (parameters,) = kind.encode(image)
    plain = Pixels().encode(image)[0]
    assert np.abs(parameters - plain).max() > 0.1  # not the same numbers
    np.testing.assert_allclose(decoded(kind, [parameters], image.shape), image, atol=1e-5)
    # By hand, as published: the root of the covariance of ImageNet's colours, over its longest column.
    matrix = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix /= math.sqrt(0.26**2 + 0.27**2 + 0.27**2)
    by_hand = [[matrix[c] @ pixel for c in range(3)] for pixel in parameters.reshape(-1, 3)]
    np.testing.assert_allclose(np.reshape(by_hand, plain.shape), plain, atol=1e-4)
    # Independent noise gives colours that rise and fall together, as in the world's pictures.
    noise = rng.normal(size=(1, 40, 40, 3)).astype("float32")
    drawn = decoded(kind, [noise], noise.shape).reshape(-1, 3)
    assert np.corrcoef(drawn.T).min() > 0.6


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_only_three_channels_are_colours(channels, rng):
    shape = (1, 4, 5, channels)
    noise = [ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))]
    same = [value_of(Pixels(decorrelate=flag).decode(noise, shape)) for flag in (True, False)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("input_range", [(0, 1), (-1, 1), (0, 255), (-123.68, 151.061), (0.1, 0.3), (-2.1179, 2.64)])
@pytest.mark.parametrize("name", KINDS)
def test_it_stays_in_range(name, input_range, rng):
    low, high = (np.float32(end) for end in input_range)
    shape = (2, 24, 20, 3)
    kind = KINDS[name](photograph())
    for scale in (1, 1e3):
        parameters = [scale * p for p in kind.initial(shape, rng)]
        for sign in (1, -1):
            images = decoded(kind, [sign * p for p in parameters], shape, input_range)
            assert np.isfinite(images).all() and images.min() >= low and images.max() <= high


@pytest.mark.parametrize("input_range", [(0, 1), (-123.68, 151.061), (0.1, 0.3), (-2.1179, 2.64), (-0.7, 0.9)])
def test_the_ends_of_the_range_are_not_passed_by_rounding(input_range):
    numbers = np.concatenate([np.linspace(-40, 40, 4001), [-1e30, 1e30]]).astype("float32").reshape(1, -1, 1, 1)
    images = decoded(Pixels(), [numbers], numbers.shape, input_range)
    assert images.min() >= np.float32(input_range[0]) and images.max() <= np.float32(input_range[1])


@pytest.mark.parametrize("name", KINDS)
def test_the_start_is_grey_noise_and_follows_the_generator(name):
    kind, shape = KINDS[name](photograph()), (2, 24, 20, 3)
    first, again, other = (kind.initial(shape, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other):
        assert a.dtype == "float32"
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
    images = decoded(kind, first, shape)
    assert images.shape == shape and 0.3 < images.mean() < 0.8 and images.std() > 0
    assert np.abs(images[0] - images[1]).max() > 0  # the images of a batch differ


@pytest.mark.parametrize("kind", [Pixels, Fourier, LaplacianPyramid])
def test_std_is_the_spread_of_the_start(kind):
    shape = (2, 24, 20, 3)
    for std in (0.01, 0.5):
        drawn = kind(std=std).initial(shape, np.random.default_rng(0))
        assert drawn[0].std() == pytest.approx(std, rel=0.1)
    blank = decoded(kind(std=0), kind(std=0).initial(shape, np.random.default_rng(0)), shape)
    np.testing.assert_allclose(blank, 0.5, atol=1e-6)


def test_low_frequencies_weigh_more():
    shape, wave = (1, 16, 16, 1), np.zeros((2, 1, 1, 16, 9), "float32")
    spreads = []
    for frequency in (1, 2, 4):
        amplitudes = wave.copy()
        amplitudes[0, ..., 0, frequency] = 1
        spreads.append(value_of(Fourier().values([ops.convert_to_tensor(amplitudes)], shape)).std())
    np.testing.assert_allclose(np.array(spreads) / spreads[0], [1, 1 / 2, 1 / 4], rtol=1e-4)
    amplitudes = wave.copy()
    amplitudes[0, ..., 0, 0] = 1  # the mean moves as the lowest wave does: 16 * 16 / (4 * 16)
    mean = value_of(Fourier().values([ops.convert_to_tensor(amplitudes)], shape))
    np.testing.assert_allclose(mean, 16 * 16 / (4 * 256), rtol=1e-5)


def test_the_levels_of_a_pyramid():
    levels = LaplacianPyramid(5).initial((2, 24, 19, 3), np.random.default_rng(0))
    assert [p.shape for p in levels] == [
        (2, 24, 19, 3),
        (2, 12, 10, 3),
        (2, 6, 5, 3),
        (2, 3, 3, 3),
        (2, 2, 2, 3),
    ]
    constant = [np.full(p.shape, 0.25, "float32") for p in levels]
    total = value_of(LaplacianPyramid(5).values([ops.convert_to_tensor(p) for p in constant], (2, 24, 19, 3)))
    np.testing.assert_allclose(total, 5 * 0.25, rtol=1e-5)
    coarsest = LaplacianPyramid(3, decorrelate=False).fitting(np.arange(8.0).reshape(1, 8, 1))[-1]
    np.testing.assert_allclose(coarsest.ravel(), [1.5, 5.5])  # a slope, seen from afar


@pytest.mark.parametrize("size", [(24, 20), (21, 19)])
def test_magnitudes_stay_whatever_the_phases(size, rng):
    image = photograph(size=size)
    kind = MagnitudeConstrained(spectrum_of(image))
    shape = (2, *size, 3)
    phases = [rng.uniform(-7, 7, p.shape).astype("float32") for p in kind.initial(shape, rng)]
    values = value_of(kind.values([ops.convert_to_tensor(p) for p in phases], shape))
    magnitudes = np.abs(transform(values.astype("float64")))
    wanted = np.broadcast_to(spectrum_of(image), magnitudes.shape)
    # The frequencies that are their own mirror image have real amplitudes: phases show as a cosine.
    inner = np.ones(wanted.shape[2:], bool)
    inner[:, 0] = False
    if size[1] % 2 == 0:
        inner[:, -1] = False
    np.testing.assert_allclose(magnitudes[..., inner], wanted[..., inner], rtol=1e-3, atol=1e-3)
    assert (magnitudes <= wanted * 1.001 + 1e-3).all()


@pytest.mark.parametrize("shape", [(1, 64, 40, 3), (1, 33, 41, 1), (1, 200, 2), (1, 12, 13, 11, 1)])
def test_natural_magnitudes_have_values_of_standard_deviation_one(shape):
    kind = MagnitudeConstrained()
    spreads = []
    for seed in range(4):
        phases = kind.initial(shape, np.random.default_rng(seed))
        assert -np.pi <= phases[0].min() < -3 and 3 < phases[0].max() <= np.pi
        values = value_of(kind.values([ops.convert_to_tensor(p) for p in phases], shape))
        assert np.abs(values.mean()) < 1e-5  # no magnitude at frequency 0
        spreads.append(values.std())
    assert np.mean(spreads) == pytest.approx(1, abs=0.1)


def test_the_natural_magnitude_falls_with_the_frequency():
    shape = (1, 32, 32, 1)
    phases = MagnitudeConstrained().initial(shape, np.random.default_rng(0))
    values = value_of(MagnitudeConstrained().values([ops.convert_to_tensor(p) for p in phases], shape))
    found = np.abs(transform(values.astype("float64")))[0, 0]
    for row, column in [(0, 2), (0, 4), (3, 4), (6, 8)]:
        expected = found[0, 1] / math.hypot(row, column)
        assert found[row, column] == pytest.approx(expected, rel=1e-3)


def test_the_spectrum_of_images():
    images = np.concatenate([photograph("cat"), photograph("rocket")])
    together = spectrum_of(images, decorrelate=False)
    assert together.shape == (3, 24, 11) and together.dtype == "float32"
    each = [np.abs(np.fft.rfft2(np.log(image / (1 - image)), axes=(0, 1))) for image in images.astype("float64")]
    np.testing.assert_allclose(together, np.moveaxis(np.mean(each, axis=0), -1, 0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(spectrum_of(255 * images, (0, 255), decorrelate=False), together, rtol=1e-3, atol=1e-2)
    assert np.abs(spectrum_of(images) - together).max() > 1
    assert spectrum_of(np.full((1, 9, 2), 0.3)).shape == (2, 5)
    assert spectrum_of(np.full((1, 4, 5, 6, 1), 0.3)).shape == (1, 4, 5, 4)


@pytest.mark.parametrize(
    "name", ["Pixels", "Pixels, decorrelated", "Fourier", "LaplacianPyramid", "MagnitudeConstrained"]
)
@pytest.mark.parametrize("shape", [(1, 5, 4, 3)])
def test_gradients_agree_with_finite_differences(name, shape, rng):
    kind = KINDS[name](rng.uniform(0.1, 0.9, shape))
    parameters = [p + rng.normal(0, 0.3, p.shape).astype("float32") for p in kind.initial(shape, rng)]
    weights = rng.normal(size=shape).astype("float32")

    def score(parameters):
        return ops.sum(
            ops.multiply(kind.decode(parameters, shape, (-1, 2)), ops.convert_to_tensor(weights)), axis=(1, 2, 3)
        ), ()

    _, _, gradients = backend.value_and_grad(score, [ops.convert_to_tensor(p) for p in parameters])
    for which, gradient in enumerate(gradients):
        flat = parameters[which].size
        for place in rng.permutation(flat)[:6]:
            ends = []
            for step in (1e-2, -1e-2):
                moved = [p.copy() for p in parameters]
                moved[which].ravel()[place] += step
                ends.append(float((decoded(kind, moved, shape, (-1, 2)).astype("float64") * weights).sum()))
            difference = (ends[0] - ends[1]) / 2e-2
            assert value_of(gradient).ravel()[place] == pytest.approx(difference, rel=0.02, abs=5e-3)


class Grey(Parameterization):
    """All pixels alike: one number an image."""

    def initial(self, shape, generator):
        return [generator.normal(size=(shape[0], 1)).astype("float32")]

    def values(self, parameters, shape):
        return ops.broadcast_to(ops.reshape(parameters[0], (-1, 1, 1, 1)), shape)

    def fitting(self, values):
        return [values.reshape(len(values), -1).mean(axis=1, keepdims=True).astype("float32")]


def test_a_parameterization_of_ones_own():
    image = np.full((2, 4, 5, 3), [[[[0.2]]], [[[0.7]]]])
    np.testing.assert_allclose(decoded(Grey(), Grey().encode(image), image.shape), image, atol=1e-6)
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    fv = vis.FeatureVisualization(model, ActivationMaximization(-1, 0), Grey(), transforms=[])
    images = fv(num_images=2, steps=3, seed=0)
    assert images.shape == (2, 4, 5, 3) and (images == images[:, :1, :1, :1]).all()
    assert fv.history["ActivationMax Loss"][-1].sum() < fv.history["ActivationMax Loss"][0].sum()


def test_what_the_base_class_leaves_open():
    for words, call in {
        r"must define `initial": lambda: Parameterization().initial((1, 2, 2, 1), None),
        r"must define `values": lambda: Parameterization().decode([], (1, 2, 2, 1)),
        r"must define `fitting": lambda: Parameterization().encode(np.full((1, 2, 2, 1), 0.5)),
    }.items():
        with pytest.raises(NotImplementedError, match="Parameterization " + words):
            call()


def test_given_images_are_not_changed(rng):
    images = rng.random((1, 6, 5, 3)).astype("float32")
    before = images.copy()
    for kind in (Pixels(), Fourier(), LaplacianPyramid(), MagnitudeConstrained()):
        kind.encode(images)
    spectrum_of(images)
    np.testing.assert_array_equal(images, before)
    spectrum = spectrum_of(images)
    kept = MagnitudeConstrained(spectrum)
    first = decoded(kept, kept.encode(images), images.shape)
    spectrum[:] = 0  # the caller's own, to do with as he likes
    np.testing.assert_array_equal(decoded(kept, kept.encode(images), images.shape), first)


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda: Pixels(std=-1), ValueError, "`std`.*std=-1"),
        (lambda: Pixels(std="0.1"), TypeError, "`std` must be a number"),
        (lambda: Pixels(decorrelate=1), TypeError, "`decorrelate` must be True or False"),
        (lambda: Fourier(decay=-0.5), ValueError, "`decay`.*decay=-0.5"),
        (lambda: Fourier(decay=float("nan")), ValueError, "`decay`"),
        (lambda: Fourier(std=float("inf")), ValueError, "`std`"),
        (lambda: Fourier(decorrelate=None), TypeError, "`decorrelate`"),
        (lambda: LaplacianPyramid(0), ValueError, "`levels` must be at least 1"),
        (lambda: LaplacianPyramid(2.0), TypeError, "`levels` must be an integer"),
        (lambda: LaplacianPyramid(std=-1), ValueError, "`std`"),
        (lambda: MagnitudeConstrained(np.full((1, 4, 3), -1.0)), ValueError, "no negative numbers.*minimum of -1"),
        (lambda: MagnitudeConstrained([[[-2.0, 1.0]]]), ValueError, "no negative numbers.*minimum of -2"),
        (lambda: MagnitudeConstrained(np.full((1, 4, 3), np.nan)), ValueError, "`spectrum` must be finite"),
        (lambda: MagnitudeConstrained("natural"), ValueError, "`spectrum` must be numbers.*'natural'"),
        (lambda: MagnitudeConstrained(decorrelate="yes"), TypeError, "`decorrelate`"),
        (lambda: spectrum_of(np.zeros((0, 8, 8, 3))), ValueError, "`images` must have the shape"),
        (lambda: spectrum_of(np.zeros((8, 8))), ValueError, r"`images` must have the shape.*\(8, 8\)"),
        (lambda: spectrum_of("cat.jpg"), ValueError, "`images` must be numbers"),
        (lambda: spectrum_of(np.full((1, 8, 8, 3), np.nan)), ValueError, "`images` must be finite"),
        (lambda: spectrum_of(np.zeros((1, 8, 8, 3)), (1, 0)), ValueError, r"`input_range` must be a pair.*\(1, 0\)"),
        (lambda: Pixels().encode(np.zeros((1, 2, 2, 1)), (0, 0)), ValueError, "`input_range` must be a pair"),
    ],
)
def test_wrong_arguments(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize("shape", [(3, 8, 4), (3, 8, 8), (1, 8, 5), (8, 5), (8, 5, 3)])
def test_a_spectrum_of_the_wrong_shape(shape):
    kind = MagnitudeConstrained(np.ones(shape))
    words = r"`spectrum` must have the shape \(3, 8, 5\).*images of shape \(8, 8, 3\).*spectrum_of"
    with pytest.raises(ValueError, match=words):
        kind.initial((1, 8, 8, 3), np.random.default_rng(0))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    fv = vis.FeatureVisualization(model, ActivationMaximization(-1, 0), kind)
    for seed_input in (None, np.full((8, 8, 3), 0.5)):
        with pytest.raises(ValueError, match=words):
            fv(steps=1, seed_input=seed_input)
