"""What others read: promtool on the rules and on every query of the dashboard, opentelemetry's own messages, a real collector's port."""

import json
import re
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest
import yaml
from arsenal_serving.telemetry.metrics import SECONDS
from inboxes import Hook
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from arsenal.monitoring.alerts.channels import DeliveryError
from arsenal.monitoring.exports import (
    findings_text,
    grafana_dashboard,
    otlp_logs,
    otlp_metrics,
    prometheus_rules,
    send_otlp,
    write_parquet,
    write_rules,
)
from arsenal.monitoring.exports.prometheus import BUCKETS, ExportError
from arsenal.monitoring.findings import Finding
from arsenal.monitoring.levels import Objective, ServiceLevels

FOUND = [
    Finding(1.7e9 + at, "table", "1", "drift", name, state, value, 0.1, value, 0.001, 300, (1.7e9, 1.7e9 + at), why="moved")
    for at, name, state, value in ((60, "bill", "ok", 0.0), (120, "bill", "breach", 1.5), (120, 'a "b"\\c', "warning", None))
]
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus' promtool is not installed.")


def promtool(*words, given=None):
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, input=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promises_are_of_the_buckets_that_the_server_has():
    assert BUCKETS == SECONDS
    registry = CollectorRegistry()
    Histogram("x", "x", buckets=SECONDS, registry=registry).observe(0)
    known = set(re.findall(r'le="([^"]+)"', generate_latest(registry).decode()))
    for seconds in BUCKETS:
        asked = set(re.findall(r'le="([^"]+)"', json.dumps(prometheus_rules(promised(seconds=seconds))).replace("\\", "")))
        assert len(asked) == 1 and asked <= known
    with pytest.raises(ExportError, match="Did you mean 0.25"):
        prometheus_rules(promised(seconds=0.3))


def promised(answered=0.999, quick=0.99, seconds=0.25):
    return ServiceLevels((Objective("failed", "errors", answered), Objective("slow", "latency", quick, within=seconds)))


SERIES = 'arsenal_serve_request_duration_seconds_%s{job="serve",model="table",version="1",protocol="http",operation="infer",code="%s"%s}'


def rules_fired(folder, failed: int, quick: int, minutes: int) -> dict:
    """What fires of 100 requests a minute of which some fail and some are quick."""
    write_rules(folder / "rules.yml", promised(0.99, 0.9))
    inputs = [
        (SERIES % ("count", "200", ""), 100 - failed), (SERIES % ("count", "503", ""), failed),
        (SERIES % ("bucket", "200", ',le="0.25"'), quick),
    ]  # fmt: skip
    names = [one["alert"] for one in prometheus_rules()["groups"][0]["rules"]]
    series = [{"series": name, "values": f"0+{step}x{minutes}"} for name, step in inputs]
    # promtool says which alerts there are where it is told that there are none.
    wanted = [{"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": []} for name in names]
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": series, "alert_rule_test": wanted}]}  # fmt: skip
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True)
    said = done.stdout + done.stderr
    return set(re.findall(r"alertname: (\w+), time: \w+,", said)) if done.returncode else set()


@needs_promtool
def test_rules_are_understood_and_fire_on_what_burns(tmp_path):
    assert rules_fired(tmp_path, 0, 99, 120) == set()
    assert rules_fired(tmp_path, 50, 100, 90) == {"ArsenalFailed1h", "ArsenalFailed6h", "ArsenalFailed3d"}
    assert rules_fired(tmp_path, 3, 97, 90) == {"ArsenalFailed3d"}  # three times what is allowed
    assert rules_fired(tmp_path, 0, 20, 400) == {"ArsenalSlow6h", "ArsenalSlow3d"}  # eight times
    assert "13 rules found" in promtool("check", "rules", tmp_path / "rules.yml")


@needs_promtool
def test_every_query_of_the_dashboard_is_understood(tmp_path):
    found = grafana_dashboard()
    queries = [target["expr"] for panel in found["panels"] for target in panel["targets"]]
    plain = [query.replace("$__rate_interval", "5m") for query in queries]
    rules = [{"record": f"q:{at}", "expr": query} for at, query in enumerate(plain)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", tmp_path / "queries.yml")


def test_the_dashboard_is_laid_out_and_is_grafanas():
    found = grafana_dashboard()
    taken = set()
    for panel in found["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    dashboard = pytest.importorskip("grafana_foundation_sdk.models.dashboard").Dashboard.from_json(found)
    assert len(dashboard.panels) == len(found["panels"]) and dashboard.templating.list_val[2].name == "model"


def test_metrics_are_read_back():
    read = {family.name: family.samples for family in text_string_to_metric_families(findings_text(FOUND))}
    states = {sample.labels["name"]: sample.value for sample in read["arsenal_finding_state"]}
    assert states == {"bill": 2.0, 'a "b"\\c': 1.0}
    assert [sample.value for sample in read["arsenal_finding_size"]] == [1.5]
    if shutil.which("promtool"):
        promtool("check", "metrics", given=findings_text(FOUND))


def test_a_collector_is_sent_every_finding():
    hook = Hook()
    send_otlp(hook.url, FOUND * 500)
    records = [
        record for path, content, _ in hook.posts if path == "/v1/logs"
        for record in content["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]  # fmt: skip
    assert len(records) == 1500 and records[1]["severityText"] == "ERROR" and records[1]["timeUnixNano"] == "1700000120000000000"
    points = next(content for path, content, _ in hook.posts if path == "/v1/metrics")["resourceMetrics"][0]["scopeMetrics"][0]
    assert {metric["name"]: len(metric["gauge"]["dataPoints"]) for metric in points["metrics"]} == {
        "arsenal.finding.state": 2, "arsenal.finding.size": 1, "arsenal.finding.value": 1,
    }  # fmt: skip
    hook.shutdown()
    hook.server_close()
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:\d+: .*refused"):
        send_otlp(hook.url, FOUND)


def test_messages_are_opentelemetrys():
    logs = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
    metrics = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    from google.protobuf.json_format import Parse

    read = Parse(json.dumps(otlp_logs(FOUND)), logs.ExportLogsServiceRequest())
    record = read.resource_logs[0].scope_logs[0].log_records[1]
    assert record.time_unix_nano == 1_700_000_120_000_000_000 and record.severity_number == 17 and record.body.string_value == "moved"
    assert {one.key: one.value.int_value for one in record.attributes}["arsenal.rows"] == 300
    read = Parse(json.dumps(otlp_metrics(FOUND)), metrics.ExportMetricsServiceRequest())
    assert sorted(one.as_double for one in read.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points) == [1.0, 2.0]


def test_a_table_of_findings_is_read_back(tmp_path):
    write_parquet(tmp_path / "found.parquet", FOUND)
    rows = pq.read_table(tmp_path / "found.parquet").to_pylist()
    assert [row["state"] for row in rows] == ["ok", "breach", "warning"] and rows[2]["value"] is None
    assert rows[1]["until"] == FOUND[1].window[1] and rows[1]["rows"] == 300
