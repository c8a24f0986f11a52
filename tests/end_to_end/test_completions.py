"""Texts of a served run, asked as OpenAI's clients ask: each is the text that the run makes alone, whoever else is served."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from arsenal.continuation import stream_text
from arsenal.models import Sampling
from arsenal.road import export, fit, load

WORDS = ["length=6", "batch_size=4", "data.context=48", "data.stride=64", "model.layers=1", "model.width=16", "model.heads=2"]
MODEL = "text_gpt"
pytestmark = pytest.mark.slow


class Server:
    """A running `arsenal-serve FOLDER` with three slots."""

    def __init__(self, folder, *words):
        command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--slots", "3", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        line = self.process.stdout.readline()
        found = re.search(r"ready: http://127\.0\.0\.1:(\d+)/v2/models/", line)
        assert found, (line, self.process.communicate()[1])
        self.port = int(found[1])

    def open(self, path: str, body: dict | None = None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        told = {"Content-Type": "application/json"} | headers
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), told)
        return connection, connection.getresponse()

    def ask(self, path: str, body: dict | None = None, **headers):
        connection, response = self.open(path, body, **headers)
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if response.headers["content-type"] == "application/json" else content

    def complete(self, prompt: str, **more):
        status, body = self.ask("/v1/completions", {"model": MODEL, "prompt": prompt} | more)
        assert status == 200, body
        return body

    def events(self, path: str, body: dict):
        """The events of a stream, each a chunk of its own, and the last one's word."""
        status, content = self.ask(path, body | {"stream": True})
        assert status == 200, content
        *events, done, rest = content.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def metric(self, name: str) -> float:
        found = re.search(rf'^arsenal_serve_{name}{{model="{MODEL}",version="1"}} (\S+)$', self.ask("/metrics")[1].decode(), re.M)
        return float(found[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    fit(MODEL, [*WORDS, f"run.root={root}", "run.tensorboard=false", "~expect"])
    (path,) = root.glob(f"{MODEL}/*")
    export(load(path))
    return load(path)


@pytest.fixture(scope="module")
def server(run):
    running = Server(run.folder)
    yield running
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=20)
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert (running.process.returncode, events) == (0, ["ready", "drain", "stop"]), said


ASKED = [
    ("The", 20, {"temperature": 0}),
    ("A list", 30, {"temperature": 1.0, "seed": 3}),
    ("x", 7, {"temperature": 1.5, "seed": 4, "top_k": 9}),
    ("What is", 25, {"temperature": 0.8, "seed": 5, "top_p": 0.9}),
    ("The", 20, {"temperature": 1.0, "seed": 6, "presence_penalty": 0.7, "frequency_penalty": 0.1, "repetition_penalty": 1.2}),
    ("in", 40, {"temperature": 2.0, "seed": 7, "min_p": 0.02}),
    ("and so on", 1, {"temperature": 0}),
]
FIELDS = {"presence_penalty": "presence", "frequency_penalty": "frequency", "repetition_penalty": "repetition"}


def alone(run, prompt, count, asked):
    settings = {FIELDS.get(name, name): value for name, value in asked.items() if name != "seed"}
    return "".join(stream_text(run, prompt, count, Sampling(**settings), asked.get("seed", 0)))


def test_texts_side_by_side_are_those_of_the_run(run, server):
    """Twice as many at once as there are slots, of other lengths, beginning when others are under way."""
    wanted = [alone(run, *one) for one in ASKED]
    with ThreadPoolExecutor(len(ASKED) * 2) as pool:
        answers = list(pool.map(lambda one: server.complete(one[0], max_tokens=one[1], **one[2]), ASKED * 2))
    for (prompt, count, _), text, body in zip(ASKED * 2, wanted * 2, answers, strict=True):
        (choice,) = body["choices"]
        assert choice == {"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}
        read = len(prompt)
        assert body["usage"] == {"prompt_tokens": read, "completion_tokens": count, "total_tokens": read + count}
        assert (body["object"], body["model"], body["system_fingerprint"]) == ("text_completion", MODEL, f"{MODEL}-1")


def test_a_stream_is_the_text_in_pieces(server):
    whole = server.complete("The", max_tokens=40, temperature=1.0, seed=2)
    body = {"model": MODEL, "prompt": "The", "max_tokens": 40, "seed": 2, "stream_options": {"include_usage": True}}
    *events, usage = server.events("/v1/completions", body)
    assert len(events) > 3
    assert "".join(event["choices"][0]["text"] for event in events) == whole["choices"][0]["text"]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["length"]
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]


def test_a_stop_is_no_part_of_the_text(server):
    whole = server.complete("The", max_tokens=30, temperature=0)["choices"][0]["text"]
    stop = whole[9:11]
    for body in (server.complete("The", max_tokens=30, temperature=0, stop=stop), server.complete("The", max_tokens=30, temperature=0, stop=["~never~", stop])):
        assert body["choices"][0] == {"index": 0, "text": whole.partition(stop)[0], "logprobs": None, "finish_reason": "stop"}
    events = server.events("/v1/completions", {"model": MODEL, "prompt": "The", "max_tokens": 30, "temperature": 0, "stop": stop})
    assert "".join(event["choices"][0]["text"] for event in events) == whole.partition(stop)[0]


def test_log_probabilities(server):
    scores = server.complete("The", max_tokens=5, temperature=0, logprobs=3)["choices"][0]["logprobs"]
    assert len(scores["tokens"]) == len(scores["token_logprobs"]) == len(scores["text_offset"]) == 5
    for own, best in zip(scores["token_logprobs"], scores["top_logprobs"], strict=True):
        assert 1 <= len(best) <= 3 and own == max(best.values()) < 0  # two bytes that are no letters share a name
    assert server.complete("The", max_tokens=2, logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] is None


def test_who_goes_away_leaves_the_slot(server):
    begun = server.metric("generated_tokens_total")
    streams = [server.open("/v1/completions", {"model": MODEL, "prompt": "The", "max_tokens": 44, "stream": True}) for _ in range(6)]
    for connection, response in streams:
        response.read(20)
        connection.sock.close() if connection.sock else response.close()
        response.close()
    assert len(server.complete("The", max_tokens=3)["choices"]) == 1
    until = time.monotonic() + 10
    while (server.metric("slots_busy"), server.metric("slots_waiting")) != (0, 0):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert server.metric("slots") == 3
    assert server.metric("generated_tokens_total") > begun
    assert server.metric("first_token_seconds_count") >= 7


REFUSED = [
    ({"prompt": "The", "n": 2}, 400, "'n' must be 1 here, or left out; got 2"),
    ({"prompt": "The", "echo": True}, 400, "'echo' must be false here, or left out; got True"),
    ({"prompt": "The", "logit_bias": {"5": 1}}, 400, "'logit_bias' must be {} here"),
    ({"prompt": "The", "temprature": 1}, 400, "unknown field 'temprature' of the body; did you mean 'temperature'?"),
    ({"prompt": "The", "temperature": -1}, 400, "'temperature' must be a number of at least 0; got -1"),
    ({"prompt": "The", "top_p": 0}, 400, "'top_p' must be a number of 1e-09 to 1; got 0"),
    ({"prompt": "The", "max_tokens": 46}, 400, "must fit in 48 tokens, the model's context; got 3 + 46"),
    ({"prompt": "T" * 48}, 400, "must fit in 48 tokens, the model's context; got 48 + 1"),
    ({"prompt": ""}, 400, "'prompt' must have at least one token; got an empty text"),
    ({"prompt": ["a", "b"]}, 400, "'prompt' must be one text, or the tokens of one"),
    ({"prompt": [300]}, 400, "tokens of 'prompt' must be 0 to 255; got 300"),
    ({"prompt": "The", "stop": ["a"] * 17}, 400, "'stop' must be a text or up to 16"),
    ({"prompt": "The", "logprobs": 21}, 400, "'logprobs' must be at most 20; got 21"),
    ({"prompt": "The", "seed": -1}, 400, "'seed' must be a whole number of at least 0; got -1"),
    ({"prompt": "The", "stream_options": {"include_usage": True}}, 400, "'stream_options' is of a stream"),
    ({"prompt": "The", "response_format": {"type": "xml"}}, 400, "'response_format' must be {'type': 'text'}"),
    ({"model": "text_gtp", "prompt": "The"}, 404, "unknown model 'text_gtp'; did you mean 'text_gpt'?"),
    ({"model": 3, "prompt": "The"}, 400, "an object with 'model', a name"),
]


@pytest.mark.parametrize("more, status, said", REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_honoured_is_refused_as_such_clients_read_it(server, more, status, said):
    got, body = server.ask("/v1/completions", {"model": MODEL} | more)
    assert got == status and list(body) == ["error"]
    assert said in body["error"]["message"] and body["error"]["type"] in ("invalid_request_error", "not_found_error")


def test_other_ways_to_ask(server):
    assert server.complete([84, 104, 101], max_tokens=5, temperature=0)["choices"] == server.complete("The", max_tokens=5, temperature=0)["choices"]
    status, body = server.ask("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
    assert status == 400 and "no chat template" in body["error"]["message"]
    status, body = server.ask("/v1/models")
    assert status == 200 and [one["id"] for one in body["data"]] == [MODEL]
    assert server.ask(f"/v1/models/{MODEL}")[1]["object"] == "model" and server.ask("/v1/models/other")[0] == 404
    assert server.ask("/v1/completions")[0] == 405
    connection, response = server.open("/v1/completions", {"model": MODEL, "prompt": "The", "max_tokens": 3})
    response.read()
    assert response.status == 200 and response.headers["x-request-id"]
    connection.close()


def test_the_private_programs_are_nobodys_to_call(server):
    status, body = server.ask(f"/v2/models/{MODEL}")
    assert status == 200 and "decode_step" not in body["parameters"]["methods"]
    assert server.ask(f"/v2/models/{MODEL}.decode_step/infer", {"inputs": []})[0] == 404
