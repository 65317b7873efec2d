"""Pictures of measurements: a row for each method, with its interval beside where random maps lie; and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vis.metrics.tables import by_rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GOOD, _MIDDLING, _POOR, _OTHER = "#1b7837", "#b35806", "#b2182b", "#666666"
_LOOKS = {
    "better than chance and edges": _GOOD,
    "better than chance": _GOOD,
    "not better than an edge filter": _MIDDLING,
    "indistinguishable from random": _POOR,
}


def interval_figure(table, random) -> Figure:
    """Returns a figure with a panel for each metric and fill.

    Args:
        table: The records, see `vis.metrics.Evaluation`.
        random: Dict from `(method, metric, fill)` to the numbers of random maps `(B, N)`.
    """
    groups: dict[tuple, list] = {}
    for record in table:
        groups.setdefault((record["metric"], record["fill"]), []).append(record)
    rows = max(len(records) for records in groups.values())
    figure, axes = _panels(len(groups), (5.2, 0.32 * rows + 1.1))
    for axis, ((metric, fill), records) in zip(axes, groups.items()):
        for place, record in enumerate(by_rank(records)[::-1]):
            _draw_row(axis, place, record, random.get((record["method"], metric, fill)))
        axis.set_yticks(range(len(records)), [record["method"] for record in by_rank(records)[::-1]], fontsize=8)
        axis.set_title(_title(metric, fill, records[0]["higher_is_better"]), fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
    return figure


def _title(metric, fill, higher):
    return f"{metric}{f', {fill}' if fill else ''} ({'higher' if higher else 'lower'} is better)"


def _draw_row(axis, place, record, random):
    if random is not None and len(random) > 1:
        low, high = np.quantile(random.mean(axis=1), [0.025, 0.975])
        axis.fill_betweenx([place - 0.35, place + 0.35], low, high, color="0.85", linewidth=0)
    colour = _LOOKS.get(record["verdict"], _OTHER)
    if record["low"] is not None and record["interval"] == "samples":
        axis.plot([record["low"], record["high"]], [place, place], color=colour, linewidth=1.5)
    axis.plot([record["mean"]], [place], "o", color=colour, markersize=5)


def curve_figure(curves, fractions) -> Figure:
    """Returns a figure of mean curves, a panel for each metric and fill.

    Args:
        curves: Dict from `(method, metric, fill)` to `(N, steps + 1)`.
        fractions: Dict from `(metric, fill)` to the places of the steps.
    """
    groups: dict[tuple, dict] = {}
    for (method, metric, fill), values in curves.items():
        groups.setdefault((metric, fill), {})[method] = values
    figure, axes = _panels(len(groups), (4.6, 3.2))
    for axis, ((metric, fill), methods) in zip(axes, groups.items()):
        for method, values in methods.items():
            axis.plot(fractions[metric, fill], values.mean(axis=0), label=method, linewidth=1.4)
        axis.set_title(f"{metric}{f', {fill}' if fill else ''}", fontsize=9)
        axis.set_xlabel(f"part {'shown' if metric == 'insertion' else 'hidden'}", fontsize=8)
        axis.set_ylabel("score", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, frameon=False)
    return figure


def _panels(count, size):
    from vis.utils.figures import ShownFigure

    columns = min(2, count)
    rows = -(-count // columns)
    figure = ShownFigure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]
