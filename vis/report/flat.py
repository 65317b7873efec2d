"""Signals and volumes as flat pictures with flat maps, for a page that shows images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from vis.plotting import as_pictures

MOST_CURVES = 12
_MOST_COLUMNS, _COLUMNS = 600, 240  # of pixels: at most, and those that short signals are enlarged to
_BAND, _MARGIN = 64, 6  # pixels: least height of a curve's band, and what stays free above and below the curve
_WIDEST = 4  # times as wide as high a picture is at most
_PAPER, _INK = 255, 32


@dataclasses.dataclass(frozen=True)
class Flat:
    """Samples and their maps, ready to be shown as images.

    Attributes:
        images: uint8 `(H, W, 3)`, one for each sample.
        maps: Dict from names to maps `(N, H, W)`.
        words: What to say beside each sample, such as which slice it is; "" for nothing.
        steps: How many steps of a signal a column of pixels stands for; `None` for what has rows and columns.
    """

    images: list[np.ndarray]
    maps: dict[str, np.ndarray]
    words: list[str]
    steps: float | None = None


def flat(inputs: np.ndarray, maps: Mapping[str, np.ndarray]) -> Flat | None:
    """Returns samples as flat pictures, or `None` where they are neither images, signals nor volumes.

    Images of other than 1 or 3 channels become grey, the mean of their channels. Signals become curves, each channel in
    a band and a range of its own; more than 12 become one curve, their root mean square; more than 600 steps become
    means of neighbours, and so do their maps. Of a volume one slice along its first axis is shown, the one where the
    maps, each divided by its largest strength, have most of their strength together.

    Args:
        inputs: `(N, *spatial)`, with a channel axis at the end or, for images and volumes, without.
        maps: Dict from names to maps `(N, *spatial)`.

    Examples:
        >>> found = flat(np.zeros((1, 60, 2)), {"a": np.arange(60.0)[None]})
        >>> found.images[0].shape, found.maps["a"].shape, found.steps
        ((128, 240, 3), (1, 128, 240), 0.25)
        >>> flat(np.zeros((1, 5, 4, 4, 1)), {"a": np.eye(5)[None, :, :4, None] * np.ones(4)}).words
        ['slice 0 of 0 to 4']
    """
    spatial = {values.ndim - 1 for values in maps.values()}
    if inputs.dtype.kind not in "fiub" or len(spatial) != 1:
        return None
    (axes,) = spatial
    values = inputs[..., None] if inputs.ndim == axes + 1 and axes > 1 else inputs
    ways = {1: _signals, 2: _images, 3: _volumes}
    return ways[axes](values, maps) if values.ndim == axes + 2 and axes in ways else None


def _images(images, maps):
    channels = images.shape[-1]
    words = "" if channels in (1, 3) else f"mean of {channels} channels"
    grey = images.mean(axis=-1, keepdims=True) if words else images
    return Flat(_bytes(grey), dict(maps), [words] * len(images))


def _bytes(images):
    return list(np.round(255 * as_pictures(images)).astype("uint8"))


def _volumes(volumes, maps):
    depth = volumes.shape[1]
    strengths = [np.abs(values) for values in maps.values()]
    shares = sum(one / np.maximum(one.max(axis=(1, 2, 3), keepdims=True), 1e-30) for one in strengths)
    chosen = shares.sum(axis=(2, 3)).argmax(axis=1)
    each = np.arange(len(volumes))
    slices = _images(volumes[each, chosen], {name: values[each, chosen] for name, values in maps.items()})
    words = [f"slice {index} of 0 to {depth - 1}" for index in chosen]
    return dataclasses.replace(slices, words=[", ".join(filter(None, pair)) for pair in zip(words, slices.words)])


def _signals(signals, maps):
    count, steps, channels = signals.shape
    together = -(-steps // _MOST_COLUMNS)
    each = max(1, _COLUMNS // steps) if together == 1 else 1
    words = [f"means of {together} steps each"] if together > 1 else []
    curves = _means(signals.astype("float64"), together)
    if channels > MOST_CURVES:
        curves = np.sqrt(np.square(curves).mean(axis=-1, keepdims=True))
        words.append(f"root mean square of {channels} channels")
    rows = curves.shape[-1]
    band = max(_BAND, -(-curves.shape[1] * each // (_WIDEST * rows)))
    wide = {name: np.repeat(_means(values, together), each, axis=1)[:, None] for name, values in maps.items()}
    tall = {name: np.repeat(values, band * rows, axis=1) for name, values in wide.items()}
    return Flat([_drawn(one, each, band) for one in curves], tall, [", ".join(words)] * count, together / each)


def _means(values, together):
    """Returns the means of neighbours along axis 1; the last ones may be fewer."""
    starts = np.arange(0, values.shape[1], together)
    sums = np.add.reduceat(values, starts, axis=1)
    counts = np.diff([*starts, values.shape[1]])
    return sums / counts.reshape(1, -1, *[1] * (values.ndim - 2))


def _drawn(curves, each, band):
    """Returns curves `(T, C)` as a picture, one below the other: `each` pixels a step, `band` pixels a curve."""
    steps = len(curves)
    centres = (np.arange(steps * each) + 0.5) / each - 0.5
    bands = [_band(np.interp(centres, np.arange(steps), curve), band) for curve in curves.T]
    return np.repeat(np.concatenate(bands)[..., None], 3, axis=-1)


def _band(curve, height):
    """Returns one curve, a value for each column of pixels, as dark pixels on white."""
    low, high = curve.min(), curve.max()
    share = (curve - low) / (high - low) if high > low else np.full_like(curve, 0.5)
    heights = _MARGIN + (1 - share) * (height - 1 - 2 * _MARGIN)
    halfway = (heights[:-1] + heights[1:]) / 2
    ends = np.stack([heights, np.append(halfway, heights[-1:]), np.append(heights[:1], halfway)])
    rows = np.arange(height)[:, None]
    on_curve = (rows >= ends.min(axis=0) - 0.75) & (rows <= ends.max(axis=0) + 0.75)
    return np.where(on_curve, _INK, _PAPER).astype("uint8")
