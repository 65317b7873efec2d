"""The rules of relevance once more, slowly, in NumPy and float64, from their papers, on explicit matrices.

Every layer is probed into the matrix of what it does: one unit vector after another. The relevance of an output is
given freely: the target is a weighted sum of the outputs, so that of each it is value x weight.
"""

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers, ops

import vis
from vis.backprop_modifiers import (
    AlphaBeta,
    Composite,
    Epsilon,
    Excitation,
    Flat,
    Gamma,
    WSquare,
    ZBox,
    ZPlus,
)

IS_TENSORFLOW = keras.config.backend() == "tensorflow"


# --- the rules by hand


def up(a):
    return np.where(a > 0, a, 0)


def down(a):
    return np.where(a < 0, a, 0)


def parts_of(rule, w, b, x, y):
    """Returns what each input adds to each output, (inputs, outputs), and what the bias adds, (outputs,)."""
    x = x[:, None]
    both = up(x) * up(w) + down(x) * down(w)  # what raises the output
    neither = up(x) * down(w) + down(x) * up(w)
    if isinstance(rule, Epsilon):
        return x * w, b
    if isinstance(rule, ZPlus):
        return both, up(b)
    if isinstance(rule, Excitation):
        return up(x) * up(w), 0 * b
    if isinstance(rule, Gamma):
        rising = x * w + rule.gamma * both, b + rule.gamma * up(b)
        falling = x * w + rule.gamma * neither, b + rule.gamma * down(b)
        return tuple(np.where(y > 0, one, other) for one, other in zip(rising, falling))
    if isinstance(rule, WSquare):
        return w**2 + 0 * x, b**2
    if isinstance(rule, Flat):
        return np.where(w != 0, 1.0, 0.0) + 0 * x, 0 * b
    raise NotImplementedError(rule)


def box_parts(w, b, x, low, high):
    low, high = low[:, None], high[:, None]
    return x[:, None] * w - low * up(w) - high * down(w), b - up(b) - down(b)


def shared(parts, bias, relevance, epsilon):
    whole = parts.sum(axis=0) + bias
    return (parts / (whole + np.where(whole < 0, -epsilon, epsilon))) @ relevance


def by_hand(rule, w, b, x, relevance, low=None, high=None):
    """Returns the relevance of the inputs of y = x w + b."""
    if isinstance(rule, AlphaBeta):
        rising, falling = (up(x[:, None] * w), up(b)), (down(x[:, None] * w), down(b))
        shares = [shared(*one, relevance, rule.epsilon) for one in (rising, falling)]
        return rule.alpha * shares[0] - rule.beta * shares[1]
    parts = box_parts(w, b, x, low, high) if isinstance(rule, ZBox) else parts_of(rule, w, b, x, x @ w + b)
    return shared(*parts, relevance, rule.epsilon)


def probed(function, shape):
    """Returns the matrix and the offset of a linear function of samples of a shape."""
    size = int(np.prod(shape))
    zero = value_of(function(np.zeros((1, *shape), "float32"))).astype("float64").reshape(1, -1)
    units = value_of(function(np.eye(size, dtype="float32").reshape(size, *shape))).astype("float64")
    matrix = units.reshape(size, -1) - zero
    return np.where(np.abs(matrix) < 1e-6, 0, matrix), zero[0]


# --- layers

SHAPES = {1: (7, 4), 2: (5, 6, 4), 3: (4, 3, 4, 2)}

LAYERS = {
    "dense": ((6,), lambda: layers.Dense(5)),
    "dense without bias": ((6,), lambda: layers.Dense(5, use_bias=False)),
    "dense on positions": ((3, 6), lambda: layers.Dense(4)),
    "einsum": ((3, 4), lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    "einsum of two axes": ((3, 4), lambda: layers.EinsumDense("abc,bcd->ad", 5, bias_axes="d")),
    "einsum with dots": ((3, 4), lambda: layers.EinsumDense("...x,xy->...y", 5)),
    "conv1d": (SHAPES[1], lambda: layers.Conv1D(3, 3, padding="same", strides=2)),
    "conv1d causal": (SHAPES[1], lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2)),
    "conv1d grouped": (SHAPES[1], lambda: layers.Conv1D(6, 3, groups=2)),
    "conv2d": (SHAPES[2], lambda: layers.Conv2D(3, (3, 2))),
    "conv2d strided": (SHAPES[2], lambda: layers.Conv2D(3, 3, strides=2, padding="same")),
    "conv2d dilated": (SHAPES[2], lambda: layers.Conv2D(3, 2, dilation_rate=2, padding="same", use_bias=False)),
    "conv2d grouped": (SHAPES[2], lambda: layers.Conv2D(4, 3, groups=2, padding="same")),
    "conv3d": (SHAPES[3], lambda: layers.Conv3D(2, 2, strides=(1, 1, 2), padding="same")),
    "conv1d transposed": (SHAPES[1], lambda: layers.Conv1DTranspose(3, 3, strides=2)),
    "conv2d transposed": (SHAPES[2], lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "conv3d transposed": (SHAPES[3], lambda: layers.Conv3DTranspose(2, 2, strides=2)),
    "depthwise 1d": (SHAPES[1], lambda: layers.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise 2d": (SHAPES[2], lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)),
    "depthwise 2d strided": (SHAPES[2], lambda: layers.DepthwiseConv2D(2, strides=2)),
}
CHANNELS_FIRST = {
    "conv2d first": ((4, 5, 6), lambda: layers.Conv2D(4, 3, groups=2, data_format="channels_first")),
    "conv1d first": ((4, 7), lambda: layers.Conv1D(3, 3, strides=2, data_format="channels_first")),
    "transposed first": ((4, 3, 4), lambda: layers.Conv2DTranspose(3, 2, data_format="channels_first")),
    "depthwise first": ((4, 5, 6), lambda: layers.DepthwiseConv2D(3, data_format="channels_first")),
}
LAYERS |= {} if IS_TENSORFLOW else CHANNELS_FIRST  # TensorFlow has no channels_first convolutions on CPUs

RULES = [
    *(Epsilon(0.1), Gamma(0), Gamma(0.3), Gamma(1e4), ZPlus(), AlphaBeta(), AlphaBeta(1, 0), AlphaBeta(3.5, 2.5)),
    *(Excitation(), Flat(), WSquare(), ZBox(-3, 4)),
]


def drawn(shape, seed=0):
    """Values of both signs, some of them 0."""
    draw = np.random.default_rng(seed)
    x = draw.normal(0, 1, shape)
    return np.where(draw.random(shape) < 0.1, 0, x).astype("float32")


def with_drawn_weights(model, seed=1):
    draw = np.random.default_rng(seed)
    values = [
        draw.uniform(0.3, 1.5, v.shape) if "var" in v.path.split("/")[-1] else draw.normal(0, 0.7, v.shape)
        for v in model.weights
    ]
    model.set_weights([np.asarray(v, "float32") for v in values])
    return model


def weighted(outputs_shape, seed=2):
    """Returns weights of the outputs, and the target that they make."""
    weights = np.random.default_rng(seed).normal(0, 1, outputs_shape).astype("float32")

    def score(outputs, rows):
        return ops.sum(ops.reshape(outputs * rows, (-1, int(np.prod(outputs_shape[1:])))), axis=-1)

    return weights, vis.targets.Target(score, weights)


def relevance_of(model, composite, x, explain=vis.LRP):
    """Returns the relevance of the inputs, and that of the outputs, for a weighted sum of the outputs."""
    y = value_of(model(x))
    weights, target = weighted(y.shape)
    return explain(model, composite)(x, target), (y * weights).astype("float64")


def check(model, function, rule, what, shape, low=None, high=None):
    """Compares the relevance of a model with that of the matrix of a function."""
    x = drawn((2, *shape))
    got, outputs = relevance_of(model, Composite([(what, rule)]), x)
    w, b = probed(function, shape)
    for image, relevance, one in zip(x, outputs, got):
        wanted = by_hand(rule, w, b, image.astype("float64").ravel(), relevance.ravel(), low, high)
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(one.ravel(), wanted, rtol=0, atol=2e-4 * np.abs(wanted).max())


def single(name):
    shape, make = LAYERS[name]
    return shape, with_drawn_weights(keras.Sequential([keras.Input(shape), make()]))


def bounds(shape, low, high):
    return [np.broadcast_to(np.asarray(bound, "float64"), shape).ravel() for bound in (low, high)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("name", ["dense", "conv2d strided"])
def test_every_rule_is_the_papers(name, rule):
    shape, model = single(name)
    check(model, model, rule, type(model.layers[0]), shape, *bounds(shape, -3, 4))


@pytest.mark.slow  # every rule is tried on two layers above, and one rule on every layer below
@pytest.mark.parametrize("rule", [Gamma(0.3), AlphaBeta(), Flat()], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_rules_on_every_layer_are_those_on_its_matrix(name, rule):
    shape, model = single(name)
    check(model, model, rule, type(model.layers[0]), shape)


@pytest.mark.parametrize("name", LAYERS)
def test_the_bounds_of_the_box_are_those_of_each_channel(name):
    shape, model = single(name)
    axis = 0 if "first" in name else -1
    low, high = -2.5 - np.arange(shape[axis]), 3.0 + np.arange(shape[axis]) % 3
    form = [-1 if i == axis % len(shape) else 1 for i in range(len(shape))]
    spread = bounds(shape, low.reshape(form), high.reshape(form))
    check(model, model, ZBox(low, high), type(model.layers[0]), shape, *spread)
