"""An artifact made anew under the jax that is installed, without the function it was made from.

Each stored program is loaded from the form that this jax accepts, wrapped, and exported again: both forms are then of
this jax. It is written only after the new programs gave the bits that the old ones give here, and the golden answers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import golden, program, versions
from arsenal_serving.artifact import manifest as manifests
from arsenal_serving.artifact.program import Array
from arsenal_serving.export import runner
from arsenal_serving.model import make
from arsenal_serving.refused import Refused


def renew(folder: str | os.PathLike, keys: Sequence[bytes] = (), to: str | os.PathLike | None = None) -> Path:
    """Export every program of an artifact under this jax and write the model's next version; returns its folder.

    to: a model's folder, by default that in which the artifact is a version. Parameters, codecs, golden answers and
    provenance are kept, and `renewed` in the manifest says of which version. Raises `Refused` when a program does not
    load, its new form differs in a bit, or a golden answer is missed.
    """
    folder = versions.locate(folder)
    held = artifact.open_version(folder, keys)
    if to is None and versions.number_of(folder) is None:
        raise Refused(f"{folder} is not a version in a model's folder, as NAME/1 is; say to which folder.")
    files = dict(held.files)
    make(folder, files)  # the old one holds what it promises, or nothing could be proven by it
    try:
        manifest = artifact.read_manifest(folder, files)
        arrays = artifact.read_arrays(files[artifact.PARAMETERS], artifact.PARAMETERS)
        params = [arrays[entry["name"]] for entry in manifest["parameters"]["arrays"]]
        kept = artifact.read_arrays(files[artifact.GOLDEN], artifact.GOLDEN)
        for name, method in manifest["methods"].items():
            inputs = [kept[f"{name}/input/{port['name']}"] for port in method["inputs"]]
            method["calling"], new = _anew(name, method, params, inputs, files)
            files |= new
    except Refused as error:
        raise Refused(f"{folder}: {error}") from error
    conventions = {method["calling"]["calling_convention_version"] for method in manifest["methods"].values()}
    before = {"version": manifest["version"], "sums": held.digest, "jax": manifest["jax"]["version"]}
    manifest |= {
        "renewed": {**before, "on": datetime.now(UTC).date().isoformat()},
        "jax": {**program.promise(jax.__version__), "calling_convention": max(conventions)},
    }
    make(folder, files | {artifact.MANIFEST: manifests.text(manifest)})
    del files[artifact.MANIFEST]
    return artifact.write(folder.parent if to is None else to, manifest, files)


def _anew(name: str, method: dict, params: list, inputs: list, files: dict) -> tuple[dict, dict[str, bytes]]:
    """The calling data and files of one method's new programs, which give the bits of the old one."""
    stored, old = method["programs"], method["calling"]
    example = [Array(x.shape, x.dtype.name) for x in (*params, *inputs)]
    before = program.load(files[stored["versioned"]], files[stored["durable"]], old, example)
    # Names and paths of whoever exported it first go with the old module's locations.
    bare = program.rebuild(program.strip_locations(before.exported.mlir_module_serialized), old)

    def flat(*leaves: Any) -> tuple:
        return tuple(bare.call(*leaves))

    flat.__name__ = name
    typed = [Array(tuple(aval["shape"]), aval["dtype"]) for aval in old["in_avals"]]
    with program.widen_types(bare):
        versioned, durable, calling = program.export(flat, typed, method["platforms"], method["constraints"])
    wanted = runner(before.exported, params)(inputs)
    for form in program.FORMS:
        after = program.load(versioned, durable, calling, example, form)
        for port, got, want in zip(method["outputs"], runner(after.exported, params)(inputs), wanted, strict=True):
            if not golden.same_bits(np.asarray(got), want):
                raise Refused(
                    f"method {name!r}, output {port['name']!r}: the renewed {form} program differs by up to "
                    f"{golden.difference(got, want):g} from the stored one."
                )
    if calling["out_avals"] != old["out_avals"] or calling["in_avals"] != old["in_avals"]:
        raise Refused(f"method {name!r}: the renewed program has other types than the stored one.")
    return calling, {stored["versioned"]: versioned, stored["durable"]: durable}
