"""The code of layers of one's own, read as a graph: relevance is what a graph of layers would give."""

import warnings

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers, ops
from keras.ops import softmax  # as users import it

import vis
from vis.engine.code import read
from vis.utils.validation import VisualizationWarning

TOKENS, WIDTH = 5, 8


@pytest.fixture
def inputs(rng):
    return rng.normal(size=(3, TOKENS, WIDTH)).astype("float32")


def dense(units=WIDTH):
    return layers.Dense(units, use_bias=False)


def turned(x):
    return ops.swapaxes(x, -1, -2)


class Own(layers.Layer):
    """A layer whose call is a function of its dense layers."""

    def __init__(self, code):
        super().__init__()
        self.code = code
        self.q, self.k, self.v, self.o, self.wide = dense(), dense(), dense(), dense(), dense(2 * WIDTH)

    def call(self, x):
        return self.code(self, x)


def scores(s, x):
    return s.q(x) @ turned(s.k(x)) / 3


def gated(s, x):
    one, other = ops.split(s.wide(x), 2, axis=-1)
    return s.o(ops.silu(one) * other)


def table():
    return ops.convert_to_tensor(np.cos(np.arange(40.0)).reshape(1, TOKENS, WIDTH).astype("float32"))


def in_order(s, x):
    v = s.v(x)
    return x + s.o(ops.softmax(scores(s, x)) @ v)


# Code without biases, of which relevance must lose nothing where attention weights count as constants.
CODES = {
    "attention": in_order,
    "values after the softmax": lambda s, x: x + s.o(ops.softmax(scores(s, x)) @ s.v(x)),
    "no projection after it": lambda s, x: x + ops.softmax(scores(s, x)) @ s.v(x),
    "an imported softmax": lambda s, x: x + s.o(softmax(scores(s, x)) @ s.v(x)),
    "fused attention": lambda s, x: ops.reshape(
        ops.dot_product_attention(*(ops.reshape(one(x), (-1, TOKENS, 2, 4)) for one in (s.q, s.k, s.v))),
        (-1, TOKENS, WIDTH),
    ),
    "gated attention": lambda s, x: s.o(ops.softmax(scores(s, x)) @ s.v(x) * s.o(x)),
    "a sum of two": lambda s, x: s.o(s.q(x) + s.k(x)),
    "a product of two": lambda s, x: s.o(s.q(x) * s.k(x)),
    "a product beside the input": lambda s, x: x + s.q(x) * s.k(x),
    "a product of one layer's halves": gated,
    "squeeze and excitation": lambda s, x: s.o(s.q(x) * ops.sigmoid(s.k(ops.mean(x, axis=1, keepdims=True)))),
    "a table of constants": lambda s, x: ops.multiply(s.q(x), table()),
    "ones like the input": lambda s, x: s.q(x) * ops.ones_like(x),
    "a maximum": lambda s, x: s.o(ops.maximum(s.q(x), s.k(x))),
    "a mask": lambda s, x: s.o(ops.where(x[..., :1] > 0, s.q(x), 0.0)),
}


def model_of(code):
    x = keras.Input((TOKENS, WIDTH))
    own = Own(code)
    for one in (own.q, own.k, own.v, own.o, own.wide):
        one.build((None, TOKENS, WIDTH))
    return keras.Model(x, dense(3)(own(x)[:, 0]))


def sums(model, inputs, rules):
    relevance = vis.LRP(model, rules)(inputs, 1).sum(axis=(1, 2))
    return relevance, value_of(model(inputs))[:, 1]


@pytest.mark.filterwarnings("ignore::vis.utils.validation.VisualizationWarning")
@pytest.mark.parametrize("name", CODES)
def test_nothing_is_lost_or_counted_twice(name, inputs):
    model = model_of(CODES[name])
    relevance, wanted = sums(model, inputs, "attention-cp")
    np.testing.assert_allclose(relevance, wanted, atol=2e-4 * np.abs(wanted).max())
    alone, _ = sums(model, inputs[:1], "attention-cp")
    np.testing.assert_allclose(alone, relevance[:1], atol=2e-4 * np.abs(wanted).max())


def test_the_order_of_lines_does_not_matter(inputs):
    one, other = model_of(CODES["attention"]), model_of(CODES["values after the softmax"])
    other.set_weights(one.get_weights())
    got, wanted = (vis.LRP(model, "attention")(inputs, 1) for model in (one, other))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_code_of_the_model_itself_is_read(inputs):
    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o, self.head = dense(), dense(), dense(), dense(), dense(3)

        def call(self, x):
            return self.head(self.o(ops.softmax(scores(self, x)) @ self.v(x))[:, 0])

    model = Whole()
    model(inputs)
    relevance, wanted = sums(model, inputs, "attention-cp")
    np.testing.assert_allclose(relevance, wanted, atol=2e-4 * np.abs(wanted).max())


def test_attention_in_a_graph_is_constant_where_it_shall_be(inputs):
    x = keras.Input((TOKENS, WIDTH))
    weights = ops.softmax(ops.matmul(dense()(x), turned(dense()(x))) / 3)
    model = keras.Model(x, dense(3)(ops.matmul(weights, dense()(x))[:, 0]))
    relevance, wanted = sums(model, inputs, "attention-cp")
    np.testing.assert_allclose(relevance, wanted, atol=2e-4 * np.abs(wanted).max())
    both = vis.LRP(model, "attention")(inputs, 1)
    assert np.abs(both - vis.LRP(model, "attention-cp")(inputs, 1)).max() > 1e-2 * np.abs(both).max()


def test_code_that_cannot_be_read_is_told(inputs):
    class Framework(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = dense()

        def build(self, shape):
            self.inner.build(shape)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise TypeError("numbers, please")
            return self.inner(x)

    x = keras.Input((TOKENS, WIDTH))
    model = keras.Model(x, dense(3)(Framework()(x)[:, 0]))
    with pytest.warns(VisualizationWarning, match="framework.*unread code"):
        vis.LRP(model, "epsilon")(inputs, 1)


def test_a_composite_of_attention_without_attention_is_told(inputs):
    model = model_of(CODES["a sum of two"])
    with pytest.warns(VisualizationWarning, match="rule for attention, and none was found") as caught:
        vis.LRP(model, "attention")(inputs, 1)
    assert all(len(str(one.message)) < 400 for one in caught)


@pytest.mark.filterwarnings("ignore::vis.utils.validation.VisualizationWarning")
def test_reading_leaves_no_trace(inputs):
    model = model_of(CODES["attention"])
    own = next(one for one in model.layers if isinstance(one, Own))

    def nodes():
        return [(len(one._inbound_nodes), len(one._outbound_nodes), sorted(vars(one))) for one in own._flatten_layers()]

    before = nodes()
    vis.LRP(model, "attention")(inputs, 1)
    assert nodes() == before
    code = read(own, own.call, (ops.convert_to_tensor(inputs),), {}, lambda graph: len(graph.operations))
    assert nodes() == before and code.found > 5
    (got,) = [code.run((ops.convert_to_tensor(inputs),), {})]
    np.testing.assert_allclose(value_of(got), value_of(own(inputs)), atol=1e-6)


class Positions(layers.Layer):
    """Puts out a constant, in the shape of its input."""

    def call(self, x):
        return ops.broadcast_to(table(), ops.shape(x))


class Cached(layers.MultiHeadAttention):
    """Takes an argument that its shape does not depend on, as keras-hub's attention does."""

    def call(self, query, value, cache=None, return_attention_scores=False):
        return super().call(query, value, return_attention_scores=return_attention_scores)


class Hidden(Cached):
    """Does not give its weights away."""

    def call(self, query, value, cache=None):
        return super().call(query, value)


# --- layers of one's own inside of others


class Block(layers.Layer):
    """Attention that puts out two things, the second of them `None`, which no graph holds."""

    def __init__(self, tells=True):
        super().__init__()
        self.tells = tells
        self.q, self.k, self.v, self.o = (layers.Dense(WIDTH, use_bias=False, name=name) for name in "qkvo")

    def build(self, shape):
        for one in (self.q, self.k, self.v, self.o):
            one.build(shape)

    def call(self, x, training=True):
        x = x + self.o(ops.softmax(scores(self, x)) @ self.v(x)) * (2.0 if training else 1.0)
        return (x, None) if self.tells else x


class Asking(Block):
    """The same, in code that asks for numbers."""

    def call(self, x, training=True):
        return super().call(x * float(np.max(ops.convert_to_numpy(ops.stop_gradient(x)) < 1e9)), training)


class Blocks(layers.Layer):
    def __init__(self, kind=Block, tells=True):
        super().__init__()
        self.blocks = [kind(tells), kind(tells)]

    def build(self, shape):
        for one in self.blocks:
            one.build(shape)

    def call(self, x):
        for block in self.blocks:
            x = block(x)[0] if block.tells else block(x)
        return x


def of_blocks(*options):
    x = keras.Input((TOKENS, WIDTH))
    return keras.Model(x, dense(3)(Blocks(*options)(x)[:, 0]))


@pytest.mark.parametrize("rules", ["attention", "attention-cp"])
def test_layers_that_put_out_more_than_tensors_are_read_as_a_part(rules, inputs):
    model, plain = of_blocks(), of_blocks(Block, False)
    plain.set_weights(model.get_weights())
    explainer = vis.LRP(model, rules)
    with warnings.catch_warnings():
        warnings.simplefilter("error", VisualizationWarning)
        got = explainer(inputs, 1)
    np.testing.assert_allclose(got, vis.LRP(plain, rules)(inputs, 1), atol=1e-5 * np.abs(got).max())
    assert "none" not in {rule for *_, rule in explainer.rules(inputs)}
    if rules == "attention-cp":
        wanted = value_of(model(inputs, training=False))[:, 1]
        np.testing.assert_allclose(got.sum(axis=(1, 2)), wanted, rtol=1e-4, atol=1e-4)
    for block in model.layers[1].blocks:
        assert type(block) is Block and [one.name for one in (block.q, block.k, block.v, block.o)] == list("qkvo")
        assert not any(one._inbound_nodes for one in (block, block.q))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere such code runs in no compiled function")
def test_layers_inside_that_cannot_be_read_are_told(inputs):
    model = of_blocks(Asking)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.isfinite(vis.LRP(model, "attention-cp")(inputs, 1)).all()
    assert any("unread code" in str(one.message) for one in caught)
    assert all(type(block) is Asking for block in model.layers[1].blocks)


def test_rules_of_fused_attention_in_code_have_the_layers_path(inputs):
    model = model_of(CODES["fused attention"])
    table = vis.LRP(model, "attention-cp").rules(inputs)
    assert (model.layers[1].name, "attention within") in {(path, part) for path, part, _ in table}
