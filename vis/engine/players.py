"""Features as players of a game: which positions of the inputs belong to each, and rows with some of them shown.

`Coalitions` is what `vis.engine.tasks.Task.rows` takes as `inputs`, as `vis.engine.masking.Hiding` is: version k of a
sample is the sample with the features that mask k leaves out at the baseline.
"""

import dataclasses

import numpy as np

from vis.engine.inputs import Batch

NOBODY = -1  # of a position that is never hidden, such as padding


@dataclasses.dataclass(eq=False, repr=False)
class Part:
    """The features of one input.

    Args:
        index: Which input.
        labels: The feature of each position, counted from 0 over all inputs of a sample: `(N, *spatial)`, or
            `(1, *spatial)` for all samples. `NOBODY` for what is never hidden.
        counts: How many features each sample has in this input, `(N,)`.
        fill: What is shown in place of what is hidden: `vis.engine.masking.Values` or `Background`.
        has_channels: Whether the input has a channel axis besides the positions.
    """

    index: int
    labels: np.ndarray
    counts: np.ndarray
    fill: object
    has_channels: bool

    def of(self, masks, images) -> np.ndarray:
        """Returns masks of features `(B, count)` as masks of positions `(B, *spatial)`, 1 or True where shown."""
        padded = np.concatenate([masks, np.ones((len(masks), 1), masks.dtype)], axis=1)  # `NOBODY` is the last one
        if len(self.labels) == 1:
            return padded[:, self.labels[0]]
        return np.stack([mask[self.labels[image]] for mask, image in zip(padded, images)])

    def painted(self, values) -> np.ndarray:
        """Returns values of features, a row `(count,)` a sample, as float32 maps `(N, *spatial)`; 0 for nobody."""
        rows = [np.append(row, 0) for row in values]
        return np.stack([row[self.labels[i % len(self.labels)]] for i, row in enumerate(rows)]).astype("float32")


@dataclasses.dataclass(eq=False, repr=False)
class Players:
    """All features of a batch.

    Args:
        parts: Those of each input that has any.
    """

    parts: list

    @property
    def counts(self) -> np.ndarray:
        """How many features each sample has, `(N,)`."""
        return sum(part.counts for part in self.parts)

    @property
    def versions(self) -> int:
        """How many samples the background has, whose scores are averaged; 1 for a single baseline."""
        return max(part.fill.versions for part in self.parts)

    def rows(self, batch, images, masks):
        """Returns rows of some samples, for `Task.rows`.

        Args:
            batch: The samples' inputs.
            images: Which samples of the whole they are.
            masks: Which features are shown, `(n, count)`: booleans, or numbers from 0 to 1 that fade.
        """
        return Coalitions(batch, self.parts, np.asarray(images), masks, self.versions)


@dataclasses.dataclass(eq=False, repr=False)
class Coalitions:
    """Versions of samples with some features shown; row `versions * k + v` shows mask k on version v of the fill."""

    batch: Batch
    parts: list
    samples: np.ndarray
    masks: np.ndarray
    versions: int

    @property
    def count(self) -> int:
        """The number of versions of each sample."""
        return len(self.masks) * self.versions

    def __call__(self, images, numbers) -> list:
        """Returns the inputs of some rows, flat."""
        rows, masks = self.batch.rows(images), self.masks[numbers // self.versions]
        for part in self.parts:
            changed = rows[part.index]
            if part.has_channels and self.batch.formats[part.index] == "channels_first":
                changed = np.moveaxis(changed, 1, -1)
            shown, whole = part.of(masks, self.samples[images]), self.samples[images]
            if masks.dtype == bool:
                part.fill.show(changed, ~shown, whole, numbers % self.versions)
            else:
                _fade(changed, shown, part.fill.rows(whole, numbers % self.versions))
        return rows


def _fade(rows, shown, fill):
    """Mixes rows with what is shown instead, in place; rows and fill have their channels last, or none."""
    shown = shown[..., None] if rows.ndim > shown.ndim else shown
    rows *= shown
    rows += (1 - shown) * fill


def numbered(labels, kept=None) -> tuple:
    """Returns labels as whole numbers from 0 on without gaps, sample by sample.

    Args:
        labels: `(N, *spatial)` or `(1, *spatial)`, of any whole numbers.
        kept: Which positions may be hidden, booleans `(N, *spatial)`, or `None` for all.

    Returns:
        `(labels, counts)`: as `Part` takes them, one count for each row of the labels.
    """
    if kept is not None:
        labels = np.broadcast_to(labels, kept.shape)
    found = np.full(labels.shape, NOBODY)
    counts = np.zeros(len(labels), int)
    for i, row in enumerate(labels):
        own = np.ones(row.shape, bool) if kept is None else kept[i]
        names, numbers = np.unique(row[own], return_inverse=True)
        found[i][own], counts[i] = numbers.reshape(-1), len(names)
    return found, counts


def cells(shape, number) -> np.ndarray:
    """Returns the labels `(*shape)` of a grid, with a number of cells along each axis, or fewer on short axes.

    Examples:
        >>> cells((4,), 2).tolist()
        [0, 0, 1, 1]
    """
    labels = np.zeros(shape, int)
    for axis, size in enumerate(shape):
        along = min(number, size)
        place = np.arange(size) * along // size
        labels = labels * along + place.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return labels
