"""Talks are written as transformers writes them, only answers are learned, and none is lost or mixed where they share rows."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from arsenal_serving.artifact.template import CHATML, ChatTemplate, render
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import chat
from arsenal.data.chat import Talk, pack_talks, talk_of
from arsenal.data.template import read_template
from arsenal.data.tokenizer import tokenizer_of, tokenizer_state
from arsenal.losses import cross_entropy
from arsenal.records import batch

pytest.importorskip("tokenizers")
KEPT = Path(__file__).parents[1] / "kept" / "chat"
FOUND = json.loads((KEPT / "transformers.json").read_text())
STATE = tokenizer_state(str(KEPT / "tokenizer.json"))
TOKENIZER = tokenizer_of(STATE)
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The value."}]


@pytest.mark.parametrize("case", FOUND["cases"], ids=lambda case: f"{case['name']}-{len(case['messages'])}")
def test_talks_are_written_as_transformers_writes_them(case):
    """`scripts/kept_chat.py` made them."""
    template = ChatTemplate(case["template"], FOUND["tokens"])
    assert render(template, case["messages"]) == case["text"]
    assert render(template, case["messages"][:-1], prompt=True) == case["asked"]
    talk = talk_of(TOKENIZER, template, case["messages"])
    assert talk.ids.tolist() == case["ids"]
    if "mask" in case:
        assert talk.answers.tolist() == case["mask"]
    said = TOKENIZER.decode(talk.ids[talk.answers].tolist(), skip_special_tokens=False)
    end = {"chatml": "<|im_end|>\n", "marked": "<|im_end|>", "brackets": "</s>"}[case["name"]]
    answers = [m["content"] for m in case["messages"] if m["role"] == "assistant"]
    assert said == "".join(f" {one.strip()}{end}" if case["name"] == "brackets" else one + end for one in answers)


def test_an_answer_of_weight_0_is_read_and_not_learned():
    case = FOUND["cases"][3]
    messages = [m | ({"weight": 0} if m["content"] == "2" else {}) for m in case["messages"]]
    for source in (case["template"], CHATML):
        talk = talk_of(TOKENIZER, ChatTemplate(source), messages)
        assert TOKENIZER.decode(talk.ids[talk.answers].tolist()).strip() == case["messages"][-1]["content"].strip()


@settings(max_examples=80, deadline=None)
@given(lengths=st.lists(st.integers(2, 13), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_each_talk_is_in_the_first_row_with_room_whole_and_alone(lengths, seed):
    random = np.random.default_rng(seed)
    talks = [Talk(random.integers(1, 99, n).astype(np.int32), random.random(n) < 0.5) for n in lengths]
    x, y = pack_talks(talks, 12)
    rows: list[list[Talk]] = []
    for talk in talks:  # as one would do it by hand
        row = next((row for row in rows if sum(len(t.ids) - 1 for t in row) + len(talk.ids) - 1 <= 12), None)
        if row is None:
            rows.append(row := [])
        row.append(talk)
    assert x["tokens"].shape == x["segments"].shape == y.shape == (len(rows), 12)
    for at, row in enumerate(rows):
        for number, talk in enumerate(row, 1):
            here = x["segments"][at] == number
            assert x["tokens"][at][here].tolist() == talk.ids[:-1].tolist()
            assert y[at][here].tolist() == np.where(talk.answers, talk.ids, -1)[1:].tolist()
        assert (y[at][x["segments"][at] == 0] == -1).all() and (np.diff(np.flatnonzero(x["segments"][at])) == 1).all()


def saved(path: Path, *talks) -> str:
    path.write_text("".join(json.dumps(talk if isinstance(talk, dict) else {"messages": talk}) + "\n" for talk in talks))
    return str(path)


def test_only_answers_change_the_loss(tmp_path):
    data = chat(saved(tmp_path / "a.jsonl", TALK, FOUND["cases"][1]["messages"], TALK), str(KEPT / "tokenizer.json"), 128)
    assert data.schema.tokenizer == STATE and set(data.rows.x) == {"tokens", "segments"} and data.rows.y.shape[1] == 128
    assert data.rows.x["segments"].max() >= 2
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(*data.rows.y.shape, 300)), jnp.float32)
    loss, rows = cross_entropy(over="tokens"), batch(x=data.rows.x, y=data.rows.y)
    hp = {"label_smoothing": jnp.float32(0)}
    value = loss.value(logits, rows, hp)
    moved = jnp.where((data.rows.y < 0)[..., None], logits[..., ::-1], logits)
    np.testing.assert_array_equal(value, loss.value(moved, rows, hp))
    assert int(loss.counts(rows).sum()) == (data.rows.y >= 0).sum() > 20
    assert data.fingerprint == chat(str(tmp_path / "*.jsonl"), str(KEPT / "tokenizer.json"), 128).fingerprint


def test_a_template_is_found_where_models_keep_it(tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text((KEPT / "tokenizer.json").read_text())
    assert read_template(tokenizer) == ChatTemplate(CHATML)
    config = {"chat_template": "A", "bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_template(tokenizer) == ChatTemplate("A", {"bos_token": "<s>", "eos_token": "</s>"})
    several = [{"name": "tool_use", "template": "B"}, {"name": "default", "template": "C"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": several}))
    assert read_template(tokenizer).source == "C"
    (tmp_path / "chat_template.jinja").write_text("D")
    assert read_template(tokenizer) == ChatTemplate("D", {"bos_token": "<s>", "eos_token": "</s>"})
    assert read_template(tokenizer, tmp_path / "tokenizer_config.json").source == "C"
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="tokenizer_config.json has no `chat_template`"):
        read_template(tokenizer, tmp_path / "tokenizer_config.json")
    with pytest.raises(FileNotFoundError, match="Chat template .*none.jinja does not exist"):
        read_template(tokenizer, tmp_path / "none.jinja")
    tokenizer.write_text("{}")
    with pytest.raises(ValueError, match="There is no chat template beside .*tokenizer.json; `template` names a file"):
        read_template(tokenizer)


@pytest.mark.parametrize(("talk", "said"), [
    (TALK[:1], "a.jsonl, line 2: a talk must have an answer, a message of the assistant that holds text; there is none"),
    ([TALK[0], TALK[1] | {"weight": 0}], "line 2: a talk must have an answer"),
    ([TALK[0], TALK[1] | {"content": " "}], "line 2: a talk must have an answer"),
    ([], r"line 2: `messages` must be a list of messages; got \[\]"),
    ({"message": TALK}, "line 2: a line must have the field `messages`; it has message. Did you mean `message`"),
    ([TALK[0], {"role": "bot", "content": "a"}], "line 2: `role` of message 2 must be one of system, user, .*; got 'bot'"),
    ([TALK[0], {"role": "assistant"}], "line 2: message 2 must be an object with `role` and `content`"),
    ([TALK[0], TALK[1] | {"content": ["a"]}], r"line 2: `content` of message 2 must be a string; got \['a'\]"),
    ([TALK[0], TALK[1] | {"weight": 0.5}], "line 2: `weight` of message 2 must be 0 or 1; got 0.5"),
    ([TALK[0], TALK[1] | {"content": "\ufdd0"}], "line 2: a talk must be text"),
    ([TALK[0], TALK[1] | {"content": "a b c " * 99}], r"line 2: a talk must have at most 65 tokens, `context` and one; got \d+"),
])  # fmt: skip
def test_a_talk_that_cannot_be_learned_from_is_told(tmp_path, talk, said):
    with pytest.raises(ValueError, match=said):
        chat(saved(tmp_path / "a.jsonl", TALK, talk), str(KEPT / "tokenizer.json"), 64)


def test_what_a_template_refuses_is_told_with_its_line(tmp_path):
    for source, said in (
        ("{{ raise_exception('no system') }}", "line 1: the chat template cannot write this talk: no system"),
        ("{% for %}", "cannot write this talk: "),
        ("{{ messages.__class__.__mro__ }}", "cannot write this talk: access to attribute '__class__' of 'list' object is unsafe"),
        ("{{ messages.append(1) }}", "cannot write this talk: access to attribute 'append'|is not safely callable"),
        ("{{ messages | length }} said: {{ messages[-1].content }}", "writes what stands before message 2 otherwise once it is said"),
        ("{% generation %}a{% endgeneration %}{% generation %}b{% endgeneration %}", "marks 2 answers of a talk that has 1"),
        ("nothing", "the chat template writes none of this one"),
    ):
        (tmp_path / "t.jinja").write_text(source)
        with pytest.raises(ValueError, match=said):
            chat(saved(tmp_path / "a.jsonl", TALK), str(KEPT / "tokenizer.json"), 64, template=str(tmp_path / "t.jinja"))


def test_long_talks_are_dropped_where_told(tmp_path):
    path = saved(tmp_path / "a.jsonl", TALK, [TALK[0], TALK[1] | {"content": "a b c " * 99}])
    with pytest.warns(UserWarning, match="1 of 2 talks have more than 65 tokens and are left out"):
        data = chat(path, str(KEPT / "tokenizer.json"), 64, long="drop")
    assert len(data.rows.y) == 1
    with pytest.raises(ValueError, match="must hold a talk of at most 11 tokens; there is none"):
        chat(path, str(KEPT / "tokenizer.json"), 10, long="drop")
    with pytest.raises(ValueError, match="`long` of `chat` must be refuse or drop; got 'cut'"):
        chat(path, str(KEPT / "tokenizer.json"), long="cut")
    (tmp_path / "b.txt").write_text("a")
    with pytest.raises(ValueError, match="Talks are read from .jsonl files; got .*b.txt"):
        chat(str(tmp_path / "b.txt"), str(KEPT / "tokenizer.json"))


def test_talks_without_files_are_bytes_and_questions_without_repetition():
    found = chat(context=256)
    x, y = found.rows.x["tokens"], found.rows.y
    made = tokenizer_of(found.schema.tokenizer)
    assert made.encode("aé — 例\n").ids == list("aé — 例\n".encode()) and made.get_vocab_size() == 256
    talks = "".join(made.decode(row[row > 0].tolist(), skip_special_tokens=False) for row in x).split("<|im_start|>user\n")[1:]
    assert len(talks) == len({talk[: talk.index("?")] for talk in talks}) == 3000
    learned = made.decode(y[0][y[0] >= 0].tolist(), skip_special_tokens=False).split("<|im_end|>\n")
    asked = [talk[: talk.index("?") + 1] for talk in made.decode(x[0][x[0] > 0].tolist()).split("user\n")[1:]]
    for question, answer in zip(asked, learned, strict=False):
        _, _, word, a, _, b = question.rstrip("?").replace(",", "").split()
        assert answer == f"{(max if word == 'more' else min)(int(a), int(b))} is {word}."
    with pytest.raises(ValueError, match="without a `tokenizer` talks are written as ChatML"):
        chat(template="own.jinja")
