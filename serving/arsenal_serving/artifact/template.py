"""Chat templates: how a model's makers write a talk as one text, in Jinja, for training and for a server alike."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from arsenal_serving.refused import Refused

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The template of tokenizers that have <|im_start|> and <|im_end|> and bring none of their own."""


class ChatTemplate(NamedTuple):
    """A template in Jinja, and the special tokens that it may write, by name."""

    source: str
    tokens: Mapping[str, str] = {}


def render(template: ChatTemplate, messages: Sequence[Mapping[str, Any]], prompt: bool = False) -> str:
    """The text of a talk, {"role", "content"} each; with `prompt` it ends where the assistant is to answer.

    In a sandbox, with the filters, functions and settings of transformers' `apply_chat_template`, but no clock: a
    template that may ask for the date takes its own. Raises `Refused` for what the template refuses or Jinja does not
    read.

    >>> render(ChatTemplate(CHATML), [{"role": "user", "content": "Hi"}], prompt=True)
    '<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n'
    """
    return render_answers(template, messages, prompt)[0]


def render_answers(
    template: ChatTemplate, messages: Sequence[Mapping[str, Any]], prompt: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a talk, and from where to where its `{% generation %}` blocks are: what the assistant says."""
    try:
        from jinja2 import TemplateError
    except ImportError as error:
        raise Refused('a chat template needs Jinja: pip install "ml-arsenal-serving[chat]".') from error

    if any(mark in str(message.get("content")) for message in messages for mark in (OPEN, SHUT)):
        raise Refused("a talk must be text; U+FDD0 and U+FDD1 are no characters.")
    try:
        text = compile_template(template.source).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=prompt,
            tools=None,
            documents=None,
            **template.tokens,
        )
    except (TemplateError, TypeError) as error:
        raise Refused(f"the chat template cannot write this talk: {' '.join(str(error).split())}.") from error
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
        tags = {"generation"}  # noqa: RUF012

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
