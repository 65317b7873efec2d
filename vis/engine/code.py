"""The code of a layer's own call, read as a graph of operations.

A layer of one's own computes in its `call` what no graph shows: `x * y`, `keras.ops.softmax`, `q @ k`. Called on
symbolic tensors instead, it shows: each of these becomes an operation, as in a Functional model, and what is computed
from the inputs is told apart from weights and constants.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import keras
from keras import ops, tree

from vis.engine.graph import walk
from vis.engine.insides import ATTENTION
from vis.engine.taps import shadowed, suspended
from vis.utils.internals import forget_nodes, node_counts, output_shapes


@dataclasses.dataclass(frozen=True)
class Code:
    """A call of a layer as a graph.

    Args:
        graph: A `keras.Function` of the tensors that the layer was called on; `None` where it puts out constants only.
        found: What was made of the graph before the traces of reading it were taken away.
        pack: Function of the tensors that the graph puts out: what the layer returns.
    """

    graph: Any
    found: Any
    pack: Any

    def run(self, args, kwargs):
        """Returns what the layer returns, for the arguments that it was read with."""
        return self.pack(tree.flatten(self.graph(_tensors(args, kwargs))))


def read(layer, call, args, kwargs, look) -> Code | None:
    """Returns the code of a layer as a graph, or `None` where it cannot be read.

    It cannot where the code asks for numbers, or calls a framework by itself.

    Args:
        layer: The layer.
        call: Its `call`, without wrappers.
        args: What it is called on.
        kwargs: The same, by name.
        look: Function of the graph, called while its layers still know their place in it; `Code.found`.
    """
    tensors = _tensors(args, kwargs)
    counts = node_counts([layer, *(operation for _, operation in walk(layer))])
    try:
        with suspended(), shadowed(_specs(layer)):
            symbols = [_symbol(tensor) for tensor in tensors]
            given = {id(tensor): symbol for tensor, symbol in zip(tensors, symbols)}
            own, named = tree.map_structure(lambda one: given.get(id(one), one), (args, kwargs))
            outputs = call(*own, **named)
            kept = [one for one in tree.flatten(outputs) if isinstance(one, keras.KerasTensor)]
            if not kept:
                return Code(None, None, _packing(outputs))
            graph = keras.Function(symbols, kept)
            if not _has_static_shapes(graph):
                return None
            return Code(graph, look(graph), _packing(outputs))
    except Exception:  # the user's code, which may ask of a tensor whatever it likes
        return None
    finally:
        forget_nodes(counts)


def _symbol(tensor):
    return keras.Input(batch_shape=tuple(tensor.shape), dtype=keras.backend.standardize_dtype(tensor.dtype))


def _specs(layer):
    """Yields changes that let layers tell the shapes of what they put out.

    Dense layers of equations tell the sizes which they were not told themselves. A subclass of Keras's attention may
    take arguments in its call that the shape does not depend on and is not told of.
    """
    for _, inner in walk(layer):
        if isinstance(inner, keras.layers.EinsumDense):
            yield inner, "compute_output_shape", functools.partial(_shape_of_einsum, inner, inner.compute_output_shape)
        if isinstance(inner, ATTENTION):
            yield inner, "compute_output_spec", functools.partial(_spec_of_known, inner.compute_output_spec)


def _spec_of_known(own, *args, **kwargs):
    known = inspect.signature(own).parameters
    return own(*args, **{name: value for name, value in kwargs.items() if name in known or value is not None})


def _shape_of_einsum(layer, own, input_shape):
    given, outputs = layer.equation.split(",")[0], layer.equation.split("->")[1]
    sizes = dict(zip(reversed(given.split(".")[-1]), reversed(input_shape)))
    sizes.update(zip(given.split(".")[0], input_shape))
    shape = own(input_shape)
    letters = outputs.rjust(len(shape), ".") if "." not in outputs else "." * len(shape)
    return tuple(sizes.get(letter) if size is None else size for letter, size in zip(letters, shape))


def _has_static_shapes(graph):
    return all(None not in shape for shapes in output_shapes(graph).values() for shape in shapes)


def _tensors(args, kwargs):
    """Returns the tensors among arguments, each once."""
    return list({id(one): one for one in tree.flatten((args, kwargs)) if ops.is_tensor(one)}.values())


def _packing(outputs):
    """Returns a function that puts tensors where symbols are."""

    def pack(tensors):
        values = iter(tensors)
        return tree.map_structure(lambda one: next(values) if isinstance(one, keras.KerasTensor) else one, outputs)

    return pack
