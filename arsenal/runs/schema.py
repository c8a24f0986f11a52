"""What a run answers about, kept in its folder, so that it answers where its data is not."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Schema
from arsenal.records import Batch
from arsenal.runs.folder import RunError
from arsenal.storage.files import Damaged, read_json, write_json

EXAMPLES = 8
"""Rows kept: they give shapes, and the artifact its golden answers."""


def write_schema(path: Path, schema: Schema, training: Batch, examples: Batch) -> None:
    """Write `schema.json` and, with the first few of `examples`, `examples.npz`; `training` are the rows of the fit."""
    write_json(path / "schema.json", {
        "inputs": {name: field._asdict() for name, field in schema.inputs.items()},
        "target": schema.target._asdict(), "codecs": schema.codecs, "tokenizer": schema.tokenizer,
        "table": schema.table, "marks": list(schema.marks), "template": schema.template, "rows": len(training.weight),
    })  # fmt: skip
    flat = {}
    for name, part in jax.tree.map(lambda v: v[:EXAMPLES], examples)._asdict().items():
        if isinstance(part, dict):
            flat |= {f"{name}.{key}": value for key, value in part.items()}
        elif part is not None and not isinstance(part, tuple):
            flat[name] = part
    np.savez(path / "examples.npz", **flat)


def read_schema(path: Path) -> tuple[Schema, Batch, int]:
    """The schema, the example rows, and how many rows the transforms were fitted on."""
    try:
        found = read_json(path / "schema.json")
        with np.load(path / "examples.npz", allow_pickle=False) as stored:
            flat = dict(stored)
    except FileNotFoundError as error:
        raise RunError(f"{path} has no {Path(error.filename).name}: nothing was trained there yet.") from error
    except Damaged:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Damaged(path / "examples.npz", error) from error

    def part(name: str) -> Any:
        nested = {key.partition(".")[2]: value for key, value in flat.items() if key.startswith(f"{name}.")}
        return nested or flat.get(name)

    aux = part("aux")
    try:
        inputs = {n: Tensor(**f) for n, f in found["inputs"].items()}
        more = (found.get("tokenizer", {}), found.get("table", {}), tuple(found.get("marks", ())), found.get("template", {}))
        schema, n = Schema(inputs, Tensor(**found["target"]), found["codecs"], *more), int(found["rows"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(path / "schema.json", f"{type(error).__name__}: {error}") from error
    return schema, Batch(part("x"), part("y"), part("weight"), part("row"), () if aux is None else aux), n
