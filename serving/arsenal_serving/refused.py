"""The one error of this package, for what was asked for or found on disk and is not allowed, and its line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr


class Refused(ValueError):
    """Says in one line what was refused, what is allowed and what came."""


class Full(Exception):
    """A queue is full; `seconds` is when to try again."""

    def __init__(self, seconds: int):
        super().__init__(f"the queue is full; try again in {seconds} s.")
        self.seconds = seconds


def show(value: object, limit: int = 80) -> str:
    """A value from a stranger as one short printable line, whatever its length and depth.

    >>> len(show("x" * 1000, limit=20))
    20
    """
    short = Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, limit, limit, limit
    text = short.repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def unknown_name(what: str, name: str, allowed: Iterable[str], of: str = "") -> Refused:
    """The error for a name that does not exist: suggests the nearest one and lists what there is.

    >>> str(unknown_name("method", "predct", ["predict", "embed"]))
    "unknown method 'predct'; did you mean 'predict'? There is: 'embed', 'predict'."
    """
    names = sorted(allowed)
    near = get_close_matches(name[:200], names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(repr(n) for n in names[:20]) + (", ..." if len(names) > 20 else "")
    return Refused(f"unknown {what} {show(name)}{of and f' of {of}'}{hint} There is: {listed or 'none'}.")


def report(error: BaseException) -> int:
    """Say an error in one line on stderr; the exit status of a command that ends with it."""
    text = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"arsenal-serve: {text}\n")
    return 1
