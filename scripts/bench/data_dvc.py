"""The same with DVC: `dvc add` of a folder whose files are unchanged, the whole process, without git."""

import json
import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from data_arsenal import repeat, write_files


def main(given: dict) -> dict:
    """Add `files` files once, and `times` times again; its analytics off, its cache by hard links."""
    os.environ |= {"DVC_NO_ANALYTICS": "1", "DVC_TEST": "true"}
    dvc = str(Path(sys.executable).parent / "dvc")
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "rows", given["files"])
        for words in (["init", "--no-scm"], ["config", "core.analytics", "false"], ["config", "core.check_update", "false"]):
            repeat([dvc, *words], folder, "", 1)
        command = [dvc, "add", "--quiet", "rows"]
        (first,) = repeat(command, folder, "", 1)
        again = repeat(command, folder, "", given["times"])
    seconds = statistics.median(again)
    return {
        "rates": [60 / one for one in again], "versions": {"dvc": version("dvc")},
        "setting": f"{given['files']:,} files; {seconds:.2f} s again, {first:.1f} s at first",
    }  # fmt: skip


print(json.dumps(main(json.loads(sys.argv[1]))))
