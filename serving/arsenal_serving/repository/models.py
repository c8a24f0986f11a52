"""The models that are served: one artifact, or a folder of NAME/VERSION/ from which they are loaded and unloaded.

NAME/policy.json says which versions and how calls are shared among them (`rollout`); it is what several servers of one
folder follow, and what a server that starts again does.

Triton's model repository extension, https://github.com/triton-inference-server/server
(docs/protocol/extension_model_repository.md): index, load, unload.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from arsenal_serving.artifact import versions
from arsenal_serving.artifact.versions import MODEL_NAME
from arsenal_serving.calls import Call, Stop
from arsenal_serving.files import replace_file
from arsenal_serving.model import Loaded, ServedModel
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.repository import rollout
from arsenal_serving.repository.engine import Statistics
from arsenal_serving.repository.following import OURS, Followed
from arsenal_serving.repository.rollout import Policy
from arsenal_serving.repository.trials import TrialCounts

SPLIT = ("infer", "predict")  # what canaries take a share of
READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
LINKED = "it is a link; a model's folder is a folder here, not somewhere else."


class Missing(Exception):
    """No such model or version."""


class Unready(Exception):
    """There is such a model, but it is not served at the moment."""


class Served(NamedTuple):
    """A model that is ready, and what was counted of each of its methods."""

    model: ServedModel
    statistics: dict[str, Statistics]


class Resolved(NamedTuple):
    """What a name in a request means: a method of a served model, and its versions that are ready."""

    model: ServedModel
    method: Loaded
    statistics: Statistics
    versions: list[str]


class Route(NamedTuple):
    """Where the calls of a name go.

    stable: those that name no version. named: those that name one, by number and alias. canary, shadow: where they have
    the method. trial: what is counted of these two.
    """

    stable: Resolved | None
    named: dict[str, Resolved]
    policy: Policy
    canary: Resolved | None
    shadow: Resolved | None
    trial: TrialCounts | None


# What happens, and its details; raises to refuse it.
Change = Callable[[str, dict[str, Any]], None]


class Repository:
    """Models by name and version.

    folder: one version, or a folder of NAME/VERSION/. make: a version's folder -> a model that is proven and warm.
    every: whether all versions of each are served, or the newest, where a policy does not say it. on_change: is told of
    "load", "unload", "policy" and "rollback" before it takes effect, on the thread that does it, with the model and
    what becomes of it; what it raises refuses the change. followed: the one model that is served, as its registry says.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        make: Callable[[Path], ServedModel],
        every: bool = False,
        on_change: Change = lambda event, details: None,
        followed: Followed | None = None,
    ):
        self.folder, self._make, self._every, self.followed = Path(folder), make, every, followed
        self.many = not versions.is_version(self.folder)
        self.started = False
        self.on_change = on_change
        self.routes: dict[str, Route] = {}  # by NAME and by NAME.METHOD; replaced, never changed
        self.rollbacks: dict[str, int] = {}  # how often, by model
        self._ready: dict[str, dict[int, Served]] = {}
        self._policies: dict[str, Policy] = {}
        self._trials: dict[str, TrialCounts] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._seen: dict[str, tuple] = {}
        self._changing = threading.Lock()  # held while versions are made, which takes long
        self._putting = threading.RLock()

    def start(self) -> None:
        """Load what the folder holds; raises `Refused` where nothing of it is taken."""
        if not self.many:
            model = self._make(self.folder)
            self._put(model.name, Policy(), {model.version: model})
        else:
            refused = self.follow("start")
            if not self._policies:
                linked = [f"{row['name']}: {row['reason']}" for row in self.index() if row["reason"] == LINKED]
                why = (refused + linked + ["it holds no NAME/VERSION/ with a manifest.json."])[0]
                raise Refused(f"{self.folder}: no model could be loaded: {why}")
        self.started = True

    def follow(self, by: str = "poll") -> list[str]:
        """Serve what the folder says now, and why not; what did not change since it was looked at is left alone.

        A version that is refused leaves the older ones served. A model whose folder is gone is served on.
        """
        refused = []
        linked = self.many and self.followed is None and self.folder.is_dir()
        for name in _names(self.folder, linked=True) if linked else []:
            if name not in self._ready:
                self._say(name, "", UNAVAILABLE, LINKED)
        for name in self._names():
            try:
                if self._seen.get(name) == self._look(name):
                    continue
                with self._changing:  # what was seen before it was free may be what somebody has changed meanwhile
                    content, there, _ = self._seen[name] = self._look(name)
                    given = self._parse(content)
                    self._change(name, given, there, "load", {"by": by}, around=True)
            except (Refused, OSError) as error:
                refused.append(" ".join(str(error).split()))
                if name not in self._ready and not any(known == name for known, _ in self._states):
                    self._say(name, "", UNAVAILABLE, refused[-1])
        return refused

    def turn(self) -> None:
        """Have calls go where the followed alias is now, if that version is ready; what has to be made is `follow`'s.

        It waits for nothing that is being made. What `on_change` raises refuses it.
        """
        assert self.followed is not None
        name = self.followed.name
        self.followed.look()
        given = self._parse(self._policy_file(name))
        with self._putting:
            ready, before = self._ready.get(name, {}), self._policies.get(name)
            if before is None or given.default == before.default or given.default not in ready:
                return
            numbers = sorted(ready)
            about = {"model": name, "versions": numbers, "policy": rollout.document(given), "by": "alias"}
            self.on_change("policy", about)
            self._put(name, given, {number: served.model for number, served in ready.items()})

    @property
    def models(self) -> dict[str, ServedModel]:
        """The version of each model that answers calls that name none."""
        return {name: route.stable.model for name in self._ready if (route := self.routes[name]).stable}

    @property
    def served(self) -> dict[str, list[int]]:
        """The versions of each model that are ready."""
        return {name: sorted(ready) for name, ready in self._ready.items()}

    def ready(self) -> list[tuple[str, str, ServedModel]]:
        """Name, version and model of every version that is ready."""
        return [(name, str(n), served.model) for name, ready in self._ready.items() for n, served in ready.items()]

    def find(self, name: str, version: str | None = None, call: Call | None = None) -> Resolved:
        """The method that a name means, of the version named, by number or alias, else of what the policy says.

        `NAME` is the model's default method, `NAME.METHOD` is each. call: where the model has a canary, what decides
        is noted as its `key`. Raises `Missing` or `Unready`.
        """
        route = self.routes.get(name)
        if route is None:
            raise self._absent(name)
        if version:
            if (found := route.named.get(version)) is None:
                there = ", ".join(repr(known) for known in route.named)
                raise Missing(f"model {show(name)} has no version {show(version)}; there is: {there}.")
            return found
        if route.stable is None:
            raise self._absent(name)
        canary = route.policy.canary
        if canary is None or call is None or call.operation not in SPLIT or route.canary is None:
            return route.stable
        if call.key is None:
            header = call.headers.get(canary.key.encode()) if canary.key else None
            call.key = header or (call.principal or call.address).encode()
        salt = f"{route.canary.model.version}/{route.canary.model.name}".encode()
        return route.canary if rollout.takes(salt, call.key, canary.weight) else route.stable

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Name, version, state and reason of every version that is, or could be, served; `ready`: of those that are."""
        known = {name for name, _ in self._states}
        found = [(name, "", UNAVAILABLE, "") for name in self._names() if name not in known]
        found += [(*which, *state) for which, state in self._states.items()]
        rows = [dict(zip(("name", "version", "state", "reason"), row, strict=True)) for row in sorted(found)]
        return [row for row in rows if row["state"] == READY] if ready else rows

    def load(self, name: str, config: Any = None, by: str = "") -> None:
        """Load a model, or load it anew; it is swapped in once all of it is ready. Slow: not for the event loop.

        config: which versions, as in Triton: {"version_policy": {"latest": {"num_versions": 1}}}, {"all": {}} or
        {"specific": {"versions": [1, 3]}}. Raises `Missing` or `Refused`; the old versions are then still served.
        """
        with self._changing:
            there = self._there(name)
            self._seen[name] = self._look(name)  # if it is refused, `follow` need not try it too
            given = self._read_policy(name)._replace(loaded=True)
            if config is not None and self.followed is not None:
                raise Refused(f"'config' of a load does not go with {self.followed.reference}: the registry says it.")
            if config is not None:
                given = given._replace(versions=_read_config(name, there, config))
            self._change(name, given, there, "load", {"by": by})
            self._keep(name, given)

    def unload(self, name: str, by: str = "") -> None:
        """Serve a model no more; requests that have begun are answered. Waits for a load; raises `Missing`."""
        with self._changing:
            if name not in self._ready:
                raise self._absent(name)
            given = self._read_policy(name)._replace(loaded=False)
            self._change(name, given, [], "unload", {"by": by})
            self._keep(name, given)

    def policy(self, name: str) -> dict[str, Any]:
        """A model's policy, which versions are ready, which answers calls that name none, and what was counted."""
        if name not in self._policies:
            raise self._absent(name)
        ready, trial, route = self._ready.get(name, {}), self._trials.get(name), self.routes.get(name)
        return {
            "name": name,
            "policy": rollout.document(self._policies[name]),
            "versions": [str(number) for number in sorted(ready)],
            "default": str(route.stable.model.version) if route and route.stable else None,
            "observed": trial.report() if trial else {},
        }

    def set_policy(self, name: str, document: Any, by: str = "") -> None:
        """Follow another policy from now on, and keep it in the folder. Slow, as `load`.

        Raises `Missing` or `Refused`, and `Stop` where the folder cannot be written; then nothing changed.
        """
        with self._changing:
            there = self._there(name)
            given = rollout.policy(document) if self.followed is None else self.followed.set(document)
            self._change(name, given, there, "policy", {"by": by}, kept=lambda: self._write(name, given))

    def roll_back(self, name: str, trial: TrialCounts, why: str) -> None:
        """Give the canary of a trial no more calls, and say why in the policy; nothing if there is another by now."""
        head = name if name in self._ready else name.rpartition(".")[0]
        with self._putting:
            given = self._policies.get(head)
            if self._trials.get(head) is not trial or not given or not given.canary or not given.canary.weight:
                return
            number = rollout.number_of(given, given.canary.version)
            stopped = {"why": why, "when": datetime.now(UTC).isoformat(timespec="seconds")}
            try:
                self.on_change("rollback", {"model": head, "version": number, **stopped})
            except Exception as error:  # a full disk is no reason to go on with a version that fails
                sys.stderr.write(f"arsenal-serve: the rollback of {head!r} is not in the audit log: {error}\n")
            given = given._replace(canary=given.canary._replace(weight=0.0, stopped=stopped))
            self._policies = {**self._policies, head: given}
            self.rollbacks[head] = self.rollbacks.get(head, 0) + 1
            trial.policy = given
            self._route()
            sys.stderr.write(f"arsenal-serve: model {head!r}: version {number} is rolled back: {why}.\n")
            stored = self._read_policy(head)
            if stored.canary and rollout.number_of(stored, stored.canary.version) == number:  # no other one by now
                self._keep(head, stored._replace(canary=given.canary))

    def statistics(
        self, name: str | None = None, version: str | None = None, seen: Callable[[str], bool] = lambda _: True
    ) -> dict:
        """Triton's statistics of a model's method, or of all that is ready of each model that is `seen`."""
        if name:
            found = self.find(name, version)
            numbers = [str(found.model.version)] if version else found.versions
            every = [(n, self.find(name, n)) for n in numbers]
            return {"model_stats": [_count(name, n, one.model, one.statistics) for n, one in every]}
        rows = [
            _count(
                name if method == served.model.default else f"{name}.{method}", str(number), served.model, counted
            )
            for name, ready in sorted(self._ready.items())
            if seen(name)
            for number, served in sorted(ready.items())
            for method, counted in served.statistics.items()
        ]
        return {"model_stats": rows}

    def _there(self, name: str) -> list[int]:
        names = self._names()
        if not names and not self.folder.is_dir():
            raise Unready(f"the folder {self.folder} is not there.")
        if not MODEL_NAME.fullmatch(name) or name not in names:
            raise Missing(str(unknown_name("model", name, names)))
        return self._versions(name)

    def _versions(self, name: str) -> list[int]:
        return versions.numbers(self.folder / name) if self.followed is None else self.followed.models[name]

    def _names(self) -> list[str]:
        if self.followed is not None:
            return [self.followed.name]
        try:
            return _names(self.folder) if self.many else []
        except OSError:
            return []  # it was removed: what is loaded is served on

    def _change(
        self,
        name: str,
        given: Policy,
        there: list[int],
        event: str,
        details: dict[str, Any],
        around: bool = False,
        kept: Callable[[], None] = lambda: None,
    ) -> None:
        """Make what the policy chooses, tell it, and serve it. around: versions that are refused are left out."""
        refused: dict[int, Refused] = {}
        made: dict[int, ServedModel] = {}
        while True:
            try:
                numbers = rollout.choose(given, [n for n in there if n not in refused], self._every)
            except Refused as error:
                raise next(iter(refused.values()), error) from error
            if not numbers and given.loaded:
                raise next(iter(refused.values()), Refused(f"{self.folder / name} holds no version."))
            try:
                for number in numbers:
                    made[number] = made.get(number) or self._one(name, number)
                break
            except Refused as error:
                if not around:
                    raise
                refused[number] = error
                if self.followed is not None and number != given.default:  # held ready only
                    given = given._replace(versions=[other for other in given.versions if other != number])
        made = {number: made[number] for number in numbers}
        if around and self._ready.get(name, {}).keys() == made.keys() and self._policies.get(name) == given:
            return
        self.on_change(event, {"model": name, "versions": numbers, "policy": rollout.document(given), **details})
        kept()
        with self._putting:
            if self.followed is not None:  # its alias may have moved while versions were made
                given, made = self._catch_up(name, given, made)
            fewer = not self._ready.get(name, {}).keys() <= made.keys()
            self._put(name, given, made)
        if fewer:
            gc.collect()  # what compiles leaves cycles that hold frames, and those hold what was served

    def _catch_up(
        self, name: str, given: Policy, made: dict[int, ServedModel]
    ) -> tuple[Policy, dict[int, ServedModel]]:
        """The policy as it is by now, if all that it names is made or ready."""
        assert self.followed is not None
        now = self.followed.adjust(rollout.document(given))
        named = {now.default, *now.aliases.values()}
        held = {number: served.model for number, served in self._ready.get(name, {}).items() if number in named}
        return (now, {**held, **made}) if now.loaded and named <= {*held, *made} else (given, made)

    def _one(self, name: str, number: int) -> ServedModel:
        if number in self._ready.get(name, {}):  # a version never changes: it need not be made again
            return self._ready[name][number].model
        self._say(name, str(number), LOADING, "")
        try:
            model = self._make(self.folder / name / str(number))
            if model.name != name:
                raise Refused(f"{self.folder / name} holds the model {model.name!r}; its folder must have its name.")
            return model
        except Exception as error:
            self._say(name, str(number), UNAVAILABLE, " ".join(str(error).split()))
            raise

    def _put(self, name: str, given: Policy, made: dict[int, ServedModel]) -> None:
        with self._putting:
            old = self._ready.get(name, {})
            for number in old.keys() - made.keys():
                self._say(name, str(number), UNAVAILABLE, "unloaded")
            for number in made:
                self._say(name, str(number), READY, "")
            served = {
                number: old.get(number) or Served(model, {method: Statistics() for method in model.methods})
                for number, model in made.items()
            }
            others = {known: ready for known, ready in self._ready.items() if known != name}
            self._ready = {**others, name: served} if served else others
            before = self._trials.get(name)
            trials = {known: trial for known, trial in self._trials.items() if known != name}
            if served and (given.canary or given.shadow):
                goes_on = before is not None and _trial_key(before.policy) == _trial_key(given)
                trials[name] = before if before is not None and goes_on else TrialCounts(given)
                trials[name].policy = given
            self._trials, self._policies = trials, {**self._policies, name: given}
            self._route()

    def _route(self) -> None:
        routes: dict[str, Route] = {}
        for name, ready in self._ready.items():
            given, trial = self._policies[name], self._trials.get(name)
            stable = rollout.default(given, list(ready))
            for full in (name, *{f"{name}.{method}" for served in ready.values() for method in served.model.methods}):
                found: dict[int, Resolved] = {}
                able = [n for n in sorted(ready) if full == name or full[len(name) + 1 :] in ready[n].model.methods]
                for number in able:
                    model, statistics = ready[number]
                    method = model.default if full == name else full[len(name) + 1 :]
                    known = [str(other) for other in able]
                    found[number] = Resolved(model, model.methods[method], statistics[method], known)
                named = {str(number): what for number, what in found.items()}
                named |= {alias: found[number] for alias, number in given.aliases.items() if number in found}
                canary, shadow = (
                    found.get(rollout.number_of(given, part.version)) if part else None
                    for part in (given.canary, given.shadow)
                )
                routes[full] = Route(found.get(stable), named, given, canary, shadow, trial)
        # One assignment: a request sees the old versions or the new ones.
        self.routes = routes

    def _say(self, name: str, number: str, state: str, reason: str) -> None:
        # Copies, here and of what is ready: the event loop reads while another thread loads.
        with self._putting:
            kept = {key: said for key, said in self._states.items() if key != (name, "")}
            self._states = {**kept, (name, number): (state, reason)}

    def _absent(self, name: str) -> Missing | Unready:
        heads = {name, name.rpartition(".")[0]}
        if heads & (({known for known, _ in self._states} | self._policies.keys()) - self._ready.keys()):
            return Unready(f"model {show(name)} is not ready.")
        return Missing(str(unknown_name("model", name, self.routes)))

    def _look(self, name: str) -> tuple[bytes, list[int], list[int]]:
        content, there = self._policy_file(name), self._versions(name)
        if self.followed is None:
            return content, there, []
        mirrored = versions.numbers(self.folder / name) if self.followed.folder is None else []
        return content, there, [self.followed.state.number, *mirrored]

    def _parse(self, content: bytes) -> Policy:
        return rollout.parse(content or b"{}", None if self.followed is None else self.followed.adjust)

    def _policy_file(self, name: str) -> bytes:
        path = self.folder / name / versions.POLICY
        try:
            with open(path, "rb") as file:
                return file.read(rollout.LONGEST + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}.") from error

    def _read_policy(self, name: str) -> Policy:
        """The policy in the folder, or the one that is followed where there is none."""
        content = self._policy_file(name)
        return self._parse(content) if content else self._policies.get(name, Policy())

    def _write(self, name: str, given: Policy) -> None:
        path, form = self.folder / name / versions.POLICY, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        said = rollout.document(given)
        if self.followed is not None:
            said = {key: value for key, value in said.items() if key not in OURS}
        try:
            replace_file(path, orjson.dumps(said, option=form))
        except OSError as error:
            raise Stop(503, f"{path} cannot be written: {error.strerror}.") from error

    def _keep(self, name: str, given: Policy) -> None:
        """Write what is served to the folder if it says otherwise, so that a restart serves the same."""
        try:
            content = self._policy_file(name)
            if given != self._parse(content):
                self._write(name, given)
        except (Refused, Stop) as error:
            sys.stderr.write(f"arsenal-serve: a restart will not know what changed of {name!r}: {error}\n")


def _names(folder: Path, linked: bool = False) -> list[str]:
    """The models in a repository's folder; links are not followed. linked: those that are links instead."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if (entry.is_symlink() if linked else entry.is_dir(follow_symlinks=False))
            if entry.is_dir() and MODEL_NAME.fullmatch(entry.name) and _holds_versions(Path(entry.path))
        )


def _holds_versions(folder: Path) -> bool:
    try:
        return any(versions.is_version(folder / str(number)) for number in versions.numbers(folder))
    except Refused:
        return True  # a version that is a link: named when it is loaded


def _trial_key(given: Policy) -> tuple:
    """What a trial is about: it begins anew when this changes."""
    parts = (given.canary, given.shadow)
    numbers = [part and rollout.number_of(given, part.version) for part in parts]
    return rollout.default(given, [0]), bool(given.canary and given.canary.weight), *numbers


def _read_config(name: str, there: list[int], config: Any) -> Any:
    """The `versions` of a policy that a load's config means."""
    if not isinstance(config, dict) or set(config) - {"version_policy", "name"}:
        raise Refused(f"'config' of a load may hold 'version_policy'; got {show(config)}.")
    match policy := config.get("version_policy"):
        case None:
            return None
        case {"all": _}:
            return "all"
        case {"latest": {"num_versions": int(count)}} if count > 0:
            return "newest" if count == 1 else {"newest": int(count)}
        case {"specific": {"versions": list(wanted)}}:
            if wanted and {str(number) for number in wanted} <= {str(number) for number in there}:
                return sorted({int(number) for number in wanted})
    raise Refused(
        f"'version_policy' must be {{'all': {{}}}}, {{'latest': {{'num_versions': N}}}} or {{'specific': {{'versions': "
        f"[...]}}}} of versions of {name!r}, {show(there)}; got {show(policy)}."
    )


def _count(name: str, version: str, model: ServedModel, counted: Statistics) -> dict:
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
        "late_compiles": model.late_compiles,
    }
