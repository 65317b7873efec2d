"""Regularizers: losses on the input itself, which keep it bounded and smooth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keras import ops

from vis.losses import Loss
from vis.utils.formats import channels_last, input_data_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vis.utils.types import Tensor


def normalize(input_tensor: Tensor, output_tensor: Tensor) -> Tensor:
    """Divides by the number of values in one sample (channels times spatial size).

    It makes the weight of a regularizer mean about the same for every image size.

    Args:
        input_tensor: Batch of inputs, symbolic or not. Unknown sizes are read at run time.
        output_tensor: What to divide.

    Returns:
        Tensor of `output_tensor`'s shape.

    Examples:
        >>> from keras import ops
        >>> float(normalize(ops.ones((1, 2, 5)), ops.convert_to_tensor(20.0)))
        2.0
    """
    shape = tuple(input_tensor.shape)[1:]
    if None not in shape:
        return output_tensor / math.prod(shape)
    return output_tensor / ops.sum(ops.ones_like(input_tensor[0]))  # counts, also symbolically


class _InputLoss(Loss):
    """A loss of the model's input alone."""

    value: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]

    def __init__(self, img_input: Tensor | None) -> None:
        super().__init__()
        self.img = img_input

    def sources(self) -> list:
        """Returns what `value` must see: the input tensor, `None` for the model's own."""
        return [self.img]

    def build_loss(self) -> Tensor:
        """Returns the loss as a scalar expression: the sum of `value` over the batch."""
        return ops.sum(self.value([channels_last(self.img, input_data_format(self.img))], []))


class TotalVariation(_InputLoss):
    """Total variation: how much neighbouring pixels differ.

    It favours coherent, blob-like images. Works on any number of spatial dimensions; it is
    zero where there is none.

    Each pair of neighbours counts once, at the borders too. keras-vis left out the differences
    that start in the last row or column, and so never saw the last corner pixel. Where nothing
    changes along these two, and for signals, the value is that of keras-vis.

    Source: Mahendran & Vedaldi 2016, "Visualizing deep convolutional neural networks using
    natural pre-images", section 3.2.2.

    Args:
        img_input: Symbolic input of the model. `None`: the input of the model at hand.
        beta: Exponent of the gradient's length. Default 2. Smaller values give sharper but
            spikier images; 1.5 to 2 is recommended.

    Raises:
        ValueError: `beta` is not positive.

    Examples:
        >>> import keras
        >>> TotalVariation(keras.Input((8, 8, 3))).build_loss().shape
        ()
    """

    def __init__(self, img_input: Tensor | None, beta: float = 2.0) -> None:
        super().__init__(img_input)
        if not beta > 0:
            raise ValueError(f"`beta` must be positive. Received: beta={beta}. Values from 1.5 to 2 are usual.")
        self.name = "TV Loss"
        self.beta = beta

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the normalised total variation of each sample, `(N,)`."""
        image = tensors[0]
        squares = _squared_differences(image)
        if squares is None:
            return ops.sum(image, axis=-1) * 0.0
        if self.beta < 2:  # the power's slope is infinite at 0: keep flat regions out of it
            flat = squares <= 0
            lengths = ops.where(flat, 0.0, ops.power(ops.where(flat, 1.0, squares), self.beta / 2))
        else:
            lengths = ops.power(squares, self.beta / 2)
        return normalize(image, ops.sum(lengths, axis=tuple(range(1, len(image.shape)))))


def _squared_differences(image):
    """Sums the squared forward differences over the spatial axes; past the end of an axis they are 0."""
    rank, total = len(image.shape), None
    for axis in range(1, rank - 1):
        ahead, here = ((slice(None),) * axis + (cut,) for cut in (slice(1, None), slice(None, -1)))
        square = ops.pad(ops.square(image[ahead] - image[here]), [(0, int(i == axis)) for i in range(rank)])
        total = square if total is None else total + square
    return total


class LPNorm(_InputLoss):
    """The L-p norm of the input: keeps pixel values bounded.

    Source: Mahendran & Vedaldi 2016, "Visualizing deep convolutional neural networks using
    natural pre-images", section 3.2.1.

    Args:
        img_input: Symbolic input of the model. `None`: the input of the model at hand.
        p: The norm's order, at least 1. Default 6. `float("inf")` takes the largest
            absolute value.

    Raises:
        ValueError: `p` is below 1.

    Examples:
        >>> import keras
        >>> str(LPNorm(keras.Input((8, 8, 3)), p=2))
        'L-2 Norm Loss'
    """

    def __init__(self, img_input: Tensor | None, p: float = 6.0) -> None:
        super().__init__(img_input)
        if not p >= 1:
            raise ValueError(f"`p` must be in [1, inf]. Received: p={p}. The usual choice is 6.")
        self.name = f"L-{p} Norm Loss"
        self.p = p

    def value(self, tensors: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensor:
        """Returns the normalised norm of each sample, `(N,)`."""
        image = tensors[0]
        axes = tuple(range(1, len(image.shape)))
        sizes = ops.absolute(image)
        if math.isinf(self.p):
            return normalize(image, ops.max(sizes, axis=axes))
        # |x|^p overflows easily: compute on x / max|x|, which by homogeneity changes
        # neither the value nor the gradient.
        scale = ops.stop_gradient(ops.max(sizes, axis=axes, keepdims=True))
        scale = ops.where(scale > 0, scale, 1.0)
        total = ops.sum(ops.power(sizes / scale, self.p), axis=axes)
        blank = total <= 0
        norm = ops.where(blank, 0.0, ops.power(ops.where(blank, 1.0, total), 1.0 / self.p))
        return normalize(image, norm * ops.reshape(scale, (-1,)))
