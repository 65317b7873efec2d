"""Checks of what a report is made of: a sentence each."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import numpy as np

from vis.utils.validation import check_number, check_numeric, listed, shown

RECORD = ("method", "metric", "fill", "mean", "low", "high", "percentile", "verdict", "higher_is_better")
CONCEPT = ("name", "importance", "pieces", "maps")
CURVE = ("method", "metric", "fill", "values", "low", "high")


def check_images(images) -> tuple[int, int] | None:
    """Returns the rows and columns that all images have, or `None` without images; raises for what are no images."""
    size = None
    for i, image in enumerate(_rows("images", images)):
        name, shape = f"images[{i}]", _check_picture(f"images[{i}]", image)
        size = size or shape[:2]
        if shape[:2] != size:
            raise ValueError(
                f"`images` must all be of one size, as the maps are. Received: {size} and, for `{name}`, {shape[:2]}. "
                "Resize them to what the model takes."
            )
    return size


def _check_picture(name, image):
    """Returns the shape of a picture, or raises where it is none."""
    shape = np.shape(image)
    if getattr(getattr(image, "dtype", None), "name", "") != "uint8":
        raise TypeError(
            f"`{name}` must be a uint8 array (H, W, 3). Received: {_words(image)}. Bytes of any images are "
            "`np.round(255 * vis.plotting.as_pictures(images)).astype('uint8')`."
        )
    if len(shape) != 3 or shape[-1] != 3 or not np.size(image):
        grey = len(shape) == 2 or shape[-1:] == (1,)
        mend = "Repeat the grey ones: `np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)`."
        raise ValueError(
            f"`{name}` must have the shape (H, W, 3). Received: shape {shape}. "
            f"{mend if grey else 'Give one image of red, green and blue, channels last.'}"
        )
    return shape


def _words(image):
    dtype = getattr(image, "dtype", None)
    return f"dtype {dtype}, shape {np.shape(image)}" if dtype is not None else shown(image)


def _rows(name, value):
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
        raise TypeError(f"`{name}` must be a list. Received: {shown(value)} ({type(value).__name__}).")
    return value


def check_maps(maps, count: int, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
    """Returns maps as float32 arrays `(N, H, W)`, or raises where they are not of so many images of this size."""
    if not isinstance(maps, Mapping):
        raise TypeError(f"`maps` must be a dict {{name: maps}}. Received: {shown(maps)} ({type(maps).__name__}).")
    read = {}
    for key, value in maps.items():
        name = f"maps[{shown(key, 40)}]"
        array = check_numeric(name, value)
        if size is None or array.shape != (count, *size):
            expected = (
                f"(N, H, W) = {(count, *(size or ()))}, as the images are" if count else "given with their images"
            )
            raise ValueError(
                f"`{name}` must be {expected}. Received: shape {array.shape}. Sum over channels (`maps.sum(-1)`), and "
                "enlarge coarse maps with `vis.utils.images.resize(maps, (H, W))`."
            )
        read[str(key)] = array
    return read


def check_classes(classes, count: int) -> None:
    """Raises unless there is a name and a score for each image."""
    if len(_rows("classes", classes)) != count:
        raise ValueError(
            f"`classes` must have a pair (name, score) for each image. Received: {len(classes)} for {count} images."
        )
    for i, pair in enumerate(classes):
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise TypeError(f"`classes[{i}]` must be a pair (name, score). Received: {shown(pair)}.")
        check_number(f"classes[{i}][1]", pair[1])


def check_table(table) -> None:
    """Raises unless all records have their keys, and numbers where those are due."""
    for i, record in enumerate(_rows("table", table)):
        _check_keys(f"table[{i}]", record, RECORD)
        for key in ("mean", "low", "high", "percentile"):
            value = record[key]
            if value is not None and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
                raise TypeError(
                    f"`table[{i}][{key!r}]` must be a number, or None where there is none. Received: {shown(value)}."
                )


def check_curves(curves) -> None:
    """Raises unless all curves have their keys, and finite numbers, as many in an interval as in its curve."""
    for i, curve in enumerate(_rows("curves", curves)):
        _check_keys(f"curves[{i}]", curve, CURVE)
        values = check_numeric(f"curves[{i}]['values']", curve["values"])
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(
                f"`curves[{i}]['values']` must be (steps + 1,), two numbers or more. Received: shape {values.shape}. "
                "Give the mean over the images."
            )
        for key in ("low", "high"):
            end = curve[key]
            if end is not None and check_numeric(f"curves[{i}][{key!r}]", end).shape != values.shape:
                raise ValueError(
                    f"`curves[{i}][{key!r}]` must be of the shape of its curve, {values.shape}, or None. Received: "
                    f"shape {np.shape(end)}."
                )


def check_concepts(concepts) -> None:
    """Raises unless all concepts have their keys, and pictures where those are due."""
    for i, concept in enumerate(_rows("concepts", concepts)):
        _check_keys(f"concepts[{i}]", concept, CONCEPT)
        if concept["importance"] is not None:
            check_number(f"concepts[{i}]['importance']", concept["importance"])
        for key in ("pieces", "maps"):
            for j, picture in enumerate(_rows(f"concepts[{i}][{key!r}]", concept[key])):
                _check_picture(f"concepts[{i}][{key!r}][{j}]", picture)


def check_steps(steps) -> None:
    """Raises unless it is a number above 0, or `None`."""
    if steps is not None and check_number("steps", steps) <= 0:
        raise ValueError(f"`steps` must be above 0, or None where columns are no steps. Received: {shown(steps)}.")


def _check_keys(name, record, keys):
    if not isinstance(record, Mapping):
        raise TypeError(f"`{name}` must be a dict. Received: {shown(record)} ({type(record).__name__}).")
    missing = [key for key in keys if key not in record]
    if missing:
        raise ValueError(
            f"`{name}` must have the keys {', '.join(keys)}. Received: none named {listed(missing)}. Where a number is "
            "not known, give None."
        )


def check_settings(settings) -> None:
    """Raises unless it is a dict."""
    if not isinstance(settings, Mapping):
        raise TypeError(f"`settings` must be a dict of names and words. Received: {shown(settings)}.")
