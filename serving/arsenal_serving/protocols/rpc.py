"""gRPC over the engine, on the same event loop: the Open Inference Protocol, version 2, health and reflection.

https://github.com/kserve/open-inference-protocol  (specification/protocol/inference_grpc.md). An answer comes as raw
contents where the request's were raw, or where an output is of 16 bits, for which there are no typed ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
import orjson
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from arsenal_serving import __version__
from arsenal_serving.calls import ADMIN, INFER, LIVE, READ, Call, Stop
from arsenal_serving.model import Loaded, Port
from arsenal_serving.protocols import open_inference, protos
from arsenal_serving.protocols.serving import EXTENSIONS, Serving, change, check_control, find, infer
from arsenal_serving.protocols.tracing import identify
from arsenal_serving.refused import Full, Refused, show
from arsenal_serving.repository.engine import Expired
from arsenal_serving.repository.models import Missing, Unready
from arsenal_serving.security.principal import may
from arsenal_serving.security.tls import Tls

SERVICE = "inference.GRPCInferenceService"
CONTENTS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
CONTENTS |= dict.fromkeys(("INT8", "INT16", "INT32"), "int") | dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint")
CODES: dict[type[Exception], grpc.StatusCode] = {
    Refused: grpc.StatusCode.INVALID_ARGUMENT,
    Missing: grpc.StatusCode.NOT_FOUND,
    Unready: grpc.StatusCode.UNAVAILABLE,
    Full: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
}
STOPPED = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
EXPECTED: tuple[type[Exception], ...] = (*CODES, Stop)
# The word for each method in logs and metrics, and what its caller must be allowed; others are open to all.
METHODS = {
    "ServerLive": ("live", LIVE),
    "ServerReady": ("ready", LIVE),
    "ServerMetadata": ("server", LIVE),
    "ModelReady": ("ready", READ),
    "ModelMetadata": ("metadata", READ),
    "ModelInfer": ("infer", INFER),
    "ModelStatistics": ("stats", READ),
    "RepositoryIndex": ("index", READ),
    "RepositoryModelLoad": ("load", ADMIN),
    "RepositoryModelUnload": ("unload", ADMIN),
    "Check": ("health", LIVE),
}
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
NO_SUCH = 5  # NOT_FOUND as a number, in reflection's own errors


class Rpc:
    """A gRPC server over what is served; `start` listens, `stop` drains.

    recognise: raises `Stop` for a caller that is not known, before the message is read that `Serving.admit` needs.
    shares_port: with other processes.
    """

    def __init__(
        self, serving: Serving, recognise: Callable[[Call], Any] | None = None, shares_port: bool = False
    ) -> None:
        self._serving, self._repository = serving, serving.repository
        self._pool = protos.pool()
        self._stopping = asyncio.Event()
        options = [
            ("grpc.max_receive_message_length", serving.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(shares_port)),
        ]
        doors = [] if recognise is None else [_Door(recognise, self._observe)]
        self._server = grpc.aio.server(options=options, interceptors=doors)
        calls = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        self._add(SERVICE, calls)
        self._add("grpc.health.v1.Health", {"Check": self._check, "Watch": self._watch})
        for version in ("v1", "v1alpha"):
            self._add(f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": self._reflection})

    async def start(self, host: str, port: int, tls: Tls | None = None) -> int:
        """Listen; the port, for 0 picks a free one. Raises `Refused` for an address that cannot be had."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                bound = self._server.add_insecure_port(place)
            else:
                bound = self._server.add_secure_port(place, grpc.ssl_server_credentials([(tls.key, tls.chain)]))
        except RuntimeError as error:
            raise Refused(f"cannot listen on {host}:{port} for gRPC: {error}") from error
        await self._server.start()
        return bound

    async def stop(self, seconds: float) -> None:
        """Take nothing new and finish what is in flight, for so long at most."""
        self._stopping.set()
        await self._server.stop(seconds)

    def _message(self, name: str) -> Any:
        return protos.message(self._pool, name)

    def _add(self, service: str, calls: dict[str, Callable]) -> None:
        described = self._pool.FindServiceByName(service)
        handlers = {}
        for method in described.methods:
            asked, answered = self._message(method.input_type.full_name), self._message(method.output_type.full_name)
            coders = {"request_deserializer": _decoder(asked), "response_serializer": answered.SerializeToString}
            call = calls[method.name]
            if method.client_streaming:
                handlers[method.name] = grpc.stream_stream_rpc_method_handler(self._stream(call, answered), **coders)
            elif method.server_streaming:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(self._stream(call, answered), **coders)
            else:
                guarded = self._guard(method.name, call, answered)
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(guarded, **coders)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _guard(self, name: str, call: Callable[..., Awaitable[None]], answered: Any) -> Callable:
        """The handler of a method: admitted before, observed after, with every error as a code."""

        async def handler(request: Any, context: Any) -> Any:
            answer = answered()
            made = _make_call(context)
            echo = (("x-request-id", made.id),)
            context.set_trailing_metadata(echo)
            made.operation, need = METHODS[name]
            code, said = grpc.StatusCode.OK, ""
            try:
                if request is None:
                    raise Refused("the request is not the message that this method takes.")
                made.model = getattr(request, "model_name", "") or getattr(request, "name", "")
                self._serving.admit(made, need)
                await call(request, answer, context, made)
            except EXPECTED as error:
                if isinstance(error, Full):
                    context.set_trailing_metadata((*echo, ("retry-after", str(error.seconds))))
                if isinstance(error, Stop):
                    code = _stop(error, context, echo)
                else:
                    code = next(code for kind, code in CODES.items() if isinstance(error, kind))
                said = str(error)
            except asyncio.CancelledError:
                self._observe(made, "CANCELLED", "")
                raise
            except Exception:
                made.error = traceback.format_exc()
                code, said = grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"
            self._observe(made, code.name, made.error or said)
            if said:
                await context.abort(code, said)
            return answer

        return handler

    def _stream(self, call: Callable[..., AsyncIterator[Any]], answered: Any) -> Callable:
        async def handler(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                self._serving.admit(_make_call(context), READ)
            except Stop as error:
                await context.abort(_stop(error, context), str(error))
            if request is None:
                said = "the request is not the message that is taken here."
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, said)
            async for answer in call(request, answered, context):
                yield answer

        return handler

    def _observe(self, call: Call, status: str, error: str) -> None:
        call.status, call.error, call.seconds = status, error, time.perf_counter() - call.began
        for observer in self._serving.observers:
            observer(call)

    async def _server_live(self, _request: Any, answer: Any, _context: Any, _call: Call) -> None:
        answer.live = True

    async def _server_ready(self, _request: Any, answer: Any, _context: Any, _call: Call) -> None:
        answer.ready = self._repository.started

    async def _model_ready(self, request: Any, answer: Any, _context: Any, call: Call) -> None:
        try:
            find(self._serving, call, request.version or None)
        except (Unready, Missing):  # as Triton: it is a question whether, not for something
            return
        answer.ready = True

    async def _server_metadata(self, _request: Any, answer: Any, _context: Any, _call: Call) -> None:
        answer.name, answer.version = "arsenal-serve", __version__
        answer.extensions.extend(EXTENSIONS[1:])

    async def _model_metadata(self, request: Any, answer: Any, _context: Any, call: Call) -> None:
        what = find(self._serving, call, request.version or None)
        answer.name, answer.platform = request.name, "jax_export"
        answer.versions.extend(what.versions)
        for ports, tensors in ((what.method.inputs, answer.inputs), (what.method.outputs, answer.outputs)):
            for port in ports:
                said = open_inference.describe(port)
                tensors.add(name=said["name"], datatype=said["datatype"], shape=said["shape"])

    async def _infer(self, request: Any, answer: Any, context: Any, call: Call) -> None:
        what = find(self._serving, call, request.model_version or None)
        inputs = _inputs(what.method, request)
        wanted = _outputs(what.method, request)
        parameters = _plain(request.parameters, "the request")
        waits = (open_inference.read_timeout(parameters.get("timeout")), context.time_remaining())
        seconds = min([wait for wait in waits if wait is not None], default=None)
        answers = await infer(self._serving, what, call, inputs, seconds)
        answer.model_name, answer.model_version = request.model_name, call.version
        answer.id = request.id
        ports = open_inference.select(what.method, wanted)
        typed = all(open_inference.datatype_name(port) in CONTENTS for port in ports)
        raw = bool(request.raw_input_contents) or not typed
        for port in ports:
            datatype, array = open_inference.datatype_name(port), answers[port.name]
            tensor = answer.outputs.add(name=port.name, datatype=datatype, shape=array.shape)
            if raw:
                answer.raw_output_contents.append(open_inference.to_bytes(array))
            else:
                values = array.ravel().tolist()
                contents = [text.encode() for text in values] if port.code else values
                getattr(tensor.contents, f"{CONTENTS[datatype]}_contents").extend(contents)

    async def _statistics(self, request: Any, answer: Any, _context: Any, call: Call) -> None:
        if request.name:
            find(self._serving, call, request.version or None)
        counts = self._repository.statistics(
            request.name or None, request.version or None, lambda name: may(call.scopes, READ, name)
        )
        for counted in counts["model_stats"]:
            del counted["late_compiles"]  # the message has no field for it
            row = answer.model_stats.add(**{key: counted[key] for key in counted if type(counted[key]) in (str, int)})
            for part, cell in counted["inference_stats"].items():
                _fill(getattr(row.inference_stats, part), cell)
            for batch in counted["batch_stats"]:
                line = row.batch_stats.add(batch_size=batch["batch_size"])
                for part in batch.keys() - {"batch_size"}:
                    _fill(getattr(line, part), batch[part])

    async def _index(self, request: Any, answer: Any, _context: Any, call: Call) -> None:
        for row in self._repository.index(request.ready):
            if may(call.scopes, READ, row["name"]):
                answer.models.add(**row)

    async def _load(self, request: Any, _answer: Any, _context: Any, call: Call) -> None:
        check_control(self._serving)
        parameters = _plain(request.parameters, "the request", ("config",))
        try:
            config = orjson.loads(parameters["config"]) if "config" in parameters else None
        except (orjson.JSONDecodeError, TypeError) as error:
            raise Refused(f"'config' is not JSON: {error}.") from error
        await change(call, partial(self._repository.load, request.model_name, config, call.principal))

    async def _unload(self, request: Any, _answer: Any, _context: Any, call: Call) -> None:
        check_control(self._serving)
        await change(call, partial(self._repository.unload, request.model_name, call.principal))

    def _status(self, service: str) -> int:
        if service not in ("", SERVICE):
            return SERVICE_UNKNOWN
        return SERVING if self._repository.started and not self._stopping.is_set() else NOT_SERVING

    async def _check(self, request: Any, answer: Any, _context: Any, _call: Call) -> None:
        answer.status = self._status(request.service)
        if answer.status == SERVICE_UNKNOWN:
            raise Missing(f"no such service: {show(request.service)}")

    async def _watch(self, request: Any, made: Callable[[], Any], _context: Any) -> AsyncIterator[Any]:
        said = None
        while said != self._status(request.service) or not self._stopping.is_set():
            if said != self._status(request.service):
                said = self._status(request.service)
                answer = made()
                answer.status = said
                yield answer
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), 0.5)

    async def _reflection(
        self, requests: AsyncIterator[Any], made: Callable[[], Any], _context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            if request is not None:
                yield reflect(self._pool, request, made())


class _Door(grpc.aio.ServerInterceptor):
    """Turns strangers away at the head of a call; gRPC would read their message, however long, for a handler."""

    def __init__(self, recognise: Callable[[Call], Any], observed: Callable[[Call, str, str], None]):
        self._recognise, self._observe = recognise, observed

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a call, or one that ends it."""
        handler = await continuation(details)
        operation, need = METHODS.get(details.method.rpartition("/")[2], ("stream", READ))
        if handler is None or need == LIVE:
            return handler
        try:
            self._recognise(Call("grpc", _headers(details.invocation_metadata)))
        except Stop:
            # On the wire a call of one message is a stream of one; this handler does not wait for it.
            return grpc.stream_stream_rpc_method_handler(partial(self._refuse, operation))
        return handler

    async def _refuse(self, operation: str, _requests: Any, context: Any) -> AsyncIterator[bytes]:
        made = _make_call(context)
        made.operation = operation
        error = Stop(401, "who asks is not known.")
        try:
            self._recognise(made)  # once more, now that the address is known, whose tries are counted
        except Stop as stop:
            error = stop
        code = _stop(error, context)
        self._observe(made, code.name, str(error))
        await context.abort(code, str(error))
        yield b""  # never: it makes this a stream


def reflect(pool: descriptor_pool.DescriptorPool, request: Any, answer: Any) -> Any:
    """The answer to one question of reflection; files come with no imports, for none has any."""
    answer.valid_host = request.host
    answer.original_request.CopyFrom(request)
    kind = request.WhichOneof("message_request")
    asked = getattr(request, kind) if kind else None
    try:
        if kind == "list_services":
            for name in ("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", SERVICE):
                answer.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            answer.file_descriptor_response.file_descriptor_proto.append(pool.FindFileByName(asked).serialized_pb)
        elif kind == "file_containing_symbol":
            file = pool.FindFileContainingSymbol(asked)
            answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
        elif kind == "all_extension_numbers_of_type":
            pool.FindMessageTypeByName(asked)
            answer.all_extension_numbers_response.base_type_name = asked
        else:
            raise KeyError
    except KeyError:
        answer.error_response.error_code = NO_SUCH
        answer.error_response.error_message = f"not found: {show(str(asked))}"
    return answer


def _inputs(method: Loaded, request: Any) -> dict[str, np.ndarray]:
    ports, inputs = {port.name: port for port in method.inputs}, dict[str, np.ndarray]()
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"'raw_input_contents' must hold one for each of {len(request.inputs)} inputs; got {len(raw)}.")
    for at, tensor in enumerate(request.inputs):
        port = open_inference.find_input(method, ports, tensor.name, inputs)
        _plain(tensor.parameters, f"input {tensor.name!r}")
        if raw and tensor.HasField("contents"):
            raise Refused(f"input {tensor.name!r} has 'contents' though 'raw_input_contents' are there.")
        shape = list(tensor.shape)
        inputs[port.name] = (
            open_inference.read_bytes(port, tensor.datatype, shape, raw[at]) if raw else _contents(port, tensor, shape)
        )
    return inputs


def _contents(port: Port, tensor: Any, shape: list[int]) -> np.ndarray:
    where = f"input {port.name!r}"
    shape = open_inference.check_shape(port, tensor.datatype, shape)
    if tensor.datatype not in CONTENTS:
        raise Refused(f"{where} must come in 'raw_input_contents': there are no typed contents for {tensor.datatype}.")
    wanted = f"{CONTENTS[tensor.datatype]}_contents"
    for field, _ in tensor.contents.ListFields():
        if field.name != wanted:
            raise Refused(f"'contents' of {where} must be in {wanted!r} for {tensor.datatype}; got {field.name!r}.")
    values, count = getattr(tensor.contents, wanted), math.prod(shape)
    if len(values) != count:
        raise Refused(f"{wanted!r} of {where} must hold {count} for the shape {show(shape)}; got {len(values)}.")
    if tensor.datatype == "BYTES":
        try:
            return np.array([value.decode() for value in values], dtype=object).reshape(shape)
        except UnicodeDecodeError as error:
            raise Refused(f"{where} must be UTF-8; got {show(error.object[error.start : error.end])}.") from error
    array = np.array(list(values), dtype=np.int64 if CONTENTS[tensor.datatype] in ("int", "uint") else port.dtype)
    if port.dtype.itemsize < 4 and port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            wrong = array[(array < limits.min) | (array > limits.max)][0]
            raise Refused(f"{wanted!r} of {where} must lie in {limits.min} to {limits.max}; got {wrong}.")
    return array.astype(port.dtype, copy=False).reshape(shape)


def _outputs(method: Loaded, request: Any) -> list[str]:
    known, names = [port.name for port in method.outputs], list[str]()
    for output in request.outputs:
        open_inference.check_output(method, known, output.name, names)
        _plain(output.parameters, f"output {output.name!r}")
        names.append(output.name)
    return names


def _plain(parameters: Any, what: str, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """A map of parameters as a dict; raises `Refused` for what is not served."""
    found = {key: getattr(value, value.WhichOneof("parameter_choice") or "", None) for key, value in parameters.items()}
    open_inference.check_parameters(found)
    for key in found:
        if only is not None and key not in only:
            raise Refused(f"the parameter {show(key)} of {what} is not served here; there is: {', '.join(only)}.")
    return found


def _fill(duration: Any, cell: dict) -> None:
    duration.count, duration.ns = cell["count"], cell["ns"]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _make_call(context: Any) -> Call:
    made = Call("grpc", _headers(context.invocation_metadata()), _address(context.peer()))
    identify(made)
    return made


def _headers(metadata: Any) -> dict[bytes, bytes]:
    return {_bytes(key): _bytes(value) for key, value in metadata}


def _stop(error: Stop, context: Any, echo: tuple = ()) -> grpc.StatusCode:
    context.set_trailing_metadata((*echo, *((key.decode(), text.decode()) for key, text in error.headers)))
    return STOPPED.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)


def _address(peer: str) -> str:
    """The host in gRPC's word for a peer, ipv4:HOST:PORT or ipv6:[HOST]:PORT in percent signs."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _decoder(asked: Any) -> Callable[[bytes], Any]:
    # gRPC would call it an internal error, with a traceback in the log, if this raised.
    def decode(content: bytes) -> Any:
        try:
            return asked.FromString(content)
        except DecodeError:
            return None

    return decode
