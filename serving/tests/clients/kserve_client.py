"""What kserve's own clients get from our server, by REST and gRPC; run in an environment of its own by test_clients.py."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

X = np.random.default_rng(1).standard_normal((5, 8, 8)).astype(np.float32)
http_address, grpc_address = sys.argv[1:]


def asked(binary):
    tensor = InferInput("x", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    return InferRequest(model_name="zoo", infer_inputs=[tensor], request_id="seven")


async def main():
    rest, results = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)), []
    base = f"http://{http_address}"
    assert await rest.is_server_live(base) and await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, "zoo")
    for binary in (True, False):
        answer = await rest.infer(base, asked(binary), model_name="zoo")
        results.append(answer.outputs[0].as_numpy())
        assert answer.id == "seven"
    rpc = InferenceGRPCClient(grpc_address)
    assert await rpc.is_server_live() and await rpc.is_server_ready() and await rpc.is_model_ready("zoo")
    for binary in (True, False):
        answer = await rpc.infer(asked(binary))
        results.append(answer.outputs[0].as_numpy())
    assert results[0].shape == (5, 3)
    assert len({result.astype(np.float32).tobytes() for result in results}) == 1, results


asyncio.run(main())
sys.stdout.write("agreed\n")
