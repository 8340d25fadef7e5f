"""The end of the interpreter while pipelines are still at work."""

import atexit
import functools
import threading
import time

# Longer than a thread that wants to run Python waits for its turn.
_PAUSE = 0.1


class PythonCalls:
    """Counts what threads of tf.data call in Python, and brings it to rest.

    A thread that wants to run Python while the interpreter ends is stopped for good.
    What waits for it then, such as the end of an iterator that was still alive, waits
    forever: the process hangs.

    Attributes:
        ending: Whether the interpreter is about to end. Generators stop then.
    """

    def __init__(self):
        self.ending = False
        self._begun = self._done = 0
        self._lock = threading.Lock()

    def counted(self, function):
        """`function`, whose calls are waited for."""

        @functools.wraps(function)
        def call(*args):
            with self._lock:
                self._begun += 1
            try:
                return function(*args)
            finally:
                with self._lock:
                    self._done += 1

        return call

    def end(self):
        """Returns once nothing runs and nothing begins any more."""
        self.ending = True
        begun = 0
        while self._begun != begun or self._done != begun:
            begun = self._begun
            time.sleep(_PAUSE)


CALLS = PythonCalls()
atexit.register(CALLS.end)
