"""Curves and intervals as the points of drawings. The template makes SVG of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 400, 250  # of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 390, 10, 214  # of the field that the curves are drawn in
_MOST_TICKS = 5


@dataclasses.dataclass(frozen=True)
class Line:
    """One method's curve in a chart.

    Attributes:
        method: Number of the method, which chooses its colour.
        points: The curve, as SVG writes points.
        band: The area of its interval, likewise, or "" without one.
        values: The numbers themselves, `(steps + 1,)`.
    """

    method: int
    points: str
    band: str
    values: list[float]


@dataclasses.dataclass(frozen=True)
class Chart:
    """The curves of one metric and one fill.

    Attributes:
        metric: Name of the metric.
        fill: What removed positions were replaced by.
        lines: One for each method.
        ticks: Heights and the numbers beside them.
    """

    metric: str
    fill: str
    lines: list[Line]
    ticks: list[tuple[float, str]]


def make_charts(curves: Sequence[dict], methods: Sequence[str]) -> list[Chart]:
    """Returns a chart for each metric and fill, in the order in which they come.

    Args:
        curves: Records, see `vis.report.Page`.
        methods: Names, in the order that numbers them.

    Examples:
        >>> curve = {"method": "a", "metric": "deletion", "fill": "mean", "values": [1, 0], "low": None, "high": None}
        >>> make_charts([curve], ["a"])[0].lines[0].points
        '46.0,10.0 390.0,214.0'
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for curve in curves:
        groups.setdefault((str(curve["metric"]), str(curve["fill"])), []).append(curve)
    return [_chart(metric, fill, group, list(methods)) for (metric, fill), group in groups.items()]


def _chart(metric, fill, curves, methods):
    parts = [
        np.asarray(curve[key], "float64") for curve in curves for key in ("values", "low", "high") if _has(curve[key])
    ]
    values = np.concatenate(parts)
    ticks = nice_ticks(float(values.min()), float(values.max()))
    ends = ticks[0], ticks[-1]
    lines = [_line(curve, methods.index(curve["method"]), ends) for curve in curves]
    return Chart(
        metric, fill, lines, [(_height(tick, ends), f"{tick:.6g}".replace("-", "\N{MINUS SIGN}")) for tick in ticks]
    )


def _has(part):
    return part is not None


def _line(curve, method, ends):
    band = ""
    if _has(curve["low"]) and _has(curve["high"]):
        back = [*_points(curve["high"], ends)][::-1]
        band = " ".join([*_points(curve["low"], ends), *back])
    values = [float(f"{value:.5g}") for value in curve["values"]]
    return Line(method, " ".join(_points(curve["values"], ends)), band, values)


def _points(values, ends):
    across = np.linspace(LEFT, RIGHT, len(values))
    return [f"{x:.1f},{_height(float(value), ends):.1f}" for x, value in zip(across, values)]


def _height(value, ends):
    return BOTTOM - (BOTTOM - TOP) * (value - ends[0]) / (ends[1] - ends[0])


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns a few round numbers, evenly spaced, that begin at or below `low` and end at or above `high`.

    Examples:
        >>> nice_ticks(0.03, 0.92), nice_ticks(5, 5)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [5.0, 5.2])
    """
    span = high - low if high - low > 1e-9 * max(abs(low), abs(high), 1e-300) else max(abs(high), 1) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _MOST_TICKS >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, max(last, first + 1) + 1)]


def interval_ends(records: Sequence[dict]) -> dict[tuple[str, str], tuple[float, float]]:
    """Returns for each metric and fill of a table the lowest and the highest number of its intervals.

    Examples:
        >>> interval_ends([{"metric": "srg", "fill": "mean", "mean": 0.5, "low": 0.25, "high": None}])
        {('srg', 'mean'): (0.25, 0.5)}
    """
    numbers: dict[tuple[str, str], list[float]] = {}
    for record in records:
        kept = [float(record[key]) for key in ("mean", "low", "high") if is_number(record[key])]
        numbers.setdefault((str(record["metric"]), str(record["fill"])), []).extend(kept)
    return {group: (min(kept), max(kept)) for group, kept in numbers.items() if kept}


def is_number(value: object) -> bool:
    """Tells whether a value of a table is a finite number; `None` and NaN stand for one that there is not."""
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)
