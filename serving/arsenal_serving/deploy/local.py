"""The same server as processes of this machine, without a container: what a laptop has where nothing is installed.

    local.json      the command and the address of each replica
    server-N.log    what it says; N is its port
    server-N.pid    its process, while it runs
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.deploy import unheard
from arsenal_serving.deploy.description import STATE, Deployment, arguments, read_section
from arsenal_serving.deploy.health import check
from arsenal_serving.refused import Refused, show

PLAN = "local.json"
PAUSE = 0.05
HOST = "127.0.0.1"


class Local(NamedTuple):
    """What only this machine knows: the section `extra.local`.

    model: the model's folder; unset, models/NAME beside the plan. secrets: the folder that keys.json, tls.crt and
    tls.key lie in. Both may be relative to the plan.
    """

    model: str = ""
    secrets: str = "secrets"


def files(made: Deployment) -> dict[str, str]:
    """The plan: words of `arsenal-serve` and an address for each replica, from `server.port` on."""
    own: Local = read_section(Local, made.extra.get("local", {}), "extra.local")
    if made.server.grpc_port and made.scale.least > 1:
        raise Refused("`server.grpc_port` goes with one replica on this machine (`scale.least=1`).")
    if made.canary.weight:
        raise Refused(f"`canary.weight`: a process here serves one version; must be 0, got {made.canary.weight:g}.")
    if made.access.namespaces:
        got = show(list(made.access.namespaces))
        raise Refused(f"`access.namespaces` is not for this machine, which has none; must be empty, got {got}.")
    _check_ports(made)
    secrets = Path(own.secrets)
    keys = str(secrets / "keys.json") if made.access.keys_secret else ""
    tls = (str(secrets / "tls.crt"), str(secrets / "tls.key")) if made.access.tls_secret else None
    model = own.model or f"models/{made.model.name}"
    words = [HOST if word == "0.0.0.0" else word for word in arguments(made, model, keys, tls)]
    replicas = []
    for at in range(max(1, made.scale.least)):
        port, admin = made.server.port + 2 * at, made.server.admin_port + 2 * at
        each = [word.replace(STATE, f"state-{port}") if word.startswith(STATE) else word for word in words]
        each[each.index("--port") + 1] = str(port)
        if made.server.admin_port:
            each[each.index("--admin-port") + 1] = str(admin)
        scheme = "https" if tls else "http"
        replicas.append({"port": port, "url": f"{scheme}://{HOST}:{port}", "command": each})
    told = {"name": made.name, "env": made.env, "model": made.model._asdict(), "replicas": replicas}
    return {PLAN: json.dumps(told, indent=1) + "\n"}


def _check_ports(made: Deployment) -> None:
    """Each replica's ports are two above those of the one before, and nobody else's."""
    first = [port for port in (made.server.port, made.server.admin_port) if port]
    every = [port + 2 * at for at in range(max(1, made.scale.least)) for port in first]
    every += [made.server.grpc_port] if made.server.grpc_port else []
    if max(every) > 65535:
        raise Refused(f"ports of `scale.least` replicas, by twos, must be at most 65535; got {max(every)}.")
    if len(set(every)) < len(every):
        got = ", ".join(map(str, first))
        raise Refused(f"ports of `scale.least` replicas, by twos, must differ; got {got} for the first.")


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("local", made)


def apply(folder: str | Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Start what the plan in a folder says, each replica once the last is ready; what ran from there is stopped first.

    Raises `Refused`, before anything is stopped, for a port that somebody else has and a secret that is not there; and
    where a replica is not ready within `timings.start`, with its last words: all that were started are stopped again.
    """
    folder = Path(folder)
    plan = json.loads((folder / PLAN).read_text())
    _check_place(folder, plan["replicas"])
    known = {f"server-{replica['port']}.pid" for replica in plan["replicas"]}
    for left in folder.glob("server-*.pid"):
        if left.name not in known:
            _stop(left, made.timings.drain)
    for replica in plan["replicas"]:
        port, url = replica["port"], replica["url"]
        _stop(folder / f"server-{port}.pid", made.timings.drain)
        log = folder / f"server-{port}.log"
        command = [sys.executable, "-m", "arsenal_serving", *replica["command"]]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        ports = " ".join(map(str, _ports(replica["command"])))
        (folder / f"server-{port}.pid").write_text(f"{process.pid} {_began(process.pid)} {ports}\n")
        try:
            _wait(process, url, made.timings.start, folder, port)
        except Refused:
            stop(folder, made, lambda said: None)
            raise
        process.returncode = 0  # it outlives this process, which is not to wait for it
        say(f"ready: {url}, model {made.model.name}, process {process.pid}")


def _check_place(folder: Path, replicas: list[dict[str, Any]]) -> None:
    """Raise `Refused` for a file that the words name and is not there, and for a port that is another's than ours."""
    ours = {port for path in folder.glob("server-*.pid") if _alive(path) for port in _read(path).ports}
    for replica in replicas:
        words = replica["command"]
        for option in ("--keys", "--tls-cert", "--tls-key"):
            if option in words and not (folder / words[words.index(option) + 1]).is_file():
                path = folder / words[words.index(option) + 1]
                raise Refused(f"{path}, which {option} names, is not there; nothing was changed.")
        for port in _ports(words):
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    if port not in ours:
                        one.bind((HOST, port))
                except OSError as error:
                    said = f"port {port} cannot be had: {error.strerror}; `server.port` and `server.admin_port`"
                    raise Refused(f"{said} name others. Nothing was changed.") from error


def _ports(words: list[str]) -> list[int]:
    return [int(words[at + 1]) for at, word in enumerate(words) if word in ("--port", "--admin-port", "--grpc-port")]


def runs(folder: str | Path) -> bool:
    """Whether every replica of the plan in a folder is there."""
    plan = json.loads((Path(folder) / PLAN).read_text())
    return all(_alive(Path(folder) / f"server-{replica['port']}.pid") for replica in plan["replicas"])


def stop(folder: str | Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Stop what runs from a folder, each given its drain to finish in."""
    for path in sorted(Path(folder).glob("server-*.pid")):
        if _stop(path, made.timings.drain):
            say(f"stopped: {path.stem}")


def _wait(process: subprocess.Popen[bytes], url: str, seconds: float, folder: Path, port: int) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            return check(url)
        except Refused:
            ended = process.poll() is not None
        if ended or time.monotonic() > until:
            _stop(folder / f"server-{port}.pid", 1)
            said = (folder / f"server-{port}.log").read_text(errors="replace").strip().splitlines()
            why = f"ended with {process.returncode}" if ended else f"was not ready within {seconds:g} s and was stopped"
            raise Refused(f"the server on port {port} {why}: {show(said[-1] if said else 'it says nothing', 400)}")
        time.sleep(PAUSE)


def _stop(path: Path, seconds: float) -> bool:
    """End the process that a file names, if it is still that one; whether it was."""
    alive = _alive(path)
    if alive:
        number = _read(path).number
        os.kill(number, signal.SIGTERM)
        until = time.monotonic() + seconds + 5
        while _alive(path) and time.monotonic() < until:
            time.sleep(PAUSE)
        if _alive(path):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    path.unlink(missing_ok=True)
    return alive


class _Kept(NamedTuple):
    """What server-PORT.pid says: a process, when it began, and its ports."""

    number: int = 0
    began: str = ""
    ports: tuple[int, ...] = ()


def _read(path: Path) -> _Kept:
    words = path.read_text().split() if path.exists() else []
    return _Kept(int(words[0]), words[1], tuple(map(int, words[2:]))) if len(words) > 1 else _Kept()


def _alive(path: Path) -> bool:
    """Whether the process that a file names is still that one."""
    kept = _read(path)
    return kept.began != "" and _began(kept.number) == kept.began


def _began(number: int) -> str:
    """When a process began, in the kernel's ticks, so that another with its number is not taken for it; "" for none.

    proc(5): the 22nd field of stat, which follows the name in brackets; a zombie has ended. Elsewhere: whether it is.
    """
    try:
        state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(number, 0)
    except OSError:
        return ""
    return "alive"
