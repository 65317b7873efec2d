"""Where the network looks: saliency, Grad-CAM and relevance of handwritten digits.

Trains the network once (less than half a minute on two cores), then writes one picture a step into `output/`.
"""

import matplotlib

matplotlib.use("Agg")

import keras
import numpy as np
from digits import draw, find_digit, grey, heat, parse_options, prepare, save

import vis
from vis import grad_modifiers
from vis.utils import utils
from vis.visualization import overlay, visualize_cam, visualize_saliency

INDEX = 110  # the test image to explain, an eight
COMPOSITES = ("epsilon", "epsilon-gamma", "alpha2-beta1")
MODIFIERS = {"vanilla": None, "guided": "guided", "relu": "relu"}


def maps_of(visualize, model, image, digit, **arguments):
    """Returns one map for each backprop modifier.

    Args:
        visualize: `visualize_saliency` or `visualize_cam`.
        model: The network.
        image: One image, `(28, 28, 1)`.
        digit: The class to explain.
        **arguments: Passed on to `visualize`.
    """
    layer_idx = utils.find_layer_idx(model, "preds")
    return [
        visualize(model, layer_idx, filter_indices=digit, seed_input=image, backprop_modifier=modifier, **arguments)
        for modifier in MODIFIERS.values()
    ]


def saliency_row(model, image, digit, color=heat, **arguments):
    """Returns the saliency maps of one image as pictures."""
    return [color(one) for one in maps_of(visualize_saliency, model, image, digit, **arguments)]


def cam_row(model, image, digit):
    """Returns the Grad-CAM maps of one image as pictures, laid over the image unless they are flat."""
    maps = maps_of(visualize_cam, model, image, digit)
    return [overlay(heat(one), grey(image), alpha=0.7) if one.any() else heat(one) for one in maps]


def draw_one(row, model, image, digit):
    """Draws one image and its maps; `row` is `saliency_row` or `cam_row`."""
    return draw([[grey(image)] + row(model, image, digit)], titles=["input", *MODIFIERS])


def lowering(grads):
    """Returns how much each pixel would lower the score, zero where it would raise it."""
    return grad_modifiers.relu(grad_modifiers.negate(grads))


def draw_signs(model, image, digit):
    """Draws saliency with its sign, with the opposite sign, and what is positive of that."""
    rows = [
        saliency_row(model, image, digit, color=grey, grad_modifier=None),
        saliency_row(model, image, digit, color=grey, grad_modifier="negate"),
        saliency_row(model, image, digit, grad_modifier=lowering),
    ]
    return draw(rows, titles=MODIFIERS, labels=["None", "negate", "lowering"])


def draw_ten(row, model, images, labels):
    """Draws the first test image of each digit, its maps below it."""
    chosen = {digit: images[find_digit(labels, digit)] for digit in range(10)}
    columns = [[grey(image)] + row(model, image, digit) for digit, image in chosen.items()]
    return draw(list(zip(*columns)), labels=["input", *MODIFIERS], size=0.9)


def signed(values):
    """Returns relevance `(28, 28)` as a coloured picture: red speaks for the digit, blue against it, white is 0."""
    return matplotlib.colormaps["RdBu_r"]((values + 1) / 2, bytes=True)[..., :3]


def draw_relevance(model, images, labels):
    """Draws the first test image of each digit, its relevance by each composite below it."""
    chosen = np.stack([images[find_digit(labels, digit)] for digit in range(10)])
    rows = [[grey(image) for image in chosen]]
    for composite in COMPOSITES:
        relevance = vis.LRP(model, composite)(chosen, target=range(10))
        rows.append([signed(one) for one in vis.heatmap(relevance, sign="signed")])
    return draw(rows, labels=["input", *COMPOSITES], size=0.9)


def draw_comparison(row, linear, softmax, image, digit):
    """Draws the maps of the score above those of the probability."""
    rows = [[grey(image)] + row(model, image, digit) for model in (linear, softmax)]
    return draw(rows, titles=["input", *MODIFIERS], labels=["linear", "softmax"])


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model, (images, labels) = prepare(options)
    softmax = utils.apply_modifications(model)  # an independent copy, kept for the comparison

    layer_idx = utils.find_layer_idx(model, "preds")
    model.layers[layer_idx].activation = keras.activations.linear
    model = utils.apply_modifications(model)

    image, digit = images[INDEX], int(labels[INDEX])
    print(f"test image {INDEX}: digit {digit}, probability {softmax.predict(image[None], verbose=0)[0, digit]:.4f}")

    save(draw_one(saliency_row, model, image, digit), options.output / "saliency.png")
    save(draw_signs(model, image, digit), options.output / "saliency_negate.png")
    save(draw_ten(saliency_row, model, images, labels), options.output / "saliency_ten_digits.png")
    save(draw_one(cam_row, model, image, digit), options.output / "cam.png")
    save(draw_ten(cam_row, model, images, labels), options.output / "cam_ten_digits.png")
    save(draw_relevance(model, images, labels), options.output / "relevance_ten_digits.png")
    model.summary()
    print("the same with the softmax left in, which vis warns of:")
    for name, row in (("saliency", saliency_row), ("cam", cam_row)):
        save(draw_comparison(row, model, softmax, image, digit), options.output / f"{name}_softmax.png")


if __name__ == "__main__":
    main()
