"""CIFAR-10 and CIFAR-100 in their binary files. Krizhevsky, "Learning multiple layers of features from tiny images", 2009."""

from pathlib import Path
from typing import Any

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.column import Column
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path
from arsenal.data.idx import in_last

SIDE, PIXELS = 32, 3 * 32 * 32
FORMS = {
    "cifar-10": ([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], "batches.meta.txt", 1),
    "cifar-100": (["train.bin", "test.bin"], "fine_label_names.txt", 2),
}
"""Files, the last of which tests, the names of the classes, and the bytes of labels before each image."""


def cifar(path: str) -> Dataset:
    """The images in the binary version's folder: x [n, 32, 32, 3] uint8, y [n] the class; of CIFAR-100 the fine one.

    Rows have the further column `test`, 1 for those of the test file, which `split=by_column` reads. The images stay in their
    files and are read when asked.
    """
    folder = resolve_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"CIFAR folder {path} does not exist.")
    names, meta, bytes_before = next((form for form in FORMS.values() if (folder / form[0][-1]).is_file()), FORMS["cifar-10"])
    missing = [name for name in (*names, meta) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"CIFAR folder {path} must hold {', '.join(names)} and {meta}, the binary version; {missing[0]} is missing."
        )
    parts = [records(folder / name, bytes_before) for name in names]
    begins = np.cumsum([0, *map(len, parts)])
    labels = [line for line in (folder / meta).read_text().splitlines() if line]
    y = np.concatenate([part[:, bytes_before - 1] for part in parts]).astype(np.int64)
    if y.max() >= len(labels):
        raise ValueError(f"{meta} names {len(labels)} classes; the images of {path} have labels up to {y.max()}.")

    def read(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), PIXELS), np.uint8)
        for part, begin, end in zip(parts, begins[:-1], begins[1:], strict=True):
            mine = (rows >= begin) & (rows < end)
            found[mine] = part[rows[mine] - begin, bytes_before:]
        return found.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)

    schema = Schema({"x": Tensor()}, Tensor(columns=labels, codec="label"), {"label": {"kind": "category", "values": labels}})
    x = Column((len(y), SIDE, SIDE, 3), np.dtype(np.uint8), read)
    files: list[Any] = [folder / name for name in (*names, meta)]
    return dataset(x, y, aux={"test": in_last(begins)}, schema=schema, files=files, settings="cifar")


def records(file: Path, bytes_before: int) -> np.ndarray:
    """The records of a file, [n, labels and pixels] uint8, mapped; ValueError where the last is cut short."""
    size, length = file.stat().st_size, bytes_before + PIXELS
    if not size or size % length:
        raise ValueError(f"CIFAR file {file} holds records of {length:,} bytes; it has {size:,} bytes.")
    return np.memmap(file, np.uint8, "r", shape=(size // length, length))
