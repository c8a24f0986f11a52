"""Where chat templates are found, which say how a model's makers write a talk: the Jinja of a tokenizer_config.json."""

import json
from pathlib import Path
from typing import Any

from arsenal_serving.artifact.template import CHATML, ChatTemplate

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""Special tokens that a template may write."""


def read_template(tokenizer: Path, template: Path | None = None) -> ChatTemplate:
    """The template in a file: of Jinja, or `chat_template` of a tokenizer_config.json.

    Without one: what lies beside the tokenizer.json under its usual names, else `CHATML` where the tokenizer has its tokens.
    Raises ValueError where there is none.
    """
    folder = tokenizer.parent
    config = template if template is not None and template.suffix == ".json" else folder / "tokenizer_config.json"
    told = read_config(config) if config.is_file() else {}
    tokens = {name: value for name in NAMES if (value := word_of(told.get(name))) is not None}
    if template is not None and not template.is_file():
        raise FileNotFoundError(f"Chat template {template} does not exist.")
    if template is not None and template.suffix != ".json":
        return ChatTemplate(template.read_text(encoding="utf-8"), tokens)
    if template is None and (folder / "chat_template.jinja").is_file():
        return ChatTemplate((folder / "chat_template.jinja").read_text(encoding="utf-8"), tokens)
    found = told.get("chat_template")
    if isinstance(found, list):  # several by name, one for tools for instance
        found = {one.get("name"): one.get("template") for one in found}.get("default")
    if isinstance(found, str):
        return ChatTemplate(found, tokens)
    if template is not None:
        raise ValueError(f"{template} has no `chat_template`.")
    added = {token["content"] for token in json.loads(tokenizer.read_text(encoding="utf-8")).get("added_tokens", ())}
    if {"<|im_start|>", "<|im_end|>"} <= added:
        return ChatTemplate(CHATML, tokens)
    raise ValueError(
        f"There is no chat template beside {tokenizer}; `template` names a file of one, Jinja or a tokenizer_config.json."
    )


def read_config(file: Path) -> dict[str, Any]:
    """The object in a tokenizer_config.json; ValueError where it is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold an object; got {type(found).__name__}.")
    return found


def word_of(token: Any) -> str | None:
    """A special token's text, which a config writes alone or among its settings."""
    return token.get("content") if isinstance(token, dict) else token if isinstance(token, str) else None
