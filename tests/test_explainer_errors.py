"""Bad input to the explainers: one sentence that says what came, what was expected, how to mend it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import zoo
from conftest import ROOT, small_cnn
from keras import layers, ops

import vis
from vis.losses import ActivationMaximization
from vis.utils.validation import VisualizationWarning, check_input_range, words_error


@pytest.fixture(scope="module")
def model():
    return small_cnn()


X = zoo.draw(3, 9, 7, 3)

INPUTS = [
    (X[0], r"inputs\[None\]"),
    (X[..., :1], r"\(N, 9, 7, 3\).*Received: shape \(3, 9, 7, 1\)"),
    (np.moveaxis(X, -1, 1), "channels last"),
    (X[:0], "at least one sample"),
    (np.where(X > 2, np.nan, X), "NaN or infinite"),
    (np.ma.masked_greater(X, 2), r"masked.*\.filled\("),
    ([np.ma.masked_greater(one, 2) for one in X], r"masked.*\.filled\("),
    (np.where(X > 2, np.inf, X), "NaN or infinite"),
    ("photo.jpg", "load_img"),
    (None, "must be numbers"),
    (np.array(["a"]), "must be numbers"),
    ([X, X], "Received: shape"),
    ({"a": X}, "must have the keys"),
    ([X[0], X[1, :3]], "could not be read|common shape"),
]


@pytest.mark.parametrize("inputs, message", INPUTS)
@pytest.mark.parametrize("method", [vis.Saliency, vis.GradCAM, vis.Occlusion])
def test_inputs(model, method, inputs, message):
    with pytest.raises(ValueError, match=message):
        method(model)(inputs)


def test_masked_arrays_without_masked_values_are_arrays(model):
    whole = np.ma.masked_array(X, mask=np.zeros(X.shape, bool))
    np.testing.assert_array_equal(vis.Saliency(model)(whole, 1), vis.Saliency(model)(X, 1))


def test_masked_arrays_are_refused_elsewhere_too(model):
    masked = np.ma.masked_greater(X, 2)
    with pytest.raises(ValueError, match="masked"):
        vis.heatmap(masked)
    with pytest.raises(ValueError, match="`baseline`.*masked"):
        vis.IntegratedGradients(model, baseline=masked)(X, 1)
    with pytest.raises(ValueError, match="`seed_input`.*masked"):
        vis.visualize_saliency(model, "preds", 0, masked)
    with pytest.raises(ValueError, match="`target`.*masked"):
        vis.Saliency(model)(X, np.ma.masked_array([0, 1, 2], mask=[0, 1, 0]))


TARGETS = [
    (3, ValueError, "3 classes: choose from 0 to 2"),
    (-1, ValueError, "choose from 0 to 2"),
    ([0, 1], ValueError, "Received: 2 for 3 samples"),
    ([0, 1, 5], ValueError, "Received: 5"),
    ([[0], [1], []], ValueError, "at least one class"),
    (np.eye(3, dtype="int32"), ValueError, "one-hot"),
    (1.5, TypeError, "Received: 1.5"),
    ([0, 1.5, 2], TypeError, "must hold integers"),
    ("cat", TypeError, "Received: 'cat'"),
    (int, TypeError, "Received: the type `int` itself"),
    (np.float32, TypeError, "the type `float32`"),
    (lambda outputs: outputs, ValueError, r"one number for each sample.*, 3\)"),
    (lambda outputs: np.ones(3), ValueError, "Received: ndarray"),
    (lambda outputs: ops.sum(outputs), ValueError, "one number for each sample"),
]


@pytest.mark.parametrize("target, error, message", TARGETS)
@pytest.mark.parametrize("method", [vis.Saliency, vis.GradCAM, vis.RISE])
def test_targets(model, method, target, error, message):
    with pytest.raises(error, match=message):
        method(model)(X, target)


def of_units(units):
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.Flatten(), layers.Dense(units)])
    return zoo.set_weights(model)


@pytest.mark.parametrize("target", [np.eye(2, dtype="int64")[[0, 1, 0]], [[1, 0], [0], [0, 1]], [[0, 1]] * 3])
def test_rows_that_name_both_of_two_classes_are_taken_for_one_hot_labels(target):
    with pytest.raises(ValueError, match=r"`target`.*both of two classes.*labels\.argmax\(axis=-1\).*function"):
        vis.Saliency(of_units(2))(X, target)
    with pytest.raises(ValueError, match="they cancel"):
        vis.Saliency(of_units(1))(X, [[0, 1]] * 3)
    vis.Saliency(of_units(3))(X, [[0, 1]] * 3)  # two of three: meant as it says
    both = vis.Saliency(of_units(2))(X, lambda outputs: outputs[:, 0] + outputs[:, 1])
    alone = [vis.Saliency(of_units(2))(X, one) for one in ([[0], [1], [0]], [1, 0, 1])]
    np.testing.assert_allclose(both, alone[0] + alone[1], atol=1e-5)


@pytest.mark.parametrize("method", [vis.Saliency, vis.GradCAM, vis.IntegratedGradients])
def test_a_target_that_cannot_be_differentiated(model, method):
    with pytest.raises(ValueError, match="must be differentiable"):
        method(model)(X, lambda outputs: ops.cast(ops.argmax(outputs, axis=-1), "float32"))


def dead_branch():
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(2, 3, name="alive")(inputs)
    y = layers.Conv2D(2, 3, name="other")(inputs)
    outputs = [layers.GlobalAveragePooling2D(name="one")(x), layers.GlobalAveragePooling2D(name="two")(y)]
    return keras.Model(inputs, outputs)


def test_a_layer_that_the_target_does_not_depend_on():
    with pytest.raises(ValueError, match="does not depend on layer 'other'"):
        vis.GradCAM(dead_branch(), "other", output_layer="one")(X)


def test_layers_that_do_not_matter_are_passed_over():
    model = dead_branch()
    for output, layer in (("one", "alive"), ("two", "other")):
        got = vis.GradCAM(model, output_layer=output)(X, 1)
        np.testing.assert_array_equal(got, vis.GradCAM(model, layer, output_layer=output)(X, 1))


CONSTRUCTORS = [
    (lambda m: vis.Saliency("model"), TypeError, "`model` must be a Keras 3 model"),
    (lambda m: vis.Saliency(m, "guide"), ValueError, "Did you mean: 'guided'"),
    (lambda m: vis.GradCAM(m, "conv9"), ValueError, "Did you mean: 'conv[12]'"),
    (lambda m: vis.GradCAM(m, 99), ValueError, "out of range"),
    (lambda m: vis.GradCAM(m, layers.Dense(3)), ValueError, "must belong to the model"),
    (lambda m: vis.GradCAM(m, 1.5), TypeError, "name, path or index"),
    (lambda m: vis.GradCAM(m, reshape="grid"), ValueError, "reshape"),
    (lambda m: vis.EigenCAM(m, backprop_modifier="guided"), ValueError, "no gradient"),
    (lambda m: vis.SmoothGrad(m, num_samples=0), ValueError, "num_samples=0"),
    (lambda m: vis.SmoothGrad(m, num_samples=1, statistic="variance"), ValueError, "at least 2"),
    (lambda m: vis.SmoothGrad(m, noise_level=-1), ValueError, "noise_level=-1"),
    (lambda m: vis.SmoothGrad(m, noise_level="a"), TypeError, "noise_level"),
    (lambda m: vis.SmoothGrad(m, statistic="median"), ValueError, "Unknown statistic"),
    (lambda m: vis.SmoothGrad(m, seed=-1), ValueError, "seed"),
    (lambda m: vis.IntegratedGradients(m, steps=0), ValueError, "steps=0"),
    (lambda m: vis.IntegratedGradients(m, steps=2.5), TypeError, "steps=2.5"),
    (lambda m: vis.ExpectedGradients(m, None), TypeError, "`background` must be usual inputs.*None"),
    (lambda m: vis.ExpectedGradients(m, X, num_samples=0), ValueError, "num_samples=0"),
    (lambda m: vis.ExpectedGradients(m, X, seed=-1), ValueError, "seed"),
    (lambda m: vis.BlurIntegratedGradients(m, steps=0), ValueError, "steps=0"),
    (lambda m: vis.BlurIntegratedGradients(m, max_sigma=0), ValueError, "above 0, in pixels.*max_sigma=0"),
    (lambda m: vis.BlurIntegratedGradients(m, max_sigma="a"), TypeError, "max_sigma"),
    (lambda m: vis.GuidedIntegratedGradients(m, steps=0), ValueError, "steps=0"),
    (lambda m: vis.GuidedIntegratedGradients(m, fraction=0), ValueError, "fraction=0"),
    (lambda m: vis.GuidedIntegratedGradients(m, max_distance=1.5), ValueError, r"in \[0, 1\].*max_distance=1.5"),
    (lambda m: vis.GuidedIntegratedGradients(m, max_distance=-1), ValueError, "max_distance=-1"),
    (lambda m: vis.XRAI(m, steps=0), ValueError, "steps=0"),
    (lambda m: vis.XRAI(m, input_name=1.5), TypeError, "input_name"),
    (lambda m: vis.FullGrad(m, input_name=1.5), TypeError, "input_name"),
    (lambda m: vis.ScoreCAM(m, max_channels=0), ValueError, "max_channels=0"),
    (lambda m: vis.Occlusion(m, patch=0), ValueError, "patch=0"),
    (lambda m: vis.Occlusion(m, patch="a"), TypeError, "patch"),
    (lambda m: vis.RISE(m, num_masks=0), ValueError, "num_masks=0"),
    (lambda m: vis.RISE(m, grid=0), ValueError, "grid=0"),
    (lambda m: vis.RISE(m, probability=0), ValueError, "probability"),
    (lambda m: vis.RISE(m, probability=1.5), ValueError, "probability"),
]


@pytest.mark.parametrize("make, error, message", CONSTRUCTORS)
def test_constructors(model, make, error, message):
    with pytest.raises(error, match=message):
        make(model)


CALLS = [
    (lambda m: vis.Saliency(m)(X, batch_size=0), ValueError, "batch_size=0"),
    (lambda m: vis.Saliency(m)(X, batch_size=2.0), TypeError, "batch_size"),
    (lambda m: vis.GradCAM(m, "preds")(X), ValueError, "must have spatial output.*'conv2', 'conv1'"),
    (lambda m: vis.GradCAM(m, "conv1", reshape="tokens")(X), ValueError, "grid of squares"),
    (lambda m: vis.Occlusion(m, patch=8)(X), ValueError, r"larger than the input. Received: \[8, 8\]"),
    (lambda m: vis.Occlusion(m, patch=2, stride=3)(X), ValueError, "positions are left out"),
    (lambda m: vis.Occlusion(m, patch=(2, 2, 2))(X), ValueError, "each of 2 spatial axes"),
    (lambda m: vis.Occlusion(m, baseline=np.ones(5))(X), ValueError, "baseline"),
    (lambda m: vis.IntegratedGradients(m, baseline=np.ones((4, 4)))(X), ValueError, "baseline"),
    (lambda m: vis.IntegratedGradients(m, baseline=np.nan)(X), ValueError, "baseline"),
    (lambda m: vis.ExpectedGradients(m, X, 1).with_error(X), ValueError, "at least 2. Received: num_samples=1"),
    (lambda m: vis.GuidedIntegratedGradients(m, baseline=np.ones((4, 4)))(X), ValueError, "baseline"),
    (lambda m: vis.XRAI(m, np.zeros((9, 7), int), baseline=np.ones(5))(X), ValueError, "baseline"),
    (lambda m: vis.Saliency(m).stream(X), TypeError, "call the explainer itself"),
    (lambda m: vis.Saliency(m).stream([X], target=[0, 1, 2]), TypeError, "target"),
    (lambda m: vis.Saliency(m).stream(3), TypeError, "iterable"),
]


@pytest.mark.parametrize("call, error, message", CALLS)
def test_calls(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_a_tensor_without_numbers(model):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="`inputs` must be numbers.*'meta', which has a shape and no numbers"):
        vis.Saliency(model)(torch.zeros((3, 9, 7, 3), device="meta"))


def test_arrays_of_several_shapes_are_named(model):
    with pytest.raises(ValueError, match=r"`inputs`.*shapes \(3, 7, 3\) and \(9, 7, 3\).*resize them"):
        vis.Saliency(model)([X[0], X[1, :3]])


@pytest.mark.parametrize("given", [(-1e300, 1e300), (0, 1e39), (-3e38, 3e38), (0, 1e-60), (0, 10**400)])
def test_ranges_that_float32_cannot_hold(given):
    with pytest.raises(ValueError, match="`input_range`") as caught:
        check_input_range(given)
    assert len(str(caught.value)) < 400


def test_names_in_messages_command_no_terminal():
    inputs = keras.Input((8, 8, 1))
    outputs = layers.Dense(2, name="b\x1b[0m")(layers.Flatten()(layers.Conv2D(2, 3, name="a\x1b[31m")(inputs)))
    evil = keras.Model(inputs, outputs, name="evil\x1b[2J")
    for call in (
        lambda: vis.GradCAM(evil, "c"),
        lambda: vis.GradCAM(evil, 9),
        lambda: vis.GradCAM(evil, "b\x1b[0m")(np.ones((1, 8, 8, 1))),
        lambda: vis.Saliency(evil)(np.ones((1, 8, 8, 1)), 7),
        lambda: vis.Saliency(evil)({"x": 1}),
        lambda: vis.utils.utils.swap_softmax(evil),
        lambda: vis.FeatureVisualization(evil, ActivationMaximization("a\x1b[31m", 9))(steps=1),
    ):
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        assert str(caught.value).isprintable(), call


def test_what_a_model_of_any_size_says_is_one_sentence():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()])
    for method in (vis.Saliency, vis.Occlusion):
        with pytest.raises(ValueError, match="could not be called on the input") as caught:
            method(model)(np.ones((1, 1, 1, 3)), 1)
        words = str(caught.value)
        assert words.isprintable() and "Arguments received" not in words and len(words) < 460


def test_other_libraries_words_are_made_one_line():
    error = ValueError(
        "Exception encountered when calling Conv2D.call().\n\n\x1b[1m{{node x}} No \x07 such\nsize.\x1b[0m\n\n"
        "Arguments received by Conv2D.call():\n  - inputs=3"
    )
    assert words_error(error) == r"No \x07 such size."
    assert words_error(KeyError()) == "KeyError"
    assert len(words_error("a" * 1000, 99)) == 99


@pytest.mark.parametrize("code", ["import vis; vis.Saliency", "from vis import Saliency", "import vis.visualization"])
@pytest.mark.parametrize("name", ["numpy", "openvino", "nonsense"])
def test_other_backends_are_a_sentence(name, code):
    environment = {**os.environ, "KERAS_BACKEND": name}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    words = done.stderr.splitlines()[-1]
    assert words.startswith(f"ImportError: vis does not support the Keras backend '{name}'")
    assert "'tensorflow', 'jax' or 'torch'" in words


def test_a_model_without_feature_maps():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="no layer with spatial output"):
        vis.GradCAM(model)(zoo.draw(2, 4))


def test_several_inputs_must_fit_together():
    model, (image, vector) = zoo.two_inputs_list()
    explainer = vis.Saliency(model)
    for inputs, message in [
        (image, "2 arrays"),
        ([image], "2 arrays"),
        ([image, vector[:2]], "same number of samples"),
        ([vector, image], "must have the shape"),
        ({"image": image, "vectr": vector}, r"must have the keys \['image', 'vector'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            explainer(inputs)


def test_whole_numbers_where_whole_numbers_belong():
    model, words = zoo.text(False)
    with pytest.raises(ValueError, match="whole numbers"):
        vis.Occlusion(model, patch=1)(words + 0.5)


def test_a_network_that_makes_nan():
    model = small_cnn()
    model.set_weights([w * np.nan for w in model.get_weights()])
    for method in (vis.Saliency, vis.GradCAM, vis.Occlusion, vis.EigenCAM):
        with pytest.raises(FloatingPointError, match="NaN"):
            method(model)(X, 1)


def test_after_an_error_the_explainer_works(model):
    explainer = vis.GradCAM(model)
    expected = explainer(X, 1)
    for inputs, target in [(X[0], 1), (X, 7), (X, lambda outputs: outputs)]:
        with pytest.raises(ValueError):
            explainer(inputs, target)
    np.testing.assert_array_equal(explainer(X, 1), expected)


HEATMAPS = [
    (lambda: vis.heatmap(X, percentile=0), ValueError, "percentile"),
    (lambda: vis.heatmap(X, reduce="median"), ValueError, "Unknown reduce"),
    (lambda: vis.heatmap(X, sign="plus"), ValueError, "Unknown sign"),
    (lambda: vis.heatmap(X * np.nan), ValueError, "finite"),
    (lambda: vis.heatmap(np.ones(3)), ValueError, "at least one sample"),
    (lambda: vis.heatmap(X, channel_axis=0), ValueError, "channel_axis"),
    (lambda: vis.heatmap([X, X[:, 0, 0]]), ValueError, "one at a time"),
    (lambda: vis.heatmap("map"), ValueError, "must be numbers"),
]


@pytest.mark.parametrize("call, error, message", HEATMAPS)
def test_heatmaps(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_words_are_not_faded_and_not_hidden_by_half_words():
    model, words = zoo.text(False)
    with pytest.raises(ValueError, match="whole numbers"):
        vis.ScoreCAM(model)(words)
    for baseline in (0.5, 1e12):
        with pytest.raises(ValueError, match="`baseline` must be a token id from 0 to"):
            vis.Occlusion(model, patch=1, baseline=baseline)(words)


@pytest.mark.parametrize("method", [vis.GradCAM, vis.EigenCAM, vis.AblationCAM, vis.ScoreCAM])
@pytest.mark.parametrize("output, layer", [("one", "alive"), ("two", "other")])
def test_no_method_takes_the_feature_map_of_another_branch(method, output, layer):
    model = zoo.set_weights(dead_branch())
    got = method(model, output_layer=output)(X, 1)
    np.testing.assert_array_equal(got, method(model, layer, output_layer=output)(X, 1))


def test_flags_are_flags(model):
    for make in (lambda: vis.Saliency(model, logits="no"), lambda: vis.GradCAM(model, upsample="no")):
        with pytest.raises(TypeError, match="must be True or False"):
            make()


def test_images_without_a_channel_axis():
    model = keras.Sequential([keras.Input((6, 5)), layers.Flatten(), layers.Dense(2)])
    assert vis.Occlusion(model, patch=(2, 2))(zoo.draw(3, 6, 5), 1).shape == (3, 6, 5)
    with pytest.warns(VisualizationWarning, match="signals of 5 channels"):
        assert vis.Occlusion(model)(zoo.draw(3, 6, 5), 1).shape == (3, 6)


# --- perturbation: what is hidden, and what stands there


def grey_without_channels(*first):
    """Images (N, H, W): the channel axis comes later, or never."""
    first = first or (layers.Reshape((12, 10, 1)), layers.Conv2D(2, 3, activation="relu"))
    return keras.Sequential([keras.Input((12, 10)), *first, layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize("make", [lambda m: vis.Occlusion(m, 2), lambda m: vis.RISE(m, 8, 4, seed=0)])
def test_images_without_a_channel_axis_are_images(make, model):
    model = zoo.set_weights(grey_without_channels())
    x = zoo.draw(2, 12, 10)
    twin = keras.Sequential([keras.Input((12, 10, 1)), *model.layers[1:]])
    maps, expected = make(model)(x, 1), make(twin)(x[..., None], 1)
    assert maps.shape == (2, 12, 10)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    rescaled = grey_without_channels(layers.Rescaling(2.0), *model.layers)
    assert make(rescaled)(x, 1).shape == (2, 12, 10)
    inputs = keras.Input((12, 10))
    expanded = keras.Model(inputs, layers.GlobalAveragePooling2D()(ops.expand_dims(inputs, -1)))
    assert make(expanded)(x, 0).shape == (2, 12, 10)


def test_inputs_that_may_be_images_or_signals_are_said():
    flat = grey_without_channels(layers.Flatten())
    x = zoo.draw(2, 12, 10)
    with pytest.warns(VisualizationWarning, match="signals of 10 channels.*patch.*pair"):
        assert vis.Occlusion(flat)(x, 1).shape == (2, 12)
    with pytest.warns(VisualizationWarning, match="signals of 10 channels.*Reshape"):
        vis.RISE(flat, 8, 4, seed=0)(x, 1)
    assert vis.Occlusion(flat, (3, 3))(x, 1).shape == (2, 12, 10)  # said
    assert vis.Occlusion(grey_without_channels(layers.Conv1D(2, 3)))(x, 1).shape == (2, 12)  # a signal


FAR = zoo.draw(2, 9, 7, 3) + 290  # temperatures in kelvin


@pytest.mark.parametrize("make", [vis.Occlusion, vis.IntegratedGradients, lambda m: vis.RISE(m, 8), vis.ScoreCAM])
def test_a_baseline_far_from_the_inputs_is_said(make, model):
    with pytest.warns(VisualizationWarning, match="0 .*far from.*values.*from 28"):
        make(model)(FAR, 1)
    make(model)(FAR - 290, 1)
    make(model)(np.abs(FAR - 290), 1)


def test_a_baseline_of_0_for_pale_pictures_is_usual(model):
    for pale in (X * 0.01 + 0.5, np.clip(X, -1, 1) * 5 + 50):
        vis.Occlusion(model)(pale, 1)
        vis.IntegratedGradients(model, 2)(pale, 1)


def test_a_baseline_that_is_given_is_meant(model):
    vis.Occlusion(model, baseline=290)(FAR, 1)
    vis.IntegratedGradients(model, baseline=FAR.mean())(FAR, 1)
    vis.Occlusion(model, baseline=0)(FAR, 1)
