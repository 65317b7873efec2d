"""Backward rules, against what the papers say by hand."""

import keras
import numpy as np
import pytest
from conftest import needs_layers_as_activations, small_cnn, value_of
from keras import layers, ops

from vis import backend, backprop_modifiers
from vis.backprop_modifiers import composite, guided, rectified
from vis.engine.surrogates import installed
from vis.utils.validation import VisualizationWarning

GATE_INPUT = np.array([[-3.0, -0.5, 0.5, 2.0, 7.0, 0.5, 2.0, 7.0]], "float32")
UPSTREAM = np.array([[1.0, -2.0, 3.0, 4.0, 5.0, -6.0, -7.0, -8.0]], "float32")


def gradient_through(model, x=GATE_INPUT, upstream=UPSTREAM):
    """Returns the gradient at x of sum(upstream * model(x))."""

    def score(x):
        return ops.sum(model(x, training=False) * ops.convert_to_tensor(upstream), axis=-1), ()

    return value_of(backend.value_and_grad(score, ops.convert_to_tensor(x))[2])


# How to make a one-activation model, and the plain activation in NumPy.
def activation_argument():
    return layers.Dense(8, activation="relu", kernel_initializer="identity", name="place")


PLACES = {
    "activation=": activation_argument,
    "Activation": lambda: layers.Activation("relu", name="place"),
    "ReLU": lambda: layers.ReLU(name="place"),
    "ReLU max_value": lambda: layers.ReLU(max_value=6.0, name="place"),
    "ReLU negative_slope": lambda: layers.ReLU(negative_slope=0.1, name="place"),
    "ReLU threshold": lambda: layers.ReLU(threshold=1.0, name="place"),
    "LeakyReLU": lambda: layers.LeakyReLU(0.3, name="place"),
    "ELU": lambda: layers.ELU(name="place"),
    "PReLU": lambda: layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), name="place"),
    "relu6": lambda: layers.Activation("relu6", name="place"),
    "selu": lambda: layers.Activation("selu", name="place"),
    "op relu": lambda: ops.relu,
    "op relu6": lambda: ops.relu6,
    "op leaky_relu": lambda: ops.leaky_relu,
    "layer as activation": lambda: layers.Dense(
        8, activation=layers.LeakyReLU(0.3), kernel_initializer="identity", name="place"
    ),
}


def model_with(place, nested=False):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, place(inputs))
    if nested:
        model = keras.Sequential([keras.Input((8,)), keras.Sequential([keras.Input((8,)), model])])
    return model


def expected_guided(model):
    """Springenberg et al. 2015: upstream, where it and the output are positive, times the derivative."""
    plain = gradient_through(model, upstream=np.ones_like(UPSTREAM))
    outputs = value_of(model(GATE_INPUT))
    return plain * UPSTREAM * (UPSTREAM > 0) * (outputs > 0)


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("place", PLACES)
def test_guided_at_every_place(place, nested):
    model = model_with(PLACES[place](), nested)
    with installed(model, composite("guided")) as changed:
        got = gradient_through(model)
    assert len(changed) == 1
    np.testing.assert_allclose(got, expected_guided(model), rtol=1e-6)
    assert not np.allclose(got, gradient_through(model))  # and it is gone again


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("place", PLACES)
def test_rectified_at_every_place(place, nested):
    model = model_with(PLACES[place](), nested)
    with installed(model, composite("rectified")):
        got = gradient_through(model)
    np.testing.assert_allclose(got, UPSTREAM * (UPSTREAM > 0), rtol=1e-6)  # no forward gate


COPIED = {**dict.fromkeys(PLACES, ()), "layer as activation": needs_layers_as_activations}


@pytest.mark.parametrize("place", [pytest.param(place, marks=marks) for place, marks in COPIED.items()])
@pytest.mark.parametrize("modifier", [guided, rectified])
def test_modified_copies_have_the_same_outputs_and_the_rule(place, modifier):
    model = model_with(PLACES[place](), nested=True)
    before = gradient_through(model)
    copied = modifier(model)
    assert len(copied.modified_places) == 1
    np.testing.assert_allclose(value_of(copied(GATE_INPUT)), value_of(model(GATE_INPUT)), rtol=1e-6)
    expected = expected_guided(model) if modifier is guided else UPSTREAM * (UPSTREAM > 0)
    np.testing.assert_allclose(gradient_through(copied), expected, rtol=1e-6)
    np.testing.assert_array_equal(gradient_through(model), before)


def test_literal_gradients_of_relu():
    model = model_with(PLACES["ReLU"]())
    assert gradient_through(model).tolist() == [[0, 0, 3, 4, 5, -6, -7, -8]]
    assert gradient_through(guided(model)).tolist() == [[0, 0, 3, 4, 5, 0, 0, 0]]
    assert gradient_through(rectified(model)).tolist() == [[1, 0, 3, 4, 5, 0, 0, 0]]


def test_guided_through_two_layers_by_hand():
    # h = relu(W1 x), score = w2 . h with h = (1, 0, 2) and w2 = (1, 5, -1): only the first
    # unit passes, so the gradient is the first row of W1.
    first = layers.Dense(3, activation="relu", use_bias=False)
    second = layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((2,)), first, second])
    first.set_weights([np.array([[1.0, -4.0, 0.0], [0.0, 1.0, 2.0]], "float32")])
    second.set_weights([np.array([[1.0], [5.0], [-1.0]], "float32")])
    x, one = np.array([[1.0, 1.0]], "float32"), np.ones((1, 1), "float32")
    assert gradient_through(model, x, one).tolist() == [[1.0, -2.0]]
    assert gradient_through(guided(model), x, one).tolist() == [[1.0, 0.0]]
    assert gradient_through(rectified(model), x, one).tolist() == [[1.0 - 20.0, 5.0]]


def test_guided_is_plain_where_all_paths_are_positive():
    model = small_cnn()
    model.set_weights([np.abs(w) + 0.01 for w in model.get_weights()])
    x = np.random.default_rng(0).random((2, 9, 7, 3), dtype="float32")
    ones = np.ones((2, 3), "float32")
    np.testing.assert_allclose(gradient_through(guided(model), x, ones), gradient_through(model, x, ones), rtol=1e-5)


def test_a_rule_of_ones_own_replaces_the_derivative():
    model = model_with(PLACES["ReLU"]())
    with installed(model, composite(lambda x, y, upstream: 10 * upstream + x)):
        np.testing.assert_allclose(gradient_through(model), 10 * UPSTREAM + GATE_INPUT)


def test_every_place_of_a_model_is_listed():
    model = small_cnn()
    assert [path for path, *_ in composite("guided").places(model)] == ["conv1", "conv2"]
    assert guided(model).modified_places == ["conv1", "conv2"]


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "gelu"])
def test_nothing_to_change_is_a_warning(activation):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation=activation)])
    with pytest.warns(VisualizationWarning, match="'guided' changed nothing"):
        assert guided(model).modified_places == []
    with pytest.warns(VisualizationWarning, match="'rectified' changed nothing"), installed(model, composite("relu")):
        pass


def test_activations_are_restored_after_an_exception():
    model = small_cnn()
    before = [vars(layer).copy() for layer in model.layers]
    with pytest.raises(RuntimeError), installed(model, composite("guided")):
        raise RuntimeError
    assert [vars(layer) for layer in model.layers] == before


def test_copies_keep_their_rule_when_copied_again():
    from vis.utils.utils import apply_modifications

    for place in ("ReLU", "activation="):
        model = model_with(PLACES[place]())
        again = apply_modifications(guided(model))
        np.testing.assert_allclose(gradient_through(again), expected_guided(model))


def test_get_and_names():
    assert backprop_modifiers.get("guided") is guided
    assert backprop_modifiers.get("relu") is backprop_modifiers.get("deconv") is rectified
    assert backprop_modifiers.get(guided) is guided
    assert backprop_modifiers.relu is backprop_modifiers.deconv is rectified
    assert backend.modify_model_backprop(model_with(PLACES["ReLU"]()), "guided").modified_places == ["place"]


@pytest.mark.parametrize("function", [backprop_modifiers.get, backprop_modifiers.rule])
def test_unknown_names(function):
    with pytest.raises(ValueError, match="Unknown backprop_modifier: 'guidde'. Did you mean: 'guided'"):
        function("guidde")
    with pytest.raises(TypeError, match="must be a name"):
        function(3)


def test_a_subclassed_model_cannot_be_copied():
    class Model(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed one cannot be copied"):
        guided(Model())


def test_places_and_installed_take_what_users_write():
    model, upstream = small_cnn(), np.array([[1.0, -2.0, 3.0]], "float32")
    x = np.random.default_rng(0).random((2, 9, 7, 3), dtype="float32")
    assert [(path, own) for path, _, _, own in backprop_modifiers.places(model)] == [("conv1", None), ("conv2", None)]
    assert [own.name for *_, own in backprop_modifiers.places(model, "guided")] == ["guided"] * 2
    with backprop_modifiers.installed(model, "guided") as changed:
        assert changed == ["conv1", "conv2"]
        inside = gradient_through(model, x, upstream)
    np.testing.assert_allclose(inside, gradient_through(guided(model), x, upstream), rtol=1e-5, atol=1e-7)
    assert not np.array_equal(inside, gradient_through(model, x, upstream))
    with backprop_modifiers.installed(model, None) as changed:
        assert changed == []
