"""From arrays to pictures: attributions beside and over the images that they explain.

Figures come back; nothing shows itself but `show`, and no setting of Matplotlib is changed.
"""

from __future__ import annotations

import html
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.feature_plots import bar, beeswarm, dependence, force, waterfall  # noqa: F401 - their other home
from vis.utils.files import gif_frame, write_gif
from vis.utils.heatmaps import SIGNS, WHY_FLAT, heatmap
from vis.utils.images import resize, to_bytes
from vis.utils.validation import (
    VisualizationWarning,
    check_count,
    check_fraction,
    check_nonnegative,
    check_numeric,
    cut,
    listed,
    pick,
    printable,
    shown,
    words_error,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

UNSIGNED = "inferno"  # both can be told apart by the colour-blind, and in print
SIGNED = "RdBu_r"
_MOST_CURVES = 64
_ASPECTS = (0.5, 6)  # of a panel; pictures beyond them keep their own, in a panel of these
_MOST_CHANNELS = 4  # of what is taken for one attribution with channels, in messages
_MOST_INCHES = 20  # of a picture's height
_FAR = 0.2  # of the highest strength: maps whose lowest is no less are far from zero


def overlay(images: ArrayLike, maps: ArrayLike, cmap: str | Colormap = "jet", alpha: float = 0.5) -> np.ndarray:
    """Returns images with maps in colour over them.

    Args:
        images: `(N, H, W, 1 or 3)`, `(N, H, W)`, channels first, or one image without the batch axis. Any
            type and range: bytes are taken as they are, floats in [0, 1] too; others are stretched, each
            image by itself, unless they lie in 0..255.
        maps: `(N, H', W')`, or one `(H', W')`: what `vis.heatmap` returns, or raw maps, which are scaled by
            their largest strength where it is above 1. Smaller ones are enlarged.
        cmap: Name of a Matplotlib colour map, or the map itself. Default `"jet"`; `"inferno"` and `"viridis"`
            can be read by everyone.
        alpha: Share of the map, in (0, 1]. Default 0.5.

    Returns:
        uint8 `(N, H, W, 3)`, or `(H, W, 3)` for one image.

    Raises:
        ValueError: The shapes do not fit, values are not finite, or there is no such colour map.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> overlay(np.zeros((8, 8)), np.eye(4)).shape
        (8, 8, 3)
    """
    heat, shape = check_numeric("maps", maps), check_numeric("images", images).shape
    single = heat.ndim == 2
    heat = heat[None] if single else heat
    if heat.ndim != 3 or not heat.size:
        raise ValueError(f"`maps` must have the shape (N, H, W) or (H, W). Received: shape {np.shape(maps)}.")
    if not single and len(shape) == 3 and shape[-1] in (1, 3) and shape[:2] == heat.shape[:2]:
        raise ValueError(
            f"`maps` must be (H, W) for one image. Received: {heat.shape}. Make a map of its channels with "
            "`vis.heatmap`."
        )
    pictures = _pictures("images", images, single)
    if len(pictures) != len(heat):
        raise ValueError(f"`images` and `maps` must be as many. Received: {len(pictures)} and {len(heat)}.")
    size = pictures.shape[1:3]
    if heat.shape[1:] == size[::-1] != size:
        raise ValueError(f"`maps` must have rows and columns as the images, {size}. Received: {heat.shape[1:]}.")
    result = _blended(pictures, _unit(resize(heat, size)), cmap, alpha)
    return result[0] if single else result


def _blended(pictures, values, cmap, alpha):
    """Returns pictures with values from 0 to 1 in colour over them, uint8."""
    blended = check_fraction("alpha", alpha) * _colours(values, cmap) + (1 - alpha) * pictures
    return np.round(255 * np.clip(blended, 0, 1)).astype("uint8")


def as_pictures(images: ArrayLike, single: bool = False) -> np.ndarray:
    """Returns images as RGB.

    Args:
        images: See `overlay`.
        single: Whether it is one image without the batch axis. Default `False`.

    Returns:
        float32 `(N, H, W, 3)` with values in [0, 1].

    Raises:
        ValueError: They are no images.

    Examples:
        >>> as_pictures(np.array([[[0, 255]]], "uint8"))[0, 0, 1].tolist()
        [1.0, 1.0, 1.0]
    """
    return _pictures("images", images, single)


def _pictures(name, images, single):
    array = check_numeric(name, images)
    array = array[None] if single else array
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4) or not array.size:
        axes = "H, W" if single else "N, H, W"
        raise ValueError(
            f"`{name}` must be {'one image' if single else 'images'}, grey or RGB: ({axes}), ({axes}, 1) or ({axes}, "
            f"3), channels first too. Received: shape {array.shape[single:]}. {_words_axes(name, array, single)}"
        )
    array = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]
    return np.stack([_in_unit_range(one, _is_bytes(images)) for one in array])


def _words_axes(name, array, single):
    if single and array.ndim > 3:
        return f"Of a batch give one, `{name}[0]`; of many channels choose those to show."
    if not single and array.ndim == 2:
        return f"Add a batch axis to the one image: `{name}[None]`."
    return "Choose the channels to show, or average them."


def _is_bytes(images):
    return getattr(getattr(images, "dtype", None), "name", "") == "uint8"


def _in_unit_range(image, is_bytes):
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 255 and (is_bytes or high > 1):
        return image / 255
    if low >= 0 and high <= 1:
        return image
    return (image - low) / (high - low) if high > low else np.full_like(image, 0.5)


def _unit(maps):
    """Scales each map so that no strength is above 1, and puts the 0 of signed ones in the middle."""
    tops = np.maximum(np.abs(maps).max(axis=(1, 2), keepdims=True), 1)
    return maps / tops if maps.min() >= 0 else (maps / tops + 1) / 2


def _colours(values, cmap):
    return _colour_map(cmap)(values)[..., :3].astype("float32")


def _colour_map(cmap):
    import matplotlib

    if isinstance(cmap, matplotlib.colors.Colormap):
        return cmap
    if not isinstance(cmap, str):
        raise TypeError(
            f"A colour map must be a name, such as 'viridis', or a Matplotlib `Colormap`. Received: {shown(cmap)}."
        )
    if cmap not in matplotlib.colormaps:
        raise ValueError(f"There is no colour map named {shown(cmap)}. Try 'inferno', 'viridis', 'RdBu_r' or 'jet'.")
    return matplotlib.colormaps[cmap]


def show_attribution(
    image: ArrayLike,
    attribution: ArrayLike,
    cmap: str | Colormap = UNSIGNED,
    signed_cmap: str | Colormap = SIGNED,
    alpha: float = 0.5,
    title: str | None = None,
) -> Figure:
    """Returns a figure of one image and what was attributed to it.

    From left to right: the image; the strength of the attribution; its sign, with 0 in white; the strength over
    the image; and the colour bars. The strength of maps of one sign that come nowhere near zero, such as those of
    `vis.RISE`, begins at their lowest one, and the colour bar says so.

    Args:
        image: `(H, W)`, `(H, W, 1 or 3)` or channels first; see `overlay`.
        attribution: Of the image's shape or `(H, W)`, signed or not, raw or scaled.
        cmap: Colour map of the strength. Default `"inferno"`.
        signed_cmap: Colour map of the sign. Default `"RdBu_r"`: red speaks for the score, blue against it.
        alpha: Share of the map in the overlay. Default 0.5.
        title: Words above the image. Default none.

    Returns:
        A Matplotlib `Figure`.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: The attribution is flat; the picture says so.

    Examples:
        >>> len(show_attribution(np.zeros((8, 8)), np.eye(8)).axes)
        6
    """
    picture = _pictures("image", image, single=True)[0]
    values = _attribution_of(picture, attribution, np.shape(image))
    low = _lowest(values)
    strength, signed = _scaled_strength(values, low), _scaled(values, "signed")
    _colour_map(signed_cmap)
    flat = _words_flat(values)
    if flat:
        warnings.warn(f"The attribution is {flat}. {WHY_FLAT}", VisualizationWarning, stacklevel=2)
    figure, axes = _figure(1, 4, picture.shape[1] / picture.shape[0])
    panels = [(picture, None), (strength, cmap), (signed, signed_cmap), (overlay(picture, strength, cmap, alpha), None)]
    for axis, (panel, colours), words in zip(axes[0], panels, (title, "strength", "sign", "overlay")):
        drawn = _draw(axis, panel, colours, signed=panel is signed)
        axis.set_title(words or "", fontsize=10, parse_math=False)
        if colours is not None:
            bar = figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
            bar.set_label(f"0 is the lowest, {low:.3g}" if low and panel is strength else "", fontsize=8)
    if flat:
        axes[0, 1].set_title(f"strength ({flat})", fontsize=8, parse_math=False)
    return figure


def _attribution_of(picture, attribution, shape=None):
    """Returns an attribution as `(H, W)` or `(H, W, C)`, of the picture's size.

    Channels may be first if the picture was made of an image of that shape, or of one that is not known.
    """
    values = check_numeric("attribution", attribution)
    size = picture.shape[:2]
    if values.ndim == 3 and values.shape[1:] == size and shape in (None, values.shape):
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3) or not values.size or (values.ndim == 3 and values.shape[:2] != size):
        raise ValueError(
            f"`attribution` must be of one image of size {size}: (H, W), or {size} with channels. Received: shape "
            f"{values.shape}. {_words_attribution(values.shape)}"
        )
    if values.ndim == 2 and values.shape == size[::-1] != size:
        raise ValueError(f"`attribution` must have rows and columns as the image, {size}. Received: {values.shape}.")
    return values if values.ndim == 3 else resize(values[None], size)[0]


def _words_attribution(shape):
    if len(shape) == 4 or (len(shape) > 2 and shape[-1] > _MOST_CHANNELS):
        return "Give one sample, without the batch axis: `attribution[0]`."
    if len(shape) == 3:
        return "One with channels is not resized: give `vis.heatmap(attribution[None])[0]`, (H, W) of any size."
    return "Explainers give such arrays, one for each sample."


def _lowest(values):
    """Returns the strength at which the colours begin: 0, but the lowest of a map of one sign far from zero."""
    strength = _strength(values)
    low, high = float(strength.min()), float(strength.max())
    return low if _FAR * high <= low < high and (values.min() >= 0 or values.max() <= 0) else 0.0


def _strength(values):
    return np.abs(values) if values.ndim == 2 else np.abs(values).max(axis=-1)


def _scaled_strength(values, low):
    return heatmap(_strength(values)[None] - low, channel_axis=None)[0] if low else _scaled(values, "absolute")


def _words_flat(values):
    """Words that a map is flat, or returns nothing."""
    return f"flat: {values.flat[0]:.3g} everywhere" if values.min() == values.max() else ""


def _scaled(values, sign):
    """Returns `vis.heatmap` of one sample; the full strength everywhere for one that is the same everywhere."""
    if values.min() == values.max():
        value = float(np.sign(values.flat[0]))
        return np.full(values.shape[:2], value if sign == "signed" else abs(value), "float32")
    return heatmap(values[None], sign=sign, channel_axis=-1 if values.ndim == 3 else None)[0]


def gallery(
    images: ArrayLike,
    columns: Mapping[str, ArrayLike],
    labels: Sequence[str] | None = None,
    titles: Mapping[str, Sequence[float | str]] | None = None,
    cmap: str | Colormap = UNSIGNED,
    signed_cmap: str | Colormap = SIGNED,
    size: float = 1.6,
    sign: str | None = None,
    scores: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Returns a figure with images down and methods across.

    Args:
        images: `(N, H, W, ...)`, see `overlay`.
        columns: Dict from the names of methods to their attributions, `(N, H, W)` or `(N, H, W, C)`.
            Those with negative values are drawn with 0 in white. uint8 `(N, H, W, 3)` are pictures, such as
            `overlay` gives, and drawn as they are.
        labels: Words to the left of the images, such as the classes' names; one for each. Default none.
        titles: Numbers for each column, such as scores: `{name: [N numbers]}`, written above the maps. Default
            none.
        cmap: Colour map of maps without a sign. Default `"inferno"`.
        signed_cmap: Colour map of signed maps. Default `"RdBu_r"`.
        size: Height of a picture in inches, from 0.1 to 20. Default 1.6.
        sign: What is drawn of all maps: `"absolute"`, `"positive"`, `"negative"`, or `"signed"`, with 0 in white, such
            as relevance, which may be positive everywhere. Default `None`: columns with negative values as `"signed"`,
            others as `"absolute"`.
        scores: What was measured of each map, `{name: (N,)}`, written below it with three digits. Of an evaluation by
            `vis.evaluate` they are `{method: evaluation.scores[method, "srg", "mean"] for method in columns}`. Columns
            may be left out. Default none.

    Returns:
        A Matplotlib `Figure`; each column has a colour bar below it. Maps whose colours begin at their lowest
        value, as in `show_attribution`, and flat ones have words below them.

    Raises:
        ValueError: Shapes or numbers do not fit.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = gallery(np.zeros((2, 8, 8)), {"eye": np.stack([np.eye(8)] * 2)}, ["a", "b"])
        >>> [axis.get_title() for axis in figure.axes[:2]]
        ['image', 'eye']
        >>> figure = gallery(np.zeros((1, 8, 8)), {"eye": np.eye(8)[None]}, scores={"eye": [0.25]})
        >>> figure.axes[1].get_xlabel()
        '0.25'
    """
    pictures = as_pictures(images)
    if not isinstance(columns, dict) or not columns:
        raise TypeError(f"`columns` must be a dict {{name: maps}}, not empty. Received: {shown(columns)}.")
    if not 0.1 <= check_nonnegative("size", size) <= _MOST_INCHES:
        raise ValueError(f"`size` must be from 0.1 to {_MOST_INCHES} inches. Received: {size}.")
    for name in (cmap, signed_cmap):
        _colour_map(name)
    if sign is not None:
        pick("sign", sign, SIGNS)
    titles, scores = _of_columns("titles", titles, columns), _of_columns("scores", scores, columns)
    measured = {name: _numbers(f"scores[{shown(name, 40)}]", own, len(pictures)) for name, own in scores.items()}
    labels = _one_each("labels", labels, len(pictures))
    read = {name: _column(f"columns[{shown(name, 40)}]", maps, pictures) for name, maps in columns.items()}
    figure, axes = _figure(len(pictures), 1 + len(columns), pictures.shape[2] / pictures.shape[1], size)
    for axis, picture, label in zip(axes[:, 0], pictures, labels):
        _draw(axis, picture, None)
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10, parse_math=False)
    axes[0, 0].set_title("image", fontsize=10)
    for column, (name, maps) in zip(axes.T[1:], columns.items()):
        drawn = None
        if _is_colour(maps):
            for axis, picture in zip(column, read[name]):
                _draw(axis, picture, None)
        else:
            drawn, words = _draw_column(column, read[name], cmap, signed_cmap, sign)
        for axis, number in zip(column, measured.get(name, ())):
            axis.set_xlabel(f"{number:.3g}\n{axis.get_xlabel()}".strip(), fontsize=8)
        for axis, number in zip(column, _one_each(f"titles[{shown(name, 40)}]", titles.get(name), len(pictures))):
            above = str(number or "") if isinstance(number, (str, type(None))) else f"{number:.3g}"
            axis.set_title(above, fontsize=8, parse_math=False)
        column[0].set_title(f"{name}\n{column[0].get_title()}".strip(), fontsize=10, parse_math=False)
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=list(column), location="bottom", fraction=0.03, pad=0.02)
            bar.set_label(words, fontsize=8)
    return figure


def _of_columns(name, given, columns):
    """Returns a dict from names of columns, or an empty one for `None`."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not set(given) <= set(columns):
        raise ValueError(
            f"`{name}` must be a dict whose names are columns, {listed(columns)}. Received: {shown(given)}."
        )
    return given


def _numbers(name, values, count):
    """Returns finite numbers, one for each image, or raises."""
    array = check_numeric(name, values)
    if array.shape != (count,):
        raise ValueError(f"`{name}` must be {count} numbers, one for each image. Received: shape {array.shape}.")
    return array


def _is_colour(maps):
    return _is_bytes(maps) and np.shape(maps)[-1] == 3


def _column(name, maps, pictures):
    """Returns what a column shows: attributions, or pictures for uint8 RGB."""
    own = _one_each(name, check_numeric(name, maps), len(pictures))
    return as_pictures(maps) if _is_colour(maps) else [_attribution_of(*pair) for pair in zip(pictures, own)]


def _draw_column(axes, attributions, cmap, signed_cmap, sign=None):
    """Draws attributions below one another, and returns what a colour bar is made from, and its words."""
    given, sign = sign, sign or ("signed" if any(one.min() < 0 for one in attributions) else "absolute")
    signed = sign == "signed"
    raised = not (given or signed) and any(map(_lowest, attributions))  # all of them, so that they can be compared
    for axis, one in zip(axes, attributions):
        flat = _words_flat(one)
        if raised and not flat:
            scaled = _scaled_strength(one, float(_strength(one).min()))
        else:
            scaled = _scaled(one, sign)
        drawn = _draw(axis, scaled, signed_cmap if signed else cmap, signed)
        axis.set_xlabel(flat, fontsize=8)
    return drawn, "0 is each map's lowest" if raised else ""


def _one_each(name, values, count):
    if values is None:
        return [""] * count
    if isinstance(values, str) or np.ndim(values) == 0 or len(values) != count:
        raise ValueError(f"`{name}` must be a list with one entry for each of {count}. Received: {shown(values)}.")
    return list(values)


def show_signal(
    signal: ArrayLike, attribution: ArrayLike, signed_cmap: str | Colormap = SIGNED, names: Sequence[str] | None = None
) -> Figure:
    """Returns a figure of a signal as curves, coloured by what was attributed to each time.

    Args:
        signal: `(T,)` or `(T, C)`.
        attribution: Of the same shape, or `(T,)` for all curves.
        signed_cmap: Colour map, with 0 in its middle. Default `"RdBu_r"`.
        names: Names of the curves. Default none.

    Returns:
        A Matplotlib `Figure`, one curve below the other.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.

    Examples:
        >>> len(show_signal(np.zeros((20, 2)), np.ones(20)).axes)
        3
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    curves = check_numeric("signal", signal)
    curves = curves[:, None] if curves.ndim == 1 else curves
    values = check_numeric("attribution", attribution)
    values = np.repeat(values[:, None], curves.shape[-1], axis=1) if values.ndim == 1 else values
    if curves.ndim != 2 or values.shape != curves.shape or len(curves) < 2:
        raise ValueError(
            "`signal` must have the shape (T,) or (T, C) with two times at least, and `attribution` the same, or (T,). "
            f"Received: {np.shape(signal)} and {np.shape(attribution)}."
        )
    if not 1 <= curves.shape[1] <= min(_MOST_CURVES, len(curves)):
        raise ValueError(
            f"`signal` must have time first, and from 1 to {_MOST_CURVES} channels, no more than times. Received: "
            f"shape {np.shape(signal)}, which would be {curves.shape[1]} curves. Transpose it, or choose channels."
        )
    names = _one_each("names", names, curves.shape[1])
    top = float(np.abs(values).max()) or 1.0
    figure, axes = _figure(curves.shape[1], 1, 5, 1.4, ticks=True)
    for axis, curve, own, name in zip(axes[:, 0], curves.T, values.T, names):
        points = np.stack([np.arange(len(curve)), curve], axis=-1)
        segments = np.stack([points[:-1], points[1:]], axis=1)
        lines = LineCollection(list(segments), cmap=_colour_map(signed_cmap), norm=Normalize(-top, top), linewidths=2.5)
        lines.set_array((own[:-1] + own[1:]) / 2)
        axis.plot(curve, color="0.75", linewidth=4, zorder=1)  # pale colours stand out from it
        drawn = axis.add_collection(lines)
        axis.set_ylabel(name, parse_math=False)
    figure.colorbar(drawn, ax=list(axes[:, 0]), fraction=0.03, pad=0.02)
    return figure


class Html(str):
    """Text that notebooks show as HTML.

    Examples:
        >>> Html("<b>a</b>")._repr_html_()
        '<b>a</b>'
    """

    def _repr_html_(self):
        return str(self)


def show_text(tokens: Sequence[str | bytes], attribution: ArrayLike, signed_cmap: str | Colormap = SIGNED) -> Html:
    r"""Returns tokens on coloured ground, as HTML.

    `vis.utils.tokens.join_pieces` makes words of the pieces that a tokenizer gives.

    Args:
        tokens: List of T words. What is no text in them, such as the bytes of half a letter, is written out: `\xc3`.
        attribution: `(T,)`, or `(T, C)`, which is summed over C.
        signed_cmap: Colour map, with 0 in its middle. Default `"RdBu_r"`.

    Returns:
        A string, which notebooks show as HTML. Pointing at a word shows its share of the largest strength.

    Raises:
        ValueError: They are not as many, or values are not finite.

    Examples:
        >>> "not" in show_text(["not", "good"], [-1.0, 0.5])
        True
    """
    values = check_numeric("attribution", attribution)
    values = values.sum(axis=-1) if values.ndim == 2 else values
    tokens = _words_of(tokens)
    if values.shape != (len(tokens),) or not tokens:
        raise ValueError(
            f"`attribution` must hold one number for each token. Received: shape {np.shape(attribution)} for "
            f"{len(tokens)} tokens."
        )
    scaled = values / (np.abs(values).max() or 1)
    spans = []
    for token, value, (ground, ink) in zip(tokens, scaled, _grounds(scaled, signed_cmap)):
        style = f"background:{ground};color:{ink};padding:.1em .2em;border-radius:.2em"
        spans.append(f'<span style="{style}" title="{value:+.2f}">{html.escape(token)}</span>')
    return Html(f'<div style="line-height:1.7">{" ".join(spans)}</div>')


def _grounds(scaled, signed_cmap):
    """Returns the colour of the ground and that of the writing for values in [-1, 1], as CSS has them."""
    colours = _colours((scaled + 1) / 2, signed_cmap)
    inks = ["#fff" if colour @ np.array([0.3, 0.6, 0.1], "float32") < 0.45 else "#000" for colour in colours]
    return [("#" + bytes(np.round(255 * one).astype("uint8")).hex(), ink) for one, ink in zip(colours, inks)]


def show_token_matrix(
    matrix: ArrayLike,
    tokens: Sequence[str | bytes],
    rows: Sequence[str | bytes] | None = None,
    signed_cmap: str | Colormap = SIGNED,
) -> Figure:
    """Returns a figure of what each generated token took from every token before it.

    Args:
        matrix: `(generated, T)`, as `vis.attribute_tokens` gives it. One scale holds for all of it.
        tokens: The T tokens of the whole text, as words or pieces.
        rows: Words for the rows. Default `None`: the last of the tokens, one for each row; what a row could not see,
            from its own token on, is grey then.
        signed_cmap: Colour map, with 0 in its middle. Default `"RdBu_r"`: red speaks for a token, blue against it.

    Returns:
        A Matplotlib `Figure`: one row for each generated token, one column for each token.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = show_token_matrix([[2.0, -1.0, 0.0]], ["not", "bad", "!"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['!']
    """
    values, columns, names, unseen = _token_matrix(matrix, tokens, rows)
    cell = min(_CELL, _MOST_WIDE / len(columns))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * len(columns) + 2.2, cell * len(names) + 1.6), layout="constrained")
    axis, top = figure.add_subplot(), float(np.abs(values).max()) or 1.0
    axis.set_facecolor(_UNSEEN)
    drawn = axis.imshow(np.ma.array(values, mask=unseen), cmap=_colour_map(signed_cmap), vmin=-top, vmax=top)
    axis.xaxis.tick_top()
    step = math.ceil(_LETTERS / cell)  # of so narrow columns some go without words
    for side, words, turn in ((axis.xaxis, columns, 0 if _are_short(columns) else 90), (axis.yaxis, names, 0)):
        places = range(0, len(words), step)
        side.set_ticks(places, words[::step], rotation=turn, fontsize=8, family="monospace", parse_math=False)
        side.set_ticks(np.arange(len(words)) - 0.5, minor=True)
    axis.tick_params(length=0)
    axis.grid(which="minor", color="0.9", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    figure.colorbar(drawn, ax=axis, fraction=0.03, pad=0.02)
    return figure


_CELL, _MOST_WIDE, _LETTERS = 0.21, 40, 0.14  # inches: of a cell, of all columns, of a line of small letters
_UNSEEN = "#e8e8e8"
_MOST_LETTERS = 18  # of a token beside the cells


def _are_short(words):
    """Tells whether all words fit above a cell as they are, such as letters."""
    return max(map(len, words)) <= 2


def _token_matrix(matrix, tokens, rows):
    """Returns a matrix, words for columns and rows, and which cells a row's token could not see."""
    values, tokens = check_numeric("matrix", matrix), _words_of(tokens)
    count = len(values) if values.ndim else 0
    names = tokens[max(len(tokens) - count, 0) :] if rows is None else _words_of(rows)
    if values.ndim != 2 or not values.size or values.shape != (len(names), len(tokens)):
        raise ValueError(
            f"`matrix` must be (generated, T) for T tokens, with a row for each of the last of them or of `rows`. "
            f"Received: shape {values.shape}, {len(tokens)} tokens{'' if rows is None else f', {len(names)} rows'}. "
            "`vis.attribute_tokens` gives such a matrix."
        )
    own = np.arange(len(names))[:, None] + len(tokens) - len(names)
    unseen = (np.arange(len(tokens)) >= own) & (rows is None) & (values == 0)
    return values, *([cut(printable(one), _MOST_LETTERS) for one in words] for words in (tokens, names)), unseen


def show_token_matrix_html(
    matrix: ArrayLike,
    tokens: Sequence[str | bytes],
    rows: Sequence[str | bytes] | None = None,
    signed_cmap: str | Colormap = SIGNED,
) -> Html:
    """Returns what `show_token_matrix` draws as an HTML table: pointing at a cell shows its two tokens and its value.

    Args:
        matrix: `(generated, T)`, see `show_token_matrix`.
        tokens: The T tokens of the whole text.
        rows: Words for the rows. Default `None`: the last of the tokens.
        signed_cmap: Colour map, with 0 in its middle. Default `"RdBu_r"`.

    Returns:
        A string, which notebooks show as HTML. It needs no other file: `pathlib.Path("text.html").write_text(...)`.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> "not → !: +2" in show_token_matrix_html([[2.0, -1.0, 0.0]], ["not", "bad", "!"])
        True
    """
    values, columns, names, unseen = _token_matrix(matrix, tokens, rows)
    scaled = values / (np.abs(values).max() or 1)
    escaped = [html.escape(one) for one in columns]
    turn = "" if _are_short(columns) else ' style="writing-mode:vertical-rl;transform:rotate(180deg)"'
    turned = "".join(f"<th><span{turn}>{one}</span></th>" for one in escaped)
    lines = [f"<tr><th></th>{turned}</tr>"]
    for name, row, grounds, hidden in zip(map(html.escape, names), values, scaled, unseen):
        cells = [
            f'<td style="background:{_UNSEEN if not_there else ground}" title="{one} → {name}: {value:+.3g}"></td>'
            for one, value, (ground, _), not_there in zip(escaped, row, _grounds(grounds, signed_cmap), hidden)
        ]
        lines.append(f'<tr><th class="row">{name}</th>{"".join(cells)}</tr>')
    return Html(f'<div class="vis-tokens">{_STYLE}<table>{"".join(lines)}</table></div>')


_STYLE = (
    "<style>.vis-tokens{overflow-x:auto;background:#fff;color:#000}"
    ".vis-tokens table{border-collapse:collapse;font:12px monospace;width:auto}"
    ".vis-tokens th{font-weight:normal;padding:2px;vertical-align:bottom;white-space:pre;text-align:center}"
    ".vis-tokens th.row{position:sticky;left:0;background:#fff;text-align:right;padding:0 6px}"
    ".vis-tokens td{width:17px;min-width:17px;height:17px;padding:0;border:1px solid #e8e8e8}</style>"
)


def _words_of(tokens):
    given = None if isinstance(tokens, (str, bytes)) or not hasattr(tokens, "__iter__") else list(tokens)
    if given is None or any(np.ndim(one) if hasattr(one, "ndim") else isinstance(one, (list, tuple)) for one in given):
        raise ValueError(f"`tokens` must be a list of words, one for each token. Received: {shown(tokens)}.")
    return [
        one.decode("utf-8", "backslashreplace")
        if isinstance(one, bytes)
        else str(one).encode("utf-8", "backslashreplace").decode()
        for one in given
    ]


def show_volume(
    volume: ArrayLike,
    attribution: ArrayLike,
    slices: int = 8,
    cmap: str | Colormap = UNSIGNED,
    alpha: float = 0.5,
    sign: str = "absolute",
    signed_cmap: str | Colormap = SIGNED,
) -> Figure:
    """Returns a figure of a volume's slices with the attribution over them, and its maximum projection.

    All slices are scaled together, so they can be compared.

    Args:
        volume: `(D, H, W)` or `(D, H, W, 1)`.
        attribution: Of the same shape.
        slices: How many slices, evenly spread, at least 1. Default 8.
        cmap: Colour map of the strength. Default `"inferno"`.
        alpha: Share of the map. Default 0.5.
        sign: What is drawn: `"absolute"` (default; the strength), `"positive"`, `"negative"`, or `"signed"`, with
            0 in the middle of the colours.
        signed_cmap: Colour map for `"signed"`. Default `"RdBu_r"`: red speaks for the score, blue against it.

    Returns:
        A Matplotlib `Figure`.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = show_volume(np.zeros((6, 8, 8)), np.ones((6, 8, 8)), slices=3)
        >>> [axis.get_title() for axis in figure.axes][:4]
        ['slice 0', 'slice 2', 'slice 5', 'maximum']
    """
    grey, values = (_without_channels(name, v) for name, v in (("volume", volume), ("attribution", attribution)))
    if grey.shape != values.shape:
        raise ValueError(
            f"`attribution` must have the volume's shape, {grey.shape}. Received: {values.shape}. Give what was "
            "explained, or resize the one to the other."
        )
    depth = len(grey)
    chosen = np.unique(np.linspace(0, depth - 1, check_count("slices", slices, 1)).round().astype(int))
    heat = pick("sign", sign, SIGNS)(values)
    heat = heat / (np.abs(heat).max() or 1)
    low, high = grey.min(), grey.max()
    grey = (grey - low) / (high - low) if high > low else np.zeros_like(grey)
    images = as_pictures([*grey[chosen], grey.max(axis=0)])
    maps = np.stack([*heat[chosen], _strongest(heat)])
    values, colours = ((maps + 1) / 2, signed_cmap) if sign == "signed" else (maps, cmap)
    drawn = _blended(images, values, colours, alpha)
    return _tiled(list(zip(drawn, [*(f"slice {i}" for i in chosen), "maximum"])))


def _strongest(values):
    """Returns the strongest value along the first axis, with its sign."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=0)[None], axis=0)[0]


def _without_channels(name, value):
    array = check_numeric(name, value)
    array = array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
    if array.ndim != 3 or not array.size:
        raise ValueError(f"`{name}` must have the shape (D, H, W) or (D, H, W, 1). Received: {np.shape(value)}.")
    return array


def show_feature_maps(maps: ArrayLike, columns: int = 8, most: int = 64, cmap: str | Colormap = "viridis") -> Figure:
    """Returns a figure of a layer's feature maps, as `vis.visualization.activations` gives them.

    Args:
        maps: Of one sample, `(H, W, channels)`.
        columns: How many in a row, at least 1. Default 8.
        most: How many at most, the first ones. Default 64.
        cmap: Colour map. Default `"viridis"`. Every map is scaled by itself.

    Returns:
        A Matplotlib `Figure`.

    Raises:
        ValueError: The shape does not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> show_feature_maps(np.ones((5, 5, 3))).axes[2].get_title()
        '2'
    """
    array = check_numeric("maps", maps)
    if array.ndim != 3 or not array.size:
        raise ValueError(f"`maps` must be those of one sample, (H, W, channels). Received: shape {array.shape}.")
    count = min(array.shape[-1], check_count("most", most, 1))
    return _tiled([(array[..., i], str(i)) for i in range(count)], check_count("columns", columns, 1), cmap)


def save_gif(frames: Sequence[ArrayLike] | np.ndarray, path: str | os.PathLike, fps: float = 10) -> None:
    """Writes frames into an animated GIF that repeats for ever.

    The file is written whole or not at all: after an error, an old one of that name is as it was.

    Args:
        frames: `(N, H, W, 1 or 3)` or a list of images, see `overlay`.
        path: The file.
        fps: Frames a second, from 0.01 to 100. Default 10. A GIF counts in hundredths of a second, and many
            programs show more than 50 frames a second slowly.

    Raises:
        ValueError: There is no frame, they differ in size, or the file cannot be written.
        TypeError: `fps` is no number.

    Examples:
        >>> import tempfile
        >>> save_gif(np.zeros((3, 8, 8, 3), "uint8"), tempfile.mkdtemp() + "/frames.gif")
    """
    if not 0.01 <= check_nonnegative("fps", fps) <= 100:
        raise ValueError(f"`fps` must be from 0.01 to 100 frames a second. Received: {fps}.")
    if not str(path).lower().endswith(".gif"):
        raise ValueError(f"`path` must end in '.gif'. Received: {shown(path)}.")
    if not hasattr(frames, "__len__"):
        raise ValueError(f"`frames` must be a list of images. Received: {shown(frames)}.")
    frames = frames if hasattr(frames, "shape") else [np.asarray(frame) for frame in frames]
    if not len(frames):
        raise ValueError("`frames` must hold one image at least. Received: none.")
    if len({np.shape(frame) for frame in frames}) > 1:
        raise ValueError(f"`frames` must be of one size. Received: {sorted({np.shape(frame) for frame in frames})}.")
    pictures = (gif_frame(to_bytes(as_pictures(frame, single=True)[0], (0, 1))) for frame in frames)
    try:
        write_gif(path, pictures, 10 * round(100 / fps))
    except OSError as error:
        raise ValueError(
            f"`path` must be a file that can be written. Received: {shown(str(path), 150)} ({words_error(error, 150)})."
        ) from error


def show(image: ArrayLike, attribution: ArrayLike, **options: Any) -> None:
    """Shows an image with what was attributed to it: in a notebook below the cell, else in a window.

    Args:
        image: One image, see `show_attribution`.
        attribution: What an explainer gave for it.
        **options: See `show_attribution`.

    Raises:
        ValueError: The shapes do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.
    """
    figure = show_attribution(image, attribution, **options)
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = lambda: None  # noqa: E731
    if get_ipython() is not None:
        display(figure)
        return
    import matplotlib.pyplot as plt

    window = plt.figure(figsize=figure.get_size_inches())
    window.figimage(rendered(figure))
    plt.show()
    plt.close(window)


def rendered(figure: Figure) -> np.ndarray:
    """Returns a figure as a picture.

    Args:
        figure: A Matplotlib `Figure`.

    Returns:
        uint8 `(H, W, 3)`.

    Examples:
        >>> rendered(show_feature_maps(np.ones((5, 5, 3)))).ndim
        3
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown_on = figure.canvas
    try:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]
    finally:
        figure.set_canvas(shown_on)


def _figure(rows, columns, aspect, size=1.8, ticks=False):
    """Returns a figure that pyplot does not know, and its axes as an array."""
    from vis.utils.figures import ShownFigure

    aspect = float(np.clip(aspect, *_ASPECTS))
    figure = ShownFigure(figsize=(columns * size * aspect + 1, rows * size + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    if not ticks:
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure, axes


def _draw(axis, panel, cmap, signed=False):
    if cmap is None:
        return axis.imshow(panel)
    return axis.imshow(panel, cmap=_colour_map(cmap), vmin=-1 if signed else 0, vmax=1)


def _tiled(panels, columns=None, cmap=None):
    """Returns a figure of `(picture, words)`, row by row."""
    columns = min(len(panels), columns or math.ceil(math.sqrt(len(panels))))
    height, width = panels[0][0].shape[:2]
    figure, axes = _figure(math.ceil(len(panels) / columns), columns, width / height, 1.3)
    for axis, (picture, words) in zip(axes.flat, panels):
        axis.imshow(picture, cmap=None if cmap is None else _colour_map(cmap))
        axis.set_title(words, fontsize=8, parse_math=False)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    return figure
