"""Memory and speed of a run on a memory-mapped file that does not fit: random rows of it, through the whole road.

Anonymous memory is what the process holds itself (RssAnon in /proc/self/status), as against pages of the file that the
system may drop at any time. A thread reads it twenty times a second.
"""

import json
import statistics
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np

WIDTH = 256
"""Numbers in a row: 1 KB."""


def anonymous() -> float:
    """The process's anonymous memory now, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


def write(folder: Path, size: int) -> None:
    """x.npy of about `size` bytes and y.npy, every byte of them written: rows of noise around one of ten means."""
    n, rng = size // (4 * WIDTH), np.random.default_rng(0)
    means = rng.normal(size=(10, WIDTH)).astype(np.float32)
    y = rng.integers(0, 10, n)
    np.save(folder / "y.npy", y)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (n, WIDTH))
    noise = rng.normal(size=(4096, WIDTH)).astype(np.float32)
    for begin in range(0, n, len(noise)):
        part = y[begin : begin + len(noise)]
        x[begin : begin + len(noise)] = means[part] + noise[: len(part)]
    x.flush()


def main(given: dict) -> dict:
    """Write the file, train, and say the peak of anonymous memory, from the first import to the last step."""
    peak, done = [anonymous()], threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous())

    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "data"
        folder.mkdir()
        write(folder, given["bytes"])
        watcher = threading.Thread(target=watch)
        watcher.start()
        from arsenal.road import compose, fit

        words = [
            "data=memmap", f"data.path={folder}", f"run.root={root}", f"length={given['steps']} steps", "batch_size=256",
            "split.validation=0.01", "split.test=0.01", "~features.scale", "every.log=20 steps",
        ]  # fmt: skip
        run = fit(compose("digits_mlp", [*words, "+features.standardize={_target_: arsenal.features.standardize}"]))
        history = run.history
        done.set()
        watcher.join()
        size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    rates = [event["values"]["steps_per_second"] for event in history if "steps_per_second" in event["values"]]
    accuracy = next(event["values"]["accuracy"] for event in reversed(history) if event["kind"] == "validation")
    return {
        "value": max(peak[0], anonymous()) / 1e9,
        "setting": f"{size / 1e9:.1f} GB on disk, {given['steps']} steps of 256 random rows of 1 KB, evaluated and saved; "
        f"{statistics.median(rates):,.0f} steps/s, validation accuracy {accuracy:.3f}",
        "versions": {name: version(name) for name in ("jax", "numpy")},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
