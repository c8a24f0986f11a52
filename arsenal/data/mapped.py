"""Arrays and token ids in files that are mapped into memory, not loaded: the system reads the pages that are asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.column import columns
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path
from arsenal.data.tokenizer import tokenizer_state


def memmap(path: str, x: str | Sequence[str] = "x", y: str | None = "y", row: str | None = None) -> Dataset:
    """Arrays [n, ...] in .npy files of a folder: `x` is x.npy, or several that become named inputs. Nothing is unpickled.

    float64 becomes float32 and int64 int32 when rows are read; `row` ids are read at once.
    """
    folder = resolve_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"Data folder {path} does not exist.")
    names = [x] if isinstance(x, str) else list(x)
    files = {name: folder / f"{name}.npy" for name in [*names, *([y] if y else []), *([row] if row else [])]}
    stored = {name: map_array(file) for name, file in files.items()}
    inputs = stored[x] if isinstance(x, str) else {name: stored[name] for name in names}
    fields = {"x" if isinstance(x, str) else name: Tensor() for name in names}
    ids = np.array(stored[row]) if row else None
    return dataset(inputs, stored[y] if y else None, ids, schema=Schema(fields))


def map_array(file: Path) -> np.ndarray:
    """The array of a .npy file, mapped; one clear error where that cannot be."""
    if not file.is_file():
        raise FileNotFoundError(f"Data file {file} does not exist.")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"Data file {file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise ValueError(f"Data file {file} must hold an array [n, ...] of rows; got {np.shape(array)}.")
    return array


def tokens(
    path: str,
    context: Annotated[int, Gt(0)] = 64,
    stride: Annotated[int, Gt(0)] | None = None,
    dtype: Literal["uint16", "uint32"] = "uint16",
    tokenizer: str | None = None,
) -> Dataset:
    """Windows x [n, context] int32 of a flat binary file of token ids, as nanoGPT's .bin, and y the ids that follow each.

    Windows begin `stride` apart, by default `context`, so that every id is read once an epoch; a row's id is its number.
    Two windows share ids where their numbers differ by `context // stride` or less: see `by_position`. `tokenizer` is the
    tokenizer.json that the ids are of: with it they read as text again.
    """
    file, stride = resolve_path(path), stride or context
    if not file.is_file():
        raise FileNotFoundError(f"Token file {path} does not exist.")
    kind = np.dtype(dtype).newbyteorder("<")
    size = file.stat().st_size
    if size % kind.itemsize:
        raise ValueError(f"Token file {path} must hold whole {dtype} numbers of {kind.itemsize} bytes; it has {size} bytes.")
    if size < (context + 1) * kind.itemsize:  # nothing that is empty can be mapped
        got = size // kind.itemsize
        raise ValueError(f"Token file {path} must hold at least {context + 1} ids, one window and its target; got {got}.")
    schema = Schema({"x": Tensor()}, tokenizer=tokenizer_state(tokenizer) if tokenizer else {})
    return windows(np.memmap(file, kind, "r"), path, context, stride, schema, {"stride": stride, "dtype": dtype})


def windows(codes: np.memmap, path: str, context: int, stride: int, schema: Schema, settings: dict[str, Any]) -> Dataset:
    """Windows of mapped ids and the ids that follow each, as `tokens` has them; ValueError for fewer than one."""
    if len(codes) <= context:
        raise ValueError(f"Token file {path} must hold at least {context + 1} ids, one window and its target; got {len(codes)}.")
    within = np.arange(context + 1)

    def read(rows: np.ndarray) -> dict[str, Any]:
        window = codes[rows[:, None] * stride + within].astype(np.int64)
        return {"x": window[:, :-1], "y": window[:, 1:]}

    made = columns(read, read(np.zeros(1, np.int64)), (len(codes) - context - 1) // stride + 1)
    return dataset(made["x"], made["y"], schema=schema, files=[Path(str(codes.filename))], settings=settings)
