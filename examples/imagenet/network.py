"""EfficientNet-Lite0 with its ImageNet weights, and four photographs to try it on.

`python examples/imagenet/network.py` prints what the network sees in the photographs.
"""

import pathlib

import keras
import numpy as np
from keras import layers
from PIL import Image

from vis.utils import utils

DATA = pathlib.Path(__file__).resolve().parent / "data"
PHOTOS = ("cat", "espresso", "rocket", "officer")
STAGES = (  # repeats, kernel size, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# TensorFlow has no convolution of the other format on a CPU, so the global setting is not asked.
FORMAT = {"data_format": "channels_last"}


def efficientnet_lite0(classifier_activation="softmax", weights=DATA / "efficientnet_lite0_imagenet_f16.npz"):
    """Returns EfficientNet-Lite0, a Functional model of images `(N, 224, 224, 3)`.

    Args:
        classifier_activation: Activation of the last layer, "predictions"; `None` for scores
            instead of probabilities. Default "softmax".
        weights: File of the weights, or `None` for random ones. Default: those of ImageNet,
            in `data/`.
    """
    x = inputs = keras.Input((224, 224, 3))
    x = _convolved(x, "stem", 32, 3, strides=2)
    for i, block in enumerate(_blocks()):
        x = _block(x, f"block{i}", *block)
    x = _convolved(x, "head", 1280)
    x = layers.GlobalAveragePooling2D(name="pooling", **FORMAT)(x)
    outputs = layers.Dense(1000, activation=classifier_activation, name="predictions")(x)
    model = keras.Model(inputs, outputs, name="efficientnet_lite0")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _blocks():
    """Yields kernel size, stride, expansion and channels of each block."""
    for repeats, kernel_size, stride, expansion, channels in STAGES:
        for i in range(repeats):
            yield kernel_size, 1 if i else stride, expansion, channels


def _block(x, name, kernel_size, stride, expansion, channels):
    """Adds an inverted bottleneck: widen, filter in space, narrow, add the input."""
    before = x
    if expansion != 1:
        x = _convolved(x, f"{name}_expand", expansion * x.shape[-1])
    depthwise = layers.DepthwiseConv2D(
        kernel_size, strides=stride, padding="same", use_bias=False, name=f"{name}_dw_conv", **FORMAT
    )
    x = _activated(depthwise(x), f"{name}_dw")
    x = _convolved(x, f"{name}_project", channels, activate=False)
    if stride == 1 and channels == before.shape[-1]:
        x = layers.Add(name=f"{name}_add")([x, before])
    return x


def _convolved(x, name, filters, kernel_size=1, strides=1, activate=True):
    convolution = layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv", **FORMAT
    )
    return _activated(convolution(x), name, activate)


def _activated(x, name, activate=True):
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if activate else x


def _load_weights(model, path):
    with np.load(path) as arrays:
        for variable in model.variables:
            variable.assign(arrays[variable.path].astype("float32"))


def preprocess(images):
    """Scales pixels 0..255 as the network wants them, to about -1..1."""
    return (np.asarray(images, dtype="float32") - 127) / 128


def load_photos(size=(224, 224), names=PHOTOS):
    """Returns photographs of `data/photos`, uint8 `(N, *size, 3)`.

    Args:
        size: `(rows, columns)`. Default (224, 224).
        names: Names of the files, without ".jpg". Default: all four.
    """
    return np.stack([load_square(DATA / "photos" / f"{name}.jpg", size) for name in names])


def load_square(path, size=(224, 224)):
    """Returns the largest square in the middle of a picture, uint8 `(*size, 3)`."""
    image = utils.load_img(path)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize(size[::-1], Image.Resampling.BILINEAR))


def main():
    """Prints the five classes of highest probability for each photograph."""
    probabilities = efficientnet_lite0().predict(preprocess(load_photos()), verbose=0)
    for name, row in zip(PHOTOS, probabilities):
        best = np.argsort(-row)[:5]
        found = zip(utils.lookup_imagenet_labels(best), row[best])
        print(f"{name}:", ", ".join(f"{label} {probability:.3f}" for label, probability in found))


if __name__ == "__main__":
    main()
