"""The names that a request goes by: its id, and its place in a trace (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from itertools import count
from random import getrandbits
from secrets import token_hex

from arsenal_serving.calls import Call

ID = re.compile(rb"[!-~]{1,128}")
TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-[ -~]*)?", re.DOTALL
)
# An id that is made is a prefix of this process and a number: a random one for each would cost ten times as much.
_prefix = f"{token_hex(6)}-"
_numbers = count(1)


def identify(call: Call) -> None:
    """Note in a call the id that its client gave, or one of ours, and its trace with a span of ours.

    An id is taken when it is at most 128 printable characters of ASCII without spaces; `x-request-id`.
    """
    given = call.headers.get(b"x-request-id")
    if given is not None and ID.fullmatch(given):
        call.id = given.decode()
    else:
        call.id = f"{_prefix}{next(_numbers):x}"
    parent = call.headers.get(b"traceparent")
    if parent is not None and (found := read_trace(parent)) is not None:
        call.trace = (found[0], f"{getrandbits(64) or 1:016x}")


def read_trace(header: bytes) -> tuple[str, str] | None:
    """The trace and the parent's span in a `traceparent`; None where it is not valid, and then it is ignored.

    >>> read_trace(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    ('0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331')
    >>> read_trace(b"00-00000000000000000000000000000000-b7ad6b7169203331-01")
    """
    found = TRACEPARENT.fullmatch(header)
    # Later versions may say more after what is known; version 00 may not.
    if found is None or (found[1] == b"00" and found[4] is not None):
        return None
    return found[2].decode(), found[3].decode()
