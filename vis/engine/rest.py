"""The rest of a network after a layer, where its graph shows that no way leads around that layer.

What a model computes after one of its layers is a function of that layer's output alone if every way from the inputs
to the outputs leads through it. Then it can be run by itself, on outputs that were kept. The layers are the model's
own, called in the order of its graph: nothing is copied, and no other model is made.
"""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops, tree

from vis import backend
from vis.engine.graph import has_graph, has_own_code, operations, walk
from vis.engine.linear import CONVOLUTIONS, LINEAR
from vis.engine.probabilities import is_rearranging
from vis.utils.contexts import Again
from vis.utils.internals import run, steps

# Whose models are called as their graph is: those of keras-hub refuse words before, and do no more.
_KERAS = ("keras", "keras_hub")

# Layers of which each output is a sum of inputs times constants, and a constant, when they are not trained.
_AFFINE = (
    *(*LINEAR, *CONVOLUTIONS, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.Dropout),
    *(keras.layers.Identity, keras.layers.BatchNormalization),
    *(
        getattr(keras.layers, f"{kind}{n}D")
        for kind in ("AveragePooling", "GlobalAveragePooling", "ZeroPadding", "Cropping", "SpatialDropout")
        for n in (1, 2, 3)
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Level:
    """What is computed within one model of a nest, after the layer, or after the nested model that holds it.

    Args:
        given: The symbolic tensors that it goes on from.
        calls: The calls that follow, see `vis.utils.internals.steps`.
        made: The symbolic tensors that they end in.
    """

    given: list
    calls: list
    made: list

    def run(self, values):
        """Returns the values of what is made."""
        computed = run(self.calls, {id(symbol): value for symbol, value in zip(self.given, values)}, training=False)
        return [computed[id(symbol)] for symbol in self.made]

    def numbers(self, model):
        """Returns which of its model's outputs are made."""
        return [number for number, tensor in enumerate(model.outputs) if any(tensor is one for one in self.made)]


@dataclasses.dataclass(frozen=True, eq=False)
class Rest:
    """The rest of a network after a layer: a way to call the model, as `vis.engine.inputs.Layout` is one.

    Args:
        key: Tells it apart from other ways to call the model.
        levels: What is computed, that of the innermost model first.
        fixed_size: The batch size that the model was made for, if it takes no other.
    """

    key: str
    levels: list
    fixed_size: int | None = None

    names = ("the layer's outputs",)

    def call(self, model, inputs):
        """Calls what follows the layer in inference mode; what it assigns to its variables is dropped.

        Args:
            model: The model.
            inputs: A list of one tensor, the layer's outputs.

        Returns:
            The model's outputs, in their structure.
        """
        scope = backend.untouched(model)
        with Again(scope), scope:
            (values,) = inputs
            outputs = _Within(self._run, model.dtype_policy)(ops.cast(values, self.levels[0].given[0].dtype))
        packed = tree.pack_sequence_as(model.output, outputs) if isinstance(model, keras.Function) else outputs
        return packed[0] if isinstance(packed, (list, tuple)) and len(packed) == 1 else packed

    def _run(self, value):
        values = [value]
        for level in self.levels:
            values = level.run(values)
        return values

    def operations(self) -> list:
        """Returns the layers and operations that run, with what is inside of them."""
        own = [node.operation for level in self.levels for node in level.calls]
        return own + [inner for one in own for _, inner in walk(one)]

    def holds(self, wanted) -> bool:
        """Tells whether all of some operations run in it, and more than a change of shape."""
        own = self.operations()
        works = [one for one in own if not (has_graph(one) or _is_input(one) or is_rearranging(one))]
        return bool(works) and all(any(one is other for other in own) for one in wanted)

    def is_affine(self, left_out) -> bool:
        """Tells whether its outputs are known to be sums of the layer's outputs times constants, and a constant.

        Args:
            left_out: Operations whose softmax or sigmoid is left out.
        """
        own = [one for one in self.operations() if not (has_graph(one) or _is_input(one))]
        return all(_is_affine(one, any(one is other for other in left_out)) for one in own)


class _Within(keras.layers.Layer):
    """A function as a layer: what is called in it knows that nothing is trained, and the model's precision.

    Args:
        function: `tensor -> tensors`.
        policy: The model's policy of precision.
    """

    def __init__(self, function: Callable, policy):
        super().__init__(name="rest", dtype=policy, autocast=False)
        self._function = function
        self.built = True

    def __call__(self, value):
        return super().__call__(value, training=False)

    def call(self, value, training=None):
        """Returns what the function does."""
        return self._function(value)


def rest_after(model, place) -> Rest | None:
    """Returns the rest of a network after a layer, or `None` where its graph does not show that there is one.

    The layer must be called once in a Functional or Sequential model, or in such models within one another, whose
    other layers it lies before: no way from the inputs leads around it. Masks, which tensors carry on beside their
    values, lead around it too.

    Args:
        model: The model.
        place: The layer's number on the walk through the model.
    """
    own = [operation for _, operation in operations(model)]
    if any(map(_makes_masks, own)):
        return None
    try:
        levels = _levels(model, own[place])
    except ValueError:  # the inputs of a model are not those of its graph
        return None
    is_whole = levels is not None and len(levels[-1].made) == len(model.outputs)
    return Rest(f"after {place}", levels) if is_whole else None


def _levels(model, layer):
    """Returns the levels after a layer, the innermost first, or `None`."""
    if not _runs_as_graph(model):
        return None
    for node in steps(model.outputs, model.inputs):
        if node.operation is layer:
            return _followed([], [0], node, model)
        if any(layer is inner for _, inner in walk(node.operation)):
            levels = _levels(node.operation, layer)
            return None if levels is None else _followed(levels, levels[-1].numbers(node.operation), node, model)
    return None


def _followed(levels, numbers, node, model):
    """Returns levels with that of a model behind them, or `None` where none of its outputs depends on them alone.

    Args:
        levels: Those of nested models.
        numbers: Which outputs of the node are made.
        node: The call in the model's graph that puts these out.
        model: The model.
    """
    given = [node.outputs[number] for number in numbers]
    made = [tensor for tensor in model.outputs if _depends_only(tensor, given)]
    return [*levels, _Level(given, steps(made, given), made)] if made else None


def _depends_only(tensor, given):
    """Tells whether a symbolic tensor is made of given ones and of nothing else."""
    try:
        return bool(steps([tensor], given)) or any(tensor is one for one in given)
    except ValueError:
        return False


def _runs_as_graph(model):
    """Tells whether a call of a model is that of its graph, and not of code of one's own."""
    inherited = [getattr(type(model), name).__module__.split(".")[0] in _KERAS for name in ("call", "__call__")]
    return has_graph(model) and all(inherited) and "call" not in vars(model)


def _makes_masks(operation):
    """Tells whether the outputs of a layer may carry a mask."""
    if isinstance(operation, keras.layers.Masking) or getattr(operation, "mask_zero", False):
        return True
    return has_own_code(operation) and type(operation).compute_mask is not keras.Layer.compute_mask


def _is_input(operation):
    return isinstance(operation, keras.layers.InputLayer)


def _is_affine(operation, is_left_out):
    """Tells whether a layer is one of Keras's own that is affine, in single precision."""
    kinds = (*_AFFINE, keras.layers.Activation, keras.layers.Softmax) if is_left_out else _AFFINE
    is_own = isinstance(operation, kinds) and type(operation).__module__.split(".")[0] == "keras"
    if not is_own or operation.compute_dtype != "float32" or operation.quantization_mode is not None:
        return False
    activation = getattr(operation, "activation", None)
    return is_left_out or activation is None or getattr(activation, "__name__", "") == "linear"
