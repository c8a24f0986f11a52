"""The engine: an artifact in memory, which checks named arrays, runs them in compiled sizes and names the answers.

Every protocol is a thin layer over `ServedModel.infer`. Rows that do not influence each other are padded to the next of
a few sizes, so that few programs serve all; a method whose rows do is run at exactly the size that came, and never with
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
import jax.numpy as jnp
import numpy as np

from arsenal_serving.artifact import codecs, golden, lengths, program, reference, versions
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.manifest import INDEPENDENT, MOST_RANK, SINGLE
from arsenal_serving.artifact.program import BATCH, Array
from arsenal_serving.artifact.slots import Decoding
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.schedule import run_in_order

run_in_order()

MAX_BATCH, MAX_ROWS, SLOTS = 64, 16384, 16
# Sizes beyond the warm ones are compiled as they come; so many of them are kept, or sizes would fill the memory.
KEPT = 32


class TensorLimits(NamedTuple):
    """What one tensor of a request may be at most, before it is compared with a signature."""

    rank: int = MOST_RANK
    elements: int = 1 << 24


LIMITS = TensorLimits()
EMPTY = frozenset(("",))


class Port(NamedTuple):
    """One input or output as clients see it: a dimension that is a string varies; `code` is there for strings.

    cell: the dimensions behind those of `shape` that a string has as codes, (length,) of texts; else ().
    pad: what fills the dimensions up that are rounded up.
    kinds: of the codec of its strings, or of that of each of its columns.
    missing: whether a cell of strings may be missing, by column as `kinds`.
    gaps: the words for a missing value among numbers, which then is NaN; None where NaN stands for none. sentinels:
    those of them that are numbers.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    columns: list[str] | None
    finite: bool
    code: Callable[[np.ndarray], np.ndarray] | None
    pad: float | None = None
    limits: TensorLimits = LIMITS
    kinds: tuple[str, ...] = ()
    missing: tuple[bool, ...] = ()
    gaps: frozenset[str] | None = None
    sentinels: tuple[float, ...] = ()
    cell: tuple[int, ...] = ()

    @property
    def coded(self) -> Port:
        """The port as its program sees it: of codes."""
        return self._replace(code=None, shape=self.shape + self.cell, cell=())

    @property
    def words(self) -> frozenset[str] | None:
        """The words that stand for NaN in it; None where NaN is refused."""
        return self.gaps if self.gaps is not None or self.finite else EMPTY

    @property
    def takes_amounts(self) -> bool:
        """Whether its strings are numbers that people write, so that numbers do as well."""
        return self.code is not None and self.dtype.kind == "f"

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
    program: program.LoadedProgram
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


class ServedModel:
    """A loaded artifact; made by `load`. `name`, `version`, `default` and `methods` say what it serves.

    every: the methods, and those that no client may call. decoding: the programs of texts in slots, of a model of
    language. reference: how the rows were distributed that it learned from, where the artifact tells.
    """

    def __init__(
        self, manifest: dict[str, Any], methods: dict[str, Loaded], params: list[Any], max_batch: int, max_rows: int
    ):
        self.name: str = manifest["name"]
        self.version: int = manifest["version"]
        self.default: str = manifest["default"]
        self.manifest = manifest
        private = {name for name, entry in manifest["methods"].items() if entry.get("private")}
        self.methods = {name: method for name, method in methods.items() if name not in private}
        self.decoding: Decoding | None = None
        self.reference: reference.ModelReference | None = None
        self.max_batch = max_batch
        self.max_rows = max_rows
        self.seconds: dict[str, float] = {}
        self.differences: dict[str, dict[str, float]] = {}
        self.late_compiles = 0  # since `warm`: each kept a caller waiting, and the callers behind it
        self._ready = False
        self._params = params
        self.every = methods
        self._warm: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._kept: OrderedDict[tuple[Any, ...], Callable[..., Any]] = OrderedDict()
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
                ports = [port.coded for port in loaded.inputs]
                shapes = [tuple(d if isinstance(d, int) else dims[d] for d in port.shape) for port in ports]
                key = (loaded.name, *shapes)
                if key not in self._warm:
                    # The golden check may have compiled this size already.
                    self._warm[key] = self._kept.pop(key) if key in self._kept else self._compile(loaded, shapes)
            zeros = [np.zeros(shape, port.dtype) for shape, port in zip(shapes, loaded.inputs, strict=True)]
            self.run(loaded, zeros)  # the first run of a program pays for its buffers
            start = time.perf_counter()
            self.run(loaded, zeros)
            self.seconds[loaded.name] = time.perf_counter() - start
        if self.decoding is not None:
            self.decoding.warm()
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
        for loaded in self.every.values():
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
        loaded, sizes = self.every[method], dict[str, int]()
        inputs = [
            _array(loaded, port.coded, arrays[f"{method}/input/{port.name}"], sizes)
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
            if port.code:
                try:
                    arrays[at] = port.code(arrays[at]).astype(port.dtype, copy=False)
                except cells.WrongCell as error:
                    raise refuse(port, arrays[at].shape, error) from error
            else:
                arrays[at] = _numbers(loaded, port, arrays[at])
        return arrays

    def _piece(self, loaded: Loaded, arrays: list[np.ndarray]) -> list[np.ndarray]:
        key = (loaded.name, *[array.shape for array in arrays])
        compiled = self._warm.get(key) or self._compile_once(loaded, key)
        with jax.enable_x64(True) if loaded.wide else nullcontext():
            return [np.asarray(answer) for answer in compiled(*self._params, *arrays)]

    def _compile_once(self, loaded: Loaded, key: tuple[Any, ...]) -> Callable[..., Any]:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            compiled = self._kept[key] = self._compile(loaded, key[1:])
            self.late_compiles += self._ready
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return compiled

    def _compile(self, loaded: Loaded, shapes: Sequence[tuple[int, ...]]) -> Callable[..., Any]:
        given = [Array(p.shape, p.dtype.name) for p in self._params]
        given += [Array(tuple(shape), port.dtype.name) for shape, port in zip(shapes, loaded.inputs, strict=True)]
        try:
            return loaded.program.compiled(given)
        except ValueError as error:  # jax checks what the manifest's constraints say of symbolic dimensions
            got = {port.name: list(shape) for port, shape in zip(loaded.inputs, shapes, strict=True)}
            raise Refused(f"method {loaded.name!r} does not run at {got}: {program.first_line(error)}") from error


def refuse(port: Port, shape: Sequence[int], error: cells.WrongCell) -> Refused:
    """The refusal of a cell in an array of this shape, which names column and row as people do."""
    if port.shape[:1] == (BATCH,) and len(shape) > 0:
        where = cells.place(port.name, port.columns, shape, error.at)
    else:
        where = f"element {[int(size) for size in np.unravel_index(error.at, tuple(shape))]}"
    return Refused(f"{where} must {error.must} for input {port.name!r}; got {cells.tell(error.value)}.")


def _numbers(loaded: Loaded, port: Port, array: np.ndarray) -> np.ndarray:
    """An input without a codec, numbers among its words for missing as NaN; raises `Refused` for what is not finite."""
    if port.sentinels:
        gone = np.isin(array, np.array(port.sentinels, array.dtype))
        if gone.any():
            array = array.copy()  # what came may be read-only, and is kept for logs
            array[gone] = np.nan
    if port.finite and not golden.is_finite(array):
        wrong = ~np.isfinite(array) if port.gaps is None else np.isinf(array)
        if wrong.any():
            at = int(wrong.argmax())
            value, where = array.ravel()[at], f"at {[int(size) for size in np.unravel_index(at, array.shape)]}"
            if port.columns and array.ndim == 2:
                where = f"in {cells.place(port.name, port.columns, array.shape, at)}"
            raise Refused(f"input {port.name!r} of {loaded.name!r} must be finite; got {value} {where}.")
    return array


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
    ports = [port.coded for port in loaded.inputs]
    sizes = lengths.sizes(ports, arrays, loaded.lengths)
    to = {}
    for dim, size in sizes.items():
        if not size <= loaded.lengths[dim][-1]:
            raise Refused(f"method {loaded.name!r} takes {dim!r} up to {loaded.lengths[dim][-1]}; got {size}.")
        to[dim] = loaded.lengths[dim][bisect_left(loaded.lengths[dim], size)]
    return lengths.widen(ports, arrays, to), lambda answers: lengths.cut(loaded.outputs, answers, sizes)


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
    folder: str | os.PathLike[str],
    *,
    max_batch: int = MAX_BATCH,
    max_rows: int = MAX_ROWS,
    form: str = "auto",
    keys: Sequence[bytes] = (),
    limits: TensorLimits = LIMITS,
    slots: int = SLOTS,
    room: int | None = None,
) -> ServedModel:
    """The model in an artifact folder, after its sums held and its golden answers came out again.

    folder: one version, or a model's folder or a run's, of which the newest version is taken. form: "auto" takes each
    program's versioned form where this jax accepts it, else the durable one; "versioned" and "durable" insist.
    keys: PEMs of Ed25519 public keys; with them, what none of them signed is refused. limits: of requests. slots, room:
    of a model of language, texts that go on at once and tokens of one (None: its context). Raises `Refused`, in one
    line, for an artifact that does not hold what it promises.
    """
    folder = versions.locate(folder)
    held = artifact.open_version(folder, keys).files
    how: dict[str, Any] = {"max_batch": max_batch, "max_rows": max_rows, "form": form, "slots": slots, "room": room}
    return make(folder, held, limits=limits, **how)


def make(
    folder: str | os.PathLike[str],
    held: Mapping[str, bytes],
    *,
    max_batch: int = MAX_BATCH,
    max_rows: int = MAX_ROWS,
    form: str = "auto",
    limits: TensorLimits = LIMITS,
    slots: int = SLOTS,
    room: int | None = None,
) -> ServedModel:
    """The model made of an artifact's files that held, see `load`."""
    if max_batch < 1 or max_rows < 1:
        raise Refused(f"`max_batch` and `max_rows` must be at least 1; got {max_batch} and {max_rows}.")
    if slots < 1 or (room is not None and room < 2):
        raise Refused(f"`slots` must be at least 1, `room` at least 2 or None; got {slots} and {room}.")
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
            model = ServedModel(manifest, methods, jax.device_put(params), max_batch, max_rows)
        if (told := manifest.get("decoding")) is not None:
            if (codec := manifest["codecs"].get(told["codec"])) is None or codec.get("kind") != "tokens":
                raise Refused(f"the codec of 'decoding' must be one of kind 'tokens'; got {show(told['codec'])}.")
            model.decoding = Decoding(told, codec, methods, model._params, slots, room or told["context"])
        if reference.FILE in files:
            model.reference = reference.read(files[reference.FILE])
        try:
            model.differences = model.check_golden(kept)
        except Refused:
            raise
        except (ValueError, TypeError, RuntimeError) as error:  # jax's and XLA's own, of a program that does not run
            raise Refused(f"a program does not run here: {program.first_line(error)}") from error
    except Refused as error:
        raise Refused(f"{folder}: {error}") from error
    return model


def runs_already(folder: str | os.PathLike[str], held: Mapping[str, bytes], form: str = "auto") -> bool:
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
    name: str,
    manifest: dict[str, Any],
    files: dict[str, Any],
    params: list[Any],
    kept: dict[str, Any],
    form: str,
    max_batch: int,
    limits: TensorLimits,
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


def _port(described: dict[str, Any], states: dict[str, Any], inward: bool) -> Port:
    listed = described["codec"]
    names = [listed] if isinstance(listed, str) else listed or []
    made = codecs.find_codecs(names, states)
    each = [codec.encode if inward else codec.decode for codec in made]

    def by_column(array: np.ndarray) -> np.ndarray:
        coded = []
        for column, code in enumerate(each):
            try:
                coded.append(code(array[..., column]))
            except cells.WrongCell as error:
                raise cells.WrongCell(error.at * len(each) + column, error.must, error.value) from error
        return np.stack(coded, axis=array.ndim - 1)

    alone = isinstance(listed, str) or (not inward and any(codec.reads_back for codec in made))
    code = None if listed is None else each[0] if alone else by_column
    columns, finite, pad = described["columns"], described["finite"], described.get("pad")
    dtype, gaps = np.dtype(described["dtype"]), cells.missing_words(described.get("gaps"))
    where = f"input {described['name']!r}" if inward else f"output {described['name']!r}"
    if pad is not None and not lengths.can_fill(pad, dtype):
        raise Refused(f"'pad' of {where} must be of {dtype.name}; got {show(pad)}.")
    codecs.check_type(where, dtype, made)
    if gaps is not None and (made or not jnp.issubdtype(dtype, jnp.floating)):
        raise Refused(f"{where} cannot have 'gaps': words for missing values are of floats without a codec.")
    kinds = tuple(states[name]["kind"] for name in names)
    missing = tuple(states[name].get("missing") is not None for name in names)
    shape = tuple(described["shape"])
    cell = codecs.cell_shape(where, made, shape, inward)
    shape = shape[: len(shape) - len(cell)]
    port = Port(described["name"], dtype, shape, columns, finite, code, pad, kinds=kinds, missing=missing, gaps=gaps)
    return port._replace(sentinels=tuple(cells.sentinels(gaps or ())), cell=cell)


def _parameter(stored: dict[str, np.ndarray], entry: dict[str, Any]) -> np.ndarray:
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
    fits = fits or (port.takes_amounts and array.dtype == port.dtype)
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
