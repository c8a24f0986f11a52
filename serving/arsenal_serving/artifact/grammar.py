"""The form that a text must have, as a regular expression or a JSON schema, and which tokens may follow at each place.

llguidance does that, https://github.com/guidance-ai/llguidance, for the tokens as bytes; what it says is a bit for each
token, as the programs of `slots` take it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from arsenal_serving.artifact.codecs.tokens import Language, load_tokenizer
from arsenal_serving.refused import Refused, show

MOST_PATTERN = 64 << 10  # letters of a form
# A model that may put in blanks for ever sometimes does.
WHITESPACE = {"whitespace_flexible": True, "whitespace_pattern": "[ \\n]{0,40}"}


class Grammar:
    """Where a text stands that must have a form; made by `regex_grammar` and `json_grammar`."""

    def __init__(self, matcher: Any, end: Collection[int], words: int, vocabulary: int, last: int):
        self._matcher, self._words, self._vocabulary, self._last = matcher, words, vocabulary, last
        self._end = frozenset(end)

    def mask(self) -> np.ndarray:
        """The tokens that may come next, a bit each [words] uint32; those that end a text where it may end."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        made = np.zeros(self._words, np.uint32)
        count = min(self._words, len(bits))
        made[:count] = bits[:count]
        # Where no token leads on, the library says that the text ends, though it is not whole.
        ends = bool(bits[self._last >> 5] >> (self._last & 31) & 1) and self._matcher.is_accepting()
        for token in range(self._vocabulary, self._words * 32):  # no tokens, and the one that stands for the end
            made[token >> 5] &= ~np.uint32(1 << (token & 31))
        for token in self._end:
            bit = np.uint32(1 << (token & 31))
            made[token >> 5] = made[token >> 5] | bit if ends else made[token >> 5] & ~bit
        if not made.any():
            raise Refused("no token of the model may follow here: it cannot write what the form asks for.")
        return made

    def advance(self, token: int) -> bool:
        """Go on with a token that was allowed; whether nothing may follow it."""
        if token in self._end:
            return True
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"the form does not take token {token}: {self._matcher.get_error()}")
        return bool(self._matcher.is_stopped())


def regex_grammar(language: Language, pattern: Any, vocabulary: int, end: Collection[int]) -> Grammar:
    """Texts that a regular expression matches as a whole, in Rust's syntax; raises `Refused` for what is none.

    vocabulary: how many tokens the model has. end: those that end a text.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MOST_PATTERN:
        raise Refused(f"a regular expression must be a text of 1 to {MOST_PATTERN} letters; got {show(pattern)}.")
    inner = re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", pattern).replace("\n", "\\n")  # it stands between slashes
    return _grammar(language, f"/{inner}/", f"the regular expression {show(pattern)}", vocabulary, end)


def json_grammar(language: Language, schema: Any, vocabulary: int, end: Collection[int]) -> Grammar:
    """Texts that are JSON of a schema, https://json-schema.org; raises `Refused` for what cannot be held to."""
    if not isinstance(schema, dict):
        raise Refused(f"a JSON schema must be an object; got {show(schema)}.")
    text = json.dumps({**schema, "x-guidance": WHITESPACE | dict(schema.get("x-guidance") or {})})
    if len(text) > MOST_PATTERN:
        raise Refused(f"a JSON schema must be at most {MOST_PATTERN} letters; got {len(text)}.")
    return _grammar(language, f"%json {text}", "the JSON schema", vocabulary, end)


def _grammar(language: Language, form: str, what: str, vocabulary: int, end: Collection[int]) -> Grammar:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        needs = "texts of a form need the library llguidance"
        raise Refused(f'{needs}: pip install "ml-arsenal-serving[grammar]".') from error
    tokenizer, last = _tokens(json.dumps(language.state, sort_keys=True), vocabulary)
    # Without forcing every way to write the form is allowed, and nothing is tokenized for it.
    matcher = LLMatcher(tokenizer, f'%llguidance {{"no_forcing": true}}\nstart: {form}\n', log_level=0)
    if problem := matcher.get_error():
        raise Refused(f"{what} is none that can be held to: {' '.join(problem.split())[:200]}")
    return Grammar(matcher, end, -(-vocabulary // 32), vocabulary, last)


@functools.lru_cache(4)
def _tokens(state: str, vocabulary: int) -> tuple[Any, int]:
    """The tokens of a model for the library, and the one that stands for the end of a text: one behind the last."""
    from llguidance import LLTokenizer, TokenizerWrapper

    pieces = token_bytes(json.loads(state), vocabulary)

    class Pieces:
        eos_token_id, bos_token_id, unk_token_id = vocabulary, None, None
        tokens = [*pieces, b"<end>"]  # noqa: RUF012
        special_token_ids = [at for at, piece in enumerate(pieces) if not piece] + [vocabulary]

        def __call__(self, text: Any) -> list[int]:
            return []  # it is asked for tokens that are forced, which none are

    return LLTokenizer(TokenizerWrapper(Pieces())), vocabulary


def token_bytes(state: dict[str, Any], vocabulary: int) -> list[bytes]:
    """The bytes of each token of a tokens codec, whose state this is; b"" of one that is no text.

    >>> token_bytes({"kind": "tokens", "length": 1, "values": ["a", "é"], "marks": ["<x>"]}, 4)
    [b'a', b'\\xc3\\xa9', b'', b'']
    """
    if state.get("tokenizer") is not None:
        pieces = _tokenizer_bytes(state["tokenizer"])
    elif state.get("values") is not None:
        pieces = [letter.encode() for letter in state["values"]]
    else:
        pieces = [bytes([byte]) for byte in range(256)]
    return [*pieces[:vocabulary], *[b""] * (vocabulary - len(pieces))]


def _tokenizer_bytes(tokenizer: dict[str, Any]) -> list[bytes]:
    """Bytes by token of a tokenizer.json, by the way in which it decodes."""
    made = load_tokenizer(json.dumps(tokenizer))
    special = {token["id"] for token in tokenizer.get("added_tokens", ()) if token.get("special")}
    decoder = tokenizer.get("decoder") or {}
    kinds = {one.get("type") for one in (decoder.get("decoders") or [decoder])}
    alphabet = _byte_alphabet() if "ByteLevel" in kinds else None
    found: list[bytes] = []
    for token in range(made.get_vocab_size()):
        word = made.id_to_token(token)
        if word is None or token in special:
            found.append(b"")
        elif alphabet is not None:
            known = all(letter in alphabet for letter in word)
            found.append(bytes(alphabet[letter] for letter in word) if known else word.encode())
        elif byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", word):
            found.append(bytes([int(byte[1], 16)]))
        elif kinds & {"Metaspace", "Replace", "ByteFallback"}:
            found.append(word.replace("\u2581", " ").encode())
        else:
            kind = ", ".join(sorted(map(str, kinds)))
            needs = "texts of a form need a tokenizer that writes by ByteLevel or Metaspace"
            raise Refused(f"{needs}; this one has {kind}.")
    return found


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: the printed ones themselves, the others from U+0100 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + at): byte for at, byte in enumerate(others)}
