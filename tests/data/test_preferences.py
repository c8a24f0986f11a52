"""Pairs are the tokens that trl makes of them, answers begin where they do there, and a line that is none is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from arsenal.data import preferences
from arsenal.data.preferences import sides_of
from arsenal.data.tokenizer import tokenizer_of

pytest.importorskip("tokenizers")
KEPT = Path(__file__).parents[1] / "kept"
FOUND = json.loads((KEPT / "preferences" / "trl.json").read_text())
LETTERS = str(KEPT / "preferences" / "tokenizer.json")
CHAT = str(KEPT / "chat" / "tokenizer.json")
USER, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "The value."), ("assistant", "A?")))


def saved(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_pairs_are_those_of_trl(tmp_path):
    """`scripts/kept_preferences.py` asked it; the last pair's question is what both answers begin with."""
    x = preferences(saved(tmp_path / "a.jsonl", *FOUND["pairs"]), LETTERS, 32).rows.x
    for row, wanted in enumerate(FOUND["rows"]):
        for at, side in enumerate(("chosen", "rejected")):
            begin, end = x["begin"][row, at], x["end"][row, at]
            assert x[side][row, :begin].tolist() == wanted["prompt_ids"]
            assert x[side][row, begin:end].tolist() == wanted[f"{side}_ids"]
            assert not x[side][row, end:].any()


def test_talks_end_with_the_answer_alone(tmp_path):
    before = [USER, GOOD, {"role": "user", "content": "And?"}]
    lines = [{"prompt": before, "chosen": [GOOD], "rejected": [BAD]}, {"chosen": [*before, GOOD], "rejected": [*before, BAD]}]
    data = preferences(saved(tmp_path / "a.jsonl", *lines), CHAT, 128)
    x, made = data.rows.x, tokenizer_of(data.schema.tokenizer)
    assert data.rows.y is None and all(np.array_equal(leaf[0], leaf[1]) for leaf in x.values())
    for at, (side, text) in enumerate((("chosen", "The value."), ("rejected", "A?"))):
        begin, end = x["begin"][0, at], x["end"][0, at]
        assert made.decode(x[side][0, begin:end].tolist(), skip_special_tokens=False) == f"{text}<|im_end|>\n"
        assert made.decode(x[side][0, :begin].tolist(), skip_special_tokens=False).endswith("<|im_start|>assistant\n")
    assert data.fingerprint == preferences(str(tmp_path / "*.jsonl"), CHAT, 128).fingerprint


def test_what_both_begin_with_is_the_question():
    assert sides_of({"chosen": "ab cd", "rejected": "ab ce"}) == ("ab c", "d", "e")
    assert sides_of({"chosen": "ab cd", "rejected": "ab xe"}) == ("ab", " cd", " xe")


@pytest.mark.parametrize(("line", "said"), [
    ({"prompt": "a", "choosen": "b", "rejected": "c"}, "line 2: a line must have the field `chosen`; .* Did you mean `choosen`"),
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "line 2: `chosen` and `rejected` must differ"),
    ({"prompt": "a", "chosen": "b", "rejected": [BAD]}, "must all be strings or all lists of messages; got str, list, str"),
    ({"prompt": "a", "chosen": "", "rejected": "b"}, "line 2: `chosen` must hold an answer; it is empty"),
    ({"chosen": "b", "rejected": "c"}, "line 2: a preference must have a question"),
    ({"prompt": "", "chosen": "b", "rejected": "c"}, "line 2: a preference must have a question"),
    ({"prompt": [USER], "chosen": [GOOD, USER], "rejected": [BAD]}, "must be one message of the assistant .*; got 2 messages"),
    ({"prompt": [USER], "chosen": [USER | {"content": "b"}], "rejected": [BAD]}, "line 2: a talk must have an answer"),
    ({"prompt": "xq " * 40, "chosen": "b", "rejected": "c"}, r"line 2: a question with an answer must have at most 64 tokens, .*; got \d+"),
])  # fmt: skip
def test_a_line_that_is_no_preference_is_told(tmp_path, line, said):
    with pytest.raises(ValueError, match=said):
        preferences(saved(tmp_path / "a.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"}, line), CHAT, 64)


def test_long_pairs_are_dropped_where_told(tmp_path):
    path = saved(tmp_path / "a.jsonl", *({"prompt": "a", "chosen": word, "rejected": "b"} for word in ("c", "d" * 90)))
    with pytest.warns(UserWarning, match="1 of 2 pairs have more than 64 tokens and are left out"):
        assert len(preferences(path, CHAT, 64, long="drop").rows.weight) == 1
    with pytest.raises(ValueError, match="`long` of `preferences` must be refuse or drop; got 'cut'"):
        preferences(path, CHAT, long="cut")
    with pytest.raises(ValueError, match="talks are ChatML"):
        preferences(path, template="own.jinja")


def test_drawn_pairs_are_right_and_wrong():
    data = preferences(context=96)
    x, made = data.rows.x, tokenizer_of(data.schema.tokenizer)
    assert len(x["chosen"]) == 3000
    for row in range(0, 3000, 500):
        said = [made.decode(x[side][row, x["begin"][row, at] : x["end"][row, at]].tolist()) for at, side in enumerate(("chosen", "rejected"))]
        question = made.decode(x["chosen"][row, : x["begin"][row, 0]].tolist()).split("user\n")[1].split("?")[0]
        _, _, word, a, _, b = question.replace(",", "").split()
        right, wrong = sorted((int(a), int(b)), reverse=word == "more")
        assert [one.strip() for one in said] == [f"{right} is {word}.", f"{wrong} is {word}."]
