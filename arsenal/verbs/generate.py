"""`arsenal generate run=FOLDER prompt=TEXT`: a text that goes on from a prompt, shown while it is made."""

import json
import sys
from pathlib import Path
from typing import Any


def generate(
    run: str, prompt: str, length: str | None = None, temperature: str = "1", top_k: str | None = None, top_p: str | None = None,
    min_p: str | None = None, repetition: str | None = None, presence: str | None = None, frequency: str | None = None,
    stop: str | None = None, regex: str | None = None, schema: str | None = None, draft: str | None = None,
    ahead: str | None = None, seed: str = "0", beams: str | None = None, params: str | None = None, checkpoint: str = "last",
) -> None:  # fmt: skip
    """Go on from a prompt with a run of text: at most `length` tokens, 200 or what the context leaves, or up to the text `stop`.

    A token that ends texts, by the tokenizer, ends it too.

    run: the run's folder. prompt: a text; - reads it from stdin. temperature: 0 takes the likeliest token. top_k, top_p, min_p:
    which tokens may be drawn. repetition, presence, frequency: what tokens that were there lose. regex: what the text must match
    as a whole; schema: a file with the JSON schema that it must hold to. draft: the folder of a run with a smaller model of the
    same tokens, which guesses `ahead` tokens (4) at a time: as the run itself would have it, sooner; how many were right is told
    on stderr. beams: the likeliest text that a search with so many finds, in place of a draw. seed: of the draws. params: raw,
    say, for another view of an average. checkpoint: last, best or a step.
    """
    from arsenal.cli import as_count
    from arsenal.continuation import AHEAD, Form, Guesses, StopError, likeliest_text, stream_text
    from arsenal.models.generation import Sampling
    from arsenal.run import load

    text = sys.stdin.read() if prompt == "-" else prompt
    words = {
        "temperature": temperature, "repetition": repetition, "presence": presence, "frequency": frequency, "top_p": top_p,
        "min_p": min_p,
    }  # fmt: skip
    numbers = {name: as_number(name, word, *BOUNDS[name]) for name, word in words.items() if word is not None}
    numbers |= {} if top_k is None else {"top_k": as_count("top_k", top_k)}
    loaded, count = load(run, params, checkpoint), None if length is None else as_count("length", length)
    if beams is not None:
        others = {"stop": stop, "regex": regex, "schema": schema, "draft": draft}
        if asked := [*(name for name in numbers if name != "temperature"), *(name for name, word in others.items() if word)]:
            raise ValueError(f"`beams` looks for the likeliest text; `{asked[0]}` is for draws.")
        print(text + likeliest_text(loaded, text, count, as_count("beams", beams)))
        return
    if regex is not None and schema is not None:
        raise ValueError("`regex` and `schema` each say what form the text has; give one of them.")
    form = Form(regex) if regex is not None else None if schema is None else Form(schema=read_form(schema))
    if ahead is not None and draft is None:
        raise ValueError("`ahead` is of a `draft`, which guesses so many tokens; there is none.")
    guesses, steps = Guesses(), AHEAD if ahead is None else as_count("ahead", ahead)
    pieces = stream_text(
        loaded, text, count, Sampling(**numbers), as_count("seed", seed, 0), stop, form,
        None if draft is None else load(draft), steps, guesses,
    )  # fmt: skip
    shown = text
    try:
        for piece in pieces:
            print(shown + piece, end="", flush=True)
            shown = ""
    except StopError as error:
        print(f"\narsenal: {error}", end="", file=sys.stderr)
    print(shown)
    if draft is not None:
        print(guesses, file=sys.stderr)


def read_form(file: str) -> dict[str, Any]:
    """The JSON schema in a file."""
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`schema` {file} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"`schema` {file} must hold an object; got {type(found).__name__}.")
    return found


BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "temperature": (0, None), "repetition": (1e-9, None), "presence": (None, None), "frequency": (None, None), "top_p": (1e-9, 1),
    "min_p": (0, 1),
}  # fmt: skip


def as_number(name: str, word: str, least: float | None, most: float | None) -> float:
    """The word as a number within its bounds."""
    try:
        value = float(word)
        fits = (least is None or value >= least) and (most is None or value <= most)
    except ValueError:
        fits = False
    if not fits:
        bounds = " ".join(part for part in (least is not None and f"from {least:g}", most is not None and f"to {most:g}") if part)
        raise ValueError(f"`{name}` must be a number{' ' + bounds if bounds else ''}; got {word}.")
    return value
