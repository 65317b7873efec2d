"""Throughput of `stream` on JPEG files, decoding included, against a compiled loop on arrays in memory.

`python benchmarks/streams.py` writes 2,000 JPEG files, made of four photographs, into a temporary folder and explains
them with EfficientNet-Lite0: by `Saliency.stream`, which reads them in its thread, and by a hand-written compiled
gradient of the same score, on images that were decoded beforehand. `--quick` does so with 2,000 digits and the MNIST
network, whose gradient takes hardly longer than a small file takes to be opened.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

import keras
import numpy as np
from explainers import efficientnet_lite0, input_gradient, load_photos, preprocess, run_jax, run_tensorflow, run_torch
from PIL import Image

import vis

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "mnist"))
from digits import build_model, load_digits

BATCH, TARGET = 32, 3


class Files(keras.utils.PyDataset):
    """Images of JPEG files, in batches.

    Args:
        paths: The files.
        prepare: Function that makes a batch of pixels what the network takes.
    """

    def __init__(self, paths, prepare):
        super().__init__()
        self.paths, self.prepare = paths, prepare

    @property
    def num_batches(self):
        """The number of batches."""
        return -(-len(self.paths) // BATCH)

    def __getitem__(self, number):
        """Returns one batch, read from its files."""
        return self.prepare(np.stack([load(path) for path in self.paths[number * BATCH : (number + 1) * BATCH]]))


def load(path):
    """Returns the pixels of a file."""
    with Image.open(path) as image:
        return np.asarray(image)


def write_photos(folder, count):
    """Writes crops of the photographs, 224x224, and returns the files."""
    draw, photos = np.random.default_rng(0), load_photos((288, 288)).astype("uint8")
    for number in range(count):
        top, left = draw.integers(0, 64, 2)
        crop = photos[number % len(photos), top : top + 224, left : left + 224]
        Image.fromarray(crop).save(folder / f"{number:05d}.jpg", quality=90)
    return sorted(folder.glob("*.jpg"))


def write_digits(folder, count):
    """Writes digits, 28x28, and returns the files."""
    for number, digit in enumerate(load_digits()[1][0][:count]):
        Image.fromarray((255 * digit[..., 0]).astype("uint8")).save(folder / f"{number:05d}.jpg", quality=90)
    return sorted(folder.glob("*.jpg"))


def bare_gradient(model):
    """Returns the hand-written, compiled gradient of one output unit: a function of a batch."""
    run = {"tensorflow": run_tensorflow, "jax": run_jax, "torch": run_torch}[keras.config.backend()]

    def gradient(x, index):
        return input_gradient(lambda x: model(x, training=False)[:, index], x)

    function = run(gradient, model, compiled=True)
    return lambda batch: function(batch, TARGET)


def timed(run):
    """Returns the seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def run_stream(explainer, files, **options):
    """Explains files by a stream."""
    for _ in explainer.stream(files, TARGET, BATCH, **options):
        pass


def run_bare(gradient, arrays):
    """Explains arrays by the hand-written loop."""
    for batch in arrays:
        gradient(batch)


def ways(explainer, files, folder):
    """Returns the ways to explain files that are timed."""
    return {
        "stream": lambda: run_stream(explainer, files),
        "stream, prefetch=0": lambda: run_stream(explainer, files, prefetch=0),
        "stream, into=": lambda: explainer.stream(files, TARGET, BATCH, into=folder / f"{time.time_ns()}.npy"),
    }


def measure(model, paths, prepare, blocks, folder):
    """Prints a row for each way: the medians of blocks of files, in which all ways are timed in turn."""
    explainer, gradient, times = vis.Saliency(model), bare_gradient(model), {}
    warm = prepare(np.stack([load(path) for path in paths[:BATCH]]))
    for _ in range(3):
        gradient(warm), list(explainer.stream([warm, warm], TARGET, BATCH))
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]  # the last one may be smaller
    for block in range(blocks):
        files = Files([path for batch in batches[block::blocks] for path in batch], prepare)
        arrays = [files[number] for number in range(files.num_batches)]
        runs = {
            "bare loop on arrays": lambda arrays=arrays: run_bare(gradient, arrays),
            **ways(explainer, files, folder),
        }
        for name in list(runs)[block % len(runs) :] + list(runs)[: block % len(runs)]:
            times.setdefault(name, []).append(timed(runs[name]) / len(files.paths))
    decoding = statistics.median(timed(lambda: files[0]) / BATCH for _ in range(5))
    print(f"decoding one file, alone: {1000 * decoding:.2f} ms")
    bare = times["bare loop on arrays"]
    for name, own in times.items():
        ratio, fastest = statistics.median(b / o for b, o in zip(bare, own)), min(bare) / min(own)
        rate, share = 1 / statistics.median(own), sum(bare) / sum(own)
        print(f"{name:22s} {rate:8.1f} images/s   of the bare loop: {ratio:.3f} (median of the blocks)", end=", ")
        print(f"{fastest:.3f} (fastest blocks), {share:.3f} (all)", flush=True)


def main():
    """Prints one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits and the MNIST network")
    parser.add_argument("--images", type=int, default=2000, help="number of files")
    parser.add_argument("--blocks", type=int, default=9, help="parts of the files that are timed by themselves")
    arguments = parser.parse_args()
    print(f"{keras.config.backend()}, {arguments.images} files")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if arguments.quick:
            paths, prepare = write_digits(folder, arguments.images), lambda pixels: pixels[..., None] / np.float32(255)
            model = build_model()
            model.layers[-1].activation = keras.activations.linear
        else:
            paths, prepare = write_photos(folder, arguments.images), preprocess
            model = efficientnet_lite0(classifier_activation=None)
        measure(model, paths, prepare, arguments.blocks, folder)


if __name__ == "__main__":
    main()
