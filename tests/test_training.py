"""The view into a training: files, TensorBoard, and a training that goes on whatever happens."""

import builtins
import io
import warnings

import keras
import numpy as np
import pytest
from conftest import slow
from keras import layers
from PIL import Image

import vis
from vis.utils.validation import VisualizationWarning

GOOD = np.random.default_rng(0).random((2, 8, 8, 1)).astype("float32")


def network():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, *callbacks, epochs=2):
    x = np.random.default_rng(1).random((16, 8, 8, 1)).astype("float32")
    return model.fit(x, np.eye(2)[np.arange(16) % 2], epochs=epochs, verbose=0, batch_size=8, callbacks=list(callbacks))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_draws_what_the_explainer_gives_for_the_network_of_that_epoch(tmp_path):
    model, seen = network(), []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(vis.Saliency(self.model)(GOOD, target=1))

    logger = vis.ExplanationLogger(GOOD, {"saliency": vis.Saliency}, tmp_path, target=1, labels=["a", "b"])
    fit(model, logger, Keep())
    assert names_in(tmp_path) == ["epoch_000.png", "epoch_001.png", "epoch_002.png", "epochs.gif"]
    assert not np.allclose(seen[0], seen[1])
    for epoch, maps in enumerate(seen, start=1):
        figure = vis.plotting.gallery(GOOD, {"saliency": maps}, ["a", "b"])
        figure.suptitle(f"epoch {epoch}")
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / f"epoch_{epoch:03d}.png")), vis.plotting.rendered(figure)
        )
    with Image.open(tmp_path / "epochs.gif") as animation:
        assert animation.n_frames == 3


def test_only_the_chosen_epochs(tmp_path):
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path / "new" / "folder", epochs=range(1, 9, 2))
    fit(network(), logger, epochs=4)
    assert names_in(tmp_path / "new" / "folder") == ["epoch_001.png", "epoch_003.png", "epochs.gif"]


def test_training_is_the_same_with_it(tmp_path):
    plain, watched = network(), network()
    keras.utils.set_random_seed(5)
    expected = fit(plain).history["loss"]
    keras.utils.set_random_seed(5)
    before = np.random.get_state()[1].copy()
    explainers = {"smooth": lambda m: vis.SmoothGrad(m, num_samples=3), "cam": vis.GradCAM, "mask": vis.RISE}
    explainers["mask"] = lambda m: vis.RISE(m, num_masks=5)
    logger = vis.ExplanationLogger(GOOD, explainers, tmp_path, target=0)
    logger.set_model(watched)
    logger.on_train_begin()
    logger.on_epoch_begin(0)
    assert logger.paths
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert fit(watched, logger).history["loss"] == expected
    for a, b in zip(plain.get_weights(), watched.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_is_built_by_its_first_batch(tmp_path):
    model = keras.Sequential([layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    fit(model, vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path), epochs=1)
    names = names_in(tmp_path)  # some backends build the model before the training begins
    assert [name for name in names if name != "epoch_000.png"] == ["epoch_001.png", "epochs.gif"]


def failing(model):
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    "explainers, words",
    [
        ({"x": failing}, "RuntimeError: no luck"),
        ({"x": lambda model: failing}, "TypeError"),
        ({"x": lambda model: vis.GradCAM(model, "nowhere")}, "nowhere"),
        ({"x": lambda model: lambda images, target: np.full((2, 8, 8), np.nan)}, "NaN"),
        ({"x": lambda model: None}, "NoneType"),
    ],
)
def test_a_failure_warns_and_the_training_goes_on(explainers, words, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(network(), vis.ExplanationLogger(GOOD, explainers, tmp_path)).history["loss"]
    assert len(history) == 2 and not names_in(tmp_path)
    own = [str(w.message) for w in caught if w.category is VisualizationWarning]
    assert len(own) == 1 and words in own[0] and "the training goes on" in own[0], own


def test_the_other_explainers_are_drawn(tmp_path):
    logger = vis.ExplanationLogger(GOOD, {"bad": failing, "good": vis.Saliency}, tmp_path, epochs=[1])
    with pytest.warns(VisualizationWarning, match="nothing of 'bad'; the training goes on. RuntimeError"):
        fit(network(), logger, epochs=1)
    assert names_in(tmp_path) == ["epoch_001.png", "epochs.gif"]


def test_a_resumed_training_keeps_the_pictures_before(tmp_path):
    model, logger = network(), vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path)
    fit(model, logger, epochs=1)
    before = (tmp_path / "epoch_000.png").read_bytes()
    x = np.zeros((8, 8, 8, 1), "float32")
    model.fit(x, np.eye(2)[[0] * 8], epochs=3, initial_epoch=1, verbose=0, callbacks=[logger])
    assert (tmp_path / "epoch_000.png").read_bytes() == before
    assert [path.name for path in logger.paths] == ["epoch_001.png", "epoch_002.png", "epoch_003.png", "epochs.gif"]


def test_after_an_interrupt_there_is_what_there_was(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, epochs=[0, 1])
    with pytest.raises(KeyboardInterrupt):
        fit(network(), logger, Stop())
    assert names_in(tmp_path) == ["epoch_000.png", "epoch_001.png"]
    assert logger.animate() == tmp_path / "epochs.gif"
    with Image.open(tmp_path / "epochs.gif") as animation:
        assert animation.n_frames == 2


def test_the_images_are_its_own(tmp_path):
    given = GOOD.copy()
    logger = vis.ExplanationLogger(given, {"x": vis.Saliency}, tmp_path)
    given[:] = 0
    np.testing.assert_array_equal(logger._images, GOOD)


def test_a_folder_that_vanishes(tmp_path):
    folder = tmp_path / "gone"
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, folder, epochs=[1])
    folder.rmdir()
    with pytest.warns(VisualizationWarning, match="at epoch 1; the training goes on. FileNotFoundError"):
        assert len(fit(network(), logger).history["loss"]) == 2


@pytest.mark.parametrize("own_writer", [True, False], ids=["framework", "tensorboardX"])
def test_tensorboard_gets_the_pictures(own_writer, tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("tensorboardX")
    if not own_writer:
        monkeypatch.setattr(vis.backend._framework, "picture_writer", no_writer)
    logger = vis.ExplanationLogger(
        GOOD, {"x": vis.Saliency}, tmp_path / "png", epochs=[0, 2], tensorboard=tmp_path / "logs"
    )
    fit(network(), logger)
    log = event_accumulator.EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0, "images": 0})
    log.Reload()
    if log.Tags()["images"]:
        found = {event.step: event.encoded_image_string for event in log.Images("explanations")}
    else:  # as TensorFlow 2 writes them
        found = {event.step: event.tensor_proto.string_val[2] for event in log.Tensors("explanations")}
    assert sorted(found) == [0, 2]
    for step, encoded in found.items():
        with Image.open(tmp_path / "png" / f"epoch_{step:03d}.png") as expected:
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), np.asarray(expected))


def no_writer(directory):
    raise ImportError


def test_without_a_writer_there_are_the_files(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] in ("tensorboardX", "tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(vis.backend._framework, "picture_writer", no_writer)
    monkeypatch.setattr(builtins, "__import__", without)
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, epochs=[1], tensorboard=tmp_path / "logs")
    with pytest.warns(VisualizationWarning, match="Install the package `tensorboard` or `tensorboardX`"):
        fit(network(), logger)
    assert names_in(tmp_path) == ["epoch_001.png", "epochs.gif"]


@pytest.mark.parametrize(
    "metric, made",
    [
        ("road", vis.metrics.ROAD),
        (lambda model: vis.metrics.SRG(model, fill=0.0), lambda model: vis.metrics.SRG(model, fill=0.0)),
        *slow(
            ("srg", vis.metrics.SRG),
            ("insertion", vis.metrics.Insertion),
            ("deletion", vis.metrics.Deletion),
            ("mu-fidelity", vis.metrics.MuFidelity),
            (vis.metrics.SRG, vis.metrics.SRG),
        ),
    ],
)
def test_the_metric_is_that_of_the_maps_of_that_epoch(metric, made, tmp_path):
    model, seen = network(), {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            maps = vis.Saliency(self.model)(GOOD, target=1)
            seen[epoch + 1] = made(self.model)(GOOD, maps, 1)

    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, target=1, epochs=[1, 2], metric=metric)
    fit(model, logger, Keep())
    assert sorted(logger.scores) == [1, 2] and list(logger.scores[1]) == ["x"] and logger.scores[1]["x"].shape == (2,)
    for epoch, values in seen.items():
        np.testing.assert_allclose(logger.scores[epoch]["x"], values, rtol=1e-5, atol=1e-6)
    assert not np.allclose(seen[1], seen[2])


def test_scores_are_written_below_the_maps(tmp_path, monkeypatch):
    figures, draw = [], vis.plotting.rendered
    monkeypatch.setattr(vis.plotting, "rendered", lambda figure: figures.append(figure) or draw(figure))
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, target=0, epochs=[1], metric="deletion")
    fit(network(), logger, epochs=1)
    (figure,) = figures
    assert [figure.axes[i].get_xlabel() for i in (1, 3)] == [f"{value:.3g}" for value in logger.scores[1]["x"]]
    assert figure.get_suptitle() == "epoch 1; below each map: deletion"


def test_scores_are_of_the_last_training(tmp_path):
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, metric="srg")
    assert logger.scores == {}
    fit(network(), logger)
    assert sorted(logger.scores) == [0, 1, 2]
    model = network()
    fit(model, logger, epochs=1)
    assert sorted(logger.scores) == [0, 1]
    maps = vis.Saliency(model)(GOOD)
    np.testing.assert_allclose(logger.scores[1]["x"], vis.metrics.SRG(model)(GOOD, maps), rtol=1e-5, atol=1e-6)


def test_training_is_the_same_with_a_metric(tmp_path):
    plain, watched = network(), network()
    keras.utils.set_random_seed(5)
    expected = fit(plain).history["loss"]
    keras.utils.set_random_seed(5)
    logger = vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, target=0, metric="road")
    assert fit(watched, logger).history["loss"] == expected and sorted(logger.scores) == [0, 1, 2]
    for a, b in zip(plain.get_weights(), watched.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "metric, words",
    [
        (lambda model: lambda *inputs: np.zeros(3), r"`metric` must give 2 numbers.*shape \(3,\)"),
        *slow(
            (failing, "RuntimeError: no luck"),
            (lambda model: failing, "TypeError"),
            (lambda model: lambda *inputs: [0.0, np.nan], "`metric` must be finite numbers"),
            (lambda model: lambda *inputs: None, "`metric` must be"),
        ),
    ],
)
def test_a_metric_that_fails_warns_and_the_pictures_are_there(metric, words, tmp_path):
    logger = vis.ExplanationLogger(GOOD, {"a": vis.Saliency, "b": vis.Saliency}, tmp_path, target=1, metric=metric)
    with pytest.warns(
        VisualizationWarning, match="nothing below the maps of 'a'; the training goes on.*" + words
    ) as all_:
        assert len(fit(network(), logger).history["loss"]) == 2
    assert len([one for one in all_ if one.category is VisualizationWarning]) == 1 and logger.scores == {}
    other = tmp_path / "plain"
    fit(network(), vis.ExplanationLogger(GOOD, {"a": vis.Saliency, "b": vis.Saliency}, other, target=1))
    assert (tmp_path / "epoch_002.png").read_bytes() == (other / "epoch_002.png").read_bytes()


def test_the_other_maps_are_measured(tmp_path):
    coarse = {"coarse": lambda model: lambda images, target: np.ones((2, 4, 4)), "good": vis.Saliency}
    logger = vis.ExplanationLogger(GOOD, coarse, tmp_path, target=1, epochs=[1], metric="srg")
    with pytest.warns(VisualizationWarning, match="nothing below the maps of 'coarse'.*`maps` must have the shape"):
        fit(network(), logger, epochs=1)
    assert list(logger.scores[1]) == ["good"] and names_in(tmp_path) == ["epoch_001.png", "epochs.gif"]


@pytest.mark.parametrize("own_writer", [True, False], ids=["framework", "tensorboardX"])
def test_tensorboard_gets_the_means_of_the_scores(own_writer, tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("tensorboardX")
    if not own_writer:
        monkeypatch.setattr(vis.backend._framework, "picture_writer", no_writer)
    logger = vis.ExplanationLogger(
        *(GOOD, {"Grad-CAM": vis.GradCAM}, tmp_path / "png", 1), tensorboard=tmp_path / "logs", metric="srg"
    )
    fit(network(), logger)
    log = event_accumulator.EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0, "scalars": 0})
    log.Reload()
    if log.Tags()["scalars"]:
        found = {event.step: event.value for event in log.Scalars("srg/Grad-CAM")}
    else:  # as TensorFlow 2 writes them
        read = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray
        found = {event.step: read(event.tensor_proto) for event in log.Tensors("srg/Grad-CAM")}
    assert sorted(found) == [0, 1, 2]
    for step, value in found.items():
        np.testing.assert_allclose(value, logger.scores[step]["Grad-CAM"].mean(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "metric, error, words",
    [
        ("sgr", ValueError, "Unknown metric: 'sgr'. Did you mean: 'srg'"),
        ("completeness", ValueError, "Unknown metric"),
        (3, TypeError, "`metric` must be a name or a callable"),
        (vis.metrics.SRG(network()), TypeError, "which is made already"),
        (vis.metrics.Sparseness(), TypeError, "a class or a function of the model"),
    ],
)
def test_a_wrong_metric_is_named(metric, error, words, tmp_path):
    with pytest.raises(error, match=words) as caught:
        vis.ExplanationLogger(GOOD, {"x": vis.Saliency}, tmp_path, metric=metric)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((np.zeros((2, 5)), {"x": vis.Saliency}, "."), ValueError, "`images` must be images, grey or RGB"),
        ((GOOD, vis.Saliency, "."), TypeError, "`explainers` must be a dict"),
        ((GOOD, {}, "."), TypeError, "`explainers` must be a dict"),
        ((GOOD, {"x": "grad-cam"}, "."), TypeError, r"`explainers\['x'\]` must be a class or a function"),
        ((GOOD, {"x": vis.Saliency}, ".", 0, 3), TypeError, "`epochs` must be a list"),
        ((GOOD, {"x": vis.Saliency}, ".", 0, [-1]), ValueError, "`epochs`"),
        (
            (GOOD, {"x": vis.Saliency}, ".", 0, None, ["a"]),
            ValueError,
            "`labels` must hold one entry for each of 2 images",
        ),
        ((GOOD, {"x": vis.Saliency}, ".", 0, None, "ab"), TypeError, "`labels`"),
        ((GOOD, {"x": vis.Saliency}, ".", 0, None, 3), TypeError, "`labels`"),
        ((GOOD, {"x": vis.Saliency}, ".", [0, 1, 2]), ValueError, "`target` must hold one entry for each of 2"),
        ((GOOD, {"x": vis.Saliency}, ".", "cat"), TypeError, "`target`"),
        ((GOOD, {"x": vis.Saliency}, None), TypeError, "`folder` must be the path of a folder"),
        ((GOOD, {"x": vis.Saliency}, ".", 0, None, None, 3), TypeError, "`tensorboard` must be the path"),
        ((np.zeros((8, 8, 3)), {"x": vis.Saliency}, "."), ValueError, "must be a batch"),
        ((GOOD, {"x": vis.Saliency}, __file__), ValueError, "`folder` must be one that can be written"),
    ],
)
def test_bad_input(arguments, error, words):
    with pytest.raises(error, match=words):
        vis.ExplanationLogger(*arguments)


def test_an_explainer_of_another_model_is_refused():
    with pytest.raises(TypeError, match="a class or a function of the model"):
        vis.ExplanationLogger(GOOD, {"x": vis.Saliency(network())}, ".")
