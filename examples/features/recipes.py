"""What the recipes share: the network, the transforms for deep layers, and grids with captions."""

import argparse
import pathlib
import sys

import keras
import numpy as np
from PIL import Image

from vis.input_modifiers import Crop, Noise, Pad, Rotate, Scale
from vis.utils.utils import draw_text, stitch_images, to_bytes

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE / "output"
sys.path += [str(HERE.parent / "imagenet"), str(HERE.parent / "mnist")]

from network import efficientnet_lite0, load_photos, preprocess

RANGE = tuple(float(end) for end in preprocess([0, 255]))  # what the network takes, about -1 to 1
CAPTION = 22  # pixels above each picture
QUICK_STEPS = 3


def load_network(size=224):
    """Returns EfficientNet-Lite0 that ends in scores instead of probabilities.

    Args:
        size: Rows and columns of its input: a number, or `None` for images of any size. Default 224, for
            which it was trained. Smaller is faster.
    """
    model = efficientnet_lite0(classifier_activation=None)
    if size == 224:
        return model
    resized = keras.models.clone_model(model, input_tensors=keras.Input((size, size, 3)))
    resized.set_weights(model.get_weights())
    return resized


def load_photo(name="cat", size=224):
    """Returns a photograph as the network takes it, `(1, size, size, 3)`."""
    return preprocess(load_photos((size, size), (name,)))


def crops(size=0.6, noise=0.2):
    """Returns transforms for deep layers: the network sees a random piece, turned, scaled and noisy.

    A piece is enlarged to the network's size, so what it likes cannot hide in single pixels.

    Args:
        size: Side of the piece, as a fraction of the image. Default 0.6.
        noise: Standard deviation of the noise, in the units of the input. Default 0.2.
    """
    return [Pad(0.15), Crop(size), Rotate(15), Scale(0.8, 1.2), Noise(noise)]


def to_pixels(images):
    """Returns images in the network's range as bytes."""
    return to_bytes(images, RANGE)


def caption(picture, words, size=180):
    """Returns a picture `(size, size, 3)` with a line of white words above it.

    Args:
        picture: RGB bytes, square.
        words: The words. None, no line.
        size: Its new side in pixels. Default 180.
    """
    picture = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))
    if words is None:
        return picture
    line = draw_text(np.zeros((CAPTION, size, 3)), words, position=(3, 3), font_size=13, color=(255, 255, 255))
    return np.concatenate([line, picture])


def grid(pictures, captions=None, cols=5, size=180):
    """Returns one picture of many, row by row, each with its words above it."""
    captions = [None] * len(pictures) if captions is None else captions
    return stitch_images([caption(picture, words, size) for picture, words in zip(pictures, captions)], cols=cols)


def parse_options(description, arguments=None):
    """Returns the options of the command line: `quick`, `output`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="see only that everything runs; the pictures are poor")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def save(picture, path):
    """Writes a picture and tells where it is."""
    Image.fromarray(picture).save(path, quality=82)
    print(f"wrote {path}")
