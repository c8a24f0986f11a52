"""Nested dictionaries, as configs and events are, by the paths of their leaves."""

from collections.abc import Iterator
from typing import Any


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths with dots, and what is there; an empty mapping is a value.

    >>> dict(flatten({"a": {"b": 1, "c": {}}}))
    {'a.b': 1, 'a.c': {}}
    """
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
