"""What the network looks for: the image that each class likes best.

Trains the network once (less than half a minute on two cores), then writes one picture a step into `output/`.
"""

import matplotlib

matplotlib.use("Agg")

import functools

import keras
import numpy as np
from digits import draw, grey, heat, parse_options, prepare, save

from vis.callbacks import GifGenerator
from vis.input_modifiers import Jitter
from vis.utils import utils
from vis.visualization import overlay, visualize_activation, visualize_cam, visualize_saliency

DIGIT = 3
INDEX = 110  # the test image of the last picture, an eight
RANGE = (0.0, 1.0)
TV_WEIGHTS = (1e-3, 1e-2, 1e-1, 1, 10)
SHARP = {"tv_weight": 0.3, "lp_norm_weight": 0}


class EnlargedGif(GifGenerator):
    """Writes every pixel as a square of 8 x 8, so that the step's number finds room."""

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        """Appends one enlarged frame."""
        enlarged = np.kron(wrt_value, np.ones((1, 8, 8, 1)))
        super().callback(i, named_losses, overall_loss, grads, enlarged)


def maximise(model, filter_indices, quick=False, **arguments):
    """Returns the image that a class likes best, or several classes together.

    Args:
        model: The network.
        filter_indices: One digit, or a list of them.
        quick: Whether to stop after a few steps. Default `False`.
        **arguments: Passed on to `visualize_activation`.
    """
    if quick:
        arguments["max_iter"] = min(10, arguments.get("max_iter", 10))
    layer_idx = utils.find_layer_idx(model, "preds")
    return visualize_activation(
        model, layer_idx, filter_indices=filter_indices, seed=0, **{"input_range": RANGE, **arguments}
    )


def draw_ranges(find):
    """Draws one digit for two ranges of the input; the network was trained on the second."""
    ranges = ((0, 255), RANGE)
    return draw([[grey(find(DIGIT, input_range=one)) for one in ranges]], titles=map(str, ranges))


def draw_weights(find):
    """Draws one digit with and without each regularizer."""
    choices = {
        "both": {},
        "no $L_p$ norm": {"lp_norm_weight": 0},
        "no total variation": {"tv_weight": 0},
        "neither": {"tv_weight": 0, "lp_norm_weight": 0},
    }
    return draw([[grey(find(DIGIT, **weights)) for weights in choices.values()]], titles=choices)


def draw_sweep(find, digits=(0, 3, 8)):
    """Draws some digits for rising weights of the total variation."""
    rows = [[grey(find(digit, tv_weight=weight, lp_norm_weight=0)) for weight in TV_WEIGHTS] for digit in digits]
    return draw(rows, titles=[f"TV {weight:g}" for weight in TV_WEIGHTS], labels=digits)


def find_ten(find):
    """Returns a dict from the way they are found to the images of all ten digits."""
    ways = {"default": {}, "TV 0.3": SHARP, "jitter": {"input_modifiers": [Jitter(2, seed=0)]}}
    return {name: [find(digit, **way) for digit in range(10)] for name, way in ways.items()}


def draw_ten(found):
    """Draws what `find_ten` returns, one row a way."""
    return draw([[grey(image) for image in images] for images in found.values()], labels=found, size=0.9)


def print_readings(found, softmax):
    """Prints which digits the network sees in what `find_ten` returns."""
    for name, images in found.items():
        print(f"{name}: the network reads its own images as", softmax.predict(np.stack(images), verbose=0).argmax(-1))


def draw_joint(find, digits=(1, 7)):
    """Draws digits one by one, then the image that they like together."""
    choices = [*digits, list(digits)]
    return draw([[grey(find(choice)) for choice in choices]], titles=map(str, choices))


def draw_softmax(find, find_softmax, digits=(0, 2, 3, 6, 8)):
    """Draws some digits by their score, and by their probability."""
    free = functools.partial(find_softmax, tv_weight=0, lp_norm_weight=0)
    rows = [[grey(one(digit)) for digit in digits] for one in (find, find_softmax, free)]
    return draw(rows, titles=digits, labels=["linear", "softmax", "softmax,\nweights 0"])


def draw_side_by_side(model, find, image, digit):
    """Draws an image, three maps of what speaks for its class, and what the class looks for."""
    layer_idx = utils.find_layer_idx(model, "preds")
    cam = visualize_cam(model, layer_idx, filter_indices=digit, seed_input=image)
    views = {
        "input": grey(image),
        "saliency": heat(visualize_saliency(model, layer_idx, digit, image)),
        "guided saliency": heat(visualize_saliency(model, layer_idx, digit, image, backprop_modifier="guided")),
        "Grad-CAM": overlay(heat(cam), grey(image), alpha=0.7),
        "maximised input": grey(find(digit, **SHARP)),
    }
    return draw([list(views.values())], titles=views)


def write_gif(find, path):
    """Writes the optimisation of one digit as an animated GIF."""
    find(DIGIT, lp_norm_weight=1, tv_weight=1, max_iter=80, callbacks=[EnlargedGif(path, input_range=RANGE)])
    print(f"wrote {path}")


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model, (images, labels) = prepare(options)
    softmax = utils.apply_modifications(model)  # an independent copy, for the counter-example

    layer_idx = utils.find_layer_idx(model, "preds")
    model.layers[layer_idx].activation = keras.activations.linear
    model = utils.apply_modifications(model)
    find = functools.partial(maximise, model, quick=options.quick)
    find_softmax = functools.partial(maximise, softmax, quick=options.quick)

    print(f"the first steps towards a {DIGIT}:")
    find(DIGIT, max_iter=5, verbose=True)
    save(draw_ranges(find), options.output / "maximised_ranges.png")
    save(draw_weights(find), options.output / "maximised_weights.png")
    save(draw_sweep(find), options.output / "maximised_tv_sweep.png")
    found = find_ten(find)
    save(draw_ten(found), options.output / "maximised_ten_digits.png")
    print_readings(found, softmax)
    save(draw_joint(find), options.output / "maximised_joint.png")
    print("with the softmax left in, which vis warns of:")
    save(draw_softmax(find, find_softmax), options.output / "maximised_softmax.png")
    write_gif(find, options.output / "optimisation.gif")
    figure = draw_side_by_side(model, find, images[INDEX], int(labels[INDEX]))
    save(figure, options.output / "side_by_side.png")


if __name__ == "__main__":
    main()
