"""What a flow is compiled from: the command of each step there, and whether the scheduler can have it."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.flow import Flow
from arsenal.pipelines.references import FlowError
from arsenal.pipelines.step import FlowStep

SKIPPED = 99
"""The exit code of a step that its condition leaves out, where a scheduler has a state for it."""


class CompiledFlow(NamedTuple):
    """A flow on its way to another scheduler."""

    flow: Flow
    root: str
    """The folder of flows, seen from the working folder there."""
    folder: str
    """The working folder there."""
    image: str | None = None
    volume: str | None = None
    """A claim of a volume that is mounted at the folder."""

    def words(self, step: str, execution: str, *more: str) -> list[str]:
        """The command of a step in an execution."""
        return ["arsenal", "step", self.flow.source or self.flow.name, step, f"execution={execution}", *self.shared(), *more]

    def shared(self) -> list[str]:
        """Where the flow's folder is, and its parameters, as words."""
        return [f"root={self.root}", *(f"{key}={as_word(value)}" for key, value in self.flow.params.items())]

    def whole(self) -> list[str]:
        """The command of all of it, on this machine, where nobody knows a PATH."""
        return [sys.executable, "-m", "arsenal", "flow", "run", self.flow.source or self.flow.name, *self.shared()]

    def before(self, step: FlowStep) -> list[str]:
        """Steps that a step waits for, in the order of the flow."""
        there = self.flow.before(step.name)
        return [name for name in self.flow.steps if name in there]

    @property
    def identifier(self) -> str:
        """The flow's name as Python has names."""
        return self.flow.name.replace("-", "_")

    def need_schedule(self, target: str) -> str:
        """The flow's schedule; a FlowError where it has none."""
        if not self.flow.schedule:
            name = self.flow.name
            raise FlowError(f"target={target} is for a flow with a `schedule`, as in schedule: '0 6 * * *'; `{name}` has none.")
        return self.flow.schedule

    def need_image(self, target: str) -> str:
        """The container image; a FlowError where none is told."""
        if not self.image:
            raise FlowError(f"target={target} needs image=..., a container image that has arsenal.")
        return self.image


def as_word(value: Any) -> str:
    """A parameter as `arsenal` reads it from a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def delays(step: FlowStep) -> list[float]:
    """Seconds before each further attempt."""
    said = step.retries
    return [min(said.most, said.wait * said.factor**i) for i in range(said.times)]


def head(target: CompiledFlow, name: str) -> str:
    """The first sentence of a file of Python."""
    return f'"""The flow {target.flow.name} for {name}, written by `arsenal flow compile`: each step runs `arsenal step`."""\n'


def python_path(path: Path) -> Path:
    """The path, if it is a Python file's."""
    if path.suffix != ".py":
        raise FlowError(f"`to` must be a .py file for this target; got {path}.")
    return path
