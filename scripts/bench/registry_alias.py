"""An alias moved and rolled back while 32 connections ask: seconds until no answer is the other version's, none may fail.

`move`: the larger of the two times, of moves to a version that is ready; `failed`: how many requests had no answer 200.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

CONNECTIONS = 32


def main(given: dict) -> dict:
    """Register two versions, serve the alias, move it to and fro `times` times."""
    from arsenal_serving.export import export

    from arsenal.runs.registry import open_registry

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        registry = open_registry(str(root / "registry"))
        for by in (1.0, 2.0):
            made = export(root / "made", scaled, {"by": np.float32(by)}, np.ones((2, 4), np.float32), name="scale")
            registry.register(made, "scale", run=None)
        registry.set_alias("scale", "champion", 1)
        words = ["models:/scale@champion", "--registry", str(root / "registry"), "--port", "0"]
        words += ["--workers", str(given["workers"])]
        env = os.environ | {"XDG_CACHE_HOME": str(root / "cache")}
        command = [sys.executable, "-m", "arsenal_serving", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as server:
            try:
                port = int(server.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
                while len(list((root / "registry/models/scale/servers").glob("*.json"))) < given["workers"]:
                    time.sleep(0.1)
                seen, took = asyncio.run(scene(port, registry, given["times"]))
            finally:
                server.send_signal(signal.SIGTERM)
    failed = sum(status != 200 for _, status, _ in seen)
    return {
        "value": failed if given["ask"] == "failed" else max(took), "all": [] if given["ask"] == "failed" else took,
        "setting": f"{len(seen):,} requests, {given['workers']} workers, median {statistics.median(took):.2f} s, {failed} failed",
        "versions": {"ml-arsenal": version("ml-arsenal")},
    }  # fmt: skip


def scaled(params, x):
    """The model."""
    return x * params["by"]


async def scene(port: int, registry, times: int) -> tuple[list, list[float]]:
    """What was answered, and for each move the seconds until no other version answered."""
    seen: list[tuple[float, int, int]] = []
    end = asyncio.Event()
    loads = [asyncio.create_task(ask(port, end, seen)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(1.0)
    began = []
    for move in range(2 * times):
        began.append((time.perf_counter(), 1 if move % 2 else 2))
        if move % 2:
            await asyncio.to_thread(registry.roll_back, "scale", "champion")
        else:
            await asyncio.to_thread(registry.set_alias, "scale", "champion", 2)
        await asyncio.sleep(2.0)
    end.set()
    await asyncio.gather(*loads)
    stops = [start for start, _ in began[1:]] + [float("inf")]
    return seen, [
        max((at for at, _, other in seen if start < at < stop and other != to), default=start) - start
        for (start, to), stop in zip(began, stops, strict=True)
    ]


async def ask(port: int, end: asyncio.Event, seen: list) -> None:
    """One connection's questions."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}).encode()
    kind = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /v2/models/scale/infer HTTP/1.1", "Host: 127.0.0.1", *kind, "", ""])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not end.is_set():
        writer.write(head.encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found = json.loads(await reader.readexactly(length))
        seen.append((time.perf_counter(), int(answered.split()[1]), int(found.get("model_version", 0))))
    writer.close()


if __name__ == "__main__":
    print(json.dumps(main({"times": 3, "workers": 2, "ask": "move"} | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
