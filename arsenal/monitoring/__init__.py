"""Whether a model that is served has gone wrong: what it is asked beside what it learned from, and what to do about it."""

from arsenal.monitoring.detectors import Alarms, adwin, ddm, kswin, page_hinkley
from arsenal.monitoring.drift import ColumnDrift, DriftBounds, compare_columns, drift_findings
from arsenal.monitoring.findings import Finding, append_findings, read_findings
from arsenal.monitoring.watch import Watched, read_watched, slices_of

__all__ = [
    "Alarms", "ColumnDrift", "DriftBounds", "Finding", "Watched", "adwin", "append_findings", "compare_columns", "ddm",
    "drift_findings", "kswin", "page_hinkley", "read_findings", "read_watched", "slices_of",
]  # fmt: skip
