"""Integrals along a way whose ends are known: where more points are needed, and what each point weighs.

The slope of the score along the way is known at each point, and the score too. So what the slopes of an interval's two
ends must give is known: the difference of its scores. NumPy only: nothing here knows of models.
"""

import numpy as np

FIRST = np.linspace(0, 1, 17)  # where every way is looked at
AT_ONCE = 4  # intervals that are halved before one looks again
_FLOOR = 1e-2  # of the range of scores on the way: less of a difference between its ends counts as this


def corrected(positions, scores, slopes):
    """Returns what the points of a way weigh, and what is missing in each interval.

    The slopes a and b at an interval's ends weigh w and 1 - w times its length, so that they give the difference of its
    scores: for a score of two straight pieces, w is where it bends, and this is the integral itself. Where no w from 0
    to 1 does, the nearest is taken, and something is missing.

    Args:
        positions: Increasing, `(n,)`.
        scores: At the positions, `(n,)`.
        slopes: Derivatives of the score there, `(n,)`.

    Returns:
        `(weights (n,), missing (n - 1,))`, float64; the weighted slopes less the missing sum to the whole difference.
    """
    lengths, gains = np.diff(positions), np.diff(scores)
    first, last = slopes[:-1], slopes[1:]
    bend = first - last
    share = np.where(bend, (gains / lengths - last) / np.where(bend, bend, 1), 0.5).clip(0, 1)
    weights = np.zeros(len(positions))
    weights[:-1] += lengths * share
    weights[1:] += lengths * (1 - share)
    return weights, lengths * (share * first + (1 - share) * last) - gains


class Way:
    """What is known of the score on the way from a baseline to one input.

    Gradients are let go of where nothing is missing on either side: their weights stay.
    """

    def __init__(self):
        self._points, self._gradients, self._total = {}, {}, None

    def add(self, position, score, slope, gradients):
        """Notes a point.

        Args:
            position: From 0 to 1.
            score: There.
            slope: Derivative of the score along the way.
            gradients: Arrays, which are kept.
        """
        self._points[float(position)] = (float(score), float(slope))
        self._gradients[float(position)] = gradients

    @property
    def count(self):
        """The number of points."""
        return len(self._points)

    def _known(self):
        """Returns positions, weights, and the share of the whole that is missing in each interval."""
        positions = np.array(sorted(self._points))
        scores, slopes = np.array([self._points[one] for one in positions]).T
        weights, missing = corrected(positions, scores, slopes)
        return positions, weights, _shares(scores, missing)

    def off(self):
        """Returns how much is missing in all intervals together, as a share of the difference of the ends' scores."""
        return self._known()[2].sum()

    def wanted(self, tolerance, most):
        """Returns the positions to look at next: the middles of intervals where most is missing; none at the end.

        Args:
            tolerance: What may be missing, a share as of `off`.
            most: How many points there may be.
        """
        if not self._points:
            return FIRST
        positions, weights, missing = self._known()
        self._settle(positions, weights, np.r_[0, missing] + np.r_[missing, 0] == 0)
        if missing.sum() <= tolerance:
            return FIRST[:0]
        worst = np.argsort(-missing, kind="stable")[: min(AT_ONCE, most - len(positions))]
        worst = worst[missing[worst] > 0]
        return (positions[worst] + positions[worst + 1]) / 2

    def _settle(self, positions, weights, is_final):
        """Adds up the gradients at some positions, and lets go of them."""
        for position, weight in zip(positions[is_final], weights[is_final]):
            arrays = self._gradients.pop(position, None)
            if arrays is not None:
                shares = [weight * array.astype("float64") for array in arrays]
                self._total = shares if self._total is None else [a + b for a, b in zip(self._total, shares)]

    def integrals(self):
        """Returns the gradients, weighted and added up, a list of float64 arrays."""
        positions, weights, _ = self._known()
        self._settle(positions, weights, np.ones(len(positions), bool))
        return self._total


def _shares(scores, missing):
    whole = max(abs(scores[-1] - scores[0]), _FLOOR * np.ptp(scores))
    return np.abs(missing) / whole if whole else np.zeros(len(missing))
