"""What an operation is: the kinds that a composite knows, and what passes relevance on rightly by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import keras

from vis.engine.insides import ATTENTION, is_fused
from vis.engine.linear import CONVOLUTIONS, LINEAR
from vis.engine.surrogates import has_own_activation
from vis.utils.internals import children, consumers, producers

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras import Operation

# Functions that pass positive values on and hold negative ones back.
_RELU_LIKE = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu")
_RELU_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU)
_RELU_OPERATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu")

_SOFTMAXES = ("softmax", "log_softmax")  # of several values together: no activation in the sense of relevance
_ACTIVATION_OPERATIONS = (
    *_RELU_OPERATIONS,
    *("Sigmoid", "Tanh", "Gelu", "Silu", "Softplus", "Softsign", "HardSigmoid", "HardSilu", "HardTanh", "LogSigmoid"),
    *("Mish", "Glu", "Square", "Sqrt", "Exp", "Absolute", "Log1p", "Clip", "Erf"),
)

_NORMALIZATIONS = tuple(
    getattr(keras.layers, f"{kind}Normalization")
    for kind in ("Batch", "Layer", "Group", "Unit", "RMS")
    if hasattr(keras.layers, f"{kind}Normalization")
)
_NAME_OF_NORMALIZATION = re.compile(r"Norm(alization)?$")
_RESCALINGS = (keras.layers.Rescaling, keras.layers.Normalization)

# Layers and operations of which each output is a sum of inputs times constants, or one of the inputs.
_LINEAR_LAYERS = (
    *(keras.layers.InputLayer, keras.layers.Identity, keras.layers.Embedding, keras.layers.Wrapper),
    *(keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.RepeatVector),
    *(keras.layers.Add, keras.layers.Subtract, keras.layers.Average, keras.layers.Maximum, keras.layers.Minimum),
    *(keras.layers.Concatenate, keras.layers.Masking, keras.layers.Dropout, keras.layers.GaussianNoise),
    *(keras.layers.GaussianDropout, keras.layers.AlphaDropout, keras.layers.ActivityRegularization),
    *(keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D),
    *(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D),
    *(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D, keras.layers.Resizing),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
    *(
        getattr(keras.layers, f"{area}{kind}Pooling{n}D")
        for area in ("", "Global")
        for kind in ("Max", "Average")
        for n in (1, 2, 3)
    ),
)
# Layers of keras.applications and keras-hub that have no public class: a weight for each channel, and a dropout.
_LINEAR_NAMES = (
    *("LayerScale", "StochasticDepth", "RotaryEmbedding", "PositionEmbedding", "TokenAndPositionEmbedding"),
    *("ReversibleEmbedding",),
)
_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)  # with rules for activations
_LINEAR_OPERATIONS = (
    *("Add", "Subtract", "Negative", "Mean", "Sum", "Max", "Amax", "Amin", "Min", "Maximum", "Minimum"),
    *("Reshape", "Transpose", "Squeeze", "ExpandDims", "Concatenate", "Stack", "Split", "Moveaxis", "Swapaxes"),
    *("Pad", "Tile", "Repeat", "Roll", "Flip", "GetItem", "Take", "Ravel", "BroadcastTo", "Cast", "Identity", "Copy"),
    *(
        "AveragePool",
        "MaxPool",
        "Resize",
        "StopGradient",
        "Where",
        "Rot90",
        "Softmax",
        "TakeAlongAxis",
        "Slice",
        "Unstack",
    ),
    *("OnesLike", "ZerosLike", "Cumsum", "Arange", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"),
    *("LogicalAnd", "LogicalOr", "LogicalNot", "Any", "All", "Argmax", "Argmin", "OneHot"),
)
_CONSTANT_OPERATIONS = (
    *("OnesLike", "ZerosLike", "FullLike", "Arange", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less"),
    *("LessEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "Any", "All", "Argmax", "Argmin", "Sign", "StopGradient"),
)
_PASSING_OPERATIONS = ("Cast", "Reshape", "Transpose", "ExpandDims", "Squeeze", "Identity")
_MAXIMA = tuple(getattr(keras.layers, f"{area}MaxPooling{n}D") for area in ("", "Global") for n in (1, 2, 3))
_PRODUCT_OPERATIONS = ("Multiply", "Matmul", "Einsum", "Dot", "Tensordot")
_QUOTIENT_OPERATIONS = ("Divide", "TrueDivide")


def is_relu_like(operation: Operation, kind: str) -> bool:
    """Tells whether an operation holds negative values back: what guided backpropagation and its kin are for."""
    if kind == "activation":
        return _named(operation.activation, _RELU_LIKE)  # type: ignore[attr-defined]
    whole = isinstance(operation, keras.layers.Activation) and _named(operation.activation, _RELU_LIKE)
    return whole or isinstance(operation, _RELU_LAYERS) or _is_operation(operation, _RELU_OPERATIONS)


def _is_operation(operation, names):
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in names


def _named(function, names):
    if isinstance(function, keras.Layer):  # found by itself, on the walk
        return False
    return getattr(function, "__name__", None) in names


def is_maximum(path: str, operation: Operation) -> bool:
    """Tells whether each output of an operation is the largest of several inputs."""
    return isinstance(operation, _MAXIMA) or _is_operation(operation, ("MaxPool", "Max", "Amax"))


def is_activation(operation: Operation, kind: str = "call") -> bool:
    """Tells whether an operation changes each value by itself; a softmax does not."""
    if kind == "activation" or isinstance(operation, keras.layers.Activation):
        return not _named(operation.activation, _SOFTMAXES)  # type: ignore[attr-defined]
    return isinstance(operation, _RELU_LAYERS) or _is_operation(operation, _ACTIVATION_OPERATIONS)


def is_homogeneous(operation: Operation | None, call: Callable) -> bool:
    """Tells whether f(x) = x f'(x), as for a ReLU without bounds: its own gradient is the identity rule."""
    if isinstance(operation, keras.layers.ReLU):
        return operation.max_value is None and not operation.threshold
    if isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU)):
        return True
    function = operation.activation if isinstance(operation, keras.layers.Activation) else call
    return _named(function, ("relu", "leaky_relu")) or _is_operation(operation, ("Relu", "LeakyRelu"))


def is_cut(operation: Operation | None, call: Callable) -> bool:
    """Tells whether an activation passes values on as they are or cuts them off, as ReLU and ReLU6 do."""
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    function = operation.activation if isinstance(operation, keras.layers.Activation) else call
    return _named(function, ("relu", "relu6")) or _is_operation(operation, ("Relu", "Relu6"))


def _is_product(operation):
    if isinstance(operation, keras.Layer):
        return isinstance(operation, (keras.layers.Multiply, keras.layers.Dot))
    return _is_operation(operation, _PRODUCT_OPERATIONS) and _has_several(operation)


def _is_quotient(operation):
    return _is_operation(operation, _QUOTIENT_OPERATIONS) and _has_several(operation)


def _has_several(operation):
    return not producers(operation) or _computed(operation) > 1


def _computed(operation, constants=()):
    """Counts what an operation takes that is computed from inputs and has a gradient: no masks, ones or positions."""
    known = dict.fromkeys(constants, False)
    return sum(_has_gradient(one, known) for one in producers(operation))


def is_scaling(operation: Operation, constants: set[int]) -> bool:
    """Tells whether a product has one factor only, where some operations, given by their `id`, count as constants."""
    return _is_operation(operation, _PRODUCT_OPERATIONS) and _computed(operation, constants) == 1


def _has_gradient(operation, known):
    if id(operation) not in known:
        known[id(operation)] = False  # of a loop, which there is none
        if isinstance(operation, keras.Layer) and operation.weights:  # vectors of token ids, too
            known[id(operation)] = True
            return True
        makes = type(operation).__name__ not in _CONSTANT_OPERATIONS and _gives_floats(operation)
        before = producers(operation)
        known[id(operation)] = makes and (not before or any(_has_gradient(one, known) for one in before))
    return known[id(operation)]


def _gives_floats(operation):
    outputs = getattr(operation, "output", None) if not isinstance(operation, keras.Layer) else None
    kinds = [one.dtype for one in keras.tree.flatten(outputs)] if outputs is not None else []
    if isinstance(operation, keras.layers.InputLayer):
        kinds = [operation.dtype]
    return not kinds or any(keras.backend.is_float_dtype(kind) for kind in kinds)


def is_weights(operation: Operation) -> bool:
    """Tells whether an operation of a graph is a softmax whose outcome is multiplied with a matrix: attention."""
    if not isinstance(operation, keras.layers.Softmax) and not _is_operation(operation, ("Softmax",)):
        return False
    after, queue = [], list(consumers(operation))
    while queue:
        one = queue.pop()
        after.append(one)
        passes = isinstance(one, keras.layers.Dropout) or _is_operation(one, _PASSING_OPERATIONS)
        queue += consumers(one) if passes else []
    return any(isinstance(one, keras.layers.Dot) or _is_operation(one, _PRODUCT_OPERATIONS) for one in after)


def _is_normalization(operation):
    """Tells whether an operation normalises: a layer of Keras, or one of another package that is named so."""
    if isinstance(operation, _NORMALIZATIONS):
        return True
    is_layer = isinstance(operation, keras.Layer) and not children(operation)
    return is_layer and bool(_NAME_OF_NORMALIZATION.search(type(operation).__name__))


KINDS = {
    "dense": lambda operation: isinstance(operation, LINEAR),
    "convolution": lambda operation: isinstance(operation, CONVOLUTIONS),
    "normalization": _is_normalization,
    "attention": lambda operation: isinstance(operation, ATTENTION) or is_weights(operation),
    "product": _is_product,
    "quotient": _is_quotient,
    "rescaling": lambda operation: isinstance(operation, _RESCALINGS),
}


def parts(operation: Operation) -> tuple[str, ...]:
    """Returns the parts of an operation that get rules.

    Its `"call"`, its own `"activation"`, that of its gates (`"recurrent_activation"`), and `"attention within"`.
    """
    own = ("call", "activation") if has_own_activation(operation) else ("call",)
    own = (*own, "recurrent_activation") if callable(getattr(operation, "recurrent_activation", None)) else own
    return (*own, "attention within") if isinstance(operation, ATTENTION) or is_fused(operation) else own


def passes_relevance(operation: Operation) -> bool:
    """Tells whether the own gradient of an operation passes relevance on rightly.

    It does where each output is a sum of inputs times constants, or one of the inputs, as in max pooling. What holds
    other layers is asked for these.
    """
    if isinstance(operation, keras.Layer):
        known = (*_LINEAR_LAYERS, *LINEAR, *CONVOLUTIONS, *_CELLS)
        named = isinstance(operation, keras.layers.Activation) and _named(operation.activation, ("linear",))
        return isinstance(operation, known) or named or type(operation).__name__ in _LINEAR_NAMES
    scaled = _is_operation(operation, _PRODUCT_OPERATIONS + _QUOTIENT_OPERATIONS) and len(producers(operation)) == 1
    return scaled or _is_operation(operation, _LINEAR_OPERATIONS)


def is_made_of_others(operation: Operation) -> bool:
    """Tells whether an operation is made of layers, which are looked at by themselves; attention multiplies its own."""
    return bool(children(operation)) and "Attention" not in type(operation).__name__
