"""A registry as it is read: models by name, versions and aliases, and what the events of each say of them now.

    registry.json                    {"format": 1}
    models/NAME/VERSION/             an artifact, never changed
    models/NAME/events/00000001.json what happened, one event a file, its number the order, each made exclusively
    models/NAME/servers/ID.json      who serves which versions by alias, as long as it is fresh

The newest event says all that holds now, so whoever follows a model looks for one file: that with the next number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from arsenal_serving.artifact.versions import ALIAS, EVENTS, MODEL_NAME, SERVERS, VERSION
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.repository.store import Store, read

FORMAT = 1
MARK, MODELS = "registry.json", "models"
SCHEME = "models:/"
EVENT_FILE = re.compile(r"(\d{8})\.json")
FRESH = 90.0
"""Seconds for which a server's word counts that it serves a version; it repeats it three times as often."""


class State(NamedTuple):
    """What holds of a model after its newest event.

    number: that event's, 0 where nothing happened yet. versions: those that are there, oldest first. last: the highest
    number that was ever given. before: where each alias was, the latest last. uploads: versions that were begun and are
    not there yet, with what tells their content.
    """

    number: int = 0
    versions: Sequence[int] = ()
    last: int = 0
    aliases: Mapping[str, int] = {}
    before: Mapping[str, Sequence[int]] = {}
    uploads: Mapping[int, str] = {}


def check_registry(store: Store) -> None:
    """Raise `Refused` where there is no registry, half of one, or one of a newer version."""
    try:
        found = json.loads(read(store, MARK))
    except FileNotFoundError:
        if store.names(MODELS):
            raise Refused(
                f"{store.root} has {MODELS}/ but no {MARK}: it is half a copy of a registry; copy the whole folder."
            ) from None
        raise Refused(f"there is no registry at {store.root}: it has no {MARK}.") from None
    except ValueError as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{store.place(MARK)} is damaged: {str(error).splitlines()[0]}.") from error
    form = found.get("format") if isinstance(found, dict) else None
    if type(form) is not int or not 1 <= form <= FORMAT:
        hint = "; it is of a newer version of arsenal" if type(form) is int and form > FORMAT else ""
        raise Refused(f"{store.place(MARK)} must have format {FORMAT}; got {show(form)}{hint}.")


def read_reference(text: str) -> tuple[str, str | int | None]:
    """Name and alias, version or None of `NAME@champion`, `NAME@7` or `NAME`; raises `Refused`.

    >>> read_reference("digits@champion"), read_reference("digits@7"), read_reference("digits")
    (('digits', 'champion'), ('digits', 7), ('digits', None))
    """
    name, at, which = text.partition("@")
    check_name(name)
    if not at:
        return name, None
    if VERSION.fullmatch(which):
        return name, int(which)
    check_alias(which)
    return name, which


def check_name(name: str) -> None:
    """Raise `Refused` for what cannot be the name of a model."""
    if not MODEL_NAME.fullmatch(name):
        raise Refused(
            f"the name of a model must be 1 to 100 letters, digits, '.', '_' or '-', first a letter or digit; "
            f"got {show(name)}."
        )


def check_alias(alias: str) -> None:
    """Raise `Refused` for what cannot be an alias, a number among it."""
    if not ALIAS.fullmatch(alias):
        raise Refused(f"an alias must be 1 to 64 letters, digits, '_' or '-', no digit first; got {show(alias)}.")


def resolve(store: Store, reference: str) -> tuple[str, int]:
    """The model and version that a reference means now; raises `Refused` for one that means none."""
    name, which = read_reference(reference)
    return name, version_of(name, which, read_state(store, f"{MODELS}/{name}"))


def version_of(name: str, which: str | int | None, state: State) -> int:
    """The version that an alias, a number or None (the newest) means; raises `Refused` for one that means none."""
    if not state.versions:
        raise Refused(f"there is no model {show(name)} in the registry, or no version of it.")
    if which is None:
        return state.versions[-1]
    if isinstance(which, str):
        if which not in state.aliases:
            raise unknown_name("alias", which, state.aliases, of=show(name))
        return state.aliases[which]
    if which not in state.versions:
        raise Refused(f"model {show(name)} has no version {which}; there is: {', '.join(name_ranges(state.versions))}.")
    return which


def read_state(store: Store, folder: str, known: State | None = None) -> State:
    """What holds now of `models/NAME`, or of another folder with events, `known` from an earlier look.

    Raises `Refused` for an event that was edited.
    """
    if known is None or known.number == 0:
        number = newest_event(store, folder)
    else:
        number = known.number
        while store.exists(event_path(folder, number + 1)):
            number += 1
        if number == known.number:
            return known
    return state_after(store, folder, read_event(store, folder, number)) if number else State()


def newest_event(store: Store, folder: str) -> int:
    """The number of the newest event; 0 where there is none."""
    found = map(EVENT_FILE.fullmatch, store.names(f"{folder}/{EVENTS}"))
    return max((int(match[1]) for match in found if match), default=0)


def event_path(folder: str, number: int) -> str:
    """Where an event lies."""
    return f"{folder}/{EVENTS}/{number:08d}.json"


def read_event(store: Store, folder: str, number: int) -> dict[str, Any]:
    """An event by its number; raises `Refused` for one that was edited or is gone."""
    path = event_path(folder, number)
    try:
        event = json.loads(read(store, path))
    except FileNotFoundError:
        raise Refused(f"{store.place(path)} is not there: half of the registry was copied, or it was edited.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{store.place(path)} is damaged: {str(error).splitlines()[0]}.") from error
    if not isinstance(event, dict) or event.get("number") != number:
        raise Refused(f"{store.place(path)} is damaged: it is not event {number}.")
    return event


def state_after(store: Store, folder: str, event: Mapping[str, Any]) -> State:
    """What an event says of all that holds after it; raises `Refused` where it was edited."""
    try:
        state = State(
            event["number"],
            [n for first, last in event["versions"] for n in range(first, last + 1)],
            event["last"],
            event["aliases"],
            event["before"],
            {int(number): content for number, content in event["uploads"].items()},
        )
        past = [number for before in state.before.values() for number in before]
        numbers = [*state.versions, state.last, *state.aliases.values(), *past]
        if not all(type(number) is int for number in numbers):
            raise ValueError("versions are whole numbers")
        if missing := set(state.aliases.values()) - set(state.versions):
            raise ValueError(f"an alias is at {min(missing)}, which is not there")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = store.place(event_path(folder, event["number"]))
        raise Refused(f"{where} was edited: {type(error).__name__}, {error}.") from error
    return state


def ranges(versions: Sequence[int]) -> list[list[int]]:
    """Whole numbers in their order as first and last of each run.

    >>> ranges([1, 2, 3, 7])
    [[1, 3], [7, 7]]
    """
    found: list[list[int]] = []
    for number in versions:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def name_ranges(versions: Sequence[int]) -> list[str]:
    """Versions in few words.

    >>> name_ranges([1, 2, 3, 7])
    ['1 to 3', '7']
    """
    return [str(first) if first == last else f"{first} to {last}" for first, last in ranges(versions)]


def holders(store: Store, folder: str, now: float) -> dict[int, list[str]]:
    """Who serves which versions of a model now, by version: `host, process N`. A server's word that is old is none."""
    found: dict[int, list[str]] = {}
    for name in store.names(f"{folder}/{SERVERS}"):
        try:
            told = json.loads(read(store, f"{folder}/{SERVERS}/{name}"))
            if now - float(told["time"]) > FRESH:
                continue
            for number in told["versions"]:
                found.setdefault(int(number), []).append(f"{told['host']}, process {told['process']}")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue  # it ended meanwhile, or is half written
    return found
