"""A portfolio is judged on equal folds within its budget, and what wins is a run like any other."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from arsenal_serving.artifact import codecs
from arsenal_serving.model import load as open_artifact

from arsenal.config import ConfigError, compose
from arsenal.data import by_row, stratified, without_validation
from arsenal.experiment import build
from arsenal.road import export
from arsenal.run import load
from arsenal.runs.folder import read_status
from arsenal.search import automl as module
from arsenal.search.automl import automl, ladder

FEW = "portfolio.classes={logistic: {estimator: logistic}, strong: {estimator: logistic, learner.alpha: 30.0}, bayes: {estimator: gaussian_bayes}}"


@pytest.fixture
def search(tmp_path):
    """Search over breast cancer with standardised features, three folds; `said` collects what was said."""
    said = []

    def one(*words, experiment="breast_cancer_boosting", budget=300):
        said.clear()
        own = ["+feature=standardize", "splits.folds=3", f"run.root={tmp_path}", "run.tensorboard=false", f"automl.budget={budget}"]
        return automl(compose(experiment, [*own, *words], name="automl"), said.append)

    one.said = said
    return one


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file with gaps, strings and two classes that neither a straight line nor a tree tells apart by itself."""
    draw = np.random.default_rng(0)
    n = 400
    frame = pd.DataFrame({
        "age": np.where(draw.random(n) < 0.1, np.nan, draw.normal(40, 12, n).round(1)),
        "fare": draw.gamma(2.0, 15.0, n).round(2),
        "class": draw.choice(["first", "second", "third"], n),
        "sex": draw.choice(["female", "male"], n),
    })  # fmt: skip
    score = 2.0 * (frame["sex"] == "female") + 0.03 * frame["fare"] - 0.7 * (frame["class"] == "third") - 1.2
    frame["survived"] = np.where(draw.random(n) < 1 / (1 + np.exp(-score)), "yes", "no")
    path = tmp_path_factory.mktemp("table") / "passengers.csv"
    frame.to_csv(path, index=False)
    return path


def test_the_ladder_and_the_split_of_the_winner():
    assert ladder(1) == [1] and ladder(3) == [1, 3] and ladder(10) == [1, 3, 9, 10]
    data = build(compose("breast_cancer_logistic")).data
    for split in (by_row(), stratified()):
        own, merged = (one.masks(data.rows, data.schema) for one in (split, without_validation(split)))
        np.testing.assert_array_equal(merged["train"], own["train"] | own["validation"])
        np.testing.assert_array_equal(merged["test"], own["test"])
        assert own["validation"].any() and not merged["validation"].any()


@pytest.mark.slow
def test_halving_compares_equal_folds_and_the_search_goes_on_where_it_was(search):
    found = search(FEW, "automl.ensemble=false")
    log = [json.loads(line) for line in (found.folder / "fits.jsonl").read_text().splitlines()]
    order = [(line["candidate"]["name"], line["split"]) for line in log]
    assert len(set(order)) == len(order) == 9
    first = {name: line["values"]["test/log_loss"] for line in log if line["split"] == 0 for name in [line["candidate"]["name"]]}
    assert {name for name, _ in order[:3]} == set(first) and {split for _, split in order[:3]} == {0}, "All have the first fold."
    worst = max(first, key=first.__getitem__)
    assert [name for name, _ in order[-2:]] == [worst] * 2, "Who was stopped goes on last."
    assert set(found.study.leaderboard()["fits"]) == {3} and found.winner.kind == "single"
    for name in first:
        scores = [line["values"]["test/log_loss"] for line in log if line["candidate"]["name"] == name]
        row = found.study.leaderboard().query("name == @name").iloc[0]
        np.testing.assert_allclose(row["mean"], np.mean(scores))
    whole = (found.folder / "fits.jsonl").read_text().splitlines()
    (found.folder / "fits.jsonl").write_text("\n".join([*whole[:4], whole[4][: len(whole[4]) // 2]]))
    status = read_status(found.folder)
    (found.folder / "status.json").write_text(json.dumps({"state": "interrupted", "spent": 0.0}))
    again = search(FEW, "automl.ensemble=false")
    pd.testing.assert_frame_equal(again.study.leaderboard(), found.study.leaderboard(), check_like=True)
    assert again.run.folder == found.run.folder and read_status(found.folder)["options"] == status["options"]
    assert search(FEW, "automl.ensemble=false").winner.weights == found.winner.weights
    assert not any("folds" in line for line in search.said), "What is complete is not searched again."
    with pytest.raises(ConfigError, match="of the 20 s of `automl.budget` were spent before, which leaves no time for more"):
        (found.folder / "status.json").write_text(json.dumps({"state": "interrupted", "spent": 19.0}))
        search(FEW, "automl.ensemble=false", budget=20)


@pytest.mark.slow
def test_the_winner_of_a_table_is_a_run_that_exports_and_serves(tmp_path, table):
    words = [f"data.path={table}", "data.target=survived", "automl.budget=300", f"run.root={tmp_path}", "run.tensorboard=false"]
    of = {"extra": "estimator: extra_trees, learner.min_leaf: 5, features: {tabular: {_target_: arsenal.features.tabular, to: trees}}",
          "linear": "estimator: logistic, features: {tabular: {_target_: arsenal.features.tabular, to: linear}}"}  # fmt: skip
    few = ", ".join(f"{name}: {{{text}}}" for name, text in of.items())
    found = automl(compose("automl", [*words, f"portfolio.classes={{{few}}}"], name="automl"))
    run = load(found.run.folder)
    schema, rows, _ = run.kept
    columns = zip(schema.inputs["categorical"].columns, rows.x["categorical"].T, strict=True)
    words = np.stack([codecs.decode(schema.codecs[name], codes) for name, codes in columns], 1)
    served = open_artifact(export(run)).infer("predict_proba", {"numeric": rows.x["numeric"], "categorical": words})
    np.testing.assert_allclose(served["predict_proba"], run.predict(rows.x, "predict_proba").to_numpy(), rtol=1e-5)
    assert run.metrics["test/log_loss"] < 0.69, "That of a coin."
    made = yaml.safe_load((found.folder / "conf" / "experiment" / "winner.yaml").read_text())
    assert made["split"]["_target_"] == "arsenal.data.without_validation"
    page = (found.folder / "report" / "index.html").read_text()
    assert "The winner" in page and "linear" in page and "<script src" not in page
    assert {"name", "mean", "low", "high", "seconds"} <= set(pd.read_csv(found.folder / "report" / "leaderboard.csv"))


@pytest.mark.slow
def test_an_ensemble_and_a_stacking_are_runs(search, monkeypatch):
    mixed = "portfolio.classes={bayes: {estimator: lda}, trees: {estimator: extra_trees, features: {}}, strong: {estimator: logistic}}"
    for kind in ("ensemble", "stacking"):
        calls = iter([True, kind == "stacking"])
        monkeypatch.setattr(module, "pays", lambda *given, calls=calls: next(calls))
        found = search(mixed, "fresh=true")
        assert found.winner.kind == kind
        assert set(found.study.leaderboard()["name"]) == {"bayes", "trees", "strong", "ensemble", "stacking"}
        assert found.run.metrics["test/accuracy"] > 0.9
        learner, features = (found.run.config.values[key] for key in ("learner", "features"))
        if kind == "stacking":
            assert learner["_target_"] == "arsenal.combine.stacking" and set(learner["estimators"]) == set(found.winner.weights)
        elif not features:  # two groups of members, of which one has features of its own
            names = " and ".join(learner["estimators"]).replace("_and_", " and ").split(" and ")
            assert set(names) == set(found.winner.weights) and sum(learner["weights"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_the_budget_is_kept(tmp_path, table):
    words = [f"data.path={table}", "data.target=survived", "automl.budget=40", f"run.root={tmp_path}", "run.tensorboard=false"]
    began = time.monotonic()
    found = automl(compose("automl", words, name="automl"), began=began)
    assert time.monotonic() - began < 40 * 1.05 and found.run.folder.is_dir()


@pytest.mark.parametrize(("words", "match"), [
    (["automl.budget=0.5"], "`automl.budget` of 0.5 s is too short: no fit could be made in it; about .* s would do"),
    (["automl.metric=loss"], "`metric` of automl must be one of accuracy"),
    (["+portfolio.classes.mine={estimator: logisitc}"], "`portfolio.classes.mine`: There is no estimator `logisitc`"),
    (["+portfolio.classes.mine={learner.alpha: -1.0}"], "`portfolio.classes.mine`: .*alpha"),
    (["+portfolio.classes.mine={seed: 3}"], "`portfolio.classes.mine` may change what learns and its features; it changes `seed`"),
    (["portfolio.classes={mine: {estimator: ridge}}"], "No candidate takes this data; `mine`: "),
    (["automl.budget=-1"], "automl.budget"),
    (["preflight=true"], "`preflight` looks at one run"),
])  # fmt: skip
def test_what_cannot_be_honoured_is_one_line(search, words, match):
    few = [] if any(word.startswith("portfolio.classes=") for word in words) else [FEW]
    with pytest.raises(ConfigError, match=match):
        search(*few, *words, experiment="breast_cancer_logistic", budget=60)
