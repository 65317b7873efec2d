"""Seeing and changing what passes through layers, for the time of one forward call.

`Layer.output` is only the tensor of a layer's first call, in the graph it was first called in: it fails for nested,
shared and subclassed models. So a layer's output is taken from a real forward call, by a wrapper that shadows the
layer's `call` meanwhile.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import threading
from typing import Any

import keras

from vis import backend
from vis.utils.contexts import ProcessLock

# Layers are patched by one thread at a time, which holds this; the wrappers ignore other threads' calls.
surgery = ProcessLock()

# What is shadowed now, by thread and in order: [(the object's `__dict__`, name, value before), ...].
_noted = {}
_MISSING = object()


class shadowed:
    """Shadows attributes of objects for a while.

    Writes to the instance's own `__dict__`, past every `__setattr__`, and puts back what was there whatever
    happens. What is yet to be put back stays noted, and a context around this one puts back what an interrupt
    left. So the outermost of a function is an empty one: `with shadowed(), shadowed(changes):`.

    Args:
        changes: Triples `(object, name, value)`; a generator is asked for each when the one before is made.
        result: What `with ... as` gives.
    """

    def __init__(self, changes=(), result=None):
        self._changes, self._result = changes, result
        self._mark = {}, "", _MISSING

    def __enter__(self):
        noted = _noted.setdefault(threading.get_ident(), [])
        noted.append(self._mark)
        try:
            for target, name, value in self._changes:
                noted.append((vars(target), name, vars(target).get(name, _MISSING)))
                vars(target)[name] = value
        except BaseException:
            self.__exit__()
            raise
        return self._result

    def __exit__(self, *_):
        try:
            self._put_back()
        finally:  # an interrupt may have come
            self._put_back()

    def _put_back(self):
        noted = _noted.get(threading.get_ident(), [])
        while id(self._mark) in map(id, noted):
            _restore(*noted[-1])
            noted.pop()
        if not noted:
            _noted.pop(threading.get_ident(), None)


def _restore(attributes, name, value):
    if value is _MISSING:
        attributes.pop(name, None)
    else:
        attributes[name] = value


def _restore_of_other_threads():
    """Puts back, in a process just forked, what was shadowed by threads that do not exist there."""
    for thread in set(_noted) - {threading.get_ident()}:
        for one in reversed(_noted.pop(thread)):
            _restore(*one)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_of_other_threads)


def wrapped(name, wrappers):
    """Yields the changes that wrap attributes of operations, for `shadowed`.

    Args:
        name: The attribute, a function.
        wrappers: Pairs `(operation, wrap)`; `wrap(function, *args, **kwargs)` stands in for
            `function(*args, **kwargs)`, in this thread only.
    """
    for operation, wrap in wrappers:
        yield operation, name, in_this_thread(getattr(operation, name), wrap)


def in_this_thread(original, wrap):
    """Returns `wrap(original, ...)` as a function; other threads, and this one in `suspended`, get the original."""
    owner = threading.get_ident()

    @functools.wraps(original)
    def call(*args, **kwargs):
        if threading.get_ident() != owner or owner in _suspended:
            return original(*args, **kwargs)
        return wrap(original, *args, **kwargs)

    return call


_suspended: set[int] = set()  # threads


@contextlib.contextmanager
def suspended():
    """Lets this thread see layers and functions as they are without wrappers, for a while."""
    thread = threading.get_ident()
    was = thread in _suspended
    _suspended.add(thread)
    try:
        yield
    finally:
        if not was:
            _suspended.discard(thread)


@dataclasses.dataclass(frozen=True, eq=False)
class IntoActivation:
    """What goes into a layer's own activation, as something to tap.

    Args:
        layer: The layer, with an attribute `activation`.
    """

    layer: Any


def outside_of_branches(function):
    """Returns a function of a tensor that does nothing in a branch or a loop (`keras.ops.cond`, `keras.ops.scan`).

    Nothing that is made there can be read outside.
    """
    outside = backend.trace()
    return lambda tensor: function(tensor) if backend.trace() == outside else tensor


def tapped(taps):
    """Returns a context in which the outputs of layers pass through functions, in this thread only.

    Hold `surgery()` meanwhile. Calls inside a branch or a loop are passed over.

    Args:
        taps: Pairs `(layer, function)`; every call of the layer gives `function(output)`. For a pair
            `(IntoActivation(layer), function)`, the layer's activation gets `function(its input)`.
    """

    def tap(function, call, *args, **kwargs):
        return function(call(*args, **kwargs))

    def tap_input(function, activation, x, *args, **kwargs):
        return activation(function(x), *args, **kwargs)

    calls, inner = [], []
    for target, function in taps:
        if isinstance(target, IntoActivation):
            inner.append((target.layer, functools.partial(tap_input, outside_of_branches(function))))
        else:
            calls.append((target, functools.partial(tap, outside_of_branches(function))))
    return shadowed(itertools.chain(wrapped("call", calls), wrapped("activation", inner)))


def one_tensor_of(layer, output):
    """Returns a layer's output, or raises if it is not one tensor."""
    if not keras.ops.is_tensor(output):
        raise ValueError(
            f"Layer {layer.name!r} puts out {type(output).__name__}, expected: one tensor. "
            "Choose a layer with a single output."
        )
    return output


def did_not_run(layer):
    """Returns the error for a layer that a forward call did not reach."""
    return ValueError(
        f"Layer {layer.name!r} did not run when the model was called, or only inside a branch or a loop, where nothing "
        "can be read. Choose a layer that the model's output depends on; an input layer cannot be chosen."
    )
