"""What tritonclient gets from our server, by http, aio and grpc; run in an environment of its own by test_clients.py."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

X = np.random.default_rng(1).standard_normal((5, 8, 8)).astype(np.float32)
STRINGS = {"animal": [["dog", "cow"], [2]], "day": [["1999-12-31", "2024-02-28"], [2]]}
STRINGS["pair"] = [["cat", "dog", "cow", "éléphant"], [2, 2]]
http_address, grpc_address, repository_http, repository_grpc = sys.argv[1:]


def tensor(module, name, array, datatype, **how):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def strings(module, **how):
    made = []
    for name, (values, shape) in STRINGS.items():
        array = np.array([value.encode() for value in values], object).reshape(shape)
        made.append(tensor(module, name, array, "BYTES", **how))
    return made


def check(results):
    first = results[0]
    assert first.shape == (5, 3)
    assert first.dtype == np.float32
    for other in results[1:]:
        assert first.tobytes() == other.tobytes()


def refused(call, says):
    try:
        call()
    except InferenceServerException as error:
        assert says in str(error), error
    else:
        raise AssertionError(f"not refused: {says}")


def over_http():
    client, results = http.InferenceServerClient(http_address), []
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("zoo")
    assert client.is_model_ready("zoo", "1") and not client.is_model_ready("zo")
    assert client.get_server_metadata()["name"] == "arsenal-serve"
    assert client.get_model_config("zoo", "1")["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [8, 8]}]
    metadata = client.get_model_metadata("zoo", "1")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8]}]
    for binary_in in (True, False):
        for outputs in (None, [http.InferRequestedOutput("predict", binary_data=True)], "json"):
            if outputs == "json":
                outputs = [http.InferRequestedOutput("predict", binary_data=False)]
            for squeeze in (None, "gzip", "deflate"):
                answer = client.infer(
                    "zoo",
                    [tensor(http, "x", X, "FP32", binary_data=binary_in)],
                    outputs=outputs,
                    request_id="seven",
                    timeout=20_000_000,
                    request_compression_algorithm=squeeze,
                    response_compression_algorithm=squeeze,
                )
                results.append(answer.as_numpy("predict"))
                assert answer.get_response()["id"] == "seven"
    for binary in (True, False):
        answer = client.infer("zoo.embed", strings(http, binary_data=binary))
        assert answer.as_numpy("next_day").tolist() in ([b"2000-01-01", b"2024-02-29"], ["2000-01-01", "2024-02-29"])
    half = client.infer("zoo.label", [tensor(http, "x", X, "FP32")])
    assert half.as_numpy("more.scores").shape == (5, 3)
    assert client.get_inference_statistics("zoo")["model_stats"][0]["inference_stats"]["success"]["count"] >= 18
    refused(lambda: client.infer("zoo", [tensor(http, "y", X, "FP32")]), "unknown input 'y'")
    refused(lambda: client.infer("zoo", [tensor(http, "x", X[:, :7], "FP32")]), "must be float32 [batch, 8, 8]")
    refused(lambda: client.get_model_metadata("zo"), "did you mean 'zoo'")
    pending = [client.async_infer("zoo", [tensor(http, "x", X, "FP32")]) for _ in range(8)]
    return results + [each.get_result().as_numpy("predict") for each in pending]


async def over_http_aio():
    client = http_aio.InferenceServerClient(http_address)
    assert await client.is_model_ready("zoo")
    asked = [client.infer("zoo", [tensor(http, "x", X, "FP32")]) for _ in range(8)]
    results = [answer.as_numpy("predict") for answer in await asyncio.gather(*asked)]
    await client.close()
    return results


def over_grpc():
    client, results = grpc.InferenceServerClient(grpc_address), []
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("zoo")
    assert client.get_server_metadata().name == "arsenal-serve"
    assert list(client.get_model_metadata("zoo").inputs[0].shape) == [-1, 8, 8]
    for squeeze in (None, "gzip", "deflate"):
        answer = client.infer(
            "zoo",
            [tensor(grpc, "x", X, "FP32")],
            outputs=[grpc.InferRequestedOutput("predict")],
            request_id="seven",
            client_timeout=20,
            compression_algorithm=squeeze,
        )
        results.append(answer.as_numpy("predict"))
        assert answer.get_response().id == "seven"
    assert client.infer("zoo.embed", strings(grpc)).as_numpy("next_day").tolist() == [b"2000-01-01", b"2024-02-29"]
    assert client.get_inference_statistics("zoo").model_stats[0].inference_stats.success.count > 0
    refused(lambda: client.infer("zoo", [tensor(grpc, "y", X, "FP32")]), "unknown input 'y'")
    refused(lambda: client.get_model_metadata("zo"), "did you mean 'zoo'")
    return results


async def over_grpc_aio():
    client = grpc_aio.InferenceServerClient(grpc_address)
    asked = [client.infer("zoo", [tensor(grpc, "x", X, "FP32")]) for _ in range(8)]
    results = [answer.as_numpy("predict") for answer in await asyncio.gather(*asked)]
    await client.close()
    return results


def of_repository():
    client = http.InferenceServerClient(repository_http)
    for control, index in ((client, client.get_model_repository_index), (grpc.InferenceServerClient(repository_grpc), None)):
        control.unload_model("scale")
        assert not control.is_model_ready("scale")
        control.load_model("scale", config=json.dumps({"version_policy": {"all": {}}}))
        assert control.is_model_ready("scale", "1") and control.is_model_ready("scale", "2")
        rows = index() if index else [{"name": m.name, "state": m.state} for m in control.get_model_repository_index().models]
        assert [row["state"] for row in rows if row["name"] == "scale"] == ["READY", "READY"]


check([*over_http(), *asyncio.run(over_http_aio()), *over_grpc(), *asyncio.run(over_grpc_aio())])
of_repository()
sys.stdout.write("agreed\n")
