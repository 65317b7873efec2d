"""A real segmentation network that tells persons from what is behind them, and the photographs that it is tried on.

`python examples/segmentation/network.py` prints how much of four photographs it marks.
"""

import pathlib

import keras
import numpy as np
from keras import layers
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent / "data"
PHOTOS = DATA.parents[1] / "imagenet" / "data" / "photos"
NAMES = ("cat", "espresso", "rocket", "officer")
SIZE = 256
# TensorFlow has no convolution of the other format on a CPU, so the global setting is not asked.
FORMAT = {"padding": "same", "data_format": "channels_last"}
# Of each block: channels inside, channels that come out, kernel, stride, activation, channels of its gate.
BLOCKS = (
    (16, 16, 3, 2, "relu", 8),
    (72, 24, 3, 2, "relu", None),
    (88, 24, 3, 1, "relu", None),
    (96, 32, 5, 2, "hard_silu", 24),
    *[(128, 32, 5, 1, "hard_silu", 32)] * 2,
    *[(96, 32, 5, 1, "hard_silu", 24)] * 2,
)


def selfie_segmentation(weights=DATA / "selfie_segmentation.npz"):
    """Returns the network, a Functional model of images `(N, 256, 256, 3)` as `prepare` returns them.

    Its output `(N, 256, 256, 1)` is the probability of "person" for each pixel. It ends in a sigmoid.

    Args:
        weights: File of the weights, or `None` for random ones. Default: the trained ones, in `data/`.
    """
    inputs = keras.Input((SIZE, SIZE, 3), name="images")
    x = _convolved(inputs, 16, 3, "stem", "hard_silu", 2)
    kept = [x]
    for i, block in enumerate(BLOCKS):
        x = _block(x, *block, f"block{i}")
        kept += [x] if i in (0, 2) else []
    gate = _convolved(_mean(x, "head_mean"), 128, 1, "head_gate", "sigmoid")
    x = layers.Multiply(name="head_out")([_convolved(x, 128, 1, "head_conv", "relu"), gate])
    for i, beside in enumerate(reversed(kept)):
        x = _wider(x, beside, f"up{i}")
    outputs = layers.Conv2DTranspose(1, 2, strides=2, activation="sigmoid", name="segment", **FORMAT)(x)
    model = keras.Model(inputs, outputs, name="selfie_segmentation")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _convolved(x, filters, size, name, activation=None, stride=1):
    return layers.Conv2D(filters, size, strides=stride, activation=activation, name=name, **FORMAT)(x)


def _filtered(x, size, name, activation, stride=1):
    return layers.DepthwiseConv2D(size, strides=stride, activation=activation, name=name, **FORMAT)(x)


def _mean(x, name):
    return layers.GlobalAveragePooling2D(keepdims=True, data_format="channels_last", name=name)(x)


def _block(x, wide, channels, size, stride, activation, gate, name):
    """Widens, filters, gates by the mean of the whole picture, narrows, and adds what came in where it fits."""
    new = _convolved(x, wide, 1, f"{name}_expand", activation)
    new = _filtered(new, size, f"{name}_depthwise", activation, stride)
    if gate is not None:
        small = _convolved(_mean(new, f"{name}_mean"), gate, 1, f"{name}_se_reduce", "relu")
        new = layers.Multiply(name=f"{name}_se")([new, _convolved(small, wide, 1, f"{name}_se_expand", "sigmoid")])
    new = _convolved(new, channels, 1, f"{name}_project")
    fits = stride == 1 and x.shape[-1] == channels
    return layers.Add(name=f"{name}_out")([new, x]) if fits else new


def _wider(x, beside, name):
    """Doubles the grid, and adds as much of an earlier map of that size as a gate lets through."""
    channels = beside.shape[-1]
    x = layers.UpSampling2D(2, interpolation="bilinear", data_format="channels_last", name=f"{name}_upsample")(x)
    x = _convolved(x, channels, 1, f"{name}_reduce")
    gate = _mean(layers.Add(name=f"{name}_sum")([beside, x]), f"{name}_mean")
    gate = _convolved(_convolved(gate, channels, 1, f"{name}_gate1", "relu"), channels, 1, f"{name}_gate2", "sigmoid")
    x = layers.Add(name=f"{name}_merged")([layers.Multiply(name=f"{name}_gated")([beside, gate]), x])
    x = _convolved(x, channels, 1, f"{name}_conv", "relu")
    return layers.Add(name=f"{name}_out")([x, _filtered(x, 3, f"{name}_depthwise", "relu")])


def _load_weights(model, path):
    """Reads the arrays, whose names have a "/" after the first word."""
    with np.load(path) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                variable.assign(arrays[f"{layer.name.replace('_', '/', 1)}/{variable.name}"])


def prepare(photos):
    """Returns photographs `(N, 256, 256, 3)`, 0 to 255, as the network takes them: float32, 0 to 1."""
    return np.asarray(photos, "float32") / 255


def load_photos(names=NAMES, size=SIZE):
    """Returns photographs of the ImageNet example, uint8 `(N, size, size, 3)`.

    Args:
        names: Names of the files, without ".jpg". Default: all four.
        size: Their edge in pixels. Default 256, which is what the network sees.
    """
    pictures = [Image.open(PHOTOS / f"{name}.jpg").convert("RGB") for name in names]
    return np.stack([np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures])


def main():
    """Prints how much of each photograph is marked."""
    masks = selfie_segmentation().predict(prepare(load_photos()), verbose=0)
    for name, mask in zip(NAMES, masks):
        print(f"{name:9s} {(mask > 0.5).mean():.2f} of it is person")


if __name__ == "__main__":
    main()
