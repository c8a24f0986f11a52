"""What was trained here is answered there with the same bits, by a process that knows nothing of training."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.model import load

from arsenal.explanation.served import SERVED
from arsenal.road import compose, export, fit

SIZE = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs by name, each exported into its folder."""
    runs = {}
    for name, words in (("digits_mlp", ["length=40", "~expect"]), ("breast_cancer_logistic", [])):
        runs[name] = fit(compose(name, [*words, f"run.root={tmp_path_factory.mktemp('runs')}"]))
        export(runs[name])
    return runs


class Server:
    """A running `arsenal-serve FOLDER`."""

    def __init__(self, folder, python=sys.executable, **env):
        command = [python, "-m", "arsenal_serving", str(folder), "--port", "0", "--max-batch", "8", "--max-rows", "50"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=os.environ | env
        )
        self.line = self.process.stdout.readline()
        found = re.search(r"ready: http://127\.0\.0\.1:(\d+)/v2/models/", self.line)
        assert found, self.process.communicate()[1]
        self.port = int(found[1])

    def ask(self, model: str, tensor: dict) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps({"inputs": [tensor]})
        connection.request("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=20)
        events = [json.loads(line)["event"] for line in said.splitlines()]
        assert (self.process.returncode, events) == (0, ["ready", "drain", "stop"]), said


def tensor(x) -> dict:
    return {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}


def rows(run):
    return run.experiment.splits["test"].x[:SIZE]


def answers(server, run, method: str):
    """The served answer of a method, and what jit gives in this process."""
    status, body = server.ask(f"{run.config.values['name']}.{method}", tensor(rows(run)))
    assert status == 200, body
    (output,) = body["outputs"]
    return output, np.asarray(jax.jit(run.apply[method])(run.params, rows(run)))


def check_answers(server, run):
    output, wanted = answers(server, run, "predict_proba")
    assert same_bits(np.array(output["data"], np.float32).reshape(output["shape"]), wanted)
    output, wanted = answers(server, run, "predict")
    labels = run.kept[0].target
    assert output["data"] == ([labels.columns[code] for code in wanted] if labels.codec else wanted.tolist())


def test_digits(trained):
    run = trained["digits_mlp"]
    with Server(run.folder) as server:
        check_answers(server, run)
        good = tensor(rows(run))
        for wrong, words in [
            (good | {"name": "y"}, "unknown input 'y'"),
            (good | {"datatype": "INT32"}, "must have datatype FP32"),
            (good | {"shape": [SIZE, 8, 4]}, "elements"),
            (good | {"shape": [SIZE * 2, 8, 4]}, "must be float32 [batch, 8, 8]"),
            (good | {"shape": [SIZE, 64]}, "must be float32 [batch, 8, 8]"),
            (tensor(np.zeros((51, 8, 8))), "50"),
            (good | {"data": ["one"] * 64 * SIZE}, "must be a number"),
            (good | {"data": [float("1e39")] * 64 * SIZE}, "finite"),
        ]:
            status, body = server.ask("digits_mlp", wrong)
            assert 400 <= status < 500, body
            assert body.keys() == {"error"} and words in body["error"], body
        assert server.ask("digits_mpl", good)[0] == 404
        check_answers(server, run)


def test_a_table_answers_with_its_labels(trained):
    run = trained["breast_cancer_logistic"]
    with Server(run.folder / "artifact") as server:
        check_answers(server, run)
        _, body = server.ask("breast_cancer_logistic", tensor(rows(run)))
        assert set(body["outputs"][0]["data"]) <= {"malignant", "benign"}


@pytest.mark.slow
def test_explanations_are_those_of_the_scores_before_the_softmax(trained, tmp_path):
    run = trained["digits_mlp"]
    model = load(export(run, tmp_path / "digits", explain="gradient"))
    x = rows(run)
    answer = model.infer("explain", {"x": x})["explain"]
    layers = [run.params["learner"]["params"][f"Dense_{i}"] for i in range(3)]

    def score(x, best):
        x = run.parts.features.apply(run.params["features"], x[None]).reshape(1, -1)
        for layer in layers[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        scores = (x @ layers[-1]["kernel"] + layers[-1]["bias"])[0]
        return scores[best] - scores.mean()

    best = jax.jit(run.apply["predict"])(run.params, x)
    wanted = np.asarray(jax.vmap(jax.grad(score))(x, best))
    np.testing.assert_allclose(answer, wanted, atol=1e-5 * np.abs(wanted).max())
    times = load(export(run, tmp_path / "digits", explain="gradient_times_input")).infer("explain", {"x": x})["explain"]
    np.testing.assert_allclose(times, wanted * x, atol=1e-5 * np.abs(wanted * x).max())
    with pytest.raises(ValueError, match="`explain` must be one of gradient, .*; got 'saliency'"):
        export(run, tmp_path / "digits", explain="saliency")
    smooth = load(export(run, tmp_path / "digits", explain="smooth_grad")).infer("explain", {"x": x})["explain"]
    made = SERVED["smooth_grad"](run)
    np.testing.assert_allclose(smooth, jax.jit(made.fn)(run.params | {"explanation": made.kept}, x), atol=1e-5)
    assert np.corrcoef(smooth.ravel(), answer.ravel())[0, 1] > 0.3
    with pytest.raises(ValueError, match="`grad_cam` needs a model with a convolution; this one has none"):
        export(run, tmp_path / "digits", explain="grad_cam")
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["parameters.safetensors", "manifest.json", "programs/predict.exported"])
def test_one_changed_byte_is_refused(trained, name):
    folder = trained["digits_mlp"].folder
    path = folder / "artifact" / "1" / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-2] + bytes([sound[-2] ^ 1]) + sound[-1:])
    done = subprocess.run([sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0"], capture_output=True, text=True)
    path.write_bytes(sound)
    assert done.returncode == 1
    assert re.fullmatch(rf"arsenal-serve: .*{re.escape(name)}.* has changed.*\n", done.stderr), done.stderr


@pytest.mark.skipif(
    "ARSENAL_SERVING_PYTHON" not in os.environ, reason="ARSENAL_SERVING_PYTHON names no interpreter of a serving environment."
)
def test_an_environment_without_any_training_code_answers_the_same(trained):
    python = os.environ["ARSENAL_SERVING_PYTHON"]
    absent = (
        "import importlib.util as u; print([n for n in ('arsenal', 'flax', 'optax', 'orbax', 'hydra', 'ray') if u.find_spec(n)])"
    )
    assert subprocess.run([python, "-c", absent], capture_output=True, text=True, cwd="/").stdout.strip() == "[]"
    for run in trained.values():
        with Server(run.folder, python) as server:
            check_answers(server, run)


@pytest.mark.slow
def test_a_model_of_text_takes_strings_and_gives_strings(tmp_path):
    """By bytes, and by a tokenizer that travels in the artifact: to a process that knows nothing of training."""
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False)
    made.train_from_iterator(["the value of a name is a value"], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "book.txt").write_text("the value of a name is a value of the name\n" * 200)
    tokens = [f"data.tokenizer={tmp_path / 'tokenizer.json'}", "model.vocabulary=280"]
    for words, read, write in (
        ([], lambda text: list(text.encode()), lambda codes: bytes(codes).decode(errors="replace")),
        (tokens, lambda text: made.encode(text).ids, made.decode),
    ):
        run = fit(compose("text_gpt", [f"data.path={tmp_path / 'book.txt'}", "length=60", "~expect", f"run.root={tmp_path}", *words]))
        export(run)
        prompts = ["the value of ", "a name"]
        codes = [read(prompt) for prompt in prompts]
        asked = {
            "tokens": np.array([one + [0] * (32 - len(one)) for one in codes], np.int32),
            "length": np.array([len(one) for one in codes], np.int32),
            "seed": np.array([3, 4], np.uint32), "temperature": np.array([0.0, 0.5], np.float32),
        }  # fmt: skip
        wanted = np.asarray(jax.jit(run.apply["generate"])(run.params, asked)).tolist()
        wanted = [one[: one.index(0)] if words and 0 in one else one for one in wanted]
        python = os.environ.get("ARSENAL_SERVING_PYTHON", sys.executable)
        if words and subprocess.run([python, "-c", "import tokenizers"], capture_output=True).returncode:
            command = [python, "-m", "arsenal_serving", str(run.folder), "--port", "0"]
            said = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120).stderr
            assert said.endswith('needs the library tokenizers: pip install "ml-arsenal-serving[tokenizers]".\n'), said
            python = sys.executable
        with Server(run.folder, python) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            rows = [{"prompt": p, "seed": 3 + i, "temperature": i / 2} for i, p in enumerate(prompts)]
            connection.request(
                "POST", "/models/text_gpt.generate/predict", json.dumps({"records": rows}), {"Content-Type": "application/json"}
            )
            answer = json.loads(connection.getresponse().read())
            assert [one["generate"] for one in answer["records"]] == [write(one) for one in wanted], answer
            connection.request(
                "POST", "/models/text_gpt.generate/predict", json.dumps({"records": [rows[0] | {"prompt": "a" * 99}]}),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            response = connection.getresponse()
            assert response.status == 400 and "must have 1 to 32 tokens" in json.loads(response.read())["error"]
            connection.close()


@pytest.mark.slow
def test_questions_with_sentinels_are_answered_in_strings(tmp_path):
    (tmp_path / "book.txt").write_text("the value of a name is a value of the name\n" * 200)
    words = [f"data.text.path={tmp_path / 'book.txt'}", "length=60", "batch_size=8", "~expect", f"run.root={tmp_path}"]
    run = fit(compose("text_t5", words))
    export(run)
    prompts = ["the value <extra_id_0> name is a <extra_id_1> of", "a name"]
    codes = [[*b"the value ", 256, *b" name is a ", 257, *b" of"], [*b"a name"]]
    tokens, mask = np.zeros((2, 2, 57), np.int32)
    for row, one in enumerate(codes):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    asked = {
        "tokens": tokens, "mask": mask, "seed": np.array([3, 4], np.uint32), "temperature": np.array([0.0, 0.5], np.float32),
    }  # fmt: skip
    wanted = np.asarray(jax.jit(run.apply["generate"])(run.params, asked)).tolist()
    with Server(run.folder) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        rows = [{"prompt": p, "seed": 3 + i, "temperature": i / 2} for i, p in enumerate(prompts)]
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/models/text_t5.generate/predict", json.dumps({"records": rows}), headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
    marks = {256: b"<extra_id_0>", 257: b"<extra_id_1>", 258: b"<extra_id_2>"}
    for one, said in zip(wanted, answer["records"], strict=True):
        whole = one[: one.index(259)] if 259 in one else one
        assert said["generate"] == b"".join(marks.get(code) or bytes([code]) for code in whole).decode(errors="replace")


@pytest.mark.slow
def test_a_classifier_of_texts_takes_strings_and_gives_labels(tmp_path):
    """Cut and padded as in training, by a server and for a file of rows."""
    random = np.random.default_rng(0)
    said = [(" ".join(random.choice(["cat", "dog", "cow"] if kind else ["red", "blue", "gray"], 4)), kind) for kind in [0, 1] * 100]
    table = pd.DataFrame({"said": [text for text, _ in said], "what": [("colour", "animal")[kind] for _, kind in said]})
    table.to_csv(tmp_path / "said.csv", index=False)
    words = [
        f"data.path={tmp_path / 'said.csv'}", "data.text=said", "data.label=what", "data.context=24", "model.output=2", "~expect",
        "model.width=32", "length=60", f"run.root={tmp_path}",
    ]  # fmt: skip
    run = fit(compose("topics_bert", words))
    assert run.metrics["test/accuracy"] > 0.95
    texts = ["cat dog cow dog cat cow cat dog", "red gray blue"]
    codes = np.array([list(text.encode()[:24]) + [0] * max(0, 24 - len(text)) for text in texts], np.int32)
    wanted = np.asarray(jax.jit(run.apply["predict_proba"])(run.params, codes))
    assert run.predict(pd.DataFrame({"said": texts}))["predict"].tolist() == ["animal", "colour"]
    export(run)
    with Server(run.folder, os.environ.get("ARSENAL_SERVING_PYTHON", sys.executable)) as server:
        asked = {"name": "x", "datatype": "BYTES", "shape": [2], "data": texts}
        status, body = server.ask("topics_bert.predict", asked)
        assert (status, body["outputs"][0]["data"]) == (200, ["animal", "colour"]), body
        _, body = server.ask("topics_bert.predict_proba", asked)
        assert same_bits(np.array(body["outputs"][0]["data"], np.float32).reshape(2, 2), wanted)
        status, body = server.ask("topics_bert.predict", asked | {"data": ["red", ""]})
        assert status == 400 and "row 2, column 'x' must be a text that is not empty" in body["error"], body
