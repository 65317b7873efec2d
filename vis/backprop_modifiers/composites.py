"""Composites: which operations get which backward rule, and the names of those in use."""

from __future__ import annotations

import dataclasses
import fnmatch
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import keras

from vis.backprop_modifiers.attention_rules import AttentionHalves, AttentionValues, ConstantDeviation
from vis.backprop_modifiers.difference_rules import Midpoint, Rescale, RescaleMaximum, RescaleQuotient
from vis.backprop_modifiers.gradient_rules import GUIDED, RECTIFIED, REDIRECTED, Rule, of_three
from vis.backprop_modifiers.kinds import (
    KINDS,
    is_activation,
    is_made_of_others,
    is_maximum,
    is_relu_like,
    is_scaling,
    is_weights,
    parts,
    passes_relevance,
)
from vis.backprop_modifiers.relevance_rules import (
    FIRST_LAYER_RULES,
    LINEAR_RULES,
    AlphaBeta,
    Constant,
    Epsilon,
    Excitation,
    Flat,
    Gamma,
    Half,
    Identity,
    Numerator,
    WSquare,
    ZBox,
    ZPlus,
)
from vis.engine import surrogates
from vis.engine.graph import has_own_code, walk
from vis.engine.insides import ATTENTION
from vis.engine.linear import first_linear_layers
from vis.engine.surrogates import has_own_activation
from vis.utils.formats import foreign_modules
from vis.utils.validation import VisualizationWarning, near_names, pick, shown

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from keras import Operation
    from numpy.typing import ArrayLike

    from vis.utils.types import BackwardRule, RuleLike

_FOREIGN_RELUS = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "PReLU")


@dataclasses.dataclass(frozen=True)
class Composite:
    """Which operations get which backward rule: an ordered list, of which the first match counts.

    What matches nothing keeps its own gradient. The activation of a layer (`Dense(8, activation="relu")`) is an
    operation of its own, of the kind `"activation"`; the rest of the layer is matched as the layer.

    Args:
        pairs: Pairs `(what, rule)`. `what` is a layer class; `"dense"`, `"convolution"`, `"activation"`,
            `"normalization"`, `"attention"`, `"product"`, `"quotient"` (of two computed values), `"rescaling"`
            (Rescaling, Normalization), `"gate"` (the recurrent activation of LSTM and GRU), `"first"` (the
            dense layers or convolutions that take the model's inputs); another string, a pattern of paths such as
            `"backbone/conv*"`; or a function `(path, operation) -> bool`.
            `rule` is a rule of this module or the name of one.
        name: What it is called in messages. Default `"composite"`.
        may_match_nothing: Whether it is right that a model has no operation that matches. Default `False`: a warning.

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
    may_match_nothing: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.pairs, (list, tuple)) or not all(_is_pair(pair) for pair in self.pairs):
            raise TypeError(f"`pairs` must be a list of pairs (what, rule). Received: {shown(self.pairs)}.")
        if not self.pairs:
            raise ValueError("`pairs` must hold at least one pair (what, rule). Received: none.")
        object.__setattr__(self, "pairs", tuple((what, _rule_of_pair(one)) for what, one in self.pairs))

    def places(self, root: keras.Layer) -> list[tuple]:
        """Returns the operations that get a rule, as `(path, operation, kind, rule)`.

        The kind is `"activation"` where a layer applies an activation function of its own,
        `"recurrent_activation"` for that of its gates, and `"call"` otherwise.
        """
        found, first = [], first_linear_layers(root)
        for path, operation in walk(root):
            for kind in parts(operation):
                matches = [
                    one
                    for what, one in self.pairs
                    if _acts_on(one, operation, kind) and _matches(what, path, operation, kind, first)
                ]
                if matches:
                    found.append((path, operation, kind, matches[0]))
        constants = {id(operation) for _, operation, _, one in found if isinstance(one, AttentionValues)}
        return [one for one in found if not (isinstance(one[3], Half) and is_scaling(one[1], constants))]

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
        elif not (found or self.may_match_nothing or self._may_match_code(root)):
            warnings.warn(_words_unchanged(self, root, for_relus), VisualizationWarning, stacklevel=5)
        paths = [path for path, _ in walk(root)]
        for what in [what for what, _ in self if isinstance(what, str) and what not in _WORDS] if found else []:
            if not fnmatch.filter(paths, what):
                warnings.warn(_words_no_match(self, what, paths), VisualizationWarning, stacklevel=5)

    def gaps(self, root: keras.Layer) -> list[tuple]:
        """Returns, as `(path, operation)`, what gets no rule and whose own gradient does not pass relevance rightly.

        Layers made of other layers are looked into; what their own code does between these cannot be seen.
        """
        places = self.places(root)
        ruled = {(id(operation), kind) for _, operation, kind, _ in places}
        constants = {id(operation) for _, operation, _, one in places if isinstance(one, AttentionValues)}

        def is_gap(operation):
            if has_own_activation(operation) and (id(operation), "activation") not in ruled:
                return True
            if any((id(operation), kind) in ruled for kind in ("call", "attention within")):
                return False
            return not (passes_relevance(operation) or is_scaling(operation, constants))

        found = [(path, op) for path, op in walk(root) if not is_made_of_others(op) and is_gap(op)]
        found = [(path, op) for path, op in found if not _is_step_of_attention(root, path, op)]
        return [(path, op) for path, op in found if not any(path.startswith(f"{other}/") for other, _ in found)]

    def _may_match_code(self, root):
        return self.reads_code and any(has_own_code(one) for one in [root, *(one for _, one in walk(root))])

    @property
    def reads_code(self) -> bool:
        """Whether the code of layers is read, as rules of products, activations or attention are for what is in it."""
        return any(isinstance(what, str) and what in _OF_CODE for what, _ in self.pairs)

    def attends(self, operation: Operation) -> bool:
        """Tells whether an operation makes the weights of an attention, which a rule is for."""
        return is_weights(operation) and any(what == "attention" for what, _ in self.pairs)

    @property
    def of_first_layer(self) -> str | None:
        """The name of a rule that is no gradient, as it shares relevance by more than the values of the input."""
        names = [one.name for _, one in self.pairs if isinstance(one, FIRST_LAYER_RULES)]
        return names[0] if names else None

    @property
    def relevance(self) -> bool:
        """Whether linear layers have rules, of this package or one's own, so that value x gradient is relevance."""
        return any(not isinstance(one, _OF_OTHERS) for _, one in self.pairs)

    def __str__(self) -> str:
        rows = [(_word(what), str(one) if isinstance(one, LINEAR_RULES) else name_of(one)) for what, one in self]
        width = max(len(what) for what, _ in rows)
        return "\n".join([self.name, *(f"  {what:<{width}}  {one}" for what, one in rows)])

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.pairs)


def _is_step_of_attention(root, path, operation):
    """Tells whether an operation is a softmax within a layer that is attention or has code of its own."""
    parent = path.rpartition("/")[0]
    above = dict(walk(root)).get(parent)
    is_softmax = isinstance(operation, keras.layers.Softmax)
    return is_softmax and above is not None and (isinstance(above, ATTENTION) or has_own_code(above))


_OF_CODE = ("activation", "product", "quotient", "attention")  # what may be in the code of a layer
_WORDS = ("activation", "first", "gate", *KINDS)  # what is no pattern of paths

# Rules that are not of linear layers: of gradients, of differences, and of what is between linear layers.
_OF_OTHERS = (
    *(Rule, Rescale, RescaleMaximum, Midpoint, RescaleQuotient, Identity, Half, Numerator, Constant),
    *(AttentionHalves, AttentionValues, ConstantDeviation),
)


def _word(what):
    return what if isinstance(what, str) else getattr(what, "__name__", str(what))


def _words_hidden(composite, layer):
    return (
        f"backprop_modifier '{composite.name}' does not reach the activations inside of layer '{layer}', which is a "
        "module of another framework: the gradient is the plain one there. Put the activations into Keras layers of "
        "their own."
    )


def _words_no_match(composite, what, paths):
    return (
        f"The pattern {what!r:.60} of composite {composite.name!r:.60} matches no operation. "
        f"{near_names(what, [*paths, *_WORDS]):.200}"
    )


def _words_unchanged(composite, root, for_relus):
    model = f"model {getattr(root, 'name', root)!r}"
    if for_relus:
        why = f"{model} has no ReLU-like activation (relu, relu6, leaky_relu, elu, selu, celu, PReLU) that was found"
    else:
        pairs = ", ".join(f"{_word(what)}: {name_of(one)}" for what, one in composite)
        why = f"no operation of {model} matches {pairs:.120}"
    return f"backprop_modifier {composite.name!r} changed nothing: {why}, so the result is the plain gradient."


def _is_pair(pair):
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or pair[1] is None:
        return False
    return isinstance(pair[0], str) or callable(pair[0])


def _acts_on(rule, operation, kind):
    """Tells whether a rule can be put on a part of an operation: one of attention acts within, if it can."""
    if kind == "attention within":
        return hasattr(rule, "within")
    return hasattr(rule, "surrogate") and not (hasattr(rule, "within") and "attention within" in parts(operation))


def _matches(what, path, operation, kind, first):
    if kind == "attention within":
        return what == "attention"
    if what is is_relu_like:
        return is_relu_like(operation, kind)
    if what == "gate" or kind == "recurrent_activation":
        return what == "gate" and kind == "recurrent_activation"
    if what == "activation" or kind == "activation":
        return what == "activation" and is_activation(operation, kind)
    if what == "first":
        return any(operation is one for one in first)
    if isinstance(what, str):
        return KINDS[what](operation) if what in KINDS else fnmatch.fnmatchcase(path, what)
    return isinstance(operation, what) if isinstance(what, type) else bool(what(path, operation))


_GRADIENT_RULES = {
    "guided": GUIDED,
    "redirected": REDIRECTED,
    "rectified": RECTIFIED,
    "relu": RECTIFIED,
    "deconv": RECTIFIED,
}

_RELEVANCE_RULES: dict[str, Any] = {
    **{"identity": Identity(), "half": Half(), "numerator": Numerator(), "constant": Constant()},
    **{"epsilon": Epsilon(), "z-plus": ZPlus(), "excitation": Excitation(), "alpha-beta": AlphaBeta()},
    **{"gamma": Gamma(), "flat": Flat(), "w-square": WSquare()},
    **{"attention-halves": AttentionHalves(), "attention-values": AttentionValues()},
    **{"constant-deviation": ConstantDeviation()},
}

# What all composites of relevance share; what comes before them counts first.
_REST = (
    ("gate", Constant()),
    ("activation", Identity()),
    ("normalization", Identity()),
    ("rescaling", Identity()),
    ("product", Half()),
    ("quotient", Numerator()),
)

# What transformers need besides a rule of attention.
_TOKENS = (("normalization", ConstantDeviation()), ("convolution", Epsilon()), ("dense", Epsilon()))

_PAIRS: dict[str, list[tuple[str, Any]]] = {
    "epsilon": [("convolution", Epsilon()), ("dense", Epsilon())],
    "epsilon-plus": [("convolution", ZPlus()), ("dense", Epsilon())],
    "epsilon-plus-flat": [("first", Flat()), ("convolution", ZPlus()), ("dense", Epsilon())],
    "epsilon-gamma": [("convolution", Gamma()), ("dense", Epsilon())],
    "alpha2-beta1": [("convolution", AlphaBeta(2, 1)), ("dense", Epsilon())],
    "alpha2-beta1-flat": [("first", Flat()), ("convolution", AlphaBeta(2, 1)), ("dense", Epsilon())],
    "deep-taylor": [("first", WSquare()), ("convolution", ZPlus()), ("dense", ZPlus())],
    "excitation": [("convolution", Excitation()), ("dense", Excitation())],
    "attention": [("attention", AttentionHalves()), *_TOKENS],
    "attention-cp": [("attention", AttentionValues()), *_TOKENS],
}


def EpsilonGammaBox(  # noqa: N802 - it is named as the composites of the literature are
    low: ArrayLike, high: ArrayLike, epsilon: float = 1e-6, gamma: float = 0.25
) -> Composite:
    """Returns the composite of z-box in the first layer, gamma in convolutions and epsilon in dense layers.

    Source: Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", section 10.3.

    Args:
        low: The lowest value that an input can have: a number, or one for each channel; see `ZBox`.
        high: The highest.
        epsilon: Of the dense layers. Default 1e-6.
        gamma: Of the convolutions. Default 0.25.

    Raises:
        ValueError: An argument is out of range.

    Examples:
        >>> EpsilonGammaBox(0, 1).name
        'epsilon-gamma-box'
    """
    pairs = [("first", ZBox(low, high)), ("convolution", Gamma(gamma)), ("dense", Epsilon(epsilon))]
    return Composite([*pairs, *_REST], "epsilon-gamma-box")


def _rule_of_pair(identifier):
    if isinstance(identifier, Composite):
        raise TypeError(f"The rule of a pair must be a rule. Received: the composite {identifier.name!r}.")
    if isinstance(identifier, str):
        return pick("rule", identifier, {**_GRADIENT_RULES, **_RELEVANCE_RULES})
    return rule(identifier)


def rule(identifier: RuleLike | None, argument: str = "backprop_modifier") -> BackwardRule | Composite | None:
    """Returns the backward rule or composite meant by `identifier`.

    Args:
        identifier: `None`, `"guided"`, `"rectified"` (also called `"relu"`, `"deconv"`), `"redirected"` (for
            losses that are minimised: wakes dead units), one of this module's functions of those names, a
            rule (a `Rule`, `Identity()`, `Epsilon()`, or an object of yours with a `surrogate`), a `Composite`
            or the name of one (`"epsilon"`, `"epsilon-plus"`, `"epsilon-plus-flat"`, `"epsilon-gamma"`,
            `"alpha2-beta1"`, `"alpha2-beta1-flat"`, `"deep-taylor"`, `"excitation"`, `"attention"`,
            `"attention-cp"`), or a function `(x, y, upstream) -> gradient`, which then replaces the activation's
            derivative.
        argument: What the argument is called in errors. Default `"backprop_modifier"`.

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
        return getattr(identifier, "backward_rule", None) or of_three(identifier)
    return pick(argument, identifier, {**_GRADIENT_RULES, **_COMPOSITES})


def composite(identifier: RuleLike | None, argument: str = "backprop_modifier") -> Composite | None:
    """Returns the composite meant by `identifier`.

    A rule by itself is for ReLU-like activations, or, if it is one of linear layers, for all dense layers and
    convolutions; there, other operations get the rules that all named composites share.

    Args:
        identifier: See `rule`.
        argument: See `rule`.

    Returns:
        A `Composite`, or `None` for `None`.

    Raises:
        ValueError: There is no rule of that name.
        TypeError: `identifier` is neither a name nor a callable.

    Examples:
        >>> len(composite("guided").pairs)
        1
    """
    found = rule(identifier, argument)
    if found is None or isinstance(found, Composite):
        return found
    if isinstance(found, FIRST_LAYER_RULES):
        raise ValueError(
            f"Rule {found.name!r} is for the first layer alone. Say what the others get: "
            '`Composite([("first", rule), ("convolution", ZPlus()), ("dense", Epsilon())])`.'
        )
    if isinstance(found, LINEAR_RULES):
        return Composite([("convolution", found), ("dense", found), *_REST], name_of(found))
    return Composite([(is_relu_like, found)], name_of(found))


def require_gradient(rules: Composite | None, name: str) -> None:
    """Raises where rules give relevance at the inputs, but no gradient: those of the first layer.

    Args:
        rules: The rules, or `None`.
        name: Who asks for a gradient.

    Raises:
        ValueError: One of the rules is of the first layer.

    Examples:
        >>> require_gradient(composite("epsilon-plus"), "Saliency")
    """
    if rules is not None and rules.of_first_layer:
        raise ValueError(
            f"Rule {rules.of_first_layer!r} shares relevance by more than the values of the input, so that it is no "
            f"gradient. Received: composite {rules.name!r:.80} for {name}. Take one without it, such as "
            "'epsilon-plus', or `vis.LRP(model, composite)`."
        )


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
        return [(path, operation, kind, None) for path, operation, kind, _ in places(root, GUIDED)]
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
    return not isinstance(value, type) and (hasattr(value, "surrogate") or hasattr(value, "within"))


_COMPOSITES = {name: Composite([*pairs, *_REST], name) for name, pairs in _PAIRS.items()}

# DeepLIFT: what is linear keeps its own gradient, which is its multiplier.
DIFFERENCES = Composite(
    [
        ("activation", Rescale()),
        (is_maximum, RescaleMaximum()),
        ("product", Midpoint()),
        ("quotient", RescaleQuotient()),
    ],
    "differences",
    may_match_nothing=True,
)
