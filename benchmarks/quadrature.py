"""Integrated gradients with as many steps as a photograph needs, beside fixed ones, on EfficientNet-Lite0.

For each way: how many gradients, how much of the difference of the scores is missing, how far the map is from that of
1,024 points (the share of its absolute values), and the time of the four photographs as a ratio to 50 steps.
"""

import os
import statistics
import time

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

import keras
import numpy as np
from explainers import efficientnet_lite0, load_photos, preprocess

import vis

ROUNDS = 5


def main():
    """Prints a row for each way."""
    model, images = efficientnet_lite0(classifier_activation=None), preprocess(load_photos())
    ends, start = (model.predict(one, verbose=0) for one in (images, np.zeros_like(images)))
    classes = ends.argmax(axis=1)
    scores = (ends - start)[range(len(images)), classes]
    ways = {str(steps): vis.IntegratedGradients(model, steps) for steps in (25, 50, 100, "auto")}
    fine = vis.IntegratedGradients(model, 1024)(images, classes).sum(axis=-1)
    times = {name: [] for name in ways}
    for turn in range(ROUNDS + 2):
        for name, explainer in ways.items():
            begin = time.perf_counter()
            explainer(images, classes)
            times[name] += [time.perf_counter() - begin] if turn > 1 else []
    print(f"{keras.config.backend()}, 4 photographs")
    for name, explainer in ways.items():
        maps, counts = explainer.with_steps(images, classes)
        missing = np.abs(maps.sum(axis=(1, 2, 3)) - scores) / np.abs(scores)
        far = np.abs(maps.sum(axis=-1) - fine).sum(axis=(1, 2)) / np.abs(fine).sum(axis=(1, 2))
        ratio = statistics.median(a / b for a, b in zip(times[name], times["50"]))
        print(f"{name:>5} steps: {counts.tolist()} gradients, missing {missing.round(5).tolist()}", end=", ")
        print(f"far from 1,024 {far.round(3).tolist()}, time {ratio:.2f} of 50 steps", flush=True)


if __name__ == "__main__":
    main()
