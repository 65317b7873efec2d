"""Backward rules: what happens to a gradient where it passes a ReLU.

A rule is data, one engine installs it on every ReLU-like place of a model: for the time
of one call (`installed`), or for good in a copy (`modify`).
"""

import dataclasses
import functools
import inspect
import itertools
import warnings
from collections.abc import Callable

import keras
from keras import ops

from vis import backend
from vis.graph import shadowed, walk, wrapped
from vis.utils.formats import foreign_modules
from vis.utils.utils import copy_model, require_graph
from vis.utils.validation import VisualizationWarning, pick

# Functions that pass positive values on and hold negative ones back.
_RELU_LIKE = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu")
_RELU_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU)
_FOREIGN_RELUS = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "PReLU")
_RELU_OPERATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu")


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

    def apply(self, activation: Callable, x, *args, **kwargs):
        """Returns `activation(x)` with the rule's gradient."""
        y = activation(x, *args, **kwargs)
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
_GUIDED = Rule("guided", _guide, keeps_derivative=True)
_RECTIFIED = Rule("rectified", _rectify)


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

_RULES = {
    "guided": _GUIDED,
    "redirected": REDIRECTED,
    "rectified": _RECTIFIED,
    "relu": _RECTIFIED,
    "deconv": _RECTIFIED,
}


def rule(identifier) -> Rule | None:
    """Returns the backward rule meant by `identifier`.

    Args:
        identifier: `None`, `"guided"`, `"rectified"` (also called `"relu"`, `"deconv"`), `"redirected"` (for
            losses that are minimised: wakes dead units), one of this module's functions of those names, a
            `Rule`, or a function `(x, y, upstream) -> gradient`, which then replaces the activation's derivative.

    Returns:
        A `Rule`, or `None` for `None`.

    Raises:
        ValueError: There is no rule of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> rule("deconv").name
        'rectified'
    """
    if identifier is None or isinstance(identifier, Rule):
        return identifier
    if callable(identifier):
        known = {guided: _GUIDED, rectified: _RECTIFIED}.get(identifier)
        return known or Rule(getattr(identifier, "__name__", "rule"), _of_three(identifier))
    return pick("backprop_modifier", identifier, _RULES)


def _of_three(function):
    try:
        inspect.signature(function).bind(1, 2, 3)
    except TypeError as error:
        raise TypeError(
            "A backward rule must take (x, y, upstream): the activation's input, its output and the gradient that "
            f"arrives. Received: {function!r}, which does not take three arguments."
        ) from error
    return function


def places(root) -> list:
    """Returns the ReLU-like places of a model as `(path, operation, kind)`.

    The kind is `"activation"` where a layer applies an activation function of its own, and
    `"call"` where the operation as a whole is the activation.
    """
    found = []
    for path, operation in walk(root):
        activation = getattr(operation, "activation", None)
        if isinstance(operation, _RELU_LAYERS) or _is_relu_operation(operation):
            found.append((path, operation, "call"))
        elif _is_relu_like(activation):
            found.append((path, operation, "activation"))
    return found


def _is_relu_operation(operation):
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in _RELU_OPERATIONS


def _is_relu_like(function):
    if isinstance(function, keras.Layer):  # found by itself, on the walk
        return False
    return getattr(function, "__name__", None) in _RELU_LIKE


def installed(root, the_rule: Rule | None):
    """Returns a context in which a rule is on every ReLU-like place of a model.

    Hold `vis.graph.surgery()` meanwhile.

    Args:
        root: A model (or anything `walk` goes through).
        the_rule: The rule; `None` changes nothing.

    Returns:
        The context; it gives the paths of the changed places.
    """
    found = places(root) if the_rule is not None else []
    if the_rule is not None:
        _tell(root, the_rule, found)
    changes = [wrapped(kind, [(op, the_rule.apply)]) for _, op, kind in found]
    return shadowed(itertools.chain.from_iterable(changes), [path for path, _, _ in found])


def _modified(the_rule, activation):
    """Returns the activation with the rule's gradient, still under its own name."""

    @functools.wraps(activation)
    def modified(x, *args, **kwargs):
        return the_rule.apply(activation, x, *args, **kwargs)

    return modified


def _modified_call(the_rule, operation):
    """Returns the operation's `call` with the rule's gradient; copies of models rebind it."""
    call = _modified(the_rule, operation.call)
    call.rebind = functools.partial(_modified_call, the_rule)
    return call


def _tell(root, the_rule, found):
    """Warns of a rule that changes nothing, and of activations that it does not reach."""
    hidden = [op.name for _, op in walk(root) if any(name in _FOREIGN_RELUS for name in foreign_modules(op))]
    if hidden:
        warnings.warn(
            f"backprop_modifier '{the_rule.name}' does not reach the activations inside of layer '{hidden[0]}', which "
            "is a module of another framework: the gradient is the plain one there. Put the activations into Keras "
            "layers of their own.",
            VisualizationWarning,
            stacklevel=4,
        )
    elif not found:
        warn_no_places(root, the_rule)


def warn_no_places(root, the_rule):
    """Warns that a rule found nothing to change."""
    warnings.warn(
        f"backprop_modifier {the_rule.name!r} changed nothing: model {getattr(root, 'name', root)!r} has no ReLU-like "
        "activation (relu, relu6, leaky_relu, elu, selu, celu, PReLU) that could be found, so the result is the plain "
        "gradient.",
        VisualizationWarning,
        stacklevel=4,
    )


def modify(model, identifier, custom_objects=None):
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
    the_rule = rule(identifier)
    require_graph(model, "backprop_modifiers")
    copied = copy_model(model, custom_objects)
    found = places(copied) if the_rule is not None else []
    if the_rule is not None:
        _tell(model, the_rule, found)
    for _, operation, kind in found:
        if kind == "activation":
            operation.activation = _modified(the_rule, operation.activation)
        else:
            vars(operation)["call"] = _modified_call(the_rule, operation)
    vars(copied)["modified_places"] = [path for path, _, _ in found]
    return copied


def guided(model):
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
    return modify(model, _GUIDED)


def rectified(model):
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
    return modify(model, _RECTIFIED)


relu = deconv = rectified

_MODIFIERS = {"guided": guided, "rectified": rectified, "relu": relu, "deconv": deconv}


def get(identifier):
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


def modify_model_backprop(model, backprop_modifier):
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
