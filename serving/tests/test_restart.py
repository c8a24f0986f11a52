"""Replicas that are restarted under load, with the timings of a deployment: not one request is lost."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench" / "restart_arsenal.py"


@pytest.mark.slow
@pytest.mark.parametrize(("detach", "hears"), [(1, 0.5), (0, 3.0)], ids=["as it is", "without detach"])
def test_a_rolling_restart_loses_no_request_and_would_without_detach(detach, hears):
    spec = importlib.util.spec_from_file_location("restart_arsenal", BENCH)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    timings = {"detach": detach, "drain": 10}
    found = bench.main({"timings": timings, "hears": hears, "connections": 8, "times": 1})
    # A replica that is told before its balancer is refuses connections: that is what `detach` is for.
    assert (found["value"] == 0) == (detach > hears), found
