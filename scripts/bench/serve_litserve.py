"""LitServe over the network: `serve_litserve.py PORT NETWORK SETTING`, one of `plain`, `batched`."""

import sys

import litserve
import numpy as np
from serve_network import Network, read, reply


class Served(litserve.LitAPI):
    """As its documentation shows."""

    def setup(self, device):
        """Load the network."""
        self.network = Network(sys.argv[2])

    def decode_request(self, request):
        """The array."""
        return read(request)

    def batch(self, inputs):
        """One array of several."""
        return np.concatenate(inputs)

    def predict(self, x):
        """The answers."""
        return self.network(x)

    def unbatch(self, output):
        """One answer each."""
        return [output[i : i + 1] for i in range(len(output))]

    def encode_response(self, output):
        """The reply."""
        return reply(output)


if __name__ == "__main__":
    batched = {"max_batch_size": 32, "batch_timeout": 0.001} if sys.argv[3] == "batched" else {}
    api = Served(**batched)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
