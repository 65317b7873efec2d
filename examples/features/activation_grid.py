"""A photograph as a layer sees it: each place of its activations, visualised."""

import keras
import numpy as np
from recipes import QUICK_STEPS, RANGE, caption, load_network, load_photo, parse_options, save, to_pixels

import vis
from vis.input_modifiers import Jitter, Rotate, Scale
from vis.losses import Direction
from vis.utils.utils import stitch_images

LAYER = "block9_project_bn"
PHOTOS = ("cat", "officer")
SIDE = 72  # pixels of a cell's image


def activations(model, photo, cells):
    """Returns the layer's activations at `cells` x `cells` places of a photograph, `(cells ** 2, channels)`."""
    found = keras.Model(model.input, model.get_layer(LAYER).output)(photo)
    step = found.shape[1] // cells
    return np.asarray(keras.ops.average_pool(found, step, step)).reshape(cells**2, -1)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    names, cells, steps = (PHOTOS[:1], 2, QUICK_STEPS) if options.quick else (PHOTOS, 7, 192)
    model, small = load_network(), load_network(SIDE)
    pictures = []
    for name in names:
        photo = load_photo(name)
        loss = Direction(LAYER, activations(model, photo, cells), cosine_power=1)
        transforms = [Jitter(4), Scale(0.9, 1.1), Rotate(5), Jitter(2)]
        fv = vis.FeatureVisualization(small, loss, transforms=transforms, input_range=RANGE)
        images = fv(num_images=cells**2, steps=steps, seed=0)
        pictures += [to_pixels(photo[0]), stitch_images(list(to_pixels(images)), margin=1, cols=cells)]
    captions = [words for name in names for words in (name, f"{LAYER}, {cells} x {cells} places")]
    size = 112 if options.quick else 440
    save(
        stitch_images([caption(*one, size) for one in zip(pictures, captions)], cols=2),
        options.output / "activation_grid.jpg",
    )


if __name__ == "__main__":
    main()
