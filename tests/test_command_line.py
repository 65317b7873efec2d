"""`python -m vis` for a saved model and a picture."""

import argparse
import struct
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from vis.__main__ import GROUND, METHODS, STRIP, filters, labelled_grid, main, picture_for
from vis.utils import utils

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
    assert capsys.readouterr().out == f"3 filters of backbone/conv: wrote {tmp_path / 'grid.png'}\n"
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * (128 + STRIP) + 5, 2 * 128 + 5, 3)  # two by two, with margins
    assert (grid[:, 128:133] == GROUND).all()  # between the pictures, which may be black or white
    tile = grid[STRIP : 128 + STRIP, :128]
    np.testing.assert_array_equal(tile, tile[::8, ::8].repeat(8, axis=0).repeat(8, axis=1))
    assert tile.std() > 5 and (grid[:STRIP, :128] < 128).any()  # the number above it
    assert (grid[STRIP + 133 :, 133:] == GROUND).all()  # there is no fourth picture


@pytest.mark.parametrize("shape, size", [((2, 16, 16, 1), 128), ((2, 50, 20, 3), 150), ((1, 300, 200, 3), 300)])
def test_small_pictures_are_enlarged_by_a_whole_factor(shape, size):
    images = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    grid = labelled_grid(images, range(len(images)))
    factor = size // shape[1]
    np.testing.assert_array_equal(
        grid[STRIP : STRIP + size : factor, : factor * shape[2] : factor], np.broadcast_to(images[0], (*shape[1:3], 3))
    )


def test_dead_filters_are_named(tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(3, 3, activation="relu", name="conv")])
    kernel, bias = model.get_weights()
    model.set_weights([np.abs(kernel) * [1, 0, 1], np.array([0.1, -5, 0.1])])
    model.save(tmp_path / "dead.keras")
    arguments = [str(tmp_path / "dead.keras"), "--layer", "conv", "--filters", "0:3", "--steps", "5"]
    assert main(["maximize", *arguments, "--output", str(tmp_path / "grid.png")]) == 0
    out = capsys.readouterr().out
    assert "filter 1 is dead" in out and "filter 0 is dead" not in out and "filter 2 is dead" not in out


def test_pictures_are_upright(folder, tmp_path):
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 256, (20, 10, 3)).astype("uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn it clockwise to see it so
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(utils.load_img(tmp_path / "phone.png"), np.asarray(upright))
    np.testing.assert_array_equal(
        utils.load_img(tmp_path / "phone.png", target_size=(16, 16)),
        np.asarray(upright.resize((16, 16), Image.Resampling.BILINEAR)),
    )
    picture, _ = picture_for(keras.saving.load_model(folder / "model.keras"), tmp_path / "phone.png", (0, 1))
    np.testing.assert_array_equal(picture, np.asarray(upright.resize((16, 16), Image.Resampling.BILINEAR)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"Exif\x00\x00nonsense"])
def test_damaged_exif_data_turn_nothing(tmp_path, exif):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(utils.load_img(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
@pytest.mark.parametrize("read", ["photo.png", "model.keras"])
def test_the_output_is_no_file_that_is_read(folder, tmp_path, capsys, read, link):
    given = tmp_path / read
    given.write_bytes((folder / read).read_bytes())
    output = given
    if link or read == "model.keras":
        output = tmp_path / "out.png"
        getattr(output, link or "symlink_to")(given)
    other = {"photo.png": folder / "photo.png", "model.keras": folder / "model.keras", read: given}
    before = given.read_bytes()
    commands = [["explain", str(other["model.keras"]), str(other["photo.png"])]]
    if read == "model.keras":
        commands.append(["maximize", str(given), "--layer", "backbone/conv", "--steps", "1"])
    for command in commands:
        assert main([*command, "--output", str(output)]) == 2
        assert "--output must not be a file that is read" in capsys.readouterr().err
    assert given.read_bytes() == before


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(folder, tmp_path, capsys):
    arguments = [str(folder / "model.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "map.png")]
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(tmp_path / "black.png")
    arguments[1] = str(tmp_path / "black.png")
    assert main(["explain", *arguments, "--method", "occlusion"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: The attribution is flat: 0 everywhere.") and err.count("\n") == 1


def test_names_command_no_terminal(tmp_path, capsys):
    convolution = L.Conv2D(2, 3, name="a\x1b[31mred")
    model = keras.Sequential([keras.Input((8, 8, 1)), convolution], name="evil\x1b[2J")
    model.save(tmp_path / "evil.keras")
    assert main(["layers", str(tmp_path / "evil.keras")]) == 0
    assert main(["maximize", str(tmp_path / "evil.keras"), "--layer", "nope"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and r"a\x1b[31mred" in said.out and r"evil\x1b[2J" in said.err


def test_a_picture_that_is_too_small_is_one_line(tmp_path, capsys):
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(3)])
    model.save(tmp_path / "any.keras")
    Image.fromarray(np.full((1, 1, 3), 200, "uint8")).save(tmp_path / "one.png")
    arguments = [str(tmp_path / "any.keras"), str(tmp_path / "one.png"), "--output", str(tmp_path / "map.png")]
    assert main(["explain", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "could not be called on the input" in error and len(error) < 420
    assert "\x1b" not in error and "Arguments received" not in error
    assert not (tmp_path / "map.png").exists()


def test_a_picture_that_is_too_large_is_a_sentence(tmp_path, capsys):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)  # 900 million pixels, in a hundred bytes
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match="million pixels at most.*bomb.png.*smaller copy"):
        utils.load_img(tmp_path / "bomb.png")


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
        (["explain", "model.keras", "photo.png", "--input-range", "-1e300", "1e300"], "float32"),
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


@pytest.mark.filterwarnings("default:The attribution is flat")
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
    assert np.asarray(Image.open(tmp_path / "b.png")).shape[:2] == (STRIP + 8 * 11, 12 * 11)


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


@pytest.mark.parametrize("text", ["-1e0", "-10E-1", "-.1e+1", "-1", "-1.0"])
def test_numbers_below_zero_are_no_options(folder, tmp_path, text):
    arguments = [str(folder / "model.keras"), str(folder / "photo.png"), "--input-range", text, "1"]
    assert main(["explain", *arguments, "--output", str(tmp_path / "map.png")]) == 0


def test_every_explainer_has_a_name():
    import vis
    from vis.methods.explainer import Explainer

    known = {value for value in vars(vis).values() if isinstance(value, type) and issubclass(value, Explainer)}
    assert set(METHODS.values()) == known - {vis.ExpectedGradients}  # it needs usual inputs beside the picture


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "vis", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "explain" in done.stdout
