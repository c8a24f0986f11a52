"""The queue before the device: what waits while it is busy goes next, together, and no timer holds anything back.

Small models run on the event loop, where requests that arrived in one turn of it share a run; a request that is alone
runs at once. Larger ones run on one thread, and what came meanwhile is gathered up to the method's largest size: whole
requests of the same method and the same further dimensions, in the order they came. A request beyond the largest size
goes in pieces, so that others come between. Rows that influence each other, and methods without rows, run alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.model import Loaded, ServedModel, name_answers, round_up
from arsenal_serving.refused import Full
from arsenal_serving.repository.decoder import Decoder

# Measured on two cores: a hop to a thread and back costs about 0.1 ms, as much as a small model's whole answer, so
# what is quick runs on the event loop; what is slow, or may compile, runs on one thread and the loop stays live.
INLINE_SECONDS = 0.002
MAX_QUEUED_ROWS, MAX_QUEUED_BYTES = 65536, 512 << 20


class Expired(Exception):
    """The deadline passed while the request waited."""


class Gone(Exception):
    """The client went away while the request waited."""


class Statistics:
    """Counts and nanoseconds of one method, as the protocol's statistics extension reports them."""

    def __init__(self) -> None:
        self.parts = {part: [0, 0] for part in ("success", "fail", "queue", *PARTS)}
        self.rows = self.runs = self.last_ms = 0
        self.batches: dict[int, dict[str, list[int]]] = {}

    def add(self, part: str, nanoseconds: int, count: int = 1) -> None:
        """Count something and the time that it took."""
        cell = self.parts[part]
        cell[0] += count
        cell[1] += nanoseconds

    def ran(self, rows: int, requests: int, nanoseconds: tuple[int, int, int]) -> None:
        """Count a run of so many rows of so many requests: gathering, the program, handing out."""
        self.runs += 1
        self.rows += rows
        batch = self.batches.setdefault(rows, {part: [0, 0] for part in PARTS})
        for part, took in zip(PARTS, nanoseconds, strict=True):
            self.add(part, took, requests)
            batch[part][0] += 1
            batch[part][1] += took


PARTS = ("compute_input", "compute_infer", "compute_output")
Settle = Callable[[list[np.ndarray] | BaseException], None]


@dataclass(slots=True, eq=False)
class Job:
    """A request that waits or runs; `settle` is called once, with its answers or with why there are none.

    `taken` of its rows are in a run or were, `done` of them are answered. over: settled, or left by its caller.
    """

    model: ServedModel
    loaded: Loaded
    arrays: list[np.ndarray]
    rows: int
    bytes: int
    statistics: Statistics
    settle: Settle
    deadline: float | None
    since: int
    taken: int = 0
    done: int = 0
    over: bool = False
    pieces: list[tuple[int, list[np.ndarray]]] = field(default_factory=list)

    def end(self, outcome: list[np.ndarray] | BaseException) -> None:
        """Settle it, unless that was done or nobody waits any more."""
        if self.over:
            return
        self.over = True
        took = time.perf_counter_ns() - self.since
        if isinstance(outcome, BaseException):
            self.statistics.add("fail", took)
        else:
            self.statistics.last_ms = time.time_ns() // 1_000_000
            self.statistics.add("success", took)
        self.settle(outcome)

    def leave(self) -> None:
        """Nobody waits for it any more: it is dropped where it still waits for a run."""
        if not self.over:
            self.over = True
            self.statistics.add("fail", time.perf_counter_ns() - self.since)


class Engine:
    """One queue and one thread, for the one device of this process; used on one event loop."""

    def __init__(self, max_rows: int = MAX_QUEUED_ROWS, max_bytes: int = MAX_QUEUED_BYTES):
        self.max_rows, self.max_bytes = max_rows, max_bytes
        self.rows = self.bytes = 0  # waiting
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._decoders: WeakKeyDictionary[ServedModel, Decoder] = WeakKeyDictionary()
        self._lanes: OrderedDict[tuple, deque[Job]] = OrderedDict()
        self._quick: OrderedDict[tuple, deque[Job]] = OrderedDict()
        self._busy = self._alone = self._crowded = self._flushing = False
        self._speed = 0.0  # rows per second of the last run

    def decoder(self, model: ServedModel) -> Decoder | None:
        """What has texts go on in the slots of a model, one for each; None where it is none of language."""
        if model not in self._decoders and model.decoding is not None:
            self._decoders[model] = Decoder(model.decoding, self._device, self.max_rows)
        return self._decoders.get(model)

    async def infer(
        self,
        model: ServedModel,
        method: str,
        inputs: dict[str, np.ndarray],
        statistics: Statistics,
        *,
        seconds: float | None = None,
        gone: Callable[[], Awaitable[Any]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Answer named inputs as `ServedModel.infer` does, possibly in one run with others.

        seconds: how long the caller waits at most. gone: waits until the caller has gone. Raises `Refused`, `Full`,
        `Expired` or `Gone`.
        """
        future = asyncio.get_running_loop().create_future()

        def settle(outcome: list[np.ndarray] | BaseException) -> None:
            if not future.done():
                future.set_exception(outcome) if isinstance(outcome, BaseException) else future.set_result(outcome)

        job = self.submit(model, method, inputs, statistics, settle, seconds)
        watch = None if gone is None or future.done() else asyncio.ensure_future(gone())
        try:
            if watch is not None:
                await asyncio.wait([future, watch], return_when=asyncio.FIRST_COMPLETED)
                if not future.done():
                    raise Gone("the client has gone.")
            return name_answers(job.loaded, await future)
        finally:
            job.leave()
            if watch is not None:
                watch.cancel()

    def submit(
        self,
        model: ServedModel,
        method: str,
        inputs: dict[str, np.ndarray],
        statistics: Statistics,
        settle: Settle,
        seconds: float | None = None,
    ) -> Job:
        """Run named inputs when the device is free; `settle` may be called before this returns.

        Raises `Refused` or `Full`; `settle` gets what the program gave, in its order, or `Expired` or another error.
        """
        start = time.perf_counter_ns()
        try:
            loaded, arrays = model.check(method, inputs)
            arrays, back = round_up(loaded, arrays)
            if back is not None:
                settle = _cut_back(settle, back)
            return self._enqueue(model, loaded, arrays, statistics, settle, seconds, start)
        except BaseException:
            statistics.add("fail", time.perf_counter_ns() - start)
            raise

    def _enqueue(
        self,
        model: ServedModel,
        loaded: Loaded,
        arrays: list[np.ndarray],
        statistics: Statistics,
        settle: Settle,
        seconds: float | None,
        start: int,
    ) -> Job:
        loop = asyncio.get_running_loop()
        rows = 1 if loaded.rows == SINGLE else arrays[0].shape[0]
        quick = model.quick(loaded.name, rows, INLINE_SECONDS)
        deadline = None if seconds is None else loop.time() + seconds
        size = 0
        for array in arrays:
            size += array.nbytes
        job = Job(model, loaded, arrays, rows, size, statistics, settle, deadline, start)
        if quick and not self._crowded and not self._quick and not self._alone:
            # Alone in this turn of the loop, for all that is known: it runs now, and who comes after it will wait.
            self._alone = True
            loop.call_soon(self._end_turn)
            before = time.perf_counter_ns()
            answers = model.run(loaded, arrays)
            after = time.perf_counter_ns()
            statistics.add("queue", 0)
            statistics.ran(rows, 1, (before - start, after - before, 0))
            job.end(answers)
            return job
        if self.rows and (self.rows + rows > self.max_rows or self.bytes + job.bytes > self.max_bytes):
            raise Full(max(1, math.ceil(self.rows / self._speed)) if self._speed else 1)
        self.rows += rows
        self.bytes += job.bytes
        # Who may share a run: the same method of the same model with the same further dimensions; else nobody.
        key: tuple = (id(model), loaded.name, *(array.shape[1:] for array in arrays)) if loaded.padded else (id(job),)
        (self._quick if quick else self._lanes).setdefault(key, deque()).append(job)
        if quick:
            self._flush_soon(loop)
            self._crowded = True
        else:
            if seconds is not None:
                loop.call_later(seconds, _expire, job)
            if not self._busy:
                self._next()
        return job

    def _end_turn(self) -> None:
        self._alone = False

    def _flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        batch = self._gather(self._quick)
        self._crowded = len(batch) > 1 or bool(self._quick)
        if batch:
            try:
                answers, times = _run(batch)
            except BaseException as error:
                _fail(batch, error)
            else:
                self._hand_out(batch, answers, times)
        if self._quick:
            self._flush_soon(asyncio.get_running_loop())

    def _next(self) -> None:
        batch = self._gather(self._lanes)
        self._busy = bool(batch)
        if batch:
            run = asyncio.get_running_loop().run_in_executor(self._device, _run, batch)
            run.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: list[tuple[Job, int, int]], done: asyncio.Future) -> None:
        if done.cancelled():
            _fail(batch, RuntimeError("the server stopped"))
        elif error := done.exception():
            _fail(batch, error)
        else:
            self._hand_out(batch, *done.result())
        self._next()

    def _gather(self, lanes: OrderedDict[tuple, deque[Job]]) -> list[tuple[Job, int, int]]:
        """The next run: jobs of one lane and which of their rows; lanes take turns."""
        while lanes:
            key, lane = lanes.popitem(last=False)
            batch: list[tuple[Job, int, int]] = []
            room = lane[0].loaded.sizes[-1] if lane[0].loaded.padded else lane[0].rows
            while lane and room:
                job = lane[0]
                if job.deadline is not None and asyncio.get_running_loop().time() >= job.deadline:
                    _expire(job)
                if job.over:
                    self._leave(lane)
                    continue
                if job.rows > room and (batch or not job.loaded.padded):
                    break  # whole requests share a run; one that must be split begins a run
                stop = min(job.taken + room, job.rows) if job.loaded.padded else job.rows
                if job.taken == 0:
                    job.statistics.add("queue", time.perf_counter_ns() - job.since)
                batch.append((job, job.taken, stop))
                room -= stop - job.taken
                job.taken = stop
                if stop == job.rows:
                    self._leave(lane)
            if lane:
                lanes[key] = lane
            if batch:
                return batch
        return []

    def _leave(self, lane: deque[Job]) -> None:
        job = lane.popleft()
        self.rows -= job.rows
        self.bytes -= job.bytes

    def _hand_out(self, batch: list[tuple[Job, int, int]], answers: list[np.ndarray], times: tuple[int, int]) -> None:
        start, at = time.perf_counter_ns(), 0
        if not batch[0][0].loaded.padded:
            batch[0][0].end(answers)
        else:
            for job, first, last in batch:
                piece = [answer[at : at + last - first] for answer in answers] if len(batch) > 1 else answers
                at += last - first
                job.pieces.append((first, piece))
                job.done += last - first
                if job.done == job.rows:
                    parts = [piece for _, piece in job.pieces]
                    whole = parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
                    job.end(whole)
        rows = sum(last - first for _, first, last in batch)
        self._speed = rows / max(sum(times) / 1e9, 1e-6)
        batch[0][0].statistics.ran(rows, len(batch), (*times, time.perf_counter_ns() - start))


def _expire(job: Job) -> None:
    job.end(Expired("the deadline passed."))


def _cut_back(settle: Settle, back: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Settle:
    return lambda outcome: settle(outcome if isinstance(outcome, BaseException) else back(outcome))


def _run(batch: list[tuple[Job, int, int]]) -> tuple[list[np.ndarray], tuple[int, int]]:
    start = time.perf_counter_ns()
    first = batch[0][0]
    if len(batch) == 1:
        _, begin, end = batch[0]
        arrays = first.arrays if end - begin == first.rows else [array[begin:end] for array in first.arrays]
    else:
        parts = [[array[begin:end] for array in job.arrays] for job, begin, end in batch]
        arrays = [np.concatenate(each) for each in zip(*parts, strict=True)]
    gathered = time.perf_counter_ns()
    answers = first.model.run(first.loaded, arrays)
    return answers, (gathered - start, time.perf_counter_ns() - gathered)


def _fail(batch: list[tuple[Job, int, int]], error: BaseException) -> None:
    for job, _, _ in batch:
        job.end(error)
