"""What is made and thrown away leaves nothing behind, not in the frameworks' own registries either."""

import gc
import math

import keras
import numpy as np
import pytest
from conftest import slow, small_cnn

import vis
from vis import backend
from vis.losses import ActivationMaximization
from vis.parameterizations import Pixels


def alive(kind="") -> int:
    """Counts the objects of classes whose names end so."""
    gc.collect()
    return sum(type(one).__name__.endswith(kind) for one in gc.get_objects())


def grown(make, times, *kinds) -> list:
    """Returns by how much the objects of some classes grow when something is made some times, once caches are full.

    The least of three rounds counts: a thread of another test may hold or let go of objects meanwhile.
    """
    for _ in range(3):
        make()
    counts = [[alive(kind) for kind in kinds]]
    for _ in range(3):
        for _ in range(math.ceil(times / 3)):
            make()
        counts.append([alive(kind) for kind in kinds])
    return [max(0, growth) for growth in np.diff(counts, axis=0).min(axis=0)]


def dead_unit():
    """A model whose unit gets no gradient: feature visualisation begins again with a backward rule."""
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, activation="relu", name="conv")])
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * 0.01, bias - 1])
    return model


WITH_GRAPHS = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow has such graphs")


@pytest.mark.slow
@WITH_GRAPHS
def test_thirty_feature_visualizations_leave_no_graph_behind():
    model = small_cnn()

    def make():
        # Without transforms, the image and what the network gets have one and the same gradient.
        vis.FeatureVisualization(model, ActivationMaximization("preds", 1), Pixels(), [])(steps=1, seed=0)

    graphs, objects = grown(make, 30, "FuncGraph", "")
    assert graphs == 0
    assert objects < 10 * 10  # it was 7,000 for each


OPTIMIZERS = {
    "clipped": lambda: keras.optimizers.Adam(0.05, global_clipnorm=1.0),
    "decaying and averaging": lambda: keras.optimizers.AdamW(0.05, use_ema=True, ema_overwrite_frequency=2),
    "accumulating": lambda: keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2),
    "scheduled": lambda: keras.optimizers.RMSprop(keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)),
}


@WITH_GRAPHS
@pytest.mark.parametrize("name", ["clipped", *slow(*list(OPTIMIZERS)[1:])])
def test_no_optimizer_leaves_a_graph_behind(name):
    model = small_cnn()

    def make():
        loss = ActivationMaximization("preds", 1)
        vis.FeatureVisualization(model, loss, Pixels(), [], optimizer=OPTIMIZERS[name]())(steps=1, seed=0)

    assert grown(make, 3, "FuncGraph") == [0]


@pytest.mark.slow
@WITH_GRAPHS
def test_backward_rules_leave_no_graph_behind(rng):
    model, dead, x = small_cnn(), dead_unit(), rng.random((2, 9, 7, 3)).astype("float32")

    def explain():
        explainer = vis.Saliency(model, backprop_modifier="guided")
        for _ in range(2):  # eager, then compiled
            explainer(x, 1)

    def wake():
        vis.FeatureVisualization(dead, ActivationMaximization("conv", 1), Pixels(), [])(steps=1, seed=0)

    assert grown(explain, 5, "FuncGraph") == [0]
    assert grown(wake, 3, "FuncGraph") == [0]


@WITH_GRAPHS
@pytest.mark.parametrize("rule", [None, *slow("guided")])
def test_several_targets_leave_no_graph_behind(rule, rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3)).astype("float32")

    def explain():
        explainer = vis.Saliency(model, backprop_modifier=rule)
        for _ in range(2):  # eager, then compiled
            explainer.targets(x, [0, 1])

    assert grown(explain, 5, "FuncGraph") == [0]


@pytest.mark.parametrize("layer", ["conv1", *slow("conv2")])
def test_the_rest_of_a_network_leaves_nothing_behind(layer, rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3)).astype("float32")

    def explain():
        explainer = vis.AblationCAM(model, layer)
        for _ in range(2):
            explainer(x, 1)

    assert grown(explain, 3, "FuncGraph", "Rest", "_Within", "Node") == [0, 0, 0, 0]


def test_a_gradient_that_two_inputs_share_is_let_go():
    def make():
        x = keras.ops.ones((2, 3))
        backend.value_and_grad(lambda pair: (keras.ops.sum(pair[0] + pair[1], axis=-1), ()), [x, 2 * x])

    assert grown(make, 20, "Tensor") == [0]


def test_new_targets_leave_no_program_behind(rng):
    model, x = small_cnn(), rng.random((1, 9, 7, 3)).astype("float32")
    explainer = vis.GradCAM(model)
    for target in (0, *(lambda outputs, i=i: outputs[:, i % 3] for i in range(20))):
        explainer(x, target)  # it keeps 16 functions

    assert grown(lambda: explainer(x, lambda outputs: outputs[:, 0]), 5, "Jaxpr", "JaxprEqn") == [0, 0]


@WITH_GRAPHS
def test_the_loop_of_any_optimizer_is_what_the_optimizer_does_alone():
    """Inside the loop, the update is the optimizer's own: `apply` on a variable, one step after the other."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False, name="preds")])
    weights = np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")
    model.set_weights([weights])
    for make in OPTIMIZERS.values():
        start = np.full((1, 4), 0.5, "float32")
        fv = vis.FeatureVisualization(
            model, ActivationMaximization("preds", 0), Pixels(), transforms=[], optimizer=make()
        )
        got = fv(steps=5, seed_input=start)
        raw = keras.Variable(Pixels().encode(start, (0.0, 1.0))[0])
        optimizer = make()
        optimizer.build([raw])
        for _ in range(5):
            image = keras.ops.sigmoid(raw.value)
            gradient = -image * (1 - image) * keras.ops.convert_to_tensor(weights.T)
            optimizer.apply([gradient], [raw])
        expected = keras.ops.convert_to_numpy(keras.ops.sigmoid(raw.value))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
