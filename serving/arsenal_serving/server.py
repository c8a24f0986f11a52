"""HTTP over the engine, a raw ASGI application: the Open Inference Protocol, version 2, and the friendly `/predict`.

Routes, and Triton's extensions to them: binary tensors, statistics, model repository; gzip and deflate both ways. The
model `NAME` is its default method, `NAME.METHOD` is each method. See `protocol` and `records` for the bodies.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving import __version__, protocol, records
from arsenal_serving.engine import Engine, Expired, Full, Gone
from arsenal_serving.refused import Refused, shown
from arsenal_serving.repository import Found, Missing, Repository, Unready

MAX_BODY = 64 << 20
INLINE_BODY = 256 << 10  # longer JSON is parsed and written on a thread
COMPRESSED = 1 << 10  # shorter answers are not worth it
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]
WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's word for the container

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]


class Answer(NamedTuple):
    """What goes back: `status`, a body that JSON can hold or its bytes, and further headers."""

    status: int
    body: Any
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"application/json"


class Stop(Exception):
    """Ends a request with an error answer of its own status; everything else that is refused is a 400."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]):
        super().__init__(message)
        self.answer = Answer(status, {"error": message}, headers)


class Serving(NamedTuple):
    """What an application answers from; `control`: whether clients may load and unload."""

    repository: Repository
    engine: Engine
    max_body: int
    control: bool
    writer: ThreadPoolExecutor


def application(
    repository: Repository, engine: Engine, *, max_body: int = MAX_BODY, control: bool = False
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application; it may answer before the repository has started, and says then that it is not ready."""
    serving = Serving(repository, engine, max_body, control, ThreadPoolExecutor(1, thread_name_prefix="bodies"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: Headers = dict(scope["headers"])
        try:
            answer = await _route(serving, scope, headers, receive)
        except Exception as error:
            answer = failed(error)
        if answer is not None:
            await _send(serving, headers, send, answer)

    return app


def failed(error: Exception) -> Answer | None:
    """The answer to a request that ended with an error; None when nobody is there to read it."""
    match error:
        case Stop():
            return error.answer
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


async def _route(serving: Serving, scope: Scope, headers: Headers, receive: Receive) -> Answer | None:
    """The answer for a path; None when the client has gone."""
    repository = serving.repository
    match [part for part in scope["path"].split("/") if part]:
        case ["v2"]:
            _only(scope, "GET")
            return Answer(200, {"name": "arsenal-serve", "version": __version__, "extensions": EXTENSIONS})
        case ["v2", "health", "live"]:
            _only(scope, "GET")
            return Answer(200, {"live": True})
        case ["v2", "health", "ready"]:
            _only(scope, "GET")
            return Answer(200 if repository.started else 503, {"ready": repository.started})
        case ["v2", "models", "stats"]:
            _only(scope, "GET")
            return Answer(200, repository.statistics())
        case ["v2", "models", name, *rest]:
            version, rest = _version(rest)
            if rest not in ([], ["ready"], ["infer"], ["stats"]):
                raise _no_path(scope)
            _only(scope, "POST" if rest == ["infer"] else "GET")
            found = _found(repository, name, version)
            if rest == ["infer"]:
                return await _infer(serving, found, name, headers, receive)
            if rest == ["stats"]:
                return Answer(200, repository.statistics(name, version))
            metadata = protocol.metadata(found.model, found.method, name, found.versions)
            return Answer(200, {"name": name, "ready": True} if rest else metadata)
        case ["v2", "repository", *rest]:
            return await _repository(serving, scope, headers, rest, receive)
        case ["predict"]:
            _only(scope, "POST")
            names = list(repository.models)
            if len(names) > 1:
                paths = ", ".join(f"/models/{name}/predict" for name in names[:5])
                raise Stop(404, f"/predict is there where one model is served; here are {paths}.")
            name = names[0] if names else ""
            return await _predict(serving, _found(repository, name, None), name, headers, receive)
        case ["models", name, *rest]:
            version, rest = _version(rest)
            if rest != ["predict"]:
                raise _no_path(scope)
            _only(scope, "POST")
            return await _predict(serving, _found(repository, name, version), name, headers, receive)
        case ["openapi.json"]:
            _only(scope, "GET")
            return Answer(200, records.openapi(repository.models))
    raise _no_path(scope)


async def _infer(serving: Serving, found: Found, name: str, headers: Headers, receive: Receive) -> Answer | None:
    body = await _body(serving, headers, receive, (b"application/json", b"application/octet-stream"))
    if body is None:
        return None
    header = _header_length(headers)
    large = len(body) > INLINE_BODY and header is None
    request = await _maybe_aside(serving, large, lambda: protocol.parse(found.method, body, header, name))
    answers = await serving.engine.infer(
        found.model,
        found.method.name,
        request.inputs,
        found.statistics,
        seconds=request.seconds,
        gone=lambda: _disconnected(receive),
    )
    text, length = await _maybe_aside(
        serving, _large(answers), lambda: protocol.written(found.model, found.method, name, request, answers)
    )
    if length is None:
        return Answer(200, text)
    said = ((b"inference-header-content-length", str(length).encode()),)
    return Answer(200, text, said, b"application/octet-stream")


async def _predict(serving: Serving, found: Found, name: str, headers: Headers, receive: Receive) -> Answer | None:
    body = await _body(serving, headers, receive, (b"application/json",))
    if body is None:
        return None
    model, method = found.model, found.method
    inputs = await _maybe_aside(serving, len(body) > INLINE_BODY, lambda: records.parse(method, body))
    answers = await serving.engine.infer(
        model, method.name, inputs, found.statistics, gone=lambda: _disconnected(receive)
    )
    text = await _maybe_aside(serving, _large(answers), lambda: records.written(model, method, name, answers))
    return Answer(200, text)


async def _repository(
    serving: Serving, scope: Scope, headers: Headers, rest: list[str], receive: Receive
) -> Answer | None:
    if rest != ["index"] and not (len(rest) == 3 and rest[0] == "models" and rest[2] in ("load", "unload")):
        raise _no_path(scope)
    _only(scope, "POST")
    body = await _body(serving, headers, receive, (b"application/json", b"application/octet-stream"))
    if body is None:
        return None
    asked = _json(body)
    if rest == ["index"]:
        protocol.check_object(asked, "the body", set(), {"ready"})
        return Answer(200, serving.repository.index(asked.get("ready") is True))
    check_control(serving.repository, serving.control)
    protocol.check_object(asked, "the body", set(), {"parameters"})
    parameters = asked.get("parameters", {})
    protocol.check_object(parameters, "'parameters'", set(), {"config", "unload_dependents"})
    if rest[2] == "unload":
        await asyncio.to_thread(serving.repository.unload, rest[1])
    else:
        config = _json(parameters.get("config"), "'config'") if "config" in parameters else None
        await asyncio.to_thread(serving.repository.load, rest[1], config)
    return Answer(200, {})


def check_control(repository: Repository, control: bool) -> None:
    """Raise `Stop` where clients may not load and unload."""
    if not control:
        raise Stop(403, "load and unload are off; start the server with --control to allow them.")
    if not repository.many:
        raise Stop(403, "one artifact is served; load and unload work on a folder of NAME/VERSION/.")


def _json(content: Any, what: str = "the body") -> Any:
    try:
        return orjson.loads(content) if content else {}
    except (orjson.JSONDecodeError, TypeError) as error:
        raise Refused(f"{what} is not JSON: {error}.") from error


def _version(rest: list[str]) -> tuple[str | None, list[str]]:
    return (rest[1], rest[2:]) if rest[:1] == ["versions"] and len(rest) > 1 else (None, rest)


def _found(repository: Repository, name: str, version: str | None) -> Found:
    if not repository.started:
        raise Unready("no model is ready yet")
    return repository.find(name, version)


def _large(answers: dict[str, np.ndarray]) -> bool:
    return sum(answer.nbytes for answer in answers.values()) > INLINE_BODY


async def _maybe_aside(serving: Serving, aside: bool, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(serving.writer, work) if aside else work()


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


async def _body(serving: Serving, headers: Headers, receive: Receive, kinds: tuple[bytes, ...]) -> bytes | None:
    """The body, read only as far as it is allowed to be long; None when the client has gone."""
    most = serving.max_body
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
    return await _maybe_aside(serving, True, lambda: inflated(body, coding, most))


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


async def _send(serving: Serving, asked: Headers, send: Send, answer: Answer) -> None:
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    headers = [(b"content-type", answer.kind), *answer.headers]
    if len(body) >= COMPRESSED and (coding := _accepted(asked)):
        plain = body
        body = await _maybe_aside(serving, len(plain) > INLINE_BODY // 4, lambda: _deflated(plain, coding))
        headers += [(b"content-encoding", coding), (b"vary", b"accept-encoding")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
