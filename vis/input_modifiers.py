"""Input modifiers: what is done to an input before and after each optimisation step.

Those that are a `Transform` also run inside the compiled loop of `vis.FeatureVisualization`, where the
gradient goes through them: they are asked for the random numbers of each step beforehand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.utils.formats import along_axis, resized
from vis.utils.images import generator
from vis.utils.validation import check_count, check_nonnegative, check_number, is_integer, listify, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vis.utils.types import Tensor


class InputModifier:
    """Changes the input around each step of `Optimizer.minimize`.

    Override `pre`, `post` or both; what is not overridden returns its argument.

    Examples:
        >>> class Clip(InputModifier):
        ...     def post(self, inp):
        ...         return np.clip(inp, 0, 1)
        >>> Clip().post(np.array([-1.0, 2.0])).tolist()
        [0.0, 1.0]
    """

    def pre(self, inp: np.ndarray) -> np.ndarray:
        """Returns the input to evaluate.

        Args:
            inp: Batch of inputs, a float32 array. Do not change it in place.
        """
        return inp

    def post(self, inp: np.ndarray) -> np.ndarray:
        """Returns the input to go on with, after the update.

        Args:
            inp: Batch of inputs, a float32 array. Do not change it in place.
        """
        return inp


class Transform(InputModifier):
    """A random, differentiable change of images: override `apply`, and `draw` if it takes random numbers.

    What a network likes under many small changes is no accident of single pixels.

    Args:
        seed: Integer for repeatable changes in `Optimizer.minimize`. `vis.FeatureVisualization` draws with
            its own seed. Default `None`.

    Examples:
        >>> class Darken(Transform):
        ...     def draw(self, generator, shape):
        ...         return [generator.uniform(0.5, 1)]
        ...
        ...     def apply(self, images, numbers):
        ...         return images * numbers[0]
        >>> Darken().apply(np.ones((1, 2, 2, 1)), [0.5]).ravel().tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self, seed: int | None = None) -> None:
        self._generator = None if seed is None else generator(seed)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws the random numbers of one step.

        Args:
            generator: NumPy's random generator.
            shape: Shape of the images, `(N, *spatial, channels)`.

        Returns:
            List of numbers and arrays, of the same kinds and shapes at each step.
        """
        return []

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Changes images.

        Args:
            images: Tensor `(N, *spatial, channels)`.
            numbers: What `draw` returned, as tensors.

        Returns:
            Tensor `(N, *new spatial, channels)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `apply(images, numbers)`.")

    def spatial(self, sizes: Sequence[int]) -> list[int]:
        """Returns the spatial sizes that images of given ones have afterwards."""
        return list(sizes)

    def pre(self, inp: np.ndarray) -> np.ndarray:
        """Returns the input, changed; for `Optimizer.minimize`, which does not take it back."""
        return self.changed(inp, keras.config.image_data_format())

    def changed(self, inp: np.ndarray, form: str) -> np.ndarray:
        """Returns an input, changed.

        Args:
            inp: Batch of inputs, an array.
            form: Its data format.
        """
        inp = np.asarray(inp, "float32")
        first = inp.ndim > 2 and form == "channels_first"
        images = np.moveaxis(inp, 1, -1) if first else inp
        if self.spatial(images.shape[1:-1]) != list(images.shape[1:-1]):
            raise ValueError(
                f"{type(self).__name__} changes the size of the input, which `Optimizer.minimize` cannot follow. Use "
                "`vis.FeatureVisualization`, or a modifier that keeps the size."
            )
        numbers = tree.map_structure(ops.convert_to_tensor, self.draw(self._generator or generator(), images.shape))
        images = ops.convert_to_numpy(self.apply(ops.convert_to_tensor(images), numbers))
        return np.moveaxis(images, -1, 1) if first else images


class Jitter(Transform):
    """Rolls the input by a random offset before each step, which gives crisper images.

    What leaves on one side comes back on the other: no value is lost or made up.

    Source: Mordvintsev et al. 2015, "Inceptionism".

    Args:
        jitter: One number for all spatial axes, or one for each. Below 1 it is a fraction
            of the axis, else a number of pixels, rounded down. An axis is rolled by a whole
            number drawn evenly from [-jitter, jitter]. Default 0.05.
        seed: Integer for repeatable offsets. Default `None`.
        data_format: `"channels_first"` or `"channels_last"`. Default: that of the model which is optimised; Keras's
            setting where `pre` is called without one.

    Raises:
        ValueError: A value is negative or not finite; or, once an input is seen, the number
            of values is not that of its spatial axes.

    Examples:
        >>> x = np.arange(25.0).reshape(1, 5, 5, 1)
        >>> y = Jitter(2, seed=0).pre(x)
        >>> y.shape, sorted(y.ravel()) == sorted(x.ravel())
        ((1, 5, 5, 1), True)
    """

    def __init__(
        self, jitter: float | Sequence[float] = 0.05, seed: int | None = None, data_format: str | None = None
    ) -> None:
        values = np.array(listify(jitter))
        if values.dtype.kind not in "iuf" or values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                "`jitter` must be a number, or one for each spatial axis, none negative. "
                f"Received: jitter={shown(jitter)}. Below 1 it is a fraction of the axis, else pixels."
            )
        self.jitter = values.astype("float64")
        self._data_format = data_format
        super().__init__(seed)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws a whole number for each spatial axis."""
        return [np.int32(generator.integers(-most, most + 1)) for most in self.pixels(shape[1:-1])]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Rolls images."""
        for axis, offset in enumerate(numbers, start=1):
            images = ops.roll(images, offset, axis=axis)
        return images

    def sources(self, places: list[Tensor], numbers: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Returns where in the image the values at some places come from, see `Compose`."""
        return [
            ops.mod(place - ops.cast(offset, "float32"), size) for place, offset, size in zip(places, numbers, sizes)
        ]

    def changed(self, inp: np.ndarray, form: str) -> np.ndarray:
        """Returns an input, rolled.

        Args:
            inp: Batch of inputs, an array.
            form: Its data format, unless the modifier was made with one.
        """
        inp = np.asarray(inp)
        first = 2 if (self._data_format or form) == "channels_first" else 1
        sizes = inp.shape[first : first + inp.ndim - 2]
        draw = self._generator or generator()
        offsets = [int(draw.integers(-v, v + 1)) for v in self.pixels(sizes)]
        return np.roll(inp, offsets, axis=tuple(range(first, first + len(sizes))))

    def pixels(self, sizes: Sequence[int]) -> list[int]:
        """Returns the largest offset of each spatial axis, in pixels.

        Args:
            sizes: Lengths of the axes.
        """
        values = np.repeat(self.jitter, len(sizes)) if len(self.jitter) == 1 else self.jitter
        if len(values) != len(sizes):
            raise ValueError(
                f"`jitter` must be one number or one for each of the {len(sizes)} spatial axes. "
                f"Received: {len(values)} numbers, {shown(values.tolist())}."
            )
        return [int(v * size if v < 1 else v) for v, size in zip(values, sizes)]


class Scale(Transform):
    """Enlarges or shrinks what is in the image, about its centre; the image keeps its size.

    Beyond the edges the outermost values go on. For any number of spatial axes.

    Args:
        low: Smallest factor, above 0. Default 0.9.
        high: Largest factor, at least `low`. Default 1.1.
        seed: See `Transform`.

    Raises:
        ValueError: The factors are not in order, or not above 0.
        TypeError: They are no numbers.

    Examples:
        >>> import keras
        >>> image = np.array([1.0, 2.0, 3.0, 4.0], "float32").reshape(1, 4, 1)
        >>> keras.ops.convert_to_numpy(Scale().apply(image, [2.0])).ravel().tolist()
        [1.75, 2.25, 2.75, 3.25]
    """

    def __init__(self, low: float = 0.9, high: float = 1.1, seed: int | None = None) -> None:
        super().__init__(seed)
        self._range = _in_order("low", low, "high", high)
        if not self._range[0] > 0:
            raise ValueError(f"`low` must be above 0. Received: low={low}.")

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws a factor, as likely large as small."""
        low, high = np.log(self._range)
        return [np.float32(np.exp(generator.uniform(low, high)))]

    def sources(self, places: list[Tensor], numbers: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Returns where in the image the values at some places come from, see `Compose`."""
        centres = [(size - 1) / 2 for size in sizes]
        return [
            ops.clip((place - centre) / numbers[0] + centre, 0, 2 * centre) for place, centre in zip(places, centres)
        ]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Resizes images about their centre."""
        for axis, size in enumerate(images.shape[1:-1], start=1):
            (places,) = self.sources([ops.arange(size, dtype="float32")], numbers, [size])
            distances = ops.absolute(places[:, None] - ops.arange(size, dtype="float32"))
            images = along_axis(ops.maximum(1 - distances, 0), images, axis)
        return images


class Rotate(Transform):
    """Turns the image about its centre; of a volume, each slice of its last two spatial axes.

    Beyond the edges the outermost values go on.

    Args:
        degrees: Largest angle either way, at least 0. Default 10.
        seed: See `Transform`.

    Raises:
        ValueError: The angle is negative; or, once an image is seen, it has less than two spatial axes.
        TypeError: It is no number.

    Examples:
        >>> import keras
        >>> image = np.array([[1.0, 2.0], [3.0, 4.0]], "float32").reshape(1, 2, 2, 1)
        >>> np.round(keras.ops.convert_to_numpy(Rotate().apply(image, [np.pi / 2])).ravel(), 5).tolist()
        [3.0, 1.0, 4.0, 2.0]
    """

    def __init__(self, degrees: float = 10.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self._degrees = check_nonnegative("degrees", degrees)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws an angle in radians, clockwise."""
        if len(shape) < 4:
            raise ValueError(f"Rotate needs two spatial axes. Received: images of shape {tuple(shape)}. Leave it out.")
        return [np.float32(math.radians(generator.uniform(-self._degrees, self._degrees)))]

    def sources(self, places: list[Tensor], numbers: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Returns where in the image the values at some places come from, see `Compose`."""
        angle = ops.cast(numbers[0], "float32")
        middle_y, middle_x = ((size - 1) / 2 for size in sizes)
        y, x = places[0] - middle_y, places[1] - middle_x
        from_y = ops.cos(angle) * y - ops.sin(angle) * x + middle_y
        from_x = ops.sin(angle) * y + ops.cos(angle) * x + middle_x
        return [ops.clip(from_y, 0, 2 * middle_y), ops.clip(from_x, 0, 2 * middle_x)]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Turns images, linearly between the pixels."""
        slices = ops.reshape(images, (-1, *images.shape[-3:]))
        return ops.reshape(_moved(slices, [self], [numbers]), images.shape)


class Resize(Transform):
    """Resizes the image linearly, pixel centres on pixel centres. For any number of spatial axes.

    Args:
        sizes: The new length of each spatial axis, at least 1.
        seed: Not used; here so that all transforms take one.

    Raises:
        ValueError: A length is below 1; or, once an image is seen, there are more or fewer than it has spatial axes.
        TypeError: A length is no integer.

    Examples:
        >>> import keras
        >>> image = np.array([1.0, 2.0, 3.0, 4.0], "float32").reshape(1, 4, 1)
        >>> keras.ops.convert_to_numpy(Resize([2]).apply(image, [])).ravel().tolist()
        [1.5, 3.5]
    """

    def __init__(self, sizes: Sequence[int], seed: int | None = None) -> None:
        super().__init__(seed)
        self._sizes = [check_count("sizes", size, 1) for size in listify(sizes)]

    def spatial(self, sizes: Sequence[int]) -> list[int]:
        """Returns the new sizes."""
        if len(sizes) != len(self._sizes):
            raise ValueError(
                f"`sizes` must hold one number for each of the {len(sizes)} spatial axes. Received: {self._sizes}."
            )
        return list(self._sizes)

    def sources(self, places: list[Tensor], numbers: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Returns where in the image the values at some places come from, see `Compose`."""
        ratios = [given / size for given, size in zip(sizes, self._sizes)]
        return [ops.clip((place + 0.5) * ratio - 0.5, 0, size - 1) for place, ratio, size in zip(places, ratios, sizes)]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Resizes images."""
        return resized(images, self.spatial(images.shape[1:-1]))


def _moved(images, transforms, numbers):
    """Moves what is in images `(N, H, W, C)` by several transforms, reading between the pixels only once."""
    sizes = [list(images.shape[1:-1])]
    for transform in transforms:
        sizes.append(transform.spatial(sizes[-1]))
    height, width = sizes[-1]
    places = [ops.arange(height, dtype="float32")[:, None], ops.arange(width, dtype="float32")[None]]
    for transform, own, before in reversed(list(zip(transforms, numbers, sizes))):
        places = transform.sources(places, own, before)
    y, x = (ops.reshape(ops.broadcast_to(place, (height, width)), (-1,)) for place in places)
    return ops.reshape(_read_at(images, y, x), (-1, height, width, images.shape[-1]))


def _read_at(images, y, x):
    """Reads images `(N, H, W, C)` at places `(Q,)` between their pixels."""
    height, width, channels = images.shape[1:]
    corners = [
        (row * width + column, part_y * part_x)
        for row, part_y in _neighbours(y, height)
        for column, part_x in _neighbours(x, width)
    ]
    return backend.weighted_rows(ops.reshape(images, (-1, height * width, channels)), *zip(*corners))


def _neighbours(places, size):
    below = ops.floor(places)
    index = ops.cast(below, "int32")
    part = places - below
    return [(ops.minimum(index, size - 1), 1 - part), (ops.minimum(index + 1, size - 1), part)]


class Blur(Transform):
    """Blurs the image by a Gaussian. For any number of spatial axes.

    Args:
        sigma: Standard deviation in pixels, at least 0. Default 1.
        seed: Not used; here so that all transforms take one.

    Raises:
        ValueError: `sigma` is negative.
        TypeError: It is no number.

    Examples:
        >>> import keras
        >>> image = np.array([0.0, 0.0, 1.0, 0.0, 0.0], "float32").reshape(1, 5, 1)
        >>> blurred = keras.ops.convert_to_numpy(Blur(0.5).apply(image, [])).ravel()
        >>> [round(float(x), 2) for x in blurred]
        [0.0, 0.11, 0.79, 0.11, 0.0]
    """

    def __init__(self, sigma: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self._sigma = check_nonnegative("sigma", sigma)

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Blurs images; near the edges the weights within the image sum to 1."""
        for axis, size in enumerate(images.shape[1:-1], start=1):
            if self._sigma:
                distances = np.arange(size)[:, None] - np.arange(size)
                weights = np.exp(-0.5 * (distances / self._sigma) ** 2)
                images = along_axis((weights / weights.sum(axis=1, keepdims=True)).astype("float32"), images, axis)
        return images


class Flip(Transform):
    """Mirrors the image along a spatial axis, in half of the steps.

    Args:
        axis: Which spatial axis, from 0. Default -1: the last, which exchanges left and right.
        seed: See `Transform`.

    Raises:
        TypeError: `axis` is not an integer.
        ValueError: There is no such axis (once an image is seen).

    Examples:
        >>> import keras
        >>> image = np.array([1.0, 2.0, 3.0], "float32").reshape(1, 3, 1)
        >>> keras.ops.convert_to_numpy(Flip().apply(image, [1.0])).ravel().tolist()
        [3.0, 2.0, 1.0]
    """

    def __init__(self, axis: int = -1, seed: int | None = None) -> None:
        super().__init__(seed)
        if not is_integer(axis):
            raise TypeError(f"`axis` must be an integer. Received: axis={shown(axis)}.")
        self._axis = axis

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws 0 or 1."""
        return [np.float32(generator.integers(2))]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Mirrors images where the number is 1."""
        count = len(images.shape) - 2
        if not -count <= self._axis < count:
            raise ValueError(f"`axis` must be one of {count} spatial axes. Received: axis={self._axis}.")
        return ops.where(numbers[0] > 0.5, ops.flip(images, axis=1 + self._axis % count), images)


class Pad(Transform):
    """Adds a border, so that what comes after it has something beyond the edge to look at.

    Args:
        width: Pixels on each side of each spatial axis; below 1 a fraction of the axis. At least 0.
            Default 0.05.
        value: What the border is filled with. Default `None`: each image's mean, channel by channel.
        seed: Not used; here so that all transforms take one.

    Raises:
        ValueError: `width` is negative.
        TypeError: An argument is no number.

    Examples:
        >>> import keras
        >>> image = np.array([1.0, 3.0], "float32").reshape(1, 2, 1)
        >>> keras.ops.convert_to_numpy(Pad(1).apply(image, [])).ravel().tolist()
        [2.0, 1.0, 3.0, 2.0]
    """

    def __init__(self, width: float = 0.05, value: float | None = None, seed: int | None = None) -> None:
        super().__init__(seed)
        self._width = check_nonnegative("width", width)
        self._value = None if value is None else check_number("value", value)

    def spatial(self, sizes: Sequence[int]) -> list[int]:
        """Returns the sizes with the border."""
        return [size + 2 * _pixels(self._width, size) for size in sizes]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Adds the border."""
        axes = range(1, len(images.shape) - 1)
        fill = ops.mean(images, axis=tuple(axes), keepdims=True)
        fill = fill if self._value is None else ops.full_like(fill, self._value)
        for axis, width in zip(axes, [_pixels(self._width, size) for size in images.shape[1:-1]]):
            shape = [*images.shape[:axis], width, *images.shape[axis + 1 :]]
            border = ops.broadcast_to(fill, shape)
            images = ops.concatenate([border, images, border], axis=axis)
        return images


class Crop(Transform):
    """Cuts a random piece out of the image.

    Args:
        size: Length of the piece along each spatial axis in pixels, above 0; up to 1 a fraction of the axis.
            Default 0.9.
        seed: See `Transform`.

    Raises:
        ValueError: The piece is larger than the image (once it is seen), or has no pixel.
        TypeError: An argument is no number.

    Examples:
        >>> import keras
        >>> image = np.arange(4, dtype="float32").reshape(1, 4, 1)
        >>> keras.ops.convert_to_numpy(Crop(2).apply(image, [1])).ravel().tolist()
        [1.0, 2.0]
    """

    def __init__(self, size: float = 0.9, seed: int | None = None) -> None:
        super().__init__(seed)
        self._size = check_nonnegative("size", size)
        if not self._size:
            raise ValueError("`size` must be above 0. Received: 0.")

    def spatial(self, sizes: Sequence[int]) -> list[int]:
        """Returns the sizes of the piece."""
        pieces = [size if self._size == 1 else _pixels(self._size, size) for size in sizes]
        if any(not 0 < piece <= size for piece, size in zip(pieces, sizes)):
            raise ValueError(
                f"Crop must leave a piece of the image. Received: size={self._size:g} for images of {tuple(sizes)}, "
                f"which makes {tuple(pieces)}."
            )
        return pieces

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws where the piece begins along each spatial axis."""
        sizes = shape[1:-1]
        return [np.int32(generator.integers(size - piece + 1)) for size, piece in zip(sizes, self.spatial(sizes))]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Cuts the piece out."""
        for axis, (piece, start) in enumerate(zip(self.spatial(images.shape[1:-1]), numbers), start=1):
            images = ops.take(images, ops.arange(piece, dtype="int32") + start, axis=axis)
        return images


class Noise(Transform):
    """Adds normal noise.

    Args:
        std: Standard deviation, in the units of the image; at least 0. Default 0.05.
        seed: See `Transform`.

    Raises:
        ValueError: `std` is negative.
        TypeError: It is no number.

    Examples:
        >>> Noise(0.1, seed=0).pre(np.zeros((1, 2, 2, 1))).shape
        (1, 2, 2, 1)
    """

    def __init__(self, std: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self._std = check_nonnegative("std", std)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws the noise."""
        return [self._std * generator.standard_normal(shape, "float32")]

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Adds the noise."""
        return images + numbers[0]


class Compose(Transform):
    """Several transforms, one after the other.

    Of images with two spatial axes, neighbours that only move what is there (`Jitter`, `Scale`, `Rotate`, `Resize`) are
    done as one: each value is read once, between the pixels where all of them together lead to, so that the image is
    not blurred several times.

    Args:
        transforms: List of `Transform`.
        seed: See `Transform`.

    Raises:
        TypeError: Something else is in the list.

    Examples:
        >>> Compose([Pad(2), Crop(8)]).spatial([8, 8])
        [8, 8]
    """

    def __init__(self, transforms: Sequence[Transform] | Transform, seed: int | None = None) -> None:
        super().__init__(seed)
        transforms = listify(transforms)
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(
                    "`transforms` must hold transforms, such as `vis.input_modifiers.Jitter(8)`. Received: "
                    f"{shown(transform)}. A modifier with only `pre` and `post` is for `Optimizer.minimize`."
                )
        parts = [one._transforms if type(one) is Compose else [one] for one in transforms]
        self._transforms: list[Transform] = [transform for part in parts for transform in part]

    def spatial(self, sizes: Sequence[int]) -> list[int]:
        """Returns the sizes after the last transform."""
        for transform in self._transforms:
            sizes = transform.spatial(sizes)
        return list(sizes)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list:
        """Draws the numbers of each transform in turn."""
        drawn = []
        for transform in self._transforms:
            drawn.append(transform.draw(generator, shape))
            shape = (shape[0], *transform.spatial(shape[1:-1]), shape[-1])
        return drawn

    def apply(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        """Applies the transforms in turn."""
        for transforms, own in self._groups(numbers, len(images.shape) == 4):
            if len(transforms) > 1 and not all(type(one) is Jitter for one in transforms):
                images = _moved(images, transforms, own)
            else:
                for transform, one in zip(transforms, own):
                    images = transform.apply(images, one)
        return images

    def _groups(self, numbers, has_planes):
        """Returns pairs of lists, of transforms that are done as one and their numbers."""
        found = []
        for transform, own in zip(self._transforms, numbers):
            if found and has_planes and all(type(one) in _MOVES for one in (transform, found[-1][0][-1])):
                found[-1][0].append(transform)
                found[-1][1].append(own)
            else:
                found.append(([transform], [own]))
        return found


_MOVES = (Jitter, Scale, Rotate, Resize)  # not of the user's own, which may do something else


def standard_transforms(spatial_axes: int = 2) -> Compose:
    """Returns what images are put through by default: a border, jitter, scale, rotation, jitter.

    Source: Olah et al. 2017, "Feature Visualization", section "Transformation Robustness"; the amounts
    are those of Lucid at 224 pixels, as fractions of the image.

    Args:
        spatial_axes: 1 for signals, 2 for images, 3 for volumes. Default 2. Signals are not rotated.

    Examples:
        >>> standard_transforms().spatial([224, 224])
        [246, 246]
    """
    rotation = [Rotate(5.0)] if check_count("spatial_axes", spatial_axes, 1) > 1 else []
    return Compose([Pad(0.05), Jitter(0.035), Scale(0.9, 1.1), *rotation, Jitter(0.018)])


def _pixels(length, size):
    return int(length * size if length < 1 else length)


def _in_order(low_name, low, high_name, high):
    low, high = check_nonnegative(low_name, low), check_nonnegative(high_name, high)
    if low > high:
        raise ValueError(f"`{low_name}` must not be above `{high_name}`. Received: {low} and {high}.")
    return low, high
