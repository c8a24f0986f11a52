"""Metrics of labels and of probabilities of labels."""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.metrics.average import add, answer, as_float, average, zero_dead_rows
from arsenal.metrics.histogram import histogram
from arsenal.records import Metric

Over = Literal["rows", "tokens"]
"""What a mean is taken over: rows, each the mean over its own positions, or all positions alike."""


def accuracy(over: Over = "rows") -> Metric:
    """The share of right labels: `predict` is y. Both [n], or [n, ...] with the mean over a row's labels first.

    Of tokens [n, t] a label of -1 is a position that does not count, and a row without any that does is not there. With
    `over` "tokens" every position counts alike, and the name is `token_accuracy`.

    >>> from arsenal.records import batch
    >>> acc = accuracy().update(accuracy().empty(), {"predict": jnp.array([0, 1])}, batch(y=[0, 0], weight=[3, 1]))
    >>> float(accuracy().compute(acc)["accuracy"])
    0.75
    """

    def value(outputs, batch):
        predict = answer(outputs, "predict", "accuracy")
        if predict.shape != batch.y.shape:
            raise ValueError(f"`accuracy` takes answers of the targets' shape {batch.y.shape}; got {predict.shape}.")
        right = (predict == batch.y.astype(predict.dtype)).astype(float)
        return over_positions(right, batch.y)

    return of_labelled(average(mean_name("accuracy", over), value, "max"), over)


def log_loss(over: Over = "rows") -> Metric:
    """`-log p(y)` of `predict_proba` [n, classes] and labels [n]; p is at least the type's epsilon, as in scikit-learn.

    Of tokens, [n, t, classes] and [n, t], a row's value is the mean over its positions; a label of -1 is one that does
    not count, and a row without any that does is not there. With `over` "tokens" every position counts alike, and the name is
    `token_log_loss`.

    >>> from arsenal.records import batch
    >>> acc = log_loss().update(log_loss().empty(), {"predict_proba": jnp.array([[0.5, 0.5]])}, batch(y=[1]))
    >>> round(float(log_loss().compute(acc)["log_loss"]), 4)
    0.6931
    """

    def value(outputs, batch):
        return over_positions(surprise(outputs, batch, "log_loss"), batch.y)

    return of_labelled(average(mean_name("log_loss", over), value, "min"), over)


def top_k_accuracy(k: Annotated[int, Ge(1)]) -> Metric:
    """The share of rows whose label is among the `k` largest of `predict_proba` [n, classes], as `top_{k}_accuracy`.

    Of equal probabilities the lower class comes first, so that k = 1 is the accuracy of the argmax; 1 from k = classes.

    >>> from arsenal.records import batch
    >>> metric, p = top_k_accuracy(2), jnp.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict_proba": p}, batch(y=[1, 0])))["top_2_accuracy"])
    0.5
    """
    name = f"top_{k}_accuracy"

    def value(outputs, batch):
        p = probabilities(outputs, batch, name)
        y = batch.y[:, None].astype(jnp.int32)
        of_label = jnp.take_along_axis(p, y, axis=1)
        place = jnp.arange(p.shape[1], dtype=jnp.int32)[None]
        # What is no number is ahead of the label too: it must not make an answer right.
        ahead = jnp.where(place < y, ~(p < of_label), ~(p <= of_label)) & (place != y)
        return as_float(ahead.sum(1) < k)

    return average(name, value, "max")


def brier_score() -> Metric:
    """`Σ_k (p_k - [y = k])²` of `predict_proba` [n, classes], 0..2; with two classes half of it, 0..1.

    Brier, Mon. Weather Rev. 78 (1950); the half is scikit-learn's, so that two classes give `(p_1 - y)²`.

    >>> from arsenal.records import batch
    >>> acc = brier_score().update(brier_score().empty(), {"predict_proba": jnp.array([[0.5, 0.5]])}, batch(y=[1]))
    >>> float(brier_score().compute(acc)["brier_score"])
    0.25
    """

    def value(outputs, batch):
        p = probabilities(outputs, batch, "brier_score")
        square = jnp.square(p - jax.nn.one_hot(batch.y, p.shape[1], dtype=p.dtype)).sum(1)
        return square / 2 if p.shape[1] == 2 else square

    return average("brier_score", value, "min")


class Calibration(NamedTuple):
    """Sums by bin of confidence, each [bins]."""

    weight: jax.Array
    confidence: jax.Array
    right: jax.Array


def calibration_error(bins: Annotated[int, Ge(1)] = 15) -> Metric:
    """The expected calibration error, 0..1: mean gap between confidence and accuracy over `bins` of equal width.

    Confidence is the largest of `predict_proba` [n, classes]; bin b is (b / bins, (b + 1) / bins]. Guo et al. 2017
    (1706.04599).

    >>> from arsenal.records import batch
    >>> metric, rows = calibration_error(), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.75, 0.25], [0.75, 0.25]])}, rows)
    >>> float(metric.compute(acc)["calibration_error"])
    0.25
    """

    def update(acc, outputs, batch):
        p = probabilities(outputs, batch, "calibration_error")
        weight = batch.weight.astype(acc.weight.dtype)
        confidence = zero_dead_rows(p.max(1).astype(weight.dtype), weight)
        right = (p.argmax(1).astype(jnp.int32) == batch.y.astype(jnp.int32)).astype(weight.dtype)
        at = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
        return add(acc, Calibration(*(histogram(at, weight * v, bins) for v in (jnp.ones_like(weight), confidence, right))))

    return Metric(
        empty=lambda: Calibration(jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(bins)),
        update=update,
        merge=add,
        compute=lambda acc: {"calibration_error": jnp.abs(acc.confidence - acc.right).sum() / acc.weight.sum()},
        mode="min",
    )


class Counts(NamedTuple):
    """Weights by class, each [classes]: rightly predicted, predicted, and truly so."""

    right: jax.Array
    predicted: jax.Array
    true: jax.Array


def precision() -> Metric:
    """Of the rows of weight that are said to be class 1 of two, the share that is; 0 where none is said to be.

    `predict` [n] and y [n] in {0, 1}.

    >>> from arsenal.records import batch
    >>> acc = precision().update(precision().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(precision().compute(acc)["precision"])
    0.5
    """
    return of_positive("precision", lambda right, predicted, true: share(right, predicted))


def recall() -> Metric:
    """Of the rows of class 1 of two, the share by weight that is said to be; 0 where there is none.

    `predict` [n] and y [n] in {0, 1}.

    >>> from arsenal.records import batch
    >>> acc = recall().update(recall().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(recall().compute(acc)["recall"])
    0.5
    """
    return of_positive("recall", lambda right, predicted, true: share(right, true))


def f1() -> Metric:
    """The harmonic mean of `precision` and `recall` of class 1 of two: `2 right / (predicted + true)`; 0 without either.

    `predict` [n] and y [n] in {0, 1}.

    >>> from arsenal.records import batch
    >>> acc = f1().update(f1().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(f1().compute(acc)["f1"])
    0.5
    """
    return of_positive("f1", lambda right, predicted, true: share(2 * right, predicted + true))


def of_positive(name: str, value):
    """A metric of the weights of class 1 of two: rightly predicted, predicted and true; NaN where no row was counted."""

    def compute(acc):
        return {name: jnp.where(acc.true.sum() > 0, value(*(counts[1] for counts in acc)), jnp.nan)}

    return Metric(lambda: no_counts(2), counts_update(name), add, compute, "max")


def share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """`part / whole`, 0 where there is no whole."""
    return part / jnp.where(whole > 0, whole, 1)


def f1_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """The mean over classes of `2 right / (predicted + true)`, of `predict` [n] and y [n] in 0..classes-1.

    A class that is neither predicted nor true does not count; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = f1_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> round(float(metric.compute(acc)["f1_macro"]), 4)
    0.7333
    """

    def compute(acc):
        either = acc.predicted + acc.true
        each = 2 * acc.right / jnp.where(either > 0, either, 1)
        return {"f1_macro": each.sum() / jnp.sum(either > 0).astype(each.dtype)}

    return Metric(lambda: no_counts(classes), counts_update("f1_macro"), add, compute, "max")


def balanced_accuracy(classes: Annotated[int, Ge(2)]) -> Metric:
    """The mean over the true classes of `right / true`, of `predict` [n] and y [n] in 0..classes-1.

    A class that no row has does not count, though it be predicted; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = balanced_accuracy(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 2, 1, 1])}, rows)
    >>> float(metric.compute(acc)["balanced_accuracy"])
    0.75
    """

    def compute(acc):
        return {"balanced_accuracy": mean_share(acc.right, acc.true, acc.true)}

    return Metric(lambda: no_counts(classes), counts_update("balanced_accuracy"), add, compute, "max")


def precision_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """The mean over classes of `right / predicted`, of `predict` [n] and y [n] in 0..classes-1.

    A class that is never predicted has 0; one that is neither predicted nor true does not count; NaN where no row was
    counted.

    >>> from arsenal.records import batch
    >>> metric, rows = precision_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 1, 1, 0])}, rows)
    >>> float(metric.compute(acc)["precision_macro"])
    0.5
    """

    def compute(acc):
        return {"precision_macro": mean_share(acc.right, acc.predicted, acc.predicted + acc.true)}

    return Metric(lambda: no_counts(classes), counts_update("precision_macro"), add, compute, "max")


def recall_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """The mean over classes of `right / true`, of `predict` [n] and y [n] in 0..classes-1.

    A class that is predicted but never true has 0, unlike in `balanced_accuracy`; one that is neither does not count;
    NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = recall_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 2, 1, 1])}, rows)
    >>> float(metric.compute(acc)["recall_macro"])
    0.5
    """

    def compute(acc):
        return {"recall_macro": mean_share(acc.right, acc.true, acc.predicted + acc.true)}

    return Metric(lambda: no_counts(classes), counts_update("recall_macro"), add, compute, "max")


def matthews(classes: Annotated[int, Ge(2)]) -> Metric:
    """The correlation of `predict` [n] and y [n] in 0..classes-1, -1..1: Gorodkin's R_K, with two classes Matthews' φ.

    0 where all answers or all labels are one class, as in scikit-learn; NaN where no row was counted. Matthews, Biochim.
    Biophys. Acta 405 (1975); Gorodkin, Comput. Biol. Chem. 28 (2004).

    >>> from arsenal.records import batch
    >>> metric, rows = matthews(classes=2), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> round(float(metric.compute(acc)["matthews"]), 4)
    0.5774
    """

    def compute(acc):
        def spread(counts):
            # (Σ c)² - Σ c², as a sum of what is >= 0: exactly 0 for a single class.
            return jnp.sum(counts * (counts.sum() - counts))

        total = acc.true.sum()
        true, predicted, right = (v / jnp.where(total > 0, total, 1) for v in (acc.true, acc.predicted, acc.right))
        both = jnp.sqrt(spread(true)) * jnp.sqrt(spread(predicted))
        shared = right.sum() * true.sum() - jnp.sum(true * predicted)
        score = jnp.where(both > 0, shared / jnp.where(both > 0, both, 1), 0)
        return {"matthews": jnp.where(total > 0, score, jnp.nan)}

    return Metric(lambda: no_counts(classes), counts_update("matthews"), add, compute, "max")


def no_counts(classes: int) -> Counts:
    """The counts of no rows."""
    return Counts(jnp.zeros(classes), jnp.zeros(classes), jnp.zeros(classes))


def counts_update(metric: str):
    """The update `(acc, outputs, batch) -> acc` of `Counts` by `predict` [n] and y [n]."""

    def update(acc, outputs, batch):
        predict = answer(outputs, "predict", metric).astype(jnp.int32)
        y, weight, classes = batch.y.astype(jnp.int32), batch.weight.astype(acc.true.dtype), acc.true.shape[0]
        if y.ndim != 1 or predict.shape != y.shape:
            raise ValueError(f"`{metric}` takes answers and labels [n]; got {predict.shape} and {y.shape}.")
        right = histogram(y, weight * (predict == y).astype(weight.dtype), classes)
        return add(acc, Counts(right, histogram(predict, weight, classes), histogram(y, weight, classes)))

    return update


def mean_share(part: jax.Array, whole: jax.Array, counts: jax.Array) -> jax.Array:
    """The mean of `part / whole`, 0 where there is no whole, over the classes where `counts` is not 0."""
    return share(part, whole).sum() / jnp.sum(counts > 0).astype(part.dtype)


class Scores(NamedTuple):
    """Weights by bin of score, each [bins], of the rows of either class."""

    negative: jax.Array
    positive: jax.Array


def roc_auc(bins: Annotated[int, Ge(2)] = 10_000) -> Metric:
    """The area under the ROC curve of two classes: how often a row of class 1 scores above one of class 0.

    The score is the log odds of `predict_proba` [n, 2]. To stay bounded it is counted in `bins` equal bins over
    -20..20, and two rows of one bin are a tie: the answer is off by at most half the share of pairs in one bin, for
    10,000 bins a difference of 0.4 % in odds. NaN where a class has no row. Hanley & McNeil, Radiology 143 (1982).

    >>> from arsenal.records import batch
    >>> metric, rows = roc_auc(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> float(metric.compute(acc)["roc_auc"])
    0.75
    """

    def compute(acc):
        negative, positive = acc.negative / acc.negative.sum(), acc.positive / acc.positive.sum()
        below = jnp.cumsum(negative) - negative / 2
        return {"roc_auc": jnp.sum(positive * below)}

    return by_score("roc_auc", bins, compute)


def average_precision(bins: Annotated[int, Ge(2)] = 10_000) -> Metric:
    """The area under the steps of precision over recall of two classes: `Σ (recall_k - recall_{k-1}) precision_k`.

    The score is counted in bins as in `roc_auc`, and rows of one bin are ranked together; scikit-learn's
    `average_precision_score`. NaN where class 1 has no row.

    >>> from arsenal.records import batch
    >>> metric, rows = average_precision(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> round(float(metric.compute(acc)["average_precision"]), 4)
    0.8333
    """

    def compute(acc):
        positive, negative = (jnp.cumsum(weight[::-1]) for weight in (acc.positive, acc.negative))
        precision = share(positive, positive + negative)
        return {"average_precision": jnp.sum(acc.positive[::-1] * precision) / positive[-1]}

    return by_score("average_precision", bins, compute)


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


def probabilities(outputs: dict, batch, metric: str) -> jax.Array:
    """`predict_proba` [n, classes] in 32 bits or more; ValueError where it or the labels have another shape."""
    p = answer(outputs, "predict_proba", metric)
    if p.ndim != 2 or batch.y.shape != p.shape[:1]:
        raise ValueError(f"`{metric}` takes `predict_proba` [n, classes] and labels [n]; got {p.shape} and {batch.y.shape}.")
    return as_float(p)


def surprise(outputs: dict, batch, metric: str) -> jax.Array:
    """`-log p(y)` of every position, [n, ...]; p is at least the type's epsilon. Where the label is -1 it means nothing."""
    p = answer(outputs, "predict_proba", metric)
    if p.ndim < 2 or batch.y.shape != p.shape[:-1]:
        raise ValueError(
            f"`{metric}` takes `predict_proba` [n, classes] and labels [n], or [n, t, classes] and [n, t]; "
            f"got {p.shape} and {batch.y.shape}."
        )
    p = as_float(p)
    of_label = jnp.take_along_axis(p, batch.y[..., None].astype(jnp.int32), axis=-1)[..., 0]
    return -jnp.log(jnp.maximum(of_label, jnp.finfo(p.dtype).eps))


def over_positions(each: jax.Array, y: jax.Array) -> jax.Array:
    """The mean [n] of each [n, ...] over the positions whose label is not -1; of [n] itself."""
    if each.ndim == 1:
        return each
    counts = (y >= 0).astype(each.dtype)
    axes = tuple(range(1, each.ndim))
    return zero_unlabelled(each, y).sum(axes) / jnp.maximum(counts.sum(axes), 1)


def zero_unlabelled(each: jax.Array, y: jax.Array) -> jax.Array:
    """Each [n, ...] with zeros where the label is -1."""
    return jnp.where(y >= 0, each, jnp.zeros_like(each))


def mean_name(name: str, over: Over) -> str:
    """The name of a mean: one that is over tokens says so, since it is another number."""
    return name if over == "rows" else f"token_{name}"


def of_labelled(metric: Metric, over: Over):
    """The metric without the rows [n, ...] that have no position with a label; over tokens, rows count by those they have."""

    def update(acc, outputs, batch):
        if batch.y.ndim > 1:
            labelled = (batch.y >= 0).sum(tuple(range(1, batch.y.ndim)), dtype=jnp.int32)
            labelled = labelled if over == "tokens" else labelled > 0
            batch = batch._replace(weight=batch.weight * labelled.astype(batch.weight.dtype))
        return metric.update(acc, outputs, batch)

    return metric._replace(update=update)
