"""`arsenal tokenize files=PATHS to=FOLDER`: documents to mapped tokens, by a tokenizer that is given or learned."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from arsenal.refusal import Refusal


class TokenizeError(Refusal):
    """Documents cannot be made tokens as asked."""


def tokenize(
    files: str, to: str, field: str = "text", tokenizer: str | None = None, vocabulary: str | None = None,
    kind: str | None = None, specials: str | None = None, lowercase: str | None = None, end: str | None = None,
    dtype: str | None = None, processes: str | None = None,
) -> None:  # fmt: skip
    """Make a corpus of tokens, or a tokenizer alone, of documents in .txt, .jsonl and .parquet files.

    files: files, folders and globs, between commas; a .txt is a document, a line of a .jsonl and a row of a .parquet is one each.
    to: a folder that is not there yet, for tokens.bin, documents.npy, tokenizer.json and corpus.json; or FILE.json, for a
    tokenizer alone. field: the key of a line, the column of a row. tokenizer: a tokenizer.json; without one it is learned of the
    documents. vocabulary: so many tokens at most, 8192 unless given; kind: bpe (pairs of bytes) or wordpiece; specials: special
    tokens, between commas; lowercase: of wordpiece, whether case is dropped, true unless given. end: the token behind each
    document; what the tokenizer has for that unless given. dtype: uint16 or uint32; the smaller that holds the tokenizer's ids
    unless given. processes: as many as processors unless given; what is written does not depend on it.
    """
    from arsenal.cli import as_count
    from arsenal.data.corpus import SPECIALS, id_type, learn_tokenizer, write_corpus
    from arsenal.data.documents import document_files, documents
    from arsenal.data.tokenizer import tokenizer_state

    alone, target = to.endswith(".json"), Path(to)
    learned = {"vocabulary": vocabulary, "kind": kind, "specials": specials, "lowercase": lowercase}
    if tokenizer and (told := [name for name, value in learned.items() if value is not None]):
        raise TokenizeError(f"`{told[0]}` is of a tokenizer that is learned; `tokenizer` {tokenizer} is one already.")
    if tokenizer and alone:
        raise TokenizeError(f"`to` {to} is for a tokenizer that is learned; with `tokenizer` it must be a folder.")
    if alone and (told := [name for name, value in {"end": end, "dtype": dtype}.items() if value is not None]):
        raise TokenizeError(f"`{told[0]}` is of tokens; `to` {to} is for a tokenizer alone.")
    if lowercase not in (None, "true", "false"):
        raise TokenizeError(f"`lowercase` must be true or false; got {lowercase}.")
    if lowercase and kind != "wordpiece":
        raise TokenizeError(f"`lowercase` is of `kind=wordpiece`; got {kind or 'bpe'}, which keeps every text as it is.")
    if target.exists():
        raise TokenizeError(f"{to} is there already; choose another name, or remove it.")
    most, several = as_count("vocabulary", vocabulary or "8192"), as_count("processes", processes) if processes else None
    marks = [name.strip() for name in specials.split(",") if name.strip()] if specials is not None else None
    if not tokenizer and kind in (None, *SPECIALS):  # before what takes long
        id_type(most, dtype)
        known = SPECIALS[kind or "bpe"] if marks is None else marks
        if not alone and end is not None and end not in known:
            raise TokenizeError(f"`end` must be one of the `specials`, {', '.join(known) or 'none at all'}; got {end}.")
    found = document_files([path for path in files.split(",") if path])
    if tokenizer:
        state = tokenizer_state(tokenizer)
    else:
        with bar("learning", found) as heard:
            texts = (hear(heard, document.text) for document in documents(found, field))
            state = learn_tokenizer(texts, most, kind or "bpe", marks, lowercase != "false")  # type: ignore[arg-type]
        print(f"tokenizer: {len(state['model']['vocab']):,} tokens of at most {most:,}")
    if alone:
        from arsenal_serving.files import replace_file

        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, json.dumps(state, ensure_ascii=False).encode())
    else:
        with bar("tokens", found) as heard:
            about = write_corpus(target, found, state, field, end, dtype, several, lambda letters, made: heard(letters))
        each = about["bytes"] / max(1, about["tokens"] - about["documents"])
        print(
            f"{about['tokens']:,} tokens of {about['documents']:,} documents, {each:.2f} bytes each, as {about['dtype']}; "
            f"model.vocabulary={about['vocabulary']}"
        )
    print(f"{'tokenizer' if alone else 'corpus'}: {to}")


def hear(heard: Callable[[int], None], text: str) -> str:
    """The text, once it was told how long it is."""
    heard(len(text))
    return text


@contextlib.contextmanager
def bar(what: str, files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """What hears how many letters were read, and shows it on a terminal as a share of the files' bytes."""
    if not sys.stderr.isatty():
        yield lambda letters: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=sum(file.stat().st_size for file in files))
        yield lambda letters: shown.advance(task, letters)
        shown.update(task, completed=shown.tasks[0].total)
