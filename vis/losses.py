"""Losses: what an input is judged by. Lower is better, as for every energy.

A loss names what it must see of the network (`sources`) and computes from that one
number a sample (`value`). It knows nothing of backends, gradients or loops. A loss
written for keras-vis, which only overrides `build_loss` with a symbolic expression,
works as it is.
"""

import numpy as np
from keras import ops

from vis.utils.formats import channel_axis, channels_last, data_format
from vis.utils.validation import check_index, is_integer, listify


class Loss:
    """A quantity to minimise over the input of a network.

    Subclass it in one of two ways. Either override `build_loss`, as in keras-vis, with an
    expression of `keras.ops` on `layer.output` and `model.inputs[0]`. Or override
    `sources` and `value`, which also works for nested and subclassed models.

    Attributes:
        name: Shown by callbacks and in error messages.

    Example:
        >>> import keras
        >>> class Energy(Loss):
        ...     def __init__(self, layer):
        ...         super().__init__()
        ...         self.name, self.layer = "energy", layer
        ...
        ...     def build_loss(self):
        ...         return keras.ops.sum(keras.ops.square(self.layer.output))
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> str(Energy(model.layers[-1]))
        'energy'
    """

    name = "Unnamed Loss"

    def __init__(self):
        self.name = "Unnamed Loss"

    def __str__(self):
        return self.name

    def arguments(self, shapes):
        """Returns what `value` takes besides tensors, as arrays that may change between calls.

        Args:
            shapes: One shape for each source, channels last.
        """
        return []

    def build_loss(self):
        """Returns the loss as a scalar symbolic expression (a `KerasTensor`)."""
        raise NotImplementedError(f"{type(self).__name__} must override `build_loss`, or `sources` and `value`.")


class ActivationMaximization(Loss):
    """The negative mean activation of some filters of a layer.

    Minimising it finds inputs that excite those filters. Its limit: where the layer ends
    in a softmax, a class can also be raised by lowering the others, so swap softmax for
    linear first (`vis.utils.utils.apply_modifications`).

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", equation 1.

    Args:
        layer: A Keras layer; or a name, path or index where a model is given to resolve it.
        filter_indices: Index, or sequence of indices, of channels (of units for a dense
            layer). `None` means all of them.

    Raises:
        TypeError: An index is not an integer.
        ValueError: `filter_indices` is empty; or, once the layer's output is known, an
            index is out of range.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> ActivationMaximization(model.layers[-1], 1).build_loss().shape
        ()
    """

    def __init__(self, layer, filter_indices):
        super().__init__()
        self.name = "ActivationMax Loss"
        self.layer = layer
        self.filter_indices = _read_indices(filter_indices)

    def sources(self):
        """Returns what `value` must see: the layer."""
        return [self.layer]

    def arguments(self, shapes):
        """Returns the indices as tensor arguments, checked against the layer's output shape.

        Args:
            shapes: One shape for each source, channels last.
        """
        size = shapes[0][-1]
        if size is None:
            raise ValueError(f"The number of channels of {_words(self.layer)} is unknown: build the model first.")
        if self.filter_indices is None:
            return [np.arange(size, dtype="int32")]
        what = f"{_words(self.layer)} with output shape {shapes[0]}"
        return [np.array([check_index("filter_indices", i, size, what) for i in self.filter_indices], "int32")]

    def value(self, tensors, arguments):
        """Returns the loss of each sample.

        Args:
            tensors: The layer's output, `(N, ..., channels)`.
            arguments: The indices, `(K,)`.

        Returns:
            Tensor `(N,)`: minus the sum over the filters of their mean over the positions.
        """
        chosen = ops.take(tensors[0], arguments[0], axis=-1)
        positions = tuple(range(1, len(chosen.shape) - 1))
        means = ops.mean(chosen, axis=positions) if positions else chosen
        return -ops.sum(means, axis=-1)

    def build_loss(self):
        """Returns the loss as a scalar expression: the mean of `value` over the batch."""
        output = layer_output(self.layer)
        if channel_axis(self.layer, len(output.shape)) == 1:
            output = channels_last(output, data_format(self.layer))
        return ops.mean(self.value([output], self.arguments([tuple(output.shape)])))


def layer_output(layer):
    """Returns the symbolic output of a layer's first call, or of a `Sequential`.

    Raises:
        ValueError: The layer was never called on a symbolic input.
    """
    try:
        output = layer.output
    except (AttributeError, ValueError) as error:
        outputs = getattr(layer, "outputs", None) or []
        if len(outputs) != 1:
            raise ValueError(
                f"{_words(layer)} has no symbolic output. Received: {layer!r}, expected: a layer of a built Functional "
                "or Sequential model. Build the model first (give it an `Input`), or pass the model itself instead of "
                "its input tensor."
            ) from error
        output = outputs[0]
    if isinstance(output, (list, tuple, dict)):
        raise ValueError(f"{_words(layer)} puts out {len(output)} tensors. Choose a layer with a single output.")
    return output


def _read_indices(filter_indices):
    if filter_indices is None:
        return None
    indices = [i for i in listify(filter_indices)]
    if indices == [None]:
        return None
    if not indices:
        raise ValueError("`filter_indices` must not be empty. Received: []. Use None for all filters.")
    if not all(is_integer(i) for i in indices):
        raise TypeError(
            "`filter_indices` must be an integer, a sequence of integers, or None for all filters. "
            f"Received: {filter_indices!r}."
        )
    return indices


def _words(layer):
    return f"layer '{getattr(layer, 'name', layer)}'"
