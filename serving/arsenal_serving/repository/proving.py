"""A version proven in a child process before a running server reads its programs, and the compile cache of the two.

A program is read by C++ that may end the process that reads it: `python -m arsenal_serving.repository.proving` checks
sums and golden answers and compiles every size under limits of its own, and what dies is the child. What it compiled
lies in jax's persistent cache, https://docs.jax.dev/en/latest/persistent_compilation_cache.html, for the server.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from arsenal_serving import __version__, compile_cache
from arsenal_serving.refused import Refused, show


class Proving(NamedTuple):
    """How versions are proven. cache: None where there is none. seconds, memory (bytes): what a child may take."""

    cache: Path | None
    seconds: float
    memory: int


def options(parser: argparse.ArgumentParser) -> None:
    """The command's options for proving."""
    group = parser.add_argument_group("proving", "a new version in a folder of models is proven in a child process")
    group.add_argument(
        "--cache", metavar="FOLDER", help="of compiled programs (default: arsenal-serving in XDG_CACHE_HOME, ~/.cache)"
    )
    group.add_argument("--prove-seconds", type=float, default=600.0, metavar="S", help="at most (default: %(default)s)")
    group.add_argument("--prove-memory", type=int, metavar="MIB", help="at most (default: the machine's)")


def proving(given: argparse.Namespace) -> Proving:
    """What the options say; a cache that was named must be writable, raises `Refused`; without one it is said."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arsenal-serving"
    folder: Path | None = Path(given.cache or default)
    for name, least in (("prove_seconds", 0), ("prove_memory", 0)):
        if (value := getattr(given, name)) is not None and not value > least:
            raise Refused(f"`--{name.replace('_', '-')}` must be above {least}; got {value}.")
    try:
        for inner in ("jax", "proven"):
            (folder / inner).mkdir(mode=0o700, parents=True, exist_ok=True)  # type: ignore[operator]
            with tempfile.TemporaryFile(dir=folder / inner):  # type: ignore[operator]
                pass
    except OSError as error:
        why = f"the cache {folder} cannot be written: {error.strerror}"
        if given.cache:
            raise Refused(f"{why}.") from error
        sys.stderr.write(f"arsenal-serve: {why}; programs are compiled anew, name another with --cache.\n")
        folder = None
    return Proving(folder, given.prove_seconds, given.prove_memory << 20 if given.prove_memory else _machine())


def use_cache(folder: Path | None) -> None:
    """Keep what is compiled, however small: a swap is short only if nothing is left to compile."""
    cache = compile_cache.plant(folder and folder / "jax")
    if cache is not None:
        compile_cache.use(cache)


def prove(folder: Path, digest: str, how: dict[str, Any], limits: Proving) -> None:
    """Prove a version in a child process, unless it was here before; raises `Refused` with the child's last words.

    digest: of its sums, which the child must have found too. how: `max_batch`, `max_rows` and `form`, as of `load`.
    """
    if limits.cache is None:
        _child(folder, digest, how, limits)
        return
    mark = limits.cache / "proven" / _mark(digest, how)
    if not mark.exists():
        with FileLock(limits.cache / "proven" / ".lock"):  # of several servers one proves, and the others see its mark
            if not mark.exists():
                _child(folder, digest, how, limits)
                mark.touch()


_running: set[subprocess.Popen] = set()


def end() -> None:
    """Stop the children of this process: it ends, and who waits for them is told that they were killed."""
    for child in list(_running):
        child.kill()


def _child(folder: Path, digest: str, how: dict[str, Any], limits: Proving) -> None:
    asked = {"folder": os.path.abspath(folder), "how": how, "memory": limits.memory}
    asked["cache"] = None if limits.cache is None else os.path.abspath(limits.cache)
    command = [sys.executable, "-m", "arsenal_serving.repository.proving", json.dumps(asked)]
    # The server may have taken most of an accelerator's memory: the child takes what it needs as it needs it.
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=env) as child:
            _running.add(child)
            try:
                code: int | None = child.wait(limits.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                child.kill()
                _running.discard(child)
        out.seek(0)
        said = out.read(200).decode(errors="replace").strip()
        err.seek(max(0, err.tell() - 4096))
        lines = [line.strip() for line in err.read().decode(errors="replace").splitlines() if line.strip()]
    words = lines[-1] if lines else ""
    if code == 0 and said == digest:
        return
    if code == 1 and words:
        raise Refused(words)
    if code == 0:
        raise Refused(f"{folder}: it changed while it was proven.")
    how_long = f"did not end within {limits.seconds:g} s and was stopped"
    ended = how_long if code is None else f"ended with {_name_ending(code)}"
    raise Refused(f"{folder}: the process that proved it {ended}{f': {show(words, 300)}' if words else '.'}")


def main(argv: Sequence[str] | None = None) -> int:
    """The child: prove the version that the one argument, JSON, describes; prints the digest of its sums."""
    (text,) = sys.argv[1:] if argv is None else argv
    asked = json.loads(text)
    # Whoever started it holds the other end: when the server dies, so does this.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)
    if os.path.exists("/proc/self/oom_score_adj"):
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather than the server
    import jax

    from arsenal_serving import model
    from arsenal_serving.artifact import folder as artifact

    use_cache(asked["cache"] and Path(asked["cache"]))
    jax.devices()
    _limit(asked["memory"])
    folder = Path(asked["folder"])
    try:
        held = artifact.open_version(folder)
        model.make(folder, held.files, **asked["how"]).warm()
    except (Refused, OSError, MemoryError) as error:
        words = " ".join(str(error).split()) or f"{folder}: it needs more than {asked['memory'] >> 20} MiB."
        sys.stderr.write(f"\n{words}\n")
        return 1
    sys.stdout.write(f"{held.digest}\n")
    return 0


def _mark(digest: str, how: dict[str, Any]) -> str:
    import jax
    import jaxlib

    from arsenal_serving.artifact.program import platform

    told = [digest, how, __version__, jax.__version__, jaxlib.__version__, platform(), jax.config.jax_enable_x64]  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _name_ending(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit status {code}"


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 40


def _limit(memory: int) -> None:
    """Allow so many bytes beyond what the process has taken already, where the system can say so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    status = Path("/proc/self/status")
    if status.exists() and hasattr(resource, "RLIMIT_DATA"):
        taken = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line[:6] == "VmData")
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = taken + memory if hard == resource.RLIM_INFINITY else min(taken + memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


if __name__ == "__main__":
    # Not `sys.exit`: jax's threads may outlive what was loaded, and this process has said all.
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
