"""The code of a layer's own call, read as a graph of operations.

A layer of one's own computes in its `call` what no graph shows: `x * y`, `keras.ops.softmax`, `q @ k`. Called on
symbolic tensors instead, it shows: each of these becomes an operation, as in a Functional model, and what is computed
from the inputs is told apart from weights and constants.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
from typing import Any

import keras
from keras import ops, tree

from vis.engine.graph import walk
from vis.engine.insides import ATTENTION
from vis.engine.taps import shadowed, suspended
from vis.utils.internals import forget_nodes, has_mask, node_counts, output_shapes


@dataclasses.dataclass(frozen=True)
class Code:
    """A call of a layer as a graph.

    Args:
        graph: A `keras.Function` of the tensors that the layer was called on; `None` where it puts out constants only.
        found: What was made of the graph before the traces of reading it were taken away.
        pack: Function of the tensors that the graph puts out: what the layer returns.
        parts: The layers inside whose code became a part of the graph.
    """

    graph: Any
    found: Any
    pack: Any
    parts: tuple = ()

    def run(self, args, kwargs):
        """Returns what the layer returns, for the arguments that it was read with."""
        return self.pack(tree.flatten(self.graph(_tensors(args, kwargs))))


def read(layer, call, args, kwargs, look, inner=()) -> Code | None:
    """Returns the code of a layer as a graph, or `None` where it cannot be read.

    It cannot where the code asks for numbers, or calls a framework by itself. Layers of one's own inside are operations
    of the graph, where they can say what shape they put out; otherwise their code becomes a part of the graph.

    Args:
        layer: The layer.
        call: Its `call`, without wrappers.
        args: What it is called on.
        kwargs: The same, by name.
        look: Function of the graph, called while its layers still know their place in it; `Code.found`.
        inner: The layers inside whose code may become a part of the graph.
    """
    code = _read(layer, call, args, kwargs, look, ())
    return _read(layer, call, args, kwargs, look, inner) if code is None and inner else code


def _read(layer, call, args, kwargs, look, inline):
    tensors, called = _tensors(args, kwargs), []
    counts = node_counts([layer, *(operation for _, operation in walk(layer))])
    try:
        with suspended(), shadowed(_specs(layer)), _flat(inline, called):
            symbols = [_symbol(tensor) for tensor in tensors]
            given = {id(tensor): symbol for tensor, symbol in zip(tensors, symbols)}
            own, named = tree.map_structure(lambda one: given.get(id(one), one), (args, kwargs))
            outputs = call(*own, **named)
            kept = [one for one in tree.flatten(outputs) if isinstance(one, keras.KerasTensor)]
            if not kept:
                return Code(None, None, _packing(outputs))
            with shadowed(_names(layer) if inline else ()):
                graph = keras.Function(symbols, kept)
            if not _has_static_shapes(graph):
                return None
            return Code(graph, look(graph), _packing(outputs), tuple(called))
    except Exception:  # the user's code, which may ask of a tensor whatever it likes
        return None
    finally:
        forget_nodes(counts)


@contextlib.contextmanager
def _flat(layers, called):
    """Lets layers run their code alone when this thread calls them, without a note of them in a graph, for a while.

    Args:
        layers: The layers.
        called: List that gets those that are called.
    """
    kinds = [(one, type(one)) for one in layers]
    owner = threading.get_ident()
    try:
        for one, kind in kinds:
            object.__setattr__(
                one, "__class__", type(kind.__name__, (kind,), {"__call__": _caller(kind, owner, called)})
            )
        yield
    finally:
        for one, kind in kinds:
            object.__setattr__(one, "__class__", kind)


def _names(layer):
    """Yields changes that tell layers inside of one apart, which a graph wants: blocks have layers of equal names."""
    known = set()
    for number, (_, inner) in enumerate(walk(layer)):
        if inner.name in known:
            yield inner, "name", f"{inner.name}/{number}"
        known.add(inner.name)


def _caller(kind, owner, called):
    def run(self, *args, **kwargs):
        if threading.get_ident() != owner:
            return kind.__call__(self, *args, **kwargs)
        if getattr(self, "quantization_mode", None) is not None or has_mask(tree.flatten((args, kwargs))):
            raise TypeError("More than the code runs when such a layer is called.")  # then the code is not read
        called.append(self)
        takes = inspect.signature(self.call).parameters
        return self.call(*args, **({"training": False} if "training" in takes else {}), **_without(kwargs, "training"))

    return run


def _without(kwargs, name):
    return {key: value for key, value in kwargs.items() if key != name}


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
