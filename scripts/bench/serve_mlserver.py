"""MLServer over the network: `serve_mlserver.py PORT NETWORK SETTING`, one of `inline`, `process` (its default), `batched`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = {"inline": (0, 0), "process": (1, 0), "batched": (0, 32)}

try:
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceResponse
except ImportError:
    MLModel = object


class Served(MLModel):
    """A custom runtime, as its documentation shows."""

    async def load(self):
        """Load the network."""
        from serve_network import Network

        self.network = Network(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        """Answer one request, or those that were batched."""
        (tensor,) = payload.inputs
        y = self.network(NumpyCodec.decode_input(tensor))
        outputs = [NumpyCodec.encode_output("predict", y)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


if __name__ == "__main__":
    port, network, setting = sys.argv[1:]
    workers, batch = SETTINGS[setting]
    with tempfile.TemporaryDirectory() as folder:
        general = {"debug": False, "host": "127.0.0.1", "http_port": int(port), "grpc_port": int(port) + 50}
        general |= {"metrics_port": int(port) + 60, "parallel_workers": workers}
        Path(folder, "settings.json").write_text(json.dumps(general))
        model = {"name": "bench", "implementation": "serve_mlserver.Served", "parameters": {"uri": network}}
        model |= {"max_batch_size": batch, "max_batch_time": 0.001} if batch else {}
        Path(folder, "model-settings.json").write_text(json.dumps(model))
        env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent)}
        command = [str(Path(sys.executable).with_name("mlserver")), "start", folder]
        sys.exit(subprocess.run(command, env=env).returncode)
