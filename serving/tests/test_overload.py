"""Ten times more than a server can do: who is let in is answered in time, everybody else is told to come back."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import orjson
import pytest
from conftest import start
from tensors import tensor

from arsenal_serving.cli.load_client import Asking, Question, ask, place
from arsenal_serving.export import Method, export

QUEUED = 16


def slow(params, x):
    """Work enough that it runs on the thread of the device."""
    wide = jax.lax.fori_loop(0, 400, lambda _, y: jnp.tanh(y @ params), jnp.tile(x, (64, 1, 8)).reshape(-1, 256))
    return x + 0.0 * wide.reshape(64, x.shape[0], 256).sum((0, 2))[:, None]


def offered(
    port: int, connections: int, seconds: float, rate: float | None = None
) -> tuple[dict[int, list[float]], float]:
    """Seconds of the answers by status, and for how long as many were asked as connections allow, `rate` a second at most."""
    where, took = place(f"http://127.0.0.1:{port}"), defaultdict(list)
    body = orjson.dumps({"inputs": [tensor(np.ones((1, 32), np.float32))]})
    raw, began, asked = where.request("/v2/models/slow/infer", body), time.perf_counter(), itertools.count()

    def next_one() -> Question | None:
        due = began + (next(asked) / rate if rate else 0.0)
        return Question(None, raw, due) if max(due, time.perf_counter()) - began < seconds else None

    def answered(_which, status, answer, each):
        took[status].append(each)
        assert status != 200 or orjson.loads(answer)["outputs"][0]["data"] == [1.0] * 32

    asyncio.run(ask(Asking(next_one, answered), where, connections))
    return took, time.perf_counter() - began


@pytest.mark.slow
def test_ten_times_the_capacity_keeps_what_is_admitted_quick(tmp_path):
    params = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32) / 16
    export(tmp_path / "slow", {"predict": Method(slow, np.ones((3, 32), np.float32), sizes=(1, 4))}, params, name="slow")
    server = start(tmp_path / "slow", "--max-batch", "4", "--max-queue-rows", str(QUEUED))
    alone, lasted = offered(server.port, 8, 3.0)
    assert alone.keys() == {200}
    capacity = len(alone[200]) / lasted
    # A client that asks as fast as it can would take the processor from the server, which is another test.
    crowd, crowded = offered(server.port, 200, 5.0, rate=12 * capacity)
    alone, lasted = offered(server.port, 8, 3.0)
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=20)
    assert crowd.keys() == {200, 429}
    assert sum(map(len, crowd.values())) / crowded > 8 * capacity
    capacity = min(capacity, len(alone[200]) / lasted)  # whoever else is on this machine comes and goes
    assert len(crowd[200]) / crowded > 0.5 * capacity
    # Before an answer there is at most what may wait, what runs and what it runs in; double, for a noisy machine.
    bound = 2 * (QUEUED + 2 * 4) / capacity + 0.2
    p99 = float(np.quantile(crowd[200], 0.99))
    assert p99 < bound, (p99, bound, capacity)
