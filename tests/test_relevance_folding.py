"""A batch normalisation beside a linear layer belongs to it: the rule sees one linear map, before or after.

The two are probed into one matrix; and models are compared with the same models, folded by hand.
"""

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers
from test_relevance_rules import IS_TENSORFLOW, by_hand, drawn, probed, relevance_of, with_drawn_weights

import vis
from vis.backprop_modifiers import AlphaBeta, Composite, Flat, Gamma, ZPlus

RULES = [Gamma(0.3), AlphaBeta(), Flat()]


def normalized(axis=-1, **options):
    return layers.BatchNormalization(axis=axis, epsilon=1e-2, **options)


PLACES = {
    "after a dense layer": ((6,), lambda: [layers.Dense(5), normalized()]),
    "before a dense layer": ((6,), lambda: [normalized(), layers.Dense(5)]),
    "on both sides": ((6,), lambda: [normalized(), layers.Dense(5, use_bias=False), normalized()]),
    "after an einsum": (
        (3, 4),
        lambda: [layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), normalized()],
    ),
    "before an einsum": (
        (3, 4),
        lambda: [normalized(), layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")],
    ),
    "after a convolution": ((4, 5, 3), lambda: [layers.Conv2D(4, 3, padding="same"), normalized()]),
    "before a convolution": ((4, 5, 3), lambda: [normalized(), layers.Conv2D(4, 3, padding="same")]),
    "around a convolution": (
        (4, 5, 3),
        lambda: [normalized(), layers.Conv2D(4, 3, padding="same", strides=2), normalized(scale=False)],
    ),
    "after a grouped one": ((7, 4), lambda: [layers.Conv1D(6, 3, groups=2), normalized(center=False)]),
    "before a grouped one": ((7, 4), lambda: [normalized(), layers.Conv1D(6, 3, groups=2)]),
    "after a transposed one": ((3, 4, 2), lambda: [layers.Conv2DTranspose(3, 3, strides=2), normalized()]),
    "before a transposed one": ((3, 4, 2), lambda: [normalized(), layers.Conv2DTranspose(3, 3, strides=2)]),
    "after a depthwise one": ((4, 5, 3), lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2), normalized()]),
    "before a depthwise one": (
        (4, 5, 3),
        lambda: [normalized(), layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")],
    ),
    "after a depthwise one in 1d": ((7, 4), lambda: [layers.DepthwiseConv1D(3, depth_multiplier=2), normalized()]),
    "in 3d": ((3, 4, 3, 2), lambda: [layers.Conv3D(3, 2), normalized()]),
}
if not IS_TENSORFLOW:
    first = {"data_format": "channels_first"}
    PLACES |= {
        "after channels first": ((3, 4, 5), lambda: [layers.Conv2D(4, 3, padding="same", **first), normalized(1)]),
        "before channels first": ((3, 4, 5), lambda: [normalized(1), layers.Conv2D(4, 3, padding="same", **first)]),
        "before depthwise channels first": (
            (3, 4, 5),
            lambda: [normalized(1), layers.DepthwiseConv2D(3, depth_multiplier=2, **first)],
        ),
    }


# All rules fold by the same code: the others are for `.ci/run`.
QUICK = AlphaBeta()
one_rule_quickly = pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[] if rule == QUICK else pytest.mark.slow, id=str(rule)) for rule in RULES]
)


def close(got, wanted, tolerance=2e-4):
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def on_linear(rule):
    return Composite([("dense", rule), ("convolution", rule)])


def placed(name):
    shape, make = PLACES[name]
    return shape, with_drawn_weights(keras.Sequential([keras.Input(shape), *make()]))


@one_rule_quickly
@pytest.mark.parametrize("name", PLACES)
def test_a_normalisation_and_a_linear_layer_are_one_matrix(name, rule):
    shape, model = placed(name)
    x = drawn((2, *shape))
    got, outputs = relevance_of(model, on_linear(rule), x)
    w, b = probed(model, shape)
    for image, relevance, one in zip(x, outputs, got):
        close(one.ravel(), by_hand(rule, w, b, image.astype("float64").ravel(), relevance.ravel()))


@pytest.mark.parametrize("name", ["after a convolution", "before a convolution", "around a convolution"])
def test_nested_models_fold_over_their_borders(name):
    shape, model = placed(name)
    inputs = keras.Input(shape)
    x = inputs
    for layer in model.layers:
        x = keras.Sequential([keras.Input(x.shape[1:]), layer])(x)
    images = drawn((2, *shape))
    for rule in RULES:
        wanted, _ = relevance_of(model, on_linear(rule), images)
        close(relevance_of(keras.Model(inputs, x), on_linear(rule), images)[0], wanted, 1e-5)


class Pair(keras.Model):
    """A convolution and its normalisation in code of its own."""

    def __init__(self, conv, normalization):
        super().__init__()
        self.conv, self.normalization = conv, normalization

    def call(self, x):
        return self.normalization(self.conv(x))


def test_subclassed_models_fold():
    shape, model = placed("after a convolution")
    x = drawn((2, *shape))
    pair = Pair(*model.layers)
    wanted, _ = relevance_of(model, on_linear(ZPlus()), x)
    close(relevance_of(pair, on_linear(ZPlus()), x)[0], wanted, 1e-5)


def separable(kind, own, normalization):
    """Returns a separable convolution with a normalisation, and the same as two convolutions."""
    conv, depthwise, pointwise = {
        1: (layers.SeparableConv1D, layers.DepthwiseConv1D, layers.Conv1D),
        2: (layers.SeparableConv2D, layers.DepthwiseConv2D, layers.Conv2D),
    }[kind]
    shape = {1: (7, 3), 2: (5, 6, 3)}[kind]
    options = {"padding": "same", "depth_multiplier": 2} | own
    end = [layers.ReLU()] if own.get("activation") else []
    options.pop("activation", None)
    one = with_drawn_weights(
        keras.Sequential(
            [keras.Input(shape), conv(4, 3, activation="relu" if end else None, **options), *normalization()]
        )
    )
    parts = [depthwise(3, use_bias=False, **options), pointwise(4, 1), *end, *normalization()]
    two = keras.Sequential([keras.Input(shape), *parts])
    two.set_weights([w.reshape(v.shape) for w, v in zip(one.get_weights(), two.weights)])
    return shape, one, two


@one_rule_quickly
@pytest.mark.parametrize(
    "kind, own, normalization",
    [
        (1, {}, lambda: []),
        (1, {"strides": 2}, lambda: []),
        (1, {"padding": "valid", "dilation_rate": 2}, lambda: []),
        (2, {"activation": "relu"}, lambda: []),
        (2, {"strides": 2}, lambda: [normalized()]),
    ],
)
def test_a_separable_convolution_is_two(kind, own, normalization, rule):
    shape, one, two = separable(kind, own, normalization)
    x = drawn((2, *shape))
    np.testing.assert_allclose(value_of(one(x)), value_of(two(x)), rtol=1e-4, atol=1e-5)
    rules = Composite([("convolution", rule), ("activation", "identity")])
    close(relevance_of(one, rules, x)[0], relevance_of(two, rules, x)[0], 1e-4)


def own_activation_models():
    """Returns Conv-ReLU-BN-Flatten-Dense with the ReLU in the convolution, and in a layer of its own."""
    ends = [normalized(), layers.Flatten(), layers.Dense(3)]
    one = keras.Sequential([keras.Input((4, 5, 2)), layers.Conv2D(3, 2, activation="relu"), *ends])
    with_drawn_weights(one)
    two = keras.Sequential([keras.Input((4, 5, 2)), layers.Conv2D(3, 2), layers.ReLU(), *ends])
    two.set_weights(one.get_weights())
    return one, two


def test_a_normalisation_after_an_activation_is_identity():
    x = drawn((2, 4, 5, 2))
    one, two = own_activation_models()
    got = vis.LRP(one, "epsilon-plus")(x, 1)
    close(got, vis.LRP(two, "epsilon-plus")(x, 1), 1e-5)
    table = vis.LRP(one, "epsilon-plus").rules(x)
    assert [row for row in table if "norm" in row[0]] == [(one.layers[1].name, "call", "identity")]
    before = vis.LRP(one, "epsilon-plus").at(one.layers[0].name)(x, 1)
    close(before, vis.LRP(one, "epsilon-plus").at(one.layers[1].name)(x, 1), 1e-5)


def folded(model):
    """Returns a Conv-BN-ReLU-Flatten-Dense model with the normalisation in the weights, by hand."""
    kernel, bias, gamma, beta, mean, variance, *rest = model.get_weights()
    scale = gamma / np.sqrt(variance + 1e-2)
    plain = keras.Sequential([keras.Input(model.input_shape[1:]), *[layers.Conv2D(3, 2, name="plain")]])
    for layer in model.layers[2:]:
        plain.add(type(layer).from_config(layer.get_config()))
    plain.set_weights([kernel * scale, (bias - mean) * scale + beta, *rest])
    return plain


@pytest.fixture(scope="module")
def network():
    parts = [layers.Conv2D(3, 2, name="conv"), normalized(name="norm"), layers.ReLU(name="relu")]
    model = keras.Sequential([keras.Input((4, 5, 2)), *parts, layers.Flatten(), layers.Dense(3, name="fc")])
    return with_drawn_weights(model)


COMPOSITES = ["epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma", "alpha2-beta1", "deep-taylor"]


@pytest.mark.parametrize("name", [*COMPOSITES, "alpha2-beta1-flat", "excitation"])
def test_a_model_is_that_folded_by_hand(name, network):
    x = drawn((3, 4, 5, 2))
    close(vis.LRP(network, name)(x, [0, 1, 2]), vis.LRP(folded(network), name)(x, [0, 1, 2]), 1e-4)


@pytest.mark.parametrize("name", ["epsilon", "epsilon-gamma"])
def test_compiled_calls_are_like_eager_ones(name, network):
    explainer, x = vis.LRP(network, name), drawn((3, 4, 5, 2))
    first = explainer(x, 1)
    for _ in range(3):  # eager, traced, compiled
        close(explainer(x, 1), first, 1e-5)


def test_compiled_calls_do_what_a_normalisation_of_ones_own_does():
    class Doubled(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    parts = [layers.Dense(4), Doubled(epsilon=1e-2), layers.ReLU(), layers.Dense(2, use_bias=False)]
    model = with_drawn_weights(keras.Sequential([keras.Input((3,)), *parts]))
    explainer, x = vis.LRP(model, "epsilon"), drawn((2, 3))
    first = explainer(x, 1)
    for _ in range(3):
        close(explainer(x, 1), first, 1e-5)


def test_the_table_names_the_layer_that_a_normalisation_belongs_to(network):
    assert vis.LRP(network, "epsilon-plus").rules(drawn((1, 4, 5, 2)))[:3] == [
        ("conv", "call", "z-plus"),
        ("norm", "call", "z-plus with conv"),
        ("relu", "call", "identity"),
    ]


@pytest.mark.parametrize("name", COMPOSITES)
def test_layers_between_tell_their_relevance(name, network):
    """At the convolution and its normalisation there are the same units; what is asked for does not change them."""
    x = drawn((3, 4, 5, 2))
    explainer = vis.LRP(network, name)
    at = {layer: explainer.at(layer)(x, 1) for layer in ("conv", "norm", "relu")}
    close(at["norm"], at["relu"], 1e-5)
    close(at["conv"], at["norm"], 1e-4)
    close(explainer(x, 1), vis.LRP(folded(network), name)(x, 1), 1e-4)


def test_a_normalisation_of_other_axes_is_left_alone():
    """One over a spatial axis scales no channels of the convolution: it cannot be folded, and passes on all."""
    shape = (4, 5, 2)
    model = keras.Sequential([keras.Input(shape), layers.Conv2D(3, 1, name="conv"), normalized(1, name="norm")])
    with_drawn_weights(model)
    x = drawn((2, *shape))
    rules = vis.LRP(model, "epsilon-plus").rules(x)
    assert ("norm", "call", "identity") in rules
    got, outputs = relevance_of(model, "epsilon-plus", x)
    at = relevance_of(model, "epsilon-plus", x, lambda m, c: vis.LRP(m, c, input_layer="conv"))[0]
    close(at, outputs, 1e-5)


def test_what_a_convolution_gives_to_others_is_shared():
    """A convolution whose output goes to a normalisation and to a sum: each way is a linear map of its own."""
    inputs = keras.Input((4, 5, 2))
    conv = layers.Conv2D(3, 2, name="conv")(inputs)
    model = keras.Model(inputs, layers.Add()([layers.ReLU()(normalized(name="norm")(conv)), conv]))
    with_drawn_weights(model)
    x = drawn((2, 4, 5, 2))
    kernel, bias, gamma, beta, mean, variance = (w.astype("float64") for w in model.get_weights())
    scale = gamma / np.sqrt(variance + 1e-2)
    got, _ = relevance_of(model, "epsilon-plus", x)
    parts = []
    for weights in ([kernel * scale, (bias - mean) * scale + beta], [kernel, bias]):
        plain = keras.Sequential([keras.Input((4, 5, 2)), layers.Conv2D(3, 2)])
        plain.set_weights(weights)
        parts.append(plain)
    values = [np.maximum(value_of(parts[0](x)), 0), value_of(parts[1](x))]
    weights = np.random.default_rng(2).normal(0, 1, values[0].shape).astype("float32")  # those of `weighted`
    wanted = 0
    for part, value in zip(parts, values):
        w, b = probed(part, (4, 5, 2))
        wanted = wanted + np.stack(
            [by_hand(ZPlus(), w, b, image.ravel().astype("float64"), r.ravel()) for image, r in zip(x, value * weights)]
        )
    close(got.reshape(2, -1), wanted)
