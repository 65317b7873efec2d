"""Data sets of any kind, batch by batch."""

import keras
import numpy as np

from vis.utils.validation import cut, words_error


def batches(dataset, inputs, verbose, function):
    """Applies a function to the inputs of every batch of a data set.

    Args:
        dataset: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, or any
            iterable of batches.
        inputs: How many inputs the model has.
        verbose: Whether a progress bar is shown.
        function: What is applied.

    Returns:
        Iterator of the results.

    Raises:
        TypeError: `dataset` is no such thing.
        ValueError: While iterating: a batch could not be read, or is wrong.
    """
    if isinstance(dataset, (np.ndarray, str, bytes, dict)) or not (
        _is_indexed(dataset) or hasattr(dataset, "__iter__")
    ):
        raise TypeError(
            "`dataset` must be a tf.data.Dataset, a keras.utils.PyDataset, a PyTorch DataLoader or another iterable of "
            f"batches. Received: {type(dataset).__name__}. For an array, call the explainer itself."
        )
    return _results(dataset, inputs, verbose, function)


def _results(dataset, inputs, verbose, function):
    length = _length(dataset)
    bar = keras.utils.Progbar(length) if verbose else None
    number, items = 0, _items(dataset, length)
    while True:
        try:
            item = next(items)
        except StopIteration:
            break
        except Exception as error:  # the user's data set, it may raise anything
            raise ValueError(
                f"Batch {number} of the data set could not be read: {type(error).__name__}: {words_error(error)}"
            ) from error
        try:
            result = function(_inputs_of(item, inputs))
        except Exception as error:  # the user's model, too, may raise anything
            kinds = (FloatingPointError, TypeError, ValueError)
            kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
            raise kind(cut(f"Batch {number} of the data set: {error}", 399)) from error
        yield result
        number += 1
        if bar is not None:
            bar.add(1)
    if length is not None and number < length:
        raise ValueError(
            f"The data set ended early. Received: {number} batches, expected: {length}, as its length says."
        )


def _is_indexed(dataset):
    return isinstance(dataset, keras.utils.PyDataset)


def _length(dataset):
    if _is_indexed(dataset):
        return dataset.num_batches
    try:
        return len(dataset)
    except TypeError:  # unknown or endless
        return None


def _items(dataset, length):
    if not _is_indexed(dataset):
        yield from dataset
        return
    number = 0
    while length is None or number < length:
        yield dataset[number]
        number += 1


def _inputs_of(item, inputs):
    """Returns the inputs out of a batch: `x`, `(x, y)`, `(x, y, weights)`; PyTorch makes lists of tuples."""
    if item is None:
        raise ValueError("a batch must hold the model's inputs. Received: None.")
    if not isinstance(item, (tuple, list)) or not item:
        return item
    structured = isinstance(item[0], (tuple, list, dict))
    if inputs == 1 or structured or (isinstance(item, tuple) and len(item) != inputs):
        return item[0]
    return list(item)
