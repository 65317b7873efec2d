"""Text: the embedding of token ids, ids as baselines, tokens that are hidden, and what generated tokens took."""

import warnings

import keras
import numpy as np
import pytest
import zoo
from conftest import slow, value_of
from keras import layers, ops
from zoo import hub

import vis
from vis.targets import NextToken
from vis.utils.validation import VisualizationWarning

IDS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 8, 7]])
TOKENS = {"input_layer": "tokens"}


class Places(layers.Layer):
    """Adds an embedding of the positions, whose ids are no input."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = layers.Embedding(20, 4, name="places")

    def call(self, x):
        return x + self.table(ops.arange(x.shape[1]))


def read(x):
    """What a small network makes of vectors."""
    x = layers.Conv1D(5, 2, padding="causal", activation="tanh", name="conv")(Places(name="positions")(x))
    return layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x))


def classifier(dtype="int32", length=6):
    ids = keras.Input((length,), dtype=dtype, name="ids")
    return zoo.set_weights(keras.Model(ids, read(layers.Embedding(11, 4, name="words")(ids))))


def nested():
    inner = classifier()
    ids = keras.Input((6,), dtype="int32", name="text")
    return keras.Model(ids, inner(ids))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.words, self.rest = layers.Embedding(11, 4, name="words"), Places()
        self.head = layers.Dense(3)

    def call(self, ids):
        return self.head(ops.mean(ops.tanh(self.rest(self.words(ids))), axis=1))


def subclassed():
    model = Subclassed()
    model(ops.convert_to_tensor(IDS))
    return zoo.set_weights(model)


def padded_model(mask="int32"):
    """Averages over what is no padding; texts of any length."""
    names = ("token_ids", "padding_mask", "segment_ids")
    inputs = {n: keras.Input((None,), dtype=mask if n == "padding_mask" else "int32", name=n) for n in names}
    x = layers.Embedding(11, 4, name="words")(inputs["token_ids"])
    x = layers.Dense(6, activation="tanh")(x + layers.Embedding(2, 4, name="segments")(inputs["segment_ids"]))
    kept = ops.cast(inputs["padding_mask"], "float32")[..., None]
    x = ops.sum(x * kept, axis=1) / ops.sum(kept, axis=1)
    return zoo.set_weights(keras.Model(inputs, layers.Dense(3)(x)))


def padded(kept=(6, 4)):
    mask = (np.arange(6) < np.array(kept)[:, None]).astype("int32")
    return {"token_ids": IDS * mask, "padding_mask": mask, "segment_ids": np.zeros_like(mask)}


def language_model(length=6, causal=True):
    ids = keras.Input((length,), dtype="int32")
    x = layers.Embedding(11, 4, name="words")(ids)
    x = layers.Conv1D(8, 3, padding="causal" if causal else "same", activation="tanh")(x)
    return zoo.set_weights(keras.Model(ids, layers.Dense(11)(x)))


def scores(model, inputs, target=1):
    return value_of(model(keras.tree.map_structure(ops.convert_to_tensor, inputs)))[:, target]


# --- the embedding is found


@pytest.mark.parametrize("make", [classifier, lambda: classifier("int64"), lambda: classifier("float32")])
def test_tokens_are_the_embedding_of_the_input(make):
    model = make()
    explainer = vis.GradientTimesInput(model, **TOKENS)
    got = explainer(IDS, 1)
    np.testing.assert_array_equal(got, vis.GradientTimesInput(model, input_layer="words")(IDS, 1))
    assert got.shape == (2, 6, 4) and explainer.site.layer(model).name == "words"


@pytest.mark.parametrize("make", [nested, subclassed])
def test_the_embedding_may_be_anywhere(make):
    model = make()
    got = vis.Saliency(model, **TOKENS)(IDS, 1)
    np.testing.assert_array_equal(got, vis.Saliency(model, input_layer="words")(IDS, 1))


@pytest.mark.parametrize("mask", ["int32", "float32", "bool"])
def test_masks_and_segments_are_no_tokens(mask):
    model = padded_model(mask)
    got = vis.Saliency(model, **TOKENS)(padded(), 1)
    np.testing.assert_array_equal(got, vis.Saliency(model, input_layer="words")(padded(), 1))
    assert np.abs(got[1, :4]).min() > 0 and not got[1, 4:].any()


def test_a_model_is_found_out_when_it_is_built():
    explainer = vis.Saliency(Subclassed(), **TOKENS)
    assert explainer(IDS, 1).shape == (2, 6, 4)


def test_of_unnamed_embeddings_one_is_meant_by_its_layers_name():
    ids, kinds = keras.Input((6,), dtype="int32"), keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 4, name="words")(ids) + layers.Embedding(2, 4, name="token_type_embedding")(kinds)
    model = zoo.set_weights(keras.Model([ids, kinds], read(x)))
    got = vis.Saliency(model, **TOKENS)([IDS, IDS % 2], 1)
    np.testing.assert_array_equal(got, vis.Saliency(model, input_layer="words")([IDS, IDS % 2], 1))


def test_a_layer_of_that_name_is_meant_itself():
    ids = keras.Input((6,), dtype="int32", name="tokens")  # an input is no layer that can be meant
    x = layers.Embedding(11, 4, name="words")(ids)
    model = zoo.set_weights(keras.Model(ids, read(x)))
    assert vis.Saliency(model, **TOKENS)(IDS, 1).shape == (2, 6, 4)
    ids = keras.Input((6,), dtype="int32")
    x = layers.Dense(7, name="tokens")(layers.Embedding(11, 4, name="words")(ids))
    model = zoo.set_weights(keras.Model(ids, layers.Dense(3)(layers.Flatten()(x))))
    assert vis.Saliency(model, **TOKENS)(IDS, 1).shape == (2, 6, 7)


def siamese():
    one, other = (keras.Input((6,), dtype="int32", name=name) for name in ("first", "second"))
    words = layers.Embedding(11, 4, name="words")
    return zoo.set_weights(keras.Model([one, other], read(words(one) * words(other))))


def refused(make, inputs, words):
    with pytest.raises(ValueError, match=words) as error:
        vis.Saliency(make(), **TOKENS)(inputs, 1)
    assert len(str(error.value)) < 400


def test_several_embeddings_are_named():
    refused(siamese, [IDS, IDS[::-1]], r"has 2: \('words', 0\) of `inputs\[0\]`, \('words', 1\) of `inputs\[1\]`")
    assert vis.Saliency(siamese(), input_layer=("words", 1))([IDS, IDS[::-1]], 1).shape == (2, 6, 4)


def test_what_is_no_embedding_of_the_input_is_said():
    refused(lambda: zoo.one_unit()[0], zoo.one_unit()[1], "which has no Embedding. Name the layer")
    ids = keras.Input((6,), dtype="int32")
    shifted = zoo.set_weights(keras.Model(ids, read(layers.Embedding(12, 4, name="words")(ids + 1))))
    refused(lambda: shifted, IDS, "take none of them as they are: 'words', 'positions/places'")


def test_the_caller_of_a_gradient_at_ids_is_told_of_the_embedding():
    for model, inputs in ((classifier(), IDS), (classifier("float32"), IDS), (padded_model("float32"), padded())):
        for explain in (vis.Saliency, vis.IntegratedGradients, vis.LRP, vis.SmoothGrad, vis.DeepLIFT):
            with pytest.raises(ValueError, match=rf"{explain.__name__}\(model, ..., input_layer='tokens'\)") as error:
                explain(model)(inputs, 1)
            assert "segment" not in str(error.value) and len(str(error.value)) < 400
    with pytest.raises(ValueError, match="`input_layer=` \\('tokens' finds the embedding"):
        vis.visualization.visualize_saliency(classifier(), -1, 0, IDS[0])
    with pytest.raises(ValueError, match="input_layer='tokens'"):
        vis.FullGrad(classifier())(IDS, 1)


# --- ids that there are


@pytest.mark.parametrize("make", [classifier, nested, subclassed, lambda: classifier("float32")])
@pytest.mark.parametrize("wrong", [11, -1])
def test_ids_outside_of_the_vocabulary_are_a_sentence(make, wrong):
    model, ids = make(), IDS.copy()
    ids[1, 2] = wrong
    for call in (
        lambda: vis.Saliency(model, **TOKENS)(ids, 1),
        lambda: vis.Occlusion(model)(ids, 1),
        lambda: vis.visualization.activations(model, "words", ids),
    ):
        with pytest.raises(ValueError, match=rf"token ids from 0 to 10.*words.*Received: {wrong} at \(1, 2\)") as error:
            call()
        assert len(str(error.value)) < 400


def test_ids_that_the_model_maps_are_its_own_affair():
    ids = keras.Input((6,), dtype="int32")
    model = zoo.set_weights(keras.Model(ids, read(layers.Embedding(5, 4, name="hashed")(ids % 5))))
    got = vis.Saliency(model, **TOKENS)(IDS + 100, 1)
    np.testing.assert_array_equal(got, vis.Saliency(model, **TOKENS)((IDS + 100) % 5, 1))


# --- laws of maps at the embedding


def explainers(model):
    return [
        vis.Saliency(model, **TOKENS),
        vis.GradientTimesInput(model, **TOKENS),
        vis.SmoothGrad(model, 5, seed=0, **TOKENS),
        vis.IntegratedGradients(model, 8, baseline=2, **TOKENS),
        vis.ExpectedGradients(model, IDS[::-1], 8, seed=0, **TOKENS),
        vis.DeepLIFT(model, baseline=2, **TOKENS),
        vis.LRP(model, "epsilon", **TOKENS),
        vis.Occlusion(model, baseline=2),
    ]


@pytest.mark.filterwarnings("ignore::vis.utils.validation.VisualizationWarning")
def test_samples_are_apart():
    for explainer in explainers(padded_model()):
        whole = explainer(padded(), 1)
        rows = [explainer({name: array[i : i + 1] for name, array in padded().items()}, 1) for i in range(2)]
        if not isinstance(explainer, vis.SmoothGrad):
            np.testing.assert_allclose(np.concatenate(rows), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::vis.utils.validation.VisualizationWarning")
def test_padding_changes_nothing_and_gets_nothing():
    short = {name: array[1:, :4] for name, array in padded().items()}
    model = padded_model()
    for explainer in explainers(model):
        if isinstance(explainer, (vis.SmoothGrad, vis.ExpectedGradients)):
            continue  # noise and background are those of the whole length
        whole, alone = explainer(padded(), 1)[1:], explainer(short, 1)
        np.testing.assert_allclose(whole[:, :4], alone, rtol=1e-4, atol=1e-6)
        assert not whole[:, 4:].any() and np.abs(alone).max() > 0


def test_gradients_are_slopes():
    """Of the table's row of a word that occurs once."""
    model, (ids, step) = classifier(), (IDS[1:], 1e-2)
    got = vis.Saliency(model, **TOKENS)(ids, 1)[0]
    layer = model.get_layer("words")
    (table,) = layer.get_weights()
    for place, channel in ((0, 1), (3, 0), (5, 3)):
        ends = []
        for sign in (1, -1):
            moved = table.copy()
            moved[ids[0, place], channel] += sign * step
            layer.set_weights([moved])
            ends.append(scores(model, ids)[0])
        np.testing.assert_allclose(got[place, channel], (ends[0] - ends[1]) / (2 * step), atol=1e-3)
    layer.set_weights([table])


# --- token ids as baselines


@pytest.mark.parametrize("baseline", [7, np.full((2, 6), 7, "int64"), *slow([7] * 6, np.full((1, 6), 7))])
def test_a_baseline_of_token_ids_is_embedded(baseline):
    model = classifier()
    explainer = vis.IntegratedGradients(model, 32, baseline=baseline, **TOKENS)
    missing = scores(model, IDS) - scores(model, np.full_like(IDS, 7))
    np.testing.assert_allclose(explainer(IDS, 1).sum(axis=(1, 2)), missing, atol=1e-4)
    vector = vis.visualization.activations(model, "words", np.full_like(IDS, 7))
    for given in (vector, vector[0, 0]):
        same = vis.IntegratedGradients(model, 32, baseline=given, **TOKENS)(IDS, 1)
        np.testing.assert_allclose(explainer(IDS, 1), same, rtol=1e-4, atol=1e-6)


def test_baselines_of_ids_are_those_of_each_token():
    model, baseline = classifier(), np.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
    got = vis.IntegratedGradients(model, 32, baseline=baseline, **TOKENS)(IDS, 1)
    np.testing.assert_allclose(got.sum(axis=(1, 2)), scores(model, IDS) - scores(model, baseline), atol=1e-4)
    guided = vis.GuidedIntegratedGradients(model, 300, baseline=baseline, **TOKENS)(IDS, 1)
    np.testing.assert_allclose(guided.sum(axis=(1, 2)), got.sum(axis=(1, 2)), atol=2e-2)


def test_numbers_with_fractions_are_values_and_zero_is_the_default():
    model = classifier()
    got = [vis.IntegratedGradients(model, 8, baseline=b, **TOKENS)(IDS, 1) for b in (None, 0.0, np.zeros((6, 4)), 0)]
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])
    assert np.abs(got[0] - got[3]).max() > 1e-3  # the token 0
    named = [vis.IntegratedGradients(model, 8, baseline=b, input_layer="words")(IDS, 1) for b in (0.0, 0)]
    np.testing.assert_array_equal(*named)  # of a layer that is named, numbers are values


def test_whole_numbers_are_tokens_at_tokens_only():
    model = classifier()

    def shares(layer, baseline):
        return vis.IntegratedGradients(model, 3, baseline, input_layer=layer)(IDS, 1)

    np.testing.assert_array_equal(shares("words", 0), shares("tokens", 0.0))
    np.testing.assert_array_equal(shares("words", 0), shares("tokens", None))
    assert np.abs(shares("tokens", 0) - shares("words", 0)).max() > 1e-3
    np.testing.assert_array_equal(*[vis.Occlusion(model, baseline=zero)(IDS, 1) for zero in (0, 0.0)])


def test_deep_lift_and_expected_gradients_take_token_ids():
    model = zoo.set_weights(
        keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(11, 4), layers.Flatten(), layers.Dense(3)])
    )
    missing = scores(model, IDS) - scores(model, np.full_like(IDS, 7))
    got = vis.DeepLIFT(model, baseline=7, **TOKENS)(IDS, 1)
    np.testing.assert_allclose(got.sum(axis=(1, 2)), missing, atol=1e-5)
    usual = np.array([[7] * 6, [8] * 6, [1] * 6])
    got = vis.ExpectedGradients(model, usual, 20, seed=0, **TOKENS)(IDS, 1)
    vectors = value_of(model.layers[0](usual))
    np.testing.assert_allclose(got, vis.ExpectedGradients(model, vectors, 20, seed=0, **TOKENS)(IDS, 1), atol=1e-6)
    means, errors = vis.ExpectedGradients(model, usual[:1], 5, seed=0, **TOKENS).with_error(IDS, 1)
    np.testing.assert_allclose(means.sum(axis=(1, 2)), missing, atol=1e-5)
    np.testing.assert_allclose(errors, 0, atol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda m: vis.IntegratedGradients(m, baseline=11, **TOKENS), "ids from 0 to 10.*Received: from 11 to 11"),
        (lambda m: vis.DeepLIFT(m, baseline=[-1] * 6, **TOKENS), "ids from 0 to 10.*Received: from -1 to -1"),
        (
            lambda m: vis.IntegratedGradients(m, baseline=[1] * 5, **TOKENS),
            r"\(6,\) or \(2, 6\).*Received: shape \(5,\)",
        ),
        (lambda m: vis.IntegratedGradients(m, baseline=np.zeros((6, 4), int), **TOKENS), "Vectors are given as floats"),
        (lambda m: vis.ExpectedGradients(m, IDS[:, :5], **TOKENS), r"Received: shape \(2, 5\)"),
        (lambda m: vis.ExpectedGradients(m, IDS + 0.5, **TOKENS), r"whole numbers, \(M, positions\)"),
        (lambda m: vis.ExpectedGradients(m, IDS + 5, **TOKENS), "ids from 0 to 10"),
        (lambda m: vis.Occlusion(m, baseline=11), "token id from 0 to 10.*Received: values from 11 to 11"),
        (lambda m: vis.Occlusion(m, baseline=-1), "token id from 0 to 10"),
        (lambda m: vis.Occlusion(m, baseline="mean"), "must be a token id, .* from 0 to 10. Received: 'mean'"),
        (lambda m: vis.Occlusion(m, baseline="[MASK]"), r"token_to_id\('\[MASK\]'\)"),
        (lambda m: vis.Occlusion(m, baseline=0.5), "token id from 0 to 10.*Received: values from 0.5 to 0.5"),
        (lambda m: vis.IntegratedGradients(m, baseline="[MASK]", **TOKENS), "token id.*from 0 to 10.*'\\[MASK\\]'"),
        (lambda m: vis.DeepLIFT(m, baseline=[["a"] * 6], **TOKENS), "must be a token id"),
        (lambda m: vis.ExpectedGradients(m, [["a", "b"]], **TOKENS), r"token ids \(M, positions\)"),
        (lambda m: vis.RISE(m), "Use vis.Occlusion"),
    ],
)
def test_baselines_that_are_no_tokens(make, words):
    for model in (classifier(), classifier("float32")):
        with pytest.raises(ValueError, match=words) as error:
            make(model)(IDS, 1)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("baseline", [True, np.bool_(False), np.ones(6, bool)])
def test_a_truth_value_is_no_baseline(baseline):
    makers = (
        vis.Occlusion(classifier(), baseline=baseline),
        vis.IntegratedGradients(classifier(), 2, baseline, **TOKENS),
    )
    for explainer in makers:
        with pytest.raises(TypeError, match="`baseline` must be a number .*Received: ") as error:
            explainer(IDS, 1)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("inputs", [np.array([["a", "b"]]), [["a", "b"]], ["some words"], "words", [np.array(["a"])]])
def test_words_are_not_taken_for_pictures(inputs):
    for explainer in (vis.Occlusion(classifier()), vis.Saliency(classifier(), **TOKENS)):
        with pytest.raises(ValueError, match="Received: .*text.*token ids of a text") as error:
            explainer(inputs, 1)
        assert "load_img" not in str(error.value) and len(str(error.value)) < 400


def test_texts_of_the_wrong_length_are_not_taken_for_pictures():
    with pytest.raises(ValueError, match=r"\(N, 6\). Received: shape \(2, 4\). Each sample has 6 numbers"):
        vis.Occlusion(classifier())(IDS[:, :4], 1)
    with pytest.raises(ValueError, match=r"the keys \['ids'\].*Received: \['token_ids'\]. Or give the array itself."):
        vis.Occlusion(classifier())({"token_ids": IDS}, 1)


# --- tokens that are hidden


def hidden_by_hand(model, ids, baseline):
    drops = np.zeros(ids.shape)
    for place in range(ids.shape[1]):
        changed = ids.copy()
        changed[:, place] = baseline
        drops[:, place] = scores(model, ids) - scores(model, changed)
    return drops


@pytest.mark.parametrize("baseline", [None, 7])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_tokens_are_hidden_one_by_one(dtype, baseline):
    model, ids = classifier(dtype, 16), np.arange(32).reshape(2, 16) % 11
    got = vis.Occlusion(model, baseline=baseline)(ids, 1)
    assert got.shape == (2, 16) and got.dtype == np.float32
    np.testing.assert_allclose(got, hidden_by_hand(model, ids, baseline or 0), atol=1e-5)


def test_baselines_of_each_token_and_wider_windows():
    model, baseline = classifier(), np.array([5, 4, 3, 2, 1, 0])
    got = vis.Occlusion(model, baseline=baseline)(IDS, 1)
    for place in range(6):
        changed = IDS.copy()
        changed[:, place] = baseline[place]
        np.testing.assert_allclose(got[:, place], scores(model, IDS) - scores(model, changed), atol=1e-5)
    wide = vis.Occlusion(model, patch=6, baseline=7)(IDS, 1)
    missing = scores(model, IDS) - scores(model, np.full_like(IDS, 7))
    np.testing.assert_allclose(wide, np.repeat(missing[:, None], 6, axis=1), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 3])
def test_padding_stays_padding(patch):
    model, inputs = padded_model(), padded()
    got = vis.Occlusion(model, patch, baseline=7)(inputs, 1)
    short = {name: array[1:, :4] for name, array in inputs.items()}
    assert not got[1, 4:].any() and np.abs(got[1, :4]).min() > 0
    if patch == 1:
        np.testing.assert_allclose(got[1:, :4], vis.Occlusion(model, baseline=7)(short, 1), atol=1e-6)


def test_zeros_that_the_embedding_masks_are_padding():
    ids = keras.Input((6,), dtype="int32")
    x = layers.LSTM(5)(layers.Embedding(11, 4, mask_zero=True, name="words")(ids))
    model = zoo.set_weights(keras.Model(ids, layers.Dense(3)(x)))
    given = padded()["token_ids"]
    got = vis.Occlusion(model, baseline=7)(given, 1)
    assert not got[1, 4:].any() and np.abs(got[1, :4]).min() > 0
    np.testing.assert_allclose(got[0], hidden_by_hand(model, given, 7)[0], atol=1e-5)


# --- targets at positions


def padded_language_model():
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in ("token_ids", "padding_mask")}
    x = layers.Embedding(11, 4, name="words")(inputs["token_ids"])
    x = x * ops.cast(inputs["padding_mask"], "float32")[..., None]
    return zoo.set_weights(keras.Model(inputs, layers.Dense(11)(layers.Conv1D(8, 3, padding="causal")(x))))


def test_a_token_after_padding_is_refused():
    model = padded_language_model()
    inputs = {name: array for name, array in padded().items() if name != "segment_ids"}
    explainer = vis.Saliency(model, **TOKENS)
    for position in (-1, [5, 4]):
        with pytest.raises(ValueError, match=r"must be that of a token. Received: padding, for sample 1 ") as error:
            explainer(inputs, NextToken(3, position))
        assert len(str(error.value)) < 400
    last = inputs["padding_mask"].sum(axis=-1) - 1
    maps = explainer(inputs, NextToken(3, last))
    assert maps[0, 5].any() and maps[1, 3].any() and not maps[1, 4:].any()


@pytest.mark.parametrize("first", [NextToken(3, 3), lambda outputs: outputs[:, -1, 0]])
def test_texts_of_other_lengths_have_positions_of_their_own(first):
    model = padded_language_model()
    explainer = vis.Saliency(model, **TOKENS)
    texts = [{"token_ids": np.ones((2, n), int), "padding_mask": np.ones((2, n), int)} for n in (4, 9)]
    explainer(texts[0], first)
    assert explainer(texts[1], NextToken(3, 8))[:, 8].any()
    with pytest.raises(ValueError, match="from -9 to 8. Received: 9"):
        explainer(texts[1], NextToken(3, 9))
    with pytest.raises(ValueError, match="from -4 to 3. Received: 8"):
        explainer(texts[0], NextToken(3, 8))


def test_a_vocabulary_is_known_of_texts_of_any_length():
    model = language_model(None)
    with pytest.raises(ValueError, match="vocabulary of the model's output, from 0 to 10. Received: 11"):
        vis.Saliency(model, **TOKENS)(IDS, NextToken(11))


# --- what generated tokens took


def one_by_one(explainer, inputs, ids, prompt_length):
    rows = []
    for t in range(prompt_length, len(ids)):
        row = explainer(inputs, NextToken(int(ids[t]), t - 1))[0]
        rows.append((row.sum(axis=-1) if row.ndim == 2 else row) * (np.arange(len(ids)) < t))
    return np.stack(rows)


def makers():
    return {
        "saliency": lambda m: vis.Saliency(m, **TOKENS),
        "product": lambda m: vis.GradientTimesInput(m, **TOKENS),
        "integrated": lambda m: vis.IntegratedGradients(m, 5, baseline=0, **TOKENS),
        "lrp": lambda m: vis.LRP(m, "epsilon", **TOKENS),
        "occlusion": lambda m: vis.Occlusion(m, baseline=0),
    }


@pytest.mark.filterwarnings("ignore:These operations are not linear")
@pytest.mark.parametrize("name", makers())
@pytest.mark.parametrize("batch_size", [2, *slow(32)])
def test_all_positions_at_once_are_each_by_itself(name, batch_size):
    model = language_model()
    explainer = makers()[name](model)
    got = vis.attribute_tokens(explainer, IDS[0], 1, batch_size=batch_size)
    assert got.shape == (5, 6) and got.dtype == np.float32
    np.testing.assert_allclose(got, one_by_one(explainer, IDS[:1], IDS[0], 1), rtol=1e-4, atol=1e-6)
    assert not np.triu(got, 1).any() and np.abs(np.diagonal(got)).min() > 0
    np.testing.assert_allclose(vis.attribute_tokens(explainer, IDS[:1], 4), got[3:], rtol=1e-4, atol=1e-6)


def test_occlusion_tells_of_probabilities_unless_logits_are_asked_for():
    plain = language_model()
    soft = keras.Model(plain.input, layers.Softmax()(plain.output))
    kinds = [(plain, False), (soft, True), (soft, False)]
    logits, again, shares = (vis.attribute_tokens(vis.Occlusion(m, logits=one), IDS[0], 3) for m, one in kinds)
    np.testing.assert_allclose(again, logits, atol=1e-5)
    assert np.abs(shares).max() <= 1 and np.abs(shares - logits).max() > 1e-3


def test_integrated_gradients_of_generated_tokens_are_complete():
    model, ids = language_model(), IDS[0]
    got = vis.attribute_tokens(vis.IntegratedGradients(model, 64, baseline=0, **TOKENS), ids, 2)
    logits, without = (value_of(model(ops.convert_to_tensor(rows[None])))[0] for rows in (ids, np.zeros_like(ids)))
    expected = [logits[t - 1, ids[t]] - without[t - 1, ids[t]] for t in range(2, 6)]
    np.testing.assert_allclose(got.sum(axis=1), expected, atol=1e-4)


def test_a_padding_mask_of_ones_need_not_be_given():
    model = padded_language_model()
    explainer = vis.GradientTimesInput(model, **TOKENS)
    given = {"token_ids": IDS[0], "padding_mask": np.ones(6, int)}
    expected = one_by_one(explainer, {name: array[None] for name, array in given.items()}, IDS[0], 3)
    for text in (IDS[0], given, {name: array[None] for name, array in given.items()}):
        np.testing.assert_allclose(vis.attribute_tokens(explainer, text, 3), expected, rtol=1e-4, atol=1e-6)


class Counted(layers.Layer):
    """Counts how often its code runs."""

    runs = 0

    def call(self, x):
        self.runs += 1
        return x


def test_a_model_of_one_input_takes_a_dict_of_ids():
    ids = keras.Input((None,), dtype="int32", name="words")
    model = keras.Model(ids, layers.Conv1D(11, 3, padding="causal")(layers.Embedding(11, 4)(ids)))
    explainer = vis.Saliency(model, **TOKENS)
    for name in ("token_ids", "words"):
        got = vis.attribute_tokens(explainer, {name: IDS[0]}, 2)
        np.testing.assert_array_equal(got, vis.attribute_tokens(explainer, IDS[0], 2))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch compiles nothing")
def test_one_function_serves_all_positions_and_texts():
    counted = Counted()
    ids = keras.Input((12,), dtype="int32")
    x = layers.Conv1D(8, 3, padding="causal")(counted(layers.Embedding(11, 4)(ids)))
    model = keras.Model(ids, layers.Dense(11)(x))
    explainer = vis.GradientTimesInput(model, **TOKENS)
    draw = np.random.default_rng(0)
    vis.attribute_tokens(explainer, draw.integers(0, 11, 12), 4, batch_size=4)
    vis.attribute_tokens(explainer, draw.integers(0, 11, 12), 4, batch_size=4)
    runs = counted.runs
    vis.attribute_tokens(explainer, draw.integers(0, 11, 12), 8, batch_size=4)
    vis.attribute_tokens(explainer, draw.integers(0, 11, 12), 1, batch_size=4)  # the last group is filled up
    assert counted.runs == runs


def test_a_model_that_is_not_causal_is_said():
    model = language_model(causal=False)
    for explainer in (vis.GradientTimesInput(model, **TOKENS), vis.Occlusion(model)):
        with pytest.warns(VisualizationWarning, match="not causal: tokens took from later ones, up to .*%") as caught:
            got = vis.attribute_tokens(explainer, IDS[0], 2)
        assert not np.triu(got, 2).any() and len(str(caught[0].message)) < 400


@pytest.mark.parametrize(
    "call, error, words",
    [
        (
            lambda e: vis.attribute_tokens(e, IDS[0], 6),
            ValueError,
            "from 1 to 5, as the text has 6 tokens. Received: 6",
        ),
        (lambda e: vis.attribute_tokens(e, [3], 1), ValueError, "at least 2 tokens.*Received: 1 token"),
        (lambda e: vis.attribute_tokens(e, "some words", 1), ValueError, "Received: text, 'some words'.*tokenizer"),
        (lambda e: vis.attribute_tokens(e, [["a", "b"]], 1), ValueError, "Received: text, 'a'.*tokenizer"),
        (lambda e: vis.attribute_tokens(e, IDS[0, :4], 1), ValueError, "must hold 6 tokens.*Received: 4. Build it"),
        (
            lambda e: vis.attribute_tokens(e, {"token_ids": IDS[0], "padding_mask": IDS[0] * 0 + 1}, 2),
            ValueError,
            r"takes one input. Received: .*'padding_mask'. Give `token_ids\['token_ids'\]`",
        ),
        (
            lambda e: vis.attribute_tokens(
                vis.Saliency(padded_language_model(), **TOKENS), {"token_ids": IDS[0], "padding_mask": np.ones(4)}, 2
            ),
            ValueError,
            r"for each of the 6 tokens. Received: shape \(1, 4\)",
        ),
        (lambda e: vis.attribute_tokens(e, IDS[0], 0), ValueError, "`prompt_length` must be at least 1"),
        (lambda e: vis.attribute_tokens(e, IDS[0], 2.5), TypeError, "`prompt_length` must be an integer"),
        (
            lambda e: vis.attribute_tokens(e, IDS, 2),
            ValueError,
            r"one text.*\(T,\) or \(1, T\). Received: shape \(2, 6\)",
        ),
        (lambda e: vis.attribute_tokens(e, IDS[0] + 0.5, 2), ValueError, "Received: fractions"),
        (lambda e: vis.attribute_tokens(e, 3, 2), ValueError, r"Received: shape \(\)"),
        (lambda e: vis.attribute_tokens(e, IDS[0] + 5, 2), ValueError, "token ids from 0 to 10"),
        (lambda e: vis.attribute_tokens(e, IDS[0], 2, 0), ValueError, "`batch_size` must be at least 1"),
        (
            lambda e: vis.attribute_tokens(e, {"ids": IDS[0]}, 2),
            ValueError,
            "the key 'token_ids'.*Received: the keys 'ids'",
        ),
        (lambda e: vis.attribute_tokens(e.model, IDS[0], 2), TypeError, "`explainer` must be an explainer"),
        (lambda e: vis.attribute_tokens(vis.Saliency(e.model), IDS[0], 2), ValueError, "input_layer='tokens'"),
        (
            lambda e: vis.attribute_tokens(vis.Saliency(e.model, input_layer=("head", 0)), IDS[0], 2),
            ValueError,
            "must attribute to the 6 tokens. Received: Saliency",
        ),
        (
            lambda e: vis.attribute_tokens(vis.Saliency(classifier(), **TOKENS), IDS[0], 2),
            ValueError,
            r"needs outputs \(N, positions, vocabulary\)",
        ),
        (
            lambda e: vis.attribute_tokens(
                vis.Saliency(padded_language_model(), **TOKENS),
                {"token_ids": IDS[0], "padding_mask": padded()["padding_mask"][1]},
                2,
            ),
            ValueError,
            "without padding. Received: a padding mask with zeros",
        ),
    ],
)
def test_texts_that_cannot_be_explained(call, error, words):
    ids = keras.Input((6,), dtype="int32")
    x = layers.Conv1D(8, 3, padding="causal")(layers.Embedding(11, 4)(ids))
    pooled = layers.Dense(8, name="head")(ops.mean(x, axis=1))
    model = keras.Model(ids, layers.Dense(11)(x + pooled[:, None]))
    with pytest.raises(error, match=words) as caught:
        call(vis.Saliency(model, **TOKENS))
    assert len(str(caught.value)) < 400


# --- keras-hub


CAUSAL = ["gpt2", *slow("gemma", "llama")]


def of_hub(name):
    pytest.importorskip("keras_hub", reason="keras-hub is an extra of the tests: zoo")
    keras.utils.set_random_seed(0)
    model, inputs = getattr(hub, name)()
    draw = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if "kernel" not in variable.path:
            variable.assign(value_of(variable.value) + draw.normal(0, 0.1, variable.shape))
    return model, inputs


@pytest.mark.parametrize("name", ["bert", *CAUSAL])
def test_models_of_keras_hub(name):
    model, inputs = of_hub(name)
    target = 1 if name == "bert" else NextToken(3, inputs["padding_mask"].sum(axis=-1) - 1)
    maps = vis.Saliency(model, **TOKENS)(inputs, target)
    np.testing.assert_array_equal(maps, vis.Saliency(model, input_layer=("token_embedding", 0))(inputs, target))
    assert not maps[0, 6:].any() and np.abs(maps).max() > 0

    def score(ids):
        rows = {**inputs, "token_ids": np.asarray(ids, "int32")}
        explained = vis.Occlusion(model, patch=8, baseline=2, logits=True)  # all of a text at once
        return explained(rows, target)[:, 0]

    shares = vis.IntegratedGradients(model, 64, baseline=2, **TOKENS)(inputs, target)
    missing = score(inputs["token_ids"])
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), missing, atol=2e-2 * np.abs(missing).max() + 1e-4)
    hidden = vis.Occlusion(model, baseline=2)(inputs, target)
    assert hidden.shape == (3, 8) and not hidden[0, 6:].any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VisualizationWarning)  # of operations without a rule
        relevance = vis.LRP(model, "epsilon", **TOKENS)(inputs, target)
    assert relevance.shape == maps.shape and np.isfinite(relevance).all()
    with pytest.raises(ValueError, match="token ids from 0 to 19.*token_embedding.*Received: 20"):
        vis.Saliency(model)({**inputs, "token_ids": np.full((3, 8), 20)}, target)


@pytest.mark.parametrize("name", CAUSAL)
def test_language_models_of_keras_hub(name):
    model, inputs = of_hub(name)
    explainer, ids = vis.GradientTimesInput(model, **TOKENS), inputs["token_ids"][1]
    got = vis.attribute_tokens(explainer, ids, 4)
    row = {"token_ids": ids[None], "padding_mask": np.ones((1, 8), int)}
    expected = one_by_one(explainer, row, ids, 4)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
