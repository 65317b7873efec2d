"""Activation maximisation: the input that a filter likes best."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.backprop_modifiers import require_gradient
from vis.engine import descent
from vis.engine.energy import check_losses, energy_of, model_energy
from vis.engine.graph import find_layer
from vis.engine.memory import kept
from vis.engine.probabilities import warn_of_probabilities
from vis.engine.requests import site
from vis.losses import ActivationMaximization
from vis.optimizer import watchers
from vis.regularizers import LPNorm, TotalVariation
from vis.utils.utils import add_defaults_to_kwargs
from vis.utils.validation import VisualizationWarning
from vis.visualization.maps import check_model, modified

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

    from vis.utils.types import GradModifierLike, Indices, LayerName, RuleLike, Tensor, WeightedLosses


def visualize_activation(
    model: keras.Model,
    layer_idx: LayerName,
    filter_indices: Indices | None = None,
    wrt_tensor: Tensor | None = None,
    seed_input: ArrayLike | None = None,
    input_range: tuple[float, float] = (0, 255),
    backprop_modifier: RuleLike | None = None,
    grad_modifier: GradModifierLike | None = None,
    act_max_weight: float | None = 1,
    lp_norm_weight: float | None = 10,
    tv_weight: float | None = 10,
    **optimizer_params: Any,
) -> np.ndarray:
    """Returns an input that excites some filters of a layer.

    Shows what a filter or class looks for. Its limit: the picture depends much on the
    regularizers' weights and on `input_range`; use `verbose=True` to see their balance. On deep
    networks `vis.FeatureVisualization` makes far clearer pictures.

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 2; the
    regularizers are those of Mahendran & Vedaldi 2016.

    Args:
        model: Any built Keras model with one input. Not changed.
        layer_idx: The layer: index, name, path through nested models or layer object. For
            class scores, the last one, with its softmax swapped for linear
            (`vis.utils.utils.apply_modifications`).
        filter_indices: Index or indices of its units or channels. Default `None`: all.
        wrt_tensor: Symbolic tensor to differentiate with respect to. Default `None`: the input,
            the only tensor that is updated.
        seed_input: Where to start. Default `None`: noise around the middle of `input_range`.
        input_range: `(low, high)` of the model's input. Default (0, 255).
        backprop_modifier: See `visualize_saliency`. Default `None`.
        grad_modifier: Name or callable, see `vis.grad_modifiers`. Default `None`.
        act_max_weight: Weight of the filters' activation. Default 1. 0 or `None` leaves it
            out.
        lp_norm_weight: Weight of the L-6 norm, which keeps pixels bounded. Default 10. 0 or
            `None` leaves it out.
        tv_weight: Weight of the total variation, which keeps the image coherent. Default 10.
            0 or `None` leaves it out.
        **optimizer_params: Passed to `vis.optimizer.Optimizer.minimize`: `max_iter` (default
            200), `input_modifiers`, `callbacks`, `verbose` (default `False`), `optimizer`, `seed`.

    Returns:
        One image `(H, W, C)`, channels last, values in `input_range`; uint8 if both ends of the
        range are Python ints, else float32.

    Raises:
        ValueError: A layer, index, name or input is wrong; the message says how to fix it.
        TypeError: An argument is of the wrong kind.
        FloatingPointError: A loss became NaN or infinite; the message names it.

    Warns:
        VisualizationWarning: The layer ends in a softmax or sigmoid, bytes cannot show the range, or no step was
            better than the `seed_input`, which is returned.

    Examples:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")]
        ... )
        >>> image = visualize_activation(model, "conv", 0, input_range=(0.0, 1.0), max_iter=3)
        >>> image.shape
        (8, 8, 3)
    """
    check_model(model)
    model, rule = modified(model, backprop_modifier)
    require_gradient(rule, "visualize_activation")
    layer = find_layer(model, layer_idx)
    warn_of_probabilities(layer)
    losses, weights = check_losses(
        [
            (ActivationMaximization(layer, filter_indices), act_max_weight),
            (LPNorm(None), lp_norm_weight),
            (TotalVariation(None), tv_weight),
        ]
    )
    if wrt_tensor is not None:
        energy = energy_of(model, losses, wrt_tensor, rule, norm_grads=True)
    else:
        key = ("activation", site(model, layer), rule, tuple(loss.name for loss in losses))
        energy = kept(model, key, lambda: model_energy(model, losses, rule=rule, norm_grads=True))
    params = add_defaults_to_kwargs({"grad_modifier": grad_modifier, "seed_input": seed_input}, **optimizer_params)
    return _image(energy, losses, weights, input_range, params)


def visualize_activation_with_losses(
    input_tensor: Tensor | keras.Model,
    losses: WeightedLosses,
    wrt_tensor: Tensor | None = None,
    seed_input: ArrayLike | None = None,
    input_range: tuple[float, float] = (0, 255),
    **optimizer_params: Any,
) -> np.ndarray:
    """Returns an input that minimises weighted losses of your own.

    Args:
        input_tensor: Symbolic input of a Functional or Sequential model, or the model itself.
        losses: List of pairs `(Loss, weight)`.
        wrt_tensor: See `visualize_activation`.
        seed_input: See `visualize_activation`.
        input_range: See `visualize_activation`.
        **optimizer_params: See `visualize_activation`.

    Returns:
        As `visualize_activation`.

    Raises:
        ValueError: A loss does not depend on the input, or an argument has a wrong value.
        TypeError: An argument is of the wrong kind.
        FloatingPointError: A loss became NaN or infinite; the message names it.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> losses = [(ActivationMaximization(model.layers[-1], 0), 1)]
        >>> visualize_activation_with_losses(model.inputs[0], losses, max_iter=3).dtype
        dtype('uint8')
    """
    losses, weights = check_losses(losses)
    energy = energy_of(input_tensor, losses, wrt_tensor, norm_grads=True)
    params = add_defaults_to_kwargs({"seed_input": seed_input}, **optimizer_params)
    return _image(energy, losses, weights, input_range, params)


def _image(energy, losses, weights, input_range, params):
    verbose, callbacks = params.pop("verbose", False), params.pop("callbacks", None)
    options = descent.Options(callbacks=watchers(callbacks, verbose), tells=True, **params)
    image = descent.minimize(energy, losses, weights, input_range, options)[0]
    if energy.input_format == "channels_first" and image.ndim > 1:
        image = np.moveaxis(image, 0, -1)
    if all(isinstance(end, int) for end in input_range):
        low, high = input_range
        if low < 0 or high > 255 or high - low < 16:
            warnings.warn(
                f"`input_range` {tuple(input_range)} holds whole numbers, so the image is uint8, which cannot show "
                f"that range. Write ({low}., {high}.) for a float image.",
                VisualizationWarning,
                stacklevel=3,
            )
        return np.clip(image, *input_range).astype("uint8")
    return image
