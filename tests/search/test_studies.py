"""A study goes on where it was, grows with its grid, and its fits are the runs that their commands would train."""

import numpy as np
import pandas as pd
import pytest

from arsenal.config import ConfigError, compose
from arsenal.data import by_row
from arsenal.evaluation.study import fits, measure
from arsenal.experiment import build, fit_whole
from arsenal.road import evaluate, fit
from arsenal.runs.folder import read_status
from arsenal.search.studies import inner_splits, study

WORDS = ["splits.folds=3", "study.lanes=4"]


@pytest.fixture
def run_study(tmp_path):
    """Run a study of logistic regression in a folder of its own; `said` collects what was said."""
    said = []

    def one(*words, experiment="breast_cancer_logistic"):
        said.clear()
        return study(compose(experiment, [*WORDS, f"run.root={tmp_path}", *words], name="study"), said.append)

    one.said = said
    return one


@pytest.mark.slow
def test_a_study_is_made_once_and_grows(run_study):
    found = run_study("grid={learner.alpha: [0.1, 1.0]}")
    table = pd.read_parquet(found.folder / "study.parquet")
    assert len(table) == 6 and set(table["learner.alpha"]) == {0.1, 1.0}
    assert {"seed", "split", "train_rows", "test_rows", "converged", "test/accuracy", "train/accuracy"} <= set(table)
    assert read_status(found.folder)["state"] == "complete"
    assert "arsenal train +experiment=breast_cancer_logistic" in found.command and "learner.alpha=" in found.command
    again = run_study("grid={learner.alpha: [0.1, 1.0]}")
    assert again.folder == found.folder and not any("of 6 fits" in line for line in run_study.said)
    pd.testing.assert_frame_equal(again.study.table, found.study.table)
    more = run_study("grid={learner.alpha: [0.1, 1.0, 10.0]}", "study.seeds=2")
    assert any("of 12 fits" in line for line in run_study.said), run_study.said
    assert len(more.study.table) == 18
    plain = run_study()
    assert len(plain.study.table) == 21 and len(plain.study.leaderboard()) == 4, "Without a grid it is one candidate more."
    page = (found.folder / "report" / "index.html").read_text()
    assert "learner.alpha" in page and page.count("<script") == 1
    shown = more._repr_html_()
    best = more.study.leaderboard().iloc[0]
    assert f"<td>{best['mean']:.4f}</td><td>({best['low']:.4f} to " in shown and "learner.alpha=" in shown and "index.html" in shown
    assert len(pd.read_csv(found.folder / "report" / "leaderboard.csv")) == 4


@pytest.mark.slow
def test_answers_are_kept_and_a_choice_is_judged(run_study):
    words = ["grid={learner.alpha: [0.1, 1000.0]}"]
    found = run_study(*words, "study.nested=2")
    assert found.study.answers.keys() == set(range(6)), "Two candidates on three splits; inner folds are not kept."
    assert len(found.study.choice()) == 3 and (found.folder / "choice.parquet").is_file()
    first = found.study.compare_rows(0, 1)
    assert first.keys() == {"McNemar", "DeLong"}
    page = (found.folder / "report" / "index.html").read_text()
    assert "The two best, row by row" in page and "the choice itself" in page
    (found.folder / "fits.jsonl").write_text("\n".join((found.folder / "fits.jsonl").read_text().splitlines()[:4]) + "\n")
    again = run_study(*words)
    assert again.study.compare_rows(0, 1) == first and again.study.inner is None
    none = run_study(*words, "study.answers=false", "study.seeds=2").study
    assert none.answers.keys() == set(range(6)) and len(none.table) == 12


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on(run_study):
    found = run_study("grid={learner.alpha: [0.1, 1.0]}")
    log = found.folder / "fits.jsonl"
    whole = log.read_text().splitlines()
    log.write_text("\n".join([*whole[:4], whole[4][: len(whole[4]) // 2]]))
    again = run_study("grid={learner.alpha: [0.1, 1.0]}")
    assert "2 of 2 fits" in run_study.said
    pd.testing.assert_frame_equal(again.study.table, found.study.table)


@pytest.mark.slow
def test_learners_of_several_kinds_share_a_table(run_study):
    found = run_study(
        "grid={estimator: [ridge, tree]}", "study.metric=r2_score", experiment="diabetes_ridge"
    )
    assert found.study.keys == ["estimator"] and len(found.study.table) == 6
    assert found.study.leaderboard()["estimator"].tolist()[0] in ("ridge", "boosting")


@pytest.mark.slow
def test_a_fit_is_the_run_that_its_command_trains(tmp_path):
    config = compose("breast_cancer_logistic", [f"run.root={tmp_path}", "run.tensorboard=false"])
    experiment = build(config)
    masks = by_row().masks(experiment.data.rows, experiment.data.schema)
    sides = {side: masks[side][None] for side in ("train", "test")}
    metrics = experiment.parts.metrics
    [[one]] = measure(fit_whole(experiment.parts, 1, None), experiment.data.rows, sides, metrics, fits(1, 1, 1))
    wanted = evaluate(fit(config))
    for name in ("accuracy", "log_loss"):
        np.testing.assert_allclose(one.values[f"test/{name}"], wanted[f"test/{name}"], rtol=2e-4)


@pytest.mark.parametrize(("words", "match"), [
    (["study.metric=loss"], "`metric` of a study must be one of accuracy"),
    (["grid={learner.alhpa: [1.0]}"], "learner.alhpa"),
    (["grid={learner.alpha: []}"], "`grid` gives each key values"),
    (["grid={learner.alpha: [1.0, 1.0]}"], "none is there twice"),
    (["grid={learner.alpha: [-1.0, 1.0]}"], "alpha"),
    (["splits=group_k_fold", "splits.column=patient"], "reads the column `patient`"),
    (["splits.folds=1000"], "cannot split"),
    (["preflight=true"], "`preflight` looks at one run"),
    (["study.nested=3", "study.sizes=[0.5, 1.0]"], "not both"),
])  # fmt: skip
def test_what_cannot_be_honoured_is_refused_before_anything_is_fitted(run_study, tmp_path, words, match):
    with pytest.raises(ConfigError, match=match):
        run_study(*words)
    assert not list(tmp_path.rglob("fits.jsonl"))


def test_a_kind_of_splits_without_a_number_has_no_inner_folds():
    config = compose("breast_cancer_logistic", ["splits=leave_one_out", "study.nested=3"], name="study")
    with pytest.raises(ConfigError, match="has no `folds` or `splits`"):
        inner_splits(config.settings)
