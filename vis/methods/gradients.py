"""Input attribution by gradients: what in the input moves the score."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vis.methods.explainer import Explainer, gathered
from vis.utils.formats import data_format
from vis.utils.validation import VisualizationWarning, check_count, check_nonnegative, check_numeric, pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import keras
    from numpy.typing import ArrayLike

    from vis.methods.explainer import Task
    from vis.utils.types import Inputs, LayerLike, Maps, RuleLike

_FAR = 10  # of 0 from all values: times their own range


class GradientExplainer(Explainer):
    """Base class of the methods whose result has the shape of the inputs.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        backprop_modifier: See `vis.methods.explainer.Explainer`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    default_call = 0  # of a shared `input_layer`: the first, as embeddings may be called again to make the logits

    def __init__(
        self,
        model: keras.Layer,
        backprop_modifier: RuleLike | None = None,
        *,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, output_layer, logits, backprop_modifier, input_layer)

    def explain(self, task: Task) -> Maps:
        """Returns the attributions, in the structure of the inputs; see `Explainer.explain`."""
        flat = self.attributions(task)
        return task.batch.pack(flat) if self.site is None else flat[0]

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the attributions of a task as a flat list of arrays: the method itself."""
        raise NotImplementedError(f"{type(self).__name__} must define `attributions(task)`.")

    def flat_within(self, task: Task) -> list[np.ndarray]:
        """Returns the attributions of another explainer's task as a flat list."""
        return self.attributions(self.adopt(task))

    def values(self, task: Task) -> list[np.ndarray]:
        """Returns what is attributed to, a flat list: the inputs, or the activations of `input_layer`."""
        if self.site is None:
            return task.batch.arrays
        chunks = task.rows("activations", at=self.site, quiet=True)
        return gathered(task.count, ((images, [results["activations"]]) for images, _, results in chunks))

    def gradients(self, task: Task) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
        """Yields `(images, gradients, values)` for chunks of the samples as they are, flat lists."""
        if self.site is None:
            for images, _, results in task.rows("gradients"):
                yield images, _for_all(task.batch, results["gradients"]), task.batch.rows(images)
        else:
            for images, _, results in task.rows("site_gradients", at=self.site):
                yield images, [results["gradients"]], [results["activations"]]

    def gradients_of_changed(
        self, task: Task, samples: int, change: Callable
    ) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
        """Yields `(image, numbers, gradients)` for changed values.

        Args:
            task: The task.
            samples: How many versions there are of each sample.
            change: Function `(images, numbers) -> values`, a flat list as `values` gives.
        """
        if self.site is None:
            chunks = task.by_sample("gradients", samples, inputs=change)
        else:
            chunks = task.by_sample("gradients_at", samples, extra=change, at=self.site)
        for image, numbers, results in chunks:
            gradients = results["gradients"]
            yield image, numbers, _for_all(task.batch, gradients) if self.site is None else gradients

    def formats(self, task: Task) -> list[str]:
        """Returns the data formats of the values."""
        return task.batch.formats if self.site is None else [data_format(self.site.layer(self.model))]

    def is_changeable(self, task: Task, index: int) -> bool:
        """Tells whether noise or a baseline make sense for one of the values."""
        return self.site is not None or task.batch.is_float(index)


def _for_all(batch, gradients):
    """Gives zeros for inputs of whole numbers, which have no gradient."""
    found = iter(gradients)
    rows = len(gradients[0])
    return [
        next(found) if batch.is_float(i) else np.zeros((rows, *array.shape[1:]), "float32")
        for i, array in enumerate(batch.arrays)
    ]


class Saliency(GradientExplainer):
    """The gradient of the score with respect to the input.

    The fastest map and the closest to the input. It tells how the score would change for a very
    small change of each value, not what the score is made of; where the network is saturated,
    values that matter have small gradients.

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3. With
    `"guided"`: Springenberg et al. 2015, section 3.4; with `"deconv"`: Zeiler & Fergus 2014,
    section 2.1. These two draw sharper, but change little when the upper layers of the network
    are made random (Adebayo et al. 2018): do not use them alone.

    Args:
        model: Any built or callable Keras model. Not changed.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), or a
            rule, see `vis.backprop_modifiers.rule`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs, such
            as the embedding of a text model: name, path, index, layer, or a pair of one of these
            and the number of the call, from 0. Of a layer that is called several times, the first call is
            meant, and a warning says so. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32, signed, in the shape and
        structure of the inputs. Inputs of whole numbers beside others get zeros.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1, 4], [2, 5], [3, 6.0]]), np.zeros(2)])
        >>> Saliency(model)(np.ones((1, 3)), target=0).tolist()
        [[1.0, 2.0, 3.0]]
    """

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the gradients."""
        return gathered(task.count, ((images, gradients) for images, gradients, _ in self.gradients(task)))


class GradientTimesInput(GradientExplainer):
    """The gradient times the input.

    For a network of linear pieces without biases the attributions sum to the score. Its limit: a
    value of 0 gets nothing, whatever it means.

    Source: Shrikumar et al. 2017, "Not Just a Black Box", section 2.

    Args:
        model: See `Saliency`.
        backprop_modifier, input_layer, output_layer, logits: As of `Saliency`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1, 4], [2, 5], [3, 6.0]]), np.zeros(2)])
        >>> GradientTimesInput(model)(np.array([[3.0, 2.0, 1.0]]), target=0).tolist()
        [[3.0, 4.0, 3.0]]
    """

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the gradients times the values."""
        return gathered(
            task.count,
            (
                (images, [g * v for g, v in zip(gradients, values)])
                for images, gradients, values in self.gradients(task)
            ),
        )


_STATISTICS = {
    "mean": lambda count, total, squares: total / count,
    "square": lambda count, total, squares: squares / count,
    "variance": lambda count, total, squares: np.maximum(squares - total**2 / count, 0) / max(count - 1, 1),
}


class SmoothGrad(GradientExplainer):
    """A statistic of the gradients of noisy copies of the input.

    Averaging takes out much of what makes raw gradients hard to read. Its limit: it explains the
    network around the input, as far as the noise reaches, not at the input itself.

    Source: Smilkov et al. 2017, "SmoothGrad", section 2 (mean); Hooker et al. 2019, "A Benchmark
    for Interpretability Methods" (square); Adebayo et al. 2018, "Sanity Checks", section 2 (VarGrad:
    variance, unbiased here).

    Args:
        model: See `Saliency`.
        num_samples: How many noisy copies, at least 1 (2 for the variance). Default 50.
        noise_level: Standard deviation of the normal noise, as a part of (max - min) of each sample
            (of each of its inputs). At 0 the mean is `Saliency` exactly. Default 0.15.
        statistic: `"mean"` of the signed gradients (default), `"square"` (mean of the squares), or
            `"variance"`.
        seed: Seed of the noise, which is the same for every sample and backend. Default `None`: another
            at each call.
        backprop_modifier, input_layer, output_layer, logits: As of `Saliency`.

    Returns:
        When called, float32 in the shape and structure of the inputs, signed for `"mean"`.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1, 4], [2, 5], [3, 6.0]]), np.zeros(2)])
        >>> SmoothGrad(model, num_samples=5, seed=0)(np.eye(3)[:1], target=1).tolist()
        [[4.0, 5.0, 6.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        num_samples: int = 50,
        noise_level: float = 0.15,
        statistic: str = "mean",
        seed: int | None = None,
        *,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, backprop_modifier, input_layer=input_layer, output_layer=output_layer, logits=logits)
        self._statistic = pick("statistic", statistic, _STATISTICS) and statistic
        self._num_samples = check_count("num_samples", num_samples, 2 if statistic == "variance" else 1)
        self._noise_level = check_nonnegative("noise_level", noise_level)
        self._seed = None if seed is None else check_count("seed", seed)

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the statistic of the gradients under noise."""
        task.settle_target()
        values, seed = self.values(task), fresh_seed(self._seed)
        spreads = [np.ptp(v.reshape(len(v), -1), axis=1) * self._noise_level for v in values]
        samples = self._num_samples if self._noise_level else 1

        def noisy(images, numbers):
            rows = [value[images] for value in values]
            for i, form in enumerate(self.formats(task)):
                if self.is_changeable(task, i):
                    rows[i] += spreads[i][images].reshape(-1, *[1] * (rows[i].ndim - 1)) * _noise(
                        rows[i].shape, form, seed, i, numbers
                    )
            return rows

        return gathered(task.count, self._statistics(task, samples, noisy))

    def _statistics(self, task, samples, noisy):
        formula, needs_squares = _STATISTICS[self._statistic], self._statistic != "mean"
        for image, numbers, gradients in self.gradients_of_changed(task, samples, noisy):
            if numbers[0] == 0:
                totals, squares = [0.0] * len(gradients), [0.0] * len(gradients)
            totals = [t + g.sum(axis=0, dtype="float64") for t, g in zip(totals, gradients)]
            if needs_squares:
                squares = [s + np.square(g, dtype="float64").sum(axis=0) for s, g in zip(squares, gradients)]
            if numbers[-1] == samples - 1:
                yield [image], [formula(samples, t, s)[None] for t, s in zip(totals, squares)]


def fresh_seed(seed: int | None) -> int:
    """Returns the seed, or a new one for `None`, without touching any global state."""
    return int(np.random.SeedSequence().entropy % 2**63) if seed is None else seed  # type: ignore[operator]


@functools.cache
def _normal_quantiles():
    """Returns the middles of 65,536 equally likely pieces of the normal distribution."""
    from scipy import special  # slow to import

    pieces = 2**16
    return special.ndtri((np.arange(pieces) + 0.5) / pieces).astype("float32")


def _noise(shape, form, seed, index, numbers):
    """Draws rows by their numbers: the same whatever else is in the chunk and wherever the channels are.

    Two random bytes choose a quantile: four times as fast as drawing from the distribution itself.
    """
    first = form == "channels_first" and len(shape) > 2
    rows = np.empty((shape[0], *shape[2:], shape[1]) if first else shape, "float32")
    for row, number in zip(rows, numbers):
        draw = np.random.Generator(np.random.SFC64([seed, index, number]))
        np.take(_normal_quantiles(), draw.integers(2**16, size=row.shape, dtype="uint16"), out=row, mode="wrap")
    return np.moveaxis(rows, -1, 1) if first else rows


class IntegratedGradients(GradientExplainer):
    """The gradients collected on the straight way from a baseline to the input.

    Complete: the attributions of a sample sum to the score of the input minus the score of the
    baseline. Its limit: what equals the baseline gets nothing, so the baseline decides what can be
    seen.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", equation 1. The integral
    is taken at Gauss-Legendre nodes.

    Args:
        model: See `Saliency`.
        steps: How many gradients, at least 1. Default 50.
        baseline: A number, an array that fits one sample or the batch, or a list or dict of those for
            several inputs; for `input_layer`, of the shape of its output. Default `None`: zeros.
        backprop_modifier, input_layer, output_layer, logits: As of `Saliency`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x**2)])
        >>> IntegratedGradients(model, steps=3)(np.array([[3.0, 1.0]]), target=0).round(4).tolist()
        [[9.0, 0.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        steps: int = 50,
        baseline: Inputs | None = None,
        *,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, backprop_modifier, input_layer=input_layer, output_layer=output_layer, logits=logits)
        self._steps = check_count("steps", steps, 1)
        self._baseline = baseline

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the integrals times the differences to the baseline."""
        task.settle_target()
        values = self.values(task)
        starts = self._baselines(task, values)
        nodes, weights = np.polynomial.legendre.leggauss(self._steps)  # on [-1, 1]
        nodes, weights = ((nodes + 1) / 2).astype("float32"), weights / 2

        def between(images, numbers):
            return [_between(start[images], value[images], nodes[numbers]) for start, value in zip(starts, values)]

        def integrals():
            for image, numbers, gradients in self.gradients_of_changed(task, self._steps, between):
                if numbers[0] == 0:
                    totals = [0.0] * len(gradients)
                totals = [t + np.einsum("r,r...->...", weights[numbers], g) for t, g in zip(totals, gradients)]
                if numbers[-1] == self._steps - 1:
                    yield [image], [t[None] * (v[image] - s[image]) for t, v, s in zip(totals, values, starts)]

        return gathered(task.count, integrals())

    def _baselines(self, task, values):
        given = self._baseline
        several = isinstance(given, (list, tuple, dict)) and len(values) > 1
        if not several:
            flat = [given] * len(values)
        elif isinstance(given, dict):
            names = task.batch.pack([str(i) for i in range(len(values))])
            if not isinstance(names, dict) or set(names) != set(given):
                raise ValueError(
                    f"`baseline` must have the structure of the inputs. Received: a dict with the keys {sorted(given)}."
                )
            flat = [given[key] for key in sorted(names, key=lambda key: int(names[key]))]
        else:
            flat = list(given)
        if len(flat) != len(values):
            raise ValueError(f"`baseline` must hold one entry for each of {len(values)} inputs. Received: {len(flat)}.")
        for name, one, value in zip(task.batch.layout.names, flat, values):
            if one is None and self.site is None:
                warn_of_far_zero(name, value)
        return [
            read_baseline(0.0 if one is None else one, value) if self.is_changeable(task, i) else value
            for i, (one, value) in enumerate(zip(flat, values))
        ]


def _between(start, value, position):
    if value.dtype.kind != "f":
        return value
    position = position.reshape(-1, *[1] * (value.ndim - 1))
    return start + position * (value - start)


def read_baseline(baseline: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Returns a baseline for a batch of values, checked."""
    array = check_numeric("baseline", baseline)
    try:
        return np.broadcast_to(array, values.shape)
    except ValueError:
        raise ValueError(
            f"`baseline` must be a number, or an array that fits one sample of shape {values.shape[1:]} or the batch. "
            f"Received: shape {array.shape}."
        ) from None


def warn_of_far_zero(name: str, values: np.ndarray) -> None:
    """Says so where 0, which stands for what is hidden, is nothing like the values of an input."""
    if values.dtype.kind != "f":
        return
    low, high = float(values.min()), float(values.max())
    # Not of pale pictures, whose range has 0 in it.
    if high > low and max(low, -high) > max(_FAR * (high - low), 2):
        warnings.warn(
            f"What is hidden becomes 0 by default, far from the values of `{name}`. Received: values from {low:g} to "
            f"{high:g}. The model probably never saw such inputs. Give a `baseline=` where the method takes one, or "
            "let the model take inputs around 0.",
            VisualizationWarning,
            stacklevel=3,
        )
