"""Energies: weighted losses of one network as a function of its input.

A reader runs the network and hands over the tensors that the losses ask for; the losses
make numbers of them; the seam differentiates.
"""

import numbers

import keras
import numpy as np
from keras import ops

from vis.engine.graph import find_layer, preserved_nodes
from vis.engine.inputs import model_input
from vis.engine.memory import Memory
from vis.engine.readers import ModelReader, SymbolReader
from vis.engine.surrogates import installed
from vis.engine.taps import shadowed, surgery
from vis.utils.formats import channels_in_place, channels_last
from vis.utils.images import EPSILON
from vis.utils.outputs import layer_output
from vis.utils.validation import shown


class Energy:
    """Weighted losses over one reader, and their gradient, compiled.

    The structure (which losses, which layers) is fixed; filter indices and weights are
    tensor arguments, so that another class needs no new trace.

    Args:
        reader: Where the tensors come from.
        losses: Losses, in the order of the reader's sources.
        rule: Backward rule, or `None`.
        norm_grads: Whether each sample's gradient is divided by its root mean square.
    """

    def __init__(self, reader, losses, rule=None, norm_grads=False):
        if losses_need_floats(reader):
            raise ValueError(
                f"The model's input has dtype {reader.input_dtype}, and whole numbers have no gradient. Give a later "
                "tensor as `wrt_tensor`, such as the output of the embedding or of the layer that rescales the image."
            )
        self.reader = reader
        self._values = [scalar_value if is_symbolic(loss) else type(loss).value.__get__(loss) for loss in losses]
        self._counts = [1 if is_symbolic(loss) else len(loss.sources()) for loss in losses]
        self._rule = rule
        self._norm_grads = norm_grads
        self._shapes = None
        self.memory = Memory(reader.root)

    @property
    def size(self) -> int:
        """The number of losses."""
        return len(self._values)

    @property
    def variables(self) -> list:
        """The Keras variables that are read."""
        return self.reader.variables

    @property
    def input_shape(self) -> tuple | None:
        """The input's shape, batch axis first, as far as it is known."""
        return self.reader.input_shape

    @property
    def input_format(self) -> str:
        """Where the input has its channels."""
        return self.reader.input_format

    @property
    def is_of_input(self) -> bool:
        """Whether the gradient is taken of the input itself."""
        return self.reader.wrt_is_input

    def read_input(self, name, value) -> np.ndarray:
        """Returns an input as a batch, checked, with its channels where the model wants them.

        Args:
            name: The argument's name, for messages.
            value: One sample or a batch.
        """
        return channels_in_place(name, value, self.reader.input_shape, self.reader.input_format)

    def arguments(self, losses, x):
        """Returns the losses' tensor arguments, checked against the layers' shapes."""
        if self._shapes is None or self._shapes[0] != x.shape:
            self._shapes = x.shape, self.reader.shapes(x)
        shapes = iter(self._shapes[1])
        taken = [[next(shapes) for _ in range(count)] for count in self._counts]
        found = [[] if is_symbolic(loss) else list(loss.arguments(own)) for loss, own in zip(losses, taken)]
        return [own + self._on_image(i, loss) for i, (own, loss) in enumerate(zip(found, losses))]

    def _on_image(self, index, loss):
        """Returns what a loss's sources are on its own image, where it has one."""
        if getattr(loss, "image", None) is None:
            return []
        image = self.read_input("image", loss.image)
        read = self.compiled("read", lambda: self._read, eager_first=False)  # the same bits at each call
        start = sum(self._counts[:index])
        return [ops.convert_to_numpy(t) for t in read(image)[start : start + self._counts[index]]]

    def _read(self, x):
        return [channels_last(ops.cast(t, "float32"), f) for t, f in zip(self.reader.read(x), self.reader.formats)]

    def evaluate(self, losses, weights, x, coming=1):
        """Evaluates the losses once.

        Args:
            losses: Losses of this energy's structure.
            weights: One number for each loss.
            x: Input batch `(N, ...)`, an array.
            coming: How many evaluations are known to come, this one included.

        Returns:
            Arrays `(terms, gradient, value)`: the weighted losses `(K, N)`, the gradient of
            their sum, and the value that it is the gradient at.

        Raises:
            ValueError: The losses do not depend on what the gradient is taken of.
        """
        call = self.compiled("evaluate", lambda: self.terms_and_gradient)
        results = call(self.arguments(losses, x), np.asarray(weights, "float32"), x, coming=coming)
        return tuple(ops.convert_to_numpy(result) for result in results)

    def compiled(self, key, make, eager_first=True):
        """Returns the compiled form of the function that `make()` returns, made once a key.

        What was compiled before a layer or activation of the model changed is forgotten.
        """
        self.forget_changed()
        return self.memory.compiled(key, make, self.reader.variables, eager_first)

    def forget_changed(self):
        """Forgets what was made before a layer or an activation of the model changed."""
        if self.memory.forget_changed():
            self.reader.forget()

    def terms_and_gradient(self, arguments, weights, x):
        """Computes what `evaluate` returns, as tensors; for use inside compiled functions."""

        def score(tensors):
            terms = self._terms(tensors, arguments, ops.shape(x)[0]) * weights[:, None]
            return ops.sum(terms, axis=0), terms

        with surgery(), shadowed(), installed(self.reader.root, self._rule):
            _, terms, value, gradient = self.reader.differentiate(score, ops.convert_to_tensor(x))
        if gradient is None:
            raise ValueError(
                f"The losses do not depend on {self.reader.words_wrt()}, so there is no gradient to show. Choose a "
                "layer between the input and the output that is explained. Where whole numbers come in (an "
                "embedding), there is no gradient: give the embedding's output as `wrt_tensor`."
            )
        value, gradient = ops.cast(value, "float32"), ops.cast(gradient, "float32")
        if self._norm_grads:
            axes = tuple(range(1, len(gradient.shape)))
            gradient = gradient / (ops.sqrt(ops.mean(ops.square(gradient), axis=axes, keepdims=True)) + EPSILON)
        return terms, gradient, value

    def terms(self, arguments, x, rule=None):
        """Computes the losses `(K, N)`, for use inside compiled functions.

        Args:
            arguments: As `arguments` returns them.
            x: Input batch, a tensor.
            rule: Backward rule that is used instead of the energy's own.
        """
        with surgery(), shadowed(), installed(self.reader.root, rule or self._rule):
            return self._terms(self.reader.read(x), arguments, ops.shape(x)[0])

    def _terms(self, tensors, arguments, count):
        tensors = [channels_last(ops.cast(t, "float32"), f) for t, f in zip(tensors, self.reader.formats)]
        tensors, terms = iter(tensors), []
        for value, number, own in zip(self._values, self._counts, arguments):
            term = value([next(tensors) for _ in range(number)], own)
            if value is scalar_value:  # shared out evenly
                term = ops.broadcast_to(term / ops.cast(count, "float32"), (count,))
            terms.append(_one_a_sample(term, count))
        return ops.stack(terms)


def _one_a_sample(term, count):
    shape = getattr(term, "shape", None)
    if not ops.is_tensor(term) or tuple(shape) != (count,):
        raise ValueError(
            f"`value` of a loss must return one number a sample, a tensor of shape ({count},) made with `keras.ops`. "
            f"Received: {type(term).__name__} of shape {shape}."
        )
    return term


def losses_need_floats(reader) -> bool:
    """Tells whether a gradient is wanted of an input of whole numbers."""
    return reader.wrt_is_input and not keras.backend.is_float_dtype(reader.input_dtype)


def scalar_value(tensors, arguments):
    """Reads a loss that is already a symbolic expression: it stands for the whole batch."""
    return ops.sum(tensors[0])


def is_symbolic(loss) -> bool:
    """Tells whether a loss is given by `build_loss` alone, as in keras-vis."""
    for kind in type(loss).__mro__:
        if "value" in vars(kind):
            return False
        if "build_loss" in vars(kind):
            return True
    return True


def check_losses(losses, name="losses"):
    """Returns the losses and weights in use; those of weight 0 or `None` are left out.

    Args:
        losses: List of pairs `(Loss, weight)`.
        name: The argument's name, for messages.

    Raises:
        TypeError: Something is not a pair of a `Loss` and a number.
        ValueError: No loss is left, or a weight is not finite.
    """
    if not isinstance(losses, (tuple, list)):
        raise TypeError(f"`{name}` must be a list of pairs (Loss, weight). Received: {shown(losses)}.")
    pairs = []
    for pair in losses:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not _is_loss(pair[0]):
            raise TypeError(f"`{name}` must be a list of pairs (Loss, weight). Received an item: {shown(pair)}.")
        loss, weight = pair
        if weight is not None and not isinstance(weight, numbers.Real):
            raise TypeError(f"The weight of {loss.name!r} must be a number. Received: {shown(weight)}.")
        if weight is not None and not np.isfinite(weight):
            raise ValueError(f"The weight of {loss.name!r} must be a finite number. Received: {weight}.")
        if weight:
            pairs += [(term, float(weight) * own) for term, own in getattr(loss, "terms", [(loss, 1.0)]) if own]
    if not pairs:
        raise ValueError(f"`{name}` must hold at least one loss with a weight other than 0. Received: none.")
    return [loss for loss, _ in pairs], [weight for _, weight in pairs]


def _is_loss(value):
    return hasattr(value, "build_loss") and not isinstance(value, type)


def energy_of(source, losses, wrt=None, rule=None, norm_grads=False):
    """Returns the energy of losses on a model, or on its symbolic input.

    Args:
        source: A model, or the one symbolic input of a Functional or Sequential model.
        losses: The losses.
        wrt: Layer or symbolic tensor that the gradient is taken of; `None` for the input.
        rule: Backward rule, or `None`.
        norm_grads: See `Energy`.

    Raises:
        ValueError: A loss or `wrt` is not computed from the input.
        TypeError: `source` or `wrt` is of another kind.
    """
    if wrt is not None and not isinstance(wrt, keras.Layer):
        wrt = one_tensor("wrt_tensor", wrt)
    if isinstance(source, keras.Model):
        own = model_input(source)
        if not _is_tensor(wrt) and not any(_needs_symbols(loss, own) for loss in losses):
            return model_energy(source, losses, wrt, rule, norm_grads)
        return symbol_energy(own, losses, wrt, rule, norm_grads, source)
    return symbol_energy(one_tensor("input_tensor", source), losses, wrt, rule, norm_grads)


def one_tensor(name, tensor):
    """Returns one symbolic tensor, also out of a list of one."""
    if isinstance(tensor, (list, tuple)) and len(tensor) == 1:
        tensor = tensor[0]
    if not _is_tensor(tensor):
        raise TypeError(
            f"`{name}` must be one symbolic tensor, such as `model.inputs[0]`. Received: {shown(tensor)}. "
            "Of a model with several inputs, fix the others in a Functional model around it."
        )
    return tensor


def _is_tensor(value):
    return keras.backend.is_keras_tensor(value)


def _needs_symbols(loss, own_input):
    return is_symbolic(loss) or any(_is_tensor(s) and s is not own_input for s in loss.sources())


def symbol_energy(input_tensor, losses, wrt=None, rule=None, norm_grads=False, model=None):
    """Returns the energy of losses on symbolic tensors; `model` resolves the names of layers."""
    wrt = layer_output(wrt) if isinstance(wrt, keras.Layer) else wrt
    wrt = None if wrt is None or wrt is input_tensor else one_tensor("wrt_tensor", wrt)
    with preserved_nodes(input_tensor):
        sources = [_found(s, model) for loss in losses for s in _symbols(loss)]
        return Energy(SymbolReader(input_tensor, sources, wrt), losses, rule, norm_grads)


def _found(source, model):
    if source is None or isinstance(source, keras.Layer) or _is_tensor(source):
        return source
    if model is None:
        raise ValueError(
            f"A layer can only be given by name, path or index where the model is known. Received: {shown(source)}. "
            "Give "
            "the layer object, or pass the model itself instead of its input tensor."
        )
    return find_layer(model, source)


def _symbols(loss):
    if not is_symbolic(loss):
        return loss.sources()
    built = loss.build_loss()
    if not _is_tensor(built):
        raise TypeError(
            f"`build_loss` of {loss.name!r} must return a symbolic tensor, made with `keras.ops` from `layer.output` "
            f"or `model.inputs[0]`. Received: {shown(built)}."
        )
    return [built]


def model_energy(model, losses, wrt_layer=None, rule=None, norm_grads=False):
    """Returns the energy of losses on the layers of any model."""
    own = model_input(model)
    sources = [None if s is own else s for loss in losses for s in loss.sources()]
    return Energy(ModelReader(model, sources, wrt_layer), losses, rule, norm_grads)
