"""Installs backward rules: an operation gets a surrogate with the same value and another gradient.

Only their form is known here. A composite has `places(root)`, which gives `(path, operation, kind, rule)` for each
operation that gets a rule, and `tell(root, found)`, which warns where it changes nothing. The kind is `"activation"`
where a layer applies an activation function of its own, and `"call"` where the operation as a whole is meant. A rule
has `surrogate(call, operation, *args, **kwargs)`, which stands in for `call(*args, **kwargs)`.
"""

import functools
import itertools

import keras

from vis.engine.copying import copy_model
from vis.engine.taps import shadowed, wrapped

# Layers whose activation comes last.
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense)
CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in (
        *(f"{kind}{n}D" for kind in ("Conv",) for n in (1, 2, 3)),
        *(f"Conv{n}DTranspose" for n in (1, 2, 3)),
        *(f"{kind}Conv{n}D" for kind in ("Depthwise", "Separable") for n in (1, 2)),
    )
)

# Layers that are activations as a whole.
_WHOLE = tuple(getattr(keras.layers, n) for n in ("Activation", "Softmax", "ReLU", "LeakyReLU", "ELU", "PReLU"))


def installed(root, composite):
    """Returns a context in which the rules of a composite are on the operations of a model.

    Hold `vis.engine.taps.surgery()` meanwhile.

    Args:
        root: A model (or anything `walk` goes through).
        composite: The composite; `None` changes nothing.

    Returns:
        The context; it gives the paths of the changed operations.
    """
    found = _places(root, composite)
    changes = [wrapped(kind, [(op, _wrap(rule, op, kind))]) for _, op, kind, rule in found]
    return shadowed(itertools.chain.from_iterable(changes), [path for path, *_ in found])


def installed_for_good(model, composite, custom_objects=None):
    """Returns a copy of a model with the rules of a composite on it; `modified_places` lists the changed paths.

    Args:
        model: A built Functional or Sequential model.
        composite: The composite; `None` changes nothing.
        custom_objects: See `vis.engine.copying.copy_model`.
    """
    copied = copy_model(model, custom_objects)
    found = _places(copied, composite, told=model)
    for _, operation, kind, rule in found:
        if kind == "activation":
            operation.activation = _modified(rule, operation, kind)
        else:
            vars(operation)["call"] = _modified_call(rule, operation)
    vars(copied)["modified_places"] = [path for path, *_ in found]
    return copied


def has_own_activation(operation) -> bool:
    """Tells whether a layer applies an activation function after its own work, as `Dense(8, activation="relu")`."""
    function = getattr(operation, "activation", None)
    if not isinstance(operation, keras.Layer) or isinstance(operation, _WHOLE) or isinstance(function, keras.Layer):
        return False
    return callable(function) and getattr(function, "__name__", "") != "linear"


def _places(root, composite, told=None):
    if composite is None:
        return []
    found = composite.places(root)
    composite.tell(root if told is None else told, found)
    return found


def _wrap(rule, operation, kind):
    """Returns what stands in for an operation's call or activation, see `vis.engine.taps.wrapped`."""
    if kind == "call" and has_own_activation(operation) and isinstance(operation, LINEAR + CONVOLUTIONS):
        return functools.partial(_linear_part, rule, operation)
    return lambda call, *args, **kwargs: rule.surrogate(call, operation, *args, **kwargs)


def _linear_part(rule, operation, call, *args, **kwargs):
    """Gives a rule to what a layer does before its activation, which follows with the rule that it has."""

    def linear(*args, **kwargs):
        with shadowed(), shadowed([(operation, "activation", keras.activations.linear)]):
            return call(*args, **kwargs)

    return operation.activation(rule.surrogate(linear, operation, *args, **kwargs))


def _modified(rule, operation, kind):
    """Returns an operation's call or activation with the rule's gradient, still under its own name."""
    function, wrap = getattr(operation, kind), _wrap(rule, operation, kind)

    @functools.wraps(function)
    def modified(*args, **kwargs):
        return wrap(function, *args, **kwargs)

    return modified


def _modified_call(rule, operation):
    """Returns the operation's `call` with the rule's gradient; copies of models rebind it."""
    call = _modified(rule, operation, "call")
    call.rebind = functools.partial(_modified_call, rule)
    return call
