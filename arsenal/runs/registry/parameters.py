"""What lies in artifacts, for people: how far parameters of two are apart, and what one answers to its golden inputs."""

from pathlib import Path
from typing import Any

import numpy as np

MOST = 20
ROWS, CELLS = 4, 8


def parameter_lines(one: Path, other: Path, most: int = MOST) -> list[tuple[str, str, str, str, str]]:
    """Arrays that both have in one shape and that differ: name, shape, norm, norm of the difference, its share; largest first."""
    before, after = _arrays(one, "parameters"), _arrays(other, "parameters")
    found = []
    for name in before.keys() & after.keys():
        if before[name].shape != after[name].shape or before[name].dtype.kind not in "fV":
            continue
        was, now = (np.asarray(array, np.float64) for array in (before[name], after[name]))
        norm, apart = float(np.linalg.norm(was)), float(np.linalg.norm(now - was))
        if apart > 0:
            found.append((apart / norm if norm else float("inf"), name, was.shape, norm, apart))
    found.sort(key=lambda line: (-line[0], line[1]))
    lines = [
        (name, "x".join(map(str, shape)) or "one number", f"{norm:.4g}", f"{apart:.4g}", f"{share:.1%}" if share < 1e4 else "-")
        for share, name, shape, norm, apart in found[:most]
    ]
    return lines + ([(f"and {len(found) - most} more", "", "", "", "")] if len(found) > most else [])


def golden_lines(artifact: Path) -> dict[str, list[dict[str, Any]]]:
    """The first rows of what each method of an artifact was asked and answered when it was made, as short texts."""
    from arsenal.storage.files import read_json

    manifest = read_json(artifact / "manifest.json")
    kept = _arrays(artifact, "golden")
    found = {}
    for name, method in manifest["methods"].items():
        if method.get("private"):
            continue
        ports = [(way, port["name"]) for way in ("input", "output") for port in method[f"{way}s"]]
        there = [(way, port, kept[f"{name}/{way}/{port}"]) for way, port in ports if f"{name}/{way}/{port}" in kept]
        found[name] = [
            {"way": way, "name": port, "shape": "x".join(map(str, array.shape)), "rows": [_short(row) for row in array[:ROWS]]}
            for way, port, array in there
            if array.ndim
        ]
    return found


def _short(row: np.ndarray) -> str:
    flat = np.ravel(row)
    shown = ", ".join(f"{value:.4g}" if flat.dtype.kind in "fV" else str(value) for value in flat[:CELLS].tolist())
    return shown + (f", … {flat.size} in all" if flat.size > CELLS else "")


def _arrays(artifact: Path, which: str) -> dict[str, np.ndarray]:
    from arsenal_serving.artifact.folder import read_arrays

    return read_arrays((artifact / f"{which}.safetensors").read_bytes(), f"{which}.safetensors")
