"""Shapley values, KernelSHAP, LIME, Sobol and HSIC: games with known values, slow second versions, other libraries."""

import itertools
import math

import keras
import numpy as np
import pytest
from conftest import ROOT, small_cnn, value_of
from keras import layers

import vis
from vis.engine.designs import Everything, Left, Local, Permutations, Regression, Shown
from vis.engine.players import cells, numbered
from vis.engine.sensitivity import Dependence, TotalIndices
from vis.utils.validation import VisualizationWarning

WIDE = 14  # more players than are enumerated


@pytest.fixture(scope="module")
def stored():
    with np.load(ROOT / "tests/reference/shapley.npz") as arrays:
        return dict(arrays)


def ends(game, count):
    return game(np.zeros((1, count), bool)), game(np.ones((1, count), bool))


def played(design, game):
    """What a design says of one game, `(count,)`."""
    return design.values(game(design.masks)[None], *ends(game, design.count))[0]


def doubted(design, game):
    return design.errors(game(design.masks)[None], *ends(game, design.count))[0]


def by_orders(game, count):
    """Shapley 1953: the mean over all orders of what a player adds to those before it."""
    found = np.zeros(count)
    for order in itertools.permutations(range(count)):
        there = np.zeros(count, bool)
        before = game(there[None])[0]
        for player in order:
            there[player] = True
            after = game(there[None])[0]
            found[player] += after - before
            before = after
    return found / math.factorial(count)


def table_game(count, seed=0):
    table = np.random.default_rng(seed).normal(size=2**count)
    return lambda masks: table[masks @ (1 << np.arange(count))]


def smooth_game(count, seed=0):
    """A game with interactions, quick for many coalitions."""
    weights = np.random.default_rng(seed).normal(size=(count, count))
    return lambda masks: np.tanh(((masks @ weights) * masks).sum(axis=1) / 6) + masks @ weights[0] / 10


def additive(masks):
    return masks @ np.arange(1.0, masks.shape[1] + 1)


def majority(masks):
    return (masks.sum(axis=1) > masks.shape[1] / 2).astype(float)


def gloves(masks):
    """Two players have a left glove, the others a right one; a pair is worth 1."""
    return np.minimum(masks[:, :2].sum(axis=1), masks[:, 2:].sum(axis=1)).astype(float)


# --- games


@pytest.mark.parametrize(
    "game, expected",
    [
        (additive, [1, 2, 3, 4, 5]),
        (majority, [1 / 5] * 5),
        (lambda masks: np.minimum(masks[:, 0] + masks[:, 1], masks[:, 2]) * 1.0, [1 / 6, 1 / 6, 4 / 6, 0, 0]),
    ],
)
@pytest.mark.parametrize("design", [Everything(5), Regression(5, 100, 0)])
def test_games_with_known_values(game, expected, design):
    np.testing.assert_allclose(played(design, game), expected, atol=1e-12)


@pytest.mark.parametrize("game", [gloves, table_game(6), smooth_game(6)])
def test_all_coalitions_give_the_mean_over_all_orders(game):
    expected = by_orders(game, 6)
    np.testing.assert_allclose(played(Everything(6), game), expected, atol=1e-12)
    np.testing.assert_allclose(played(Regression(6, 62, 0), game), expected, atol=1e-12)


def test_eight_random_players_against_enumeration():
    game = table_game(8)
    expected = by_orders(game, 8)
    np.testing.assert_allclose(played(Everything(8), game), expected, atol=1e-12)
    np.testing.assert_allclose(played(Regression(8, 254, 0), game), expected, atol=1e-12)


def test_every_order_once_is_exact():
    design = Permutations(4, 12, 0)
    half = [order for order in itertools.permutations(range(4)) if order[0] < order[-1]]
    design.orders = np.array([way for order in half for way in (order, order[::-1])])
    np.testing.assert_allclose(played(design, table_game(4)), by_orders(table_game(4), 4), atol=1e-12)


def made_designs(count=WIDE):
    return [Permutations(count, 5, 0), Regression(count, 60, 0), Regression(count, 300, 0)]


@pytest.mark.parametrize("design", [Everything(6), Regression(6, 62, 0), *made_designs()])
def test_the_values_sum_to_the_score_less_that_of_the_baseline(design):
    game = smooth_game(design.count)
    first, last = ends(game, design.count)
    assert abs(played(design, game).sum() - (last - first)[0]) < 1e-12


@pytest.mark.parametrize("design", [Everything(6), Regression(6, 62, 0)])
def test_alike_players_get_alike_and_dummies_nothing(design):
    def game(masks):  # the first two are alike, the third never changes anything
        return np.tanh(masks[:, 0] + masks[:, 1] * 1.0) * (1 + masks[:, 3]) + masks[:, 4] * masks[:, 5]

    got = played(design, game)
    np.testing.assert_allclose([got[0] - got[1], got[2]], 0, atol=1e-12)
    assert got[0] > 0.1


@pytest.mark.parametrize("design", [Everything(6), *made_designs()])
def test_values_of_a_sum_of_games_are_the_sum_of_the_values(design):
    one, other = smooth_game(design.count), smooth_game(design.count, 1)
    got = played(design, lambda masks: 2 * one(masks) - other(masks))
    np.testing.assert_allclose(got, 2 * played(design, one) - played(design, other), atol=1e-12)


@pytest.mark.parametrize("design", [*made_designs(), Left(WIDE), Local(WIDE, 200, 0, 0.25, 0.0)])
def test_additive_games_are_exact_however_few_samples(design):
    np.testing.assert_allclose(played(design, additive), np.arange(1, WIDE + 1), atol=1e-9)


def test_interactions_by_hand():
    game = table_game(4)
    design = Everything(4)
    got = design.interactions(game(design.masks)[None], *ends(game, 4))[0]
    expected = np.zeros((4, 4))
    for i, j in itertools.permutations(range(4), 2):
        others = [k for k in range(4) if k not in (i, j)]
        for size in range(3):
            for chosen in itertools.combinations(others, size):
                value = {}
                for with_i, with_j in itertools.product((False, True), repeat=2):
                    mask = np.isin(np.arange(4), chosen)
                    mask[i], mask[j] = with_i, with_j
                    value[with_i, with_j] = game(mask[None])[0]
                both = value[True, True] - value[True, False] - value[False, True] + value[False, False]
                # Lundberg et al. 2020, equation 8
                expected[i, j] += math.factorial(size) * math.factorial(2 - size) / (2 * math.factorial(3)) * both
    expected[np.diag_indices(4)] = by_orders(game, 4) - expected.sum(axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-12)


# --- least squares, a second time


def kernel_weight(size, count):
    """Lundberg & Lee 2017, theorem 2."""
    return (count - 1) / (math.comb(count, size) * size * (count - size))


def test_least_squares_with_all_weights_written_out():
    count, game = 5, table_game(5)
    first, last = (end[0] for end in ends(game, count))
    rows = np.array(list(itertools.product([0, 1], repeat=count)))[1:-1]
    weights = np.array([kernel_weight(row.sum(), count) for row in rows])
    # The sum is held by leaving the last value out and giving it what is missing.
    reduced = rows[:, :-1] - rows[:, -1:]
    wanted = game(rows.astype(bool)) - first - rows[:, -1] * (last - first)
    root = np.sqrt(weights)[:, None]
    solved = np.linalg.lstsq(root * reduced, root[:, 0] * wanted, rcond=None)[0]
    expected = [*solved, last - first - solved.sum()]
    np.testing.assert_allclose(played(Regression(count, 30, 0), game), expected, atol=1e-12)


def test_sampled_weights_are_those_of_the_kernel():
    design = Regression(WIDE, 4000, 0)
    total = sum(math.comb(WIDE, size) * kernel_weight(size, WIDE) for size in range(1, WIDE))
    np.testing.assert_allclose(design.weights.sum(), total)
    sizes = design.masks.sum(axis=1)
    for size in range(1, WIDE):
        expected = math.comb(WIDE, size) * kernel_weight(size, WIDE)
        np.testing.assert_allclose(design.weights[sizes == size].sum(), expected, rtol=0.15)
    assert len(np.unique(design.masks, axis=0)) == len(design.masks) <= 4000  # nothing twice


def test_the_mean_over_seeds_is_exact():
    game = smooth_game(WIDE)
    exact = played(Everything(WIDE), game)
    for make, tolerance in (
        (lambda seed: Permutations(WIDE, 5, seed), 0.02),
        (lambda s: Regression(WIDE, 90, s), 0.02),
    ):
        got = np.mean([played(make(seed), game) for seed in range(200)], axis=0)
        np.testing.assert_allclose(got, exact, atol=tolerance)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Permutations(WIDE, 20, seed),
        lambda seed: Permutations(WIDE, 3, seed),
        lambda seed: Regression(WIDE, 100, seed),
        lambda seed: Regression(WIDE, 500, seed),
        lambda seed: Local(WIDE, 400, seed, 0.25, 0.0),
        lambda seed: Shown(WIDE, 300, 0.5, seed),
    ],
    ids=["permutations", "few permutations", "regression", "long regression", "lime", "rise"],
)
def test_standard_errors_are_honest(make):
    """95 % intervals of 200 seeds hold the exact value as often as they say."""
    game = smooth_game(WIDE)
    exact = exact_of(make(0), game)
    held = [np.abs(played(make(seed), game) - exact) <= 1.96 * doubted(make(seed), game) for seed in range(200)]
    assert 0.90 <= np.mean(held) <= 0.98


def exact_of(design, game):
    """What endless samples of a design would give."""
    if isinstance(design, Local):
        return played(Local(WIDE, 2**WIDE, 0, 0.25, 0.0), game)
    masks = Everything(WIDE).all_masks
    if isinstance(design, Shown):
        return game(masks) @ masks / len(masks) / 0.5
    return played(Everything(WIDE), game)


def test_nothing_drawn_has_no_error():
    game = table_game(6)
    for design in (Everything(6), Regression(6, 62, 0), Local(6, 64, 0, 0.25, 1.0)):
        assert not doubted(design, game).any()


# --- other libraries


def test_shap_exact_explainer(stored):
    model = network(stored["first"], stored["second"])
    got = vis.ShapleyValues(model, baseline=stored["background"])(stored["rows"], 1)
    np.testing.assert_allclose(got, stored["exact"], atol=1e-5)
    np.testing.assert_allclose(vis.KernelSHAP(model, baseline=stored["background"])(stored["rows"], 1), got, atol=1e-5)


def test_shap_kernel_explainer(stored):
    model = network(stored["wide_first"], stored["wide_second"])
    row, background = stored["wide_row"], vis.Background(stored["wide_background"])
    exact = vis.KernelSHAP(model, baseline=background, num_samples=2**WIDE)(row, 1, batch_size=4096)[0]
    theirs = np.sqrt(np.mean((stored["kernel"] - exact) ** 2))
    ours = [vis.KernelSHAP(model, baseline=background, num_samples=400, seed=seed)(row, 1)[0] for seed in range(10)]
    assert np.abs(stored["kernel"].mean(axis=0) - exact).max() < 4 * theirs / np.sqrt(10)
    assert np.sqrt(np.mean((np.array(ours) - exact) ** 2)) < 1.2 * theirs


def network(first, second):
    model = keras.Sequential(
        [keras.Input((len(first),)), layers.Dense(first.shape[1], "tanh"), layers.Dense(1, use_bias=False)]
    )
    model.set_weights([first, np.zeros(first.shape[1]), second[:, None]])
    return model


def test_lime_base(stored):
    masks, scores = stored["lime_masks"], stored["lime_scores"]
    found, places, times = np.unique(masks, axis=0, return_index=True, return_counts=True)
    design = Local(7, 10, 0, 0.25, 1.0)
    proper = found.any(axis=1) & ~found.all(axis=1)
    design.masks, design._times = found[proper], times[proper]
    design._ends = times[~found.any(axis=1)].sum(), times[found.all(axis=1)].sum()
    empty = scores[~masks.any(axis=1)][:1] if design._ends[0] else np.zeros(1)
    got = design.values(scores[places][proper][None], empty, scores[:1])[0]
    np.testing.assert_allclose(got, stored["lime"], atol=1e-10)


def test_sobol_indices_of_xplique(stored):
    design, scores = TotalIndices(4, 64, 0), stored["sobol_scores"]
    ordered = np.append(scores[:128], scores[128:].reshape(4, 64).T)  # theirs go feature by feature
    got = design.values(ordered[None])[0]
    both, first = (stored["sobol_scores"][:size].var(ddof=1) for size in (128, 64))
    np.testing.assert_allclose(got * both / first, stored["sobol"], rtol=1e-4)


# --- sensitivity


def ishigami(masks):
    x = (2 * masks.astype("float64") - 1) * np.pi
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def test_sobol_of_the_ishigami_function():
    design = TotalIndices(3, 4096, 0)
    # Homma & Saltelli 1996, with a = 7 and b = 0.1
    np.testing.assert_allclose(design.values(ishigami(design.masks)[None])[0], [0.5576, 0.4424, 0.2437], atol=2e-3)


def test_sobol_errors_are_honest():
    designs = [TotalIndices(3, 64, seed) for seed in range(100)]
    scores = [ishigami(design.masks)[None] for design in designs]
    held = [
        np.abs(design.values(one) - [0.5576, 0.4424, 0.2437]) <= 1.96 * design.errors(one)
        for design, one in zip(designs, scores)
    ]
    assert 0.90 <= np.mean(held) <= 0.99  # points of a Sobol sequence are better spread than random ones


def test_hsic_against_a_double_loop(rng):
    design, number = Dependence(3, 40, 0), 40
    assert (design.masks.sum(axis=0) == 20).all()
    scores = np.sin(design.masks @ [2.0, 1.0, 0.0]) + 0.1 * rng.random(number)
    distances = [abs(scores[a] - scores[b]) for a in range(number) for b in range(a)]
    width = np.median(distances)
    expected = np.zeros(3)
    for feature in range(3):
        x = design.masks[:, feature] * 1.0
        one = np.array([[-abs(a - b) for b in x] for a in x])
        other = np.array([[math.exp(-((a - b) ** 2) / (2 * width**2)) for b in scores] for a in scores])
        for a, b in itertools.product(range(number), repeat=2):
            centred = [k[a, b] - k[a].mean() - k[:, b].mean() + k.mean() for k in (one, other)]
            expected[feature] += centred[0] * centred[1] / number**2
    np.testing.assert_allclose(design.values(scores[None])[0], expected, atol=1e-12)


@pytest.mark.parametrize("design", [TotalIndices(3, 8, 0), Dependence(3, 40, 0)])
def test_a_constant_score_depends_on_nothing(design):
    scores = np.full((2, len(design.masks)), 3.0)
    assert not design.values(scores).any() and not design.errors(scores).any()


# --- models


METHODS = {
    "shapley": (vis.ShapleyValues, {}),
    "kernel": (vis.KernelSHAP, {}),
    "lime": (vis.LIME, {"alpha": 0.0}),
    "occlusion": (vis.Occlusion, {"features": 3}),
}


@pytest.fixture(scope="module")
def linear():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model.set_weights([np.random.default_rng(1).normal(size=(6, 2)), np.ones(2)])
    return model


def test_what_should_agree_on_a_linear_model_does(linear, rng):
    x, baseline = rng.normal(size=(3, 6)).astype("float32"), rng.normal(size=6).astype("float32")
    expected = linear.get_weights()[0][:, 1] * (x - baseline)
    columns = np.arange(6)
    for explainer in (
        vis.ShapleyValues(linear, baseline=baseline),
        vis.KernelSHAP(linear, baseline=baseline),
        vis.LIME(linear, baseline=baseline, alpha=0.0),
        vis.Occlusion(linear, baseline=baseline, features=columns),
        vis.IntegratedGradients(linear, baseline=baseline),
        vis.DeepLIFT(linear, baseline=baseline),
    ):
        np.testing.assert_allclose(explainer(x, 1), expected, atol=1e-5, err_msg=repr(explainer))


@pytest.mark.parametrize("name", METHODS)
def test_features_say_what_belongs_together(name, linear, rng):
    kind, own = METHODS[name]
    x = rng.normal(size=(2, 6)).astype("float32")
    got = kind(linear, **{**own, "features": np.array([5, 5, 0, 0, 7, 5])})(x, 1)  # numbers may be left out
    single = linear.get_weights()[0][:, 1] * x
    for together in ([0, 1, 5], [2, 3], [4]):
        sums = single[:, together].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(got[:, together], np.broadcast_to(sums, (2, len(together))), atol=1e-5)


def test_features_of_each_sample(linear, rng):
    x = rng.normal(size=(2, 6)).astype("float32")
    labels = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5]])
    found = vis.ShapleyValues(linear, labels)
    single = linear.get_weights()[0][:, 1] * x
    halves = single[0].reshape(2, 3).sum(axis=1)
    np.testing.assert_allclose(found(x, 1), [np.repeat(halves, 3), single[1]], atol=1e-5)
    values = found.by_feature(x, 1)
    np.testing.assert_allclose(values.values[0], [*halves, *[np.nan] * 4], atol=1e-5)
    np.testing.assert_allclose(values.base, 1, atol=1e-6)
    np.testing.assert_allclose(values.base + np.nansum(values.values, axis=1), values.scores, atol=1e-5)
    np.testing.assert_array_equal(values.labels, labels)


def test_a_background_is_averaged_over(rng):
    model = small_cnn()
    x, background = rng.random((2, 9, 7, 3), "float32"), rng.random((3, 9, 7, 3), "float32")
    for kind in (vis.ShapleyValues, vis.KernelSHAP, vis.LIME):
        single = np.mean([kind(model, 2, one)(x, 1) for one in background], axis=0)
        np.testing.assert_allclose(kind(model, 2, vis.Background(background))(x, 1), single, atol=1e-5)
        np.testing.assert_allclose(kind(model, 2, background)(x, 1, batch_size=5), single, atol=1e-5)


def test_cells_segments_and_functions_of_images(rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3), "float32")
    whole = vis.ShapleyValues(model, 2)(x, 1)
    np.testing.assert_allclose(vis.ShapleyValues(model, cells((9, 7), 2))(x, 1), whole, atol=1e-6)
    seen = []

    def halves(images):
        seen.append(images.shape)
        images[:] = 0  # a copy
        return np.broadcast_to(np.arange(9)[:, None] // 5, (9, 7))

    assert len(np.unique(vis.ShapleyValues(model, halves)(x, 1)[0])) == 2
    assert seen == [(2, 9, 7, 3)] and x.any()


@pytest.mark.parametrize("method", ["slic", "felzenszwalb"])
def test_segments_by_scikit_image(method):
    segmentation = pytest.importorskip("skimage.segmentation")
    image = np.zeros((1, 32, 32, 3), "float32")
    image[:, :16], image[:, 16:, 20:] = 0.8, 0.4
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(2)])
    found = vis.KernelSHAP(model, method).by_feature(image, 1)
    options = {"n_segments": 50, "start_label": 0} if method == "slic" else {"scale": 250, "min_size": 5}
    expected = getattr(segmentation, method)(image[0].astype(float) / np.float32(0.8), **options)
    assert len(np.unique(found.labels)) == len(np.unique(expected)) > 2
    for label in np.unique(expected):  # the same cut
        assert len(np.unique(found.labels[0][expected == label])) == 1


@pytest.mark.parametrize(("method", "number"), [("slic", 0), ("felzenszwalb", 1)])
@pytest.mark.parametrize("make", [vis.ShapleyValues, vis.KernelSHAP, vis.LIME, vis.Occlusion, vis.RISE])
def test_images_of_a_single_segment(make, method, number, rng):
    pytest.importorskip("skimage.segmentation")
    images = np.stack([rng.random((32, 32, 3)), np.ones((32, 32, 3))])  # noise, and one colour
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match=f"one segment, the whole image, for images {number}, as of noise") as raised:
        make(model, features=method)(images, 1)
    assert len(str(raised.value)) < 400
    make(model, features=4)(images[:1], 1)


def test_cells_of_volumes_and_windows_of_signals(rng):
    volume = keras.Sequential([keras.Input((8, 8, 8, 1)), layers.GlobalAveragePooling3D()])
    maps = vis.KernelSHAP(volume, seed=0)(rng.random((1, 8, 8, 8, 1)))
    assert len(np.unique(maps)) == 64 and np.ptp(maps[0, :2, :2, :2]) == 0
    signal = keras.Sequential([keras.Input((20, 2)), layers.GlobalAveragePooling1D()])
    x = rng.random((1, 20, 2), "float32")
    np.testing.assert_allclose(vis.ShapleyValues(signal, seed=0)(x, 1), x[..., 1] / 20, atol=1e-6)
    windows = vis.ShapleyValues(signal, features=5)(x, 1)
    np.testing.assert_allclose(windows, np.repeat(x[..., 1].reshape(1, 5, 4).sum(axis=2) / 20, 4, axis=1), atol=1e-6)


def two_inputs():
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    return keras.Model({"left": left, "right": right}, layers.Dense(2)(layers.Concatenate()([left, right])))


def test_several_inputs(rng):
    model = two_inputs()
    x = {"left": rng.normal(size=(4, 3)).astype("float32"), "right": rng.normal(size=(4, 2)).astype("float32")}
    weights = model.get_weights()[0][:, 1]
    expected = {"left": x["left"] * weights[:3], "right": x["right"] * weights[3:]}
    for explainer in (vis.ShapleyValues(model), vis.KernelSHAP(model, {"left": [0, 1, 2], "right": None})):
        got = explainer(x, 1)
        assert set(got) == {"left", "right"}
        for name, array in expected.items():
            np.testing.assert_allclose(got[name], array, atol=1e-5)
    only = vis.ShapleyValues(model, {"right": None})(x, 1)
    np.testing.assert_allclose(only, expected["right"], atol=1e-5)
    found = vis.ShapleyValues(model, {"left": [4, 4, 1], "right": [4, 4]}).by_feature(x, 1)
    assert found.values.shape == (4, 3)  # features of two inputs are different, whatever their numbers
    np.testing.assert_array_equal(found.labels["left"][0], [1, 1, 0])
    np.testing.assert_array_equal(found.labels["right"][0], [2, 2])


def test_backgrounds_of_several_inputs_go_together(rng):
    model = two_inputs()
    x = {"left": rng.normal(size=(2, 3)), "right": rng.normal(size=(2, 2))}
    background = {"left": rng.normal(size=(6, 3)), "right": rng.normal(size=(6, 2))}
    found = vis.ShapleyValues(model, baseline=background).by_feature(x, 1)
    rows = {key: value.astype("float32") for key, value in background.items()}
    np.testing.assert_allclose(found.base, value_of(model(rows))[:, 1].mean(), atol=1e-5)
    uneven = {"left": background["left"], "right": background["right"][:3]}
    with pytest.raises(ValueError, match="as many samples"):
        vis.ShapleyValues(model, baseline=uneven)(x, 1)


def unmasked():
    return keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(9, 4), layers.GlobalAveragePooling1D()])


def test_tokens(rng):
    ids = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(embedded)))
    texts = np.array([[3, 4, 5, 0, 0], [1, 2, 3, 4, 5]])
    got = vis.ShapleyValues(model, baseline=8)(texts, 1)
    assert not got[0, 3:].any() and got[0, :3].all() and got[1].all()
    hidden = np.where(texts == 0, 0, 8)
    np.testing.assert_allclose(got.sum(axis=1), value_of(model(texts) - model(hidden))[:, 1], atol=1e-5)
    with pytest.raises(FloatingPointError, match="the id of the mask token"):
        vis.ShapleyValues(model)(texts, 1)  # nothing but padding, of which there is no mean
    shown = vis.RISE(unmasked(), 50, seed=0, features=[0, 0, 1, 1, 1])(texts, 1)
    assert shown.shape == (2, 5) and shown[1, 0] == shown[1, 1]
    with pytest.raises(ValueError, match="cannot show in part"):
        vis.Sobol(model)(texts, 1)
    with pytest.raises(ValueError, match="token id from 0 to 8"):
        vis.ShapleyValues(model, baseline=9)(texts, 1)


def test_errors_come_with_the_values(rng):
    model, x = small_cnn(), rng.random((2, 9, 7, 3), "float32")
    for explainer in (
        vis.ShapleyValues(model, 4, num_samples=100, seed=0),
        vis.KernelSHAP(model, 4, num_samples=60, seed=0),
        vis.LIME(model, 4, num_samples=60, seed=0),
        vis.Sobol(model, 3, 8, seed=0),
        vis.HSIC(model, 3, 60, seed=0),
        vis.RISE(model, 60, 3, seed=0),
        vis.RISE(model, 60, seed=0, features=4),
    ):
        values, errors = explainer.with_error(x, 1)
        np.testing.assert_array_equal(values, explainer(x, 1))
        assert errors.shape == values.shape and errors.dtype == np.float32 and (errors >= 0).all() and errors.any()
    single = vis.ShapleyValues(model, 4, num_samples=40, seed=0)
    assert np.isnan(single.by_feature(x, 1).errors).all()
    with pytest.raises(ValueError, match="at least 62 for 16 features and their errors"):
        single.with_error(x, 1)


@pytest.mark.slow
def test_rise_errors_are_honest(rng):
    model, x = small_cnn(), rng.random((1, 9, 7, 3), "float32")
    wide = vis.RISE(model, 20000, 3, seed=1)(x, 1, batch_size=1000)
    found = [vis.RISE(model, 50, 3, seed=seed).with_error(x, 1, batch_size=50) for seed in range(40)]
    held = [np.abs(values - wide) <= 1.96 * errors for values, errors in found]
    assert 0.9 <= np.mean(held) <= 0.99


def test_interactions_of_a_product(rng):
    first, second, third = (keras.Input((1,)) for _ in range(3))
    joined = keras.Model([first, second, third], layers.Multiply()([first, second]) + third)
    x = [np.full((2, 1), value) for value in (2.0, 3.0, 5.0)]
    found = vis.ShapleyValues(joined).interactions(x, 1)
    np.testing.assert_allclose(found, np.broadcast_to([[0, 3, 0], [3, 0, 0], [0, 0, 5]], (2, 3, 3)), atol=1e-5)
    with pytest.raises(ValueError, match="at most 12"):
        vis.ShapleyValues(small_cnn(), 4).interactions(rng.random((1, 9, 7, 3)), 1)


def test_every_argument_matters(rng):
    model, x = small_cnn(), rng.random((1, 9, 7, 3), "float32")
    usual = {"features": 4, "num_samples": 100, "seed": 0}
    changes = {"features": 3, "baseline": 0.5, "num_samples": 70, "seed": 1, "output_layer": "conv2"}
    for kind in (vis.ShapleyValues, vis.KernelSHAP, vis.LIME):
        expected = kind(model, **usual)(x, 1)
        more = {"alpha": 5.0, "kernel_width": 0.1} if kind is vis.LIME else {}
        for name, value in {**changes, **more}.items():
            assert not np.allclose(kind(model, **{**usual, name: value})(x, 1), expected, atol=1e-7), name
    soft = keras.Sequential([model, layers.Softmax()])
    for kind, own in ((vis.Sobol, {"grid": 3, "num_designs": 4}), (vis.HSIC, {"grid": 3, "num_masks": 40})):
        expected = kind(soft, **own, seed=0)(x, 1)
        for name, value in {
            **dict.fromkeys(own, 6),
            "seed": 1,
            "features": 2,
            "baseline": 0.5,
            "logits": True,
        }.items():
            assert not np.allclose(kind(soft, **{**own, "seed": 0, name: value})(x, 1), expected, atol=1e-7), name


def test_labels_without_gaps():
    labels, counts = numbered(np.array([[9, 2, 9], [1, 1, 1]]), np.array([[True, True, True], [True, True, False]]))
    assert labels.tolist() == [[1, 0, 1], [0, 0, -1]] and counts.tolist() == [2, 1]


def test_arrays_of_the_user_stay_as_they_are(rng):
    model = small_cnn()
    x, background = rng.random((2, 9, 7, 3), "float32"), rng.random((3, 9, 7, 3), "float32")
    labels = np.arange(63).reshape(9, 7) // 16 * 3
    copies = [array.copy() for array in (x, background, labels)]
    vis.KernelSHAP(model, labels, background)(x, 1)
    vis.Sobol(model, 3, 4, baseline=background)(x, 1)
    for array, copy in zip((x, background, labels), copies):
        np.testing.assert_array_equal(array, copy)


def test_the_choice_of_zero_is_told_where_columns_are_not_scaled(linear):
    with pytest.warns(VisualizationWarning, match="column 1 with values from 40 to 60"):
        vis.ShapleyValues(linear)(np.array([[1.0, 40, 0, 0, 0, 0], [0, 60, 0, 0, 0, 0]]), 1)


def test_whole_numbers_that_float32_cannot_hold_stay_whole():
    ids = keras.Input((2,), dtype="int32")
    model = keras.Model(ids, layers.Dense(1)(keras.ops.cast(keras.ops.mod(ids, 7), "float32")))
    x = np.array([[100000001, 100000004], [100000002, 100000003]], "int32")
    found = vis.ShapleyValues(model).by_feature(x, 1)
    np.testing.assert_allclose(found.scores, value_of(model(x))[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="16777216"):
        vis.ShapleyValues(model, baseline=100000001)(x, 1)
    with pytest.raises(ValueError, match="below 2147483648"):
        vis.ShapleyValues(model)(x.astype("int64") * 100, 1)


def test_columns_of_a_dict_are_named(rng):
    inputs = {key: keras.Input((1,), name=key) for key in ("weight", "age")}
    model = keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([inputs["weight"], inputs["age"]])))
    model.set_weights([np.array([[10.0], [1.0]]), np.zeros(1)])
    one = np.ones((1, 1))
    found = vis.ShapleyValues(model).by_feature({"weight": one, "age": one}, 1)
    np.testing.assert_allclose([found.values[0][found.names.index(key)] for key in ("weight", "age")], [10, 1])


def test_a_column_of_codes_is_a_column(rng):
    code, age = keras.Input((1,), dtype="int32", name="code"), keras.Input((1,), name="age")
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(5, 2)(code)), age])
    model = keras.Model({"code": code, "age": age}, layers.Dense(1)(joined))
    x = {"code": np.array([[3], [1]]), "age": rng.normal(size=(2, 1)).astype("float32")}
    found = vis.ShapleyValues(model).by_feature(x, 1)
    assert sorted(found.names) == ["age", "code"] and found.values.all()


def test_a_list_of_baselines_is_one_for_each_input(rng):
    model = two_inputs()
    x = [rng.normal(size=(2, 3)), rng.normal(size=(2, 2))]
    named = dict(zip(("left", "right"), x))
    rows = rng.normal(size=(4, 2))
    listed = vis.ShapleyValues(model, {"right": None}, [0.0, rows])(named, 1)
    np.testing.assert_allclose(listed, vis.ShapleyValues(model, {"right": None}, {"right": rows})(named, 1), atol=1e-6)


def test_columns_of_several_types_are_numbers(linear):
    table = np.array([[1, 2.5, True, 0, 1, 2]], dtype=object)
    np.testing.assert_allclose(
        vis.ShapleyValues(linear)(table, 1), vis.ShapleyValues(linear)(table.astype(float), 1), atol=1e-6
    )


# --- bad input

MISTAKES = {
    "another shape": ({"features": [0, 1, 1]}, "must have the shape of the positions"),
    "fractions": ({"features": [0.5] * 6}, "must be whole numbers from 0 on"),
    "below zero": ({"features": [-1, 0, 0, 0, 0, 0]}, "from 0 on"),
    "a word": ({"features": "grid"}, "'slic'"),
    "no cells": ({"features": 0}, "`features`"),
    "segments of columns": ({"features": "slic"}, "needs images with channels"),
    "no such input": ({"features": {"image": None}}, "must name one of the model's inputs"),
    "a list": ({"features": [None, None]}, "one entry for each of 1 inputs"),
    "what a function returns": ({"features": lambda x: x}, "what `features` returns must be whole numbers"),
    "background of other columns": ({"baseline": np.zeros((4, 5))}, "must hold samples of the shape"),
    "a word as baseline": ({"baseline": "median"}, "`baseline`"),
    "baseline that is not finite": ({"baseline": np.nan}, "`baseline`"),
    "truth": ({"baseline": True}, "`baseline`"),
    "no samples": ({"num_samples": 0}, "`num_samples`"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name, linear):
    own, words = MISTAKES[name]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        vis.ShapleyValues(linear, **own)(np.ones((2, 6)), 1)
    assert len(str(caught.value)) < 400 and "Received" in str(caught.value)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda model: vis.ShapleyValues(model, 4, num_samples=31), "at least 32 for 16 features"),
        (lambda model: vis.KernelSHAP(model, 4, num_samples=37), "at least 38 for 16 features"),
        (lambda model: vis.LIME(model, 4, num_samples=17), "at least 18 for 16 features"),
        (lambda model: vis.LIME(model, kernel_width=0.0), "`kernel_width` must be above 0"),
        (lambda model: vis.LIME(model, alpha=-1.0), "`alpha`"),
        (lambda model: vis.Sobol(model, num_designs=1), "`num_designs`"),
        (lambda model: vis.HSIC(model, num_masks=3), "`num_masks`"),
        (lambda model: vis.Occlusion(model, patch=2, features=3), "Leave these out"),
        (lambda model: vis.RISE(model, input_name=0, features=3), "Give a dict"),
    ],
)
def test_mistakes_about_numbers_are_told(make, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make(small_cnn())(np.ones((1, 9, 7, 3)), 1)
    assert len(str(caught.value)) < 400


def test_a_single_feature_gets_everything(linear):
    x = np.ones((2, 6))
    rise = value_of(linear(np.ones((1, 6), "float32")) - linear(np.zeros((1, 6), "float32")))[0, 1]
    for kind in (vis.ShapleyValues, vis.KernelSHAP, vis.Occlusion):
        np.testing.assert_allclose(kind(linear, features=[0] * 6)(x, 1), rise, atol=1e-5)
    for kind in (vis.LIME, vis.Sobol, vis.HSIC):
        assert np.isfinite(kind(linear, features=[0] * 6)(x, 1)).all()


def test_a_constant_model_owes_nothing():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2, kernel_initializer="zeros")])
    for kind in (vis.ShapleyValues, vis.KernelSHAP, vis.LIME, vis.Sobol, vis.HSIC, vis.Occlusion):
        assert not kind(model, features=np.arange(6))(np.ones((2, 6)), 1).any()


def test_strings_in_a_table_are_told(linear):
    with pytest.raises((ValueError, TypeError), match="numbers"):
        vis.ShapleyValues(linear)(np.array([["a"] * 6]), 1)


def codes(kind):
    """Returns a model of a column of codes, of which another makes rows of a table, and of two columns of numbers."""
    pytest.importorskip("tensorflow")  # Keras's own layers for codes need it on each backend
    code, numbers = keras.Input((1,), name="code", dtype="int32"), keras.Input((2,), name="numbers")
    rows = {
        "hashing": lambda: layers.Hashing(7, mask_value=0),
        "one-hot": lambda: layers.Hashing(7, output_mode="one_hot"),
        "lookup": lambda: layers.IntegerLookup(vocabulary=[3, 5, 9]),
        "crossing": lambda: lambda one: layers.HashedCrossing(7)((one, keras.ops.cast(one * 2, "int32"))),
    }[kind]()(code)
    found = layers.Dense(4, name="vectors") if kind == "one-hot" else layers.Embedding(8, 4, name="vectors")
    joined = layers.Concatenate()([layers.Flatten()(found(rows)), numbers])
    model = keras.Model([code, numbers], layers.Dense(2)(layers.Dense(5, activation="tanh")(joined)))
    for number, weight in enumerate(model.trainable_weights):
        weight.assign(np.random.default_rng(number).normal(size=weight.shape))
    return model


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # of Keras, on JAX
@pytest.mark.parametrize("kind", ["hashing", "one-hot", "lookup", "crossing"])
def test_layers_that_number_codes(kind, rng):
    model = codes(kind)
    inputs = [np.array([[3], [5], [7]]), rng.normal(size=(3, 2)).astype("float32")]
    columns = np.concatenate(inputs, axis=1)

    def score(row):
        given = [row[None, :1].astype("int32"), row[None, 1:].astype("float32")]
        return float(keras.ops.convert_to_numpy(model([keras.ops.convert_to_tensor(one) for one in given]))[0, 1])

    expected = np.zeros((3, 3))
    for row, values in zip(columns, expected):
        for order in itertools.permutations(range(3)):
            shown = np.zeros(3)
            for column in order:
                before = score(shown)
                shown[column] = row[column]
                values[column] += (score(shown) - before) / 6
    for explainer in (vis.ShapleyValues(model), vis.KernelSHAP(model, seed=0)):
        for _ in range(2):  # compiled, too
            found = np.concatenate(explainer(inputs, 1), axis=1)
            np.testing.assert_allclose(found, expected, atol=2e-5)
    alone = np.stack([[score(row) - score(row * (np.arange(3) != i)) for i in range(3)] for row in columns])
    found = np.concatenate(vis.Occlusion(model, features=[None, None])(inputs, 1), axis=1)
    np.testing.assert_allclose(found, alone, atol=2e-5)
    assert np.abs(np.concatenate(vis.LIME(model, seed=0)(inputs, 1), axis=1)).max() > 0.01
    assert np.abs(vis.Saliency(model, input_layer="vectors")(inputs, 1)).max() > 0.01


def with_texts():
    """Returns a model of an input of strings and of two columns."""
    pytest.importorskip("tensorflow")
    name, numbers = keras.Input((1,), name="name", dtype="string"), keras.Input((2,), name="numbers")
    code = layers.StringLookup(vocabulary=["a", "é"])(name)
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(3, 4, name="vectors")(code)), numbers])
    return keras.Model([name, numbers], layers.Dense(2)(layers.Dense(5, activation="tanh")(joined)))


TEXTS = np.array([["é"], ["a"], ["b"]])
on_tensorflow = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow has strings")


@on_tensorflow
@pytest.mark.parametrize("texts", [TEXTS, TEXTS.tolist(), TEXTS.astype(object), np.char.encode(TEXTS, "utf-8")])
def test_strings_are_handed_on(texts, rng):
    model, numbers = with_texts(), rng.normal(size=(3, 2)).astype("float32")
    code, other = keras.Input((1,), dtype="int32"), keras.Input((2,))
    vectors = layers.Flatten()(model.get_layer("vectors")(code))
    of_codes = keras.Model([code, other], model.layers[-1](model.layers[-2](layers.Concatenate()([vectors, other]))))
    codes = np.array([[2], [1], [0]])
    for make in (vis.ShapleyValues, vis.KernelSHAP, vis.LIME, vis.Occlusion):
        seed = {} if make is vis.Occlusion else {"seed": 0}
        expected = make(of_codes, features={1: None}, **seed)([codes, numbers], 1)
        found = make(model, features={"numbers": None}, **seed)
        for inputs in ([texts, numbers], {"name": texts, "numbers": numbers}):
            np.testing.assert_allclose(found(inputs, 1), expected, atol=1e-6)
    found, expected = vis.Saliency(model)([texts, numbers], 1), vis.Saliency(of_codes)([codes, numbers], 1)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert found[0].shape == (3, 1) and not found[0].any()
    assert np.abs(vis.Saliency(model, input_layer="vectors")([texts, numbers], 1)).max() > 0


@on_tensorflow
def test_strings_are_no_features(rng):
    model, inputs = with_texts(), [TEXTS, rng.normal(size=(3, 2))]
    for explainer in (vis.ShapleyValues(model), vis.LIME(model, {"name": None})):
        with pytest.raises(ValueError, match=r"must be numbers\. Received: `inputs\[0\]`, which holds strings\. Name"):
            explainer(inputs, 1)
    for explainer in (vis.GradientTimesInput(model), vis.IntegratedGradients(model), vis.SmoothGrad(model)):
        with pytest.raises(ValueError, match=r"Received: strings, `inputs\[0\]`\. Give `input_layer="):
            explainer(inputs, 1)
    with pytest.raises(ValueError, match=r"`inputs\[0\]` holds whole numbers or strings"):
        vis.RISE(model, input_name="name")(inputs, 1)
    for texts in (np.array([["a"], [None], ["b"]]), np.ones((3, 1)), None):
        with pytest.raises(ValueError, match="must be strings, as the model takes them"):
            vis.Saliency(model)([texts, inputs[1]], 1)


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="TensorFlow has strings")
def test_strings_where_there_are_none(rng):
    with pytest.raises(ValueError, match=r"which Keras takes on TensorFlow only\. .* `codes = lookup\(strings\)`"):
        vis.ShapleyValues(with_texts(), {"numbers": None})([TEXTS, rng.normal(size=(3, 2))], 1)


class Frame:
    """What is read of a data frame: the names of its columns, and its numbers."""

    def __init__(self, numbers, columns):
        self.columns, self._numbers = list(columns), np.asarray(numbers)

    def to_numpy(self):
        return self._numbers

    def __array__(self, dtype=None, copy=None):
        return np.array(self._numbers, dtype)

    def __len__(self):
        return len(self._numbers)

    @property
    def shape(self):
        return self._numbers.shape


def three_columns():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0], [10.0], [100.0]]), np.zeros(1)])
    return model, Frame(np.random.default_rng(0).normal(size=(20, 3)), ["age", "dose", "kg"])


@pytest.mark.parametrize(
    "make",
    [
        lambda m, other: vis.ShapleyValues(m, baseline=other),
        lambda m, other: vis.Occlusion(m, baseline=other, features=[0, 1, 2]),
        lambda m, other: vis.ExpectedGradients(m, other, 5, seed=0),
        lambda m, other: vis.IntegratedGradients(m, baseline=other),
        lambda m, other: vis.DeepLIFT(m, baseline=other),
    ],
)
def test_columns_of_another_order_are_refused(make):
    model, rows = three_columns()
    swapped = Frame(np.array(rows)[:, ::-1], rows.columns[::-1])
    with pytest.raises(
        ValueError,
        match=r"columns of the inputs, in their order.*'kg', 'dose', 'age', and inputs of 'age', 'dose', 'kg'",
    ):
        make(model, swapped)(rows, 1)
    for other in (
        Frame(1 + np.array(rows), range(3)),
        Frame(1 + np.array(rows), rows.columns),
        1 + np.array(rows)[::-1],
    ):  # names that are the same, or none
        assert make(model, other)(rows, 1).shape == (20, 3)


def test_features_have_the_names_of_the_columns():
    model, rows = three_columns()
    assert vis.ShapleyValues(model).by_feature(rows, 1).names == ["age", "dose", "kg"]
    found = vis.ShapleyValues(model, [1, 0, 0]).by_feature(rows, 1)
    assert found.names == ["dose + kg", "age"]
    np.testing.assert_allclose(found.values[:, 1], np.array(rows)[:, 0], atol=1e-4)
    counted = Frame(np.array(rows), range(3))  # as a data frame that is made of an array
    assert vis.ShapleyValues(model).by_feature(counted, 1).names == ["feature 0", "feature 1", "feature 2"]
    assert vis.ShapleyValues(model).by_feature(np.array(rows), 1).names == ["feature 0", "feature 1", "feature 2"]


def test_classes_are_told_and_mixed_ones_warned_of():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[1.0, -1], [1, -1], [1, -1]]), np.zeros(2)])
    rows = np.array([[1.0, 2, 3], [-1, -2, -3]])
    with pytest.warns(VisualizationWarning, match="Each row is explained for its own highest output, 0, 1"):
        assert vis.ShapleyValues(model).by_feature(rows).classes.tolist() == [0, 1]
    assert vis.ShapleyValues(model).by_feature(rows, [1, 1]).classes.tolist() == [1, 1]
    assert vis.ShapleyValues(model).by_feature(rows, lambda outputs: outputs[:, 0]).classes is None
    single, one = three_columns()
    assert vis.ShapleyValues(single).by_feature(one, 0).classes.tolist() == [0] * 20


def test_a_baseline_that_is_the_inputs_is_warned_of():
    model, rows = three_columns()
    for explainer in (
        vis.Occlusion(model, baseline=np.array(rows)),
        vis.IntegratedGradients(model, baseline=np.array(rows)),
    ):
        with pytest.warns(VisualizationWarning, match="is the inputs themselves, row by row: every difference is 0"):
            explainer(rows, 1)
    with pytest.raises(ValueError, match="a background of 20 samples.*vis.ShapleyValues"):
        vis.Occlusion(model, baseline=vis.Background(np.array(rows)))(rows, 1)


def test_zero_is_warned_of_where_the_model_takes_off_the_mean():
    rows = np.random.default_rng(0).normal([4, 7, 3], 1, (300, 3))
    scaling = keras.layers.Normalization()
    scaling.adapt(rows)
    model = keras.Sequential([keras.Input((3,)), scaling, keras.layers.Dense(1)])
    with pytest.warns(VisualizationWarning, match="0 is 7.* standard deviations away from the mean"):
        vis.ShapleyValues(model)(rows[:2], 1)
    vis.ShapleyValues(model, baseline=rows[:5])(rows[:2], 1)
    near = keras.layers.Normalization(mean=[1.0, 1, 1], variance=[1.0, 1, 1])
    vis.ShapleyValues(keras.Sequential([keras.Input((3,)), near, keras.layers.Dense(1)]))(rows[:2], 1)


def test_occlusion_hides_columns_one_by_one():
    weights = np.random.default_rng(0).normal(size=(20, 1))
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(1)])
    model.set_weights([weights, np.zeros(1)])
    np.testing.assert_allclose(vis.Occlusion(model)(np.ones((1, 20)), 1)[0], weights[:, 0], atol=1e-5)


def test_a_table_beside_an_image_is_told_of():
    photo, table = keras.Input((8, 8, 1), name="photo"), keras.Input((3,), name="table")
    both = keras.layers.Concatenate()([keras.layers.Flatten()(photo), table])
    model = keras.Model({"photo": photo, "table": table}, keras.layers.Dense(1)(both))
    x = {"photo": np.ones((1, 8, 8, 1)), "table": np.ones((1, 3))}
    with pytest.warns(VisualizationWarning, match=r"Only parts of `inputs\['photo'\]` are hidden.*table"):
        vis.KernelSHAP(model, num_samples=140, seed=0)(x, 1)
    found = vis.KernelSHAP(model, {"photo": 2, "table": None}, seed=0).by_feature(x, 1)
    assert len(found.names) == 7


def test_an_empty_dict_of_features():
    with pytest.raises(ValueError, match="as a dict must name an input"):
        vis.ShapleyValues(three_columns()[0], {})


def test_a_background_in_the_place_of_features():
    with pytest.raises(ValueError, match="Rows to compare with are the `baseline=`"):
        vis.KernelSHAP(three_columns()[0], np.ones((5, 3)))


@pytest.mark.parametrize("column", ["age", "kg"])
def test_words_in_a_table_name_their_column(column):
    model, rows = three_columns()
    table = np.array(rows).astype(object)
    table[:, rows.columns.index(column)] = "x"
    with pytest.raises(ValueError, match=f"with 'x' in column '{column}'. Turn words, dates and gaps into numbers"):
        vis.ShapleyValues(model)(Frame(table, rows.columns), 1)


def test_mends_for_pandas():
    pandas = pytest.importorskip("pandas")
    model, rows = three_columns()
    frame = pandas.DataFrame(np.array(rows), columns=rows.columns)
    with pytest.raises(ValueError, match=r"take it as `frame.iloc\[\[i\]\]`"):
        vis.ShapleyValues(model)(frame.iloc[0], 1)
    assert vis.ShapleyValues(model)(frame.iloc[[0]], 1).shape == (1, 3)
    age, kg = keras.Input((1,), name="age"), keras.Input((1,), name="kg")
    several = keras.Model({"age": age, "kg": kg}, keras.layers.Dense(1)(keras.layers.Concatenate()([age, kg])))
    with pytest.raises(ValueError, match=r"inputs\[\[name\]\].to_numpy\(\) for name in \['age', 'kg'\]"):
        vis.ShapleyValues(several)(frame, 1)
    with pytest.raises(ValueError, match=r"inputs\['age'\].to_numpy\(\)\[:, None\]"):
        vis.ShapleyValues(several)(dict(frame[["age", "kg"]]), 1)
    given = {name: frame[[name]].to_numpy() for name in ("age", "kg")}
    assert vis.ShapleyValues(several).by_feature(given, 1).names == ["age", "kg"]
