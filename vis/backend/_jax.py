"""The seam on JAX."""

import collections

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.extend.core import get_opaque_trace_state
from keras import ops, tree

from vis.utils.contexts import Again


def value_and_grad(function, inputs, count=None):
    """Differentiates with respect to inputs, see `vis.backend.value_and_grad`; `count` as of `value_and_grad_at`."""
    connected = _depends(lambda inputs: jnp.sum(function(inputs)[0]), inputs)
    score, pull, aux = jax.vjp(function, inputs, has_aux=True)
    if count is None:
        (gradients,) = pull(jnp.ones_like(score))
    else:
        rows = jnp.eye(count, dtype=score.dtype)  # one score after the other
        (gradients,) = jax.lax.map(lambda row: pull(jnp.broadcast_to(row, score.shape)), rows)
        gradients = tree.map_structure(lambda gradient: jnp.moveaxis(gradient, 0, 1), gradients)
    flat = [g if c else None for g, c in zip(tree.flatten(gradients), connected)]
    return score, aux, tree.pack_sequence_as(inputs, flat)


def value_and_grad_at(function, marks, inputs=(), count=None):
    """Differentiates with respect to inner tensors, see `vis.backend.value_and_grad_at`.

    Zeros are added to the tensors, and the score differentiated with respect to these zeros.
    """
    specs = {}

    def survey(inputs):
        def mark(key, tensor):
            specs.setdefault(key, []).append((tensor.shape, tensor.dtype))
            return tensor

        return function(mark, inputs)[0]

    if marks:
        jax.eval_shape(survey, inputs)
    wanted = [(key, range(len(specs[key]))[call]) for key, call in marks]

    def probed(given):
        probes, inputs = given
        counts, values = collections.Counter(), {}

        def mark(key, tensor):
            passage = (key, counts[key])
            counts[key] += 1
            if passage in wanted:
                tensor = values[passage] = tensor + probes[wanted.index(passage)]
            return tensor

        score, aux = function(mark, inputs)
        return score, (aux, [values[passage] for passage in wanted])

    zeros = [jnp.zeros(*specs[key][number]) for key, number in wanted]
    score, (aux, values), (gradients, input_gradients) = value_and_grad(probed, (zeros, inputs), count)
    return score, aux, values, [gradients[wanted.index(passage)] for passage in wanted], input_gradients


def with_gradient(rule, source, x, y):
    """Gives a value a gradient of its own, see `vis.backend.with_gradient`."""

    @jax.custom_vjp
    def replaced(source, x, y):
        return y

    def forward(source, x, y):
        return y, (x, y)

    def backward(residuals, upstream):
        x, y = residuals
        return rule(x, y, upstream), jnp.zeros_like(x), jnp.zeros_like(y)

    replaced.defvjp(forward, backward)
    return replaced(source, jax.lax.stop_gradient(x), jax.lax.stop_gradient(y))


def update(optimizer, gradients, variables):
    """Lets an optimizer move variables, see `vis.backend.update`."""
    optimizer.apply(gradients, variables)


def compile(function, variables, eager_first=True):
    """Compiles a function, see `vis.backend.compile`.

    The variables' values are arguments of the compiled function, not constants in it, so
    changed weights are seen. JAX compiles sooner than it runs op by op: `eager_first` has no
    effect.
    """
    variables = list(variables)

    @jax.jit
    def pure(values, args):
        scope = keras.StatelessScope(state_mapping=list(zip(variables, values)))
        with Again(scope), scope:
            return function(*args)

    def call(*args, coming=1):
        return pure([v.value for v in variables], args)

    call.graph = pure
    return call


few_times = compile


def compile_loop(step, variables, written):
    """Compiles a loop, see `vis.backend.compile_loop`.

    Within it, the values of the written variables are handed from step to step.
    """
    places = {id(v) for v in written}
    read = [v for v in variables if id(v) not in places]

    @jax.jit
    def pure(values, state, count, args):
        def body(i, state):
            scope = keras.StatelessScope(state_mapping=[*zip(read, values), *zip(written, state)])
            with Again(scope), scope:
                step(i, *args)
            return [scope.get_current_value(v) for v in written]

        return jax.lax.fori_loop(0, count, body, state)

    def call(count, *args):
        state = pure([v.value for v in read], [v.value for v in written], count, args)
        for variable, value in zip(written, state):
            variable.assign(value)

    call.graph = pure
    return call


def compile_rows(function, variables):
    """Compiles a function of rows, see `vis.backend.compile_rows`.

    With `keras.distribution` set, the rows are laid out over its devices.
    """
    compiled = compile(function, variables)

    def call(*args, coming=1):
        distribution = keras.distribution.distribution()
        if distribution is not None:
            args = tree.map_structure(lambda rows: _laid_out(distribution, rows), args)
        return compiled(*args)

    call.graph = compiled.graph
    return call


def _laid_out(distribution, rows):
    rows = jnp.asarray(rows)
    return keras.distribution.distribute_tensor(rows, distribution.get_data_layout(rows.shape))


def weighted_rows(lines, indices, weights):
    """Returns weighted sums of rows, see `vis.backend.weighted_rows`."""
    return sum(jnp.take(lines, index, axis=1) * weight[None, :, None] for index, weight in zip(indices, weights))


def inverse_fourier(real, imaginary, sizes):
    """Returns the real inverse of the Fourier transform, see `vis.backend.inverse_fourier`."""
    return jnp.fft.irfftn(jax.lax.complex(real, imaginary), sizes, range(-len(sizes), 0))


def device_count(variables):
    """Returns the size of the distribution's batch axis."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def _depends(function, inputs):
    """Tells for each input whether `function(inputs)` depends on it at all.

    JAX answers a gradient of zeros either way, so the inputs are followed through the
    traced program (which is not run).
    """
    program = jax.make_jaxpr(function)(inputs).jaxpr
    return [_reaches(program, variable) for variable in program.invars]


def _reaches(program, start):
    reached = {start}
    for equation in program.eqns:
        if any(_is_in(v, reached) for v in equation.invars):
            reached.update(v for v in equation.outvars if jnp.issubdtype(v.aval.dtype, jnp.inexact))
    return any(_is_in(v, reached) for v in program.outvars)


def _is_in(variable, reached):
    return not hasattr(variable, "val") and variable in reached  # literals are not hashable


def concrete(tensor):
    """Returns a tensor's value, see `vis.backend.concrete`."""
    return None if isinstance(tensor, jax.core.Tracer) else ops.convert_to_numpy(tensor)


def outside(layer, call, inputs):
    """Calls a layer of TensorFlow's, see `vis.backend.outside`."""
    if not any(isinstance(tensor, jax.core.Tracer) for tensor in tree.flatten(inputs)):
        return call(inputs)
    import tensorflow as tf  # which the layer needs

    # Within TensorFlow's trace Keras leaves what the layer puts out to TensorFlow: a callback must not call JAX.
    specs = tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype.name), inputs)
    compiled = tf.function(call).get_concrete_function(specs)
    out = layer.compute_output_spec(tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype.name), inputs))
    shape = jax.ShapeDtypeStruct(out.shape, jax.dtypes.canonicalize_dtype(out.dtype))

    def run(values):
        found = compiled(tree.map_structure(lambda value: tf.constant(np.asarray(value)), values))
        return found.numpy().astype(shape.dtype)

    return jax.pure_callback(run, shape, jax.lax.stop_gradient(inputs))


def trace():
    """Returns what is being traced, see `vis.backend.trace`."""
    return get_opaque_trace_state(convention="nnx")


def untouched(model):
    """Keeps a model's variables as they are, see `vis.backend.untouched`."""
    return keras.StatelessScope(state_mapping=[(v, v.value) for v in model.variables])


def picture_writer(directory):
    """Raises an error, see `vis.backend.picture_writer`."""
    raise ImportError("JAX has no writer for TensorBoard of its own.")
