"""Speed of `vis.attribute_tokens` on a small causal transformer, as a ratio to bare gradients of the same network.

`python benchmarks/language.py` explains 32 generated tokens of a text of 96: 32 rows at once, and eight at a time.
"""

import argparse
import os

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401 - before TensorFlow

import keras
import numpy as np
from explainers import input_gradient, run_jax, run_tensorflow, run_torch
from keras import layers, ops
from timing import compare

import vis

VOCABULARY, LENGTH, GENERATED, WIDTH = 4000, 96, 32, 128


def transformer(blocks=4, heads=4):
    """Returns a causal transformer with random weights: token ids in, logits `(N, T, vocabulary)` out."""
    ids = keras.Input((LENGTH,), dtype="int32")
    places = layers.Embedding(LENGTH, WIDTH, name="places")(ops.broadcast_to(ops.arange(LENGTH)[None], (1, LENGTH)))
    x = layers.Embedding(VOCABULARY, WIDTH, name="words")(ids) + places
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, WIDTH // heads)(y, y, use_causal_mask=True)
        y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(WIDTH)(y)
    return keras.Model(ids, layers.Dense(VOCABULARY)(layers.LayerNormalization()(x)))


class Bare:
    """The gradients of logits with respect to the embedded tokens, hand-written, and compiled where the backend does.

    Args:
        model: A network of `transformer`.
    """

    def __init__(self, model):
        words = model.get_layer("words")
        self.words, self.rest = words, keras.Model(words.output, model.output)
        run = {"tensorflow": run_tensorflow, "jax": run_jax, "torch": run_torch}[keras.config.backend()]
        self.gradients = run(self._gradients, model, True)

    def _gradients(self, ids, asked):
        """Returns the gradients of rows; `asked` holds position and token of each."""
        flat = (ops.arange(ids.shape[0], dtype="int32") * LENGTH + asked[:, 0]) * VOCABULARY + asked[:, 1]

        def score(x):
            return ops.take(ops.reshape(self.rest(x, training=False), (-1,)), flat)

        return input_gradient(score, self.words(ids))


def main():
    """Prints one row for each size of batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 9
    print(f"backend {keras.config.backend()}, keras {keras.__version__}")
    keras.utils.set_random_seed(0)
    model = transformer()
    bare, explainer = Bare(model), vis.GradientTimesInput(model, input_layer="tokens")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, LENGTH).astype("int32")
    positions = np.arange(LENGTH - GENERATED - 1, LENGTH - 1)
    asked = np.stack([positions, ids[positions + 1]], axis=-1).astype("int32")

    def all_bare(size):
        parts = [asked[i : i + size] for i in range(0, GENERATED, size)]
        return np.concatenate([bare.gradients(np.repeat(ids[None], size, axis=0), part) for part in parts])

    for size in (GENERATED, 8):
        ours = vis.attribute_tokens(explainer, ids, LENGTH - GENERATED, size)
        theirs = (all_bare(size) * keras.ops.convert_to_numpy(bare.words(ids))).sum(axis=-1)
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
        compare(
            f"attribute_tokens, {GENERATED} tokens, {size} at once",
            lambda _, size=size: vis.attribute_tokens(explainer, ids, LENGTH - GENERATED, size),
            lambda _, size=size: all_bare(size),
            rounds=rounds,
        )


if __name__ == "__main__":
    main()
