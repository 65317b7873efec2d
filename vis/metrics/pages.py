"""An evaluation as a page for a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.plotting import as_pictures
from vis.report import Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STRAIGHT = 1e-6


def page_of(evaluation, title: str, most: int, concepts: Sequence[Mapping[str, Any]] = ()) -> Page:
    """Returns what `vis.report.write_page` takes; of inputs that are no images, without pictures.

    Args:
        evaluation: A `vis.metrics.Evaluation`.
        title: Words at the top.
        most: How many images are shown.
        concepts: What is shown of concepts.
    """
    images = _images(evaluation.inputs)[:most]
    maps = {name: values[:most] for name, values in evaluation.maps.items()} if images else {}
    count, settings = len(evaluation.classes), evaluation.settings
    if 0 < len(images) < count:
        settings = {**settings, "shown": f"the first {most} of {count} samples; all are measured"}
    return Page(
        title,
        settings,
        evaluation.call,
        images,
        maps,
        evaluation.classes[:most] if images else (),
        evaluation.table,
        [curve for key, values in evaluation.curves.items() for curve in _curve(key, values, evaluation.fractions)],
        concepts,
    )


def _images(inputs):
    """Returns uint8 images, or none where the inputs are none."""
    is_image = inputs.ndim == 4 and inputs.shape[-1] in (1, 3)
    if not (is_image or (inputs.ndim == 3 and inputs.dtype.kind == "f" and min(inputs.shape[1:]) > 4)):
        return []
    return list(np.round(255 * as_pictures(inputs)).astype("uint8"))


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
