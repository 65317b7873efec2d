"""What the commands share: saved models, pictures in and out, names of classes, words for the user."""

import os
import pathlib
import re
import sys
import zipfile

import keras
import numpy as np

from vis.engine.evaluator import Evaluator
from vis.engine.graph import find_layer, has_graph, last_layers, operations
from vis.engine.inputs import model_input_format, model_input_shape, read_inputs
from vis.engine.probabilities import probability_makers
from vis.utils import utils
from vis.utils.files import check_writable
from vis.utils.validation import near_names, printable, words_error

PICTURES = (".png", ".jpg", ".jpeg")
IMAGENET = 1000  # classes


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
        raise ValueError(f"{str(path)!r:.100} could not be loaded. {_why_not(error)}") from error


def _why_not(error):
    """Words why Keras could not load a model, and what to do."""
    unknown = re.search(r"Could not locate (class|function) '([^']+)'", str(error))
    if unknown:
        return (
            f"It uses the {unknown[1]} {unknown[2]!r:.60}, which is not Keras's own. Load it in a script of yours, "
            "`keras.saving.load_model(path, custom_objects={...})`, and explain it there: `vis.GradCAM(model)(images)`."
        )
    if "safe_mode" in str(error):
        return (
            "It holds code, a Lambda layer for instance, which Keras's safe mode does not run. If you trust the file, "
            "load it with `safe_mode=False` in a script of yours and explain it there: `vis.GradCAM(model)(images)`."
        )
    return f"Keras said: {words_error(error, 180)} Save it anew with the version of Keras that made it."


def picture_for(model, path, input_range, size=None):
    """Returns a picture as `(array, batch)`: bytes, and what the model takes.

    Args:
        model: The model.
        path: The picture's file.
        input_range: What the darkest and the brightest pixel become.
        size: See `picture_size`.

    Raises:
        ValueError: The file is no picture, or the model takes none of this size.
    """
    size, (_, channels, first) = picture_size(model, size), picture_input(model)
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


def picture_size(model, asked=None):
    """Returns the `(height, width)` of pictures for a model, or `None` where any size will do.

    Args:
        model: A model that takes pictures.
        asked: The size that the user asks for, or `None`.

    Raises:
        ValueError: The model takes another size, or does not say one of its sides.
    """
    own = tuple(picture_input(model)[0])
    words = " ".join("any" if side is None else str(side) for side in own)
    if asked is None and None in own and own != (None, None):
        raise ValueError(f"--size HEIGHT WIDTH must be given: the model takes pictures of the size {words}.")
    if asked is None:
        return None if None in own else own
    if min(asked) < 1:
        raise ValueError(f"--size must be two numbers of pixels, 1 or more. Received: {asked[0]} {asked[1]}.")
    if any(side not in (None, given) for side, given in zip(own, asked)):
        raise ValueError(
            f"--size must fit the model, which takes pictures of the size {words}. Received: {asked[0]} {asked[1]}. "
            "Leave it out: pictures are resized to the model's size."
        )
    return tuple(asked)


def check_output(path, *read, option="--output", endings=PICTURES):
    """Raises unless a file can be written to a path, and none of the files that are read is there.

    It is asked before the work, not after it.

    Args:
        path: The path.
        *read: The files that are read.
        option: What the user gave it by.
        endings: What it may end in. Default: those of pictures.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in endings or not path.resolve().parent.is_dir():
        one_of = "one of " if len(endings) > 1 else ""
        raise ValueError(
            f"{option} must be a file in a folder that exists, ending in {one_of}{', '.join(endings)}. Received: "
            f"{str(path)!r}."
        )
    for given in read:
        if path.exists() and os.path.exists(given) and os.path.samefile(path, given):
            raise ValueError(
                f"{option} must not be a file that is read. Received: {str(path)!r}, which is the same file as "
                f"{str(given)!r}. Give another name."
            )
    check_writable(path)


def read_names(path):
    """Returns the names of classes in a text file, one a line; blank lines at its end do not count.

    Raises:
        ValueError: The file cannot be read as text.
    """
    try:
        text = pathlib.Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--labels must be a text file in UTF-8, a class's name in each line. Received: {str(path)!r} "
            f"({words_error(error, 100)})."
        ) from error
    return [name.strip() for name in text.rstrip().splitlines()]


def names_for(count, path=None, is_end=True):
    """Returns the names of a model's classes, or `None` where there are none.

    Args:
        count: The number of classes.
        path: The user's file of names, or `None`.
        is_end: Whether they are classes of the whole model, not units of a layer inside it: 1,000 are ImageNet's then.

    Raises:
        ValueError: The file has another number of names.
    """
    if path is None:
        return utils.lookup_imagenet_labels(range(count)) if count == IMAGENET and is_end else None
    names = read_names(path)
    if len(names) != count:
        raise ValueError(
            f"--labels must hold a name for each of {count} classes, one a line. Received: {len(names)} in "
            f"{str(path)!r}. Give the file that belongs to the model, its classes in the model's order."
        )
    return names


def class_index(target, names):
    """Returns the index of a class.

    Args:
        target: An index, a name in upper or lower case, or `None`, which is returned.
        names: The classes' names, or `None`.

    Raises:
        ValueError: No class has this name, or several have.
    """
    if not isinstance(target, str):
        return target
    if names is None:
        raise ValueError(
            f"--target must be a class's index where no names are known. Received: {target!r}. Give "
            "the names by --labels FILE, one a line."
        )
    word = target.strip().casefold()
    found = [index for index, name in enumerate(names) if name.casefold() == word]
    if len(found) > 1:
        raise ValueError(f"--target {target!r} is the name of {len(found)} classes. Give an index: {found}.")
    if not found:
        near = [name for name in names if word and word in name.casefold()][:8]
        raise ValueError(f"--target: no class is called {target!r}. {near_names(target, near or names)}")
    return found[0]


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


def say(words):
    """Writes a line for the user, with nothing in it that commands the terminal."""
    sys.stdout.write(printable(words) + "\n")
