"""Where rows come from: data sets, their schema, splits and the order of batches."""

from arsenal.data.bundled import breast_cancer, diabetes, digits, seeds
from arsenal.data.dataset import Dataset, Schema, as_dataset
from arsenal.data.files import csv, npz, parquet
from arsenal.data.grain import grain
from arsenal.data.images import images
from arsenal.data.mapped import memmap, tokens
from arsenal.data.source import ahead, arrays, feed, nothing, reading, stream, through
from arsenal.data.splits import by_position, by_row
from arsenal.data.text import decode, encode, text

__all__ = [
    "Dataset", "Schema", "ahead", "arrays", "as_dataset", "breast_cancer", "by_position", "by_row", "csv",
    "decode", "diabetes", "digits", "encode", "feed", "grain", "images", "memmap", "nothing", "npz",
    "parquet", "reading", "seeds", "stream", "text", "through", "tokens",
]  # fmt: skip
