"""Pictures of values of features: one sample's way from the baseline to its score, and many samples at once.

`vis.plotting` has these names too. Figures come back; no setting of Matplotlib is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.utils.validation import check_count, check_number, check_numeric, cut, is_integer, listed, printable, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

UP, DOWN, PLAIN = "#b2182b", "#2166ac", "#7f7f7f"  # the ends of "RdBu_r", and what is neither
_VALUES = "viridis"  # of the values of features, which have no sign
_LINE = 0.34  # inches, of a feature
_LETTERS = 28  # of a name
_BINS = 60  # of a swarm's width
_DOTS = 9  # beside one another in a swarm, at most, without a change of their distance
_CODES = 1e15  # whole numbers below are written out
_LABELLED = 8  # parts of a strip that are named, at most


def waterfall(
    values: ArrayLike,
    base: float,
    data: Any = None,
    feature_names: Sequence[str] | None = None,
    max_features: int = 10,
) -> Figure:
    """Returns a figure of one sample's way from the baseline's score to its own, feature by feature.

    Args:
        values: `(F,)`, such as a row of `by_feature(...).values`; NaN at the end is left out.
        base: The score of the baseline.
        data: The sample's own values, `(F,)`, written behind the names; a row of a data frame will do. Default none.
        feature_names: F names. Default: the columns of a data frame, or numbers.
        max_features: How many bars there are at most, at least 2; the smallest values are one bar together. Default 10.

    Returns:
        A Matplotlib `Figure`: the largest value at the top, the baseline's score at the bottom.

    Raises:
        ValueError: Shapes or names do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = waterfall([1.0, -3.0], 2.0, feature_names=["age", "dose"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['age', 'dose']
    """
    values, base = _read_one("values", values), check_number("base", base)
    labels = _labels(_read_names(feature_names, data, len(values)), _read_row(data, len(values)))
    order, most = _strongest(np.abs(values)), check_count("max_features", max_features, 2)
    order, rest = (order, []) if len(order) <= most else (order[: most - 1], order[most - 1 :])
    bars = [(labels[i], values[i]) for i in order]
    if len(rest):
        bars.append((f"{len(rest)} others", values[rest].sum()))
    figure, axis = _figure(len(bars))
    ends = base + np.cumsum([0.0, *(value for _, value in reversed(bars))])
    for row, ((_, value), start) in enumerate(zip(reversed(bars), ends)):
        axis.barh(row, value, left=start, height=0.7, color=_colour(value))
        _join(axis, row, start + value, row < len(bars) - 1)
        _write(axis, row, start, value)
    _mark_ends(axis, base, ends[-1], len(bars))
    _name_rows(axis, [label for label, _ in reversed(bars)])
    axis.set_xlabel("score")
    return figure


def bar(
    values: ArrayLike,
    errors: ArrayLike | None = None,
    data: Any = None,
    feature_names: Sequence[str] | None = None,
    max_features: int = 10,
) -> Figure:
    """Returns a figure of one bar a feature.

    Args:
        values: `(F,)`, drawn with their signs; or `(N, F)` of many samples, of which the mean of the absolute values is
            drawn.
        errors: Standard errors of one sample's values, `(F,)`, drawn as 95 % intervals; NaN draws none. Default none.
        data: The sample's own values, `(F,)`, or `(N, F)`; of many samples only the names are read. Default none.
        feature_names: F names. Default: the columns of a data frame, or numbers.
        max_features: How many features there are at most, the strongest. Default 10.

    Returns:
        A Matplotlib `Figure`, the strongest feature at the top.

    Raises:
        ValueError: Shapes or names do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> axis = bar([[1.0, -3.0], [2.0, 3.0]]).axes[0]
        >>> [float(patch.get_width()) for patch in axis.patches]
        [1.5, 3.0]
    """
    array = _read_values("values", values)
    several = array.ndim == 2
    lengths = np.abs(array).mean(axis=0) if several else array
    spread = None if errors is None else _read_errors(errors, lengths.shape, several)
    own = None if several else _read_row(data, len(lengths))
    labels = _labels(_read_names(feature_names, data, len(lengths)), own)
    order = _strongest(np.abs(lengths))[: check_count("max_features", max_features, 1)][::-1]
    figure, axis = _figure(len(order))
    colours = PLAIN if several else [_colour(value) for value in lengths[order]]
    margins = None if spread is None else 1.96 * spread[order]
    axis.barh(range(len(order)), lengths[order], 0.7, xerr=margins, color=colours, ecolor="0.2", capsize=2)
    axis.axvline(0, color="0.3", linewidth=0.8)
    _name_rows(axis, [labels[i] for i in order])
    axis.set_xlabel(_label("mean size of the values" if several else "share of the score", len(order), len(lengths)))
    return figure


def beeswarm(
    values: ArrayLike, data: Any = None, feature_names: Sequence[str] | None = None, max_features: int = 10
) -> Figure:
    """Returns a figure of many samples: a row a feature, a dot a sample.

    Args:
        values: `(N, F)`, such as `by_feature(...).values`.
        data: The samples' own values, `(N, F)`, which colour the dots from low to high, each feature between its 5th
            and 95th percentile (its ends where these are alike); a data frame will do. What is not a number, and a
            column of one value, is grey. Default none.
        feature_names: F names. Default: the columns of a data frame, or numbers.
        max_features: How many features there are at most, the strongest. Default 10.

    Returns:
        A Matplotlib `Figure`, the feature with the largest mean of absolute values at the top.

    Raises:
        ValueError: Shapes or names do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = beeswarm(np.array([[1.0, -3.0], [2.0, 3.0]]), np.array([[0, 1], [1, 0]]))
        >>> len(figure.axes[0].collections)
        2
    """
    array = _read_many("values", values)
    names = _read_names(feature_names, data, array.shape[1])
    table = None if data is None else _read_table(data, array.shape)
    order = _strongest(np.abs(array).mean(axis=0))[: check_count("max_features", max_features, 1)]
    figure, axis = _figure(len(order), 0.45)
    axis.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    span = np.ptp(array[:, order]) or 1.0
    for row, i in enumerate(order[::-1]):
        colours = PLAIN if table is None else _shades(table[:, i])
        places = row + _spread(array[:, i], span)
        axis.scatter(array[:, i], places, s=12, c=colours, linewidths=0)
    _name_rows(axis, [names[i] for i in order[::-1]])
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xlabel(_label("share of the score", len(order), array.shape[1]))
    if table is not None:
        _shade_bar(figure, axis, "value of the feature", ("low", "high"))
    return figure


def force(values: ArrayLike, base: float, data: Any = None, feature_names: Sequence[str] | None = None) -> Figure:
    """Returns a strip of one sample: what pushes its score up, from the left, and what pushes it down, from the right.

    Args:
        values: `(F,)`, such as a row of `by_feature(...).values`; NaN at the end is left out.
        base: The score of the baseline.
        data: The sample's own values, `(F,)`, written behind the names. Default none.
        feature_names: F names. Default: the columns of a data frame, or numbers.

    Returns:
        A Matplotlib `Figure`. The two sides meet at the score; the largest values are next to it, and the eight largest
        are named.

    Raises:
        ValueError: Shapes or names do not fit, or values are not finite.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> axis = force([1.0, -3.0], 2.0, feature_names=["age", "dose"]).axes[0]
        >>> [float(patch.get_x()) for patch in axis.patches]  # both sides meet at 2 + 1 - 3
        [-1.0, 0.0]
    """
    values, base = _read_one("values", values), check_number("base", base)
    labels = _labels(_read_names(feature_names, data, len(values)), _read_row(data, len(values)))
    score = base + values.sum()
    figure, axis = _figure(4, width=9)
    parts = [*_parts(values, score, 1), *_parts(values, score, -1)]
    for i, left, width in parts:
        axis.barh(0, width, left=left, height=1, color=_colour(values[i]), edgecolor="white", linewidth=0.8)
    for place, word in ((base, f"baseline {base:.4g}"), (score, f"score {score:.4g}")):
        axis.plot([place, place], [-0.5, 0.9], color="0.3", linewidth=1)
        axis.annotate(word, (place, 0.95 if word.startswith("s") else 1.45), ha="center", fontsize=9)
    axis.plot([base, base], [0.9, 1.4], color="0.3", linewidth=1)
    chosen = sorted(parts, key=lambda part: -part[2])[:_LABELLED]
    _name_parts(figure, axis, [(left + width / 2, labels[i], _colour(values[i])) for i, left, width in chosen])
    axis.spines[["left"]].set_visible(False)
    axis.set_yticks([])
    axis.set_xlabel(_label("score", len(chosen), len(parts), "named"))
    return figure


def dependence(
    values: ArrayLike,
    data: Any,
    feature: str | int,
    colour: str | int | None = None,
    feature_names: Sequence[str] | None = None,
) -> Figure:
    """Returns a figure of the values of one feature over its data: a dot a sample.

    Args:
        values: `(N, F)`, such as `by_feature(...).values`.
        data: The samples' own values, `(N, F)`; a data frame will do.
        feature: Which feature: its name or its number.
        colour: The feature whose data colour the dots: its name or its number. Default `None`: no colour.
        feature_names: F names. Default: the columns of a data frame, or numbers.

    Returns:
        A Matplotlib `Figure`.

    Raises:
        ValueError: Shapes or names do not fit, values are not finite, or there is no such feature.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> figure = dependence(np.array([[1.0, 3.0], [2.0, 3.0]]), np.array([[5, 1], [7, 0]]), 0)
        >>> figure.axes[0].collections[0].get_offsets().tolist()
        [[5.0, 1.0], [7.0, 2.0]]
    """
    array = _read_many("values", values)
    names, table = _read_names(feature_names, data, array.shape[1]), _read_table(data, array.shape)
    index = _index("feature", feature, names)
    other = None if colour is None else _index("colour", colour, names)
    for one in {index, other} - {None}:
        _check_column(names[one], table[:, one])
    figure, axis = _figure(8, width=6)
    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    shades = PLAIN if other is None else _shades(table[:, other])
    axis.scatter(table[:, index], array[:, index], s=16, c=shades, linewidths=0)
    axis.set_xlabel(names[index], parse_math=False)
    axis.set_ylabel("share of the score")
    if other is not None:
        low, high = _range(table[:, other])
        _shade_bar(figure, axis, names[other], (f"{low:.3g}", f"{high:.3g}"))
    return figure


# --- reading


def _read_values(name, values):
    if hasattr(values, "values") and hasattr(values, "base"):
        raise TypeError(f"`{name}` must be numbers. Received: {type(values).__name__}. Give its `values`.")
    array = np.asarray(values, "float64") if _is_numeric(values) else check_numeric(name, values).astype("float64")
    whole = ~np.isnan(array) if array.ndim == 1 else ~np.isnan(array).all(axis=0)
    if array.ndim in (1, 2) and array.size and whole.any():
        last = np.flatnonzero(whole)[-1] + 1  # samples with fewer features end with NaN
        array = array[..., :last]
    if array.ndim not in (1, 2) or not array.size or not np.isfinite(array).all():
        bad = f", {int((~np.isfinite(array)).sum())} of them not finite" if array.size else ""
        raise ValueError(
            f"`{name}` must be finite numbers, (F,) of one sample or (N, F) of many. Received: shape {array.shape}"
            f"{bad}. Give `explainer.by_feature(...).values`, or a row of it."
        )
    return array


def _is_numeric(values):
    try:
        return np.asarray(values).dtype.kind in "fiu"
    except (ValueError, TypeError):
        return False


def _read_one(name, values):
    array = _read_values(name, values)
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must be those of one sample, (F,). Received: shape {array.shape}. Choose a row, `{name}[0]`."
        )
    return array


def _read_many(name, values):
    array = _read_values(name, values)
    if array.ndim != 2:
        raise ValueError(
            f"`{name}` must be those of many samples, (N, F). Received: shape {array.shape}. For one sample, take "
            "`waterfall` or `bar`."
        )
    return array


def _read_errors(errors, shape, several):
    given = np.asarray(errors, "float64") if _is_numeric(errors) else check_numeric("errors", errors)
    array = np.nan_to_num(given[: shape[0]] if given.ndim == 1 else given)  # NaN says that there are none
    if several or array.shape != shape or (array < 0).any():
        raise ValueError(
            f"`errors` must be standard errors of one sample's values, shape {shape}, at least 0. Received: shape "
            f"{array.shape}. Choose the row of the sample."
        )
    return array


def _read_names(feature_names, data, count):
    """Returns as many names as there are features."""
    given = feature_names
    if given is None:
        given = getattr(data, "columns", getattr(data, "index", None))  # of a data frame, or of one of its rows
        given = None if callable(given) else given
    if given is None:
        return [f"feature {i}" for i in range(count)]
    if isinstance(given, (str, bytes)) or not hasattr(given, "__len__"):
        raise TypeError(f"`feature_names` must be a list of names. Received: {shown(given)}.")
    if len(given) != count:
        what = "`data` must have" if feature_names is None else "`feature_names` must be"
        raise ValueError(
            f"{what} {count} names, one for each feature. Received: {len(given)}. Where columns are grouped, one name "
            "(and one column of `data`) stands for all that is shown or hidden together."
        )
    return [_short(str(name)) for name in given]


def _short(name):
    """Returns a name that fits beside a bar: long ones often differ at their ends only."""
    half = (_LETTERS - 3) // 2
    return printable(name if len(name) <= _LETTERS else f"{name[:half]}...{name[-half:]}")


def _plain(data):
    return np.asarray(data.to_numpy() if hasattr(data, "to_numpy") else data)


def _read_row(data, count):
    """Returns words for the data of one sample, or `None`."""
    if data is None:
        return None
    row = _plain(data)
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.shape != (count,):
        raise ValueError(
            f"`data` must be the sample's own values, one for each of {count} features. Received: shape {row.shape}."
        )
    return [_short(_written(value)) if _is_number(value) else _short(str(value)) for value in row.tolist()]


def _written(value):
    """Words a number: whole ones, which may be codes, with all digits."""
    return f"{value:.0f}" if abs(value) < _CODES and value == round(value) else f"{value:.4g}"


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_float(value):
    return float(value) if isinstance(value, (bool, int, float)) else np.nan


def _read_table(data, shape):
    """Returns the data of many samples as floats; what is no number becomes NaN."""
    table = _plain(data)
    if table.shape != shape:
        raise ValueError(f"`data` must have the shape of the values, {shape}. Received: shape {table.shape}.")
    if table.dtype.kind in "fiub":
        return table.astype("float64")
    return np.array([[_as_float(one) for one in row] for row in table.tolist()])


def _check_column(name, column):
    if not np.isfinite(column).all():
        raise ValueError(
            f"`data` of {name!r} must be numbers. Received: {int((~np.isfinite(column)).sum())} that are none. Give "
            "words as numbers, and leave samples with gaps out."
        )


def _index(argument, feature, names):
    if names.count(feature) > 1:
        raise ValueError(f"`{argument}` {feature!r} is the name of {names.count(feature)} features. Give its number.")
    index = feature if is_integer(feature) else names.index(feature) if feature in names else None
    if index is None or not -len(names) <= index < len(names):
        raise ValueError(
            f"`{argument}` must be the name or the number of a feature. Received: {shown(feature)}. Choose from "
            f"{cut(listed(names), 200)}."
        )
    return int(index) % len(names)


# --- drawing


def _figure(rows, line=_LINE, width=7.0):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from vis.utils.figures import ShownFigure

    figure = ShownFigure(figsize=(width, 0.9 + line * max(rows, 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _label(what, shown_ones, count, how="shown"):
    """Words an axis, and how many features are left out of it."""
    return what if shown_ones == count else f"{what} (the strongest {shown_ones} of {count} features are {how})"


def _strongest(sizes):
    """Returns the numbers of features, the largest first."""
    return np.argsort(-sizes, kind="stable")


def _colour(value):
    return UP if value > 0 else DOWN if value < 0 else PLAIN


def _labels(names, words):
    return names if words is None else [f"{name} = {word}" for name, word in zip(names, words)]


def _name_rows(axis, labels):
    axis.set_yticks(range(len(labels)), labels, parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.use_sticky_edges = False  # bars would end at the frame
    axis.margins(x=0.16)


def _join(axis, row, place, goes_on):
    if goes_on:
        axis.plot([place, place], [row + 0.35, row + 0.65], color="0.5", linewidth=0.8)


def _write(axis, row, start, value):
    """Writes a value beside its bar, on the side to which it points."""
    side = 1 if value >= 0 else -1
    axis.annotate(
        f"{value:+.3g}",
        (start + value, row),
        (4 * side, 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        color=_colour(value),
        fontsize=9,
    )


def _mark_ends(axis, base, score, rows):
    for place, low, high, word in ((base, -0.9, 0, "baseline"), (score, rows - 1, rows - 0.1, "score")):
        axis.plot([place, place], [low, high], color="0.3", linewidth=1, linestyle=":", zorder=0)
        side = -0.95 if low < 0 else rows - 0.05
        axis.annotate(f"{word} {place:.4g}", (place, side), ha="center", va="top" if low < 0 else "bottom", fontsize=9)
    axis.set_ylim(-1.6, rows + 0.6)


def _spread(values, span):
    """Returns how far each dot of a row moves up or down so that dots side by side do not cover each other."""
    bins = np.floor(values / span * _BINS).astype(int)
    moved = np.zeros(len(values))
    for one in np.unique(bins):
        inside = np.flatnonzero(bins == one)
        steps = (np.arange(len(inside)) + 1) // 2 * np.where(np.arange(len(inside)) % 2, 1, -1)
        moved[inside[np.argsort(values[inside], kind="stable")]] = steps
    return moved * 0.4 / max(np.abs(moved).max(), _DOTS / 2)


def _shades(column):
    """Returns colours of a feature's data, from low to high; grey for what is no number, and where all is alike."""
    import matplotlib

    known = np.isfinite(column)
    found = np.full((len(column), 4), matplotlib.colors.to_rgba(PLAIN))
    if known.any():
        low, high = _range(column[known])
        if high > low:
            found[known] = matplotlib.colormaps[_VALUES](np.clip((column[known] - low) / (high - low), 0, 1))
    return found


def _range(column):
    """Returns the 5th and the 95th percentile, or the ends where these are alike, as of rare values."""
    low, high = np.percentile(column, [5, 95])
    return (low, high) if high > low else (column.min(), column.max())


def _shade_bar(figure, axis, label, ends):
    from matplotlib.cm import ScalarMappable

    drawn = figure.colorbar(ScalarMappable(cmap=_VALUES), ax=axis, fraction=0.03, pad=0.02, ticks=[0, 1])
    drawn.ax.set_yticklabels(ends)
    drawn.set_label(label, parse_math=False)
    drawn.outline.set_visible(False)


def _parts(values, score, side):
    """Returns `(feature, left end, width)` of what pushes to one side, the largest next to the score."""
    chosen = [i for i in np.argsort(-np.abs(values), kind="stable") if side * values[i] > 0]
    ends = np.cumsum([0.0, *np.abs(values[chosen])])
    return [
        (i, score - end if side > 0 else score + start, end - start) for i, start, end in zip(chosen, ends, ends[1:])
    ]


def _name_parts(figure, axis, places):
    """Writes names below a strip, in as many lines as they need so that none covers another."""
    axis.set_ylim(-4.2, 2.1)
    figure.draw_without_rendering()
    renderer, lines = figure.canvas.get_renderer(), []
    for place, label, colour in sorted(places):
        text = axis.annotate(label, (place, -1), ha="center", va="top", fontsize=8, color=colour, parse_math=False)
        box = text.get_window_extent(renderer)
        line = next((i for i, end in enumerate(lines) if box.x0 > end + 6), len(lines))
        lines[line:] = [box.x1] if line == len(lines) else [box.x1, *lines[line + 1 :]]
        text.set_position((place, -0.75 - 0.75 * line))
        axis.plot([place, place], [-0.5, -0.7 - 0.75 * line], color=colour, linewidth=0.6)
    axis.set_ylim(-1.6 - 0.75 * len(lines), 2.1)
