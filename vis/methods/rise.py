"""RISE: the score averaged over random masks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.designs import Shown
from vis.engine.masking import Masking, Masks, warn_of_far_zero
from vis.engine.requests import SCORES
from vis.methods.explainer import check_finite
from vis.methods.features import FeatureExplainer
from vis.methods.perturbation import PerturbationExplainer
from vis.utils.images import read_between
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, check_fraction, shown

if TYPE_CHECKING:
    import keras

    from vis.engine.tasks import Task
    from vis.utils.types import Index, Inputs, LayerLike, Maps, TargetLike


class _Random(FeatureExplainer):
    """Shows random features."""

    asks_baseline = False
    num_masks, probability = 1, 0.5

    def design(self, count: int, seed: int, pairs: int = 1) -> Shown:
        """Returns random coalitions."""
        return Shown(count, self.num_masks, self.probability, seed)


class RISE(PerturbationExplainer):
    """The score averaged over random masks that leave a position visible.

    Needs nothing but the output. Its limits: thousands of forward passes, and a grain that fades only
    with their number.

    Source: Petsiuk et al. 2018, "RISE", equation 6 and section 3.2. The masks are the same for every sample.

    Args:
        model: Any built or callable Keras model. Not changed.
        num_masks: How many masks, at least 1. Default 4000.
        grid: Cells of the masks along each axis, at least 1. Default 8.
        probability: How likely a cell is visible, in (0, 1]. Default 0.5.
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

    def explain(self, task: Task) -> Maps:
        """Returns the sum of the masks weighted by the scores, over n p."""
        if self._parts is not None:
            return self._parts.explain(task.on(self._parts.evaluator))
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
            return self._parts.with_error(inputs, target, batch_size, verbose)
        means, squares = self._means(self.evaluator.task(inputs, target, batch_size, verbose))
        spread = np.maximum(squares - means.astype("float64") ** 2, 0) / max(self._num_masks - 1, 1)
        return check_finite(means), np.sqrt(spread).astype("float32")

    def _means(self, task):
        """Returns the means of the masks weighted by the scores, over p, and of their squares."""
        index = self.perturbed(task.batch)
        if not task.batch.is_float(index) or self.vocabulary(task.batch, index):
            raise ValueError(
                f"`{task.batch.layout.names[index]}` holds whole numbers, which cannot be faded by a mask. "
                "Use vis.Occlusion."
            )
        warn_of_far_zero(task.batch.layout.names[index], task.batch.arrays[index])
        shape, seed = self.spatial_shape(task.batch, index), fresh_seed(self._seed)
        task = task.settled()

        @functools.lru_cache(3 * task.batch_size)  # each mask is used again when its score is known
        def mask(number):
            return self._mask(shape, seed, number)

        def masks(numbers):
            return np.stack([mask(number) for number in numbers])

        parts = Masks(self._num_masks, len(shape), lambda _, numbers: masks(numbers))
        masking = Masking(task.batch, index, parts)

        def weighted(image, numbers, results):
            own, scores = masks(numbers), results["score"]
            return [np.einsum("r,r...->...", scores, own), np.einsum("r,r...->...", scores**2, own**2)]

        def finish(image, totals):
            return [total / (self._num_masks * self._probability**power) for power, total in enumerate(totals, 1)]

        return task.reduce(SCORES, masking.count, weighted, finish, inputs=masking)

    def _mask(self, shape, seed, number):
        """Returns one mask: a random grid one cell larger than the image, resized and shifted."""
        draw = np.random.Generator(np.random.SFC64([seed, number]))
        mask = (draw.random([self._grid + 1] * len(shape)) < self._probability).astype("float32")
        cells = [-(-size // self._grid) for size in shape]
        for axis, (size, cell) in enumerate(zip(shape, cells)):
            mask = read_between(mask, axis, (np.arange(size) + draw.integers(cell) + 0.5) / cell - 0.5)
        return mask
