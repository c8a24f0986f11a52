"""What a person types besides `arsenal-serve FOLDER`, and what comes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CODECS, example, parameters, predict

from arsenal_serving.__main__ import VERBS, main
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load

X = example()


@pytest.fixture
def ask(capsys):
    def ask(*words, code=0):
        assert main([str(word) for word in words]) == code
        out, err = capsys.readouterr()
        assert (err == "") == (code == 0)
        return out if code == 0 else err

    return ask


def test_inspect_says_what_it_is(ask, folder):
    said = ask("inspect", folder)
    for line in (
        "zoo version 1, made 20",
        "  parameters  204 in 4 arrays, 814 bytes",
        f"  versioned   by jax {jax.__version__}, released ",
        "              jax promises to read it in releases until 20",
        "predict (default)",
        "  input       x: float32 [batch, 8, 8]",
        "  output      predict: float32 [batch, 3], columns cat, dog, éléphant",
        "  input       pair: strings by codec animal, animal [batch, 2], columns a, b",
        "  rows        coupled: they influence each other and are never batched with another caller's",
        "  where       length <= 6",
    ):
        assert line in said, said
    facts = json.loads(ask("inspect", folder.parent, "--json"))
    assert (facts["name"], facts["version"], facts["signature"]) == ("zoo", 1, None)
    assert facts["jax"]["calling_convention"] >= 9
    assert facts["methods"]["centre"]["rows"] == "coupled"
    assert facts["methods"]["predict"]["custom_calls"] == ["shape_assertion"]
    assert facts["provenance"] == {"by": "a test"}


def test_verify_does_what_the_server_does(ask, folder, tmp_path):
    assert "  verified    the versioned program; golden answers within 0\n" in ask("verify", folder)
    verified = json.loads(ask("verify", folder, "--json"))["verified"]["label"]
    assert verified["program"] == "versioned" and verified["golden_difference"]["label"] == 0
    assert 0 <= verified["golden_difference"]["more.scores"] < 1e-6  # another batch size may round otherwise
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "golden.safetensors").write_bytes(b"")
    assert "'golden.safetensors' has changed" in ask("verify", tmp_path / "bad", code=1)


@pytest.mark.slow
def test_renew_gives_the_same_bits_under_the_next_number(ask, folder, tmp_path):
    files = dict(artifact.open_version(folder).files)
    manifest = json.loads(files.pop("manifest.json"))
    manifest["methods"] = {name: manifest["methods"][name] for name in ("predict", "label", "lengths", "centre")}
    before = artifact.write(tmp_path / "zoo", manifest, files)
    assert "renewed     on 20" in ask("renew", tmp_path / "zoo")
    old, new = (load(tmp_path / "zoo" / number, max_batch=8) for number in ("1", "2"))
    assert new.version == 2
    assert new.manifest["renewed"]["sums"] == artifact.open_version(before).digest
    for name, method in old.manifest["methods"].items():
        after = new.manifest["methods"][name]
        assert {**after, "calling": 0} == {**method, "calling": 0}, name
    assert same_bits(new.infer("predict", {"x": X})["predict"], old.infer("predict", {"x": X})["predict"])
    for length in (2, 6):  # symbolic dimensions and their constraints survive
        ones = np.ones((3, length), np.float32)
        assert new.infer("lengths", {"x": ones, "y": ones})["sum"].tolist() == [2.0 * length] * 3
    said = ask("diff", tmp_path / "zoo" / "1", tmp_path / "zoo" / "2")
    assert said.count("the same golden answers") == 5 and "parameters: 0 arrays changed, 4 the same" in said


def test_renew_where_the_versioned_form_has_expired(ask, folder, tmp_path):
    files = dict(artifact.open_version(folder).files) | {"programs/predict.exported": b"of another time"}
    manifest = json.loads(files.pop("manifest.json"))
    manifest["methods"] = {"predict": manifest["methods"]["predict"]}
    artifact.write(tmp_path / "aged", manifest, files)
    assert load(tmp_path / "aged", max_batch=1).methods["predict"].program.form == "durable"
    ask("renew", tmp_path / "aged", "--to", tmp_path / "fresh")
    assert load(tmp_path / "fresh" / "1", max_batch=1, form="versioned").methods["predict"].program.form == "versioned"


def test_renew_of_what_0_1_0_wrote_leaves_no_path_in_it(ask, tmp_path):
    kept = Path(__file__).parents[2] / "tests/kept/0.1.0/digits_mlp/56836d524a87"
    assert any(b"/perceptron.py" in content for content in artifact.open_version(kept / "artifact").files.values())
    assert "is not a version in a model's folder, as NAME/1 is; say to which" in ask("renew", kept, code=1)
    ask("renew", kept, "--to", tmp_path / "digits")
    assert not any(b".py" in content for name, content in artifact.open_version(tmp_path / "digits/1").files.items()
                   if name.startswith("programs/"))  # fmt: skip
    x = np.random.default_rng(0).random((8, 8, 8), np.float32)
    old, new = (load(path, max_batch=8).infer("predict_proba", {"x": x}) for path in (kept, tmp_path / "digits"))
    assert same_bits(old["predict_proba"], new["predict_proba"])


@pytest.mark.slow
def test_diff_says_what_changed(ask, tmp_path):
    model = tmp_path / "m"
    described = {"inputs": {"x": Tensor(finite=False)}, "outputs": {"label": Tensor(codec="animal")}}
    other = parameters() | {"more": np.zeros(2)}
    other["layers"][0].w[0, 0] += 0.5

    def label(params, x):
        return {"label": jnp.argmax(predict(params, x), axis=-1)}

    methods = {"predict": Method(predict, X), "label": Method(label, X, outputs=described["outputs"])}
    export(model, methods, parameters(), codecs=CODECS, provenance={"run": {"seed": 1}, "by": "a"})
    methods |= {"label": methods["label"]._replace(inputs=described["inputs"]), "new": Method(predict, X)}
    export(model, methods, other, codecs=CODECS, provenance={"run": {"seed": 2}, "by": "a"})
    said = ask("diff", model / "1", model / "2")
    for line in (
        "  method predict: same signature\n",
        "of 15 golden answers differ, by up to 0.",
        "  method label: another signature; changed: inputs\n",
        "+ method new\n",
        "  parameters: 1 arrays changed, 3 the same\n",
        "+ parameter more\n",
        "    layers.0.w: by up to 0.5\n",
        "  provenance.run.seed changed\n",
    ):
        assert line in said, said
    assert "provenance.by" not in said
    assert ask("diff", model / "1", model / "1").endswith("the same, byte for byte\n")
    facts = json.loads(ask("diff", model / "2", model / "1", "--json"))
    assert facts["methods"]["new"] == {"change": "removed"} and facts["parameters"]["removed"] == ["more"]


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb not in ("serve", "key", "audit", "replay", "bench", "health")]
)
def test_bad_input_is_one_line(ask, folder, tmp_path, verb):
    (tmp_path / "key").write_text("no key")
    bad = shutil.copytree(folder, tmp_path / "bad")
    (bad / "manifest.json").write_text("[" * 100_000)
    more = {"sign": ["--key", tmp_path / "key"], "diff": [folder]}.get(verb, [])
    for path, says in ((tmp_path / "none", "is not an artifact folder"), (bad, "'manifest.json' has changed")):
        words = [verb, *(["http://127.0.0.1:9"] if verb == "smoke" else []), path, *more]
        error = ask(*words, code=1)
        assert error.startswith("arsenal-serve: ") and error.count("\n") == 1
        assert says in error or "Ed25519" in error
    with pytest.raises(SystemExit) as stopped:
        main([verb])
    assert stopped.value.code == 2


def test_serve_may_be_said_or_not(ask, tmp_path, capsys):
    for words in (["serve", tmp_path / "none"], [tmp_path / "none"]):
        assert "is not an artifact folder" in ask(*words, code=1)
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for verb in VERBS:
        assert verb == "serve" or f"arsenal-serve {verb}" in said
