"""What a sweep searches by."""

from typing import NamedTuple

import jax

from arsenal.records import Scheduler, Search
from arsenal.search.space import Space


class Searching(NamedTuple):
    """Where to look, who suggests, and who goes on."""

    space: Space
    search: Search
    scheduler: Scheduler | None
    key: jax.Array
