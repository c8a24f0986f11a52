"""The same server as processes of this machine, without a container: what a laptop has where nothing is installed.

    local.json      the command and the address of each replica
    server-N.log    what it says; N is its port
    server-N.pid    its process, while it runs
"""

from __future__ import annotations

import json
import os
import signal
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

    Raises `Refused` where one is not ready within `timings.start`, with its last words; it is stopped again.
    """
    folder = Path(folder)
    plan = json.loads((folder / PLAN).read_text())
    known = {f"server-{replica['port']}.pid" for replica in plan["replicas"]}
    for left in folder.glob("server-*.pid"):
        if left.name not in known:
            _stop(left, made.timings.drain)
    for replica in plan["replicas"]:
        port, url = replica["port"], replica["url"]
        _stop(folder / f"server-{port}.pid", made.timings.drain)
        with suppress(Refused):
            check(url)
            raise FileExistsError(f"{url} is answered by somebody else already; `server.port` names another.")
        log = folder / f"server-{port}.log"
        command = [sys.executable, "-m", "arsenal_serving", *replica["command"]]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        (folder / f"server-{port}.pid").write_text(f"{process.pid} {_began(process.pid)}\n")
        _wait(process, url, made.timings.start, folder, port)
        process.returncode = 0  # it outlives this process, which is not to wait for it
        say(f"ready: {url}, model {made.model.name}, process {process.pid}")


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
    if not path.exists():
        return False
    number, _, began = path.read_text().strip().partition(" ")
    alive = bool(number) and _began(int(number)) == began != ""
    if alive:
        os.kill(int(number), signal.SIGTERM)
        until = time.monotonic() + seconds + 5
        while _began(int(number)) == began and time.monotonic() < until:
            time.sleep(PAUSE)
        if _began(int(number)) == began:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
    path.unlink(missing_ok=True)
    return alive


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
