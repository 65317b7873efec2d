"""Writes docs/zoo.md: what the library chooses for each real architecture, on the backend that KERAS_BACKEND names."""

import os
import pathlib
import sys
import warnings

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

import keras
import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from zoo.registry import ARCHITECTURES

import vis

HEAD = """# Which layer is taken

Small networks with random weights, one of each family, and what `layer=None` takes in them for a class activation
map. The tests hold the library to this table, on TensorFlow, JAX and PyTorch: gradients equal the backend's own to
1e-5 of their size, a sample's map does not change with other samples or with `batch_size`, and the softmax is found.
`make zoo` runs all of them and writes this page. After the first call, `explainer.layer` tells the same of your model.

Where only a class token goes on to the score, layers whose patches change nothing are passed over: of a ViT it is the
normalisation in front of the last attention.

What makes an output, or a part of it, is no feature map (but a normalisation at the end is: before it, activation
times gradient is zero). A layer that runs at several scales, as the head of a detector does, is passed over: no call
of it sees all. Of RetinaNet it is the finest level of its pyramid; the other levels are not in that map.

| network | layer | map | inputs |
|---|---|---|---|
"""


def row(architecture):
    """Returns one line of the table."""
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()  # names are counted from the start
    model, inputs = architecture.make()
    explainer = vis.LayerCAM(model, upsample=False)
    maps = explainer(inputs, architecture.target)
    layer = explainer.layer if isinstance(explainer.layer, str) else f"{explainer.layer[0]}, call {explainer.layer[1]}"
    given = inputs if isinstance(inputs, dict) else {"": inputs}
    shapes = ", ".join(f"{name} {'×'.join(map(str, np.shape(array)[1:]))}".strip() for name, array in given.items())
    return f"| {architecture.name} | `{layer}` | {'×'.join(map(str, maps.shape[1:]))} | {shapes} |\n"


def main():
    """Writes the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows = [row(architecture) for architecture in ARCHITECTURES]
    (ROOT / "docs/zoo.md").write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
