"""A run of text goes on from a prompt: in pieces, up to a stop, the likeliest, and refuses what cannot be."""

import importlib.util
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.cli import arsenal
from arsenal.continuation import Form, Guesses, StopError, likeliest_text, stream_text, text_model
from arsenal.data.text import end_codes
from arsenal.models import Sampling, transformer
from arsenal.models.generation import continue_prompts
from arsenal.road import fit, load

WORDS = ["length=6", "batch_size=4", "data.context=32", "data.stride=64", "model.layers=1", "model.width=16", "model.heads=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    fit("text_gpt", [*WORDS, f"run.root={root}", "run.tensorboard=false", "~expect"])
    (path,) = root.glob("text_gpt/*")
    return load(path)


@pytest.mark.slow
def test_pieces_are_the_text_that_the_model_makes(run):
    pieces = list(stream_text(run, "The", 20, Sampling(0.0)))
    assert len(pieces) > 1
    prompt = jnp.asarray(np.frombuffer(b"The", np.uint8)[None].astype(np.int32))
    model = transformer(256, 1, 2, 16, 32)
    whole = {"tokens": prompt, "length": jnp.array([3])}
    wanted = continue_prompts(model, run.params["learner"], jax.random.key(0)[None], whole, 20, Sampling(0.0))[0]
    assert "".join(pieces) == bytes(np.asarray(wanted).tolist()).decode(errors="replace")


def test_a_seed_gives_one_text(run):
    one, again, other = ("".join(stream_text(run, "The", 20, Sampling(5.0, top_k=9), seed)) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.slow
def test_a_stop_is_no_part_of_the_text(run):
    whole = "".join(stream_text(run, "The", 20, Sampling(0.0)))
    stop = whole[9:11]
    assert "".join(stream_text(run, "The", 20, Sampling(0.0), stop=stop)) == whole.partition(stop)[0]
    with pytest.raises(StopError, match=r"`stop` 'never' did not come within 5 tokens"):
        list(stream_text(run, "The", 5, Sampling(0.0), stop="never"))


@pytest.mark.slow
def test_a_draft_changes_nothing_of_a_greedy_text(run, tmp_path):
    fit("text_gpt", [*WORDS, "model.width=8", f"run.root={tmp_path}", "run.tensorboard=false", "~expect"])
    (path,) = tmp_path.glob("text_gpt/*")
    small, wanted = load(path), "".join(stream_text(run, "The", 29, Sampling(0.0)))
    for draft, ahead in ((small, 3), (run, 5)):
        guesses = Guesses()
        assert "".join(stream_text(run, "The", 29, Sampling(0.0), draft=draft, ahead=ahead, guesses=guesses)) == wanted
        assert guesses.rounds and guesses.asked == ahead * guesses.rounds
    assert guesses.right == guesses.asked, "who guesses as it answers is always right"
    text = "".join(stream_text(run, "The", 29, Sampling(1.0, top_k=40, repetition=1.2), 4, draft=small))
    assert 29 >= len(text) > 0


def test_a_form_needs_its_library_or_holds(run):
    asked = stream_text(run, "The", 20, Sampling(3.0), 1, form=Form("[0-9]{3}-[a-c]+x"))
    if importlib.util.find_spec("llguidance") is None:
        with pytest.raises(ValueError, match=r'need the library llguidance: pip install "ml-arsenal-serving.grammar'):
            list(asked)
    else:
        assert re.fullmatch("[0-9]{3}-[a-c]+x?", "".join(asked))


@pytest.mark.slow
def test_a_token_that_ends_texts_ends_a_text(tmp_path):
    """A talk's model, hot: it says its end now and then, and all that was drawn before it is the text."""
    fit("chat_lora", ["length=2", "model.model.width=16", "model.model.layers=1", f"run.root={tmp_path}", "run.tensorboard=false", "~expect"])
    (path,) = tmp_path.glob("chat_lora/*")
    run, ended = load(path), 0
    model, context = text_model(run)
    prompt = jnp.asarray(np.frombuffer(b"Say", np.uint8)[None].astype(np.int32))
    assert context == 128 and end_codes(run.kept[0]) == [255]
    for seed in range(6):
        whole = {"tokens": prompt, "length": jnp.array([3])}
        drawn = continue_prompts(model, run.params["learner"], jax.random.key(seed)[None], whole, 120, Sampling(50.0))[0].tolist()
        kept = drawn[: drawn.index(255)] if 255 in drawn else drawn
        ended += len(kept) < len(drawn)
        assert "".join(stream_text(run, "Say", 120, Sampling(50.0), seed)) == bytes(kept).replace(b"\xfe", b"").decode(errors="replace")
    assert ended


def test_the_likeliest_is_no_less_likely_than_the_greedy_one(run):
    assert len(likeliest_text(run, "The", 6, 3).encode()) >= 6


@pytest.mark.parametrize(
    "words, said",
    [
        (["prompt="], "`prompt` must have at least one token"),
        (["prompt=The", "length=30"], "must fit in 32 tokens, the model's context; got 3 + 30"),
        (["prompt=The", "temperature=-1"], "`temperature` must be a number from 0; got -1"),
        (["prompt=The", "top_p=2"], "`top_p` must be a number from 1e-09 to 1; got 2"),
        (["prompt=The", "top_k=0"], "`top_k` must be a whole number of at least 1; got 0"),
        (["prompt=The", "regex=a", "schema=b.json"], "`regex` and `schema` each say what form the text has"),
        (["prompt=The", "ahead=3"], "`ahead` is of a `draft`"),
        (["prompt=The", "beams=2", "regex=a"], "`beams` looks for the likeliest text; `regex` is for draws"),
        (["prompt=The", "beams=2", "top_k=3"], "`beams` looks for the likeliest text; `top_k` is for draws"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(run, words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["arsenal", "generate", f"run={run.folder}", *words])
    with pytest.raises(SystemExit) as ended:
        arsenal()
    out, error = capsys.readouterr()
    assert ended.value.code == 1 and said in error and error.count("\n") == 1 and not out


def test_the_verb_prints_prompt_and_text(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["arsenal", "generate", f"run={run.folder}", "prompt=The", "length=9", "temperature=0"])
    arsenal()
    assert capsys.readouterr().out == "The" + "".join(stream_text(run, "The", 9, Sampling(0.0))) + "\n"
