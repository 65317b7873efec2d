"""What the explainer does when something changes: a little noise in the input, or the sum that it should keep."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from keras import tree

from vis.engine.masking import Background
from vis.engine.network import replaced
from vis.engine.requests import SCORES, Change, Request
from vis.methods.explainer import Explainer
from vis.methods.gradients import GradientExplainer, read_baselines
from vis.metrics.base import Metric
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, check_nonnegative, shown

if TYPE_CHECKING:
    from vis.utils.types import Inputs, Maps, TargetLike


class ExplainerMetric(Metric):
    """Base class of the metrics that ask the explainer itself.

    Args:
        explainer: Any explainer of `vis`. Not changed.

    Raises:
        TypeError: It is none.
    """

    def __init__(self, explainer: Explainer, seed: int | None = 0) -> None:
        if not isinstance(explainer, Explainer):
            raise TypeError(
                f"{type(self).__name__} asks the explainer again, so it needs one, such as `vis.GradCAM(model)`. "
                f"Received: {shown(explainer)}."
            )
        super().__init__(seed=fresh_seed(seed))
        self.explainer = explainer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.explainer!r})"

    def __call__(
        self,
        inputs: Inputs,
        maps: Maps | None = None,
        target: TargetLike = None,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> np.ndarray:
        """Measures an explainer.

        Args:
            inputs: What the model takes, batch axis first. Not changed.
            maps: What the explainer returned for them. Default `None`: it is asked.
            target: What is explained, see `vis.Saliency`. Default `None`: each sample's top class, and the same class
                for whatever is changed.
            batch_size: How many evaluations of the model run at once.
            verbose: 1 for a progress bar. Default 0.

        Returns:
            float32 `(N,)`.

        Raises:
            ValueError: An argument has a wrong value.
        """
        task = self.explainer.evaluator.task(inputs, target, batch_size, verbose).settled()
        known = rows(self.explainer.explain(task) if maps is None else maps, task.count)
        return self.of_task(task, known).astype("float32")

    def of_task(self, task, maps) -> np.ndarray:
        """Returns the metric `(N,)` for a settled task and its maps `(N, features)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `of_task(task, maps)`.")


def rows(maps, count) -> np.ndarray:
    """Returns maps of any structure as rows `(N, features)`, float64."""
    flat = [np.asarray(one, "float64").reshape(len(one), -1) for one in tree.flatten(maps)]
    if any(len(one) != count for one in flat):
        raise ValueError(
            f"`maps` must have one map for each of {count} samples. Received: {[len(one) for one in flat]}."
        )
    return np.concatenate(flat, axis=1)


class MaxSensitivity(ExplainerMetric):
    """How far the map moves, at most, when a little noise is added to the input: `max |M(x + d) - M(x)| / |M(x)|`.

    The target stays that of the clean input. A map of zeros has no length to compare with: 0 if it stays so, else
    infinitely sensitive, told as `inf`.

    Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", equation 2, estimated by sampling.

    Args:
        explainer: Any explainer of `vis`. Not changed.
        radius: How large the noise is at most, as a part of each sample's range (largest less least value). Default
            0.02.
        num_samples: How many draws, at least 1. Default 10.
        seed: Seed of the noise. Default `None`: other noise at each call.

    Returns:
        When called, `metric(inputs, maps=None, target=None, batch_size=32, verbose=0)`, float32 `(N,)` from 0; lower is
        better.

    Raises:
        ValueError: An argument has a wrong value, or the model takes token ids, to which no noise can be added.
        TypeError: `explainer` is none.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> MaxSensitivity(vis.Saliency(model), seed=0)(np.ones((1, 4)) * np.arange(4), target=1).round(4).tolist()
        [0.0]
    """

    name = "max-sensitivity"
    higher_is_better = False

    def __init__(
        self, explainer: Explainer, radius: float = 0.02, num_samples: int = 10, seed: int | None = None
    ) -> None:
        super().__init__(explainer, seed)
        self._radius, self._num_samples = (
            check_nonnegative("radius", radius),
            check_count("num_samples", num_samples, 1),
        )

    def of_task(self, task, maps):
        """Returns the largest distances."""
        batch = task.batch
        floats = [i for i in range(len(batch.arrays)) if batch.is_float(i)]
        if not floats:
            raise ValueError(
                "MaxSensitivity adds noise to the input. Received: inputs of whole numbers only, which have no values "
                "in between."
            )
        sizes, worst = np.linalg.norm(maps, axis=1), np.zeros(task.count)
        for number in range(self._num_samples):
            noisy = _noisy(batch, floats, self._radius, [self.seed, number])
            moved = rows(self.explainer.explain(_replaced(task, noisy)), task.count)
            worst = np.maximum(worst, np.linalg.norm(moved - maps, axis=1))
        return np.divide(worst, sizes, out=np.where(worst > 0, np.inf, 0.0), where=sizes > 0)


def _noisy(batch, floats, radius, seed):
    draw, arrays = np.random.default_rng(seed), list(batch.arrays)
    for i in floats:
        axes = tuple(range(1, arrays[i].ndim))
        size = radius * (arrays[i].max(axis=axes, keepdims=True) - arrays[i].min(axis=axes, keepdims=True))
        arrays[i] = (arrays[i] + size * draw.uniform(-1, 1, arrays[i].shape)).astype(arrays[i].dtype)
    return arrays


def _replaced(task, arrays):
    """Returns a task with other values of its inputs and the same target."""
    return dataclasses.replace(task, batch=dataclasses.replace(task.batch, arrays=arrays), known_scores=None)


class Completeness(ExplainerMetric):
    """How far the sum of the contributions is from what they should explain, as a part of it.

    Contributions of IntegratedGradients and DeepLIFT should sum to score(x) - score(baseline), of LRP to the score.
    What should be explained is 0 where both are alike: then any contribution is a miss of 1.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", section 3 (the axiom).

    Args:
        explainer: An explainer whose maps are contributions, in the shape of the inputs or of its `input_layer`.
        baseline: What the score is compared with: a number, an array, or a `vis.metrics.Background`, over which it is
            averaged. Default `None`: the explainer's own baseline, or nothing where it has none (then the contributions
            should sum to the score).

    Returns:
        When called, `metric(inputs, maps=None, target=None, batch_size=32, verbose=0)`, float32 `(N,)`:
        `|sum - wanted| / max(|sum|, |wanted|)`, from 0 to 2; lower is better.

    Raises:
        ValueError: The maps are not contributions of values that can be replaced.
        TypeError: `explainer` is none.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> Completeness(vis.IntegratedGradients(model))(np.ones((1, 4)), target=1).round(3).tolist()
        [0.0]
    """

    name = "completeness"
    higher_is_better = False

    def __init__(self, explainer: Explainer, baseline: object = None) -> None:
        super().__init__(explainer)
        if not isinstance(explainer, GradientExplainer):
            raise TypeError(
                "Completeness means contributions in the shape of the inputs, such as those of "
                f"`vis.IntegratedGradients`. Received: {explainer!r}, whose maps have another meaning."
            )
        self._baseline = baseline

    def of_task(self, task, maps):
        """Returns the misses."""
        sums, wanted = maps.sum(axis=1), task.scores().astype("float64") - self._start_scores(task)
        size = np.maximum(np.abs(sums), np.abs(wanted))
        return np.divide(np.abs(sums - wanted), size, out=np.zeros_like(size), where=size > 0)

    def _start_scores(self, task):
        """Returns the scores `(N,)` of the baseline, 0 where there is none."""
        if isinstance(self._baseline, Background):
            parts = [self._scores(task, [sample]) for sample in self._baseline.samples]
            return np.mean(parts, axis=0)
        explainer = self.explainer
        if self._baseline is None:
            starts = explainer.starts(task)
            return np.zeros(task.count) if starts is None else self._scores(task, starts)
        return self._scores(task, read_baselines(explainer, task, explainer.values(task), self._baseline))

    def _scores(self, task, starts):
        values = self.explainer.values(task)
        whole = [np.broadcast_to(start, value.shape).astype(value.dtype) for start, value in zip(starts, values)]
        if self.explainer.site is None:
            return task.scores_of(SCORES, 1, inputs=lambda images, _: [one[images] for one in whole], quiet=True)[:, 0]
        request = Request(change=Change(self.explainer.site, replaced))
        return task.scores_of(request, 1, data=lambda images, _: [one[images] for one in whole], quiet=True)[:, 0]
