"""Numbers as text: the table that `print(evaluation)` shows, and the same in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vis.utils.validation import cut

WIDTH = 100
_NAME, _NUMBER, _INTERVAL, _BEATS = 26, 9, 20, 8


def as_text(table: Sequence[dict[str, Any]], words: str) -> str:
    """Returns records as a table of at most 100 columns, a block for each metric and fill, best first.

    Args:
        table: The records, see `vis.metrics.Evaluation`.
        words: What stands below.
    """
    blocks = [_block(records) for records in _groups(table).values()]
    return "\n\n".join([*blocks, words] if words else blocks)


def _groups(table):
    groups = {}
    for record in table:
        groups.setdefault((record["metric"], record["fill"]), []).append(record)
    return groups


def _block(records):
    first = records[0]
    way = "higher" if first["higher_is_better"] else "lower"
    fill = f", hidden positions are {first['fill']!r}" if first["fill"] else ""
    head = f"{'':<{_NAME}} {'mean':>{_NUMBER}} {'95 % interval':>{_INTERVAL}} {'beats':>{_BEATS}}  verdict"
    lines = [_line(record) for record in by_rank(records)]
    return "\n".join([f"{first['metric']}{fill}: {way} is better", head, *lines])


def by_rank(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the records of one metric, best first."""
    sign = -1 if records[0]["higher_is_better"] else 1
    return sorted(records, key=lambda record: sign * record["mean"])


def _line(record):
    beats = "" if record["percentile"] is None else f"{record['percentile']:.0f} %"
    name, mean = cut(record["method"], _NAME), number(record["mean"])
    line = f"{name:<{_NAME}} {mean:>{_NUMBER}} {interval(record):>{_INTERVAL}} {beats:>{_BEATS}}  {record['verdict']}"
    return line.rstrip()


def interval(record: dict[str, Any]) -> str:
    """Words the interval of a record."""
    if record["low"] is None:
        return ""
    return f"{number(record['low'])} to {number(record['high'])}"


def number(value: float) -> str:
    """Words a number with three digits."""
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def as_markdown(table: Sequence[dict[str, Any]], words: str) -> str:
    """Returns records as one Markdown table, best first within each metric and fill."""
    head = ["method", "metric", "fill", "mean", "95 % interval", "beats random maps", "verdict"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for records in _groups(table).values():
        for record in by_rank(records):
            beats = "" if record["percentile"] is None else f"{record['percentile']:.0f} %"
            cells = [
                record["method"],
                record["metric"],
                record["fill"],
                number(record["mean"]),
                interval(record),
                beats,
            ]
            lines.append("| " + " | ".join([*map(_escaped, cells), record["verdict"]]) + " |")
    return "\n".join([*lines, *(["", words] if words else [])]) + "\n"


def _escaped(text):
    return str(text).replace("|", "\\|").replace("\n", " ")
