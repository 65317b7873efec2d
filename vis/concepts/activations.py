"""What a layer puts out for arrays and for data sets, in one form."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.evaluator import Evaluator
from vis.engine.goals import EveryUnit
from vis.engine.inputs import read_inputs
from vis.engine.onward import Onward
from vis.engine.requests import gradients_at, outputs_at
from vis.engine.streams import batches, check_ends, split
from vis.engine.tasks import Task
from vis.methods.explainer import check_finite
from vis.utils.formats import data_format
from vis.utils.hints import is_dataset
from vis.utils.validation import check_count, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

    from vis.utils.types import Inputs, LayerLike, TargetLike


class LayerReader:
    """Reads a layer of a model, and the rest of the model after it.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is meant. Default `True`.

    Raises:
        TypeError: `layer` is `None`.
        ValueError: There is no such layer.
    """

    def __init__(
        self, model: keras.Layer, layer: LayerLike, output_layer: LayerLike | None = None, logits: bool = True
    ) -> None:
        if layer is None:
            raise TypeError("`layer` must be a layer, or its name, path or index. Received: None.")
        self.evaluator = Evaluator(model, output_layer, logits, None, layer)

    @property
    def model(self) -> keras.Layer:
        """The model."""
        return self.evaluator.model

    @property
    def layer(self) -> keras.Layer:
        """The layer."""
        return self.evaluator.site.layer(self.model)

    def read(self, inputs: Inputs, batch_size: int = 32) -> np.ndarray:
        """Returns what the layer puts out, float32 `(N, *spatial, channels)`."""
        found = self._task(inputs, batch_size).map(outputs_at(self.evaluator.site))
        return self.last(check_finite(found["activations"][0]))

    def _task(self, inputs, batch_size):
        batch = self.evaluator.ready(read_inputs(self.model, inputs))
        self.evaluator.check_site(batch)
        return Task(self.evaluator, batch, None, check_count("batch_size", batch_size, 1))

    def means(self, data: Any, batch_size: int = 32) -> np.ndarray:
        """Returns the means over the positions, `(N, channels)`, of an array or a data set."""
        if isinstance(data, str | os.PathLike):
            raise TypeError(
                f"Examples must be an array of inputs, or a data set of them. Received: the path {shown(str(data))}. "
                "Read it first, such as by `keras.utils.image_dataset_from_directory`."
            )
        tasks = (self._task(inputs, batch_size) for inputs in each_batch(self.model, data))
        means = [_pooled(self._with_channels(one), np.mean) for task in tasks for one in self._parts(task)]
        if not means:
            raise ValueError("Examples must be at least one batch. Received: a data set without any.")
        return np.concatenate(means)

    def _parts(self, task):
        """Yields what the layer puts out, chunk by chunk: only what is made of it is kept."""
        for _, _, results in task.rows(outputs_at(self.evaluator.site)):
            yield self.last(check_finite(results["activations"][0]))

    def _with_channels(self, values):
        if values.ndim < 2:
            raise ValueError(
                "`layer` must put out at least one axis beside the batch axis, its channels. Received: "
                f"{self.layer.name!r}, which puts out one number for each input. Choose another layer."
            )
        return values

    def gradients(self, inputs: Inputs, target: TargetLike, batch_size: int = 32) -> np.ndarray:
        """Returns the score's gradients at the layer, summed over the positions, `(N, channels)`."""
        task = self.evaluator.task(inputs, target, check_count("batch_size", batch_size, 1))
        found = (results["gradients"][0] for _, _, results in task.rows(gradients_at(self.evaluator.site)))
        return np.concatenate([_pooled(self.last(check_finite(one)), np.sum) for one in found])

    def onward(self, inputs: Inputs, target: TargetLike, batch_size: int) -> Onward:
        """Returns the network from the layer on, for some inputs and a target."""
        task = self.evaluator.task(inputs, target, batch_size)
        self.evaluator.check_site(task.batch)
        return Onward(task, self.evaluator.site)

    def onward_to_all(self, inputs: Inputs, batch_size: int) -> Iterator[Onward]:
        """Yields the network from the layer on, for groups of inputs; its scores are those of every output unit."""
        task = dataclasses.replace(self.evaluator.task(inputs, 0, batch_size), goal=EveryUnit())
        for _, part in task.groups():
            yield Onward(part, self.evaluator.site)

    def last(self, array: np.ndarray) -> np.ndarray:
        """Returns an output of the layer, or a gradient at it, with its channels last."""
        return np.moveaxis(array, 1, -1) if self._moves(array) else array

    def in_place(self, array: np.ndarray) -> np.ndarray:
        """Returns an array with channels last as the layer puts it out."""
        return np.moveaxis(array, -1, 1) if self._moves(array) else array

    def _moves(self, array):
        return array.ndim > 2 and data_format(self.layer) == "channels_first"


def each_batch(model: keras.Layer, data: Any) -> Iterator[Inputs]:
    """Yields the inputs of a data set batch by batch; those of an array, as one batch."""
    if not is_dataset(data) and not _is_iterator(data):
        yield data
        return
    check_ends(data)
    number = input_count(model)
    yield from batches(data, lambda _, item: split(item, number)[0])


def input_count(model: keras.Layer) -> int:
    """Returns how many inputs a model has."""
    return len(getattr(model, "inputs", None) or [0])


def _is_iterator(data):
    return hasattr(data, "__next__") or (hasattr(data, "__iter__") and not hasattr(data, "__len__"))


def _pooled(values, function):
    return function(values, axis=tuple(range(1, values.ndim - 1)))


def check_fitted(what: Any, name: str) -> None:
    """Raises unless there is something that was fitted."""
    if not what:
        raise ValueError(f"`{name}` must be fitted before. Received: one that was not. Call `.fit(...)` first.")
