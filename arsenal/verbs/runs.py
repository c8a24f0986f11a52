"""`arsenal runs list|show|compare|…`: what runs there are, what one did, how several differ, to and from other trackers, away."""

import glob
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arsenal.cli import as_count
from arsenal.nested import flatten
from arsenal.runs import events, folder, index, query, table
from arsenal.runs.folder import RunError
from arsenal.runs.journal import of_learning
from arsenal.runs.notes import FILE, add_note, notes
from arsenal.storage.files import read_json

ALWAYS = ("folder", "state", "step", "time")
METRICS_SHOWN = 5


def list_runs(
    root: str = "experiments",
    name: str | None = None,
    state: str | None = None,
    where: str | None = None,
    sort: str = "-time",
    columns: str | None = None,
    limit: str | None = None,
    format: str = "table",
) -> None:
    """List the runs below a folder, newest first.

    root: the folder of runs. name: of experiments, with * and ?. state: running, complete, interrupted, failed, killed,
    half-written or damaged. where: conditions joined by ` and `, as in
    where="test/accuracy>0.97 and config.optimizer.learning_rate<1e-3"; keys are name, state, step, length, time,
    SPLIT/METRIC and config.PATH. sort: a key, falling after a minus. columns: keys, with commas. limit: how many.
    format: table, json or csv.
    """  # fmt: skip
    if format not in table.FORMATS:
        raise RunError(f"`format` must be one of {', '.join(table.FORMATS)}; got {format!r}.")
    most = None if limit is None else as_count("limit", limit, 0)
    conditions = query.conditions(where) if where else []
    with index.open_index(Path(root)) as base:
        runs = index.select_runs(base, name, state, conditions, sort)[:most]
        there = index.known_keys(base)
        if columns:
            keys = [query.check_key(key, there, "columns") if runs else key for key in columns.split(",")]
            cells = {key: index.column(base, key, runs) for key in keys}
        else:
            wanted = [*ALWAYS, *(c.key for c in conditions), sort.removeprefix("-"), *table.metrics(there, len(there)), "problem"]
            cells = {key: index.column(base, key, runs) for key in dict.fromkeys(wanted)}
            members = set(runs)
            there = [key for key in cells if key in ALWAYS or not members.isdisjoint(cells[key])]
            few = table.metrics(there, METRICS_SHOWN)
            asked = {sort.removeprefix("-"), *(c.key for c in conditions)}
            keys = [key for key in there if "/" not in key or key in few or key in asked]
    if "folder" in cells:
        cells["folder"] = {run: (None, os.path.join(root, text)) for run, (_, text) in cells["folder"].items()}
    if not runs and format == "table":
        print("No run fits.")
        return
    print(table.FORMATS[format](keys, [[cells[key].get(run) for key in keys] for run in runs]), end="")


def show(run: str) -> None:
    """Show a run: its state, its last numbers, its metrics and checkpoints, how to go on, and its config.

    run: the run's folder.
    """
    path = run_folder(run)
    cells, (told, _) = index.read_run(path), index.read_files(path)
    about = {key: table.cell_text(key, cells[key]) for key in ("state", "step", "length", "time") if key in cells}
    lines = [("state", ": ".join([about["state"], *([cells["problem"][1]] if "problem" in cells else [])]))]
    if "step" in about:
        lines.append(("step", f"{about['step']} of {about.get('length', '?')}, {about.get('time', '')}"))
    log = events.read_events(path / "events.jsonl")
    if (seconds := events.duration(log)) is not None:
        lines.append(("trained for", f"{seconds:.0f} s"))
    if told.get("config.yaml", {}).get("tags"):
        lines.append(("tags", ", ".join(map(str, told["config.yaml"]["tags"]))))
    lines += [("note", text) for text in notes(path)]
    lines += provenance(path)
    last = {e["kind"]: e for e in log if isinstance(e.get("values"), dict)}
    for kind, event in last.items():
        values = {name: table.cell_text(name, index.cell(value)) for name, value in event["values"].items()}
        lines.append((f"last {kind}", f"step {event['step']}: {', '.join(f'{name} {text}' for name, text in values.items())}"))
    expect = told.get("config.yaml", {}).get("expect") or {}
    for key, value in told.get("report/metrics.json", {}).items():
        bounds = [f", must be {'>=' if side == 'min' else '<='} {bound}" for side, bound in expect.get(key, {}).items()]
        lines.append((key, table.cell_text(key, index.cell(value)) + "".join(bounds)))
    lines.append(("checkpoints", ", ".join(str(step) for step in checkpoints(path)) or "none"))
    lines += [("report", str(page)) for page in [path / "report" / "index.html"] if page.is_file()]
    lines.append(("extend" if about["state"] == "complete" else "go on", command(path, about["state"])))
    print(f"{path}\n\n{table.align(lines[0], lines[1:])}")
    if "config.yaml" in told:
        print((path / "config.yaml").read_text(encoding="utf-8"), end="")


def note(run: str, text: str) -> None:
    """Write a line about a run into its folder; `show` and the report tell it.

    run: the run's folder. text: the note.
    """
    path = run_folder(run)
    if not text.strip():
        raise RunError("`text` must say something.")
    add_note(path, text)
    print(f"noted: {path / FILE}")


def provenance(path: Path) -> list[tuple[str, str]]:
    """Where and by what a run was trained last: host, git commit, versions."""
    try:
        about = read_json(path / "environment.json")
        lines = [("host", about["host"])] if "host" in about else []
        if "git" in about:
            lines.append(("git", f"{about['git']['commit'][:12]}, {about['git']['state']}"))
        shown = ("ml-arsenal", "jax", "flax", "optax")
        versions = ", ".join(f"{name} {about['packages'][name]}" for name in shown if name in about["packages"])
        return [*lines, ("versions", f"{versions}, Python {about['python']}")]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # a folder of which this is not known is shown all the same


def checkpoints(path: Path) -> list[int]:
    """The steps of the checkpoints that count."""
    names = [marker.parent.name for marker in path.glob("checkpoints/*/commit.json")]
    return sorted(int(name) for name in names if name.isdecimal())


def command(path: Path, state: str) -> str:
    """What to type for the run to go on."""
    try:
        overrides = (path / "overrides.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown: there is no overrides.txt"
    words = [word for word in overrides if not (state == "complete" and word.startswith("length="))]
    return shlex.join(["arsenal", "train", *words]) + (' length="..."' if state == "complete" else "")


def run_folder(text: str) -> Path:
    """The run folder by this path, or a `RunError`."""
    path = Path(text)
    if not index.is_run(path):
        raise RunError(f"{path} is not a run folder." if path.exists() else f"There is no run folder {path}.")
    return path


def run_folders(runs: str) -> list[Path]:
    """Run folders by paths with commas between them; a path may be a pattern with * and ?."""
    found: list[Path] = []
    for text in runs.split(","):
        if not glob.has_magic(text):
            found.append(run_folder(text))
            continue
        # A pattern also fits what lies beside runs, as the folder of sweeps.
        paths = [path for path in map(Path, sorted(glob.glob(text))) if index.is_run(path)]
        if not paths:
            raise RunError(f"`runs`: no run folder fits {text}.")
        found += paths
    return list({path.resolve(): path for path in found}.values())


def compare(runs: str, to: str = "compare.html", paired: str | None = None) -> None:
    """Compare runs: where their configs differ and what they reached, here and on a page with their curves.

    runs: run folders with commas between them, or a pattern with * and ?. to: the page. paired: true answers the test rows by
    each and tests the first against every other on the same rows, p-values by Holm, which takes seconds a run; of two runs true
    unless given.
    """
    if paired not in (None, "true", "false"):
        raise RunError(f"`paired` must be true or false; got {paired!r}.")
    from arsenal.evaluation.comparison import best, differences, letters, metric_rows, paired_lines, write_comparison

    paths = run_folders(runs)
    if len(paths) < 2:
        raise RunError(f"`runs` must name two runs or more; got {runs}.")
    compared = [read_compared(path) for path in paths]
    marks = best(compared)
    rows = [[key, *values] for key, values in differences(compared).items()]
    for key, values in metric_rows(compared).items():
        good = marks.get(key, [False] * len(values))
        rows.append([key, *(text + "*" * mark for text, mark in zip(values, good, strict=True))])
    columns = letters(compared)
    print("\n".join(f"{letter}  {run.folder}" for letter, run in zip(columns, compared, strict=True)) + "\n")
    print(table.align(["", *columns], rows, range(1, len(columns) + 1)))
    asked = len(paths) == 2 if paired is None else paired == "true"
    pairs = compare_pairs(columns, paths) if asked else []
    several = sum(not isinstance(found, str) for _, found in pairs)
    for names, found in pairs:
        if isinstance(found, str):
            print(f"{' and '.join(names)} are not compared row by row: {found}")
        else:
            print(f"{' less '.join(names)} on the same {found.rows:,.0f} {found.split} rows, 95 % intervals")
            heads = ["", *names, "difference", "p", "test", ""]
            print(table.align(heads, paired_lines(names, found), range(1, 5)))
    if several > 1:
        print(f"p is corrected for {several} pairs (Holm, each metric and test by itself); intervals are those of one pair.")
    write_comparison(Path(to), compared, pairs)
    print(f"page: {to}")


def compare_pairs(names: list[str], paths: list[Path]) -> list[Any]:
    """The first run with every other, by their letters, with p-values that hold for all pairs together."""
    from arsenal.evaluation.paired import correct_pairs

    found = [compare_pair(paths[0], other) for other in paths[1:]]
    corrected = iter(correct_pairs([one for one in found if not isinstance(one, str)]))
    return [
        ((names[0], name), one if isinstance(one, str) else next(corrected))
        for name, one in zip(names[1:], found, strict=True)
    ]


def compare_pair(one: Path, other: Path) -> Any:
    """Two runs on the same rows, or in words why they are not compared."""
    from arsenal.refusal import Refusal
    from arsenal.road import compare_rows
    from arsenal.run import load

    try:
        return compare_rows(load(one), load(other))
    except (Refusal, ValueError, OSError) as error:
        return " ".join(str(error).split())


def read_compared(path: Path) -> Any:
    """A run's settings, its metrics or, where it was not evaluated, its last logged numbers, and its history."""
    from arsenal.evaluation.comparison import ComparedRun

    told, _ = index.read_files(path)
    log = events.read_events(path / "events.jsonl")
    logged = [event for event in log if isinstance(event.get("values"), dict)]
    history = [{"step": e["step"], "split": e["kind"], "values": learning_values(e["values"])} for e in logged]
    last = {f"{row['split']}/{name}": value for row in history for name, value in row["values"].items()}
    config = {key: index.cell(value)[1] for key, value in flatten(told.get("config.yaml", {}))}
    modes = next((event.get("modes", {}) for event in reversed(log) if event["kind"] == "start"), {})
    metrics = last | told.get("report/metrics.json", {})
    return ComparedRun(str(path), index.read_run(path)["state"][1], config, metrics, history, modes)


def learning_values(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers that tell of learning."""
    return {name: value for name, value in of_learning(values).items() if index.cell(value)[0] is not None}


def rm(
    runs: str | None = None,
    where: str | None = None,
    name: str | None = None,
    state: str | None = None,
    root: str = "experiments",
    yes: str = "false",
) -> None:
    """Say which runs would go, and remove them with yes=true; a run that a process holds is refused.

    runs: run folders with commas between them, or a pattern with * and ?. where, name, state and root choose as in `list`.
    """  # fmt: skip
    if yes not in ("true", "false"):
        raise RunError(f"`yes` must be true or false; got {yes!r}.")
    if (runs is None) == (where is None and name is None and state is None):
        raise RunError("`rm` needs runs=..., or else where=..., name=... or state=....")
    if runs is not None:
        paths = run_folders(runs)
    else:
        with index.open_index(Path(root)) as base:
            names = index.column(base, "folder")
            chosen = index.select_runs(base, name, state, query.conditions(where) if where else [])
            paths = [Path(root) / names[run][1] for run in chosen]
    if not paths:
        print("No run fits.")
        return
    if yes == "false":
        for path in paths:
            print(f"{path}  {table.cell_text('state', index.read_run(path)['state'])}, {megabytes(path):.1f} MB")
        print(f"{len(paths)} run{'s' * (len(paths) > 1)} would go; yes=true removes {'them' if len(paths) > 1 else 'it'}.")
        return
    for path in paths:  # all of them before the first goes
        with folder.lock(path):
            pass
    for path in paths:
        with folder.lock(path):
            shutil.rmtree(path)
        print(f"removed {path}")


def megabytes(path: Path) -> float:
    """What a folder's files hold."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6


def track(runs: str, to: str, address: str | None = None, project: str | None = None) -> None:
    """Tell runs to another tracker, whole or what it missed, their report and metrics too.

    runs: run folders with commas between them, or a pattern with * and ?. to: mlflow, wandb, trackio or aim. address: MLflow's
    server, Aim's repository, a Space for Trackio, online or offline for wandb. project: what runs are kept under, their name
    unless given.
    """  # fmt: skip
    from arsenal.runs.trackers import TRACKERS, tell_all

    if to not in TRACKERS:
        raise RunError(f"`to` must be one of {', '.join(TRACKERS)}; got {to!r}.")
    for path in run_folders(runs):
        told, lines = tell_all(path, to, address, project)
        print(f"{path}: {to} was told {lines} line{'s' * (lines != 1)} of its log, as {told}")


def import_runs(source: str, root: str = "experiments") -> None:
    """Make run folders of another tracker's runs: they are listed, shown and compared as any other, and answer nothing.

    source: MLflow's folder, such as mlruns, or its database, mlflow.db, or the folder of what Neptune's exporter wrote.
    root: the folder of runs.
    """
    from arsenal.runs.imports import import_all

    found = list(import_all(Path(source).expanduser(), Path(root)))
    for path, new in found:
        print(f"{path}{'' if new else '  was there already'}")
    if not found:
        print(f"{source} holds no run.")


VERBS: dict[str, Callable[..., None]] = {
    "list": list_runs, "show": show, "compare": compare, "note": note, "track": track, "import": import_runs, "rm": rm,
}  # fmt: skip
