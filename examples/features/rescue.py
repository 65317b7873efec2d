"""The recipe of keras-vis for deep networks: noisy filters, rescued. Takes some minutes.

Without total variation, and with Jitter, `visualize_activation` finds where to go, but draws it in noise.
From there it goes on with total variation, which smooths what is there.
"""

import keras
import numpy as np
from recipes import QUICK_STEPS, grid, load_network, parse_options, save

from vis.input_modifiers import Jitter
from vis.visualization import visualize_activation

LAYER, FILTERS, SIZE = "block9_project_bn", (31, 41, 51, 61, 111), 176


def bytes_network(layer):
    """Returns the network up to a layer, for pixels 0..255: the weights of keras-vis are made for these."""
    network = load_network(SIZE)
    inputs = keras.Input((SIZE, SIZE, 3))
    scaled = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    return keras.Model(inputs, keras.Model(network.input, network.get_layer(layer).output)(scaled))


def find(model, index, **arguments):
    """Returns the image that a filter likes, uint8, by the function of keras-vis."""
    return visualize_activation(model, -1, index, input_modifiers=[Jitter(0.05, seed=0)], seed=0, **arguments)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    filters = FILTERS[:1] if options.quick else FILTERS
    first, second = (QUICK_STEPS, QUICK_STEPS) if options.quick else (150, 300)
    model = bytes_network(LAYER)
    noisy = [find(model, index, tv_weight=0, max_iter=first) for index in filters]
    rescued = [
        find(model, index, tv_weight=1, seed_input=image, max_iter=second) for index, image in zip(filters, noisy)
    ]
    captions = [f"{index}, {words}" for words in ("no total variation", "rescued") for index in filters]
    save(grid(np.stack(noisy + rescued), captions, cols=len(filters)), options.output / "rescue.jpg")


if __name__ == "__main__":
    main()
