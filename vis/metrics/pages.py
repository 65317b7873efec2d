"""An evaluation as a page for a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.report import Page
from vis.report.flat import Flat, flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STRAIGHT = 1e-6


def page_of(evaluation, title: str, most: int, concepts: Sequence[Mapping[str, Any]] = ()) -> Page:
    """Returns what `vis.report.write_page` takes; of vectors, tables and texts, without pictures.

    Args:
        evaluation: A `vis.metrics.Evaluation`.
        title: Words at the top.
        most: How many images are shown.
        concepts: What is shown of concepts.
    """
    maps = {name: values[:most] for name, values in evaluation.maps.items()}
    shown = flat(evaluation.inputs[:most], maps) or Flat([], {}, [])
    count, settings = len(evaluation.classes), evaluation.settings
    if 0 < len(shown.images) < count:
        settings = {**settings, "shown": f"the first {most} of {count} samples; all are measured"}
    return Page(
        title,
        settings,
        evaluation.call,
        shown.images,
        shown.maps,
        [(name + (words and f", {words}"), score) for (name, score), words in zip(evaluation.classes, shown.words)],
        evaluation.table,
        [curve for key, values in evaluation.curves.items() for curve in _curve(key, values, evaluation.fractions)],
        concepts,
        shown.steps,
    )


def _curve(key, values, fractions):
    """Yields the mean curve with its interval, if its steps are even, as pages draw them."""
    places = fractions[key[1:]]
    if len(places) < 2 or np.ptp(np.diff([0.0, *places] if places[0] else places)) > _STRAIGHT or places[0]:
        return
    mean, error = values.mean(axis=0), None
    if len(values) > 1:
        error = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    low, high = (None, None) if error is None else (mean - error, mean + error)
    yield {**dict(zip(("method", "metric", "fill"), key)), "values": mean, "low": low, "high": high}
