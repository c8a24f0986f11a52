"""Spans are cut out as T5's own preprocessing does it, written here once more, and both halves give the text back."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from arsenal.data import decode, encode, spans, text
from arsenal.data.spans import cut_spans, draw_lengths, draw_spans


def to_sentinels(tokens, noise, first):
    """`noise_span_to_unique_sentinel` of google-research/text-to-text-transfer-transformer, of one text, sentinels upwards."""
    before = np.pad(noise[:-1], (1, 0))
    begins, goes_on = noise & ~before, noise & before
    return np.where(begins, first + np.cumsum(begins) - 1, tokens)[~goes_on]


def joined(tokens, answer, first):
    """The text of which one half is `tokens` and the other the `answer`."""
    gone, made = {}, []
    for code in answer:
        if code >= first:
            gone[code] = here = []
        else:
            here.append(code)
    for code in tokens:
        made += gone[code] if code >= first else [code]
    return made


@pytest.fixture(scope="module")
def windows():
    return text(context=64, stride=64)


def test_both_halves_are_those_of_t5_and_give_the_text_back(windows):
    made = spans(windows)
    tokens, y = made.rows.x["tokens"], made.rows.y
    assert tokens.shape[1:] == (64 - 10 + 3,) and y.shape[1:] == (10 + 3 + 1,) and tokens.dtype == y.dtype == np.int32
    assert (y[:, -1] == 259).all() and ((y < 256).sum(1) == 10).all(), "0.15 of 64 places in three spans, and the end"
    assert (made.rows.x["decoder"] == np.pad(y[:, :-1], ((0, 0), (1, 0)))).all()
    for row in range(0, len(y), 97):
        assert joined(tokens[row], y[row, :-1], 256) == windows.rows.x[row].tolist()
    again, other = spans(windows), spans(windows, seed=1)
    assert made.fingerprint == again.fingerprint != other.fingerprint
    cut = draw_spans(np.random.default_rng(3), 200, 30, 9, 4)
    assert (cut.sum(1) == 9).all() and not cut[:, 0].any() and cut[:, -1].all()
    shown, gone = cut_spans(windows.rows.x[:200, :30], cut, np.arange(256, 260))
    for row in range(200):
        one = windows.rows.x[row, :30]
        assert shown[row].tolist() == to_sentinels(one, cut[row], 256).tolist()
        assert gone[row].tolist() == to_sentinels(one, ~cut[row], 256).tolist()


def test_any_lengths_are_as_likely():
    found = Counter(map(tuple, draw_lengths(np.random.default_rng(0), 60_000, 7, 3).tolist()))
    every = [one for one in itertools.product(range(1, 8), repeat=3) if sum(one) == 7]
    assert found.keys() == set(every) and len(every) == 15
    np.testing.assert_allclose([found[one] / 60_000 for one in every], 1 / 15, atol=0.005)


@pytest.mark.parametrize("units", ["bytes", "characters"])
def test_marks_are_read_and_written(units, tmp_path):
    (tmp_path / "book.txt").write_text("the cat sat on the mat; a dog, too. " * 9)
    whole = text(str(tmp_path / "book.txt"), 20, 4, units)
    made = spans(whole)
    row = made.rows.x["tokens"][0]
    said = decode(made.schema, row)
    assert said.count("<extra_id_0>") == 1 and len(said) == 20 - 3 + len("<extra_id_0>")
    assert encode(made.schema, said).tolist() == row.tolist()
    answer = decode(made.schema, made.rows.y[0])
    assert answer == "<extra_id_0>" + "".join(decode(whole.schema, [code]) for code in made.rows.y[0, 1:-1])


def test_a_tokenizer_has_its_own_sentinels(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<pad>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    made.add_special_tokens(["<pad>", "</s>"])
    (tmp_path / "book.txt").write_text("a b c " * 60)

    def windows():
        made.save(str(tmp_path / "tokenizer.json"))
        return text(str(tmp_path / "book.txt"), 20, 20, tokenizer=str(tmp_path / "tokenizer.json"))

    with pytest.raises(ValueError, match="must have 2 sentinels and an end; it has no token <extra_id_0>"):
        spans(windows(), length=1.5)
    made.add_special_tokens(["<extra_id_1>", "<extra_id_0>"])  # downwards, as T5's
    found = spans(windows(), length=1.5)
    assert [row[row > 4].tolist() for row in found.rows.x["tokens"]] == [[6, 5]] * len(found.rows.y)
    assert (found.rows.x["tokens"][:, -1] == 1).all() and (found.rows.y[:, -1] == 1).all()
    said = decode(found.schema, found.rows.y[0])
    assert said.startswith("<extra_id_0>") and "<extra_id_1>" in said and "</s>" not in said
    assert encode(found.schema, decode(found.schema, found.rows.x["tokens"][0])).tolist() == found.rows.x["tokens"][0].tolist()
    json.dumps(found.schema.marks)


def test_what_cannot_be_cut_is_refused(windows):
    with pytest.raises(ValueError, match="`text` of `spans` must be windows of codes"):
        spans({"x": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"`share` 0.9 and `length` 1.5 of `spans` make 39 spans, but leave 6 of 64 places"):
        spans(windows, share=0.9, length=1.5)
