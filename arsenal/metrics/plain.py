"""Metrics without the record: a plain function becomes one, and one is asked about plain arrays."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.metrics.average import answer, average
from arsenal.records import Batch, Metric


def as_metric(metric: Any, name: str = "metric") -> Metric:
    """A `Metric` as it is; a function `(y, predict) -> [n]` or `(outputs, batch) -> [n]` as the mean over rows, under `name`.

    Which of the two it is, its first argument says: it is called `outputs` or it is not. TypeError for what is neither,
    ValueError where there is not one value for every row.

    >>> from arsenal.records import batch
    >>> mine = as_metric(lambda y, predict: jnp.abs(predict - y) > 1, "far")
    >>> rows = batch(y=[1.0, 2.0])
    >>> float(mine.compute(mine.update(mine.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["far"])
    0.5
    """
    if isinstance(metric, Metric):
        return metric
    names = argument_names(metric)
    if len(names) != 2:
        named = getattr(metric, "func", metric)  # of a partial
        got = f"{getattr(named, '__name__', type(named).__name__)}({', '.join(names)})" if callable(metric) else repr(metric)
        raise TypeError(f"`{name}` must be a Metric or a function (y, predict) -> [n] or (outputs, batch) -> [n]; got {got}.")

    def value(outputs, batch):
        each = metric(outputs, batch) if names[0] == "outputs" else metric(batch.y, answer(outputs, "predict", name))
        shape = getattr(each, "shape", None)
        if shape != batch.weight.shape:
            raise ValueError(f"`{name}` must give a value for every row, {batch.weight.shape}; got {shape or each}.")
        return each

    return average(name, value)


def argument_names(function: Any) -> list[str]:
    """What a function needs to be called with, by position; nothing of what cannot be called."""
    if not callable(function):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = inspect.signature(function).parameters.values()
    return [one.name for one in known if one.default is one.empty and one.kind in positional]


def measure(metric: Metric, y: Any = None, weight: Any = None, x: Any = None, **answers: Any) -> dict[str, float]:
    """The metric's values of rows in memory, `answers` being what the learner would say of them, by name.

    >>> from arsenal.metrics import accuracy
    >>> measure(accuracy(), [0, 1, 1], predict=[0, 1, 0], weight=[1.0, 1.0, 2.0])
    {'accuracy': 0.5}
    """
    rows = {name: tree_of_columns(given) for name, given in {"x": x, "y": y, **answers}.items()}
    n = len(jax.tree.leaves(rows)[0])
    weight = np.ones(n, np.float32) if weight is None else np.asarray(weight)
    batch = Batch(rows.pop("x"), rows.pop("y"), weight, np.arange(n, dtype=np.int32))
    if "host" not in metric.exempt:
        rows, batch = jax.tree.map(jnp.asarray, (rows, batch))
    return {name: float(value) for name, value in metric.compute(metric.update(metric.empty(), rows, batch)).items()}


def tree_of_columns(given: Any) -> Any:
    """Columns by name, or one, as arrays; strings and lists of them as objects."""
    if given is None or isinstance(given, dict):
        return given and {name: tree_of_columns(one) for name, one in given.items()}
    if not isinstance(given, list | tuple) or not isinstance(given[0], str | list | tuple):
        return np.asarray(given)
    if isinstance(given[0], str) or isinstance(given[0][0], str):
        found = np.empty(len(given), object)
        for at, one in enumerate(given):  # at once NumPy would make two axes of lists of one length
            found[at] = one
        return found
    return np.asarray(given)
