"""Service levels: what share of requests is answered, soon enough, and how fast the share that may fail is used up.

A level burns its budget once over its window where exactly as much fails as may. It is a breach where it burns 14.4 times as fast
over an hour and over five minutes, or 6 times over six hours and over thirty minutes, a warning where it burns faster than once
over three days and over six hours, for a window of 30 days: so much of the budget is gone then as is worth a call. The short
windows end an alarm soon after its cause. Beyer et al., The Site Reliability Workbook (2018), chapter 5.
"""

import bisect
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote

import numpy as np

from arsenal.evaluation.gates import read_yaml
from arsenal.monitoring.findings import Finding, State
from arsenal.monitoring.logged import log_lines
from arsenal.monitoring.watch import MonitoringError

What = Literal["errors", "refused", "latency", "throughput", "saturation", "memory", "device_memory", "cpu", "compiles"]
FILE = "levels.jsonl"
DURATIONS = "arsenal_serve_request_duration_seconds"
DEVICE = "arsenal_serve_device_memory"
GAUGES = {"saturation": "arsenal_serve_queue_rows", "memory": "process_resident_memory_bytes", "device_memory": f"{DEVICE}_bytes"}
"""What is looked at and must be at most so much: rows that wait, bytes of the process, bytes of a device of what it has."""
COUNTERS = {"cpu": "process_cpu_seconds_total", "compiles": "arsenal_serve_late_compiles_total"}
SPANS = {"throughput": 300.0, "cpu": 300.0, "compiles": 3600.0}
"""Seconds over which what grows is held against its bound: it has no budget."""
COUNTED = ("errors", "refused", "latency", "throughput")
"""Measures of requests."""
RATES = {"throughput": "requests a second", "cpu": "cores", "compiles": "compiles while callers waited"}
FAILED = ("5..", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Answers that are the server's fault: of HTTP and of gRPC."""
REFUSED = ("400", "415", "422", "INVALID_ARGUMENT")
"""Answers to what is no input of the model, such as a column of another name."""
INFERENCES = ("infer", "predict", "completions", "chat")
"""Operations of the server by which a model is asked."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TIMEOUT = 10.0
"""Seconds in which a server of metrics must answer."""


class BurnRule(NamedTuple):
    """Two windows over which a budget must not be used up as fast as that."""

    long: float
    """Seconds."""
    short: float
    share: float
    """Of the budget, gone after the long window at that rate."""
    state: State


RULES = (BurnRule(3600, 300, 0.02, "breach"), BurnRule(21_600, 1800, 0.05, "breach"), BurnRule(259_200, 21_600, 0.1, "warning"))


class Objective(NamedTuple):
    """What is promised of a server's requests."""

    name: str
    measure: What
    target: float = 0.99
    """The share of requests, or of looks, that must be good; in (0, 1)."""
    within: float = math.inf
    """Seconds, of latency."""
    most: float = math.inf
    """Rows that wait, of saturation; bytes, of memory; the share in use, of a device's; cores over five minutes; compiles an hour
    while callers waited."""
    least: float = 0.0
    """Requests a second, of throughput, over five minutes."""
    model: str = ""
    """All unless named."""
    operation: str = ""
    """Of `INFERENCES`; all of them unless named."""


class ServiceLevels(NamedTuple):
    """Objectives, the seconds of their budgets, and what an hour of the server costs."""

    objectives: tuple[Objective, ...]
    window: float = 30 * 86400.0
    hourly: float | None = None


Counts = Callable[[Objective, float], tuple[float, float]]
"""`(objective, seconds) -> (bad, all)`: of the requests, or looks, of the last so many seconds; all NaN where nobody knows."""


def read_levels(path: str | Path) -> ServiceLevels:
    """The service levels of a YAML file; MonitoringError for anything that could not hold.

        window: 30d
        cost_per_hour: 0.35
        objectives:
          answered: {measure: errors, target: 0.999}
          understood: {measure: refused, target: 0.95}
          fast: {measure: latency, within: 0.25, target: 0.99}
          room: {measure: saturation, most: 1000, target: 0.99}
          busy: {measure: throughput, least: 0.1}
          lean: {measure: memory, most: 2000000000}
          warm: {measure: compiles, most: 1}
    """
    given = read_yaml(path, "levels")
    if not isinstance(given, Mapping) or not isinstance(given.get("objectives"), Mapping) or not given["objectives"]:
        raise MonitoringError(f"{path} must have `objectives`, by name.")
    if strange := sorted(set(given) - {"window", "cost_per_hour", "objectives"}):
        raise MonitoringError(f"{path} may have window, cost_per_hour and objectives; got {strange[0]}.")
    needed = dict.fromkeys(get_args(What), "most") | {"latency": "within", "throughput": "least"}
    needed |= dict.fromkeys(("errors", "refused"), "target")
    made = []
    for name, words in given["objectives"].items():
        where = f"`{name}` of {path}"
        if not isinstance(words, Mapping) or words.get("measure") not in get_args(What):
            raise MonitoringError(f"{where} must have a measure, one of {', '.join(get_args(What))}.")
        allowed = {"measure", "model", "operation", "target", needed[words["measure"]]}
        allowed -= {"target"} if words["measure"] in SPANS else set()
        allowed -= {"model", "operation"} if words["measure"] in {*GAUGES, *COUNTERS} else set()
        if strange := sorted(set(words) - allowed):
            raise MonitoringError(f"{where} may have {', '.join(sorted(allowed))}; got {strange[0]}.")
        if needed[words["measure"]] not in words:
            raise MonitoringError(f"{where} must have {needed[words['measure']]}.")
        for key in ("target", "within", "most", "least"):
            value, end = words.get(key, 0.5), 1 if key == "target" else math.inf
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < end:
                below = " and below 1" if key == "target" else ""
                raise MonitoringError(f"`{key}` of {where} must be a number above 0{below}; got {value}.")
        if words.get("operation", "infer") not in INFERENCES:
            raise MonitoringError(f"`operation` of {where} must be one of {', '.join(INFERENCES)}; got {words['operation']}.")
        made.append(Objective(str(name), **words))
    hourly = given.get("cost_per_hour")
    if hourly is not None and (isinstance(hourly, bool) or not isinstance(hourly, int | float) or hourly < 0):
        raise MonitoringError(f"`cost_per_hour` of {path} must be a number >= 0; got {hourly}.")
    return ServiceLevels(tuple(made), read_window(given.get("window", "30d"), path), hourly)


def read_window(word: Any, path: str | Path) -> float:
    """The seconds of a window of a day or more."""
    text = str(word)
    if not text[:-1].isdigit() or text[-1:] not in UNITS or (seconds := float(text[:-1]) * UNITS[text[-1]]) < 86400:
        raise MonitoringError(f"`window` of {path} must be a length of a day or more, such as 30d; got {word}.")
    return seconds


def is_failure(status: Any) -> bool:
    """Whether an answer is the server's fault."""
    text = str(status)
    return text in FAILED or (len(text) == 3 and text[0] == "5" and text.isdigit())


def counts_of_log(folder: str | Path, now: float | None = None, window: float = 30 * 86400.0) -> Counts:
    """Of a request log: requests whose inputs were read, of its sample. It has no queue, so no saturation."""
    now = time.time() if now is None else now
    when, took, failed, models, named = [], [], [], [], []
    for seconds, line in log_lines(folder, now - window, now + 1):
        when.append(seconds)
        took.append(float(line["seconds"]))
        failed.append(is_failure(line["status"]))
        models.append(line["model"])
        named.append(line.get("operation", ""))
    times, spent, wrong = np.array(when), np.array(took), np.array(failed, bool)
    known, operations = np.array(models, object), np.array(named, object)

    def counts(objective, seconds):
        if objective.measure in {*GAUGES, *COUNTERS, "refused"}:
            raise MonitoringError(f"`{objective.name}`: a request log knows no {objective.measure}; the server's metrics do.")
        own = times >= now - seconds
        if objective.operation:
            own &= operations == objective.operation
        if objective.model:
            own &= np.array([one == objective.model or one.startswith(f"{objective.model}.") for one in known], bool)
        bad = wrong | (spent > objective.within) if objective.measure == "latency" else wrong
        return float((own & bad).sum()), float(own.sum())

    return counts


def read_counters(text: str, objective: Objective) -> tuple[float, float]:
    """Requests that were bad and all there were since the server began, by Prometheus' text.

    Of what is a gauge, whether it is too much at this look, and 1; of another counter 0 and how far it is.
    """
    from prometheus_client.parser import text_string_to_metric_families

    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    if (name := (GAUGES | COUNTERS).get(objective.measure)) is not None:
        values = {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}
        if objective.measure == "compiles" and not values:
            return 0.0, 0.0  # nothing was compiled late
        if not values:
            raise MonitoringError(f"the server has no {name}, which `{objective.name}` is of.")
        if objective.measure in COUNTERS:
            return 0.0, sum(values.values())
        if objective.measure == "device_memory":
            limits = {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == f"{DEVICE}_limit_bytes"}
            values = {place: value / limits[place] for place, value in values.items()}
        return float(max(values.values()) > objective.most), 1.0
    bad = total = good = 0.0
    bounds: set[float] = set()
    for sample in samples:
        labels = sample.labels
        model = labels.get("model", "")
        other = objective.model and model != objective.model and not model.startswith(f"{objective.model}.")
        asked = [objective.operation] if objective.operation else INFERENCES
        if not sample.name.startswith(f"{DURATIONS}_") or labels.get("operation") not in asked or other:
            continue
        if sample.name.endswith("_count"):
            total += sample.value
            code = labels.get("code")
            bad += sample.value * (code in REFUSED if objective.measure == "refused" else is_failure(code))
        elif sample.name.endswith("_bucket") and objective.measure == "latency":
            bound = float(labels["le"])
            bounds.add(bound)
            if bound == objective.within and not is_failure(labels.get("code")):
                good += sample.value
    if objective.measure == "latency" and bounds:
        if objective.within not in bounds:
            allowed = ", ".join(f"{one:g}" for one in sorted(bounds) if math.isfinite(one))
            raise MonitoringError(f"`within` of `{objective.name}` must be one of {allowed}; got {objective.within:g}.")
        bad = total - good
    return bad, total


def fetch_text(url: str) -> str:
    """What an address answers; one line where it is down or slow."""
    if not url.startswith(("http://", "https://")):
        raise MonitoringError(f"`url` must begin with http:// or https://; got {url}.")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MonitoringError(f"{url.partition('/api/')[0]} gives no metrics: {reason}.") from error


def look_at(url: str, folder: str | Path, levels: ServiceLevels, now: float | None = None) -> Counts:
    """Read a server's /metrics, append its counters to `levels.jsonl` of a folder, and count by all looks that lie there.

    A counter that falls began anew with its server. The first look only begins.
    """
    now, path = time.time() if now is None else now, Path(folder) / FILE
    text = fetch_text(url)
    told = {key_of(one): read_counters(text, one) for one in levels.objectives}
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps({"time": now, "url": url, "counts": told}) + "\n")
    looks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
            if found["url"] == url and now - levels.window <= found["time"] <= now:
                looks.append((float(found["time"]), found["counts"]))
        except (ValueError, TypeError, KeyError):
            continue
    return counts_of_looks(sorted(looks, key=lambda one: one[0]), now)


def key_of(objective: Objective) -> str:
    """An objective by what is counted, so that one that was changed has no history."""
    judged = ("name", "target", "least", *(["most"] if objective.measure in COUNTERS else []))
    return json.dumps([value for key, value in objective._asdict().items() if key not in judged])


def counts_of_looks(looks: list[tuple[float, Mapping[str, Any]]], now: float) -> Counts:
    """Of counters that were read at several times, in order."""

    def counts(objective, seconds):
        key = key_of(objective)
        own = [(when, *told[key]) for when, told in looks if key in told]
        times = [one[0] for one in own]
        if objective.measure in GAUGES:
            recent = own[bisect.bisect_left(times, now - seconds) :]
            return float(sum(one[1] for one in recent)), float(len(recent))
        bad = total = 0.0
        # From the last look before the window on, as when a counter grew between two looks nobody knows.
        if objective.measure in SPANS and (len(own) < 2 or times[0] > now - seconds):
            return 0.0, math.nan
        for old, new in pairwise(own[max(bisect.bisect_right(times, now - seconds) - 1, 0) :]):
            fell = new[2] < old[2]
            bad += new[1] if fell else max(new[1] - old[1], 0.0)
            total += new[2] if fell else new[2] - old[2]
        return bad, total

    return counts


def expressions_of(objective: Objective, job: str = "", by: str = "") -> tuple[str, str]:
    """What is bad and what there is in Prometheus' language, with WINDOW for a length of time; of servers of a job, by labels."""
    of, each = f'job=~"{job}"' if job else "", f"sum by ({by}) " if by else "sum"
    if (gauge := GAUGES.get(objective.measure)) is not None:
        value = f"{gauge}{{{of}}}"
        if objective.measure == "device_memory":
            value = f"({value} / {DEVICE}_limit_bytes{{{of}}})"
        over = f"{value} > bool {objective.most:g}"
        return f"{each}(sum_over_time(({over})[WINDOW:1m]))", f"{each}(count_over_time({value}[WINDOW:1m]))"
    if (counter := COUNTERS.get(objective.measure)) is not None:
        return "vector(0)", f"{each}(increase({counter}{{{of}}}[WINDOW]))"
    model = f'model=~"{objective.model}([.].*)?"' if objective.model else ""
    asked = f'operation="{objective.operation}"' if objective.operation else f'operation=~"{"|".join(INFERENCES)}"'
    own = ",".join(filter(None, [of, asked, model]))
    fault = "|".join(REFUSED if objective.measure == "refused" else FAILED)
    total = f"{each}(increase({DURATIONS}_count{{{own}}}[WINDOW]))"
    if objective.measure == "latency":
        bound = f"{objective.within:g}" if objective.within % 1 else f"{objective.within:.1f}"
        good = f'{each}(increase({DURATIONS}_bucket{{{own},le="{bound}",code!~"{fault}"}}[WINDOW]))'
        return f"({total} - ({good} or 0 * {total}))", total
    # No request failed where no series says so: then it is 0, not nothing.
    return f'({each}(increase({DURATIONS}_count{{{own},code=~"{fault}"}}[WINDOW])) or 0 * {total})', total


def counts_of_prometheus(url: str, now: float | None = None) -> Counts:
    """Of a Prometheus server that scrapes the model server, by its API."""
    now = time.time() if now is None else now

    def ask(expression, seconds):
        query = quote(expression.replace("WINDOW", f"{round(seconds)}s"))
        try:
            told = json.loads(fetch_text(f"{url.rstrip('/')}/api/v1/query?query={query}&time={now:.3f}"))
            found = told["data"]["result"]
            return float(found[0]["value"][1]) if found else 0.0
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise MonitoringError(f"{url} does not answer as Prometheus does.") from error

    def counts(objective, seconds):
        bad, total = (ask(one, seconds) for one in expressions_of(objective))
        return max(bad, 0.0), total

    return counts


def span(seconds: float) -> str:
    """A length of time.

    >>> span(300), span(21600), span(259200)
    ('5m', '6h', '3d')
    """
    unit = next(unit for unit in ("d", "h", "m", "s") if not seconds % UNITS[unit])
    return f"{seconds / UNITS[unit]:g}{unit}"


def level_findings(
    levels: ServiceLevels, counts: Counts, model: str = "", version: str = "", at: float | None = None
) -> list[Finding]:
    """A finding of each objective, and of what a thousand requests cost; where nothing came, ok, and it says so."""
    at = time.time() if at is None else at
    found = []
    for one in levels.objectives:
        blank = Finding(at, one.model or model, version, "service_level", one.name, "ok")
        if (seconds := SPANS.get(one.measure)) is not None:
            _, total = counts(one, seconds)
            if math.isnan(total):
                found.append(blank._replace(why=f"not known before it was looked at for {span(seconds)}"))
                continue
            least, unit = one.measure == "throughput", RATES[one.measure]
            rate, bound = total if one.measure == "compiles" else total / seconds, one.least if least else one.most
            state: State = "breach" if (rate < bound if least else rate > bound) else "ok"
            why = f"{rate:.3g} {unit} over {span(seconds)}; must be at {'least' if least else 'most'} {bound:g}"
            size = max(bound - rate if least else rate - bound, 0.0) / bound
            blank = blank._replace(rows=round(total) if least else 0, window=(at - seconds, at))
            found.append(blank._replace(state=state, value=rate, bound=bound, size=size, why=why))
            continue
        bad, total = counts(one, levels.window)
        left = 1 - bad / (total * (1 - one.target)) if total else 1.0
        blank = blank._replace(rows=round(total), window=(at - levels.window, at))
        worst, state, why = 0.0, "ok", ""
        for rule in RULES:
            factor = rule.share * levels.window / rule.long
            burns = [burn_of(one, counts, seconds) for seconds in (rule.long, rule.short)]
            if min(burns) > factor and not why:
                state = rule.state
                over = f"{burns[0]:.3g} times over {span(rule.long)} and {burns[1]:.3g} over {span(rule.short)}"
                why = f"burns its budget {over}, above {factor:.3g}; "
            worst = max(worst, min(burns) / factor)
        share = 1 - bad / total if total else None
        met = "nothing came" if share is None else f"{share:.4%} good of {total:,.0f}, {one.target:.4g} is promised"
        why += f"{met}; {max(left, 0):.0%} of the budget of {span(levels.window)} is left"
        if share is not None and left < 0 and state == "ok":
            state = "warning"
        found.append(blank._replace(state=state, value=share, bound=one.target, size=worst, why=why))
    if levels.hourly is not None and levels.objectives:
        # What was counted for any objective of all models counts all requests.
        whole = next((one for one in levels.objectives if one.measure in COUNTED and not one.model), None)
        total = counts(whole, 3600)[1] if whole else 0.0
        if whole is None:
            raise MonitoringError("`cost_per_hour` needs an objective of errors, latency or throughput of all models.")
        if total > 0:
            price = 1000 * levels.hourly / total
            why = f"{price:.4g} for a thousand requests, of {total:,.0f} in the last hour"
            blank = Finding(at, model, version, "service_level", "cost_per_thousand", "ok", price, why=why)
            found.append(blank._replace(rows=round(total), window=(at - 3600, at)))
    return found


def burn_of(objective: Objective, counts: Counts, seconds: float) -> float:
    """How many times as fast as it lasts a budget is used up; 0 where nothing came."""
    bad, total = counts(objective, seconds)
    return bad / total / (1 - objective.target) if total else 0.0
