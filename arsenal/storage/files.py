"""Files that are either the old or the new, never half of one."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from arsenal_serving.files import replace_file

from arsenal.refusal import Refusal


class Damaged(Refusal, ValueError):
    """A file of ours does not hold what we write there: it was cut off or edited."""

    def __init__(self, path: Path, why: object):
        """`why` is what the reader said."""
        said = " ".join(str(why).split()) or type(why).__name__
        super().__init__(f"{path} is damaged ({said}); bring it back from a copy, or begin the run anew with fresh=true.")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file in one move, after its bytes have reached the disk."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, of the text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As `write_text`, of the value as indented JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in the file; `Damaged` where it holds none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(path, error) from error


def to_json(value: Any) -> Any:
    """The value as JSON has it: arrays are lists, and numbers that are not finite None."""
    if isinstance(value, dict):
        return {str(key): to_json(one) for key, one in value.items()}
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache() -> Path | None:
    """The folder of this user's that holds what can be made again; None for a user who has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arsenal"
    except RuntimeError:
        return None
