"""What the map-making functions share: one evaluation, and its way to a picture."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from vis import backprop_modifiers, grad_modifiers
from vis.engine.goals import Units
from vis.engine.inputs import model_input_format, model_input_shape, read_checked
from vis.engine.tasks import Task
from vis.losses import ActivationMaximization
from vis.utils.formats import channels_in_place
from vis.utils.images import normalize
from vis.utils.validation import VisualizationWarning, cut, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from vis.backprop_modifiers import Composite
    from vis.engine.energy import Energy
    from vis.losses import Loss
    from vis.methods.explainer import Explainer
    from vis.utils.types import GradModifierLike, Indices, RuleLike


def gradient_of(
    energy: Energy,
    losses: Sequence[Loss],
    weights: Sequence[float],
    seed_input: ArrayLike,
    grad_modifier: GradModifierLike | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluates an energy once.

    Returns:
        `(gradient, value, batch)`: the modified gradient, what it is taken of (both with the
        batch axis), and the checked input.
    """
    batch = energy.read_input("seed_input", seed_input)
    _, gradient, value = energy.evaluate(losses, weights, batch)
    return modified_gradient(gradient, grad_modifier), value, batch


def modified_gradient(gradient: np.ndarray, grad_modifier: GradModifierLike | None) -> np.ndarray:
    """Applies a gradient modifier, and raises where what comes or goes is not finite."""
    modify = None if grad_modifier is None else grad_modifiers.get(grad_modifier)
    if not np.isfinite(gradient).all():
        raise FloatingPointError(
            f"The gradient holds {int((~np.isfinite(gradient)).sum())} values that are NaN or infinite, for a finite "
            "input. Check the model's weights (`model.get_weights()`) and its layers for divisions and logarithms at 0."
        )
    if modify is None:
        return gradient
    changed = np.asarray(ops.convert_to_numpy(grad_modifiers.apply(modify, gradient)))
    if not np.isfinite(changed).all():
        raise FloatingPointError("`grad_modifier` made values that are NaN or infinite out of a finite gradient.")
    return changed


def task_of_filters(
    explainer: Explainer, layer: keras.Layer, filter_indices: Indices | None, seed_input: ArrayLike
) -> Task:
    """Returns the task to explain the sum of some filters of a layer, as keras-vis asks for it.

    Args:
        explainer: An explainer with `layer` as its output layer.
        layer: The layer object.
        filter_indices: Index or indices of its filters; `None` for all.
        seed_input: One input, or a batch.
    """
    model = explainer.model
    array = channels_in_place("seed_input", seed_input, model_input_shape(model), model_input_format(model))
    batch = read_checked(model, array)
    evaluator = explainer.evaluator
    evaluator.ready(batch)
    size = evaluator.units(batch)
    (indices,) = ActivationMaximization(layer, filter_indices).arguments([(None, size)])
    weights = np.bincount(indices, minlength=size).astype("float32")
    return Task(evaluator, batch, Units(np.tile(weights, (batch.count, 1))), batch.count)


def one_or_all(maps: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Returns the map itself for a batch of one, as keras-vis does."""
    return maps[0] if len(batch) == 1 else maps


def normalized(maps: np.ndarray, what: str) -> np.ndarray:
    """Scales each map to [0, 1] by itself; says so where a map is flat."""
    flat = [i for i, one in enumerate(maps) if one.max() == one.min()]
    if flat and maps[0].size > 1:
        warnings.warn(
            f"The {what} of sample {cut(', '.join(map(str, flat)), 50)} is flat: nothing in the input moves the "
            "score that way. "
            "Usual reasons: a saturated softmax (see vis.utils.utils.swap_softmax), dead ReLUs, a "
            "layer without evidence for these filters (choose another layer or filter), or a gradient modifier that "
            "removed everything.",
            VisualizationWarning,
            stacklevel=4,
        )
    return np.stack([normalize(_enlarged(one)) for one in maps]).astype("float32")


def _enlarged(one):
    """Gives a map the range 1, beside which the epsilon of `normalize` is nothing."""
    low, high = (float(end) for end in (one.min(), one.max()))
    return (one.astype("float64") - low) / (high - low) if high > low else one


def modified(model: keras.Model, backprop_modifier: RuleLike | None) -> tuple[keras.Model, Composite | None]:
    """Returns `(model, rule)`: the model to explain, and the rule to install meanwhile.

    A function from model to model, as `vis.backprop_modifiers.get` gives for keras-vis, is
    applied; everything else becomes a rule, for which no copy is needed.
    """
    known = backprop_modifier in (backprop_modifiers.guided, backprop_modifiers.rectified)
    if callable(backprop_modifier) and not known:
        if len(inspect.signature(backprop_modifier).parameters) == 1:
            return backprop_modifier(model), None
    return model, backprop_modifiers.composite(backprop_modifier)


def check_model(model: keras.Model) -> None:
    """Raises unless `model` is a built Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras 3 model. Received: {shown(model)} ({type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name!r}, which has no weights yet. Call it once on data, "
            "train it, or begin it with `keras.Input(shape)`."
        )
