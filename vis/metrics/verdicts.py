"""From numbers to words: intervals, and whether a method says more than chance and more than edges.

Chance: if a map knew nothing of the network, it would be one of its own random maps, and exchanging it for any of them
would change nothing. So the mean over the samples is compared with the means that such exchanges give. That holds
exactly for any number of samples. Edges: the paired differences to the edge filter must be above 0 beyond doubt.
"""

from __future__ import annotations

import numpy as np

BETTER, EDGES, CHANCE = (
    "better than chance and edges",
    "not better than an edge filter",
    "indistinguishable from random",
)
BETTER_THAN_CHANCE = "better than chance"  # where the input has no edges
A_BASELINE, NO_TEST = "a baseline", "no test of truth"
LEVEL, HIGHEST_LEVEL = 0.025, 0.05  # of a one-sided test; of one sample that beats each of its random maps
_EXCHANGES = 4000
_RESAMPLES = 2000
_SPREADS = 1.96


def chance_probability(own: np.ndarray, random: np.ndarray, seed: int) -> float:
    """Returns how likely a map that knows nothing would do as well.

    Args:
        own: The method's numbers, `(N,)`, higher is better.
        random: Those of its random maps, `(B, N)`.
        seed: Seed of the exchanges.

    Examples:
        >>> chance_probability(np.array([3.0]), np.zeros((19, 1)), 0)
        0.05
    """
    known = own.mean()
    if len(own) == 1:
        return float((1 + (random[:, 0] >= known).sum()) / (1 + len(random)))
    pool = np.concatenate([own[None], random])
    draw = np.random.default_rng(seed).integers(len(pool), size=(_EXCHANGES, len(own)))
    means = pool[draw, np.arange(len(own))].mean(axis=1)
    slack = 1e-12 * max(1.0, abs(known))
    return float((1 + (means >= known - slack).sum()) / (1 + _EXCHANGES))


def beats_chance(own: np.ndarray, random: np.ndarray, seed: int) -> bool:
    """Tells whether a method says more than chance, see `chance_probability`."""
    level = max(LEVEL, 1 / (1 + len(random))) if len(own) == 1 else LEVEL
    return chance_probability(own, random, seed) <= level <= HIGHEST_LEVEL


def beats_edges(own: np.ndarray, edges: np.ndarray, random: np.ndarray) -> bool:
    """Tells whether a method is better than the edge filter, by paired differences; all higher is better.

    Of one sample, the difference must be larger than what random maps differ by.
    """
    difference = own - edges
    if len(own) == 1:
        return bool(difference[0] > _SPREADS * random.std())
    from scipy import stats  # slow to import

    error = difference.std(ddof=1) / np.sqrt(len(own))
    return bool(difference.mean() > stats.t.ppf(1 - LEVEL, len(own) - 1) * error and difference.mean() > 0)


def verdict_of(own: np.ndarray, random: np.ndarray, edges: np.ndarray | None, seed: int) -> str:
    """Returns a verdict in words.

    Args:
        own: The method's numbers, `(N,)`, higher is better.
        random: Those of its random maps, `(B, N)`.
        edges: Those of the edge filter, `(N,)`, or `None` where the input has no edges.
        seed: Seed of the test.
    """
    if not beats_chance(own, random, seed):
        return CHANCE
    if edges is None:
        return BETTER_THAN_CHANCE
    return BETTER if beats_edges(own, edges, random) else EDGES


def percentile_of(own: np.ndarray, random: np.ndarray) -> float:
    """Returns which part of its random maps a method beats, in percent, ties by half; the mean over the samples."""
    return float(100 * ((random < own).mean() + (random == own).mean() / 2))


def interval_of(own: np.ndarray, random: np.ndarray | None, seed: int) -> tuple[float | None, float | None]:
    """Returns a 95 % interval: of the mean of samples, or of one sample, where its random maps lie.

    Drawing few samples anew gives intervals that are too narrow: the wider of that and Student's t is taken. There is
    none of numbers that are not finite.

    Args:
        own: `(N,)`.
        random: `(B, N)`, or `None`.
        seed: Seed of the draws.
    """
    if not np.isfinite(own).all():
        return None, None
    if len(own) > 1:
        from scipy import stats  # slow to import

        draw = np.random.default_rng(seed).integers(len(own), size=(_RESAMPLES, len(own)))
        low, high = np.quantile(own[draw].mean(axis=1), [0.025, 0.975])
        wide = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own))
        low, high = min(low, own.mean() - wide), max(high, own.mean() + wide)
    elif random is not None and len(random) > 1:
        low, high = np.quantile(random[:, 0], [0.025, 0.975])
    else:
        return None, None
    return float(low), float(high)
