"""What is deployed where, and was before: an event of a model each, beside the files that it was done with.

    deployments/CONTENT.json                 a profile and the files made of it, named by the SHA-256 of the text
    deployments/NAME/ENV/TO/.lock            held by whoever deploys there; in a bucket `held`, with who and when

The event says version, place, files by their hashes, and which event's deployment it took the place of.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from arsenal_serving.repository import registry as reading
from arsenal_serving.repository.store import read

from arsenal.runs.folder import RunError, lock
from arsenal.runs.registry.events import RegistryError, who
from arsenal.runs.registry.ledger import open_ledger
from arsenal.runs.registry.places import DEPLOYED, Site, is_at, places_of
from arsenal.runs.registry.versions import Registry

ROOT = "deployments"
HELD = 7200.0
"""Seconds for which a bucket's lock counts: whoever was killed has left it there."""


class Release(NamedTuple):
    """What a deployment was done with: its profile, and the texts of its files by path."""

    profile: dict[str, Any]
    files: dict[str, str]


def history(registry: Registry, place: Site) -> list[dict[str, Any]]:
    """What was deployed at a place, what failed and what was taken down there, oldest first."""
    return [event for event in _events(registry, place.model) if is_at(event, place)]


def _events(registry: Registry, name: str) -> list[dict[str, Any]]:
    with open_ledger(registry.store, name) as ledger:
        return ledger.history(name)


def places(registry: Registry, model: str | None = None) -> list[tuple[Site, list[dict[str, Any]]]]:
    """Every place where something is deployed, of one model or all, each with its events."""
    names = [model] if model else registry.names()
    return [one for name in names for one in places_of(name, _events(registry, name))]


def keep(registry: Registry, kept: Release) -> str:
    """Keep a profile and its files; returns the name by which they are found."""
    text = (json.dumps(kept._asdict(), sort_keys=True) + "\n").encode()
    content = hashlib.sha256(text).hexdigest()
    with contextlib.suppress(FileExistsError):
        registry.store.create(f"{ROOT}/{content}.json", text)
    return content


def recall(registry: Registry, event: Mapping[str, Any]) -> Release:
    """What an event's deployment was done with; `RegistryError` where that is gone or was edited."""
    path = f"{ROOT}/{event['kept']}.json"
    try:
        text = read(registry.store, path)
    except FileNotFoundError:
        raise RegistryError(f"{registry.store.place(path)} is not there: half of the registry was copied.") from None
    if hashlib.sha256(text).hexdigest() != event["kept"]:
        raise RegistryError(f"{registry.store.place(path)} is not what was deployed: it was edited.")
    return Release(**json.loads(text))


def record(
    registry: Registry, place: Site, version: int, kept: str, files: Mapping[str, str], *, replaces: int | None,
    why: str = "", **about: Any,
) -> dict[str, Any]:  # fmt: skip
    """Note that a version is deployed at a place, with these files; returns the event."""
    sums = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    return registry.note(
        place.model, DEPLOYED, why=why, version=version, env=place.env, to=place.to, kept=kept, files=sums, replaces=replaces,
        **about,
    )  # fmt: skip


@contextlib.contextmanager
def hold(registry: Registry, place: Site) -> Iterator[None]:
    """Be the only one who deploys at a place; `RegistryError` names who does already."""
    path, store = f"{ROOT}/{place}", registry.store
    if store.folder is not None:
        folder = store.folder / path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"{folder} cannot be made: {error.strerror}.") from error
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(folder, "The deployment"))
            except RunError as error:
                raise RegistryError(f"{error} Nothing was changed.") from error
            yield
        return
    held, mine = f"{path}/held", json.dumps({"who": who(), "time": time.time()}).encode()
    try:
        store.create(held, mine)
    except FileExistsError:
        told = json.loads(read(store, held))
        if time.time() - told["time"] < HELD:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["time"]))
            raise RegistryError(
                f"the deployment {store.place(path)} is held by {told['who']} since {since}. Nothing was changed."
            ) from None
        store.replace(held, mine)
    try:
        yield
    finally:
        store.remove(held)


def refusals(registry: Registry, name: str, version: int) -> list[str]:
    """Why a version may not go further: what its run misses of its `expect`, and gates or canaries that refused it."""
    missed = (registry.registered(name, version).get("expect") or {}).get("missed") or []
    said = [f"its run misses what its experiment states, {'; '.join(missed)}"] if missed else []
    refused = [e for e in _events(registry, name) if e["kind"] == "refused" and e.get("version") == version]
    return said + [f"it was refused, {event.get('why') or 'without a reason'}" for event in refused[-1:]]


def check_name(name: str) -> str:
    """The name of a model alone; `RegistryError` for a reference to one of its versions."""
    if "@" in name:
        said = name.partition("@")[0]
        raise RegistryError(f"`model` is the name alone here, {said}: what is deployed is known by its place; got {name}.")
    reading.check_name(name)
    return name
