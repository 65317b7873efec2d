"""One contract for the seam, the same on every backend."""

import keras
import numpy as np
import pytest
from conftest import value_of
from keras import ops

from vis import backend


def per_sample_squares(x):
    return ops.sum(ops.square(x), axis=-1), {"doubled": 2 * x}


def test_value_and_grad_of_a_sum_of_squares():
    x = ops.convert_to_tensor(np.arange(8, dtype="float32").reshape(2, 4))
    score, aux, gradient = backend.value_and_grad(per_sample_squares, x)
    assert value_of(score).sum() == 140
    np.testing.assert_array_equal(value_of(gradient), 2 * value_of(x))
    np.testing.assert_array_equal(value_of(aux["doubled"]), 2 * value_of(x))


def test_value_and_grad_of_several_inputs():
    x = [ops.ones((2, 3)), ops.ones((2, 1)), ops.ones((2, 5))]
    _, _, gradients = backend.value_and_grad(lambda x: (ops.sum(3 * x[0], -1) * x[1][:, 0], ()), x)
    assert value_of(gradients[0]).tolist() == [[3.0] * 3] * 2
    assert value_of(gradients[1]).tolist() == [[9.0]] * 2
    assert gradients[2] is None


def test_value_and_grad_at_an_inner_tensor_with_a_bypass():
    x = ops.convert_to_tensor(np.array([[1.0, 2.0]], "float32"))

    def function(mark, _):
        inner = mark("inner", 3 * x)
        return ops.sum(ops.square(inner) + x * inner, axis=-1), inner

    score, aux, (value,), (gradient,), _ = backend.value_and_grad_at(function, [("inner", -1)])
    assert value_of(score).tolist() == [60.0]
    assert value_of(value).tolist() == value_of(aux).tolist() == [[3.0, 6.0]]
    assert value_of(gradient).tolist() == [[7.0, 14.0]]  # 2 * inner + x, x held fixed


@pytest.mark.parametrize("call, expected", [(0, 24.0), (1, 3.0), (-1, 3.0)])
def test_value_and_grad_at_one_of_two_passages(call, expected):
    x = ops.ones((1, 1))

    def function(mark, _):
        first = mark("site", 4 * x)
        return ops.sum(3 * mark("site", ops.square(first)), axis=-1), ()

    assert value_of(backend.value_and_grad_at(function, [("site", call)])[3][0]).tolist() == [[expected]]


def test_value_and_grad_at_several_tensors_and_the_inputs_in_one_pass():
    x = ops.convert_to_tensor(np.array([[1.0, 2.0]], "float32"))
    passes = []

    def function(mark, inputs):
        passes.append(1)
        (own,) = inputs
        first = mark("first", 3 * own)
        beside = mark("beside", own + 1)  # on a branch of its own
        last = mark("last", ops.square(first) * beside)
        return ops.sum(last + first, axis=-1), last

    marks = [("last", -1), ("first", 0), ("beside", -1)]
    score, aux, values, gradients, (at_input,) = backend.value_and_grad_at(function, marks, [x])
    assert value_of(score).tolist() == [18 + 3 + 108 + 6]
    assert [value_of(v).tolist() for v in values] == [[[18.0, 108.0]], [[3.0, 6.0]], [[2.0, 3.0]]]
    assert value_of(aux).tolist() == [[18.0, 108.0]]
    expected = [[[1.0, 1.0]], [[13.0, 37.0]], [[9.0, 36.0]]]  # of last; 2 first beside + 1; first squared
    assert [value_of(g).tolist() for g in gradients] == expected
    assert value_of(at_input).tolist() == [[13 * 3 + 9.0, 37 * 3 + 36.0]]
    assert len(passes) <= 3  # JAX traces the function to learn of shapes and of ways; nothing runs twice


def test_several_scores_share_the_computation():
    x = ops.convert_to_tensor(np.array([[1.0, 2.0], [3.0, 4.0]], "float32"))
    passes = []

    def function(mark, inputs):
        passes.append(1)
        own, other = inputs
        inner = mark("inner", ops.square(own))
        return ops.stack([ops.sum(inner, -1), ops.prod(inner, -1), inner[:, 0]], axis=-1), own

    found = backend.value_and_grad_at(function, [("inner", -1)], [x, ops.ones((2, 1))], count=3)
    score, aux, (value,), (gradient,), (at_input, nothing) = found
    assert value_of(score).tolist() == [[5.0, 4.0, 1.0], [25.0, 144.0, 9.0]]
    assert value_of(aux).tolist() == value_of(x).tolist() and value_of(value).tolist() == [[1, 4], [9, 16]]
    expected = np.array([[[1, 1], [4, 1], [1, 0]], [[1, 1], [16, 9], [1, 0]]])  # (samples, scores, ...)
    assert value_of(gradient).tolist() == expected.tolist()
    assert value_of(at_input).tolist() == (expected * 2 * value_of(x)[:, None]).tolist()
    assert nothing is None
    assert len(passes) <= 3  # see above


def test_several_scores_within_a_compiled_function():
    def function(x):
        scores = backend.value_and_grad_at(lambda mark, own: (ops.square(own[0]), ()), [], [x], count=2)
        return scores[0], scores[-1][0]

    run = backend.compile(function, [])
    x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "float32")
    for _ in range(3):
        score, gradient = run(x)
        assert value_of(score).tolist() == (x**2).tolist()
        assert value_of(gradient).tolist() == [(np.diag(2 * row)).tolist() for row in x]


def test_disconnected_gradients_are_none():
    x = ops.ones((2, 3))
    assert backend.value_and_grad(lambda x: (ops.zeros((2,)) + 1.0, ()), x)[2] is None
    assert backend.value_and_grad_at(lambda mark, _: (ops.sum(0 * x + x, -1), mark("x", x)), [("x", -1)])[3] == [None]


def double_where_positive(x, y, upstream):
    return 2 * upstream * ops.cast(x > 0, upstream.dtype)


def test_with_gradient_runs_its_backward():
    x = ops.convert_to_tensor(np.array([[-1.0, 2.0, 5.0]], "float32"))

    def function(x):
        y = ops.square(x)
        return ops.sum(3 * backend.with_gradient(double_where_positive, x, x, y), -1), ()

    score, _, gradient = backend.value_and_grad(function, x)
    assert value_of(score).tolist() == [90.0]
    assert value_of(gradient).tolist() == [[0.0, 6.0, 6.0]]


def test_with_gradient_can_keep_the_derivative():
    x = ops.convert_to_tensor(np.array([[-1.0, 2.0, 5.0]], "float32"))

    def function(x):
        y = ops.square(x)
        return ops.sum(3 * backend.with_gradient(double_where_positive, y, x, y), -1), ()

    assert value_of(backend.value_and_grad(function, x)[2]).tolist() == [[0.0, 24.0, 60.0]]


def test_with_gradient_inside_a_compiled_function():
    def function(x):
        def score(x):
            return ops.sum(backend.with_gradient(double_where_positive, x, x, ops.square(x)), -1), ()

        return backend.value_and_grad(score, x)[2]

    call = backend.compile(function, [], eager_first=False)
    x = np.array([[-1.0, 2.0]], "float32")
    assert value_of(call(x)).tolist() == value_of(call(x)).tolist() == [[0.0, 2.0]]


def test_compiled_functions_follow_the_weights():
    variable = keras.Variable(2.0)
    call = backend.compile(lambda x: x * variable, [variable])
    x = np.ones((1, 2), "float32")
    for expected in (2.0, 2.0, 5.0):
        variable.assign(expected)
        assert value_of(call(x)).tolist() == [[expected, expected]]


def test_compiled_once_for_many_calls():
    traces = []

    def function(x, scale):
        traces.append(1)
        return x * scale

    call = backend.compile(function, [])
    for scale in range(5):
        call(np.ones((1, 2), "float32"), np.float32(scale))
    allowed = {"tensorflow": 2, "jax": 1, "torch": 5}[keras.config.backend()]  # TensorFlow: one eager, one trace
    assert len(traces) == allowed


def test_set_random_seed_makes_draws_repeatable():
    from vis.utils.utils import random_array

    backend.set_random_seed(3)
    first = random_array((4,))
    backend.set_random_seed(3)
    np.testing.assert_array_equal(first, random_array((4,)))
    assert not np.array_equal(first, random_array((4,)))


def test_weighted_rows_and_their_gradient(rng):
    lines, weights = rng.random((2, 5, 3)).astype("float32"), rng.random((2, 4)).astype("float32")
    indices = np.array([[4, 0, 0, 2], [1, 0, 3, 2]], "int32")

    def function(x):
        found = backend.weighted_rows(x, *(list(map(ops.convert_to_tensor, parts)) for parts in (indices, weights)))
        return ops.sum(ops.square(found), axis=(1, 2)), found

    _, found, gradient = backend.value_and_grad(function, ops.convert_to_tensor(lines))
    matrix = np.zeros((4, 5))
    for some, own in zip(indices, weights):
        for row, (index, weight) in enumerate(zip(some, own)):
            matrix[row, index] += weight
    np.testing.assert_allclose(value_of(found), matrix @ lines, atol=1e-6)
    np.testing.assert_allclose(value_of(gradient), 2 * matrix.T @ matrix @ lines, atol=1e-5)
