"""Where a model is deployed, by its events: a place is a profile and a kind of target."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from arsenal.runs.registry.events import RegistryError

DEPLOYED = "deployed"
FAILED = "deploy_failed"
TAKEN_DOWN = "taken_down"
KINDS = (DEPLOYED, FAILED, TAKEN_DOWN)


class Site(NamedTuple):
    """Where a model is deployed: its name, the profile and the kind of target."""

    model: str
    env: str
    to: str

    def __str__(self) -> str:
        """As a path."""
        return f"{self.model}/{self.env}/{self.to}"


def is_at(event: Mapping[str, Any], place: Site) -> bool:
    """Whether an event is of a deployment at a place."""
    return event["kind"] in KINDS and (event.get("env"), event.get("to")) == (place.env, place.to)


def current(events: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The event of what is deployed now, of one place's; None where nothing is."""
    last = next((event for event in reversed(events) if event["kind"] != FAILED), None)
    return last if last is not None and last["kind"] == DEPLOYED else None


def before(events: Sequence[dict[str, Any]], place: Site) -> dict[str, Any]:
    """The event of what is returned to: what was deployed before what is now; `RegistryError` where there was nothing.

    After a try that failed it is what is deployed now, of which the try may have left half. What was rolled back is not before
    what came back: rolled back again, it is what was before that.
    """
    now = current(events)
    if now is None:
        raise RegistryError(f"nothing is deployed at {place}, so nothing can be rolled back.")
    if events[-1]["kind"] == FAILED:
        return now
    if now.get("replaces") is None:
        raise RegistryError(f"{place.model}@{now['version']} is the first at {place}; there is nothing before it to return to.")
    return next(event for event in events if event["number"] == now["replaces"])


def places_of(name: str, events: Sequence[dict[str, Any]]) -> list[tuple[Site, list[dict[str, Any]]]]:
    """Every place where a model is deployed, with its events there, of all the model's."""
    found: dict[Site, list[dict[str, Any]]] = {}
    for event in events:
        if event["kind"] in KINDS and event.get("to"):
            found.setdefault(Site(name, event["env"], event["to"]), []).append(event)
    return [(place, own) for place, own in found.items() if current(own) is not None]


def holders(name: str, events: Sequence[dict[str, Any]]) -> dict[int, list[str]]:
    """Where each version of a model is deployed, or is what a rollback would return to, in words."""
    found: dict[int, list[str]] = {}
    for place, own in places_of(name, events):
        now: Any = current(own)
        found.setdefault(now["version"], []).append(f"deployed at {place}")
        if now.get("replaces") is not None:
            last = next(event for event in own if event["number"] == now["replaces"])
            if last["version"] != now["version"]:
                found.setdefault(last["version"], []).append(f"what a rollback of {place} returns to")
    return found
