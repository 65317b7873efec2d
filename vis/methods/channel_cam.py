"""Class activation maps whose channels are weighed by the score with and without them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from vis.engine.masking import Masking, Masks, warn_of_far_zero
from vis.engine.onward import Onward
from vis.engine.requests import SCORES
from vis.engine.tasks import gathered
from vis.methods.cam import ClassActivationMap
from vis.utils.formats import data_format
from vis.utils.images import resize
from vis.utils.validation import VisualizationWarning, check_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

    from vis.engine.feature_maps import FeatureMap
    from vis.engine.tasks import Task
    from vis.utils.types import LayerLike


class ChannelCAM(ClassActivationMap):
    """Base class of the maps whose weights come from one evaluation for each channel."""

    needs_gradients = False

    def explain(self, task: Task) -> np.ndarray:
        """Returns relu of the sum of w A, group by group of samples."""
        return gathered(task.count, ((images, [self._explain_group(part)]) for images, part in task.groups()))[0]

    def _explain_group(self, task):
        ((at, _, results),) = self.evaluated(task)
        image, activations, _ = self.grids(task, at, results)
        weights = self.weights(task, image, activations, results["activations"][0])
        weights = weights.reshape(len(weights), *[1] * (activations.ndim - 2), -1)
        return self.at_input(task, image, np.maximum((weights * activations).sum(axis=-1), 0))

    def weights(self, task: Task, image: FeatureMap, activations: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Returns the weights `(N, K)` of the channels of a feature map.

        Args:
            task: The samples and their target.
            image: The feature map.
            activations: Its activations `(N, *spatial, K)`.
            outputs: The same as the layer puts them out: with all tokens, and the channels where they are there.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `weights`.")


class AblationCAM(ChannelCAM):
    """Channels weighted by how much of the score is lost without them.

    It asks what the score would be, not for its slope, so it also works where gradients are saturated. For each channel
    it runs the layers behind the feature map; the whole network where another way leads around that, or where the
    model is no graph. Where the layers behind make a sum of the feature map's values, such as a mean and a dense
    layer, what a channel contributes is read from one gradient: the same.

    Its limit: the formula divides by the score. Where that is below 0, a channel that raises it gets a negative weight
    and one that lowers it a positive one, so that the map shows what speaks against the class; a warning says so.

    Source: Ramaswamy & Desai 2020, "Ablation-CAM", equations 3 and 4.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: The score of some samples is below 0.

    Examples:
        >>> import keras
        >>> pool = keras.layers.GlobalAveragePooling2D()
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.ReLU(), pool])
        >>> AblationCAM(model)(np.eye(2)[None, ..., None])[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike | None = None,
        *,
        upsample: bool = True,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        reshape: str | None = None,
        tokens: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            model, layer, None, upsample, output_layer=output_layer, logits=logits, reshape=reshape, tokens=tokens
        )

    def weights(self, task: Task, image: FeatureMap, activations: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Returns (S - S without the channel) / S."""
        onward = Onward(task, image.site, outputs)
        scores = onward.scores()[:, None]
        _warn_of_negative(scores)
        axis = _channel_axis(image.site.layer(self.model), outputs)
        lost = _shares(onward, axis) if onward.is_affine else scores - _scores_without(onward, axis)
        return np.divide(lost, scores, out=np.zeros_like(lost), where=scores != 0)


def _warn_of_negative(scores):
    below = int((scores < 0).sum())
    if below:
        warnings.warn(
            f"The score of {below} of {len(scores)} samples is below 0, down to {scores.min():.3g}. Ablation-CAM "
            "divides by the score, so that these maps show what lowers it. Explain a class whose score is above 0, or "
            "probabilities: `logits=False`.",
            VisualizationWarning,
            stacklevel=2,
        )


def _channel_axis(layer, outputs):
    return 1 if data_format(layer) == "channels_first" and outputs.ndim > 2 else outputs.ndim - 1


def _scores_without(onward, axis):
    """Returns the scores `(N, K)` without one of the channels each."""

    def without(images, numbers):
        rows = onward.outputs[images]
        np.moveaxis(rows, axis, 1)[np.arange(len(rows)), numbers] = 0
        return rows

    return onward.scores_of(onward.outputs.shape[axis], without)


def _shares(onward, axis):
    """Returns what the channels contribute, `(N, K)`, to a score that is a sum over what the layer puts out.

    Such a score loses, without a channel, the sum over it of gradient times output.
    """
    positions = tuple(i for i in range(1, onward.outputs.ndim) if i != axis)
    chunks = ((images, gradients * onward.outputs[images]) for images, _, _, gradients in onward.gradients())
    return gathered(len(onward.outputs), ((images, [parts.sum(axis=positions)]) for images, parts in chunks))[0]


class ScoreCAM(ChannelCAM):
    """Channels weighted by the score of the input seen through them.

    Needs no gradient; costs a forward pass for each channel. The output is explained as it is
    (probabilities as probabilities). Channels that are constant have no weight.

    Source: Wang et al. 2020, "Score-CAM", equations 4 to 6 and algorithm 1.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        max_channels: Only this many channels, those that vary most, are used: faster. Default `None`:
            all.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> pool = keras.layers.GlobalAveragePooling2D()
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.ReLU(), pool])
        >>> ScoreCAM(model)(np.eye(2)[None, ..., None])[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike | None = None,
        max_channels: int | None = None,
        *,
        upsample: bool = True,
        output_layer: LayerLike | None = None,
        logits: bool = False,
        reshape: str | None = None,
        tokens: int | Sequence[int] | None = None,
    ) -> None:
        self._max_channels = None if max_channels is None else check_count("max_channels", max_channels, 1)
        super().__init__(
            model, layer, None, upsample, output_layer=output_layer, logits=logits, reshape=reshape, tokens=tokens
        )

    def weights(self, task: Task, image: FeatureMap, activations: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Returns the softmax over the channels of f(x * mask); f(0), the same for all, cancels in it."""
        task = task.settled()
        index, sizes = image.input, image.size_at_input(task.batch, activations.ndim - 2, self.layer)
        if not task.batch.is_float(index):
            raise ValueError(
                f"`{task.batch.layout.names[index]}` holds whole numbers, which cannot be faded by a mask. Use "
                "vis.AblationCAM or vis.GradCAM."
            )
        warn_of_far_zero(task.batch.layout.names[index], task.batch.arrays[index])
        positions = tuple(range(1, activations.ndim - 1))
        variances, live = activations.var(axis=positions), np.ptp(activations, axis=positions) > 0
        order = np.argsort(-variances, axis=-1, kind="stable")[:, : self._max_channels]

        def masks(images, numbers):
            return _stretched(resize(activations[images, ..., order[images, numbers]], sizes))

        masking = Masking(task.batch, image.input or 0, Masks(order.shape[1], len(sizes), masks))  # there is an input
        scores = task.scores_of(SCORES, masking.count, inputs=masking)
        scores = np.where(np.take_along_axis(live, order, axis=-1), scores, -np.inf)
        weights = np.zeros_like(variances)
        np.put_along_axis(weights, order, _softmax(scores), axis=-1)
        return weights


def _stretched(masks):
    """Scales each mask to [0, 1]."""
    positions = tuple(range(1, masks.ndim))
    low, high = masks.min(axis=positions, keepdims=True), masks.max(axis=positions, keepdims=True)
    return (masks - low) / np.where(high > low, high - low, 1)


def _softmax(values):
    top = values.max(axis=-1, keepdims=True)
    powers = np.exp(values - np.where(np.isfinite(top), top, 0))
    return powers / np.maximum(powers.sum(axis=-1, keepdims=True), 1e-30)
