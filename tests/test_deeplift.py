"""DeepLIFT: contributions sum to the difference of the scores, and are those of slow multipliers by hand."""

import copy
import pickle
import threading

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers, ops

import vis
from vis.backprop_modifiers.difference_rules import Rescale
from vis.engine.requests import belonging
from vis.utils.validation import VisualizationWarning


def drawn_weights(model, seed=1):
    draw = np.random.default_rng(seed)
    values = [
        draw.uniform(0.5, 1.5, v.shape) if v.path.endswith("variance") else draw.normal(0.05, 0.5, v.shape)
        for v in model.weights
    ]
    model.set_weights([value.astype("float32") for value in values])
    return model


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype("float32")


SHAPE = (8, 6, 3)


def chain(*parts):
    return lambda: keras.Sequential([keras.Input(SHAPE), *parts, layers.Flatten(), layers.Dense(3)])


def squeezed():
    """A squeeze-and-excitation block: the picture times what was made of its mean."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    gate = layers.Dense(4, activation="sigmoid")(layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(x)))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4))(gate)])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def quotient():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(inputs)
    divisor = 2.0 + ops.sigmoid(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x / divisor)))


def product():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(inputs) * layers.Conv2D(4, 3, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def residual():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(layers.Add()([x, y]))))


MODELS = {
    "relu": chain(layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 2), layers.ReLU()),
    "max pooling": chain(layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.Conv2D(4, 2, activation="relu")),
    "two max poolings": chain(layers.MaxPooling2D(2, 1), layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D(2)),
    "overlapping max pooling": chain(layers.Conv2D(4, 3), layers.MaxPooling2D(3, 2, padding="same")),
    "global max pooling": chain(layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()),
    "average pooling": chain(layers.Conv2D(4, 3, activation="elu"), layers.AveragePooling2D(2)),
    "prelu": chain(layers.Conv2D(4, 3), layers.PReLU(shared_axes=(1, 2))),
    "leaky": chain(layers.Conv2D(4, 3), layers.LeakyReLU(0.2), layers.Conv2D(4, 2, activation="gelu")),
    "smooth": chain(layers.Conv2D(4, 3, activation="tanh"), layers.Conv2D(4, 2, activation="softplus")),
    "batch normalisation": chain(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()),
    "squeeze and excitation": squeezed,
    "product": product,
    "quotient": quotient,
    "residual": residual,
}
BASELINES = {"zeros": None, "a number": 0.3, "one each": drawn((5, *SHAPE), 4)}


def start_of(baseline, x):
    return np.zeros_like(x) + (0.0 if baseline is None else baseline)


def scores(model, x, targets):
    outputs = vis.utils.utils.swap_softmax(model) if model.layers[-1].activation.__name__ == "softmax" else model
    return value_of(outputs(x))[np.arange(len(x)), targets]


@pytest.mark.parametrize("baseline", ["zeros", "one each"])
@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_difference(name, baseline):
    model, x, targets = drawn_weights(MODELS[name]()), drawn((5, *SHAPE)), [0, 1, 2, 0, 1]
    start = BASELINES[baseline]
    got = vis.DeepLIFT(model, start)(x, targets, batch_size=4)
    difference = scores(model, x, targets) - scores(model, start_of(start, x), targets)
    assert np.abs(difference).min() > 1e-3
    size = np.abs(got).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(got.sum(axis=(1, 2, 3)), difference, rtol=1e-3, atol=1e-5 * size.max())


# --- by hand


def slow_rescale(x, start, weights, target):
    """Dense - ReLU - Dense - ReLU - Dense, from the paper: multipliers, from the end to the start."""
    (w1, b1, w2, b2, w3, _) = [w.astype("float64") for w in weights]
    z1, s1 = x @ w1 + b1, start @ w1 + b1
    a1, r1 = np.maximum(z1, 0), np.maximum(s1, 0)
    z2, s2 = a1 @ w2 + b2, r1 @ w2 + b2
    a2, r2 = np.maximum(z2, 0), np.maximum(s2, 0)
    multiplier = w3[:, target]
    for (a, r, z, s), w in (((a2, r2, z2, s2), w2), ((a1, r1, z1, s1), w1)):
        multiplier = w @ (multiplier * np.array([(a[i] - r[i]) / (z[i] - s[i]) for i in range(len(z))]))
    return multiplier * (x - start)


def test_multipliers_are_the_papers():
    parts = [layers.Dense(6, activation="relu"), layers.Dense(5), layers.ReLU(), layers.Dense(3)]
    model = drawn_weights(keras.Sequential([keras.Input((4,)), *parts]))
    x, start = drawn((6, 4)), drawn((6, 4), 3)
    wanted = [slow_rescale(x[i], start[i], model.get_weights(), 1) for i in range(6)]
    np.testing.assert_allclose(vis.DeepLIFT(model, start)(x, 1), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "own, start, wanted",
    [
        ([3, 1], [0, 2], [1, 0]),  # above the reference's maximum, the input's winner gains 1; the rest cancels
        ([3, 1], [1, 0], [2, 0]),
        ([1, 0], [4, 0], [-3, 0]),
        ([1, 2], [4, 0], [-2, 0]),  # below it, the reference's winner loses
        ([2, 2], [2, 2], [0, 0]),
    ],
)
def test_a_maximum_by_hand(own, start, wanted):
    model = keras.Sequential([keras.Input((2, 1)), layers.MaxPooling1D(2), layers.Flatten(), layers.Dense(1)])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    x, reference = (np.reshape(values, (1, 2, 1)).astype("float32") for values in (own, start))
    np.testing.assert_allclose(vis.DeepLIFT(model, reference)(x, 1).ravel(), wanted, atol=1e-6)


def test_a_product_by_hand():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, inputs[:, :1] * inputs[:, 1:])
    got = vis.DeepLIFT(model, np.array([1.0, 2.0]))(np.array([[3.0, 5.0]]), 1)
    np.testing.assert_allclose(got, [[2 * 3.5, 3 * 2]], rtol=1e-5)  # each by the middle of the other


def test_a_linear_model_has_one_answer():
    model = drawn_weights(
        keras.Sequential([keras.Input((4, 3)), layers.Conv1D(5, 2), layers.Flatten(), layers.Dense(2)])
    )
    x, start = drawn((3, 4, 3)), drawn((4, 3), 5)
    wanted = vis.IntegratedGradients(model, 3, start)(x, 1)
    np.testing.assert_allclose(vis.DeepLIFT(model, start)(x, 1), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vis.DeepLIFT(model)(x, 1), vis.GradientTimesInput(model)(x, 1), rtol=1e-4, atol=1e-5)


# --- laws of all explainers


@pytest.fixture(scope="module")
def model():
    return drawn_weights(MODELS["max pooling"]())


@pytest.mark.parametrize("starts", ["one each", "one for all"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_batch_sizes_do_not_matter(batch_size, starts, model):
    x, start, targets = drawn((5, *SHAPE)), drawn((5, *SHAPE), 4), [0, 1, 2, 1, 1]
    start = start if starts == "one each" else np.repeat(start[:1], 5, axis=0)
    one_by_one = [vis.DeepLIFT(model, start[i])(x[i : i + 1], targets[i])[0] for i in range(5)]
    got = vis.DeepLIFT(model, start)(x, targets, batch_size=batch_size)
    np.testing.assert_allclose(got, one_by_one, rtol=0, atol=1e-5 * np.abs(got).max())


def of_fixed_size(model, size):
    inputs = keras.Input(batch_shape=(size, *SHAPE))
    return keras.Model(inputs, model(inputs))


@pytest.mark.parametrize("size, start", [(4, None), (3, None), (4, drawn((5, *SHAPE), 4))])
def test_models_of_a_fixed_batch_size(size, start, model):
    x, fixed = drawn((5, *SHAPE)), of_fixed_size(model, size)
    wanted = vis.DeepLIFT(model, start)(x, 1)
    np.testing.assert_allclose(vis.DeepLIFT(fixed, start)(x, 1), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size, start", [(1, None), (3, drawn((3, *SHAPE), 4))])
def test_models_of_a_batch_size_that_holds_no_pairs_are_refused(size, start, model):
    with pytest.raises(ValueError, match=f"2 rows together.*batches of {size}") as caught:
        vis.DeepLIFT(of_fixed_size(model, size), start)(drawn((3, *SHAPE)), 1)
    assert len(str(caught.value)) < 400


def test_a_baseline_for_all_is_one_row_of_each_evaluation(model):
    rows = []

    class Counted(layers.Layer):
        def call(self, x):
            rows.append(x.shape[0])
            return x

    inputs = keras.Input(SHAPE)
    counted = keras.Model(inputs, model(Counted()(inputs)))
    rows.clear()
    vis.DeepLIFT(counted)(drawn((8, *SHAPE)), 1, batch_size=8)
    assert rows[-1] == 9 and 8 not in rows  # the score of the baseline comes with it
    rows.clear()
    vis.DeepLIFT(counted)(drawn((9, *SHAPE)), 1, batch_size=8)
    assert max(rows) == 6  # five and the baseline, twice


@pytest.mark.skipif(keras.config.backend() != "torch", reason="only PyTorch goes back in other threads")
def test_a_backward_pass_in_another_thread_knows_the_pairs():
    import torch

    x, found = torch.tensor([[3.0], [-1.0]], requires_grad=True), []
    with belonging(2):
        y = Rescale().surrogate(ops.relu, layers.ReLU(), x)
    other = threading.Thread(target=lambda: found.append(torch.autograd.grad(y.sum(), x)[0]))
    other.start()
    other.join()
    np.testing.assert_allclose(found[0][0], [0.75])  # 3 by 4


def test_inner_layers(model):
    x, explainer = drawn((3, *SHAPE)), vis.DeepLIFT(model, input_layer=model.layers[0].name)
    start = value_of(model.layers[0](np.zeros((1, *SHAPE), "float32")))[0]
    got = vis.DeepLIFT(model, start, input_layer=model.layers[0].name)(x, 1)
    assert got.shape == value_of(model.layers[0](x)).shape
    difference = scores(model, x, 1) - scores(model, 0 * x, 1)
    np.testing.assert_allclose(got.sum(axis=(1, 2, 3)), difference, rtol=1e-3)
    assert explainer(x, 1).shape == got.shape


def test_a_way_around_an_inner_layer_is_each_samples_own():
    inputs = keras.Input((6,))
    x = layers.Add()([layers.Dense(5, activation="relu", name="inner")(inputs), layers.Dense(5)(inputs)])
    model = drawn_weights(keras.Model(inputs, layers.Dense(3)(layers.ReLU()(x))))
    explainer, x = vis.DeepLIFT(model, input_layer="inner"), drawn((6, 6))
    one_by_one = np.concatenate([explainer(x[i : i + 1], 1) for i in range(6)])
    np.testing.assert_allclose(explainer(x, 1), one_by_one, rtol=1e-4, atol=1e-6)


def test_copies_and_pickles(model):
    explainer, x = vis.DeepLIFT(model, 0.2), drawn((2, *SHAPE))
    wanted = explainer(x, 1)
    for twin in (copy.deepcopy(explainer), pickle.loads(pickle.dumps(explainer))):
        np.testing.assert_allclose(twin(x, 1), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_the_baseline_decides(model):
    x = drawn((2, *SHAPE))
    assert np.abs(vis.DeepLIFT(model, 0.5)(x, 1) - vis.DeepLIFT(model)(x, 1)).max() > 1e-2


# --- where the sum is broken, it is said


def normalised():
    inputs = keras.Input((6, 4))
    x = layers.LayerNormalization()(layers.Dense(4, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def attentive():
    inputs = keras.Input((6, 4))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize("make", [normalised, attentive])
def test_a_gap_is_said_once(make):
    explainer, x = vis.DeepLIFT(drawn_weights(make()), 0.3), drawn((3, 6, 4))
    with pytest.warns(VisualizationWarning, match="miss the difference .* by up to [0-9]+%") as caught:
        first = explainer(x, 1)
    said = [str(one.message) for one in caught if one.category is VisualizationWarning]
    assert len(said) == 1 and len(said[0]) < 400
    np.testing.assert_allclose(explainer(x, 1), first, rtol=1e-4, atol=1e-5)
