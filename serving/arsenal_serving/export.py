"""Pure functions and their parameters, made into an artifact that is proven before it is written.

    export("out/digits", {"predict": Method(fn, example)}, params, name="digits")

`fn(params, inputs) -> outputs` is any pure JAX function. What is proven: both stored forms of each program give
the bits that `jax.jit(fn)` gives on the example, and whether a row's answer depends on the rows beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from arsenal_serving import artifact, codecs, golden, program
from arsenal_serving.program import BATCH, PLATFORMS, Array
from arsenal_serving.refused import Refused, shown, unknown

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
METHOD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a JSON tensor of the Open Inference Protocol can carry: it has no 16-bit floats and no complex numbers.
SERVED = ("bool", "float32", "float64", *(f"{word}{bits}" for word in ("int", "uint") for bits in (8, 16, 32, 64)))


class Tensor(NamedTuple):
    """Describes one input or output beyond its dtype; every field is optional.

    columns: names along the last axis. codec: a name in `codecs`, or a list with one per column, through which
    strings become integer codes (inputs) or codes become strings (outputs). finite: whether NaN and infinity
    are refused in an input, and never to be expected of an output. shape: of an input whose dimensions beyond
    the batch vary, such as ["batch", "length", 8]; default: the batch, and the example's other dimensions.
    """

    columns: Sequence[str] | None = None
    codec: str | Sequence[str] | None = None
    finite: bool = True
    shape: Sequence[int | str] | None = None


class Method(NamedTuple):
    """One function that clients may call: `fn(params, inputs) -> outputs`, pure.

    example: inputs with the batch on the leading axis, an array or a dict of arrays, after codecs (integer codes).
    inputs, outputs: descriptions by name. constraints: on symbolic dimensions, such as "length <= 512".
    tolerance: {"rtol", "atol"} of the golden check on other machines (see `arsenal_serving.golden`).
    """

    fn: Callable[[Any, Any], Any]
    example: Any
    inputs: Mapping[str, Tensor] = {}
    outputs: Mapping[str, Tensor] = {}
    constraints: Sequence[str] = ()
    tolerance: Mapping[str, float] = golden.TOLERANCE


def export(
    folder: Any,
    methods: Mapping[str, Method],
    params: Any,
    *,
    name: str,
    default: str | None = None,
    codecs: Mapping[str, dict] | None = None,
    provenance: Mapping[str, Any] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> dict:
    """Write the artifact of `methods` over `params` to `folder`, replacing an older one; returns its manifest.

    params: any pytree of arrays. default: the method that the bare model name calls; by default the first.
    A bare array input is named "x", a bare array output after its method, the rest by their path ("a.b").
    As under `jax.jit`, 64-bit inputs and parameters become 32-bit ones unless jax_enable_x64 is on.
    Raises `Refused` for what cannot be served or is not proven, before anything is written.
    """
    codecs = dict(codecs or {})
    _check_names(name, methods, default, codecs)
    arrays = _named_parameters(params)
    manifest: dict[str, Any] = {
        "format": artifact.FORMAT,
        "name": name,
        "default": default or next(iter(methods)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": dict(provenance or {}),
        "jax": jax.__version__,
        "platform": program.platform(),
        "parameters": {
            "file": artifact.PARAMETERS,
            "arrays": [{"name": key, "dtype": a.dtype.name, "shape": list(a.shape)} for key, a in arrays.items()],
        },
        "codecs": codecs,
        "methods": {},
    }
    files: dict[str, bytes] = {artifact.PARAMETERS: safetensors.numpy.save(arrays)}
    kept: dict[str, np.ndarray] = {}
    for method_name, method in methods.items():
        made = _method(method_name, method, params, list(arrays.values()), codecs, platforms)
        entry, made_files, made_golden = made
        manifest["methods"][method_name] = entry
        files |= made_files
        kept |= made_golden
    files[artifact.GOLDEN] = safetensors.numpy.save(kept)
    files[artifact.MANIFEST] = artifact.manifest_text(manifest)
    artifact.write(folder, files)
    return manifest


def _method(name, method, params, arrays, states, platforms) -> tuple[dict, dict[str, bytes], dict[str, np.ndarray]]:
    """One method's manifest entry, files and golden arrays."""
    input_names, inputs, structure = _named_inputs(name, method)
    shapes = [_symbolic_shape(name, key, x, method.inputs.get(key)) for key, x in zip(input_names, inputs, strict=True)]
    parameters, tree = jax.tree.flatten(params)
    count = len(parameters)
    names_seen: list[str] = []

    def flat(*args: jax.Array) -> tuple:
        outputs = method.fn(jax.tree.unflatten(tree, args[:count]), jax.tree.unflatten(structure, args[count:]))
        named = _by_path(outputs, bare=name)
        names_seen[:] = named
        return tuple(map(jnp.asarray, named.values()))

    flat.__name__ = name
    typed = [Array(a.shape, a.dtype.name) for a in arrays]
    typed += [Array(shape, x.dtype.name) for shape, x in zip(shapes, inputs, strict=True)]
    try:
        versioned, durable, calling = program.export(flat, typed, platforms, method.constraints)
    except Refused:
        raise
    except Exception as error:  # jax's own words follow as the cause
        raise Refused(f"method {name!r} cannot be exported: {program.first_line(error)}") from error
    output_names, made = list(names_seen), calling["out_avals"]
    _check_described(name, method, input_names, inputs, output_names, made, states)

    # The reference is the function as its author calls it, with the parameters as they were given.
    wanted = [np.asarray(v) for v in _by_path(jax.jit(method.fn)(params, method.example), bare=name).values()]
    example = [Array(a.shape, a.dtype.name) for a in (*arrays, *inputs)]
    for form in program.FORMS:
        run = _runner(program.load(versioned, durable, calling, example, form).exported, arrays)
        for key, got, want in zip(output_names, run(inputs), wanted, strict=True):
            if not golden.same_bits(got, want):
                raise Refused(
                    f"method {name!r}, output {key!r}: the {form} program does not give the bits of jax.jit(fn); "
                    f"{got.dtype.name}{list(got.shape)} against {want.dtype.name}{list(want.shape)}, "
                    f"largest difference {golden.difference(got, want):g}."
                )
    few = [x[: golden.ROWS] for x in inputs]
    answers = wanted if len(inputs[0]) <= golden.ROWS else run(few)
    for key, answer in zip(output_names, answers, strict=True):
        if method.outputs.get(key, Tensor()).finite and answer.dtype.kind == "f" and not np.isfinite(answer).all():
            raise Refused(
                f"method {name!r}, output {key!r} holds NaN or infinity for the example; "
                f"say outputs={{{key!r}: Tensor(finite=False)}} if that is meant."
            )
    entry = {
        "programs": {"versioned": f"programs/{name}.exported", "durable": f"programs/{name}.mlir"},
        "calling": calling,
        "inputs": [
            _described(key, shape, x.dtype.name, method.inputs.get(key, Tensor()))
            for key, shape, x in zip(input_names, shapes, inputs, strict=True)
        ],
        "outputs": [
            _described(key, aval["shape"], aval["dtype"], method.outputs.get(key, Tensor()))
            for key, aval in zip(output_names, made, strict=True)
        ],
        "platforms": calling["platforms"],
        "row_independent": all(aval["shape"][:1] == [BATCH] for aval in made) and rows_independent(run, inputs, wanted),
        "tolerance": {key: float(method.tolerance[key]) for key in ("rtol", "atol")},
        "constraints": list(method.constraints),
    }
    kept = {f"{name}/input/{key}": np.array(x, order="C") for key, x in zip(input_names, few, strict=True)}
    kept |= {f"{name}/output/{key}": np.array(y, order="C") for key, y in zip(output_names, answers, strict=True)}
    return entry, {f"programs/{name}.exported": versioned, f"programs/{name}.mlir": durable}, kept


def rows_independent(run: Callable, inputs: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> bool:
    """Whether the rows of `run(inputs) -> outputs` do not influence each other, by trying.

    At one batch size the neighbours of a row are permuted, perturbed and blown up: its answers must keep their
    bits. Moved to another place, and at another batch size (`answers`, those to `inputs`), a row's answers must
    stay within rounding: vector and remainder code differ there in the last bit, a real dependence in more.
    """
    size, random = golden.ROWS, np.random.default_rng(0)
    base = [x[np.arange(size) % len(x)] for x in inputs]
    reference = run(base)

    def rounding(got: np.ndarray, wanted: np.ndarray) -> bool:
        return golden.near(got, wanted, **golden.TOLERANCE)

    for row in (0, size // 2 - 1, size - 1):
        others = np.delete(np.arange(size), row)
        for scale in (None, 0.1, 1.0, 1e6):
            tried = []
            for x in base:
                changed = x.copy()
                shuffled = x[random.permutation(others)]
                changed[others] = shuffled if scale is None else _perturbed(shuffled, x, scale, random)
                tried.append(changed)
            for got, want in zip(run(tried), reference, strict=True):
                if not golden.same_bits(got[row], want[row]):
                    return False
    moved = run([np.roll(x, 3, axis=0) for x in base])
    if not all(rounding(np.roll(got, -3, axis=0), want) for got, want in zip(moved, reference, strict=True)):
        return False
    count = len(inputs[0])
    if count == size:  # the answers at hand are of the same size: make some of another
        count, answers = size // 2, run([x[: size // 2] for x in base])
    rows = min(count, size)
    return all(rounding(got[:rows], want[:rows]) for got, want in zip(answers, reference, strict=True))


def _perturbed(rows: np.ndarray, x: np.ndarray, scale: float, random: np.random.Generator) -> np.ndarray:
    if x.dtype == bool:
        return random.random(rows.shape) < 0.5
    if x.dtype.kind in "iu":
        # Codes, token ids and pixels: values near those that were seen, the one above the largest included.
        top = min(int(x.max()) + 1, np.iinfo(x.dtype).max)
        return random.integers(int(x.min()), top, rows.shape, x.dtype, endpoint=True)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(np.std(x[np.isfinite(x)], dtype=np.float64)) if np.isfinite(x).any() else 0.0
        return (rows + scale * (spread or 1.0) * random.standard_normal(rows.shape)).astype(x.dtype)


def _runner(exported: jax.export.Exported, arrays: Sequence[np.ndarray]) -> Callable:
    call = jax.jit(exported.call)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with program.wide(exported):
            return [np.asarray(output) for output in call(*arrays, *inputs)]

    return run


def _check_names(name: str, methods: Mapping, default: str | None, states: Mapping[str, dict]) -> None:
    if not MODEL_NAME.fullmatch(name):
        raise Refused(f"`name` must be letters, digits, '.', '_' or '-', at most 100; got {shown(name)}.")
    if not methods:
        raise Refused("`methods` must hold at least one method; got none.")
    for method in methods:
        if not METHOD_NAME.fullmatch(method):
            raise Refused(f"a method's name must be an identifier of at most 100 letters; got {shown(method)}.")
    if default is not None and default not in methods:
        raise unknown("default method", default, methods)
    codecs.named(states, dict(states))


def _check_described(name, method, input_names, inputs, output_names, made, states) -> None:
    """Descriptions must be of inputs and outputs that exist, and fit their types."""
    for what, described, names in (("input", method.inputs, input_names), ("output", method.outputs, output_names)):
        for key in described:
            if key not in names:
                raise unknown(what, key, names, of=f"method {name!r}")
    typed = [("input", key, x.dtype, x.shape) for key, x in zip(input_names, inputs, strict=True)]
    typed += [("output", key, np.dtype(a["dtype"]), a["shape"]) for key, a in zip(output_names, made, strict=True)]
    for what, key, dtype, shape in typed:
        tensor = (method.inputs if what == "input" else method.outputs).get(key, Tensor())
        last = shape[-1] if len(shape) > 1 else 0
        where = f"{what} {key!r} of method {name!r}"
        if dtype.name not in SERVED:
            allowed = ", ".join(SERVED)
            raise Refused(f"{where} is {dtype.name}, which JSON tensors cannot carry; cast it to one of {allowed}.")
        if tensor.columns is not None and len(tensor.columns) != last:
            raise Refused(f"{where} has {len(tensor.columns)} names of columns for a last axis of {last}.")
        if tensor.codec is None:
            continue
        if dtype.kind not in "iu":
            raise Refused(f"{where} has a codec, so it must hold integer codes; it is {dtype.name}.")
        if not isinstance(tensor.codec, str) and len(tensor.codec) != last:
            raise Refused(f"{where} has {len(tensor.codec)} codecs for a last axis of {last}.")
        used = [tensor.codec] if isinstance(tensor.codec, str) else tensor.codec
        codecs.named(used, states)
        for state in (states[codec] for codec in used):
            needed = np.iinfo(np.int32).max if state["kind"] == "date" else len(state["values"])
            if what == "input" and np.iinfo(dtype).max < needed:
                raise Refused(f"{where} is {dtype.name}, too small for the codes of its codec, up to {needed}.")


def _named_inputs(name: str, method: Method) -> tuple[list[str], list[np.ndarray], Any]:
    """Names, arrays as jax takes them, and structure of the example."""
    named = _by_path(method.example, bare="x")
    if not named:
        raise Refused(f"the example of method {name!r} holds no array.")
    inputs = {key: _as_jax_takes_it(x, f"input {key!r} of method {name!r}") for key, x in named.items()}
    rows = {key: x.shape[0] if x.ndim else None for key, x in inputs.items()}
    if None in rows.values() or len(set(rows.values())) != 1 or 0 in rows.values():
        raise Refused(f"the inputs of method {name!r} must share a leading batch axis of 1 or more; got rows {rows}.")
    return list(inputs), list(inputs.values()), jax.tree.structure(method.example)


def _named_parameters(params: Any) -> dict[str, np.ndarray]:
    named = _by_path(params, bare="params")
    arrays = {key: _as_jax_takes_it(x, f"parameter {key!r}") for key, x in named.items()}
    for key, array in arrays.items():
        if array.dtype.name not in artifact.STORED.values():
            raise Refused(f"parameter {key!r} is {array.dtype.name}; allowed are {sorted(artifact.STORED.values())}.")
    return arrays


def _as_jax_takes_it(value: Any, what: str) -> np.ndarray:
    if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        raise Refused(f"{what} is a typed random key; pass jax.random.key_data(key) and wrap it inside.")
    try:
        taken = np.array(jnp.asarray(value), order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(f"{what} must be an array; got {type(value).__name__}: {program.first_line(error)}.") from error
    if taken.dtype.kind in "iu" and not np.array_equal(taken, value):
        raise Refused(f"{what} holds integers beyond {taken.dtype.name}; turn jax_enable_x64 on or use smaller ones.")
    return taken


def _by_path(tree: Any, bare: str) -> dict[str, Any]:
    """Leaves by the path that leads to them, joined with dots; a tree that is one leaf is named `bare`."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        key = ".".join(map(_step, path)) if path else bare
        if key in named:
            raise Refused(f"two arrays have the path {key!r}; rename one.")
        if not key or not key.isprintable() or len(key) > 500:
            raise Refused(f"the path of an array must be printable and at most 500 letters; got {shown(key)}.")
        named[key] = leaf
    return named


def _step(entry: Any) -> str:
    match entry:
        case DictKey(key=key) | FlattenedIndexKey(key=key):
            return str(key)
        case SequenceKey(idx=index):
            return str(index)
        case GetAttrKey(name=name):
            return name
    return str(entry)


def _symbolic_shape(name: str, key: str, x: np.ndarray, tensor: Tensor | None) -> tuple[int | str, ...]:
    if tensor is None or tensor.shape is None:
        return (BATCH, *x.shape[1:])
    shape = tuple(tensor.shape)
    fits = len(shape) == x.ndim and shape[0] == BATCH
    for dim, size in zip(shape, x.shape, strict=False):
        fits = fits and (bool(SYMBOL.fullmatch(dim)) if isinstance(dim, str) else dim == size)
    if not fits:
        raise Refused(
            f"`shape` of input {key!r} of method {name!r} must start with {BATCH!r} and fit the example's "
            f"{list(x.shape)}, with names for what varies; got {list(shape)}."
        )
    return shape


def _described(key: str, shape: Sequence, dtype: str, tensor: Tensor) -> dict:
    listed = tensor.codec if tensor.codec is None or isinstance(tensor.codec, str) else list(tensor.codec)
    columns = None if tensor.columns is None else list(tensor.columns)
    return {
        "name": key,
        "dtype": dtype,
        "shape": list(shape),
        "columns": columns,
        "codec": listed,
        "finite": bool(tensor.finite),
    }
