"""Memory of a server's watching: how much its process grows from the 100,000th request on, all logs and `--monitor` on.

The calls are made in this process and go through all observers of `arsenal-serve`, so that ten million take minutes; the wire and
the model are not in it. Anonymous memory is what the process holds itself (RssAnon in /proc/self/status).
"""

import argparse
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from memory_arsenal import anonymous

SETTLED = 100_000
"""Requests after which all that is made once is there."""


def main(given: dict) -> dict:
    """Observe so many calls, and say by how many MB the process has grown since the first 100,000."""
    import jax.numpy as jnp
    from arsenal_serving.calls import Call
    from arsenal_serving.export import export
    from arsenal_serving.model import load
    from arsenal_serving.options import options
    from arsenal_serving.protocols.serving import Serving
    from arsenal_serving.repository.engine import Engine
    from arsenal_serving.repository.models import Repository
    from arsenal_serving.telemetry.operations import Operations

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        known = random.normal(size=(5000, 8)).astype(np.float32)
        export(Path(root) / "models" / "m", lambda params, x: x @ params, jnp.ones(8), known[:4], reference=known)
        parser = argparse.ArgumentParser()
        options(parser)
        words = ["--monitor", f"{root}/seen", "--log", "requests", "--log-to", f"{root}/log", "--request-log", f"{root}/requests"]
        asked = parser.parse_args([f"{root}/models", *words])
        repository = Repository(Path(asked.folder), load)
        repository.start()
        serving = Serving(repository, Engine(1 << 16, 1 << 29), 1 << 26, False, None, ())
        around = Operations(asked, serving)
        (served,) = [model for _, _, model in repository.ready()]
        answers = np.zeros(1, np.float32)
        settled = start = 0.0
        for k in range(given["requests"]):
            call = Call("http", {})
            call.id, call.model, call.version, call.method, call.operation = str(k), served.name, "1", "predict", "infer"
            call.status, call.rows, call.inputs, call.answers = 200, 1, {"x": known[k % 5000 : k % 5000 + 1]}, {"y": answers}
            for observe in around.serving.observers:
                observe(call)
            if k % 1000 == 0:
                around._metrics.refresh()
                time.sleep(0.004)  # the threads that write have a turn, as between two requests of a client
            if k == SETTLED:
                settled, start = anonymous(), time.perf_counter()
        grown, took = anonymous() - settled, time.perf_counter() - start
        dropped = around._watcher.dropped + around._watcher.failed
        around.close()
    setting = f"{given['requests']:,} requests, {(given['requests'] - SETTLED) / took:,.0f}/s, {dropped:,} not counted"
    return {"value": grown / 1e6, "all": [], "setting": f"{setting}; ml-arsenal {version('ml-arsenal')}"}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
