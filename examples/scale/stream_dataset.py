"""Explains a data set batch by batch, in constant memory.

`explainer.stream` takes a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader` or any
iterable of batches, and reads the next batches while the network works. Writes the maps into a file
and a picture of some of them into `output/`. Stop the script half way and start it again: it goes on.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import pathlib
import sys

import keras
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "mnist"))

from digits import draw, grey, heat, load_digits, save, train

import vis

OF_BACKEND = {"tensorflow": "tensorflow", "jax": "keras", "torch": "torch"}


class Digits(keras.utils.PyDataset):
    """Images and labels in batches; a data set of your own would read files here.

    Args:
        images: Array `(N, 28, 28, 1)`.
        labels: Array `(N,)`.
        batch_size: Images in a batch.
    """

    def __init__(self, images, labels, batch_size):
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size

    @property
    def num_batches(self):
        """The number of batches."""
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, number):
        """Returns one batch."""
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return self.images[part], self.labels[part]


def make_tensorflow(images, labels, batch_size):
    """Returns a `tf.data.Dataset`, which works on every backend."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size).prefetch(1)


def make_torch(images, labels, batch_size):
    """Returns a PyTorch `DataLoader`, which works on every backend."""
    import torch
    from torch.utils import data

    return data.DataLoader(data.TensorDataset(torch.tensor(images), torch.tensor(labels)), batch_size=batch_size)


DATASETS = {"tensorflow": make_tensorflow, "keras": Digits, "torch": make_torch}


def draw_some(images, maps, count=10):
    """Draws the first images and their maps."""
    rows = [[grey(image) for image in images[:count]], [heat(one) for one in vis.heatmap(np.array(maps[:count]))]]
    return draw(rows, labels=["input", "saliency"], size=0.9)


def parse_options(arguments=None):
    """Returns the options of the command line: `quick`, `output`, `data`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see only that everything runs; the pictures are poor")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "output", help="folder for all that is written")
    parser.add_argument(
        "--data", choices=DATASETS, default=OF_BACKEND[keras.config.backend()], help="kind of the data set"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(arguments)
    digits = load_digits()
    model = train(digits, options.output / "mnist.keras", quick=options.quick)
    images, labels = (array[: 200 if options.quick else None] for array in digits[1])
    dataset = DATASETS[options.data](images, labels, batch_size=64)
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"maps_{keras.config.backend()}{'_quick' if options.quick else ''}.npy"  # each is a run of its own
    maps = vis.Saliency(model).stream(dataset, "labels", verbose=1, into=options.output / name)
    print(f"{maps.filename} holds {maps.shape}")
    save(draw_some(images, maps), options.output / "stream_maps.png")


if __name__ == "__main__":
    main()
