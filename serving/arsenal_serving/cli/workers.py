"""Several processes that serve one port: a parent that imports no jax starts them, replaces one that dies, drains all.

Each worker has a listening socket of its own (SO_REUSEPORT), so the kernel shares connections out; the parent holds
all of them open, so a worker that is killed takes nothing with it but what it was answering: who the kernel has let in
waits for the worker that takes its place. On a CPU the workers share the cores; with devices each has one of its own.
What they share of models is the repository's folder, which each of them follows.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from arsenal_serving.refused import Refused

WORKER, SOCKETS = "ARSENAL_SERVE_WORKER", "ARSENAL_SERVE_SOCKETS"
"""Set in a worker: its number, and the descriptors of what it listens on."""
QUICKLY = 10.0  # a worker that lived for less is started again only after a pause


def number() -> int | None:
    """Which worker this process is; None where it serves alone or is the parent."""
    return int(os.environ[WORKER]) if WORKER in os.environ else None


def inherit_sockets() -> list[socket.socket]:
    """What this worker listens on, as the parent opened it."""
    return [socket.socket(fileno=int(descriptor)) for descriptor in os.environ[SOCKETS].split(",")]


def environments(workers: int, devices: str | None, environ: Mapping[str, str], cores: int) -> list[dict[str, str]]:
    """What each worker's environment has beyond the parent's; raises `Refused` for devices that are no list.

    >>> environments(2, None, {}, 8)[1]
    {'ARSENAL_SERVE_WORKER': '1', 'NPROC': '4'}
    >>> environments(1, "2,3", {}, 8)[1]["CUDA_VISIBLE_DEVICES"]
    '3'
    """
    if devices is None:
        # XLA sizes its threads by NPROC: as many as cores for each worker would only stand in each other's way.
        threads = {} if "NPROC" in environ else {"NPROC": str(max(1, cores // workers))}
        return [{WORKER: str(k), **threads} for k in range(workers)]
    wanted = devices.split(",")
    if not all(one.isascii() and one.isdigit() for one in wanted) or len(set(wanted)) < len(wanted):
        raise Refused(f"--devices must be different numbers with commas between, like 0,1; got {devices!r}.")
    if workers not in (1, len(wanted)):
        raise Refused(f"--devices {devices} means {len(wanted)} workers; got --workers {workers}.")
    names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
    return [{WORKER: str(k), **dict.fromkeys(names, one)} for k, one in enumerate(wanted)]


def open_sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """So many listening sockets that share a port; raises `Refused`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Another server that shares its port too would go unnoticed: for a moment it is asked for alone.
        with socket.create_server(address[:2], family=family) as alone:
            port = alone.getsockname()[1]
        shared = {"family": family, "backlog": 2048, "reuse_port": True}
        return [socket.create_server((str(address[0]), port), **shared) for _ in range(count)]  # type: ignore[arg-type]
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {error.strerror or error}.") from error


class Worker(NamedTuple):
    """A process, since when it runs, and the pipe whose end it watches: it stops when its parent is gone."""

    process: subprocess.Popen
    since: float
    said: list[str]
    ready: threading.Event


def supervise(
    words: Sequence[str],
    each: Sequence[Mapping[str, str]],
    sockets: Sequence[Sequence[socket.socket]],
    drain: float,
) -> int:
    """Run a worker for each environment until a signal ends them; the exit status.

    words: the command's arguments. sockets: for each worker those that it listens on. The first worker compiles before
    the others start, so that they find its programs in the cache. A worker that cannot start ends all.
    """
    stopping = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stopping.set())
    with tempfile.TemporaryDirectory(prefix="arsenal-serve-metrics-") as shared:
        started: list[Worker] = []

        def begin(k: int) -> Worker:
            command = [sys.executable, "-m", "arsenal_serving", *words]
            numbers = [listening.fileno() for listening in sockets[k]]
            env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": shared, **each[k], SOCKETS: ",".join(map(str, numbers))}
            process = subprocess.Popen(
                command,
                env=env,
                pass_fds=numbers,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            worker = Worker(process, time.monotonic(), [], threading.Event())
            threading.Thread(target=_read, args=(worker,), daemon=True).start()
            return worker

        try:
            for k in range(len(each)):
                started.append(begin(k))
                while not started[-1].ready.wait(0.1):
                    if stopping.is_set():
                        return 0
                    if any(worker.process.poll() is not None for worker in started):
                        return 1  # it has said why
            sys.stdout.write("".join(started[0].said))
            sys.stdout.flush()
            while not stopping.wait(0.1):
                for k, worker in enumerate(started):
                    code = worker.process.poll()
                    if code is None:
                        continue
                    how = f"signal {-code}" if code < 0 else f"status {code}"
                    sys.stderr.write(f"arsenal-serve: worker {k} ended with {how}; another one starts\n")
                    _forget_gauges(shared, worker.process.pid)
                    if time.monotonic() - worker.since < QUICKLY and stopping.wait(1.0):
                        break
                    started[k] = begin(k)
            return 0
        finally:
            for listening in chain.from_iterable(sockets):
                listening.close()
            for worker in started:
                worker.process.terminate()
            until = time.monotonic() + drain + 5.0
            for worker in started:
                try:
                    worker.process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    worker.process.kill()
                    worker.process.wait()


def _read(worker: Worker) -> None:
    for line in worker.process.stdout or ():
        if line == "\n":  # all has been said
            worker.ready.set()
        else:
            worker.said.append(line)


def _forget_gauges(folder: str, pid: int) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, folder)


def follow_parent() -> None:
    """In a worker: stop as for SIGTERM when the parent has gone."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
