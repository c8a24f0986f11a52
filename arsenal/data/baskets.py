"""Transactions: a line of text for each basket, as rows of 0 and 1."""

from typing import Literal

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path
from arsenal.data.text import read_bytes, utf8

GROCERIES = "arsenal:data/groceries.txt"
"""1,500 baskets that were drawn by code: meals and habits, each of some of 30 goods, with what people forget and buy besides."""


def baskets(path: str = GROCERIES, separator: str = ",", target: Literal["one", "none"] = "none") -> Dataset:
    """Baskets x [n, items] of 0 and 1, one for every line of a file: its items, in any order, once or more often.

    Items are the distinct ones of the file in order, and x's columns; blank lines are none. With `target` one, an item is taken
    out of every basket of two or more, by turns of the line's number, and is y: what was bought too. A row's id is its line.
    Without a path groceries that ship with arsenal; a table of 0 and 1 is read by `csv`.
    """
    if target not in ("one", "none"):
        raise ValueError(f"`target` of `baskets` must be one or none; got {target!r}.")
    file = resolve_path(path)
    lines = [
        list(dict.fromkeys(item for word in line.split(separator) if (item := word.strip())))
        for line in utf8(read_bytes(file), path).splitlines()
    ]
    least = 2 if target == "one" else 1
    kept = [(number, line) for number, line in enumerate(lines) if len(line) >= least]
    if not kept:
        raise ValueError(f"{path} must have a basket of {least} or more items, separated by {separator!r}; got none.")
    items = sorted({item for _, line in kept for item in line})
    place = {item: i for i, item in enumerate(items)}
    x, y = np.zeros((len(kept), len(items)), np.float32), np.zeros(len(kept), np.int32)
    for row, (number, line) in enumerate(kept):
        x[row, [place[item] for item in line]] = 1
        if target == "one":
            y[row] = place[line[number % len(line)]]
            x[row, y[row]] = 0
    inputs = {"x": Tensor(columns=items)}
    schema = Schema(inputs)
    if target == "one":
        schema = Schema(inputs, Tensor(columns=items, codec="label"), {"label": {"kind": "category", "values": items}})
    ids = [number for number, _ in kept]
    return dataset(x, y if target == "one" else None, row=ids, schema=schema, files=[file])
