"""What a wrong input looks like, and the code that mends it.

People give pictures as they have them: as a file, without the batch axis, with an alpha channel. A message that only
names two shapes leaves the rest to them; here the code is found that makes the one shape out of the other.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

_CHANNELS = (1, 3, 4)  # of pictures: grey, RGB, RGBA
_MOST_STEPS = 3  # in a row, that are tried
_ARRAY_LIKE = ("shape", "__array__", "__array_interface__", "__dlpack__")


def is_dataset(value) -> bool:
    """Tells whether a value gives batches one after the other: a data set, a loader of batches, a generator."""
    if isinstance(value, (Sequence, Mapping, str, bytes)) or any(hasattr(value, name) for name in _ARRAY_LIKE):
        return False
    kind = type(value)
    iterates = hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__")
    return iterates or hasattr(kind, "__next__") or hasattr(kind, "num_batches")


def columns_of(value) -> list | None:
    """Returns the names of the columns of a data frame, or of one of its rows.

    `None` for what has none, and where they are only counted, as in a data frame made of an array.
    """
    names = getattr(value, "columns", getattr(value, "index", None))
    if names is None or callable(names) or not hasattr(value, "to_numpy"):
        return None
    return None if list(names) == list(range(len(names))) else [str(one) for one in names]


def is_picture(value) -> bool:
    """Tells whether a value is an image of Pillow."""
    return hasattr(value, "getbands") and hasattr(value, "convert")


def first_text(value):
    """Returns the first text or path in a value, in lists and arrays too; `None` where something else is first."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    if isinstance(value, np.ndarray) and value.dtype.kind in "SUO" and value.size:
        value = value.flat[0]
    return value if isinstance(value, (str, bytes, os.PathLike)) else None


def wrong_kind(name, value, shape=None, form="channels_last"):
    """Returns the error for what is no array: nothing, text, the path of a file, or a data set; `None` for the rest.

    Args:
        name: The argument's name.
        value: What came.
        shape: The shape that is wanted, batch axis first, if it is known.
        form: Where the channels are in it.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":  # as a rule
        return None
    if value is None:
        return ValueError(f"`{name}` must be numbers, as an array. Received: None.")
    if is_dataset(value):
        return TypeError(
            f"`{name}` must be one batch, as an array. Received: {type(value).__name__}, which gives batches one after "
            "the other. For a data set use `explainer.stream(dataset)`; for one batch of it `next(iter(dataset))`, of "
            "which the first item is the inputs if it is a pair with the labels."
        )
    first = first_text(value)
    if first is None:
        return None
    several = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0
    in_rows = several and first_text(value[0]) is not value[0]
    load = _words_load(shape, form)
    code = f"np.concatenate([{load} for path in paths])" if several else load
    mend = f"Load a picture with `{code}`."
    if in_rows or (shape is not None and len(shape) != 4):
        mend = "Give the numbers that the model takes, such as the token ids of a text."
    return ValueError(
        f"`{name}` must be numbers. Received: {'a list of ' if several else ''}{_words_text(first)}. {mend}"
    )


def _words_text(value):
    text = value if isinstance(value, bytes) else str(os.fspath(value))
    return f"{'text' if isinstance(value, (str, bytes)) else 'a path'}, {text[:60]!r}"


def _words_load(shape, form):
    """Words how a picture is loaded in the size that a model takes."""
    options, axes = "", "[None]"
    if shape is not None and len(shape) == 4:
        size, channels = _split(shape, form)
        options = "" if None in size else f", target_size={tuple(size)}"
        if channels == 1:
            options, axes = options + ", grayscale=True", "[None, ..., None]"
    return f"vis.utils.utils.load_img(path{options}){axes}"


def _split(shape, form):
    """Returns `(sizes, channels)` of a shape with the batch axis."""
    return (shape[2:], shape[1]) if form == "channels_first" else (shape[1:-1], shape[-1])


def fits(given, shape) -> bool:
    """Tells whether an array's shape is the one that is wanted, in which `None` stands for any size."""
    return len(given) == len(shape) and all(s is None or g == s for g, s in zip(given[1:], shape[1:]))


def mend(name, value, shape, form="channels_last", batched=True) -> str:
    """Words what makes an array of the wrong shape fit, with the code; or returns nothing, if no few steps do.

    Args:
        name: The argument's name.
        value: What came, an array or something that NumPy makes one of.
        shape: The shape that is wanted, batch axis first.
        form: Where the channels are in it.
        batched: Whether the batch axis must be there.

    Examples:
        >>> mend("images", np.zeros((9, 7, 4)), (None, 9, 7, 3))
        'Add a batch axis to the one sample, take off the alpha channel: `images[None][..., :3]`.'
    """
    if hasattr(value, "iloc"):  # of pandas, whose objects take no other axes
        return _of_pandas(name, value, shape)
    given, code, words = _start(name, value, shape, form)
    if words and _is_done(given, shape, batched):
        return _sentence(words, code)
    tried = [(given, code, words)]
    for _ in range(_MOST_STEPS):
        tried = [
            (new, template.format(code), [*words, word])
            for given, code, words in tried
            for new, template, word in _steps(given, shape, form)
        ]
        for given, code, words in tried:
            if _is_done(given, shape, batched):
                return _sentence(words, code)
    return ""


def _of_pandas(name, value, shape):
    count = np.prod([size or 1 for size in shape[1:]], dtype=int)
    if len(shape) == 2 and np.shape(value) == (count,) and count > 1:
        return f"A row of a data frame is no batch: take it as `frame.iloc[[i]]`, or `{name}.to_numpy()[None]`."
    if len(shape) == 2 and count == 1 and len(np.shape(value)) == 1:
        return f"Make the column an array with two axes: `{name}.to_numpy()[:, None]`."
    return ""


def _sentence(words, code):
    text = ", ".join(dict.fromkeys(words))
    return f"{text[0].upper()}{text[1:]}: `{code}`."


def _is_done(given, shape, batched):
    return fits(given, shape) or (not batched and fits((1, *given), shape))


def _start(name, value, shape, form):
    """Returns `(shape, code, words)` of a value as an array; an image of Pillow is made one of the right mode."""
    if not is_picture(value):
        given = tuple(value.shape) if hasattr(value, "shape") else _shape_of(value)
        return given, name if hasattr(value, "shape") else f"np.asarray({name})", []
    code, words, (width, height) = name, ["make the image of Pillow an array"], value.size
    size, channels = _split(shape, form) if len(shape) == 4 else (shape[1:], None)
    mode = {1: "L", 3: "RGB"}.get(channels, value.mode)
    if value.mode != mode:
        code, words = f'{code}.convert("{mode}")', [*words, f"convert it from {value.mode}"]
    if len(size) == 2 and None not in size and (height, width) != tuple(size):
        code, words, (height, width) = f"{code}.resize({(size[1], size[0])})", [*words, "resize it"], size
    given = (height, width, 3) if mode == "RGB" else (height, width)
    return given if mode in ("L", "RGB") else _shape_of(value), f"np.asarray({code})", words


def _shape_of(value):
    return np.shape(value)


def _steps(given, shape, form):
    """Yields what may be done to an array: `(new shape, code, what it looked like)`."""
    rank, short = len(given), 0 < len(given) < len(shape)
    if short:
        yield (1, *given), "{}[None]", "add a batch axis to the one sample"
        if given[-1] not in _CHANNELS:
            yield (*given, 1), "{}[..., None]", "add the channel axis"
    if rank > len(shape):
        if given[0] == 1:
            yield given[1:], "{}[0]", "take off the first axis"
        if given[-1] == 1:
            yield given[:-1], "{}[..., 0]", "take off the channel axis"
    if rank == len(shape) == 4 or (short and rank == 3):
        yield from _channel_steps(given, _split(shape, form)[1], -1)
    if rank == len(shape) == 4:
        yield from _image_steps(given, shape, form)


def _channel_steps(given, wanted, axis):
    """Yields changes of the number of channels."""
    count = given[axis]
    new = (*given[:-1], wanted) if axis == -1 else (given[0], wanted, *given[2:])
    cut = "[..., :3]" if axis == -1 else "[:, :3]"
    if count == 4 and wanted == 3:
        yield new, "{}" + cut, "take off the alpha channel"
    if count == 4 and wanted == 1:
        yield new, f"np.mean({{}}{cut}, axis={axis}, keepdims=True)", "make RGBA grey"
    if count == 1 and wanted == 3:
        yield new, f"np.repeat({{}}, 3, axis={axis})", "make grey images RGB"
    if count == 3 and wanted == 1:
        yield new, f"np.mean({{}}, axis={axis}, keepdims=True)", "make RGB images grey"


def _image_steps(given, shape, form):
    """Yields changes of images `(N, ...)` of four axes."""
    size, channels = _split(shape, form)
    if form == "channels_first":
        yield from _channel_steps(given, channels, 1)
        yield (given[0], given[3], *given[1:3]), "np.moveaxis({}, -1, 1)", "move the channels first"
    else:
        yield (given[0], *given[2:], given[1]), "np.moveaxis({}, 1, -1)", "move the channels last"
    axes = {"channels_first": (2, 3, 1), "channels_last": (1, 2, 3)}
    for own_form in sorted(axes, key=lambda one: one != form):
        rows, columns, axis = axes[own_form]
        if given[axis] == channels and _is_resizable((given[rows], given[columns]), size):
            new = (given[0], channels, *size) if axis == 1 else (given[0], *size, channels)
            yield new, f'keras.ops.image.resize({{}}, {tuple(size)}, data_format="{own_form}")', "resize the images"


def _is_resizable(own, size):
    """Tells whether pictures are of another size; swapped sides are another mistake, long strips are no pictures."""
    return None not in size and sorted(own) != sorted(size) and max(own) <= 4 * min(own)
