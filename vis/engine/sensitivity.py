"""Designs that ask how a score varies with each feature: which masks are evaluated, and what their scores say.

As in `vis.engine.designs`, but what is not shown wholly may be shown in part, and the score of the baseline is not
needed. NumPy and SciPy only.
"""

import dataclasses
import math
from functools import cached_property

import numpy as np

_PARTS = 20  # of the masks that are left out in turn for standard errors


@dataclasses.dataclass(eq=False, repr=False)
class TotalIndices:
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
class Dependence:
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
    """

    count: int
    number: int
    seed: int

    @cached_property
    def masks(self) -> np.ndarray:
        """Booleans `(number, count)`."""
        draw = np.random.default_rng(self.seed)
        halves = np.tile(np.arange(self.number)[:, None] < self.number // 2, (1, self.count))
        return draw.permuted(halves, axis=0)

    def values(self, scores, *_) -> np.ndarray:
        """Returns the criterion `(G, count)` of scores `(G, number)`, at least 0; 0 where the score is constant."""
        return np.stack([_criterion(row, self.masks) for row in scores.astype("float64")])

    def errors(self, scores, *_) -> np.ndarray:
        """Returns standard errors, by leaving out twentieths of the masks in turn."""
        part = np.arange(self.number) * _PARTS // self.number
        kept = [part != one for one in np.unique(part)]
        return np.stack(
            [_jackknife([_criterion(row[keep], self.masks[keep]) for keep in kept]) for row in scores.astype("float64")]
        )


def _criterion(scores, masks):
    distances = np.abs(scores[:, None] - scores)
    width = np.median(distances[np.triu_indices(len(scores), 1)])
    if distances.max() == 0:
        return np.zeros(masks.shape[1])
    width = width or distances.mean()  # where most scores are alike
    kernel = np.exp(-((distances / width) ** 2) / 2)
    # -|x - x'| of values that are 0 or 1 is 2 x x', but for parts that centring takes away.
    centred = masks - masks.mean(axis=0)
    return 2 * np.einsum("ni,ni->i", centred, kernel @ centred) / len(scores) ** 2
