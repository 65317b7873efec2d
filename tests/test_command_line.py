"""`python -m vis` and `keras-vis` for a saved model and a picture."""

import argparse
import json
import os
import struct
import subprocess
import sys
import tomllib
import zlib

import keras
import numpy as np
import pytest
from conftest import ROOT, slow
from PIL import Image

import vis
from vis import plotting
from vis.__main__ import filters, main, quiet
from vis.commands import FILLS, METHODS, METRICS
from vis.commands.explain import words_score, write_above
from vis.commands.maximize import GROUND, STRIP, labelled_grid
from vis.commands.shared import is_end, names_for, picture_for, scores
from vis.utils import utils

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3, name="conv")], name="backbone")
    model = keras.Sequential(
        [backbone, L.ReLU(name="re_lu"), L.GlobalAveragePooling2D(), L.Dense(3, "softmax", name="preds")]
    )
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


@pytest.mark.filterwarnings("default:The attribution is flat")
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


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "compare | explain | layers | maximize"),
        (["compare", "model.keras"], "photo"),
        (
            ["compare", "model.keras", "a.png", "--methods", "saliency,gradcam"],
            "no method 'gradcam'. Did you mean: 'gr",
        ),
        (["compare", "model.keras", "a.png", "--methods", ""], "no method ''"),
        (["compare", "model.keras", "a.png", "--metrics", "srg,deletoin"], "no metric 'deletoin'. Did you mean: 'del"),
        (["compare", "model.keras", "a.png", "--metrics", "pointing-game"], "no metric 'pointing-game'"),
        (["compare", "model.keras", "a.png", "--fills", "0,black"], "no fill 'black'"),
        (["compare", "model.keras", "a.png", "--baselines", "few"], "--baselines: invalid int value: 'few'"),
        (["explian"], "invalid choice: 'explian'"),
        (["explain", "model.keras"], "picture"),
        (["explain", "model.keras", "photo.png", "--method", "magic"], "'saliency', 'gradient-times-input', 'smooth"),
        (["explain", "model.keras", "photo.png", "--method", "gradcam"], "Did you mean: 'grad-cam'"),
        (["explain", "model.keras", "photo.png", "--out", "map.png"], "--out map.png"),  # no option for another
        (["explain", "model.keras", "photo.png", "--size", "16"], "--size"),
        (["layers", "model.keras", "--layer", "conv"], "--layer conv"),
        (["maximize", "model.keras", "--layer", "conv", "--filters", "0:1000000000000"], "must be 1024 at most"),
        (["maximize", "model.keras", "--layer", "conv", "--filters", "a\x1b[2J"], r"a\x1b[2J"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and len(error) < 420
    assert words in error and "--help`." in error


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
    from vis.methods.explainer import Explainer

    named = {name: getattr(vis, name) for name in vis.__all__}
    known = {name for name, one in named.items() if isinstance(one, type) and issubclass(one, Explainer)}
    assert set(METHODS.values()) == known - {"ExpectedGradients"}  # it needs usual inputs beside the picture


@pytest.fixture
def titles(monkeypatch):
    """The words that are written above pictures."""
    figures = []
    draw = plotting.show_attribution

    def note(*arguments):
        figures.append(draw(*arguments))
        return figures[-1]

    monkeypatch.setattr(plotting, "show_attribution", note)
    return lambda: [text.get_text() for figure in figures for text in figure.texts]


def explain(folder, tmp_path, *more, model="model.keras"):
    """Runs `explain` on the photograph, and returns the exit status."""
    return main(
        ["explain", str(folder / model), str(folder / "photo.png"), "--output", str(tmp_path / "map.png"), *more]
    )


@pytest.mark.parametrize("target", ["1", "dog", "DOG"])
def test_names_and_probabilities_are_written_into_pictures(folder, tmp_path, capsys, titles, target):
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\ndog\r\n$\u03b1$ bird\r\n\r\n".encode())
    assert explain(folder, tmp_path, "--labels", str(tmp_path / "names.txt"), "--target", target) == 0
    _, batch = picture_for(keras.saving.load_model(folder / "model.keras"), folder / "photo.png", (0, 1))
    model = keras.saving.load_model(folder / "model.keras")
    probability = f"probability {float(keras.ops.convert_to_numpy(model(batch))[0, 1]):.3g}"
    assert titles() == [f"dog (1): {probability}"]
    assert f'grad-cam of class 1, "dog" ({probability}): wrote' in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, target, words",
    [
        (b"cat\ndog\n", "0", "a name for each of 3 classes, one a line. Received: 2 in"),
        (b"cat\nd\xffg\nbird", "0", "must be a text file in UTF-8"),
        (None, "0", "names.txt' ([Errno 2]"),
        (b"cat\ndog\nbird", "dok", "no class is called 'dok'. Did you mean: 'dog'?"),
        (b"cat\ndog\nbird", "", "no class is called ''. Choose one of: 'cat', 'dog', 'bird'."),
        (b"crane\ndog\nCrane", "crane", "'crane' is the name of 2 classes. Give an index: [0, 2]."),
        (b"cat\ndog\nbird", "3", "out of range"),
        (b"cat\ndog\nbird", "-1", "out of range"),
    ],
)
def test_wrong_names_are_one_line(folder, tmp_path, capsys, text, target, words):
    if text is not None:
        (tmp_path / "names.txt").write_bytes(text)
    assert explain(folder, tmp_path, "--labels", str(tmp_path / "names.txt"), "--target", target) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "map.png").exists()


def test_a_name_needs_names(folder, tmp_path, capsys):
    assert explain(folder, tmp_path, "--target", "dog") == 2
    assert "by --labels FILE" in capsys.readouterr().err


def test_names_of_imagenet_are_found_for_a_thousand_classes(tmp_path, folder, capsys, titles):
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3, name="conv"), L.Flatten(), L.Dense(1000)])
    model.save(tmp_path / "thousand.keras")
    arguments = [str(tmp_path / "thousand.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "a.png")]
    arguments += ["--method", "saliency"]
    assert main(["explain", *arguments, "--target", "Tabby cat"]) == 0
    assert titles()[0].startswith("tabby cat (281): output ")  # no probability: there is no softmax
    assert 'class 281, "tabby cat" of ImageNet (output ' in capsys.readouterr().out
    assert main(["explain", *arguments, "--target", "tabby"]) == 2
    assert "Did you mean: 'tabby cat'?" in capsys.readouterr().err


def test_names_of_imagenet_are_for_the_ends_of_models():
    assert names_for(1000)[281] == "tabby cat" and names_for(999) is None and names_for(1000, is_end=False) is None
    inputs = keras.Input((4,))
    hidden = L.Dense(1000, name="hidden")(inputs)
    model = keras.Model(inputs, L.Dense(1000, name="end")(hidden))
    assert is_end(model, None) and is_end(model, "end") and is_end(model, -1) and not is_end(model, "hidden")


@pytest.mark.parametrize(
    "units, target, is_probability, words",
    [
        ([0.25, 0.75], 0, True, "probability 0.25"),
        ([0.25, 0.75], 1, False, "output 0.75"),
        ([0.75], 1, True, "probability 0.75"),
        ([0.75], 0, True, "probability 0.25"),
        ([-3.0], 0, False, "the one output, for class 1, is -3"),
    ],
)
def test_scores_are_worded(units, target, is_probability, words):
    assert words_score(np.array(units), target, is_probability) == words


@pytest.mark.parametrize(
    "activation, expected", [("softmax", True), ("sigmoid", True), ("log_softmax", False), ("relu", False)]
)
def test_what_is_a_probability(activation, expected):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation=activation)])
    units, is_probability = scores(model, None, np.ones((1, 4), "float32"))
    assert is_probability == expected
    np.testing.assert_allclose(units, keras.ops.convert_to_numpy(model(np.ones((1, 4))))[0], rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)])
def test_words_above_a_picture_are_not_cut_off(shape):
    figure = plotting.show_attribution(np.zeros(shape), np.eye(*shape))
    write_above(figure, "tights for gymnastics, a one-piece leotard, or a $port jersey (639): probability 0.00123")
    plotting.rendered(figure)
    (text,) = figure.texts
    box, (width, height) = text.get_window_extent(), figure.get_size_inches() * figure.dpi
    assert 0 <= box.x0 and box.x1 <= width and box.y1 <= height
    tops = [axis.title.get_window_extent().y1 for axis in figure.axes]
    assert max(tops) <= box.y0  # nor over the words below
    assert " ".join(text.get_text().split("\n")).endswith("or a $port jersey (639): probability 0.00123")


@pytest.fixture(scope="module")
def several(folder):
    """A model with several outputs, one of them in a nested model."""
    inputs = keras.Input((16, 16, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv")(inputs))
    head = keras.Sequential([keras.Input((4,)), L.Dense(3, "softmax", name="species")], name="head")
    outputs = [head(pooled), L.Dense(1, "sigmoid", name="indoors")(pooled), L.Dense(2, name="pose")(pooled)]
    keras.Model(inputs, outputs, name="several").save(folder / "several.keras")
    return folder


def test_of_several_outputs_one_must_be_chosen(several, tmp_path, capsys):
    assert explain(several, tmp_path, model="several.keras") == 2
    error = capsys.readouterr().err
    assert "the model's 3 outputs" in error and "Choose one of: 'head/species', 'indoors', 'pose'." in error


@pytest.mark.parametrize(
    "name, target, words",
    [
        ("head/species", "2", "class 2 (probability 0."),
        ("species", "2", "class 2 (probability 0."),
        ("indoors", "1", "class 1 (probability 0."),
        ("-1", "0", "class 0 (output "),
    ],
)
def test_every_output_can_be_chosen(several, tmp_path, capsys, name, target, words):
    options = ["--method", "saliency", "--output-layer", name, "--target", target]
    assert explain(several, tmp_path, *options, model="several.keras") == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, words", [("nothing", "no layer named 'nothing'"), ("pose", "has 2 classes: choose from 0 to 1")]
)
def test_wrong_outputs_are_one_line(several, tmp_path, capsys, name, words):
    assert explain(several, tmp_path, "--output-layer", name, "--target", "5", model="several.keras") == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def of_input(height, width):
    return keras.Sequential(
        [keras.Input((height, width, 3)), L.Conv2D(4, 3, name="conv"), L.GlobalAveragePooling2D(), L.Dense(3)]
    )


@pytest.mark.parametrize(
    "own, asked, expected",
    [
        ((None, None), None, (20, 30)),  # the picture's own
        ((None, None), (8, 12), (8, 12)),
        ((None, 12), (8, 12), (8, 12)),
        ((16, 16), None, (16, 16)),
        ((16, 16), (16, 16), (16, 16)),
    ],
)
def test_sizes(folder, own, asked, expected):
    picture, batch = picture_for(of_input(*own), folder / "photo.png", (0, 1), asked)
    assert picture.shape == (*expected, 3) and batch.shape == (1, *expected, 3)


@pytest.mark.parametrize(
    "own, asked, words",
    [
        ((16, 16), ("32", "16"), "of the size 16 16. Received: 32 16. Leave it out"),
        ((None, 12), ("8", "16"), "of the size any 12. Received: 8 16."),
        ((None, 12), None, "--size HEIGHT WIDTH must be given"),
        ((None, None), ("0", "8"), "two numbers of pixels, 1 or more. Received: 0 8."),
        ((None, None), ("-2", "8"), "Received: -2 8."),
    ],
)
def test_wrong_sizes_are_one_line(folder, tmp_path, capsys, own, asked, words):
    of_input(*own).save(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "map.png")]
    assert main(["explain", *arguments, *(["--size", *asked] if asked else [])]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_explain_at_a_size(folder, tmp_path, capsys):
    of_input(None, None).save(tmp_path / "any.keras")
    arguments = [str(tmp_path / "any.keras"), str(folder / "photo.png"), "--output", str(tmp_path / "map.png")]
    assert main(["explain", *arguments, "--size", "8", "12", "--layer", "conv"]) == 0
    assert (tmp_path / "map.png").exists()


def test_maximize_at_a_size(tmp_path, capsys):
    of_input(None, None).save(tmp_path / "any.keras")
    arguments = [str(tmp_path / "any.keras"), "--layer", "conv", "--steps", "2", "--output", str(tmp_path / "a.png")]
    assert main(["maximize", *arguments]) == 2
    assert "--size HEIGHT WIDTH must be given" in capsys.readouterr().err
    assert main(["maximize", *arguments, "--size", "64", "128"]) == 0
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[:2] == (64 + STRIP, 128)


class Doubled(L.Layer):
    """A layer that Keras does not know."""

    def call(self, inputs):
        return 2 * inputs


def test_what_is_not_loaded_is_said(folder, tmp_path, capsys):
    keras.Sequential([keras.Input((8, 8, 3)), Doubled(), L.Flatten(), L.Dense(2)]).save(tmp_path / "own.keras")
    assert main(["layers", str(tmp_path / "own.keras")]) == 2
    error = capsys.readouterr().err
    assert "uses the class 'Doubled'" in error and "custom_objects=" in error and len(error) < 420
    assert main(["layers", str(folder / "unsafe.keras")]) == 2
    error = capsys.readouterr().err
    assert "safe mode does not run" in error and "`safe_mode=False`" in error and len(error) < 420


@pytest.mark.parametrize(
    "error, status, words",
    [
        (ValueError("no"), 2, "error: no\n"),
        (RuntimeError("a\nb"), 1, "error: RuntimeError: a b\n"),
        (MemoryError(), 1, "error: MemoryError:\n"),
        (
            OSError(28, "No space left on device", "map.png"),
            1,
            "error: [Errno 28] No space left on device: 'map.png'\n",
        ),
        (FloatingPointError("NaN"), 1, "error: NaN\n"),
        (KeyboardInterrupt(), 130, "error: stopped\n"),
    ],
)
def test_whatever_fails_is_one_line(monkeypatch, capsys, error, status, words):
    def fail(options):
        raise error

    monkeypatch.setattr("vis.commands.layers.run", fail)
    assert main(["layers", "model.keras"]) == status
    assert capsys.readouterr().err == words


@pytest.mark.parametrize("level", [None, "0"])
def test_what_the_framework_says_of_itself_is_hidden_unless_it_is_asked_for(monkeypatch, capfd, level):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "set, so that it is as before afterwards")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    if level is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with pytest.raises(ImportError), quiet():
        os.write(2, b"a chip was found")
        raise ImportError
    os.write(2, b", and the work begins")
    assert capfd.readouterr().err == (
        ", and the work begins" if level is None else "a chip was found, and the work begins"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["explain", "--help"], ["compare", "--help"]])
def test_help_loads_no_framework(arguments):
    code = (
        "import contextlib, sys\nfrom vis.__main__ import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments})\n"
        "sys.exit(sum(name in sys.modules for name in ('keras', 'numpy', 'tensorflow', 'jax', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout
    assert arguments[-1] != "--version" or done.stdout == f"keras-vis {vis.__version__}\n"


@pytest.mark.parametrize("is_read", [True, *slow(False)])
def test_the_module_runs_without_noise(folder, is_read):
    """All of it, and what reads its output ends before it, as `head` does."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.Popen(
        [sys.executable, "-m", "vis", "layers", str(folder / "model.keras")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not is_read:
        done.stdout.close()
        done.stdout = None
    out, error = done.communicate()
    assert error == "" and done.returncode == (0 if is_read else 1)
    assert not is_read or out.startswith("layer ")


def test_the_script_is_the_module():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"keras-vis": f"vis.__main__:{main.__name__}"}


@pytest.mark.parametrize("called, prog", [("/bin/keras-vis", "keras-vis"), ("/x/vis/__main__.py", "python -m vis")])
def test_the_help_says_how_it_was_called(monkeypatch, capsys, called, prog):
    monkeypatch.setattr(sys, "argv", [called, "layers"])
    with pytest.raises(SystemExit):
        main()
    assert f"See `{prog} layers --help`" in capsys.readouterr().err


@pytest.fixture(scope="module")
def photos(folder):
    """The photograph, and another one of the same size."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")
    Image.fromarray(pixels).save(folder / "other.png")
    return [str(folder / "photo.png"), str(folder / "other.png")]


def compare(folder, photos, *more, model="model.keras", methods="saliency,grad-cam", metrics="srg"):
    """Runs `compare` with little to do, and returns the exit status."""
    asked = [] if methods is None else ["--methods", methods]
    options = ["--metrics", metrics, "--fills", "mean", "--baselines", "20", *asked]
    return main(["compare", str(folder / model), *photos, *options, *more])


def found(path):
    """What `--json` wrote, without what the model is called."""
    return json.loads(path.read_text())


def test_compare_prints_and_writes_what_evaluate_finds(folder, photos, tmp_path, capsys):
    page, numbers = tmp_path / "report.html", tmp_path / "found.json"
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    options = ["--labels", str(tmp_path / "names.txt"), "--output", str(page), "--json", str(numbers)]
    more = ["--fills", "0,mean", "--seed", "3", "--input-range", "-1", "1", "--target", "dog"]
    assert compare(folder, photos, *options, *more, metrics="srg,deletion") == 0
    model = keras.saving.load_model(folder / "model.keras")
    inputs = np.concatenate([picture_for(model, path, (-1, 1))[1] for path in photos])
    methods = {"saliency": vis.Saliency(model), "grad-cam": vis.GradCAM(model)}
    expected = vis.evaluate(methods, inputs, 1, ["srg", "deletion"], [0.0, "mean"], baselines=20, seed=3)
    assert [[r["method"], r["fill"], r["verdict"]] for r in found(numbers)["table"]] == [
        [r["method"], r["fill"], r["verdict"]] for r in expected.table
    ]
    np.testing.assert_allclose(
        [r["mean"] for r in found(numbers)["table"]], [r["mean"] for r in expected.table], rtol=1e-4, atol=1e-6
    )
    assert [one["name"] for one in found(numbers)["classes"]] == ["dog", "dog"]
    out = capsys.readouterr().out
    assert "srg, hidden positions are 'mean': higher is better" in out and "edge filter" in out
    assert out.endswith(f"wrote {page}\nwrote {numbers}\n") and max(map(len, out.split("wrote")[0].splitlines())) <= 100
    assert "dog" in page.read_text() and "grad-cam" in page.read_text()


def test_compare_needs_no_files(folder, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert compare(folder, photos[:1], "--target", "0") == 0
    said = capsys.readouterr()
    assert "One sample" in said.out and "wrote" not in said.out and not list(tmp_path.iterdir()) and not said.err


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "2"],
        ["--methods", "saliency,hires-cam"],
        ["--methods", "saliency,saliency"],
        ["--metrics", "insertion"],
        ["--fills", "0.5"],
        ["--baselines", "21"],
        ["--seed", "1"],
        ["--input-range", "0", "2"],
        ["--output-layer", "re_lu"],
    ],
    ids=lambda options: options[0],
)
def test_every_option_of_compare_counts(folder, photos, tmp_path, options):
    plain, other = tmp_path / "plain.json", tmp_path / "other.json"
    assert compare(folder, photos[1:], "--target", "0", "--json", str(plain)) == 0
    assert compare(folder, photos[1:], "--target", "0", *options, "--json", str(other)) == 0
    assert [record["method"] for record in found(other)["table"]][-1] == "centred Gaussian"  # all of it
    assert found(plain)["table"] != found(other)["table"]


def test_the_batch_size_of_compare_is_that_of_the_evaluation(folder, photos, monkeypatch):
    sizes = []

    def note(*arguments, batch_size, **options):
        sizes.append(batch_size)
        raise ValueError("enough")

    monkeypatch.setattr("vis.commands.compare.evaluate", note)
    assert [compare(folder, photos, *more) for more in ([], ["--batch-size", "5"])] == [2, 2] and sizes == [32, 5]


def test_compare_takes_photos_of_one_size(folder, photos, tmp_path, capsys):
    of_input(None, None).save(tmp_path / "any.keras")
    Image.fromarray(np.zeros((10, 12, 3), "uint8")).save(tmp_path / "small.png")
    several = [*photos, str(tmp_path / "small.png")]
    assert compare(tmp_path, several, model="any.keras", methods="grad-cam") == 2
    error = capsys.readouterr().err
    assert "--size HEIGHT WIDTH must be given" in error and "2 sizes, such as 20 30 and 10 12." in error
    assert compare(tmp_path, several, "--size", "16", "16", model="any.keras", methods="grad-cam") == 0
    assert compare(tmp_path, photos, model="any.keras", methods="grad-cam") == 0


@pytest.mark.parametrize(
    "layers, expected",
    [
        ([L.Conv2D(4, 3, activation="relu"), L.GlobalAveragePooling2D()], ["grad-cam", "integrated-gradients", "lrp"]),
        ([L.Flatten()], ["integrated-gradients", "lrp", "occlusion"]),
    ],
    ids=["convolution", "dense"],
)
def test_the_methods_are_those_that_the_model_fits(folder, photos, tmp_path, layers, expected, monkeypatch):
    asked = []
    monkeypatch.setattr("vis.commands.compare.evaluate", lambda explainers, *rest, **more: asked.extend(explainers))
    monkeypatch.setattr("vis.commands.compare.tell", lambda *arguments: None)
    keras.Sequential([keras.Input((16, 16, 3)), *layers, L.Dense(3)]).save(tmp_path / "model.keras")
    assert compare(tmp_path, photos, methods=None) == 0 and asked == expected


def test_compare_names_the_classes_of_imagenet(folder, photos, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3, name="conv"), L.Flatten(), L.Dense(1000)])
    model.save(tmp_path / "thousand.keras")
    numbers, options = tmp_path / "found.json", {"model": "thousand.keras", "methods": "saliency"}
    assert compare(tmp_path, photos, "--json", str(numbers), "--target", "tabby cat", **options) == 0
    assert [one["name"] for one in found(numbers)["classes"]] == ["tabby cat", "tabby cat"]
    assert compare(tmp_path, photos, "--json", str(numbers), "--output-layer", "conv", **options) == 0
    assert all(one["name"].startswith("class ") for one in found(numbers)["classes"])


def test_compare_knows_all_metrics_and_fills():
    from vis.metrics import base, studies

    assert [name for name in studies.NAMES if name not in studies.OF_MASKS] == list(METRICS)
    assert FILLS == base.FILLS


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["none.keras", "photo.png"], "does not exist"),
        (["vector.keras", "photo.png"], "The model must take one picture"),
        (["model.keras", "photo.png", "nothing.png"], "nothing.png"),
        (["model.keras", "photos/*.jpg"], "photos/*.jpg"),
        (["model.keras", "model.keras"], "picture"),
        (["none.keras", "photo.png", "--output", "report.png"], "--output must be a file in a folder that exists"),
        (["none.keras", "photo.png", "--output", "nowhere/report.html"], "--output must be a file in a folder"),
        (
            ["none.keras", "photo.png", "--json", "report.html"],
            "--json must be a file in a folder that exists, ending in",
        ),
        (["model.keras", "photo.png", "--target", "7"], "out of range"),
        (["model.keras", "photo.png", "--target", "7", "--methods", "saliency"], "out of range"),
        (["model.keras", "photo.png", "--target", "dog"], "by --labels FILE"),
        (["model.keras", "photo.png", "--methods", "attention-rollout"], "attention"),
        (
            ["model.keras", "photo.png", "--methods", "saliency,grad-cam", "--output-layer", "backbone/conv"],
            "no feature",
        ),
        (["model.keras", "photo.png", "--baselines", "0"], "`baselines`"),
        (["model.keras", "photo.png", "--batch-size", "0"], "`batch_size`"),
        (["model.keras", "photo.png", "--seed", "-1"], "`seed`"),
        (["model.keras", "photo.png", "--fills", "nan"], "`fill` must be finite numbers"),
        (["model.keras", "photo.png", "--input-range", "1", "0"], "input_range"),
        (["model.keras", "photo.png", "--output-layer", "nothing"], "no layer named"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_compare_cannot_do_is_one_line(folder, photos, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(folder)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1 and len(error) < 420
    assert not list(folder.glob("report*"))


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt(), 130), (RuntimeError("no luck"), 1)])
def test_what_was_finished_is_told(folder, photos, tmp_path, monkeypatch, capsys, error, status):
    def fail(*arguments, **options):
        raise error

    page, numbers = tmp_path / "report.html", tmp_path / "found.json"
    files = ["--output", str(page), "--json", str(numbers)]
    monkeypatch.setattr(vis.Occlusion, "__call__", fail)
    assert compare(folder, photos, *files, methods="saliency,occlusion,rise") == status
    said = capsys.readouterr()
    assert (
        "Only 1 of 3 methods were measured." in said.out and "\nsaliency " in said.out and "occlusion" not in said.out
    )
    assert [record["method"] for record in found(numbers)["table"]] == ["saliency"] and "saliency" in page.read_text()
    assert said.err == ("error: stopped\n" if status == 130 else "error: RuntimeError: no luck\n")


def test_where_nothing_was_finished_nothing_is_told(folder, photos, tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(vis.Occlusion, "__call__", fail)
    assert compare(folder, photos, "--json", str(tmp_path / "found.json"), methods="occlusion") == 130
    assert capsys.readouterr() == ("", "error: stopped\n") and not list(tmp_path.iterdir())


def test_compare_writes_over_nothing_that_it_reads(folder, tmp_path, capsys):
    (tmp_path / "page.html").write_bytes((folder / "photo.png").read_bytes())
    assert compare(folder, [str(tmp_path / "page.html")], "--output", str(tmp_path / "page.html")) == 2
    assert "--output must not be a file that is read" in capsys.readouterr().err
