"""The verb `bench`: how fast a model answers, in this process and through a server, as JSON and as binary tensors.

It is asked the golden inputs of its artifact again and again. Rates are of closed loops: each connection asks again as
soon as it was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson

from arsenal_serving.artifact import codecs, versions
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.cli.load_client import Asking, Place, Question, ask, latencies, place
from arsenal_serving.model import ServedModel, make
from arsenal_serving.protocols.open_inference import DTYPES, WORDS, to_bytes, to_json
from arsenal_serving.refused import Refused, show

Named = dict[str, np.ndarray]


def main(words: Sequence[str], about: str) -> int:
    """The verb: 0 when it measured, 1 where something is refused."""
    parser = argparse.ArgumentParser(prog="arsenal-serve bench", description=about)
    parser.add_argument("what", metavar="ARTIFACT|URL", help="an artifact's folder, or http://HOST:PORT/v2/models/NAME")
    parser.add_argument("--to", metavar="URL", help="ask this server, not one that is started here")
    parser.add_argument("--method", default="", help="of the model (default: its default)")
    parser.add_argument("--rows", type=int, default=1, help="of each request (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure (default: %(default)s)")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="sent too; repeatable")
    parser.add_argument("--json", action="store_true", help="say it in JSON")
    given = parser.parse_args(words)
    try:
        facts = run(given)
    except (Refused, OSError) as error:
        sys.stderr.write(f"arsenal-serve: {error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(facts, indent=1)}\n" if given.json else tell(facts))
    return 0


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The figures, as JSON can hold them; raises `Refused`."""
    if given.rows < 1 or given.connections < 1 or given.seconds <= 0:
        said = f"{given.rows}, {given.connections} and {given.seconds}"
        raise Refused(f"--rows, --connections and --seconds must be more than 0; got {said}.")
    if "://" in given.what:
        where = place(given.to or given.what, given.header)
        where = where._replace(path=_model_path(where, given.method))
        return {"of": given.what, "rows": given.rows, "figures": _through(where, _zeros(where, given.rows), given)}
    folder = versions.locate(given.what)
    files = artifact.open_version(folder).files
    model = make(folder, files)
    model.warm()
    method = given.method or model.default
    inputs = golden_inputs(model, artifact.read_arrays(files[artifact.GOLDEN], artifact.GOLDEN), method, given.rows)
    figures = [
        {"how": "in this process", "connections": None, **_time_calls(model, method, inputs, min(1.0, given.seconds))}
    ]
    if given.to:
        where = place(given.to, given.header)
        figures += _through(where._replace(path=_model_path(where, given.method)), inputs, given)
    else:
        with _serve(str(folder)) as url:
            where = place(url, given.header)
            figures += _through(where._replace(path=f"/v2/models/{model.name}.{method}"), inputs, given)
    return {"of": str(folder), "rows": given.rows, "figures": figures}


def tell(facts: dict[str, Any]) -> str:
    """The figures as a table for a person."""
    lines = [f"{'':<18}{'connections':>12}{'requests/s':>12}{'median':>12}{'p99':>12}"]
    for row in facts["figures"]:
        cells = f"{row['connections'] or '':>12}{row['rate']:>12,.0f}"
        lines.append(f"{row['how']:<18}{cells}{row['median_ms']:>9.3f} ms{row['p99_ms']:>9.3f} ms")
    rows = "row" if facts["rows"] == 1 else "rows"
    return f"{facts['of']}, {facts['rows']} {rows} a request\n" + "\n".join(lines) + "\n"


def golden_inputs(model: ServedModel, kept: dict[str, np.ndarray], method: str, rows: int) -> Named:
    """A method's golden inputs as a client sends them, repeated to so many rows; raises `Refused`."""
    loaded = model.methods.get(method)
    if loaded is None:
        raise Refused(f"{model.name!r} has no method {show(method)}; there is: {', '.join(model.methods)}.")
    found: Named = {}
    for port, described in zip(loaded.inputs, model.manifest["methods"][method]["inputs"], strict=True):
        array = kept[f"{method}/input/{port.name}"]
        if loaded.rows != SINGLE:
            array = array[np.arange(rows) % len(array)]
        if port.cell:
            array = _write_texts(array)
        elif isinstance(described["codec"], str):
            array = codecs.find_codecs([described["codec"]], model.manifest["codecs"])[0].decode(array)
        elif described["codec"]:
            each = codecs.find_codecs(described["codec"], model.manifest["codecs"])
            array = np.stack([one.decode(array[..., at]) for at, one in enumerate(each)], axis=-1)
        found[port.name] = array
    return found


def _write_texts(codes: np.ndarray) -> np.ndarray:
    """Texts [...] for codes [..., length], which cannot be read back: a word of as many letters as there are codes."""
    return np.array(["x" * max(1, count) for count in (codes >= 0).sum(-1).ravel()], object).reshape(codes.shape[:-1])


def _zeros(where: Place, rows: int) -> Named:
    """Zeros of the types that a server's metadata tells; raises `Refused` where an input takes strings."""
    found: Named = {}
    for port in where.fetched(where.path)["inputs"]:
        if port["datatype"] == "BYTES":
            raise Refused(f"input {show(port['name'])} takes strings: name the artifact, bench ARTIFACT --to URL.")
        shape = [(1 if at else rows) if size < 0 else size for at, size in enumerate(port["shape"])]
        found[port["name"]] = np.zeros(shape, DTYPES[port["datatype"]])
    return found


def _model_path(where: Place, method: str) -> str:
    """The path of a model at a server: the URL's, or that of the only model; with a method, the method's."""
    path = where.path
    if not path:
        names = sorted({row["name"] for row in where.fetched("/v2/repository/index", b'{"ready": true}')})
        if len(names) != 1:
            raise Refused(f"the URL must name one of its models, /v2/models/NAME; there is: {', '.join(names)}.")
        path = f"/v2/models/{names[0]}"
    if not re.fullmatch(r"/v2/models/[^/]+(/versions/[0-9]+)?", path):
        raise Refused(f"the URL must end in /v2/models/NAME; got {show(path)}.")
    parts = path.split("/")
    parts[3] += f".{method}" if method else ""
    return "/".join(parts)


def _time_calls(model: ServedModel, method: str, inputs: Named, seconds: float) -> dict[str, Any]:
    took, until = list[float](), time.perf_counter() + seconds
    model.infer(method, inputs)
    while not took or time.perf_counter() < until:
        start = time.perf_counter()
        model.infer(method, inputs)
        took.append(time.perf_counter() - start)
    return {"rate": len(took) / sum(took), **latencies(took)}


def _through(where: Place, inputs: Named, given: argparse.Namespace) -> list[dict[str, Any]]:
    described = [
        {"name": name, "shape": list(array.shape), "datatype": _datatype(array), "data": to_json(array.reshape(-1))}
        for name, array in inputs.items()
    ]
    json_body = orjson.dumps({"inputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    contents = [to_bytes(array) for array in inputs.values()]
    for one, content in zip(described, contents, strict=True):
        del one["data"]
        one["parameters"] = {"binary_data_size": len(content)}
    head = orjson.dumps({"inputs": described, "parameters": {"binary_data_output": True}})
    length = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    path = f"{where.path}/infer"
    ways = {"JSON": where.request(path, json_body), "binary": where.request(path, head + b"".join(contents), **length)}
    return [
        {"how": f"HTTP, {how}", "connections": connections, **_load(where, content, connections, given.seconds)}
        for how, content in ways.items()
        for connections in sorted({1, given.connections})
    ]


def _datatype(array: np.ndarray) -> str:
    return "BYTES" if array.dtype.kind in "OU" else WORDS[array.dtype]


def _load(where: Place, content: bytes, connections: int, seconds: float) -> dict[str, Any]:
    first = list[bytes]()
    until = time.perf_counter() + seconds

    def next_question() -> Question | None:
        return Question(None, content) if time.perf_counter() < until else None

    def note_answer(_which: Any, status: int, body: bytes, _took: float) -> None:
        if status != 200 and not first:
            first.append(body)

    asking, began = Asking(next_question, note_answer, patience=seconds), time.perf_counter()
    asyncio.run(ask(asking, where, connections))
    lasted = time.perf_counter() - began
    if asking.wrong:
        told = ", ".join(f"{count} of {status}" for status, count in asking.wrong.items())
        why = f"; the first: {show(first[0].decode(errors='replace'), 300)}" if first else ""
        raise Refused(f"not all requests were answered: {told}{why}.")
    return {"rate": len(asking.took) / lasted, **latencies(asking.took)}


@contextmanager
def _serve(folder: str) -> Iterator[str]:
    """The URL of a server of an artifact, in a process of its own."""
    command = [sys.executable, "-m", "arsenal_serving", folder, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+?(?=/v2/)", line)
            if not found:
                said = process.stderr.read() if process.stderr else ""
                raise Refused(f"a server of {folder} did not start: {said.strip()}")
            yield found[0]
        finally:
            process.terminate()
            process.communicate()
