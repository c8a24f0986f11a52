"""`arsenal data add|list|show|verify|rm`: versions of data in the registry, by the content of their files."""

from collections.abc import Callable
from pathlib import Path

from arsenal.cli import as_count, as_truth
from arsenal.runs import table
from arsenal.runs.folder import RunError
from arsenal.runs.registry import data_versions, open_registry


def add(name: str, source: str, /, copy: str = "false", why: str = "", registry: str | None = None) -> None:
    """Add a file or a folder as the next version; data=NAME@v3 trains on it. What has not changed stays the version it is.

    NAME: of the data. SOURCE: a file or a folder. copy: true keeps the bytes in the registry; else they must stay where they are.
    why: a word for the history. registry: a folder or URL; $ARSENAL_REGISTRY or `registry` here unless given.
    """
    found = data_versions.add(open_registry(registry), name, Path(source), copy=as_truth("copy", copy), why=why)
    what = f"{name}@{found.number}"
    about = f"{found.file_count:,} file{'s' * (found.file_count != 1)}, {megabytes(found.bytes)}"
    print(f"{what}: {about}" if found.is_new else f"{what} is unchanged: {about}")


def list_versions(name: str | None = None, registry: str | None = None, format: str = "table") -> None:
    """List the versions of data, newest first.

    name: of one. registry: its root. format: table, json or csv.
    """
    if format not in table.FORMATS:
        raise RunError(f"`format` must be one of {', '.join(table.FORMATS)}; got {format!r}.")
    opened = open_registry(registry)
    keys, rows = ["data", "files", "bytes", "time", "who", "source"], []
    for one in data_versions.names(opened) if name is None else [name]:
        there = set(data_versions.state(opened, one).versions)
        for event in reversed(data_versions.events(opened, one)):
            if event["kind"] == "registered" and event["version"] in there:
                texts = [f"{one}@{event['version']}", *(event[key] for key in keys[1:])]
                rows.append([(value if isinstance(value, int | float) else None, str(value)) for value in texts])
    if not rows and format == "table":
        print("There is no data." if name is None else f"There is no data {name!r}.")
        return
    print(table.FORMATS[format](keys, rows), end="")


def show(reference: str, /, registry: str | None = None, files: str = "10") -> None:
    """Show a version: where its files are, how many, their sums, and what happened to it.

    REFERENCE: NAME@v3, or NAME for the newest. registry: its root. files: how many are listed.
    """
    opened = open_registry(registry)
    name, number = data_versions.resolve(opened, reference)
    version, most = data_versions.read_version(opened, name, number), as_count("files", files, 0)
    lines = [
        ("source", f"{version.source}{', copied' if version.copied else ''}"),
        ("files", f"{len(version.files):,}, {megabytes(version.size)}"),
        ("digest", version.digest),
    ]
    for event in data_versions.events(opened, name):
        if event.get("version") == number:
            why = f": {event['why']}" if event.get("why") else ""
            lines.append((event["kind"], f"{table.cell_text('time', (event['time'], str(event['time'])))}, {event['who']}{why}"))
    print(f"{name}@{number}\n\n{table.align(lines[0], lines[1:])}")
    for path in sorted(version.files)[:most]:
        print(f"{version.files[path].sha256}  {path}")
    if len(version.files) > most:
        print(f"and {len(version.files) - most:,} more")


def verify(reference: str, /, registry: str | None = None) -> None:
    """Find every file of a version as it was, or say which is not.

    REFERENCE: NAME@v3, or NAME for the newest. registry: its root.
    """
    opened = open_registry(registry)
    name, number = data_versions.resolve(opened, reference)
    print(f"{name}@{number} is as it was: {data_versions.open_version(opened, name, number)}")


def rm(reference: str, /, registry: str | None = None, why: str = "", yes: str = "false") -> None:
    """Say what would go, and remove a version with yes=true; files that were not copied stay where they are.

    REFERENCE: NAME@v3. registry: its root. why: a word for the history.
    """
    opened = open_registry(registry)
    if "@" not in reference:
        raise RunError(f"REFERENCE must name a version, as {reference}@v3.")
    name, number = data_versions.resolve(opened, reference)
    version = data_versions.read_version(opened, name, number)
    what = f"the manifest and {megabytes(version.size)} of copies" if version.copied else "the manifest, and no data"
    if not as_truth("yes", yes):
        print(f"{name}@{number} would go: {what}; yes=true removes it.")
        return
    data_versions.remove(opened, name, number, why=why)
    print(f"removed {name}@{number}: {what}")


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


VERBS: dict[str, Callable[..., None]] = {"add": add, "list": list_versions, "show": show, "verify": verify, "rm": rm}
