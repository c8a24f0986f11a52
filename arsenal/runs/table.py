"""Runs as a table to read, as JSON and as CSV."""

import csv
import datetime
import io
import json
from collections.abc import Callable, Iterable, Sequence

from arsenal.runs.journal import MACHINE
from arsenal.runs.query import Cell

Lines = Sequence[Sequence[Cell | None]]


def metrics(keys: Iterable[str], most: int) -> list[str]:
    """The metrics to show of these keys: those of test; where there are none, of validation, and then of training.

    >>> metrics(["validation/loss", "test/accuracy", "step", "test/loss"], 5)
    ['test/accuracy', 'test/loss']
    """
    keys = list(keys)
    for split in ("test", "validation", "train"):
        found = sorted(key for key in keys if key.startswith(f"{split}/") and key.partition("/")[2] not in MACHINE)
        if found:
            return found[:most]
    return []


def cell_text(key: str, cell: Cell | None) -> str:
    """A value in few characters; of a population, the median and the range.

    >>> [cell_text("", cell) for cell in [(0.98123456, "0.98123456"), (500.0, "500"), (2.0, "[1.0, 2.0, 4.0]"), None]]
    ['0.9812', '500', '2 (1 to 4)', '-']
    """
    if cell is None:
        return "-"
    number, text = cell
    if key == "time" and number is not None:
        return datetime.datetime.fromtimestamp(number).strftime("%Y-%m-%d %H:%M")
    if number is not None and text.startswith("["):
        parts = json.loads(text)
        return f"{number:.4g} ({min(parts):.4g} to {max(parts):.4g})" if len(parts) > 1 else f"{number:.4g}"
    return f"{number:.4g}" if number is not None and not text.lstrip("-").isdecimal() else " ".join(text.split())


def align(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns of equal width with two blanks between them; the columns in `right` end together."""
    if not rows:
        return ""
    right, rows = set(right), [head, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths))
    return "".join(f"{form.format(*row).rstrip()}\n" for row in rows)


def as_table(keys: Sequence[str], lines: Lines) -> str:
    """Aligned columns under their keys, config.PATH by its end; nothing where there is no run."""
    head = [key.removeprefix("config.") for key in keys]
    numeric = {i for line in lines for i, cell in enumerate(line) if cell and cell[0] is not None}
    right = [i for i in numeric if keys[i] != "time"]
    return align(head, [[cell_text(key, cell) for key, cell in zip(keys, line, strict=True)] for line in lines], right)


def value(cell: Cell | None) -> object:
    """The value as JSON has it."""
    if cell is None:
        return None
    return cell[1] if cell[0] is None and cell[1][:1] not in ("[", "{") and cell[1] not in WORDS else json.loads(cell[1])


def as_json(keys: Sequence[str], lines: Lines) -> str:
    """A list of objects."""
    return json.dumps([{k: value(c) for k, c in zip(keys, line, strict=True)} for line in lines], indent=1) + "\n"


def as_csv(keys: Sequence[str], lines: Lines) -> str:
    """A line for each run under a line of keys; what a run does not have is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows(["" if cell is None else cell[1] for cell in line] for line in lines)
    return text.getvalue()


WORDS = ("true", "false", "null")
FORMATS: dict[str, Callable[[Sequence[str], Lines], str]] = {"table": as_table, "json": as_json, "csv": as_csv}
