"""What a person does with an artifact besides serving it: inspect, verify, sign, renew and diff.

Each returns the facts, as JSON can hold them; `tell` makes them lines to read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from arsenal_serving import model
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import golden, program, signing, versions
from arsenal_serving.cli.renewal import renew as renewed
from arsenal_serving.refused import Refused

Facts = dict[str, Any]
MOST_SHOWN = 20


def inspect(folder: str, keys: Sequence[bytes] = ()) -> Facts:
    """What an artifact says of itself, after its hashes held; no program is run."""
    return _describe(*_open(folder, keys))


def verify(folder: str, keys: Sequence[bytes] = ()) -> Facts:
    """What the server checks before it serves: hashes, signature, program calls, types and golden answers."""
    where, held = _open(folder, keys)
    loaded = model.make(where, held.files)
    return {
        **_describe(where, held),
        "verified": {
            name: {"program": method.program.form, "golden_difference": loaded.differences[name]}
            for name, method in loaded.every.items()
        },
    }


def sign(folder: str, private_key: bytes) -> Facts:
    """Sign an artifact whose hashes hold."""
    path = artifact.sign(folder, private_key)
    return {"folder": str(path.parent), "signature": path.name}


def renew(folder: str, keys: Sequence[bytes] = (), to: str | None = None) -> Facts:
    """Export an artifact's programs under the jax installed here, as the model's next version."""
    return inspect(str(renewed(folder, keys, to)))


def diff(one: str, other: str) -> Facts:
    """How two artifacts differ: in what clients see, in parameters, and in answers to the first's golden inputs."""
    (old_folder, old_held), (new_folder, new_held) = _open(one), _open(other)
    old, new = model.make(old_folder, old_held.files), model.make(new_folder, new_held.files)
    kept = artifact.read_arrays(old_held.files[artifact.GOLDEN], artifact.GOLDEN)
    methods: Facts = {}
    for name in sorted(old.methods.keys() | new.methods.keys()):
        if name not in old.methods or name not in new.methods:
            methods[name] = {"change": "removed" if name in old.methods else "added"}
            continue
        before, after = (m.manifest["methods"][name] for m in (old, new))
        signature = ("inputs", "outputs", "rows", "sizes", "platforms", "constraints", "tolerance")
        methods[name] = {"change": "kept", "changed": [key for key in signature if before[key] != after[key]]}
        if _called_alike(before, after):
            was, now = old.repeat(name, kept), new.repeat(name, kept)
            methods[name]["answers"] = {
                key: {
                    "largest_difference": _number(golden.difference(now[key], was[key])),
                    "elements_that_differ": golden.count_differing(now[key], was[key]),
                    "of": was[key].size,
                }
                for key in was
                if key in now and was[key].shape == now[key].shape and was[key].dtype == now[key].dtype
            }
    return {
        "one": _brief(old_folder, old_held, old.manifest),
        "other": _brief(new_folder, new_held, new.manifest),
        "same": old_held.digest == new_held.digest,
        "methods": methods,
        "codecs_changed": sorted(_compare_ports(old.manifest["codecs"], new.manifest["codecs"])),
        "parameters": _parameters(old_held.files, new_held.files),
        "provenance_changed": list(_paths("provenance", old.manifest["provenance"], new.manifest["provenance"])),
    }


def tell(verb: str, facts: Facts) -> str:
    """The facts of a verb as lines for a person."""
    told = {"sign": _tell_sign, "diff": _tell_diff}.get(verb, _tell_described)
    return "\n".join(told(facts)) + "\n"


def _open(folder: str, keys: Sequence[bytes] = ()) -> tuple[Any, artifact.Opened]:
    where = versions.locate(folder)
    return where, artifact.open_version(where, keys)


def _brief(folder: Any, held: artifact.Opened, manifest: Mapping[str, Any]) -> Facts:
    return {
        "folder": os.path.abspath(folder),
        "name": manifest["name"],
        "version": manifest["version"],
        "created": manifest["created"],
        "jax": manifest["jax"],
        "digest": held.digest,
    }


def _describe(folder: Any, held: artifact.Opened) -> Facts:
    try:
        manifest = artifact.read_manifest(folder, held.files)
    except Refused as error:
        raise Refused(f"{folder}: {error}") from error
    arrays = manifest["parameters"]["arrays"]
    elements = [int(np.prod(array["shape"], dtype=np.int64)) for array in arrays]
    sizes = [count * np.dtype(array["dtype"]).itemsize for count, array in zip(elements, arrays, strict=True)]
    signed = (folder / artifact.SIGNATURE).exists()
    return {
        **_brief(folder, held, manifest),
        "platform": manifest["platform"],
        "signature": {"by": held.signer} if held.signer else "not checked" if signed else None,
        "files": len(held.files),
        "bytes": sum(map(len, held.files.values())),
        "parameters": {"arrays": len(arrays), "elements": sum(elements), "bytes": sum(sizes)},
        "renewed": manifest["renewed"],
        "default": manifest["default"],
        "methods": {
            name: {
                **{key: method[key] for key in ("inputs", "outputs", "rows", "sizes", "bits")},
                **{key: method[key] for key in ("platforms", "constraints")},
                "private": method.get("private", False),
                "custom_calls": _calls(held.files[method["programs"]["durable"]]),
            }
            for name, method in manifest["methods"].items()
        },
        "codecs": {name: state["kind"] for name, state in manifest["codecs"].items()},
        "provenance": manifest["provenance"],
    }


def _calls(durable: bytes) -> list[str] | None:
    """What a program calls; None for one that is newer than the jax installed here."""
    try:
        return sorted(program.custom_calls(durable))
    except Exception:  # MLIR has no error type of its own
        return None


def _called_alike(*methods: Mapping[str, Any]) -> bool:
    one, other = ([(port["name"], port["dtype"], port["shape"]) for port in method["inputs"]] for method in methods)
    return one == other


def _parameters(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Facts:
    was, now = (artifact.read_arrays(files[artifact.PARAMETERS], artifact.PARAMETERS) for files in (old, new))
    changed: dict[str, Any] = {}
    for name in was.keys() & now.keys():
        if was[name].shape != now[name].shape or was[name].dtype != now[name].dtype:
            changed[name] = f"{_type(was[name])} became {_type(now[name])}"
        elif not golden.same_bits(now[name], was[name]):
            changed[name] = _number(golden.difference(now[name], was[name]))
    return {
        "added": sorted(now.keys() - was.keys()),
        "removed": sorted(was.keys() - now.keys()),
        "changed": dict(sorted(changed.items())),
        "same": len(was.keys() & now.keys()) - len(changed),
    }


def _type(array: np.ndarray) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _number(value: float) -> float | str:
    return value if np.isfinite(value) else "infinite"


def _compare_ports(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _paths(at: str, one: Any, other: Any) -> Iterator[str]:
    """The paths at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(_compare_ports(one, other)):
            yield from _paths(f"{at}.{key}", one.get(key), other.get(key))
    elif one != other:
        yield at


def _tell_sign(facts: Facts) -> Iterator[str]:
    yield f"signed: {facts['folder']}/{facts['signature']}"


def _tell_described(facts: Facts) -> Iterator[str]:
    made, verified = facts["jax"], facts.get("verified")
    yield f"{facts['name']} version {facts['version']}, made {facts['created']}"
    yield f"  folder      {facts['folder']}"
    yield f"  files       {facts['files']}, {_bytes(facts['bytes'])}, every hash holds; {facts['digest'][:16]}"
    match facts["signature"]:
        case None:
            yield "  signature   none"
        case {"by": key}:
            yield f"  signature   by the known key {key}"
        case _:
            yield "  signature   there is one, not checked: no --key was given"
    parameters = facts["parameters"]
    yield f"  parameters  {parameters['elements']:,} in {parameters['arrays']} arrays, {_bytes(parameters['bytes'])}"
    since = "released" if made["version"] in program.RELEASES else "released after"
    by = f"by jax {made['version']}, {since} {made['released']}, calling convention {made['calling_convention']};"
    yield f"  versioned   {by}"
    yield f"              jax promises to read it in releases until {made['valid_until']}, `renew` makes it anew"
    yield "  durable     a StableHLO module, read where the versioned form is refused"
    if renewed := facts["renewed"]:
        yield f"  renewed     on {renewed['on']} from version {renewed['version']}, made with jax {renewed['jax']}"
    for name, method in facts["methods"].items():
        about = " (default)" if name == facts["default"] else " (the server's own)" if method["private"] else ""
        yield f"{name}{about}"
        for way in ("inputs", "outputs"):
            for port in method[way]:
                yield f"  {way[:-1]:<10}  {_port(port)}"
        sizes = f", compiled for {', '.join(map(str, method['sizes']))}" if method["sizes"] else ""
        yield f"  rows        {ROWS[method['rows']]}{sizes}"
        yield f"  answers     {'the bits' if method['bits'] else 'within rounding'} of jax.jit at one size"
        yield f"  platforms   {', '.join(method['platforms'])}"
        if method["constraints"]:
            yield f"  where       {', '.join(method['constraints'])}"
        calls = [call for call in method["custom_calls"] or [] if call != "shape_assertion"]
        if method["custom_calls"] is None:
            yield f"  program     not to be read by the jax installed here, {jax.__version__}"
        if calls:
            yield f"  calls       {', '.join(calls)}"
        if verified:
            far = max(verified[name]["golden_difference"].values(), default=0.0)
            yield f"  verified    the {verified[name]['program']} program; golden answers within {far:g}"


ROWS = {
    "independent": "independent: any may share a batch",
    "coupled": "coupled: they influence each other and are never batched with another caller's",
    "single": "none: it has no batch axis",
}


def _tell_diff(facts: Facts) -> Iterator[str]:
    for sign, side in (("-", facts["one"]), ("+", facts["other"])):
        made = f"{side['created']} with jax {side['jax']['version']}"
        yield f"{sign} {side['name']} version {side['version']}, made {made}: {side['folder']}"
    if facts["same"]:
        yield "the same, byte for byte"
        return
    for name, method in facts["methods"].items():
        if method["change"] != "kept":
            yield f"{'-' if method['change'] == 'removed' else '+'} method {name}"
            continue
        changed = f"; changed: {', '.join(method['changed'])}" if method["changed"] else ""
        yield f"  method {name}: {'same signature' if not method['changed'] else 'another signature'}{changed}"
        for key, answers in method.get("answers", {}).items():
            count, by = answers["elements_that_differ"], answers["largest_difference"]
            most = by if isinstance(by, str) else f"{by:g}"
            told = f"{count} of {answers['of']} golden answers differ, by up to {most}"
            yield f"    {key}: {told if count else 'the same golden answers'}"
    for name in facts["codecs_changed"]:
        yield f"  codec {name} changed"
    parameters = facts["parameters"]
    yield f"  parameters: {len(parameters['changed'])} arrays changed, {parameters['same']} the same"
    for sign, names in (("-", parameters["removed"]), ("+", parameters["added"])):
        yield from _few(f"{sign} parameter {name}" for name in names)
    changes = parameters["changed"].items()
    yield from _few(f"    {name}: {by if isinstance(by, str) else f'by up to {by:g}'}" for name, by in changes)
    yield from _few(f"  {path} changed" for path in facts["provenance_changed"])


def _few(lines: Any) -> list[str]:
    listed = list(lines)
    more = len(listed) - MOST_SHOWN
    return listed if more <= 0 else [*listed[:MOST_SHOWN], f"    ... and {more} more"]


def _port(port: Mapping[str, Any]) -> str:
    codec = port["codec"]
    coded = [codec] if isinstance(codec, str) else codec
    kind = port["dtype"] if coded is None else f"strings by codec {', '.join(coded)}"
    columns = port["columns"] or []
    named = f", columns {', '.join(columns[:8])}{', ...' if len(columns) > 8 else ''}" if columns else ""
    gaps = ", may be missing" if port.get("gaps") is not None else ""
    return f"{port['name']}: {kind} [{', '.join(map(str, port['shape']))}]{named}{gaps}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def public_keys(paths: Sequence[str]) -> list[bytes]:
    """The PEMs of public keys in files, checked; raises `Refused`, naming the file."""
    pems = [key_file(path) for path in paths]
    for path, pem in zip(paths, pems, strict=True):
        try:
            signing.public_key(pem)
        except Refused as error:
            raise Refused(f"{path}: {error}") from error
    return pems


def key_file(path: str) -> bytes:
    """The bytes of a key's file; raises `Refused`, naming it."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}.") from error
