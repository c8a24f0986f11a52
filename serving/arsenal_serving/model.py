"""The engine: an artifact in memory, which checks named arrays, runs them in compiled sizes and names the answers.

Every protocol is a thin layer over `Model.infer`. Rows that do not influence each other are padded to the next of a
few sizes, so that few programs serve all; a method whose rows do is run at exactly the size that came, and never with
the rows of two callers; a method without rows has one shape.
"""

from __future__ import annotations

import os
import re
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal_serving.artifact import codecs, golden, lengths, program, versions
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.manifest import INDEPENDENT, MOST_RANK, SINGLE
from arsenal_serving.artifact.program import BATCH, Array
from arsenal_serving.refused import Refused, show, unknown_name

MAX_BATCH, MAX_ROWS = 64, 16384
# Sizes beyond the warm ones are compiled as they come; so many of them are kept, or sizes would fill the memory.
KEPT = 32


class Limits(NamedTuple):
    """What one tensor of a request may be at most, before it is compared with a signature."""

    rank: int = MOST_RANK
    elements: int = 1 << 24


LIMITS = Limits()


class Port(NamedTuple):
    """One input or output as clients see it: a dimension that is a string varies; `code` is there for strings.

    pad: what fills the dimensions up that are rounded up.
    kinds: of the codec of its strings, or of that of each of its columns.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]
    columns: list[str] | None
    finite: bool
    code: Callable[[np.ndarray], np.ndarray] | None
    pad: float | None = None
    limits: Limits = LIMITS
    kinds: tuple[str, ...] = ()

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.shape))
        return f"{'strings' if self.code else self.dtype.name} [{dims}]"


class Loaded(NamedTuple):
    """One method, ready to run.

    rows: independent, coupled or single; only rows of an independent method may share a run with a stranger's.
    padded: whether sizes are rounded up, to one of `sizes`. wide: whether it has 64-bit types. lengths: the sizes to
    which further dimensions are rounded up.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    program: program.Program
    rows: str
    padded: bool
    sizes: tuple[int, ...]
    wide: bool
    tolerance: dict[str, float]
    lengths: dict[str, tuple[int, ...]]

    @property
    def row_independent(self) -> bool:
        """Whether a row's answer does not depend on the rows beside it."""
        return self.rows == INDEPENDENT


class Model:
    """A loaded artifact; made by `load`. `name`, `version`, `default` and `methods` say what it serves."""

    def __init__(self, manifest: dict, methods: dict[str, Loaded], params: list, max_batch: int, max_rows: int):
        self.name: str = manifest["name"]
        self.version: int = manifest["version"]
        self.default: str = manifest["default"]
        self.manifest = manifest
        self.methods = methods
        self.max_batch = max_batch
        self.max_rows = max_rows
        self.seconds: dict[str, float] = {}
        self.differences: dict[str, dict[str, float]] = {}
        self.late_compiles = 0  # since `warm`: each kept a caller waiting, and the callers behind it
        self._ready = False
        self._params = params
        self._warm: dict[tuple, Callable] = {}
        self._kept: OrderedDict[tuple, Callable] = OrderedDict()
        self._lock = threading.Lock()

    def infer(self, method: str, named_inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer named inputs [rows, ...] with named outputs; strings go in and come out where there is a codec.

        A row-independent method gives the bits of its program at the padded size, whatever the other rows are.
        Raises `Refused` for a name, dtype, rank, dimension, number of rows or value that is not allowed.
        """
        loaded, arrays = self.check(method, named_inputs)
        return name_answers(loaded, self._run_rounded(loaded, arrays))

    def check(self, method: str, named_inputs: Mapping[str, np.ndarray]) -> tuple[Loaded, list[np.ndarray]]:
        """The method, and the inputs in its program's order, strings as codes; raises `Refused` as `infer` does."""
        loaded = self._method(method)
        return loaded, self._check(loaded, named_inputs)

    def run(self, loaded: Loaded, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Checked inputs [rows, ...] to the program's outputs, padded and split as the method allows."""
        if not loaded.padded:
            return self._piece(loaded, arrays)
        rows, most = arrays[0].shape[0], loaded.sizes[-1]
        if rows <= most:
            size = loaded.sizes[bisect_left(loaded.sizes, rows)]
            answers = self._piece(loaded, arrays if size == rows else [_grow(array, size) for array in arrays])
            return answers if size == rows else [answer[:rows] for answer in answers]
        pieces = [self.run(loaded, [array[start : start + most] for array in arrays]) for start in range(0, rows, most)]
        return [np.concatenate(answers) for answers in zip(*pieces, strict=True)]

    def warm(self) -> None:
        """Compile and time every padded size; then nothing compiles later but sizes that cannot be foreseen."""
        for loaded in self.methods.values():
            if not _is_foreseen(loaded):
                continue
            rows = loaded.sizes if loaded.rows != SINGLE else (1,)
            for size, *given in product(rows, *loaded.lengths.values()):
                dims = dict(zip((BATCH, *loaded.lengths), (size, *given), strict=True))
                shapes = [tuple(d if isinstance(d, int) else dims[d] for d in port.shape) for port in loaded.inputs]
                key = (loaded.name, *shapes)
                if key not in self._warm:
                    # The golden check may have compiled this size already.
                    self._warm[key] = self._kept.pop(key) if key in self._kept else self._compile(loaded, shapes)
            zeros = [np.zeros(shape, port.dtype) for shape, port in zip(shapes, loaded.inputs, strict=True)]
            self.run(loaded, zeros)  # the first run of a program pays for its buffers
            start = time.perf_counter()
            self.run(loaded, zeros)
            self.seconds[loaded.name] = time.perf_counter() - start
        self._ready = True

    def quick(self, method: str, rows: int, seconds: float) -> bool:
        """Whether an answer to so many rows is expected within `seconds`, without a compile."""
        each, loaded = self.seconds.get(method), self.methods[method]
        runs = 1 if loaded.rows == SINGLE else -(-rows // loaded.sizes[-1])
        return each is not None and each * runs <= seconds

    def check_golden(self, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """The largest differences from the stored answers, by method and output; raises `Refused` for one too large."""
        slack = 1.0 if self.manifest["platform"] == program.platform() else golden.OTHER_PLATFORM
        found: dict[str, dict[str, float]] = {}
        for loaded in self.methods.values():
            answers = self.repeat(loaded.name, arrays)
            found[loaded.name] = {}
            for port in loaded.outputs:
                got, wanted = answers[port.name], arrays[f"{loaded.name}/output/{port.name}"]
                rtol, atol = (loaded.tolerance[key] * slack for key in ("rtol", "atol"))
                found[loaded.name][port.name] = golden.difference(got, wanted)
                if not golden.is_near(got, wanted, rtol, atol):
                    raise Refused(
                        f"golden check of method {loaded.name!r}, output {port.name!r}: largest difference "
                        f"{golden.difference(got, wanted):g}, allowed {golden.tolerate(wanted, rtol, atol):g}."
                    )
        return found

    def repeat(self, method: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers, as codes, to a method's stored inputs among the arrays of a golden file."""
        loaded, sizes = self._method(method), dict[str, int]()
        inputs = [
            _array(loaded, port._replace(code=None), arrays[f"{method}/input/{port.name}"], sizes)
            for port in loaded.inputs
        ]
        return dict(zip([port.name for port in loaded.outputs], self._run_rounded(loaded, inputs), strict=True))

    def _run_rounded(self, loaded: Loaded, arrays: list[np.ndarray]) -> list[np.ndarray]:
        arrays, back = round_up(loaded, arrays)
        answers = self.run(loaded, arrays)
        return answers if back is None else back(answers)

    def _method(self, method: str) -> Loaded:
        if method not in self.methods:
            raise unknown_name("method", method, self.methods, of=repr(self.name))
        return self.methods[method]

    def _check(self, loaded: Loaded, named: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The inputs in program order, as codes; raises `Refused` for the first thing that is wrong."""
        if len(named) != len(loaded.inputs) or any(port.name not in named for port in loaded.inputs):
            known = [port.name for port in loaded.inputs]
            for name in named:
                if name not in known:
                    raise unknown_name("input", name, known, of=repr(loaded.name))
            missing = [name for name in known if name not in named]
            raise Refused(f"method {loaded.name!r} needs the inputs {known}; missing: {missing}.")
        sizes: dict[str, int] = {}
        arrays = [_array(loaded, port, named[port.name], sizes) for port in loaded.inputs]
        if loaded.rows != SINGLE and not sizes[BATCH] <= self.max_rows:
            raise Refused(f"method {loaded.name!r} takes 0 to {self.max_rows} rows; got {sizes[BATCH]}.")
        for at, port in enumerate(loaded.inputs):
            array = arrays[at]
            if port.code:
                arrays[at] = port.code(array).astype(port.dtype, copy=False)
            elif port.finite and not golden.is_finite(array):
                where = np.argwhere(~np.isfinite(array))[0].tolist()
                raise Refused(f"input {port.name!r} of {loaded.name!r} must be finite; got {array[*where]} at {where}.")
        return arrays

    def _piece(self, loaded: Loaded, arrays: list[np.ndarray]) -> list[np.ndarray]:
        key = (loaded.name, *[array.shape for array in arrays])
        compiled = self._warm.get(key) or self._compile_once(loaded, key)
        with jax.enable_x64(True) if loaded.wide else nullcontext():
            return [np.asarray(answer) for answer in compiled(*self._params, *arrays)]

    def _compile_once(self, loaded: Loaded, key: tuple) -> Callable:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            compiled = self._kept[key] = self._compile(loaded, key[1:])
            self.late_compiles += self._ready
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return compiled

    def _compile(self, loaded: Loaded, shapes: Sequence[tuple[int, ...]]) -> Callable:
        given = [Array(p.shape, p.dtype.name) for p in self._params]
        given += [Array(tuple(shape), port.dtype.name) for shape, port in zip(shapes, loaded.inputs, strict=True)]
        try:
            return loaded.program.compiled(given)
        except ValueError as error:  # jax checks what the manifest's constraints say of symbolic dimensions
            got = {port.name: list(shape) for port, shape in zip(loaded.inputs, shapes, strict=True)}
            raise Refused(f"method {loaded.name!r} does not run at {got}: {program.first_line(error)}") from error


def no_rows(port: Port) -> np.ndarray:
    """An input of no rows, [0, ...]; dimensions that vary are 1."""
    dims = [dim if isinstance(dim, int) else 1 for dim in port.shape[1:]]
    return np.empty((0, *dims), object if port.code else port.dtype)


def round_up(
    loaded: Loaded, arrays: list[np.ndarray]
) -> tuple[list[np.ndarray], Callable[[list[np.ndarray]], list[np.ndarray]] | None]:
    """Checked inputs with their lengths rounded up, and what cuts the answers back, None where nothing must be cut.

    No rows are rounded up to one of zeros: no program runs at none. Raises `Refused` for too long.
    """
    if loaded.rows != SINGLE and not arrays[0].shape[0]:
        arrays, back = round_up(loaded, [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays])
        return arrays, lambda answers: [answer[:0] for answer in (answers if back is None else back(answers))]
    if not loaded.lengths:
        return arrays, None
    sizes = lengths.sizes(loaded.inputs, arrays, loaded.lengths)
    to = {}
    for dim, size in sizes.items():
        if not size <= loaded.lengths[dim][-1]:
            raise Refused(f"method {loaded.name!r} takes {dim!r} up to {loaded.lengths[dim][-1]}; got {size}.")
        to[dim] = loaded.lengths[dim][bisect_left(loaded.lengths[dim], size)]
    return lengths.widen(loaded.inputs, arrays, to), lambda answers: lengths.cut(loaded.outputs, answers, sizes)


def name_answers(loaded: Loaded, answers: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """A program's outputs by name, codes as strings."""
    return {
        port.name: port.code(answer) if port.code else answer
        for port, answer in zip(loaded.outputs, answers, strict=True)
    }


def rows(loaded: Loaded, inputs: Mapping[str, np.ndarray]) -> int:
    """How many rows named inputs are, before anybody checked that they agree."""
    if loaded.rows != SINGLE:
        for array in inputs.values():
            return array.shape[0] if array.ndim else 1
    return 1


def load(
    folder: str | os.PathLike,
    *,
    max_batch: int = MAX_BATCH,
    max_rows: int = MAX_ROWS,
    form: str = "auto",
    keys: Sequence[bytes] = (),
    limits: Limits = LIMITS,
) -> Model:
    """The model in an artifact folder, after its sums held and its golden answers came out again.

    folder: one version, or a model's folder or a run's, of which the newest version is taken. form: "auto" takes each
    program's versioned form where this jax accepts it, else the durable one; "versioned" and "durable" insist.
    keys: PEMs of Ed25519 public keys; with them, what none of them signed is refused. limits: of requests. Raises
    `Refused`, in one line, for an artifact that does not hold what it promises.
    """
    folder = versions.locate(folder)
    held = artifact.open_version(folder, keys).files
    return make(folder, held, max_batch=max_batch, max_rows=max_rows, form=form, limits=limits)


def make(
    folder: str | os.PathLike,
    held: Mapping[str, bytes],
    *,
    max_batch: int = MAX_BATCH,
    max_rows: int = MAX_ROWS,
    form: str = "auto",
    limits: Limits = LIMITS,
) -> Model:
    """The model made of an artifact's files that held, see `load`."""
    if max_batch < 1 or max_rows < 1:
        raise Refused(f"`max_batch` and `max_rows` must be at least 1; got {max_batch} and {max_rows}.")
    if not 1 <= limits.rank <= MOST_RANK or limits.elements < 1:
        raise Refused(f"`limits` must be a rank of 1 to {MOST_RANK} and at least 1 element; got {tuple(limits)}.")
    files = dict(held)
    try:
        manifest = artifact.read_manifest(folder, files)
        stored = artifact.read_arrays(files.pop(artifact.PARAMETERS), artifact.PARAMETERS)
        kept = artifact.read_arrays(files.pop(artifact.GOLDEN), artifact.GOLDEN)
        params = [_parameter(stored, entry) for entry in manifest["parameters"]["arrays"]]
        methods = {
            name: _method_of(name, manifest, files, params, kept, form, max_batch, limits)
            for name in manifest["methods"]
        }
        with jax.enable_x64(any(p.dtype.itemsize == 8 for p in params) or jax.config.jax_enable_x64):  # type: ignore[attr-defined]
            model = Model(manifest, methods, jax.device_put(params), max_batch, max_rows)
        try:
            model.differences = model.check_golden(kept)
        except Refused:
            raise
        except (ValueError, TypeError, RuntimeError) as error:  # jax's and XLA's own, of a program that does not run
            raise Refused(f"a program does not run here: {program.first_line(error)}") from error
    except Refused as error:
        raise Refused(f"{folder}: {error}") from error
    return model


def runs_already(folder: str | os.PathLike, held: Mapping[str, bytes], form: str = "auto") -> bool:
    """Whether every program among an artifact's files that held is in use already; raises `Refused` as `make` does."""
    try:
        entries = artifact.read_manifest(folder, held)["methods"].values()
    except Refused as error:
        raise Refused(f"{folder}: {error}") from error
    return all(
        program.is_in_use(held[stored["versioned"]], held[stored["durable"]], entry["calling"], form)
        for entry in entries
        for stored in [entry["programs"]]
    )


def _method_of(
    name: str, manifest: dict, files: dict, params: list, kept: dict, form: str, max_batch: int, limits: Limits
) -> Loaded:
    entry, states = manifest["methods"][name], manifest["codecs"]
    if program.platform() not in entry["platforms"]:
        raise Refused(f"method {name!r} was exported for {entry['platforms']}; this machine is {program.platform()!r}.")
    inputs = tuple(_port(described, states, inward=True)._replace(limits=limits) for described in entry["inputs"])
    outputs = tuple(_port(described, states, inward=False) for described in entry["outputs"])
    for port, way in [*((port, "input") for port in inputs), *((port, "output") for port in outputs)]:
        if f"{name}/{way}/{port.name}" not in kept:
            raise Refused(f"{artifact.GOLDEN} holds no {way} {port.name!r} of method {name!r}.")
    example = [Array(p.shape, p.dtype.name) for p in params]
    example += [Array(kept[f"{name}/input/{port.name}"].shape, port.dtype.name) for port in inputs]
    stored = entry["programs"]
    versioned, durable = files[stored["versioned"]], files[stored["durable"]]
    try:
        ran = program.load(versioned, durable, entry["calling"], example, form)
    except program.CallRefused as error:
        raise Refused(f"method {name!r}: {error}") from error
    except Refused as error:
        jaxes = f"made with jax {manifest['jax']['version']}, here is {jax.__version__}"
        raise Refused(f"method {name!r} ({jaxes}): {error}") from error
    avals = (*ran.exported.in_avals, *ran.exported.out_avals)
    independent = entry["rows"] == INDEPENDENT
    powers = [*[1 << k for k in range(max_batch.bit_length()) if 1 << k < max_batch], max_batch]
    return Loaded(
        name=name,
        inputs=inputs,
        outputs=outputs,
        program=ran,
        rows=entry["rows"],
        # A program that is particular about its batch size is given the one that came.
        padded=independent and not any(re.search(rf"\b{BATCH}\b", rule) for rule in entry["constraints"]),
        sizes=tuple(sorted({min(size, max_batch) for size in entry["sizes"] or powers})),
        wide=any(np.dtype(aval.dtype).itemsize == 8 for aval in avals),
        tolerance=entry["tolerance"],
        lengths=lengths.buckets(inputs, entry["constraints"]),
    )


def _port(described: dict, states: dict, inward: bool) -> Port:
    listed = described["codec"]
    names = [listed] if isinstance(listed, str) else listed or []
    made = codecs.find_codecs(names, states)
    each = [codec.encode if inward else codec.decode for codec in made]

    def by_column(array: np.ndarray) -> np.ndarray:
        return np.stack([code(array[..., column]) for column, code in enumerate(each)], axis=-1)

    code = None if listed is None else each[0] if isinstance(listed, str) else by_column
    columns, finite, pad = described["columns"], described["finite"], described.get("pad")
    dtype = np.dtype(described["dtype"])
    if pad is not None and not lengths.can_fill(pad, dtype):
        raise Refused(f"'pad' of input {described['name']!r} must be of {dtype.name}; got {show(pad)}.")
    kinds = tuple(states[name]["kind"] for name in names)
    return Port(described["name"], dtype, tuple(described["shape"]), columns, finite, code, pad, kinds=kinds)


def _parameter(stored: dict[str, np.ndarray], entry: dict) -> np.ndarray:
    if entry["name"] not in stored:
        raise Refused(f"{artifact.PARAMETERS} holds no array {show(entry['name'])}.")
    array = stored[entry["name"]]
    if array.dtype.name != entry["dtype"] or list(array.shape) != entry["shape"]:
        got = f"{array.dtype.name}{list(array.shape)}"
        raise Refused(f"parameter {entry['name']!r} must be {entry['dtype']}{entry['shape']}; got {got}.")
    return array


def _array(loaded: Loaded, port: Port, array: Any, sizes: dict[str, int]) -> np.ndarray:
    """The array, if it has the port's type; what it binds symbolic dimensions to goes into `sizes`."""
    if isinstance(array, np.generic):  # a scalar, where there are no rows
        array = np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise Refused(f"input {port.name!r} of {loaded.name!r} must be a numpy array; got {type(array).__name__}.")
    fits = array.dtype.kind in "OU" if port.code else array.dtype == port.dtype
    if not fits or array.ndim != len(port.shape):
        raise _misfit(loaded, port, array)
    for dim, size in zip(port.shape, array.shape, strict=True):
        if isinstance(dim, str):
            if sizes.setdefault(dim, size) != size:
                raise Refused(
                    f"input {port.name!r} of {loaded.name!r} must be {port}; its {dim!r} is {size}, "
                    f"that of an input before it is {sizes[dim]}."
                )
        elif dim != size:
            raise _misfit(loaded, port, array)
    return array


def _misfit(loaded: Loaded, port: Port, array: np.ndarray) -> Refused:
    got = "strings" if array.dtype.kind in "OU" else array.dtype.name
    return Refused(f"input {port.name!r} of {loaded.name!r} must be {port}; got {got} {show(list(array.shape))}.")


def _is_foreseen(loaded: Loaded) -> bool:
    if loaded.rows != SINGLE and not loaded.padded:
        return False
    known = (BATCH, *loaded.lengths)
    return all(isinstance(dim, int) or dim in known for port in loaded.inputs for dim in port.shape)


def _grow(array: np.ndarray, size: int) -> np.ndarray:
    # The last row again: values of the kind the program expects, where zeros might be slow or out of range.
    return np.concatenate([array, np.broadcast_to(array[-1:], (size - array.shape[0], *array.shape[1:]))])
