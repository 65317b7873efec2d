"""What the MNIST examples share: the digits, the network, and the drawing of figures."""

import argparse
import pathlib
import warnings

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from keras import layers

from vis.utils import utils

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE / "output"
SEED = 1337


def load_digits(full=False):
    """Returns `((x_train, y_train), (x_test, y_test))`.

    Args:
        full: Whether to use all 70,000 digits, which Keras downloads once. Default `False`:
            the 20,000 and 2,000 that lie in `data/`.

    Returns:
        Images `(N, 28, 28, 1)`, float32 in [0, 1], and labels `(N,)`, integers 0..9.
    """
    if full:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    else:
        with np.load(HERE / "data" / "mnist_20k.npz") as data:
            x_train, y_train, x_test, y_test = (data[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    return (_scaled(x_train), y_train.astype("int64")), (_scaled(x_test), y_test.astype("int64"))


def _scaled(x):
    return x[..., np.newaxis].astype("float32") / 255


def find_digit(labels, digit):
    """Returns the index of the first `digit` among `labels`."""
    return int(np.flatnonzero(labels == digit)[0])


def build_model():
    """Returns the untrained network: two convolutions, one pooling, two dense layers."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", name="preds"),
        ],
        name="mnist",
    )


def train(digits, path=OUTPUT / "mnist.keras", quick=False, retrain=False):
    """Returns the network, trained until it reads more than 97 % of the test digits, and evaluated.

    Args:
        digits: What `load_digits` returns.
        path: File that keeps the trained network; it is loaded from there next time.
            Default: "mnist.keras" in `output/` next to this file.
        quick: Whether to train on 1,000 digits only, once, to see that everything runs.
            Such a network is neither kept nor loaded. Default `False`.
        retrain: Whether to train even if there is a trained network. Default `False`.
    """
    (x_train, y_train), (x_test, y_test) = digits
    path = pathlib.Path(path)
    if path.exists() and not (quick or retrain):
        print(f"loading the trained network {path}")
        model = keras.models.load_model(path)
    elif quick:
        model = _fitted(x_train[:1000], y_train[:1000], batch_size=32)
    else:
        model = _fitted(x_train, y_train, batch_size=64)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test loss: {loss:.4f}, test accuracy: {accuracy:.4f}")
    return model


def _fitted(x, y, batch_size):
    keras.utils.set_random_seed(SEED)
    model = build_model()
    # One pass is enough, for the network keeps the mean of its weights over some 50 steps.
    optimizer = keras.optimizers.Adam(0.003, use_ema=True, ema_momentum=0.98)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=batch_size, verbose=2)
    return model


def grey(image):
    """Returns an image `(H, W)` or `(H, W, 1)` as a grey RGB picture, black to white."""
    image = np.round(255 * utils.normalize(np.reshape(image, image.shape[:2]).astype("float32")))
    return np.repeat(image[..., np.newaxis], 3, axis=-1).astype("uint8")


def heat(image):
    """Returns a map `(H, W)` of values in [0, 1] as a coloured RGB picture, black to yellow."""
    return matplotlib.colormaps["inferno"](image, bytes=True)[..., :3]


def draw(rows, titles=(), labels=(), size=1.3):
    """Returns a figure with a grid of pictures.

    Args:
        rows: List of rows, each a list of RGB pictures. A picture of one colour is marked
            as flat.
        titles: Words above the columns. Default: none.
        labels: Words to the left of the rows. Default: none.
        size: Width of a picture in inches. Default 1.3.
    """
    columns = len(rows[0])
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns * size + 1, len(rows) * size + 0.3), squeeze=False, layout="compressed"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for axis, picture in zip(axes.flat, [picture for row in rows for picture in row]):
        _draw_one(axis, picture)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    for axis, label in zip(axes[:, 0], labels):
        axis.set_ylabel(label, fontsize=10, rotation=0, ha="right", va="center")
    return figure


def _draw_one(axis, picture):
    axis.imshow(picture, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if (picture == picture[0, 0]).all():
        axis.text(0.5, 0.5, "flat", color="grey", ha="center", va="center", transform=axis.transAxes)


def save(figure, path):
    """Writes a figure, closes it and tells where it is."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    print(f"wrote {path}")


def parse_options(description, arguments=None):
    """Returns the options of the command line: `full`, `quick`, `retrain`, `output`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="train on all 60,000 digits, which Keras downloads")
    parser.add_argument("--quick", action="store_true", help="see only that everything runs; the pictures are poor")
    parser.add_argument("--retrain", action="store_true", help="train even if there is a trained network")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the network and the pictures")
    return parser.parse_args(arguments)


def warn_briefly():
    """Shows warnings as one line each: their first sentence."""
    warnings.showwarning = lambda message, *_, **__: print("vis warns:", str(message).split(". ")[0])


def prepare(options):
    """Returns the trained network and the test digits `(images, labels)`."""
    warn_briefly()
    digits = load_digits(options.full)
    path = options.output / ("mnist_full.keras" if options.full else "mnist.keras")
    return train(digits, path, quick=options.quick, retrain=options.retrain), digits[1]
