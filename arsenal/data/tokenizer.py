"""What a tokenizer.json of Hugging Face's tokenizers says, and the tokenizer that it describes."""

import json
from pathlib import Path
from typing import Any

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
"""What ends a document, by the customs of published tokenizers."""


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
    """The tokenizer that the content of a tokenizer.json describes."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ValueError('Tokenizers need a library: pip install "ml-arsenal[tokenizers]".') from error
    try:
        return Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"it is no tokenizer.json of Hugging Face's ({str(error).splitlines()[0]}).") from error
