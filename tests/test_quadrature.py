"""Integrated gradients that choose their points: exact where scores bend once, complete elsewhere, and said if not."""

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers

import vis
from vis.engine import quadrature
from vis.engine.quadrature import Way, corrected
from vis.utils.validation import VisualizationWarning


def test_weights_by_loops(rng):
    positions = np.array([0, 0.1, 0.4, 0.5, 1.0])
    scores, slopes = rng.normal(size=5), rng.normal(size=5) * 5
    slopes[1] = slopes[0]  # no bend: both ends weigh half
    weights, missing = corrected(positions, scores, slopes)
    expected, lost = np.zeros(5), []
    for i in range(4):
        length, gain = positions[i + 1] - positions[i], scores[i + 1] - scores[i]
        best = min(
            np.linspace(0, 1, 100_001), key=lambda w: abs(length * (w * slopes[i] + (1 - w) * slopes[i + 1]) - gain)
        )
        best = 0.5 if slopes[i] == slopes[i + 1] else best
        expected[i] += length * best
        expected[i + 1] += length * (1 - best)
        lost.append(length * (best * slopes[i] + (1 - best) * slopes[i + 1]) - gain)
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    np.testing.assert_allclose(missing, lost, atol=1e-3)
    assert weights.sum() == pytest.approx(1) and weights @ slopes - missing.sum() == pytest.approx(
        scores[-1] - scores[0]
    )


def walked(score, slope, tolerance=1e-3, most=200):
    """Returns what is seen of a score of one number, whose gradient is its slope."""
    way = Way()
    while len(wanted := way.wanted(tolerance, most)):
        for one in wanted:
            way.add(one, score(one), slope(one), [np.array([slope(one), 1.0])])
    return way


def test_a_score_that_bends_once_in_an_interval_is_exact():
    way = walked(lambda t: abs(t - 0.37) + 2 * t, lambda t: np.sign(t - 0.37) + 2)
    total = way.integrals()[0]
    assert way.count == 17 and total[0] == pytest.approx(0.63 - 0.37 + 2, abs=1e-12) and total[1] == pytest.approx(1)


@pytest.mark.parametrize("score, slope", [(np.sin, np.cos), (lambda t: np.exp(5 * t), lambda t: 5 * np.exp(5 * t))])
def test_smooth_scores(score, slope):
    way = walked(score, slope)
    assert way.off() <= 1e-3 and way.integrals()[0][0] == pytest.approx(score(1) - score(0), rel=1e-3)


def test_points_are_where_something_is_missing_and_gradients_are_let_go_of():
    def step(t):  # so steep that its points on both sides see nothing of it
        return np.tanh(400 * (t - 0.1)) + t

    def slope(t):
        return 400 / np.cosh(np.clip(400 * (t - 0.1), -50, 50)) ** 2 + 1

    way = walked(step, slope)
    assert len(way._gradients) < way.count / 2
    added = np.setdiff1d(list(way._points), quadrature.FIRST)
    assert len(added) > 2 and (abs(added - 0.1) < 0.04).all()
    assert way.integrals()[0][0] == pytest.approx(step(1) - step(0), rel=2e-3)


def test_scores_that_are_equal_at_the_ends_are_measured_by_their_range():
    way = walked(lambda t: np.sin(2 * np.pi * t), lambda t: 2 * np.pi * np.cos(2 * np.pi * t))
    assert way.off() <= 1e-3 and abs(way.integrals()[0][0]) < 1e-4
    flat = walked(lambda t: 1.0, lambda t: 0.0)
    assert flat.count == 17 and flat.off() == 0


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
    assert counts.shape == (5,) and (counts >= 17).all() and (counts <= 200).all()
    fine = vis.IntegratedGradients(model, 600)(x, 1)
    assert np.abs(maps - fine).sum() < 0.05 * np.abs(fine).sum()


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
    assert auto.shape == fixed.shape and np.abs(auto - fixed).sum() < 0.05 * np.abs(fixed).sum()
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
        VisualizationWarning, match=r"of 4 samples miss up to .*after 18 gradients each.*tolerance=1e-07"
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
