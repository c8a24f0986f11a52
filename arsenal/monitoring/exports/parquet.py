"""Findings as a Parquet file, a row each, for whatever reads tables."""

from collections.abc import Sequence
from pathlib import Path

from arsenal.monitoring.findings import Finding
from arsenal.storage.files import write_bytes


def write_parquet(path: Path, findings: Sequence[Finding]) -> None:
    """Write findings with the columns of `Finding`; `since` and `until` are the ends of the window, times in seconds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words, numbers = ("model", "version", "kind", "name", "state", "slice", "why"), ("time", "value", "bound", "size", "p")
    columns = {name: pa.array([getattr(one, name) for one in findings], pa.string()) for name in words}
    columns |= {name: pa.array([getattr(one, name) for one in findings], pa.float64()) for name in numbers}
    columns["rows"] = pa.array([one.rows for one in findings], pa.int64())
    columns |= {name: pa.array([one.window[at] for one in findings], pa.float64()) for at, name in enumerate(("since", "until"))}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    write_bytes(path, sink.getvalue().to_pybytes())
