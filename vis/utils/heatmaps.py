"""From raw attributions to maps that can be drawn."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from vis.utils.validation import VisualizationWarning, check_nonnegative, check_numeric, cut, is_integer, pick, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WHY_FLAT = (
    "Maps go flat where the softmax is saturated (explain logits), where ReLUs are dead, where the layer holds no "
    "evidence of this sign for the target (another layer, another target), and where a class token alone goes on to "
    "the output."
)
_SMALLEST_IMAGE = 8  # of fewer rows or columns, it may well be a batch

_REDUCTIONS = {
    "max": lambda values, axis: np.take_along_axis(
        values, np.expand_dims(np.argmax(np.abs(values), axis), axis), axis
    ).squeeze(axis),
    "mean": lambda values, axis: np.mean(values, axis),
    "sum": lambda values, axis: np.sum(values, axis),
    "norm": lambda values, axis: np.sqrt(np.sum(np.square(values), axis)),
}

_FEW_CHANNELS = 4  # grey, colours, colours and transparency

SIGNS = {
    "absolute": np.abs,
    "positive": lambda values: np.maximum(values, 0),
    "negative": lambda values: np.maximum(-values, 0),
    "signed": lambda values: values,
}


def heatmap(
    attributions: ArrayLike,
    reduce: str = "max",
    sign: str = "absolute",
    percentile: float = 99.0,
    *,
    channel_axis: int | str | None = "auto",
) -> np.ndarray:
    """Returns maps to draw, scaled for each sample by itself.

    Scaling loses the strength: two maps do not tell which sample has more evidence.

    Args:
        attributions: What an explainer returned: `(N, ..., C)`, or `(N, ...)` without channels.
            Finite numbers.
        reduce: What is shown of the channels of a place, after `sign`: `"max"` (default; the
            strongest, with its sign), `"mean"`, `"sum"` or `"norm"` (the root of the sum of squares).
        sign: `"absolute"` (default), `"positive"`, `"negative"`, or `"signed"`.
        percentile: Values above this percentile of a map's strengths are clipped, in (0, 100].
            Default 99.
        channel_axis: Where the channels are: -1, 1 for channels_first, `None` if there are none.
            Default `"auto"`: last for 4 axes and more; for 3 axes `(N, T, C)` if C is at most 4 and
            T at least 8 C; none otherwise. So a volume's class activation maps `(N, D, H, W)` need
            `None`, and the attributions of a signal or text with more channels need -1.
            `"auto"` refuses what looks like one image without the batch axis, as `maps[0]` is: `(S, S)`,
            and `(H, W, 1 or 3)` with no side more than twice the other, all sides 8 or more. For that many
            vectors or signals of that length give `channel_axis` yourself.

    Returns:
        float32 `(N, ...)`: in [0, 1], or in [-1, 1] with 0 at 0 for `"signed"`.

    Raises:
        ValueError: An argument has a wrong value, or the batch axis seems to be missing.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: A map is flat; it becomes zeros. Or the last of 4 axes and more, longer
            than 4, was taken for the channels.

    Examples:
        >>> heatmap(np.array([[[[1.0, -4.0], [2.0, 0.0]]]]), sign="signed", percentile=100).tolist()
        [[[-1.0, 0.5]]]
    """
    if isinstance(attributions, dict) or (isinstance(attributions, (list, tuple)) and _has_several(attributions)):
        raise ValueError(
            "`attributions` must be one array. Received: those of several inputs. Make a map of one at a time."
        )
    values = check_numeric("attributions", attributions)
    if values.ndim < 2 or values.size == 0:
        raise ValueError(f"`attributions` must be (N, ...), with at least one sample. Received: shape {values.shape}.")
    if not 0 < check_nonnegative("percentile", percentile) <= 100:
        raise ValueError(f"`percentile` must be in (0, 100]. Received: {percentile}.")
    if channel_axis == "auto":
        _check_batched(values.shape)
    combine, values = pick("reduce", reduce, _REDUCTIONS), pick("sign", sign, SIGNS)(values)
    axis = _channel_axis(values, channel_axis)
    maps = values if axis is None else combine(values, axis)
    scaled = [_scaled(one, percentile) for one in maps]
    flat = [i for i, one in enumerate(scaled) if one is None]
    if flat:
        warnings.warn(
            f"The map of sample {cut(', '.join(map(str, flat)), 50)} is flat. {WHY_FLAT}",
            VisualizationWarning,
            stacklevel=2,
        )
    return np.stack([np.zeros_like(one) if s is None else s for one, s in zip(maps, scaled)]).astype("float32")


def _has_several(arrays):
    return len({np.shape(array) for array in arrays}) > 1


def _check_batched(shape):
    """Raises for the shape of one image: each of its rows would be scaled by itself."""
    height, width = shape[:2]
    if min(height, width) < _SMALLEST_IMAGE:
        return
    has_colours = len(shape) == 3 and shape[2] in (1, 3) and height <= 2 * width <= 4 * height
    if not has_colours and shape != (height, height):
        return
    batch, own = ("vectors or signals", None) if len(shape) == 2 else ("signals", -1)
    raise ValueError(
        f"`attributions` must have the batch axis first. Received: shape {shape}, which looks like one image: give "
        f"`maps[:1]` instead of `maps[0]`, or `attributions[None]`. If it is {height} {batch} of length {width}, say "
        f"`channel_axis={own}`."
    )


def _channel_axis(values, axis):
    if axis is None:
        return None
    if axis == "auto":
        line, channels = values.shape[-2:]
        if values.ndim > 3 and channels > _FEW_CHANNELS:
            warnings.warn(
                f"heatmap took the last axis, of {channels}, for the channels. Received: attributions of shape "
                f"{values.shape}. Say so if that is right: `channel_axis=-1`; `channel_axis=1` if they come first, "
                "`None` if there are none, as in the class activation maps of a volume.",
                VisualizationWarning,
                stacklevel=3,
            )
        return (
            -1 if values.ndim > 3 or (values.ndim == 3 and channels <= _FEW_CHANNELS and line >= 8 * channels) else None
        )
    if not is_integer(axis) or axis % values.ndim == 0 or not -values.ndim <= axis < values.ndim:
        raise ValueError(f'`channel_axis` must be "auto", None or an axis after the first. Received: {shown(axis)}.')
    return axis


def _scaled(one, percentile):
    """Returns a map scaled to 1 at the percentile, or `None` for a flat one."""
    if one.min() == one.max():
        return None
    strengths = np.abs(one)
    top = np.percentile(strengths, percentile)
    return np.clip(one / (top if top > 0 else strengths.max()), -1, 1)
