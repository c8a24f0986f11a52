"""Replicas restarted one after the other while connections ask through a balancer of connections, as kube-proxy is one.

A new replica becomes ready and is an endpoint; the old one is told to go: `detach` seconds later comes SIGTERM, which is what a
preStop hook makes of it, and `hears` seconds later the balancer leaves it out of new connections; those that it has stay. What
has not ended `grace` seconds after it was told is killed, which counts as a failure. The value: requests without an answer 200.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np


def main(given: dict) -> dict:
    """Serve a small model from two replicas, and replace both `times` times with the timings of a profile."""
    from arsenal_serving.deploy.description import arguments, describe
    from arsenal_serving.export import export

    made = describe({"server": {"monitor": False, "admin_port": 0}, "timings": given["timings"]})
    with tempfile.TemporaryDirectory() as folder:
        model = export(Path(folder) / "made", scaled, {"by": np.float32(2)}, np.ones((2, 4), np.float32), name="scale")
        words = arguments(made, str(model.parent))
        words[words.index("--port") + 1] = "0"
        words[words.index("--host") + 1] = "127.0.0.1"
        env = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
        replicas = Replicas([sys.executable, "-m", "arsenal_serving", *words], env, made.timings, given["hears"])
        try:
            seen = asyncio.run(scene(replicas, given))
        finally:
            replicas.kill()
    failed = [what for _, what in seen if what != 200]
    return {
        "value": len(failed) + replicas.killed, "all": [],
        "setting": f"{len(seen):,} requests, {given['connections']} connections, {2 * given['times']} replicas replaced, "
        f"{replicas.killed} killed{'; ' + str(failed[:3]) if failed else ''}",
        "versions": {"ml-arsenal": version("ml-arsenal")},
    }  # fmt: skip


def scaled(params, x):
    """The model."""
    return x * params["by"]


class Replicas:
    """Processes, and the ports that the balancer gives to new connections."""

    def __init__(self, command: list[str], env: dict, timings, hears: float):
        """command: of one replica. timings: of the deployment. hears: seconds until the balancer knows who goes."""
        self.command, self.env, self.timings, self.hears = command, env, timings, hears
        self.running: dict[int, subprocess.Popen] = {}
        self.endpoints: list[int] = []
        self.turn = self.killed = 0
        self.passing: set[asyncio.Task] = set()

    def start(self) -> int:
        """One more, ready: its port."""
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.env)
        with process.stdout:  # what it says later nobody reads
            port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        self.running[port] = process
        return port

    async def replace(self, port: int) -> None:
        """Another in a replica's place, as a rolling update that is never short of one."""
        self.endpoints.append(await asyncio.to_thread(self.start))
        told = time.perf_counter()
        heard = asyncio.create_task(self.leave_out(port))
        await asyncio.sleep(self.timings.detach)
        process = self.running.pop(port)
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, self.timings.grace - (time.perf_counter() - told))
        except subprocess.TimeoutExpired:
            process.kill()
            self.killed += 1
        await heard

    async def leave_out(self, port: int) -> None:
        """What the balancer hears a little later."""
        await asyncio.sleep(self.hears)
        self.endpoints.remove(port)

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connects."""
        task = asyncio.create_task(self.balance(reader, writer))
        self.passing.add(task)
        task.add_done_callback(self.passing.discard)

    async def balance(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the next endpoint in turn, bytes in both ways until one side ends."""
        self.turn += 1
        try:
            there = await asyncio.open_connection("127.0.0.1", self.endpoints[self.turn % len(self.endpoints)])
        except OSError:
            writer.close()
            return
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    def kill(self) -> None:
        """End what is left."""
        for process in self.running.values():
            process.kill()
            process.wait()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes until there are no more, and that end too."""
    try:
        while content := await reader.read(1 << 16):
            writer.write(content)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def scene(replicas: Replicas, given: dict) -> list[tuple[float, int | str]]:
    """What each request was answered while the replicas are replaced."""
    for _ in range(2):
        replicas.endpoints.append(await asyncio.to_thread(replicas.start))
    server = await asyncio.start_server(replicas.meet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen: list[tuple[float, int | str]] = []
    end = asyncio.Event()
    asking = [asyncio.create_task(ask(port, end, seen)) for _ in range(given["connections"])]
    await asyncio.sleep(0.5)
    for _ in range(given["times"]):
        for old in list(replicas.endpoints):
            await replicas.replace(old)
    await asyncio.sleep(0.5)
    end.set()
    await asyncio.gather(*asking)
    server.close()
    if replicas.passing:
        await asyncio.wait(replicas.passing, timeout=5)
    return seen


async def ask(port: int, end: asyncio.Event, seen: list[tuple[float, int | str]]) -> None:
    """One client's questions, on a connection until its server says that it ends; no question is asked twice."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}).encode()
    kind = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /v2/models/scale/infer HTTP/1.1", "Host: localhost", *kind, "", ""])
    streams = None
    while not end.is_set():
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = streams
            writer.write(head.encode() + body)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            seen.append((time.perf_counter(), int(answered.split()[1])))
            if b"connection: close" in answered:
                writer.close()
                streams = None
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.append((time.perf_counter(), type(error).__name__))
            if streams is not None:
                streams[1].close()
            streams = None
    if streams is not None:
        streams[1].close()


if __name__ == "__main__":
    staging = {"detach": 5, "drain": 30}
    defaults = {"timings": staging, "hears": 3.0, "connections": 16, "times": 2}
    print(json.dumps(main(defaults | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
