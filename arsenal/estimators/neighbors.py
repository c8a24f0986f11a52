"""Answers from the training rows that lie near: nearest neighbours and nearest class means."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.discriminant import DONE, class_answers, classes_of
from arsenal.estimators.linear import check_labels, check_number
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Estimator

SPARE = 8
"""Rows that a matrix product finds beyond the neighbours asked for, since it rounds more than differences do."""
HELD = 1 << 23
"""Numbers held at once."""


class Neighbors(NamedTuple):
    """The training rows: x [n, d] less their mean [d], targets [n], weights [n]."""

    x: Any
    mean: Any
    y: Any
    weight: Any


class Ball(NamedTuple):
    """The training rows, and how near one must be."""

    rows: Any
    radius: Any


class Centroids(NamedTuple):
    """The means of the classes [classes, d], and the deviation within them of every feature [d]."""

    mean: Any
    deviation: Any


def k_neighbors(
    neighbors: Annotated[int, Gt(0)] = 5, weights: Literal["uniform", "distance"] = "uniform",
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The mean, or the shares of the `classes`, of the nearest training rows. Cover & Hart, IEEE TIT 13 (1967).

    x [n, d] (further axes are flattened), y [n], labels where there are `classes`, which the data's labels say by themselves. By
    Euclidean distance; `weights` are uniform or 1 / distance, of rows at distance 0 theirs alone. A row of weight 2 is two of the
    neighbours, of rows equally far the earlier ones are taken. The search is exact, by matrix products in blocks, so memory is
    bounded; the rows are the parameters. Answers: `predict` [n], of classes also `predict_proba` [n, classes]. Equal to
    scikit-learn's KNeighborsClassifier and KNeighborsRegressor.

    >>> from arsenal.records import batch
    >>> made = k_neighbors(2)
    >>> fitted, _ = made.fit(None, batch(x=[[0.0], [1.0], [5.0]], y=[1.0, 2.0, 9.0]), {})
    >>> made.apply["predict"](fitted, jnp.array([[0.2], [4.0]])).tolist()
    [1.5, 5.5]
    """
    check_weights("k_neighbors", weights)
    k = classes_of(classes, schema, 0) or None

    def fit(key, rows, hp):
        return keep_rows(rows, k), DONE

    def answer(fitted, row, at):
        """Of a row [d] and the positions [m] of those that may be near, in rising order: the mean or the shares."""
        squares = jnp.square(fitted.x[at] - row).sum(1)
        order = jnp.argsort(squares)
        at, distance = at[order], jnp.sqrt(squares[order])
        weight = fitted.weight[at]
        part = jnp.clip(neighbors - (jnp.cumsum(weight) - weight), 0, weight)
        if weights == "distance":
            met = (distance == 0) & (part > 0)
            part *= jnp.where(met.any(), met.astype(part.dtype), 1 / jnp.where(distance > 0, distance, 1))
        target = jax.nn.one_hot(fitted.y[at], k, dtype=part.dtype) if k else fitted.y[at]
        return part @ target / part.sum()

    def search(fitted, x):
        """Of rows [n, d] already less the mean."""
        n = fitted.x.shape[0]
        lengths = jnp.where(fitted.weight > 0, jnp.square(fitted.x).sum(1), jnp.inf)

        def block(rows):
            near = lengths - 2 * jnp.matmul(rows, fitted.x.T, precision="highest")
            at = jnp.sort(lax.top_k(-near, min(n, neighbors + SPARE))[1], 1)
            return jax.vmap(answer, (None, 0, 0))(fitted, rows, at)

        def few(x):
            return in_blocks(block, x, HELD // max(n, (neighbors + SPARE) * x.shape[1]))

        def all_rows(x):
            return lax.map(lambda row: answer(fitted, row, jnp.arange(n)), x)

        if n <= neighbors + SPARE:
            return block(x)
        # Rows of weight 1/2 may be needed by the dozen to make a neighbour: then every row is looked at.
        return lax.cond(jnp.where(fitted.weight > 0, fitted.weight, 1).min() >= 1, few, all_rows, x)

    def found(fitted, x):
        return search(fitted, flatten_rows(x) - fitted.mean)

    def check(rows):
        check_targets("k_neighbors", rows, k)
        if (total := float(np.asarray(rows.weight).sum())) < neighbors:
            raise ValueError(f"`k_neighbors` needs as many rows as `neighbors`, {neighbors}; got {total:g}.")

    return Estimator(fit, mean_answers(found, k), check=check)


def radius_neighbors(
    radius: Annotated[float, Gt(0)] = 1.0, weights: Literal["uniform", "distance"] = "uniform",
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The mean, or the shares of the `classes`, of the training rows within `radius`, which is traced; else as `k_neighbors`.

    Where no row is so near it is that of all rows. Equal to scikit-learn's RadiusNeighborsClassifier and
    RadiusNeighborsRegressor, which refuse or answer NaN there.
    """
    check_weights("radius_neighbors", weights)
    k = classes_of(classes, schema, 0) or None

    def fit(key, rows, hp):
        return Ball(keep_rows(rows, k), jnp.asarray(hp["radius"], rows.x.dtype)), DONE

    def found(fitted, x):
        rows = fitted.rows
        target = jax.nn.one_hot(rows.y, k, dtype=rows.x.dtype) if k else rows.y[:, None]

        def block(x):
            # By differences: a product rounds what is at the border, or at 0.
            squares = jnp.square(x[:, None] - rows.x).sum(-1)
            part = jnp.where(squares <= jnp.square(fitted.radius), rows.weight, 0)
            if weights == "distance":
                met = (squares == 0) & (part > 0)
                near = part / jnp.sqrt(jnp.where(squares > 0, squares, 1))
                part = jnp.where(met.any(1, keepdims=True), jnp.where(met, part, 0), near)
            part = jnp.where((part > 0).any(1, keepdims=True), part, rows.weight)
            return part @ target / part.sum(1, keepdims=True)

        made = in_blocks(block, flatten_rows(x) - rows.mean, HELD // rows.x.size)
        return made if k else made[:, 0]

    def check(rows):
        check_targets("radius_neighbors", rows, k)
        if not (np.asarray(rows.weight) > 0).any():
            raise ValueError("`radius_neighbors` needs rows with weight; got none.")

    return Estimator(fit, mean_answers(found, k), check=check, hp={"radius": radius})


def keep_rows(rows: Any, classes: int | None) -> Neighbors:
    """The rows as parameters."""
    x = flatten_rows(rows.x)
    mean = weighted_mean(x, rows.weight)
    return Neighbors(x - mean, mean, rows.y if classes else rows.y.astype(x.dtype), rows.weight.astype(x.dtype))


def mean_answers(found: Callable, classes: int | None) -> dict:
    """The answers of a function `(params, x) ->` means [n] or shares [n, classes]."""
    if classes is None:
        return {"predict": found}
    return {"predict": lambda fitted, x: jnp.argmax(found(fitted, x), -1).astype(jnp.int32), "predict_proba": found}


def in_blocks(f: Callable, x: jax.Array, size: int) -> jax.Array:
    """`f(x)` of rows x [n, d], at most `size` of them at once, or all where n is a symbol: an artifact's server bounds it."""
    size = max(1, size)
    if not isinstance(x.shape[0], int) or x.shape[0] <= size:
        return f(x)
    whole = x.shape[0] // size * size
    made = lax.map(f, x[:whole].reshape(-1, size, x.shape[1]))
    return jnp.concatenate([made.reshape(whole, *made.shape[2:]), f(x[whole:])])


def check_weights(name: str, weights: str) -> None:
    """Raise ValueError for an unknown way to weigh neighbours."""
    if weights not in ("uniform", "distance"):
        raise ValueError(f"`weights` of `{name}` must be uniform or distance; got {weights!r}.")


def check_targets(name: str, rows: Any, classes: int | None) -> None:
    """Raise ValueError unless there is a number, or a label below `classes`, for each row; a class may be absent."""
    if classes is None:
        return check_number(name, rows)
    if not isinstance(rows.y, jax.ShapeDtypeStruct):
        labels = np.unique(np.asarray(rows.y)[np.asarray(rows.weight) > 0])
        if not np.isin(labels, np.arange(classes)).all():
            raise ValueError(f"`{name}` takes labels 0 to {classes - 1}; got {labels[:10].tolist()}.")


def nearest_centroid(
    shrink_threshold: Annotated[float, Ge(0)] = 0.0, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """The class whose mean is nearest; `shrink_threshold`, traced, moves means towards that of all, in standard errors.

    Tibshirani et al., PNAS 99 (2002); Hastie, Tibshirani & Friedman (2009), 18.2. x [n, d], y [n] in 0..classes-1. Answers:
    `predict` by plain distance, `predict_proba` and `decision_function` [n, classes] by that of features over their deviation
    within classes, so the two may differ. Equal to scikit-learn's NearestCentroid.
    """
    k = classes_of(classes, schema)

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        mine = jax.nn.one_hot(rows.y, k, dtype=x.dtype) * weight[:, None]
        count, total = mine.sum(0), jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)
        mean = mine.T @ x / count[:, None]
        within = jax.vmap(lambda own, center: own @ (x - center) ** 2, in_axes=(1, 0))(mine, mean).sum(0)
        deviation = jnp.sqrt(within / (total - k))
        middle = weighted_mean(x, weight)
        error = jnp.sqrt(1 / count - 1 / total)[:, None] * (deviation + jnp.median(deviation))
        off = (mean - middle) / jnp.where(error > 0, error, 1)
        off = jnp.sign(off) * jnp.maximum(jnp.abs(off) - hp["shrink_threshold"], 0)
        shrunk = jnp.where((hp["shrink_threshold"] > 0) & (error > 0), middle + error * off, mean)
        return Centroids(shrunk, jnp.where(deviation > 0, deviation, 1)), DONE

    def scores(fitted, x):
        off = (x[:, None] - fitted.mean) / fitted.deviation
        return -jnp.square(off).sum(-1) - 2 * jnp.log(jnp.asarray(k, off.dtype))

    def predict(fitted, x):
        return jnp.argmin(jnp.square(x[:, None] - fitted.mean).sum(-1), -1).astype(jnp.int32)

    def check(rows):
        check_labels("nearest_centroid", rows, k)
        if (total := float(np.asarray(rows.weight).sum())) <= k:
            raise ValueError(f"`nearest_centroid` needs more rows than classes, {k}; got {total:g}.")

    answers = class_answers(scores) | {"predict": predict}
    return Estimator(fit, answers, check=check, hp={"shrink_threshold": shrink_threshold})
