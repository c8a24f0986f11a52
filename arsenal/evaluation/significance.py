"""Whether a model is better than another: tests of paired scores, of answers row by row, and of many models over many sets.

Which test is for what: Demšar, JMLR 7 (2006). They run on the host, in float64, by SciPy where it has the test. Rows count by
whole `weight` [n]: 0 is not there, though it be NaN, and 2 is the row twice.
"""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy import special, stats

NAN = float("nan")
EXACT_PAIRS = 16
"""Up to so many pairs all signs of a permutation test are tried."""
WALSH_PAIRS = 2000
"""Up to so many pairs the means of all two of them are taken."""


class Comparison(NamedTuple):
    """What a test says; NaN where it says nothing of the kind."""

    statistic: float
    p_value: float
    """Of two sides, where nothing else is said."""
    effect: float = NAN
    """How far apart the two are, in the units that the test names."""
    low: float = NAN
    high: float = NAN
    """The interval of the effect at the confidence that was asked for."""
    degrees: tuple[float, ...] = ()
    """Degrees of freedom of the statistic."""


def count_rows(test: str, weight: Any, **columns: Any) -> list[np.ndarray]:
    """The columns [n, ...] as floats, each row as often as its whole weight says; weights default to ones.

    Raises ValueError for columns of several lengths, weights that are not whole, and what is no number in a row that is there.
    """
    arrays = {name: np.asarray(column, float) for name, column in columns.items()}
    lengths = {name: len(np.atleast_1d(column)) for name, column in arrays.items()}
    n = next(iter(lengths.values()))
    whole = np.ones(n) if weight is None else np.asarray(weight, float)
    for name, length in {**lengths, "weight": len(whole)}.items():
        if length != n:
            raise ValueError(f"`{name}` of `{test}` must have {n} rows, as `{next(iter(arrays))}` has; got {length}.")
    if (wrong := ~(np.isfinite(whole) & (whole >= 0) & (whole == np.round(whole)))).any():
        at = int(wrong.argmax())
        raise ValueError(f"`weight` of `{test}` must be whole numbers >= 0; got {whole[at]:g} in row {at + 1}.")
    for name, column in arrays.items():
        bad = ~np.isfinite(column.reshape(n, -1)).all(1) & (whole > 0)
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"`{name}` of `{test}` must be finite numbers; got {np.atleast_1d(column[at])} in row {at + 1}.")
    return [np.repeat(column, whole.astype(int), axis=0) for column in arrays.values()]


def check_confidence(test: str, confidence: float) -> None:
    """Raise ValueError for what is no confidence."""
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` of `{test}` must be in (0, 1); got {confidence:g}.")


def check_rows(test: str, rows: int, least: int) -> None:
    """Raise ValueError where a test has too few rows."""
    if rows < least:
        raise ValueError(f"`{test}` needs {least} rows of weight or more; got {rows}.")


def check_binary(test: str, name: str, values: np.ndarray) -> None:
    """Raise ValueError for other values than 0 and 1."""
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        raise ValueError(f"`{name}` of `{test}` must be 0 or 1; got {values[wrong].flat[0]:g}.")


def two_sides(confidence: float) -> float:
    """The quantile of the normal distribution that leaves half of what is not confidence on either side."""
    return float(special.ndtri((1 + confidence) / 2))


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share of n, JASA 22 (1927)."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(middle - reach), float(middle + reach)


def normal_comparison(effect: float, variance: float, confidence: float) -> Comparison:
    """An estimate [] with its variance against 0, by the normal distribution."""
    error = float(np.sqrt(variance))
    z = effect / error if error > 0 else 0.0 if effect == 0 else float(np.copysign(np.inf, effect))
    reach = two_sides(confidence) * error
    return Comparison(float(z), float(2 * special.ndtr(-abs(z))), float(effect), float(effect - reach), float(effect + reach))


def t_comparison(effect: float, error: float, degrees: float, confidence: float) -> Comparison:
    """An estimate [] with its standard error against 0, by Student's distribution."""
    t = effect / error if error > 0 else 0.0 if effect == 0 else float(np.copysign(np.inf, effect))
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
    p = float(2 * stats.t.sf(abs(t), degrees))
    return Comparison(float(t), p, float(effect), float(effect - reach), float(effect + reach), (float(degrees),))


def resampled_t(one: Any, other: Any, ratio: float, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Two models' scores [k] on the same k random splits or folds, by Student's t with the variance of overlapping training sets.

    `ratio` is rows tested on over rows trained on in one split: 1 / (k - 1) for k folds. The plain t test takes splits for
    independent and finds differences that are none. Effect: the mean of one - other. Nadeau & Bengio, Machine Learning 52 (2003).

    >>> round(resampled_t([0.82, 0.85, 0.81, 0.84], [0.80, 0.82, 0.80, 0.79], ratio=1 / 3).p_value, 4)
    0.1256
    """
    check_confidence("resampled_t", confidence)
    if not ratio > 0:
        raise ValueError(f"`ratio` of `resampled_t` must be > 0; got {ratio:g}.")
    one, other = count_rows("resampled_t", weight, one=one, other=other)
    k = len(one)
    check_rows("resampled_t", k, 2)
    difference = one - other
    return t_comparison(difference.mean(), float(np.sqrt((1 / k + ratio) * difference.var(ddof=1))), k - 1, confidence)


def five_by_two(test: str, one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """The differences [5, 2] of two models' scores and their variances [5] in each of five repetitions."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.shape != (5, 2) or other.shape != (5, 2):
        raise ValueError(f"`{test}` takes scores [5, 2] of five times two folds; got {list(one.shape)} and {list(other.shape)}.")
    difference = one - other
    return difference, np.square(difference - difference.mean(1, keepdims=True)).sum(1)


def five_by_two_t(one: Any, other: Any, confidence: float = 0.95) -> Comparison:
    """Two models' scores [5, 2] in five repetitions of two folds, by Student's t with 5 degrees of freedom.

    Effect: the first difference one - other, which the statistic is made of. Dietterich, Neural Computation 10 (1998).
    """
    check_confidence("five_by_two_t", confidence)
    difference, variance = five_by_two("five_by_two_t", one, other)
    return t_comparison(difference[0, 0], float(np.sqrt(variance.mean())), 5, confidence)


def five_by_two_f(one: Any, other: Any) -> Comparison:
    """Two models' scores [5, 2] in five repetitions of two folds, by F with 10 and 5 degrees: no fold is singled out.

    Effect: the mean of one - other, without an interval. Alpaydin, Neural Computation 11 (1999).
    """
    difference, variance = five_by_two("five_by_two_f", one, other)
    mean = float(difference.mean())
    if not variance.sum() > 0:
        same = not np.square(difference).sum() > 0
        return Comparison(0.0 if same else float("inf"), 1.0 if same else 0.0, mean, degrees=(10.0, 5.0))
    statistic = float(np.square(difference).sum() / (2 * variance.sum()))
    return Comparison(statistic, float(stats.f.sf(statistic, 10, 5)), mean, degrees=(10.0, 5.0))


def mcnemar(
    one: Any, other: Any, weight: Any = None, method: Literal["exact", "chi2"] = "exact", confidence: float = 0.95
) -> Comparison:
    """Whether two models are right [n], 0 or 1, on the same rows equally often: only rows count on which one alone is.

    exact: the binomial distribution, statistic the smaller count; chi2: Edwards' corrected statistic. Effect: the difference
    of the accuracies one - other with Wald's interval. McNemar, Psychometrika 12 (1947).

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]).p_value
    0.21875
    """
    check_confidence("mcnemar", confidence)
    one, other = count_rows("mcnemar", weight, one=one, other=other)
    check_rows("mcnemar", len(one), 1)
    for name, values in (("one", one), ("other", other)):
        check_binary("mcnemar", name, values)
    n, only_one, only_other = len(one), int((one > other).sum()), int((other > one).sum())
    apart, gap = only_one + only_other, only_one - only_other
    effect = gap / n
    reach = two_sides(confidence) * float(np.sqrt(apart - gap**2 / n)) / n
    if method == "exact":
        p = float(stats.binomtest(only_one, apart).pvalue) if apart else 1.0
        return Comparison(float(min(only_one, only_other)), p, effect, effect - reach, effect + reach)
    if method != "chi2":
        raise ValueError(f"`method` of `mcnemar` must be exact or chi2; got {method}.")
    statistic = max(abs(gap) - 1, 0) ** 2 / apart if apart else 0.0
    return Comparison(statistic, float(stats.chi2.sf(statistic, 1)), effect, effect - reach, effect + reach, (1.0,))


def wilcoxon(one: Any, other: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Scores [n] of two models on n sets, by the ranks of their differences: no distribution is assumed but a symmetric one.

    Pairs without a difference are left out. Effect: Hodges & Lehmann's estimate of one - other, the median of all means of two
    differences, with the exact interval up to 50 pairs and the normal one above; beyond 2,000 pairs the median difference
    without an interval. Wilcoxon, Biometrics 1 (1945); Hollander & Wolfe, Nonparametric Statistical Methods, 3.
    """
    check_confidence("wilcoxon", confidence)
    one, other = count_rows("wilcoxon", weight, one=one, other=other)
    difference = one - other
    difference = difference[difference != 0]
    n = len(difference)
    if not n:
        return Comparison(0.0, 1.0, 0.0)
    found = stats.wilcoxon(difference)
    if n > WALSH_PAIRS:
        return Comparison(float(found.statistic), float(found.pvalue), float(np.median(difference)))
    first, second = np.triu_indices(n)
    walsh = np.sort((difference[first] + difference[second]) / 2)
    left_out = signed_rank_quantile(n, (1 - confidence) / 2)
    ends = (walsh[left_out], walsh[-left_out - 1]) if left_out >= 0 else (-np.inf, np.inf)
    return Comparison(float(found.statistic), float(found.pvalue), float(np.median(walsh)), float(ends[0]), float(ends[1]))


def signed_rank_quantile(n: int, tail: float) -> int:
    """How many means of two differences an interval leaves out on either side: the largest w with P(W <= w) <= tail; or -1."""
    if n > 50:
        z = special.ndtri(1 - tail)
        return max(int(np.floor(n * (n + 1) / 4 - z * np.sqrt(n * (n + 1) * (2 * n + 1) / 24) - 0.5)), -1)
    ways = np.ones(1)
    for rank in range(1, n + 1):  # of every sum of ranks, how many signs make it
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return int((np.cumsum(ways) / 2.0**n <= tail).sum()) - 1


def as_table_of_scores(test: str, scores: Any, weight: Any, least: int) -> np.ndarray:
    """Scores [sets, models] as they count."""
    (table,) = count_rows(test, weight, scores=scores)
    if table.ndim != 2 or table.shape[1] < least:
        raise ValueError(f"`scores` of `{test}` must be [sets, models] of {least} models or more; got {list(table.shape)}.")
    check_rows(test, len(table), 2)
    return table


def mean_ranks(scores: Any, mode: Literal["max", "min"] = "max", weight: Any = None) -> np.ndarray:
    """The mean rank [models] of scores [sets, models], 1 the best; ties share their ranks.

    >>> mean_ranks([[0.9, 0.8, 0.7], [0.6, 0.7, 0.7]]).tolist()
    [2.0, 1.75, 2.25]
    """
    if mode not in ("max", "min"):
        raise ValueError(f"`mode` of `mean_ranks` must be max or min; got {mode}.")
    table = as_table_of_scores("mean_ranks", scores, weight, 2)
    return stats.rankdata(-table if mode == "max" else table, axis=1).mean(0)


def friedman(scores: Any, weight: Any = None) -> Comparison:
    """Whether three models or more rank alike over sets, of scores [sets, models]: chi-square of their ranks, corrected for ties.

    Friedman, JASA 32 (1937). `iman_davenport` is the less conservative statistic.
    """
    table = as_table_of_scores("friedman", scores, weight, 3)
    if (table == table[:, :1]).all():
        return Comparison(0.0, 1.0, degrees=(table.shape[1] - 1.0,))
    found = stats.friedmanchisquare(*table.T)
    return Comparison(float(found.statistic), float(found.pvalue), degrees=(table.shape[1] - 1.0,))


def iman_davenport(scores: Any, weight: Any = None) -> Comparison:
    """Friedman's statistic of scores [sets, models] as an F: `(n - 1) chi2 / (n (k - 1) - chi2)` with k - 1 and (k - 1)(n - 1).

    Iman & Davenport, Communications in Statistics A9 (1980).
    """
    table = as_table_of_scores("iman_davenport", scores, weight, 3)
    n, k = table.shape
    chi2 = friedman(table).statistic
    rest = n * (k - 1) - chi2
    statistic = (n - 1) * chi2 / rest if rest > 1e-12 * n else float("inf")
    degrees = (k - 1.0, (k - 1.0) * (n - 1.0))
    return Comparison(float(statistic), float(stats.f.sf(statistic, *degrees)), degrees=degrees)


def nemenyi(scores: Any, weight: Any = None) -> np.ndarray:
    """The p-values [models, models] of every pair of models, of scores [sets, models], by the difference of their mean ranks.

    Holds for all pairs together, by the studentized range. Nemenyi, PhD thesis, Princeton (1963).
    """
    table = as_table_of_scores("nemenyi", scores, weight, 2)
    n, k = table.shape
    ranks = mean_ranks(table)
    apart = np.abs(ranks[:, None] - ranks[None]) / np.sqrt(k * (k + 1) / (6 * n))
    p = stats.studentized_range.sf(apart * np.sqrt(2), k, np.inf)
    return np.where(np.eye(k, dtype=bool), 1.0, np.clip(p, 0, 1))


def critical_difference(models: int, sets: int, alpha: float = 0.05) -> float:
    """How far the mean ranks of two of `models` models over `sets` sets must be apart for Nemenyi's test to tell them apart.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    if models < 2 or sets < 2:
        raise ValueError(f"`critical_difference` needs 2 models and 2 sets or more; got {models} and {sets}.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` of `critical_difference` must be in (0, 1); got {alpha:g}.")
    q = stats.studentized_range.ppf(1 - alpha, models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * sets)))


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's generator of the words of a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def permutation(key: jax.Array | None, one: Any, other: Any, weight: Any = None, samples: int = 10_000) -> Comparison:
    """Scores [n] of two models on the same rows, by signs of their differences: without an effect each is as likely as the other.

    All 2^n signs up to 16 pairs, where no key is needed; else `samples` random ones, themselves among them, so that p is never
    0. Effect and statistic: the mean of one - other. Fisher, The Design of Experiments (1935); Phipson & Smyth, SAGMB 9 (2010).

    >>> permutation(None, [0.9, 0.8, 0.9, 0.7, 0.8], [0.8, 0.7, 0.7, 0.6, 0.5]).p_value
    0.0625
    """
    one, other = count_rows("permutation", weight, one=one, other=other)
    check_rows("permutation", len(one), 1)
    difference = np.sort(one - other)  # what is drawn does not depend on the order of the rows
    n, mean = len(difference), float((one - other).mean())
    limit = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()  # sums of other signs round otherwise
    if n <= EXACT_PAIRS:
        flip = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        p = float((np.abs(difference.sum() - 2 * flip @ difference) >= limit).mean())
        return Comparison(mean, p, mean)
    if key is None:
        raise ValueError(f"`permutation` of more than {EXACT_PAIRS} pairs draws signs and needs a key; got None.")
    if samples < 1:
        raise ValueError(f"`samples` of `permutation` must be >= 1; got {samples}.")
    draw, beyond = generator(key), 0
    for start in range(0, samples, 1000):
        flip = draw.integers(0, 2, (min(1000, samples - start), n), dtype=np.int8)
        beyond += int((np.abs(difference.sum() - 2 * flip @ difference) >= limit).sum())
    return Comparison(mean, (1 + beyond) / (1 + samples), mean)


class AreaEstimates(NamedTuple):
    """Areas under ROC curves [m] of m scores of the same rows, and their covariance [m, m]."""

    area: np.ndarray
    covariance: np.ndarray


def auc_covariance(y: Any, scores: Any, weight: Any = None) -> AreaEstimates:
    """The areas under the ROC curves of scores [n, m] for y [n] in {0, 1}, and their covariance, by midranks in n log n.

    DeLong et al., Biometrics 44 (1988); Sun & Xu, IEEE Signal Processing Letters 21 (2014).
    """
    scores = np.asarray(scores, float)
    y, scores = count_rows("auc_covariance", weight, y=y, scores=scores.reshape(len(scores), -1))
    check_binary("auc_covariance", "y", y)
    above, below = scores[y == 1].T, scores[y == 0].T
    m, n = above.shape[1], below.shape[1]
    if m < 2 or n < 2:
        raise ValueError(f"`y` of `auc_covariance` must hold two rows of either class or more; got {m} of class 1 and {n} of 0.")
    rank = stats.rankdata(np.concatenate([above, below], axis=1), axis=1)
    # Of a row of class 1, the share of class 0 below it, and the other way round.
    wins = (rank[:, :m] - stats.rankdata(above, axis=1)) / n
    losses = 1 - (rank[:, m:] - stats.rankdata(below, axis=1)) / m
    covariance = np.atleast_2d(np.cov(wins)) / m + np.atleast_2d(np.cov(losses)) / n
    return AreaEstimates(wins.mean(1), covariance)


def delong(y: Any, one: Any, other: Any = None, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Whether the area under the ROC curve of scores `one` [n] is that of `other` [n] on the same rows, y [n] in {0, 1}.

    Without `other`, against chance: 1/2. Effect: the difference of the areas (or the area less 1/2) and its interval, by the
    normal distribution. DeLong et al., Biometrics 44 (1988).
    """
    check_confidence("delong", confidence)
    if other is None:
        found = auc_covariance(y, one, weight)
        return normal_comparison(float(found.area[0]) - 0.5, float(found.covariance[0, 0]), confidence)
    pair = [np.asarray(one, float), np.asarray(other, float)]
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"`other` of `delong` must have shape {list(pair[0].shape)}, as `one` has; got {list(pair[1].shape)}.")
    found = auc_covariance(y, np.stack(pair, 1), weight)
    variance = float(np.array([1, -1]) @ found.covariance @ np.array([1, -1]))
    return normal_comparison(float(found.area[0] - found.area[1]), max(variance, 0.0), confidence)


class RopeShares(NamedTuple):
    """How probable it is that the first of two is better by more than the region of equivalence, that both are alike, that it is
    worse."""

    better: float
    alike: float
    worse: float


def bayesian_signed_rank(
    key: jax.Array, one: Any, other: Any, rope: float, weight: Any = None, prior: float = 0.5, samples: int = 50_000
) -> RopeShares:
    """Scores [n] of two models on n sets: how probable it is that one is better, alike within `rope`, or worse.

    A Dirichlet process over the differences with weight `prior` at 0 takes the place of a null hypothesis; `rope` is how
    far apart two scores may be and yet be practically alike, in their own units. Benavoli et al., JMLR 18 (2017), 4.2.
    """
    if not rope >= 0:
        raise ValueError(f"`rope` of `bayesian_signed_rank` must be >= 0; got {rope:g}.")
    if not prior > 0 or samples < 1:
        raise ValueError(f"`bayesian_signed_rank` needs prior > 0 and samples >= 1; got {prior:g} and {samples}.")
    one, other = count_rows("bayesian_signed_rank", weight, one=one, other=other)
    check_rows("bayesian_signed_rank", len(one), 1)
    difference = np.append(0.0, np.sort(one - other))
    pair = difference[:, None] + difference[None]
    better, worse = (np.heaviside(side * pair - 2 * rope, 0.5) for side in (1, -1))
    draw, wins = generator(key), np.zeros(3)
    strength = np.append(prior, np.ones(len(one)))
    for start in range(0, samples, 5000):
        share = draw.dirichlet(strength, min(5000, samples - start))
        up, down = (((share @ side) * share).sum(1) for side in (better, worse))
        wins += np.bincount(np.argmax(np.stack([up, 1 - up - down, down]), axis=0), minlength=3)
    return RopeShares(*(float(share) for share in wins / samples))
