"""`maximize`: what filters of a layer look for."""

import contextlib
import math
import sys

import keras
import numpy as np

from vis.commands.shared import check_output, load, picture_input, picture_size, say
from vis.engine.graph import find_layer
from vis.losses import ActivationMaximization
from vis.utils import utils
from vis.utils.files import whole_file
from vis.utils.images import stitch_images, to_bytes
from vis.visualization import FeatureVisualization

TILE = 128  # pixels that the longer side of a filter's picture has at least
STRIP = 18  # pixels above it, for its number
GROUND = np.uint8(220)  # grey between them: neither black nor white pictures end in it


def run(options):
    """Writes the filters' pictures as a grid."""
    check_output(options.output, options.model)
    model = load(options.model)
    *_, first = picture_input(model)
    with contextlib.suppress(ValueError):  # it ends in scores already
        model = utils.swap_softmax(model)
    layer = find_layer(model, options.layer)
    fv = FeatureVisualization(
        of_size(model, options.size), ActivationMaximization(layer, 0), input_range=options.input_range
    )
    images = fv.many(options.filters, steps=options.steps, seed=options.seed, verbose=int(sys.stderr.isatty()))
    if first:
        images = np.moveaxis(images, 1, -1)
    dead = dead_filters(options.filters, next(iter(fv.history.values())))
    grid = labelled_grid(to_bytes(images, options.input_range), options.filters, dead)
    with whole_file(options.output) as temporary:
        keras.utils.save_img(temporary, grid, scale=False)
    for index in dead:
        say(f"filter {index} is dead: its output never moved, so its picture means nothing")
    words = "filter" if len(images) == 1 else "filters"
    say(f"{len(images)} {words} of {options.layer}: wrote {options.output}")


def of_size(model, asked):
    """Returns a model whose pictures have one size: itself, or itself behind an input of the size asked for.

    Raises:
        ValueError: The model takes another size; or any, and none is asked for.
    """
    size, ((height, width), channels, first) = picture_size(model, asked), picture_input(model)
    if size is None:
        raise ValueError("--size HEIGHT WIDTH must be given: the model takes pictures of any size. Try 224 224.")
    if size == (height, width):
        return model
    inputs = keras.Input((channels, *size) if first else (*size, channels))
    return keras.Model(inputs, model(inputs), name=model.name)


def dead_filters(indices, losses):
    """Returns the indices of filters whose loss, `(steps, filters)`, was the same in all of several steps."""
    still = np.ptp(losses, axis=0) == 0 if len(losses) > 1 else np.zeros(len(indices), bool)
    return [index for index, is_still in zip(indices, still) if is_still]


def labelled_grid(images, indices, dead=()):
    """Returns pictures on light grey, each below the number of its filter; small ones enlarged by a whole factor.

    Args:
        images: uint8 `(N, H, W, 1 or 3)`.
        indices: Their filters.
        dead: Those of them that are dead.

    Returns:
        uint8 `(rows, columns, 3)`.
    """
    factor = math.ceil(TILE / max(images.shape[1:3]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    tiles = []
    for image, index in zip(images, indices):
        tile = np.full((STRIP + image.shape[0], max(TILE, image.shape[1]), 3), GROUND, "uint8")
        tile[STRIP:, : image.shape[1]] = image
        words = f"filter {index} (dead)" if index in dead else f"filter {index}"
        tiles.append(utils.draw_text(tile, words, position=(2, 2), font_size=12))
    # What is between tiles is 0, so the ground is taken off before and put back after; bytes wrap around.
    return stitch_images([tile - GROUND for tile in tiles], cols=math.ceil(math.sqrt(len(tiles)))) + GROUND
