"""Metrics of labels that were decided for: one for a row, or a yes or no for each of many."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt

from arsenal.metrics.average import add, answer, average, zero_dead_rows
from arsenal.metrics.contingency import contingency
from arsenal.metrics.histogram import histogram
from arsenal.metrics.positions import Over, mean_name, of_labelled, over_positions
from arsenal.records import Metric

Average = Literal["binary", "micro", "macro", "weighted", "samples"]
"""Of class 1 alone; of the counts of all classes together; the mean over classes, alike or by the weight of those that are
truly so; the mean over rows that have several labels. As in scikit-learn."""
AVERAGES = get_args(Average)


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
        right = same_labels("accuracy", outputs, batch).astype(float)
        return over_positions(right, batch.y)

    return of_labelled(average(mean_name("accuracy", over), value, "max"), over)


def hamming_loss() -> Metric:
    """The share of wrong labels: `predict` is not y. Both [n], or [n, labels] with the mean over a row's labels first.

    >>> from arsenal.records import batch
    >>> metric, rows = hamming_loss(), batch(y=[[0, 1], [1, 1]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[0, 1], [1, 0]])}, rows))["hamming_loss"])
    0.25
    """

    def value(outputs, batch):
        wrong = (~same_labels("hamming_loss", outputs, batch)).astype(float)
        return wrong.mean(tuple(range(1, wrong.ndim)))

    return average("hamming_loss", value, "min")


def zero_one_loss() -> Metric:
    """The share of rows with a wrong label: `predict` is not y, both [n], or [n, labels] where all have to be right.

    1 less the subset accuracy, which is scikit-learn's `accuracy_score` of several labels.

    >>> from arsenal.records import batch
    >>> metric, rows = zero_one_loss(), batch(y=[[0, 1], [1, 1]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[0, 1], [1, 0]])}, rows))["zero_one_loss"])
    0.5
    """

    def value(outputs, batch):
        same = same_labels("zero_one_loss", outputs, batch)
        return (~same.all(tuple(range(1, same.ndim)))).astype(float)

    return average("zero_one_loss", value, "min")


def same_labels(metric: str, outputs: dict, batch) -> jax.Array:
    """Where `predict` is y; ValueError where the shapes differ."""
    predict = answer(outputs, "predict", metric)
    if predict.shape != batch.y.shape:
        raise ValueError(f"`{metric}` takes answers of the targets' shape {batch.y.shape}; got {predict.shape}.")
    return predict == batch.y.astype(predict.dtype)


class Counts(NamedTuple):
    """Weights by class, each [classes]: rightly predicted, predicted, and truly so; and of all rows []."""

    right: jax.Array
    predicted: jax.Array
    true: jax.Array
    rows: jax.Array


def precision(average: Average = "binary", classes: Annotated[int, Ge(2)] = 2, multilabel: bool = False) -> Metric:
    """Of the rows of weight that are said to be of a class, the share that is; 0 where none is said to be.

    `predict` [n] and y [n] in 0..classes-1; where `multilabel` both [n, classes] in {0, 1}. "binary" is of class 1 of two and
    called `precision`; another `average`, as in scikit-learn, `precision_macro` and so on, over the classes that are predicted
    or true, of several labels over all. NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> acc = precision().update(precision().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(precision().compute(acc)["precision"])
    0.5
    """
    return of_counts("precision", lambda right, predicted, true: share(right, predicted), average, classes, multilabel)


def recall(average: Average = "binary", classes: Annotated[int, Ge(2)] = 2, multilabel: bool = False) -> Metric:
    """Of the rows of a class, the share by weight that is said to be; 0 where there is none.

    Answers, labels, `average` and names as of `precision`.

    >>> from arsenal.records import batch
    >>> acc = recall().update(recall().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(recall().compute(acc)["recall"])
    0.5
    """
    return of_counts("recall", lambda right, predicted, true: share(right, true), average, classes, multilabel)


def f1(average: Average = "binary", classes: Annotated[int, Ge(2)] = 2, multilabel: bool = False) -> Metric:
    """The harmonic mean of `precision` and `recall` of a class: `2 right / (predicted + true)`; 0 without either.

    Answers, labels, `average` and names as of `precision`.

    >>> from arsenal.records import batch
    >>> acc = f1().update(f1().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 1]))
    >>> float(f1().compute(acc)["f1"])
    0.5
    """
    return of_counts("f1", lambda right, predicted, true: share(2 * right, predicted + true), average, classes, multilabel)


def fbeta(
    beta: Annotated[float, Gt(0)], average: Average = "binary", classes: Annotated[int, Ge(2)] = 2, multilabel: bool = False
) -> Metric:
    """`(1 + beta²) right / (beta² true + predicted)`: `f1` where recall counts `beta` times as much as precision.

    Answers, labels, `average` and names as of `precision`. van Rijsbergen, Information Retrieval (1979).

    >>> from arsenal.records import batch
    >>> acc = fbeta(2.0).update(fbeta(2.0).empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 0]))
    >>> round(float(fbeta(2.0).compute(acc)["fbeta"]), 4)
    0.8333
    """

    def value(right, predicted, true):
        return share((1 + beta**2) * right, beta**2 * true + predicted)

    return of_counts("fbeta", value, average, classes, multilabel)


def jaccard(average: Average = "binary", classes: Annotated[int, Ge(2)] = 2, multilabel: bool = False) -> Metric:
    """Of the rows that are of a class or said to be, the share that is both; 0 where there is none.

    Answers, labels, `average` and names as of `precision`.

    >>> from arsenal.records import batch
    >>> acc = jaccard().update(jaccard().empty(), {"predict": jnp.array([1, 1, 0])}, batch(y=[1, 0, 0]))
    >>> float(jaccard().compute(acc)["jaccard"])
    0.5
    """

    def value(right, predicted, true):
        return share(right, predicted + true - right)

    return of_counts("jaccard", value, average, classes, multilabel)


def f1_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """`f1("macro", classes)`: the mean over classes of `2 right / (predicted + true)`.

    A class that is neither predicted nor true does not count; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = f1_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> round(float(metric.compute(acc)["f1_macro"]), 4)
    0.7333
    """
    return f1("macro", classes)


def precision_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """`precision("macro", classes)`: the mean over classes of `right / predicted`.

    A class that is never predicted has 0; one that is neither predicted nor true does not count; NaN where no row was
    counted.

    >>> from arsenal.records import batch
    >>> metric, rows = precision_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 1, 1, 0])}, rows)
    >>> float(metric.compute(acc)["precision_macro"])
    0.5
    """
    return precision("macro", classes)


def recall_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """`recall("macro", classes)`: the mean over classes of `right / true`.

    A class that is predicted but never true has 0, unlike in `balanced_accuracy`; one that is neither does not count;
    NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = recall_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 2, 1, 1])}, rows)
    >>> float(metric.compute(acc)["recall_macro"])
    0.5
    """
    return recall("macro", classes)


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
        return {"balanced_accuracy": share(acc.right, acc.true).sum() / jnp.sum(acc.true > 0).astype(acc.true.dtype)}

    return Metric(lambda: no_counts(classes), counts_update("balanced_accuracy"), add, compute, "max")


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


def cohen_kappa(classes: Annotated[int, Ge(2)], weights: Literal["none", "linear", "quadratic"] = "none") -> Metric:
    """How far `predict` [n] and y [n] in 0..classes-1 agree beyond chance, at most 1; 0 is what chance gives.

    An error counts 1, or by how far apart the classes' numbers are, or by the square of that. NaN where chance makes no
    error. Cohen, Educ. Psychol. Meas. 20 (1960).

    >>> from arsenal.records import batch
    >>> metric, rows = cohen_kappa(classes=2), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> float(metric.compute(acc)["cohen_kappa"])
    0.5
    """
    if weights not in ("none", "linear", "quadratic"):
        raise ValueError(f"`weights` of `cohen_kappa` must be one of none, linear, quadratic; got {weights!r}.")

    def value(together):
        number = jnp.arange(classes, dtype=together.dtype)
        apart = jnp.abs(number[:, None] - number)
        cost = {"none": (apart > 0).astype(apart.dtype), "linear": apart, "quadratic": apart**2}[weights]
        chance = jnp.outer(together.sum(1), together.sum(0)) / jnp.where(together.sum() > 0, together.sum(), 1)
        return 1 - jnp.sum(cost * together) / jnp.sum(cost * chance)

    return contingency("cohen_kappa", "predict", classes, classes, value)


def positive_likelihood_ratio() -> Metric:
    """How many times as often class 1 of two is said of rows that are as of rows that are not: `recall / false alarms`.

    `predict` [n] and y [n] in {0, 1}; NaN where it is said of none that is not, as in scikit-learn, or no row is of class 1.

    >>> from arsenal.records import batch
    >>> metric, rows = positive_likelihood_ratio(), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 1, 1, 1])}, rows)
    >>> float(metric.compute(acc)["positive_likelihood_ratio"])
    2.0
    """
    return contingency("positive_likelihood_ratio", "predict", 2, 2, lambda t: ratio_of_rates(t, 1))


def negative_likelihood_ratio() -> Metric:
    """How many times as often class 0 of two is said of rows of class 1 as of rows of class 0: `misses / specificity`.

    `predict` [n] and y [n] in {0, 1}; NaN where it is never said of one that is, as in scikit-learn, or no row is of class 1.

    >>> from arsenal.records import batch
    >>> metric, rows = negative_likelihood_ratio(), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> float(metric.compute(acc)["negative_likelihood_ratio"])
    0.5
    """
    return contingency("negative_likelihood_ratio", "predict", 2, 2, lambda t: ratio_of_rates(t, 0), "min")


def ratio_of_rates(together: jax.Array, said: int) -> jax.Array:
    """How often a class is said of rows of class 1, over how often of rows of class 0."""
    true, false, positive, negative = together[1, said], together[0, said], together[1].sum(), together[0].sum()
    known = (false > 0) & (positive > 0)
    return jnp.where(known, true * negative / jnp.where(known, false * positive, 1), jnp.nan)


def of_counts(name: str, value: Callable, average: Average, classes: int, multilabel: bool):
    """The metric `value(right, predicted, true)` of a class, over the classes as `average` says; NaN where no row was counted."""
    if average not in AVERAGES:
        raise ValueError(f"`average` of `{name}` must be one of {', '.join(AVERAGES)}; got {average!r}.")
    if average == "binary" and (classes != 2 or multilabel):
        raise ValueError(f"`average` of `{name}` must not be binary for more than two classes or several labels; got binary.")
    if average == "samples":
        if not multilabel:
            raise ValueError(f"`average` of `{name}` can be samples for several labels only, multilabel=true; got samples.")
        return of_own_counts(name, value, classes)
    called = name if average == "binary" else f"{name}_{average}"

    def compute(acc):
        counts = acc[:3]
        each = value(*counts)
        there = jnp.full(classes, multilabel) | (acc.predicted + acc.true > 0)
        found = {
            "binary": lambda: each[1],
            "micro": lambda: value(*(one.sum() for one in counts)),
            "macro": lambda: each.sum() / jnp.sum(there).astype(each.dtype),
            "weighted": lambda: share(jnp.sum(each * acc.true), acc.true.sum()),
        }[average]()
        return {called: jnp.where(acc.rows > 0, found, jnp.nan)}

    return Metric(lambda: no_counts(classes), counts_update(called, multilabel), add, compute, "max")


def of_own_counts(name: str, value: Callable, classes: int):
    """The mean over rows of the metric of a row's own labels [n, classes]."""
    called = f"{name}_samples"

    def per_row(outputs, batch):
        said, true = label_sets(called, outputs, batch, classes)
        return value(*(one.sum(1).astype(float) for one in (said & true, said, true)))

    return average(called, per_row, "max")


def label_sets(metric: str, outputs: dict, batch, classes: int) -> tuple[jax.Array, jax.Array]:
    """Which labels are said and which are true, both bool [n, classes]."""
    predict = answer(outputs, "predict", metric)
    if predict.ndim != 2 or not predict.shape == batch.y.shape == (len(predict), classes):
        raise ValueError(f"`{metric}` takes answers and labels [n, {classes}]; got {predict.shape} and {batch.y.shape}.")
    return predict > 0, batch.y > 0


def share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """`part / whole`, 0 where there is no whole."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def no_counts(classes: int) -> Counts:
    """The counts of no rows."""
    return Counts(jnp.zeros(classes), jnp.zeros(classes), jnp.zeros(classes), jnp.zeros(()))


def counts_update(metric: str, multilabel: bool = False):
    """The update `(acc, outputs, batch) -> acc` of `Counts` by `predict` [n] and y [n], or [n, classes] of several labels."""

    def of_labels(predict, y, weight, classes):
        if y.ndim != 1 or predict.shape != y.shape:
            raise ValueError(f"`{metric}` takes answers and labels [n]; got {predict.shape} and {y.shape}.")
        predict, y = predict.astype(jnp.int32), y.astype(jnp.int32)
        right = histogram(y, weight * (predict == y).astype(weight.dtype), classes)
        return right, histogram(predict, weight, classes), histogram(y, weight, classes)

    def update(acc, outputs, batch):
        weight, classes = batch.weight.astype(acc.true.dtype), acc.true.shape[0]
        if multilabel:
            said, true = label_sets(metric, outputs, batch, classes)
            sums = [zero_dead_rows(one.astype(weight.dtype), weight) for one in (said & true, said, true)]
            counts = [jnp.matmul(weight, one, precision="highest") for one in sums]
        else:
            counts = of_labels(answer(outputs, "predict", metric), batch.y, weight, classes)
        return add(acc, Counts(*counts, weight.sum()))

    return update
