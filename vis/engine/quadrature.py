"""Integrals along a way whose ends are known: where more points are needed, and what each point weighs.

At each point of the way it is known what each value contributes per length (these add up to the slope of the score
there), and the score itself: so what the whole must add up to is known. NumPy only: nothing here knows of models.
"""

import numpy as np

FIRST = np.linspace(0, 1, 9)  # where every way is looked at
AT_ONCE = 4  # intervals that are halved before one looks again
FAR = 0.16  # how far from the integrals the result may be, as is estimated: of the sum of absolute values
_FLOOR = 0.1  # of the range of scores on the way: less of a difference between its ends counts as this


def corrected(positions, scores, slopes):
    """Returns what the points of a way weigh, and what is missing of the difference of its ends' scores.

    Of the slopes at an interval's ends each weighs half of its length, but for what corrects their sum: the shares
    that differ from a half by the least squares. None is less than 0 or more than 1: then something stays missing.

    Args:
        positions: Increasing, `(n,)`.
        scores: At the positions, `(n,)`.
        slopes: Derivatives of the score there, `(n,)`.

    Returns:
        `(weights (n,), missing)`, float64; the weighted slopes and what is missing sum to the whole difference.
    """
    lengths, turns = np.diff(positions), np.diff(positions) * np.diff(slopes)
    missing, total = gaps(positions, scores, slopes).sum(), turns @ turns
    factor = np.clip(missing / total, *np.array([-0.5, 0.5]) / np.abs(turns).max()) if total else 0.0
    weights = np.zeros(len(positions))
    weights[:-1] += lengths * (0.5 - factor * turns)
    weights[1:] += lengths * (0.5 + factor * turns)
    return weights, missing - factor * total


def gaps(positions, scores, slopes):
    """Returns what the mean of its ends' slopes misses of the difference of scores in each interval, `(n - 1,)`."""
    return np.diff(scores) - np.diff(positions) * (slopes[:-1] + slopes[1:]) / 2


class Way:
    """What is known of the score on the way from a baseline to one input."""

    def __init__(self):
        self._points, self._distances = {}, {}

    def add(self, position, score, contributions):
        """Notes a point.

        Args:
            position: From 0 to 1.
            score: There.
            contributions: Arrays, which are kept: what each value adds to the slope of the score along the way.
        """
        slope = sum(array.sum(dtype="float64") for array in contributions)
        self._points[float(position)] = (float(score), float(slope), contributions)

    @property
    def count(self):
        """The number of points."""
        return len(self._points)

    def _known(self):
        """Returns positions, scores and slopes."""
        positions = sorted(self._points)
        scores, slopes = np.array([self._points[one][:2] for one in positions]).T
        return np.array(positions), scores, slopes

    def off(self):
        """Returns how much is missing, as a share of the difference of the ends' scores."""
        known = self._known()
        whole = max(abs(known[1][-1] - known[1][0]), _FLOOR * np.ptp(known[1]))
        return abs(corrected(*known)[1]) / whole if whole else 0.0

    def far(self):
        """Returns how far the contributions may be from the integrals, estimated, as a share of their absolute sum.

        The errors of the intervals are taken to be independent.
        """
        size = sum(np.abs(array).sum() for array in self.integrals())
        size = max(size, _FLOOR * np.ptp(self._known()[1]))
        return np.sqrt((self._errors() ** 2).sum()) / size if size else 0.0

    def _errors(self):
        """Returns how far off each interval may be.

        Half of its length times the distance of its ends is the most where each contribution only rises or only falls
        in between. Where the scores say that more is missing, it is that.
        """
        positions, scores, slopes = self._known()
        apart = np.array([self._distance(*pair) for pair in zip(positions[:-1], positions[1:])])
        return np.maximum(np.diff(positions) * apart / 2, np.abs(gaps(positions, scores, slopes)))

    def _distance(self, first, last):
        """Returns the sum of absolute differences of the contributions at two positions."""
        if (first, last) not in self._distances:
            pairs = zip(self._points[first][2], self._points[last][2])
            self._distances[first, last] = sum(np.abs(b - a).sum(dtype="float64") for a, b in pairs)
        return self._distances[first, last]

    def wanted(self, tolerance, most):
        """Returns the positions to look at next: the middles of the intervals that may be off most; none at the end.

        Args:
            tolerance: What may be missing, a share as of `off`.
            most: How many points there may be.
        """
        if not self._points:
            return FIRST
        if not (self.off() > tolerance or self.far() > FAR):
            return FIRST[:0]
        positions, errors = self._known()[0], self._errors()
        worst = np.argsort(-errors, kind="stable")[: min(AT_ONCE, most - len(positions))]
        worst = worst[errors[worst] > 0]
        return (positions[worst] + positions[worst + 1]) / 2

    def integrals(self):
        """Returns the contributions, weighted and added up, a list of float64 arrays."""
        positions, *rest = self._known()
        weights, _ = corrected(positions, *rest)
        parts = zip(*(self._points[one][2] for one in positions))
        return [sum(weight * array.astype("float64") for weight, array in zip(weights, part)) for part in parts]
