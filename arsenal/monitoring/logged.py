"""Rows of a request log as columns, and the labels that came later, joined by the id of a request and the row in it."""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.codecs import find_codecs
from arsenal_serving.artifact.reference import LEVELS, TEXTS, PortColumns
from arsenal_serving.cli.replay import requests
from arsenal_serving.model import load
from arsenal_serving.refused import Refused
from arsenal_serving.telemetry.request_log import NAME

from arsenal.data.files import read
from arsenal.monitoring.watch import MonitoringError, find_model

ANSWERED = (200, "OK")


class LoggedRows(NamedTuple):
    """Rows that were asked of one method of a version, in the order in which they were answered."""

    model: str
    version: str
    method: str
    id: np.ndarray
    """[n], the request's."""
    place: np.ndarray
    """[n] int, the row in its request."""
    time: np.ndarray
    """[n] seconds, when it was answered."""
    asked: Mapping[str, np.ndarray]
    """[n] numbers, NaN where one is missing, or words; [n, d] of pictures and embeddings."""
    answered: Mapping[str, np.ndarray]
    classes: tuple[str, ...] = ()
    """The classes of `predict_proba`, where that was asked."""
    known: tuple[str, ...] = ()
    """The words that a label may be, where the artifact says them; of numbers none."""
    others: int = 0
    """Rows of other versions of the model, which are not here."""
    elsewhere: frozenset[str] = frozenset()
    """Ids of answered requests that are not here: of other versions and of other methods."""
    tensors: Mapping[str, np.ndarray] = {}
    """[n, ...] inputs as clients sent them, those of which nothing was redacted."""

    def take(self, which: np.ndarray) -> "LoggedRows":
        """Some of the rows, by a mask or by places."""
        several = (self.asked, self.answered, self.tensors)
        asked, answered, tensors = ({name: one[which] for name, one in part.items()} for part in several)
        places = {"id": self.id[which], "place": self.place[which], "time": self.time[which]}
        return self._replace(**places, asked=asked, answered=answered, tensors=tensors)

    @property
    def names(self) -> list[str]:
        """Each row for people: its request's id and, where that has several, `row` as labels have it, from 0."""
        several = set(self.id[self.place > 0].tolist())
        both = zip(self.id.tolist(), self.place.tolist(), strict=True)
        return [f"{one} row={at}" if one in several else one for one, at in both]

    @property
    def places(self) -> dict[tuple[str, int], int]:
        """Where each row is, by its request's id and its row there; those of an id that came twice are not in it."""
        found: dict[tuple[str, int], int] = {}
        twice = set()
        for at, key in enumerate(zip(self.id.tolist(), self.place.tolist(), strict=True)):
            if key in found:
                twice.add(key[0])
            found[key] = at
        return {key: at for key, at in found.items() if key[0] not in twice}


def log_folders(folder: str | Path) -> list[Path]:
    """The folders of a request log: of one host, or one below for each of several."""
    found = sorted({path.parent for path in Path(folder).rglob(NAME)})
    if not found:
        raise MonitoringError(f"{folder} holds no {NAME}, of `arsenal-serve --request-log`.")
    return found


def log_lines(folder: str | Path, since: float = 0.0, until: float = math.inf) -> Iterator[tuple[float, dict[str, Any]]]:
    """The lines of all workers and hosts with their times; a line that is torn is left out."""
    for one in log_folders(folder):
        try:
            for line in requests(one):
                when = datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
                seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
                if since <= seconds < until:
                    yield seconds, line
        except Refused as error:
            raise MonitoringError(str(error)) from error


def read_logged(
    folder: str | Path, model: str | Path, method: str | None = None, since: float = 0.0, until: float = math.inf
) -> LoggedRows:
    """The answered rows of an artifact's version in a request log; of the method that was asked most, unless one is named."""
    where = find_model(model)
    manifest = artifact.read_manifest(where, artifact.open_version(where).files)
    name, version, methods = manifest["name"], str(manifest["version"]), manifest["methods"]
    if method is not None and method not in methods:
        raise MonitoringError(f"`method` must be one of {', '.join(methods)}; got {method}.")
    kept: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    others, elsewhere = 0, set()
    for seconds, line in log_lines(folder, since, until):
        if line["model"].partition(".")[0] != name or line["status"] not in ANSWERED or line.get("method") not in methods:
            continue
        if str(line["version"]) != version:
            others += rows_of(line)
            elsewhere.add(line["id"])
        else:
            kept.setdefault(line["method"], []).append((seconds, line))
    if method is not None:
        kept = {name: lines for name, lines in kept.items() if name == method}
    if not kept:
        said = f" {others} rows are of other versions." if others else ""
        raise MonitoringError(f"{folder} has no answered rows of {name}/{version} in the time that was asked for.{said}")
    chosen = max(kept, key=lambda one: sum(rows_of(line) for _, line in kept[one]))
    lines = sorted(kept[chosen], key=lambda one: one[0])
    sizes = [rows_of(line) for _, line in lines]
    ports = methods[chosen]
    elsewhere |= {line["id"] for one, several in kept.items() if one != chosen for _, line in several}
    classes = next((tuple(port["columns"] or ()) for port in ports["outputs"] if port["name"] == "predict_proba"), ())
    return LoggedRows(
        name, version, chosen, np.repeat([line["id"] for _, line in lines], sizes),
        np.concatenate([np.arange(size) for size in sizes]), np.repeat([seconds for seconds, _ in lines], sizes),
        columns_of(ports["inputs"], [line["inputs"] for _, line in lines], sizes),
        columns_of(ports["outputs"], [line["outputs"] for _, line in lines], sizes, split=False), classes,
        labels_of(manifest), others, frozenset(elsewhere - {line["id"] for _, line in lines}),
        tensors_of(ports["inputs"], [line["inputs"] for _, line in lines]),
    )  # fmt: skip


def labels_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that a model's labels may be: those of its probabilities, or of the levels that it answers; of numbers none."""
    outputs = [port for method in manifest["methods"].values() for port in method["outputs"]]
    for port in outputs:
        if port["name"] == "predict_proba" and port["columns"]:
            return tuple(port["columns"])
    for port in outputs:
        if port["name"] == "predict" and isinstance(port["codec"], str):
            (codec,) = find_codecs([port["codec"]], manifest["codecs"])
            if codec.codes is not None and manifest["codecs"][port["codec"]]["kind"] in LEVELS:
                first, last = codec.codes
                return tuple(word for word in codec.decode(np.arange(first, last + 1)).tolist() if word and word != "unknown")
    return ()


def rows_of(line: Mapping[str, Any]) -> int:
    """How many rows a request had."""
    return next((tensor["shape"][0] for tensor in (*line["outputs"], *line["inputs"]) if tensor["shape"]), 0)


def columns_of(
    ports: list[dict[str, Any]], given: list[list[dict[str, Any]]], sizes: list[int], split: bool = True
) -> dict[str, np.ndarray]:
    """The columns of all requests; if `split`, of a port that names its columns each by itself; none of what was redacted."""
    found: dict[str, np.ndarray] = {}
    for port in ports:
        tensors = [next((one for one in several if one["name"] == port["name"]), None) for several in given]
        if any(one is None or "data" not in one for one in tensors):
            continue
        parts = []
        for tensor, size in zip(tensors, sizes, strict=True):
            words = tensor["datatype"] == "BYTES"  # type: ignore[index]
            data = [word if words or word is not None else math.nan for word in tensor["data"]]  # type: ignore[index]
            parts.append(np.array(data, object if words else float).reshape(size, -1))
        table = np.concatenate(parts)
        names = port["columns"]
        if split and names and len(names) == table.shape[1]:
            found |= {name: table[:, at] for at, name in enumerate(names) if not all_gone(table[:, at])}
        else:
            found[port["name"]] = table[:, 0] if table.shape[1] == 1 else table
    return found


def tensors_of(ports: list[dict[str, Any]], given: list[list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """The inputs [n, ...] of all requests as a server takes them; none of which something was redacted or shapes differ."""
    found = {}
    for port in ports:
        tensors = [next((one for one in several if one["name"] == port["name"]), None) for several in given]
        whole = [one for one in tensors if one is not None and "data" in one and "redacted" not in one.get("parameters", {})]
        if len(whole) < len(tensors) or len({tuple(one["shape"][1:]) for one in whole}) != 1:
            continue
        words = whole[0]["datatype"] == "BYTES"
        parts = [
            np.array([word if words or word is not None else math.nan for word in one["data"]], object if words else float)
            for one in whole
        ]
        found[port["name"]] = np.concatenate(parts).reshape(-1, *whole[0]["shape"][1:])
    return found


def all_gone(column: np.ndarray) -> bool:
    """Whether no value of a column is there, as of one that was redacted."""
    return bool(np.isnan(column).all()) if column.dtype == float else all(one is None for one in column)


PIECE = 4096
"""Rows that are answered at once."""


def answer_again(model: str | Path, rows: LoggedRows, method: str | None = None) -> dict[str, np.ndarray]:
    """The answers of an artifact, in this process, to logged rows: of their own method unless another is named.

    Raises MonitoringError where it has no such method, or inputs were redacted or are not those that it takes.
    """
    served = load(find_model(model))
    name = method or rows.method
    if name not in served.methods:
        raise MonitoringError(f"{served.name}/{served.version} has no method {name}; it has {', '.join(served.methods)}.")
    ports = served.methods[name].inputs
    if gone := [port.name for port in ports if port.name not in rows.tensors]:
        raise MonitoringError(f"the log does not hold all of {gone[0]}, which {served.name}/{served.version} takes.")
    given = {
        port.name: values if (values := rows.tensors[port.name]).dtype == object else values.astype(port.dtype) for port in ports
    }
    try:
        parts = [
            served.infer(name, {key: values[at : at + PIECE] for key, values in given.items()})
            for at in range(0, len(rows.id), PIECE)
        ]
    except Refused as error:
        raise MonitoringError(f"{served.name}/{served.version} refuses rows of the log: {error}") from error
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}


def represent(model: str | Path, rows: LoggedRows) -> tuple[LoggedRows, list[str]]:
    """Rows whose texts and pictures are what the model makes of them, and in words what was done.

    By an output `embedding` of any of its methods, else by the probabilities or numbers that its default method answers (Lipton
    et al., 2018). Where it has neither, rows stay as they are.
    """
    where = find_model(model)
    manifest = artifact.read_manifest(where, artifact.open_version(where).files)
    ports = [PortColumns(one, manifest["codecs"], True) for one in manifest["methods"][rows.method]["inputs"]]
    heavy = [
        port.name for port in ports
        if port.name in rows.tensors and ({*port.kinds} & {*TEXTS} or rows.tensors[port.name].ndim > 2)
    ]  # fmt: skip
    if not heavy:  # of a table no program is loaded
        return rows, []
    served, names = load(where), {port.name for port in ports}
    fitting = {name: one for name, one in served.methods.items() if {port.name for port in one.inputs} == names}
    ways = [(name, port.name) for name, one in fitting.items() for port in one.outputs if port.name == "embedding"]
    ways += [(name, port.name) for name, one in fitting.items() for port in one.outputs
             if port.dtype.kind == "f" and len(port.shape) == 2]  # fmt: skip
    if not ways:
        return rows, [f"{', '.join(heavy)}: the model has no embedding and no probabilities to compare them by."]
    method, output = ways[0]
    asked = {name: one for name, one in rows.asked.items() if name not in heavy}
    asked[output] = answer_again(model, rows, method)[output]
    return rows._replace(asked=asked), [f"{', '.join(heavy)}: compared by the model's `{output}`."]


class LabelCounts(NamedTuple):
    """What became of the labels of a table."""

    joined: int = 0
    waiting: int = 0
    """Rows that were answered and have no label."""
    repeated: int = 0
    """Labels that came again, and said the same."""
    contradicting: int = 0
    """Rows with two labels that say different things: none of them counts."""
    strangers: int = 0
    """Labels of rows that the log has not."""
    elsewhere: int = 0
    """Labels of rows of other versions or methods."""
    ambiguous: int = 0
    """Labels of an id that several requests had: none of them counts."""
    unknown: int = 0
    """Labels that are no class of the model: none of them counts."""
    example: str = ""
    """One of these."""

    def text(self) -> str:
        """In words."""
        parts = [f"{self.joined:,} rows have labels, {self.waiting:,} wait"]
        for count, said in (
            (self.repeated, "came twice"), (self.contradicting, "contradict and do not count"),
            (self.strangers, "are of rows that the log has not"), (self.elsewhere, "are of rows of other versions or methods"),
            (self.ambiguous, "are of an id that several requests had, and do not count"),
            (self.unknown, f"are no class of the model, as {self.example!r}, and do not count"),
        ):  # fmt: skip
            if count:
                parts.append(f"{count:,} {said}")
        return "; ".join(parts)


def read_labels(path: str | Path) -> Any:
    """A table of labels, .csv, .parquet or .jsonl (its last line may be torn): `id`, `label`, perhaps `row`."""
    import pandas as pd

    path = Path(path)
    if path.suffix == ".jsonl":
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and line.strip():
                try:
                    lines.append(json.loads(line))
                except ValueError as error:
                    raise MonitoringError(f"{path} has a line that is no JSON: {line[:60].strip()}.") from error
        frame = pd.DataFrame(lines, columns=None if lines else ["id", "label"])
    else:
        frame = read(path)
    if missing := {"id", "label"} - set(frame):
        raise MonitoringError(f"{path} must have the columns id and label; {' and '.join(sorted(missing))} is not there.")
    return frame


def join_labels(rows: LoggedRows, frame: Any) -> tuple[np.ndarray, LabelCounts]:
    """The label of each row [n], None where there is none, and what became of all labels.

    `frame` has columns `id`, `label` and, where a request has several rows, `row`, from 0. Raises MonitoringError where rows of a
    request cannot be told apart.
    """
    ids = frame["id"].astype(str).to_numpy()
    places = row_numbers(frame["row"]) if "row" in frame else np.zeros(len(frame), int)
    known, here = rows.places, set(rows.id.tolist())
    single = {one for one, _ in known}
    if "row" not in frame:
        several = set(rows.id[rows.place > 0].tolist())
        if found := next((one for one in ids if one in several), None):
            raise MonitoringError(f"labels need a column row, from 0: request {found} has several rows.")
    y = np.full(len(rows.id), None, object)
    wrong: set[int] = set()
    repeated, strangers, elsewhere, ambiguous, unknown, example = 0, 0, 0, 0, 0, ""
    classes = {*rows.known}
    for one, place, label in zip(ids, places, frame["label"].tolist(), strict=True):
        if label is None or label != label:
            continue
        at = known.get((one, int(place)))
        if at is None:
            ambiguous += one in here and one not in single
            elsewhere += one in rows.elsewhere
            strangers += one not in rows.elsewhere and (one not in here or one in single)
        elif classes and (word := label_words(np.array([label], object))[0]) not in classes:
            unknown, example = unknown + 1, example or word
        elif y[at] is None:
            y[at] = label
        elif y[at] == label:
            repeated += 1
        else:
            wrong.add(at)
    y[list(wrong)] = None
    joined = sum(one is not None for one in y)
    waiting = len(y) - joined - len(wrong)
    return y, LabelCounts(joined, waiting, repeated, len(wrong), strangers, elsewhere, ambiguous, unknown, example)


def row_numbers(column: Any) -> np.ndarray:
    """The rows of requests that labels are of [n]; MonitoringError for what is none."""
    import pandas as pd

    found = pd.to_numeric(column, errors="coerce").to_numpy(float)
    wrong = ~((found >= 0) & (found == np.floor(found)))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise MonitoringError(f"`row` of labels must be whole numbers from 0; line {at + 2} has {column.iloc[at]!r}.")
    return found.astype(int)


def label_words(y: np.ndarray) -> np.ndarray:
    """Labels as the words by which classes are known: 1.0 and 1 are `1`.

    >>> label_words(np.array([1.0, "a", 2], object)).tolist()
    ['1', 'a', '2']
    """
    return np.array([f"{one:g}" if isinstance(one, float) and one.is_integer() else str(one) for one in y.tolist()], object)
