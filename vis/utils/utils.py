"""Everyday helpers: copies of models, layers by name, images and labels."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.engine.copying import copy_layer, copy_model, require_graph
from vis.engine.graph import find_layer, last_layers, layers
from vis.engine.probabilities import probability_makers
from vis.engine.taps import shadowed
from vis.utils.images import (
    bgr2rgb,
    deprocess_input,
    normalize,
    random_array,
    stitch_images,
    to_bytes,
)
from vis.utils.labels import imagenet_labels
from vis.utils.validation import check_index, listify, near_names, shown, words_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from vis.utils.types import Indices, Tensor

__all__ = [
    "add_defaults_to_kwargs",
    "apply_modifications",
    "bgr2rgb",
    "deprocess_input",
    "draw_text",
    "find_layer",
    "find_layer_idx",
    "get_identifier",
    "get_img_shape",
    "listify",
    "load_img",
    "lookup_imagenet_labels",
    "normalize",
    "random_array",
    "reverse_enumerate",
    "slicer",
    "stitch_images",
    "swap_softmax",
]


def reverse_enumerate(iterable: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Enumerates from the end, with the indices counted from the start.

    Args:
        iterable: A sequence.

    Returns:
        Iterator of `(index, item)`.

    Examples:
        >>> list(reverse_enumerate("ab"))
        [(1, 'b'), (0, 'a')]
    """
    return zip(reversed(range(len(iterable))), reversed(iterable))


def add_defaults_to_kwargs(defaults: dict[str, Any] | None, **kwargs: Any) -> dict[str, Any]:
    """Returns keyword arguments completed by defaults.

    Args:
        defaults: Dict of default values, or `None`. Not changed.
        **kwargs: Given values; they win.

    Returns:
        New dict.

    Examples:
        >>> add_defaults_to_kwargs({"a": 1, "b": 2}, b=3)
        {'a': 1, 'b': 3}
    """
    return {**(defaults or {}), **kwargs}


def get_identifier(identifier: str | Callable, module_globals: dict[str, Any], module_name: str) -> Callable:
    """Returns a callable given by itself or by its name in a module.

    Args:
        identifier: A callable, or a name.
        module_globals: The module's `globals()`.
        module_name: Used in the message.

    Returns:
        The callable.

    Raises:
        ValueError: There is no callable of that name, or `identifier` is neither.

    Examples:
        >>> get_identifier("relu", vars(keras.activations), "activations").__name__
        'relu'
    """
    if callable(identifier):
        return identifier
    if isinstance(identifier, str):
        found = module_globals.get(identifier)
        if callable(found):
            return found
        names = [name for name, value in module_globals.items() if callable(value) and not name.startswith("_")]
        raise ValueError(f"Unknown {module_name}: {shown(identifier)}. {near_names(identifier, names)}")
    raise ValueError(
        f"Could not interpret the {module_name} identifier. Received: {shown(identifier)} "
        f"({type(identifier).__name__}), expected: a name or a callable."
    )


def apply_modifications(model: keras.Model, custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """Rebuilds a model, so that changes to its layers take effect.

    Change an attribute such as `model.layers[-1].activation` first. Nested models are
    reached; nothing is written to disk.

    Args:
        model: A built Functional or Sequential model. Not changed.
        custom_objects: Dict from names to custom classes and functions. Those of the
            model's own layers and activations are found by themselves.

    Returns:
        A new model with the changed activations, equal and independent weights, and the
        same compiled state, its optimizer's included.

    Raises:
        ValueError: The model is subclassed or not built, or a custom layer has no usable
            `get_config`.

    Warns:
        VisualizationWarning: The compiled state could not be copied.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(2, activation="softmax")]
        ... )
        >>> model.layers[-1].activation = keras.activations.linear
        >>> apply_modifications(model).layers[-1].activation.__name__
        'linear'
    """
    require_graph(model, "apply_modifications")
    return copy_model(model, custom_objects)


def swap_softmax(model: keras.Model, custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """Returns a copy of a model without the softmax or sigmoid at its end.

    Of several outputs, every one that ends so is swapped.

    Args:
        model: A built Functional or Sequential model whose last layer has a `softmax` or
            `sigmoid` activation, or is a `Softmax` layer. Nested models and wrappers are looked
            into, and behind layers that only rearrange. Not changed.
        custom_objects: See `apply_modifications`.

    Returns:
        A new model whose output is linear.

    Raises:
        ValueError: The model is subclassed or not built, or does not end in a softmax or
            sigmoid.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(2, activation="softmax")]
        ... )
        >>> swap_softmax(model).layers[-1].activation.__name__
        'linear'
    """
    require_graph(model, "swap_softmax")
    swapped = probability_makers(model)
    if not swapped:
        names = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in last_layers(model))
        raise ValueError(
            f"Model {model.name!r} does not end in a softmax or sigmoid. Received: last layer {names}. "
            "Its output is the score already: use the model as it is."
        )
    _check_layers(model, swapped)
    return copy_model(model, custom_objects, substitutes={id(layer): _linear for layer in swapped})


def _check_layers(model, operations):
    bare = [operation for operation in operations if not isinstance(operation, keras.Layer)]
    if bare:
        raise ValueError(
            f"swap_softmax can only swap what a layer makes. Received: model {model.name!r}, whose "
            f"{type(bare[0]).__name__.lower()} is a function of `keras.ops`. Make a model that ends before it: "
            "`keras.Model(model.inputs, scores)`. Explainers, such as vis.Saliency, leave it out by themselves."
        )


def _linear(layer):
    if isinstance(layer, keras.layers.Softmax):
        return keras.layers.Activation("linear", name=layer.name)
    inner = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer
    with shadowed(), shadowed([(inner, "activation", keras.activations.linear)]):
        return copy_layer(layer)


def find_layer_idx(model: keras.Model, layer_name: str) -> int:
    """Returns the index of a layer in `model.layers`.

    Args:
        model: A Keras model.
        layer_name: The layer's name.

    Returns:
        The index, counted from the start.

    Raises:
        ValueError: There is no layer of that name; near names are listed.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
        >>> find_layer_idx(model, "fc")
        0
    """
    names = [layer.name for layer in model.layers]
    if layer_name in names:
        return names.index(layer_name)
    nested = [path for path, _ in layers(model) if path.endswith("/" + str(layer_name))]
    hint = f"It is nested in another model: use the path {nested[0]!r}." if nested else near_names(layer_name, names)
    raise ValueError(f"Model {model.name!r} has no layer named {shown(layer_name)}. {hint}")


def get_img_shape(img: Tensor) -> tuple[int | None, ...]:
    """Returns the shape of a batch of images with the channels second.

    Args:
        img: Array, tensor or symbolic tensor of shape `(samples, dims..., channels)`, or
            `(samples, channels, dims...)` where `keras.config.image_data_format()` says so.

    Returns:
        Tuple `(samples, channels, dims...)`.

    Examples:
        >>> get_img_shape(np.zeros((5, 28, 20, 3)))
        (5, 3, 28, 20)
    """
    shape = tuple(img.shape)
    if len(shape) < 2:
        raise ValueError(f"`img` must have a batch and a channel axis at least. Received: shape {shape}.")
    if keras.config.image_data_format() == "channels_first":
        return shape
    return shape[:1] + shape[-1:] + shape[1:-1]


def load_img(
    path: str | os.PathLike, grayscale: bool = False, target_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Loads a picture from disk, upright: as its EXIF orientation says.

    Args:
        path: Path of an image file.
        grayscale: Whether to make it grey. Default `False`.
        target_size: `(rows, cols)` to resize to, bilinear. Default `None`: as it is.

    Returns:
        uint8 array, `(H, W, 3)`, or `(H, W)` for grey.

    Raises:
        ValueError: The file is missing, no picture or too large, or `target_size` is not a pair.
        TypeError: `path` is no path.
    """
    if not isinstance(path, (str, bytes, os.PathLike)) and not hasattr(path, "read"):
        raise TypeError(f"`path` must be the path of a picture. Received: {shown(path)}. For several, load each.")
    if target_size is not None and (not hasattr(target_size, "__len__") or len(target_size) != 2):
        raise ValueError(f"`target_size` must be a pair (rows, cols). Received: {shown(target_size)}.")
    from PIL import Image  # only where pictures are read

    try:
        with Image.open(path) as opened:
            if opened.mode[0] in "IF":  # which would be cut off, not scaled
                raise ValueError(
                    f"`path` must be a picture of 8 bits a channel. Received: {shown(str(path), 150)} of mode "
                    f"{opened.mode}. "
                    "Read it with imageio and scale it yourself."
                )
            image = _upright(opened).convert("L" if grayscale else "RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"`path` must be a picture of {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels at most. "
            f"Received: {shown(str(path), 150)}, which has more. Make a smaller copy of it first."
        ) from error
    except (OSError, SyntaxError) as error:  # the latter is how Pillow calls a broken PNG
        raise ValueError(
            f"`path` must be a picture that can be read. Received: {shown(str(path), 150)} ({words_error(error, 150)})."
        ) from error
    if target_size is not None and image.size != (target_size[1], target_size[0]):
        image = image.resize((target_size[1], target_size[0]), Image.Resampling.BILINEAR)
    return np.array(image, dtype="uint8")


def _upright(image):
    """Returns a picture turned as its EXIF orientation says; as it is stored where the EXIF data are damaged."""
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged data raise many kinds, and the pixels are well
        return image


def lookup_imagenet_labels(indices: Indices) -> list[str]:
    """Returns the English names of ImageNet classes.

    Args:
        indices: An index in [0, 999], or a sequence of them.

    Returns:
        List of names, one for each index.

    Raises:
        ValueError: An index is out of range.
        TypeError: An index is not an integer.

    Examples:
        >>> lookup_imagenet_labels([281, 967])
        ['tabby cat', 'espresso']
    """
    names = imagenet_labels()
    return [names[check_index("indices", index, len(names), "ImageNet")] for index in listify(indices)]


def draw_text(
    img: ArrayLike,
    text: str,
    position: tuple[float, float] = (10, 10),
    font: str = "FreeSans.ttf",
    font_size: float = 14,
    color: tuple[int, int, int] = (0, 0, 0),
) -> np.ndarray:
    """Writes text on a picture.

    Args:
        img: Array `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, values 0..255. Not changed.
        text: The text.
        position: `(x, y)` of its upper left corner in pixels. Default (10, 10).
        font: Name or path of a TrueType font; one that is not found is replaced by
            Pillow's own. Default "FreeSans.ttf".
        font_size: Size in pixels. Default 14.
        color: `(r, g, b)`, 0..255; a grey picture takes their mean. Default black.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: `img` is not a picture.

    Examples:
        >>> draw_text(np.full((40, 60, 3), 255, "uint8"), "cat").shape
        (40, 60, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    array = to_bytes(img)
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1)
    if not grey and (array.ndim != 3 or array.shape[-1] != 3):
        raise ValueError(f"`img` must have the shape (H, W), (H, W, 1) or (H, W, 3). Received: {array.shape}.")
    image = Image.fromarray(array.reshape(array.shape[:2]) if grey else array)
    try:
        loaded = ImageFont.truetype(font, font_size)
    except OSError:
        loaded = ImageFont.load_default(font_size)
    fill = int(np.mean(color)) if grey else tuple(color)
    with contextlib.closing(image):
        ImageDraw.Draw(image).text(position, str(text), fill=fill, font=loaded)
        return np.array(image).reshape(array.shape)


class _Slicer:
    """Writes slices as `(samples, channels, dims...)` whatever the data format.

    Examples:
        >>> x = np.zeros((1, 4, 4, 3))
        >>> x[slicer[:, 0, ...]].shape
        (1, 4, 4)
    """

    def __getitem__(self, item: Any) -> tuple:
        item = item if isinstance(item, tuple) else (item,)
        if keras.config.image_data_format() == "channels_first" or len(item) < 2:
            return item
        return item[:1] + item[2:] + item[1:2]


slicer = _Slicer()
