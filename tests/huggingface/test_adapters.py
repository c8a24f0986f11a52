"""PEFT's adapters answer what PEFT answers with them, ours are what PEFT was asked with, and what is not understood is told.

The folders in tests/kept/adapters are beside those of tests/kept/checkpoints; scripts/kept_adapters.py makes them.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from arsenal import models
from arsenal.checkpoint import describe_checkpoint
from arsenal.huggingface import read_folder, write_adapter_folder
from arsenal.huggingface.folder import FAMILIES
from arsenal.models.adapted import FROZEN, flatten, join_frozen, merge_adapters, unflatten
from arsenal.nn import Adapters

KEPT = Path(__file__).resolve().parents[1] / "kept"
NAMES = sorted(path.name for path in (KEPT / "adapters").iterdir())
OURS = {
    "llama": (".*/(qkv|out|gate|down)|head", 3, 6.0), "gpt2": (".*/(qkv|up)", 2, 4.0), "bert": (".*/(qkv|out|down)|transform", 2, 8.0),
    "t5": ("encoder/.*/(qkv|up)|decoder/.*/(query|key_value)", 2, 4.0), "mixtral": (".*/(qkv|out)", 2, 4.0),
}  # fmt: skip
"""What arsenal writes to be loaded by PEFT: names of checkpoints, and `lora`'s arguments."""


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max(), rtol=0)


def asked(name):
    kept = dict(np.load(KEPT / "checkpoints" / name / "answers.npz"))
    inputs = {key: kept[key] for key in ("tokens", "mask", "decoder") if key in kept}
    return inputs if len(inputs) > 1 else kept["tokens"]


def same(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and jax.tree.all(jax.tree.map(np.array_equal, one, other))


def adapted_by_us(name):
    """A checkpoint with adapters of ours, of noise, as variables."""
    found = read_folder(f"hf:{KEPT / 'checkpoints' / name}")
    told, base = Adapters(*OURS[name]), found.variables()["params"]
    model = models.lora(getattr(models, found.target)(**found.arguments), *told)
    shapes = jax.eval_shape(model.init, jax.random.key(0), asked(name))["params"]
    random = np.random.default_rng(7)
    leaves = {path: (random.normal(size=leaf.shape) * 0.3).astype(np.float32) for path, leaf in sorted(flatten(shapes).items())}
    return found, told, model, {"params": unflatten(leaves), FROZEN: base}


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_what_peft_answers(name):
    base = name.removesuffix("_ours")
    found, inputs = read_folder(f"hf:{KEPT / 'adapters' / name}"), asked(base)
    wanted = np.load(KEPT / "adapters" / name / "answers.npz")["logits"]
    plain, there = getattr(models, found.target)(**found.arguments), ...
    if isinstance(inputs, dict) and "decoder" not in inputs and wanted.ndim == 3:
        there = inputs["mask"] > 0
    variables = {"params": found.adapted, FROZEN: found.variables()["params"]}
    model = models.lora(plain, *found.adapters)
    made = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, made), "Every adapter has its layer."
    near(np.asarray(jax.jit(lambda v, x: model.apply(v, x)[0])(variables, inputs))[there], wanted[there])
    merged = merge_adapters(variables, found.adapters.alpha, found.adapters.rank)
    near(np.asarray(jax.jit(lambda v, x: plain.apply(v, x)[0])(merged, inputs))[there], wanted[there])


@pytest.mark.parametrize("name", OURS)
def test_what_is_written_is_what_peft_was_asked_with(name, tmp_path):
    found, told, _, variables = adapted_by_us(name)
    write_adapter_folder(tmp_path, found.model_type, found.arguments, join_frozen(variables), told, f"../../checkpoints/{name}")
    kept = KEPT / "adapters" / f"{name}_ours"
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == (kept / "adapter_model.safetensors").read_bytes()
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == json.loads((kept / "adapter_config.json").read_text())
    again = read_folder(f"hf:{kept}")
    assert same(again.adapted, variables["params"]) and again.adapters[1:] == told[1:]


@pytest.fixture
def edited(tmp_path):
    """A function: a copy of kept adapters whose config or tensors are changed, as `hf:FOLDER`."""

    def edit(name, config=None, tensors=None):
        path = tmp_path / name
        shutil.copytree(KEPT / "adapters" / name, path)
        said = json.loads((path / "adapter_config.json").read_text())
        said["base_model_name_or_path"] = str(KEPT / "checkpoints" / name)
        (path / "adapter_config.json").write_text(json.dumps(said | (config or {})))
        if tensors:
            from safetensors.numpy import load_file, save_file

            save_file(tensors(load_file(path / "adapter_model.safetensors")), path / "adapter_model.safetensors")
        return f"hf:{path}"

    return edit


FIRST = "base_model.model.model.layers.0.self_attn."


@pytest.mark.parametrize(("config", "tensors", "said"), [
    ({"peft_type": "IA3"}, None, "`peft_type` of .* must be LORA; got IA3"),
    ({"use_dora": True}, None, "`use_dora` of .* must be false; got true"),
    ({"bias": "all"}, None, '`bias` of .* must be "none"; got "all"'),
    ({"modules_to_save": ["score"]}, None, r'`modules_to_save` of .* must be null; got \["score"\]'),
    ({"init_lora_weights": "pissa"}, None, "`init_lora_weights` of .* must be true, false or gaussian; got pissa"),
    ({"base_model_name_or_path": "some/model"}, None, "must be the folder of the model that the adapters are of; got some/model"),
    ({"r": None}, None, "must have `r` and `lora_alpha`"),
    (None, lambda t: t | {f"{FIRST}z.lora_A.weight": np.ones((2, 2), np.float32)}, "No dense layer of the model is that of"),
    (None, lambda t: {k: v for k, v in t.items() if k != f"{FIRST}q_proj.lora_B.weight"}, "is that of .*q_proj.lora_A"),
    (None, lambda t: t | {f"{FIRST}q_proj.lora_B.weight": np.ones((5, 3), np.float32)}, r"Adapters of .*qkv` are \[16, rank\]"),
])  # fmt: skip
def test_what_is_not_understood_is_told(edited, config, tensors, said):
    with pytest.raises(ValueError, match=said):
        read_folder(edited("llama", config, tensors))


def test_the_folder_says_what_it_is(edited):
    lines = describe_checkpoint(edited("llama"))
    assert any(line.startswith("adapters: rank 6, alpha 12, of ") for line in lines)


def test_adapters_of_no_dense_layer_are_told(tmp_path):
    found, told, _, variables = adapted_by_us("llama")
    leaves = flatten(join_frozen(variables)["params"]) | {"token/lora_a": np.ones((2, 3)), "token/lora_b": np.ones((3, 2))}
    with pytest.raises(ValueError, match="none is `token/lora_a`, `token/lora_b`"):
        write_adapter_folder(tmp_path / "out", "llama", found.arguments, {"params": unflatten(leaves)}, told)
    assert not (tmp_path / "out").exists() and "llama" in FAMILIES
