"""`python -m vis` for a saved model and a picture."""

import argparse
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from vis.__main__ import METHODS, filters, main, picture_for

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="conv")], name="backbone")
    model = keras.Sequential([backbone, L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(3, "softmax", name="preds")])
    model(np.zeros((1, 16, 16, 3)))
    model.save(folder / "model.keras")
    keras.Sequential([keras.Input((3,)), L.Dense(2)]).save(folder / "vector.keras")
    keras.Sequential([keras.Input((3,)), L.Lambda(lambda x: 2 * x)]).save(folder / "unsafe.keras")
    (folder / "broken.keras").write_text("no model")
    (folder / "model.h5").write_bytes(b"anything")
    pixels = np.zeros((20, 30, 3), "uint8")
    pixels[:, 15:, 0] = 255
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder


@pytest.mark.parametrize("method", ["grad-cam", "saliency", "guided-grad-cam", "occlusion"])
def test_explain_writes_a_picture(folder, tmp_path, capsys, method):
    arguments = [str(folder / "model.keras"), str(folder / "photo.png"), "--method", method, "--target", "1"]
    assert main(["explain", *arguments, "--output", str(tmp_path / "map.png")]) == 0
    assert np.asarray(Image.open(tmp_path / "map.png")).std() > 5
    assert f"{method} of class 1" in capsys.readouterr().out


def test_the_class_is_the_most_likely_one_by_default(folder, tmp_path, capsys):
    arguments = [str(folder / "model.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "map.png")]
    assert main(["explain", *arguments]) == 0
    image = np.asarray(Image.open(folder / "photo.png").resize((16, 16), Image.Resampling.BILINEAR), "float32") / 255
    model = keras.saving.load_model(folder / "model.keras")
    best = int(np.argmax(keras.ops.convert_to_numpy(model(image[None]))))
    assert f"of class {best} " in capsys.readouterr().out


def test_layers_are_listed_by_the_paths_that_are_taken(folder, capsys):
    assert main(["layers", str(folder / "model.keras")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("backbone/conv ") and "Conv2D" in line for line in lines)


def test_maximize_writes_a_grid(folder, tmp_path, capsys):
    arguments = [str(folder / "model.keras"), "--layer", "backbone/conv", "--filters", "0:2,3", "--steps", "3"]
    assert main(["maximize", *arguments, "--seed", "0", "--output", str(tmp_path / "grid.png")]) == 0
    assert "3 filters" in capsys.readouterr().out
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape == (37, 37, 3)  # two by two, with margins


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["explain", "none.keras", "photo.png"], "does not exist"),
        (["explain", "broken.keras", "photo.png"], "is no `.keras` file"),
        (["layers", "model.h5"], "must be a `.keras` file"),
        (["explain", "unsafe.keras", "photo.png"], "could not be loaded"),
        (["explain", "vector.keras", "photo.png"], "one picture"),
        (["explain", "model.keras", "model.keras"], "picture"),
        (["explain", "model.keras", "photo.png", "--target", "7"], "out of range"),
        (["explain", "model.keras", "photo.png", "--method", "magic"], "grad-cam"),
        (["explain", "model.keras", "photo.png", "--method", "rise", "--layer", "conv"], "--layer"),
        (["explain", "model.keras", "photo.png", "--input-range", "1", "0"], "input_range"),
        (["explain", "model.keras", "photo.png", "--output", "map.xyz"], ".png"),
        (["maximize", "model.keras", "--layer", "conv", "--output", "nowhere/map.png"], "folder that exists"),
        (["maximize", "vector.keras", "--layer", "0"], "must take one picture"),
        (["maximize", "model.keras", "--layer", "nothing"], "no layer named"),
        (["maximize", "model.keras", "--layer", "conv", "--filters", "9", "--steps", "1"], "out of range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line(folder, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and "Traceback" not in error
    assert not list(folder.glob("*explanation*")) and not list(folder.glob("*filters*"))


def test_too_many_filters(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit):
        main(["maximize", "model.keras", "--layer", "conv", "--filters", "0:1000000000000"])
    assert "must be 1024 at most" in capsys.readouterr().err


def test_models_that_end_in_scores_are_taken_as_they_are(folder, tmp_path):
    keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(2, 3)]).save(tmp_path / "scores.keras")
    arguments = [str(tmp_path / "scores.keras"), "--layer", "-1", "--steps", "1", "--output", str(tmp_path / "a.png")]
    assert main(["maximize", *arguments]) == 0 and (tmp_path / "a.png").exists()


def test_a_single_unit_is_class_one(folder, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3), L.Flatten(), L.Dense(1, "sigmoid")])
    model.save(tmp_path / "one.keras")
    arguments = [str(tmp_path / "one.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "a.png")]
    for target in ([], ["--target", "1"]):
        assert main(["explain", *arguments, *target]) == 0
        assert "of class 1 " in capsys.readouterr().out


def test_channels_are_where_the_model_has_them(folder, tmp_path):
    pool = L.AveragePooling2D(4, data_format="channels_first")
    model = keras.Sequential([keras.Input((3, 8, 12)), L.Rescaling(1.0), pool, L.Flatten(), L.Dense(2)])
    model.save(tmp_path / "first.keras")
    arguments = [str(tmp_path / "first.keras"), str(folder / "photo.png"), "--method", "saliency"]
    assert main(["explain", *arguments, "--output", str(tmp_path / "a.png")]) == 0
    arguments = [str(tmp_path / "first.keras"), "--layer", "-1", "--steps", "1", "--output", str(tmp_path / "b.png")]
    assert main(["maximize", *arguments]) == 0
    assert np.asarray(Image.open(tmp_path / "b.png")).shape[:2] == (8, 12)


def test_pixels_are_scaled_to_the_input_range(folder):
    model = keras.saving.load_model(folder / "model.keras")
    picture, batch = picture_for(model, folder / "photo.png", (-1, 3))
    assert picture.dtype == np.uint8 and batch.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(batch[0], picture / 255 * 4 - 1, atol=1e-6)
    assert batch.min() == -1 and batch.max() == 3


def test_filters_are_read():
    assert filters("3") == [3] and filters("0:3,7") == [0, 1, 2, 7]
    with pytest.raises(argparse.ArgumentTypeError, match="0:16"):
        filters("2:2")


def test_every_explainer_has_a_name():
    import vis
    from vis.explainer import Explainer

    known = {value for value in vars(vis).values() if isinstance(value, type) and issubclass(value, Explainer)}
    assert set(METHODS.values()) == known


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "vis", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "explain" in done.stdout
