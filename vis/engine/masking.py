"""Hiding parts of an input: which parts, and what is shown in their place.

`Masking` is what `vis.engine.tasks.Task.rows` takes as `inputs`: version k of a sample is the sample with part k
hidden. Parts are `Windows`, `Segments` or `Masks`; what is shown instead is a fill, an array with a value for each
position of each sample. `Hiding` is the same for positions that a function chooses, and for fills that depend on
them: `Values`, `Background`, or `vis.engine.imputation.Imputation`.
"""

import dataclasses
import itertools
import warnings
from collections.abc import Callable

import numpy as np

from vis.engine.inputs import Batch
from vis.utils.validation import VisualizationWarning, check_numeric, shown

_FAR = 10  # of 0 from all values: times their own range
_WIDE = 10  # no column with mean 0 and deviation 1 goes that far
_FAR_MEAN = 2  # standard deviations
_SMALL = 1024  # numbers of a row that is not worth a step of its own
_FEW_CHANNELS = 4  # of which one after the other is faster than all at once, where most holes are wide
_BLUR = 1 / 16  # of the size along each axis, the standard deviation of the Gaussian


@dataclasses.dataclass(eq=False, repr=False)
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
        self.slices = found

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

    def hide(self, rows, fill, images, numbers):
        """Hides a part of each row, in place; rows and fill `(N, ...)` have their channels last, or none."""
        for row, image, number in zip(rows, images, numbers):
            row[self.slices[number]] = 0 if fill is None else fill[image][self.slices[number]]


@dataclasses.dataclass(eq=False, repr=False)
class Segments:
    """Segments of any form.

    Args:
        labels: Whole numbers from 0 on, in the spatial shape of a sample.
    """

    labels: np.ndarray

    def __post_init__(self):
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu" or labels.size == 0 or labels.min() < 0:
            raise ValueError(
                "`labels` must be whole numbers from 0 on, the segment of each position. Received: an array of "
                f"{labels.dtype}, shape {labels.shape}{f', least {labels.min()}' if labels.size else ''}."
            )
        self.labels = labels

    @property
    def shape(self) -> tuple:
        """The spatial shape."""
        return self.labels.shape

    @property
    def count(self) -> int:
        """The number of segments."""
        return int(self.labels.max()) + 1

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return self.labels.ndim

    def hide(self, rows, fill, images, numbers):
        """Hides a part of each row, in place; rows and fill `(N, ...)` have their channels last, or none."""
        for row, image, number in zip(rows, images, numbers):
            hidden = self.labels == number
            row[hidden] = 0 if fill is None else fill[image][hidden]


@dataclasses.dataclass(eq=False, repr=False)
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

    def hide(self, rows, fill, images, numbers):
        """Fades each row, in place; rows and fill `(N, ...)` have their channels last, or none."""
        masks = self.draw(images, numbers)
        own = (Ellipsis,) if rows.ndim == masks.ndim else tuple((Ellipsis, i) for i in range(rows.shape[-1]))
        for channel in own:  # faster than broadcasting
            rows[channel] *= masks
            if fill is not None:
                rows[channel] += (1 - masks) * fill[images][channel]


@dataclasses.dataclass(eq=False, repr=False)
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

    def __post_init__(self):
        shape, spatial = self.batch.arrays[self.index].shape[1:], self.batch.spatial_shape(self.index)
        if hasattr(self.parts, "shape") and self.parts.shape not in (spatial, shape):
            raise ValueError(
                f"The parts must have the spatial shape of the input, {spatial}. Received: {self.parts.shape}."
            )

    def __call__(self, images, numbers) -> list:
        """Returns the inputs of some rows, flat: sample `images[i]` with part `numbers[i]` hidden."""
        rows, fill = self.batch.rows(images), self.fill
        changed = rows[self.index]
        if self.batch.formats[self.index] == "channels_first" and self.parts.rank < changed.ndim - 1:
            changed, fill = np.moveaxis(changed, 1, -1), None if fill is None else np.moveaxis(fill, 1, -1)
        self.parts.hide(changed, fill, images, numbers)
        return rows


@dataclasses.dataclass(eq=False, repr=False)
class Values:
    """A fill that has a value for each position of each sample.

    Args:
        array: In the shape of the input.
    """

    array: np.ndarray
    versions = 1

    def rows(self, images, versions):
        """Returns what is shown instead of some rows."""
        return self.array[images]

    def show(self, rows, hidden, images, versions):
        """Puts its values where rows are hidden, in place; rows and array have their channels last, or none."""
        _put_all(rows, hidden, self.array, images)


@dataclasses.dataclass(eq=False, repr=False)
class Background:
    """A fill of several samples: what is hidden is shown as in each of them, and the scores are averaged.

    Args:
        samples: `(M, ...)`, each in the shape of one sample of the input.

    Examples:
        >>> Background(np.zeros((3, 8, 8, 1))).versions
        3
    """

    samples: np.ndarray

    def __post_init__(self):
        self.samples = check_numeric("samples", self.samples)
        if self.samples.ndim < 2 or not self.samples.size:
            raise ValueError(
                "`samples` of a background must be a batch of inputs, at least one. Received: shape "
                f"{self.samples.shape}. For one sample, give it as the fill itself."
            )

    @property
    def versions(self) -> int:
        """How many versions there are of a sample with one part hidden."""
        return len(self.samples)

    def rows(self, images: np.ndarray, versions: np.ndarray) -> np.ndarray:
        """Returns what is shown instead of some rows."""
        return self.samples[versions]

    def show(self, rows: np.ndarray, hidden: np.ndarray, images: np.ndarray, versions: np.ndarray) -> None:
        """Puts sample `versions[i]` where row i is hidden, in place."""
        _put_all(rows, hidden, self.samples, versions)


def _put_all(rows, hidden, values, numbers):
    """Puts values `[numbers[i]]` into row i where it is hidden, in place."""
    if rows.ndim == hidden.ndim and rows[0].size <= _SMALL:  # many short rows at once
        np.copyto(rows, values[numbers], where=hidden, casting="unsafe")
        return
    for row, out, number in zip(rows, hidden, numbers):
        _put(row, values[number], out)


def _put(row, values, out):
    """Puts values into a row where a mask of its positions says so, in place; many times faster than by index."""
    if row.ndim == out.ndim:
        np.copyto(row, values, where=out, casting="unsafe")
    elif row.shape[-1] <= _FEW_CHANNELS:
        for channel in range(row.shape[-1]):
            np.copyto(row[..., channel], values[..., channel], where=out, casting="unsafe")
    else:
        np.copyto(row, values, where=np.repeat(out[..., None], row.shape[-1], axis=-1), casting="unsafe")


@dataclasses.dataclass(eq=False, repr=False)
class Hiding:
    """Versions of samples with some positions of one input hidden, each as often as the fill has versions.

    Args:
        batch: The inputs, a `vis.engine.inputs.Batch`.
        index: Which of them is changed.
        hidden: Function `(images, numbers) -> (B, *spatial)`: which positions are hidden in part `numbers[i]` of sample
            `images[i]`, as booleans.
        fill: `Values`, `Background` or an `Imputation`.
        has_channels: Whether the input has a channel axis besides the positions.
    """

    batch: Batch
    index: int
    hidden: Callable
    fill: object
    has_channels: bool

    def __call__(self, images, numbers) -> list:
        """Returns the inputs of some rows, flat; row `versions * k + v` shows version v of part k."""
        rows, parts = self.batch.rows(images), numbers // self.fill.versions
        changed = rows[self.index]
        if self.has_channels and self.batch.formats[self.index] == "channels_first":
            changed = np.moveaxis(changed, 1, -1)
        self.fill.show(changed, self.hidden(images, parts), images, numbers % self.fill.versions)
        return rows


def fill_for(fill, values, form="channels_last", has_channels=True, name="baseline"):
    """Returns what is shown in place of hidden positions, as `Hiding` takes it: with its channels last.

    Args:
        fill: A `Background`, or what `read_fill` takes.
        values: The input `(N, ...)`.
        form: Where its channels are.
        has_channels: Whether it has any.
        name: What messages call the fill.

    Raises:
        ValueError: It does not fit the input.
    """
    moves = has_channels and form == "channels_first"
    if isinstance(fill, Background):
        if fill.samples.shape[1:] != values.shape[1:]:
            raise ValueError(
                f"A background must hold samples of the shape {values.shape[1:]}, as the input is. Received: shape "
                f"{fill.samples.shape}. Give samples as the model takes them, such as rows of the training data."
            )
        samples = _fitting(fill.samples, values.dtype, name)
        return Background(np.moveaxis(samples, 1, -1) if moves else samples)
    if isinstance(fill, str) and not has_channels and values.ndim > 2:
        return Values(read_fill(fill, values[..., None], name=name)[..., 0])
    array = read_fill(fill, values, form, name)
    return Values(np.moveaxis(array, 1, -1) if moves else array)


def read_fill(baseline, values, form="channels_last", name="baseline") -> np.ndarray:
    """Returns what is shown where a batch of values is hidden, in their shape.

    Args:
        baseline: A number; an array that fits one sample or the batch; `"mean"`, each sample's mean over its
            positions, channel by channel; or `"blur"`, the sample blurred by a Gaussian whose standard deviation is
            a sixteenth of each axis.
        values: The values `(N, ...)`.
        form: Where their channels are.
        name: What messages call it.

    Raises:
        ValueError: The array does not fit, there is no fill of that name, there are no positions to blur, or an input
            of whole numbers cannot hold the values.
    """
    if isinstance(baseline, str):
        return _fitting(_named_fill(baseline, values, form, name), values.dtype, name)
    if isinstance(baseline, Background):
        raise ValueError(
            f"`{name}` must be a number or an array here. Received: a background of {baseline.versions} samples, which "
            "are averaged over by methods of features: vis.ShapleyValues, vis.KernelSHAP, or vis.Occlusion with "
            "`features=`; by gradients, vis.ExpectedGradients."
        )
    array = check_numeric(name, baseline)
    if len(values) > 1 and array.shape == values.shape and np.array_equal(array, values):
        warnings.warn(
            f"`{name}` is the inputs themselves, row by row: every difference is 0. To average over rows, as over a "
            "background, take vis.ShapleyValues, vis.ExpectedGradients, or vis.Occlusion with `features=`.",
            VisualizationWarning,
            stacklevel=4,
        )
    if "bool" in str(getattr(baseline, "dtype", type(baseline))):
        raise TypeError(
            f"`{name}` must be a number or an array of numbers. Received: {shown(baseline)}. Give the value that is "
            "to be shown, such as 0.0."
        )
    try:
        whole = np.broadcast_to(array, values.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must be a number, or an array that fits one sample of shape {values.shape[1:]} or the batch. "
            f"Received: shape {array.shape}."
        ) from None
    return _fitting(whole, values.dtype, name)


def _fitting(baseline, dtype, name):
    """Raises unless an input of whole numbers can hold a baseline."""
    if dtype.kind == "f":
        return baseline
    low, high = max(np.iinfo(dtype).min, -(2**24)), min(np.iinfo(dtype).max, 2**24)  # which float32 holds exactly
    if (baseline != np.round(baseline)).any() or baseline.min() < low or baseline.max() > high:
        raise ValueError(
            f"`{name}` must hold whole numbers from {low} to {high}, as the model takes {dtype}. "
            f"Received: values from {baseline.min():g} to {baseline.max():g}."
        )
    return baseline


def _named_fill(word, values, form, name):
    if word not in ("mean", "blur"):
        raise ValueError(
            f"`{name}` must be a number, an array, 'mean' or 'blur'. Received: {shown(word)}. Of a token give the id."
        )
    if values.ndim < 3:
        raise ValueError(
            f"`{name}={shown(word)}` needs positions and channels, an input of rank 3 or more. Received: shape "
            f"{values.shape}. Give a number or an array."
        )
    axes = tuple(range(2, values.ndim) if form == "channels_first" else range(1, values.ndim - 1))
    if word == "mean":
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


def warn_of_wide_columns(name, values, deviations=0.0):
    """Says so where 0, which stands for hidden columns of a table, is nothing like some of them.

    Args:
        name: What messages call the input.
        values: The rows.
        deviations: How many standard deviations 0 is away from a mean that the model itself takes off.
    """
    wide = np.flatnonzero(np.abs(values).max(axis=0) > _WIDE) if values.dtype.kind == "f" else []
    if len(wide):
        column = int(wide[0])
        low, high = float(values[:, column].min()), float(values[:, column].max())
        warnings.warn(
            f"What is hidden becomes 0, also columns that are not scaled. Received: `{name}`, column {column} with "
            f"values from {low:g} to {high:g}. The model probably never saw a 0 there. Give a `baseline=` where the "
            "method takes one: typical values, or `vis.Background(rows)` of training data, which is averaged over.",
            VisualizationWarning,
            stacklevel=3,
        )
    elif deviations > _FAR_MEAN:
        warnings.warn(
            f"What is hidden becomes 0, also in columns that the model scales itself. Received: `{name}`, where 0 is "
            f"{deviations:.3g} standard deviations away from the mean that a Normalization layer takes off. Give a "
            "`baseline=`: typical values, or `vis.Background(rows)` of training data, which is averaged over.",
            VisualizationWarning,
            stacklevel=3,
        )
