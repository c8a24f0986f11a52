"""Measure the model server: `python scripts/bench_serving.py [NAME ...]`, without names all of it.

One core serves, another asks; a network of 32 features, one row, JSON, unless said otherwise. The sides take turns, each
warmed up, and a ratio is that of medians. Each peer has an environment of its own and runs in the fastest of the settings
that its documentation offers. Ours runs with authentication, a log line for each request and metrics. Nothing else should
run meanwhile.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from arsenal_serving.export import export
from arsenal_serving.model import load
from bench import HERE, environment

from arsenal import fit, road

INFER = "/v2/models/bench/infer"
CORES = sorted(os.sched_getaffinity(0))


def network(params, x):
    """Two layers, softmax of ten."""
    return jax.nn.softmax(jax.numpy.tanh(x @ params["first"]) @ params["last"])


def reduced(params, x):
    """A sum for each channel of an image: nearly all of the work is in its transport."""
    return x.sum((1, 2)) * params


class Side(NamedTuple):
    """A server: the Python that runs it, the words for a port, where it answers, its settings; whose key it wants."""

    name: str
    python: str
    words: tuple[str, ...]
    path: str = INFER
    settings: tuple[str, ...] = ("",)
    token: str = ""


def parameters() -> dict[str, np.ndarray]:
    """Those of the network."""
    random = np.random.default_rng(0)
    return {"first": random.normal(size=(32, 64)), "last": random.normal(size=(64, 10))}


def row() -> np.ndarray:
    """One row. [1, 32]"""
    return np.random.default_rng(1).normal(size=(1, 32)).astype(np.float32)


def tensors(x: np.ndarray) -> bytes:
    """A request of the Open Inference Protocol."""
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def request(side: Side, body: bytes, *more: str) -> bytes:
    """The bytes of a request."""
    lines = [f"POST {side.path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *more]
    if not any(line.startswith("Content-Type") for line in more):
        lines.append("Content-Type: application/json")
    if side.token:
        lines.append(f"Authorization: Bearer {side.token}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def on_core(core: int, *command: str, **more) -> subprocess.Popen:
    """A process that may use one core."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    env |= one | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(["taskset", "-c", str(core), *command], env=env, start_new_session=True, **more)


@contextmanager
def serving(side: Side, port: int, setting: str = "", body: bytes = b"", log=subprocess.DEVNULL) -> Iterator[subprocess.Popen]:
    """A side that runs and answers, on the first core."""
    words = [word.format(port=port, setting=setting) for word in side.words]
    process = on_core(CORES[0], side.python, *words, stdout=log, stderr=log, cwd=HERE)
    try:
        until = time.monotonic() + 90
        while True:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {side.token}"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}{side.path}", body or tensors(row()), headers)
            try:
                with urllib.request.urlopen(asked, timeout=5) as reply:
                    reply.read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{side.name} {setting} does not answer on port {port}") from None
                time.sleep(0.05)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def asked(port: int, raw: bytes, connections: int, seconds: float, count: int | None = None) -> dict:
    """What the load generator saw, on the last core."""
    words = [str(HERE / "serve_load.py"), str(port), str(connections), str(seconds), *([] if count is None else [str(count)])]
    one = on_core(CORES[-1], sys.executable, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = one.communicate(raw, timeout=seconds + 60)
    return json.loads(out)


def checked(found: dict, side: Side) -> dict:
    """The same, if every answer was right."""
    if found["wrong"]:
        raise SystemExit(f"{side.name} did not answer all: {found['wrong']}")
    return found


def ours(version: Path, folder: Path) -> Side:
    """Our server with all that a production server has on."""
    keys = folder / "keys.json"
    made = subprocess.run(
        [sys.executable, "-m", "arsenal_serving", "key", "--keys", str(keys), "--id", "bench", "--scope", "infer:*"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = made.stdout.split()[-1]
    words = ("-m", "arsenal_serving", str(version), "--port", "{port}", "--keys", str(keys), "--log", "requests")
    return Side("arsenal-serve, all on", sys.executable, words, token=token)


def plain(version: Path) -> Side:
    """Our server as it comes."""
    return Side("arsenal-serve", sys.executable, ("-m", "arsenal_serving", str(version), "--port", "{port}"))


def peers(network_file: Path) -> list[Side]:
    """The others, each with its settings."""
    named = {"mlserver": ("MLServer", INFER, ("inline", "process", "batched"))}
    named |= {"litserve": ("LitServe", "/predict", ("plain", "batched"))}
    named |= {"bentoml": ("BentoML", "/infer", ("plain", "batched")), "rayserve": ("Ray Serve", "/infer", ("plain", "batched"))}
    return [
        Side(title, str(environment(name)), (f"serve_{name}.py", "{port}", str(network_file), "{setting}"), path, settings)
        for name, (title, path, settings) in named.items()
    ]


def called(folder: Path, x: np.ndarray) -> float:
    """The median milliseconds of calling the engine in this process, on numpy arrays."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    model, took = load(folder), []
    model.warm()
    loaded, arrays = model.check("predict", {"x": x})
    for _ in range(2000):
        start = time.perf_counter()
        model.run(loaded, arrays)
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e3


def rounds(sides: list[tuple[Side, str]], given: argparse.Namespace) -> dict[str, dict[int, list[dict]]]:
    """What was seen of each side at 1 and at 32 connections; those that run are running all the while, and idle."""
    found: dict[str, dict[int, list[dict]]] = {side.name: {1: [], 32: []} for side, _ in sides}
    body = tensors(row())
    for at in range(given.rounds):
        for k, (side, setting) in enumerate(sides):
            with serving(side, 8900 + 10 * k + at, setting):
                for connections in (1, 32):
                    raw = request(side, body)
                    asked(8900 + 10 * k + at, raw, connections, 1.0)
                    found[side.name][connections].append(
                        checked(asked(8900 + 10 * k + at, raw, connections, given.seconds), side)
                    )
    return found


def middle(found: dict, name: str, connections: int, what: str) -> float:
    """The median over the rounds."""
    return statistics.median(one[what] for one in found[name][connections])


def table(found: dict) -> None:
    """Print a row for each side."""
    print("| | requests/s at 32 connections | p99 at 32 | median at 1 | requests/s at 1 |\n|---|---|---|---|---|")
    for name in found:
        cells = [middle(found, name, 32, "rate"), middle(found, name, 32, "p99_ms")]
        cells += [middle(found, name, 1, "median_ms"), middle(found, name, 1, "rate")]
        print(f"| {name} | {cells[0]:,.0f} | {cells[1]:.2f} ms | {cells[2]:.3f} ms | {cells[3]:,.0f} |")


def bare(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """Against an ASGI app with the same JSON work and no model, and against the compiled function."""
    app = Side("bare ASGI app", str(environment("bare")), ("serve_bare.py", "{port}"))
    found = rounds([(plain(version), ""), (ours(version, folder), ""), (app, "")], given)
    table(found)
    for name in ("arsenal-serve", "arsenal-serve, all on"):
        rate = middle(found, name, 32, "rate") / middle(found, "bare ASGI app", 32, "rate")
        print(f"{name}: {rate:.0%} of the bare app's rate at 32 connections (to reach: 60 %)")
    direct = called(version, row())
    added = middle(found, "arsenal-serve", 1, "median_ms") - direct
    print(f"the compiled function, called: {direct:.3f} ms; added at one connection: {added:.3f} ms (to reach: 0.4 ms)")


def against(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """Against the peers, each in its fastest setting."""
    np.savez(folder / "network.npz", **parameters())
    chosen = []
    for side in peers(folder / "network.npz"):
        tried = {}
        for k, setting in enumerate(side.settings):
            with serving(side, 8800 + k, setting):
                asked(8800 + k, request(side, tensors(row())), 32, 1.0)
                tried[setting] = checked(asked(8800 + k, request(side, tensors(row())), 32, 2.0), side)["rate"]
        chosen.append((side, max(tried, key=tried.__getitem__)))
        print(f"{side.name}: {', '.join(f'{setting} {rate:,.0f}/s' for setting, rate in tried.items())}", flush=True)
    mine = ours(version, folder)
    found = rounds([(mine, ""), *chosen], given)
    table(found)
    for (side, _), least in zip(chosen, (5, 8, 8, 8), strict=True):
        ratio = middle(found, mine.name, 32, "rate") / middle(found, side.name, 32, "rate")
        print(f"requests/s at 32 connections against {side.name}: {ratio:.1f} (to reach: {least})")
    best = min(middle(found, side.name, 32, "p99_ms") for side, _ in chosen)
    print(f"p99 at 32 connections of the best of them: {middle(found, mine.name, 32, 'p99_ms') / best:.2f} (to reach: 0.33)")


def image(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """A tensor of the size of a picture, as bytes and as JSON."""
    x = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    made = export(folder / "picture", reduced, np.float32(1), np.zeros((2, 224, 224, 3), np.float32), name="bench")
    side = plain(made)
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    more = (f"Inference-Header-Content-Length: {len(head)}", "Content-Type: application/octet-stream")
    with serving(side, 8851, body=tensors(x)):
        both: dict[str, list[float]] = {"JSON": [], "binary": []}
        for _ in range(given.rounds):
            for name, raw in (("JSON", request(side, tensors(x))), ("binary", request(side, head + x.tobytes(), *more))):
                both[name].append(checked(asked(8851, raw, 1, given.seconds), side)["median_ms"])
    json_ms, bytes_ms = (statistics.median(both[name]) for name in ("JSON", "binary"))
    print(f"224x224x3: JSON {json_ms:.2f} ms, binary {bytes_ms:.3f} ms: {json_ms / bytes_ms:.0f} times (to reach: 20)")


def start(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """From the start of the process to its line `ready`, compile cache warm."""
    took = []
    for at in range(1 + given.rounds):
        began = time.perf_counter()
        words = ["-m", "arsenal_serving", str(version), "--port", str(8860 + at)]
        process = on_core(CORES[0], sys.executable, *words, stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline().startswith("ready: ")
        took.append(time.perf_counter() - began)
        process.terminate()
        process.wait()
    print(f"start to ready: {statistics.median(took[1:]):.2f} s, the first {took[0]:.2f} s (to reach: 3 s)")


def swap(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """Versions of one signature, rolled forward and back under load at 32 connections."""
    models = folder / "models"
    for scale in (1.0, 1.1):
        scaled = {key: value * scale for key, value in parameters().items()}
        export(models / "bench", network, scaled, np.zeros((3, 32), np.float32), name="bench")
    side = plain(models)
    side = side._replace(words=(*side.words, "--control", "--max-batch", "64"))

    def loads(which: list[int]) -> float:
        config = json.dumps({"version_policy": {"specific": {"versions": which}}})
        body = json.dumps({"parameters": {"config": config}}).encode()
        url = "http://127.0.0.1:8871/v2/repository/models/bench/load"
        began = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as reply:
            assert reply.status == 200
        return time.perf_counter() - began

    quiet = []
    with serving(side, 8871) as process:
        for _ in range(5):
            quiet += [loads([1]), loads([2])]
        seen: dict = {}
        thread = threading.Thread(
            target=lambda: seen.update(asked(8871, request(side, tensors(row())), 32, 12.0)), daemon=True
        )
        thread.start()
        time.sleep(1.0)
        busy = []
        for _ in range(5):
            busy += [loads([1]), loads([2])]
            time.sleep(0.5)
        thread.join()
        print(f"ten swaps under load at 32 connections: {seen['count']:,} answers, not answered: {seen['wrong'] or 0} (asked: 0)")
        print(f"p99 meanwhile {seen['p99_ms']:.2f} ms; a swap took {statistics.median(busy) * 1e3:.0f} ms")
        thread = threading.Thread(target=lambda: seen.update(asked(8871, request(side, tensors(row())), 32, 3.0)), daemon=True)
        thread.start()
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGTERM)
        thread.join()
        lost = {what: count for what, count in seen["wrong"].items() if what != "refused"}
        print(f"drain at 32 connections: accepted and not answered: {lost or 0} (to reach: 0)")
    first = []
    for at in range(3):
        fresh = folder / f"fresh{at}"
        export(fresh / "bench", network, parameters(), np.zeros((3, 32), np.float32), name="bench")
        (fresh / "other").mkdir()
        wide = {"first": np.zeros((32, 65 + at)), "last": np.zeros((65 + at, 10))}
        with serving(side._replace(words=tuple(w.replace(str(models), str(fresh)) for w in side.words)), 8872 + at):
            export(fresh / "bench", network, wide, np.zeros((3, 32), np.float32), name="bench")
            url = f"http://127.0.0.1:{8872 + at}/v2/repository/models/bench/load"
            began = time.perf_counter()
            with urllib.request.urlopen(urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})) as reply:
                assert reply.status == 200
            first.append(time.perf_counter() - began)
    anew, same = statistics.median(first), statistics.median(quiet)
    print(f"first load of another program {anew:.2f} s, a swap of the same {same * 1e3:.0f} ms: {anew / same:.0f} (to reach: 10)")


def soak(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """Many requests at 32 connections, and how the memory grows once it is warm."""
    side = ours(version, folder)

    def resident(process: subprocess.Popen) -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0])

    with serving(side, 8881) as process:
        raw, sizes = request(side, tensors(row())), []
        for _ in range(11):
            checked(asked(8881, raw, 32, 300.0, given.requests // 10), side)
            sizes.append(resident(process))
    grown = sizes[-1] / sizes[0] - 1
    print(f"{given.requests:,} requests: {sizes[0] / 1024:.1f} MB became {sizes[-1] / 1024:.1f} MB, {grown:+.2%} (to reach: 2 %)")


PASSENGER = {
    "pclass": 3, "name": "Braund, Mr. Owen Harris", "sex": "male", "age": 22, "sibsp": 1, "parch": 0, "ticket": "A/5 21171",
    "fare": 7.25, "cabin": None, "embarked": "S",
}  # fmt: skip


def monitor(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """Counting what is asked, 32 columns and ten scores, against not counting; on the same server otherwise."""
    rows = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)
    watched = export(folder / "watched" / "bench", network, parameters(), rows[:3], name="bench", reference=rows)
    off = plain(watched)
    on = off._replace(name="arsenal-serve, --monitor", words=(*off.words, "--monitor", str(folder / "seen")))
    found = rounds([(off, ""), (on, "")], given)
    table(found)
    ratio = middle(found, on.name, 32, "rate") / middle(found, off.name, 32, "rate")
    print(f"requests/s at 32 connections with --monitor against without: {ratio:.3f} (to reach: 0.95)")


def passengers(version: Path, folder: Path, given: argparse.Namespace) -> None:
    """A flat record of the passenger list, against a pipeline of scikit-learn's behind FastAPI."""
    if not (data := os.environ.get("ARSENAL_TEST_DATA")):
        print("table: needs titanic.csv in the folder ARSENAL_TEST_DATA; not measured")
        return
    file = str(Path(data) / "titanic.csv")
    run = fit("titanic", [f"data.path={file}", f"run.root={folder / 'runs'}"])
    mine = plain(road.export(run, folder / "titanic"))._replace(path="/predict")
    peer = Side("FastAPI", str(environment("fastapi")), ("serve_fastapi.py", "{port}", file), "/predict")
    found: dict[str, list[float]] = {mine.name: [], peer.name: []}
    bodies = {mine.name: json.dumps({"records": [PASSENGER]}).encode(), peer.name: json.dumps(PASSENGER).encode()}
    for at in range(given.rounds):
        for k, side in enumerate((mine, peer)):
            port, body = 8820 + 10 * k + at, bodies[side.name]
            with serving(side, port, body=body):
                asked(port, request(side, body), 1, 1.0)
                found[side.name].append(checked(asked(port, request(side, body), 1, given.seconds), side)["median_ms"])
    ours_ms, theirs_ms = (statistics.median(one) for one in found.values())
    print(f"a row of the passenger list at one connection: {ours_ms:.3f} ms, FastAPI {theirs_ms:.2f} ms: "
          f"{theirs_ms / ours_ms:.1f} times (to reach: 5)")  # fmt: skip


FIGURES = {
    "bare": bare, "table": passengers, "peers": against, "image": image, "start": start, "swap": swap, "soak": soak,
    "monitor": monitor,
}  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=500_000, help="of the soak")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        version = export(Path(folder) / "bench", network, parameters(), np.zeros((3, 32), np.float32), name="bench")
        for name in given.names or FIGURES:
            FIGURES[name](version, Path(folder), given)
            print(flush=True)


if __name__ == "__main__":
    main()
