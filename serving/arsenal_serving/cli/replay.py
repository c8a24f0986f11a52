"""The verb `replay`: a request log's inferences asked again of another server or artifact, and how its answers differ.

In the order in which they ended, one at a time, as fast as they are answered or at the recorded pace. What was redacted
cannot be asked, what failed then is not asked.
"""

from __future__ import annotations

import argparse
import heapq
import http.client
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson

from arsenal_serving.artifact import golden, versions
from arsenal_serving.deploy.health import trust
from arsenal_serving.model import load
from arsenal_serving.protocols import open_inference
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.telemetry.request_log import NAME

TIMEOUT = 60.0  # seconds for one answer
ANSWERED = (200, "OK")
NEEDED = {"time", "id", "model", "version", "status", "seconds", "inputs", "outputs"}


def requests(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a request log, of all its files, by time; a line that a crash cut short is left out."""
    files = sorted(Path(folder).glob(NAME))
    if not files:
        raise Refused(f"{folder} holds no {NAME}: it is no request log.")
    yield from heapq.merge(*map(_lines, files), key=lambda line: line["time"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size  # a server that is asked may write to the log that is read
        for text in file:
            left -= len(text)
            if left < 0:
                return
            if not text.endswith(b"\n") or not text.strip():
                continue
            try:
                line = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise Refused(f"{path} is no file of a request log: {show(text[:60])}.") from error
            if isinstance(line, dict) and line.get("event") == "erased":
                continue
            if not isinstance(line, dict) or not line.keys() >= NEEDED:
                raise Refused(f"{path} is no file of a request log: {show(text[:60])}.")
            yield line


Ask = Callable[[dict[str, Any]], tuple[int, bytes, float]]
"""A line -> the status, body and seconds of its answer."""


def of_artifact(folder: str) -> Ask:
    """Ask an artifact, in this process; raises `Refused`."""
    model = load(versions.locate(folder))
    model.warm()

    def ask(line: dict[str, Any]) -> tuple[int, bytes, float]:
        if line["model"] not in (model.name, f"{model.name}.{line['method']}"):
            return 404, orjson.dumps({"error": f"here is {model.name!r}, not {show(line['model'])}."}), 0.0
        try:
            method = model.methods.get(line["method"])
            if method is None:
                raise unknown_name("method", line["method"], model.methods)
            request = open_inference.parse(method, orjson.dumps({"inputs": line["inputs"]}))
            start = time.perf_counter()
            answers = model.infer(method.name, request.inputs)
            took = time.perf_counter() - start
        except Refused as error:
            return 400, orjson.dumps({"error": str(error)}), 0.0
        return 200, open_inference.write(model, method, line["model"], request, answers)[0], took

    return ask


@contextmanager
def of_server(
    url: str, version: str | None = None, headers: dict[str, str] | None = None, ca: str = ""
) -> Iterator[Ask]:
    """Ask the server at a URL; raises `Refused` for no address, and when asked `OSError` where nothing answers.

    version: of the model, by number or alias; else what the server chooses. headers: further ones, as a key's. ca: a
    file of certificates of the only authorities to trust.
    """
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise Refused(f"--to must be a URL, http://HOST:PORT or https://HOST:PORT; got {show(url)}.")
    context = trust(url, ca)
    connection = (
        http.client.HTTPSConnection(where.hostname, where.port, timeout=TIMEOUT, context=context)
        if where.scheme == "https"
        else http.client.HTTPConnection(where.hostname, where.port, timeout=TIMEOUT)
    )

    def ask(line: dict[str, Any]) -> tuple[int, bytes, float]:
        path = f"{where.path.rstrip('/')}/v2/models/{quote(line['model'], safe='')}"
        path += f"/versions/{quote(version, safe='')}/infer" if version else "/infer"
        given = {"content-type": "application/json", "x-request-id": line["id"], **(headers or {})}
        start = time.perf_counter()
        connection.request("POST", path, orjson.dumps({"inputs": line["inputs"]}), given)
        response = connection.getresponse()
        text = response.read()
        return response.status, text, time.perf_counter() - start

    try:
        yield ask
    finally:
        connection.close()


def replay(lines: Iterable[dict[str, Any]], ask: Ask, recorded: bool = False) -> dict[str, Any]:
    """Ask a log's lines, and compare; see `tell` for what comes of it. recorded: not before their time then."""
    skipped, refused, seen = Counter[str](), Counter[str](), Counter[str]()
    first, began, late = None, time.perf_counter(), 0.0
    outputs: dict[str, dict[str, Any]] = {}
    then, now, same = list[float](), list[float](), 0
    for line in lines:
        if line["status"] not in ANSWERED:
            skipped["failed then"] += 1
            continue
        if any("redacted" in tensor.get("parameters", ()) for tensor in line["inputs"]):
            skipped["redacted"] += 1
            continue
        if recorded:
            came = datetime.fromisoformat(line["time"]).timestamp() - line["seconds"]
            first = came if first is None else first
            wait = came - first - (time.perf_counter() - began)
            late = max(late, -wait)
            time.sleep(max(0.0, wait))
        status, text, took = ask(line)
        if status != 200:
            refused[f"{status}: {_why(text)}"] += 1
            continue
        answer = orjson.loads(text)
        now.append(took)
        then.append(line["seconds"])
        seen[f"{line['version']} then, {answer.get('model_version')} now"] += 1
        same += _compare(line["model"], line["outputs"], answer["outputs"], outputs)
    for cell in outputs.values():
        if cell["largest"] == float("inf"):
            cell["largest"] = "infinite"  # JSON has no number for it
    return {
        "asked": len(now) + sum(refused.values()),
        "answered": len(now),
        "same": same,
        "versions": dict(seen),
        "skipped": dict(skipped),
        "refused": dict(refused.most_common(10)),
        "late": round(late, 3),
        "outputs": outputs,
        "seconds": {"then": _quantiles(then), "now": _quantiles(now)},
    }


def _compare(model: str, then: list[dict], now: list[dict], outputs: dict[str, dict[str, Any]]) -> bool:
    """Note how the outputs of one answer differ; whether they do not."""
    got, same = {tensor["name"]: tensor for tensor in now}, True
    for wanted in then:
        if "data" not in wanted:
            continue  # redacted
        key = f"{model}/{wanted['name']}"
        zero = {"answers": 0, "differ": 0, "elements": 0, "elements_that_differ": 0, "largest": 0.0, "by": {}}
        cell = outputs.setdefault(key, zero)
        cell["answers"] += 1
        cell["elements"] += sum(value is not None for value in wanted["data"])
        differ, largest = _difference(wanted, got.get(wanted["name"]))
        decade = _decade(largest) if differ else "0"
        cell["by"][decade] = cell["by"].get(decade, 0) + 1
        if differ:
            same = False
            cell["differ"] += 1
            cell["elements_that_differ"] += differ
            cell["largest"] = max(cell["largest"], largest)
    return same


def _difference(wanted: dict[str, Any], got: dict[str, Any] | None) -> tuple[int, float]:
    """How many elements differ, and by how much at most: infinite for strings, and for another shape or type."""
    if got is None or any(got[key] != wanted[key] for key in ("shape", "datatype")):
        return len(wanted["data"]), float("inf")
    kept = [at for at, value in enumerate(wanted["data"]) if value is not None]  # a redacted column is null
    one, other = ([tensor["data"][at] for at in kept] for tensor in (wanted, got))
    if wanted["datatype"] == "BYTES":
        differ = sum(a != b for a, b in zip(one, other, strict=True))
        return differ, float("inf") if differ else 0.0
    dtype = open_inference.DTYPES[wanted["datatype"]]
    arrays = [np.array([float(v) if type(v) is str else v for v in values], dtype) for values in (one, other)]
    return golden.count_differing(*arrays), golden.difference(*arrays)


def _decade(difference: float) -> str:
    """The power of ten that a difference is at most, in words.

    >>> _decade(0.02), _decade(5.0)
    ('1e-1', '1e+1')
    """
    return f"1e{math.ceil(math.log10(difference)):+d}" if math.isfinite(difference) else "infinite"


def _spread(by: dict[str, int]) -> str:
    ranked = sorted(by.items(), key=lambda one: math.inf if one[0] == "infinite" else float(one[0]))
    return ", ".join(f"{count} {'infinite' if edge == 'infinite' else f'<= {edge}'}" for edge, count in ranked)


def _why(text: bytes) -> str:
    try:
        return str(orjson.loads(text)["error"])[:200]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return show(text)


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.quantile(seconds, q / 100)) for q in (50, 99)} if seconds else {}


def tell(facts: dict[str, Any]) -> Iterator[str]:
    """What came of it, in lines."""
    yield f"{facts['asked']} asked, {facts['answered']} answered, {facts['same']} the same"
    for pair, count in facts["versions"].items():
        yield f"  version {pair}: {count}"
    for why, count in facts["skipped"].items():
        yield f"  not asked, {why}: {count}"
    for why, count in facts["refused"].items():
        yield f"  refused, {why}: {count}"
    for name, cell in facts["outputs"].items():
        by = "" if not cell["differ"] else f", by up to {cell['largest']}"
        elements = f"{cell['elements_that_differ']} of {cell['elements']} elements"
        yield f"  output {name}: {cell['differ']} of {cell['answers']} answers differ, {elements}{by}"
        if cell["differ"]:
            yield f"    largest difference of an answer: {_spread(cell['by'])}"
    if facts["late"] > 0.1:
        yield f"  it fell {facts['late']:.3g} s behind the recorded pace"
    for which, about in (("then", "in the server"), ("now", "from here")):
        if found := facts["seconds"][which]:
            yield f"  {which}, {about}: p50 {found['p50'] * 1e3:.3g} ms, p99 {found['p99'] * 1e3:.3g} ms"


def main(words: Sequence[str], about: str) -> int:
    """The verb: 0 where all was answered, 1 where something was refused or cannot be had."""
    parser = argparse.ArgumentParser(prog="arsenal-serve replay", description=about)
    parser.add_argument("folder", metavar="FOLDER", help="what --request-log wrote")
    parser.add_argument("--to", required=True, metavar="URL|ARTIFACT", help="http://HOST:PORT, or a folder")
    says = "as fast as they are answered, or not before their time then (default: %(default)s)"
    parser.add_argument("--pace", choices=("fast", "recorded"), default="fast", help=says)
    parser.add_argument("--version", help="of the model; else what the server chooses")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="to send; repeatable")
    parser.add_argument("--json", action="store_true", help="say it in JSON")
    given = parser.parse_args(words)
    headers = {}
    for header in given.header:
        name, colon, value = header.partition(":")
        if not colon or not name:
            parser.error(f"--header must be 'NAME: VALUE'; got {header!r}")
        headers[name.strip().lower()] = value.strip()
    try:
        if "://" not in given.to and (given.version or headers):
            raise Refused(
                "--version and --header are for a server; an artifact is asked here: name the version's folder."
            )
        lines = requests(given.folder)
        remote = "://" in given.to
        with of_server(given.to, given.version, headers) if remote else nullcontext(of_artifact(given.to)) as ask:
            facts = replay(lines, ask, given.pace == "recorded")
    except (Refused, OSError, http.client.HTTPException) as error:
        why = f"{given.to} does not answer: {error}." if not isinstance(error, Refused) else error
        sys.stderr.write(f"arsenal-serve: {why}\n")
        return 1
    sys.stdout.write(f"{json.dumps(facts, indent=1)}\n" if given.json else "".join(f"{line}\n" for line in tell(facts)))
    return 1 if facts["refused"] else 0
