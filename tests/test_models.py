"""Explainers on models of every kind, against answers that come another way."""

import warnings

import keras
import numpy as np
import pytest
import zoo
from conftest import value_of
from keras import layers, ops

import vis
from vis.utils.validation import VisualizationWarning


def scores(model, inputs):
    return value_of(model(inputs, training=False)).astype("float64")


def moved(inputs, directions, step):
    flat = [x + step * d for x, d in zip(keras.tree.flatten(inputs), directions)]
    return keras.tree.pack_sequence_as(inputs, flat)


# Smooth enough, and in float32, for finite differences.
SMOOTH = [
    "nested in Sequential",
    "lazy Sequential",
    "subclassed",
    "subclassed in Functional",
    "residual",
    "two inputs, list",
    "two inputs, dict",
    "TimeDistributed",
    "signal",
    "volume",
    "transformer",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_saliency_agrees_with_finite_differences(name):
    model, inputs = zoo.make(name)
    explainer = vis.Saliency(model, logits=False)
    flat = keras.tree.flatten(inputs)
    directions = [zoo.draw(*x.shape, seed=5 + i) for i, x in enumerate(flat)]
    gradients = keras.tree.flatten(explainer(inputs, target=1))
    slopes = sum((g * d).reshape(len(g), -1).sum(axis=1) for g, d in zip(gradients, directions))
    step = 2e-3
    difference = scores(model, moved(inputs, directions, step)) - scores(model, moved(inputs, directions, -step))
    expected = difference[:, 1] / (2 * step)
    np.testing.assert_allclose(slopes, expected, atol=0.02 * np.abs(expected).max() + 2e-4)


SOFTMAX = ["nested", "nested in Sequential", "lazy Sequential", "subclassed", "residual", "signal", "mixed precision"]


@pytest.mark.parametrize("name", SOFTMAX)
def test_logits_are_explained_whatever_makes_the_softmax(name):
    """Of two classes, the difference of the logits is that of the log probabilities."""
    model, x = zoo.make(name)
    logits, probabilities = vis.Saliency(model), vis.Saliency(model, logits=False)
    p = scores(model, x)
    axes = (slice(None), *[None] * (x.ndim - 1))
    got = logits(x, 0) - logits(x, 2)
    expected = probabilities(x, 0) / p[:, 0][axes] - probabilities(x, 2) / p[:, 2][axes]
    tolerance = 0.05 if name == "mixed precision" else 1e-3
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())
    assert np.abs(got).max() > 1e-4


def flat_nested(model):
    inputs = keras.Input((9, 7, 3))
    inner = model.get_layer("backbone")
    x = inner.get_layer("conv2")(inner.get_layer("conv1")(inputs))
    return keras.Model(inputs, model.layers[-1](model.layers[-2](x)))


def flat_subclassed(model):
    inputs = keras.Input((9, 7, 3))
    x = model.blocks[0](inputs)
    return keras.Model(inputs, model.head(model.pool(x + model.blocks[1](x))))


FLAT = {"nested": flat_nested, "subclassed": flat_subclassed}
CAMS = [vis.GradCAM, vis.GradCAMPlusPlus, vis.HiResCAM, vis.EigenCAM, vis.AblationCAM, vis.ScoreCAM]


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("name", FLAT)
def test_a_model_and_its_flat_twin_agree(name, method):
    model, x = zoo.make(name)
    layer = {"nested": "conv2", "subclassed": "conv1"}[name]
    expected = method(FLAT[name](model), layer)(x, 1)
    np.testing.assert_allclose(method(model, layer)(x, 1), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0


PICKED = {
    "nested": "conv2",
    "nested in Sequential": "conv2",
    "subclassed in Functional": "inner",
    "residual": "joined",
    "two inputs, list": "conv",
    "TimeDistributed": "frames",
    "transformer": "normal",  # after it only the class token goes on
}


@pytest.mark.parametrize("name", PICKED)
def test_the_last_layer_with_spatial_output_is_picked(name):
    model, inputs = zoo.make(name)
    picked, named = vis.LayerCAM(model)(inputs, 1), vis.LayerCAM(model, PICKED[name])(inputs, 1)
    np.testing.assert_array_equal(picked, named)


def test_of_a_subclassed_model_the_last_layer_to_finish_is_picked():
    model, x = zoo.make("subclassed")
    np.testing.assert_array_equal(vis.GradCAM(model)(x), vis.GradCAM(model, model.blocks[1])(x))


def test_a_shared_layer_is_explained_at_the_call_that_is_asked_for():
    model, x = zoo.make("shared layer")
    first, last = vis.HiResCAM(model, ("shared", 0))(x, 1), vis.HiResCAM(model, ("shared", 1))(x, 1)
    assert np.abs(first - last).max() > 0.1
    with pytest.warns(VisualizationWarning, match="call 1 is meant"):
        np.testing.assert_array_equal(vis.HiResCAM(model, "shared")(x, 1), last)
    conv = model.get_layer("shared")
    inputs = keras.Input((9, 7, 3))
    hidden = conv(inputs)
    rest = keras.Model(inputs, model.layers[-1](model.layers[-2](conv(inputs))))
    gradients = vis.Saliency(rest)(value_of(keras.Model(inputs, hidden)(x)), 1)
    activations = value_of(keras.Model(inputs, hidden)(x))
    np.testing.assert_allclose(first, np.maximum((gradients * activations).sum(-1), 0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="ran 2 times"):
        vis.GradCAM(model, ("shared", 2))(x)


def test_a_shared_layer_is_ablated_and_integrated_at_one_call():
    model, x = zoo.make("shared layer")
    maps = vis.IntegratedGradients(model, input_layer=("shared", 0))(x, 1)
    assert maps.shape == (3, 9, 7, 3)
    zero = value_of(model.layers[-1](model.layers[-2](model.get_layer("shared")(ops.zeros((3, 9, 7, 3))))))[:, 1]
    np.testing.assert_allclose(maps.sum((1, 2, 3)), scores(model, x)[:, 1] - zero, atol=2e-2)


def test_inputs_come_back_in_their_structure():
    model, (image, vector) = zoo.make("two inputs, list")
    named, by_name = zoo.make("two inputs, dict")
    named.set_weights(model.get_weights())
    listed, by_keys = vis.Saliency(model)([image, vector], 1), vis.Saliency(named)(by_name, 1)
    assert isinstance(listed, list) and set(by_keys) == {"pixels", "extra"}
    np.testing.assert_allclose(by_keys["pixels"], listed[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(by_keys["extra"], listed[1], rtol=1e-5, atol=1e-7)
    names = [tensor.name for tensor in model.inputs]
    mapped = vis.Saliency(model)(dict(zip(names, [image, vector])), 1)
    np.testing.assert_array_equal(mapped[names[1]], listed[1])


@pytest.mark.parametrize("method", [vis.SmoothGrad, vis.IntegratedGradients, vis.GradientTimesInput, vis.GuidedGradCAM])
def test_other_methods_take_several_inputs(method):
    model, inputs = zoo.make("two inputs, list")
    maps = method(model)(inputs, 1)
    assert [m.shape for m in maps] == [x.shape for x in inputs]
    assert all(np.abs(m).max() > 0 for m in maps)


def test_integrated_gradients_of_several_inputs_are_complete_together():
    model, (image, vector) = zoo.make("two inputs, list")
    baseline = [np.full((9, 7, 3), 0.2), np.array([1.0, 0, 0, -1])]
    maps = vis.IntegratedGradients(model, steps=200, baseline=baseline, logits=False)([image, vector], 2)
    start = [np.broadcast_to(b, x.shape).astype("float32") for b, x in zip(baseline, [image, vector])]
    rise = scores(model, [image, vector])[:, 2] - scores(model, start)[:, 2]
    np.testing.assert_allclose(sum(m.reshape(3, -1).sum(1) for m in maps), rise, atol=2e-3)


def test_of_several_outputs_one_is_named():
    model, x = zoo.two_outputs_dict()
    zoo.set_weights(model)
    single = keras.Model(model.inputs, model.get_layer("class").output)
    np.testing.assert_allclose(
        vis.Saliency(model, output_layer="class")(x, 2), vis.Saliency(single)(x, 2), rtol=1e-5, atol=1e-6
    )
    size = vis.GradCAM(model)(x, lambda outputs: outputs["size"][:, 0])
    np.testing.assert_allclose(size, vis.GradCAM(model, output_layer="size")(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="2 outputs"):
        vis.Saliency(model)(x, 1)


def test_the_score_of_a_function_of_the_logits():
    """`logits=True` also holds for functions: they get what is before the softmax."""
    model, x = zoo.segmentation()
    zoo.set_weights(model)

    def patch(outputs):
        return ops.mean(outputs[:, 2:5, 2:5, 1], axis=(1, 2))

    linear = vis.utils.utils.swap_softmax(model)
    np.testing.assert_allclose(vis.GradCAM(model)(x, patch), vis.GradCAM(linear)(x, patch), rtol=1e-4, atol=1e-6)
    raw = vis.GradCAM(model, logits=False)(x, patch)
    assert np.abs(raw - vis.GradCAM(model)(x, patch)).max() > 1e-3
    np.testing.assert_array_equal(vis.GradCAM(model)(x, patch), vis.GradCAM(model, "up")(x, patch))


def test_a_filter_is_explained_by_its_mean():
    model, x = zoo.segmentation()
    zoo.set_weights(model)
    got = vis.Saliency(model, output_layer="bottom")(x, 3)
    inner = keras.Model(model.inputs, model.get_layer("bottom").output)
    expected = vis.Saliency(inner)(x, lambda outputs: ops.mean(outputs[..., 3], axis=(1, 2)))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recurrent", [True, False])
def test_words_are_explained_at_their_embedding(recurrent):
    model, words = zoo.text(recurrent)
    zoo.set_weights(model)
    embedded = value_of(model.get_layer("embedding")(words))
    maps = vis.Saliency(model, input_layer="embedding")(words, 1)
    assert maps.shape == embedded.shape
    product = vis.GradientTimesInput(model, input_layer="embedding")(words, 1)
    np.testing.assert_allclose(product, maps * embedded, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(
        vis.SmoothGrad(model, noise_level=0, input_layer="embedding")(words, 1).shape, embedded.shape
    )
    drops = vis.Occlusion(model, patch=1)(words, 1)
    hidden = words.copy()
    hidden[:, 2] = 0
    np.testing.assert_allclose(drops[:, 2], (scores(model, words) - scores(model, hidden))[:, 1], atol=1e-5)
    with pytest.raises(ValueError, match="input_layer"):
        vis.Saliency(model)(words)
    with pytest.raises(ValueError, match="Occlusion"):
        vis.RISE(model, num_masks=3)(words)


def test_integrated_gradients_at_an_embedding_are_complete():
    model, words = zoo.text(False)
    zoo.set_weights(model)
    maps = vis.IntegratedGradients(model, steps=200, input_layer="embedding", logits=False)(words, 1)
    table = model.get_layer("embedding")
    weights = table.get_weights()
    table.set_weights([np.zeros_like(weights[0])])
    blank = scores(model, words)[:, 1]
    table.set_weights(weights)
    np.testing.assert_allclose(maps.sum((1, 2)), scores(model, words)[:, 1] - blank, atol=1e-3)


def test_tokens_are_put_back_on_their_grid():
    model, x = zoo.transformer()
    zoo.set_weights(model)
    tokens = vis.HiResCAM(model, "embedded", upsample=False, reshape="tokens")(x, 1)
    assert tokens.shape == (3, 3, 3)
    embedded = vis.Saliency(model, input_layer="embedded")(x, 1) * vis.visualization.activations(model, "embedded", x)
    np.testing.assert_allclose(tokens, np.maximum(embedded.sum(-1), 0)[:, 1:].reshape(3, 3, 3), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(tokens, vis.HiResCAM(model, "embedded", upsample=False)(x, 1))  # the grid is obvious
    # Of the last layers only the class token goes on: the last one whose patches matter is picked.
    picked = vis.GradCAM(model)(x, 1)
    assert np.abs(picked).max() > 0
    np.testing.assert_array_equal(picked, vis.GradCAM(model, "normal", reshape="tokens")(x, 1))
    for method in (vis.ScoreCAM, vis.AblationCAM, vis.EigenCAM):
        assert np.abs(method(model, "embedded", reshape="tokens", upsample=False)(x, 1)).max() > 0


def tokens_of(shape):
    inputs = keras.Input((*shape, 3))
    x = layers.Reshape((6, 48))(layers.Conv2D(48, 4, strides=4)(inputs))
    tokens = layers.Dense(4, name="tokens")(x)
    return zoo.set_weights(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(tokens))))


def test_tokens_of_an_image_that_is_no_square():
    model, x = tokens_of((8, 12)), zoo.draw(2, 8, 12, 3)
    explainer = vis.HiResCAM(model, upsample=False)
    assert explainer(x, 1).shape == (2, 2, 3)  # patches of 4 x 4
    assert explainer.layer == "tokens"


def test_tokens_of_no_grid_are_refused():
    with pytest.raises(ValueError, match="grid of squares"):
        vis.GradCAM(tokens_of((9, 13)), "tokens", reshape="tokens")(zoo.draw(2, 9, 13, 3))


def test_probabilities_that_no_layer_makes_are_explained_as_they_are_and_said_so_once():
    model, x = zoo.subclassed_ops()
    zoo.set_weights(model)
    explainer = vis.Saliency(model)
    with pytest.warns(VisualizationWarning, match="sums to 1"):
        maps = explainer(x, 1)
    np.testing.assert_allclose(explainer(x, 1), maps, rtol=1e-4, atol=1e-7)  # a second warning would be an error
    np.testing.assert_allclose(vis.Saliency(model, logits=False)(x, 1), maps, rtol=1e-4, atol=1e-7)


def test_probabilities_may_be_rearranged():
    inputs = keras.Input((9, 7, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(inputs))
    straight = keras.Model(inputs, layers.Dense(6, activation="sigmoid")(x))
    reshaped = keras.Sequential([straight, layers.Reshape((2, 3)), layers.Permute((2, 1)), layers.Flatten()])
    zoo.set_weights(straight)
    x = zoo.draw(3, 9, 7, 3)
    np.testing.assert_allclose(vis.Saliency(reshaped)(x, 1), vis.Saliency(straight)(x, 3), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_unit_is_class_one(activation):
    model, x = zoo.one_unit(activation)
    zoo.set_weights(model)
    explainer = vis.Saliency(model)
    one = explainer(x, 1)
    np.testing.assert_array_equal(explainer(x), one)
    np.testing.assert_array_equal(explainer(x, 0), -one)
    with pytest.raises(ValueError, match="2 classes"):
        explainer(x, 2)


def test_models_in_bfloat16_give_float32_maps_near_those_in_float32():
    model, x = zoo.make("mixed precision")
    whole = keras.Sequential(
        [
            keras.Input((9, 7, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    whole.set_weights(model.get_weights())
    for method in (vis.Saliency, vis.GradCAM, vis.AblationCAM):
        got, expected = method(model)(x, 1), method(whole)(x, 1)
        assert got.dtype == "float32"
        assert np.linalg.norm(got - expected) < 0.05 * np.linalg.norm(expected)  # some ReLUs open or close


def test_the_mode_is_always_inference():
    model, x = zoo.make("preprocessing")
    explainer = vis.Saliency(model)
    np.testing.assert_array_equal(explainer(x, 1), explainer(x, 1))  # no flips, no noise
    residual, x = zoo.make("residual")
    statistics = [value_of(v.value) for v in residual.non_trainable_variables]
    vis.SmoothGrad(residual, num_samples=3)(x)
    for before, variable in zip(statistics, residual.non_trainable_variables):
        np.testing.assert_array_equal(before, value_of(variable.value))


def test_a_model_that_was_never_called_is_built_by_the_first_call():
    model = keras.Sequential([layers.Conv2D(3, 3, name="conv"), layers.Flatten(), layers.Dense(2)])
    explainer, x = vis.GradCAM(model, "conv"), zoo.draw(2, 9, 7, 3)
    maps = explainer(x, 1)
    assert model.built
    np.testing.assert_allclose(maps, vis.GradCAM(model)(x, 1), rtol=1e-5)


def test_a_film_is_explained_frame_by_frame():
    model, x = zoo.make("TimeDistributed")
    maps = vis.LayerCAM(model, upsample=False)(x, 1)
    assert maps.shape == (2, 4, 6, 6)
    assert np.abs(vis.Saliency(model)(x, 1)).reshape(8, -1).max(axis=1).min() > 0


def test_the_activations_of_a_shared_layer_are_those_of_the_call_that_is_asked_for():
    model, x = zoo.make("shared layer")
    conv, inputs = model.get_layer("shared"), keras.Input((9, 7, 3))
    hidden = conv(inputs)
    for call, output in ((0, hidden), (1, conv(hidden)), (-1, conv(hidden))):
        maps = vis.EigenCAM(model, ("shared", call), upsample=False)(x)
        expected = vis.EigenCAM.formula(value_of(keras.Model(inputs, output)(x)))
        np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4)


def test_what_fills_up_the_last_chunk_is_left_out():
    model, x = zoo.make("signal")
    x = np.concatenate([x, -x])[:5]
    np.testing.assert_allclose(vis.Saliency(model)(x, 1, batch_size=4), vis.Saliency(model)(x, 1), rtol=1e-4, atol=1e-6)


def in_half(policy):
    """A network of positive weights, so that no ReLU is near its kink, with small gradients: they fall below 6e-5."""
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy, name="conv")(inputs)
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy, name="late")(x)
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    model = keras.Model(inputs, layers.Dense(3, dtype=policy, name="preds")(x))
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.1, 0.3, w.shape) for w in model.get_weights()])
    kernel, bias = model.get_layer("preds").get_weights()
    model.get_layer("preds").set_weights([1e-5 * kernel, bias])
    return model


HALF = {
    "Saliency": lambda m: vis.Saliency(m),
    "guided": lambda m: vis.Saliency(m, "guided"),
    "within": lambda m: vis.Saliency(m, input_layer="conv"),
    "SmoothGrad": lambda m: vis.SmoothGrad(m, 3, seed=0),
    "IntegratedGradients": lambda m: vis.IntegratedGradients(m, 4),
    "ExpectedGradients": lambda m: vis.ExpectedGradients(m, np.full((1, 9, 7, 3), 0.1), 3, 0),
    "BlurIntegratedGradients": lambda m: vis.BlurIntegratedGradients(m, 4),
    "GuidedIntegratedGradients": lambda m: vis.GuidedIntegratedGradients(m, 4),
    "GradCAM": lambda m: vis.GradCAM(m, "late"),
}


@pytest.mark.parametrize("name", HALF)
def test_small_gradients_survive_half_precision(name):
    x = np.random.default_rng(0).uniform(0.1, 1, (3, 9, 7, 3)).astype("float32")
    expected = HALF[name](in_half("float32"))(x, 1)
    got = HALF[name](in_half("mixed_float16"))(x, 1)
    assert np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()


def test_large_gradients_survive_half_precision():
    x = np.random.default_rng(0).uniform(0.1, 1, (3, 9, 7, 3)).astype("float32")
    models = [in_half(policy) for policy in ("float32", "mixed_float16")]
    for model in models:
        model.get_layer("preds").set_weights([w * 2e9 for w in model.get_layer("preds").get_weights()])
    expected, got = (vis.Saliency(model)(x, lambda outputs: 0.5 * outputs[:, 1]) for model in models)
    assert np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()


# --- modules of PyTorch inside

torch_only = pytest.mark.skipif(keras.config.backend() != "torch", reason="TorchModuleWrapper is for PyTorch")


def torch_module(*more):
    """Two convolutions of PyTorch on 9x7 images, with fixed weights."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 2), *more)
    draw = np.random.default_rng(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(draw.normal(0.05, 0.3, tuple(parameter.shape)).astype("float32")))
    return module


def with_torch_inside(kind, *more):
    """A model around the module: Functional, a Sequential without a graph, or subclassed."""
    body = layers.TorchModuleWrapper(torch_module(*more), name="body", output_shape=(None, 5, 6, 4))
    head = layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=5), name="preds")
    if kind == "Functional":
        inputs = keras.Input((3, 9, 7))
        return keras.Model(inputs, head(layers.Flatten()(layers.ReLU(name="act")(body(inputs)))))
    if kind == "lazy":
        model = keras.Sequential([body, layers.ReLU(name="act"), layers.Flatten(), head])
    else:

        class Around(keras.Model):
            def __init__(self):
                super().__init__()
                self.body, self.act, self.flatten, self.head = body, layers.ReLU(name="act"), layers.Flatten(), head

            def call(self, x, training=False):
                return self.head(self.flatten(self.act(self.body(x, training=training))))

        model = Around()
    model(np.zeros((1, 3, 9, 7), "float32"))
    return model


def keras_twin():
    inputs = keras.Input((3, 9, 7))
    x = layers.Conv2D(4, 3, activation="relu", data_format="channels_first")(inputs)
    x = layers.Conv2D(5, 2, data_format="channels_first", name="body")(x)
    x = layers.Flatten(data_format="channels_last")(layers.ReLU(name="act")(x))
    model = keras.Model(inputs, layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=5))(x))
    for layer, state in zip((model.layers[1], model.get_layer("body")), (0, 2)):
        kernel, bias = (p.detach().cpu().numpy() for p in torch_module()[state].parameters())
        layer.set_weights([np.transpose(kernel, (2, 3, 1, 0)), bias])
    return model


@torch_only
@pytest.mark.parametrize("kind", ["Functional", "lazy", "subclassed"])
def test_modules_of_pytorch_have_their_channels_first(kind):
    x = draw_images()
    model, twin = with_torch_inside(kind), keras_twin()
    for method in (
        lambda m: vis.GradCAM(m, None if kind == "Functional" else "body"),
        lambda m: vis.HiResCAM(m, "body"),
        lambda m: vis.AblationCAM(m, "body"),
        lambda m: vis.Occlusion(m, 3),
        lambda m: vis.RISE(m, 8, seed=0),
        lambda m: vis.SmoothGrad(m, 2, seed=0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", VisualizationWarning)
            got, expected = method(model)(x, 1), method(twin)(x, 1)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-5)


@torch_only
def test_modules_of_pytorch_that_may_be_either_way_are_said():
    torch = pytest.importorskip("torch")
    mixed = with_torch_inside("Functional", torch.nn.LayerNorm(4))
    with pytest.warns(VisualizationWarning, match="'body'.*data_format"):
        vis.GradCAM(mixed, "body")(draw_images(), 1)
    mixed.get_layer("body").data_format = "channels_first"  # what the warning says
    vis.GradCAM(mixed, "body")(draw_images(), 1)


@torch_only
def test_backward_rules_say_that_they_do_not_reach_into_modules_of_pytorch():
    with pytest.warns(VisualizationWarning, match="'guided' does not reach.*'body'"):
        vis.Saliency(with_torch_inside("Functional"), "guided")(draw_images(), 1)


def draw_images():
    return np.random.default_rng(0).random((2, 3, 9, 7)).astype("float32")
