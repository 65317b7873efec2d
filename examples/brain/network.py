"""A 3-D U-Net that marks the brain in a T1-weighted MRI volume of a whole head, and a head to try it on.

`python examples/brain/network.py` prints how much of the head it marks.
"""

import pathlib

import keras
import numpy as np
from keras import layers, ops

DATA = pathlib.Path(__file__).resolve().parent / "data"
# TensorFlow has no convolution of the other format on a CPU, so the global setting is not asked.
FORMAT = {"padding": "same", "data_format": "channels_last"}


def brain_unet3d(weights=DATA / "brain_unet3d.npz"):
    """Returns the network, a Functional model of volumes `(N, D, H, W, 1)` whose edges are multiples of 8.

    It was made for edges of 128. Its output is the probability of brain for each voxel, in the shape of the input.

    Args:
        weights: File of the weights, or `None` for random ones. Default: the trained ones, in `data/`.
    """
    x = inputs = keras.Input((None, None, None, 1))
    skipped = []
    for i, filters in enumerate((8, 16, 32)):
        x = _convolved(x, filters, f"down{i}_conv1")
        x = _convolved(x, filters, f"down{i}_conv2")
        skipped.append(x)
        x = layers.MaxPooling3D(2, data_format="channels_last", name=f"down{i}_pool")(x)
    for i, filters in ((2, 32), (1, 16), (0, 8)):
        x = layers.Conv3DTranspose(filters, 3, strides=2, use_bias=False, name=f"up{i}_transpose", **FORMAT)(x)
        x = layers.Concatenate(name=f"up{i}_concat")([x, skipped[i]])
        x = _convolved(x, filters, f"up{i}_conv")
    outputs = layers.Conv3D(1, 1, activation="sigmoid", name="final", **FORMAT)(x)
    model = keras.Model(inputs, outputs, name="brain_unet3d")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _convolved(x, filters, name):
    return layers.Conv3D(filters, 3, activation="relu", name=name, **FORMAT)(x)


def _load_weights(model, path):
    """Reads the arrays, whose names have a "/" where the layers' names have a "_"."""
    with np.load(path) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                variable.assign(arrays[f"{layer.name.replace('_', '/')}/{variable.name}"])


def load_head(edge=128):
    """Returns the head, float32 `(1, edge, edge, edge, 1)` in [0, 1].

    The axes of the volume are left to right (or right to left: its source does not say), back to front, and bottom to
    top.

    Args:
        edge: 128 (default), or a part of it such as 64 or 32: then means of neighbouring voxels.
    """
    with np.load(DATA / "head_t1_uint8.npz") as arrays:
        volume = arrays["volume"].astype("float32")
    step = len(volume) // edge
    means = volume.reshape(edge, step, edge, step, edge, step).mean(axis=(1, 3, 5))
    return (means / means.max())[None, ..., None]


def main():
    """Prints how much of the head the network marks as brain."""
    probabilities = ops.convert_to_numpy(brain_unet3d()(load_head()))
    print(f"brain: {(probabilities > 0.5).mean():.3f} of the volume")


if __name__ == "__main__":
    main()
