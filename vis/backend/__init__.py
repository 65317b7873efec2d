"""The seam: the only place that knows which framework runs beneath Keras.

Each framework module gives the same functions; one test of their contract runs on all
three.
"""

import importlib
import os
import sys

_CHOOSE = "Set KERAS_BACKEND to 'tensorflow', 'jax' or 'torch' before importing Keras."
_asked = os.environ.get("KERAS_BACKEND")
if "keras" not in sys.modules and _asked not in (None, "", "tensorflow", "jax", "torch"):  # Keras may not import
    raise ImportError(f"vis does not support the Keras backend '{_asked}'. {_CHOOSE}")

import keras  # noqa: E402

from vis.utils import images  # noqa: E402

if keras.config.backend() == "tensorflow":
    from vis.backend import _tensorflow as _framework
elif keras.config.backend() == "jax":
    from vis.backend import _jax as _framework
elif keras.config.backend() == "torch":
    from vis.backend import _torch as _framework
else:
    raise ImportError(f"vis does not support the Keras backend '{keras.config.backend()}'. {_CHOOSE}")


def value_and_grad(function, inputs):
    """Differentiates a per-sample score with respect to its inputs.

    Args:
        function: `function(inputs) -> (score (N,), aux)`.
        inputs: A tensor or a structure of tensors.

    Returns:
        `(score, aux, gradients)`; a gradient is `None` where the score does not depend on
        that input.
    """
    return _framework.value_and_grad(function, inputs)


def value_and_grad_at(function, marks, inputs=(), count=None):
    """Differentiates a per-sample score with respect to tensors inside its computation, and to its inputs.

    Several scores share the computation, and each one's gradient is taken after the other.

    Args:
        function: `function(mark, inputs) -> (score (N,), aux)`. It must pass each inner tensor through
            `mark(key, tensor)` and go on with what that returns.
        marks: Pairs `(key, call)`: which passage under the key counts, if there are several; -1 for the last.
        inputs: A structure of tensors. Default: none.
        count: How many scores each sample has: they are `(N, count)` then, and a gradient is `(N, count, ...)`.
            Default `None`: one.

    Returns:
        `(score, aux, values, gradients, input_gradients)`: values and gradients are lists in the order of the marks,
        the last has the structure of the inputs. A gradient is `None` where the score does not depend on the value.
    """
    return _framework.value_and_grad_at(function, list(marks), inputs, count)


def with_gradient(rule, source, x, y):
    """Returns `y`, whose gradient with respect to `source` is `rule(x, y, upstream)`.

    Args:
        rule: Pure function of three tensors of one shape.
        source: The tensor that receives the gradient. Nothing else receives any.
        x: First argument of the rule.
        y: The value, and the second argument of the rule.
    """
    return _framework.with_gradient(rule, source, x, y)


def update(optimizer, gradients, variables) -> None:
    """Lets a Keras optimizer move the variables it was built for; for use inside compiled functions.

    Args:
        optimizer: Any Keras optimizer.
        gradients: One gradient for each variable.
        variables: The Keras variables.
    """
    _framework.update(optimizer, gradients, variables)


def compile(function, variables, eager_first=True):
    """Returns a `function(*tensors)` that is compiled when that pays, and sees changed weights.

    JAX compiles sooner than it runs step by step, PyTorch never does; on TensorFlow see `vis.backend.patience`.

    Args:
        function: Pure function of structures of tensors.
        variables: The Keras variables it reads.
        eager_first: Whether the first calls of each signature run eagerly, where that saves time.

    Returns:
        The function. `coming=` tells it how many calls of this signature are known to come, this one included;
        `math.inf` for a compiled one in any case.
    """
    return _framework.compile(function, variables, eager_first)


def few_times(function, variables):
    """Returns a `function(*tensors)` for a few calls: compiled only where that is faster even then.

    Args:
        function: Pure function of structures of tensors.
        variables: The Keras variables it reads.
    """
    return _framework.few_times(function, list(variables))


def compile_loop(step, variables, written):
    """Returns a compiled `run(count, *tensors)` that calls `step(i, *tensors)` for i from 0 to count - 1.

    Args:
        step: Function of a number and structures of tensors that assigns to variables and returns nothing.
        variables: The Keras variables it reads.
        written: Those it assigns to.
    """
    return _framework.compile_loop(step, list(variables), list(written))


def compile_rows(function, variables):
    """Returns a `function(*tensors)`, compiled when that pays, whose rows are spread over the devices in use.

    Args:
        function: Pure function from structures of tensors to structures of tensors, all with
            as many rows, which do not depend on one another.
        variables: The Keras variables it reads.

    Returns:
        The function; `coming=` as of `compile`.
    """
    return _framework.compile_rows(function, list(variables))


def weighted_rows(lines, indices, weights):
    """Returns weighted sums of the rows of matrices, `(N, Q, C)`, such as pixels between those of images.

    Args:
        lines: Tensor `(N, P, C)`.
        indices: List of int tensors `(Q,)`: which rows.
        weights: As many tensors `(Q,)`.
    """
    return _framework.weighted_rows(lines, list(indices), list(weights))


def inverse_fourier(real, imaginary, sizes):
    """Returns the real inverse of the Fourier transform over the last axes.

    Args:
        real: Tensor `(..., *frequencies)`, of the last axis only those from 0 up.
        imaginary: Tensor of the same shape.
        sizes: The sizes of what is returned along these axes.
    """
    return _framework.inverse_fourier(real, imaginary, list(sizes))


def device_count(variables) -> int:
    """Returns the number of devices that rows are spread over: their number must be a multiple."""
    return _framework.device_count(list(variables))


def concrete(tensor):
    """Returns a tensor's value as an array, or `None` while a function is traced for compilation."""
    return _framework.concrete(tensor)


def outside(layer, call, inputs):
    """Calls a layer of whole numbers that runs on TensorFlow, whatever Keras runs on; no gradient passes it.

    JAX cannot trace such layers, and calls back to them when what was compiled runs.

    Args:
        layer: The layer.
        call: Its call.
        inputs: What that takes.
    """
    return _framework.outside(layer, call, inputs)


def trace():
    """Returns what is being traced, to be compared: inside a branch or a loop of a function it is another than outside.

    A tensor made in one trace cannot be read in another.
    """
    return _framework.trace()


def untouched(model):
    """Returns a context in which what a model assigns to its variables is dropped at the end."""
    return _framework.untouched(model)


def picture_writer(directory):
    """Returns what writes pictures for TensorBoard, or `None` where no package that can is installed.

    TensorFlow's and PyTorch's own writers need the package `tensorboard`; without it, and on JAX, it is
    `tensorboardX`'s.

    Args:
        directory: Where the event files go.

    Returns:
        An object with `add_image(name, picture, step, dataformats="HWC")`, `add_scalar(name, value, step)` and
        `close()`.
    """
    try:
        return _framework.picture_writer(str(directory))
    except ImportError:
        pass
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory))


def set_random_seed(seed_value=1337) -> None:
    """Seeds Python, NumPy, the backend and the package's own random generator.

    It is the one function here that changes global state, because that is its purpose.

    Args:
        seed_value: The seed. Default 1337.

    Examples:
        >>> set_random_seed(7)
    """
    keras.utils.set_random_seed(seed_value)
    images.seed_generator(seed_value)


def __getattr__(name):
    if name == "modify_model_backprop":  # keras-vis had it here; it needs what lies above
        return importlib.import_module("vis.backprop_modifiers").modify_model_backprop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
