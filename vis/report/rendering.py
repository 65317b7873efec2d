"""From what a page shows to its text: the template, and what is filled into it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math

import numpy as np

from vis.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, interval_ends, is_number, make_charts
from vis.report.packing import FINEST, Packed, pack_within
from vis.report.pictures import (
    MOST_STILL,
    SIGN_COLOURS,
    STRENGTH_COLOURS,
    blended,
    colour_range,
    colour_table,
    coloured,
    data_address,
    shrunk,
)

MOST_BYTES = 4_900_000  # of a page, while what is beside its maps leaves room for them
OPACITY = 0.6  # of the maps over their images, until it is changed
_ROW, _GAP, _SIZES = 1260, 10, (96, 224)  # CSS pixels: of a row on a wide screen, between pictures, and of pictures
_STATIC_PIXELS = 1_600_000  # of all pictures that stand in for the maps where scripts are off
_VERDICTS = {  # in words, their place in the order of verdicts, and their look
    "better than chance and edges": (0, "good"),
    "not better than an edge filter": (1, "middling"),
    "indistinguishable from random": (2, "poor"),
}
_FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}


def render(page) -> str:
    """Returns the text of a page, a `vis.report.Page`: rendered once without maps, to see what room they have."""
    maps = {str(name): np.asarray(value, "float32") for name, value in page.maps.items()}
    values = _values(page, maps)
    flat = [one for value in maps.values() for one in value]
    if not flat:
        return _filled(values, [])
    empty = _filled(values, [Packed("", one.min(), one.max() / FINEST, 0) for one in flat])
    return _filled(values, pack_within(flat, MOST_BYTES - len(empty.encode())))


def _filled(values, packed):
    """Returns the template with values and packed maps filled in."""
    data = values["data"] | {"maps": [_as_json(one, ends) for one, ends in zip(packed, values["ends"])]}
    levels = [round(most / one.step) for one, most in zip(packed, values["largest"]) if one.step]
    fineness = min(levels, default=FINEST)
    return filled("page", values | {"data": data, "fineness": fineness}, ("page.css",))


def filled(name: str, values: dict, styles: tuple) -> str:
    """Returns the template of a page with values, its styles and its script filled in.

    Args:
        name: Of the template and of the script.
        values: What the template names.
        styles: Files of styles, one after the other.
    """
    import markupsafe

    script = _file(f"{name}.js")
    own = {
        "style": markupsafe.Markup("\n".join(map(_file, styles))),
        "script": markupsafe.Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _template(f"{name}.html.jinja").render(values | own)


def _as_json(packed, ends):
    return {
        "text": packed.text,
        "origin": float(packed.origin),
        "step": float(packed.step),
        "order": packed.order,
        "ends": ends,
    }


def _template(name):
    """Returns the template; whatever is filled in is escaped."""
    import jinja2  # only where a page is written

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _file(name):
    return importlib.resources.files("vis.report").joinpath(name).read_text("utf-8")


def _values(page, maps):
    """Returns everything that the template names, but for the packed maps."""
    kinds = {"strength": STRENGTH_COLOURS, "sign": SIGN_COLOURS}
    tables = {name: colour_table(name) for names in kinds.values() for name in names}
    names = [str(one["method"]) for one in (*page.curves, *page.table)]
    methods = list(dict.fromkeys([*maps, *names]))
    charts = make_charts(page.curves, methods)
    signed = {name: bool(value.min() < 0) for name, value in maps.items()}
    ends = [colour_range(one, signed[name]) for name, value in maps.items() for one in value]
    return {
        **{"title": str(page.title), "call": str(page.call), "frame": _FRAME, "opacity": round(100 * OPACITY)},
        "in_a_row": int(np.clip(_ROW // (1 + len(maps)) - _GAP, *_SIZES)),
        "what": "image" if page.steps is None else "signal",
        "settings": [(str(name), str(value)) for name, value in page.settings.items()],
        "images": _images(page, maps, signed, ends, tables),
        "concepts": [_concept(one) for one in page.concepts],
        "methods": methods,
        "charts": charts,
        "rows": _rows(page.table),
        "groups": list(dict.fromkeys((str(one["metric"]), str(one["fill"])) for one in page.table)),
        **{"ends": ends, "largest": [_largest(one) for value in maps.values() for one in value]},
        "colours": kinds,
        "bars": {kind: data_address(tables[names[0]][None]) for kind, names in kinds.items()},
        "kinds": {"strength": not all(signed.values()), "sign": any(signed.values())},
        "data": _data(page, signed, charts, tables),
    }


def _largest(values):
    """Returns how far a map goes from the origin that `pack` gives it."""
    return float(np.abs(values - np.clip(0, values.min(), values.max())).max())


def _data(page, signed, charts, tables):
    """Returns what `page.js` reads, but for the maps."""
    height, width = page.images[0].shape[:2] if len(page.images) else (0, 0)
    return {
        **{"height": height, "width": width, "images": len(page.images)},
        "steps": page.steps,
        "signed": list(signed.values()),
        "tables": {name: base64.b64encode(table.tobytes()).decode() for name, table in tables.items()},
        "charts": [[line.values for line in chart.lines] for chart in charts],
    }


def _images(page, maps, signed, ends, tables):
    """Returns the pictures of each image: itself, and every map over it as it looks where scripts are off."""
    count = len(page.images)
    pixels = count * len(maps) * page.images[0][..., 0].size if count else 1
    share = (_STATIC_PIXELS / pixels) ** 0.5 if pixels else 1
    images = []
    for i, (image, (name, score)) in enumerate(zip(page.images, page.classes)):
        cells = []
        for j, (method, value) in enumerate(maps.items()):
            table = tables[(SIGN_COLOURS if signed[method] else STRENGTH_COLOURS)[0]]
            over = blended(image, coloured(value[i], ends[j * count + i], table), OPACITY)
            still = data_address(shrunk(over, share), MOST_STILL)
            cells.append({"method": method, "address": still, "range": _range(value[i])})
        images.append({"name": str(name), "score": worded(score), "address": data_address(image), "cells": cells})
    return images


def _concept(record):
    """Returns what is shown of a concept."""
    worth, pictures = record["importance"], [*record["pieces"], *record["maps"]]
    return {
        "name": str(record["name"]),
        "importance": None if worth is None else f"{worth:.2f}",
        "addresses": [data_address(picture, MOST_STILL) for picture in pictures],
        "pieces": len(record["pieces"]),
    }


def worded(value):
    """Words a number with three digits; what is no number becomes a dash."""
    if not is_number(value):
        return "\N{EN DASH}"
    words = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{float(value):#.3g}".rstrip(".")
    return words.replace("-", "\N{MINUS SIGN}")


def _range(values):
    """Words the lowest and the highest value of a map."""
    low, high = worded(values.min()), worded(values.max())
    return f"flat: {low} everywhere" if values.min() == values.max() else f"{low} to {high}"


def _rows(table):
    """Returns the rows of the table: words to read, numbers to sort by, and where the interval is drawn."""
    ends = interval_ends(table)
    return [_row(record, ends.get((str(record["metric"]), str(record["fill"])), (0.0, 0.0))) for record in table]


def _row(record, ends):
    order, look = _VERDICTS.get(str(record["verdict"]), (len(_VERDICTS), "other"))
    numbers = [record[key] for key in ("mean", "low", "high")]
    mean, low, high = (_score(number, ends) for number in numbers)
    has_interval = all(map(is_number, numbers))
    return {
        **{key: str(record[key]) for key in ("method", "metric", "fill", "verdict")},
        **{"mean": mean, "interval": f"{low} to {high}" if has_interval else "no interval"},
        **{"order": order, "look": look, "higher_is_better": bool(record["higher_is_better"])},
        "sort": {key: float(record[key]) if is_number(record[key]) else "" for key in ("mean", "percentile")},
        "percentile": f"{record['percentile']:.3g} %" if is_number(record["percentile"]) else "\N{EN DASH}",
        "places": [_place(number, ends) for number in numbers] if has_interval else None,
    }


def _score(value, ends):
    """Words a number of the table with as many decimals as all of its metric, so that they stand below each other."""
    largest = max(map(abs, ends))
    if not is_number(value) or not 1e-4 <= largest < 1e5:
        return worded(value)
    decimals = max(0, 2 - math.floor(math.log10(largest)))
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _place(number, ends):
    """Returns where a number lies between the ends of its metric, in percent."""
    low, high = ends
    return round(100 * (float(number) - low) / (high - low), 1) if high > low else 50.0
