"""SIGTERM and Ctrl-C as a question that the driver asks between dispatches, and as an end where nobody can ask."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from arsenal.refusal import Refusal


class Interrupted(Refusal):
    """A signal ended training early; everything is saved."""

    def __init__(self, number: int, path: Path, step: int):
        """`number` is the signal's."""
        super().__init__(f"Interrupted at step {step} and saved; the same command resumes {path}.")
        self.number = number


BEFORE = "Interrupted before the first step; the same command begins or resumes the run."



class Interrupts:
    """Called, it gives the number of the signal that came, or 0."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.number = 0
        self.last_words: Callable[[], str] | None = None
        self.lock: contextlib.AbstractContextManager[bool] = threading.RLock()

    def __call__(self) -> int:
        """The signal's number, or 0."""
        return self.number

    @contextlib.contextmanager
    def at_once(self, last_words: Callable[[], str]) -> Iterator[None]:
        """While this lasts, SIGTERM calls `last_words`, tells what it gives, and ends the process.

        For what does not come back to Python soon, as compiling; `last_words` runs in another thread.
        """
        before, self.last_words = self.last_words, last_words
        try:
            yield
        finally:
            with self.lock:
                self.last_words = before

    def watch(self, pipe: int) -> None:
        """Read the numbers of signals as they come, until the pipe is closed."""
        while came := os.read(pipe, 1):
            with self.lock:
                if came[0] == signal.SIGTERM and self.last_words:
                    try:
                        os.write(2, f"arsenal: {self.last_words()}\n".encode())
                    finally:
                        os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """The signals of this process as `Interrupts`; a second Ctrl-C ends at once. Outside the main thread none comes."""
    came = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number, frame):
        if came.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.number = number

    read, write = os.pipe()
    os.set_blocking(write, False)
    watcher = threading.Thread(target=came.watch, args=(read,), name="signals", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    pipe_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield came
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)
        watcher.join()
        os.close(read)
