"""Takes out of an environment what a server never reads: tests, headers, type stubs, and the symbols of shared objects.

Run while an image is built, `python -m arsenal_serving.deploy.slim ROOT`; the server is then started once, so that what
lacks something that it needs is no image. Of jaxlib 0.10 the names of local functions alone are 108 of 350 MB.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDERS = {"tests", "test", "include", "__pycache__"}
KINDS = {".pyi", ".h", ".hpp", ".pxd", ".a", ".pyx", ".c"}
PARTS = {"scipy": {"_lib", "linalg"}}
"""Of scipy a server needs what jaxlib takes LAPACK from: 80 MB are the rest."""
LOAD = 1  # PT_LOAD
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")


def shorten(content: bytes) -> bytes:
    """A shared object as it is mapped into memory, without sections, which only linkers and debuggers read.

    ELF, 64 bits, little-endian (System V ABI, chapter 4); anything else comes back as it was.
    """
    if content[:6] != b"\x7fELF\x02\x01" or len(content) < HEADER.size:
        return content
    head = list(HEADER.unpack_from(content))
    first, size, count = head[5], head[9], head[10]
    end = HEADER.size
    for at in range(first, first + size * count, size):
        kind, _, offset, _, _, stored, _, _ = SEGMENT.unpack_from(content, at)
        if kind == LOAD:
            end = max(end, offset + stored)
    if not end < len(content):
        return content
    head[6], head[12], head[13] = 0, 0, 0  # e_shoff, e_shnum, e_shstrndx
    return HEADER.pack(*head) + content[HEADER.size : end]


def slim(root: Path) -> int:
    """Take out what is never read below `root`; how many bytes that was."""
    before = _size(root)
    for folder in [path for path in root.rglob("*") if path.name in FOLDERS and path.is_dir()]:
        shutil.rmtree(folder, ignore_errors=True)
    for package, kept in PARTS.items():
        for folder in [path for path in root.glob(f"**/site-packages/{package}/*") if path.is_dir()]:
            if folder.name not in kept:
                shutil.rmtree(folder)
    for path in [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]:
        if path.suffix in KINDS:
            path.unlink()
        elif ".so" in path.suffixes:
            content = path.read_bytes()
            if len(short := shorten(content)) < len(content):
                path.write_bytes(short)
    return before - _size(root)


def _size(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())


def main(words: Sequence[str] | None = None) -> int:
    """Slim the environment at the one argument, and say by how much."""
    (root,) = sys.argv[1:] if words is None else words
    sys.stdout.write(f"{slim(Path(root)) / 1e6:.0f} MB taken out of {root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
