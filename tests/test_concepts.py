"""CRAFT and nearest examples: planted concepts, slow second versions, and what is refused."""

import pickle

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers

from vis.concepts import CRAFT, NearestExamples
from vis.concepts.crops import Reservoir, piece_size, pieces
from vis.plotting import overlay

pytest.importorskip("sklearn")

COLOURS, WEIGHTS = 3, np.array([[3.0, 0], [1, 0], [0, 0], [0, 1]])


def squares(count, seed=0, colours=range(COLOURS)):
    """Images of squares in pure red, green and blue."""
    draw, images = np.random.default_rng(seed), np.zeros((count, 24, 24, 3), "float32")
    for image in images:
        for _ in range(4):
            top, left = draw.integers(0, 18, 2)
            image[top : top + 6, left : left + 6] = np.eye(3)[draw.choice(list(colours))]
    return images


@pytest.fixture(scope="module")
def model():
    """A network whose channels are known: red, green, blue, blue; the classes are 3 red + green, and blue."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(4, 1, activation="relu", name="conv", data_format="channels_last")(inputs)
    x = layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    built = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    kernel = np.zeros((1, 1, 3, 4))
    kernel[0, 0, [0, 1, 2, 2], [0, 1, 2, 3]] = [1, 1, 0.7, 0.7]
    built.set_weights([kernel, np.zeros(4), WEIGHTS, np.zeros(2)])
    return built


@pytest.fixture(scope="module")
def craft(model):
    return CRAFT(model, "conv", 3, patch=6, seed=0, num_crops=300).fit(squares(20))


def named(craft):
    """Which concept is red, green and blue."""
    planted = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5]])
    found = (craft.concepts @ planted.T).argmax(axis=0)
    return planted, found.tolist()


def test_planted_concepts_are_found(craft):
    planted, order = named(craft)
    assert sorted(order) == [0, 1, 2] and craft.explained > 0.999
    np.testing.assert_allclose(craft.concepts[order], planted, atol=0.02)


def test_the_best_pieces_are_of_one_colour(craft):
    for colour, concept in enumerate(named(craft)[1]):
        best = craft.crops(concept, 3)
        assert best.shape == (3, 6, 6, 3)
        assert best.mean(axis=(0, 1, 2)).argmax() == colour and best[..., colour].mean() > 0.75


def test_maps_are_where_the_colour_is(craft):
    images = squares(3, seed=5)
    maps = craft.maps(images)
    assert maps.shape == (3, 24, 24, 3) and maps.min() >= 0
    for colour, concept in enumerate(named(craft)[1]):
        own, elsewhere = images[..., colour] > 0, images[..., colour] == 0
        assert maps[own][:, concept].min() > 0.5 and maps[elsewhere][:, concept].max() < 0.05
    assert craft.maps(images, upsample=False).shape == (3, 24, 24, 3)


def by_hand(model, craft, images, unit, number, seed):
    """Fel et al. 2023, section 3.3, one evaluation of the whole network after the other."""
    from scipy.stats import qmc

    count = craft.num_concepts
    points = qmc.Sobol(2 * count, seed=np.random.default_rng(seed)).random(number).astype("float32")
    body = keras.Model(model.input, model.get_layer("conv").output)
    head = keras.Model(model.get_layer("conv").output, model.output)
    found = np.zeros((len(images), count))
    for i, image in enumerate(images):
        values = value_of(body(image[None])).astype("float64")
        amounts = craft.coefficients(image[None])

        def score(mask, values=values, amounts=amounts):
            faded = values - ((1 - mask) * amounts) @ craft.concepts
            return float(value_of(head(faded.astype("float32")))[0, unit])

        first = np.array([score(point[:count]) for point in points])
        other = np.array([score(point[count:]) for point in points])
        spread = np.concatenate([first, other]).var(ddof=1)
        for k in range(count):
            changed = [score(np.where(np.arange(count) == k, point[count:], point[:count])) for point in points]
            found[i, k] = ((first - changed) ** 2).mean() / 2 / spread if spread > 0 else 0
    return found


def test_importances_are_total_indices(model, craft):
    images = squares(2, seed=7)
    got = craft.importances(images, 0, num_designs=8)
    np.testing.assert_allclose(got, by_hand(model, craft, images, 0, 8, 0), rtol=1e-3, atol=1e-4)
    red, green, blue = named(craft)[1]
    mean = craft.importances(squares(6, seed=8), 0).mean(axis=0)
    assert mean[red] > mean[green] > 100 * mean[blue]
    images = squares(6, seed=8)
    only = craft.importances(images[images[..., 2].any(axis=(1, 2))], 1).mean(axis=0)
    assert only[blue] > 0.9 and only[[red, green]].max() < 0.01


def test_only_the_rest_of_the_network_runs_for_importances(craft):
    onward = craft._reader.onward(squares(1), 0, 32)
    assert onward.rest is not None


def test_a_data_set_is_fitted_as_an_array_is(model):
    images = squares(8)
    whole = CRAFT(model, "conv", 3, patch=6, seed=0).fit(images)
    parts = CRAFT(model, "conv", 3, patch=6, seed=0).fit(iter([images[:5], images[5:]]))
    np.testing.assert_allclose(whole.concepts, parts.concepts, atol=1e-5)


def test_it_pickles(craft):
    images = squares(2, seed=3)
    copy = pickle.loads(pickle.dumps(craft))
    np.testing.assert_allclose(copy.maps(images), craft.maps(images), atol=1e-6)


def test_figures(craft):
    images = squares(2)
    figure = craft.figure(images, craft.importances(images, 0).mean(axis=0), count=4)
    assert len(figure.axes) == 3 * 6
    assert figure.axes[0].get_ylabel().startswith(f"concept {named(craft)[1][0]}")  # red matters most
    with pytest.raises(ValueError, match=r"importances.mean\(axis=0\)"):
        craft.figure(images, craft.importances(images, 0))


def test_records_are_what_the_figure_shows(craft):
    images = squares(2)
    importances = craft.importances(images, 0).mean(axis=0)
    records = craft.records(images, importances, count=4)
    assert [one["importance"] for one in records] == sorted(importances.tolist(), reverse=True)
    assert [len(records[0][key]) for key in ("pieces", "maps")] == [4, 2]
    red = records[0]["pieces"][0]  # the best piece of it is all red
    assert red.dtype == "uint8" and red[..., 0].mean() > 200 and red[..., 1:].mean() < 50
    maps = craft.maps(images)
    for record in records:
        k = int(record["name"].split()[-1])
        expected = overlay(images, maps[..., k] / maps.max(axis=(1, 2, 3)).reshape(-1, 1, 1), cmap="inferno")
        np.testing.assert_array_equal(record["maps"], expected)
    drawn = [axis.images[0].get_array() for axis in craft.figure(images, importances, count=4).axes[:6]]
    for picture, one in zip(drawn, [*records[0]["pieces"], *records[0]["maps"]]):
        np.testing.assert_array_equal(picture, one)


def test_a_page_of_concepts(craft, tmp_path):
    images = squares(2)
    importances = craft.importances(images, 0).mean(axis=0)
    craft.to_html(tmp_path / "concepts.html", images, importances, count=4, title="Colours")
    text = (tmp_path / "concepts.html").read_text("utf-8")
    assert "<h1>Colours</h1>" in text and text.count("<article") == 3 and text.count('<img src="data:') == 3 * 6
    assert f'id="concept-1">concept {named(craft)[1][0]} <small>importance {importances.max():.2f}<' in text
    with pytest.raises(ValueError, match="fit"):
        CRAFT(craft.model, "conv").to_html(tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_a_concept_can_be_visualised(craft):
    blue = named(craft)[1][2]
    image = craft.visualize(blue, steps=30, seed=0)
    assert image.shape == (24, 24, 3) and image[..., 2].mean() > image[..., :2].mean() + 0.03


def test_pieces_cover_the_image():
    image = np.arange(10 * 7).reshape(1, 10, 7, 1)
    found = list(pieces(image, (4, 3)))
    assert {piece.shape for piece in found} == {(4, 3, 1)}
    assert set(np.concatenate([piece.ravel() for piece in found])) == set(range(70))
    assert piece_size(None, (224, 224)) == (64, 64)


def test_a_reservoir_keeps_everything_with_equal_odds():
    times = np.zeros(20)
    for seed in range(500):
        kept = Reservoir(5, seed)
        for thing in range(20):
            kept.add(np.array(thing))
        times[np.array(kept.kept)] += 1
    assert np.abs(times / 500 - 0.25).max() < 0.07


# --- nearest examples


def test_the_nearest_examples_have_the_same_colours(model):
    examples = np.concatenate([squares(5, 1, [0]), squares(5, 2, [1]), squares(5, 3, [2])])
    nearest = NearestExamples(model, "conv").fit(examples)
    numbers, distances = nearest(squares(2, 9, [1]), count=4)
    assert numbers.shape == (2, 4) and set(numbers.ravel()) <= set(range(5, 10))
    assert (np.diff(distances, axis=1) >= 0).all() and distances.max() < 0.01


def test_the_coefficients_of_an_image_are_its_own(craft):
    images = squares(3, seed=5)
    whole = craft.coefficients(np.concatenate([images, 100 * images[:1]]))
    np.testing.assert_allclose(whole[1], craft.coefficients(images[1:2])[0], rtol=1e-5, atol=1e-6)


# --- what is refused


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return squares(2)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda m: CRAFT(m, "conv", 30, patch=24).fit(squares(3)), "at least as many pieces as concepts"),
        (lambda m: CRAFT(m, "conv", 9, patch=6).fit(squares(3)), "at most the number of channels.*which has 4"),
        (lambda m: CRAFT(m, "conv", 3, patch=6).fit(squares(3) * 0), "which puts out 0 for all"),
        (lambda m: CRAFT(m, "conv", 3, patch=6).fit(iter([])), "at least one image. Received: none"),
        (lambda m: CRAFT(m, "conv", 3, patch=6).fit(Endless(workers=1)), "must end here"),
        (lambda m: NearestExamples(m, "conv").fit(squares(3) * 0), "which puts out 0 for all"),
        (lambda m: CRAFT(m, "scores", 3).fit(squares(3)), "must have spatial output"),
        (lambda m: CRAFT(m, "conv", 3, patch=30).fit(squares(3)), "must not be larger than the images"),
        (lambda m: CRAFT(m, "conv", 3, patch="a").fit(squares(3)), "number of pixels"),
        (lambda m: CRAFT(m, "conv", 0), "`num_concepts`"),
        (lambda m: CRAFT(m, None), "`layer`"),
        (lambda m: CRAFT(m, "nowhere"), "nowhere"),
        (lambda m: CRAFT(m, "conv").maps(squares(1)), "must be fitted before"),
        (lambda m: CRAFT(m, "conv", 3).fit(squares(2)[0]), r"\(N, H, W, C\)"),
        (lambda m: NearestExamples(m, "conv").fit(squares(3))(squares(1), 4), "at most the number of examples, 3"),
    ],
)
def test_mistakes_are_told(make, words, model):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make(model)
    assert len(str(caught.value)) < 400


def test_negative_activations_are_refused():
    conv = layers.Conv2D(2, 1, name="conv", data_format="channels_last")
    model = keras.Sequential([keras.Input((24, 24, 3)), conv, layers.Flatten(), layers.Dense(2)])
    model.set_weights([-np.ones((1, 1, 3, 2)), np.zeros(2), *model.get_weights()[2:]])
    with pytest.raises(ValueError, match="Choose a layer after a ReLU"):
        CRAFT(model, "conv", 2, patch=6).fit(squares(3))
