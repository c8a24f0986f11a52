"""Tokens as text, piece by piece: what may yet become another letter, or a text that ends the answer, waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

UNFINISHED = "\ufffd"
# Why a text ends: a token that ends texts, a text that was to end it, nothing that may follow, its length.
END, STOP, WHOLE, LENGTH = "end", "stop", "whole", "length"


class PieceWriter:
    """An answer on its way.

    write: tokens as a text. end: tokens that end it, and are no part of it. stops: texts before which it ends. Of a
    token the last few are written again, so that a text of n tokens costs n short writes.
    """

    def __init__(self, write: Callable[[list[int]], str], end: Collection[int] = (), stops: Sequence[str] = ()):
        self._write, self._end, self._stops = write, end, stops
        self._ids: list[int] = []
        self._begin = self._at = 0
        self._held = ""

    def add(self, token: int, last: str | None = None) -> tuple[str, str | None]:
        """The letters that are certain with one token more, and why the text ends, if it does.

        last: why it ends with this token at the latest.

        >>> writer = PieceWriter(lambda ids: bytes(ids).decode(errors="replace"), stops=["end"])
        >>> [writer.add(token)[0] for token in "é e".encode()], [writer.add(token) for token in b"nd"]
        (['', 'é', ' ', ''], [('', None), ('', 'stop')])
        """
        if token in self._end:
            last = END
        else:
            self._ids.append(token)
        self._held += self._more(last is not None)
        if found := [at for stop in self._stops if (at := self._held.find(stop)) >= 0]:
            self._held, last = self._held[: min(found)], STOP
        kept = 0 if last else max((overlap(self._held, stop) for stop in self._stops), default=0)
        sure = len(self._held) - kept
        text, self._held = self._held[:sure], self._held[sure:]
        return text, last

    def _more(self, last: bool) -> str:
        whole, before = self._write(self._ids[self._begin :]), self._write(self._ids[self._begin : self._at])
        if not last and (whole.endswith(UNFINISHED) or len(whole) <= len(before)):
            return ""
        self._begin, self._at = self._at, len(self._ids)
        return whole[len(before) :]


def overlap(text: str, stop: str) -> int:
    """How many letters at the end of the text begin `stop`.

    >>> overlap("so the e", "end"), overlap("so", "end")
    (1, 0)
    """
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
