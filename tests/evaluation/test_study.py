"""A study's numbers are those of scikit-learn's cross-validation; its intervals count that splits share rows."""

import jax
import numpy as np
import pytest
from arsenal_serving.export import Tensor
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import arsenal.evaluation.study as study_module
from arsenal import combine, data, estimators, features, metrics
from arsenal.evaluation.significance import delong, mcnemar
from arsenal.evaluation.study import Study, as_study, compile_lanes, study
from arsenal.records import batch
from arsenal.storage.memory import program_bytes


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_numbers_are_those_of_cross_validation(float64):
    x, y = load_diabetes(return_X_y=True)
    rows = batch(x=x, y=y)
    alphas = [0.01, 0.1, 1.0]
    found = study(
        estimators.ridge(), rows, data.k_fold(4, seed=0), {"r2": metrics.r2_score(), "mse": metrics.mean_squared_error()},
        {"alpha": alphas}, lanes=5,
    )  # fmt: skip
    assert found.keys == ["alpha"] and len(found.table) == 12
    for alpha in alphas:
        peer = cross_validate(
            Ridge(alpha), x, y, cv=KFold(4, shuffle=True, random_state=0), scoring=("r2", "neg_mean_squared_error"),
            return_train_score=True,
        )  # fmt: skip
        mine = found.table[found.table["alpha"] == alpha].sort_values("split")
        np.testing.assert_allclose(mine["test/r2_score"], peer["test_r2"], rtol=1e-8)
        np.testing.assert_allclose(mine["train/r2_score"], peer["train_r2"], rtol=1e-8)
        np.testing.assert_allclose(mine["test/mean_squared_error"], -peer["test_neg_mean_squared_error"], rtol=1e-8)
    assert found.table["train_rows"].unique().tolist() == [331, 332]


def test_transforms_are_fitted_on_the_rows_that_train(float64):
    x, y = load_breast_cancer(return_X_y=True)
    rows = batch(x=x, y=y.astype(np.int32))
    pipeline = combine.after(features.standardize(), estimators.logistic(classes=2, alpha=1.0))
    found = study(pipeline, rows, data.stratified_k_fold(3), {"accuracy": metrics.accuracy(), "area": metrics.roc_auc()})
    peer = cross_validate(
        make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000)), x, y,
        cv=StratifiedKFold(3, shuffle=True, random_state=0), scoring=("accuracy", "roc_auc"),
    )  # fmt: skip
    np.testing.assert_allclose(found.table["test/accuracy"], peer["test_accuracy"], atol=1e-12)
    np.testing.assert_allclose(found.table["test/roc_auc"], peer["test_roc_auc"], atol=1e-9)  # counted on the host


def test_a_second_grid_compiles_nothing_and_another_metric_does():
    x, y = load_diabetes(return_X_y=True)
    rows, model, squared = batch(x=x, y=y), estimators.ridge(), metrics.mean_squared_error()
    compile_lanes.cache_clear()

    def run(alpha, metric):
        return study(model, rows, data.k_fold(3), {"it": metric}, {"alpha": [alpha]}).table

    first, second = run(1.0, squared), run(0.001, squared)
    assert compile_lanes.cache_info().misses == 1
    assert (first["test/mean_squared_error"] != second["test/mean_squared_error"]).all()
    halved = run(1.0, squared._replace(compute=lambda acc: {k: v / 2 for k, v in squared.compute(acc).items()}))
    np.testing.assert_allclose(halved["test/mean_squared_error"], first["test/mean_squared_error"] / 2, rtol=1e-6)


def test_a_grid_that_memory_cannot_hold_at_once_is_fitted_in_parts(monkeypatch):
    x, y = load_diabetes(return_X_y=True)
    rows, alphas = batch(x=x, y=y), [10.0**i for i in range(-4, 4)]

    def run():
        found = study(estimators.ridge(), rows, data.k_fold(4), {"r2": metrics.r2_score()}, {"alpha": alphas})
        return found.table.sort_values(["alpha", "split"])["test/r2_score"].to_numpy()

    sizes = []

    def watched(asked, structure, given, context):
        made = compile_lanes(asked, structure, given, context)
        sizes.append((jax.tree.leaves(structure.unflatten(given)[0])[0].shape[0], program_bytes(made)))
        return made

    monkeypatch.setattr(study_module, "compile_lanes", watched)
    whole = run()
    lanes, taken = sizes[-1]
    assert lanes == len(alphas) * 4
    monkeypatch.setattr(study_module, "free_memory", lambda: taken / 2)
    parts = run()
    assert 1 <= sizes[-1][0] < lanes and sizes[-1][1] <= study_module.ROOM * taken / 2
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def fabricated(scores: dict[str, list[float]]) -> Study:
    lines = [
        {"candidate": {"kind": kind}, "seed": 0, "split": i, "train_rows": 80, "test_rows": 20, "converged": True,
         "values": {"train/score": 1.0, "test/score": value}}
        for kind, values in scores.items()
        for i, value in enumerate(values)
    ]  # fmt: skip
    return as_study(lines, "score", "max")


def test_intervals_and_p_values_are_of_the_corrected_t():
    good, fair, poor = [0.90, 0.92, 0.91, 0.95, 0.90], [0.89, 0.92, 0.90, 0.93, 0.89], [0.5, 0.6, 0.55, 0.52, 0.58]
    ranked = fabricated({"fair": fair, "good": good, "poor": poor}).leaderboard()
    assert ranked["kind"].tolist() == ["good", "fair", "poor"]
    error = np.sqrt((1 / 5 + 20 / 80) * np.var(good, ddof=1))
    np.testing.assert_allclose(ranked["high"][0], np.mean(good) + stats.t.ppf(0.975, 4) * error)

    def p(other):
        d = np.subtract(good, other)
        return 2 * stats.t.sf(abs(d.mean() / np.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))), 4)

    assert p(poor) < p(fair)
    np.testing.assert_allclose(ranked["p_value"][1:], [p(fair), 2 * p(poor)])
    assert np.isnan(ranked["p_value"][0])


def test_candidates_of_other_keys_are_candidates_of_their_own():
    """A study grows: what was fitted without a grid is not the mean of what was fitted with one."""
    lines = [
        {"candidate": values, "seed": 0, "split": split, "train_rows": 80, "test_rows": 20, "converged": True,
         "values": {"train/score": 1.0, "test/score": score + split / 100}}
        for values, score in (({}, 0.5), ({"alpha": 1.0}, 0.7), ({"alpha": 1.0, "size": 0.5}, 0.6))
        for split in range(3)
    ]  # fmt: skip
    found = as_study(lines, "score", "max")
    ranked = found.leaderboard()
    assert found.keys == ["alpha", "size"] and ranked["candidate"].tolist() == [1, 2, 0] and ranked["fits"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(ranked["mean"], [0.71, 0.61, 0.51])
    names = [found.name_candidate(row) for _, row in ranked.iterrows()]
    assert names == ["alpha 1", "alpha 1, size 0.5", ""]


def test_a_fold_that_cannot_be_judged_has_no_interval():
    ranked = fabricated({"a": [0.9, float("nan")], "b": [0.8, 0.7]}).leaderboard()
    assert np.isnan(ranked.set_index("kind").loc["a", "low"]) and np.isfinite(ranked.set_index("kind").loc["b", "low"])


def test_fits_without_a_value_are_counted():
    found = fabricated({"a": [0.9, float("nan")], "b": [0.8, 0.7]})
    said = list(found.lines(5))
    assert any("(no interval)" in line for line in said) and not any("nan" in line for line in said)
    assert any(line.startswith("score has no value in 1 of 4 fits") for line in said)
    assert list(fabricated({"a": [0.9, 0.8]}).lines_without_value()) == []


def test_a_learning_curve_is_that_of_fits_on_fewer_rows():
    x, y = load_diabetes(return_X_y=True)
    rows = batch(x=x.astype(np.float32), y=y.astype(np.float32))
    given = (estimators.ridge(), rows, data.k_fold(4), {"r2": metrics.r2_score()})
    found = study(*given, {"alpha": [0.01]}, sizes=[0.1, 0.5, 1.0])
    assert found.keys == ["alpha", "size"]
    assert sorted(found.table["train_rows"].unique()) == [34, 166, 331, 332]
    means = found.table.groupby("size")["test/r2_score"].mean()
    assert means[0.1] < means[0.5] < means[1.0]
    whole = study(*given, {"alpha": [0.01]}).table
    np.testing.assert_allclose(found.table.query("size == 1.0")["test/r2_score"], whole["test/r2_score"], rtol=1e-5)


def test_the_choice_by_inner_folds_is_scikit_learns(float64):
    x, y = load_diabetes(return_X_y=True)
    alphas = [0.001, 0.01, 0.1, 1.0]
    found = study(
        estimators.ridge(), batch(x=x, y=y), data.k_fold(5, seed=0), {"r2": metrics.r2_score()}, {"alpha": alphas},
        nested=data.k_fold(3, shuffle=False),
    )  # fmt: skip
    search = GridSearchCV(Ridge(), {"alpha": alphas}, cv=KFold(3), scoring="r2")
    outer = KFold(5, shuffle=True, random_state=0)
    peer = cross_validate(search, x, y, cv=outer, scoring="r2", return_estimator=True)
    made = found.choice()
    np.testing.assert_allclose(made["score"], peer["test_score"], rtol=1e-8)
    np.testing.assert_allclose(made["score"], cross_val_score(search, x, y, cv=outer, scoring="r2"), rtol=1e-8)
    assert [alphas[i] for i in made["candidate"]] == [one.best_params_["alpha"] for one in peer["estimator"]]
    np.testing.assert_allclose(made["inner"], [one.best_score_ for one in peer["estimator"]], rtol=1e-8)
    mean, ends = found.choice_score()
    assert mean == pytest.approx(peer["test_score"].mean()) and ends.low < mean < ends.high
    assert len(found.table) == 20 and len(found.inner) == 60, "The table has the outer fits only."
    assert mean <= found.leaderboard()["mean"][0] + 1e-12, "The best of many looks better than choosing is."
    assert any("the choice itself; " in line and "splits choose alpha" in line for line in found.lines(3))


def test_candidates_are_compared_row_by_row(float64):
    x, y = load_breast_cancer(return_X_y=True)
    rows = batch(x=x, y=y.astype(np.int32))
    pipeline = combine.after(features.standardize(), estimators.logistic(classes=2))
    given = {"accuracy": metrics.accuracy()}
    found = study(pipeline, rows, data.stratified_k_fold(3, repeats=2), given, {"alpha": [1.0, 1000.0]}, answers=True)
    tests = found.compare_rows(0, 1)

    def answer(candidate, split):
        fit = found.table.query(f"candidate == {candidate} and split == {split}").index[0]
        return found.answers[fit]

    # The first repeat has every row once; its splits' areas are averaged as independent ones are.
    said = [np.concatenate([answer(c, s)["predict"] == answer(c, s)["y"] for s in range(3)]) for c in (0, 1)]
    assert len(said[0]) == len(y) and tests["McNemar"] == mcnemar(*said)
    each = [delong(answer(0, s)["y"], *(answer(c, s)["predict_proba"][:, 1] for c in (0, 1))) for s in range(3)]
    assert tests["DeLong"].effect == pytest.approx(np.mean([one.effect for one in each]))
    error = np.sqrt(sum(((one.high - one.low) / 2 / 1.959964) ** 2 for one in each)) / 3
    assert (tests["DeLong"].high - tests["DeLong"].low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)
    assert sum("row by row" in line for line in found.lines(3)) == 2
    with pytest.raises(ValueError, match="were not kept"):
        found._replace(answers={}).compare_rows(0, 1)


@pytest.mark.parametrize(("change", "match"), [
    ({"sizes": [0.5], "nested": data.k_fold(2)}, "`sizes`, for a learning curve, or `nested`, for a choice, not both"),
    ({"sizes": [0.0, 1.0]}, r"`sizes` of a study are different shares of the training rows, in \(0, 1\]; got \[0.0, 1.0\]"),
    ({"grid": {"alhpa": [1.0]}}, "`grid` names floats of the estimator, alpha; got `alhpa`"),
    ({"metric": "accuracy"}, "`metric` of a study must be one of r2_score; got accuracy"),
    ({"metrics": {}}, "there is none"),
])  # fmt: skip
def test_what_cannot_be_honoured_is_refused(change, match):
    given = {"metrics": {"r2": metrics.r2_score()}, "grid": {"alpha": [1.0]}} | change
    rows = batch(x=np.eye(6, 2, dtype=np.float32), y=np.arange(6.0, dtype=np.float32))
    with pytest.raises(ValueError, match=match):
        study(estimators.ridge(), rows, data.k_fold(2), **given)


def test_a_split_without_a_class_to_train_on_is_refused():
    rows = batch(x=np.eye(6, 2, dtype=np.float32), y=np.array([0, 0, 0, 1, 1, 1], np.int32))
    schema = data.Schema(target=Tensor(columns=("a", "b")))
    with pytest.raises(ValueError, match="Split 1 has no row of class 0 to train on"):
        study(
            estimators.logistic(classes=2), rows, data.k_fold(2, shuffle=False), {"accuracy": metrics.accuracy()}, schema=schema
        )
