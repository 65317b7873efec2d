"""The seam on TensorFlow."""

import contextlib
import functools
import importlib.util
import math
import threading

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from vis.backend.patience import Meter

# What the custom gradients of the score that is being differentiated refer to, by thread.
_referred = threading.local()


def value_and_grad(function, inputs):
    """Differentiates with respect to inputs, see `vis.backend.value_and_grad`."""
    inputs = tree.map_structure(tf.identity, inputs)
    with _let_go():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            score, aux = function(tree.map_structure(_with_own_gradient, inputs))
        return score, aux, _gradients(tape, score, inputs)


def _with_own_gradient(tensor):
    """Returns a tensor as it is, whose gradient is an object of its own.

    TensorFlow's tape never lets go of a gradient that two sources share, as those of `a + b` do.
    """
    return tf.reshape(tensor, tf.shape(tensor))


def value_and_grad_at(function, marks, inputs=(), count=None):
    """Differentiates with respect to inner tensors, see `vis.backend.value_and_grad_at`."""
    marked = {}
    inputs = tree.map_structure(tf.identity, inputs)
    with _let_go():
        with tf.GradientTape(persistent=count is not None, watch_accessed_variables=False) as tape:
            tape.watch(inputs)

            def mark(key, tensor):
                tensor = tf.identity(tensor)
                tape.watch(tensor)
                marked.setdefault(key, []).append(tensor)
                return _with_own_gradient(tensor)

            score, aux = function(mark, tree.map_structure(_with_own_gradient, inputs))
        values = [marked[key][call] for key, call in marks]
        return score, aux, values, *_gradients(tape, score, [values, inputs], count)


def _gradients(tape, score, sources, count=None):
    flat = tree.flatten(sources)
    found = tape.gradient(score, flat) if count is None else _gradients_of_several(tape, score, flat, count)
    dense = [None if g is None else tf.convert_to_tensor(g) for g in found]  # gather gives IndexedSlices
    return tree.pack_sequence_as(sources, dense)


def _gradients_of_several(tape, scores, sources, count):
    """Returns the gradients of each column of scores, side by side on the second axis; a graph holds one loop."""
    connected = []

    def of(number):
        upstream = tf.one_hot(tf.fill(tf.shape(scores)[:1], number), count, dtype=scores.dtype)
        found = tape.gradient(scores, sources, upstream)
        connected[:] = [gradient is not None for gradient in found]
        pairs = zip(found, sources)
        return [tf.zeros((), x.dtype) if gradient is None else tf.convert_to_tensor(gradient) for gradient, x in pairs]

    kinds = [source.dtype for source in sources]
    found = tf.map_fn(of, tf.range(count), fn_output_signature=kinds, parallel_iterations=1)
    pairs = zip(found, sources, connected)
    return [_samples_first(gradient, source, count) if known else None for gradient, source, known in pairs]


def _samples_first(gradient, source, count):
    gradient = tf.ensure_shape(gradient, (count, *source.shape))
    return tf.transpose(gradient, [1, 0, *range(2, len(gradient.shape))])


@contextlib.contextmanager
def _let_go():
    """Lets custom gradients forget their tensors once the gradient has been taken.

    Those of a graph stay in TensorFlow's registry for good, and their tensors would keep the graph.
    """
    outer, _referred.lists = getattr(_referred, "lists", None), []
    try:
        yield
    finally:
        for one in _referred.lists:
            one.clear()
        _referred.lists = outer


def with_gradient(rule, source, x, y):
    """Gives a value a gradient of its own, see `vis.backend.with_gradient`."""
    given, result = [rule, x, y], []
    if getattr(_referred, "lists", None) is not None:
        _referred.lists += [given, result]

    def backward(upstream):
        rule, x, y = given
        return rule(x, y, upstream), None, None

    @tf.custom_gradient
    def replaced(source, x, y):
        given[1:] = x, y
        result.append(tf.identity(y))
        return result, backward

    return replaced(source, tf.stop_gradient(x), tf.stop_gradient(y))[0]


def update(optimizer, gradients, variables):
    """Lets an optimizer move variables, see `vis.backend.update`.

    In a replica's context Keras would sum the gradients over the replicas, by a custom gradient: within a graph,
    that one stays in TensorFlow's registry for good, and the graph with it.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        optimizer.apply(gradients, variables)
    else:
        context.merge_call(lambda strategy: optimizer.apply(gradients, variables))


def compile(function, variables, eager_first=True):
    """Compiles a function, see `vis.backend.compile`.

    Graphs read the variables when they run, so changed weights are seen. Tracing costs as much as some eager calls:
    how many are waited for, `vis.backend.patience` says.
    """
    # TensorFlow warns of retraces by code object, which all our functions share; of a
    # partial it takes the object itself.
    graph = tf.function(functools.partial(function), autograph=False)
    meter, traced = Meter(), {}

    def first(signature, args):
        traced[signature] = graph.get_concrete_function(*args)  # called itself, it costs a third of a millisecond less
        return traced[signature](*args)

    def call(*args, coming=1 if eager_first else math.inf):
        args = tree.map_structure(_tensor, args)
        signature = tuple((tuple(t.shape), t.dtype) for t in tree.flatten(args))
        if signature in traced:
            return traced[signature](*args)
        if meter.compiles(signature, coming):
            return meter.compiled(signature, lambda: first(signature, args))
        return meter.eagerly(signature, lambda: function(*args))

    call.graph = graph
    return call


def _tensor(value):
    """Returns an array or a tensor as a tensor; as Keras does it, which is slower for arrays."""
    return tf.constant(value) if type(value) is np.ndarray else ops.convert_to_tensor(value)


def few_times(function, variables):
    """Returns a function that runs eagerly, see `vis.backend.few_times`."""
    return lambda *args: function(*tree.map_structure(ops.convert_to_tensor, args))


def compile_loop(step, variables, written):
    """Compiles a loop, see `vis.backend.compile_loop`."""

    def run(count, args):
        def body(i):
            step(i, *args)
            return (i + 1,)

        tf.while_loop(lambda i: i < count, body, [tf.constant(0)], parallel_iterations=1)

    graph = tf.function(functools.partial(run), autograph=False)

    def call(count, *args):
        graph(tf.constant(count), tree.map_structure(ops.convert_to_tensor, args))

    call.graph = graph
    return call


def compile_rows(function, variables):
    """Compiles a function of rows, see `vis.backend.compile_rows`.

    Under a distribution strategy, or for a model made under one, each replica gets its share.
    """
    compiled = compile(function, variables)

    def on_replicas(shares):
        return _strategy(variables).run(functools.partial(function), args=shares)

    on_replicas = tf.function(functools.partial(on_replicas), autograph=False)  # see `compile`

    def call(*args, coming=1):
        strategy = _strategy(variables)
        if strategy.num_replicas_in_sync == 1:
            return compiled(*args, coming=coming)
        results = on_replicas(_shares(strategy, tree.map_structure(ops.convert_to_tensor, args)))
        return tree.map_structure(lambda parts: tf.concat(strategy.experimental_local_results(parts), axis=0), results)

    call.graph = compiled.graph
    return call


def _shares(strategy, args):
    count = strategy.num_replicas_in_sync

    def share(context):
        own = context.replica_id_in_sync_group
        return tree.map_structure(lambda rows: tf.split(rows, count)[own], args)

    return strategy.experimental_distribute_values_from_function(share)


def _strategy(variables):
    current = tf.distribute.get_strategy()
    if current.num_replicas_in_sync > 1 or not variables:
        return current
    return getattr(variables[0].value, "distribute_strategy", None) or current


def weighted_rows(lines, indices, weights):
    """Returns weighted sums of rows, see `vis.backend.weighted_rows`.

    As the product with a sparse matrix, whose gradient is one too: that of `tf.gather` is five times slower.
    """
    count, given, channels = lines.shape
    wanted = indices[0].shape[0]
    rows = tf.tile(tf.range(wanted, dtype="int64"), [len(indices)])
    places = tf.stack([rows, tf.cast(tf.concat(indices, axis=0), "int64")], axis=1)
    matrix = tf.SparseTensor(places, tf.concat(weights, axis=0), (wanted, given))
    flat = tf.reshape(tf.transpose(lines, (1, 0, 2)), (given, count * channels))
    found = tf.sparse.sparse_dense_matmul(matrix, flat)
    return tf.transpose(tf.reshape(found, (wanted, count, channels)), (1, 0, 2))


def inverse_fourier(real, imaginary, sizes):
    """Returns the real inverse of the Fourier transform, see `vis.backend.inverse_fourier`."""
    values = tf.complex(real, imaginary)
    for axis in range(-len(sizes), -2):  # there is no gradient of `irfft3d`
        values = ops.swapaxes(tf.signal.ifft(ops.swapaxes(values, axis, -1)), axis, -1)
    return tf.signal.irfft(values, sizes) if len(sizes) == 1 else tf.signal.irfft2d(values, sizes[-2:])


def device_count(variables):
    """Returns the number of replicas of the strategy in use."""
    return _strategy(variables).num_replicas_in_sync


def concrete(tensor):
    """Returns a tensor's value, see `vis.backend.concrete`."""
    return tensor.numpy() if tf.executing_eagerly() else None


def outside(layer, call, inputs):
    """Calls a layer, see `vis.backend.outside`."""
    return call(inputs)


def trace():
    """Returns what is being traced, see `vis.backend.trace`."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def untouched(model):
    """Keeps a model's variables as they are, see `vis.backend.untouched`."""
    return keras.StatelessScope()


class _PictureWriter:
    """`tf.summary` in the manner of PyTorch's `SummaryWriter`."""

    def __init__(self, directory):
        self._writer = tf.summary.create_file_writer(directory)

    def add_image(self, name, picture, step, dataformats="HWC"):
        with self._writer.as_default():
            tf.summary.image(name, picture[None], step=step)

    def add_scalar(self, name, value, step):
        with self._writer.as_default():
            tf.summary.scalar(name, value, step=step)

    def close(self):
        self._writer.close()


def picture_writer(directory):
    """Writes pictures for TensorBoard, see `vis.backend.picture_writer`."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("`tf.summary.image` needs the package tensorboard.")
    return _PictureWriter(directory)
