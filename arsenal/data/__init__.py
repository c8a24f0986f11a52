"""Where rows come from: data sets, their schema, splits and the order of batches."""

from arsenal.data.bundled import breast_cancer, digits
from arsenal.data.dataset import Dataset, Schema, as_dataset
from arsenal.data.files import csv, npz, parquet
from arsenal.data.source import arrays, nothing, stream
from arsenal.data.splits import by_row

__all__ = [
    "Dataset", "Schema", "arrays", "as_dataset", "breast_cancer", "by_row",
    "csv", "digits", "nothing", "npz", "parquet", "stream",
]  # fmt: skip
