"""`explain`: what in a picture speaks for a class."""

import inspect
import textwrap

import keras
import numpy as np

from vis import plotting, visualization
from vis.commands import METHODS
from vis.commands.shared import check_output, class_index, load, names_for, picture_for, say
from vis.engine.evaluator import Evaluator
from vis.engine.graph import find_layer, has_graph, last_layers, operations
from vis.engine.inputs import read_inputs
from vis.engine.probabilities import probability_makers
from vis.utils.files import whole_file
from vis.utils.validation import check_input_range, near_names

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


def check_ends(model, output_layer):
    """Raises where a model has several outputs and none is chosen."""
    count = len(getattr(model, "outputs", None) or [])
    if output_layer is None and count > 1:
        paths = {id(operation): path for path, operation in operations(model)}
        names = [paths.get(id(end), end.name) for end in last_layers(model)]
        raise ValueError(
            f"--output-layer must say which of the model's {count} outputs is explained. {near_names('', names)}"
        )


def is_end(model, output_layer):
    """Tells whether what is explained is an output of the whole model."""
    if output_layer is None or not has_graph(model):
        return output_layer is None
    return any(find_layer(model, output_layer) is end for end in last_layers(model))


def scores(model, output_layer, batch):
    """Returns the output units for one picture, and whether they are probabilities.

    Positions are averaged, as explainers do.
    """
    evaluator = Evaluator(model, output_layer, logits=False)
    given = evaluator.ready(read_inputs(model, batch))
    tensors = [keras.ops.convert_to_tensor(array) for array in given.arrays]
    outputs, _ = evaluator.network.outputs(given.layout, tensors)
    units = keras.ops.convert_to_numpy(evaluator.network.units(outputs))[0]
    makers = probability_makers(model if output_layer is None else find_layer(model, output_layer))
    return units, bool(makers) and bool(np.all((units >= 0) & (units <= 1)))  # not the logarithms of probabilities


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
