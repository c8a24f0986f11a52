"""Unix time by which credentials expire, and which a step of the system's clock does not move at once.

It is the system's time at the start plus what a monotonic clock counted since. Where the system's clock is behind that,
it was set back, and what has expired stays expired. Where it is ahead, it was set forth by mistake, or the machine
slept and the monotonic clock stood still: it is believed once it has been ahead for `PATIENCE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0  # seconds
SLACK = 2.0


class Clock:
    """Seconds since 1970, called for. wall, monotonic: the two clocks that it is made of."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic):
        self._wall, self.monotonic = wall, monotonic
        self._start = wall() - monotonic()
        self._since: float | None = None  # when the system's clock was first seen ahead

    def __call__(self) -> float:
        """The time now, in seconds."""
        passed = self.monotonic()
        here, wall = self._start + passed, self._wall()
        if wall - here < SLACK:
            self._since = None
            return here
        if self._since is None:
            self._since = passed
        return wall if passed - self._since >= PATIENCE else here
