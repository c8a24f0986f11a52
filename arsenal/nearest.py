"""The name that was meant: what every error suggests for one that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """` Did you mean ...?` with the most similar of the names, or nothing where none is similar.

    >>> nearest("acuracy", ["loss", "accuracy"]), nearest("x", ["loss"])
    (' Did you mean `accuracy`?', '')
    """
    close = difflib.get_close_matches(str(name), [str(one) for one in names], 1, cutoff)
    return f" Did you mean `{close[0]}`?" if close else ""
