"""Scores that training rows got out of fold say what scores mean: calibrated probabilities, and thresholds by cost."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax import lax
from jax.random import fold_in

from arsenal.combine.folds import assign_folds, check_folds, fit_folds, summarize
from arsenal.combine.whole import trace_host
from arsenal.numerics.isotonic import fit_steps, read_steps, sort_steps
from arsenal.numerics.newton import newton
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator

MOST = 100
"""Steps of the fit of a curve."""


class Calibrated(NamedTuple):
    """An estimator's parameters, and the curve from its scores to probabilities."""

    params: Any
    curve: Any


class Curve(NamedTuple):
    """A kind of calibration."""

    fit: Callable[..., Any]
    """`(scores, y, weight) -> (curve, info)`."""
    read: Callable[..., Any]
    """`(curve, scores) -> probabilities [n, classes]`."""


def tolerance(scores: jax.Array) -> float:
    """The gradient per unit of weight where the fit of a curve ends, as the precision of the scores allows it."""
    return float(jnp.finfo(scores.dtype).eps) ** 0.5 / 4  # where the loss, in its last digit, no longer says where it falls


class Sigmoids(NamedTuple):
    """Of every column of scores: `sigmoid(slope * score + offset)`."""

    slope: Any
    offset: Any


def calibrated(
    estimator: Estimator, method: Literal["platt", "isotonic", "temperature", "venn_abers"] = "platt",
    folds: Annotated[int, Gt(1)] = 5,
) -> Estimator:  # fmt: skip
    """The estimator with probabilities that are as frequent as they say, by a curve that out-of-fold scores are fitted with.

    `platt` is a sigmoid (Platt 1999), `isotonic` steps that never fall (Zadrozny & Elkan, KDD 2002), which take some thousand
    rows, `temperature` one factor of all scores (Guo et al., ICML 2017), `venn_abers` both isotonic fits with the row itself as
    of either class, which is valid whatever the scores are and takes some thousand rows (Vovk, Petej & Fedorova, NIPS 28, 2015).
    Scores are the `decision_function`, or else `predict_proba`; of more than two classes all but `temperature` take each
    against the rest. The model is fitted again on all rows. Answers: `predict_proba`, `predict`, which follows from it, and
    what else the estimator answers. hp: the estimator's. Equal to scikit-learn's CalibratedClassifierCV(ensemble=False) with
    the same folds. Steps have a knot for every row.
    """
    called, curve = trace_host(estimator), CURVES[method]
    name = "decision_function" if "decision_function" in estimator.apply else "predict_proba"
    prepare = as_logits if method == "temperature" else as_columns

    def fit(key, rows, hp):
        fold = assign_folds(fold_in(key, 0), rows, folds)
        made = fit_folds(estimator, fold_in(key, 1), rows, hp, fold, folds, refit=True)
        found, info = curve.fit(prepare(made.answers[name], name), rows.y, rows.weight)
        both = Converged(made.info.converged & info.converged, made.info.iterations)
        return Calibrated(made.refitted, found), both

    def proba(fitted, x):
        return curve.read(fitted.curve, prepare(estimator.apply[name](fitted.params, x), name))

    def check(rows):
        check_scores("calibrated", estimator)
        check_folds("calibrated", rows, folds)
        estimator.check(rows)

    answers = {"predict": lambda fitted, x: jnp.argmax(proba(fitted, x), -1).astype(jnp.int32), "predict_proba": proba}
    others = read_inside(estimator, lambda fitted: fitted.params)
    return called._replace(fit=fit, apply=others | answers, check=check)


def check_scores(name: str, estimator: Estimator) -> None:
    """Raise ValueError unless the estimator scores classes: when rows come, since before it may not know that there are any."""
    if not {"decision_function", "predict_proba"} & estimator.apply.keys():
        known = ", ".join(estimator.apply)
        raise ValueError(f"`estimator` of `{name}` must answer decision_function or predict_proba; it answers {known}.")


def read_inside(estimator: Estimator, inside: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The estimator's answers from parameters that hold its own, which `inside(params)` gives."""
    return {name: lambda params, x, f=f: f(inside(params), x) for name, f in estimator.apply.items()}


def as_columns(scores: jax.Array, name: str) -> jax.Array:
    """Scores [n] or [n, classes] as a column for each class, of two classes for the second alone; [n, m]."""
    if scores.ndim == 1:
        return scores[:, None]
    if scores.shape[1] == 2:
        return scores[:, 1:] if name == "predict_proba" else scores[:, 1:] - scores[:, :1]
    return scores


def as_logits(scores: jax.Array, name: str) -> jax.Array:
    """Scores as logits [n, classes]; of one score for two classes its negative and itself, as scikit-learn has it."""
    if name == "predict_proba":
        return jnp.log(scores + 1e-12)
    return jnp.stack([-scores, scores], 1) if scores.ndim == 1 else scores


def against_rest(scores: jax.Array, y: jax.Array) -> jax.Array:
    """Whether a row is of the class of a column of scores [n, m]; [n, m] as numbers."""
    classes = jnp.arange(scores.shape[1], dtype=y.dtype) if scores.shape[1] > 1 else jnp.ones(1, y.dtype)
    return (y[:, None] == classes).astype(scores.dtype)


def normalize(shares: jax.Array) -> jax.Array:
    """Shares [n, m] as probabilities [n, classes]; alike where all are 0."""
    if shares.shape[1] == 1:
        return jnp.concatenate([1 - shares, shares], 1)
    total = shares.sum(1, keepdims=True)
    return jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 1 / shares.shape[1])


def fit_sigmoids(scores: jax.Array, y: jax.Array, weight: jax.Array) -> tuple[Sigmoids, Converged]:
    """Platt's sigmoid of every column, of targets drawn a little to the middle by Bayes' rule."""
    weight = weight.astype(scores.dtype)
    total = jnp.maximum(weight.sum(), jnp.finfo(scores.dtype).tiny)

    def one(score, mine):
        scale = usual_size(score, weight)
        count = jnp.vdot(weight, mine)
        target = jnp.where(mine > 0, (count + 1) / (count + 2), 1 / (weight.sum() - count + 2))

        def objective(w):
            z = w[0] * (score / scale) + w[1]
            return jnp.vdot(weight, jnp.logaddexp(jnp.zeros_like(z), z) - target * z) / total

        def hessian(w):
            p = jax.nn.sigmoid(w[0] * (score / scale) + w[1])
            design = jnp.stack([score / scale, jnp.ones_like(score)])
            return (design * (weight * p * (1 - p) / total)) @ design.T

        start = jnp.stack([jnp.zeros_like(count), jnp.log((count + 1) / (weight.sum() - count + 1))])
        found = newton(objective, start, tolerance(scores), MOST, hessian)
        return Sigmoids(found.point[0] / scale, found.point[1]), Converged(found.converged, found.iterations)

    made, info = jax.vmap(one, 1)(scores, against_rest(scores, y))
    return made, summarize(info)


def usual_size(scores: jax.Array, weight: jax.Array) -> jax.Array:
    """The root of the mean square of scores [n, ...] by weight, or 1 where that is 0: the unit in which curves are fitted."""
    mean = weighted_mean(jnp.square(scores), weight).mean()
    return jnp.where(mean > 0, jnp.sqrt(mean), 1)


def fit_columns(scores: jax.Array, y: jax.Array, weight: jax.Array) -> tuple[Any, Converged]:
    """Steps that never fall, of every column."""
    return jax.vmap(fit_steps, (1, 1, None))(scores, against_rest(scores, y), weight), Converged(jnp.array(True), 1)


class VennAbers(NamedTuple):
    """Scores [n] in order, and what the isotonic fit says at each if one more row of the first or second class is there [n]."""

    x: Any
    first: Any
    second: Any


def fit_venn_abers(scores: jax.Array, y: jax.Array, weight: jax.Array) -> tuple[VennAbers, Converged]:
    """For every column, what the best steps that never fall have at each score if one more row is there.

    That is the greatest mean, over all beginnings at or before it, of the least mean over all ends at or behind it. It is v or
    more where `sum - v * weight` up to the best beginning is no more than up to the worst end, so v is found by halving, and then
    exactly, as the mean between these two.
    """

    def column(score, mine):
        rows = sort_steps(score, mine, weight)
        n, begins = len(score), (rows.x != jnp.roll(rows.x, 1)).at[0].set(True)
        ends = jnp.roll(begins, -1).at[-1].set(True)
        total, size = (jnp.concatenate([jnp.zeros(1, v.dtype), jnp.cumsum(v)]) for v in (rows.y * rows.weight, rows.weight))

        def one(at, label):
            def around(v):
                line = total - v * size
                before = jnp.where(begins & (jnp.arange(n) <= at), line[:-1], jnp.inf)
                behind = jnp.where(ends & (jnp.arange(n) >= at), line[1:], jnp.inf)
                return jnp.argmin(before), jnp.argmin(behind) + 1, behind.min() + label - v >= before.min()

            def halve(_, span):
                middle = (span[0] + span[1]) / 2
                more = around(middle)[2]
                return jnp.where(more, middle, span[0]), jnp.where(more, span[1], middle)

            span = jnp.zeros((), total.dtype), jnp.ones((), total.dtype)
            low, high = lax.fori_loop(0, jnp.finfo(total.dtype).nmant, halve, span)
            begin, end, _ = around((low + high) / 2)
            return (total[end] - total[begin] + label) / (size[end] - size[begin] + 1)

        first, second = (lax.map(lambda at, y=y: one(at, y), jnp.arange(n), batch_size=64) for y in (0.0, 1.0))
        return VennAbers(rows.x, first, second)

    return jax.vmap(column, 1)(scores, against_rest(scores, y)), Converged(jnp.array(True), 1)


def read_venn_abers(curve: VennAbers, score: jax.Array) -> jax.Array:
    """The probability [n] between both fits: one more row of the second class joins those above it, of the first those below."""
    n = curve.x.shape[0]
    above, below = jnp.searchsorted(curve.x, score, side="left"), jnp.searchsorted(curve.x, score, side="right") - 1
    second = jnp.where(above < n, curve.second[jnp.minimum(above, n - 1)], 1)
    first = jnp.where(below >= 0, curve.first[jnp.maximum(below, 0)], 0)
    return second / (1 - first + second)


def fit_temperature(logits: jax.Array, y: jax.Array, weight: jax.Array) -> tuple[jax.Array, Converged]:
    """The factor of all logits, between exp(-10) and exp(10), with the least log loss, which is convex in it."""
    weight = weight.astype(logits.dtype)
    total = jnp.maximum(weight.sum(), jnp.finfo(logits.dtype).tiny)
    logits = logits - logits.mean(1, keepdims=True)
    scale = usual_size(logits, weight)
    logits = logits / scale
    right = jnp.take_along_axis(logits, y[:, None], 1)[:, 0]

    def objective(w):
        return jnp.vdot(weight, jax.nn.logsumexp(w[0] * logits, axis=1) - w[0] * right) / total

    # From 0, where it is most curved: at 1 sure scores would leave no slope to see.
    found = newton(objective, jnp.zeros(1, logits.dtype), tolerance(logits), MOST)
    factor = jnp.clip(found.point[0] / scale, jnp.exp(-10.0).astype(logits.dtype), jnp.exp(10.0).astype(logits.dtype))
    return factor, Converged(found.converged, found.iterations)


CURVES = {
    "platt": Curve(fit_sigmoids, lambda curve, scores: normalize(jax.nn.sigmoid(curve.slope * scores + curve.offset))),
    "isotonic": Curve(fit_columns, lambda curve, scores: normalize(jax.vmap(read_steps, (0, 1), 1)(curve, scores))),
    "venn_abers": Curve(fit_venn_abers, lambda curve, scores: normalize(jax.vmap(read_venn_abers, (0, 1), 1)(curve, scores))),
    "temperature": Curve(fit_temperature, lambda factor, logits: jax.nn.softmax(factor * logits)),
}


class Threshold(NamedTuple):
    """An estimator's parameters, and the score above which a row is of the second class."""

    params: Any
    threshold: Any


def threshold(
    estimator: Estimator, cost: Sequence[Sequence[float]] = ((0.0, 1.0), (1.0, 0.0)), folds: Annotated[int, Gt(1)] = 5
) -> Estimator:
    """The estimator of two classes that answers the second where its score exceeds what costs least on out-of-fold scores.

    `cost[truth][answer]`, traced, is what an answer costs by what is true; every threshold between two scores is tried, and of
    those that cost the same the lowest taken. Scores are the probability of the second class, or else the `decision_function`.
    The model is fitted again on all rows. Answers: `predict`, and the estimator's others. hp: {"cost": ..., "estimator": ...}.
    Elkan, IJCAI 2001; like scikit-learn's TunedThresholdClassifierCV.
    """
    if np.shape(cost) != (2, 2):
        shape = list(np.shape(cost))
        raise ValueError(f"`cost` of `threshold` must be [[_, _], [_, _]], by truth and answer; got shape {shape}.")
    name = "decision_function" if "predict_proba" not in estimator.apply else "predict_proba"
    called = trace_host(estimator)

    def second(scores):
        columns = as_columns(scores, name)
        if columns.shape[1] != 1:
            raise ValueError(f"`threshold` takes an estimator of two classes; got one of {columns.shape[1]}.")
        return columns[:, 0]

    def fit(key, rows, hp):
        fold = assign_folds(fold_in(key, 0), rows, folds)
        made = fit_folds(estimator, fold_in(key, 1), rows, hp["estimator"], fold, folds, refit=True)
        found = least_cost(second(made.answers[name]), rows.y, rows.weight, hp["cost"])
        return Threshold(made.refitted, found), made.info

    def check(rows):
        check_scores("threshold", estimator)
        check_folds("threshold", rows, folds)
        estimator.check(rows)

    def predict(fitted, x):
        return (second(estimator.apply[name](fitted.params, x)) > fitted.threshold).astype(jnp.int32)

    answers = read_inside(estimator, lambda fitted: fitted.params) | {"predict": predict}
    hp = {"cost": [[float(one) for one in row] for row in cost], "estimator": estimator.hp}
    return called._replace(fit=fit, apply=answers, check=check, hp=hp)


def least_cost(score: jax.Array, y: jax.Array, weight: jax.Array, cost: Any) -> jax.Array:
    """The threshold of scores [n] with the least cost of labels y [n] by weight, [] in the scores' type."""
    weight = weight.astype(score.dtype)
    there = weight > 0
    score = jnp.where(there, score, jnp.where(there, score, -jnp.inf).max())  # no place of its own
    order = jnp.argsort(score)
    score, y, weight = score[order], y[order], weight[order]

    def of(answer):
        table = jnp.stack([jnp.asarray(cost[truth][answer], score.dtype) for truth in (0, 1)])
        return jnp.concatenate([jnp.zeros(1, score.dtype), jnp.cumsum(weight * table[(y == 1).astype(jnp.int32)])])

    below, above = of(0), of(1)
    total = below + above[-1] - above  # of a threshold behind so many rows
    most = jnp.finfo(score.dtype).max
    ends = jnp.array([-most], score.dtype), jnp.array([most], score.dtype)
    between = jnp.concatenate([ends[0], score[:-1] + (score[1:] - score[:-1]) / 2, ends[1]])
    between = between.at[1:-1].set(jnp.where(between[1:-1] >= score[1:], score[:-1], between[1:-1]))
    cuts = jnp.concatenate([jnp.array([True]), score[1:] > score[:-1], jnp.array([True])])
    return between[jnp.argmin(jnp.where(cuts, total, jnp.inf))]
