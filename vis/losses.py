"""Losses: what an input is judged by. Lower is better, as for every energy.

A loss names what it must see of the network (`sources`) and computes from that one
number a sample (`value`). It knows nothing of backends, gradients or loops. A loss
written for keras-vis, which only overrides `build_loss` with a symbolic expression,
works as it is.

Losses combine with `+`, `-` and `*` and print as a formula. All of them are minimised, so what is
to be raised is negative already: `ActivationMaximization(a, 1) + 2 * Diversity(a)` raises a channel
and lowers the likeness of the images.
"""

from __future__ import annotations

import copy
import numbers
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from vis.utils.formats import channel_axis, channels_last, data_format
from vis.utils.outputs import layer_output
from vis.utils.validation import check_index, check_nonnegative, check_numeric, is_integer, listify, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from vis.utils.types import Index, Indices, LayerName, Shape, Tensor

_EPSILON = 1e-6
_LEAST_COSINE = 0.1  # as in Lucid: so that a start at a right angle has a gradient


class Loss:
    """A quantity to minimise over the input of a network.

    Subclass it in one of two ways. Either override `build_loss`, as in keras-vis, with an
    expression of `keras.ops` on `layer.output` and `model.inputs[0]`. Or override `value`, and `sources` if
    more is to be seen than one `layer`, which also works for nested and subclassed models.

    Attributes:
        name: Shown by callbacks and in error messages.

    Examples:
        >>> import keras
        >>> class Energy(Loss):
        ...     def __init__(self, layer):
        ...         super().__init__()
        ...         self.name, self.layer = "energy", layer
        ...
        ...     def build_loss(self):
        ...         return keras.ops.sum(keras.ops.square(self.layer.output))
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> str(Energy(model.layers[-1]))
        'energy'
    """

    name = "Unnamed Loss"
    image: np.ndarray | None = None  # where set, the sources on this image are put after `arguments`

    def __init__(self) -> None:
        self.name = "Unnamed Loss"

    def __str__(self) -> str:
        return self.name

    def arguments(self, shapes: Sequence[Shape]) -> list:
        """Returns what `value` takes besides tensors, as arrays that may change between calls.

        Args:
            shapes: One shape for each source, channels last.
        """
        return []

    def sources(self) -> list:
        """Returns what `value` must see, layers; `None` stands for the input. By default the loss's own `layer`."""
        if not hasattr(self, "layer"):
            raise NotImplementedError(f"{type(self).__name__} must override `sources`, or have an attribute `layer`.")
        return [self.layer]

    def build_loss(self) -> Tensor:
        """Returns the loss as a scalar symbolic expression (a `KerasTensor`)."""
        raise NotImplementedError(f"{type(self).__name__} must override `build_loss`, or `sources` and `value`.")

    @property
    def terms(self) -> list[tuple[Loss, float]]:
        """The losses that this one is a sum of, as pairs `(Loss, weight)`."""
        return [(self, 1.0)]

    def __add__(self, other: Loss | int) -> Loss:
        if isinstance(other, numbers.Number) and other == 0:  # where `sum` begins
            return self
        return Sum([*self.terms, *other.terms]) if isinstance(other, Loss) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Loss) -> Loss:
        return self + -1 * other if isinstance(other, Loss) else NotImplemented

    def __neg__(self) -> Loss:
        return -1 * self

    def __mul__(self, factor: float) -> Loss:
        if not isinstance(factor, numbers.Real):
            return NotImplemented
        if not np.isfinite(factor):
            raise ValueError(f"A loss must be multiplied by a finite number. Received: {factor}.")
        return Sum([(loss, weight * float(factor)) for loss, weight in self.terms])

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Loss:
        return self * (1 / divisor) if isinstance(divisor, numbers.Real) and divisor else NotImplemented


class Sum(Loss):
    """Weighted losses, as `+`, `-` and `*` make them.

    Args:
        terms: Pairs `(Loss, weight)`.

    Examples:
        >>> str(ActivationMaximization("conv", 1) + 0.5 * DeepDream("mixed"))
        'ActivationMax Loss + 0.5 * DeepDream(mixed)'
    """

    def __init__(self, terms: Iterable[tuple[Loss, float]]) -> None:
        self._terms = list(terms)
        first, *rest = self._terms
        self.name = _term(*first) + "".join(
            f" {'-' if weight < 0 else '+'} {_term(loss, abs(weight))}" for loss, weight in rest
        )

    @property
    def terms(self) -> list[tuple[Loss, float]]:
        """The pairs `(Loss, weight)`."""
        return list(self._terms)


def _term(loss, weight):
    return loss.name if weight == 1 else f"{weight:g} * {loss.name}"


class ActivationMaximization(Loss):
    """The negative mean activation of some filters of a layer.

    Minimising it finds inputs that excite those filters. Its limit: where the layer ends
    in a softmax, a class can also be raised by lowering the others, so swap softmax for
    linear first (`vis.utils.utils.apply_modifications`).

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", equation 1.

    Args:
        layer: A Keras layer; or a name, path or index where a model is given to resolve it.
        filter_indices: Index, or sequence of indices, of channels (of units for a dense
            layer). `None` means all of them.

    Raises:
        TypeError: An index is not an integer.
        ValueError: `filter_indices` is empty; or, once the layer's output is known, an
            index is out of range.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> ActivationMaximization(model.layers[-1], 1).build_loss().shape
        ()
    """

    def __init__(self, layer: LayerName, filter_indices: Indices | None) -> None:
        super().__init__()
        self.name = "ActivationMax Loss"
        self.layer = _given(layer)
        self.filter_indices, self._each = _read_indices(filter_indices), False

    def arguments(self, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Returns the indices as tensor arguments, checked against the layer's output shape.

        Args:
            shapes: One shape for each source, channels last.
        """
        size = shapes[0][-1]
        if size is None:
            raise ValueError(f"The number of channels of {_words(self.layer)} is unknown: build the model first.")
        if self.filter_indices is None:
            return [np.arange(size, dtype="int32")]
        what = f"{_words(self.layer)} with output shape {shapes[0]}"
        indices = np.array([check_index("filter_indices", i, size, what) for i in self.filter_indices], "int32")
        return [indices[:, None] if self._each else indices]

    def each(self, filter_indices: Indices) -> ActivationMaximization:
        """Returns a loss that gives each sample of a batch a filter of its own.

        Args:
            filter_indices: One index for each sample.
        """
        loss = copy.copy(self)
        loss.filter_indices, loss._each = _read_indices(filter_indices), True
        return loss

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the loss of each sample.

        Args:
            tensors: The layer's output, `(N, ..., channels)`.
            arguments: The indices, `(K,)`, or `(N, 1)` for one of each sample's own.

        Returns:
            Tensor `(N,)`: minus the sum over the filters of their mean over the positions.
        """
        (indices,) = arguments
        if len(indices.shape) == 2:
            _check_number("filter_indices", indices, tensors[0])
            means = _means(tensors[0])
            return -ops.sum(ops.where(ops.arange(means.shape[-1]) == indices, means, 0.0), axis=-1)
        return -ops.sum(_means(ops.take(tensors[0], indices, axis=-1)), axis=-1)

    def build_loss(self) -> Tensor:
        """Returns the loss as a scalar expression: the mean of `value` over the batch."""
        output = layer_output(self.layer)
        if channel_axis(self.layer, len(output.shape)) == 1:
            output = channels_last(output, data_format(self.layer))
        return ops.mean(self.value([output], self.arguments([tuple(output.shape)])))


class _LayerLoss(Loss):
    """A loss of what one layer puts out."""

    def __init__(self, layer: LayerName, *details: object) -> None:
        super().__init__()
        self.layer = _given(layer)
        words = [str(getattr(layer, "name", layer)), *(str(detail) for detail in details)]
        self.name = f"{type(self).__name__}({', '.join(words)})"


class Neuron(_LayerLoss):
    """The negative activation of one channel at one position.

    Source: Erhan et al. 2009, "Visualizing Higher-Layer Features of a Deep Network", section 3.

    Args:
        layer: Layer, or its name, path or index.
        channel: Index of the channel.
        position: One index for each spatial axis. Default `None`: the centre. For a layer without
            spatial axes there is none.

    Raises:
        TypeError: An index is not an integer.
        ValueError: The channel or the position is outside the map (once its shape is known).

    Examples:
        >>> from keras import ops
        >>> activations = ops.reshape(ops.arange(18.0), (1, 3, 3, 2))
        >>> loss = Neuron("conv", channel=1)
        >>> float(loss.value([activations], loss.arguments([(1, 3, 3, 2)]))[0])
        -9.0
    """

    def __init__(self, layer: LayerName, channel: Index, position: Indices | None = None) -> None:
        if not is_integer(channel):
            raise TypeError(f"`channel` must be an integer. Received: {shown(channel)}.")
        self.channel = channel
        self.position = None if position is None else _read_position(position)
        super().__init__(layer, channel, *([] if self.position is None else [tuple(self.position)]))

    def arguments(self, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Returns the place of the neuron in each sample's activations, laid out in a row."""
        (shape,) = shapes
        spatial, size = shape[1:-1], shape[-1]
        channel = check_index("channel", self.channel, size, f"{_words(self.layer)} with output shape {shape}")
        place = self.position if self.position is not None else [None if n is None else n // 2 for n in spatial]
        if len(place) != len(spatial):
            raise ValueError(
                f"`position` must have one index for each of {len(spatial)} spatial axes of {_words(self.layer)}, with "
                f"output shape {shape}. Received: {shown(tuple(place))}."
            )
        if None in spatial:
            raise ValueError(
                f"The size of {_words(self.layer)} is unknown, so a position in it is too. Received: output shape "
                f"{shape}. Give the model an input of fixed size."
            )
        place = [
            check_index("position", i, n, f"axis {axis} of {_words(self.layer)}, with output shape {shape}")
            for axis, (i, n) in enumerate(zip(place, spatial))
        ]
        return [np.array([np.ravel_multi_index([*place, channel], (*spatial, size))], "int32")]

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns minus the activation of each sample, `(N,)`."""
        flat = ops.reshape(tensors[0], (ops.shape(tensors[0])[0], -1))
        return -ops.take(flat, arguments[0], axis=-1)[:, 0]


def _read_position(position):
    position = listify(position)
    if not all(is_integer(i) for i in position):
        raise TypeError(f"`position` must hold one integer for each spatial axis. Received: {shown(position)}.")
    return position


class Direction(_LayerLoss):
    """The negative activation along a direction in a layer's space of channels.

    The mean over the positions of the dot product with the vector, times a power of the cosine of the
    angle between the two, which keeps the image from just growing in length.

    Source: Olah et al. 2018, "The Building Blocks of Interpretability"; Carter et al. 2019, "Activation
    Atlas", section on the objective.

    Args:
        layer: Layer, or its name, path or index.
        vector: `(channels,)`, or `(N, channels)` for one of each image's own. Not all zeros.
        cosine_power: Power of the cosine, at least 0, taken as 0.1 at least. Default 0: the dot product
            alone.

    Raises:
        ValueError: The vector has the wrong length or is zero.

    Examples:
        >>> str(Direction("conv", [1.0, 0.0, -1.0]))
        'Direction(conv)'
    """

    def __init__(self, layer: LayerName, vector: ArrayLike, cosine_power: float = 0.0) -> None:
        super().__init__(layer)
        self.vector = check_numeric("vector", vector).astype("float32")
        self.cosine_power = check_nonnegative("cosine_power", cosine_power)
        if self.vector.ndim not in (1, 2) or not self.vector.any(axis=-1).all():
            raise ValueError(
                "`vector` must have the shape (channels,) or (N, channels) and not be zero. Received: shape "
                f"{self.vector.shape}{'' if self.vector.any() else ', all zeros'}."
            )

    def arguments(self, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Returns the vectors, `(1 or N, channels)`, checked against the layer's channels."""
        if self.vector.shape[-1] != shapes[0][-1]:
            raise ValueError(
                f"`vector` must have {shapes[0][-1]} numbers, one for each channel of {_words(self.layer)}. "
                f"Received: {self.vector.shape[-1]}."
            )
        return [np.atleast_2d(self.vector)]

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the loss of each sample, `(N,)`."""
        rows = _in_rows(tensors[0])
        _check_number("vector", arguments[0], rows)
        return -ops.mean(_dot_times_cosine(rows, arguments[0][:, None], self.cosine_power), axis=-1)


class DeepDream(_LayerLoss):
    """The negative mean square of a layer's activations: whatever is there already grows.

    Source: Mordvintsev et al. 2015, "Inceptionism".

    Args:
        layer: Layer, or its name, path or index.

    Examples:
        >>> from keras import ops
        >>> float(DeepDream("conv").value([2 * ops.ones((1, 4, 4, 3))], [])[0])
        -4.0
    """

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns minus the mean square of each sample, `(N,)`."""
        return -ops.mean(ops.square(tensors[0]), axis=tuple(range(1, len(tensors[0].shape))))


class Diversity(_LayerLoss):
    """How alike the images of a batch are in style: add it, so that they show different sides.

    The mean cosine between the Gram matrix of an image's channels and those of the others; from 0 to
    1 after a ReLU. 0 for a single image.

    Source: Olah et al. 2017, "Feature Visualization", section "Diversity".

    Args:
        layer: Layer, or its name, path or index.

    Examples:
        >>> from keras import ops
        >>> round(float(Diversity("conv").value([ops.ones((2, 4, 4, 3))], [])[0]), 3)
        1.0
    """

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the mean likeness of each sample to the others, `(N,)`."""
        rows = _in_rows(tensors[0])
        grams = ops.einsum("npc,npd->ncd", rows, rows)
        grams = ops.reshape(grams, (ops.shape(grams)[0], -1))
        grams = grams / (_norm(grams) + _EPSILON)
        likeness = ops.matmul(grams, ops.transpose(grams))
        others = ops.maximum(ops.cast(ops.shape(grams)[0], "float32") - 1.0, 1.0)
        return (ops.sum(likeness, axis=-1) - ops.sum(ops.square(grams), axis=-1)) / others


class Interpolation(_LayerLoss):
    """The negative activation of two channels, from the first to the second over the batch.

    Image n of N gets the weights 1 - n / (N - 1) and n / (N - 1). A single image gets half of each.

    Source: Olah et al. 2017, "Feature Visualization", section "Interaction between Neurons".

    Args:
        layer: Layer, or its name, path or index.
        first: Index of the first image's channel.
        second: Index of the last image's channel.

    Raises:
        ValueError: An index is out of range.
        TypeError: An index is not an integer.

    Examples:
        >>> str(Interpolation("predictions", 281, 967))
        'Interpolation(predictions, 281, 967)'
    """

    def __init__(self, layer: LayerName, first: Index, second: Index) -> None:
        for name, index in (("first", first), ("second", second)):
            if not is_integer(index):
                raise TypeError(f"`{name}` must be an integer. Received: {shown(index)}.")
        super().__init__(layer, first, second)
        self.first, self.second = first, second

    def arguments(self, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Returns the two indices, checked."""
        what = f"{_words(self.layer)} with output shape {shapes[0]}"
        pair = (("first", self.first), ("second", self.second))
        return [np.array([check_index(name, index, shapes[0][-1], what) for name, index in pair], "int32")]

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the loss of each sample, `(N,)`."""
        pair = _means(ops.take(tensors[0], arguments[0], axis=-1))
        count = ops.cast(ops.shape(pair)[0], "float32")
        place = ops.cumsum(ops.ones_like(pair[:, 0])) - 1
        place = ops.where(count > 1, place / ops.maximum(count - 1, 1.0), 0.5)
        return -((1 - place) * pair[:, 0] + place * pair[:, 1])


class FeatureInversion(_LayerLoss):
    """How far a layer's activations are from those of a given image.

    The squared distance over the squared length of the target: 0 for the image itself, about 1 far away.
    What differs from the image at the end is what the layer does not keep.

    Source: Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them",
    equations 1 and 2.

    Args:
        layer: Layer, or its name, path or index.
        image: The image, prepared as the model takes it, with or without the batch axis.

    Examples:
        >>> str(FeatureInversion("conv", np.zeros((8, 8, 3))))
        'FeatureInversion(conv)'
    """

    def __init__(self, layer: LayerName, image: ArrayLike) -> None:
        super().__init__(layer)
        self.image = check_numeric("image", image)

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the loss of each sample, `(N,)`."""
        target = arguments[-1]
        _check_number("image", target, tensors[0])
        axes = tuple(range(1, len(target.shape)))
        distance = ops.sum(ops.square(tensors[0] - target), axis=axes)
        return distance / (ops.sum(ops.square(target), axis=axes) + _EPSILON)


class Caricature(_LayerLoss):
    """The negative likeness to a given image, grown: what the layer sees in it is exaggerated.

    The dot product with the image's own activations times a power of the cosine, over the squared
    length of those activations: -1 for the image itself.

    Source: Olah et al. 2018, "The Building Blocks of Interpretability"; Lucid's `dot_compare`.

    Args:
        layer: Layer, or its name, path or index.
        image: The image, prepared as the model takes it, with or without the batch axis.
        cosine_power: Power of the cosine, at least 0, taken as 0.1 at least. Default 1.

    Examples:
        >>> str(Caricature("conv", np.zeros((8, 8, 3))))
        'Caricature(conv)'
    """

    def __init__(self, layer: LayerName, image: ArrayLike, cosine_power: float = 1.0) -> None:
        super().__init__(layer)
        self.image = check_numeric("image", image)
        self.cosine_power = check_nonnegative("cosine_power", cosine_power)

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the loss of each sample, `(N,)`."""
        _check_number("image", arguments[-1], tensors[0])
        flat, target = (ops.reshape(t, (ops.shape(t)[0], -1)) for t in (tensors[0], arguments[-1]))
        length = ops.sum(ops.square(target), axis=-1) + _EPSILON
        return -_dot_times_cosine(flat, target, self.cosine_power) / length


def _check_number(name, given, activations):
    """Raises unless there is one for all samples, or one for each."""
    if given.shape[0] not in (1, activations.shape[0]):
        raise ValueError(
            f"`{name}` must be one for all images, or one for each of {activations.shape[0]}. Received: "
            f"{given.shape[0]}."
        )


def _means(activations):
    """Returns the means over the positions, `(N, channels)`."""
    positions = tuple(range(1, len(activations.shape) - 1))
    return ops.mean(activations, axis=positions) if positions else activations


def _in_rows(activations):
    """Returns `(N, positions, channels)`."""
    shape = ops.shape(activations)
    return ops.reshape(activations, (shape[0], -1, shape[-1]))


def _norm(vectors):
    return ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + _EPSILON**2)


def _dot_times_cosine(vectors, others, power):
    dot = ops.sum(vectors * others, axis=-1)
    if not power:
        return dot
    cosine = dot / (_norm(vectors) * _norm(others))[..., 0]
    return dot * ops.maximum(cosine, _LEAST_COSINE) ** power


def _given(layer):
    if layer is None:
        raise TypeError("`layer` must be a layer, or its name, path or index. Received: None.")
    return layer


def _read_indices(filter_indices):
    if filter_indices is None:
        return None
    indices = [i for i in listify(filter_indices)]
    if indices == [None]:
        return None
    if not indices:
        raise ValueError("`filter_indices` must not be empty. Received: []. Use None for all filters.")
    if not all(is_integer(i) for i in indices):
        raise TypeError(
            "`filter_indices` must be an integer, a sequence of integers, or None for all filters. "
            f"Received: {shown(filter_indices)}."
        )
    return indices


def _words(layer):
    return f"layer {shown(getattr(layer, 'name', layer))}"
