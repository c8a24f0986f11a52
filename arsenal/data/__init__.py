"""Where rows come from: data sets, their schema, splits and the order of batches."""

from arsenal.data.bundled import breast_cancer, diabetes, digits, seeds
from arsenal.data.dataset import Dataset, Schema, as_dataset
from arsenal.data.files import csv, npz, parquet
from arsenal.data.grain import grain
from arsenal.data.images import images
from arsenal.data.mapped import memmap, tokens
from arsenal.data.source import ahead, arrays, feed, nothing, reading, stream, through
from arsenal.data.splits import as_split, by_group, by_position, by_row, by_time, stratified
from arsenal.data.text import decode, encode, text

__all__ = [
    "Dataset", "Schema", "ahead", "arrays", "as_dataset", "as_split", "breast_cancer", "by_group", "by_position", "by_row",
    "by_time", "csv", "decode", "diabetes", "digits", "encode", "feed", "grain", "images", "memmap", "nothing", "npz",
    "parquet", "reading", "seeds", "stratified", "stream", "text", "through", "tokens",
]  # fmt: skip
