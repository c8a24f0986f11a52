"""HTTP over the engine: the Open Inference Protocol, version 2, and the friendly `/predict`.

Routes, and Triton's extensions to them: binary tensors, statistics, model repository; gzip and deflate both ways. The
model `NAME` is its default method, `NAME.METHOD` is each method. See `protocol` and `records` for the bodies.
"""

from __future__ import annotations

import asyncio
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving import __version__, arrow, protocol, records, tables
from arsenal_serving.calls import ADMIN, INFER, LIVE, METRICS, READ, Admit, Call, Observer, Stop, anybody
from arsenal_serving.engine import Engine, Expired, Full, Gone
from arsenal_serving.http1 import Exchange
from arsenal_serving.manifest import SINGLE
from arsenal_serving.model import named, rows
from arsenal_serving.principal import may
from arsenal_serving.refused import Refused, shown
from arsenal_serving.repository import Found, Missing, Repository, Unready
from arsenal_serving.tracing import identify

MAX_BODY = 64 << 20
INLINE_BODY = 256 << 10  # longer JSON is parsed and written on a thread
KINDS = (b"application/json", b"application/octet-stream")
COMPRESSED = 1 << 10  # shorter answers are not worth it
# What /predict reads and writes, by media type.
FORMS: dict[bytes, tuple[Callable[..., dict[str, np.ndarray]], Callable[..., bytes]]] = {
    KINDS[0]: (records.parse, records.written),
    tables.CSV.encode(): (tables.parse, tables.written),
}
if arrow.there():
    FORMS[arrow.STREAM.encode()] = (arrow.parse, arrow.written)
SAID = {tables.CSV.encode(): b"text/csv; charset=utf-8"}
LONGEST_KNOWN = 256  # characters of a path
EXTENSIONS = ["binary_tensor_data", "statistics", "model_repository"]
WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's word for the container

Headers = Mapping[bytes, bytes]


class Answer(NamedTuple):
    """What goes back: `status`, a body, further headers and the media type."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"application/json"


class Serving(NamedTuple):
    """What a protocol answers from, and what stands around an answer, see `calls`.

    control: whether clients may load and unload. metrics: for an Accept header what gives Prometheus' text and its
    media type; None where there is none.
    """

    repository: Repository
    engine: Engine
    max_body: int = MAX_BODY
    control: bool = False
    admit: Admit = anybody
    observers: tuple[Observer, ...] = ()
    metrics: Callable[[str], Callable[[], tuple[bytes, bytes]]] | None = None


class Asked(NamedTuple):
    """An inference as its body asks for it. seconds: how long its caller waits. written: its answers as an `Answer`."""

    inputs: dict[str, np.ndarray]
    seconds: float | None
    written: Callable[[dict[str, np.ndarray]], Answer]


_aside = ThreadPoolExecutor(1, thread_name_prefix="bodies")
_tasks: set[asyncio.Task] = set()  # the event loop itself holds none


def handler(serving: Serving, names: frozenset[bytes] | None = None) -> Callable[[Exchange], None]:
    """What answers HTTP requests; it may be asked before the repository has started, and says then that it is not.

    names: the hosts that a request may name, in lower case; None for any.
    """

    def handle(exchange: Exchange) -> None:
        call = Call("http", exchange.headers, exchange.address)
        identify(call)
        call.began = exchange.began
        try:
            if exchange.refused:
                raise Stop(*exchange.refused)
            if names is not None and (name := _name(exchange.host)) not in names:
                said = shown(name.decode("latin-1"), 100)
                raise Stop(421, f"this server is not known as {said}; start it with --known-as to say that it is.")
            if not _at_once(serving, exchange, call):
                _spawn(_slowly(serving, exchange, call))
        except Exception as error:
            _end(serving, exchange, call, failed(error, call))

    return handle


def _name(host: bytes) -> bytes:
    """The name in HOST:PORT."""
    return (host if host.endswith(b"]") or b":" not in host else host[: host.rindex(b":")]).lower()


def _check_page(exchange: Exchange, call: Call) -> None:
    """Raise `Stop` for a change that a page of another site asks for.

    Browsers send `Origin` with it, or at least say that they are one. Triton's client sends no media type with load and
    unload; a form cannot send this one.
    """
    headers = exchange.headers
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    if origin is not None:
        scheme, _, place = origin.lower().partition(b"://")
        host = exchange.host.lower().removesuffix({b"http": b":80", b"https": b":443"}.get(scheme, b"/"))
        if not place or place != host:
            raise Stop(403, f"a page of {shown(origin.decode('latin-1'), 100)} may not change what is served here.")
    elif site not in (b"same-origin", b"none"):
        raise Stop(403, "a page of another site may not change what is served here.")
    browser = origin is not None or b"sec-fetch-site" in headers or b"Mozilla/" in headers.get(b"user-agent", b"")
    if browser and b"content-type" not in headers:
        raise Stop(415, "Content-Type must be application/json; got none.")


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _at_once(serving: Serving, exchange: Exchange, call: Call) -> bool:
    """Begin a short inference, and have the engine end it: a task for each would cost as much as the answer."""
    body, asked = exchange.body, _inference(exchange.path)
    if asked is None or not body or len(body) > INLINE_BODY or exchange.method != "POST":
        return False
    if b"content-encoding" in exchange.headers or (asked[0] == "predict" and _tabular(call)):
        return False
    what, read = _admitted(serving, call, *asked)
    request = read(what, call, body)

    def settle(outcome: list[np.ndarray] | BaseException) -> None:
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            call.answers = answers = named(what.method, outcome)
            if _large(answers):
                _spawn(_ended(serving, exchange, call, lambda: _maybe_aside(True, lambda: request.written(answers))))
                return
            answer: Answer | None = request.written(answers)
        except Exception as error:
            answer = failed(error, call)
        _end(serving, exchange, call, answer)

    call.inputs, call.rows = request.inputs, rows(what.method, request.inputs)
    job = serving.engine.submit(what.model, what.method.name, request.inputs, what.statistics, settle, request.seconds)
    if not job.over:

        def left() -> None:
            job.leave()
            _end(serving, exchange, call, None)

        exchange.on_gone = left
    return True


async def _slowly(serving: Serving, exchange: Exchange, call: Call) -> None:
    await _ended(serving, exchange, call, lambda: _route(serving, exchange, call))


async def _ended(
    serving: Serving, exchange: Exchange, call: Call, work: Callable[[], Awaitable[Answer | None]]
) -> None:
    try:
        answer = await work()
    except Exception as error:
        answer = failed(error, call)
    if answer is not None and len(answer.body) > INLINE_BODY // 4 and _accepted(call.headers):
        answer = await _maybe_aside(True, partial(_compressed, call, answer))
    _end(serving, exchange, call, answer)


def _end(serving: Serving, exchange: Exchange, call: Call, answer: Answer | None) -> None:
    """Send the answer, or None where the client has gone, and let the observers see the call."""
    if answer is not None and not exchange.answered:
        call.status = answer.status
        status, body, headers, kind = _compressed(call, answer)
        exchange.answer(status, ((b"content-type", kind), (b"x-request-id", call.id.encode()), *headers), body)
    call.seconds = time.perf_counter() - call.began
    for observer in serving.observers:
        observer(call)


def failed(error: Exception, call: Call) -> Answer | None:
    """The answer to a request that ended with an error; None when nobody is there to read it."""
    call.error = str(error)

    def answer(status: int, *headers: tuple[bytes, bytes]) -> Answer:
        return _json(status, {"error": call.error}, *headers)

    match error:
        case Stop():
            return answer(error.status, *error.headers)
        case Refused():
            return answer(400)
        case Missing():
            return answer(404)
        case Unready():
            return answer(503, (b"retry-after", b"1"))
        case Full():
            return answer(429, (b"retry-after", str(error.seconds).encode()))
        case Expired():
            return answer(504)
        case Gone():
            return None
    call.error = "".join(traceback.format_exception(error))
    return _json(500, {"error": "internal error; the server's log has the details"})


def _json(status: int, body: Any, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, orjson.dumps(body), headers)


def parts(path: str) -> list[str]:
    """The words of a path; none where one is empty or a slash in it was encoded, or a proxy's rule would be passed by.

    >>> parts("/v2/models/"), parts("/v2//models")
    (['v2', 'models'], [])
    """
    first, *found = path.removesuffix("/").split("/")
    return [] if first or "" in found or "%2F" in path else found


def _inference(path: str) -> tuple[str, str, str | None] | None:
    """As `_inference_at`; what strangers make up is remembered only where it is short."""
    return _inference_at(path) if len(path) <= LONGEST_KNOWN else _inference_at.__wrapped__(path)


@lru_cache(4096)
def _inference_at(path: str) -> tuple[str, str, str | None] | None:
    """The operation, model ("" for the only one) and version of a path, if it is that of an inference."""
    match parts(path):
        case ["v2", "models", name, "infer"]:
            return "infer", name, None
        case ["v2", "models", name, "versions", version, "infer"]:
            return "infer", name, version
        case ["predict"]:
            return "predict", "", None
        case ["models", name, "predict"]:
            return "predict", name, None
        case ["models", name, "versions", version, "predict"]:
            return "predict", name, version
    return None


def _admitted(
    serving: Serving, call: Call, operation: str, name: str, version: str | None
) -> tuple[Found, Callable[[Found, Call, bytes], Asked]]:
    """What an inference is asked of, and what reads its body."""
    call.operation, call.model = operation, name
    serving.admit(call, INFER)
    names = () if name else tuple(known for known in serving.repository.models if may(call.scopes, INFER, known))
    if len(names) == 1:
        call.model = names[0]
    elif names:
        paths = ", ".join(f"/models/{name}/predict" for name in names[:5])
        raise Stop(404, f"/predict is there where one model is served; here are {paths}.")
    return found(serving, call, version), READERS[operation]


async def _route(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """The answer for a path; None when the client has gone."""
    repository = serving.repository

    def admitted(verb: str, operation: str, need: str = READ, model: str = "") -> None:
        call.operation, call.model = operation, model
        serving.admit(call, need)
        _only(exchange, verb)

    def seen(name: str) -> bool:
        return may(call.scopes, READ, name)

    if (asked := _inference(exchange.path)) is not None:
        _only(exchange, "POST")
        return await _infer(serving, exchange, call, *_admitted(serving, call, *asked))
    match parts(exchange.path):
        case ["v2"]:
            admitted("GET", "server", LIVE)
            return _json(200, {"name": "arsenal-serve", "version": __version__, "extensions": EXTENSIONS})
        case ["v2", "health", "live"]:
            admitted("GET", "live", LIVE)
            return _json(200, {"live": True})
        case ["v2", "health", "ready"]:
            admitted("GET", "ready", LIVE)
            return _json(200 if repository.started else 503, {"ready": repository.started})
        case ["v2", "models", "stats"]:
            admitted("GET", "stats")
            return _json(200, repository.statistics(seen=seen))
        case ["v2", "models", name, *rest]:
            version, rest = _version(rest)
            if rest not in ([], ["ready"], ["stats"], ["config"]):
                raise _no_path(exchange)
            admitted("GET", rest[0] if rest else "metadata", READ, name)
            what = found(serving, call, version)
            if rest == ["stats"]:
                return _json(200, repository.statistics(name, version))
            if rest == ["config"]:
                return _json(200, protocol.configuration(what.model, what.method, name))
            if rest:
                return _json(200, {"name": name, "ready": True})
            return _json(200, protocol.metadata(what.model, what.method, name, what.versions))
        case ["v2", "repository", "index"]:
            admitted("POST", "index")
            if (body := await _body(serving, exchange, call, KINDS)) is None:
                return None
            asked_for = _parsed(body)
            protocol.check_object(asked_for, "the body", set(), {"ready"})
            if type(ready := asked_for.get("ready", False)) is not bool:
                raise Refused(f"'ready' must be true or false; got {shown(ready)}.")
            return _json(200, [row for row in repository.index(ready) if seen(row["name"])])
        case ["v2", "repository", "models", name, "load" | "unload" as operation]:
            admitted("POST", operation, ADMIN, name)
            return await _change(serving, exchange, call)
        case ["v2", "repository", "models", name, "policy"]:
            changes = exchange.method == "PUT"
            admitted("PUT" if changes else "GET", "policy", ADMIN if changes else READ, name)
            if changes:
                return await _policy(serving, exchange, call)
            if not seen(name):  # a method's name, or that of another model: see `found`
                raise absent(call)
            try:
                return _json(200, repository.policy(name))
            except Missing as error:
                raise absent(call, error) from None
        case ["metrics"] if serving.metrics:
            admitted("GET", "metrics", METRICS)
            accepted = call.headers.get(b"accept", b"").decode("latin-1")
            text, kind = await _maybe_aside(True, serving.metrics(accepted))
            return Answer(200, text, kind=kind)
        case ["openapi.json"]:
            admitted("GET", "openapi")
            models = repository.models.items()
            visible = {name: model for name, model in models if seen(name)}
            return _json(200, records.openapi(visible, call.scopes is not None))
    raise _no_path(exchange)


def _asked_infer(what: Found, call: Call, body: bytes) -> Asked:
    _kind(call, KINDS)
    request = protocol.parse(what.method, body, _header_length(call.headers), call.model)

    def written(answers: dict[str, np.ndarray]) -> Answer:
        text, length = protocol.written(what.model, what.method, call.model, request, answers)
        if length is None:
            return Answer(200, text)
        said = (b"inference-header-content-length", str(length).encode())
        return Answer(200, text, (said,), b"application/octet-stream")

    return Asked(request.inputs, request.seconds, written)


def _asked_predict(what: Found, call: Call, body: bytes) -> Asked:
    read, _ = FORMS[_kind(call, tuple(FORMS))]
    kind = _wanted(call)
    if kind != KINDS[0] and what.method.rows == SINGLE:
        raise Refused(f"method {what.method.name!r} has no rows, and so answers no table; JSON will do.")

    def written(answers: dict[str, np.ndarray]) -> Answer:
        return Answer(200, FORMS[kind][1](what.model, what.method, call.model, answers), (), SAID.get(kind, kind))

    return Asked(read(what.method, body), None, written)


def _wanted(call: Call) -> bytes:
    """The form of the answer: what the client likes best of those that there are, or JSON."""
    said = call.headers.get(b"accept")
    if said is None or said == b"*/*" or said in FORMS:
        return said if said in FORMS else KINDS[0]
    liked = []
    for at, part in enumerate(said.lower().split(b",")[:32]):
        kind, _, rest = part.partition(b";")
        quality = rest.replace(b" ", b"").partition(b"q=")[2].split(b";")[0] or b"1"
        if kind.strip() in FORMS and quality.replace(b".", b"", 1).isdigit() and float(quality):
            liked.append((-float(quality), at, kind.strip()))
    return min(liked)[2] if liked else KINDS[0]


def _tabular(call: Call) -> bool:
    """Whether a table comes or goes, which takes longer than JSON and may import pyarrow."""
    said = call.headers.get(b"content-type", b"") + call.headers.get(b"accept", b"")
    return b"csv" in said or b"arrow" in said


READERS = {"infer": _asked_infer, "predict": _asked_predict}


async def _infer(
    serving: Serving, exchange: Exchange, call: Call, what: Found, read: Callable[[Found, Call, bytes], Asked]
) -> Answer | None:
    body = await _body(serving, exchange, call, KINDS if read is _asked_infer else tuple(FORMS))
    if body is None:
        return None
    table = read is _asked_predict and _tabular(call)
    large = table or (len(body) > INLINE_BODY and _header_length(call.headers) is None)
    request = await _maybe_aside(large, lambda: read(what, call, body))
    answers = await answered(serving, what, call, request.inputs, request.seconds, exchange.left)
    return await _maybe_aside(table or _large(answers), lambda: request.written(answers))


async def answered(
    serving: Serving,
    what: Found,
    call: Call,
    inputs: dict[str, np.ndarray],
    seconds: float | None,
    gone: Callable[[], Awaitable[Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The named answers to named inputs, as `Engine.infer`, noted in the call."""
    call.inputs, call.rows = inputs, rows(what.method, inputs)
    call.answers = answers = await serving.engine.infer(
        what.model, what.method.name, inputs, what.statistics, seconds=seconds, gone=gone
    )
    return answers


async def _change(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """Load or unload a model."""
    _check_page(exchange, call)
    body = await _body(serving, exchange, call, KINDS)
    if body is None:
        return None
    check_control(serving)
    asked = _parsed(body)
    protocol.check_object(asked, "the body", set(), {"parameters"})
    parameters = asked.get("parameters")
    parameters = {} if parameters is None else parameters
    protocol.check_object(parameters, "'parameters'", set(), {"config", "unload_dependents"})
    if call.operation == "unload":
        work = partial(serving.repository.unload, call.model, call.principal)
    else:
        config = _parsed(parameters.get("config"), "'config'") if "config" in parameters else None
        work = partial(serving.repository.load, call.model, config, call.principal)
    await changed(call, work)
    return _json(200, {})


async def _policy(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """Follow another policy; the answer is what it is then."""
    _check_page(exchange, call)
    if (body := await _body(serving, exchange, call, KINDS)) is None:
        return None
    check_control(serving)
    if not body.strip():
        raise Refused("the body must be the whole policy; got none. {} is one that says nothing.")
    await changed(call, partial(serving.repository.set_policy, call.model, _parsed(body), call.principal))
    return _json(200, serving.repository.policy(call.model))


async def changed(call: Call, work: Callable[[], None]) -> None:
    """Load or unload a model, or follow another policy, off the event loop."""
    try:
        await asyncio.to_thread(work)
    except Missing as error:
        raise absent(call, error) from None


def check_control(serving: Serving) -> None:
    """Raise `Stop` where clients may not load and unload."""
    if not serving.control:
        raise Stop(403, "load, unload and policies are off; start the server with --control to allow them.")
    if not serving.repository.many:
        raise Stop(403, "one artifact is served; load, unload and policies work on a folder of NAME/VERSION/.")


def _parsed(content: Any, what: str = "the body") -> Any:
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
    need = INFER if call.operation in READERS else READ
    try:
        what = serving.repository.find(call.model, version, call)
    except Missing as error:
        raise absent(call, error) from None
    except Unready as error:
        raise error if may(call.scopes, need, call.model) else absent(call, error) from None
    # A scope for "a" admits to its method "a.b"; here it turns out that a model of this name was meant.
    names = (what.model.name, call.model)
    if "." in what.model.name and not any(may(call.scopes, need, name) for name in names):
        raise absent(call)
    call.method, call.version = what.method.name, str(what.model.version)
    return what


def absent(call: Call, error: Exception | None = None) -> Exception:
    """The error for what is not there, which lists what is there only to who may see all of it."""
    if error is not None and (call.scopes is None or f"{READ}:*" in call.scopes):
        return error
    return Missing(f"there is no {shown(call.model)}, or not this version of it.")


def _large(answers: dict[str, np.ndarray]) -> bool:
    return sum(answer.nbytes for answer in answers.values()) > INLINE_BODY


async def _maybe_aside(aside: bool, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_aside, work) if aside else work()


def _only(exchange: Exchange, allowed: str) -> None:
    if exchange.method not in ((allowed, "HEAD") if allowed == "GET" else (allowed,)):
        message = f"{exchange.path[:200]} answers {allowed}; got {exchange.method[:20]}."
        raise Stop(405, message, (b"allow", allowed.encode()))


def _no_path(exchange: Exchange) -> Stop:
    return Stop(404, f"no such path: {shown(exchange.path, 200)}; the Open Inference Protocol begins at /v2.")


def _header_length(headers: Headers) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise Refused(f"Inference-Header-Content-Length must be a whole number; got {shown(value.decode('latin-1'))}.")
    return int(value)


def _kind(call: Call, kinds: tuple[bytes, ...]) -> bytes:
    said = call.headers.get(b"content-type", b"application/json")
    if said not in kinds and (said := said.split(b";")[0].strip().lower()) not in kinds:
        allowed = b" or ".join(kinds).decode()
        more = " (pip install 'ml-arsenal-serving[arrow]')" if said == arrow.STREAM.encode() else ""
        raise Stop(415, f"Content-Type must be {allowed}; got {shown(said.decode('latin-1'))}{more}.")
    return said


async def _body(serving: Serving, exchange: Exchange, call: Call, kinds: tuple[bytes, ...]) -> bytes | None:
    """The body, refused before it is read where that can be; None when the client has gone."""
    _kind(call, kinds)
    coding = call.headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity" and coding not in WINDOW:
        raise Stop(415, f"Content-Encoding must be gzip, deflate or identity; got {shown(coding.decode('latin-1'))}.")
    body = await exchange.read()
    if body is None:
        if exchange.refused:
            raise Stop(*exchange.refused)
        return None
    if coding == b"identity":
        return body
    return await _maybe_aside(True, lambda: inflated(body, coding, serving.max_body))


def inflated(body: bytes, coding: bytes, most: int) -> bytes:
    """A gzip or deflate body, decompressed no further than `most` bytes; raises `Refused`, or `Stop` for more."""
    content, rest = b"", body
    while True:
        stream = zlib.decompressobj(WINDOW[coding])
        try:
            content += stream.decompress(rest, most + 1 - len(content))
        except zlib.error as error:
            raise Refused(f"the body is not {coding.decode()}: {error}.") from error
        if len(content) > most:
            raise Stop(413, f"the body must be at most {most} bytes when decompressed.")
        if not stream.eof:
            raise Refused(f"the body is not {coding.decode()}: it stops before its end.")
        rest = stream.unused_data
        if not rest:
            return content
        if coding == b"deflate" or not rest.startswith(b"\x1f\x8b"):  # gzip is one member or several: RFC 1952, 2.2
            raise Refused(f"the body is not {coding.decode()}: it goes on after its end.")


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


def _compressed(call: Call, answer: Answer) -> Answer:
    """The answer in a coding that the client accepts, where that is worth it."""
    coding = _accepted(call.headers) if len(answer.body) >= COMPRESSED else None
    if coding is None or any(name == b"content-encoding" for name, _ in answer.headers):
        return answer
    said = ((b"content-encoding", coding), (b"vary", b"accept-encoding"))
    return answer._replace(body=_deflated(answer.body, coding), headers=(*answer.headers, *said))
