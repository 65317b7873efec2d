"""Full gradients: completeness on networks of linear pieces, and the map written a second time from the paper."""

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops
from test_formulas import TARGETS, Twin, close

import vis
from vis.utils.images import resize
from vis.utils.validation import VisualizationWarning


def fill(model, seed=1):
    """Gives every weight a value, the moving averages too."""
    draw = np.random.default_rng(seed)
    model.set_weights(
        [np.abs(w) * 0.3 + draw.uniform(0.2, 0.6, w.shape) - 0.3 * (w.ndim > 1) for w in model.get_weights()]
    )
    return model


def drawn(*shape):
    return np.random.default_rng(3).normal(0.2, 0.8, shape).astype("float32")


def total(parts):
    return sum(part.reshape(len(part), -1).sum(axis=1, dtype="float64") for part in parts.values())


def normalised(data_format="channels_last"):
    form = {"data_format": data_format}
    axis = 1 if data_format == "channels_first" else -1
    inputs = keras.Input((3, 10, 8) if axis == 1 else (10, 8, 3))
    x = layers.Rescaling(2.0, offset=-0.5)(inputs)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", **form)(x)
    x = layers.BatchNormalization(axis=axis)(x)
    x = layers.ReLU()(x)
    y = layers.SeparableConv2D(4, 3, padding="same", **form)(x)
    x = layers.Add()([x, layers.BatchNormalization(axis=axis, scale=False, center=False)(y)])
    x = layers.DepthwiseConv2D(2, activation=layers.LeakyReLU(0.1), **form)(x)
    x = layers.Conv2DTranspose(3, 2, activation="relu", **form)(layers.MaxPooling2D(2, **form)(x))
    return fill(keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten(**form)(x))))


def nested():
    inner = keras.Sequential(
        [keras.Input((9, 7, 3)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]
    )
    block = keras.Sequential([keras.Input((7, 5, 4)), layers.Conv2D(2, 3), layers.ReLU()])
    inputs = keras.Input((9, 7, 3))
    return fill(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(block(inner(inputs))))))


def shared():
    conv = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    inputs = keras.Input((6, 5, 3))
    return fill(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(conv(conv(inputs))))))


@keras.saving.register_keras_serializable("full gradients")
class Written(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.dense = layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dense(3)

    def call(self, x):
        return self.dense(ops.mean(ops.relu(self.norm(self.conv(x))), axis=(1, 2)))


def written():
    model = Written()
    model(np.zeros((1, 9, 7, 3)))
    return fill(model)


def scaled_by_data():
    norm = layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 0.5, 0.2])
    conv = layers.Conv1D(3, 2, activation="relu")
    return fill(keras.Sequential([keras.Input((6, 4)), norm, conv, layers.Flatten(), layers.Dense(3)]))


def of_volumes():
    conv = layers.Conv3D(2, 2, activation="relu")
    return fill(
        keras.Sequential(
            [keras.Input((4, 5, 3, 2)), conv, layers.AveragePooling3D(2), layers.Flatten(), layers.Dense(3)]
        )
    )


def of_vectors():
    inputs = keras.Input((6,))
    x = layers.EinsumDense("ab,bcd->acd", (2, 4), bias_axes="d", activation="relu")(inputs)
    return fill(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))


NETWORKS = {
    "small": (small_cnn, (9, 7, 3), ["conv1", "conv2", "preds"]),
    "normalised": (normalised, (10, 8, 3), None),
    "nested": (nested, (9, 7, 3), None),
    "shared": (shared, (6, 5, 3), [("twice", 0), ("twice", 1), "dense"]),
    "written": (written, (9, 7, 3), None),
    "scaled by data": (scaled_by_data, (6, 4), None),
    "volumes": (of_volumes, (4, 5, 3, 2), None),
    "vectors": (of_vectors, (6,), None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_sum_to_the_score(name):
    """Proposition 1: exactly, for networks of linear pieces."""
    make, shape, _ = NETWORKS[name]
    model, x = make(), drawn(4, *shape)
    expected = value_of(scores_of(model, x))[np.arange(4), [1, 0, 2, 1]]
    explainer = vis.FullGrad(model)
    for batch_size in (32, 3):
        parts = explainer.parts(x, [1, 0, 2, 1], batch_size=batch_size)
        np.testing.assert_allclose(total(parts), expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))
    assert all(part.dtype == np.float32 for part in parts.values())
    assert len(parts) > 2 and all(np.abs(part).max() > 0 for part in parts.values())


def scores_of(model, x):
    """Returns the scores before a softmax."""
    last = model.layers[-1]
    return (before(model, last) if last.activation is keras.activations.softmax else model)(x)


def before(model, last):
    dense = layers.Dense(3)
    linear = keras.Model(model.inputs, dense(last.input))
    dense.set_weights(last.get_weights())
    return linear


@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS[name][2]])
def test_the_layers_with_a_bias_can_be_read(name):
    make, shape, expected = NETWORKS[name]
    explainer = vis.FullGrad(make())
    got = explainer.bias_layers(drawn(2, *shape))
    assert [one.split("_")[0] if isinstance(one, str) else one for one in got] == expected
    assert list(explainer.parts(drawn(2, *shape), 1)) == ["inputs", *got]


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="no channels_first convolutions on CPUs")
def test_channels_first_is_channels_last_transposed():
    first, last = normalised("channels_first"), normalised()
    first.set_weights(last.get_weights())
    x = drawn(2, 10, 8, 3)
    parts = [vis.FullGrad(last).parts(x, 1), vis.FullGrad(first).parts(np.moveaxis(x, -1, 1), 1)]
    for one, other in zip(*(part.values() for part in parts)):
        close(np.moveaxis(other, 1, -1) if other.ndim > 2 else other, one)
    close(vis.FullGrad(first)(np.moveaxis(x, -1, 1), 1), vis.FullGrad(last)(x, 1))


def test_each_part_is_bias_times_gradient():
    model, x = small_cnn(), drawn(3, 9, 7, 3)
    twin, parts = Twin(model), vis.FullGrad(model).parts(x, TARGETS)
    for i, (one, index) in enumerate(zip(x, TARGETS)):
        gradients, (_, z) = twin.gradients(one, index), twin.run(one)
        np.testing.assert_allclose(parts["inputs"][i], one * gradients["input"], atol=1e-5)
        for name in ("conv1", "conv2"):
            share = gradients[name] * (z[name] > 0) * twin.biases[name]
            np.testing.assert_allclose(parts[name][i], share, atol=1e-5)
        np.testing.assert_allclose(parts["preds"][i], twin.bias * (np.arange(3) == index), atol=1e-6)


def slow_map(parts, size):
    """Srinivas & Fleuret 2019, equation 7: absolute value, rescaled to [0, 1], resized, summed over the channels."""
    found = np.zeros(size)
    for part in parts:
        part = np.abs(part.astype("float64"))
        part = (part - part.min()) / (part.max() - part.min())
        for channel in range(part.shape[-1]):
            found += resize(part[None, ..., channel], size)[0]
    return found


def test_the_map_is_that_of_the_paper():
    model, x = small_cnn(), drawn(3, 9, 7, 3)
    explainer = vis.FullGrad(model)
    parts = explainer.parts(x, TARGETS)
    slow = [slow_map([parts[name][i] for name in ("inputs", "conv1", "conv2")], (9, 7)) for i in range(3)]
    close(explainer(x, TARGETS), slow, 1e-5)
    close(explainer(x, TARGETS, batch_size=2), slow, 1e-5)


def test_the_sign_of_the_score_does_not_matter_for_the_map():
    model, x = small_cnn(), drawn(3, 9, 7, 3)
    close(vis.FullGrad(model)(x, lambda outputs: -3 * outputs[:, 1]), vis.FullGrad(model)(x, 1))


def test_a_model_that_is_trained_further_is_explained_anew():
    model, x = small_cnn(), drawn(1, 9, 7, 3)
    explainer = vis.FullGrad(model)
    for seed in (1, 2):
        fill(model, seed)
        for _ in range(2):
            np.testing.assert_allclose(total(explainer.parts(x, 1)), model.predict(x, verbose=0)[:, 1], rtol=1e-5)


def test_half_precision():
    models = []
    for policy in ("float32", "mixed_float16"):
        inputs = keras.Input((9, 7, 3))
        x = layers.Conv2D(4, 3, activation="relu", dtype=policy)(inputs)
        x = layers.BatchNormalization(dtype=policy)(x)
        models.append(keras.Model(inputs, layers.Dense(3, dtype=policy)(layers.Flatten()(x))))
        draw = np.random.default_rng(1)  # all paths are positive: rounding closes no ReLU
        models[-1].set_weights([draw.uniform(0.1, 0.3, w.shape) for w in models[-1].get_weights()])
    x = np.random.default_rng(3).uniform(0.1, 1, (2, 9, 7, 3))
    expected, got = (vis.FullGrad(model)(x, 1) for model in models)
    close(got, expected, 2e-2)
    expected, got = (vis.FullGrad(model).parts(x, 1) for model in models)
    for one, other in zip(expected.values(), got.values()):
        close(other, one, 2e-2)


def test_layers_that_do_not_matter_have_no_share():
    inputs = keras.Input((6, 5, 2))
    one = layers.GlobalAveragePooling2D(name="one")(layers.Conv2D(2, 3, bias_initializer="ones", name="alive")(inputs))
    two = layers.GlobalAveragePooling2D(name="two")(layers.Conv2D(2, 3, bias_initializer="ones", name="dead")(inputs))
    parts = vis.FullGrad(keras.Model(inputs, [one, two]), output_layer="one").parts(drawn(2, 6, 5, 2), 1)
    assert parts["alive"].any() and not parts["dead"].any()


def test_several_inputs_share_the_score_and_one_is_drawn():
    image, vector = keras.Input((6, 5, 2), name="image"), keras.Input((3,), name="vector")
    x = layers.Conv2D(2, 3, activation="relu", name="conv")(image)
    joined = layers.Concatenate()([layers.Flatten()(x), layers.Dense(4, "relu", name="dense")(vector)])
    model = fill(keras.Model({"image": image, "vector": vector}, layers.Dense(3, name="preds")(joined)))
    x = {"image": drawn(2, 6, 5, 2), "vector": drawn(2, 3)}
    explainer = vis.FullGrad(model)
    parts = explainer.parts(x, 1)
    assert set(parts) == {"inputs['image']", "inputs['vector']", "conv", "dense", "preds"}
    np.testing.assert_allclose(total(parts), model.predict(x, verbose=0)[:, 1], rtol=1e-5)
    slow = [slow_map([parts[name][i] for name in ("inputs['image']", "conv")], (6, 5)) for i in range(2)]
    close(explainer(x, 1), slow, 1e-5)


def test_of_two_images_one_must_be_named():
    images = [keras.Input((6, 5, 2), name=name) for name in ("left", "right")]
    own = [layers.Conv2D(2, 3, activation="relu", name=f"conv_{i}")(image) for i, image in enumerate(images)]
    both = layers.Conv2D(2, 2, activation="relu", name="both")(layers.Concatenate()(own))
    model = fill(keras.Model(images, layers.Dense(2, name="preds")(layers.Flatten()(both))))
    x = [drawn(2, 6, 5, 2), drawn(2, 6, 5, 2)[::-1]]
    with pytest.raises(ValueError, match="`input_name` must be given"):
        vis.FullGrad(model)(x, 1)
    parts = vis.FullGrad(model).parts(x, 1)
    for i, name in enumerate(("left", "right")):
        slow = [slow_map([parts[key][k] for key in (f"inputs[{i}]", f"conv_{i}", "both")], (6, 5)) for k in range(2)]
        close(vis.FullGrad(model, input_name=name)(x, 1), slow, 1e-5)


def test_vectors_cannot_be_drawn_on():
    with pytest.raises(ValueError, match=r"must have positions and channels.*\(2, 6\).*FullGrad.parts"):
        vis.FullGrad(of_vectors())(drawn(2, 6), 1)


def test_words_have_no_gradient():
    words = keras.Input((7,), dtype="int32")
    inner = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(words))
    with pytest.raises(ValueError, match="whole numbers, which have no gradient.*int32"):
        vis.FullGrad(keras.Model(words, layers.Dense(2)(inner)))(np.ones((1, 7), int), 1)


def test_images_without_a_channel_axis():
    conv = layers.Conv2D(2, 3, activation="relu")
    flat = keras.Sequential([keras.Input((8, 7)), layers.Reshape((8, 7, 1)), conv, layers.Flatten(), layers.Dense(2)])
    x = drawn(2, 8, 7)
    plain = fill(keras.Sequential([keras.Input((8, 7, 1)), conv, layers.Flatten(), flat.layers[-1]]))
    close(vis.FullGrad(flat)(x, 1), vis.FullGrad(plain)(x[..., None], 1), 1e-5)


class Gate(layers.Layer):
    """Has a weight called bias, and does not say what it does with it."""

    def build(self, shape):
        self.offset = self.add_weight(shape=(shape[-1],), initializer="ones", name="bias")

    def call(self, x):
        return x * self.offset


def test_biases_that_cannot_be_included_are_named_once():
    inputs = keras.Input((8, 2))
    x = layers.TimeDistributed(layers.Dense(3, name="inner"), name="each")(layers.Conv1D(2, 3, name="conv")(inputs))
    x = layers.GRU(4, name="gru", return_sequences=True)(Gate(name="gate")(x))
    model = keras.Model(inputs, layers.Dense(2, name="preds")(layers.Flatten()(x)))
    x = drawn(2, 8, 2)
    explainer = vis.FullGrad(model)
    with pytest.warns(VisualizationWarning, match="leaves out biases of 3 layers.*'each/inner', 'gate', 'gru"):
        maps = explainer(x, 1)
    assert maps.shape == (2, 8)
    np.testing.assert_allclose(explainer(x, 1), maps, atol=1e-5)  # a second warning would be an error
    assert explainer.bias_layers(x) == ["conv", "preds"]
    with pytest.warns(VisualizationWarning, match="leaves out biases of 3 layers"):
        assert list(vis.FullGrad(model).parts(x, 1)) == ["inputs", "conv", "preds"]


def test_biases_in_a_branch_are_named():
    class Branch(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.one, self.other = layers.Conv2D(3, 3, name="conv"), layers.Dense(2), layers.Dense(2)

        def call(self, x):
            features = ops.max(ops.relu(self.conv(x)), axis=(1, 2))
            return ops.cond(ops.sum(features) > 0, lambda: self.one(features), lambda: self.other(features))

    model, x = Branch(), np.abs(drawn(2, 6, 5, 1))
    model(x)
    explainer = vis.FullGrad(model)
    if keras.config.backend() == "torch":  # which runs one branch, as it is
        assert len(explainer.bias_layers(x)) == 2
        return
    with pytest.warns(VisualizationWarning, match="run in a loop or a branch"):
        first = explainer.parts(x, 1)
    for _ in range(2):  # step by step at first, then compiled
        again = explainer.parts(x, 1)
        assert list(again) == ["inputs", "conv"]
        close(again["inputs"], first["inputs"])


def test_tokens_of_a_vision_transformer_are_put_on_their_grid():
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 5))(layers.Conv2D(5, 2, strides=2, bias_initializer="ones", name="patches")(inputs))
    attended = layers.MultiHeadAttention(1, 4, name="attention", bias_initializer="ones")(x, x)
    x = layers.LayerNormalization(name="norm", beta_initializer="ones")(layers.Add()([x, attended]))
    x = layers.Dense(6, activation="relu", bias_initializer="ones", name="tokens")(x)
    model = keras.Model(inputs, layers.Dense(2, name="preds")(layers.GlobalAveragePooling1D()(x)))
    x = drawn(2, 8, 8, 3)
    explainer = vis.FullGrad(model)
    with pytest.warns(VisualizationWarning, match="inside of attention.*'attention/query'"):
        maps = explainer(x, 1)
    parts = explainer.parts(x, 1)
    assert parts["attention/query"].shape == (2, 16, 1, 4)
    grids = [parts["inputs"], parts["patches"], *(parts[n].reshape(2, 4, 4, -1) for n in ("norm", "tokens"))]
    close(maps, [slow_map([grid[i] for grid in grids], (8, 8)) for i in range(2)], 1e-5)
