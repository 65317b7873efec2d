"""How simple is the map? This says nothing of its truth: a lie may be simple."""

from __future__ import annotations

import numpy as np

from vis.metrics.base import Metric


class Sparseness(Metric):
    """The Gini index of the absolute values: 0 where all are alike, near 1 where few positions have everything.

    Source: Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training", section 5.

    Args:
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1); a map of zeros has 0.

    Examples:
        >>> Sparseness()(np.zeros((2, 4)), np.array([[1.0, 1, 1, 1], [0, 0, 0, 2]])).tolist()
        [0.0, 0.75]
    """

    name = "sparseness"
    says_truth = False

    def measure(self, samples, maps, known):
        """Returns the indices."""
        values = np.sort(np.abs(maps.reshape(*maps.shape[:2], -1).astype("float64")), axis=-1)
        count, total = values.shape[-1], values.sum(axis=-1)
        weighted = ((count - np.arange(1, count + 1) + 0.5) / count * values).sum(axis=-1)
        return np.where(total > 0, 1 - 2 * weighted / np.where(total > 0, total, 1), 0.0)


class Entropy(Metric):
    """The entropy, in nats, of the absolute values taken as a distribution over positions: low for a simple map.

    Source: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", definition 3.4.

    Args:
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` from 0 to the logarithm of the positions, which
        is that of constant maps, zeros too.

    Examples:
        >>> Entropy()(np.zeros((2, 4)), np.array([[1.0, 1, 1, 1], [0, 0, 0, 2]])).round(1).astype(str).tolist()
        ['1.4', '0.0']
    """

    name = "entropy"
    higher_is_better = False
    says_truth = False

    def measure(self, samples, maps, known):
        """Returns the entropies."""
        return entropy(maps.reshape(*maps.shape[:2], -1))


def entropy(values: np.ndarray) -> np.ndarray:
    """Returns the entropy of absolute values along the last axis."""
    values = np.abs(values.astype("float64"))
    total = values.sum(axis=-1, keepdims=True)
    parts = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[-1])
    return (parts * -np.log(np.where(parts > 0, parts, 1))).sum(axis=-1) + 0.0
