"""Metrics of scores that rank rows by how likely a class is: exact on the host, or in bins within bounded memory."""

import itertools
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge

from arsenal.metrics.average import add, answer, as_float, zero_dead_rows
from arsenal.metrics.average import average as mean_of_rows
from arsenal.metrics.histogram import histogram
from arsenal.metrics.labels import share
from arsenal.metrics.probabilities import probabilities
from arsenal.metrics.whole import call_sklearn, whole_rows
from arsenal.records import Metric

Classes = Literal["macro", "micro", "weighted", "samples"]
"""How the numbers of classes are averaged, as in scikit-learn."""


def roc_auc(average: Classes = "macro", multi_class: Literal["ovr", "ovo"] = "ovr") -> Metric:
    """The area under the ROC curve: how often a row of a class scores above one that is not of it, a tie counting half.

    Exact, as scikit-learn's `roc_auc_score`. `predict_proba` [n, classes]: of two classes and y [n] in {0, 1} the number is
    class 1's; of more the mean over the classes against the rest, or over all pairs of classes that there are (`multi_class`);
    of y [n, classes] in {0, 1} over the labels. NaN where a class has no row, or all; of pairs where there are none. Of two
    classes the score above a half is `1 - p_0` in 64 bits, so that rounding to 1 makes no ties. Hanley & McNeil, Radiology 143
    (1982).

    >>> from arsenal.records import batch
    >>> metric, rows = roc_auc(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> metric.compute(acc)["roc_auc"]
    0.75
    """
    check_average("roc_auc", average)
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(f"`multi_class` of `roc_auc` must be one of ovr, ovo; got {multi_class!r}.")
    if multi_class == "ovo" and average not in ("macro", "weighted"):
        raise ValueError(f"`average` of `roc_auc` must be macro or weighted over pairs of classes, ovo; got {average!r}.")

    def value(outputs, batch):
        y, p, weight = batch.y, outputs["predict_proba"], batch.weight
        if y.ndim == 1 and p.shape[1] > 2 and multi_class == "ovo":
            return mean_over_pairs(y.astype(int), p, weight, average)
        if y.ndim == 1 and p.shape[1] == 2:
            p = score_of_two(p)
        elif y.ndim == 1:
            y = one_hot(y.astype(int), p.shape[1])
        return call_sklearn("roc_auc_score", y > 0, p, average=average, sample_weight=weight)

    return whole_rows("roc_auc", value, ("predict_proba",), "max", check=check_scores("roc_auc"))


def average_precision(average: Classes = "macro") -> Metric:
    """The area under the steps of precision over recall: `Σ (recall_k - recall_{k-1}) precision_k`.

    Exact, as scikit-learn's `average_precision_score`; rows of one score are ranked together. Answers, labels and classes as of
    `roc_auc`, each class against the rest. Of a class without a row it is 0.

    >>> from arsenal.records import batch
    >>> metric, rows = average_precision(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> round(metric.compute(acc)["average_precision"], 4)
    0.8333
    """
    check_average("average_precision", average)

    def value(outputs, batch):
        y, p = batch.y, outputs["predict_proba"]
        if y.ndim == 1 and p.shape[1] == 2:
            p = score_of_two(p)
        elif y.ndim == 1:
            y = one_hot(y.astype(int), p.shape[1])
        return call_sklearn("average_precision_score", y > 0, p, average=average, sample_weight=batch.weight)

    return whole_rows("average_precision", value, ("predict_proba",), "max", check=check_scores("average_precision"))


def mean_over_pairs(y: np.ndarray, p: np.ndarray, weight: np.ndarray, average: Classes) -> float:
    """The mean over pairs of classes of how well the rows of either are told from the other's, by the weight of both or alike.

    Hand & Till, Machine Learning 45 (2001).
    """
    areas, shares = [], []
    for pair in itertools.combinations(np.unique(y), 2):
        of = np.isin(y, pair)
        each = [call_sklearn("roc_auc_score", y[of] == one, p[of, one], sample_weight=weight[of]) for one in pair]
        areas.append(np.mean(each))
        shares.append(weight[of].sum())
    return np.average(areas, weights=shares if average == "weighted" else None) if areas else np.nan


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    """Labels [n] as yes or no for each class, bool [n, classes]."""
    return y[:, None] == np.arange(classes)


def score_of_two(p: np.ndarray) -> np.ndarray:
    """The probability [n] of class 1 of [n, 2], whose digits near 1 are those of class 0's."""
    zero, one = p.astype(float).T
    return np.where(one > 0.5, 1 - zero, one)


def check_average(metric: str, average: str) -> None:
    """Raise ValueError for another average than scikit-learn's."""
    known = ("macro", "micro", "weighted", "samples")
    if average not in known:
        raise ValueError(f"`average` of `{metric}` must be one of {', '.join(known)}; got {average!r}.")


def check_scores(metric: str):
    """The check that `predict_proba` is [n, classes] and y [n] or [n, classes]."""

    def check(outputs, batch):
        p = outputs["predict_proba"]
        if p.ndim != 2 or batch.y.shape not in (p.shape, p.shape[:1]):
            raise ValueError(
                f"`{metric}` takes `predict_proba` [n, classes] and labels [n] or [n, classes]; "
                f"got {p.shape} and {batch.y.shape}."
            )

    return check


def hinge_loss() -> Metric:
    """The mean of `max(0, 1 - margin)` of `decision_function` and labels y [n] in 0..classes-1.

    Of [n] the margin is the score, of class 0 its negative; of [n, classes] how far the label's score is above the largest of the
    others. Crammer & Singer, JMLR 2 (2001); scikit-learn's `hinge_loss`.

    >>> from arsenal.records import batch
    >>> metric, rows = hinge_loss(), batch(y=[1, 0])
    >>> acc = metric.update(metric.empty(), {"decision_function": jnp.array([0.5, 0.5])}, rows)
    >>> float(metric.compute(acc)["hinge_loss"])
    1.0
    """

    def value(outputs, batch):
        score = as_float(answer(outputs, "decision_function", "hinge_loss"))
        if batch.y.ndim != 1 or score.ndim > 2 or len(score) != len(batch.y):
            raise ValueError(
                "`hinge_loss` takes `decision_function` [n] or [n, classes] and labels [n]; "
                f"got {score.shape} and {batch.y.shape}."
            )
        y = batch.y.astype(jnp.int32)
        if score.ndim == 1:
            return jnp.maximum(1 - jnp.where(y > 0, score, -score), 0)
        own = jax.nn.one_hot(y, score.shape[1], dtype=jnp.bool_)
        rest = jnp.where(own, -jnp.inf, score).max(1)
        return jnp.maximum(1 - (jnp.where(own, score, 0).sum(1) - rest), 0)

    return mean_of_rows("hinge_loss", value, "min")


class Scores(NamedTuple):
    """Weights by bin of score, each [bins], of the rows of either class."""

    negative: jax.Array
    positive: jax.Array


def binned_roc_auc(bins: Annotated[int, Ge(2)] = 10_000) -> Metric:
    """`roc_auc` of two classes in bounded memory, of scores in bins.

    The score is the log odds of `predict_proba` [n, 2]. To stay bounded it is counted in `bins` equal bins over
    -20..20, and two rows of one bin are a tie: the answer is off by at most half the share of pairs in one bin, for
    10,000 bins a difference of 0.4 % in odds. NaN where a class has no row. Hanley & McNeil, Radiology 143 (1982).

    >>> from arsenal.records import batch
    >>> metric, rows = binned_roc_auc(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> float(metric.compute(acc)["binned_roc_auc"])
    0.75
    """

    def compute(acc):
        negative, positive = acc.negative / acc.negative.sum(), acc.positive / acc.positive.sum()
        below = jnp.cumsum(negative) - negative / 2
        return {"binned_roc_auc": jnp.sum(positive * below)}

    return by_score("binned_roc_auc", bins, compute)


def binned_average_precision(bins: Annotated[int, Ge(2)] = 10_000) -> Metric:
    """`average_precision` of two classes in bounded memory, of scores in bins.

    The score is counted as in `binned_roc_auc`, and rows of one bin are ranked together. NaN where class 1 has no row.

    >>> from arsenal.records import batch
    >>> metric, rows = binned_average_precision(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> round(float(metric.compute(acc)["binned_average_precision"]), 4)
    0.8333
    """

    def compute(acc):
        positive, negative = (jnp.cumsum(weight[::-1]) for weight in (acc.positive, acc.negative))
        precision = share(positive, positive + negative)
        return {"binned_average_precision": jnp.sum(acc.positive[::-1] * precision) / positive[-1]}

    return by_score("binned_average_precision", bins, compute)


def by_score(name: str, bins: int, compute):
    """A metric of the weights of either class by log odds of `predict_proba` [n, 2], in bins over -20..20."""

    def update(acc, outputs, batch):
        p = probabilities(outputs, batch, name)
        if p.shape[1] != 2:
            raise ValueError(f"`{name}` takes `predict_proba` [n, 2]; got {p.shape}.")
        weight = batch.weight.astype(acc.positive.dtype)
        odds = zero_dead_rows(jnp.log(p[:, 1]) - jnp.log(p[:, 0]), weight)
        # A score that is no number must not hide in a bin: it makes the answer NaN.
        weight = jnp.where(jnp.isnan(odds), jnp.full_like(weight, jnp.nan), weight)
        at = jnp.clip(jnp.floor((jnp.clip(odds, -20, 20) + 20) * (bins / 40)).astype(jnp.int32), 0, bins - 1)
        positive = (batch.y > 0).astype(weight.dtype)
        return add(acc, Scores(histogram(at, weight * (1 - positive), bins), histogram(at, weight * positive, bins)))

    return Metric(lambda: Scores(jnp.zeros(bins), jnp.zeros(bins)), update, add, compute, "max")
