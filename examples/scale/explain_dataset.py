"""Explains a data set on several processes, with Ray Data.

An explainer pickles together with its model, so an engine that sends objects to its workers can
carry it: each worker process holds one copy and explains its share of the batches. Writes the
maps as Parquet files and a picture of some of them into `output/`, and checks that one process
gets the same.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import os
import pathlib
import sys
import time

import keras
import numpy as np
import pandas
import ray
import ray.data

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "mnist"))

from digits import draw, grey, heat, load_digits, save, train

import vis

TOLERANCE = 1e-5


class Explain:
    """What a worker process does; Ray makes it once in each.

    Args:
        explainer: The explainer. Ray pickled it in the main process and unpickled it here.
        batch_size: How many evaluations of the model run at once.
    """

    def __init__(self, explainer, batch_size):
        self.explainer, self.batch_size = explainer, batch_size

    def __call__(self, batch):
        """Returns the maps of a batch, with what tells which images they belong to."""
        maps = self.explainer(batch["image"], batch_size=self.batch_size)
        return {"index": batch["index"], "map": maps, "process": np.full(len(maps), os.getpid())}


def start(address="local", workers=2):
    """Starts Ray, or joins a cluster.

    Args:
        address: Where the cluster is. Default "local": this machine, started for the occasion.
        workers: How many worker processes are wanted. Default 2.
    """
    options = {"num_cpus": workers + 1, "include_dashboard": False} if address == "local" else {}  # one to write files
    environment = {"env_vars": {"KERAS_BACKEND": keras.config.backend()}}  # maps of another backend differ a little
    ray.init(address=address, runtime_env=environment, **options)
    ray.data.DataContext.get_current().wait_for_min_actors_s = 300  # else the first one does all of so little


def explain(explainer, images, folder, workers=2, batch_size=64):
    """Writes the maps of images as Parquet files.

    Args:
        explainer: Any explainer whose result for a batch is one array.
        images: Array `(N, ...)`. For what does not fit into memory: `ray.data.read_images` and its kin.
        folder: Where the files go; on a cluster, a place that all machines see. What is there is replaced.
        workers: How many worker processes. Default 2.
        batch_size: How many images go to a worker at once. Default 64.
    """
    rows = [{"index": index, "image": image} for index, image in enumerate(images)]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch_size))
    dataset.map_batches(
        Explain,
        fn_constructor_args=(explainer, batch_size),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=batch_size,
    ).write_parquet(str(folder), mode="overwrite")


def read(folder):
    """Returns `(maps, processes)` as `explain` wrote them, in the order of the images."""
    table = pandas.read_parquet(folder).sort_values("index")  # Ray taught pandas what an array in a column is
    return np.stack(table["map"]), set(table["process"].tolist())


def check(maps, expected):
    """Raises unless the maps are those that one process made."""
    difference = float(np.abs(maps - expected).max())
    print(f"largest difference to the maps of one process: {difference:.1e}")
    if difference > TOLERANCE * np.abs(expected).max():
        raise RuntimeError("The worker processes made other maps than this one.")


def draw_some(images, maps, count=10):
    """Draws the first images and their maps."""
    hot = [vis.overlay(heat(one), grey(image), alpha=0.7) for one, image in zip(vis.heatmap(maps[:count]), images)]
    return draw([[grey(image) for image in images[:count]], hot], labels=["input", "Grad-CAM"], size=0.9)


def parse_options(arguments=None):
    """Returns the options of the command line: `quick`, `output`, `workers`, `address`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see only that everything runs; the pictures are poor")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "output", help="folder for all that is written")
    parser.add_argument("--workers", type=int, default=2, help="number of worker processes")
    parser.add_argument("--address", default="local", help="address of a Ray cluster")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(arguments)
    digits = load_digits()
    model = train(digits, options.output / "mnist.keras", quick=options.quick)
    images = digits[1][0][: 200 if options.quick else None]
    explainer = vis.GradCAM(model)

    begin = time.perf_counter()
    expected = explainer(images)
    print(f"one process: {len(images)} maps in {time.perf_counter() - begin:.1f} s")

    start(options.address, options.workers)
    try:
        begin = time.perf_counter()
        explain(explainer, images, options.output / "maps", options.workers)
        seconds = time.perf_counter() - begin
        maps, processes = read(options.output / "maps")
    finally:
        ray.shutdown()
    print(f"processes {sorted(processes)}: {len(maps)} maps in {seconds:.1f} s, most of it to start them")
    check(maps, expected)
    save(draw_some(images, maps), options.output / "ray_maps.png")


if __name__ == "__main__":
    main()
