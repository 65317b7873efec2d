"""Copies of models, made in memory and independent of what was copied."""

import copy
import re
import warnings
import weakref

import keras
from keras import ops

from vis.engine.graph import walk
from vis.engine.taps import shadowed
from vis.utils.internals import producer
from vis.utils.validation import VisualizationWarning, shown, words_error


def require_graph(model, purpose: str) -> None:
    """Raises a `ValueError` unless `model` is a built Functional or Sequential model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras 3 model. Received: {shown(model)} ({type(model).__name__}).")
    if not isinstance(model, (keras.Function, keras.Sequential)):
        raise ValueError(
            f"{purpose} needs a Functional or Sequential model: the layers of a subclassed one cannot be copied. "
            f"Received: {model.name!r} of class {type(model).__name__}. Instead, change the layer of a model that "
            "you build anew (`type(model).from_config(model.get_config())`, then `set_weights`), or pass "
            "`backprop_modifier=` to the visualize functions, which needs no copy."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            f"{purpose} needs a built model. Received: {model.name!r}, which has no weights yet. Call it once on data, "
            "or begin it with `keras.Input(shape)`."
        )


def copy_model(model, custom_objects=None, substitutes=None):
    """Returns an independent copy of a Functional or Sequential model, made in memory.

    Args:
        model: The model. Not changed.
        custom_objects: See `apply_modifications`.
        substitutes: Dict from the `id` of a layer to the function that copies it.
    """
    compiled = [(m, "compiled", False) for m in _models(model)]
    with keras.utils.custom_object_scope({**_own_objects(model), **(custom_objects or {})}):
        with shadowed(), shadowed(compiled):
            copied = _copy_graph(model, substitutes or {}, {})
        _copy_variables(model.variables, copied.variables)
        if getattr(model, "compiled", False):
            _copy_compiled_state(model, copied)
    return copied


def _copy_graph(model, substitutes, copies):
    """Copies a model's graph, without weights; layers that are shared stay shared."""

    def copy_one(layer):
        if id(layer) not in copies:
            if isinstance(layer, (keras.Function, keras.Sequential)) and isinstance(layer, keras.Model):
                copies[id(layer)] = _copy_graph(layer, substitutes, copies)
            else:
                copies[id(layer)] = substitutes.get(id(layer), copy_layer)(layer)
        return copies[id(layer)]

    inputs = None if isinstance(model, keras.Sequential) else keras.tree.map_structure(_copy_input, model.input)
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=copy_one)


def _copy_input(tensor):
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=producer(tensor).name)


def _models(model):
    return [model] + [m for _, m in walk(model) if isinstance(m, keras.Model)]


def _own_objects(model):
    """Finds the custom classes and functions that the model itself uses."""
    found = {}
    for _, operation in walk(model):
        for value in (type(operation), getattr(operation, "activation", None)):
            if hasattr(value, "__name__") and not value.__module__.startswith("keras."):
                found[value.__name__] = value
    for value in keras.tree.flatten(getattr(model, "loss", None)):
        if hasattr(value, "__name__"):
            found[value.__name__] = value
    return found


def copy_layer(layer):
    """Copies one layer or operation without its weights.

    The activation function is passed on as it is: it may be a lambda, which no config holds.
    """
    activation = vars(layer).get("activation")
    by_hand = activation is not None and not isinstance(activation, keras.Layer)
    hidden = [(layer, "activation", keras.activations.linear)] if by_hand else []
    trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    try:
        with shadowed(), shadowed(hidden):
            copied = type(layer).from_config(layer.get_config(), **trusted)
    except Exception as error:  # custom code, it may raise anything
        raise ValueError(
            f"Layer {layer.name!r} of class {type(layer).__name__} could not be copied: {error} "
            "A custom layer needs a `get_config` that returns the arguments of its `__init__`; custom functions and "
            "classes that it mentions go into `custom_objects`."
        ) from error
    if by_hand:
        copied.activation = activation
    shadow = vars(layer).get("call")
    if hasattr(shadow, "rebind"):  # a backward rule, see `backprop_modifiers`
        vars(copied)["call"] = shadow.rebind(copied)
    return copied


def _copy_variables(source, target):
    if [tuple(v.shape) for v in source] != [tuple(v.shape) for v in target]:
        raise ValueError(
            "The copied model has other weights than the original. A custom layer's `get_config` probably leaves "
            "out an argument that decides the shape of its weights."
        )
    for old, new in zip(source, target):
        new.assign(ops.convert_to_numpy(old.value))


def _copy_compiled_state(model, copied):
    try:
        copied.compile_from_config(model.get_compile_config())
        old, new = model.optimizer.variables, copied.optimizer.variables
        if [tuple(v.shape) for v in old] == [tuple(v.shape) for v in new]:
            _copy_variables(old, new)
    except Exception as error:  # user-defined losses and metrics may raise anything
        warnings.warn(
            f"The model was copied, but not its compiled state: {error} Compile the copy yourself to train it.",
            VisualizationWarning,
            stacklevel=4,
        )


class Pickled:
    """A model in a pickle, which says in one sentence what it needs where it is read; use `pickled`.

    Args:
        model: The model, which is held weakly.
    """

    def __init__(self, model):
        self.model = weakref.ref(model)

    def __reduce__(self):
        return _unpickled, self.model().__reduce__()

    def __deepcopy__(self, memo):
        return _unpickled(copy.deepcopy, (self.model(), memo))


_PICKLED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def pickled(model):
    """Returns what stands for a model in the state of an object that is pickled: for one model the same each time."""
    return _PICKLED.setdefault(model, Pickled(model))


def unpickled(state):
    """Returns the model out of what `pickled` returned, after whatever copies."""
    return state.model() if isinstance(state, Pickled) else state


def _unpickled(load, arguments):
    try:
        return load(*arguments)
    except (TypeError, ValueError) as error:
        found = re.search(r"Could not locate (?:class|function) '(\w+)'", str(error))
        if found is None:
            raise ValueError(f"The model could not be copied or unpickled. Keras says: {words_error(error)}") from error
        raise ValueError(
            f"Keras must know the classes and functions of a model that is copied or unpickled. Received: a model with "
            f"{found[1]!r}, which it does not know. Put `@keras.saving.register_keras_serializable()` above its "
            "definition, and import the module that defines it before unpickling."
        ) from error
