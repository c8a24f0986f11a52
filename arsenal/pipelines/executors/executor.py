"""What an executor is: where the attempts at a flow's steps run, and how many at a time."""

from collections.abc import Callable
from typing import NamedTuple

from arsenal.pipelines.step import Resources
from arsenal.pipelines.work import Attempt, Task


class Executor(NamedTuple):
    """Where steps run. One is started at a time and answers in any order; what they take together fits into `room`."""

    name: str
    room: Resources
    start: Callable[[Task, Resources], None]
    wait: Callable[[float | None], Attempt | None]
    """`(seconds)`: an attempt that is over; None where none was for so long."""
    stop: Callable[[], None]
    """End what is under way."""
    several: bool = True
    """Whether more than one may be under way."""
