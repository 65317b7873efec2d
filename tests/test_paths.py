"""Expected gradients, blur and guided integrated gradients: laws, and second implementations written from the papers.

Where the authors' package `saliency` is installed, what it computes is compared as well.
"""

import types

import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops
from test_formulas import TARGETS, Twin, close

import vis
from vis.utils.validation import VisualizationWarning

SPATIAL = (1, 2, 3)


def drawn(count=3, seed=3):
    return np.random.default_rng(seed).normal(0.2, 0.8, (count, 9, 7, 3)).astype("float32")


@pytest.fixture(scope="module")
def images():
    return drawn()


@pytest.fixture(scope="module")
def background():
    return drawn(5, seed=8)


@pytest.fixture(scope="module")
def smooth():
    return small_cnn(activation="softplus")


@pytest.fixture(scope="module")
def twin(smooth):
    return Twin(smooth, "softplus")


def scores(model, x, targets=TARGETS):
    return model.predict(x, verbose=0)[np.arange(len(x)), targets]


# --- expected gradients


def expected_gradients(twin, x, index, background, pairs):
    """Erion et al. 2021, equation 3, with the pairs given."""
    shares = []
    for number, position in pairs:
        start = background[number].astype("float64")
        shares.append((x - start) * twin.gradients(start + position * (x - start), index)["input"])
    return np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1) / np.sqrt(len(shares))


def test_expected_gradients(smooth, twin, images, background):
    draw = np.random.default_rng(4)
    pairs = list(zip(draw.integers(5, size=6), draw.random(6, "float32")))
    slow = [expected_gradients(twin, x, c, background, pairs) for x, c in zip(images.astype("float64"), TARGETS)]
    explainer = vis.ExpectedGradients(smooth, background, num_samples=6, seed=4)
    means, errors = explainer.with_error(images, TARGETS, batch_size=4)
    close(means, [mean for mean, _ in slow])
    close(errors, [error for _, error in slow])
    close(explainer(images, TARGETS), means, 1e-6)


def test_expected_gradients_are_complete_within_three_standard_errors(smooth, images, background):
    total = []
    for seed in range(40):  # few gradients each: the error is of some size
        explainer = vis.ExpectedGradients(smooth, background, num_samples=10, seed=seed)
        total.append(explainer(images, TARGETS, batch_size=32).sum(axis=SPATIAL))
    usual = smooth.predict(background, verbose=0)[:, TARGETS].mean(axis=0)
    error = np.std(total, axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(np.mean(total, axis=0) - (scores(smooth, images) - usual)) < 3 * error).all()
    assert (error < 0.1 * np.abs(scores(smooth, images) - usual).max()).all()


@pytest.mark.slow
def test_the_standard_error_is_that_of_many_runs(smooth, images, background):
    runs = [vis.ExpectedGradients(smooth, background, 20, seed)(images, 1) for seed in range(60)]
    _, error = vis.ExpectedGradients(smooth, background, 2000, 0).with_error(images, 1, batch_size=500)
    found = np.std(runs, axis=0, ddof=1)
    assert 0.85 < found.mean() / (error * np.sqrt(2000 / 20)).mean() < 1.15


def test_one_baseline_is_integrated_gradients_in_the_limit(smooth, images, background):
    expected = vis.IntegratedGradients(smooth, 50, background[0])(images, 1)
    got, error = vis.ExpectedGradients(smooth, background[:1], 1000, 0).with_error(images, 1, batch_size=500)
    assert (np.abs(got - expected) < 5 * error + 1e-6).all()
    close(got, expected, 0.1)


def test_expected_gradients_of_several_inputs_take_rows_that_belong_together(rng):
    first, second = keras.Input((2,), name="first"), keras.Input((2,), name="second")
    model = keras.Model({"first": first, "second": second}, layers.Dense(1)(layers.Multiply()([first, second])))
    model.set_weights([np.ones((2, 1)), np.zeros(1)])
    rows = rng.normal(size=(4, 2))
    x = {"first": np.zeros((1, 2)), "second": np.zeros((1, 2))}
    explainer = vis.ExpectedGradients(model, {"first": rows, "second": 1 / rows}, num_samples=50, seed=0)
    got = explainer(x)
    # On each way the score is 2 (1 - a)^2, whatever the row, if rows are not mixed up: each share is -(1 - a).
    np.testing.assert_allclose(got["first"], got["second"], rtol=1e-5)
    np.testing.assert_allclose(got["first"][0, 0], got["first"][0, 1], rtol=1e-5)
    listed = vis.ExpectedGradients(model, [rows, 1 / rows], num_samples=50, seed=0)(x)
    np.testing.assert_array_equal(listed["first"], got["first"])


def test_expected_gradients_within_a_model(smooth, images, background):
    inner = vis.visualization.activations(smooth, "conv1", background)
    got = vis.ExpectedGradients(smooth, inner, 2000, 0, input_layer="conv1")(images, 1, batch_size=500)
    rise = smooth.predict(images, verbose=0)[:, 1] - smooth.predict(background, verbose=0)[:, 1].mean()
    assert got.shape == (3, 7, 5, 4)
    with pytest.raises(ValueError, match=r"the layer's output.*\(9, 7, 3\).*visualization.activations"):
        vis.ExpectedGradients(smooth, background[0], 5, input_layer="conv1")(images, 1)
    np.testing.assert_allclose(got.sum(axis=SPATIAL), rise, rtol=0, atol=0.05 * np.abs(rise).max())


def test_the_background_is_not_changed_and_kept(smooth, images, background):
    own = background.copy()
    explainer = vis.ExpectedGradients(smooth, own, 5, 0)
    before = explainer(images, 1)
    np.testing.assert_array_equal(own, background)
    np.testing.assert_array_equal(explainer(images, 1), before)


def words_and_numbers():
    words, numbers = keras.Input((4,), dtype="int32", name="words"), keras.Input((3,), name="numbers")
    flat = layers.Flatten()(layers.Embedding(9, 2)(words))
    model = keras.Model([words, numbers], layers.Dense(2)(layers.Concatenate()([flat, numbers])))
    return model, [np.ones((2, 4), "int32"), np.ones((2, 3), "float32")]


def test_inputs_of_whole_numbers_have_no_background():
    model, x = words_and_numbers()
    words, numbers = vis.ExpectedGradients(model, [None, np.zeros((3, 3))], 5)(x, 1)
    assert not words.any() and numbers.any()
    with pytest.raises(ValueError, match=r"must be None for inputs\[0\]: it holds whole numbers.*input_layer="):
        vis.ExpectedGradients(model, [np.ones((3, 4)), np.zeros((3, 3))], 5)(x, 1)


ONE = np.zeros((9, 7, 3))
BACKGROUNDS = [
    (ONE, r"shape \(M, 9, 7, 3\).*Received: shape \(9, 7, 3\). One sample\?.*`background\[None\]`"),
    (np.zeros((4, 7, 9, 3)), r"Received: shape \(4, 7, 9, 3\)"),
    (np.zeros((0, 9, 7, 3)), "M at least 1"),
    (ONE[None] * np.nan, "`background` must be finite numbers"),
    ("black", "`background` must be a batch of usual inputs"),
]


@pytest.mark.parametrize("given, message", BACKGROUNDS)
def test_backgrounds_that_do_not_fit(given, message, smooth, images):
    with pytest.raises(ValueError, match=message):
        vis.ExpectedGradients(smooth, given)(images, 1)


def test_backgrounds_of_several_inputs_that_do_not_fit():
    model, x = words_and_numbers()
    with pytest.raises(ValueError, match="list or dict of 2 arrays.*one array"):
        vis.ExpectedGradients(model, np.zeros((3, 3)))(x, 1)
    with pytest.raises(ValueError, match="one entry for each of 2 inputs. Received: 1"):
        vis.ExpectedGradients(model, [np.zeros((3, 3))])(x, 1)
    inputs = [keras.Input((2,)), keras.Input((2,))]
    both = keras.Model(inputs, layers.Add()(inputs))
    with pytest.raises(ValueError, match=r"as many rows for each input. Received: \[3, 4\]"):
        vis.ExpectedGradients(both, [np.zeros((3, 2)), np.zeros((4, 2))])([np.ones((1, 2))] * 2, 1)


# --- blur integrated gradients


def diffused(x, variance):
    """Lets whole pixels spread in many small steps, mirrored at the ends: the heat equation."""
    x, count = x.astype("float64"), max(100, int(np.ceil(variance / 0.02)))
    for _ in range(count):
        change = np.zeros_like(x)
        for axis in (0, 1):
            padded = np.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)], mode="edge")
            ahead, behind = (np.roll(padded, -s, axis)[tuple(_inner(x, axis))] for s in (1, -1))
            change += (ahead - 2 * x + behind) / 2
        x = x + variance / count * change
    return x


def _inner(x, axis):
    return [slice(1, -1) if i == axis else slice(None) for i in range(x.ndim)]


def blur_gradients(twin, x, index, sigma, steps):
    """Xu et al. 2020, equation 4, by the midpoint rule along the blurred images themselves."""
    total, variances = np.zeros(x.shape), sigma**2 * (np.arange(steps + 1) / steps) ** 2
    for low, high in zip(variances, variances[1:]):
        gradient = twin.gradients(diffused(x, (low + high) / 2), index)["input"]
        total += gradient * (diffused(x, low) - diffused(x, high))
    return total


def test_blur_integrated_gradients(smooth, twin, images):
    got = vis.BlurIntegratedGradients(smooth, 20, max_sigma=1.5)(images[:2], TARGETS[:2])
    slow = [blur_gradients(twin, x, c, 1.5, 30) for x, c in zip(images[:2], TARGETS)]
    close(got, slow, 5e-3)


@pytest.mark.parametrize("sigma", [0.3, 2.0, 20.0, None])
def test_blur_integrated_gradients_are_complete(sigma, smooth, images):
    got = vis.BlurIntegratedGradients(smooth, 50, sigma)(images, TARGETS)
    variance = (9 / 4 if sigma is None else min(sigma, 9)) ** 2  # at 9, only the mean is left
    blurred = np.stack([diffused(x, variance) for x in images]).astype("float32")
    difference = scores(smooth, images) - scores(smooth, blurred)
    np.testing.assert_allclose(got.sum(axis=SPATIAL), difference, rtol=0, atol=2e-3 * np.abs(difference).max())


def test_a_blur_of_any_size_is_one_of_the_mean_in_the_end(smooth, images):
    got = vis.BlurIntegratedGradients(smooth, 80, max_sigma=1000)(images, 1)
    means = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    difference = scores(smooth, images, [1] * 3) - scores(smooth, means, [1] * 3)
    np.testing.assert_allclose(got.sum(axis=SPATIAL), difference, rtol=5e-3)


def test_a_constant_image_has_nothing_to_blur(smooth):
    got = vis.BlurIntegratedGradients(smooth, 5)(np.full((1, 9, 7, 3), 0.7), 1)
    assert np.abs(got).max() < 1e-6


@pytest.mark.parametrize("shape", [(11, 2), (6, 5, 2), (4, 5, 3, 2)])
def test_only_positions_are_blurred(shape):
    """Channels are not: of a linear model, each channel shares out what differs from its own mean."""
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(1)])
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    weights = model.get_weights()[0].reshape(shape)
    means = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True)
    got = vis.BlurIntegratedGradients(model, 50, max_sigma=50)(x)
    np.testing.assert_allclose(got, weights * (x - means), atol=1e-3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_images_are_blurred(size):
    model = keras.Sequential([keras.Input((size, size, 1)), layers.Flatten(), layers.Dense(1)])
    x = np.random.default_rng(1).normal(size=(2, size, size, 1)).astype("float32")
    got = vis.BlurIntegratedGradients(model, 50, max_sigma=5)(x)
    means = np.broadcast_to(x.mean(axis=SPATIAL, keepdims=True), x.shape)
    np.testing.assert_allclose(got.sum(axis=SPATIAL), value_of(model(x) - model(means))[:, 0], atol=1e-3)


def test_images_without_a_channel_axis_are_blurred_along_both():
    model = keras.Sequential([keras.Input((6, 5)), layers.Reshape((6, 5, 1)), layers.Flatten(), layers.Dense(1)])
    x = np.random.default_rng(1).normal(size=(2, 6, 5)).astype("float32")
    weights = model.get_weights()[0].reshape(6, 5)
    got = vis.BlurIntegratedGradients(model, 50, max_sigma=50)(x)
    np.testing.assert_allclose(got, weights * (x - x.mean(axis=(1, 2), keepdims=True)), atol=1e-3)
    unclear = keras.Sequential([keras.Input((6, 5)), layers.Flatten(), layers.Dense(1)])
    with pytest.warns(VisualizationWarning, match="taken for signals of 5 channels"):
        vis.BlurIntegratedGradients(unclear, 2)(x)


def test_inputs_without_positions_stay_as_they_are(rng):
    image, vector = keras.Input((5, 4, 1)), keras.Input((3,))
    joined = layers.Concatenate()([layers.Flatten()(image), vector])
    model = keras.Model([image, vector], layers.Dense(1)(joined))
    x = [rng.normal(size=(2, 5, 4, 1)), rng.normal(size=(2, 3))]
    images, vectors = vis.BlurIntegratedGradients(model, 20)(x)
    assert np.abs(images).max() > 0 and not vectors.any()


def test_rows_of_embedded_words_are_blurred_along_the_words(rng):
    words = keras.Input((6,), dtype="int32")
    model = keras.Model(words, layers.Dense(1)(layers.Flatten()(layers.Embedding(9, 4, name="embedding")(words))))
    x = rng.integers(0, 9, (2, 6))
    got = vis.BlurIntegratedGradients(model, 50, 50.0, input_layer="embedding")(x)
    embedded = vis.visualization.activations(model, "embedding", x)
    weights = model.get_weights()[1].reshape(6, 4)
    np.testing.assert_allclose(got, weights * (embedded - embedded.mean(axis=1, keepdims=True)), atol=1e-3)
    with pytest.raises(ValueError, match=r"BlurIntegratedGradients\(model, ..., input_layer='tokens'\)"):
        vis.BlurIntegratedGradients(model)(x)
    np.testing.assert_array_equal(vis.BlurIntegratedGradients(model, 50, 50.0, input_layer="tokens")(x), got)


def test_vectors_have_nothing_to_blur():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"positions to blur.*\(1, 5\)"):
        vis.BlurIntegratedGradients(model)(np.ones((1, 5)))


# --- guided integrated gradients


def guided_way(gradient_at, start, end, steps, fraction, distance):
    """Kapishnikov et al. 2021, algorithm 1 with the anchored way, value by value."""
    x, total, size = start.copy(), np.zeros(start.size), start.size
    whole = sum(abs(e - s) for s, e in zip(start, end))
    for step in range(steps):
        gradient, before = gradient_at(x), x.copy()
        low, high = max((step + 1) / steps - distance, 0), min((step + 1) / steps + distance, 1)
        for i in range(size):
            if end[i] != start[i] and (x[i] - start[i]) / (end[i] - start[i]) < low:
                x[i] = start[i] + low * (end[i] - start[i])
        last = [s + high * (e - s) for s, e in zip(start, end)]
        gap = sum(abs(e - v) for v, e in zip(x, end)) - whole * (1 - (step + 1) / steps)
        free = [i for i in range(size) if x[i] != last[i]]
        while gap > 1e-12 and free:
            steepness = sorted(abs(gradient[i]) for i in free)
            limit = steepness[min(int(fraction * (size - 1)), len(free) - 1)]
            chosen = [i for i in free if abs(gradient[i]) <= limit]
            length = sum(abs(last[i] - x[i]) for i in chosen)
            part = min(1.0, gap / length)
            for i in chosen:
                x[i] = last[i] if part == 1 else x[i] + part * (last[i] - x[i])
            gap -= length
            free = [i for i in free if i not in chosen]
        total += (x - before) * gradient
    return total


@pytest.mark.parametrize("steps, fraction, distance", [(12, 0.25, 0.1), (7, 0.6, 1.0), (5, 1.0, 0.3), (9, 0.001, 0.02)])
def test_guided_integrated_gradients(steps, fraction, distance, smooth, twin, images):
    got = vis.GuidedIntegratedGradients(smooth, steps, fraction, distance, baseline=0.1)(images, TARGETS)
    slow = []
    for x, c in zip(images.astype("float64"), TARGETS):

        def gradient_at(flat, c=c):
            return twin.gradients(flat.reshape(9, 7, 3), c)["input"].reshape(-1)

        start = np.full(x.size, np.float64(np.float32(0.1)))
        slow.append(guided_way(gradient_at, start, x.reshape(-1), steps, fraction, distance).reshape(x.shape))
    close(got, slow, 2e-3)  # rounding may change who moves first


def test_guided_integrated_gradients_are_complete(smooth, images):
    got = vis.GuidedIntegratedGradients(smooth, 200, baseline=0.3)(images, TARGETS)
    difference = scores(smooth, images) - scores(smooth, np.full_like(images, 0.3))
    np.testing.assert_allclose(got.sum(axis=SPATIAL), difference, rtol=0, atol=1e-2 * np.abs(difference).max())


def test_without_a_distance_the_way_is_straight(smooth, twin, images):
    got = vis.GuidedIntegratedGradients(smooth, 8, max_distance=0)(images, 1)
    ends = [[twin.gradients(k / 8 * x, 1)["input"] for k in range(8)] for x in images.astype("float64")]
    close(got, images * np.mean(ends, axis=1))


def test_values_that_equal_the_baseline_get_nothing_and_no_nan(smooth, images):
    x = images.copy()
    x[:, 2:5] = 0
    got = vis.GuidedIntegratedGradients(smooth, 10)(x, 1)
    assert not got[:, 2:5].any() and np.abs(got[:, :2]).max() > 0
    assert not vis.GuidedIntegratedGradients(smooth, 10)(0 * x, 1).any()


def test_values_of_equal_gradient_move_together():
    """Nothing but the gradient decides who moves: not where a value is."""
    model = keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: ops.sum(x, axis=-1, keepdims=True) ** 2)])
    got = vis.GuidedIntegratedGradients(model, 20, fraction=0.1, max_distance=1.0)(np.ones((1, 6)))
    np.testing.assert_allclose(got, got[0, 0], rtol=1e-5)


def test_each_of_several_inputs_keeps_to_its_way(rng):
    """An input in other units does not change the way of the other."""
    inputs = [keras.Input((4,)), keras.Input((3,))]
    hidden = [layers.Dense(5, "tanh")(one) for one in inputs]
    dense = layers.Dense(1)
    model = keras.Model(inputs, dense(layers.Concatenate()(hidden)))
    x = [rng.normal(size=(2, 4)), rng.normal(size=(2, 3))]
    got = vis.GuidedIntegratedGradients(model, 50)(x)
    total = sum(one.sum(axis=1) for one in got)
    rise = value_of(model(x) - model([0 * one for one in x]))[:, 0]
    np.testing.assert_allclose(total, rise, atol=0.05 * np.abs(rise).max())
    alone = keras.Model(inputs[0], layers.Dense(1)(hidden[0]))
    alone.layers[-1].set_weights([dense.get_weights()[0][:5], np.zeros(1)])
    np.testing.assert_allclose(got[0], vis.GuidedIntegratedGradients(alone, 50)(x[0]), atol=1e-5)


def test_a_gradient_that_is_not_a_number_is_said():
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: ops.sum(ops.sqrt(x), axis=-1, keepdims=True))])
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        vis.GuidedIntegratedGradients(model, 5)(np.ones((1, 3)))


def test_guided_integrated_gradients_are_traced_once_for_all_steps_and_targets(images):
    traces = []

    class Counted(layers.Layer):
        def call(self, x):
            traces.append(type(x).__name__)
            return x

    model = keras.Sequential([keras.Input((9, 7, 3)), Counted(), layers.Flatten(), layers.Dense(3)])
    explainer = vis.GuidedIntegratedGradients(model, 6)
    explainer(images, TARGETS)
    known = len(traces)
    explainer(images, [2, 2, 0])
    if keras.config.backend() != "torch":
        assert len(traces) == known


# --- the authors' own


@pytest.fixture(scope="module")
def authors():
    return pytest.importorskip("saliency.core")


def asked(model, index, core):
    """Returns what the authors' package calls for gradients."""
    explainer = vis.Saliency(model)

    def call(batch, call_model_args=None, expected_keys=None):
        return {core.base.INPUT_OUTPUT_GRADIENTS: explainer(np.asarray(batch, "float32"), index)}

    return call


@pytest.mark.parametrize("distance", [0.02, 0.5])
def test_guided_integrated_gradients_are_the_authors(distance, authors, smooth, images, monkeypatch):
    def quantile(a, q, interpolation):  # NumPy 2.4 calls it another name
        return np.quantile(a, q, method=interpolation)

    numpy = types.SimpleNamespace(**{**vars(np), "quantile": quantile})
    monkeypatch.setattr(authors.guided_ig, "np", numpy)
    own = authors.GuidedIG().GetMask
    expected = own(images[0], asked(smooth, 1, authors), x_steps=20, fraction=0.25, max_dist=distance)
    close(vis.GuidedIntegratedGradients(smooth, 20, 0.25, distance)(images[:1], 1), expected[None], 2e-3)


def test_blur_integrated_gradients_are_the_authors(authors, rng):
    """On an image with a wide dark border, as they take what is beyond it for black."""
    x = np.zeros((1, 33, 33, 1), "float32")
    x[0, 12:21, 12:21] = rng.random((9, 9, 1))
    conv = layers.Conv2D(3, 3, activation="softplus")
    model = keras.Sequential([keras.Input((33, 33, 1)), conv, layers.Flatten(), layers.Dense(2)])
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0.05, 0.3, w.shape) for w in model.get_weights()])
    expected = authors.BlurIG().GetMask(x[0], asked(model, 1, authors), max_sigma=3, steps=300, batch_size=50)
    got = vis.BlurIntegratedGradients(model, 50, max_sigma=3)(x, 1)
    # Their Gaussian is sampled at whole pixels, which for the first part of a pixel is no Gaussian.
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.995
    np.testing.assert_allclose(got.sum(), expected.sum(), rtol=2e-2)


@pytest.mark.parametrize("given", ["[MASK]", ["[MASK]"], np.array([["[MASK]"] * 5]), 3])
@pytest.mark.parametrize("layer", ["tokens", None])
def test_a_mask_token_is_no_background(given, layer):
    ids = keras.Input((5,), dtype="int32")
    vectors = keras.layers.Embedding(9, 4)(ids)
    model = keras.Model(ids, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(vectors)))
    with pytest.raises(
        ValueError, match=r"a batch of usual inputs.*vis\.IntegratedGradients\(model, baseline=id"
    ) as raised:
        vis.ExpectedGradients(model, given, input_layer=layer)
    assert len(str(raised.value)) < 400
    texts = np.array([[1, 2, 3, 4, 5]])
    assert vis.IntegratedGradients(model, baseline=8, input_layer="tokens")(texts, 1).shape == (1, 5, 4)  # as it says
