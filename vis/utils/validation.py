"""Checks of user input, and the wording of every error.

A message says what came, what was expected and how to fix it. Everything here
works on plain values and NumPy arrays, so any module may import it.
"""

import difflib
import itertools
import math
import numbers
import re
import reprlib
from typing import Any

import numpy as np

from vis.utils.hints import first_text, fits, mend, wrong_kind

_LARGEST = 1e38  # float32 ends at 3.4e38, and the width of a range must fit too
_MOST_NAMES = 150  # characters of names that a message lists
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 10, 10, 6
_SHORT.maxstring = _SHORT.maxother = 200


class VisualizationWarning(UserWarning):
    """The category of every warning that `vis` issues itself."""


def listify(value: Any) -> list:
    """Returns `value` as a list.

    Args:
        value: Lists, tuples and arrays become lists of their items; anything else
            becomes a list of one item.

    Returns:
        A new list.

    Examples:
        >>> listify(3), listify((1, 2))
        ([3], [1, 2])
    """
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim else [value.item()]
    if isinstance(value, (list, tuple, range)):
        return list(value)
    return [value]


def printable(text) -> str:
    r"""Returns text with what could command a terminal written out, such as `\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def words_error(error, most=180) -> str:
    """Words another library's error in one line: without colours, and without what Keras wraps around it."""
    text = re.sub(r"\x1b\[[0-9;]*m|\{\{.*?\}\}", "", str(error)).partition("Arguments received by")[0]
    text = re.sub(r"^Exception encountered when calling .*", "", text.strip())
    text = printable(" ".join(text.split())) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


def cut(text: str, most: int = 80) -> str:
    """Returns text, shortened to a number of characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value, most: int = 80) -> str:
    """Words a value of the user's, in one line of a few characters: an array by its shape, what is long cut.

    Examples:
        >>> shown("cat"), shown(np.zeros((2, 3))), shown(list(range(10**6)), 20)
        ("'cat'", 'ndarray of shape (2, 3)', '[0, 1, 2, 3, 4, 5...')
    """
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape and hasattr(value, "dtype"):
            return cut(f"{type(value).__name__} of shape {tuple(shape)}", most)
        text = printable(" ".join(_SHORT.repr(value).split()))
    except Exception:  # a `__repr__` of the user's own, or a number of too many digits
        text = type(value).__name__
    return cut(text, most)


def listed(names, most: int = _MOST_NAMES) -> str:
    """Words names one after the other, as many as there is room for."""
    words = [shown(name, 60) for name in itertools.islice(names, most)]
    kept = [word for i, word in enumerate(words) if i == 0 or len(", ".join(words[: i + 1])) <= most]
    return ", ".join(kept) + (", ..." if len(kept) < len(words) or len(words) == most else "")


def near_names(name: str, names) -> str:
    """Words the names that come closest to `name`, or all of them if few."""
    names = list(dict.fromkeys(names))
    letters = _letters(name)
    alike = [one for one in names if letters and _letters(one) == letters]  # "GradCAM" for "grad-cam"
    near = alike or difflib.get_close_matches(str(name)[:200], names, n=5, cutoff=0.5)
    return f"Did you mean: {listed(near)}?" if near else f"Choose one of: {listed(names)}."


def _letters(name):
    return "".join(letter for letter in str(name)[:200].lower() if letter.isalnum() or letter == "+")


def pick(argument: str, identifier, table: dict):
    """Returns the entry of a table of names, or raises with the names there are."""
    if not isinstance(identifier, str):
        raise TypeError(
            f"`{argument}` must be a name or a callable. "
            f"Received: {shown(identifier)} ({type(identifier).__name__}). {near_names('', table)}"
        )
    if identifier not in table:
        raise ValueError(f"Unknown {argument}: {shown(identifier)}. {near_names(identifier, table)}")
    return table[identifier]


def is_integer(value) -> bool:
    """Tells whether `value` is a whole number (Python's or NumPy's, not a bool)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def holds_integers(value) -> bool:
    """Tells whether `value` is a whole number, or an array, a tensor or lists of them by their type (no bools).

    Examples:
        >>> holds_integers(3), holds_integers([[1, 2]]), holds_integers(np.zeros(2)), holds_integers("3")
        (True, True, False, False)
    """
    if hasattr(value, "dtype"):
        return "int" in str(value.dtype)
    if not isinstance(value, (list, tuple)):
        return is_integer(value)
    return bool(value) and all(map(holds_integers, value))


def check_count(name: str, value, minimum: int = 0) -> int:
    """Returns `value` as an int of at least `minimum`, or raises."""
    if not is_integer(value):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={shown(value)} ({type(value).__name__}).")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={shown(value)}.")
    return int(value)


def check_flag(name: str, value) -> bool:
    """Returns `value` as a bool, or raises if it is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={shown(value)} ({type(value).__name__}).")
    return bool(value)


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def check_number(name: str, value) -> float:
    """Returns `value` as a finite float, or raises."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a number. Received: {name}={shown(value)} ({type(value).__name__}).")
    if not _is_finite(value):
        raise ValueError(f"`{name}` must be a finite number. Received: {name}={shown(value)}.")
    return float(value)


def check_nonnegative(name: str, value) -> float:
    """Returns `value` as a finite float of at least 0, or raises."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a number. Received: {name}={shown(value)} ({type(value).__name__}).")
    if not _is_finite(value) or value < 0:
        raise ValueError(f"`{name}` must be a finite number of at least 0. Received: {name}={shown(value)}.")
    return float(value)


def check_fraction(name: str, value) -> float:
    """Returns `value` as a float in (0, 1], or raises."""
    if check_nonnegative(name, value) == 0 or value > 1:
        raise ValueError(f"`{name}` must be in (0, 1]. Received: {name}={shown(value)}.")
    return float(value)


def check_index(name: str, value, size: int, what: str) -> int:
    """Returns `value` as an index in [0, size), counting from the end if negative."""
    if not is_integer(value):
        raise TypeError(f"`{name}` must hold integers. Received: {shown(value)} ({type(value).__name__}).")
    if not -size <= value < size:
        raise ValueError(
            f"`{name}` is out of range. Received: {shown(value)}, but {what} has {size}: choose from 0 to {size - 1}."
        )
    return int(value) % size


def check_input_range(input_range) -> tuple:
    """Returns `input_range` as a tuple `(low, high)` of finite numbers, low < high, that float32 can hold."""
    try:
        low, high = input_range
        valid = math.isfinite(low) and math.isfinite(high) and low < high
    except OverflowError:  # a whole number beyond any float
        valid, low, high = True, -math.inf, math.inf
    except (TypeError, ValueError):
        valid = False
    if valid and not (abs(low) < _LARGEST and abs(high) < _LARGEST and np.float32(low) < np.float32(high)):
        raise ValueError(
            "`input_range` must be two numbers that float32 can hold and tell apart, up to 1e38. Received: "
            f"input_range={shown(input_range)}. Most models take (0, 1), (-1, 1) or (0, 255)."
        )
    if not valid:
        raise ValueError(
            "`input_range` must be a pair `(low, high)` of finite numbers with low < high, such as (0, 255) "
            f"or (0., 1.). Received: input_range={shown(input_range)}."
        )
    return low, high


def check_unmasked(name: str, value) -> None:
    """Raises if `value`, or an item of a list of arrays, is a masked array with masked values."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    masked = [part for part in parts if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part)]
    if masked:
        count = sum(int(np.ma.count_masked(part)) for part in masked)
        raise ValueError(
            f"`{name}` must be numbers, all of them known. Received: a masked array with {count} masked values, which "
            f"no model takes. Say what stands in their place: `{name}.filled(value)`."
        )


def check_numeric(name: str, value) -> np.ndarray:
    """Returns `value` as a new float32 array, or raises if it is not finite numbers."""
    wrong = wrong_kind(name, value)
    if wrong is not None:
        raise wrong
    if getattr(value, "is_meta", False):
        raise ValueError(
            f"`{name}` must be numbers. Received: a PyTorch tensor of the device 'meta', which has a shape and no "
            "numbers. Make it on the device 'cpu'."
        )
    check_unmasked(name, value)
    try:
        if hasattr(value, "detach"):  # a PyTorch tensor, perhaps with a gradient, of a type NumPy lacks
            value = value.detach().cpu().double()
        array = np.array(value)
    except Exception as error:  # frameworks raise what they like
        raise ValueError(_no_array(name, value, error)) from error
    if first_text(array) is not None and not hasattr(value, "columns"):  # of another library
        raise wrong_kind(name, array)
    if array.dtype == object and array.ndim and all(isinstance(one, (int, float, np.number)) for one in array.flat):
        array = array.astype("float64")  # columns of several types, as in a data frame
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise ValueError(_no_numbers(name, value, array))
    array = array.astype("float32", copy=False)
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        bad = int(array.size - np.isfinite(array).sum())
        raise ValueError(
            f"`{name}` must be finite numbers. Received: {bad} values that are NaN or infinite. "
            f"Find them with `np.argwhere(~np.isfinite({name}))`."
        )
    return array


def _no_numbers(name, value, array):
    """Words an array that holds other things than numbers; of a table, which column."""
    if callable(value) and hasattr(value, "stream"):
        return (
            f"`{name}` must be numbers. Received: {type(value).__name__}, an explainer. Call it: `explainer(images)`."
        )
    known = f"`{name}` must be numbers. Received: dtype {array.dtype}"
    if array.ndim != 2:
        return f"{known}. Lists of arrays must have one common shape."
    columns = getattr(value, "columns", range(array.shape[1]))
    for column, own in zip(columns, array.T):
        other = next((one for one in own if not isinstance(one, (int, float, np.number))), None)
        if other is not None:
            return (
                f"{known}, with {shown(other, 40)} in column {shown(column, 40)}. Turn words, dates and gaps into "
                "numbers first, as for training: codes, such as `frame[column].astype('category').cat.codes`, or "
                "columns of 0 and 1."
            )
    return f"{known}, shape {array.shape}. Give an array of floats."


def _no_array(name, value, error):
    try:
        shapes = {np.shape(one) for one in value}
    except Exception:  # what has no items, or items without a shape
        shapes = set()
    if len(shapes) < 2:
        return f"`{name}` could not be read as an array: {words_error(error)}"
    listed = " and ".join(map(str, sorted(shapes)[:3])) + (" and others" if len(shapes) > 3 else "")
    return (
        f"`{name}` could not be read as an array. Received: parts of the shapes {listed}. Lists must hold arrays of "
        "one common shape: resize them (`keras.ops.image.resize(image, (rows, columns))`), or give one at a time."
    )


def words_shape(shape) -> str:
    """Words an expected shape, batch axis included."""
    return "(" + ", ".join("N" if i == 0 else ("any" if d is None else str(d)) for i, d in enumerate(shape)) + ")"


def check_input(name: str, value, shape, form="channels_last") -> np.ndarray:
    """Returns `value` as a float32 batch that fits a model's input.

    Args:
        name: The argument's name, for messages.
        value: One sample or a batch.
        shape: The model's input shape with the batch axis first, `None` where any size
            fits; or `None` altogether where the model does not say.
        form: Where the model's channels are.

    Returns:
        A new float32 array of shape `(N, *shape[1:])`. A missing batch axis is added.

    Raises:
        ValueError: `value` is empty, not numeric, not finite, or of another shape.
        TypeError: `value` is a data set.
    """
    wrong = wrong_kind(name, value, shape, form)
    if wrong is not None:
        raise wrong
    array = check_numeric(name, value)
    if array.size == 0:
        raise ValueError(f"`{name}` must not be empty. Received: shape {array.shape}.")
    if shape is None:
        return array
    given, shape = array.shape, tuple(shape)
    if array.ndim == len(shape) - 1:
        array = array[None]
    if not fits(array.shape, shape):
        raise ValueError(
            f"`{name}` must have the shape {words_shape(shape)} of the model's input, or that of one sample "
            f"without the batch axis. Received: shape {cut(str(given))}. {words_mend(name, value, shape, form, False)}"
        )
    return array


def words_mend(name: str, value, shape, form, batched=True) -> str:
    """Words how an array of another shape is made to fit, see `vis.utils.hints.mend`."""
    general = "Check the image size, the number of channels and their position (channels_first or channels_last)."
    if len(shape) == 2:
        general = f"Each sample has {shape[1] or 'its'} numbers: features, or token ids, padded to one length."
    return mend(name, value, tuple(shape), form, batched) or general
