"""The name that was meant: what every error suggests for one that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """` Did you mean ...?` with the most similar of the names, or nothing where none is similar.

    >>> nearest("acuracy", ["loss", "Accuracy"]), nearest("x", ["loss"])
    (' Did you mean `Accuracy`?', '')
    """
    known = {str(one).lower(): str(one) for one in names}
    close = difflib.get_close_matches(str(name).lower(), known, 1, cutoff)
    return f" Did you mean `{known[close[0]]}`?" if close else ""
