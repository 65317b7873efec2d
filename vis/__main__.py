"""The command line: `python -m vis explain`, `layers`, `maximize`, for a saved model.

Everything here is a thin front over the package; errors and warnings become one line.
"""

import argparse
import contextlib
import decimal
import math
import os
import pathlib
import re
import sys
import warnings
import zipfile

import keras
import numpy as np

import vis
from vis import plotting
from vis.engine.graph import layers
from vis.engine.inputs import model_input_format, model_input_shape
from vis.losses import ActivationMaximization
from vis.utils import utils
from vis.utils.files import check_writable, whole_file
from vis.utils.images import stitch_images, to_bytes
from vis.utils.validation import VisualizationWarning, check_input_range, pick, printable, words_error

MOST_FILTERS = 1024
MOST_WORDS = 400  # characters of an error
TILE = 128  # pixels that the longer side of a filter's picture has at least
STRIP = 18  # pixels above it, for its number
GROUND = np.uint8(220)  # grey between them: neither black nor white pictures end in it
PICTURES = (".png", ".jpg", ".jpeg")
METHODS = {
    "saliency": vis.Saliency,
    "gradient-times-input": vis.GradientTimesInput,
    "smooth-grad": vis.SmoothGrad,
    "integrated-gradients": vis.IntegratedGradients,
    "blur-integrated-gradients": vis.BlurIntegratedGradients,
    "guided-integrated-gradients": vis.GuidedIntegratedGradients,
    "full-grad": vis.FullGrad,
    "xrai": vis.XRAI,
    "grad-cam": vis.GradCAM,
    "grad-cam++": vis.GradCAMPlusPlus,
    "layer-cam": vis.LayerCAM,
    "hires-cam": vis.HiResCAM,
    "xgrad-cam": vis.XGradCAM,
    "eigen-cam": vis.EigenCAM,
    "guided-grad-cam": vis.GuidedGradCAM,
    "ablation-cam": vis.AblationCAM,
    "score-cam": vis.ScoreCAM,
    "occlusion": vis.Occlusion,
    "rise": vis.RISE,
}


def load(path):
    """Returns a saved Keras model, loaded in Keras's safe mode.

    Args:
        path: A `.keras` file.

    Raises:
        ValueError: The file is missing, is no model, or holds code that safe mode does not run.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"The model must be a saved Keras model. Received: {str(path)!r}, which does not exist.")
    if path.suffix != ".keras":  # older versions of Keras run code that other kinds of files hold
        raise ValueError(
            f"The model must be a `.keras` file, as `model.save('model.keras')` writes it. Received: {str(path)!r}."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is no `.keras` file, whatever its name says: save the model anew.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        reason = words_error(error, 150)
        raise ValueError(
            f"{str(path)!r} could not be loaded as a Keras model: {reason} Code in a model (Lambda layers) is not run; "
            "own layers must be registered, so load such a model in a script of yours."
        ) from error


def picture_for(model, path, input_range):
    """Returns a picture as `(array, batch)`: bytes, and what the model takes.

    Raises:
        ValueError: The file is no picture, or the model takes none.
    """
    (height, width), channels, first = picture_input(model)
    size = None if None in (height, width) else (height, width)
    array = utils.load_img(path, grayscale=channels == 1, target_size=size)
    low, high = input_range
    batch = (low + (high - low) * array.astype("float32") / 255).reshape(1, *array.shape[:2], channels)
    return array, np.moveaxis(batch, -1, 1) if first else batch


def picture_input(model):
    """Returns `((height, width), channels, whether the channels come first)` of the pictures that a model takes.

    Raises:
        ValueError: It takes something else.
    """
    shape, first = model_input_shape(model), model_input_format(model) == "channels_first"
    size, channels = (None, None) if shape is None else (shape[2:], shape[1]) if first else (shape[1:-1], shape[-1])
    if size is None or len(size) != 2 or channels not in (1, 3):
        raise ValueError(f"The model must take one picture, (N, H, W, 1 or 3). Its input has the shape {shape}.")
    return size, channels, first


def explain(options):
    """Writes what speaks for a class in a picture."""
    check_input_range(options.input_range)
    check_output(options.output, options.model, options.picture)
    model = load(options.model)
    picture, batch = picture_for(model, options.picture, options.input_range)
    method = pick("--method", options.method, METHODS)
    where = {} if options.layer is None else {"layer": options.layer}
    try:
        explainer = method(model, **where)
    except TypeError as error:
        if not where:
            raise
        raise ValueError(f"--layer is for the class activation maps. Received: --method {options.method}.") from error
    attribution = explainer(batch, target=options.target)[0]
    if attribution.ndim == 3 and attribution.shape[:2] != picture.shape[:2]:
        attribution = np.moveaxis(attribution, 0, -1)
    outputs = keras.ops.convert_to_numpy(model(batch, training=False))[0]
    scores = outputs.reshape(-1, outputs.shape[-1]).mean(axis=0)  # as explainers do where there are positions
    best = int(np.argmax(scores)) if len(scores) > 1 else 1  # a single unit is class 1
    target = best if options.target is None else options.target
    score = scores[target] if len(scores) > 1 else scores[0]
    figure = plotting.show_attribution(picture, attribution, title=f"class {target}")
    with whole_file(options.output) as temporary:
        figure.savefig(temporary, dpi=120)
    output = f"output {score:.4g}" if len(scores) > 1 or target else f"the one output, for class 1, is {score:.4g}"
    say(f"{options.method} of class {target} ({output}): wrote {options.output}")


def list_layers(options):
    """Prints the layers: what `--layer` takes."""
    rows = [("layer", "kind", "output")]
    for path, found in layers(load(options.model)):
        path = printable(path)
        try:
            shape = str(tuple(found.output.shape))
        except (AttributeError, ValueError):
            shape = "?"
        rows.append((path, type(found).__name__, shape))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for path, kind, shape in rows:
        say(f"{path:{widths[0]}}  {kind:{widths[1]}}  {shape}")


def maximize(options):
    """Writes what filters of a layer look for, as a grid."""
    check_output(options.output, options.model)
    model = load(options.model)
    *_, first = picture_input(model)
    with contextlib.suppress(ValueError):  # it ends in scores already
        model = utils.swap_softmax(model)
    fv = vis.FeatureVisualization(model, ActivationMaximization(options.layer, 0), input_range=options.input_range)
    images = fv.many(options.filters, steps=options.steps, seed=options.seed, verbose=int(sys.stderr.isatty()))
    if first:
        images = np.moveaxis(images, 1, -1)
    dead = dead_filters(options.filters, next(iter(fv.history.values())))
    grid = labelled_grid(to_bytes(images, options.input_range), options.filters, dead)
    with whole_file(options.output) as temporary:
        keras.utils.save_img(temporary, grid, scale=False)
    for index in dead:
        say(f"filter {index} is dead: its output never moved, so its picture means nothing")
    words = "filter" if len(images) == 1 else "filters"
    say(f"{len(images)} {words} of {options.layer}: wrote {options.output}")


def dead_filters(indices, losses):
    """Returns the indices of filters whose loss, `(steps, filters)`, was the same in all of several steps."""
    still = np.ptp(losses, axis=0) == 0 if len(losses) > 1 else np.zeros(len(indices), bool)
    return [index for index, is_still in zip(indices, still) if is_still]


def labelled_grid(images, indices, dead=()):
    """Returns pictures on light grey, each below the number of its filter; small ones enlarged by a whole factor.

    Args:
        images: uint8 `(N, H, W, 1 or 3)`.
        indices: Their filters.
        dead: Those of them that are dead.

    Returns:
        uint8 `(rows, columns, 3)`.
    """
    factor = math.ceil(TILE / max(images.shape[1:3]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    tiles = []
    for image, index in zip(images, indices):
        tile = np.full((STRIP + image.shape[0], max(TILE, image.shape[1]), 3), GROUND, "uint8")
        tile[STRIP:, : image.shape[1]] = image
        words = f"filter {index} (dead)" if index in dead else f"filter {index}"
        tiles.append(utils.draw_text(tile, words, position=(2, 2), font_size=12))
    # What is between tiles is 0, so the ground is taken off before and put back after; bytes wrap around.
    return stitch_images([tile - GROUND for tile in tiles], cols=math.ceil(math.sqrt(len(tiles)))) + GROUND


def check_output(path, *read):
    """Raises unless a picture can be written to a path, and none of the files that are read is there.

    It is asked before the work, not after it.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in PICTURES or not path.resolve().parent.is_dir():
        raise ValueError(
            f"--output must be a file in a folder that exists, ending in one of {', '.join(PICTURES)}. Received: "
            f"{str(path)!r}."
        )
    for given in read:
        if path.exists() and os.path.exists(given) and os.path.samefile(path, given):
            raise ValueError(
                f"--output must not be a file that is read. Received: {str(path)!r}, which is the same file as "
                f"{str(given)!r}. Give another name."
            )
    check_writable(path)


def say(words):
    """Writes a line for the user, with nothing in it that commands the terminal."""
    sys.stdout.write(printable(words) + "\n")


def warn(kind, words):
    """Writes an error or a warning for the user, in one line."""
    sys.stderr.write(f"{kind}: {words_error(words, MOST_WORDS)}\n")


@contextlib.contextmanager
def own_warnings_in_one_line():
    """Lets the package's own warnings be written as `warn` does, once each."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message, category, *rest, **more):
            if issubclass(category, VisualizationWarning):
                warn("warning", message)
            else:
                others(message, category, *rest, **more)

        warnings.showwarning = show
        yield


def filters(text):
    """Returns the indices meant by `"3"`, `"3,7"` or `"0:16"`."""
    indices = []
    try:
        for part in text.split(","):
            ends = [int(number) for number in part.split(":")]
            found = range(*ends) if len(ends) == 2 else [int(part)]
            if len(found) > MOST_FILTERS:
                raise argparse.ArgumentTypeError(f"must be {MOST_FILTERS} at most. Received: {text!r}")
            indices += found
    except ValueError:
        indices = []
    if not indices:
        raise argparse.ArgumentTypeError(f"must be numbers such as 3, 3,7 or 0:16. Received: {text!r}")
    return indices


def layer(text):
    """Returns the layer meant on the command line: an index, or a name or path."""
    return int(text) if text.lstrip("-").isdigit() else text


def plain_numbers(arguments):
    """Returns arguments with numbers such as `-1e3`, which `argparse` takes for options, written as `-1000`."""
    pattern = r"-(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}"
    return [format(decimal.Decimal(text), "f") if re.fullmatch(pattern, text) else text for text in arguments]


def parser():
    """Returns the parser of the command line."""
    whole = argparse.ArgumentParser(prog="python -m vis", description="Look inside a saved Keras model.")
    commands = whole.add_subparsers(required=True, metavar="explain | layers | maximize")
    range_help = "what the darkest and the brightest pixel become for the model (default: 0 1)"

    one = commands.add_parser("explain", help="what in a picture speaks for a class")
    one.set_defaults(run=explain)
    one.add_argument("model", help="a .keras file")
    one.add_argument("picture", help="an image file; resized to the model's input")
    one.add_argument("--method", default="grad-cam", help=f"one of {', '.join(METHODS)} (default: grad-cam)")
    one.add_argument("--target", type=int, help="the class's index (default: the most likely)")
    one.add_argument("--layer", type=layer, help="the feature map, for class activation maps (default: the last)")

    two = commands.add_parser("layers", help="the layers of a model")
    two.set_defaults(run=list_layers)
    two.add_argument("model", help="a .keras file")

    three = commands.add_parser("maximize", help="what filters look for")
    three.set_defaults(run=maximize)
    three.add_argument("model", help="a .keras file")
    three.add_argument("--layer", type=layer, required=True, help="the layer's name, path or index")
    three.add_argument("--filters", type=filters, default=[0], help="such as 3, 3,7 or 0:16 (default: 0)")
    three.add_argument("--steps", type=int, default=256, help="steps of the optimizer (default: 256)")
    three.add_argument("--seed", type=int, help="for repeatable pictures")
    for command, name in ((one, "explanation.png"), (three, "filters.png")):
        command.add_argument("--output", default=name, help=f"the picture to write (default: {name})")
        command.add_argument(
            "--input-range", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"), help=range_help
        )
    return whole


def main(arguments=None) -> int:
    """Runs the command line and returns the exit code: 0, or 2 for an error of the user's."""
    options = parser().parse_args(plain_numbers(sys.argv[1:] if arguments is None else arguments))
    try:
        with own_warnings_in_one_line():
            options.run(options)
    except (ValueError, TypeError, FloatingPointError, OSError, ImportError) as error:
        warn("error", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
