"""The engine: weighted losses of one network as a function of its input.

A reader runs the network and hands over the tensors that the losses ask for; the losses
make numbers of them; the seam differentiates. Where the tensors come from is the
reader's business alone.
"""

import threading
import weakref

import keras
import numpy as np
from keras import ops

from vis import backend
from vis.backprop_modifiers import installed
from vis.graph import find_layer, fingerprint, preserved_nodes, record, same, walk
from vis.losses import layer_output
from vis.utils.formats import channels_last, data_format, input_data_format
from vis.utils.images import EPSILON


class ModelReader:
    """Reads layers of any model from a real forward call.

    Holds the model weakly, so that a cache of readers keeps no model alive.

    Args:
        model: Any built Keras model with one input.
        sources: Layers (or their names, paths, indices); `None` stands for the input.
        wrt_layer: Layer whose output the gradient is taken of; `None` for the input.
    """

    def __init__(self, model, sources, wrt_layer=None):
        self._model = weakref.ref(model)
        self._sources = [None if s is None else find_layer(model, s) for s in sources]
        self._wrt_layer = wrt_layer
        self.input_format = model_input_format(model)
        self.formats = [self.input_format if s is None else data_format(s) for s in self._sources]
        self.wrt_is_input = wrt_layer is None
        self.variables = model.variables
        self.input_shape = model_input_shape(model)

    @property
    def root(self):
        """What backward rules are installed in."""
        return self._model()

    def differentiate(self, function, x):
        """Returns `(score, aux, value, gradient)` of `function(tensors) -> (score, aux)`."""
        if self._wrt_layer is None:
            score, aux, gradient = backend.value_and_grad(lambda x: function(self._read(x)), x)
            return score, aux, x, gradient
        return backend.value_and_grad_at(lambda mark: function(self._read(x, mark)))

    def _read(self, x, mark=None):
        wanted = [layer for layer in self._sources if layer is not None]
        outputs = iter(record(lambda: self._call(x), wanted, self._wrt_layer if mark else None, mark))
        return [x if layer is None else next(outputs) for layer in self._sources]

    def shapes(self, x):
        """Returns the shapes of the sources, channels last.

        A subclassed model does not know them: it is run once on `x`.
        """
        known = [x if s is None else _symbolic_output(s) for s in self._sources]
        if any(tensor is None for tensor in known):
            known = self._read(ops.convert_to_tensor(x))
        return [shape_channels_last(tensor.shape, form) for tensor, form in zip(known, self.formats)]

    def _call(self, x):
        model = self._model()
        if self.input_shape is not None and None not in self.input_shape[1:]:
            return model(x, training=False)  # `x` was checked: an error is the model's own
        try:
            return model(x, training=False)
        except Exception as error:  # the user's code, it may raise anything
            raise ValueError(
                f"Model '{model.name}' could not be called on the input. Received: shape {tuple(x.shape)}. It must "
                f"have the batch axis first and fit the model (one sample: add an axis, image[None]). It said: {error}"
            ) from error

    def words_wrt(self):
        """Words what the gradient is taken of."""
        return "the input" if self._wrt_layer is None else f"layer '{self._wrt_layer.name}'"


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
        if wrt_tensor is None:
            self._function = _symbolic_function([input_tensor], tensors)
        else:
            self._head = _symbolic_function([input_tensor], [wrt_tensor])
            self._function = _symbolic_function([input_tensor, wrt_tensor], tensors)
        functions = [self._function] + ([self._head] if wrt_tensor is not None else [])
        held = [op for f in functions for op in f.operations if isinstance(op, keras.Layer)]
        self.variables = list({id(v): v for layer in held for v in layer.variables}.values())

    @staticmethod
    def _format(source, input_tensor):
        if isinstance(source, keras.Layer):
            return data_format(source)
        return input_data_format(input_tensor) if source is input_tensor else "as it is"

    @property
    def root(self):
        """What backward rules are installed in."""
        return self._function

    def differentiate(self, function, x):
        """Returns `(score, aux, value, gradient)` of `function(tensors) -> (score, aux)`."""
        if self._wrt is None:
            score, aux, gradient = backend.value_and_grad(lambda x: function(self._function([x])), x)
            return score, aux, x, gradient
        value = self._head([x])[0]
        score, aux, gradient = backend.value_and_grad(lambda value: function(self._function([x, value])), value)
        return score, aux, value, gradient

    def shapes(self, x):
        """Returns the shapes of the sources, channels last."""
        return [shape_channels_last(tensor.shape, form) for tensor, form in zip(self._tensors, self.formats)]

    def words_wrt(self):
        """Words what the gradient is taken of."""
        return "the input" if self._wrt is None else f"`wrt_tensor` ({self._wrt.name})"


def _symbolic_output(layer):
    try:
        return layer_output(layer)
    except ValueError:
        return None


def shape_channels_last(shape, form):
    """Returns a batch's shape as `channels_last` would leave it."""
    shape = tuple(shape)
    return shape[:1] + shape[2:] + shape[1:2] if form == "channels_first" and len(shape) > 2 else shape


def _symbolic_function(inputs, outputs):
    try:
        return keras.Function(inputs, outputs)
    except ValueError as error:
        raise ValueError(
            "The losses must be computed from `input_tensor`. Received: a loss or `wrt_tensor` that does not depend on "
            f"{inputs[0].name} {tuple(inputs[0].shape)}; it may belong to another model, or to a layer nested in "
            "another one. Pass the model itself instead of its input tensor to reach nested layers."
        ) from error


def model_input(model):
    """Returns the one symbolic input of a model, or `None` where it has none.

    Raises:
        ValueError: The model has several inputs.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        names = ", ".join(repr(t.name) for t in inputs)
        raise ValueError(
            f"The model must have one input. Received: model '{model.name}' with {len(inputs)} inputs ({names}). "
            "Wrap it in a Functional model that fixes the others."
        )
    return inputs[0] if inputs else None


def model_input_shape(model):
    """Returns a model's input shape, batch axis first, or `None` where it does not say.

    A subclassed model only tells how many axes it was built with.
    """
    tensor = model_input(model)
    if tensor is not None:
        return tuple(tensor.shape)
    built_with = (model.get_build_config() or {}).get("input_shape")
    known = isinstance(built_with, (tuple, list)) and all(d is None or isinstance(d, int) for d in built_with)
    return (None,) * len(built_with) if known and built_with else None


def model_input_format(model):
    """Returns the data format of a model's input."""
    tensor = model_input(model)
    if tensor is not None:
        return input_data_format(tensor)
    found = [getattr(op, "data_format", None) for _, op in walk(model)]
    return next((f for f in found if f), keras.config.image_data_format())


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
        self.reader = reader
        self._values = [scalar_value if is_symbolic(loss) else type(loss).value.__get__(loss) for loss in losses]
        self._counts = [1 if is_symbolic(loss) else len(loss.sources()) for loss in losses]
        self._rule = rule
        self._norm_grads = norm_grads
        self._shapes = None
        self._compiled = {}
        self._lock = threading.Lock()

    def arguments(self, losses, x):
        """Returns the losses' tensor arguments, checked against the layers' shapes."""
        if self._shapes is None:
            self._shapes = self.reader.shapes(x)
        shapes = iter(self._shapes)
        taken = [[next(shapes) for _ in range(count)] for count in self._counts]
        return [[] if is_symbolic(loss) else loss.arguments(own) for loss, own in zip(losses, taken)]

    def evaluate(self, losses, weights, x):
        """Evaluates the losses once.

        Args:
            losses: Losses of this energy's structure.
            weights: One number for each loss.
            x: Input batch `(N, ...)`, an array.

        Returns:
            Arrays `(terms, gradient, value)`: the weighted losses `(K, N)`, the gradient of
            their sum, and the value that it is the gradient at.

        Raises:
            ValueError: The losses do not depend on what the gradient is taken of.
        """
        call = self.compiled("evaluate", lambda: self.terms_and_gradient)
        results = call(self.arguments(losses, x), np.asarray(weights, "float32"), x)
        return tuple(ops.convert_to_numpy(result) for result in results)

    def compiled(self, key, make, eager_first=True):
        """Returns the compiled form of the function that `make()` returns, made once a key."""
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = backend.compile(make(), self.reader.variables, eager_first)
            return self._compiled[key]

    def terms_and_gradient(self, arguments, weights, x):
        """Computes what `evaluate` returns, as tensors; for use inside compiled functions."""

        def score(tensors):
            terms = self._terms(tensors, arguments, ops.shape(x)[0]) * weights[:, None]
            return ops.sum(terms, axis=0), terms

        with installed(self.reader.root, self._rule):
            _, terms, value, gradient = self.reader.differentiate(score, ops.convert_to_tensor(x))
        if gradient is None:
            raise ValueError(
                f"The losses do not depend on {self.reader.words_wrt()}, so there is no gradient to show. "
                "Choose a layer between the input and the output that is explained."
            )
        value, gradient = ops.cast(value, "float32"), ops.cast(gradient, "float32")
        if self._norm_grads:
            axes = tuple(range(1, len(gradient.shape)))
            gradient = gradient / (ops.sqrt(ops.mean(ops.square(gradient), axis=axes, keepdims=True)) + EPSILON)
        return terms, gradient, value

    def _terms(self, tensors, arguments, count):
        tensors = [channels_last(ops.cast(t, "float32"), f) for t, f in zip(tensors, self.reader.formats)]
        tensors, terms = iter(tensors), []
        for value, number, own in zip(self._values, self._counts, arguments):
            term = value([next(tensors) for _ in range(number)], own)
            terms.append(ops.broadcast_to(term / ops.cast(count, "float32"), (count,)) if term.ndim == 0 else term)
        return ops.stack(terms)


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


def check_losses(losses):
    """Returns the losses and weights in use; those of weight 0 or `None` are left out.

    Raises:
        TypeError: Something is not a pair of a `Loss` and a number.
        ValueError: No loss is left, or a weight is not finite.
    """
    pairs = []
    for pair in losses:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not hasattr(pair[0], "build_loss"):
            raise TypeError(f"`losses` must be a list of pairs (Loss, weight). Received an item: {pair!r}.")
        loss, weight = pair
        if weight is not None and not np.isfinite(weight):
            raise ValueError(f"The weight of '{loss.name}' must be a finite number. Received: {weight}.")
        if weight:
            pairs.append((loss, float(weight)))
    if not pairs:
        raise ValueError("`losses` must hold at least one loss with a weight other than 0. Received: none.")
    return [loss for loss, _ in pairs], [weight for _, weight in pairs]


def symbol_energy(input_tensor, losses, wrt_tensor=None, rule=None, norm_grads=False):
    """Returns the energy of losses on symbolic tensors.

    Raises:
        ValueError: A loss or `wrt_tensor` is not computed from `input_tensor`.
    """
    with preserved_nodes(input_tensor):
        sources = [s for loss in losses for s in _symbols(loss)]
        return Energy(SymbolReader(input_tensor, sources, wrt_tensor), losses, rule, norm_grads)


def _symbols(loss):
    if not is_symbolic(loss):
        return loss.sources()
    built = loss.build_loss()
    if not keras.backend.is_keras_tensor(built):
        raise TypeError(
            f"`build_loss` of '{loss.name}' must return a symbolic tensor, made with `keras.ops` from `layer.output` "
            f"or `model.inputs[0]`. Received: {built!r}."
        )
    return [built]


def model_energy(model, losses, wrt_layer=None, rule=None, norm_grads=False):
    """Returns the energy of losses on the layers of any model."""
    own = model_input(model)
    sources = [None if s is own else s for loss in losses for s in loss.sources()]
    return Energy(ModelReader(model, sources, wrt_layer), losses, rule, norm_grads)


# Compiled energies of the visualize functions, held for as long as their model lives. An
# energy refers to its model weakly, so an entry does not keep its own key alive.
_ENERGIES = weakref.WeakKeyDictionary()
_ENERGIES_PER_MODEL = 16


def cached_energy(model, key, build):
    """Returns `build()`, or what it returned before for the same model and key.

    A model that has changed since (another layer, another activation) is built for anew.
    """
    current = fingerprint(model)
    stored, energies = _ENERGIES.get(model, ([], {}))
    if not same(stored, current):
        energies = {}
        _ENERGIES[model] = (current, energies)
    if key not in energies:
        while len(energies) >= _ENERGIES_PER_MODEL:
            energies.pop(next(iter(energies)))
        energies[key] = build()
    return energies[key]
