"""Means over gradients at points that are drawn at random, and how precise they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.methods.explainer import check_finite
from vis.methods.gradients import GradientExplainer
from vis.methods.sampling import Sampler

if TYPE_CHECKING:
    from vis.engine.tasks import Task
    from vis.utils.types import Inputs, Maps, TargetLike

_LEAST = 16  # draws before a look at the errors


class GradientSampler(Sampler, GradientExplainer):
    """Base class of the methods that are a mean over gradients at random points.

    A subclass writes `draws` and sets `_num_samples`. What `draws` returns has `part(images, first, last)`, the draws
    from one number to another for some of the samples; `between(images, numbers)`, the points, a flat list as `values`
    gives; `shares(image, numbers, gradients)`, what is to be averaged; `values`, those of its samples; `count`, how
    many draws there are; and `is_exact`, whether one draw is as good as all, as nothing is drawn.
    """

    _num_samples: int

    def draws(self, task: Task, values: list[np.ndarray]) -> Any:
        """Returns the random points of a call, see the class.

        Args:
            task: The task.
            values: What is attributed to.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `draws(task, values)`.")

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the means over all draws."""
        return self.moments(task, with_squares=False)[0]

    def with_error(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> tuple[Maps, Maps]:
        """Explains a batch of inputs, and says how uncertain each attribution is.

        Args:
            inputs: See `__call__`.
            target: See `__call__`.
            batch_size: See `__call__`.
            verbose: See `__call__`.

        Returns:
            `(attributions, standard errors)`, both as `__call__` returns attributions: the errors are the standard
            deviation of what is averaged over the random draws, divided by the root of their number.

        Raises:
            ValueError: Errors are not known, as `num_samples` is 1 or the statistic no mean, or see `__call__`.
        """
        self.check_has_errors()
        task = self.evaluator.task(inputs, target, batch_size, verbose)
        means, errors = check_finite(self.moments(task, with_squares=True))
        return (task.batch.pack(means), task.batch.pack(errors)) if self.site is None else (means[0], errors[0])

    def check_has_errors(self) -> None:
        """Raises where standard errors are not known, as of a single draw."""
        if self._num_samples < 2:
            raise ValueError("A standard error needs `num_samples` of at least 2. Received: num_samples=1.")

    def moments(self, task: Task, with_squares: bool) -> list[list[np.ndarray]]:
        """Returns `[means, errors]`, flat lists: the means over the draws, and their standard errors if wanted.

        Args:
            task: The task.
            with_squares: Whether errors are wanted.
        """
        task = task.settled()
        values, progress = self.values(task), self.progress(task.count)
        draws = self.draws(task, values)
        with_squares, sums = with_squares or progress.goal is not None, []
        for indices, group in task.groups() if progress.goal is not None else [(np.arange(task.count), task)]:
            own = self.progress(len(indices))
            sums += self._sums(group, draws.part(indices), own, with_squares)
            progress.take(indices, own)
        self.tell(progress)
        return [[np.stack(arrays) for arrays in zip(*parts)] for parts in zip(*(one.result() for one in sums))]

    def _sums(self, task, draws, progress, with_squares):
        """Returns what the gradients of the draws add up to, for each sample, until it is done."""
        sums = [_Sums(draws, with_squares) for _ in range(task.count)]
        for first, last in progress.rounds(_LEAST, draws.count):
            left = progress.left
            part = draws.part(left, first, last)
            asked, request, how = self.asked(progress.part(task), part.between, part.values)
            for place, numbers, results in asked.by_sample(request, last - first, **how):
                sums[left[place]].add(part.shares(place, numbers, self._flat(task, results)))
            progress.look(last - first, np.array([sums[image].largest_error() for image in left]))
        return sums


class _Sums:
    """What the draws of one sample add up to, a flat list of arrays: in double precision until all are drawn.

    Args:
        draws: What is drawn, for its number.
        with_squares: Whether the errors of their means are wanted.
    """

    def __init__(self, draws, with_squares):
        self._most, self._is_exact, self._with_squares = draws.count, draws.is_exact, with_squares
        self._number, self._totals, self._squares, self._result = 0, [], [], None

    def add(self, shares):
        """Takes up what some draws give, one row each."""
        self._number += len(shares[0])
        self._totals = _added(self._totals, shares)
        if self._with_squares:
            self._squares = _added(self._squares, [np.square(one, dtype="float64") for one in shares])
        if self._number == self._most:
            self._result = self.result()
            self._totals = self._squares = []

    def result(self):
        """Returns `(means, errors)`, float32; no errors where none are wanted."""
        if self._result is not None:
            return self._result
        means = [total / self._number for total in self._totals]
        errors = [self._error(squares, mean) for squares, mean in zip(self._squares, means)]
        return [mean.astype("float32") for mean in means], [error.astype("float32") for error in errors]

    def _error(self, squares, mean):
        if self._is_exact or self._number == 1:
            return np.full(mean.shape, 0.0 if self._is_exact else np.inf)
        return np.sqrt(np.maximum(squares / self._number - mean**2, 0) / (self._number - 1))

    def largest_error(self):
        """Returns the largest of all errors, 0 where none are wanted."""
        return max((float(error.max()) for error in self.result()[1]), default=0.0)


def _added(totals, rows):
    sums = [one.sum(axis=0, dtype="float64") for one in rows]
    return [total + more for total, more in zip(totals, sums)] if totals else sums
