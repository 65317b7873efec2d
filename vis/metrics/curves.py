"""Curves: the score while positions are hidden one part after the other, in the order that a map gives them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
import numpy as np

from vis.metrics.base import ModelMetric
from vis.utils.validation import check_count, is_integer, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vis.metrics.base import Background, Reduction, Samples
    from vis.utils.types import Index, Inputs, LayerLike, Maps, TargetLike


def ranks(maps: np.ndarray, kept: np.ndarray, seed: int) -> np.ndarray:
    """Returns the place of each position in the order of falling values, from 0; ties in random order.

    Args:
        maps: `(K, N, *spatial)`.
        kept: Which positions count, `(N, *spatial)`; the others come last.
        seed: Seed of the order of ties.

    Returns:
        int32, the shape of `maps`.

    Examples:
        >>> ranks(np.array([[[1.0, 5.0, 3.0]]]), np.ones((1, 3), bool), 0).tolist()
        [[[2, 0, 1]]]
    """
    found = np.empty(maps.shape, "int32")
    for k, i in np.ndindex(*maps.shape[:2]):
        values = np.where(kept[i], -maps[k, i], np.inf).ravel()
        order = _with_shuffled_ties(np.argsort(values), values, np.random.default_rng([seed, k, i]))
        found[k, i].reshape(-1)[order] = np.arange(values.size, dtype="int32")
    return found


def _with_shuffled_ties(order, values, draw):
    """Returns the order of values, with those that are equal shuffled among themselves."""
    in_order = values[order]
    is_next = np.concatenate([[True], in_order[1:] != in_order[:-1]])  # than the one before
    in_run = ~is_next | ~np.append(is_next[1:], True)
    places = np.flatnonzero(in_run)
    if len(places):
        runs = np.cumsum(is_next)[places]
        tied = order[places]
        tied = tied[np.lexsort((tied, runs))]  # by their index, however they were sorted
        order[places] = tied[np.lexsort((draw.random(len(places)), runs))]
    return order


@dataclasses.dataclass(frozen=True)
class Steps:
    """How many positions are hidden at each step.

    Args:
        counts: `(N, steps + 1)`.
        sizes: How many positions each sample has, `(N,)`.
    """

    counts: np.ndarray
    sizes: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """The part of the positions that is hidden, `(N, steps + 1)`."""
        return self.counts / self.sizes[:, None]


def steps_of(samples: Samples, fractions: np.ndarray) -> Steps:
    """Returns the steps that come closest to some fractions."""
    sizes = samples.kept.reshape(samples.count, -1).sum(axis=1)
    return Steps(np.round(fractions[None] * sizes[:, None]).astype(int), sizes)


def score_curves(samples: Samples, order: np.ndarray, steps: Steps, fill, least_first: bool) -> np.ndarray:
    """Returns the scores while positions are hidden.

    The samples as they are, and those of which everything is hidden, are evaluated once for all maps.

    Args:
        samples: The samples.
        order: The `ranks` of K maps, `(K, N, *spatial)`.
        steps: How much is hidden at each step.
        fill: What stands in the place of hidden positions, as the user gave it.
        least_first: Whether the least relevant positions are hidden first.

    Returns:
        float64 `(K, N, steps + 1)`.
    """
    shown_fill = samples.read_fill(fill)
    if least_first:
        sizes = steps.sizes.reshape(1, -1, *[1] * len(samples.shape))
        order = np.where(samples.kept[None], sizes - 1 - order, order)
    whole = np.empty((*order.shape[:2], steps.counts.shape[1]))
    open_steps = [s for s in range(whole.shape[-1]) if not _is_end(steps, s)]
    for s in set(range(whole.shape[-1])) - set(open_steps):
        whole[..., s] = samples.clean() if (steps.counts[:, s] == 0).all() else everything_hidden(samples, fill)

    def hidden(images, numbers):
        k, s = numbers // len(open_steps), np.take(open_steps, numbers % len(open_steps))
        counts = steps.counts[images, s].reshape(-1, *[1] * len(samples.shape))
        return order[k, images] < counts

    if open_steps:
        scores = samples.scores(shown_fill, len(order) * len(open_steps), hidden)
        whole[..., open_steps] = np.moveaxis(scores.reshape(samples.count, len(order), -1), 0, 1)
    return whole


def _is_end(steps, s):
    return (steps.counts[:, s] == 0).all() or (steps.counts[:, s] == steps.sizes).all()


def everything_hidden(samples: Samples, fill) -> np.ndarray:
    """Returns the scores `(N,)` of samples of which everything is hidden."""

    def make():
        return samples.scores(samples.read_fill(fill), 1, lambda images, _: samples.kept[images], quiet=True)[:, 0]

    return samples.once(("everything hidden", fill_key(fill)), make)


def fill_key(fill) -> object:
    """Returns what tells fills apart."""
    return fill if isinstance(fill, (str, float)) else id(fill)


def area(curves: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Returns the area under curves `(..., N, steps + 1)` over fractions `(N, steps + 1)`, by the trapezoid rule."""
    return ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(fractions, axis=-1)).sum(axis=-1)


class CurveMetric(ModelMetric):
    """Base class of the metrics that read a number off curves.

    Two curves are made of a map: `"most"`, with its most relevant positions hidden first, and `"least"`. Metrics of the
    same steps, fill and seed share them.

    Args:
        model: See `ModelMetric`.
        fill: See `ModelMetric`.
        steps: How many equal parts are hidden one after the other, at least 1.
        reduce: See `ModelMetric`.
        seed: See `ModelMetric`.
        input_name: See `ModelMetric`.
        output_layer: See `ModelMetric`.
        logits: See `ModelMetric`.
    """

    sides: tuple[str, ...] = ("most",)

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = "mean",
        steps: int = 10,
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
        self.fractions = np.arange(check_count("steps", steps, 1) + 1) / steps

    def curve(
        self, inputs: Inputs, maps: Maps, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> np.ndarray:
        """Returns the curve of each sample; the arguments are those of `__call__`.

        Returns:
            float32 `(N, steps + 1)`, from nothing to everything hidden (shown, for an insertion).
        """
        samples = self.samples(inputs, target, batch_size, verbose)
        maps = samples.read(maps, self.reduce)[None]
        return self.shown_curve(self.curves(samples, maps, {}))[0].astype("float32")

    def measure(self, samples, maps, known):
        """Returns the metric of several maps, see `vis.metrics.base.Metric.measure`."""
        return self.read_off(self.curves(samples, maps, known), steps_of(samples, self.fractions).fractions)

    def curves(self, samples, maps, known) -> dict:
        """Returns the curves `(K, N, steps + 1)` that the metric needs, by their side."""

        def make(side):
            key = (side, tuple(self.fractions), fill_key(self.fill), self.seed)
            if key not in known:
                if self._order_key not in known:
                    known[self._order_key] = ranks(maps, samples.kept, self.seed)
                steps = steps_of(samples, self.fractions)
                known[key] = score_curves(samples, known[self._order_key], steps, self.fill, side == "least")
            return known[key]

        return {side: make(side) for side in self.sides}

    @property
    def _order_key(self):
        return ("order", self.seed)

    def read_off(self, curves: dict, fractions: np.ndarray) -> np.ndarray:
        """Returns the metric `(K, N)` of curves by their side, over fractions `(N, steps + 1)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `read_off(curves, fractions)`.")

    def shown_curve(self, curves: dict) -> np.ndarray:
        """Returns the curve that is drawn, `(K, N, steps + 1)`."""
        return curves[self.sides[0]]


class Deletion(CurveMetric):
    """The area under the score while the most relevant positions are hidden first: small for a map that tells them.

    Beware: hidden positions make inputs that the model never saw, and the fill decides how it takes them; a number
    without a baseline beside it says little (`vis.evaluate`).

    Source: Petsiuk et al. 2018, "RISE", section 4.1. Ties are broken at random: by index they would favour corners.

    Args:
        model: Any built or callable Keras model. Not changed.
        fill: What stands in place of hidden positions: a number, an array that fits one sample or the batch, `"mean"`
            (default: each channel's mean over the positions of the sample), `"blur"`, `"road"` or a
            `vis.metrics.Background`.
        steps: How many equal parts are hidden one after the other. Default 10.
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.
        seed: Seed of the order of equal values. Default 0.
        input_name: Which of several inputs the maps belong to, see `vis.Occlusion`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is meant. Default `False`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in units of the score; lower is better.

    Raises:
        ValueError: An argument has a wrong value.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0], [2.0], [1.0]])])
        >>> Deletion(model, fill=0.0, steps=3).curve(np.ones((1, 3)), np.array([[3.0, 2.0, 1.0]]), 1).tolist()
        [[6.0, 3.0, 1.0, 0.0]]
    """

    name = "deletion"
    higher_is_better = False

    def read_off(self, curves, fractions):
        """Returns the area."""
        return area(curves["most"], fractions)


class Insertion(CurveMetric):
    """The area under the score while the most relevant positions are shown first: large for a map that tells them.

    The curve begins with everything hidden. Arguments and limits are those of `vis.metrics.Deletion`.

    Source: Petsiuk et al. 2018, "RISE", section 4.1.

    Args:
        model: See `vis.metrics.Deletion`.
        fill: See `vis.metrics.Deletion`.
        steps: See `vis.metrics.Deletion`.
        reduce: See `vis.metrics.Deletion`.
        seed: See `vis.metrics.Deletion`.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in units of the score; higher is better.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0], [2.0], [1.0]])])
        >>> Insertion(model, fill=0.0, steps=3).curve(np.ones((1, 3)), np.array([[3.0, 2.0, 1.0]]), 1).tolist()
        [[0.0, 3.0, 5.0, 6.0]]
    """

    name = "insertion"
    sides = ("least",)

    def read_off(self, curves, fractions):
        """Returns the area: showing the most relevant is hiding the least relevant, backwards."""
        return area(curves["least"], fractions)

    def shown_curve(self, curves):
        """Returns the curve from nothing shown to everything."""
        return curves["least"][..., ::-1]


class SRG(CurveMetric):
    """Symmetric relevance gain: the area with the least relevant positions hidden first, less that with the most.

    What both curves suffer alike, such as inputs that the model never saw, falls away in the difference. 0 is chance.

    Source: Bluecher et al. 2024, "Decoupling pixel flipping and occlusion strategy", section 4.2.

    Args:
        model: See `vis.metrics.Deletion`.
        fill: See `vis.metrics.Deletion`.
        steps: See `vis.metrics.Deletion`.
        reduce: See `vis.metrics.Deletion`.
        seed: See `vis.metrics.Deletion`.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in units of the score; higher is better. Its
        `curve` is the difference of the two.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0], [2.0], [1.0]])])
        >>> SRG(model, fill=0.0, steps=3)(np.ones((1, 3)), np.array([[3.0, 2.0, 1.0]]), 1).round(2).astype(str).tolist()
        ['1.33']
    """

    name = "srg"
    sides = ("most", "least")

    def read_off(self, curves, fractions):
        """Returns the difference of the areas."""
        return area(curves["least"], fractions) - area(curves["most"], fractions)

    def shown_curve(self, curves):
        """Returns the difference of the curves."""
        return curves["least"] - curves["most"]


class ROAD(CurveMetric):
    """Remove and debias: half the difference of the scores with the least and the most relevant positions imputed.

    What is hidden becomes what its neighbours suggest, with noise, so that the form of the hidden part tells the model
    less.

    Source: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods", section 4; the
    difference as in "combined" ROAD. Noise of 0.1 standard deviations; some implementations take 0.01.

    Args:
        model: See `vis.metrics.Deletion`.
        fill: See `vis.metrics.Deletion`. Default `"road"`: noisy linear imputation.
        percentiles: How much is hidden, in percent, each above 0 and at most 100. Default `(20, 40, 60, 80)`.
        reduce: See `vis.metrics.Deletion`.
        seed: See `vis.metrics.Deletion`.
        input_name: See `vis.metrics.Deletion`.
        output_layer: See `vis.metrics.Deletion`.
        logits: See `vis.metrics.Deletion`.

    Returns:
        When called, as by `vis.metrics.Metric.__call__`, float32 `(N,)` in units of the score: the mean over the
        percentiles; higher is better. Its `curve` is `(N, len(percentiles))`.

    Raises:
        ValueError: There are no percentiles, or not between 0 and 100.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
        >>> ROAD(model, percentiles=(25, 50))(x, x[..., 0]).shape
        (2,)
    """

    name = "road"
    sides = ("most", "least")

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = "road",
        percentiles: tuple[float, ...] = (20, 40, 60, 80),
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
        self.fractions = read_percentiles(percentiles) / 100

    def read_off(self, curves, fractions):
        """Returns the mean over the percentiles."""
        return self.shown_curve(curves).mean(axis=-1)

    def shown_curve(self, curves):
        """Returns half the difference at each percentile."""
        return (curves["least"] - curves["most"]) / 2


def read_percentiles(percentiles) -> np.ndarray:
    """Returns percentiles as an array, or raises."""
    given = percentiles if isinstance(percentiles, (list, tuple, np.ndarray)) else [percentiles]
    valid = [one for one in given if (is_integer(one) or isinstance(one, (float, np.floating))) and 0 < one <= 100]
    if not valid or len(valid) < len(given):
        raise ValueError(
            "`percentiles` must be numbers above 0 and at most 100: how much is hidden, in percent. Received: "
            f"{shown(percentiles)}."
        )
    return np.asarray(valid, float)
