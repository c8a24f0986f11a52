"""The image of a server: its context, its bill, what it refuses; and, where buildah is, the image built, started and asked."""

from __future__ import annotations

import ctypes
import hashlib
import http.server
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from arsenal_serving.__main__ import main
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.deploy import bill, grammar, image, slim, wheel
from arsenal_serving.deploy.description import describe
from arsenal_serving.deploy.health import check, wait
from arsenal_serving.refused import Refused

BENCH = Path(__file__).parents[2] / "scripts" / "bench" / "image_arsenal.py"
PEERS = Path(os.environ.get("ARSENAL_DEPLOY_PYTHON", "/none")).parent
DIGEST = "sha256:7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a"
URL = "https://models.example.org/zoo/1"
SOURCES = [{"source": "inside"}, {"source": "mounted"}, {"source": "fetched", "url": URL}]


def made(**more):
    model = {"name": "zoo", "version": 1, "digest": DIGEST} | more
    return describe({"model": model, "image": {"name": "zoo", "tag": "1"}, "server": {"monitor": False}})


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one["source"])
def test_the_dockerfile_holds_what_it_promises(source):
    text = image.files(made(**source))["Dockerfile"]
    lines = text.splitlines()
    assert "ARG PYTHON=docker.io/library/python:3.12-slim-bookworm@sha256:" in text
    assert all(line.startswith('RUN ["') for line in lines if line.startswith("RUN")), "a shell would run it"
    for word in ("USER 65532:65532", "HEALTHCHECK", "--require-hashes", f'arsenal.model.digest="{DIGEST}"'):
        assert word in text, word
    entry = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT "))
    assert ("--until-ready" in text) == (source["source"] == "inside")
    assert entry[-1] == "arsenal-serve"
    assert (URL in entry and DIGEST in entry) == (source["source"] == "fetched")


def test_what_ecs_mounts_is_a_volume_of_the_image():
    """Else its owner is root, and the server's user cannot write there."""
    module = (Path(image.__file__).parent / "terraform" / "aws_module" / "main.tf").read_text()
    mounted = re.findall(r'\w+ = "(/[\w/]+)"', re.search(r"^  paths += (.*)", module, re.MULTILINE)[1])
    lines = image.files(made())["Dockerfile"].splitlines()
    volumes = json.loads(next(line for line in lines if line.startswith("VOLUME ")).removeprefix("VOLUME "))
    assert {*mounted, "/run/secrets"} == {*volumes} and "/tmp" in volumes


def test_an_image_for_gpus_has_their_libraries_by_hash_and_nothing_that_a_cpu_compiled():
    gpu = made()._replace(image=made().image._replace(accelerator="cuda"))
    files = image.files(gpu)
    pinned = {name for name, _, _ in bill.blocks(files["requirements.lock"], "3.12")}
    assert {"jax-cuda13-pjrt", "jax-cuda13-plugin", "nvidia-cudnn-cu13"} <= pinned
    own = {name for name, version, _ in bill.blocks(wheel.requirements(), "3.12")}
    assert own < pinned and not any("cuda" in name for name in own)
    text = files["Dockerfile"]
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text and "JAX_PLATFORMS=cpu" in text and "/warm/jax" not in text
    assert text.index("JAX_PLATFORMS=cpu") < text.rindex("FROM ") and "jax-cuda13-plugin" in files["sbom.json"]


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one["source"])
def test_hadolint_finds_nothing(source, accelerator, tmp_path):
    tool = shutil.which("hadolint") or shutil.which("hadolint", path=str(PEERS))
    if tool is None:
        pytest.skip("hadolint is not on PATH, nor beside ARSENAL_DEPLOY_PYTHON")
    one = made(**source)
    files = image.files(one._replace(image=one.image._replace(accelerator=accelerator)))
    (tmp_path / "Dockerfile").write_text(files["Dockerfile"])
    done = subprocess.run([tool, tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.skipif(not (PEERS / "python").is_file(), reason="ARSENAL_DEPLOY_PYTHON names no Python with checkov")
def test_checkov_finds_only_what_it_does_not_read(tmp_path):
    (tmp_path / "Dockerfile").write_text(image.files(made())["Dockerfile"])
    words = ["-d", str(tmp_path), "--framework", "dockerfile", "--skip-download", "-o", "json"]
    done = subprocess.run([PEERS / "python", "-m", "checkov.main", *words], capture_output=True, text=True)
    said = json.loads(done.stdout)
    # It does not follow ARG, whose default is a base by its digest.
    assert [one["check_id"] for one in said["results"]["failed_checks"]] == ["CKV_DOCKER_7"], done.stdout
    assert said["summary"]["passed"] > 10


@pytest.mark.parametrize("python", image.BASES)
def test_the_bill_says_what_the_lock_says(python):
    pinned = bill.blocks(wheel.requirements(), python)
    told = json.loads(bill.bill(made(), image.BASES[python], pinned, "0" * 64))
    names = {part["name"]: part["version"] for part in told["components"]}
    assert names["jax"] == names["jaxlib"] and {"zoo", "ml-arsenal-serving", "docker.io/library/python"} <= set(names)
    assert len(names) == len(told["components"]) == len(pinned) + 3
    assert told["serialNumber"].startswith("urn:uuid:")
    refs = {part["bom-ref"] for part in told["components"]}
    assert refs == set(told["dependencies"][0]["dependsOn"])


def test_the_bill_is_cyclonedx():
    python = os.environ.get("ARSENAL_DEPLOY_PYTHON")
    if not python:
        pytest.skip("ARSENAL_DEPLOY_PYTHON names no Python with cyclonedx-python-lib[validation]")
    text = image.files(made())["sbom.json"]
    code = "import sys; from cyclonedx.validation.json import JsonStrictValidator as V; from cyclonedx.schema import SchemaVersion as S; print(V(S.V1_6).validate_str(sys.stdin.read()))"
    done = subprocess.run([python, "-c", code], input=text, capture_output=True, text=True)
    assert done.stdout.strip() == "None", (done.stdout[:500], done.stderr[-500:])
    broken = text.replace('"CycloneDX"', '"Cyclone"')
    assert subprocess.run([python, "-c", code], input=broken, capture_output=True, text=True).stdout.strip() != "None"


def test_the_wheel_is_what_runs_here():
    name, content = wheel.pack()
    assert wheel.pack()[1] == content, "the same files give the same bytes"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        inside = set(archive.namelist())
        own = archive.read("arsenal_serving/deploy/wheel.py")
        record = archive.read(f"{name.partition('-py3')[0]}.dist-info/RECORD").decode()
    assert own == Path(wheel.__file__).read_bytes()
    assert {line.rpartition(",sha256=")[0] or line.split(",")[0] for line in record.splitlines()} == inside
    assert any(path.endswith("entry_points.txt") for path in inside)
    assert "arsenal_serving/deploy/requirements.lock" in inside and not any("__pycache__" in path for path in inside)


def test_a_shared_object_works_without_its_sections(tmp_path):
    found = importlib.util.find_spec("orjson.orjson").origin
    content = Path(found).read_bytes()
    short = slim.shorten(content)
    assert slim.shorten(short) == short and slim.shorten(b"text") == b"text"
    assert len(short) <= len(content)
    (tmp_path / "short.so").write_bytes(short)
    assert ctypes.CDLL(str(tmp_path / "short.so")).PyInit_orjson


def test_slim_takes_out_what_is_never_read(tmp_path):
    root = tmp_path / "site-packages"
    for path in ("numpy/tests/a.py", "scipy/stats/a.py", "scipy/linalg/a.py", "jax/scipy/stats/a.py", "a/b.pyi", "a/c.py"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x = 1\n")
    assert slim.slim(tmp_path) == 18
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert left == {"scipy/linalg/a.py", "jax/scipy/stats/a.py", "a/c.py"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--digest", DIGEST], "is not the model that is described: its digest is sha256:"),
        (["--source", "fetched"], "`model.source=fetched` needs `model.url` and `model.digest`"),
        (["--build", "podman"], "podman is not installed"),
        (["--name", "zoo", "--into", "{full}"], "`--into` must be a folder that is empty or not there"),
        (["--base", "python:3.11"], "`--base` must be IMAGE@sha256: and 64 hexadecimal digits; --base-by-tag takes"),
        (["--base", f"Bad Base@{DIGEST}"], "`--base` must be IMAGE@sha256:"),
        (["--base", "localhost/base@sha256:12", "--base-by-tag"], "64 hexadecimal digits; got 'localhost/base@sha256:12'."),
        (["--base", f"python:3.99-slim@{DIGEST}"], "`--base` must have 3."),
        (["--base-by-tag"], "`--base-by-tag` is said of `--base`, which is not given."),
        (["--name", "Bad Name:1"], "`--name` must be [REGISTRY/]NAME[:TAG], NAME in lower case; got 'Bad Name:1'."),
        (["--name", "UPPER:1"], "NAME in lower case; got 'UPPER:1'."),
        (["--name", "https://u:p@r.example.org/a"], "`--name` must be"),
        (["--name", ""], "`--name` must be"),
        (["--wheels", "nowhere"], "`--wheels` must be a folder with the wheels of all dependencies; nowhere has none of"),
        (["--wheels", "{full}"], "must be a folder with the wheels of all dependencies"),
        (["--source", "fetched", "--url", "ftp://h/zoo/1"], "`--url` must be a URL of https://, http://; got"),
        (["--source", "fetched", "--url", "https://h/zoo/2"], "must end in the version's number, .../1; got 'https://h/zoo/2'."),
        (["--source", "fetched", "--url", "https://me:hunter2@h/zoo/1"], "`--url` must hold no user and no password"),
        (["--builder-option=--squash"], "`--builder-option` is a word for a builder, and none is asked"),
    ],
)
def test_what_cannot_be_is_refused(folder, tmp_path, capsys, words, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    words = [word.format(full=tmp_path / "full") for word in words]
    into = [] if "--into" in words else ["--into", str(tmp_path / "context")]
    build = [] if "--build" in words else ["--build", "never"]
    if "podman" in words and shutil.which("podman"):
        pytest.skip("podman is here")
    assert main(["image", str(folder), *into, *build, *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and "hunter2" not in err, err
    assert not (tmp_path / "context").exists()


@pytest.mark.parametrize("name", ["zoo", "ghcr.io/us/arsenal-zoo:1", "localhost:5000/a/b_c__d.e-f", "r.example.org/zoo:1.0_x"])
def test_a_reference_that_a_registry_takes(name):
    grammar.check("--name", name, grammar.TAGGED)


def test_another_base_is_by_digest_or_meant_and_its_python_is_asked_while_it_is_built():
    python = image.running_python()
    for base, by_tag in ((f"r.example.org/python:{python}-slim@{DIGEST}", False), ("localhost/base:1", True)):
        assert image.check_base(base, python, by_tag) == base
        text = image.files(made(), python, base)["Dockerfile"]
        assert f"the base has Python {{sys.version}}, not {python}" in text
    assert "the base has Python" not in image.files(made(), python)["Dockerfile"]


def test_wheels_of_all_that_is_pinned(folder, tmp_path, capsys):
    pinned = bill.blocks(wheel.requirements(), image.running_python())
    wheels, into = tmp_path / "wheels", tmp_path / "context"
    wheels.mkdir()
    for name, version, _ in pinned:
        (wheels / f"{name.replace('-', '_')}-{version}-py3-none-any.whl").touch()
    words = ["image", str(folder), "--build", "never", "--into", str(into), "--wheels", str(wheels)]
    (wheels / "numpy.whl").touch()  # a name that is none of a wheel's
    assert main(words) == 0
    assert len(list((into / "wheels").iterdir())) == len(pinned) + 1
    assert "of arsenal-zoo:1;" in capsys.readouterr().out


BUILDER = '#!/bin/sh\necho "$@" >> "{calls}"\n[ ! -e "{fails}" ] || {{ echo "error: no space" >&2; exit 1; }}\n'


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """A builder that writes down its words, and fails while `fails` is there."""
    calls, fails = tmp_path / "calls", tmp_path / "fails"
    (tmp_path / "bin").mkdir()
    for name in image.BUILDERS:
        (tmp_path / "bin" / name).write_text(BUILDER.format(calls=calls, fails=fails))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return calls, fails


def test_the_pages_commands_work_in_the_order_written(folder, tmp_path, builder, server, capsys):
    page = (Path(__file__).parents[2] / "docs" / "deploy" / "docker.md").read_text()
    block = page.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    shutil.copytree(folder.parent, tmp_path / "models" / "flowers")
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    for line in lines:
        if line[0] == "arsenal-serve":
            words = [word.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{server.port}") for word in line[1:]]
            assert main(words) == 0, (line, capsys.readouterr().err)
        else:
            assert line[0] in image.BUILDERS and "flowers:1" in " ".join(line)
    # The model of the page is called flowers, and that of the test zoo.
    assert builder[0].read_text().count("--tag arsenal-zoo:1") == 1


def test_a_build_that_fails_says_where_its_context_is(folder, builder, capsys):
    builder[1].touch()
    assert main(["image", str(folder), "--into", "context"]) == 1
    assert "ended with 1: 'error: no space'; what was to be built is in context" in capsys.readouterr().err
    assert Path("context/Dockerfile").is_file()
    assert main(["image", str(folder)]) == 1 and "context" not in capsys.readouterr().err


def test_the_context_is_whole_and_holds_no_secret(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ARSENAL_SECRET", "planted-3c1f")
    into = tmp_path / "context"
    assert main(["image", str(folder), "--into", str(into), "--build", "never", "--name", "r.example.org/a/zoo:7"]) == 0
    assert "of r.example.org/a/zoo:7" in capsys.readouterr().out
    laid = artifact.open_version(into / "model" / "zoo" / "1")
    assert laid.digest == artifact.open_version(folder).digest
    text, name = (into / "server.txt").read_text(), next(into.glob("*.whl"))
    assert text == f"./{name.name} --hash=sha256:{hashlib.sha256(name.read_bytes()).hexdigest()}\n"
    for path in into.rglob("*"):
        assert not path.is_file() or b"planted-3c1f" not in path.read_bytes(), path
    listed = (into / ".dockerignore").read_text()
    assert listed.startswith("*\n") and "!model/" in listed


@pytest.fixture
def origin(folder, tmp_path):
    """Another host that has the model."""
    shutil.copytree(folder, tmp_path / "origin" / "zoo" / "1")
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "origin"))
    serve.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/zoo/1"
    server.shutdown()
    server.server_close()


def fetch(*words):
    command = [sys.executable, "-m", "arsenal_serving.deploy.fetch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_model_is_fetched_once_its_hash_is_that_described(folder, origin, tmp_path):
    digest, into = f"sha256:{artifact.open_version(folder).digest}", tmp_path / "models" / "zoo"
    wrong = fetch(origin, DIGEST, into)
    assert wrong.returncode == 1 and f"its hash is {digest}, not {DIGEST}" in wrong.stderr
    assert wrong.stderr.count("\n") == 1 and not (into / "1").exists()
    (tmp_path / "origin" / "zoo" / "1" / "manifest.json").write_bytes(b"{}")
    changed = fetch(origin, digest, into)
    assert changed.returncode == 1 and "'manifest.json' is not what SHA256SUMS lists" in changed.stderr
    shutil.copy(folder / "manifest.json", tmp_path / "origin" / "zoo" / "1")
    done = fetch(origin, digest, into, "--", sys.executable, "-c", "print('and then')")
    assert done.returncode == 0 and done.stdout.endswith("and then\n"), done.stderr
    assert artifact.open_version(into / "1").digest == digest.removeprefix("sha256:")
    shutil.rmtree(tmp_path / "origin")
    assert fetch(origin, digest, into).returncode == 0, "what is there is not fetched again"
    assert "is another version" in fetch(origin, DIGEST, into).stderr
    assert fetch(origin, digest).returncode == 2
    assert "must end in its number" in fetch(origin.removesuffix("/1"), digest, into).stderr


def test_health_and_smoke_ask_a_server(server, folder, tmp_path, capsys):
    url = f"http://127.0.0.1:{server.port}"
    assert main(["health", url]) == 0 and capsys.readouterr().out == "ready\n"
    assert main(["health", "http://127.0.0.1:9"]) == 1 and "does not answer" in capsys.readouterr().err
    with pytest.raises(Refused, match="a URL must be like"):
        check("ftp://a")
    wait(url, 1)
    with pytest.raises(Refused, match=r"not ready within 0\.3 s: .* does not answer"):
        wait("http://127.0.0.1:9", 0.3)
    assert main(["smoke", url, str(folder)]) == 0
    said = capsys.readouterr().out
    assert "gives the model's answers" in said and "label.more.scores: within " in said
    files = dict(artifact.open_version(folder).files)
    manifest = json.loads(files.pop("manifest.json"))
    other = artifact.write(tmp_path / "zoo", manifest, files, version=2)
    assert main(["smoke", url, str(other)]) == 1
    assert "serves version 1 of zoo, not 2" in capsys.readouterr().err


@pytest.fixture
def over_tls(folder, tmp_path):
    """The URL of a server with a certificate of its own for 127.0.0.1, and the certificate's file."""
    named = ["-subj", "/CN=a", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    files = ["-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *named, *files], check=True, capture_output=True)
    words = ["--port", "0", "--insecure", "--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key"]
    command = [sys.executable, "-m", "arsenal_serving", folder, *words]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"https://127\.0\.0\.1:\d+", process.stdout.readline())[0], str(tmp_path / "tls.crt")
        process.terminate()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on PATH")
def test_health_and_smoke_trust_an_authority_of_ones_own(over_tls, folder, tmp_path, capsys):
    url, authority = over_tls
    assert main(["smoke", url, str(folder)]) == 1
    assert "self-signed certificate" in capsys.readouterr().err
    for words in (["smoke", url, str(folder)], ["health", url]):
        assert main([*words, "--ca", authority]) == 0
        assert main([*words, "--ca", str(tmp_path / "tls.key")]) == 1
        err = capsys.readouterr().err
        assert "`--ca` must be a file of certificates in PEM; got" in err and err.count("\n") == 1
        assert main([words[0], "http://127.0.0.1:9", *words[2:], "--ca", authority]) == 1
        assert "`--ca` is for https://HOST:PORT; got 'http://127.0.0.1:9'." in capsys.readouterr().err
    assert main(["health", url]) == 0, "a server of this machine, whatever its name"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("image_arsenal", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_image_starts_on_a_read_only_root_and_gives_the_golden_answers(bench, tmp_path):
    """The image is one of a small model, on a root file system of Debian with its Python."""
    if missing := bench.lacks():
        pytest.skip(missing)
    with bench.built(tmp_path) as (root, told, model):
        assert told["User"] == "65532:65532" and told["Entrypoint"] == ["arsenal-serve"]
        assert told["Labels"]["arsenal.model.digest"] == f"sha256:{artifact.open_version(model).digest}"
        assert (root / "opt/arsenal/sbom.json").exists() and not list(root.glob("opt/arsenal/**/tests"))
        assert bench.added(root) < 400
        with bench.running(root, told, tmp_path) as (process, url, took):
            assert "Uid:\t65532\t65532\t65532\t65532" in Path(f"/proc/{process.pid}/status").read_text()
            assert main(["smoke", url, str(model)]) == 0
        assert process.returncode == 0 and took < 20, took
