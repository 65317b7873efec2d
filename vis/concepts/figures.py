"""Pictures of concepts: their best pieces, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vis.plotting import as_pictures, overlay
from vis.utils.validation import check_numeric, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

_INCHES = 1.0
_CELL, _LINES, _GAP = 1.1, 0.24, 0.03  # of an atlas, in inches: its cells, the words below them, and around pictures
_LETTERS = 21  # of the words below a cell


def concept_figure(
    best: Sequence[np.ndarray],
    images: np.ndarray | None = None,
    maps: np.ndarray | None = None,
    importances: np.ndarray | None = None,
) -> Figure:
    """Returns a figure: a row a concept.

    Args:
        best: The best pieces of each concept, `(count, h, w, C)`.
        images: Images `(N, H, W, C)`, or `None`.
        maps: `(N, H, W, concepts)`, for the images.
        importances: `(concepts,)`, which order the rows, or `None`.
    """
    order, words = list(range(len(best))), [f"concept {k}" for k in range(len(best))]
    if importances is not None:
        worth = check_numeric("importances", importances)
        if worth.shape != (len(best),):
            raise ValueError(
                f"`importances` must be one for each of {len(best)} concepts. Received: shape {worth.shape}. Of "
                "several images take the mean, `importances.mean(axis=0)`."
            )
        order = list(np.argsort(-worth, kind="stable"))
        words = [f"{word}\n{value:.2f}" for word, value in zip(words, worth)]
    rows = [[*_panels(best[k]), *_overlays(images, maps, k)] for k in order]
    return _drawn(rows, [words[k] for k in order])


def _panels(crops):
    return list(as_pictures(crops))


def _overlays(images, maps, concept):
    if images is None or maps is None:
        return []
    own = maps[..., concept]
    top = maps.max(axis=(1, 2, 3)).reshape(-1, 1, 1)  # concepts of one image are drawn on one scale
    return list(overlay(images, own / np.where(top, top, 1), cmap="inferno"))


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
