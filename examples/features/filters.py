"""Filters of rising depth: edges, textures, patterns, parts. One row a layer; takes some minutes.

The deeper the layer, the more of the image each of its places sees, and the larger the images here.
"""

import keras
from recipes import QUICK_STEPS, RANGE, crops, grid, load_network, parse_options, save, to_pixels

import vis
from vis.input_modifiers import Jitter, Pad, Rotate, Scale
from vis.losses import ActivationMaximization
from vis.parameterizations import Fourier

MOVES = [Pad(8), Jitter(6), Scale(0.9, 1.1), Rotate(5)]
SOFT, HARD = (1.1, 0.03), (1.0, 0.05)  # decay and learning rate
ROWS = (  # layers before a ReLU, so no channel is ever silent
    ("block0_project_bn", (0, 3, 6, 7, 11, 12), 40, 128, [Jitter(4)], HARD),
    ("block2_project_bn", (3, 5, 9, 11, 15, 21), 80, 128, MOVES, HARD),
    ("block6_project_bn", (8, 22, 29, 57, 64, 71), 144, 160, crops(0.7, 0.1), HARD),
    ("block9_project_bn", (11, 31, 41, 51, 61, 111), 176, 192, crops(0.7, 0.1), HARD),
    ("block13_project_bn", (1, 18, 35, 104, 139, 156), 208, 192, crops(0.6, 0.1), SOFT),
)


def make_row(layer, channels, size, steps, transforms, softness):
    """Returns an image for each of some channels of a layer, `(N, size, size, 3)`."""
    decay, rate = softness
    fv = vis.FeatureVisualization(
        load_network(size),
        ActivationMaximization(layer, 0),  # `many` says which
        Fourier(decay),
        transforms,
        optimizer=keras.optimizers.Adam(rate),
        input_range=RANGE,
    )
    images = fv.many(channels, steps=steps, seed=0)
    print(f"{layer}: mean activations", -fv.history["ActivationMax Loss"][-1].round(1))
    return images


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    pictures, captions = [], []
    for layer, channels, size, steps, *how in ROWS[:1] if options.quick else ROWS:
        images = make_row(layer, channels, size, QUICK_STEPS if options.quick else steps, *how)
        pictures += list(to_pixels(images))
        captions += [f"{layer.removesuffix('_bn')} : {channel}" for channel in channels]
    save(grid(pictures, captions, cols=6, size=150), options.output / "filters.jpg")


if __name__ == "__main__":
    main()
