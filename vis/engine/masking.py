"""Hiding parts of an input: which parts, and what is shown in their place.

`Masking` is what `vis.engine.tasks.Task.rows` takes as `inputs`: version k of a sample is the sample with part k
hidden. Parts are `Windows`, `Segments` or `Masks`; what is shown instead is a fill, an array with a value for each
position of each sample.
"""

import dataclasses
import itertools
import warnings
from collections.abc import Callable

import numpy as np

from vis.engine.inputs import Batch
from vis.utils.validation import VisualizationWarning, check_numeric

_FAR = 10  # of 0 from all values: times their own range
_BLUR = 1 / 16  # of the size along each axis, the standard deviation of the Gaussian


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows that slide over the positions; the last one of an axis reaches its end, whatever the stride.

    Args:
        shape: The spatial shape.
        size: The window's size along each axis.
        stride: The step along each axis.
    """

    shape: tuple
    size: tuple
    stride: tuple

    def __post_init__(self):
        sizes = zip(self.shape, self.size, self.stride)
        starts = [sorted({*range(0, whole - size + 1, step), whole - size}) for whole, size, step in sizes]
        corners = itertools.product(*starts)
        found = [tuple(slice(a, a + size) for a, size in zip(corner, self.size)) for corner in corners]
        object.__setattr__(self, "slices", found)

    @property
    def count(self) -> int:
        """The number of windows."""
        return len(self.slices)

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.shape)

    def covers(self) -> np.ndarray:
        """Returns how many windows cover each position."""
        found = np.zeros(self.shape)
        for window in self.slices:
            found[window] += 1
        return found

    def hide(self, rows, fills, images, numbers):
        """Hides a part of each row, in place; the rows have their channels last, or none."""
        for row, fill, number in zip(rows, fills, numbers):
            row[self.slices[number]] = fill[self.slices[number]]


@dataclasses.dataclass(frozen=True)
class Segments:
    """Segments of any form.

    Args:
        labels: Whole numbers from 0 on, in the spatial shape of a sample.
    """

    labels: np.ndarray

    @property
    def count(self) -> int:
        """The number of segments."""
        return int(self.labels.max()) + 1

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return self.labels.ndim

    def hide(self, rows, fills, images, numbers):
        """Hides a part of each row, in place; the rows have their channels last, or none."""
        for row, fill, number in zip(rows, fills, numbers):
            hidden = self.labels == number
            row[hidden] = fill[hidden]


@dataclasses.dataclass(frozen=True)
class Masks:
    """Masks that fade an input: 1 leaves it as it is, 0 hides it.

    Args:
        count: How many there are for each sample.
        rank: The number of spatial axes.
        draw: Function `(images, numbers) -> (B, *spatial)`: the masks of some rows, in [0, 1].
    """

    count: int
    rank: int
    draw: Callable

    def hide(self, rows, fills, images, numbers):
        """Fades each row, in place; the rows have their channels last, or none."""
        masks = self.draw(images, numbers)
        for channel, fill in _channels(rows, fills, masks.ndim):  # faster than broadcasting
            channel *= masks
            if np.any(fill):
                channel += (1 - masks) * fill


def _channels(rows, fills, rank):
    if rows.ndim == rank:
        return [(rows, fills)]
    return zip(np.moveaxis(rows, -1, 0), np.moveaxis(fills, -1, 0))


@dataclasses.dataclass(frozen=True)
class Masking:
    """Versions of samples with parts of one input hidden.

    Args:
        batch: The inputs, a `vis.engine.inputs.Batch`.
        index: Which of them is changed.
        parts: What is hidden: `Windows`, `Segments` or `Masks`.
        fill: What is shown instead, an array in the shape of that input; default zeros.
    """

    batch: Batch
    index: int
    parts: object
    fill: np.ndarray | None = None

    @property
    def count(self) -> int:
        """The number of versions of each sample."""
        return self.parts.count

    def __call__(self, images, numbers) -> list:
        """Returns the inputs of some rows, flat: sample `images[i]` with part `numbers[i]` hidden."""
        rows = self.batch.rows(images)
        changed = rows[self.index]
        fills = np.broadcast_to(np.zeros((), changed.dtype), changed.shape) if self.fill is None else self.fill[images]
        if self.batch.formats[self.index] == "channels_first" and self.parts.rank < changed.ndim - 1:
            changed, fills = np.moveaxis(changed, 1, -1), np.moveaxis(fills, 1, -1)
        self.parts.hide(changed, fills, images, numbers)
        return rows


def read_fill(baseline, values, form="channels_last") -> np.ndarray:
    """Returns what is shown where a batch of values is hidden, in their shape.

    Args:
        baseline: A number; an array that fits one sample or the batch; `"mean"`, each sample's mean over its
            positions, channel by channel; or `"blur"`, the sample blurred by a Gaussian whose standard deviation is
            a sixteenth of each axis.
        values: The values `(N, ...)`.
        form: Where their channels are.

    Raises:
        ValueError: The array does not fit, there is no fill of that name, or there are no positions to blur.
    """
    if isinstance(baseline, str):
        return _named_fill(baseline, values, form)
    array = check_numeric("baseline", baseline)
    try:
        return np.broadcast_to(array, values.shape)
    except ValueError:
        raise ValueError(
            f"`baseline` must be a number, or an array that fits one sample of shape {values.shape[1:]} or the batch. "
            f"Received: shape {array.shape}."
        ) from None


def _named_fill(name, values, form):
    if name not in ("mean", "blur"):
        raise ValueError(f"`baseline` must be a number, an array, 'mean' or 'blur'. Received: {name!r}.")
    if values.ndim < 3:
        raise ValueError(
            f"`baseline={name!r}` needs positions and channels, an input of rank 3 or more. Received: shape "
            f"{values.shape}. Give a number or an array."
        )
    axes = tuple(range(2, values.ndim) if form == "channels_first" else range(1, values.ndim - 1))
    if name == "mean":
        return np.broadcast_to(values.mean(axis=axes, keepdims=True), values.shape)
    from scipy import ndimage  # slow to import

    sigmas = [values.shape[axis] * _BLUR if axis in axes else 0 for axis in range(values.ndim)]
    return ndimage.gaussian_filter(values, sigmas, mode="nearest")


def warn_of_far_zero(name, values):
    """Says so where 0, which stands for what is hidden, is nothing like the values of an input."""
    if values.dtype.kind != "f":
        return
    low, high = float(values.min()), float(values.max())
    # Not of pale pictures, whose range has 0 in it.
    if high > low and max(low, -high) > max(_FAR * (high - low), 2):
        warnings.warn(
            f"What is hidden becomes 0 by default, far from the values of `{name}`. Received: values from {low:g} to "
            f"{high:g}. The model probably never saw such inputs. Give a `baseline=` where the method takes one, or "
            "let the model take inputs around 0.",
            VisualizationWarning,
            stacklevel=3,
        )
