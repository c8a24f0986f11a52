"""HTTP over the engine, a raw ASGI application: the Open Inference Protocol, version 2, and the friendly `/predict`.

Routes, and Triton's extensions to them: binary tensors, statistics, model repository; gzip and deflate both ways. The
model `NAME` is its default method, `NAME.METHOD` is each method. See `protocol` and `records` for the bodies.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving import __version__, protocol, records
from arsenal_serving.calls import ADMIN, INFER, LIVE, READ, Admit, Call, Observer, Stop, anybody
from arsenal_serving.engine import Engine, Expired, Full, Gone
from arsenal_serving.refused import Refused, shown
from arsenal_serving.repository import Found, Missing, Repository, Unready

MAX_BODY = 64 << 20
INLINE_BODY = 256 << 10  # longer JSON is parsed and written on a thread
KINDS = (b"application/json", b"application/octet-stream")
COMPRESSED = 1 << 10  # shorter answers are not worth it
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]
WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's word for the container

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]


class Answer(NamedTuple):
    """What goes back: `status`, a body that JSON can hold or its bytes, and further headers."""

    status: int
    body: Any
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"application/json"


class Serving(NamedTuple):
    """What a protocol answers from, and what stands around an answer, see `calls`.

    control: whether clients may load and unload.
    """

    repository: Repository
    engine: Engine
    max_body: int = MAX_BODY
    control: bool = False
    admit: Admit = anybody
    observers: tuple[Observer, ...] = ()


_aside = ThreadPoolExecutor(1, thread_name_prefix="bodies")


def application(serving: Serving) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application; it may answer before the repository has started, and says then that it is not ready."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call("http", dict(scope["headers"]), (scope.get("client") or ("",))[0])
        try:
            answer = await _route(serving, scope, call, receive)
        except Exception as error:
            answer = failed(error)
            call.error = str(error)
        if answer is not None:
            await _send(call, send, answer)
            call.status = answer.status
        call.seconds = time.perf_counter() - call.began
        for observer in serving.observers:
            observer(call)

    return app


def failed(error: Exception) -> Answer | None:
    """The answer to a request that ended with an error; None when nobody is there to read it."""
    match error:
        case Stop():
            return Answer(error.status, {"error": str(error)}, error.headers)
        case Refused():
            return Answer(400, {"error": str(error)})
        case Missing():
            return Answer(404, {"error": str(error)})
        case Unready():
            return Answer(503, {"error": str(error)}, ((b"retry-after", b"1"),))
        case Full():
            return Answer(429, {"error": str(error)}, ((b"retry-after", str(error.seconds).encode()),))
        case Expired():
            return Answer(504, {"error": str(error)})
        case Gone():
            return None
    sys.stderr.write("".join(traceback.format_exception(error)))
    return Answer(500, {"error": "internal error; the server's log has the details"})


async def _route(serving: Serving, scope: Scope, call: Call, receive: Receive) -> Answer | None:
    """The answer for a path; None when the client has gone."""
    repository = serving.repository

    def admitted(verb: str, operation: str, need: str = READ, model: str = "") -> None:
        call.operation, call.model = operation, model
        serving.admit(call, need)
        _only(scope, verb)

    match [part for part in scope["path"].split("/") if part]:
        case ["v2", "models", name, *rest] if [name, *rest] != ["stats"]:
            version, rest = _version(rest)
            if rest not in ([], ["ready"], ["infer"], ["stats"]):
                raise _no_path(scope)
            operation = rest[0] if rest else "metadata"
            if operation == "infer":
                admitted("POST", operation, INFER, name)
                return await _infer(serving, found(serving, call, version), call, receive)
            admitted("GET", operation, model=name)
            what = found(serving, call, version)
            if operation == "stats":
                return Answer(200, repository.statistics(name, version))
            metadata = protocol.metadata(what.model, what.method, name, what.versions)
            return Answer(200, {"name": name, "ready": True} if rest else metadata)
        case ["v2"]:
            admitted("GET", "server", LIVE)
            return Answer(200, {"name": "arsenal-serve", "version": __version__, "extensions": EXTENSIONS})
        case ["v2", "health", "live"]:
            admitted("GET", "live", LIVE)
            return Answer(200, {"live": True})
        case ["v2", "health", "ready"]:
            admitted("GET", "ready", LIVE)
            return Answer(200 if repository.started else 503, {"ready": repository.started})
        case ["v2", "models", "stats"]:
            admitted("GET", "stats")
            return Answer(200, repository.statistics())
        case ["v2", "repository", "index"]:
            admitted("POST", "index")
            if (body := await _body(serving, call, receive, KINDS)) is None:
                return None
            asked = _json(body)
            protocol.check_object(asked, "the body", set(), {"ready"})
            return Answer(200, repository.index(asked.get("ready") is True))
        case ["v2", "repository", "models", name, "load" | "unload" as operation]:
            admitted("POST", operation, ADMIN, name)
            return await _change(serving, call, receive)
        case ["predict"]:
            names = list(repository.models)
            admitted("POST", "predict", INFER, names[0] if len(names) == 1 else "")
            if len(names) > 1:
                paths = ", ".join(f"/models/{name}/predict" for name in names[:5])
                raise Stop(404, f"/predict is there where one model is served; here are {paths}.")
            return await _predict(serving, found(serving, call, None), call, receive)
        case ["models", name, *rest]:
            version, rest = _version(rest)
            if rest != ["predict"]:
                raise _no_path(scope)
            admitted("POST", "predict", INFER, name)
            return await _predict(serving, found(serving, call, version), call, receive)
        case ["openapi.json"]:
            admitted("GET", "openapi")
            return Answer(200, records.openapi(repository.models))
    raise _no_path(scope)


async def _infer(serving: Serving, found: Found, call: Call, receive: Receive) -> Answer | None:
    body = await _body(serving, call, receive, KINDS)
    if body is None:
        return None
    header = _header_length(call.headers)
    large = len(body) > INLINE_BODY and header is None
    request = await _maybe_aside(large, lambda: protocol.parse(found.method, body, header, call.model))
    answers = await answered(serving, found, call, request.inputs, request.seconds, lambda: _disconnected(receive))
    text, length = await _maybe_aside(
        _large(answers), lambda: protocol.written(found.model, found.method, call.model, request, answers)
    )
    if length is None:
        return Answer(200, text)
    said = ((b"inference-header-content-length", str(length).encode()),)
    return Answer(200, text, said, b"application/octet-stream")


async def _predict(serving: Serving, found: Found, call: Call, receive: Receive) -> Answer | None:
    body = await _body(serving, call, receive, (b"application/json",))
    if body is None:
        return None
    model, method = found.model, found.method
    inputs = await _maybe_aside(len(body) > INLINE_BODY, lambda: records.parse(method, body))
    answers = await answered(serving, found, call, inputs, None, lambda: _disconnected(receive))
    text = await _maybe_aside(_large(answers), lambda: records.written(model, method, call.model, answers))
    return Answer(200, text)


async def answered(
    serving: Serving,
    found: Found,
    call: Call,
    inputs: dict[str, np.ndarray],
    seconds: float | None,
    gone: Callable[[], Awaitable[Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The named answers to named inputs, as `Engine.infer`, noted in the call."""
    call.inputs = inputs
    call.answers = answers = await serving.engine.infer(
        found.model, found.method.name, inputs, found.statistics, seconds=seconds, gone=gone
    )
    return answers


async def _change(serving: Serving, call: Call, receive: Receive) -> Answer | None:
    """Load or unload a model."""
    body = await _body(serving, call, receive, KINDS)
    if body is None:
        return None
    check_control(serving)
    asked = _json(body)
    protocol.check_object(asked, "the body", set(), {"parameters"})
    parameters = asked.get("parameters", {})
    protocol.check_object(parameters, "'parameters'", set(), {"config", "unload_dependents"})
    if call.operation == "unload":
        await asyncio.to_thread(serving.repository.unload, call.model)
    else:
        config = _json(parameters.get("config"), "'config'") if "config" in parameters else None
        await asyncio.to_thread(serving.repository.load, call.model, config)
    return Answer(200, {})


def check_control(serving: Serving) -> None:
    """Raise `Stop` where clients may not load and unload."""
    if not serving.control:
        raise Stop(403, "load and unload are off; start the server with --control to allow them.")
    if not serving.repository.many:
        raise Stop(403, "one artifact is served; load and unload work on a folder of NAME/VERSION/.")


def _json(content: Any, what: str = "the body") -> Any:
    try:
        return orjson.loads(content) if content else {}
    except (orjson.JSONDecodeError, TypeError) as error:
        raise Refused(f"{what} is not JSON: {error}.") from error


def _version(rest: list[str]) -> tuple[str | None, list[str]]:
    return (rest[1], rest[2:]) if rest[:1] == ["versions"] and len(rest) > 1 else (None, rest)


def found(serving: Serving, call: Call, version: str | None) -> Found:
    """What a call means, noted in it; raises `Missing` or `Unready`."""
    if not serving.repository.started:
        raise Unready("no model is ready yet")
    what = serving.repository.find(call.model, version)
    call.method, call.version = what.method.name, str(what.model.version)
    return what


def _large(answers: dict[str, np.ndarray]) -> bool:
    return sum(answer.nbytes for answer in answers.values()) > INLINE_BODY


async def _maybe_aside(aside: bool, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_aside, work) if aside else work()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _only(scope: Scope, allowed: str) -> None:
    if scope["method"] not in ((allowed, "HEAD") if allowed == "GET" else (allowed,)):
        message = f"{scope['path'][:200]} answers {allowed}; got {scope['method'][:20]}."
        raise Stop(405, message, (b"allow", allowed.encode()))


def _no_path(scope: Scope) -> Stop:
    return Stop(404, f"no such path: {shown(scope['path'], 200)}; the Open Inference Protocol begins at /v2.")


def _header_length(headers: Headers) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise Refused(f"Inference-Header-Content-Length must be a whole number; got {shown(value.decode('latin-1'))}.")
    return int(value)


async def _body(serving: Serving, call: Call, receive: Receive, kinds: tuple[bytes, ...]) -> bytes | None:
    """The body, read only as far as it is allowed to be long; None when the client has gone."""
    most, headers = serving.max_body, call.headers
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind not in kinds:
        allowed = b" or ".join(kinds).decode()
        raise Stop(415, f"Content-Type must be {allowed}; got {shown(kind.decode('latin-1'))}.")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity" and coding not in WINDOW:
        raise Stop(415, f"Content-Encoding must be gzip, deflate or identity; got {shown(coding.decode('latin-1'))}.")
    too_long = Stop(413, f"the body must be at most {most} bytes.")
    if int(headers.get(b"content-length", b"0")) > most:
        raise too_long
    pieces, length = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if length > most:
            raise too_long
        if not message.get("more_body", False):
            break
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if coding == b"identity":
        return body
    return await _maybe_aside(True, lambda: inflated(body, coding, most))


def inflated(body: bytes, coding: bytes, most: int) -> bytes:
    """A gzip or deflate body, decompressed no further than `most` bytes; raises `Refused`, or `Stop` for more."""
    stream = zlib.decompressobj(WINDOW[coding])
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise Refused(f"the body is not {coding.decode()}: {error}.") from error
    if len(content) > most:
        raise Stop(413, f"the body must be at most {most} bytes when decompressed.")
    if not stream.eof or stream.unused_data:
        raise Refused(
            f"the body is not {coding.decode()}: it {'goes on after' if stream.eof else 'stops before'} its end."
        )
    return content


def _deflated(body: bytes, coding: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, WINDOW[coding])
    return stream.compress(body) + stream.flush()


def _accepted(headers: Headers) -> bytes | None:
    """The coding to answer in, of those that the client accepts."""
    said = headers.get(b"accept-encoding")
    if said is None:
        return None
    words = [word.replace(b" ", b"").split(b";q=") for word in said.lower().split(b",")]
    wanted = {word[0] for word in words if len(word) == 1 or word[1].strip(b"0.")}
    return next((coding for coding in (b"gzip", b"deflate") if coding in wanted), None)


async def _send(call: Call, send: Send, answer: Answer) -> None:
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    headers = [(b"content-type", answer.kind), *answer.headers]
    if len(body) >= COMPRESSED and (coding := _accepted(call.headers)):
        plain = body
        body = await _maybe_aside(len(plain) > INLINE_BODY // 4, lambda: _deflated(plain, coding))
        headers += [(b"content-encoding", coding), (b"vary", b"accept-encoding")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
