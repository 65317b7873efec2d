"""What `vis/utils/internals.py` reads of Keras's graphs, which has no public name: it may change with any version."""

import tomllib

import keras
import numpy as np
import pytest
from conftest import ROOT, small_cnn, value_of
from keras import layers, ops

from vis.utils.internals import (
    MEASURED,
    children,
    consumers,
    keep_consumers,
    output_shapes,
    producer,
    producers,
    run,
    steps,
)


def functional():
    """Two ways that meet, and an operation that is no layer."""
    inputs = keras.Input((4,), name="inputs")
    left = layers.Dense(3, name="left")(inputs)
    right = layers.Dense(3, name="right")(inputs)
    together = layers.Add(name="together")([left, right])
    return keras.Model(inputs, together * 2.0, name="functional")


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="one"), layers.Dense(2, name="two")])


def nested():
    inputs = keras.Input((9, 7, 3), name="inputs")
    return keras.Model(inputs, layers.Dense(2, name="head")(small_cnn(name="inner")(inputs)), name="outer")


def shared():
    """One layer that is called twice, on two shapes."""
    first, second = keras.Input((5, 4), name="first"), keras.Input((6, 4), name="second")
    layer = layers.Dense(3, name="shared")
    pooled = [layers.GlobalAveragePooling1D(name=f"pool{i}")(layer(x)) for i, x in enumerate((first, second))]
    return keras.Model([first, second], layers.Add(name="sum")(pooled), name="siamese")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(3, name="a"), layers.Dense(2, name="b")]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Block(layers.Layer):
    """A layer that holds others, one of them in a list."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.others = layers.Dense(3, name="first"), [layers.Dense(3, name="other")]

    def call(self, x):
        return self.others[0](self.first(x))


def names(operations):
    return [operation.name for operation in operations]


def test_children_of_a_functional_model_are_its_operations_in_the_order_of_the_graph():
    found = children(functional())
    assert names(found)[:1] == ["inputs"] and set(names(found)[1:3]) == {"left", "right"}
    assert names(found)[3] == "together" and type(found[4]).__name__ == "Multiply"
    assert len(found) == 5


def test_children_of_a_nested_model_are_not_those_of_the_inner_one():
    model = nested()
    assert names(children(model)) == ["inputs", "inner", "head"]
    assert names(children(children(model)[1]))[1:] == ["conv1", "conv2", "flatten", "preds"]


def test_children_of_a_sequential_model_are_its_layers():
    assert names(children(sequential())) == ["one", "two"]


def test_children_of_a_subclassed_model_are_its_layers():
    model = Subclassed()
    assert names(children(model)) == ["a", "b"]
    model(np.zeros((1, 4), "float32"))
    assert names(children(model)) == ["a", "b"]


def test_children_of_a_layer_are_the_layers_directly_inside():
    assert names(children(Block(name="block"))) == ["first", "other"]
    assert names(children(layers.TimeDistributed(Block(name="block")))) == ["block"]
    assert names(children(layers.Bidirectional(layers.LSTM(2)))) != []
    assert children(layers.Dense(2)) == []


def test_children_of_an_operation_are_none():
    assert children(functional().operations[-1]) == []


def test_producers_and_consumers_are_the_neighbours_in_the_graph():
    model = functional()
    inputs, left, together = (model.get_layer(name) for name in ("inputs", "left", "together"))
    product = model.operations[-1]
    assert producers(inputs) == []
    assert producers(left) == [inputs] and producers(together) == [left, model.get_layer("right")]
    assert producers(product) == [together]
    assert names(consumers(inputs)) == ["left", "right"]
    assert consumers(left) == [together] and consumers(together) == [product] and consumers(product) == []


def test_neighbours_in_a_sequential_model():
    model = sequential()
    model.outputs  # noqa: B018  - its graph is made with the model
    one, two = model.layers
    assert names(producers(two)) == ["one"] and names(consumers(one)) == ["two"]
    assert type(producers(one)[0]).__name__ == "InputLayer"


def test_a_nested_model_is_one_operation_of_the_outer_graph():
    model = nested()
    inner = model.get_layer("inner")
    assert names(producers(inner)) == ["inputs"] and names(consumers(inner)) == ["head"]
    assert names(producers(inner.get_layer("conv2"))) == ["conv1"]
    assert names(consumers(inner.get_layer("preds"))) == []  # what comes after it is in the outer graph


def test_a_shared_layer_has_the_neighbours_of_each_of_its_calls():
    layer = shared().get_layer("shared")
    assert names(producers(layer)) == ["first", "second"]
    assert names(consumers(layer)) == ["pool0", "pool1"]


def test_operations_that_were_never_called_have_no_neighbours():
    layer = layers.Dense(2)
    assert producers(layer) == [] and consumers(layer) == []
    assert producers(Subclassed()) == []


def test_the_producer_of_a_tensor():
    model = functional()
    assert producer(model.outputs[0]) is model.operations[-1]
    assert producer(model.get_layer("left").output).name == "left"
    assert producer(model.inputs[0]).name == "inputs"
    assert producer(nested().outputs[0]).name == "head"
    assert producer(shared().outputs[0]).name == "sum"
    assert producer(ops.ones((2,))) is None
    assert producer(keras.KerasTensor((None, 2))) is None


def test_notes_on_new_consumers_can_be_taken_out_again():
    model = sequential()
    one = model.layers[0]
    before = consumers(one)
    layers.Dense(5, name="added")(one.output)
    assert names(consumers(one)) == ["two", "added"]
    keep_consumers(one, len(before))
    assert consumers(one) == before
    keep_consumers(one, 0)
    assert consumers(one) == []
    assert model(np.zeros((1, 4), "float32")).shape == (1, 2)  # it runs all the same


def test_output_shapes_are_those_of_the_calls_in_the_models_own_graph():
    model = shared()
    layer = model.get_layer("shared")
    layer(keras.Input((8, 4)))  # a call outside of the model
    found = output_shapes(model)
    assert found[id(layer)] == {(None, 5, 3), (None, 6, 3)}
    assert found[id(model.get_layer("first"))] == {(None, 5, 4)}
    assert len(found) == len(model.operations)


@pytest.mark.parametrize("make", [functional, sequential, nested])
def test_output_shapes_of_other_models(make):
    model = make()
    found = output_shapes(model)
    for operation in model.layers:
        assert found[id(operation)] == {tuple(operation.output.shape)}


def computed(output, given, values):
    return value_of(run(steps([output], given), dict(zip(map(id, given), values)))[id(output)])


@pytest.mark.parametrize("make", [functional, sequential, nested, shared])
def test_steps_run_as_the_model_does(make, rng):
    model = make()
    values = [rng.random((2, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
    expected = value_of(model(values if len(values) > 1 else values[0]))
    np.testing.assert_allclose(computed(model.outputs[0], model.inputs, values), expected, rtol=1e-6)


def test_steps_begin_within_the_graph_too(rng):
    model = functional()
    left = model.get_layer("left").output
    x, value = rng.random((2, 4)).astype("float32"), rng.random((2, 3)).astype("float32")
    expected = 2 * (value + value_of(model.get_layer("right")(x)))
    np.testing.assert_allclose(computed(model.outputs[0], [model.inputs[0], left], [x, value]), expected, rtol=1e-6)
    assert "left" not in [node.operation.name for node in steps(model.outputs, [model.inputs[0], left])]
    assert steps(model.inputs, model.inputs) == []


def test_a_shared_layer_runs_once_for_each_of_its_calls():
    model = shared()
    ran = [node.operation.name for node in steps(model.outputs, model.inputs)]
    assert ran.count("shared") == 2 and len(ran) == 5


def test_steps_refuse_what_depends_on_another_input():
    model = shared()
    with pytest.raises(ValueError, match="'second' is not among the inputs"):
        steps(model.outputs, model.inputs[:1])
    with pytest.raises(ValueError, match="is not among the inputs"):
        steps(model.outputs, functional().inputs)


def test_the_oldest_measured_version_is_the_oldest_that_the_package_allows():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"keras>={MEASURED[0]}" in dependencies


def test_this_version_of_keras_is_one_of_those_that_were_measured():
    oldest, newest = (tuple(map(int, version.split("."))) for version in MEASURED)
    version = tuple(int(part) for part in keras.version().split(".")[:2])
    assert oldest <= version, f"vis needs Keras {MEASURED[0]} or later. Received: {keras.version()}."
    if version > newest:
        pytest.skip(f"Keras {keras.version()} is newer than {MEASURED[1]}: if all tests pass, set MEASURED to it.")
