"""What ten classes of ImageNet look for, made as one batch. Takes some minutes."""

import keras
from recipes import QUICK_STEPS, RANGE, crops, grid, load_network, parse_options, save, to_pixels

import vis
from vis.losses import ActivationMaximization
from vis.parameterizations import Fourier
from vis.regularizers import TotalVariation
from vis.utils.utils import lookup_imagenet_labels

CLASSES = [386, 107, 292, 301, 323, 291, 340, 949, 130, 980]


def visualizer(model):
    """Returns what makes pictures of classes; what is in it and why stands in the guide."""
    return vis.FeatureVisualization(
        model,
        ActivationMaximization("predictions", 0),  # `many` says which
        Fourier(decay=1.1),
        crops(),
        regularizers=[(TotalVariation(None), 20)],
        optimizer=keras.optimizers.Adam(0.03),
        input_range=RANGE,
    )


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    classes = CLASSES[:2] if options.quick else CLASSES
    images = visualizer(load_network()).many(classes, steps=QUICK_STEPS if options.quick else 256, seed=2)
    picture = grid(to_pixels(images), [name.split(",")[0] for name in lookup_imagenet_labels(classes)])
    save(picture, options.output / "classes.jpg")


if __name__ == "__main__":
    main()
