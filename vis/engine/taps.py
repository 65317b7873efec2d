"""Seeing and changing what passes through layers, for the time of one forward call.

`Layer.output` is only the tensor of a layer's first call, in the graph it was first called in: it fails for nested,
shared and subclassed models. So a layer's output is taken from a real forward call, by a wrapper that shadows the
layer's `call` meanwhile.
"""

import collections
import contextlib
import functools
import os
import threading

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


def patched_calls(wrappers):
    """Returns a context in which the calls of operations are wrapped, in this thread only.

    Hold `surgery()` meanwhile.

    Args:
        wrappers: Pairs `(operation, wrap)`; `wrap(call, *args, **kwargs)` stands in for
            `operation.call(*args, **kwargs)`.
    """
    return shadowed(wrapped("call", wrappers))


def in_this_thread(original, wrap):
    """Returns `wrap(original, ...)` as a function; other threads get the original."""
    owner = threading.get_ident()

    @functools.wraps(original)
    def call(*args, **kwargs):
        if threading.get_ident() != owner:
            return original(*args, **kwargs)
        return wrap(original, *args, **kwargs)

    return call


def tapped(taps):
    """Returns a context in which the outputs of layers pass through functions, in this thread only.

    Hold `surgery()` meanwhile. Calls inside a branch or a loop (`keras.ops.cond`, `keras.ops.scan`) are passed over:
    nothing that is made there can be read outside.

    Args:
        taps: Pairs `(layer, function)`; every call of the layer gives `function(output)`.
    """
    outside = backend.trace()

    def tap(function, call, *args, **kwargs):
        output = call(*args, **kwargs)
        return function(output) if backend.trace() == outside else output

    return patched_calls([(layer, functools.partial(tap, function)) for layer, function in taps])


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


class _Enough(BaseException):
    """Ends a forward call when all that is wanted was seen; not an error, so nobody words it anew."""


def record(run, wanted, mark_layer=None, mark=None, calls=None):
    """Runs a model once, as far as it must, and returns what some layers put out.

    Args:
        run: Function without arguments that calls the model.
        wanted: Layers whose outputs are recorded. The last call counts.
        mark_layer: A layer whose output is passed through `mark` on its way on.
        mark: Function from tensor to tensor.
        calls: Dict in which the number of each layer's calls is noted; where it holds them already, the
            model is left after the last one.

    Returns:
        A list of tensors, one for each wanted layer.

    Raises:
        ValueError: A wanted layer did not run, or puts out something else than a tensor.
    """
    outputs, seen, expected = {}, collections.Counter(), dict(calls or {})

    def keep(layer, output):
        output = one_tensor_of(layer, output)
        outputs[id(layer)] = mark(output) if layer is mark_layer else output
        seen[id(layer)] += 1
        if expected and all(seen[key] >= count for key, count in expected.items()):
            raise _Enough
        return outputs[id(layer)]

    kept = {id(layer): layer for layer in [*wanted, mark_layer] if layer is not None}
    taps = [(layer, functools.partial(keep, layer)) for layer in kept.values()]
    with surgery(), shadowed(), tapped(taps), contextlib.suppress(_Enough):
        run()
    for layer in kept.values():
        if id(layer) not in outputs:
            raise did_not_run(layer)
    if calls is not None:
        calls.update(seen)
    return [outputs[id(layer)] for layer in wanted]
