"""Attention: weights, their gradients, rollout and relevance, on Keras's layers and on code of one's own."""

import copy
import pickle

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers, ops
from keras.ops import softmax as imported_softmax

import vis
from vis.engine.insides import attention_of
from vis.utils.validation import VisualizationWarning

TOKENS, WIDTH = 5, 8


def close(got, wanted, tolerance):
    """Compares relative to the largest number."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1e-9))


@pytest.fixture
def tokens(rng):
    return rng.normal(size=(3, TOKENS, WIDTH)).astype("float32")


class OwnAttention(layers.Layer):
    """Attention in code of its own, with operators, one dense layer for all three parts, and two heads."""

    def __init__(self, **options):
        super().__init__(**options)
        self.all_parts, self.last = layers.Dense(3 * WIDTH), layers.Dense(WIDTH)

    def call(self, x):
        length = x.shape[1]
        parts = ops.transpose(ops.reshape(self.all_parts(x), (-1, length, 3, 2, WIDTH // 2)), (2, 0, 3, 1, 4))
        query, key, value = ops.unstack(parts, axis=0)
        weights = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / 2.0, axis=-1)
        return self.last(ops.reshape(ops.transpose(weights @ value, (0, 2, 1, 3)), (-1, length, WIDTH)))


class FusedAttention(layers.Layer):
    """Attention by the fused operation, with fewer heads for keys than for queries, causal."""

    def __init__(self, **options):
        super().__init__(**options)
        self.query, self.key, self.value = (
            layers.EinsumDense("btd,dnh->btnh", (None, heads, 2)) for heads in (4, 2, 2)
        )
        self.last = layers.Dense(WIDTH)

    def call(self, x):
        mixed = ops.dot_product_attention(self.query(x), self.key(x), self.value(x), is_causal=True)
        return self.last(ops.reshape(mixed, (-1, x.shape[1], WIDTH)))


def self_attention(kind):
    """Returns a function of tokens for each kind of attention."""
    return {
        "multi-head": lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x, x),
        "causal": lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x, x, use_causal_mask=True),
        "grouped": lambda x: layers.GroupQueryAttention(4, 4, 2, name="attention")(x, x),
        "dot": lambda x: layers.Attention(name="attention")([x, x]),
        "additive": lambda x: layers.AdditiveAttention(name="attention")([x, x]),
        "own": OwnAttention(name="attention"),
        "fused": FusedAttention(name="attention"),
    }[kind]


KINDS = ("multi-head", "causal", "grouped", "dot", "additive", "own", "fused")


def pooled(kind, classes=3):
    x = tokens = keras.Input((TOKENS, WIDTH))
    x = layers.Add()([x, self_attention(kind)(x)])
    return keras.Model(tokens, layers.Dense(classes, name="head")(layers.GlobalAveragePooling1D()(x)))


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def by_hand(kind, layer, x):
    """Returns the weights that a layer's own numbers make, from the formula softmax(q k / sqrt d)."""
    w = {one.path.split("attention/", 1)[-1]: value_of(one) for one in layer.weights}
    if kind == "dot":
        return softmax(x @ x.transpose(0, 2, 1))
    if kind == "additive":
        return softmax((w["scale"] * np.tanh(x[:, :, None] + x[:, None])).sum(axis=-1))
    if kind == "own":
        (kernel, bias) = (value_of(one) for one in layer.all_parts.weights)
        query, key, _ = (x @ kernel + bias).reshape(3, TOKENS, 3, 2, 4).transpose(2, 0, 3, 1, 4)
        return softmax(query @ key.transpose(0, 1, 3, 2) / 2)
    query, key = (layer.query, layer.key) if kind == "fused" else (None, None)
    if query is None:
        inner = {one.name: one for one in layer._flatten_layers(include_self=False)}
        query, key = inner["query"], inner["key"]
    q, k = (np.einsum("ntd,dhw->nhtw", x, value_of(one.kernel)) for one in (query, key))
    for array, one in ((q, query), (k, key)):
        array += value_of(one.bias)[None, :, None] if one.bias is not None else 0
    k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
    return softmax(np.where(np.tri(TOKENS) > 0, scores, -1e9) if kind in ("causal", "fused") else scores)


class ImportedAttention(OwnAttention):
    """The same by a function that this module has imported by its name."""

    def call(self, x):
        parts = ops.reshape(self.all_parts(x), (-1, TOKENS, 3, 2, 4))
        query, key, value = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), axis=0)
        mixed = imported_softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / 2.0, axis=-1) @ value
        return self.last(ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, TOKENS, WIDTH)))


# --- weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_the_softmax_of_the_layers_own_scores(kind, tokens):
    model = pooled(kind)
    before = value_of(model(tokens))
    (path, weights), *others = vis.attention_maps(model, tokens, batch_size=2).items()
    assert path == "attention" and not others and weights.dtype == "float32"
    close(weights, by_hand(kind, model.get_layer("attention"), tokens), 1e-5)
    close(weights.sum(axis=-1), np.ones(weights.shape[:-1]), 1e-5)
    np.testing.assert_array_equal(value_of(model(tokens)), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_the_same_with_attention_taken_apart(kind, tokens):
    """An explainer that looks at weights gets the score of the model as it is: the gradient of the input agrees."""
    model = pooled(kind)
    plain = vis.Saliency(model)(tokens, 1)
    close(vis.Saliency(model, vis.backprop_modifiers.Composite([("attention", _Nothing())]))(tokens, 1), plain, 1e-5)


class _Nothing:
    """A rule of attention that changes nothing."""

    name = "nothing"
    within = vis.backprop_modifiers.AttentionHalves().within.__class__(weights=lambda x: x)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_weights_are_those_of_finite_differences(kind, tokens):
    """The score is linear in the weights: w_out of the mixture; so a change of one weight tells its gradient."""
    model = pooled(kind)
    weights, gradients = vis.attention_gradients(model, tokens, target=1)["attention"]
    assert gradients.shape == weights.shape and np.abs(gradients).max() > 0
    head = 0 if weights.ndim == 4 else ()
    for query, key in ((0, 1), (3, 2)):
        step = np.zeros(weights.shape[1:], "float32")
        step[(*np.atleast_1d(head).astype(int), query, key)] = 0.5
        up, down = (score_with(model, tokens, sign * step) for sign in (1, -1))
        index = (slice(None), *np.atleast_1d(head).astype(int), query, key)
        close(gradients[index], up - down, 2e-4)


def score_with(model, tokens, step):
    """Returns the scores of class 1 where a number is added to the weights of the attention."""
    from vis.engine.insides import Hooks, hooked
    from vis.engine.taps import shadowed, surgery

    hooks = {id(model.get_layer("attention")): Hooks(weights=lambda x: x + ops.convert_to_tensor(step))}
    with surgery(), shadowed(hooked(model, hooks)):
        return value_of(model(tokens))[:, 1]


def test_masked_tokens_get_nothing(rng):
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(9, WIDTH, mask_zero=True, name="embedding")(words)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(words, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    ids = np.array([[3, 4, 5, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    weights = vis.attention_maps(model, ids)["attention"]
    assert weights[0, :, :3, 3:].max() < 1e-6 < weights[1, :, :, 3:].min()
    for explainer in (vis.AttentionRelevance(model), vis.AttentionRollout(model)):
        relevance = explainer(ids, 1)
        assert relevance.shape == (2, 6) and np.abs(relevance[0, 3:]).max() < 1e-6 < relevance[1, 3:].max()


def test_a_layer_that_runs_twice_has_two_entries(tokens):
    shared = layers.MultiHeadAttention(2, 4, name="attention")
    x = tokens_in = keras.Input((TOKENS, WIDTH))
    x = shared(shared(x, x), x)
    maps = vis.attention_maps(keras.Model(tokens_in, x), tokens)
    assert list(maps) == ["attention:0", "attention:1"]
    assert np.abs(maps["attention:0"] - maps["attention:1"]).max() > 1e-4
    close(
        vis.attention_maps(keras.Model(tokens_in, x), tokens, layers="attention:1")["attention:1"],
        maps["attention:1"],
        1e-6,
    )


def test_a_model_runs_no_further_than_the_last_layer_that_is_asked_for(tokens):
    model = stacked()
    ran = []
    tail = model.get_layer("head")
    original = tail.call
    tail.call = lambda *args, **kwargs: ran.append(1) or original(*args, **kwargs)
    maps = vis.attention_maps(model, tokens, layers=["block0"])
    assert list(maps) == ["block0"]
    ran.clear()
    vis.attention_maps(model, tokens, layers="block1")
    assert not ran  # which attentions there are is known, and how often they run


def test_softmaxes_that_are_no_attention_are_not_taken_for_one(rng):
    class Segmenter(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.softmax = layers.Conv2D(4, 1), layers.Softmax()

        def call(self, x):
            return self.softmax(self.conv(x))

    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = Segmenter()

        def call(self, x):
            return ops.mean(self.inner(x), axis=(1, 2))

    with pytest.raises(ValueError, match="no attention that can be seen"):
        vis.attention_maps(Holder(), rng.random((2, 4, 4, 3), dtype="float32"))


def test_attention_of_bare_operations_in_a_graph(tokens):
    x = tokens_in = keras.Input((TOKENS, WIDTH))
    heads = ops.reshape(x, (-1, TOKENS, 2, WIDTH // 2))
    fused = ops.dot_product_attention(heads, heads, heads)
    weights = ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))) / 3.0)
    model = keras.Model(tokens_in, ops.reshape(fused, (-1, TOKENS, WIDTH)) + ops.matmul(weights, x))
    first, second = sorted(vis.attention_maps(model, tokens).values(), key=lambda one: -one.ndim)
    heads = tokens.reshape(3, TOKENS, 2, 4).transpose(0, 2, 1, 3)
    close(first, softmax(heads @ heads.transpose(0, 1, 3, 2) / 2), 1e-5)
    close(second, softmax(tokens @ tokens.transpose(0, 2, 1) / 3), 1e-5)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"mask": True}])
def test_fused_attention_is_taken_apart_rightly(options, rng):
    query, key, value = (rng.normal(size=(2, n, h, 4)).astype("float32") for n, h in ((5, 4), (5, 2), (5, 2)))
    options = {**options, **({"mask": rng.random((2, 1, 5, 5)) > 0.3} if "mask" in options else {})}
    if "mask" in options:
        options["mask"][..., 0] = True
        options["mask"] = ops.convert_to_tensor(options["mask"])
    arguments = [ops.convert_to_tensor(one) for one in (query, key, value)]
    close(
        value_of(attention_of(*arguments, **options)), value_of(ops.dot_product_attention(*arguments, **options)), 1e-5
    )


def test_scores_can_be_capped(rng):
    query, key, value = (rng.normal(size=(1, 3, 1, 2)).astype("float32") for _ in range(3))
    got = value_of(attention_of(query, key, value, scale=1.0, attn_logits_soft_cap=0.5))
    scores = np.einsum("nqhw,nkhw->nhqk", query, key)
    close(got, np.einsum("nhqk,nkhw->nqhw", softmax(0.5 * np.tanh(scores / 0.5)), value), 1e-5)


# --- relevance and rollout


def stacked(kind="multi-head", read="mean"):
    """Returns a model of two blocks whose score is read from the mean of the tokens, the first, or the last one."""
    x = tokens = keras.Input((TOKENS, WIDTH))
    for i in range(2):
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"block{i}")(x, x)])
    if read == "mean":
        x = layers.GlobalAveragePooling1D()(x)
    else:
        x = x[:, 0 if read == "first" else -1]
    return keras.Model(tokens, layers.Dense(3, name="head")(x))


READ = {"mean": np.full(TOKENS, 1 / TOKENS), "first": np.eye(TOKENS)[0], "last": np.eye(TOKENS)[-1]}


@pytest.mark.parametrize("read", READ)
def test_relevance_is_that_of_the_paper(read, tokens):
    """Chefer et al. 2021, equations 5 and 6, with loops; the tokens that are read are found."""
    model = stacked(read=read)
    pairs = vis.attention_gradients(model, tokens, target=1)
    wanted = []
    for n in range(3):
        relevance = np.eye(TOKENS)
        for weights, gradients in pairs.values():
            added = np.zeros((TOKENS, TOKENS))
            for head in range(2):
                added += np.maximum(gradients[n, head] * weights[n, head], 0) / 2
            relevance = relevance + added @ relevance
        wanted.append(READ[read] @ (relevance - np.eye(TOKENS)))
    got = vis.AttentionRelevance(model)(tokens, 1)
    assert got.min() >= 0 and got.dtype == "float32"
    close(got, np.array(wanted), 1e-5)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("read", READ)
def test_rollout_is_that_of_the_paper(read, fusion, tokens):
    """Abnar & Zuidema 2020: the product over layers of the row-normalised mean over heads of A + I."""
    model = stacked(read=read)
    wanted = np.repeat(np.eye(TOKENS)[None], 3, axis=0)
    for weights in vis.attention_maps(model, tokens).values():
        mixed = getattr(np, fusion)(weights, axis=1) + np.eye(TOKENS)
        wanted = mixed / mixed.sum(axis=-1, keepdims=True) @ wanted
    got = vis.AttentionRollout(model, fusion)(tokens)
    close(got, READ[read] @ wanted, 1e-5)
    close(got.sum(axis=1), np.ones(3), 1e-5)


def test_rollout_discards_the_smallest_weights(tokens):
    model = stacked()
    wanted = np.repeat(np.eye(TOKENS)[None], 3, axis=0)
    for weights in vis.attention_maps(model, tokens).values():
        fused = weights.mean(axis=1)
        for one in fused:
            one[one < np.quantile(one, 0.5)] = 0
        mixed = fused + np.eye(TOKENS)
        wanted = mixed / mixed.sum(axis=-1, keepdims=True) @ wanted
    got = vis.AttentionRollout(model, discard=0.5)(tokens)
    close(got, wanted.mean(axis=1), 1e-5)
    assert np.abs(got - vis.AttentionRollout(model)(tokens)).max() > 1e-3


def encoder_decoder(targets=4, sources=6):
    source, target = (
        keras.Input((count, WIDTH), name=name) for count, name in ((sources, "source"), (targets, "target"))
    )
    x = layers.Add()([source, layers.MultiHeadAttention(2, 4, name="encoder")(source, source)])
    y = layers.Add()([target, layers.MultiHeadAttention(2, 4, name="decoder")(target, target)])
    y = layers.Add()([y, layers.MultiHeadAttention(2, 4, name="cross")(y, x)])
    y = layers.Add()([y, layers.MultiHeadAttention(2, 4, name="decoder1")(y, y)])
    return keras.Model([source, target], layers.Dense(3)(y[:, -1]))


def test_relevance_passes_cross_attention_by_the_papers_rule(rng):
    """Chefer et al. 2021, equations 6 to 11, with the streams written out."""
    model, (t, s) = encoder_decoder(), (4, 6)
    inputs = [rng.normal(size=(2, count, WIDTH)).astype("float32") for count in (s, t)]
    pairs = vis.attention_gradients(model, inputs, target=2)

    def raised(name, n):
        weights, gradients = pairs[name]
        return np.maximum(weights[n] * gradients[n], 0).mean(axis=0)

    def normalized(own):
        rest = own - np.eye(len(own))
        sums = rest.sum(axis=1, keepdims=True)
        return rest / np.where(sums > 0, sums, 1) + np.eye(len(own))

    sources, targets = [], []
    for n in range(2):
        ss, tt, ts = np.eye(s), np.eye(t), np.zeros((t, s))
        ss = ss + raised("encoder", n) @ ss
        tt = tt + raised("decoder", n) @ tt
        ts = ts + normalized(tt).T @ raised("cross", n) @ normalized(ss)
        own = raised("decoder1", n)
        tt, ts = tt + own @ tt, ts + own @ ts
        sources.append(ts[-1])
        targets.append(tt[-1] - np.eye(t)[-1])
    close(vis.AttentionRelevance(model)(inputs, 2), np.array(sources), 1e-4)
    close(vis.AttentionRelevance(model, layer="decoder")(inputs, 2), np.array(targets), 1e-4)


def small_vit(extra=1, size=(16, 24), patch=4):
    """Returns a small vision transformer with some tokens before the patches, read from the first one."""
    images = keras.Input((*size, 3))
    x = layers.Conv2D(WIDTH, patch, patch, data_format="channels_last")(images)
    x = layers.Reshape((-1, WIDTH))(x)
    if extra:
        x = layers.Concatenate(axis=1)([ops.zeros_like(x[:, :extra]) + 0.3, x])
    for i in range(2):
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"block{i}")(x, x)])
    x = x[:, 0] if extra else layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(3)(x))


@pytest.mark.parametrize("method", [vis.AttentionRelevance, vis.AttentionRollout])
@pytest.mark.parametrize("extra", [0, 1, 2, 5])
def test_tokens_of_images_are_put_on_their_grid(method, extra, rng):
    model, images = small_vit(extra), rng.random((2, 16, 24, 3), dtype="float32")
    maps = method(model, upsample=False)(images, 1)
    assert maps.shape == (2, 4, 6)
    assert method(model)(images, 1).shape == (2, 16, 24)
    close(method(model, tokens=extra, upsample=False)(images, 1), maps, 1e-6)
    close(method(model, tokens=list(range(extra)), upsample=False)(images, 1), maps, 1e-6)


def test_tokens_that_stand_elsewhere_can_be_named(rng):
    images = keras.Input((8, 8, 3))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 4, 4, data_format="channels_last")(images))
    x = layers.Concatenate(axis=1)([x, ops.zeros_like(x[:, :3])])  # behind the patches
    x = layers.MultiHeadAttention(2, 4)(x, x)
    model = keras.Model(images, layers.Dense(2)(x[:, -1]))
    photos = rng.random((2, 8, 8, 3), dtype="float32")
    with pytest.raises(ValueError, match="7 tokens lie on no grid.*tokens="):
        vis.AttentionRollout(model)(photos)
    with pytest.raises(ValueError, match="without the 2 that `tokens` names"):
        vis.AttentionRollout(model, tokens=2)(photos)
    with pytest.raises(ValueError, match="without the 3 that `tokens` names"):
        vis.AttentionRollout(model, tokens=[0, 1, 99])(photos)
    for places in ([-8, -1], [6, -1, 5]):  # too far, one of them twice
        with pytest.raises(ValueError, match="on no grid.*`tokens=\\[-3, -2, -1\\]` for three behind") as caught:
            vis.AttentionRollout(model, tokens=places)(photos)
        assert len(str(caught.value)) < 400
    got = vis.AttentionRollout(model, tokens=[4, 5, 6], upsample=False)(photos)
    for places in ([-3, -2, -1], [-1, 4, -2], range(-3, 0)):
        close(vis.AttentionRollout(model, tokens=places, upsample=False)(photos), got, 1e-6)
    (weights,) = vis.attention_maps(model, photos).values()
    mixed = (weights.mean(axis=1) + np.eye(7)) / 2
    close(got, mixed[:, -1, :4].reshape(2, 2, 2), 1e-5)


@pytest.mark.parametrize("method", [vis.AttentionRelevance, vis.AttentionRollout])
def test_laws(method, tokens):
    """Batched is looped, chunked is whole, a permuted batch gives permuted maps, copies and pickles agree."""
    model = stacked(read="first")
    explainer = method(model)
    whole = explainer(tokens, [0, 1, 2])
    for n in range(3):
        close(explainer(tokens[n : n + 1], n), whole[n : n + 1], 1e-5)
    close(explainer(tokens, [0, 1, 2], batch_size=2), whole, 1e-5)
    close(explainer(tokens[::-1], [2, 1, 0]), whole[::-1], 1e-5)
    for other in (copy.deepcopy(explainer), pickle.loads(pickle.dumps(explainer))):
        close(other(tokens, [0, 1, 2]), whole, 1e-5)
    inner = keras.Model(model.input, model.output, name="inner")
    nested = keras.Sequential([keras.Input((TOKENS, WIDTH)), inner])
    close(method(nested)(tokens, [0, 1, 2]), whole, 1e-5)


def test_which_attention_is_read_is_asked_of_each_sample(rng):
    x = tokens = keras.Input((TOKENS, WIDTH))
    first = layers.Add()([x, layers.MultiHeadAttention(1, 4)(x, x)])
    second = layers.MultiHeadAttention(1, 4)(first, first)
    last = layers.Activation("relu")(second[:, 0, :1])  # off for some samples
    model = keras.Model(tokens, layers.Dense(2)(layers.Concatenate()([layers.Dense(1)(first[:, 1]), last])))
    inputs = rng.normal(size=(12, TOKENS, WIDTH)).astype("float32")
    explainer = vis.AttentionRelevance(model)
    alone = np.concatenate([explainer(one[None], 1) for one in inputs])
    close(explainer(inputs, 1), alone, 1e-5)


@pytest.mark.parametrize("method", [vis.AttentionRelevance, vis.AttentionRollout])
def test_texts_may_have_any_length(method, rng):
    x = tokens = keras.Input((None, WIDTH))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    explainer = method(keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))))
    for length in (6, 9, 4, 6):
        maps = explainer(rng.random((2, length, WIDTH), dtype="float32"), 1)
        assert maps.shape == (2, length) and np.abs(maps).max() > 0


def test_the_target_decides(tokens):
    explainer = vis.AttentionRelevance(stacked())
    assert np.abs(explainer(tokens, 0) - explainer(tokens, 1)).max() > 1e-3


# --- harm


def footprint(model):
    """Returns what must be the same afterwards."""
    parts = [sorted(vars(layer)) for layer in model._flatten_layers()]
    functions = [vars(module)[n] for module in (ops, ops.nn, keras.activations) for n in ("softmax", "gelu", "relu")]
    return parts, [id(one) for one in functions], id(ops.dot_product_attention), id(ops.multiply)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind(kind, tokens):
    model = pooled(kind)
    model(tokens)
    before = footprint(model)
    vis.attention_maps(model, tokens)
    vis.AttentionRelevance(model)(tokens, 1)
    vis.LRP(model, "attention")(tokens, 1)
    assert footprint(model) == before

    def fails(outputs):
        raise KeyError("of the user")

    with pytest.raises(KeyError):
        vis.AttentionRelevance(model)(tokens, fails)
    assert footprint(model) == before


def test_flash_attention_is_put_back(tokens):
    model = pooled("multi-head")
    layer = model.get_layer("attention")
    layer._flash_attention = True  # which hides the weights where a GPU has it
    weights = vis.attention_maps(model, tokens)["attention"]
    assert layer._flash_attention is True
    close(weights, by_hand("multi-head", layer, tokens), 1e-5)


class Distances(layers.Layer):
    """A softmax of each token's numbers, of which the largest are taken: no attention."""

    def call(self, x):
        shares = ops.softmax(ops.reshape(x, (-1, TOKENS, 2, WIDTH // 2)), axis=-1)
        return ops.concatenate([ops.top_k(shares, 2)[0], ops.mean(shares, axis=-1, keepdims=True)], axis=-1)


class Telling(OwnAttention):
    """Attention that gives its weights away, too."""

    def call(self, x):
        parts = ops.reshape(self.all_parts(x), (-1, TOKENS, 3, 2, 4))
        query, key, value = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), axis=0)
        weights = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / 2.0, axis=-1)
        return self.last(ops.reshape(ops.transpose(weights @ value, (0, 2, 1, 3)), (-1, TOKENS, WIDTH))), weights


def test_a_softmax_that_mixes_nothing_is_no_attention(tokens):
    inputs = keras.Input((TOKENS, WIDTH))
    head = layers.Flatten()(Distances(name="head")(inputs))
    with pytest.raises(ValueError, match="no attention that can be seen"):
        vis.attention_maps(keras.Model(inputs, head), tokens)
    layer = Telling(name="attention")
    model = keras.Model(inputs, layers.Flatten()(Distances(name="head")(layer(inputs)[0])))
    (found,) = vis.attention_maps(model, tokens).items()
    assert found[0] == "attention"
    close(found[1], by_hand("own", layer, tokens), 1e-5)
    close(found[1], value_of(layer(tokens)[1]), 1e-5)


def test_a_softmax_that_was_imported_by_its_name_is_seen(tokens):
    before, layer = imported_softmax, ImportedAttention(name="attention")
    inputs = keras.Input((TOKENS, WIDTH))
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(layer(inputs)))
    (weights,) = vis.attention_maps(model, tokens).values()
    close(weights, by_hand("own", layer, tokens), 1e-5)
    assert imported_softmax is before is keras.ops.softmax


@pytest.mark.parametrize("own", [False, True])
def test_attentions_side_by_side_are_added(own, tokens):
    """y = x + A x + B x: the relevance is I + A + B, and no B A."""
    inputs = keras.Input((TOKENS, WIDTH))
    pair = [OwnAttention(), OwnAttention()] if own else [layers.MultiHeadAttention(2, 4) for _ in range(2)]
    one, other = (layer(inputs) if own else layer(inputs, inputs) for layer in pair)
    x = layers.Add()([inputs, one, other])
    third = OwnAttention(name="third")(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Add()([x, third]))))
    first, second, last = (weights.mean(axis=1) for weights in vis.attention_maps(model, tokens).values())
    eye = np.eye(TOKENS)
    wanted = ((last + eye) / 2 @ ((first + second + eye) / 3)).mean(axis=1)
    close(vis.AttentionRollout(model)(tokens), wanted, 1e-5)
    parts = [
        np.maximum(weights * gradients, 0).mean(axis=1)
        for weights, gradients in vis.attention_gradients(model, tokens, 1).values()
    ]
    wanted = ((parts[2] + eye) @ (parts[0] + parts[1] + eye) - eye).mean(axis=1)
    close(vis.AttentionRelevance(model)(tokens, 1), wanted, 1e-5)


# --- errors


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda m, x: vis.AttentionRollout(m, "sum"), ValueError, "head_fusion.*mean"),
        (lambda m, x: vis.AttentionRollout(m, discard=1), ValueError, r"`discard` must be in \[0, 1\)"),
        (lambda m, x: vis.AttentionRollout(m, discard=-0.1), ValueError, "discard"),
        (lambda m, x: vis.AttentionRelevance(m, tokens="cls"), TypeError, "`tokens` must be how many"),
        (lambda m, x: vis.AttentionRelevance(m, tokens=-1), ValueError, "tokens"),
        (lambda m, x: vis.AttentionRelevance(m, tokens=2)(x), ValueError, "tokens=\\[0, 1\\], but .* of no image"),
        (lambda m, x: vis.AttentionRelevance(m, tokens=[0, 0]), TypeError, "tokens"),
        (lambda m, x: vis.AttentionRelevance(m, layer="head")(x), ValueError, "layers with attention.*block0"),
        (lambda m, x: vis.AttentionRelevance(m, layer="blok0")(x), ValueError, "block0"),
        (lambda m, x: vis.attention_maps(m, x, layers="head"), ValueError, "layers with attention.*block0"),
        (lambda m, x: vis.attention_maps(m, x, layers=[]), ValueError, "at least one layer"),
        (lambda m, x: vis.attention_maps(m, x, batch_size=0), ValueError, "batch_size"),
        (lambda m, x: vis.attention_maps(m, x[0]), ValueError, "batch axis"),
        (lambda m, x: vis.attention_gradients(m, x, 5), ValueError, "target"),
        (lambda m, x: vis.attention_maps(3, x), TypeError, "Keras 3 model"),
    ],
)
def test_errors_say_how_to_mend(call, error, words, tokens):
    with pytest.raises(error, match=words) as caught:
        call(stacked(), tokens)
    assert len(str(caught.value)) < 400


def test_models_without_attention_are_refused(rng):
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(2), layers.Dense(2)])
    inputs = rng.random((1, 4, 3), dtype="float32")
    for call in (
        vis.attention_maps,
        lambda m, x: vis.AttentionRelevance(m)(x),
        lambda m, x: vis.AttentionRollout(m)(x),
    ):
        with pytest.raises(ValueError, match="no attention that can be seen.*vis.GradCAM") as caught:
            call(model, inputs)
        assert len(str(caught.value)) < 400


def test_streams_of_equal_length_are_refused(rng):
    inputs = [rng.normal(size=(2, 4, WIDTH)).astype("float32") for _ in range(2)]
    with pytest.raises(ValueError, match="different numbers of tokens"):
        vis.AttentionRelevance(encoder_decoder(4, 4))(inputs, 1)
    with pytest.raises(ValueError, match="one stream.*AttentionRelevance"):
        vis.AttentionRollout(encoder_decoder())([rng.normal(size=(2, n, WIDTH)).astype("float32") for n in (6, 4)], 1)


def test_tokens_that_are_joined_on_the_way_are_refused(tokens):
    x = tokens_in = keras.Input((6, WIDTH))
    x = layers.MultiHeadAttention(2, 4, name="fine")(x, x)
    x = layers.AveragePooling1D(2, data_format="channels_last")(x)
    x = layers.MultiHeadAttention(2, 4, name="coarse")(x, x)
    model = keras.Model(tokens_in, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    inputs = np.random.default_rng(0).random((2, 6, WIDTH), dtype="float32")
    with pytest.raises(ValueError, match="joins tokens on the way"):
        vis.AttentionRelevance(model)(inputs, 1)
    assert vis.AttentionRelevance(model, layer="coarse")(inputs, 1).shape == (2, 3)


def test_a_score_that_no_attention_matters_for_is_refused(tokens):
    x = tokens_in = keras.Input((TOKENS, WIDTH))
    attended = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(x, x))
    outputs = layers.Concatenate()([layers.Dense(1)(attended), layers.Dense(1)(layers.GlobalAveragePooling1D()(x))])
    model = keras.Model(tokens_in, outputs)
    with pytest.raises(ValueError, match="No attention leads from what the score is read from"):
        vis.AttentionRelevance(model)(tokens, 1)


def test_reduced_keys_are_refused(rng):
    class Reduced(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.last = layers.Dense(WIDTH)

        def call(self, x):
            keys = x[:, ::2]
            weights = ops.softmax(ops.einsum("nqw,nkw->nqk", x, keys)[:, None])
            return self.last(ops.einsum("nhqk,nkw->nqw", weights, keys))

    tokens = keras.Input((6, WIDTH))
    model = keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(Reduced(name="reduced")(tokens))))
    inputs = rng.random((2, 6, WIDTH), dtype="float32")
    assert vis.attention_maps(model, inputs)["reduced"].shape == (2, 1, 6, 3)
    with pytest.raises(ValueError, match="fewer keys than tokens") as caught:
        vis.AttentionRelevance(model)(inputs, 1)
    assert len(str(caught.value)) < 400


def test_no_warnings_of_the_models_own(tokens, recwarn):
    vis.LRP(stacked(), "attention")(tokens, 1)
    assert not [one for one in recwarn if issubclass(one.category, VisualizationWarning)]


# --- class activation maps of tokens that are named


def behind(count=3):
    """Returns a vision transformer with some tokens behind the patches, read from all."""
    images = keras.Input((8, 8, 3))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 4, 4, data_format="channels_last")(images))
    x = layers.Concatenate(axis=1)([x, ops.zeros_like(x[:, :count]) + 0.2])
    x = layers.Dense(6, activation="relu", name="tokens")(x)
    return keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize(
    "method", [vis.GradCAM, vis.HiResCAM, vis.LayerCAM, vis.EigenCAM, vis.ScoreCAM, vis.AblationCAM]
)
def test_class_activation_maps_take_the_places_of_other_tokens(method, rng):
    model, photos = behind(), rng.random((2, 8, 8, 3), dtype="float32")
    got = method(model, "tokens", tokens=[4, 5, 6], upsample=False)(photos, 1)
    close(method(model, "tokens", tokens=[-3, -2, -1], upsample=False)(photos, 1), got, 1e-6)
    assert got.shape == (2, 2, 2)
    if method is vis.HiResCAM:
        values = vis.visualization.activations(model, "tokens", photos)[:, :4]
        weights = value_of(model.layers[-1].kernel)[:, 1] / 7
        close(got, np.maximum(values @ weights, 0).reshape(2, 2, 2), 1e-5)
    with pytest.raises(ValueError, match="without 2 of them.*tokens=") as caught:
        method(model, "tokens", tokens=2)(photos, 1)
    assert len(str(caught.value)) < 400


def test_guided_grad_cam_takes_the_places_of_other_tokens(rng):
    photos = rng.random((2, 8, 8, 3), dtype="float32")
    assert vis.GuidedGradCAM(behind(), "tokens", tokens=[4, 5, 6])(photos, 1).shape == photos.shape
