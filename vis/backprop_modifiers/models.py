"""Copies of models with another backward pass, as keras-vis made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vis.backprop_modifiers.composites import composite
from vis.backprop_modifiers.gradient_rules import GUIDED, RECTIFIED
from vis.engine.copying import require_graph
from vis.engine.surrogates import installed_for_good
from vis.utils.validation import pick

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from vis.utils.types import RuleLike


def modify(
    model: keras.Model, identifier: RuleLike | None, custom_objects: dict[str, Any] | None = None
) -> keras.Model:
    """Returns a copy of a model whose ReLU-like activations follow a backward rule.

    The forward pass and the weights are the same as the original's, which stays as it is.

    Args:
        model: A built Functional or Sequential model; nested models are reached.
        identifier: See `rule`.
        custom_objects: Names of custom layers and functions, as for
            `vis.utils.utils.apply_modifications`; those in use are found by themselves.

    Returns:
        A new model. Its attribute `modified_places` lists the paths of what was changed.

    Raises:
        ValueError: The model is subclassed or not built, or the rule unknown.
        TypeError: `identifier` is neither a name nor a callable.

    Warns:
        VisualizationWarning: There was nothing to change.
    """
    require_graph(model, "backprop_modifiers")
    return installed_for_good(model, composite(identifier), custom_objects)


def guided(model: keras.Model) -> keras.Model:
    """Returns a copy of a model for guided backpropagation.

    The gradient passes a ReLU where both the gradient and the ReLU's output are positive.
    It sharpens saliency maps, but much of the sharpness comes from the input and not from
    what the network learned (Adebayo et al. 2018): do not use it alone.

    Source: Springenberg et al. 2015, "Striving for Simplicity", section 3.4.

    Args:
        model: A built Functional or Sequential model. Not changed.

    Returns:
        A new model with the same outputs; `modified_places` lists what was changed.

    Raises:
        ValueError: The model is subclassed or not built.

    Examples:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [keras.Input((3,)), keras.layers.Dense(2, activation="relu", name="fc")]
        ... )
        >>> guided(model).modified_places
        ['fc']
    """
    return modify(model, GUIDED)


def rectified(model: keras.Model) -> keras.Model:
    """Returns a copy of a model for the deconvnet's backward pass.

    The gradient passes a ReLU where it is positive, whatever the ReLU let through.

    Source: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks",
    section 2.1.

    Args:
        model: A built Functional or Sequential model. Not changed.

    Returns:
        A new model with the same outputs; `modified_places` lists what was changed.

    Raises:
        ValueError: The model is subclassed or not built.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(name="act")])
        >>> rectified(model).modified_places
        ['act']
    """
    return modify(model, RECTIFIED)


vars(guided)["backward_rule"], vars(rectified)["backward_rule"] = GUIDED, RECTIFIED
relu = deconv = rectified

_MODIFIERS = {"guided": guided, "rectified": rectified, "relu": relu, "deconv": deconv}


def get(identifier: str | Callable[[keras.Model], keras.Model]) -> Callable[[keras.Model], keras.Model]:
    """Returns the function that makes a modified copy of a model.

    Args:
        identifier: `"guided"`, `"rectified"`, `"relu"`, `"deconv"`, or a callable from model to
            model, which is returned as it is.

    Returns:
        A callable from a model to a new model.

    Raises:
        ValueError: There is no modifier of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> get("relu") is rectified
        True
    """
    return identifier if callable(identifier) else pick("backprop_modifier", identifier, _MODIFIERS)


def modify_model_backprop(
    model: keras.Model, backprop_modifier: str | Callable[[keras.Model], keras.Model]
) -> keras.Model:
    """Returns a copy of a model with a modified backward pass; keras-vis's older name.

    Args:
        model: A built Functional or Sequential model. Not changed.
        backprop_modifier: `"guided"`, `"rectified"`, `"relu"` or `"deconv"`.

    Returns:
        A new model.

    Raises:
        ValueError: There is no modifier of that name.
        TypeError: `backprop_modifier` is neither a name nor a callable.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(name="act")])
        >>> modify_model_backprop(model, "guided").modified_places
        ['act']
    """
    return get(backprop_modifier)(model)
