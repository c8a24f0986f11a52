"""Waiting for the processes of a run: who failed first, who is ended with it, and whether all begin anew."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from arsenal.refusal import Refusal
from arsenal.runs.processes import LOST


def supervise(start: Callable[[], Sequence[Any]], restarts: int) -> None:
    """Wait for all processes; end the others when one fails, and begin anew where that may help.

    SIGTERM goes on to all of them, which save and end; so does Ctrl-C. Raises `Ended` with the exit code of the first
    that failed.
    """
    for attempt in range(restarts + 1):
        ended = run_once(start())
        if ended is None:
            return
        if ended.code in (1, 2, 130, 143) or attempt == restarts:
            raise ended
        print(f"arsenal: {ended} Beginning anew, {restarts - attempt - 1} more times at most.", file=sys.stderr, flush=True)  # noqa: T201


class Ended(Refusal):
    """A run of several processes did not come to its end."""

    def __init__(self, text: str, code: int, told: bool):
        """`told`: whether the process has said so itself."""
        super().__init__(text)
        self.code, self.told = code, told


def run_once(members: Sequence[Any]) -> Ended | None:
    """Run the processes to their end; None when all is well."""
    asked = 0.0
    with forward_signals(members) as came:
        try:
            while True:
                codes = [one.poll() for one in members]
                if all(code == 0 for code in codes):
                    return None
                failed = [i for i, code in enumerate(codes) if code not in (None, 0)]
                if failed and (asked := asked or time.monotonic()) and is_grace_over(members, asked):
                    break
                time.sleep(0.1)
            # Who lost another one is not who was lost; XLA aborts where it finds out before JAX does.
            first = min(failed, key=lambda i: (codes[i] in (LOST, -signal.SIGABRT), i))
            code = codes[first] or 0
            if came():
                return Ended("", 128 + came(), told=True)
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            said = f": {members[first].last.removeprefix('arsenal: ')}" if members[first].last else "."
            text = f"{members[first].where.capitalize()} of {len(members)} {how}{said} The same command resumes."
            return Ended(text, 128 - code if code < 0 else code, told=first == 0 and code > 0)
        finally:
            for one in members:
                if one.poll() is None:
                    one.kill()


def is_grace_over(members: Sequence[Any], since: float, grace: float = 3.0) -> bool:
    """Whether the others had time to see for themselves."""
    return time.monotonic() - since > grace or all(one.poll() is not None for one in members)


@contextlib.contextmanager
def forward_signals(members: Sequence[Any]) -> Iterator[Callable[[], int]]:
    """While this lasts, SIGTERM and Ctrl-C go on to the processes; which came, or 0. A second Ctrl-C ends at once."""
    came = 0

    def on(number, frame):
        nonlocal came
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came = number
        for one in members:
            if one.poll() is None:
                one.terminate()

    before = {number: signal.signal(number, on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
