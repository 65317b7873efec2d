"""The seam: the only place that knows which framework runs beneath Keras.

Each framework module gives the same four functions; their contract is kept by one test
that runs on all three.

* `value_and_grad(function, inputs)`: a per-sample score, and its gradient.
* `value_and_grad_at(function, call)`: the same with respect to a tensor inside.
* `with_gradient(rule, source, x, y)`: the value `y` with a gradient of one's own.
* `compile(function, variables)`: a compiled version that follows changes of the weights.
"""

import keras

from vis.utils import images

if keras.config.backend() == "tensorflow":
    from vis.backend import _tensorflow as _framework
elif keras.config.backend() == "jax":
    from vis.backend import _jax as _framework
elif keras.config.backend() == "torch":
    from vis.backend import _torch as _framework
else:
    raise ImportError(
        f"vis does not support the Keras backend '{keras.config.backend()}'. "
        "Set KERAS_BACKEND to 'tensorflow', 'jax' or 'torch' before importing Keras."
    )

value_and_grad = _framework.value_and_grad
value_and_grad_at = _framework.value_and_grad_at
with_gradient = _framework.with_gradient
compile = _framework.compile


def set_random_seed(seed_value=1337) -> None:
    """Seeds Python, NumPy, the backend and the package's own random generator.

    It is the one function here that changes global state, because that is its purpose.

    Args:
        seed_value: The seed. Default 1337.

    Example:
        >>> set_random_seed(7)
    """
    keras.utils.set_random_seed(seed_value)
    images.seed_generator(seed_value)
