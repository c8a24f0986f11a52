"""The request log: a sample of inferences with their inputs and answers, for monitoring and for `replay`.

A line of JSON each, tensors as the Open Inference Protocol's JSON has them. Which requests are taken follows from the
hash of their id, so two servers that see the same id agree. What is redacted is gone before a line is made: a tensor
without `data`, a column of nulls.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving.calls import Call
from arsenal_serving.model import Port
from arsenal_serving.protocols import open_inference
from arsenal_serving.refused import Refused
from arsenal_serving.repository.models import Missing, Repository, Unready
from arsenal_serving.telemetry.background import Background
from arsenal_serving.telemetry.logs import stamp
from arsenal_serving.telemetry.redaction import NOTHING, Redaction
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
        redaction: Redaction = NOTHING,
        most: int = ALL,
    ):
        self._repository, self._share, self._redaction = repository, share, redaction
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
        columns = port.columns or []
        if (gone := self._redaction.hidden(port.name, columns)) is None:
            return {**tensor, "parameters": {"redacted": True}}
        if not gone:
            return {**tensor, "data": open_inference.to_json(array.reshape(-1))}
        data = open_inference.to_json(array.reshape(-1))
        values = data.tolist() if isinstance(data, np.ndarray) else list(data)
        for at in gone:
            values[at :: len(columns)] = [None] * len(values[at :: len(columns)])
        return {**tensor, "data": values, "parameters": {"redacted": ",".join(columns[at] for at in gone)}}
