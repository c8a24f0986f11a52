"""One method as a portable program: exported to a versioned and a durable form, loaded and compiled from either.

The versioned form is `jax.export`'s serialisation, promised for six months and refused by much later versions.
The durable form is the StableHLO portable artifact inside it; the calling data that jax keeps around that module
(shapes, platforms, kept arguments, ...) is stored as plain JSON, and `jax.export.Exported`, a dataclass, is built
again from the two. Both run the same module, so they give the same bits.
https://docs.jax.dev/en/latest/export/export.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from arsenal_serving.refused import Refused, shown

BATCH = "batch"
PLATFORMS = ("cpu", "cuda", "tpu")
FORMS = ("versioned", "durable")

Dim = int | str
Flat = Callable[..., tuple]


class Array(NamedTuple):
    """The type of an array; a dimension that is a string is symbolic, such as "batch" or "2*length"."""

    shape: tuple[Dim, ...]
    dtype: str


class Program(NamedTuple):
    """A loaded program: `exported` runs, `form` says which stored form it came from, `why` why not the other."""

    exported: jax.export.Exported
    form: str
    why: str


def export(flat: Flat, arrays: Sequence[Array], platforms: Sequence[str], constraints: Sequence[str]) -> tuple:
    """Export `flat(*arrays) -> tuple of arrays`: (versioned bytes, durable bytes, calling data as JSON).

    Raises `Refused` for a function with side effects; jax's own errors for one that cannot be exported.
    """
    specs = _specs(arrays, constraints)
    exported = jax.export.export(jax.jit(flat), platforms=tuple(platforms))(*specs)
    effects = (*exported.ordered_effects, *exported.unordered_effects)
    if effects:
        raise Refused(f"a program must be pure; this one has the effects {', '.join(map(str, effects))}.")
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


def load(versioned: bytes, durable: bytes, calling: dict, example: Sequence[Array], form: str = "auto") -> Program:
    """The program from the form asked for; "auto" takes the versioned one if this jax accepts it.

    Accepting means: it deserialises, its types are those of the calling data, and it lowers at the `example`
    types. Raises `Refused` when no form that was asked for does.
    """
    if form not in ("auto", *FORMS):
        raise Refused(f"`form` must be one of 'auto', 'versioned', 'durable'; got {shown(form)}.")
    makers = {"versioned": lambda: _deserialised(versioned, calling), "durable": lambda: rebuilt(durable, calling)}
    reasons: list[str] = []
    for name in FORMS if form == "auto" else (form,):
        try:
            exported = makers[name]()
            lower(exported, example)
            return Program(exported, name, "; ".join(reasons))
        except Exception as error:  # jax says no in many ways, and each is a reason to try the other form
            reasons.append(f"the {name} form does not load: {first_line(error)}")
    raise Refused("; ".join(reasons))


def rebuilt(durable: bytes, calling: dict) -> jax.export.Exported:
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


def lower(exported: jax.export.Exported, arrays: Sequence[Array]) -> Any:
    """The program lowered for fixed shapes on this machine's platform; `.compile()` gives what runs."""
    with wide(exported):
        return jax.jit(exported.call).lower(*(jax.ShapeDtypeStruct(a.shape, np.dtype(a.dtype)) for a in arrays))


def wide(exported: jax.export.Exported) -> Any:
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


def _deserialised(versioned: bytes, calling: dict) -> jax.export.Exported:
    exported = jax.export.deserialize(bytearray(versioned))
    for which in ("in_avals", "out_avals"):
        got = [_typed(aval) for aval in getattr(exported, which)]
        if got != calling[which]:
            raise Refused(f"its {which} are not those of the manifest")
    # The versioned form forgets the constraints on symbolic dimensions; the manifest's bring them back.
    inputs, outputs = (_avals(calling[which], calling["constraints"]) for which in ("in_avals", "out_avals"))
    return dataclasses.replace(exported, in_avals=inputs, out_avals=outputs) if calling["constraints"] else exported


def _typed(aval: Any) -> dict:
    return {
        "shape": [dim if isinstance(dim, int) else str(dim) for dim in aval.shape],
        "dtype": np.dtype(aval.dtype).name,
    }


def _avals(typed: Sequence[dict], constraints: Sequence[str]) -> tuple:
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
