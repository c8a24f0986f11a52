"""What a canary and a shadow did: counted as calls end, compared off the event loop, judged, and rolled back.

`Observed.call` is an observer of `calls`. A shadow answers on a thread of the lowest priority after the caller has its
answer; what would have to wait for long is dropped and counted.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from arsenal_serving.calls import Call
from arsenal_serving.model import rows
from arsenal_serving.repository import rollout

WINDOW = 4096  # latest requests of each version that are judged
EVERY = 0.25  # seconds between judgements, at least
WAITING, WAITING_BYTES = 64, 64 << 20  # of shadows
# A version's own failures: what it does not take and what it breaks on, but not a full queue or a client's going.
FAILED = frozenset({400, 500, 504, "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"})
ANSWERED = (200, "OK")


class TrialCounts:
    """Counts of one canary and one shadow since their policy began.

    calls, failures: of the canary and of the default version. differences: of each output, rows by largest difference,
    by `rollout.EDGES`. rows, differing: that the shadow answered. dropped: calls it had no time for. errors: it failed.
    """

    def __init__(self, policy: rollout.Policy):
        self.policy = policy
        self.seconds: dict[bool, deque[float]] = {True: deque(maxlen=WINDOW), False: deque(maxlen=WINDOW)}
        self.calls, self.failures = {True: 0, False: 0}, {True: 0, False: 0}
        self.differences: dict[str, np.ndarray] = {}
        self.rows = self.differing = self.dropped = self.errors = 0
        self.judged = 0.0

    def note(self, canary: bool, failed: bool, seconds: float) -> None:
        """Count a call that the canary, or the default version beside it, answered."""
        self.calls[canary] += 1
        self.failures[canary] += failed
        self.seconds[canary].append(float("nan") if failed else seconds)

    def differing_rows(self, far: dict[str, np.ndarray]) -> np.ndarray:
        """Which rows [rows] are further apart, in any of the outputs, than the shadow's tolerance."""
        tolerance = self.policy.shadow.tolerance if self.policy.shadow else 0.0
        return np.any([each > tolerance for each in far.values()], axis=0)

    def compare(self, got: dict[str, np.ndarray] | None, far: dict[str, np.ndarray]) -> None:
        """Count by how much a shadow's rows are apart from the default version's; got: None where it failed."""
        differ = self.differing_rows(far)
        for name, each in far.items():
            counts = self.differences.setdefault(name, np.zeros(len(rollout.EDGES) + 1, np.int64))
            counts += np.bincount(np.searchsorted(rollout.EDGES, each), minlength=len(counts))
        self.errors += got is None
        self.rows += len(differ)
        self.differing += int(differ.sum())

    def verdict(self) -> str | None:
        """Why the canary is to be rolled back, as `rollout.verdict`."""
        given = self.policy
        if not (given.rollback and given.canary and given.canary.weight):
            return None
        canary = rollout.number_of(given, given.canary.version)
        same = given.shadow is not None and rollout.number_of(given, given.shadow.version) == canary
        canary_seconds, stable_seconds = (np.array(self.seconds[which]) for which in (True, False))
        return rollout.verdict(
            given.rollback, canary_seconds, stable_seconds, (self.rows, self.differing) if same else None
        )

    def report(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        told: dict[str, Any] = {}
        if self.policy.canary:
            for name, which in (("canary", True), ("default", False)):
                told[name] = {"calls": self.calls[which], "failures": self.failures[which]}
        if self.policy.shadow:
            told["shadow"] = {
                "rows": self.rows,
                "differing": self.differing,
                "dropped": self.dropped,
                "errors": self.errors,
                "difference_at_most": [*rollout.EDGES, "more"],
                "outputs": {name: counts.tolist() for name, counts in self.differences.items()},
            }
        return told


class Observed:
    """Gives trials their calls; `call` is an observer of `calls`.

    repository: routes and rolls back. busy: rows that wait for the device.
    """

    def __init__(self, repository: Any, busy: Callable[[], int] = lambda: 0):
        self._repository, self._busy = repository, busy
        self._waiting: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self._lock, self._bytes, self._count = threading.Lock(), 0, 0
        self._thread: threading.Thread | None = None

    def call(self, call: Call) -> None:
        """Count a call that ended, and have the shadow answer it where its turn has come."""
        route = self._repository.routes.get(call.model)
        if route is None or route.trial is None or not call.method:
            return
        trial = route.trial
        if call.key is not None and route.canary is not None:
            trial.note(call.version == str(route.canary.model.version), call.status in FAILED, call.seconds)
        if trial.policy.rollback and call.began - trial.judged > EVERY:
            trial.judged = time.perf_counter()
            if (why := trial.verdict()) is not None:
                # It writes a file: not on the event loop.
                threading.Thread(target=self._roll_back, args=(call.model, trial, why), daemon=True).start()
        shadow = trial.policy.shadow
        if route.shadow is not None and shadow and call.answers is not None and call.status in ANSWERED:
            # What the default version answered is what it is compared with.
            stable = route.stable and str(route.stable.model.version)
            if call.version == stable and random.random() < shadow.share:
                self._offer(trial, route.stable, route.shadow, call)

    def _offer(self, trial: TrialCounts, stable: Any, found: Any, call: Call) -> None:
        assert call.inputs is not None and call.answers is not None
        if not (count := rows(found.method, call.inputs)):
            return
        size = sum(array.nbytes for array in (*call.inputs.values(), *call.answers.values()))
        with self._lock:
            full = self._count and (self._count >= WAITING or self._bytes + size > WAITING_BYTES)
            if full or self._busy() > found.model.max_batch:
                trial.dropped += 1
                return
            self._count += 1
            self._bytes += size
        self._waiting.put((trial, stable, found, call.inputs, call.answers, count, size))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # Linux knows a thread's own
        while True:
            self._answer(*self._waiting.get())

    def _answer(
        self, trial: TrialCounts, stable: Any, found: Any, inputs: dict, answers: dict, count: int, size: int
    ) -> None:
        got = _infer(found, inputs)
        far = _measure_apart(got, answers, count)
        # The caller's rows ran with those of others, in a program of another size, which may round otherwise: before
        # two versions are said to differ both answer these rows alone.
        if got is not None and trial.differing_rows(far).any() and (alone := _infer(stable, inputs)) is not None:
            far = _measure_apart(got, alone, count)
        with self._lock:
            self._count -= 1
            self._bytes -= size
            trial.compare(got, far)

    def _roll_back(self, name: str, trial: TrialCounts, why: str) -> None:
        try:
            self._repository.roll_back(name, trial, why)
        except Exception as error:
            sys.stderr.write(f"arsenal-serve: model {name!r} is not rolled back: {' '.join(str(error).split())}\n")


def _infer(found: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    try:
        return found.model.infer(found.method.name, inputs)
    except Exception:  # whatever stops it, a version that does not answer is a difference
        return None


def _measure_apart(
    got: dict[str, np.ndarray] | None, wanted: dict[str, np.ndarray], count: int
) -> dict[str, np.ndarray]:
    """By how much each row is apart in each output, as `rollout.measure_apart`: [rows] by name."""

    def far(name: str, answer: np.ndarray) -> np.ndarray:
        mine = None if got is None else got.get(name)
        return np.full(count, np.inf) if mine is None else rollout.measure_apart(mine, answer, count)

    return {name: far(name, answer) for name, answer in wanted.items()}
