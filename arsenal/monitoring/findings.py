"""What monitoring found, a line of JSON each in `findings.jsonl`: alerts act on it, pages show it."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from arsenal.storage.files import to_json

State = Literal["ok", "warning", "breach"]
Kind = Literal[
    "drift", "prediction_drift", "label_drift", "performance", "estimated_performance", "service_level", "quality",
    "concept_drift", "multivariate",
]  # fmt: skip
FILE = "findings.jsonl"


class Finding(NamedTuple):
    """One thing that was looked at over a span of time, and whether it is as it should be."""

    time: float
    """Seconds, when it was found."""
    model: str
    version: str
    kind: Kind
    name: str
    """The column or the metric."""
    state: State
    value: float | None = None
    bound: float | None = None
    """What the value must keep to."""
    size: float | None = None
    """How much it matters, 0 where nothing has changed; in the kind's own unit, which `why` says."""
    p: float | None = None
    """As it holds for all that was looked at together; None where nothing was tested."""
    rows: int = 0
    window: tuple[float, float] = (0.0, 0.0)
    slice: str = ""
    why: str = ""


def append_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Append them, whole lines in one write; a torn last line is closed first."""
    content = "".join(f"{json.dumps(to_json(finding._asdict()), allow_nan=False)}\n" for finding in findings).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        torn = size and os.pread(file, 1, size - 1) != b"\n"
        os.write(file, (b"\n" if torn else b"") + content)
    finally:
        os.close(file)


def read_findings(path: Path, since: float = 0.0) -> list[Finding]:
    """The findings of a file, or of the folder's `findings.jsonl`, from a time on; lines that are none are passed over."""
    path = path / FILE if path.is_dir() else path
    found = []
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                finding = read_finding(json.loads(line))
                if finding.time >= since:
                    found.append(finding)
    return found


def read_finding(given: dict[str, Any]) -> Finding:
    """A finding of JSON; what it says beyond the known fields is dropped, as a later version may say more."""
    known = {key: value for key, value in given.items() if key in Finding._fields}
    known["window"] = tuple(known.get("window", (0.0, 0.0)))
    return Finding(**known)
