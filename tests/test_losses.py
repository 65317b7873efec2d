"""Losses and regularizers, against slow second implementations."""

import math

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

from vis import backend
from vis.callbacks import OptimizerCallback
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
from vis.optimizer import Optimizer
from vis.regularizers import LPNorm, TotalVariation, normalize


def slow_total_variation(image, beta):
    """Mahendran & Vedaldi 2016, section 3.2.2, one pixel at a time, divided by the size."""
    *dims, channels = image.shape
    total = 0.0
    for position in np.ndindex(*dims):
        for channel in range(channels):
            here = image[(*position, channel)]
            squares = 0.0
            for axis in range(len(dims)):
                ahead = list(position)
                ahead[axis] += 1
                if ahead[axis] < dims[axis]:
                    squares += (image[(*ahead, channel)] - here) ** 2
            total += squares ** (beta / 2)
    return total / image.size


def keras_vis_total_variation(image, beta):
    """The original's: each axis is cropped by one before the differences are summed."""
    kept = (slice(None, -1),) * (image.ndim - 1)
    ahead = [kept[:axis] + (slice(1, None),) + kept[axis + 1 :] for axis in range(image.ndim - 1)]
    return (sum((image[a] - image[kept]) ** 2 for a in ahead) ** (beta / 2)).sum() / image.size


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


@pytest.mark.parametrize("shape", [(4, 3, 1), (1, 5, 1), (2, 3, 2, 1), (6, 1)])
def test_total_variation_sees_every_pair_of_neighbours_once(shape):
    """A single bright pixel counts one for each neighbour that it has, wherever it is."""
    for place in np.ndindex(*shape[:-1]):
        image = np.zeros((1, *shape), "float32")
        image[(0, *place)] = 1
        neighbours = sum((at > 0) + (at < size - 1) for at, size in zip(place, shape))
        value = value_of(TotalVariation(None).value([ops.convert_to_tensor(image)], []))[0]
        assert value * image.size == pytest.approx(neighbours, rel=1e-5), place


@pytest.mark.parametrize("beta", [1.5, 2.0])
def test_total_variation_agrees_with_keras_vis_where_that_sees_all(beta, rng):
    signal, image = rng.normal(size=(7, 2)).astype("float32"), rng.normal(size=(6, 5, 2)).astype("float32")
    image[-1], image[:, -1] = 0.5, 0.5  # nothing changes along the last row and column
    for x in (signal, image):
        got = value_of(TotalVariation(None, beta).value([ops.convert_to_tensor(x[None])], []))[0]
        assert got == pytest.approx(keras_vis_total_variation(x, beta), rel=1e-5)
    other = rng.normal(size=(6, 5, 2)).astype("float32")
    got = value_of(TotalVariation(None, beta).value([ops.convert_to_tensor(other[None])], []))[0]
    assert got > keras_vis_total_variation(other, beta)


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
    assert str(ActivationMaximization("a", 1)) == "ActivationMax Loss"
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


def slow_mean(image, channel):
    positions = list(np.ndindex(image.shape[:-1]))
    return sum(float(image[(*position, channel)]) for position in positions) / len(positions)


def slow_cosine(one, other):
    return float(np.dot(one, other)) / math.sqrt(float(np.dot(one, one)) * float(np.dot(other, other)))


def slow_gram(image):
    gram = np.zeros((image.shape[-1],) * 2)
    for position in np.ndindex(image.shape[:-1]):
        gram += np.outer(image[position], image[position])
    return gram.ravel()


def slow_direction(image, vector, power):
    total = 0.0
    for position in np.ndindex(image.shape[:-1]):
        cosine = max(slow_cosine(image[position], vector), 0.1)
        total += float(np.dot(image[position], vector)) * cosine**power
    return -total / math.prod(image.shape[:-1])


def slow_diversity(images):
    grams, count = [slow_gram(image) for image in images], len(images)
    return [
        sum(slow_cosine(grams[i], grams[j]) for j in range(count) if j != i) / max(count - 1, 1) for i in range(count)
    ]


def slow_interpolation(images, first, second):
    places = [0.5] if len(images) == 1 else [n / (len(images) - 1) for n in range(len(images))]
    return [
        -(1 - place) * slow_mean(image, first) - place * slow_mean(image, second)
        for place, image in zip(places, images)
    ]


def slow_inversion(image, target):
    pairs = [(float(a), float(b)) for a, b in zip(image.ravel(), target.ravel())]
    return sum((a - b) ** 2 for a, b in pairs) / sum(b * b for _, b in pairs)


def slow_caricature(image, target, power):
    a, b = image.ravel().astype("float64"), target.ravel().astype("float64")
    return -np.dot(a, b) * max(slow_cosine(a, b), 0.1) ** power / np.dot(b, b)


SHAPES = [(3, 4, 5, 6), (1, 4, 5, 6), (2, 7, 6), (2, 3, 2, 4, 6), (3, 6)]


def got(loss, x, *more):
    """Computes a loss of activations as an energy would: its own arguments, then what its image gives."""
    arguments = [*loss.arguments([x.shape]), *more]
    value = loss.value([ops.convert_to_tensor(x)], [ops.convert_to_tensor(a) for a in arguments])
    assert value.shape == (len(x),)
    return value_of(value)


@pytest.mark.parametrize("shape", SHAPES)
def test_neuron(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    centre = tuple(size // 2 for size in shape[1:-1])
    np.testing.assert_array_equal(got(Neuron("a", 2), x), -x[(slice(None), *centre, 2)])
    first = (0,) * len(centre)
    np.testing.assert_array_equal(got(Neuron("a", -1, first), x), -x[(slice(None), *first, 5)])
    for place in list(np.ndindex(shape[1:-1]))[::3]:
        np.testing.assert_array_equal(got(Neuron("a", 4, place), x), -x[(slice(None), *place, 4)])


def test_neuron_counts_from_the_end_and_takes_one_number_for_one_axis():
    x = np.arange(12, dtype="float32").reshape(1, 4, 3)
    assert got(Neuron("a", 0, -1), x).tolist() == [-9.0]
    assert got(Neuron("a", -2, np.int64(1)), x).tolist() == [-4.0]


@pytest.mark.parametrize("power", [0, 1, 2.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_direction(shape, power, rng):
    x = rng.normal(size=shape).astype("float32")
    vector = rng.normal(size=6)
    expected = [slow_direction(image, vector, power) for image in x]
    np.testing.assert_allclose(got(Direction("a", vector, power), x), expected, rtol=1e-4, atol=1e-5)
    vectors = rng.normal(size=(len(x), 6))
    expected = [slow_direction(image, own, power) for image, own in zip(x, vectors)]
    np.testing.assert_allclose(got(Direction("a", vectors, power), x), expected, rtol=1e-4, atol=1e-5)


def test_direction_along_an_axis_is_activation_maximization(rng):
    x = rng.normal(size=(2, 4, 3, 5)).astype("float32")
    along = got(Direction("a", [0, 0, 1, 0, 0]), x)
    np.testing.assert_allclose(along, got(ActivationMaximization("a", 2), x), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_deep_dream(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    expected = [-sum(float(v) ** 2 for v in image.ravel()) / image.size for image in x]
    np.testing.assert_allclose(got(DeepDream("a"), x), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_diversity(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    np.testing.assert_allclose(got(Diversity("a"), x), slow_diversity(x), atol=1e-5)


def test_diversity_of_one_image_and_of_blank_ones_is_zero():
    assert got(Diversity("a"), np.ones((1, 3, 3, 2), "float32")).tolist() == pytest.approx([0.0], abs=1e-5)
    assert got(Diversity("a"), np.zeros((3, 3, 3, 2), "float32")).tolist() == [0.0, 0.0, 0.0]
    orthogonal = np.array([[[1.0, 0.0]], [[0.0, 2.0]]], "float32")
    assert got(Diversity("a"), orthogonal).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [*SHAPES, (5, 4, 4, 6)])
def test_interpolation(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    expected = slow_interpolation(x, 4, 1)
    np.testing.assert_allclose(got(Interpolation("a", 4, -5), x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_feature_inversion(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    for target in (rng.normal(size=shape), rng.normal(size=(1, *shape[1:]))):
        target = target.astype("float32")
        expected = [slow_inversion(image, own) for image, own in zip(x, np.broadcast_to(target, shape))]
        np.testing.assert_allclose(got(FeatureInversion("a", np.zeros(3)), x, target), expected, rtol=1e-4)
    np.testing.assert_array_equal(got(FeatureInversion("a", np.zeros(3)), x, x), 0)


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_caricature(shape, power, rng):
    x = rng.normal(0.5, 1, size=shape).astype("float32")
    target = rng.normal(0.5, 1, size=(1, *shape[1:])).astype("float32")
    expected = [slow_caricature(image, target[0], power) for image in x]
    loss = Caricature("a", np.zeros(3), power)
    np.testing.assert_allclose(got(loss, x, target), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got(loss, x, x), -1, rtol=1e-5)


def test_the_cosine_is_never_below_a_tenth():
    x = np.array([[-3.0, 0.0]], "float32")
    assert got(Direction("a", [1.0, 0.0], 1), x).tolist() == pytest.approx([0.3], rel=1e-5)
    assert got(Direction("a", [1.0, 0.0], 2), x).tolist() == pytest.approx([0.03], rel=1e-5)
    assert got(Caricature("a", np.zeros(3)), x, np.float32([[1.0, 0.0]])).tolist() == pytest.approx([0.3], rel=1e-5)


def test_an_infinite_channel_that_is_not_chosen_changes_nothing():
    x = np.array([[1.0, np.inf, 3.0]], "float32")
    loss = ActivationMaximization("dense", 0).each([2])
    assert got(loss, x).tolist() == [-3.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_image_a_filter_of_its_own(shape, rng):
    x = rng.normal(size=shape).astype("float32")
    indices = [5, 0, -3][: len(x)]
    loss = ActivationMaximization("a", 1)
    expected = [-slow_mean(image, i) for image, i in zip(x, indices)]
    np.testing.assert_allclose(got(loss.each(indices), x), expected, rtol=1e-4, atol=1e-6)
    assert loss.filter_indices == [1]  # the loss itself is as it was
    np.testing.assert_allclose(got(loss, x), [-slow_mean(image, 1) for image in x], rtol=1e-4, atol=1e-6)


NEW_LOSSES = {
    "Neuron": lambda layer, image: Neuron(layer, 1, (2, 0)),
    "Direction": lambda layer, image: Direction(layer, [1, -1, 0.5, 0, 2], 1),
    "DeepDream": lambda layer, image: DeepDream(layer),
    "Diversity": lambda layer, image: Diversity(layer),
    "Interpolation": lambda layer, image: Interpolation(layer, 1, 3),
    "FeatureInversion": FeatureInversion,
    "Caricature": Caricature,
}


def slow_new_loss(name, x, target):
    """The losses of `NEW_LOSSES`, summed over the batch."""
    return {
        "Neuron": lambda: -x[:, 2, 0, 1].sum(),
        "Direction": lambda: sum(slow_direction(image, [1, -1, 0.5, 0, 2], 1) for image in x),
        "DeepDream": lambda: sum(-(image.astype("float64") ** 2).mean() for image in x),
        "Diversity": lambda: sum(slow_diversity(x)),
        "Interpolation": lambda: sum(slow_interpolation(x, 1, 3)),
        "FeatureInversion": lambda: sum(slow_inversion(image, target) for image in x),
        "Caricature": lambda: sum(slow_caricature(image, target, 1) for image in x),
    }[name]()


class Overall(OptimizerCallback):
    def __init__(self):
        self.values = []

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        self.values.append(float(overall_loss))


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_new_losses_in_minimize(name, rng):
    model = small_cnn(activation="elu")  # nowhere flat
    x, image = rng.random((2, 9, 7, 3), dtype="float32"), rng.random((9, 7, 3), dtype="float32")
    conv2 = keras.Function(model.inputs, [model.get_layer("conv2").output])
    activations, target = value_of(conv2([x])[0]), value_of(conv2([image[None]])[0])[0]
    watcher = Overall()
    optimizer = Optimizer(model, [(NEW_LOSSES[name]("conv2", image), 2)], input_range=(0, 1))
    grads = optimizer.minimize(x, 3, callbacks=[watcher], verbose=False, optimizer=keras.optimizers.SGD(1e-3))[1]
    expected = 2 * slow_new_loss(name, activations, target)
    assert watcher.values[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert watcher.values[2] < watcher.values[1] < watcher.values[0]
    assert grads.shape == x.shape and np.isfinite(grads).all() and grads.any()


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_new_losses_from_the_symbolic_input(name, rng):
    model = small_cnn(activation="elu")
    x, image = rng.random((2, 9, 7, 3), dtype="float32"), rng.random((9, 7, 3), dtype="float32")
    loss = NEW_LOSSES[name](model.get_layer("conv2"), image)
    results = [Optimizer(source, [(loss, 1)]).minimize(x, 1, verbose=False)[1] for source in (model, model.inputs[0])]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_new_losses_on_channels_first_layers(name, rng):
    # A pooling layer, as TensorFlow has no channels_first convolution on CPUs.
    last = keras.Sequential([keras.Input((6, 5, 5)), layers.AveragePooling2D(2, 1, name="pool")])
    first = keras.Sequential(
        [keras.Input((5, 6, 5)), layers.AveragePooling2D(2, 1, data_format="channels_first", name="pool")]
    )
    if keras.config.backend() == "tensorflow":
        first.layers[0].call = pooled_channels_first
    x, image = rng.random((2, 6, 5, 5), dtype="float32"), rng.random((6, 5, 5), dtype="float32")
    values = []
    for model, move in ((last, lambda a: a), (first, lambda a: np.moveaxis(a, -1, -3))):
        optimizer = Optimizer(model, [(NEW_LOSSES[name]("pool", move(image)), 1)], (0, 1), norm_grads=False)
        watcher = Overall()
        grads = optimizer.minimize(move(x), 1, callbacks=[watcher], verbose=False)[1]
        values.append((watcher.values[0], grads))
    assert values[1][0] == pytest.approx(values[0][0], rel=1e-5)
    np.testing.assert_allclose(values[1][1], np.moveaxis(values[0][1], -1, 1), atol=1e-6)


def pooled_channels_first(x):
    """What the layer computes, with operations that every backend has."""
    return (x[:, :, 1:, 1:] + x[:, :, 1:, :-1] + x[:, :, :-1, 1:] + x[:, :, :-1, :-1]) / 4


def test_sums_and_their_formulas():
    a, b = ActivationMaximization("conv", 1), DeepDream("mixed")
    assert str(a + b) == "ActivationMax Loss + DeepDream(mixed)"
    assert str(a + 0.5 * b) == "ActivationMax Loss + 0.5 * DeepDream(mixed)"
    assert str(a - 2 * b) == "ActivationMax Loss - 2 * DeepDream(mixed)"
    assert str(2 * (a - b * 3)) == "2 * ActivationMax Loss - 6 * DeepDream(mixed)"
    assert str(-a) == "-1 * ActivationMax Loss"
    assert str(a - (b - a)) == "ActivationMax Loss - DeepDream(mixed) + ActivationMax Loss"
    assert str(sum([a, b, a])) == "ActivationMax Loss + DeepDream(mixed) + ActivationMax Loss"
    assert str(np.float32(0.25) * a) == "0.25 * ActivationMax Loss"
    assert (2 * (a - 3 * b)).terms == [(a, 2.0), (b, -6.0)]
    assert sum([a]) is a and a + 0 is a
    assert a.terms == [(a, 1.0)] and str(a) == "ActivationMax Loss"


def test_formulas_name_layers_and_details():
    layer = layers.Dense(3, name="fc")
    assert str(Neuron(layer, 7)) == "Neuron(fc, 7)"
    assert str(Neuron("a", 7, (1, 2))) == "Neuron(a, 7, (1, 2))"
    assert str(Direction(-2, [1.0])) == "Direction(-2)"
    assert str(Diversity("a/b")) == "Diversity(a/b)"
    assert str(Interpolation("a", 3, 4)) == "Interpolation(a, 3, 4)"
    assert (
        str(FeatureInversion("a", np.zeros(3)) + Caricature("b", np.zeros(3))) == "FeatureInversion(a) + Caricature(b)"
    )


def test_the_terms_of_a_sum_do_not_change_with_the_list():
    total = ActivationMaximization("a", 1) + DeepDream("a")
    total.terms.clear()
    assert len(total.terms) == 2


def test_sums_in_minimize(rng):
    model = small_cnn()
    x = rng.random((2, 9, 7, 3), dtype="float32")
    one, other = ActivationMaximization("preds", 1), DeepDream("conv1")
    values = {}
    for key, losses in {
        "one": [(one, 1)],
        "other": [(other, 1)],
        "sum": [(2 * one - 0.5 * other, 3)],
        "summed": [(sum([one, other, one]), 1)],
    }.items():
        watcher = Overall()
        grads = Optimizer(model, losses, norm_grads=False).minimize(x, 1, callbacks=[watcher], verbose=False)[1]
        values[key] = watcher.values[0], grads
    assert values["sum"][0] == pytest.approx(6 * values["one"][0] - 1.5 * values["other"][0], rel=1e-4)
    np.testing.assert_allclose(values["sum"][1], 6 * values["one"][1] - 1.5 * values["other"][1], atol=1e-5)
    assert values["summed"][0] == pytest.approx(2 * values["one"][0] + values["other"][0], rel=1e-4)


@pytest.mark.parametrize(
    "combine", [lambda a: a + 1, lambda a: a - 1, lambda a: a * a, lambda a: a * "2", lambda a: 1 - a]
)
def test_what_does_not_combine(combine):
    with pytest.raises(TypeError, match="unsupported operand|can't multiply"):
        combine(DeepDream("a"))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), np.float32("nan")])
def test_a_factor_that_is_no_finite_number(factor):
    for combine in (lambda: DeepDream("a") * factor, lambda: factor * DeepDream("a")):
        with pytest.raises(ValueError, match=f"finite number. Received: {factor}"):
            combine()


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda: Neuron("conv2", 5), ValueError, "`channel` is out of range. Received: 5.*conv2.*choose from 0 to 4"),
        (lambda: Neuron("conv2", -6), ValueError, "Received: -6"),
        (
            lambda: Neuron("conv2", 0, (6, 0)),
            ValueError,
            "`position` is out of range. Received: 6.*axis 0.*from 0 to 5",
        ),
        (lambda: Neuron("conv2", 0, (0, -5)), ValueError, "Received: -5.*axis 1 of layer 'conv2'"),
        (lambda: Neuron("conv2", 0, (1,)), ValueError, r"one index for each of 2 spatial axes.*Received: \(1,\)"),
        (lambda: Neuron("conv2", 0, (1, 1, 1)), ValueError, r"each of 2 spatial axes.*Received: \(1, 1, 1\)"),
        (lambda: Neuron("preds", 0, (1,)), ValueError, "each of 0 spatial axes of layer 'preds'"),
        (lambda: Neuron("conv2", 1.0), TypeError, "`channel` must be an integer. Received: 1.0"),
        (lambda: Neuron("conv2", None), TypeError, "`channel` must be an integer. Received: None"),
        (lambda: Neuron("conv2", 0, (1, 0.5)), TypeError, "`position` must hold one integer.*0.5"),
        (lambda: Neuron("conv2", 0, "centre"), TypeError, "`position` must hold one integer.*centre"),
        (lambda: Direction("conv2", np.ones(4)), ValueError, "`vector` must have 5 numbers.*conv2.*Received: 4"),
        (lambda: Direction("conv2", np.ones((2, 6))), ValueError, "`vector` must have 5 numbers.*Received: 6"),
        (lambda: Direction("conv2", np.ones((3, 5))), ValueError, "`vector`.*3"),  # for two images
        (lambda: Direction("conv2", np.zeros(5)), ValueError, "not be zero.*all zeros"),
        (lambda: Direction("conv2", [[1] * 5, [0] * 5]), ValueError, "not be zero"),
        (lambda: Direction("conv2", []), ValueError, "`vector`"),
        (lambda: Direction("conv2", 3), ValueError, "`vector` must have the shape"),
        (lambda: Direction("conv2", [1, np.nan, 0, 0, 0]), ValueError, "`vector` must be finite numbers"),
        (lambda: Direction("conv2", np.ones(5), -1), ValueError, "`cosine_power`.*at least 0"),
        (lambda: Caricature("conv2", np.ones((9, 7, 3)), "1"), TypeError, "`cosine_power` must be a number"),
        (lambda: Caricature("conv2", np.ones((9, 8, 3))), ValueError, r"`image`.*Received: shape \(9, 8, 3\)"),
        (lambda: FeatureInversion("conv2", None), ValueError, "`image` must be numbers.*Received: None"),
        (lambda: FeatureInversion("conv2", np.full((9, 7, 3), np.inf)), ValueError, "`image` must be finite"),
        (lambda: FeatureInversion("conv2", np.ones((3, 9, 7, 3))), ValueError, "`image`.*3"),  # for two images
        (
            lambda: Interpolation("conv2", 0, 5),
            ValueError,
            "`second`.*Received: 5, but layer 'conv2'.*choose from 0 to 4",
        ),
        (lambda: Interpolation("conv2", 0.5, 1), TypeError, "`first`.*0.5"),
        (lambda: ActivationMaximization("conv2", 0).each([0, 7]), ValueError, "Received: 7, but layer 'conv2'"),
        (lambda: ActivationMaximization("conv2", 0).each([0, 1.5]), TypeError, "1.5"),
        (lambda: ActivationMaximization("conv2", 0).each([]), ValueError, "must not be empty"),
        (lambda: Diversity("conv3"), ValueError, "Did you mean.*'conv2'"),
    ],
)
def test_wrong_arguments_of_new_losses(make, kind, words):
    model, x = small_cnn(), np.zeros((2, 9, 7, 3), "float32")
    with pytest.raises(kind, match=words):
        Optimizer(model, [(make(), 1)]).minimize(x, 1, verbose=False)


def test_a_neuron_of_a_map_of_unknown_size():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match="size of layer 'conv' is unknown"):
        Optimizer(model, [(Neuron("conv", 0), 1)]).minimize(np.zeros((1, 6, 6, 3)), 1, verbose=False)


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_gradients_of_new_losses_agree_with_finite_differences(name, rng):
    x = rng.normal(0.3, 1, size=(2, 3, 2, 5)).astype("float32")
    target = rng.normal(0.3, 1, size=(1, 3, 2, 5)).astype("float32")
    loss = NEW_LOSSES[name]("a", np.zeros(3))
    more = [target] if loss.image is not None else []
    arguments = [ops.convert_to_tensor(a) for a in [*loss.arguments([x.shape]), *more]]
    _, _, gradient = backend.value_and_grad(lambda x: (loss.value([x], arguments), ()), ops.convert_to_tensor(x))
    for index in list(np.ndindex(x.shape))[::4]:
        ahead, behind = x.astype("float64"), x.astype("float64")
        ahead[index] += 1e-5
        behind[index] -= 1e-5
        difference = slow_new_loss(name, ahead, target[0]) - slow_new_loss(name, behind, target[0])
        assert value_of(gradient)[index] == pytest.approx(difference / 2e-5, abs=1e-4)


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_new_losses_are_finite_on_blank_activations(name):
    loss, x = NEW_LOSSES[name]("a", np.zeros(3)), np.zeros((2, 3, 2, 5), "float32")
    more = [x[:1]] if loss.image is not None else []
    arguments = [ops.convert_to_tensor(a) for a in [*loss.arguments([x.shape]), *more]]
    score, _, gradient = backend.value_and_grad(lambda x: (loss.value([x], arguments), ()), ops.convert_to_tensor(x))
    assert np.isfinite(value_of(score)).all() and np.isfinite(value_of(gradient)).all()


def test_a_loss_needs_a_layer_and_divides():
    for kind in (lambda layer: ActivationMaximization(layer, 0), DeepDream):
        with pytest.raises(TypeError, match="`layer` must be a layer"):
            kind(None)
    assert str(DeepDream("conv") / 2) == "0.5 * DeepDream(conv)"


def test_a_loss_sees_its_layer_unless_it_says_otherwise():
    class Mean(Loss):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def value(self, tensors, arguments):
            return ops.mean(tensors[0], axis=-1)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
    assert Mean("fc").sources() == ["fc"]
    grads = Optimizer(model, [(Mean("fc"), 1)], norm_grads=False).minimize(np.ones((1, 3)), max_iter=1, verbose=False)[
        1
    ]
    np.testing.assert_allclose(grads[0], value_of(model.layers[-1].kernel).mean(axis=1), rtol=1e-5)

    class Nothing(Loss):
        def value(self, tensors, arguments):
            return tensors[0]

    with pytest.raises(NotImplementedError, match="Nothing must override `sources`, or have an attribute `layer`"):
        Optimizer(model, [(Nothing(), 1)])
