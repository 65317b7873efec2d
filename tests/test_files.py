"""Files are written whole or not at all: on a full disk, after an exception, after Ctrl-C."""

import contextlib
import os
import pathlib
import resource
import stat

import keras
import numpy as np
import pytest
from PIL import Image

import vis
from vis import plotting
from vis.__main__ import main
from vis.callbacks import GifGenerator
from vis.utils.files import check_writable, whole_file
from vis.utils.validation import VisualizationWarning

L = keras.layers
NOISE = np.random.default_rng(0).random((4, 64, 64, 3))


@contextlib.contextmanager
def full_disk(most=1000):
    """Lets no file grow above some bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def old(tmp_path):
    """A file that is written over, alone in its folder."""
    path = tmp_path / "only" / "old.gif"
    path.parent.mkdir()
    path.write_text("as it was")
    return path


def is_as_it_was(path):
    return path.read_text() == "as it was" and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_after_an_exception_there_is_what_there_was(old, error):
    with pytest.raises(error):
        with whole_file(old) as temporary:
            temporary.write_text("half of")
            assert old.read_text() == "as it was" and temporary.parent == old.parent and temporary.suffix == ".gif"
            raise error
    assert is_as_it_was(old)


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new.txt"
    with whole_file(path) as temporary:
        temporary.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all" and os.listdir(tmp_path) == ["new.txt"]
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_link_stays_a_link_and_a_mode_a_mode(old, tmp_path):
    link = tmp_path / "link.gif"
    link.symlink_to(old)
    old.chmod(0o604)
    with whole_file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and old.read_text() == "new" and stat.S_IMODE(old.stat().st_mode) == 0o604


def test_a_device_is_not_replaced():
    for _ in range(2):
        with whole_file("/dev/null") as path:
            path.write_text("x")
    check_writable("/dev/null")
    assert not pathlib.Path("/dev/null").is_file()


def test_what_cannot_be_written_is_named(tmp_path):
    for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "a.gif", FileNotFoundError)):
        for write in (whole_file(path).__enter__, lambda p=path: check_writable(p)):
            with pytest.raises(kind) as caught:
                write()
            assert caught.value.filename == str(path)
    if os.geteuid():  # the superuser may write everything
        (tmp_path / "a.gif").touch(0o444)
        with pytest.raises(PermissionError):
            check_writable(tmp_path / "a.gif")


def test_a_long_name_is_written(tmp_path):
    path = tmp_path / ("a" * 250 + ".gif")
    plotting.save_gif(NOISE, path)
    assert Image.open(path).n_frames == 4


def test_save_gif_on_a_full_disk(old):
    with full_disk(), pytest.raises(ValueError, match="`path` must be a file that can be written"):
        plotting.save_gif(NOISE, old)
    assert is_as_it_was(old)


def test_save_gif_with_a_bad_frame(old):
    frames = list(NOISE)
    frames[3] = np.full_like(frames[3], np.nan)
    with pytest.raises(ValueError, match="finite"):
        plotting.save_gif(frames, old)
    assert is_as_it_was(old)


def test_save_gif_takes_frames_one_at_a_time(tmp_path, monkeypatch):
    sizes = []
    real = plotting.as_pictures
    monkeypatch.setattr(plotting, "as_pictures", lambda x, single: sizes.append(np.shape(x)) or real(x, single))
    plotting.save_gif(NOISE, tmp_path / "a.gif", fps=60)
    assert sizes == [(64, 64, 3)] * 4
    assert Image.open(tmp_path / "a.gif").info["duration"] == 20  # whole hundredths, rounded


def test_the_same_picture_for_too_long(old):
    with pytest.raises(ValueError, match="655 seconds"):
        plotting.save_gif(np.zeros((10, 8, 8)), old, fps=0.01)
    assert is_as_it_was(old)


def test_a_gif_generator_on_a_full_disk(old):
    gif = GifGenerator(old, deprocess=False, input_range=(0, 1))
    for i, frame in enumerate(NOISE):
        gif.callback(i, [], 0.0, None, frame[None])
    with full_disk(), pytest.raises(OSError):
        gif.on_end()
    assert is_as_it_was(old)


def test_a_gif_generator_writes_at_the_end(old):
    gif = GifGenerator(old, deprocess=False, input_range=(0, 1))
    gif.callback(0, [], 0.0, None, NOISE[:1])
    assert is_as_it_was(old)
    gif.on_end()
    gif.on_end()  # there is nothing more
    with Image.open(old) as film:
        assert film.n_frames == 1
    assert os.listdir(old.parent) == [old.name]


def test_a_gif_generator_without_an_image_writes_nothing(old):
    GifGenerator(old).on_end()
    assert is_as_it_was(old)


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(2)])
    model.compile("sgd", "mse")
    return model


def test_a_training_on_a_full_disk(tmp_path):
    images = NOISE[:, :8, :8, :1].astype("float32")
    logger = vis.ExplanationLogger(images[:2], {"x": vis.Saliency}, tmp_path, epochs=[1])
    logger.set_model(network())
    logger.on_train_begin()
    logger.on_epoch_end(0)
    whole = (tmp_path / "epoch_001.png").read_bytes()
    (tmp_path / "epochs.gif").write_text("as it was")
    with full_disk(), pytest.warns(VisualizationWarning, match="OSError"):
        logger.on_epoch_end(0)
        logger.on_train_end()
    assert sorted(os.listdir(tmp_path)) == ["epoch_001.png", "epochs.gif"]
    assert (tmp_path / "epoch_001.png").read_bytes() == whole
    assert (tmp_path / "epochs.gif").read_text() == "as it was"


@pytest.mark.parametrize("command", ["explain", "maximize"])
def test_the_command_line_on_a_full_disk(tmp_path, monkeypatch, capsys, command):
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3, name="conv"), L.GlobalAveragePooling2D()])
    model.save(tmp_path / "model.keras")
    Image.fromarray((255 * NOISE[0]).astype("uint8")).save(tmp_path / "photo.png")
    output = tmp_path / "only" / "map.png"
    output.parent.mkdir()
    output.write_text("as it was")

    def torn(path):
        path.write_text("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plotting, "show_attribution", lambda *args, **more: Torn(torn))
    monkeypatch.setattr(keras.utils, "save_img", lambda path, *args, **more: torn(path))
    more = [str(tmp_path / "photo.png")] if command == "explain" else ["--layer", "conv", "--steps", "1"]
    assert main([command, str(tmp_path / "model.keras"), *more, "--output", str(output)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert is_as_it_was(output)


class Torn:
    """A figure that is torn while it is saved."""

    def __init__(self, tear):
        self.savefig = lambda path, **options: tear(path)
        self.get_size_inches = lambda: (4, 2)
        self.suptitle = lambda words, **options: None
