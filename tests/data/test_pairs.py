"""Pairs of texts: bytes and tokens, ends, starts and what is cut."""

import json

import numpy as np
import pytest

from arsenal.data import decode, encode, pairs
from arsenal.data.tokenizer import byte_tokenizer, tokenizer_of


@pytest.fixture
def file(tmp_path):
    rows = [{"source": "2+2", "target": "4"}, {"source": "hé", "target": "hey!"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_end_and_stand_one_place_later_in_the_decoder(file):
    found = pairs(str(file), context=4, answer=5)
    assert found.rows.x["tokens"].tolist() == [[50, 43, 50, -1], [104, 195, 169, -1]]
    assert found.rows.y.tolist() == [[52, 256, -1, -1, -1], [104, 101, 121, 33, 256]]
    assert found.rows.x["decoder"].tolist() == [[0, 52, 256, 0, 0], [0, 104, 101, 121, 33]]
    assert decode(found.schema, found.rows.y[1]) == "hey!" and encode(found.schema, "hé").tolist() == [104, 195, 169]


def test_what_is_too_long_is_cut_and_told(file):
    with pytest.warns(UserWarning, match="1 of 2 texts in `target` have more than 3 codes and are cut"):
        found = pairs(str(file), context=4, answer=3)
    assert found.rows.y.tolist() == [[52, 256, -1], [104, 101, 121]]


def test_tokens_have_the_tokenizers_end(file, tmp_path):
    state = byte_tokenizer()
    state["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    state["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    found = pairs(str(file), context=3, answer=5, tokenizer=str(tmp_path / "tokenizer.json"), start=7)
    assert found.rows.x["tokens"].tolist() == [[50, 43, 50], [104, 195, 169]], "A tokenizer's own cutting is not heeded."
    assert found.rows.y[0].tolist() == [52, 255, -1, -1, -1] and found.rows.x["decoder"][0].tolist() == [7, 52, 255, 0, 0]
    assert tokenizer_of(state).encode("many letters").ids == list(b"many letters")


def test_without_a_file_sums_are_drawn():
    found = pairs(context=5, answer=4)
    asked, answered = found.rows.x["tokens"], found.rows.y
    assert len(asked) == 10_000
    for row in (0, 99, 1234, 9999):
        text = bytes(code for code in asked[row] if code >= 0).decode()
        assert eval(text) == int(decode(found.schema, answered[row])), text
    assert (answered >= 0).all(1).any() and len(np.unique(asked, axis=0)) == 10_000


@pytest.mark.parametrize(("row", "settings", "message"), [
    ({"source": "", "target": "a"}, {}, "`source` is empty in 1, the first being row 1"),
    ({"source": "a", "target": " "}, {}, "`target` is empty in 1, the first being row 1"),
    ({"source": "a"}, {}, "line 1: .*target"),
    ({"source": "a", "target": "b"}, {"target": "source"}, "two columns; both are source"),
])  # fmt: skip
def test_what_is_no_pair_is_refused(tmp_path, row, settings, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        pairs(str(tmp_path / "a.jsonl"), **settings)
