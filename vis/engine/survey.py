"""Which layers of a model have a row for each sample: proved from its graph, or seen on a few samples.

Explainers rest on rows that do not depend on one another. Some layers break this: windows of attention put
several rows for each sample on the first axis, contrastive outputs compare every sample with every other. Keras's
own layers keep rows apart, so a graph of them proves it. Any other model is run twice on three samples, with other
neighbours in another order: what follows its sample from row to row keeps rows apart.
"""

import collections
import dataclasses
import functools

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.engine.graph import last_layers, layers, operations, walk
from vis.utils.internals import children, consumers, output_shapes, producers
from vis.utils.outputs import known_shape

_ROWS = 3
_EXPLAINED, _RAW = -1, -2  # places of what is explained, and of what the model puts out
_ORDERS = ([0, 1, 2], [1, 3, 0])  # which samples the two runs have
_TOLERANCE = 1e-4  # of a row's root mean square; rounding is far below it
_HALF_TOLERANCE = 1e-2  # where a model computes with 16 bits

# What comes after the layer that makes an output.
_FINISHING = (
    "Activation",
    "Softmax",
    "Sigmoid",
    "ReLU",
    "Reshape",
    "Permute",
    "Resizing",
    "Dropout",
    "Identity",
    "Concatenate",
) + tuple(f"{kind}{n}D" for kind in ("UpSampling", "Cropping", "ZeroPadding") for n in (1, 2, 3))

# Layers that run what is not Keras's, or what the user wrote.
_UNPROVEN = ("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")
_ELEMENTWISE = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Relu", "Relu6", "Sigmoid", "Tanh")


@dataclasses.dataclass(frozen=True)
class Seen:
    """One call of a layer, as a forward pass shows it.

    Args:
        place: Where the layer is on the walk through the model.
        call: Which of its calls, from 0; -1 for the last.
        shape: Shape of the one tensor that it puts out, batch axis first; `None` where it puts out something else.
        keeps_rows: Whether row i belongs to sample i, and depends on no other.
        inputs: Indices of the inputs that it depends on.
        is_distribution: Whether its last axis sums to 1 everywhere, as attention weights do.
    """

    place: int
    call: int
    shape: tuple | None
    keeps_rows: bool = True
    inputs: frozenset = frozenset([0])
    is_distribution: bool = False


@dataclasses.dataclass
class Survey:
    """What is known of a model's layers and outputs.

    Args:
        seen: A `Seen` for each call of each layer, in the order in which they finished.
        outputs: What is explained, as a `Seen` of no place.
        runs: The outputs of two runs, or `None` where the graph proves that rows are kept apart.
        pairs: Pairs of a row of the first run and the row of the second with the same sample.
        rows: How many rows a run has.
    """

    seen: list
    outputs: Seen
    runs: tuple | None = None
    pairs: list = dataclasses.field(default_factory=list)
    rows: int = _ROWS


def survey(model, network, batch) -> Survey:
    """Returns what is known of a model's layers.

    Args:
        model: The model.
        network: Its `vis.engine.network.Network`.
        batch: The inputs; the first sample is used.
    """
    if len(batch.arrays) == 1 and is_proven(model):
        return _read_off(model)
    return _Runs(model, network, batch).survey()


def output_shapes_of(model, network, batch, places) -> dict:
    """Returns the shapes that operations put out, one for each of their calls, under their places.

    Calls inside a branch or a loop do not count, nor what is not one tensor with a row for each sample.

    Args:
        model: The model.
        network: Its `vis.engine.network.Network`.
        batch: The inputs; the first sample is used.
        places: Where the operations are on the walk through the model.
    """
    own, size = [operation for _, operation in operations(model)], batch.layout.fixed_size or _ROWS
    found = {}

    def note(place, output):
        shape = tuple(output.shape) if ops.is_tensor(output) else ()
        found.setdefault(place, []).append(shape if shape[:1] == (size,) else None)
        return output

    def run(inputs):
        found.clear()  # it may be traced again
        taps = [(own[place], functools.partial(note, place)) for place in places]
        return network.outputs(batch.layout, inputs, taps)[0]

    # Compiled, loops of the user's own are seen as such.
    compiled = backend.few_times if is_proven(model) else functools.partial(backend.compile, eager_first=False)
    compiled(run, list(model.variables))([np.repeat(array[:1], size, axis=0) for array in batch.arrays])
    return {place: shapes for place, shapes in found.items() if None not in shapes}


def keeps_rows(known, goal, example) -> bool:
    """Tells whether a goal's value for a sample is the same whatever its neighbours are.

    Args:
        known: The model's `Survey`.
        goal: A `vis.engine.goals.Units` or `Custom`.
        example: Outputs that it may be tried on where the model was not run, or `None`.
    """
    if goal.formula.of_units:
        return known.outputs.keeps_rows
    if known.runs is not None:
        (first, second), (order, other), pairs = known.runs, _ORDERS, known.pairs
    elif example is None:
        return True
    else:
        first, order, other, pairs = example, [0, 1, 2], [1, 2, 1], [(1, 0), (2, 1)]
        second = tree.map_structure(lambda rows: rows[other], first)
    one, two = (_scores(goal, outputs, rows) for outputs, rows in ((first, order), (second, other)))
    size = max(np.abs(one).max(), np.abs(two).max())
    return all(alike(one[i], two[j], 10 * _TOLERANCE, size) for i, j in pairs)


def _scores(goal, outputs, samples):
    """Returns a custom goal's scores of outputs of some samples; where there are fewer, they begin anew."""
    count = len(tree.flatten(outputs)[0])
    given = [np.asarray(array) for array in goal.rows(slice(None))]
    numbers = [samples[min(i, len(samples) - 1)] for i in range(count)]
    arguments = [ops.convert_to_tensor(array[np.array(numbers) % len(array)]) for array in given]
    return ops.convert_to_numpy(goal.formula.score(tree.map_structure(ops.convert_to_tensor, outputs), arguments))


def is_proven(model) -> bool:
    """Tells whether a model is a graph of Keras's own layers, which keep rows apart."""
    if not _is_graph(model) or type(model).__module__.split(".")[0] != "keras":
        return False
    return all(_keeps_rows(operation) for _, operation in walk(model))


def _keeps_rows(operation):
    axis = getattr(operation, "axis", None)
    if 0 in (axis if isinstance(axis, (list, tuple)) else [axis]):
        return False
    if not isinstance(operation, keras.Layer):
        return is_elementwise(operation)
    activation = getattr(operation, "activation", None)
    if not is_built_in(operation) or (activation is not None and not _is_of_keras(activation)):
        return False
    return type(operation).__name__ not in _UNPROVEN


def is_elementwise(operation) -> bool:
    """Tells whether an operation that is no layer works on each number by itself."""
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in _ELEMENTWISE


def is_built_in(layer) -> bool:
    """Tells whether a layer is Keras's own."""
    return _is_of_keras(type(layer))


def _is_of_keras(thing):
    return getattr(thing, "__module__", type(thing).__module__).split(".")[0] == "keras"


def _is_graph(model):
    return isinstance(model, (keras.Function, keras.Sequential))


def _read_off(model):
    places = {id(layer): place for place, (_, layer) in enumerate(operations(model))}
    ends, found, shapes = _finishing(model), [], {}
    for graph in [model, *(one for _, one in layers(model) if _is_graph(one))]:
        shapes.update(output_shapes(graph))
    for layer in _in_order(model):
        shape = known_shape(layer)
        if shape is not None and id(layer) not in ends and not isinstance(layer, keras.layers.InputLayer):
            found += [Seen(places[id(layer)], -1, one) for one in shapes.get(id(layer), [shape])]
    return Survey(found, Seen(-1, -1, None))


def _finishing(model):
    """Collects the layers that make the outputs, and those that only activate, rearrange or resize them afterwards.

    A normalisation at the end is none of them: before it, input times gradient is zero, since it undoes any scale.
    """
    found, queue = set(), list(last_layers(model))
    while queue:
        layer = queue.pop()
        if not _undoes_scale(layer):
            found.add(id(layer))
        if type(layer).__name__ in _FINISHING:
            before = [one for one in producers(layer) if one is not None]
            before = [end for one in before for end in (last_layers(one) if _is_graph(one) else [one])]
            queue += [one for one in before if id(one) not in found]
    return found if len(model.outputs) == 1 else _that_end_only(model, found)


def _undoes_scale(layer):
    kind = type(layer).__name__
    return "Norm" in kind and "Batch" not in kind


def _that_end_only(model, found):
    """Leaves out what goes on to another output as well: of several outputs, one may be a feature map of the others."""
    inner = [one for _, one in operations(model)]
    own = set(map(id, inner)) - found
    return found - {id(one) for one in inner if any(id(after) in own for after in consumers(one))}


def _in_order(model):
    """Yields layers in graph order, those of nested models instead of these; the insides of other layers are theirs."""
    for child in children(model):
        if isinstance(child, keras.Model):
            yield from _in_order(child)
        elif isinstance(child, keras.Layer) or is_elementwise(child):
            yield child


class _Runs:
    """Runs a model on few rows, with every layer tapped; of what passes, only some numbers of each row are kept."""

    def __init__(self, model, network, batch):
        self._network, self._batch = network, batch
        hidden = _insides_of_built_in(model)
        self._watched = [(i, one) for i, (_, one) in enumerate(operations(model)) if id(one) not in hidden]
        ends = _finishing(model) if _is_graph(model) and getattr(model, "outputs", None) else set()
        self._ends = [i for i, (_, one) in enumerate(operations(model)) if id(one) in ends]
        self._calls = []  # (place, call, shape) of what was seen, known once the model has run
        self._run = backend.few_times(self._marks, model.variables)
        self._size = batch.layout.fixed_size or _ROWS
        halves = any(str(layer.compute_dtype).endswith("16") for _, layer in layers(model))
        self._tolerance = _HALF_TOLERANCE if halves else _TOLERANCE

    def survey(self):
        a, b, c, d = _four(self._batch)
        (first, outputs), (second, others) = self._on([a, b, c]), self._on([b, d, a])
        pairs = [(0, 2), (1, 0)] if self._size > 2 else [(1, 0)][: self._size - 1]  # rows of a and b in both
        follows = [all(self._alike(one[i], other[j]) for i, j in pairs) for one, other in zip(first, second)]
        depends = self._dependencies(a, b, first)
        found = [
            Seen(place, call, shape, self._has_rows(shape) and keeps, inputs, bool(marks[:, -1].all()))
            for (place, call, shape), keeps, inputs, marks in zip(self._calls, follows, depends, first)
        ]
        ends = [one for one in found if one.place == _EXPLAINED]
        makers = {_EXPLAINED, _RAW, *self._ends} if len(ends) == 1 else set(self._ends)
        made = [marks for one, marks in zip(found, first) if one.place in makers and self._has_rows(one.shape)]
        kept = {place for place, layer in self._watched if _undoes_scale(layer)} | {_EXPLAINED, _RAW}
        found = [  # a layer that makes the one output, and one inside it, has no feature map
            one
            for one, marks in zip(found, first)
            if one.place in kept or not any(np.array_equal(marks, other, equal_nan=True) for other in made)
        ]
        whole = all(one.keeps_rows for one in ends)
        inputs = frozenset().union(*(one.inputs for one in ends))
        seen = [one for one in found if one.place >= 0 and one.shape is not None and one.place not in self._ends]
        return Survey(seen, Seen(-1, 0, None, whole, inputs), (outputs, others), pairs, self._size)

    def _dependencies(self, a, b, marks):
        """Returns for each call the inputs that it changes with."""
        if len(a) == 1:
            return [frozenset([0])] * len(self._calls)
        found = [set() for _ in self._calls]
        for index in range(len(a)):
            changed, _ = self._on([[*a[:index], b[index], *a[index + 1 :]], b, b])
            for inputs, before, after in zip(found, marks, changed):
                if not self._alike(before[0], after[0]):
                    inputs.add(index)
        return [frozenset(inputs) for inputs in found]

    def _on(self, samples):
        """Returns `(marks, outputs)` of a batch that begins with some samples."""
        samples = [samples[min(i, len(samples) - 1)] for i in range(self._size)]
        return tree.map_structure(ops.convert_to_numpy, self._run([np.stack(parts) for parts in zip(*samples)]))

    def _marks(self, inputs):
        marks, self._calls, counts, last = [], [], collections.Counter(), [None]

        def note(place, layer, output):
            is_tensor = ops.is_tensor(output)
            if not (_is_graph(layer) and output is last[0]):  # a nested model hands on what its last layer made
                last[0] = output
                self._calls.append((place, counts[place], tuple(output.shape) if is_tensor else None))
                marks.append(self._mark(output if is_tensor else ops.zeros(())))
            counts[place] += 1
            return output

        def end(place, outputs):
            for output in tree.flatten(outputs):
                self._calls.append((place, 0, tuple(output.shape)))
                marks.append(self._mark(output))
            return outputs

        taps = [(layer, functools.partial(note, place, layer)) for place, layer in self._watched]
        taps.append((self._network.model, functools.partial(end, _RAW)))
        outputs, _ = self._network.outputs(self._batch.layout, inputs, taps)
        return marks, end(_EXPLAINED, outputs)

    def _alike(self, one, other):
        """Tells whether two rows are the same but for rounding."""
        return alike(one, other, self._tolerance, max(abs(one[2]), abs(other[2])))

    def _has_rows(self, shape):
        return bool(shape) and shape[0] == self._size

    def _mark(self, tensor):
        """Returns numbers `(rows, 4)` that tell rows apart; the last says whether it is a distribution."""
        if not self._has_rows(tuple(tensor.shape)):
            return ops.zeros((self._size, 4))
        tensor = ops.cast(tensor, "float32")
        flat = ops.reshape(tensor, (self._size, -1))
        size = ops.sqrt(ops.mean(ops.square(flat), axis=-1))
        waves = ops.cos(2.4 * ops.arange(flat.shape[-1], dtype="float32"))  # normalised rows have one mean and size
        return ops.stack(
            [ops.mean(flat, axis=-1), ops.mean(flat * waves, axis=-1), size, _is_distribution(tensor)], axis=-1
        )


def alike(one, other, tolerance=_TOLERANCE, size=0.0) -> bool:
    """Tells whether arrays are the same but for rounding, relative to a size."""
    return np.allclose(one, other, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def _is_distribution(tensor):
    """Tells of each row whether its last axis sums to 1 everywhere, as 0 or 1."""
    if len(tensor.shape) < 3 or tensor.shape[-1] < 2:
        return ops.zeros((tensor.shape[0],))
    positions = tuple(range(1, len(tensor.shape) - 1))
    near_one = ops.absolute(ops.sum(tensor, axis=-1) - 1) < _HALF_TOLERANCE
    return ops.cast(ops.all(ops.logical_and(near_one, ops.all(tensor >= 0, axis=-1)), axis=positions), "float32")


def _four(batch):
    """Returns four samples of different content, each as a flat list: the first one, and three made of it."""
    draw = np.random.default_rng(0)
    first = [array[0] for array in batch.arrays]
    return [first, *([_changed(array, draw) for array in first] for _ in range(3))]


def _changed(array, draw):
    """Returns another array like this one.

    Whole numbers, which may be words whatever their dtype, are drawn from those in it: they stay in their vocabulary.
    """
    if array.dtype.kind != "f" or np.array_equal(array, np.round(array)):
        values, index = np.unique(array, return_inverse=True)
        step = draw.integers(1, max(len(values), 2), array.shape)  # another one at each position
        return values[(index.reshape(array.shape) + step) % len(values)]
    spread = float(np.ptp(array)) or float(np.abs(array).max()) or 1.0
    return array + (spread * draw.uniform(-0.5, 0.5, array.shape)).astype(array.dtype)


def _insides_of_built_in(model):
    """Collects what is inside Keras's own layers: it may run in a loop, where no tensor can be kept."""
    hidden = set()
    for _, layer in layers(model):
        if is_built_in(layer) and not isinstance(layer, keras.Model):
            hidden.update(id(inner) for _, inner in operations(layer))
    return hidden
