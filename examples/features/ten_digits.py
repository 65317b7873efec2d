"""What each class of a small MNIST network looks for: ten images, made as one batch.

Trains the network of `examples/mnist` once, a minute or two, and keeps it in the output folder.
"""

import numpy as np
import recipes  # it tells Python where `digits` is
from digits import load_digits, train

import vis
from vis.input_modifiers import Jitter, Rotate, Scale
from vis.losses import ActivationMaximization
from vis.parameterizations import Fourier
from vis.regularizers import TotalVariation
from vis.utils.utils import swap_softmax, to_bytes


def main(arguments=None):
    """Runs the example."""
    options = recipes.parse_options(__doc__, arguments)
    model = train(load_digits(), options.output / "mnist.keras", quick=options.quick)
    fv = vis.FeatureVisualization(
        swap_softmax(model),  # the scores
        ActivationMaximization("preds", 0),  # `many` says which
        Fourier(),
        [Jitter(2), Scale(0.9, 1.1), Rotate(8)],
        regularizers=[(TotalVariation(None), 10)],
    )
    images = fv.many(range(10), steps=recipes.QUICK_STEPS if options.quick else 256, seed=0)
    print("the network reads its own images as", model.predict(images, verbose=0).argmax(axis=-1))
    pictures = np.repeat(to_bytes(images, (0, 1)), 3, axis=-1)
    recipes.save(
        recipes.grid(pictures, [str(digit) for digit in range(10)], size=112), options.output / "ten_digits.jpg"
    )


if __name__ == "__main__":
    main()
