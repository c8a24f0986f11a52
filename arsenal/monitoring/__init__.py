"""Whether a model that is served has gone wrong: what it is asked beside what it learned from, and what to do about it."""

from arsenal.monitoring.detectors import Alarms, adwin, ddm, kswin, page_hinkley
from arsenal.monitoring.drift import ColumnDrift, DriftBounds, compare_columns, drift_findings
from arsenal.monitoring.findings import Finding, append_findings, read_findings
from arsenal.monitoring.levels import Objective, ServiceLevels, burn_rules, level_findings, read_levels
from arsenal.monitoring.logged import LoggedRows, join_labels, read_labels, read_logged
from arsenal.monitoring.multivariate import JointBounds, joint_findings, mean_discrepancy, reconstruct, tell_apart
from arsenal.monitoring.performance import (
    PerformanceBounds,
    change_findings,
    compare_versions,
    estimate_accuracy,
    estimate_findings,
    log_findings,
    performance_findings,
)
from arsenal.monitoring.watch import Watched, read_watched, slices_of

__all__ = [
    "Alarms", "ColumnDrift", "DriftBounds", "Finding", "JointBounds", "LoggedRows", "Objective", "PerformanceBounds",
    "ServiceLevels", "Watched", "adwin", "append_findings", "burn_rules", "change_findings", "compare_columns",
    "compare_versions", "ddm", "drift_findings", "estimate_accuracy", "estimate_findings", "join_labels", "joint_findings",
    "kswin", "level_findings", "log_findings", "mean_discrepancy", "page_hinkley", "performance_findings", "read_findings",
    "read_labels", "read_levels", "read_logged", "read_watched", "reconstruct", "slices_of", "tell_apart",
]  # fmt: skip
