"""Goals: the user's target, read and checked, as the engine takes it.

A goal is a formula, which is compiled, and arguments for it: numbers with a row for each sample.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops, tree

from vis import backend
from vis.targets import Contrast, Target
from vis.utils.labels import class_index
from vis.utils.validation import check_unmasked, cut, is_integer, listify, shown, words_error

_FRAMEWORKS = ("tensorflow", "jax", "jaxlib", "torch")  # whose errors are no sentences


class _UnitsFormula:
    """The weighted sum of output units; where no weight is given, the highest unit."""

    of_units = True

    @staticmethod
    def count(arguments):
        """Returns the number of targets of each sample, or `None` where there is one without an axis of its own."""
        return arguments[0].shape[1] if len(arguments[0].shape) > 2 else None

    @staticmethod
    def score(units, arguments):
        """Returns `(score (B,), chosen weights (B, units))` of outputs `(B, units)`.

        Of several targets, the weights are `(B, targets, units)`, and the scores `(B, targets)`.
        """
        (chosen,) = arguments
        units = units[:, None] if len(chosen.shape) > 2 else units
        known = backend.concrete(chosen)
        if known is None or not Units(known).is_settled:  # run step by step, a known target needs no search
            best = ops.one_hot(ops.argmax(units, axis=-1), units.shape[-1], dtype="float32")
            chosen = ops.stop_gradient(ops.where(ops.any(chosen != 0, axis=-1, keepdims=True), chosen, best))
        # Not a plain product: another unit may be infinite.
        return ops.sum(ops.where(chosen != 0, units, 0.0) * chosen, axis=-1), chosen


@dataclasses.dataclass(frozen=True)
class _CustomFormula:
    """A function of all outputs.

    Args:
        function: `function(outputs, *rows) -> (B,)`.
    """

    function: Callable
    of_units = False

    def score(self, outputs, arguments):
        """Returns the score `(B,)`."""
        try:
            score = self.function(outputs, *arguments)
        except Exception as error:  # the user's code, it may raise anything
            shapes = cut(str(tree.map_structure(lambda tensor: tuple(tensor.shape), outputs)), 120)
            if type(error).__module__.partition(".")[0] not in _FRAMEWORKS:
                error.add_note(f"It was raised by `target`, called on the model's outputs, of shape {shapes}.")
                raise
            raise ValueError(
                f"`target` failed on the model's outputs, whose shapes are {shapes}. Received: "
                f"{type(error).__name__}: {words_error(error, 120)}. It must be made of `keras.ops`."
            ) from error
        expected = (tree.flatten(outputs)[0].shape[0],)
        shape = tuple(getattr(score, "shape", ()))
        if not ops.is_tensor(score) or shape != expected:
            raise ValueError(
                f"`target` must return one number for each sample, a tensor of shape {expected} for the {expected[0]} "
                "rows that it was tried on, made with `keras.ops`. "
                f"Received: {type(score).__name__} of shape {shape}. Take the mean or sum over all axes but the first."
            )
        return ops.cast(score, "float32")


class Units:
    """A weighted sum of output units for each sample; of no units: of the highest one.

    Args:
        weights: `(N, units)`; of several targets for each sample, `(N, targets, units)`.
    """

    formula = _UnitsFormula()  # all such goals are served by one compiled function
    looks_at_outputs = looks_at_values = False

    def __init__(self, weights):
        self.weights = weights

    @property
    def targets(self) -> int | None:
        """The number of targets of each sample, or `None` where there is one, without an axis of its own."""
        return self.formula.count([self.weights])

    @property
    def is_settled(self) -> bool:
        """Tells whether the units of every sample are known."""
        return bool(np.all(np.any(self.weights != 0, axis=-1)))

    @property
    def classes(self) -> np.ndarray | None:
        """The class that is explained of each sample, `(N,)`; `None` where it is not one. One unit is class 1 or 0."""
        if self.weights.ndim != 2 or (np.count_nonzero(self.weights, axis=1) != 1).any():
            return None
        several = self.weights.shape[1] > 1
        return np.argmax(self.weights != 0, axis=1) if several else (self.weights[:, 0] > 0).astype(int)

    def rows(self, indices) -> list:
        """Returns the formula's arguments for some samples."""
        return [self.weights[indices]]

    def part(self, indices):
        """Returns the goal of some samples."""
        return Units(self.weights[indices])

    def for_relevance(self):
        """Returns itself: shares of the units sum to their weighted sum."""
        return self

    def check(self, outputs):
        """Does nothing: classes were checked when they were read."""

    def check_padding(self, kept):
        """Does nothing: classes have no position."""


class _EveryUnitFormula:
    """All output units, each by itself."""

    of_units = True

    @staticmethod
    def score(units, arguments):
        """Returns `(scores (B, units), chosen weights (B, units))`."""
        return units, ops.ones_like(units)


class EveryUnit:
    """The scores of all output units, `(N, units)`, of one evaluation. Not for gradients."""

    formula = _EveryUnitFormula()
    is_settled, targets, looks_at_outputs, looks_at_values = True, None, False, False

    def rows(self, indices) -> list:
        """Returns the formula's arguments for some samples: none."""
        return []

    def part(self, indices):
        """Returns the goal of some samples: itself."""
        return self


class Custom:
    """A function of the outputs, and arrays with a row for each sample.

    Args:
        target: A `vis.targets.Target`.
        arrays: Its arrays, for the samples that are explained.
    """

    is_settled, targets = True, None

    def __init__(self, target, arrays=()):
        self._target, self._arrays = target, arrays
        self.formula = _CustomFormula(target.function)

    @property
    def looks_at_outputs(self) -> bool:
        """Tells whether the target can say from the outputs that its arrays do not fit."""
        return type(self._target).check is not Target.check

    @property
    def looks_at_values(self) -> bool:
        """Tells whether the target can say from what the model puts out that it is not what is meant."""
        return type(self._target).look is not Target.look

    def rows(self, indices) -> list:
        """Returns the formula's arguments for some samples."""
        return [array[indices] for array in self._arrays]

    def part(self, indices):
        """Returns the goal of some samples."""
        part = Custom(self._target, self.rows(indices))
        part.formula = self.formula
        return part

    def for_relevance(self):
        """Returns the goal whose gradient times outputs sums to the score, where the target's function has one."""
        function = getattr(self.formula.function, "for_relevance", None)
        if function is None:
            return self
        changed = Custom(self._target, self._arrays)
        changed.formula = _CustomFormula(function())
        return changed

    def check(self, outputs):
        """Raises where the arrays do not fit the outputs, as far as the target can tell."""
        self._target.check(outputs)

    def look(self, outputs):
        """Raises or warns where what the model put out is not what is meant, as far as the target can tell."""
        self._target.look(outputs)

    def check_padding(self, kept):
        """Raises where the target asks for a position that is padding, as far as it can tell."""
        self._target.check_padding(kept)


def together(goals):
    """Returns several goals of the same samples as one, or `None` where they are not all of output units."""
    are_units = all(isinstance(goal, Units) for goal in goals)
    return Units(np.stack([goal.weights for goal in goals], axis=1)) if are_units else None


def read_goal(target, count, units, what):
    """Returns the goal meant by the user's `target`.

    Args:
        target: `None`, an int, N ints, N lists of ints, names in their place, a function, or a target of
            `vis.targets`.
        count: The number of samples, N.
        units: Function without arguments that returns the number of output units.
        what: Words for the explained output.

    Raises:
        ValueError: An index is out of range, there are more or fewer targets than samples, or a row
            looks like a one-hot label.
        TypeError: `target` is of another kind, or a name where the names are not known.
    """
    if isinstance(target, type):
        raise TypeError(
            f"`target` must be a class's index, such as 3, or a function of the outputs. Received: the type "
            f"`{target.__name__}` itself. Give a value, not a type."
        )
    if isinstance(target, Target):
        return Custom(target, target.arrays(count))
    if callable(target):
        return Custom(Target(target))
    if isinstance(target, Contrast):
        one, other = (read_goal(classes, count, units, what) for classes in (target.one, target.other))
        return Units(one.weights - other.weights)
    target = _without_names(target, units, what)
    if isinstance(target, (bytes, dict)) or not _is_plain(target):
        raise TypeError(
            "`target` must be None, a class index, one index or list of indices for each sample, or a function of the "
            f"outputs. Received: {shown(target)} ({type(target).__name__})."
        )
    size = units()
    weights = np.zeros((count, size), "float32")
    for row, indices in zip(weights, _indices_of_samples(target, count)):
        for index in indices:
            position, sign = _unit(index, size, what)
            row[position] += sign
        if target is not None and not row.any():
            raise ValueError("`target` must not ask for both classes of a single output unit: they cancel.")
        if size == 2 and row.all():
            raise ValueError(
                f"`target` must not name both of two classes. Received: {indices} for one sample. It takes indices, "
                "not one-hot rows: give `labels.argmax(axis=-1)`. For the sum of both give a function, "
                "`lambda outputs: keras.ops.sum(outputs, axis=-1)`."
            )
    return Units(weights)


def _without_names(target, units, what):
    """Returns a target with the indices of classes in the place of their names."""
    if isinstance(target, str):
        return class_index(target, max(units(), 2), what)
    if isinstance(target, np.ndarray) and target.dtype.kind == "U":
        target = target.tolist()
    if isinstance(target, (list, tuple)):
        return [_without_names(one, units, what) for one in target]
    return target


def _is_plain(target):
    return target is None or is_integer(target) or hasattr(target, "__len__") or hasattr(target, "__array__")


def _indices_of_samples(target, count):
    if target is None:
        return [[]] * count
    if is_integer(target):
        return [[int(target)]] * count
    check_unmasked("target", target)
    if not isinstance(target, (list, tuple, range)):
        target = np.asarray(target).tolist()  # an array or a tensor
    if not isinstance(target, (list, tuple, range)):
        return [[target]] * count
    if len(target) != count:
        raise ValueError(
            f"`target` must hold one class, or one list of classes, for each sample. Received: {len(target)} for "
            f"{count} samples. For one class in all of them give an int."
        )
    rows = [listify(one) for one in target]
    if any(not row for row in rows):
        raise ValueError("`target` must hold at least one class for each sample. Received: an empty list.")
    if any(len(set(map(str, row))) < len(row) for row in rows):
        raise ValueError(
            "`target` must not name a class twice for one sample. Received: repeated classes. It takes the indices of "
            "classes, not one-hot rows: give `labels.argmax(axis=-1)`."
        )
    return rows


def _unit(index, size, what):
    """Returns `(position, sign)` of a class index; a single unit stands for class 1."""
    if not is_integer(index):
        mend = " Give `labels.astype(int)`." if isinstance(index, float) else ""
        raise TypeError(f"`target` must hold integers. Received: {shown(index)} ({type(index).__name__}).{mend}")
    classes = max(size, 2)
    if not 0 <= index < classes:
        raise ValueError(
            f"`target` is out of range. Received: {shown(index)}, but {what} has {classes} classes: "
            f"choose from 0 to {classes - 1}."
        )
    return (int(index), 1.0) if size > 1 else (0, 1.0 if index == 1 else -1.0)
