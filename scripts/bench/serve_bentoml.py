"""BentoML over the network: `serve_bentoml.py PORT NETWORK SETTING`, one of `plain`, `batched`."""

import os
import subprocess
import sys
from pathlib import Path

NETWORK = "BENCH_NETWORK"
"""Where the service's own process finds the parameters."""

if __name__ == "__main__":
    port, network, setting = sys.argv[1:]
    env = os.environ | {NETWORK: network, "BENTOML_DO_NOT_TRACK": "1"}
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", f"serve_bentoml:{setting.title()}"]
    command += ["--host", "127.0.0.1", "--port", port, "--working-dir", str(Path(__file__).resolve().parent)]
    sys.exit(subprocess.run(command, env=env, cwd=Path(__file__).resolve().parent).returncode)

import bentoml  # noqa: E402
import numpy as np  # noqa: E402
from serve_network import Network, read, reply  # noqa: E402


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Plain:
    """As its documentation shows."""

    def __init__(self):
        """Load the network."""
        self.network = Network(os.environ[NETWORK])

    @bentoml.api
    def infer(self, inputs: list) -> dict:
        """Answer a request."""
        return reply(self.network(read({"inputs": inputs})))


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Batched:
    """With adaptive batching."""

    def __init__(self):
        """Load the network."""
        self.network = Network(os.environ[NETWORK])

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def infer(self, inputs: list) -> list:
        """Answer several requests of one tensor each."""
        y = self.network(np.concatenate([read({"inputs": [one]}) for one in inputs]))
        return [reply(y[i : i + 1]) for i in range(len(y))]
