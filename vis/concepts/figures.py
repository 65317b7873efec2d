"""Pictures of concepts: their best pieces, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.plotting import as_pictures, overlay
from vis.utils.validation import check_numeric, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

_INCHES, _BLUE = 1.0, "#0072b2"
_CELL, _LINES, _GAP = 1.1, 0.24, 0.03  # of an atlas, in inches: its cells, the words below them, and around pictures
_LETTERS = 21  # of the words below a cell


def concept_records(
    best: Sequence[np.ndarray],
    images: np.ndarray | None = None,
    maps: np.ndarray | None = None,
    importances: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Returns what is shown of each concept, as `vis.report.Page` takes it: the most important first.

    Args:
        best: The best pieces of each concept, `(count, h, w, C)`.
        images: Images `(N, H, W, C)`, or `None`.
        maps: `(N, H, W, concepts)`, for the images.
        importances: `(concepts,)`, which order the concepts, or `None`.
    """
    worth = [None] * len(best) if importances is None else _checked(importances, len(best))
    order = range(len(best)) if importances is None else np.argsort(-np.asarray(worth), kind="stable").tolist()
    return [
        {
            "name": f"concept {k}",
            "importance": worth[k],
            "pieces": _bytes(as_pictures(best[k])),
            "maps": _overlays(images, maps, k),
        }
        for k in order
    ]


def _checked(importances, count):
    worth = check_numeric("importances", importances)
    if worth.shape != (count,):
        raise ValueError(
            f"`importances` must be one for each of {count} concepts. Received: shape {worth.shape}. Of several "
            "images take the mean, `importances.mean(axis=0)`."
        )
    return worth.tolist()


def _bytes(pictures):
    return list(np.round(255 * np.asarray(pictures)).astype("uint8"))


def _overlays(images, maps, concept):
    if images is None or maps is None:
        return []
    top = maps.max(axis=(1, 2, 3)).reshape(-1, 1, 1)  # concepts of one image are drawn on one scale
    return list(overlay(images, maps[..., concept] / np.where(top, top, 1), cmap="inferno"))


def concept_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Returns a figure: a row a concept, of what `concept_records` returns."""
    rows = [[*record["pieces"], *record["maps"]] for record in records]
    return _drawn(rows, [_words(record) for record in records])


def _words(record):
    worth = record["importance"]
    return record["name"] if worth is None else f"{record['name']}\n{worth:.2f}"


def rise_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns a figure: a row for each record of `TCAV`, its score, and its rise among those of random sets."""
    from vis.utils.figures import ShownFigure

    figure = ShownFigure(figsize=(8, 0.5 * len(records) + 0.9), layout="constrained")
    shares, rises = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2))
    for place, record in enumerate(records):
        _draw_share(shares, place, record)
        _draw_rise(rises, place, record)
    places = range(len(records))
    shares.axvline(0.5, color="0.4", lw=0.8, ls=":")
    shares.set_yticks(places, [cut(str(record["concept"]), 30) for record in records])
    shares.set(xlabel="share of inputs", xticks=(0, 0.5, 1), xlim=(-0.02, 1.02), ylim=(len(records) - 0.5, -0.5))
    rises.axvline(0, color="0.4", lw=0.8, ls=":")
    rises.set(xlabel="rise of the score, to first order; grey: random sets")
    words = rises.secondary_yaxis("right")
    words.set_yticks(places, [f"p = {record['p']:.2g}{' *' * record['significant']}" for record in records])
    words.tick_params(length=0)
    return figure


def _draw_share(axis, place, record):
    axis.barh(place, record["score"], 0.5, color=_BLUE, alpha=0.5)
    axis.plot([record["low"], record["high"]], [place, place], color="0.2", marker="|", lw=1)


def _draw_rise(axis, place, record):
    chance, colour = record["random_rises"], _BLUE if record["significant"] else "none"
    axis.scatter(chance, [place] * len(chance), 160, color="0.6", marker="|", lw=0.8)
    axis.scatter(record["rise"], place, 70, color=colour, edgecolors=_BLUE, marker="D")


def _drawn(rows, words):
    from vis.utils.figures import ShownFigure

    columns = max(map(len, rows))
    figure = ShownFigure(figsize=(_INCHES * columns + 1.2, _INCHES * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, panels, word in zip(axes, rows, words):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, panel in zip(line, panels):
            axis.imshow(panel)
        line[0].set_ylabel(word, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def atlas_figure(pictures: np.ndarray, cells: np.ndarray, grid: int, words: Sequence[Sequence[str]]) -> Figure:
    """Returns a figure of a map: pictures in the cells of a grid, with words below them.

    Args:
        pictures: uint8 `(n, H, W, 3)`.
        cells: Their rows and columns, `(n, 2)`.
        grid: Rows and columns of the map.
        words: At most two words for each; the first is darker.
    """
    from vis.utils.figures import ShownFigure

    high = pictures.shape[1] / pictures.shape[2]
    figure = ShownFigure(figsize=(grid * _CELL, grid * (_CELL * high + _LINES)))
    axis = figure.add_axes((0, 0, 1, 1))
    for picture, (row, column), names in zip(pictures, cells, words):
        left, top = column * _CELL, row * (_CELL * high + _LINES)
        ends = (left + _GAP, left + _CELL - _GAP, top + _CELL * high, top + 2 * _GAP)
        axis.imshow(picture, extent=ends)
        for line, (name, grey) in enumerate(zip(names, ("black", "0.45"))):
            spot = left + _CELL / 2, ends[2] + _LINES * (0.05 + 0.42 * line)
            axis.text(*spot, cut(name, _LETTERS), size=6.5, color=grey, ha="center", va="top")
    axis.set(xlim=(0, grid * _CELL), ylim=(grid * (_CELL * high + _LINES), 0))
    axis.set_axis_off()
    return figure
