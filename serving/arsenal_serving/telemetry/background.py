"""A queue to a thread that writes: the event loop puts into it and never waits; what does not fit is counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

# A thread that is woken for each line costs more than the line; one that is woken rarely holds the GIL for long.
EVERY = 0.01  # seconds between two writes


class Background:
    """write: is given what has come since it was called last, on one thread. most: how much may wait.

    >>> lines = Background(print, every=10.0)
    >>> lines.put("a")
    >>> lines.close()
    ['a']
    True
    """

    def __init__(self, write: Callable[[list[Any]], None], most: int = 16384, every: float = EVERY):
        self.dropped = 0
        self._write, self._most, self._every = write, most, every
        self._waiting: deque[Any] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Have it written soon."""
        if len(self._waiting) < self._most:
            self._waiting.append(item)
        else:
            self.dropped += 1

    def close(self, seconds: float = 2.0) -> bool:
        """Write what still waits, for so many seconds at most; whether that was enough."""
        self._ending.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ending.wait(self._every):
            self._emptied()
        self._emptied()

    def _emptied(self) -> None:
        if self._waiting:
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._write(taken)
            except Exception:  # a full disk, a pipe that nobody reads: the thread goes on, and the number says so
                self.dropped += len(taken)
