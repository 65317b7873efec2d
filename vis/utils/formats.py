"""Where the channels are: read from the layers, not from the global setting.

Only layers such as convolutions carry a `data_format`; for the others (activations,
merges, the model's input) the nearest layer in the graph that has one decides, and the
global setting only where none does.
"""

import warnings

import keras
import numpy as np
from keras import ops

from vis.utils.hints import wrong_kind
from vis.utils.images import interpolation
from vis.utils.internals import children, consumers, producer, producers
from vis.utils.validation import VisualizationWarning, check_input, check_unmasked

# What the modules of another framework are called: those with their channels first, and those that may be used either
# way, or on tokens.
_FIRST = ("Conv", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "BatchNorm", "InstanceNorm", "Upsample")
_EITHER = ("LayerNorm", "MultiheadAttention", "Transformer", "Permute")


def data_format(layer) -> str:
    """Returns `"channels_first"` or `"channels_last"` for a layer's output.

    What comes before it decides; for the first layers of a model, what comes after.
    """
    return _nearest(layer, producers) or _nearest(layer, consumers) or keras.config.image_data_format()


def input_data_format(tensor) -> str:
    """Returns the data format of a model's symbolic input."""
    return _nearest(producer(tensor), consumers) or keras.config.image_data_format()


def channel_axis(layer, rank: int) -> int:
    """Returns the channel axis of a layer's output with `rank` axes."""
    return 1 if rank > 2 and data_format(layer) == "channels_first" else rank - 1


def channels_last(tensor, form: str):
    """Moves the channel axis of a batch to the end, if it is not there already."""
    return ops.moveaxis(tensor, 1, -1) if form == "channels_first" and len(tensor.shape) > 2 else tensor


def channels_in_place(name, value, shape, form):
    """Returns `check_input`, with the channels moved forward for a channels_first model.

    Args:
        name: The argument's name, for messages.
        value: One sample or a batch, channels last or where the model wants them.
        shape: The model's input shape, or `None`.
        form: The model's data format.
    """
    check_unmasked(name, value)  # before `asarray` takes the mask away
    if shape is not None and len(shape) > 2 and form == "channels_first" and wrong_kind(name, value) is None:
        array = np.asarray(value)
        given = array.shape[-(len(shape) - 1) :]
        wanted = shape[1:]
        fits = all(w is None or g == w for g, w in zip(given, wanted))
        if not fits and len(given) == len(wanted) and given[-1] == wanted[0]:
            value = np.moveaxis(array, -1, array.ndim - len(wanted))
    return check_input(name, value, shape, form)


def along_axis(matrix, tensor, axis):
    """Multiplies a matrix `(m, n)` with every line of a batch along an axis, not the first, of length n."""
    tensor = ops.moveaxis(tensor, axis, 1)
    first, _, *rest = tensor.shape
    lines = ops.matmul(matrix, ops.reshape(tensor, (first, tensor.shape[1], -1)))
    return ops.moveaxis(ops.reshape(lines, (first, matrix.shape[0], *rest)), 1, axis)


def resized(images, sizes):
    """Resizes images `(N, *spatial, channels)` linearly, pixel centres on pixel centres."""
    for axis, size in enumerate(sizes, start=1):
        if images.shape[axis] != size:
            images = along_axis(interpolation(size, images.shape[axis]), images, axis)
    return images


def _nearest(start, neighbours) -> str | None:
    """Returns the data format that is stated nearest to an operation, in one direction, or `None`."""
    seen, queue = set(), [start]
    while queue:
        operation = queue.pop(0)
        if operation is None or id(operation) in seen:
            continue
        seen.add(id(operation))
        found = stated_format(operation)
        if found is not None:
            return found
        queue.extend(_inner(operation))
        queue.extend(neighbours(operation))
    return None


def stated_format(operation) -> str | None:
    """Returns the data format that an operation states itself, or `None`.

    Keras's wrapper for modules of another framework states none: there, convolutions have their channels first. One
    that also has layers for tokens or for channels last is warned of.
    """
    found = getattr(operation, "data_format", None)
    if found in ("channels_first", "channels_last"):
        return found
    names = [name for name in foreign_modules(operation) if name.startswith(_FIRST + _EITHER)]
    if not any(name.startswith(_FIRST) for name in names):
        return None
    if any(name.startswith(_EITHER) for name in names):
        warnings.warn(
            f"Layer {operation.name!r} holds a module that may have its channels first or last: it has both "
            f"{next(n for n in names if n.startswith(_FIRST))} and {next(n for n in names if n.startswith(_EITHER))}. "
            f"Taken for channels first. Say which it is: `layer.data_format = 'channels_last'` (or first).",
            VisualizationWarning,
            stacklevel=2,
        )
    return "channels_first"


def foreign_modules(operation) -> list:
    """Returns the class names of the modules of another framework in a layer, in order."""
    if not isinstance(operation, keras.layers.TorchModuleWrapper):
        return []
    return [type(module).__name__ for module in operation.module.modules()]


def _inner(operation):
    # A wrapper holds its format in the wrapped layer, a nested model or a block of the user's own in its layers.
    return children(operation) if isinstance(operation, keras.Layer) else []
