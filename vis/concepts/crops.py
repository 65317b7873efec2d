"""Pieces of images: cut on a grid, and some of them kept at random, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.utils.images import resize
from vis.utils.validation import check_count, is_integer, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = 2 / 7  # of an image's side, a piece's: 64 of 224 pixels
_STEP = 0.8  # of a piece's side, to the next one


def piece_size(patch: Any, shape: tuple) -> tuple:
    """Returns the size `(h, w)` of pieces of images `(H, W)`.

    Raises:
        ValueError: It is larger than the images.
        TypeError: It is no number, and no pair.
    """
    if patch is None:
        return tuple(max(1, round(size * _PART)) for size in shape)
    if not is_integer(patch) and not (isinstance(patch, (list, tuple)) and len(patch) == 2):
        raise TypeError(f"`patch` must be a number of pixels, or a pair of them. Received: {shown(patch)}.")
    sizes = [patch, patch] if is_integer(patch) else list(patch)
    found = tuple(check_count("patch", size, 1) for size in sizes)
    if any(own > whole for own, whole in zip(found, shape)):
        raise ValueError(f"`patch` must not be larger than the images, {shape}. Received: {shown(patch)}.")
    return found


def pieces(images: np.ndarray, size: tuple) -> Iterator[np.ndarray]:
    """Yields the pieces `(h, w, C)` of images `(N, H, W, C)`, image by image; the last of an axis reaches its end."""
    starts = [
        sorted({*range(0, whole - own + 1, max(1, int(own * _STEP))), whole - own})
        for whole, own in zip(images.shape[1:3], size)
    ]
    for image in images:
        for top in starts[0]:
            for left in starts[1]:
                yield image[top : top + size[0], left : left + size[1]]


class Reservoir:
    """Keeps some of many things, each with equal odds (Vitter 1985, algorithm R).

    Args:
        most: How many are kept.
        seed: Of the draws.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._draw = most, np.random.default_rng(seed)
        self.seen = 0
        self.kept: list[np.ndarray] = []

    def add(self, thing: np.ndarray) -> None:
        """Adds a thing, or not."""
        self.seen += 1
        if len(self.kept) < self._most:
            self.kept.append(np.array(thing))
            return
        place = int(self._draw.integers(self.seen))
        if place < self._most:
            self.kept[place] = np.array(thing)


def enlarged(crops: np.ndarray, shape: tuple) -> np.ndarray:
    """Returns pieces in the size of the images."""
    return crops if crops.shape[1:3] == shape else resize(crops, shape)
