"""Speed of feature visualisation, as ratios to hand-written compiled loops of the same evaluations.

`python benchmarks/feature_visualization.py` prints all rows, `--only channel` some.
"""

import argparse
import os
import pathlib
import sys

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch

import keras
import numpy as np
from explainers import input_gradient, peak_of_process
from mnist import mnist_network
from timing import compare, measure_elsewhere

import vis
from vis.callbacks import OptimizerCallback
from vis.losses import ActivationMaximization
from vis.parameterizations import Pixels

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES / "imagenet"))
from network import efficientnet_lite0

LAYER = "block10_project_bn"
RATE, BETA_1, BETA_2, SMALL = 0.05, 0.9, 0.999, 1e-7


def bare_loop(function, model, shape, steps):
    """Returns a function that raises the summed `function(model, image)` by Adam, compiled as a whole.

    Pixels behind a sigmoid, no transforms: the evaluations that `Pixels()` and `transforms=[]` make.
    """
    start = np.random.default_rng(0).normal(0, 0.01, shape).astype("float32")

    def loss(x):
        return -function(model, keras.ops.sigmoid(x))

    def step(i, x, m, v):
        gradient = input_gradient(loss, x)
        m, v = BETA_1 * m + (1 - BETA_1) * gradient, BETA_2 * v + (1 - BETA_2) * gradient**2
        t = keras.ops.cast(i + 1, "float32")
        rate = RATE * keras.ops.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        return i + 1, x - rate * m / (keras.ops.sqrt(v) + SMALL), m, v

    if keras.config.backend() == "torch":

        def run():
            state = (0, *(torch.tensor(a) for a in (start, np.zeros_like(start), np.zeros_like(start))))
            for _ in range(steps):
                state = step(*state)
            return state[1].numpy()

        return run
    if keras.config.backend() == "jax":
        import jax

        def pure(weights, x):
            with keras.StatelessScope(state_mapping=list(zip(model.variables, weights))):
                zero = jax.numpy.zeros_like(x)
                return jax.lax.fori_loop(0, steps, lambda i, state: step(i, *state)[1:], (x, zero, zero))[0]

        run = jax.jit(pure)
        return lambda: np.asarray(run([v.value for v in model.variables], start))
    import tensorflow as tf

    def whole(x):
        zero = tf.zeros_like(x)
        return tf.while_loop(lambda i, *_: i < steps, step, (0, x, zero, zero), parallel_iterations=1)[1]

    graph = tf.function(whole, autograph=False)
    return lambda: graph(tf.constant(start)).numpy()


def row_channel(steps, rounds):
    """Compares one channel at 224 pixels; bare: a model cut off at the layer."""
    model = efficientnet_lite0(classifier_activation=None)
    cut = keras.Model(model.input, model.get_layer(LAYER).output)
    fv = vis.FeatureVisualization(model, ActivationMaximization(LAYER, 10), Pixels(), transforms=[])
    bare = bare_loop(lambda m, x: keras.ops.mean(m(x, training=False)[..., 10]), cut, (1, 224, 224, 3), steps)
    compare(f"one channel, {steps} steps", lambda i: fv(steps=steps, seed=i), lambda i: bare(), 1, rounds, warmups=1)
    full = vis.FeatureVisualization(model, ActivationMaximization(LAYER, 10))
    compare(
        "  with Fourier and standard transforms",
        lambda i: full(steps=steps, seed=i),
        lambda i: bare(),
        1,
        rounds,
        warmups=1,
    )


def row_digits(steps, rounds):
    """Compares ten classes of the MNIST network in one batch."""
    model = mnist_network()

    def function(m, x):
        return keras.ops.sum(keras.ops.diagonal(m(x, training=False)))

    # One and the same loop, compiled twice, differs by up to 25 % (where its buffers lie): several of each.
    loops = range(5)
    all_of_ours = [vis.FeatureVisualization(model, ActivationMaximization(-1, 0), Pixels(), []) for _ in loops]
    all_bare = [bare_loop(function, model, (10, 28, 28, 1), 200) for _ in loops]

    def ours(i):
        return all_of_ours[i % 5].many(range(10), steps=200, seed=i)

    compare("ten digits, 200 steps", ours, lambda i: all_bare[i % 5](), 5, rounds, warmups=5)
    fv = all_of_ours[0]
    watchers = [Watcher(200) for _ in range(100)]
    compare(
        "  100 callbacks, every=200, against none",
        lambda i: fv.many(range(10), steps=200, seed=i, callbacks=watchers),
        lambda i: fv.many(range(10), steps=200, seed=i),
        2,
        rounds,
        warmups=1,
    )


class Watcher(OptimizerCallback):
    """Does nothing, every so many steps."""

    def __init__(self, every):
        self.every = every

    def callback(self, *arguments):
        """Does nothing."""


def row_memory(steps, rounds):
    """Prints peak memory of few steps and of many, each in a fresh process."""
    first, second = (measure_elsewhere(__file__, "--measure", n) for n in (100, 500))
    print(f"{'one channel, peak memory':44s} 100 steps {first:.0f} MiB   500 steps {second:.0f} MiB", flush=True)


ROWS = {name.removeprefix("row_"): row for name, row in list(globals().items()) if name.startswith("row_")}


def main():
    """Prints the rows, or one number for a row that measures in processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        model = efficientnet_lite0(classifier_activation=None)
        vis.FeatureVisualization(model, ActivationMaximization(LAYER, 10))(steps=options.measure, seed=0)
        print(peak_of_process())
        return
    print(f"backend {keras.config.backend()}, keras {keras.__version__}")
    for name in options.only:
        ROWS[name](64 if options.quick else 256, 3 if options.quick else 5)


if __name__ == "__main__":
    main()
