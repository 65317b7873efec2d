"""vis.utils: copies of models, layers by name, images and labels."""

import keras
import numpy as np
import pytest
from conftest import needs_layers_as_activations, small_cnn, value_of
from keras import layers, ops
from PIL import Image

import vis
from vis.utils import utils
from vis.utils.validation import VisualizationWarning, check_input, listify


class Scale(layers.Layer):
    """A custom layer that is registered nowhere."""

    def __init__(self, factor=2.0, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.activation = factor, keras.activations.get(activation)

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.activation(self.factor * x + self.shift)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "activation": "linear"}


def own_activation(x):
    return ops.tanh(x) * 2


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(3, "softmax")])


def functional():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, activation="tanh", name="shared")
    x = ops.relu(shared(shared(inputs)) + 1.0)
    return keras.Model(inputs, [layers.Dense(3, "softmax")(x), layers.Activation("elu")(x)])


def nested():
    return keras.Sequential([keras.Input((4,)), functional_single(), layers.Dense(2, "softmax")])


def functional_single():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3, "relu", name="inner")(layers.BatchNormalization()(inputs)), name="part")


def custom():
    return keras.Sequential(
        [
            keras.Input((4,)),
            Scale(3.0, "sigmoid"),
            layers.Dense(3, activation=own_activation),
            layers.Lambda(lambda x: x * 2),
            layers.Dense(2, activation=lambda x: x + 5),
            layers.Dense(2, activation=layers.LeakyReLU(0.4)),
        ]
    )


def numpy_outputs(model, x):
    return [value_of(y) for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize(
    "make", [sequential, functional, nested, pytest.param(custom, marks=needs_layers_as_activations), small_cnn]
)
def test_copies_are_equal_and_independent(make):
    model = make()
    shape = (2, *model.input_shape[1:])
    x = np.random.default_rng(0).random(shape).astype("float32")
    outputs, weights = numpy_outputs(model, x), model.get_weights()
    copied = utils.apply_modifications(model)
    for got, expected in zip(numpy_outputs(copied, x), outputs):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert [layer.name for layer in copied.layers] == [layer.name for layer in model.layers]
    assert not {id(layer) for layer in copied.layers} & {id(layer) for layer in model.layers}
    copied.set_weights([w + 1 for w in weights])
    for old, new in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    for got, expected in zip(numpy_outputs(model, x), outputs):
        np.testing.assert_array_equal(got, expected)


def test_changed_activations_take_effect_and_the_original_keeps_its_own():
    model = sequential()
    model.layers[-1].activation = keras.activations.linear
    copied = utils.apply_modifications(model)
    x = np.random.default_rng(0).random((3, 4))
    weights = model.get_weights()
    expected = np.maximum(x @ weights[0] + weights[1], 0) @ weights[2] + weights[3]
    np.testing.assert_allclose(numpy_outputs(copied, x)[0], expected, rtol=1e-4)


def test_changes_in_nested_models_take_effect():
    model = nested()
    model.layers[0].get_layer("inner").activation = keras.activations.linear
    copied = utils.apply_modifications(model)
    assert copied.layers[0].get_layer("inner").activation is keras.activations.linear


def test_compiled_state_is_kept():
    model = sequential()
    model.compile(keras.optimizers.Adam(0.123), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).random((32, 4)), np.arange(32) % 3
    model.fit(x, y, epochs=2, verbose=0)
    copied = utils.apply_modifications(model)
    assert copied.compiled and float(value_of(copied.optimizer.learning_rate)) == pytest.approx(0.123)
    for old, new in zip(model.optimizer.variables, copied.optimizer.variables):
        np.testing.assert_array_equal(value_of(old.value), value_of(new.value))
    assert copied.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def own_loss(y, prediction):
    return ops.mean(prediction, axis=-1)


def test_own_losses_are_found():
    model = sequential()
    model.compile("sgd", own_loss)
    assert utils.apply_modifications(model).compiled


def test_what_cannot_be_compiled_is_a_warning():
    model = sequential()
    model.compile("sgd", lambda y, prediction: ops.mean(prediction))
    with pytest.warns(VisualizationWarning, match="but not its compiled state"):
        copied = utils.apply_modifications(model)
    assert len(copied.get_weights()) == 4


def test_custom_objects_are_used():
    class Other(Scale):
        pass

    model = keras.Sequential([keras.Input((4, 3)), layers.TimeDistributed(Scale(2.0))])
    assert type(utils.apply_modifications(model).layers[0].layer) is Scale
    copied = utils.apply_modifications(model, custom_objects={"Scale": Other})
    assert type(copied.layers[0].layer) is Other


def test_no_files_are_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    utils.apply_modifications(nested())
    assert list(tmp_path.iterdir()) == []


class Subclassed(keras.Model):
    def call(self, x):
        return x


class NoConfig(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, x):
        return x


@pytest.mark.parametrize(
    "make, words",
    [
        (Subclassed, "subclassed one cannot be copied.*backprop_modifier="),
        (lambda: keras.Sequential([layers.Dense(3)]), "needs a built model"),
        (lambda: keras.Sequential([keras.Input((3,)), NoConfig(3)]), "(?s)could not be copied.*get_config"),
    ],
)
def test_what_cannot_be_copied(make, words):
    with pytest.raises(ValueError, match=words):
        utils.apply_modifications(make())


@pytest.mark.parametrize(
    "end",
    [
        lambda: [layers.Dense(3, "softmax")],
        lambda: [layers.Dense(3), layers.Softmax()],
        lambda: [layers.Dense(3), layers.Activation("softmax")],
        lambda: [keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])],
        lambda: [layers.Dense(3, "sigmoid")],
        lambda: [layers.Dense(3, layers.Softmax())],
        lambda: [layers.Dense(3, "softmax"), layers.Reshape((3,))],
    ],
)
def test_swap_softmax(end):
    model = keras.Sequential([keras.Input((4,)), *end()])
    x = np.random.default_rng(0).random((2, 4))
    before = numpy_outputs(model, x)[0]
    kernel, bias = model.get_weights()
    swapped = utils.swap_softmax(model)
    np.testing.assert_allclose(numpy_outputs(swapped, x)[0], x @ kernel + bias, rtol=1e-4)
    np.testing.assert_array_equal(numpy_outputs(model, x)[0], before)


def test_swap_softmax_of_a_functional_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, "softmax", name="end")(layers.Dense(4)(inputs)))
    assert utils.swap_softmax(model).get_layer("end").activation is keras.activations.linear
    assert model.get_layer("end").activation is keras.activations.softmax


def test_swap_softmax_in_a_wrapper():
    model = keras.Sequential([keras.Input((2, 4)), layers.TimeDistributed(layers.Dense(3, "softmax"), name="steps")])
    x = np.random.default_rng(0).random((2, 2, 4))
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(numpy_outputs(utils.swap_softmax(model), x)[0], x @ kernel + bias, rtol=1e-4)
    np.testing.assert_allclose(numpy_outputs(model, x)[0].sum(axis=-1), 1, rtol=1e-4)


def test_swap_softmax_that_no_layer_makes():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, ops.softmax(layers.Dense(3)(inputs)))
    with pytest.raises(ValueError, match="only swap what a layer makes.*whose softmax.*keras.Model"):
        utils.swap_softmax(model)
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="does not end in a softmax.*Subclassed"):
        utils.swap_softmax(keras.Model(inputs, Subclassed()(inputs)))


def test_swap_softmax_without_one():
    with pytest.raises(ValueError, match="does not end in a softmax or sigmoid. Received: last layer 'preds'"):
        utils.swap_softmax(small_cnn())


def test_find_layer_idx():
    model = small_cnn()
    assert [utils.find_layer_idx(model, layer.name) for layer in model.layers] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no layer named 'pred'. Did you mean: 'preds'"):
        utils.find_layer_idx(model, "pred")
    with pytest.raises(ValueError, match="use the path 'part/inner'"):
        utils.find_layer_idx(nested(), "inner")


@pytest.mark.parametrize("dims", [(1, 2), (1, 2, 3), ()])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_get_img_shape(dims, data_format, monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: data_format)
    shape = (5, 4, *dims) if data_format == "channels_first" else (5, *dims, 4)
    assert utils.get_img_shape(ops.ones(shape)) == (5, 4, *dims)
    assert utils.get_img_shape(np.ones(shape)) == (5, 4, *dims)
    assert utils.get_img_shape(keras.Input(shape[1:])) == (None, 4, *dims)[: len(shape)] or not dims


def test_get_img_shape_of_a_number():
    with pytest.raises(ValueError, match="Received: shape \\(3,\\)"):
        utils.get_img_shape(np.ones(3))


def test_slicer(monkeypatch):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(x[utils.slicer[:, 4, :, :]], x[..., 4])
    np.testing.assert_array_equal(x[utils.slicer[:, 4, ...]], x[..., 4])
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    np.testing.assert_array_equal(x[utils.slicer[:, 2, :, :]], x[:, 2])


def test_small_helpers():
    assert list(utils.reverse_enumerate("abcde")) == [(4, "e"), (3, "d"), (2, "c"), (1, "b"), (0, "a")]
    assert listify([1]) == [1] and listify((1, 2)) == [1, 2] and listify(np.array([3, 4])) == [3, 4]
    assert listify(None) == [None] and listify("ab") == ["ab"] and listify(np.int64(3)) == [3]
    defaults = {"a": 1}
    assert utils.add_defaults_to_kwargs(defaults, b=2) == {"a": 1, "b": 2} and defaults == {"a": 1}
    assert utils.add_defaults_to_kwargs(None, a=3) == {"a": 3}
    assert utils.get_identifier("relu", vars(keras.activations), "activations") is keras.activations.relu
    assert utils.get_identifier(np.sign, {}, "x") is np.sign
    with pytest.raises(ValueError, match="Unknown activations: 'relo'. Did you mean: 'relu'"):
        utils.get_identifier("relo", vars(keras.activations), "activations")
    with pytest.raises(ValueError, match="Could not interpret"):
        utils.get_identifier(3, {}, "x")


def test_random_array_leaves_numpys_state_alone():
    state = np.random.get_state()[1].copy()
    array = utils.random_array((40, 50), mean=3, std=0.5)
    assert array.mean() == pytest.approx(3, abs=1e-4) and array.std() == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(utils.random_array((3,), seed=1), utils.random_array((3,), seed=1))


def test_deprocess_input(rng):
    x = rng.normal(7, 3, (20, 30)).astype("float32")
    before = x.copy()
    got = utils.deprocess_input(x, (-1.0, 3.0))
    expected = np.clip(0.1 * (x - x.mean()) / x.std() + 0.5, 0, 1) * 4 - 1
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(x, before)
    assert utils.deprocess_input(np.zeros((2, 2), int)).tolist() == [[127.5, 127.5]] * 2


def test_normalize():
    np.testing.assert_allclose(utils.normalize(np.array([2, 4, 6]), -1, 1), [-1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(utils.normalize(np.full(3, 9.0)), np.zeros(3))


def test_stitch_images():
    images = [np.full((2, 3, 1), i + 1) for i in range(3)]
    stitched = utils.stitch_images(images, margin=1, cols=2)
    assert stitched[..., 0].tolist() == [
        [1, 1, 1, 0, 2, 2, 2],
        [1, 1, 1, 0, 2, 2, 2],
        [0, 0, 0, 0, 0, 0, 0],
        [3, 3, 3, 0, 0, 0, 0],
        [3, 3, 3, 0, 0, 0, 0],
    ]
    assert utils.stitch_images([]) is None
    assert utils.stitch_images([np.ones((4, 4))] * 2, margin=0).shape == (4, 8)
    with pytest.raises(ValueError, match="must all have one shape"):
        utils.stitch_images([np.ones((4, 4)), np.ones((5, 4))])
    with pytest.raises(ValueError, match="`cols` must be at least 1"):
        utils.stitch_images(images, cols=0)


def test_load_img(tmp_path):
    picture = np.zeros((6, 4, 3), "uint8")
    picture[:3] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(utils.load_img(tmp_path / "a.png"), picture)
    assert utils.load_img(tmp_path / "a.png", grayscale=True).shape == (6, 4)
    assert utils.load_img(str(tmp_path / "a.png"), target_size=(12, 2)).shape == (12, 2, 3)
    (tmp_path / "text.png").write_text("no picture")
    for path in ("missing.png", "text.png"):
        with pytest.raises(ValueError, match="must be a picture"):
            utils.load_img(tmp_path / path)
    with pytest.raises(ValueError, match="pair"):
        utils.load_img(tmp_path / "a.png", target_size=(3, 4, 5))


def test_lookup_imagenet_labels():
    assert utils.lookup_imagenet_labels(967) == ["espresso"]
    assert utils.lookup_imagenet_labels([0, 999, -1]) == ["tench", "toilet paper", "toilet paper"]
    with pytest.raises(ValueError, match="choose from 0 to 999"):
        utils.lookup_imagenet_labels(1000)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3)])
def test_draw_text(shape):
    image = np.full(shape, 255, "uint8")
    drawn = utils.draw_text(image, "Step 1", position=(20, 10))
    assert drawn.shape == shape and drawn.dtype == np.uint8
    assert drawn.min() < 50 and (image == 255).all()
    dark = np.argwhere(drawn < 128)
    assert dark[:, 0].min() >= 10 and dark[:, 1].min() >= 19  # position is (x, y)
    assert not np.array_equal(drawn, utils.draw_text(image, "Step 1", position=(20, 10), font_size=24))
    assert utils.draw_text(image, "Step 1", color=(255, 255, 255)).min() == 255


def test_draw_text_on_no_picture():
    with pytest.raises(ValueError, match="Received: \\(4, 4, 2\\)"):
        utils.draw_text(np.zeros((4, 4, 2)), "a")


def test_bgr2rgb():
    image = np.array([[[1, 2, 3]]])
    assert utils.bgr2rgb(image).tolist() == [[[3, 2, 1]]] and image.tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    "value, shape, words",
    [
        (np.zeros((5, 5)), (None, 4, 4, 1), "must have the shape \\(N, 4, 4, 1\\)"),
        (np.zeros((4, 4, 3)), (None, 4, 4, 1), "\\(N, 4, 4, 1\\).*Received: shape \\(4, 4, 3\\). Make RGB images grey"),
        (np.zeros((1, 5, 4, 1)), (None, 4, 4, 1), "Resize the images"),
        (np.zeros((1, 4, 5, 1)), (None, 5, 4, 1), "Check the image size"),
        (np.full((4, 4, 1), np.inf), (None, 4, 4, 1), "NaN or infinite"),
        (None, (None, 2), "must be numbers"),
        (np.array([1 + 2j, 0]), (None, 2), "must be numbers"),
    ],
)
def test_check_input(value, shape, words):
    with pytest.raises(ValueError, match=words):
        check_input("seed_input", value, shape)


def test_check_input_takes_any_numbers_and_copies():
    x = np.zeros((4, 4, 1), "uint8")
    for value in (x, x[None], x.tolist(), x.astype("float64"), x > 0):
        got = check_input("x", value, (None, 4, None, 1))
        assert got.shape == (1, 4, 4, 1) and got.dtype == np.float32
    batch = np.zeros((1, 2), "float32")
    assert not np.shares_memory(check_input("x", batch, (None, 2)), batch)


def test_names():
    assert all(hasattr(vis, name) for name in vis.__all__)
    assert all(hasattr(utils, name) for name in utils.__all__)


@pytest.mark.parametrize("function", [utils.apply_modifications, utils.swap_softmax])
def test_what_is_no_model(function):
    with pytest.raises(TypeError, match="must be a Keras 3 model. Received: 'model.keras'"):
        function("model.keras")


def test_swap_softmax_of_several_outputs():
    inputs = keras.Input((4,))
    outputs = [
        layers.Dense(2, end, name=name)(inputs) for end, name in [("softmax", "a"), (None, "b"), ("sigmoid", "c")]
    ]
    swapped = utils.swap_softmax(keras.Model(inputs, outputs))
    assert all(swapped.get_layer(name).activation is keras.activations.linear for name in "abc")
