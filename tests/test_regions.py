"""XRAI: the greedy growth written a second time from the paper, and compared with the authors' package."""

import builtins

import keras
import numpy as np
import pytest
from conftest import small_cnn
from keras import layers
from test_formulas import Twin, close

import vis
from vis.methods.regions import felzenszwalb_masks, ranked

SPATIAL = (9, 7)


def drawn(*shape, seed=3):
    return np.random.default_rng(seed).normal(0.2, 0.8, shape).astype("float32")


def grown(share, masks, least):
    """Kapishnikov et al. 2019, algorithm 1, mask by mask."""
    region, found, left = np.zeros(share.shape, bool), np.zeros(share.shape), list(masks)
    while True:
        left = [mask for mask in left if (mask & ~region).sum() >= least]
        if not left:
            break
        best = max(left, key=lambda mask: share[mask & ~region].mean())
        found[best & ~region] = share[best & ~region].mean()
        region |= best
    if not region.all():
        found[~region] = share[~region].mean()
    return found


@pytest.mark.parametrize("least", [1, 4, 1000])
def test_the_region_grows_by_the_best_segment(least):
    draw = np.random.default_rng(1)
    for _ in range(20):
        share, masks = draw.normal(size=SPATIAL), draw.random((12, *SPATIAL)) < 0.3
        got = ranked(share, masks.reshape(12, -1), least)
        np.testing.assert_allclose(got, grown(share, masks, least), rtol=1e-5, atol=1e-6)


def test_the_map_is_as_much_as_the_attributions():
    share = drawn(*SPATIAL)
    masks = np.random.default_rng(1).random((12, 63)) < 0.2
    np.testing.assert_allclose(ranked(share, masks, 3).sum(), share.sum(), rtol=1e-4)


def test_by_hand():
    share = np.array([[5.0, 1.0, 0.0], [-1.0, 0.0, 4.0]])
    masks = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 1]], [[1, 0, 0], [1, 0, 0]]], bool)
    # The first has mean 3; of what is left the second has 2, the third -1; nobody takes the one in the middle.
    expected = [[3, 3, 2], [-1, 0, 2]]
    np.testing.assert_allclose(ranked(share, masks.reshape(3, -1), 1), expected)


def attributions(twin, x, index, baselines, steps=400):
    """Returns integrated gradients by the midpoint rule, averaged over baselines, the highest over the channels."""
    found = []
    for start in baselines:
        ways = [(k + 0.5) / steps for k in range(steps)]
        gradients = [twin.gradients(start + way * (x - start), index)["input"] for way in ways[:: steps // 20]]
        found.append((x - start) * np.mean(gradients, axis=0))
    return np.mean(found, axis=0).max(axis=-1)


def test_xrai():
    model, images = small_cnn(activation="softplus"), drawn(3, 9, 7, 3).astype("float64")
    twin, labels = Twin(model, "softplus"), np.arange(63).reshape(SPATIAL) // 8
    masks = [labels == one for one in range(8)]
    slow = []
    for x, c in zip(images, [1, 0, 2]):
        baselines = [np.full_like(x, x.min()), np.full_like(x, x.max())]
        slow.append(grown(attributions(twin, x, c, baselines), masks, 1))
    close(vis.XRAI(model, labels)(images, [1, 0, 2]), slow, 5e-2)
    close(vis.XRAI(model, np.stack(masks))(images, [1, 0, 2]), vis.XRAI(model, labels)(images, [1, 0, 2]), 1e-6)


def test_segments_of_each_sample():
    model, x = small_cnn(), drawn(3, 9, 7, 3)
    labels = np.random.default_rng(2).integers(0, 5, (3, *SPATIAL))
    got = vis.XRAI(model, labels)(x, 1)
    for i in range(3):
        np.testing.assert_allclose(got[i], vis.XRAI(model, labels[i])(x[i : i + 1], 1)[0], rtol=1e-4, atol=1e-6)


def test_segments_of_each_position_are_the_attributions():
    model, x = small_cnn(), drawn(2, 9, 7, 3)
    got = vis.XRAI(model, np.arange(63).reshape(SPATIAL), baseline=0.0)(x, 1)
    close(got, vis.IntegratedGradients(model, baseline=0.0)(x, 1).max(axis=-1), 1e-5)


def test_signals_and_volumes_need_segments():
    signal = keras.Sequential([keras.Input((12, 2)), layers.Flatten(), layers.Dense(2)])
    volume = keras.Sequential([keras.Input((3, 4, 5, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`segments` must be given.*no image with two spatial axes.*\(12,\)"):
        vis.XRAI(signal)(drawn(1, 12, 2), 1)
    with pytest.raises(ValueError, match=r"`segments` must be given.*\(3, 4, 5\)"):
        vis.XRAI(volume)(drawn(1, 3, 4, 5, 1), 1)
    assert len(np.unique(vis.XRAI(signal, np.arange(12) // 4)(drawn(1, 12, 2), 1))) == 3
    assert vis.XRAI(volume, np.arange(60).reshape(3, 4, 5) // 20)(drawn(1, 3, 4, 5, 1), 1).shape == (1, 3, 4, 5)


WRONG = [
    (np.zeros((7, 9), int), r"`segments` must have the shape of the positions, \(9, 7\).*Received: \(7, 9\)"),
    (np.zeros((2, 9, 7), int), r"or \(3, 9, 7\) with a row for each sample. Received: \(2, 9, 7\)"),
    (np.zeros((4, 7, 9), bool), r"`segments` as masks must have the shape \(segments, 9, 7\)"),
    (np.zeros((9, 7)), r"whole numbers from 0 on.*Received: float64.*astype\(int\)"),
    (np.full((9, 7), -1), "least value -1"),
    (np.zeros((0, 7), int), r"Received: int64, shape \(0, 7\)"),
    ("slic", "whole numbers from 0 on"),
]


@pytest.mark.parametrize("segments, message", WRONG)
def test_segments_that_do_not_fit(segments, message):
    with pytest.raises(ValueError, match=message):
        vis.XRAI(small_cnn(), segments)(drawn(3, 9, 7, 3), 1)


def test_inputs_without_a_gradient_are_refused():
    ids, numbers = keras.Input((9, 4), dtype="int32"), keras.Input((2,))
    flat = layers.Flatten()(layers.Embedding(5, 2)(ids))
    model = keras.Model([ids, numbers], layers.Dense(2)(layers.Concatenate()([flat, numbers])))
    with pytest.raises(ValueError, match="whole numbers, which have no gradient.*`input_name=`"):
        vis.XRAI(model, np.arange(9))([np.ones((1, 9, 4), int), np.ones((1, 2))], 1)


def test_without_scikit_image_the_package_is_named(monkeypatch):
    own = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("skimage"):
            raise ImportError(name)
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        ImportError, match=r"scikit-image, which is not installed.*`pip install scikit-image`, or give `segments=`"
    ):
        vis.XRAI(small_cnn())(drawn(1, 9, 7, 3), 1)


# --- with scikit-image


def photograph(size=(224, 224)):
    """Draws coloured discs on a slope of grey."""
    rows, columns = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    image = np.repeat((0.2 + 0.3 * rows)[..., None], 3, axis=-1)
    for y, x, radius, colour in [(0.3, 0.3, 0.2, (1, 0, 0)), (0.6, 0.7, 0.15, (0, 1, 0)), (0.8, 0.2, 0.1, (0, 0, 1))]:
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = colour
    return image.astype("float32")


@pytest.mark.parametrize("size", [(224, 224), (112, 150), (28, 28)])
def test_the_segments_find_what_is_there(size):
    pytest.importorskip("skimage")
    image = photograph(size)
    masks, least = felzenszwalb_masks(image)
    masks = masks.reshape(-1, *size)
    assert masks.any(axis=0).all() and least == max(1, round(50 * size[0] * size[1] / 224**2))
    red = (image[..., 0] == 1) & (image[..., 1] == 0)
    overlaps = (masks & red).sum(axis=(1, 2)) / (masks | red).sum(axis=(1, 2))
    assert overlaps.max() > 0.7


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 1), (28, 28, 1), (30, 40, 4)])
def test_any_image_has_segments(shape):
    pytest.importorskip("skimage")
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(2)])
    for x in (drawn(1, *shape), np.full((1, *shape), 0.5)):
        assert vis.XRAI(model, steps=2)(x, 1).shape == (1, *shape[:2])


def by_colour():
    """Sees where it is red rather than green."""
    model = keras.Sequential([keras.Input((224, 224, 3)), layers.Conv2D(1, 1), layers.GlobalAveragePooling2D()])
    model.set_weights([np.array([1.0, -1.0, 0.0]).reshape(1, 1, 3, 1), np.zeros(1)])
    return model


def test_what_the_network_sees_is_found():
    pytest.importorskip("skimage")
    image = photograph()
    got = vis.XRAI(by_colour(), steps=1, baseline=0.0)(image[None])[0]
    red, green = (image[..., c] == 1 for c in (0, 1))
    others = ~red & ~green
    assert got[red & (np.roll(red, 9, 0) & np.roll(red, -9, 0))].min() > got[others].mean() + 1e-6
    assert got[red].mean() > 2 * np.abs(got[others]).mean()  # of red and green in grey, the red counts: the highest


def test_xrai_is_the_authors():
    core = pytest.importorskip("saliency.core")
    image = photograph()
    share = np.repeat(drawn(224, 224, 1, seed=5) + 3 * image[..., :1], 3, axis=-1)
    expected = core.XRAI().GetMask(image, None, base_attribution=share)
    masks, least = felzenszwalb_masks(image)
    got = ranked(share[..., 0], masks, least)
    # The authors resample an image of 224 pixels once more, which changes some segments.
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.98
    labels = np.arange(224 * 224).reshape(224, 224) // 500
    own = core.XRAI().GetMask(image, None, segments=[labels == i for i in range(101)], base_attribution=share)
    masks = np.unique(labels)[:, None] == labels.reshape(-1)
    np.testing.assert_allclose(ranked(share[..., 0], masks, 50), own, rtol=1e-4, atol=1e-5)
