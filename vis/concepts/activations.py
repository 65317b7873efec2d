"""What a layer puts out for arrays and for data sets, in one form."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.evaluator import Evaluator
from vis.engine.goals import EveryUnit
from vis.engine.inputs import read_inputs
from vis.engine.onward import Onward
from vis.engine.requests import outputs_at
from vis.engine.streams import batches, split
from vis.engine.tasks import Task
from vis.methods.explainer import check_finite
from vis.utils.formats import data_format
from vis.utils.hints import is_dataset
from vis.utils.validation import check_count

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
        batch = self.evaluator.ready(read_inputs(self.model, inputs))
        self.evaluator.check_site(batch)
        task = Task(self.evaluator, batch, None, check_count("batch_size", batch_size, 1))
        return self.last(check_finite(task.map(outputs_at(self.evaluator.site))["activations"][0]))

    def means(self, data: Any, batch_size: int = 32) -> np.ndarray:
        """Returns the means over the positions, `(N, channels)`, of an array or a data set."""
        return np.concatenate([_mean(self.read(inputs, batch_size)) for inputs in each_batch(self.model, data)])

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
    number = len(getattr(model, "inputs", None) or [0])
    yield from batches(data, lambda _, item: split(item, number)[0])


def _is_iterator(data):
    return hasattr(data, "__next__") or (hasattr(data, "__iter__") and not hasattr(data, "__len__"))


def _mean(values):
    return values.mean(axis=tuple(range(1, values.ndim - 1))) if values.ndim > 2 else values


def check_fitted(what: Any, name: str) -> None:
    """Raises unless there is something that was fitted."""
    if not what:
        raise ValueError(f"`{name}` must be fitted before. Received: one that was not. Call `.fit(...)` first.")
