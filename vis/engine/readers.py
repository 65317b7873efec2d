"""Readers: they run a network and hand over the tensors that were asked for.

Where the tensors come from (layers of a real forward call, or symbolic tensors of a graph)
is a reader's business alone; whoever asks gets tensors, a value and a gradient.
"""

import keras
from keras import ops

from vis import backend
from vis.engine.inputs import model_input, model_input_format, model_input_shape, single_layout
from vis.engine.network import Network
from vis.engine.requests import site
from vis.utils.formats import data_format, input_data_format
from vis.utils.internals import run, steps
from vis.utils.outputs import known_shape, layer_output


class ModelReader:
    """Reads layers of any model from a real forward call.

    Holds the model weakly, so that a cache of readers keeps no model alive.

    Args:
        model: Any built Keras model with one input.
        sources: Layers (or their names, paths, indices); `None` stands for the input.
        wrt_layer: Layer whose output the gradient is taken of; `None` for the input.
    """

    def __init__(self, model, sources, wrt_layer=None):
        self._network = Network(model, logits=False)
        self._sources = [site(model, source) for source in sources]
        self._wrt = site(model, wrt_layer)
        own = model_input(model)
        self.input_shape, self.input_format = model_input_shape(model), model_input_format(model)
        self.input_dtype = "float32" if own is None else keras.backend.standardize_dtype(own.dtype)
        self._layout = single_layout(model, self.input_shape)
        self.formats = [self.input_format if s is None else data_format(s.layer(model)) for s in self._sources]
        self.wrt_is_input = wrt_layer is None

    @property
    def root(self):
        """What backward rules are installed in."""
        return self._network.model

    @property
    def variables(self):
        """The Keras variables that are read."""
        return self.root.variables

    def differentiate(self, function, x):
        """Returns `(score, aux, value, gradient)` of `function(tensors) -> (score, aux)`."""
        if self._wrt is None:
            score, aux, gradient = backend.value_and_grad(lambda x: function(self.read(x)), x)
            return score, aux, x, gradient
        score, aux, values, gradients, _ = backend.value_and_grad_at(
            lambda mark, _: function(self.read(x, mark)), [(self._wrt.key, self._wrt.call)]
        )
        return score, aux, values[0], gradients[0]

    def read(self, x, mark=None):
        """Returns the sources on an input.

        Args:
            x: Input batch, a tensor.
            mark: Function `(key, output) -> output` that the output of `wrt_layer` is passed through.
        """
        wanted = [one for one in [*self._sources, self._wrt if mark else None] if one is not None]
        marks = None if mark is None else self._marking(mark)
        outputs = iter(self._network.read(wanted, self._layout, [x], marks))
        return [x if source is None else next(outputs) for source in self._sources]

    def _marking(self, mark):
        return lambda key, output: mark(key, output) if key == self._wrt.key else output

    def shapes(self, x):
        """Returns the shapes of the sources, channels last.

        A subclassed model does not know them: it is run once on `x`.
        """
        known = [x.shape if s is None else known_shape(s.layer(self.root)) for s in self._sources]
        if None in known:
            known = [tensor.shape for tensor in self.read(ops.convert_to_tensor(x))]
        return [_channels_last(shape, form) for shape, form in zip(known, self.formats)]

    def forget(self):
        """Forgets how often layers run, where the model may have changed."""
        self._network.calls.clear()

    def words_wrt(self):
        """Words what the gradient is taken of."""
        return "the input" if self._wrt is None else f"layer {self._wrt.layer(self.root).name!r}"


class SymbolReader:
    """Reads symbolic tensors of a Functional or Sequential model.

    Args:
        input_tensor: The model's symbolic input.
        sources: Symbolic tensors, or layers (their first call is meant); `None` stands for
            the input.
        wrt_tensor: Symbolic tensor that the gradient is taken of; `None` for the input.
    """

    def __init__(self, input_tensor, sources, wrt_tensor=None):
        self.input_format = input_data_format(input_tensor)
        tensors = [input_tensor if s is None else s for s in sources]
        self.formats = [self._format(s, input_tensor) for s in tensors]
        tensors = [layer_output(s) if isinstance(s, keras.Layer) else s for s in tensors]
        self.wrt_is_input = wrt_tensor is None
        self._tensors = tensors
        self._wrt = wrt_tensor
        self.input_shape = tuple(input_tensor.shape)
        self.input_dtype = keras.backend.standardize_dtype(input_tensor.dtype)
        if wrt_tensor is None:
            self._function = _symbolic_function([input_tensor], tensors)
        else:
            self._head = _symbolic_function([input_tensor], [wrt_tensor])
            self._function = _symbolic_function([input_tensor, wrt_tensor], tensors)
        self._root = keras.Function([input_tensor], tensors + ([] if wrt_tensor is None else [wrt_tensor]))
        held = [op for op in self._root.operations if isinstance(op, keras.Layer)]
        self.variables = list({id(v): v for layer in held for v in layer.variables}.values())

    @staticmethod
    def _format(source, input_tensor):
        if isinstance(source, keras.Layer):
            return data_format(source)
        return input_data_format(input_tensor) if source is input_tensor else "as it is"

    @property
    def root(self):
        """What backward rules are installed in."""
        return self._root

    def read(self, x):
        """Returns the tensors on an input."""
        return self._function([x])

    def differentiate(self, function, x):
        """Returns `(score, aux, value, gradient)` of `function(tensors) -> (score, aux)`."""
        if self._wrt is None:
            score, aux, gradient = backend.value_and_grad(lambda x: function(self.read(x)), x)
            return score, aux, x, gradient
        value = self._head([x])[0]
        score, aux, gradient = backend.value_and_grad(lambda value: function(self._function([x, value])), value)
        return score, aux, value, gradient

    def forget(self):
        """Does nothing: symbolic tensors do not change."""

    def shapes(self, x):
        """Returns the shapes of the sources, channels last."""
        return [_channels_last(tensor.shape, form) for tensor, form in zip(self._tensors, self.formats)]

    def words_wrt(self):
        """Words what the gradient is taken of."""
        return "the input" if self._wrt is None else f"`wrt_tensor` ({self._wrt.name})"


class _Graph:
    """A function of symbolic tensors anywhere in a graph; a `keras.Function` begins at inputs only, before Keras 3.14.

    Args:
        inputs: What it is a function of.
        outputs: What it computes.

    Raises:
        ValueError: The outputs depend on other inputs.
    """

    def __init__(self, inputs, outputs):
        self._inputs, self._outputs, self._steps = inputs, outputs, steps(outputs, inputs)

    def __call__(self, values):
        computed = run(self._steps, {id(symbol): value for symbol, value in zip(self._inputs, values)})
        return [computed[id(symbol)] for symbol in self._outputs]


def _symbolic_function(inputs, outputs):
    try:
        return _Graph(inputs, outputs)
    except ValueError as error:
        raise ValueError(
            "The losses must be computed from `input_tensor`. Received: a loss or `wrt_tensor` that does not depend on "
            f"{inputs[0].name} {tuple(inputs[0].shape)}; it may belong to another model, or to a layer nested in "
            "another one. Pass the model itself instead of its input tensor to reach nested layers."
        ) from error


def _channels_last(shape, form):
    """Returns a batch's shape as `channels_last` would leave it."""
    shape = tuple(shape)
    return shape[:1] + shape[2:] + shape[1:2] if form == "channels_first" and len(shape) > 2 else shape
