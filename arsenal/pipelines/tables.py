"""Steps of ready flows: a table is looked at before and after it is answered, and beside an earlier one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from arsenal.data.files import read


class TableRefused(ValueError):
    """A table is not as it must be."""


def check_table(
    table: Path, columns: list[str] = [], least: int = 1, missing: float = 1.0, unique: list[str] = []  # noqa: B006
) -> dict[str, Any]:  # fmt: skip
    """Rows, columns and shares of missing cells of a .csv or .parquet file; an error where it is not as asked.

    columns: that must be there. least: rows. missing: the largest share of missing cells of a column that is asked for, of all
    where none is. unique: columns whose values must differ from row to row.
    """
    frame = read_frame(table)
    if absent := [name for name in columns if name not in frame]:
        raise TableRefused(f"{table} lacks the column {absent[0]}; it has {', '.join(map(str, frame.columns[:20]))}.")
    if len(frame) < least:
        raise TableRefused(f"{table} must have {least:,} rows or more; got {len(frame):,}.")
    shares = {str(name): float(frame[name].isna().mean()) for name in frame.columns}
    for name in columns or shares:
        if shares[name] > missing:
            raise TableRefused(f"{shares[name]:.1%} of column {name} of {table} is missing; allowed is {missing:.1%}.")
    for name in unique:
        if name not in frame:
            raise TableRefused(f"{table} lacks the column {name}, whose values must be unique.")
        if twice := int(frame[name].duplicated().sum()):
            raise TableRefused(f"{twice:,} values of column {name} of {table} are there already; each must be once.")
    return {"rows": len(frame), "columns": [str(name) for name in frame.columns], "missing": shares}


def check_answers(
    table: Path, answers: Path, missing: float = 0.0, before: str | None = None, shift: float = 0.25
) -> dict[str, Any]:
    """Rows of answers and how far they are from earlier ones; an error where they are not an answer to every row of the table.

    missing: the largest share of answers of a column that are no number or text. before: an earlier file of answers, if it is
    there. shift: the largest population stability index of a column against it.
    """
    asked, found = read_frame(table), read_frame(answers)
    if len(asked) != len(found):
        raise TableRefused(f"{answers} has {len(found):,} rows for the {len(asked):,} of {table}.")
    for name in found.columns:
        column = found[name]
        bad = column.isna() | (np.isinf(column) if column.dtype.kind == "f" else False)
        if float(bad.mean()) > missing:
            raise TableRefused(f"{float(bad.mean()):.1%} of the answers {name} are none; allowed is {missing:.1%}.")
    shifts = {}
    if before is not None and Path(before).is_file():
        shifts = {name: one["stability"] for name, one in find_shift(answers, Path(before))["columns"].items()}
        if far := {name: value for name, value in shifts.items() if value > shift}:
            name = max(far, key=lambda one: far[one])
            raise TableRefused(f"The answers {name} moved by {far[name]:.3g} from those of {before}; allowed is {shift:g}.")
    return {"rows": len(found), "shifts": shifts}


def find_shift(table: Path, reference: Path | None = None, columns: list[str] = []) -> dict[str, Any]:  # noqa: B006
    """Which columns of a table are distributed otherwise than in the reference, and how far: Smirnov's test and the PSI.

    columns: to compare; those that both have unless given. Gives `moved`, names, `columns`, by name `stability`, `distance`, `p`
    and `moved`, and `due`, whether any has moved or there is no reference.
    """
    from arsenal.evaluation.drift import find_drift

    if reference is None:
        return {"due": True, "moved": [], "columns": {}}
    new, old = read_frame(table), read_frame(reference)
    names = columns or [str(name) for name in old.columns if name in new]
    if absent := [name for name in names if name not in new or name not in old]:
        raise TableRefused(f"{table if absent[0] not in new else reference} lacks the column {absent[0]}.")
    sides: dict[str, dict[str, np.ndarray]] = {"train": {}, "new": {}}
    for name in names:
        one, other = old[name], new[name]
        numeric = one.dtype.kind in "iufb" and other.dtype.kind in "iufb"
        for side, column in (("train", one), ("new", other)):
            sides[side][name] = column.to_numpy(float) if numeric else column.astype(str).to_numpy(object).astype(str)
    found = find_drift({"train": (sides["train"], np.ones(len(old))), "new": (sides["new"], np.ones(len(new)))})
    told = {
        one.column: {
            "stability": float(one.stability), "distance": float(one.distance), "p": float(one.p_value), "moved": one.moved
        }
        for one in found
    }  # fmt: skip
    moved = [name for name, one in told.items() if one["moved"]]
    return {"due": bool(moved), "moved": moved, "columns": told}


def publish(file: Path, to: str) -> str:
    """Copy a file to where others read it: they see the old one or the new one; returns the path."""
    target = Path(to)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(file, partial)
    partial.replace(target)
    return str(target)


def read_frame(path: Path) -> Any:
    """The table of a file; an error where it holds arrays."""
    found = read(path)
    if isinstance(found, dict):
        raise TableRefused(f"{path} must be a table, .csv or .parquet; it holds arrays.")
    return found
