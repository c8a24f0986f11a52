"""A checkpoint folder goes in, is trained, is served with strings and goes back; what does not fit is told in a line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from arsenal_serving.model import load

from arsenal import models
from arsenal.checkpoint import all_arguments, write_checkpoint
from arsenal.config import ConfigError
from arsenal.continuation import stream_text
from arsenal.huggingface import read_folder, write_folder
from arsenal.models.adapted import merge_adapters
from arsenal.models.generation import Sampling
from arsenal.road import compose, export, fit

KEPT = Path(__file__).resolve().parents[1] / "kept" / "checkpoints"
library = pytest.importorskip("tokenizers")
SPECIAL = ["[PAD]", "[MASK]", "</s>", "[UNK]"]
LETTERS = [*SPECIAL, " ", *"abcdefghijklmnopqrstuvwxyz"]
LORA = [
    "model=lora", "+model@model.model=transformer", "~model.vocabulary", "~model.context", "~model.layers", "model.model.layers=2",
    "model.patterns='.*/(qkv|up)'",
]  # fmt: skip
STILL = ["optimizer.learning_rate=0", "length=1"]
"""What a run answers then is what its parameters were at first."""


def write_tokenizer(path, letters=LETTERS):
    """A tokenizer of letters, 31 unless more are given, as a tokenizer.json."""
    made = library.Tokenizer(library.models.BPE({letter: i for i, letter in enumerate(letters)}, [], unk_token="[UNK]"))
    made.decoder = library.decoders.Fuse()
    made.add_special_tokens(SPECIAL)
    made.save(str(path / "tokenizer.json"))
    return made


@pytest.fixture
def folder(tmp_path):
    """A function: a copy of a kept checkpoint with a tokenizer, and a file of text, as words of a command."""
    (tmp_path / "book.txt").write_text("the value of a name is a value of the name " * 40)

    def begin(name, *words, letters=LETTERS):
        path = tmp_path / name
        shutil.copytree(KEPT / name, path)
        write_tokenizer(path, letters)
        experiment, data = {"gpt2": ("text_gpt", "data"), "bert": ("text_bert", "data.text")}[name]
        return experiment, [
            f"init_from=hf:{path}", f"{data}.path={tmp_path / 'book.txt'}", f"{data}.context=16", f"run.root={tmp_path / 'runs'}",
            "~expect", "batch_size=4", *words,
        ]  # fmt: skip

    return begin


def learner_params(run):
    """The parameters of its model."""
    return jax.tree.map(np.asarray, run.params["learner"])


def same(one, other):
    """Whether two trees are the same bits."""
    return jax.tree.structure(one) == jax.tree.structure(other) and jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [[], LORA], ids=["all", "lora"])
def test_gpt2_goes_in_and_out(folder, tmp_path, adapters):
    experiment, words = folder("gpt2", *adapters)
    found = read_folder(f"hf:{tmp_path / 'gpt2'}")
    still, kept = fit(compose(experiment, [*words, *STILL])), dict(np.load(KEPT / "gpt2" / "answers.npz"))
    tokens = kept["tokens"][:, :16]
    proba = np.asarray(still.apply["predict_proba"](still.params, tokens))
    np.testing.assert_allclose(proba, jax.nn.softmax(kept["logits"][:, :16]), atol=2e-6)

    run = fit(compose(experiment, [*words, "length=3"]))
    params = learner_params(run)
    assert not same(params["params"], learner_params(still)["params"])
    plain = merge_adapters(params, 16.0, 8) if adapters else params
    write_checkpoint(run, tmp_path / "out")
    again = read_folder(f"hf:{tmp_path / 'out'}")
    assert same(again.variables(), plain) and again.arguments == found.arguments
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text()) == json.loads(found.tokenizer.read_text())
    model = models.transformer(**again.arguments)
    np.testing.assert_allclose(
        run.apply["predict_proba"](run.params, tokens), jax.nn.softmax(model.apply(again.variables(), tokens)[0]), atol=2e-6
    )

    served = load(export(run))
    prompts, tokenizer = ["the val", "a"], library.Tokenizer.from_file(str(found.tokenizer))
    asked = {"prompt": np.array(prompts, object), "seed": np.arange(2, dtype=np.uint32), "temperature": np.zeros(2, np.float32)}
    answers = served.infer("generate", asked)["generate"]
    for prompt, answer in zip(prompts, answers, strict=True):
        codes = tokenizer.encode(prompt).ids
        wanted = models.generate(model, again.variables(), jax.random.key(0), np.array([codes]), 24, 0.0)[0].tolist()
        end = wanted.index(2) if 2 in wanted else None  # `</s>`
        assert answer == tokenizer.decode(wanted[:end])
    assert "".join(stream_text(run, "the val", 9, Sampling(0.0))) == tokenizer.decode(
        models.generate(model, again.variables(), jax.random.key(0), np.array([tokenizer.encode("the val").ids]), 9, 0.0)[0]
    )


@pytest.mark.slow
def test_a_network_of_diffusion_goes_in_and_out(tmp_path):
    told = {"width": 8, "multipliers": (1, 2), "heads": None, "head_size": 4, "groups": 4, "flip_sin_to_cos": True}
    model, shape = models.unet(**told), jax.ShapeDtypeStruct
    asked = {"x": shape((1, 8, 8), np.float32), "time": shape((1,), np.float32)}
    drawn = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: drawn.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(model.init, jax.random.key(0), asked)
    )
    write_folder(tmp_path / "unet", "UNet2DModel", all_arguments("unet", told), variables)
    words = [f"init_from=hf:{tmp_path / 'unet'}", f"run.root={tmp_path / 'runs'}", "~expect", "batch_size=4"]
    words += ["learner.learner.steps=2"]
    with pytest.raises(ConfigError, match="`unet` must have `classes` to read a label"):
        fit(compose("digits_diffusion", [*words, *STILL]))
    words += ["learner.learner.classes=null", "learner.learner.schedule=linear", "learner.learner.prediction=noise"]
    still = fit(compose("digits_diffusion", [*words, *STILL]))
    write_checkpoint(still, tmp_path / "out")
    again = read_folder(f"hf:{tmp_path / 'out'}")
    assert same(again.variables(), variables) and again.arguments == read_folder(f"hf:{tmp_path / 'unet'}").arguments
    assert json.loads((tmp_path / "out" / "config.json").read_text())["sample_size"] == 8

    x, time = drawn.normal(size=(2, 8, 8)).astype(np.float32), np.array([0.001, 1.0], np.float32)
    run = fit(compose("digits_diffusion", [*words, "length=3"]))
    write_checkpoint(run, tmp_path / "tuned")
    tuned = read_folder(f"hf:{tmp_path / 'tuned'}")
    assert not same(tuned.variables(), variables)
    assert models.unet(**tuned.arguments).apply(tuned.variables(), {"x": x, "time": time})[0].shape == x.shape
    assert load(export(run)).infer("sample", {"x": np.arange(2, dtype=np.uint32)})["sample"].shape == (2, 8, 8)


@pytest.mark.slow
def test_bert_goes_in_and_out(folder, tmp_path):
    experiment, words = folder("bert")
    found = read_folder(f"hf:{tmp_path / 'bert'}")
    # Codes 0 are padding to the checkpoint, and the experiment's mask is a code of bytes.
    words += ["learner.augmentation={vocabulary: 31, code: 1, share: 0.3}"]
    still, kept = fit(compose(experiment, [*words, *STILL])), dict(np.load(KEPT / "bert" / "answers.npz"))
    tokens = np.where(kept["tokens"] == 0, 5, kept["tokens"])
    tokens = np.concatenate([tokens, tokens], 1)[:, :16].astype(np.int32)
    model = models.bert(**found.arguments)
    wanted = jax.nn.softmax(model.apply(found.variables(), tokens)[0])
    np.testing.assert_allclose(still.apply["predict_proba"](still.params, tokens), wanted, atol=2e-6)

    run = fit(compose(experiment, [*words, "length=3"]))
    write_checkpoint(run, tmp_path / "out")
    again = read_folder(f"hf:{tmp_path / 'out'}")
    assert again.arguments == found.arguments and same(again.variables(), learner_params(run))
    assert not same(again.variables(), found.variables())
    answer = load(export(run)).infer("predict_proba", {"x": tokens})["predict_proba"]
    np.testing.assert_allclose(answer, jax.nn.softmax(model.apply(again.variables(), tokens)[0]), atol=2e-6)


def test_a_tokenizer_of_more_codes_than_the_embedding_is_told(folder, tmp_path):
    experiment, words = folder("gpt2", letters=[*LETTERS, "."])
    with pytest.raises(ConfigError, match="tokenizer.json has codes up to 31; the model's embedding is of 31, codes up to 30"):
        compose(experiment, words)
    (tmp_path / "gpt2" / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no tokenizer.json of Hugging Face's"):
        compose(experiment, words)


@pytest.mark.slow
def test_folders_that_do_not_fit_are_one_line_of_the_command(folder, tmp_path):
    _, words = folder("gpt2")
    from safetensors.numpy import load_file, save_file

    def say(*more):
        command = [sys.executable, "-m", "arsenal", "train", f"run.root={tmp_path}", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    command = [sys.executable, "-m", "arsenal", "train", "+experiment=text_gpt", *words, "length=1"]
    assert "arrays taken from hf:" in subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    said = say("+experiment=text_bert", words[0])
    assert "is a gpt2, whose model is arsenal.models.transformer; the experiment's is arsenal.models.bert" in said
    assert "must be a folder with a config.json" in say("+experiment=text_gpt", f"init_from=hf:{tmp_path / 'none'}")
    tensors = load_file(tmp_path / "gpt2" / "model.safetensors")
    save_file(tensors | {"transformer.h.0.adapter.weight": np.ones(2, np.float32)}, tmp_path / "gpt2" / "model.safetensors")
    assert "`transformer.h.0.adapter.weight`" in say("+experiment=text_gpt", *words, "length=1")


CHANGED = ["optimizer.learning_rate=0.1", "length=3"]


@pytest.mark.slow
def test_adapters_go_out_alone_and_come_back(folder, tmp_path):
    experiment, words = folder("gpt2", *LORA)
    tokens = np.load(KEPT / "gpt2" / "answers.npz")["tokens"][:, :16]
    first = fit(compose(experiment, [*words, *CHANGED]))
    wanted = first.apply["predict_proba"](first.params, tokens)
    write_checkpoint(first, tmp_path / "adapters", part="adapters")
    write_checkpoint(first, tmp_path / "base", part="base")
    begun = read_folder(words[0].removeprefix("init_from="))
    assert same(read_folder(f"hf:{tmp_path / 'base'}").variables(), begun.variables())
    told = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(begun.path) and told["r"] == 8 and told["target_modules"] == ["c_attn", "c_fc"]

    def begin(*more):
        """A run that begins with the folder of adapters and stays there."""
        rest = [word for word in words[1:] if word not in LORA]
        run = fit(compose(experiment, [f"init_from=hf:{tmp_path / 'adapters'}", *rest, *more, *STILL]))
        np.testing.assert_allclose(run.apply["predict_proba"](run.params, tokens), wanted, atol=2e-6)
        return run

    again = begin(*LORA[:-1])  # as adapters, of the folder's own layers
    assert same(learner_params(again)["params"], learner_params(first)["params"])
    merged = begin()
    assert "frozen" not in learner_params(merged)
    other = begin(*LORA[:-1], "model.rank=3")  # adapters of its own, which begin at nothing
    assert not same(learner_params(other)["frozen"], learner_params(first)["frozen"])
    with pytest.raises(ValueError, match="`part` adapters is of a run of `lora`"):
        write_checkpoint(merged, tmp_path / "none", part="adapters")
    # Of a run as of a folder.
    sizes = ["model.layers=2", "model.heads=4", "model.width=16", "+model.hidden=24", f"data.tokenizer={tmp_path / 'gpt2' / 'tokenizer.json'}", "model.vocabulary=31"]
    run = fit(compose(experiment, [f"init_from={first.folder}", *[word for word in words[1:] if word not in LORA], *STILL, *sizes, "model.context=32"]))
    np.testing.assert_allclose(run.apply["predict_proba"](run.params, tokens), wanted, atol=2e-6)
