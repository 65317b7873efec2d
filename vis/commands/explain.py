"""`explain`: what in a picture speaks for a class."""

import inspect
import textwrap

import numpy as np

from vis import plotting, visualization
from vis.commands import METHODS
from vis.commands.shared import (
    check_ends,
    check_output,
    class_index,
    is_end,
    load,
    names_for,
    picture_for,
    say,
    scores,
)
from vis.utils.files import whole_file
from vis.utils.validation import check_input_range

DENSITY = 10  # characters above the picture, for each inch of its width


def run(options):
    """Writes the picture that the options ask for, and says what is in it."""
    check_input_range(options.input_range)
    check_output(options.output, options.model, options.picture)
    model = load(options.model)
    picture, batch = picture_for(model, options.picture, options.input_range, options.size)
    check_ends(model, options.output_layer)
    explainer = explainer_for(model, options)
    units, is_probability = scores(model, options.output_layer, batch)
    names = names_for(max(len(units), 2), options.labels, is_end(model, options.output_layer))
    target = class_index(options.target, names)
    attribution = explainer(batch, target=target)[0]
    if target is None:
        target = int(np.argmax(units)) if len(units) > 1 else 1  # a single unit is class 1
    score = words_score(units, target, is_probability)
    name = names[target] if names else ""
    figure = plotting.show_attribution(picture, channels_last(attribution, picture))
    write_above(figure, f"{name} ({target}): {score}" if name else f"class {target}: {score}")
    with whole_file(options.output) as temporary:
        figure.savefig(temporary, dpi=120)
    whose = " of ImageNet" if options.labels is None else ""
    named = f', "{name}"{whose}' if name else ""
    say(f"{options.method} of class {target}{named} ({score}): wrote {options.output}")


def explainer_for(model, options):
    """Returns the explainer of a method's name.

    Raises:
        ValueError: The method takes no layer, and one is given; or there is no such layer.
    """
    method = getattr(visualization, METHODS[options.method])
    if options.layer is None:
        return method(model, output_layer=options.output_layer)
    if "layer" not in inspect.signature(method).parameters:
        raise ValueError(
            f"--layer is for the class activation maps. Received: --method {options.method}, which looks at no feature "
            "map. Leave --layer out."
        )
    return method(model, layer=options.layer, output_layer=options.output_layer)


def words_score(units, target, is_probability):
    """Words the model's output for a class; a single unit is class 1."""
    value = units[target if len(units) > 1 else 0]
    if not is_probability:
        return f"output {value:.4g}" if len(units) > 1 else f"the one output, for class 1, is {value:.4g}"
    return f"probability {1 - value if len(units) == 1 and target == 0 else value:.3g}"


def write_above(figure, words):
    """Writes words above a figure, broken into lines that fit into its width."""
    lines = textwrap.wrap(words, int(DENSITY * figure.get_size_inches()[0]))
    figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)


def channels_last(attribution, picture):
    """Moves the channels of an attribution to its end, where a picture has them."""
    if attribution.ndim == 3 and attribution.shape[:2] != picture.shape[:2]:
        return np.moveaxis(attribution, 0, -1)
    return attribution
