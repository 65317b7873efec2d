"""LRP as a whole: its laws, recurrent layers, relevance of inner layers, composites in other methods, and errors."""

import copy
import pickle
import threading

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

import vis
from vis.backprop_modifiers import AlphaBeta, Composite, Epsilon, Flat, Gamma, ZBox, ZPlus, composite
from vis.utils.validation import VisualizationWarning

NAMES = ["epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma", "alpha2-beta1", "alpha2-beta1-flat"]
NAMES += ["deep-taylor", "excitation"]


def close(got, wanted, tolerance=1e-4):
    assert got.shape == wanted.shape and np.abs(wanted).max() > 1e-4
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(0.1, 1, shape).astype("float32")


def drawn_weights(model, seed=1, bias=1.0):
    draw = np.random.default_rng(seed)
    values = [draw.normal(0, 0.5, v.shape) * (bias if len(v.shape) == 1 else 1) for v in model.weights]
    model.set_weights([value.astype("float32") for value in values])
    return model


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def images():
    return drawn((5, 9, 7, 3))


TARGETS = [1, 0, 2, 1, 0]


def branched():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    y = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Concatenate()([layers.Add()([x, y]), layers.Average()([x, y]), layers.Maximum()([x, y])])
    x = layers.UpSampling2D()(layers.MaxPooling2D()(layers.ZeroPadding2D(1)(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Cropping2D(1)(x))))


@pytest.mark.parametrize("name", ["epsilon", "epsilon-plus-flat", "epsilon-gamma", "deep-taylor"])
def test_relevance_is_conserved_without_biases(name):
    network, x = drawn_weights(branched(), bias=0), np.abs(drawn((3, 8, 8, 3))) + 0.1
    scores = value_of(network(x))
    target = scores.argmax(axis=1).tolist()
    assert scores.max(axis=1).min() > 0  # a z-plus of negative scores is 0
    np.testing.assert_allclose(vis.LRP(network, name)(x, target).sum(axis=(1, 2, 3)), scores.max(axis=1), rtol=2e-4)


def test_biases_take_their_share():
    network, x = drawn_weights(branched(), bias=1), np.abs(drawn((3, 8, 8, 3))) + 0.1
    missing = np.abs(vis.LRP(network, "epsilon")(x, 1).sum(axis=(1, 2, 3)) - value_of(network(x))[:, 1])
    assert missing.min() > 1e-2


def test_epsilon_is_gradient_times_input_on_relu_networks(model, images):
    close(vis.LRP(model, Epsilon(1e-9))(images, TARGETS), vis.GradientTimesInput(model)(images, TARGETS))


def test_larger_epsilons_take_more(model, images):
    sizes = [np.abs(vis.LRP(model, Epsilon(e))(images, TARGETS)).sum() for e in (1e-6, 0.1, 10.0)]
    assert sizes[0] > 1.05 * sizes[1] > 1.5 * sizes[2]


def test_gamma_without_end_is_z_plus():
    network, x = drawn_weights(branched()), np.abs(drawn((3, 8, 8, 3)))
    target = value_of(network(x)).argmax(axis=1).tolist()
    rest = composite("epsilon").pairs[1:]
    got, wanted = (vis.LRP(network, Composite([("convolution", r), *rest]))(x, target) for r in (Gamma(1e6), ZPlus()))
    close(got, wanted, 1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_batched_is_looped_and_chunked(name, model, images):
    explainer = vis.LRP(model, name)
    whole = explainer(images, TARGETS)
    close(explainer(images, TARGETS, batch_size=2), whole, 1e-5)  # the last chunk is filled up
    close(np.concatenate([explainer(images[i : i + 1], TARGETS[i]) for i in range(5)]), whole, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nested_models_are_flat(name, model, images):
    inputs = keras.Input((9, 7, 3))
    first = keras.Sequential([keras.Input((9, 7, 3)), model.get_layer("conv1")])
    rest = keras.Sequential([keras.Input((7, 5, 4)), *model.layers[2:]])
    nested = keras.Model(inputs, rest(first(inputs)))
    close(vis.LRP(nested, name)(images, TARGETS), vis.LRP(model, name)(images, TARGETS), 1e-5)


class Residual(keras.Model):
    """A sum in code of its own."""

    def __init__(self, kept):
        super().__init__()
        self.conv, self.relu, self.flatten, self.dense = kept

    def call(self, x):
        return self.dense(self.flatten(x + self.relu(self.conv(x))))


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_in_code_is_an_add(name):
    kept = [layers.Conv2D(3, 3, padding="same"), layers.ReLU(), layers.Flatten(), layers.Dense(3)]
    inputs, x = keras.Input((5, 4, 3)), drawn((3, 5, 4, 3))
    functional = keras.Model(inputs, kept[3](kept[2](layers.Add()([inputs, kept[1](kept[0](inputs))]))))
    drawn_weights(functional)
    target = value_of(functional(x)).argmax(axis=1).tolist()
    close(vis.LRP(Residual(kept), name)(x, target), vis.LRP(functional, name)(x, target), 1e-5)


@pytest.mark.parametrize("rule", [Flat(), ZBox(0, [1, 2, 3])], ids=["flat", "z-box"])
def test_black_pixels_get_relevance(rule, model):
    x = np.random.default_rng(2).random((2, 9, 7, 3)).astype("float32")
    x[:, 3:6, 2:5] = 0
    target = value_of(model(x)).argmax(axis=1).tolist()
    pairs = [("first", rule), ("convolution", ZPlus()), ("dense", Epsilon()), ("activation", "identity")]
    got = np.abs(vis.LRP(model, Composite(pairs))(x, target))
    assert got[:, 4, 3].min() > 1e-4 * got.max()
    assert np.abs(vis.LRP(model, "epsilon")(x, target)[:, 4, 3]).max() < 1e-9


def test_a_composite_on_nothing_changes_nothing(model, images):
    nothing = Composite([("no-such-*", ZPlus())], may_match_nothing=True)
    got = vis.GradientTimesInput(model, nothing)(images, 1)
    close(got, vis.GradientTimesInput(model)(images, 1), 1e-6)
    with pytest.warns(VisualizationWarning, match="changed nothing"):
        vis.GradientTimesInput(model, Composite([("no-such-*", ZPlus())]))(images, 1)


def test_mixed_precision(images):
    plain = small_cnn()
    keras.config.set_dtype_policy("mixed_bfloat16" if keras.config.backend() != "tensorflow" else "mixed_float16")
    try:
        half = small_cnn()
    finally:
        keras.config.set_dtype_policy("float32")
    dark = np.abs(images)
    dark[:, :3] = 0  # relevance must reach these without a division by 0
    for name in ("epsilon-plus", "alpha2-beta1", "epsilon-plus-flat"):
        got, wanted = (vis.LRP(network, name)(dark, 1) for network in (half, plain))
        assert got.dtype == np.float32
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()


def test_threads_copies_and_pickles(model, images):
    explainer, results = vis.LRP(model, "epsilon-gamma"), {}
    wanted = explainer(images, TARGETS)

    def job(i):
        results[i] = explainer(images, TARGETS)

    threads = [threading.Thread(target=job, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    twins = [copy.deepcopy(explainer), pickle.loads(pickle.dumps(explainer))]
    for got in [*(results[i] for i in range(3)), *(twin(images, TARGETS) for twin in twins)]:
        close(got, wanted, 1e-5)


# --- recurrent layers


def by_arras(x, kernel, recurrent, bias, units, upstream, epsilon=1e-6):
    """LRP of one LSTM, step by step (Arras et al. 2017): linear maps by epsilon, and signals take all of a product."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    h, c, steps = np.zeros(units), np.zeros(units), []
    for one in x:
        i, f, g, o = np.split(one @ kernel + h @ recurrent + bias, 4)
        signal = sigmoid(i) * np.tanh(g)
        new = sigmoid(f) * c + signal
        steps.append((one, h, c, g, sigmoid(f) * c, signal, new))
        h, c = sigmoid(o) * np.tanh(new), new
    relevance_h, relevance_c, found = h * upstream, np.zeros(units), []
    own = slice(2 * units, 3 * units)
    for one, before, _, g, kept, signal, new in reversed(steps):
        relevance_c = relevance_c + relevance_h  # the gate of the output and the tanh pass all on
        relevance_g, relevance_c = signal / new * relevance_c, kept / new * relevance_c
        share = relevance_g / (g + np.where(g < 0, -epsilon, epsilon))
        found.append(one * (kernel[:, own] @ share))
        relevance_h = before * (recurrent[:, own] @ share)
    return np.array(found[::-1])


@pytest.mark.parametrize("unroll", [False, True])
def test_gates_of_an_lstm_are_constants(unroll):
    network = keras.Sequential([keras.Input((4, 3)), layers.LSTM(5, unroll=unroll), layers.Dense(2, use_bias=False)])
    drawn_weights(network)
    x = drawn((3, 4, 3))
    kernel, recurrent, bias, dense = (w.astype("float64") for w in network.get_weights())
    wanted = np.stack([by_arras(one.astype("float64"), kernel, recurrent, bias, 5, dense[:, 1]) for one in x])
    close(vis.LRP(network, "epsilon")(x, 1), wanted, 1e-3)


def test_gru_and_bidirectional_run():
    parts = [layers.Bidirectional(layers.GRU(4, return_sequences=True)), layers.TimeDistributed(layers.Dense(3))]
    network = drawn_weights(keras.Sequential([keras.Input((4, 3)), *parts, layers.Flatten(), layers.Dense(2)]))
    got = vis.LRP(network, "epsilon")(drawn((2, 4, 3)), 1)
    assert np.isfinite(got).all() and np.abs(got).min() > 0


def test_embeddings_get_relevance():
    parts = [layers.Embedding(9, 4, name="embedding"), layers.Conv1D(5, 2, activation="relu"), layers.Flatten()]
    network = keras.Sequential([keras.Input((6,), dtype="int32"), *parts, layers.Dense(2, use_bias=False)])
    drawn_weights(network, bias=0)
    tokens = np.random.default_rng(0).integers(0, 9, (3, 6))
    got = vis.LRP(network, "epsilon", input_layer="embedding")(tokens, 1)
    assert got.shape == (3, 6, 4)
    np.testing.assert_allclose(got.sum(axis=(1, 2)), value_of(network(tokens))[:, 1], rtol=1e-3, atol=1e-5)


# --- inner layers, tables, other methods


# Without those of alpha and beta: where nothing lowers an output, beta's share has nowhere to go.
@pytest.mark.parametrize("name", [name for name in NAMES if "alpha" not in name])
def test_every_layer_holds_the_relevance(name):
    network, x = drawn_weights(branched(), bias=0), np.abs(drawn((2, 8, 8, 3))) + 0.1
    scores = value_of(network(x)).max(axis=1)
    explainer = vis.LRP(network, name)
    for layer in (1, 2, "concatenate", "up_sampling2d"):
        found = [one.name for one in network.layers if isinstance(layer, str) and one.name.startswith(layer)]
        got = explainer.at(found[0] if found else layer)(x)
        if layer != 2:  # on one of two ways
            np.testing.assert_allclose(got.sum(axis=(1, 2, 3)), scores, rtol=1e-3)
    assert "epsilon" in repr(vis.LRP(network, "epsilon"))


def test_at_is_input_layer(model, images):
    wanted = vis.LRP(model, "epsilon-plus", input_layer="conv1")(images, 1)
    close(vis.LRP(model, "epsilon-plus").at("conv1")(images, 1), wanted, 1e-6)


def test_the_table_says_who_gets_what(model, images):
    table = vis.LRP(model, "epsilon-plus-flat").rules(images)
    assert sorted(table) == [
        ("conv1", "activation", "identity"),
        ("conv1", "call", "flat"),
        ("conv2", "activation", "identity"),
        ("conv2", "call", "z-plus"),
        ("preds", "call", "epsilon"),
    ]
    assert str(table).splitlines()[0].split() == list(table[0])


def test_what_has_no_rule_is_said_once(images):
    inputs = keras.Input((9, 7, 3))
    x = ops.sin(layers.Conv2D(2, 3)(inputs))
    explainer = vis.LRP(drawn_weights(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))))
    with pytest.warns(VisualizationWarning, match="no rule: 'sin.*' \\(Sin\\)") as caught:
        explainer(images, 1)
    assert len(str(caught[0].message)) < 400
    explainer(images, 1)  # a second warning would be an error
    assert [row[2] for row in explainer.rules(images) if "sin" in row[0]] == ["none"]


def test_composites_in_other_methods(model, images):
    for name in ("epsilon-plus", "epsilon-plus-flat"):
        close(vis.GradientTimesInput(model, name)(images, 1), vis.LRP(model, name)(images, 1), 1e-6)
    plain = vis.LRP(model, "epsilon-plus")
    relevance = plain.at("conv1")(images, 1)
    cam = vis.HiResCAM(model, "conv1", upsample=False, backprop_modifier="epsilon-plus")(images, 1)
    close(cam, np.maximum(relevance.sum(axis=-1), 0), 1e-4)  # a class activation map of relevance
    for kind in (vis.GradCAM, vis.LayerCAM):
        got = kind(model, "conv1", backprop_modifier="epsilon-plus")(images, 1)
        assert np.abs(got - kind(model, "conv1")(images, 1)).max() > 1e-3 * got.max()
    smooth = vis.SmoothGrad(model, 2, noise_level=0, backprop_modifier="epsilon-plus")(images, 1)
    close(smooth * images, plain(images, 1), 1e-4)


# --- errors


@pytest.mark.parametrize("method", [vis.Saliency, vis.SmoothGrad])
def test_rules_of_the_first_layer_are_no_gradients(method, model, images):
    with pytest.raises(ValueError, match="'flat'.*vis.LRP") as caught:
        method(model, backprop_modifier="epsilon-plus-flat")
    assert len(str(caught.value)) < 400
    inner = method(model, backprop_modifier="epsilon-plus-flat", input_layer="conv1")  # above the first layer
    assert np.isfinite(inner(images, 1)).all()


def test_functions_refuse_rules_of_the_first_layer(model, images):
    with pytest.raises(ValueError, match="'flat'.*visualize_saliency"):
        vis.visualize_saliency(model, -1, 1, images[0], backprop_modifier="epsilon-plus-flat")
    with pytest.raises(ValueError, match="'flat'.*visualize_activation"):
        vis.visualize_activation(model, -1, 1, backprop_modifier="epsilon-plus-flat")


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda m: vis.LRP(m, "epsilon-pluss"), ValueError, "epsilon-plus"),
        (lambda m: vis.LRP(m, "nothing-like-it"), ValueError, "Unknown composite.*epsilon-gamma.*alpha2-beta1"),
        (lambda m: vis.LRP(m, "guided"), ValueError, "rule for linear layers"),
        (lambda m: vis.LRP(m, None), TypeError, "None"),
        (lambda m: vis.LRP(m, Flat()), ValueError, "first layer alone"),
        (lambda m: vis.LRP(m, 3), TypeError, "3"),
        (lambda m: vis.LRP(m).at("no_such"), ValueError, "conv1"),
        (lambda m: Composite([("dense", "epsilonn")]), ValueError, "epsilon"),
        (lambda m: AlphaBeta(2, 2), ValueError, "must be 1"),
        (lambda m: AlphaBeta(0, -1), ValueError, "beta"),
        (lambda m: Gamma(-0.1), ValueError, "gamma"),
        (lambda m: ZPlus(epsilon=0), ValueError, "above 0"),
        (lambda m: ZBox(1, 0), ValueError, "below `high`"),
        (lambda m: ZBox([0, 1], [1, 1]), ValueError, "below `high`"),
        (lambda m: ZBox("a", 1), TypeError, "number"),
        (lambda m: ZBox(float("nan"), 1), ValueError, "finite"),
        (lambda m: ZBox(np.zeros((2, 2)), 1), ValueError, "one for each channel"),
        (lambda m: ZBox([0, 0], [1, 1, 1]), ValueError, "high"),
    ],
)
def test_bad_arguments(make, error, words, model):
    with pytest.raises(error, match=words) as caught:
        make(model)
    assert len(str(caught.value)) < 400


def test_a_box_of_another_number_of_channels(model, images):
    rules = Composite([("first", ZBox([0, 0], [1, 1])), ("convolution", ZPlus()), ("dense", Epsilon())])
    with pytest.raises(ValueError, match="each of 3 channels.*Received: 2"):
        vis.LRP(model, rules)(images, 1)


def test_a_model_without_linear_layers(images):
    network = keras.Sequential([keras.Input((9, 7, 3)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="No operation.*gets a rule") as caught:
        vis.LRP(network, Composite([("dense", Epsilon())]))(images, 1)
    assert len(str(caught.value)) < 400


def test_a_pattern_that_matches_nothing(model, images):
    with pytest.raises(ValueError, match="No operation.*gets a rule"):
        vis.LRP(model, Composite([("block*", ZPlus())]))(images, 1)


def changed(how):
    network = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu", name="fc"), layers.Dense(3)])
    drawn_weights(network)
    how(network.layers[0])
    return network


@pytest.mark.parametrize(
    "how, words",
    [(lambda layer: layer.enable_lora(2), "'fc'.*LoRA.*Epsilon"), (lambda layer: layer.quantize("int8"), "'fc'.*int8")],
)
def test_adapted_and_quantised_layers(how, words):
    network, x = changed(how), drawn((2, 6))
    with pytest.raises(ValueError, match=words) as caught:
        vis.LRP(network, ZPlus())(x, 1)
    assert len(str(caught.value)) < 400


def test_adapted_layers_take_rules_that_change_no_weights():
    network, x = changed(lambda layer: layer.enable_lora(2)), drawn((2, 6))
    network.layers[0].lora_kernel_b.assign(np.full((2, 8), 0.3))
    close(vis.LRP(network, "epsilon")(x, 1), vis.GradientTimesInput(network)(x, 1), 1e-3)


@pytest.mark.parametrize(
    "pairs, words",
    [
        ([("normalization", ZPlus()), ("dense", Epsilon())], "is for linear layers.*LayerNormalization"),
        ([("first", ZBox(0, [1, 1, 1, 1])), ("dense", Epsilon())], "each of 6 channels.*Received: 4 numbers"),
    ],
)
def test_rules_that_do_not_fit_are_told_before_the_model_runs(pairs, words):
    network = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.LayerNormalization(), layers.Dense(3)])
    with pytest.raises(ValueError, match=words) as caught:
        vis.LRP(drawn_weights(network), Composite(pairs))(drawn((2, 6)), 1)
    assert len(str(caught.value)) < 400 and "Exception encountered" not in str(caught.value)


class PlainGradient:
    """A rule of a user's own: the layer's own gradient."""

    name = "plain"

    def surrogate(self, call, operation, x):
        return call(x)


def test_a_rule_of_ones_own_makes_relevance(model, images):
    own = Composite([("convolution", PlainGradient()), ("dense", PlainGradient()), ("activation", "identity")])
    close(vis.LRP(model, own)(images, 1), vis.LRP(model, "epsilon")(images, 1), 1e-4)


def two_towers(product):
    inputs = keras.Input((4, 4))
    one, other = (layers.Dense(4, use_bias=False, name=name)(inputs) for name in ("one", "other"))
    return drawn_weights(keras.Model(inputs, layers.Dense(2, use_bias=False)(product(one, other))))


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: layers.Flatten()(ops.matmul(a, b)),
        lambda a, b: layers.Flatten()(layers.Dot((2, 2))([a, b])),
        lambda a, b: ops.einsum("bij,bij->bi", a, b),
        lambda a, b: layers.Flatten()(layers.Multiply()([a, b])),
    ],
)
def test_products_of_any_kind_give_each_factor_half(product):
    network, x = two_towers(product), drawn((3, 4, 4))
    close(vis.LRP(network, "epsilon")(x, 1), vis.GradientTimesInput(network)(x, 1) / 2, 1e-4)


def test_a_softmax_within_is_a_gap_and_one_that_is_left_out_is_none():
    parts = [layers.Dense(4), layers.Softmax(name="within"), layers.Dense(3, activation="softmax", name="end")]
    network, x = drawn_weights(keras.Sequential([keras.Input((5,)), *parts])), drawn((2, 5))
    with pytest.warns(VisualizationWarning, match="'within'") as caught:
        vis.LRP(network, "epsilon")(x, 0)
    assert not any("'end'" in str(one.message) for one in caught)
    assert [row[0] for row in vis.LRP(network, "epsilon").rules(x) if row[2] == "none"] == ["within"]
    with pytest.warns(VisualizationWarning, match="'end'"):
        vis.LRP(network, "epsilon", logits=False)(x, 0)


def dense():
    parts = [layers.Dense(8, activation="relu", name="fc"), layers.Dense(3)]
    return drawn_weights(keras.Sequential([keras.Input((5,)), *parts]))


@pytest.mark.parametrize(
    "rules, words",
    [
        ("epsilon-plus-flat", "'flat' to the dense layer 'fc'"),
        (Composite([("fcc", "flat"), *composite("epsilon")]), "'fcc'.*matches no operation.*'fc'"),
        (Composite([("first", ZBox(10, 20)), *composite("epsilon")]), "low=10.0, high=20.0, and values from -"),
        (Composite([("first", ZBox(-1000, 1000)), *composite("epsilon")]), "and values from -"),
    ],
)
def test_choices_that_are_hardly_meant_are_told(rules, words):
    with pytest.warns(VisualizationWarning, match=words):
        vis.LRP(dense(), rules)(drawn((4, 5)), 0)


def test_a_box_behind_a_rescaling_is_compared_with_what_it_puts_out():
    parts = [layers.Rescaling(0.1), layers.Dense(3, name="fc")]
    network, x = drawn_weights(keras.Sequential([keras.Input((5,)), *parts])), 10 * drawn((4, 5))
    vis.LRP(network, Composite([("first", ZBox(-4, 4)), *composite("epsilon")]))(x, 0)
    with pytest.warns(VisualizationWarning, match="z-box"):
        vis.LRP(network, Composite([("first", ZBox(-40, 400)), *composite("epsilon")]))(x, 0)


@pytest.mark.parametrize(
    "composite, words", [([("dense", "epsilon")], "Composite\\(pairs\\)"), (Gamma, "Call it: `Gamma"), (Flat, "`Flat")]
)
def test_what_is_nearly_a_composite(composite, words):
    with pytest.raises(TypeError, match=words):
        vis.LRP(dense(), composite)


def test_values_of_zero_have_no_relevance_but_by_a_rule(rng):
    """Neither a little, which would give positions an order that means nothing."""
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(3, 3, activation="relu"), layers.Flatten()])
    model.add(layers.Dense(2))
    x = np.maximum(rng.normal(size=(3, 6, 6, 1)), 0)
    for rules in ("epsilon", "epsilon-plus", "epsilon-gamma"):
        assert (vis.LRP(model, rules)(x, 1)[x == 0] == 0).all()
    assert (vis.LRP(model, "epsilon-plus-flat")(x, 1)[x == 0] != 0).any()
