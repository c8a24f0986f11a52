"""Whether a model that is served has gone wrong: what it is asked beside what it learned from, and what to do about it.

Importing it loads nothing, as alerts and logs need no JAX: what is offered here brings it when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arsenal.monitoring.detectors import Alarms, adwin, ddm, kswin, page_hinkley
    from arsenal.monitoring.drift import ColumnDrift, DriftBounds, compare_columns, drift_findings
    from arsenal.monitoring.findings import Finding, append_findings, read_findings
    from arsenal.monitoring.levels import Objective, ServiceLevels, level_findings, read_levels
    from arsenal.monitoring.logged import LoggedRows, answer_again, join_labels, read_labels, read_logged
    from arsenal.monitoring.multivariate import JointBounds, joint_findings, mean_discrepancy, reconstruct, tell_apart
    from arsenal.monitoring.outliers import Outlier, find_outliers, outlier_finding
    from arsenal.monitoring.performance import (
        LogFindings,
        PerformanceBounds,
        change_findings,
        compare_models,
        compare_versions,
        estimate_accuracy,
        estimate_findings,
        log_findings,
        performance_findings,
    )
    from arsenal.monitoring.watch import Watched, read_watched, slices_of

__all__ = [
    "Alarms", "ColumnDrift", "DriftBounds", "Finding", "JointBounds", "LogFindings", "LoggedRows", "Objective", "Outlier",
    "PerformanceBounds", "ServiceLevels", "Watched", "adwin", "answer_again", "append_findings", "change_findings",
    "compare_columns", "compare_models", "compare_versions", "ddm", "drift_findings", "estimate_accuracy",
    "estimate_findings", "find_outliers", "join_labels", "joint_findings", "kswin", "level_findings", "log_findings",
    "mean_discrepancy", "outlier_finding", "page_hinkley", "performance_findings", "read_findings", "read_labels",
    "read_levels", "read_logged", "read_watched", "reconstruct", "slices_of", "tell_apart",
]  # fmt: skip

ROOMS = ("findings", "watch", "drift", "logged", "levels", "outliers", "detectors", "multivariate", "performance")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in ROOMS:
            found = vars(importlib.import_module(f"arsenal.monitoring.{room}")).get(name)
            if found is not None and getattr(found, "__module__", None) == f"arsenal.monitoring.{room}":
                return found
    raise AttributeError(f"module 'arsenal.monitoring' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
