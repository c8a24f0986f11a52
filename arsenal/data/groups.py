"""Row groups of a Parquet file, read when their rows are asked for: a table in as much memory as a few groups take."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arsenal.data.codec import category
from arsenal.data.column import as_plain, columns, row_bytes
from arsenal.data.dataset import Dataset, dataset
from arsenal.data.frame import (
    aux_columns,
    choose_columns,
    is_number,
    refuse_gaps,
    refuse_numbers_as_text,
    table_schema,
    target_column,
    tensors,
)

HELD = 256 * 2**20
"""Bytes of decoded groups at hand at once, about; one group at least."""


def row_groups(
    path: Path, target: str | None, features: Sequence[str] | None, id: str | None, missing: str, aux: Sequence[str] = ()
) -> Dataset:
    """The rows of a Parquet file, typed as `frame.table` does; one pass over the file learns which strings there are.

    A row's id is its place in the file unless a column `id` is named. Rows of a group are cheap together: write files
    with groups of some megabytes.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"Data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    empty = file.schema_arrow.empty_table().to_pandas()
    names, used = choose_columns(empty.columns, target, features, id, aux)
    text = [name for name in used if name != id and not is_number(empty[name])]

    def group(number: int) -> Any:
        return file.read_row_group(number, columns=used).to_pandas()[used].reset_index(drop=True)

    # Of every string how often it is there and where first, of every group how many rows are whole.
    found: dict[str, dict[str, list[int]]] = {name: {} for name in text}
    gaps, sizes, ids, kinds, begin = dict.fromkeys(used, 0), [], [], [], 0
    for number in range(file.num_row_groups):
        frame = group(number)
        missed = frame.isna()
        gaps = {name: count + int(missed[name].sum()) for name, count in gaps.items()}
        kinds += [frame[target].dtype] if target and target not in text else []
        frame = frame[~missed.any(axis=1)]
        for name in text:
            counts = frame[name].value_counts()
            for row, value in frame[name].drop_duplicates().items():
                found[name].setdefault(value, [0, begin + row])[0] += int(counts[value])
        sizes.append(len(frame))
        ids.append(frame[id].to_numpy() if id else frame.index.to_numpy() + begin)
        begin += len(missed)
    refuse_gaps(gaps, missing)
    if sum(sizes) == 0:
        raise ValueError("The table has no row" + (" without missing values." if begin else "."))
    for name in text:
        counts, firsts = np.array(list(found[name].values())).T
        refuse_numbers_as_text(pd.Series(list(found[name]), firsts, name=name, dtype=object), counts)
    schema = table_schema(names, target, {name: category().fit(list(found[name])) for name in text})
    kind = np.result_type(*kinds) if kinds else None
    there = [number for number, size in enumerate(sizes) if size]
    chunks = np.concatenate([[0], np.cumsum([sizes[number] for number in there])])

    def decode(number: int) -> dict[str, Any]:
        frame = group(number).dropna()
        y = target_column(frame, target, schema)
        beside = {name: as_plain(values) for name, values in (aux_columns(frame, aux, schema) or {}).items()}
        made = {"x": tensors(frame, schema), "aux": beside or ()}
        return made | ({} if y is None else {"y": as_plain(y if kind is None else y.astype(kind))})

    like = jax.tree.map(lambda v: v[:1], decode(there[0]))
    largest = max(sizes) * row_bytes(like)
    together = min(len(there), max(1, HELD // max(1, largest)))
    held: OrderedDict[int, Any] = OrderedDict()

    def read(rows: np.ndarray) -> dict[str, Any]:
        made = jax.tree.map(lambda v: np.empty((len(rows), *v.shape[1:]), v.dtype), like)
        where = np.searchsorted(chunks, rows, side="right") - 1
        _, firsts = np.unique(where, return_index=True)
        for place in where[np.sort(firsts)]:  # in the order of the rows, so that the last ones stay at hand
            if place not in held:
                held[place] = decode(there[place])
            held.move_to_end(place)
            while len(held) > together + 1:
                held.popitem(last=False)
            here = where == place
            for out, values in zip(jax.tree.leaves(made), jax.tree.leaves(held[place]), strict=True):
                out[here] = values[rows[here] - chunks[place]]
        return made

    made = columns(read, like, int(chunks[-1]), chunks, together)
    return dataset(
        made["x"], made.get("y"), np.concatenate(ids), aux=made["aux"], schema=schema, files=[path], settings={"target": target}
    )
