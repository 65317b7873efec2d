"""A real sentence encoder, BERT with six layers, and the cutting of text into the pieces that it reads.

`python examples/text/network.py` prints how similar some sentences are.
"""

import pathlib
import unicodedata

import keras
import numpy as np
from keras import layers, ops

DATA = pathlib.Path(__file__).resolve().parent / "data"
WIDTH, HEADS, BLOCKS, LONGEST = 384, 12, 6, 256
PAD, UNKNOWN, START, END, MASK = range(5)  # ids of "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
VOCABULARY = 29_528
TOO_LONG = 100  # characters: no word
CHINESE = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))


def sentence_encoder(weights=DATA / "minilm_l6_int8.npz"):
    """Returns the network, a Functional model of a dict of word pieces.

    Its inputs are what `WordPieces.encode` returns. Its output is a vector of length 1 for each sentence, `(N, 384)`:
    sentences of like meaning have vectors of like direction.

    Args:
        weights: File of the weights, or `None` for random ones. Default: the trained ones, in `data/`.
    """
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="int32", name="padding_mask")
    x = _embedded(token_ids)
    seen = ops.expand_dims(padding_mask, axis=1)  # every piece sees all pieces that are no padding
    for i in range(BLOCKS):
        x = _block(x, seen, f"block{i}")
    x = layers.GlobalAveragePooling1D(data_format="channels_last", name="mean")(x, mask=padding_mask)
    outputs = layers.UnitNormalization(name="sentence_vector")(x)
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, outputs, name="sentence_encoder")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _embedded(token_ids):
    """Adds the embeddings of the pieces, of their positions, and of the one type of text that there is."""
    ones = ops.ones_like(token_ids)
    words = layers.Embedding(VOCABULARY, WIDTH, name="token_embedding")(token_ids)
    positions = layers.Embedding(LONGEST, WIDTH, name="position_embedding")(ops.cumsum(ones, axis=1) - 1)
    types = layers.Embedding(1, WIDTH, name="type_embedding")(ones - 1)
    x = layers.Add(name="embeddings")([words, positions, types])
    return layers.LayerNormalization(epsilon=1e-12, name="embeddings_norm")(x)


def _block(x, seen, name):
    """Adds attention and a network of two dense layers; each is added to what it takes, then normalised."""
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")
    x = _added(x, attention(x, x, attention_mask=seen), f"{name}_attention")
    wide = layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_mlp_fc1")(x)
    return _added(x, layers.Dense(WIDTH, name=f"{name}_mlp_fc2")(wide), f"{name}_mlp")


def _added(x, change, name):
    x = layers.Add(name=f"{name}_add")([x, change])
    return layers.LayerNormalization(epsilon=1e-12, name=f"{name}_norm")(x)


def _load_weights(model, path):
    with np.load(path) as arrays:
        stored = {name.removesuffix("/q").replace("/", "_"): name for name in arrays.files}
        for variable in model.weights:
            name = stored[_stored_name(variable.path)]
            value = arrays[name]
            if name.endswith("/q"):
                value = value * arrays[name.removesuffix("q") + "scale"]
            variable.assign(np.reshape(value, variable.shape))


def _stored_name(path):
    """Returns the name of a weight in the file, with "_" for "/"."""
    if path.endswith("_embedding/embeddings"):
        kind = path.split("_")[0]
        return f"embeddings_{'word' if kind == 'token' else kind}"
    return path.replace("/", "_").replace("attention_output", "output")


class WordPieces:
    """Cuts text into word pieces, as this network was trained with.

    Text becomes lower case and loses its accents. It is cut at spaces and around every punctuation mark; then each
    word is cut into the longest pieces that the vocabulary has, from the left. A piece that continues a word begins
    with "##".

    Args:
        path: File with a piece in each line. Default: that of the network, in `data/`.
    """

    def __init__(self, path=DATA / "minilm_vocab.txt"):
        self.vocabulary = pathlib.Path(path).read_text(encoding="utf-8").split("\n")[:-1]
        self._ids = {piece: i for i, piece in enumerate(self.vocabulary)}

    def encode(self, sentences):
        """Returns what the network takes for a list of sentences.

        A dict of "token_ids", int32 `(N, T)`, which begin with "[CLS]", end with "[SEP]" and are filled up with
        "[PAD]"; and "padding_mask", int32 `(N, T)`: 1 for pieces, 0 for what fills up. T is that of the longest
        sentence. What has more than 256 pieces is cut off.
        """
        rows = [[START, *self._of_text(text)[: LONGEST - 2], END] for text in sentences]
        length = max(map(len, rows))
        filled = [row + [PAD] * (length - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (length - len(row)) for row in rows]
        return {"token_ids": np.array(filled, "int32"), "padding_mask": np.array(mask, "int32")}

    def pieces(self, ids):
        """Returns the pieces, a list of strings, of ids `(T,)`."""
        return [self.vocabulary[i] for i in ids]

    def _of_text(self, text):
        return [piece for word in split_words(text) for piece in self._of_word(word)]

    def _of_word(self, word):
        """Returns ids of the longest pieces from the left, or "[UNK]" where some part is not in the vocabulary."""
        found, start = [], 0
        while start < len(word) <= TOO_LONG:
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._ids), None)
            if end is None:
                return [UNKNOWN]
            found.append(self._ids[prefix + word[start:end]])
            start = end
        return found or [UNKNOWN]


def split_words(text):
    """Returns the words and punctuation marks of a text, a list: in lower case, without accents."""
    plain = unicodedata.normalize("NFD", text.lower())
    unseen = ("Mn", "Cc", "Cf")  # accents; what has no picture, such as a soft hyphen
    kept = [one for one in plain if one.isspace() or unicodedata.category(one) not in unseen]
    return "".join(f" {one} " if _stands_alone(one) else one for one in kept).split()


def _stands_alone(character):
    """Tells whether a character is a punctuation mark, a sign such as "+", or a Chinese character."""
    code = ord(character)
    is_sign = code < 128 and character.isprintable() and not character.isalnum() and character != " "
    is_chinese = any(first <= code <= last for first, last in CHINESE)
    return is_sign or is_chinese or unicodedata.category(character).startswith("P")


def main():
    """Prints the cosine between each two of some sentences."""
    sentences = [
        "A cat sits on the sofa.",
        "There is a kitten on the couch.",
        "The stock market fell sharply today.",
        "Shares lost much of their value.",
    ]
    vectors = ops.convert_to_numpy(sentence_encoder()(WordPieces().encode(sentences)))
    for sentence, row in zip(sentences, vectors @ vectors.T):
        print(f"{sentence:40s}", "  ".join(f"{cosine:5.2f}" for cosine in row))


if __name__ == "__main__":
    main()
