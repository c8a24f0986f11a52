"""The image of a served model, built by buildah on a root file system of Debian and its Python, and started on a read-only root.

`added`: MB of files that the image adds to that base; `packed`: the same as a registry keeps them, by gzip; `ready`: seconds from
the start to ready, as user 65532, with what was compiled in the image. buildah, debootstrap and root are needed, and Python 3.11,
which is Debian's; the dependencies' wheels come from the index once, by hash, and the build itself asks nobody.
"""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

PORT = 8137
PACKAGES = "--include=python3,python3-venv,python3-pip,ca-certificates"
SHUT = """set -e
mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"; mount -t proc proc "$1/proc"
mount -t tmpfs -o uid=65532,mode=0700 tmpfs "$1/var/cache/arsenal"
shift; exec env -i "$@"
"""


def main(given: dict) -> dict:
    """Build it, and measure what is asked."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if missing := lacks():
            raise SystemExit(missing)
        with built(work) as (root, told, _):
            took = []
            if given["ask"] == "ready":
                for _ in range(given["times"]):
                    with running(root, told, work) as (_, _, seconds):
                        took.append(seconds)
            value = statistics.median(took) if took else packed(root) if given["ask"] == "packed" else added(root)
    return {
        "value": value, "all": took, "setting": "a linear model of two methods, jax as locked for Python 3.11",
        "versions": {"ml-arsenal": version("ml-arsenal"), "jaxlib": version("jaxlib")},
    }  # fmt: skip


def lacks() -> str:
    """What is missing to build an image here; "" for nothing."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "an image is built by root here"
    return "" if sys.version_info[:2] == (3, 11) else "Debian's Python is 3.11, and wheels are fetched by this one"


@contextlib.contextmanager
def built(work: Path) -> Iterator[tuple[Path, dict, Path]]:
    """The root file system of a container of the image, the image's configuration, and the folder of its model."""
    from arsenal_serving.deploy import bill, wheel
    from arsenal_serving.export import Method, export

    (work / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/graph"\nrunroot = "{work}/run"\n')
    env = os.environ | {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_STORAGE_CONF": str(work / "storage.conf")}
    env["STORAGE_DRIVER"] = "vfs"

    def run(*words) -> str:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=env, timeout=900)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words[:3]))}: {done.stdout[-500:]} {done.stderr[-1500:]}")
        return done.stdout.strip()

    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    methods = {"predict": Method(softmax, x), "label": Method(largest, x)}
    model = export(work / "zoo", methods, {"w": x[:4, :3], "b": x[0, :3]}, name="zoo")
    run("debootstrap", "--variant=minbase", PACKAGES, "bookworm", work / "root")
    (work / "root" / "usr" / "bin" / "python").symlink_to("python3")
    (work / "lock").write_text("".join(lines for _, _, lines in bill.blocks(wheel.requirements(), "3.11")))
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    run(*fetch, "--only-binary", ":all:", "-r", work / "lock", "-d", work / "wheels")
    base = run("buildah", "from", "scratch")
    run("buildah", "copy", "--quiet", base, work / "root", "/")
    run("buildah", "commit", "--quiet", base, "localhost/base:1")
    options = ["--base", "localhost/base:1", "--base-by-tag", "--wheels", work / "wheels", "--builder-option=--isolation=chroot"]
    verb = [sys.executable, "-m", "arsenal_serving", "image", model, "--build", "buildah"]
    run(*verb, *options, "--into", work / "context")
    told = json.loads(run("buildah", "inspect", "--type", "image", "localhost/arsenal-zoo:1"))["OCIv1"]["config"]
    container = run("buildah", "from", "localhost/arsenal-zoo:1")
    try:
        yield Path(run("buildah", "mount", container)), told, model
    finally:
        for words in (["umount", "--all"], ["rm", "--all"], ["rmi", "--all", "--force"]):
            subprocess.run(["buildah", *words], env=env, capture_output=True)


def softmax(params, x):
    """The model."""
    import jax

    return jax.nn.softmax(x @ params["w"] + params["b"])


def largest(params, x):
    """Its likeliest class."""
    return softmax(params, x).argmax(-1)


@contextlib.contextmanager
def running(root: Path, told: dict, work: Path) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """The image's own command on a read-only root, once it is ready: its process, URL, and the seconds that took."""
    (work / "shut.sh").write_text(SHUT)
    chroot = [shutil.which("chroot") or "/usr/sbin/chroot", "--userspec=65532:65532", root, "arsenal-serve"]
    served = [*chroot, *told["Cmd"]]
    served[served.index("--port") + 1], served[served.index("--admin-port") + 1] = str(PORT), str(PORT + 1)
    words = ["unshare", "--mount", "bash", work / "shut.sh", root, *told["Env"], *served]
    url, began = f"http://127.0.0.1:{PORT}", time.monotonic()
    with open(work / "log", "w") as log, subprocess.Popen(list(map(str, words)), stdout=log, stderr=log) as process:
        try:
            while not is_ready(url):
                if process.poll() is not None or time.monotonic() > began + 120:
                    raise RuntimeError((work / "log").read_text()[-2000:])
                time.sleep(0.02)
            yield process, url, time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)


def is_ready(url: str) -> bool:
    """Whether a server is."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def added(root: Path) -> float:
    """MB of the files that lie on the base."""
    parts = [root / "opt" / "arsenal", root / "models"]
    return sum(path.lstat().st_size for part in parts for path in part.rglob("*") if not path.is_dir()) / 1e6


def packed(root: Path) -> float:
    """MB of them as a layer that was compressed as a registry's are."""
    tar = subprocess.Popen(["tar", "-cf", "-", "-C", root, "opt/arsenal", "models"], stdout=subprocess.PIPE)
    count = subprocess.run(["sh", "-c", "gzip -6 | wc -c"], stdin=tar.stdout, capture_output=True, text=True, check=True)
    tar.wait()
    return int(count.stdout) / 1e6


if __name__ == "__main__":
    print(json.dumps(main({"ask": "ready", "times": 5} | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
