"""Integrated gradients that choose their points: exact where a score bends once, complete elsewhere, said if not."""

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers

import vis
from vis.engine import quadrature
from vis.engine.quadrature import Way, corrected, gaps
from vis.utils.validation import VisualizationWarning


def test_weights_by_loops(rng):
    positions = np.array([0, 0.1, 0.4, 0.5, 1.0])
    scores, slopes = rng.normal(size=5), rng.normal(size=5) * 5
    slopes[1] = slopes[0]  # no bend: both ends weigh half
    scores[-1] = scores[0] + sum(np.diff(positions) * (slopes[1:] + slopes[:-1]) / 2) + 0.2
    turns = [(positions[i + 1] - positions[i]) * (slopes[i + 1] - slopes[i]) for i in range(4)]
    moved = np.linalg.lstsq(np.array([turns]), np.array([0.2]), rcond=None)[0]  # the least that gives the sum
    expected = np.zeros(5)
    for i in range(4):
        length = positions[i + 1] - positions[i]
        expected[i] += length * (0.5 - moved[i])
        expected[i + 1] += length * (0.5 + moved[i])
    weights, missing = corrected(positions, scores, slopes)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    assert abs(missing) < 1e-12 and abs(moved).max() < 0.5
    assert weights.sum() == pytest.approx(1) and weights @ slopes == pytest.approx(scores[-1] - scores[0])
    left = [scores[i + 1] - scores[i] - (positions[i + 1] - positions[i]) * slopes[i : i + 2].mean() for i in range(4)]
    np.testing.assert_allclose(gaps(positions, scores, slopes), left, atol=1e-12)


@pytest.mark.parametrize("gain", [50.0, -50.0])
def test_no_point_weighs_more_than_its_intervals_or_less_than_nothing(gain, rng):
    positions, slopes = np.array([0, 0.1, 0.4, 0.5, 1.0]), rng.normal(size=5)
    scores = np.r_[0, 0, 0, 0, gain]
    weights, missing = corrected(positions, scores, slopes)
    assert (weights >= 0).all() and (weights <= np.r_[0.1, 0.4, 0.4, 0.6, 0.5] + 1e-12).all()
    assert abs(missing) > 40 and weights @ slopes + missing == pytest.approx(gain)


def walked(score, contributions, tolerance=1e-3, most=200):
    """Returns what is seen of a score on its way, and the positions in their order."""
    way, order = Way(), []
    while len(wanted := way.wanted(tolerance, most)):
        for one in wanted:
            way.add(one, score(one), [np.array(contributions(one), "float64")])
            order.append(float(one))
    return way, order


def test_a_score_that_bends_once_is_exact():
    way, _ = walked(lambda t: abs(t - 0.37) + 2 * t, lambda t: [np.sign(t - 0.37), 2.0])
    total = way.integrals()[0]
    assert way.count == 9 and total == pytest.approx([0.63 - 0.37, 2], abs=1e-12) and way.off() < 1e-12


@pytest.mark.parametrize("score, slope", [(np.sin, np.cos), (lambda t: np.exp(5 * t), lambda t: 5 * np.exp(5 * t))])
def test_smooth_scores(score, slope):
    way, _ = walked(score, lambda t: [slope(t)])
    assert way.off() <= 1e-3 and way.integrals()[0][0] == pytest.approx(score(1) - score(0), rel=1e-3)


def test_how_far_the_integrals_may_be_by_loops(rng):
    way, seen = Way(), {}
    for one in (0.0, 0.25, 1.0):
        seen[one] = rng.random(), [rng.normal(size=(2, 3)), rng.normal(size=4)]
        way.add(one, *seen[one])
    squares = 0
    for first, last in [(0.0, 0.25), (0.25, 1.0)]:
        (score, arrays), (other, others) = seen[first], seen[last]
        apart = sum(abs(b - a) for one, two in zip(arrays, others) for a, b in zip(one.flat, two.flat))
        middle = sum(array.sum() for array in [*arrays, *others]) / 2
        squares += max((last - first) / 2 * apart, abs(other - score - (last - first) * middle)) ** 2
    size = sum(abs(array).sum() for array in way.integrals())
    assert way.far() == pytest.approx(np.sqrt(squares) / size)


def test_points_are_where_contributions_change_though_their_sum_does_not():
    def contributions(t):  # nothing of it is seen in the score
        return [1 + 9 * np.tanh(60 * (t - 0.2)), -9 * np.tanh(60 * (t - 0.2))]

    way, order = walked(lambda t: t, contributions)
    assert way.count > 9 and (abs(np.array(order[13:]) - 0.2) < 0.13).all()
    exact = 9 / 60 * (np.log(np.cosh(60 * 0.8)) - np.log(np.cosh(60 * 0.2)))
    assert abs(way.integrals()[0] - [1 + exact, -exact]).sum() <= quadrature.FAR * (1 + 2 * exact)
    assert way.far() <= quadrature.FAR


def test_points_are_where_the_scores_say_that_something_is_missing():
    def step(t):  # so steep that its points on both sides see nothing of it
        return np.tanh(400 * (t - 0.1)) + t

    way, order = walked(step, lambda t: [400 / np.cosh(np.clip(400 * (t - 0.1), -50, 50)) ** 2, 1.0])
    assert (abs(np.array([one for one in order[9:] if one < 0.2]) - 0.1) < 0.04).sum() > 2
    assert way.off() <= 1e-3 and way.integrals()[0].sum() == pytest.approx(step(1) - step(0), rel=2e-3)


def test_scores_that_are_equal_at_the_ends_are_measured_by_their_range():
    way, _ = walked(lambda t: np.sin(2 * np.pi * t), lambda t: [2 * np.pi * np.cos(2 * np.pi * t)])
    assert way.count < 100 and way.off() <= 1e-3 and abs(way.integrals()[0][0]) < 1e-3
    flat, _ = walked(lambda t: 1.0, lambda t: [0.0])
    assert flat.count == 9 and flat.off() == flat.far() == 0


def model_of(activation="relu"):
    keras.utils.set_random_seed(1)
    dense = [layers.Dense(16, activation=activation, bias_initializer="random_normal") for _ in range(3)]
    return keras.Sequential([keras.Input((6,)), *dense, layers.Dense(3, name="scores")])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_attributions_sum_to_the_difference_of_the_scores(activation, rng):
    model, x = model_of(activation), rng.normal(0, 3, (5, 6)).astype("float32")
    maps, counts = vis.IntegratedGradients(model, "auto").with_steps(x, 1)
    scores = value_of(model(x))[:, 1] - value_of(model(np.zeros((1, 6), "float32")))[:, 1]
    assert (np.abs(maps.sum(axis=1) - scores) <= 1.5e-3 * np.abs(scores)).all()
    assert counts.shape == (5,) and (counts >= 9).all() and (counts <= 40).all()
    fine = vis.IntegratedGradients(model, 600)(x, 1)
    assert np.abs(maps - fine).sum() < 0.1 * np.abs(fine).sum()


def test_a_sample_is_explained_as_it_is_alone(rng):
    model, x = model_of(), rng.normal(0, 3, (7, 6)).astype("float32")
    explainer = vis.IntegratedGradients(model, "auto", tolerance=1e-4)
    whole = explainer(x, [0, 1, 2, 0, 1, 2, 0])
    for batch_size in (1, 5, 64):
        np.testing.assert_allclose(explainer(x, [0, 1, 2, 0, 1, 2, 0], batch_size), whole, atol=1e-5)
    for i in range(7):
        np.testing.assert_allclose(explainer(x[i : i + 1], i % 3)[0], whole[i], atol=1e-5)
    several = explainer.targets(x, [0, 2])
    np.testing.assert_allclose(several[:, 1], explainer(x, 2), atol=1e-6)


def test_at_a_layer_and_of_several_inputs(rng):
    model, x = small_cnn(), rng.random((3, 9, 7, 3)).astype("float32")
    auto = vis.IntegratedGradients(model, "auto", input_layer="conv1")(x, 1)
    fixed = vis.IntegratedGradients(model, 600, input_layer="conv1")(x, 1)
    assert auto.shape == fixed.shape and np.abs(auto - fixed).sum() < 0.1 * np.abs(fixed).sum()
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = layers.Dense(8, activation="tanh")(layers.Concatenate()([a, b]))
    two = keras.Model({"a": a, "b": b}, layers.Dense(2)(joined))
    given = {"a": rng.random((2, 4)), "b": rng.random((2, 3))}
    maps = vis.IntegratedGradients(two, "auto", baseline={"a": 1.0, "b": 0.0})(given, 0)
    ends = value_of(two(given))[:, 0] - value_of(two({"a": np.ones((1, 4)), "b": np.zeros((1, 3))}))[:, 0]
    np.testing.assert_allclose(maps["a"].sum(axis=1) + maps["b"].sum(axis=1), ends, rtol=1.5e-3)


def test_what_is_missing_is_said(monkeypatch, rng):
    monkeypatch.setattr("vis.methods.integrated._MOST_POINTS", 18)
    waves = layers.Lambda(lambda x: keras.ops.sin(40 * x), name="waves")
    model, x = keras.Sequential([keras.Input((6,)), waves, layers.Dense(2)]), rng.random((4, 6)).astype("float32")
    explainer = vis.IntegratedGradients(model, "auto", tolerance=1e-7)
    with pytest.warns(
        VisualizationWarning,
        match=r"of 4 samples miss up to .*may be .*after 18 gradients each.*tolerance=1e-07.*0.16 of",
    ):
        _, counts = explainer.with_steps(x, 0)
    assert counts.max() == 18


def test_counts_of_fixed_steps(rng):
    maps, counts = vis.IntegratedGradients(model_of(), 7).with_steps(rng.random((3, 6)), 0)
    assert counts.tolist() == [7, 7, 7] and maps.shape == (3, 6)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda m: vis.IntegratedGradients(m, "many"), TypeError, "`steps`"),
        (lambda m: vis.IntegratedGradients(m, "auto", tolerance=0), ValueError, "`tolerance` must be above 0"),
        (lambda m: vis.IntegratedGradients(m, "auto", tolerance="low"), TypeError, "`tolerance`"),
        (
            lambda m: vis.IntegratedGradients(m, "auto", backprop_modifier="guided"),
            ValueError,
            "must be None.*'guided'",
        ),
        (lambda m: vis.GuidedIntegratedGradients(m, "auto"), TypeError, "`steps`"),
    ],
)
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make(small_cnn())
