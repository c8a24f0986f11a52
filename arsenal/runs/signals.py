"""SIGTERM and Ctrl-C as a question that the driver asks between dispatches."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], int]]:
    """A function that gives the number of the signal that came, or 0; a second Ctrl-C ends at once."""
    came = [0]

    def note(number, frame):
        if came[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        came[0] = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
