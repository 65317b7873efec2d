"""Speed of the visualize functions on the MNIST network, as ratios to hand-written code."""

import os
import statistics

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch

import keras
import numpy as np
from keras import layers, ops
from timing import compare, measure_elsewhere

from vis.visualization import visualize_activation, visualize_cam, visualize_saliency

ITERATIONS = 200


def mnist_network():
    """Returns the network of the examples, with a linear output."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, name="preds"),
        ]
    )


def energy(model, x, index):
    """Returns the energy that `visualize_activation` minimises by default."""
    norm = ops.power(ops.sum(ops.power(ops.absolute(x), 6.0)), 1 / 6)
    down, right = x[:, 1:, :-1] - x[:, :-1, :-1], x[:, :-1, 1:] - x[:, :-1, :-1]
    variation = ops.sum(ops.square(down) + ops.square(right))
    return -model(x, training=False)[0, index] + 10 * (norm + variation) / 784


def step(x, cache, gradient):
    """Returns the next input and cache of keras-vis's RMSProp."""
    gradient = gradient / (ops.sqrt(ops.mean(ops.square(gradient))) + 1e-7)
    cache = 0.95 * cache + 0.05 * ops.square(gradient)
    return x - gradient / ops.sqrt(cache + 1e-7), cache


def tensorflow_code(model):
    """Returns a hand-written gradient and descent on TensorFlow."""
    import tensorflow as tf

    def value_and_gradient(function, x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = function(x)
        return value, tape.gradient(value, x)

    @tf.function(autograph=False)
    def gradient(x, index):
        return value_and_gradient(lambda x: model(x, training=False)[0, index], x)[1]

    @tf.function(autograph=False)
    def descend(x, index):
        def body(i, x, cache, best, best_value):
            value, grads = value_and_gradient(lambda x: energy(model, x, index), x)
            better = value < best_value
            best, best_value = tf.where(better, x, best), tf.where(better, value, best_value)
            return i + 1, *step(x, cache, grads), best, best_value

        start = (0, x, tf.zeros_like(x), x, np.float32(np.inf))
        return tf.while_loop(lambda i, *_: i < ITERATIONS, body, start)[3]

    return (
        lambda x, index: gradient(tf.constant(x), tf.constant(index)).numpy(),
        lambda x, index: descend(tf.constant(x), tf.constant(index)).numpy(),
    )


def jax_code(model):
    """Returns a hand-written gradient and descent on JAX."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def gradient(x, index):
        return jax.grad(lambda x: model(x, training=False)[0, index])(x)

    @jax.jit
    def descend(x, index):
        def body(_, state):
            x, cache, best, best_value = state
            value, grads = jax.value_and_grad(lambda x: energy(model, x, index))(x)
            better = value < best_value
            best, best_value = jnp.where(better, x, best), jnp.where(better, value, best_value)
            return *step(x, cache, grads), best, best_value

        return jax.lax.fori_loop(0, ITERATIONS, body, (x, jnp.zeros_like(x), x, jnp.inf))[2]

    return (lambda x, index: np.asarray(gradient(x, index)), lambda x, index: np.asarray(descend(x, index)))


def torch_code(model):
    """Returns a hand-written gradient and descent on PyTorch (eager, as it runs)."""

    def value_and_gradient(function, x):
        x = x.detach().requires_grad_(True)
        value = function(x)
        return value, torch.autograd.grad(value, x)[0]

    def gradient(x, index):
        return value_and_gradient(lambda x: model(x, training=False)[0, index], torch.tensor(x))[1].numpy()

    def descend(x, index):
        x = best = torch.tensor(x)
        cache, best_value = torch.zeros_like(x), np.inf
        for _ in range(ITERATIONS):
            value, grads = value_and_gradient(lambda x: energy(model, x, index), x)
            if value < best_value:
                best, best_value = x, float(value)
            x, cache = step(x, cache, grads)
        return best.numpy()

    return gradient, descend


class EveryStep:
    """A callback that looks at everything it gets."""

    steps = 0

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        """Counts."""
        self.steps += grads.shape[0]

    def on_end(self):
        """Does nothing."""


def import_cost():
    """Prints what importing vis adds to importing Keras."""
    code = "import time, keras; start = time.perf_counter(); import vis; print(1000 * (time.perf_counter() - start))"
    runs = [measure_elsewhere("-c", code) for _ in range(5)]
    print(f"{'import vis, after import keras':44s} {statistics.median(runs):9.2f} ms")


def main():
    """Runs all comparisons."""
    backend = keras.config.backend()
    print(f"backend {backend}, keras {keras.__version__}")
    model = mnist_network()
    gradient, descend = {"tensorflow": tensorflow_code, "jax": jax_code, "torch": torch_code}[backend](model)
    image = np.random.default_rng(0).random((1, 28, 28, 1)).astype("float32")
    for function in (visualize_saliency, visualize_cam):
        compare(
            f"{function.__name__}, a call",
            lambda index, f=function: f(model, "preds", index, image, grad_modifier=None),
            lambda index: gradient(image, index),
            calls=20,
            rounds=9,
            warmups=10,
        )

    def activation(index, **params):
        return visualize_activation(
            model, "preds", index, seed_input=image, input_range=(0.0, 1.0), max_iter=ITERATIONS, **params
        )

    rounds = 7 if backend != "torch" else 3
    compare("visualize_activation, 200 iterations", activation, lambda i: descend(image, i), 2, rounds)
    watched = EveryStep()
    compare(
        "visualize_activation, a callback each step",
        lambda index: activation(index, callbacks=[watched]),
        lambda index: descend(image, index),
        2,
        rounds,
    )
    import_cost()


if __name__ == "__main__":
    main()
