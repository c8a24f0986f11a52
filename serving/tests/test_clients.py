"""Conformance by clients that others wrote, each in an environment of its own, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from arsenal_serving.export import export

HERE = Path(__file__).parent / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arsenal-serving"


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with these packages, made once below the user's cache folder."""
    folder = CACHE / re.sub(r"\W+", "-", f"{name}-{sys.version_info[0]}.{sys.version_info[1]}-{'-'.join(packages)}")
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"pip could not install {', '.join(packages)}: {done.stderr.strip().splitlines()[-1][:200]}")
        (folder / "made").touch()
    return folder / "bin" / "python"


def scaled(params, x):
    return x * params["by"]


def started(folder: Path):
    command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--grpc-port", "0", "--control"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.search(r"http://(127\.0\.0\.1:\d+)/.*grpc://(127\.0\.0\.1:\d+)", line)
    assert found, (line, process.stderr.read())
    return process, found.groups()


@pytest.fixture(scope="module")
def addresses(folder, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    for by in (2.0, 3.0):
        export(models / "scale", scaled, {"by": np.float32(by)}, np.ones((2, 4), np.float32), name="scale")
    processes, found = zip(*(started(path) for path in (folder, models)), strict=True)
    yield [*found[0], *found[1]]
    for process in processes:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in err) == (0, False), err


def agreed(python: Path, script: str, *arguments: str) -> None:
    done = subprocess.run([python, HERE / script, *arguments], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["agreed"]), done.stdout + done.stderr


@pytest.mark.slow
def test_tritonclient_by_http_and_grpc(addresses):
    agreed(environment("triton", "tritonclient[http,grpc]==2.73.*"), "triton.py", *addresses)


@pytest.mark.slow
def test_kserve_by_rest_and_grpc(addresses):
    agreed(environment("kserve", "kserve==0.21.*"), "kserve_client.py", *addresses[:2])
