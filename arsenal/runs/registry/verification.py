"""Whether a registry is as it was written: every event there, every version's bytes those that were registered."""

import hashlib
import re
from typing import Any

from arsenal_serving.artifact.versions import SUMS, VERSION
from arsenal_serving.repository import registry as reading
from arsenal_serving.repository.store import read

from arsenal.runs.registry.versions import Registry, at


def verify_model(registry: Registry, name: str) -> tuple[int, list[str]]:
    """How many versions of a model hold, and what is wrong, a line each; every byte is read."""
    store, place = registry.store, at(name)
    state = registry.state(name)
    problems = []
    events: list[dict[str, Any]] = []
    for number in range(1, state.number + 1):
        try:
            events.append(reading.read_event(store, place, number))
            reading.state_after(store, place, events[-1])
        except ValueError as error:
            problems.append(" ".join(str(error).split()))
    told = {event["version"]: event for event in events if event.get("kind") == "registered"}
    sound = 0
    for version in state.versions:
        wrong = _check_version(registry, name, version, told.get(version))
        problems += wrong
        sound += not wrong
    known = {*state.versions, *state.uploads}
    strays = [int(one) for one in store.names(place) if VERSION.fullmatch(one) and int(one) not in known]
    problems += [f"{store.place(f'{place}/{n}')} is not registered: it was copied there, or was removed half" for n in strays]
    problems += [f"{name}@{n} was begun and not finished; add it again, or arsenal registry rm {name}@{n}" for n in state.uploads]
    return sound, problems


def _check_version(registry: Registry, name: str, version: int, told: dict[str, Any] | None) -> list[str]:
    store, place = registry.store, f"{at(name)}/{version}"
    if told is None:
        return [f"{name}@{version} has no event that says it was registered"]
    try:
        sums = read(store, f"{place}/{SUMS}")
        if hashlib.sha256(sums).hexdigest() != told["digest"]:
            return [f"{store.place(place)} is not what was registered as {name}@{version}: its {SUMS} changed"]
        if store.folder is not None:
            registry.path(name, version)
            return []
        for line in sums.decode().splitlines():
            wanted, path = re.split(r" [ *]", line, maxsplit=1)
            sha = hashlib.sha256()
            with store.open(f"{place}/{path}") as file:
                while chunk := file.read(1 << 20):
                    sha.update(chunk)
            if sha.hexdigest() != wanted:
                return [f"{store.place(f'{place}/{path}')} has changed since it was registered"]
    except FileNotFoundError as error:
        return [f"{store.place(place)} lacks a file, half of the registry was copied: {error.filename or error}"]
    except (OSError, ValueError, KeyError) as error:
        return [" ".join(str(error).split())]
    return []
