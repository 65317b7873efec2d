"""Is the map where somebody says that the object is? Against boxes or masks that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vis.metrics.base import Metric, Reduction
from vis.utils.validation import check_count, check_numeric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class MaskMetric(Metric):
    """Base class of the metrics that compare with masks.

    Args:
        masks: Where the object is, `(N, *spatial)`: booleans, or 0 and 1.
        reduce: See `vis.metrics.Deletion`.

    Raises:
        ValueError: The masks are not 0 and 1, or one is empty or full.
    """

    needs_masks = True

    def __init__(self, masks: ArrayLike, reduce: Reduction = "absolute") -> None:
        super().__init__(reduce)
        self.masks = check_masks(masks)

    def measure(self, samples, maps, known):
        """Returns the metric of several maps."""
        if self.masks.shape != maps.shape[1:]:
            raise ValueError(
                f"`masks` must have the shape of the maps, {maps.shape[1:]}. Received: {self.masks.shape}. Resize them "
                "without mixing: `vis.utils.images.resize(masks, (H, W)) > 0.5`."
            )
        return np.array([[self.of_one(one, mask) for one, mask in zip(row, self.masks)] for row in maps])

    def of_one(self, values: np.ndarray, mask: np.ndarray) -> float:
        """Returns the metric of one map."""
        raise NotImplementedError(f"{type(self).__name__} must define `of_one(values, mask)`.")


class PointingGame(MaskMetric):
    """Whether the largest value lies in the mask: 1 or 0; where several are largest, the part of them that does.

    So a constant map scores as the mask's part of the image.

    Source: Zhang et al. 2018, "Top-down Neural Attention by Excitation Backprop", section 4.2.

    Args:
        masks: Where the object is, `(N, *spatial)`: booleans, or 0 and 1.
        tolerance: How many positions beside the mask still count, along each axis and at the corners. Default 0; the
            paper takes 15 pixels.
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1]; higher is better.

    Raises:
        ValueError: The masks are not 0 and 1, of another shape than the maps, or one is empty or full.

    Examples:
        >>> PointingGame([[[1, 0], [0, 0]]])(np.zeros((1, 2, 2)), np.array([[[3.0, 1.0], [2.0, 0.0]]])).tolist()
        [1.0]
    """

    name = "pointing-game"

    def __init__(self, masks: ArrayLike, tolerance: int = 0, reduce: Reduction = "absolute") -> None:
        super().__init__(masks, reduce)
        self._tolerance = check_count("tolerance", tolerance)

    def of_one(self, values, mask):
        """Returns the part of the largest values that hits."""
        from scipy import ndimage  # slow to import

        wide = ndimage.maximum_filter(mask, 2 * self._tolerance + 1) if self._tolerance else mask
        return float(wide[values == values.max()].mean())


class RelevanceMass(MaskMetric):
    """The part of the positive relevance that lies in the mask. Without positive relevance: the mask's part.

    Source: Arras et al. 2022, "CLEVR-XAI", section 3.3.

    Args:
        masks: Where the object is, `(N, *spatial)`: booleans, or 0 and 1.
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1]; higher is better.

    Raises:
        ValueError: The masks are not 0 and 1, of another shape than the maps, or one is empty or full.

    Examples:
        >>> RelevanceMass([[[1, 0], [0, 0]]])(np.zeros((1, 2, 2)), np.array([[[3.0, 1.0], [0.0, -9.0]]])).tolist()
        [0.75]
    """

    name = "relevance-mass"

    def of_one(self, values, mask):
        """Returns the part inside."""
        positive = np.maximum(values.astype("float64"), 0)
        return float(positive[mask].sum() / positive.sum()) if positive.sum() > 0 else float(mask.mean())


class RelevanceRank(MaskMetric):
    """Which part of the K largest values lies in the mask, which has K positions; ties count by their part.

    Source: Arras et al. 2022, "CLEVR-XAI", section 3.3.

    Args:
        masks: Where the object is, `(N, *spatial)`: booleans, or 0 and 1.
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1]; higher is better.

    Raises:
        ValueError: The masks are not 0 and 1, of another shape than the maps, or one is empty or full.

    Examples:
        >>> RelevanceRank([[[1, 1], [0, 0]]])(np.zeros((1, 2, 2)), np.array([[[3.0, 1.0], [2.0, 0.0]]])).tolist()
        [0.5]
    """

    name = "relevance-rank"

    def of_one(self, values, mask):
        """Returns the part of the largest that hits."""
        size = int(mask.sum())
        least = np.partition(values.ravel(), values.size - size)[values.size - size]
        above, tied = values > least, values == least
        return float((mask[above].sum() + mask[tied].mean() * (size - above.sum())) / size)


def check_masks(masks) -> np.ndarray:
    """Returns masks as booleans, or raises."""
    array = check_numeric("masks", masks)
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"`masks` must be a batch, (N, *spatial). Received: shape {array.shape}. For one mask, `masks[None]`."
        )
    if not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"`masks` must be 0 and 1, or booleans. Received: values from {array.min():g} to {array.max():g}. Compare "
            "with a level: `masks > 0.5`."
        )
    parts = array.reshape(len(array), -1).mean(axis=1)
    wrong = np.flatnonzero((parts == 0) | (parts == 1))
    if len(wrong):
        raise ValueError(
            f"Each of the `masks` must have positions inside and outside. Received: masks[{wrong[0]}], which is "
            f"{'full' if parts[wrong[0]] else 'empty'}. Leave that sample out."
        )
    return array.astype(bool)
