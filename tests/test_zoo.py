"""Real architectures: gradients, samples apart, batches of any size, the layer a person would choose, the softmax.

`pytest -m "zoo or not zoo"` or `make zoo` runs all of them; without it, those that build fast.
"""

import contextlib
import functools
import re
import warnings

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import ops, tree
from zoo.registry import ARCHITECTURES

import vis
from vis.engine.onward import Onward
from vis.utils.validation import VisualizationWarning

pytest.importorskip("keras_hub", reason="keras-hub is an extra of the tests: zoo")

CASES = [pytest.param(one, id=one.name, marks=[] if one.quick else [pytest.mark.zoo]) for one in ARCHITECTURES]


@functools.lru_cache(8)  # the quick subset
def made(architecture):
    keras.utils.set_random_seed(0)
    if architecture.make.__module__ == "zoo.packages":
        pytest.importorskip(architecture.make.__name__.split("_")[0])
    if architecture.name == "applications.nasnet" and keras.backend.backend() == "torch":
        pytest.skip("Keras has no NASNet on PyTorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of Swin's about masks
        model, inputs = architecture.make()
    draw = np.random.default_rng(0)
    for variable in model.trainable_variables:  # tables of zeros and tiny scales hide mistakes
        if "kernel" not in variable.path:
            variable.assign(value_of(variable.value) + draw.normal(0, 0.1, variable.shape))
    return model, inputs


pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")


def score(architecture, outputs):
    return architecture.target(outputs) if callable(architecture.target) else outputs[:, architecture.target]


def own_gradients(function, values):
    """The backend's own gradients of the summed score."""
    values = [ops.convert_to_tensor(value) for value in values]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            total = ops.sum(function(values))
        return [value_of(g) if g is not None else None for g in tape.gradient(total, values)]
    if keras.backend.backend() == "jax":
        import jax

        return [value_of(g) for g in jax.grad(lambda values: ops.sum(function(values)))(values)]
    import torch

    values = [value.detach().requires_grad_(True) for value in values]
    gradients = torch.autograd.grad(function(values).sum(), values, allow_unused=True)
    return [value_of(g) if g is not None else None for g in gradients]


def close(got, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(got, expected, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("architecture", CASES)
def test_gradients_are_the_backends_own(architecture):
    model, inputs = made(architecture)
    flat = tree.flatten(inputs)
    floats = [i for i, array in enumerate(flat) if array.dtype.kind == "f"]
    if not floats:
        return _gradients_at_the_embedding(architecture, model, inputs)

    def function(values):
        given = dict(zip(floats, values))
        whole = [given.get(i, ops.convert_to_tensor(array)) for i, array in enumerate(flat)]
        return score(architecture, model(tree.pack_sequence_as(inputs, whole), training=False))

    expected = own_gradients(function, [flat[i] for i in floats])
    got = tree.flatten(vis.Saliency(model, logits=False)(inputs, architecture.target))
    for i, gradient in zip(floats, expected):
        if gradient is not None and np.abs(gradient).max() > 0:
            close(got[i], gradient)


def _gradients_at_the_embedding(architecture, model, inputs):
    """The part of the model after the embedding, built anew from its graph, against `input_layer=`."""
    backbone = model.backbone
    table = backbone.get_layer("token_embedding")
    embedded = table(ops.convert_to_tensor(inputs["token_ids"]))
    others = {key: value for key, value in inputs.items() if key != "token_ids"}
    symbol = backbone.get_layer("token_embedding").output
    rest = keras.Function([symbol, *(backbone.input[key] for key in others)], backbone.output)

    def function(values):
        hidden = rest([values[0], *(ops.convert_to_tensor(value) for value in others.values())])
        if isinstance(hidden, dict):  # BERT
            pooled = hidden["pooled_output"]
            head = model.output_dense  # its softmax is left out
            return score(architecture, ops.matmul(pooled, head.kernel) + head.bias)
        return score(architecture, table(hidden, reverse=True))

    (expected,) = own_gradients(function, [value_of(embedded)])
    explainer = vis.Saliency(model, input_layer=(table, 0))
    close(explainer(inputs, architecture.target), expected)


def explained(explainer, inputs, architecture, **options):
    return explainer(inputs, architecture.target, **options)


@pytest.mark.parametrize("architecture", CASES)
def test_class_activation_maps(architecture):
    """The layer is the one a person would choose; samples are apart; the size of the batch does not matter."""
    model, inputs = made(architecture)
    explainer = vis.HiResCAM(model, upsample=False)
    around = pytest.warns(VisualizationWarning, match="by a way around it")
    with around if architecture.branches else contextlib.nullcontext():
        maps = explained(explainer, inputs, architecture)
    chosen = explainer.layer if isinstance(explainer.layer, str) else explainer.layer[0]
    expected = "/".join(re.escape(part) + r"(_\d+)?" for part in architecture.layer.split("/"))
    assert re.fullmatch(expected, chosen), chosen
    assert maps.shape[1:] == architecture.shape
    scale = np.abs(maps).max()
    one_by_one = explained(explainer, inputs, architecture, batch_size=1)
    np.testing.assert_allclose(one_by_one, maps, atol=1e-4 * scale + 1e-12)
    far = 1 + int(np.argmax([np.abs(one - maps[0]).max() for one in maps[1:]]))  # the sample that differs most from 0
    rows = [0 if i == far else i for i in range(len(maps))]
    changed = explained(explainer, tree.map_structure(lambda array: array[rows], inputs), architecture)
    np.testing.assert_allclose(changed[0], maps[0], atol=1e-4 * scale + 1e-12)
    np.testing.assert_allclose(changed[far], maps[0], atol=1e-4 * scale + 1e-12)
    if np.abs(maps[far] - maps[0]).max() > 2e-4 * scale:  # a deep random network may see all samples alike
        assert np.abs(changed[far] - maps[far]).max() > 1e-4 * scale


# Where a way leads around the layer (within an encoder's code, by a mask or another input), or code of one's own runs.
WHOLE = {
    *("hub.vit", "hub.deit", "hub.dinov2", "hub.siglip", "hub.clip", "hub.sam", "hub.retinanet", "hub.d_fine"),
    *("hub.bert", "hub.whisper", "packages.tcn"),
}
QUICK = ("applications.mobilenet", "hub.gpt2")
SOME = [pytest.param(one, id=one.name, marks=[] if one.name in QUICK else [pytest.mark.zoo]) for one in ARCHITECTURES]


@pytest.mark.filterwarnings("ignore:The map is that of layer")
@pytest.mark.parametrize("architecture", SOME)
def test_the_rest_after_the_layer_gives_what_the_whole_network_gives(architecture, monkeypatch):
    model, inputs = made(architecture)
    explainer = vis.HiResCAM(model)
    task = explainer.evaluator.task(inputs, architecture.target)
    at, _, results = next(explainer.evaluated(task))
    (outputs,) = results["activations"]  # of all samples: they are few
    other = np.random.default_rng(0).normal(0, 1, outputs.shape).astype("float32")

    def found():
        onward = Onward(task, at, outputs)
        gradients = [part[-1] for part in onward.gradients(1, lambda images, numbers: other[images])]
        scores = onward.scores_of(1, lambda images, numbers: other[images])
        return onward.rest, onward.scores(), scores, np.concatenate(gradients)

    rest, *got = found()
    monkeypatch.setattr(type(explainer.evaluator), "rest", lambda self, at: None)
    _, *expected = found()
    assert (rest is None) == (architecture.name in WHOLE)
    for one, wanted in zip(got, expected):
        np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("architecture", [case for case in CASES if case.values[0].target == 1])
def test_the_softmax_is_found(architecture):
    """Of two classes, the difference of the logits is that of the log probabilities."""
    model, inputs = made(architecture)
    at = {"input_layer": ("token_embedding", 0)} if architecture.embedding else {}
    logits = vis.Saliency(model, **at)
    got = tree.flatten(logits(inputs, 1))[0] - tree.flatten(logits(inputs, 2))[0]

    def ratio(outputs):
        return ops.log(outputs[:, 1]) - ops.log(outputs[:, 2])

    close(got, tree.flatten(vis.Saliency(model, logits=False, **at)(inputs, ratio))[0], 1e-4)
