"""Rules of transformers: how relevance passes attention and the normalisation of tokens.

A rule of attention does not stand in for the layer. It acts at three points within, see `vis.engine.insides`: where
scores become weights, and where weights meet values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from vis.backprop_modifiers.relevance_rules import Identity, halved, with_value
from vis.engine.insides import Hooks

if TYPE_CHECKING:
    from keras import Operation

    from vis.utils.types import Tensor


@dataclasses.dataclass(frozen=True)
class AttentionHalves:
    """AttnLRP: at each product within an attention, both factors get half of the relevance.

    So the values get half of what an attention puts out, and queries and keys a quarter each, through the softmax by
    its own gradient. Relevance tells what is looked at and why it is looked at.

    Source: Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers",
    equations 9 to 15.

    Examples:
        >>> AttentionHalves().name
        'attention-halves'
    """

    name = "attention-halves"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the weights that a softmax of a graph makes; the products before and after it have rules."""
        return call(*args, **kwargs)

    @property
    def within(self) -> Hooks:
        """What it does within an attention."""
        return Hooks(scores=halved, mixture=halved)


@dataclasses.dataclass(frozen=True)
class AttentionValues:
    """CP-LRP: attention weights count as constants, so that the values get all relevance, queries and keys none.

    Relevance tells what is looked at, not why. It is calmer than that of `AttentionHalves` and conserved better.

    Source: Ali et al. 2022, "XAI for Transformers: Better Explanations through Conservative Propagation", section 4.

    Examples:
        >>> AttentionValues().name
        'attention-values'
    """

    name = "attention-values"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the weights that a softmax of a graph makes, as constants; the values have all that comes."""
        return ops.stop_gradient(call(*args, **kwargs))

    @property
    def within(self) -> Hooks:
        """What it does within an attention."""
        return Hooks(weights=ops.stop_gradient)


@dataclasses.dataclass(frozen=True)
class ConstantDeviation:
    """In a layer normalisation, the deviation that values are divided by counts as a constant.

    What is left is linear: the values without their mean, times a number each. A bias takes its share, which is not
    handed on. Normalisations of other kinds, such as RMS, get the rule `Identity`, which is the same for them.

    Source: Ali et al. 2022, "XAI for Transformers: Better Explanations through Conservative Propagation", section 4.2.

    Examples:
        >>> x = ops.convert_to_tensor([[1.0, 3.0]])
        >>> layer = keras.layers.LayerNormalization(epsilon=0.0)
        >>> ops.convert_to_numpy(ConstantDeviation().surrogate(layer, layer, x)).round(3).tolist()
        [[-1.0, 1.0]]
    """

    name = "constant-deviation"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the gradient of the values less their mean, times a constant each."""
        if not isinstance(operation, keras.layers.LayerNormalization) or getattr(operation, "rms_scaling", False):
            return Identity().surrogate(call, operation, x, *args, **kwargs)
        y = call(x, *args, **kwargs)
        axes = operation.axis if isinstance(operation.axis, (list, tuple)) else [operation.axis]
        centred = ops.cast(x, "float32")
        centred = centred - ops.mean(centred, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(ops.stop_gradient(centred)), axis=axes, keepdims=True)
        factor = ops.rsqrt(variance + operation.epsilon) * _gamma(operation, axes, x)
        return with_value(y, ops.cast(centred * ops.stop_gradient(factor), y.dtype))


def _gamma(layer, axes, x):
    """Returns the factors of a layer normalisation in a form that fits x, or 1."""
    if not layer.scale:
        return 1.0
    rank = len(x.shape)
    kept = {axis % rank for axis in axes}
    form = [size if i in kept else 1 for i, size in enumerate(x.shape)]
    return ops.reshape(ops.cast(layer.gamma, "float32"), form)
