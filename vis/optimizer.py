"""The optimizer: finds the input that minimises weighted losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from vis.callbacks import Print
from vis.engine import descent
from vis.engine.energy import check_losses, energy_of, one_tensor
from vis.engine.inputs import model_input
from vis.utils.validation import listify

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike

    from vis.callbacks import OptimizerCallback
    from vis.input_modifiers import InputModifier
    from vis.utils.types import Callbacks, GradModifierLike, Tensor, WeightedLosses


class Optimizer:
    """Minimises weighted losses over the input of a network.

    Use it where the visualize functions are too narrow: own losses, gradients of inner
    tensors, own modifiers and callbacks.

    Args:
        input_tensor: Symbolic input of a Functional or Sequential model (`model.input`), or
            the model itself, which also reaches layers of nested and subclassed models.
        losses: List of pairs `(Loss, weight)`. A weight of 0 or `None` leaves a loss out.
        input_range: `(low, high)` that the resulting image is scaled to. Default (0, 255).
        wrt_tensor: Symbolic tensor that the gradient is taken of. Default `None`: the input.
            Only the input is updated; with another tensor, use `minimize` for the gradient.
        norm_grads: Whether each sample's gradient is divided by its root mean square, which
            makes for even progress. Default `True`. Use `False` to see the gradient itself.

    Attributes:
        input_tensor: The symbolic input (`None` for a subclassed model).
        wrt_tensor: What the gradient is taken of.
        wrt_tensor_is_input_tensor: Whether that is the input.

    Raises:
        ValueError: A loss does not depend on the input, no loss is left, or the model has
            several inputs.
        TypeError: Something is not of the expected kind.

    Examples:
        >>> from vis.losses import ActivationMaximization
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> optimizer = Optimizer(
        ...     model.inputs[0], [(ActivationMaximization(model.layers[-1], 0), 1)]
        ... )
        >>> image, grads, value = optimizer.minimize(max_iter=3, verbose=False)
        >>> image.shape, grads.shape
        ((4,), (1, 4))
    """

    def __init__(
        self,
        input_tensor: Tensor | keras.Model,
        losses: WeightedLosses,
        input_range: tuple[float, float] = (0, 255),
        wrt_tensor: Tensor | None = None,
        norm_grads: bool = True,
    ) -> None:
        self._losses, self._weights = check_losses(losses)
        self.input_range = input_range
        if isinstance(input_tensor, keras.Model):
            self.input_tensor = model_input(input_tensor)
        else:
            self.input_tensor = one_tensor("input_tensor", input_tensor)
        self._model = input_tensor  # an energy refers to a model weakly
        self.wrt_tensor = self.input_tensor if wrt_tensor is None else one_tensor("wrt_tensor", wrt_tensor)
        self.wrt_tensor_is_input_tensor = self.wrt_tensor is self.input_tensor
        wrt = None if self.wrt_tensor_is_input_tensor else self.wrt_tensor
        self._energy = energy_of(input_tensor, self._losses, wrt, norm_grads=norm_grads)

    def minimize(
        self,
        seed_input: ArrayLike | None = None,
        max_iter: int = 200,
        input_modifiers: Sequence[InputModifier] | None = None,
        grad_modifier: GradModifierLike | None = None,
        callbacks: Callbacks | None = None,
        verbose: bool = True,
        optimizer: keras.optimizers.Optimizer | None = None,
        seed: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Runs gradient descent on the input.

        A step applies the `pre` of the input modifiers in order, evaluates losses and
        gradient, applies the gradient modifier, calls the callbacks, updates the input, and
        applies the `post` of the input modifiers in reverse order.

        Args:
            seed_input: Where to start: an array with or without the batch axis, channels
                last or where the model wants them. Not changed. Default `None`: noise with the
                middle of `input_range` as mean and 5 % of it as standard deviation.
            max_iter: Number of steps. Default 200. 0 returns the seed (through
                `deprocess_input`, as every image), and no gradient.
            input_modifiers: List of `vis.input_modifiers.InputModifier`. Default none.
            grad_modifier: Name or callable, see `vis.grad_modifiers`. Default none.
            callbacks: List of `vis.callbacks.OptimizerCallback`. Not changed. Their `on_end`
                runs after an exception too.
            verbose: Whether to print the losses of every step. Default `True`.
            optimizer: A Keras optimizer; a copy is used. Default `None`: RMSProp as in
                keras-vis.
            seed: Integer that makes the drawn seed input repeatable. Default `None`.

        Returns:
            `(image, grads, wrt_value)`. `image` is `deprocess_input` of the first sample of the
            input with the lowest loss, without batch axis. `grads` and `wrt_value` are of the
            last step, with batch axis; the gradient points where the loss rises.

        Raises:
            ValueError: The seed does not fit the model, or an argument has a wrong value.
            TypeError: An argument is of the wrong kind.
            FloatingPointError: A loss became NaN or infinite; the message names it.
        """
        options = descent.Options(
            seed_input, max_iter, input_modifiers, grad_modifier, watchers(callbacks, verbose), optimizer, seed
        )
        return descent.minimize(self._energy, self._losses, self._weights, self.input_range, options)


def watchers(callbacks: Callbacks | None, verbose: bool) -> list[OptimizerCallback]:
    """Returns the callbacks as a list, with the one that prints the losses if `verbose` is set."""
    return ([] if callbacks is None else listify(callbacks)) + ([Print()] if verbose else [])
