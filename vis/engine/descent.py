"""Gradient descent on an input.

The loop runs compiled, in chunks. Callbacks are served from the records of a chunk;
modifiers and optimizers that only Python knows are run step by step.
"""

import contextlib
import dataclasses
import warnings

import keras
import numpy as np
from keras import ops

from vis import grad_modifiers
from vis.input_modifiers import Transform
from vis.utils.images import EPSILON, deprocess_input, random_array
from vis.utils.validation import VisualizationWarning, check_count, check_input_range, listify, shown

_DECAY = 0.95
_FEW_STEPS = 10  # up to so many, compiling the loop costs more than it saves
_CHUNK = 50  # steps of one compiled call
_RECORDED_VALUES = 2**20  # numbers that one chunk keeps for the callbacks, at most


def rmsprop(grads, cache):
    """Returns `(step, cache)` of RMSProp without a learning rate.

    Source: Tieleman & Hinton 2012, "Lecture 6.5"; the constants are those of keras-vis. The
    first step is about 4.47 times the gradient's sign.
    """
    cache = _DECAY * cache + (1 - _DECAY) * ops.square(grads)
    return -grads / ops.sqrt(cache + EPSILON), cache


def seed_array(energy, seed_input, input_range, seed=None):
    """Returns the input that a descent starts from, as a new float32 batch.

    Args:
        energy: Tells the input's shape and data format.
        seed_input: Array with or without the batch axis, channels last or where the model
            wants them; `None` draws noise around the middle of the range.
        input_range: `(low, high)`.
        seed: Integer for a repeatable draw.

    Raises:
        ValueError: The array does not fit, or is to be drawn in an unknown size.
    """
    if seed_input is not None:
        return energy.read_input("seed_input", seed_input)
    shape = energy.input_shape
    if shape is None or None in shape[1:]:
        raise ValueError(
            "`seed_input` is needed where the model's input has no fixed size. "
            f"Received: None, for input shape {shape}."
        )
    low, high = input_range
    return random_array((1, *shape[1:]), mean=(low + high) / 2, std=0.05 * (high - low), seed=seed)


@dataclasses.dataclass(eq=False, repr=False)
class Options:
    """How a descent goes; see `vis.optimizer.Optimizer.minimize`."""

    seed_input: object = None
    max_iter: int = 200
    input_modifiers: object = None
    grad_modifier: object = None
    callbacks: object = None
    optimizer: object = None
    seed: int | None = None
    tells: bool = False  # whether to say that no step was better than the seed input


def minimize(energy, losses, weights, input_range, options):
    """Runs a descent; see `vis.optimizer.Optimizer.minimize`.

    Args:
        energy: The losses' `vis.engine.energy.Energy`.
        losses: The losses.
        weights: One number for each.
        input_range: `(low, high)`.
        options: The `Options`.
    """
    with ended(options.callbacks) as watchers:
        input_range = check_input_range(input_range)
        steps = check_count("max_iter", options.max_iter)
        modifiers = _check_modifiers(options.input_modifiers)
        modify = _identity if options.grad_modifier is None else grad_modifiers.get(options.grad_modifier)
        _check_optimizer(options.optimizer)
        x = seed_array(energy, options.seed_input, input_range, options.seed)
        descent = _Descent(energy, losses, weights, watchers)
        if steps == 0:
            best, grads, value = x, None, None
        elif steps <= _FEW_STEPS or modifiers or options.optimizer is not None or not _compilable(modify):
            best, grads, value = descent.step_by_step(x, steps, modifiers, modify, options.optimizer)
        else:
            best, grads, value = descent.in_chunks(x, steps, modify)
        if options.tells and options.seed_input is not None and descent.stayed:
            warnings.warn(_words_stayed(steps), VisualizationWarning, stacklevel=4)
    return deprocess_input(best[0], input_range), grads, value


def _words_stayed(steps):
    return (
        f"None of the {steps} steps was better than `seed_input`, so the image is the seed itself. Try smaller steps, "
        "`optimizer=keras.optimizers.Adam(0.01)` for inputs around 0 to 1 (the default moves each value by 1 to 4.5), "
        "lower weights of the regularizers, or more steps by `max_iter`; `verbose=True` shows the losses."
    )


@contextlib.contextmanager
def ended(callbacks):
    """Yields the callbacks and ends every one of them, whatever happens."""
    watchers = [] if callbacks is None else listify(callbacks)
    for watcher in watchers:
        if isinstance(watcher, type) or not (hasattr(watcher, "callback") and hasattr(watcher, "on_end")):
            raise TypeError(
                "`callbacks` must hold objects with `callback` and `on_end`, such as `vis.callbacks.Print()`. "
                f"Received: {shown(watcher)}."
            )
    try:
        yield watchers
    except BaseException as error:
        for late in _end(watchers):
            error.add_note(f"Then `on_end` of a callback failed as well: {shown(late)}")
        raise
    for late in _end(watchers):
        raise late


def _end(watchers) -> list:
    errors = []
    for watcher in watchers:
        try:
            watcher.on_end()
        except Exception as error:  # the user's code; the others must end as well
            errors.append(error)
    return errors


def _identity(grads):
    return grads


def _compilable(modify):
    return modify is _identity or grad_modifiers.is_named(modify)


def _check_modifiers(input_modifiers):
    modifiers = [] if input_modifiers is None else listify(input_modifiers)
    for modifier in modifiers:
        if isinstance(modifier, type) or not (hasattr(modifier, "pre") and hasattr(modifier, "post")):
            raise TypeError(
                "`input_modifiers` must hold objects with `pre` and `post`, such as `vis.input_modifiers.Jitter()`. "
                f"Received: {shown(modifier)}."
            )
    return modifiers


def _before(modifier, x, form):
    """Applies what a modifier does before a step; the package's own are told where the channels are."""
    if getattr(type(modifier), "pre", None) is Transform.pre:
        return modifier.changed(x, form)
    return modifier.pre(x)


def _check_optimizer(optimizer):
    if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a Keras optimizer, such as `keras.optimizers.Adam(0.05)`, or None for RMSProp as in "
            f"keras-vis. Received: {shown(optimizer)}."
        )


class _Descent:
    """One descent: what it minimises, and who watches."""

    def __init__(self, energy, losses, weights, watchers):
        self._energy, self._losses, self._weights = energy, losses, np.asarray(weights, "float32")
        self._names = [loss.name for loss in losses]
        self._watchers = watchers
        self._moves = energy.is_of_input
        self.stayed = False  # whether the input moved and never became better than where it started

    def step_by_step(self, x, steps, modifiers, modify, optimizer):
        """Evaluates compiled, and does the rest in Python."""
        best, best_loss = x, np.inf
        update = _Updates(optimizer, x)
        for i in range(steps):
            for modifier in modifiers:
                x = np.asarray(_before(modifier, x, self._energy.input_format), "float32")
            terms, grads, value = self._energy.evaluate(self._losses, self._weights, x, steps - i)
            grads = np.asarray(ops.convert_to_numpy(grad_modifiers.apply(modify, grads)))
            loss = terms.sum()
            self._report(i, terms.sum(axis=1), grads, value)
            if loss < best_loss:
                best, best_loss = x.copy(), loss
                self.stayed = self._moves and i == 0
            if self._moves:
                x = update(x, grads)
            for modifier in reversed(modifiers):
                x = np.asarray(modifier.post(x), "float32")
        return best, grads, value

    def in_chunks(self, x, steps, modify):
        """Runs the loop compiled, some steps a call."""
        arguments = self._energy.arguments(self._losses, x)
        length = _CHUNK
        if self._watchers:
            length = max(1, min(_CHUNK, _RECORDED_VALUES // x.size))
        key = ("loop", modify, bool(self._watchers), length)
        loop = self._energy.compiled(key, lambda: self._make_loop(modify, bool(self._watchers), length), False)
        state = (x, np.zeros_like(x), np.float32(np.inf), x)
        for start in range(0, steps, length):
            count = min(length, steps - start)
            state, last, records = loop(arguments, self._weights, *state, np.int32(count))
            self._replay(start, count, records)
        best = ops.convert_to_numpy(state[3])
        self.stayed = self._moves and np.array_equal(best, x)
        return best, *(ops.convert_to_numpy(tensor) for tensor in last)

    def _make_loop(self, modify, recording, length):
        energy, moves, terms_count = self._energy, self._moves, len(self._names)

        def loop(arguments, weights, x, cache, best_loss, best, count):
            def step(i, x, cache, best_loss, best, grads, value, records):
                terms, grads, value = energy.terms_and_gradient(arguments, weights, x)
                grads = modify(grads)
                loss = ops.sum(terms)
                better = loss < best_loss
                best, best_loss = ops.where(better, x, best), ops.where(better, loss, best_loss)
                made = (ops.sum(terms, axis=1), grads, value)
                records = tuple(_written(record, i, tensor) for record, tensor in zip(records, made))
                if moves:
                    move, cache = rmsprop(grads, cache)
                    x = x + move
                return i + 1, x, cache, best_loss, best, grads, value, records

            # The value's shape is the input's unless the gradient is of something else.
            blank = ops.zeros_like(x) if moves else ops.zeros_like(energy.terms_and_gradient(arguments, weights, x)[2])
            records = (ops.zeros((length, terms_count)),)
            if recording:
                records += (ops.zeros((length, *blank.shape)), ops.zeros((length, *blank.shape)))
            start = (ops.zeros((), "int32"), x, cache, best_loss, best, blank, blank, records)
            end = ops.while_loop(lambda i, *_: i < count, step, start)
            return end[1:5], end[5:7], end[7]

        return loop

    def _replay(self, start, count, records):
        arrays = [ops.convert_to_numpy(record)[:count] for record in records]
        for i in range(count):
            self._report(start + i, *(array[i] for array in arrays))

    def _report(self, i, terms, *rest):
        check_terms(i, self._names, terms)
        tell(self._watchers, i, self._names, terms, *rest)


def check_terms(i, names, terms):
    """Raises if a loss is not finite.

    Args:
        i: The iteration, from 0.
        names: Names of the losses.
        terms: One number for each.
    """
    if not np.isfinite(terms).all():
        bad = [name for name, term in zip(names, terms) if not np.isfinite(term)]
        raise FloatingPointError(
            f"The loss became {terms[~np.isfinite(terms)][0]} at iteration {i + 1}, in: {', '.join(bad)}. "
            "Lower its weight, choose another `input_range`, or start from another `seed_input`."
        )


def tell(watchers, i, names, terms, *rest):
    """Calls those callbacks that want to hear of an iteration."""
    due = [watcher for watcher in watchers if (i + 1) % getattr(watcher, "every", 1) == 0]
    for watcher in due:
        watcher.callback(i, list(zip(names, terms)), terms.sum(), *rest)


def _written(record, i, tensor):
    return ops.slice_update(record, (i,) + (0,) * len(tensor.shape), tensor[None])


class _Updates:
    """Moves an input by its gradient, with RMSProp or a copy of a Keras optimizer."""

    def __init__(self, optimizer, x):
        self._cache = ops.zeros_like(x)
        self._optimizer = self._variable = None
        if optimizer is not None:
            self._optimizer = type(optimizer).from_config(optimizer.get_config())
            self._variable = keras.Variable(x)

    def __call__(self, x, grads):
        if self._optimizer is None:
            step, self._cache = rmsprop(ops.convert_to_tensor(grads), self._cache)
            return x + ops.convert_to_numpy(step)
        self._variable.assign(x)
        self._optimizer.apply([ops.convert_to_tensor(grads)], [self._variable])
        return np.array(ops.convert_to_numpy(self._variable.value))
