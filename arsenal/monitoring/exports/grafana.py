"""A Grafana dashboard of a served model: how it answers, what waits, and what monitoring found.

The JSON model, schema version 39, of
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model.
"""

import json
from pathlib import Path
from typing import Any

from arsenal.monitoring.levels import FAILED
from arsenal.storage.files import write_text

CHOSEN = '{job=~"$job",model=~"$model"}'
DURATION = "arsenal_serve_request_duration_seconds"
SOURCE = {"type": "prometheus", "uid": "${source}"}

# Title, unit, width of 24, and queries with their legends.
PANELS: list[tuple[str, str, int, list[tuple[str, str]]]] = [
    ("Requests", "reqps", 8, [
        (f"sum by (model, version) (rate({DURATION}_count{CHOSEN}[$__rate_interval]))", "{{model}} {{version}}")]),
    ("Failed", "percentunit", 8, [(
        f'sum by (model) (rate({DURATION}_count{{job=~"$job",model=~"$model",code=~"{"|".join(FAILED)}"}}[$__rate_interval])) '
        f"/ sum by (model) (rate({DURATION}_count{CHOSEN}[$__rate_interval]))", "{{model}}")]),
    ("Duration", "s", 8, [
        (f"histogram_quantile({q}, sum by (le) (rate({DURATION}_bucket{CHOSEN}[$__rate_interval])))", f"p{100 * q:g}")
        for q in (0.5, 0.95, 0.99)]),
    ("Rows", "rowsps", 8, [(f"sum by (model) (rate(arsenal_serve_rows_total{CHOSEN}[$__rate_interval]))", "{{model}}")]),
    ("Rows that wait", "short", 8, [('arsenal_serve_queue_rows{job=~"$job"}', "{{instance}}")]),
    ("Late compiles", "short", 8, [
        (f"sum by (model) (increase(arsenal_serve_late_compiles_total{CHOSEN}[$__rate_interval]))", "{{model}}")]),
    ("Processor", "percentunit", 8, [('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', "{{instance}}")]),
    ("Memory", "bytes", 8, [('process_resident_memory_bytes{job=~"$job"}', "{{instance}}")]),
    ("Models ready", "short", 8, [('arsenal_serve_models_ready{job=~"$job"}', "{{instance}}")]),
    ("Findings: 1 a warning, 2 a breach", "short", 12, [
        ('arsenal_finding_state{model=~"$model"} > 0', "{{kind}} {{name}} {{slice}}")]),
    ("Findings: size", "short", 12, [('arsenal_finding_size{model=~"$model"}', "{{kind}} {{name}} {{slice}}")]),
]  # fmt: skip


def grafana_dashboard(title: str = "arsenal") -> dict[str, Any]:
    """The dashboard; its variables choose the source of data, the job and the models."""
    panels, x, y = [], 0, 0
    for number, (name, unit, width, queries) in enumerate(PANELS, 1):
        if x + width > 24:
            x, y = 0, y + 8
        targets = [
            {"refId": chr(65 + at), "expr": expr, "legendFormat": legend, "datasource": SOURCE, "range": True}
            for at, (expr, legend) in enumerate(queries)
        ]
        panels.append({
            "id": number, "type": "timeseries", "title": name, "datasource": SOURCE, "targets": targets,
            "gridPos": {"x": x, "y": y, "w": width, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": {"legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
                        "tooltip": {"mode": "multi", "sort": "desc"}},
        })  # fmt: skip
        x += width
    variables = [
        {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus", "hide": 0},
        *(
            {"name": name, "label": name.capitalize(), "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "hide": 0,
             "query": f"label_values({DURATION}_count, {name})", "multi": True, "includeAll": True, "allValue": ".*",
             "current": {"text": "All", "value": "$__all"}}
            for name in ("job", "model")
        ),
    ]  # fmt: skip
    return {
        "uid": "arsenal-serve", "title": title, "tags": ["arsenal"], "schemaVersion": 39, "version": 1, "editable": True,
        "timezone": "utc", "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables}, "annotations": {"list": []}, "links": [], "panels": panels,
    }  # fmt: skip


def write_dashboard(path: Path, title: str = "arsenal") -> None:
    """Write the dashboard as the JSON that Grafana imports, or reads from a provisioning folder."""
    write_text(path, json.dumps(grafana_dashboard(title), indent=1) + "\n")
