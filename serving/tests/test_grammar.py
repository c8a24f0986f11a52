"""Texts of a form: what tokens are allowed leads to it and nowhere else, whatever the tokens are."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
from conftest import start
from test_texts import Texts, letters, stop  # noqa: F401

from arsenal_serving.artifact.codecs.tokens import language
from arsenal_serving.artifact.grammar import json_grammar, regex_grammar, token_bytes
from arsenal_serving.refused import Refused

pytest.importorskip("llguidance")
BYTES = language({"kind": "tokens", "length": 1})
LETTERS = language({"kind": "tokens", "length": 1, "values": [*"abé0123456789{}[]:,\" -.xyz"], "marks": ["</s>"]})
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def draw(grammar, end, seed, most=400):
    """Tokens drawn at random of those that are allowed, until nothing may follow."""
    at, found = random.Random(seed), []
    for _ in range(most):
        bits = np.unpackbits(grammar.mask().view(np.uint8), bitorder="little")
        token = at.choice(np.flatnonzero(bits).tolist())
        if token in end:
            return found
        found.append(token)
        if grammar.advance(token):
            return found
    return None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pattern", ["[0-9]{4}", "(yes|no|é)", "a?b{1,3}", "-?[1-9][0-9]{0,2}(\\.[0-9]{2})?"])
@pytest.mark.parametrize("spoken, end", [(BYTES, []), (LETTERS, [26])], ids=["bytes", "characters"])
def test_what_is_drawn_matches_as_a_whole(spoken, end, pattern, seed):
    if spoken is LETTERS and "yes" in pattern:
        pattern = "(ya|x|é)"
    vocabulary = 256 if spoken is BYTES else 27
    found = draw(regex_grammar(spoken, pattern, vocabulary, end), end, seed)
    assert re.fullmatch(pattern, spoken.write(found))


@pytest.mark.parametrize("seed", range(5))
def test_json_holds_to_its_schema(seed):
    text = BYTES.write(draw(json_grammar(BYTES, PERSON, 256, []), [], seed, 4000))
    made = json.loads(text)
    assert set(made) == {"name", "age"} and len(made["name"]) <= 4 and 0 <= made["age"] <= 99


def test_tokens_of_several_letters():
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["the year 1999, the year 2000, näher", "2001 the"] * 20, trainer)
    state = {"kind": "tokens", "length": 1, "tokenizer": json.loads(made.to_str())}
    size = made.get_vocab_size()
    pieces = token_bytes(state, size + 3)
    assert len(pieces) == size + 3 and pieces[0] == pieces[-1] == b"" and max(map(len, pieces)) > 2
    for text in ("the year 1999", "näher"):
        assert b"".join(pieces[token] for token in made.encode(text).ids).decode() == text
    spoken = language(state)
    for seed in range(5):
        found = draw(regex_grammar(spoken, "the year (19|20)[0-9]{2}", size, [0]), [0], seed)
        assert re.fullmatch("the year (19|20)[0-9]{2}", spoken.write(found))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: regex_grammar(BYTES, "(a", 256, []), "the regular expression '\\(a' is none that can be held to"),
        (lambda: regex_grammar(BYTES, "", 256, []), "must be a text of 1 to"),
        (lambda: json_grammar(BYTES, {"type": "text"}, 256, []), "the JSON schema is none that can be held to"),
        (lambda: json_grammar(BYTES, [], 256, []), "a JSON schema must be an object"),
        (lambda: regex_grammar(LETTERS, "q", 27, [26]).mask(), "no token of the model may follow here"),
    ],
)
def test_what_is_no_form_is_refused(make, said):
    with pytest.raises(Refused, match=said):
        make()


def test_a_server_holds_texts_to_their_forms(letters):  # noqa: F811
    running = start(letters, "--slots", "2")
    texts = Texts(running)
    try:
        for seed in range(3):
            status, body = texts.ask("/v1/completions", {"prompt": "a", "temperature": 9.0, "seed": seed, "regex": "[0-9]{4}", "max_tokens": 9})
            assert status == 200 and re.fullmatch("[0-9]{4}", body["choices"][0]["text"]), body
            assert body["choices"][0]["finish_reason"] == "stop"
            asked = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
            talk = {"messages": [{"role": "user", "content": "Who?"}], "temperature": 9.0, "seed": seed, "response_format": asked}
            status, body = texts.ask("/v1/chat/completions", {**talk, "max_tokens": 3000})
            assert status == 200 and set(json.loads(body["choices"][0]["message"]["content"])) == {"name", "age"}
        status, body = texts.ask("/v1/completions", {"prompt": "a", "regex": "(a"})
        assert status == 400 and "is none that can be held to" in body["error"]["message"]
        status, body = texts.ask("/v1/completions", {"prompt": "a", "regex": "a", "response_format": {"type": "json_object"}})
        assert status == 400 and "give one of them" in body["error"]["message"]
    finally:
        stop(running)
