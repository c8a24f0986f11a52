"""IDX files, as MNIST and its kin come in. LeCun, Cortes and Burges, "The MNIST database of handwritten digits"."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.column import Column
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SIDES = ("train", "t10k")
"""How MNIST's files of rows that train, and of those that test, begin."""


class IdxArray(NamedTuple):
    """An array as it stands in its file."""

    values: np.ndarray
    file: Path


def idx(path: str, labels: str | None = None) -> Dataset:
    """Images and their labels: x [n, height, width] uint8, or as the file has them, y [n] whole; plain files or .gz.

    `path` is a folder with the four files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`: then rows have the further column `test`, 1 for the last two, which `split=by_column` reads. Or it
    is one file, whose first axis are rows, and `labels` the file of their labels. Classes are named by their numbers.
    """
    found = resolve_path(path)
    if found.is_dir():
        if labels is not None:
            raise ValueError(f"`labels` of `idx` belongs to a single file of images; {path} is a folder.")
        pairs = [(find(found, f"{side}-images-idx3-ubyte"), find(found, f"{side}-labels-idx1-ubyte")) for side in SIDES]
    elif not found.is_file():
        raise FileNotFoundError(f"IDX file or folder {path} does not exist.")
    elif labels is None:
        raise ValueError(f"`idx` of one file of images needs `labels`, the file of their labels; got {path} alone.")
    else:
        pairs = [(found, resolve_path(labels))]
    parts = [(read_idx(one), read_idx(other)) for one, other in pairs]
    for images, names in parts:
        n = len(images.values)
        if names.values.shape != (n,) or names.values.dtype.kind not in "iu":
            raise ValueError(
                f"Labels of {images.file.name} are whole numbers [{n}]; "
                f"{names.file.name} holds {names.values.dtype.name} {list(names.values.shape)}."
            )
        if images.values.shape[1:] != parts[0][0].values.shape[1:]:
            raise ValueError(f"{images.file.name} and {parts[0][0].file.name} hold images of different sizes.")
    begins = np.cumsum([0, *(len(images.values) for images, _ in parts)])
    y = np.concatenate([names.values for _, names in parts]).astype(np.int64)
    shape, kind = parts[0][0].values.shape[1:], parts[0][0].values.dtype.newbyteorder("=")

    def read(rows: np.ndarray) -> np.ndarray:
        values = np.empty((len(rows), *shape), kind)
        for (images, _), begin, end in zip(parts, begins[:-1], begins[1:], strict=True):
            mine = (rows >= begin) & (rows < end)
            values[mine] = images.values[rows[mine] - begin]
        return values

    return dataset(
        Column((len(y), *shape), kind, read), y, aux={"test": in_last(begins)} if len(parts) > 1 else (),
        schema=Schema({"x": Tensor()}, Tensor(columns=[str(label) for label in range(int(y.max()) + 1)])),
        files=[array.file for part in parts for array in part], settings="idx",
    )  # fmt: skip


def in_last(begins: np.ndarray) -> np.ndarray:
    """1 for the rows of the last part, 0 for those of the others: int32 [n]."""
    return (np.arange(begins[-1]) >= begins[-2]).astype(np.int32)


def find(folder: Path, name: str) -> Path:
    """The file of this name, or the same with .gz; ValueError where there is neither."""
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise FileNotFoundError(f"IDX folder {folder} must hold {name} or {name}.gz.")


def read_idx(file: Path) -> IdxArray:
    """The array of an IDX file, mapped where it is not compressed; ValueError where it is none or is cut short."""
    if not file.is_file():
        raise FileNotFoundError(f"IDX file {file} does not exist.")
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not head[3]:
                raise ValueError(f"{file} is no IDX file: it begins with {head.hex() or 'nothing'}.")
            shape, kind = np.frombuffer(stream.read(4 * head[3]), ">u4"), np.dtype(TYPES[head[2]])
            if len(shape) < head[3]:
                raise ValueError(f"IDX file {file} ends within its head.")
            start, size = 4 + 4 * head[3], int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            content = stream.read() if file.suffix == ".gz" else None
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"IDX file {file} cannot be unpacked: {error}.") from error
    there = file.stat().st_size - start if content is None else len(content)
    if there != size:
        raise ValueError(f"IDX file {file} says that it holds {size:,} bytes of {list(map(int, shape))}; it holds {there:,}.")
    if content is not None:
        return IdxArray(np.frombuffer(content, kind).reshape(shape), file)
    return IdxArray(np.memmap(file, kind, "r", start, tuple(map(int, shape))), file)
