"""Designs that ask how a score varies with each feature: which masks are evaluated, and what their scores say.

As in `vis.engine.designs`, but what is not shown wholly may be shown in part, and the score of the baseline is not
needed. NumPy and SciPy only.
"""

import dataclasses
import math
from functools import cached_property

import numpy as np

from vis.engine.designs import Growing, looks

_PARTS = 20  # of the masks that are left out in turn for standard errors


@dataclasses.dataclass(eq=False, repr=False)
class TotalIndices(Growing):
    """Masks between 0 and 1 that vary each feature alone, from several places: Sobol's total indices.

    Source: Fel et al. 2021, "Look at the Variance!", equation 5, with the estimator of Jansen 1999: the mean square of
    the change when one feature is drawn anew, over twice the variance. The places are points of a Sobol sequence.

    Args:
        count: The number of features.
        number: How many places.
        seed: Of the sequence.
    """

    count: int
    number: int
    seed: int
    least = 16

    @property
    def draws(self) -> int:
        """The places."""
        return self.number

    def first(self, number):
        """Returns the design with its first places only, see `vis.engine.designs.Growing`."""
        return dataclasses.replace(self, number=number)

    @cached_property
    def masks(self) -> np.ndarray:
        """float32 `(number * (count + 2), count)`: places, others, and places with one feature of the others."""
        from scipy.stats import qmc  # slow to import

        sequence = qmc.Sobol(2 * self.count, seed=np.random.default_rng(self.seed))
        points = sequence.random_base2(math.ceil(math.log2(self.number)))[: self.number].astype("float32")
        places, others = points[:, : self.count], points[:, self.count :]
        changed = np.repeat(places[:, None], self.count, axis=1)
        each = np.arange(self.count)
        changed[:, each, each] = others
        return np.concatenate([places, others, changed.reshape(-1, self.count)])

    def _parts(self, scores):
        """Returns squares of changes `(G, number, count)`, and the scores of both sets of places `(G, number, 2)`."""
        plain = scores[:, : 2 * self.number].astype("float64").reshape(len(scores), 2, self.number).transpose(0, 2, 1)
        changed = scores[:, 2 * self.number :].astype("float64").reshape(len(scores), self.number, self.count)
        return (plain[:, :, :1] - changed) ** 2, plain

    def values(self, scores, *_) -> np.ndarray:
        """Returns the total indices `(G, count)` of scores `(G, n)`, at least 0; 0 where the score is constant."""
        return _indices(*self._parts(scores))

    def errors(self, scores, *_) -> np.ndarray:
        """Returns standard errors, by leaving each place out in turn."""
        changes, plain = self._parts(scores)
        kept = [np.arange(self.number) != i for i in range(self.number)]
        return _jackknife([_indices(changes[:, keep], plain[:, keep]) for keep in kept])


def _indices(changes, plain):
    spread = plain.reshape(len(plain), -1).var(axis=1, ddof=1)[:, None]
    return np.divide(changes.mean(axis=1) / 2, spread, out=np.zeros_like(changes[:, 0]), where=spread > 0)


def _jackknife(estimates):
    found, number = np.stack(estimates), len(estimates)
    return np.sqrt((number - 1) * found.var(axis=0))


@dataclasses.dataclass(eq=False, repr=False)
class Dependence(Growing):
    """Random masks of which each shows half of the features: how much the score depends on whether one is shown.

    The Hilbert-Schmidt independence criterion between a feature's mask x and the score y: the mean of k(x, x') l(y, y')
    over all pairs of masks, both kernels centred, where k(x, x') = -|x - x'| and l(y, y') = exp(-(y - y')^2 / (2 s^2)),
    with s the median distance of two scores.

    Source: Novello et al. 2022, "Making Sense of Dependence", section 3; Gretton et al. 2005, equation 9. A feature is
    shown by exactly half of the masks, as in a Latin hypercube.

    Args:
        count: The number of features.
        number: How many masks.
        seed: Of the draws.
        grows: Whether the masks are drawn in parts, of which each shows half, so that more masks begin with those of
            fewer. Default `False`: at once.
    """

    count: int
    number: int
    seed: int
    grows: bool = False
    least = 128

    @property
    def draws(self) -> int:
        """The masks."""
        return self.number

    def first(self, number):
        """Returns the design with its first masks only, see `vis.engine.designs.Growing`."""
        return dataclasses.replace(self, number=number)

    def growing(self):
        """Yields the design with ever more of its masks, see `vis.engine.designs.Growing`."""
        yield from super(Dependence, dataclasses.replace(self, grows=True)).growing()

    @cached_property
    def masks(self) -> np.ndarray:
        """Booleans `(number, count)`."""
        draw = np.random.default_rng(self.seed)
        sizes = np.diff([0, *(looks(self.least, self.number) if self.grows else [self.number])])
        halves = [np.tile(np.arange(size)[:, None] < size // 2, (1, self.count)) for size in sizes]
        return np.concatenate([draw.permuted(half, axis=0) for half in halves])

    def values(self, scores, *_) -> np.ndarray:
        """Returns the criterion `(G, count)` of scores `(G, number)`, at least 0; 0 where the score is constant."""
        return np.stack([self._parts(row, 1)[0] for row in scores.astype("float64")])

    def errors(self, scores, *_) -> np.ndarray:
        """Returns standard errors, by leaving out twentieths of the masks in turn; the kernel's width stays."""
        rows = [self._parts(row, min(_PARTS, self.number)) for row in scores.astype("float64")]
        return np.stack([_jackknife(row[1:]) for row in rows])

    def _parts(self, scores, number):
        """Returns the criterion of all masks, and without each of some parts of them, `(1 + number, count)`.

        -|x - x'| of values that are 0 or 1 is 2 x x', but for parts that centring takes away. Sums of kernel values
        without a part are those of all, less what the part has in them.
        """
        kernel = _kernel(scores)
        if kernel is None:
            return np.zeros((number + 1, self.count))
        shown = self.masks.astype("float64")
        near, alone = kernel @ shown, kernel.sum(axis=1)
        found = [_centred(_sums(shown, near), near.sum(axis=0), alone.sum(), shown)]
        for part in np.array_split(np.arange(self.number), number) if number > 1 else []:
            own, inside = shown[part], kernel[np.ix_(part, part)]
            squares = _sums(shown, near) - 2 * _sums(own, near[part]) + _sums(own, inside @ own)
            crossed = near.sum(axis=0) - near[part].sum(axis=0) - alone[part] @ own + inside.sum(axis=0) @ own
            whole = alone.sum() - 2 * alone[part].sum() + inside.sum()
            found.append(_centred(squares, crossed, whole, np.delete(shown, part, axis=0)))
        return np.array(found)


def _sums(one, other):
    """Returns the sums of products, column by column."""
    return np.einsum("ni,ni->i", one, other)


def _centred(squares, crossed, whole, shown):
    """Returns 2 / n^2 times sum c c' l of centred masks c, from the sums of masks that are not."""
    means = shown.mean(axis=0)
    return np.maximum(2 * (squares - 2 * means * crossed + means**2 * whole) / len(shown) ** 2, 0)


def _kernel(scores):
    """Returns the Gaussian kernel of scores `(n, n)`, or `None` where they are constant."""
    ordered = np.sort(scores)
    if ordered[0] == ordered[-1]:
        return None
    distances = np.abs(scores[:, None] - scores)
    upper = distances[np.tri(len(scores), k=-1, dtype=bool)]
    middle = len(upper) // 2
    around = np.partition(upper, [middle - 1, middle] if len(upper) > 1 else 0)
    width = around[middle] if len(upper) % 2 else (around[middle - 1] + around[middle]) / 2
    width = width or distances.mean()  # where most scores are alike
    return np.exp(-((distances / width) ** 2) / 2)
