"""`data.json`: which data a run read, by content, by version where it was one, and by file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arsenal.storage.files import Damaged, read_json, write_json

if TYPE_CHECKING:  # it loads JAX
    from arsenal.data.dataset import Dataset

FILE = "data.json"
FILES = 1000
"""Files of the data that are named."""


def write_data(path: Path, data: "Dataset", versions: Sequence[str]) -> None:
    """Write the data's fingerprint, the versions `NAME@3` that it was read from, and its files with their sums.

    Versions of an earlier time stay: the same bytes by another path are the same run.
    """
    before = read_data(path)
    few = list(data.files.items())[:FILES]
    told = {
        "fingerprint": data.fingerprint, "versions": list(dict.fromkeys([*before["versions"], *versions])),
        "count": len(data.files), "files": [{"path": str(file), "size": one.size, "sha256": one.sha256} for file, one in few],
    }  # fmt: skip
    if told != before:
        write_json(path / FILE, told)


def read_data(path: Path) -> dict[str, Any]:
    """What `data.json` says; of a run that has none, nothing under the same keys."""
    known = path / FILE
    found = read_json(known) if known.is_file() else {"fingerprint": None, "versions": [], "count": 0, "files": []}
    if not isinstance(found, dict) or not isinstance(found.get("versions"), list):
        raise Damaged(known, "it lacks versions")
    return found
