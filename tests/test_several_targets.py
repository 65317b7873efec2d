"""Several targets of the same inputs: the maps of a call for each, with one forward pass where gradients are taken."""

import keras
import numpy as np
import pytest
import zoo
from conftest import slow, small_cnn
from keras import layers
from test_laws import METHODS, close, drawn_images, every_method_in_time, made
from test_onward import counted

import vis
from vis.methods.explainer import Explainer


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def images():
    return drawn_images()


def each(explainer, inputs, targets, **how):
    """Returns the maps of a call for each target, as `targets` gives them."""
    maps = [explainer(inputs, target, **how) for target in targets]
    return keras.tree.map_structure(lambda *parts: np.stack(parts, axis=1), *maps)


def compare(explainer, inputs, targets, tolerance=1e-5, **how):
    expected = each(explainer, inputs, targets, **how)
    for _ in range(3):  # step by step, traced, compiled
        got = explainer.targets(inputs, targets, **how)
        for one, wanted in zip(keras.tree.flatten(got), keras.tree.flatten(expected)):
            close(one, wanted, tolerance)
    return got


@every_method_in_time
def test_several_targets_are_each_by_itself(name, model, images):
    """A class for all, one for each sample, the highest, and the sum of two; in chunks of two of three samples."""
    compare(made(name, model), images, [0, [1, 2, 0], None, [[0, 1]] * 3], batch_size=2)


def test_methods_of_gradients_share_the_forward_pass():
    others = {"guided_integrated_gradients", "deep_lift", "full_grad", "xrai", "eigen_cam", "occlusion", "rise"}
    others |= {"score_cam", "score_cam_fast", "ablation_cam", "occlusion_of_features", "rise_of_features", "lime"}
    others |= {"shapley", "shapley_sampled", "shapley_of_background", "kernel_shap", "sobol", "hsic"}
    assert {name for name in METHODS if "takes_several_targets" not in vars(METHODS[name][0])} == others


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="elsewhere a compiled function's layers are not called")
@pytest.mark.parametrize("kind", [vis.Saliency, vis.GradCAM, vis.GradientTimesInput])
def test_the_model_runs_once_for_all_classes(kind, images):
    model = small_cnn()
    explainer = kind(model)
    calls = counted(model.get_layer("conv1"))
    explainer.targets(images, [0, 1, 2])  # learns of the model
    calls.clear()
    explainer.targets(images, [0, 1, 2])
    assert sum(calls) == len(images)


def test_every_kind_of_target_has_its_map(model, images):
    def square(outputs):
        return outputs[:, 0] ** 2

    targets = [0, square, vis.targets.Contrast(0, 1), np.array([0, 1, 2])]
    compare(vis.Saliency(model), images, targets)
    compare(vis.GradCAM(model, "conv1"), images, [vis.targets.Contrast(0, 1), 1])
    assert vis.Saliency(model).targets(images, np.arange(2)).shape == (3, 2, 9, 7, 3)


@pytest.mark.parametrize(
    "name", ["two inputs, dict", "one unit", *slow("two inputs, list", "transformer", "mixed precision")]
)
def test_models_of_every_kind(name):
    model, inputs = zoo.make(name)
    tolerance = 2e-2 if name == "mixed precision" else 1e-5
    for kind in (vis.Saliency, vis.GradCAM, *([vis.GuidedGradCAM] if name != "transformer" else [])):
        compare(kind(model), inputs, [1, 0, None], tolerance)


@pytest.mark.slow
def test_loops_within_the_model_have_gradients_too(rng):
    """A recurrent layer is a loop of the framework, within the loop over the targets."""
    inputs = keras.Input((6, 3))
    x = layers.GRU(4)(layers.LSTM(5, return_sequences=True, name="first")(inputs))
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(3)(x)))
    compare(vis.Saliency(model), zoo.draw(2, 6, 3), [0, 1, 2])
    compare(vis.Saliency(model, input_layer="first"), zoo.draw(2, 6, 3), [2, 1])


def test_inputs_that_do_not_matter_get_zeros(rng):
    image, other = keras.Input((4,), name="image"), keras.Input((3,), name="other")
    model = keras.Model([image, other], layers.Dense(3)(image))
    inputs = [zoo.draw(2, 4), zoo.draw(2, 3)]
    got, nothing = vis.Saliency(model).targets(inputs, [0, 1])
    assert got.shape == (2, 2, 4) and nothing.shape == (2, 2, 3) and not nothing.any()


def test_half_precision_is_scaled(images):
    model = small_cnn()
    model.get_layer("conv2").dtype_policy = "mixed_float16"
    compare(vis.Saliency(model), images, [0, 1, 2], 5e-2)


def test_another_explained_layer(model, images):
    compare(vis.GradCAM(model, "conv1", output_layer="conv2"), images, [0, 4])
    compare(vis.Saliency(model, output_layer="conv2", input_layer="conv1"), images, [0, 4])


def test_a_subclass_must_say_that_it_takes_several_targets(model, images):
    """What it overrides may not; here, gradients `(3, 3, ...)` and values `(3, ...)` would be multiplied wrongly."""

    class Weighted(vis.Saliency):
        def attributions(self, task):
            return [gradient * task.batch.arrays[0] for gradient in super().attributions(task)]

    compare(Weighted(model), images, [0, 1, 2])


def test_a_method_that_returns_too_little_is_told(model, images):
    class Wrong(Explainer):
        takes_several_targets = True

        def explain(self, task):
            return np.zeros((task.count, 2), "float32")

    with pytest.raises(TypeError, match="3 samples and, behind them, 3 targets"):
        Wrong(model).targets(images, [0, 1, 2])


@pytest.mark.parametrize(
    "targets, kind, words",
    [
        (3, TypeError, "`targets` must be a list of targets"),
        ("tabby", TypeError, "`targets` must be a list of targets"),
        (None, TypeError, "`targets` must be a list of targets"),
        ([], ValueError, "at least one target"),
        ([0, 7], ValueError, "out of range"),
        ([0, [1]], ValueError, "one class, or one list of classes"),
    ],
)
def test_wrong_targets_are_named(targets, kind, words, model, images):
    with pytest.raises(kind, match=words):
        vis.Saliency(model).targets(images, targets)
