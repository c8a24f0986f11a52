"""What a run says of itself goes to every listener at once: events, TensorBoard, the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from arsenal.runs.events import Events
from arsenal.runs.tensorboard import Board

Listener = Callable[[str, int, dict[str, Any]], None]
"""`(kind, step, values)`; kind is start, train, validation, warning, complete or interrupted."""


class Journal:
    """Open logs of one run from a step on."""

    def __init__(self, path: Path, step: int, tensorboard: bool, listener: Listener):
        """Write below the run folder `path`."""
        self.events, self.listener = Events(path / "events.jsonl"), listener
        self.board = Board(path / "tensorboard", step) if tensorboard else None

    def say(self, kind: str, step: int, **about: Any) -> None:
        """Something that happened."""
        self.events.write(kind, step, **about)
        self.listener(kind, step, about)

    def measure(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Numbers by name; an array gives one number for each member of a population."""
        values = {name: np.asarray(value).tolist() for name, value in values.items()}
        self.events.write(kind, step, values=values)
        if self.board:
            self.board.write(step, {f"{kind}/{name}": value for name, value in values.items()})
        self.listener(kind, step, values)

    def close(self) -> None:
        """Write out and close."""
        self.events.close()
        if self.board:
            self.board.close()
