"""Rules of single activations: what a gradient becomes where it passes one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras import ops

from vis import backend
from vis.utils.validation import shown

if TYPE_CHECKING:
    from keras import Operation

    from vis.utils.types import Tensor


@dataclasses.dataclass(frozen=True)
class Rule:
    """A backward rule.

    Args:
        name: What it is called.
        function: Pure `(x, y, upstream) -> gradient` of three tensors of one shape: the
            activation's input, its output, and the gradient that arrives at the output.
        keeps_derivative: Whether the activation's own derivative is applied as well, after
            `function`. Without it `function` replaces the derivative.
    """

    name: str
    function: Callable
    keeps_derivative: bool = False

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)` with the rule's gradient."""
        y = call(x, *args, **kwargs)
        source = y if self.keeps_derivative else x
        return backend.with_gradient(self.function, source, x, y)


def _positive(tensor, upstream):
    return ops.cast(tensor > 0, upstream.dtype)


def _guide(x, y, upstream):
    """Springenberg et al. 2015, section 3.4."""
    return upstream * _positive(upstream, upstream) * _positive(y, upstream)


def _rectify(x, y, upstream):
    """Zeiler & Fergus 2014, section 2.1: the rectification itself, with no forward gate."""
    return upstream * _positive(upstream, upstream)


# The derivative stays, so that what saturates (ReLU6) still blocks the gradient.
GUIDED = Rule("guided", _guide, keeps_derivative=True)
RECTIFIED = Rule("rectified", _rectify)


def _redirect(x, y, upstream):
    """Olah et al. 2017, "Feature Visualization", as in Lucid.

    Where a sample gets no gradient at all through a ReLU, it gets the one that does not push units further into
    what is cut off. For losses that are minimised.
    """
    slope = ops.where(x < 0, y / ops.where(x < 0, x, 1), ops.cast(x == y, upstream.dtype))
    plain = upstream * ops.cast(slope, upstream.dtype)
    pushed_out = ops.logical_or(ops.logical_and(x < 0, upstream > 0), ops.logical_and(y < x, upstream < 0))
    axes = tuple(range(1, len(x.shape)))
    alive = ops.any(plain != 0, axis=axes, keepdims=True) if axes else plain != 0
    return ops.where(alive, plain, ops.where(pushed_out, ops.zeros_like(upstream), upstream))


REDIRECTED = Rule("redirected", _redirect)


def of_three(function: Callable) -> Rule:
    """Returns a function `(x, y, upstream) -> gradient` as a rule that replaces an activation's derivative.

    Raises:
        TypeError: The function does not take three arguments.
    """
    try:
        inspect.signature(function).bind(1, 2, 3)
    except TypeError as error:
        raise TypeError(
            "A backward rule must take (x, y, upstream): the activation's input, its output and the gradient that "
            f"arrives. Received: {shown(function)}, which does not take three arguments."
        ) from error
    return Rule(getattr(function, "__name__", "rule"), function)
