"""Choices made for the user: which layer, which call, which input, which samples. Right, or refused with a sentence."""

import keras
import numpy as np
import pytest
import zoo
from conftest import value_of
from keras import layers, ops

import vis
from vis.utils.validation import VisualizationWarning


class Windows(layers.Layer):
    """Four windows an image on the batch axis, as in Swin."""

    def __init__(self):
        super().__init__(name="windows")
        self.conv = layers.Conv2D(8, 1, activation="relu")

    def call(self, x):  # (N, 8, 8, 8)
        w = ops.transpose(ops.reshape(x, (-1, 2, 4, 2, 4, 8)), (0, 1, 3, 2, 4, 5))
        w = self.conv(ops.reshape(w, (-1, 4, 4, 8)))
        w = ops.transpose(ops.reshape(w, (-1, 2, 2, 4, 4, 8)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(w, (-1, 64, 8))


def windowed():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="before")(inputs)
    x = layers.Flatten()(Windows()(x))
    return zoo.set_weights(keras.Model(inputs, layers.Dense(3)(x))), zoo.draw(3, 8, 8, 3)


def changes(explainer, x, target=1):
    """Returns which samples' maps change when sample 1 does."""
    other = x.copy()
    other[1] = zoo.draw(*x.shape[1:], seed=9)
    before, after = explainer(x, target), explainer(other, target)
    return [bool(np.abs(a - b).max() > 1e-6 * np.abs(a).max()) for a, b in zip(before, after)]


@pytest.mark.parametrize("method", [vis.HiResCAM, vis.GradCAM, vis.EigenCAM, vis.AblationCAM, vis.ScoreCAM])
def test_windows_on_the_batch_axis_are_passed_over(method):
    model, x = windowed()
    explainer = method(model, upsample=False)
    assert changes(explainer, x) == [False, True, False]
    assert explainer.layer == "windows"  # the layer as a whole, 64 tokens on their grid
    assert explainer(x, 1).shape == (3, 8, 8)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_windows_on_the_batch_axis_are_refused(count):
    model, x = windowed()
    x = np.concatenate([x, x])[:count]
    with pytest.raises(ValueError, match="whose first axis is not the batch"):
        vis.HiResCAM(model, model.get_layer("windows").conv)(x, 1)
    with pytest.raises(ValueError, match="whose first axis is not the batch"):
        vis.Saliency(model, input_layer=model.get_layer("windows").conv)(x, 1)
    with pytest.raises(ValueError, match="whose first axis is not the batch"):
        vis.visualization.activations(model, model.get_layer("windows").conv, x)


class Swapped(layers.Layer):
    """Puts another axis of the same size in the place of the batch."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Conv1D(4, 1, activation="relu")

    def call(self, x):  # (N, 3, 5, 4)
        return ops.transpose(self.inner(ops.reshape(ops.transpose(x, (1, 0, 2, 3)), (3, -1, 4))), (0, 1, 2))


def test_an_axis_that_only_has_the_size_of_the_batch_is_none():
    inputs = keras.Input((3, 5, 4))
    layer = Swapped()

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.swapped, self.head = layers.Conv2D(4, 1, name="conv"), layer, layers.Dense(2)

        def call(self, x):
            y = ops.reshape(self.swapped(self.conv(x)), (3, -1, 5, 4))  # (3, N, 5, 4)
            return self.head(ops.mean(ops.transpose(y, (1, 0, 2, 3)), axis=(1, 2)))

    model, x = Whole(), zoo.draw(3, 3, 5, 4)
    model(x)
    assert inputs is not None and value_of(model(x)).shape == (3, 2)
    with pytest.raises(ValueError, match="whose first axis is not the batch"):
        vis.GradCAM(model, layer.inner, upsample=False)(x, 1)
    explainer = vis.GradCAM(model, upsample=False)
    explainer(x, 1)
    assert explainer.layer == "conv"


class HandWritten(layers.Layer):
    """Attention with layers for everything."""

    def __init__(self, heads=2, size=4):
        super().__init__(name="hand_written")
        self.heads, self.size = heads, size
        self.query, self.key, self.value = (layers.Dense(heads * size) for _ in range(3))
        self.softmax, self.dropout, self.out = layers.Softmax(), layers.Dropout(0.1), layers.Dense(heads * size)

    def split(self, x):
        return ops.transpose(ops.reshape(x, (-1, x.shape[1], self.heads, self.size)), (0, 2, 1, 3))

    def call(self, x):
        query, key, value = (self.split(one(x)) for one in (self.query, self.key, self.value))
        weights = self.dropout(self.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))))
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self.out(ops.reshape(mixed, (-1, x.shape[1], self.heads * self.size)))


class Block(layers.Layer):
    """A transformer block whose attention ends it, as a pooled vector."""

    def __init__(self):
        super().__init__(name="block")
        self.normal, self.attention = layers.LayerNormalization(), HandWritten()

    def call(self, x):
        return ops.mean(x + self.attention(self.normal(x)), axis=1)


def test_attention_weights_are_no_feature_map():
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, strides=4, name="patches")(inputs))
    model, x = zoo.set_weights(keras.Model(inputs, layers.Dense(3)(Block()(x)))), zoo.draw(3, 16, 16, 3)
    explainer = vis.LayerCAM(model, upsample=False)
    assert explainer(x, 1).shape == (3, 4, 4)
    assert explainer.layer == "block/hand_written"  # what attention adds to each token


def language_model():
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip(f"Keras {keras.version()} has no embedding that is called again to make the logits")
    embedding = layers.ReversibleEmbedding(20, 8, name="emb")
    ids = keras.Input((6,), dtype="int32")
    model = keras.Model(ids, embedding(layers.Conv1D(8, 3, padding="causal")(embedding(ids)), reverse=True))
    return zoo.set_weights(model), np.random.default_rng(0).integers(1, 20, (3, 6)).astype("int32")


def last(outputs):
    return outputs[:, -1, 7]


def expected_gradients(model, **params):
    return vis.ExpectedGradients(model, np.zeros((2, 6, 8)), 3, 0, **params)


@pytest.mark.parametrize(
    "method",
    [
        *(vis.Saliency, vis.GradientTimesInput, vis.IntegratedGradients, vis.SmoothGrad, expected_gradients),
        *(vis.BlurIntegratedGradients, vis.GuidedIntegratedGradients),
    ],
)
def test_of_a_tied_embedding_the_first_call_is_meant_and_said_once(method):
    model, ids = language_model()
    explainer = method(model, input_layer="emb")
    with pytest.warns(VisualizationWarning, match="'emb' runs 2 times.*call 0 is meant"):
        maps = explainer(ids, last)
    assert maps.shape == (3, 6, 8)  # not (3, 6, 20), as the logits are
    explainer(ids, last)  # a second warning would be an error
    if method is vis.Saliency:  # the last three tokens reach the last output
        assert [bool(np.abs(maps[:, t]).max() > 0) for t in range(6)] == [False] * 3 + [True] * 3
        np.testing.assert_array_equal(method(model, input_layer=("emb", 0))(ids, last), maps)
        assert method(model, input_layer=("emb", 1))(ids, last).shape == (3, 6, 20)


def test_shared_layers_are_said_once():
    model, x = zoo.make("shared layer")
    for explainer in (vis.GradCAM(model, "shared"), vis.Saliency(model, output_layer="shared")):
        with pytest.warns(VisualizationWarning, match="'shared' runs 2 times.*call 1 is meant"):
            explainer(x, 1)
        explainer(x, 1)
    vis.GradCAM(model, ("shared", 1))(x, 1)
    vis.GradCAM(model)(x, 1)


class Contrast(layers.Layer):
    """Compares every sample of one input with every one of another."""

    def call(self, one, other):
        return ops.matmul(one, ops.transpose(other))


def towers(text_tokens=16):
    """An image tower and a text tower whose tokens would fit on a square grid too."""
    image, words = keras.Input((16, 16, 3), name="images"), keras.Input((text_tokens,), dtype="int32", name="tokens")
    x = layers.Conv2D(8, 4, strides=4, activation="relu", name="conv")(image)
    x = layers.Dense(8, name="seen")(layers.Reshape((16, 8))(x))
    y = layers.Dense(8, activation="relu", name="read")(layers.Embedding(20, 8, name="embedding")(words))
    one, other = layers.GlobalAveragePooling1D()(x), layers.GlobalAveragePooling1D()(y)
    model = keras.Model({"images": image, "tokens": words}, Contrast()(one, other))
    ids = np.random.default_rng(0).integers(1, 20, (3, text_tokens)).astype("int32")
    return zoo.set_weights(model), {"images": zoo.draw(3, 16, 16, 3), "tokens": ids}


@pytest.mark.parametrize(
    "target",
    [None, 1, lambda o: o[:, 0], lambda o: ops.mean(o, axis=1), lambda o: ops.softmax(o, axis=0)[:, 0]],
)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_outputs_that_mix_the_batch_are_refused(target, batch_size):
    model, inputs = towers()
    with pytest.raises(ValueError, match="mixes the samples of a batch.*diagonal"):
        vis.GradCAM(model)(inputs, target, batch_size=batch_size)


def test_pairs_are_explained_by_the_diagonal():
    model, inputs = towers()
    explainer = vis.LayerCAM(model, upsample=False)
    maps = explainer(inputs, ops.diagonal)
    np.testing.assert_allclose(explainer(inputs, ops.diagonal, batch_size=1), maps, rtol=1e-5, atol=1e-6)
    assert maps.shape == (3, 4, 4) and explainer.layer == "seen"  # not the text, though it has 16 tokens as well


def test_a_function_that_mixes_samples_is_refused_for_any_model():
    model, x = zoo.make("residual")
    with pytest.raises(ValueError, match="`target` mixes the samples"):
        vis.Saliency(model)(x, lambda outputs: ops.softmax(outputs[:, 0], axis=0))
    vis.Saliency(model)(x, lambda outputs: ops.log_softmax(outputs)[:, 0])


def test_a_layer_that_mixes_samples_is_refused():
    class Centred(layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    model = keras.Sequential([keras.Input((5,)), Centred(), layers.Dense(3)])
    with pytest.raises(ValueError, match="the output of model .* mixes the samples of a batch"):
        vis.Saliency(model)(zoo.draw(3, 5), 1)


def two_images(join):
    """Two pictures of one size, each with a convolution of its own."""
    one, other = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    x, y = (layers.Conv2D(4, 3, activation="relu", name=f"conv_{t.name}")(t) for t in (one, other))
    if join:
        x = layers.Conv2D(4, 3, activation="relu", name="both")(layers.Concatenate()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
    else:
        x = layers.Concatenate()([layers.GlobalAveragePooling2D()(t) for t in (x, y)])
    return zoo.set_weights(keras.Model([one, other], layers.Dense(3)(x))), [
        zoo.draw(3, 8, 8, 3, seed=i) for i in (0, 1)
    ]


def test_of_two_images_one_must_be_chosen():
    model, inputs = two_images(join=False)
    with pytest.raises(ValueError, match=r"`layer` must be given.*\('conv_left', 0\) for .*\('conv_right', 0\) for"):
        vis.GradCAM(model)(inputs, 1)
    assert vis.GradCAM(model, "conv_left")(inputs, 1).shape == (3, 8, 8)
    joined, inputs = two_images(join=True)
    explainer = vis.GradCAM(joined)
    assert explainer(inputs, 1).shape == (3, 8, 8) and explainer.layer == "both"
    with pytest.raises(ValueError, match="`input_name` must be given"):
        vis.Occlusion(joined)(inputs, 1)
    left, right = (vis.Occlusion(joined, input_name=name)(inputs, 1) for name in ("left", "right"))
    assert np.abs(left - right).max() > 1e-3
    np.testing.assert_array_equal(vis.Occlusion(joined, input_name=1)(inputs, 1), right)
    with pytest.raises(ValueError, match="one of the model's inputs. Received: 'middle'"):
        vis.RISE(joined, input_name="middle", num_masks=3)(inputs, 1)


def test_the_image_is_found_among_other_inputs():
    """As in a segmenter that takes boxes and images: the alphabet does not decide."""
    boxes, images = keras.Input((1, 2, 2), name="boxes"), keras.Input((12, 12, 3), name="images")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(images)
    y = layers.Dense(4, activation="relu", name="boxed")(layers.Reshape((4,))(boxes))
    x = layers.Add()([layers.GlobalAveragePooling2D()(x), y])
    model = zoo.set_weights(keras.Model({"boxes": boxes, "images": images}, layers.Dense(3)(x)))
    inputs = {"boxes": zoo.draw(2, 1, 2, 2), "images": zoo.draw(2, 12, 12, 3)}
    for method in (vis.GradCAM, vis.ScoreCAM, vis.Occlusion):
        assert method(model)(inputs, 1).shape == (2, 12, 12)
    assert vis.GuidedGradCAM(model)(inputs, 1)["images"].shape == (2, 12, 12, 3)


def test_of_a_vision_transformer_the_last_tokens_that_matter_are_taken():
    for class_token, layer in ((True, "normal"), (False, "mixed")):
        model, x = zoo.transformer(class_token)
        explainer = vis.LayerCAM(zoo.set_weights(model))
        assert explainer.layer is None
        assert explainer(x, 1).shape == (3, 12, 12)
        assert explainer.layer == layer and f"layer='{layer}'" in repr(explainer)


def test_of_a_row_of_which_one_position_goes_on_an_earlier_layer_is_taken():
    ids = keras.Input((7,), dtype="int32")
    x = layers.Conv1D(5, 3, padding="same", activation="relu", name="first")(layers.Embedding(11, 6)(ids))
    x = layers.Conv1D(5, 3, padding="same", name="second")(x)
    model = zoo.set_weights(keras.Model(ids, layers.Dense(2)(layers.Cropping1D((0, 6))(x)[:, 0])))
    explainer = vis.LayerCAM(model)
    maps = explainer(np.arange(14).reshape(2, 7) % 11, 1)
    assert explainer.layer == "first" and (maps[:, :2] > 0).any()


class TokensAndPositions(layers.Layer):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = layers.Embedding(50, 8), layers.Embedding(10, 8)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(0, x.shape[-1]))


def test_words_that_come_as_floats_stay_words():
    inputs = keras.Input((10,))  # float32, as `keras.Input` makes it
    x = layers.GlobalAveragePooling1D()(TokensAndPositions()(inputs))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    words = np.random.default_rng(0).integers(0, 50, (4, 10))
    explainer = vis.GradCAM(model)
    maps, other = explainer(words, 1), words.copy()
    assert maps.shape == (4, 10)
    other[1] = (words[1] + 7) % 50
    np.testing.assert_array_equal(explainer(other, 1)[0::2], maps[0::2])


def finished(end, custom):
    inputs = keras.Input((16, 16, 3))
    x = ops.flip(inputs, axis=1) if custom else inputs
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="feat")(x)
    return keras.Model(inputs, end(layers.Conv2D(3, 1, name="logits")(x)))


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        layers.Softmax(),
        layers.Activation("sigmoid"),
        layers.Resizing(32, 32),
        layers.UpSampling2D(2),
        layers.Reshape((256, 3)),
        lambda x: layers.Activation("sigmoid")(layers.UpSampling2D(2)(x)),
        lambda x: layers.Conv2D(3, 1, activation="sigmoid", name="predictions")(layers.ReLU(name="before")(x)),
    ],
)
def test_what_makes_the_output_is_no_feature_map(end, custom):
    explainer = vis.GradCAM(finished(end, custom))
    explainer(zoo.draw(2, 16, 16, 3), 1)
    ends_in_convolution = explainer.model.layers[-1].name == "predictions"
    assert explainer.layer == ("before" if ends_in_convolution else "feat")


class FirstChannels(layers.Layer):
    def __init__(self):
        super().__init__(name="block")
        self.conv = layers.Conv2D(4, 3, padding="same", data_format="channels_first")

    def call(self, x):
        return ops.relu(self.conv(x))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has no such convolutions on a CPU")
def test_the_format_is_read_from_the_layers_inside_of_a_block():
    inputs = keras.Input((3, 20, 24))
    model = keras.Model(inputs, layers.Dense(2)(ops.mean(FirstChannels()(inputs), axis=(2, 3))))
    x = zoo.draw(2, 3, 20, 24)
    assert vis.GradCAM(model)(x, 1).shape == (2, 20, 24)
    assert vis.Occlusion(model)(x, 1).shape == (2, 20, 24)


def test_the_sign_of_eigencam_is_no_rounding():
    inputs = keras.Input((10, 8))
    x = layers.LayerNormalization(center=False, scale=False)(layers.Dense(8)(inputs))
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))))
    x, explainer = zoo.draw(32, 10, 8), vis.EigenCAM(model)
    pairs = zip(explainer(x), explainer(x + 1e-6))
    assert all(np.corrcoef(one, other)[0, 1] > 0.9 for one, other in pairs)


def test_a_map_of_more_axes_than_the_signal_is_refused():
    inputs = keras.Input((64, 1))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(layers.Reshape((8, 8, 1))(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="The feature map of layer 'conv' has 2 spatial axes"):
        vis.GradCAM(model)(zoo.draw(2, 64, 1), 0)
    assert vis.GradCAM(model, upsample=False)(zoo.draw(2, 64, 1), 0).shape == (2, 6, 6)


def test_branches_that_the_map_does_not_see_are_said_once():
    inputs = keras.Input((16, 16, 3))
    maps = [layers.Conv2D(4, 3, activation="relu", name=f"branch{i}")(inputs) for i in range(2)]
    pooled = [layers.GlobalAveragePooling2D()(x) for x in maps]
    explainer = vis.GradCAM(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(pooled))))
    with pytest.warns(VisualizationWarning, match="way around it, from 'branch[01]'"):
        explainer(zoo.draw(2, 16, 16, 3), 1)
    explainer(zoo.draw(2, 16, 16, 3), 1)  # a second warning would be an error


def test_which_inputs_a_layer_sees_is_found_after_normalisations():
    """A normalised row has one mean and size whatever is in it."""
    one, other = keras.Input((8,), dtype="int32", name="one"), keras.Input((5,), dtype="int32", name="other")
    x, y = (layers.Embedding(20, 8)(ids) for ids in (one, other))
    x = ops.mean(x, axis=1, keepdims=True) + 0.01 * y
    x = layers.LayerNormalization(name="mixed")(layers.Conv1D(8, 2, padding="causal", activation="tanh")(x))
    model = keras.Model([one, other], layers.Dense(2)(layers.Flatten()(x)))
    draw = np.random.default_rng(0)
    explainer = vis.LayerCAM(model)
    assert explainer([draw.integers(0, 20, (2, 8)), draw.integers(0, 20, (2, 5))], 1).shape == (2, 5)
    assert explainer.layer == "mixed"


def test_masks_and_segments_are_never_hidden_by_themselves():
    names = ("padding_mask", "segment_ids", "token_ids")
    inputs = {name: keras.Input((6,), dtype="int32", name=name) for name in names}
    x = layers.Embedding(9, 4)(inputs["token_ids"]) + layers.Embedding(2, 4)(inputs["segment_ids"])
    x = x * ops.cast(inputs["padding_mask"], "float32")[..., None]
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    given = {name: np.ones((2, 6), "int32") for name in names}
    given["token_ids"] = np.arange(12).reshape(2, 6) % 9
    explainer = vis.Occlusion(model, patch=1)
    np.testing.assert_array_equal(explainer(given, 1), vis.Occlusion(model, patch=1, input_name="token_ids")(given, 1))


class Branching(layers.Layer):
    """Runs one of two layers inside a branch, as keras-hub's SAM does."""

    def __init__(self):
        super().__init__(name="branching")
        self.small, self.large = layers.Dense(4, name="small"), layers.Dense(4, name="large")

    def build(self, shape):
        self.small.build(shape), self.large.build(shape)

    def call(self, x):
        return ops.cond(ops.max(x) > 5, lambda: self.large(x), lambda: self.small(x))


def test_layers_inside_of_a_branch_leave_nothing_behind():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    model = zoo.set_weights(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(Branching()(x)))))
    x = zoo.draw(3, 6, 6, 3)
    table = model.get_layer("branching").small
    for _ in range(3):  # eager, traced, compiled
        gradients = vis.Saliency(model)(x, 1)
    plain = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(table(model.get_layer("conv").output))))
    plain.set_weights([*model.get_layer("conv").get_weights(), *table.get_weights(), *model.layers[-1].get_weights()])
    np.testing.assert_allclose(gradients, vis.Saliency(plain)(x, 1), rtol=1e-4, atol=1e-6)
    assert vis.HiResCAM(model, "conv", upsample=False)(x, 1).shape == (3, 4, 4)
    assert vis.HiResCAM(model, upsample=False)(x, 1).shape == (3, 4, 4)
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="only inside a branch or a loop"):
            vis.HiResCAM(model, table)(x, 1)


class Own(layers.Layer):
    """A layer that is not Keras's, so that nothing is known of the model unless it runs."""

    def call(self, x):
        return x * 2


def detector(outputs, shared, custom=False):
    """Heads on a fine and a coarse feature map; `custom` puts a layer of the user's own in front, so that it is run."""
    inputs = keras.Input((16, 16, 3))
    fine = Own()(inputs) if custom else inputs
    fine = layers.Conv2D(4, 3, padding="same", activation="relu", name="fine")(fine)
    coarse = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="coarse")(fine)

    def head():
        return [layers.Conv2D(4, 3, padding="same", activation="relu"), layers.Conv2D(2, 3, padding="same")]

    ends = []
    for name in ["classes", "boxes"][:outputs]:
        one = head()
        parts = []
        for x in (fine, coarse):
            for layer in one if shared else [head()[1]]:
                x = layer(x)
            parts.append(layers.Reshape((-1, 2))(x))
        ends.append(layers.Concatenate(axis=1, name=name)(parts))
    return zoo.set_weights(keras.Model(inputs, ends if outputs == 2 else ends[0]))


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_heads_of_a_detector_have_no_feature_map(outputs, shared, custom):
    """A head that runs at each scale is passed over, and so is what only makes one scale's part of an output."""
    explainer = vis.HiResCAM(detector(outputs, shared, custom), upsample=False)

    def target(found):
        return ops.mean((found if outputs == 1 else found[0])[:, :, 1], axis=1)

    with pytest.warns(VisualizationWarning, match="by a way around it, from 'fine'"):
        assert explainer(zoo.draw(2, 16, 16, 3), target).shape == (2, 8, 8)
    assert explainer.layer == "coarse"


def test_a_layer_that_another_model_runs_at_another_size_keeps_its_feature_map():
    conv, pool = layers.Conv2D(4, 3, activation="relu", name="conv"), layers.GlobalAveragePooling2D()
    head, models = layers.Dense(2), {}
    for size in (16, 8):
        inputs = keras.Input((size, size, 3))
        models[size] = keras.Model(inputs, head(pool(conv(inputs))))
    for size, model in models.items():
        explainer = vis.HiResCAM(model, upsample=False)
        assert explainer(zoo.draw(2, size, size, 3), 1).shape == (2, size - 2, size - 2)
        assert explainer.layer == "conv"


@pytest.mark.parametrize("custom", [False, True])
def test_of_several_outputs_one_may_be_the_feature_map_of_another(custom):
    inputs = keras.Input((8, 8, 3))
    x = Own()(inputs) if custom else inputs
    features = layers.Conv2D(4, 3, activation="relu", name="features")(x)
    logits = layers.Dense(2)(layers.Flatten()(features))
    model = zoo.set_weights(keras.Model(inputs, {"features": features, "logits": logits}))
    explainer = vis.HiResCAM(model, upsample=False)
    explainer(zoo.draw(2, 8, 8, 3), lambda outputs: outputs["logits"][:, 1])
    assert explainer.layer == "features"


class Head(layers.Layer):
    """A head of the user's own: what its last layer puts out is its output, alone or as a pair."""

    def __init__(self, pair=False, **kwargs):
        super().__init__(**kwargs)
        self.tower, self.last = layers.Conv2D(4, 3, padding="same"), layers.Conv2D(2, 3, padding="same", name="last")
        self.pair = pair

    def call(self, x):
        y = self.last(self.tower(x))
        return (y, y[:, 0, 0]) if self.pair else y


def test_the_layer_inside_that_makes_one_of_several_outputs_is_no_feature_map():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    outputs = [Head(name="classes")(x), Head(name="boxes")(x)]
    model = zoo.set_weights(keras.Model(inputs, outputs))
    explainer = vis.HiResCAM(model, upsample=False)
    explainer(zoo.draw(2, 8, 8, 3), lambda found: ops.mean(found[1], axis=(1, 2, 3)))
    assert not str(explainer.layer).endswith("last"), explainer.layer


class Table(layers.Layer):
    """An inner layer with four rows, whatever the batch."""

    def __init__(self):
        super().__init__(name="table")
        self.inner = layers.Dense(3, name="inner")

    def call(self, x):
        return x * ops.mean(self.inner(ops.ones((4, 3)) * ops.mean(x)))


def test_an_output_of_several_tensors_hides_no_layer_from_the_check():
    inputs = keras.Input((8, 8, 3))
    x = Table()(inputs)
    model = keras.Model(inputs, [*Head(pair=True, name="pair")(x), layers.Flatten()(x)])
    zoo.set_weights(model)
    with pytest.raises(ValueError, match="whose first axis is not the batch|one row for each sample"):
        vis.Saliency(model, input_layer=model.get_layer("table").inner)(
            zoo.draw(4, 8, 8, 3), lambda found: found[2][:, 1]
        )


def test_an_output_that_needs_no_way_around_is_not_warned_of_another_that_does():
    inputs = keras.Input((8, 8, 3))
    early = layers.Conv2D(4, 3, padding="same", activation="relu", name="early")(inputs)
    deep = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="deep")(early)
    kinds = layers.Dense(2)(layers.GlobalAveragePooling2D()(deep))
    masks = layers.Conv2D(2, 1)(layers.Concatenate()([early, layers.UpSampling2D()(deep)]))
    model = zoo.set_weights(keras.Model(inputs, {"kinds": kinds, "masks": masks}))
    explainer = vis.HiResCAM(model, upsample=False)
    explainer(zoo.draw(2, 8, 8, 3), lambda outputs: outputs["kinds"][:, 1])  # a warning is an error here
    assert explainer.layer == "deep"


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_normalisation_at_the_end_is_the_feature_map(outputs, custom):
    """Before it, activation times gradient is zero, as of any function that undoes the scale of what it takes."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, padding="same", name="conv")(Own()(inputs) if custom else inputs)
    normal = layers.LayerNormalization(name="norm")(layers.Reshape((64, 5), name="tokens")(x))
    model = zoo.set_weights(keras.Model(inputs, [normal, layers.Flatten()(x)] if outputs == 2 else normal))
    images = zoo.draw(2, 8, 8, 3)

    def target(found):
        return ops.mean((found[0] if outputs == 2 else found)[:, :, 1], axis=1)

    explainer = vis.HiResCAM(model, upsample=False)
    maps = explainer(images, target)
    values = value_of(model(images)[0] if outputs == 2 else model(images))[:, :, 1]
    assert explainer.layer == "norm"
    np.testing.assert_allclose(maps, np.maximum(values, 0).reshape(2, 8, 8) / 64, rtol=1e-5, atol=1e-7)
