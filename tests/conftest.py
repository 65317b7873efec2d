"""Shared fixtures. PyTorch is imported before TensorFlow where both could be needed."""

import os
import pathlib
import tempfile
import zlib

# Read by the frameworks when they are imported. Each process has one core: files of tests run side by side.
for _name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

# Small networks: compiling them fast matters, running them fast does not.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import keras
import numpy as np
import pytest
from keras import layers

from vis.backend import patience

if keras.config.backend() == "jax":
    # Many tests compile the same small networks: let them share.
    import jax

    _cache = tempfile.TemporaryDirectory()
    jax.config.update("jax_compilation_cache_dir", _cache.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Tests make few calls, of which the third is to be a compiled one: eager, traced, compiled.
pays_in_earnest = patience.pays
patience.pays = lambda calls, fastest=None, compiling=None: calls >= 2

ROOT = pathlib.Path(__file__).parent.parent
KERAS = tuple(int(part) for part in keras.version().split(".")[:2])

# What older versions of Keras, which `vis` supports, cannot do themselves.
needs_seeds_that_restart = pytest.mark.skipif(
    KERAS < (3, 13), reason="before Keras 3.13, set_random_seed does not restart the generator of keras.random"
)
needs_layers_as_activations = pytest.mark.skipif(
    KERAS < (3, 10), reason="before Keras 3.10, a layer as an activation cannot be read back from its configuration"
)


def slow(*values):
    """Returns values for `parametrize`, or tuples of values, that a plain `pytest` leaves out."""
    return [pytest.param(*(value if isinstance(value, tuple) else [value]), marks=pytest.mark.slow) for value in values]


def value_of(tensor):
    """Returns a tensor as a NumPy array."""
    return keras.ops.convert_to_numpy(tensor)


def reference_network(weights, activation="linear"):
    """Builds the small MNIST network of the reference arrays."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation=activation, name="preds"),
        ]
    )
    model.set_weights(weights)
    return model


@pytest.fixture(scope="session")
def reference():
    """The arrays of the original keras-vis."""
    with np.load(ROOT / "tests/reference/keras_vis_mnist_small.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def reference_weights(reference):
    return [reference[f"weight_{i}"] for i in range(8)]


@pytest.fixture
def network(reference_weights):
    """The reference network with a linear output."""
    return reference_network(reference_weights)


@pytest.fixture(scope="session")
def shared_network(reference_weights):
    """The same, one for the whole session: for tests that need compiled calls."""
    return reference_network(reference_weights)


@pytest.fixture
def softmax_network(reference_weights):
    return reference_network(reference_weights, "softmax")


@pytest.fixture(scope="session")
def digits(reference):
    """The first test digit of each class, (10, 28, 28, 1) in [0, 1]."""
    with np.load(ROOT / "examples/mnist/data/mnist_20k.npz") as arrays:
        return (arrays["x_test"][reference["indices"]][..., None] / 255.0).astype("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_configure(config):
    """Makes our own warnings errors.

    In `pyproject.toml`, this would import `vis` and its framework before this file has set what they read.
    """
    config.addinivalue_line("filterwarnings", "error::vis.utils.validation.VisualizationWarning")
    config.addinivalue_line("filterwarnings", "ignore:The score of .* is below 0")  # random networks do not mind


_LONG = frozenset((ROOT / "tests/long_tests.txt").read_text().splitlines())


def pytest_itemcollected(item):
    """Marks what takes long, see `.ci/long_tests.py`."""
    if item.nodeid in _LONG:
        item.add_marker("long")


def pytest_collection_modifyitems(config, items):
    """Puts the real architectures first: of two workers, none then waits for them at the end.

    Where `VIS_TEST_PART` says so, only a part of the tests is kept, the same ones each time: "1/2" is every other one.
    """
    items.sort(key=lambda item: "test_zoo" not in item.nodeid and "test_transformers" not in item.nodeid)
    number, count = map(int, os.environ.get("VIS_TEST_PART", "1/1").split("/"))
    kept = [item for item in items if zlib.crc32(item.nodeid.encode()) % count == number - 1]
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % count != number - 1]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Says how many processes `-n auto` means: one a core; none beside this one for a single file of tests."""
    files = {argument.partition("::")[0] for argument in config.args}
    is_one_file = len(files) == 1 and all(name.endswith(".py") for name in files)
    return 0 if is_one_file else min(os.cpu_count() or 1, 8)  # each takes more than a gigabyte


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def small_cnn(data_format="channels_last", name="cnn", activation="relu"):
    """A small CNN with Flatten and Dense, so that positions matter, on 9x7 images."""
    shape = (3, 9, 7) if data_format == "channels_first" else (9, 7, 3)
    inputs = keras.Input(shape)
    x = layers.Conv2D(4, 3, activation=activation, data_format=data_format, name="conv1")(inputs)
    x = layers.Conv2D(5, 2, activation=activation, data_format=data_format, name="conv2")(x)
    x = layers.Flatten(data_format=data_format, name="flatten")(x)
    model = keras.Model(inputs, layers.Dense(3, name="preds")(x), name=name)
    draw = np.random.default_rng(1)  # the same weights on every backend
    model.set_weights([draw.normal(0.05, 0.3, w.shape).astype("float32") for w in model.get_weights()])
    return model
