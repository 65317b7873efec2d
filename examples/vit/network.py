"""A real vision transformer, ViT-S/14, whose decoder marks what stands out in a picture.

`python examples/vit/network.py` prints how salient four photographs are, and where most.
"""

import pathlib

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent / "data"
PHOTOS = DATA.parents[1] / "imagenet" / "data" / "photos"
NAMES = ("cat", "espresso", "rocket", "officer")
SIZE, PATCH, WIDTH, HEADS, BLOCKS = 224, 14, 384, 6, 12
GRID = SIZE // PATCH  # patches along each side
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue
# TensorFlow has no convolution of the other format on a CPU, so the global setting is not asked.
FORMAT = {"data_format": "channels_last"}


def saliency_vit(weights=DATA / "vit_s14_int8.npz"):
    """Returns the network, a Functional model of images `(N, 224, 224, 3)` as `prepare` returns them.

    Its output `(N, 224, 224, 1)` is the saliency of each pixel, 0 to 1. It ends in a sigmoid. In between there are 257
    tokens: the class token, then 16x16 patches row by row.

    Args:
        weights: File of the weights, or `None` for random ones. Default: the trained ones, in `data/`.
    """
    inputs = keras.Input((SIZE, SIZE, 3), name="images")
    x = _tokens(inputs)
    for i in range(BLOCKS):
        x = _block(x, f"block{i}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.Cropping1D((1, 0), name="without_class")(x)
    outputs = _decoded(layers.Reshape((GRID, GRID, WIDTH), name="grid")(x))
    model = keras.Model(inputs, outputs, name="saliency_vit")
    if weights is not None:
        _load_weights(model, weights)
    return model


def _tokens(images):
    """Adds the class token in front of the patches, and to all of them where they are."""
    patches = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="patch", **FORMAT)(images)
    patches = layers.Reshape((GRID * GRID, WIDTH), name="patches")(patches)
    # The class token is the same for all images: entry 0 of a table that has no other.
    zeros = ops.zeros_like(patches[:, :1, 0], dtype="int32")
    token = layers.Embedding(1, WIDTH, name="class_token")(zeros)
    x = layers.Concatenate(axis=1, name="with_class")([token, patches])
    places = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1) - 1
    return layers.Add(name="tokens")([x, layers.Embedding(GRID * GRID + 1, WIDTH, name="position_embedding")(places)])


def _block(x, name):
    """Adds attention, then a network of two dense layers, each to what it takes."""
    normal = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attended = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")(normal, normal)
    x = layers.Add(name=f"{name}_attention_add")([x, attended])
    normal = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    wide = layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_mlp_fc1")(normal)
    return layers.Add(name=f"{name}_mlp_add")([x, layers.Dense(WIDTH, name=f"{name}_mlp_fc2")(wide)])


def _decoded(x):
    """Widens the grid of patches to the size of the image, and narrows its channels to one."""
    for k, filters in ((1, 256), (2, 128), (3, 64)):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", name=f"decoder_up{k}", **FORMAT)(x)
        x = layers.BatchNormalization(epsilon=1e-5, name=f"decoder_bn{k}")(x)
        x = layers.ReLU(name=f"decoder_relu{k}")(x)
    x = layers.Conv2D(1, 1, name="decoder_final", **FORMAT)(x)
    x = layers.Resizing(SIZE, SIZE, interpolation="bilinear", name="resized", **FORMAT)(x)
    return layers.Activation("sigmoid", name="saliency")(x)


def _load_weights(model, path):
    with np.load(path) as arrays:
        stored = {name.removesuffix("/q").replace("/", "_"): name for name in arrays.files}
        for variable in model.weights:
            name = stored[_stored_name(variable.path)]
            value = arrays[name].astype("float32")
            if name.endswith("/q"):
                value = value * arrays[name.removesuffix("q") + "scale"]
            variable.assign(np.reshape(value, variable.shape))


def _stored_name(path):
    """Returns the name of a weight in the file, with "_" for "/"."""
    tables = {"class_token/embeddings": "tokens_cls", "position_embedding/embeddings": "tokens_position"}
    return tables.get(path, path.replace("/", "_").replace("attention_output", "output"))


def prepare(images):
    """Returns pictures as the network takes them, float32 `(N, 224, 224, 3)`, about -2 to 3.

    Args:
        images: List of RGB pictures `(H, W, 3)`, or an array of them, with values 0 to 255. What is no square gets
            black borders.
    """
    squares = np.stack([fit(image) for image in images])
    return ((squares / 255 - MEAN) / DEVIATION).astype("float32")


def fit(image):
    """Returns a picture in the middle of a black square, float32 `(224, 224, 3)` in 0 to 255.

    Args:
        image: RGB picture `(H, W, 3)` with values 0 to 255.
    """
    image = np.asarray(image, "float32")
    height, width = (max(1, round(SIZE * length / max(image.shape[:2]))) for length in image.shape[:2])
    lower = np.einsum("ah,hwc->awc", _areas(image.shape[0], height), image)
    small = np.einsum("bw,awc->abc", _areas(image.shape[1], width), lower)
    square = np.zeros((SIZE, SIZE, 3), "float32")
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _areas(long, short):
    """Returns the share `(short, long)` that each pixel of a side has in each pixel of the side made shorter."""
    edges = np.arange(short + 1) * long / short
    pixels = np.arange(long)
    ends, starts = (np.clip(edge[:, None] - pixels, 0, 1) for edge in (edges[1:], edges[:-1]))
    return (ends - starts) * short / long


def load_photos(names=NAMES):
    """Returns photographs of the ImageNet example as the network sees them, uint8 `(N, 224, 224, 3)`.

    Args:
        names: Names of the files, without ".jpg". Default: all four.
    """
    pictures = [np.asarray(Image.open(PHOTOS / f"{name}.jpg").convert("RGB")) for name in names]
    return np.stack([np.round(fit(picture)).astype("uint8") for picture in pictures])


def main():
    """Prints the mean saliency of each photograph, and the largest and where it is."""
    saliency = saliency_vit().predict(prepare(load_photos()), verbose=0)[..., 0]
    for name, values in zip(NAMES, saliency):
        row, column = np.unravel_index(values.argmax(), values.shape)
        print(f"{name:9s} mean {values.mean():.3f}, largest {values.max():.3f} at row {row}, column {column}")


if __name__ == "__main__":
    main()
