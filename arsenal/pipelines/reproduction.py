"""A run made again, by its config, its data and its seed: the same bits, or the list of what differs."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal import config as configs
from arsenal.config import Config
from arsenal.experiment import build
from arsenal.nested import flatten
from arsenal.refusal import Refusal
from arsenal.road import fit
from arsenal.run import Run
from arsenal.runs import folder
from arsenal.runs.checkpoints import digest
from arsenal.runs.journal import Listener, hear_nothing
from arsenal.storage.files import read_json

SHOWN = 10
"""Arrays whose differences are listed, the largest first."""


class Original(NamedTuple):
    """What is to be made again."""

    name: str
    """For people: its folder, or its name in the registry."""
    config: Config
    step: int
    environment: Mapping[str, Any]
    data: str | None
    """The fingerprint of its data; None where it was not kept."""
    sources: Mapping[str, str] | None
    digest: str
    """Of all that `arrays` holds."""
    arrays: Mapping[str, np.ndarray]
    of_run: bool
    """Whether it is the whole state, or the parameters of an artifact."""


class Reproduced(NamedTuple):
    """What came of it."""

    folder: Path | None
    """The new run; None where it could not be trained."""
    same: bool
    """Whether all bits are the same."""
    differences: list[tuple[str, str]]
    """What differs, bits last, and how: (kind, words)."""


def reproduce(original: Run | Path, root: str | Path = "reproduced", listener: Listener = hear_nothing) -> Reproduced:
    """Train a run, or the run that an artifact's manifest tells of, again below a root of its own, and compare.

    What differs around it is listed whether or not the bits do: packages, machine, code, config, data.
    """
    old = original_of_run(original) if isinstance(original, Run) else original_of_artifact(original)
    found = [*environment_differences(old.environment, folder.environment()), *config_differences(old.config)]
    again = old.config.replace(values_again(old, root))
    try:
        data = build(again).data.fingerprint
    except (Refusal, ValueError, OSError) as error:
        return Reproduced(None, False, [*found, ("data", f"cannot be read: {' '.join(str(error).split())}")])
    if old.data is not None and data != old.data:
        found.append(("data", f"{old.data[:12]} then, {data[:12]} now: names, types or values changed"))
    found += code_differences(old)
    made = fit(again, listener=listener)
    mine = made.restored if old.of_run else made.params
    if digest(mine) == old.digest:
        return Reproduced(made.folder, True, found)
    return Reproduced(made.folder, False, found + list(bit_differences(old.arrays, named_arrays(mine))))


def values_again(old: Original, root: str | Path) -> dict[str, Any]:
    """The values of the config for the new run: to the step of the old one, in a folder of its own, begun anew."""
    run = old.config.values["run"] | {"root": str(root), "tensorboard": False, "trackers": {}}
    return old.config.values | {"run": run, "length": old.step, "fresh": True, "preflight": False}


def original_of_run(run: Run) -> Original:
    """A run folder as it is."""
    identity = folder.read_identity(run.folder)
    environment = read_json(run.folder / "environment.json")
    state = run.restored
    return Original(
        str(run.folder), run.config, run.step, environment, identity["mathematics"].get("data"), identity["sources"],
        digest(state), named_arrays(state), True,
    )  # fmt: skip


def original_of_artifact(version: Path) -> Original:
    """What the manifest of an artifact says of its run, and its parameters."""
    import safetensors.numpy
    from arsenal_serving.artifact import folder as artifacts

    opened = artifacts.open_version(version)
    manifest = artifacts.read_manifest(version, opened.files)
    told = manifest.get("provenance") or {}
    if missing := [key for key in ("config", "overrides", "step", "parameters") if key not in told]:
        raise Refusal(f"{version} does not say how it was made: its provenance has no {missing[0]}.")
    stored = safetensors.numpy.load(opened.files[artifacts.PARAMETERS])
    arrays = {one["name"]: stored[one["name"]] for one in manifest["parameters"]["arrays"]}
    config = configs.restore_config(told["config"], told["overrides"])
    return Original(
        str(version), config, told["step"], told.get("environment", {}), told.get("data"), None, told["parameters"], arrays, False
    )


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by path, keys as the words they are made of."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        raw = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        found[jax.tree_util.keystr(path, simple=True, separator=".")] = np.asarray(raw)
    return found


def environment_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What differs between two environments, packages first."""
    packages = then.get("packages", {}) | {}
    for name in sorted({*packages, *now["packages"]}):
        if packages.get(name) != now["packages"].get(name):
            yield "package", f"{name} {packages.get(name, 'none')} then, {now['packages'].get(name, 'none')} now"
    for key in ("python", "platform", "cpus", "devices"):
        if key in then and then[key] != now.get(key):
            yield "machine", f"{key} {plain(then[key])} then, {plain(now.get(key))} now"
    before, after = (one.get("git", {}) for one in (then, now))
    if before.get("commit") != after.get("commit"):
        yield "code", f"commit {str(before.get('commit', 'none'))[:12]} then, {str(after.get('commit', 'none'))[:12]} now"
    elif before and (before["state"] != "clean" or after["state"] != "clean"):
        yield "code", f"commit {before['commit'][:12]} both times, but files differed from it"


def plain(value: Any) -> str:
    """A value for people."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def config_differences(config: Config) -> Iterator[tuple[str, str]]:
    """Where the command of then composes to another config today; the run is made again with the one of then."""
    try:
        today = dict(flatten(configs.compose_words(config.overrides).values))
    except (Refusal, ValueError, OSError) as error:
        yield "config", f"the command of then is refused today: {' '.join(str(error).split())}"
        return
    then = dict(flatten(config.values))
    aside = ("run.", "length", "fresh", "preflight", "tags", "expect", "gates", "registry")
    for key in sorted(key for key in then.keys() | today.keys() if then.get(key) != today.get(key) and not key.startswith(aside)):
        yield "config", f"{key} {then.get(key, 'none')} then, {today.get(key, 'none')} now"


def code_differences(old: Original) -> Iterator[tuple[str, str]]:
    """The user's own files that are not what they were."""
    if old.sources is None:
        return
    now = folder.fingerprints([package.split(".")[0] for package in old.config.settings.trusted])
    for name in sorted(old.sources.keys() | now.keys()):
        if old.sources.get(name) != now.get(name):
            what = "is new" if name not in old.sources else "is not loaded any more" if name not in now else "changed"
            yield "code", f"{name} {what}"


def bit_differences(then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """The arrays that are not the same bits, those that differ most first, and by how much."""
    for name in sorted(then.keys() ^ now.keys()):
        yield "bits", f"{name} is only {'then' if name in then else 'now'}"
    found = []
    for name in then.keys() & now.keys():
        one, other = then[name], now[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            yield "bits", f"{name} {one.dtype}{list(one.shape)} then, {other.dtype}{list(other.shape)} now"
        elif one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
            with contextlib.suppress(ValueError):
                found.append((float(np.nanmax(apart)), int((one != other).sum()), one.size, name))
    found.sort(key=lambda one: (-one[0], one[3]))
    for largest, count, size, name in found[:SHOWN]:
        yield "bits", f"{name}: {count:,} of {size:,} numbers differ, by {largest:.3g} at most"
    if len(found) > SHOWN:
        yield "bits", f"and {len(found) - SHOWN} more arrays"
