"""Documents in text files: a .txt is one, a line of a .jsonl and a row of a .parquet is one each. One after another, in order."""

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from arsenal.data.files import resolve_path
from arsenal.nearest import nearest

KINDS = (".txt", ".md", ".jsonl", ".parquet")
"""How a file of documents ends."""
ROWS = 1024
"""Of a Parquet file that are read at once."""


class Document(NamedTuple):
    """A text, and where it stands: the file, and the line or row as people count, None of a file that is one."""

    text: str
    file: Path
    place: int | None = None

    def __str__(self) -> str:
        """Where the document stands, in words."""
        return str(self.file) if self.place is None else f"{self.file}, {what_stands(self.file)} {self.place}"


def document_files(paths: str | Sequence[str]) -> list[Path]:
    """The files that paths name, in order of their names within each path: files, folders with all below, and globs.

    Raises FileNotFoundError for a path of nothing, ValueError for a file of another kind or one that two paths name.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str) else paths:
        here = resolve_path(Path(path).expanduser())
        if here.is_dir():
            mine = sorted(p for p in here.rglob("*") if p.suffix in KINDS and p.is_file())
        else:
            mine = [here] if here.is_file() else sorted(map(Path, glob.glob(str(here), recursive=True)))
        if not mine:
            raise FileNotFoundError(f"No file of documents ({', '.join(KINDS)}) is at {path}.")
        found += mine
    for at, file in enumerate(found):
        if file.suffix not in KINDS:
            raise ValueError(f"A file of documents ends in {', '.join(KINDS)}; got {file}.")
        if file in found[:at]:
            raise ValueError(f"{file} is named twice.")
        if file.stat().st_size == 0:
            raise ValueError(f"Text file {file} is empty.")
    return found


def documents(files: Sequence[Path], field: str = "text") -> Iterator[Document]:
    """The documents of files, one after another; `field` is the key of a JSON object, or the column of a Parquet file.

    Raises ValueError, naming the file and the line, for one that is not UTF-8, no JSON object, has no such field or no string
    in it, or is empty (white space alone).
    """
    for file in files:
        read = {".jsonl": json_lines, ".parquet": parquet_rows}.get(file.suffix, whole_file)
        for document in read(file, field):
            if not isinstance(document.text, str):
                raise ValueError(f"`{field}` of a document must be a string; got {document.text!r:.60} in {document}.")
            if not document.text.strip():
                raise ValueError(f"A document must hold text; {document} is empty.")
            yield document


def whole_file(file: Path, field: str) -> Iterator[Document]:
    """A file that is one document."""
    yield Document(as_utf8(file.read_bytes(), Document("", file)), file)


def json_lines(file: Path, field: str) -> Iterator[Document]:
    """The field of each line that holds a JSON object; lines of nothing are passed over."""
    for place, found in json_objects(file):
        if field not in found:
            here = Document("", file, place)
            has = ", ".join(found) or "none"
            raise ValueError(f"A line must have the field `{field}`; {here} has {has}.{nearest(field, found)}")
        yield Document(found[field], file, place)


def json_objects(file: Path) -> Iterator[tuple[int, dict]]:
    """The number of each line that is not empty, and the JSON object that it holds."""
    with open(file, "rb") as lines:
        for place, line in enumerate(lines, 1):
            if not line.strip():
                continue
            here = Document("", file, place)
            try:
                found = json.loads(as_utf8(line, here))
            except json.JSONDecodeError as error:
                raise ValueError(f"A line must be a JSON object; {here} is none: {error.msg}.") from error
            if not isinstance(found, dict):
                raise ValueError(f"A line must be a JSON object; {here} is {type(found).__name__}.")
            yield place, found


def parquet_rows(file: Path, field: str) -> Iterator[Document]:
    """The column's cell of each row."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as stored:
            names = stored.schema_arrow.names
            if field not in names:
                raise ValueError(f"{file} has no column `{field}`; it has {', '.join(names)}.{nearest(field, names)}")
            place = 0
            for rows in stored.iter_batches(ROWS, columns=[field]):
                for cell in rows.column(0).to_pylist():
                    place += 1
                    yield Document(cell, file, place)
    except pyarrow.ArrowException as error:
        raise ValueError(f"Data file {file} cannot be read: {str(error).splitlines()[0]}") from error


def as_utf8(content: bytes, here: Document) -> str:
    """Bytes as UTF-8, without a mark of their order; ValueError, naming the document, where they are not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Documents are read from UTF-8; byte {error.start} of {here} is not.") from error


def what_stands(file: Path) -> str:
    """What the documents of a file are."""
    return "row" if file.suffix == ".parquet" else "line"
