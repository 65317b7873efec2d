"""A photograph in which a layer finds more and more of what it knows: DeepDream, in octaves.

The network is built for images of any size. The dream begins small, where the layer sees large shapes;
then it is enlarged, gets back the detail of the photograph that was lost in between, and goes on.
"""

import keras
import numpy as np
from recipes import QUICK_STEPS, RANGE, grid, load_network, load_photo, parse_options, save, to_pixels

import vis
from vis.input_modifiers import Jitter
from vis.losses import DeepDream
from vis.parameterizations import Pixels

LAYERS = ("block6_project_bn", "block10_project_bn")
SIZES = (120, 168, 232, 320)


def enlarged(images, size):
    """Returns a batch of images at another size."""
    return keras.ops.convert_to_numpy(keras.ops.image.resize(images, (size, size), "bicubic"))


def dream(model, layer, photo, sizes, steps):
    """Returns the photograph with what the layer sees in it grown.

    Args:
        model: A network for images of any size.
        layer: Name of the layer.
        photo: `(1, H, W, 3)` in the network's range.
        sizes: Rows and columns of each octave.
        steps: Steps in each.
    """
    fv = vis.FeatureVisualization(
        model, DeepDream(layer), Pixels(), [Jitter(16)], optimizer=keras.optimizers.Adam(0.02), input_range=RANGE
    )
    image, before = enlarged(photo, sizes[0]), sizes[0]
    for size in sizes:
        detail = enlarged(photo, size) - enlarged(enlarged(photo, before), size)
        image = fv(seed_input=np.clip(enlarged(image, size) + detail, *RANGE), steps=steps, seed=0)
        before = size
    return image


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    sizes, steps = (SIZES[:2], QUICK_STEPS) if options.quick else (SIZES, 40)
    model, photo = load_network(size=None), load_photo("cat", sizes[-1])
    images = [photo] + [dream(model, layer, photo, sizes, steps) for layer in LAYERS[: 1 if options.quick else None]]
    picture = grid([to_pixels(image[0]) for image in images], ["photograph", *LAYERS], size=sizes[-1])
    save(picture, options.output / "deep_dream.jpg")


if __name__ == "__main__":
    main()
