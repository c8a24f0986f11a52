"""Preferences as rows of tokens: of two answers to one question the first was preferred."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.chat import drawn_questions, messages_of, talk_of
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.documents import Document, document_files, json_objects
from arsenal.data.files import resolve_path
from arsenal.data.template import CHATML, ChatTemplate, read_template
from arsenal.data.tokenizer import byte_tokenizer, end_of, tokenizer_of, tokenizer_state
from arsenal.nearest import nearest

SIDES = ("chosen", "rejected")


class Reply(NamedTuple):
    """The tokens [t] of a question and an answer to it, and from where to where the answer is."""

    ids: np.ndarray
    begin: int
    end: int


def preferences(
    path: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    context: Annotated[int, Gt(1)] = 512,
    template: str | None = None,
    long: Literal["refuse", "drop"] = "refuse",
) -> Dataset:
    """Rows x {"chosen", "rejected"} [n, context] int32, question and answer filled up with 0, and {"begin", "end"} [n, 2], from
    where to where the answer of each is, of .jsonl files; there is no y.

    A line is what `trl` calls a preference: {"prompt", "chosen", "rejected"}, all of them strings, or all of them lists of
    messages {"role", "content"}; without a `prompt` it is what both answers begin with. Messages end with one answer of the
    assistant, and are written by the chat template as in `chat`; behind a string stands the end of a document, where the
    tokenizer has one. `tokenizer`, `template` and `long`, here of either answer, are as in `chat`. Without a path pairs are
    drawn: which of two numbers is more, or less, answered right and wrong. Raises ValueError, naming file and line, for what is
    none.
    """
    if long not in ("refuse", "drop"):
        raise ValueError(f"`long` of `preferences` must be refuse or drop; got {long!r}.")
    state, files = tokenizer_state(tokenizer) if tokenizer else byte_tokenizer(), [] if path is None else document_files(path)
    if other := [file for file in files if file.suffix != ".jsonl"]:
        raise ValueError(f"Preferences are read from .jsonl files; got {other[0]}.")
    if template is not None and tokenizer is None:
        raise ValueError("`template` of `preferences` is of a tokenizer's model; without a `tokenizer` talks are ChatML.")
    made, own, end = tokenizer_of(state), None if template is None else resolve_path(template), end_of(state)
    written: ChatTemplate | None = None if tokenizer else ChatTemplate(CHATML)
    pairs: list[tuple[Reply, Reply]] = []
    dropped = 0
    given: Iterable[tuple[Any, dict]]
    given = drawn_pairs() if path is None else ((Document("", f, at), line) for f in files for at, line in json_objects(f))
    for here, line in given:
        try:
            prompt, *answers = sides_of(line)
            if isinstance(prompt, str):
                chosen, rejected = (text_answer(made, end, prompt, answer) for answer in answers)
            else:
                if written is None:  # asked for late: strings need none
                    written = read_template(Path(str(tokenizer)), own)
                chosen, rejected = (talk_answer(made, written, prompt, answer) for answer in answers)
        except ValueError as error:
            raise ValueError(f"{here}: {error}") from error
        longest = max(len(chosen.ids), len(rejected.ids))
        if longest <= context:
            pairs.append((chosen, rejected))
        elif long == "drop":
            dropped += 1
        else:
            raise ValueError(
                f"{here}: a question with an answer must have at most {context} tokens, `context`; got {longest}. "
                "`long=drop` leaves such pairs out."
            )
    if not pairs:
        where = ", ".join(map(str, files[:3])) or "What is drawn"
        raise ValueError(f"{where} must hold a pair of at most {context} tokens; there is none.")
    if dropped:
        whole = dropped + len(pairs)
        warnings.warn(f"{dropped} of {whole} pairs have more than {context} tokens and are left out.", stacklevel=2)
    x: dict[str, np.ndarray] = {side: np.zeros((len(pairs), context), np.int32) for side in SIDES}
    for row, pair in enumerate(pairs):
        for side, answer in zip(SIDES, pair, strict=True):
            x[side][row, : len(answer.ids)] = answer.ids
    x |= {part: np.array([[getattr(answer, part) for answer in pair] for pair in pairs], np.int32) for part in ("begin", "end")}
    return dataset(x, schema=Schema({name: Tensor() for name in x}, tokenizer=state), files=files)


def drawn_pairs() -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions that `chat` draws, each with its answer and the one that is wrong."""
    for question, right, wrong in drawn_questions():
        prompt = [{"role": "user", "content": question}]
        answers = {side: [{"role": "assistant", "content": text}] for side, text in zip(SIDES, (right, wrong), strict=True)}
        yield "A pair that is drawn", {"prompt": prompt} | answers


def sides_of(line: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Question and both answers of a line, strings or messages; ValueError for what is no preference."""
    for side in SIDES:
        if side not in line:
            raise ValueError(f"a line must have the field `{side}`; it has {', '.join(line) or 'none'}.{nearest(side, line)}")
    chosen, rejected = (line[side] for side in SIDES)
    prompt = line.get("prompt")
    given = [chosen, rejected, *([] if prompt is None else [prompt])]
    if not (all(isinstance(one, str) for one in given) or all(isinstance(one, list) for one in given)):
        raise ValueError(
            "`prompt`, `chosen` and `rejected` must all be strings or all lists of messages; got "
            f"{', '.join(type(one).__name__ for one in given)}."
        )
    if chosen == rejected:
        raise ValueError("`chosen` and `rejected` must differ; they are the same.")
    if prompt is None:
        shared = next((at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
        shared = min(len(chosen), len(rejected)) - 1 if shared is None else shared  # then its last is an answer
        if isinstance(chosen, str) and shared and chosen[shared - 1] == " ":
            shared -= 1  # a blank belongs to the word behind it
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not prompt:
        raise ValueError("a preference must have a question: `prompt`, or what both answers begin with; there is none.")
    if not all((chosen, rejected)):
        raise ValueError(f"`{SIDES[bool(chosen)]}` must hold an answer; it is empty.")
    return prompt, chosen, rejected


def text_answer(tokenizer: Any, end: tuple[str, int] | None, prompt: str, answer: str) -> Reply:
    """A question and an answer as texts; a token that is of both is the answer's."""
    found = tokenizer.encode(prompt + answer)
    ids = [*found.ids, *([] if end is None or found.ids[-1:] == [end[1]] else [end[1]])]
    begin = next((at for at, (_, stop) in enumerate(found.offsets) if stop > len(prompt)), len(found.ids))
    if begin == 0:
        raise ValueError("a question must have a token of its own in front of the answer's; there is none.")
    return Reply(np.array(ids, np.int32), begin, len(ids))


def talk_answer(tokenizer: Any, template: ChatTemplate, prompt: Sequence[Any], answer: Sequence[Any]) -> Reply:
    """Messages and the answer to them, as the template writes them."""
    if len(answer) != 1:
        raise ValueError(f"an answer must be one message of the assistant behind what both share; got {len(answer)} messages.")
    messages = messages_of({"messages": [*prompt, *answer]})
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"an answer must be a message of the assistant; got one of {messages[-1]['role']}.")
    said = [message | ({"weight": 0} if message["role"] == "assistant" else {}) for message in messages[:-1]]
    talk = talk_of(tokenizer, template, [*said, messages[-1]])
    at = np.flatnonzero(talk.answers)
    return Reply(talk.ids, int(at[0]), int(at[-1]) + 1)
