"""Boosting of any estimator: members in sequence, each of what those before it got wrong, in one scan."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax import lax
from jax.random import fold_in

from arsenal.combine.folds import summarize
from arsenal.combine.reduction import check_whole_labels, classes_of
from arsenal.combine.whole import trace_host
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator

LEAST_CURVE = 1 / 16
"""The curvature of a row's log loss is taken for at least this, so that no Newton step is longer than 16 in log odds."""


class Boosted(NamedTuple):
    """Members in their order [rounds, ...], and what each counts [rounds]."""

    members: Any
    weight: Any


def ada_boost(
    estimator: Estimator, rounds: Annotated[int, Gt(0)] = 50, learning_rate: Annotated[float, Gt(0)] = 1.0,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """SAMME: a classifier over and over, each time with more weight on the rows that it got wrong; `learning_rate` is traced.

    Zhu et al., Statistics and Its Interface 2 (2009). y [n] in 0..classes-1. It ends with a member that makes no error or does no
    better than guessing; those behind count 0. Weights keep their sum, so that a penalty keeps its meaning. Answers: `predict`,
    `predict_proba`, `decision_function` [n] of two classes or [n, classes]. Equal to scikit-learn's AdaBoostClassifier.

    hp: {"estimator": ..., "learning_rate": ...}.
    """
    k = classes_of(classes, schema)
    called = trace_host(estimator)

    def fit(key, rows, hp):
        total = rows.weight.sum()

        def one(carry, number):
            weight, going = carry
            member, info = called.fit(fold_in(key, number), rows._replace(weight=weight), hp["estimator"])
            wrong = (estimator.apply["predict"](member, rows.x) != rows.y.astype(jnp.int32)).astype(weight.dtype)
            error = jnp.vdot(weight, wrong) / jnp.maximum(total, jnp.finfo(weight.dtype).tiny)
            better = error < 1 - 1 / k
            inside = jnp.clip(error, jnp.finfo(weight.dtype).tiny, 1 - 1 / k)
            rate = jnp.asarray(hp["learning_rate"], float).astype(weight.dtype)
            amount = rate * (jnp.log((1 - inside) / inside) + np.log(k - 1.0).astype(weight.dtype))
            amount = jnp.where(error > 0, amount, 1)
            grown = weight * jnp.exp(jnp.where(error > 0, amount, 0) * wrong)
            grown = grown * (total / jnp.maximum(grown.sum(), jnp.finfo(weight.dtype).tiny))
            counts = jnp.where(going & better, amount, 0)
            return (jnp.where(going & better, grown, weight), going & better & (error > 0)), (member, counts, summarize(info))

        start = rows.weight, jnp.array(True)
        _, (members, counts, info) = lax.scan(one, start, jnp.arange(rounds, dtype=jnp.int32))
        return Boosted(members, counts), Converged(info.converged.all() & (counts > 0).any(), (counts > 0).sum())

    def scores(boosted, x):
        given = jax.vmap(lambda one: estimator.apply["predict"](one, x))(boosted.members)
        hit = (given[..., None] == jnp.arange(k, dtype=given.dtype)).astype(boosted.weight.dtype)
        total = jnp.maximum(boosted.weight.sum(), jnp.finfo(boosted.weight.dtype).tiny)
        return jnp.tensordot(boosted.weight / total, hit - (1 - hit) / (k - 1), 1)

    def decision_function(boosted, x):
        z = scores(boosted, x)
        return z[:, 1] - z[:, 0] if k == 2 else z

    def check(rows):
        check_whole_labels("ada_boost", rows, k)
        estimator.check(rows)

    answers = {
        "predict": lambda boosted, x: jnp.argmax(scores(boosted, x), -1).astype(jnp.int32),
        "predict_proba": lambda boosted, x: jax.nn.softmax(scores(boosted, x) / (k - 1)),
        "decision_function": decision_function,
    }
    hp = {"estimator": estimator.hp, "learning_rate": learning_rate}
    return called._replace(fit=fit, apply=answers, inputs={}, check=check, hp=hp)


class Sum(NamedTuple):
    """Members in their order [rounds, scores, ...], what each counts [], and the scores to begin with [scores]."""

    members: Any
    rate: Any
    start: Any


def gradient_boosting(
    estimator: Estimator, rounds: Annotated[int, Gt(0)] = 100, learning_rate: Annotated[float, Gt(0)] = 0.1,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """A sum of an estimator of numbers, fitted over and over to what is left; `learning_rate` is traced.

    Of numbers what is left is the residual (Friedman, Annals of Statistics 29, 2001); where there are `classes` it is the Newton
    step of the log loss, with the curvature as weight (LogitBoost: Friedman, Hastie & Tibshirani, Annals of Statistics 28, 2000).
    The estimator is one of numbers even so: in a config with labels `schema: null` beside it says that. Answers: `predict`, of
    classes also `predict_proba` and `decision_function` [n] or [n, classes]. Of numbers equal to scikit-learn's
    GradientBoostingRegressor where the estimator is its tree.

    hp: {"estimator": ..., "learning_rate": ...}.
    """
    k = classes_of(classes, schema, 0)
    called, outputs = trace_host(estimator), 1 if k in (0, 2) else k

    def begin(rows, dtype):
        if not k:
            return weighted_mean(rows.y.astype(dtype), rows.weight.astype(dtype))[None]
        share = weighted_mean(jax.nn.one_hot(rows.y, k, dtype=dtype), rows.weight.astype(dtype))
        logs = jnp.log(jnp.maximum(share, 1e-6))
        return logs[1:] - logs[:1] if k == 2 else logs

    def left(scores, rows):
        """What a member shall say of each score [n, outputs], and how much a row counts."""
        if not k:
            return rows.y.astype(scores.dtype)[:, None] - scores, jnp.ones_like(scores)
        hot = jax.nn.one_hot(rows.y, k, dtype=scores.dtype)
        hot, p = (hot[:, 1:], jax.nn.sigmoid(scores)) if k == 2 else (hot, jax.nn.softmax(scores))
        # A step of less than Newton's still ends where the gradient is 0, which one cut off would not.
        curve = jnp.maximum(p * (1 - p), LEAST_CURVE)
        return (hot - p) / curve, curve

    def said(member, x):
        """What a member adds to the scores [n, outputs]."""
        given = jax.vmap(lambda one: estimator.apply["predict"](one, x), 0, 1)(member)
        if not jnp.issubdtype(given.dtype, jnp.floating):
            raise ValueError(
                "`gradient_boosting` takes an estimator of numbers, in a config with `schema: null`; its `predict` gives "
                f"{given.dtype}."
            )
        return given if outputs == 1 else (given - given.mean(1, keepdims=True)) * ((k - 1) / k)

    def fit(key, rows, hp):
        dtype = rows.weight.dtype
        rate = jnp.asarray(hp["learning_rate"], float).astype(dtype)
        start = begin(rows, dtype)

        def one(scores, number):
            wanted, curve = left(scores, rows)

            def fit_score(output, wanted, curve):
                mine = rows._replace(y=wanted, weight=rows.weight * curve)
                return called.fit(fold_in(fold_in(key, number), output), mine, hp["estimator"])

            member, info = jax.vmap(fit_score, (0, 1, 1))(jnp.arange(outputs, dtype=jnp.int32), wanted, curve)
            return scores + rate * said(member, rows.x).astype(dtype), (member, summarize(info))

        first = jnp.broadcast_to(start, (rows.weight.shape[0], outputs))
        _, (members, info) = lax.scan(one, first, jnp.arange(rounds, dtype=jnp.int32))
        return Sum(members, rate, start), Converged(info.converged.all(), jnp.array(rounds))

    def scores(total, x):
        shapes = jax.eval_shape(said, jax.tree.map(lambda leaf: leaf[0], total.members), x)

        def add(so_far, member):
            return so_far + total.rate * said(member, x).astype(so_far.dtype), None

        return lax.scan(add, jnp.broadcast_to(total.start, shapes.shape), total.members)[0]

    def proba(total, x):
        z = scores(total, x)
        return jax.nn.softmax(jnp.concatenate([jnp.zeros_like(z), z], 1) if k == 2 else z)

    def check(rows):
        if k:
            check_whole_labels("gradient_boosting", rows, k)
        elif np.ndim(rows.y) != 1:
            raise ValueError(f"`gradient_boosting` takes one number for each row, y [n]; got shape {np.shape(rows.y)}.")
        numbers = rows.y if isinstance(rows.y, jax.ShapeDtypeStruct) else np.asarray(rows.y).astype(np.float32)
        estimator.check(rows._replace(y=numbers))

    if not k:
        answers = {"predict": lambda total, x: scores(total, x)[:, 0]}
    else:
        answers = {
            "predict": lambda total, x: jnp.argmax(proba(total, x), -1).astype(jnp.int32),
            "predict_proba": proba,
            "decision_function": lambda total, x: scores(total, x)[:, 0] if k == 2 else scores(total, x),
        }
    hp = {"estimator": estimator.hp, "learning_rate": learning_rate}
    return called._replace(fit=fit, apply=answers, inputs={}, check=check, hp=hp)
