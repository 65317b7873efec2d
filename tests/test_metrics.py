"""Every metric a second time in loops of NumPy, by hand on three pixels, and on what it must refuse."""

import itertools

import keras
import numpy as np
import pytest
from conftest import ROOT, value_of
from keras import layers
from scipy import sparse, stats
from scipy.sparse.linalg import spsolve

import vis
from vis import metrics
from vis.engine.imputation import Imputation, impute
from vis.metrics.baselines import centre_maps, edge_maps, random_maps
from vis.metrics.curves import ranks
from vis.metrics.randomization import similarity

SIZE = 6


@pytest.fixture(scope="module")
def model():
    own = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    return with_known_weights(own)


def with_known_weights(model):
    """Gives a model the same weights on every backend."""
    draw = np.random.default_rng(4)
    model.set_weights([0.3 * draw.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, SIZE, SIZE, 2)).astype("float32")


@pytest.fixture
def maps(rng):
    return rng.normal(size=(3, SIZE, SIZE)).astype("float32")


def linear(weights):
    """A model whose score of class 1 is a weighted sum."""
    weights = np.asarray(weights, "float32")
    model = keras.Sequential([keras.Input(weights.shape), layers.Flatten(), layers.Dense(1, use_bias=False)])
    model.set_weights([weights.reshape(-1, 1)])
    return model


def scores_of(model, x, target):
    return value_of(model(np.asarray(x, "float32"), training=False))[:, target].astype("float64")


def filled(image, hidden, fill):
    """An image with positions hidden, by loops."""
    found = image.copy()
    for place in np.argwhere(hidden):
        for c in range(image.shape[-1]):
            value = fill if np.ndim(fill) == 0 else fill[c]
            found[(*place, c)] = value
    return found


def curve_by_hand(model, image, values, target, steps, fill, least=False):
    order = np.argsort(values.ravel() if least else -values.ravel(), kind="stable")
    found = []
    for s in range(steps + 1):
        hidden = np.zeros(values.size, bool)
        hidden[order[: round(s * values.size / steps)]] = True
        found.append(scores_of(model, filled(image, hidden.reshape(values.shape), fill)[None], target)[0])
    return np.array(found)


@pytest.mark.parametrize("fill", [0.0, "mean", 1.5])
def test_curves_in_loops(model, images, maps, fill):
    deletion, insertion = metrics.Deletion(model, fill, steps=4), metrics.Insertion(model, fill, steps=4)
    gain = metrics.SRG(model, fill, steps=4)
    most, least = [], []
    for image, values in zip(images, maps):
        own = image.reshape(-1, 2).mean(axis=0) if fill == "mean" else fill
        most.append(curve_by_hand(model, image, values, 1, 4, own))
        least.append(curve_by_hand(model, image, values, 1, 4, own, least=True))
    np.testing.assert_allclose(deletion.curve(images, maps, 1), most, atol=1e-5)
    np.testing.assert_allclose(insertion.curve(images, maps, 1), np.array(least)[:, ::-1], atol=1e-5)
    areas = [[np.trapezoid(one, np.linspace(0, 1, 5)) for one in curves] for curves in (most, least)]
    np.testing.assert_allclose(deletion(images, maps, 1), areas[0], atol=1e-5)
    np.testing.assert_allclose(insertion(images, maps, 1), areas[1], atol=1e-5)
    np.testing.assert_allclose(gain(images, maps, 1), np.subtract(areas[1], areas[0]), atol=1e-5)


def test_three_pixels_by_hand():
    model, x, values = linear([3.0, 2.0, 1.0]), np.ones((1, 3)), np.array([[3.0, 2.0, 1.0]])
    assert metrics.Deletion(model, 0.0, 3).curve(x, values, 1).tolist() == [[6, 3, 1, 0]]
    assert metrics.Deletion(model, 0.0, 3).curve(x, -values, 1).tolist() == [[6, 5, 3, 0]]
    assert metrics.Insertion(model, 0.0, 3).curve(x, values, 1).tolist() == [[0, 3, 5, 6]]
    np.testing.assert_allclose(metrics.Deletion(model, 0.0, 3)(x, values, 1), [7 / 3], rtol=1e-6)
    np.testing.assert_allclose(metrics.SRG(model, 0.0, 3)(x, values, 1), [11 / 3 - 7 / 3], rtol=1e-6)
    np.testing.assert_allclose(metrics.SRG(model, 0.0, 3)(x, -values, 1), [7 / 3 - 11 / 3], rtol=1e-6)


def test_steps_that_do_not_divide_the_positions_keep_the_true_fractions():
    model, x, values = linear([4.0, 3.0, 2.0, 1.0, 0.0]), np.ones((1, 5)), np.array([[4.0, 3.0, 2.0, 1.0, 0.0]])
    # After 0, 2 (of 5 / 2 = 2.5, rounded to even) and 5 positions: 10, 3, 0.
    np.testing.assert_allclose(metrics.Deletion(model, 0.0, 2)(x, values, 1), [0.4 * 6.5 + 0.6 * 1.5], rtol=1e-6)
    ten = metrics.Deletion(model, 0.0, 10)(x, values, 1)  # more steps than positions
    np.testing.assert_allclose(ten, metrics.Deletion(model, 0.0, 5)(x, values, 1), rtol=1e-6)


def test_only_the_order_counts(model, images, maps):
    for metric in (metrics.Deletion(model), metrics.SRG(model), metrics.ROAD(model)):
        np.testing.assert_array_equal(metric(images, maps, 1), metric(images, np.exp(3 * maps), 1))
    masks = np.zeros((3, SIZE, SIZE), bool)
    masks[:, 1:4, 2:5] = True
    for metric in (metrics.PointingGame(masks), metrics.RelevanceRank(masks)):
        np.testing.assert_array_equal(metric(images, maps), metric(images, np.exp(3 * maps)))


def test_ties_are_in_random_order(rng):
    kept = np.ones((1, 100), bool)
    found = [ranks(np.zeros((1, 1, 100)), kept, seed)[0, 0] for seed in range(200)]
    assert all(sorted(one) == list(range(100)) for one in found)
    means = np.mean(found, axis=0)
    assert means.min() > 35 and means.max() < 64  # 49.5, with an error of 2
    assert len({tuple(one) for one in found}) == 200
    np.testing.assert_array_equal(found[3], ranks(np.zeros((1, 1, 100)), kept, 3)[0, 0])


def test_positions_that_do_not_count_come_last():
    kept = np.array([[True, False, True, False]])
    assert set(ranks(np.ones((1, 1, 4)), kept, 0)[0, 0][[1, 3]].tolist()) == {2, 3}


def test_random_subsets_in_loops(model, images, maps):
    fidelity = metrics.MuFidelity(model, 0.0, 20, 0.3, 3, seed=5)
    infidelity = metrics.Infidelity(model, 0.0, 20, 0.3, 3, seed=5)
    plain = metrics.Infidelity(model, 0.0, 20, 0.3, 3, scaled=False, seed=5)
    subsets = fidelity.subsets(fidelity.samples(images, 1))
    assert subsets.shape == (20, 3, 3) and (subsets.sum(axis=(1, 2)) == 3).all()
    for i, (image, values) in enumerate(zip(images, maps)):
        sums, drops = [], []
        for subset in subsets:
            hidden = np.repeat(np.repeat(subset, 2, axis=0), 2, axis=1)
            sums.append(values[hidden].sum(dtype="float64"))
            drops.append(np.subtract(*scores_of(model, np.stack([image, filled(image, hidden, 0.0)]), 1)))
        sums, drops = np.array(sums), np.array(drops)
        np.testing.assert_allclose(fidelity(images, maps, 1)[i], stats.spearmanr(sums, drops).statistic, atol=1e-5)
        np.testing.assert_allclose(plain(images, maps, 1)[i], np.mean((sums - drops) ** 2), rtol=1e-4)
        best = (sums @ drops) / (sums @ sums)
        np.testing.assert_allclose(infidelity(images, maps, 1)[i], np.mean((best * sums - drops) ** 2), rtol=1e-3)


def test_the_true_weights_of_a_linear_model_are_perfectly_faithful(rng):
    weights, x = rng.normal(size=(5, 5, 2)), rng.normal(size=(2, 5, 5, 2))
    model, maps = linear(weights), (weights * x).sum(axis=-1)
    np.testing.assert_allclose(metrics.MuFidelity(model, 0.0)(x, maps, 1), 1, atol=1e-3)
    np.testing.assert_allclose(metrics.Infidelity(model, 0.0)(x, 7 * maps, 1), 0, atol=1e-8)
    assert (metrics.Infidelity(model, 0.0, scaled=False)(x, 7 * maps, 1) > 1).all()


def test_a_flat_map_has_no_correlation_and_subsets_leave_something(model, images, maps):
    fidelity = metrics.MuFidelity(model, 0.0, 50, grid=4)  # cells of several sizes, so that its sums differ
    assert fidelity(images, np.ones_like(maps)).tolist() == [0] * len(maps)
    assert (fidelity(images, maps) != 0).all()
    for options in ({"subset": 1.0}, {"grid": 1}):
        for metric in (metrics.MuFidelity, metrics.Infidelity):
            with pytest.raises(ValueError, match="must leave cells that are not hidden"):
                metric(model, 0.0, **options)(images, maps)


def test_seen_through_the_map_in_loops(model, images, maps):
    drop, rise, gain = (
        one(model, 0.5)(images, maps, 1) for one in (metrics.AverageDrop, metrics.AverageIncrease, metrics.AverageGain)
    )
    for i, (image, values) in enumerate(zip(images, maps)):
        mask = ((values - values.min()) / (values.max() - values.min()))[..., None]
        before, after = scores_of(model, np.stack([image, mask * image + (1 - mask) * 0.5]), 1)
        np.testing.assert_allclose(drop[i], max(0, before - after) / before, atol=1e-5)
        np.testing.assert_allclose(gain[i], max(0, after - before) / (1 - before), atol=1e-5)
        assert rise[i] == (after > before)
    assert (drop > 0).any() and (gain > 0).any()


def test_a_flat_map_hides_nothing(model, images):
    flat = np.full((3, SIZE, SIZE), 2.0)
    assert metrics.AverageDrop(model)(images, flat, 1).tolist() == [0, 0, 0]
    assert metrics.AverageIncrease(model)(images, flat, 1).tolist() == [0, 0, 0]


def test_scores_that_are_no_probabilities_have_no_average_drop(images, maps):
    model = linear(np.ones((SIZE, SIZE, 2)))
    with pytest.raises(ValueError, match="scores from 0 to 1. Received: scores from"):
        metrics.AverageDrop(model)(images, maps, 1)


def imputed_by_hand(values, hidden):
    """The linear system with a loop over positions and neighbours."""
    places = [tuple(place) for place in np.argwhere(hidden)]
    number = {place: i for i, place in enumerate(places)}
    matrix, known = sparse.lil_matrix((len(places),) * 2), np.zeros((len(places), values.shape[-1]))
    for place, i in number.items():
        for step in itertools.product((-1, 0, 1), repeat=hidden.ndim):
            other = tuple(np.add(place, step))
            if not any(step) or not all(0 <= a < size for a, size in zip(other, hidden.shape)):
                continue
            weight = 1 / np.abs(step).sum()
            matrix[i, i] += weight
            if other in number:
                matrix[i, number[other]] -= weight
            else:
                known[i] += weight * values[other]
    return spsolve(matrix.tocsc(), known).reshape(known.shape)


@pytest.mark.parametrize("shape", [(40,), (30, 34), (9, 8, 10)])
def test_imputation_in_loops(rng, shape):
    values = rng.normal(size=(*shape, 3))
    for part in (0.05, 0.5, 0.95):
        hidden = rng.random(shape) < part
        np.testing.assert_allclose(impute(values, hidden), imputed_by_hand(values, hidden), atol=1e-5)


def test_imputation_of_a_large_hole_is_smooth(rng):
    """Of a plane, whose values are the mean of their neighbours, nothing is changed."""
    plane = (np.add.outer(np.arange(50.0), 2 * np.arange(50.0)) / 100)[..., None]
    hidden = np.zeros((50, 50), bool)
    hidden[5:45, 5:45] = True
    np.testing.assert_allclose(impute(plane, hidden), plane[hidden], atol=1e-4)
    np.testing.assert_allclose(impute(plane, np.ones_like(hidden)), plane.mean(), atol=1e-9)


def test_noise_of_imputation_is_a_tenth_of_the_spread(rng):
    image = rng.normal(size=(1, 40, 40, 1)).astype("float32")
    hidden = np.zeros((1, 40, 40), bool)
    hidden[0, :20] = True
    plain, noisy, again = image.copy(), image.copy(), image.copy()
    Imputation(0.0).show(plain, hidden, [0], None)
    Imputation(0.1, 3).show(noisy, hidden, [0], None)
    Imputation(0.1, 3).show(again, hidden, [0], None)
    noise = (noisy - plain)[0, :20]
    assert abs(noise.std() - 0.1 * image.std()) < 0.01 and abs(noise.mean()) < 0.02
    np.testing.assert_array_equal(noisy, again)
    np.testing.assert_array_equal(noisy[0, 20:], image[0, 20:])


def test_road_in_loops(model, images, maps):
    metric = metrics.ROAD(model, Imputation(0.0), (25, 50))
    found = metric.curve(images, maps, 1)
    for i, (image, values) in enumerate(zip(images, maps)):
        for k, part in enumerate((0.25, 0.5)):
            scores = []
            for sign in (1, -1):
                hidden = np.zeros(values.size, bool)
                hidden[np.argsort(-sign * values.ravel())[: round(part * values.size)]] = True
                hidden, changed = hidden.reshape(values.shape), image.copy()
                changed[hidden] = imputed_by_hand(image, hidden)
                scores.append(scores_of(model, changed[None], 1)[0])
            np.testing.assert_allclose(found[i, k], (scores[1] - scores[0]) / 2, atol=1e-5)
    np.testing.assert_allclose(metric(images, maps, 1), found.mean(axis=1), atol=1e-6)


def test_a_background_is_averaged_over(model, images, maps, rng):
    background = rng.normal(size=(4, SIZE, SIZE, 2)).astype("float32")
    whole = metrics.Deletion(model, metrics.Background(background), 3).curve(images, maps, 1)
    parts = [metrics.Deletion(model, one, 3).curve(images, maps, 1) for one in background]
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), atol=1e-5)


@pytest.mark.parametrize("shape", [(12,), (10, 3), (6, 5, 4, 2)])
def test_any_number_of_axes(rng, shape):
    weights, x = rng.normal(size=shape), rng.normal(size=(2, *shape))
    maps = x * weights
    model = linear(weights)
    for metric in (metrics.SRG(model, 0.0), metrics.MuFidelity(model, 0.0)):
        found = metric(x, maps if len(shape) == 1 else maps.sum(axis=-1), 1)
        assert found.shape == (2,) and found.dtype == "float32" and (found > 0).all()
    if len(shape) > 1:
        assert metrics.ROAD(model)(x, maps.sum(axis=-1), 1).shape == (2,)


def test_channels_are_summed_by_absolute_value(model, images, rng):
    raw, masks = rng.normal(size=images.shape).astype("float32"), np.zeros((3, SIZE, SIZE))
    masks[:, 0] = 1
    wanted = {"absolute": np.abs(raw).sum(axis=-1), "sum": raw.sum(axis=-1), "max": np.abs(raw).max(axis=-1)}
    for name, maps in wanted.items():
        own = metrics.SRG(model, reduce=name)(images, raw, 1)
        np.testing.assert_allclose(own, metrics.SRG(model)(images, maps, 1), atol=1e-6)
    np.testing.assert_allclose(metrics.Sparseness()(images, raw), metrics.Sparseness()(images, wanted["absolute"]))
    own = metrics.SRG(model, reduce=lambda maps: maps[..., 1])(images, raw, 1)
    np.testing.assert_allclose(own, metrics.SRG(model)(images, raw[..., 1], 1), atol=1e-6)
    with pytest.raises(ValueError, match="must take the last axis away"):
        metrics.SRG(model, reduce=lambda maps: maps)(images, raw, 1)


def test_one_channel_keeps_its_sign(rng):
    weights, x = rng.normal(size=(5, 5, 1)), np.ones((1, 5, 5, 1))
    found = metrics.SRG(linear(weights), 0.0)(x, weights[None], 1)
    np.testing.assert_allclose(found, metrics.SRG(linear(weights), 0.0)(x, weights[None, ..., 0], 1))


def test_several_inputs(rng):
    one, other = keras.Input((4, 4, 1), name="image"), keras.Input((3,), name="more")
    joined = layers.Concatenate()([layers.Flatten()(one), other])
    model = keras.Model([one, other], layers.Dense(2)(joined))
    inputs = [rng.normal(size=(2, 4, 4, 1)), rng.normal(size=(2, 3))]
    maps = vis.GradientTimesInput(model)(inputs, 1)
    found = metrics.SRG(model, 0.0)(inputs, maps, 1)
    np.testing.assert_allclose(found, metrics.SRG(model, 0.0)(inputs, maps[0], 1))
    named = metrics.SRG(model, 0.0, input_name="more")(inputs, maps, 1)
    assert (found > 0).all() and (named > 0).all() and not np.allclose(found, named)


def test_texts_by_tokens_without_padding(rng):
    ids = keras.Input((6,), dtype="int32")
    vectors = layers.Embedding(9, 4, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(vectors)))
    x = np.array([[3, 4, 5, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    raw = vis.LRP(model, "epsilon", input_layer="tokens")(x, 1)
    metric = metrics.Deletion(model, 8, 3, reduce="sum")
    curves = metric.curve(x, raw, 1)
    order = np.argsort(-raw[0].sum(axis=-1)[:3])
    for s in range(4):
        hidden = x[:1].copy()
        hidden[0, order[:s]] = 8
        np.testing.assert_allclose(curves[0, s], scores_of(model, hidden, 1)[0], atol=1e-5)
    with pytest.raises(ValueError, match="must be a token id"):
        metrics.Deletion(model)(x, raw, 1)


def test_where_the_object_is_by_hand():
    masks = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 1]]])
    maps = np.array([[[1.0, 5.0], [2.0, -3.0]], [[4.0, 1.0], [4.0, 4.0]]])
    x = np.zeros((2, 2, 2))
    np.testing.assert_allclose(metrics.PointingGame(masks)(x, maps), [1, 1 / 3])
    np.testing.assert_allclose(metrics.PointingGame(masks, tolerance=1)(x, maps), [1, 1])
    np.testing.assert_allclose(metrics.RelevanceMass(masks)(x, maps), [6 / 8, 4 / 13])
    np.testing.assert_allclose(metrics.RelevanceRank(masks)(x, maps), [0.5, 1 / 3])
    flat = np.zeros((2, 2, 2))
    for metric in (metrics.PointingGame(masks), metrics.RelevanceMass(masks), metrics.RelevanceRank(masks)):
        np.testing.assert_allclose(metric(x, flat), [0.5, 0.25])


def test_complexity_in_loops(rng):
    maps = rng.normal(size=(4, 5, 6))
    for found, values in zip(metrics.Sparseness()(maps, maps), np.abs(maps).reshape(4, -1)):
        differences = np.abs(values[:, None] - values[None]).sum()
        np.testing.assert_allclose(found, differences / (2 * values.size * values.sum()), rtol=1e-5)
    for found, values in zip(metrics.Entropy()(maps, maps), np.abs(maps).reshape(4, -1)):
        np.testing.assert_allclose(found, stats.entropy(values), rtol=1e-5)
    zeros = np.zeros((1, 3, 3))
    assert metrics.Sparseness()(zeros, zeros)[0] == 0
    np.testing.assert_allclose(metrics.Entropy()(zeros, zeros), np.log(9), rtol=1e-6)


def test_max_sensitivity_in_loops(model, images):
    explainer = vis.Saliency(model)
    found = metrics.MaxSensitivity(explainer, 0.1, 3, seed=2)(images)
    target = np.argmax(value_of(model(images)), axis=1)
    clean, worst = explainer(images, target), np.zeros(3)
    for number in range(3):
        draw = np.random.default_rng([2, number]).uniform(-1, 1, images.shape)
        size = 0.1 * np.ptp(images, axis=(1, 2, 3), keepdims=True)
        moved = explainer((images + size * draw).astype("float32"), target)
        for i in range(3):
            worst[i] = max(worst[i], np.linalg.norm(moved[i] - clean[i]) / np.linalg.norm(clean[i]))
    np.testing.assert_allclose(found, worst, rtol=1e-4)
    assert (metrics.MaxSensitivity(explainer, 0.0)(images) == 0).all()


def test_contributions_sum_to_the_difference(model, images):
    for explainer in (vis.IntegratedGradients(model, 500, baseline=0.3), vis.DeepLIFT(model, baseline=0.3)):
        assert (metrics.Completeness(explainer)(images, target=1) < 1e-2).all()
        assert (metrics.Completeness(explainer, baseline=-1.0)(images, target=1) > 2e-2).all()


def test_what_completeness_means(model, images, rng):
    plain = with_known_weights(
        keras.Sequential([keras.Input((SIZE, SIZE, 2)), layers.Flatten(), layers.Dense(2, use_bias=False)])
    )
    assert (metrics.Completeness(vis.LRP(plain, "epsilon"))(images, target=1) < 1e-3).all()
    background = (2 + 0.01 * rng.normal(size=(5, SIZE, SIZE, 2))).astype(
        "float32"
    )  # so alike that few draws are enough
    expected = vis.ExpectedGradients(plain, background, num_samples=50, seed=0)
    assert (metrics.Completeness(expected, metrics.Background(background))(images, target=1) < 0.02).all()
    assert (metrics.Completeness(expected, 0.0)(images, target=1) > 0.1).any()
    with pytest.raises(ValueError, match="no baseline is known"):
        metrics.Completeness(expected)(images, target=1)
    with pytest.raises(TypeError, match="whose maps have another meaning"):
        metrics.Completeness(vis.GradCAM(model))


def test_completeness_at_a_layer(rng):
    ids = keras.Input((5,), dtype="int32")
    vectors = layers.Embedding(9, 4)(ids)
    model = keras.Model(ids, layers.Dense(2)(layers.Flatten()(layers.Dense(3, "tanh")(vectors))))
    explainer = vis.IntegratedGradients(model, 100, baseline=7, input_layer="tokens")
    assert metrics.Completeness(explainer)(rng.integers(0, 9, (2, 5)), target=1).max() < 1e-2


@pytest.mark.parametrize("order", ["bottom-up", "top-down", "independent"])
def test_random_weights_layer_by_layer(model, images, order):
    before = [weight.copy() for weight in model.get_weights()]
    explainer = vis.Saliency(model)
    metric = metrics.ParameterRandomization(explainer, order, seed=1)
    curve = metric.curve(images, target=1)
    names = [layer.name for layer in model.layers if layer.weights]
    assert metric.layers == (names[::-1] if order == "top-down" else names)
    assert curve.shape == (3, 3) and (curve[:, 0] == 1).all() and (np.abs(curve) <= 1).all() and curve[:, 1:].max() < 1
    np.testing.assert_allclose(metric(images, target=1), curve[:, 1:].mean(axis=1), rtol=1e-6)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_random_weights_in_loops(model, images):
    clean = vis.Saliency(model)(images, 1)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    draw, found = np.random.default_rng(1), []
    for layer in [one for one in twin.layers if one.weights]:
        layer.set_weights([draw.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()])
        changed = vis.Saliency(twin)(images, 1)
        found.append([stats.spearmanr(np.abs(a).ravel(), np.abs(b).ravel())[0] for a, b in zip(clean, changed)])
    own = metrics.ParameterRandomization(vis.Saliency(model), seed=1).curve(images, target=1)
    np.testing.assert_allclose(own[:, 1:], np.transpose(found), atol=1e-4)


def test_what_does_not_know_the_network_stays_alike(model, images):
    class Edges(vis.methods.explainer.Explainer):
        def explain(self, task):
            return edge_maps(task.batch.arrays[0], 2)

    for measure, wanted in (("spearman", 1), ("ssim", 1), ("entropy", 0)):
        metric = metrics.ParameterRandomization(Edges(model), measure=measure, seed=0)
        np.testing.assert_allclose(metric(images, target=1), wanted, atol=1e-6)


def test_layers_inside_of_layers_and_codes_of_ones_own(images):
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, units=4, **options):
            super().__init__(**options)
            self.units, self.flat = units, layers.Flatten()
            self.inner = keras.Sequential([layers.Dense(units, "tanh"), layers.Dense(2)])

        def call(self, x):
            return self.inner(self.flat(x))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    model = Own()
    model(images)
    before = model.get_weights()
    metric = metrics.ParameterRandomization(vis.Saliency(model), seed=0)
    assert (metric(images, target=1) < 1).all() and len(metric.layers) == 2
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_structural_similarity(rng):
    metrics_of = pytest.importorskip("skimage.metrics")
    a, b = rng.random((2, 20, 24))
    a[0, 0], a[0, 1], b[0, 0], b[0, 1] = 0, 1, 0, 1
    _, whole = metrics_of.structural_similarity(a, b, data_range=1, full=True, use_sample_covariance=False)
    np.testing.assert_allclose(similarity(5 * a - 2, 3 * b), whole.mean(), atol=1e-6)
    assert similarity(a, a) == pytest.approx(1)


def test_random_maps_have_the_spectrum_of_the_map(rng):
    maps = np.cumsum(np.cumsum(rng.normal(size=(2, 16, 17)), axis=1), axis=2).astype("float32")
    kept = np.ones(maps.shape, bool)
    found = random_maps(maps, 5, 3, kept, True)
    sizes = np.abs(np.fft.fft2(found))
    np.testing.assert_allclose(sizes, np.broadcast_to(np.abs(np.fft.fft2(maps)), sizes.shape), rtol=1e-2, atol=1e-2)
    assert len({one.tobytes() for one in found[:, 0]}) == 5
    np.testing.assert_array_equal(found, random_maps(maps, 5, 3, kept, True))
    assert np.abs(found - random_maps(maps, 5, 4, kept, True)).max() > 0.1
    shuffled = random_maps(maps, 2, 0, kept, False)
    np.testing.assert_array_equal(np.sort(shuffled.reshape(2, 2, -1)), np.sort(maps.reshape(1, 2, -1).repeat(2, 0)))


def test_edges_and_the_middle(rng):
    image = np.zeros((1, 9, 9, 3), "float32")
    image[:, :, 5:] = 1
    edges = edge_maps(image, 2)
    assert edges.shape == (1, 9, 9) and set(np.argwhere(edges[0] > 0)[:, 1]) == {4, 5} and edges.max() == 12
    assert edge_maps(rng.integers(0, 5, (2, 7)), 1) is None and edge_maps(rng.normal(size=(2, 7)), 1) is None
    middle = centre_maps((5, 9), 2)
    assert middle.shape == (2, 5, 9) and np.argmax(middle[0]) == 2 * 9 + 4 and middle.max() == 1


def faults(model, images, maps):
    """Calls that must be refused, and what must be said."""
    deletion, nan = metrics.Deletion(model), maps.copy()
    nan[0, 0, 0] = np.nan
    masks = np.zeros((3, SIZE, SIZE))
    yield (lambda: deletion(images, maps[:2], 1)), ValueError, r"must have the shape \(3, 6, 6\)"
    yield (lambda: deletion(images, maps[:, ::2, ::2], 1)), ValueError, "Enlarge coarse maps"
    yield (lambda: deletion(images, nan, 1)), ValueError, "must be finite numbers. Received: 1 values"
    yield (lambda: deletion(images, maps, [1, 2])), ValueError, "target"
    yield (lambda: deletion(images, maps, 7)), ValueError, "out of range"
    yield (lambda: deletion(images, "maps", 1)), (ValueError, TypeError), "maps"
    yield (lambda: deletion(images, maps, 1, batch_size=0)), ValueError, "batch_size"
    yield (lambda: deletion(images, 3.0, 1)), ValueError, "must be a batch of maps"
    yield (lambda: metrics.Deletion("model")), TypeError, "Keras 3 model"
    yield (lambda: metrics.Deletion(model, "black")), ValueError, "'mean', 'blur', 'road'"
    yield (lambda: metrics.Deletion(model, None)), TypeError, "must be a number, an array"
    yield (lambda: metrics.Deletion(model, True)), TypeError, "must be a number, an array"
    yield (lambda: metrics.Deletion(model, np.ones(7))(images, maps, 1)), ValueError, "fits one sample"
    yield (lambda: metrics.Deletion(model, steps=0)), ValueError, "steps"
    yield (lambda: metrics.Deletion(model, reduce="median")), ValueError, "'absolute', 'sum', 'max'"
    yield (lambda: metrics.ROAD(model, percentiles=(0, 50))), ValueError, "above 0 and at most 100"
    yield (lambda: metrics.ROAD(model, percentiles="half")), ValueError, "above 0 and at most 100"
    yield (lambda: metrics.MuFidelity(model, subset=1.5)), ValueError, "subset"
    yield (lambda: metrics.AverageDrop(model, "road")(images, maps, 1)), ValueError, "can be mixed with it"
    yield (lambda: metrics.Background(np.zeros(3))), ValueError, "must be a batch of inputs"
    background = metrics.Background(np.zeros((2, 3, 3, 2)))
    yield (lambda: metrics.Deletion(model, background)(images, maps, 1)), ValueError, "samples of the shape"
    yield (lambda: metrics.PointingGame(masks)), ValueError, r"masks\[0\], which is empty"
    yield (lambda: metrics.PointingGame(masks + 1)), ValueError, r"masks\[0\], which is full"
    yield (lambda: metrics.PointingGame(masks + 0.5)), ValueError, "must be 0 and 1"
    half = masks.copy()
    half[:, 0] = 1
    yield (lambda: metrics.RelevanceMass(half[:, :3])(images, maps)), ValueError, "shape of the maps"
    yield (lambda: metrics.MaxSensitivity(maps)), TypeError, "needs one, such as"
    yield (lambda: metrics.ParameterRandomization(model)), TypeError, "needs one, such as"
    yield (lambda: metrics.ParameterRandomization(vis.Saliency(model), "sideways")), ValueError, "order"
    yield (lambda: metrics.ParameterRandomization(vis.Saliency(model), measure="l2")), ValueError, "measure"
    empty = keras.Sequential([keras.Input((4,)), layers.Activation("tanh")])
    yield (
        (lambda: metrics.ParameterRandomization(vis.Saliency(empty))(np.ones((1, 4)))),
        ValueError,
        "must have layers with weights",
    )


def test_bad_input_is_a_sentence(model, images, maps):
    for call, kind, words in faults(model, images, maps):
        with pytest.raises(kind, match=words) as caught:
            call()
        assert len(str(caught.value)) < 400


def test_no_harm(model, images, maps):
    copies = images.copy(), maps.copy(), [weight.copy() for weight in model.get_weights()]
    state = np.random.get_state()[1].copy()
    for one in (metrics.SRG(model), metrics.ROAD(model), metrics.MuFidelity(model), metrics.AverageDrop(model)):
        one(images, maps, 1)
        with pytest.raises(ValueError):
            one(images, maps[:, 1:], 1)
    for one in (metrics.MaxSensitivity(vis.GradCAM(model)), metrics.ParameterRandomization(vis.GradCAM(model))):
        one(images, target=1)
    np.testing.assert_array_equal(images, copies[0])
    np.testing.assert_array_equal(maps, copies[1])
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    for old, new in zip(copies[2], model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.fixture(scope="module")
def others():
    """Numbers of other libraries, see `tests/reference/make_metrics.py`."""
    with np.load(ROOT / "tests/reference/metrics.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("holes", ["smooth", "scattered"])
def test_imputation_is_that_of_pytorch_grad_cam(others, holes):
    hidden = others[f"road_{holes}_hidden"]
    np.testing.assert_allclose(impute(others["road_image"], hidden), others[f"road_{holes}"][hidden], atol=1e-5)


def test_curves_are_those_of_xplique(others, model):
    other = keras.models.clone_model(keras.Sequential([keras.Input((12, 12, 3)), *_fresh(model)]))
    other.set_weights([others[f"weight_{i}"] for i in range(4)])
    targets = others["targets"].argmax(axis=1)
    for name, metric in (("deletion", metrics.Deletion), ("insertion", metrics.Insertion)):
        own = metric(other, 0.0, steps=8)
        curve = own.curve(others["images"], others["maps"], targets).mean(axis=0)
        np.testing.assert_allclose(curve, others[f"{name}_curve"], atol=1e-5)
        np.testing.assert_allclose(own(others["images"], others["maps"], targets).mean(), others[name], atol=1e-5)


def _fresh(model):
    return [type(layer).from_config(layer.get_config()) for layer in model.layers]


def test_simple_metrics_are_those_of_quantus(others):
    maps, masks = others["plain_maps"], others["plain_masks"]
    ours = {
        "sparseness": metrics.Sparseness(),
        "complexity": metrics.Entropy(),
        "pointing": metrics.PointingGame(masks),
        "mass": metrics.RelevanceMass(masks),
        "rank": metrics.RelevanceRank(masks),
    }
    for name, metric in ours.items():
        np.testing.assert_allclose(metric(maps, maps), others[name], rtol=1e-4, err_msg=name)
