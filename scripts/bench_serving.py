"""Measure the model server against a bare ASGI app with the same JSON work: `python scripts/bench_serving.py`.

One core serves, another asks. A small network of 32 features; the sides take turns, each with a warm-up that is not
counted, and a ratio is that of medians. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import jax
import numpy as np
from arsenal_serving.export import export
from arsenal_serving.model import load

HERE = Path(__file__).resolve().parent / "bench"
PATH = "/v2/models/bench/infer"


def network(params, x):
    """Two layers, softmax of ten."""
    return jax.nn.softmax(jax.numpy.tanh(x @ params["first"]) @ params["last"])


def on_core(core: int, *command: str, **more) -> subprocess.Popen:
    """A process that may use one core."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = os.environ | one | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    return subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, text=True, env=env, **more)


def asked(port: int, body: bytes, connections: int, seconds: float) -> dict:
    """What the load generator saw, on the last core."""
    last = sorted(os.sched_getaffinity(0))[-1]
    command = [sys.executable, str(HERE / "serve_load.py"), str(port), PATH, str(connections), str(seconds)]
    one = on_core(last, *command, stdin=subprocess.PIPE)
    out, _ = one.communicate(body.decode())
    return json.loads(out)


def ready(port: int, body: bytes) -> None:
    """Wait until it answers."""
    for _ in range(300):
        try:
            headers = {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{PATH}", body, headers), timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def called(folder: Path, x: np.ndarray) -> float:
    """The median milliseconds of calling the engine in this process, on numpy arrays."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    model, took = load(folder), []
    model.warm()
    loaded, arrays = model.checked("predict", {"x": x})
    for _ in range(2000):
        start = time.perf_counter()
        model.run(loaded, arrays)
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    params = {"first": random.normal(size=(32, 64)), "last": random.normal(size=(64, 10))}
    x = random.normal(size=(1, 32)).astype(np.float32)
    tensor = {"name": "x", "shape": [1, 32], "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    first = str(sorted(os.sched_getaffinity(0))[0])
    with tempfile.TemporaryDirectory() as folder:
        version = export(Path(folder) / "bench", network, params, np.zeros((3, 32), np.float32), name="bench")
        direct = called(version, x)
        sides = {
            "arsenal-serve": (8901, ["-m", "arsenal_serving", str(version), "--port", "8901"]),
            "bare ASGI app": (8902, [str(HERE / "serve_bare.py"), "8902"]),
        }
        running = [on_core(int(first), sys.executable, *command) for _, command in sides.values()]
        try:
            found: dict[str, dict[int, list[dict]]] = {name: {1: [], 32: []} for name in sides}
            for port, _ in sides.values():
                ready(port, body)
            for connections in (1, 32):
                for port, _ in sides.values():
                    asked(port, body, connections, 1.0)
                for _ in range(given.rounds):
                    for name, (port, _) in sides.items():
                        found[name][connections].append(asked(port, body, connections, given.seconds))
        finally:
            for process in running:
                process.terminate()
                process.wait(20)

    def middle(name: str, connections: int, what: str) -> float:
        return statistics.median(one[what] for one in found[name][connections])

    print("| | requests/s at 32 connections | p99 at 32 | median at 1 | requests/s at 1 |\n|---|---|---|---|---|")
    for name in sides:
        cells = [middle(name, 32, "rate"), middle(name, 32, "p99_ms"), middle(name, 1, "median_ms"), middle(name, 1, "rate")]
        print(f"| {name} | {cells[0]:,.0f} | {cells[1]:.2f} ms | {cells[2]:.3f} ms | {cells[3]:,.0f} |")
    rate = middle("arsenal-serve", 32, "rate") / middle("bare ASGI app", 32, "rate")
    added = middle("arsenal-serve", 1, "median_ms") - direct
    print(f"\nof the bare app's rate at 32 connections: {rate:.0%} (to reach: 60 %)")
    print(f"the compiled function, called: {direct:.3f} ms; added at one connection: {added:.3f} ms (to reach: 0.4 ms)")


if __name__ == "__main__":
    main()
