"""HTTP over the engine: the Open Inference Protocol, version 2, and the friendly `/predict`.

Routes, and Triton's extensions to them: binary tensors, statistics, model repository; gzip and deflate both ways. The
model `NAME` is its default method, `NAME.METHOD` is each method. See `open_inference` and `records` for the bodies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving import __version__
from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.calls import ADMIN, INFER, LIVE, METRICS, READ, Call, Stop
from arsenal_serving.model import name_answers, rows
from arsenal_serving.protocols import completions, open_inference, records
from arsenal_serving.protocols.admission import check_host, check_page
from arsenal_serving.protocols.compression import WINDOW, choose_coding, compress, inflate
from arsenal_serving.protocols.errors import Answer, answer_error, json_answer
from arsenal_serving.protocols.http1 import Exchange
from arsenal_serving.protocols.negotiation import FORMS, KINDS, SAID, choose_form, header_length, is_table, media_type
from arsenal_serving.protocols.serving import EXTENSIONS, Serving, absent, change, check_control, find, infer
from arsenal_serving.protocols.tracing import identify
from arsenal_serving.refused import Refused, show
from arsenal_serving.repository.models import Missing, Resolved, Unready
from arsenal_serving.security.principal import may

INLINE_BODY = 256 << 10  # longer JSON is parsed and written on a thread
LONGEST_KNOWN = 256  # characters of a path
LONG_TEXT = 16 << 10  # bytes of a body; reading tokens of a longer one would hold others up


class Asked(NamedTuple):
    """An inference as its body asks for it. seconds: how long its caller waits. write: its answers as an `Answer`."""

    inputs: dict[str, np.ndarray]
    seconds: float | None
    write: Callable[[dict[str, np.ndarray]], Answer]


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
        call.dialect = "openai" if exchange.path.startswith("/v1/") else ""
        try:
            if exchange.refused:
                raise Stop(*exchange.refused)
            check_host(exchange, names)
            if not _at_once(serving, exchange, call):
                _spawn(_slowly(serving, exchange, call))
        except Exception as error:
            _end(serving, exchange, call, answer_error(error, call))

    return handle


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _at_once(serving: Serving, exchange: Exchange, call: Call) -> bool:
    """Begin a short inference, and have the engine end it: a task for each would cost as much as the answer."""
    body, asked = exchange.body, _inference(exchange.path)
    if asked is None or not body or len(body) > INLINE_BODY or exchange.method != "POST":
        return False
    if b"content-encoding" in exchange.headers or (asked[0] == "predict" and is_table(call)):
        return False
    what, read = _admit(serving, call, *asked)
    request = read(what, call, body)

    def settle(outcome: list[np.ndarray] | BaseException) -> None:
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            call.answers = answers = name_answers(what.method, outcome)
            if _large(answers):
                _spawn(_finish(serving, exchange, call, lambda: _maybe_aside(True, lambda: request.write(answers))))
                return
            answer: Answer | None = request.write(answers)
        except Exception as error:
            answer = answer_error(error, call)
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
    await _finish(serving, exchange, call, lambda: _route(serving, exchange, call))


async def _finish(
    serving: Serving, exchange: Exchange, call: Call, work: Callable[[], Awaitable[Answer | None]]
) -> None:
    try:
        answer = await work()
    except Exception as error:
        answer = answer_error(error, call)
    if answer is not None and len(answer.body) > INLINE_BODY // 4 and choose_coding(call.headers):
        answer = await _maybe_aside(True, partial(compress, call, answer))
    _end(serving, exchange, call, answer)


def _end(serving: Serving, exchange: Exchange, call: Call, answer: Answer | None) -> None:
    """Send the answer, or None where the client has gone, and let the observers see the call."""
    if answer is not None and not exchange.answered:
        call.status = answer.status
        status, body, headers, kind = compress(call, answer)
        exchange.answer(status, ((b"content-type", kind), (b"x-request-id", call.id.encode()), *headers), body)
    call.seconds = time.perf_counter() - call.began
    for observer in serving.observers:
        observer(call)


def parts(path: str) -> list[str]:
    """The words of a path; none where one is empty or a slash in it was encoded, or a proxy's rule would be passed by.

    >>> parts("/v2/models/"), parts("/v2//models")
    (['v2', 'models'], [])
    """
    first, *find = path.removesuffix("/").split("/")
    return [] if first or "" in find or "%2F" in path else find


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


def _admit(
    serving: Serving, call: Call, operation: str, name: str, version: str | None
) -> tuple[Resolved, Callable[[Resolved, Call, bytes], Asked]]:
    """What an inference is asked of, and what reads its body."""
    call.operation, call.model = operation, name
    serving.admit(call, INFER)
    names = () if name else tuple(known for known in serving.repository.models if may(call.scopes, INFER, known))
    if len(names) == 1:
        call.model = names[0]
    elif names:
        paths = ", ".join(f"/models/{name}/predict" for name in names[:5])
        raise Stop(404, f"/predict is there where one model is served; here are {paths}.")
    return find(serving, call, version), READERS[operation]


async def _route(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """The answer for a path; None when the client has gone."""
    repository = serving.repository

    def admit(verb: str, operation: str, need: str = READ, model: str = "") -> None:
        call.operation, call.model = operation, model
        serving.admit(call, need)
        _only(exchange, verb)

    def may_see(name: str) -> bool:
        return may(call.scopes, READ, name)

    if (asked := _inference(exchange.path)) is not None:
        _only(exchange, "POST")
        return await _infer(serving, exchange, call, *_admit(serving, call, *asked))
    match parts(exchange.path):
        case ["v2"]:
            admit("GET", "server", LIVE)
            return json_answer(200, {"name": "arsenal-serve", "version": __version__, "extensions": EXTENSIONS})
        case ["v2", "health", "live"]:
            admit("GET", "live", LIVE)
            return json_answer(200, {"live": True})
        case ["v2", "health", "ready"]:
            admit("GET", "ready", LIVE)
            return json_answer(200 if repository.started else 503, {"ready": repository.started})
        case ["v2", "models", "stats"]:
            admit("GET", "stats")
            return json_answer(200, repository.statistics(seen=may_see))
        case ["v2", "models", name, *rest]:
            version, rest = _version(rest)
            if rest not in ([], ["ready"], ["stats"], ["config"]):
                raise _no_path(exchange)
            admit("GET", rest[0] if rest else "metadata", READ, name)
            what = find(serving, call, version)
            if rest == ["stats"]:
                return json_answer(200, repository.statistics(name, version))
            if rest == ["config"]:
                return json_answer(200, open_inference.configuration(what.model, what.method, name))
            if rest:
                return json_answer(200, {"name": name, "ready": True})
            return json_answer(200, open_inference.metadata(what.model, what.method, name, what.versions))
        case ["v2", "repository", "index"]:
            admit("POST", "index")
            if (body := await _body(serving, exchange, call, KINDS)) is None:
                return None
            asked_for = _parse(body)
            open_inference.check_object(asked_for, "the body", set(), {"ready"})
            if type(ready := asked_for.get("ready", False)) is not bool:
                raise Refused(f"'ready' must be true or false; got {show(ready)}.")
            return json_answer(200, [row for row in repository.index(ready) if may_see(row["name"])])
        case ["v2", "repository", "models", name, "load" | "unload" as operation]:
            admit("POST", operation, ADMIN, name)
            return await _change(serving, exchange, call)
        case ["v2", "repository", "models", name, "policy"]:
            changes = exchange.method == "PUT"
            admit("PUT" if changes else "GET", "policy", ADMIN if changes else READ, name)
            if changes:
                return await _policy(serving, exchange, call)
            if not may_see(name):  # a method's name, or that of another model: see `find`
                raise absent(call)
            try:
                return json_answer(200, repository.policy(name))
            except Missing as error:
                raise absent(call, error) from None
        case ["v1", "completions"]:
            admit("POST", "completions", INFER)
            return await _converse(serving, exchange, call, chat=False)
        case ["v1", "chat", "completions"]:
            admit("POST", "chat", INFER)
            return await _converse(serving, exchange, call, chat=True)
        case ["v1", "models"]:
            admit("GET", "models")
            return json_answer(200, {"object": "list", "data": [one for one in _texts(serving) if may_see(one["id"])]})
        case ["v1", "models", name]:
            admit("GET", "models", READ, name)
            for one in _texts(serving):
                if one["id"] == name and may_see(name):
                    return json_answer(200, one)
            raise absent(call, Missing(f"there is no model of language {show(name)}."))
        case ["metrics"] if serving.metrics:
            admit("GET", "metrics", METRICS)
            accepted = call.headers.get(b"accept", b"").decode("latin-1")
            text, kind = await _maybe_aside(True, serving.metrics(accepted))
            return Answer(200, text, kind=kind)
        case ["openapi.json"]:
            admit("GET", "openapi")
            models = repository.models.items()
            visible = {name: model for name, model in models if may_see(name)}
            document = records.openapi(visible, call.scopes is not None)
            if texts := {name: model.decoding for name, model in sorted(visible.items()) if model.decoding is not None}:
                talks = [name for name, decoding in texts.items() if decoding.template is not None]
                document["paths"] |= completions.openapi_paths([*texts], talks, records.REFUSALS)
            return json_answer(200, document)
    raise _no_path(exchange)


def _asked_infer(what: Resolved, call: Call, body: bytes) -> Asked:
    media_type(call, KINDS)
    request = open_inference.parse(what.method, body, header_length(call.headers), call.model)

    def write(answers: dict[str, np.ndarray]) -> Answer:
        text, length = open_inference.write(what.model, what.method, call.model, request, answers)
        if length is None:
            return Answer(200, text)
        said = (b"inference-header-content-length", str(length).encode())
        return Answer(200, text, (said,), b"application/octet-stream")

    return Asked(request.inputs, request.seconds, write)


def _asked_predict(what: Resolved, call: Call, body: bytes) -> Asked:
    read, _ = FORMS[media_type(call, tuple(FORMS))]
    kind = choose_form(call)
    if kind != KINDS[0] and what.method.rows == SINGLE:
        raise Refused(f"method {what.method.name!r} has no rows, and so answers no table; JSON will do.")

    def write(answers: dict[str, np.ndarray]) -> Answer:
        return Answer(200, FORMS[kind][1](what.model, what.method, call.model, answers), (), SAID.get(kind, kind))

    return Asked(read(what.method, body), None, write)


READERS = {"infer": _asked_infer, "predict": _asked_predict}


async def _infer(
    serving: Serving, exchange: Exchange, call: Call, what: Resolved, read: Callable[[Resolved, Call, bytes], Asked]
) -> Answer | None:
    body = await _body(serving, exchange, call, KINDS if read is _asked_infer else tuple(FORMS))
    if body is None:
        return None
    table = read is _asked_predict and is_table(call)
    large = table or (len(body) > INLINE_BODY and header_length(call.headers) is None)
    request = await _maybe_aside(large, lambda: read(what, call, body))
    answers = await infer(serving, what, call, request.inputs, request.seconds, exchange.wait_gone)
    return await _maybe_aside(table or _large(answers), lambda: request.write(answers))


async def _converse(serving: Serving, exchange: Exchange, call: Call, chat: bool) -> Answer | None:
    """Go on with a text, as its body asks."""
    if (body := await _body(serving, exchange, call, KINDS[:1])) is None:
        return None
    asked = _parse(body)
    if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
        raise Refused(f"the body must be an object with 'model', a name; got {show(asked)}.")
    call.model = asked["model"]
    if not may(call.scopes, INFER, call.model):  # it was not known who is meant when the call was admitted
        raise Stop(403, f"this needs the scope {show(f'{INFER}:{call.model}', 120)}.")
    what = find(serving, call, None)
    decoder = serving.engine.decoder(what.model)
    if decoder is None:
        raise Refused(f"{show(call.model)} is no model of language: it was exported without `decoding`.")
    wanted = await _maybe_aside(len(body) > LONG_TEXT, lambda: completions.read_wanted(asked, chat, decoder.decoding))
    return await completions.converse(exchange, call, what, decoder, wanted, chat)


def _texts(serving: Serving) -> list[dict[str, Any]]:
    """The models that go on with texts, as OpenAI's clients read them; raises `Unready`."""
    if not serving.repository.started:
        raise Unready("no model is ready yet")
    return [
        completions.described_model(name, model.manifest["created"])
        for name, model in sorted(serving.repository.models.items())
        if model.decoding is not None
    ]


async def _change(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """Load or unload a model."""
    check_page(exchange)
    body = await _body(serving, exchange, call, KINDS)
    if body is None:
        return None
    check_control(serving)
    asked = _parse(body)
    open_inference.check_object(asked, "the body", set(), {"parameters"})
    parameters = asked.get("parameters")
    parameters = {} if parameters is None else parameters
    open_inference.check_object(parameters, "'parameters'", set(), {"config", "unload_dependents"})
    if call.operation == "unload":
        work = partial(serving.repository.unload, call.model, call.principal)
    else:
        config = _parse(parameters.get("config"), "'config'") if "config" in parameters else None
        work = partial(serving.repository.load, call.model, config, call.principal)
    await change(call, work)
    return json_answer(200, {})


async def _policy(serving: Serving, exchange: Exchange, call: Call) -> Answer | None:
    """Follow another policy; the answer is what it is then."""
    check_page(exchange)
    if (body := await _body(serving, exchange, call, KINDS)) is None:
        return None
    check_control(serving)
    if not body.strip():
        raise Refused("the body must be the whole policy; got none. {} is one that says nothing.")
    await change(call, partial(serving.repository.set_policy, call.model, _parse(body), call.principal))
    return json_answer(200, serving.repository.policy(call.model))


def _parse(content: Any, what: str = "the body") -> Any:
    try:
        return orjson.loads(content) if content else {}
    except (orjson.JSONDecodeError, TypeError) as error:
        raise Refused(f"{what} is not JSON: {error}.") from error


def _version(rest: list[str]) -> tuple[str | None, list[str]]:
    return (rest[1], rest[2:]) if rest[:1] == ["versions"] and len(rest) > 1 else (None, rest)


def _large(answers: dict[str, np.ndarray]) -> bool:
    return sum(answer.nbytes for answer in answers.values()) > INLINE_BODY


async def _maybe_aside(aside: bool, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_aside, work) if aside else work()


def _only(exchange: Exchange, allowed: str) -> None:
    if exchange.method not in ((allowed, "HEAD") if allowed == "GET" else (allowed,)):
        message = f"{exchange.path[:200]} answers {allowed}; got {exchange.method[:20]}."
        raise Stop(405, message, (b"allow", allowed.encode()))


def _no_path(exchange: Exchange) -> Stop:
    return Stop(404, f"no such path: {show(exchange.path, 200)}; the Open Inference Protocol begins at /v2.")


async def _body(serving: Serving, exchange: Exchange, call: Call, kinds: tuple[bytes, ...]) -> bytes | None:
    """The body, refused before it is read where that can be; None when the client has gone."""
    media_type(call, kinds)
    coding = call.headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity" and coding not in WINDOW:
        raise Stop(415, f"Content-Encoding must be gzip, deflate or identity; got {show(coding.decode('latin-1'))}.")
    body = await exchange.read()
    if body is None:
        if exchange.refused:
            raise Stop(*exchange.refused)
        return None
    if coding == b"identity":
        return body
    return await _maybe_aside(True, lambda: inflate(body, coding, serving.max_body))
