"""Layers and operations of any model: the walk through them, and how one is found by what the user calls it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import keras

from vis.engine.taps import surgery
from vis.utils.internals import children, consumers, keep_consumers, producer, producers
from vis.utils.validation import is_integer, listed, near_names, shown

if TYPE_CHECKING:
    from vis.utils.types import LayerName


def walk(operation, path=""):
    """Yields `(path, operation)` for everything inside, depth first, each object once.

    Paths join names with "/", as in `"backbone/block1/conv"`.
    """
    return _walk(operation, path, {id(operation)})


def _walk(operation, path, seen):
    for child in children(operation):
        if id(child) in seen:
            continue
        seen.add(id(child))
        child_path = f"{path}/{child.name}" if path else child.name
        yield child_path, child
        yield from _walk(child, child_path, seen)


def layers(model) -> list:
    """Returns `(path, layer)` for every layer of a model, nested ones included."""
    return [(path, op) for path, op in walk(model) if isinstance(op, keras.Layer)]


def operations(model) -> list:
    """Returns `(path, operation)` for everything inside a model: layers, and operations such as `x + y`."""
    return list(walk(model))


def find_layer(model: keras.Model, layer: LayerName) -> keras.Layer:
    """Returns the layer meant by a name, a path, an index or the layer object itself.

    Args:
        model: Any built Keras model.
        layer: A name (`"conv2"`, also of a nested layer if no other has it), a path
            through nested models (`"resnet50/conv5_block3_out"`), an index into
            `model.layers` (negative ones count from the end), or a layer of the model.

    Returns:
        The layer.

    Raises:
        ValueError: There is no such layer, or the name stands for several; near names are
            listed.
        TypeError: `layer` is of another kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
        >>> find_layer(model, "fc") is find_layer(model, -1)
        True
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(f"`model` must be a Keras 3 model. Received: {shown(model)} ({type(model).__name__}).")
    if is_integer(layer):
        return model.layers[layer_index(model, layer)]
    if isinstance(layer, str):
        return _by_name(model, layer)
    if isinstance(layer, keras.Layer):
        if any(layer is found for _, found in layers(model)):
            return layer
        names = [path for path, _ in layers(model)]
        hint = near_names(layer.name, names)
        if layer.name in names:
            hint = "The model has another layer of that name (perhaps a copy of this one): give the name instead."
        raise ValueError(
            f"`layer` must belong to the model. Received: layer {layer.name!r}, which is not part of model "
            f"{model.name!r}. {hint}"
        )
    raise TypeError(
        "`layer` must be a layer's name, path or index, or the layer itself. "
        f"Received: {shown(layer)} ({type(layer).__name__})."
    )


def layer_index(model, index) -> int:
    """Returns an index into `model.layers` counted from the start."""
    count = len(model.layers)
    if not -count <= index < count:
        raise ValueError(
            f"The layer index is out of range. Received: {shown(index)}, but model {model.name!r} has {count} layers: "
            f"choose from {-count} to {count - 1}."
        )
    return index % count


def _by_name(model, name):
    found = layers(model)
    if not any(path == name or path.endswith("/" + name) for path, _ in found):
        found = operations(model)  # `x + y` in a Functional model, say
    exact = [layer for path, layer in found if path == name]
    matches = exact or [layer for path, layer in found if path.endswith("/" + name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        paths = [path for path, _ in found if path.endswith("/" + name)]
        raise ValueError(f"Layer name {shown(name)} is ambiguous. Choose one of: {listed(paths)}.")
    found = layers(model)
    names = [path for path, _ in found] + [layer.name for _, layer in found]
    raise ValueError(f"Model {model.name!r} has no layer named {shown(name)}. {near_names(name, names)}")


def fingerprint(model) -> list:
    """Returns the objects that decide what a trace of the model looks like.

    Compare with `same`: a replaced layer or activation makes a difference, new weights do not.
    Waits while another thread has its wrappers on the layers.
    """
    parts = []
    with surgery():
        for _, operation in walk(model):
            parts += [operation, getattr(operation, "activation", None)]
            parts += [getattr(operation, "dtype_policy", None), vars(operation).get("call")]
    return parts


def same(first, second) -> bool:
    """Tells whether two fingerprints hold the same objects."""
    return len(first) == len(second) and all(a is b for a, b in zip(first, second))


def ancestors(layer) -> list:
    """Returns the operations that a layer's output is computed from, in its own graph."""
    return _connected([layer], producers)[1:]


@contextlib.contextmanager
def preserved_nodes(input_tensor):
    """Lets symbolic expressions be built on a model without their being left in its graph.

    Every `keras.ops` call on a layer's output is noted in that layer; the notes that were
    added meanwhile are taken out again.
    """
    operations = _connected([producer(input_tensor)], lambda op: consumers(op) + producers(op))
    counts = [len(consumers(op)) for op in operations]
    try:
        yield
    finally:
        for operation, count in zip(operations, counts):
            keep_consumers(operation, count)


def _connected(queue, neighbours) -> list:
    found = {}
    while queue:
        operation = queue.pop(0)
        if operation is not None and id(operation) not in found:
            found[id(operation)] = operation
            queue.extend(neighbours(operation))
    return list(found.values())


def last_layers(model):
    """Lists the layers that the outputs come from, in nested models too."""
    ends = [model.layers[-1]] if isinstance(model, keras.Sequential) else [producer(t) for t in model.outputs]
    return [inner for end in ends for inner in (last_layers(end) if has_graph(end) else [end])]


def has_graph(operation) -> bool:
    """Tells whether an operation is a model that knows its symbolic outputs."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "outputs", None))


def has_own_code(operation) -> bool:
    """Tells whether a layer is none of Keras's own and no graph, so that its call is code."""
    is_own = type(operation).__module__.split(".")[0] != "keras"
    return isinstance(operation, keras.Layer) and is_own and not has_graph(operation)
