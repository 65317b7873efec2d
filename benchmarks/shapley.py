"""Speed of Shapley values and surrogates, as ratios to the bare forward passes that they need.

`python benchmarks/shapley.py` explains four photographs by each method on EfficientNet-Lite0, and a table of 1,000 rows
and 12 columns on a small network, beside shap's kernel explainer where it is installed. It prints which part of
KernelSHAP is least squares, and the peak of memory for few and for many coalitions.
"""

import argparse
import resource
import sys
import time

import numpy as np
from explainers import BATCH, LAYER, Bare, efficientnet_lite0, keras, load_photos, preprocess
from timing import compare, measure_elsewhere

import vis
from vis.engine.designs import Regression

ROWS, COLUMNS, COALITIONS, TABLE_BATCH = 1000, 12, 512, 1024
FEW, MANY = 1000, 20000


def mlp():
    """A small network for tables."""
    x = inputs = keras.Input((COLUMNS,))
    for name in ("first", LAYER):
        x = keras.layers.Dense(64, activation="relu", name=name)(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))


def photo_rows(rounds):
    """Prints one row for each method, at a tenth of its usual samples."""
    model = efficientnet_lite0(classifier_activation="softmax")
    images = preprocess(load_photos())
    bare, batch = Bare(model), np.repeat(images, BATCH // 4, axis=0)
    target = np.argmax(model.predict(images, verbose=0), axis=1)
    methods = {
        "ShapleyValues, 64 cells": (vis.ShapleyValues(model, num_samples=128, seed=0), 127),
        "KernelSHAP, 64 cells": (vis.KernelSHAP(model, num_samples=140, seed=0), 139),
        "LIME, 64 cells": (vis.LIME(model, num_samples=100, seed=0), 101),
        "Sobol, 16 cells": (vis.Sobol(model, grid=4, num_designs=6, seed=0), 108),
        "HSIC, 49 cells": (vis.HSIC(model, num_masks=100, seed=0), 100),
        "RISE, 16 features": (vis.RISE(model, num_masks=100, features=4, seed=0), 100),
    }
    for name, (explainer, evaluations) in methods.items():
        compare(
            name,
            lambda i, run=explainer: run(images, target, batch_size=BATCH),
            lambda i: bare.forward(batch, i),
            scale=evaluations * len(images) / BATCH,
            bare_calls=evaluations * len(images) // BATCH,  # as long as ours: the machine's speed changes meanwhile
            rounds=rounds,
            warmups=2,
        )


def table_rows(rounds):
    """Prints a table's rows: beside the bare passes, and beside shap."""
    model, draw = mlp(), np.random.default_rng(0)
    rows, typical = draw.normal(size=(ROWS, COLUMNS)).astype("float32"), np.zeros((1, COLUMNS), "float32")
    bare, chunk = Bare(model), np.repeat(rows, 2, axis=0)[:TABLE_BATCH]
    explainer = vis.KernelSHAP(model, baseline=typical[0], num_samples=COALITIONS, seed=0)
    compare(
        f"KernelSHAP, {ROWS} rows, {COALITIONS} coalitions",
        lambda i: explainer(rows, 1, batch_size=TABLE_BATCH),
        lambda i: bare.forward(chunk, i % 2),
        scale=ROWS * (COALITIONS - 1) / TABLE_BATCH,
        bare_calls=200,
        rounds=rounds,
        warmups=2,
    )
    shap_row(model, rows, typical, explainer)


def shap_row(model, rows, typical, explainer, some=20):
    """Prints how much longer shap takes for the same rows: some of them are timed."""
    try:
        import shap
    except ImportError as error:
        print(f"shap is not there: {error}")
        return
    other = shap.KernelExplainer(lambda x: model.predict(x, verbose=0, batch_size=TABLE_BATCH)[:, 1], typical)
    other.shap_values(rows[:2], nsamples=COALITIONS, silent=True)
    times = []
    for run in (
        lambda: other.shap_values(rows[:some], nsamples=COALITIONS, silent=True),
        lambda: explainer(rows, 1, batch_size=TABLE_BATCH),
        lambda: explainer(rows, 1),
    ):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    theirs = times[0] * ROWS / some
    print(f"shap.KernelExplainer, {ROWS} rows (from {some}): {theirs:.1f} s, {theirs / times[1]:.0f} x as long")
    print(f"with the default batch_size=32: {theirs / times[2]:.0f} x as long", flush=True)


def least_squares_row():
    """Prints how long the design and the least squares of one call take."""
    start = time.perf_counter()
    design = Regression(64, 1022, 0)
    made, scores = time.perf_counter(), np.random.default_rng(0).random((4, len(design.masks)))
    design.values(scores, scores[:, 0], scores[:, 1])
    solved = time.perf_counter()
    print(
        f"design of 1,024 samples: {1000 * (made - start):.1f} ms, solved: {1000 * (solved - made):.1f} ms", flush=True
    )


def peak(samples):
    """Prints the peak of memory, in MiB, with a number of samples."""
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.GlobalAveragePooling2D()])
    vis.KernelSHAP(model, num_samples=samples, seed=0)(np.ones((2, 64, 64, 3)), 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    """Prints one row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--peak", type=int, help="only print the peak of memory for so many samples")
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak)
        return
    rounds = 3 if arguments.quick else 5
    print(f"{keras.config.backend()}")
    table_rows(rounds)
    least_squares_row()
    few, many = (measure_elsewhere(sys.argv[0], "--peak", number) for number in (FEW, MANY))
    print(f"peak of memory: {few:.0f} MiB for {FEW} coalitions, {many:.0f} MiB for {MANY}", flush=True)
    photo_rows(rounds)


if __name__ == "__main__":
    main()
