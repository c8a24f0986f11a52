"""The wheel of the server that runs here, packed again from what is installed: no index and no build tool is asked.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from io import BytesIO
from pathlib import Path

import arsenal_serving
from arsenal_serving.refused import Refused

PROJECT = "ml-arsenal-serving"
TAGS = "py3-none-any"
KEPT = ("METADATA", "WHEEL", "entry_points.txt")


LOCKS = {"cpu": "requirements.lock", "cuda": "requirements-cuda.lock"}


def requirements(accelerator: str = "cpu") -> str:
    """The lock of the server's dependencies, with hashes: package data, or beside a source tree's pyproject.toml."""
    here = Path(__file__).parent / LOCKS[accelerator]
    return (here if here.exists() else Path(__file__).parents[2] / LOCKS[accelerator]).read_text()


def pack() -> tuple[str, bytes]:
    """The name and the bytes of the wheel; raises `Refused` where the server is not installed."""
    try:
        told = metadata.distribution(PROJECT)
    except metadata.PackageNotFoundError as error:
        raise Refused(f"{PROJECT} is not installed here, so that its wheel cannot be packed.") from error
    named = f"{PROJECT.replace('-', '_')}-{arsenal_serving.__version__}"
    inside: dict[str, bytes] = {}
    root = Path(arsenal_serving.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            inside[f"arsenal_serving/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    inside |= {f"arsenal_serving/deploy/{file}": requirements(name).encode() for name, file in LOCKS.items()}
    for file in KEPT:
        if text := told.read_text(file):
            inside[f"{named}.dist-info/{file}"] = text.encode()
    record = f"{named}.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in inside.items()]
    inside[record] = "".join([*lines, f"{record},,\n"]).encode()
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, content in inside.items():
            entry = zipfile.ZipInfo(inner, (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return f"{named}-{TAGS}.whl", whole.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
