"""Data versions in a registry: manifests of files by reference or copied, and their history, opened when unchanged.

    data/NAME/VERSION.json             the manifest, never changed
    data/NAME/VERSION/                 the files of a version that was copied
    data/NAME/events/00000001.json     what happened, as for models
"""

import contextlib
import hashlib
import json
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
from arsenal.storage.files import user_cache, write_text
from arsenal.storage.versions import DataVersion

DATA = "data"
LONGEST = 1 << 30
"""Bytes of a manifest that are read: a hundred of a file."""


class Added(NamedTuple):
    """What came of adding data."""

    number: int
    is_new: bool
    file_count: int
    bytes: int


def add(registry: Registry, name: str, source: Path, *, copy: bool = False, why: str = "") -> Added:
    """Add the files of a file or folder as the next version of a name; what has not changed keeps the newest one's number.

    Files whose stamps are those of the newest version are not read. `copy` puts the bytes into the registry; else the version
    says where they are. ValueError for what holds no files, and for a name that cannot be one.
    """
    reading.check_name(name)
    source = Path(os.path.abspath(source))
    store, now, stamps = registry.store, state(registry, name), versions.list_stamps(source)
    known: Mapping[str, Content] = {}
    newest = now.versions[-1] if now.versions else None
    if newest is not None:
        text = read_manifest(registry, name, newest)
        where = place_of_manifest(registry, name, newest)
        head = versions.read_head(text, where)
        is_alike = (head.copied, head.source) == (copy, str(source))
        if is_alike and is_known(source, stamps, text):
            return Added(newest, False, head.file_count, head.bytes)
        known = versions.read_text(text, where).files if head.source == str(source) else {}
    contents = versions.read_contents(source, recall(source, known), stamps)
    found = DataVersion(str(source), source.is_file(), copy, contents)
    if newest is not None and is_alike and head.digest == found.digest:
        remember(source, stamps, text, known, contents)
        return Added(newest, False, head.file_count, head.bytes)
    with contextlib.suppress(FileExistsError):
        if not store.exists(MARK):
            store.create(MARK, b'{"format": %d}\n' % FORMAT)
    number, manifest = max([now.last, *numbers(store, name)]) + 1, versions.as_text(found).encode()
    while True:
        try:
            if copy:
                copy_files(store, f"{at(name)}/{number}", source, found)
            store.create(f"{at(name)}/{number}.json", manifest)
            break
        except FileExistsError:  # somebody else was first
            number += 1

    def change(before: State) -> tuple[dict[str, Any], State]:
        told = {"version": number, "digest": found.digest, "files": len(found.files), "bytes": found.size,
                "source": found.source, "copied": copy}  # fmt: skip
        return told, before._replace(versions=sorted({*before.versions, number}), last=max(before.last, number))

    append(store, at(name), "registered", change, why)
    remember(source, stamps, manifest, contents, contents)
    return Added(number, True, len(contents), found.size)


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
    """Name and number of `NAME@v3`, `NAME@3` or `NAME`, the newest; ValueError where there is none."""
    name, sign, which = reference.partition("@")
    if sign and which[:1] == "v" and which[1:].isdecimal():
        which = which[1:]
    known = state(registry, name)
    if not known.versions:
        there = ", ".join(names(registry)) or "none"
        raise RegistryError(f"the registry {registry.store.root} has no data {name!r}; there is: {there}.")
    if not sign:
        return name, known.versions[-1]
    if not which.isdecimal() or int(which) not in known.versions:
        there = ", ".join(reading.name_ranges(known.versions))
        raise RegistryError(f"the data {name!r} has no version {which!r}; there is: {there}.")
    return name, int(which)


def read_version(registry: Registry, name: str, number: int) -> DataVersion:
    """A version's manifest; ValueError for one that was edited or is gone."""
    return versions.read_text(read_manifest(registry, name, number), place_of_manifest(registry, name, number))


def read_manifest(registry: Registry, name: str, number: int) -> bytes:
    """The text of a manifest; ValueError for one that is gone."""
    try:
        return read(registry.store, f"{at(name)}/{number}.json", LONGEST)
    except FileNotFoundError:
        where = place_of_manifest(registry, name, number)
        raise RegistryError(f"{where} is not there: half of the registry was copied, or it was edited.") from None


def place_of_manifest(registry: Registry, name: str, number: int) -> Path:
    """Where a manifest lies, for people."""
    return Path(registry.store.place(f"{at(name)}/{number}.json"))


def place_of(registry: Registry, name: str, number: int, text: bytes) -> Path:
    """Where the file or folder of a version with this manifest is on this machine; what was copied to a bucket is fetched."""
    where = place_of_manifest(registry, name, number)
    head = versions.read_head(text, where)
    if not head.copied:
        return Path(head.source)
    if registry.store.folder is not None:
        folder = Path(os.path.abspath(registry.store.folder)) / at(name) / str(number)
    else:
        folder = fetch_files(registry.store, name, number, versions.read_text(text, where))
    return folder / Path(head.source).name if head.is_file else folder


def open_version(registry: Registry, name: str, number: int) -> Path:
    """Where a version is on this machine, after every file was found as it was: by its stamp, or read again where that differs.

    ValueError, which names the first, where one is gone, changed or new.
    """
    text = read_manifest(registry, name, number)
    place = place_of(registry, name, number, text)
    try:
        stamps = versions.list_stamps(place)
        if is_known(place, stamps, text):
            return place
        version = versions.read_text(text, place_of_manifest(registry, name, number))
        known = {} if version.copied else version.files
        found = versions.read_contents(place, recall(place, known), stamps)
    except versions.UnreadableVersion:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise RegistryError(f"the data {name}@{number} is not as it was: {error}") from error
    if different := versions.find_difference(version, found):
        raise RegistryError(
            f"the data {name}@{number} is not as it was: {different} in {place.parent if version.is_file else place}; "
            f"`arsenal data add {name} {version.source}` makes a new version."
        )
    remember(place, stamps, text, known, found)
    return place


def is_known(place: Path, stamps: Mapping[str, tuple[int, int, int]], manifest: bytes) -> bool:
    """Whether a place with these stamps was found to hold what a manifest says, by the user's cache."""
    path = cache_path(place)
    if path is None or not path.is_file():
        return False
    with contextlib.suppress(ValueError, TypeError, KeyError, OSError):
        told = json.loads(path.read_text(encoding="utf-8"))
        same = told["manifest"] == hashlib.sha256(manifest).hexdigest()
        return same and told["stamps"] == versions.stamps_digest(stamps)
    return False


def recall(place: Path, known: Mapping[str, Content]) -> Mapping[str, Content]:
    """The contents that are known, and those that were read since, by the user's cache."""
    path = cache_path(place)
    if path is None:
        return known
    with contextlib.suppress(ValueError, TypeError, OSError):
        told = json.loads(path.with_suffix(".files.json").read_text(encoding="utf-8"))
        return {**known, **{name: Content(*one) for name, one in told.items()}}
    return known


def remember(
    place: Path, stamps: Mapping[str, tuple[int, int, int]], manifest: bytes, known: Mapping[str, Content],
    found: Mapping[str, Content],
) -> None:  # fmt: skip
    """Keep that a place with these stamps holds what a manifest says, and what was read and is not known otherwise.

    A cache that cannot be written only costs time. Of files that were written just now nothing is kept.
    """
    path = cache_path(place)
    if path is None:
        return
    new = {name: list(one) for name, one in found.items() if known.get(name) != one and one.mtime_ns}
    told = {"stamps": versions.stamps_digest(stamps), "manifest": hashlib.sha256(manifest).hexdigest()}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        settled = all(one.mtime_ns for one in found.values())
        for file, content in ((path, told if settled else {}), (path.with_suffix(".files.json"), new)):
            if content:
                write_text(file, json.dumps(content))
            else:
                file.unlink(missing_ok=True)


def cache_path(place: Path) -> Path | None:
    """Where this user's knowledge of a place is kept."""
    cache = user_cache()
    return cache / "data" / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:32]}.json" if cache else None


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
    final = cache / "data_files" / hashlib.sha256(f"{store.root} {name} {number} {version.digest}".encode()).hexdigest()[:32]
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
