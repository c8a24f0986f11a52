"""A model that is served as a registry's aliases say: which versions are held ready, and which answers.

Held ready are the alias's version, the one before it, for a rollback, and the newest, for what comes next: a move to
one of them only changes a route. Any other is proven and compiled first, as every new version is.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arsenal_serving.artifact.versions import SERVERS
from arsenal_serving.refused import Refused, show
from arsenal_serving.repository import registry, remote, rollout
from arsenal_serving.repository.registry import FRESH, MARK, MODELS, SCHEME
from arsenal_serving.repository.rollout import Policy
from arsenal_serving.repository.store import Store, open_store

OURS = ("versions", "default", "aliases")
"""Fields of a policy that the registry says."""


class Followed:
    """One model of a registry, by `models:/NAME@alias`, `models:/NAME@7` or `models:/NAME`, the newest.

    Raises `Refused` where the reference means nothing. `state` is what the newest event says that `look` has seen.
    """

    def __init__(self, root: str, reference: str, anonymous: bool = False):
        self.store = open_store(root, anonymous)
        registry.check_registry(self.store)
        self.reference = reference.removeprefix(SCHEME)
        self.name, self.which = registry.read_reference(self.reference)
        self.place = f"{MODELS}/{self.name}"
        self.state = registry.read_state(self.store, self.place)
        self.version()

    @property
    def folder(self) -> Path | None:
        """The folder of models, where the registry is one here."""
        return self.store.folder and self.store.folder / MODELS

    def look(self) -> None:
        """Read the newest event, if there is one that was not read."""
        self.state = registry.read_state(self.store, self.place, self.state)

    def version(self) -> int:
        """The version that answers; raises `Refused` where the alias was taken away."""
        return registry.version_of(self.name, self.which, self.state)

    def adjust(self, document: Any) -> Policy:
        """A policy with what the registry says in it; a canary that the alias has reached is over."""
        if not isinstance(document, dict):
            return rollout.policy(document)
        state = self.state
        number = registry.version_of(self.name, self.which, state)
        past = state.before.get(self.which, ()) if isinstance(self.which, str) else ()
        before = [other for other in past if other in state.versions and other != number][-1:]
        newest = state.versions[-1:] if not isinstance(self.which, int) else []
        kept = {key: value for key, value in document.items() if key not in OURS}
        canary = kept.get("canary")
        tried = canary.get("version") if isinstance(canary, dict) else None
        if tried is not None and number == (state.aliases.get(tried) if isinstance(tried, str) else tried):
            kept["canary"] = None
        parts = [part for part in (kept.get("canary"), kept.get("shadow")) if isinstance(part, dict)]
        used = {self.which, *(name for part in parts if isinstance(name := part.get("version"), str))}
        aliases = {alias: at for alias, at in state.aliases.items() if alias in used}
        ready = sorted({number, *before, *newest})
        return rollout.policy({**kept, "versions": ready, "default": number, "aliases": aliases})

    def set(self, document: Any) -> Policy:
        """The policy that somebody sets; raises `Refused` for what the registry says and not they."""
        made = self.adjust(document)
        said = rollout.document(made)
        for key in OURS if isinstance(document, dict) else ():
            if document.get(key) not in (None, {}, said[key]):
                raise Refused(
                    f"{show(key)} of a policy is what the registry says here; move {self.reference} instead: "
                    f"arsenal registry alias {self.reference}=VERSION."
                )
        return made

    def mirror(self, cache: Path | None, most: int) -> remote.Mirror:
        """Where the versions of a bucket are fetched to; as `remote.mirror`."""
        into = remote.mirror(f"{self.store.root}/{MODELS}", cache, False, most)
        origin = remote.Origin(into.origin.url, lambda path: self.store.open(f"{MODELS}/{path}"), lambda path: [])
        return into._replace(origin=origin, read=self.adjust)

    @property
    def models(self) -> Mapping[str, list[int]]:
        """The model and the versions that are there."""
        return {self.name: list(self.state.versions)}


class Claims:
    """What a server says in a registry of what it serves, so that nobody removes it: a file for each model."""

    def __init__(self, store: Store, reference: str):
        self._store, self._reference, self._lock = store, reference, threading.Lock()
        self._file = f"{SERVERS}/{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._said: dict[str, tuple[list[int], float]] = {}
        self._failed = False

    def tell(self, served: Mapping[str, list[int]]) -> None:
        """Say which versions of each model are served here now, again before it grows old."""
        with self._lock:
            for name, versions in served.items():
                said, when = self._said.get(name, ([], 0.0))
                if said == versions and time.time() - when < FRESH / 3:
                    continue
                word = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time(), "versions": versions}
                word["reference"] = self._reference
                try:
                    self._store.replace(f"{MODELS}/{name}/{self._file}", json.dumps(word).encode())
                except (Refused, OSError) as error:
                    if not self._failed:
                        why = " ".join(str(error).split())
                        sys.stderr.write(f"arsenal-serve: the registry cannot know what is served here: {why}\n")
                    self._failed = True
                self._said[name] = versions, time.time()

    def end(self) -> None:
        """Take it back."""
        with self._lock:
            for name in self._said:
                try:
                    self._store.remove(f"{MODELS}/{name}/{self._file}")
                except (Refused, OSError):
                    return  # it grows old by itself


def registry_around(folder: Path) -> Store | None:
    """The registry whose folder of models this is, if it is one."""
    if folder.name != MODELS or not (folder.parent / MARK).is_file():
        return None
    return open_store(str(folder.parent))
