"""The image of a server: a build context whose Dockerfile is read before it is built, and builders where there is one.

    Dockerfile          two stages; base by digest, dependencies by hash, no shell at run time, user 65532
    requirements.lock   what is installed, with hashes
    server.txt, *.whl   this server's own wheel, packed from what runs here, and its hash
    model/NAME/VERSION  the model, if it is inside
    wheels/             the dependencies' own files, if the build is to ask nobody
    sbom.json           CycloneDX; it is in the image too
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import arsenal_serving
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import versions
from arsenal_serving.deploy import grammar
from arsenal_serving.deploy.bill import bill, blocks
from arsenal_serving.deploy.description import CACHE, DIGEST, ORIGIN, STATE, USER, Deployment, arguments
from arsenal_serving.deploy.wheel import pack, requirements
from arsenal_serving.refused import Refused, show

HUB = "docker.io/library/python"
BASES = {
    "3.11": f"{HUB}:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b",
    "3.12": f"{HUB}:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254",
    "3.13": f"{HUB}:3.13-slim-trixie@sha256:6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91",
}
"""Bases by Python: that of the process that makes the image, so that jax is the one that the model was proven under."""
NEWEST = "3.13"
ROOT = "/opt/arsenal"
VOLUMES = ("/run/secrets", STATE, CACHE)
PYTHON_TAG = re.compile(r"(?:.*/)?python:(\d+\.\d+)[^/]*")
BUILDERS = ("buildah", "docker", "podman")
SECONDS = 3600


class Origins(NamedTuple):
    """What the manifest of the model inside tells of how it came to be, for the image's labels."""

    created: str = ""
    revision: str = ""
    jax: str = ""


NOTHING = Origins()


def running_python() -> str:
    """The Python of this process as `BASES` has it, or the newest there."""
    here = ".".join(platform.python_version_tuple()[:2])
    return here if here in BASES else NEWEST


def check_base(base: str, python: str, by_tag: bool = False) -> str:
    """Another base; raises `Refused` for one that may change under its name, or has another Python than `python`.

    by_tag: one without a digest is meant, as one that was built here.
    """
    place, _, digest = base.partition("@")
    if not grammar.TAGGED.pattern.fullmatch(place) or not (DIGEST.fullmatch(digest) or (by_tag and "@" not in base)):
        more = "" if by_tag else "; --base-by-tag takes one without a digest"
        raise Refused(f"`--base` must be IMAGE@sha256: and 64 hexadecimal digits{more}; got {show(base)}.")
    if (found := PYTHON_TAG.fullmatch(place)) and found[1] != python:
        said = "the Python of this process, which the dependencies are chosen for"
        raise Refused(f"`--base` must have {python}, {said}; got {show(place)}.")
    return base


def check_wheels(folder: Path, lock: list[tuple[str, str, str]]) -> None:
    """Raise `Refused` unless the folder has a wheel of everything that is pinned: the build asks no index."""
    named = (path.name.partition("-") for path in folder.glob("*.whl"))
    there = {f"{re.sub('[-_.]+', '-', name).lower()}=={rest.partition('-')[0]}" for name, _, rest in named}
    missing = [pin for name, version, _ in lock if (pin := f"{name}=={version}") not in there]
    if missing:
        said = "must be a folder with the wheels of all dependencies"
        raise Refused(f"`--wheels` {said}; {folder} has none of {missing[0]} and {len(missing) - 1} more.")


def files(
    made: Deployment,
    python: str = "3.12",
    base: str = "",
    offline: bool = False,
    about: Origins = NOTHING,
    wheel: str = "",
) -> dict[str, str]:
    """The texts of the build context: Dockerfile, .dockerignore, requirements.lock and sbom.json.

    python: of `BASES`, or that of `base`, another image to stand on. offline: dependencies come from wheels/. wheel:
    the hash of the server's own. Raises `Refused` for what the image cannot hold.
    """
    if made.server.grpc_port:
        raise Refused(f"`server.grpc_port`: the image's lock has no grpcio; must be 0, got {made.server.grpc_port}.")
    base = base or BASES[python]
    pinned = blocks(requirements(made.image.accelerator), python)
    return {
        "Dockerfile": _dockerfile(made, base, python, offline, about),
        ".dockerignore": "*\n!*.whl\n!requirements.lock\n!server.txt\n!sbom.json\n!model/\n!wheels/\n",
        "requirements.lock": "".join(lines for _, _, lines in pinned),
        "sbom.json": bill(made, base, pinned, wheel),
    }


def context(
    made: Deployment, model: str | Path, into: Path, base: str = "", wheels: str | Path = "", by_tag: bool = False
) -> Deployment:
    """Write the build context of a deployment; returns the deployment with the digest of the model that is there.

    model: the folder of the version, or of the model. base, by_tag: as of `check_base`. wheels: a folder of the
    dependencies' wheels, if the build is to ask no index. Raises `Refused`, with nothing written, for a folder that
    holds anything, a model that is another than described, and what cannot be built.
    """
    python = running_python()
    if base:
        check_base(base, python, by_tag)
    if wheels:
        check_wheels(Path(wheels), blocks(requirements(made.image.accelerator), python))
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise Refused(f"`--into` must be a folder that is empty or not there; {into} is not.")
    folder = versions.locate(model)
    held = artifact.open_version(folder)
    manifest = artifact.read_manifest(folder, held.files)
    digest, said = f"sha256:{held.digest}", made.model
    for what, got, wanted in (
        ("digest", digest, said.digest),
        ("name", manifest["name"], said.name),
        ("version", manifest["version"], said.version),
    ):
        if wanted and got != wanted:
            raise Refused(f"{folder} is not the model that is described: its {what} is {got}, not {wanted}.")
    made = made._replace(model=said._replace(digest=digest))
    name, content = pack()
    own = hashlib.sha256(content).hexdigest()
    told = manifest["provenance"]
    git = (told.get("environment") or {}).get("git") or {}
    about = Origins(manifest["created"], str(git.get("commit", "")), manifest["jax"]["version"])
    texts = files(made, python, base, bool(wheels), about, own)
    texts["server.txt"] = f"./{name} --hash=sha256:{own}\n"
    into.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (into / file).write_text(text)
    (into / name).write_bytes(content)
    if made.model.source == "inside":
        _lay(held, folder, into / "model" / made.model.name / str(made.model.version))
    if wheels:
        (into / "wheels").mkdir()
        for path in sorted(Path(wheels).glob("*.whl")):
            shutil.copyfile(path, into / "wheels" / path.name)
    return made


def builder(asked: str = "auto") -> str | None:
    """Which builder there is: the one asked for, the first of `BUILDERS` for auto, none for never; raises `Refused`."""
    if asked == "never":
        return None
    if asked != "auto":
        if not shutil.which(asked):
            raise Refused(f"`--build {asked}`: {asked} is not installed; `--build never` writes the context only.")
        return asked
    return next((one for one in BUILDERS if shutil.which(one)), None)


def build(folder: Path, reference: str, by: str, more: tuple[str, ...] = (), say: Callable[[str], Any] = print) -> None:
    """Build a context into the builder's own store; raises `Refused` with the builder's last words.

    more: further words for the builder, as --isolation and chroot for one within a container.
    """
    words = [by, "build", *(["--format", "docker"] if by != "docker" else []), *more, "--tag", reference, str(folder)]
    say(f"building {reference} with {by}")
    with tempfile.TemporaryFile() as out:
        try:
            code = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, timeout=SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            raise Refused(f"{by} did not end within {SECONDS} s and was stopped.") from None
        out.seek(0)
        lines = [line.strip() for line in out.read().decode(errors="replace").splitlines() if line.strip()]
    if code:
        told = [line for line in lines if "rror" in line or line.startswith("arsenal-serve:")] or lines or [""]
        raise Refused(f"{by} ended with {code}: {show(' | '.join(told[-3:]), 600)}")


def _lay(held: artifact.Opened, folder: Path, target: Path) -> None:
    """The bytes that were checked, not those that lie there by now."""
    target.mkdir(parents=True)
    for path, content in {**held.files, artifact.SUMS: held.sums}.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)
    if (folder / artifact.SIGNATURE).is_file():
        shutil.copyfile(folder / artifact.SIGNATURE, target / artifact.SIGNATURE)


def _dockerfile(made: Deployment, base: str, version: str, offline: bool, about: Origins) -> str:
    """Every command in exec form, so that what is asked is what runs."""
    cuda = made.image.accelerator == "cuda"
    inside, model = made.model.source == "inside", f"/models/{made.model.name}"
    python = f"{ROOT}/bin/python"
    install = ["python", "-m", "pip", "--python", python, "install", "--no-deps", "--require-hashes"]
    install += ["--only-binary", ":all:", *(["--no-compile"] if inside else [])]
    served = arguments(made, model)
    if made.model.source == "fetched":
        served[0] = f"{STATE}/models/{made.model.name}"
        what = [made.model.url, made.model.digest, served[0]]
        entry = ["python", "-m", "arsenal_serving.deploy.fetch", *what, "--", "arsenal-serve"]
    else:
        entry = ["arsenal-serve"]
    lines = [
        ORIGIN,
        "# Commands in exec form cannot be joined by a shell, and the layers of this stage are not kept.",
        "# hadolint global ignore=DL3059",
        f"ARG PYTHON={base}",
        "FROM ${PYTHON} AS build",
        "# For a mirror of the package index: --build-arg PIP_INDEX_URL=...",
        "ARG PIP_INDEX_URL",
        "ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore",
        *(["ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/context/wheels"] if offline else []),
        "WORKDIR /context",
        "COPY . /context/",
        *([] if base in BASES.values() else [_run("python", "-c", _check_python(version))]),
        _run("python", "-m", "venv", "--without-pip", ROOT),
        _run(*install, "--requirement", "requirements.lock"),
        _run(*install, "--no-index", "--requirement", "server.txt"),
        _run(python, "-m", "arsenal_serving.deploy.slim", f"{ROOT}/lib"),
        _run("mkdir", "--parents", f"{ROOT}/compiled", "/state", "/models"),
    ]
    if inside:
        warm = [python, "-m", "arsenal_serving", model, "--port", "0", "--max-batch", str(made.server.max_batch)]
        warm += made.server.more
        lines += [
            "# Started once, on the CPU: what does not give the model's golden answers is no image.",
            f"ENV ARSENAL_COMPILED={ROOT}/compiled JAX_PLATFORMS=cpu",
            _run("cp", "--recursive", "/context/model/.", "/models/"),
            _run(*warm, "--cache", "/warm", "--until-ready"),
        ]
        # What was compiled for this CPU is of no use to a GPU, which no builder has.
        lines += [] if cuda else [_run("cp", "--recursive", "/warm/jax/.", f"{ROOT}/compiled/")]
    else:
        lines.append(_run(python, "-m", "compileall", "-q", f"{ROOT}/lib"))
    labels = {
        "org.opencontainers.image.title": made.image.name,
        "org.opencontainers.image.description": f"{made.model.name} {made.model.version}, served by arsenal-serve",
        "org.opencontainers.image.version": made.image.tag or str(made.model.version),
        "org.opencontainers.image.created": about.created,
        "org.opencontainers.image.revision": about.revision,
        "org.opencontainers.image.base.name": base.partition("@")[0],
        "org.opencontainers.image.base.digest": base.partition("@")[2],
        "arsenal.model.name": made.model.name,
        "arsenal.model.version": str(made.model.version),
        "arsenal.model.digest": made.model.digest,
        "arsenal.model.source": made.model.source,
        "arsenal.model.jax": about.jax,
        "arsenal.serving": arsenal_serving.__version__,
    }
    said = " \\\n      ".join(f"{key}={_quote(value)}" for key, value in labels.items() if value)
    lines += [
        "",
        "FROM ${PYTHON}",
        f"LABEL {said}",
        f"COPY --from=build {ROOT} {ROOT}",
        "COPY --from=build /models /models",
        "# ECS gives an empty volume the owner and rights that its folder has here, if the image says that it is one.",
        *(f"COPY --from=build --chown={USER} /state {path}" for path in VOLUMES),
        f"VOLUME {json.dumps([*VOLUMES, '/tmp'])}",
        f"COPY sbom.json {ROOT}/sbom.json",
        f"ENV PATH={ROOT}/bin:/usr/local/bin:/usr/bin:/bin \\",
        "    PYTHONDONTWRITEBYTECODE=1 \\",
        "    HOME=/tmp \\",
        f"    XDG_CACHE_HOME={CACHE} \\",
        f"    ARSENAL_COMPILED={ROOT}/compiled",
        *(["ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"] if cuda else []),
        f"USER {USER}",
        "WORKDIR /tmp",
        f"EXPOSE {' '.join(str(port) for port in (made.server.port, made.server.admin_port) if port)}",
        "STOPSIGNAL SIGTERM",
        f"HEALTHCHECK --interval=10s --timeout=5s --start-period={made.timings.start}s --retries=3 \\",
        f"    CMD {json.dumps(['arsenal-serve', 'health', f'http://127.0.0.1:{made.server.port}'])}",
        f"ENTRYPOINT {json.dumps(entry)}",
        f"CMD {json.dumps(served)}",
    ]
    return "\n".join(lines) + "\n"


def _check_python(version: str) -> str:
    """Another base says by no digest which Python it has."""
    wanted = f"({version.replace('.', ', ')})"
    said = f"sys.exit(f'error: the base has Python {{sys.version}}, not {version}')"
    return f"import sys; sys.version_info[:2] == {wanted} or {said}"


def _run(*words: str) -> str:
    return f"RUN {json.dumps(list(words))}"


def _quote(value: str) -> str:
    """A label's value: neither a variable nor the end of its quotes."""
    return json.dumps(value).replace("$", "\\$")
