"""Activation atlas: its layout and cells against slow second versions, planted directions, its page in a browser."""

import pickle

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers
from test_report import Outline, browser  # noqa: F401  (a fixture)

from vis.concepts import ActivationAtlas
from vis.concepts.atlas import cells_of, grid_places
from vis.parameterizations import Pixels

pytest.importorskip("sklearn")

FIRST = {"data_format": "channels_last"}


def coloured(count, seed=0, size=8):
    """Images of one colour each, red, green or blue, of many strengths."""
    draw = np.random.default_rng(seed)
    images = np.zeros((count, size, size, 3), "float32")
    for image, channel in zip(images, draw.integers(0, 3, count)):
        image[..., channel] = draw.uniform(0.7, 1)
    return images


@pytest.fixture(scope="module")
def model():
    """Channels for red, green and blue; class 0 likes red, class 1 green, class 2 blue."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 1, activation="relu", name="conv", **FIRST)(inputs)
    x = layers.GlobalAveragePooling2D(name="pool", **FIRST)(x)
    built = keras.Model(inputs, layers.Dense(3, name="scores")(x))
    built.set_weights([np.eye(3)[None, None], np.zeros(3), 2 * np.eye(3), np.zeros(3)])
    return built


@pytest.fixture(scope="module")
def atlas(model):
    made = ActivationAtlas(model, "conv", grid=3, seed=0).fit(coloured(60))
    made.visualize(20, batch_size=2, input_range=(0, 1), parameterization=Pixels(), transforms=[])
    return made


def test_planted_directions_are_in_cells_of_their_own(atlas):
    assert len(atlas.cells) == 3 and sum(cell.count for cell in atlas.cells) == 60
    seen = []
    for cell, image in zip(atlas.cells, atlas.images):
        channel = int(cell.activation.argmax())
        assert np.delete(cell.activation, channel).max() < 1e-6 and cell.classes[0][0] == channel
        # Gradient times activation of one of 64 positions: 2 / 64 of the strength.
        assert cell.classes[0][1] == pytest.approx(2 * cell.activation[channel] / 64, rel=1e-4)
        assert image.mean(axis=(0, 1)).argmax() == channel and len(cell.classes) == 1
        seen.append(channel)
    assert sorted(seen) == [0, 1, 2]


def test_the_layout_is_that_of_a_plain_decomposition(model):
    rng = np.random.default_rng(3)
    images = rng.random((40, 8, 8, 3)).astype("float32") * rng.random((40, 1, 1, 3)).astype("float32")
    found = ActivationAtlas(model, "pool", grid=5, seed=0).fit(images)
    values = images.mean(axis=(1, 2)).astype("float64")
    _, _, axes = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    plane = (values - values.mean(axis=0)) @ axes[:2].T
    options = [cells_by_loops(plane * signs, 5) for signs in ([1, 1], [1, -1], [-1, 1], [-1, -1])]
    counts = {(cell.row, cell.column): cell.count for cell in found.cells}
    assert counts in [{place: len(own) for place, own in one.items()} for one in options]
    own = next(one for one in options if counts == {place: len(rows) for place, rows in one.items()})
    for cell in found.cells:
        np.testing.assert_allclose(cell.activation, values[own[cell.row, cell.column]].mean(axis=0), atol=1e-5)


def cells_by_loops(plane, grid):
    """Returns the numbers of the points in each cell that has any."""
    cells = {}
    ends = [(np.percentile(axis, 1), np.percentile(axis, 99)) for axis in plane.T]
    for number, point in enumerate(plane):
        across, up = (min(max((one - low) / (high - low), 0), 1) for one, (low, high) in zip(point, ends))
        place = grid - 1 - min(int(up * grid), grid - 1), min(int(across * grid), grid - 1)
        cells.setdefault(place, []).append(number)
    return cells


def test_places_of_equal_points():
    assert grid_places(np.zeros((3, 2)), 4).tolist() == [[3, 0]] * 3
    assert grid_places(np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]]), 2).tolist() == [[1, 0], [0, 1], [0, 0], [1, 1]]


def test_cells_by_loops(rng):
    places, values = rng.integers(0, 2, (30, 2)), rng.random((30, 4))
    classes, shares = rng.integers(0, 3, 30), rng.normal(size=30)
    for cell in cells_of(places, values, classes, shares):
        own = [i for i in range(30) if tuple(places[i]) == (cell.row, cell.column)]
        assert cell.count == len(own)
        np.testing.assert_allclose(cell.activation, sum(values[i] for i in own) / len(own), rtol=1e-6)
        expected = {c: sum(shares[i] for i in own if classes[i] == c) / len(own) for c in {classes[i] for i in own}}
        assert dict(cell.classes) == pytest.approx(expected)
        assert [share for _, share in cell.classes] == sorted(expected.values(), reverse=True)
    assert cells_of(np.zeros((2, 2), int), np.zeros((2, 4)), np.zeros(2, int), np.zeros(2)) == []  # no direction


def test_a_data_set_a_seed_and_a_copy(model):
    images, before = coloured(20, 1), model.get_weights()
    whole = ActivationAtlas(model, "conv", 3, num_positions=5, seed=4).fit(images)
    parts = ActivationAtlas(model, "conv", 3, num_positions=5, seed=4).fit(iter([images[:12], images[12:]]))
    again = pickle.loads(pickle.dumps(whole))
    for other in (parts, again):
        assert [cell.count for cell in other.cells] == [cell.count for cell in whole.cells]
    assert sum(cell.count for cell in whole.cells) == 100
    few = ActivationAtlas(model, "conv", 3, num_positions=5, seed=4, num_samples=30).fit(images)
    assert sum(cell.count for cell in few.cells) == 30
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_network_with_curvature(rng):
    """Attributions are the gradient times the activation of each image's own class."""
    keras.utils.set_random_seed(2)
    hidden = layers.Dense(5, activation="tanh", name="hidden")
    network = keras.Sequential([keras.Input((4,)), hidden, layers.Dense(6, "tanh"), layers.Dense(3)])
    x = rng.normal(size=(30, 4)).astype("float32")
    found = ActivationAtlas(network, "hidden", grid=1, seed=0).fit(x)
    values = value_of(hidden(x)).astype("float64")
    rest, totals = network.layers[1:], {}

    def scores(at):
        for layer in rest:
            at = layer(at)
        return value_of(at)

    for row in values:
        top = int(scores(row[None].astype("float32"))[0].argmax())
        for i in range(5):
            step = 0.02 * np.eye(5)[i]
            slope = np.diff(scores(np.stack([row - step, row + step]).astype("float32"))[:, top])[0] / 0.04
            totals[top] = totals.get(top, 0) + slope * row[i] / 30
    assert dict(found.cells[0].classes) == pytest.approx(totals, rel=2e-2, abs=1e-3)


def test_a_figure_and_its_words(atlas):
    figure = atlas.figure(["red ink, of pens", "green", "blue"])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(words) == ["blue", "green", "red ink"]
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert picture.shape == (24, 24, 3)
    taken = {(cell.row, cell.column) for cell in atlas.cells}
    for row in range(3):
        for column in range(3):
            part = picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert (part == 1).all() == ((row, column) not in taken)


def test_the_page(atlas, tmp_path):
    atlas.to_html(tmp_path / "atlas.html", ["<b>red</b>", "green", "blue"], title="Colours & more")
    outline = Outline((tmp_path / "atlas.html").read_text("utf-8"))
    figures = outline.all("figure")
    assert len(figures) == len(outline.all("img")) == 3 and "Colours & more" in "".join(outline.words)
    assert {one["data-label"] for one in figures} == {"<b>red</b>", "green", "blue"}
    for cell, one in zip(atlas.cells, figures):
        assert one["style"] == f"grid-row: {cell.row + 1}; grid-column: {cell.column + 1}"
        assert one["data-words"].startswith(f"{cell.count} activations; ")


def test_the_page_in_a_browser(browser, atlas, tmp_path):  # noqa: F811
    atlas.to_html(tmp_path / "atlas.html", ["red", "green", "blue"])
    browser.open(tmp_path / "atlas.html")
    assert browser.problems() == []
    assert [url for url in browser.requests() if url.startswith("http")] == []

    def scale():
        return float(browser.run("return document.getElementById('view').dataset.scale"))

    assert scale() == 1
    browser.one("#closer").click()
    assert scale() == pytest.approx(1.4)
    browser.run("document.getElementById('view').focus()")
    browser.press("ARROW_RIGHT")
    moved = browser.run("return document.getElementById('sheet').style.transform")
    browser.press("ARROW_LEFT")
    assert browser.run("return document.getElementById('sheet').style.transform") != moved
    browser.run(
        "const v = document.getElementById('view');"
        "v.dispatchEvent(new WheelEvent('wheel', {deltaY: -1, clientX: 300, clientY: 300, cancelable: true}))"
    )
    assert scale() == pytest.approx(1.96)
    browser.one("#whole").click()
    assert scale() == 1
    browser.set("#class", "green", "change")
    assert len(browser.all(".others")) == 2
    browser.point(browser.all(".cell")[0], 0.5, 0.5)
    browser.until(lambda: "activations; " in browser.one("#said").text)
    browser.open(tmp_path / "atlas.html", wide=400)
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    browser.open(tmp_path / "atlas.html", scripts=False)
    assert len(browser.all(".cell img")) == 3


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda m: ActivationAtlas(m, "conv", grid=0), ValueError, "`grid`"),
        (
            lambda m: ActivationAtlas(m, "conv", layout="tsne"),
            ValueError,
            "Unknown layout: 'tsne'. Choose one of: 'pca', 'umap'",
        ),
        (lambda m: ActivationAtlas(m, None), TypeError, "`layer` must be a layer"),
        (lambda m: ActivationAtlas(m, "conv").fit(coloured(2)), ValueError, "at least three activations.*Received: 2"),
        (lambda m: ActivationAtlas(m, "conv").fit(np.ones((5, 8, 8, 3))), ValueError, "Received: 5 equal ones"),
        (lambda m: ActivationAtlas(m, "conv").fit(iter([])), ValueError, "Received: 0"),
        (lambda m: ActivationAtlas(m, "conv").visualize(), ValueError, "must be fitted"),
        (lambda m: ActivationAtlas(m, "conv", 2, seed=0).fit(coloured(9)).figure(), ValueError, "no images before"),
    ],
)
def test_bad_questions(model, make, error, words):
    with pytest.raises(error, match=words) as caught:
        make(model)
    assert len(str(caught.value)) < 400


def test_names_and_paths(atlas, tmp_path):
    with pytest.raises(ValueError, match="one for each class, more than 2. Received: 2"):
        atlas.figure(["a", "b"])
    with pytest.raises(OSError):
        atlas.to_html(tmp_path / "no" / "such.html")


def test_without_umap(model, monkeypatch):
    monkeypatch.setattr("vis.concepts.atlas.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="umap-learn, which is not installed"):
        ActivationAtlas(model, "conv", layout="umap")
    with pytest.raises(ImportError, match="scikit-learn, which is not installed"):
        ActivationAtlas(model, "conv").fit(coloured(5))
