"""Explains a data set on several processes, with Ray Data.

`vis.scale` carries an explainer with its model to worker processes: each holds one copy and explains its share of the
batches. Writes the maps as Parquet files and a picture of some of them into `output/`, and checks that one process gets
the same.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import pathlib
import sys
import time

import numpy as np
import ray

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "mnist"))

from digits import draw, grey, heat, load_digits, save, train

import vis
from vis import scale

TOLERANCE = 1e-5


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

    scale.start(options.workers, options.address)
    try:
        begin = time.perf_counter()
        scale.explain(explainer, images, options.output / "maps", workers=options.workers)
        seconds = time.perf_counter() - begin
        maps, processes = scale.read(options.output / "maps", len(images))
    finally:
        ray.shutdown()
    print(f"processes {sorted(processes)}: {len(maps)} maps in {seconds:.1f} s, most of it to start them")
    check(maps, expected)
    save(draw_some(images, maps), options.output / "ray_maps.png")


if __name__ == "__main__":
    main()
