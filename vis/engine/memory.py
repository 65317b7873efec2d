"""What was made or found out once for a model, kept until one of its layers or activations changes."""

import weakref

from vis import backend
from vis.engine.graph import fingerprint, same
from vis.utils.contexts import ProcessLock

_PER_SHELF = 16


class Memory:
    """Values under keys, on shelves of their own, for a model as it is now.

    Holds the model weakly.

    Args:
        model: The model, or another operation that `vis.engine.graph.walk` goes through.
    """

    def __init__(self, model):
        self._model = weakref.ref(model)
        self._fingerprint, self._shelves = [], {}
        self.lock = ProcessLock()

    def forget_changed(self) -> bool:
        """Forgets everything if a layer or an activation was exchanged since the last call; returns whether it was.

        New weights do not count.
        """
        with self.lock():
            current = fingerprint(self._model())
            is_changed = not same(self._fingerprint, current)
            if is_changed:
                self._fingerprint, self._shelves = current, {}
            return is_changed

    def once(self, shelf, make, key=None):
        """Returns what `make()` returned when it was first asked for under a key; of the keys, the last 16 are kept.

        The lock is not held meanwhile: what is made may be an evaluation, which runs in other threads as well.
        """
        kept = self._shelves.setdefault(shelf, {})
        if key in kept:
            return kept[key]
        value = make()
        with self.lock():
            while len(kept) >= _PER_SHELF and key not in kept:
                kept.pop(next(iter(kept)), None)
            return kept.setdefault(key, value)  # another thread may have been faster

    def keep(self, shelf, value, key=None):
        """Keeps a value, also instead of another; returns it."""
        with self.lock():
            self._shelves.setdefault(shelf, {}).pop(key, None)
            return self.once(shelf, lambda: value, key)

    def get(self, shelf, key=None, default=None):
        """Returns what is kept under a key, or the default."""
        return self._shelves.get(shelf, {}).get(key, default)

    def compiled(self, key, make, variables, eager_first=True):
        """Returns the compiled form of the function that `make()` returns, made once for a key."""
        return self.once("compiled", lambda: backend.compile(make(), variables, eager_first), key)


# What functions that are called on a model time after time keep, for as long as the model lives. It refers to its model
# weakly, so an entry does not keep its own key alive.
_KEPT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def kept(model, key, make):
    """Returns `make()`, or what it returned before for the same model and key; of the keys, the last 16 are kept.

    Args:
        model: The model.
        key: What tells the entries of a model apart.
        make: Function that makes something which holds the model weakly.
    """
    entries = _KEPT.setdefault(model, {})
    if key not in entries:
        while len(entries) >= _PER_SHELF:
            entries.pop(next(iter(entries)))
        entries[key] = make()
    return entries[key]
