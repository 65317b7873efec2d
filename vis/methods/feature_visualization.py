"""Feature visualisation: images optimised for what a part of a network looks for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np

from vis.backprop_modifiers import composite
from vis.engine.copying import pickled, unpickled
from vis.engine.descent import check_terms, ended, tell
from vis.engine.energy import check_losses, energy_of
from vis.engine.graph import find_layer, layers
from vis.engine.inputs import model_input_format, model_input_shape, takes_bytes
from vis.engine.probabilities import warn_of_probabilities
from vis.engine.synthesis import Loop
from vis.engine.taps import shadowed
from vis.input_modifiers import Compose, standard_transforms
from vis.losses import ActivationMaximization, Interpolation, Loss, Neuron
from vis.parameterizations import Fourier, Parameterization, Pixels
from vis.utils.contexts import ProcessLock
from vis.utils.formats import channels_in_place
from vis.utils.seeds import fresh_seed
from vis.utils.validation import VisualizationWarning, check_count, check_input_range, listify, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from vis.input_modifiers import Transform
    from vis.utils.types import Callbacks, Indices, WeightedLosses


_RESCUE = 16  # steps with redirected gradients, where there are none without
_LEARNING_RATE = 0.05


class FeatureVisualization:
    """Makes images that a loss likes: what a channel, a class, a direction or a whole layer looks for.

    Four values that combine freely: a loss, what the image is made of, what it is put through at every
    step, and an optimizer. What comes out is one picture of many possible ones; it shows what raises
    the loss, not what the network sees in the world's images.

    Several threads may call one object; they wait for one another. A callback must not call the object that calls
    it. On PyTorch no thread may train the model meanwhile.

    Source: Olah et al. 2017, "Feature Visualization"; with `MagnitudeConstrained`: Fel et al. 2023,
    "Unlocking Feature Visualization with MAgnitude Constrained Optimization".

    Args:
        model: Any built Keras model with one input. Not changed.
        loss: A loss of `vis.losses`, or several combined with `+`, `-` and `*`. It is minimised.
        parameterization: What images are made of, see `vis.parameterizations`. Default `None`: `Fourier()`,
            or `Pixels()` for inputs without spatial axes.
        transforms: List of transforms of `vis.input_modifiers`, `[]` for none. Default `None`:
            `standard_transforms()`, none for inputs without spatial axes. What they cut off or add, resizing
            makes good: the network gets images of their own size.
        regularizers: A loss of the image, or a list of pairs `(loss, weight)`, see `vis.regularizers`;
            taken before the transforms. Default none.
        optimizer: A Keras optimizer, of which a copy is used. Default `None`: `Adam(0.05)`.
        input_range: `(low, high)` of the model's input. Default (0, 1).

    Attributes:
        history: Of the last call: a dict from the losses' names to their weighted values, float32 arrays
            `(steps, N)`.
        importance: Of the last call: the size of the gradient at each place, summed over the channels and the
            steps, float32 `(N, *spatial)`. As transparency it shows what matters in the image.

    Raises:
        ValueError: An argument is wrong, or a layer cannot be found in the model.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: What is to be raised is a probability, after a softmax or sigmoid; the image
            of a loss lies outside of `input_range`; or the model rescales bytes and `input_range` is not
            theirs.

    Examples:
        >>> from vis.losses import ActivationMaximization
        >>> model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3)])
        >>> fv = FeatureVisualization(model, ActivationMaximization(-1, 0))
        >>> fv(steps=5, seed=0).shape
        (1, 16, 16, 3)
        >>> fv.history["ActivationMax Loss"].shape
        (5, 1)
    """

    _running = False

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        parameterization: Parameterization | None = None,
        transforms: Sequence[Transform] | Transform | None = None,
        regularizers: Loss | WeightedLosses | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
        input_range: tuple[float, float] = (0, 1),
    ) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a Keras 3 model. Received: {shown(model)} ({type(model).__name__}).")
        if not model.built:
            raise ValueError(
                f"`model` must be built. Received: {model.name!r}, which is not. Call it on a sample first."
            )
        if not isinstance(loss, Loss):
            raise TypeError(
                "`loss` must be a loss of `vis.losses`, such as `ActivationMaximization(layer, 3)`, or a sum of some. "
                f"Received: {shown(loss)}."
            )
        self._model = model
        self._formula = str(loss)
        self._losses, weights = check_losses([(loss, 1.0)], "loss")
        self._regularizers, more = _read_regularizers(regularizers)
        self._weights = np.array(weights + more, "float32")
        self._names = _distinct([str(one) for one in self._losses + self._regularizers])
        self._input_shape = model_input_shape(model)
        axes = 1 if self._input_shape is None else len(self._input_shape) - 2
        self._parameterization = _read_parameterization(parameterization, axes)
        self._transform = _read_transforms(transforms, axes)
        self._optimizer = _read_optimizer(optimizer)
        self._range = tuple(float(end) for end in check_input_range(input_range))
        self.history: dict[str, np.ndarray] = {}
        self.importance: np.ndarray | None = None
        self._start()
        for one in self._losses:
            if isinstance(one, (ActivationMaximization, Interpolation, Neuron)):
                warn_of_probabilities(find_layer(model, one.layer))
            _warn_of_another_range(one, self._range)
        _warn_of_bytes(model, self._range)

    def _start(self):
        self._energy = energy_of(self._model, self._losses)
        self._lock = ProcessLock()

    def __getstate__(self) -> dict:
        own = ("_energy", "_lock", "_running")
        state = {key: value for key, value in vars(self).items() if key not in own}
        return {**state, "_model": pickled(self._model)}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._model = unpickled(self._model)
        self._start()

    def __repr__(self) -> str:
        return f"FeatureVisualization({self._model.name!r}, {self._formula})"

    def __call__(
        self,
        num_images: int = 1,
        steps: int = 256,
        seed: int | None = None,
        seed_input: ArrayLike | None = None,
        callbacks: Callbacks | None = None,
        verbose: int = 0,
    ) -> np.ndarray:
        """Makes images.

        Args:
            num_images: How many, at least 1. Default 1.
            steps: Steps of the optimizer. Default 256. 0 returns what it would start from.
            seed: Seed of the start and the transforms: the same, the same images. Default `None`: others
                at each call.
            seed_input: Image or batch to start from, values in `input_range`. Default `None`: what the
                parameterization draws.
            callbacks: List of `vis.callbacks.OptimizerCallback`; they are called for every `every`-th step.
            verbose: 1 for a progress bar. Default 0.

        Returns:
            float32 `(N, *input shape)`, values in `input_range`, where the model wants the channels.

        Raises:
            ValueError: An argument is wrong, or the loss does not depend on the input.
            TypeError: An argument is of the wrong kind.
            FloatingPointError: A loss became NaN or infinite; the message names it.
            RuntimeError: A callback called the object that called it.
        """
        return self._make(self._losses, num_images, steps, seed, seed_input, callbacks, verbose)

    def many(
        self,
        filter_indices: Indices,
        steps: int = 256,
        seed: int | None = None,
        seed_input: ArrayLike | None = None,
        callbacks: Callbacks | None = None,
        verbose: int = 0,
    ) -> np.ndarray:
        """Makes an image for each of several filters, as one batch.

        Args:
            filter_indices: One index for each image; it takes the place of those of the
                `ActivationMaximization` in the loss.
            steps: See `__call__`.
            seed: See `__call__`.
            seed_input: See `__call__`.
            callbacks: See `__call__`.
            verbose: See `__call__`.

        Returns:
            As `__call__`, one image for each index.

        Raises:
            ValueError, FloatingPointError: As `__call__`.
            TypeError: As `__call__`; or there is no `ActivationMaximization` in the loss.
        """
        if filter_indices is None:
            raise TypeError("`filter_indices` must hold one index for each image. Received: None.")
        indices = listify(filter_indices)
        if not any(isinstance(loss, ActivationMaximization) for loss in self._losses):
            raise TypeError(
                "`many` needs an `ActivationMaximization` in the loss, whose filters it replaces. Received: "
                f"{', '.join(self._names)}."
            )
        losses = [loss.each(indices) if isinstance(loss, ActivationMaximization) else loss for loss in self._losses]
        return self._make(losses, len(indices), steps, seed, seed_input, callbacks, verbose)

    def _make(self, losses, num_images, steps, seed, seed_input, callbacks, verbose):
        with self._turn(), shadowed(), shadowed([(self, "_running", True)]), ended(callbacks) as watchers:
            steps, num_images = check_count("steps", steps), check_count("num_images", num_images, 1)
            given = self._read_seed_input(seed_input, num_images)
            shape = self._image_shape(given, num_images)
            generator = np.random.default_rng(fresh_seed(None if seed is None else check_count("seed", seed)))
            self._energy.forget_changed()
            loop = self._loop(shape, losses)
            loop.start(
                self._parameterization.initial(shape, generator)
                if given is None
                else self._parameterization.encode(given, self._range)
            )
            records = self._run(loop, losses, steps, generator, watchers, verbose)
            self.history = {name: records[:, i] for i, name in enumerate(self._names)}
            self.importance = loop.importance()
            return self._in_place(given if steps == 0 and given is not None else _check_images(loop.images()))

    def _turn(self):
        """Returns the lock that calls wait for, or raises where the wait would have no end."""
        lock = self._lock()
        with lock:
            if self._running:
                raise RuntimeError(
                    "A callback must not call the FeatureVisualization that calls it, whose images are not finished. "
                    f"Received: a call of {shown(self)} within a call of it. Make another FeatureVisualization for the "
                    "callback, or call this one afterwards."
                )
        return lock

    def _run(self, loop, losses, steps, generator, watchers, verbose):
        """Runs all steps, chunk by chunk, and returns the losses `(steps, terms, N)`."""
        arguments = self._arguments(losses, loop)
        bar = keras.utils.Progbar(steps) if verbose and steps else None
        records, rule, done = [np.zeros((0, len(self._weights), loop.shape[0]), "float32")], None, 0
        while done < steps:
            count = _until_stop(done, min(loop.length, steps - done), watchers, rule)
            before = generator.bit_generator.state
            terms, strength = loop.advance(count, generator, self._weights, arguments, rule)
            if done == 0 and rule is None and not strength[0].all():
                # A dead unit: begin again, with gradients that wake it.
                generator.bit_generator.state = before
                rule = composite("redirected")
                loop.restart()
                continue
            for i, row in enumerate(terms):
                check_terms(done + i, self._names, row.sum(axis=1))
            records.append(terms)
            done += count
            rule = rule if done < _RESCUE else None
            if bar is not None:
                bar.update(done, [("loss", terms[-1].sum() / loop.shape[0])])
            if any(done % getattr(watcher, "every", 1) == 0 for watcher in watchers):
                images = self._in_place(loop.images())
                tell(watchers, done - 1, self._names, terms[-1].sum(axis=1), None, images)
        return np.concatenate(records)

    def _arguments(self, losses, loop):
        example = self._in_place(np.zeros(loop.shape, "float32"))
        return self._energy.arguments(losses, example), [r.arguments([loop.shape]) for r in self._regularizers]

    def _loop(self, shape, losses):
        kinds = tuple(getattr(loss, "_each", False) for loss in losses)
        return self._energy.memory.once("loops", lambda: self._make_loop(shape), (shape, kinds))

    def _make_loop(self, shape):
        return Loop(
            self._energy,
            self._regularizers,
            self._parameterization,
            self._transform,
            self._optimizer,
            shape,
            self._range,
        )

    def _read_seed_input(self, seed_input, num_images):
        """Returns the images to start from, channels last, or `None`."""
        form, (low, high) = model_input_format(self._model), self._range
        if seed_input is None:
            return None
        given = channels_in_place("seed_input", seed_input, self._input_shape, form)
        if given.min() < np.float32(low) or given.max() > np.float32(high):
            raise ValueError(
                f"`seed_input` must lie in `input_range`, {low:g} to {high:g}. Received: values from "
                f"{given.min():g} to {given.max():g}. Scale it, or give the `input_range` that the model takes."
            )
        given = np.moveaxis(given, 1, -1) if form == "channels_first" and given.ndim > 2 else given
        if len(given) not in (1, num_images) and num_images != 1:
            raise ValueError(f"`seed_input` must hold 1 or {num_images} images. Received: {len(given)}.")
        return np.repeat(given, num_images, axis=0) if len(given) == 1 else given

    def _image_shape(self, given, num_images):
        if given is not None:
            return given.shape
        shape = self._input_shape
        if shape is None or None in shape[1:]:
            raise ValueError(
                "`seed_input` is needed where the model's input has no fixed size: it gives the image's. Received: "
                f"None, for input shape {shape}."
            )
        form = model_input_format(self._model)
        return (num_images, *shape[2:], shape[1]) if form == "channels_first" else (num_images, *shape[1:])

    def _in_place(self, images):
        """Puts the channels where the model wants them."""
        first = model_input_format(self._model) == "channels_first" and images.ndim > 2
        return np.ascontiguousarray(np.moveaxis(images, -1, 1)) if first else images


def _until_stop(done, count, watchers, rule):
    """Returns the number of steps up to the next one at which something is to be looked at."""
    if done == 0 and rule is None:
        return 1  # is there a gradient at all?
    stops = [every - done % every for every in (getattr(watcher, "every", 1) for watcher in watchers)]
    return min([count, *stops, *([_RESCUE - done] if rule else [])])


def _check_images(images):
    if not np.isfinite(images).all():
        raise FloatingPointError(
            "The images became NaN or infinite in the last step. Lower the optimizer's learning rate."
        )
    return images


def _distinct(names) -> list:
    return [f"{name} {names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]


def _warn_of_another_range(loss, input_range):
    image, (low, high) = getattr(loss, "image", None), input_range
    slack = 0.01 * (high - low)
    if image is not None and (image.min() < low - slack or image.max() > high + slack):
        warnings.warn(
            f"`image` of {loss.name} should lie in `input_range`, {low:g} to {high:g}. Received: values from "
            f"{image.min():g} to {image.max():g}, which no image made here comes near. Scale it, or give the "
            "`input_range=` that the model takes.",
            VisualizationWarning,
            stacklevel=3,
        )


def _warn_of_bytes(model, input_range):
    if input_range[1] - input_range[0] > 2:
        return
    first = (
        layer for _, layer in layers(model) if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
    )
    rescaling = next(first, None)
    if rescaling is not None and takes_bytes(rescaling):
        warnings.warn(
            f"`input_range` should be that of bytes: the model's layer {rescaling.name!r} rescales inputs from 0 to "
            f"255. Received: {input_range}, of which nearly nothing is left then. Give `input_range=(0, 255)`.",
            VisualizationWarning,
            stacklevel=3,
        )


def _read_regularizers(regularizers):
    """Returns the regularizers and their weights."""
    if regularizers is None or (isinstance(regularizers, (list, tuple)) and not regularizers):
        return [], []
    losses, weights = check_losses(
        [(regularizers, 1.0)] if isinstance(regularizers, Loss) else regularizers, "regularizers"
    )
    for loss in losses:
        if not hasattr(loss, "value"):
            raise TypeError(
                f"A regularizer must define `value`, as those of `vis.regularizers` do. Received: {shown(loss)}."
            )
    return losses, weights


def _read_parameterization(parameterization, axes):
    if parameterization is None:
        return Fourier() if axes else Pixels()
    if not isinstance(parameterization, Parameterization):
        raise TypeError(
            "`parameterization` must be one of `vis.parameterizations`, such as `Fourier()`. Received: "
            f"{shown(parameterization)}."
        )
    return parameterization


def _read_transforms(transforms, axes):
    if transforms is None:
        return standard_transforms(axes) if axes else Compose([])
    return Compose(transforms)


def _read_optimizer(optimizer):
    if optimizer is None:
        return keras.optimizers.Adam(_LEARNING_RATE)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a Keras optimizer, such as `keras.optimizers.Adam(0.05)`. Received: "
            f"{shown(optimizer)}."
        )
    return optimizer
