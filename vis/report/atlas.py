"""The page of an activation atlas: a map of pictures to zoom in and to walk around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vis.report.pictures import MOST_STILL, data_address, shrunk
from vis.report.rendering import filled, worded
from vis.utils.files import check_writable, whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import numpy as np

_PIXELS = 6_000_000  # of all pictures together: a page of some megabytes


def write_atlas(
    path: str | os.PathLike,
    title: str,
    pictures: np.ndarray,
    cells: np.ndarray,
    counts: np.ndarray,
    best: Sequence[Sequence[tuple[str, float]]],
    settings: Mapping[str, Any],
) -> None:
    """Writes one HTML file that needs nothing else: no network, no other file.

    Args:
        path: Of the file; an existing one is replaced, once the new one is whole.
        title: Words at the top.
        pictures: uint8 `(n, H, W, 3)`, made smaller where all of them are more than 6 million pixels.
        cells: Their rows and columns on the map, `(n, 2)`.
        counts: `(rows, columns)`: how many activations each cell of the map has.
        best: For each picture, pairs of the names of classes and what it contributes to them, the first one first.
        settings: What made the map: names and words.

    Raises:
        OSError: The file cannot be written. This is found before anything else is done.
    """
    check_writable(path)
    share = (_PIXELS / (pictures.size / 3)) ** 0.5
    found: list[dict[str, Any]] = [
        {
            **{"row": int(row), "column": int(column), "count": int(counts[row, column])},
            "address": data_address(shrunk(picture, share), MOST_STILL),
            "classes": [(str(name), worded(value)) for name, value in pairs],
        }
        for picture, (row, column), pairs in zip(pictures, cells, best)
    ]
    text = filled(
        "atlas",
        {
            **{"title": title, "cells": found, "rows": counts.shape[0], "columns": counts.shape[1]},
            **{"height": pictures.shape[1], "width": pictures.shape[2]},
            "names": sorted({name for one in found for name, _ in one["classes"][:2]}, key=str.casefold),
            "data": [{key: value for key, value in one.items() if key != "address"} for one in found],
            "settings": [(str(name), str(value)) for name, value in settings.items()],
        },
        ("page.css", "atlas.css"),
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
