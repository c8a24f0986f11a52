"""gRPC over sockets: typed and raw contents, errors by code, health, reflection; messages from a pool of our own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
from conftest import example, methods
from tensors import tensor

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.protocols import protos
from arsenal_serving.protocols.open_inference import DATATYPES
from arsenal_serving.protocols.rpc import CONTENTS

X = example()
POOL = protos.pool()


class Client:
    """A channel that calls by method name with keyword arguments."""

    def __init__(self, port: int):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def __call__(self, name: str, request=None, /, service: str = "inference.GRPCInferenceService", **fields):
        described = POOL.FindServiceByName(service).methods_by_name[name]
        asked, answered = (protos.message(POOL, m.full_name) for m in (described.input_type, described.output_type))
        stub = self.channel.unary_unary(f"/{service}/{name}", asked.SerializeToString, answered.FromString)
        return stub(request if request is not None else asked(**fields), timeout=20)


@pytest.fixture(scope="module")
def served(folder):
    command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--grpc-port", "0"]
    command += ["--max-batch", "8", "--max-rows", "100", "--max-body", "200000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.search(r"grpc://127\.0\.0\.1:(\d+)", line)
    assert found, (line, process.stderr.read())
    yield Client(int(found[1]))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def request(arrays: dict, raw: bool, model: str = "zoo", **fields):
    made = protos.message(POOL, "inference.ModelInferRequest")(model_name=model, **fields)
    for name, array in arrays.items():
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        added = made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            made.raw_input_contents.append(array.tobytes())
        else:
            values = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
            getattr(added.contents, f"{CONTENTS[datatype]}_contents").extend(values)
    return made


def test_raw_and_typed_contents_give_the_bits_of_http(served, server):
    wanted = np.float32(server.infer("zoo", tensor(X)).body["outputs"][0]["data"])
    raw = served("ModelInfer", request({"x": X}, True, id="7"))
    assert (raw.id, raw.model_name, raw.model_version, list(raw.outputs[0].shape)) == ("7", "zoo", "1", [5, 3])
    assert same_bits(np.frombuffer(raw.raw_output_contents[0], np.float32), wanted)
    typed = served("ModelInfer", request({"x": X}, False))
    assert same_bits(np.float32(typed.outputs[0].contents.fp32_contents), wanted)
    assert not typed.raw_output_contents


def test_every_type_and_strings(served):
    arrays = {key: np.array(value) for key, value in methods()["types"].example.items()}
    reply = served("ModelInfer", request(arrays, False, "zoo.types"))
    for output in reply.outputs:
        value = arrays[output.name]
        got = list(getattr(output.contents, f"{CONTENTS[output.datatype]}_contents"))
        assert got == (~value if value.dtype == bool else value + value.dtype.type(1)).tolist()
    strings = {"animal": ["dog"], "day": ["2024-02-28"], "pair": [["cat", "éléphant"]]}
    asked = request({k: np.array(v, object) for k, v in strings.items()}, False, "zoo.embed")
    asked.outputs.add(name="pair")
    asked.outputs.add(name="next_day")
    reply = served("ModelInfer", asked)
    found = [[text.decode() for text in output.contents.bytes_contents] for output in reply.outputs]
    assert found == [["cat", "éléphant"], ["2024-02-29"]]


def broken(change):
    asked = request({"x": X[:1]}, False)
    change(asked)
    return asked


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (broken(lambda r: r.inputs[0].shape.append(1 << 62)), "INVALID_ARGUMENT", "must hold"),
        (broken(lambda r: r.inputs[0].contents.fp32_contents.pop()), "INVALID_ARGUMENT", "must hold 64"),
        (broken(lambda r: r.inputs[0].contents.int_contents.append(1)), "INVALID_ARGUMENT", "got 'int_contents'"),
        (broken(lambda r: r.raw_input_contents.append(b"x")), "INVALID_ARGUMENT", "though 'raw_input_contents'"),
        (broken(lambda r: r.raw_input_contents.extend([b"x"] * 2)), "INVALID_ARGUMENT", "one for each of 1 inputs"),
        (broken(lambda r: setattr(r.inputs[0], "datatype", "FP64")), "INVALID_ARGUMENT", "must have datatype FP32"),
        (broken(lambda r: r.outputs.add(name="predct")), "INVALID_ARGUMENT", "did you mean 'predict'"),
        (broken(lambda r: setattr(r.outputs.add(name="predict").parameters["classification"], "int64_param", 2)),
         "INVALID_ARGUMENT", "'classification' is not served here"),
        (broken(lambda r: setattr(r, "model_name", "zo")), "NOT_FOUND", "did you mean 'zoo'"),
        (broken(lambda r: setattr(r, "model_version", "9")), "NOT_FOUND", "no version '9'"),
        (request({"x": X[:1, :7]}, True), "INVALID_ARGUMENT", "got float32 [1, 7, 8]"),
        (request({"x": np.zeros((1000, 8, 8), np.float32)}, True), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_errors_have_codes_and_say_what_is_wrong(served, asked, code, says):
    with pytest.raises(grpc.RpcError) as caught:
        served("ModelInfer", asked)
    assert (caught.value.code().name, says in caught.value.details()) == (code, True), caught.value.details()


@pytest.mark.parametrize("raw", [True, False])
def test_no_rows_are_answered_with_no_rows(served, raw):
    answer = served("ModelInfer", request({"x": X[:0]}, raw))
    assert list(answer.outputs[0].shape) == [0, 3]


def test_metadata_index_statistics_and_control(served):
    assert not served("ModelReady", name="zo").ready and not served("ModelReady", name="zoo", version="9").ready
    assert served("ServerLive").live and served("ServerReady").ready and served("ModelReady", name="zoo.label").ready
    assert served("ServerMetadata").name == "arsenal-serve"
    found = served("ModelMetadata", name="zoo")
    assert (list(found.versions), list(found.inputs[0].shape), found.inputs[0].datatype) == (["1"], [-1, 8, 8], "FP32")
    assert [(m.name, m.version, m.state) for m in served("RepositoryIndex").models] == [("zoo", "1", "READY")]
    before = served("ModelStatistics", name="zoo").model_stats[0]
    served("ModelInfer", request({"x": X}, True))
    after = served("ModelStatistics", name="zoo", version="1").model_stats[0]
    assert after.inference_count == before.inference_count + 5
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert len(served("ModelStatistics").model_stats) == len(methods())
    with pytest.raises(grpc.RpcError) as caught:
        served("RepositoryModelUnload", model_name="zoo")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_health_is_watched_and_checked(served):
    health = "grpc.health.v1.Health"
    assert served("Check", service=health).status == 1
    ask = protos.message(POOL, f"{health}CheckRequest")
    with pytest.raises(grpc.RpcError, match="no such service"):
        served("Check", ask(service="other"), service=health)
    answer = protos.message(POOL, "grpc.health.v1.HealthCheckResponse")
    watch = served.channel.unary_stream(f"/{health}/Watch", ask.SerializeToString, answer.FromString)
    assert next(watch(ask(), timeout=5)).status == 1


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_services_and_gives_their_files(served, version):
    package = f"grpc.reflection.{version}"
    ask, answer = (protos.message(POOL, f"{package}.ServerReflection{kind}") for kind in ("Request", "Response"))
    path = f"/{package}.ServerReflection/ServerReflectionInfo"
    stream = served.channel.stream_stream(path, ask.SerializeToString, answer.FromString)
    symbol = "inference.GRPCInferenceService"
    questions = [ask(list_services=""), ask(file_containing_symbol=symbol), ask(file_by_filename="no.proto"), ask()]
    listed, file, missing, empty = stream(iter(questions), timeout=10)
    assert symbol in [service.name for service in listed.list_services_response.service]
    assert b"ModelInferRequest" in file.file_descriptor_response.file_descriptor_proto[0]
    assert missing.error_response.error_code == empty.error_response.error_code == 5


def test_protobufs_own_pool_is_left_alone():
    from google.protobuf import descriptor_pool

    for name in ("inference.ModelInferRequest", "grpc.health.v1.HealthCheckRequest"):
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(name)
