"""Rules of differences: how the difference between an input and its reference passes an operation (DeepLIFT).

Rows that belong together (`vis.engine.requests.belonging`) are inputs, then the reference of these. The gradient of an
operation becomes its multiplier, the difference of its outputs by that of its inputs, so that gradient x difference
sums to the difference of the scores.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras import ops, tree

from vis import backend
from vis.backprop_modifiers.kinds import is_cut
from vis.backprop_modifiers.relevance_rules import only_one, with_value
from vis.engine.requests import rows_together

if TYPE_CHECKING:
    from keras import Operation

    from vis.utils.types import Tensor

_CLOSE = 1e-6  # nearer than this, the derivative stands for the quotient


def _with_reference(function, x, count=None):
    """Returns `function(x, reference)` for each row's reference: itself, where values alone are wanted.

    How many rows belong together is known in the forward pass, not in a backward pass, which may have another thread.
    """
    shape, count = ops.shape(x), rows_together() if count is None else count
    if (x.shape[0] or 0) % count:  # what is the same for all rows
        count = 1
    rows = ops.reshape(x, (-1, count, *shape[1:]))
    return ops.reshape(function(rows, rows[:, -1:]), shape)


def _difference(x, count=None):
    return _with_reference(ops.subtract, x, count)


def _middle(x):
    return _with_reference(lambda own, reference: (own + reference) / 2, x)


def _reference(x):
    return _with_reference(lambda own, reference: ops.broadcast_to(reference, own.shape), x)


def _quotient(y, x):
    """Returns `(y / x, whether x is too near to 0 for that)`."""
    near = ops.absolute(x) < _CLOSE
    return ops.where(near, ops.zeros_like(y), y / ops.where(near, ops.ones_like(x), x)), near


@dataclasses.dataclass(frozen=True)
class Rescale:
    """The multiplier of an activation: the difference of its outputs by that of its inputs.

    Its derivative where the inputs are nearer than 1e-6 to each other.

    Source: Shrikumar et al. 2017, "Learning Important Features Through Propagating Activation Differences",
    section 3.5.1.

    Examples:
        >>> pair = ops.convert_to_tensor([[3.0], [1.0]])
        >>> ops.convert_to_numpy(Rescale().surrogate(ops.square, None, pair)).tolist()
        [[9.0], [1.0]]
    """

    name = "rescale"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the multiplier as gradient."""
        y = call(x, *args, **kwargs)
        if is_cut(operation, call):
            return backend.with_gradient(functools.partial(_times_multiplier, rows_together()), x, x, y)
        multiplier, near = _quotient(_difference(y), _difference(x))
        return with_value(y, ops.where(near, y, x * ops.stop_gradient(multiplier)))


def _times_multiplier(count, x, y, upstream):
    """Multiplies a gradient with the multiplier of a function that passes values on or cuts them off."""
    dx = _difference(x, count)
    slope = ops.cast(x == y, y.dtype)  # whatever the difference, the quotient has no more rounding than its numbers
    return upstream * ops.where(dx == 0, slope, ops.divide_no_nan(_difference(y, count), dx))


@dataclasses.dataclass(frozen=True)
class RescaleMaximum:
    """The multipliers of a maximum over several inputs, as in max pooling.

    On the way from the reference to the input the winner may change. What the output gains above the larger of the
    two maxima is put down to the input's winner, and the rest to the reference's.

    Source: Shrikumar et al. 2017, section 3.5.1, for a function of several inputs.

    Examples:
        >>> pair = ops.convert_to_tensor([[3.0, 1.0], [0.0, 1.0]])
        >>> y = RescaleMaximum().surrogate(lambda x: ops.max(x, axis=-1), None, pair)
        >>> ops.convert_to_numpy(y).tolist()
        [3.0, 1.0]
    """

    name = "rescale-maximum"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the multipliers of both winners as gradients."""
        y = call(x, *args, **kwargs)
        reference = _reference(y)
        larger = ops.maximum(y, reference)
        parts, _ = _quotient(ops.ones_like(x), _difference(x))
        moving = (x - ops.stop_gradient(x)) * ops.stop_gradient(parts)  # 0, with the gradient 1 / difference

        def at_winners_of(fixed):
            return call(ops.stop_gradient(fixed) + moving, *args, **kwargs)

        first, second = at_winners_of(x), at_winners_of(_reference(x))
        return with_value(y, first * ops.stop_gradient(larger - reference) + second * ops.stop_gradient(y - larger))


@dataclasses.dataclass(frozen=True)
class Midpoint:
    """The multipliers of a product of two: each factor's is the other in the middle between input and reference.

    Exact: the two contributions sum to the difference of the products, and neither factor comes first.

    Source: the Shapley value of a product of two; Lundberg & Lee 2017, "A Unified Approach to Interpreting Model
    Predictions", section 4.2.

    Examples:
        >>> pair = [ops.convert_to_tensor([[3.0], [1.0]]), ops.convert_to_tensor([[2.0], [0.0]])]
        >>> ops.convert_to_numpy(Midpoint().surrogate(lambda ab: ab[0] * ab[1], None, pair)).tolist()
        [[6.0], [0.0]]
    """

    name = "midpoint"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the product, with the middle of the other factor as gradient of each."""
        y = call(*args, **kwargs)
        factors = [x for x in tree.flatten(args) if ops.is_tensor(x)]
        if len(factors) != 2 or factors[0].shape[:1] != factors[1].shape[:1]:
            return y  # own gradient; the gap is measured

        def with_middle(index):
            return call(*only_one(args, index, lambda x: ops.stop_gradient(_middle(x))), **kwargs)

        return with_value(y, with_middle(0) + with_middle(1))


@dataclasses.dataclass(frozen=True)
class RescaleQuotient:
    """The multipliers of a quotient: that of a product with 1 / divisor.

    Examples:
        >>> pair = ops.convert_to_tensor([[6.0], [2.0]]), ops.convert_to_tensor([[3.0], [1.0]])
        >>> ops.convert_to_numpy(RescaleQuotient().surrogate(ops.divide, None, *pair)).tolist()
        [[2.0], [2.0]]
    """

    name = "rescale-quotient"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, divisor: Tensor) -> Tensor:
        """Returns the quotient, with the multipliers as gradients."""
        inverse = Rescale().surrogate(lambda one: 1 / one, None, divisor) if ops.is_tensor(divisor) else 1 / divisor
        product = Midpoint().surrogate(ops.multiply, None, x, inverse) if ops.is_tensor(x) else x * inverse
        return with_value(call(x, divisor), product)
