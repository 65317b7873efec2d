"""Grad-CAM in the manner of keras-vis: of filters of a layer, or of losses, scaled to [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from vis.engine.energy import check_losses, energy_of
from vis.engine.feature_maps import feature_map, spatial_shape
from vis.engine.graph import ancestors, find_layer, walk
from vis.engine.inputs import plain_batch
from vis.engine.memory import kept
from vis.engine.probabilities import warn_of_probabilities
from vis.engine.requests import site
from vis.engine.survey import Seen
from vis.methods.cam import GradCAM
from vis.utils.images import resize
from vis.utils.outputs import known_shape
from vis.utils.validation import shown
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
    import numpy as np
    from numpy.typing import ArrayLike

    from vis.utils.types import GradModifierLike, Indices, LayerName, RuleLike, Tensor, WeightedLosses

_SPATIAL_LAYERS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
)


def visualize_cam(
    model: keras.Model,
    layer_idx: LayerName,
    filter_indices: Indices | None,
    seed_input: ArrayLike,
    penultimate_layer_idx: LayerName | None = None,
    backprop_modifier: RuleLike | None = None,
    grad_modifier: GradModifierLike | None = None,
) -> np.ndarray:
    """Returns which regions speak for the score, by Grad-CAM.

    Coarse but class-specific: it shows where the evidence is. Its limit is the size of the
    feature map; and channels are weighted as wholes, so it can light positions that the score
    does not use.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.

    Args:
        model: Any built Keras model with one input. Not changed.
        layer_idx: The layer to explain: index, name, path through nested models or layer
            object. For class scores, the last one, with its softmax swapped for linear
            (`vis.utils.utils.apply_modifications`).
        filter_indices: Index or indices of its units or channels; their mean outputs are
            summed. `None`: all.
        seed_input: One input `(H, W, C)`, or a batch of them, in the range that the model
            was trained on.
        penultimate_layer_idx: The layer whose feature map is used, given as `layer_idx` is.
            Default `None`: the nearest convolution or pooling before `layer_idx` (wrapped and
            nested ones count, global pooling and 1x1 outputs do not).
        backprop_modifier: See `visualize_saliency`. Default `None`.
        grad_modifier: Name or callable applied to the gradient at the feature map. Default
            `None`. `"negate"` shows what speaks against the score.

    Returns:
        float32 in [0, 1], min-max normalised for each sample, resized (linearly) to the
        input: `(H, W)`, with a leading batch axis if `seed_input` holds more than one sample.

    Raises:
        ValueError: No convolution or pooling comes before `layer_idx`, or the one given does
            not; or a layer, index, name or input is wrong.
        TypeError: An argument is of the wrong kind.
        FloatingPointError: The model's gradient is NaN or infinite.

    Warns:
        VisualizationWarning: The map is flat (no positive evidence), the layer ends in a softmax
            or sigmoid, or the backprop modifier changed nothing.

    Examples:
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(4, 3, kernel_initializer="ones"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(2, kernel_initializer="ones", name="preds"),
        ...     ]
        ... )
        >>> image = np.random.default_rng(0).random((8, 8, 3))
        >>> visualize_cam(model, "preds", filter_indices=1, seed_input=image).shape
        (8, 8)
    """
    check_model(model)
    model, rule = modified(model, backprop_modifier)
    layer = find_layer(model, layer_idx)
    warn_of_probabilities(layer)
    penultimate = find_penultimate_layer(model, layer, penultimate_layer_idx)
    explainer = kept(
        model,
        ("cam", site(model, layer), site(model, penultimate), rule),
        lambda: GradCAM(model, penultimate, rule, output_layer=layer, logits=False).weak(),
    )
    task = task_of_filters(explainer, layer, filter_indices, seed_input)
    ((at, _, results),) = explainer.evaluated(task)
    image, activations, gradients = explainer.grids(task, at, results)
    maps = GradCAM.formula(activations, modified_gradient(gradients, grad_modifier))
    return _scaled(explainer.at_input(task, image, maps))


def visualize_cam_with_losses(
    input_tensor: Tensor | keras.Model,
    losses: WeightedLosses,
    seed_input: ArrayLike,
    penultimate_layer: keras.Layer,
    grad_modifier: GradModifierLike | None = None,
) -> np.ndarray:
    """Returns the Grad-CAM map of weighted losses of your own.

    Args:
        input_tensor: Symbolic input of a Functional or Sequential model, or the model itself.
        losses: List of pairs `(Loss, weight)`. For something to be raised, as the score of an
            `ActivationMaximization`, use a negative weight.
        seed_input: See `visualize_cam`.
        penultimate_layer: The layer object whose feature map is used.
        grad_modifier: See `visualize_cam`.

    Returns:
        As `visualize_cam`.

    Raises:
        ValueError: A loss does not depend on the layer, the layer has no spatial output, or an
            argument has a wrong value.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8, 8, 3)),
        ...         keras.layers.Conv2D(4, 3, kernel_initializer="ones"),
        ...         keras.layers.Flatten(),
        ...     ]
        ... )
        >>> from vis.losses import ActivationMaximization
        >>> losses = [(ActivationMaximization(model.layers[-1], 7), -1)]
        >>> image = np.random.default_rng(0).random((1, 8, 8, 3))
        >>> visualize_cam_with_losses(model.inputs[0], losses, image, model.layers[0]).shape
        (8, 8)
    """
    if not isinstance(penultimate_layer, keras.Layer):
        raise TypeError(
            "`penultimate_layer` must be a layer object, such as `model.layers[2]`. Received: "
            f"{shown(penultimate_layer)}."
        )
    losses, weights = check_losses(losses)
    energy = energy_of(input_tensor, losses, penultimate_layer)
    gradients, activations, batch = gradient_of(energy, losses, weights, seed_input, grad_modifier)
    inputs = plain_batch(batch, energy.input_format)
    image = feature_map(penultimate_layer, Seen(-1, -1, activations.shape), inputs)
    if image is None:
        raise ValueError(
            f"The feature map must be spatial (rank 3 or more). Received: layer {penultimate_layer.name!r} with output "
            f"shape {activations.shape}. Choose a convolution or pooling."
        )
    maps = GradCAM.formula(*(image.restore(penultimate_layer, array) for array in (activations, gradients)))
    return _scaled(resize(maps, image.size_at_input(inputs, maps.ndim - 1, penultimate_layer.name)))


def _scaled(maps):
    return one_or_all(normalized(maps, "class activation map"), maps)


def find_penultimate_layer(model: keras.Model, layer: keras.Layer, chosen: LayerName | None = None) -> keras.Layer:
    """Returns the layer whose feature map explains `layer`.

    Args:
        model: The model.
        layer: The layer object to explain.
        chosen: The user's choice, or `None` to search.

    Raises:
        ValueError: There is none, or the chosen one does not come before `layer`.
    """
    before = _layers_before(model, layer)
    if chosen is not None:
        found = find_layer(model, chosen)
        if found is layer or not any(found is candidate for candidate in before):
            raise ValueError(
                f"`penultimate_layer_idx` must come before `layer_idx`. Received: layer {found.name!r}, which is not "
                f"before layer {layer.name!r}."
            )
        return found
    for candidate in reversed(before):
        if _has_feature_map(candidate):
            return candidate
    raise ValueError(
        f"No convolution or pooling layer comes before layer {layer.name!r} in model {model.name!r}, so there is no "
        "feature map to use. Give `penultimate_layer_idx` a layer with spatial output, or use visualize_saliency."
    )


def _layers_before(model, layer):
    """Lists the layers that the target is computed from, in order; its own inner ones last."""
    order = list(walk(model))
    wrapped = tuple(path + "/" for path, op in order if isinstance(op, keras.layers.Wrapper))
    order = [(path, op) for path, op in order if op is layer or not path.startswith(wrapped)]
    target = next(path for path, op in order if op is layer)
    position = [path for path, _ in order].index(target)
    inner = [op for path, op in order if path.startswith(target + "/")]
    reached = {id(op) for op in ancestors(_top_level(model, target))}
    tops = {op.name: op for op in _top_operations(order)}
    before = [
        op
        for path, op in order[:position]
        if not reached or path.split("/")[0] == target.split("/")[0] or id(tops[path.split("/")[0]]) in reached
    ]
    return before + inner


def _top_operations(order):
    return [op for path, op in order if "/" not in path]


def _top_level(model, path):
    return next(op for found, op in walk(model) if found == path.split("/")[0])


def _has_feature_map(layer):
    inner = getattr(layer, "layer", None) if isinstance(layer, keras.layers.Wrapper) else layer
    if not isinstance(inner, _SPATIAL_LAYERS):
        return False
    shape = known_shape(layer)
    # A layer of a subclassed model does not tell its shape beforehand.
    return shape is None or any(size != 1 for size in spatial_shape(layer, shape))
