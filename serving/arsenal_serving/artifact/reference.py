"""`reference.json` of an artifact: how the rows were distributed from which the model learned, and its answers to them.

    {"format": 1, "rows": 1240,
     "methods": {"predict": {"inputs": [column, ...], "outputs": [column, ...], "rarity": column}}}

Inputs are counted as they are once codecs have read them, so that a number written as text is a number; levels have
their words. Of pictures the mean and the deviation of a row are counted, of texts the length. `rarity` says how unlike
each other these rows were themselves (`artifact.rarity`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact import codecs
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.rarity import rarity
from arsenal_serving.artifact.sketch import FORMAT, ReferenceColumn, describe, read_columns, write_columns
from arsenal_serving.refused import Refused

FILE = "reference.json"
MOST_COLUMNS = 500  # of one port, each by itself; more are counted as a picture is
MOST_ROWS = 50_000  # of the training rows, which are enough to know their distribution by
LEVELS, TIMES, TEXTS = ("category", "boolean"), ("number", "date", "time"), ("text", "tokens")


class MethodReference(NamedTuple):
    """The columns of a method's inputs and outputs, and of its rows' rarity, None in older files."""

    inputs: list[ReferenceColumn]
    outputs: list[ReferenceColumn]
    rarity: ReferenceColumn | None = None


class ModelReference(NamedTuple):
    """What a model was trained on: how many rows were counted, and its columns by method."""

    rows: int
    methods: dict[str, MethodReference]


class PortColumns:
    """What an input or output of a manifest holds, column by column."""

    def __init__(self, described: Mapping[str, Any], states: Mapping[str, Any], inward: bool):
        self.name: str = described["name"]
        self._labels, listed = described["columns"], described["codec"]
        names = [listed] if isinstance(listed, str) else listed or []
        self._codecs = codecs.find_codecs(names, dict(states))
        self.kinds = [states[name]["kind"] for name in names]
        self._alone, self._inward = isinstance(listed, str), inward

    def _called(self, many: int) -> list[str]:
        """The names of its columns: those of inputs are as clients write them."""
        if self._labels:
            return [label if self._inward else f"{self.name}.{label}" for label in self._labels]
        return [f"{self.name}.{k}" for k in range(many)]

    def split(self, array: np.ndarray, coded: bool = False) -> Iterator[tuple[str, np.ndarray]]:
        """The columns of rows [n, ...] by name: numbers [n] in float64, or words [n] as objects, None for a gap.

        The rows are as clients see them, or, `coded`, as programs do.
        """
        if self._codecs and self._inward:
            yield from self._split_coded(array, coded)
        elif self._codecs:
            yield from self._split_plain(self._codecs[0].decode(array) if coded else array)
        else:
            yield from self._split_plain(array)

    def _split_plain(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        if array.ndim > 1 and array.dtype.kind in "iu":
            return  # codes, of which a mean says nothing
        if array.ndim == 2 and array.shape[1] <= MOST_COLUMNS:
            for place, name in enumerate(self._called(array.shape[1])):
                yield name, words(array[:, place])
        elif array.ndim == 1:
            yield self.name, words(array)
        elif array.dtype.kind not in "OUS":
            wide = array.reshape(len(array), -1).astype(np.float64)
            yield f"{self.name}.mean", wide.mean(1)
            yield f"{self.name}.deviation", wide.std(1)

    def _split_coded(self, array: np.ndarray, coded: bool) -> Iterator[tuple[str, np.ndarray]]:
        made = self._codecs
        if self._alone:
            given = array.reshape(len(array), -1) if made[0].length is None else array[:, None]
            whole = array.ndim == 1 or made[0].length is not None
            labels = [self.name] if whole else self._called(given.shape[1])
            made, kinds = made * len(labels), self.kinds * len(labels)
        else:
            given, kinds = array, self.kinds
            labels = self._called(array.shape[1])
        for place, (label, codec, kind) in enumerate(zip(labels, made, kinds, strict=True)):
            there = given[:, place]
            codes = there if coded else codec.encode(there)
            if kind in TEXTS:
                yield f"{label}.length", (codes.reshape(len(codes), -1) >= 0).sum(1).astype(np.float64)
            elif kind in TIMES:
                wide = codes.astype(np.float64)
                if codec.codes is not None:  # of times in whole numbers the first code is a gap
                    wide[codes == codec.codes[0]] = np.nan
                yield label, wide
            else:
                yield label, _levels(codec, codes, None if coded else there)


def _levels(codec: codecs.StringCodec, codes: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """The words of codes of levels: what is unknown keeps the word that it came with."""
    first, last = codec.codes or (0, 0)
    table = np.array([word or None for word in codec.decode(np.arange(first, last + 1)).tolist()], dtype=object)
    found = table[np.clip(codes - first, 0, len(table) - 1)]
    if given is not None:
        new = np.flatnonzero(found == "unknown")
        found[new] = [cells.text(cell) for cell in given[new].tolist()]
    return found


def words(values: np.ndarray) -> np.ndarray:
    """Numbers as they are; of what else, the words, None for what is missing."""
    if values.dtype.kind not in "OUS":
        return values
    return np.array([cells.text(cell) or None for cell in values.tolist()], dtype=object)


def describe_all(columns: Mapping[str, np.ndarray]) -> list[ReferenceColumn]:
    """The reference of every column."""
    return [describe(name, values) for name, values in columns.items()]


def describe_method(
    entry: Mapping[str, Any],
    states: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> MethodReference:
    """The reference of a manifest's method by rows that it learned from and its answers, as programs see both."""
    asked, answered = (
        {
            name: values
            for one in described
            for name, values in PortColumns(one, states, inward).split(np.asarray(arrays[one["name"]]), coded=True)
        }
        for described, arrays, inward in ((entry["inputs"], inputs, True), (entry["outputs"], outputs, False))
    )
    made = MethodReference(describe_all(asked), describe_all(answered))
    each = rarity(made.inputs, asked)
    return made._replace(rarity=describe("rarity", np.sum([*each.values()], axis=0)) if each else None)


def write(reference: ModelReference) -> bytes:
    """The file."""
    methods = {
        name: {
            "inputs": write_columns(one.inputs),
            "outputs": write_columns(one.outputs),
            **({"rarity": one.rarity._asdict()} if one.rarity else {}),
        }
        for name, one in reference.methods.items()
    }
    return json.dumps({"format": FORMAT, "rows": reference.rows, "methods": methods}, separators=(",", ":")).encode()


def read(content: bytes, what: str = FILE) -> ModelReference:
    """The reference in a file; raises `Refused` for one that is none, or of a later format."""
    try:
        found = json.loads(content)
        if found["format"] > FORMAT:
            raise Refused(f"{what} has format {found['format']}; this version reads up to {FORMAT}. Update the server.")
        methods = {
            name: MethodReference(
                read_columns(one["inputs"], what),
                read_columns(one["outputs"], what),
                read_columns([one["rarity"]], what)[0] if "rarity" in one else None,
            )
            for name, one in found["methods"].items()
        }
        return ModelReference(int(found["rows"]), methods)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{what} is no reference: {error}.") from error
