"""Checkpoints answer what `transformers` and diffusers answer, go back bit for bit, and what is not understood is told in a line.

The folders in tests/kept/checkpoints are theirs; scripts/kept_checkpoints.py makes them.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from arsenal import models
from arsenal.checkpoint import all_arguments, describe_checkpoint
from arsenal.huggingface import find_type, folder, read_folder, write_folder
from arsenal.huggingface.mapping import parse_table, to_tensors, to_variables

KEPT = Path(__file__).resolve().parents[1] / "kept" / "checkpoints"
NAMES = sorted(path.name for path in KEPT.iterdir())
TOLERANCE = 2e-5
DIT_COPY = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_2.weight"


def read(name):
    """The checkpoint, its model, its variables and what was kept of its answers."""
    checkpoint = read_folder(f"hf:{KEPT / name}")
    answers = dict(np.load(KEPT / name / "answers.npz"))
    return checkpoint, getattr(models, checkpoint.target)(**checkpoint.arguments), checkpoint.variables(), answers


def near(got, wanted):
    """Whether the numbers agree to the tolerance of the largest."""
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE * np.abs(wanted).max(), rtol=0)


def inputs_of(kept):
    """What the model is asked, and which of the answers count."""
    if "images" in kept:
        return kept["images"], ...
    if "step" in kept:
        return {"time": (kept["step"] + 1) / np.float32(1000)} | {name: kept[name] for name in ("x", "label") if name in kept}, ...
    if "texts" in kept:
        return {"image": kept["pictures"], "tokens": kept["texts"][:2]}, ...
    if "length" in kept:
        return {name: kept[name] for name in ("tokens", "length")}, ...
    if "mask" not in kept:
        return kept["tokens"], ...
    if "decoder" in kept:
        return {name: kept[name] for name in ("tokens", "decoder")}, ...
    there = kept["mask"] > 0
    return {"tokens": kept["tokens"], "mask": kept["mask"]}, there if kept["logits"].ndim == 3 else ...


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_what_transformers_answers(name):
    _, model, variables, kept = read(name)
    if "texts" in kept:
        fits = jax.jit(model.methods["compare"])(variables, {"image": kept["pictures"], "tokens": kept["texts"]})
        return near(fits, kept["logits"])
    apply = jax.jit(lambda v, x: model.apply(v, x)[0])
    inputs, counted = inputs_of(kept)
    near(apply(variables, inputs)[counted], kept["logits"][counted])
    if "typed" in kept:
        near(apply(variables, inputs | {"types": kept["types"]})[counted], kept["typed"][counted])
    if "decoder" in kept:
        near(apply(variables, inputs | {"mask": kept["mask"]}), kept["logits"])
    elif "mask" in kept and "length" not in kept:  # padding is found by its code too
        near(apply(variables, kept["tokens"])[counted], kept["logits"][counted])


@pytest.mark.parametrize("name", [name for name in NAMES if "greedy" in np.load(KEPT / name / "answers.npz")])
def test_it_goes_on_with_the_same_tokens(name):
    _, model, variables, kept = read(name)
    found = models.generate(model, variables, jax.random.key(0), kept["tokens"][:, :7], 8, 0.0)
    sure = np.cumprod(kept["margins"] > 1e-4, 1) > 0  # after a near tie, anything may follow
    assert sure.mean() > 0.9
    assert (np.asarray(found) == kept["greedy"])[sure].all()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("t5")])
def test_it_answers_with_the_same_tokens(name):
    checkpoint, _, variables, kept = read(name)
    model = models.t5(**checkpoint.arguments, generated=7)
    n = len(kept["tokens"])
    asked = {"tokens": kept["tokens"], "seed": np.arange(n, dtype=np.uint32), "temperature": np.zeros(n, np.float32)}
    assert (jax.jit(model.methods["generate"])(variables, asked) == kept["answer"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_back_bit_for_bit(name, tmp_path):
    checkpoint, model, variables, kept = read(name)
    tokens, _ = inputs_of(kept)
    made = jax.eval_shape(model.init, jax.random.key(0), tokens)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, made), "Nothing is missing or left over."
    told = all_arguments(checkpoint.target, checkpoint.arguments)  # as a run has them
    write_folder(tmp_path, checkpoint.model_type, told, variables)
    again = read_folder(f"hf:{tmp_path}")
    assert again.arguments == checkpoint.arguments
    with folder.TensorFiles(KEPT / name) as before, folder.TensorFiles(tmp_path) as after:
        assert set(after) == set(before)
        assert all(np.array_equal(before[tensor], after[tensor]) for tensor in before)
    was, now = (json.loads((path / "config.json").read_text()) for path in (KEPT / name, tmp_path))
    assert was.get("architectures") == now.get("architectures")
    assert was.get("_class_name") == now.get("_class_name")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described(name):
    assert describe_checkpoint(f"hf:{KEPT / name}")[2].endswith("all of it is understood")


def test_an_efficientnet_is_described_by_images_of_its_size(tmp_path):
    given = all_arguments("efficientnet", {"output": 5, "width": 0.25, "depth": 0.25, "size": 32, "stem": "imagenet"})
    made = jax.eval_shape(models.efficientnet(**given).init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    write_folder(tmp_path, "efficientnet", given, jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), made))
    assert describe_checkpoint(f"hf:{tmp_path}")[2].endswith("all of it is understood")


def test_files_in_pieces_are_one(tmp_path, monkeypatch):
    checkpoint, _, variables, _ = read("llama")
    monkeypatch.setattr(folder, "SHARD", 4000)
    files = write_folder(tmp_path, "llama", checkpoint.arguments, variables)
    assert len(files) > 3
    again = read_folder(f"hf:{tmp_path}").variables()
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    files[1].unlink()
    with pytest.raises(ValueError, match="which the index names, does not exist"):
        read_folder(f"hf:{tmp_path}").variables()


def test_a_bare_model_is_read_without_its_prefix():
    checkpoint, _, variables, _ = read("gpt2")
    family = folder.FAMILIES["gpt2"]
    with folder.TensorFiles(KEPT / "gpt2") as tensors:
        bare = {name.removeprefix("transformer."): tensors[name] for name in tensors}
    found = to_variables(bare, parse_table(family.table(checkpoint.arguments)), family.prefix).variables
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, found))


@pytest.fixture
def edited(tmp_path):
    """A function: a copy of a checkpoint whose config.json or tensors are changed, as `hf:FOLDER`."""

    def edit(name, config=None, tensors=None):
        path = tmp_path / name
        shutil.copytree(KEPT / name, path, dirs_exist_ok=True)
        if config:
            said = json.loads((path / "config.json").read_text()) | config
            (path / "config.json").write_text(json.dumps(said))
        if tensors:
            from safetensors.numpy import load_file, save_file

            (file,) = path.glob("*.safetensors")
            save_file(tensors(load_file(file)), file)
        return f"hf:{path}"

    return edit


def without(name):
    """Tensors less one."""
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    "name, config, tensors, said",
    [
        ("gpt2", {"model_type": "gtp2"}, None, "is gtp2; arsenal reads .* Did you mean `gpt2`?"),
        ("gpt2", {"activation_function": "gelo"}, None, "`activation_function` is one of .*; config.json says gelo"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, None, "`scale_attn_by_inverse_layer_idx` of a gpt2 must be False"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, None, "linear or llama3; config.json says yarn"),
        ("llama", None, without("model.layers.1.self_attn.k_proj.weight"), "no `model.layers.1.self_attn.k_proj.weight`"),
        ("llama", None, lambda t: t | {"model.layers.0.self_attn.z": np.ones(2, np.float32)}, "is `model.layers.0.self_attn.z`"),
        ("qwen2", None, lambda t: t | {"lm_head.weight": np.ones((31, 16), np.float32)}, "must equal `model.embed_tokens.weight`"),
        ("unet", {"block_out_channels": [4, 6, 8]}, None, r"are multiples of the first; its config.json says \[4, 6, 8\]"),
        ("unet", {"up_block_types": ["UpBlock2D"] * 3}, None, "must be of DownBlock2D and AttnDownBlock2D, and `up_block_types`"),
        ("unet", {"out_channels": 6}, None, "`out_channels` of a UNet2DModel must be its `in_channels`, 3; its .* says 6"),
        ("unet", {"resnet_time_scale_shift": "scale_shift"}, None, "`resnet_time_scale_shift` of a UNet2DModel must be default"),
        ("dit", {"out_channels": 6}, None, "must be its `in_channels`, 3: learned variances are not read; .* says 6"),
        ("dit", {"norm_eps": 1e-3}, None, "`norm_eps` of a DiTTransformer2DModel is 1e-6 to 1e-5; its config.json says 0.001"),
        ("dit", None, lambda t: t | {DIT_COPY: np.ones((16, 16), np.float32)}, f"`{DIT_COPY}` must equal `transformer_blocks.0"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_told(edited, name, config, tensors, said):
    with pytest.raises(ValueError, match=said):
        read_folder(edited(name, config, tensors)).variables()


@pytest.mark.parametrize(
    "target, given, said",
    [
        ("unet", {"width": 4, "attention": [0, 1], "groups": 4}, "`heads` of a UNet2DModel is 1, or one `head_size` .* model's is 2"),
        ("unet", {"width": 4}, "`groups` of a UNet2DModel must divide its `width`, 4; the model's is 8"),
        ("dit", {"size": [4, 8]}, r"one side of a square; the model's is \[4, 8\]"),
        ("dit", {"size": 4}, "`classes` of a DiTTransformer2DModel cannot be null"),
    ],
)  # fmt: skip
def test_what_diffusers_cannot_say_is_told(target, given, said):
    kernels = {name: {"kernel": np.zeros((3, 3, 1, 4))} for name in ("stem", "patch")}
    with pytest.raises(ValueError, match=said):
        find_type(target, all_arguments(target, given), {"params": kernels})


def test_a_pipeline_of_diffusers_is_told(tmp_path):
    shutil.copytree(KEPT / "unet", tmp_path / "unet")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="is a pipeline of diffusers with `unet` in it: name the folder of its network"):
        read_folder(f"hf:{tmp_path}")


def test_attention_by_its_names_until_2023_is_the_same(edited):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for now, then in old.items():
            tensors = {name.replace(f".{now}.", f".{then}."): tensor for name, tensor in tensors.items()}
        return tensors

    _, _, variables, _ = read("unet")
    found = read_folder(edited("unet", None, rename)).variables()
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, found))


def test_folders_that_are_none_are_told(tmp_path):
    with pytest.raises(ValueError, match="must be a folder with a config.json"):
        read_folder(f"hf:{tmp_path}")
    shutil.copy(KEPT / "gpt2" / "config.json", tmp_path)
    with pytest.raises(ValueError, match="has no model.safetensors"):
        read_folder(f"hf:{tmp_path}").variables()
    (tmp_path / "model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="is no safetensors file"):
        read_folder(f"hf:{tmp_path}").variables()


def test_another_model_is_no_member_of_the_family(tmp_path):
    checkpoint, _, variables, _ = read("gpt2")
    with pytest.raises(ValueError, match="`norm` of a llama is rms; the model's is layer"):
        write_folder(tmp_path / "out", "llama", checkpoint.arguments, variables)
    assert not (tmp_path / "out").exists()


def test_a_parameter_without_a_name_is_told():
    checkpoint, _, variables, _ = read("gpt2")
    variables["params"]["more"] = np.ones(3)
    with pytest.raises(ValueError, match="names the parameters `more`"):
        to_tensors(variables, parse_table(folder.FAMILIES["gpt2"].table(checkpoint.arguments)))
