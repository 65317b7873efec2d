"""Callbacks: what watches an optimisation."""

from __future__ import annotations

import pathlib
import pprint
from typing import TYPE_CHECKING

import keras
import numpy as np

from vis.utils.files import check_writable, gif_frame, write_gif
from vis.utils.images import deprocess_input, to_bytes
from vis.utils.utils import draw_text
from vis.utils.validation import check_count, check_flag, check_input_range, shown, words_error

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_CAPTION_WIDTH = 64  # pixels
_MILLISECONDS = 100  # that each frame is shown


class OptimizerCallback:
    """Watches `Optimizer.minimize` or `vis.FeatureVisualization`; subclass it and override `callback`.

    Attributes:
        every: It is called for every so many-th iteration. Default 1. Large numbers let the optimisation
            run on without a stop.

    Examples:
        >>> class Count(OptimizerCallback):
        ...     calls = 0
        ...
        ...     def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        ...         self.calls += 1
        >>> Count().calls
        0
    """

    every = 1

    def callback(
        self,
        i: int,
        named_losses: Sequence[tuple[str, float]],
        overall_loss: float,
        grads: np.ndarray | None,
        wrt_value: np.ndarray | None,
    ) -> None:
        """Is called for every iteration, in order.

        Args:
            i: The iteration, from 0.
            named_losses: List of `(name, weighted value)`, one for each loss.
            overall_loss: Their sum.
            grads: Gradient with respect to `wrt_value`, after the gradient modifier, batch
                axis first. `vis.FeatureVisualization` gives `None`.
            wrt_value: The value that it is the gradient at, batch axis first. `vis.FeatureVisualization`
                gives the images after the step, in the input's range.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `callback`.")

    def on_end(self) -> None:
        """Is called once at the end, also after an exception. Closes what was opened."""


class Print(OptimizerCallback):
    """Prints the losses of every iteration: shows whether their weights are in balance.

    Args:
        every: Prints every so many-th iteration only, at least 1. Default 1.

    Examples:
        >>> Print(every=10).callback(9, [("TV Loss", 0.5)], 0.5, None, None)
        Iteration: 10, named_losses: [('TV Loss', 0.5)], overall loss: 0.5
    """

    def __init__(self, every: int = 1) -> None:
        self.every = check_count("every", every, 1)

    def callback(
        self,
        i: int,
        named_losses: Sequence[tuple[str, float]],
        overall_loss: float,
        grads: np.ndarray | None,
        wrt_value: np.ndarray | None,
    ) -> None:
        """Prints one line."""
        losses = pprint.pformat([(name, float(value)) for name, value in named_losses])
        print(f"Iteration: {i + 1}, named_losses: {losses}, overall loss: {float(overall_loss)}")


class GifGenerator(OptimizerCallback):
    """Writes the optimised image of every iteration into an animated GIF.

    The file is written at the end, also after an exception: with the images so far, and whole or not at all. An old
    file of that name is as it was until then. Images wait in memory, a byte a pixel; `every` makes them fewer.

    Args:
        path: The file; ".gif" is added if it is missing. Whether it can be written is asked at once, before the
            work, not after it.
        input_range: `(low, high)` of the model's input. Default (0, 255).
        every: Takes every so many-th iteration only, at least 1. Default 1.
        deprocess: Whether images are centred and scaled as `deprocess_input` does. Default `True`. Use
            `False` with `vis.FeatureVisualization`, whose images are in the range already.

    Raises:
        ValueError: The path cannot be written to, or `input_range` is upside down.

    Examples:
        >>> import tempfile
        >>> gif = GifGenerator(tempfile.mkdtemp() + "/progress")
        >>> gif.callback(0, [], 0.0, None, np.random.default_rng(0).random((1, 28, 28, 1)))
        >>> gif.on_end()
        >>> gif.path.name
        'progress.gif'
    """

    def __init__(
        self,
        path: str | os.PathLike,
        input_range: tuple[float, float] = (0, 255),
        every: int = 1,
        deprocess: bool = True,
    ) -> None:
        self.input_range = check_input_range(input_range)
        self.every, self._deprocess = check_count("every", every, 1), check_flag("deprocess", deprocess)
        path = str(path)
        self.path = pathlib.Path(path if path.endswith(".gif") else path + ".gif")
        try:
            check_writable(self.path)
        except OSError as error:
            raise ValueError(
                f"`path` must be a file that can be written. Received: {shown(str(self.path), 150)} "
                f"({words_error(error, 120)}). "
                "Create its folder first."
            ) from error
        self._frames: list = []

    def callback(
        self,
        i: int,
        named_losses: Sequence[tuple[str, float]],
        overall_loss: float,
        grads: np.ndarray | None,
        wrt_value: np.ndarray | None,
    ) -> None:
        """Appends one frame, with the step written on it where it is 64 pixels wide or more."""
        image = _picture(np.asarray(wrt_value)[0])
        frame = to_bytes(deprocess_input(image, self.input_range) if self._deprocess else image, self.input_range)
        if frame.shape[1] >= _CAPTION_WIDTH:  # on a smaller one the caption would hide the image
            frame = draw_text(frame, f"Step {i + 1}", position=(2, 2), font_size=10)
        self._frames.append(gif_frame(frame))

    def on_end(self) -> None:
        """Writes the file, if there is an image. A second run begins a new film in the same file."""
        frames, self._frames = self._frames, []
        if frames:
            write_gif(self.path, frames, _MILLISECONDS)


def _picture(value):
    """Returns a sample as `(H, W)` or `(H, W, 3)`."""
    if value.ndim == 3 and value.shape[0] in (1, 3) and _channels_first(value.shape):
        value = np.moveaxis(value, 0, -1)
    if value.ndim == 3 and value.shape[-1] == 1:
        value = value[..., 0]
    if value.ndim != 2 and (value.ndim != 3 or value.shape[-1] != 3):
        raise ValueError(f"A GIF needs images with one or three channels. Received: a value of shape {value.shape}.")
    return value


def _channels_first(shape):
    return shape[-1] not in (1, 3) or keras.config.image_data_format() == "channels_first"
