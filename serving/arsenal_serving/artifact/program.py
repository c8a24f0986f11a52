"""One method as a portable program: exported to a versioned and a durable form, loaded and compiled from either.

The versioned form is `jax.export`'s serialisation, promised for six months and refused by much later versions.
The durable form is the StableHLO portable artifact inside it; the calling data that jax keeps around that module
(shapes, platforms, kept arguments, ...) is stored as plain JSON, and `jax.export.Exported`, a dataclass, is built
again from the two. Both run the same module, so they give the same bits. A module holds no source locations, and
calls nothing but what `CUSTOM_CALLS` lists.
https://docs.jax.dev/en/latest/export/export.html
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import jax
import jax.export
import numpy as np
from jax.extend import mlir
from jax.extend.mlir import ir, passmanager
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import make_ir_context

from arsenal_serving.refused import Refused, show

BATCH = "batch"
PLATFORMS = ("cpu", "cuda", "tpu")
FORMS = ("versioned", "durable")

# The days on which jax's wheels were built. A later version was released after the last of them, so that what is
# promised of the last holds of it at the least.
RELEASES = {
    "0.10.0": date(2026, 4, 16),
    "0.10.1": date(2026, 5, 18),
    "0.10.2": date(2026, 6, 17),
    "0.11.0": date(2026, 7, 16),
    "0.11.1": date(2026, 8, 17),
    "0.11.2": date(2026, 9, 17),
}
PROMISED_MONTHS = 6

# https://mlir.llvm.org/docs/BytecodeFormat: a magic number, a version, and who wrote it.
HEADER = re.compile(rb"ML\xefR.{1,9}?StableHLO_v([0-9]+\.[0-9]+\.[0-9]+)\0", re.DOTALL)

# All that a program may call outside its own module: linear algebra of LAPACK, cuSOLVER, hipSOLVER and the TPU
# compiler, random bits, sharding's marks, shape checks and operations on symbolic shapes. They are of jax's list with
# a stable meaning; what is missing of it is what runs code that the artifact brings (Pallas kernels, TensorFlow).
# jax/_src/export/_export.py, _CUSTOM_CALL_TARGETS_GUARANTEED_STABLE
CUSTOM_CALLS = frozenset(
    {
        *(
            f"lapack_{letter}{name}_ffi"
            for letter, name in itertools.product(
                "sdcz", ("potrf", "geqrf", "geev", "gesdd", "getrf", "gehrd", "gees", "trsm", "gtsv")
            )
        ),
        *(f"lapack_{letter}{name}_ffi" for letter, name in itertools.product("sd", ("orgqr", "syevd", "sytrd"))),
        *(f"lapack_{letter}{name}_ffi" for letter, name in itertools.product("cz", ("ungqr", "heevd", "hetrd"))),
        *(
            f"{library}solver_{name}_ffi"
            for library, name in itertools.product(
                ("cu", "hip"), ("getrf", "geqrf", "orgqr", "potrf", "syevd", "gesvd", "gesvdj", "sytrd")
            )
        ),
        *("hipsolver_gesdd_ffi", "cusparse_gtsv2_ffi"),
        *(f"{library}_lu_pivots_to_permutation" for library in ("cu", "hip")),
        *(f"{library}_threefry2x32_ffi" for library in ("cu", "hip")),
        *("Eigh", "Qr", "ProductOfElementaryHouseholderReflectors", "LuDecomposition", "ApproxTopK"),
        *("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement", "AllocateBuffer"),
        *(f"stablehlo.dynamic_{name}" for name in ("reduce_window", "rng_bit_generator", "top_k", "approx_top_k")),
        "shape_assertion",
    }
)

Dim = int | str
Flat = Callable[..., tuple[Any, ...]]


class Array(NamedTuple):
    """The type of an array; a dimension that is a string is symbolic, such as "batch" or "2*length"."""

    shape: tuple[Dim, ...]
    dtype: str


class CallRefused(Refused):
    """A program calls what `CUSTOM_CALLS` does not list."""


class LoadedProgram:
    """A loaded program: `exported` runs, `form` says which stored form it came from, `why` why not the other.

    Versions of a model that differ in their parameters only have one program, and what was compiled of it: parameters
    are arguments. Both go when the last version that uses them goes.
    """

    def __init__(self, exported: jax.export.Exported, form: str, why: str):
        self.exported, self.form, self.why = exported, form, why
        self._compiled: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()

    def compiled(self, arrays: Sequence[Array], donated: Sequence[int] = ()) -> Callable[..., Any]:
        """What runs at fixed shapes; compiled once, while somebody holds it. Raises what jax raises.

        donated: the arguments whose memory the answers take over.
        """
        key = (*arrays, *donated)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = lower(self.exported, arrays, donated).compile()
        return found


_programs: WeakValueDictionary[str, LoadedProgram] = WeakValueDictionary()


def is_in_use(versioned: bytes, durable: bytes, calling: dict[str, Any], form: str = "auto") -> bool:
    """Whether a program of these bytes is in use, so that loading it reads nothing and compiles nothing new."""
    return _digest(versioned, durable, calling, form) in _programs


def export(
    flat: Flat, arrays: Sequence[Array], platforms: Sequence[str], constraints: Sequence[str]
) -> tuple[Any, ...]:
    """Export `flat(*arrays) -> tuple of arrays`: (versioned bytes, durable bytes, calling data as JSON).

    Raises `Refused` for a function with side effects; jax's own errors for one that cannot be exported.
    """
    specs = _specs(arrays, constraints)
    jitted = jax.jit(flat)
    effects = jitted.trace(*specs).jaxpr.effects
    if effects:
        raise Refused(f"a program must be pure; this one has the effects {', '.join(sorted(map(str, effects)))}.")
    exported = jax.export.export(jitted, platforms=tuple(platforms))(*specs)
    check_calls(exported.mlir_module_serialized)
    exported = dataclasses.replace(exported, mlir_module_serialized=strip_locations(exported.mlir_module_serialized))
    calling = {
        "fun_name": exported.fun_name,
        "in_avals": [_typed(aval) for aval in exported.in_avals],
        "out_avals": [_typed(aval) for aval in exported.out_avals],
        "constraints": list(constraints),
        "nr_devices": exported.nr_devices,
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "module_kept_var_idx": list(exported.module_kept_var_idx),
        "uses_global_constants": exported.uses_global_constants,
    }
    return bytes(exported.serialize()), bytes(exported.mlir_module_serialized), calling


def load(
    versioned: bytes, durable: bytes, calling: dict[str, Any], example: Sequence[Array], form: str = "auto"
) -> LoadedProgram:
    """The program from the form asked for; "auto" takes the versioned one if this jax accepts it.

    Accepting means: it deserialises, its types are those of the calling data, and it lowers at the `example`
    types. Raises `Refused` when no form that was asked for does.
    """
    if form not in ("auto", *FORMS):
        raise Refused(f"`form` must be one of 'auto', 'versioned', 'durable'; got {show(form)}.")
    digest = _digest(versioned, durable, calling, form)
    if (found := _programs.get(digest)) is not None:
        return found
    makers = {"versioned": lambda: _deserialised(versioned, calling), "durable": lambda: rebuild(durable, calling)}
    reasons: list[str] = []
    for name in FORMS if form == "auto" else (form,):
        try:
            exported = makers[name]()
            check_calls(exported.mlir_module_serialized)
            lower(exported, example)
            found = _programs[digest] = LoadedProgram(exported, name, "; ".join(reasons))
            return found
        except CallRefused:
            raise
        except Exception as error:  # jax says no in many ways, and each is a reason to try the other form
            why = str(error) if isinstance(error, Refused) else first_line(error)
            reasons.append(f"the {name} form does not load: {why}")
    raise Refused("; ".join(reasons))


def rebuild(durable: bytes, calling: dict[str, Any]) -> jax.export.Exported:
    """A `jax.export.Exported` made of a portable module and its calling data."""
    inputs, outputs = (_avals(calling[which], calling["constraints"]) for which in ("in_avals", "out_avals"))
    fields = {
        "fun_name": calling["fun_name"],
        "in_tree": jax.tree.structure((tuple(range(len(inputs))), {})),
        "in_avals": inputs,
        "out_tree": jax.tree.structure(tuple(range(len(outputs)))),
        "out_avals": outputs,
        "in_shardings_hlo": (None,) * len(inputs),
        "out_shardings_hlo": (None,) * len(outputs),
        "_has_named_shardings": True,
        "_in_named_shardings": (None,) * len(inputs),
        "_out_named_shardings": (None,) * len(outputs),
        "nr_devices": calling["nr_devices"],
        "platforms": tuple(calling["platforms"]),
        "ordered_effects": (),
        "unordered_effects": (),
        "disabled_safety_checks": (),
        "mlir_module_serialized": durable,
        "calling_convention_version": calling["calling_convention_version"],
        "module_kept_var_idx": tuple(calling["module_kept_var_idx"]),
        "uses_global_constants": calling["uses_global_constants"],
        "_get_vjp": None,
    }
    # jax adds and drops fields between versions: pass those that this one has, and say so if it wants a new one.
    wanted = dataclasses.fields(jax.export.Exported)
    new = [f.name for f in wanted if f.name not in fields and _required(f)]
    if new:
        raise Refused(f"jax {jax.__version__} wants {', '.join(new)} of an exported program, unknown to this package.")
    return jax.export.Exported(**{f.name: fields[f.name] for f in wanted if f.name in fields})


def lower(exported: jax.export.Exported, arrays: Sequence[Array], donated: Sequence[int] = ()) -> Any:
    """The program lowered for fixed shapes on this machine's platform; `.compile()` gives what runs."""
    with widen_types(exported):
        types = [jax.ShapeDtypeStruct(a.shape, np.dtype(a.dtype)) for a in arrays]
        return jax.jit(exported.call, donate_argnums=tuple(donated)).lower(*types)


def custom_calls(durable: bytes) -> set[str]:
    """The targets of all custom calls in a portable module; raises `Refused` or MLIR's own for an unreadable one."""
    with make_ir_context():
        module = _module(durable)
        return {
            ir.StringAttr(operation.attributes["call_target_name"]).value
            for operation in _operations(module.operation)
            if operation.name.endswith("custom_call")
        }


def check_calls(durable: bytes) -> None:
    """Raise `Refused`, naming it, for a custom call outside `CUSTOM_CALLS`."""
    other = sorted(custom_calls(durable) - CUSTOM_CALLS)
    if other:
        raise CallRefused(f"the program calls {', '.join(map(show, other))}, which is not what a program may call.")


def strip_locations(durable: bytes) -> bytes:
    """A portable module without the paths and functions of the source that it was traced from."""
    with make_ir_context():
        module = _module(durable)
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        # As old a StableHLO as jax itself asks of an export: readers a month older than this one can follow.
        asked = stablehlo.StablehloCompatibilityRequirement.WEEK_4
        return mlir.serialize_portable_artifact(module, stablehlo.get_version_from_compatibility_requirement(asked))


def promise(version: str) -> dict[str, str]:
    """When a jax version was released, and until when jax releases are promised to read its versioned form.

    >>> promise("0.10.2")
    {'version': '0.10.2', 'released': '2026-06-17', 'valid_until': '2026-12-17'}
    """
    older = [known for known in RELEASES if _number(known) <= _number(version)]
    released = RELEASES[max(older, key=_number)] if older else min(RELEASES.values())
    months = released.month - 1 + PROMISED_MONTHS
    until = released.replace(year=released.year + months // 12, month=months % 12 + 1, day=min(released.day, 28))
    return {"version": version, "released": released.isoformat(), "valid_until": until.isoformat()}


def widen_types(exported: jax.export.Exported) -> Any:
    """The context in which a program runs: 64-bit types exist only for one that takes or gives them."""
    needs = any(np.dtype(aval.dtype).itemsize == 8 for aval in (*exported.in_avals, *exported.out_avals))
    return jax.enable_x64(needs or jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def platform() -> str:
    """The platform that programs run on here, in the words of an export: cpu, cuda, rocm or tpu."""
    name = jax.default_backend()
    if name != "gpu":
        return name
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version.lower() else "cuda"


def first_line(error: BaseException) -> str:
    """The error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _digest(versioned: bytes, durable: bytes, calling: dict[str, Any], form: str) -> str:
    described = json.dumps([form, bool(jax.config.jax_enable_x64), calling], sort_keys=True)  # type: ignore[attr-defined]
    parts = (versioned, durable, described.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _deserialised(versioned: bytes, calling: dict[str, Any]) -> jax.export.Exported:
    exported = jax.export.deserialize(bytearray(versioned))
    for which in ("in_avals", "out_avals"):
        got = [_typed(aval) for aval in getattr(exported, which)]
        if got != calling[which]:
            raise Refused(f"its {which} are not those of the manifest")
    # The versioned form forgets the constraints on symbolic dimensions; the manifest's bring them back.
    inputs, outputs = (_avals(calling[which], calling["constraints"]) for which in ("in_avals", "out_avals"))
    return dataclasses.replace(exported, in_avals=inputs, out_avals=outputs) if calling["constraints"] else exported


def _module(durable: bytes) -> ir.Module:
    # MLIR reads text too, and has lines of its own on stderr for what it cannot read: a look at the header first.
    header = HEADER.match(durable)
    if not header:
        raise Refused("it is no portable StableHLO module")
    version, newest = header[1].decode(), stablehlo.get_current_version()
    if _number(version) > _number(newest):
        raise Refused(f"it is of StableHLO {version}, and this jax reads {newest} and older")
    return mlir.deserialize_portable_artifact(durable)


def _operations(operation: Any) -> Iterator[Any]:
    yield operation
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield from _operations(inner.operation)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _typed(aval: Any) -> dict[str, Any]:
    return {
        "shape": [dim if isinstance(dim, int) else str(dim) for dim in aval.shape],
        "dtype": np.dtype(aval.dtype).name,
    }


def _avals(typed: Sequence[dict[str, Any]], constraints: Sequence[str]) -> tuple[Any, ...]:
    specs = _specs([Array(tuple(t["shape"]), t["dtype"]) for t in typed], constraints)
    return tuple(jax.core.ShapedArray(spec.shape, spec.dtype) for spec in specs)


def _specs(arrays: Sequence[Array], constraints: Sequence[str]) -> list[jax.ShapeDtypeStruct]:
    scope = jax.export.SymbolicScope(tuple(constraints))
    return [
        jax.ShapeDtypeStruct(jax.export.symbolic_shape(",".join(map(str, a.shape)), scope=scope), np.dtype(a.dtype))
        for a in arrays
    ]


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
