"""Two models' answers to rows that neither was fitted on, compared: McNemar's test of labels, DeLong's of areas."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.evaluation.bootstrap import Bootstrap, as_comparison
from arsenal.evaluation.findings import draw_metrics, percentiles
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.evaluation.significance import Comparison, auc_covariance, check_confidence, mcnemar, normal_comparison
from arsenal.records import Batch, Metric

Outputs = Mapping[str, Any]
WHAT = {"McNemar": "accuracy", "DeLong": "ROC area"}
"""Of which the effect of a test is a difference."""


class Difference(NamedTuple):
    """A metric of two models on the same rows, and the test of its difference, one - other."""

    metric: str
    one: float
    other: float
    found: Comparison
    mode: str | None
    """Which of the metric's values are good, min or max; None where it does not say."""
    draws: Any = None
    """[samples]: the difference on every resample of the rows."""


class Paired(NamedTuple):
    """Two models on the same rows of a split."""

    split: str
    rows: float
    """Weight of the rows."""
    differences: list[Difference]
    """Of every metric, by a bootstrap of the rows with both models on the same resamples."""
    tests: dict[str, Comparison]
    """See `answer_tests`."""
    why_none: dict[str, str]
    """By metric: why it has no difference."""


def compare_answers(
    key: jax.Array, split: str, rows: Batch, one: Outputs, other: Outputs, metrics: Mapping[str, Metric]
) -> Paired:
    """Two models' answers [n, ...] by name to the rows of a split: the difference of each metric, and the tests that apply.

    Intervals are of 95 %. Metrics that do not fit both answers, or have no value on a resample, are in `why_none`.
    """
    draws, gone = draw_metrics(key, metrics, {"": one, "other": other}, rows)
    modes = {name: metric.mode for metric in metrics.values() for name in metric.compute(metric.empty())}
    found = []
    for name, both in draws.items():
        if "other" not in both or not np.isfinite(both["other"].draws).all():
            continue
        apart = both[""].draws - both["other"].draws
        value, error = both[""].value - both["other"].value, float(apart.std(ddof=1))
        tested = as_comparison(Bootstrap(value, *percentiles(apart), error, apart))
        found.append(Difference(name, both[""].value, both["other"].value, tested, modes[name], apart))
    without = set(modes) - set(gone) - {one.metric for one in found}
    why = gone | dict.fromkeys(sorted(without), "it does not fit the answers of both, or not every resample has a value.")
    try:
        tests = answer_tests(rows.y, one, other, rows.weight)
    except ValueError:  # weights that are not whole, which the bootstrap has said already
        tests = {}
    return Paired(split, float(np.asarray(rows.weight).sum()), found, tests, why)


def correct_pairs(pairs: Sequence[Paired]) -> list[Paired]:
    """Several pairs with p-values that hold for all of them together, by Holm, each metric and each test over the pairs.

    Intervals stay those of single pairs. Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    kinds = dict.fromkeys(kind for pair in pairs for kind in p_values(pair))
    corrected: list[dict[tuple[str, str], float]] = [{} for _ in pairs]
    for kind in kinds:
        at = [i for i, pair in enumerate(pairs) if kind in p_values(pair)]
        for i, p in zip(at, adjust_p_values([p_values(pairs[i])[kind] for i in at]), strict=True):
            corrected[i][kind] = float(p)
    return [
        pair._replace(
            differences=[
                one._replace(found=one.found._replace(p_value=new["metric", one.metric])) for one in pair.differences
            ],
            tests={name: one._replace(p_value=new["test", name]) for name, one in pair.tests.items()},
        )
        for pair, new in zip(pairs, corrected, strict=True)
    ]


def p_values(pair: Paired) -> dict[tuple[str, str], float]:
    """The p-values of a pair, by what was tested."""
    metrics = {("metric", one.metric): one.found.p_value for one in pair.differences}
    return metrics | {("test", name): one.p_value for name, one in pair.tests.items()}


def verdict(found: Comparison, mode: str | None, names: tuple[str, str]) -> str:
    """Which of two is better as far as the interval of 95 % and the p-value, which may be corrected, both say, by name."""
    if not (found.low > 0 or found.high < 0) or found.p_value >= 0.05:
        return "not told apart"
    if mode is None:
        return "apart"
    return f"{names[0] if (found.low > 0) == (mode == 'max') else names[1]} is better"


def answer_tests(
    y: Any, one: Outputs, other: Outputs, weight: Any = None, split: Any = None, confidence: float = 0.95
) -> dict[str, Comparison]:
    """What tells two models' `predict` [n] or `predict_proba` [n, k] apart, where it applies to y [n]; effects are one - other.

    "McNemar" of labels, "DeLong" of the probabilities of two classes. `split` [n] says which fit answered a row: areas are then
    of each split's rows, since fits have scales of their own, and averaged, and there is none where a split has not two rows of
    either class. Numbers have neither test. Raises ValueError for weights that are not whole.
    """
    check_confidence("answer_tests", confidence)
    y = np.asarray(y)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        return {}
    found = {}
    said = [as_labels(outputs, y) for outputs in (one, other)]
    if said[0] is not None and said[1] is not None:
        found["McNemar"] = mcnemar(said[0] == y, said[1] == y, weight, confidence=confidence)
    probabilities = [np.asarray(outputs["predict_proba"]) for outputs in (one, other) if "predict_proba" in outputs]
    if len(probabilities) == 2 and all(p.shape == (len(y), 2) for p in probabilities) and np.isin(y, (0, 1)).all():
        scores = np.stack([p[:, 1] for p in probabilities], 1)
        area = mean_area_difference(y, scores, weight, np.zeros(len(y), int) if split is None else np.asarray(split), confidence)
        found |= {} if area is None else {"DeLong": area}
    return found


def as_labels(outputs: Outputs, y: np.ndarray) -> np.ndarray | None:
    """The labels [n] that are answered; None where none are."""
    if "predict" in outputs:
        said = np.asarray(outputs["predict"])
        return said if said.shape == y.shape and np.issubdtype(said.dtype, np.integer) else None
    proba = np.asarray(outputs["predict_proba"]) if "predict_proba" in outputs else np.zeros(0)
    return proba.argmax(1) if proba.ndim == 2 else None


def mean_area_difference(
    y: np.ndarray, scores: np.ndarray, weight: Any, split: np.ndarray, confidence: float
) -> Comparison | None:
    """The mean over splits of the difference of two areas under ROC curves, of scores [n, 2], by DeLong's covariance."""
    weight, differences, variances = np.ones(len(y)) if weight is None else np.asarray(weight), [], []
    for number in np.unique(split[weight > 0]):
        mine = split == number
        counts = [weight[mine & (y == label)].sum() for label in (0, 1)]
        if min(counts) < 2:
            return None
        areas = auc_covariance(y[mine], scores[mine], weight[mine])
        differences.append(areas.area[0] - areas.area[1])
        variances.append(max(float(np.array([1, -1]) @ areas.covariance @ np.array([1, -1])), 0.0))
    k = len(differences)
    return normal_comparison(float(np.mean(differences)), sum(variances) / k**2, confidence) if k else None


def lines_of_tests(found: Mapping[str, Comparison]) -> Iterator[str]:
    """The tests in words."""
    for name, one in found.items():
        ends = f"{one.effect:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        yield f"{WHAT.get(name, name)} {ends}, {name} p {one.p_value:.3g}"
