"""What is made beforehand, in a thread of its own, while somebody works on what was made before."""

import contextvars
import queue
import threading
import weakref

_PATIENCE = 5.0  # seconds that closing waits for what is just being made; after that, the thread ends by itself


class Ahead:
    """Iterator over what a function returns, call by call, made beforehand, in order.

    An exception of the function comes out in its place, after what was made before. The thread begins with the first
    `next`, and ends when all is made, on `close()`, when the iterator is collected, and when Python ends. It sees
    the context variables of whoever asked first.

    Args:
        make: Function without arguments, called in the thread only; it raises `StopIteration` at the end.
        depth: How many are made beyond the one that was handed out last, at least 1.

    Examples:
        >>> list(Ahead(iter([1, 2, 3]).__next__, depth=2))
        [1, 2, 3]
    """

    def __init__(self, make, depth):
        self._make, self._depth = make, depth
        self._results, self._stop = queue.SimpleQueue(), None

    def __iter__(self):
        return self

    def __next__(self):
        if self._results is None:
            raise StopIteration
        if self._stop is None:
            self._begin()
        value, error = self._results.get()
        if error is not None:
            self.close()
            raise error
        self._slots.release()
        return value

    def _begin(self):
        self._slots, stopped = threading.Semaphore(self._depth), threading.Event()
        context, arguments = contextvars.copy_context(), (self._make, self._results, self._slots, stopped)
        thread = threading.Thread(target=context.run, args=(_work, *arguments), name="vis-ahead", daemon=True)
        self._stop = weakref.finalize(self, _end, thread, self._slots, stopped)
        self._make = None  # only the thread's from here on
        thread.start()

    def close(self):
        """Ends the thread; `next` raises `StopIteration` from here on."""
        self._results, self._make = None, None
        if self._stop is not None:
            self._stop()


class InPlace:
    """The same without a thread: each is made when it is asked for.

    Args:
        make: Function without arguments; it raises `StopIteration` at the end.
    """

    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self

    def __next__(self):
        return self._make()

    def close(self):
        """Does nothing."""


def _work(make, results, slots, stopped):
    """What the thread does. It knows nothing of the iterator, which can be collected meanwhile."""
    is_over = False
    while not is_over:
        slots.acquire()
        if stopped.is_set():
            return
        result = _made(make)
        is_over = result[1] is not None
        results.put(result)
        del result  # or it would live until the next one is made


def _made(make):
    try:
        return make(), None
    except BaseException as error:  # raised where it belongs: by `next`
        return None, error


def _end(thread, slots, stopped):
    stopped.set()
    slots.release()
    if thread is not threading.current_thread():  # which may have collected the iterator
        thread.join(_PATIENCE)
