"""What a launcher is: how many processes one run is, where they are started, and what becomes of them when one is lost."""

from collections.abc import Callable
from typing import NamedTuple

from arsenal.config import Config

Here = Callable[[Config], None]
"""The run in this process."""


class Launcher(NamedTuple):
    """Where a run is trained. Every process runs the same command and is told by its environment which one it is."""

    launch: Callable[[Config, Here], None]
    """`(config, here)`: train the config's run, by `here` in each process that is one of its own."""
    alone: bool = False
    """Whether this process is the only one."""
