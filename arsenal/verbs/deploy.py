"""`arsenal deploy model=NAME@ALIAS to=TARGET env=PROFILE`: a model's files for a place, the difference, and the act."""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import shutil
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.cli import UsageError, as_truth
from arsenal.nearest import nearest
from arsenal.runs.registry import Registry, RegistryError, open_registry
from arsenal.runs.registry import deployments as kept
from arsenal.runs.registry.deployments import Release
from arsenal.runs.registry.places import DEPLOYED, FAILED, TAKEN_DOWN, Site, before, current
from arsenal.storage.files import read_json, write_json, write_text

ROOM = "arsenal_serving.deploy"
TARGETS = {
    "kubernetes": "kubernetes", "kustomize": "kustomize", "helm": "helm", "kserve": "kserve", "knative": "knative",
    "compose": "compose", "local": "local", "systemd": "systemd",
    "aws": "terraform.aws", "gcp": "terraform.gcp", "azure": "terraform.azure", "slurm": "slurm", "skypilot": "skypilot",
}  # fmt: skip
"""Kinds of places, each a module with `files`, and `apply` where it can act."""
TRAINING = ("slurm", "skypilot")
"""Targets that train the version again, by the words of its run unless the profile has others."""
BESIDE = ("compose", "local", "systemd")
"""Targets of this machine: the version lies beside their files, models/NAME."""
WRITTEN = ".written.json"
"""A `Written` of a folder, so that this verb takes away only its own and writes over nobody else's."""
SHOWN = 60
"""Lines of a difference that are printed."""
Say = Callable[[str], None]


class Platform(NamedTuple):
    """What a kind of place does with a description.

    apply: gives what it came to know, a bucket's address, say; None where it only writes files. stop: ends what runs from a
    folder; None where it cannot. runs: whether all that was begun from a folder is there, as far as it knows. notes: what it does
    not hear.
    """

    name: str
    files: Callable[[Any], dict[str, str]]
    apply: Callable[[Path, Any, Say], dict[str, Any] | None] | None
    stop: Callable[[Path, Any, Say], None] | None
    runs: Callable[[Path], bool]
    notes: Callable[[Any], Iterable[str]]


def deploy(
    model: str, to: str, env: str, into: str | None = None, apply: str = "false", force: str = "false", why: str = "",
    registry: str | None = None, **profile: str,
) -> None:  # fmt: skip
    """Write a model's files for a place, show how they differ from what is deployed there, and act with apply=true.

    model: of the registry, NAME@ALIAS or NAME@7. to: kubernetes, kustomize, helm, kserve, knative, compose, local, systemd, aws,
    gcp, azure; slurm and skypilot train it again. env: a profile, conf/deployment/ENV.yaml here, else arsenal's own development,
    staging and production. into: the files' folder, deployments/NAME/ENV/TO unless given. apply: true acts. force: true though
    a gate forbids it, and over files that were edited; the registry's event tells it. why: what the history says of it.
    registry: its folder or URL. KEY=VALUE: of the profile, as scale.most=4 or extra.aws.region=eu-west-1.

    arsenal deploy rollback returns to what was deployed before, down takes it down; list and show say what is deployed.
    """
    target, acts, forced = find_target(to), as_truth("apply", apply), as_truth("force", force)
    check_acts(target, acts)
    if "@" not in model:
        raise UsageError(f"`model` must be NAME@ALIAS or NAME@NUMBER, so that it is known which is deployed; got {model}.")
    opened = open_registry(registry)
    name, version = opened.resolve(model)
    place = Site(name, env, to)
    reasons = kept.refusals(opened, name, version)
    if reasons and not forced:
        raise RegistryError(f"{name}@{version} is not deployed: {'; '.join(reasons)}; force=true does it on record.")
    check_keys(profile)
    described = describe_version(opened, place, version, model.partition("@")[2], profile)
    made = describe_profile(described)
    if canary := made.canary.version:
        refused = [f"the canary {name}@{canary}: {reason}" for reason in kept.refusals(opened, name, canary)]
        if refused and not forced:
            raise RegistryError(f"{'; '.join(refused)}; force=true deploys it on record.")
        reasons += refused
    done = Release(described, target.files(made))
    folder = Path(into) if into else Path("deployments") / str(place)
    with kept.hold(opened, place) if acts else contextlib.nullcontext():
        now = current(kept.history(opened, place))
        for line in plan(opened, place, done, now, folder):
            print(line)
        for note in [*notes_of_image(made), *target.notes(made)]:
            print(f"  note: {note}")
        number = None if now is None else now["number"]
        more = {"forced": reasons} if reasons else {}
        write_files(folder, done.files, place, forced)
        if acts:
            act(opened, target, place, done, folder, version, why, replaces=number, left=number, **more)
        else:
            print("Nothing was changed but the folder; apply=true acts.")


def rollback(
    model: str, to: str, env: str, into: str | None = None, apply: str = "true", force: str = "false", why: str = "",
    registry: str | None = None,
) -> None:  # fmt: skip
    """Return to what was deployed at a place before, with the files of then; once more, to what was before that.

    model: its name. to, env: the place. into: the files' folder, deployments/NAME/ENV/TO unless given. apply: false only shows
    what would change. force: true writes over files that were edited. why: what the history says of it. registry: its root.
    """
    target, acts, forced = find_target(to), as_truth("apply", apply), as_truth("force", force)
    check_acts(target, acts)
    opened, place = open_registry(registry), Site(kept.check_name(model), env, to)
    opened.check()
    before(kept.history(opened, place), place)  # to nothing there is no way, nor anything to hold
    folder = Path(into) if into else Path("deployments") / str(place)
    with kept.hold(opened, place) if acts else contextlib.nullcontext():
        events = kept.history(opened, place)
        back, now = before(events, place), current(events)
        done = kept.recall(opened, back)
        for line in plan(opened, place, done, now, folder):
            print(line)
        if not acts:
            print("Nothing was changed; apply=true acts.")
            return
        write_files(folder, done.files, place, forced)
        left = None if now is None else now["number"]
        act(opened, target, place, done, folder, back["version"], why, replaces=back["replaces"], left=left, back=back["number"])


def down(
    model: str, to: str, env: str, into: str | None = None, yes: str = "false", why: str = "", registry: str | None = None
) -> None:
    """Take down what is deployed at a place, and keep that it was.

    model: its name. to, env: the place. into: the files' folder, deployments/NAME/ENV/TO unless given. yes: true takes it down.
    Processes of this machine (to=local) are ended; elsewhere the page of the target says what takes it down, and this notes that
    it was done. why: what the history says of it. registry: its root.
    """
    target, sure = find_target(to), as_truth("yes", yes)
    opened, place = open_registry(registry), Site(kept.check_name(model), env, to)
    opened.check()
    folder = Path(into) if into else Path("deployments") / str(place)
    now = current(kept.history(opened, place))
    if now is None:
        raise RegistryError(f"nothing is deployed at {place}.")
    what = f"{place.model}@{now['version']} at {place}"
    if not sure:
        does = "ends its processes" if target.stop else f"notes that it was taken down, as docs/deploy/{to}.md says how"
        print(f"{what} is deployed; yes=true {does}.")
        return
    with kept.hold(opened, place):
        if target.stop:
            target.stop(folder, describe_profile(kept.recall(opened, now).profile), lambda said: print(f"  {said}", flush=True))
        event = opened.note(
            place.model, TAKEN_DOWN, why=why, version=now["version"], env=env, to=to, left=now["number"]
        )  # fmt: skip
    print(f"{what} is taken down, event {event['number']}")


def list_deployed(model: str | None = None, registry: str | None = None) -> None:
    """List what is deployed, a line for each place.

    model: of one model. registry: its folder or URL.
    """
    from arsenal.runs import table
    from arsenal.verbs.registry import moment

    opened = open_registry(registry)
    opened.check()
    if model is not None and model not in (known := opened.names()):
        raise RegistryError(f"there is no model {kept.check_name(model)} in the registry.{nearest(model, known)}")
    rows = []
    for place, events in kept.places(opened, None if model is None else kept.check_name(model)):
        now = current(events) or {}
        failed = "the last try failed" if events[-1]["kind"] == FAILED else ""
        rows.append([
            place.model, place.env, place.to, str(now["version"]), str(now.get("image", "")), moment(now["time"]), now["who"],
            failed or now["why"],
        ])  # fmt: skip
    heads = ("name", "env", "to", "version", "image", "since", "who", "why")
    print(table.align(heads, rows) if rows else "Nothing is deployed.", end="" if rows else "\n")


def show(model: str, to: str, env: str, into: str | None = None, registry: str | None = None) -> None:
    """Show what is deployed at a place, with its files, and what was there before.

    model: its name. to, env: the place. into: a folder for the files as they were deployed. registry: its folder or URL.
    """
    from arsenal.verbs.registry import moment

    find_target(to)
    opened, place = open_registry(registry), Site(kept.check_name(model), env, to)
    opened.check()
    events = kept.history(opened, place)
    now = current(events)
    if now is None:
        raise RegistryError(f"nothing is deployed at {place}.")
    print(f"{place}: {place.model}@{now['version']} since {moment(now['time'])} by {now['who']}")
    for key in ("image", "digest", "why", "forced"):
        if now.get(key):
            print(f"  {key}: {'; '.join(now[key]) if isinstance(now[key], list) else now[key]}")
    for key, value in (now.get("outputs") or {}).items():
        print(f"  {key}: {value}")
    for path, digest in now["files"].items():
        print(f"  {digest[:12]}  {path}")
    for event in reversed(events):
        said = f"deployed {place.model}@{event['version']}" if event["kind"] == DEPLOYED else f"failed: {event['why']}"
        if event["kind"] == TAKEN_DOWN:
            said = f"took down {place.model}@{event['version']}"
        if event.get("back"):
            said = f"rolled back to {place.model}@{event['version']}"
        print(f"{event['number']:>4}  {moment(event['time'])}  {event['who']}  {said}")
    if into is not None:
        write_files(Path(into), kept.recall(opened, now).files, place)
        print(f"files: {into}")


# What is asked for, as it is: a target, a profile, its files.


def find_target(name: str) -> Platform:
    """The kind of place of a name; `UsageError` for one that there is not."""
    if name not in TARGETS:
        raise UsageError(f"`to` must be one of {', '.join(TARGETS)}; got {name}.{nearest(name, TARGETS)}")
    path = f"{ROOM}.{TARGETS[name]}"
    if importlib.util.find_spec(path) is None:
        raise UsageError(f"This installation has no target {name}: ml-arsenal-serving is older than ml-arsenal.")
    module = importlib.import_module(path)
    apply, stop = getattr(module, "apply", None), getattr(module, "stop", None)
    runs, notes = getattr(module, "runs", lambda folder: False), getattr(module, "notes", lambda made: ())
    return Platform(name, module.files, apply, stop, runs, notes)


def check_keys(words: Iterable[str]) -> None:
    """`UsageError` for a word that is no section of a profile and nearly an argument of the verb."""
    from arsenal_serving.deploy.description import Deployment

    own = [name for name, p in inspect.signature(deploy).parameters.items() if p.kind is not p.VAR_KEYWORD]
    for word in words:
        if word.partition(".")[0] not in Deployment._fields and (near := nearest(word, own)):
            raise UsageError(f"`deploy` has no argument `{word}`.{near}")


def notes_of_image(made: Any) -> Iterator[str]:
    """What nothing looks into: an image of another tag than the version's."""
    tag, version = made.image.tag, made.model.version
    if made.model.source == "inside" and not made.image.digest and tag not in ("", str(version)):
        yield f"image.tag is {tag}, the version {version}: `arsenal-serve smoke` tells whether it answers as that version"


def check_acts(target: Platform, acts: bool) -> None:
    """Refuse, before anything is written, to act for a target that only writes files."""
    if acts and target.apply is None:
        raise UsageError(f"`to={target.name}` only writes files; another program takes them from there: apply=false.")


def describe_version(
    registry: Registry, place: Site, version: int, alias: str, words: Mapping[str, str]
) -> dict[str, Any]:
    """The profile of a place with the version in it, whose bytes are those that were registered; `RegistryError` else."""
    from arsenal_serving.artifact.versions import SUMS
    from arsenal_serving.deploy.description import ENVIRONMENTS, image_name, label

    from arsenal.config import compose_profile

    own = Path("conf")
    made = compose_profile(place.env, words, own if (own / "deployment").is_dir() else None)
    path = registry.path(place.model, version)
    digest = hashlib.sha256((path / SUMS).read_bytes()).hexdigest()
    if digest != registry.registered(place.model, version)["digest"]:
        raise RegistryError(f"{path} is not what was registered as {place.model}@{version}: its {SUMS} changed.")
    model, image = made.get("model") or {}, made.get("image") or {}
    facts = {"name": place.model, "version": version, "digest": f"sha256:{digest}"}
    if isinstance(model, dict):
        for key, value in facts.items():
            if model.get(key, value) != value:
                raise RegistryError(f"`model.{key}` is the registry's to say, {value}; the profile has {model[key]}.")
        made["model"] = {**model, **facts, "alias": "" if alias.isdecimal() else alias}
    own_place = "" if place.env in ENVIRONMENTS else f"-{place.env}"  # beside what its `env` has of the same model
    made.setdefault("name", f"{label(place.model)}{own_place}")
    if isinstance(image, dict) and isinstance(model, dict) and model.get("source", "inside") == "inside":
        made["image"] = {"name": image_name(place.model), "tag": str(version), **image}
    if place.to in TRAINING:
        extra = made.setdefault("extra", {})
        training = extra.setdefault("training", {}) if isinstance(extra, dict) else None
        if isinstance(training, dict) and not training.get("words"):
            from arsenal_serving.deploy.training import RESERVED

            typed = registry.registered(place.model, version).get("overrides") or []
            training["words"] = [word for word in typed if word.lstrip("+~").partition("=")[0] not in RESERVED]
    return made


def describe_profile(profile: Mapping[str, Any]) -> Any:
    """The typed description of a profile; `Refused` in one line for what cannot be meant."""
    from arsenal_serving.deploy.description import describe

    return describe(profile)


# What is said, written and done.


def plan(registry: Registry, place: Site, done: Release, now: dict[str, Any] | None, folder: Path) -> Iterator[str]:
    """What a deployment changes at a place, in lines."""
    made = describe_profile(done.profile)
    count = len(done.files)
    yield f"{place.model}@{made.model.version} to {place.to}, {place.env}: {count} file{'s' * (count != 1)} in {folder}"
    old = None if now is None else kept.recall(registry, now)
    if old is None or now is None:
        served = "".join(f", {'image ' * (what == 'image')}{text}" for what, text in facts_of(place.to, made).items())
        yield f"  nothing is deployed there yet; version {made.model.version}{served}"
        written = read_written(folder).files
        there = {path: (folder / path).read_text("utf-8", "replace") for path in written if (folder / path).is_file()}
        if not there:
            yield from (f"  + {path}" for path in done.files)
        elif there == done.files:
            yield "  the files are those that lie in the folder"
        else:
            yield "  to those that lie in the folder:"
            yield from shorten([line for path in sorted({*there, *done.files}) for line in difference(path, there, done.files)])
        return
    try:
        was = describe_profile(old.profile)
    except ValueError as error:  # what it was deployed with may be refused by now
        yield f"  version: {now['version']} -> {made.model.version}; its profile is refused now: {error}"
    else:
        before_it, after = ({"version": one.model.version, "name": one.name, **facts_of(place.to, one)} for one in (was, made))
        yield from (f"  {what}: {before_it[what]} -> {text}" for what, text in after.items() if before_it[what] != text)
    lines = [line for path in sorted({*old.files, *done.files}) for line in difference(path, old.files, done.files)]
    if not lines:
        yield f"  the files are those that were deployed last, as event {now['number']}"
    yield from shorten(lines)


def shorten(lines: list[str]) -> Iterator[str]:
    """As many lines of a difference as are printed, and how many more there are."""
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"… {len(lines) - SHOWN} more lines of the difference"


def facts_of(to: str, made: Any) -> dict[str, str]:
    """What a kind of place makes of a deployment, in words: its image, and how many replicas."""
    least, most = made.scale.least, made.scale.most
    if to in BESIDE:  # nothing there begins another
        least = most = max(1, least)
    found = {} if to in (*TRAINING, "local", "systemd") else {"image": made.image.reference}
    several = f"{most} replica{'s' * (most != 1)}" if least == most else f"{least} to {most} replicas"
    return found if to in TRAINING else found | {"replicas": several}


def difference(path: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """How a file differs, as a unified difference with one line around."""
    one, other = old.get(path), new.get(path)
    names = (path if one is not None else "/dev/null", path if other is not None else "/dev/null")
    found = difflib.unified_diff((one or "").splitlines(), (other or "").splitlines(), *names, n=1, lineterm="")
    return list(found)


class Written(NamedTuple):
    """What this verb wrote into a folder: for which place, and each file's SHA-256 by its path."""

    place: str = ""
    files: Mapping[str, str] = types.MappingProxyType({})


def read_written(folder: Path) -> Written:
    """What was written into a folder the last time."""
    listing = folder / WRITTEN
    return Written(**read_json(listing)) if listing.is_file() else Written()


def write_files(folder: Path, files: Mapping[str, str], place: Site, force: bool = False) -> None:
    """Write the files, and remove those of the last time that are no more; a file that was edited since is not written over.

    Nothing is written where one was, unless `force`, nor where another place's files are.
    """
    whose, known = read_written(folder)
    if whose not in ("", str(place)):
        raise RegistryError(f"{folder} has the files of {whose}; those of {place} take another folder, into=FOLDER.")
    sums = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    for path in {**known, **sums}:
        if os.path.isabs(path) or ".." in Path(path).parts:
            raise RegistryError(f"{path} is no path inside {folder}.")
        there = folder / path
        if not there.is_file():
            if there.exists():
                raise RegistryError(f"{there} is no file, and one is to be written there.")
            continue
        is_now = hashlib.sha256(there.read_bytes()).hexdigest()
        if is_now not in (known.get(path), sums.get(path)) and not force:
            raise RegistryError(f"{there} was edited, and is not written over; move it away, or force=true. Nothing was changed.")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / path, text)
    for path in known.keys() - sums.keys():
        (folder / path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others' files are in it
            (folder / path).parent.rmdir()
    write_json(folder / WRITTEN, Written(str(place), sums)._asdict())


def act(
    registry: Registry, target: Platform, place: Site, done: Release, folder: Path, version: int, why: str, **about: Any
) -> None:
    """Have the target act on the folder, and note that it did, or that it failed and why."""
    made = describe_profile(done.profile)
    name = kept.keep(registry, done)
    if target.name in BESIDE:
        lay_beside(registry.path(place.model, version), folder / "models" / place.model)
    apply = target.apply
    assert apply is not None, "`check_acts` comes first."
    now = current(kept.history(registry, place))
    try:
        outputs = apply(folder, made, lambda said: print(f"  {said}", flush=True))
    except BaseException as error:
        said = " ".join(str(error).split()) or type(error).__name__
        registry.note(place.model, FAILED, why=said[:500], version=version, env=place.env, to=place.to, kept=name)
        if now is not None and target.name in BESIDE and isinstance(error, Exception):
            recover(registry, target, place, now, folder)
        raise
    more = {"image": made.image.reference, "digest": made.model.digest, "asked": made.model.alias}
    more |= {"outputs": outputs} if outputs else {}
    event = kept.record(registry, place, version, name, done.files, why=why, **about, **more)
    print(f"deployed {place.model}@{version} at {place}, event {event['number']}")


def recover(registry: Registry, target: Platform, place: Site, now: Mapping[str, Any], folder: Path) -> None:
    """Have this machine run again what is deployed, of which a try that failed may have stopped something."""
    old = kept.recall(registry, now)
    write_files(folder, old.files, place, force=True)
    lay_beside(registry.path(place.model, now["version"]), folder / "models" / place.model)
    there = target.runs(folder)
    does = "runs on" if there else "is begun again"
    print(f"  it failed; {place.model}@{now['version']}, which is deployed, {does}", flush=True)
    if there:
        return
    assert target.apply is not None, "It has just been called."
    try:
        target.apply(folder, describe_profile(old.profile), lambda said: print(f"  {said}", flush=True))
    except Exception as error:
        print(f"  that failed too: {' '.join(str(error).split())}", flush=True)


def lay_beside(version: Path, target: Path) -> None:
    """A copy of a version's folder beside the files, whole or not at all; what was there before goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(version, partial)
    if target.exists():
        if (target / "SHA256SUMS").is_file() and (target / "SHA256SUMS").read_bytes() == (partial / "SHA256SUMS").read_bytes():
            shutil.rmtree(partial)
            return
        gone = target.with_name(f".{target.name}.before")
        shutil.rmtree(gone, ignore_errors=True)
        target.rename(gone)
        partial.rename(target)
        shutil.rmtree(gone)
        return
    partial.rename(target)


VERBS: dict[str, Callable[..., None]] = {"rollback": rollback, "down": down, "list": list_deployed, "show": show}
