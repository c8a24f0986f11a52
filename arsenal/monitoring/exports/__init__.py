"""What monitoring knows in the words of others: Prometheus' rules and metrics, Grafana's dashboards, OpenTelemetry's messages."""

from arsenal.monitoring.exports.grafana import grafana_dashboard, write_dashboard
from arsenal.monitoring.exports.otlp import otlp_logs, otlp_metrics, send_otlp
from arsenal.monitoring.exports.parquet import write_parquet
from arsenal.monitoring.exports.prometheus import PROMISED, findings_text, prometheus_rules, write_rules

__all__ = [
    "PROMISED", "findings_text", "grafana_dashboard", "otlp_logs", "otlp_metrics", "prometheus_rules", "send_otlp",
    "write_dashboard", "write_parquet", "write_rules",
]  # fmt: skip
