"""NumPy work on images: scaling, stitching, shapes and random seeds."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.utils.validation import check_count, check_input_range, check_numeric, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

EPSILON = 1e-7

# Unseeded draws follow NumPy's global state without moving it: a script that seeds NumPy (or
# Keras, which seeds NumPy) draws the same again when it is run again.
_own: dict[str, Any] = {"state": None, "generator": None}


def seed_generator(seed: int) -> None:
    """Restarts the package's own random generator."""
    _own.update(state=_global_state(), generator=np.random.default_rng(seed))


def generator(seed: int | None = None) -> np.random.Generator:
    """Returns a generator for `seed`, or the package's own one for `None`."""
    if seed is not None:
        return np.random.default_rng(check_count("seed", seed))
    state = _global_state()
    if state != _own["state"]:
        _own.update(state=state, generator=np.random.default_rng(list(state)))
    return _own["generator"]


def _global_state():
    _, words, position, *_ = np.random.get_state()
    return hashlib.sha256(words.tobytes() + bytes(str(position), "ascii")).digest()


def normalize(array: ArrayLike, min_value: float = 0.0, max_value: float = 1.0) -> np.ndarray:
    """Scales an array linearly so that its minimum and maximum become the given ones.

    Args:
        array: Array of numbers, any shape.
        min_value: What the smallest value becomes. Default 0.
        max_value: What the largest value becomes, less a rounding term: 1e-7 is added to
            the denominator, so a flat array becomes `min_value` all over. Default 1.

    Returns:
        New floating-point array of the same shape.

    Examples:
        >>> np.round(normalize(np.array([1.0, 2.0, 3.0])), 3).tolist()
        [0.0, 0.5, 1.0]
    """
    array = np.asarray(array)
    low, high = np.min(array), np.max(array)
    return (max_value - min_value) * ((array - low) / (high - low + EPSILON)) + min_value


def interpolation(size: int, given: int) -> np.ndarray:
    """Returns the matrix `(size, given)` that resizes a line linearly, pixel centres on pixel centres."""
    places = np.clip((np.arange(size) + 0.5) * given / size - 0.5, 0, given - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(given)), 0).astype("float32")


def resize(maps: ArrayLike, sizes: Sequence[int]) -> np.ndarray:
    """Resizes maps linearly, pixel centres on pixel centres.

    Args:
        maps: Array `(N, *spatial)`, with or without channels after it.
        sizes: The new spatial sizes.

    Returns:
        New float32 array `(N, *sizes)`, with the channels if there were any.
    """
    maps = np.array(maps, "float32")
    shape = len(maps), *sizes, *maps.shape[1 + len(sizes) :]
    step = max(1, 2**19 // max(1, math.prod(shape[1:])))  # maps that stay in the processor's cache together
    if len(maps) <= step:
        return _resized(maps, sizes)
    whole = np.empty(shape, "float32")
    for start in range(0, len(maps), step):
        whole[start : start + step] = _resized(maps[start : start + step], sizes)
    return whole


def _resized(maps, sizes):
    for axis, size in reversed(list(enumerate(sizes, start=1))):  # the last first: then whole rows are copied
        maps = read_between(maps, axis, (np.arange(size) + 0.5) * maps.shape[axis] / size - 0.5)
    return maps


def read_between(array: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Reads a float32 array at places between its entries along an axis, linearly; beyond the ends it goes on flat."""
    last = array.shape[axis] - 1
    places = np.clip(places, 0, last)
    below = places.astype(int)
    part = (places - below).astype("float32").reshape(-1, *[1] * (array.ndim - 1 - axis))
    start = np.take(array, below, axis)
    step = np.take(array, np.minimum(below + 1, last), axis)
    step -= start
    step *= part
    step += start
    return step


def deprocess_input(input_array: ArrayLike, input_range: tuple[float, float] = (0, 255)) -> np.ndarray:
    """Turns an optimised input into something to look at.

    The values are centred, given the standard deviation 0.1, moved to 0.5, clipped to
    [0, 1] and scaled to `input_range`.

    Args:
        input_array: Array of numbers, any shape. Not changed.
        input_range: `(low, high)` of the result. Default (0, 255).

    Returns:
        New float array of the same shape with values in `input_range`.

    Raises:
        ValueError: `input_range` is not a rising pair of finite numbers, or the array holds something else.

    Examples:
        >>> deprocess_input(np.zeros((2, 2)), (0.0, 1.0)).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    low, high = check_input_range(input_range)
    array = np.array(input_array)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`input_array` must be numbers. Received: {shown(input_array)}.")
    array = array if array.dtype.kind == "f" else array.astype("float32")
    array = (array - array.mean()) / (array.std() + EPSILON)
    array = np.clip(0.1 * array + 0.5, 0, 1)
    return (high - low) * array + low


def random_array(shape: tuple[int, ...], mean: float = 128.0, std: float = 20.0, seed: int | None = None) -> np.ndarray:
    """Draws uniform noise and gives it the wanted mean and standard deviation.

    Args:
        shape: Shape of the array.
        mean: Mean of the values. Default 128.
        std: Standard deviation of the values. Default 20.
        seed: Integer for a repeatable draw. Default `None`: the package's own generator.

    Returns:
        Float32 array of that shape.

    Examples:
        >>> float(random_array((50, 50), mean=3.0, std=0.5, seed=0).mean().round(3))
        3.0
    """
    array = generator(seed).random(shape)
    array = (array - array.mean()) / (array.std() + EPSILON)
    return (array * std + mean).astype("float32")


def stitch_images(images: Sequence[ArrayLike], margin: int = 5, cols: int = 5) -> np.ndarray | None:
    """Places images on a grid, row by row, with black margins between them.

    Args:
        images: Sequence of arrays of one shape, `(H, W)` or `(H, W, C)`.
        margin: Pixels between neighbours. Default 5.
        cols: Images in a row, at most. Default 5.

    Returns:
        One array of the images' dtype and number of axes; `None` for no images.

    Raises:
        ValueError: The images differ in shape, `margin` is negative or `cols` below 1.

    Examples:
        >>> stitch_images([np.ones((4, 4, 3))] * 3, margin=1, cols=2).shape
        (9, 9, 3)
    """
    if len(images) == 0:
        return None
    margin, cols = check_count("margin", margin), check_count("cols", cols, 1)
    arrays = [np.asarray(image) for image in images]
    shapes = sorted({image.shape for image in arrays})
    if len(shapes) > 1 or arrays[0].ndim not in (2, 3):
        raise ValueError(f"`images` must all have one shape, (H, W) or (H, W, C). Received: shapes {shapes}.")
    height, width = arrays[0].shape[:2]
    cols = min(len(arrays), cols)
    rows = math.ceil(len(arrays) / cols)
    shape = (rows * height + (rows - 1) * margin, cols * width + (cols - 1) * margin) + arrays[0].shape[2:]
    stitched = np.zeros(shape, arrays[0].dtype)
    for i, image in enumerate(arrays):
        top, left = (i // cols) * (height + margin), (i % cols) * (width + margin)
        stitched[top : top + height, left : left + width] = image
    return stitched


def bgr2rgb(img: ArrayLike) -> np.ndarray:
    """Reverses the channel axis, the last one.

    Args:
        img: Array of shape `(..., C)`.

    Returns:
        New array with the channels in reverse order.

    Examples:
        >>> bgr2rgb(np.array([[[1, 2, 3]]])).tolist()
        [[[3, 2, 1]]]
    """
    return np.asarray(img)[..., ::-1].copy()


def overlay(array1: ArrayLike, array2: ArrayLike, alpha: float = 0.5) -> np.ndarray:
    """Blends two arrays: `alpha * array1 + (1 - alpha) * array2`.

    Args:
        array1: First array; the result has its dtype.
        array2: Second array, same shape.
        alpha: Share of the first array, in [0, 1]. Default 0.5.

    Returns:
        New array of `array1`'s shape and dtype.

    Raises:
        ValueError: `alpha` is outside [0, 1], or the shapes differ.

    Examples:
        >>> overlay(np.array([10, 20]), np.array([30, 40]), alpha=0.5).tolist()
        [20, 30]
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be in [0, 1]. Received: alpha={alpha}.")
    array1, array2 = np.asarray(array1), np.asarray(array2)
    if array1.shape != array2.shape:
        raise ValueError(
            "`array1` and `array2` must have the same shape. "
            f"Received: {array1.shape} and {array2.shape}. Resize one of them, or give a grey map three channels."
        )
    return (array1 * alpha + array2 * (1 - alpha)).astype(array1.dtype)


def to_bytes(image: ArrayLike, input_range: tuple[float, float] = (0, 255)) -> np.ndarray:
    """Maps `input_range` to uint8 0..255."""
    low, high = check_input_range(input_range)
    scaled = (check_numeric("image", image) - low) / (high - low)
    return np.round(255 * np.clip(scaled, 0, 1)).astype("uint8")
