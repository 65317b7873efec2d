"""Rules of relevance: how the relevance of an output is shared among what goes in.

A rule gives an operation another gradient, such that at every tensor relevance = value x gradient. So what has no rule
and is linear (sums, reshapes, means, padding) passes relevance on rightly by its own gradient. Where a value is 0,
`nonzero` stands for it, so that relevance can reach it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.backprop_modifiers.kinds import is_cut, is_homogeneous
from vis.engine.linear import CONVOLUTIONS, LINEAR, has_own_kernel, input_channels
from vis.utils.validation import check_nonnegative

if TYPE_CHECKING:
    from keras import Operation
    from numpy.typing import ArrayLike

    from vis.engine.linear import LinearMap
    from vis.utils.types import BackwardRule, Tensor

# What stands for a value nearer to 0 than this. Half precision holds nothing smaller whose quotients stay finite.
_FLOORS = {"float16": 2.0**-12}
_FLOOR = 1e-12


def floor(dtype: str) -> float:
    """Returns what stands for a value of a dtype that is nearer to 0.

    Examples:
        >>> floor("float32")
        1e-12
    """
    return _FLOORS.get(dtype, _FLOOR)


def nonzero(x: Tensor) -> Tensor:
    """Returns a tensor whose values are kept from 0: the number that relevance is divided by to make a gradient.

    Examples:
        >>> bool(nonzero(ops.convert_to_tensor(0.0)) > 0)
        True
    """
    return _stabilized(x, 0.0)


def with_value(y: Tensor, surrogate: Tensor) -> Tensor:
    """Returns the gradient of a surrogate under the value y, exactly.

    Examples:
        >>> float(with_value(ops.convert_to_tensor(2.0), ops.convert_to_tensor(0.3)))
        2.0
    """
    return ops.stop_gradient(y) + (surrogate - ops.stop_gradient(surrogate))


def _stabilized(z, epsilon):
    """Returns z + epsilon sign(z), where the sign of 0 is 1, and epsilon at least the floor of the dtype."""
    epsilon = max(epsilon, floor(keras.backend.standardize_dtype(z.dtype)))
    return z + ops.cast(ops.where(z < 0, -epsilon, epsilon), z.dtype)


def _shared(y, *shares):
    """Returns y, whose relevance is shared by the inputs as they make up other sums.

    Everything is done on the way back, so that the way forth costs nothing.

    Args:
        y: The value.
        *shares: Pairs `(z, factor)`: a sum, and a function `(z, y) -> number by which relevance / z counts`.
    """
    parts = [backend.with_gradient(_by(factor), ops.cast(z, y.dtype), ops.cast(z, y.dtype), y) for z, factor in shares]
    return sum((part - ops.stop_gradient(y) for part in parts[1:]), parts[0])


def _by(factor):
    return lambda z, y, upstream: upstream * (nonzero(y) * factor(z, y))


def _per(epsilon, times=1):
    """Returns the factor of a share: a number by the stabilised sum."""
    return lambda z, y: times / _stabilized(z, epsilon)


def _positive(x):
    return ops.relu(x)


def _negative(x):
    return -ops.relu(-x)


def _same(weights):
    return weights


@dataclasses.dataclass(frozen=True)
class _KernelRule:
    """Base of the rules that look at single weights of a linear layer."""

    epsilon: float = dataclasses.field(default=1e-6, kw_only=True)
    name = "kernel"

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    def check(self, operation: Operation) -> None:
        """Raises unless an operation is a linear layer with a kernel that can be changed.

        Args:
            operation: What is to get the rule.

        Raises:
            ValueError: It is something else, or its kernel is not a variable of its own.
        """
        if not isinstance(operation, LINEAR + CONVOLUTIONS):
            raise ValueError(
                f"Rule {self.name!r} is for linear layers, which have a kernel: Dense, EinsumDense and convolutions. "
                f"Received: {operation.name!r:.80} ({type(operation).__name__:.40}). Choose other operations for it, "
                'such as "dense" or "convolution".'
            )
        if not has_own_kernel(operation):
            raise ValueError(
                f"Rule {self.name!r} changes the kernel. Received: layer {operation.name!r:.80}, whose weights are "
                "adapted (LoRA) or its own. Merge them into the kernel, or give the layer a rule that changes none: "
                "`Composite([(name, Epsilon()), ...])`."
            )


@dataclasses.dataclass(frozen=True)
class Identity:
    """Relevance passes an operation as if it were not there; for activations and normalisations.

    Source: Bach et al. 2015, "On Pixel-wise Explanations", section on the propagation through nonlinearities.

    Examples:
        >>> x = ops.convert_to_tensor([2.0, 3.0])
        >>> [float(y) for y in Identity().surrogate(ops.square, None, x)]
        [4.0, 9.0]
    """

    name = "identity"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the gradient y / x."""
        y = call(x, *args, **kwargs)
        if tuple(y.shape) != tuple(x.shape):
            raise ValueError(
                "Rule 'identity' is for operations that keep the shape: activations and normalisations. Received: "
                f"{getattr(operation, 'name', operation)!r}, from {tuple(x.shape)} to {tuple(y.shape)}."
            )
        if is_homogeneous(operation, call):
            return y
        return backend.with_gradient(_kept if is_cut(operation, call) else _ratio, x, x, y)


def _kept(x, y, upstream):
    """Multiplies a gradient with y / x for a function that gives 0 where x is not above 0."""
    return upstream * (y / ops.maximum(x, floor(keras.backend.standardize_dtype(x.dtype))))


def _ratio(x, y, upstream):
    return upstream * (nonzero(y) / nonzero(x))


@dataclasses.dataclass(frozen=True)
class Half:
    """Each factor of a product gets an equal share of its relevance: of two, one half.

    Source: Achtibat et al. 2024, "AttnLRP", equation 13 (the uniform rule).

    Examples:
        >>> factors = [ops.convert_to_tensor([2.0]), ops.convert_to_tensor([3.0])]
        >>> float(Half().surrogate(lambda pair: pair[0] * pair[1], None, factors)[0])
        6.0
    """

    name = "half"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the product, with an n-th of its own gradient for each of its n factors."""
        count = sum(ops.is_tensor(x) for x in tree.flatten(args))
        shared = tree.map_structure(lambda x: _with_share(x, count) if ops.is_tensor(x) else x, args)
        return call(*shared, **kwargs)


def halved(x: Tensor) -> Tensor:
    """Returns a tensor that hands on half of its gradient.

    Examples:
        >>> float(halved(ops.convert_to_tensor(3.0)))
        3.0
    """
    return _with_share(x, 2)


def _with_share(x, count):
    return backend.with_gradient(lambda x, y, upstream: upstream / count, x, x, x)


def only_one(args: tuple, index: int, others: Callable = ops.stop_gradient) -> tuple:
    """Returns the arguments of a product, of which only one tensor has a gradient.

    Args:
        args: The arguments, a structure.
        index: Which of the tensors.
        others: What becomes of the others. Default: the same without a gradient.

    Examples:
        >>> len(only_one((ops.ones(2), ops.ones(2), 3), 0))
        3
    """
    number = iter(range(len(tree.flatten(args))))

    def one(x):
        return x if not ops.is_tensor(x) or next(number) == index else others(x)

    return tree.map_structure(one, args)


@dataclasses.dataclass(frozen=True)
class Constant:
    """An operation counts as a constant and gets no relevance; for the gates of recurrent layers.

    What a gate lets through takes all of the product's relevance.

    Source: Arras et al. 2017, "Explaining Recurrent Neural Network Predictions in Sentiment Analysis", section 3.1.

    Examples:
        >>> float(Constant().surrogate(ops.sigmoid, None, ops.convert_to_tensor(0.0)))
        0.5
    """

    name = "constant"

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the value without a gradient."""
        return ops.stop_gradient(call(*args, **kwargs))


@dataclasses.dataclass(frozen=True)
class Numerator:
    """Relevance of a quotient goes to what is divided; the divisor counts as a constant.

    Source: Achtibat et al. 2024, "AttnLRP", section 3.3 (normalisation).

    Examples:
        >>> pair = ops.convert_to_tensor([6.0]), ops.convert_to_tensor([3.0])
        >>> float(Numerator().surrogate(ops.divide, None, *pair)[0])
        2.0
    """

    name = "numerator"

    def surrogate(self, call: Callable, operation: Operation | None, x: Tensor, divisor: Tensor) -> Tensor:
        """Returns the quotient, with a gradient for what is divided."""
        return call(x, ops.stop_gradient(divisor) if ops.is_tensor(divisor) else divisor)


@dataclasses.dataclass(frozen=True)
class Epsilon:
    """LRP-epsilon: relevance goes to the inputs of a linear layer in proportion to what they add to its output.

    The share of the bias, and what epsilon takes, is not handed on. On deep networks its maps are noisy, as those of
    gradient x input are: with ReLUs the two are the same but for biases.

    Source: Bach et al. 2015, "On Pixel-wise Explanations", equation 58.

    Args:
        epsilon: Above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0.

    Examples:
        >>> x = ops.convert_to_tensor([[1.0, 2.0]])
        >>> float(Epsilon().surrogate(lambda x: ops.sum(3.0 * x, axis=-1), None, x)[0])
        9.0
    """

    epsilon: float = 1e-6
    name = "epsilon"

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    def surrogate(self, call: Callable, operation: Operation | None, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(x)`, with the layer's own gradient times z / (z + epsilon sign(z))."""
        z = call(*args, **kwargs)

        def damped(z, _, upstream):  # by |z| / (|z| + epsilon), in the fewest steps
            return upstream / (self.epsilon / ops.absolute(z) + 1)

        return backend.with_gradient(damped, z, z, z)

    def surrogate_behind(
        self, linear: LinearMap, rule: BackwardRule, call: Callable, operation: Operation | None, x: Tensor, *args: Any
    ) -> Tensor:
        """Returns what a rule makes of an activation of the layer's output: this rule's gradient and its, in one step.

        Two steps take twice the time.

        Args:
            linear: The layer, a `vis.engine.linear.LinearMap`.
            rule: The rule of the activation.
            call: The activation.
            operation: Whose it is.
            x: The layer's output, as this rule gave it.
            *args: What the activation takes besides.
        """
        if not (isinstance(rule, Identity) and is_cut(operation, call)):
            return rule.surrogate(call, operation, x, *args)

        def both(x, y, upstream):  # y / x times x / (x + epsilon); y is 0 where x is not above 0
            return upstream * ops.divide_no_nan(y, x + self.epsilon)

        return backend.with_gradient(both, linear(linear.x), x, call(x, *args))


def _check_epsilon(epsilon):
    if check_nonnegative("epsilon", epsilon) == 0:
        raise ValueError("`epsilon` must be above 0. Received: 0.")


@dataclasses.dataclass(frozen=True)
class ZPlus(_KernelRule):
    """Relevance goes to what raises the output of a linear layer, and to nothing else.

    What raises it: positive inputs by positive weights, and negative inputs by negative ones. A positive bias takes
    its share, which is not handed on. Maps are calm and never negative; what speaks against a class is not told.

    Source: Bach et al. 2015, equation 60 with alpha = 1; Montavon et al. 2017, "Explaining NonLinear Classification
    Decisions with Deep Taylor Decomposition", section 4.

    Args:
        epsilon: Keeps the quotient finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0, or the operation is no linear layer.

    Examples:
        >>> from vis import LRP
        >>> from vis.backprop_modifiers import Composite
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0], [-1.0]])])
        >>> LRP(model, ZPlus())(np.ones((1, 2))).round(4).tolist()
        [[2.0, 0.0]]
    """

    name = "z-plus"

    def surrogate(self, call: LinearMap, operation: Operation | None, x: Tensor) -> Tensor:
        """Returns `call(x)`, with the gradient of the parts that raise it."""
        return _shared(call(x), (_raising(call, x), _per(self.epsilon)))


def _raising(call, x):
    """Returns what the parts of a linear layer's output that raise it sum to."""
    return _both(call, x, (_positive, _positive), (_negative, None))


def _lowering(call, x):
    return _both(call, x, (_negative, _negative), (_positive, None))


def _both(call, x, high, low):
    """Returns the sum of the outputs for the positive inputs and the negative ones, each with weights of its own."""
    if call.is_nonnegative:
        return call.changed(x, *high)
    return call.changed(_positive(x), *high) + call.changed(_negative(x), *low)


@dataclasses.dataclass(frozen=True)
class Excitation(_KernelRule):
    """Relevance goes to positive inputs of positive weights, without biases.

    Source: Zhang et al. 2018, "Top-down Neural Attention by Excitation Backprop", equation 4.

    Args:
        epsilon: Keeps the quotient finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0, or the operation is no linear layer.

    Examples:
        >>> Excitation().name
        'excitation'
    """

    name = "excitation"

    def surrogate(self, call: LinearMap, operation: Operation | None, x: Tensor) -> Tensor:
        """Returns `call(x)`, with the gradient of the parts that excite it."""
        high = x if call.is_nonnegative else _positive(x)
        return _shared(call(x), (call.changed(high, _positive), _per(self.epsilon)))


@dataclasses.dataclass(frozen=True)
class AlphaBeta(_KernelRule):
    """Relevance goes, alpha times, to what raises the output, and, minus beta times, to what lowers it.

    Source: Bach et al. 2015, equation 60. Biases are split by their sign like weights.

    Args:
        alpha: At least 0. Default 2.
        beta: At least 0, and alpha - beta = 1. Default 1.
        epsilon: Keeps the quotients finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: alpha - beta is not 1, a number is negative, or the operation is no linear layer.

    Examples:
        >>> AlphaBeta(1, 0)
        AlphaBeta(epsilon=1e-06, alpha=1, beta=0)
    """

    alpha: float = 2
    beta: float = 1
    name = "alpha-beta"

    def __post_init__(self) -> None:
        super().__post_init__()
        alpha, beta = check_nonnegative("alpha", self.alpha), check_nonnegative("beta", self.beta)
        if abs(alpha - beta - 1) > 1e-6:
            raise ValueError(
                f"`alpha` - `beta` must be 1, so that relevance is conserved. Received: {alpha} - {beta} = "
                f"{alpha - beta}. Usual are (2, 1) and (1, 0)."
            )

    def surrogate(self, call: LinearMap, operation: Operation | None, x: Tensor) -> Tensor:
        """Returns `call(x)`, with the gradient of both shares."""
        shares = [(_raising(call, x), _per(self.epsilon, self.alpha))]
        if self.beta:
            shares.append((_lowering(call, x), _per(self.epsilon, -self.beta)))
        return _shared(call(x), *shares)


@dataclasses.dataclass(frozen=True)
class Gamma(_KernelRule):
    """Relevance goes to all inputs, but what has the sign of the output counts more, by gamma.

    Between `Epsilon` (gamma = 0) and `ZPlus` (gamma without end). For inputs and outputs of either sign.

    Source: Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", section 10.2.1; of either sign:
    Andeol et al. 2021, "Learning Domain Invariant Representations by Joint Wasserstein Distance Minimization".

    Args:
        gamma: At least 0. Default 0.25.
        epsilon: Keeps the quotients finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `gamma` is negative, or the operation is no linear layer.

    Examples:
        >>> Gamma(0.1).gamma
        0.1
    """

    gamma: float = 0.25
    name = "gamma"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("gamma", self.gamma)

    def surrogate(self, call: LinearMap, operation: Operation | None, x: Tensor) -> Tensor:
        """Returns `call(x)`, with the gradient of the share that belongs to the sign of the output."""
        y, high = call(x), _raising(call, x)
        # Of what raises the output, its part is counted gamma times more where it is positive; where it is negative,
        # that of what lowers it, y - high.
        is_positive = ops.stop_gradient(y > 0)
        own = ops.cast(ops.where(is_positive, 1, 1 + self.gamma), y.dtype)
        more = ops.cast(ops.where(is_positive, self.gamma, -self.gamma), y.dtype)
        return _shared(y, (own * y + more * high, _per(self.epsilon)))


class _FirstLayerRule(_KernelRule):
    """Base of the rules that share relevance by more than the values of the input, which may be 0."""

    def surrogate(self, call: LinearMap, operation: Operation | None, x: Tensor) -> Tensor:
        """Returns `call(x)`, with the gradient relevance / x."""
        return _shared(call(x), (self.whole(call, x), _per(self.epsilon)))

    def whole(self, call: LinearMap, x: Tensor) -> Tensor:
        """Returns what the shares sum to."""
        raise NotImplementedError(f"{type(self).__name__} must define `whole(call, x)`.")


def _in_place_of(x, value):
    """Returns a value whose gradient at x is value / x, so that it counts as a part of x, even where x is 0."""
    value = ops.stop_gradient(value + ops.zeros_like(x))
    return value + (x - ops.stop_gradient(x)) * (value / ops.stop_gradient(nonzero(x)))


@dataclasses.dataclass(frozen=True)
class Flat(_FirstLayerRule):
    """Relevance of an output goes to all inputs that it sees alike; for the first layer.

    It does not ask what the layer computes, so maps are calm and as coarse as the layer's window.

    Source: Lapuschkin et al. 2019, "Unmasking Clever Hans Predictors", methods.

    Args:
        epsilon: Keeps the quotient finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0, or the operation is no linear layer.

    Examples:
        >>> Flat().name
        'flat'
    """

    name = "flat"

    def whole(self, call: LinearMap, x: Tensor) -> Tensor:
        """Returns the number of inputs that each output sees."""
        return call.changed(_in_place_of(x, ops.ones_like(x)), ops.ones_like)


@dataclasses.dataclass(frozen=True)
class WSquare(_FirstLayerRule):
    """Relevance goes to inputs in proportion to their squared weights; for a first layer of inputs without bounds.

    Source: Montavon et al. 2017, "Explaining NonLinear Classification Decisions with Deep Taylor Decomposition",
    equation 12. The squared bias takes its share.

    Args:
        epsilon: Keeps the quotient finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `epsilon` is not above 0, or the operation is no linear layer.

    Examples:
        >>> WSquare().name
        'w-square'
    """

    name = "w-square"

    def whole(self, call: LinearMap, x: Tensor) -> Tensor:
        """Returns the sums of the squared weights."""
        ones = _in_place_of(x, ops.ones_like(x))
        return call.changed(ones, ops.square, ops.square)


@dataclasses.dataclass(frozen=True)
class ZBox(_FirstLayerRule):
    """Relevance goes to inputs by how far they are from the bounds of what they can be; for the first layer.

    Source: Montavon et al. 2017, equation 15.

    Args:
        low: The lowest value that an input can have: a number, or one for each channel. In the range of what the
            layer itself takes: after a Rescaling layer, what that puts out.
        high: The highest.
        epsilon: Keeps the quotient finite, above 0. Default 1e-6, absolute.

    Raises:
        ValueError: `low` is not below `high`, their number is not that of the channels, or the operation is no
            linear layer.

    Examples:
        >>> ZBox(0, [1, 1, 255]).high
        (1.0, 1.0, 255.0)
    """

    low: ArrayLike
    high: ArrayLike
    name = "z-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (_read_bound(name, getattr(self, name)) for name in ("low", "high"))
        sizes = np.size(low), np.size(high)
        if sizes[0] != sizes[1] and 1 not in sizes:
            raise ValueError(
                "`low` and `high` must be numbers, or one for each channel in both. Received: "
                f"{sizes[0]} numbers for `low` and {sizes[1]} for `high`."
            )
        if not np.all(np.asarray(low) < np.asarray(high)):
            raise ValueError(
                f"`low` must be below `high` in every channel. Received: low={low!s:.60}, high={high!s:.60}."
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def check(self, operation: Operation) -> None:
        """Raises unless an operation is a linear layer whose input has as many channels as there are bounds.

        Args:
            operation: What is to get the rule.

        Raises:
            ValueError: It is something else, or has another number of channels.
        """
        super().check(operation)
        channels, given = input_channels(operation), {np.size(self.low), np.size(self.high)} - {1}
        if given - {channels}:
            raise ValueError(
                f"`low` and `high` of the rule 'z-box' must be numbers, or one for each of {channels} channels of "
                f"layer {operation.name!r:.80}. Received: {max(given)} numbers."
            )

    def whole(self, call: LinearMap, x: Tensor) -> Tensor:
        """Returns the sum of what the inputs add to an output beyond what the bounds would."""
        form = getattr(call.layer, "data_format", None)
        low, high = (_in_place_of(x, _bound(getattr(self, name), x, form)) for name in ("low", "high"))
        own = _in_place_of(x, x)
        whole = call.changed(own, _same, _same)
        for bound, part in ((low, _positive), (high, _negative)):
            whole = whole - call.changed(bound, part, part)
        return whole


def _read_bound(name: str, value: ArrayLike) -> float | tuple:
    try:
        array = np.asarray(value, "float64")
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a number, or one for each channel. Received: {value!r:.60}.") from error
    if array.ndim > 1 and array.size == max(array.shape):
        array = array.ravel()
    if array.ndim > 1 or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be a finite number, or one for each channel. Received: shape {array.shape}, {value!r:.60}."
        )
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def _bound(value, x, form):
    """Returns a bound in a form that fits x."""
    bound = ops.cast(ops.convert_to_tensor(np.asarray(value, "float32")), x.dtype)
    if len(bound.shape) == 0:
        return bound
    axis = 1 if form == "channels_first" else len(x.shape) - 1
    return ops.reshape(bound, [-1 if i == axis else 1 for i in range(len(x.shape))])


FIRST_LAYER_RULES = (Flat, WSquare, ZBox)
LINEAR_RULES = (Epsilon, ZPlus, Excitation, AlphaBeta, Gamma, *FIRST_LAYER_RULES)
