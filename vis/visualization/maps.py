"""What the map-making functions share: one evaluation, and its way to a picture."""

import inspect
import warnings

import keras
import numpy as np
from keras import ops

from vis import backprop_modifiers, grad_modifiers
from vis.descent import channels_in_place
from vis.utils.images import normalize
from vis.utils.validation import VisualizationWarning


def gradient_of(energy, losses, weights, seed_input, grad_modifier):
    """Evaluates an energy once.

    Returns:
        `(gradient, value, batch)`: the modified gradient, what it is taken of (both with the
        batch axis), and the checked input.
    """
    modify = (lambda grads: grads) if grad_modifier is None else grad_modifiers.get(grad_modifier)
    batch = channels_in_place("seed_input", seed_input, energy.reader)
    _, gradient, value = energy.evaluate(losses, weights, batch)
    if not np.isfinite(gradient).all():
        raise FloatingPointError(
            f"The gradient holds {int((~np.isfinite(gradient)).sum())} values that are NaN or infinite, for a finite "
            "input. Check the model's weights (`model.get_weights()`) and its layers for divisions and logarithms at 0."
        )
    modified_gradient = np.asarray(ops.convert_to_numpy(grad_modifiers.apply(modify, gradient)))
    if not np.isfinite(modified_gradient).all():
        raise FloatingPointError("`grad_modifier` made values that are NaN or infinite out of a finite gradient.")
    return modified_gradient, value, batch


def one_or_all(maps, batch):
    """Returns the map itself for a batch of one, as keras-vis does."""
    return maps[0] if len(batch) == 1 else maps


def normalized(maps, what):
    """Scales each map to [0, 1] by itself; says so where a map is flat."""
    flat = [i for i, one in enumerate(maps) if one.max() == one.min()]
    if flat and maps[0].size > 1:
        warnings.warn(
            f"The {what} of sample {', '.join(map(str, flat))} is flat: nothing in the input moves the score that way. "
            "Usual reasons: a saturated softmax (see vis.utils.utils.swap_softmax), dead ReLUs, a "
            "layer without evidence for these filters (choose another layer or filter), or a gradient modifier that "
            "removed everything.",
            VisualizationWarning,
            stacklevel=4,
        )
    return np.stack([normalize(one) for one in maps]).astype("float32")


def modified(model, backprop_modifier):
    """Returns `(model, rule)`: the model to explain, and the rule to install meanwhile.

    A function from model to model, as `vis.backprop_modifiers.get` gives for keras-vis, is
    applied; everything else becomes a rule, for which no copy is needed.
    """
    known = backprop_modifier in (backprop_modifiers.guided, backprop_modifiers.rectified)
    if callable(backprop_modifier) and not known and not isinstance(backprop_modifier, backprop_modifiers.Rule):
        if len(inspect.signature(backprop_modifier).parameters) == 1:
            return backprop_modifier(model), None
    return model, backprop_modifiers.rule(backprop_modifier)


def check_model(model):
    """Raises unless `model` is a built Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras 3 model. Received: {model!r} ({type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: '{model.name}', which has no weights yet. Call it once on data, "
            "train it, or begin it with `keras.Input(shape)`."
        )
