"""The user's model, arrays, seeds and settings are untouched, after success and failure; nothing leaks."""

import copy
import gc
import pickle
import random
import threading
import tracemalloc
import weakref

import keras
import numpy as np
import pytest
from conftest import reference_network, small_cnn, value_of
from keras import layers, ops

import vis
from vis import backend
from vis.backprop_modifiers import composite
from vis.engine import energy, memory
from vis.engine.graph import walk
from vis.engine.network import Network
from vis.engine.surrogates import installed
from vis.losses import ActivationMaximization, Loss
from vis.visualization import (
    visualize_activation,
    visualize_activation_with_losses,
    visualize_cam,
    visualize_cam_with_losses,
    visualize_saliency,
    visualize_saliency_with_losses,
)


class OutputSum(Loss):
    """A keras-vis loss; its expression is built anew by every call."""

    def __init__(self, model):
        super().__init__()
        self.name, self.model = "sum", model

    def build_loss(self):
        return -keras.ops.sum(keras.ops.sqrt(1.0 + keras.ops.square(self.model.outputs[0])))


def maximisation(model):
    return [(ActivationMaximization(model.get_layer("preds"), 1), -1), (OutputSum(model), -1)]


CALLS = {
    "saliency": lambda m, x: visualize_saliency(m, "preds", 1, x, backprop_modifier="guided"),
    "saliency_with_losses": lambda m, x: visualize_saliency_with_losses(m.inputs[0], maximisation(m), x),
    "cam": lambda m, x: visualize_cam(m, "preds", 1, x, backprop_modifier="rectified"),
    "cam_with_losses": lambda m, x: visualize_cam_with_losses(m.inputs[0], maximisation(m), x, m.get_layer("conv2")),
    "activation": lambda m, x: visualize_activation(
        m, "preds", 1, seed_input=x, max_iter=3, backprop_modifier="guided", optimizer=keras.optimizers.Adam(0.01)
    ),
    "activation_with_losses": lambda m, x: visualize_activation_with_losses(
        m.inputs[0], maximisation(m), seed_input=x, max_iter=3, optimizer=keras.optimizers.Adam(0.01)
    ),
}

EXPLAINERS = {
    "Saliency": lambda m: vis.Saliency(m, "guided"),
    "GradientTimesInput": vis.GradientTimesInput,
    "SmoothGrad": lambda m: vis.SmoothGrad(m, num_samples=2),
    "IntegratedGradients": lambda m: vis.IntegratedGradients(m, steps=2, input_layer="conv2"),
    "ExpectedGradients": lambda m: vis.ExpectedGradients(m, np.zeros((2, 9, 7, 3)), num_samples=2, seed=0),
    "BlurIntegratedGradients": lambda m: vis.BlurIntegratedGradients(m, steps=2),
    "GuidedIntegratedGradients": lambda m: vis.GuidedIntegratedGradients(m, steps=2),
    "LRP": vis.LRP,
    "DeepLIFT": vis.DeepLIFT,
    "FullGrad": vis.FullGrad,
    "XRAI": lambda m: vis.XRAI(m, np.arange(63).reshape(9, 7) // 9, steps=2),
    "GradCAM": lambda m: vis.GradCAM(m, backprop_modifier="rectified"),
    "GradCAMPlusPlus": vis.GradCAMPlusPlus,
    "LayerCAM": vis.LayerCAM,
    "HiResCAM": vis.HiResCAM,
    "XGradCAM": vis.XGradCAM,
    "EigenCAM": vis.EigenCAM,
    "ScoreCAM": lambda m: vis.ScoreCAM(m, max_channels=2),
    "AblationCAM": vis.AblationCAM,
    "GuidedGradCAM": vis.GuidedGradCAM,
    "Occlusion": lambda m: vis.Occlusion(m, patch=4),
    "RISE": lambda m: vis.RISE(m, num_masks=3),
}
ALL_CALLS = {**CALLS, **{name: lambda m, x, make=make: make(m)(x[None], 1) for name, make in EXPLAINERS.items()}}


def snapshot(model):
    """Everything of a model that could be disturbed."""
    operations = [model] + [op for _, op in walk(model)]
    return {
        "weights": [w.copy() for w in model.get_weights()],
        "config": model.to_json(),
        "state": [set(vars(op)) for op in operations],
        "activations": [getattr(op, "activation", None) for op in operations],
        "calls": [vars(op).get("call") for op in operations],
        "nodes": [(len(op._inbound_nodes), len(op._outbound_nodes)) for op in operations],
        "trainable": [getattr(op, "trainable", None) for op in operations],
        "grad": [getattr(v.value, "grad", None) for v in model.variables],
        "settings": (
            keras.config.floatx(),
            keras.config.image_data_format(),
            keras.config.epsilon(),
            keras.config.dtype_policy().name,
        ),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),
    }


def same_snapshots(first, second):
    for old, new in zip(first.pop("weights"), second.pop("weights")):
        np.testing.assert_array_equal(old, new)
    assert first == second


@pytest.mark.parametrize("name", ALL_CALLS)
def test_a_call_leaves_no_trace(name, rng):
    model = small_cnn()
    model.compile("adam", "mse")
    x = rng.random((9, 7, 3)).astype("float32")
    kept, before = x.copy(), snapshot(model)
    for _ in range(3 if name in CALLS else 1):  # eager, traced, compiled
        ALL_CALLS[name](model, x)
    same_snapshots(before, snapshot(model))
    np.testing.assert_array_equal(x, kept)


class Bomb(layers.Layer):
    """Works while the model is built, and raises afterwards."""

    armed = False

    def call(self, x):
        if self.armed:
            raise RuntimeError("on purpose")
        return x


@pytest.mark.filterwarnings("ignore:These operations are not linear")  # LRP, of a layer that it does not know
@pytest.mark.parametrize("name", ALL_CALLS)
def test_an_exception_inside_the_model_leaves_no_trace(name, rng):
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv2")(inputs)
    bomb = Bomb()
    model = keras.Model(inputs, layers.Dense(3, name="preds")(bomb(layers.Flatten()(x))))
    image = rng.random((9, 7, 3)).astype("float32")
    before = snapshot(model)
    bomb.armed = True
    with pytest.raises(Exception, match="on purpose"):
        ALL_CALLS[name](model, image)
    bomb.armed = False
    del before["state"][[op for _, op in walk(model)].index(bomb) + 1]
    after = snapshot(model)
    del after["state"][[op for _, op in walk(model)].index(bomb) + 1]
    same_snapshots(before, after)
    ALL_CALLS[name](model, image)  # and works when the fault is mended


@pytest.fixture(scope="module")
def framework_gives_back():
    """Skips where the framework itself loses memory with each tensor, as TensorFlow 2.16 does."""

    def traced(count):
        for _ in range(count):
            keras.ops.convert_to_tensor(array)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    array = np.zeros((1, 9, 7, 3), "float32")
    tracemalloc.start()
    lost = (-traced(500) + traced(500)) / 500
    tracemalloc.stop()
    if lost > 20:
        pytest.skip(f"the framework loses {lost:.0f} bytes with each tensor")


@pytest.mark.usefixtures("framework_gives_back")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("activation") else []) for name in CALLS]
)
def test_many_calls_do_not_grow(name, rng):
    model = small_cnn()
    x = rng.random((9, 7, 3)).astype("float32")
    for _ in range(5):
        CALLS[name](model, x)
    before = snapshot(model)["nodes"]
    functions = len(memory._KEPT[model]) if model in memory._KEPT else 0
    reads_anew = name.endswith("_with_losses")  # each call builds and compiles new expressions
    compiles_anew = reads_anew and keras.config.backend() == "jax"  # half a second a time
    calls = 30 if compiles_anew else 100 if reads_anew else 500
    gc.collect()
    tracemalloc.start()
    sizes = []
    for _ in range(3 if compiles_anew else 2):  # JAX's own caches fill at first
        for _ in range(calls // 2):
            CALLS[name](model, x)
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-1] - sizes[-2] < 1000 * calls  # a leaked map alone is 252 bytes, a node or a trace far more
    assert snapshot(model)["nodes"] == before
    assert (len(memory._KEPT[model]) if model in memory._KEPT else 0) == functions


def test_the_cache_keeps_no_model_alive(rng):
    model = small_cnn()
    for name in CALLS:
        for _ in range(2):
            CALLS[name](model, rng.random((9, 7, 3)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_cache_is_bounded(rng):
    model, x = small_cnn(), rng.random((9, 7, 3))
    for _ in range(20):
        visualize_saliency(model, -1, 0, x, backprop_modifier=lambda x, y, upstream: upstream)
    assert len(memory._KEPT[model]) <= 16


def count_calls(monkeypatch, kind, method, calls):
    original = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda *args: calls.append(1) or original(*args))


def test_one_trace_for_all_classes_and_weights(reference_weights, digits, monkeypatch):
    traces = []
    for kind, method in ((energy.Energy, "terms_and_gradient"), (Network, "evaluate")):
        count_calls(monkeypatch, kind, method, traces)
    model = reference_network(reference_weights)
    allowed = {"tensorflow": 2, "jax": 1}.get(keras.config.backend())  # TensorFlow: one eager call, one trace
    if allowed is None:
        pytest.skip("PyTorch does not trace")
    for index in range(8):
        visualize_saliency(model, "preds", index, digits[index])
    assert len(traces) == allowed
    traces.clear()
    for index in (0, 1, 2, 3, 4, 5, 6, 8):
        visualize_cam(model, "preds", index, digits[index])
    assert len(traces) == allowed
    traces.clear()
    for index in range(4):
        visualize_activation(model, "preds", index, input_range=(0.0, 1.0), max_iter=14 + index, tv_weight=1 + index)
    assert len(traces) <= 2  # JAX traces the body of a loop twice


def test_four_threads_get_the_right_answers(reference_weights, digits):
    model = reference_network(reference_weights)
    expected = [visualize_saliency(model, "preds", c, digits[c]) for c in range(8)]
    fresh, results = reference_network(reference_weights), {}

    def work(start):
        for c in range(start, 8, 4):
            results[c] = visualize_saliency(fresh, "preds", c, digits[c])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for c in range(8):
        np.testing.assert_allclose(results[c], expected[c], atol=1e-5)


def test_an_explained_model_still_copies_and_trains(rng):
    model = small_cnn()
    for name in CALLS:
        CALLS[name](model, rng.random((9, 7, 3)))
    x = rng.random((4, 9, 7, 3)).astype("float32")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(value_of(twin(x)), value_of(model(x)), rtol=1e-5)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 3)), verbose=0)


def test_a_rule_stays_in_its_thread():
    model = small_cnn()
    results = []

    def gradient():
        x = keras.ops.ones((1, 9, 7, 3))
        score = lambda x: (keras.ops.sum(model(x, training=False), axis=-1), ())  # noqa: E731
        results.append(value_of(backend.value_and_grad(score, x)[2]))

    gradient()
    with installed(model, composite(lambda x, y, upstream: 0 * upstream)):
        thread = threading.Thread(target=gradient)
        thread.start()
        thread.join()
        gradient()
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[2]).max() == 0


@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_leaves_no_trace_in_eager_traced_and_compiled_calls(name, rng):
    model, x = small_cnn(), rng.random((5, 9, 7, 3)).astype("float32")
    kept, before = x.copy(), snapshot(model)
    explainer = EXPLAINERS[name](model)
    for target in (None, 1, [0, 1, 2, 0, 1]):
        explainer(x, target, batch_size=2)
    same_snapshots(before, snapshot(model))
    np.testing.assert_array_equal(x, kept)


def traced(explainer, monkeypatch, calls):
    """Counts how often the model runs in Python while `calls` are made: eagerly, or to be traced."""
    runs = []
    original = Network.outputs
    monkeypatch.setattr(Network, "outputs", lambda *args, **kwargs: runs.append(1) or original(*args, **kwargs))
    counts = []
    for call in calls:
        call(explainer)
        counts.append(len(runs))
        runs.clear()
    return counts


@pytest.mark.parametrize("name", EXPLAINERS)
def test_nothing_is_traced_anew_for_another_target_seed_or_a_last_partial_batch(name, rng, monkeypatch):
    if keras.config.backend() == "torch":
        pytest.skip("PyTorch does not trace")
    model, x = small_cnn(), rng.random((7, 9, 7, 3)).astype("float32")
    calls = [
        lambda e: e(x, batch_size=3),  # the last batch is a partial one
        lambda e: e(x, batch_size=3),
        lambda e: e(x, 1, batch_size=3),
        lambda e: e(x[::-1], [0, 1, 2, 2, 1, 0, 0], batch_size=3),
        lambda e: e(x, [[0, 1]] * 7, batch_size=3),
    ]
    first, second, *others = traced(EXPLAINERS[name](model), monkeypatch, calls)
    assert first > 0
    assert others == [0, 0, 0]


def test_the_first_small_call_is_eager_and_the_second_compiles(rng, monkeypatch):
    if keras.config.backend() != "tensorflow":
        pytest.skip("only TensorFlow gains by it")
    model, x = small_cnn(), rng.random((2, 9, 7, 3)).astype("float32")
    explainer = vis.Saliency(model)
    counts = traced(explainer, monkeypatch, [lambda e: e(x)] * 4)
    assert counts == [1, 1, 0, 0]
    compiled = next(iter(explainer.evaluator.memory._shelves["functions"].values()))
    assert compiled.graph.experimental_get_tracing_count() == 1


@pytest.mark.usefixtures("framework_gives_back")
def test_an_explainer_does_not_grow(rng):
    model, x = small_cnn(), rng.random((1, 9, 7, 3)).astype("float32")
    explainer = vis.GradCAM(model)
    for target in (None, 0, 1):
        explainer(x, target)
    gc.collect()
    tracemalloc.start()
    sizes = []
    for _ in range(3):  # the first two fill the caches of the framework
        for i in range(100):
            explainer(x, i % 3)
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[2] - sizes[1] < 100 * 252  # the size of a map
    for _ in range(20):  # functions are compiled anew, and old ones dropped
        explainer(x, lambda outputs: outputs[:, 0])
    assert len(explainer.evaluator.memory._shelves["functions"]) <= 16
    assert len(explainer.evaluator.memory._shelves["picked"]) <= 16


def test_an_explainer_dies_with_its_last_reference(rng):
    model = small_cnn()
    explainer = vis.Saliency(model)
    explainer(rng.random((1, 9, 7, 3)))
    explainer(rng.random((1, 9, 7, 3)))
    gone = weakref.ref(model)
    del model, explainer
    gc.collect()
    assert gone() is None


def test_an_explainer_sees_changed_weights_and_activations(rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3)).astype("float32")
    explainer = vis.Saliency(model)
    for _ in range(3):
        before = explainer(x, 1)
    model.get_layer("preds").set_weights([2 * w for w in model.get_layer("preds").get_weights()])
    np.testing.assert_allclose(explainer(x, 1), 2 * before, rtol=1e-5, atol=1e-6)
    model.get_layer("conv2").activation = keras.activations.linear
    changed = explainer(x, 1)
    assert np.abs(changed - 2 * before).max() > 1e-3
    np.testing.assert_allclose(changed, vis.Saliency(model)(x, 1), rtol=1e-5, atol=1e-6)


def test_explainers_are_independent_of_the_global_data_format(rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3)).astype("float32")
    expected = vis.GradCAM(model)(x, 1)
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(vis.GradCAM(model)(x, 1), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


class Counter(layers.Layer):
    """Counts its calls, in inference too."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign(self.calls + 1.0)
        return x


@pytest.mark.filterwarnings("ignore:These operations are not linear")  # LRP, of a layer that it does not know
@pytest.mark.parametrize("name", EXPLAINERS)
def test_what_layers_assign_in_inference_is_dropped(name, rng):
    inputs = keras.Input((9, 7, 3))
    x = Counter(name="counter")(layers.Conv2D(4, 3, activation="relu", name="conv2")(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="preds")(layers.Flatten()(x)))
    explainer, x = EXPLAINERS[name](model), rng.random((2, 9, 7, 3)).astype("float32")
    for _ in range(3):
        explainer(x, 1)
    assert value_of(model.get_layer("counter").calls.value) == 0
    model(x)
    assert value_of(model.get_layer("counter").calls.value) == 1


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_model_of_a_fixed_batch_size_takes_any_number(name, rng):
    free = small_cnn()
    inputs = keras.Input((9, 7, 3), batch_size=2)
    x = inputs
    for layer in free.layers[1:]:
        x = layer(ops.reshape(x, (2, 9, 7, 3)) if x is inputs else x)
    images = rng.random((5, 9, 7, 3)).astype("float32")
    if name in ("SmoothGrad", "RISE"):  # of these, only that they run: each call draws anew
        EXPLAINERS[name](keras.Model(inputs, x))(images, 1)
        return
    got, expected = EXPLAINERS[name](keras.Model(inputs, x))(images, 1), EXPLAINERS[name](free)(images, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_state_of_a_recurrent_layer_is_kept(rng):
    model = keras.Sequential([keras.Input((5, 3), batch_size=2), layers.GRU(4, stateful=True), layers.Dense(2)])
    x = rng.random((3, 5, 3)).astype("float32")  # of another number than the model was made for
    explainer = vis.Saliency(model)
    maps = [explainer(x, 1) for _ in range(3)]
    for one in maps[1:]:
        np.testing.assert_allclose(one, maps[0], rtol=1e-4, atol=1e-6)
    assert not any(value_of(v.value).any() for v in model.layers[0].states)
