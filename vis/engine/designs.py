"""Designs: which coalitions of features are evaluated, and what their scores say about each feature.

A coalition is a row of booleans, one a feature: True where the feature is shown, False where the baseline stands in
its place. Its score is v(S). A design holds coalitions but for two, that of no feature and that of all, whose scores
are given beside it. NumPy only: nothing here knows of models.

What is drawn can grow: `growing` yields a design with ever more of its draws, so that sampling may stop early.
"""

import dataclasses
import itertools
import math
from functools import cached_property

import numpy as np


def looks(least, most) -> list:
    """Returns after how many draws to look whether they are enough: each time half as many again, even numbers.

    Args:
        least: The first number.
        most: The last, whatever it is.
    """
    found, number = [], least
    while number < most:
        found.append(number)
        number += -(-number // 4) * 2
    return [*found, most]


class Growing:
    """A design that can be had with the first of its draws only; a subclass writes `first`.

    Attributes:
        draws: How many independent draws there are, 0 where nothing is drawn.
        least: How many of them there must be, for their spread to tell the errors.
    """

    draws = 0
    least = 8

    def first(self, number):
        """Returns the design with its first draws only, a part of its masks."""
        raise NotImplementedError(f"{type(self).__name__} must define `first(number)`.")

    def growing(self):
        """Yields the design with ever more of its draws, at the end with all."""
        for number in looks(self.least, self.draws)[:-1] if self.draws else ():
            yield self.first(number)
        yield self


@dataclasses.dataclass(eq=False, repr=False)
class Everything(Growing):
    """All coalitions of a few features: exact Shapley values.

    Source: Shapley 1953; Lundberg & Lee 2017, "A Unified Approach to Interpreting Model Predictions", equation 4.

    Args:
        count: The number of features.
    """

    count: int

    @cached_property
    def all_masks(self) -> np.ndarray:
        """All coalitions, from the empty one to that of all features."""
        return np.arange(2**self.count)[:, None] >> np.arange(self.count) & 1 == 1

    @property
    def masks(self) -> np.ndarray:
        """The coalitions `(n, count)` but for the first and the last."""
        return self.all_masks[1:-1]

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns Shapley values.

        Args:
            scores: Of the coalitions, `(G, n)`.
            empty: Of no feature, `(G,)`.
            full: Of all features, `(G,)`.

        Returns:
            float64 `(G, count)`.
        """
        weights = np.array([_share(size, self.count) for size in range(self.count)])
        sizes = self.all_masks.sum(axis=1, keepdims=True)
        gained, lost = weights[np.maximum(sizes - 1, 0)], weights[np.minimum(sizes, self.count - 1)]
        return _whole(scores, empty, full) @ np.where(self.all_masks, gained, -lost)

    def errors(self, scores, empty, full) -> np.ndarray:
        """Returns standard errors as `values` returns values: nothing is drawn, so they are 0."""
        return np.zeros((len(scores), self.count))

    def interactions(self, scores, empty, full) -> np.ndarray:
        """Returns Shapley interaction values.

        Source: Fujimoto et al. 2006; Lundberg et al. 2020, "From local explanations to global understanding with
        explainable AI for trees", equations 8 to 10.

        Returns:
            float64 `(G, count, count)`, symmetric; each row sums to the Shapley value of its feature.
        """
        whole, found = _whole(scores, empty, full), np.zeros((len(scores), self.count, self.count))
        for i in range(self.count):
            for j in range(i):
                found[:, i, j] = found[:, j, i] = whole @ self._pair(i, j) / 2
        rest = self.values(scores, empty, full) - found.sum(axis=2)
        found[:, np.arange(self.count), np.arange(self.count)] = rest
        return found

    def _pair(self, i, j):
        """Returns by how much each coalition counts in the interaction index of two features."""
        masks = self.all_masks
        others = masks.sum(axis=1) - masks[:, i] - masks[:, j]
        weights = np.array([_share(size, self.count - 1) for size in range(self.count - 1)])
        return np.where(masks[:, i] == masks[:, j], 1, -1) * weights[others]


def _share(size, count):
    """Returns how likely a feature finds exactly so many others before it, divided by the coalitions of that size."""
    return 1 / (count * math.comb(count - 1, size))


def _whole(scores, empty, full):
    return np.concatenate([empty[:, None], scores, full[:, None]], axis=1).astype("float64")


@dataclasses.dataclass(eq=False, repr=False)
class Permutations(Growing):
    """Features that enter one after the other, in random orders, each order also backwards.

    Each order gives every feature what it adds to those before it; these sum to v(all) - v(none) exactly, and their
    mean over the orders tends to the Shapley values. An order and its reverse make one independent draw.

    Source: Castro et al. 2009; antithetic pairs: Mitchell et al. 2022, "Sampling Permutations for Shapley Value
    Estimation", section 3.

    Args:
        count: The number of features, at least 2.
        pairs: How many orders, each taken forwards and backwards, at least 1.
        seed: Of the orders.
    """

    count: int
    pairs: int
    seed: int

    @cached_property
    def orders(self) -> np.ndarray:
        """Whole numbers `(2 * pairs, count)`: each order, followed by its reverse."""
        draw = np.random.default_rng(self.seed)
        forwards = draw.permuted(np.tile(np.arange(self.count), (self.pairs, 1)), axis=1)
        return np.stack([forwards, forwards[:, ::-1]], axis=1).reshape(-1, self.count)

    @cached_property
    def masks(self) -> np.ndarray:
        """The coalitions `(2 * pairs * (count - 1), count)`: after each order's first feature, its second, ..."""
        places = np.argsort(self.orders, axis=1)
        ends = np.arange(1, self.count)
        return (places[:, None, :] < ends[:, None]).reshape(-1, self.count)

    @property
    def draws(self) -> int:
        """The pairs."""
        return self.pairs

    def first(self, number):
        """Returns the design with its first pairs only, see `Growing`."""
        return Permutations(self.count, number, self.seed)

    def _draws(self, scores, empty, full):
        """Returns what each pair of orders says, `(G, pairs, count)`."""
        orders, groups = self.orders, len(scores)
        ends = [np.broadcast_to(end[:, None, None], (groups, len(orders), 1)) for end in (empty, full)]
        chain = np.concatenate([ends[0], scores.reshape(groups, len(orders), -1), ends[1]], axis=2)
        added = np.empty((groups, *orders.shape))
        np.put_along_axis(added, np.broadcast_to(orders, added.shape), np.diff(chain.astype("float64"), axis=2), axis=2)
        return added.reshape(groups, self.pairs, 2, self.count).mean(axis=2)

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns estimates of the Shapley values, see `Everything.values`."""
        return self._draws(scores, empty, full).mean(axis=1)

    def errors(self, scores, empty, full) -> np.ndarray:
        """Returns the standard errors of the estimates; NaN for a single pair, which has no spread.

        They are widened as Student's distribution is wider than the normal one, so that 1.96 of them hold 95 % of
        values for few pairs too.
        """
        if self.pairs < 2:
            return np.full((len(scores), self.count), np.nan)
        spread = self._draws(scores, empty, full).std(axis=1, ddof=1) / math.sqrt(self.pairs)
        return spread * student(self.pairs - 1)


def student(freedom) -> float:
    """Returns how much wider a 95 % interval of Student's distribution is than that of the normal one."""
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(freedom, 0.975) / 1.959964)


@dataclasses.dataclass(eq=False, repr=False)
class Regression(Growing):
    """Coalitions whose scores are fitted by a sum over the features shown, weighted as Shapley values want it.

    Coalitions of one feature, and of all but one, are always taken; the next sizes whole as far as the budget goes;
    from the others pairs are drawn, a coalition and what it leaves out. None is evaluated twice.

    Source: Lundberg & Lee 2017, equation 5 and theorem 2; pairs: Covert & Lee 2021, "Improving KernelSHAP", section 4.

    Args:
        count: The number of features, at least 2.
        budget: How many coalitions may be evaluated, more than 2 * count or all there are.
        seed: Of the draws.
        kept: How many of the drawn pairs are kept. Default `None`: all.
    """

    count: int
    budget: int
    seed: int
    kept: int | None = None
    least = 32

    def __post_init__(self):
        self.masks, self.weights, self.drawn, self.times = self._made()

    @property
    def draws(self) -> int:
        """The pairs that were drawn, alike ones included."""
        return int(self.times.sum())

    def first(self, number):
        """Returns the design with its first pairs only, see `Growing`."""
        return dataclasses.replace(self, kept=number)

    def _made(self):
        """Returns `(masks, weights, pairs, times)`: the pair of each, -1 if not drawn, and how often each was."""
        sizes, left = list(range(1, self.count // 2 + 1)), self.budget
        masks, weights = [], []
        while sizes and (not masks or self._fits(sizes, left)):
            number, mass = self._number(sizes[0]), self._mass(sizes[0])
            found = _of_size(self.count, sizes.pop(0))
            masks.append(found)
            weights.append(np.full(len(found), mass / number))
            left -= number
        whole = sum(map(len, masks))
        pairs, times = self._pairs(sizes, left // 2) if sizes else (np.zeros((0, self.count), bool), np.zeros(0))
        if len(pairs):
            masks.append(np.stack([pairs, ~pairs], axis=1).reshape(-1, self.count))
            weights.append(np.repeat(times / times.sum() * sum(map(self._mass, sizes)) / 2, 2))
        drawn = np.concatenate([np.full(whole, -1), np.repeat(np.arange(len(pairs)), 2)])
        return np.concatenate(masks), np.concatenate(weights), drawn, times

    def _fits(self, sizes, left):
        """Tells whether the first of some sizes is taken whole: all are, or it gets no more than its share."""
        number, share = self._number(sizes[0]), self._mass(sizes[0]) / sum(map(self._mass, sizes))
        return sum(map(self._number, sizes)) <= left or number <= left * share

    def _number(self, size):
        """Returns how many coalitions have a size, or leave so many features out."""
        return math.comb(self.count, size) * (1 if 2 * size == self.count else 2)

    def _mass(self, size):
        """Returns the kernel's sum over these coalitions."""
        return (self.count - 1) / (size * (self.count - size)) * (1 if 2 * size == self.count else 2)

    def _pairs(self, sizes, pairs):
        """Returns distinct coalitions of some sizes, drawn by the kernel, and how often each was drawn."""
        draw = np.random.default_rng(self.seed)
        masses = np.array([self._mass(size) for size in sizes])
        chosen = draw.choice(sizes, pairs, p=masses / masses.sum())
        places = draw.permuted(np.tile(np.arange(self.count), (pairs, 1)), axis=1)
        found = places < chosen[:, None]
        halves = 2 * chosen == self.count  # a half and what it leaves out are one pair
        found[halves] ^= found[halves, :1]
        masks, times = np.unique(found[: self.kept], axis=0, return_counts=True)
        return masks, times.astype("float64")

    @cached_property
    def _inverse(self):
        shown = self.masks.astype("float64")
        normal = shown.T @ (self.weights[:, None] * shown)
        return np.linalg.inv(normal)

    def _fit(self, right, total):
        """Returns the solution of the normal equations whose sum is given."""
        free, along = right @ self._inverse, self._inverse.sum(axis=0)
        found = free - ((free.sum(axis=1) - total) / along.sum())[:, None] * along
        return found + ((total - found.sum(axis=1)) / self.count)[:, None]  # rounding

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns estimates of the Shapley values, see `Everything.values`; exact if no coalition is missing."""
        gained = scores - empty[:, None].astype("float64")
        return self._fit((gained * self.weights) @ self.masks, full.astype("float64") - empty)

    def errors(self, scores, empty, full) -> np.ndarray:
        """Returns the standard errors of the estimates, by the spread of what the drawn pairs say."""
        if not len(self.times):
            return np.zeros((len(scores), self.count))
        drawn = self.drawn >= 0
        pairs, number = self.masks[drawn].astype("float64"), self.times.sum()
        rest = (scores - empty[:, None] - self.values(scores, empty, full) @ self.masks.T)[:, drawn]
        said = pairs @ self._projected * self.weights[drawn].sum() / 2
        said /= np.repeat(1 - self._leverage(pairs, self.weights[drawn]), 2)[:, None]
        return np.array([self._spread((row[:, None] * said).reshape(-1, 2, self.count), number) for row in rest])

    def _spread(self, halves, number):
        said = halves.sum(axis=1)
        centred = said - np.average(said, axis=0, weights=self.times)
        return np.sqrt(self.times @ centred**2 / number / max(number - 1, 1))

    @cached_property
    def _projected(self):
        """Returns the inverse for changes that leave the sum as it is."""
        along = self._inverse.sum(axis=0)
        return self._inverse - np.outer(along, along) / along.sum()

    def _leverage(self, masks, weights):
        """Returns how much the fit follows each pair, which hides as much of its own misfit."""
        each = weights * np.einsum("ni,ij,nj->n", masks, self._projected, masks)
        return np.minimum(each.reshape(-1, 2).sum(axis=1), 0.9)


def _of_size(count, size):
    """Returns the coalitions of a size and those that leave so many features out."""
    chosen = np.array(list(itertools.combinations(range(count), size)))
    found = np.zeros((len(chosen), count), bool)
    np.put_along_axis(found, chosen, True, axis=1)
    return found if 2 * size == count else np.concatenate([found, ~found])


@dataclasses.dataclass(eq=False, repr=False)
class Local(Growing):
    """Random coalitions, near ones weighted more, to which a line is fitted.

    Each feature is shown or not with equal odds. Of a few features all coalitions are taken, each as often as it would
    be drawn on average. The coalition of all features counts once more.

    Source: Ribeiro et al. 2016, "Why Should I Trust You?", equation 1 and algorithm 1; the kernel
    exp(-d^2 / (2 width^2)) of the cosine distance d, ridge regression and the odds are those of the authors' code.

    Args:
        count: The number of features.
        budget: How many coalitions are drawn.
        seed: Of the draws.
        width: Of the kernel.
        alpha: Strength of the ridge's penalty.
    """

    count: int
    budget: int
    seed: int
    width: float
    alpha: float

    def __post_init__(self):
        self.is_whole = 2**self.count <= self.budget
        found = Everything(self.count).all_masks if self.is_whole else self._drawn()
        found, times = np.unique(found, axis=0, return_counts=True)
        times = times * (self.budget / times.sum())
        proper = found.any(axis=1) & ~found.all(axis=1)
        self.masks, self._times = found[proper], times[proper]
        self._ends = times[~found.any(axis=1)].sum(), times[found.all(axis=1)].sum() + 1

    @property
    def draws(self) -> int:
        """The coalitions that are drawn, alike ones included."""
        return 0 if self.is_whole else self.budget

    @property
    def least(self) -> int:
        """So many more than there are coefficients, see `Growing`."""
        return 2 * self.count + 64

    def first(self, number):
        """Returns the design with its first coalitions only, see `Growing`."""
        return dataclasses.replace(self, budget=number)

    def _drawn(self):
        return np.random.default_rng(self.seed).random((self.budget, self.count)) < 0.5

    def _rows(self, scores, empty, full):
        """Returns `(coalitions, times, weights, scores)`, the two ends included."""
        masks = np.concatenate([self.masks, np.zeros((1, self.count), bool), np.ones((1, self.count), bool)])
        times = np.concatenate([self._times, self._ends])
        distance = 1 - np.sqrt(masks.mean(axis=1))
        scores = np.concatenate([scores, empty[:, None], full[:, None]], axis=1).astype("float64")
        return masks.astype("float64"), times, np.exp(-(distance**2) / (2 * self.width**2)), scores

    def _solved(self, scores, empty, full):
        """Returns `(centred coalitions, times, weights, inverse, centred scores, coefficients)`."""
        shown, times, near, scores = self._rows(scores, empty, full)
        share = times * near / (times @ near)
        shown, scores = shown - share @ shown, scores - (scores @ share)[:, None]
        inverse = np.linalg.inv(shown.T @ ((times * near)[:, None] * shown) + self.alpha * np.eye(self.count))
        return shown, times, near, inverse, scores, (scores * (times * near)) @ shown @ inverse

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns the coefficients of the line, see `Everything.values` for the arguments."""
        return self._solved(scores, empty, full)[-1]

    def errors(self, scores, empty, full) -> np.ndarray:
        """Returns the standard errors of the coefficients: how much other draws would change them."""
        if self.is_whole:
            return np.zeros((len(scores), self.count))
        shown, times, near, inverse, centred, found = self._solved(scores, empty, full)
        rest, said = (centred - found @ shown.T) * near, shown @ inverse
        factor = self.budget / max(self.budget - self.count - 1, 1)
        return np.sqrt(factor * (rest**2 * times) @ said**2)


@dataclasses.dataclass(eq=False, repr=False)
class Left(Growing):
    """The coalitions that leave one feature out: what the score loses with it.

    Args:
        count: The number of features.
    """

    count: int

    @property
    def masks(self) -> np.ndarray:
        """Booleans `(count, count)`."""
        return ~np.eye(self.count, dtype=bool)

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns what is lost, `(G, count)`."""
        return full[:, None] - scores.astype("float64")


@dataclasses.dataclass(eq=False, repr=False)
class Shown(Growing):
    """Random coalitions: the score that is expected given that a feature is shown.

    They are drawn in pairs: where a random number decides that a feature is shown, the second has the number's mirror
    image. At odds of one half it shows what the first hides, so that each pair shows each feature once.

    Source: Petsiuk et al. 2018, "RISE", equation 6, for features in place of the cells of a grid. Antithetic pairs:
    Hammersley & Morton 1956.

    Args:
        count: The number of features.
        number: How many coalitions.
        probability: How likely a feature is shown.
        seed: Of the draws.
    """

    count: int
    number: int
    probability: float
    seed: int
    least = 128

    @property
    def draws(self) -> int:
        """The pairs, the last of which may be half a pair."""
        return -(-self.number // 2)

    def first(self, number):
        """Returns the design with its first pairs only, see `Growing`."""
        return dataclasses.replace(self, number=2 * number)

    @cached_property
    def masks(self) -> np.ndarray:
        """Booleans `(number, count)`."""
        drawn = np.random.default_rng(self.seed).random((self.draws, self.count))
        return np.stack(mirrored(drawn, self.probability), axis=1).reshape(-1, self.count)[: self.number]

    def values(self, scores, empty, full) -> np.ndarray:
        """Returns the expected scores, `(G, count)`."""
        return scores.astype("float64") @ self.masks / (self.number * self.probability)

    def errors(self, scores, empty, full) -> np.ndarray:
        """Returns their standard errors, by the spread of the pairs."""
        scores, masks = scores.astype("float64"), self.masks
        whole = self.number // 2 * 2
        products = scores[:, :whole:2] * scores[:, 1:whole:2] @ (masks[:whole:2] & masks[1:whole:2])
        single = scores[:, whole:] @ masks[whole:]
        return spread_of_pairs(self.number, scores @ masks, scores**2 @ masks + 2 * products, single) / self.probability


def mirrored(drawn, probability) -> tuple:
    """Returns what random numbers from 0 to 1 show, and what their mirror images show, booleans."""
    return drawn < probability, drawn >= 1 - probability


def spread_of_pairs(number, total, squares, single) -> np.ndarray:
    """Returns the standard error of a mean of terms that were drawn in pairs.

    Args:
        number: Of the terms.
        total: Their sum.
        squares: The sum of the squares of the sums of each pair.
        single: The last term, 0 where it has a partner.
    """
    mean, pairs, odd = total / number, number // 2, number % 2
    found = squares - 2 * mean * (2 * total - single) + mean**2 * (4 * pairs + odd)
    return np.sqrt(np.maximum(found, 0) * (pairs + odd) / max(pairs + odd - 1, 1)) / number
