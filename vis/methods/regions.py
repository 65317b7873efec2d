"""Attribution by regions: single attributions gathered into the segments of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.masking import read_fill
from vis.methods.integrated import IntegratedGradients
from vis.methods.perturbation import PerturbationExplainer
from vis.utils.images import resize
from vis.utils.validation import check_unmasked

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

    from vis.engine.tasks import Task
    from vis.utils.types import Index, LayerLike

# Of the authors' code, for images of 224 by 224 pixels.
_SIDE = 224
_SCALES = (50, 100, 150, 250, 500, 1200)
_SMOOTHING = 0.8
_LEAST_SEGMENT = 150
_DILATION = 5
_LEAST_GAIN = 50


class XRAI(PerturbationExplainer):
    """Which regions speak for the score most: segments of the image, ranked by their integrated gradients.

    The image is cut into overlapping segments, coarse and fine. From nothing, the region grows by the segment that adds
    the highest mean attribution, until all is covered; each position gets the mean of the step that took it. Easier to
    read than single pixels. Its limits: the map can be no truer than the edges between the segments, which come
    from the colours of the image and not from the network; and all of a segment gets one number.

    Source: Kapishnikov et al. 2019, "XRAI: Better Attributions Through Regions", algorithm 1 (and the authors' code for
    the numbers in it). The attributions are integrated gradients from black and from white, averaged, of which the
    highest over the channels counts. Sizes in pixels are those for 224 by 224, and follow the image's size.

    Args:
        model: Any built or callable Keras model. Not changed.
        segments: Default `None`: those of Felzenszwalb's method at six scales, each widened by 5 pixels, which needs
            the package scikit-image (the extra `segments`) and an image with two spatial axes. Or whole
            numbers from 0 on, the segment of each position, `(*spatial)` or `(N, *spatial)`; or masks of True and
            False, `(segments, *spatial)`, which may overlap.
        steps: How many gradients from each baseline, at least 1. Default 50.
        baseline: A number, or an array that fits one sample or the batch. Default `None`: the least and the largest
            value of each sample, all over: black and white.
        input_name: Which of several inputs is meant: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, signed, in units of the
        score per value of the input.

    Raises:
        ValueError: The segments do not fit, the input is no image, or another argument is wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: scikit-image is missing, and no segments are given.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[4.0], [2.0], [1.0], [0.0]]), np.zeros(1)])
        >>> explainer = XRAI(model, segments=np.array([[0, 0], [1, 1]]), baseline=0.0)
        >>> explainer(np.ones((1, 2, 2, 1))).round(3).tolist()
        [[[3.0, 3.0], [0.5, 0.5]]]
    """

    def __init__(
        self,
        model: keras.Layer,
        segments: ArrayLike | None = None,
        steps: int = 50,
        baseline: ArrayLike | None = None,
        *,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self._integrated = IntegratedGradients(model, steps, output_layer=output_layer, logits=logits)
        self._segments = None if segments is None else _read_segments(segments)
        self._baseline = baseline

    def explain(self, task: Task) -> np.ndarray:
        """Returns for each position the mean attribution of the segment that took it."""
        batch, index = task.batch, self.perturbed(task.batch)
        if not batch.is_float(index):
            raise ValueError(
                f"`{batch.layout.names[index]}` holds whole numbers, which have no gradient. Received: "
                f"{batch.arrays[index].dtype}. Explain another input by `input_name=`."
            )
        shape = self.spatial_shape(batch, index)
        self._check_segments(batch.layout.names[index], batch.count, shape)
        shares = self._shares(task, index, shape)
        images = self._channels_last(batch, index, len(shape))
        pairs = (self._masks(number, image) for number, image in enumerate(images))
        return np.stack([ranked(share, masks, least) for share, (masks, least) in zip(shares, pairs)])

    def _shares(self, task, index, shape):
        """Returns the attributions `(N, *spatial)`: means over the baselines, the highest over the channels."""
        inner = task.on(self._integrated.evaluator).settled()
        values = inner.batch.arrays
        total = 0.0
        starts = self._starts(values[index])
        for start in starts:
            one = [start if i == index else value for i, value in enumerate(values)]
            total = total + self._integrated.integrals(inner, values, one)[index] / len(starts)
        if total.ndim == len(shape) + 1:
            return total
        return total.max(axis=1 if task.batch.formats[index] == "channels_first" else -1)

    def _starts(self, value):
        if self._baseline is not None:
            return [read_fill(self._baseline, value)]
        axes = tuple(range(1, value.ndim))
        ends = [extreme(value, axis=axes, keepdims=True) for extreme in (np.min, np.max)]
        return [np.broadcast_to(end, value.shape) for end in ends]

    @staticmethod
    def _channels_last(batch, index, rank):
        array = batch.arrays[index]
        if array.ndim == rank + 1:
            return array[..., None]
        return np.moveaxis(array, 1, -1) if batch.formats[index] == "channels_first" else array

    def _check_segments(self, name, count, shape):
        given = self._segments
        if given is None and len(shape) != 2:
            raise ValueError(
                f"`segments` must be given where `{name}` is no image with two spatial axes. Received: positions of "
                f"shape {shape}. Give whole numbers of that shape, the segment of each position, such as "
                "`np.arange(100) // 10` for a signal."
            )
        if given is None:
            import_segmentation()
        elif given.dtype == bool and given.shape[1:] != shape:
            raise ValueError(
                f"`segments` as masks must have the shape (segments, {', '.join(map(str, shape))}). Received: "
                f"{given.shape}. Give one mask of True and False for each segment, in the size of `{name}`."
            )
        elif given.dtype != bool and given.shape not in (shape, (count, *shape)):
            raise ValueError(
                f"`segments` must have the shape of the positions, {shape}, or {(count, *shape)} with a row for each "
                f"sample. Received: {given.shape}. Give the segment of each position, a whole number from 0 on."
            )

    def _masks(self, number, image):
        """Returns masks `(segments, positions)` of an image, and the fewest positions that one must add."""
        given = self._segments
        if given is None:
            return felzenszwalb_masks(image)
        if given.dtype == bool:
            return given.reshape(len(given), -1), 1
        labels = (given if given.ndim == image.ndim - 1 else given[number]).reshape(-1)
        return np.unique(labels)[:, None] == labels, 1


def _read_segments(segments):
    check_unmasked("segments", segments)
    array = np.array(segments)
    if array.dtype.kind not in "iub" or array.size == 0 or array.ndim == 0 or array.min() < 0:
        least = f", least value {array.min()}" if array.size and array.dtype.kind in "iuf" else ""
        raise ValueError(
            "`segments` must be an array of whole numbers from 0 on, the segment of each position, or of masks of True "
            f"and False. Received: {array.dtype}, shape {array.shape}{least}. For numbers with fractions, use "
            "`segments.astype(int)`."
        )
    return array


def import_segmentation() -> Any:
    """Returns scikit-image's `segmentation`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        from skimage import segmentation
    except ImportError:
        raise ImportError(
            "The segments of an image are found by the package scikit-image, which is not installed. Install it, "
            "`pip install scikit-image`, or give `segments=`, the segment of each position."
        ) from None
    return segmentation


def felzenszwalb_masks(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the segments of an image at six scales, and the fewest positions that one must add to the region.

    Args:
        image: `(H, W, C)`.

    Returns:
        `(masks (segments, H W), least)`.
    """
    segmentation = import_segmentation()
    height, width = image.shape[:2]
    low, high = float(image.min()), float(image.max())
    scaled = 2 * (image - low) / (high - low or 1.0) - 1
    if (height, width) != (_SIDE, _SIDE):
        scaled = resize(scaled[None], (_SIDE, _SIDE))[0]
    rows, columns = (((np.arange(size) + 0.5) * _SIDE / size).astype(int) for size in (height, width))
    radius, found = round(_DILATION * min(height, width) / _SIDE), []
    for scale in _SCALES:
        options = {"scale": scale, "sigma": _SMOOTHING, "min_size": _LEAST_SEGMENT}
        labels = segmentation.felzenszwalb(scaled.astype("float64"), **options)
        found.append(widened(labels[rows[:, None], columns], radius))
    masks = np.concatenate(found)
    return masks.reshape(len(masks), -1), max(1, round(_LEAST_GAIN * height * width / _SIDE**2))


def widened(labels: np.ndarray, radius: int) -> np.ndarray:
    """Returns the segments `(H, W)` of an image as masks `(segments, H, W)`, widened by a circle of a radius."""
    from scipy import ndimage  # slow to import

    steps = np.arange(-radius, radius + 1)
    circle = steps[:, None] ** 2 + steps**2 <= radius**2
    boxes = [(i, box) for i, box in enumerate(ndimage.find_objects(labels + 1)) if box is not None]
    masks = np.zeros((len(boxes), *labels.shape), bool)
    for mask, (label, box) in zip(masks, boxes):  # only around the segment, which is small
        around = tuple(slice(max(0, side.start - radius), side.stop + radius) for side in box)
        mask[around] = ndimage.binary_dilation(labels[around] == label, circle)
    return masks


def ranked(shares: np.ndarray, masks: np.ndarray, least: int) -> np.ndarray:
    """Grows a region by the segment with the highest mean of what it adds, until nothing is left to add.

    Args:
        shares: The attribution of each position, `(*spatial)`.
        masks: The segments, `(segments, positions)`.
        least: The fewest positions that a segment must add.

    Returns:
        float32 `(*spatial)`: the mean of the step that took a position; for what no step took, the mean of that.
    """
    flat = shares.reshape(-1).astype("float64")
    counts, sums = masks.sum(axis=1), np.array([flat[mask].sum() for mask in masks])
    free, found = np.ones(flat.size, bool), np.zeros(flat.size)
    while True:
        means = np.where(counts >= least, sums / np.maximum(counts, 1), -np.inf)
        best = int(means.argmax())
        if counts[best] < least:
            break
        added = np.flatnonzero(masks[best] & free)
        found[added], free[added] = flat[added].mean(), False
        taken = masks[:, added]
        counts, sums = counts - taken.sum(axis=1), sums - (taken * flat[added]).sum(axis=1)
    if free.any():
        found[free] = flat[free].mean()
    return found.reshape(shares.shape).astype("float32")
