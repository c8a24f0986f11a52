"""The models that are served: one artifact, or a folder of NAME/VERSION/ from which they are loaded and unloaded.

Triton's model repository extension, https://github.com/triton-inference-server/server
(docs/protocol/extension_model_repository.md): index, load, unload.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving import versions
from arsenal_serving.engine import Statistics
from arsenal_serving.model import Loaded, Model
from arsenal_serving.refused import Refused, shown, unknown
from arsenal_serving.versions import MODEL_NAME

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


class Missing(Exception):
    """No such model or version."""


class Unready(Exception):
    """There is such a model, but it is not served at the moment."""


class Served(NamedTuple):
    """A model that is ready, and what was counted of each of its methods."""

    model: Model
    statistics: dict[str, Statistics]


class Found(NamedTuple):
    """What a name in a request means: a method of a served model, and its versions that are ready."""

    model: Model
    method: Loaded
    statistics: Statistics
    versions: list[str]


class Repository:
    """Models by name and version.

    folder: one version, or a folder of NAME/VERSION/. make: a version's folder -> a model that is proven and warm.
    every: whether all versions of each are served, or the newest.
    """

    def __init__(self, folder: str | os.PathLike, make: Callable[[Path], Model], every: bool = False):
        self.folder, self._make, self._every = Path(folder), make, every
        self.many = not versions.is_version(self.folder)
        self.started = False
        self._ready: dict[str, dict[int, Served]] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._changing = threading.Lock()

    def start(self) -> None:
        """Load what the folder holds; raises `Refused` where nothing of it is taken."""
        if not self.many:
            model = self._make(self.folder)
            self._put(model.name, {model.version: model})
        else:
            names = _names(self.folder)
            refused = []
            for name in names:
                try:
                    self.load(name)
                except Refused as error:
                    refused.append(str(error))
            if not self._ready:
                why = refused[0] if refused else "it holds no NAME/VERSION/ with a manifest.json."
                raise Refused(f"{self.folder}: no model could be loaded: {why}")
        self.started = True

    @property
    def models(self) -> dict[str, Model]:
        """The newest ready version of each model."""
        return {name: ready[max(ready)].model for name, ready in self._ready.items()}

    def find(self, name: str, version: str | None = None) -> Found:
        """The method that a name means, of the newest version that is ready unless one is named.

        `NAME` is the model's default method, `NAME.METHOD` is each. Raises `Missing` or `Unready`.
        """
        ready = self._ready.get(name)
        method = ""
        if ready is None:
            head, _, method = name.rpartition(".")
            ready = self._ready.get(head)
        if ready is None:
            raise self._absent(name)
        number = max(ready) if not version else int(version) if versions.VERSION.fullmatch(version) else 0
        if number not in ready:
            there = ", ".join(repr(str(known)) for known in sorted(ready))
            raise Missing(f"model {shown(name)} has no version {shown(version)}; there is: {there}.")
        served = ready[number]
        method = method or served.model.default
        if method not in served.model.methods:
            raise self._absent(name)
        loaded = served.model.methods[method]
        return Found(served.model, loaded, served.statistics[method], [str(known) for known in sorted(ready)])

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Name, version, state and reason of every version that is, or could be, served; `ready`: of those that are."""
        known = {name for name, _ in self._states}
        found = [
            (name, "", UNAVAILABLE, "") for name in (_names(self.folder) if self.many else []) if name not in known
        ]
        found += [(*which, *state) for which, state in self._states.items()]
        rows = [dict(zip(("name", "version", "state", "reason"), row, strict=True)) for row in sorted(found)]
        return [row for row in rows if row["state"] == READY] if ready else rows

    def load(self, name: str, config: Any = None) -> None:
        """Load a model, or load it anew; it is swapped in once all of it is ready. Slow: not for the event loop.

        config: which versions, as in Triton: {"version_policy": {"latest": {"num_versions": 1}}}, {"all": {}} or
        {"specific": {"versions": [1, 3]}}. Raises `Missing` or `Refused`; the old versions are then still served.
        """
        if not MODEL_NAME.fullmatch(name) or name not in _names(self.folder):
            raise Missing(str(unknown("model", name, _names(self.folder))))
        with self._changing:
            there = versions.numbers(self.folder / name)
            chosen = _chosen(name, there, config, self._every)
            made: dict[int, Model] = {}
            for number in chosen:
                served = self._ready.get(name, {})
                if number not in served:
                    self._say(name, number, LOADING, "")
                try:
                    # A version never changes: one that is served already need not be made again.
                    made[number] = served[number].model if number in served else self._named(name, number)
                except Exception as error:
                    self._say(name, number, UNAVAILABLE, " ".join(str(error).split()))
                    raise
            self._put(name, made)

    def unload(self, name: str) -> None:
        """Serve a model no more; requests that have begun are answered. Waits for a load; raises `Missing`."""
        with self._changing:
            if name not in self._ready:
                raise self._absent(name)
            gone = self._ready[name]
            self._ready = {known: ready for known, ready in self._ready.items() if known != name}
            for number in gone:
                self._say(name, number, UNAVAILABLE, "unloaded")

    def statistics(
        self, name: str | None = None, version: str | None = None, seen: Callable[[str], bool] = lambda _: True
    ) -> dict:
        """Triton's statistics of a model's method, or of all that is ready of each model that is `seen`."""
        if name:
            found = self.find(name, version)
            numbers = [version] if version else found.versions
            return {"model_stats": [_counted(name, n, self.find(name, n).statistics) for n in numbers]}
        rows = [
            _counted(name if method == served.model.default else f"{name}.{method}", str(number), counted)
            for name, ready in sorted(self._ready.items())
            if seen(name)
            for number, served in sorted(ready.items())
            for method, counted in served.statistics.items()
        ]
        return {"model_stats": rows}

    def _named(self, name: str, number: int) -> Model:
        model = self._make(self.folder / name / str(number))
        if model.name != name:
            raise Refused(f"{self.folder / name} holds the model {model.name!r}; its folder must have its name.")
        return model

    def _put(self, name: str, made: dict[int, Model]) -> None:
        old = self._ready.get(name, {})
        for number in old.keys() - made.keys():
            self._say(name, number, UNAVAILABLE, "unloaded")
        for number in made:
            self._say(name, number, READY, "")
        # One assignment: a request sees the old versions or the new ones.
        served = {
            number: old.get(number) or Served(model, {method: Statistics() for method in model.methods})
            for number, model in made.items()
        }
        self._ready = {**self._ready, name: served}

    def _say(self, name: str, number: int, state: str, reason: str) -> None:
        # Copies, here and of what is ready: the event loop reads while another thread loads.
        self._states = {**self._states, (name, str(number)): (state, reason)}

    def _absent(self, name: str) -> Missing | Unready:
        if {name, name.rpartition(".")[0]} & {known for known, _ in self._states} - self._ready.keys():
            return Unready(f"model {shown(name)} is not ready.")
        served = [n for key, model in self.models.items() for n in (key, *(f"{key}.{m}" for m in model.methods))]
        return Missing(str(unknown("model", name, served)))


def _names(folder: Path) -> list[str]:
    """The models in a repository's folder; links are not followed."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and MODEL_NAME.fullmatch(entry.name) and _held(Path(entry.path))
        )


def _held(folder: Path) -> bool:
    try:
        return any(versions.is_version(folder / str(number)) for number in versions.numbers(folder))
    except Refused:
        return True  # a version that is a link: named when it is loaded


def _chosen(name: str, there: list[int], config: Any, every: bool) -> list[int]:
    policy = {"all": {}} if every else {"latest": {"num_versions": 1}}
    if config is not None:
        if not isinstance(config, dict) or set(config) - {"version_policy", "name"}:
            raise Refused(f"'config' of a load may hold 'version_policy'; got {shown(config)}.")
        policy = config.get("version_policy", policy)
    match policy:
        case {"all": _}:
            return there
        case {"latest": {"num_versions": int(count)}} if count > 0:
            return there[-count:]
        case {"specific": {"versions": list(wanted)}}:
            if wanted and {str(number) for number in wanted} <= {str(number) for number in there}:
                return sorted({int(number) for number in wanted})
    raise Refused(
        f"'version_policy' must be {{'all': {{}}}}, {{'latest': {{'num_versions': N}}}} or {{'specific': {{'versions': "
        f"[...]}}}} of versions of {name!r}, {shown(there)}; got {shown(policy)}."
    )


def _counted(name: str, version: str, counted: Statistics) -> dict:
    def cells(parts: dict[str, list[int]]) -> dict:
        return {part: {"count": count, "ns": nanoseconds} for part, (count, nanoseconds) in parts.items()}

    none = {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "last_inference": counted.last_ms,
        "inference_count": counted.rows,
        "execution_count": counted.runs,
        "inference_stats": {**cells(counted.parts), "cache_hit": none, "cache_miss": none},
        "batch_stats": [{"batch_size": rows, **cells(parts)} for rows, parts in sorted(counted.batches.items())],
        "memory_usage": [],
    }
