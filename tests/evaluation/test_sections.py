"""What a table's report says beyond its findings: values that are known of a linear run, a curve as scikit-learn has it, bounds."""

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler

from arsenal.data import k_fold
from arsenal.evaluation.report import plain_findings
from arsenal.explanation import sections
from arsenal.explanation.request import Inquiry, pick_rows, players_of, probabilities
from arsenal.road import compose, evaluate, findings_of, fit, more_sections
from arsenal.storage.files import read_json


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory):
    return fit(compose("diabetes_ridge", [f"run.root={tmp_path_factory.mktemp('runs')}", "run.progress=false"]))


def inquiry(run, rows=40, background=30):
    answer, outputs = probabilities(run)
    some, others = (pick_rows(run.experiment.splits[name], n) for name, n in (("test", rows), ("train", background)))
    return Inquiry(run, jax.random.key(0), some, others, players_of(some.x, run.kept[0]), answer, outputs)


def test_values_by_few_coalitions_are_those_of_the_slope(diabetes):
    asked = inquiry(diabetes)
    said, remarks = sections.explain_rows(asked, 1e-6)
    values = pd.DataFrame(said.table).pivot(index="row", columns="column", values="value")[list(asked.players.names)]
    # Of a sum over columns they are the slope times how far the row is from the mean of the background.
    slope = np.asarray(diabetes.params["learner"].slope) / np.asarray(diabetes.experiment.splits["train"].x).std(0)
    expected = (asked.rows.x - asked.background.x.mean(0)) * slope
    np.testing.assert_allclose(values.loc[asked.rows.row], expected, atol=2e-3 * np.abs(expected).max())
    assert "40 rows against 30 training rows, by 512 coalitions" in remarks[0]
    names = [name for name, *_ in said.pictures]
    moved = np.array(asked.players.names)[np.argsort(-np.abs(expected).mean(0))[:2]]
    assert [f"over_{name}" for name in moved] == [name for name in names if name.startswith("over_")]


def test_what_is_asked_fits_the_time_and_what_does_not_is_said(diabetes):
    asked = inquiry(diabetes, 100, 50)
    assert sections.limit_work(asked, 1e9) is not None and len(sections.limit_work(asked, 1e9).rows.weight) == len(asked.rows.weight)
    few = sections.limit_work(asked, 30 * len(asked.rows.weight))
    assert len(few.background.weight) == 30 and len(few.rows.weight) == len(asked.rows.weight)
    fewer = sections.limit_work(asked, 20 * 25)
    assert (len(fewer.rows.weight), len(fewer.background.weight)) == (25, 20)
    np.testing.assert_array_equal(fewer.rows.row, asked.rows.row[:25])
    assert sections.limit_work(asked, 20 * 19) is None
    none, remarks = sections.explain_rows(asked, 1.0)
    assert none is None and "No Shapley values: of 20 rows they would take about 2 d" in remarks[0]


def test_the_worst_mistake_is_explained_first(diabetes):
    rows = diabetes.experiment.splits["test"]
    worst = int(rows.row[-1])
    some = sections.rows_with(rows, 30, worst)
    assert some.row[0] == worst and len(set(some.row.tolist())) == len(some.row) == 30
    assert np.array_equal(sections.rows_with(rows, 30, None).row, pick_rows(rows, 30).row)


def test_only_splits_that_deal_rows_out_are_dealt_out_again():
    by_row, by_time = ({"_target_": f"arsenal.data.{name}"} for name in ("by_row", "by_time"))
    whole = {"_target_": "arsenal.data.without_validation"}
    assert sections.mixes_rows(by_row) and sections.mixes_rows(whole | {"split": by_row})
    assert not sections.mixes_rows(by_time) and not sections.mixes_rows(whole | {"split": by_time})


@pytest.mark.slow
def test_the_learning_curve_is_that_of_scikit_learn(diabetes):
    found = findings_of(diabetes, ())
    curve, remarks = sections.study_shares(diabetes, diabetes.experiment.splits["train"], "mean_squared_error")
    assert remarks == [] and found.metric == "mean_squared_error" and curve.table["train_rows"].max() == 240
    rows, whole = diabetes.experiment.splits["train"], curve.table[curve.table["size"] == 1.0]
    masks = k_fold(5).masks(rows, diabetes.kept[0])
    alpha = diabetes.config.values["learner"].get("alpha", 1.0)
    expected = []
    for train, test in zip(masks["train"], masks["test"], strict=True):
        scale = StandardScaler().fit(rows.x[train])
        model = Ridge(alpha).fit(scale.transform(rows.x[train]), rows.y[train])
        expected.append(mean_squared_error(rows.y[test], model.predict(scale.transform(rows.x[test]))))
    np.testing.assert_allclose(whole.sort_values("split")["test/mean_squared_error"], expected, rtol=1e-3)
    shown = sections.show_shares(curve, [])
    assert [line[0].split()[2] for line in shown.lines] == ["30", "60", "120", "240"] and "to" in shown.lines[0][1]


@pytest.mark.slow
def test_the_page_holds_it_all_and_brief_leaves_it_out(diabetes):
    evaluate(diabetes)
    page = (diabetes.folder / "report" / "index.html").read_text()
    worst = read_json(diabetes.folder / "report" / "findings.json")["mistakes"][0]["row"]
    for name in ("rows_predict", f"row_{worst}", "over_bmi", "of_bmi", "training_rows"):
        assert (diabetes.folder / "report" / f"{name}.png").is_file()
    for words in ("Why it answers so", "More rows", "Cost", "1,000 answers at once", "The largest error: it is", "data-points"):
        assert words in page
    more = more_sections(diabetes, None, 1.0, True)
    assert list(more) == ["Cost"] and ("metrics of 142 rows", "1 s") in more["Cost"].lines


@pytest.mark.slow
def test_alike_answers_are_said_to_be_so(tmp_path):
    run = fit(compose("diabetes_ridge", ["~expect", "learner.alpha=1e30", f"run.root={tmp_path}", "run.progress=false"]))
    part, _ = sections.explain_answers(run, "test", None)
    assert part.pictures == () and part.remarks == ["All answers to 79 test rows are alike: no column moves them."]
    assert plain_findings(findings_of(run, ()))["split"] == "test"
