"""The visualize functions: reference arrays, papers, shapes and fixes."""

import keras
import numpy as np
import pytest
from conftest import reference_network, small_cnn, value_of
from keras import layers, ops

from vis.backprop_modifiers import guided
from vis.losses import ActivationMaximization, Loss
from vis.methods.cam import GradCAM
from vis.utils import utils
from vis.utils.images import resize
from vis.utils.validation import VisualizationWarning
from vis.visualization import (
    get_num_filters,
    overlay,
    visualize_activation,
    visualize_activation_with_losses,
    visualize_cam,
    visualize_cam_with_losses,
    visualize_saliency,
    visualize_saliency_with_losses,
)
from vis.visualization.class_activation import find_penultimate_layer

MODIFIERS = [None, "guided", "relu"]


def min_max(array):
    return (array - array.min()) / (array.max() - array.min() + 1e-7)


def score_of(model, x, index):
    return float(value_of(model(x[None].astype("float32"), training=False))[0, index])


# --- the original's arrays


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("digit", range(10))
def test_saliency_agrees_with_keras_vis(shared_network, digits, reference, digit, modifier):
    got = visualize_saliency(shared_network, "preds", digit, digits[digit], backprop_modifier=modifier)
    np.testing.assert_allclose(got, reference[f"saliency_{modifier}_{digit}"], atol=1e-4)


@pytest.mark.parametrize("digit", range(10))
def test_negated_saliency_agrees_with_keras_vis(shared_network, digits, reference, digit):
    got = visualize_saliency(
        shared_network, -1, digit, digits[digit], backprop_modifier="guided", grad_modifier="negate"
    )
    np.testing.assert_allclose(got, reference[f"saliency_guided_negate_{digit}"], atol=1e-4)


def test_softmax_saliency_agrees_with_keras_vis(softmax_network, digits, reference):
    # Where the probability is within float32's rounding of 1, so is its gradient of 0: backends
    # and processors round differently there, and no two implementations agree.
    probabilities = value_of(softmax_network(digits))[range(10), range(10)]
    unsaturated = [c for c in range(10) if 1 - probabilities[c] > 1e-3]
    assert len(unsaturated) >= 3
    for digit in unsaturated:
        with pytest.warns(VisualizationWarning, match="ends in a softmax"):
            got = visualize_saliency(softmax_network, -1, digit, digits[digit], backprop_modifier="guided")
        np.testing.assert_allclose(got, reference[f"softmax_saliency_guided_{digit}"], atol=1e-4)


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("digit", [c for c in range(10) if c != 9])
def test_cam_agrees_with_keras_vis(shared_network, digits, reference, digit, modifier):
    got = visualize_cam(shared_network, "preds", digit, digits[digit], backprop_modifier=modifier)
    assert got.shape == (28, 28)
    assert np.corrcoef(got.ravel(), reference[f"cam_{modifier}_{digit}"].ravel())[0, 1] > 0.93


@pytest.mark.parametrize("modifier", MODIFIERS)
def test_cam_without_evidence_is_flat_and_says_so(shared_network, digits, reference, modifier):
    with pytest.warns(VisualizationWarning, match="sample 0 is flat"):
        got = visualize_cam(shared_network, "preds", 9, digits[9], backprop_modifier=modifier)
    np.testing.assert_array_equal(got, np.zeros((28, 28)))
    assert reference[f"cam_{modifier}_9"].max() == 0


class Spy:
    """Keeps the energies and the input of the step with the lowest one."""

    def __init__(self):
        self.losses, self.best = [], None

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        if not self.losses or overall_loss < min(self.losses):
            self.best = wrt_value.copy()
        self.losses.append(float(overall_loss))

    def on_end(self):
        pass


@pytest.mark.parametrize("digit", range(10))
def test_maximised_digits_are_read_with_confidence(shared_network, reference, digit):
    # The optimised input itself is judged; `deprocess_input` fades it to a standard
    # deviation of 0.1, in the original as here.
    spy = Spy()
    image = visualize_activation(
        shared_network, "preds", digit, seed_input=reference["am_seed"], input_range=(0.0, 1.0), callbacks=[spy]
    )
    assert image.shape == (28, 28, 1) and image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1
    for row, column in ((0, 0), (0, 27), (27, 0), (27, 27)):  # the original's last one is black or white
        beside = (image[abs(row - 1), column] + image[row, abs(column - 1)]) / 2
        assert abs(image[row, column] - beside) < 0.1
    logits = value_of(shared_network(spy.best))[0]
    assert np.exp(logits - logits.max())[digit] / np.exp(logits - logits.max()).sum() > 0.9
    original = reference[f"am_{digit}"][None]
    assert min(spy.losses) <= energy_by_hand(shared_network, original, digit)
    assert min(spy.losses) == pytest.approx(energy_by_hand(shared_network, spy.best, digit), rel=1e-3)


def energy_by_hand(model, x, index):
    """The default energy of `visualize_activation`, computed anew."""
    activation = -value_of(model(x.astype("float32")))[0, index]
    norm = (np.abs(x.astype("float64")) ** 6).sum() ** (1 / 6) / x[0].size
    squares = [(np.diff(x[0], axis=axis) ** 2).sum() for axis in (0, 1)]
    return activation + 10 * norm + 10 * sum(squares) / x[0].size


def test_a_hybrid_maximises_both_filters(shared_network, reference):
    spy = Spy()
    visualize_activation(
        shared_network, "preds", [1, 7], seed_input=reference["am_seed"], input_range=(0.0, 1.0), callbacks=[spy]
    )
    before = value_of(shared_network(reference["am_seed"][None]))[0]
    after = value_of(shared_network(spy.best))[0]
    assert after[1] > before[1] and after[7] > before[7]


# --- probabilities: said, as they are seldom meant


def ending_in(*ends):
    small = keras.initializers.Constant(0.01)  # so that there is always a map
    conv = layers.Conv2D(4, 3, kernel_initializer=small, name="conv")
    return keras.Sequential([keras.Input((9, 7, 3)), conv, layers.Flatten(), *ends])


PROBABILITIES = {
    "softmax": lambda: ending_in(layers.Dense(3, activation="softmax", name="preds")),
    "sigmoid": lambda: ending_in(layers.Dense(3, activation="sigmoid", name="preds")),
    "log_softmax": lambda: ending_in(layers.Dense(3, activation="log_softmax", name="preds")),
    "Softmax layer": lambda: ending_in(layers.Dense(3), layers.Softmax(name="preds")),
    "Activation layer": lambda: ending_in(layers.Dense(3), layers.Activation("sigmoid", name="preds")),
    "layer as an activation": lambda: ending_in(layers.Dense(3, activation=layers.Softmax(), name="preds")),
    "reshaped": lambda: ending_in(layers.Dense(3, activation="softmax"), layers.Reshape((3,), name="preds")),
    "wrapped": lambda: ending_in(
        layers.Reshape((5, 28)), layers.TimeDistributed(layers.Dense(3, activation="softmax"), name="preds")
    ),
    "nested": lambda: ending_in(
        keras.Sequential([keras.Input((140,)), layers.Dense(3, activation="softmax")], name="preds")
    ),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
@pytest.mark.parametrize("function", [visualize_saliency, visualize_cam])
def test_maps_of_probabilities_are_warned_of(function, kind, rng):
    model = PROBABILITIES[kind]()
    with pytest.warns(VisualizationWarning, match="'preds' ends in .*swap_softmax") as found:
        function(model, "preds", 1, rng.random((9, 7, 3)), grad_modifier="absolute")
    assert found[0].filename == __file__


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_maximised_probabilities_are_warned_of(kind):
    with pytest.warns(VisualizationWarning, match="'preds' ends in .*swap_softmax") as found:
        visualize_activation(PROBABILITIES[kind](), "preds", 1, max_iter=1, seed=0)
    assert found[0].filename == __file__


def test_scores_are_not_warned_of(rng):
    model = ending_in(layers.Dense(3, activation="softmax", name="preds"))
    x = rng.random((9, 7, 3))
    visualize_saliency(model, "conv", 1, x)
    visualize_saliency(utils.swap_softmax(model), "preds", 1, x)
    visualize_activation(utils.swap_softmax(model), "preds", 1, max_iter=1)


# --- saliency: shapes, signs, slow second implementations


def test_saliency_is_the_gradient(rng):
    # Softplus has no kinks, so that steps wide enough for float32 are exact enough.
    model, x = small_cnn(activation="softplus"), rng.random((9, 7, 3)).astype("float32")
    got = visualize_saliency(model, "preds", [0, 2], x, grad_modifier=None, keepdims=True)
    slow = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += 1e-2
        behind[index] -= 1e-2
        slow[index] = sum(score_of(model, ahead, i) - score_of(model, behind, i) for i in (0, 2)) / 2e-2
    np.testing.assert_allclose(got, min_max(slow), atol=1e-3)


def test_saliency_of_a_linear_model_is_its_weights(rng):
    model = keras.Sequential([keras.Input((4, 3, 2)), layers.Flatten(), layers.Dense(2)])
    weights = model.get_weights()[0].reshape(4, 3, 2, 2)
    x = rng.random((4, 3, 2))
    for modifier, function in [("absolute", np.abs), ("negate", np.negative), ("relu", lambda g: np.maximum(g, 0))]:
        got = visualize_saliency(model, -1, 1, x, grad_modifier=modifier)
        np.testing.assert_allclose(got, min_max(function(weights[..., 1]).max(-1)), atol=1e-6)
    got = visualize_saliency(model, -1, 1, x, grad_modifier=None, keepdims=True)
    np.testing.assert_allclose(got, min_max(weights[..., 1]), atol=1e-6)
    got = visualize_saliency(model, -1, None, x, grad_modifier=None, keepdims=True)
    np.testing.assert_allclose(got, min_max(weights.sum(-1)), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e12])
@pytest.mark.parametrize("function", [visualize_saliency, visualize_cam])
def test_maps_of_small_gradients_fill_their_range(function, scale, rng):
    """An epsilon beside them made maps of nearly 0, neither flat nor scaled."""
    model = small_cnn()
    x = rng.random((2, 9, 7, 3))
    expected = function(model, "preds", 1, x)
    model.get_layer("preds").set_weights([w * scale for w in model.get_layer("preds").get_weights()])
    np.testing.assert_allclose(function(model, "preds", 1, x), expected, atol=1e-5)


def test_saliency_of_dense_nets():
    model = keras.Sequential([keras.Input((35,)), layers.Dense(64, activation="relu"), layers.Dense(50)])
    x = np.random.default_rng(0).random((1, 35))
    assert visualize_saliency(model, -1, None, x, keepdims=True).shape == (35,)
    assert visualize_saliency(model, -1, None, x).shape == (35,)
    assert visualize_saliency(model, -1, None, np.repeat(x, 4, 0), keepdims=True).shape == (4, 35)


def test_saliency_shapes(rng):
    model, x = small_cnn(), rng.random((3, 9, 7, 3))
    for one in (x[0], x[:1]):
        assert visualize_saliency(model, -1, None, one).shape == (9, 7)
        assert visualize_saliency(model, -1, None, one, keepdims=True).shape == (9, 7, 3)
    assert visualize_saliency(model, -1, None, x).shape == (3, 9, 7)
    assert visualize_saliency(model, -1, None, x).dtype == np.float32


@pytest.mark.parametrize("function", [visualize_saliency, visualize_cam])
def test_batched_is_looped_and_permuted(function, shared_network, digits):
    together = function(shared_network, "preds", 3, digits[2:8])
    one_by_one = np.stack([function(shared_network, "preds", 3, digit) for digit in digits[2:8]])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(function(shared_network, "preds", 3, digits[2:8][order]), together[order], atol=1e-5)


def test_saliency_of_an_inner_layer(rng):
    model, x = small_cnn(), rng.random((9, 7, 3))
    by_name = visualize_saliency(model, "conv1", 2, x)
    np.testing.assert_array_equal(by_name, visualize_saliency(model, 1, 2, x))
    np.testing.assert_array_equal(by_name, visualize_saliency(model, -4, 2, x))
    np.testing.assert_array_equal(by_name, visualize_saliency(model, model.layers[1], 2, x))
    assert not np.array_equal(by_name, visualize_saliency(model, "conv1", 3, x))


def test_saliency_with_respect_to_an_inner_tensor(rng):
    model, x = small_cnn(), rng.random((9, 7, 3))
    conv2 = model.get_layer("conv2")
    got = visualize_saliency(model, "preds", 1, x, wrt_tensor=conv2.output, grad_modifier=None, keepdims=True)
    weights = model.get_layer("preds").get_weights()[0][:, 1].reshape(6, 4, 5)
    np.testing.assert_allclose(got, min_max(weights), atol=1e-5)
    losses = [(ActivationMaximization(model.get_layer("preds"), 1), -1)]
    again = visualize_saliency_with_losses(model.inputs[0], losses, x, conv2.output, None, True)
    np.testing.assert_array_equal(got, again)


# --- Grad-CAM


def slow_grad_cam(activations, gradients):
    """Selvaraju et al. 2017, equations 1 and 2, one channel at a time."""
    *sizes, channels = activations.shape
    total = np.zeros(sizes)
    for k in range(channels):
        weight = gradients[..., k].sum() / np.prod(sizes)
        total += weight * activations[..., k]
    return np.where(total > 0, total, 0)


@pytest.mark.parametrize("shape", [(6, 3), (5, 4, 3), (3, 4, 2, 5)])
def test_grad_cam_formula(shape, rng):
    activations, gradients = rng.normal(size=(2, 2, *shape))
    expected = [slow_grad_cam(a, g) for a, g in zip(activations, gradients)]
    np.testing.assert_allclose(GradCAM.formula(activations, gradients), expected, atol=1e-12)


def test_grad_cam_is_cam_on_global_average_pooling(rng):
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, padding="same", activation="relu")
    outputs = layers.Dense(2, name="preds")(layers.GlobalAveragePooling2D()(conv(inputs)))
    model = keras.Model(inputs, outputs)
    x = rng.random((8, 8, 3)).astype("float32")
    features = value_of(conv(x[None]))[0]
    weights = model.get_layer("preds").get_weights()[0]
    for index in range(2):
        cam = np.maximum(features @ weights[:, index], 0)  # Zhou et al. 2016
        if cam.max() > 0:
            np.testing.assert_allclose(visualize_cam(model, "preds", index, x), min_max(cam), atol=1e-5)


def test_cam_of_a_one_convolution_net_is_literal():
    conv = layers.Conv2D(1, 1, kernel_initializer="ones", name="conv")
    dense = layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((2, 2, 1)), conv, layers.Flatten(), dense])
    x = np.array([[[0.0], [1.0]], [[2.0], [4.0]]])
    np.testing.assert_allclose(visualize_cam(model, -1, 0, x), [[0, 0.25], [0.5, 1]], atol=1e-6)


def test_cam_keeps_its_sign_when_all_gradients_are_negative():
    # keras-vis divided by the signed maximum: a map of evidence against came out as evidence for.
    conv = layers.Conv2D(1, 1, kernel_initializer="ones")
    dense = layers.Dense(1, kernel_initializer=keras.initializers.Constant(-1.0))
    model = keras.Sequential([keras.Input((2, 2, 1)), conv, layers.Flatten(), dense])
    x = np.array([[[0.0], [1.0]], [[2.0], [4.0]]])
    with pytest.warns(VisualizationWarning, match="flat"):
        assert visualize_cam(model, -1, 0, x).max() == 0
    against = visualize_cam(model, -1, 0, x, grad_modifier="negate")
    np.testing.assert_allclose(against, [[0, 0.25], [0.5, 1]], atol=1e-6)


def test_cam_sits_where_the_evidence_is():
    # The score sums the lower right quarter only, of an image that is bright all over.
    kernel = np.zeros((8, 8, 1, 1), "float32")
    kernel[5:, 5:] = 1
    conv = layers.Conv2D(1, 1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((8, 8, 1)), conv, layers.Flatten(), layers.Dense(1)])
    model.layers[-1].set_weights([kernel.reshape(64, 1), np.zeros(1)])
    image = np.zeros((8, 8, 1))
    image[6, 7] = 1
    heat = visualize_cam(model, -1, 0, image)
    assert np.unravel_index(heat.argmax(), heat.shape) == (6, 7)


def test_resize_is_linear_and_reaches_the_borders():
    maps = np.array([[[0.0, 4.0]]])
    np.testing.assert_allclose(resize(maps, (1, 4))[0], [[0, 1, 3, 4]])  # pixel centres at 1/4, 3/4
    up = resize(np.random.default_rng(0).random((2, 3, 5)), (30, 7))
    assert up.shape == (2, 30, 7) and up.min() >= 0 and up.max() <= 1


def test_many_maps_are_resized_as_each_one_is(rng):
    """Those that do not fit in the processor's cache together are resized in parts."""
    maps = rng.random((9, 5, 3, 2)).astype("float32")
    sizes = (300, 310)
    got = resize(maps, sizes)
    assert got.shape == (9, *sizes, 2) and got.dtype == "float32"
    np.testing.assert_array_equal(got, np.concatenate([resize(one[None], sizes) for one in maps]))


def test_penultimate_layer_is_the_nearest_one(shared_network):
    preds = shared_network.layers[-1]
    assert find_penultimate_layer(shared_network, preds).name.startswith("max_pooling2d")
    direct = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Conv2D(2, 3), layers.Conv2D(2, 3)])
    assert find_penultimate_layer(direct, direct.layers[-1]) is direct.layers[-2]  # keras-vis skipped it
    assert find_penultimate_layer(direct, direct.layers[1]) is direct.layers[0]


def test_penultimate_layer_in_nested_and_wrapped_models():
    backbone = small_cnn(name="backbone")
    features = keras.Model(backbone.inputs, backbone.get_layer("conv2").output, name="features")
    model = keras.Sequential([keras.Input((9, 7, 3)), features, layers.GlobalAveragePooling2D(), layers.Dense(2)])
    assert find_penultimate_layer(model, model.layers[-1]).name == "conv2"
    video = keras.Sequential(
        [keras.Input((4, 9, 7, 3)), layers.TimeDistributed(layers.Conv2D(2, 3)), layers.Flatten(), layers.Dense(2)]
    )
    assert find_penultimate_layer(video, video.layers[-1]) is video.layers[0]
    x = np.random.default_rng(0).random((4, 9, 7, 3))
    assert visualize_cam(video, -1, 0, x).shape == (4, 9, 7)


def test_penultimate_layer_skips_global_and_one_by_one_outputs():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="wanted"),
            layers.AveragePooling2D(6),
            layers.Conv2D(3, 1),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
        ]
    )
    assert find_penultimate_layer(model, model.layers[-1]).name == "wanted"


def test_penultimate_layer_lies_on_the_way():
    inputs = keras.Input((8, 8, 3))
    main = layers.Conv2D(2, 3, name="main")(inputs)
    side = layers.Conv2D(2, 3, name="side")(layers.Conv2D(2, 3)(inputs))
    first = layers.Dense(2, name="first")(layers.Flatten()(main))
    second = layers.Dense(2, name="second")(layers.Flatten()(side))
    model = keras.Model(inputs, [first, second])
    assert find_penultimate_layer(model, model.get_layer("first")).name == "main"
    assert find_penultimate_layer(model, model.get_layer("second")).name == "side"


def test_penultimate_layer_can_be_chosen(shared_network, digits):
    default = visualize_cam(shared_network, -1, 3, digits[3])
    np.testing.assert_array_equal(default, visualize_cam(shared_network, -1, 3, digits[3], 2))
    other = visualize_cam(shared_network, -1, 3, digits[3], penultimate_layer_idx=-7)
    assert not np.allclose(default, other, atol=1e-2)


def test_cam_with_losses_is_the_same(shared_network, digits):
    losses = [(ActivationMaximization(shared_network.layers[-1], 3), -1)]
    got = visualize_cam_with_losses(shared_network.inputs[0], losses, digits[3], shared_network.layers[2])
    np.testing.assert_allclose(got, visualize_cam(shared_network, -1, 3, digits[3]), atol=1e-5)


# --- any model


def twin_models():
    """The same network, flat and nested, on the same weights."""
    flat = small_cnn()
    inputs = keras.Input((9, 7, 3))
    features = keras.Model(flat.inputs, flat.get_layer("conv2").output, name="features")
    head = keras.Sequential([keras.Input((6, 4, 5)), layers.Flatten(), flat.get_layer("preds")], name="head")
    return flat, keras.Model(inputs, head(features(inputs)))


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("function", [visualize_saliency, visualize_cam])
def test_nested_is_flat(function, modifier, rng):
    flat, nested = twin_models()
    x = rng.random((2, 9, 7, 3))
    expected = function(flat, "preds", 1, x, backprop_modifier=modifier)
    np.testing.assert_allclose(function(nested, "head/preds", 1, x, backprop_modifier=modifier), expected, atol=1e-5)
    np.testing.assert_allclose(function(nested, -1, 1, x, backprop_modifier=modifier), expected, atol=1e-5)


def test_nested_activation_is_flat(reference):
    flat, nested = twin_models()
    params = {"seed_input": np.full((9, 7, 3), 0.5), "input_range": (0.0, 1.0), "max_iter": 5}
    expected = visualize_activation(flat, "conv2", 1, **params)
    np.testing.assert_allclose(visualize_activation(nested, "features/conv2", 1, **params), expected, atol=1e-4)


def channels_first_works():
    try:
        small_cnn("channels_first")(np.zeros((1, 3, 9, 7), "float32"))
        _ = visualize_saliency(small_cnn("channels_first"), -1, 0, np.ones((3, 9, 7)))
    except Exception:  # TensorFlow has no channels_first convolutions on the CPU
        return False
    return True


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("function", [visualize_saliency, visualize_cam])
def test_channels_first_is_channels_last(function, modifier, rng):
    if not channels_first_works():
        pytest.skip("this backend has no channels_first convolutions on this device")
    last, first = small_cnn(), small_cnn("channels_first")
    for name in ("conv1", "conv2", "preds"):
        first.get_layer(name).set_weights(last.get_layer(name).get_weights())
    x = rng.random((2, 9, 7, 3)).astype("float32")
    expected = function(last, "conv2" if function is visualize_saliency else "preds", 1, x, backprop_modifier=modifier)
    if function is visualize_cam:  # Flatten orders channels_first features as channels_last does
        np.testing.assert_allclose(value_of(last(x)), value_of(first(np.moveaxis(x, -1, 1))), atol=1e-5)
    got = function(
        first,
        "conv2" if function is visualize_saliency else "preds",
        1,
        np.moveaxis(x, -1, 1),
        backprop_modifier=modifier,
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_channels_first_activation_is_channels_last():
    if not channels_first_works():
        pytest.skip("this backend has no channels_first convolutions on this device")
    last, first = small_cnn(), small_cnn("channels_first")
    for name in ("conv1", "conv2"):
        first.get_layer(name).set_weights(last.get_layer(name).get_weights())
    seed = np.random.default_rng(0).random((9, 7, 3))
    params = {"input_range": (0.0, 1.0), "max_iter": 5, "seed_input": seed}  # the seed's channels are moved
    made = [
        visualize_activation(model, "conv2", 1, optimizer=keras.optimizers.Adam(0.01), **params)
        for model in (first, last)
    ]
    np.testing.assert_allclose(*made, atol=1e-4)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3, activation="relu", name="conv")
        self.pool = layers.GlobalAveragePooling2D()
        self.dense = layers.Dense(2, name="preds")

    def call(self, x, training=None):
        return self.dense(self.pool(self.conv(x)))


def test_subclassed_models(rng):
    model = Subclassed()
    x = rng.random((2, 9, 7, 3)).astype("float32")
    model(x)
    inputs = keras.Input((9, 7, 3))
    twin = keras.Model(inputs, model.dense(model.pool(model.conv(inputs))))
    for function in (visualize_saliency, visualize_cam):
        for modifier in MODIFIERS:
            np.testing.assert_allclose(
                function(model, "preds", 1, x, backprop_modifier=modifier),
                function(twin, "preds", 1, x, backprop_modifier=modifier),
                atol=1e-5,
            )
    adam = keras.optimizers.Adam(0.01)  # a step of RMSProp is far too wide for such a seed, and is warned of
    image = visualize_activation(model, "conv", 1, None, x[0], (0.0, 1.0), max_iter=3, optimizer=adam)
    assert image.shape == (9, 7, 3)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_number_of_spatial_dimensions(dims, rng):
    conv = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[dims]
    shape = (8, 6, 7)[:dims]
    model = keras.Sequential([keras.Input((*shape, 2)), conv(3, 3), layers.Flatten(), layers.Dense(2)])
    model.set_weights([np.abs(w) for w in model.get_weights()])
    x = rng.random((2, *shape, 2))
    assert visualize_saliency(model, -1, 0, x).shape == (2, *shape)
    assert visualize_cam(model, -1, 0, x).shape == (2, *shape)
    assert visualize_activation(model, -1, 0, input_range=(0.0, 1.0), max_iter=2, seed=1).shape == (*shape, 2)


def test_mixed_precision(rng):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy)(inputs)
    x = layers.Dense(2, dtype=policy, name="preds")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    image = rng.random((9, 7, 3))
    for function in (visualize_saliency, visualize_cam):
        assert function(model, "preds", 0, image).dtype == np.float32


def test_dropout_and_batch_normalization_are_in_inference_mode(rng):
    inputs = keras.Input((9, 7, 3))
    x = layers.Dropout(0.9)(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    before = [np.array(w) for w in model.get_weights()]
    image = rng.random((9, 7, 3))
    maps = [visualize_saliency(model, -1, 0, image) for _ in range(3)]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6)
    np.testing.assert_allclose(maps[1], maps[2], atol=1e-6)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


# --- freshness: compiled calls see what has changed


def test_changed_weights_are_seen(rng):
    model, x = small_cnn(), rng.random((9, 7, 3))
    for _ in range(3):
        first = visualize_saliency(model, -1, 0, x)
    model.set_weights([-w + 0.1 for w in model.get_weights()])
    changed = visualize_saliency(model, -1, 0, x)
    assert not np.allclose(first, changed, atol=1e-3)
    fresh = keras.models.clone_model(model)
    fresh.set_weights(model.get_weights())
    np.testing.assert_allclose(changed, visualize_saliency(fresh, -1, 0, x), atol=1e-6)


def test_changed_activations_are_seen(softmax_network, digits):
    for _ in range(3):
        with pytest.warns(VisualizationWarning, match="ends in a softmax"):
            kept = visualize_saliency(softmax_network, -1, 3, digits[3])
    softmax_network.layers[-1].activation = keras.activations.linear
    swapped = visualize_saliency(softmax_network, -1, 3, digits[3])
    fresh = visualize_saliency(reference_network(softmax_network.get_weights()), -1, 3, digits[3])
    np.testing.assert_allclose(swapped, fresh, atol=1e-6)
    assert not np.allclose(kept, swapped, atol=1e-3)


# --- backprop modifiers of other kinds


def test_backprop_modifier_can_be_a_function_a_rule_or_a_copy(shared_network, digits):
    expected = visualize_saliency(shared_network, -1, 3, digits[3], backprop_modifier="guided")
    for modifier in (guided, lambda model: guided(model)):
        got = visualize_saliency(shared_network, -1, 3, digits[3], backprop_modifier=modifier)
        np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(visualize_saliency(guided(shared_network), -1, 3, digits[3]), expected, atol=1e-5)

    def by_hand(x, y, upstream):
        return upstream * ops.cast(upstream > 0, "float32") * ops.cast(y > 0, "float32")

    got = visualize_saliency(shared_network, -1, 3, digits[3], backprop_modifier=by_hand)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_modifier_without_places_warns():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.warns(VisualizationWarning, match="changed nothing"):
        visualize_saliency(model, -1, 0, np.ones((4, 4, 1)), backprop_modifier="guided")


# --- losses of the user's own


class KerasVisLoss(Loss):
    """A loss as keras-vis scripts wrote them."""

    def __init__(self, model, layer):
        super().__init__()
        self.name, self.model, self.layer = "own", model, layer

    def build_loss(self):
        return ops.sum(ops.square(self.layer.output)) + 0.0 * ops.sum(self.model.inputs[0])


def test_own_losses(rng):
    model = keras.Sequential([keras.Input((3, 2, 1)), layers.Flatten(), layers.Dense(2)])
    kernel, bias = model.get_weights()
    x = rng.random((3, 2, 1)).astype("float32")
    loss = KerasVisLoss(model, model.layers[-1])
    expected = (kernel @ (2 * (x.ravel() @ kernel + bias))).reshape(3, 2, 1)
    got = visualize_saliency_with_losses(model.inputs[0], [(loss, 1)], x, grad_modifier=None, keepdims=True)
    np.testing.assert_allclose(got, min_max(expected), atol=1e-5)
    image = visualize_activation_with_losses(
        model.inputs[0], [(loss, 1)], None, x, max_iter=4, optimizer=keras.optimizers.Adam(0.01)
    )
    assert image.shape == (3, 2, 1) and image.dtype == np.uint8


# --- visualize_activation: its parameters


def test_activation_dtypes_follow_the_range():
    model = small_cnn()
    params = {"max_iter": 2, "seed": 0}
    whole = visualize_activation(model, -1, 0, **params)
    assert whole.dtype == np.uint8 and whole.shape == (9, 7, 3)
    real = visualize_activation(model, -1, 0, input_range=(-1.0, 1.0), **params)
    assert real.dtype == np.float32 and -1 <= real.min() < real.max() <= 1


@pytest.mark.parametrize(
    "params",
    [
        {"act_max_weight": 3},
        {"lp_norm_weight": 0},
        {"lp_norm_weight": None},
        {"tv_weight": 0},
        {"tv_weight": 1000},
        {"max_iter": 3},
        {"seed": 2},
        {"grad_modifier": "negate"},
        {"backprop_modifier": "rectified"},
        {"filter_indices": [1, 2]},
        {"filter_indices": None},
        {"optimizer": keras.optimizers.Adam(0.1)},
        {"layer_idx": "conv2"},
    ],
    ids=lambda params: "-".join(params),
)
def test_every_parameter_of_activation_matters(params):
    model = small_cnn()
    model.set_weights([10 * w for w in model.get_weights()])  # or the regularizers win, and the seed is best
    default = {"layer_idx": "preds", "filter_indices": 1, "input_range": (0.0, 1.0), "max_iter": 20, "seed": 1}
    default["lp_norm_weight"] = 1000
    first = visualize_activation(model, **default)
    np.testing.assert_allclose(first, visualize_activation(model, **default), atol=1e-5)
    assert not np.allclose(first, visualize_activation(model, **{**default, **params}), atol=1e-3)


def test_weight_none_is_weight_zero():
    model = small_cnn()
    params = {"input_range": (0.0, 1.0), "max_iter": 5, "seed": 1}
    for name in ("lp_norm_weight", "tv_weight"):
        zero = visualize_activation(model, -1, 0, **params, **{name: 0})
        np.testing.assert_array_equal(zero, visualize_activation(model, -1, 0, **params, **{name: None}))


# --- the rest


def test_get_num_filters():
    model = small_cnn()
    assert [get_num_filters(layer) for layer in model.layers[1:]] == [4, 5, 120, 3]
    assert get_num_filters(small_cnn("channels_first").get_layer("conv2")) == 5


def test_overlay():
    first, second = np.array([[0, 100]], "uint8"), np.array([[200, 50]])
    blended = overlay(first, second, alpha=0.25)
    assert blended.dtype == np.uint8 and blended.tolist() == [[150, 62]]
    assert overlay(first, second, 1).tolist() == first.tolist()
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must be in"):
            overlay(first, second, alpha)
    with pytest.raises(ValueError, match="same shape"):
        overlay(first, second.T)


def test_apply_modifications_then_visualize(softmax_network, shared_network, digits):
    softmax_network.layers[-1].activation = keras.activations.linear
    model = utils.apply_modifications(softmax_network)
    expected = visualize_saliency(shared_network, -1, 3, digits[3])
    np.testing.assert_allclose(visualize_saliency(model, -1, 3, digits[3]), expected, atol=1e-6)


def test_losses_take_the_model_as_well(shared_network, digits):
    losses = [(ActivationMaximization("preds", 3), -1)]
    np.testing.assert_allclose(
        visualize_saliency_with_losses(shared_network, losses, digits[3]),
        visualize_saliency(shared_network, "preds", 3, digits[3]),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        visualize_cam_with_losses(shared_network, losses, digits[3], shared_network.layers[2]),
        visualize_cam(shared_network, "preds", 3, digits[3]),
        atol=1e-5,
    )
    image = visualize_activation_with_losses(shared_network, losses, seed_input=digits[3], max_iter=2)
    assert image.shape == (28, 28, 1)


@pytest.mark.parametrize("input_range", [(-1, 1), (0, 1), (0, 1000)])
def test_ranges_that_bytes_cannot_show_warn(input_range):
    with pytest.warns(VisualizationWarning, match="holds whole numbers"):
        visualize_activation(small_cnn(), -1, 0, input_range=input_range, max_iter=1, seed=0)
