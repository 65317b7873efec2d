"""Losses and regularizers, against slow second implementations."""

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

from vis import backend
from vis.losses import ActivationMaximization, Loss
from vis.regularizers import LPNorm, TotalVariation, normalize


def slow_total_variation(image, beta):
    """Mahendran & Vedaldi 2016, section 3.2.2, one pixel at a time, cropped, divided by the size."""
    *dims, channels = image.shape
    total = 0.0
    for position in np.ndindex(*[d - 1 for d in dims]):
        for channel in range(channels):
            here = image[(*position, channel)]
            squares = 0.0
            for axis in range(len(dims)):
                ahead = list(position)
                ahead[axis] += 1
                squares += (image[(*ahead, channel)] - here) ** 2
            total += squares ** (beta / 2)
    return total / image.size


def slow_norm(image, p):
    size = image.size
    if p == float("inf"):
        return max(abs(v) for v in image.ravel()) / size
    return sum(abs(float(v)) ** p for v in image.ravel()) ** (1 / p) / size


def build(loss, model, x):
    return value_of(keras.Function(model.inputs, [loss.build_loss()])([ops.convert_to_tensor(x)])[0])


@pytest.mark.parametrize("shape", [(6, 2), (5, 4, 3), (4, 3, 5, 2)])
@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_total_variation(shape, beta, rng):
    x = rng.normal(size=(2, *shape)).astype("float32")
    expected = [slow_total_variation(image, beta) for image in x]
    loss = TotalVariation(keras.Input(shape), beta)
    np.testing.assert_allclose(value_of(loss.value([ops.convert_to_tensor(x)], [])), expected, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2, 6.0, 11, float("inf")])
def test_lp_norm(p, rng):
    x = rng.normal(size=(2, 4, 3, 2)).astype("float32")
    x[1] *= -50
    loss = LPNorm(keras.Input((4, 3, 2)), p)
    got = value_of(loss.value([ops.convert_to_tensor(x)], []))
    np.testing.assert_allclose(got, [slow_norm(image, p) for image in x], rtol=1e-5)


@pytest.mark.parametrize("kind", [TotalVariation, LPNorm])
def test_build_loss_sums_the_samples(kind, rng):
    x = rng.normal(size=(2, 4, 3, 2)).astype("float32")
    inputs = keras.Input((4, 3, 2))
    model = keras.Model(inputs, layers.Flatten()(inputs))
    loss = kind(inputs)
    assert loss.build_loss().shape == ()
    single = [float(build(loss, model, image[None])) for image in x]
    assert float(build(loss, model, x)) == pytest.approx(sum(single), rel=1e-5)


@pytest.mark.parametrize("loss", [TotalVariation(None, 1.0), TotalVariation(None, 1.5), LPNorm(None), LPNorm(None, 1)])
def test_gradients_are_finite_on_blank_images(loss):
    x = ops.zeros((1, 4, 4, 1))
    _, _, gradient = backend.value_and_grad(lambda x: (loss.value([x], []), ()), x)
    assert np.isfinite(value_of(gradient)).all()


def test_lp_norm_of_large_values_does_not_overflow():
    x = ops.full((1, 4, 4, 1), 1e9)
    score, _, gradient = backend.value_and_grad(lambda x: (LPNorm(None).value([x], []), ()), x)
    assert np.isfinite(value_of(score)).all() and np.isfinite(value_of(gradient)).all()


@pytest.mark.parametrize("loss", [TotalVariation(None, 1.5), TotalVariation(None), LPNorm(None), LPNorm(None, 2.5)])
def test_gradients_agree_with_finite_differences(loss, rng):
    x = rng.normal(size=(1, 3, 3, 2))
    _, _, gradient = backend.value_and_grad(
        lambda x: (loss.value([x], []), ()), ops.convert_to_tensor(x.astype("float32"))
    )
    slow = (
        (lambda image: slow_total_variation(image, loss.beta))
        if isinstance(loss, TotalVariation)
        else (lambda image: slow_norm(image, loss.p))
    )
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += 1e-6
        behind[index] -= 1e-6
        difference = (slow(ahead[0]) - slow(behind[0])) / 2e-6
        assert value_of(gradient)[index] == pytest.approx(difference, abs=1e-5)


def test_total_variation_of_vectors_is_zero():
    assert value_of(TotalVariation(None).value([ops.ones((2, 5))], [])).tolist() == [0.0, 0.0]


def test_normalize_reads_unknown_sizes_at_run_time():
    inputs = keras.Input((None, None, 3))
    function = keras.Function([inputs], [normalize(inputs, ops.sum(inputs))])
    assert value_of(function([ops.ones((1, 4, 5, 3))])[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("indices", [1, [0, 2], None, [-1], np.array([1, 2])])
@pytest.mark.parametrize("name", ["conv2", "preds"])
def test_activation_maximization(indices, name, rng):
    model = small_cnn()
    layer = model.get_layer(name)
    x = rng.random((2, 9, 7, 3), dtype="float32")
    output = value_of(keras.Function(model.inputs, [layer.output])([ops.convert_to_tensor(x)])[0])
    channels = range(output.shape[-1]) if indices is None else np.atleast_1d(indices)
    expected = sum(-output[..., i].mean() for i in channels)
    assert float(build(ActivationMaximization(layer, indices), model, x)) == pytest.approx(expected, rel=1e-5)


def test_activation_maximization_of_channels_first_layers(rng):
    model = small_cnn("channels_first")
    loss = ActivationMaximization(model.get_layer("conv2"), 4)
    assert loss.build_loss().shape == ()
    with pytest.raises(ValueError, match="has 5: choose from 0 to 4"):
        ActivationMaximization(model.get_layer("conv2"), 5).build_loss()


@pytest.mark.parametrize(
    "indices, kind, words",
    [
        (10, ValueError, "Received: 10, but layer 'preds'"),
        (-4, ValueError, "choose from 0 to 2"),
        ([], ValueError, "must not be empty"),
        ("cat", TypeError, "'cat'"),
        (1.0, TypeError, "1.0"),
        (True, TypeError, "True"),
    ],
)
def test_wrong_indices(indices, kind, words):
    with pytest.raises(kind, match=words):
        ActivationMaximization(small_cnn().get_layer("preds"), indices).build_loss()


@pytest.mark.parametrize("p", [0.5, 0, -1, float("nan")])
def test_wrong_p(p):
    with pytest.raises(ValueError, match="`p` must be in"):
        LPNorm(None, p)


def test_wrong_beta():
    with pytest.raises(ValueError, match="beta=0"):
        TotalVariation(None, 0)


def test_names():
    assert str(ActivationMaximization(None, 1)) == "ActivationMax Loss"
    assert str(TotalVariation(None)) == "TV Loss"
    assert str(LPNorm(None)) == "L-6.0 Norm Loss"
    assert str(Loss()) == "Unnamed Loss"
    with pytest.raises(NotImplementedError, match="must override `build_loss`"):
        Loss().build_loss()


def test_a_layer_that_was_never_called():
    with pytest.raises(ValueError, match="no symbolic output"):
        ActivationMaximization(layers.Dense(3), 1).build_loss()


def test_a_sequential_stands_for_its_output():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert ActivationMaximization(model, 1).build_loss().shape == ()
