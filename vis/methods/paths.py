"""Gradients collected on other ways than one straight line: from many baselines, out of a blur, or where it is calm."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.methods.explainer import check_finite
from vis.methods.gradients import GradientExplainer, for_targets, per_input
from vis.methods.integrated import IntegratedGradients, straight
from vis.methods.perturbation import is_image_without_channels
from vis.methods.sampled_gradients import GradientSampler
from vis.utils.hints import first_text
from vis.utils.seeds import fresh_seed
from vis.utils.validation import (
    check_count,
    check_fraction,
    check_nonnegative,
    check_number,
    check_numeric,
    is_integer,
    shown,
)

if TYPE_CHECKING:
    from vis.engine.tasks import Task
    from vis.utils.types import Inputs, LayerLike, RuleLike


class ExpectedGradients(GradientSampler):
    """Shares of the difference between the score and that of usual inputs.

    Integrated gradients from many baselines, which are usual inputs rather than one that means "nothing": each gradient
    is taken at a random point of the way from a random one of them. In expectation, the attributions of a sample sum to
    its score minus the mean score of the background; `with_error` says how far off the mean of the samples may be, and
    `until` stops when that is small enough.
    Its limit: what is usual gets little, and another background gives another answer.

    Source: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and
    expected gradients", equation 3.

    Args:
        model: Any built or callable Keras model. Not changed.
        background: Usual inputs, such as some of the training set: an array `(M, ...)`, or a list or dict of those for
            several inputs, whose rows belong together; `None` for inputs of whole numbers. For `input_layer`, its
            outputs, as `vis.visualization.activations` gives them; for `input_layer="tokens"`, also token ids
            `(M, T)`, which the model's embedding turns into vectors.
        num_samples: How many gradients, at least 1. Default 100.
        seed: Seed of the draws, which are the same for every sample and backend. Default `None`: others at each call.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs: name, path, index, layer,
            a pair of one of these and the number of the call, or `"tokens"` for the embedding of a text model's
            token ids. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score.

    Raises:
        ValueError: The background does not fit the inputs, another argument is wrong, or the score does not depend on
            the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0]]), np.zeros(1)])
        >>> background = np.array([[1.0, 1.0]])
        >>> ExpectedGradients(model, background, seed=0)(np.array([[3.0, 1.0]])).round(4).tolist()
        [[2.0, 0.0]]
    """

    takes_several_targets = True

    def __init__(
        self,
        model: keras.Layer,
        background: Inputs,
        num_samples: int = 100,
        seed: int | None = None,
        *,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, backprop_modifier, input_layer=input_layer, output_layer=output_layer, logits=logits)
        if background is None:
            raise TypeError("`background` must be usual inputs, an array (M, ...). Received: None.")
        if is_integer(background) or first_text(background) is not None:
            raise ValueError(
                "`background` must be a batch of usual inputs, which are drawn from, as numbers: (M, ...), of texts "
                f"their token ids (M, positions). Received: {shown(background, 40)}. For one token in place of all, "
                "such as the mask, take its id: `vis.IntegratedGradients(model, baseline=id, input_layer='tokens')`."
            )
        self._background = background
        self._num_samples = check_count("num_samples", num_samples, 1)
        self._seed = None if seed is None else check_count("seed", seed)

    def draws(self, task: Task, values: list[np.ndarray]) -> _Draws:
        """Returns the points on the ways, see `GradientSampler`."""
        return _Draws(self._read_background(task, values), values, self._num_samples, fresh_seed(self._seed))

    def _read_background(self, task, values):
        """Returns the background as a flat list of arrays `(M, ...)`; of what is not changed, one row of zeros."""
        given, found = self._background, []
        if isinstance(given, dict) and len(values) == 1 and len(given) == 1:
            (given,) = given.values()
        if len(values) > 1 and not isinstance(given, (list, tuple, dict)):
            raise ValueError(
                f"`background` must be a list or dict of {len(values)} arrays, one for each input. Received: one array."
            )
        for i, (one, value) in enumerate(zip(per_input("background", given, task, len(values)), values)):
            found.append(self._read_one(task, i, one, value))
        sizes = {len(one) for i, one in enumerate(found) if self.is_changeable(task, i)}
        if len(sizes) > 1:
            raise ValueError(f"`background` must have as many rows for each input. Received: {sorted(sizes)}.")
        return found

    def _read_one(self, task, index, given, value):
        name = task.batch.layout.names[index] if self.site is None else "the layer's output"
        if not self.is_changeable(task, index):
            if given is not None:
                raise ValueError(
                    f"`background` must be None for {name}: it holds whole numbers, which have no way between them and "
                    "stay as they are. For words, explain their embedding by `input_layer=`."
                )
            return np.zeros((1, *value.shape[1:]), value.dtype)
        if self.are_tokens(given) and np.ndim(given) == value.ndim - 1:
            return self.embedded(task, "background", given, len(given))
        if self.site is None:
            task.batch.check_columns("background", index, given)
        array = check_numeric("background", given)
        if array.ndim != value.ndim or array.shape[1:] != value.shape[1:] or not len(array):
            expected = ", ".join(["M", *map(str, value.shape[1:])])
            hint = " One sample? Add a batch axis: `background[None]`." if array.shape == value.shape[1:] else ""
            hint = hint if self.site is None else " Take `vis.visualization.activations(model, layer, usual_inputs)`."
            hint = hint if self.evaluator.token_lookup is None else " Of token ids give whole numbers, (M, positions)."
            raise ValueError(
                f"`background` must hold usual values of {name}, shape ({expected}), M at least 1. "
                f"Received: shape {array.shape}.{hint}"
            )
        return array


class _Draws:
    """Random points on the ways from the rows of a background to values.

    Args:
        background: A flat list of arrays `(M, ...)`.
        values: A flat list of arrays `(N, ...)`.
        count: How many points.
        seed: Of the draws.
    """

    is_exact = False

    def __init__(self, background, values, count, seed):
        draw = np.random.default_rng(seed)
        self._background, self.values, self.count = background, values, count
        self._picked = draw.integers(max(map(len, background)), size=count)
        self._positions = draw.random(count, "float32")

    def part(self, images, first=0, last=None):
        """Returns those from one number to another, for some of the samples."""
        found = copy.copy(self)
        found.values = [value[images] for value in self.values]
        found._picked, found._positions = self._picked[first:last], self._positions[first:last]
        return found

    def between(self, images, numbers):
        """Returns the points."""
        return [
            straight(starts, value[images], self._positions[numbers])
            for starts, value in zip(self._starts(numbers), self.values)
        ]

    def shares(self, image, numbers, gradients):
        """Returns the gradients of some points of a sample times the ways that these are on."""
        return [
            gradient * for_targets(value[image] - starts, gradient)
            for gradient, value, starts in zip(gradients, self.values, self._starts(numbers))
        ]

    def _starts(self, numbers):
        return [starts[self._picked[numbers] % len(starts)] for starts in self._background]


class BlurIntegratedGradients(GradientExplainer):
    """The gradients collected on the way from a blurred input to the input itself.

    Needs no baseline of a colour that means "nothing": what the blur takes away is shared out, and fine and coarse
    detail come in one after the other. The attributions of a sample sum to its score minus the score of the blurred
    sample. Its limits: even areas get nothing; and the blurred sample still shows large shapes.

    The blur is diffusion along the spatial axes, mirrored at the ends, so the mean stays and no border turns dark. A
    sample is at the scale t when each pixel has spread with the variance t: the Gaussian for whole pixels (Lindeberg
    1990, "Scale-Space for Discrete Signals"). Channels are never mixed. Inputs without positions (vectors, whole
    numbers) stay as they are and get zeros.

    Source: Xu et al. 2020, "Attribution in Scale and Space", equation 4. The integral is taken at Gauss-Legendre nodes,
    which are closer together where the blur is small.

    Args:
        model: Any built or callable Keras model. Not changed.
        steps: How many gradients, at least 1. Default 50.
        max_sigma: Standard deviation of the blur that the way begins with, in pixels (steps, voxels), above 0. Default
            `None`: a quarter of the longest spatial axis, which is 56 for 224 pixels.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs: name, path, index, layer,
            or a pair of one of these and the number of the call. Its output needs positions. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score.

    Raises:
        ValueError: No input has positions, another argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: `(N, H, W)` may be images.

    Examples:
        >>> import keras
        >>> flat = [keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="ones")]
        >>> model = keras.Sequential([keras.Input((3, 1)), *flat])
        >>> BlurIntegratedGradients(model, max_sigma=9.0)(np.array([[[0.0], [6.0], [0.0]]])).round(3).tolist()
        [[[-2.0], [4.0], [-2.0]]]
    """

    takes_several_targets = True

    def __init__(
        self,
        model: keras.Layer,
        steps: int = 50,
        max_sigma: float | None = None,
        *,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, backprop_modifier, input_layer=input_layer, output_layer=output_layer, logits=logits)
        self._steps = check_count("steps", steps, 1)
        if max_sigma is not None and check_number("max_sigma", max_sigma) <= 0:
            raise ValueError(f"`max_sigma` must be above 0, in pixels, or None. Received: max_sigma={max_sigma}.")
        self._max_sigma = None if max_sigma is None else float(max_sigma)

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the integrals of the gradient times what the blur takes away."""
        task = task.settled()
        values = self.values(task)
        blurs = [_Diffusion(value, axes) for value, axes in zip(values, self._axes(task, values))]
        scales, weights = _scales(self._steps)
        latest: dict[Any, Any] = {}  # blurred rows of the chunk that is being evaluated

        def blurred(images, numbers):
            rows = [blur.at(images, self._variance(blur) * scales[numbers]) for blur in blurs]
            latest.clear()
            latest.update({(image, number): i for i, (image, number) in enumerate(zip(images, numbers))}, rows=rows)
            return rows

        def part(image, numbers, gradients):
            places = [latest[image, number] for number in numbers]
            found = []
            for blur, rows, gradient in zip(blurs, latest["rows"], gradients):
                slopes = gradient * for_targets(blur.slope(rows[places]), gradient)
                found.append(np.einsum("r,r...->...", weights[numbers] * self._variance(blur), slopes))
            return found

        return self.sums(task, self._steps, blurred, part, lambda _, totals: [-total for total in totals], values)

    def _variance(self, blur):
        return (self._max_sigma or blur.longest / 4) ** 2

    def _axes(self, task, values):
        """Returns the axes along which each of the values is blurred."""
        found = []
        for i, (value, form) in enumerate(zip(values, self.formats(task))):
            axes = range(2, value.ndim) if form == "channels_first" else range(1, value.ndim - 1)
            if self.site is None and is_image_without_channels(self.model, task.batch, i):
                axes = range(1, value.ndim)
            found.append(tuple(axes) if value.ndim > 2 and self.is_changeable(task, i) else ())
        if not any(found):
            raise ValueError(
                "There must be positions to blur: an input (N, *positions, channels) of numbers with fractions. "
                f"Received: {', '.join(str(value.shape) for value in values)}. Use vis.IntegratedGradients."
            )
        return found


def _scales(steps):
    """Returns nodes and weights of an integral over variances in [0, 1], close together where the variance is small."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    nodes, weights = (nodes + 1) / 2, weights / 2
    return nodes**_POWER, weights * _POWER * nodes ** (_POWER - 1)


_POWER = 4  # the variance grows with this power of the way


class _Diffusion:
    """A batch of values under diffusion along some axes, mirrored at the ends.

    Args:
        values: The values `(N, ...)`.
        axes: The axes; of none, nothing happens.
    """

    def __init__(self, values, axes):
        self._values, self._axes = values, axes
        self.longest = max((values.shape[axis] for axis in axes), default=1)
        if axes:
            from scipy import fft  # slow to import

            self._waves = fft.dctn(values, axes=axes, norm="ortho")

    def at(self, images, variances):
        """Returns samples, blurred with variances."""
        if not self._axes:
            return self._values[images]
        from scipy import fft

        waves = self._waves[images]
        for axis in self._axes:
            size = waves.shape[axis]
            rates = 1 - np.cos(np.pi * np.arange(size) / size)  # at which the waves of the axis fade
            shape = [size if i == axis else 1 for i in range(1, waves.ndim)]
            waves *= np.exp(-np.outer(variances, rates)).astype("float32").reshape(-1, *shape)
        return fft.idctn(waves, axes=self._axes, norm="ortho", overwrite_x=True)

    def slope(self, rows):
        """Returns the derivatives of blurred rows by the variance: half of what the neighbours differ by, summed."""
        total = np.zeros(rows.shape, "float32")
        for axis in self._axes:
            steps = np.diff(rows, axis=axis) / 2
            inner = [slice(None)] * rows.ndim
            for part, sign in ((slice(None, -1), 1), (slice(1, None), -1)):
                inner[axis] = part
                total[tuple(inner)] += sign * steps
        return total


class GuidedIntegratedGradients(IntegratedGradients):
    """Integrated gradients on a way that keeps to where the gradient is small.

    At each step only the values with the smallest gradients move on towards the input, so less noise is picked up from
    steep places that have nothing to do with the input. Complete, as integrated gradients are: the attributions of a
    sample sum to its score minus that of the baseline, the closer the more steps there are. Its limits: the steps
    follow one another, so one sample at a time is no faster on many cores; and the way depends on the network.

    Source: Kapishnikov et al. 2021, "Guided Integrated Gradients: An Adaptive Path Method for Removing Noise",
    algorithm 1, with the anchored way of section 4.3. Of several inputs, each keeps to a way of its own.

    Args:
        model: Any built or callable Keras model. Not changed.
        steps: How many gradients, at least 1. Default 200.
        fraction: Which part of the values may move at once, in (0, 1]. Default 0.25.
        max_distance: How far each value may be from its place on the straight way, as a part of that way, in [0, 1].
            At 0 the way is straight. Default 0.02.
        baseline: A number, an array that fits one sample or the batch, or a list or dict of those for
            several inputs; for `input_layer`, of the shape of its output. For `input_layer="tokens"`, whole numbers
            are token ids, which the model's embedding turns into vectors: one for all (the id of the mask or padding
            token), or one for each token, `(T,)` or `(N, T)`; floats are vectors: 0 is a token, 0.0 is none. At any
            other layer, the embedding by its own name too, 0 is the number. Default `None`: zeros.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`.
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

    Examples:
        >>> import keras
        >>> square = keras.layers.Lambda(lambda x: keras.ops.sum(x**2, axis=-1, keepdims=True))
        >>> model = keras.Sequential([keras.Input((2,)), square])
        >>> GuidedIntegratedGradients(model)(np.array([[3.0, 1.0]])).round().tolist()
        [[9.0, 1.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        steps: int = 200,
        fraction: float = 0.25,
        max_distance: float = 0.02,
        baseline: Inputs | None = None,
        *,
        backprop_modifier: RuleLike | None = None,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(
            model,
            check_count("steps", steps, 1),
            baseline,
            backprop_modifier=backprop_modifier,
            input_layer=input_layer,
            output_layer=output_layer,
            logits=logits,
        )
        self._fraction = check_fraction("fraction", fraction)
        self._max_distance = check_nonnegative("max_distance", max_distance)
        if max_distance > 1:
            raise ValueError(f"`max_distance` must be in [0, 1]. Received: max_distance={max_distance}.")

    def integrals(self, task: Task, values: list[np.ndarray], starts: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the integrals on the way from some values to others; flat lists."""
        here = [np.array(start) for start in starts]  # not the user's own
        totals = [np.zeros(value.shape, "float64") for value in values]
        ends = [i for i in range(len(values)) if self.is_changeable(task, i)]
        steps = int(self._steps)
        bar = keras.utils.Progbar(steps) if task.verbose else None
        for step in range(steps):
            for images, gradients in self.gradients_at(task, here):
                check_finite(gradients)
                for i in ends:
                    for image, gradient in zip(images, gradients[i]):
                        ways = starts[i][image], values[i][image]
                        moved = self._moved(here[i][image], *ways, gradient, step).astype("float32")
                        totals[i][image] += (moved - here[i][image]) * gradient
                        here[i][image] = moved
            if bar is not None:
                bar.add(1)
        return [total.astype("float32") for total in totals]

    def _moved(self, here, start, end, gradient, step):
        """Returns where a sample is after a step, in double precision: as much nearer the end as on a straight way."""
        here, start, end = (np.asarray(array, "float64") for array in (here, start, end))
        position = (step + 1) / self._steps
        low, high = (np.clip(position + side * self._max_distance, 0, 1) for side in (-1, 1))
        first, last = start + low * (end - start), start + high * (end - start)
        sign = np.sign(end - start)
        here = np.where((first - here) * sign > 0, first, here)  # what is too far behind catches up
        goal = (1 - position) * np.abs(end - start).sum()
        return _towards(here, last, np.abs(gradient), np.abs(end - here).sum() - goal, self._fraction)


def _towards(here, last, steepness, gap, fraction):
    """Moves values towards their last places, those that are least steep first, until they have moved by a sum."""
    left = np.abs(last - here)
    count = math.floor(fraction * (here.size - 1)) + 1  # of values that move at once
    while gap > 0:
        free = steepness[left > 0]
        if not free.size:
            break
        threshold = np.partition(free, count - 1)[count - 1] if count < free.size else free.max()
        chosen = (left > 0) & (steepness <= threshold)
        length = left[chosen].sum()
        part = min(gap / length, 1)
        here = np.where(chosen, last if part == 1 else here + part * (last - here), here)
        left = np.where(chosen, 0, left)
        gap -= length
    return here
