"""What of Keras's graphs has no public name: the only place that touches its underscored attributes.

Such attributes may change with any version of Keras. `tests/test_internals.py` holds what each function gives;
`MEASURED` says for which versions it was seen to hold.
"""

import keras

MEASURED = ("3.8", "3.15")  # the oldest and the newest version of Keras for which all tests were run


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


def steps(tensors, given) -> list:
    """Returns the calls that make symbolic tensors out of given ones, in order.

    Args:
        tensors: What is to be made.
        given: Inputs of the model, or tensors within its graph. What they are made of is not asked.

    Raises:
        ValueError: Something else goes in, too.
    """
    found, known, queue = [], {id(tensor) for tensor in given}, list(tensors)
    while queue:
        tensor = queue[-1]
        if id(tensor) in known:
            queue.pop()
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            raise ValueError(f"{history.operation.name!r} is not among the inputs.")
        missing = [one for one in node.input_tensors if id(one) not in known]
        queue += missing
        if not missing:
            found.append(node)
            known.update(id(one) for one in node.outputs)
    return found


def run(calls, values, training=None) -> dict:
    """Computes what `steps` found.

    Args:
        calls: What `steps` returned.
        values: The values of what was given, under the `id` of its symbolic tensor.
        training: What takes the place of `training=` where that was given when the graph was made, as a model's own
            call does; `None` leaves it.

    Returns:
        `values` with those of all tensors on the way.
    """
    values = dict(values)
    for node in calls:
        arguments, options = node.arguments.fill_in(values)
        if training is not None and "training" in options:
            options["training"] = training
        outputs = keras.tree.flatten(node.operation(*arguments, **options))
        values.update((id(symbol), value) for symbol, value in zip(node.outputs, outputs))
    return values


def producer(tensor):
    """Returns the operation that a symbolic tensor comes from, or `None`."""
    history = getattr(tensor, "_keras_history", None)
    return history.operation if history is not None else None


def _nodes(operation, kind):
    return getattr(operation, kind, None) or []


def flash_attention(layer) -> list:
    """Returns the change `(layer, name, value)` that keeps an attention layer from kernels that hide its weights."""
    return [(layer, "_flash_attention", False)] if getattr(layer, "_flash_attention", None) else []


def score_application(layer, function) -> list:
    """Returns the change `(layer, name, function)` of how `keras.layers.Attention` applies its scores to the values.

    Args:
        layer: Any layer; for others the list is empty.
        function: `(scores, value, scores_mask=None, training=False) -> (mixture, weights)`.
    """
    return [(layer, "_apply_scores", function)] if isinstance(layer, keras.layers.Attention) else []


def has_mask(tensors) -> bool:
    """Tells whether any of some tensors carries the mask of a layer before."""
    return any(getattr(one, "_keras_mask", None) is not None for one in tensors)


def node_counts(operations) -> list[tuple]:
    """Returns how often operations were called on symbolic tensors, and how often others took their outputs."""
    return [(one, len(_nodes(one, "_inbound_nodes")), len(_nodes(one, "_outbound_nodes"))) for one in operations]


def forget_nodes(counts) -> None:
    """Takes the notes of later calls out again.

    Args:
        counts: What `node_counts` returned.
    """
    for operation, calls, uses in counts:
        del _nodes(operation, "_inbound_nodes")[calls:]
        del _nodes(operation, "_outbound_nodes")[uses:]
