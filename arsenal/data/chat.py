"""Talks with an assistant as rows of tokens, of which only what the assistant says is learned; several talks share a row."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Gt
from arsenal_serving.artifact.template import CHATML, ChatTemplate, render, render_answers
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.documents import Document, document_files, json_objects
from arsenal.data.files import resolve_path
from arsenal.data.template import read_template
from arsenal.data.tokenizer import byte_tokenizer, tokenizer_of, tokenizer_state
from arsenal.nearest import nearest

ROLES = ("system", "user", "assistant", "tool", "developer")


class Talk(NamedTuple):
    """The tokens [t] of a talk, and which of them [t] the assistant says, bool."""

    ids: np.ndarray
    answers: np.ndarray


def chat(
    path: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    context: Annotated[int, Gt(1)] = 512,
    template: str | None = None,
    field: str = "messages",
    long: Literal["refuse", "drop"] = "refuse",
) -> Dataset:
    """Rows x {"tokens", "segments"} and y [n, context], int32, of talks in .jsonl files: y is the next token where it is learned.

    A line holds {"messages": [{"role", "content"}, ...]}; roles are system, user, assistant, tool and developer. What the
    assistant says is learned, up to the end of its turn, unless its message has `"weight": 0`; elsewhere y is -1, which
    `cross_entropy(over="tokens")` leaves out. `tokenizer` is a tokenizer.json; `template` a file of the model's chat template,
    see `arsenal.data.template.read_template`. Without a tokenizer codes are bytes, and the talk is ChatML, whose two marks are
    bytes that no text has; without a path talks are drawn that ask which of two numbers is more, or less. Each talk goes into the
    first row that has room for it, in the order of the files; segments are 1, 2, ... within a row and 0 behind the last, and
    `transformer` lets no talk look into another. A talk of more than `context` + 1 tokens is refused, or dropped with a
    warning. Raises ValueError, naming file and line, for a talk that is none, has no answer, or cannot be written.
    """
    if long not in ("refuse", "drop"):
        raise ValueError(f"`long` of `chat` must be refuse or drop; got {long!r}.")
    state, files = tokenizer_state(tokenizer) if tokenizer else byte_tokenizer(), [] if path is None else document_files(path)
    if other := [file for file in files if file.suffix != ".jsonl"]:
        raise ValueError(f"Talks are read from .jsonl files; got {other[0]}.")
    if template is not None and tokenizer is None:
        raise ValueError("`template` of `chat` is of a tokenizer's model; without a `tokenizer` talks are written as ChatML.")
    made, own = tokenizer_of(state), None if template is None else resolve_path(template)
    written = read_template(Path(tokenizer), own) if tokenizer else ChatTemplate(CHATML)
    talks: list[Talk] = []
    dropped = 0
    given: Iterable[tuple[Any, dict]]
    given = drawn_talks(field) if path is None else ((Document("", f, at), line) for f in files for at, line in json_objects(f))
    for here, line in given:
        try:
            talk = talk_of(made, written, messages_of(line, field))
        except ValueError as error:
            raise ValueError(f"{here}: {error}") from error
        if len(talk.ids) <= context + 1:
            talks.append(talk)
        elif long == "drop":
            dropped += 1
        else:
            raise ValueError(
                f"{here}: a talk must have at most {context + 1} tokens, `context` and one; got {len(talk.ids)}. "
                "`long=drop` leaves such talks out."
            )
    if not talks:
        where = ", ".join(map(str, files[:3])) or "What is drawn"
        raise ValueError(f"{where} must hold a talk of at most {context + 1} tokens; there is none.")
    if dropped:
        whole = dropped + len(talks)
        warnings.warn(f"{dropped} of {whole} talks have more than {context + 1} tokens and are left out.", stacklevel=2)
    x, y = pack_talks(talks, context)
    schema = Schema({"tokens": Tensor(), "segments": Tensor()}, tokenizer=state, template=written._asdict())
    return dataset(x, y, schema=schema, files=files)


DRAWN = 3000


def drawn_talks(field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Talks about two different numbers below 100, no question twice, as lines of a file have them; always the same."""
    for question, right, _ in drawn_questions():
        yield "A talk that is drawn", {field: [{"role": "user", "content": question}, {"role": "assistant", "content": right}]}


def drawn_questions() -> Iterator[tuple[str, str, str]]:
    """Questions about two different numbers below 100, none twice, with the right answer and the wrong one; always the same."""
    asked = [(word, a, b) for word in ("more", "less") for a in range(100) for b in range(100) if a != b]
    for at in np.random.default_rng(0).permutation(len(asked))[:DRAWN]:
        word, a, b = asked[at]
        right, wrong = (max(a, b), min(a, b)) if word == "more" else (min(a, b), max(a, b))
        yield f"Which is {word}, {a} or {b}?", f"{right} is {word}.", f"{wrong} is {word}."


def messages_of(line: dict[str, Any], field: str = "messages") -> list[dict[str, Any]]:
    """The messages of a line; ValueError for what is none, or no talk with an answer."""
    if field not in line:
        raise ValueError(f"a line must have the field `{field}`; it has {', '.join(line) or 'none'}.{nearest(field, line)}")
    messages = line[field]
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"`{field}` must be a list of messages; got {messages!r:.60}.")
    for at, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ValueError(f"message {at} must be an object with `role` and `content`; got {message!r:.60}.")
        if message["role"] not in ROLES:
            raise ValueError(f"`role` of message {at} must be one of {', '.join(ROLES)}; got {message['role']!r}.")
        if not isinstance(message["content"], str):
            raise ValueError(f"`content` of message {at} must be a string; got {message['content']!r:.60}.")
        if message.get("weight", 1) not in (0, 1):
            raise ValueError(f"`weight` of message {at} must be 0 or 1; got {message['weight']!r}.")
    if not any(is_learned(message) for message in messages):
        raise ValueError("a talk must have an answer, a message of the assistant that holds text; there is none.")
    return messages


def is_learned(message: dict[str, Any]) -> bool:
    """Whether a message is an answer to learn."""
    return message["role"] == "assistant" and bool(message["content"].strip()) and message.get("weight", 1) == 1


def talk_of(tokenizer: Any, template: ChatTemplate, messages: Sequence[dict[str, Any]]) -> Talk:
    """The tokens of a talk, and which of them lie within an answer; ValueError where the template does not say which do."""
    text, spans = learned_spans(template, messages)
    found = tokenizer.encode(text, add_special_tokens=False)
    begin, end = np.array(found.offsets, np.int64).reshape(-1, 2).T
    within = np.zeros(len(begin), bool)
    for low, high in spans:
        within |= (begin >= low) & (end <= high) & (end > begin)
    if not within[1:].any():
        raise ValueError("a talk must have an answer; the chat template writes none of this one.")
    return Talk(np.array(found.ids, np.int32), within)


def learned_spans(template: ChatTemplate, messages: Sequence[dict[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
    """The text of a talk, and from where to where its answers are that are learned.

    They are the template's `{% generation %}` blocks, or else what an answer adds to the talk before it, which ends with what
    asks for one; ValueError for a template that writes a talk in another way once more has been said.
    """
    text, blocks = render_answers(template, messages)
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if blocks:
        if len(blocks) != len(turns):
            raise ValueError(f"the chat template marks {len(blocks)} answers of a talk that has {len(turns)}.")
        return text, [span for span, at in zip(blocks, turns, strict=True) if is_learned(messages[at])]
    spans = []
    for at in turns:
        if is_learned(messages[at]):
            before, behind = render(template, messages[:at], prompt=True), render(template, messages[: at + 1])
            if not (behind.startswith(before) and text.startswith(behind)):
                raise ValueError(
                    f"the chat template writes what stands before message {at + 1} otherwise once it is said: mark answers in it "
                    "by {% generation %}."
                )
            spans.append((len(before), len(behind)))
    return text, spans


def pack_talks(talks: Sequence[Talk], context: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """x {"tokens", "segments"} and y [rows, context] of talks, each in the first row that has room for it."""
    room, placed = np.full(len(talks), context, np.int64), np.empty(len(talks), np.int64)
    rows = 0
    for i, talk in enumerate(talks):
        row = int(np.argmax(room[: rows + 1] >= len(talk.ids) - 1))  # the next row is empty
        placed[i] = row
        room[row] -= len(talk.ids) - 1
        rows = max(rows, row + 1)
    tokens, segments = np.zeros((2, rows, context), np.int32)
    y = np.full((rows, context), -1, np.int32)
    at, number = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
    for talk, row in zip(talks, placed.tolist(), strict=True):
        number[row] += 1
        here = slice(at[row], at[row] + len(talk.ids) - 1)
        tokens[row, here], segments[row, here] = talk.ids[:-1], number[row]
        y[row, here] = np.where(talk.answers[1:], talk.ids[1:], -1)
        at[row] = here.stop
    return {"tokens": tokens, "segments": segments}, y
