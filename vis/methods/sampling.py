"""What methods that draw at random share: they stop at a standard error, and tell how much they evaluated."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vis.engine.designs import looks
from vis.utils.validation import VisualizationWarning, check_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from vis.engine.tasks import Task


class Sampler:
    """Base class of the methods that draw at random and know their standard errors.

    Attributes:
        evaluations: How often the latest call evaluated the model for each sample, whole numbers `(N,)`; the sample as
            it is does not count. `None` before the first call. Of a stream, those of the latest batch.
    """

    evaluations: np.ndarray | None = None
    _standard_error: float | None = None

    def until(self, standard_error: float) -> Self:
        """Returns a copy of the explainer that stops as soon as its values are as precise as wanted.

        The errors are looked at after each half as many draws again, and a sample is done when the largest standard
        error of its values is at most this. Each sample of a batch stops by itself, so what a sample gets does not
        depend on the others, nor on `batch_size`. The number of samples, masks or designs that the explainer was made
        with is the most it takes. `evaluations` then tells how many it took.

        Who looks often and stops when it looks good stops a little too often when it only looks good: errors at the
        end are some hundredths too small. And what matters in few draws only may be missed by the first, which are 256
        masks of `vis.RISE`, 8 pairs of orders of `vis.ShapleyValues`, 32 pairs of coalitions of `vis.KernelSHAP`,
        64 coalitions and two for each feature of `vis.LIME`, 16 designs of `vis.Sobol`, 128 masks of `vis.HSIC`, 16
        gradients of `vis.ExpectedGradients` and `vis.SmoothGrad`.

        Args:
            standard_error: Above 0, in units of the values: of the score for most methods (a probability, if a softmax
                is explained), shares of the variance for `vis.Sobol`, without unit for `vis.HSIC`.

        Raises:
            ValueError: `standard_error` is not above 0.
            TypeError: It is no number.

        Warns:
            VisualizationWarning: When called: some samples were not done when all was drawn; it says how far off they
                are.

        Examples:
            >>> import keras
            >>> import vis
            >>> model = keras.Sequential([keras.Input((14,)), keras.layers.Dense(1, "tanh")])
            >>> explainer = vis.ShapleyValues(model, num_samples=10000, seed=0).until(0.05)
            >>> values, errors = explainer.with_error(np.ones((2, 14)))
            >>> bool(errors.max() <= 0.05 and explainer.evaluations.max() < 10000)
            True
        """
        if check_number("standard_error", standard_error) <= 0:
            raise ValueError(
                f"`standard_error` must be above 0, in units of the values. Received: {standard_error}. For all "
                "samples, masks or designs, call the explainer without `until`."
            )
        found = copy.copy(self)
        found._standard_error, found.evaluations = float(standard_error), None
        return found

    def progress(self, count: int) -> Progress:
        """Returns what is kept of a call for some samples."""
        return Progress(self._standard_error, np.arange(count), np.zeros(count, int), np.zeros(count))

    def tell(self, progress: Progress) -> None:
        """Notes what a call took, and warns of samples that are less precise than wanted."""
        self.evaluations = progress.evaluations
        if progress.goal is not None and len(progress.left):
            warnings.warn(
                f"The standard errors of {len(progress.left)} of {len(progress.errors)} samples are above "
                f"{progress.goal:g} when all is drawn, the largest is {progress.errors.max():.2g}. Give a larger "
                "`standard_error`, or let more be drawn.",
                VisualizationWarning,
                stacklevel=2,
            )


@dataclasses.dataclass(eq=False)
class Progress:
    """How far a call is.

    Attributes:
        goal: The standard error that is wanted, or `None`.
        left: Which samples are not done, or have no goal.
        evaluations: How often the model was evaluated for each sample.
        errors: The largest standard error of each sample's values, as it was last looked at.
    """

    goal: float | None
    left: np.ndarray
    evaluations: np.ndarray
    errors: np.ndarray

    def rounds(self, least: int, most: int) -> Iterator[tuple[int, int]]:
        """Yields the numbers of the first draw and of the one behind the last, between looks, until all are done.

        Args:
            least: How many draws there are before the first look.
            most: How many there are at most; without a goal, all at once.
        """
        first = 0
        for last in looks(least, most) if self.goal is not None else [most]:
            yield first, last
            if not len(self.left):
                return
            first = last

    def part(self, task: Task) -> Task:
        """Returns the task for the samples that are left; all its chunks have one size, so that one is compiled."""
        if self.goal is None:
            return task
        return dataclasses.replace(task.part(self.left), usual=task.batch_size)

    def look(self, evaluations: int, errors: np.ndarray) -> None:
        """Notes how often the samples that are left were evaluated now, and leaves those that are done.

        Args:
            evaluations: Of each.
            errors: The largest standard error of each.
        """
        self.evaluations[self.left] += evaluations
        self.errors[self.left] = errors
        if self.goal is not None:
            self.left = self.left[~(np.asarray(errors) <= self.goal)]

    def take(self, indices: np.ndarray, other: Progress) -> None:
        """Takes up what is known of some of the samples."""
        self.evaluations[indices], self.errors[indices] = other.evaluations, other.errors
        self.left = np.setdiff1d(self.left, np.delete(indices, other.left))
