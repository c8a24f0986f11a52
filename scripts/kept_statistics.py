"""Make `tests/kept/statistics` anew: what other libraries say of what arsenal.evaluation tests, beside what they were told.

    pip install statsmodels scikit-posthocs baycomp mlxtend confidenceinterval MLstatkit; python scripts/kept_statistics.py
"""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "statistics"
RNG = np.random.default_rng(0)


def keep(name: str, told: dict) -> None:
    """Write a file, arrays as lists."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else value

    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(plain(told)) + "\n", encoding="utf-8")


def power() -> None:
    """statsmodels' power of Student's t and of shares by the arcsine."""
    from statsmodels.stats.power import NormalIndPower, TTestIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    cases = []
    for effect in (0.1, 0.5, -0.3, 1.5):
        for n in (8, 50, 1000):
            for ratio in (1.0, 0.5):
                for alternative in ("two-sided", "larger", "smaller"):
                    found = TTestIndPower().power(effect, n, 0.05, ratio, alternative=alternative)
                    if np.isfinite(found):  # SciPy's noncentral t has no number for some
                        cases.append({"effect": effect, "n": n, "ratio": ratio, "alternative": alternative, "power": found})
    sizes = [
        {"effect": effect, "ratio": ratio, "power": power, "n": TTestIndPower().solve_power(effect, None, 0.05, power, ratio)}
        for effect in (0.1, 0.5, 1.5)
        for ratio in (1.0, 2.0)
        for power in (0.8, 0.95)
    ]
    shares = [
        {
            "share": share, "effect": effect,
            "n": NormalIndPower().solve_power(proportion_effectsize(share + effect, share), None, 0.01, 0.9),
        }
        for share, effect in ((0.1, 0.02), (0.5, -0.1), (0.01, 0.002))
    ]  # fmt: skip
    keep("power", {"t": cases, "t_size": sizes, "share_size": shares})


def two_samples() -> None:
    """statsmodels' z of shares with Newcombe's interval, McNemar, multiplicity, HC2 errors and Cochran's Q."""
    import statsmodels.api as sm
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.meta_analysis import combine_effects
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

    shares = []
    for a, n, b, m in ((40, 400, 60, 380), (1, 20, 7, 25), (0, 15, 3, 15), (500, 1000, 500, 1000)):
        z, p = proportions_ztest([b, a], [m, n])
        interval = confint_proportions_2indep(b, m, a, n, method="newcomb")
        shares.append({"table": [a, n, b, m], "z": z, "p": p, "interval": interval})
    pairs = []
    for b, c in ((5, 15), (30, 12), (1, 0), (120, 90)):
        table = [[50, b], [c, 40]]
        exact, chi2 = mcnemar(table, exact=True), mcnemar(table, exact=False, correction=True)
        pairs.append({"b": b, "c": c, "exact": [exact.statistic, exact.pvalue], "chi2": [chi2.statistic, chi2.pvalue]})
    p = np.sort(RNG.random(12)) ** 2
    p = RNG.permutation(np.append(p, p[3]))
    methods = {"holm": "holm", "bonferroni": "bonferroni", "benjamini_hochberg": "fdr_bh", "benjamini_yekutieli": "fdr_by"}
    adjusted = {ours: multipletests(p, method=theirs)[1] for ours, theirs in methods.items()}
    n = 60
    x, arm = RNG.normal(size=(n, 2)).round(3), (RNG.random(n) < 0.4).astype(float)
    y = (x @ [1.0, -0.5] + 0.4 * arm + 0.3 * arm * x[:, 0] + (1 + arm) * RNG.normal(size=n)).round(3)
    centred = x - x.mean(0)
    fitted = sm.OLS(y, np.column_stack([np.ones(n), arm, centred, arm[:, None] * centred])).fit(cov_type="HC2")
    lin = {"y": y, "arm": arm, "x": x, "effect": fitted.params[1], "p": fitted.pvalues[1], "interval": fitted.conf_int()[1]}
    effect, error = np.array([0.1, 0.4, -0.1, 0.25]), np.array([0.1, 0.15, 0.2, 0.05])
    q = combine_effects(effect, error**2)
    said = {"q": q.q, "p": q.test_homogeneity().pvalue, "mean": q.mean_effect_fe}
    keep(
        "statsmodels",
        {
            "shares": shares, "mcnemar": pairs, "p": p, "adjusted": adjusted, "lin": lin,
            "heterogeneity": {"effect": effect, "error": error} | said,
        },
    )  # fmt: skip


def scores(models: int, sets: int) -> np.ndarray:
    """Accuracies [sets, models] with a few ties."""
    return (0.8 + 0.02 * np.arange(models) + 0.06 * RNG.normal(size=(sets, models))).round(2)


def ranks() -> None:
    """scikit-posthocs' Nemenyi."""
    import scikit_posthocs

    keep("nemenyi", {"cases": [
        {"scores": (table := scores(k, n)), "p": scikit_posthocs.posthoc_nemenyi_friedman(table).to_numpy()}
        for k, n in ((3, 10), (6, 20))
    ]})  # fmt: skip


def bayes() -> None:
    """baycomp's signed rank test, and the correlated t whose posterior is the corrected t's distribution."""
    import baycomp

    cases = []
    for rope in (0.0, 0.01, 0.04):
        table = scores(2, 18)
        probs = baycomp.SignedRankTest.probs(table[:, 1], table[:, 0], rope=rope, nsamples=100_000)
        cases.append({"one": table[:, 0], "other": table[:, 1], "rope": rope, "probs": probs})
    tables = [scores(2, 10) for _ in range(3)]
    folds = [{"scores": one, "probs": baycomp.CorrelatedTTest.probs(one[:, 1], one[:, 0], rope=0)} for one in tables]
    keep("baycomp", {"signed_rank": cases, "folds": folds})


def five_by_two() -> None:
    """mlxtend's two tests, told the scores by a scorer that reads them out."""
    from mlxtend.evaluate import combined_ftest_5x2cv, paired_ttest_5x2cv
    from sklearn.dummy import DummyClassifier

    cases = []
    for _ in range(3):
        one, other = scores(2, 10).T.reshape(2, 5, 2)
        told = {}
        for name, test in (("t", paired_ttest_5x2cv), ("f", combined_ftest_5x2cv)):
            queue = iter(np.stack([one.ravel(), other.ravel()], 1).ravel())
            scoring, models = (lambda *_, queue=queue: next(queue)), (DummyClassifier(), DummyClassifier())
            told[name] = list(test(*models, np.zeros((8, 1)), np.arange(8) % 2, scoring=scoring, random_seed=0))
        cases.append({"one": one, "other": other} | told)
    keep("mlxtend", {"cases": cases})


def areas() -> None:
    """DeLong's interval of confidenceinterval, and the p-value of two areas of MLstatkit."""
    from confidenceinterval import roc_auc_score
    from MLstatkit import Delong_test

    n = 80
    y = (RNG.random(n) < 0.4).astype(int)
    one, other = (np.clip(0.5 + 0.15 * (y - 0.5) + 0.2 * RNG.normal(size=n), 0, 1).round(2) for _ in range(2))
    area, interval = roc_auc_score(y.tolist(), one.tolist(), confidence_level=0.95)
    z, p = Delong_test(y, one, other, return_ci=False, return_auc=False)
    keep("delong", {"y": y, "one": one, "other": other, "area": area, "interval": interval, "z": z, "p": p})


if __name__ == "__main__":
    for make in (power, two_samples, ranks, bayes, five_by_two, areas):
        make()
