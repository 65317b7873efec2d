"""Targets: what is explained, where a class index does not say it.

A target is a function of the model's outputs, together with arrays that hold one row for each sample. The rows
follow their samples wherever these go, and they are arguments of what is compiled: another mask or another sentence
needs no new compilation.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops, tree

from vis.detectors import corners
from vis.utils.validation import VisualizationWarning, check_flag, check_numeric, is_integer, pick, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vis.utils.types import Index, Indices


_LARGEST = 2**31
_HARDLY = 0.01  # of a likeness
_ROUNDING = 1e-3  # beyond 0 and 1, of probabilities in half precision


class Target:
    """A number for each sample: a function of the outputs, and arrays with a row for each sample.

    Args:
        function: `function(outputs, *rows) -> (N,)`, made of `keras.ops`; `rows` are those of the samples that are
            evaluated at once. What a sample gets must not depend on other samples. Keep one function: each new
            one is compiled.
        *arrays: Numbers, each `(N, ...)` for the N samples that are explained.

    Raises:
        TypeError: `function` cannot be called.
        ValueError: An array is not of finite numbers, or has no axis for the samples.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> distance = lambda outputs, wanted: -keras.ops.sum((outputs - wanted) ** 2, axis=-1)
        >>> target = Target(distance, np.zeros((4, 3)))
        >>> vis.Saliency(model)(np.ones((4, 2)), target).shape
        (4, 2)
    """

    def __init__(self, function: Callable, *arrays: ArrayLike) -> None:
        if not callable(function):
            raise TypeError(f"`function` must be a function of the model's outputs. Received: {shown(function)}.")
        self.function = function
        self._arrays = [_read_array(f"arrays[{i}]", array) for i, array in enumerate(arrays)]

    def arrays(self, count: int) -> list:
        """Returns the arrays for a number of samples, each `(count, ...)`.

        Raises:
            ValueError: There are rows for another number of samples.
        """
        for array in self._rows(count):
            if len(array) != count:
                raise ValueError(
                    f"`target` must hold one row for each of {count} samples. Received: an array of shape "
                    f"{array.shape} in {type(self).__name__}. {self._one_row}"
                )
        return self._rows(count)

    def score(self, outputs: Any) -> np.ndarray:
        """Returns the number that is explained of each sample, float32 `(N,)`: to look at before it is explained.

        Args:
            outputs: What the model returns for the N samples, tensors or arrays: `model(inputs)`.

        Raises:
            ValueError: There are rows for another number of samples, or they do not fit the outputs.
        """
        outputs = tree.map_structure(ops.convert_to_tensor, outputs)
        self.check(outputs)
        self.look(outputs)
        rows = map(ops.convert_to_tensor, self.arrays(len(tree.flatten(outputs)[0])))
        return ops.convert_to_numpy(ops.cast(self.function(outputs, *rows), "float32"))

    def _rows(self, count):
        return self._arrays

    _one_row = "Give the rows of these samples only."

    def check(self, outputs: Any) -> None:
        """Raises where the arrays do not fit the model's outputs; overridden by targets that can tell.

        Args:
            outputs: Outputs for a few samples, as arrays.
        """

    def look(self, outputs: Any) -> None:
        """Raises or warns where what the model puts out is not what is meant; overridden by targets that can tell.

        Args:
            outputs: The model's outputs for the first of the samples, as tensors.
        """

    def check_padding(self, kept: np.ndarray) -> None:
        """Raises where a position is asked for that is padding; overridden by targets that have positions.

        Args:
            kept: Which tokens are no padding, booleans `(N, positions)`.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(str(array.shape) for array in self._arrays)})"


def _read_array(name, value):
    array = check_numeric(name, value)
    if array.ndim == 0:
        raise ValueError(f"`{name}` must hold one row for each sample. Received: the single number {array}.")
    whole = np.asarray(value).dtype.kind in "biu" if not hasattr(value, "detach") else False
    return array.astype("int32") if whole else array


class _ForAll(Target):
    """A target whose values may be given once for all samples."""

    _one_row = "One row, `array[None]`, stands for all samples."

    def _rows(self, count):
        return [np.repeat(array, count, axis=0) if len(array) == 1 else array for array in self._arrays]


class Contrast:
    """The score of one class minus that of another: what speaks for this class rather than for that one.

    Args:
        one: The class that is asked for: an int, or one for each sample.
        other: The class that it is compared with, in the same form.

    Raises:
        TypeError: A class is no whole number.
        ValueError: The two are the same class.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> model.set_weights([np.array([[1.0, 2, 3], [4, 5, 9]]), np.zeros(3)])
        >>> vis.Saliency(model)(np.ones((1, 2)), Contrast(2, 0)).tolist()
        [[2.0, 5.0]]
    """

    def __init__(self, one: Indices, other: Indices) -> None:
        self.one, self.other = _read_classes("one", one), _read_classes("other", other)
        if np.any(np.asarray(self.one) == np.asarray(self.other)):
            raise ValueError(f"`one` and `other` must be different classes. Received: {shown(one)} and {shown(other)}.")

    def __repr__(self) -> str:
        return f"Contrast({self.one!r}, {self.other!r})"


def _read_classes(name, value):
    classes = value.tolist() if hasattr(value, "tolist") else value
    several = list(classes) if isinstance(classes, (list, tuple, range)) else [classes]
    if not several or not all(is_integer(one) for one in several):
        raise TypeError(f"`{name}` must be a class index, or one for each sample. Received: {shown(value)}.")
    if any(abs(one) >= _LARGEST for one in several):
        raise ValueError(f"`{name}` must hold indices that 32 bits can hold. Received: {shown(value)}.")
    return several if isinstance(classes, (list, tuple, range)) else classes


@dataclasses.dataclass(frozen=True)
class _Cosine:
    output: object
    has_constant_length: bool = False

    def for_relevance(self):
        """Returns the function for relevance: the length counts as a constant, as the deviation of a normalisation.

        Otherwise the shares of the output would sum to 0, not to the cosine, which no scale of the output changes.
        """
        return dataclasses.replace(self, has_constant_length=True)

    def __call__(self, outputs, embeddings):
        chosen = outputs if self.output is None else outputs[self.output]
        if not ops.is_tensor(chosen) or tuple(chosen.shape[1:]) != tuple(embeddings.shape[1:]):
            shape = tuple(chosen.shape) if ops.is_tensor(chosen) else type(chosen).__name__
            raise ValueError(
                f"`embeddings` must have the shape of the model's output. Received: {tuple(embeddings.shape)} and an "
                f"output {shape}. Give `output=` if the model has several, and one embedding for each sample."
            )
        chosen = ops.reshape(ops.cast(chosen, "float32"), (chosen.shape[0], -1))
        embeddings = ops.reshape(ops.cast(embeddings, "float32"), (chosen.shape[0], -1))
        lengths = ops.sqrt(ops.sum(chosen**2, axis=-1) * ops.sum(embeddings**2, axis=-1))
        lengths = ops.stop_gradient(lengths) if self.has_constant_length else lengths
        return ops.sum(chosen * embeddings, axis=-1) / ops.maximum(lengths, 1e-12)


class Similarity(_ForAll):
    """The cosine between the model's output and an embedding: what makes two sentences, or two faces, alike.

    For relevance (`LRP`), the length of the output counts as a constant, so that the shares sum to the cosine.

    Args:
        embeddings: Of the other side: `(features,)` for all samples, or `(N, features)`.
        output: Which output is meant, if the model has several: its key or its number. Default `None`.

    Raises:
        ValueError: The embeddings are not finite numbers, or one of them is zero.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> vis.Saliency(model)(np.array([[1.0, 0.0]]), Similarity([0.0, 5.0])).tolist()
        [[0.0, 1.0]]
    """

    def __init__(self, embeddings: ArrayLike, output: str | int | None = None) -> None:
        array = check_numeric("embeddings", embeddings)
        array = array[None] if array.ndim < 2 else array
        if not array.reshape(len(array), -1).any(axis=1).all():
            raise ValueError(f"`embeddings` must not be zero: it has no direction. Received: shape {array.shape}.")
        super().__init__(_Cosine(output), array)


@dataclasses.dataclass(frozen=True)
class _MeanInside:
    channel: int | None

    def __call__(self, outputs, mask):
        mask = ops.cast(mask, "float32")
        values = self._channel(outputs, tuple(mask.shape[1:]))
        positions = tuple(range(1, len(mask.shape)))
        return ops.sum(values * mask, axis=positions) / ops.sum(mask, axis=positions)

    def _channel(self, outputs, size):
        shape = tuple(outputs.shape) if ops.is_tensor(outputs) else ()
        if shape[1:] == size:
            return ops.cast(outputs, "float32")
        last, first = shape[1:-1] == size, shape[2:] == size
        if not (last or first):
            raise ValueError(
                f"`mask` must have the size of the model's output. Received: {size} and an output "
                f"{shape or type(outputs).__name__}. Resize the mask to the output's positions."
            )
        count = shape[-1] if last else shape[1]
        channel = 0 if count == 1 and self.channel is None else self.channel
        if channel is None or not 0 <= channel < count:
            raise ValueError(
                f"`channel` must be one of the {count} channels of the output {shape}, from 0 to {count - 1}. "
                f"Received: {channel}."
            )
        return ops.cast(outputs[..., channel] if last else outputs[:, channel], "float32")


class Region(_ForAll):
    """The mean of a dense output inside a mask: why a part of a segmentation is what it is.

    Args:
        mask: `(N, *spatial)`, or `(1, *spatial)` for one for all samples, in the size of the model's output.
            Weights of at least 0, or booleans; some of each mask must be above 0.
        channel: The class. May be `None` (default) where the output has a single channel.

    Raises:
        ValueError: The mask is empty or holds negative numbers; or, once the output is known, it has another size.
        TypeError: `channel` is no whole number.

    Examples:
        >>> import keras, vis
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(1, 1, kernel_initializer="ones")])
        >>> corner = Region(np.array([[[True, False], [False, False]]]))
        >>> vis.Saliency(model)(np.ones((1, 2, 2, 1)), corner)[0, ..., 0].tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """

    def __init__(self, mask: ArrayLike, channel: Index | None = None) -> None:
        array = check_numeric("mask", mask)
        if channel is not None and not is_integer(channel):
            raise TypeError(f"`channel` must be an integer. Received: {shown(channel)}.")
        if array.ndim < 2 or (array < 0).any() or not array.reshape(len(array), -1).any(axis=1).all():
            raise ValueError(
                "`mask` must be (N, *spatial) of weights of at least 0, some of each sample's above 0. Received: shape "
                f"{array.shape}{', with negative values' if (array < 0).any() else ', or an empty mask'}."
            )
        super().__init__(_MeanInside(None if channel is None else int(channel)), array)


@dataclasses.dataclass(frozen=True)
class _Detection:
    """The best proposal's likeness to a box: `(B,)` of outputs, boxes `(B, 4)` and classes `(B,)` or `(B, classes)`."""

    decode: Callable
    is_place_constant: bool

    def __call__(self, outputs, boxes, classes):
        proposals, scores, objectness = self.decoded(outputs)
        overlap = _overlap(ops.clip(proposals, 0.0, 1.0), boxes[:, None])
        overlap = ops.stop_gradient(overlap) if self.is_place_constant else overlap
        alike = overlap * _class_likeness(scores, classes) * objectness
        best = ops.one_hot(ops.argmax(alike, axis=-1), alike.shape[-1], dtype="bool")
        return ops.sum(ops.where(best, alike, 0.0), axis=-1)

    def decoded(self, outputs):
        """Returns boxes `(B, P, 4)`, class scores `(B, P, classes)` and objectness `(B, P)`, or 1.0 for that."""
        parts = self._parts(outputs)
        shapes = [tuple(part.shape) for part in parts] if _are_tensors(parts) else []
        batch = tree.flatten(outputs)[0].shape[0]
        boxes, scores, objectness = [*shapes, None, None, None][:3]
        fits = len(shapes) in (2, 3) and len(boxes) == len(scores) == 3 and boxes == (batch, boxes[1], 4) and boxes[1]
        if not fits or scores[:2] != boxes[:2] or objectness not in (None, boxes[:2]):
            raise ValueError(
                "`decode` must return boxes (B, proposals, 4) and class scores (B, proposals, classes), and after them "
                f"the objectness (B, proposals) if there is one, for B={batch} samples. Received: "
                f"{', '.join(map(str, shapes)) or shown(type(parts).__name__)}."
            )
        parts = [ops.cast(part, "float32") for part in parts]
        return parts if len(parts) == 3 else [*parts, 1.0]

    def _parts(self, outputs):
        try:
            return self.decode(tree.map_structure(_as_float32, outputs))
        except Exception as error:  # the user's code, it may raise anything
            shapes = tree.map_structure(lambda tensor: tuple(tensor.shape), outputs)
            error.add_note(
                f"It was raised by `decode`, called on the model's outputs, of shape {shapes}. It must be made of "
                "`keras.ops`, not of NumPy."
            )
            raise


def _are_tensors(parts):
    return isinstance(parts, (tuple, list)) and all(hasattr(part, "shape") for part in parts)


def _as_float32(tensor):
    kind = str(getattr(tensor, "dtype", ""))
    return ops.cast(tensor, "float32") if "float" in kind else tensor


def _overlap(one, other):
    """Returns the intersection over the union of boxes `(..., 4)`, 0 for boxes without a size."""
    starts, ends = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    sides = ops.maximum(ends - starts, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / ops.maximum(_area(one) + _area(other) - shared, 1e-12)


def _area(boxes):
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def _class_likeness(scores, classes):
    """Returns the score of a class `(B,)`, or the cosine with probabilities `(B, classes)`, for all proposals."""
    if len(classes.shape) == 1:
        return ops.sum(scores * ops.one_hot(classes, scores.shape[-1], dtype="float32")[:, None], axis=-1)
    lengths = ops.sqrt(ops.sum(scores**2, axis=-1) * ops.sum(classes**2, axis=-1)[:, None] + 1e-24)
    return ops.sum(scores * classes[:, None], axis=-1) / lengths


_GRADIENTS = {"score": True, "similarity": False}  # of what: is the place of a proposal a constant?


class Box(_ForAll):
    """How well a detector's best proposal fits a box and its class: why it detects this object here, or does not.

    The likeness of a proposal is the product of three numbers, each 0 to 1: how well it overlaps with the box
    (intersection over union), the score of the class, and the objectness, if the detector tells one. Of all proposals,
    before any are suppressed, the one that is most like the box counts. What a box or a proposal has outside of the
    image does not count. `vis.RISE` of this target is D-RISE. The box need not be one that the detector found: of an
    object that it missed, the maps tell what there is for it.

    Source: Petsiuk et al. 2021, "Black-box Explanation of Object Detectors via Saliency Maps", the similarity metric.
    There the second number is a cosine of the probabilities of all classes: give these as `classes`. A cosine does not
    tell a faint detection from a clear one, and with one class it is always 1; so a class stands for its score.

    Gradients are those of the proposal that counts, a hard maximum: others, even if they mean the same object, get
    none.

    Args:
        boxes: `(4,)` for all samples, or `(N, 4)`.
        classes: A class for all samples, or one for each. Or probabilities `(1, classes)` or `(N, classes)`: then the
            cosine with those of the proposal counts, in place of the class's score.
        decode: Function of the model's outputs that returns boxes, class scores and, if there is one, the objectness of
            all proposals: see `vis.detectors`, which has those of RetinaNet and D-FINE. Keep one: each new one is
            compiled.
        format: What the four numbers are: Keras's names `"xyxy"`, `"yxyx"`, `"xywh"`, `"center_xywh"` or
            `"center_yxhw"` in pixels, or with `"rel_"` in front, in fractions of the image. Default `"rel_xyxy"`:
            left, top, right and bottom, from 0 to 1. It is that of `boxes` alone; `decode` always returns the default.
        image_size: Height and width in pixels of the image as the model sees it, for a format in pixels. Default
            `None`.
        gradient_of: What gradients follow. `"score"` (default): class score and objectness, with the overlap as a
            constant weight. `"similarity"`: the place too, so that the shares of `vis.IntegratedGradients` sum to the
            likeness. For a box that the detector itself found, that has no gradient: the overlap has its peak there.

    Raises:
        ValueError: A box is upside down or not on the image, its numbers do not fit the format, a class is negative;
            or, once the outputs are known, `decode` returns something else, or there are fewer classes.
        TypeError: `decode` is no function, or `classes` are no whole numbers.

    Examples:
        >>> import keras, vis
        >>> def decode(outputs):  # two proposals, the left and the right half, and what the model says of each
        ...     halves = keras.ops.convert_to_tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], "float32")
        ...     return keras.ops.tile(halves[None], (outputs.shape[0], 1, 1)), outputs[..., None]
        >>> model = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten()])
        >>> vis.Saliency(model)(np.array([[[[0.2], [0.9]]]]), Box([0.5, 0, 1, 1], 0, decode))[0, 0, :, 0].tolist()
        [0.0, 1.0]
    """

    def __init__(
        self,
        boxes: ArrayLike,
        classes: Indices | ArrayLike,
        decode: Callable,
        format: str = "rel_xyxy",
        image_size: tuple[int, int] | None = None,
        gradient_of: str = "score",
    ) -> None:
        if not callable(decode):
            raise TypeError(
                "`decode` must be a function of the model's outputs that returns boxes and class scores, such as "
                f"vis.detectors.d_fine. Received: {shown(decode)}."
            )
        self._boxes = _read_boxes(boxes, format, image_size)
        self._classes = _read_likeness(classes)
        self._detection = _Detection(decode, pick("gradient_of", gradient_of, _GRADIENTS))
        super().__init__(self._detection, self._boxes, self._classes)

    def check(self, outputs: Any) -> None:
        """Raises where `decode` does not fit the outputs, or there are not as many classes."""
        _, scores, _ = self._detection.decoded(outputs)
        count = scores.shape[-1]
        if self._classes.ndim == 1:
            check_within("classes", self._classes, 0, count, "the classes that `decode` returns")
        elif self._classes.shape[-1] != count:
            raise ValueError(
                f"`classes` must hold a probability for each of the {count} classes that `decode` returns. Received: "
                f"shape {self._classes.shape}."
            )

    def look(self, outputs: Any) -> None:
        """Raises where `decode` gives logits; warns of pixels, and where no proposal is at all like the box."""
        found = self._detection.decoded(outputs)
        boxes, scores = (ops.convert_to_numpy(part) for part in found[:2])
        low, high = float(scores.min()), float(scores.max())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise ValueError(
                f"`decode` must return class scores from 0 to 1, as they are multiplied with overlaps. Received: from "
                f"{low:.3g} to {high:.3g}. Of logits take `keras.ops.sigmoid` or `softmax` in it. Where the model "
                "itself ends in these, methods of gradients leave them out: give the explainer `logits=False`."
            )
        rows = [ops.convert_to_tensor(array[:1]) for array in (self._boxes, self._classes)]
        first = tree.map_structure(lambda tensor: tensor[:1], outputs)
        likeness = float(ops.convert_to_numpy(self._detection(first, *rows))[0])
        is_far = np.median(np.abs(boxes).max(axis=-1)) > 2
        if not likeness or (is_far and likeness < _HARDLY):
            backwards = float((boxes[..., 2:] <= boxes[..., :2]).any(axis=-1).mean())
            warnings.warn(
                f"Does `decode` return left, top, right and bottom in fractions of the image? Received: likeness "
                f"{likeness:.3g} of the first sample; coordinates up to {np.abs(boxes).max():.3g}, where most should "
                f"be 0 to 1; {backwards:.0%} of the boxes without a size. Where the likeness is 0, maps may be 0.",
                VisualizationWarning,
                stacklevel=2,
            )


def _read_boxes(boxes, format, image_size):
    """Returns boxes as corners `(N, 4)` in fractions of the image, what lies outside of it cut off."""
    whole = np.atleast_2d(corners("boxes", boxes, format, image_size))
    if whole.ndim != 2 or not len(whole):
        raise ValueError(f"`boxes` must be (4,), or (N, 4) for N samples: one box each. Received: {np.shape(boxes)}.")
    given, inside = np.atleast_2d(check_numeric("boxes", boxes)), np.clip(whole, 0, 1)
    for wrong, expected, mend in (
        (np.abs(whole).max(axis=1) > 2 if image_size is None else [], "in fractions of the image", _IN_PIXELS),
        (np.abs(given).max(axis=1) <= 1 if image_size is not None else [], "in pixels", _IN_FRACTIONS),
        (
            ~_have_size(whole),
            "with a width and a height above 0",
            "Are its ends before its starts, or x and y mixed up?",
        ),
        (~_have_size(inside), "on the image", "This one is outside of it: look at its format."),
    ):
        if np.any(wrong):
            numbers = ", ".join(f"{number:g}" for number in given[wrong][0])
            raise ValueError(f"`boxes` must be {expected}. Received: ({numbers}) in `format={format!r}`. {mend}")
    return inside


_IN_PIXELS = "For pixels give a format without 'rel_', and `image_size=(height, width)`."
_IN_FRACTIONS = "For fractions of the image give a format with 'rel_', and no `image_size`."


def _have_size(boxes):
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def _read_likeness(classes):
    """Returns classes `(N,)`, int32, or probabilities `(N, classes)`, float32."""
    if np.ndim(classes) < 2:
        several = np.atleast_1d(np.array(_read_classes("classes", classes), "int32"))
        if (several < 0).any():
            raise ValueError(f"`classes` must be at least 0. Received: {shown(classes)}.")
        return several
    array = check_numeric("classes", classes)
    if array.ndim != 2 or (array < 0).any() or not array.any(axis=1).all():
        raise ValueError(
            "`classes` must be class indices, or probabilities (N, classes) of at least 0 that are not all 0. "
            f"Received: shape {array.shape}{', with negative values' if (array < 0).any() else ''}."
        )
    return array


@dataclasses.dataclass(frozen=True)
class _Token:
    log_probability: bool

    def __call__(self, outputs, ids, positions):
        if not ops.is_tensor(outputs) or len(outputs.shape) != 3:
            shape = tuple(outputs.shape) if ops.is_tensor(outputs) else type(outputs).__name__
            raise ValueError(f"`NextToken` needs outputs (N, positions, vocabulary). Received: {shape}.")
        count, length, size = outputs.shape
        rows = ops.arange(count, dtype="int32")
        positions = ops.where(positions < 0, positions + length, positions)
        scores = ops.take(ops.reshape(outputs, (count * length, size)), rows * length + positions, axis=0)
        scores = ops.cast(scores, "float32")  # after most of the outputs, which may be many, was left out
        scores = ops.log_softmax(scores, axis=-1) if self.log_probability else scores
        return ops.take(ops.reshape(scores, (count * size,)), rows * size + ids)


class NextToken(_ForAll):
    """The score that a language model gives to a token at a position: why it goes on as it does.

    Args:
        ids: The token: an int for all samples, or one for each.
        position: Where its score stands: the position *before* the token's own, as models predict what comes
            next. An int or one for each sample; negative ones count from the end. Default -1: after the last
            position. Of padded texts give one for each, `padding_mask.sum(axis=-1) - 1`: padding is refused where the
            inputs tell it.
        log_probability: Whether its log probability is explained instead of its logit. Default `False`.

    Raises:
        TypeError: `ids` or `position` are no whole numbers.

    Examples:
        >>> import keras, vis
        >>> embedding, head = keras.layers.Embedding(9, 3, name="emb"), keras.layers.Dense(9)
        >>> model = keras.Sequential([keras.Input((4,)), embedding, head])
        >>> maps = vis.Saliency(model, input_layer="emb")(np.array([[1, 2, 3, 4]]), NextToken(7, position=2))
        >>> (abs(maps).sum(axis=-1) > 0).tolist()
        [[False, False, True, False]]
    """

    def __init__(self, ids: Indices, position: Indices = -1, log_probability: bool = False) -> None:
        given = [_read_classes("ids", ids), _read_classes("position", position)]
        self._ids, self._positions = (np.atleast_1d(np.array(one, "int32")) for one in given)
        super().__init__(_Token(check_flag("log_probability", log_probability)), self._ids, self._positions)

    def check(self, outputs: Any) -> None:
        """Raises where a token or a position is outside of the outputs."""
        if getattr(outputs, "ndim", 0) != 3:
            return  # the function says so
        _, length, size = np.shape(outputs)
        check_within("ids", self._ids, 0, size, "the vocabulary of the model's output")
        check_within("position", self._positions, -length, length, "the positions of the model's output")

    def check_padding(self, kept: np.ndarray) -> None:
        """Raises where a position is padding."""
        rows = np.arange(len(kept))
        padded = np.flatnonzero(~kept[rows, np.broadcast_to(self._positions, rows.shape)])
        if len(padded):
            raise ValueError(
                "`position` must be that of a token. Received: padding, for sample "
                f"{', '.join(map(str, padded[:5]))} (`position={shown(self._positions.tolist())}`). After the last "
                "token of texts that are padded on the right: `position=padding_mask.sum(axis=-1) - 1`."
            )


def check_within(name: str, values: np.ndarray, low: int, high: int, what: str) -> None:
    """Raises unless whole numbers lie in a range."""
    outside = values[(values < low) | (values >= high)]
    if len(outside):
        raise ValueError(
            f"`{name}` must be within {what}, from {low} to {high - 1}. Received: {', '.join(map(str, outside[:5]))}."
        )
