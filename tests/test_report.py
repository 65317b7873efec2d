"""The page of a report: its text, and what it does in a real browser.

The tests of a browser need Chromium (or Chrome) and chromedriver, and skip without them.
"""

import base64
import dataclasses
import hashlib
import html.parser
import itertools
import json
import math
import re
import shutil
import time

import numpy as np
import pytest

from vis.report import Page, packing, pictures, rendering, write_page
from vis.report.charts import BOTTOM, LEFT, RIGHT, TOP, make_charts, nice_ticks
from vis.report.flat import flat

HEIGHT, WIDTH = 24, 32
METHODS = ("Grad-CAM", "Integrated gradients", "LRP")
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }}"
VOID = {"meta", "link", "img", "input", "line", "polyline", "polygon"}


def draw_maps(seed=0, count=2, size=(HEIGHT, WIDTH)):
    """Maps without and with a sign, smooth, noisy, and tiny ones."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([np.exp(-((y - 9 - i) ** 2 + (x - 12) ** 2) / 50) for i in range(count)])
    noise = rng.normal(size=(count, *size)) * (1 + 3 * smooth)
    noise[:, 0, 0] = 0
    arrays = (smooth, noise, 1e-9 * np.abs(rng.normal(size=(count, *size))))
    return {name: array.astype("float32") for name, array in zip(METHODS, arrays)}


def record(method="a", metric="insertion", fill="mean", mean=0.5, **others):
    values = {"low": 0.25, "high": 0.75, "percentile": 97.0, "verdict": "better than chance and edges"}
    return {
        "method": method,
        "metric": metric,
        "fill": fill,
        "mean": mean,
        "higher_is_better": True,
        **values,
        **others,
    }


def curve(method="a", metric="insertion", fill="mean", values=(0.0, 0.25, 1.0), low=None, high=None):
    return {"method": method, "metric": metric, "fill": fill, "values": values, "low": low, "high": high}


def concept(name="concept 0", importance=0.5, pieces=(), maps=()):
    return {"name": name, "importance": importance, "pieces": pieces, "maps": maps}


def make_page(**changes):
    """Returns a page of everything, with what is given in other words."""
    images = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, 3)).astype("uint8")
    ends = {"low": np.array([0, 0.2, 0.5]), "high": np.array([0.1, 0.4, 1])}
    table = [record(name, mean=mean) for name, mean in zip(METHODS, (0.3, 11.0, -2.0))]
    table += [record(METHODS[0], "deletion", "road", None, low=None, high=float("nan"), percentile=None)]
    values = {
        "title": "Three methods",
        "settings": {"backend": "tensorflow", "seed": "0"},
        "call": 'vis.evaluate({"Grad-CAM": explainer}, images, seed=0)\n',
        "images": list(images),
        "maps": draw_maps(),
        "classes": [("tabby", 0.91), ("espresso", -3.5)],
        "table": table,
        "curves": [curve(name, metric, **ends) for metric in ("insertion", "deletion") for name in METHODS],
        "concepts": [concept("eyes", 0.8, list(images[:, :9, :9]), list(images)), concept("sky", None, [images[0]])],
    }
    return Page(**values | changes)


def text_of(page, folder):
    write_page(folder / "page.html", page)
    return (folder / "page.html").read_text("utf-8")


class Outline(html.parser.HTMLParser):
    """Reads a page: its elements, its words, and whether every element that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_whole_and_refers_to_nothing_outside(tmp_path):
    text = text_of(make_page(), tmp_path)
    outline = Outline(text)
    assert not re.search(r"https?:|url\(|@import|//\w+\.\w", text.replace("// ", ""))
    addresses = [attributes[key] for _, attributes in outline.elements for key in ("src", "href") if key in attributes]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    parts = {attributes["href"][1:] for attributes in outline.all("a")}
    assert parts == {"maps", "concepts", "numbers", "curves", "made"} <= {a.get("id") for a in outline.all("section")}
    assert len(outline.all("img")) == 2 * (1 + len(METHODS)) + 2 + 5  # bars of colours, pictures of concepts
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_identifiers_are_of_one_element_and_labels_of_one_that_is_there(tmp_path):
    outline = Outline(text_of(make_page(), tmp_path))
    names = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    for _, attributes in outline.elements:
        assert {attributes.get(key, names[0]) for key in ("for", "aria-labelledby")} <= set(names)
    assert all("alt" in attributes for attributes in outline.all("img"))


def test_the_policy_of_the_page_allows_its_own_script_only(tmp_path):
    text = text_of(make_page(), tmp_path)
    policy = next(a["content"] for a in Outline(text).all("meta") if "http-equiv" in a)
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{own}'" in policy


def attacked_page():
    names = [f"{ATTACK} {i}" for i in range(2)]
    return make_page(
        title=ATTACK,
        settings={ATTACK: ATTACK},
        call=ATTACK,
        classes=[(ATTACK, 1.0)] * 2,
        maps=dict(zip(names, draw_maps().values())),
        table=[record(name, ATTACK, ATTACK, verdict=ATTACK) for name in names],
        curves=[curve(name, ATTACK, ATTACK) for name in names],
        concepts=[concept(ATTACK)],
    )


def test_whatever_users_write_stays_text(tmp_path):
    outline = Outline(text_of(attacked_page(), tmp_path))
    assert len(outline.all("script")) == 2  # the data and the script of the page itself
    assert not any(key.startswith("on") for _, attributes in outline.elements for key in attributes)
    assert sum(words.strip() == ATTACK for words in outline.words) >= 8
    assert "49" not in "".join(words for words in outline.words if "alert" in words)


@pytest.mark.parametrize("steps", [0, -1, "3", float("nan")])
def test_steps_are_a_number_above_zero(steps):
    with pytest.raises((TypeError, ValueError), match="`steps` must be"):
        make_page(steps=steps)


def test_the_page_says_what_it_was_given(tmp_path):
    words = " ".join(Outline(text_of(make_page(), tmp_path)).words)
    for part in ("Three methods", "tabby", "0.910", "espresso", "\N{MINUS SIGN}3.50", "tensorflow", "Grad-CAM", "97 %"):
        assert part in words
    assert "better than chance and edges" in words and "0.2 to 0.8" in words and "no interval" in words
    assert "eyes importance 0.80" in " ".join(words.split()) and "sky" in words
    assert "1 part in 65534 of each map's largest value" in words


def test_a_page_without_images_has_its_numbers(tmp_path):
    outline = Outline(text_of(make_page(images=[], maps={}, classes=[]), tmp_path))
    assert [a["id"] for a in outline.all("section")] == ["concepts", "numbers", "curves", "made"]
    outline = Outline(text_of(make_page(table=[], curves=[], maps={}, concepts=[]), tmp_path))
    assert [a["id"] for a in outline.all("section")] == ["maps", "made"]


def test_nothing_given_is_changed(tmp_path):
    page = make_page()
    before = [array.copy() for array in (*page.images, *page.maps.values())]
    text_of(page, tmp_path)
    for old, new in zip(before, (*page.images, *page.maps.values())):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(dataclasses.FrozenInstanceError):
        page.title = "another"


def test_a_path_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "missing" / "page.html", "no page")
    with pytest.raises(TypeError, match="must be a `vis.report.Page`. Received: str"):
        write_page(tmp_path / "page.html", "no page")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    old = text_of(make_page(), tmp_path)
    monkeypatch.setattr(rendering, "pack_within", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_page(tmp_path / "page.html", make_page(title="another"))
    assert (tmp_path / "page.html").read_text("utf-8") == old and len(list(tmp_path.iterdir())) == 1


GREY = np.zeros((HEIGHT, WIDTH), "uint8")
IMAGE = np.zeros((HEIGHT, WIDTH, 3), "uint8")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"images": [GREY, GREY]}, ValueError, r"`images\[0\]` must have .* Repeat the grey ones: `np.repeat"),
        (
            {"images": [IMAGE, GREY[..., None]]},
            ValueError,
            r"`images\[1\]` must have .* \(24, 32, 1\). Repeat the grey",
        ),
        ({"images": [IMAGE, IMAGE.transpose(2, 0, 1)]}, ValueError, "channels last"),
        ({"images": [IMAGE / 255, IMAGE]}, TypeError, r"uint8 array .* Received: dtype float64, shape \(24, 32, 3\)"),
        ({"images": ["cat.jpg"]}, TypeError, r"`images\[0\]` must be a uint8 array \(H, W, 3\). Received: 'cat.jpg'"),
        ({"images": "cat.jpg"}, TypeError, "`images` must be a list. Received: 'cat.jpg'"),
        ({"images": [IMAGE, IMAGE[1:]]}, ValueError, r"all be of one size.*`images\[1\]`, \(23, 32\). Resize"),
        ({"images": []}, ValueError, "must be given with their images"),
        ({"maps": []}, TypeError, "must be a dict {name: maps}"),
        ({"maps": {"a": np.zeros((3, HEIGHT, WIDTH))}}, ValueError, r"\(N, H, W\) = \(2, 24, 32\).*\(3, 24, 32\)"),
        ({"maps": {"a": np.zeros((2, 3, 4))}}, ValueError, r"enlarge coarse maps with `vis.utils.images.resize"),
        ({"maps": {"a": np.zeros((2, HEIGHT, WIDTH, 3))}}, ValueError, r"`maps\['a'\]`.*Sum over channels"),
        ({"maps": {"a": np.full((2, HEIGHT, WIDTH), np.nan)}}, ValueError, r"`maps\['a'\]` must be finite numbers"),
        ({"maps": {"a": "high"}}, ValueError, r"`maps\['a'\]` must be numbers"),
        ({"classes": [("cat", 1.0)]}, ValueError, r"a pair \(name, score\) for each image. Received: 1 for 2 images"),
        ({"classes": ["cat", "dog"]}, TypeError, r"`classes\[0\]` must be a pair \(name, score\). Received: 'cat'"),
        ({"classes": [("cat", "high"), ("dog", 1)]}, TypeError, r"`classes\[0\]\[1\]` must be a number"),
        ({"classes": [("cat", 1), ("dog", math.inf)]}, ValueError, r"`classes\[1\]\[1\]` must be a finite number"),
        ({"settings": ["seed"]}, TypeError, "`settings` must be a dict"),
        ({"table": [{"method": "a"}]}, ValueError, r"`table\[0\]` must have the keys .*none named 'metric', 'fill'"),
        ({"table": ["a"]}, TypeError, r"`table\[0\]` must be a dict. Received: 'a'"),
        ({"table": {"method": "a"}}, TypeError, "`table` must be a list"),
        ({"table": [record(mean="high")]}, TypeError, r"`table\[0\]\['mean'\]` must be a number, or None"),
        ({"curves": [{}]}, ValueError, r"`curves\[0\]` must have the keys"),
        ({"curves": [curve(values=[[0, 1]])]}, ValueError, r"must be \(steps \+ 1,\), two numbers or more.*\(1, 2\)"),
        ({"curves": [curve(values=[0, np.inf])]}, ValueError, r"`curves\[0\]\['values'\]` must be finite"),
        ({"curves": [curve(low=[0, 1])]}, ValueError, r"of the shape of its curve, \(3,\), or None"),
        ({"concepts": "eyes"}, TypeError, "`concepts` must be a list. Received: 'eyes'"),
        ({"concepts": [{"name": "eyes"}]}, ValueError, r"`concepts\[0\]` must have the keys name, importance, pieces"),
        ({"concepts": [concept(importance="much")]}, TypeError, r"`concepts\[0\]\['importance'\]` must be a number"),
        ({"concepts": [concept(pieces=[GREY])]}, ValueError, r"`concepts\[0\]\['pieces'\]\[0\]`.*Repeat the grey"),
        ({"concepts": [concept(maps=IMAGE / 1.0)]}, TypeError, r"`concepts\[0\]\['maps'\]\[0\]` must be a uint8"),
    ],
)
def test_bad_parts_are_a_sentence_each(changes, kind, words):
    with pytest.raises(kind, match=words) as caught:
        make_page(**changes)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("value", "ends", "words"),
    [
        (0.0112, (-0.05, 0.3), "0.011"),
        (-0.5, (-0.5, 0.3), "\N{MINUS SIGN}0.500"),
        (11, (2, 11), "11.0"),
        (1234.5, (0, 4000), "1234"),
        (2.5e-7, (0, 1e-6), "2.50e\N{MINUS SIGN}07"),
        (3e7, (0, 1e8), "3.00e+07"),
        (math.nan, (0, 1), "\N{EN DASH}"),
        (None, (0, 1), "\N{EN DASH}"),
    ],
)
def test_numbers_of_a_metric_have_as_many_decimals(value, ends, words):
    assert rendering._score(value, ends) == words


def test_flat_maps_are_said_to_be_flat(tmp_path):
    text = text_of(make_page(maps={"flat": np.full((2, HEIGHT, WIDTH), 1024.0)}), tmp_path)
    assert "flat: 1024 everywhere" in text


# Maps as text


@pytest.mark.parametrize("levels", [packing.FINEST, 100, packing.COARSEST])
@pytest.mark.parametrize("name", METHODS)
def test_packed_maps_come_back_to_half_a_step(name, levels):
    values = draw_maps()[name][0].astype("float64")
    packed = packing.pack(values, levels)
    back = packing.unpack(packed, values.shape)
    assert np.abs(back - values).max() <= 0.500001 * packed.step
    assert packed.step == pytest.approx(np.abs(values - packed.origin).max() / levels)
    assert np.all(back[values == 0] == 0)


def test_differences_may_wrap_around():
    values = np.where(np.indices((8, 8)).sum(0) % 2, 1.0, -1.0)
    wholes = (values * packing.FINEST).astype("int16")
    text = packing._text(packing._differences(wholes))
    back = packing.unpack(packing.Packed(text, 0, 1 / packing.FINEST, 1), (8, 8))
    np.testing.assert_allclose(back, values)


def test_smooth_maps_are_kept_as_differences_and_take_less():
    smooth, noise = (packing.pack(draw_maps()[name][0]) for name in METHODS[:2])
    assert (smooth.order, noise.order) == (1, 0) and len(smooth.text) < len(noise.text)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.5])
def test_flat_maps(value, tmp_path):
    values = np.full((2, HEIGHT, WIDTH), value, "float32")
    packed = packing.pack(values[0])
    assert packed.step == 0 and np.all(packing.unpack(packed, (HEIGHT, WIDTH)) == values[0])
    Outline(text_of(make_page(maps={"flat": values}), tmp_path))


def test_maps_far_from_zero_lose_nothing_to_it():
    values = 1000 + np.random.default_rng(0).random((8, 8))
    assert packing.pack(values).step < 1 / packing.FINEST


def test_maps_are_as_fine_as_there_is_room_for():
    maps = list(np.random.default_rng(0).normal(size=(6, 40, 40)))
    sizes = {}
    for most in (10**6, 15_000, 8_000):
        packed = packing.pack_within(maps, most)
        sizes[most] = sum(len(one.text) for one in packed)
        assert sizes[most] <= most
    assert sizes[15_000] > 12_000 and sizes[8_000] > 5_000  # nor coarser than they need be
    assert round(np.abs(maps[0]).max() / packing.pack_within(maps, 0)[0].step) == packing.COARSEST


def test_the_page_keeps_to_its_size(tmp_path, monkeypatch):
    whole = len(text_of(make_page(), tmp_path).encode())
    monkeypatch.setattr(rendering, "MOST_BYTES", whole - 6_000)
    assert whole - 9_000 < len(text_of(make_page(), tmp_path).encode()) < whole - 6_000


@pytest.mark.slow
def test_16_images_and_8_methods_are_below_5_megabytes_even_of_noise(tmp_path):
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (16, 14, 14, 3)).astype("uint8").repeat(16, 1).repeat(16, 2))
    maps = {f"method {i}": rng.normal(size=(16, 224, 224)).astype("float32") for i in range(8)}
    table = [record(name, metric, fill) for name in maps for metric in "abc" for fill in "de"]
    page = make_page(images=images, maps=maps, classes=[("cat", 0.5)] * 16, table=table)
    assert len(text_of(page, tmp_path).encode()) < 5_000_000


# Colours, curves


def test_colours_are_those_of_the_table_by_loops():
    table = pictures.colour_table("viridis")
    values = np.array([[-2.0, -1.0, 0.0], [0.5, 1.0, 9.0]])
    found = pictures.coloured(values, (-1, 1), table)
    for place in np.ndindex(values.shape):
        share = min(max((values[place] + 1) / 2, 0), 1)
        np.testing.assert_array_equal(found[place], table[math.floor(255 * share + 0.5)])


def test_where_colours_begin_and_end():
    ramp = np.linspace(0, 1, 101)[None]
    assert pictures.colour_range(ramp, signed=False) == pytest.approx((0, 0.99))
    assert pictures.colour_range(-ramp, signed=True) == pytest.approx((-0.99, 0.99))
    assert pictures.colour_range(ramp + 1, signed=False) == pytest.approx((1, 1.99))  # far from 0, as of RISE
    few = np.zeros((20, 20))
    few[0, 0] = 5
    assert pictures.colour_range(few, signed=False) == (0, 5)


@pytest.mark.parametrize("name", pictures.SIGN_COLOURS)
def test_zero_has_no_colour_in_the_maps_of_signs(name):
    middle = pictures.coloured(np.zeros((1, 1)), (-1, 1), pictures.colour_table(name))[0, 0].astype(int)
    assert np.ptp(middle) <= 12 and middle.min() > 200


def test_photographs_become_jpeg_and_drawings_png():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype("uint8")
    for picture in (np.zeros((96, 96, 3), "uint8"), noise[:32, :32]):
        assert pictures.data_address(picture).startswith("data:image/png")
    assert pictures.data_address(noise).startswith("data:image/jpeg")
    assert pictures.data_address(noise, most=10**6).startswith("data:image/png")


def test_a_curve_goes_through_its_points():
    charts = make_charts([curve("b", values=[0, 0.5, 1], low=[0, 0, 0], high=[1, 1, 1])], ["a", "b"])
    line = charts[0].lines[0]
    middle = (TOP + BOTTOM) / 2
    assert line.method == 1 and line.values == [0, 0.5, 1]
    assert line.points == f"{LEFT:.1f},{BOTTOM:.1f} {(LEFT + RIGHT) / 2:.1f},{middle:.1f} {RIGHT:.1f},{TOP:.1f}"
    assert line.band.split()[:1] + line.band.split()[-1:] == [f"{LEFT:.1f},{BOTTOM:.1f}", f"{LEFT:.1f},{TOP:.1f}"]


@pytest.mark.parametrize("ends", [(0, 1), (-3e-7, 4e-7), (12, 12), (0, 0), (-5, -5), (1e6, 3.3e6), (0.999, 1.001)])
def test_ticks_are_few_and_hold_the_curve(ends):
    ticks = nice_ticks(*ends)
    assert 2 <= len(ticks) <= 8 and ticks == sorted(set(ticks))
    slack = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] <= ends[0] + slack and ticks[-1] >= ends[1] - slack


# In a browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1300,900"
).split()


def make_slopes(steps):
    return np.stack([np.arange(steps), -np.arange(steps)]).astype("float32")


def make_signals(steps, channels=2):
    return np.random.default_rng(3).normal(size=(2, steps, channels)).cumsum(axis=1).astype("float32")


def test_each_step_of_a_signal_has_columns_of_its_own():
    signals, maps = make_signals(50), make_slopes(50)
    found = flat(signals, {"one": maps})
    each = found.images[0].shape[1] // 50
    assert each > 1 and found.steps == 1 / each and found.words == ["", ""]
    for row, column in itertools.product((0, 70, 127), range(50 * each)):
        assert found.maps["one"][1, row, column] == -(column // each)


def test_the_curve_is_where_the_values_are():
    signals = make_signals(300)
    picture = flat(signals, {"one": make_slopes(300)}).images[0][..., 0]
    for channel, band in enumerate(np.split(picture, 2)):
        values = signals[0, :, channel].astype("float64")
        share = (values - values.min()) / (values.max() - values.min())
        for column, one in enumerate(share):
            dark = np.flatnonzero(band[:, column] < 128)
            assert dark.min() - 1 <= 6 + (1 - one) * (len(band) - 13) <= dark.max() + 1
        assert band[:, values.argmax()].argmin() < 8 < 55 < len(band) - band[::-1, values.argmin()].argmin()


def test_long_signals_become_means_and_say_so():
    found = flat(make_signals(1301, 13), {"one": make_slopes(1301)})
    assert found.steps == 3 and found.words == ["means of 3 steps each, root mean square of 13 channels"] * 2
    assert found.maps["one"].shape[2] == 434 == found.images[0].shape[1]
    assert found.maps["one"][0, 0, :2].tolist() == [1, 4] and found.maps["one"][0, 0, -1] == 1299.5
    height, width = found.images[0].shape[:2]
    assert width <= 4 * height


def test_the_slice_with_most_of_the_maps_is_shown():
    volumes = np.random.default_rng(0).random((2, 5, 6, 7, 1))
    weak, strong = np.zeros((2, 5, 6, 7)), np.zeros((2, 5, 6, 7))
    weak[:, 1, 2:4, 3], strong[:, 3, 0, 0] = 1e-6, 1000  # two positions as strong as can be, and one
    found = flat(volumes, {"weak": weak, "strong": strong})
    assert found.words == ["slice 1 of 0 to 4"] * 2 and found.steps is None
    assert np.array_equal(found.maps["weak"], weak[:, 1]) and np.abs(found.maps["strong"]).max() == 0
    assert np.array_equal(found.images[1][..., 0], np.round(255 * volumes[1, 1, ..., 0]).astype("uint8"))


def test_many_channels_are_said_to_be_a_mean():
    image, volume = np.random.default_rng(0).random((1, 9, 8, 5)), np.random.default_rng(0).random((1, 4, 9, 8, 2))
    assert flat(image, {"one": np.ones((1, 9, 8))}).words == ["mean of 5 channels"]
    assert flat(volume, {"one": np.ones((1, 4, 9, 8))}).words == ["slice 0 of 0 to 3, mean of 2 channels"]


@pytest.mark.parametrize(
    ("shape", "spatial", "kind"),
    [
        ((2, 9), (9,), None),  # a table, or tokens
        ((2, 9, 8), (9, 8), "image"),
        ((2, 9, 8, 3), (9, 8), "image"),
        ((2, 9, 8, 5), (9, 8), "image"),
        ((2, 9, 3), (9,), "signal"),
        ((2, 4, 9, 8), (4, 9, 8), "image"),
        ((2, 4, 4, 9, 8, 1), (4, 4, 9, 8), None),
    ],
)
def test_what_can_be_drawn(shape, spatial, kind):
    found = flat(np.ones(shape), {"one": np.ones((2, *spatial))})
    assert (None if found is None else "image" if found.steps is None else "signal") == kind


def start_browser(profile):
    """Returns a driver of Chromium, or skips."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="a real browser needs the package selenium")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("a real browser needs the programs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except Exception as error:  # of another version, or one that may not run here
        pytest.skip(f"the browser does not start: {str(error)[:200]}")


class Browser:
    """A browser with a page in it, and the few things that the tests ask of it."""

    def __init__(self, driver):
        self.driver = driver
        self.run = driver.execute_script

    def all(self, query):
        return self.driver.find_elements("css selector", query)

    def one(self, query):
        return self.driver.find_element("css selector", query)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def until(self, condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "the page does not do it"
            time.sleep(0.02)

    def open(self, path, scripts=True, wide=1300, dark=False):
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.command("Emulation.setDeviceMetricsOverride", width=wide, height=900, deviceScaleFactor=1, mobile=False)
        look = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[look])
        self.driver.get("about:blank")
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(f"file://{path}")
        if scripts and self.all("#maps"):
            self.until(lambda: "drawn" in self.one("html").get_attribute("class"))

    def pixels(self, index):
        """Returns the pixels of the canvas of a number, uint8 `(H, W, 3)`."""
        script = "const c = document.querySelectorAll('canvas')[arguments[0]];"
        script += "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        return np.array(self.run(script, index), "uint8").reshape(HEIGHT, WIDTH, 4)[..., :3]

    def set(self, query, value, event="input"):
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event(arguments[2], {bubbles: true}));",
            query,
            str(value),
            event,
        )
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def point(self, element, across, down):
        """Moves the mouse to shares of an element's width and height."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        box = self.run(
            "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", element
        )
        x, y = box[0] + across * box[2], box[1] + down * box[3]
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, *keys, shift=False):
        from selenium.webdriver import ActionChains, Keys

        chain = ActionChains(self.driver)
        chain = chain.key_down(Keys.SHIFT) if shift else chain
        for key in keys:
            chain = chain.send_keys(getattr(Keys, key))
        (chain.key_up(Keys.SHIFT) if shift else chain).perform()

    def problems(self):
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        messages = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="module")
def page():
    return make_page()


@pytest.fixture(scope="module")
def path(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_page(path, page)
    return path


def number(words):
    return float(words.replace("\N{MINUS SIGN}", "-"))


def last_digit(words):
    """Returns what 1 in the last digit of a written number stands for."""
    digits, _, power = words.replace("\N{MINUS SIGN}", "-").partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def test_the_page_draws_itself_without_an_error_or_a_request(browser, path):
    browser.open(path)
    browser.set("#strength", "viridis", "change")
    assert len(browser.all("canvas")) == 2 * len(METHODS)
    assert browser.problems() == []
    assert [url for url in browser.requests() if not url.startswith(("data:", "chrome:"))] == [f"file://{path}"]


def test_the_page_forbids_itself_to_call_anybody(browser, path):
    browser.open(path)
    said = browser.driver.execute_async_script(
        "document.addEventListener('securitypolicyviolation', (e) => arguments[0](e.violatedDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => 0);"
    )
    assert said == "connect-src"


@pytest.mark.parametrize("method", range(len(METHODS)))
def test_the_opacity_slider_goes_from_the_image_to_the_map(browser, path, page, method):
    browser.open(path)
    maps = page.maps[METHODS[method]]
    signed = bool(maps.min() < 0)
    names = pictures.SIGN_COLOURS if signed else pictures.STRENGTH_COLOURS
    colours = pictures.coloured(maps[0], pictures.colour_range(maps[0], signed), pictures.colour_table(names[0]))
    browser.set("#opacity", 100)
    far = np.abs(browser.pixels(method).astype(int) - colours)
    assert np.mean(far.max(-1) > 3) < 0.01  # a level may fall to the next colour
    browser.set("#opacity", 0)
    shown = browser.pixels(method)
    browser.set("#opacity", 50)
    half = browser.pixels(method)
    assert np.abs(half - (shown / 2 + colours / 2)).max() < 8
    assert browser.one("output[for=opacity]").text == "50 %"


def test_the_image_without_a_map_is_the_image(browser, path, page):
    browser.open(path)
    browser.set("#opacity", 0)
    np.testing.assert_array_equal(browser.pixels(0), page.images[0])


def test_the_slider_takes_keys(browser, path):
    browser.open(path)
    before = browser.pixels(0)
    browser.run("document.querySelector('#opacity').focus()")
    browser.press(*["ARROW_RIGHT"] * 5)
    browser.until(lambda: browser.one("output[for=opacity]").text == "65 %")
    browser.until(lambda: not np.array_equal(browser.pixels(0), before))


def test_the_still_pictures_are_what_the_script_draws(browser, path, page):
    browser.open(path)
    maps = page.maps[METHODS[1]][1]
    colours = pictures.coloured(maps, pictures.colour_range(maps, True), pictures.colour_table("RdBu_r"))
    browser.set("#opacity", 0)
    image = browser.pixels(len(METHODS) + 1)
    browser.set("#opacity", round(100 * rendering.OPACITY))
    drawn = browser.pixels(len(METHODS) + 1).astype(int)
    assert np.mean(np.abs(drawn - pictures.blended(image, colours, rendering.OPACITY)).max(-1) > 4) < 0.01


def test_the_colour_switches_change_their_own_maps_only(browser, path):
    browser.open(path)
    before = [browser.pixels(i) for i in range(3)]
    bar = browser.one("#strength-bar").get_attribute("src")
    browser.set("#strength", "cividis", "change")
    assert browser.one("#strength-bar").get_attribute("src") != bar
    changed = [not np.array_equal(browser.pixels(i), old) for i, old in enumerate(before)]
    assert changed == [True, False, True]
    browser.set("#sign", "PuOr_r", "change")
    assert not np.array_equal(browser.pixels(1), before[1])


def test_zero_is_white(browser, path):
    browser.open(path)
    browser.set("#opacity", 100)
    for name in ("RdBu_r", "PuOr_r"):
        browser.set("#sign", name, "change")
        assert browser.pixels(1)[0, 0].min() >= 244


def test_the_pointer_reads_the_values_of_the_arrays(browser, path, page):
    browser.open(path)
    pictures_of = browser.all(".image")[1].find_elements("css selector", ".picture")
    for k, (row, column) in enumerate([(0, 0), (HEIGHT - 1, WIDTH - 1), (9, 12), (3, 20), (17, 5)]):
        browser.point(pictures_of[k % 4], (column + 0.5) / WIDTH, (row + 0.5) / HEIGHT)
        browser.until(lambda at=f"row {row}, column {column}": browser.all(".place")[1].text == at)
        said = [output.text for output in browser.all(".image")[1].find_elements("css selector", "output")]
        for name, words in zip(METHODS, said, strict=True):
            step = packing.pack(page.maps[name][1]).step
            assert abs(number(words) - page.maps[name][1, row, column]) <= step / 2 + 0.51 * last_digit(words), words
            assert step / 2 <= last_digit(words) * 1.0001 < 10 * step  # no digit more than is known, and none less
    browser.point(browser.one("h1"), 0.5, 0.5)
    browser.until(lambda: browser.all(".place")[1].text == "")


@pytest.mark.parametrize("steps", [49, 1300])
def test_the_pointer_tells_the_step_of_a_signal(browser, steps, tmp_path):
    found = flat(make_signals(steps), {"one": make_slopes(steps)})
    path = tmp_path / "signals.html"
    write_page(path, make_page(images=found.images, maps=found.maps, concepts=[], steps=found.steps))
    browser.open(path)
    assert browser.one("h3").text.startswith("Signal 1: tabby")
    width = found.images[0].shape[1]
    for step in (0, 24, 48):
        browser.point(browser.all(".picture")[1], (step / found.steps + 0.5) / width, 0.3)
        browser.until(lambda at=f"step {step // 3 * 3 if steps > 600 else step}": browser.one(".place").text == at)
        value = found.maps["one"][0, 5, int(step / found.steps)]
        assert abs(number(browser.one("output:not([for])").text) - value) < 0.01 * steps
    browser.press("ARROW_RIGHT")
    before = browser.one(".place").text
    browser.run("document.querySelector('.image').focus({focusVisible: true})")
    browser.press("ARROW_LEFT", "ARROW_LEFT")
    assert int(browser.one(".place").text.split()[1]) == int(before.split()[1]) - 2 * max(1, round(found.steps))


def test_arrow_keys_move_the_pointer(browser, path, page):
    browser.open(path)
    browser.run("document.querySelector('.image').focus({focusVisible: true})")
    browser.press("ARROW_UP", "ARROW_LEFT", "ARROW_LEFT")
    browser.press("ARROW_DOWN", shift=True)
    row, column = HEIGHT // 2 - 1 + 10, WIDTH // 2 - 2
    assert browser.one(".place").text == f"row {row}, column {column}"
    spoken = browser.one("#said").get_attribute("textContent")
    assert spoken.startswith(f"row {row}, column {column}: Grad-CAM ") and spoken.count(";") == len(METHODS) - 1
    browser.press(*["ARROW_DOWN"] * 5)
    assert browser.one(".place").text == f"row {HEIGHT - 1}, column {column}"
    browser.press("ESCAPE")
    assert browser.one(".place").text == ""


def test_everything_can_be_reached_by_the_tab_key(browser, path):
    browser.open(path)
    reached = []
    for _ in range(60):
        browser.press("TAB")
        reached.append(
            browser.run(
                "const e = document.activeElement; return e.id || (e.getAttribute('class') || e.tagName).split(' ')[0]"
            )
        )
        if reached[-1] == "copy":
            break
    assert {"opacity", "size", "strength", "sign", "image", "group", "wide", "BUTTON", "svg", "copy"} <= set(reached)
    assert reached.count("image") == 2 and reached.count("BUTTON") == 6


def column_of(browser, index):
    return [row.find_elements("css selector", "th, td")[index].text for row in browser.all("tbody tr")]


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_the_table_sorts_numbers_as_numbers(browser, path, by):
    browser.open(path)
    button = browser.all("thead button")[3]

    def choose():
        if by == "mouse":
            button.click()
        else:
            browser.run("arguments[0].focus()", button)
            browser.press("ENTER")

    unsorted = column_of(browser, 0)
    choose()
    means = [words.split()[0] for words in column_of(browser, 3)]
    assert means == ["\N{MINUS SIGN}2.0", "0.3", "11.0", "\N{EN DASH}"]
    choose()
    assert [words.split()[0] for words in column_of(browser, 3)] == [
        "11.0",
        "0.3",
        "\N{MINUS SIGN}2.0",
        "\N{EN DASH}",
    ]
    assert [heading.get_attribute("aria-sort") for heading in browser.all("thead th")].count("descending") == 1
    browser.all("thead button")[0].click()
    assert column_of(browser, 0) == sorted(unsorted)


def test_the_table_shows_one_metric(browser, path):
    browser.open(path)
    browser.set("#group", 2, "change")
    assert [row.is_displayed() for row in browser.all("tbody tr")] == [False, False, False, True]
    browser.set("#group", "", "change")
    assert all(row.is_displayed() for row in browser.all("tbody tr"))


def test_curves_tell_their_values(browser, path):
    browser.open(path)
    chart = browser.all(".chart")[0]
    svg, now = chart.find_element("css selector", "svg"), chart.find_element("css selector", ".now")
    assert now.get_attribute("visibility") == "hidden"
    browser.point(svg, (LEFT + 0.52 * (RIGHT - LEFT)) / 400, 0.5)
    browser.until(lambda: now.get_attribute("visibility") == "visible")
    assert chart.find_element("css selector", ".now-words").text == "at 50 %"
    assert [output.text for output in chart.find_elements("css selector", "output")] == ["0.2500"] * 3
    browser.run("arguments[0].focus()", svg)
    browser.press("END")
    assert [output.text for output in chart.find_elements("css selector", "output")] == ["1.000"] * 3
    browser.press("ARROW_LEFT", "ARROW_LEFT")
    assert chart.find_element("css selector", ".now-words").text == "at 0 %"


def test_methods_can_be_left_out_of_all_charts(browser, path):
    browser.open(path)
    browser.all(".legend input")[1].click()
    hidden = {line.get_attribute("data-method") for line in browser.all(".chart g[visibility=hidden]")}
    assert hidden == {"1"} and len(browser.all(".chart g[visibility=hidden]")) == 4  # curve and band, two charts
    assert [box.is_selected() for box in browser.all(".legend input")] == [True, False, True] * 2


def test_the_button_copies_the_call(browser, path, page):
    browser.open(path)
    browser.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.one("#copy").click()
    browser.until(lambda: browser.one("#copied").text == "Copied")
    assert browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == page.call


@pytest.mark.parametrize("scripts", [True, False])
def test_a_phone_needs_no_sideways_scrolling(browser, path, tmp_path, scripts):
    long = "averylongnamewithoutanyspaceinit" * 3
    names = {"table": [record(long, long, long, verdict=long)], "curves": [curve(long, long, long)]}
    names |= {"maps": {long: draw_maps()["LRP"]}, "classes": [(long, 1.0)] * 2}
    page = make_page(title=long, settings={long: long}, call=long, **names)
    write_page(tmp_path / "long.html", page)
    for one in (path, tmp_path / "long.html"):
        browser.open(one, wide=400, scripts=scripts)
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
        assert browser.run("return document.documentElement.scrollWidth") <= 400


def test_the_size_slider_sets_the_width_of_pictures(browser, path):
    browser.open(path)
    widths = []
    for size in (80, 480):
        browser.set("#size", size)
        widths.append(browser.one("canvas").size["width"])
    assert 80 <= widths[0] < 200 and widths[1] >= 400


def luminance(words):
    return sum(map(float, re.findall(r"[\d.]+", words)[:3]))


def test_dark_rooms_get_a_dark_page_with_readable_words(browser, path):
    for dark in (False, True):
        browser.open(path, dark=dark)
        paper, ink = (browser.one("body").value_of_css_property(key) for key in ("background-color", "color"))
        assert (luminance(paper) < 150) == dark and abs(luminance(paper) - luminance(ink)) > 500


def test_without_scripts_there_are_still_pictures_and_the_whole_table(browser, path):
    browser.open(path, scripts=False)
    browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.all("canvas") == [] and len(browser.all("tbody tr")) == 4
    stills = browser.all(".picture img")
    assert len(stills) == 2 * (1 + len(METHODS)) and all(one.is_displayed() for one in stills)
    assert all(browser.run("return arguments[0].naturalWidth", one) == WIDTH for one in stills)
    assert not any(one.is_displayed() for one in browser.all(".tools, #copy, .legend input"))
    assert len(browser.all("polyline")) == 6 and browser.problems() == []


def test_attacks_do_nothing_in_a_browser(browser, tmp_path):
    write_page(tmp_path / "page.html", attacked_page())
    browser.open(tmp_path / "page.html")
    assert browser.driver.title == ATTACK
    assert browser.problems() == [] and browser.one("#call").get_attribute("textContent") == ATTACK


def test_a_page_without_images_starts_too(browser, tmp_path):
    write_page(tmp_path / "page.html", make_page(images=[], maps={}, classes=[]))
    browser.open(tmp_path / "page.html")
    browser.all("thead button")[0].click()
    assert browser.problems() == [] and column_of(browser, 0) == sorted(column_of(browser, 0))
