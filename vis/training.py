"""What a network looks at while it learns."""

import pathlib
import warnings

import keras
import numpy as np

from vis import backend, plotting
from vis.explainer import Explainer
from vis.utils.validation import VisualizationWarning, check_count


class ExplanationLogger(keras.callbacks.Callback):
    """Explains a few fixed images after each epoch, and writes pictures of it.

    Give it to `model.fit(callbacks=[...])`. Into a folder go `epoch_000.png` (before training),
    `epoch_001.png` and so on, and at the end `epochs.gif`, the same as an animation. Files of an earlier run
    are written over. Every map is scaled by itself, so the pictures tell where the evidence is, not how much.

    It costs what its explainers cost on these images, and never stops a training: what fails here becomes a
    warning, and the next epoch is tried again.

    Attributes:
        paths: The files of the last training, `pathlib.Path`s.

    Args:
        images: A few images as the model takes them, `(N, H, W, channels)`.
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

    Raises:
        ValueError: The images are none, the folder cannot be made, or there is an epoch below 0.
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
    """

    def __init__(self, images, explainers, folder, target=None, epochs=None, labels=None, tensorboard=None):
        super().__init__()
        count = len(plotting.as_pictures(images))
        if labels is not None and len(labels) != count:
            raise ValueError(f"`labels` must hold one word for each of {count} images. Received: {labels!r:.80}.")
        self._images, self._target, self._labels = images, target, labels
        self._makers, self._epochs = _check_makers(explainers), _check_epochs(epochs)
        self._folder, self._tensorboard = _made(folder), tensorboard
        self._explainers, self._writer, self.paths = None, None, []

    def on_train_begin(self, logs=None):
        """Explains the untrained network, if it is built."""
        self._explainers, self._writer, self.paths = None, None, []
        if self._tensorboard is not None:
            self._guarded(self._open, "for TensorBoard")
        if self.model.built:
            self._log(0)

    def on_epoch_end(self, epoch, logs=None):
        """Explains the network as it is after an epoch."""
        self._log(epoch + 1)

    def on_train_end(self, logs=None):
        """Writes the animation."""
        self._guarded(self._finish, "at the end")

    def _log(self, epoch):
        if self._epochs is None or epoch in self._epochs:
            self._guarded(lambda: self._write(epoch), f"at epoch {epoch}")

    def _guarded(self, action, where):
        try:
            action()
        except Exception as error:  # whatever it is, the training is worth more
            warnings.warn(
                f"ExplanationLogger wrote nothing {where}; the training goes on. {type(error).__name__}: {error}",
                VisualizationWarning,
                stacklevel=2,
            )

    def _open(self):
        self._writer = backend.picture_writer(self._tensorboard)
        if self._writer is None:
            raise ImportError("Install the package `tensorboard` or `tensorboardX`. The PNG files are written anyway.")

    def _write(self, epoch):
        from PIL import Image  # only where pictures are made

        if self._explainers is None:
            self._explainers = {name: make(self.model) for name, make in self._makers.items()}
        maps = {name: explain(self._images, target=self._target) for name, explain in self._explainers.items()}
        figure = plotting.gallery(self._images, maps, self._labels)
        figure.suptitle(f"epoch {epoch}")
        picture = plotting.rendered(figure)
        path = self._folder / f"epoch_{epoch:03d}.png"
        Image.fromarray(picture).save(path)
        self.paths.append(path)
        if self._writer is not None:
            self._writer.add_image("explanations", picture, epoch, dataformats="HWC")

    def _finish(self):
        from PIL import Image

        if self._writer is not None:
            self._writer.close()
        if self.paths:
            animation = self._folder / "epochs.gif"
            plotting.save_gif([np.asarray(Image.open(path)) for path in self.paths], animation, fps=2)
            self.paths.append(animation)


def _check_makers(explainers):
    if not isinstance(explainers, dict) or not explainers:
        raise TypeError(
            "`explainers` must be a dict from names to classes or functions of the model, such as "
            f"{{'Grad-CAM': vis.GradCAM}}. Received: {explainers!r:.80}."
        )
    for name, make in explainers.items():
        if not callable(make) or isinstance(make, Explainer):
            raise TypeError(
                f"`explainers[{name!r}]` must be a class or a function of the model, such as `vis.GradCAM` or "
                f"`lambda model: vis.GradCAM(model, 'conv2')`. Received: {make!r:.80}."
            )
    return dict(explainers)


def _check_epochs(epochs):
    if epochs is None:
        return None
    if isinstance(epochs, str) or not hasattr(epochs, "__iter__"):
        raise TypeError(f"`epochs` must be a list, set or range, such as `range(0, 101, 10)`. Received: {epochs!r}.")
    return {check_count("epochs", epoch) for epoch in epochs}


def _made(folder):
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"`folder` must be one that can be written. Received: {str(folder)!r} ({error}).") from error
    return folder
