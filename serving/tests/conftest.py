"""One artifact and one real server process, shared by all tests: exporting and compiling are what costs time."""

from __future__ import annotations

import atexit
import functools
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal_serving import compile_cache
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import ServedModel, load

collect_ignore = ["clients"]  # programs of other environments
# Servers keep what they compile; here in a folder of these tests, so that each session proves anew.
SERVED_CACHE = tempfile.mkdtemp()
atexit.register(shutil.rmtree, SERVED_CACHE, ignore_errors=True)
# What is loaded in this process shares that folder: each program is compiled once, whoever runs it.
compile_cache.use(Path(SERVED_CACHE) / "arsenal-serving" / "jax")

ANIMALS = ["cat", "dog", "éléphant"]
CODECS = {"animal": {"kind": "category", "values": ANIMALS}, "day": {"kind": "date"}}


class Layer(NamedTuple):
    """A NamedTuple among the parameters: the serving side must not need its class."""

    w: Any
    b: Any


def parameters() -> dict:
    random = np.random.default_rng(0)
    layer = Layer(random.standard_normal((64, 3)).astype(np.float32), np.zeros(3, np.float32))
    half = jnp.asarray([1.5], jnp.bfloat16)
    return {"layers": [layer], "half": half, "table": random.standard_normal((4, 2)).astype(np.float32)}


def predict(params, x):
    w, b = params["layers"][0]
    x = jax.lax.platform_dependent(x, cpu=lambda x: x * 0.5, default=lambda x: x / 2.0)
    return jax.nn.softmax(x.reshape(x.shape[0], -1) @ w + b)


def label(params, x):
    scores = predict(params, x)
    return {"label": jnp.argmax(scores, axis=-1), "more": {"scores": scores}}


def embed(params, inputs):
    kinds = params["table"][inputs["animal"]] * params["half"].astype(jnp.float32)
    return {"embedding": kinds, "pair": inputs["pair"], "next_day": inputs["day"] + 1}


def centre(params, x):
    return x - x.mean(0)


def logarithm(params, x):
    return jnp.log(x)


def types(params, inputs):
    return {key: ~value if value.dtype == bool else value + 1 for key, value in inputs.items()}


def lengths(params, inputs):
    return {"sum": inputs["x"].sum(1) + inputs["y"].sum(1)}


def example() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, 8, 8)).astype(np.float32)


def methods() -> dict[str, Method]:
    x, codes = example(), np.arange(5, dtype=np.int32) % 3
    kinds = [f"{word}{bits}" for word in ("int", "uint") for bits in (8, 16, 32)]
    numbers = {kind: np.arange(3).astype(kind) for kind in kinds}
    animal, pairs = Tensor(codec="animal"), Tensor(columns=["a", "b"], codec=["animal", "animal"])
    return {
        "predict": Method(predict, x, outputs={"predict": Tensor(columns=ANIMALS)}),
        "label": Method(label, x, outputs={"label": animal}),
        "embed": Method(
            embed,
            {"animal": codes, "day": codes, "pair": np.stack([codes, codes], 1)},
            inputs={"animal": animal, "day": Tensor(codec="day"), "pair": pairs},
            outputs={"next_day": Tensor(codec="day"), "pair": pairs},
        ),
        "centre": Method(centre, np.arange(10, dtype=np.float32).reshape(5, 2)),
        "logarithm": Method(
            logarithm, np.float32([[1.0, 2.0]]), {"x": Tensor(finite=False)}, {"logarithm": Tensor(finite=False)}
        ),
        "types": Method(types, {**numbers, "bool": np.array([True, False, True])}),
        "lengths": Method(
            lengths,
            {"x": np.ones((3, 4), np.float32), "y": np.ones((3, 4), np.float32)},
            {"x": Tensor(shape=["batch", "length"]), "y": Tensor(shape=["batch", "length"])},
            constraints=["length <= 6"],
        ),
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run" / "artifact"
    return export(path, methods(), parameters(), name="zoo", codecs=CODECS, provenance={"by": "a test"})


@pytest.fixture(scope="session")
def model(folder) -> ServedModel:
    return load(folder, max_batch=8, max_rows=100)


@functools.cache
def has_float16() -> bool:
    """Whether XLA can turn floats into float16 here: not on processors without F16C, those before AVX."""
    try:
        jax.jit(lambda x: (x * 2).astype(jnp.float16))(jnp.ones(9, jnp.float32)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Server(NamedTuple):
    process: subprocess.Popen
    port: int

    def ask(self, verb: str, path: str, body: Any = None, headers: dict | None = None) -> Reply:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(verb, path, content, {"Content-Type": "application/json"} | (headers or {}))
        response = connection.getresponse()
        text = response.read()
        connection.close()
        found = {k.lower(): v for k, v in response.getheaders()}
        plain = found.get("content-type") == "application/json" and "content-encoding" not in found
        return Reply(response.status, found, json.loads(text or b"null") if plain else text)

    def infer(self, model: str, *tensors: dict, **more: Any) -> Reply:
        return self.ask("POST", f"/v2/models/{model}/infer", {"inputs": list(tensors), **more})


def start(folder: Path | str, *arguments: str) -> Server:
    command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", *arguments]
    env = os.environ | {"XDG_CACHE_HOME": SERVED_CACHE}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/v2/models/", line)
    assert found, (line, process.stderr.read())
    return Server(process, int(found[1]))


@pytest.fixture(scope="session")
def server(folder) -> Iterator[Server]:
    # The run folder, not the artifact in it: both are accepted.
    running = start(folder.parent.parent, "--max-batch", "8", "--max-rows", "100", "--max-body", "200000")
    yield running
    running.process.send_signal(signal.SIGTERM)
    _, err = running.process.communicate(timeout=20)
    assert running.process.returncode == 0
    assert "Traceback" not in err, err
