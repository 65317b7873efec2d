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


def output_shapes(operation) -> list:
    """Returns the different shapes that an operation's calls put out, in all graphs that it is in."""
    nodes = _nodes(operation, "_inbound_nodes")
    return list(dict.fromkeys(tuple(t.shape) for node in nodes for t in node.output_tensors))


def producer(tensor):
    """Returns the operation that a symbolic tensor comes from, or `None`."""
    history = getattr(tensor, "_keras_history", None)
    return history.operation if history is not None else None


def _nodes(operation, kind):
    return getattr(operation, kind, None) or []
