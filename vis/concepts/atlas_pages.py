"""The page of an activation atlas."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.plotting import as_pictures
from vis.report.pictures import data_address
from vis.utils.files import check_writable, whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

_MOST_CLASSES = 3


def write_atlas(
    path: str | os.PathLike[str],
    images: np.ndarray,
    cells: Sequence[Any],
    grid: int,
    classes: Sequence[Sequence[tuple[str, float]]],
    title: str,
    about: Mapping[str, str],
) -> None:
    """Writes an atlas as one HTML file that needs nothing else: no network, no other file.

    Args:
        path: Of the file; an existing one is replaced, once the new one is whole.
        images: One for each cell, channels last.
        cells: `vis.concepts.atlas.Cell`s.
        grid: Cells along each side.
        classes: Names and attributions of each cell's classes, the largest first.
        title: Words at the top.
        about: Names and words: how it was made.
    """
    import jinja2
    import markupsafe

    check_writable(path)
    pictures = np.round(255 * np.asarray(as_pictures(images))).astype("uint8")
    script = _file("atlas.js")
    shown = [_cell(*one) for one in zip(cells, pictures, classes)]
    text = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = text.from_string(_file("atlas.html.jinja")).render(
        title=title,
        about=dict(about),
        grid=grid,
        cells=shown,
        names=sorted({cell["label"] for cell in shown}),
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")


def _cell(cell, picture, classes):
    """Returns what the template shows of a cell."""
    words = ", ".join(f"{name} ({share:.2g})" for name, share in classes[:_MOST_CLASSES])
    return {
        **{"row": cell.row + 1, "column": cell.column + 1, "label": classes[0][0], "address": data_address(picture)},
        "words": f"{cell.count} activations; {words}",
    }


def _file(name):
    return importlib.resources.files("vis.concepts").joinpath(name).read_text("utf-8")
