"""Pure functions and their parameters, made into an artifact that is proven before it is written.

    export("models/digits", predict, params, example)

`predict(params, inputs) -> outputs` is any pure JAX function. What is proven: both stored forms of each program give
what `jax.jit(fn)` gives on the example, bit for bit or within rounding, as the manifest then says; and whether a row's
answer depends on the rows beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from arsenal_serving.artifact import codecs, golden, lengths, manifest, program
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import reference as references
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.manifest import COUPLED, INDEPENDENT, METHOD_NAME, SERVED, SINGLE
from arsenal_serving.artifact.program import BATCH, PLATFORMS, Array
from arsenal_serving.artifact.reference import ModelReference
from arsenal_serving.artifact.versions import MODEL_NAME
from arsenal_serving.refused import Refused, show, unknown_name

SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ANSWERED = 1024  # rows of a reference that are answered at once


class Tensor(NamedTuple):
    """Describes one input or output beyond its dtype; every field is optional.

    columns: names along the last axis. codec: a name in `codecs`, or a list with one per column, through which
    strings become integer codes (inputs) or codes become strings (outputs). A text becomes several, along one more axis
    behind that of the names. finite: whether NaN and infinity are refused in an input, and never to be expected of an
    output. shape: of an input whose dimensions beyond
    the batch vary, such as ["batch", "length", 8]; default: the batch, and the example's other dimensions. pad: of an
    input, what may fill its varying dimensions up: they are then rounded up to powers of two, so that few programs
    serve all lengths and unequal ones share a run. That needs an upper bound, constraints=["length <= 512"], and a
    function whose answers it does not change (that masks, or reads no further than a length), which is proven.
    gaps: of an input of floats, the words for a missing value, `codecs.cells.MISSING` for the usual ones: it is NaN
    then and taken, infinity still refused.
    """

    columns: Sequence[str] | None = None
    codec: str | Sequence[str] | None = None
    finite: bool = True
    shape: Sequence[int | str] | None = None
    pad: float | None = None
    gaps: Sequence[str] | None = None


class Method(NamedTuple):
    """One function that clients may call: `fn(params, inputs) -> outputs`, pure.

    example: inputs with the batch on the leading axis, any pytree of arrays, after codecs (codes; NaN for gaps).
    inputs, outputs: descriptions by name. constraints: on symbolic dimensions, such as "length <= 512".
    tolerance: {"rtol", "atol"} of the golden check on other machines (see `arsenal_serving.artifact.golden`).
    batch: False for a function without a batch axis, which then takes the example's shapes and no others.
    sizes: the padded sizes that are compiled; by default every power of two. Few of them for what compiles slowly.
    private: whether it is the server's own, which no client may call, see `decoding` of `export`.
    """

    fn: Callable[[Any, Any], Any]
    example: Any
    inputs: Mapping[str, Tensor] = {}
    outputs: Mapping[str, Tensor] = {}
    constraints: Sequence[str] = ()
    tolerance: Mapping[str, float] = golden.TOLERANCE
    batch: bool = True
    sizes: Sequence[int] | None = None
    private: bool = False


def export(
    folder: str | os.PathLike[str],
    methods: Callable[[Any, Any], Any] | Mapping[str, Method | Callable[[Any, Any], Any]],
    params: Any,
    example: Any = None,
    *,
    name: str | None = None,
    version: int | None = None,
    default: str | None = None,
    codecs: Mapping[str, dict[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    decoding: Mapping[str, Any] | None = None,
    reference: Any = None,
    platforms: Sequence[str] = PLATFORMS,
) -> Path:
    """Write `methods` over `params` as the next version in the model's folder; returns the version's folder.

    methods: one function, which is called predict, or functions and `Method`s by name; functions take `example`.
    params: any pytree of arrays. name: the model's; by default the folder's. version: another than the next.
    default: the method that the bare model name calls; by default the first.
    decoding: of a model of language, whose private methods `decode_enter` and `decode_step` keep texts in slots, see
    `arsenal_serving.artifact.slots`: {"codec": that of its tokens, "context": tokens of a text, "vocabulary": how many
    tokens there are, "end": those that end a text, "template": a chat template, {"source", "tokens"}, or None}.
    reference: rows as the example has them, those that the model learned from: how they and the answers to them are
    distributed is kept in the artifact, for whoever watches what it is asked (`arsenal_serving.artifact.reference`).
    A bare array input is named "x", a bare array output after its method, the rest by their path ("a.b").
    As under `jax.jit`, 64-bit inputs and parameters become 32-bit ones unless jax_enable_x64 is on.
    Raises `Refused` for what cannot be served or is not proven, and for a version that exists, before anything is
    written.
    """
    codecs = dict(codecs or {})
    name = Path(os.path.abspath(folder)).name if name is None else name
    given = {"predict": methods} if callable(methods) else methods
    made = {key: m if isinstance(m, Method) else Method(m, example) for key, m in given.items()}
    _check_names(name, made, default, codecs, platforms)
    arrays = _named_parameters(params)
    described: dict[str, Any] = {
        "format": manifest.FORMAT,
        "name": name,
        "version": None,
        "default": default or next(key for key, method in made.items() if not method.private),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": dict(provenance or {}),
        "jax": {**program.promise(jax.__version__), "calling_convention": 0},
        "platform": program.platform(),
        "parameters": {
            "file": artifact.PARAMETERS,
            "arrays": [{"name": key, "dtype": a.dtype.name, "shape": list(a.shape)} for key, a in arrays.items()],
        },
        "codecs": codecs,
        "renewed": None,
        # Left out where there is none, as in every manifest before there was any.
        **({} if decoding is None else {"decoding": dict(decoding)}),
        "methods": {},
    }
    files: dict[str, bytes] = {artifact.PARAMETERS: safetensors.numpy.save(arrays)}
    kept: dict[str, np.ndarray] = {}
    for method_name, method in made.items():
        entry, made_files, made_golden = _method(method_name, method, params, list(arrays.values()), codecs, platforms)
        described["methods"][method_name] = entry
        described["jax"]["calling_convention"] = entry["calling"]["calling_convention_version"]
        files |= made_files
        kept |= made_golden
    files[artifact.GOLDEN] = safetensors.numpy.save(kept)
    if reference is not None:
        files[references.FILE] = references.write(_reference(reference, made, params, described))
    try:
        manifest.text(described)
    except (TypeError, ValueError) as error:
        raise Refused(f"`provenance` and `codecs` must be what JSON can hold: {program.first_line(error)}.") from error
    return artifact.write(folder, described, files, version)


def _method(
    name: str,
    method: Method,
    params: Any,
    arrays: Sequence[np.ndarray],
    states: Mapping[str, Any],
    platforms: Sequence[str],
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, np.ndarray]]:
    """One method's manifest entry, program files and golden arrays."""
    input_names, inputs, structure = _named_inputs(name, method)
    params_structure, many = jax.tree.structure(params), len(arrays)
    names_seen: list[str] = []

    def flat(*leaves: Any) -> tuple[Any, ...]:
        unflat = jax.tree.unflatten
        outputs = method.fn(unflat(params_structure, leaves[:many]), unflat(structure, leaves[many:]))
        named = _by_path(outputs, bare=name)
        names_seen[:] = named
        return tuple(jnp.asarray(output) for output in named.values())

    # The name that jax gives the program and profilers show.
    flat.__name__ = name
    shapes = [
        _symbolic_shape(name, key, x, method.inputs.get(key), method.batch)
        for key, x in zip(input_names, inputs, strict=True)
    ]
    typed = [Array(a.shape, a.dtype.name) for a in arrays]
    typed += [Array(shape, x.dtype.name) for shape, x in zip(shapes, inputs, strict=True)]
    try:
        versioned, durable, calling = program.export(flat, typed, platforms, method.constraints)
    except Refused as error:
        raise Refused(f"method {name!r}: {error}") from error
    except Exception as error:  # jax's own words follow as the cause
        raise Refused(f"method {name!r} cannot be exported: {_explain(error, method)}") from error
    output_names, made = list(names_seen), calling["out_avals"]
    if not made:
        raise Refused(f"method {name!r} gives no array.")
    _check_described(name, method, input_names, inputs, output_names, made, states)

    # The reference is the function as its author calls it, with the parameters as they were given.
    wanted = [np.asarray(v) for v in _by_path(jax.jit(method.fn)(params, method.example), bare=name).values()]
    example = [Array(a.shape, a.dtype.name) for a in (*arrays, *inputs)]
    rtol, atol = (float(method.tolerance[key]) for key in ("rtol", "atol"))
    bits = True
    for form in program.FORMS:
        run = runner(program.load(versioned, durable, calling, example, form).exported, arrays)
        for key, got, want in zip(output_names, run(inputs), wanted, strict=True):
            # A program for every batch size may be fused in another way than one for the example's: that is rounding.
            bits = bits and golden.same_bits(got, want)
            if not golden.is_near(got, want, rtol, atol):
                far, may = golden.difference(got, want), golden.tolerate(want, rtol, atol)
                raise Refused(
                    f"method {name!r}, output {key!r}: the {form} program does not give the answers of jax.jit(fn); "
                    f"{got.dtype.name}{list(got.shape)} against {want.dtype.name}{list(want.shape)}, "
                    f"largest difference {far:g}, allowed {may:g}."
                )
    whole = not method.batch or len(inputs[0]) <= golden.ROWS
    few = inputs if whole else [x[: golden.ROWS] for x in inputs]
    answers = wanted if whole else run(few)
    for key, answer in zip(output_names, answers, strict=True):
        if method.outputs.get(key, Tensor()).finite and not golden.is_finite(answer):
            raise Refused(
                f"method {name!r}, output {key!r} holds NaN or infinity for the example; "
                f"say outputs={{{key!r}: Tensor(finite=False)}} if that is meant."
            )
    by_row = all(aval["shape"][:1] == [BATCH] for aval in made)
    odd = [_odd_values(method.inputs.get(key, Tensor()), x, states) for key, x in zip(input_names, inputs, strict=True)]
    independent = method.batch and by_row and rows_independent(run, inputs, wanted, odd)
    pads = [method.inputs.get(key, Tensor()).pad for key in input_names]
    ports = [_Port(*each) for each in zip(input_names, shapes, pads, strict=True)]
    gives = [_Port(key, tuple(aval["shape"]), None) for key, aval in zip(output_names, made, strict=True)]
    if any(port.pad is not None for port in ports):
        if not independent:
            raise Refused(f"method {name!r} has a `pad`, which needs rows that do not influence each other.")
        _prove_padding(name, run, ports, gives, inputs, method)
    entry = {
        "programs": {"versioned": f"programs/{name}.exported", "durable": f"programs/{name}.mlir"},
        "calling": calling,
        "inputs": [
            _describe(port.name, port.shape, x.dtype.name, method.inputs.get(port.name, Tensor())) | {"pad": port.pad}
            for port, x in zip(ports, inputs, strict=True)
        ],
        "outputs": [
            _describe(key, aval["shape"], aval["dtype"], method.outputs.get(key, Tensor()))
            for key, aval in zip(output_names, made, strict=True)
        ],
        "platforms": calling["platforms"],
        "rows": SINGLE if not method.batch else INDEPENDENT if independent else COUPLED,
        "sizes": None if method.sizes is None else sorted(set(method.sizes)),
        "bits": bits,
        "tolerance": {"rtol": rtol, "atol": atol},
        "constraints": list(method.constraints),
        **({"private": True} if method.private else {}),
    }
    kept = {f"{name}/input/{key}": np.array(x, order="C") for key, x in zip(input_names, few, strict=True)}
    kept |= {f"{name}/output/{key}": np.array(y, order="C") for key, y in zip(output_names, answers, strict=True)}
    return entry, {f"programs/{name}.exported": versioned, f"programs/{name}.mlir": durable}, kept


def _reference(rows: Any, made: Mapping[str, Method], params: Any, described: Mapping[str, Any]) -> ModelReference:
    """How these rows and the answers to them are distributed, by the methods that take such rows."""
    many, found = len(jax.tree.leaves(rows)[0]), {}
    taken, structure = jax.tree.map(lambda x: x[: references.MOST_ROWS], rows), str(jax.tree.structure(rows))
    for name, method in made.items():
        if method.private or not method.batch or str(jax.tree.structure(method.example)) != structure:
            continue
        if method.sizes is not None and max(method.sizes) < ANSWERED:  # what is slow to answer is not asked for so many
            continue
        fn, answers = jax.jit(method.fn), []
        for at in range(0, min(many, references.MOST_ROWS), ANSWERED):
            answer = fn(params, jax.tree.map(lambda x: x[at : at + ANSWERED], taken))  # noqa: B023 (called at once)
            answers.append({key: np.asarray(value) for key, value in _by_path(answer, bare=name).items()})
        outputs = {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}
        entry, states = described["methods"][name], described["codecs"]
        found[name] = references.describe_method(entry, states, _by_path(taken, bare="x"), outputs)
    return ModelReference(min(many, references.MOST_ROWS), found)


def _odd_values(tensor: Tensor, x: np.ndarray, states: Mapping[str, dict[str, Any]]) -> np.ndarray | None:
    """What an input may hold though the example does not: NaN, or of codes the ends, [k] or [k, columns]."""
    if _floating(x):
        wild = not tensor.finite or tensor.gaps is not None or tensor.codec is not None
        return np.array([np.nan], x.dtype) if wild else None
    if tensor.codec is None:
        return None
    used = codecs.find_codecs([tensor.codec] if isinstance(tensor.codec, str) else tensor.codec, dict(states))
    if used[0].length is not None:  # of texts: nothing, and the code that all have last
        return np.array([-1, min(codec.codes[1] for codec in used if codec.codes)], x.dtype)
    # Unknown and missing are the last two codes; of times missing is the first.
    ends = [[least, most - 1, most] for least, most in (codec.codes or (0, 0) for codec in used)]
    return np.array(ends[0] if isinstance(tensor.codec, str) else np.transpose(ends), x.dtype)


class _Port(NamedTuple):
    name: str
    shape: tuple[int | str, ...]
    pad: float | None


def _prove_padding(
    name: str,
    run: Callable[..., Any],
    ports: list[_Port],
    gives: list[_Port],
    inputs: Sequence[np.ndarray],
    method: Method,
) -> None:
    """Raise `Refused` unless filling lengths up gives what the program gives at the lengths themselves."""
    try:
        known = lengths.buckets(ports, method.constraints)
    except Refused as error:
        raise Refused(f"method {name!r}: {error}") from error
    for port, x in zip(ports, inputs, strict=True):
        if port.pad is not None and not lengths.can_fill(port.pad, x.dtype):
            raise Refused(f"`pad` of input {port.name!r} of method {name!r} must be of {x.dtype.name}; got {port.pad}.")
    for port in gives:
        for dim in port.shape:
            if isinstance(dim, str) and dim not in known and any(re.search(rf"\b{d}\b", dim) for d in known):
                where = f"output {port.name!r} of method {name!r}"
                raise Refused(f"{where} has the dimension {dim!r}, which cannot be cut back; leave `pad` out.")
    rtol, atol = (float(method.tolerance[key]) for key in ("rtol", "atol"))
    whole = lengths.sizes(ports, inputs, known)
    for sizes in (whole, {dim: max(known[dim][0], size // 2) for dim, size in whole.items()}):
        short = lengths.cut(ports, inputs, sizes)
        wanted = run(short)
        for to in ({dim: next(b for b in known[dim] if b >= size) for dim, size in sizes.items()}, _largest(known)):
            got = lengths.cut(gives, run(lengths.widen(ports, short, to)), sizes)
            for port, answer, want in zip(gives, got, wanted, strict=True):
                if not golden.is_near(answer, want, rtol, atol):
                    far, may = golden.difference(answer, want), golden.tolerate(want, rtol, atol)
                    raise Refused(
                        f"method {name!r}, output {port.name!r}: filling {sizes} up to {to} with `pad` changes the "
                        f"answer; largest difference {far:g}, allowed {may:g}. Mask the padding, or leave `pad` out."
                    )


def _largest(known: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    return {dim: sizes[-1] for dim, sizes in known.items()}


def _explain(error: Exception, method: Method) -> str:
    """jax's words in one line, and what to do about the usual reasons."""
    said, words = program.first_line(error).rstrip("."), str(error)
    advice = ""
    if "callback" in words or "custom calls whose targets" in words:
        targets = sorted(set(re.findall(r"custom_call @([\w.$]+)", words)) - program.CUSTOM_CALLS)
        calls = f" ({', '.join(targets)})" if targets else ""
        advice = f" It calls the host or a library{calls} that servers need not have: callbacks, prints, Pallas."
    elif "platform" in words:
        advice = f" Not every platform has it: name those that do, as platforms=({PLATFORMS[0]!r}, {PLATFORMS[1]!r})."
    elif isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        advice = " It looks at the values of its inputs in Python: use jnp.where, lax.cond or lax.scan."
    elif method.batch and re.search("symbolic|Inconclusive|_DimExpr", f"{said} {words}"):
        advice = " It must run at any batch: x.shape[0], not len(x). Method(..., batch=False) takes one shape."
    elif re.search("positional argument", words):
        advice = " A method is called as fn(params, inputs)."
    return f"{said}.{advice}"


def rows_independent(
    run: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    odd: Sequence[np.ndarray | None] = (),
) -> bool:
    """Whether the rows of `run(inputs) -> outputs` do not influence each other, by trying.

    At one batch size the neighbours of a row are permuted, perturbed and blown up, and made what an input may be though
    the example is not (`odd`: NaN, codes of what is missing), for a row of the example and for one that is itself so in
    half of its columns: its answers must keep their bits. Moved to another place, and at another batch size (`answers`,
    those to `inputs`), a row's answers must stay within rounding: vector and remainder code differ there in the last
    bit, a real dependence in more.
    """
    size, random = golden.ROWS, np.random.default_rng(0)
    base = [x[np.arange(size) % len(x)] for x in inputs]
    reference = run(base)
    odd = odd or [None] * len(base)

    def is_rounding(got: np.ndarray, wanted: np.ndarray) -> bool:
        return golden.is_near(got, wanted, **golden.TOLERANCE)

    bases = [(base, reference)]
    # What fills gaps in from the other rows shows only in a row that has some.
    for at in range(max(0 if values is None else len(values) for values in odd)):
        gappy = [_punch(x, values, at) for x, values in zip(base, odd, strict=True)]
        bases.append((gappy, run(gappy)))
    if not all(_neighbours_are_idle(run, *one, odd, random) for one in bases):
        return False
    moved = run([np.roll(x, 3, axis=0) for x in base])
    if not all(is_rounding(np.roll(got, -3, axis=0), want) for got, want in zip(moved, reference, strict=True)):
        return False
    count = len(inputs[0])
    if count == size:  # the answers at hand are of the same size: make some of another
        count, answers = size // 2, run([x[: size // 2] for x in base])
    rows = min(count, size)
    return all(is_rounding(got[:rows], want[:rows]) for got, want in zip(answers, reference, strict=True))


def _neighbours_are_idle(
    run: Callable[..., Any],
    base: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    odd: Sequence[np.ndarray | None],
    random: np.random.Generator,
) -> bool:
    """Whether some rows of `base` keep the bits of their answers, `reference`, whatever the rows beside them are."""
    size = len(base[0])
    for row in (0, size // 2 - 1, size - 1):
        others = np.delete(np.arange(size), row)
        for scale in (None, 0.1, 1.0, 1e6, *([np.nan] if any(values is not None for values in odd) else [])):
            tried = []
            for x, values in zip(base, odd, strict=True):
                changed = x.copy()
                shuffled = x[random.permutation(others)]
                if scale is not None and np.isnan(scale):
                    shuffled = _draw(shuffled, values, random)
                elif scale is not None:
                    shuffled = _perturb(shuffled, x, scale, random)
                changed[others] = shuffled
                tried.append(changed)
            for got, want in zip(run(tried), reference, strict=True):
                if not golden.same_bits(got[row], want[row]):
                    return False
    return True


def _punch(x: np.ndarray, values: np.ndarray | None, at: int) -> np.ndarray:
    """An input with one of its odd values in every other place, so that one of two rows has it in any column."""
    if values is None:
        return x
    odd = values[at % len(values)]
    return np.where(np.indices(x.shape).sum(0) % 2 == 0, odd, x).astype(x.dtype)


def _draw(x: np.ndarray, values: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
    """As many odd values as an input has elements."""
    if values is None:
        return x
    pick = random.integers(0, len(values), x.shape)
    return values[pick] if values.ndim == 1 else values[pick, np.arange(x.shape[-1])]


def _perturb(rows: np.ndarray, x: np.ndarray, scale: float, random: np.random.Generator) -> np.ndarray:
    if x.dtype == bool:
        return random.random(rows.shape) < 0.5
    if x.dtype.kind in "iu":
        # Codes, token ids and pixels: values near those that were seen, the one above the largest included.
        top = min(int(x.max()) + 1, np.iinfo(x.dtype).max)
        return random.integers(int(x.min()), top, rows.shape, x.dtype, endpoint=True)
    with np.errstate(over="ignore", invalid="ignore"):
        known = x[np.isfinite(x)].astype(np.float64)
        spread = float(np.std(known)) if known.size else 0.0
        return (rows + scale * (spread or 1.0) * random.standard_normal(rows.shape)).astype(x.dtype)


def _floating(x: np.ndarray) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def runner(exported: jax.export.Exported, arrays: Sequence[np.ndarray]) -> Callable[..., Any]:
    """`run(inputs) -> outputs`, numpy arrays both, of a program over parameters."""
    call = jax.jit(exported.call)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with program.widen_types(exported):
            return [np.asarray(output) for output in call(*arrays, *inputs)]

    return run


def _check_names(
    name: str,
    methods: Mapping[str, Any],
    default: str | None,
    states: Mapping[str, dict[str, Any]],
    platforms: Sequence[str],
) -> None:
    if not MODEL_NAME.fullmatch(name):
        raise Refused(f"`name` must be letters, digits, '.', '_' or '-', at most 100; got {show(name)}.")
    if all(getattr(method, "private", False) for method in methods.values()):
        raise Refused("`methods` must hold at least one method; got none.")
    for key, method in methods.items():
        if not isinstance(key, str) or not METHOD_NAME.fullmatch(key):
            raise Refused(f"a method's name must be an identifier of at most 100 letters; got {show(key)}.")
        if not callable(method.fn):
            raise Refused(f"method {key!r} must be a function `fn(params, inputs)`; got {show(method.fn)}.")
        if method.sizes is not None and not (
            method.batch and method.sizes and all(type(size) is int and size >= 1 for size in method.sizes)
        ):
            raise Refused(f"`sizes` of method {key!r} must be batch sizes >= 1; got {show(method.sizes)}.")
    if default is not None and (default not in methods or methods[default].private):
        raise unknown_name("default method", default, [key for key in methods if not methods[key].private])
    codecs.find_codecs(states, dict(states))
    known = ("rocm", *PLATFORMS)
    if program.platform() not in platforms or not set(platforms) <= set(known):
        allowed = f"{', '.join(known)}, with {program.platform()!r}, where it is proven, among them"
        raise Refused(f"`platforms` must be of {allowed}; got {show(tuple(platforms))}.")


def _check_described(name, method, input_names, inputs, output_names, made, states) -> None:
    """Descriptions must be of inputs and outputs that exist, and fit their types."""
    for what, described, names in (("input", method.inputs, input_names), ("output", method.outputs, output_names)):
        for key in described:
            if key not in names:
                raise unknown_name(what, key, names, of=f"method {name!r}")
    typed = [("input", key, x.dtype, x.shape) for key, x in zip(input_names, inputs, strict=True)]
    typed += [("output", key, np.dtype(a["dtype"]), a["shape"]) for key, a in zip(output_names, made, strict=True)]
    for what, key, dtype, shape in typed:
        tensor = (method.inputs if what == "input" else method.outputs).get(key, Tensor())
        where = f"{what} {key!r} of method {name!r}"
        named = [] if tensor.codec is None else [tensor.codec] if isinstance(tensor.codec, str) else tensor.codec
        used = codecs.find_codecs(named, states)
        cell = codecs.cell_shape(where, used, shape, what == "input")
        shape = shape[: len(shape) - len(cell)]
        last = shape[-1] if len(shape) > 1 else 0
        if dtype.name not in SERVED:
            allowed = ", ".join(SERVED)
            raise Refused(f"{where} is {dtype.name}, which no tensor carries; cast it to one of {allowed}.")
        if tensor.columns is not None and len(tensor.columns) != last:
            raise Refused(f"{where} has {len(tensor.columns)} names of columns for a last axis of {last}.")
        if tensor.gaps is not None:
            cells.missing_words(tensor.gaps)
            if what == "output" or tensor.codec is not None or not jnp.issubdtype(dtype, jnp.floating):
                raise Refused(f"{where} cannot have `gaps`: words for missing values are of floats without a codec.")
        if tensor.codec is None:
            continue
        if not isinstance(tensor.codec, str) and len(tensor.codec) != last:
            raise Refused(f"{where} has {len(tensor.codec)} codecs for a last axis of {last}.")
        codecs.check_type(where, dtype, used)
        for least, most in (codec.codes for codec in used if codec.codes is not None):
            if what == "input" and not (np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max):
                raise Refused(f"{where} is {dtype.name}, too small for the codes of its codec, {least} to {most}.")


def _named_inputs(name: str, method: Method) -> tuple[list[str], list[np.ndarray], Any]:
    """Names, arrays as jax takes them, and structure of the example."""
    named = _by_path(method.example, bare="x")
    if not named:
        raise Refused(f"the example of method {name!r} holds no array.")
    inputs = {key: _as_jax_takes_it(x, f"input {key!r} of method {name!r}") for key, x in named.items()}
    if not method.batch:
        return list(inputs), list(inputs.values()), jax.tree.structure(method.example)
    rows = {key: x.shape[0] if x.ndim else None for key, x in inputs.items()}
    if None in rows.values() or len(set(rows.values())) != 1 or 0 in rows.values():
        raise Refused(
            f"the inputs of method {name!r} must share a leading batch axis of 1 or more; got rows {rows}. "
            f"A method without one is Method(..., batch=False)."
        )
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
    if isinstance(value, str) or getattr(getattr(value, "dtype", None), "kind", "") in ("O", "U", "S"):
        remedy = "give int32 codes, and name a codec for them, Tensor(codec=...)"
        raise Refused(f"{what} holds strings, which enter no program: {remedy}.")
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
            raise Refused(f"the path of an array must be printable and at most 500 letters; got {show(key)}.")
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


def _symbolic_shape(name: str, key: str, x: np.ndarray, tensor: Tensor | None, batch: bool) -> tuple[int | str, ...]:
    if tensor is None or tensor.shape is None:
        return (BATCH, *x.shape[1:]) if batch else x.shape
    shape = tuple(tensor.shape)
    fits = len(shape) == x.ndim and (shape[:1] == (BATCH,)) == batch
    for dim, size in zip(shape, x.shape, strict=False):
        fits = fits and (bool(SYMBOL.fullmatch(dim)) if isinstance(dim, str) else dim == size)
    if not fits:
        raise Refused(
            f"`shape` of input {key!r} of method {name!r} must{'' if batch else ' not'} start with {BATCH!r} and fit "
            f"the example's {list(x.shape)}, with names for what varies; got {list(shape)}."
        )
    return shape


def _describe(key: str, shape: Sequence[Any], dtype: str, tensor: Tensor) -> dict[str, Any]:
    listed = tensor.codec if tensor.codec is None or isinstance(tensor.codec, str) else list(tensor.codec)
    columns = None if tensor.columns is None else list(tensor.columns)
    return {
        "name": key,
        "dtype": dtype,
        "shape": list(shape),
        "columns": columns,
        "codec": listed,
        "finite": bool(tensor.finite),
        # Left out where there are none, as in every manifest before there were any.
        **({} if tensor.gaps is None else {"gaps": list(tensor.gaps)}),
    }
