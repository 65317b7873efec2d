"""Backward rules: what happens to a gradient where it passes an operation.

A rule gives an operation a surrogate with the same value and another gradient; a composite says which operation gets
which rule. Both are data; `vis.engine.surrogates` installs them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import keras
from keras import ops, tree

from vis import backend
from vis.engine import surrogates
from vis.engine.copying import require_graph
from vis.engine.graph import walk
from vis.engine.surrogates import CONVOLUTIONS, LINEAR, has_own_activation, installed_for_good
from vis.utils.formats import foreign_modules
from vis.utils.validation import VisualizationWarning, check_nonnegative, pick, shown

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from keras import Operation

    from vis.utils.types import BackwardRule, RuleLike, Tensor

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

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)` with the rule's gradient."""
        y = call(x, *args, **kwargs)
        source = y if self.keeps_derivative else x
        return backend.with_gradient(self.function, source, x, y)


def _stabilized(z, epsilon):
    """Returns z + epsilon sign(z), where the sign of 0 is 1."""
    return z + ops.cast(ops.where(z < 0, -epsilon, epsilon), z.dtype)


def _with_value(y, surrogate):
    """Returns a surrogate's gradient under the value y, exactly."""
    return surrogate + ops.stop_gradient(y - surrogate)


@dataclasses.dataclass(frozen=True)
class Identity:
    """Relevance passes an operation as if it were not there; for activations and normalisations.

    With gradients that stand for relevance / value, as all rules here make them: relevance = input x gradient.

    Source: Bach et al. 2015, "On Pixel-wise Explanations", section on the propagation through nonlinearities.

    Args:
        epsilon: Keeps the quotient finite where the input is 0. Default 1e-6.

    Examples:
        >>> x = ops.convert_to_tensor([2.0, 3.0])
        >>> [float(y) for y in Identity().surrogate(ops.square, None, x)]
        [4.0, 9.0]
    """

    epsilon: float = 1e-6
    name = "identity"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the gradient y / x."""
        y = call(x, *args, **kwargs)
        return _with_value(y, x * ops.stop_gradient(y / _stabilized(x, self.epsilon)))


@dataclasses.dataclass(frozen=True)
class Half:
    """Each factor of a product gets an equal share of its relevance: of two, one half.

    Source: Achtibat et al. 2024, "AttnLRP", equation 13 (the uniform rule).

    Args:
        epsilon: Keeps the quotient finite where a factor is 0. Default 1e-6.

    Examples:
        >>> factors = [ops.convert_to_tensor([2.0]), ops.convert_to_tensor([3.0])]
        >>> float(Half().surrogate(lambda pair: pair[0] * pair[1], None, factors)[0])
        6.0
    """

    epsilon: float = 1e-6
    name = "half"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the product, with the gradient y / (n x) for each of its n factors."""
        y = call(*args, **kwargs)
        factors = [x for x in tree.flatten(args) if ops.is_tensor(x)]
        parts = [x * ops.stop_gradient(y / _stabilized(x, self.epsilon)) for x in factors]
        return _with_value(y, sum(parts[1:], parts[0]) / len(parts))


@dataclasses.dataclass(frozen=True)
class Epsilon:
    """LRP-epsilon: relevance goes to the inputs of a linear layer in proportion to what they add to its output.

    The share of the bias, and what epsilon takes, is not handed on.

    Source: Bach et al. 2015, "On Pixel-wise Explanations", equation 58.

    Args:
        epsilon: Above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0.

    Examples:
        >>> x = ops.convert_to_tensor([[1.0, 2.0]])
        >>> float(Epsilon().surrogate(lambda x: ops.sum(3.0 * x, axis=-1), None, x)[0])
        9.0
    """

    epsilon: float = 1e-6
    name = "epsilon"

    def __post_init__(self) -> None:
        if check_nonnegative("epsilon", self.epsilon) == 0:
            raise ValueError("`epsilon` must be above 0. Received: 0.")

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the layer's own gradient times z / (z + epsilon sign(z))."""
        z = call(*args, **kwargs)
        return _with_value(z, z * ops.stop_gradient(z / _stabilized(z, self.epsilon)))


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


_NORMALIZATIONS = tuple(
    getattr(keras.layers, f"{kind}Normalization")
    for kind in ("Batch", "Layer", "Group", "Unit", "RMS", "Spectral")
    if hasattr(keras.layers, f"{kind}Normalization")
)
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.Attention)
_ACTIVATIONS = (keras.layers.Activation, keras.layers.Softmax, *_RELU_LAYERS)
_ACTIVATION_OPERATIONS = (*_RELU_OPERATIONS, "Sigmoid", "Tanh", "Gelu", "Silu", "Softplus", "HardSigmoid", "HardSilu")

_KINDS = {
    "dense": lambda operation: isinstance(operation, LINEAR),
    "convolution": lambda operation: isinstance(operation, CONVOLUTIONS),
    "normalization": lambda operation: isinstance(operation, _NORMALIZATIONS),
    "attention": lambda operation: isinstance(operation, _ATTENTION),
    "activation": lambda operation: (
        isinstance(operation, _ACTIVATIONS) or type(operation).__name__ in _ACTIVATION_OPERATIONS
    ),
}


@dataclasses.dataclass(frozen=True)
class Composite:
    """Which operations get which backward rule: an ordered list, of which the first match counts.

    What matches nothing keeps its own gradient. The activation of a layer (`Dense(8, activation="relu")`) is an
    operation of its own, of the kind `"activation"`; the rest of the layer is matched as the layer.

    Args:
        pairs: Pairs `(what, rule)`. `what` is a layer class; `"dense"`, `"convolution"`, `"activation"`,
            `"normalization"`, `"attention"`, `"first"` (the first dense layer or convolution of the model); another
            string, a pattern of paths such as `"backbone/conv*"`; or a function `(path, operation) -> bool`. `rule`
            is a rule of this module or the name of one.
        name: What it is called in messages. Default `"composite"`.

    Raises:
        TypeError: A pair is of another kind.
        ValueError: There is no rule of that name, or no pair.

    Examples:
        >>> composite = Composite([("activation", Identity()), ("dense", Epsilon())])
        >>> import keras
        >>> layers = [keras.Input((3,)), keras.layers.Dense(2, activation="relu", name="fc")]
        >>> [(path, kind, rule.name) for path, _, kind, rule in composite.places(keras.Sequential(layers))]
        [('fc', 'call', 'epsilon'), ('fc', 'activation', 'identity')]
    """

    pairs: Sequence[tuple]
    name: str = "composite"

    def __post_init__(self) -> None:
        if not isinstance(self.pairs, (list, tuple)) or not all(_is_pair(pair) for pair in self.pairs):
            raise TypeError(f"`pairs` must be a list of pairs (what, rule). Received: {shown(self.pairs)}.")
        if not self.pairs:
            raise ValueError("`pairs` must hold at least one pair (what, rule). Received: none.")
        object.__setattr__(self, "pairs", tuple((what, rule(one)) for what, one in self.pairs))

    def places(self, root: keras.Layer) -> list[tuple]:
        """Returns the operations that get a rule, as `(path, operation, kind, rule)`.

        The kind is `"activation"` where a layer applies an activation function of its own, and `"call"` otherwise.
        """
        found, first = [], _first_linear(root)
        for path, operation in walk(root):
            for kind in ("call", "activation") if has_own_activation(operation) else ("call",):
                matches = [one for what, one in self.pairs if _matches(what, path, operation, kind, first)]
                if matches:
                    found.append((path, operation, kind, matches[0]))
        return found

    def tell(self, root: keras.Layer, found: list[tuple]) -> None:
        """Warns where the composite changes nothing, and of activations that it does not reach.

        Args:
            root: What was looked through.
            found: What `places` gave.
        """
        for_relus = all(what is is_relu_like for what, _ in self.pairs)
        hidden = [op.name for _, op in walk(root) if any(name in _FOREIGN_RELUS for name in foreign_modules(op))]
        if for_relus and hidden:
            warnings.warn(_words_hidden(self, hidden[0]), VisualizationWarning, stacklevel=5)
        elif not found:
            warnings.warn(_words_unchanged(self, root, for_relus), VisualizationWarning, stacklevel=5)

    def __str__(self) -> str:
        rows = [
            f"{what if isinstance(what, str) else getattr(what, '__name__', what)}: {name_of(one)}"
            for what, one in self.pairs
        ]
        return f"{self.name}({', '.join(rows)})"


def _words_hidden(composite, layer):
    return (
        f"backprop_modifier '{composite.name}' does not reach the activations inside of layer '{layer}', which is a "
        "module of another framework: the gradient is the plain one there. Put the activations into Keras layers of "
        "their own."
    )


def _words_unchanged(composite, root, for_relus):
    model = f"model {getattr(root, 'name', root)!r}"
    if for_relus:
        why = f"{model} has no ReLU-like activation (relu, relu6, leaky_relu, elu, selu, celu, PReLU) that was found"
    else:
        why = f"no operation of {model} matches {composite!s:.120}"
    return f"backprop_modifier {composite.name!r} changed nothing: {why}, so the result is the plain gradient."


def _is_pair(pair):
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or pair[1] is None:
        return False
    return isinstance(pair[0], str) or callable(pair[0])


def _first_linear(root):
    linear = (operation for _, operation in walk(root) if isinstance(operation, LINEAR + CONVOLUTIONS))
    return next(linear, None)


def _matches(what, path, operation, kind, first):
    if what is is_relu_like:
        return is_relu_like(operation, kind)
    if what == "activation" or kind == "activation":
        return what == "activation" and (kind == "activation" or _KINDS["activation"](operation))
    if what == "first":
        return operation is first
    if isinstance(what, str):
        return _KINDS[what](operation) if what in _KINDS else fnmatch.fnmatchcase(path, what)
    return isinstance(operation, what) if isinstance(what, type) else bool(what(path, operation))


def is_relu_like(operation: Operation, kind: str) -> bool:
    """Tells whether an operation holds negative values back: what guided backpropagation and its kin are for."""
    if kind == "activation":
        return _is_relu_like(operation.activation)  # type: ignore[attr-defined]
    whole = isinstance(operation, keras.layers.Activation) and _is_relu_like(operation.activation)
    return whole or isinstance(operation, _RELU_LAYERS) or _is_relu_operation(operation)


def rule(identifier: RuleLike | None) -> BackwardRule | Composite | None:
    """Returns the backward rule or composite meant by `identifier`.

    Args:
        identifier: `None`, `"guided"`, `"rectified"` (also called `"relu"`, `"deconv"`), `"redirected"` (for
            losses that are minimised: wakes dead units), one of this module's functions of those names, a
            rule (a `Rule`, `Identity()`, `Half()`, `Epsilon()`, or an object of yours with a
            `surrogate`), a `Composite`, or a function `(x, y, upstream) -> gradient`, which then replaces the
            activation's derivative.

    Returns:
        A rule or composite, or `None` for `None`.

    Raises:
        ValueError: There is no rule of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> rule("deconv").name
        'rectified'
    """
    if identifier is None or isinstance(identifier, Composite) or _is_rule(identifier):
        return identifier
    if callable(identifier):
        known = {guided: _GUIDED, rectified: _RECTIFIED}.get(identifier)
        return known or Rule(getattr(identifier, "__name__", "rule"), _of_three(identifier))
    return pick("backprop_modifier", identifier, _RULES)


def composite(identifier: RuleLike | None) -> Composite | None:
    """Returns the composite meant by `identifier`; a rule by itself is for ReLU-like activations.

    Args:
        identifier: See `rule`.

    Returns:
        A `Composite`, or `None` for `None`.

    Raises:
        ValueError: There is no rule of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> len(composite("guided").pairs)
        1
    """
    found = rule(identifier)
    if found is None or isinstance(found, Composite):
        return found
    return Composite([(is_relu_like, found)], name_of(found))


def places(root: keras.Layer, the_rule: RuleLike | None = None) -> list:
    """Returns the operations of a model that a rule is installed on, as `(path, operation, kind, rule)`.

    The kind is `"activation"` where a layer applies an activation function of its own, and `"call"` where the
    operation as a whole is meant.

    Args:
        root: A model.
        the_rule: See `rule`. Default `None`: where a rule by itself would be installed, with `None` for the rule.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="relu", name="fc")])
        >>> [(path, kind) for path, _, kind, _ in places(model)]
        [('fc', 'activation')]
    """
    if the_rule is None:
        return [(path, operation, kind, None) for path, operation, kind, _ in places(root, _GUIDED)]
    found = composite(the_rule)
    return [] if found is None else found.places(root)


def installed(root: keras.Layer, the_rule: RuleLike | None) -> AbstractContextManager:
    """Returns a context in which a rule, or the rules of a composite, are on the operations of a model.

    Hold `vis.engine.taps.surgery()` meanwhile where other threads use the model.

    Args:
        root: A model.
        the_rule: See `rule`; `None` changes nothing.

    Returns:
        The context; it gives the paths of the changed operations.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="relu", name="fc")])
        >>> with installed(model, "guided") as changed:
        ...     changed
        ['fc']
    """
    return surrogates.installed(root, composite(the_rule))


def name_of(rule: BackwardRule) -> str:
    """Returns what a rule is called: its `name`, or that of its class.

    Examples:
        >>> name_of(Epsilon())
        'epsilon'
    """
    return str(getattr(rule, "name", type(rule).__name__))


def _is_rule(value: object) -> TypeGuard[BackwardRule]:
    return not isinstance(value, type) and hasattr(value, "surrogate")


def _of_three(function):
    try:
        inspect.signature(function).bind(1, 2, 3)
    except TypeError as error:
        raise TypeError(
            "A backward rule must take (x, y, upstream): the activation's input, its output and the gradient that "
            f"arrives. Received: {shown(function)}, which does not take three arguments."
        ) from error
    return function


def _is_relu_operation(operation):
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in _RELU_OPERATIONS


def _is_relu_like(function):
    if isinstance(function, keras.Layer):  # found by itself, on the walk
        return False
    return getattr(function, "__name__", None) in _RELU_LIKE


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
    return modify(model, _GUIDED)


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
    return modify(model, _RECTIFIED)


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
