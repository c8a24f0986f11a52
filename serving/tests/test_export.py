"""What an export proves before it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CODECS, example, has_float16, methods, parameters, predict
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors import tensor

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.protocols import open_inference
from arsenal_serving.refused import Refused

X = example()


@pytest.mark.parametrize("words", [np.array(["red", "blue"]), np.array(["red", "blue"], object), "red"])
def test_an_example_of_strings_is_told_of_codes(words, tmp_path):
    with pytest.raises(Refused, match=r"input 'colour' .* holds strings, .* give int32 codes, and name a codec"):
        export(tmp_path / "x", lambda params, x: x["n"], {}, {"n": np.float32([1, 2]), "colour": words})


def test_manifest_says_what_is_served(folder):
    manifest = artifact.read_manifest(folder, artifact.open_version(folder).files)
    assert (manifest["format"], manifest["name"], manifest["version"], manifest["default"]) == (2, "zoo", 1, "predict")
    assert manifest["provenance"] == {"by": "a test"}
    names = [entry["name"] for entry in manifest["parameters"]["arrays"]]
    assert names == ["half", "layers.0.w", "layers.0.b", "table"]
    predict = manifest["methods"]["predict"]
    assert predict["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["batch", 8, 8], "columns": None, "codec": None, "finite": True, "pad": None}
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
            for got, want in zip(model.run(loaded, inputs), wanted, strict=True):
                assert same_bits(got, np.asarray(want)), (name, form)


def test_a_refused_versioned_form_falls_back_to_the_durable_one(folder, tmp_path):
    files = dict(artifact.open_version(folder).files) | {"programs/predict.exported": b"from another time"}
    artifact.write(tmp_path / "aged", json.loads(files.pop("manifest.json")), files)
    model = load(tmp_path / "aged")
    assert model.methods["predict"].program.form == "durable"
    assert "versioned form does not load" in model.methods["predict"].program.why
    assert model.methods["label"].program.form == "versioned"
    with pytest.raises(Refused, match=r"method 'predict' \(made with jax .*, here is .*\): the versioned form does"):
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
PRICE = {"kind": "number", "decimal": ".", "thousands": ","}
TEXT = {"kind": "text", "analyzer": "word", "ngrams": [1, 1], "buckets": 8, "length": 2}


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
        (Method(lambda p, x: x, F, {"x": Tensor(codec="k")}), {"codecs": {"k": {"kind": "date"}}}, "must hold integer codes; it is float32"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec="k")}), {"codecs": {"k": PRICE}}, "codec of numbers, so it must be float32; it is int32"),
        (Method(lambda p, x: x, CODE.astype(np.uint32), {"x": Tensor(codec="k")}), {"codecs": {"k": {"kind": "time", "unit": "s"}}}, "is uint32, too small for the codes"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(gaps=["NA"])}), {}, "cannot have `gaps`"),
        (Method(lambda p, x: x, F, {}, {"f": Tensor(gaps=["NA"])}), {}, "output 'f' of method 'f' cannot have `gaps`"),
        (Method(lambda p, x: x, F, {"x": Tensor(gaps="NA")}), {}, "words for missing values must be a list of strings"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec="k")}), {}, "unknown codec 'k'"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec="k")}), {"codecs": {"k": TEXT}}, r"codecs of texts, so it must be an input \[..., 2\]; it is \["),
        (Method(lambda p, x: x, CODE, {}, {"f": Tensor(codec="k")}), {"codecs": {"k": TEXT}}, r"output 'f' of method 'f' must be \[..., n\] of one codec of tokens to be texts"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec=["k", "d", "d"])}), {"codecs": {"k": TEXT, "d": {"kind": "date"}}}, r"make a cell \[1, 2\] codes; all must agree"),
        (Method(lambda p, x: x, CODE, {"x": Tensor(codec=["k"])}), {"codecs": {"k": {"kind": "date"}}}, "1 codecs for a last axis of 3"),
        (Method(lambda p, x: x, F, {"x": Tensor(shape=["n", 3])}), {}, "must start with 'batch'"),
        (Method(lambda p, x: x, F), {"codecs": {"k": {"kind": "regex"}}}, "unknown kind of codec 'regex'"),
        (Method(lambda p, x: x, F), {"default": "g"}, "unknown default method 'g'"),
        (Method(lambda p, x: x, F), {"platforms": ("cpu", "vax")}, "must be of rocm, cpu, cuda, tpu, with 'cpu'"),
        (Method(lambda p, x: x, F), {"platforms": ()}, "`platforms` must be of"),
        (Method(lambda p, x: x, F), {"name": "a/b"}, "`name` must be letters"),
        (Method(lambda p, x: x + p["k"], F), {"params": {"k": jax.random.key(0)}}, "typed random key"),
        (Method(lambda p, x: x, F), {"params": {"a.b": F, "a": {"b": F}}}, "two arrays have the path 'a.b'"),
        (Method(lambda p, x: x, F), {"params": {"k": np.array([2**40])}}, "beyond int32"),
        (Method(lambda p, x: x, F), {"params": {"k": object()}}, "parameter 'k' must be an array; got object"),
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
        "from arsenal_serving import export\n"
        "from arsenal_serving.protocols import routes\n"
        "from arsenal_serving.model import load\n"
        f"model = load({str(folder)!r}, max_batch=1); model.warm()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}\n"
        "             & {'arsenal', 'flax', 'optax', 'orbax', 'hydra', 'ray'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def no_batch(params, inputs):
    return {"total": inputs["table"].sum() * params, "half": inputs["table"].astype(jnp.bfloat16), "n": inputs["n"] + 1}


def test_a_function_without_rows_has_one_shape(tmp_path):
    """No batch axis at all, a scalar among the inputs and the outputs."""
    example = {"table": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int32(7)}
    model = load(export(tmp_path / "m", {"f": Method(no_batch, example, batch=False)}, np.float32(2.0)))
    model.warm()
    assert model.methods["f"].rows == "single"
    assert model.quick("f", 10**6, 1.0)
    answer = model.infer("f", example)
    wanted = jax.jit(no_batch)(np.float32(2.0), example)
    for key, value in wanted.items():
        assert same_bits(answer[key], np.asarray(value)), key
    assert answer["total"].shape == () and answer["half"].dtype == jnp.bfloat16
    assert not model._kept, "Its one shape was compiled before."
    with pytest.raises(Refused, match=r"must be float32 \[2, 3\]; got float32 \[3, 3\]"):
        model.infer("f", example | {"table": np.zeros((3, 3), np.float32)})
    varying = Method(lambda _, x: x * 2, np.ones(3, np.float32), {"x": Tensor(shape=["length"])}, batch=False)
    doubled = load(export(tmp_path / "v", {"f": varying}, {}))
    assert doubled.infer("f", {"x": np.ones(5, np.float32)})["f"].tolist() == [2.0] * 5
    for shape in (["batch"], [4], ["length", 1]):
        with pytest.raises(Refused, match="`shape` of input 'x' of method 'f' must not start with 'batch'"):
            export(tmp_path / "w", {"f": varying._replace(inputs={"x": Tensor(shape=shape)})}, {})


DTYPES = ("bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float32")


class Pair(NamedTuple):
    """A class of the exporter's that the server has never heard of."""

    first: Any
    second: Any


def leaves(draw, rows):
    kinds = [kind for kind in DTYPES if kind != "float16" or has_float16()]
    dtype, shape = draw(st.sampled_from(kinds)), (rows, *draw(st.lists(st.integers(1, 3), max_size=2)))
    bits = np.random.default_rng(draw(st.integers(0, 2**16))).integers(0, 100, shape)
    return jnp.asarray(bits).astype(dtype)


@st.composite
def trees(draw, rows, depth=2):
    """A pytree of arrays of any type with `rows` rows: dicts, lists, tuples and named tuples."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return leaves(draw, rows)
    inner = draw(st.lists(trees(rows, depth - 1), min_size=1, max_size=2))
    match draw(st.sampled_from(["dict", "list", "tuple", "pair"])):
        case "dict":
            return dict(zip(draw(st.permutations(["b", "a", "é c"])), inner, strict=False))
        case "list":
            return inner
        case "tuple":
            return tuple(inner)
    return Pair(inner[0], inner[-1])


def through(params, inputs):
    """Something of every leaf, and the whole structure again."""
    scale = sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(params))
    moved = [
        ~leaf if leaf.dtype == bool else leaf + scale.astype(leaf.dtype) if leaf.dtype.kind == "f" else leaf + leaf
        for leaf in jax.tree.leaves(inputs)
    ]
    return {"same": jax.tree.unflatten(jax.tree.structure(inputs), moved), "params": jnp.zeros(len(moved[0:1])) + scale}


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(trees(rows=3), trees(rows=2), st.booleans())
def test_any_pytree_goes_in_and_comes_out(inputs, params, batch):
    """What `jax.jit(fn)` gives, leaf by leaf and bit by bit, from an artifact that knows names and arrays only."""
    fn = (lambda params, inputs: through(params, inputs)["same"]) if batch else through
    with tempfile.TemporaryDirectory() as folder:
        method = Method(fn, inputs, batch=batch)
        written = export(Path(folder) / "m", {"f": method}, params, platforms=("cpu",))
        model = load(written, max_batch=3)
    named = dict(zip([port.name for port in model.methods["f"].inputs], jax.tree.leaves(inputs), strict=True))
    answers = model.infer("f", {name: np.asarray(leaf) for name, leaf in named.items()})
    wanted = jax.tree.leaves(jax.jit(fn)(params, inputs))
    assert len(answers) == len(wanted)
    for got, want in zip(answers.values(), wanted, strict=True):
        assert same_bits(got, np.asarray(want))


def test_half_precision_goes_through_json(tmp_path):
    if not has_float16():
        pytest.skip("This processor, or --xla_cpu_max_isa, has no float16.")
    x = np.array([[1.5, 65504.0], [-0.0, 1e-7]], np.float16)
    fns = {"half": lambda _, x: -x, "brain": lambda _, x: x.astype(jnp.bfloat16)}
    model = load(export(tmp_path / "m", fns, {}, x), max_batch=2)
    for name, wanted in (("half", -x), ("brain", x.astype(jnp.bfloat16))):
        method = model.methods[name]
        body = json.dumps({"inputs": [tensor(x)]}).encode()
        request = open_inference.parse(method, body)
        text, _ = open_inference.write(model, method, name, request, model.infer(name, request.inputs))
        (output,) = json.loads(text)["outputs"]
        assert output["datatype"] == {"half": "FP16", "brain": "BF16"}[name]
        assert same_bits(np.array(output["data"], np.float32).reshape(2, 2).astype(wanted.dtype), wanted)
    with pytest.raises(Refused, match="must be a number for input 'x'; got 'one'"):
        open_inference.parse(model.methods["half"], json.dumps({"inputs": [tensor(x, data=["one"] * 4)]}).encode())


def host(params, x):
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (host, "It calls the host or a library that servers need not have"),
        (effect, "a program must be pure; this one has the effects Debug"),
        (lambda p, x: x if x.sum() > 0 else -x, "It looks at the values of its inputs in Python: use jnp.where"),
        (lambda p, x: x + int(x[0, 0]), "It looks at the values of its inputs in Python"),
        (lambda p, x: np.asarray(x), "It looks at the values of its inputs in Python"),
        (lambda p, x: x.reshape(len(x), -1), r"x.shape\[0\], not len\(x\). Method\(..., batch=False\) takes one"),
        (lambda x: x, r"A method is called as fn\(params, inputs\)"),
        (lambda p, x: jnp.abs(jnp.linalg.eigvals(x[:, :, None] * x[:, None])), "Not every platform has it: name those"),
        (lambda p, x: None, "method 'predict' gives no array"),
        (lambda p, x: "text", "'text' with dtype <U4 is not a valid JAX array type"),
        ("text", "method 'predict' must be a function `fn\\(params, inputs\\)`; got 'text'"),
    ],
)
def test_a_function_that_cannot_be_exported_is_told_why(tmp_path, fn, says):
    with pytest.raises(Refused, match=says) as told:
        export(tmp_path / "m", {"predict": fn}, {}, F)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500
    assert not list(tmp_path.iterdir())


def test_what_json_cannot_hold_is_no_provenance(tmp_path):
    for value in (float("nan"), object()):
        with pytest.raises(Refused, match="`provenance` and `codecs` must be what JSON can hold"):
            export(tmp_path / "m", predict, parameters(), X, provenance={"a": value})


def test_neighbours_that_are_nan_are_tried_where_they_are_allowed(tmp_path):
    """A sum over rows with weight zero: no influence but that of NaN."""
    methods = {
        name: Method(lambda _, x: x + 0.0 * jnp.roll(x, 1, axis=0), F, {"x": Tensor(finite=finite)}, batch=True)
        for name, finite in (("finite", True), ("wild", False))
    }
    model = load(export(tmp_path / "m", methods, {}))
    assert model.methods["wild"].rows == "coupled"
