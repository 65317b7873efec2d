"""Occlusion: what is lost when a window, or a feature, is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.designs import Left
from vis.engine.masking import Masking, Windows, read_fill, warn_of_far_zero
from vis.engine.requests import SCORES
from vis.engine.tokens import no_token
from vis.methods.features import FeatureExplainer
from vis.methods.perturbation import PerturbationExplainer, check_ids
from vis.utils.hints import first_text
from vis.utils.validation import check_count, is_integer, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    from numpy.typing import ArrayLike

    from vis.engine.tasks import Task
    from vis.utils.types import Index, LayerLike, Maps


class _OneByOne(FeatureExplainer):
    """Hides each feature by itself."""

    asks_baseline = False

    def design(self, count: int, seed: int, pairs: int = 1) -> Left:
        """Returns the coalitions that leave one feature out."""
        return Left(count)


class Occlusion(PerturbationExplainer):
    """How much of the score is lost, on average, when a window over a position is hidden.

    Easy to read and true to the model. Its limits: the window's size decides what is seen, the baseline
    is an input that the model never saw, and it costs a forward pass for each window.

    Of a text, given as token ids, tokens are hidden one by one, by another token in their place; what is padding, by
    the padding mask or because the embedding masks the id 0, gets 0.

    Source: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.

    Args:
        model: Any built or callable Keras model. Not changed.
        patch: Size of the window in pixels: a number, or one for each spatial axis. Default `None`: an
            eighth of each axis; one token of a text, one column of a table. Inputs `(N, H, W)` are taken for signals of
            W channels, unless the model gives them more axes; a pair makes them images without a channel axis.
        stride: Step between windows, at most `patch`, in the same form. Default `None`: half the patch.
            The last window of an axis reaches its end, whatever the stride.
        baseline: What stands in the window: a number, an array that fits one sample or the batch, `"mean"` (each
            sample's mean over its positions, for each channel) or `"blur"` (the sample itself, blurred). For a text, a
            token id, such as that of the tokenizer's mask or padding token. Default `None`: 0, which is the padding
            token of many tokenizers and a word for some (GPT-2, CLIP).
        features: In place of windows: what is hidden together, each feature by itself, see `vis.ShapleyValues`; then a
            `baseline` of several samples is a background. Default `None`.
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, signed, in units of the
        score: positive where hiding lowers it. For vectors `(N, columns)`.

    Warns:
        VisualizationWarning: The default baseline is far from the values of the input; or `(N, H, W)`
            may be images.

    Raises:
        ValueError: A patch is larger than the image or smaller than the stride, or another argument
            is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.GlobalAveragePooling2D()])
        >>> Occlusion(model, patch=1)(np.array([[[[4.0], [0.0]], [[8.0], [-4.0]]]])).tolist()
        [[[1.0, 0.0], [2.0, -1.0]]]
    """

    def __init__(
        self,
        model: keras.Layer,
        patch: Index | Sequence[Index] | None = None,
        stride: Index | Sequence[Index] | None = None,
        baseline: ArrayLike | None = None,
        *,
        features: Any = None,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self._patch, self._stride = _read_sizes("patch", patch), _read_sizes("stride", stride)
        self._baseline = baseline
        if features is not None and (patch is not None or stride is not None or input_name is not None):
            raise ValueError(
                "`features` says itself what is hidden, and in which input. Received: `patch`, `stride` or "
                "`input_name` besides. Leave these out."
            )
        filled = 0.0 if baseline is None else baseline
        self._parts = None
        if features is not None:
            self._parts = _OneByOne(model, features, filled, output_layer=output_layer, logits=logits)

    def explain(self, task: Task) -> Maps:
        """Returns the mean score drop over the windows that cover each position, or of the feature it belongs to."""
        if self._parts is not None:
            return self._parts.explain(task.on(self._parts.evaluator))
        index = self.perturbed(task.batch)
        array = task.batch.arrays[index]
        without_channels = array.ndim == 3 and isinstance(self._patch, list) and len(self._patch) == 2
        shape = array.shape[1:] if without_channels else self.spatial_shape(task.batch, index)
        masking = self._masking(task.batch, index, shape)
        windows, task = masking.parts, task.settled()
        scores, kept = task.scores(), self._kept(task.batch, index)

        def drops(image, numbers, results):
            found = np.zeros(shape)
            for number, score in zip(numbers, results["score"]):
                found[windows.slices[number]] += scores[image] - score
            return [found]

        covers = windows.covers()
        (maps,) = task.reduce(SCORES, masking.count, drops, lambda _, totals: [totals[0] / covers], inputs=masking)
        return maps if kept is None else np.where(kept, maps, np.float32(0))

    def _kept(self, batch, index):
        """Returns which tokens of a text are no padding, or `None` for other inputs, or where nothing tells."""
        return self.evaluator.kept_tokens(batch, index) if self.vocabulary(batch, index) else None

    def _masking(self, batch, index, shape):
        array, form, vocabulary = batch.arrays[index], batch.formats[index], self.vocabulary(batch, index)
        if self._baseline is None and not vocabulary:
            warn_of_far_zero(batch.layout.names[index], array)
        if vocabulary and first_text(self._baseline) is not None:
            raise no_token("baseline", self._baseline, vocabulary)
        # as floats, which hold fractions too: these are told of as ids
        fill = read_fill(0.0 if self._baseline is None else self._baseline, np.float32(array), form)
        if vocabulary:
            check_ids(fill, vocabulary)
            kept = self._kept(batch, index)
            fill = fill if kept is None else np.where(kept, fill, array)  # windows may reach into the padding
        return Masking(batch, index, self._windows(shape, bool(vocabulary) or array.ndim == 2), fill)

    def _windows(self, shape, one_by_one):
        size = [1 if one_by_one else max(1, size // 8) for size in shape]
        patch = _per_axis("patch", self._patch, shape, size)
        stride = _per_axis("stride", self._stride, shape, [max(1, size // 2) for size in patch])
        if any(p > size for p, size in zip(patch, shape)):
            raise ValueError(
                f"`patch` must not be larger than the input. Received: {shown(patch)} for an input of size {shape}."
            )
        if any(s > p for s, p in zip(stride, patch)):
            raise ValueError(
                f"`stride` must not be larger than `patch`, or positions are left out. Received: {shown(stride)} "
                f"and {shown(patch)}."
            )
        return Windows(tuple(shape), tuple(patch), tuple(stride))


def _read_sizes(name, value):
    if value is None or is_integer(value):
        return value if value is None else check_count(name, value, 1)
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"`{name}` must be a whole number, or one for each spatial axis. Received: {shown(value)}.")
    return [check_count(name, one, 1) for one in value]


def _per_axis(name, value, shape, default):
    if value is None:
        return default
    if is_integer(value):
        return [value] * len(shape)
    if len(value) != len(shape):
        raise ValueError(
            f"`{name}` must have one number for each of {len(shape)} spatial axes, {shape}. Received: "
            f"{shown(tuple(value))}."
        )
    return value
