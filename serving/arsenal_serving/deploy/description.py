"""What is deployed, said once: every manifest, chart, unit and module is a pure function of a `Deployment`.

    a profile (conf/deployment/staging.yaml) -> describe -> Deployment -> image | compose | kubernetes ...: {path: text}

A profile's keys are the fields below, by section; a key that is none of them is refused before anything is written.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

from arsenal_serving.artifact.versions import MODEL_NAME
from arsenal_serving.deploy import grammar
from arsenal_serving.refused import Refused, show, unknown_name

ENVIRONMENTS = ("development", "staging", "production")
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""A name as Kubernetes, compose, systemd and the three clouds all take it: RFC 1123, and a letter first."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ORIGIN = "# Generated from a deployment's profile; change that and write again."
"""The first line of whatever is written for a place, where its format has comments."""
USER = "65532:65532"
"""User and group of a server in a container."""
STATE, CACHE = "/var/lib/arsenal", "/var/cache/arsenal"
"""Where a server writes: what it monitors and logs, and what it compiles."""
SLACK = 5
"""Seconds between the server's last answer and the kill."""
SECTIONS = {
    "kubernetes": "cluster.Kubernetes", "kserve": "kserve.KServe", "knative": "knative.Knative",
    "compose": "compose.Compose", "local": "local.Local", "systemd": "systemd.Systemd",
    "aws": "terraform.aws.Aws", "gcp": "terraform.gcp.Gcp", "azure": "terraform.azure.Azure",
    "slurm": "slurm.Slurm", "skypilot": "skypilot.Skypilot", "training": "training.RemoteTraining",
}  # fmt: skip
"""Sections of `extra`, and the types that read them, here; helm and kustomize read `kubernetes`."""
DAY = 86400
BOUNDS: grammar.Bounds = {
    "model.version": (1, 1_000_000_000, ""),
    "server.workers": (1, 256, "processes"),
    "server.max_batch": (1, 1_048_576, "rows"),
    "server.sample": (0, 1, "a share of the requests"),
    "server.rate": (0, 1_000_000, "requests a second"),
    "resources.cpu": (0.01, 1024, "cores"),
    "resources.memory": (64, 16_777_216, "MiB"),
    "resources.scratch": (1, 16_777_216, "MiB"),
    "resources.accelerators": (0, 1024, ""),
    "timings.start": (1, DAY, "seconds"),
    "timings.detach": (0, DAY, "seconds"),
    "timings.drain": (1, DAY, "seconds"),
    "scale.least": (0, 10_000, "replicas"),
    "scale.most": (1, 10_000, "replicas"),
    "scale.cpu": (1, 100, "percent"),
    "scale.queue": (0, 1_000_000_000, "rows"),
    "scale.latency": (0, 3600, "seconds"),
    "canary.version": (0, 1_000_000_000, ""),
    "canary.weight": (0, 1, "a share of the calls"),
}
MODEL = grammar.Spelling(MODEL_NAME, 100, "1 to 100 letters, digits, ., _ or -, first a letter or digit")
SAID = {
    "--host": "the target", "--admin-host": "the target", "--port": "`server.port`", "--insecure": "the target",
    "--admin-port": "`server.admin_port`", "--grpc-port": "`server.grpc_port`", "--workers": "`server.workers`",
    "--max-batch": "`server.max_batch`", "--monitor": "`server.monitor`", "--request-log": "`server.sample`",
    "--sample": "`server.sample`", "--redact": "`server.redact`", "--rate": "`server.rate`",
    "--drain": "`timings.drain`", "--keys": "`access.keys_secret`", "--tls-cert": "`access.tls_secret`",
    "--tls-key": "`access.tls_secret`", "--registry": "`model`",
}  # fmt: skip
"""Options of `arsenal-serve` that are not for `server.more`, and what says them."""


class DeployedVersion(NamedTuple):
    """The version that is served: its name, number and the hash of its SHA256SUMS, and how a container comes by it.

    source: inside the image; mounted, a volume that holds it; or fetched by `url` at the start, and its hash checked.
    """

    name: str = "model"
    version: int = 1
    digest: str = ""
    alias: str = ""
    source: Literal["inside", "mounted", "fetched"] = "inside"
    url: str = ""


class Image(NamedTuple):
    """An image by name, and by digest once it was pushed: `reference`."""

    registry: str = ""
    name: str = "arsenal-serve"
    tag: str = ""
    digest: str = ""
    accelerator: Literal["cpu", "cuda"] = "cpu"
    pull_secret: str = ""

    @property
    def reference(self) -> str:
        """As `docker pull` takes it: by digest where there is one, else by tag."""
        place = f"{self.registry.rstrip('/')}/{self.name}" if self.registry else self.name
        return f"{place}@{self.digest}" if self.digest else f"{place}:{self.tag or 'latest'}"


class ServerSettings(NamedTuple):
    """The server's own options; `more` are further words of `arsenal-serve`, checked by its own parser."""

    port: int = 8000
    admin_port: int = 8001
    grpc_port: int = 0
    workers: int = 1
    max_batch: int = 64
    monitor: bool = True
    sample: float = 0.0
    redact: tuple[str, ...] = ()
    rate: float = 0.0
    more: tuple[str, ...] = ()


class ReplicaResources(NamedTuple):
    """Of one replica: cores, MiB of memory and of scratch, accelerators; what is asked for is what is had."""

    cpu: float = 1.0
    memory: int = 1024
    scratch: int = 1024
    accelerators: int = 0


class Timings(NamedTuple):
    """Seconds: to be ready in, to be left alone by the load balancer before the signal, and to finish answers in.

    Kubernetes takes a pod away from its endpoints and tells it to stop at the same moment, so `detach` lets the first
    be heard before the second; `grace` is what a container is given before it is killed.
    """

    start: int = 120
    detach: int = 5
    drain: int = 30

    @property
    def grace(self) -> int:
        """From being told to stop to the kill: longer than the server's own drain."""
        return self.detach + self.drain + SLACK


class ReplicaScale(NamedTuple):
    """Replicas at least and at most, and what a replica bears before there is another.

    cpu: share of what it asked for, in percent. queue: rows that wait. latency: seconds, the 0.95 quantile.
    """

    least: int = 1
    most: int = 1
    cpu: int = 70
    queue: int = 0
    latency: float = 0.0


class Access(NamedTuple):
    """Who reaches it: a public name, its certificate and the API keys, both by a secret's name, never by content."""

    host: str = ""
    tls_secret: str = ""
    keys_secret: str = ""
    namespaces: tuple[str, ...] = ()


class CanaryShare(NamedTuple):
    """A share of the calls for another version: by the server's own policy, or by weights of the traffic."""

    version: int = 0
    weight: float = 0.0
    by: Literal["server", "traffic"] = "server"


class Deployment(NamedTuple):
    """A model, as it runs in one environment."""

    name: str = "model"
    env: Literal["development", "staging", "production"] = "development"
    namespace: str = "arsenal"
    owner: str = ""
    model: DeployedVersion = DeployedVersion()
    image: Image = Image()
    server: ServerSettings = ServerSettings()
    resources: ReplicaResources = ReplicaResources()
    timings: Timings = Timings()
    scale: ReplicaScale = ReplicaScale()
    access: Access = Access()
    canary: CanaryShare = CanaryShare()
    extra: Mapping[str, Any] = types.MappingProxyType({})
    """What only one kind of place knows: a section by its name, as `aws: {region: ...}`; that place checks it."""

    @property
    def labels(self) -> dict[str, str]:
        """Kubernetes' recommended labels, and what is served."""
        return {
            "app.kubernetes.io/name": "arsenal-serve",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/version": str(self.model.version),
            "app.kubernetes.io/managed-by": "arsenal",
            "arsenal.model": self.model.name,
            "arsenal.env": self.env,
        }


def describe(profile: Mapping[str, Any]) -> Deployment:
    """A profile's sections as a `Deployment`, defaults for what it leaves out.

    Raises `Refused`, in one line with the key's path, for a key that does not exist, a value of another kind, and what
    cannot hold together (fewer replicas at most than at least, a canary without a version, a URL without a hash).

    >>> describe({"name": "digits", "env": "staging", "scale": {"least": 2, "most": 4}}).scale.most
    4
    """
    made: Deployment = read_section(Deployment, profile)
    _check(made)
    return made


def arguments(made: Deployment, folder: str, keys: str = "", tls: tuple[str, str] | None = None) -> list[str]:
    """The words of `arsenal-serve` for a deployment: what every place's command is.

    folder: where the model lies there. keys: the file of API keys. tls: certificate and key, where the server itself
    speaks TLS; elsewhere whatever stands before it does.
    """
    server = made.server
    words = [folder, "--host", "0.0.0.0", "--port", str(server.port), "--drain", str(made.timings.drain)]
    words += ["--admin-host", "0.0.0.0", "--admin-port", str(server.admin_port)] if server.admin_port else []
    words += ["--grpc-port", str(server.grpc_port)] if server.grpc_port else []
    words += ["--workers", str(server.workers)] if server.workers > 1 else []
    words += ["--max-batch", str(server.max_batch)]
    words += ["--monitor", f"{STATE}/monitor"] if server.monitor else []
    words += ["--request-log", f"{STATE}/requests", "--sample", f"{server.sample:g}"] if server.sample else []
    for name in server.redact:
        words += ["--redact", name]
    words += ["--rate", f"{server.rate:g}"] if server.rate else []
    words += ["--keys", keys] if keys else []
    words += ["--tls-cert", tls[0], "--tls-key", tls[1]] if tls else []
    words += ["--insecure"] if not (keys and tls) else []
    return [*words, *server.more]


def label(name: str) -> str:
    """A model's name in the letters that every place takes, as `arsenal deploy` makes `name` of it.

    >>> label("My_Penguins"), label("1st")
    ('my-penguins', 'm-1st')
    """
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return made if made[:1].isalpha() else f"m-{made}"


def image_name(model: str) -> str:
    """The name of a model's image, unless somebody gives another.

    >>> image_name("My_Penguins")
    'arsenal-my-penguins'
    """
    return f"arsenal-{label(model)}"


def takes_word(path: str) -> bool:
    """Whether the field at a path is a text, so that what is typed for it, `1.10` or `007`, is one.

    >>> takes_word("image.tag"), takes_word("scale.most"), takes_word("aws.region")
    (True, False, False)
    """
    kind: Any = Deployment
    for key in path.split("."):
        kind = get_type_hints(kind).get(key) if hasattr(kind, "_fields") else None
    return kind is str


def read_section(kind: type, given: Any, path: str = "") -> Any:
    """A NamedTuple `kind` of a mapping, each field by its annotated type; `path` names the section in a refusal.

    So a target reads its own section of `Deployment.extra`. Raises `Refused` for a key that `kind` has not and a value
    of another type.

    >>> read_section(Timings, {"drain": 10}, "timings").grace
    20
    """
    if not isinstance(given, Mapping):
        raise Refused(f"{_said(path)} must be a section of keys and values; got {show(given)}.")
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise unknown_name("key", str(key), hints, _said(path) if path else "")
    return kind(**{key: _value(hints[key], value, f"{path}.{key}".strip(".")) for key, value in given.items()})


def _value(kind: Any, value: Any, path: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            *first, last = get_args(kind)
            allowed = f"{', '.join(first)} or {last}" if first else last
            raise Refused(f"{_said(path)} must be {allowed}; got {show(value)}.")
        return value
    if get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            raise Refused(f"{_said(path)} must be a list of words; got {show(value)}.")
        return tuple(value)
    if get_origin(kind) is not None and isinstance(value, Mapping):
        return types.MappingProxyType(dict(value))
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        return read_section(kind, value, path)
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    if kind is str and value is None:
        return ""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    raise Refused(f"{_said(path)} must be {words.get(kind, 'a section of keys and values')}; got {show(value)}.")


def value_at(made: Any, path: str) -> Any:
    """The value at a path of fields.

    >>> value_at(Deployment(), "scale.cpu")
    70
    """
    return functools.reduce(getattr, path.split("."), made)


def leaves(made: Any, path: str = "") -> Iterator[str]:
    """The path of every field below a section that is no section itself; `extra`, which targets read, has none.

    >>> list(leaves(Timings(), "timings"))
    ['timings.start', 'timings.detach', 'timings.drain']
    """
    for key, value in made._asdict().items():
        place = f"{path}.{key}".strip(".")
        if hasattr(value, "_fields"):
            yield from leaves(value, place)
        elif place != "extra":
            yield place


def find_section(name: str) -> type:
    """The type that reads a section of `extra`; raises `Refused` for one that nothing reads, with the nearest."""
    if name in ("helm", "kustomize"):
        raise Refused(f"`extra.{name}` is read by nothing: {name} reads `extra.kubernetes`.")
    if name not in SECTIONS:
        raise unknown_name("section", name, SECTIONS, "`extra`")
    module, _, kind = f"arsenal_serving.deploy.{SECTIONS[name]}".rpartition(".")
    found: type = getattr(importlib.import_module(module), kind)
    return found


def _check(made: Deployment) -> None:
    _check_texts(made)
    _check_more(made.server.more)
    for name, given in made.extra.items():
        read_section(find_section(name), given, f"extra.{name}")
    for path, name in (("name", made.name), ("namespace", made.namespace)):
        if not LABEL.fullmatch(name):
            said = "must be at most 63 lower-case letters, digits and -, a letter first"
            raise Refused(f"`{path}` {said}; got {show(name)}.")
    grammar.check_bounds({path: value_at(made, path) for path in BOUNDS}, BOUNDS)
    least = {"port": 1, "admin_port": 0, "grpc_port": 0}
    for path, low in least.items():
        port = getattr(made.server, path)
        if not low <= port <= 65535:
            raise Refused(f"`server.{path}` must be 1 to 65535{'' if low else ', or 0 for none'}; got {show(port)}.")
    ports = [port for port in (getattr(made.server, path) for path in least) if port]
    if len(set(ports)) < len(ports):
        raise Refused(f"`server`'s ports must differ; got {', '.join(map(str, ports))}.")
    if made.scale.most < made.scale.least:
        raise Refused(f"`scale.most` must be at least `scale.least`, {made.scale.least}; got {made.scale.most}.")
    for path, digest in (("model.digest", made.model.digest), ("image.digest", made.image.digest)):
        if digest and not DIGEST.fullmatch(digest):
            raise Refused(f"`{path}` must be sha256: and 64 hexadecimal digits; got {show(digest)}.")
    if made.model.source == "fetched" and not (made.model.url and made.model.digest):
        raise Refused("`model.source=fetched` needs `model.url` and `model.digest`: what is fetched is checked.")
    if made.model.source != "fetched" and made.model.url:
        raise Refused(f"`model.url` goes with `model.source=fetched`; got {show(made.model.source)}.")
    if made.image.accelerator == "cpu" and made.resources.accelerators:
        raise Refused("`resources.accelerators` needs `image.accelerator=cuda`; got cpu.")
    if made.canary.weight and not made.canary.version:
        raise Refused("`canary.weight` needs `canary.version`: a share of the calls for which version?")
    if made.env == "production" and not made.access.keys_secret:
        raise Refused("`env=production` needs `access.keys_secret`: the name of the secret that holds the API keys.")


def _check_texts(made: Deployment) -> None:
    """Each as whoever reads it takes it, and none with a secret in it."""
    grammar.check("model.name", made.model.name, MODEL)
    grammar.check("image.registry", made.image.registry, grammar.REGISTRY)
    grammar.check("image.name", made.image.name, grammar.IMAGE)
    grammar.check("image.tag", made.image.tag, grammar.TAG)
    grammar.check("access.host", made.access.host, grammar.HOST)
    secrets = ("image.pull_secret", "access.keys_secret", "access.tls_secret")
    grammar.check_each({path: value_at(made, path) for path in secrets}, grammar.SUBDOMAIN)
    for name in made.access.namespaces:
        if not name:
            raise Refused("`access.namespaces` must be names; got ''.")
        grammar.check("access.namespaces", name, grammar.LABEL)
    check_model_url("model.url", made.model.url, made.model.version)
    if not made.image.name:
        raise Refused("`image.name` must be a name; got ''.")


class _OptionParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"`server.more` must be options of `arsenal-serve`: {' '.join(message.split())}.")


def _check_more(more: Sequence[str]) -> None:
    """Refuse, by the server's own parser, words that it does not know, and those that other fields say."""
    if not more:
        return
    from arsenal_serving.options import options  # only where it is asked: they are of half the server

    for word in more:
        grammar.check_password("server.more", word)
        if (option := word.partition("=")[0]) in SAID:
            raise Refused(f"`server.more` must be what no field says; got {option}, which {SAID[option]} says.")
    parser = _OptionParser(prog="arsenal-serve", add_help=False, allow_abbrev=False)
    options(parser)
    given, unknown = parser.parse_known_args(["FOLDER", *more])
    if unknown:  # without what follows =, which may be a secret
        raise Refused(f"`server.more` must be options of `arsenal-serve`; got {show(unknown[0].partition('=')[0])}.")
    if given.until_ready:
        raise Refused("`server.more` must not have --until-ready: the server would end.")


def check_model_url(path: str, url: str, version: int) -> None:
    """Refuse a URL that is not a version's folder, or that an image as it is made could not fetch."""
    grammar.check_url(path, url, ("https", "http"))
    if url and url.rstrip("/").rpartition("/")[2] != str(version):
        raise Refused(f"`{path}` must end in the version's number, .../{version}; got {show(url)}.")


def _said(path: str) -> str:
    return f"`{path}`" if path else "a profile"
