"""Saliency: the gradient of a score with respect to the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vis.backprop_modifiers import require_gradient
from vis.engine.energy import check_losses, energy_of
from vis.engine.graph import find_layer
from vis.engine.memory import kept
from vis.engine.probabilities import warn_of_probabilities
from vis.engine.requests import site
from vis.losses import ActivationMaximization
from vis.methods.gradients import Saliency
from vis.utils.formats import data_format
from vis.utils.internals import producer
from vis.visualization.class_activation import visualize_cam, visualize_cam_with_losses
from vis.visualization.maps import (
    check_model,
    gradient_of,
    modified,
    modified_gradient,
    normalized,
    one_or_all,
    task_of_filters,
)

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

    from vis.utils.types import GradModifierLike, Indices, LayerName, RuleLike, Tensor, WeightedLosses

# keras-vis had the class activation maps in this module.
__all__ = [
    "visualize_cam",
    "visualize_cam_with_losses",
    "visualize_saliency",
    "visualize_saliency_with_losses",
]


def visualize_saliency(
    model: keras.Model,
    layer_idx: LayerName,
    filter_indices: Indices | None,
    seed_input: ArrayLike,
    wrt_tensor: Tensor | None = None,
    backprop_modifier: RuleLike | None = None,
    grad_modifier: GradModifierLike | None = "absolute",
    keepdims: bool = False,
) -> np.ndarray:
    """Returns which pixels would change the score most if they changed a little.

    The fastest map and the closest to the input. Its limit: it tells how the score would
    change, not what it is made of, and raw gradients are noisy.

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3.

    Args:
        model: Any built Keras model with one input. Not changed.
        layer_idx: The layer to explain: index, name, path through nested models
            (`"backbone/conv1"`) or layer object. For class scores, the last one, with its
            softmax swapped for linear (`vis.utils.utils.apply_modifications`).
        filter_indices: Index or indices of its units or channels; their mean outputs are
            summed. `None`: all.
        seed_input: One input `(H, W, C)`, or a batch of them, in the range that the model
            was trained on.
        wrt_tensor: Symbolic tensor of the model to differentiate with respect to. Default
            `None`: the input.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), or a
            rule, see `vis.backprop_modifiers.rule`.
        grad_modifier: `"absolute"` (default), `"negate"`, `"relu"`, `"invert"`, `"small_values"`, a
            callable, or `None`. `None` keeps the sign: positive where more raises the score.
        keepdims: Whether to keep the channel axis. Default `False`: the maximum over it.

    Returns:
        float32 in [0, 1], min-max normalised for each sample: `(H, W)`, or `(H, W, C)` with
        `keepdims`. With a leading batch axis if `seed_input` holds more than one sample. For
        inputs that are vectors, `(features,)`.

    Raises:
        ValueError: A layer, index, name or input is wrong; the message says how to fix it.
        TypeError: An argument is of the wrong kind.
        FloatingPointError: The model's gradient is NaN or infinite.

    Warns:
        VisualizationWarning: The map is flat, the layer ends in a softmax or sigmoid, or the
            backprop modifier changed nothing.

    Examples:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(4, 3, activation="relu"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(2, name="preds"),
        ...     ]
        ... )
        >>> image = np.random.default_rng(0).random((8, 8, 3))
        >>> visualize_saliency(model, "preds", filter_indices=1, seed_input=image).shape
        (8, 8)
    """
    check_model(model)
    model, rule = modified(model, backprop_modifier)
    layer = find_layer(model, layer_idx)
    warn_of_probabilities(layer)
    if wrt_tensor is not None:
        losses = [ActivationMaximization(layer, filter_indices)]
        energy = energy_of(model, losses, wrt_tensor, rule)
        # The loss falls where the activation rises: weigh it by -1.
        gradient, _, batch = gradient_of(energy, losses, [-1.0], seed_input, grad_modifier)
        return _map(gradient, batch, keepdims, data_format(producer(wrt_tensor)))
    require_gradient(rule, "visualize_saliency")
    explainer = kept(
        model,
        ("saliency", site(model, layer), rule),
        lambda: Saliency(model, rule, output_layer=layer, logits=False).weak(),
    )
    task = task_of_filters(explainer, layer, filter_indices, seed_input)
    (gradient,) = explainer.attributions(task)
    return _map(modified_gradient(gradient, grad_modifier), task.batch.arrays[0], keepdims, task.batch.formats[0])


def visualize_saliency_with_losses(
    input_tensor: Tensor | keras.Model,
    losses: WeightedLosses,
    seed_input: ArrayLike,
    wrt_tensor: Tensor | None = None,
    grad_modifier: GradModifierLike | None = "absolute",
    keepdims: bool = False,
) -> np.ndarray:
    """Returns the saliency map of weighted losses of your own.

    Args:
        input_tensor: Symbolic input of a Functional or Sequential model, or the model itself.
        losses: List of pairs `(Loss, weight)`. For something to be raised, as the score of an
            `ActivationMaximization`, use a negative weight.
        seed_input: See `visualize_saliency`.
        wrt_tensor: See `visualize_saliency`.
        grad_modifier: See `visualize_saliency`.
        keepdims: See `visualize_saliency`.

    Returns:
        As `visualize_saliency`.

    Raises:
        ValueError: A loss does not depend on the input, or an argument has a wrong value.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
        >>> losses = [(ActivationMaximization(model.layers[-1], [0, 5]), -1)]
        >>> image = np.ones((8, 8, 3))
        >>> round(float(visualize_saliency_with_losses(model.inputs[0], losses, image).sum()), 3)
        2.0
    """
    losses, weights = check_losses(losses)
    energy = energy_of(input_tensor, losses, wrt_tensor)
    form = energy.input_format if wrt_tensor is None else data_format(producer(wrt_tensor))
    gradient, _, batch = gradient_of(energy, losses, weights, seed_input, grad_modifier)
    return _map(gradient, batch, keepdims, form)


def _map(gradient, batch, keepdims, form):
    if not keepdims and gradient.ndim > 2:
        gradient = np.max(gradient, axis=1 if form == "channels_first" else -1)
    return one_or_all(normalized(gradient, "saliency map"), batch)
