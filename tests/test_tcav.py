"""TCAV: shares and p values against slow second versions, chance and planted concepts, and what is refused."""

import pickle
import tracemalloc

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers

import vis
from vis.concepts import TCAV
from vis.concepts.activations import LayerReader
from vis.concepts.tcav import direction, mean_scores, rank_p, shares
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


def only_p(monkeypatch):
    """Leaves out what p does not need, which takes most of the time."""
    monkeypatch.setattr("vis.concepts.tcav.told_apart", lambda one, other: 0.5)
    monkeypatch.setattr("vis.concepts.tcav.direction", lambda one, other: np.zeros(one.shape[1]))


def curved(model):
    """The same channels, with a layer of ReLUs before the scores."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = model.get_layer("pool")(model.get_layer("conv")(inputs))
    built = keras.Model(inputs, layers.Dense(2)(layers.Dense(3, activation="relu")(x)))
    hidden = np.array([[3.0, -1, 0], [0, 2, 0], [0, 0, 1], [0, 0, 1]]), np.array([-0.1, 0.2, 0])
    built.set_weights([*model.get_weights()[:2], *hidden, np.array([[2.0, 0], [-1, 1], [0.2, 0.2]]), np.zeros(2)])
    return built


@pytest.mark.parametrize("names, sets", [(("red",), 20), (("red", "green"), 40), (("red", "green", "nothing"), 60)])
def test_a_planted_concept_is_found_with_the_fewest_sets(model, monkeypatch, names, sets):
    """With 20 random sets for each concept, p must be the least possible; also if half of the examples have it."""
    only_p(monkeypatch)
    built, colours = curved(model), {"red": 0, "green": 1}
    for seed in range(5):
        half = {
            name: np.concatenate([patched(5, colours[name], seed), noise(5, seed + 60)])
            if name in colours
            else noise(10)
            for name in names
        }
        found = by_name(TCAV(built, "conv", half, noise(10 * sets, 100 + seed)).fit()(patched(6, 0, 200 + seed), 0))
        assert [found[name]["p"] for name in names if name in colours] == [1 / (sets + 1)] * len(
            set(names) - {"nothing"}
        )
        assert all(found[name]["significant"] == (name in colours) for name in names)


def by_ridge(one, other):
    """The direction from one set of samples to another, by the normal equations."""
    samples, sides = np.concatenate([one, other]), np.repeat([1.0, -1.0], [len(one), len(other)])
    centred = samples - samples.mean(axis=0)
    strength = 1e-2 * (centred**2).sum() / len(samples)
    inner = centred.T @ centred + strength * np.eye(samples.shape[1])
    found = np.linalg.solve(inner, centred.T @ (sides - sides.mean()))
    return found / np.linalg.norm(found)


def test_the_t_test_of_the_paper_is_not_uniform(rng):
    """Kim et al. 2018, section 3.4: p of random concepts is far too often below 0.05; that by rank is not."""
    gradients = rng.normal(0.3, 1, (30, 8))
    by_t, by_rank = [], []
    for _ in range(100):
        concept, *sets = rng.normal(size=(41, 10, 8))
        own = shares(gradients, np.stack([by_ridge(concept, one) for one in sets[:20]]))
        other = shares(gradients, np.stack([by_ridge(one, two) for one, two in zip(sets[:20], sets[20:])]))
        by_t.append(stats.ttest_ind(own, other).pvalue)
        by_rank.append(rank_p(mean_scores(gradients, np.stack([one.mean(axis=0) for one in (concept, *sets)]))))
    assert np.mean(np.array(by_t) < 0.05) > 0.25
    assert np.mean(np.array(by_rank) < 0.05) < 0.12


def test_p_is_uniform_for_random_concepts(model, monkeypatch):
    """Kolmogorov-Smirnov; p is one of 1/20 ... 20/20, and a number drawn below it makes it continuous."""
    only_p(monkeypatch)
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

    values = keras.Model(network.input, network.get_layer("conv2").output)
    rest_input = keras.Input(values.output_shape[1:])
    x, after = rest_input, False
    for layer in network.layers:
        x = layer(x) if after else x
        after = after or layer.name == "conv2"
    rest = keras.Model(rest_input, x)

    def scores(at):
        return value_of(rest(at.astype("float32"))).astype("float64")[:, 1]

    def means(images):
        return value_of(values(images)).astype("float64").mean(axis=(1, 2))

    order = np.random.default_rng(3).permutation(len(pool))
    sets = np.split(means(pool)[order], 3)
    at, step, expected = value_of(values(inputs)), 1e-2, []
    for one in sets:
        vector = by_ridge(means(concept), one)
        expected.append(np.mean(scores(at + step * vector) > scores(at - step * vector)))
    assert record["score"] == pytest.approx(np.mean(expected))
    line = means(concept).mean(axis=0) - np.mean([one.mean(axis=0) for one in sets], axis=0)
    rise = np.mean((scores(at + step * line) - scores(at - step * line)) / (2 * step))
    assert record["rise"] == pytest.approx(rise, rel=0.02)


def test_directions_are_those_of_ridge_regression(rng):
    one, other = rng.normal(1, 1, (7, 3)), rng.normal(0, 1, (5, 3))
    np.testing.assert_allclose(direction(one, other), by_ridge(one, other), atol=1e-9)
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
    shares_axis, axis = tested.figure(records).axes
    assert [label.get_text() for label in shares_axis.get_yticklabels()] == ["red", "green", "nothing"]
    np.testing.assert_allclose([bar.get_width() for bar in shares_axis.patches], [one["score"] for one in records])
    np.testing.assert_allclose(shares_axis.lines[1].get_xdata(), [records[1]["low"], records[1]["high"]])
    points = [mark.get_offsets() for mark in axis.collections]
    np.testing.assert_allclose([one[0, 0] for one in points[1::2]], [record["rise"] for record in records])
    np.testing.assert_allclose(points[0][:, 0], records[0]["random_rises"])
    filled = [len(mark.get_facecolor()) > 0 for mark in axis.collections[1::2]]
    stars = [label.get_text().endswith("*") for label in axis.child_axes[0].get_yticklabels()]
    assert stars == filled == [record["significant"] for record in records] == [True, filled[1], False]
    for wrong in ("p", [], [{}]):
        with pytest.raises(TypeError, match="must be what a call of a `TCAV` returned"):
            tested.figure(wrong)


def test_several_inputs_and_lists_of_data_sets(model, rng):
    one, two = rng.random((60, 4)), rng.random((60, 3))
    given = [keras.Input((4,)), keras.Input((3,))]
    both = keras.Model(given, layers.Dense(2)(layers.Dense(5, name="mid")(layers.Concatenate()(given))))
    sets = [[one[10:35], two[10:35]], [one[35:], two[35:]]]
    records = []
    for random in ([one[10:], two[10:]], sets, iter(sets)):
        with pytest.warns(VisualizationWarning, match="5 random sets"):
            found = TCAV(both, "mid", {"a": [one[:10], two[:10]]}, random).fit()
        records.append(found([one[:3], two[:3]], 0)[0])
    for record in records[1:]:
        assert record["rise"] == pytest.approx(records[0]["rise"], rel=1e-4) and record["p"] == records[0]["p"]
    pool = noise(200, 4)
    parts = [iter([pool[:50], pool[50:100]]), iter([pool[100:]])]
    whole, listed = (TCAV(model, "pool", {"a": noise(10)}, one).fit()(noise(2), 0)[0] for one in (pool, parts))
    assert listed["rise"] == pytest.approx(whole["rise"], rel=1e-4, abs=1e-7) and listed["p"] == whole["p"]


def test_memory_is_that_of_a_batch():
    """Of 200 images, the layer puts out 65 MB, and its gradient is as large."""
    inputs = keras.Input((64, 64, 1))
    x = layers.Conv2D(20, 1, name="wide", data_format="channels_last")(inputs)
    x = layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    reader = LayerReader(keras.Model(inputs, layers.Dense(2)(x)), "wide")
    images = np.zeros((200, 64, 64, 1), "float32")
    for work in (lambda: reader.means(images, 8), lambda: reader.gradients(images, 0, 8)):
        work()
        tracemalloc.start()
        assert work().shape == (200, 20)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 2e7


@pytest.mark.parametrize(
    "concepts, random, error, words",
    [
        ({}, noise(40), TypeError, "`concepts` must be a dict"),
        (noise(10), noise(40), TypeError, "`concepts` must be a dict"),
        ({"a": noise(1)}, noise(40), ValueError, "needs at least 2 examples.*Received: 1 examples and 40 random"),
        ({"a": noise(10)}, noise(19), ValueError, "twice as many inputs, to make several sets.*19 random inputs"),
        ({"a": "photos/stripes"}, noise(40), TypeError, "Received: the path 'photos/stripes'. Read it first"),
        ({"a": iter([])}, noise(40), ValueError, "at least one batch. Received: a data set without any"),
        ({"a": noise(0)}, noise(40), ValueError, "Concept 'a': .*at least one"),
        ({"a": noise(10)[..., :1]}, noise(40), ValueError, "Concept 'a': .*shape"),
        ({"a": noise(10)}, noise(40)[:, 1:], ValueError, "`random`: .*shape"),
        ({"a": noise(10)}, [noise(10)], ValueError, "several sets of that size"),
        ({"a": noise(10)}, [], ValueError, "`random`: "),
        ({"a": noise(10)}, None, ValueError, "`random`: .*None"),
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


def test_layers_of_whole_numbers(rng):
    numbers = {"ids": rng.integers(0, 9, (63, 5)), "rows": rng.random((63, 5, 3))}
    for name, given in numbers.items():
        start = keras.Input(given.shape[1:], dtype="int32" if name == "ids" else "float32")
        whole = keras.layers.Lambda(lambda x: x if x.ndim == 2 else keras.ops.argmax(x, axis=-1), (5,), name="whole")
        vectors = keras.layers.Embedding(9, 4, name="vectors")(whole(start))
        model = keras.Model(start, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(vectors)))
        with pytest.raises(ValueError, match="does not depend on layer 'whole', so there is no gradient") as raised:
            TCAV(model, "whole", {"few": given[:3]}, given[3:]).fit()(given[:5], 1)
        assert len(str(raised.value)) < 400
        with pytest.raises(ValueError, match="does not depend on layer 'whole'"):
            vis.Saliency(model, input_layer="whole").targets(given[:5], [0, 1])
        assert TCAV(model, "vectors", {"few": given[:3]}, given[3:]).fit()(given[:5], 1)[0]["sets"] == 20
