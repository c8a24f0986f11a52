"""Delimited text as columns of strings: encoding, compression, separator and header found, and told."""

import bz2
import csv
import glob
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.data.files import find_file, resolve_path
from arsenal.data.kinds import is_plain_number

SEPARATORS = (",", ";", "\t", "|")
LOOKED_AT = 200
"""Lines by which the separator is found."""
MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
"""Byte order marks, the longer ones first."""


class Layout(NamedTuple):
    """How a text is to be read; None: as it is found."""

    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    comment: str | None = None
    """What a line begins with that is not read."""


def find_files(pattern: str) -> list[Path]:
    """The files that a path or a pattern with * and ? names, in order of their names; `~` is the home folder."""
    path = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    if not any(letter in path for letter in "*?[") or Path(path).exists():
        return [find_file(path)]
    found = sorted(glob.glob(str(resolve_path(path)), recursive=True))
    if not found:
        raise FileNotFoundError(f"No file matches {pattern}.")
    return [find_file(one) for one in found]


def read_bytes(path: Path) -> bytes:
    """What a file holds, decompressed by its ending: .gz, .bz2, .xz and .zip of one file."""
    ending = path.suffix
    try:
        if ending == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                if len(names) != 1:
                    raise ValueError(f"it holds {len(names)} files, not one")
                return archive.read(names[0])
        opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(ending, open)
        with opened(path, "rb") as stream:
            return stream.read()
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"Data file {path} cannot be read: {error}.") from error


def decode(content: bytes, encoding: str | None, path: Path) -> tuple[str, str]:
    """The text and the encoding: the one given, that of a byte order mark, UTF-8, or else Windows-1252."""
    name = encoding or next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    for one in [name] if name else ["utf-8", "cp1252", "latin-1"]:
        try:
            return content.decode(one), one
        except UnicodeDecodeError as error:
            if name:
                raise ValueError(f"Data file {path} is not {one}: {error.reason} at byte {error.start}.") from error
        except LookupError as error:
            raise ValueError(f"`encoding` must be one that Python knows, such as utf-8; got {one!r}.") from error
    raise AssertionError("latin-1 reads everything")


def find_separator(text: str) -> str:
    r"""The separator that gives the first lines the same number of cells, and most of them; a comma where none does.

    >>> find_separator("name;size\n'a, b';1,5\n'c, d';2,5\n")
    ';'
    """
    lines = text.splitlines()[:LOOKED_AT]
    best, most = ",", (0.0, 1)
    for separator in SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        width = counts[0] if counts else 1
        share = sum(count == width for count in counts) / max(1, len(counts))
        if width > 1 and (share, width) > most:
            best, most = separator, (share, width)
    return best


def read_text(path: Path, layout: Layout) -> tuple[Any, list[str]]:
    """A data frame of strings, numbered from 0, and what was found rather than told, in words."""
    import pandas as pd
    import pyarrow
    import pyarrow.csv as csv_reader

    text, encoding = decode(read_bytes(path), layout.encoding, path)
    if layout.comment:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(layout.comment))
    if not text.strip():
        raise ValueError(f"Data file {path} is empty.")
    separator = layout.separator or ("\t" if ".tsv" in path.suffixes else find_separator(text))
    first = next(csv.reader(io.StringIO(text), delimiter=separator))
    header = layout.header if layout.header is not None else not all(map(is_plain_number, first))
    found = []
    if layout.encoding is None and encoding not in ("utf-8", "utf-8-sig"):
        found.append(f"encoding {encoding}")
    if layout.separator is None and separator != "," and ".tsv" not in path.suffixes:
        found.append(f"separator {separator!r}")
    if layout.header is None and not header:
        found.append("no header, since the first line holds numbers only: columns are column_1, column_2, …")
    if header:
        names = [name.strip() for name in first]
        check_names(names, path)
    else:
        names = [f"column_{i}" for i in range(1, len(first) + 1)]

    def parse(threads: bool) -> Any:
        return csv_reader.read_csv(
            pyarrow.BufferReader(text.encode()),
            csv_reader.ReadOptions(column_names=names, skip_rows_after_names=int(header), use_threads=threads),
            csv_reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            csv_reader.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False),
        )

    try:
        try:
            table = parse(threads=True)
        except pyarrow.ArrowInvalid:
            table = parse(threads=False)  # which knows the row
    except (ValueError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"Data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    frame = pd.DataFrame({name: column.to_pylist() for name, column in zip(names, table.columns, strict=True)}, dtype=object)
    return frame, found


def check_names(names: list[str], path: Path) -> None:
    """Raise ValueError for column names that are empty or there twice."""
    for i, name in enumerate(names, 1):
        if not name and i > 1:
            raise ValueError(f"Data file {path}: column {i} has no name; `header=false` where the first line is data.")
        if name in names[: i - 1]:
            raise ValueError(f"Data file {path}: two columns are called `{name}`.")
