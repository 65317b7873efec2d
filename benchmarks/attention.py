"""Speed of attention maps and of relevance through attention on a ViT-S/14, as ratios to bare evaluations.

`python benchmarks/attention.py` compares, on four photographs, attention maps with a forward pass, and relevance with
the gradient of the input. The bare evaluations take the same way through attention, step by step.
"""

import argparse
import importlib.util
import os
import pathlib

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401 - before TensorFlow

import keras
from explainers import input_gradient, no_gradient, run_jax, run_tensorflow, run_torch
from timing import compare

import vis

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "vit" / "network.py"
spec = importlib.util.spec_from_file_location("vit_network", EXAMPLE)  # another example has a `network` as well
vit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vit)


class StepByStep(keras.layers.MultiHeadAttention):
    """Attention that always makes its weights."""

    def call(self, query, value, key=None):
        """Returns the output alone."""
        return super().call(query, value, key=key, return_attention_scores=True)[0]


class Bare:
    """The bare evaluations: hand-written, and compiled where the backend compiles.

    Args:
        model: The network.
    """

    def __init__(self, model):
        def step_by_step(layer):
            kind = StepByStep if isinstance(layer, keras.layers.MultiHeadAttention) else type(layer)
            return kind.from_config(layer.get_config())

        self.model = keras.models.clone_model(model, clone_function=step_by_step)
        self.model.set_weights(model.get_weights())
        run = {"tensorflow": run_tensorflow, "jax": run_jax, "torch": run_torch}[keras.config.backend()]
        self.forward = run(self._forward, self.model, True)
        self.gradient = run(self._gradient, self.model, True)

    def _forward(self, x, index):
        with no_gradient():
            return self.model(x, training=False)

    def _gradient(self, x, index):
        def score(x):
            return keras.ops.mean(self.model(x, training=False), axis=(1, 2, 3))

        return input_gradient(score, x)


def mean_saliency(outputs):
    """Returns the mean of the output, which is explained."""
    return keras.ops.mean(outputs, axis=(1, 2, 3))


def main():
    """Prints one row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 7
    model, images = vit.saliency_vit(), vit.prepare(vit.load_photos())
    bare = Bare(model)
    print(f"{keras.config.backend()}, ViT-S/14, {len(images)} photographs")

    def forward(index):
        return bare.forward(images, index)

    def gradient(index):
        return bare.gradient(images, index)

    compare("attention_maps, 12 layers", lambda i: vis.attention_maps(model, images), forward, rounds=rounds)
    first = "block0_attention"
    compare(
        "attention_maps, the first", lambda i: vis.attention_maps(model, images, layers=first), forward, rounds=rounds
    )
    for name, explainer in (
        ("Saliency", vis.Saliency(model, logits=False)),
        ("AttentionRelevance", vis.AttentionRelevance(model, logits=False)),
        ('LRP, "attention"', vis.LRP(model, "attention", logits=False)),
        ('LRP, "attention-cp"', vis.LRP(model, "attention-cp", logits=False)),
    ):
        compare(name, lambda i, run=explainer: run(images, mean_saliency), gradient, rounds=rounds)


if __name__ == "__main__":
    main()
