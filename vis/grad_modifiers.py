"""Functions that change a gradient before it is used or shown.

Each takes an array or tensor and returns a new one of the same shape; nothing is
changed in place. Arrays stay arrays where that needs no operation of the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import ops

from vis.utils.validation import pick

if TYPE_CHECKING:
    from collections.abc import Callable

    from vis.utils.types import GradModifierLike, Tensor

_EPSILON = 1e-7


def negate(grads: Tensor) -> Tensor:
    """Returns `-grads`: what would lower the score.

    Args:
        grads: Array or tensor, any shape.

    Returns:
        Array or tensor of the same shape.
    """
    return -grads


def absolute(grads: Tensor) -> Tensor:
    """Returns `|grads|`: how strongly, whatever the direction.

    Args:
        grads: Array or tensor, any shape.

    Returns:
        Array or tensor of the same shape, values >= 0.
    """
    return abs(grads)


def invert(grads: Tensor) -> Tensor:
    """Returns `1 / (grads + 1e-7)`: small gradients become large ones.

    Args:
        grads: Array or tensor, any shape.

    Returns:
        Array or tensor of the same shape.
    """
    return 1.0 / (grads + _EPSILON)


def relu(grads: Tensor) -> Tensor:
    """Returns `max(grads, 0)`: only what would raise the score.

    Args:
        grads: Array or tensor, any shape.

    Returns:
        Array or tensor of the same shape, values >= 0.
    """
    return ops.maximum(grads, 0.0)


def small_values(grads: Tensor) -> Tensor:
    """Returns `|1 / (grads + 1e-7)|`: highlights what hardly changes the score.

    Args:
        grads: Array or tensor, any shape.

    Returns:
        Array or tensor of the same shape, values >= 0.
    """
    return absolute(invert(grads))


_MODIFIERS = {f.__name__: f for f in (negate, absolute, invert, relu, small_values)}


def get(identifier: GradModifierLike) -> Callable[[Tensor], Tensor]:
    """Returns the gradient modifier of that name.

    Args:
        identifier: `"negate"`, `"absolute"`, `"invert"`, `"relu"`, `"small_values"`, or a
            callable, which is returned as it is.

    Returns:
        A callable from gradients to gradients.

    Raises:
        ValueError: There is no modifier of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> get("negate") is negate
        True
    """
    return identifier if callable(identifier) else pick("grad_modifier", identifier, _MODIFIERS)


def apply(modifier: Callable[[Tensor], Tensor], grads: Tensor) -> Tensor:
    """Returns what a gradient modifier makes of a gradient, or raises if that is no gradient."""
    modified = modifier(grads)
    if getattr(modified, "shape", None) is None or tuple(modified.shape) != tuple(grads.shape):
        raise ValueError(
            f"`grad_modifier` must return an array of the gradient's shape {tuple(grads.shape)}. "
            f"Received: {type(modified).__name__} of shape {getattr(modified, 'shape', None)}."
        )
    return modified


def is_named(modifier: Callable[[Tensor], Tensor]) -> bool:
    """Tells whether `modifier` is one of this module's, safe inside a compiled loop."""
    return modifier in _MODIFIERS.values()
