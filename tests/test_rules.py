"""Rules for any operation, and composites: the value stays, relevance goes where the papers say."""

import copy
import pickle

import keras
import numpy as np
import pytest
import zoo
from conftest import value_of
from keras import layers, ops

import vis
from vis.backprop_modifiers import Composite, Epsilon, Half, Identity, ZPlus, guided, modify, rule
from vis.utils.validation import VisualizationWarning

LRP = Composite([("activation", Identity()), ("dense", Epsilon(1e-3)), ("convolution", Epsilon(1e-3))], name="lrp")


def stabilized(z, epsilon):
    return z + np.where(z < 0, -epsilon, epsilon)


def by_hand(layers_, x, unit, epsilon):
    """LRP-epsilon of a chain of `(matrix, bias)` with ReLUs between, from the paper, sample by sample."""
    activations = [x]
    for i, (w, b) in enumerate(layers_):
        z = activations[-1] @ w + b
        activations.append(np.maximum(z, 0) if i < len(layers_) - 1 else z)
    relevance = np.zeros_like(activations[-1])
    relevance[:, unit] = activations[-1][:, unit]
    for a, (w, b) in reversed(list(zip(activations, layers_))):
        z = a @ w + b
        relevance = a * ((relevance / stabilized(z, epsilon)) @ w.T)  # equation 58
    return relevance


def chain(bias=True, separate=False):
    def block(units):
        if separate:
            return [layers.Dense(units, use_bias=bias), layers.ReLU()]
        return [layers.Dense(units, activation="relu", use_bias=bias)]

    model = keras.Sequential([keras.Input((6,)), *block(8), *block(7), layers.Dense(3, use_bias=bias)])
    return zoo.set_weights(model), zoo.draw(4, 6)


def matrices(model):
    found = []
    for layer in model.layers:
        if layer.weights:
            w, *b = layer.get_weights()
            found.append((w.astype("float64"), b[0].astype("float64") if b else np.zeros(w.shape[1])))
    return found


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_epsilon_on_dense_layers_is_the_papers(bias, separate):
    model, x = chain(bias, separate)
    got = vis.GradientTimesInput(model, LRP)(x, 1)
    expected = by_hand(matrices(model), x.astype("float64"), 1, 1e-3)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_epsilon_on_convolutions_is_that_on_their_matrix():
    """A convolution is probed, one pixel after the other, into the matrix that it is."""
    model = keras.Sequential(
        [
            keras.Input((5, 4, 2)),
            layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    zoo.set_weights(model)
    x, conv = zoo.draw(3, 5, 4, 2), model.layers[0]
    bias = conv.get_weights()[1]
    probes = np.eye(40, dtype="float32").reshape(40, 5, 4, 2)
    with_bias = value_of(ops.conv(probes, conv.kernel, strides=2, padding="same"))
    matrix = with_bias.reshape(40, -1).astype("float64")
    biases = np.tile(bias, matrix.shape[1] // 3).astype("float64")
    whole = [(matrix, biases), *matrices(keras.Sequential([keras.Input((matrix.shape[1],)), model.layers[-1]]))]
    expected = by_hand(whole, x.reshape(3, -1).astype("float64"), 1, 1e-3).reshape(x.shape)
    got = vis.GradientTimesInput(model, LRP)(x, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_relevance_is_conserved_without_biases():
    model, x = chain(bias=False)
    small = Composite([("activation", Identity()), ("dense", Epsilon(1e-6))])
    relevance = vis.GradientTimesInput(model, small)(x, 1)
    np.testing.assert_allclose(relevance.sum(axis=1), value_of(model(x))[:, 1], rtol=1e-3, atol=1e-4)
    # Without biases and epsilon, LRP of a ReLU network is gradient x input.
    np.testing.assert_allclose(relevance, vis.GradientTimesInput(model)(x, 1), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["residual", "subclassed", "nested", "nested in Sequential", "two inputs, list", "transformer", "mixed precision"],
)
def test_values_stay(name):
    model, x = zoo.make(name)
    everything = Composite([("activation", Identity()), ("dense", Epsilon()), ("convolution", Epsilon())])
    plain, changed = vis.Saliency(model), vis.Saliency(model, everything)
    batch = vis.engine.inputs.read_inputs(model, x)
    for explainer in (plain, changed):
        explainer.evaluator.ready(batch)
    tensors = [ops.convert_to_tensor(array) for array in batch.arrays]
    one, other = (value_of(e.evaluator.network.outputs(batch.layout, tensors)[0]) for e in (plain, changed))
    np.testing.assert_allclose(one, other, rtol=1e-2 if name == "mixed precision" else 1e-6, atol=1e-6)
    assert {kind for _, kind, _ in changed.rules(x)} <= {"call", "activation"} and changed.rules(x)


def test_half_shares_a_product():
    inputs = keras.Input((4,))
    gate = layers.Dense(4, use_bias=False, name="gate")(inputs)
    value = layers.Dense(4, use_bias=False, name="value")(inputs)
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(1, use_bias=False)(layers.Multiply()([gate, value]))))
    x = zoo.draw(3, 4)
    whole = Composite([(layers.Multiply, Half()), ("dense", Epsilon())])
    relevance = vis.GradientTimesInput(model, whole)(x)
    np.testing.assert_allclose(relevance.sum(axis=1), value_of(model(x))[:, 0], rtol=1e-3, atol=1e-4)
    parts = [w.astype("float64") for w in model.get_weights()]
    gates, values = x @ parts[0], x @ parts[1]
    shares = gates * values * parts[2][:, 0] / 2
    expected = x * ((shares / gates) @ parts[0].T + (shares / values) @ parts[1].T)
    np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-4)
    twice = vis.GradientTimesInput(model)(x)  # without the rule, each factor takes all
    np.testing.assert_allclose(twice.sum(axis=1), 2 * value_of(model(x))[:, 0], rtol=1e-4, atol=1e-5)


def test_the_first_match_counts():
    model, x = chain()
    names = [layer.name for layer in model.layers]
    composite = Composite(
        [
            ("first", Epsilon(0.5)),
            (names[1], ZPlus()),
            (lambda path, operation: path == names[2], "gamma"),
            ("dense", Epsilon()),
        ]
    )
    found = [row for row in vis.Saliency(model, composite).rules(x) if row[2] != "none"]  # the activations
    assert found == [(names[0], "call", "epsilon"), (names[1], "call", "z-plus"), (names[2], "call", "gamma")]
    (_, _, _, first), *_ = composite.places(model)
    assert first == Epsilon(0.5)
    assert vis.Saliency(model).rules(x) == []
    assert [kind for _, kind, _ in vis.Saliency(model, "guided").rules(x)] == ["activation"] * 2
    assert str(composite).startswith("composite\n  first ")


def test_a_composite_that_matches_nothing_warns():
    model, x = chain()
    explainer = vis.Saliency(model, Composite([("attention", Identity())], name="mine"))
    with pytest.warns(VisualizationWarning, match="'mine' changed nothing.*attention: identity"):
        got = explainer(x, 1)
    np.testing.assert_array_equal(got, vis.Saliency(model)(x, 1))


def test_a_guided_composite_is_guided():
    model, x = zoo.make("residual")
    composite = Composite([(lambda path, operation: True, rule("guided"))])
    only_relu = Composite([("activation", "guided")])
    np.testing.assert_allclose(
        vis.Saliency(model, only_relu)(x, 1), vis.Saliency(model, "guided")(x, 1), rtol=1e-5, atol=1e-7
    )
    assert len(composite.places(model)) > len(only_relu.places(model))


@pytest.mark.parametrize("method", [vis.Saliency, vis.SmoothGrad, vis.IntegratedGradients, vis.GradCAM, vis.LayerCAM])
def test_composites_work_in_every_gradient_method(method):
    model, x = zoo.make("residual")
    options = {"num_samples": 2, "seed": 0} if method is vis.SmoothGrad else {}
    explainer = method(model, backprop_modifier=LRP, **options)
    maps = explainer(x, 1)
    assert np.isfinite(maps).all() and np.abs(maps).max() > 0
    assert np.abs(maps - method(model, **options)(x, 1)).max() > 1e-5
    np.testing.assert_allclose(explainer(x, 1, batch_size=1), maps, rtol=1e-3, atol=1e-5)
    twin = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_allclose(twin(x, 1), maps, rtol=1e-4, atol=1e-6)


def test_composites_for_good():
    model, x = chain()
    copied = modify(model, LRP)
    np.testing.assert_allclose(value_of(copied(x)), value_of(model(x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        vis.GradientTimesInput(copied)(x, 1), vis.GradientTimesInput(model, LRP)(x, 1), rtol=1e-4, atol=1e-5
    )
    assert len(copied.modified_places) == 5
    again = vis.utils.utils.apply_modifications(copied)
    np.testing.assert_allclose(
        vis.GradientTimesInput(again)(x, 1), vis.GradientTimesInput(model, LRP)(x, 1), rtol=1e-4, atol=1e-5
    )


def test_nothing_is_left_behind():
    model, x = chain()
    before = [dict(vars(layer)) for layer in model.layers]
    weights = copy.deepcopy(model.get_weights())
    vis.Saliency(model, LRP)(x, 1)

    class Failing:
        name = "failing"

        def surrogate(self, call, operation, *args, **kwargs):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        vis.Saliency(model, Composite([("dense", Failing())]))(x, 1)
    for layer, attributes in zip(model.layers, before):
        assert {k: v for k, v in vars(layer).items() if k in ("call", "activation")} == {
            k: v for k, v in attributes.items() if k in ("call", "activation")
        }
    for one, other in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Composite([]), ValueError, "at least one pair"),
        (lambda: Composite([("dense", "gidded")]), ValueError, "Did you mean: 'guided'"),
        (lambda: Composite(["dense"]), TypeError, "list of pairs"),
        (lambda: Composite([(3, Epsilon())]), TypeError, "list of pairs"),
        (lambda: Composite([("dense", None)]), TypeError, "list of pairs"),
        (lambda: Epsilon(0), ValueError, "must be above 0"),
        (lambda: Epsilon(-1), ValueError, "at least 0"),
    ],
)
def test_bad_composites(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_rules_are_values():
    assert rule(LRP) is LRP and rule(Epsilon()) == Epsilon() and hash(LRP) == hash(copy.copy(LRP))
    assert rule(guided).name == "guided"


def test_a_rule_without_a_name_is_called_by_its_class():
    class Doubled:
        def surrogate(self, call, operation, x, **options):
            y = call(x, **options)
            return 2 * y - ops.stop_gradient(y)

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fc")])
    twice, x = vis.Saliency(model, Composite([("fc", Doubled())])), np.ones((1, 3), "float32")
    assert twice.rules(x) == [("fc", "call", "Doubled")]
    np.testing.assert_allclose(twice(x, 1), 2 * vis.Saliency(model)(x, 1), rtol=1e-6)
