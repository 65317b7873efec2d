"""A real face detector, BlazeFace (short range), and the photographs that it is tried on.

`python examples/detection/network.py` prints the faces that it finds in four photographs.

With JAX 0.10.2 on a CPU, what `jax.jit` compiles of this network is wrong: scores are off by as much as 169. Run the
examples on TensorFlow or PyTorch, or set `XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=` before Keras is imported.
"""

import pathlib

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent / "data"
PHOTOS = DATA.parents[1] / "imagenet" / "data" / "photos"
NAMES = ("cat", "espresso", "rocket", "officer")
SIZE = 128
# Channels of each block; those with a stride of 2 halve the grid.
CHANNELS = (24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88, 96, 96, 96, 96, 96)
STRIDED = (2, 5, 11)
GRIDS = ((16, 2, 10), (8, 6, 15))  # cells along a side, anchors in each, and the block whose output they read
POINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")  # of a face; right and left of the person
# TensorFlow has no convolution of the other format on a CPU, so the global setting is not asked.
FORMAT = {"padding": "same", "data_format": "channels_last"}


def blazeface(weights=DATA / "blazeface_short.npz"):
    """Returns the network, a Functional model of images `(N, 128, 128, 3)` as `prepare` returns them.

    It puts out a dict: `"scores"` `(N, 896, 1)`, of a face at each anchor, before the sigmoid, and `"boxes"` `(N, 896,
    16)`, see `decode`.

    Args:
        weights: File of the weights, or `None` for random ones. Default: the trained ones, in `data/`.
    """
    inputs = keras.Input((SIZE, SIZE, 3), name="images")
    x = layers.Conv2D(24, 5, strides=2, activation="relu", name="stem", **FORMAT)(inputs)
    blocks = []
    for i, channels in enumerate(CHANNELS):
        x = _block(x, channels, 2 if i in STRIDED else 1, f"block{i}")
        blocks.append(x)
    outputs = {"scores": _head(blocks, 1, "score"), "boxes": _head(blocks, 16, "box")}
    model = keras.Model(inputs, outputs, name="blazeface")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _block(x, channels, stride, name):
    """Adds a separable convolution to what it takes, which is pooled and widened with zeros where it must be."""
    new = layers.DepthwiseConv2D(3, strides=stride, name=f"{name}_depthwise", **FORMAT)(x)
    new = layers.Conv2D(channels, 1, name=f"{name}_pointwise", **FORMAT)(new)
    if stride > 1:
        x = layers.MaxPooling2D(2, name=f"{name}_pool", **FORMAT)(x)
    if channels > x.shape[-1]:
        x = ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, new]))


def _head(blocks, numbers, name):
    """Returns the numbers of each anchor `(N, 896, numbers)`: row by row, column by column, anchor by anchor."""
    parts = []
    for cells, anchors, block in GRIDS:
        x = layers.Conv2D(anchors * numbers, 1, name=f"{name}_stride{SIZE // cells}", **FORMAT)(blocks[block])
        parts.append(layers.Reshape((-1, numbers), name=f"{name}_flat{SIZE // cells}")(x))
    return layers.Concatenate(axis=1, name=f"{name}_all")(parts)


def _load_weights(model, path):
    with np.load(path) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                name = layer.name if layer.name in ("stem",) or "stride" in layer.name else layer.name.replace("_", "/")
                variable.assign(arrays[f"{name}/{variable.name}"])


def _anchors():
    """Returns the centres of the cells that the anchors stand for, x and y `(896, 2)` as fractions of the image."""
    points = []
    for cells, anchors, _ in GRIDS:
        rows, columns = np.indices((cells, cells))
        points.append(np.repeat(np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5, anchors, axis=0) / cells)
    return np.concatenate(points).astype("float32")


ANCHORS = _anchors()


def decode(outputs):
    """Returns boxes and scores of all anchors, as `vis.targets.Box` takes them.

    Args:
        outputs: What the network puts out. The first four numbers of a row of `"boxes"` are the centre, relative to the
            anchor, the width and the height, in pixels.
    """
    boxes = outputs["boxes"][..., :4] / SIZE
    centers, halves = boxes[..., :2] + ops.convert_to_tensor(ANCHORS), boxes[..., 2:] / 2
    corners = ops.concatenate([centers - halves, centers + halves], axis=-1)
    return corners, ops.sigmoid(ops.clip(outputs["scores"], -100, 100))


def find_faces(model, images, least=0.5, alike=0.3):
    """Returns for each image its faces: dicts with a `"score"`, a `"box"` `(4,)` and six `"points"` `(6, 2)`.

    Rows that overlap with the best one are merged with it: a mean, weighted by their scores.

    Args:
        model: The network.
        images: `(N, 128, 128, 3)`, as `prepare` returns them.
        least: Rows with a smaller score are left out. Default 0.5.
        alike: Intersection over union from which on two rows mean the same face. Default 0.3.
    """
    outputs = model(images)
    boxes, scores, numbers = map(ops.convert_to_numpy, (*decode(outputs), outputs["boxes"]))
    points = numbers[..., 4:].reshape(len(images), -1, 6, 2) / SIZE + ANCHORS[:, None]
    return [list(_merged(*parts, least, alike)) for parts in zip(boxes, scores[..., 0], points)]


def _merged(boxes, scores, points, least, alike):
    rows = [row for row in np.argsort(-scores) if scores[row] >= least]
    while rows:
        near = [row for row in rows if row == rows[0] or overlap(boxes[row], boxes[rows[0]]) > alike]
        weights = scores[near] / scores[near].sum()
        box, place = (np.tensordot(weights, values[near], 1) for values in (boxes, points))
        yield {"score": float(scores[near[0]]), "box": box, "points": place, "rows": len(near)}
        rows = [row for row in rows if row not in near]


def overlap(one, other):
    """Returns the intersection over the union of two boxes (left, top, right, bottom)."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = max(width, 0) * max(height, 0)
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def prepare(photos):
    """Returns square photographs `(N, H, H, 3)`, 0 to 255, as the network takes them: `(N, 128, 128, 3)`, -1 to 1."""
    return np.asarray(photos, "float32") / 127.5 - 1


def load_photos(names=NAMES, size=SIZE):
    """Returns photographs of the ImageNet example, uint8 `(N, size, size, 3)`.

    Args:
        names: Names of the files, without ".jpg". Default: all four.
        size: Their edge in pixels. Default 128, which is what the network sees.
    """
    pictures = [Image.open(PHOTOS / f"{name}.jpg").convert("RGB") for name in names]
    return np.stack([np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures])


def main():
    """Prints the faces."""
    model, photos = blazeface(), load_photos()
    for name, faces in zip(NAMES, find_faces(model, prepare(photos))):
        words = [f"{face['score']:.3f} at {face['box'].round(3)}, {face['rows']} rows" for face in faces]
        print(f"{name:9s} {'; '.join(words) or 'no face'}")


if __name__ == "__main__":
    main()
