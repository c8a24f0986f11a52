"""`arsenal generate run=FOLDER prompt=TEXT`: a text that goes on from a prompt, shown while it is made."""

import sys


def generate(
    run: str, prompt: str, length: str | None = None, temperature: str = "1", top_k: str | None = None, top_p: str | None = None,
    min_p: str | None = None, repetition: str | None = None, presence: str | None = None, frequency: str | None = None,
    stop: str | None = None, seed: str = "0", beams: str | None = None, params: str | None = None, checkpoint: str = "last",
) -> None:  # fmt: skip
    """Go on from a prompt with a run of text: at most `length` tokens, 200 or what the context leaves, or up to the text `stop`.

    run: the run's folder. prompt: a text; - reads it from stdin. temperature: 0 takes the likeliest token. top_k, top_p, min_p:
    which tokens may be drawn. repetition, presence, frequency: what tokens that were there lose. beams: the likeliest text that a
    search with so many finds, in place of a draw. seed: of the draws. params: raw, say, for another view of an average.
    checkpoint: last, best or a step.
    """
    from arsenal.continuation import StopError, likeliest_text, stream_text
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
        asked = [name for name in numbers if name != "temperature"] + (["stop"] if stop else [])
        if asked:
            raise ValueError(f"`beams` looks for the likeliest text; `{asked[0]}` is for draws.")
        print(text + likeliest_text(loaded, text, count, as_count("beams", beams)))
        return
    pieces = stream_text(loaded, text, count, Sampling(**numbers), as_count("seed", seed, 0), stop)
    shown = text
    try:
        for piece in pieces:
            print(shown + piece, end="", flush=True)
            shown = ""
    except StopError as error:
        print(f"\narsenal: {error}", end="", file=sys.stderr)
    print(shown)


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


def as_count(name: str, word: str, least: int = 1) -> int:
    """The word as a whole number."""
    if not word.isdigit() or int(word) < least:
        raise ValueError(f"`{name}` must be a whole number from {least} on; got {word}.")
    return int(word)
