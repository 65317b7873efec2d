"""TCAV: shares and p values against slow second versions, chance and planted concepts, and what is refused."""

import pickle

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers

from vis.concepts import TCAV
from vis.concepts.tcav import direction, rank_p
from vis.utils.validation import VisualizationWarning

pytest.importorskip("sklearn")
stats = pytest.importorskip("scipy.stats")

SIZE = 12


def noise(count, seed=0):
    """Images of grey noise."""
    grey = np.random.default_rng(seed).random((count, SIZE, SIZE, 1))
    return np.repeat(grey, 3, axis=-1).astype("float32")


def patched(count, channel, seed=0):
    """The same with a patch in one colour, anywhere."""
    images, draw = noise(count, seed), np.random.default_rng(seed)
    for image in images:
        top, left = draw.integers(0, SIZE - 4, 2)
        image[top : top + 4, left : left + 4] = np.eye(3)[channel]
    return images


@pytest.fixture(scope="module")
def model():
    """Channels for red, green, blue and brightness; class 0 likes red, class 1 hates green, blue does nothing."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 1, activation="relu", name="conv", data_format="channels_last")(inputs)
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    built = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    kernel = np.array([[1, -0.5, -0.5, 0.3], [-0.5, 1, -0.5, 0.3], [-0.5, -0.5, 1, 0.3]])
    built.set_weights([kernel[None, None], np.zeros(4), np.array([[2.0, 0], [0, -2], [0, 0], [0.1, 0.1]]), np.zeros(2)])
    return built


@pytest.fixture(scope="module")
def tested(model):
    concepts = {"red": patched(10, 0, 1), "green": patched(10, 1, 2), "nothing": noise(10, 3)}
    return TCAV(model, "conv", concepts, noise(600, 4)).fit()


def by_name(records):
    return {record["concept"]: record for record in records}


def test_planted_concepts_are_significant_and_others_are_not(tested):
    first, second = (by_name(tested(noise(6, 9), target)) for target in (0, 1))
    assert first["red"]["significant"] and first["red"]["score"] > 0.99 and first["red"]["p"] == pytest.approx(1 / 61)
    assert second["green"]["significant"] and second["green"]["score"] < 0.01 and second["green"]["rise"] < 0
    assert not first["nothing"]["significant"] and not second["nothing"]["significant"]
    assert first["red"]["accuracy"] > 0.95 and 0.2 < first["nothing"]["accuracy"] < 0.8
    assert first["red"]["sets"] == 60
    rises = first["red"]["random_rises"]
    assert len(rises) == 60 and np.mean(rises) == pytest.approx(0, abs=1e-6) and max(rises) < first["red"]["rise"]


def test_a_layer_that_knows_a_concept_need_not_use_it(model):
    weights = model.get_weights()
    built = keras.models.clone_model(model)
    built.set_weights([*weights[:2], np.array([[2.0, 0], [0, -2], [0, 0], [0, 0]]), weights[3]])
    found = by_name(TCAV(built, "conv", {"blue": patched(10, 2, 1)}, noise(300, 4)).fit()(noise(3, 9), 0))["blue"]
    assert found["accuracy"] > 0.95 and found["rise"] == 0 and found["p"] == 1 and not found["significant"]


def test_p_is_uniform_for_random_concepts(model, monkeypatch):
    """Kolmogorov-Smirnov; p is one of 1/20 ... 20/20, and a number drawn below it makes it continuous."""
    monkeypatch.setattr("vis.concepts.tcav.told_apart", lambda one, other: 0.5)  # which takes most of the time
    draw, values = np.random.default_rng(0), []
    for seed in range(40):
        concepts = {str(i): noise(8, 1000 + 5 * seed + i) for i in range(5)}
        with pytest.warns(VisualizationWarning, match="No concept can be significant with 19 random sets"):
            found = TCAV(model, "conv", concepts, noise(19 * 8, 5000 + seed)).fit()
        values.append([record["p"] for record in found(noise(3, seed), 0)])
    each = np.array(values) - draw.random((40, 5)) / 20
    assert stats.kstest(each[:, 0], "uniform").pvalue > 0.05  # those of one pool are not independent
    assert stats.kstest(each.ravel(), "uniform").pvalue > 0.01
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_p_by_loops(rng):
    scores = rng.normal(size=9)
    far = [abs(one - sum(scores) / 9) for one in scores]
    assert rank_p(scores) == sum(one >= far[0] for one in far) / 9
    assert rank_p(np.array([5.0, 0, 0.1, 0.2])) == 1 / 4 and rank_p(np.zeros(4)) == 1


def test_shares_and_rises_by_finite_differences(rng):
    """Of a network with curvature: by differences of the score along each vector, for all positions at once."""
    network, size = small_cnn(), 6
    concept, pool, inputs = (rng.random((n, 9, 7, 3)).astype("float32") for n in (size, 3 * size, 4))
    with pytest.warns(VisualizationWarning, match="at least 20 sets"):
        found = TCAV(network, "conv2", {"a": concept}, pool, seed=3).fit()
    (record,) = found(inputs, 1)

    values = keras.Model(network.inputs, network.get_layer("conv2").output)
    rest_input = keras.Input(values.output_shape[1:])
    x, after = rest_input, False
    for layer in network.layers:
        x = layer(x) if after and layer.name != "softmax" else x
        after = after or layer.name == "conv2"
    rest = keras.Model(rest_input, x)
    logits = network.layers[-1].activation is keras.activations.linear

    def scores(at):
        out = value_of(rest(at.astype("float32"))).astype("float64")[:, 1]
        return out if logits else np.log(out)

    def means(images):
        return value_of(values(images)).astype("float64").mean(axis=(1, 2))

    order = np.random.default_rng(3).permutation(len(pool))
    sets = np.split(means(pool)[order], 3)
    at, step = value_of(values(inputs)), 1e-2
    if logits:
        expected = []
        for one in sets:
            vector = direction(means(concept), one)
            expected.append(np.mean(scores(at + step * vector) > scores(at - step * vector)))
        assert record["score"] == pytest.approx(np.mean(expected))
        line = means(concept).mean(axis=0) - np.mean([one.mean(axis=0) for one in sets], axis=0)
        rise = np.mean((scores(at + step * line) - scores(at - step * line)) / (2 * step))
        assert record["rise"] == pytest.approx(rise, rel=0.02)


def test_directions_are_those_of_ridge_regression(rng):
    one, other = rng.normal(1, 1, (7, 3)), rng.normal(0, 1, (5, 3))
    samples, sides = np.concatenate([one, other]), np.array([1.0] * 7 + [-1.0] * 5)
    centred = samples - samples.mean(axis=0)
    strength = 1e-2 * (centred**2).sum() / 12
    expected = np.linalg.solve(centred.T @ centred + strength * np.eye(3), centred.T @ (sides - sides.mean()))
    np.testing.assert_allclose(direction(one, other), expected / np.linalg.norm(expected), atol=1e-9)
    np.testing.assert_array_equal(direction(np.ones((3, 2)), np.ones((3, 2))), [0, 0])


def test_a_dense_layer_and_a_data_set(model):
    images, pool = patched(10, 0, 1), noise(300, 4)
    whole = TCAV(model, "pool", {"red": images}, pool).fit()(noise(3), 0)
    parts = TCAV(model, "pool", {"red": iter([images[:6], images[6:]])}, [pool[:100], pool[100:]]).fit()(noise(3), 0)
    at_conv = TCAV(model, "conv", {"red": images}, pool).fit()(noise(3), 0)
    for record, other, third in zip(whole, parts, at_conv):
        for key in ("score", "rise", "p", "accuracy", "random_rises"):
            assert record[key] == pytest.approx(other[key], rel=1e-3, abs=1e-6)
        assert record["p"] == third["p"]
        assert record["rise"] == pytest.approx(third["rise"], rel=1e-4)


def test_it_pickles_is_seeded_and_changes_nothing(model):
    images, pool = patched(10, 0, 1), noise(205, 4)
    before = model.get_weights(), images.copy(), pool.copy()
    found = TCAV(model, "conv", {"red": images}, pool, seed=5).fit()
    again = TCAV(model, "conv", {"red": images}, pool, seed=5).fit()
    copy = pickle.loads(pickle.dumps(found))
    expected = found(noise(3), 0)
    assert again(noise(3), 0) == expected and copy(noise(3), 0)[0]["p"] == expected[0]["p"]
    assert found.fit() is found
    vector = found.vector("red")
    assert vector.shape == (4,) and np.linalg.norm(vector) == pytest.approx(1, rel=1e-5) and vector[0] > 0.5
    for old, new in zip(before[0], model.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before[1], images)
    np.testing.assert_array_equal(before[2], pool)


def test_records_and_figure(tested):
    records = tested(noise(4, 9), 0)
    lines = str(records).splitlines()
    assert len(lines) == 4 and lines[0].split()[:2] == ["concept", "score"] and "yes" in lines[1]
    assert "random" not in lines[0]
    axis = tested.figure(records).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["red", "green", "nothing"]
    points = [mark.get_offsets() for mark in axis.collections]
    np.testing.assert_allclose([one[0, 0] for one in points[1::2]], [record["rise"] for record in records])
    np.testing.assert_allclose(points[0][:, 0], records[0]["random_rises"])
    filled = [len(mark.get_facecolor()) > 0 for mark in axis.collections[1::2]]
    assert filled == [record["significant"] for record in records] == [True, filled[1], False]


@pytest.mark.parametrize(
    "concepts, random, error, words",
    [
        ({}, noise(40), TypeError, "`concepts` must be a dict"),
        (noise(10), noise(40), TypeError, "`concepts` must be a dict"),
        ({"a": noise(1)}, noise(40), ValueError, "needs at least 2 examples.*Received: 1 examples and 40 random"),
        ({"a": noise(10)}, noise(19), ValueError, "twice as many inputs, to make several sets.*19 random inputs"),
        ({"a": "photos/stripes"}, noise(40), TypeError, "Received: the path 'photos/stripes'. Read it first"),
        ({"a": iter([])}, noise(40), ValueError, "at least one batch. Received: a data set without any"),
        ({"a": noise(0)}, noise(40), ValueError, "at least one"),
        ({"a": noise(10)[..., :1]}, noise(40), ValueError, "shape"),
    ],
)
def test_bad_examples(model, concepts, random, error, words):
    with pytest.raises(error, match=words) as caught:
        TCAV(model, "conv", concepts, random).fit()
    assert len(str(caught.value)) < 400


def test_bad_questions(model, tested, monkeypatch):
    with pytest.raises(ValueError, match=r"must be fitted before"):
        TCAV(model, "conv", {"a": noise(4)}, noise(9))(noise(1))
    with pytest.raises(ValueError, match="no concept 'rad'. Choose from 'red', 'green'"):
        tested.vector("rad")
    with pytest.raises(ValueError, match="2 units|0 to 1"):
        tested(noise(1), 7)
    monkeypatch.setattr("vis.concepts.tcav.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="scikit-learn, which is not installed"):
        TCAV(model, "conv", {"a": noise(4)}, noise(9)).fit()
