"""Data sets of any kind, batch by batch."""

import functools
import itertools

import keras
import numpy as np

from vis.utils.ahead import Ahead, InPlace
from vis.utils.validation import check_numeric, cut, words_error


def check_dataset(dataset):
    """Raises `TypeError` unless batches can be read from a value."""
    if isinstance(dataset, (np.ndarray, str, bytes, dict)) or not (is_indexed(dataset) or hasattr(dataset, "__iter__")):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset, a keras.utils.PyDataset, a PyTorch DataLoader or another iterable of "
            f"batches. Received: {type(dataset).__name__}. For an array, call the explainer itself."
        )


def check_ends(dataset):
    """Raises `ValueError` where a data set says of itself that it has no end."""
    cardinality = getattr(dataset, "cardinality", None)  # of TensorFlow: -1 for no end, -2 for unknown
    if (callable(cardinality) and int(cardinality()) == -1) or (is_indexed(dataset) and dataset.num_batches is None):
        raise ValueError(
            "The data set must end here. Received: one that goes on for ever, as after `repeat()`. Take a part of it: "
            "`dataset.take(100)`."
        )


def batches(dataset, function, verbose=0, prefetch=2, passed=range(0)):
    """Applies a function to every batch of a data set, of which the next ones are read meanwhile, in a thread.

    Args:
        dataset: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, or any
            iterable of batches.
        function: `function(number, batch)`, called where the result is asked for.
        verbose: Whether a progress bar is shown.
        prefetch: How many batches are read ahead; 0: none, and there is no thread.
        passed: Numbers of batches that are not wanted. They are left out where batches are read by their numbers; other
            data sets give all.

    Yields:
        The results.

    Raises:
        ValueError: A batch could not be read, or is wrong.
    """
    length = _length(dataset)
    bar = keras.utils.Progbar(length) if verbose else None
    end, items = 0, _items(dataset, _numbers(dataset, length, passed), prefetch)
    try:
        for number in _numbers(dataset, length, passed):
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:  # the user's data set, it may raise anything
                raise _unread(number, error) from error
            yield _applied(function, number, item)
            end = number + 1
            if bar is not None:
                bar.update(end)
    finally:
        items.close()
    if length is not None and end < length:
        raise ValueError(f"The data set ended early. Received: {end} batches, expected: {length}, as its length says.")


def _applied(function, number, item):
    try:
        return function(number, item)
    except Exception as error:  # the user's model, too, may raise anything
        kinds = (FloatingPointError, TypeError, ValueError)
        kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
        raise kind(cut(f"Batch {number} of the data set: {error}", 399)) from error


def _unread(number, error):
    return ValueError(f"Batch {number} of the data set could not be read: {type(error).__name__}: {words_error(error)}")


def is_indexed(dataset) -> bool:
    """Tells whether a data set's batches are read by their numbers."""
    return isinstance(dataset, keras.utils.PyDataset)


def _length(dataset):
    if is_indexed(dataset):
        return dataset.num_batches
    try:
        return len(dataset)
    except TypeError:  # unknown or endless
        return None


def _numbers(dataset, length, passed):
    """Returns the numbers of the batches that are read, in order; they may go on when the data set has ended."""
    if not is_indexed(dataset):
        return itertools.count()
    every = itertools.count() if length is None else range(length)
    return (number for number in every if number not in passed)


def _items(dataset, numbers, prefetch):
    """Returns an iterator of batches, with `close()`. What begins to read, such as processes, begins in this thread."""
    try:
        items = (dataset[number] for number in numbers) if is_indexed(dataset) else iter(dataset)
    except Exception as error:  # the user's data set, it may raise anything
        raise _unread(0, error) from error
    make = functools.partial(next, items)
    return Ahead(make, prefetch) if prefetch else InPlace(make)


def split(item, inputs):
    """Returns `(inputs, labels)` of a batch: `x`, `(x, y)`, `(x, y, weights)`; PyTorch makes lists of tuples.

    Args:
        item: The batch.
        inputs: How many inputs the model has.

    Returns:
        The inputs, and the labels or `None`.

    Raises:
        ValueError: There is no batch.
    """
    if item is None:
        raise ValueError("a batch must hold the model's inputs. Received: None.")
    if not isinstance(item, (tuple, list)) or not item:
        return item, None
    structured = isinstance(item[0], (tuple, list, dict))
    if inputs == 1 or structured or (isinstance(item, tuple) and len(item) != inputs):
        return item[0], item[1] if len(item) > 1 else None
    return list(item), None


def class_indices(labels, units=None) -> np.ndarray:
    """Returns the labels of a batch as class indices `(N,)`.

    Args:
        labels: Class indices `(N,)` or `(N, 1)`, or one-hot rows `(N, C)`.
        units: How many units the output has, if that is known.

    Raises:
        ValueError: There are no labels, or they are neither.
    """
    if labels is None:
        raise ValueError(
            'target="labels" needs a data set whose batches are pairs `(inputs, labels)`. Received: a batch without '
            "labels. Give a class as `target`, or None for the class with the highest score."
        )
    array = check_numeric("labels", labels)
    if array.ndim == 1 or array.shape[1:] == (1,):
        return _whole(array.reshape(-1))
    if array.ndim != 2:
        raise ValueError(
            f"`labels` must be class indices (N,) or one-hot rows (N, classes). Received: shape {array.shape}. Give a "
            "function of the outputs as `target`."
        )
    return _of_one_hot(array, units)


def _whole(array):
    if (array != np.round(array)).any():
        raise ValueError(
            "`labels` must be class indices, whole numbers. Received: fractions, such as "
            f"{array[array != np.round(array)][0]:.4g}. Give a class or a function of the outputs as `target`."
        )
    return array.astype("int64")


def _of_one_hot(array, units):
    is_wrong = ((array != 0) & (array != 1)).any(axis=1) | (array.sum(axis=1) != 1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise ValueError(
            f"`labels` of shape {array.shape} must be one-hot: in each row one 1, and 0 else. Received: row {row} with "
            f"the sum {array[row].sum():.4g} and the largest value {array[row].max():.4g}. Samples of several classes "
            "or soft labels have no one class: give a function of the outputs as `target`."
        )
    classes = array.shape[1]
    if units not in (None, classes) and (units, classes) != (1, 2):
        raise ValueError(
            f"`labels` must have one column for each of the {units} output units. Received: one-hot rows of {classes} "
            "classes. Make class indices (N,) of them that belong to this model."
        )
    return np.argmax(array, axis=1)
