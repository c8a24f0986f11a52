"""What a tokenizer.json of Hugging Face's tokenizers says, and the tokenizer that it describes."""

import json
from pathlib import Path
from typing import Any

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
"""What ends a document, by the customs of published tokenizers."""
TURNS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""What ends a turn of a talk, by the same customs."""
PADS = ("[PAD]", "<pad>", "<|pad|>", "<PAD>")
"""What fills a row up, by the same customs."""


def pad_of(state: dict) -> int | None:
    """The code that fills a row up: what a tokenizer.json says of padding, else the first of `PADS` that it has."""
    if state.get("padding"):
        return int(state["padding"]["pad_id"])
    made = tokenizer_of(state)
    return next((code for name in PADS if (code := made.token_to_id(name)) is not None), None)


def ends_of(state: dict) -> list[int]:
    """The ids of all special tokens of a tokenizer.json that end a text or a turn."""
    added = {token["content"]: token["id"] for token in state.get("added_tokens", ()) if token.get("special")}
    return sorted(added[name] for name in {*ENDS, *TURNS} if name in added)


def end_of(state: dict) -> tuple[str, int] | None:
    """The special token that ends a document and its id, the first of `ENDS` that a tokenizer.json has."""
    added = {token["content"]: token["id"] for token in state.get("added_tokens", ()) if token.get("special")}
    return next(((name, added[name]) for name in ENDS if name in added), None)


def tokenizer_state(path: str) -> dict:
    """The content of a tokenizer.json; one clear error where it is none."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"Tokenizer file {path} does not exist.")
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Tokenizer file {path} is no JSON: {error}.") from error
    try:
        tokenizer_of(state)
    except ValueError as error:
        raise ValueError(f"Tokenizer file {path} cannot be read: {error}") from error
    return state


def tokenizer_of(state: dict) -> Any:
    """The tokenizer that the content of a tokenizer.json describes; it neither cuts nor pads, whatever is said of that there."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ValueError('Tokenizers need a library: pip install "ml-arsenal[tokenizers]".') from error
    try:
        return Tokenizer.from_str(json.dumps(state | {"truncation": None, "padding": None}))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"it is no tokenizer.json of Hugging Face's ({str(error).splitlines()[0]}).") from error


def byte_tokenizer() -> dict:
    """A tokenizer.json whose 256 codes are bytes, but for 254 and 255, which no UTF-8 has: ChatML's two marks.

    So a model of bytes can go on learning from talks.

    >>> byte_tokenizer()["model"]["vocab"]["a"]
    97
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's alphabet: the others follow U+0100
    letters = {byte: chr(byte) for byte in printed}
    letters |= {byte: chr(256 + at) for at, byte in enumerate(byte for byte in range(256) if byte not in letters)}
    marks = {254: "<|im_start|>", 255: "<|im_end|>"}
    same = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": code, "content": mark} | same for code, mark in marks.items()],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": {(letters | marks)[byte]: byte for byte in range(256)}, "merges": []},
    }  # fmt: skip
