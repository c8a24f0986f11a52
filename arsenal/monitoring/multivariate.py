"""Whether rows are others than those before, all columns together: a classifier that tells them apart, kernels, main components.

Columns [n] of numbers and of words and tables [n, d] as of pictures and embeddings become numbers in deviations of the rows
before; a number that is missing is their mean, and a column says so.
"""

import functools
import math
import time
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval
from scipy import stats

from arsenal.estimators import logistic
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.evaluation.significance import delong
from arsenal.monitoring.findings import Finding, State
from arsenal.records import batch, hyperparameters

LEVELS = 20
"""Levels of a column that have a number of their own; the others share one."""
MOST = 5000
"""Rows of a side that the classifier learns from; 1,000 are compared by kernels."""
PAIRS, FOLDS, SQUARES = 1000, 5, 64


class JointRows(NamedTuple):
    """Rows before and now as numbers, and the column that each of the numbers is of."""

    before: np.ndarray
    """[n, d]"""
    now: np.ndarray
    """[m, d]"""
    owner: tuple[str, ...]


def as_numbers(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> JointRows:
    """The columns that both have as numbers in deviations of the rows before; what varies in neither is left out."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    owner: list[str] = []
    for name in before:
        if name not in now:
            continue
        one, other = np.asarray(before[name]), np.asarray(now[name])
        if one.dtype.kind in "OUS":
            words, counts = np.unique(one.astype(str), return_counts=True)
            kept = words[np.argsort(-counts, kind="stable")[:LEVELS]]
            sides = (one.astype(str), other.astype(str))
            coded = [np.column_stack([rows[:, None] == kept, ~np.isin(rows, kept)]).astype(float) for rows in sides]
        else:
            tables = [rows.reshape(len(rows), -1).astype(float) for rows in (one, other)]
            gaps = [~np.isfinite(table) for table in tables]
            middle = np.where(gaps[0], 0, tables[0]).sum(0) / np.maximum((~gaps[0]).sum(0), 1)
            lacking = gaps[0].any(0) | gaps[1].any(0)
            whole = [np.where(gap, middle, table) for table, gap in zip(tables, gaps, strict=True)]
            coded = [np.column_stack([table, gap[:, lacking]]) for table, gap in zip(whole, gaps, strict=True)]
        mean, deviation = coded[0].mean(0), coded[0].std(0)
        still = deviation <= 1e-12 * (1 + np.abs(mean))
        varies = ~still | (np.abs(coded[1] - mean) > 1e-12 * (1 + np.abs(mean))).any(0)
        scale = np.where(still, np.maximum(np.abs(mean), 1.0), deviation)
        parts.append(tuple(((table - mean) / scale)[:, varies] for table in coded))
        owner += [name] * int(varies.sum())
    if not owner:
        raise ValueError(f"Rows must share a column that varies; got {', '.join(before) or 'none'}; {', '.join(now) or 'none'}.")
    return JointRows(np.concatenate([a for a, _ in parts], 1), np.concatenate([b for _, b in parts], 1), tuple(owner))


class Domains(NamedTuple):
    """How well rows now are told from rows before, each judged by a classifier that has not seen it."""

    area: float
    """Under the ROC curve; 1/2 where they are alike."""
    low: float
    high: float
    p: float
    before: np.ndarray
    """[n]: the probability that a row is one of now, as many on either side."""
    now: np.ndarray
    columns: Mapping[str, float]
    """By how much the area falls where the column is shuffled among rows, the most telling first."""
    drawn: np.ndarray
    """Which rows of now these are, where there were more."""


@functools.partial(jax.jit, static_argnames=("folds",))
def fold_scores(x: jax.Array, y: jax.Array, weight: jax.Array, fold: jax.Array, alpha: jax.Array, folds: int) -> Any:
    """The slopes [folds, d] and intercepts of logistic regressions, each without a fold, all in one program."""
    estimator = logistic()
    hp = hyperparameters(estimator.hp | {"alpha": 0.0}) | {"alpha": alpha}

    def without(k):
        return estimator.fit(None, batch(x=x, y=y, weight=jnp.where(fold != k, weight, jnp.zeros_like(weight))), hp)[0]

    return jax.vmap(without)(jnp.arange(folds, dtype=fold.dtype))


def tell_apart(design: JointRows, seed: int = 0, alpha: Annotated[float, Gt(0)] = 10.0) -> Domains:
    """A logistic regression with penalty `alpha` on the numbers and their squares, by five folds; sides weigh alike.

    Of more than 5,000 rows of a side 5,000 are drawn; the answers are of those, in their order. Interval and p: DeLong's.
    """
    draw = np.random.default_rng(seed)
    drawn = [np.sort(draw.choice(len(side), min(len(side), MOST), replace=False)) for side in design[:2]]
    sides = [side[which] for side, which in zip(design[:2], drawn, strict=True)]
    x = np.concatenate(sides)
    owner = np.array(design.owner)
    x = np.clip(x, -10, 10)
    if x.shape[1] <= SQUARES:
        varied = [at for at in range(x.shape[1]) if len(np.unique(x[:, at])) > 2]
        squares = (x[:, varied] ** 2 - 1) / math.sqrt(2)
        x, owner = np.concatenate([x, np.clip(squares, -10, 10)], 1), np.append(owner, owner[varied])
    y = np.repeat([0, 1], [len(side) for side in sides])
    weight = np.repeat([len(y) / 2 / len(side) for side in sides], [len(side) for side in sides])
    fold = np.concatenate([draw.permutation(np.arange(len(side)) % FOLDS) for side in sides])
    rows = (jnp.asarray(x, jnp.float32), jnp.asarray(y), jnp.asarray(weight, jnp.float32), jnp.asarray(fold))
    fitted = fold_scores(*rows, jnp.float32(alpha), FOLDS)
    slope, intercept = np.asarray(fitted.slope, float)[fold], np.asarray(fitted.intercept, float)[fold]
    score = (slope * x).sum(1) + intercept
    found = delong(y, score)
    falls = {}
    for name in dict.fromkeys(design.owner):
        own = owner == name
        moved = np.empty_like(score)
        for k in range(FOLDS):
            held = np.flatnonzero(fold == k)
            moved[held] = (slope[held][:, own] * x[draw.permutation(held)][:, own]).sum(1)
        falls[name] = found.effect + 0.5 - area_of(y, score - (slope[:, own] * x[:, own]).sum(1) + moved)
    p = 1 / (1 + np.exp(-np.clip(score, -30, 30)))
    ordered = dict(sorted(falls.items(), key=lambda one: -one[1]))
    one_side = found.p_value / 2 if found.effect > 0 else 1 - found.p_value / 2  # what is told worse than by chance is alike
    return Domains(found.effect + 0.5, found.low + 0.5, found.high + 0.5, one_side, p[y == 0], p[y == 1], ordered, drawn[1])


def area_of(y: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve of scores [n] of y [n] in {0, 1}."""
    rank, positive = stats.rankdata(score), y.sum()
    return float((rank[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


class Importance(NamedTuple):
    """How much oftener rows like those before come now."""

    weight: np.ndarray
    """[n], 1 on average."""
    reach: float
    """The share of the rows now, about, that are like some before; where it is small, those before say nothing of them."""


def importance(design: JointRows, seed: int = 0) -> Importance:
    """The weights of the rows before, by the odds of `tell_apart`; ValueError for more than 5,000 rows of a side.

    Odds are 1 on average over the rows before where these are everywhere where rows now are, so that their mean is the reach.
    """
    if max(len(design.before), len(design.now)) > MOST:
        raise ValueError(f"`importance` takes up to {MOST:,} rows of a side; got {len(design.before):,} and {len(design.now):,}.")
    p = tell_apart(design, seed, alpha=1.0).before
    odds = np.clip(p / (1 - p), 1e-6, 50.0)
    return Importance(odds / odds.mean(), float(min(odds.mean(), 1.0)))


class Discrepancy(NamedTuple):
    """The maximum mean discrepancy of two samples, and how often shuffled ones have as large a one."""

    value: float
    """The unbiased square; about 0 where they are alike."""
    width: float
    """Of the kernel."""
    p: float


def mean_discrepancy(x: np.ndarray, y: np.ndarray, samples: int = 999, seed: int = 0, width: float | None = None) -> Discrepancy:
    """Of rows x [n, d] and y [m, d] by a Gaussian kernel, `exp(-|a - b|² / (2 width²))`, whose width is the median distance.

    Of more than 1,000 rows of a side 1,000 are drawn. p is of `samples` permutations. Gretton et al., JMLR 13 (2012), lemma 6.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"`mean_discrepancy` needs two rows of either side; got {len(x)} and {len(y)}.")
    draw = np.random.default_rng(seed)
    x, y = (side[np.sort(draw.choice(len(side), min(len(side), PAIRS), replace=False))] for side in (x, y))
    both, n, m = np.concatenate([x, y]), len(x), len(y)
    norms = (both**2).sum(1)
    square = np.maximum(norms[:, None] + norms - 2 * both @ both.T, 0)
    if width is None:
        apart = square[np.triu_indices(n + m, 1)]
        width = math.sqrt(float(np.median(apart))) or math.sqrt(float(apart.mean())) or 1.0
    kernel = np.exp(-square / (2 * width**2))
    np.fill_diagonal(kernel, 0)
    order = np.stack([np.arange(n + m), *(draw.permutation(n + m) for _ in range(samples))])
    first = (order < n).astype(float)  # which rows are taken for the first side, by permutation
    near = first @ kernel
    within = (near * first).sum(1)
    across = near.sum(1) - within
    other = kernel.sum() - within - 2 * across
    value = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m)
    p = (1 + int((value[1:] >= value[0] - 1e-12).sum())) / (1 + samples)
    return Discrepancy(float(value[0]), float(width), p)


class Reconstruction(NamedTuple):
    """How far rows are from what the main components of the rows before make of them."""

    before: float
    """The mean distance of rows before that the components were not found on."""
    now: float
    size: float
    """How much larger it is now, in standard deviations of a row's."""
    p: float
    components: int


def reconstruct(design: JointRows, share: Annotated[float, Interval(gt=0, lt=1)] = 0.65, seed: int = 0) -> Reconstruction:
    """By as many components as hold `share` of the variance, of a half of the rows before; the other half says what is usual.

    p is Welch's, of two sides: a structure that is gone may also make rows nearer.
    """
    if min(len(design.before) // 2, len(design.now)) < 2:
        raise ValueError(f"`reconstruct` needs four rows before and two now; got {len(design.before)} and {len(design.now)}.")
    order = np.random.default_rng(seed).permutation(len(design.before))
    found, held = design.before[order[::2]], design.before[order[1::2]]
    middle = found.mean(0)
    _, singular, axes = np.linalg.svd(found - middle, full_matrices=False)
    held_by = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-300)
    count = int(np.searchsorted(held_by, share) + 1)
    axes = axes[:count]
    usual, now = (np.linalg.norm(side - middle - (side - middle) @ axes.T @ axes, axis=1) for side in (held, design.now))
    deviation = float(usual.std())
    moved = float(now.mean() - usual.mean())
    p = float(stats.ttest_ind(usual, now, equal_var=False).pvalue) if deviation or now.std() else float(moved == 0)
    size = abs(moved) / deviation if deviation else math.inf if moved else 0.0
    return Reconstruction(float(usual.mean()), float(now.mean()), size, p, count)


class JointBounds(NamedTuple):
    """From where on rows together have drifted."""

    size: Annotated[float, Gt(0)] = 0.1
    """Of the classifier twice the area less 1, of reconstruction the deviations; of kernels any discrepancy that is no chance."""
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.01
    """The share of windows without drift in which any of the three says so, at most."""
    rows: Annotated[int, Gt(0)] = 100


def joint_findings(
    model: str, version: str, before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], window: tuple[float, float],
    bounds: JointBounds = JointBounds(), seed: int = 0, at: float | None = None,  # noqa: B008
) -> tuple[list[Finding], Domains | None]:  # fmt: skip
    """A finding of each of the three, p corrected for all (Holm), and what the classifier saw; None where rows are too few."""
    at = time.time() if at is None else at
    rows = [len(next(iter(side.values()), ())) for side in (before, now)]
    blank = Finding(at, model, version, "multivariate", "", "ok", rows=rows[1], window=window)
    if min(rows) < bounds.rows:
        return [blank._replace(name="classifier", why=f"too few rows, {min(rows)} of {bounds.rows}")], None
    design = as_numbers(before, now)
    domains = tell_apart(design, seed)
    kernel = mean_discrepancy(design.before, design.now, seed=seed)
    shape = reconstruct(design, seed=seed)
    telling = ", ".join(name for name, fall in [*domains.columns.items()][:3] if fall > 0.005) or "none by itself"
    made = [
        ("classifier", domains.area, 2 * domains.area - 1, domains.p,
         f"tells rows apart with an area of {domains.area:.3f} ({domains.low:.3f} to {domains.high:.3f}); by {telling}"),
        ("kernels", kernel.value, max(kernel.value, 0.0) ** 0.5, kernel.p, f"mean discrepancy {kernel.value:.3g}"),
        ("components", shape.now, shape.size, shape.p,
         f"distance from {shape.components} components {shape.now:.3g}, {shape.before:.3g} before"),
    ]  # fmt: skip
    found = []
    for (name, value, size, _, why), p in zip(made, adjust_p_values([one[3] for one in made]), strict=True):
        drifted = p < bounds.alpha and (size > bounds.size or name == "kernels")
        state: State = "breach" if drifted else "ok"
        limited = min(size, 1e9)
        bound = None if name == "kernels" else (1 + bounds.size) / 2 if name == "classifier" else None
        found.append(blank._replace(name=name, state=state, value=value, bound=bound, size=limited, p=float(p), why=why))
    return found, domains
