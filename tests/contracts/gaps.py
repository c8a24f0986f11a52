"""Tables as transforms see them: numbers with gaps, codes that are unknown or missing, times, texts; and their schema."""

import jax.numpy as jnp
import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Schema
from arsenal.features.time import MISSING
from arsenal.records import batch

NAN = float("nan")
WEIGHT, ROW = [1, 2, 1, 0.5, 1, 1], [3, 1, 4, 15, 9, 2]
NUMBERS = jnp.array([[0.5, 10, 1], [NAN, -3, 1], [1.5, NAN, 1], [-2, 4, NAN], [NAN, 7, 1], [0.25, 4, 1]], jnp.float32)
CODES = jnp.array([[0, 1], [1, 3], [2, 0], [4, 0], [1, 2], [0, 1]], jnp.int32)
TIMES = jnp.array([[0, 19782], [1_700_000_000, MISSING], [MISSING, -719162], [951_782_400, 1], [-1, 59], [86_399, 366]], jnp.int32)
WORDS = jnp.array([[[0, 1, 1]], [[2, -1, -1]], [[-1, -1, -1]], [[3, 0, 6]], [[1, 2, 0]], [[5, 4, -1]]], jnp.int32)
TARGET = jnp.array([1.0, 3.0, -2.0, 0.5, 4.0, 2.0])
GAPS = batch(x=NUMBERS, y=TARGET, weight=WEIGHT, row=ROW)
CODED = GAPS._replace(x=CODES)
TIMED = GAPS._replace(x=TIMES)
TABLE = GAPS._replace(x={"numeric": NUMBERS, "categorical": CODES, "time": TIMES})
"""Three, three with a code for the missing and two levels; seconds and days."""
CODECS = {
    "town": {"kind": "category", "values": ["Bern", "Köln", "Oslo"], "missing": [""]},
    "smokes": {"kind": "boolean", "missing": [""]},
    "seen": {"kind": "time", "unit": "s", "missing": [""]},
    "born": {"kind": "time", "unit": "D", "missing": [""]},
}
INPUTS = {
    "numeric": Tensor(columns=["age", "fare", "pc_1"]),
    "categorical": Tensor(columns=["town", "smokes"], codec=["town", "smokes"]),
    "time": Tensor(columns=["seen", "born"], codec=["seen", "born"]),
}
SCHEMA = Schema(INPUTS, Tensor(), CODECS)
TEXTS = GAPS._replace(x=WORDS)
PROSE = TABLE._replace(x=TABLE.x | {"text": WORDS})
NOTE = {"kind": "text", "analyzer": "word", "ngrams": [1, 1], "buckets": 7, "length": 3, "missing": [""]}
WITH_TEXT = Schema(INPUTS | {"text": Tensor(columns=["note"], codec=["note"])}, Tensor(), CODECS | {"note": NOTE})
NAMES = {name: list(tensor.columns) for name, tensor in INPUTS.items()}


def repeat(x, weight):
    """The rows, each as often as its whole weight says."""
    return np.repeat(np.asarray(x), np.asarray(weight).astype(int), 0)
