"""What a run says of itself goes to every tracker at once: events, TensorBoard, the terminal, a user's own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Listener = Callable[[str, int, dict[str, Any]], None]
"""`(kind, step, values)`; kind is one of `KINDS`."""

MEASURES = ("train", "validation")
"""Numbers by name, or a list of them, one for each member of a population."""
MACHINE = ("steps_per_second", "examples_per_second", "step_time", "mfu")
"""Of the numbers, those that tell of the machine, not of learning; `step_time` is in seconds."""
SHOWN = ("images", "text")
"""Pictures [n, height, width] or [n, height, width, channels] by name, and texts."""
TOLD = ("start", "warning", "note", "cache", "sums", "complete", "interrupted", "failed")
"""What happened; the values say more. `sums` are those of a checkpoint between two logs."""
KINDS = (*MEASURES, *SHOWN, *TOLD)


def hear_nothing(kind: str, step: int, values: dict[str, Any]) -> None:
    """A listener that does nothing."""


def of_learning(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers that tell of learning, not of the machine."""
    return {name: value for name, value in values.items() if name not in MACHINE}


class Tracker(NamedTuple):
    """Where a run is written down. A factory of one takes the run folder, the step that it begins at and the config."""

    note: Listener
    close: Callable[[], None] = lambda: None


class Journal:
    """Open trackers of one run."""

    def __init__(self, *trackers: Tracker):
        """They hear everything in this order."""
        self.trackers: Sequence[Tracker] = trackers

    def say(self, kind: str, step: int, **about: Any) -> None:
        """Something that happened, or that can be looked at."""
        for tracker in self.trackers:
            tracker.note(kind, step, about)

    def measure(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Numbers by name; an array gives one number for each member of a population."""
        import numpy as np  # here, since whoever lists ten thousand runs needs the words above only

        self.say(kind, step, **{name: np.asarray(value).tolist() for name, value in values.items()})

    def close(self) -> None:
        """Write out and close, all of them even where one fails."""
        failures = []
        for tracker in self.trackers:
            try:
                tracker.close()
            except OSError as error:
                failures.append(error)
        if failures:
            raise failures[0]
