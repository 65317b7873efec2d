"""Decodings: the boxes and scores in what a detector puts out, for the target `vis.targets.Box`.

A decoding is a function `decode(outputs) -> (boxes, scores)` or `-> (boxes, scores, objectness)`, made of `keras.ops`:

* boxes `(B, proposals, 4)`: left, top, right and bottom, as fractions of the image's width and height,
* scores `(B, proposals, classes)`: the probability of each class, 0 to 1: after the sigmoid or the softmax,
* objectness `(B, proposals)`: the probability that there is any object, 0 to 1, if the detector tells it apart.

Proposals are all that the detector puts out, before any are suppressed. Two decodings are here; for any other head
write such a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from vis.utils.validation import check_count, check_numeric, pick, shown

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

_LARGEST_GROWTH = 20.0  # of an anchor, as a logarithm: nothing is e^20 times as wide, and float32 holds it


def _from_start(boxes):
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def _from_center(boxes):
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)


# Keras's names: how (left, top, right, bottom) come out of the four numbers.
_FORMATS = {
    "xyxy": lambda boxes: boxes,
    "yxyx": lambda boxes: boxes[..., [1, 0, 3, 2]],
    "xywh": _from_start,
    "center_xywh": _from_center,
    "center_yxhw": lambda boxes: _from_center(boxes)[..., [1, 0, 3, 2]],
}
_FORMATS.update({f"rel_{name}": function for name, function in list(_FORMATS.items())})


def corners(name: str, boxes: ArrayLike, format: str, image_size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns boxes as left, top, right and bottom, in fractions of the image.

    Args:
        name: What the boxes are called in errors.
        boxes: `(..., 4)`.
        format: `"xyxy"`, `"yxyx"`, `"xywh"`, `"center_xywh"` or `"center_yxhw"` in pixels; with `"rel_"` in front, in
            fractions of the image. The names are Keras's (`keras.utils.bounding_boxes.convert_format`).
        image_size: Height and width of the image in pixels, for a format in pixels.

    Returns:
        Float32 array of the same shape.

    Raises:
        ValueError: The format is unknown, does not go with `image_size`, or the boxes are not `(..., 4)`.
        TypeError: `image_size` is no pair of whole numbers.

    Examples:
        >>> corners("boxes", [[10, 20, 30, 40]], "xywh", (100, 200)).round(2).tolist()
        [[0.05000000074505806, 0.20000000298023224, 0.20000000298023224, 0.6000000238418579]]
    """
    function, array = pick("format", format, _FORMATS), check_numeric(name, boxes)
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ValueError(f"`{name}` must be four numbers each. Received: shape {array.shape}, in `format={format!r}`.")
    is_relative = format.startswith("rel_")
    if is_relative != (image_size is None):
        raise ValueError(
            f"`image_size` must be given for boxes in pixels, and for them only. Received: format={format!r}, "
            f"image_size={shown(image_size)}. For pixels give `format={format.removeprefix('rel_')!r}` and the height "
            "and width of the image as the model sees it; for fractions of the image "
            f"`format={'rel_' + format.removeprefix('rel_')!r}` alone."
        )
    scale = (1, 1) if image_size is None else read_size(image_size)[::-1]
    return function(array) / np.array(scale * 2, "float32")


def read_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns height and width as two ints, or raises."""
    if not isinstance(image_size, (list, tuple)) or len(image_size) != 2:
        raise TypeError(f"`image_size` must be a pair, the height and the width. Received: {shown(image_size)}.")
    height, width = (check_count("image_size", one, 1) for one in image_size)
    return height, width


class Anchors:
    """The decoding of a head that moves and scales anchors, as that of RetinaNet does.

    Of the outputs, `"bbox_regression"` `(B, anchors, 4)` tells where the centre of each anchor goes, in widths and
    heights of the anchor, and the logarithm of how many times as wide and high it gets; `"cls_logits"` `(B, anchors,
    classes)` is each class's score before a sigmoid of its own. There is no objectness.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4; Ren et al. 2015, "Faster R-CNN",
    equation 2.

    Args:
        anchors: `(anchors, 4)`, in the order of the outputs.
        image_size: Height and width in pixels of the image that the anchors are for, if they are in pixels.
        format: The anchors' format, as of `vis.targets.Box`. Default `"xyxy"`, in pixels.

    Raises:
        ValueError: The anchors are not `(anchors, 4)`, have no size, or the format is unknown.

    Examples:
        >>> decode = Anchors([[0, 0, 50, 50], [50, 0, 100, 50]], (100, 100))
        >>> moved = {"bbox_regression": np.array([[[0.5, 0, 0, 0], [0, 0, 0, 0]]]), "cls_logits": np.zeros((1, 2, 3))}
        >>> np.array(ops.convert_to_numpy(decode(moved)[0])).tolist()
        [[[0.25, 0.0, 0.75, 0.5], [0.5, 0.0, 1.0, 0.5]]]
    """

    def __init__(self, anchors: ArrayLike, image_size: tuple[int, int] | None = None, format: str = "xyxy") -> None:
        boxes = corners("anchors", anchors, format, image_size)
        self._sizes = boxes[..., 2:] - boxes[..., :2]
        if boxes.ndim != 2 or not (self._sizes > 0).all():
            raise ValueError(
                "`anchors` must be (anchors, 4), each with a width and a height above 0. Received: shape "
                f"{boxes.shape} in `format={format!r}`."
            )
        self._centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._key = boxes.tobytes()

    def __call__(self, outputs: Any) -> tuple:
        """Returns boxes and scores."""
        moves, logits = _entries(outputs, "bbox_regression", "cls_logits")
        if moves.shape[1] != len(self._sizes):
            raise ValueError(
                f"`anchors` must be one for each row of the outputs. Received: {len(self._sizes)} anchors and "
                f"{moves.shape[1]} rows. They depend on the size of the image: give that which the model is called on."
            )
        sizes, centers = map(ops.convert_to_tensor, (self._sizes, self._centers))
        centers = moves[..., :2] * sizes + centers
        sizes = ops.exp(ops.minimum(moves[..., 2:], _LARGEST_GROWTH)) * sizes
        return ops.concatenate([centers - sizes / 2, centers + sizes / 2], axis=-1), ops.sigmoid(logits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchors) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Anchors({len(self._sizes)})"


def retinanet(model: keras.Model, image_size: tuple[int, int] | None = None) -> Anchors:
    """Returns the decoding of a `RetinaNetObjectDetector` of keras-hub, with the model's own anchors.

    Args:
        model: The detector. Not changed.
        image_size: Height and width of the images that it is called on. Default `None`: those of its input, if they
            are fixed.

    Raises:
        TypeError: The model has no `anchor_generator`.
        ValueError: The size of the images is not known.
    """
    generator = getattr(model, "anchor_generator", None)
    if generator is None:
        raise TypeError(
            f"`model` must be a RetinaNetObjectDetector of keras-hub, which has an `anchor_generator`. Received: "
            f"{shown(type(model).__name__)}. For anchors of your own use `vis.detectors.Anchors`; for another head "
            "write a function."
        )
    known = tuple(model.inputs[0].shape[1:3]) if image_size is None else read_size(image_size)
    if None in known:
        raise ValueError(
            f"`image_size` must be given, as the model takes images of any size. Received: an input of shape "
            f"{tuple(model.inputs[0].shape)}. Give the height and width of the images that you explain."
        )
    levels = generator(np.zeros((1, *known, 3), "float32"))
    anchors = np.concatenate([ops.convert_to_numpy(level) for level in levels.values()])
    return Anchors(anchors, known, generator.bounding_box_format)


def d_fine(outputs: Any) -> tuple:
    """Decodes what D-FINE of keras-hub puts out, and other heads of that form (DETR's with a sigmoid).

    Args:
        outputs: Dict with `"pred_boxes"` `(B, queries, 4)`, the centre, the width and the height as fractions of the
            image, and `"logits"` `(B, queries, classes)`, each class's score before a sigmoid of its own.

    Returns:
        Boxes `(B, queries, 4)` and scores `(B, queries, classes)`. There is no objectness.

    Examples:
        >>> outputs = {"pred_boxes": np.array([[[0.5, 0.5, 0.5, 1.0]]]), "logits": np.array([[[0.0]]])}
        >>> [ops.convert_to_numpy(part).tolist() for part in d_fine(outputs)]
        [[[[0.25, 0.0, 0.75, 1.0]]], [[[0.5]]]]
    """
    boxes, logits = _entries(outputs, "pred_boxes", "logits")
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return ops.concatenate([centers - halves, centers + halves], axis=-1), ops.sigmoid(logits)


def _entries(outputs, *names):
    if not isinstance(outputs, dict) or not set(names) <= set(outputs):
        has = f"a dict of {', '.join(map(repr, outputs))}" if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(
            f"`decode` is for outputs that hold {' and '.join(map(repr, names))}. Received: {shown(has, 120)}. For "
            "another head write a function of the outputs, see vis.detectors."
        )
    return [ops.cast(outputs[name], "float32") for name in names]
