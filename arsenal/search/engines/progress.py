"""How trials that train together do, said every few seconds."""

import time
from collections.abc import Callable

from arsenal.search.sweep import Sweep

TELLING = 5
"""Seconds between two lines."""


class Progress:
    """What was said last, and when."""

    def __init__(self, sweep: Sweep, metric: str, say: Callable[[str], None]):
        """`say` hears the lines."""
        self.sweep, self.metric, self.say, self.told_at = sweep, metric, say, time.monotonic()
        self.pace_at: tuple[int, float] | None = None
        """A step, and when it was logged."""

    def tell_pace(self, step: int, stop: int, trials: int) -> None:
        """Between two evaluations: how far the lanes are and how long they will take."""
        now = time.monotonic()
        if self.pace_at is None or step <= self.pace_at[0]:  # the steps before hold the compilation
            self.pace_at = (step, now)
        elif now - self.told_at > TELLING:
            self.told_at = now
            left = (stop - step) * (now - self.pace_at[1]) / (step - self.pace_at[0])
            self.say(f"step {step} of {stop}: {trials} trial{'s' * (trials > 1)}, {left:.0f} s to go")

    def tell(self, step: int, stop: int, values: dict[int, float]) -> None:
        """After an evaluation: how the trials do."""
        if values and (step == stop or time.monotonic() - self.told_at > TELLING):
            self.told_at = time.monotonic()
            best = min(values, key=lambda i: self.sweep.sign(values[i]))
            count = f"{len(values)} trial{'s' * (len(values) > 1)}"
            self.say(f"step {step} of {stop}: {count}, best {self.metric} {values[best]:.4g} (trial {best})")
