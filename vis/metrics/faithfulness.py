"""Does the score follow the map? Correlations over random subsets, and what is left of the score on the map alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.metrics.base import ModelMetric
from vis.metrics.curves import fill_key
from vis.utils.validation import check_count, check_flag, check_fraction

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vis.metrics.base import Background, Reduction
    from vis.utils.types import Index, LayerLike


class SubsetMetric(ModelMetric):
    """Base class of the metrics that hide random subsets of cells.

    Args:
        model: See `vis.metrics.base.ModelMetric`.
        fill: See `vis.metrics.base.ModelMetric`.
        num_samples: How many subsets.
        subset: Which part of the cells is hidden at a time, in (0, 1].
        grid: Cells along each axis; an axis that is shorter has a cell for each position.
        **options: See `vis.metrics.base.ModelMetric`; `seed` is that of the subsets.
    """

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = "mean",
        num_samples: int = 200,
        subset: float = 0.2,
        grid: int = 9,
        **options: Any,
    ) -> None:
        super().__init__(model, fill, **options)
        self._num_samples = check_count("num_samples", num_samples, 3)
        self._subset, self._grid = check_fraction("subset", subset), check_count("grid", grid, 1)

    def subsets(self, samples) -> np.ndarray:
        """Returns which cells are hidden, booleans `(num_samples, *cells)`, at least one each."""
        cells = [min(self._grid, size) for size in samples.shape]
        total, draw = int(np.prod(cells)), np.random.default_rng(self.seed)
        size = max(1, round(self._subset * total))
        if size == total:
            raise ValueError(
                f"`subset` and `grid` must leave cells that are not hidden, or all subsets are the same. Received: "
                f"{self._subset:g} of {total} cells. Give a smaller `subset` or a larger `grid`."
            )
        places = np.argsort(draw.random((self._num_samples, total)), axis=1)[:, :size]
        found = np.zeros((self._num_samples, total), bool)
        np.put_along_axis(found, places, True, axis=1)
        return found.reshape(-1, *cells)

    def hidden(self, samples, subsets):
        """Returns the function that `vis.engine.masking.Hiding` takes: cells as wide as positions allow."""
        cell_of = [np.arange(size) * cells // size for size, cells in zip(samples.shape, subsets.shape[1:])]

        def hide(images, numbers):
            return (
                subsets[(np.asarray(numbers)[:, None].reshape(-1, *[1] * len(cell_of)), *np.ix_(*cell_of))]
                & (samples.kept[images])
            )

        return hide

    def drops(self, samples) -> np.ndarray:
        """Returns how far the score falls when each subset is hidden, `(N, num_samples)`; once for all maps."""

        def make():
            subsets = self.subsets(samples)
            scores = samples.scores(samples.read_fill(self.fill), len(subsets), self.hidden(samples, subsets))
            return samples.clean()[:, None] - scores

        settings = (self._num_samples, self._subset, self._grid, self.seed)
        return samples.once(("drops", fill_key(self.fill), *settings), make)

    def sums(self, samples, maps) -> np.ndarray:
        """Returns the sum of maps `(K, N, *spatial)` over each subset, `(K, N, num_samples)`."""
        subsets = self.subsets(samples)
        hide, found = self.hidden(samples, subsets), np.empty((*maps.shape[:2], len(subsets)))
        numbers = np.arange(len(subsets))
        for i in range(samples.count):
            chosen = hide(np.full(len(subsets), i), numbers).reshape(len(subsets), -1)
            for k in range(len(maps)):
                values = maps[k, i].reshape(-1).astype("float64")
                found[k, i] = np.where(chosen, values, 0).sum(axis=1)
        return found


class MuFidelity(SubsetMetric):
    """Rank correlation of the map's sum over random subsets with how far the score falls when they are hidden.

    Subsets are of cells, as single pixels of an image hardly matter. A flat map has no correlation: 0.

    Source: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", definition 3.2, with ranks
    in place of values; cells as in Fel et al. 2021.

    Args:
        model: See `vis.metrics.Deletion`.
        fill: See `vis.metrics.Deletion`.
        num_samples: How many subsets, at least 3. Default 200.
        subset: Which part of the cells is hidden at a time, in (0, 1]. Default 0.2.
        grid: Cells along each axis, at most one for each position. Default 9.
        reduce: See `vis.metrics.Deletion`.
        seed: Seed of the subsets. Default 0.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [-1, 1]; higher is better.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        >>> x, weights = np.ones((1, 4)), np.array([[4.0], [1.0], [2.0], [-3.0]])
        >>> model.set_weights([weights])
        >>> MuFidelity(model, fill=0.0, subset=0.5)(x, weights.T, 1).round(4).tolist()
        [1.0]
    """

    name = "mu-fidelity"

    def measure(self, samples, maps, known):
        """Returns the correlations."""
        drops, sums = self.drops(samples), self.sums(samples, maps)
        found = np.array([[rank_correlation(one, drop) for one, drop in zip(row, drops)] for row in sums])
        is_flat = np.ptp(maps.reshape(*maps.shape[:2], -1), axis=-1) == 0  # its sums are the sizes of the cells
        return np.where(is_flat, 0.0, found)


class Infidelity(SubsetMetric):
    """Mean squared difference of what the map says of random subsets and how far the score falls without them.

    By default the map may be scaled: the best factor of each sample is taken, so that only its form counts.

    Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", equation 1, with subsets of cells
    that are hidden as the perturbation; the factor is that of their section 2.

    Args:
        model: See `vis.metrics.Deletion`.
        fill: See `vis.metrics.Deletion`.
        num_samples: How many subsets, at least 3. Default 200.
        subset: Which part of the cells is hidden at a time, in (0, 1]. Default 0.2.
        grid: Cells along each axis, at most one for each position. Default 9.
        scaled: Whether the best factor is taken. Default `True`; if not, maps must be in units of the score.
        reduce: See `vis.metrics.Deletion`; for signed contributions with channels, take `"sum"`.
        seed: Seed of the subsets. Default 0.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)`, from 0, in squared units of the score; lower
        is better.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        >>> x, weights = np.ones((1, 4)), np.array([[4.0], [1.0], [2.0], [-3.0]])
        >>> model.set_weights([weights])
        >>> Infidelity(model, fill=0.0, subset=0.5)(x, 10 * weights.T, 1).round(4).tolist()
        [0.0]
    """

    name = "infidelity"
    higher_is_better = False

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = "mean",
        num_samples: int = 200,
        subset: float = 0.2,
        grid: int = 9,
        scaled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(model, fill, num_samples, subset, grid, **options)
        self._scaled = check_flag("scaled", scaled)

    def measure(self, samples, maps, known):
        """Returns the mean squares."""
        drops, sums = self.drops(samples), self.sums(samples, maps)
        if self._scaled:
            squares = (sums**2).sum(axis=-1, keepdims=True)
            products = (sums * drops).sum(axis=-1, keepdims=True)
            sums = sums * np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
        return ((sums - drops) ** 2).mean(axis=-1)


class MaskedMetric(ModelMetric):
    """Base class of the metrics that show the input through the map.

    Args:
        model: See `vis.metrics.base.ModelMetric`.
        fill: See `vis.metrics.base.ModelMetric`. Default 0, as published.
        reduce: See `vis.metrics.base.ModelMetric`.
        seed: Not used.
        input_name: See `vis.metrics.base.ModelMetric`.
        output_layer: See `vis.metrics.base.ModelMetric`.
        logits: See `vis.metrics.base.ModelMetric`.
    """

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = 0.0,
        *,
        reduce: Reduction = "absolute",
        seed: int = 0,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(
            model, fill, reduce=reduce, seed=seed, input_name=input_name, output_layer=output_layer, logits=logits
        )

    def measure(self, samples, maps, known):
        """Returns the metric of the scores with and without the map in front."""
        clean = samples.clean()
        check_probabilities(clean)
        key = ("shown through", fill_key(self.fill))
        if key not in known:
            known[key] = samples.faded(self.fill, maps)
        return self.formula(clean, known[key])

    def formula(self, clean, left):
        """Returns the metric `(K, N)` of the scores as they are `(N,)` and through the map `(K, N)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `formula(clean, left)`.")


class AverageDrop(MaskedMetric):
    """How much of the score is lost when the input is seen through the map: `max(0, y - o) / y`.

    Beware: a flat map, which hides nothing, is not beaten. A constant map is taken as flat.

    Source: Chattopadhay et al. 2018, "Grad-CAM++", section 4.1 (there in percent).

    Args:
        model: See `vis.metrics.Deletion`.
        fill: What is seen where the map is least, see `vis.metrics.Deletion`; not `"road"`. Default 0, as published.
            Each map is scaled from its least to its largest value: of a signed one, 0 lies between.
        reduce: See `vis.metrics.Deletion`.
        seed: Not used.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1]; lower is better.

    Raises:
        ValueError: Scores are no probabilities.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[0.6], [0.2]])])
        >>> AverageDrop(model)(np.ones((1, 2)), np.array([[1.0, 0.0]]), 1).round(4).tolist()
        [0.25]
    """

    name = "average-drop"
    higher_is_better = False

    def formula(self, clean, left):
        """Returns the part that is lost."""
        return np.maximum(clean - left, 0) / np.maximum(clean, 1e-12)


class AverageIncrease(MaskedMetric):
    """Whether the score rises when the input is seen through the map: 1 or 0.

    Source: Chattopadhay et al. 2018, "Grad-CAM++", section 4.1. Arguments and limits are those of
    `vis.metrics.AverageDrop`.

    Args:
        model: See `vis.metrics.AverageDrop`.
        fill: See `vis.metrics.AverageDrop`.
        reduce: See `vis.metrics.AverageDrop`.
        seed: See `vis.metrics.AverageDrop`.
        input_name: See `vis.metrics.AverageDrop`.
        output_layer: See `vis.metrics.AverageDrop`.
        logits: See `vis.metrics.AverageDrop`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)`, 0 or 1; higher is better.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[0.6], [-0.2]])])
        >>> AverageIncrease(model)(np.ones((1, 2)), np.array([[1.0, 0.0]]), 1).tolist()
        [1.0]
    """

    name = "average-increase"

    def formula(self, clean, left):
        """Returns 1 where the score rises."""
        return (left > clean).astype(float)


class AverageGain(MaskedMetric):
    """How much of what is missing from 1 is gained when the input is seen through the map: `max(0, o - y) / (1 - y)`.

    Source: Zhang et al. 2024, "Opti-CAM", equation 15. Arguments and limits are those of `vis.metrics.AverageDrop`.

    Args:
        model: See `vis.metrics.AverageDrop`.
        fill: See `vis.metrics.AverageDrop`.
        reduce: See `vis.metrics.AverageDrop`.
        seed: See `vis.metrics.AverageDrop`.
        input_name: See `vis.metrics.AverageDrop`.
        output_layer: See `vis.metrics.AverageDrop`.
        logits: See `vis.metrics.AverageDrop`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in [0, 1]; higher is better.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[0.6], [-0.2]])])
        >>> AverageGain(model)(np.ones((1, 2)), np.array([[1.0, 0.0]]), 1).round(2).astype(str).tolist()
        ['0.33']
    """

    name = "average-gain"

    def formula(self, clean, left):
        """Returns the part that is gained."""
        return np.maximum(left - clean, 0) / np.maximum(1 - clean, 1e-12)


def check_probabilities(scores) -> None:
    """Raises unless scores are in [0, 1]."""
    if scores.min() < -1e-6 or scores.max() > 1 + 1e-6:
        raise ValueError(
            "Average drop, increase and gain mean scores from 0 to 1. Received: scores from "
            f"{scores.min():.4g} to {scores.max():.4g}. Leave `logits=False` with a model that ends in a softmax, or "
            "give a `target` that makes probabilities: `lambda y: keras.ops.softmax(y)[:, 0]`."
        )


def rank_correlation(one, other) -> float:
    """Returns Spearman's correlation of two lists of numbers; 0 where one of them is constant."""
    from scipy import stats  # slow to import

    a, b = (stats.rankdata(values) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 0 else 0.0
