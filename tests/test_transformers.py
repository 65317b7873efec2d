"""Attention and relevance on the transformers of keras-hub, one of each family, small and random."""

import dataclasses
import functools
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pytest
from conftest import slow, value_of
from keras import ops, tree
from zoo import hub

import vis

pytest.importorskip("keras_hub", reason="keras-hub is an extra of the tests: zoo")
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")


def pooled(outputs):
    """A score that no normalisation makes constant: some numbers of the last output, at the last position."""
    last = tree.flatten(outputs)[-1]
    return ops.sum(last[..., -1, :3] if len(last.shape) > 2 else last[..., :3], axis=-1)


def pairs(outputs):
    return ops.diagonal(outputs["vision_logits"])


@dataclasses.dataclass(frozen=True)
class Family:
    """What is right for a family of transformers.

    Args:
        make: Function that returns `(model, inputs)`.
        count: How many attentions there are.
        shape: Shape of the first one's weights for one sample.
        relevance: Shape of the relevance for one sample, or words of the error that refuses it.
        target: What is explained.
        conserves: Whether CP-LRP at the token embedding sums to the score, biases being zero.
        quick: Whether it is tested on every backend.
    """

    make: Callable
    count: int
    shape: tuple
    relevance: object
    target: object = pooled
    conserves: bool = False
    quick: bool = False


IMAGE, WORDS = (32, 32), (8,)
FAMILIES = [
    Family(hub.vit, 2, (2, 17, 17), IMAGE, 1, quick=True),
    Family(hub.vit_pooled, 2, (2, 16, 16), IMAGE, 1),
    Family(hub.deit, 2, (2, 18, 18), IMAGE, 1),
    Family(hub.dinov2, 2, (2, 21, 21), IMAGE, 1),
    Family(hub.dinov3, 2, (2, 21, 21), IMAGE, 1),
    Family(hub.swin, 4, (16, 2, 4, 4), "windows", 1),
    Family(hub.mit, 2, (1, 64, 16), "fewer keys", 1),
    Family(hub.siglip, 5, (2, 16, 16), IMAGE, pairs),
    Family(hub.clip, 4, (2, 16, 16), (16,), pairs),
    Family(
        hub.sam,
        6,
        (16, 2, 4, 4),
        "windows",
        lambda outputs: ops.mean(outputs["masks"], axis=(1, 2, 3)),
    ),
    Family(hub.bert, 2, (2, 8, 8), WORDS, 1, quick=True),
    Family(hub.roberta, 2, (2, 8, 8), WORDS),
    Family(hub.albert, 2, (2, 8, 8), WORDS),
    Family(hub.distil_bert, 2, (2, 8, 8), WORDS),
    Family(hub.deberta, 2, (2, 8, 8), WORDS),
    Family(hub.esm, 2, (2, 8, 8), WORDS),
    Family(hub.gpt2, 2, (2, 8, 8), WORDS, quick=True),
    Family(hub.opt, 2, (2, 8, 8), WORDS),
    Family(hub.bloom, 2, (2, 8, 8), WORDS),
    Family(hub.falcon, 2, (2, 8, 8), WORDS),
    Family(hub.gpt_neo_x, 2, (2, 8, 8), WORDS),
    Family(hub.gemma, 2, (2, 8, 8), WORDS, conserves=True, quick=True),
    Family(hub.gemma2, 2, (2, 8, 8), WORDS),
    Family(hub.llama, 2, (2, 8, 8), WORDS, conserves=True, quick=True),
    Family(hub.mistral, 2, (2, 8, 8), WORDS, conserves=True),
    Family(hub.qwen, 2, (2, 8, 8), WORDS, conserves=True),
    Family(hub.qwen3, 2, (2, 8, 8), WORDS, conserves=True),
    Family(hub.phi3, 2, (2, 8, 8), WORDS, conserves=True),
    Family(hub.t5, 6, (2, 6, 6), (6,), quick=True),
    Family(hub.bart, 6, (2, 6, 6), (6,)),
    Family(hub.whisper, 6, (2, 8, 8), "different numbers"),
    Family(hub.whisper_short, 6, (2, 8, 8), (8,)),
]
CASES = [pytest.param(one, id=one.make.__name__, marks=[] if one.quick else [pytest.mark.slow]) for one in FAMILIES]


@functools.lru_cache(4)
def made(family):
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of Swin's about masks
        model, inputs = family.make()
    draw = np.random.default_rng(0)
    for variable in model.trainable_variables:
        name = variable.path.split("/")[-1]
        if name in ("bias", "beta"):
            variable.assign(np.zeros(variable.shape))
        elif len(variable.shape) > 1:
            variable.assign(draw.normal(0, 0.6 / np.sqrt(variable.shape[-1]), variable.shape))
    return model, inputs


def first(inputs):
    return tree.map_structure(lambda array: array[:1], inputs)


@pytest.mark.parametrize("family", CASES)
def test_weights_of_every_attention(family):
    model, inputs = made(family)
    before = [value_of(one) for one in tree.flatten(model(inputs, training=False))]
    maps = vis.attention_maps(model, inputs)
    count = len(tree.flatten(inputs)[0])
    assert len(maps) == family.count
    assert next(iter(maps.values())).shape == (count, *family.shape)
    for weights in maps.values():
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    after = [value_of(one) for one in tree.flatten(model(inputs, training=False))]
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
    alone = vis.attention_maps(model, first(inputs))
    for name, weights in alone.items():
        np.testing.assert_allclose(weights[0], maps[name][0], atol=1e-5)


@pytest.mark.parametrize("family", CASES)
def test_scores_are_the_same_with_attention_taken_apart(family):
    """The gradients of the weights come with the scores of the model as it is."""
    model, inputs = made(family)
    explainer = vis.AttentionRelevance(model, logits=False)
    task = explainer.evaluator.task(inputs, family.target)
    from vis.engine.attention import attentions
    from vis.engine.requests import SCORES, gradients_at

    found = attentions(model, explainer.evaluator.network, task.batch)
    known = task.map(SCORES)["score"]
    try:
        got = task.map(gradients_at(*(one.site for one in found)))["score"]
    except vis.engine.network.NoGradientError:
        pytest.skip("not every attention matters for this score")
    np.testing.assert_allclose(got, known, atol=1e-5 * max(np.abs(known).max(), 1))


@pytest.mark.parametrize("family", CASES)
def test_relevance_of_tokens(family):
    model, inputs = made(family)
    explainer = vis.AttentionRelevance(model)
    if isinstance(family.relevance, str):
        with pytest.raises(ValueError, match=family.relevance) as caught:
            explainer(inputs, family.target)
        assert len(str(caught.value)) < 400
        return
    if family.make == hub.clip:  # pictures and words: those of the words, whose attention runs first
        explainer = vis.AttentionRelevance(model, layer=next(iter(vis.attention_maps(model, inputs))))
    maps = explainer(inputs, family.target)
    assert maps.shape[1:] == family.relevance and maps.min() >= 0 and maps.max() > 0


@pytest.mark.parametrize("family", [case for case in CASES if case.values[0].conserves])
def test_relevance_is_conserved_at_the_embedding(family):
    """CP-LRP without biases: gates, RMS normalisations, rotary positions, grouped queries and windows lose nothing."""
    model, inputs = made(family)
    relevance = vis.LRP(model, "attention-cp", input_layer="tokens")(inputs, pooled)
    scores = value_of(pooled(model(inputs, training=False)))
    assert np.abs(scores).min() > 1e-4
    np.testing.assert_allclose(relevance.sum(axis=(1, 2)), scores, rtol=1e-3, atol=1e-4 * np.abs(scores).max())


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("rules", ["attention", "attention-cp"])
def test_relevance_by_rules(rules, family):
    """It is there, finite, and of each sample by itself."""
    if family.make in (hub.clip, hub.siglip, hub.sam):
        pytest.skip("several kinds of inputs; see the zoo")
    model, inputs = made(family)
    floats = [array for array in tree.flatten(inputs) if array.dtype.kind == "f"]
    several = family.make in (hub.t5, hub.bart, hub.whisper, hub.whisper_short)
    layer = None if floats and not several else "tokens"
    if several:
        pytest.skip("two token embeddings, or one that is shared: `input_layer` names it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vis.utils.validation.VisualizationWarning)
        explainer = vis.LRP(model, rules, input_layer=layer)
        whole = tree.flatten(explainer(inputs, family.target))[0]
        alone = tree.flatten(explainer(first(inputs), family.target))[0]
    assert np.abs(whole).max() > 0
    np.testing.assert_allclose(alone[0], whole[0], atol=2e-4 * np.abs(whole[0]).max())


@pytest.mark.parametrize("make", slow(hub.deit, hub.gpt_neo_x))
def test_all_code_is_read(make):
    model, inputs = made(next(one for one in FAMILIES if one.make is make))
    explainer = vis.LRP(model, "attention-cp", input_layer=None if make is hub.deit else "tokens")
    assert "none" not in {rule for *_, rule in explainer.rules(inputs)}


@pytest.mark.parametrize("make", slow(hub.d_fine))
def test_the_head_of_a_detector_is_no_attention(make):
    names = list(vis.attention_maps(*make()))
    assert [name.split("/")[-1] for name in names] == ["self_attn", "self_attn"]
