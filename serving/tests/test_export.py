"""What an export proves before it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CODECS, example, methods, parameters

from arsenal_serving import artifact
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.golden import same_bits
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

X = example()


def test_manifest_says_what_is_served(folder):
    manifest = artifact.manifest_of(folder, artifact.opened(folder).files)
    assert (manifest["format"], manifest["name"], manifest["version"], manifest["default"]) == (2, "zoo", 1, "predict")
    assert manifest["provenance"] == {"by": "a test"}
    names = [entry["name"] for entry in manifest["parameters"]["arrays"]]
    assert names == ["half", "layers.0.w", "layers.0.b", "table"]
    predict = manifest["methods"]["predict"]
    assert predict["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["batch", 8, 8], "columns": None, "codec": None, "finite": True}
    ]
    assert predict["outputs"][0]["columns"] == CODECS["animal"]["values"]
    assert predict["platforms"] == ["cpu", "cuda", "tpu"]
    assert [port["name"] for port in manifest["methods"]["label"]["outputs"]] == ["label", "more.scores"]


def test_both_forms_give_the_bits_of_jit(folder):
    models = {form: load(folder, max_batch=5, form=form) for form in ("versioned", "durable")}
    for name, method in methods().items():
        wanted = jax.tree.leaves(jax.jit(method.fn)(parameters(), method.example))
        for form, model in models.items():
            loaded = model.methods[name]
            assert loaded.program.form == form
            inputs = [np.asarray(leaf) for leaf in jax.tree.leaves(method.example)]
            if loaded.padded:  # at the example's own size
                loaded = loaded._replace(padded=False)
            for got, want in zip(model._run(loaded, inputs), wanted, strict=True):
                assert same_bits(got, np.asarray(want)), (name, form)


def test_a_refused_versioned_form_falls_back_to_the_durable_one(folder, tmp_path):
    files = dict(artifact.opened(folder).files) | {"programs/predict.exported": b"from another time"}
    artifact.write(tmp_path / "aged", json.loads(files.pop("manifest.json")), files)
    model = load(tmp_path / "aged")
    assert model.methods["predict"].program.form == "durable"
    assert "versioned form does not load" in model.methods["predict"].program.why
    assert model.methods["label"].program.form == "versioned"
    with pytest.raises(Refused, match="method 'predict': the versioned form does not load"):
        load(tmp_path / "aged", form="versioned")


def position(params, x):
    return x + jnp.arange(x.shape[0])[:, None]


@pytest.mark.parametrize(
    ("fn", "independent"),
    [
        (lambda p, x: jnp.tanh(x) @ jnp.ones((3, 2)), True),
        (lambda p, x: x - x.mean(0), False),
        (lambda p, x: x / jnp.abs(x).max(), False),
        (lambda p, x: jnp.where(x.max() > 1e4, 0.0, x), False),
        (lambda p, x: jax.nn.softmax(x, axis=0), False),
        (position, False),
        (lambda p, x: x / x.shape[0], False),
        (lambda p, x: x + jax.random.normal(jax.random.key(0), x.shape), False),
        (lambda p, x: x.sum(), False),
        (lambda p, x: x.T, False),
    ],
)
@pytest.mark.parametrize("rows", [1, 8])
def test_row_independence_is_found_by_trying(tmp_path, fn, independent, rows):
    x = np.random.default_rng(2).standard_normal((rows, 3)).astype(np.float32)
    made = load(export(tmp_path / "a", {"f": fn}, {}, x))
    assert made.methods["f"].rows == ("independent" if independent else "coupled")
    assert made.methods["f"].padded is independent


def effect(params, x):
    jax.debug.print("{}", x)
    return x


F = np.ones((2, 3), np.float32)
CODE = np.ones((2, 3), np.int32)


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        (Method(lambda p, x: x.astype(jnp.float8_e4m3fn), F), {}, "method 'f' is float8_e4m3fn, which no tensor"),
        (Method(lambda p, x: x + 1j, F), {}, "complex64, which no tensor carries; cast it"),
        (Method(lambda p, x: x / 0, F), {}, "NaN or infinity for the example"),
        (Method(effect, F), {}, "effect|cannot be exported"),
        (Method(lambda p, x: x.reshape(len(x), -1), F), {}, "method 'f' cannot be exported"),
        (Method(lambda p, x: x[:2] if x.shape[0] > 4 else x, F), {}, "cannot be exported: Inconclusive"),
        (Method(lambda p, x: x, np.float32(1.0)), {}, "must share a leading batch axis"),
        (Method(lambda p, x: x["a"], {"a": F, "b": F[:1]}), {}, "must share a leading batch axis"),
        (Method(lambda p, x: x, {}), {}, "holds no array"),
        (Method(lambda p, x: x, F, {"y": Tensor()}), {}, "unknown input 'y'"),
        (Method(lambda p, x: x, F, {}, {"ff": Tensor()}), {}, "unknown output 'ff' of method 'f'; did you mean 'f'"),
        (Method(lambda p, x: x, F, {"x": Tensor(columns=["a"])}), {}, "1 names of columns for a last axis of 3"),
        (Method(lambda p, x: x, F, {"x": Tensor(codec="k")}), {}, "must hold integer codes; it is float32"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec="k")}), {}, "unknown codec 'k'"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec=["k"])}), {}, "1 codecs for a last axis of 3"),
        (Method(lambda p, x: x, F, {"x": Tensor(shape=["n", 3])}), {}, "must start with 'batch'"),
        (Method(lambda p, x: x, F), {"codecs": {"k": {"kind": "regex"}}}, "unknown kind of codec 'regex'"),
        (Method(lambda p, x: x, F), {"default": "g"}, "unknown default method 'g'"),
        (Method(lambda p, x: x, F), {"name": "a/b"}, "`name` must be letters"),
        (Method(lambda p, x: x + p["k"], F), {"params": {"k": jax.random.key(0)}}, "typed random key"),
        (Method(lambda p, x: x, F), {"params": {"a.b": F, "a": {"b": F}}}, "two arrays have the path 'a.b'"),
        (Method(lambda p, x: x, F), {"params": {"k": np.array([2**40])}}, "beyond int32"),
        (Method(lambda p, x: x, F), {"params": {"k": "text"}}, "parameter 'k' must be an array; got str"),
    ],
)
def test_what_cannot_be_served_is_refused_at_export(tmp_path, method, more, says):
    more = {"name": "m", "params": {}} | more
    with pytest.raises(Refused, match=says):
        export(tmp_path / "a", {"f": method}, more.pop("params"), **more)
    assert not list(tmp_path.iterdir())


def test_64_bit_programs_run_where_they_were_exported_for(tmp_path):
    with jax.enable_x64(True):
        x = np.random.default_rng(0).standard_normal((4, 2))
        export(tmp_path / "a", {"f": Method(lambda p, x: {"y": x * p, "n": x.astype(jnp.int64)}, x)}, 1.1, name="m")
        wanted = np.asarray(jax.jit(lambda p, x: x * p)(1.1, x))
    for form in ("versioned", "durable"):
        answer = load(tmp_path / "a", form=form).infer("f", {"x": x})
        assert same_bits(answer["y"], wanted)
        assert answer["n"].dtype == np.int64


def test_sums_are_in_the_format_of_sha256sum(folder):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_serving_needs_none_of_the_training_side(folder):
    code = (
        "import sys\n"
        "from arsenal_serving import export, server\n"
        "from arsenal_serving.model import load\n"
        f"model = load({str(folder)!r}, max_batch=1); model.warm()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}\n"
        "             & {'arsenal', 'flax', 'optax', 'orbax', 'hydra', 'ray'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
