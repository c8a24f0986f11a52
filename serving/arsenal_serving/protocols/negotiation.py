"""In which form a body comes and an answer goes: media types, RFC 9110, 12, and the header of binary tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from arsenal_serving.calls import Call, Stop
from arsenal_serving.protocols import arrow, records, tables
from arsenal_serving.refused import Refused, show

KINDS = (b"application/json", b"application/octet-stream")
# What /predict reads and writes, by media type.
FORMS: dict[bytes, tuple[Callable[..., dict[str, np.ndarray]], Callable[..., bytes]]] = {
    KINDS[0]: (records.parse, records.write),
    tables.CSV.encode(): (tables.parse, tables.write),
}
if arrow.is_installed():
    FORMS[arrow.STREAM.encode()] = (arrow.parse, arrow.write)
SAID = {tables.CSV.encode(): b"text/csv; charset=utf-8"}


def media_type(call: Call, kinds: tuple[bytes, ...]) -> bytes:
    """The media type of the body, of those that are taken; raises `Stop`."""
    said = call.headers.get(b"content-type", b"application/json")
    if said not in kinds and (said := said.split(b";")[0].strip().lower()) not in kinds:
        allowed = b" or ".join(kinds).decode()
        more = " (pip install 'ml-arsenal-serving[arrow]')" if said == arrow.STREAM.encode() else ""
        raise Stop(415, f"Content-Type must be {allowed}; got {show(said.decode('latin-1'))}{more}.")
    return said


def choose_form(call: Call) -> bytes:
    """The form of the answer: what the client likes best of those that there are, or JSON."""
    said = call.headers.get(b"accept")
    if said is None or said == b"*/*" or said in FORMS:
        return said if said in FORMS else KINDS[0]
    liked = []
    for at, part in enumerate(said.lower().split(b",")[:32]):
        kind, _, rest = part.partition(b";")
        quality = rest.replace(b" ", b"").partition(b"q=")[2].split(b";")[0] or b"1"
        if kind.strip() in FORMS and quality.replace(b".", b"", 1).isdigit() and float(quality):
            liked.append((-float(quality), at, kind.strip()))
    return min(liked)[2] if liked else KINDS[0]


def is_table(call: Call) -> bool:
    """Whether a table comes or goes, which takes longer than JSON and may import pyarrow."""
    said = call.headers.get(b"content-type", b"") + call.headers.get(b"accept", b"")
    return b"csv" in said or b"arrow" in said


def header_length(headers: Mapping[bytes, bytes]) -> int | None:
    """How many bytes of the body are JSON, where binary tensors follow; raises `Refused`."""
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise Refused(f"Inference-Header-Content-Length must be a whole number; got {show(value.decode('latin-1'))}.")
    return int(value)
