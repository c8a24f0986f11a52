"""What no file of the repository should have: `python scripts/hygiene.py [FILE ...]`, all tracked files unless some are named."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

LARGEST = 600_000
"""Bytes."""
CONFLICT = ("<<<<<<< ", ">>>>>>> ")


def faults(path: Path) -> Iterator[str]:
    """What is wrong with a file."""
    content = path.read_bytes()
    if len(content) > LARGEST:
        yield f"holds {len(content):,} bytes, more than {LARGEST:,}"
    if b"\0" in content:
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return  # a picture, or bytes that a test keeps
    if "\r" in text:
        yield "has carriage returns"
    if text and not text.endswith("\n"):
        yield "has no line break at its end"
    if text.endswith("\n\n"):
        yield "ends in empty lines"
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield f"has blanks at the end of line {number}"
        if line.startswith(CONFLICT):
            yield f"has a conflict in line {number}"
    try:
        if path.suffix in (".yaml", ".yml") and "templates" not in path.parts:  # of Helm
            list(yaml.compose_all(text, yaml.SafeLoader))
        elif path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix in (".json", ".ipynb"):
            json.loads(text)
    except (yaml.YAMLError, ValueError) as error:
        yield f"cannot be read: {str(error).splitlines()[0]}"


def main(names: list[str]) -> int:
    """Name every fault; how many there are."""
    if not names:
        names = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [Path(name) for name in names if name and Path(name).is_file() and "kept" not in Path(name).parts]
    found = [(path, fault) for path in paths for fault in faults(path)]
    for path, fault in found:
        print(f"{path} {fault}")
    return len(found)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
