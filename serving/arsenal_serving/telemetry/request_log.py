"""The request log: a sample of inferences with their inputs and answers, for monitoring and for `replay`.

A line of JSON each, tensors as the Open Inference Protocol's JSON has them. Which requests are taken follows from the
hash of their id, so two servers that see the same id agree. What is redacted is gone before a line is made: a tensor
without `data`, a column of nulls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving.calls import Call
from arsenal_serving.model import Port, ServedModel
from arsenal_serving.protocols import open_inference
from arsenal_serving.refused import Refused, unknown_name
from arsenal_serving.repository.models import Missing, Repository, Unready
from arsenal_serving.telemetry.background import Background
from arsenal_serving.telemetry.logs import stamp
from arsenal_serving.telemetry.turning import ALL, TurningFiles

MOST_WAITING, MOST_BYTES = 1024, 64 << 20  # requests, and bytes of their tensors, that wait to be written
HEAD = "requests"
NAME = f"{HEAD}-*.jsonl"


def is_sampled(id: str, share: float) -> bool:
    """Whether a request of this id is among the share that is kept: the first 8 bytes of its SHA-256 are below it.

    >>> sum(is_sampled(str(k), 0.25) for k in range(10_000))
    2579
    """
    return int.from_bytes(sha256(id.encode()).digest()[:8], "big") < share * 2.0**64


def is_pattern(name: str) -> bool:
    """Whether a name stands for several, by *, ? or [...]."""
    return bool(set(name) & set("*?["))


class Kept(NamedTuple):
    """What is kept of a call until it is written."""

    when: float
    call: dict[str, Any]
    inputs: list[tuple[Port, np.ndarray]]
    outputs: list[tuple[Port, np.ndarray]]
    bytes: int


class RequestLog:
    """An observer that keeps inferences in a folder. Raises `Refused` where it cannot be had."""

    def __init__(
        self,
        folder: str | os.PathLike,
        repository: Repository,
        share: float = 0.01,
        redact: Iterable[str] = (),
        most: int = ALL,
    ):
        self._repository, self._share, self._redact = repository, share, set(redact)
        self._came = self._went = 0  # bytes, on the event loop and on the thread
        self._lost = self._failed = 0
        try:
            self._files = TurningFiles(folder, HEAD, most)
        except OSError as error:
            raise Refused(f"the request log {folder} cannot be written: {error.strerror}.") from error
        self._background = Background(self._write, MOST_WAITING)

    @property
    def dropped(self) -> int:
        """Requests of the sample that are not in it: they came too fast, or the disk is full."""
        return self._lost + self._failed + self._background.dropped

    def check(self) -> None:
        """Raise `Refused` for a `--redact` that names nothing of any model that is ready: it would redact nothing."""
        models = self._repository.ready()
        known = {name for _, _, model in models for name in _names(model)}
        for name in sorted(self._redact - known):
            if not is_pattern(name) or not any(fnmatchcase(one, name) for one in known):
                raise unknown_name("--redact", name, known)

    def observe(self, call: Call) -> None:
        """Keep a call, if its inputs were read and it is in the sample."""
        if call.inputs is None or not is_sampled(call.id, self._share):
            return
        try:
            method = self._repository.find(call.model, call.version).method
        except (Missing, Unready):  # unloaded since
            self._lost += 1
            return
        answers = call.answers or {}
        inputs = [(port, call.inputs[port.name]) for port in method.inputs if port.name in call.inputs]
        outputs = [(port, answers[port.name]) for port in method.outputs if port.name in answers]
        size = sum(array.nbytes for _, array in inputs + outputs)
        if self._came - self._went + size > MOST_BYTES:
            self._lost += 1
            return
        self._came += size
        facts = {
            "id": call.id,
            "protocol": call.protocol,
            "operation": call.operation,
            "model": call.model,
            "version": call.version,
            "method": call.method,
            "status": call.status,
            "seconds": round(call.seconds, 6),
        }
        self._background.put(Kept(time.time(), facts, inputs, outputs, size))

    def close(self) -> None:
        """Write what still waits."""
        if self._background.close():
            self._files.close()

    def _write(self, taken: list[Kept]) -> None:
        lines, size = list[bytes](), 0
        for kept in taken:
            self._went += kept.bytes
            try:
                lines.append(self._line(kept))
            except TypeError:
                self._failed += 1
                continue
            size += len(lines[-1])
            if size > self._files.piece:
                self._append(lines)
                lines, size = [], 0
        self._append(lines)

    def _line(self, kept: Kept) -> bytes:
        tensors = {
            "inputs": [self._tensor(*one) for one in kept.inputs],
            "outputs": [self._tensor(*one) for one in kept.outputs],
        }
        line = {"time": stamp(kept.when), **kept.call, **tensors}
        return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def _append(self, lines: list[bytes]) -> None:
        try:
            self._files.append(b"".join(lines))
        except OSError:
            self._failed += len(lines)

    def _tensor(self, port: Port, array: np.ndarray) -> dict[str, Any]:
        tensor = {"name": port.name, "shape": list(array.shape), "datatype": open_inference.datatype_name(port)}
        columns, head = port.columns or [], f"{port.name}."
        plain = {name for name in self._redact if not is_pattern(name)}
        named = {name.removeprefix(head) for name in plain if name.startswith(head)}
        patterns = self._redact - plain
        fitting = [column for column in columns if any(fnmatchcase(head + column, one) for one in patterns)]
        hidden = not columns and any(one.rpartition(".")[0] == port.name for one in patterns)
        whole = port.name in plain or hidden or any(fnmatchcase(port.name, one) for one in patterns)
        # Of a version that has no such column nobody knows where it is: then all of it is gone.
        if whole or not named <= set(columns):
            return {**tensor, "parameters": {"redacted": True}}
        named |= set(fitting)
        gone = [at for at, column in enumerate(columns) if column in named]
        if not gone:
            return {**tensor, "data": open_inference.to_json(array.reshape(-1))}
        data = open_inference.to_json(array.reshape(-1))
        values = data.tolist() if isinstance(data, np.ndarray) else list(data)
        for at in gone:
            values[at :: len(columns)] = [None] * len(values[at :: len(columns)])
        return {**tensor, "data": values, "parameters": {"redacted": ",".join(columns[at] for at in gone)}}


def _names(model: ServedModel) -> Iterable[str]:
    for method in model.methods.values():
        for port in (*method.inputs, *method.outputs):
            yield port.name
            yield from (f"{port.name}.{column}" for column in port.columns or ())
