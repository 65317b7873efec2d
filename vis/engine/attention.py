"""Attention: which layers of a model attend, with what weights, and from which tokens to which.

What runs inside of a layer is seen by `vis.engine.insides`; here it is put into an order: the attentions of a model,
and the relevance that tokens of one stream have for those of another.
"""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from vis import backend
from vis.engine.code import read
from vis.engine.graph import has_own_code, operations, walk
from vis.engine.insides import ATTENTION, WeightsOf, has_code, sample_shape
from vis.engine.requests import Site
from vis.engine.taps import shadowed, surgery, wrapped
from vis.utils.internals import consumers

_PRODUCTS = ("Matmul", "Einsum", "Dot")


@dataclasses.dataclass(frozen=True)
class Attention:
    """One time that weights are made.

    Args:
        path: Path of the layer.
        site: Where the weights are.
        shape: Shape of the weights of one sample: `(heads, queries, keys)`; with windows, `(windows, heads, ...)`.
        calls: How many there are of this layer.
        is_between: Whether the layer is called on more than one row of vectors, which may be of two streams.
        reads: Tells the one row of vectors that the layer is called on from others; `None` where there are several.
    """

    path: str
    site: Site
    shape: tuple
    calls: int
    is_between: bool = False
    reads: int | None = None

    def is_beside(self, other) -> bool:
        """Tells whether it reads the very tokens that another attention reads: then neither follows the other."""
        same = self.reads is not None and self.reads == other.reads and self.path != other.path
        return same and self.queries == other.queries == self.keys == other.keys

    @property
    def name(self) -> str:
        """The path, and the call where the layer has several."""
        return self.path if self.calls == 1 else f"{self.path}:{self.site.call}"

    @property
    def queries(self) -> int:
        """How many tokens ask."""
        return self.shape[-2]

    @property
    def keys(self) -> int:
        """How many tokens are asked."""
        return self.shape[-1]

    @property
    def has_windows(self) -> bool:
        """Whether tokens see those of their own window only."""
        return len(self.shape) > 3


def attentions(model, network, batch) -> list[Attention]:
    """Returns the attentions of a model in the order in which they run; one sample is run.

    Args:
        model: The model.
        network: Its `vis.engine.network.Network`.
        batch: The inputs.
    """
    own, found, ends, rows_of = operations(model), [], [], {}
    rows = batch.layout.fixed_size or 1

    def note(place, part, weights):
        found.append((place, part, weights))
        return weights

    def end(output):
        several = isinstance(output, (tuple, list)) and len(output) > 1
        ends.append(output[0] if several else output)  # kept, so that no other tensor gets its `id`
        return output

    taps, calls = [], []
    for place, (_, operation) in enumerate(own):
        if has_code(operation):
            taps += [(WeightsOf(operation), functools.partial(note, place, "weights")), (operation, end)]
            calls.append((operation, functools.partial(_see, place, operation, found, rows_of)))
        elif _is_weights_of_graph(operation):
            taps.append((operation, functools.partial(note, place, "output")))

    def run(inputs):
        found.clear()  # it may be traced again
        ends.clear()
        rows_of.clear()
        with surgery(), shadowed(), shadowed(wrapped("call", calls)):
            network.run(batch.layout, inputs, taps)
        return inputs[0]

    backend.few_times(run, model.variables)([np.repeat(array[:1], rows, axis=0) for array in batch.arrays])
    outputs = {id(tensor) for tensor in keras.tree.flatten(ends)}
    kept = [(place, part, tuple(weights.shape)) for place, part, weights in found if id(weights) not in outputs]
    known = _numbered(own, kept, rows, rows_of)
    network.calls.update((one.site.key, one.calls) for one in known)
    return known


def _see(place, layer, found, rows_of, call, *args, **kwargs):
    """Calls a layer, notes the rows of vectors that it is called on, and takes from `found` what is no attention."""
    rows_of.setdefault(place, []).append(_sequences(args, kwargs))
    before = len(found)
    output = call(*args, **kwargs)
    if any(one[0] == place for one in found[before:]) and not _mixes(layer, call, args, kwargs):
        found[before:] = [one for one in found[before:] if one[0] != place]
    return output


def _mixes(layer, call, args, kwargs):
    """Tells whether the code of a layer multiplies a softmax with a matrix, as far as it can be read.

    That of a head of distances, say, is sorted instead.
    """
    if not has_own_code(layer) or isinstance(layer, ATTENTION):
        return True
    inner = [one for _, one in walk(layer) if has_own_code(one) and not isinstance(one, ATTENTION)]
    code = read(layer, call, args, kwargs, _softmaxes_before_products, inner)
    return code is None or code.found is None or not code.found or any(code.found)


def _softmaxes_before_products(graph):
    """Returns for each softmax of a graph whether a product follows, with nothing but operations between."""
    return [_meets_product(one) for _, one in operations(graph) if _is_softmax(one)]


def _is_softmax(operation):
    return isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "Softmax"


def _meets_product(operation):
    queue, seen = list(consumers(operation)), set()
    while queue:
        one = queue.pop()
        if type(one).__name__ in _PRODUCTS:
            return True
        if id(one) not in seen and (not isinstance(one, keras.Layer) or isinstance(one, keras.layers.Dropout)):
            queue += consumers(one)
        seen.add(id(one))
    return False


def _sequences(args, kwargs):
    """Returns the different rows of vectors that a layer is called on."""
    tensors = {id(one): one for one in keras.tree.flatten((args, kwargs)) if ops.is_tensor(one)}.values()
    floats = [one for one in tensors if keras.backend.is_float_dtype(keras.backend.standardize_dtype(one.dtype))]
    return [one for one in floats if len(one.shape) == 3]


def _is_weights_of_graph(operation):
    """Tells whether an operation of a model's graph is a softmax whose outcome is multiplied with a matrix."""
    if not _is_softmax(operation):
        return False
    after = list(consumers(operation))
    after += [one for drop in after if isinstance(drop, keras.layers.Dropout) for one in consumers(drop)]
    return any(type(one).__name__ in _PRODUCTS for one in after)


def _numbered(own, found, rows, rows_of):
    places = [place for place, *_ in found]
    result = []
    for number, (place, part, shape) in enumerate(found):
        path, layer = own[place]
        site, count = Site(place, places[:number].count(place), part), places.count(place)
        calls = rows_of.get(place, [])
        several, reads = any(len(one) > 1 for one in calls), None
        if len(calls) == 1 and len(calls[0]) == 1:
            reads = id(calls[0][0])
        result.append(Attention(path, site, sample_shape(layer, shape, rows), count, several, reads))
    return result


def side_by_side(known) -> list[list[int]]:
    """Returns the numbers of attentions in order, those together that follow one another and read the same tokens."""
    groups: list[list[int]] = []
    for number, one in enumerate(known):
        if groups and known[groups[-1][0]].is_beside(one):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


class Streams:
    """The relevance of the tokens of each stream for those of each, updated by one attention after the other.

    A stream is a row of tokens: the words that go into an encoder, those of a decoder, or the one query of a pooling
    head. It is known by its number of tokens.

    Source: Chefer et al. 2021, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", equations 6 to 11.

    Args:
        count: The number of samples.
    """

    def __init__(self, count):
        self._count, self._maps = count, {}

    def between(self, stream, other):
        """Returns the relevance `(N, stream, other)` that tokens of another stream have for those of one."""
        if (stream, other) not in self._maps:
            start = np.eye(stream, dtype="float32") if stream == other else np.zeros((stream, other), "float32")
            self._maps[stream, other] = np.repeat(start[None], self._count, axis=0)
        return self._maps[stream, other]

    def are_linked(self, stream, other) -> bool:
        """Tells whether one stream has attended to another, or is the same."""
        return stream == other or (stream, other) in self._maps

    def attend(self, weights):
        """Goes through an attention with weights `(N, queries, keys)`."""
        stream, other = weights.shape[1:]
        if stream == other:
            self.between(stream, stream)
            for (first, last), before in list(self._maps.items()):
                if first == stream:
                    self._maps[first, last] = before + product(weights, before)
            return
        own, others = self.between(stream, stream), self.between(other, other)
        mixed = product(np.swapaxes(_normalized(own), 1, 2), product(weights, _normalized(others)))
        if self.are_linked(other, stream):
            own = own + product(weights, self.between(other, stream))
        self._maps[stream, stream] = own
        self._maps[stream, other] = self.between(stream, other) + mixed


def _normalized(own):
    """Returns self-relevance with the part that attention adds brought to rows of sum 1 (equations 8 and 9)."""
    identity = np.eye(own.shape[1], dtype="float32")
    rest = own - identity
    sums = rest.sum(axis=-1, keepdims=True)
    return np.divide(rest, sums, out=np.zeros_like(rest), where=sums > 0) + identity


def product(first, second):
    """Returns matrix products of float32 arrays, made by the backend: NumPy's threads get in the way of its own."""
    return ops.convert_to_numpy(ops.matmul(ops.convert_to_tensor(first), ops.convert_to_tensor(second)))
