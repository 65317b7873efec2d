"""Locks and scopes that hold through forks of the process and interrupts from the keyboard."""

import os
import threading


class ProcessLock:
    """A reentrant lock of which each process has its own: `with lock():`.

    A process forked while another thread holds a lock would wait for ever: that thread does not exist there.
    The context is a plain lock of the standard library: no interrupt comes between taking it and entering.
    """

    def __init__(self):
        self._locks = {}

    def __call__(self):
        """Returns this process's lock."""
        process = os.getpid()
        return self._locks.get(process) or self._locks.setdefault(process, threading.RLock())


class Again:
    """Leaves a scope of Keras a second time, in case an interrupt came in the way: `with Again(scope), scope:`.

    Args:
        scope: A `keras.StatelessScope`. To leave it twice is to leave it once.
    """

    def __init__(self, scope):
        self._scope = scope

    def __enter__(self):
        return self._scope

    def __exit__(self, *_):
        if hasattr(self._scope, "original_scope"):  # it was entered
            self._scope.__exit__()
