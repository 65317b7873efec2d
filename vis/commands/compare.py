"""`compare`: which methods' maps say more of a model than chance."""

import contextlib
import sys
import warnings

import numpy as np

from vis import visualization
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
from vis.metrics import evaluate
from vis.utils.validation import check_input_range

PREFERRED = ("grad-cam", "integrated-gradients", "lrp", "occlusion")
COUNT = 3  # of them, where no method is asked for
FIT_EVERYTHING = ("occlusion", "rise")  # and take long, so they are not tried first


def run(options):
    """Measures methods on photos, prints the table, and writes the files that the options ask for."""
    check_input_range(options.input_range)
    check_outputs(options)
    model = load(options.model)
    inputs = inputs_for(model, options)
    check_ends(model, options.output_layer)
    units, _ = scores(model, options.output_layer, inputs[:1])
    count = max(len(units), 2)
    names = names_for(count, options.labels, is_end(model, options.output_layer))
    target = class_index(options.target, names)
    found = measured(model, options, inputs, target, names or [f"class {index}" for index in range(count)])
    tell(found, options)


def check_outputs(options):
    """Raises unless the files can be written, before the work."""
    read = (options.model, *options.photos)
    if options.output is not None:
        check_output(options.output, *read, endings=(".html", ".htm"))
    if options.json is not None:
        check_output(options.json, *read, option="--json", endings=(".json",))


def inputs_for(model, options):
    """Returns the photos as the model takes them, one batch.

    Raises:
        ValueError: A file is no picture, or the model takes any size and the photos are of several.
    """
    given = [picture_for(model, path, options.input_range, options.size) for path in options.photos]
    sizes = list(dict.fromkeys(f"{picture.shape[0]} {picture.shape[1]}" for picture, _ in given))
    if len(sizes) > 1:
        raise ValueError(
            "--size HEIGHT WIDTH must be given: the model takes pictures of any size, and the photos are of "
            f"{len(sizes)} sizes, such as {sizes[0]} and {sizes[1]}."
        )
    return np.concatenate([batch for _, batch in given])


def measured(model, options, inputs, target, labels):
    """Returns the evaluation; where it is interrupted or fails, what was finished is told."""
    explainers = explainers_for(model, options, inputs[:1], target)
    try:
        return evaluate(
            *(explainers, inputs, target, options.metrics, options.fills, None, options.baselines, options.seed),
            batch_size=options.batch_size,
            verbose=int(sys.stdout.isatty()),  # the bar is written where the table is
            model=model,
            labels=labels,
            output_layer=options.output_layer,
        )
    except BaseException as error:
        found = getattr(error, "evaluation", None)
        if found is not None and found.table:
            tell(found, options, f"Only {len(found.maps)} of {len(explainers)} methods were measured.")
        raise


def explainers_for(model, options, inputs, target):
    """Returns a dict from names to explainers: the methods asked for, or else the preferred ones that fit the model.

    Args:
        model: The model.
        options: The options.
        inputs: One photo, on which methods are tried.
        target: The class.

    Raises:
        ValueError: A method that was asked for does not fit the model.
    """
    if options.methods is not None:
        return {name: tried(name, model, options.output_layer, inputs, target) for name in options.methods}
    found = {}
    for name in PREFERRED:
        with contextlib.suppress(Exception):  # the method's, the model's or the framework's
            if len(found) < COUNT:
                found[name] = tried(name, model, options.output_layer, inputs, target)
    return found


def tried(name, model, output_layer, inputs, target):
    """Returns the explainer of a method's name, if it explains; what it warns of is said when it is measured."""
    explainer = getattr(visualization, METHODS[name])(model, output_layer=output_layer)
    if name not in FIT_EVERYTHING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explainer(inputs, target=target)
    return explainer


def tell(found, options, first=""):
    """Prints the table and writes the files."""
    for line in ["", *([first, ""] if first else []), *str(found).splitlines()]:
        say(line)
    for path, write in ((options.output, found.to_html), (options.json, found.to_json)):
        if path is not None:
            write(path)
            say(f"wrote {path}")
