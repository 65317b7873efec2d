"""Parameterizations: what an image is made of while it is optimised.

The gradient moves the parameters, not the pixels, and which pictures are near one another depends on
them: steps on pixels make noise, steps on frequencies make shapes. All of them draw numbers without
bounds and bend them into the input's range by a sigmoid. Images have their channels last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from vis import backend
from vis.utils.formats import resized
from vis.utils.images import resize
from vis.utils.validation import check_count, check_flag, check_input_range, check_nonnegative, check_numeric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from vis.utils.types import Tensor

_EDGE = 1 / 512  # half a grey level: images are kept that far from the ends of the range, where a sigmoid is flat

# The square root of the covariance of red, green and blue in ImageNet's pictures, as published with Lucid
# (Olah et al. 2017, "Feature Visualization", section "Preconditioning"), over its longest column.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOURS = (_COLOURS / np.linalg.norm(_COLOURS, axis=0).max()).astype("float32")


class Parameterization:
    """Base class: override `initial`, `values` and `fitting`.

    Args:
        decorrelate: Whether the channels of an image with three are independent of one another in the
            parameters, as red, green and blue are not in the world's pictures. Of no effect on signals and
            on other numbers of channels.
    """

    def __init__(self, decorrelate: bool = False) -> None:
        self._decorrelate = check_flag("decorrelate", decorrelate)

    def initial(self, shape: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
        """Draws parameters to start from.

        Args:
            shape: Shape of the images, `(N, *spatial, channels)`.
            generator: NumPy's random generator.

        Returns:
            List of float32 arrays.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `initial(shape, generator)`.")

    def values(self, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Computes numbers without bounds from parameters: what `decode` bends into the range.

        Args:
            parameters: Tensors as `initial` gives them.
            shape: Shape of the images.

        Returns:
            Tensor `(N, *spatial, channels)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `values(parameters, shape)`.")

    def fitting(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the parameters whose `values` these are, or come closest.

        Args:
            values: Array `(N, *spatial, channels)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `fitting(values)`.")

    def decode(
        self, parameters: Sequence[Tensor], shape: tuple[int, ...], input_range: tuple[float, float] = (0, 1)
    ) -> Tensor:
        """Computes the images of parameters.

        Args:
            parameters: Tensors as `initial` or `encode` give them.
            shape: Shape of the images, `(N, *spatial, channels)`.
            input_range: `(low, high)`. Default (0, 1).

        Returns:
            Tensor of that shape with values between `low` and `high`.
        """
        low, high = input_range
        values = self.values(parameters, tuple(shape))
        if self._has_colours(shape):
            values = ops.matmul(values, _COLOURS.T)
        return low + _span(low, high) * ops.sigmoid(values)

    def encode(self, images: ArrayLike, input_range: tuple[float, float] = (0, 1)) -> list[np.ndarray]:
        """Returns the parameters of given images, as closely as they can be had.

        Args:
            images: Array `(N, *spatial, channels)` with values in `input_range`; what is nearer to its
                ends than half of one part in 256 is moved there.
            input_range: `(low, high)`. Default (0, 1).

        Returns:
            List of float32 arrays.
        """
        return self.fitting(self.unbounded(images, input_range))

    def unbounded(self, images: ArrayLike, input_range: tuple[float, float] = (0, 1)) -> np.ndarray:
        """Returns images as the numbers that `values` computes, float64."""
        low, high = check_input_range(input_range)
        part = np.clip((np.asarray(images, "float64") - low) / (high - low), _EDGE, 1 - _EDGE)
        values = np.log(part / (1 - part))
        return values @ np.linalg.inv(_COLOURS.T.astype("float64")) if self._has_colours(values.shape) else values

    def _has_colours(self, shape):
        return self._decorrelate and len(shape) > 3 and shape[-1] == 3  # three channels of a signal are none


def _span(low, high) -> float:
    """Returns `high - low` in single precision, so rounded that `low` and the span do not pass `high`."""
    low, high = np.float32(low), np.float32(high)
    span = high - low
    return float(span if low + span <= high else np.nextafter(span, np.float32(0)))


class Pixels(Parameterization):
    """Each value of the image is a parameter of its own.

    Simple, for any input. On deep networks the pictures drown in high frequencies.

    Args:
        std: Standard deviation of the noise to start from, before the sigmoid; at least 0. Default 0.01.
        decorrelate: Whether red, green and blue are made independent. Default `False`.

    Raises:
        ValueError: `std` is negative.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> pixels = Pixels()
        >>> parameters = pixels.encode(np.full((1, 4, 4, 1), 0.25))
        >>> round(float(pixels.decode(parameters, (1, 4, 4, 1))[0, 0, 0, 0]), 5)
        0.25
    """

    def __init__(self, std: float = 0.01, decorrelate: bool = False) -> None:
        super().__init__(decorrelate)
        self._std = check_nonnegative("std", std)

    def initial(self, shape: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
        """Returns normal noise."""
        return [_normal(shape, self._std, generator)]

    def values(self, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Returns the one parameter."""
        return parameters[0]

    def fitting(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the values."""
        return [np.asarray(values, "float32")]


class Fourier(Parameterization):
    """The amplitudes of the image's frequencies, low ones moving faster, as in the world's pictures.

    For any number of spatial axes: signals, images, volumes.

    Source: Olah et al. 2017, "Feature Visualization", section "Preconditioning and Parameterization".

    Args:
        decay: Power of the frequency that amplitudes are divided by, at least 0. Default 1.
        std: Standard deviation of the amplitudes to start from, at least 0. Default 0.01.
        decorrelate: Whether red, green and blue are made independent. Default `True`.

    Raises:
        ValueError: An argument is negative.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> fourier = Fourier()
        >>> import keras
        >>> image = np.random.default_rng(0).uniform(0.1, 0.9, (1, 5, 8, 3))
        >>> decoded = fourier.decode(fourier.encode(image), image.shape)
        >>> bool(np.abs(keras.ops.convert_to_numpy(decoded) - image).max() < 1e-5)
        True
    """

    def __init__(self, decay: float = 1.0, std: float = 0.01, decorrelate: bool = True) -> None:
        super().__init__(decorrelate)
        self._decay, self._std = check_nonnegative("decay", decay), check_nonnegative("std", std)

    def initial(self, shape: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
        """Returns normal noise: real and imaginary parts, `(2, N, channels, *frequencies)`."""
        sizes = _spatial(shape)
        return [_normal((2, shape[0], shape[-1], *_frequencies(sizes).shape), self._std, generator)]

    def values(self, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Returns the inverse transform of the scaled amplitudes."""
        sizes = _spatial(shape)
        real, imaginary = ops.unstack(ops.multiply(parameters[0], self._scale(sizes)), 2)
        return ops.moveaxis(inverse_transform(real, imaginary, sizes), 1, -1)

    def fitting(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the amplitudes, exactly."""
        sizes = _spatial(values.shape)
        spectrum = transform(values) / self._scale(sizes)
        return [np.stack([spectrum.real, spectrum.imag]).astype("float32")]

    def _scale(self, sizes):
        lowest = 1 / max(sizes)  # so that the mean, of frequency 0, moves as the lowest of the others
        scale = np.maximum(_frequencies(sizes), lowest) ** -self._decay
        return (scale * math.sqrt(math.prod(sizes)) / 4).astype("float32")


class LaplacianPyramid(Parameterization):
    """A sum of images of halved and halved again sizes.

    Coarse shapes have parameters of their own. For any number of spatial axes.

    Source: Burt & Adelson 1983, "The Laplacian Pyramid as a Compact Image Code"; for optimised images:
    Mordvintsev et al. 2015, "DeepDream".

    Args:
        levels: How many sizes, at least 1. Default 4.
        std: Standard deviation of the noise to start from, at least 0. Default 0.01.
        decorrelate: Whether red, green and blue are made independent. Default `True`.

    Raises:
        ValueError: An argument is out of range.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> [level.shape for level in LaplacianPyramid(3).encode(np.full((1, 8, 6, 3), 0.5))]
        [(1, 8, 6, 3), (1, 4, 3, 3), (1, 2, 2, 3)]
    """

    def __init__(self, levels: int = 4, std: float = 0.01, decorrelate: bool = True) -> None:
        super().__init__(decorrelate)
        self._levels, self._std = check_count("levels", levels, 1), check_nonnegative("std", std)

    def initial(self, shape: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
        """Returns normal noise of each size."""
        return [_normal((shape[0], *sizes, shape[-1]), self._std, generator) for sizes in self._sizes(shape)]

    def values(self, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Returns the sum of the levels, each resized linearly."""
        return sum(resized(level, _spatial(shape)) for level in parameters)

    def fitting(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the levels, exactly: the coarsest is the smoothed image, the others what is missing yet."""
        levels: list[np.ndarray] = []
        rest = np.asarray(values, "float32")
        for sizes in reversed(self._sizes(values.shape)):
            levels.insert(0, resize(rest, sizes))
            rest = rest - resize(levels[0], _spatial(values.shape))
        return levels

    def _sizes(self, shape):
        return [[-(-size // 2**k) for size in _spatial(shape)] for k in range(self._levels)]


class MagnitudeConstrained(Parameterization):
    """The phases of the image's frequencies, whose magnitudes are fixed ones.

    With the magnitudes of the world's pictures nothing can grow out of hand: no regularizer is needed,
    and large networks give pictures, too. Together with it goes the importance mask, see
    `vis.FeatureVisualization`.

    Source: Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude
    Constrained Optimization", section 3.

    Args:
        spectrum: Magnitudes `(channels, *frequencies)`, as `spectrum_of` computes them from images.
            Default `None`: falling with the frequency as in the world's pictures.
        decorrelate: Whether red, green and blue are made independent. Default `True`; of the spectrum
            the same must hold.

    Raises:
        ValueError: The spectrum does not fit the images (once their shape is known), or is negative.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> image = np.random.default_rng(0).uniform(0.1, 0.9, (1, 8, 8, 3))
        >>> maco = MagnitudeConstrained(spectrum_of(image))
        >>> decoded = maco.decode(maco.encode(image), image.shape)
        >>> bool(np.abs(keras.ops.convert_to_numpy(decoded) - image).max() < 1e-4)
        True
    """

    def __init__(self, spectrum: ArrayLike | None = None, decorrelate: bool = True) -> None:
        super().__init__(decorrelate)
        self._spectrum = None if spectrum is None else check_numeric("spectrum", spectrum)
        if self._spectrum is not None and (self._spectrum < 0).any():
            raise ValueError(
                f"`spectrum` must hold no negative numbers. Received: a minimum of {self._spectrum.min():g}."
            )

    def initial(self, shape: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
        """Returns phases drawn evenly from the circle, `(N, channels, *frequencies)`."""
        magnitude = self._magnitude(shape)
        return [generator.uniform(-np.pi, np.pi, (shape[0], *magnitude.shape)).astype("float32")]

    def values(self, parameters: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Returns the inverse transform of the magnitudes with these phases."""
        magnitude = np.ascontiguousarray(self._magnitude(shape))
        real = ops.multiply(magnitude, ops.cos(parameters[0]))
        imaginary = ops.multiply(magnitude, ops.sin(parameters[0]))
        return ops.moveaxis(inverse_transform(real, imaginary, _spatial(shape)), 1, -1)

    def fitting(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns the phases; with the images' own magnitudes they are the images."""
        return [np.angle(transform(values)).astype("float32")]

    def _magnitude(self, shape):
        wanted = (shape[-1], *_frequencies(_spatial(shape)).shape)
        if self._spectrum is None:
            return np.broadcast_to(_natural_magnitude(_spatial(shape)), wanted)
        if self._spectrum.shape != wanted:
            raise ValueError(
                f"`spectrum` must have the shape {wanted}, (channels, *frequencies), for images of shape {shape[1:]}. "
                f"Received: {self._spectrum.shape}. Compute it with `spectrum_of(images)` from images of that size."
            )
        return self._spectrum


def spectrum_of(images: ArrayLike, input_range: tuple[float, float] = (0, 1), decorrelate: bool = True) -> np.ndarray:
    """Returns the mean magnitudes of images, for `MagnitudeConstrained`.

    Args:
        images: Array `(N, *spatial, channels)` with values in `input_range`.
        input_range: `(low, high)`. Default (0, 1).
        decorrelate: As of `MagnitudeConstrained`. Default `True`.

    Returns:
        float32 `(channels, *frequencies)`.

    Raises:
        ValueError: There are no images, no spatial axes, or they are not numbers.

    Examples:
        >>> spectrum_of(np.full((2, 8, 8, 3), 0.5)).shape
        (3, 8, 5)
    """
    images = check_numeric("images", images)
    if images.ndim < 3 or not images.size:
        raise ValueError(f"`images` must have the shape (N, *spatial, channels). Received: shape {images.shape}.")
    low, high = check_input_range(input_range)
    if images.min() < np.float32(low) or images.max() > np.float32(high):
        raise ValueError(
            f"`images` must lie in `input_range`, {low:g} to {high:g}. Received: values from {images.min():g} to "
            f"{images.max():g}."
        )
    values = Parameterization(decorrelate).unbounded(images, input_range)
    return np.abs(transform(values)).mean(axis=0).astype("float32")


def transform(values: np.ndarray) -> np.ndarray:
    """Returns the Fourier transform over the spatial axes, `(N, channels, *frequencies)`."""
    values = np.moveaxis(values, -1, 1)
    return np.fft.rfftn(values, axes=tuple(range(2, values.ndim)))


def inverse_transform(real: Tensor, imaginary: Tensor, sizes: Sequence[int]) -> Tensor:
    """Computes the inverse of `transform`, the channels staying in the second place.

    Args:
        real: Tensor `(N, channels, *frequencies)`.
        imaginary: Tensor of the same shape.
        sizes: The spatial sizes.
    """
    return backend.inverse_fourier(ops.convert_to_tensor(real), ops.convert_to_tensor(imaginary), sizes)


def _frequencies(sizes) -> np.ndarray:
    """Returns the lengths of the frequency vectors, in cycles a pixel."""
    axes = [np.fft.fftfreq(size) for size in sizes[:-1]] + [np.fft.rfftfreq(sizes[-1])]
    return np.sqrt(sum(grid**2 for grid in np.meshgrid(*axes, indexing="ij")))


def _natural_magnitude(sizes) -> np.ndarray:
    """Returns magnitudes that fall as 1 / frequency, such that the values' standard deviation is 1."""
    frequencies = _frequencies(sizes)
    magnitude = np.divide(1, frequencies, out=np.zeros_like(frequencies), where=frequencies > 0)
    twice = np.full(frequencies.shape[-1], 2.0)  # those that stand for their mirror images, too
    twice[0] = 1
    if sizes[-1] % 2 == 0:
        twice[-1] = 1
    count = math.prod(sizes)
    deviation = math.sqrt((magnitude**2 * twice).sum()) / count  # Parseval's theorem
    return (magnitude / (deviation or 1)).astype("float32")


def _spatial(shape) -> list:
    sizes = list(shape[1:-1])
    if not sizes:
        raise ValueError(
            f"This parameterization needs at least one spatial axis. Received: images of shape {tuple(shape)}. Use "
            "`Pixels()`."
        )
    return sizes


def _normal(shape, std, generator):
    return (std * generator.standard_normal(shape)).astype("float32")
