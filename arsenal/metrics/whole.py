"""Metrics of all rows at once: exact where no sum would do, counted on the host."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.metrics.average import answer
from arsenal.records import Batch, Metric


class Rows(NamedTuple):
    """The rows of a batch that are there: the answers that are read, and the batch."""

    outputs: dict[str, Any]
    batch: Batch


def whole_rows(
    name: str, value: Callable[[dict[str, Any], Batch], Any], reads: Sequence[str] = ("predict",), mode: str | None = None,
    inputs: bool = False, check: Callable[[dict[str, Any], Batch], None] = lambda outputs, batch: None,
    names: Sequence[str] = (),
) -> Metric:  # fmt: skip
    """The number `value(outputs, batch)` of all rows at once, under `name`: exact, in memory that grows with the rows.

    It is called once, with NumPy's arrays of the rows of weight > 0 in the order of their ids: y, weight, row, the answers
    `reads` and, where `inputs` says so, x. NaN without rows, and where a float that it would see is not finite. `mode` is
    `min` or `max` where small or large values are known to be good. `check` raises ValueError for answers of a shape that does
    not fit, before anything is learned. With `names` the value is a dictionary of several numbers, those.

    >>> metric = whole_rows("median", lambda outputs, batch: np.median(outputs["predict"]))
    >>> rows = Batch(None, np.zeros(3), np.ones(3), np.arange(3))
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": np.array([5.0, 1.0, 2.0])}, rows))["median"])
    2.0
    """

    def update(acc, outputs, batch):
        there = np.asarray(batch.weight) > 0
        kept = {one: answer(outputs, one, name) for one in reads}
        check(kept, batch)
        batch = Batch(batch.x if inputs else None, batch.y, batch.weight, batch.row)
        for leaf in jax.tree.leaves((kept, batch)):
            if np.shape(leaf)[:1] != there.shape:
                raise ValueError(f"`{name}` takes answers and targets of {len(there)} rows; got shape {np.shape(leaf)}.")
        return (*acc, jax.tree.map(lambda leaf: np.asarray(leaf)[there], Rows(kept, batch)))

    def compute(acc):
        parts = [part for part in acc if len(part.batch.weight)]
        if not parts:
            return dict.fromkeys(names or [name], np.nan)
        # By id, so that the value does not depend on the order in which rows came.
        order = np.argsort(np.concatenate([part.batch.row for part in parts]), kind="stable")
        rows = jax.tree.map(lambda *leaves: widen_half(np.concatenate(leaves)[order]), *parts)
        if not all(map(is_finite, jax.tree.leaves(rows))):
            return dict.fromkeys(names or [name], np.nan)
        return value(*rows) if names else {name: float(value(*rows))}

    return on_host(name, lambda: (), update, lambda a, b: (*a, *b), compute, mode, (*reads, *(["x"] if inputs else [])))


def on_host(
    name: str, empty: Callable, update: Callable, merge: Callable, compute: Callable, mode: str | None, reads: tuple[str, ...],
    memory: str = "the answers and targets of all rows",
):  # fmt: skip
    """A metric that is counted on the host, which says what it keeps there."""
    return Metric(empty, update, merge, compute, mode, reads, exempt={"host": f"`{name}` keeps {memory}"})


def widen_half(leaf: np.ndarray) -> np.ndarray:
    """Half precision as float32, which NumPy's functions know; everything else as it is."""
    return leaf.astype(np.float32) if leaf.dtype.name in ("bfloat16", "float16") else leaf


def is_finite(leaf: np.ndarray) -> bool:
    """Whether an array holds no float that is infinite or NaN."""
    return leaf.dtype.kind != "f" or bool(np.isfinite(leaf).all())


def call_sklearn(function: str, *given: Any, **more: Any) -> float:
    """scikit-learn's metric of this name, without its warnings that a value is not defined, which is NaN or 0 then."""
    import sklearn.metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return float(getattr(sklearn.metrics, function)(*given, **more))


def repeat_rows(name: str, batch: Batch, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays with each row as often as it weighs, for what takes no weights; ValueError where one is not whole."""
    weight = np.asarray(batch.weight)
    broken = weight[weight != np.round(weight)]
    if len(broken):
        raise ValueError(f"`{name}` takes whole weights, how often a row is there; got {broken[0]:g}.")
    return [np.repeat(array, weight.astype(int), axis=0) for array in arrays]
