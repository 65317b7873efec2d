"""What of Keras's graphs has no public name: the only place that touches its underscored attributes."""

import keras


def children(operation) -> list:
    """Returns the operations directly inside a model or layer, in graph order."""
    if isinstance(operation, keras.Function):
        return operation.operations
    if isinstance(operation, keras.Model):
        return operation.layers
    if isinstance(operation, keras.Layer):
        return operation._flatten_layers(recursive=False, include_self=False)
    return []


def producers(operation) -> list:
    """Returns the operations whose outputs an operation takes."""
    return [producer(t) for node in _nodes(operation, "_inbound_nodes") for t in node.input_tensors]


def consumers(operation) -> list:
    """Returns the operations that take an operation's outputs."""
    return [node.operation for node in _nodes(operation, "_outbound_nodes")]


def keep_consumers(operation, count):
    """Takes the notes on an operation's consumers out again, but for the first ones.

    Args:
        operation: The operation.
        count: How many stay.
    """
    del operation._outbound_nodes[count:]


def output_shapes(model) -> dict:
    """Returns the shapes that the calls of each operation in a model's own graph put out, as sets under their `id`."""
    found: dict[int, set[tuple]] = {}
    seen, queue = set(), list(model.outputs)
    while queue:
        tensor = queue.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            history = tensor._keras_history
            found.setdefault(id(history.operation), set()).add(tuple(tensor.shape))
            queue += history.operation._inbound_nodes[history.node_index].input_tensors
    return found


def producer(tensor):
    """Returns the operation that a symbolic tensor comes from, or `None`."""
    history = getattr(tensor, "_keras_history", None)
    return history.operation if history is not None else None


def _nodes(operation, kind):
    return getattr(operation, kind, None) or []
