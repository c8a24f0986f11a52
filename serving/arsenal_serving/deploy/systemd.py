"""systemd units of one machine: a server that may read its model and write its state, and nothing else.

systemd.exec(5) and systemd.service(5), version 250 and later. A replica is an instance by its port,
`arsenal-NAME@8000.service`; what balances between them is not of these.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.deploy import commands, grammar, unheard
from arsenal_serving.deploy.description import ORIGIN, Deployment, arguments, read_section
from arsenal_serving.deploy.health import wait
from arsenal_serving.refused import Refused, show


class Systemd(NamedTuple):
    """What only systemd knows: the section `extra.systemd`.

    environment: the virtual environment that has ml-arsenal-serving. models: the folder with NAME/VERSION/. secrets:
    the folder of keys.json, tls.crt and tls.key, which only root reads. address: that the server listens on.
    """

    environment: str = "/opt/arsenal"
    models: str = "/srv/arsenal/models"
    secrets: str = "/etc/arsenal"
    address: str = "127.0.0.1"


def files(made: Deployment) -> dict[str, str]:
    """A template unit, an instance of it for each port, and a target that has all of them."""
    own: Systemd = read_section(Systemd, made.extra.get("systemd", {}), "extra.systemd")
    for path, folder in (("environment", own.environment), ("models", own.models), ("secrets", own.secrets)):
        if not folder.startswith("/") or any(letter in folder for letter in " %$\\\"'\n;"):
            raise Refused(f"`extra.systemd.{path}` must be a path from the root of plain letters; got {show(folder)}.")
    if made.canary.weight:
        raise Refused(f"`canary.weight`: a unit serves one version; must be 0, got {made.canary.weight:g}.")
    if made.server.grpc_port:
        raise Refused(f"`server.grpc_port`: instances differ in one port; must be 0, got {made.server.grpc_port}.")
    if made.access.namespaces:
        got = show(list(made.access.namespaces))
        raise Refused(f"`access.namespaces` is not for systemd, which has none; must be empty, got {got}.")
    grammar.check_address("extra.systemd.address", own.address)
    _check_ports(made)
    unit = unit_name(made)
    return {
        f"{unit}@.service": _service(made, own, unit),
        f"{unit}.target": _target(made, unit),
    }


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("systemd", made)


def apply(folder: str | Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Install the units and the version beside them, models/NAME, on this machine; restart replicas one by one.

    Each is restarted once the last is ready. Raises `Refused`, before anything is changed, where systemd does not run,
    this is not root, a secret is not there, the environment has no server or the version is another; and, with the
    replicas after it as they were, where one is not ready within `timings.start`.
    """
    from arsenal_serving.artifact.folder import open_version  # it imports jax, and a plan does not

    folder, own = Path(folder), read_section(Systemd, made.extra.get("systemd", {}), "extra.systemd")
    systemctl = commands.find("systemctl", install="`to=local` needs no systemd")
    if not Path("/run/systemd/system").is_dir():
        raise Refused("systemd does not run this machine, and nothing was changed; `to=local` needs none.")
    if os.geteuid() != 0:
        raise Refused("units are installed by root, and nothing was changed: ask again as root.")
    needed = [f"{own.environment}/bin/arsenal-serve"]
    needed += [f"{own.secrets}/keys.json"] if made.access.keys_secret else []
    needed += [f"{own.secrets}/{file}" for file in ("tls.crt", "tls.key")] if made.access.tls_secret else []
    for path in needed:
        if not Path(path).exists():
            raise Refused(f"{path} is not there, and nothing was changed.")
    if made.model.source != "fetched":
        target = Path(own.models) / made.model.name / str(made.model.version)
        source = target if target.exists() else folder / "models" / made.model.name
        got = f"sha256:{open_version(source).digest}"
        if made.model.digest and got != made.model.digest:
            raise Refused(f"{source} is another model than described: its hash is {got}, not {made.model.digest}.")
        if source != target:
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            partial.rename(target)
    for name in files(made):
        shutil.copyfile(folder / name, Path("/etc/systemd/system") / name)
    unit = unit_name(made)
    commands.run([systemctl, "daemon-reload"])
    commands.run([systemctl, "enable", f"{unit}.target"])
    scheme = "https" if made.access.tls_secret else "http"
    host = "127.0.0.1" if own.address == "0.0.0.0" else own.address
    for port in range(made.server.port, made.server.port + max(1, made.scale.least)):
        commands.run([systemctl, "restart", f"{unit}@{port}.service"])
        wait(f"{scheme}://{host}:{port}", made.timings.start)
        say(f"ready: {unit}@{port}.service")
    commands.run([systemctl, "start", f"{unit}.target"])


def unit_name(made: Deployment) -> str:
    """Of its units, before the @: environments lie beside each other on one machine."""
    return f"arsenal-{made.name}-{made.env}"


def _check_ports(made: Deployment) -> None:
    """An admin port is the instance's with a 1 before it, so that both are ports where that has four digits at most."""
    first, last = made.server.port, made.server.port + max(1, made.scale.least) - 1
    if made.server.admin_port and last > 9999:
        said = "must be at most 9999, since the admin port is a 1 before it (`server.admin_port=0` has none)"
        raise Refused(f"`server.port` and those of `scale.least` replicas after it {said}; got {first} to {last}.")
    if last > 65535:
        raise Refused(f"ports of `scale.least` replicas must be at most 65535; got {first} to {last}.")
    ports = range(first, last + 1)
    if made.server.admin_port and (both := sorted({int(f"1{port}") for port in ports} & set(ports))):
        raise Refused(f"`server.port` must leave admin ports, a 1 before each, free; got {both[0]} for both.")


def _service(made: Deployment, own: Systemd, unit: str) -> str:
    keys = "%d/keys.json" if made.access.keys_secret else ""
    tls = ("%d/tls.crt", "%d/tls.key") if made.access.tls_secret else None
    name, version = made.model.name, made.model.version
    fetched = made.model.source == "fetched"
    folder = f"/var/lib/{unit}/models/{name}" if fetched else f"{own.models}/{name}/{version}"
    words = arguments(made, folder, keys, tls)
    # %i is the instance: its port. Its admin port has a 1 before it, 18000 of 8000, on the loopback address only.
    for option, value in (("--port", "%i"), ("--host", own.address), ("--admin-host", "127.0.0.1")):
        if option in words:
            words[words.index(option) + 1] = value
    if "--admin-port" in words:
        at = words.index("--admin-port")
        words[at : at + 2] = ["--admin-port", "1%i"]
    words = [word.replace("/var/lib/arsenal/", f"/var/lib/{unit}/%i/") for word in words]
    serve = f"{own.environment}/bin/arsenal-serve"
    before = [f"{own.environment}/bin/python", "-m", "arsenal_serving.deploy.fetch"]
    lines = {
        "Unit": [
            f"Description=arsenal-serve of {name} {version} on port %i",
            "After=network-online.target",
            "Wants=network-online.target",
            f"PartOf={unit}.target",
            *([f"X-Model-Digest={made.model.digest}"] if made.model.digest else []),
            "StartLimitIntervalSec=300",
            "StartLimitBurst=5",
        ],
        "Service": [
            "Type=exec",
            *([f"ExecStartPre={_line([*before, made.model.url, made.model.digest, folder])}"] if fetched else []),
            f"ExecStart={_line([serve, *words])}",
            "Restart=on-failure",
            "RestartSec=2",
            f"TimeoutStartSec={made.timings.start}",
            f"TimeoutStopSec={made.timings.grace}",
            "KillMode=mixed",
            "DynamicUser=yes",
            f"StateDirectory={unit} {unit}/%i",
            "StateDirectoryMode=0700",
            f"CacheDirectory={unit}",
            "CacheDirectoryMode=0700",
            f"Environment=HOME=/tmp XDG_CACHE_HOME=/var/cache/{unit}",
            *([f"LoadCredential=keys.json:{own.secrets}/keys.json"] if keys else []),
            *([f"LoadCredential={file}:{own.secrets}/{file}" for file in ("tls.crt", "tls.key")] if tls else []),
            "",
            "# XLA writes programs into memory and runs them: MemoryDenyWriteExecute would end it.",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            *([] if made.resources.accelerators else ["PrivateDevices=yes"]),
            "PrivateUsers=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "ProtectControlGroups=yes",
            "ProtectProc=invisible",
            "NoNewPrivileges=yes",
            "CapabilityBoundingSet=",
            "AmbientCapabilities=",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "LockPersonality=yes",
            "RemoveIPC=yes",
            "SystemCallArchitectures=native",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged @resources",
            "SystemCallErrorNumber=EPERM",
            "UMask=0077",
            "LimitNOFILE=65536",
            f"CPUQuota={made.resources.cpu * 100:g}%",
            f"MemoryMax={made.resources.memory}M",
            "TasksMax=512",
            "OOMPolicy=stop",
        ],
        "Install": [f"WantedBy={unit}.target"],
    }
    return _text(lines)


def _target(made: Deployment, unit: str) -> str:
    instances = [f"{unit}@{made.server.port + at}.service" for at in range(max(1, made.scale.least))]
    return _text(
        {
            "Unit": [f"Description=All replicas of {made.name}", f"Wants={' '.join(instances)}"],
            "Install": ["WantedBy=multi-user.target"],
        }
    )


def _text(sections: dict[str, list[str]]) -> str:
    body = "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    return f"{ORIGIN}\n{body}\n"


def _line(words: list[str]) -> str:
    """Words as ExecStart has them; %i and %d are systemd's own, and stay."""
    for word in words:
        if any(ord(letter) < 32 for letter in word):
            raise Refused(f"a word of the server's command must be one line; got {show(word)}.")
    return " ".join(_escape(word) for word in words)


def _escape(word: str) -> str:
    text = word.replace("\\", "\\\\").replace("$", "$$").replace('"', '\\"')
    if not word.startswith("%d/") and "%i" not in word:
        text = text.replace("%", "%%")
    return f'"{text}"' if text == "" or any(letter in " '\";" for letter in word) else text
