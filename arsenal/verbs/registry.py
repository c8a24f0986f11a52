"""`arsenal registry add|list|show|alias|rollback|diff|card|rm|verify|rebuild`: models by name, their versions, their aliases."""

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arsenal.cli import as_count, as_truth
from arsenal.runs import index, query, table
from arsenal.runs.registry import Registry, RegistryError, open_registry

ALWAYS = ("name", "version", "aliases", "time")
METRICS_SHOWN = 5
EVENTS_SHOWN = 10
LISTED = ("version", "run", "data", "sweep", "study", "deployment", "report")


def add(
    run: str, name: str | None = None, why: str = "", key: str | None = None, force: str = "false", registry: str | None = None
) -> None:  # fmt: skip
    """Register a run as the next version of a model; one that has no artifact yet is exported first.

    run: the run's folder, or an artifact's. name: the model's; the artifact's own unless given. why: what the history says of it.
    key: the PEM of a private key, Ed25519, that signs the version. force: true though the run misses its `expect`; the event
    tells it. registry: its folder or URL; $ARSENAL_REGISTRY, else registry.
    """  # fmt: skip
    from arsenal_serving.artifact.versions import is_version, locate

    path, opened, forced = Path(run), open_registry(registry), as_truth("force", force)
    if not path.is_dir():
        raise RegistryError(f"`run` must be a run's folder or an artifact's; there is none at {run}.")
    is_run = index.is_run(path) and not is_version(path)
    if is_run and not (path / "artifact").is_dir():
        from arsenal import road
        from arsenal.run import load

        print(f"exported: {road.export(load(path), force=forced)}")
    place = locate(path)
    if is_run:
        warn_of_age(path, place)
    pem = Path(key).read_bytes() if key else None
    called = name or read_manifest(place)["name"]
    before = opened.state(called).versions
    say = lambda said: print(f"  {said}")  # noqa: E731
    number = opened.register(place, called, run=path if is_run else None, why=why, key=pem, listener=say, force=forced)
    if number in before:
        print(f"{called}@{number} is this artifact already")
        return
    print(f"{called}@{number}: {place}")
    if pem is None and (place / "SHA256SUMS.sig").exists():
        print("  its signature was of the artifact's own name and number; key=PEM signs the version")


def warn_of_age(run: Path, artifact: Path) -> None:
    """Say so where a run has learned on since its newest artifact."""
    made, now = read_manifest(artifact).get("provenance", {}).get("step"), index.read_run(run).get("step", (None, ""))[0]
    if made is not None and now is not None and now > made:
        print(f"{artifact} is of step {made}, the run at {now:g}; arsenal export run={run} makes one of what it learned since")


def read_manifest(artifact: Path) -> dict[str, Any]:
    """What an artifact says of itself; its hashes are checked by whoever registers it."""
    from arsenal.storage.files import read_json

    return read_json(artifact / "manifest.json")


def list_nodes(
    name: str | None = None,
    where: str | None = None,
    sort: str = "-time",
    columns: str | None = None,
    limit: str | None = None,
    format: str = "table",
    of: str = "version",
    registry: str | None = None,
) -> None:
    """List the versions of all models, newest first, by what is known of their runs.

    name: of models, with * and ?. where: conditions joined by ` and `, as in where="test/accuracy>0.97 and aliases=champion";
    keys are name, version, aliases, time, who, why, run, SPLIT/METRIC, config.PATH and about.KEY. sort: a key, falling after a
    minus. columns: keys, with commas. limit: how many. format: table, json or csv. of: version, or what else the ledger knows:
    run, data, sweep, study, deployment, report.
    """  # fmt: skip
    from arsenal.runs.registry.ledger import open_ledger

    if format not in table.FORMATS:
        raise RegistryError(f"`format` must be one of {', '.join(table.FORMATS)}; got {format!r}.")
    if of not in LISTED:
        raise RegistryError(f"`of` must be one of {', '.join(LISTED)}; got {of!r}.")
    most = None if limit is None else as_count("limit", limit, 0)
    conditions = query.conditions(where) if where else []
    opened = open_registry(registry)
    opened.check()
    with open_ledger(opened.store) as ledger:
        if name is None:
            nodes = ledger.select(of, conditions, sort, most)
        else:
            import fnmatch

            names = ledger.column(of, "name")
            fits = lambda node: fnmatch.fnmatchcase(names.get(node, (None, ""))[1], name)  # noqa: E731
            nodes = list(filter(fits, ledger.select(of, conditions, sort)))[:most]
        there = ledger.keys(of)
        if columns:
            keys = [query.check_key(key, there, "columns") if nodes else key for key in columns.split(",")]
        else:
            few = table.metrics(there, METRICS_SHOWN)
            keys = [*ALWAYS, *(c.key for c in conditions), *([sort.removeprefix("-")] if nodes else []), *few]
            keys = [key for key in dict.fromkeys(keys) if key in there or key in ("name", "version")]
        cells = {key: ledger.column(of, key, nodes) for key in keys}
    if not nodes and format == "table":
        print("No version fits." if of == "version" else f"No {of} fits.")
        return
    keys = [key for key in keys if columns or any(node in cells[key] for node in nodes)]
    if format == "table" and "aliases" in cells:
        cells["aliases"] = {node: (None, ", ".join(json.loads(text)) or "-") for node, (_, text) in cells["aliases"].items()}
    print(table.FORMATS[format](keys, [[cells[key].get(node) for key in keys] for node in nodes]), end="")


def show(reference: str, /, registry: str | None = None) -> None:
    """Show a model (NAME), a version (NAME@7, NAME@champion), or all that happened to an alias (NAME@champion).

    REFERENCE: NAME, NAME@NUMBER or NAME@ALIAS.
    """
    from arsenal_serving.repository.registry import holders, name_ranges, read_reference

    opened = open_registry(registry)
    name, version = opened.resolve(reference)
    which = read_reference(reference)[1]
    from arsenal.runs.registry.ledger import open_ledger

    with open_ledger(opened.store, name) as ledger:
        told, history = ledger.registered(name, version) or {}, ledger.history(name, which if isinstance(which, str) else None)
    state = opened.state(name)
    if which is None:
        lines = [("versions", ", ".join(name_ranges(state.versions)))]
        lines += [(f"@{alias}", str(number)) for alias, number in sorted(state.aliases.items())]
        lines += [("unfinished", f"version {number}; the same artifact, added again, goes on") for number in state.uploads]
        lines += [(f"served {number}", "; ".join(by)) for number, by in holders(opened.store, f"models/{name}", now()).items()]
        print(f"{name}\n\n{table.align(lines[0], lines[1:])}")
    else:
        head = ("registered", moment(told.get("time")))
        print(f"{name}@{version}\n\n{table.align(head, version_lines(opened, name, version, told))}")
    shown = history if isinstance(which, str) else history[-EVENTS_SHOWN:]
    if len(shown) < len(history):
        print(f"the last {len(shown)} of {len(history)} events")
    if which is None or isinstance(which, str):
        print(table.align(("event", "when", "who", "what"), [event_line(event) for event in shown], [0]), end="")


def version_lines(opened: Registry, name: str, version: int, told: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of a version."""
    from arsenal_serving.repository.registry import holders

    run = told.get("run") or {}
    lines = [("by", told.get("who", "unknown"))]
    lines += [("why", told["why"])] if told.get("why") else []
    aliases = sorted(alias for alias, number in opened.aliases(name).items() if number == version)
    lines += [("aliases", ", ".join(aliases) or "none"), ("place", opened.store.place(f"models/{name}/{version}"))]
    lines += [("digest", told["digest"][:16])] if told.get("digest") else []
    if run.get("folder"):
        gone = "" if run.get("host") != host() or os.path.isdir(run["folder"]) else ", which is not there any more"
        lines.append(("run", f"{run['folder']} on {run['host']}{gone}"))
    lines += [("data", str(run["data"])[:16])] if run.get("data") else []
    lines += [("note", text) for text in told.get("notes", ())]
    lines += [(key, table.cell_text(key, index.cell(value))) for key, value in (told.get("metrics") or {}).items()]
    lines += [(f"served by {who}", "") for who in holders(opened.store, f"models/{name}", now()).get(version, ())]
    return lines


def event_line(event: dict[str, Any]) -> tuple[str, str, str, str]:
    """An event in a line."""
    kind, version, why = event["kind"], event.get("version"), event.get("why")
    if kind == "alias":
        came = "" if event.get("from") is None else f" from {event['from']}"
        what = f"@{event['alias']} {'taken away' if version is None else f'to {version}'}{came}"
        what += ", rolled back" if event.get("rollback") else ""
    else:
        what = f"{kind} {version}" if version is not None else kind
    return str(event["number"]), moment(event["time"]), event["who"], what + (f": {why}" if why else "")


def alias(
    move: str, /, why: str = "", expected: str | None = None, force: str = "false", registry: str | None = None
) -> None:  # fmt: skip
    """Move an alias to a version, NAME@champion=7, or take it away, NAME@champion=; servers that follow it go with it.

    MOVE: NAME@ALIAS=VERSION, the version by number or alias. why: what the history says of it. expected: the version at which the
    alias must be now. force: true though the version's run misses its `expect`; the event tells it.
    """  # fmt: skip
    from arsenal_serving.repository.registry import read_reference

    forced = as_truth("force", force)
    reference, equals, to = move.partition("=")
    name, which = read_reference(reference)
    if not equals or not isinstance(which, str):
        raise RegistryError(f"a move must be NAME@ALIAS=VERSION, and an alias no number; got {move!r}.")
    opened = open_registry(registry)
    version = opened.resolve(f"{name}@{to}")[1] if to else None
    at = None if expected is None else as_count("expected", expected)
    print_move(name, opened.set_alias(name, which, version, why=why, expected=at, force=forced))


def rollback(reference: str, /, why: str = "", registry: str | None = None) -> None:
    """Move an alias back to where it was before its last move; again, and it is where it was before that.

    REFERENCE: NAME@ALIAS. why: what the history says of it.
    """
    from arsenal_serving.repository.registry import read_reference

    name, which = read_reference(reference)
    if not isinstance(which, str):
        raise RegistryError(f"what is rolled back is an alias, NAME@ALIAS; got {reference!r}.")
    print_move(name, open_registry(registry).roll_back(name, which, why=why))


def print_move(name: str, event: dict[str, Any]) -> None:
    """Say where an alias went."""
    was, to = ("nowhere" if number is None else str(number) for number in (event["from"], event["version"]))
    print(f"{name}@{event['alias']}: {was} -> {to}, event {event['number']}")


def diff(one: str, other: str, /, paired: str = "true", registry: str | None = None) -> None:
    """How two versions differ: config, data, parameters, golden answers and metrics, on the same rows where their runs are here.

    ONE, OTHER: NAME@VERSION or NAME@ALIAS. paired: false leaves out the answers to the same rows, which take seconds a run.
    """
    if paired not in ("true", "false"):
        raise RegistryError(f"`paired` must be true or false; got {paired!r}.")
    opened = open_registry(registry)
    found = [opened.resolve(reference) for reference in (one, other)]
    told = [opened.registered(*which) for which in found]
    names = [f"{name}@{version}" for name, version in found]
    print_settings(names, told)
    print_parameters(*(opened.path(*which) for which in found))
    print_metrics(names, told, paired == "true")


def print_settings(names: list[str], told: list[dict[str, Any]]) -> None:
    """Where configs, data and environments differ."""
    from arsenal.evaluation.comparison import ComparedRun, differences
    from arsenal.nested import flatten

    runs = [
        ComparedRun(name, "", {key: index.cell(value)[1] for key, value in flatten(one.get("config") or {})}, {}, [])
        for name, one in zip(names, told, strict=True)
    ]
    rows = [[key, *values] for key, values in differences(runs).items()]
    data = [str((one.get("run") or {}).get("data") or "unknown")[:16] for one in told]
    rows.append(["data", *data] if data[0] != data[1] else ["data", "the same" if data[0] != "unknown" else "unknown", ""])
    for package in sorted({key for one in told for key in ((one.get("environment") or {}).get("packages") or {})}):
        versions = [str(((one.get("environment") or {}).get("packages") or {}).get(package, "-")) for one in told]
        rows += [[package, *versions]] if versions[0] != versions[1] else []
    print(table.align(["", *names], rows))


def print_parameters(one: Path, other: Path) -> None:
    """How parameters and golden answers differ; the second's programs are asked what the first was."""
    from arsenal_serving.cli.verbs import diff as compare
    from arsenal_serving.cli.verbs import tell

    from arsenal.runs.registry.parameters import parameter_lines

    print(tell("diff", compare(str(one), str(other)) | {"provenance_changed": []}))  # settings are told above
    if lines := parameter_lines(one, other):
        print(table.align(("parameter", "shape", "norm", "norm of the difference", "share"), lines, (2, 3, 4)))


def print_metrics(names: list[str], told: list[dict[str, Any]], paired: bool) -> None:
    """Metrics side by side, and the same rows by both where their runs are here and are as they were."""
    from arsenal.evaluation.comparison import ComparedRun, metric_rows, paired_lines
    from arsenal.verbs.runs import compare_pair

    runs = [ComparedRun(name, "", {}, one.get("metrics") or {}, []) for name, one in zip(names, told, strict=True)]
    rows = [[key, *values] for key, values in metric_rows(runs).items()]
    print(table.align(["", *names], rows, (1, 2)) if rows else "no metric is known of either")
    why = next((reason for name, one in zip(names, told, strict=True) if (reason := why_bare(name, one))), "")
    if paired and not why:
        found = compare_pair(*(Path(one["run"]["folder"]) for one in told))
        if isinstance(found, str):
            why = found
        else:
            print(f"{' less '.join(names)} on the same {found.rows:,.0f} {found.split} rows, 95 % intervals")
            lines = paired_lines((names[0], names[1]), found)
            print(table.align(["", *names, "difference", "p", "test", ""], lines, range(1, 5)), end="")
            return
    print(f"these are bare numbers, not compared row by row: {why or 'paired=false'}")


def why_bare(name: str, told: dict[str, Any]) -> str:
    """Why a version's run does not answer for it; nothing where it does."""
    run = told.get("run") or {}
    if not run.get("folder"):
        return f"{name} was registered without its run."
    if run.get("host") != host() or not os.path.isdir(run["folder"]):
        return f"the run of {name}, {run['folder']} on {run['host']}, is not here."
    step = index.read_run(Path(run["folder"])).get("step", (None, ""))[0]
    if run.get("step") is not None and step != run["step"]:
        return f"the run of {name} has gone on from step {run['step']:g} to {step:g}."
    return ""


def card(reference: str, /, to: str = "card.html", file: str | None = None, registry: str | None = None) -> None:
    """Write a version's card, a page for whoever may use it: data, metrics by part of the rows, use, limits, licence, answers.

    REFERENCE: NAME@VERSION or NAME@ALIAS. to: the page. file: a YAML file with about, intended_use, limits, licence, authors,
    data, contact and ethics; the run's card.yaml as it was registered unless given.
    """  # fmt: skip
    from arsenal.evaluation.card import write_card
    from arsenal.runs.registry.parameters import golden_lines
    from arsenal.runs.registry.versions import read_card

    opened = open_registry(registry)
    name, version = opened.resolve(reference)
    told = opened.registered(name, version)
    if file is not None:
        told = told | {"card": read_card(Path(file))}
    place = opened.path(name, version)
    aliases = sorted(alias for alias, number in opened.aliases(name).items() if number == version)
    write_card(Path(to), name, version, aliases, told, read_manifest(place), golden_lines(place))
    print(f"page: {to}")


def rm(reference: str, /, why: str = "", yes: str = "false", registry: str | None = None) -> None:
    """Remove a version for ever, with yes=true; refused while an alias, a deployment or a server holds it. The history stays.

    REFERENCE: NAME@VERSION. why: what the history says of it.
    """
    from arsenal_serving.repository.registry import read_reference

    if yes not in ("true", "false"):
        raise RegistryError(f"`yes` must be true or false; got {yes!r}.")
    name, version = read_reference(reference)
    if not isinstance(version, int):
        raise RegistryError(f"what is removed is a version by its number, NAME@7; got {reference!r}.")
    opened = open_registry(registry)
    if yes == "false":
        opened.check_removal(name, version)
        print(f"{opened.store.place(f'models/{name}/{version}')} would go; yes=true removes it.")
        return
    opened.remove(name, version, why=why)
    print(f"removed {name}@{version}")


def verify(name: str | None = None, registry: str | None = None) -> None:
    """Check every version's hashes against what was registered, and that no event is missing or was edited.

    name: of one model; all unless given.
    """
    from arsenal.runs.registry.verification import verify_model

    opened = open_registry(registry)
    opened.check()
    names = [name] if name else opened.names()
    wrong = 0
    for one in names:
        if not opened.state(one).number:
            raise RegistryError(f"there is no model {one!r} in the registry.")
        sound, problems = verify_model(opened, one)
        print(f"{one}: {sound} version{'s' * (sound != 1)} of {len(opened.versions(one))} hold")
        for problem in problems:
            print(f"  {problem}")
        wrong += len(problems)
    if wrong:
        raise RegistryError(f"{opened.store.root} is not as it was written: {wrong} thing{'s' * (wrong > 1)}, see above.")


def rebuild(runs: str | None = None, registry: str | None = None) -> None:
    """Make the ledger anew from the registry's folder and from folders of runs.

    runs: folders of runs with commas between them; experiments, if it is there, unless given.
    """
    from arsenal.runs.registry.ledger import rebuild as make_anew

    opened = open_registry(registry)
    opened.check()
    asked = runs.split(",") if runs else [one for one in ("experiments",) if os.path.isdir(one)]
    counted = make_anew(opened.store, [Path(one) for one in asked])
    print(", ".join(f"{kind}: {count:,}" for kind, count in counted.items()) or "nothing is there")


def moment(seconds: float | None) -> str:
    """A time for people."""
    return "unknown" if seconds is None else datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def now() -> float:
    """Seconds since 1970."""
    return datetime.datetime.now().timestamp()


def host() -> str:
    """This machine."""
    import socket

    return socket.gethostname()


def track(name: str, to: str = "mlflow", address: str | None = None, registry: str | None = None) -> None:
    """Make another registry know a model: its versions with their files and runs, and where its aliases point.

    name: the model. to: mlflow. address: MLflow's server, MLFLOW_TRACKING_URI unless given. What is there already stays.
    """
    from arsenal.runs.trackers import tell_all
    from arsenal.runs.trackers.mlflow import tell_aliases, tell_version

    if to != "mlflow":
        raise RegistryError(f"`to` must be mlflow; got {to!r}.")
    opened = open_registry(registry)
    numbers, told = opened.versions(name), 0
    for number in numbers:
        about = opened.registered(name, number)
        folder = about.get("run", {}).get("folder")
        if folder is None or not (Path(folder) / "config.yaml").is_file():
            print(f"{name}@{number} is left out: its run is not here, and MLflow keeps a version with its run")
            continue
        run, _ = tell_all(Path(folder), "mlflow", address)
        digest = str(about.get("digest", ""))
        told += tell_version(address, name, number, opened.path(name, number), digest, run)
    tell_aliases(address, name, opened.aliases(name))
    print(f"{name}: {told} of {len(numbers)} versions are new to {to}, and its aliases point where they do here")


VERBS: dict[str, Callable[..., None]] = {
    "add": add, "list": list_nodes, "show": show, "alias": alias, "rollback": rollback, "diff": diff, "card": card, "rm": rm,
    "verify": verify, "rebuild": rebuild, "track": track,
}  # fmt: skip
