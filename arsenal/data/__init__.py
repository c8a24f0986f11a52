"""Where rows come from: data sets, their schema, splits and the order of batches."""

from arsenal.data.baskets import baskets
from arsenal.data.bundled import breast_cancer, diabetes, digits, odd_digits, seeds, wine
from arsenal.data.chat import chat
from arsenal.data.cifar import cifar
from arsenal.data.cloze import cloze
from arsenal.data.dataset import Dataset, Schema, as_dataset
from arsenal.data.files import csv, npz, parquet
from arsenal.data.folds import (
    by_fold,
    combinatorial_purged,
    group_k_fold,
    k_fold,
    leave_one_group_out,
    leave_one_out,
    purged_k_fold,
    shuffle_split,
    stratified_group_k_fold,
    stratified_k_fold,
    time_series,
)
from arsenal.data.grain import grain
from arsenal.data.idx import idx
from arsenal.data.images import images
from arsenal.data.mapped import memmap, tokens
from arsenal.data.mixture import mixture
from arsenal.data.pairs import pairs
from arsenal.data.passages import passages
from arsenal.data.preferences import preferences
from arsenal.data.shapes import shapes
from arsenal.data.source import ahead, arrays, feed, nothing, reading, stream, through
from arsenal.data.spans import spans
from arsenal.data.splits import as_split, by_column, by_group, by_position, by_row, by_time, stratified, without_validation
from arsenal.data.tabular import tabular
from arsenal.data.text import decode, decoder, encode, text
from arsenal.data.webdataset import webdataset

__all__ = [
    "Dataset",
    "Schema",
    "ahead",
    "arrays",
    "as_dataset",
    "as_split",
    "baskets",
    "breast_cancer",
    "by_column",
    "by_fold",
    "by_group",
    "by_position",
    "by_row",
    "by_time",
    "chat",
    "cifar",
    "cloze",
    "combinatorial_purged",
    "csv",
    "decode",
    "decoder",
    "diabetes",
    "digits",
    "encode",
    "feed",
    "grain",
    "group_k_fold",
    "idx",
    "images",
    "k_fold",
    "leave_one_group_out",
    "leave_one_out",
    "memmap",
    "mixture",
    "nothing",
    "npz",
    "odd_digits",
    "pairs",
    "parquet",
    "passages",
    "preferences",
    "purged_k_fold",
    "reading",
    "seeds",
    "shapes",
    "shuffle_split",
    "spans",
    "stratified",
    "stratified_group_k_fold",
    "stratified_k_fold",
    "stream",
    "tabular",
    "text",
    "through",
    "time_series",
    "tokens",
    "webdataset",
    "wine",
    "without_validation",
]
