"""What a network looks at while it learns."""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np

from vis import backend, plotting
from vis.methods.explainer import Explainer
from vis.metrics.base import Metric
from vis.metrics.curves import ROAD, SRG, Deletion, Insertion
from vis.metrics.faithfulness import MuFidelity
from vis.utils.files import whole_file, write_gif
from vis.utils.validation import VisualizationWarning, check_count, check_numeric, pick, shown, words_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from vis.utils.types import TargetLike

_MILLISECONDS = 500  # that each epoch is shown
_METRICS = {one.name: one for one in (SRG, Insertion, Deletion, ROAD, MuFidelity)}


class ExplanationLogger(keras.callbacks.Callback):
    """Explains a few fixed images after each epoch, and writes pictures of it.

    Give it to `model.fit(callbacks=[...])`. Into a folder go `epoch_000.png` (before training, if the model is
    built by then), `epoch_001.png` and so on, and at the end `epochs.gif`, the same as an animation. Each is written
    whole or not at all. Files of the same name are written over; take a new folder for a new training. Every map is
    scaled by itself, so the pictures tell where the evidence is, not how much.

    It costs what its explainers and its metric cost on these images, and stops no training: what fails becomes a
    warning, once for each reason, the other explainers are drawn, and the next epoch is tried again. (Where warnings
    are made errors, so is this one.)

    Attributes:
        paths: The files of the last training, `pathlib.Path`s.
        scores: What `metric` measured in the last training: dict from epochs to dicts from names of explainers to
            float32 `(N,)`. What failed is missing.

    Args:
        images: A few images as the model takes them, `(N, H, W, channels)`; copied.
        explainers: Dict from names to what makes explainers of a model: `{"Grad-CAM": vis.GradCAM}`, or
            `{"conv2": lambda model: vis.GradCAM(model, "conv2")}`.
        folder: Where pictures go; made if it is missing.
        target: What is explained, see `vis.Saliency`. Default `None`: each image's top class, which changes as
            the network learns. Give the true classes to see the same question in every epoch.
        epochs: Which epochs, counted from 1 as Keras prints them, 0 for before training: a list, set or
            range. Default `None`: all.
        labels: Words to the left of the images, one for each. Default none.
        tensorboard: Folder for TensorBoard's image summaries. Default `None`: none. Needs the package
            `tensorboard`, or `tensorboardX`; without them it warns, and the PNG files are there.
        metric: What is measured of each map and written below it: `"srg"`, `"insertion"`, `"deletion"`, `"road"` or
            `"mu-fidelity"`, as `vis.metrics` makes them by default, or a function of the model that returns what is
            called as `metric(images, maps, target)` and gives `(N,)`: `vis.metrics.SRG`, or
            `lambda model: vis.metrics.SRG(model, fill=0.0)`. TensorBoard gets the means over the images as scalars.
            Default `None`: none.

    Raises:
        ValueError: The images are none, there are not as many targets or labels, the folder cannot be made, or
            there is an epoch below 0.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import tempfile, vis
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> images, folder = np.random.default_rng(0).random((4, 8, 8, 1)), tempfile.mkdtemp()
        >>> logger = ExplanationLogger(images[:2], {"saliency": vis.Saliency}, folder, target=[0, 1])
        >>> history = model.fit(images, np.eye(2)[[0, 1, 0, 1]], epochs=2, verbose=0, callbacks=[logger])
        >>> [path.name for path in logger.paths]
        ['epoch_000.png', 'epoch_001.png', 'epoch_002.png', 'epochs.gif']
        >>> logger = ExplanationLogger(images[:2], {"saliency": vis.Saliency}, folder, target=[0, 1], metric="srg")
        >>> history = model.fit(images, np.eye(2)[[0, 1, 0, 1]], epochs=2, verbose=0, callbacks=[logger])
        >>> sorted(logger.scores), logger.scores[2]["saliency"].shape
        ([0, 1, 2], (2,))
    """

    def __init__(
        self,
        images: ArrayLike,
        explainers: Mapping[str, Callable[[keras.Model], Explainer]],
        folder: str | os.PathLike,
        target: TargetLike = None,
        epochs: Iterable[int] | None = None,
        labels: Sequence[str] | None = None,
        tensorboard: str | os.PathLike | None = None,
        metric: str | Callable[[keras.Model], Callable[..., ArrayLike]] | None = None,
    ) -> None:
        super().__init__()
        count = len(plotting.as_pictures(images))
        if np.ndim(images) == 3 and np.shape(images)[-1] in (1, 3):
            raise ValueError(
                f"`images` must be a batch, (N, H, W, channels). Received: shape {np.shape(images)}. For one image, "
                "give `image[None]`."
            )
        self._images, self._target = np.array(images), _one_each("target", target, count)
        self._labels = _one_each("labels", labels, count)
        self._makers, self._epochs = _check_makers(explainers), _check_epochs(epochs)
        self._folder = _made("folder", folder)
        self._tensorboard = None if tensorboard is None else _path("tensorboard", tensorboard)
        self._make_metric = _check_metric(metric)
        self._explainers: dict[str, Explainer] = {}
        self._metric: Callable[..., ArrayLike] | None = None
        self._told: set[str] = set()
        self._writer, self._begun = None, False
        self.paths: list[pathlib.Path] = []
        self.scores: dict[int, dict[str, np.ndarray]] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begins anew; closes what an interrupted training left open."""
        self._explainers, self._metric, self._told, self._begun = {}, None, set(), False
        self._guarded(self._close, "for TensorBoard")
        self.paths, self.scores = [], {}
        if self._tensorboard is not None:
            self._guarded(self._open, "for TensorBoard")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Explains the network that the training begins with, if it is built."""
        if not self._begun and self.model.built:
            self._log(epoch)
        self._begun = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Explains the network as it is after an epoch."""
        self._log(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Writes the animation."""
        self._guarded(self._close, "for TensorBoard")
        self._guarded(self.animate, "at the end")

    def animate(self) -> pathlib.Path | None:
        """Writes `epochs.gif` of the pictures that there are: after a training that was interrupted, call it yourself.

        Returns:
            The file's path, or `None` where there is no picture.
        """
        frames = [path for path in self.paths if path.suffix == ".png"]
        if not frames:
            return None
        path = self._folder / "epochs.gif"
        write_gif(path, _opened(frames), _MILLISECONDS)
        self.paths = [*frames, path]
        return path

    def _log(self, epoch):
        if self._epochs is None or epoch in self._epochs:
            self._guarded(lambda: self._write(epoch), f"at epoch {epoch}")

    def _guarded(self, action, where):
        """Returns what `action()` returns, or `None` and a warning."""
        try:
            return action()
        except Exception as error:  # whatever it is, the training is worth more
            reason = f"{type(error).__name__}: {error}"
            if reason not in self._told:
                self._told.add(reason)
                warnings.warn(
                    f"ExplanationLogger wrote nothing {where}; the training goes on. {reason}",
                    VisualizationWarning,
                    stacklevel=2,
                )

    def _open(self):
        self._writer = backend.picture_writer(self._tensorboard)
        if self._writer is None:
            raise ImportError("Install the package `tensorboard` or `tensorboardX`. The PNG files are written anyway.")

    def _close(self):
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _write(self, epoch):
        from PIL import Image

        found = {name: self._guarded(lambda n=name: self._map(n), f"of {shown(name)}") for name in self._makers}
        maps = {name: own for name, own in found.items() if own is not None}
        if not maps:
            return
        scores = self._measured(maps, epoch)
        figure = plotting.gallery(self._images, maps, self._labels, scores=scores)
        words = f"; below each map: {self._metric_name}" if scores else ""
        figure.suptitle(f"epoch {epoch}{words}", parse_math=False)
        picture = plotting.rendered(figure)
        path = self._folder / f"epoch_{epoch:03d}.png"
        with whole_file(path) as temporary:
            Image.fromarray(picture).save(temporary)
        self.paths.append(path)
        if self._writer is not None:
            self._writer.add_image("explanations", picture, epoch, dataformats="HWC")
            for name, values in scores.items():
                self._writer.add_scalar(f"{self._metric_name}/{name}", float(values.mean()), epoch)

    def _map(self, name):
        if name not in self._explainers:
            self._explainers[name] = self._makers[name](self.model)
        return self._explainers[name](self._images, target=self._target)

    def _measured(self, maps, epoch):
        """Returns the metric of each explainer's maps, but for those that fail, and keeps it."""
        if self._make_metric is None:
            return {}
        found = {
            name: self._guarded(lambda own=own: self._score(own), f"below the maps of {shown(name)}")
            for name, own in maps.items()
        }
        scores = {name: values for name, values in found.items() if values is not None}
        if scores:
            self.scores[epoch] = scores
        return scores

    def _score(self, maps):
        if self._metric is None:
            self._metric = self._make_metric(self.model)
        values, count = check_numeric("metric", self._metric(self._images, maps, self._target)), len(self._images)
        if values.shape != (count,):
            raise ValueError(f"`metric` must give {count} numbers, one for each image. Received: shape {values.shape}.")
        return values

    @property
    def _metric_name(self):
        return getattr(self._metric, "name", "metric")


def _one_each(name, values, count):
    """Returns values, if there is one for each image; a number or a function is one for all."""
    if isinstance(values, str) or (name == "labels" and values is not None and not hasattr(values, "__len__")):
        raise TypeError(f"`{name}` must hold one entry for each of {count} images. Received: {shown(values)}.")
    if hasattr(values, "__len__") and getattr(values, "ndim", 1) and len(values) != count:
        raise ValueError(f"`{name}` must hold one entry for each of {count} images. Received: {shown(values)}.")
    return values


def _check_makers(explainers):
    if not isinstance(explainers, dict) or not explainers:
        raise TypeError(
            "`explainers` must be a dict from names to classes or functions of the model, such as "
            f"{{'Grad-CAM': vis.GradCAM}}. Received: {shown(explainers)}."
        )
    for name, make in explainers.items():
        if not callable(make) or isinstance(make, Explainer):
            raise TypeError(
                f"`explainers[{shown(name)}]` must be a class or a function of the model, such as `vis.GradCAM` or "
                f"`lambda model: vis.GradCAM(model, 'conv2')`. Received: {shown(make)}."
            )
    return dict(explainers)


def _check_metric(metric):
    """Returns the function that makes a metric of a model, or `None`."""
    if metric is None or (callable(metric) and not isinstance(metric, Metric)):
        return metric
    if not isinstance(metric, Metric):
        return pick("metric", metric, _METRICS)
    raise TypeError(
        "`metric` must be a name, or a class or a function of the model, such as `vis.metrics.SRG` or `lambda model: "
        f"vis.metrics.SRG(model, fill=0.0)`. Received: {shown(metric)}, which is made already."
    )


def _check_epochs(epochs):
    if epochs is None:
        return None
    if isinstance(epochs, str) or not hasattr(epochs, "__iter__"):
        raise TypeError(
            f"`epochs` must be a list, set or range, such as `range(0, 101, 10)`. Received: {shown(epochs)}."
        )
    return {check_count("epochs", epoch) for epoch in epochs}


def _path(name, folder):
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be the path of a folder. Received: {shown(folder)}.")
    return pathlib.Path(folder)


def _made(name, folder):
    """Returns the path of a folder, made if it is missing."""
    folder = _path(name, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`{name}` must be one that can be written. Received: {shown(str(folder), 150)} "
            f"({words_error(error, 150)})."
        ) from error
    return folder


def _opened(paths):
    """Yields pictures, one at a time."""
    from PIL import Image

    for path in paths:
        with Image.open(path) as picture:
            yield picture.copy()
