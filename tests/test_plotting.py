"""Pictures: the arrays and artists that are drawn, and what happens to odd input."""

import io
import pickle

import imageio.v2 as imageio
import matplotlib
import numpy as np
import pytest
from PIL import Image

from vis import plotting
from vis.utils.validation import VisualizationWarning

GREY = np.linspace(0, 1, 48).reshape(6, 8)
RGB = np.repeat(GREY[..., None], 3, axis=-1)
HEAT = np.eye(6, 8)
VOLUME = np.linspace(-1, 1, 60).reshape(3, 4, 5)
JET = matplotlib.colormaps["jet"]


def test_an_overlay_is_the_share_of_map_and_image():
    got = plotting.overlay(GREY, HEAT, alpha=0.25)
    expected = 0.25 * JET(HEAT)[..., :3] + 0.75 * RGB
    assert got.dtype == np.uint8 and got.shape == (6, 8, 3)
    np.testing.assert_allclose(got / 255, expected, atol=0.51 / 255)


@pytest.mark.parametrize(
    "images",
    [
        RGB,
        GREY,
        GREY[..., None],
        np.round(255 * RGB).astype("uint8"),
        np.round(255 * GREY).astype("uint8"),
        255 * RGB,
        4 * RGB - 2,
        np.moveaxis(RGB, -1, 0),
        GREY[None],
    ],
    ids=["rgb", "grey", "grey1", "bytes", "grey bytes", "to 255", "-2 to 2", "channels first", "1 first"],
)
def test_any_image_is_taken(images):
    expected = plotting.overlay(RGB, HEAT)
    np.testing.assert_allclose(plotting.overlay(images, HEAT).astype(int), expected, atol=1)
    np.testing.assert_allclose(plotting.overlay(np.stack([images] * 2), np.stack([HEAT] * 2))[1], expected, atol=1)


def test_dark_bytes_stay_dark():
    np.testing.assert_array_equal(
        plotting.as_pictures(np.ones((2, 2), "uint8"), single=True), np.full((1, 2, 2, 3), 1 / 255, "float32")
    )


def test_small_maps_are_enlarged_and_strong_ones_scaled():
    np.testing.assert_array_equal(plotting.overlay(GREY, np.full((2, 2), 7.0)), plotting.overlay(GREY, np.ones((6, 8))))


def test_a_gallery_draws_the_sign_that_is_asked_for():
    one = np.eye(4) - np.eye(4)[::-1]
    maps, images = np.stack([one, -one]), np.zeros((2, 4, 4))

    def drawn(sign, maps=maps):
        axes = plotting.gallery(images, {"relevance": maps}, sign=sign, signed_cmap="bwr").axes
        return [axes[i].images[0] for i in (1, 3)]

    for sign, first, second in (("positive", 1, 0), ("negative", 0, 1), ("absolute", 1, 1), ("signed", 1, -1)):
        assert [panel.get_array()[0, 0] for panel in drawn(sign)] == [first, second], sign
    (panel, _) = drawn("signed", abs(maps))  # positive everywhere, and yet with white at 0
    assert panel.get_clim() == (-1, 1) and panel.get_array()[0, 1] == 0
    assert panel.cmap(panel.norm(0))[:3] == pytest.approx((1, 1, 1), abs=0.01)
    assert drawn(None, abs(maps))[0].get_clim() == (0, 1)
    with pytest.raises(ValueError, match="Unknown sign"):
        drawn("both")


def test_zero_is_in_the_middle_of_a_signed_map():
    maps = np.array([[-2.0, 0.0, 2.0]])
    got = plotting.overlay(np.zeros((1, 3)), maps, "RdBu_r", alpha=1.0)[0]
    middle = np.round(255 * np.array(matplotlib.colormaps["RdBu_r"](0.5)[:3]))
    np.testing.assert_allclose(got[1], middle, atol=1)
    assert got[0, 2] > got[0, 0] and got[2, 0] > got[2, 2]  # blue against, red for


def test_constant_maps_and_images_are_drawn():
    assert plotting.overlay(np.full((4, 4), 9.0) - 20, np.zeros((4, 4))).shape == (4, 4, 3)
    with pytest.warns(VisualizationWarning, match="flat: 0 everywhere"):
        plotting.show_attribution(GREY, np.zeros((6, 8)))
    plotting.show_volume(np.zeros((3, 4, 4)), np.zeros((3, 4, 4)))
    plotting.show_text(["a"], [0.0])
    plotting.show_signal(np.zeros(5), np.zeros(5))


def test_the_arrays_given_stay_as_they_are():
    images, maps = RGB.copy(), HEAT.copy()
    plotting.overlay(images, maps)
    plotting.show_attribution(images, maps)
    np.testing.assert_array_equal(images, RGB)
    np.testing.assert_array_equal(maps, HEAT)


def test_no_setting_of_matplotlib_changes_and_no_figure_is_kept():
    import matplotlib.pyplot as plt

    before, open_ones = dict(matplotlib.rcParams), plt.get_fignums()
    figure = plotting.gallery(RGB[None], {"a": HEAT[None]})
    figure.savefig(io.BytesIO())
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == open_ones


def test_an_attribution_is_drawn_by_strength_and_by_sign():
    attribution = np.zeros((6, 8))
    attribution[1, 2], attribution[3, 4] = -2.0, 1.0
    image, strength, sign, over, *bars = plotting.show_attribution(GREY, attribution, title="seven").axes
    assert image.get_title() == "seven" and len(bars) == 2
    drawn = strength.images[0].get_array()
    assert drawn[1, 2] == 1 and strength.images[0].get_clim() == (0, 1)
    drawn = sign.images[0].get_array()
    assert drawn[1, 2] == -1 and drawn[3, 4] > 0 and drawn[0, 0] == 0 and sign.images[0].get_clim() == (-1, 1)
    np.testing.assert_array_equal(
        over.images[0].get_array(), plotting.overlay(GREY, strength.images[0].get_array(), "inferno")
    )


def test_the_attribution_of_channels_first_images_is_moved():
    attribution = np.zeros((3, 6, 8))
    attribution[1, 2, 5] = 1.0
    strength = plotting.show_attribution(np.moveaxis(RGB, -1, 0), attribution).axes[1].images[0].get_array()
    assert strength.argmax() == 2 * 8 + 5


def test_a_gallery_has_images_down_and_methods_across():
    signed = np.stack([HEAT - 0.5, HEAT])
    figure = plotting.gallery(
        np.stack([RGB, RGB]),
        {"grad-cam": np.stack([HEAT, HEAT]), "saliency": signed},
        labels=["one", "two"],
        titles={"grad-cam": [0.25, "half"]},
    )
    axes = figure.axes[:6]
    assert [axis.get_title() for axis in axes] == ["image", "grad-cam\n0.25", "saliency", "", "half", ""]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["one", "two"]
    assert axes[1].images[0].get_cmap().name == "inferno" and axes[5].images[0].get_cmap().name == "RdBu_r"
    assert axes[5].images[0].get_clim() == (-1, 1) and len(figure.axes) == 8


def test_what_was_measured_is_written_below_the_maps():
    columns = {"cam": np.stack([HEAT, HEAT]), "flat": np.stack([HEAT, GREY * 0])}
    scores = {"cam": np.array([0.12345, -2]), "flat": [0.0, 1e-5]}
    figure = plotting.gallery(np.stack([RGB, RGB]), columns, titles={"cam": [0.7, "x"]}, scores=scores)
    axes = figure.axes[:6]
    assert [axis.get_xlabel() for axis in axes] == ["", "0.123", "0", "", "-2", "1e-05\nflat: 0 everywhere"]
    assert [axis.get_title() for axis in axes] == ["image", "cam\n0.7", "flat", "", "x", ""]  # as without scores
    only = plotting.gallery(np.stack([RGB, RGB]), columns, scores={"cam": [1, 2]}).axes
    assert [axis.get_xlabel() for axis in only[:6]] == ["", "1", "", "", "2", "flat: 0 everywhere"]
    plotting.rendered(figure)
    boxes = [(axis.xaxis.label.get_window_extent(), axis.get_window_extent()) for axis in axes[:3]]
    assert boxes[1][0].y1 <= boxes[1][1].y0  # below its map
    assert boxes[1][0].y0 >= axes[4].title.get_window_extent().y1  # and above the next one's title


def test_scores_of_an_evaluation_are_written_below_its_maps():
    import keras

    import vis

    images = np.random.default_rng(0).random((2, 6, 8, 1))
    model = keras.Sequential([keras.Input((6, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    methods = {"gradient": vis.GradientTimesInput(model), "eye": np.stack([HEAT, HEAT])}
    found = vis.evaluate(methods, images, 1, ["srg"], ["mean"], baselines=6)
    scores = {method: found.scores[method, "srg", "mean"] for method in methods}
    axes = plotting.gallery(images, {method: found.maps[method] for method in methods}, scores=scores).axes
    assert [axes[i].get_xlabel() for i in (1, 4)] == [f"{one:.3g}" for one in scores["gradient"]]


@pytest.mark.parametrize(
    "scores, words",
    [
        ({"b": [1]}, r"`scores` must be a dict whose names are columns, 'a'. Received: \{'b': \[1\]\}"),
        ([1], "`scores` must be a dict whose names are columns"),
        ({"a": [1, 2]}, r"`scores\['a'\]` must be 1 numbers, one for each image. Received: shape \(2,\)"),
        ({"a": 1.0}, r"`scores\['a'\]` must be 1 numbers"),
        ({"a": ["high"]}, r"`scores\['a'\]` must be numbers"),
        ({"a": [np.nan]}, "must be finite numbers"),
        ({"a": None}, r"`scores\['a'\]` must be"),
    ],
)
def test_scores_that_do_not_fit_are_named(scores, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        plotting.gallery(RGB[None], {"a": HEAT[None]}, scores=scores)
    assert len(str(caught.value)) < 400


def test_a_signal_is_coloured_by_its_attribution():
    attribution = np.array([0.0, 2.0, 0.0, -4.0])
    (axis, bar) = plotting.show_signal([1.0, 2.0, 3.0, 4.0], attribution).axes
    (lines,) = axis.collections
    np.testing.assert_allclose(lines.get_array(), [1, 1, -2])
    assert (lines.norm.vmin, lines.norm.vmax) == (-4, 4)
    np.testing.assert_array_equal(lines.get_segments()[1], [[1, 2], [2, 3]])


def test_text_is_escaped_and_coloured():
    text = plotting.show_text(["<script>", "good"], [-1.0, 0.5])
    assert "<script>" not in text and "&lt;script&gt;" in text and 'title="-1.00"' in text
    assert text._repr_html_() == text and isinstance(text, str)
    assert plotting.show_text(["a", "b"], [[1.0, 1.0], [0.0, 0.0]]) == plotting.show_text(["a", "b"], [2.0, 0.0])


def test_a_volume_is_drawn_in_slices_and_its_maximum():
    volume = np.zeros((5, 4, 4, 1))
    attribution = volume.copy()
    attribution[2, 1, 3] = -3.0
    axes = plotting.show_volume(volume, attribution, slices=5, cmap="gray", alpha=1.0).axes[:6]
    assert [axis.get_title() for axis in axes] == [f"slice {i}" for i in range(5)] + ["maximum"]
    assert axes[2].images[0].get_array()[1, 3].tolist() == [255] * 3 == axes[5].images[0].get_array()[1, 3].tolist()
    assert axes[1].images[0].get_array().max() == 0


def test_a_volume_is_drawn_with_its_sign():
    attribution = np.zeros((3, 4, 4))
    attribution[0, 1, 3], attribution[2, 2, 2] = -4.0, 2.0
    options = {"slices": 3, "cmap": "gray", "alpha": 1.0}
    axes = plotting.show_volume(np.zeros((3, 4, 4)), attribution, sign="signed", signed_cmap="RdBu_r", **options).axes
    first, middle, last, strongest = (axis.images[0].get_array() for axis in axes[:4])
    blue, white, red = (np.round(255 * np.array(matplotlib.colormaps["RdBu_r"](x)[:3])) for x in (0.0, 0.5, 0.75))
    np.testing.assert_allclose(first[1, 3], blue, atol=1)
    np.testing.assert_allclose(middle[1, 3], white, atol=1)  # a slice without evidence is white, not blue
    np.testing.assert_allclose(last[2, 2], red, atol=2)
    np.testing.assert_allclose(strongest[1, 3], blue, atol=1)
    np.testing.assert_allclose(strongest[2, 2], red, atol=2)
    for sign, place, other in (("positive", (2, 2), (1, 3)), ("negative", (1, 3), (2, 2))):
        axes = plotting.show_volume(np.zeros((3, 4, 4)), attribution, sign=sign, **options).axes
        drawn = axes[3].images[0].get_array()
        assert drawn[place].tolist() == [255] * 3 and drawn[other].tolist() == [0] * 3


def test_feature_maps_are_drawn_one_by_one():
    maps = np.stack([np.full((3, 3), i) for i in range(5)], axis=-1)
    axes = plotting.show_feature_maps(maps, columns=2, most=3).axes
    assert [axis.get_title() for axis in axes if axis.get_visible()] == ["0", "1", "2"]
    np.testing.assert_array_equal(axes[2].images[0].get_array(), np.full((3, 3), 2))


def test_a_gif_is_written_frame_by_frame(tmp_path):
    frames = np.stack([np.zeros((8, 8, 3)), np.ones((8, 8, 3)), np.zeros((8, 8, 3))])
    plotting.save_gif(frames, tmp_path / "a.gif", fps=5)
    read = imageio.mimread(tmp_path / "a.gif")
    assert [int(frame[..., :3].mean()) for frame in read] == [0, 255, 0]
    plotting.save_gif(list(np.round(255 * frames).astype("uint8")), tmp_path / "b.gif")
    assert len(imageio.mimread(tmp_path / "b.gif")) == 3


WRONG = [
    (plotting.overlay, (RGB, np.full((6, 8), np.nan)), "finite"),
    (plotting.overlay, (RGB, np.zeros((6, 8, 2, 2))), "maps"),
    (plotting.overlay, (np.zeros((2, 6, 8)), np.zeros((3, 6, 8))), "as many"),
    (plotting.overlay, (np.zeros((6, 8, 5)), HEAT), "images"),
    (plotting.overlay, ([], []), "maps"),
    (plotting.overlay, (RGB, HEAT, "no such map"), "colour map"),
    (plotting.overlay, (RGB, HEAT, "jet", 2), "alpha"),
    (plotting.show_attribution, (RGB, RGB[None]), "attribution"),
    (plotting.show_attribution, (RGB, np.full((6, 8), np.inf)), "finite"),
    (plotting.show_attribution, (RGB[None, None], HEAT), r"`image` must be one image.*`image\[0\]`"),
    (plotting.gallery, (RGB[None], {"a": np.zeros((2, 6, 8))}), "columns"),
    (plotting.gallery, (RGB[None], {"a": HEAT[None]}, ["a", "b"]), "labels"),
    (plotting.gallery, (np.zeros((0, 6, 8)), {"a": HEAT[None]}), "images"),
    (plotting.show_signal, (np.zeros(5), np.zeros(4)), "attribution"),
    (plotting.show_signal, (np.zeros(1), np.zeros(1)), "two times"),
    (plotting.show_text, (["a"], [1.0, 2.0]), "token"),
    (plotting.show_text, ([], []), "token"),
    (plotting.show_token_matrix, (np.zeros((2, 3)), ["a", "b"]), r"`matrix` must be \(generated, T\).*2 tokens"),
    (plotting.show_token_matrix, (np.zeros((3, 2)), ["a", "b"]), "`matrix` must be"),
    (plotting.show_token_matrix, (np.zeros((1, 2)), ["a", "b"], ["x", "y"]), "2 tokens, 2 rows"),
    (plotting.show_token_matrix, (np.zeros(2), ["a", "b"]), r"Received: shape \(2,\)"),
    (plotting.show_token_matrix, (3.0, ["a", "b"]), r"Received: shape \(\)"),
    (plotting.show_token_matrix, (np.zeros((0, 2)), ["a", "b"]), "`matrix` must be"),
    (plotting.show_token_matrix, (np.full((1, 2), np.nan), ["a", "b"]), "finite"),
    (plotting.show_token_matrix_html, (np.zeros((1, 2)), "ab"), "`tokens` must be a list of words"),
    (plotting.show_volume, (np.zeros((3, 4, 4)), np.zeros((3, 4, 5))), "shape"),
    (plotting.show_volume, (np.zeros((4, 4)), np.zeros((4, 4))), "volume"),
    (plotting.show_feature_maps, (np.zeros((1, 4, 4, 2)),), "one sample"),
    (plotting.save_gif, ([], "a.gif"), "frames"),
    (plotting.save_gif, ([GREY, RGB], "a.gif"), "one size"),
    (plotting.save_gif, (RGB[None], "a.gif", 0), "fps"),
    (plotting.save_gif, (RGB[None], "a.gif", 1e-9), "`fps` must be from 0.01 to 100"),
    (plotting.save_gif, (RGB[None], "a.gif", 1e9), "`fps` must be from 0.01 to 100"),
    (plotting.save_gif, (RGB[None], "/no/such/folder/a.gif"), "path"),
]


@pytest.mark.parametrize("function, arguments, words", WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_wrong_input_is_named(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


@pytest.mark.parametrize("image", [RGB[None], np.stack([RGB] * 3), np.zeros((5, 6, 8))], ids=lambda a: str(a.shape))
def test_one_image_is_asked_for_where_one_is_shown(image):
    with pytest.raises(ValueError, match=r"`image` must be one image, grey or RGB: \(H, W\).*`image\[0\]`") as caught:
        plotting.show_attribution(image, HEAT)
    assert "(N, H, W" not in str(caught.value) and f"Received: shape {image.shape}" in str(caught.value)
    plotting.show_attribution(image[0], HEAT)


def test_images_are_asked_for_where_several_are_shown():
    with pytest.raises(
        ValueError, match=r"`images` must be images.*\(N, H, W\).*Received: shape \(6, 8\).*`images\[None\]`"
    ):
        plotting.gallery(HEAT, {"a": HEAT[None]})
    plotting.gallery(HEAT[None], {"a": HEAT[None]})


@pytest.mark.parametrize(
    "attribution, words",
    [
        (np.zeros((1, 6, 8, 3)), r"`attribution\[0\]`"),
        (np.zeros((5, 3, 4)), r"resized: give `vis.heatmap\(attribution\[None\]\)\[0\]`|`attribution\[0\]`"),
        (np.zeros((3, 4, 3)), r"with channels is not resized: give `vis.heatmap\(attribution\[None\]\)\[0\]`"),
        (np.zeros(8), "one for each sample"),
        (np.zeros((8, 6)), "rows and columns as the image"),
    ],
)
def test_an_attribution_is_told_by_its_shape(attribution, words):
    with pytest.raises(ValueError, match="`attribution` must .*" + words) as caught:
        plotting.show_attribution(RGB, attribution)
    assert ("batch axis" in str(caught.value)) is (attribution.shape in [(1, 6, 8, 3)])


def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match="columns"):
        plotting.gallery(RGB[None], HEAT[None])
    with pytest.raises(TypeError, match="fps"):
        plotting.save_gif(RGB[None], "a.gif", "fast")


@pytest.mark.parametrize(
    "function, arguments, words",
    [
        (plotting.overlay, (RGB, RGB), "one image"),
        (plotting.gallery, (RGB[None], {"a": HEAT[None]}, None, {"b": [1]}), "titles"),
        (plotting.gallery, (RGB[None], {"a": None}), "columns"),
        (plotting.gallery, (RGB[None], {"a": HEAT[None]}, "x"), "labels"),
        (plotting.show_text, ("ab", [1.0, 2.0]), "tokens"),
        (plotting.show_text, ([["a"], ["b", "c"]], [1.0, 2.0]), "`tokens` must be a list of words"),
        (plotting.show_text, ([["a"], ["b"]], [1.0, 2.0]), "`tokens` must be a list of words"),
        (plotting.show_text, (3, [1.0]), "`tokens` must be a list of words"),
        (plotting.overlay, ([GREY, GREY[:5]], np.stack([HEAT] * 2)), r"shapes \(5, 8\) and \(6, 8\)"),
        (plotting.overlay, ([GREY, RGB], np.stack([HEAT] * 2)), r"shapes \(6, 8\) and \(6, 8, 3\)"),
        (plotting.overlay, (GREY, [HEAT, HEAT[:5]]), r"`maps`.*shapes \(5, 8\) and \(6, 8\)"),
        (plotting.gallery, ([GREY, GREY[:5]], {"a": np.stack([HEAT] * 2)}), r"shapes \(5, 8\) and \(6, 8\)"),
        (plotting.show_volume, (VOLUME, VOLUME, 2, "inferno", 0.5, "both"), "Unknown sign: 'both'"),
        (plotting.save_gif, (RGB[None], "a.png"), "gif"),
        (plotting.save_gif, (None, "a.gif"), "frames"),
    ],
)
def test_likely_mistakes_are_named(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


def test_a_colour_map_must_be_one():
    with pytest.raises(TypeError, match="colour map"):
        plotting.show_attribution(RGB, HEAT, cmap=3)
    plotting.show_attribution(RGB, HEAT, cmap=JET)


def test_notebooks_draw_figures_without_pyplot():
    figure = plotting.show_attribution(GREY, HEAT)
    encoded = figure._repr_png_()
    drawn = np.asarray(Image.open(io.BytesIO(encoded)))
    assert drawn.shape[0] > 100 and np.ptp(drawn) == 255
    copy = pickle.loads(pickle.dumps(figure))
    assert len(copy.axes) == len(figure.axes)


def test_a_map_that_lies_on_its_side_is_refused():
    with pytest.raises(ValueError, match=r"rows and columns.*\(8, 6\)"):
        plotting.overlay(GREY, HEAT.T)
    with pytest.raises(ValueError, match=r"rows and columns.*\(8, 6\)"):
        plotting.show_attribution(GREY, HEAT.T)
    with pytest.raises(ValueError, match=r"rows and columns.*\(8, 6\)"):
        plotting.gallery(GREY[None], {"a": HEAT.T[None]})
    assert plotting.overlay(GREY, np.eye(3, 4)).shape == (6, 8, 3)  # a feature map of another size is none


def test_a_signal_that_lies_on_its_side_is_refused():
    for shape, words in (((3, 100), "100 curves"), ((2, 30), "30 curves"), ((30, 0), "0 curves")):
        with pytest.raises(ValueError, match=f"`signal` must have time first.*{words}"):
            plotting.show_signal(np.zeros(shape), np.zeros(shape))


def test_a_gallery_draws_pictures_as_they_are():
    blended = plotting.overlay(GREY[None], HEAT[None])
    figure = plotting.gallery(GREY[None], {"overlay": blended, "map": HEAT[None]})
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), blended[0] / 255, atol=1e-6)
    assert figure.axes[1].get_title() == "overlay"
    assert len(figure.axes) == 4  # a colour bar for the map only


@pytest.mark.parametrize("value, sign", [(5, 1), (-3, -1), (0, 0)])
def test_a_map_that_is_the_same_everywhere_is_no_empty_one(value, sign):
    with pytest.warns(VisualizationWarning, match=f"The attribution is flat: {value} everywhere. Maps go flat where"):
        figure = plotting.show_attribution(GREY, np.full((6, 8), value))
    assert figure.axes[1].get_title() == f"strength (flat: {value} everywhere)"
    assert (figure.axes[1].images[0].get_array() == abs(sign)).all()
    assert (figure.axes[2].images[0].get_array() == sign).all()


def test_colours_begin_at_the_lowest_of_a_map_far_from_zero():
    values = 0.6 + 0.3 * GREY
    _, strength, sign, over, bar, signed_bar = plotting.show_attribution(RGB, values).axes
    drawn = strength.images[0].get_array()
    assert drawn.min() == 0 and drawn.max() == 1 and float(drawn.mean()) < 0.6
    assert bar.get_ylabel() == "0 is the lowest, 0.6" and not signed_bar.get_ylabel()
    assert sign.images[0].get_array().min() > 0.6  # 0 stays in white
    np.testing.assert_array_equal(over.images[0].get_array(), plotting.overlay(RGB, drawn, "inferno"))
    np.testing.assert_array_equal(plotting.show_attribution(RGB, -values).axes[1].images[0].get_array(), drawn)
    colours = plotting.show_attribution(RGB, np.stack([values, values - 0.2, values], -1)).axes[1]
    np.testing.assert_allclose(colours.images[0].get_array(), drawn)


@pytest.mark.parametrize("values", [GREY, 0.1 + GREY, GREY - 0.5, GREY - 1], ids=["zero", "near", "both", "negative"])
def test_colours_begin_at_zero_otherwise(values):
    _, strength, _, _, bar, _ = plotting.show_attribution(RGB, values).axes
    expected = np.abs(values) / np.percentile(np.abs(values), 99)
    np.testing.assert_allclose(strength.images[0].get_array(), np.clip(expected, 0, 1), rtol=1e-5)
    assert not bar.get_ylabel()


def test_a_gallery_says_where_colours_begin_and_what_is_flat():
    far = np.stack([0.6 + 0.3 * GREY, 0.05 + GREY, np.full((6, 8), 0.7)])
    figure = plotting.gallery(np.stack([RGB] * 3), {"rise": far, "cam": np.stack([GREY] * 3)})
    axes, bars = figure.axes[:9], figure.axes[9:]
    assert [bar.get_xlabel() for bar in bars] == ["0 is each map's lowest", ""]
    assert axes[1].images[0].get_array().min() == axes[4].images[0].get_array().min() == 0
    assert [axes[i].get_xlabel() for i in (1, 4, 7)] == ["", "", "flat: 0.7 everywhere"]


def test_tokens_that_are_no_text_are_written_out():
    text = plotting.show_text([b"\xc3", b"caf\xc3\xa9", "\ud800", "good"], [1.0, 2.0, 3.0, 4.0])
    assert r">\xc3<" in text and ">caf\u00e9<" in text and r">\ud800<" in text
    text.encode()


MATRIX = np.array([[2.0, -1.0, 0.0, 0.0], [0.5, 0.0, 4.0, 0.0]])


def test_a_token_matrix_has_white_at_zero_and_grey_where_nothing_could_be_seen():
    figure = plotting.show_token_matrix(MATRIX, ["the", "$_$", "x" * 40, "\n"])
    axis = figure.axes[0]
    drawn = axis.images[0]
    assert drawn.norm.vmin == -4 and drawn.norm.vmax == 4
    np.testing.assert_array_equal(drawn.get_array().mask, [[0, 0, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(drawn.get_array().data, MATRIX)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["x" * 15 + "...", "\\n"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["the", "$_$", "x" * 15 + "...", "\\n"]
    plotting.rendered(figure)
    named = plotting.show_token_matrix(MATRIX, list("abcd"), rows=["one", "two"], signed_cmap="PiYG")
    assert [label.get_text() for label in named.axes[0].get_yticklabels()] == ["one", "two"]
    assert named.axes[0].images[0].cmap.name == "PiYG" and not np.any(named.axes[0].images[0].get_array().mask)


@pytest.mark.parametrize("words, turn", [("abcd", 0), (["a", "bc", "1", "\u00e9"], 0), (["a", "b", "c", "the"], 90)])
def test_letters_above_a_token_matrix_are_not_turned(words, turn):
    axis = plotting.show_token_matrix(MATRIX, list(words)).axes[0]
    assert {label.get_rotation() for label in axis.get_xticklabels()} == {turn}
    assert ("<span>a</span>" in plotting.show_token_matrix_html(MATRIX, list(words))) == (turn == 0)


@pytest.mark.parametrize("count", [1, 60, 1000])
def test_a_token_matrix_of_any_length_has_words_that_can_be_read(count):
    figure = plotting.show_token_matrix(np.ones((1, count)), ["word"] * count)
    width, height = figure.get_size_inches()
    assert width < 45 and 1.5 < height < 3
    axis = figure.axes[0]
    places = axis.get_xticks()
    apart = (places[1] - places[0]) * (width - 2.2) / count if count > 1 else 1
    assert apart > 0.13  # inches, a line of 8 points


def test_a_token_matrix_is_html_of_its_own():
    text = plotting.show_token_matrix_html(MATRIX, ["<s>", '"', "b", "!"])
    assert text.count("<td") == 8 and text.count("background:#e8e8e8") == 3
    assert 'title="&lt;s&gt; → b: +2"' in text and 'title="&quot; → b: -1"' in text and 'title="b → !: +4"' in text
    assert "<s>" not in text and "http" not in text and text._repr_html_() == text
    red, white = "#67001f", "#f7f6f6"  # the ends and the middle of the colours
    assert f'background:{red}" title="b → !' in text and f'background:{white}" title="&quot; → !' in text
    other = plotting.show_token_matrix_html(MATRIX, list("abcd"), rows=["<1>", "two"], signed_cmap="PiYG")
    assert "&lt;1&gt;" in other and red not in other and "background:#e8e8e8" not in other


def test_words_are_no_formulas():
    figure = plotting.gallery(GREY[None], {"cost $_$": HEAT[None]}, ["$_$"], {"cost $_$": ["$_"]})
    assert figure.axes[1].get_title() == "cost $_$\n$_"
    plotting.rendered(figure)
    plotting.rendered(plotting.show_attribution(GREY, HEAT, title="$_$"))
    plotting.rendered(plotting.show_signal(np.zeros((9, 1)), np.ones(9), names=["$_$"]))


@pytest.mark.parametrize("shape", [(2000, 2), (1, 2000)])
def test_long_pictures_get_figures_of_a_sane_size(shape):
    height, width, _ = plotting.rendered(plotting.show_attribution(np.zeros(shape), np.random.random(shape))).shape
    assert 100 < height < 2000 and 300 < width < 6000


def test_rendering_leaves_the_figure_on_its_canvas():
    figure = plotting.show_feature_maps(np.ones((4, 4, 2)))
    canvas = figure.canvas
    plotting.rendered(figure)
    assert figure.canvas is canvas


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_maps_of_a_batch_are_not_taken_for_channels(count):
    image, maps = np.random.default_rng(0).random((12, 10, 3)), np.random.default_rng(1).random((count, 12, 10))
    with pytest.raises(ValueError, match="`attribution` must be of one image"):
        plotting.show_attribution(image, maps)
    first = np.moveaxis(image, -1, 0)
    assert plotting.show_attribution(first, np.random.default_rng(1).random(first.shape)).axes
