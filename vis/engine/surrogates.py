"""Installs backward rules: an operation gets a surrogate with the same value and another gradient.

Only their form is known here. A composite has `places(root)`, which gives `(path, operation, kind, rule)` for each
operation that gets a rule, and `tell(root, found)`, which warns where it changes nothing; `reads_code` says whether it
is for what runs in the code of layers, too. The kind is `"activation"` where a layer applies an activation function of
its own, `"call"` where the operation as a whole is meant, and `"attention within"` for the hooks of an attention, see
`vis.engine.insides`. A rule has `surrogate(call, operation, *args, **kwargs)`, which stands in for `call(*args,
**kwargs)`, or `within`, its hooks; it may have `check(operation)`, which raises where it cannot be installed. That of a
linear layer may have `surrogate_behind(linear, rule, ...)`, which stands in for the surrogate of the rule that comes
behind it, see `vis.backprop_modifiers.relevance_rules.Epsilon`.

The code of a layer of one's own is read as a graph (`vis.engine.code`), and the rules are put on that.
"""

import functools
import itertools

import keras

from vis import backend
from vis.engine.code import read
from vis.engine.copying import copy_model
from vis.engine.graph import has_own_code, walk
from vis.engine.insides import ATTENTION, Hooks, hooked
from vis.engine.linear import (
    CONVOLUTIONS,
    LINEAR,
    affine,
    channels_of,
    fits_inputs,
    fits_outputs,
    linear_maps,
    without_activation,
)
from vis.engine.taps import shadowed, wrapped

# Layers that are activations as a whole.
_WHOLE = tuple(getattr(keras.layers, n) for n in ("Activation", "Softmax", "ReLU", "LeakyReLU", "ELU", "PReLU"))


def installed(root, composite, log=None):
    """Returns a context in which the rules of a composite are on the operations of a model, for one call of it.

    A batch normalisation beside a linear layer that has a rule belongs to that layer: the rule sees both as one
    linear map. So the output of each linear layer is noted, and what a normalisation takes is looked up there.

    Hold `vis.engine.taps.surgery()` meanwhile.

    Args:
        root: A model (or anything `walk` goes through).
        composite: The composite; `None` changes nothing.
        log: List that gets `(operation, kind, rule, host)` for each operation that runs with a rule; the host of a
            normalisation that belongs to a linear layer is that layer, otherwise it is `None`.

    Returns:
        The context; it gives the paths of the changed operations.

    Raises:
        ValueError: A linear layer with a rule is quantised: Keras then runs other code than its call.
    """
    found, notes = _places(root, composite), _Notes(log)
    _check(found)
    outside = [one for one in found if not _is_within(one[2])]
    own = [(kind, op, _wrap(rule, op, kind, notes)) for _, op, kind, rule in outside]
    if any(_is_linear(op, kind) for _, op, kind, _ in found):
        has_rule = {id(op) for _, op, kind, _ in found if kind == "call"}
        plain = [op for _, op in walk(root) if _is_foldable(op) and id(op) not in has_rule]
        own += [("call", op, functools.partial(_normalized, None, op, notes)) for op in plain]
    changes = [wrapped(kind, [(op, wrap)]) for kind, op, wrap in own]
    if composite is not None and composite.reads_code:
        with_code = _with_code(root, outside)
        coded = [("call", op, functools.partial(_coded, composite, op, with_code, notes)) for op in with_code]
        changes += [wrapped(kind, [(op, wrap)]) for kind, op, wrap in coded]
    changes.append(hooked(root, _hooks(found, notes)))
    return shadowed(itertools.chain.from_iterable(changes), [path for path, *_ in outside])


def installed_for_good(model, composite, custom_objects=None):
    """Returns a copy of a model with the rules of a composite on it; `modified_places` lists the changed paths.

    Args:
        model: A built Functional or Sequential model.
        composite: The composite; `None` changes nothing.
        custom_objects: See `vis.engine.copying.copy_model`.

    Raises:
        ValueError: A linear layer has a rule and the model has a batch normalisation: the two belong together, which
            is noted for single calls only.
    """
    within = [] if composite is None else [one for one in composite.places(model) if one[2] == "attention within"]
    if within:
        raise ValueError(
            f"A copy cannot hold a rule of attention. Received: {composite.name!r}, which has one for "
            f"{within[0][0]!r}. Give it to an explainer instead: `vis.LRP(model, ...)`."
        )
    if composite is not None and any(_is_foldable(op) for _, op in walk(model)):
        linear = [path for path, op, kind, _ in composite.places(model) if _is_linear(op, kind)]
        if linear:
            raise ValueError(
                "A copy cannot hold a rule of a linear layer beside a BatchNormalization. Received: "
                f"{composite.name!r}, which has one for {linear[0]!r}. Give it to an explainer instead: "
                "`vis.GradientTimesInput(model, backprop_modifier=...)`, or `vis.LRP(model, ...)`."
            )
    copied = copy_model(model, custom_objects)
    found = _places(copied, composite, told=model)
    _check(found)
    outside = [one for one in found if not _is_within(one[2])]
    for _, operation, kind, rule in outside:
        if kind == "activation":
            operation.activation = _modified(rule, operation, kind)
        else:
            vars(operation)["call"] = _modified_call(rule, operation)
    vars(copied)["modified_places"] = [path for path, *_ in outside]
    return copied


def has_own_activation(operation) -> bool:
    """Tells whether a layer applies an activation function after its own work, as `Dense(8, activation="relu")`."""
    function = getattr(operation, "activation", None)
    if not isinstance(operation, keras.Layer) or isinstance(operation, _WHOLE) or isinstance(function, keras.Layer):
        return False
    return callable(function) and getattr(function, "__name__", "") != "linear"


class _Notes(dict):
    """What is known of tensors within one call of a model, under their `id`: `(tensor, ...)`, so that it lives on."""

    def __init__(self, log=None):
        super().__init__()
        self._log = log

    def keep(self, tensor, *what):
        self[id(tensor)] = (tensor, *what)
        return tensor

    def linear(self, tensor):
        """Returns the rule and the map of the linear layer that put a tensor out, or two times `None`."""
        _, *found = self.get(id(tensor), ()) or (None,)
        return found if len(found) == 2 else (None, None)

    def plain(self, tensor, layer):
        """Returns `(x, normalization, source)`, if a batch normalisation made a tensor that a linear layer takes.

        `x` is the tensor with the normalisation's own gradient. Otherwise `(tensor, None, None)`.
        """
        _, *found = self.get(id(tensor), ()) or (None,)
        fits = len(found) == 3 and fits_inputs(found[1], layer, tensor)
        return found if fits else (tensor, None, None)

    def tell(self, *what):
        if self._log is not None:
            self._log.append(what)


def _places(root, composite, told=None):
    if composite is None:
        return []
    found = composite.places(root)
    composite.tell(root if told is None else told, found)
    return found


def _check(found):
    for path, operation, kind, rule in found:
        mode = getattr(operation, "quantization_mode", None)
        if mode is not None and _is_linear(operation, kind):
            raise ValueError(
                f"Rules of linear layers need float weights. Received: layer {path!r}, which is quantised ({mode}) and "
                f"has the rule {getattr(rule, 'name', rule)!s:.40}. Explain the model as it was before `quantize`."
            )
        if hasattr(rule, "check") and getattr(operation, "built", True):
            rule.check(operation)


def _is_within(kind):
    return kind.endswith(" within")


def _hooks(found, notes, host=None):
    """Returns the `Hooks` that rules put within attention, under the `id` of each layer.

    Args:
        found: What `places` of a composite gives.
        notes: The notes, which are told of the rules.
        host: The layer in whose code they are, whose path is told of what is no layer.
    """
    hooks = {}
    for _, operation, kind, rule in found:
        if _is_within(kind):
            told = (host if host is not None and _is_bare(operation) else operation, kind, rule, None)
            hooks[id(operation)] = Hooks(**{n: _telling(hook, notes, told) for n, hook in rule.within.given().items()})
    return hooks


def _with_code(root, found):
    """Returns the layers whose call is code to be read: those of one's own that have no rule as a whole."""
    ruled = {id(op) for _, op, kind, _ in found if kind == "call"}
    own = [root, *(op for _, op in walk(root))]
    return [op for op in own if has_own_code(op) and not isinstance(op, ATTENTION) and id(op) not in ruled]


def _coded(composite, layer, with_code, notes, call, *args, **kwargs):
    """Calls a layer of one's own by the graph that its code is, with rules on the operations of that."""
    known = {id(one) for one in with_code}
    inner = [one for _, one in walk(layer) if id(one) in known and one is not layer]

    def look(graph):
        found = [one for one in composite.places(graph) if _is_bare(one[1]) or composite.attends(one[1])]
        return found, [op for _, op in composite.gaps(graph) if _is_bare(op)]

    code = read(layer, call, args, kwargs, look, inner)
    if code is None:
        notes.tell(layer, "unread code", None, None)
        return call(*args, **kwargs)
    for one in (layer, *code.parts):
        notes.tell(one, "code", None, None)
    if code.graph is None:
        return call(*args, **kwargs)
    found, gaps = code.found
    for operation in gaps:
        notes.tell(layer, f"{operation.name} within", None, None)
    calls = [(op, rule) for _, op, kind, rule in found if kind == "call"]
    changes = [wrapped("call", [(op, functools.partial(_inner, layer, rule, op, notes))]) for op, rule in calls]
    within = _hooks([one for one in found if _is_within(one[2])], notes, layer)
    with shadowed(itertools.chain(itertools.chain.from_iterable(changes), hooked(code.graph, within))):
        return code.run(args, kwargs)


def _is_bare(operation):
    return not isinstance(operation, keras.Layer)


def _inner(layer, rule, operation, notes, call, *args, **kwargs):
    """Gives a rule to an operation in the code of a layer."""
    notes.tell(layer, f"{operation.name} within", rule, None)
    return rule.surrogate(call, operation, *args, **kwargs)


def _telling(hook, notes, what):
    """Returns a hook that tells when it is used."""

    @functools.wraps(hook)
    def told(*args, **kwargs):
        notes.tell(*what)
        return hook(*args, **kwargs)

    return told


def _is_linear(operation, kind):
    return kind == "call" and isinstance(operation, LINEAR + CONVOLUTIONS)


def _is_foldable(operation):
    return isinstance(operation, keras.layers.BatchNormalization)


def _gives_nonnegative(operation, kind, call):
    """Tells whether an operation is known to put out nothing negative."""
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope
    function = operation.activation if isinstance(operation, keras.layers.Activation) else call
    named = kind == "activation" or isinstance(operation, keras.layers.Activation)
    return named and getattr(function, "__name__", "") in ("relu", "relu6", "sigmoid", "softplus")


def _wrap(rule, operation, kind, notes=None):
    """Returns what stands in for an operation's call or activation, see `vis.engine.taps.wrapped`."""
    notes = _Notes() if notes is None else notes
    if _is_linear(operation, kind):
        return functools.partial(_linear, rule, operation, notes)
    if kind == "call" and _is_foldable(operation):
        return functools.partial(_normalized, rule, operation, notes)

    def wrap(call, *args, **kwargs):
        notes.tell(operation, kind, rule, None)
        its_rule, one = notes.linear(args[0]) if args else (None, None)
        if hasattr(its_rule, "surrogate_behind"):
            y = its_rule.surrogate_behind(one, rule, call, operation, *args, **kwargs)
        else:
            y = rule.surrogate(call, operation, *args, **kwargs)
        return notes.keep(y) if _gives_nonnegative(operation, kind, call) else y

    return wrap


def _linear(rule, layer, notes, call, x, *args, **kwargs):
    """Gives a rule to what a layer does before its activation, which follows with the rule that it has."""
    notes.tell(layer, "call", rule, None)
    ends = has_own_activation(layer)
    linear = without_activation(layer, call) if ends else call
    x, normalization, source = notes.plain(x, layer)
    *firsts, last = linear_maps(layer, linear, x, args, kwargs)
    value = None if not firsts else linear(x, *args, **kwargs)
    for one in firsts:
        x = rule.surrogate(one(x), layer, x)
    one = last(x)
    one.is_nonnegative = not firsts and id(x) in notes and len(notes[id(x)]) == 1
    if normalization is not None:
        notes.tell(normalization, "call", rule, layer)
        one = one.preceded_by(affine(normalization)[0], source)
    y = rule.surrogate(one, layer, one.x)
    if value is not None:  # two maps, one after the other, differ from the layer by rounding
        y = keras.ops.stop_gradient(value) + (y - keras.ops.stop_gradient(y))
    notes.keep(y, rule, one)
    return layer.activation(y) if ends else y


def _normalized(rule, normalization, notes, call, x, *args, **kwargs):
    """Makes a batch normalisation a part of the linear layer whose output it takes."""
    its_rule, one = notes.linear(x)
    if one is None or not fits_outputs(normalization, one.layer, x):
        notes.tell(normalization, "call", rule, None)
        plain = call(x, *args, **kwargs)
        y = plain if rule is None else rule.surrogate(lambda *_, **__: plain, normalization, x)
        return notes.keep(y, plain, normalization, x)
    notes.tell(normalization, "call", its_rule, one.layer)
    # In a compiled function, the output of the layer alone is left out, as nobody reads it.
    at_once = backend.trace() is not None and _is_plain(normalization, x, args, kwargs)
    steps, channels = (lambda y: call(y, *args, **kwargs)), channels_of(normalization, x)
    both = one.followed_by(*affine(normalization), steps, channels, at_once)
    return notes.keep(its_rule.surrogate(both, one.layer, both.x), its_rule, both)


def _is_plain(normalization, x, args, kwargs):
    """Tells whether a batch normalisation does what Keras's does at inference, in single precision."""
    is_own = type(normalization) is keras.layers.BatchNormalization and not args and not kwargs.get("training")
    return is_own and keras.backend.standardize_dtype(x.dtype) == "float32"


def _modified(rule, operation, kind):
    """Returns an operation's call or activation with the rule's gradient, still under its own name."""
    function = getattr(operation, kind)

    @functools.wraps(function)
    def modified(*args, **kwargs):
        return _wrap(rule, operation, kind)(function, *args, **kwargs)

    return modified


def _modified_call(rule, operation):
    """Returns the operation's `call` with the rule's gradient; copies of models rebind it."""
    call = _modified(rule, operation, "call")
    call.rebind = functools.partial(_modified_call, rule)
    return call
