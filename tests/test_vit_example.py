"""The example of the vision transformer: it is rebuilt rightly, and pictures are prepared rightly."""

import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest
from conftest import value_of

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "vit"


@pytest.fixture(scope="module")
def example():
    """The example as a module; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        patch.delitem(sys.modules, "network", raising=False)
        module = importlib.import_module("network")
        sys.modules.pop("network")
        yield module


@pytest.fixture(scope="module")
def model(example):
    return example.saliency_vit()


def test_what_stands_out_is_marked(example, model):
    saliency = value_of(model(example.prepare(example.load_photos())))
    assert saliency.shape == (4, 224, 224, 1) and saliency.min() >= 0 and saliency.max() <= 1
    np.testing.assert_allclose(saliency.mean(axis=(1, 2, 3)), [0.880, 0.494, 0.105, 0.549], atol=2e-3)
    cat, cup, rocket, officer = saliency[..., 0]
    assert cat[40:180, 20:200].mean() > 0.9
    assert cup[20:130, 60:160].mean() > 0.8 and cup[:20].mean() < 0.3
    assert rocket[70:190, 107:117].mean() > 0.8 and rocket[:60].mean() < 0.1
    assert officer[20:120, 80:160].mean() > 0.9 and officer[140:, 20:200].mean() < 0.75


def test_tokens_are_the_class_token_and_then_the_patches_row_by_row(example, model):
    images = np.zeros((2, 224, 224, 3), "float32")
    images[1, 14 * 2 : 14 * 3, 14 * 5 : 14 * 6] = 1  # row 2, column 5
    tokens = value_of(keras.Model(model.input, model.get_layer("tokens").output)(images))
    assert tokens.shape == (2, 257, 384)
    with np.load(example.DATA / "vit_s14_int8.npz") as arrays:
        assert model.count_params() == sum(arrays[name].size for name in arrays.files if not name.endswith("/scale"))
        first = arrays["tokens/cls"][0, 0] + arrays["tokens/position"][0, 0]
        second = arrays["patch/bias"] + arrays["tokens/position"][0, 1]
    np.testing.assert_allclose(tokens[:, 0], [first, first], atol=1e-5)
    np.testing.assert_allclose(tokens[:, 1], [second, second], atol=1e-5)
    assert np.flatnonzero(np.abs(tokens[1] - tokens[0]).sum(axis=-1) > 1e-4).tolist() == [1 + 2 * 16 + 5]


def test_pictures_are_fitted_into_a_black_square(example):
    wide = np.full((100, 200, 3), 200, "uint8")
    fitted = example.fit(wide)
    assert fitted.shape == (224, 224, 3)
    assert not fitted[:56].any() and not fitted[168:].any()
    np.testing.assert_allclose(fitted[56:168], 200, atol=1e-3)
    np.testing.assert_allclose(example.fit(np.swapaxes(wide, 0, 1)), np.swapaxes(fitted, 0, 1), atol=1e-3)


def test_pixels_are_averaged_by_area(example):
    image = np.arange(448 * 448 * 3, dtype="float32").reshape(448, 448, 3) % 256
    means = image.reshape(224, 2, 224, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(example.fit(image), means, atol=1e-3)
    np.testing.assert_allclose(example._areas(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])


def test_prepared_pictures_are_normalised(example):
    prepared = example.prepare([np.full((20, 20, 3), 255, "uint8"), np.zeros((30, 20, 3))])
    assert prepared.dtype == "float32" and prepared.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(prepared[0, 5, 5], [2.2489, 2.4286, 2.64], atol=1e-3)
    np.testing.assert_allclose(prepared[1, 5, 5], [-2.1179, -2.0357, -1.8044], atol=1e-3)


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        for name in ("network", "what_it_attends"):
            patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module("what_it_attends")
        for name in ("network", "what_it_attends"):
            sys.modules.pop(name)


def test_the_class_token_looks_at_the_rocket_and_its_lights(example, script, model):
    attention = script.class_attention(model, example.prepare(example.load_photos(["rocket"])), depths=(8, 10))
    assert attention.shape == (1, 2, 6, 16, 16) and attention.min() >= 0 and attention.sum(axis=(-1, -2)).max() <= 1
    seen = attention[0].mean(axis=(0, 1))
    assert seen[5:13, 7:9].max(axis=1).mean() > 4 * seen[:4].mean()  # the rocket, and the sky
    assert seen[15].mean() > 4 * seen[:4].mean()  # the lights at the bottom


def test_places_are_discs_on_the_photographs(script):
    mask = script.place("rocket")
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 85) < 0.1 and abs(columns.mean() - 110) < 0.1 and 560 < mask.sum() < 660
    assert set(script.PLACES) == set(script.NAMES)


def test_maps_of_patches_lie_where_the_patches_are(script):
    maps = np.zeros((1, 16, 16))
    maps[0, 2, 5] = 1
    rows, columns = np.nonzero(script.on_image(maps)[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (28, 41, 70, 83)


def test_nothing_stays_dark_or_grey_and_signs_have_colours(script):
    photo = np.full((1, 3, 3), 128, "uint8")
    dark, _, hot = script.coloured(photo, np.array([[0, 0.5, 1]]))[0]
    assert dark.max() < 0.4 and hot[0] > 0.9
    blue, grey, red = script.coloured(photo, np.array([[-1.0, 0, 1]]))[0]
    assert blue[2] > blue[0] and red[0] > red[2]
    np.testing.assert_allclose(grey, 128 / 255)


@pytest.mark.slow
def test_the_script_writes_its_pictures(script, tmp_path):
    script.main(["--quick", "--output", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.png", "places.png"]
