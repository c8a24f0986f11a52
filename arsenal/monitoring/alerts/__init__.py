"""Alerts: what of the findings reaches whom, once, in which order, and what it starts."""

from arsenal.monitoring.alerts.alertmanager import from_alertmanager, listen
from arsenal.monitoring.alerts.journal import AlertJournal, read_known
from arsenal.monitoring.alerts.loop import AlertLoop, replay
from arsenal.monitoring.alerts.machine import Acknowledged, Alert, AlertMemory, Notice, Silence, advance
from arsenal.monitoring.alerts.policy import AlertPolicy, AlertRule, make_policy, policy_warnings, read_policy

__all__ = [
    "Acknowledged", "Alert", "AlertJournal", "AlertLoop", "AlertMemory", "AlertPolicy", "AlertRule", "Notice", "Silence",
    "advance", "from_alertmanager", "listen", "make_policy", "policy_warnings", "read_known", "read_policy", "replay",
]  # fmt: skip
