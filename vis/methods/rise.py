"""RISE: the score averaged over random masks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.designs import Shown, looks, mirrored, spread_of_pairs
from vis.engine.masking import Masking, Masks, warn_of_far_zero
from vis.engine.requests import SCORES
from vis.methods.explainer import check_finite
from vis.methods.features import FeatureExplainer
from vis.methods.perturbation import PerturbationExplainer
from vis.methods.sampling import Sampler
from vis.utils.images import read_between
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, check_fraction, shown

if TYPE_CHECKING:
    from typing import Self

    import keras

    from vis.engine.tasks import Task
    from vis.utils.types import Index, Inputs, LayerLike, Maps, TargetLike

_LEAST = 256  # masks before a look at the errors: what is rarely seen may be missed by fewer


class _Random(FeatureExplainer):
    """Shows random features."""

    asks_baseline = False
    num_masks, probability = 1, 0.5

    def design(self, count: int, seed: int, pairs: int = 1) -> Shown:
        """Returns random coalitions."""
        return Shown(count, self.num_masks, self.probability, seed)


class RISE(Sampler, PerturbationExplainer):
    """The score averaged over random masks that leave a position visible.

    Needs nothing but the output. Its limits: thousands of forward passes, and a grain that fades only
    with their number (`with_error` tells it, and `until` stops when it is small enough).

    Unlike the paper's, masks come in pairs: at the default probability, the second shows what the first hides. So all
    places are visible equally often, and chance in that adds nothing to the grain. What is expected is the same.

    Source: Petsiuk et al. 2018, "RISE", equation 6 and section 3.2; antithetic pairs: Hammersley & Morton 1956, "A new
    Monte Carlo technique". The masks are the same for every sample.

    Args:
        model: Any built or callable Keras model. Not changed.
        num_masks: How many masks, at least 1. Default 4000.
        grid: Cells of the masks along each axis, at least 1. Default 8.
        probability: How likely a cell is visible, in (0, 1]. Default 0.5. At any other, the second mask of a pair is
            made of the mirror images 1 - u of the random numbers u of the first.
        seed: Seed of the masks. Default `None`: others at each call.
        features: In place of a grid: what is hidden together, see `vis.ShapleyValues`. Default `None`.
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, in units of the score:
        the expected score given that a position is visible. It is above 0 all over: to draw it, subtract each map's
        minimum first.

    Raises:
        ValueError: An argument is wrong, or the input holds whole numbers, which have no half.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        >>> map = RISE(model, num_masks=500, grid=4, seed=0)(np.ones((1, 8, 8, 1)), target=0)[0]
        >>> bool(map[0, 0] > map[7, 7])
        True
    """

    def __init__(
        self,
        model: keras.Layer,
        num_masks: int = 4000,
        grid: int = 8,
        probability: float = 0.5,
        seed: int | None = None,
        *,
        features: Any = None,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self._num_masks = check_count("num_masks", num_masks, 1)
        self._grid = check_count("grid", grid, 1)
        self._probability = check_fraction("probability", probability)
        self._seed = None if seed is None else check_count("seed", seed)
        if features is not None and input_name is not None:
            raise ValueError(
                f"`features` says itself which input is meant. Received: `input_name={shown(input_name)}` besides. "
                "Give a dict, such as `features={'image': 'slic'}`."
            )
        self._parts = None
        if features is not None:
            self._parts = _Random(model, features, seed=seed, output_layer=output_layer, logits=logits)
            self._parts.num_masks, self._parts.probability = self._num_masks, self._probability

    def until(self, standard_error: float) -> Self:
        """Returns a copy that stops early, see `vis.methods.sampling.Sampler.until`."""
        found = super().until(standard_error)
        found._parts = None if self._parts is None else self._parts.until(standard_error)
        return found

    def explain(self, task: Task) -> Maps:
        """Returns the sum of the masks weighted by the scores, over n p."""
        if self._parts is not None:
            maps = self._parts.explain(task.on(self._parts.evaluator))
            self.evaluations = self._parts.evaluations
            return maps
        return self._means(task)[0]

    def with_error(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> tuple[Maps, Maps]:
        """Explains a batch of inputs, and says how far off the sampling may be.

        Args:
            inputs: As of a call.
            target: As of a call.
            batch_size: As of a call.
            verbose: As of a call.

        Returns:
            `(maps, errors)`: what a call returns, and the standard error of each value in the same form.
        """
        if self._parts is not None:
            found = self._parts.with_error(inputs, target, batch_size, verbose)
            self.evaluations = self._parts.evaluations
            return found
        means, errors = self._means(self.evaluator.task(inputs, target, batch_size, verbose))
        return check_finite(means), errors

    def _means(self, task):
        """Returns the means of the masks weighted by the scores, over p, and their standard errors."""
        index = self.perturbed(task.batch)
        if not task.batch.is_float(index) or self.vocabulary(task.batch, index):
            raise ValueError(
                f"`{task.batch.layout.names[index]}` holds whole numbers or strings, which cannot be faded by a mask. "
                "Use vis.Occlusion."
            )
        warn_of_far_zero(task.batch.layout.names[index], task.batch.arrays[index])
        shape, seed = self.spatial_shape(task.batch, index), fresh_seed(self._seed)
        task = task.settled()

        @functools.lru_cache(3 * task.batch_size)  # each mask is used again when its score is known
        def mask(number):
            return self._mask(shape, seed, number)

        progress, means, errors = self.progress(task.count), [], []
        for indices, group in task.groups() if task.count > task.batch_size else [(np.arange(task.count), task)]:
            own, sums = self.progress(len(indices)), [_Sums(shape) for _ in indices]
            self._sample(group, index, mask, own, sums)
            progress.take(indices, own)
            means += [one.mean(self._probability).astype("float32") for one in sums]
            errors += [one.error(self._probability).astype("float32") for one in sums]
        self.tell(progress)
        return np.stack(means), np.stack(errors)

    def _sample(self, task, index, mask, progress, sums):
        """Adds up masks and scores until each sample is done."""
        shape, first = self.spatial_shape(task.batch, index), 0
        for last in looks(_LEAST, self._num_masks) if progress.goal is not None else [self._num_masks]:
            part, left = progress.part(task), progress.left
            parts = Masks(last - first, len(shape), lambda _, numbers, n=first: _stacked(mask, n + numbers))
            masking = Masking(part.batch, index, parts)
            for place, numbers, results in part.by_sample(SCORES, masking.count, inputs=masking):
                sums[left[place]].add(results["score"], _stacked(mask, first + numbers))
            progress.look(masking.count, np.array([sums[i].error(self._probability).max() for i in left]))
            if not len(progress.left):
                break
            first = last

    def _mask(self, shape, seed, number):
        """Returns one mask: a random grid one cell larger than the image, resized and shifted.

        Masks come in pairs. At a probability of one half the second shows what the first hides; at any other, the
        second is made of the mirror images of the random numbers of the first.
        """
        draw = np.random.Generator(np.random.SFC64([seed, number // 2]))
        mask = mirrored(draw.random([self._grid + 1] * len(shape)), self._probability)[number % 2].astype("float32")
        cells = [-(-size // self._grid) for size in shape]
        for axis, (size, cell) in enumerate(zip(shape, cells)):
            mask = read_between(mask, axis, (np.arange(size) + draw.integers(cell) + 0.5) / cell - 0.5)
        return mask


def _stacked(mask, numbers):
    return np.stack([mask(number) for number in numbers])


class _Sums:
    """What the masks of one sample add up to, and the spread of their pairs; they come in their order.

    Args:
        shape: Of a mask.
    """

    def __init__(self, shape):
        self._number, self._total, self._squares = 0, np.zeros(shape), np.zeros(shape)
        self._single = np.zeros((0, *shape), "float32")  # the first of a pair whose second is still to come

    def add(self, scores, masks):
        """Takes up some more masks and their scores."""
        rows = np.concatenate([self._single, scores.reshape(-1, *[1] * (masks.ndim - 1)) * masks])
        whole = len(rows) // 2 * 2
        pairs, self._single = rows[:whole:2] + rows[1:whole:2], rows[whole:].copy()
        self._number += len(masks)
        self._total += pairs.sum(axis=0, dtype="float64")
        self._squares += np.square(pairs, dtype="float64").sum(axis=0)

    def mean(self, probability):
        """Returns the mean over the masks."""
        return (self._total + self._single.sum(axis=0)) / (self._number * probability)

    def error(self, probability):
        """Returns its standard error."""
        single = self._single.sum(axis=0, dtype="float64")
        found = spread_of_pairs(self._number, self._total + single, self._squares + single**2, single)
        return found / probability
