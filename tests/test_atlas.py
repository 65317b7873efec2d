"""The activation atlas: slow second versions, planted directions, what is refused, and its page in a browser."""

import pickle
import re
import sys
import types

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import layers
from test_concepts import squares
from test_report import ATTACK, Browser, Outline, start_browser

from vis.concepts import ActivationAtlas
from vis.concepts.layouts import cells_of, on_a_plane, pca
from vis.plotting import rendered

WEIGHTS = np.array([[3.0, -1], [1, 0], [0, 0.5], [0, 1]])


def build(rest="affine", form="channels_last"):
    """A network whose channels are red, green, blue and blue; then a mean and scores, or a layer that is not affine."""
    shape = (24, 24, 3) if form == "channels_last" else (3, 24, 24)
    inputs = keras.Input(shape)
    first, x = form == "channels_first", inputs
    x = layers.Permute((2, 3, 1))(x) if first else x  # a CPU has no convolution of the other format
    x = layers.Conv2D(4, 1, activation="relu", name="conv", data_format="channels_last")(x)
    if first:
        x = layers.Permute((3, 1, 2))(x)
        x = layers.ZeroPadding2D(0, data_format=form, name="first")(x)
    x = layers.GlobalAveragePooling2D(data_format=form)(x)
    x = layers.Dense(4, "tanh", kernel_initializer="identity", name="dense")(x) if rest != "affine" else x
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="scores")(x))
    kernel = np.zeros((1, 1, 3, 4))
    kernel[0, 0, [0, 1, 2, 2], [0, 1, 2, 3]] = [1, 1, 0.7, 0.7]
    model.get_layer("conv").set_weights([kernel, np.zeros(4)])
    model.get_layer("scores").set_weights([WEIGHTS, np.zeros(2)])
    return model


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def fitted(model):
    return ActivationAtlas(model, "conv", grid=4, min_count=3, seed=0).fit(squares(20), per_image=12)


@pytest.fixture(scope="module")
def atlas(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    copy.visualize(steps=4, batch_size=2)
    return copy


# --- the layout


@pytest.mark.parametrize("shape", [(40, 5), (300, 90), (70, 100), (30, 1), (30, 2)])
def test_pca_is_a_plain_singular_value_decomposition(shape, rng):
    points = rng.normal(size=shape) * np.linspace(3, 0.1, shape[1])
    u, s, vt = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    found = pca(points, 0)
    assert found.shape == (shape[0], 2)
    for axis in range(min(2, shape[1])):
        sign = np.sign(vt[axis][np.abs(vt[axis]).argmax()])
        np.testing.assert_allclose(found[:, axis], sign * u[:, axis] * s[axis], atol=1e-6)
    np.testing.assert_array_equal(found, pca(points, 0))


def test_directions_are_laid_out_however_long_they_are(rng):
    points = rng.random((50, 6)) + 0.1
    longer = points * rng.uniform(0.5, 2, (50, 1))
    np.testing.assert_allclose(on_a_plane(points, "pca", 0), on_a_plane(longer, "pca", 0), atol=1e-6)


def test_the_grid_goes_to_the_percentiles_and_counts_from_the_top(rng):
    points = rng.normal(size=(500, 2))
    points[0] = 50, -50
    low, high = np.percentile(points, (1, 99), axis=0)
    for (x, y), (row, column) in zip(points, cells_of(points, 5)):
        across = min(4, max(0, int(np.floor(5 * (x - low[0]) / (high[0] - low[0])))))
        up = min(4, max(0, int(np.floor(5 * (y - low[1]) / (high[1] - low[1])))))
        assert (row, column) == (4 - up, across)
    assert cells_of(np.zeros((7, 2)), 3).tolist() == [[2, 0]] * 7


def test_umap_is_asked_for_by_name(model, monkeypatch):
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, points):
            return points[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    atlas = ActivationAtlas(model, "conv", 2, "umap", 1, seed=3).fit(squares(10), per_image=30)
    assert (asked["metric"], asked["random_state"], asked["n_neighbors"]) == ("cosine", 3, 20)
    assert len(atlas.activations) > 20
    assert np.ptp(atlas.coordinates) > 0.5


def test_umap_itself_keeps_colours_apart(model):
    pytest.importorskip("umap", reason="needs the package umap-learn", exc_type=ImportError)
    atlas = ActivationAtlas(model, "conv", 6, "umap", 1, seed=0).fit(squares(40), per_image=20)
    again = ActivationAtlas(model, "conv", 6, "umap", 1, seed=0).fit(squares(40), per_image=20)
    np.testing.assert_array_equal(atlas.coordinates, again.coordinates)
    middles = [atlas.coordinates[atlas.activations.argmax(axis=1) == colour] for colour in range(3)]
    assert all(len(middle) > 5 for middle in middles)
    assert min(np.linalg.norm(middles[i].mean(0) - middles[j].mean(0)) for i, j in ((0, 1), (0, 2), (1, 2))) > 2


# --- what is in the cells


def test_planted_directions_fall_into_cells_of_their_own(fitted):
    found = fitted.directions / np.linalg.norm(fitted.directions, axis=1, keepdims=True)
    planted = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5]])
    assert len(fitted.cells) == 3 and fitted.counts.sum() == len(fitted.activations)
    order = (found @ planted.T).argmax(axis=0)
    np.testing.assert_allclose(found[order], planted, atol=1e-5)
    names = fitted.labels(["red", "blue"], count=1)
    assert [names[i] for i in order] == [["red"], ["red"], ["blue"]]


def by_hand(model, layer, images, count, seed):
    """Every activation that is drawn, and what each score loses without it, one run of the network after the other."""
    body = keras.Model(model.input, model.get_layer(layer).output)
    tail = model.layers[model.layers.index(model.get_layer(layer)) + 1 :]

    def scores(values):
        for one in tail[:-1]:
            values = one(values)
        kernel, bias = (value_of(weight) for weight in tail[-1].weights)
        return (value_of(values) @ kernel + bias)[0]  # before the softmax

    draw, rows = np.random.default_rng([seed, 1]), []
    for image in images:
        values = value_of(body(image[None])).astype("float32")
        places = np.argsort(draw.random(values[0, ..., 0].size))[:count]
        for place in places:
            row, column = divmod(place, values.shape[2])
            changed = values.copy()
            changed[0, row, column] = 0
            if values[0, row, column].any():
                rows.append((values[0, row, column], scores(values) - scores(changed)))
    return [np.array(column) for column in zip(*rows)]


@pytest.mark.parametrize("rest", ["affine", "tanh"])
def test_cells_are_averages_of_activations_and_of_what_they_contribute(rest):
    model, images = build(rest), np.random.default_rng(0).random((6, 24, 24, 3)).astype("float32")
    atlas = ActivationAtlas(model, "conv", grid=3, min_count=4, seed=7).fit(images, per_image=8, batch_size=4)
    activations, worth = by_hand(model, "conv", images, 8, 7)
    np.testing.assert_allclose(atlas.activations, activations, atol=1e-6)
    places = cells_of(atlas.coordinates, 3)
    known = iter(zip(atlas.cells, atlas.directions, atlas.contributions))
    for row in range(3):
        for column in range(3):
            own = [i for i, place in enumerate(places) if tuple(place) == (row, column)]
            assert atlas.counts[row, column] == len(own)
            if len(own) >= 4:
                cell, direction, contribution = next(known)
                assert tuple(cell) == (row, column)
                np.testing.assert_allclose(direction, sum(activations[i] for i in own) / len(own), atol=1e-5)
                np.testing.assert_allclose(contribution, sum(worth[i] for i in own) / len(own), atol=3e-6)
    assert next(known, None) is None


def test_what_is_contributed_is_gradient_times_activation_where_the_rest_is_affine(fitted):
    expected = fitted.directions @ WEIGHTS / 24**2
    np.testing.assert_allclose(fitted.contributions, expected, atol=1e-6)


def test_labels_are_the_classes_with_the_most(fitted):
    for names, row in zip(fitted.labels(["a", "b"]), fitted.contributions):
        assert names == [name for _, name in sorted(zip(-row, "ab")) if row["ab".index(name)] > 0]
    assert {name for names in fitted.labels() for name in names} <= {"class 0", "class 1"}


def test_two_classes_of_one_name_are_told_once(fitted):
    both = fitted.labels(["missile", "missile"])
    assert all(names == ["missile"] * int(row.max() > 0) for names, row in zip(both, fitted.contributions))
    best = fitted._best(["missile", "missile"], 5)
    assert all(pairs[0][1] == row.max() for pairs, row in zip(best, fitted.contributions))


def test_a_data_set_is_read_as_an_array_is(model, fitted):
    images = squares(20)
    parts = ActivationAtlas(model, "conv", 4, min_count=3, seed=0).fit(iter([images[:7], images[7:]]), per_image=12)
    np.testing.assert_allclose(parts.activations, fitted.activations, atol=1e-6)
    np.testing.assert_array_equal(parts.cells, fitted.cells)


def test_channels_first_is_channels_last_transposed(fitted):
    first = ActivationAtlas(build(form="channels_first"), "first", 4, min_count=3, seed=0)
    first.fit(np.moveaxis(squares(20), -1, 1), per_image=12)
    np.testing.assert_allclose(first.activations, fitted.activations, atol=1e-5)
    np.testing.assert_allclose(first.contributions, fitted.contributions, atol=1e-5)


def test_of_many_activations_some_are_kept(model):
    few = ActivationAtlas(model, "conv", 2, min_count=1, num_activations=15, seed=0).fit(squares(20), per_image=12)
    again = ActivationAtlas(model, "conv", 2, min_count=1, num_activations=15, seed=0).fit(squares(20), per_image=12)
    other = ActivationAtlas(model, "conv", 2, min_count=1, num_activations=15, seed=1).fit(squares(20), per_image=12)
    assert few.activations.shape == (15, 4)
    np.testing.assert_array_equal(few.activations, again.activations)
    assert (few.activations != other.activations).any()


def test_a_dense_layer_has_one_activation_an_image():
    model = build("tanh")
    atlas = ActivationAtlas(model, "dense", 2, min_count=1, seed=0).fit(squares(12), per_image=3)
    assert atlas.activations.shape == (12, 4)
    np.testing.assert_allclose(atlas.contributions, atlas.directions @ WEIGHTS, atol=1e-5)
    assert atlas.visualize(steps=1).shape == (len(atlas.cells), 24, 24, 3)


def test_the_output_as_it_is_has_other_contributions(model):
    as_it_is = ActivationAtlas(model, "conv", 4, min_count=3, seed=0, logits=False).fit(squares(20), per_image=12)
    assert np.abs(as_it_is.contributions.sum(axis=1)).max() < 1e-6  # probabilities sum to 1 with and without
    other = ActivationAtlas(model, "conv", 4, min_count=3, seed=0, output_layer="conv").fit(squares(20), per_image=12)
    np.testing.assert_allclose(other.contributions, other.directions / 24**2, atol=1e-6)


# --- what is shown


def test_each_cell_is_made_for_its_own_direction(fitted):
    images = pickle.loads(pickle.dumps(fitted)).visualize(steps=40, batch_size=2)
    assert images.shape == (3, 24, 24, 3)
    colours = fitted.directions[:, :3].argmax(axis=1)
    means = images.mean(axis=(1, 2)) - images.mean(axis=(1, 2)).mean(axis=0)
    assert means.argmax(axis=1).tolist() == colours.tolist()


def test_memory_and_calls_are_bounded_by_the_batch(fitted, monkeypatch):
    from vis.methods import feature_visualization

    shapes, made = [], feature_visualization.Loop.__init__

    def noted(self, *arguments):
        shapes.append(arguments[5])
        made(self, *arguments)

    monkeypatch.setattr(feature_visualization.Loop, "__init__", noted)
    copy = pickle.loads(pickle.dumps(fitted))
    first = copy.visualize(steps=2, batch_size=2)
    assert shapes == [(2, 24, 24, 3)]  # one loop for two batches: the second is filled up
    np.testing.assert_array_equal(copy.visualize(steps=2, batch_size=2), first)
    assert (copy.visualize(steps=2, batch_size=2, seed=1) != first).any()


def test_the_model_is_left_as_it_was(model):
    before = [value_of(weight).copy() for weight in model.weights]
    ActivationAtlas(model, "conv", 2, min_count=1, seed=0).fit(squares(20), per_image=8).visualize(steps=1)
    for old, weight in zip(before, model.weights):
        np.testing.assert_array_equal(old, value_of(weight))


def test_it_pickles(atlas):
    copy = pickle.loads(pickle.dumps(atlas))
    np.testing.assert_array_equal(copy.images, atlas.images)
    assert copy.labels() == atlas.labels()


def test_the_figure_has_pictures_in_their_cells_and_white_between(atlas):
    figure = atlas.figure(["red", "a blue with a name that is much too long for it"])
    (axis,) = figure.axes
    assert len(axis.images) == 3
    pixels = rendered(figure)
    height, width = pixels.shape[0] / 4, pixels.shape[1] / 4
    for row in range(4):
        for column in range(4):
            part = pixels[int(row * height) : int((row + 1) * height), int(column * width) : int((column + 1) * width)]
            is_known = [row, column] in atlas.cells.tolist()
            assert (part.mean() < 240) == is_known
    assert all(len(text.get_text()) <= 21 for text in axis.texts)


# --- what is refused


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda m: ActivationAtlas(m, "conv").fit(squares(3)), "at least 10 activations"),
        (lambda m: ActivationAtlas(m, "conv", 10, min_count=99, seed=0).fit(squares(20), 12), "some cell at least 99"),
        (lambda m: ActivationAtlas(m, "conv", 0), "`grid`"),
        (lambda m: ActivationAtlas(m, "conv", (3, 4)), "`grid`"),
        (lambda m: ActivationAtlas(m, "conv", layout="tsne"), "Unknown layout"),
        (lambda m: ActivationAtlas(m, "conv", layout=None), "`layout`"),
        (lambda m: ActivationAtlas(m, "conv", min_count=0), "`min_count`"),
        (lambda m: ActivationAtlas(m, "conv", num_activations=5), "`num_activations`"),
        (lambda m: ActivationAtlas(m, None), "`layer`"),
        (lambda m: ActivationAtlas(m, "nowhere"), "nowhere"),
        (lambda m: ActivationAtlas(m, "conv").fit(squares(9), per_image=0), "`per_image`"),
        (lambda m: ActivationAtlas(m, "conv").fit(squares(9)[0]), "inputs"),
        (lambda m: ActivationAtlas(m, "conv").labels(), "must be fitted before"),
        (lambda m: ActivationAtlas(m, "conv").visualize(), "must be fitted before"),
    ],
)
def test_mistakes_are_told(make, words, model):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make(model)
    assert len(str(caught.value)) < 400


def test_a_map_without_images_is_not_shown(fitted, tmp_path):
    with pytest.raises(ValueError, match="visualize"):
        fitted.figure()
    with pytest.raises(ValueError, match="visualize"):
        fitted.to_html(tmp_path / "a.html")
    with pytest.raises(ValueError, match="`labels` must be a list with a name for each of 2"):
        fitted.labels(["only one"])
    assert list(tmp_path.iterdir()) == []


def test_a_single_unit_is_class_one():
    pool, dense = layers.GlobalAveragePooling2D(), layers.Dense(1)
    model = keras.Sequential([keras.Input((24, 24, 3)), layers.ReLU(name="relu"), pool, dense])
    dense.set_weights([np.array([[1.0], [1.0], [1.0]]), np.zeros(1)])
    atlas = ActivationAtlas(model, "relu", grid=1, seed=0).fit(squares(9) + 1, per_image=4)
    assert atlas.labels(["cat", "dog"]) == [["dog"]] and atlas.contributions.shape == (1, 2)
    for names in (["dog"], ["cat", "dog", "fish"], {"cat": 0, "dog": 1}):
        with pytest.raises((ValueError, TypeError), match="`labels` must be a list"):
            atlas.labels(names)


def test_a_missing_package_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match='take `layout="pca"`'):
        ActivationAtlas(model, "conv", layout="umap")


# --- the page


@pytest.fixture(scope="module")
def path(atlas, tmp_path_factory):
    path = tmp_path_factory.mktemp("atlas") / "atlas.html"
    atlas.to_html(path, ["red", "blue"], title="Colours")
    return path


def test_the_page_is_whole_and_refers_to_nothing_outside(path, atlas):
    text = path.read_text("utf-8")
    outline = Outline(text)
    assert not re.search(r"https?:|url\(|@import|//\w+\.\w", text.replace("// ", ""))
    assert all(image["src"].startswith("data:") for image in outline.all("img"))
    areas = [button["style"] for button in outline.all("button") if button.get("class") == "cell"]
    assert areas == [f"grid-area: {row + 1} / {column + 1}" for row, column in atlas.cells]
    words = " ".join(" ".join(outline.words).split())
    assert all(part in words for part in ("Colours", "red", "blue", "conv", "pca"))
    assert "default-src 'none'" in text and len(list(path.parent.iterdir())) == 1


def test_names_cannot_break_out_of_the_page(atlas, tmp_path):
    atlas.to_html(tmp_path / "a.html", [ATTACK, f"{ATTACK} 2"], title=ATTACK)
    outline = Outline((tmp_path / "a.html").read_text("utf-8"))
    assert len(outline.all("script")) == 2 and all("onerror" not in image for image in outline.all("img"))
    assert ATTACK in outline.words


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield Browser(driver)
    driver.quit()


def chosen(browser):
    return [i for i, cell in enumerate(browser.all(".cell")) if cell.get_attribute("aria-pressed") == "true"]


@pytest.mark.parametrize("wide", [1300, 400])
def test_the_whole_map_is_shown_without_an_error_or_a_request(browser, path, wide):
    browser.open(path, wide=wide)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("const w = document.querySelector('#window'); return w.scrollWidth <= w.clientWidth")
    assert browser.run("const w = document.querySelector('#window'); return w.scrollHeight <= w.clientHeight")
    assert len(browser.all(".cell")) == 3 and browser.problems() == []
    assert [url for url in browser.requests() if not url.startswith(("data:", "chrome:"))] == [f"file://{path}"]


def test_keys_walk_from_picture_to_picture_and_zoom(browser, path, atlas):
    browser.open(path)
    browser.run("document.querySelector('#class').focus()")
    browser.press("TAB")
    assert browser.run("return document.activeElement.className") == "cell"
    seen = set()
    for key in ("ARROW_DOWN", "ARROW_RIGHT", "ARROW_UP", "ARROW_LEFT", "END", "HOME"):
        browser.press(key)
        seen.update(chosen(browser))
        assert len(chosen(browser)) == 1
    assert seen == {0, 1, 2} and chosen(browser) == [0]
    row, column = atlas.cells[0] + 1
    assert f"Row {row}, column {column}" in browser.one("#chosen").text
    before = browser.one(".cell img").size["width"]
    browser.driver.switch_to.active_element.send_keys("+")
    larger = browser.one(".cell img").size["width"]
    browser.driver.switch_to.active_element.send_keys("0")
    assert larger > 1.2 * before and browser.one(".cell img").size["width"] == before
    browser.press("TAB")
    assert browser.run("return document.activeElement.className") != "cell"


def test_the_tools_zoom_and_find_a_class(browser, path, atlas):
    browser.open(path)
    browser.set("#zoom", 300)
    assert browser.one(".cell img").size["width"] == 300
    browser.one("#out").click()
    assert browser.one(".cell img").size["width"] == 240
    browser.set("#class", "blue", "change")
    faint = [float(cell.value_of_css_property("opacity")) < 1 for cell in browser.all(".cell")]
    assert faint == ["blue" not in names for names in atlas.labels(["red", "blue"])]
    browser.all(".cell")[1].click()
    assert chosen(browser) == [1] and "activations" in browser.one("#chosen").text


def test_far_away_the_words_are_left_out(browser, path):
    browser.open(path, wide=400)
    assert browser.one(".names").is_displayed()
    browser.set("#zoom", 30)
    assert not browser.one(".names").is_displayed()


def test_the_map_moves_with_the_mouse(browser, path):
    browser.open(path, wide=400)
    browser.set("#zoom", 400)
    box = browser.run("const b = document.querySelector('#window').getBoundingClientRect(); return [b.left, b.top]")
    x, y = box[0] + 200, box[1] + 200
    where = "const w = document.querySelector('#window'); return [w.scrollLeft, w.scrollTop]"
    before = browser.run(where)
    browser.command("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x - 60, y=y - 40, button="left")
    browser.command("Input.dispatchMouseEvent", type="mouseReleased", x=x - 60, y=y - 40, button="left", clickCount=1)
    after = browser.run(where)
    assert [round(b - a) for a, b in zip(before, after)] == [60, 40] and chosen(browser) == []


def test_without_scripts_pictures_and_words_are_there(browser, path):
    browser.open(path, scripts=False)
    assert len(browser.all(".cell img")) == 3 and browser.one(".names").is_displayed()
    assert not browser.one(".tools").is_displayed()
