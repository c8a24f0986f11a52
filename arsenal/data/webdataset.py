"""Tar files of images and their labels, the form that WebDataset gave large sets: a sample's files share a name."""

import glob
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path
from arsenal.data.images import SUFFIXES, picture_column, readable

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Member(NamedTuple):
    """Where a file lies in a tar file."""

    archive: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __str__(self) -> str:
        """What people call it."""
        return f"{self.name} in {self.archive}"


def webdataset(
    path: str, size: Annotated[int, Gt(0)] | Sequence[Annotated[int, Gt(0)]] | None = None, channels: Literal[1, 3] = 3,
    label: str = "cls", classes: Sequence[str] | None = None, skip_corrupt: bool = False,
) -> Dataset:  # fmt: skip
    """Images in tar files: x [n, height, width, channels] uint8, y [n] the class; images are read where they lie, when asked.

    `path` is a file, a pattern with `*`, or one with a range such as `train-{0000..0099}.tar`. Files of one sample differ in
    what follows the first dot of their names: one PNG or JPEG, and `label`, text that is a class's number (`cls`) or name, or
    `json.FIELD`, such as `json.label`. Numbers are classes 0..; names in sorted order, or as `classes` lists them. `size`,
    `channels` and `skip_corrupt` are those of `images`. Compressed tar files are refused: nothing in them can be reached by
    itself.
    """
    archives = expand(path)
    suffix, _, field = label.partition(".")
    if field and suffix != "json":
        raise ValueError(f"`label` of `webdataset` is a suffix, such as cls, or json.FIELD; got {label}.")
    samples: dict[tuple[Path, str], dict[str, Member]] = {}
    for archive in archives:
        for member in members(archive):
            folder, _, file = member.name.rpartition("/")
            stem, _, kind = file.partition(".")
            samples.setdefault((archive, f"{folder}/{stem}"), {})[kind.lower()] = member
    pictures, said = [], []
    for (archive, name), files in samples.items():
        found = [kind for kind in files if f".{kind}" in SUFFIXES]
        if len(found) != 1 or suffix not in files:
            has = ", ".join(sorted(files))
            whose = f"{name.lstrip('/')} in {archive}"
            raise ValueError(f"A sample holds one PNG or JPEG and .{suffix}; {whose} holds {has}.")
        pictures.append(files[found[0]])
        said.append(label_of(files[suffix], field))
    y, names = encode_labels(said, classes)
    good = readable(pictures) if skip_corrupt else range(len(pictures))
    x = picture_column([pictures[i] for i in good], size, channels)
    schema = Schema({"x": Tensor()}, Tensor(columns=names, codec="label"), {"label": {"kind": "category", "values": names}})
    return dataset(x, y[list(good)], schema=schema, files=archives, settings=["webdataset", label, list(classes or ())])


def expand(path: str) -> list[Path]:
    """The files that a path with a range or a pattern stands for, in order; FileNotFoundError where one is missing."""
    if found := RANGE.search(path):
        first, last = found.groups()
        numbers = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
        files = [resolve_path(path[: found.start()] + number + path[found.end() :]) for number in numbers]
    else:
        files = [Path(one) for one in sorted(glob.glob(path))] if glob.has_magic(path) else [resolve_path(path)]
    missing = next((str(file) for file in files if not file.is_file()), None if files else path)
    if missing:
        raise FileNotFoundError(f"Tar file {missing} does not exist.")
    return files


def members(archive: Path) -> list[Member]:
    """The files in a tar file that are not hidden, in their order; ValueError where it cannot be read piece by piece."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return [
                Member(archive, one.name, one.offset_data, one.size)
                for one in tar
                if one.isreg() and not one.name.rpartition("/")[2].startswith(".")
            ]
    except tarfile.TarError as error:
        raise ValueError(f"{archive} cannot be read as a tar file that is not compressed: {error}.") from error


def label_of(member: Member, field: str) -> str | int:
    """What a sample's file says of its class: a whole number, or a name."""
    text = member.read().decode().strip()
    if not field:
        return int(text) if text.isdecimal() else text
    try:
        said = json.loads(text)[field]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{member} must be an object of JSON with `{field}`; got {text[:60]}.") from error
    if not isinstance(said, str | int) or isinstance(said, bool):
        raise ValueError(f"`{field}` of {member} must be a whole number or a name; got {said!r}.")
    return said


def encode_labels(said: Sequence[str | int], classes: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Labels as whole numbers [n], and the classes' names; ValueError for numbers beside names, and for unknown ones."""
    kinds = {type(one) for one in said}
    if len(kinds) > 1:
        raise ValueError("Labels must be numbers or names; there are both.")
    if kinds == {int}:
        names = list(classes or map(str, range(max(map(int, said)) + 1)))
        wrong = next((one for one in said if not 0 <= int(one) < len(names)), None)
        code = {one: int(one) for one in said}
    else:
        names = list(classes or sorted({str(one) for one in said}))
        wrong = next((one for one in said if one not in names), None)
        code = {name: i for i, name in enumerate(names)}
    if wrong is not None:
        raise ValueError(f"Labels must be among the {len(names)} `classes`; got {wrong}.")
    return np.array([code[one] for one in said]), names
