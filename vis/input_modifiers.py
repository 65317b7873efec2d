"""Input modifiers: what is done to an input before and after each optimisation step."""

import keras
import numpy as np

from vis.utils.images import generator
from vis.utils.validation import listify


class InputModifier:
    """Changes the input around each step of `Optimizer.minimize`.

    Override `pre`, `post` or both; what is not overridden returns its argument.

    Example:
        >>> class Clip(InputModifier):
        ...     def post(self, inp):
        ...         return np.clip(inp, 0, 1)
        >>> Clip().post(np.array([-1.0, 2.0])).tolist()
        [0.0, 1.0]
    """

    def pre(self, inp):
        """Returns the input to evaluate.

        Args:
            inp: Batch of inputs, a float32 array. Do not change it in place.
        """
        return inp

    def post(self, inp):
        """Returns the input to go on with, after the update.

        Args:
            inp: Batch of inputs, a float32 array. Do not change it in place.
        """
        return inp


class Jitter(InputModifier):
    """Rolls the input by a random offset before each step, which gives crisper images.

    What leaves on one side comes back on the other: no value is lost or made up.

    Source: Mordvintsev et al. 2015, "Inceptionism".

    Args:
        jitter: One number for all spatial axes, or one for each. Below 1 it is a fraction
            of the axis, else a number of pixels, rounded down. An axis is rolled by a whole
            number drawn evenly from [-jitter, jitter]. Default 0.05.
        seed: Integer for repeatable offsets. Default `None`.
        data_format: `"channels_first"` or `"channels_last"`. Default: Keras's setting.

    Raises:
        ValueError: A value is negative or not finite; or, once an input is seen, the number
            of values is not that of its spatial axes.

    Example:
        >>> x = np.arange(25.0).reshape(1, 5, 5, 1)
        >>> y = Jitter(2, seed=0).pre(x)
        >>> y.shape, sorted(y.ravel()) == sorted(x.ravel())
        ((1, 5, 5, 1), True)
    """

    def __init__(self, jitter=0.05, seed=None, data_format=None):
        values = np.array(listify(jitter))
        if values.dtype.kind not in "iuf" or values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                "`jitter` must be a number, or one for each spatial axis, none negative. "
                f"Received: jitter={jitter!r}. Below 1 it is a fraction of the axis, else pixels."
            )
        self.jitter = values.astype("float64")
        self._data_format = data_format
        self._generator = None if seed is None else generator(seed)

    def pre(self, inp):
        """Returns the input, rolled."""
        inp = np.asarray(inp)
        form = self._data_format or keras.config.image_data_format()
        first = 2 if form == "channels_first" else 1
        sizes = inp.shape[first : first + inp.ndim - 2]
        draw = self._generator or generator()
        offsets = [int(draw.integers(-v, v + 1)) for v in self.pixels(sizes)]
        return np.roll(inp, offsets, axis=tuple(range(first, first + len(sizes))))

    def pixels(self, sizes) -> list:
        """Returns the largest offset of each spatial axis, in pixels.

        Args:
            sizes: Lengths of the axes.
        """
        values = np.repeat(self.jitter, len(sizes)) if len(self.jitter) == 1 else self.jitter
        if len(values) != len(sizes):
            raise ValueError(
                f"`jitter` must be one number or one for each of the {len(sizes)} spatial axes. "
                f"Received: {len(values)} numbers, {values.tolist()}."
            )
        return [int(v * size if v < 1 else v) for v, size in zip(values, sizes)]
