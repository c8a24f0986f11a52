"""How likely a model of text finds texts: choices that answer questions, and whole documents.

Gao et al. 2024, "The Language Model Evaluation Harness" (10.5281/zenodo.12608602), for what is measured and how texts are cut.
"""

import importlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import config as configs
from arsenal.data.dataset import Schema
from arsenal.data.documents import Document, document_files, documents, json_objects
from arsenal.data.text import encode
from arsenal.data.tokenizer import end_of, tokenizer_of, tokenizer_state
from arsenal.huggingface import is_folder, read_folder
from arsenal.models.adapted import FROZEN, merge_adapters
from arsenal.models.answers import log_likelihoods
from arsenal.models.aside import without_aside
from arsenal.nearest import nearest
from arsenal.numerics.wide import widen
from arsenal.records import Model
from arsenal.run import load

ROWS = 16
"""Texts of one dispatch."""
DELIMITER, BETWEEN = " ", "\n\n"
"""Between a question and a choice, and between one example and the next."""


class Reader(NamedTuple):
    """A model that says how likely tokens are, and how texts become tokens."""

    logits: Callable[[Any, Any], Any]
    """`(variables, tokens [n, t]) -> [n, t, vocabulary]` of the token after each."""
    variables: Any
    encode: Callable[[str], Sequence[int]]
    first: int | None
    """What stands before a text; None where there is no such token."""
    context: int


class MultipleChoice(NamedTuple):
    """A question with choices, of which one is right."""

    text: str
    choices: list[str]
    answer: int


class Judged(NamedTuple):
    """The log-likelihood of each choice, and of how many tokens it is."""

    question: MultipleChoice
    values: np.ndarray
    tokens: np.ndarray


def find_reader(name: str) -> Reader:
    """The model of a run folder or of `hf:FOLDER`; ValueError for one that says nothing of the next token."""
    if is_folder(name):
        found = read_folder(name)
        variables = found.variables()
        if found.adapters is not None:
            whole = {"params": found.adapted, FROZEN: variables["params"]}
            variables = merge_adapters(whole, found.adapters.alpha, found.adapters.rank)
        if found.tokenizer is None:
            raise ValueError(f"{name} must have a tokenizer.json, by which texts become tokens; there is none.")
        schema, context = Schema(tokenizer=tokenizer_state(str(found.tokenizer))), found.arguments.get("context", 0)
        model = getattr(importlib.import_module("arsenal.models"), found.target)(**found.arguments)
    else:
        run = load(name)
        section: Any = configs.model_section(run.config.settings) or {}
        model, variables, schema = None, without_aside(run.params["learner"]), run.kept[0]
        while section.get("_target_") in configs.COMPARING:
            section = section["model"]
        model = configs.instantiate(section, "model") if section else None
        while section.get("_target_") in configs.AROUND:
            section = section["model"]
        context = section.get("context", 0)
    if not isinstance(model, Model) or "decode" not in model.methods or not context:
        raise ValueError(f"`likelihood` asks a `transformer`, which says what the next token is; {name} is no such model.")
    read = model.apply
    return Reader(
        lambda variables, tokens: read(variables, tokens)[0], variables, encoder(schema), first_token(schema), context
    )


def encoder(schema: Schema) -> Callable[[str], Sequence[int]]:
    """What makes tokens of a text, as the data's schema has it, without those that a tokenizer adds around a text."""
    if not schema.tokenizer:
        return lambda words: encode(schema, words).tolist()
    made = tokenizer_of(schema.tokenizer)
    return lambda words: made.encode(words, add_special_tokens=False).ids


def first_token(schema: Schema) -> int | None:
    """What a tokenizer puts before a text, else what ends a document; None without either."""
    if not schema.tokenizer:
        return None
    added, end = tokenizer_of(schema.tokenizer).encode("").ids, end_of(schema.tokenizer)
    return added[0] if added else None if end is None else end[1]


def measure_pairs(reader: Reader, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> np.ndarray:
    """The log-likelihood [n] of tokens behind others, which may be no more than the model reads: the first of them are cut.

    Raises ValueError where nothing stands before a token, or what is judged alone is too long.
    """
    for before, behind in pairs:
        if not before or not 0 < len(behind) <= reader.context:
            raise ValueError(
                f"What is judged must have 1 to {reader.context} tokens, the model's context, and a token before it; got "
                f"{len(behind)} behind {len(before)}."
            )

    def run(variables, tokens, begin, end):
        at = jnp.arange(1, tokens.shape[1])
        logits = widen(reader.logits(variables, tokens[:, :-1]))
        return log_likelihoods(logits, tokens[:, 1:], (at >= begin[:, None]) & (at < end[:, None]))

    program, found = jax.jit(run), np.zeros(len(pairs))
    whole = [[*before, *behind][-(reader.context + 1) :] for before, behind in pairs]
    order = sorted(range(len(pairs)), key=lambda i: len(whole[i]))  # alike in length, so little is filled up
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        longest = max(len(whole[i]) for i in part)
        size = min(1 << (longest - 1).bit_length(), reader.context + 1)  # few sizes, so few programs
        tokens, begin, end = np.zeros((ROWS, size), np.int32), np.zeros(ROWS, np.int32), np.zeros(ROWS, np.int32)
        for row, i in enumerate(part):
            tokens[row, : len(whole[i])] = whole[i]
            begin[row], end[row] = len(whole[i]) - len(pairs[i][1]), len(whole[i])
        found[part] = np.asarray(program(reader.variables, tokens, begin, end), np.float64)[: len(part)]
    return found


def read_questions(path: str, template: str = "{question}") -> list[MultipleChoice]:
    """The questions in .jsonl files, a line {"question", "choices": [strings], "answer": a number from 0 on, or the choice}.

    `template` is a text around `{question}`. Raises ValueError, naming the line, for what is none.
    """
    if "{question}" not in template:
        raise ValueError(f"`template` must hold {{question}}; got {template!r}.")
    found = []
    files = document_files(path)
    if other := [file for file in files if file.suffix != ".jsonl"]:
        raise ValueError(f"Questions are read from .jsonl files; got {other[0]}.")
    for file in files:
        for at, line in json_objects(file):
            try:
                found.append(as_question(line, template))
            except ValueError as error:
                raise ValueError(f"{Document('', file, at)}: {error}") from error
    if not found:
        raise ValueError(f"{path} must hold a question; there is none.")
    return found


def as_question(line: dict[str, Any], template: str) -> MultipleChoice:
    """A line as a question; ValueError for what is none."""
    for field in MultipleChoice._fields:
        name = "question" if field == "text" else field
        if name not in line:
            raise ValueError(f"a line must have the field `{name}`; it has {', '.join(line) or 'none'}.{nearest(name, line)}")
    text, choices, answer = line["question"], line["choices"], line["answer"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"`question` must be a text; got {text!r:.60}.")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) and one for one in choices):
        raise ValueError(f"`choices` must be two texts or more; got {choices!r:.60}.")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise ValueError(f"`answer` must be one of the choices or its number, 0 to {len(choices) - 1}; got {answer!r:.60}.")
    return MultipleChoice(template.replace("{question}", text), choices, answer)


def judge_choices(reader: Reader, questions: Sequence[MultipleChoice], shots: Sequence[MultipleChoice] = ()) -> list[Judged]:
    """How likely each choice is behind its question; `shots` are questions that stand answered before every one."""
    prefix = "".join(f"{one.text}{DELIMITER}{one.choices[one.answer]}{BETWEEN}" for one in shots)
    pairs = [pair_tokens(reader, prefix + one.text, f"{DELIMITER}{choice}") for one in questions for choice in one.choices]
    values, at, found = measure_pairs(reader, pairs), 0, []
    for one in questions:
        here = slice(at, at + len(one.choices))
        found.append(Judged(one, values[here], np.array([len(behind) for _, behind in pairs[here]])))
        at = here.stop
    return found


def pair_tokens(reader: Reader, before: str, behind: str) -> tuple[list[int], list[int]]:
    """The tokens of two texts, the second's those that the first has not alone; blanks between them belong to the second."""
    kept = before.rstrip()
    whole, first = reader.encode(before + behind), reader.encode(kept)
    if not len(first) and reader.first is not None:
        return [reader.first], list(whole)
    return list(whole[: len(first)]), list(whole[len(first) :])


def summarise(judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
    """The share of questions that are answered right, with its standard error, by how choices are compared.

    `acc`: the likeliest; `acc_norm`: by character, `acc_bytes`: by byte, `acc_tokens`: by token. The first three are those of
    lm-evaluation-harness. `chance` is what drawing would come to.
    """
    sizes: dict[str, Callable[[Judged], Any]] = {
        "acc": lambda one: 1,
        "acc_norm": lambda one: np.array([len(choice) for choice in one.question.choices]),
        "acc_bytes": lambda one: np.array([len(choice.encode()) for choice in one.question.choices]),
        "acc_tokens": lambda one: one.tokens,
    }
    found = {}
    for name, size in sizes.items():
        right = [float(np.argmax(one.values / size(one)) == one.question.answer) for one in judged]
        error = np.std(right, ddof=1) / math.sqrt(len(right)) if len(right) > 1 else math.nan
        found[name] = float(np.mean(right)), float(error)
    return found | {"chance": (float(np.mean([1 / len(one.question.choices) for one in judged])), 0.0)}


def judge_documents(reader: Reader, path: str, field: str = "text") -> dict[str, float]:
    """How well the documents of files are foretold: `perplexity` per token, `word_perplexity`, `byte_perplexity` and
    `bits_per_byte`, and how many `tokens` there are.

    A document longer than the context is judged piece by piece, as lm-evaluation-harness does. Where no token stands
    before a text, its first is not judged, and its bytes do not count.
    """
    total, tokens, words, size = 0.0, 0, 0, 0
    for document in documents(document_files(path), field):
        ids = list(reader.encode(document.text))
        pieces = list(windows(ids, reader.first, reader.context))
        if not pieces:
            continue
        total += measure_pairs(reader, pieces).sum()
        tokens += sum(len(behind) for _, behind in pieces)
        words += len(re.split(r"\s+", document.text))
        size += len(document.text.encode())
        if reader.first is None:
            size -= len(first_unit(reader, document.text).encode())
    if not tokens:
        raise ValueError(f"{path} must hold a text of two tokens or more; there is none.")
    return {
        "perplexity": math.exp(-total / tokens), "word_perplexity": math.exp(-total / words),
        "byte_perplexity": math.exp(-total / size), "bits_per_byte": -total / size / math.log(2), "tokens": tokens,
    }  # fmt: skip


def first_unit(reader: Reader, text: str) -> str:
    """The shortest beginning of a text that is a token of its own."""
    return next((text[:n] for n in range(1, len(text) + 1) if len(reader.encode(text[:n]))), "")


def windows(ids: Sequence[int], first: int | None, context: int) -> Iterator[tuple[list[int], list[int]]]:
    """Pieces of at most `context` tokens, each with the token before it, the last with as many as the model reads.

    >>> list(windows([1, 2, 3, 4, 5], 0, 3))
    [([0], [1, 2, 3]), ([2, 3], [4, 5])]
    """
    whole = list(ids) if first is None else [first, *ids]
    for start in range(1, len(whole), context):
        end = min(start + context, len(whole))
        yield whole[max(0, end - context - 1) : start], whole[start:end]


def as_lines(judged: Sequence[Judged]) -> str:
    """What was found of each question, a line of JSON each."""
    return "".join(
        json.dumps({
            "question": one.question.text, "choices": one.question.choices, "answer": one.question.answer,
            "log_likelihoods": one.values.tolist(), "tokens": one.tokens.tolist(),
        }, ensure_ascii=False) + "\n"
        for one in judged
    )  # fmt: skip


def write_lines(judged: Sequence[Judged], path: Path) -> None:
    """Write them into a file."""
    path.write_text(as_lines(judged), encoding="utf-8")
