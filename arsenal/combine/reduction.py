"""Problems of many classes or targets as many of two classes or one target, all fits in one program."""

from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax.random import fold_in

from arsenal.combine.folds import summarize
from arsenal.combine.whole import trace_host
from arsenal.records import Converged, Estimator, mask_dead_rows


def classes_of(classes: int | None, schema: Any, otherwise: int = 2) -> int:
    """How many classes there are: as given, as the labels of the data's schema say, or else two."""
    return classes or (len(schema.target.columns or ()) if schema is not None else 0) or otherwise


def one_vs_rest(estimator: Estimator, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None) -> Estimator:
    """A model of two classes for each of `classes`, that one against all others; the one with the highest score is the answer.

    Rifkin & Klautau, JMLR 5 (2004). The estimator tells two classes apart: say so where it would read from the data's labels how
    many there are (`classes: 2`). y [n] in 0..classes-1; params: the estimator's, [classes, ...]. Answers: `predict`;
    `predict_proba`, made to sum to 1, and `decision_function` [n, classes] where the estimator has them. Equal to scikit-learn's
    OneVsRestClassifier of three classes or more.
    """
    k = classes_of(classes, schema)
    called = trace_host(estimator)

    def fit(key, rows, hp):
        def one(label):
            return called.fit(fold_in(key, label), rows._replace(y=(rows.y == label.astype(rows.y.dtype)).astype(jnp.int32)), hp)

        params, info = jax.vmap(one)(jnp.arange(k, dtype=jnp.int32))
        return params, summarize(info)

    def scores(params, x):
        return jax.vmap(lambda one: second_score("one_vs_rest", estimator, one, x), 0, 1)(params)

    def proba(params, x):
        shares = jax.vmap(lambda one: estimator.apply["predict_proba"](one, x)[:, 1], 0, 1)(params)
        total = shares.sum(1, keepdims=True)
        return jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 1 / k)

    def check(rows):
        check_whole_labels("one_vs_rest", rows, k)
        for label in range(k) if hasattr(rows.y, "__array__") else ():
            estimator.check(rows._replace(y=(np.asarray(rows.y) == label).astype(np.int32)))

    answers = {"predict": lambda params, x: jnp.argmax(scores(params, x), -1).astype(jnp.int32)}
    answers |= {"predict_proba": proba} if "predict_proba" in estimator.apply else {}
    answers |= {"decision_function": scores} if "decision_function" in estimator.apply else {}
    return called._replace(fit=fit, apply=answers, inputs={}, check=check)


def one_vs_one(estimator: Estimator, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None) -> Estimator:
    """A model for each pair of `classes`, of their rows alone; the class with the most votes, then the highest scores, answers.

    Hastie & Tibshirani, Annals of Statistics 26 (1998). The estimator tells two classes apart: see `one_vs_rest`. params: the
    estimator's, [pairs, ...], pairs in the order 0-1, 0-2, ..., 1-2. Answers: `predict`, `decision_function` [n, classes], votes
    and less than half a vote for scores. Equal to scikit-learn's OneVsOneClassifier of three classes or more.
    """
    k = classes_of(classes, schema)
    called = trace_host(estimator)
    first, second = np.triu_indices(k, 1)

    def fit(key, rows, hp):
        def one(pair, low, high):
            upper = rows.y == high.astype(rows.y.dtype)
            inside = upper | (rows.y == low.astype(rows.y.dtype))
            mine = rows._replace(y=upper.astype(jnp.int32), weight=jnp.where(inside, rows.weight, 0))
            return called.fit(fold_in(key, pair), mask_dead_rows(mine), hp)

        pairs = (jnp.asarray(value, jnp.int32) for value in (np.arange(len(first)), first, second))
        params, info = jax.vmap(one)(*pairs)
        return params, summarize(info)

    def scores(params, x):
        given = jax.vmap(lambda one: second_score("one_vs_one", estimator, one, x), 0, 1)(params)
        won = jax.vmap(lambda one: estimator.apply["predict"](one, x), 0, 1)(params).astype(given.dtype)
        low, high = (jnp.asarray(np.eye(k)[side], given.dtype) for side in (first, second))  # [pairs, classes]
        votes, sums = (1 - won) @ low + won @ high, given @ high - given @ low
        return votes + sums / (3 * (jnp.abs(sums) + 1))

    def check(rows):
        check_whole_labels("one_vs_one", rows, k)
        for low, high in zip(first, second, strict=True) if hasattr(rows.y, "__array__") else ():
            y = np.asarray(rows.y)
            weight = np.where((y == low) | (y == high), np.asarray(rows.weight), 0)
            estimator.check(rows._replace(y=(y == high).astype(np.int32), weight=weight))

    answers = {"predict": lambda params, x: jnp.argmax(scores(params, x), -1).astype(jnp.int32), "decision_function": scores}
    return called._replace(fit=fit, apply=answers, inputs={}, check=check)


def multi_output(estimator: Estimator) -> Estimator:
    """A model for every column of y [n, m]: all answers have the columns as their second axis, `predict` [n, m].

    params: the estimator's, [m, ...]. Equal to scikit-learn's MultiOutputRegressor and MultiOutputClassifier.
    """
    called = trace_host(estimator)

    def fit(key, rows, hp):
        def one(column, y):
            return called.fit(fold_in(key, column), rows._replace(y=y), hp)

        params, info = jax.vmap(one, (0, 1))(jnp.arange(rows.y.shape[1], dtype=jnp.int32), rows.y)
        return params, summarize(info)

    def check(rows):
        if np.ndim(rows.y) != 2:
            raise ValueError(f"`multi_output` takes y [n, targets]; got shape {np.shape(rows.y)}.")
        for column in range(rows.y.shape[1]) if hasattr(rows.y, "__array__") else ():
            estimator.check(rows._replace(y=rows.y[:, column]))

    many = {name: jax.vmap(f, (0, None), 1) for name, f in estimator.apply.items() if name not in estimator.inputs}
    return called._replace(fit=fit, apply=many, inputs={}, check=check)


def classifier_chain(estimator: Estimator, order: Sequence[Annotated[int, Ge(0)]] | None = None) -> Estimator:
    """A model for every column of labels y [n, m] that also sees the columns before it, so that labels that go together do so.

    Read et al., Machine Learning 85 (2011). x [n, d]; in training a model sees the true labels of those before it, as numbers
    behind x, to answer what their models said. `order` of the columns, 0 to m-1 unless given. params: the estimator's, of each
    column one. Answers: the estimator's, columns as their second axis. Equal to scikit-learn's ClassifierChain.
    """
    called = trace_host(estimator)

    def places(count):
        return list(range(count)) if order is None else list(order)

    def fit(key, rows, hp):
        params, infos, x = {}, [], rows.x
        for column in places(rows.y.shape[1]):
            y = rows.y[:, column]
            params[str(column)], info = called.fit(fold_in(key, column), rows._replace(x=x, y=y), hp)
            infos.append(summarize(info))
            x = jnp.concatenate([x, y.astype(x.dtype)[:, None]], 1)
        made = Converged(*(jnp.stack(parts) for parts in zip(*infos, strict=True)))
        return params, summarize(made)

    def read(name):
        def answer(params, x):
            found = {}
            for column in places(len(params)):
                found[column] = estimator.apply[name](params[str(column)], x)
                y = estimator.apply["predict"](params[str(column)], x)
                x = jnp.concatenate([x, y.astype(x.dtype)[:, None]], 1)
            return jnp.stack([found[column] for column in range(len(params))], 1)

        return answer

    def check(rows):
        if isinstance(rows.x, dict) or np.ndim(rows.x) != 2 or np.ndim(rows.y) != 2:
            got = f"inputs {', '.join(rows.x)}" if isinstance(rows.x, dict) else f"x of shape {np.shape(rows.x)}"
            raise ValueError(f"`classifier_chain` takes x [n, d] and y [n, targets]; got {got}, y of shape {np.shape(rows.y)}.")
        count = rows.y.shape[1]
        if sorted(places(count)) != list(range(count)):
            raise ValueError(f"`order` of `classifier_chain` must be 0 to {count - 1}, each once; got {places(count)}.")
        for column in range(count) if hasattr(rows.y, "__array__") else ():
            estimator.check(rows._replace(y=rows.y[:, column]))

    many = {name: read(name) for name in estimator.apply if name not in estimator.inputs}
    return called._replace(fit=fit, apply=many, inputs={}, check=check)


def second_score(combinator: str, estimator: Estimator, params: Any, x: Any) -> jax.Array:
    """The score [n] of the second class: its `decision_function`, else its probability."""
    if "decision_function" in estimator.apply:
        given = estimator.apply["decision_function"](params, x)
        given = given[:, 1] - given[:, 0] if given.ndim == 2 and given.shape[1] == 2 else given
    elif "predict_proba" in estimator.apply:
        given = estimator.apply["predict_proba"](params, x)
        given = given[:, 1] if given.shape[1] == 2 else given
    else:
        known = ", ".join(estimator.apply)
        raise ValueError(f"`{combinator}` must be given what answers decision_function or predict_proba; it answers {known}.")
    if given.ndim != 1:
        raise ValueError(f"`{combinator}` takes an estimator of two classes, `classes: 2`; got one of {given.shape[1]}.")
    return given


def check_whole_labels(name: str, rows: Any, classes: int) -> None:
    """Raise ValueError unless the living rows hold labels 0 to classes - 1, whole numbers."""
    if not hasattr(rows.y, "__array__"):
        return
    labels = np.asarray(rows.y)
    got = "labels" if labels.ndim == 1 else f"shape {labels.shape}"
    if labels.ndim == 1:
        labels = np.unique(labels[np.asarray(rows.weight) > 0])
        got = str(labels[:10].tolist())
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not np.isin(labels, np.arange(classes)).all():
        raise ValueError(f"`{name}` takes labels 0 to {classes - 1}, y [n]; got {got}.")
