"""Speed of the metrics on EfficientNet-Lite0, as ratios to the bare forward passes that they need.

`python benchmarks/metrics.py` compares deletion and insertion of eight images and `vis.evaluate` of four methods, and
prints what the imputation of one image takes. Xplique's deletion and insertion stand beside them where it is installed.
"""

import argparse
import statistics
import time

import numpy as np
from explainers import BATCH, Bare, efficientnet_lite0, keras, load_photos, preprocess
from timing import compare

import vis
from vis.engine.imputation import impute

STEPS, RANDOM = 10, 2
METHODS = ("one", "two", "three", "four")


def smooth(draw, *shape):
    """Returns random maps that are smooth, as those of most methods are."""
    from scipy import ndimage

    return ndimage.gaussian_filter(draw.normal(size=shape), (0, 8, 8))


def impute_rows(draw):
    """Prints how long imputation takes for smooth and for scattered holes."""
    image = smooth(draw, 3, 224, 224).transpose(1, 2, 0)
    for name, values in (("smooth", smooth(draw, 1, 224, 224)[0]), ("scattered", draw.normal(size=(224, 224)))):
        for part in (0.2, 0.5, 0.8):
            hidden, times = values > np.quantile(values, 1 - part), []
            for _ in range(5):
                start = time.perf_counter()
                impute(image, hidden)
                times.append(1000 * (time.perf_counter() - start))
            print(f"imputation, {name} holes of {part:.0%}: {statistics.median(times):.0f} ms", flush=True)


def xplique_row(model, images, maps, target, rounds):
    """Prints Xplique's deletion beside this one."""
    try:
        import tensorflow as tf
        from xplique.metrics import Deletion
    except ImportError as error:
        print(f"Xplique is not there: {error}")
        return
    rows = np.eye(1000, dtype="float32")[target]
    other = Deletion(model, images, rows, BATCH, baseline_mode=0.0, steps=STEPS, max_percentage_perturbed=1.0)
    own = vis.metrics.Deletion(model, 0.0, STEPS)
    given = tf.constant(maps, "float32")
    compare(
        "deletion, beside Xplique's",
        lambda i: own(images, maps, target, batch_size=BATCH),
        lambda i: other.evaluate(given),
        rounds=rounds,
    )


def main():
    """Prints one row for each metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds")
    rounds = 3 if parser.parse_args().quick else 5
    model = efficientnet_lite0(classifier_activation="softmax")
    images = np.repeat(preprocess(load_photos()), 2, axis=0)[:BATCH]
    draw, bare = np.random.default_rng(0), Bare(model)
    target = np.argmax(model.predict(images, verbose=0), axis=1)
    maps = smooth(draw, len(images), 224, 224)
    print(f"{keras.config.backend()}, EfficientNet-Lite0, {len(images)} images")

    def forward(index):
        return bare.forward(images, index)

    for metric in (vis.metrics.Deletion(model, steps=STEPS), vis.metrics.Insertion(model, steps=STEPS)):
        compare(
            f"{metric.name}, {STEPS} steps",
            lambda i, run=metric: run(images, maps, target, batch_size=BATCH),
            forward,
            scale=STEPS + 1,
            bare_calls=STEPS + 1,
            rounds=rounds,
        )
    methods = {name: smooth(draw, len(images), 224, 224) for name in METHODS}
    settings = {"fills": ["mean"], "baselines": RANDOM, "batch_size": BATCH, "model": model}
    batches = 2 + 2 * (STEPS - 1) * (len(methods) * (1 + RANDOM) + 2)  # two curves of each map; their ends are shared
    compare(
        f"evaluate, {len(methods)} methods, 3 metrics",
        lambda i: vis.evaluate(methods, images, target, **settings),
        forward,
        scale=batches,
        bare_calls=STEPS,
        rounds=3,
        warmups=1,
    )
    if keras.config.backend() == "tensorflow":
        xplique_row(model, images, maps, target, rounds)
    impute_rows(draw)


if __name__ == "__main__":
    main()
