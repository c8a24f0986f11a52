"""Data versions: re-adding a folder whose files are unchanged, `arsenal data add`, the whole process."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_files(folder: Path, count: int) -> None:
    """So many small files, a thousand in a folder, written long ago."""
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number % 1000:03}.txt"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"row {number}\n")
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))


def repeat(command: list[str], folder: str, said: str, times: int) -> list[float]:
    """Seconds of a command, over and over, which must say so."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        found.append(time.perf_counter() - began)
        if done.returncode != 0 or said not in done.stdout + done.stderr:
            raise SystemExit(done.stdout[-1000:] + done.stderr[-1000:])
    return found


def main(given: dict) -> dict:
    """Add `files` files once, and `times` times again."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "rows", given["files"])
        command = [str(Path(sys.executable).parent / "arsenal"), "data", "add", "rows", "rows"]
        (first,) = repeat(command, folder, "rows@1: ", 1)
        again = repeat(command, folder, "rows@1 is unchanged", given["times"])
    seconds = statistics.median(again)
    return {
        "rates": [60 / one for one in again], "versions": {},
        "setting": f"{given['files']:,} files; {seconds:.2f} s again, {first:.1f} s at first",
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
