"""The evaluator, its requests and tasks, and the masking of inputs."""

import copy
import dataclasses
import pickle

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

import vis
from vis import backend
from vis.engine.evaluator import Evaluator
from vis.engine.masking import Masking, Masks, Segments, Values, Windows, read_fill
from vis.engine.memory import Memory
from vis.engine.network import replaced, scaled
from vis.engine.requests import INPUT_GRADIENTS, SCORES, Change, Request, gradients_at, outputs_at, site
from vis.engine.tasks import Task
from vis.losses import Neuron
from vis.methods.explainer import Explainer


@pytest.fixture
def model():
    return small_cnn()


@pytest.fixture
def images(rng):
    return rng.random((5, 9, 7, 3), dtype="float32")


def counted(layer):
    """Returns a list that gets an entry for each call of a layer."""
    calls, original = [], layer.call

    def call(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    layer.call = call
    return calls


def test_several_sites_and_the_inputs_in_one_pass(model, images):
    evaluator = Evaluator(model)
    task = evaluator.task(images, [0, 1, 0, 1, 0])
    sites = [site(model, name) for name in ("conv1", "conv2", "preds")]
    whole = task.map(Request(inputs=True, sites=tuple(sites), gradients=True))
    for number, one in enumerate(sites):
        alone = task.map(gradients_at(one))
        for name in ("activations", "gradients"):
            np.testing.assert_allclose(whole[name][number], alone[name][0], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(whole["activations"][number], task.map(outputs_at(one))["activations"][0])
    plain = task.map(INPUT_GRADIENTS)
    np.testing.assert_allclose(whole["input_gradients"][0], plain["input_gradients"][0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(whole["score"], task.scores(), rtol=1e-6)


def test_a_site_may_be_what_goes_into_a_layers_activation(model, images):
    """There the gradient is that of the output times the derivative, and the value is not cut off yet."""
    task = Evaluator(model).task(images, 1)
    after, preds = site(model, "conv2"), site(model, "preds")
    into = dataclasses.replace(after, part="into activation")
    both = task.map(gradients_at(after, into))
    (output, value), (at_output, at_value) = both["activations"], both["gradients"]
    assert value.min() < 0
    np.testing.assert_allclose(output, np.maximum(value, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(at_value, at_output * (value > 0), rtol=1e-5, atol=1e-6)
    assert after.key != into.key and preds.key not in (after.key, into.key)


def test_only_a_summary_of_gradients_may_be_kept(model, images):
    evaluator = Evaluator(model)
    task, sites = evaluator.task(images, 1, batch_size=2), (site(model, "conv1"), site(model, "preds"))

    def summary(layer, output, gradient):
        return ops.sum(ops.square(output) * gradient, axis=-1) * len(layer.name)

    found = task.map(Request(sites=sites, gradients=True, summary=summary))
    whole = task.map(gradients_at(*sites))
    assert not {"activations", "gradients"} & set(found)
    for one, output, gradient in zip(found["summaries"], whole["activations"], whole["gradients"]):
        np.testing.assert_allclose(one, 5 * (output**2 * gradient).sum(axis=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX traces a function more often than it runs it")
def test_several_sites_cost_one_forward_pass(model, images):
    calls = counted(model.get_layer("conv1"))
    evaluator = Evaluator(model)
    task = evaluator.task(images, 0)
    sites = [site(model, name) for name in ("conv1", "conv2", "preds")]
    calls.clear()
    task.map(gradients_at(*sites))  # the first call of a request runs step by step
    assert len(calls) == 1


def test_a_changed_site_gives_the_score_and_gradient_of_the_changed_network(model, images):
    evaluator = Evaluator(model)
    task, at = evaluator.task(images, 1), site(model, "conv2", 0)
    values = 2 * task.map(outputs_at(at))["activations"][0]
    request = Request(sites=(at,), gradients=True, change=Change(at, replaced))
    (_, _, found), *_ = task.rows(request, data=lambda images, numbers: [values[images]])
    np.testing.assert_allclose(found["activations"][0], values, rtol=1e-6)
    after = model.layers[model.layers.index(model.get_layer("conv2")) + 1 :]
    rest = keras.Sequential([keras.Input(values.shape[1:]), *after])
    score, _, gradient = backend.value_and_grad(lambda x: (rest(x)[:, 1], ()), ops.convert_to_tensor(values))
    np.testing.assert_allclose(found["score"], value_of(score), rtol=1e-5)
    np.testing.assert_allclose(found["gradients"][0], value_of(gradient), rtol=1e-4, atol=1e-7)


def test_channels_are_scaled_where_the_layer_has_them(model, images):
    evaluator = Evaluator(model)
    task, at = evaluator.task(images, 1), site(model, "conv2", 0)
    channels = task.map(outputs_at(at))["activations"][0].shape[-1]
    ones = [np.ones((5, channels), "float32")]
    request = Request(change=Change(at, scaled))
    np.testing.assert_allclose(task.scores_of(request, 1, data=lambda *_: ones)[:, 0], task.scores(), rtol=1e-5)
    zeros = [np.zeros((5, channels), "float32")]
    without = task.scores_of(request, 1, data=lambda *_: zeros)[:, 0]
    assert np.ptp(without) < 1e-6 and not np.allclose(without, task.scores())


@pytest.mark.parametrize("channels", [(), (3,), (7,)])
@pytest.mark.parametrize("side", [5, 40])
def test_values_are_put_where_rows_are_hidden(channels, side, rng):
    rows, values = rng.random((3, side, side, *channels)), rng.random((2, side, side, *channels))
    hidden, images = rng.random((3, side, side)) < 0.4, np.array([1, 0, 1])
    wanted = np.where(hidden.reshape(*hidden.shape, *[1] * len(channels)), values[images], rows)
    Values(values).show(rows, hidden, images, None)
    np.testing.assert_array_equal(rows, wanted)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
def test_pairs_stay_together(model, images, batch_size):
    task = Evaluator(model).task(images, 0, batch_size=batch_size)
    for found, numbers, _ in task.rows(dataclasses.replace(SCORES, together=2), 2):
        assert len(found) % 2 == 0
        assert numbers.tolist() == [0, 1] * (len(numbers) // 2)
        assert found[0::2].tolist() == found[1::2].tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 4, 32])
def test_reduce_is_the_sum_over_all_rows_of_a_sample(model, images, batch_size):
    task = Evaluator(model).task(images, [0, 1, 0, 1, 0], batch_size=batch_size)
    weights = np.arange(1.0, 7.0)

    def rows(images_, numbers):
        return [images[images_] * weights[numbers].astype("float32").reshape(-1, 1, 1, 1)]

    def part(image, numbers, results):
        return [(weights[numbers] * results["score"]).sum(), np.array([len(numbers)])]

    sums, counts = task.reduce(SCORES, 6, part, lambda image, totals: [totals[0] + image, totals[1]], inputs=rows)
    expected = (task.scores_of(SCORES, 6, inputs=rows) * weights).sum(axis=1) + np.arange(5)
    np.testing.assert_allclose(sums, expected, rtol=1e-6)
    assert counts.dtype == "float32" and counts.tolist() == [[6.0]] * 5


def test_an_automatic_target_is_fixed_by_one_pass_and_the_task_itself_stays(model, images):
    evaluator = Evaluator(model)
    task = evaluator.task(images, None)
    settled = task.settled()
    assert not task.goal.is_settled and settled.goal.is_settled and settled.settled() is settled
    np.testing.assert_array_equal(settled.goal.weights.argmax(axis=1), model.predict(images, verbose=0).argmax(axis=1))
    calls = counted(model.get_layer("conv1"))
    assert settled.scores() is settled.known_scores and not calls  # known already


def test_one_compiled_function_for_a_thousand_targets(model, images):
    explainer = vis.Saliency(model)
    for i in range(20):
        explainer(images, [i % 2] * 5)
    assert len(explainer.evaluator.memory._shelves["functions"]) == 1


def test_a_request_is_its_own_key(model):
    first, second = site(model, "conv1"), site(model, "conv2")
    assert gradients_at(first, second) == gradients_at(site(model, "conv1"), site(model, "conv2"))
    different = {SCORES, INPUT_GRADIENTS, outputs_at(first), gradients_at(first), gradients_at(second, first)}
    different |= {gradients_at(first, second), Request(change=Change(first, scaled))}
    different |= {Request(change=Change(first, replaced)), Request(change=Change(second, scaled))}
    assert len(different) == 9


def test_an_evaluator_is_pickled_and_copied_with_its_layers(model, images):
    evaluator = Evaluator(model, "preds", site_layer="conv2")
    before = evaluator.task(images, 1).map(gradients_at(evaluator.site))
    for other in (copy.deepcopy(evaluator), pickle.loads(pickle.dumps(evaluator))):
        assert other.model is not model and other.site == evaluator.site and other.output == evaluator.output
        after = other.task(images, 1).map(gradients_at(other.site))
        np.testing.assert_allclose(after["gradients"][0], before["gradients"][0], rtol=1e-5, atol=1e-7)


def test_memory_is_forgotten_when_a_layer_changes_and_not_before():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="relu", name="fc")])
    memory, made = Memory(model), []

    def make():
        made.append(1)
        return len(made)

    memory.forget_changed()
    assert [memory.once("shelf", make, "key") for _ in range(3)] == [1, 1, 1]
    model.set_weights([np.ones((3, 2)), np.ones(2)])
    assert not memory.forget_changed() and memory.once("shelf", make, "key") == 1
    assert memory.once("shelf", make, "other") == 2 and memory.once("elsewhere", make, "key") == 3
    model.layers[-1].activation = keras.activations.linear
    assert memory.forget_changed() and memory.get("shelf", "key") is None
    assert memory.once("shelf", make, "key") == 4
    for number in range(40):
        memory.once("shelf", make, number)
    assert len(memory._shelves["shelf"]) == 16
    assert memory.keep("shelf", "value", 39) == memory.get("shelf", 39) == "value"


def batch_of(array, form):
    return vis.engine.inputs.plain_batch(array, form)


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
def test_windows_segments_and_masks_hide_what_they_say(form, rng):
    array = rng.random((2, 4, 6, 3), dtype="float32")
    fill = rng.random((2, 4, 6, 3), dtype="float32")
    moved = (lambda a: np.moveaxis(a, -1, 1)) if form == "channels_first" else (lambda a: a)
    batch, images = batch_of(moved(array).copy(), form), np.array([1, 0, 1])

    windows = Windows((4, 6), (2, 4), (2, 3))
    assert windows.count == 4 and windows.covers()[:, 0].tolist() == [1.0] * 4 and windows.covers()[0, 3] == 2
    labels = rng.integers(3, size=(4, 6))
    drawn = rng.random((3, 4, 6), dtype="float32")
    for parts, shown in [
        (windows, [_outside((4, 6), windows.slices[number]) for number in (0, 3, 2)]),
        (Segments(labels), [labels != number for number in (0, 1, 2)]),
        (Masks(9, 2, lambda images, numbers: drawn), list(drawn)),
    ]:
        numbers = np.array([0, 3, 2] if parts is windows else [0, 1, 2])
        (rows,) = Masking(batch, 0, parts, moved(fill))(images, numbers)
        for row, image, mask in zip(rows, images, shown):
            expected = array[image] * np.asarray(mask)[..., None] + fill[image] * (1 - np.asarray(mask))[..., None]
            np.testing.assert_allclose(row, moved(expected[None])[0], rtol=1e-6)
        (rows,) = Masking(batch, 0, parts)(images, numbers)  # zeros by default
        np.testing.assert_allclose(rows[0], moved((array[1] * np.asarray(shown[0])[..., None])[None])[0], rtol=1e-6)
    np.testing.assert_array_equal(batch.arrays[0], moved(array))  # the samples themselves stay


def _outside(shape, window):
    found = np.ones(shape)
    found[window] = 0
    return found


def test_images_without_a_channel_axis_are_masked(rng):
    array = rng.random((2, 4, 6), dtype="float32")
    (rows,) = Masking(batch_of(array.copy(), "channels_first"), 0, Windows((4, 6), (4, 3), (4, 3)))([0, 1], [0, 1])
    np.testing.assert_array_equal(rows[0], array[0] * _outside((4, 6), np.s_[:, :3]))
    np.testing.assert_array_equal(rows[1], array[1] * _outside((4, 6), np.s_[:, 3:]))


@pytest.mark.parametrize("form, axes", [("channels_last", (1, 2)), ("channels_first", (2, 3))])
def test_fills(form, axes, rng):
    values = rng.random((2, 16, 12, 5), dtype="float32")
    assert (read_fill(0.5, values, form) == 0.5).all()
    np.testing.assert_array_equal(read_fill(values[0], values, form)[1], values[0])
    mean = read_fill("mean", values, form)
    np.testing.assert_allclose(mean, np.broadcast_to(values.mean(axis=axes, keepdims=True), values.shape))
    blurred = read_fill("blur", values, form)
    assert blurred.shape == values.shape and blurred.dtype == "float32"
    assert (blurred.std(axis=axes) < values.std(axis=axes)).all()  # blurred along the positions,
    channel = 3 if form == "channels_last" else 1
    alone = np.take(values, [2], axis=channel)
    np.testing.assert_allclose(
        read_fill("blur", alone, form), np.take(blurred, [2], axis=channel), rtol=1e-6
    )  # and only


@pytest.mark.parametrize(
    "baseline, shape, words",
    [
        ("median", (1, 4, 4, 1), "'mean' or 'blur'. Received: 'median'"),
        ("mean", (1, 4), "needs positions and channels"),
        (np.zeros((3, 3)), (1, 4, 4, 1), "fits one sample of shape \\(4, 4, 1\\)"),
    ],
)
def test_fills_that_do_not_fit(baseline, shape, words):
    with pytest.raises(ValueError, match=words):
        read_fill(baseline, np.ones(shape, "float32"))


@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_occlusion_shows_named_fills(model, images, baseline):
    explainer = vis.Occlusion(model, patch=3, stride=3, baseline=baseline)
    fill = read_fill(baseline, images)
    expected = vis.Occlusion(model, patch=3, stride=3, baseline=fill)(images, 1)
    np.testing.assert_array_equal(explainer(images, 1), expected)
    assert not np.allclose(expected, vis.Occlusion(model, patch=3, stride=3)(images, 1))


def test_a_task_of_another_evaluator(images):
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.Flatten(), layers.Dense(3, activation="softmax")])
    task = Evaluator(model).task(images, None).settled()
    other = task.on(Evaluator(model, logits=False))
    assert isinstance(other, Task) and other.goal is task.goal
    assert not np.allclose(other.scores(), task.scores())  # probabilities, not what was known of the other


def test_a_change_of_a_call_that_does_not_exist_is_refused(model, images):
    task = Evaluator(model).task(images, 1)
    for call in (5, -3):
        at = site(model, ("conv2", call))
        task.map(outputs_at(site(model, "conv2")))
        with pytest.raises(ValueError, match=f"ran 1 times. Received: call {call}"):
            task.scores_of(Request(change=Change(at, scaled)), 1, data=lambda i, _: [np.zeros((len(i), 5), "float32")])


def test_a_change_before_the_site_was_read_is_refused(model, images):
    request = Request(change=Change(site(model, "conv2"), scaled))
    with pytest.raises(RuntimeError, match="must be asked for before it is changed.*'conv2', call -1"):
        Evaluator(model).task(images, 1).scores_of(request, 1, data=lambda i, _: [np.ones((len(i), 5), "float32")])


@pytest.mark.parametrize("function, shape, words", [(replaced, (2, 3), "keep the shape"), (scaled, (3,), "5 channels")])
def test_a_change_of_another_shape_is_refused(model, images, function, shape, words):
    request = Request(change=Change(site(model, "conv2", 0), function))
    with pytest.raises(ValueError, match=words):
        Evaluator(model).task(images, 1).scores_of(request, 1, data=lambda i, _: [np.ones((len(i), *shape), "float32")])


def test_too_few_rows_are_refused(model, images):
    task = Evaluator(model).task(images, 1)
    with pytest.raises(ValueError, match="`inputs` must return a list of arrays with a row for each of the 15"):
        task.scores_of(SCORES, 3, inputs=lambda i, _: [images[:1]])
    with pytest.raises(ValueError, match="`inputs` must return a list of arrays.*Received: ndarray"):
        task.scores_of(SCORES, 1, inputs=lambda i, _: images[i])
    request = Request(change=Change(site(model, "conv2", 0), scaled))
    with pytest.raises(ValueError, match="`data` must return a list of arrays"):
        task.scores_of(request, 1, data=lambda i, _: [np.ones((1, 5), "float32")])
    with pytest.raises(ValueError, match="multiple of `together`. Received: 5 and 2"):
        list(task.rows(dataclasses.replace(SCORES, together=2)))


@pytest.mark.parametrize("one", ["conv1", None, 0])
def test_what_is_no_site_is_refused(one):
    with pytest.raises(TypeError, match="A site is one call of a layer"):
        gradients_at(one)


def test_reading_a_softmax_does_not_change_what_is_explained(images):
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3)),
            layers.Conv2D(2, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", name="preds"),
        ]
    )
    task = Evaluator(model).task(images, 1)
    found = task.map(Request(sites=(site(model, "conv"), site(model, "preds"))))
    np.testing.assert_allclose(found["score"], task.scores(), rtol=1e-6)
    with pytest.raises(ValueError, match="does not depend on layer 'preds'"):  # the score before the softmax does not
        task.map(gradients_at(site(model, "conv"), site(model, "preds")))


@pytest.mark.parametrize(
    "labels",
    [np.full((4, 4), -1), np.zeros((4, 4)), np.zeros(0, int), [[0.5, 1.0]]],
    ids=["below", "floats", "none", "list"],
)
def test_labels_that_are_no_segments(labels):
    with pytest.raises(ValueError, match="`labels` must be whole numbers from 0 on"):
        Segments(labels)


def test_segments_of_another_shape_are_refused():
    batch = batch_of(np.zeros((2, 4, 6, 3), "float32"), "channels_last")
    assert Segments([[0, 1]]).count == 2
    for shape in [(4,), (6, 4), (1, 1)]:
        with pytest.raises(ValueError, match=r"spatial shape of the input, \(4, 6\). Received: \("):
            Masking(batch, 0, Segments(np.zeros(shape, int)))


@pytest.mark.parametrize("baseline", [0.5, 300, -1, "mean"])
def test_whole_numbers_hold_no_such_fill(baseline):
    values = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    with pytest.raises(ValueError, match="must hold whole numbers from 0 to 255"):
        read_fill(baseline, values)
    assert read_fill(7, values).max() == 7


class Returns(Explainer):
    def __init__(self, model, maps):
        super().__init__(model)
        self.maps = maps

    def explain(self, task):
        return self.maps


@pytest.mark.parametrize("maps", [np.zeros((2, 3), "float32"), np.zeros((5, 3)), None, 1.0, [1, 2]])
def test_what_a_method_returns_is_checked(model, images, maps):
    with pytest.raises(TypeError, match="`explain` of Returns must return float32 arrays"):
        Returns(model, maps)(images, 0)
    right = np.zeros((5, 3), "float32")
    assert Returns(model, right)(images, 0) is right


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def unregistered(x):
    return 2 * x


@pytest.mark.parametrize("how", ["pickle", "copy"])
@pytest.mark.parametrize("name", ["Unregistered", "unregistered"])
@pytest.mark.parametrize("make", [vis.Saliency, vis.GradCAM, vis.FeatureVisualization])
def test_what_is_not_registered_is_named(make, name, how):
    own = Unregistered() if name == "Unregistered" else keras.layers.Activation(unregistered)
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), own])
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), inner, keras.layers.Flatten(), keras.layers.Dense(2, name="dense")]
    )
    explainer = make(model, *([Neuron("dense", 0)] if make is vis.FeatureVisualization else []))
    with pytest.raises(ValueError, match=f"with '{name}', .*register_keras_serializable") as raised:
        pickle.loads(pickle.dumps(explainer)) if how == "pickle" else copy.deepcopy(explainer)
    assert len(str(raised.value)) < 400
    with keras.saving.custom_object_scope({name: globals()[name]}):
        pickle.loads(pickle.dumps(explainer)) if how == "pickle" else copy.deepcopy(explainer)


def test_explainers_of_one_model_share_it_in_a_pickle(model):
    for again in (
        pickle.loads(pickle.dumps([vis.Saliency(model), vis.LRP(model)])),
        copy.deepcopy([vis.Saliency(model)]),
    ):
        assert again[0].model is again[-1].model is not model
