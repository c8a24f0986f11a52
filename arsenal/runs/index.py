"""An index of run folders in SQLite, to list ten thousand at once; the folders are the truth, it is rebuilt at will."""

import contextlib
import fcntl
import fnmatch
import json
import os
import re
import socket
import sqlite3
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from arsenal.nested import flatten
from arsenal.runs import events
from arsenal.runs.folder import RunError
from arsenal.runs.query import Cell, Condition, check_key

FILE = ".index.sqlite"
READ = ("status.json", "config.yaml", "report/metrics.json")
"""What the index holds of a run; it is read again when the time of one of these changed."""
ABOUT = ("status.json", "config.yaml", "identity.json")
FORMAT = 1
TAIL = 1 << 16
"""Bytes of the log's end in which the last numbers are looked for."""
DEEPEST = 10_000
"""Brackets in a file, and characters in a line, up to which YAML is read."""
FEW = 1000
"""Runs up to which a question names each."""
HASH = re.compile(r"[0-9a-f]{12}(\.\d+)?")
TABLES = """
create table run (id integer primary key, folder text unique not null, stamps text not null, state text not null);
create table key (id integer primary key, name text unique not null);
create table cell (key integer, run integer, number real, text text not null, primary key (key, run)) without rowid;
"""


def folders(root: Path) -> dict[str, str]:
    """Run folders below the root, `NAME/HASH` or one level higher, with the times of what the index read of them."""
    if not root.is_dir():
        raise RunError(f"`root` must be a folder of runs; there is none at {root}.")
    found = {}
    for first in subfolders(root):
        if is_run(root / first):
            found[first] = stamps(f"{root}/{first}")
            continue
        for second in subfolders(root / first):
            times = stamps(f"{root}/{first}/{second}")
            if not times.startswith("0 0 ") or is_run(root / first / second):
                found[f"{first}/{second}"] = times
    return found


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, hidden ones left out."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        return [name for name in names if name == replace_surrogates(name)]
    return []


def is_run(path: Path) -> bool:
    """Whether this is a run folder, half-written ones included: those have the name of one and at most the lock."""
    if path.is_symlink() or not path.is_dir():
        return False
    return any((path / name).is_file() for name in ABOUT) or bool(
        HASH.fullmatch(path.name) and {entry.name for entry in path.iterdir()} <= {".lock"}
    )


def stamps(path: str) -> str:
    """The times at which `READ` were written, in nanoseconds; 0 for what is not there."""
    times = []
    for name in READ:
        try:
            times.append(str(os.stat(f"{path}/{name}").st_mtime_ns))
        except OSError:
            times.append("0")
    return " ".join(times)


@contextlib.contextmanager
def open_index(root: Path) -> Iterator[sqlite3.Connection]:
    """The index of the runs below the root as they now are; made anew when it is damaged, in memory when it cannot be kept."""
    found = folders(root)
    try:
        base = update_index(root / FILE, root, found)
    except sqlite3.OperationalError:
        base = update_index(":memory:", root, found)
    except sqlite3.DatabaseError:
        (root / FILE).unlink(missing_ok=True)
        base = update_index(root / FILE, root, found)
    with contextlib.closing(base):
        yield base


def update_index(path: Path | str, root: Path, found: dict[str, str]) -> sqlite3.Connection:
    """The database with its tables, and in them the runs that were found."""
    base = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        base.execute("pragma synchronous = off")
        if is_other(base):
            base.execute("begin immediate")
            if is_other(base):  # still, now that nobody else writes
                for (table,) in base.execute("select name from sqlite_master where type = 'table'").fetchall():
                    base.execute(f"drop table {table}")
                for statement in TABLES.strip().splitlines():
                    base.execute(statement)
                base.execute(f"pragma user_version = {FORMAT}")
            base.execute("commit")
        if any(changes(base, found)):
            base.execute("begin immediate")
            refresh(base, root, found, *changes(base, found))
            base.execute("commit")
    except BaseException:
        base.close()
        raise
    return base


def is_other(base: sqlite3.Connection) -> bool:
    """Whether the database is new or of another version's making."""
    return base.execute("pragma user_version").fetchone()[0] != FORMAT


def changes(base: sqlite3.Connection, found: dict[str, str]) -> tuple[list[str], list[int]]:
    """Folders to read, those of runs under way among them, and the numbers of rows to drop."""
    indexed = {folder: (number, times, state) for number, folder, times, state in base.execute("select * from run")}
    changed = [f for f, times in found.items() if f not in indexed or indexed[f][1] != times or indexed[f][2] == "running"]
    return changed, [indexed[f][0] for f in [*changed, *(indexed.keys() - found.keys())] if f in indexed]


def refresh(base: sqlite3.Connection, root: Path, found: dict[str, str], changed: list[str], stale: list[int]) -> None:
    """Drop the stale rows and read the changed folders."""
    keys = dict(base.execute("select name, id from key"))
    base.executemany("delete from cell where run = ? and key in (select id from key)", [(number,) for number in stale])
    base.executemany("delete from run where id = ?", [(number,) for number in stale])
    for folder in changed:
        cells = read_run(root / folder)
        told = (folder, found[folder], cells["state"][1])
        number = base.execute("insert into run (folder, stamps, state) values (?, ?, ?)", told).lastrowid
        for name in cells.keys() - keys.keys():
            keys[name] = base.execute("insert into key (name) values (?)", (name,)).lastrowid
        base.executemany("insert into cell values (?, ?, ?, ?)", [(keys[name], number, *cell) for name, cell in cells.items()])


def read_files(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What the files of `READ` hold, by name, and which of them cannot be read."""
    told, problems = {}, []
    for name in READ:
        try:
            told[name] = as_mapping((path / name).read_text(encoding="utf-8"), name.endswith("yaml"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            problems.append(f"{name} cannot be read")
    return told, problems


def read_run(path: Path) -> dict[str, Cell]:
    """All that is known of a run, by key; `problem` says what is wrong with its folder."""
    told, problems = read_files(path)
    status = told.get("status.json", {})
    if "status.json" not in told and not problems:
        state, problems = "half-written", ["status.json is missing"]
    elif problems or not isinstance(status.get("state"), str):
        state, problems = "damaged", problems or ["status.json names no state"]
    else:
        state = "killed" if status["state"] == "running" and is_dead(path, status) else status["state"]
        problems += [str(status["error"])] if "error" in status else []
    last = events.read_events(path / "events.jsonl", TAIL)
    cells: dict[str, Cell] = {
        "name": (None, path.parent.name if HASH.fullmatch(path.name) else path.name),
        "state": (None, state),
        **{key: cell(status[key]) for key in ("step", "length", "time") if isinstance(status.get(key), int | float)},
        **({"step": cell(last[-1]["step"])} if last and state in ("running", "killed") else {}),
        **last_numbers(last),
        **{str(key): cell(value) for key, value in told.get("report/metrics.json", {}).items()},
        **{f"config.{key}": cell(value) for key, value in flatten(told.get("config.yaml", {}))},
    }
    return cells | ({"problem": (None, "; ".join(problems))} if problems else {})


def as_mapping(content: str, is_yaml: bool) -> dict[str, Any]:
    """The JSON or YAML mapping; raises ValueError for anything else."""
    if is_yaml:
        import yaml

        # libyaml's composer calls itself for each level, and the process would die of enough of them.
        if content.count("[") + content.count("{") > DEEPEST or max(map(len, content.split("\n"))) > DEEPEST:
            raise ValueError("nested beyond all measure")
        try:
            value = yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    else:
        value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value


def is_dead(path: Path, status: dict[str, Any]) -> bool:
    """Whether a run that says it runs does not: its process is gone, or is another one by the same number."""
    if status.get("host") != socket.gethostname() or not isinstance(status.get("process"), int):
        return False
    try:
        os.kill(status["process"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    try:
        with (path / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def last_numbers(log: list[dict[str, Any]]) -> dict[str, Cell]:
    """The last numbers in the log, `train/loss` and the like."""
    last = {event["kind"]: event["values"] for event in log if isinstance(event.get("values"), dict)}
    return {f"{kind}/{name}": cell(value) for kind, values in last.items() for name, value in values.items()}


def cell(value: Any) -> Cell:
    """The value as a number (the median of a population's) and as text.

    >>> cell(0.5), cell("adam"), cell([3.0, 1.0, 2.0])
    ((0.5, '0.5'), (None, 'adam'), (2.0, '[3.0, 1.0, 2.0]'))
    """
    if isinstance(value, str):
        return None, replace_surrogates(value)
    parts = value if isinstance(value, list) else [value]
    try:
        text = json.dumps(value, default=str)
        numbers = [float(part) for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]
    except (TypeError, OverflowError, RecursionError):  # keys that are no words, a number beyond all measure
        return None, replace_surrogates(str(value))
    return statistics.median(numbers) if numbers and len(numbers) == len(parts) else None, text


def replace_surrogates(text: str) -> str:
    """The text with halves of characters, which no database takes, replaced."""
    return text.encode("utf-8", "replace").decode()


# Questions to an index.


def known_keys(base: sqlite3.Connection) -> list[str]:
    """Every key that some run has; the first is `folder`."""
    used = "select name from key where exists (select 1 from cell where cell.key = key.id) order by id"
    return ["folder", *(name for (name,) in base.execute(used))]


def column(base: sqlite3.Connection, key: str, runs: Sequence[int] | None = None) -> dict[int, Cell]:
    """What the runs, those of the numbers or all, have under a key, by the run's number."""
    if key == "folder":
        return {run: (None, folder) for run, folder in base.execute("select id, folder from run")}
    only = f" and run in ({', '.join(map(str, runs))})" if runs is not None and len(runs) <= FEW else ""
    rows = base.execute(f"select run, number, text from cell where key = (select id from key where name = ?){only}", (key,))
    return {run: (number, text) for run, number, text in rows}


def select_runs(
    base: sqlite3.Connection,
    name: str | None = None,
    state: str | None = None,
    where: Iterable[Condition] = (),
    sort: str = "-time",
) -> list[int]:
    """The numbers of the runs that fit: `name` is a pattern with * and ?, `sort` a key, falling after a minus.

    Runs without the key to sort by come last.
    """  # fmt: skip
    there, where = known_keys(base), list(where)
    runs = [number for (number,) in base.execute("select id from run order by folder")]
    if name is not None:
        names, fits = column(base, "name"), re.compile(fnmatch.translate(name))
        runs = [run for run in runs if fits.match(names[run][1])]
    if state is not None:
        where.append(Condition("state", "=", state))
    for condition in where if runs else ():
        values = column(base, check_key(condition.key, there, "where"))
        runs = [run for run in runs if condition.holds(values.get(run))]
    key, falling = sort.removeprefix("-"), sort.startswith("-")
    if not runs or (key == "time" and key not in there):
        return runs
    values = column(base, check_key(key, there, "sort"))
    with_key = [run for run in runs if run in values]
    with_key.sort(key=lambda run: (values[run][0] is not None, values[run][0] or 0.0, values[run][1]), reverse=falling)
    return with_key + [run for run in runs if run not in values]
