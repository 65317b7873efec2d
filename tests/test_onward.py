"""From a layer on: the rest of a network, run alone, is the whole network with that layer's output replaced."""

import keras
import numpy as np
import pytest
import zoo
from conftest import slow, small_cnn
from keras import layers

import vis
from vis.engine.evaluator import Evaluator
from vis.engine.graph import operations
from vis.engine.onward import Onward
from vis.engine.requests import outputs_at, site

# The layers, by their paths, after which the rest of each network of the zoo runs alone. Elsewhere a way leads around,
# the layer runs twice or within code of one's own, it is an input, or what follows only leaves a softmax out.
RESUMED = {
    "nested": ["backbone", "backbone/conv1", "backbone/conv2", "flatten"],
    "nested in Sequential": [
        *("sequential", "sequential/backbone", "sequential/backbone/conv1", "sequential/backbone/conv2"),
        *("head/global_average_pooling2d", "head/dense"),
    ],
    "lazy Sequential": ["conv2d", "flatten"],
    "subclassed": [],
    "subclassed in Functional": ["block"],
    "shared layer": ["flatten"],
    "residual": ["first", "add", "joined", "global_average_pooling2d", "dropout"],
    "two inputs, list": ["concatenate"],
    "two inputs, dict": ["functional/concatenate"],
    "TimeDistributed": ["frames", "time_distributed", "lstm"],
    "signal": ["conv1d", "max_pooling1d", "flatten"],
    "transformer": ["patches", "reshape", "zero_padding1d", "embedded", "mixed", "get_item"],
    "one unit": ["conv2d", "flatten"],
    "regression": ["conv2d", "flatten"],
    "preprocessing": [
        *("rescaling", "random_flip", "random_rotation", "gaussian_noise", "conv2d", "global_average_pooling2d"),
    ],
    "mixed precision": ["conv2d", "flatten", "dense"],
}


def counted(layer):
    """Returns a list that gets the rows of each call of a layer."""
    calls, original = [], layer.call

    def call(x, *args, **kwargs):
        calls.append(x.shape[0])
        return original(x, *args, **kwargs)

    layer.call = call
    return calls


def without_numbers(path):
    """Returns a path without the numbers that Keras adds to names."""
    parts = path.split("/")
    return "/".join(part.rsplit("_", 1)[0] if part.rsplit("_", 1)[-1].isdigit() else part for part in parts)


def evaluated(task, at, gradients=True):
    """Returns scores, scores of other outputs of a layer, and the gradients at these, by the way that is taken."""
    onward = Onward(task, at)
    other = np.random.default_rng(0).normal(0, 1, (len(onward.outputs), 3, *onward.outputs.shape[1:]))

    def values(images, numbers):
        return other[images, numbers].astype("float32")

    found = [part[-1] for part in onward.gradients(3, values)] if gradients else [np.zeros(1)]
    return onward, [onward.scores(), onward.scores_of(3, values), np.concatenate(found)]


def sites_of(model):
    """Yields the path and the site of what puts out one tensor."""
    for path, operation in operations(model):
        if not isinstance(operation, keras.layers.InputLayer):
            yield path, site(model, operation)


QUICK = ["nested in Sequential", "residual"]


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in RESUMED if name not in QUICK))])
def test_the_rest_gives_what_the_whole_network_gives(name, monkeypatch):
    model, inputs = zoo.make(name)
    model(inputs, training=False)
    evaluator, resumed = Evaluator(model), []
    task = evaluator.task(inputs, 1, batch_size=2)
    for path, at in sites_of(model):
        try:
            task.map(outputs_at(at), quiet=True)
        except ValueError:  # it did not run, or its rows are not the samples
            continue
        if evaluator.rest(at) is not None:
            resumed.append(without_numbers(path))
            compare_ways(task, at, monkeypatch)
    resumed = [path for path in resumed if path != "cast"]  # an operation in the graphs of older versions of Keras
    assert sorted(resumed) == sorted(RESUMED[name])


def compare_ways(task, at, monkeypatch):
    """Compares what the rest gives with what the whole network does."""
    onward, got = evaluated(task, at)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "rest", lambda self, at: None)
        other, expected = evaluated(task, at)
    assert onward.rest is not None and other.rest is None
    is_half = any(getattr(one, "compute_dtype", "float32") != "float32" for _, one in operations(task.evaluator.model))
    tolerance = 1e-2 if is_half else 1e-6  # compiled, fewer values are rounded to half precision
    for one, wanted in zip([onward.outputs, *got], [other.outputs, *expected]):
        np.testing.assert_allclose(one, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
    return onward


def bypassed():
    """A layer that a later layer's other input leads around."""
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="inner")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([x, inputs]))), "inner"


def in_a_model_with_code():
    """A Functional model whose call is not that of its graph."""

    class Doubled(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2 * super().call(x, training=training, mask=mask)

    inputs = keras.Input((4,))
    hidden = layers.Dense(5, name="inner")(inputs)
    return Doubled(inputs, layers.Dense(2)(hidden)), "inner"


def before_a_mask():
    """A layer beside whose values a mask goes on."""
    inputs = keras.Input((6, 4))
    x = layers.Masking()(inputs)
    x = layers.Activation("tanh", name="inner")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(3)(x))), "inner"


def of_two_outputs():
    """A layer that one of two outputs does not depend on."""
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="inner")(inputs)
    return keras.Model(inputs, [layers.Dense(2, name="out")(x), layers.Dense(2)(inputs)]), "inner"


def in_a_nested_model_called_twice():
    """A siamese network."""
    inputs = [keras.Input((4,)), keras.Input((4,))]
    tower = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="inner"), layers.Dense(3)])
    return keras.Model(inputs, layers.Dense(2)(layers.Subtract()([tower(x) for x in inputs]))), "inner"


def ends_in_a_softmax_that_is_left_out():
    """A layer after which the softmax is turned round only."""
    inputs = keras.Input((4,))
    x = layers.Dense(2, activation="softmax", name="inner")(inputs)
    return keras.Model(inputs, layers.Flatten()(x)), "inner"


REFUSED = [
    *(bypassed, in_a_model_with_code, before_a_mask, of_two_outputs, in_a_nested_model_called_twice),
    ends_in_a_softmax_that_is_left_out,
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_where_a_way_leads_around_the_whole_network_runs(make):
    model, name = make()
    zoo.set_weights(model)
    inputs = [zoo.draw(3, *tensor.shape[1:], seed=i) for i, tensor in enumerate(model.inputs)]
    evaluator = Evaluator(model, "out" if len(model.outputs) > 1 else None)
    task = evaluator.task(inputs if len(inputs) > 1 else inputs[0], 1)
    onward, (scores, others, _) = evaluated(task, site(model, name), gradients=make not in REFUSED[-1:])
    assert onward.rest is None
    np.testing.assert_array_equal(scores, task.scores())
    assert np.ptp(others) > 0 or make in REFUSED[-1:]


def test_a_way_around_within_a_nested_model_is_found(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="inner")(inputs)
    nested = keras.Model(inputs, [x, layers.Dense(5, name="beside")(inputs)])
    outer = keras.Input((4,))
    first, second = nested(outer)
    alone, both = keras.Model(outer, layers.Dense(2)(first)), keras.Model(outer, layers.Dense(2)(first + second))
    for model, is_resumed in ((alone, True), (both, False)):
        task = Evaluator(model).task(rng.random((3, 4)), 1)
        assert (Onward(task, site(model, "inner")).rest is not None) == is_resumed


def test_another_explained_layer_must_come_after(rng):
    model = small_cnn()
    images = rng.random((2, 9, 7, 3), dtype="float32")
    for output, is_resumed in (("flatten", True), ("conv2", False), ("conv1", False)):
        evaluator = Evaluator(model, output)
        onward = Onward(evaluator.task(images, 1), site(model, "conv2"))
        assert (onward.rest is not None) == is_resumed
        np.testing.assert_allclose(onward.scores(), evaluator.task(images, 1).scores(), rtol=1e-6)


def test_backward_rules_see_the_whole_network(rng):
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    task = vis.Saliency(model, "guided").evaluator.task(images, 1)
    assert Onward(task, site(model, "conv1")).rest is None


def test_what_the_graph_was_told_of_training_is_not_asked(monkeypatch):
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="inner")(inputs)
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.5)(x, training=True))))
    compare_ways(Evaluator(model).task(zoo.draw(3, 4), 1), site(model, "inner"), monkeypatch)


class Wrapped(layers.Layer):
    """A layer that hands no `training` on."""

    def __init__(self):
        super().__init__()
        self.inner = Told()

    def call(self, x):
        return self.inner(x)


class Told(layers.Layer):
    """A layer that works otherwise in training, which is what it takes a call for."""

    def call(self, x, training=True):
        return 100 * x if training else x


def test_inner_layers_know_that_nothing_is_trained(monkeypatch):
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="inner")(inputs)
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(2)(Wrapped()(x))))
    compare_ways(Evaluator(model).task(zoo.draw(3, 4), 1), site(model, "inner"), monkeypatch)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_kept(policy, monkeypatch):
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy, name="inner")(inputs)
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy)(x)
    x = layers.Dense(3, dtype=policy)(layers.Flatten(dtype=policy)(x))
    model = zoo.set_weights(keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x)))
    onward = compare_ways(Evaluator(model).task(zoo.draw(3, 9, 7, 3), 1), site(model, "inner"), monkeypatch)
    assert not onward.is_affine


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere a compiled function's layers are not called")
@pytest.mark.parametrize("layer, rows", [("conv2", 2 + 2), ("conv1", 2 + 2 * 4)])
def test_what_comes_before_runs_once(layer, rows, rng):
    """No row without a channel goes through the layers before; where the rest is affine, there are no such rows."""
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    explainer = vis.AblationCAM(model, layer)
    explainer(images, 1)  # learns of the model
    before, after = counted(model.get_layer("conv1")), counted(model.get_layer("preds"))
    explainer(images, 1)  # learns of it anew: the layers were changed
    before.clear(), after.clear()
    explainer(images, 1)
    assert sum(before) == 2
    assert sum(after) == rows


@pytest.mark.parametrize(
    "kind, options", [(vis.IntegratedGradients, {"steps": 6}), (vis.SmoothGrad, {"num_samples": 6})]
)
def test_attributions_at_a_layer_run_the_rest(kind, options, rng, monkeypatch):
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    options = {**options, "input_layer": "conv1", **({"seed": 0} if kind is vis.SmoothGrad else {})}
    explainer = kind(model, **options)
    explainer(images, 1)
    before = counted(model.get_layer("conv1"))
    explainer(images, 1)  # learns of the changed layer
    before.clear()
    got = explainer(images, 1)
    assert keras.backend.backend() != "torch" or sum(before) == 2
    monkeypatch.setattr(Evaluator, "rest", lambda self, at: None)
    expected = kind(model, **options)(images, 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_changed_weights_give_new_numbers(rng):
    model = small_cnn()
    task = Evaluator(model).task(rng.random((2, 9, 7, 3), dtype="float32"), 1)
    onward = Onward(task, site(model, "conv1"))
    first = onward.scores_of(1, lambda images, numbers: onward.outputs[images])
    preds = model.get_layer("preds")
    preds.set_weights([2 * w for w in preds.get_weights()])
    np.testing.assert_allclose(onward.scores_of(1, lambda i, n: onward.outputs[i]), 2 * first, rtol=1e-6)


def test_another_activation_is_seen(rng):
    model = small_cnn()
    evaluator, images = Evaluator(model), rng.random((2, 9, 7, 3), dtype="float32")
    before = Onward(evaluator.task(images, 1), site(model, "conv1")).scores()
    model.get_layer("conv2").activation = keras.activations.tanh
    after = Onward(evaluator.task(images, 1), site(model, "conv1"))
    assert after.rest is not None and (after.scores() != before).all()
    np.testing.assert_allclose(after.scores(), evaluator.task(images, 1).scores(), rtol=1e-6)


def test_a_call_that_was_exchanged_is_no_graph(rng):
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    evaluator, at = Evaluator(model), site(model, "conv2")
    first = Onward(evaluator.task(images, 1), at)
    own = model.call
    model.call = lambda *args, **kwargs: 2 * own(*args, **kwargs)
    second = Onward(Evaluator(model).task(images, 1), at)
    assert first.rest is not None and second.rest is None and evaluator.rest(at) is None
    np.testing.assert_allclose(second.scores(), 2 * first.scores(), rtol=1e-6)


def test_the_model_is_as_it_was(rng):
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    weights, config = model.get_weights(), model.get_config()
    outputs = [layer.output for layer in model.layers]
    vis.AblationCAM(model, "conv1")(images, 1)
    assert all((a == b).all() for a, b in zip(weights, model.get_weights())) and model.get_config() == config
    assert all(a is layer.output for a, layer in zip(outputs, model.layers))  # one call each in the graph, as before
    assert all("call" not in vars(layer) for layer in model.layers)


def test_a_head_that_only_sums_needs_one_gradient(rng):
    """The score loses what the channel contributes: the same as without each of the channels."""
    model, images = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    task = Evaluator(model).task(images, [0, 2])
    for name, is_affine in (("conv2", True), ("conv1", False)):
        assert Onward(task, site(model, name)).is_affine == is_affine
    preds = model.get_layer("preds")
    preds.activation = keras.activations.softmax
    for logits in (True, False):
        task = Evaluator(model, logits=logits).task(images, 1)
        assert Onward(task, site(model, "conv2")).is_affine == logits
    preds.activation = keras.activations.relu
    assert not Onward(Evaluator(model).task(images, 1), site(model, "conv2")).is_affine
    own = Evaluator(model).task(images, lambda outputs: outputs[:, 0] ** 2)
    assert not Onward(own, site(model, "conv2")).is_affine


def test_an_automatic_target_is_that_of_the_samples(rng):
    model = small_cnn()
    task = Evaluator(model).task(rng.random((4, 9, 7, 3), dtype="float32"), None)
    onward = Onward(task, site(model, "conv1"))
    np.testing.assert_allclose(onward.scores(), task.scores(), rtol=1e-6)
    chosen = np.argmax(model.predict(task.batch.arrays[0], verbose=0), axis=1)
    settled = Onward(Evaluator(model).task(task.batch.arrays[0], chosen), site(model, "conv1"))
    nothing = [one.scores_of(1, lambda i, n, one=one: 0 * one.outputs[i]) for one in (onward, settled)]
    np.testing.assert_array_equal(*nothing)  # of zeros, another class may be the highest
