"""The softmax or sigmoid at the end of a model: which operations make probabilities."""

import warnings

import keras

from vis.engine.graph import has_graph, last_layers
from vis.utils.internals import producers
from vis.utils.validation import VisualizationWarning

_REARRANGING = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Permute)
_REARRANGING_OPERATIONS = ("Squeeze", "ExpandDims", "Reshape", "Transpose")
_PROBABILITY_OPERATIONS = ("Softmax", "LogSoftmax", "Sigmoid")


def probability_makers(operation) -> list:
    """Lists the operations whose softmax or sigmoid makes what an operation puts out.

    Looks into nested models and wrappers, and behind what only rearranges.
    """
    if has_graph(operation):
        return [found for end in last_layers(operation) for found in probability_makers(end)]
    if is_rearranging(operation):
        return [found for before in producers(operation) for found in probability_makers(before)]
    return [operation] if _makes_probabilities(operation) else []


def _makes_probabilities(operation):
    if is_probability_operation(operation) or activates_to_probabilities(operation):
        return True
    inner = getattr(operation, "layer" if isinstance(operation, keras.layers.Wrapper) else "activation", None)
    return isinstance(inner, keras.Layer) and _makes_probabilities(inner)


def is_rearranging(operation) -> bool:
    """Tells whether an operation only gives its values another shape or order."""
    if isinstance(operation, keras.Layer):
        return isinstance(operation, _REARRANGING)
    return type(operation).__name__ in _REARRANGING_OPERATIONS


def is_probability_operation(operation) -> bool:
    """Tells whether an operation is, as a whole, a softmax or sigmoid."""
    if isinstance(operation, keras.Layer):
        return isinstance(operation, keras.layers.Softmax)
    return type(operation).__name__ in _PROBABILITY_OPERATIONS


def activates_to_probabilities(operation) -> bool:
    """Tells whether the activation function of a layer is a softmax or sigmoid."""
    name = getattr(getattr(operation, "activation", None), "__name__", None)
    return name in ("softmax", "log_softmax", "sigmoid")


def warn_of_probabilities(layer):
    """Says so where what is explained is no score but a probability."""
    if probability_makers(layer):
        warnings.warn(
            f"Layer {layer.name!r} ends in a softmax or sigmoid: a probability is explained. Its gradient fades near 0 "
            "and 1, and a softmax also rises where other classes fall. Swap it for linear first: "
            "`vis.utils.utils.swap_softmax(model)`. Explainers, such as vis.Saliency, leave it out by themselves.",
            VisualizationWarning,
            stacklevel=3,
        )
