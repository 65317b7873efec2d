"""Relevance through attention: AttnLRP and CP-LRP, against an independent implementation and by laws."""

import keras
import numpy as np
import pytest
from conftest import ROOT, slow, value_of
from keras import layers, ops

import vis
from vis.backprop_modifiers import (
    AttentionHalves,
    AttentionValues,
    Composite,
    ConstantDeviation,
    Epsilon,
    Identity,
    composite,
    modify,
)
from vis.targets import Similarity
from vis.utils.validation import VisualizationWarning

REFERENCE = ROOT / "tests" / "reference" / "attention.npz"
WIDTH, TOKENS = 8, 5


def close(got, wanted, tolerance, size=None):
    """Compares relative to the largest number, or to a size."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * (np.abs(wanted).max() if size is None else size))


@pytest.fixture
def tokens(rng):
    return rng.normal(size=(3, TOKENS, WIDTH)).astype("float32")


# --- LXT's explicit rules, see reference/make_attention.py

# The reference has next to no stabiliser.
SHARP = Composite(
    [
        ("attention", AttentionHalves()),
        ("normalization", ConstantDeviation()),
        ("dense", Epsilon(1e-9)),
        ("activation", Identity()),
        ("rescaling", Identity()),
    ]
)


@pytest.fixture(scope="module")
def sentences():
    import importlib.util

    place = ROOT / "examples" / "text" / "network.py"
    spec = importlib.util.spec_from_file_location("text_network", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rules, tolerance", [(SHARP, 1e-3), *slow(("attention", 3e-3))])
def test_relevance_of_a_real_sentence_encoder_is_that_of_lxt(rules, tolerance, sentences):
    """A real network of six layers, three sentences; relevance of each number of each word.

    The composite of that name has the usual stabiliser, 1e-6, which moves single numbers by up to 2e-3. The third
    sentence has next to nothing in common with the first: its relevance is compared with theirs.
    """
    model = sentences.sentence_encoder()
    with np.load(REFERENCE) as arrays:
        ids = [arrays[f"ids{i}"][None].astype("int32") for i in range(3)]
        wanted = [arrays[f"relevance{i}"] for i in range(3)]
    inputs = [{"token_ids": one, "padding_mask": np.ones_like(one)} for one in ids]
    first = value_of(model(inputs[0]))
    explainer = vis.LRP(model, rules, input_layer="token_embedding")
    size = np.abs(wanted[0]).max()
    for one, relevance in zip(inputs, wanted):
        close(explainer(one, Similarity(first))[0], relevance, tolerance, size)


def small_transformer(activation="gelu"):
    x = tokens = keras.Input((TOKENS, WIDTH))
    for block in ("block0", "block1"):
        inner = layers.LayerNormalization(epsilon=1e-3, name=f"{block}_norm1")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"{block}_attention")(inner, inner)])
        inner = layers.LayerNormalization(epsilon=1e-3, name=f"{block}_norm2")(x)
        wide = layers.Dense(16, activation=activation, name=f"{block}_fc1")(inner)
        x = layers.Add()([x, layers.Dense(WIDTH, name=f"{block}_fc2")(wide)])
    return keras.Model(tokens, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


def test_relevance_of_a_small_transformer_is_that_of_lxt():
    model = small_transformer()
    with np.load(REFERENCE) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                name = f"{layer.name.replace('_', '/', 1)}/{'/'.join(variable.path.split('/')[1:])}"
                name = name.replace("attention_output", "output")
                variable.assign(arrays[f"small/{name}"].reshape(variable.shape))
        tokens, wanted = arrays["small_tokens"], arrays["small_relevance"]
    close(vis.LRP(model, "attention")(tokens[None], 1)[0], wanted, 1e-4)


# --- the formulas, a second time


def test_the_rules_within_an_attention_are_those_of_the_paper(tokens):
    """One head without projections: relevance of the queries, keys and values, written out with loops."""
    parts = [keras.Input((TOKENS, 4), name=name) for name in ("query", "value", "key")]
    model = keras.Model(parts, layers.Flatten()(layers.Attention()(parts)))
    query, value, key = (tokens[:1, :, i : i + 4] for i in (0, 2, 4))
    target = 7  # token 1, channel 3
    scores = query[0] @ key[0].T
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    mixed = weights @ value[0]
    relevance = np.zeros((TOKENS, 4))
    relevance[1, 3] = mixed[1, 3]
    of_weights, of_value = np.zeros((TOKENS, TOKENS)), np.zeros((TOKENS, 4))
    for t in range(TOKENS):
        for j in range(4):
            for s in range(TOKENS):
                share = weights[t, s] * value[0][s, j] / mixed[t, j] * relevance[t, j] / 2
                of_weights[t, s] += share
                of_value[s, j] += share
    of_scores = scores * (of_weights - weights * of_weights.sum(axis=1, keepdims=True))
    of_query, of_key = np.zeros((TOKENS, 4)), np.zeros((TOKENS, 4))
    for t in range(TOKENS):
        for s in range(TOKENS):
            for j in range(4):
                share = query[0][t, j] * key[0][s, j] / scores[t, s] * of_scores[t, s] / 2
                of_query[t, j] += share
                of_key[s, j] += share
    rules = Composite([("attention", AttentionHalves()), ("dense", Epsilon())], may_match_nothing=True)
    got = vis.GradientTimesInput(model, rules)([query, value, key], target)
    for one, wanted in zip(got, (of_query, of_value, of_key)):
        close(one[0], wanted, 1e-4)
    constant = Composite([("attention", AttentionValues()), ("dense", Epsilon())], may_match_nothing=True)
    got = vis.GradientTimesInput(model, constant)([query, value, key], target)
    assert not np.any(got[0]) and not np.any(got[2])
    close(got[1][0], 2 * of_value, 1e-4)


def test_additive_attention_has_no_product_of_queries_and_keys(tokens):
    """Its scores are no product, so only the product of weights and values is halved."""
    parts = [keras.Input((TOKENS, WIDTH)) for _ in range(3)]
    model = keras.Model(parts, layers.Flatten()(layers.AdditiveAttention()(parts)))
    inputs = [tokens, tokens + 1, tokens - 0.5]
    rules = Composite([("attention", AttentionHalves()), ("dense", Epsilon())])
    plain, halves = (vis.GradientTimesInput(model, one)(inputs, 3) for one in (None, rules))
    for one, half in zip(plain, halves):
        close(half, one / 2, 1e-4)


def test_the_deviation_of_a_layer_normalisation_counts_as_a_constant(rng):
    layer = layers.LayerNormalization(axis=[1, 2], epsilon=1e-3)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Flatten()(layer(inputs)))
    gamma, beta = (rng.normal(size=(3, 4)).astype("float32") for _ in range(2))
    layer.set_weights([gamma, beta])
    x = rng.normal(size=(1, 3, 4)).astype("float32")
    factor = gamma / np.sqrt(x.var() + 1e-3)
    wanted = -factor[1, 2] / 12 * np.ones((3, 4))  # the gradient of output (1, 2)
    wanted[1, 2] += factor[1, 2]
    rules = Composite([("normalization", ConstantDeviation()), ("dense", Epsilon())])
    close(vis.Saliency(model, rules)(x, 6)[0], wanted, 1e-5)


@pytest.mark.parametrize("axis", [-1, [-1]])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
def test_layer_normalisations_of_any_kind(axis, options, rng):
    layer = layers.LayerNormalization(axis=axis, **options)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Flatten()(layer(inputs)))
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    rules = Composite([("normalization", ConstantDeviation()), ("dense", Epsilon())])
    relevance = vis.GradientTimesInput(model, rules)(x, 5)
    bias = value_of(layer.beta)[1] if layer.center else 0
    close(relevance.sum(axis=(1, 2)), value_of(model(x))[:, 5] - bias, 1e-4)


# --- conservation


def without_biases(model):
    for layer in model._flatten_layers():
        for variable in layer.weights if isinstance(layer, keras.layers.Layer) else []:
            if variable.path.split("/")[-1] in ("bias", "beta"):
                variable.assign(np.zeros(variable.shape))
    return model


def test_values_alone_conserve_relevance(tokens):
    """CP-LRP on a network without biases: relevance sums to the score. With queries and keys, it does not."""
    model = without_biases(small_transformer())
    scores = value_of(model(tokens))[:, 1]
    close(vis.LRP(model, "attention-cp")(tokens, 1).sum(axis=(1, 2)), scores, 1e-4)
    lost = np.abs(vis.LRP(model, "attention")(tokens, 1).sum(axis=(1, 2)) - scores)
    assert lost.max() > 1e-2 * np.abs(scores).max()  # the softmax takes a share, as a bias does


# --- code of one's own, as keras-hub has it


class OwnNorm(layers.Layer):
    """RMS normalisation, by operators."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer=keras.initializers.RandomUniform(0.5, 1.5, seed=1))

    def call(self, x):
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6) * self.scale


class OwnDecoder(layers.Layer):
    """Attention and a gated network, in code of its own; gates by an operator or by a function."""

    def __init__(self, by_operator, **options):
        super().__init__(**options)
        self.by_operator = by_operator
        self.all_parts, self.mixed = layers.Dense(3 * WIDTH, use_bias=False), layers.Dense(WIDTH, use_bias=False)
        self.norm, self.norm2 = OwnNorm(), OwnNorm()
        self.gate, self.up = layers.Dense(12, use_bias=False), layers.Dense(12, use_bias=False)
        self.down = layers.Dense(WIDTH, use_bias=False)

    def call(self, x):
        parts = ops.reshape(self.all_parts(self.norm(x)), (-1, TOKENS, 3, 2, WIDTH // 2))
        query, key, value = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), axis=0)
        weights = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / 2.0)
        x = x + self.mixed(ops.reshape(ops.transpose(weights @ value, (0, 2, 1, 3)), (-1, TOKENS, WIDTH)))
        inner = self.norm2(x)
        gate, up = ops.silu(self.gate(inner)), self.up(inner)
        return x + self.down(gate * up if self.by_operator else ops.multiply(gate, up))


def in_layers(own):
    """Returns the decoder of a layer of its own, made of Keras's layers and operations, with the same weights."""
    x = tokens = keras.Input((TOKENS, WIDTH))
    kernel = value_of(own.all_parts.kernel).reshape(WIDTH, 3, 2, WIDTH // 2)
    attention = layers.MultiHeadAttention(2, WIDTH // 2, use_bias=False)

    def normalized(x, norm):
        layer = layers.RMSNormalization(epsilon=1e-6)
        y = layer(x)
        layer.set_weights([value_of(norm.scale)])
        return y

    inner = normalized(x, own.norm)
    attended = attention(inner, inner)
    last = value_of(own.mixed.kernel).reshape(2, WIDTH // 2, WIDTH)
    attention.set_weights([*(kernel[:, i] for i in range(3)), last])
    x = layers.Add()([x, attended])
    inner = normalized(x, own.norm2)

    def dense(x, layer, activation=None):
        made = layers.Dense(layer.units, activation=activation, use_bias=False)
        y = made(x)
        made.set_weights(layer.get_weights())
        return y

    gated = layers.Multiply()([dense(inner, own.gate, "silu"), dense(inner, own.up)])
    return keras.Model(tokens, layers.Add()([x, dense(gated, own.down)]))


@pytest.mark.skipif(not hasattr(layers, "RMSNormalization"), reason="this Keras has no RMSNormalization")
@pytest.mark.parametrize("rules", ["attention", "attention-cp"])
@pytest.mark.parametrize("by_operator", [True, False])
def test_code_of_ones_own_gets_the_rules_that_layers_get(by_operator, rules, tokens):
    own = OwnDecoder(by_operator, name="own")
    x = keras.Input((TOKENS, WIDTH))
    model = keras.Model(x, own(x))
    twin = in_layers(own)
    close(value_of(model(tokens)), value_of(twin(tokens)), 1e-5)

    def target(outputs):
        return ops.sum(outputs[:, -1, :3], axis=-1)

    got, wanted = (vis.LRP(one, rules)(tokens, target) for one in (model, twin))
    close(got, wanted, 1e-4)
    if rules == "attention-cp":
        close(got.sum(axis=(1, 2)), value_of(model(tokens))[:, -1, :3].sum(axis=1), 1e-4)


def test_what_runs_within_is_in_the_table(tokens):
    x = keras.Input((TOKENS, WIDTH))
    model = keras.Model(x, OwnDecoder(True, name="own")(x))
    found = vis.LRP(model, "attention").rules(tokens)
    inner = [(kind.split("_")[0], name) for path, kind, name in found if path == "own"]
    assert {("softmax within", "attention-halves"), ("matmul within", "half"), ("silu within", "identity")} <= {
        (kind if " within" in kind else f"{kind} within", name) for kind, name in inner
    }
    assert sum(path.startswith("own/own_norm") and name == "constant-deviation" for path, _, name in found) == 2


def test_an_attention_without_a_rule_is_told(tokens):
    with pytest.warns(VisualizationWarning, match="no rule.*block0_attention"):
        vis.LRP(small_transformer(), "epsilon")(tokens, 1)


def test_rules_have_names_and_composites_hold_them():
    assert [name for _, name in map(lambda pair: (pair[0], pair[1].name), composite("attention"))][:2] == [
        "attention-halves",
        "constant-deviation",
    ]
    assert composite("attention-cp").pairs[0][1] == AttentionValues()
    assert "attention-halves" in str(composite("attention"))
    by_name = Composite([("attention", "attention-halves"), ("dense", "epsilon")])
    assert by_name.pairs[0][1] == AttentionHalves()


def test_a_copy_cannot_hold_a_rule_of_attention():
    with pytest.raises(ValueError, match="copy cannot hold a rule of attention.*vis.LRP") as caught:
        modify(small_transformer(), "attention")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("rules", ["attention", "attention-cp"])
def test_laws(rules, tokens):
    model = small_transformer()
    explainer = vis.LRP(model, rules)
    whole = explainer(tokens, [0, 1, 2])
    for n in range(3):
        close(explainer(tokens[n : n + 1], n), whole[n : n + 1], 1e-4)
    close(explainer(tokens, [0, 1, 2], batch_size=2), whole, 1e-4)
    nested = keras.Sequential([keras.Input((TOKENS, WIDTH)), keras.Model(model.input, model.output, name="inner")])
    close(vis.LRP(nested, rules)(tokens, [0, 1, 2]), whole, 1e-4)


def test_the_shares_of_a_similarity_sum_to_it(tokens, rng):
    """No scale of the output changes a cosine, so that plain shares of it would sum to 0."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(6, use_bias=False)(x))
    inputs, other = rng.normal(size=(3, 4)).astype("float32"), rng.normal(size=(3, 6)).astype("float32")
    outputs = value_of(model(inputs))
    cosine = (outputs * other).sum(axis=1) / np.linalg.norm(outputs, axis=1) / np.linalg.norm(other, axis=1)
    close(vis.LRP(model, "epsilon")(inputs, Similarity(other)).sum(axis=1), cosine, 1e-4)
    plain = vis.GradientTimesInput(model)(inputs, Similarity(other))
    assert np.abs(plain.sum(axis=1)).max() < 1e-4
    groups = vis.LRP(model, "epsilon")(inputs, Similarity(other), batch_size=1)
    close(groups.sum(axis=1), cosine, 1e-4)
