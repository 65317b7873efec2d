"""Finding layers and tapping them."""

import threading

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

from vis import backend
from vis.engine.graph import find_layer
from vis.engine.inputs import single_layout
from vis.engine.network import Network
from vis.engine.requests import site
from vis.engine.taps import shadowed, wrapped
from vis.utils.formats import data_format


def read(model, x, *wanted, mark=None):
    """Returns what layers put out in a run of a model."""
    return Network(model).read([site(model, layer) for layer in wanted], single_layout(model, x.shape), [x], mark)


def nested_model():
    backbone = small_cnn(name="backbone")
    inner = keras.Sequential([keras.Input((9, 7, 3)), backbone, layers.Dense(2, name="head")], name="inner")
    inputs = keras.Input((9, 7, 3))
    return keras.Model(inputs, inner(inputs), name="outer")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Conv2D(2, 3, activation="relu", name="a"), layers.Conv2D(3, 3, name="b")]
        self.dense = layers.Dense(2, name="dense")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.dense(ops.mean(x, axis=(1, 2)))


def subclassed_model():
    model = Subclassed()
    model(np.zeros((1, 9, 7, 3), "float32"))
    return model


def test_find_layer_by_name_path_index_and_object():
    model = nested_model()
    conv = find_layer(model, "inner/backbone/conv2")
    assert conv.name == "conv2"
    assert find_layer(model, "conv2") is conv
    assert find_layer(model, conv) is conv
    assert find_layer(model, -1) is model.layers[-1]
    assert find_layer(model, np.int64(-1)) is model.layers[-1]
    assert find_layer(subclassed_model(), "b").name == "b"


def test_find_layer_prefers_the_exact_name():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="fc")])
    assert find_layer(model, "fc") is model.layers[-1]
    assert find_layer(model, "inner/fc") is inner.layers[-1]


def test_find_layer_refuses_an_ambiguous_name():
    parts = [keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")], name=name) for name in "ab"]
    with pytest.raises(ValueError, match="ambiguous. Choose one of: 'a/fc', 'b/fc'"):
        find_layer(keras.Sequential([keras.Input((4,)), *parts]), "fc")


@pytest.mark.parametrize(
    "layer, kind, words",
    [
        ("conv22", ValueError, "Did you mean: .*'conv2'"),
        (7, ValueError, "out of range. Received: 7"),
        (-9, ValueError, "choose from"),
        (1.5, TypeError, "1.5 \\(float\\)"),
        (True, TypeError, "bool"),
        (None, TypeError, "NoneType"),
        (layers.Dense(2, name="preds"), ValueError, "not part of model 'cnn'.*give the name instead"),
        (layers.Dense(2, name="pred"), ValueError, "not part of model 'cnn'. Did you mean: 'preds'"),
    ],
)
def test_find_layer_errors(layer, kind, words):
    with pytest.raises(kind, match=words):
        find_layer(small_cnn(), layer)


@pytest.mark.parametrize("make, name", [(small_cnn, "conv2"), (nested_model, "conv2"), (subclassed_model, "b")])
def test_reading_sees_what_the_layer_puts_out(make, name, rng):
    model = make()
    x = rng.random((2, 9, 7, 3), dtype="float32")
    layer = find_layer(model, name)
    seen = value_of(read(model, ops.convert_to_tensor(x), layer)[0])
    taken = []
    original = layer.call
    layer.call = lambda inputs: taken.append(original(inputs)) or taken[-1]
    model(x)
    np.testing.assert_allclose(seen, value_of(taken[-1]), rtol=1e-6)


def test_reading_takes_the_last_call_of_a_shared_layer():
    inputs = keras.Input((3,))
    shared = layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.Constant(2.0))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert value_of(read(model, ops.ones((1, 3)), shared)[0]).tolist() == [[36.0] * 3]


def test_marked_layer_in_a_skip_connection_gets_the_whole_gradient():
    inputs = keras.Input((2,))
    middle = layers.Dense(2, use_bias=False, kernel_initializer="identity", name="middle")
    x = middle(inputs)
    outputs = layers.Add()([layers.Rescaling(3.0)(x), x])  # the path around counts as well
    model = keras.Model(inputs, outputs)
    x = ops.ones((1, 2))

    key = site(model, middle).key

    def function(mark, _):
        def own(key_, output):
            return mark(key_, output) if key_ == key else output

        return ops.sum(read(model, x, model.layers[-1], middle, mark=own)[0], axis=-1), ()

    assert value_of(backend.value_and_grad_at(function, [(key, -1)])[3][0]).tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize("make", [small_cnn, nested_model, subclassed_model])
def test_layers_are_restored_after_success_and_failure(make):
    model = make()
    layer = find_layer(model, "conv2" if make is not subclassed_model else "b")
    before = dict(vars(layer))
    read(model, ops.ones((1, 9, 7, 3)), layer)
    assert dict(vars(layer)) == before

    def fail(place, tensor):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        read(model, ops.ones((1, 9, 7, 3)), layer, mark=fail)
    assert dict(vars(layer)) == before


def test_wrapped_calls_leave_other_threads_alone():
    layer = layers.Rescaling(2.0)
    results = []

    def elsewhere():
        results.append(value_of(layer(ops.ones((1,)))).tolist())

    with shadowed(wrapped("call", [(layer, lambda call, x: call(x) + 100)])):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        results.append(value_of(layer(ops.ones((1,)))).tolist())
    assert results == [[2.0], [102.0]]


def test_reading_says_so_when_a_layer_did_not_run():
    model = small_cnn()
    with pytest.raises(ValueError, match="did not run"):
        read(model, ops.ones((1, 9, 7, 3)), model.layers[0])


def test_a_run_ends_when_all_sites_were_seen():
    model, ran = subclassed_model(), []
    network, layout = Network(model), single_layout(model, None)
    original = model.dense.call
    model.dense.call = lambda inputs, **_: ran.append(1) or original(inputs)
    for expected in (1, 1):  # the first run tells how often the layer runs
        network.read([site(model, "b")], layout, [ops.ones((1, 9, 7, 3))])
        assert len(ran) == expected


def test_a_run_ends_only_when_all_sites_were_seen():
    model = subclassed_model()
    network, layout, x = Network(model), single_layout(model, None), ops.ones((1, 9, 7, 3))
    sites = [site(model, "a"), site(model, "b")]
    first, second = (network.read(sites, layout, [x]) for _ in range(2))
    assert [value_of(one).tolist() for one in first] == [value_of(one).tolist() for one in second]


def test_several_sites_are_read_in_one_run(rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3), dtype="float32")
    one, other = read(model, ops.convert_to_tensor(x), "conv1", "conv2")
    assert value_of(one).tolist() == value_of(read(model, ops.convert_to_tensor(x), "conv1")[0]).tolist()
    assert value_of(other).tolist() == value_of(read(model, ops.convert_to_tensor(x), "conv2")[0]).tolist()


def test_data_format_is_read_from_the_nearest_layer():
    first = small_cnn("channels_first")
    assert data_format(find_layer(first, "conv1")) == "channels_first"
    inputs = keras.Input((3, 9, 7))
    activation = layers.Activation("relu")
    activation(layers.Conv2D(2, 3, data_format="channels_first")(inputs))
    assert data_format(activation) == "channels_first"
    assert data_format(layers.Dense(2)) == keras.config.image_data_format()


def test_data_format_of_the_first_layers_is_read_from_those_after_them():
    rescaling, flat = layers.Rescaling(2.0), layers.Flatten()
    inputs = keras.Input((3, 9, 7))
    flat(layers.Conv2D(2, 3, data_format="channels_first")(rescaling(inputs)))
    assert data_format(rescaling) == "channels_first"
