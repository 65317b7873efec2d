"""Explains a data set batch by batch, in constant memory.

`explainer.stream` takes a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader` or any
iterable of batches, reads one batch at a time and yields its maps. Writes one file of maps a
batch and a picture of some of them into `output/`.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import pathlib
import shutil
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


def write(explainer, dataset, folder):
    """Writes the maps of a data set, one file a batch, and returns the files.

    Args:
        explainer: Any explainer whose result for a batch is one array.
        dataset: See `vis.methods.explainer.Explainer.stream`.
        folder: Where the files go. What is there is replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = []
    for number, maps in enumerate(explainer.stream(dataset, verbose=1)):
        files.append(folder / f"maps_{number:05d}.npy")
        np.save(files[-1], maps)
    return files


def draw_some(images, maps, count=10):
    """Draws the first images and their maps."""
    rows = [[grey(image) for image in images[:count]], [heat(one) for one in vis.heatmap(maps[:count])]]
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
    files = write(vis.Saliency(model), dataset, options.output / "stream")
    print(f"wrote {len(files)} files, {files[0]} to {files[-1].name}")
    save(draw_some(images, np.load(files[0])), options.output / "stream_maps.png")


if __name__ == "__main__":
    main()
