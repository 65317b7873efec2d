"""The base class of the methods that look at the positions of one input, such as those that hide parts of it.

Most need no gradient, only the model's output, which is explained as it is by default.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import layers

from vis.engine.feature_maps import by_size
from vis.engine.inputs import named_input
from vis.engine.tokens import plain_inputs
from vis.methods.explainer import Explainer
from vis.utils.internals import consumers, producer
from vis.utils.outputs import known_shape
from vis.utils.validation import VisualizationWarning, is_integer, shown

if TYPE_CHECKING:
    from vis.engine.inputs import Batch
    from vis.utils.types import Index, LayerLike


# What leaves an input as it is but for its values, and what gives it other axes.
_KEEPING = (layers.Rescaling, layers.Normalization, layers.BatchNormalization, layers.Dropout, layers.GaussianNoise)
_FEW_CHANNELS = 4  # no image is that narrow
_RESHAPING = ("Reshape", "ExpandDims", "GetItem", "Flatten", "Lambda")


class PerturbationExplainer(Explainer):
    """Base class of the methods that look at the positions of one input, such as those that hide parts of it.

    Of several inputs, the image (or volume, or signal) is meant; the others stay as they are. Inputs whose names
    say that they are masks, segments or positions are never meant by themselves.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        input_name: Which of several inputs is perturbed: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    how_to_name = "`input_name` must be given: the name or the number of the one whose parts are hidden."

    def __init__(
        self,
        model: keras.Layer,
        *,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, output_layer, logits)
        if not (input_name is None or isinstance(input_name, str) or is_integer(input_name)):
            raise TypeError(f"`input_name` must be a name or a number. Received: {shown(input_name)}.")
        self._input_name = input_name

    def perturbed(self, batch: Batch) -> int:
        """Returns which input is perturbed."""
        if self._input_name is not None:
            return named_input(self.model, batch, self._input_name)
        first, *others = by_size(batch, plain_inputs(self.model, batch) or None)
        sizes = [
            np.prod(batch.spatial_shape(index)) if array.ndim > 2 else 0 for index, array in enumerate(batch.arrays)
        ]
        alike = [index for index in others if 2 * sizes[index] >= sizes[first]]
        if alike:
            names = ", ".join(f"`{batch.layout.names[index]}` {batch.arrays[index].shape}" for index in [first, *alike])
            raise ValueError(f"Several inputs of the model may be meant: {names}. {self.how_to_name}")
        return first

    def spatial_shape(self, batch: Batch, index: int) -> tuple:
        """Returns the shape of the map of one sample."""
        shape, whole = batch.spatial_shape(index), batch.arrays[index].shape
        if batch.holds_texts(index):
            raise ValueError(
                f"What is hidden must be numbers. Received: `{batch.layout.names[index]}`, which holds strings. Name "
                "the other inputs, such as `features={'age': None}`; or look the strings up before, `codes = "
                "lookup(strings)`, and explain the model of codes."
            )
        if self.vocabulary(batch, index):
            return whole[1:]
        if not shape:
            raise ValueError(
                f"`{batch.layout.names[index]}` must have at least one axis besides the batch, to hide parts of it. "
                f"Received: shape {whole}."
            )
        return whole[1:] if is_image_without_channels(self.model, batch, index) else shape

    def vocabulary(self, batch: Batch, index: int) -> int:
        """Returns how many token ids there are for an input that goes into an embedding as it is; 0 for any other."""
        return min((one.size for one in self.evaluator.lookups(batch) if one.index == index), default=0)


def is_image_without_channels(model: keras.Layer, batch: Batch, index: int) -> bool:
    """Tells whether the model makes an input `(N, H, W)` into images; where it flattens it, says that this is unclear.

    Args:
        model: The model.
        batch: The inputs.
        index: Which of them.
    """
    whole = batch.arrays[index].shape
    becomes = _first_use(model, index) if len(whole) == 3 and whole[-1] > _FEW_CHANNELS else None
    if becomes == "flat":
        warnings.warn(
            f"`{batch.layout.names[index]}` of shape {whole} are taken for signals of {whole[-1]} channels, each row "
            "being one position. If they are images, give a `patch` that is a pair (vis.Occlusion), or begin the "
            "model with a Reshape that adds the channel axis.",
            VisualizationWarning,
            stacklevel=3,
        )
    return becomes == "image"


def _first_use(model, index):
    """Returns what an input (N, a, b) of a model is made into: "image", if it gets more axes, "flat", or `None`."""
    inputs = getattr(model, "inputs", None) or []
    queue = [producer(tensor) for tensor in inputs[index : index + 1]]
    while queue:
        for operation in consumers(queue.pop(0)):
            rank = len(known_shape(operation) or ())
            if isinstance(operation, keras.Model):
                queue += [producer(tensor) for tensor in operation.inputs or [] if len(tensor.shape) == 3]
            elif rank == 3 and isinstance(operation, _KEEPING):
                queue.append(operation)
            elif type(operation).__name__ in _RESHAPING and rank != 3:
                return "image" if rank > 3 else "flat"
    return None


def check_ids(fill: np.ndarray, vocabulary: int) -> None:
    """Raises unless a fill holds token ids of a vocabulary."""
    if (fill != np.round(fill)).any() or fill.min() < 0 or fill.max() >= vocabulary:
        raise ValueError(
            f"`baseline` must be a token id from 0 to {vocabulary - 1}, as tokens are hidden. Received: values from "
            f"{fill.min():g} to {fill.max():g}. Take the id of the tokenizer's mask or padding token."
        )
