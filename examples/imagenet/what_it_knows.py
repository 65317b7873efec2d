"""Concepts of EfficientNet-Lite0 in four photographs: what its last feature maps are made of, and what matters.

CRAFT finds eight directions in the space of channels, from pieces of the photographs and their mirror images. Writes
into `output/`: `concepts.png` (a row for each concept, those first that matter most for the first photograph) and
`concepts.html` (the same, for a browser). `--quick` finds three, from fewer pieces.
"""

import argparse
import pathlib

import numpy as np
from network import efficientnet_lite0, load_photos, preprocess

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
LAYER = "head_relu"


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few concepts, few pieces")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for what is written")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    model = efficientnet_lite0()
    images = preprocess(load_photos())
    number, designs, pieces = (3, 4, 40) if options.quick else (8, 64, 2000)
    craft = vis.concepts.CRAFT(model, LAYER, number, seed=0, num_crops=pieces)
    craft.fit(np.concatenate([images, images[:, :, ::-1]]))
    print(f"{number} concepts make up {craft.explained:.0%} of the layer's output")
    importances = craft.importances(images[:1], num_designs=designs)[0]
    for k in np.argsort(-importances):
        print(f"concept {k}: {importances[k]:.2f} of the variance of the first photograph's score")
    craft.figure(images, importances).savefig(options.output / "concepts.png", dpi=110)
    craft.to_html(options.output / "concepts.html", images, importances, title="What EfficientNet-Lite0 knows")
    print(f"wrote {options.output / 'concepts.html'}")


if __name__ == "__main__":
    main()
