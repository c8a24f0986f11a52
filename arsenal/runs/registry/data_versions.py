"""Data versions in a registry: manifests of files by reference or copied, and their history, opened when unchanged.

    data/NAME/VERSION.json             the manifest, never changed
    data/NAME/VERSION/                 the files of a version that was copied
    data/NAME/events/00000001.json     what happened, as for models
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.repository import registry as reading
from arsenal_serving.repository.registry import FORMAT, MARK, State
from arsenal_serving.repository.store import Store, read

from arsenal.runs.registry.events import RegistryError, append
from arsenal.runs.registry.versions import Registry
from arsenal.storage import versions
from arsenal.storage.content import Content
from arsenal.storage.files import user_cache, write_json
from arsenal.storage.versions import DataVersion

DATA = "data"
LONGEST = 1 << 30
"""Bytes of a manifest that are read: a hundred of a file."""


class Added(NamedTuple):
    """What came of adding data."""

    number: int
    is_new: bool
    version: DataVersion


def add(registry: Registry, name: str, source: Path, *, copy: bool = False, why: str = "") -> Added:
    """Add the files of a file or folder as the next version of a name; what has not changed keeps the newest one's number.

    Files whose stamps are those of the newest version are not read. `copy` puts the bytes into the registry; else the version
    says where they are. ValueError for what holds no files, and for a name that cannot be one.
    """
    reading.check_name(name)
    source = Path(os.path.abspath(source))
    store, now = registry.store, state(registry, name)
    newest = read_version(registry, name, now.versions[-1]) if now.versions else None
    known = newest.files if newest is not None and newest.source == str(source) else {}
    found = DataVersion(str(source), source.is_file(), copy, versions.read_contents(source, remembered(source, known)))
    if newest is not None and (newest.copied, newest.source) == (copy, str(source)) and newest.digest == found.digest:
        remember(source, newest.files, found.files)
        return Added(now.versions[-1], False, found)
    with contextlib.suppress(FileExistsError):
        if not store.exists(MARK):
            store.create(MARK, b'{"format": %d}\n' % FORMAT)
    number = max([now.last, *numbers(store, name)]) + 1
    while True:
        try:
            if copy:
                copy_files(store, f"{at(name)}/{number}", source, found)
            store.create(f"{at(name)}/{number}.json", versions.as_text(found).encode())
            break
        except FileExistsError:  # somebody else was first
            number += 1

    def change(before: State) -> tuple[dict[str, Any], State]:
        told = {"version": number, "digest": found.digest, "files": len(found.files), "bytes": found.size,
                "source": found.source, "copied": copy}  # fmt: skip
        return told, before._replace(versions=sorted({*before.versions, number}), last=max(before.last, number))

    append(store, at(name), "registered", change, why)
    remember(source, found.files, found.files)
    return Added(number, True, found)


def at(name: str) -> str:
    """Where the versions of a name lie below the root."""
    return f"{DATA}/{name}"


def names(registry: Registry) -> list[str]:
    """The names that there are."""
    return [name for name in registry.store.names(DATA) if state(registry, name).number]


def state(registry: Registry, name: str) -> State:
    """What holds of a name now."""
    reading.check_name(name)
    return reading.read_state(registry.store, at(name))


def events(registry: Registry, name: str) -> list[dict[str, Any]]:
    """What happened to a name, oldest first."""
    return [reading.read_event(registry.store, at(name), number) for number in range(1, state(registry, name).number + 1)]


def numbers(store: Store, name: str) -> list[int]:
    """The numbers that are taken, half-made versions among them."""
    return [int(stem) for one in store.names(at(name)) if (stem := one.removesuffix(".json")).isdecimal()]


def resolve(registry: Registry, reference: str) -> tuple[str, int]:
    """Name and number of `NAME@v3`, `NAME@3`, `NAME@alias` or `NAME`, the newest; ValueError where there is none."""
    name, sign, which = reference.partition("@")
    if sign and which[:1] == "v" and which[1:].isdecimal():
        which = which[1:]
    known = state(registry, name)
    if not known.versions:
        there = ", ".join(names(registry)) or "none"
        raise RegistryError(f"the registry {registry.store.root} has no data {name!r}; there is: {there}.")
    name, wanted = reading.read_reference(f"{name}@{which}" if sign else name)
    return name, reading.version_of(name, wanted, known)


def read_version(registry: Registry, name: str, number: int) -> DataVersion:
    """A version's manifest; ValueError for one that was edited or is gone."""
    path = f"{at(name)}/{number}.json"
    try:
        content = read(registry.store, path, LONGEST)
    except FileNotFoundError:
        where = registry.store.place(path)
        raise RegistryError(f"{where} is not there: half of the registry was copied, or it was edited.") from None
    return versions.read_text(content, Path(registry.store.place(path)))


def place_of(registry: Registry, name: str, number: int, version: DataVersion) -> Path:
    """Where the file or folder of a version is on this machine; what was copied to a bucket is fetched."""
    if not version.copied:
        return Path(version.source)
    if registry.store.folder is not None:
        folder = Path(os.path.abspath(registry.store.folder)) / at(name) / str(number)
    else:
        folder = fetch_files(registry.store, name, number, version)
    return folder / next(iter(version.files)) if version.is_file else folder


def open_version(registry: Registry, name: str, number: int) -> Path:
    """Where a version is on this machine, after every file was found as it was: by its stamp, or read again where that differs.

    ValueError, which names the first, where one is gone, changed or new.
    """
    version = read_version(registry, name, number)
    place = place_of(registry, name, number, version)
    try:
        found = versions.read_contents(place, remembered(place, {} if version.copied else version.files))
    except (ValueError, FileNotFoundError) as error:
        raise RegistryError(f"the data {name}@{number} is not as it was: {error}") from error
    remember(place, {} if version.copied else version.files, found)
    if different := versions.find_difference(version, found):
        raise RegistryError(
            f"the data {name}@{number} is not as it was: {different} in {place.parent if version.is_file else place}; "
            f"`arsenal data add {name} {version.source}` makes a new version."
        )
    return place


def remembered(place: Path, known: Mapping[str, Content]) -> Mapping[str, Content]:
    """The contents that are known, and those that were read since, by the user's cache, which holds none where all are known."""
    path = cache_path(place)
    if path is None or not path.is_file():
        return known
    with contextlib.suppress(ValueError, TypeError, OSError):
        import json

        return {**known, **{name: Content(*one) for name, one in json.loads(path.read_text(encoding="utf-8")).items()}}
    return known


def remember(place: Path, known: Mapping[str, Content], found: Mapping[str, Content]) -> None:
    """Keep what was read and is not known otherwise; a cache that cannot be written only costs time."""
    path = cache_path(place)
    new = {name: list(one) for name, one in found.items() if known.get(name) != one and one.mtime_ns}
    if path is None or not (new or path.is_file()):
        return
    with contextlib.suppress(OSError):
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, new)
        else:
            path.unlink(missing_ok=True)


def cache_path(place: Path) -> Path | None:
    """Where this user's stamps of a place are kept."""
    cache = user_cache()
    return cache / "stamps" / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:32]}.json" if cache else None


def copy_files(store: Store, target: str, source: Path, version: DataVersion) -> None:
    """The files into the registry, whole or not at all in a folder; FileExistsError where something is there."""
    place = source.parent if version.is_file else source
    if store.folder is None:
        if store.names(target):
            raise FileExistsError(target)
        for name in version.files:
            store.replace(f"{target}/{name}", (place / name).read_bytes())
        return
    final = store.folder / target
    partial = final.parent / f".{secrets.token_hex(8)}.partial"
    try:
        for name in version.files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(place / name, partial / name)
        if final.exists():
            raise FileExistsError(str(final))
        copied = versions.read_contents(partial, {})
        if different := versions.find_difference(version, copied):
            raise RegistryError(f"{source} changed while it was copied: {different}.")
        os.rename(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fetch_files(store: Store, name: str, number: int, version: DataVersion) -> Path:
    """The files of a version in a bucket, in the user's cache."""
    cache = user_cache()
    if cache is None:
        raise RegistryError("what lies in a bucket is kept in a cache, and there is no home; set XDG_CACHE_HOME.")
    final = cache / "data" / hashlib.sha256(f"{store.root} {name} {number} {version.digest}".encode()).hexdigest()[:32]
    if final.is_dir():
        return final
    partial = final.parent / f".{secrets.token_hex(8)}.partial"
    try:
        for path in version.files:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(store.open(f"{at(name)}/{number}/{path}")) as file, (partial / path).open("wb") as target:
                shutil.copyfileobj(file, target, 1 << 20)
        with contextlib.suppress(OSError):  # somebody else was first
            os.rename(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def remove(registry: Registry, name: str, number: int, *, why: str = "") -> None:
    """Remove a version, and its files where they were copied; its number is not given again. ValueError where there is none."""

    def change(before: State) -> tuple[dict[str, Any], State]:
        reading.version_of(name, number, before)
        return {"version": number}, before._replace(versions=[one for one in before.versions if one != number])

    append(registry.store, at(name), "removed", change, why)
    if registry.store.names(f"{at(name)}/{number}"):
        registry.store.remove(f"{at(name)}/{number}")
    registry.store.remove(f"{at(name)}/{number}.json")
