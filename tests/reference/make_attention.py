"""Makes `attention.npz`: AttnLRP of LXT 2.1 on the sentence encoder of `examples/text` and on a small transformer.

Run it from the repository's root in an environment of its own with PyTorch and LXT (`pip install --no-deps lxt`):

    python tests/reference/make_attention.py

It needs neither Keras nor this project. The networks are written with the functions of `lxt.explicit`, which carry
relevance instead of gradients, in double precision. LXT adds its stabiliser without a sign, and to sums as well: so it
is 1e-12 here, where it matters nowhere.
"""

import pathlib

import numpy as np
import torch
from lxt.explicit import functional as lf

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADS, BLOCKS, EPSILON = 12, 6, 1e-12
# Word pieces of "the cat is sleeping on the sofa", "a cat lies on the couch" and "the stock market fell sharply today".
SENTENCES = ["the cat is sleeping on the sofa", "a cat lies on the couch", "the stock market fell sharply today"]


def weights_of(path):
    """Reads the arrays of the sentence encoder, as float64 tensors."""
    with np.load(path) as arrays:
        found = {}
        for name in arrays.files:
            if name.endswith("/q"):
                stem = name.removesuffix("/q")
                found[stem] = arrays[name].astype("float64") * arrays[f"{stem}/scale"]
            elif not name.endswith("/scale"):
                found[name] = arrays[name].astype("float64")
    return {name: torch.tensor(array) for name, array in found.items()}


def linear(x, weights, name):
    """A dense layer, by the epsilon rule."""
    kernel = weights[f"{name}/kernel"]
    kernel = kernel.reshape(x.shape[-1], -1)
    return lf.linear_epsilon(x, kernel.T.contiguous(), weights[f"{name}/bias"].reshape(-1), EPSILON)


def normalized(x, weights, name, epsilon):
    """A layer normalisation, whose deviation is a constant."""
    return lf.layer_norm(x, weights[f"{name}/gamma"], weights[f"{name}/beta"], epsilon)


class Gelu(torch.autograd.Function):
    """The exact GELU, by the identity rule."""

    @staticmethod
    def forward(ctx, x):
        """Returns x times the normal distribution function."""
        return torch.nn.functional.gelu(x)

    @staticmethod
    def backward(ctx, relevance):
        """Hands relevance on."""
        return relevance


def attention(x, weights, name, heads, output="output"):
    """Attention of several heads, by the rules of AttnLRP."""
    length, width = x.shape

    def split(part):
        return linear(x, weights, f"{name}/{part}").reshape(length, heads, -1).transpose(0, 1)

    query, key, value = (split(part) for part in ("query", "key", "value"))
    scores = lf.matmul(lf.mul2(query, (width // heads) ** -0.5), key.transpose(1, 2), False, EPSILON)
    mixed = lf.matmul(lf.softmax(scores, -1), value, False, EPSILON)
    return linear(mixed.transpose(0, 1).reshape(length, width), weights, f"{name}/{output}")


def sentence_vector(words, weights):
    """The network of `examples/text`, from the embeddings of words on."""
    rest = weights["embeddings/position"][: len(words)] + weights["embeddings/type"].reshape(1, -1)
    x = normalized(lf.add2(words, rest, False, EPSILON), weights, "embeddings/norm", 1e-12)
    for i in range(BLOCKS):
        name = f"block{i}"
        attended = attention(x, weights, f"{name}/attention", HEADS)
        x = normalized(lf.add2(x, attended, False, EPSILON), weights, f"{name}/attention_norm", 1e-12)
        wide = Gelu.apply(linear(x, weights, f"{name}/mlp/fc1"))
        x = normalized(
            lf.add2(x, linear(wide, weights, f"{name}/mlp/fc2"), False, EPSILON), weights, f"{name}/mlp_norm", 1e-12
        )
    mean = lf.mean(x, 0, False, EPSILON)
    return lf.normalize(mean, dim=0)


def ids_of(sentence):
    """Returns the ids of words that are single pieces, with the marks of beginning and end."""
    pieces = (ROOT / "examples/text/data/minilm_vocab.txt").read_text(encoding="utf-8").split("\n")
    return [2, *(pieces.index(word) for word in sentence.split()), 3]


def relevance_of_words(weights):
    """Returns ids and relevance `(T, 384)` of each sentence for its likeness to the first."""
    found, first = {}, None
    for number, sentence in enumerate(SENTENCES):
        ids = torch.tensor(ids_of(sentence))
        words = weights["embeddings/word"][ids].requires_grad_()
        vector = sentence_vector(words, weights)
        first = vector.detach() if first is None else first
        vector.backward(vector.detach() * first)  # the relevance of the vector's numbers for the dot product
        found[f"ids{number}"], found[f"relevance{number}"] = ids.numpy(), words.grad.float().numpy()
    return found


def small_weights(draw, width, hidden, classes):
    """Random weights of a small transformer that normalises first."""
    weights = {}
    for block in ("block0", "block1"):
        for norm in ("norm1", "norm2"):
            weights[f"{block}/{norm}/gamma"] = draw.uniform(0.5, 1.5, width)
            weights[f"{block}/{norm}/beta"] = 0.1 * draw.normal(size=width)
        sizes = [*((f"attention/{part}", width, width) for part in ("query", "key", "value", "output"))]
        for name, rows, columns in [*sizes, ("fc1", width, hidden), ("fc2", hidden, width)]:
            weights[f"{block}/{name}/kernel"] = draw.normal(size=(rows, columns)) / np.sqrt(rows)
            weights[f"{block}/{name}/bias"] = 0.1 * draw.normal(size=columns)
    weights["head/kernel"] = draw.normal(size=(width, classes)) / np.sqrt(width)
    weights["head/bias"] = 0.1 * draw.normal(size=classes)
    return weights


def small_relevance(draw):
    """Returns weights, tokens `(5, 8)` and their relevance for class 1 of a small transformer that pools."""
    arrays = small_weights(draw, 8, 16, 3)
    weights = {name: torch.tensor(array) for name, array in arrays.items()}
    tokens = torch.tensor(draw.normal(size=(5, 8)), requires_grad=True)
    x = tokens
    for block in ("block0", "block1"):
        inner = normalized(x, weights, f"{block}/norm1", 1e-3)
        x = lf.add2(x, attention(inner, weights, f"{block}/attention", 2), False, EPSILON)
        inner = normalized(x, weights, f"{block}/norm2", 1e-3)
        wide = Gelu.apply(linear(inner, weights, f"{block}/fc1"))
        x = lf.add2(x, linear(wide, weights, f"{block}/fc2"), False, EPSILON)
    scores = linear(lf.mean(x, 0, False, EPSILON)[None], weights, "head")
    scores[0, 1].backward(scores[0, 1].detach())
    found = {f"small/{name}": array for name, array in arrays.items()}
    return {**found, "small_tokens": tokens.detach().numpy(), "small_relevance": tokens.grad.numpy()}


def main():
    """Writes the file beside this one."""
    words = relevance_of_words(weights_of(ROOT / "examples/text/data/minilm_l6_int8.npz"))
    small = small_relevance(np.random.default_rng(3))
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz").with_name("attention.npz"), **words, **small)


if __name__ == "__main__":
    main()
