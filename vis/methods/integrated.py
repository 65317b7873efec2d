"""Gradients collected on the straight way from a baseline: as many steps as asked for, or as a sample needs."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np
from keras import tree

from vis.engine.quadrature import AT_ONCE, FAR, Way
from vis.engine.tasks import gathered
from vis.methods.explainer import check_finite
from vis.methods.gradients import GradientExplainer, read_baselines
from vis.utils.validation import VisualizationWarning, check_count, check_number, shown

if TYPE_CHECKING:
    import keras

    from vis.engine.tasks import Task
    from vis.utils.types import Inputs, LayerLike, Maps, RuleLike, TargetLike

_MOST_POINTS = 200  # of those that choose their points


class IntegratedGradients(GradientExplainer):
    """The gradients collected on the straight way from a baseline to the input.

    Complete: the attributions of a sample sum to the score of the input minus the score of the
    baseline. Its limit: what equals the baseline gets nothing, so the baseline decides what can be
    seen.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", equation 1. A number of
    steps are Gauss-Legendre nodes; `"auto"` is the trapezoidal rule with this library's own choice of points.

    `steps="auto"` looks at 9 points of the way, and then where the gradients change most or the scores say that
    something is missing, up to 200 points: until the map is estimated to be at most 0.16 of its absolute sum away from
    the integrals. By then its sum may still differ from the difference of the scores; the points are made to weigh a
    little more or less, by least squares, so that it is right up to `tolerance`. For a map that is nearer to the
    integrals, give a number. `with_steps` tells how many were taken.

    Args:
        model: Any built or callable Keras model. Not changed.
        steps: How many gradients, at least 1, or `"auto"`: as many as each sample needs. Default 50.
        baseline: A number, an array that fits one sample or the batch, or a list or dict of those for
            several inputs; for `input_layer`, of the shape of its output. For `input_layer="tokens"`, whole numbers
            are token ids, which the model's embedding turns into vectors: one for all (the id of the mask or padding
            token), or one for each token, `(T,)` or `(N, T)`; floats are vectors: 0 is a token, 0.0 is none. At any
            other layer, the embedding by its own name too, 0 is the number. Default `None`: zeros.
        tolerance: For `steps="auto"`: how much of the difference of the scores may be missing, above 0. Default 1e-3.
            Where the scores of both ends are nearly equal, a tenth of their range on the way stands for it.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`; `None` for `steps="auto"`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs: name, path, index, layer,
            a pair of one of these and the number of the call, or `"tokens"` for the embedding of a text model's
            token ids. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: With `steps="auto"`: 200 points are not enough for some samples.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x**2)])
        >>> IntegratedGradients(model, steps=3)(np.array([[3.0, 1.0]]), target=0).round(4).tolist()
        [[9.0, 0.0]]
    """

    takes_several_targets = True

    def __init__(
        self,
        model: keras.Layer,
        steps: int | str = 50,
        baseline: Inputs | None = None,
        *,
        tolerance: float = 1e-3,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, backprop_modifier, input_layer=input_layer, output_layer=output_layer, logits=logits)
        if isinstance(steps, str) and steps != "auto":
            raise TypeError(f"`steps` must be a number of gradients, or 'auto'. Received: {shown(steps)}.")
        self._steps: int | str = steps if steps == "auto" else check_count("steps", steps, 1)
        self._tolerance, self._baseline = _check_tolerance(tolerance), baseline
        if steps == "auto":
            self.takes_several_targets = False  # each has points of its own
            if self.evaluator.composite is not None:
                raise ValueError(
                    "With `steps='auto'`, `backprop_modifier` must be None, as what rules make of a gradient does not "
                    f"sum to the score. Received: {shown(backprop_modifier)}. Give a number of steps."
                )

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the integrals times the differences to the baseline."""
        if self._steps == "auto":
            return self._adaptive(task)[0]
        task = task.settled()
        values = self.values(task)
        return self.integrals(task, values, self.baselines(task, values))

    def with_steps(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> tuple[Maps, np.ndarray]:
        """Explains a batch of inputs, and says how many gradients each sample took.

        Args:
            inputs: See `__call__`.
            target: See `__call__`.
            batch_size: See `__call__`.
            verbose: See `__call__`.

        Returns:
            `(attributions, counts)`: as `__call__` returns them, and ints `(N,)`.
        """
        if self._steps != "auto":
            maps = self(inputs, target, batch_size, verbose)
            return maps, np.full(len(tree.flatten(maps)[0]), self._steps)
        task = self.evaluator.task(inputs, target, batch_size, verbose)
        found, counts = self._adaptive(task)
        found = check_finite(found)
        return task.batch.pack(found) if self.site is None else found[0], counts

    def _adaptive(self, task):
        """Returns the attributions with as many gradients as each sample needs, and these numbers."""
        task = task.settled()
        values = self.values(task)
        starts, parts, ways = self.baselines(task, values), [], []
        for indices, part in task.groups(max(1, task.batch_size // AT_ONCE)):
            own = [(start[indices], value[indices]) for start, value in zip(starts, values)]
            walked = self._walked(part, own)
            parts.append((indices, [np.stack(one) for one in zip(*(way.integrals() for way in walked))]))
            ways += [(way.count, way.off(), way.far()) for way in walked]
        counts, off, far = (np.array(one) for one in zip(*ways))
        if ((off > self._tolerance) | (far > FAR)).any():
            _warn_of_missing(off, far, self._tolerance)
        return gathered(task.count, parts), counts

    def _walked(self, task, ends):
        """Returns what was seen on the ways of some samples, a `vis.engine.quadrature.Way` for each."""
        ways = [Way() for _ in range(task.count)]
        while True:
            wanted = [way.wanted(self._tolerance, _MOST_POINTS) for way in ways]
            images, positions = np.repeat(range(len(ways)), [len(one) for one in wanted]), np.concatenate(wanted)
            if not len(images):
                return ways
            for rows, scores, gradients in self._points(task.part(images), images, positions, ends):
                for i, row in enumerate(rows):
                    image = images[row]
                    kept = [gradient[i] * (v[image] - s[image]) for gradient, (s, v) in zip(gradients, ends)]
                    ways[image].add(positions[row], scores[i], kept)

    def _points(self, task, images, positions, ends):
        """Yields `(rows, scores, gradients)` for points on the ways of samples."""
        task = dataclasses.replace(task, usual=min(task.batch_size, 2 ** int(np.ceil(np.log2(len(images))))))
        places = positions.astype("float32")

        def between(rows, _):
            return [straight(start[images[rows]], value[images[rows]], places[rows]) for start, value in ends]

        asked, request, how = self.asked(task, between, [value[images] for _, value in ends])
        for rows, _, results in asked.rows(request, quiet=True, **how):
            yield rows, results["score"], self._flat(task, results)

    def integrals(self, task: Task, values: list[np.ndarray], starts: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the integrals from some values to others, times the differences; flat lists."""
        steps = int(self._steps)
        nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
        nodes, weights = ((nodes + 1) / 2).astype("float32"), weights / 2

        def between(images, numbers):
            return [straight(start[images], value[images], nodes[numbers]) for start, value in zip(starts, values)]

        def part(image, numbers, gradients):
            return [np.einsum("r,r...->...", weights[numbers], gradient) for gradient in gradients]

        def finish(image, totals):
            return [total * (value[image] - start[image]) for total, value, start in zip(totals, values, starts)]

        return self.sums(task, steps, between, part, finish, values)

    def baselines(self, task: Task, values: list[np.ndarray]) -> list[np.ndarray]:
        """Returns what the user's baseline is for each of the values, in their shapes."""
        return read_baselines(self, task, values, self._baseline)

    def starts(self, task: Task) -> list[np.ndarray]:
        """Returns the baseline, see `GradientExplainer.starts`."""
        return self.baselines(task, self.values(task))


def _check_tolerance(tolerance):
    if check_number("tolerance", tolerance) <= 0:
        raise ValueError(f"`tolerance` must be above 0, such as 1e-3. Received: {shown(tolerance)}.")
    return float(tolerance)


def _warn_of_missing(off, far, tolerance):
    warnings.warn(
        f"Integrated gradients of {((off > tolerance) | (far > FAR)).sum()} of {len(off)} samples miss up to "
        f"{off.max():.1e} of the difference of the scores, and may be {far.max():.1e} of their size off, after "
        f"{_MOST_POINTS} gradients each. Asked was for `tolerance={tolerance:g}`, and {FAR:g} of their size.",
        VisualizationWarning,
        stacklevel=2,
    )


def straight(start: np.ndarray, value: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Returns rows between `start` (position 0) and `value` (position 1); whole numbers stay as they are."""
    if value.dtype.kind != "f":
        return value
    position = position.reshape(-1, *[1] * (value.ndim - 1))
    return start + position * (value - start)
