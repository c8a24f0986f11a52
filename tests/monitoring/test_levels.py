"""Service levels from logs, looks at a server and Prometheus' own evaluation of the same series."""

import http.server
import json
import shutil
import subprocess
import threading
from datetime import UTC, datetime

import pytest
import yaml

from arsenal.monitoring import Objective, ServiceLevels, level_findings, read_levels
from arsenal.monitoring.exports import write_rules
from arsenal.monitoring.exports.prometheus import SEVERITIES
from arsenal.monitoring.levels import counts_of_log, counts_of_looks, key_of, look_at, read_counters
from arsenal.monitoring.watch import MonitoringError

NOW = 1_800_000_000.0
ANSWERED = Objective("answered", "errors", 0.999)
FAST = Objective("fast", "latency", 0.99, within=0.25)


def lines(path, told):
    """A request log of (seconds ago, status, seconds, model)."""
    made = []
    for k, (ago, status, took, model) in enumerate(told):
        when = datetime.fromtimestamp(NOW - ago, UTC).isoformat().replace("+00:00", "Z")
        made.append(json.dumps({"time": when, "id": f"r{k}", "model": model, "version": "1", "method": "predict", "status": status,
                                "seconds": took, "inputs": [], "outputs": []}))  # fmt: skip
    path.mkdir(exist_ok=True)
    made.sort()
    (path / "requests-1-1-1.jsonl").write_text("\n".join(made) + "\n")


def one_of(found, name):
    return next(one for one in found if one.name == name)


def test_a_log_says_how_fast_budgets_burn(tmp_path):
    # For six hours one request in 100 fails, which is ten times what may; in the last four minutes many come and none does.
    told = [(60 * k + 240, 500 if k % 100 == 0 else 200, 0.5 if k % 20 == 0 else 0.01, "m") for k in range(360)]
    lines(tmp_path, told + [(k, 200, 0.01, "m.predict_proba") for k in range(200)] + [(30, 404, 0.01, "other")])
    counts = counts_of_log(tmp_path, NOW)
    assert counts(ANSWERED, 3600) == (1.0, 258.0) and counts(ANSWERED, 86400.0) == (4.0, 561.0)
    assert counts(ANSWERED._replace(model="m"), 300) == (1.0, 202.0)
    assert counts(FAST, 300) == (1.0, 203.0)
    found = one_of(level_findings(ServiceLevels((ANSWERED, FAST), hourly=0.5), counts, at=NOW), "answered")
    assert found.value == pytest.approx(1 - 4 / 561) and found.state == "warning" and "0% of the budget of 30d is left" in found.why
    cost = one_of(level_findings(ServiceLevels((ANSWERED,), hourly=0.5), counts, at=NOW), "cost_per_thousand")
    assert cost.value == pytest.approx(1000 * 0.5 / 258)
    with pytest.raises(MonitoringError, match="^`room`: a request log knows no saturation; the server's metrics do.$"):
        counts(Objective("room", "saturation", most=3), 60)


@pytest.mark.parametrize("rates, state", [
    ({300: 0.02, 3600: 0.02}, "breach"), ({300: 0.0, 3600: 0.02}, "ok"), ({1800: 0.007, 21_600: 0.007}, "breach"),
    ({21_600: 0.002, 259_200: 0.002}, "warning"), ({3600: 0.02, 300: 0.001}, "ok"),
])  # fmt: skip
def test_both_windows_must_burn(rates, state):
    (found,) = level_findings(ServiceLevels((ANSWERED,)), lambda objective, seconds: (1e6 * rates.get(seconds, 0.0), 1e6), at=NOW)
    assert found.state == state and found.bound == 0.999
    assert ("burns its budget" in found.why) == (state != "ok")


def test_nothing_came_and_too_little_came():
    busy = ServiceLevels((ANSWERED, Objective("busy", "throughput", least=2.0)))
    found = level_findings(busy, lambda objective, seconds: (0.0, seconds), at=NOW)
    assert one_of(found, "busy").state == "breach" and one_of(found, "busy").value == 1.0
    looks = counts_of_looks([(NOW - 20, {key_of(busy.objectives[1]): (0, 5)})], NOW)
    first = one_of(level_findings(busy, looks, at=NOW), "busy")
    assert first.state == "ok" and first.why == "not known before it was looked at for 5m"
    (found,) = level_findings(ServiceLevels((ANSWERED,)), lambda objective, seconds: (0.0, 0.0), at=NOW)
    assert found.state == "ok" and found.why.startswith("nothing came") and found.value is None


def exposition(good, slow, failed, waiting=0.0):
    """A server's text: requests of 10 ms, of 1 s, and failed ones."""
    base = "arsenal_serve_request_duration_seconds"
    out = [f"# TYPE {base} histogram"]
    for code, quick, late in (("200", good, slow), ("503", 0, failed)):
        own = f'code="{code}",model="m",operation="infer",protocol="http",version="1"'
        for bound, count in (("0.25", quick), ("1.0", quick + late), ("+Inf", quick + late)):
            out.append(f'{base}_bucket{{{own},le="{bound}"}} {count}')
        out.append(f"{base}_count{{{own}}} {quick + late}")
        out.append(f"{base}_sum{{{own}}} {quick * 0.01 + late}")
    out += [f'{base}_count{{code="200",model="",operation="ready",protocol="http",version=""}} 999']
    return "\n".join([*out, "# TYPE arsenal_serve_queue_rows gauge", f"arsenal_serve_queue_rows {waiting}"]) + "\n"


def test_counters_are_read_and_grow_from_look_to_look(tmp_path):
    text = exposition(90, 6, 4, waiting=12)
    assert read_counters(text, ANSWERED) == (4.0, 100.0) and read_counters(text, FAST) == (10.0, 100.0)
    assert read_counters(text, ANSWERED._replace(model="strange")) == (0.0, 0.0)
    records = text.replace('operation="infer"', 'operation="predict"').replace('"503"', '"400"')
    assert read_counters(records, ANSWERED) == (0.0, 100.0) and read_counters(records, ANSWERED._replace(operation="infer")) == (0.0, 0.0)
    assert read_counters(records, Objective("understood", "refused")) == (4.0, 100.0)
    assert read_counters(text, Objective("room", "saturation", most=10)) == (1.0, 1.0)
    with pytest.raises(MonitoringError, match="^`within` of `fast` must be one of 0.25, 1; got 0.3.$"):
        read_counters(text, FAST._replace(within=0.3))
    key = key_of(ANSWERED)
    looks = [(NOW - ago, {key: told}) for ago, told in ((7200, (0, 100)), (1800, (10, 500)), (900, (2, 50)), (60, (3, 80)))]
    counts = counts_of_looks(looks, NOW)
    assert counts(ANSWERED, 3600) == (10 + 2 + 1, 400 + 50 + 30)  # the third look is of a server that began anew
    assert counts(ANSWERED, 1000) == (2 + 1, 50 + 30) and counts(FAST, 3600) == (0.0, 0.0)


RESOURCES = """# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.5e9
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {}
# TYPE arsenal_serve_device_memory_bytes gauge
arsenal_serve_device_memory_bytes{{device="cuda:0"}} 10
arsenal_serve_device_memory_bytes{{device="cuda:1"}} 19
# TYPE arsenal_serve_device_memory_limit_bytes gauge
arsenal_serve_device_memory_limit_bytes{{device="cuda:0"}} 20
arsenal_serve_device_memory_limit_bytes{{device="cuda:1"}} 20
"""


def test_memory_cores_and_compiles_are_held_to_what_is_promised():
    lean, card = Objective("lean", "memory", most=1e9), Objective("card", "device_memory", most=0.9)
    busy, warm = Objective("busy", "cpu", most=1.5), Objective("warm", "compiles", most=2)
    assert read_counters(RESOURCES.format(5), lean) == (1.0, 1.0) == read_counters(RESOURCES.format(5), card)
    assert read_counters(RESOURCES.format(5), card._replace(most=0.96)) == (0.0, 1.0)
    assert read_counters(RESOURCES.format(5), busy) == (0.0, 5.0) and read_counters(RESOURCES.format(5), warm) == (0.0, 0.0)
    looks = [(NOW - 600 + 60 * k, {key_of(busy): (0.0, 120.0 * k), key_of(warm): (0.0, 1.0 * k)}) for k in range(11)]
    counts = counts_of_looks([(NOW - 4000, {key_of(warm): (0.0, 0.0)}), *looks], NOW)
    found = level_findings(ServiceLevels((busy, warm, warm._replace(name="cold", most=20))), counts, at=NOW)
    assert [(one.name, one.state, one.value) for one in found] == [("busy", "breach", 2.0), ("warm", "breach", 10.0), ("cold", "ok", 10.0)]
    assert found[0].why == "2 cores over 5m; must be at most 1.5"
    with pytest.raises(MonitoringError, match="^the server has no arsenal_serve_device_memory_bytes, which `card` is of.$"):
        read_counters("process_resident_memory_bytes 1", card)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus' promtool")
def test_prometheus_holds_resources_to_the_same(tmp_path):
    levels = ServiceLevels((Objective("lean", "memory", most=1e9), Objective("card", "device_memory", most=0.9),
                            Objective("busy", "cpu", most=1.5), Objective("warm", "compiles", most=2),
                            Objective("asked", "throughput", least=1.0)))  # fmt: skip
    write_rules(tmp_path / "rules.yaml", levels)
    place, minutes = 'job="serve",instance="a:1"', 120
    series = {
        f"process_resident_memory_bytes{{{place}}}": f"1.5e9x{minutes}", f"process_cpu_seconds_total{{{place}}}": f"0+120x{minutes}",
        f'arsenal_serve_device_memory_bytes{{{place},device="cuda:0"}}': f"19x{minutes}",
        f'arsenal_serve_device_memory_limit_bytes{{{place},device="cuda:0"}}': f"20x{minutes}",
        f'arsenal_serve_late_compiles_total{{{place},model="m"}}': f"0+1x{minutes}",
        f'arsenal_serve_request_duration_seconds_count{{{place},model="m",operation="infer",code="200"}}': f"0+30x{minutes}",
    }  # fmt: skip
    tests = [
        {"eval_time": "2h", "expr": f'count(ALERTS{{alertname=~"Arsenal{name}.*",severity="page"}})', "exp_samples": [
            {"labels": "{}", "value": count}]} for name, count in (("Lean", 2), ("Card", 2), ("Busy", 1), ("Warm", 1), ("Asked", 1))
    ]  # fmt: skip
    case = {"interval": "1m", "input_series": [{"series": name, "values": text} for name, text in series.items()], "promql_expr_test": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_server_is_looked_at_and_its_looks_are_kept(tmp_path):
    told = iter([exposition(100, 0, 0), exposition(150, 0, 50)])

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(next(told).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    levels = ServiceLevels((ANSWERED,))
    first = look_at(url, tmp_path, levels, NOW - 200)
    assert first(ANSWERED, 300) == (0.0, 0.0)
    with (tmp_path / "levels.jsonl").open("a") as file:
        file.write('{"time": 17')  # torn by a crash
    (found,) = level_findings(levels, look_at(url, tmp_path, levels, NOW), at=NOW)
    assert found.state == "breach" and found.value == 0.5
    server.shutdown()
    server.server_close()
    with pytest.raises(MonitoringError, match=f"^{url} gives no metrics: "):
        look_at(url, tmp_path, levels, NOW)


@pytest.mark.parametrize("text, said", [
    ("window: 30d", "must have `objectives`, by name"),
    ("objectives: {a: {measure: speed}}", "must have a measure, one of errors, refused, latency, throughput, saturation, memory"),
    ("objectives: {a: {measure: latency, target: 0.9}}", "must have within"),
    ("objectives: {a: {measure: errors, target: 1}}", "must be a number above 0 and below 1; got 1"),
    ("objectives: {a: {measure: errors, target: 0.9, within: 3}}", "may have measure, model, operation, target; got within"),
    ("{objectives: {a: {measure: errors, target: 0.9}}, window: 3h}", "must be a length of a day or more, such as 30d; got 3h"),
    ("{objectives: {a: {measure: errors, target: 0.9}}, cost: 3}", "may have window, cost_per_hour and objectives; got cost"),
])  # fmt: skip
def test_a_file_that_cannot_hold_is_refused(tmp_path, text, said):
    (tmp_path / "levels.yaml").write_text(text)
    with pytest.raises(MonitoringError) as error:
        read_levels(tmp_path / "levels.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus' promtool")
@pytest.mark.parametrize("share, target, state", [
    (0, 0.99, "ok"), (1, 0.99, "breach"), (2, 0.99, "breach"), (1, 0.95, "warning"), (1, 0.85, "ok"),
])  # fmt: skip
def test_prometheus_comes_to_the_same(tmp_path, share, target, state):
    """Ten requests a minute, of which some fail: the alerts that promtool says fire, after an hour and after seven."""
    levels = ServiceLevels((Objective("answered", "errors", target), FAST._replace(target=target)))
    write_rules(tmp_path / "rules.yaml", levels)
    subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], check=True, capture_output=True)
    minutes, looks = 420, []
    base, own = "arsenal_serve_request_duration_seconds", 'job="serve",code="{}",model="m",operation="infer",protocol="http",version="1"'
    for minute in range(minutes + 1):
        looks.append((NOW + 60 * minute, {key_of(one): read_counters(exposition((10 - share) * minute, 0, share * minute), one)
                                          for one in levels.objectives}))  # fmt: skip
    series = []
    for code, grow in (("200", 10 - share), ("503", share)):
        labels = own.format(code)
        series.append({"series": f"{base}_count{{{labels}}}", "values": f"0+{grow}x{minutes}"})
        series.append({"series": f'{base}_bucket{{{labels},le="0.25"}}', "values": f"0+{grow if code == '200' else 0}x{minutes}"})
    tests = []
    for minute in (70, minutes):
        now = NOW + 60 * minute
        for one in level_findings(levels, counts_of_looks(looks[: minute + 1], now), at=now):
            assert one.state == state
            for severity in ("breach", "warning"):
                # Whoever burns fast enough for a breach burns fast enough for a warning.
                fires = state != "ok" and (severity == "warning" or state == "breach")
                asked = f'count(ALERTS{{alertname=~"Arsenal{one.name.capitalize()}.*",severity="{SEVERITIES[severity]}"}}) > 0'
                labels = [{"labels": "{}", "value": 1 + (severity == "breach" and share == 2)}] if fires else []
                tests.append({"eval_time": f"{minute}m", "expr": asked, "exp_samples": labels})
    case = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
    told = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(told))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
