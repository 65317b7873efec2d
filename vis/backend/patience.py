"""When compiling a function pays: after as much time was lost in eager calls as compiling is likely to take.

Whoever rents skis until the rent has reached their price, and buys them then, never pays more than twice what would
have been best, however long the winter. Here an eager call is the rent, and compiling the price.

The numbers were measured on TensorFlow, on networks of 2 to 430 layers: of the time of an eager call, three quarters or
so go to Python and are saved by compiling; and compiling takes as long as three and a half eager calls lose, and a
little for a graph of any size.
"""

import math
import time

clock = time.perf_counter

_SAVED = 0.75  # part of an eager call that a compiled one saves
_PRICE = 3.5  # what compiling takes, in parts that are saved
_LEAST = 0.05  # and seconds that even the smallest graph takes
_MANY = 6  # calls to come that make compiling pay even for a small graph


def pays(calls, fastest=None, compiling=None) -> bool:
    """Tells whether a function is to be compiled now, rather than run eagerly once more.

    Args:
        calls: The eager calls so far, and those that are known to come, the next one included.
        fastest: Seconds of the fastest eager call so far, as the first ones are slower for other reasons; `None`
            before the first.
        compiling: Seconds that compiling took for other shapes, or `None`.
    """
    if fastest is None:
        return calls >= _MANY
    lost = _SAVED * fastest
    return calls * lost >= (_LEAST + _PRICE * lost if compiling is None else compiling)


class Meter:
    """The times of one function's calls, by the shapes that it is called on, and what they say."""

    def __init__(self):
        self._eager, self._compiling = {}, None

    def compiles(self, signature, coming) -> bool:
        """Tells whether a function that was not compiled for a signature is to be.

        Args:
            signature: The shapes and types of the arguments.
            coming: How many calls are known to come, this one included.
        """
        if coming == math.inf:
            return True
        times = self._eager.get(signature, [])
        return pays(len(times) + coming, min(times, default=None), self._compiling)

    def eagerly(self, signature, run):
        """Returns `run()`, and notes how long it took."""
        start = clock()
        result = run()
        self._eager.setdefault(signature, []).append(clock() - start)
        return result

    def compiled(self, signature, run):
        """Returns `run()`, which compiles, and notes how long that took where it can be told."""
        start = clock()
        result = run()
        times = self._eager.pop(signature, None)
        if times:  # what the call itself took is known roughly
            self._compiling = max(clock() - start - (1 - _SAVED) * min(times), 0.0)
        return result
