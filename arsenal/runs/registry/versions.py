"""Versions in a registry: registered whole or not at all, found by alias or number, moved to, rolled back and removed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from arsenal_serving.artifact.versions import SUMS
from arsenal_serving.repository import registry as reading
from arsenal_serving.repository.registry import FORMAT, MARK, MODELS, State
from arsenal_serving.repository.store import Store, open_store

from arsenal.nearest import nearest
from arsenal.runs import index
from arsenal.runs.journal import MACHINE
from arsenal.runs.notes import notes
from arsenal.runs.registry.events import Change, RegistryError, append
from arsenal.runs.registry.ledger import describe_data, open_ledger
from arsenal.runs.registry.places import holders
from arsenal.storage.files import read_json, to_json, user_cache

PAST = 50
"""So many places are kept of where an alias was."""
SPLIT = re.compile(r"(train|validation|test)/")
CARD = "card.yaml"
CARD_KEYS = ("about", "intended_use", "limits", "licence", "authors", "data", "contact", "ethics")
"""What a card says that no program knows."""
FOUND = ("split", "value_name", "intervals", "validation", "worst")
"""What is kept of a report's findings: intervals, and how good the run is on parts of the rows."""
SLICES = 20
"""Of the parts by each column those that differ most surely."""


def open_registry(root: str | None = None) -> "Registry":
    """The registry at a folder or URL, else at $ARSENAL_REGISTRY, else at `registry` here; it is made by the first version.

    Raises `RegistryError` for a folder that holds something else, and ValueError in one line for half a registry or a newer one.
    """
    store = open_store(root or os.environ.get("ARSENAL_REGISTRY") or "registry")
    there = store.names("")
    if MARK in there or MODELS in there:
        reading.check_registry(store)
    elif store.folder is not None and store.folder.exists() and (not store.folder.is_dir() or there):
        raise RegistryError(f"{store.root} is no registry and holds something else; name a folder that is empty or not there.")
    return Registry(store)


@dataclasses.dataclass(frozen=True)
class Registry:
    """Models, their versions and aliases, below a root; several processes may use one at once."""

    store: Store
    states: dict[str, State] = dataclasses.field(default_factory=dict, repr=False)
    """What was seen of each model last, so that the next look costs one file."""

    def names(self) -> list[str]:
        """The models."""
        self.check()
        return [name for name in self.store.names(MODELS) if self.state(name).number]

    def check(self) -> None:
        """Raise ValueError where there is no registry yet."""
        reading.check_registry(self.store)

    def state(self, name: str) -> State:
        """What holds of a model now; ValueError for what is no name."""
        reading.check_name(name)
        self.states[name] = reading.read_state(self.store, at(name), self.states.get(name))
        return self.states[name]

    def resolve(self, reference: str) -> tuple[str, int]:
        """Name and version of `NAME@champion`, `NAME@7` or `NAME`, the newest; ValueError where there is none."""
        self.check()
        name, which = reading.read_reference(reference)
        return name, reading.version_of(name, which, self.state(name))

    def versions(self, name: str) -> list[int]:
        """The versions that are there, oldest first."""
        return list(self.state(name).versions)

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias points."""
        return dict(self.state(name).aliases)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What happened to a model, oldest first."""
        return [reading.read_event(self.store, at(name), number) for number in range(1, self.state(name).number + 1)]

    def registered(self, name: str, version: int) -> dict[str, Any]:
        """The event by which a version came."""
        with open_ledger(self.store, name) as ledger:
            found = ledger.registered(name, version)
        if found is None:
            raise RegistryError(f"there is no version {version} of {name!r} in the registry.")
        return found

    def path(self, name: str, version: int) -> Path:
        """A version's folder on this machine after all its hashes held; what lies in a bucket is fetched once."""
        from arsenal_serving.artifact.folder import open_version

        self.resolve(f"{name}@{version}")
        folder = self.store.folder
        if folder is None:
            cached = user_cache()
            if cached is None:
                raise RegistryError("what lies in a bucket is kept in a cache, and there is no home; set XDG_CACHE_HOME.")
            folder = fetch(self.store, name, version, cached / "registry")
        place = folder / MODELS / name / str(version)
        if not place.is_dir():
            raise RegistryError(f"{place} is registered but is not there: half of the registry was copied, or it was edited.")
        open_version(place)
        return place

    def register(
        self, artifact: Path, name: str, *, run: Path | None, why: str = "", about: Mapping[str, Any] = {},
        key: bytes | None = None, listener: Callable[[str], None] = lambda _: None, force: bool = False,
    ) -> int:  # fmt: skip
        """Add an artifact as the model's next version and return its number; an artifact that is there already keeps its own.

        run: the run that it was made of, whose config, metrics and data are noted. key: the PEM of a private key that signs
        it. Hashes are checked before, and a version appears whole or not at all: one that was cut off goes on with what it had
        sent when the same artifact is added again. Raises ValueError for an artifact that does not hold, and for one whose run
        misses what its experiment states, unless `force`, which the event then tells.
        """
        from arsenal_serving.artifact import folder as artifacts
        from arsenal_serving.artifact import signing

        reading.check_name(name)
        place = artifacts.locate(artifact)
        held = artifacts.open_version(place)
        manifest = artifacts.read_manifest(place, held.files)
        missed = refuse_missed(manifest.get("provenance") or {}, f"{place} is not registered", force)
        files = {path: content for path, content in held.files.items() if path != artifacts.MANIFEST}
        if manifest["name"] != name:
            manifest = manifest | {"name": name}
        content = digest(manifest, files)
        if not self.store.exists(MARK):
            make_registry(self.store)
        if (known := self.find(name, content)) is not None:
            return known
        number = next((n for n, begun in self.state(name).uploads.items() if begun == content), None)
        if number is None:
            number = self._append(name, "upload", lambda state: begin(state, content))["version"]
        sealed = artifacts.seal(manifest, files, number)
        sums = sealed[SUMS]
        more = {artifacts.SIGNATURE: signing.sign(sums, key)} if key else {}
        if self.store.folder is not None:
            target = self.store.folder / at(name)
            if not (target / str(number)).exists():
                artifacts.write(target, manifest, files, number)
            elif artifacts.open_version(target / str(number)).sums != sums:
                raise RegistryError(f"{target / str(number)} is there and is something else: the registry was edited.")
            if more and not (target / str(number) / artifacts.SIGNATURE).exists():
                artifacts.sign(target / str(number), key or b"")
        else:
            manifest_file = {artifacts.MANIFEST: sealed[artifacts.MANIFEST]}
            send(self.store, f"{at(name)}/{number}", {**files, **manifest_file, **more, SUMS: sums}, listener)
        told = {"version": number, "digest": hashlib.sha256(sums).hexdigest(), "content": content} | describe(manifest, run)
        told |= {"forced": missed} if missed else {}
        if about:
            told["about"] = to_json(dict(about))
        if number not in self.versions(name):  # somebody else may have sent the same
            self._append(name, "registered", lambda state: end(state, number, told), why)
        return number

    def find(self, name: str, content: str) -> int | None:
        """The version of a model with this content."""
        there = set(self.versions(name))
        with open_ledger(self.store, name) as ledger:
            return next((number for number in ledger.with_content(name, content) if number in there), None)

    def set_alias(
        self, name: str, alias: str, version: int | None, *, why: str = "", about: Mapping[str, Any] = {},
        expected: int | None = None, force: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Move an alias to a version, or take it away, and return the event; a move is one event, whole or not at all.

        expected: where it must be now. Raises ValueError for a version that is not there, an alias that is elsewhere, and a
        version whose run misses what its experiment states, unless `force`, which the event then tells.
        """
        self.check()
        reading.check_alias(alias)
        if version is not None and version in self.versions(name):
            missed = refuse_missed(self.registered(name, version), f"{name}@{version} is not promoted to {alias}", force)
            about = {**about, "forced": missed} if missed else about

        def change(state: State) -> tuple[dict[str, Any], State]:
            before = state.aliases.get(alias)
            if version is not None:
                reading.version_of(name, version, state)
            elif before is None:
                reading.version_of(name, alias, state)
            if expected is not None and before != expected:
                was = "nowhere" if before is None else f"at {before}"
                raise RegistryError(f"{name}@{alias} must be at {expected} to be moved; it is {was}.")
            past = [*state.before.get(alias, ()), *([before] if before not in (None, version) else [])][-PAST:]
            return alias_event(state, alias, version, past, about)

        return self._append(name, "alias", change, why)

    def roll_back(self, name: str, alias: str, *, why: str = "", about: Mapping[str, Any] = {}) -> dict[str, Any]:
        """Move an alias to where it was before its last move, versions that were removed left out; returns the event.

        Rolled back again, it is where it was before that. Raises ValueError where it was nowhere else.
        """
        self.check()
        reading.check_alias(alias)

        def change(state: State) -> tuple[dict[str, Any], State]:
            past = [number for number in state.before.get(alias, ()) if number in state.versions]
            if not past:
                raise RegistryError(f"{name}@{alias} was at no other version that is there, so it cannot be rolled back.")
            return alias_event(state, alias, past[-1], past[:-1], {"rollback": True, **about})

        return self._append(name, "alias", change, why)

    def remove(self, name: str, version: int, *, why: str = "") -> None:
        """Remove a version; its number is not given again. ValueError while an alias, a deployment or a server holds it."""
        self.check()

        def change(state: State) -> tuple[dict[str, Any], State]:
            self.check_removal(name, version, state)
            past = {alias: [n for n in before if n != version] for alias, before in state.before.items()}
            uploads = {n: content for n, content in state.uploads.items() if n != version}
            kept = [n for n in state.versions if n != version]
            return {"version": version}, state._replace(versions=kept, before=past, uploads=uploads)

        self._append(name, "removed", change, why)
        if self.store.names(f"{at(name)}/{version}"):
            self.store.remove(f"{at(name)}/{version}")

    def check_removal(self, name: str, version: int, state: State | None = None) -> None:
        """Raise ValueError where a version is not there, or an alias, a deployment or a server holds it."""
        state = self.state(name) if state is None else state
        if version not in state.uploads:
            reading.version_of(name, version, state)
        if held := sorted(alias for alias, number in state.aliases.items() if number == version):
            raise RegistryError(f"{name}@{version} is {', '.join(f'{name}@{alias}' for alias in held)}; move that first.")
        if places := holders(name, self.events(name)).get(version):
            raise RegistryError(f"{name}@{version} is {', and '.join(places)}; deploy another there, or `arsenal deploy down`.")
        if servers := reading.holders(self.store, at(name), time.time()).get(version):
            raise RegistryError(f"{name}@{version} is served by {'; '.join(servers)}, which must end first.")

    def note(self, name: str, kind: str, *, why: str = "", **about: Any) -> dict[str, Any]:
        """Add an event of another kind: forced, refused, deployed; returns it."""
        self.check()
        if not self.state(name).number and kind not in ("refused",):
            raise RegistryError(f"there is no model {name!r} in the registry.")
        return self._append(name, kind, lambda state: (to_json(about), state), why)

    def _append(self, name: str, kind: str, change: Change, why: str = "") -> dict[str, Any]:
        reading.check_name(name)
        event, self.states[name] = append(self.store, at(name), kind, change, why, self.states.get(name))
        return event


def make_registry(store: Store) -> None:
    """Begin a registry; raises `RegistryError` for a bucket that would let one of two who write at once lose his event."""
    mark = json.dumps({"format": FORMAT}).encode() + b"\n"
    with contextlib.suppress(FileExistsError):
        store.create(MARK, mark)
        if store.folder is None:
            store.create(MARK, mark + b"\n")  # there is one by now, so this must be refused
            store.remove(MARK)
            raise RegistryError(f"{store.root} writes over what was to be made only once; a registry cannot be kept there.")


def at(name: str) -> str:
    """Where a model lies below the root."""
    return f"{MODELS}/{name}"


def alias_event(
    state: State, alias: str, version: int | None, past: Iterable[int], about: Mapping[str, Any]
) -> tuple[dict[str, Any], State]:
    """A move of an alias: what its event says, and what holds after it."""
    told = {"alias": alias, "version": version, "from": state.aliases.get(alias), **to_json(dict(about))}
    aliases = {**state.aliases, alias: version} if version is not None else {k: v for k, v in state.aliases.items() if k != alias}
    return told, state._replace(aliases=aliases, before={**state.before, alias: list(past)})


def begin(state: State, content: str) -> tuple[dict[str, Any], State]:
    """A version that is being sent."""
    number = state.last + 1
    return {"version": number}, state._replace(last=number, uploads={**state.uploads, number: content})


def end(state: State, number: int, told: dict[str, Any]) -> tuple[dict[str, Any], State]:
    """A version that is there."""
    if number not in state.uploads and number not in state.versions:
        raise RegistryError(f"version {number} was removed while it was sent.")
    uploads = {n: content for n, content in state.uploads.items() if n != number}
    return told, state._replace(versions=sorted({*state.versions, number}), uploads=uploads)


def digest(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """What tells an artifact's content from every other, whatever its name, its number and the day it was made."""
    told = {key: value for key, value in manifest.items() if key not in ("name", "version", "created")}
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    return hashlib.sha256(json.dumps([told, sums], sort_keys=True).encode()).hexdigest()


def refuse_missed(told: Mapping[str, Any], refusal: str, force: bool) -> list[str]:
    """What a version's run misses of what its experiment states, by `expect` of its making; `RegistryError` unless `force`."""
    missed = (told.get("expect") or {}).get("missed") or []
    if missed and not force:
        what = "; ".join(missed)
        raise RegistryError(f"{refusal}: its run misses what its experiment states, {what}; force=true does it on record.")
    return list(missed)


def describe(manifest: Mapping[str, Any], run: Path | None) -> dict[str, Any]:
    """What is known of a version's making: the run with its metrics, the config, the command and the environment."""
    made = manifest.get("provenance") or {}
    told: dict[str, Any] = {key: made[key] for key in ("config", "overrides", "environment", "expect") if made.get(key)}
    if run is not None:
        told |= read_facts(run)
    elif made.get("run"):
        told["run"] = {"hash": made["run"], "step": made.get("step")}
    return to_json(told)


def read_facts(run: Path) -> dict[str, Any]:
    """A run's folder in short: where it lies, its data, metrics and notes."""
    cells, (told, _) = index.read_run(run), index.read_files(run)
    about = {
        "folder": os.path.abspath(run), "host": socket.gethostname(), "name": cells["name"][1], "hash": run.resolve().name,
        "state": cells["state"][1], "step": cells.get("step", (None, ""))[0],
    }  # fmt: skip
    found: dict[str, Any] = {"run": about | describe_data(run), "metrics": told.get("report/metrics.json", {})}
    if not found["metrics"]:
        logged = {key: value for key, (value, _) in cells.items() if SPLIT.match(key) and value is not None}
        found["metrics"] = {key: value for key, value in logged.items() if key.partition("/")[2] not in MACHINE}
    with contextlib.suppress(FileNotFoundError):
        findings = read_json(run / "report" / "findings.json")
        slices = [one for parts in (findings.get("slices") or {}).values() for one in parts]
        slices.sort(key=lambda one: 1.0 if one["p_value"] is None else one["p_value"])
        found["findings"] = {key: findings[key] for key in FOUND if findings.get(key)} | {"slices": slices[:SLICES]}
    if (run / CARD).is_file():
        found["card"] = read_card(run / CARD)
    if written := notes(run):
        found["notes"] = written
    return found


def read_card(path: Path) -> dict[str, Any]:
    """What somebody wrote for a model's card, a YAML file of `CARD_KEYS`; raises `RegistryError` for another key."""
    try:
        told = index.as_mapping(path.read_text(encoding="utf-8"), True)
    except (OSError, ValueError) as error:
        raise RegistryError(f"{path} must be YAML with keys and texts: {' '.join(str(error).split())}") from error
    for key in told:
        if key not in CARD_KEYS:
            raise RegistryError(f"{path} may have {', '.join(CARD_KEYS)}; got {key!r}.{nearest(str(key), CARD_KEYS)}")
    return told


def fetch(store: Store, name: str, version: int, cached: Path) -> Path:
    """A version of a bucket's in a cache; the folder that stands for the root."""
    from arsenal_serving.repository import remote
    from filelock import FileLock

    root = cached / hashlib.sha256(store.root.encode()).hexdigest()[:32]
    folder = root / MODELS
    (folder / name).mkdir(parents=True, exist_ok=True)
    origin = remote.Origin(f"{store.root}/{MODELS}", lambda path: store.open(f"{MODELS}/{path}"), lambda path: [])
    with FileLock(folder / ".lock"):
        if not (folder / name / str(version)).exists():
            remote.fetch_version(remote.Mirror(origin, folder, False, 1 << 60), f"{name}/{version}")
    return root


def send(store: Store, place: str, files: Mapping[str, bytes], listener: Callable[[str], None]) -> None:
    """Send a version's files, the sums last; those that are there with the right hash are not sent again."""
    there = set(store.names(place)) | {f"programs/{name}" for name in store.names(f"{place}/programs")}
    kept = 0
    for path, content in sorted(files.items(), key=lambda item: item[0] == SUMS):
        if path in there and holds(store, f"{place}/{path}", content):
            kept += 1
            continue
        if there_already := store.send(f"{place}/{path}", content):
            listener(f"{there_already / 1e6:.3g} of {len(content) / 1e6:.3g} MB of {path} were there already")
    if kept:
        listener(f"{kept} of {len(files)} files were there already")


def holds(store: Store, path: str, content: bytes) -> bool:
    """Whether a file of the store is these bytes."""
    sha, length = hashlib.sha256(), 0
    with contextlib.closing(store.open(path)) as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
            length += len(chunk)
    return length == len(content) and sha.digest() == hashlib.sha256(content).digest()
