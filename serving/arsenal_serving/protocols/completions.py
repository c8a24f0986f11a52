"""Texts that go on, as OpenAI's clients ask for them: `/v1/completions`, `/v1/chat/completions` and `/v1/models`.

https://platform.openai.com/docs/api-reference/completions and /chat; answers come whole or, with `stream`, as
server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). What cannot be honoured is refused.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from arsenal_serving.artifact.grammar import Grammar, json_grammar, regex_grammar
from arsenal_serving.artifact.slots import Decoding
from arsenal_serving.artifact.template import ChatTemplate, render
from arsenal_serving.calls import Call
from arsenal_serving.protocols.errors import Answer, answer_error, error_body, json_answer
from arsenal_serving.protocols.http1 import Exchange
from arsenal_serving.refused import Refused, show, unknown_name
from arsenal_serving.repository.decoder import Decoder, Piece, Scored, TextOptions
from arsenal_serving.repository.engine import Gone
from arsenal_serving.repository.models import Resolved

MOST_STOPS, MOST_STOP = 16, 256  # texts, and letters of one
COMPLETION = 16  # tokens where nobody says how many, as OpenAI's
MOST_SEED = (1 << 32) - 1
ROLES = ("system", "developer", "user", "assistant", "tool")
# By field of the body: the field of `artifact.slots.NEUTRAL`, and its bounds.
NUMBERS: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0.0, math.inf),
    "top_p": ("top_p", 1e-9, 1.0),
    "min_p": ("min_p", 0.0, 1.0),
    "presence_penalty": ("presence", -math.inf, math.inf),
    "frequency_penalty": ("frequency", -math.inf, math.inf),
    "repetition_penalty": ("repetition", 1e-9, math.inf),
}
COUNTS = {"top_k": 1, "seed": 0, "max_tokens": 1, "max_completion_tokens": 1}
BOTH = {"model", "stream", "stream_options", "stop", "logprobs", "response_format", "regex", "user", "metadata"}
# What is there for other ways to answer: taken where it says no more than the default.
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
COMPLETIONS = {"prompt"}
COMPLETIONS_DEFAULTS: dict[str, tuple[Any, ...]] = {"best_of": (1,), "echo": (False,), "suffix": ("",)}
CHAT = {"messages", "top_logprobs"}
CHAT_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
}


class Wanted(NamedTuple):
    """A text as its body asks for it. usage: whether a stream tells of it at its end."""

    options: TextOptions
    stream: bool
    usage: bool


def read_wanted(asked: Mapping[str, Any], chat: bool, decoding: Decoding) -> Wanted:
    """What a body asks of a model; raises `Refused`. Slow for a long prompt."""
    given = {name: value for name, value in asked.items() if value is not None}
    defaults = DEFAULTS | (CHAT_DEFAULTS if chat else COMPLETIONS_DEFAULTS)
    known = BOTH | NUMBERS.keys() | COUNTS.keys() | defaults.keys() | (CHAT if chat else COMPLETIONS)
    for name in asked:
        if name not in known:
            raise unknown_name("field", name, known, of="the body")
    for name, values in defaults.items():
        if name in given and not any(type(given[name]) is type(value) and given[name] == value for value in values):
            allowed = " or ".join(orjson.dumps(value).decode() for value in values)
            raise Refused(f"{name!r} must be {allowed} here, or left out; got {show(given[name])}.")
    sampling = {field: _number(given, name, low, high) for name, (field, low, high) in NUMBERS.items() if name in given}
    counts = {name: _count(given, name, least) for name, least in COUNTS.items() if name in given}
    if "top_k" in counts:
        sampling["top_k"] = min(counts["top_k"], 2**31 - 1)
    if (seed := counts.get("seed", secrets.randbits(32))) > MOST_SEED:
        raise Refused(f"'seed' must be a whole number of 0 to {MOST_SEED}; got {seed}.")
    if {"max_tokens", "max_completion_tokens"} <= counts.keys():
        raise Refused("'max_tokens' and 'max_completion_tokens' are one thing; give one of them.")
    tokens = _talk(given, decoding) if chat else _prompt(given, decoding)
    left = decoding.room - len(tokens)
    usual = max(1, left if chat else min(COMPLETION, left))
    most = counts.get("max_tokens", counts.get("max_completion_tokens", usual))
    if most > left:
        raise Refused(
            f"prompt and 'max_tokens' must fit in {decoding.room} tokens, the model's context; "
            f"got {len(tokens)} + {most}."
        )
    stream, details = _flag(given, "stream"), given.get("stream_options", {})
    if not isinstance(details, dict) or set(details) - {"include_usage"}:
        raise Refused(f"'stream_options' must be {{'include_usage': true or false}}; got {show(details)}.")
    if details and not stream:
        raise Refused("'stream_options' is of a stream: 'stream' must be true.")
    options = TextOptions(
        tokens, most, seed, sampling, _stops(given), _ranks(given, chat, decoding.ranks), _grammar(given, decoding)
    )
    return Wanted(options, stream, _flag(details, "include_usage"))


def openapi_paths(names: list[str], talks: list[str], responses: dict) -> dict[str, Any]:
    """The paths of the OpenAPI document: of models that go on with texts, those that talk among them."""
    paths = {"/v1/completions": _post(names, False, responses)}
    if talks:
        paths["/v1/chat/completions"] = _post(talks, True, responses)
    return paths


def _post(names: list[str], chat: bool, responses: dict) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: {"type": "number"}
        | ({"minimum": low} if math.isfinite(low) else {})
        | ({"maximum": high} if math.isfinite(high) else {})
        for name, (_, low, high) in NUMBERS.items()
    }
    fields |= {name: {"type": "integer", "minimum": least} for name, least in COUNTS.items()}
    defaults = DEFAULTS | (CHAT_DEFAULTS if chat else COMPLETIONS_DEFAULTS)
    fields |= {name: {"enum": list(values)} for name, values in defaults.items()}
    text = {"type": "string", "minLength": 1, "maxLength": MOST_STOP}
    fields |= {
        "model": {"enum": names},
        "stream": {"type": "boolean"},
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "stop": {"anyOf": [text, {"type": "array", "items": text, "maxItems": MOST_STOPS}]},
        "response_format": {"type": "object", "required": ["type"]},
        "regex": {"type": "string"},
        "user": {},
        "metadata": {},
    }
    if chat:
        message = {"type": "object", "properties": {"role": {"enum": list(ROLES)}}, "required": ["role"]}
        fields |= {
            "messages": {"type": "array", "items": message, "minItems": 1},
            "logprobs": {"type": "boolean"},
            "top_logprobs": {"type": "integer", "minimum": 0},
        }
    else:
        tokens = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
        fields |= {"prompt": {"anyOf": [{"type": "string"}, tokens]}, "logprobs": {"type": "integer", "minimum": 0}}
    asked = {"type": "object", "properties": fields, "required": ["model", "messages" if chat else "prompt"]}
    said = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "post": {
            "operationId": "chat" if chat else "complete",
            "summary": "what answers a talk" if chat else "how a text goes on",
            "requestBody": {"content": {"application/json": {"schema": asked}}, "required": True},
            "responses": responses | {"200": {"description": "whole, or as it comes with `stream`", "content": said}},
        }
    }


def _number(given: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = given[name]
    if type(value) not in (int, float) or not low <= value <= high or not abs(value) < 1e30:
        least = f" of at least {low:g}" if math.isfinite(low) else ""
        bounds = f" of {low:g} to {high:g}" if math.isfinite(high) else least
        raise Refused(f"{name!r} must be a number{bounds}; got {show(value)}.")
    return float(value)


def _count(given: Mapping[str, Any], name: str, least: int) -> int:
    value = given[name]
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < least:
        raise Refused(f"{name!r} must be a whole number of at least {least}; got {show(value)}.")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if type(value) is not bool:
        raise Refused(f"{name!r} must be true or false; got {show(value)}.")
    return value


def _stops(given: Mapping[str, Any]) -> list[str]:
    stops = given.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    sound = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not sound or not all(isinstance(stop, str) and 0 < len(stop) <= MOST_STOP for stop in stops):
        each = f"each of 1 to {MOST_STOP} letters"
        raise Refused(f"'stop' must be a text or up to {MOST_STOPS}, {each}; got {show(stops)}.")
    return stops


def _ranks(given: Mapping[str, Any], chat: bool, most: int) -> int | None:
    """How many of the likeliest tokens are wanted with each; None: no scores."""
    if not chat:
        ranks = None if "logprobs" not in given else _count(given, "logprobs", 0)
    elif not _flag(given, "logprobs"):
        if "top_logprobs" in given:
            raise Refused("'top_logprobs' needs 'logprobs' to be true.")
        ranks = None
    else:
        ranks = _count(given, "top_logprobs", 0) if "top_logprobs" in given else 0
    if ranks is not None and ranks > most:
        raise Refused(f"{'top_logprobs' if chat else 'logprobs'!r} must be at most {most}; got {ranks}.")
    return ranks


def _grammar(given: Mapping[str, Any], decoding: Decoding) -> Grammar | None:
    form, how = given.get("response_format", {"type": "text"}), (decoding.vocabulary, decoding.end)
    if form != {"type": "text"} and "regex" in given:
        raise Refused("'regex' and 'response_format' each say what form a text has; give one of them.")
    if "regex" in given:
        return regex_grammar(decoding.language, given["regex"], *how)
    match form:
        case {"type": "text", **rest} if not rest:
            return None
        case {"type": "json_object", **rest} if not rest:
            return json_grammar(decoding.language, {"type": "object"}, *how)
        case {"type": "json_schema", "json_schema": {"schema": schema, **more}, **rest} if not rest:
            if not set(more) - {"name", "strict", "description"}:
                return json_grammar(decoding.language, schema, *how)
    allowed = "{'type': 'text'}, {'type': 'json_object'} or {'type': 'json_schema', 'json_schema': {'schema': ...}}"
    raise Refused(f"'response_format' must be {allowed}; got {show(form)}.")


def _prompt(given: Mapping[str, Any], decoding: Decoding) -> list[int]:
    prompt = given.get("prompt", "")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(type(code) is int for code in prompt):
        if wrong := [code for code in prompt if not 0 <= code < decoding.language.size]:
            raise Refused(f"tokens of 'prompt' must be 0 to {decoding.language.size - 1}; got {wrong[0]}.")
        return prompt
    if not isinstance(prompt, str):
        raise Refused(f"'prompt' must be one text, or the tokens of one; got {show(prompt)}.")
    return _tokens(prompt, True, "'prompt'", decoding)


def _talk(given: Mapping[str, Any], decoding: Decoding) -> list[int]:
    if decoding.template is None:
        raise Refused("this model has no chat template, and so no talks; /v1/completions goes on from a text.")
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(f"'messages' must be a list of messages; got {show(messages)}.")
    talk = [_message(at, message) for at, message in enumerate(messages, 1)]
    written = render(ChatTemplate(decoding.template["source"], decoding.template["tokens"]), talk, prompt=True)
    return _tokens(written, False, "'messages'", decoding)


def _message(at: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise Refused(f"message {at} must be an object with 'role' and 'content'; got {show(message)}.")
    for name, value in message.items():
        if name not in ("role", "content", "name") and value not in (None, [], {}):
            raise unknown_name("field", name, ("role", "content", "name"), of=f"message {at}")
    if message["role"] not in ROLES:
        raise Refused(f"'role' of message {at} must be one of {', '.join(ROLES)}; got {show(message['role'])}.")
    content = message["content"]
    if isinstance(content, list):
        sound = all(isinstance(part, dict) and part.get("type") == "text" for part in content)
        parts = [part.get("text") for part in content] if sound else [None]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(content, str):
        raise Refused(f"'content' of message {at} must be text; got {show(message['content'])}.")
    return {"role": message["role"], "content": content} | ({"name": message["name"]} if message.get("name") else {})


def _tokens(text: str, around: bool, what: str, decoding: Decoding) -> list[int]:
    found = decoding.language.read(text, around)
    if not found:
        raise Refused(f"{what} must have at least one token; got an empty text.")
    return found


async def converse(
    exchange: Exchange, call: Call, what: Resolved, decoder: Decoder, wanted: Wanted, chat: bool
) -> Answer | None:
    """Answer with a text: whole, or piece by piece as it is made, and then None; None too where the client has gone."""
    pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
    job = decoder.submit(wanted.options, pieces.put_nowait)

    def left() -> None:
        job.leave()
        pieces.put_nowait(Gone("the client has gone."))

    async def take() -> Piece:
        piece = await pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    writer = BodyWriter(call, what, decoder.decoding, wanted.options, chat)
    try:
        if exchange.answered:  # it went while its body was read
            return None
        exchange.on_gone = left
        if wanted.stream:
            await _stream(exchange, call, take, writer, wanted, lambda: job.made)
            return None
        found = [await take()]
        while found[-1].ended is None:
            found.append(await take())
        whole = Piece("".join(piece.text for piece in found), [s for p in found for s in p.scores], found[-1].ended)
        return json_answer(200, writer.whole(whole, job.made))
    finally:
        job.leave()


async def _stream(
    exchange: Exchange,
    call: Call,
    take: Callable[[], Any],
    writer: BodyWriter,
    wanted: Wanted,
    made: Callable[[], int],
) -> None:
    """Send the pieces as events."""
    first = await take()  # what is refused until then has a status of its own
    call.status = 200
    id = call.id.encode()
    kind, fresh = (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")
    exchange.begin(200, (kind, fresh, (b"x-request-id", id)))
    try:
        if opening := writer.opening():
            exchange.write(_event(opening))
        piece = first
        while True:
            exchange.write(_event(writer.piece(piece)))
            if piece.ended is not None:
                break
            piece = await take()
        if wanted.usage:
            exchange.write(_event(writer.usage(made())))
        exchange.write(b"data: [DONE]\n\n", last=True)
    except Gone:
        call.status = 0
    except Exception as error:
        answer = answer_error(error, call)
        call.status = 500 if answer is None else answer.status
        said = error_body(500, "internal error", call) if answer is None else orjson.loads(answer.body)
        exchange.write(_event(said), last=True)


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(body)


class BodyWriter:
    """The bodies of one answer, whole and in pieces."""

    def __init__(self, call: Call, what: Resolved, decoding: Decoding, options: TextOptions, chat: bool):
        self._chat, self._write, self._options = chat, decoding.language.write, options
        self._offset = 0  # letters of the answer so far
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{call.id}",
            "created": int(time.time()),
            "model": call.model,
            "system_fingerprint": f"{what.model.name}-{what.model.version}",
        }

    def whole(self, text: Piece, made: int) -> dict[str, Any]:
        """The body of an answer that comes whole."""
        message = {"role": "assistant", "content": text.text, "refusal": None}
        said: dict[str, Any] = {"message": message} if self._chat else {"text": text.text}
        choice = {"index": 0, **said, "logprobs": self._scores(text), "finish_reason": text.ended}
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": self._usage(made)}

    def opening(self) -> dict[str, Any] | None:
        """The event before the first piece, if there is one."""
        return self._event({"delta": {"role": "assistant", "content": ""}}, None, None) if self._chat else None

    def piece(self, piece: Piece) -> dict[str, Any]:
        """The event of a piece."""
        said: dict[str, Any] = {"text": piece.text}
        if self._chat:
            said = {"delta": {"content": piece.text} if piece.text else {}}
        return self._event(said, self._scores(piece), piece.ended)

    def usage(self, made: int) -> dict[str, Any]:
        """The event behind the last piece, of what was counted."""
        return {**self._event({}, None, None), "choices": [], "usage": self._usage(made)}

    def _event(self, said: dict[str, Any], scores: dict[str, Any] | None, ended: str | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        choice = {"index": 0, **said, "logprobs": scores, "finish_reason": ended}
        return {**self._head, "object": kind, "choices": [choice]}

    def _usage(self, made: int) -> dict[str, int]:
        read = len(self._options.tokens)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def _scores(self, piece: Piece) -> dict[str, Any] | None:
        if self._options.ranks is None:
            return None
        if self._chat:
            return {"content": [self._scored(score) for score in piece.scores], "refusal": None}
        texts, offsets = [self._write([score.token]) for score in piece.scores], list[int]()
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [score.log_p for score in piece.scores],
            "top_logprobs": [{self._write([t]): p for t, p in score.ranks} for score in piece.scores]
            if self._options.ranks
            else None,
            "text_offset": offsets,
        }

    def _scored(self, score: Scored) -> dict[str, Any]:
        def one(token: int, log_p: float) -> dict[str, Any]:
            text = self._write([token])
            return {"token": text, "logprob": log_p, "bytes": list(text.encode())}

        return one(score.token, score.log_p) | {"top_logprobs": [one(*rank) for rank in score.ranks]}


def described_model(name: str, created: str, owner: str = "arsenal") -> dict[str, Any]:
    """A model as OpenAI's list of models has it."""
    from datetime import datetime

    try:
        since = int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        since = 0
    return {"id": name, "object": "model", "created": since, "owned_by": owner}
