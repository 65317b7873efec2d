"""An activation atlas of EfficientNet-Lite0: what its last feature map knows of four photographs, as a map of pictures.

Random pieces of the photographs, small and large, are what it is made of; the network takes pieces of 128 x 128 pixels
here. Writes `atlas.png` and `atlas.html`, to zoom in, into `output/`. Some minutes on two cores; `--quick` takes less
than one, and its pictures are poor.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import pathlib

import keras
import numpy as np
from network import DATA, PHOTOS, efficientnet_lite0, preprocess
from PIL import Image

from vis.concepts import ActivationAtlas
from vis.input_modifiers import Crop, Noise, Pad, Rotate, Scale
from vis.parameterizations import Fourier

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIZE = 128  # rows and columns of the network's input: smaller than in training, and faster
LAYER = "head_relu"
PIECES, QUICK_PIECES = 500, 10  # of each photograph
SHARES = (0.25, 1.0)  # of a photograph's shorter side, a piece's
RANGE = tuple(float(end) for end in preprocess([0, 255]))
MOVES = [Pad(0.1), Crop(0.7), Rotate(10), Scale(0.9, 1.1), Noise(0.1)]


def network():
    """Returns EfficientNet-Lite0 for smaller images."""
    trained = efficientnet_lite0()
    model = keras.models.clone_model(trained, input_tensors=keras.Input((SIZE, SIZE, 3)))
    model.set_weights(trained.get_weights())
    return model


def pieces(count, seed=0):
    """Returns random square pieces of each photograph, mirrored or not, uint8 `(N, SIZE, SIZE, 3)`."""
    draw, found = np.random.default_rng(seed), []
    for name in PHOTOS:
        with Image.open(DATA / "photos" / f"{name}.jpg") as photo:
            photo = photo.convert("RGB")
        for _ in range(count):
            side = int(min(photo.size) * draw.uniform(*SHARES))
            left, top = (int(draw.integers(length - side + 1)) for length in photo.size)
            piece = photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
            found.append(np.asarray(piece)[:, :: draw.choice([1, -1])])
    return np.stack(found)


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few pieces, few cells, few steps")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for what is written")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    images = preprocess(pieces(QUICK_PIECES if options.quick else PIECES))
    atlas = ActivationAtlas(network(), LAYER, grid=2 if options.quick else 10, seed=0)
    atlas.fit(images, per_image=4)
    print(f"{len(atlas.activations)} activations in {len(atlas.cells)} cells, at least {atlas.min_count} in each")
    atlas.visualize(
        steps=3 if options.quick else 128,
        parameterization=Fourier(1.1),
        transforms=MOVES,
        optimizer=keras.optimizers.Adam(0.05),
        input_range=RANGE,
    )
    atlas.figure().savefig(options.output / "atlas.png", dpi=80)
    atlas.to_html(options.output / "atlas.html", title="What EfficientNet-Lite0 knows of four photographs")
    print(f"wrote {options.output / 'atlas.html'}")


if __name__ == "__main__":
    main()
