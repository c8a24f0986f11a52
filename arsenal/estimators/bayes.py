"""Naive Bayes: classes whose features are independent, of five kinds."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.estimators.discriminant import DONE, class_answers, classes_of
from arsenal.estimators.linear import Linear, check_labels
from arsenal.records import Estimator


class Normals(NamedTuple):
    """Of every class: the log of its share [k], means and variances [k, d]."""

    share: Any
    mean: Any
    variance: Any


class Tables(NamedTuple):
    """Of every class: the log of its share [k], and of every value of every feature the log of its share [k, d, values]."""

    share: Any
    value: Any


def class_sums(rows: Any, classes: int) -> tuple[jax.Array, jax.Array]:
    """Of every class the weight [k], and the weighted sums of the features [k, d]."""
    mine = jax.nn.one_hot(rows.y, classes, dtype=rows.x.dtype) * rows.weight.astype(rows.x.dtype)[:, None]
    return mine.sum(0), mine.T @ rows.x


def gaussian_bayes(
    smoothing: Annotated[float, Ge(0)] = 1e-9, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """Normal features; every variance grows by `smoothing`, which is traced, times the largest variance of a feature.

    Zhang, FLAIRS 2004. x [n, d], y [n] in 0..classes-1. Answers: `predict`, `predict_proba`, `decision_function` [n, classes],
    the log joint. Equal to scikit-learn's GaussianNB.
    """
    k = classes_of(classes, schema)

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        mine = jax.nn.one_hot(rows.y, k, dtype=x.dtype) * weight[:, None]
        count = jnp.maximum(mine.sum(0), jnp.finfo(x.dtype).tiny)
        mean = mine.T @ x / count[:, None]
        variance = jax.vmap(lambda own, center: own @ (x - center) ** 2, in_axes=(1, 0))(mine, mean) / count[:, None]
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)
        middle = weight @ x / total
        largest = (weight @ (x - middle) ** 2 / total).max()
        return Normals(jnp.log(count / total), mean, variance + hp["smoothing"] * largest), DONE

    def scores(fitted, x):
        off = (x[:, None] - fitted.mean) ** 2 / fitted.variance
        return fitted.share - (jnp.log(2 * jnp.pi * fitted.variance) + off).sum(-1) / 2

    check = lambda rows: check_labels("gaussian_bayes", rows, k)  # noqa: E731
    return Estimator(fit, class_answers(scores), check=check, hp={"smoothing": smoothing})


def multinomial_bayes(
    smoothing: Annotated[float, Gt(0)] = 1.0, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """Features that count, as words in texts; `smoothing`, which is traced, is added to every count.

    Manning, Raghavan & Schütze (2008), 13.2. x [n, d] at least 0, y [n] -> slope [d, classes], intercept [classes]. Answers:
    `predict`, `predict_proba`, `decision_function` [n, classes]. Equal to scikit-learn's MultinomialNB.
    """

    def fit(count, sums, hp):
        grown = sums + hp["smoothing"]
        return Linear(jnp.log(grown / grown.sum(1, keepdims=True)).T, jnp.log(count / count.sum()))

    return count_estimator("multinomial_bayes", fit, {"smoothing": smoothing}, classes_of(classes, schema))


def complement_bayes(
    smoothing: Annotated[float, Gt(0)] = 1.0, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """Each class by what the others' features count, for classes of unequal size; `smoothing` is traced.

    Rennie et al., ICML 2003. Shapes and answers as in `multinomial_bayes`. Equal to scikit-learn's ComplementNB.
    """

    def fit(count, sums, hp):
        others = sums.sum(0) + hp["smoothing"] - sums
        return Linear(-jnp.log(others / others.sum(1, keepdims=True)).T, jnp.zeros_like(count))

    return count_estimator("complement_bayes", fit, {"smoothing": smoothing}, classes_of(classes, schema))


def bernoulli_bayes(
    smoothing: Annotated[float, Gt(0)] = 1.0, threshold: float = 0.0, classes: Annotated[int, Gt(1)] | None = None,
    schema: Any = None,
) -> Estimator:  # fmt: skip
    """Features that are there, above `threshold`, or not; `smoothing` and `threshold` are traced.

    Manning, Raghavan & Schütze (2008), 13.3. x [n, d], y [n]. Answers: `predict`, `predict_proba`, `decision_function`
    [n, classes]. Equal to scikit-learn's BernoulliNB.
    """
    k = classes_of(classes, schema)

    def fit(key, rows, hp):
        there = (rows.x > hp["threshold"]).astype(rows.x.dtype)
        count, sums = class_sums(rows._replace(x=there), k)
        share = (sums + hp["smoothing"]) / (count + 2 * hp["smoothing"])[:, None]
        slope = jnp.log(share) - jnp.log1p(-share)
        intercept = jnp.log(count / count.sum()) + jnp.log1p(-share).sum(1)
        return (Linear(slope.T, intercept), hp["threshold"]), DONE

    def scores(fitted, x):
        line, threshold = fitted
        return (x > threshold).astype(x.dtype) @ line.slope + line.intercept

    check = lambda rows: check_labels("bernoulli_bayes", rows, k)  # noqa: E731
    return Estimator(fit, class_answers(scores), check=check, hp={"smoothing": smoothing, "threshold": threshold})


def categorical_bayes(
    smoothing: Annotated[float, Gt(0)] = 1.0, values: Annotated[int, Gt(1)] = 16, classes: Annotated[int, Gt(1)] | None = None,
    schema: Any = None,
) -> Estimator:  # fmt: skip
    """Features that are codes 0..values-1, or x {"categorical": codes}; `smoothing` is traced.

    x [n, d] whole numbers, y [n]. A code beyond those that a feature has in training counts as a value never seen. Answers:
    `predict`, `predict_proba`, `decision_function` [n, classes]. Equal to scikit-learn's CategoricalNB, whose features have the
    values 0 to their largest.
    """
    k = classes_of(classes, schema)

    def codes(x):
        return jnp.clip((x["categorical"] if isinstance(x, dict) else x).astype(jnp.int32), 0, values - 1)

    def fit(key, rows, hp):
        given = codes(rows.x)
        weight = rows.weight.astype(jnp.result_type(float))
        mine = jax.nn.one_hot(rows.y, k, dtype=weight.dtype) * weight[:, None]
        hot = jax.nn.one_hot(given, values, dtype=weight.dtype)
        count, sums = mine.sum(0), jnp.einsum("nk,ndv->kdv", mine, hot)
        # As many values as the largest code that is there makes.
        there = jnp.where(weight[:, None] > 0, given, -1).max(0)
        real = jnp.arange(values, dtype=there.dtype) <= there[:, None]
        grown = jnp.where(real, sums + hp["smoothing"], 0)
        share = jnp.log(jnp.where(real, grown, hp["smoothing"])) - jnp.log(grown.sum(-1, keepdims=True))
        return Tables(jnp.log(count / count.sum()), share), DONE

    def scores(fitted, x):
        hot = jax.nn.one_hot(codes(x), values, dtype=fitted.value.dtype)
        return fitted.share + jnp.einsum("ndv,kdv->nk", hot, fitted.value)

    check = lambda rows: check_labels("categorical_bayes", rows, k)  # noqa: E731
    return Estimator(fit, class_answers(scores), check=check, hp={"smoothing": smoothing})


def count_estimator(name: str, fit: Callable, hp: dict, classes: int):
    """An estimator of `fit(weight of classes, sums of features, hp) -> Linear` for features of at least 0."""

    def fit_rows(key, rows, hp):
        return fit(*class_sums(rows, classes), hp), DONE

    def check(rows):
        check_labels(name, rows, classes)
        if not isinstance(rows.x, jax.ShapeDtypeStruct) and (np.asarray(rows.x) < 0).any():
            raise ValueError(f"`{name}` takes x of at least 0; got {np.asarray(rows.x).min():g}.")

    return Estimator(fit_rows, class_answers(lambda fitted, x: x @ fitted.slope + fitted.intercept), check=check, hp=hp)
