"""What a report shows, and the one call that writes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from vis.report import checks
from vis.report.rendering import render
from vis.utils.files import check_writable, whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import numpy as np


@dataclasses.dataclass(frozen=True)
class Page:
    """What `write_page` shows. Everything is checked when it is made; nothing is copied or changed.

    Without images and maps, as for texts and tables, a page has its table, curves and settings.

    Args:
        title: Words at the top.
        settings: Dict of what made the numbers, such as the library's version, the backend, the seed and the fills:
            names and words.
        call: The Python code that makes them again; a button copies it.
        images: uint8 arrays `(H, W, 3)`, all of one size. Default none.
        maps: Dict from the names of methods to maps `(N, H, W)` of finite numbers, raw: of any scale, signed or not.
            Methods with a negative value anywhere are drawn with 0 in white. Default none.
        classes: A pair `(name, score)` for each image. Default none.
        table: Records: dicts with the keys `method`, `metric`, `fill`, `mean`, `low` and `high` (the ends of the
            interval), `percentile` (the share of random maps that it beats, from 0 to 100), `verdict` and
            `higher_is_better`. Numbers that are not known are `None` or NaN. Default none.
        curves: Dicts with the keys `method`, `metric`, `fill`, `values` `(steps + 1,)`, and `low` and `high`, of the
            same shape or `None`. Default none.
        concepts: Dicts with the keys `name`, `importance` (a number or `None`), `pieces` and `maps`: lists of uint8
            arrays `(h, w, 3)`, as `vis.concepts.CRAFT.records` returns them. Default none.
        steps: For pictures of signals: how many steps a column of pixels stands for. Default `None`: positions are
            rows and columns.

    Raises:
        ValueError: Shapes or counts do not fit, values are not finite, or a key is missing.
        TypeError: Something is of the wrong kind.

    Examples:
        >>> page = Page("Two maps", {"seed": "0"}, "vis.evaluate(...)", [np.zeros((8, 8, 3), "uint8")],
        ...             {"Grad-CAM": np.ones((1, 8, 8))}, [("cat", 0.9)])
        >>> page.classes
        [('cat', 0.9)]
    """

    title: str
    settings: Mapping[str, str]
    call: str
    images: Sequence[np.ndarray] = ()
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    classes: Sequence[tuple[str, float]] = ()
    table: Sequence[Mapping[str, Any]] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    concepts: Sequence[Mapping[str, Any]] = ()
    steps: float | None = None

    def __post_init__(self):
        size = checks.check_images(self.images)
        checks.check_maps(self.maps, len(self.images), size)
        checks.check_classes(self.classes, len(self.images))
        checks.check_settings(self.settings)
        checks.check_table(self.table)
        checks.check_curves(self.curves)
        checks.check_concepts(self.concepts)
        checks.check_steps(self.steps)


def write_page(path: str | os.PathLike, page: Page) -> None:
    """Writes one HTML file that needs nothing else: no network, no other file.

    It shows the images and the maps over them, with their values under the pointer, a table that can be sorted, curves,
    and the settings and the call that made them. It is for the keyboard too, for dark rooms, small screens and paper;
    where scripts are off, pictures and the whole table stay. Its own policy forbids it to load anything.

    The values of maps are kept as finely as 5 MB allow, up to 16 bits, and the page says how finely: 4 images of
    224x224 pixels and 8 methods have all 16 bits, 16 images and 8 methods about 8 (where all maps are noise, 3). The
    page of many more images is larger.

    Args:
        path: Of the file; an existing one is replaced, once the new one is whole.
        page: What it shows.

    Raises:
        OSError: The file cannot be written. This is found before anything else is done.
        TypeError: `page` is no `Page`.

    Examples:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
        >>> write_page(path, Page("Nothing yet", {}, "vis.evaluate(...)"))
        >>> path.read_text("utf-8")[:15]
        '<!doctype html>'
    """
    check_writable(path)
    if not isinstance(page, Page):
        raise TypeError(f"`page` must be a `vis.report.Page`. Received: {type(page).__name__}.")
    text = render(page)
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
