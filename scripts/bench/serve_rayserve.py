"""Ray Serve over the network: `serve_rayserve.py PORT NETWORK SETTING`, one of `plain`, `batched`."""

import sys
import time

import numpy as np
from ray import serve
from serve_network import Network, read, reply


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
class Plain:
    """As its documentation shows."""

    def __init__(self, path):
        """Load the network."""
        self.network = Network(path)

    async def __call__(self, request):
        """Answer a request."""
        return reply(self.network(read(await request.json())))


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
class Batched:
    """With its dynamic batching."""

    def __init__(self, path):
        """Load the network."""
        self.network = Network(path)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def answers(self, arrays):
        """One run for all."""
        y = self.network(np.concatenate(arrays))
        return [y[i : i + 1] for i in range(len(y))]

    async def __call__(self, request):
        """Answer a request."""
        return reply(await self.answers(read(await request.json())))


if __name__ == "__main__":
    port, network, setting = sys.argv[1:]
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run({"plain": Plain, "batched": Batched}[setting].bind(network), route_prefix="/infer")
    while True:
        time.sleep(60)
