"""Bad input to the visualize functions: a sentence each, nothing changed."""

import keras
import numpy as np
import pytest
from conftest import small_cnn
from keras import layers

from vis.callbacks import Print
from vis.input_modifiers import Jitter
from vis.losses import ActivationMaximization, Loss
from vis.visualization import (
    visualize_activation,
    visualize_cam,
    visualize_cam_with_losses,
    visualize_saliency,
    visualize_saliency_with_losses,
)

IMAGE = np.random.default_rng(0).random((9, 7, 3))
MAPS = [visualize_saliency, visualize_cam]


def maximise(model, layer_idx, filter_indices, seed_input, **params):
    weights = {"lp_norm_weight": 0, "tv_weight": 0}  # so that two steps are better than none
    return visualize_activation(
        model, layer_idx, filter_indices, seed_input=seed_input, max_iter=2, **weights, **params
    )


ALL = [*MAPS, maximise]


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    "layer_idx, filter_indices, kind, words",
    [
        ("pred", 0, ValueError, "no layer named 'pred'. Did you mean: 'preds'"),
        (5, 0, ValueError, "out of range. Received: 5, but model 'cnn' has 5 layers"),
        (-6, 0, ValueError, "choose from -5 to 4"),
        (2.5, 0, TypeError, "must be a layer's name"),
        ("preds", 3, ValueError, "Received: 3, but layer 'preds' .*has 3: choose from 0 to 2"),
        ("preds", [0, -4], ValueError, "Received: -4"),
        ("preds", "a", TypeError, "`filter_indices` must be"),
        ("preds", [], ValueError, "must not be empty"),
    ],
)
def test_layers_and_filters(function, layer_idx, filter_indices, kind, words):
    model = small_cnn()
    for _ in range(2):  # the second time nothing is left of the first
        with pytest.raises(kind, match=words):
            function(model, layer_idx, filter_indices, IMAGE)


@pytest.mark.parametrize("function", ALL)
def test_filters_are_checked_in_compiled_calls_too(function):
    model = small_cnn()
    for _ in range(3):
        function(model, "preds", 1, IMAGE)
    with pytest.raises(ValueError, match="Received: 3, but layer 'preds'"):
        function(model, "preds", 3, IMAGE)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    "seed_input, words",
    [
        (np.zeros((9, 7)), "must have the shape \\(N, 9, 7, 3\\).*Received: shape \\(9, 7\\)"),
        (np.zeros((9, 7, 1)), r"\(N, 9, 7, 3\).*Received: shape \(9, 7, 1\).*`np.repeat\(seed_input, 3, axis=-1\)`"),
        (np.zeros((3, 9, 7)), r"channels last: `np.moveaxis\(seed_input\[None\], 1, -1\)`"),
        (np.zeros((7, 9, 3)), "Check the image size"),
        (np.full((9, 7, 3), np.nan), "189 values that are NaN or infinite"),
        (np.zeros((0, 9, 7, 3)), "must not be empty"),
        ("photo.jpg", "must be numbers"),
    ],
)
def test_inputs(function, seed_input, words):
    with pytest.raises(ValueError, match="(?s)`seed_input`.*" + words):
        function(small_cnn(), "preds", 0, seed_input)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    "params, kind, words",
    [
        ({"backprop_modifier": "guidde"}, ValueError, "Did you mean: 'guided'"),
        ({"backprop_modifier": 3}, TypeError, "`backprop_modifier` must be"),
        ({"grad_modifier": "absolut"}, ValueError, "Did you mean: 'absolute'"),
        ({"grad_modifier": 3}, TypeError, "`grad_modifier` must be"),
    ],
)
def test_modifiers(function, params, kind, words):
    with pytest.raises(kind, match=words):
        function(small_cnn(), "preds", 0, IMAGE, **params)


@pytest.mark.parametrize("function", ALL)
def test_models(function):
    with pytest.raises(TypeError, match="must be a Keras 3 model. Received: 'model.keras'"):
        function("model.keras", -1, 0, IMAGE)
    with pytest.raises(ValueError, match="must be built. Received: 'fresh'"):
        function(keras.Sequential([layers.Dense(2)], name="fresh"), -1, 0, IMAGE)
    inputs = [keras.Input((9, 7, 3), name="left"), keras.Input((9, 7, 3), name="right")]
    conv = layers.Conv2D(2, 3, name="conv")(layers.Add()(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="preds")(layers.Flatten()(conv)))
    with pytest.raises(ValueError, match="with 2 inputs \\('left', 'right'\\)"):
        function(model, "preds", 0, IMAGE)


@pytest.mark.parametrize("function", ALL)
def test_an_input_layer_cannot_be_explained(function):
    model = small_cnn()
    with pytest.raises(ValueError, match="an input layer cannot be chosen|No convolution or pooling"):
        function(model, 0, 0, IMAGE)


def test_a_model_without_feature_maps():
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.Flatten(), layers.Dense(2, name="preds")])
    with pytest.raises(ValueError, match="No convolution or pooling layer comes before layer 'preds'"):
        visualize_cam(model, -1, 0, IMAGE)


@pytest.mark.parametrize("chosen", [-1, 4, "preds", "conv2"])
def test_penultimate_after_the_target(chosen):
    model = small_cnn()
    target = "conv1" if chosen == "conv2" else "preds"
    with pytest.raises(ValueError, match="`penultimate_layer_idx` must come before `layer_idx`"):
        visualize_cam(model, target, 0, IMAGE, penultimate_layer_idx=chosen)


def test_a_vector_is_no_feature_map():
    model = small_cnn()
    with pytest.raises(ValueError, match="must have spatial output.*layer 'flatten'"):
        visualize_cam(model, "preds", 0, IMAGE, penultimate_layer_idx="flatten")
    losses = [(ActivationMaximization(model.layers[-1], 0), -1)]
    with pytest.raises(TypeError, match="`penultimate_layer` must be a layer object"):
        visualize_cam_with_losses(model.inputs[0], losses, IMAGE, "conv2")


def test_a_layer_that_the_target_does_not_depend_on():
    inputs = keras.Input((9, 7, 3))
    side = layers.Conv2D(2, 3, name="side")(inputs)
    main = layers.Dense(2, name="preds")(layers.Flatten()(layers.Conv2D(2, 3, name="main")(inputs)))
    model = keras.Model(inputs, [main, side])
    with pytest.raises(ValueError, match="must come before"):
        visualize_cam(model, "preds", 0, IMAGE, penultimate_layer_idx="side")
    losses = [(ActivationMaximization(model.get_layer("preds"), 0), -1)]
    with pytest.raises(ValueError, match="do not depend on `wrt_tensor`"):
        visualize_saliency_with_losses(inputs, losses, IMAGE, wrt_tensor=model.get_layer("side").output)


def test_a_subclassed_model_called_with_a_wrong_shape():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = layers.Conv2D(2, 3, name="conv"), layers.Dense(2, name="preds")

        def call(self, x):
            return self.dense(keras.ops.mean(self.conv(x), axis=(1, 2)))

    model = Model()
    model(IMAGE[None])
    assert visualize_saliency(model, "preds", 0, IMAGE).shape == (9, 7)
    with pytest.raises(ValueError, match="could not be called on the input. Received: inputs \\(1, 9, 7, 4\\)"):
        visualize_saliency(model, "preds", 0, np.zeros((9, 7, 4)))
    with pytest.raises(ValueError, match="`seed_input` is needed"):
        visualize_activation(model, "conv", 0)


def test_sizes_of_activation():
    with pytest.raises(ValueError, match="`max_iter` must be at least 0"):
        visualize_activation(small_cnn(), -1, 0, max_iter=-5)
    with pytest.raises(ValueError, match="`input_range` must be a pair"):
        visualize_activation(small_cnn(), -1, 0, input_range=(1, 0))
    with pytest.raises(TypeError, match="max_iterations"):
        visualize_activation(small_cnn(), -1, 0, max_iterations=5)
    with pytest.raises(ValueError, match="at least one loss"):
        visualize_activation(small_cnn(), -1, 0, act_max_weight=0, lp_norm_weight=0, tv_weight=None)


@pytest.mark.parametrize("function", MAPS)
def test_a_model_with_broken_weights(function):
    model = small_cnn()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(FloatingPointError, match="Check the model's weights"):
        function(model, "preds", 0, IMAGE)


@pytest.mark.parametrize("function", MAPS)
def test_a_layer_with_several_outputs(function):
    inputs = keras.Input((9, 4))
    x = layers.Conv1D(3, 2)(inputs)
    states = layers.LSTM(5, return_state=True, name="lstm")(x)
    model = keras.Model(inputs, layers.Dense(2)(states[0]))
    with pytest.raises(ValueError, match="'lstm' puts out"):
        function(model, "lstm", 0, np.ones((9, 4)))


def test_a_rule_with_too_few_arguments():
    with pytest.raises(TypeError, match=r"must take \(x, y, upstream\)"):
        visualize_saliency(small_cnn(), "preds", 0, IMAGE, backprop_modifier=lambda x, y: x)


@pytest.mark.parametrize("source", ["model", 3, None])
def test_with_losses_of_no_tensor(source):
    losses = [(ActivationMaximization(small_cnn().layers[-1], 0), -1)]
    with pytest.raises(TypeError, match="`input_tensor` must be one symbolic tensor"):
        visualize_saliency_with_losses(source, losses, IMAGE)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_whole_numbers_have_no_gradient(function, dtype):
    inputs = keras.Input((6,), dtype=dtype)
    x = layers.Conv1D(2, 2)(layers.Embedding(20, 4)(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="preds")(layers.Flatten()(x)))
    if function is maximise and dtype == "float32":  # the regularizers do depend on the input
        return
    if function is visualize_cam:  # its gradient is of the feature map
        model.set_weights([np.abs(w) for w in model.get_weights()])
        assert function(model, "preds", 0, np.arange(6)).shape == (6,)
        return
    with pytest.raises(ValueError, match="wrt_tensor"):
        function(model, "preds", 0, np.arange(6.0))


def test_text_is_explained_at_the_embedding():
    inputs = keras.Input((6,), dtype="int32")
    embedding = layers.Embedding(20, 4)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="preds")(layers.Flatten()(embedding)))
    got = visualize_saliency(model, "preds", 0, np.arange(6), wrt_tensor=embedding)
    assert got.shape == (6,)


class Odd(Loss):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def sources(self):
        return ["preds"]

    def value(self, tensors, arguments):
        return self.function(tensors[0])


@pytest.mark.parametrize("function", [keras.ops.mean, lambda t: t, lambda t: t[:1, 0], lambda t: 3.0])
def test_a_loss_of_the_wrong_shape(function):
    with pytest.raises(ValueError, match="one number a sample, a tensor of shape \\(2,\\)"):
        visualize_saliency_with_losses(small_cnn(), [(Odd(function), 1)], np.stack([IMAGE, IMAGE]))


@pytest.mark.parametrize("modifier", [lambda g: None, lambda g: g[0], lambda g: g[:, :2]])
@pytest.mark.parametrize("function", ALL)
def test_a_gradient_modifier_of_the_wrong_shape(function, modifier):
    with pytest.raises(ValueError, match="must return an array of the gradient's shape"):
        function(small_cnn(), "preds", 0, IMAGE, grad_modifier=modifier)


@pytest.mark.parametrize("function", MAPS)
def test_a_gradient_modifier_that_makes_nan(function):
    with pytest.raises(FloatingPointError, match="`grad_modifier` made"):
        function(small_cnn(), "preds", 0, IMAGE, grad_modifier=lambda g: g * np.nan)


@pytest.mark.parametrize(
    "params, kind, words",
    [
        ({"callbacks": 3}, TypeError, "`callbacks` must hold objects"),
        ({"callbacks": [Print]}, TypeError, "`callbacks` must hold objects"),
        ({"input_modifiers": [Jitter]}, TypeError, "`input_modifiers` must hold objects"),
        ({"seed": "a"}, TypeError, "`seed` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"tv_weight": "a"}, TypeError, "The weight of 'TV Loss' must be a number"),
        ({"wrt_tensor": "a"}, TypeError, "`wrt_tensor` must be one symbolic tensor"),
    ],
)
def test_arguments_of_activation(params, kind, words):
    with pytest.raises(kind, match=words):
        visualize_activation(small_cnn(), -1, 0, max_iter=2, **params)


def test_one_callback_or_modifier_needs_no_list(capsys):
    visualize_activation(small_cnn(), -1, 0, max_iter=2, callbacks=Print(), input_modifiers=Jitter(1), seed=0)
    assert capsys.readouterr().out.count("Iteration") == 2


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch only")
@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_modes_of_the_caller_do_not_matter(mode):
    import torch

    model = small_cnn()
    expected = [function(model, "preds", 1, IMAGE) for function in MAPS]
    with getattr(torch, mode)():
        got = [function(model, "preds", 1, torch.tensor(IMAGE)) for function in MAPS]
        assert torch.is_grad_enabled() is False
    np.testing.assert_allclose(got, expected, atol=1e-6)
