"""Chat templates: how a model's makers write a talk as one text, in the Jinja of a tokenizer_config.json."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The template of tokenizers that have <|im_start|> and <|im_end|> and bring none of their own."""
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""Special tokens that a template may write."""


class ChatTemplate(NamedTuple):
    """A template in Jinja, and the special tokens that it may write, by name."""

    source: str
    tokens: dict[str, str] = {}


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


def render(template: ChatTemplate, messages: Sequence[Mapping[str, Any]], prompt: bool = False) -> str:
    """The text of a talk, {"role", "content"} each; with `prompt` it ends where the assistant is to answer.

    In a sandbox, with the filters, functions and settings of transformers' `apply_chat_template`, but no clock: a template that
    may ask for the date takes its own. Raises ValueError for what the template refuses or Jinja does not read.

    >>> render(ChatTemplate(CHATML), [{"role": "user", "content": "Hi"}], prompt=True)
    '<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n'
    """
    return render_answers(template, messages, prompt)[0]


def render_answers(
    template: ChatTemplate, messages: Sequence[Mapping[str, Any]], prompt: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a talk, and from where to where its `{% generation %}` blocks are, which hold what the assistant says."""
    from jinja2 import TemplateError

    if any(mark in str(message.get("content")) for message in messages for mark in (OPEN, SHUT)):
        raise ValueError("A talk must be text; U+FDD0 and U+FDD1 are no characters.")
    try:
        text = compile_template(template.source).render(
            messages=[dict(message) for message in messages], add_generation_prompt=prompt, tools=None, documents=None,
            **template.tokens,
        )  # fmt: skip
    except (TemplateError, TypeError) as error:
        raise ValueError(f"The chat template cannot write this talk: {' '.join(str(error).split())}.") from error
    found, begin, at, parts = [], 0, 0, []
    for piece in re.split(f"({OPEN}|{SHUT})", text):
        if piece == OPEN:
            begin = at
        elif piece == SHUT:
            found.append((begin, at))
        else:
            parts.append(piece)
            at += len(piece)
    return "".join(parts), found


OPEN, SHUT = "\ufdd0", "\ufdd1"
"""Mark what is generated: noncharacters, which no text holds."""


@functools.lru_cache(8)
def compile_template(source: str) -> Any:
    """The template in Jinja's sandbox, where nothing that it is given can be changed or reached through."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("surround"), [], [], body).set_lineno(line)

        def surround(self, caller):
            return f"{OPEN}{caller()}{SHUT}"

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def refuse(message):
        raise TemplateError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"], made.globals["raise_exception"] = tojson, refuse
    return made.from_string(source)
