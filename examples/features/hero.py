"""A photograph, two maps of why it is what it is to a network, and the image that its class likes best.

Writes `hero.jpg` into `output/`: the first picture of the README. Takes some minutes.
"""

import matplotlib

matplotlib.use("Agg")

import numpy as np
from classes import visualizer
from recipes import QUICK_STEPS, load_network, load_photo, parse_options, save, to_pixels

import vis
from vis.utils.utils import draw_text, stitch_images

PHOTO = "espresso"
SEED = 2
HEAD, FONT, GAP = 66, 27, 8  # pixels: the strip of the words, the words, and the space between pictures


def heat(maps):
    """Returns maps of values in [0, 1] as coloured RGB pictures, black to yellow."""
    return matplotlib.colormaps["inferno"](maps, bytes=True)[..., :3]


def headed(picture, words):
    """Returns a picture with words above it that can still be read when the whole is 400 pixels wide."""
    head = np.full((HEAD, picture.shape[1], 3), 255.0)
    whole = np.concatenate([draw_text(head, words, position=(0, 2), font_size=FONT), picture])
    return np.pad(whole, ((0, 0), (0, GAP), (0, 0)), constant_values=255)


def side_by_side(model, image, steps):
    """Returns the four pictures, each with its name above it."""
    target = int(model.predict(image, verbose=0).argmax())
    photo = to_pixels(image)[0]
    regions = vis.heatmap(vis.GradCAM(model)(image, target))[0]
    pictures = {
        "Photograph": photo,
        "Integrated\ngradients": heat(vis.heatmap(vis.IntegratedGradients(model)(image, target)))[0],
        "Grad-CAM": vis.plotting.overlay(photo, regions, cmap="inferno"),
        "Activation\nmaximisation": to_pixels(visualizer(model).many([target], steps=steps, seed=SEED))[0],
    }
    return [headed(picture, words) for words, picture in pictures.items()]


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    pictures = side_by_side(load_network(), load_photo(PHOTO), QUICK_STEPS if options.quick else 256)
    save(stitch_images(pictures, margin=0, cols=len(pictures)), options.output / "hero.jpg")


if __name__ == "__main__":
    main()
