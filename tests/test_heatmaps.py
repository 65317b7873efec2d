"""From attributions to maps that can be drawn."""

import numpy as np
import pytest

import vis
from vis.utils.validation import VisualizationWarning

# One sample, 2x2, two channels: strong and negative, then weak and positive.
ONE = np.array([[[[-4.0, 1.0], [2.0, 0.5]], [[0.0, 0.0], [1.0, -1.5]]]])


@pytest.mark.parametrize(
    "sign, reduce, expected",
    [
        ("absolute", "max", [[4.0, 2.0], [0.0, 1.5]]),
        ("positive", "max", [[1.0, 2.0], [0.0, 1.0]]),
        ("negative", "max", [[4.0, 0.0], [0.0, 1.5]]),
        ("signed", "max", [[-4.0, 2.0], [0.0, -1.5]]),
        ("signed", "sum", [[-3.0, 2.5], [0.0, -0.5]]),
        ("absolute", "mean", [[2.5, 1.25], [0.0, 1.25]]),
        ("absolute", "norm", [[17**0.5, 4.25**0.5], [0.0, 3.25**0.5]]),
    ],
)
def test_signs_and_reductions(sign, reduce, expected):
    got = vis.heatmap(ONE, reduce=reduce, sign=sign, percentile=100)
    np.testing.assert_allclose(got[0], np.array(expected) / np.abs(expected).max(), rtol=1e-6)
    assert got.dtype == "float32"


def test_every_sample_is_scaled_by_itself():
    two = np.concatenate([ONE, 8 * ONE])
    first, second = vis.heatmap(two)
    np.testing.assert_array_equal(first, second)


def test_what_is_above_the_percentile_is_clipped():
    line = np.arange(1, 102, dtype="float32")[None]
    got = vis.heatmap(line, percentile=50)
    np.testing.assert_allclose(got[0, :51], np.arange(1, 52) / 51, rtol=1e-6)
    np.testing.assert_array_equal(got[0, 51:], 1)
    signed = vis.heatmap(-line, percentile=50, sign="signed")
    np.testing.assert_allclose(signed, -got)


def test_a_few_strong_places_among_zeros_stay_visible():
    sparse = np.zeros((1, 50, 50))
    sparse[0, 3, 4] = 5.0
    assert vis.heatmap(sparse)[0, 3, 4] == 1


@pytest.mark.parametrize(
    "shape, axis, expected",
    [
        ((2, 5, 6, 3), "auto", (2, 5, 6)),
        ((2, 5, 6), "auto", (2, 5, 6)),
        ((2, 50, 2), "auto", (2, 50)),
        ((2, 3, 3), "auto", (2, 3, 3)),
        ((2, 5, 6, 7, 1), "auto", (2, 5, 6, 7)),
        ((2, 5), "auto", (2, 5)),
        ((2, 5, 6, 7), None, (2, 5, 6, 7)),
        ((2, 50, 12), -1, (2, 50)),
        ((2, 3, 5, 6), 1, (2, 5, 6)),
    ],
)
def test_where_the_channels_are(shape, axis, expected):
    values = np.random.default_rng(0).normal(size=shape)
    got = vis.heatmap(values, channel_axis=axis, percentile=100)
    assert got.shape == expected
    if len(expected) < len(shape):
        strongest = np.abs(values).max(axis=-1 if axis == "auto" else axis)
        scale = strongest.reshape(2, -1).max(axis=1).reshape(2, *[1] * (len(expected) - 1))
        np.testing.assert_allclose(got, strongest / scale, rtol=1e-5)


@pytest.mark.parametrize(
    "shape, words", [((2, 3, 8, 9), "channel_axis=1"), ((2, 6, 7, 8), "None"), ((2, 5, 6, 16), "-1")]
)
def test_a_guess_of_many_channels_is_said(shape, words):
    """A volume's class activation maps, channels first, and many channels look alike."""
    values = np.random.default_rng(0).normal(size=shape)
    with pytest.warns(VisualizationWarning, match=rf"last axis.*of {shape[-1]}.*channel_axis.*{words}"):
        vis.heatmap(values)
    for axis in (None, -1, 1):
        vis.heatmap(values, channel_axis=axis)  # said: no warning


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_flat_map_becomes_zeros_and_says_why(value):
    maps = np.concatenate([np.full((1, 4, 5), value), np.random.default_rng(0).random((1, 4, 5))])
    with pytest.warns(VisualizationWarning, match="sample 0 is flat.*softmax"):
        got = vis.heatmap(maps)
    assert not got[0].any() and got[1].max() == 1


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (28, 28, 1), (224, 224, 3), (240, 320, 3), (320, 160, 1)], ids=str)
def test_one_image_without_its_batch_axis_is_refused(shape):
    values = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(ValueError, match=r"batch axis first.*looks like one image.*`maps\[:1\]`") as caught:
        vis.heatmap(values)
    assert len(str(caught.value)) < 400
    assert vis.heatmap(values[None]).shape == (1, *shape[:2])


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((28, 20), (28, 20)),  # vectors
        ((7, 7), (7, 7)),
        ((2, 100), (2, 100)),
        ((32, 128, 3), (32, 128)),  # signals
        ((6, 28, 3), (6, 28)),
        ((28, 28, 28), (28, 28, 28)),  # maps of images
        ((28, 28, 28, 3), (28, 28, 28)),
        ((3, 224, 224), (3, 224, 224)),
    ],
)
def test_batches_are_taken(shape, expected):
    assert vis.heatmap(np.random.default_rng(0).normal(size=shape)).shape == expected


@pytest.mark.parametrize("shape, axis", [((16, 16), None), ((16, 16, 3), -1), ((16, 16, 3), None)])
def test_who_says_where_the_channels_are_says_that_it_is_a_batch(shape, axis):
    values = np.random.default_rng(0).normal(size=shape)
    assert len(vis.heatmap(values, channel_axis=axis)) == 16


def test_the_attributions_are_not_changed():
    values = ONE.copy()
    vis.heatmap(values)
    np.testing.assert_array_equal(values, ONE)
