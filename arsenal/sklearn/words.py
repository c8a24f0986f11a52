"""Columns of words of another library's trees: inputs with codecs, and the numbers that the trees read."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.export import Tensor

from arsenal.estimators.boosters import Ensemble


class Words(NamedTuple):
    """Which features are numbers and which are words, and what stands for them in an artifact."""

    numeric: list[int]
    categorical: list[int]
    inputs: dict[str, Tensor]
    codecs: dict[str, Any]


def find_words(found: Ensemble) -> Words:
    """The inputs `numeric`, unless there is none, and `categorical`, of which every column has a codec of its own."""
    names = [str(name) for name in found.columns or [f"x{i}" for i in range(found.features)]]
    numeric = [i for i in range(found.features) if i not in found.levels]
    categorical = sorted(found.levels)
    states = {
        f"words of {names[i]}": {"kind": "category", "values": list(map(cells.text, found.levels[i])), "missing": []}
        for i in categorical
    }
    inputs = {"numeric": Tensor(columns=[names[i] for i in numeric], gaps=cells.MISSING)} if numeric else {}
    inputs["categorical"] = Tensor(columns=[names[i] for i in categorical], codec=list(states))
    return Words(numeric, categorical, inputs, states)


def read_words(words: Words, apply: Callable, dtype: np.dtype) -> Callable:
    """An answer to x [n, features] as one to the inputs; codes beyond the words are the unknown one, -1, and the missing, NaN."""
    known = np.array([len(state["values"]) for state in words.codecs.values()], np.int32)
    order = np.argsort(words.numeric + words.categorical)

    def call(params, x):
        codes = x["categorical"].astype(jnp.int32)
        codes = jnp.where(codes > known, jnp.nan, jnp.where(codes == known, -1, codes).astype(dtype))
        return apply(params, jnp.concatenate([x["numeric"], codes] if words.numeric else [codes], 1)[:, order])

    return call


def word_rows(words: Words, example: Any, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Rows as the library takes them, columns in its order, as inputs; two of zeros where there are none."""
    if example is None:
        numbers, codes = np.zeros((2, len(words.numeric)), dtype), np.zeros((2, len(words.categorical)), np.int32)
    else:
        rows = np.asarray(example, object)
        pairs = zip(words.categorical, words.codecs.values(), strict=True)
        codes = np.stack([codecs.encode(state, rows[:, column]) for column, state in pairs], 1)
        numbers = rows[:, words.numeric].astype(dtype)
    return {"numeric": numbers, "categorical": codes} if words.numeric else {"categorical": codes}
