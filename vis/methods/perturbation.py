"""Attribution by perturbation: what happens to the score when parts of the input are hidden.

These need no gradient, only the model's output, which is explained as it is by default.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import layers

from vis.engine.feature_maps import by_size
from vis.engine.inputs import named_input
from vis.engine.masking import Masking, Masks, Windows, read_fill, warn_of_far_zero
from vis.engine.requests import SCORES
from vis.engine.tokens import no_token, plain_inputs
from vis.methods.explainer import Explainer
from vis.utils.hints import first_text
from vis.utils.images import read_between
from vis.utils.internals import consumers, producer
from vis.utils.outputs import known_shape
from vis.utils.seeds import fresh_seed
from vis.utils.validation import VisualizationWarning, check_count, check_fraction, is_integer, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from vis.engine.inputs import Batch
    from vis.engine.tasks import Task
    from vis.utils.types import Index, LayerLike


# What leaves an input as it is but for its values, and what gives it other axes.
_KEEPING = (layers.Rescaling, layers.Normalization, layers.BatchNormalization, layers.Dropout, layers.GaussianNoise)
_FEW_CHANNELS = 4  # no image is that narrow
_RESHAPING = ("Reshape", "ExpandDims", "GetItem", "Flatten", "Lambda")


class PerturbationExplainer(Explainer):
    """Base class of the methods that look at the positions of one input, such as those that hide parts of it.

    Of several inputs, the image (or volume, or signal) is meant; the others stay as they are. Inputs whose names
    say that they are masks, segments or positions are never meant by themselves.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    def __init__(
        self,
        model: keras.Layer,
        *,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, output_layer, logits)
        if not (input_name is None or isinstance(input_name, str) or is_integer(input_name)):
            raise TypeError(f"`input_name` must be a name or a number. Received: {shown(input_name)}.")
        self._input_name = input_name

    def perturbed(self, batch: Batch) -> int:
        """Returns which input is perturbed."""
        if self._input_name is not None:
            return named_input(self.model, batch, self._input_name)
        first, *others = by_size(batch, plain_inputs(self.model, batch) or None)
        sizes = [
            np.prod(batch.spatial_shape(index)) if array.ndim > 2 else 0 for index, array in enumerate(batch.arrays)
        ]
        alike = [index for index in others if 2 * sizes[index] >= sizes[first]]
        if alike:
            names = ", ".join(f"`{batch.layout.names[index]}` {batch.arrays[index].shape}" for index in [first, *alike])
            raise ValueError(
                f"`input_name` must be given, as several inputs of the model may be meant: {names}. Give the name or "
                "the number of the one whose parts are hidden."
            )
        return first

    def spatial_shape(self, batch: Batch, index: int) -> tuple:
        """Returns the shape of the map of one sample."""
        shape, whole = batch.spatial_shape(index), batch.arrays[index].shape
        if self.vocabulary(batch, index):
            return whole[1:]
        if not shape:
            raise ValueError(
                f"`{batch.layout.names[index]}` must have at least one axis besides the batch, to hide parts of it. "
                f"Received: shape {whole}."
            )
        return whole[1:] if is_image_without_channels(self.model, batch, index) else shape

    def vocabulary(self, batch: Batch, index: int) -> int:
        """Returns how many token ids there are for an input that goes into an embedding as it is; 0 for any other."""
        return min((one.size for one in self.evaluator.lookups(batch) if one.index == index), default=0)


def is_image_without_channels(model: keras.Layer, batch: Batch, index: int) -> bool:
    """Tells whether the model makes an input `(N, H, W)` into images; where it flattens it, says that this is unclear.

    Args:
        model: The model.
        batch: The inputs.
        index: Which of them.
    """
    whole = batch.arrays[index].shape
    becomes = _first_use(model, index) if len(whole) == 3 and whole[-1] > _FEW_CHANNELS else None
    if becomes == "flat":
        warnings.warn(
            f"`{batch.layout.names[index]}` of shape {whole} are taken for signals of {whole[-1]} channels, each row "
            "being one position. If they are images, give a `patch` that is a pair (vis.Occlusion), or begin the "
            "model with a Reshape that adds the channel axis.",
            VisualizationWarning,
            stacklevel=3,
        )
    return becomes == "image"


def _first_use(model, index):
    """Returns what an input (N, a, b) of a model is made into: "image", if it gets more axes, "flat", or `None`."""
    inputs = getattr(model, "inputs", None) or []
    queue = [producer(tensor) for tensor in inputs[index : index + 1]]
    while queue:
        for operation in consumers(queue.pop(0)):
            rank = len(known_shape(operation) or ())
            if isinstance(operation, keras.Model):
                queue += [producer(tensor) for tensor in operation.inputs or [] if len(tensor.shape) == 3]
            elif rank == 3 and isinstance(operation, _KEEPING):
                queue.append(operation)
            elif type(operation).__name__ in _RESHAPING and rank != 3:
                return "image" if rank > 3 else "flat"
    return None


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
            eighth of each axis; one token of a text. Inputs `(N, H, W)` are taken for signals of W channels,
            unless the model gives them more axes; a pair makes them images without a channel axis.
        stride: Step between windows, at most `patch`, in the same form. Default `None`: half the patch.
            The last window of an axis reaches its end, whatever the stride.
        baseline: What stands in the window: a number, an array that fits one sample or the batch, `"mean"` (each
            sample's mean over its positions, for each channel) or `"blur"` (the sample itself, blurred). For a text, a
            token id, such as that of the tokenizer's mask or padding token. Default `None`: 0, which is the padding
            token of many tokenizers and a word for some (GPT-2, CLIP).
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, signed, in units of the
        score: positive where hiding lowers it. For vectors `(N, features)`.

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
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self._patch, self._stride = _read_sizes("patch", patch), _read_sizes("stride", stride)
        self._baseline = baseline

    def explain(self, task: Task) -> np.ndarray:
        """Returns the mean score drop over the windows that cover each position."""
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
            _check_ids(fill, vocabulary)
            kept = self._kept(batch, index)
            fill = fill if kept is None else np.where(kept, fill, array)  # windows may reach into the padding
        return Masking(batch, index, self._windows(shape, bool(vocabulary)), fill)

    def _windows(self, shape, are_tokens):
        size = [1 if are_tokens else max(1, size // 8) for size in shape]
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


def _check_ids(fill, vocabulary):
    if (fill != np.round(fill)).any() or fill.min() < 0 or fill.max() >= vocabulary:
        raise ValueError(
            f"`baseline` must be a token id from 0 to {vocabulary - 1}, as tokens are hidden. Received: values from "
            f"{fill.min():g} to {fill.max():g}. Take the id of the tokenizer's mask or padding token."
        )


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


class RISE(PerturbationExplainer):
    """The score averaged over random masks that leave a position visible.

    Needs nothing but the output. Its limits: thousands of forward passes, and a grain that fades only
    with their number.

    Source: Petsiuk et al. 2018, "RISE", equation 6 and section 3.2. The masks are the same for every sample.

    Args:
        model: Any built or callable Keras model. Not changed.
        num_masks: How many masks, at least 1. Default 4000.
        grid: Cells of the masks along each axis, at least 1. Default 8.
        probability: How likely a cell is visible, in (0, 1]. Default 0.5.
        seed: Seed of the masks. Default `None`: others at each call.
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, in units of the score:
        the expected score given that a position is visible. It is above 0 all over: to draw it, subtract each map's
        minimum first.

    Raises:
        ValueError: An argument is wrong, or the input holds whole numbers, which have no half.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        >>> map = RISE(model, num_masks=500, grid=4, seed=0)(np.ones((1, 8, 8, 1)), target=0)[0]
        >>> bool(map[0, 0] > map[7, 7])
        True
    """

    def __init__(
        self,
        model: keras.Layer,
        num_masks: int = 4000,
        grid: int = 8,
        probability: float = 0.5,
        seed: int | None = None,
        *,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self._num_masks = check_count("num_masks", num_masks, 1)
        self._grid = check_count("grid", grid, 1)
        self._probability = check_fraction("probability", probability)
        self._seed = None if seed is None else check_count("seed", seed)

    def explain(self, task: Task) -> np.ndarray:
        """Returns the sum of the masks weighted by the scores, over n p."""
        index = self.perturbed(task.batch)
        if not task.batch.is_float(index) or self.vocabulary(task.batch, index):
            raise ValueError(
                f"`{task.batch.layout.names[index]}` holds whole numbers, which cannot be faded by a mask. "
                "Use vis.Occlusion."
            )
        warn_of_far_zero(task.batch.layout.names[index], task.batch.arrays[index])
        shape, seed = self.spatial_shape(task.batch, index), fresh_seed(self._seed)
        task = task.settled()

        @functools.lru_cache(3 * task.batch_size)  # each mask is used again when its score is known
        def mask(number):
            return self._mask(shape, seed, number)

        def masks(numbers):
            return np.stack([mask(number) for number in numbers])

        parts = Masks(self._num_masks, len(shape), lambda _, numbers: masks(numbers))
        masking = Masking(task.batch, index, parts)

        def weighted(image, numbers, results):
            return [np.einsum("r,r...->...", results["score"], masks(numbers))]

        def finish(image, totals):
            return [totals[0] / (self._num_masks * self._probability)]

        (maps,) = task.reduce(SCORES, masking.count, weighted, finish, inputs=masking)
        return maps

    def _mask(self, shape, seed, number):
        """Returns one mask: a random grid one cell larger than the image, resized and shifted."""
        draw = np.random.Generator(np.random.SFC64([seed, number]))
        mask = (draw.random([self._grid + 1] * len(shape)) < self._probability).astype("float32")
        cells = [-(-size // self._grid) for size in shape]
        for axis, (size, cell) in enumerate(zip(shape, cells)):
            mask = read_between(mask, axis, (np.arange(size) + draw.integers(cell) + 0.5) / cell - 0.5)
        return mask
