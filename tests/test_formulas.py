"""Every explainer's formula once more, slowly, in NumPy and float64, from the papers and not from `vis`.

`Twin` is the small CNN written with loops, with gradients by hand: nothing here uses the autodiff of a backend.
"""

import itertools

import keras
import numpy as np
import pytest
import scipy.ndimage
from conftest import small_cnn
from keras import layers
from PIL import Image

import vis
from vis.utils.validation import VisualizationWarning

TARGETS = [1, 0, 2]


def close(got, expected, tolerance=1e-4):
    """Compares maps, to a part of the largest value of each sample."""
    expected = np.asarray(expected, "float64")
    assert got.shape == expected.shape
    for one, wanted in zip(got, expected):
        np.testing.assert_allclose(one, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1e-6))


# --- the small CNN by hand


def convolution(x, kernel, bias):
    height, width, _, filters = kernel.shape
    y = np.zeros((x.shape[0] - height + 1, x.shape[1] - width + 1, filters))
    for i, j, k in np.ndindex(y.shape):
        y[i, j, k] = np.sum(x[i : i + height, j : j + width] * kernel[..., k]) + bias[k]
    return y


def convolution_gradient(upstream, kernel, shape):
    height, width = kernel.shape[:2]
    gradient = np.zeros(shape)
    for i, j, k in np.ndindex(upstream.shape):
        gradient[i : i + height, j : j + width] += upstream[i, j, k] * kernel[..., k]
    return gradient


ACTIVATIONS = {  # function and derivative
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "softplus": (lambda z: np.log(1 + np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
}


class Twin:
    def __init__(self, model, activation="relu"):
        weights = [w.astype("float64") for w in model.get_weights()]
        self.kernels, self.biases = (
            {"conv1": weights[0], "conv2": weights[2]},
            {"conv1": weights[1], "conv2": weights[3]},
        )
        self.dense, self.bias = weights[4], weights[5]
        self.function, self.derivative = ACTIVATIONS[activation]

    def run(self, x, factors=None):
        """Returns the activations, and the sums before them, with channels of some layers multiplied."""
        a, z = {"input": np.asarray(x, "float64")}, {}
        for below, name in (("input", "conv1"), ("conv1", "conv2")):
            z[name] = convolution(a[below], self.kernels[name], self.biases[name])
            a[name] = self.function(z[name]) * (factors or {}).get(name, 1)
        return a, z

    def scores(self, x, factors=None):
        return self.run(x, factors)[0]["conv2"].reshape(-1) @ self.dense + self.bias

    def gradients(self, x, index, rule=None):
        """Returns dS/d(input), dS/d(conv1), dS/d(conv2)."""
        a, z = self.run(x)
        found = {"conv2": self.dense[:, index].reshape(a["conv2"].shape)}
        for name, below in (("conv2", "conv1"), ("conv1", "input")):
            upstream = found[name]
            if rule == "guided":  # Springenberg et al. 2015
                upstream = upstream * (upstream > 0) * (z[name] > 0)
            elif rule == "deconv":  # Zeiler & Fergus 2014
                upstream = upstream * (upstream > 0)
            else:
                upstream = upstream * self.derivative(z[name])
            found[below] = convolution_gradient(upstream, self.kernels[name], a[below].shape)
        return found


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def twin(model):
    return Twin(model)


@pytest.fixture(scope="module")
def smooth():
    """A model without kinks, and its twin."""
    model = small_cnn(activation="softplus")
    return model, Twin(model, "softplus")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).normal(0.2, 0.8, (3, 9, 7, 3)).astype("float32")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_twin_is_the_model_and_its_gradients_are_gradients(activation, images):
    model = small_cnn(activation=activation)
    twin = Twin(model, activation)
    close(model.predict(images, verbose=0), [twin.scores(x) for x in images], 1e-5)
    x = images[0].astype("float64")
    by_hand = twin.gradients(x, 1)["input"]
    for index in [(0, 0, 0), (8, 6, 2), (4, 3, 1), (2, 5, 0), (7, 1, 2)]:
        step = np.zeros_like(x)
        step[index] = 1e-6
        slope = (twin.scores(x + step)[1] - twin.scores(x - step)[1]) / 2e-6
        np.testing.assert_allclose(by_hand[index], slope, atol=1e-7)


# --- gradients


@pytest.mark.parametrize("rule", [None, "guided", "deconv"])
def test_saliency(rule, model, twin, images):
    got = vis.Saliency(model, rule)(images, TARGETS)
    close(got, [twin.gradients(x, c, rule)["input"] for x, c in zip(images, TARGETS)])


def test_saliency_at_an_inner_layer(model, twin, images):
    got = vis.Saliency(model, input_layer="conv1")(images, TARGETS)
    close(got, [twin.gradients(x, c)["conv1"] for x, c in zip(images, TARGETS)])


def test_saliency_of_a_filter_is_that_of_its_mean(model, twin, images):
    got = vis.Saliency(model, output_layer="conv2")(images, 3)
    slow = []
    for x in images:
        a, z = twin.run(x)
        upstream = np.zeros_like(z["conv2"])
        upstream[..., 3] = (z["conv2"][..., 3] > 0) / z["conv2"][..., 3].size
        at_conv1 = convolution_gradient(upstream, twin.kernels["conv2"], a["conv1"].shape) * (z["conv1"] > 0)
        slow.append(convolution_gradient(at_conv1, twin.kernels["conv1"], x.shape))
    close(got, slow)


@pytest.mark.parametrize("rule", [None, "guided"])
def test_gradient_times_input(rule, model, twin, images):
    got = vis.GradientTimesInput(model, rule)(images, TARGETS)
    close(got, [twin.gradients(x, c, rule)["input"] * x for x, c in zip(images, TARGETS)])


def quadratic(shape):
    """A model whose gradient is its input."""
    inputs = keras.Input(shape)
    flat = layers.Flatten()(inputs)
    return keras.Model(inputs, keras.ops.sum(flat * flat, axis=-1, keepdims=True) / 2)


def noise_of(images, count, **params):
    """Returns the noisy copies that SmoothGrad made, `(count, N, ...)`, from means over 1, 2, ... of them."""
    model, totals = quadratic(images.shape[1:]), [np.zeros(images.shape)]
    for n in range(1, count + 1):
        totals.append(n * vis.SmoothGrad(model, n, **params)(images).astype("float64"))
    return np.diff(totals, axis=0) - images


STATISTICS = {
    "mean": lambda gradients: sum(gradients) / len(gradients),
    "square": lambda gradients: sum(g**2 for g in gradients) / len(gradients),
    "variance": lambda gradients: (
        sum((g - sum(gradients) / len(gradients)) ** 2 for g in gradients) / (len(gradients) - 1)
    ),
}


@pytest.fixture(scope="module")
def noise(images):
    return noise_of(images, 4, noise_level=0.1, seed=5)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_smooth_grad(statistic, smooth, noise, images):
    model, twin = smooth
    got = vis.SmoothGrad(model, 4, 0.1, statistic, 5)(images, TARGETS)
    slow = []
    for i, (x, c) in enumerate(zip(images, TARGETS)):
        slow.append(STATISTICS[statistic]([twin.gradients(x + n[i], c)["input"] for n in noise]))
    close(got, slow, 1e-3 if statistic == "variance" else 1e-4)


def test_smooth_grad_noise_is_normal_and_scales_with_each_samples_range():
    draw = np.random.default_rng(0)
    images = draw.random((2, 40, 30, 3)).astype("float32")
    images[1] *= 20
    images[:, 0, 0, 0], images[:, -1, -1, 0] = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    noise = noise_of(images, 2, noise_level=0.2, seed=1)
    units = noise / (0.2 * np.ptp(images, axis=(1, 2, 3))[None, :, None, None, None])
    np.testing.assert_allclose(units[:, 0], units[:, 1], atol=1e-4)  # the same for every sample, but for its range
    assert abs(np.corrcoef(units[0, 0].ravel(), units[1, 0].ravel())[0, 1]) < 0.05  # another for every copy
    for one in units[:, 0]:  # 3,600 draws: four standard errors
        assert abs(one.mean()) < 0.07 and abs(one.std() - 1) < 0.05
        assert abs(np.mean(one**3)) < 0.17 and abs(np.mean(one**4) - 3) < 0.7


GAUSS = {  # nodes and weights on [-1, 1], as in the tables
    1: [(0.0, 2.0)],
    2: [(-0.5773502691896257, 1.0), (0.5773502691896257, 1.0)],
    3: [(-0.7745966692414834, 5 / 9), (0.0, 8 / 9), (0.7745966692414834, 5 / 9)],
}


@pytest.mark.parametrize("steps", GAUSS)
@pytest.mark.parametrize("kind", ["zeros", "number", "sample", "batch"])
def test_integrated_gradients(steps, kind, smooth, images):
    model, twin = smooth
    drawn = np.random.default_rng(7).random(images.shape)
    baseline = {"zeros": None, "number": 0.3, "sample": drawn[0], "batch": drawn}[kind]
    got = vis.IntegratedGradients(model, steps, baseline)(images, TARGETS)
    starts = np.broadcast_to(0.0 if baseline is None else baseline, images.shape)
    slow = []
    for x, x0, c in zip(images, starts, TARGETS):
        integral = np.zeros(x.shape)
        for node, weight in GAUSS[steps]:
            integral += weight / 2 * twin.gradients(x0 + (node + 1) / 2 * (x - x0), c)["input"]
        slow.append((x - x0) * integral)
    close(got, slow)


def test_integrated_gradients_converge_to_the_integral(smooth, images):
    model, twin = smooth
    x = images[:1]
    points = (np.arange(300) + 0.5) / 300
    slow = x * sum(twin.gradients(t * x[0], 2)["input"] for t in points) / 300
    close(vis.IntegratedGradients(model, 20)(x, 2), slow)


# --- class activation maps


def bilinear(image, height, width):
    """Resizes one map, pixel centres at halves, borders repeated."""
    result = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        y = min(max((i + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
        x = min(max((j + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        upper = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
        lower = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
        result[i, j] = upper * (1 - y + top) + lower * (y - top)
    return result


def weighted(weights, a):
    total = np.zeros(a.shape[:2])
    for k, weight in enumerate(weights):
        total += weight * a[..., k]
    return np.where(total > 0, total, 0)


def grad_cam(a, g):
    return weighted([g[..., k].sum() / g[..., k].size for k in range(a.shape[-1])], a)


def grad_cam_plus_plus(a, g, score=0.0):
    """Chattopadhay et al. 2018, equations 5, 6 and 19, with Y = exp(S) as long as that is small."""
    weights = []
    for k in range(a.shape[-1]):
        weight = 0.0
        for i, j in np.ndindex(a.shape[:2]):
            first, second, third = (np.exp(score) * g[i, j, k] ** order for order in (1, 2, 3))
            below = 2 * second + a[..., k].sum() * third
            weight += (second / below if second else 0.0) * max(first, 0)
        weights.append(weight)
    return weighted(weights, a)


def layer_cam(a, g):
    total = np.zeros(a.shape[:2])
    for i, j, k in np.ndindex(a.shape):
        total[i, j] += max(g[i, j, k], 0) * a[i, j, k]
    return np.where(total > 0, total, 0)


def hires_cam(a, g):
    total = np.zeros(a.shape[:2])
    for i, j, k in np.ndindex(a.shape):
        total[i, j] += g[i, j, k] * a[i, j, k]
    return np.where(total > 0, total, 0)


def xgrad_cam(a, g):
    return weighted([(g[..., k] * a[..., k]).sum() / (a[..., k].sum() + 1e-7) for k in range(a.shape[-1])], a)


FORMULAS = {
    vis.GradCAM: grad_cam,
    vis.GradCAMPlusPlus: grad_cam_plus_plus,
    vis.LayerCAM: layer_cam,
    vis.HiResCAM: hires_cam,
    vis.XGradCAM: xgrad_cam,
}


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
@pytest.mark.parametrize("kind", FORMULAS)
def test_class_activation_maps(kind, layer, model, twin, images):
    got = kind(model, layer, upsample=False)(images, TARGETS)
    slow = [FORMULAS[kind](twin.run(x)[0][layer], twin.gradients(x, c)[layer]) for x, c in zip(images, TARGETS)]
    assert all(np.ptp(one) > 0 for one in slow)
    close(got, slow)


@pytest.mark.parametrize("kind", FORMULAS)
def test_class_activation_maps_of_guided_gradients(kind, model, twin, images):
    got = kind(model, "conv1", "guided", upsample=False)(images, TARGETS)
    slow = [
        FORMULAS[kind](twin.run(x)[0]["conv1"], twin.gradients(x, c, "guided")["conv1"])
        for x, c in zip(images, TARGETS)
    ]
    close(got, slow)


def test_grad_cam_plus_plus_with_the_exponential_of_the_paper(model, twin, images):
    got = vis.GradCAMPlusPlus(model, "conv1", upsample=False)(images, TARGETS)
    for one, x, c in zip(got, images, TARGETS):
        score = twin.scores(x)[c]
        slow = grad_cam_plus_plus(twin.run(x)[0]["conv1"], twin.gradients(x, c)["conv1"], score)
        close(one[None], slow[None] / np.exp(score))


def test_grad_cam_plus_plus_of_a_zero_gradient():
    a, g = np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1))
    np.testing.assert_array_equal(vis.GradCAMPlusPlus.formula(a, g), 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30, 1e37])
@pytest.mark.parametrize("activations_scale", [1.0, 1e-3, 0.0])
def test_grad_cam_plus_plus_takes_gradients_of_any_size(scale, activations_scale, rng):
    """Its squares and cubes of gradients must neither overflow nor vanish in float32."""
    a = (activations_scale * rng.normal(0.3, 1, (2, 4, 3, 5))).astype("float32")
    g = (scale * rng.normal(size=a.shape)).astype("float32")
    g[0, 0] = 0
    expected = np.stack([grad_cam_plus_plus(*pair) for pair in zip(a.astype("float64"), g.astype("float64"))])
    with np.errstate(all="raise", under="ignore"):
        got = vis.GradCAMPlusPlus.formula(a, g)
    assert got.dtype == np.float32 and np.isfinite(got).all()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_grad_cam_plus_plus_of_a_loud_network_is_finite(rng):
    model = small_cnn()
    model.get_layer("preds").set_weights([w * 1e30 for w in model.get_layer("preds").get_weights()])
    maps = vis.GradCAMPlusPlus(model, "conv1")(rng.normal(size=(2, 9, 7, 3)), 1)
    assert np.isfinite(maps).all() and maps.max() > 0


@pytest.mark.parametrize("sizes", [(5,), (3, 4, 2)])
@pytest.mark.parametrize("kind", FORMULAS)
def test_class_activation_maps_of_lines_and_volumes(kind, sizes, rng):
    a, g = rng.random((2, *sizes, 3)), rng.normal(size=(2, *sizes, 3))
    slow = [FORMULAS[kind](one.reshape(-1, 1, 3), two.reshape(-1, 1, 3)).reshape(sizes) for one, two in zip(a, g)]
    close(kind.formula(a, g), slow, 1e-9)


def first_component(a):
    """Muhammad & Yeasin 2020: the direction of most variance, by power iteration."""
    rows = [row - a.mean(axis=(0, 1)) for row in a.reshape(-1, a.shape[-1])]
    covariance = sum(np.outer(row, row) for row in rows)
    direction = np.ones(len(covariance))
    for _ in range(3000):
        direction = covariance @ direction
        direction /= np.sqrt((direction**2).sum())
    projected = np.array([row @ direction for row in rows]).reshape(a.shape[:2])
    return projected * np.sign(np.corrcoef(projected.ravel(), a.sum(axis=-1).ravel())[0, 1])


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_eigen_cam(layer, model, twin, images):
    got = vis.EigenCAM(model, layer, upsample=False)(images)
    close(got, [first_component(twin.run(x)[0][layer]) for x in images], 1e-3)


def score_cam(a, x, f, channels):
    """Wang et al. 2020, algorithm 1, with the mask of a channel made of the upsampled channel."""
    nothing, exponentials = f(np.zeros_like(x)), {}
    for k in channels:
        mask = bilinear(a[..., k], *x.shape[:2])
        if mask.max() == mask.min():
            continue
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        exponentials[k] = np.exp(f(x * mask[..., None]) - nothing)
    weights = np.zeros(a.shape[-1])
    for k, value in exponentials.items():
        weights[k] = value / sum(exponentials.values())
    return weighted(weights, a)


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_score_cam(layer, model, twin, images):
    got = vis.ScoreCAM(model, layer, upsample=False)(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        a = twin.run(x)[0][layer]
        slow.append(score_cam(a, x, lambda x, c=c: twin.scores(x)[c], range(a.shape[-1])))
    close(got, slow)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_score_cam_of_the_channels_that_vary_most(count, model, twin, images):
    got = vis.ScoreCAM(model, "conv2", count, upsample=False)(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        a = twin.run(x)[0]["conv2"]
        spread = [a[..., k].std() for k in range(a.shape[-1])]
        chosen = sorted(range(a.shape[-1]), key=lambda k: -spread[k])[:count]
        slow.append(score_cam(a, x, lambda x, c=c: twin.scores(x)[c], chosen))
    close(got, slow)


def test_score_cam_gives_no_weight_to_constant_channels(images):
    model = small_cnn()
    weights = model.get_weights()
    weights[2][..., 1], weights[3][1] = 0, 5  # bright all over
    weights[2][..., 3], weights[3][3] = 0, -1  # dead
    model.set_weights(weights)
    twin = Twin(model)
    got = vis.ScoreCAM(model, "conv2", upsample=False)(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        a = twin.run(x)[0]["conv2"]
        assert np.ptp(a[..., 1]) == 0 and a[..., 1].min() > 0 and a[..., 3].max() == 0
        slow.append(score_cam(a, x, lambda x, c=c: twin.scores(x)[c], [0, 2, 4]))
    close(got, slow)


def test_score_cam_of_dead_channels_only_is_zero(images):
    model = small_cnn()
    model.get_layer("conv2").set_weights([w * 0 - 1 for w in model.get_layer("conv2").get_weights()])
    np.testing.assert_array_equal(vis.ScoreCAM(model)(np.abs(images), 0), np.zeros((3, 9, 7)))


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_ablation_cam(layer, model, twin, images):
    got = vis.AblationCAM(model, layer, upsample=False)(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        a, whole, weights = twin.run(x)[0][layer], twin.scores(x)[c], []
        for k in range(a.shape[-1]):
            keep = np.ones(a.shape[-1])
            keep[k] = 0
            weights.append((whole - twin.scores(x, {layer: keep})[c]) / whole)
        slow.append(weighted(weights, a))
    assert all(np.ptp(one) > 0 for one in slow)
    close(got, slow)


def test_ablation_cam_says_where_it_shows_what_lowers_the_score(images):
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.GlobalAveragePooling2D(), layers.Dense(1)])
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.ReLU(), *model.layers])
    model.layers[-1].set_weights([np.array([[1.0], [-3.0], [0.0]]), np.zeros(1)])
    x = np.abs(images) * [1, 1, 0]
    with pytest.warns(VisualizationWarning, match="of [123] of 3 samples is below 0, down to -.*logits=False"):
        lowered = vis.AblationCAM(model)(x, 1)
    np.testing.assert_allclose(lowered, vis.AblationCAM(model)(x, 0))  # whose score is above 0


def test_guided_grad_cam(model, twin, images):
    got = vis.GuidedGradCAM(model, "conv1")(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        cam = bilinear(grad_cam(twin.run(x)[0]["conv1"], twin.gradients(x, c)["conv1"]), 9, 7)
        slow.append(twin.gradients(x, c, "guided")["input"] * cam[..., None])
    close(got, slow)


def test_upsampling_is_bilinear_with_pixel_centres_at_halves(model, images):
    for layer in ("conv1", "conv2"):
        small = vis.GradCAM(model, layer, upsample=False)(images, TARGETS)
        large = vis.GradCAM(model, layer)(images, TARGETS)
        close(large, [bilinear(one, 9, 7) for one in small], 1e-5)
        for one, other in zip(small, large):
            by_pillow = np.asarray(Image.fromarray(one).resize((7, 9), Image.Resampling.BILINEAR))
            factors = (9 / one.shape[0], 7 / one.shape[1])
            by_scipy = scipy.ndimage.zoom(one, factors, order=1, mode="nearest", grid_mode=True)
            close(other[None], by_pillow[None], 1e-3)
            close(other[None], by_scipy[None], 1e-5)


@pytest.mark.parametrize("kind", [vis.EigenCAM, vis.ScoreCAM, vis.AblationCAM])
def test_all_maps_are_upsampled_alike(kind, model, images):
    small = kind(model, upsample=False)(images, TARGETS)
    close(kind(model)(images, TARGETS), [bilinear(one, 9, 7) for one in small], 1e-5)


def test_tokens_are_a_grid_of_their_own(rng):
    inputs = keras.Input((8, 8, 3))
    patches = layers.Reshape((16, 12))(inputs)
    first = keras.ops.zeros_like(patches[:, :1]) + 0.5
    tokens = layers.Dense(4, activation="relu", name="tokens")(layers.Concatenate(axis=1)([first, patches]))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(tokens)))
    draw = np.random.default_rng(2)
    model.set_weights([draw.normal(0.1, 0.5, w.shape) for w in model.get_weights()])
    x = rng.random((2, 8, 8, 3)).astype("float32")
    kernel, bias, dense, _ = model.get_weights()
    got = vis.GradCAM(model, "tokens", upsample=False, reshape="tokens")(x, 1)
    slow = []
    for one in x:
        a = np.maximum(one.reshape(16, 12) @ kernel + bias, 0)
        slow.append(grad_cam(a.reshape(4, 4, 4), dense[4:, 1].reshape(4, 4, 4)))  # the class token left out
    close(got, slow)


# --- perturbation


def starts(size, patch, stride):
    found, at = [], 0
    while at + patch < size:
        found.append(at)
        at += stride
    return [*found, size - patch]


def occlusion(f, x, patch, stride, baseline):
    """Zeiler & Fergus 2014: the mean drop over the windows that cover a position, position by position."""
    baseline = np.broadcast_to(baseline, x.shape)
    drops = {}
    for top, left in itertools.product(*map(starts, x.shape[:2], patch, stride)):
        hidden = x.copy()
        for i, j in itertools.product(range(top, top + patch[0]), range(left, left + patch[1])):
            hidden[i, j] = baseline[i, j]
        drops[top, left] = f(x) - f(hidden)
    result = np.zeros(x.shape[:2])
    for i, j in np.ndindex(result.shape):
        found = [d for (top, left), d in drops.items() if 0 <= i - top < patch[0] and 0 <= j - left < patch[1]]
        result[i, j] = sum(found) / len(found)
    return result


@pytest.mark.parametrize(
    "patch, stride, baseline",
    [
        ((3, 3), (3, 3), 0.0),
        ((4, 2), (3, 2), 0.0),  # 9 and 7 are no multiples: the last windows overlap more
        ((2, 5), (1, 4), 0.5),
        ((9, 1), (9, 1), "sample"),
        ((5, 4), (4, 1), "batch"),
    ],
)
def test_occlusion(patch, stride, baseline, model, twin, images):
    drawn = np.random.default_rng(9).normal(size=images.shape).astype("float32")
    baseline = {"sample": drawn[0], "batch": drawn}.get(baseline, baseline)
    got = vis.Occlusion(model, patch, stride, baseline)(images, TARGETS)
    slow = []
    for i, (x, c) in enumerate(zip(images, TARGETS)):
        own = baseline[i] if np.ndim(baseline) == 4 else baseline
        slow.append(occlusion(lambda x, c=c: twin.scores(x)[c], x, patch, stride, own))
    close(got, slow)


def test_occlusion_of_one_number_and_of_its_defaults(model, twin, images):
    x = images[:1]
    f = lambda x: twin.scores(x)[1]  # noqa: E731
    close(vis.Occlusion(model, 3, 2)(x, 1), [occlusion(f, x[0], (3, 3), (2, 2), 0)])
    close(vis.Occlusion(model, 3)(x, 1), [occlusion(f, x[0], (3, 3), (1, 1), 0)])  # half the patch
    close(vis.Occlusion(model)(x, 1), [occlusion(f, x[0], (1, 1), (1, 1), 0)])  # an eighth of each axis


def test_occlusion_of_a_line(rng):
    model = keras.Sequential([keras.Input((11, 2)), layers.Flatten(), layers.Dense(1)])
    weights = model.get_weights()[0].reshape(11, 2)
    x = rng.random((2, 11, 2)).astype("float32")
    slow = [occlusion(lambda x: np.sum(weights * x[:, 0]), one[:, None], (4, 1), (3, 1), 0)[:, 0] for one in x]
    close(vis.Occlusion(model, 4, 3)(x), slow)


@pytest.mark.parametrize("grid, probability", [(3, 0.5), (2, 0.25), (8, 0.8)])
def test_rise(grid, probability, model, twin, images):
    explainer = vis.RISE(model, 40, grid, probability, seed=4)
    got = explainer(images, TARGETS)
    slow = []
    for x, c in zip(images, TARGETS):
        total = np.zeros((9, 7))
        for number in range(40):
            mask = explainer._mask((9, 7), 4, number)
            total += twin.scores(x * mask[..., None])[c] * mask
        slow.append(total / (40 * probability))
    close(got, slow)


def masks_of(shape, count, **params):
    explainer = vis.RISE(quadratic((*shape, 1)), **params)
    return np.stack([explainer._mask(shape, 0, number) for number in range(count)])


def test_rise_masks_are_upsampled_grids_one_cell_larger_with_a_shift():
    masks = masks_of((6, 4), 200, grid=2)  # cells of 3 x 2 pixels
    basis = [bilinear(np.eye(9)[cell].reshape(3, 3), 9, 6) for cell in range(9)]
    patterns = np.array(list(itertools.product([0, 1], repeat=9)), "float64")
    whole = np.tensordot(patterns, basis, axes=1)
    shifts, cells = [], []
    for mask in masks:
        places = list(itertools.product(range(3), range(2)))
        errors = [np.abs(whole[:, a : a + 6, b : b + 4] - mask).max(axis=(1, 2)) for a, b in places]
        place, pattern = np.unravel_index(np.argmin(errors), (len(places), len(patterns)))
        assert errors[place][pattern] < 1e-6
        fitting = np.sum(np.array(errors) < 1e-6, axis=1) > 0
        shifts += [places[place]] if fitting.sum() == 1 else []
        cells.append(patterns[pattern])
    assert set(shifts) == set(places)  # every shift occurs
    assert len(np.unique(cells, axis=0)) > 100
    assert {0.0, 1.0} <= set(np.unique(masks)) and masks.min() >= 0 and masks.max() <= 1


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_rise_masks_leave_each_place_visible_as_often_as_said(probability):
    masks = masks_of((12, 9), 2000, grid=3, probability=probability)
    error = np.sqrt(probability * (1 - probability) / 2000)  # of a cell; less in between
    assert np.abs(masks.mean(axis=0) - probability).max() < 4.5 * error
    assert masks.min() >= 0 and masks.max() <= 1
    assert masks.std(axis=0).min() > 0.3 * np.sqrt(probability * (1 - probability))


def test_rise_masks_of_different_numbers_and_seeds_differ(model):
    explainer = vis.RISE(model)
    first, second, other = (explainer._mask((9, 7), *key) for key in ((0, 0), (0, 1), (1, 0)))
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


def test_rise_with_everything_visible_is_the_score(model, images):
    scores = model.predict(images, verbose=0)[np.arange(3), TARGETS]
    got = vis.RISE(model, 5, probability=1.0)(images, TARGETS)
    close(got, np.broadcast_to(scores[:, None, None], (3, 9, 7)))


# --- numbers worked out by hand


def test_a_linear_model():
    model = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(2)])
    model.set_weights([np.array([[1.0, 5], [-2, 6], [3, -7], [4, 8]]), np.array([10.0, 20])])
    x = np.array([[[[1.0], [2]], [[-1], [0.5]]]])
    maps = {
        vis.Saliency(model): [[5, 6], [-7, 8]],
        vis.GradientTimesInput(model): [[5, 12], [7, 4]],
        vis.IntegratedGradients(model, 4, 1.0): [[0, 6], [14, -4]],
        vis.SmoothGrad(model, 3, seed=0): [[5, 6], [-7, 8]],
        vis.SmoothGrad(model, 3, 0.5, "square", seed=0): [[25, 36], [49, 64]],
        vis.SmoothGrad(model, 3, 0.5, "variance", seed=0): [[0, 0], [0, 0]],
    }
    for explainer, expected in maps.items():
        np.testing.assert_allclose(explainer(x, 1)[0, ..., 0], expected, atol=1e-4)
    np.testing.assert_allclose(vis.Occlusion(model, 1)(x, 1)[0], [[5, 12], [7, 4]], atol=1e-4)
    np.testing.assert_allclose(vis.Occlusion(model, (1, 2))(x, 1)[0], [[17, 17], [11, 11]], atol=1e-4)
    np.testing.assert_allclose(vis.Occlusion(model, (2, 1))(x, 1)[0], [[12, 16], [12, 16]], atol=1e-4)


def test_a_quadratic_model():
    inputs = keras.Input((2,))
    first, second = inputs[:, :1], inputs[:, 1:]
    model = keras.Model(inputs, first * first + 3 * first * second)
    x = np.array([[2.0, 1.0]])
    np.testing.assert_allclose(vis.Saliency(model)(x), [[7, 6]], atol=1e-5)
    np.testing.assert_allclose(vis.GradientTimesInput(model)(x), [[14, 6]], atol=1e-5)
    np.testing.assert_allclose(vis.IntegratedGradients(model, 1)(x), [[7, 3]], atol=1e-5)
    np.testing.assert_allclose(vis.IntegratedGradients(model, 5, 1.0)(x), [[6, 0]], atol=1e-5)
    np.testing.assert_allclose(vis.Occlusion(model)(x), [[10, 6]], atol=1e-5)


@pytest.fixture(scope="module")
def two_filters():
    """Feature maps x and 3 - x, rectified, each position with a weight of its own in the score."""
    conv = layers.Conv2D(2, 1, activation="relu", name="conv")
    model = keras.Sequential([keras.Input((2, 2, 1)), conv, layers.Flatten(), layers.Dense(1)])
    weights = np.array([[[1.0, -1], [0, 1]], [[2, 3], [-1, 0]]])
    model.set_weights([np.array([1.0, -1]).reshape(1, 1, 1, 2), np.array([0.0, 3]), weights.reshape(8, 1), np.zeros(1)])
    return model


# The maps are A1 = [1 2; 0 3] and A2 = [2 1; 4 0], the gradients G1 = [1 0; 2 -1] and G2 = [-1 1; 3 0]; S = 9.
PLUS_PLUS = (1 / 8 + 2 / 14, 1 / 9 + 3 / 23)
SCORE = (1 / (1 + np.exp(43 / 6)), 1 / (1 + np.exp(-43 / 6)))  # rises: 16/3 - 9 and 12.5 - 9


@pytest.mark.parametrize(
    "kind, expected",
    [
        (vis.GradCAM, [[2, 1.75], [3, 1.5]]),
        (vis.GradCAMPlusPlus, np.dot([[[1, 2], [2, 1]], [[0, 4], [3, 0]]], PLUS_PLUS)),
        (vis.LayerCAM, [[1, 1], [12, 0]]),
        (vis.HiResCAM, [[0, 1], [12, 0]]),
        (vis.XGradCAM, [[59 / 21, 19 / 21], [44 / 7, 0]]),
        (vis.AblationCAM, [[20 / 9, 7 / 9], [44 / 9, 0]]),
        (vis.ScoreCAM, np.dot([[[1, 2], [2, 1]], [[0, 4], [3, 0]]], SCORE)),
    ],
)
def test_maps_of_two_filters(kind, expected, two_filters):
    got = kind(two_filters)(np.array([[[[1.0], [2]], [[-1], [3]]]]))
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_guided_maps_of_two_filters(two_filters):
    got = vis.GuidedGradCAM(two_filters)(np.array([[[[1.0], [2]], [[-1], [3]]]]))
    # Guided: +1 where G1 > 0 and x > 0, -G2 where G2 > 0 and x < 3; times Grad-CAM.
    np.testing.assert_allclose(got[0, ..., 0], [[1 * 2, -1 * 1.75], [-3 * 3, 0]], atol=1e-5)


def test_eigen_cam_of_one_direction():
    t = np.array([[1.0, 2], [-1, 6]])
    a = np.stack([t, 2 * t, -2 * t], axis=-1)[None]  # mean 2, direction (1, 2, -2) / 3
    np.testing.assert_allclose(vis.EigenCAM.formula(a)[0], [[-3, 0], [-9, 12]], atol=1e-5)
    np.testing.assert_allclose(vis.EigenCAM.formula(a * [1, 1, 2])[0], -np.sqrt(21) * (t - 2), atol=1e-5)


def test_occlusion_of_five_by_five():
    # One value counts, in row 1 and column 3; of the four windows only the upper right one hides it.
    weights = np.zeros((5, 5))
    weights[1, 3] = 1
    model = keras.Sequential([keras.Input((5, 5, 1)), layers.Flatten(), layers.Dense(1)])
    model.set_weights([weights.reshape(25, 1), np.zeros(1)])
    got = vis.Occlusion(model, patch=3, stride=2)(np.ones((1, 5, 5, 1)))
    expected = [
        [0, 0, 0.5, 1, 1],
        [0, 0, 0.5, 1, 1],
        [0, 0, 0.25, 0.5, 0.5],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(got[0], expected, atol=1e-6)


# --- parameters

GRADIENT = [
    {"backprop_modifier": "guided"},
    {"input_layer": "conv1"},
    {"output_layer": "conv2"},
    {"logits": False},
]
CAM = [
    {"layer": "conv2"},
    {"backprop_modifier": "guided"},
    {"upsample": False},
    {"output_layer": "conv2"},
    {"logits": False},
]
USUAL = np.random.default_rng(5).normal(0.2, 0.8, (4, 9, 7, 3)).astype("float32")
PARAMETERS = {  # what the method starts from, and what changes its answer
    vis.Saliency: ({}, [*GRADIENT, {"backprop_modifier": "deconv"}]),
    vis.GradientTimesInput: ({}, GRADIENT),
    vis.SmoothGrad: (
        {"num_samples": 3, "seed": 0},
        [
            *GRADIENT,
            {"num_samples": 4},
            {"noise_level": 0.3},
            {"statistic": "square"},
            {"statistic": "variance"},
            {"seed": 1},
        ],
    ),
    vis.IntegratedGradients: ({"steps": 2}, [*GRADIENT, {"steps": 3}, {"baseline": 0.5}]),
    vis.ExpectedGradients: (
        {"background": USUAL, "num_samples": 3, "seed": 0},
        [*GRADIENT[:1], *GRADIENT[2:], {"num_samples": 4}, {"seed": 1}, {"background": USUAL[:2] + 0.3}],
    ),
    vis.BlurIntegratedGradients: ({"steps": 2}, [*GRADIENT, {"steps": 3}, {"max_sigma": 0.7}]),
    vis.GuidedIntegratedGradients: (
        {"steps": 4},
        [*GRADIENT, {"steps": 5}, {"fraction": 0.6}, {"max_distance": 0.4}, {"baseline": 0.5}],
    ),
    vis.FullGrad: ({}, [{"output_layer": "conv2"}, {"logits": False}]),
    vis.XRAI: (
        {"segments": np.arange(63).reshape(9, 7) // 8, "steps": 3},
        [
            {"segments": np.arange(63).reshape(9, 7) // 9},
            {"steps": 4},
            {"baseline": 0.5},
            {"output_layer": "conv2"},
            {"logits": False},
        ],
    ),
    vis.GradCAM: ({"layer": "conv1"}, CAM),
    vis.GradCAMPlusPlus: ({"layer": "conv1"}, CAM),
    vis.LayerCAM: ({"layer": "conv1"}, CAM),
    vis.HiResCAM: ({"layer": "conv1"}, CAM),
    vis.XGradCAM: ({"layer": "conv1"}, CAM),
    # No score is explained: `logits` has no effect, and `output_layer` ends the search for the layer.
    vis.EigenCAM: ({}, [{"layer": "conv1"}, {"upsample": False}, {"output_layer": "conv2"}]),
    vis.ScoreCAM: (
        {"layer": "conv1"},
        [{"layer": "conv2"}, {"max_channels": 2}, {"upsample": False}, {"output_layer": "conv2"}, {"logits": True}],
    ),
    vis.AblationCAM: (
        {"layer": "conv1"},
        [{"layer": "conv2"}, {"upsample": False}, {"output_layer": "conv2"}, {"logits": False}],
    ),
    vis.GuidedGradCAM: ({"layer": "conv1"}, [{"layer": "conv2"}, {"output_layer": "conv2"}, {"logits": False}]),
    vis.Occlusion: (
        {"patch": 3},
        [
            {"patch": 4},
            {"patch": (3, 4)},
            {"stride": 2},
            {"baseline": 0.5},
            {"output_layer": "conv2"},
            {"logits": True},
        ],
    ),
    vis.RISE: (
        {"num_masks": 5, "grid": 3, "seed": 0},
        [
            {"num_masks": 6},
            {"grid": 4},
            {"probability": 0.4},
            {"seed": 1},
            {"output_layer": "conv2"},
            {"logits": True},
        ],
    ),
}


@pytest.fixture(scope="module")
def with_softmax(model):
    return keras.Model(model.inputs, layers.Softmax()(model.outputs[0]))


@pytest.fixture(scope="module")
def before(with_softmax, images):
    """The maps before a parameter is changed, made once for each class."""
    return {kind: kind(with_softmax, **start)(images[:2], 1) for kind, (start, _) in PARAMETERS.items()}


@pytest.mark.parametrize(
    "kind, change",
    [(kind, change) for kind, (_, changes) in PARAMETERS.items() for change in changes],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(map(str, *value.items())),
)
def test_every_parameter_changes_the_answer(kind, change, with_softmax, before, images):
    after = kind(with_softmax, **{**PARAMETERS[kind][0], **change})(images[:2], 1)
    if after.shape == before[kind].shape:
        assert np.abs(after - before[kind]).max() > 1e-3 * np.abs(before[kind]).max()
    else:
        assert {"upsample", "input_layer"} & set(change)
