"""Texts in slots, of a model that says the next letter of the alphabet: slots, streams, ends and refusals over sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import start

from arsenal_serving.artifact.pieces import PieceWriter
from arsenal_serving.artifact.slots import ENTER, NEUTRAL, STEP
from arsenal_serving.artifact.template import CHATML
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.refused import Full, Refused
from arsenal_serving.repository.decoder import Decoder, Piece, TextOptions
from arsenal_serving.security import api_keys

CONTEXT, V = 4096, 256
WORDS = V // 32


def enter(params, inputs):
    """The last letter of a prompt is all that counts; a new line begins the alphabet."""
    state, slot = inputs["state"], inputs["slot"]
    last = inputs["tokens"][0, inputs["length"] - 1]
    text = jnp.zeros((1, state["text"].shape[1]), jnp.int32)
    text = jax.lax.dynamic_update_slice(text, inputs["tokens"], (0, 0))

    def put(name, value):
        return state[name].at[slot].set(value)

    return {
        "state": {
            "text": jax.lax.dynamic_update_slice(state["text"], text, (slot, jnp.int32(0))),
            "position": put("position", inputs["length"]),
            "step": put("step", 0),
            "seed": put("seed", inputs["seed"]),
            "temperature": put("temperature", inputs["sampling"]["temperature"]),
            "logits": put("logits", params["table"][last]),
        }
    }


def step(params, inputs):
    state = inputs["state"]
    bits = inputs["allowed"][:, :, None] >> jnp.arange(32, dtype=jnp.uint32) & 1
    logits = jnp.where(bits.reshape(bits.shape[0], 32 * WORDS) > 0, state["logits"], -jnp.inf)
    keys = jax.vmap(lambda seed, at: jax.random.fold_in(jax.random.key(seed), at))(state["seed"], state["step"])
    drawn = jax.vmap(jax.random.categorical)(keys, logits / jnp.maximum(state["temperature"], 1e-6)[:, None])
    token = jnp.where(state["temperature"] > 0, drawn, jnp.argmax(logits, -1)).astype(jnp.int32)
    log_p = jax.nn.log_softmax(state["logits"])
    order = jnp.argsort(log_p, descending=True)[:, :20].astype(jnp.int32)
    position = jnp.minimum(state["position"], state["text"].shape[1] - 1)
    made = {
        "text": state["text"].at[jnp.arange(token.shape[0]), position].set(token),
        "position": state["position"] + 1,
        "step": state["step"] + 1,
        "seed": state["seed"],
        "temperature": state["temperature"],
        "logits": params["table"][token],
    }
    take = lambda at: jnp.take_along_axis(log_p, at, 1)  # noqa: E731
    return {
        "state": made,
        "token": token,
        "log_p": take(token[:, None])[:, 0],
        "ranks": order,
        "rank_log_p": take(order),
    }


def methods(params):
    def state(n, room):
        numbers = jnp.zeros(n, jnp.int32)
        return {
            "text": jnp.zeros((n, room), jnp.int32),
            "position": numbers,
            "step": numbers,
            "seed": numbers.astype(jnp.uint32),
            "temperature": jnp.zeros(n),
            "logits": jnp.zeros((n, V)),
        }

    shapes = {f"state.{name}": Tensor(shape=["slots", *array.shape[1:]]) for name, array in state(2, 8).items()}
    shapes["state.text"] = Tensor(shape=["slots", "room"])
    sampling = {name: jnp.asarray(value, jnp.int32 if type(value) is int else jnp.float32) for name, value in NEUTRAL.items()}
    text = {"tokens": jnp.arange(4)[None], "length": jnp.int32(3), "slot": jnp.int32(1), "seed": jnp.uint32(0)}
    asked = {"state": state(2, 8), "allowed": jnp.full((2, WORDS), 0xFFFFFFFF, jnp.uint32), "ranked": jnp.asarray(True)}
    bounds = [f"room <= {CONTEXT}", f"length <= {CONTEXT}", "length <= room"]
    told = {"batch": False, "private": True}
    return {
        "predict": lambda params, x: params["table"][x],
        ENTER: Method(
            enter,
            {"state": state(2, 8), "sampling": sampling, **text},
            {**shapes, "tokens": Tensor(shape=[1, "length"])},
            constraints=bounds,
            **told,
        ),
        STEP: Method(step, asked, {**shapes, "allowed": Tensor(shape=["slots", WORDS])}, constraints=bounds[:1], **told),
    }


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """The folder of a model: each byte is followed by the next one, a new line by an a; z ends a text."""
    following = (np.arange(V) + 1) % V
    following[10] = ord("a")
    params = {"table": (8.0 * np.eye(V, dtype=np.float32)[following])}
    told = {
        "codec": "language",
        "context": CONTEXT,
        "vocabulary": V,
        "end": [ord("z")],
        "template": {"source": CHATML, "tokens": {}},
    }
    codecs = {"language": {"kind": "tokens", "length": 8}}
    folder = tmp_path_factory.mktemp("texts") / "letters"
    export(folder, methods(params), params, np.zeros(3, np.int32), codecs=codecs, decoding=told)
    return folder


class Texts:
    """What asks a server for texts."""

    def __init__(self, server):
        self.server, self.port = server, server.port

    def post(self, path, body, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("POST", path, json.dumps({"model": "letters", **body}), {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content

    def ask(self, path, body, **headers):
        status, content = self.post(path, body, **headers)
        return status, json.loads(content)

    def events(self, path, body):
        status, content = self.post(path, {**body, "stream": True})
        assert status == 200, content
        *events, done, rest = content.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]


def stop(running):
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=20)
    assert running.process.returncode == 0 and "Traceback" not in said, said


@pytest.fixture(scope="module")
def texts(letters):
    running = start(letters, "--slots", "2", "--room", "512")
    yield Texts(running)
    stop(running)


TALK = [{"role": "user", "content": [{"type": "text", "text": "Say the "}, {"type": "text", "text": "alphabet."}]}]
ALPHABET = "abcdefghijklmnopqrstuvwxy"


def test_an_end_token_ends_a_text_and_is_no_part_of_it(texts):
    status, body = texts.ask("/v1/completions", {"prompt": "uv", "temperature": 0})
    assert status == 200
    assert body["choices"] == [{"index": 0, "text": "wxy", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    status, body = texts.ask("/v1/completions", {"prompt": "a", "temperature": 0, "max_tokens": 3})
    assert (body["choices"][0]["text"], body["choices"][0]["finish_reason"]) == ("bcd", "length")


def test_a_talk(texts):
    status, body = texts.ask("/v1/chat/completions", {"messages": TALK, "temperature": 0, "logprobs": True, "top_logprobs": 2})
    (choice,) = body["choices"]
    assert status == 200 and choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": ALPHABET, "refusal": None}
    first = choice["logprobs"]["content"][0]
    assert first["token"] == "a" and first["bytes"] == [97] and first["top_logprobs"][0]["token"] == "a"
    assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-")
    head, *events, usage = texts.events("/v1/chat/completions", {"messages": TALK, "temperature": 0, "stream_options": {"include_usage": True}})
    assert head["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == ALPHABET
    assert events[-1]["choices"][0]["finish_reason"] == "stop" and usage["usage"] == body["usage"]


def test_the_openapi_document_says_what_may_be_asked(texts):
    from jsonschema import Draft202012Validator

    with urllib.request.urlopen(f"http://127.0.0.1:{texts.port}/openapi.json", timeout=20) as answer:
        paths = json.load(answer)["paths"]
    for path, asked in (("/v1/completions", {"prompt": "uv"}), ("/v1/chat/completions", {"messages": TALK})):
        check = Draft202012Validator(paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"])
        asked = asked | {"model": "letters", "temperature": 0, "max_tokens": 3, "n": 1, "stop": ["z"]}
        assert check.is_valid(asked) and texts.ask(path, asked)[0] == 200
        for wrong in ({"temperature": -1}, {"n": 2}, {"max_tokens": 0}, {"stop": [""]}):
            assert not check.is_valid(asked | wrong) and texts.ask(path, asked | wrong)[0] == 400, wrong


def test_a_stop_over_several_pieces(texts):
    events = texts.events("/v1/completions", {"prompt": "a", "temperature": 0, "max_tokens": 20, "stop": ["fgh", "never"]})
    assert [event["choices"][0]["text"] for event in events] == ["b", "c", "d", "e", ""]


def test_a_seed_is_a_text_whoever_else_is_there(texts):
    asked = [{"prompt": "\n", "temperature": 3.0, "seed": seed, "max_tokens": 30 + seed} for seed in range(12)]
    alone = [texts.ask("/v1/completions", one)[1]["choices"] for one in asked]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: texts.ask("/v1/completions", one)[1]["choices"], asked))
    assert alone == together and len({one[0]["text"] for one in alone}) == 12


def test_a_connection_goes_on_after_a_stream_and_http_1_0_has_its_end(texts):
    body = json.dumps({"model": "letters", "prompt": "a", "temperature": 0, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.%d\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", texts.port), timeout=10) as client:
        client.sendall((head % (1, len(body)) + body) * 2 + b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = b"".join(iter(lambda: client.recv(65536), b""))
    assert said.count(b"transfer-encoding: chunked") == 2 and said.count(b"data: [DONE]\n\n\r\n0\r\n\r\n") == 2
    assert said.endswith(b'{"live":true}')
    with socket.create_connection(("127.0.0.1", texts.port), timeout=10) as client:
        client.sendall(head % (0, len(body)) + body)
        said = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"chunked" not in said and b"connection: close" in said and said.endswith(b"data: [DONE]\n\n")


def test_a_stream_that_has_begun_is_finished_when_the_server_stops(letters):
    running = start(letters, "--slots", "1")
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    asked = {"model": "letters", "prompt": "\x80", "max_tokens": 4000, "stream": True, "temperature": 5.0, "logprobs": 0}
    connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
    response = connection.getresponse()
    begun = response.read(100)
    running.process.send_signal(signal.SIGTERM)
    assert (begun + response.read()).endswith(b"data: [DONE]\n\n")
    connection.close()
    _, said = running.process.communicate(timeout=20)
    assert running.process.returncode == 0 and "Traceback" not in said


REFUSED = [
    ("/v1/chat/completions", {"messages": []}, "'messages' must be a list of messages; got []"),
    ("/v1/chat/completions", {"messages": [{"role": "owner", "content": "a"}]}, "'role' of message 1 must be one of system"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'content' of message 1 must be text"),
    ("/v1/chat/completions", {"messages": TALK, "tools": [{"type": "function"}]}, "'tools' must be [] here"),
    ("/v1/chat/completions", {"messages": TALK, "top_logprobs": 2}, "'top_logprobs' needs 'logprobs' to be true"),
    ("/v1/chat/completions", {"messages": TALK, "prompt": "a"}, "unknown field 'prompt' of the body"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 5000}, "must fit in 512 tokens, the model's context; got 1 + 5000"),
    ("/v1/completions", {"prompt": "a", "top_k": 0}, "'top_k' must be a whole number of at least 1; got 0"),
    ("/v1/completions", {"prompt": "a", "stream": "yes"}, "'stream' must be true or false; got 'yes'"),
]


@pytest.mark.parametrize("path, asked, said", REFUSED)
def test_refusals_have_the_shape_that_such_clients_read(texts, path, asked, said):
    status, body = texts.ask(path, asked)
    assert status == 400 and said in body["error"]["message"]
    assert {key: body["error"][key] for key in ("type", "param", "code")} == {"type": "invalid_request_error", "param": None, "code": None}


def test_keys_and_their_scopes(letters, tmp_path):
    keys = tmp_path / "keys.json"
    made = {id: api_keys.add(keys, id, scopes) for id, scopes in (("one", ["infer:letters"]), ("other", ["infer:digits"]))}
    running = start(letters, "--slots", "1", "--keys", str(keys))
    texts = Texts(running)
    try:
        for headers, status, kind in (
            ({}, 401, "authentication_error"),
            ({"Authorization": f"Bearer {made['other']}"}, 403, "permission_error"),
        ):
            got, body = texts.ask("/v1/completions", {"prompt": "a"}, **headers)
            assert (got, body["error"]["type"]) == (status, kind), body
        got, body = texts.ask("/v1/completions", {"prompt": "a", "temperature": 0}, Authorization=f"Bearer {made['one']}")
        assert got == 200 and body["choices"][0]["text"] == "bcdefghijklmnopq"
    finally:
        stop(running)


def test_a_queue_is_bounded_and_who_leaves_makes_room(letters):
    served = load(letters, slots=1, room=64)
    heard: list = []

    async def run():
        with ThreadPoolExecutor(1) as device:
            decoder = Decoder(served.decoding, device, 2)
            options = TextOptions([97], 5, 0, {"temperature": 0.0})
            jobs = [decoder.submit(options, heard.append) for _ in range(3)]
            with pytest.raises(Full, match="the queue is full; try again in 2 s"):
                decoder.submit(options, heard.append)
            jobs[1].leave()
            decoder.submit(TextOptions([98], 2, 0, {"temperature": 0.0}), heard.append)
            assert (decoder.busy, decoder.waiting) == (1, 2)
            while decoder.busy or decoder.waiting:
                await asyncio.sleep(0.01)
            return decoder

    decoder = asyncio.run(run())
    assert "".join(piece.text for piece in heard) == "bcdefbcdefcd"
    assert [piece.ended for piece in heard if piece.ended] == ["length"] * 3
    assert (decoder.tokens, decoder.prompts, len(decoder.first)) == (12, 3, 3)


def test_a_failing_step_is_told_and_the_next_text_goes_on(letters):
    served = load(letters, slots=1, room=64)
    heard: list = []

    async def run():
        with ThreadPoolExecutor(1) as device:
            decoder = Decoder(served.decoding, device, 2)
            decoder.submit(TextOptions(list(range(100)), 5, 0), heard.append)  # longer than the room, which parsing refuses
            decoder.submit(TextOptions([97], 2, 0, {"temperature": 0.0}), heard.append)
            while decoder.busy or decoder.waiting:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert isinstance(heard[0], IndexError)
    assert [piece.text for piece in heard[1:] if isinstance(piece, Piece)] == ["b", "c"]


def test_pieces_are_whole_letters_and_together_the_text():
    text = "né €uro 𝄞 end"
    writer = PieceWriter(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [writer.add(byte, "length" if at == len(text.encode()) - 1 else None)[0] for at, byte in enumerate(text.encode())]
    assert "".join(pieces) == text and all("\ufffd" not in piece for piece in pieces)
    assert PieceWriter(lambda ids: bytes(ids).decode(errors="replace")).add(0xE2, "length") == ("\ufffd", "length")


def test_private_methods_must_fit(tmp_path):
    params = {"table": np.zeros((V, V), np.float32)}
    told = {"codec": "language", "context": CONTEXT, "vocabulary": V, "end": [], "template": None}
    codecs = {"language": {"kind": "tokens", "length": 8}}
    given = methods(params)
    del given[STEP]
    path = export(tmp_path / "half", given, params, np.zeros(3, np.int32), codecs=codecs, decoding=told)
    with pytest.raises(Refused, match="an artifact with 'decoding' must have the private method 'decode_step'"):
        load(path)
    with pytest.raises(Refused, match="`methods` must hold at least one method"):
        export(tmp_path / "none", {ENTER: given[ENTER]}, params, codecs=codecs, decoding=told)


def test_metrics(texts):
    texts.ask("/v1/completions", {"prompt": "a", "temperature": 0, "max_tokens": 3})
    connection = http.client.HTTPConnection("127.0.0.1", texts.port, timeout=20)
    deadline = time.monotonic() + 5
    while True:
        connection.request("GET", "/metrics")
        said = connection.getresponse().read().decode()
        if re.search(r'^arsenal_serve_slots_busy\{model="letters",version="1"\} 0', said, re.M) or time.monotonic() > deadline:
            break
    connection.close()
    for line in (r"slots\{.*\} 2\.0", r"slots_busy\{.*\} 0\.0", r"slots_waiting\{.*\} 0\.0", r"generated_tokens_total\{.*\} [1-9]", r"first_token_seconds_count\{.*\} [1-9]"):
        assert re.search(rf"^arsenal_serve_{line}", said, re.M), line
