"""The command line: `python -m vis` or `keras-vis`, with commands for a saved model.

The options are read here, before any framework is loaded; the work is done in `vis.commands`. Errors and warnings
become one line. The exit status is 0, or 2 where the user can mend what was given, or 1 where something else failed.
"""

import argparse
import contextlib
import decimal
import importlib
import os
import pathlib
import re
import sys
import warnings

import vis
from vis.commands import FILLS, METHODS, METRICS

MOST_FILTERS = 1024
MOST_WORDS = 400  # characters of an error


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes no option for another."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False)

    def error(self, message):
        """Says what is wrong with the arguments, and ends with the exit status 2."""
        end = "" if message.endswith((".", "?")) else "."
        warn("error", f"{message}{end} See `{self.prog} --help`.")
        sys.exit(2)


def parser():
    """Returns the parser of the command line."""
    prog = "keras-vis" if pathlib.Path(sys.argv[0]).stem == "keras-vis" else "python -m vis"
    whole = Parser(prog=prog, description="Look inside a saved Keras model.")
    whole.add_argument("--version", action="version", version=f"keras-vis {vis.__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="compare | explain | layers | maximize")
    add_compare(commands.add_parser("compare", help="which methods' maps say more of a model than chance"))
    add_explain(commands.add_parser("explain", help="what in a picture speaks for a class"))
    add_layers(commands.add_parser("layers", help="the layers of a model"))
    add_maximize(commands.add_parser("maximize", help="what filters look for"))
    return whole


def add_compare(one):
    """Adds the options of `compare`."""
    add_model(one)
    one.add_argument("photos", nargs="+", metavar="photo", help="image files; resized to the model's input")
    one.add_argument(
        "--methods",
        type=several(method),
        help=f"of {', '.join(METHODS)} (default: grad-cam,integrated-gradients,lrp; occlusion for one that the model "
        "does not fit)",
    )
    one.add_argument(
        "--metrics",
        type=several(metric),
        default=["srg", "insertion", "deletion"],
        help=f"of {', '.join(METRICS)} (default: srg,insertion,deletion)",
    )
    one.add_argument(
        "--fills",
        type=several(fill),
        default=["mean", "road"],
        help=f"what stands in place of hidden pixels: {', '.join(FILLS)}, or numbers (default: mean,road)",
    )
    one.add_argument("--baselines", type=int, default=20, help="random maps beside each map (default: 20)")
    one.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    one.add_argument("--batch-size", type=int, default=32, help="evaluations at once (default: 32)")
    add_classes(one)
    one.add_argument("--output", metavar="FILE", help="a page to write, .html (default: none)")
    one.add_argument("--json", metavar="FILE", help="a file for the numbers, .json (default: none)")
    add_inputs(one, "of any size: the photos' own")


def add_explain(one):
    """Adds the options of `explain`."""
    add_model(one)
    one.add_argument("picture", help="an image file; resized to the model's input")
    one.add_argument(
        "--method", type=method, default="grad-cam", help=f"one of {', '.join(METHODS)} (default: grad-cam)"
    )
    add_classes(one)
    one.add_argument("--layer", type=number_or_name, help="the feature map, for class activation maps (default: last)")
    add_pictures(one, "explanation.png", "of any size: the picture's own")


def add_layers(one):
    """Adds the options of `layers`."""
    add_model(one)


def add_maximize(one):
    """Adds the options of `maximize`."""
    add_model(one)
    one.add_argument("--layer", type=number_or_name, required=True, help="the layer's name, path or index")
    one.add_argument("--filters", type=filters, default=[0], help="such as 3, 3,7 or 0:16 (default: 0)")
    one.add_argument("--steps", type=int, default=256, help="steps of the optimizer (default: 256)")
    one.add_argument("--seed", type=int, help="for repeatable pictures")
    add_pictures(one, "filters.png", "of any size: it must be given")


def add_model(one):
    """Adds what every command takes."""
    one.add_argument("model", help="a .keras file")


def add_classes(one):
    """Adds the options of commands that explain a class."""
    one.add_argument(
        "--target", type=number_or_name, help="the class: its index, or its name (default: the most likely)"
    )
    one.add_argument(
        "--labels", metavar="FILE", help="the classes' names, one a line (default: ImageNet's for 1,000 classes)"
    )
    one.add_argument(
        "--output-layer", type=number_or_name, help="the output that is explained, where the model has several"
    )


def add_pictures(one, output, any_size):
    """Adds the options of commands that write a picture."""
    one.add_argument("--output", default=output, help=f"the picture to write (default: {output})")
    add_inputs(one, any_size)


def add_inputs(one, any_size):
    """Adds the options of what a model takes."""
    one.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help=f"pixels of the model's input (default: the model's own size; for models {any_size})",
    )
    one.add_argument(
        "--input-range",
        type=float,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="what the darkest and the brightest pixel become for the model (default: 0 1)",
    )


def several(read):
    """Returns what reads words that are separated by commas, each by `read`; the same one twice counts once."""
    return lambda text: list(dict.fromkeys(read(word.strip()) for word in text.split(",")))


def method(text):
    """Returns the name of a method, if there is such a one."""
    return known("method", text, METHODS)


def metric(text):
    """Returns the name of a metric, if there is such a one."""
    return known("metric", text, METRICS)


def fill(text):
    """Returns a number, or the name of a fill, if there is such a one."""
    try:
        return float(text)
    except ValueError:
        return known("fill", text, FILLS)


def known(kind, text, names):
    """Returns a name, if it is one of those that there are."""
    if text not in names:
        from vis.utils.validation import near_names

        raise argparse.ArgumentTypeError(f"there is no {kind} {text!r:.80}. {near_names(text, names)}")
    return text


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


def number_or_name(text):
    """Returns the layer or class meant on the command line: an index, or a name or path."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def plain_numbers(arguments):
    """Returns arguments with numbers such as `-1e3`, which `argparse` takes for options, written as `-1000`."""
    pattern = r"-(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}"
    return [format(decimal.Decimal(text), "f") if re.fullmatch(pattern, text) else text for text in arguments]


def warn(kind, words):
    """Writes an error or a warning for the user, in one line."""
    from vis.utils.validation import words_error  # not before there is something to say

    sys.stderr.write(f"{kind}: {words_error(words, MOST_WORDS)}\n")


@contextlib.contextmanager
def quiet():
    """Hides what the framework says of itself on the error stream, below Python, where no warning could be caught.

    Exceptions are raised as ever. Where the user has set TF_CPP_MIN_LOG_LEVEL, nothing is hidden.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def loaded(command):
    """Returns the module of a command, with the framework loaded and its devices found."""
    with quiet():
        importlib.import_module("vis.backend")  # first of all: it says which backends there are
        import keras

        keras.ops.zeros(())
        return importlib.import_module(f"vis.commands.{command}")


@contextlib.contextmanager
def warnings_in_one_line():
    """Lets warnings be written as `warn` does, once each."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest, **more: warn("warning", message)
        yield


def main(arguments=None) -> int:
    """Runs the command line.

    Args:
        arguments: List of words. Default `None`: those of the command line.

    Returns:
        The exit status.
    """
    options = parser().parse_args(plain_numbers(sys.argv[1:] if arguments is None else arguments))
    try:
        with warnings_in_one_line():
            loaded(options.command).run(options)
            sys.stdout.flush()
    except (ValueError, TypeError) as error:
        warn("error", error)
        return 2
    except BrokenPipeError:  # nobody reads on, as in `python -m vis layers model.keras | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        warn("error", "stopped")
        return 130
    except Exception as error:  # the model's, the framework's or the disk's
        is_worded = isinstance(error, (OSError, FloatingPointError, ImportError))
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        mend = f". Install it: `pip install {missing}`" if missing in ("jax", "torch", "tensorflow") else ""
        warn("error", f"{error}{mend}" if is_worded else f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
