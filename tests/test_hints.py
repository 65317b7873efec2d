"""What people pass by mistake is told by what it looks like, in a short sentence with the code that mends it."""

import contextlib
import importlib
import inspect
import pathlib
import warnings

import keras
import numpy as np
import pytest
import zoo
from conftest import small_cnn
from keras import layers
from test_architecture import PUBLIC, public_names

import vis
from vis.backprop_modifiers import Epsilon
from vis.engine.inputs import takes_numbers_as_they_are
from vis.input_modifiers import Jitter
from vis.losses import ActivationMaximization
from vis.utils import hints
from vis.utils.labels import class_index, imagenet_labels
from vis.utils.validation import VisualizationWarning, cut, listed, near_names, shown

X = zoo.draw(3, 9, 7, 3)


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def grey_model():
    inputs = keras.Input((9, 7, 1))
    x = layers.Flatten()(layers.Conv2D(4, 3, name="conv2")(inputs))
    return zoo.set_weights(keras.Model(inputs, layers.Dense(3, name="preds")(x)))


def code_in(error):
    """Returns the code of a message: what stands last in backticks."""
    return str(error).rsplit("`", 2)[1]


def mended(error, **names):
    """Runs the code of a message."""
    return eval(code_in(error), {"np": np, "keras": keras, "vis": vis, **names})


# --- images of the wrong shape: the code of the message makes them fit

RGB = [
    X[0],  # no batch axis
    np.concatenate([X, X[..., :1]], axis=-1),  # RGBA
    np.concatenate([X, X[..., :1]], axis=-1)[0],
    X[..., :1],  # grey
    X[0, ..., 0],
    np.moveaxis(X, -1, 1),  # channels first
    np.moveaxis(X[0], -1, 0),
    zoo.draw(2, 12, 12, 3),  # another size
    zoo.draw(12, 12, 4),
    X[None],  # a batch axis too many
    [X[0, ..., 0].tolist()] * 2,
]


@pytest.mark.parametrize("inputs", RGB[:-1], ids=lambda array: str(array.shape))
@pytest.mark.parametrize("method", [vis.Saliency, vis.Occlusion])
def test_images_for_a_model_of_rgb(model, method, inputs):
    with pytest.raises(ValueError, match="^`inputs` must have the shape") as caught:
        method(model)(inputs)
    assert method(model)(mended(caught.value, inputs=inputs)).shape[1:3] == (9, 7)


@pytest.mark.parametrize("given", [RGB[1], RGB[2], RGB[3], RGB[4], RGB[5], RGB[6], RGB[7]], ids=lambda a: str(a.shape))
def test_seeds_for_a_model_of_rgb(model, given):
    with pytest.raises(ValueError, match="^`seed_input` must have the shape") as caught:
        vis.visualize_saliency(model, "preds", 0, given)
    assert vis.visualize_saliency(model, "preds", 0, mended(caught.value, seed_input=given)).shape[-2:] == (9, 7)


@pytest.mark.parametrize("inputs", [X, RGB[1], X[0], X[0, ..., 0], X[..., 0]], ids=lambda array: str(array.shape))
def test_images_for_a_model_of_grey(grey_model, inputs):
    with pytest.raises(ValueError, match="^`inputs` must have the shape") as caught:
        vis.Saliency(grey_model)(inputs)
    assert vis.Saliency(grey_model)(mended(caught.value, inputs=inputs)).shape[1:] == (9, 7, 1)


@pytest.mark.parametrize(
    "given", [(9, 7, 3), (2, 9, 7, 3), (2, 1, 9, 7), (2, 4, 9, 7), (9, 7, 4), (2, 3, 12, 12), (9, 7), (2, 9, 7, 1)]
)
def test_what_is_wanted_with_the_channels_first(given):
    words = hints.mend("x", np.zeros(given), (None, 3, 9, 7), "channels_first")
    array = mended(words, x=np.zeros(given))
    assert tuple(array.shape[1:]) == (3, 9, 7), words


@pytest.mark.parametrize(
    "given", [(7, 9, 3), (2, 7, 9, 3), (4, 4), (9, 700, 3), (9,), (), (2, 3, 9, 7, 3), (9, 7, 3, 2, 2), (5, 189)]
)
def test_nothing_is_made_up(given):
    assert hints.mend("x", np.zeros(given), (None, 9, 7, 3)) == ""


def test_the_words_of_a_message(model):
    rgba = np.zeros((9, 7, 4))
    with pytest.raises(
        ValueError, match=r"Add a batch axis .*take off the alpha channel: `inputs\[None\]\[\.\.\., :3\]`"
    ):
        vis.Saliency(model)(rgba)
    with pytest.raises(ValueError, match="Check the image size, the number of channels and their position"):
        vis.Saliency(model)(np.zeros((2, 7, 9, 3)))
    with pytest.raises(ValueError, match=r"`np.asarray\(inputs\)\[None\]`"):
        vis.Saliency(model)(X[0].tolist())


# --- pictures that are no arrays


def pillow(mode, size=(7, 9)):
    from PIL import Image

    return Image.new(mode, size, 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
@pytest.mark.parametrize("size", [(7, 9), (20, 15)])
def test_images_of_pillow(model, grey_model, mode, size):
    image = pillow(mode, size)
    for one, shape in ((model, (1, 9, 7, 3)), (grey_model, (1, 9, 7, 1))):
        with pytest.raises(ValueError, match="image of Pillow") as caught:
            vis.Saliency(one)(image)
        array = mended(caught.value, inputs=image)
        assert array.shape == shape
        assert vis.Saliency(one)(array.astype(float) / 255).shape == shape


def test_images_of_pillow_as_seeds(model):
    with pytest.raises(ValueError, match=r'`np.asarray\(seed_input.convert\("RGB"\)\)`'):
        vis.visualize_saliency(model, "preds", 0, pillow("RGBA"))
    assert vis.visualize_saliency(model, "preds", [0, 1], np.asarray(pillow("RGB"))).shape == (9, 7)


@pytest.fixture
def path(tmp_path):
    keras.utils.save_img(tmp_path / "a.png", np.zeros((12, 12, 3)), scale=False)
    return tmp_path / "a.png"


@pytest.mark.parametrize("kind", [str, pathlib.Path, lambda path: str(path).encode()])
def test_paths(model, grey_model, path, kind):
    given = kind(path)
    for one, shape in ((model, (1, 9, 7, 3)), (grey_model, (1, 9, 7, 1))):
        with pytest.raises(ValueError, match=r"must be numbers.*load_img\(path, target_size=\(9, 7\)") as caught:
            vis.Saliency(one)(given)
        assert mended(caught.value, path=path).shape == shape
        with pytest.raises(ValueError, match=r"must be numbers.*load_img\(path, target_size=\(9, 7\)") as caught:
            vis.visualize_cam(one, "preds", 0, given)
        assert mended(caught.value, path=path).shape == shape


def test_several_paths(model, path):
    with pytest.raises(ValueError, match="a list of a path") as caught:
        vis.Saliency(model)([path, path])
    assert mended(caught.value, paths=[path, path]).shape == (2, 9, 7, 3)


def test_paths_where_the_size_is_free(path):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="load_img") as caught:
        vis.Saliency(model)(path)
    assert mended(caught.value, path=path).shape == (1, 12, 12, 3)


def test_words_for_a_model_of_words():
    model, words = zoo.text(False)
    for given in ("a film", ["a film", "another"]):
        with pytest.raises(ValueError, match="`inputs` must be numbers.*'a film'. Give .* token ids of a text"):
            vis.Occlusion(model, patch=1)(given)


def test_images_of_several_sizes(model):
    for given in ([X[0], X[1, :4]], [pillow("RGB"), pillow("RGB", (8, 8))]):
        with pytest.raises(ValueError, match=r"one common shape: resize them \(`keras.ops.image.resize"):
            vis.Saliency(model)(given)


# --- data sets


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X, np.zeros(3)


def tensorflow_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(X).batch(2)


def torch_data():
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(X)), batch_size=2)


DATASETS = [
    tensorflow_data,
    torch_data,
    Batches,
    lambda: (X for _ in range(2)),
    lambda: iter([X]),
    lambda: map(abs, [X]),
]


@pytest.mark.parametrize("make", DATASETS)
def test_data_sets_belong_to_stream(model, make):
    for method in (vis.Saliency, vis.GradCAM):
        with pytest.raises(TypeError, match=r"`inputs` must be one batch.*`explainer.stream\(dataset\)`"):
            method(model)(make())
    with pytest.raises(TypeError, match="`seed_input` must be one batch"):
        vis.visualize_saliency(model, "preds", 0, make())
    assert next(vis.Saliency(model).stream(make())).shape[1:] == (9, 7, 3)


def test_data_sets_for_models_that_do_not_say_what_they_take():
    class Own(keras.Model):
        def call(self, x):
            return keras.ops.mean(x, axis=(1, 2))

    with pytest.raises(TypeError, match="explainer.stream"):
        vis.Saliency(Own())(iter([X]))


@pytest.mark.parametrize("value", [X, [X], (1, 2), range(3), "text", b"text", {"a": X}, np.float32(1), 3, None])
def test_what_is_no_data_set(value):
    assert not hints.is_dataset(value)


def test_tensors_of_any_framework(model):
    expected = vis.Saliency(model)(X, 1)
    makers = {"torch": lambda m: m.tensor(X), "tensorflow": lambda m: m.constant(X), "jax.numpy": lambda m: m.array(X)}
    for name, make in makers.items():
        with contextlib.suppress(ImportError):
            tensor = make(importlib.import_module(name))
            np.testing.assert_array_equal(vis.Saliency(model)(tensor, 1), expected)
            assert vis.visualize_saliency(model, "preds", 1, tensor).shape == (3, 9, 7)
            with pytest.raises(ValueError, match=r"`inputs\[None\]`"):
                vis.Saliency(model)(tensor[0], 1)


# --- names of classes


@pytest.fixture(scope="module")
def thousand():
    return zoo.set_weights(keras.Sequential([keras.Input((4,)), layers.Dense(1000, name="preds")], name="net"))


def test_names_of_imagenet(thousand):
    x, explainer = zoo.draw(2, 4), vis.Saliency(thousand)
    expected = explainer(x, 281)
    for name in ("tabby cat", "Tabby_Cat", ["tabby cat"] * 2, np.array(["tabby cat"] * 2), [["tabby cat"]] * 2):
        np.testing.assert_array_equal(explainer(x, name), expected)
    np.testing.assert_array_equal(explainer(x, ["espresso", 281]), explainer(x, [967, 281]))
    np.testing.assert_array_equal(next(explainer.stream([x], "tabby cat")), expected)


def test_every_name_of_imagenet_is_found_or_shared():
    labels = imagenet_labels()
    assert len(labels) == 1000
    for i, label in enumerate(labels):
        if labels.count(label) == 1:
            assert class_index(label, 1000, "it") == i
        else:
            with pytest.raises(ValueError, match=f"{i}.*have. Give the index"):
                class_index(label, 1000, "it")


def test_names_that_are_not_known(thousand, model):
    with pytest.raises(ValueError, match="Received: 'tabby'. Did you mean: .*'tabby cat'"):
        vis.Saliency(thousand)(zoo.draw(2, 4), "tabby")
    for target in ("cat", ["cat", "dog", "cat"]):
        with pytest.raises(TypeError, match=r"Received: 'cat' .*'cnn', with 3 classes.*`labels.index\(name\)`"):
            vis.Saliency(model)(X, target)
    with pytest.raises(TypeError, match="with 2 classes"):
        vis.Saliency(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))(zoo.draw(2, 4), "cat")


# --- pictures as files hold them

BYTES = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3)).astype("uint8")


def first_in_line(*first):
    return keras.Sequential([keras.Input((9, 7, 3)), *first, layers.Flatten(), layers.Dense(2)])


class Own(layers.Layer):
    def call(self, x):
        return x / 255


def divided():
    inputs = keras.Input((9, 7, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 3)(inputs / 255.0))))


@pytest.mark.parametrize("data", [BYTES, BYTES.astype("float32"), BYTES.astype("int64"), BYTES // 64, BYTES * 0.97])
def test_bytes_are_said_once(data):
    explainer = vis.Saliency(first_in_line(layers.ZeroPadding2D(), layers.Conv2D(2, 3)))
    with pytest.warns(VisualizationWarning, match=r"keras.applications.<module>.preprocess_input.*images / 255"):
        explainer(data, 1)
    explainer(data, 0)  # a warning is an error here
    with pytest.warns(VisualizationWarning, match="preprocess_input"):
        vis.Occlusion(explainer.model)(data, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: first_in_line(layers.Rescaling(1 / 255), layers.Conv2D(2, 3)),
        lambda: first_in_line(layers.Normalization(mean=0.0, variance=1.0), layers.Conv2D(2, 3)),
        lambda: first_in_line(layers.ZeroPadding2D(), layers.Rescaling(1 / 255)),
        lambda: first_in_line(layers.BatchNormalization(), layers.Conv2D(2, 3)),
        lambda: first_in_line(Own(), layers.Conv2D(2, 3)),
        lambda: first_in_line(keras.Sequential([keras.Input((9, 7, 3)), layers.Rescaling(0.1), layers.Conv2D(2, 3)])),
        divided,
    ],
)
def test_bytes_are_right_where_the_model_scales_them(make):
    vis.Saliency(make())(BYTES, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x / 255,
        lambda x: x - 128,
        lambda x: x // 128,
        lambda x: x * 2.0,
        lambda x: x / 4 - 0.1 * (x > 1),
    ],
)
def test_other_numbers_are_no_bytes(change):
    vis.Saliency(first_in_line(layers.Conv2D(2, 3)))(change(BYTES.astype("float32")), 1)


def test_counts_and_words_are_no_pictures():
    table = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    vis.Saliency(table)(np.arange(12).reshape(2, 6), 1)
    many = keras.Sequential([keras.Input((9, 7, 5)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()])
    vis.Saliency(many)(np.arange(315).reshape(1, 9, 7, 5) % 200, 1)
    text, words = zoo.text(False)
    vis.Occlusion(text, patch=1)(words)
    typed = keras.Input((9, 7, 3), dtype="uint8")
    x = layers.Flatten()(layers.Conv2D(2, 3)(keras.ops.cast(typed, "float32")))
    vis.Occlusion(keras.Model(typed, layers.Dense(2)(x)))(BYTES, 1)


def test_nested_models_and_models_without_a_graph():
    inner = keras.Sequential([keras.Input((9, 7, 3)), layers.Conv2D(2, 3)])
    assert takes_numbers_as_they_are(first_in_line(inner))
    assert takes_numbers_as_they_are(first_in_line(layers.Flatten(), layers.Dropout(0.1)))

    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(2, 3)

        def call(self, x):
            return keras.ops.mean(self.convolution(x / 255.0), axis=(1, 2))

    vis.Saliency(Hidden())(BYTES, 1)  # what its `call` does is not known


def test_a_model_on_its_own_input_tensor():
    """As keras-hub builds its classifiers: the backbone stands behind its own input."""
    inputs = keras.Input((9, 7, 3))
    base = keras.Model(inputs, layers.Conv2D(4, 3)(inputs))
    model = keras.Model(base.input, layers.Dense(3)(layers.GlobalAveragePooling2D()(base(base.input))))
    with pytest.warns(VisualizationWarning, match="preprocess_input"):
        assert vis.Saliency(model)(BYTES, 1).shape == BYTES.shape


@pytest.mark.parametrize(
    "scaling",
    [
        lambda: layers.Rescaling(1 / 255),
        lambda: layers.Rescaling(1 / 127.5, offset=-1.0),
        lambda: layers.Normalization(mean=[124.0, 116, 104], variance=[3400.0, 3200, 3300]),
    ],
)
def test_fractions_into_a_model_that_rescales_bytes(scaling):
    model = first_in_line(scaling(), layers.Conv2D(2, 3))
    explainer = vis.Saliency(model)
    with pytest.warns(VisualizationWarning, match="lie between 0 and 1.*rescales them as if they were bytes.*0 255"):
        explainer(BYTES / 255, 1)
    explainer(BYTES / 255, 1)  # once
    vis.Saliency(model)(BYTES, 1), vis.Saliency(model)(np.zeros((1, 9, 7, 3)), 1)
    vis.Saliency(first_in_line(layers.Rescaling(2.0, offset=-1), layers.Conv2D(2, 3)))(BYTES / 255, 1)


def test_a_list_for_a_model_of_a_dict():
    first, second = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    model = keras.Model({"b": first, "a": second}, layers.Dense(2)(layers.Concatenate()([first, second])))
    with pytest.raises(ValueError, match=r"must be a dict.*keys \['a', 'b'\]. Received: a list"):
        vis.Saliency(model)([np.ones((1, 3)), np.ones((1, 3))], 1)
    with pytest.raises(ValueError, match="Make token ids of texts first"):
        vis.Saliency(model)(["a cat", "a dog"], 1)
    with pytest.raises(ValueError, match=r"Of a pair with labels give the first, `inputs\[0\]`"):
        vis.Saliency(model)(({"a": np.ones((1, 3)), "b": np.ones((1, 3))}, np.ones(1)), 1)


def test_a_target_that_fails_tells_the_shapes():
    model = first_in_line(layers.Conv2D(2, 3))
    with pytest.raises(Exception, match=r"\S") as caught:
        vis.Saliency(model)(BYTES / 255, lambda outputs: keras.ops.sum(outputs * keras.ops.ones((5,)), axis=-1))
    words = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "target" in words and "(3, 2)" in words and len(str(caught.value)) < 400
    with pytest.raises(KeyError) as caught:
        vis.Saliency(model)(BYTES / 255, lambda outputs: {}["kid"])
    assert "called on the model's outputs" in caught.value.__notes__[0]


def test_an_explainer_in_the_place_of_its_maps():
    explainer = vis.Saliency(first_in_line(layers.Conv2D(2, 3)))
    for ask in (lambda: vis.heatmap(explainer), lambda: vis.plotting.gallery(BYTES, {"a": explainer})):
        with pytest.raises(ValueError, match=r"Received: Saliency, an explainer. Call it: `explainer\(images\)`"):
            ask()


def test_names_are_found_without_regard_to_case_and_hyphens():
    assert near_names("GradCAM", ["saliency", "grad-cam", "guided-grad-cam"]) == "Did you mean: 'grad-cam'?"
    assert near_names("", ["-", "b"]) == "Choose one of: '-', 'b'."


def test_a_path_is_no_model():
    with pytest.raises(TypeError, match=r"Load it: `keras.saving.load_model\(path\)`"):
        vis.GradCAM("model.keras")


@pytest.mark.parametrize("name, is_raw", [("MobileNetV3Small", False), ("MobileNetV2", True), ("VGG16", True)])
def test_networks_of_keras(name, is_raw):
    make = getattr(keras.applications, name)
    assert takes_numbers_as_they_are(make(weights=None, input_shape=(32, 32, 3), classes=3)) is is_raw


def test_preprocessed_inputs_are_not_bytes():
    images = keras.applications.vgg16.preprocess_input(BYTES.astype("float32"))
    vis.Saliency(first_in_line(layers.Conv2D(2, 3)))(images, 1)


# --- a seed that comes back


@pytest.mark.parametrize("max_iter", [1, 3, 12])
def test_a_seed_that_no_step_makes_better_is_said(model, max_iter):
    flat = np.full((9, 7, 3), 0.5)
    away = {"act_max_weight": 1e-9, "lp_norm_weight": 10, "tv_weight": 10}  # what is flat is best
    with pytest.warns(VisualizationWarning, match="None of the .* steps? was better than `seed_input`.*Adam.*max_iter"):
        vis.visualize_activation(model, "preds", 0, seed_input=flat * 0, max_iter=max_iter, **away)


def test_a_seed_that_becomes_better_is_not_said(model):
    plain = {"lp_norm_weight": 0, "tv_weight": 0, "seed_input": X[0], "input_range": (0.0, 1.0)}
    for max_iter in (0, 3, 12):
        vis.visualize_activation(model, "preds", 0, max_iter=max_iter, **plain)
    adam = keras.optimizers.Adam(0.01)
    vis.visualize_activation(model, "preds", 0, max_iter=5, optimizer=adam, seed_input=X[0], input_range=(0.0, 1.0))
    away = {"act_max_weight": 1e-9, "max_iter": 2}
    vis.visualize_activation(model, "preds", 0, **away)  # of drawn noise nobody asked to see anything


# --- the words of values


@pytest.mark.parametrize(
    "value, words",
    [
        ("cat", "'cat'"),
        (3.5, "3.5"),
        (np.zeros((2, 3)), "ndarray of shape (2, 3)"),
        ([1, 2], "[1, 2]"),
        ("a\x1b[31m", r"'a\x1b[31m'"),
        (np.float32, "<class 'numpy.float32'>"),
    ],
)
def test_values_are_shown_as_they_are(value, words):
    assert shown(value) == words


def test_what_cannot_be_shown_is_called_by_its_kind():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert shown(Broken()).startswith("<Broken instance") and shown(10**5000) == "int"


def test_names_are_listed_as_far_as_there_is_room():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert len(listed(["x" * 50] * 99)) < 170 and listed(["x" * 50] * 99).endswith(", ...")
    assert near_names("conv", ["conv1", "pool"]) == "Did you mean: 'conv1'?"
    assert len(near_names("?", ["y" * 300] * 2)) < 100
    assert cut("abcdef", 5) == "ab..." and cut("abcde", 5) == "abcde"


# --- whatever comes, a message stays short

MOST = 400
HUGE = {
    "array": np.arange(1e5).reshape(100, 1000),
    "list": [[0.5] * 300] * 300,
    "dict": {f"key {i}": [i] * 99 for i in range(300)},
    "text": "x" * 10**5,
    "words": ["word" * 20] * 1000,
    "number": 10**5000,
    "axes": np.zeros((1,) * 60),
}
# Those of a name or number for developers, or which do what they are asked for, however much that is.
EXEMPT = {"module_name", "module_globals", "places", "text", "position", "font", "sizes"}
ENDLESS = {"steps", "max_iter", "num_masks", "num_samples", "iterable"}


@contextlib.contextmanager
def short_words(label):
    """Lets an error or a warning be, if it is short."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            assert len(str(error)) < MOST, f"{label}: {str(error)[:200]}"
            assert "\n" not in str(error) or not isinstance(error, (TypeError, ValueError)), label
    for warning in caught:
        if issubclass(warning.category, VisualizationWarning):
            assert len(str(warning.message)) < MOST, f"{label}: {warning.message}"


@pytest.fixture(scope="module")
def arguments(model, tmp_path_factory):
    """Arguments that are right, by name."""
    loss, folder = ActivationMaximization(model.layers[-1], 0), tmp_path_factory.mktemp("files")
    return {
        **{name: X for name in ("images", "inputs", "array", "input_array", "seed_input", "frames", "attributions")},
        **{name: X[0] for name in ("image", "attribution", "volume", "img", "background")},
        **{"model": model, "layer": "conv2", "maps": X[..., 0], "layer_idx": "preds", "layer_name": "preds"},
        **{"filter_indices": 0, "input_tensor": model.inputs[0], "losses": [(loss, -1.0)], "loss": loss},
        **{"penultimate_layer": model.get_layer("conv2"), "columns": {"a": X}, "signal": X[0, :, :, 0]},
        **{"tokens": ["a"] * 9, "path": str(folder / "a.gif"), "folder": str(folder), "function": lambda o: o[:, 0]},
        **{"one": 0, "other": 1, "embeddings": np.ones(3), "mask": np.ones((1, 4)), "ids": 3, "channel": 0},
        **{"vector": np.ones(5), "first": 0, "second": 1, "pairs": [("dense", Epsilon())], "indices": [0]},
        **{"explainers": {"a": vis.Saliency}, "name": "guided", "identifier": "guided", "spectrum": np.ones((9, 4))},
        **{"transforms": [Jitter(1)], "shape": (2, 3), "value": 3, "size": 3, "given": 4, "modifier": "guided"},
    }


def entries():
    known = set()
    for module in sorted(set(PUBLIC)):
        for name, value in public_names(importlib.import_module(module)).items():
            is_ours = inspect.isclass(value) or inspect.isfunction(value)
            if is_ours and value is not vis.plotting.Html and value not in known:
                known.add(value)
                yield f"{module}.{name}", value


@pytest.mark.parametrize("label, function", [pytest.param(*entry, id=entry[0]) for entry in entries()])
def test_messages_of_functions_and_constructors_are_short(arguments, label, function):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = {n: p for n, p in inspect.signature(function).parameters.items() if n != "self" and p.kind not in kinds}
    needed = [name for name, parameter in own.items() if parameter.default is parameter.empty]
    if label == "vis.plotting.show" or not set(needed) <= set(arguments):
        pytest.skip("not for any arguments")
    right = {name: arguments[name] for name in needed}
    for name in own.keys() - EXEMPT:
        for kind, value in HUGE.items():
            if not (kind == "number" and name in ENDLESS):
                with short_words(f"{label}({name}={kind})"):
                    function(**{**right, name: value})


def calls():
    for make in (vis.Saliency, vis.GradCAM, vis.Occlusion):
        for name in ("inputs", "target", "batch_size"):
            yield f"{make.__name__}, {name}", lambda m, v, make=make, name=name: make(m)(**{"inputs": X, name: v})
        yield f"{make.__name__}, dataset", lambda m, v, make=make: list(make(m).stream(v))
        yield f"{make.__name__}, stream's target", lambda m, v, make=make: list(make(m).stream([X], v))
    yield "baseline", lambda m, v: vis.IntegratedGradients(m, 2, v)(X)
    yield "hidden baseline", lambda m, v: vis.Occlusion(m, baseline=v)(X)
    yield "patch", lambda m, v: vis.Occlusion(m, patch=v)(X)
    yield "input_name", lambda m, v: vis.Occlusion(m, input_name=v)(X)
    yield "two inputs", lambda m, v: vis.Saliency(zoo.two_inputs_list()[0])(v)
    loss = ActivationMaximization("preds", 0)
    for name in ("seed", "seed_input", "callbacks"):
        yield (
            f"FeatureVisualization, {name}",
            lambda m, v, name=name: vis.FeatureVisualization(m, loss)(**{"steps": 1, name: v}),
        )
    yield "FeatureVisualization.many", lambda m, v: vis.FeatureVisualization(m, loss).many(v, steps=1)
    for name in ("seed_input", "input_modifiers", "grad_modifier", "callbacks", "optimizer", "seed", "foo"):
        yield (
            f"visualize_activation, {name}",
            lambda m, v, name=name: vis.visualize_activation(m, -1, 0, **{"max_iter": 1, name: v}),
        )


@pytest.mark.parametrize("label, call", [pytest.param(*one, id=one[0]) for one in calls()])
def test_messages_of_calls_are_short(model, label, call):
    for kind, value in HUGE.items():
        with short_words(f"{label}={kind}"):
            call(model, value)


def test_warnings_of_many_flat_maps_are_short(model):
    zeros = zoo.set_weights(small_cnn())
    zeros.set_weights([w * 0 for w in zeros.get_weights()])
    many = np.repeat(X, 99, axis=0)
    with pytest.warns(VisualizationWarning, match=r"of sample 0, 1, .*\.\.\. is flat") as caught:
        vis.heatmap(many * 0)
        vis.visualize_saliency(zeros, "preds", 0, many)
    own = [one for one in caught if issubclass(one.category, VisualizationWarning)]
    assert len(own) == 2 and all(len(str(one.message)) < MOST for one in own)


def test_errors_of_data_sets_are_short(model):
    def broken():
        yield X
        raise KeyError("x" * 1000)

    with pytest.raises(ValueError, match="Batch 1 .*could not be read: KeyError") as caught:
        list(vis.Saliency(model).stream(broken()))
    assert len(str(caught.value)) < MOST


def test_a_long_message_would_be_found():
    with pytest.raises(AssertionError, match="too long"), short_words("too long"):
        raise ValueError("x" * MOST)
