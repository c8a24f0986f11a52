"""Compose files (https://compose-spec.io): a server with everything that watches it, or replicas behind a proxy.

Development: one server, Prometheus with arsenal's rules, Grafana with its dashboard, Alertmanager, and PostgreSQL for a
registry's ledger. Staging and production: replicas that no one reaches but nginx, which speaks TLS and takes a call to
another replica where one goes down.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.deploy import commands, grammar, unheard
from arsenal_serving.deploy.description import CACHE, ORIGIN, STATE, USER, Deployment, arguments, read_section
from arsenal_serving.deploy.yaml_text import to_yaml
from arsenal_serving.refused import Refused, show

IMAGES = {
    "prometheus": "prom/prometheus:v3.5.0@sha256:63805ebb8d2b3920190daf1cb14a60871b16fd38bed42b857a3182bc621f4996",
    "alertmanager": "prom/alertmanager:v0.28.1@sha256:27c475db5fb156cab31d5c18a4251ac7ed567746a2483ff264516437a39b15ba",
    "grafana": "grafana/grafana:12.1.1@sha256:a1701c2180249361737a99a01bc770db39381640e4d631825d38ff4535efa47d",
    "postgres": "postgres:17-alpine@sha256:742f40ea20b9ff2ff31db5458d127452988a2164df9e17441e191f3b72252193",
    "proxy": "nginxinc/nginx-unprivileged:1.29-alpine"
    "@sha256:0c79d56aee561a1d81c63f00eee5fb5fe29279560cdc55e91425133104c7fbe6",
}
"""Of others, by digest."""
LOOPBACK = "127.0.0.1"
SECRETS = ("keys.json", "tls.crt", "tls.key", "grafana_password", "postgres_password")
RULES, DASHBOARD = "rules.json", "dashboard.json"
"""Package data: what `arsenal.monitoring.exports` says, so that a server alone can be watched as well."""


class Compose(NamedTuple):
    """What only compose knows: the section `extra.compose`.

    address, port: that the host listens on; 0 is 8000, and 8443 where nginx speaks TLS. models: the host's folder that
    holds the version as NAME/, for `model.source=mounted`. secrets: the host's folder of secrets, a file each.
    """

    address: str = LOOPBACK
    port: int = 0
    models: str = "./models"
    secrets: str = "./secrets"


def files(made: Deployment) -> dict[str, str]:
    """compose.yaml and the files that it mounts; raises `Refused` for what compose cannot do."""
    own: Compose = read_section(Compose, made.extra.get("compose", {}), "extra.compose")
    if made.server.grpc_port:
        raise Refused(f"`server.grpc_port` is not published by compose; must be 0, got {made.server.grpc_port}.")
    if made.canary.weight:
        raise Refused(f"`canary.weight`: compose serves one version; must be 0, got {made.canary.weight:g}.")
    if made.access.namespaces:
        got = show(list(made.access.namespaces))
        raise Refused(f"`access.namespaces` is not for compose, which has none; must be empty, got {got}.")
    if made.env == "development" and made.access.tls_secret:
        said = "where one server speaks HTTP; staging and production have TLS by nginx"
        raise Refused(f"`access.tls_secret` is not for compose in development, {said}.")
    grammar.check_address("extra.compose.address", own.address)
    for path in ("models", "secrets"):
        if not getattr(own, path):
            raise Refused(f"`extra.compose.{path}` must be a folder; got ''.")
        grammar.check(f"extra.compose.{path}", getattr(own, path), grammar.FOLDER)
    if not 0 <= own.port <= 65535:
        raise Refused(f"`extra.compose.port` must be 1 to 65535, or 0 for the usual one; got {show(own.port)}.")
    return _development(made, own) if made.env == "development" else _production(made, own)


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("compose", made)


def apply(folder: str | Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring up what the files in a folder say, and wait until it is healthy; what was up is replaced where it differs.

    A model that is inside is made an image of first, from models/NAME beside the files, where the image has no registry
    to come from. Raises `Refused`, before anything is started, for a secret or a program that is not there.
    """
    from arsenal_serving.deploy import image  # it reads models, and a plan does not

    folder = Path(folder)
    by = commands.find("docker", "podman", install="`to=local` needs neither")
    own: Compose = read_section(Compose, made.extra.get("compose", {}), "extra.compose")
    text = (folder / "compose.yaml").read_text()
    for name in SECRETS:
        if f"{own.secrets}/{name}\n" in text and not (folder / own.secrets / name).is_file():
            raise Refused(f"{folder / own.secrets / name} is not there: a secret is a file of its own.")
    commands.run([by, "compose", "version"], folder)  # which is a plugin, and may not be there
    up = [by, "compose", "--file", "compose.yaml"]
    commands.run([*up, "config", "--quiet"], folder)
    if made.model.source == "inside" and not made.image.registry:
        with tempfile.TemporaryDirectory() as passing:
            image.context(made, folder / "models" / made.model.name, Path(passing) / "context")
            image.build(Path(passing) / "context", made.image.reference, Path(by).name, say=say)
    commands.run([*up, "up", "--detach", "--wait", "--remove-orphans"], folder)
    say(f"up: {made.name}, {max(1, made.scale.least)} of {made.image.reference}")


def project(made: Deployment) -> str:
    """What compose knows it by: environments lie beside each other on one machine."""
    return f"{made.name}-{made.env}"


def _server(made: Deployment, own: Compose) -> dict[str, Any]:
    """The server's service, without ports."""
    name, shares = made.model.name, made.resources
    folder = f"{STATE}/models/{name}" if made.model.source == "fetched" else f"/models/{name}"
    fetch = ["python", "-m", "arsenal_serving.deploy.fetch", made.model.url, made.model.digest, folder, "--"]
    keys = "/run/secrets/keys.json" if made.access.keys_secret else ""
    limits: dict[str, Any] = {"cpus": f"{shares.cpu:g}", "memory": f"{shares.memory}M", "pids": 512}
    resources: dict[str, Any] = {"limits": limits, "reservations": {"memory": f"{shares.memory // 2}M"}}
    if shares.accelerators:
        device = {"driver": "nvidia", "count": shares.accelerators, "capabilities": ["gpu"]}
        resources["reservations"]["devices"] = [device]
    told = {"arsenal.owner": made.owner, "arsenal.digest": made.model.digest}
    # One replica keeps its state under a name; of several each has a volume of its own.
    state = f"state:{STATE}" if made.scale.least <= 1 else STATE
    volumes = [state, *([f"{own.models}/{name}:/models/{name}:ro"] if made.model.source == "mounted" else [])]
    found: dict[str, Any] = {
        "image": made.image.reference,
        "entrypoint": [*(fetch if made.model.source == "fetched" else []), "arsenal-serve"],
        "command": [word.replace("$", "$$") for word in arguments(made, folder, keys)],
        "user": USER,
        "environment": {"HOME": "/tmp", "XDG_CACHE_HOME": CACHE},
        **_hardened(f"/tmp:size={shares.scratch}m,mode=1777", f"{CACHE}:size={shares.scratch}m,uid=65532,mode=0700"),
        "volumes": volumes,
        "stop_grace_period": f"{made.timings.grace}s",
        "healthcheck": {
            "test": ["CMD", "arsenal-serve", "health", f"http://{LOOPBACK}:{made.server.port}"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{made.timings.start}s",
        },
        "labels": made.labels | {key: value for key, value in told.items() if value},
        "deploy": {"replicas": max(1, made.scale.least), "resources": resources},
    }
    return found | ({"secrets": [_secret("keys.json")]} if keys else {})


def _hardened(*scratch: str) -> dict[str, Any]:
    return {
        "read_only": True,
        "tmpfs": list(scratch),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
    }


def _secret(name: str) -> dict[str, str]:
    return {"source": name, "target": f"/run/secrets/{name}"}


def _secrets(own: Compose, *names: str) -> dict[str, Any]:
    return {name: {"file": f"{own.secrets}/{name}"} for name in names}


def _limits(cpus: str, memory: int) -> dict[str, Any]:
    return {"resources": {"limits": {"cpus": cpus, "memory": f"{memory}M", "pids": 512}}}


def _development(made: Deployment, own: Compose) -> dict[str, str]:
    server = _server(made, own)
    server["ports"] = [f"{own.address}:{own.port or 8000}:{made.server.port}"]
    server["networks"] = ["front", "watch"]

    def watch(name: str, port: int, where: str, **more: Any) -> dict[str, Any]:
        service = {"image": IMAGES[name], **_hardened("/tmp:size=64m,mode=1777"), "networks": ["front", "watch"]}
        service["volumes"] = [f"{name}:{where}", *more.pop("mounts", [])]
        return service | {"ports": [f"{LOOPBACK}:{port}:{port}"], "deploy": _limits("1", 512)} | more

    prometheus = watch(
        "prometheus", 9090, "/prometheus", mounts=["./prometheus:/etc/prometheus:ro"],
        command=["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
                 "--storage.tsdb.retention.time=15d"],
    )  # fmt: skip
    alertmanager = watch(
        "alertmanager", 9093, "/alertmanager", mounts=["./alertmanager:/etc/alertmanager:ro"],
        command=["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager",
                 "--cluster.listen-address="],
    )  # fmt: skip
    grafana = watch(
        "grafana", 3000, "/var/lib/grafana", secrets=[_secret("grafana_password")],
        mounts=["./grafana/provisioning:/etc/grafana/provisioning:ro", "./grafana/dashboards:/dashboards:ro"],
        environment={"GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana_password",
                     "GF_ANALYTICS_REPORTING_ENABLED": "false", "GF_ANALYTICS_CHECK_FOR_UPDATES": "false"},
    )  # fmt: skip
    postgres = watch(
        "postgres", 5432, "/var/lib/postgresql/data", secrets=[_secret("postgres_password")],
        user="70:70", tmpfs=["/tmp:size=64m,mode=1777", "/run/postgresql:size=1m,mode=0775,uid=70,gid=70"],
        environment={"POSTGRES_USER": "arsenal", "POSTGRES_DB": "arsenal",
                     "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password"},
        healthcheck={"test": ["CMD", "pg_isready", "--username", "arsenal"], "interval": "10s"},
    )  # fmt: skip
    watched = {"prometheus": prometheus, "alertmanager": alertmanager, "grafana": grafana, "postgres": postgres}
    secrets = [*(["keys.json"] if made.access.keys_secret else []), "grafana_password", "postgres_password"]
    volumes = [*(["state"] if made.scale.least <= 1 else []), *watched]
    document = {
        "name": project(made),
        "services": {"server": server, **watched},
        "networks": {"front": {}, "watch": {"internal": True}},
        "volumes": {name: {} for name in volumes},
        "secrets": _secrets(own, *secrets),
    }
    scrape = {
        "job_name": "arsenal-serve",
        "dns_sd_configs": [{"names": ["server"], "type": "A", "port": made.server.admin_port or made.server.port}],
    }
    managers = [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": managers},
        "scrape_configs": [scrape],
    }
    # Whom to tell is nobody yet: a receiver of one's own takes the place of this one.
    route = {"receiver": "nobody", "group_by": ["alertname", "model"], "group_wait": "30s", "repeat_interval": "4h"}
    source = {"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "access": "proxy"}
    source |= {"url": "http://prometheus:9090", "isDefault": True}  # type: ignore[dict-item]
    provider = {"name": "arsenal", "type": "file", "options": {"path": "/dashboards"}}
    return {
        "compose.yaml": to_yaml(document),
        "prometheus/prometheus.yml": to_yaml(config),
        "prometheus/rules.yml": to_yaml(json.loads(_data(RULES))),
        "alertmanager/alertmanager.yml": to_yaml({"route": route, "receivers": [{"name": "nobody"}]}),
        "grafana/provisioning/datasources/arsenal.yaml": to_yaml({"apiVersion": 1, "datasources": [source]}),
        "grafana/provisioning/dashboards/arsenal.yaml": to_yaml({"apiVersion": 1, "providers": [provider]}),
        "grafana/dashboards/arsenal.json": _data(DASHBOARD),
    }


def _production(made: Deployment, own: Compose) -> dict[str, str]:
    server = _server(made, own)
    server["networks"] = ["back", *(["out"] if made.model.source == "fetched" else [])]
    proxy = {
        "image": IMAGES["proxy"],
        "user": USER,
        **_hardened("/tmp:size=64m,mode=1777", "/run/nginx:size=256m,uid=65532,mode=0700"),
        "volumes": ["./proxy/nginx.conf:/etc/nginx/nginx.conf:ro"],
        "secrets": [_secret("tls.crt"), _secret("tls.key")],
        "ports": [f"{own.address}:{own.port or 8443}:8443"],
        "networks": ["front", "back"],
        "depends_on": {"server": {"condition": "service_healthy"}},
        "healthcheck": {"test": ["CMD", "wget", "-qO-", f"http://{LOOPBACK}:8080/"], "interval": "30s"},
        "deploy": _limits("1", 512),
    }
    names = [*(["keys.json"] if made.access.keys_secret else []), "tls.crt", "tls.key"]
    # Nobody outside reaches the servers, and they reach nobody, but a model that is fetched.
    networks: dict[str, Any] = {"front": {}, "back": {"internal": True}}
    document = {
        "name": project(made),
        "services": {"server": server, "proxy": proxy},
        "networks": networks | ({"out": {}} if made.model.source == "fetched" else {}),
        **({"volumes": {"state": {}}} if made.scale.least <= 1 else {}),
        "secrets": _secrets(own, *names),
    }
    return {"compose.yaml": to_yaml(document), "proxy/nginx.conf": _nginx(made)}


def _nginx(made: Deployment) -> str:
    """A call is asked of another replica where one is gone or drains: an inference changes nothing."""
    host = made.access.host or "_"
    return f"""{ORIGIN}
worker_processes auto;
pid /run/nginx/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    # Requests are the server's to log: server.more: [--log, requests].
    access_log off;
    server_tokens off;
    client_max_body_size 64m;
    client_body_temp_path /run/nginx/body;
    proxy_temp_path /run/nginx/proxy;
    fastcgi_temp_path /run/nginx/fastcgi;
    uwsgi_temp_path /run/nginx/uwsgi;
    scgi_temp_path /run/nginx/scgi;
    # Docker's own: a replica that is new is known within two seconds.
    resolver 127.0.0.11 valid=2s ipv6=off;
    server {{
        # Whether nginx answers, asked by its own container.
        listen {LOOPBACK}:8080;
        location / {{ return 200; }}
    }}
    server {{
        listen 8443 ssl;
        server_name {host};
        ssl_certificate /run/secrets/tls.crt;
        ssl_certificate_key /run/secrets/tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        add_header Strict-Transport-Security "max-age=31536000" always;
        location / {{
            set $replicas server;
            proxy_pass http://$replicas:{made.server.port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_connect_timeout 2s;
            proxy_read_timeout 120s;
            proxy_next_upstream error timeout http_503 non_idempotent;
            proxy_next_upstream_tries 3;
        }}
    }}
}}
"""


def _data(name: str) -> str:
    return (Path(__file__).parent / "monitoring" / name).read_text()
