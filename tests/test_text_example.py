"""The example of the sentence encoder: text is cut rightly, and the network is rebuilt rightly."""

import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest
from conftest import value_of
from scipy import special

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "text"
LIKE = ("A cat sits on the sofa.", "There is a kitten on the couch.")
OTHER = ("The stock market fell sharply today.", "He plays the violin in an orchestra, and she sings.")


@pytest.fixture(scope="module")
def example():
    """The example as a module; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        patch.delitem(sys.modules, "network", raising=False)
        module = importlib.import_module("network")
        sys.modules.pop("network")
        yield module


@pytest.fixture(scope="module")
def words(example):
    return example.WordPieces()


@pytest.fixture(scope="module")
def model(example):
    return example.sentence_encoder()


def vectors_of(model, words, sentences):
    return value_of(model(words.encode(sentences)))


PIECES = {
    "The cat sat.": "the cat sat .",
    "unbelievably embeddings": "un ##bel ##ie ##va ##bly em ##bed ##ding ##s",
    "Café NAÏVE": "cafe naive",
    "don't stop-now, $5": "don ' t stop - now , $ 5",
    "“quoted” — text…": "“ quoted ” — text …",
    "a\t b\u00a0c\n": "a b c",
    "soft\u00adhyphen": "soft ##hy ##ph ##en",
    "snow \u2603\ufe0e\U0001f9e8": "snow [UNK]",
    "x" * 101: "[UNK]",
    "\u4e16\u4eba": "\u4e16 \u4eba",
    "": "",
}


@pytest.mark.parametrize("text", PIECES)
def test_text_is_cut_into_pieces(words, text):
    encoded = words.encode([text])
    assert words.pieces(encoded["token_ids"][0]) == ["[CLS]", *PIECES[text].split(), "[SEP]"]
    assert encoded["token_ids"].dtype == encoded["padding_mask"].dtype == "int32"
    assert encoded["padding_mask"].all()


def test_short_sentences_are_filled_up_and_long_ones_cut_off(words):
    encoded = words.encode(["one", "two words"])
    assert words.pieces(encoded["token_ids"][0]) == ["[CLS]", "one", "[SEP]", "[PAD]"]
    assert encoded["padding_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    long = words.encode(["word " * 300])["token_ids"]
    assert long.shape == (1, 256) and words.pieces(long[0])[-2:] == ["word", "[SEP]"]


def test_the_vocabulary_begins_with_the_special_pieces(example, words):
    special_ids = [example.PAD, example.UNKNOWN, example.START, example.END, example.MASK]
    assert words.pieces(special_ids) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(words.vocabulary) == len(set(words.vocabulary)) == example.VOCABULARY


def test_sentences_of_like_meaning_have_like_vectors(model, words):
    vectors = vectors_of(model, words, [*LIKE, *OTHER])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = vectors @ vectors.T
    assert abs(cosines[0, 1] - 0.7395) < 2e-3
    assert cosines[:2, 2:].max() < 0.2


def test_padding_changes_nothing(model, words):
    sentences = [*LIKE, *OTHER]
    together = vectors_of(model, words, sentences)
    for i in (0, 3):  # the shortest and the longest; JAX compiles for each length
        np.testing.assert_allclose(together[i], vectors_of(model, words, sentences[i : i + 1])[0], atol=1e-5)
    encoded = words.encode(sentences)
    encoded["token_ids"] = np.where(encoded["padding_mask"], encoded["token_ids"], 1234)
    np.testing.assert_allclose(value_of(model(encoded)), together, atol=1e-5)


def test_the_network_is_what_its_file_says(example, model, words):
    assert sorted(model.input) == ["padding_mask", "token_ids"]
    assert isinstance(model.get_layer("token_embedding"), keras.layers.Embedding)
    with np.load(example.DATA / "minilm_l6_int8.npz") as stored:
        arrays = dict(stored)
    assert model.count_params() == sum(array.size for name, array in arrays.items() if not name.endswith("/scale"))
    expected = encoded_by_hand(arrays, words.encode(LIKE[:1])["token_ids"][0])
    np.testing.assert_allclose(vectors_of(model, words, LIKE[:1])[0], expected, atol=1e-5)


def encoded_by_hand(arrays, ids):
    """A slow second implementation: BERT of one sentence, head by head."""

    def read(name):
        return arrays[f"{name}/q"] * arrays[f"{name}/scale"] if f"{name}/q" in arrays else arrays[name]

    def normalized(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / centred.std(axis=-1, keepdims=True) * read(f"{name}/gamma") + read(f"{name}/beta")

    def attention(x, name):
        result = read(f"{name}/output/bias")
        for head in range(12):
            parts = ("query", "key", "value")
            query, key, value = (
                x @ read(f"{name}/{part}/kernel")[:, head] + read(f"{name}/{part}/bias")[head] for part in parts
            )
            weights = special.softmax(query @ key.T / np.sqrt(32), axis=-1)
            result = result + weights @ value @ read(f"{name}/output/kernel")[head]
        return result

    def dense(x, name):
        return x @ read(f"{name}/kernel") + read(f"{name}/bias")

    x = read("embeddings/word")[ids] + read("embeddings/position")[: len(ids)] + read("embeddings/type")
    x = normalized(x, "embeddings/norm")
    for i in range(6):
        x = normalized(x + attention(x, f"block{i}/attention"), f"block{i}/attention_norm")
        wide = dense(x, f"block{i}/mlp/fc1")
        wide = wide * (1 + special.erf(wide / np.sqrt(2))) / 2
        x = normalized(x + dense(wide, f"block{i}/mlp/fc2"), f"block{i}/mlp_norm")
    return x.mean(axis=0) / np.linalg.norm(x.mean(axis=0))
