"""Answers beside labels that came later, and estimates before they come, beside what turned out to be true."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from arsenal.evaluation.threshold import Costs
from arsenal.monitoring import (
    LoggedRows,
    PerformanceBounds,
    change_findings,
    compare_versions,
    ddm,
    estimate_accuracy,
    estimate_findings,
    join_labels,
    performance_findings,
    read_labels,
)  # fmt: skip
from arsenal.monitoring.performance import judge, judge_right, label_findings
from arsenal.monitoring.watch import MonitoringError


def rows(asked, p=None, predict=None, places=1, version="1"):
    n = len(p if p is not None else predict)
    answered = {"predict_proba": p} if p is not None else {"predict": predict}
    ids = np.array([f"r{k // places}" for k in range(n)])
    return LoggedRows("m", version, next(iter(answered)), ids, np.arange(n) % places, np.arange(n, dtype=float), asked, answered, ("no", "yes"))


def world(draw, n, middle=0.0, scale=1.0, flip=0.0):
    """Rows of a model whose confidence is too high, labels that depend on x alone."""
    x = draw.normal(middle, scale, size=n)
    truth = 1 / (1 + np.exp(-(x + 0.5 * np.sin(2 * x))))
    yes = 1 / (1 + np.exp(-2.5 * x))
    y = (draw.uniform(size=n) < np.where(draw.uniform(size=n) < flip, 1 - truth, truth)).astype(int)
    group = draw.choice(["a", "b"], n).astype(object)
    return rows({"x": x, "group": group}, np.column_stack([1 - yes, yes])), np.array(["no", "yes"], object)[y]


def test_labels_are_joined_by_request_and_row():
    given = rows({"x": np.arange(6.0)}, np.tile([0.3, 0.7], (6, 1)), places=2)
    frame = pd.DataFrame({"id": ["r0", "r0", "r1", "r1", "r9", "r2"], "row": [0, 0, 1, 1, 0, 0], "label": ["yes", "yes", "no", "yes", "no", None]})
    y, counts = join_labels(given, frame)
    assert y.tolist() == ["yes", None, None, None, None, None]
    assert counts[:5] == (1, 4, 1, 1, 1)
    assert counts.text() == (
        "1 rows have labels, 4 wait; 1 came twice; 1 contradict and do not count; 1 are of rows that the log has not"
    )
    with pytest.raises(MonitoringError, match="^labels need a column row, from 0: request r0 has several rows.$"):
        join_labels(given, frame.drop(columns="row"))
    with pytest.raises(MonitoringError, match="^`row` of labels must be whole numbers from 0; line 3 has 'x'.$"):
        join_labels(given, frame.assign(row=["0", "x", "1", "1", "0", "0"]))


def test_labels_that_cannot_be_meant_do_not_count_and_are_told():
    given = rows({"x": np.arange(5.0)}, predict=np.array(["no", "yes", "no", "no", "yes"], object))
    given = given._replace(known=("no", "yes"), id=np.array(["a", "b", "twice", "twice", "e"]), elsewhere=frozenset({"old"}))
    frame = pd.DataFrame({"id": ["a", "b", "twice", "e", "old", "new"], "label": ["no", " yes", "no", "maybe", "no", "no"]})
    y, counts = join_labels(given, frame)
    assert y.tolist() == ["no", None, None, None, None]
    assert counts.text() == (
        "1 rows have labels, 4 wait; 1 are of rows that the log has not; 1 are of rows of other versions or methods; "
        "1 are of an id that several requests had, and do not count; 2 are no class of the model, as ' yes', and do not count"
    )
    assert given.names[2:4] == ["twice", "twice"] and given._replace(place=np.array([0, 0, 0, 1, 0])).names[3] == "twice row=1"
    one = given._replace(version="2", answered={"predict": np.array(["yes"] * 5, object)})
    assert compare_versions(given, one)["rows"] == 3, "Of an id that came twice nobody knows which row is which."


def test_costs_are_of_the_class_that_is_told():
    given, y = world(np.random.default_rng(0), 500)
    answer = np.where(given.answered["predict_proba"][:, 1] > 0.5, "yes", "no")
    wrongly, missed = ((answer == "no") & (y == "yes")).mean(), ((answer == "yes") & (y == "no")).mean()
    (cost,) = [one for one in judge(given, y, Costs(1, 5), positive="no").measures if one.name == "cost"]
    assert cost.value == pytest.approx(wrongly + 5 * missed)
    words = given._replace(answered={"predict": answer.astype(object)})
    (same,) = [one for one in judge(words, y, Costs(1, 5), positive="no").measures if one.name == "cost"]
    assert same.value == cost.value
    (found,) = [one for one in performance_findings(given, y, costs=Costs(1, 5)) if one.name == "cost"]
    assert found.why.endswith("a row, alarms being yes")
    with pytest.raises(MonitoringError, match="^`positive` must be one of no, yes; got maybe.$"):
        judge(given, y, Costs(1, 5), positive="maybe")
    with pytest.raises(MonitoringError, match="^costs are of two classes; m answers numbers.$"):
        judge(rows({"x": np.arange(2.0)}, predict=np.array([1.0, 2.0])), np.array([1.0, 2.0], object), Costs(1, 5))


def test_a_bound_without_labels_is_a_warning():
    given, y = world(np.random.default_rng(0), 500)
    (found,) = performance_findings(given.take(np.arange(9)), y[:9], bounds=PerformanceBounds(least={"accuracy": 0.9}))
    assert (found.state, found.why) == ("warning", "too few labels, 9 of 30")


def test_a_table_of_labels_may_be_torn_and_must_have_its_columns(tmp_path):
    (tmp_path / "l.jsonl").write_text(json.dumps({"id": "r0", "label": 1}) + "\n" + '{"id": "r1", "la')
    assert read_labels(tmp_path / "l.jsonl").to_dict("records") == [{"id": "r0", "label": 1}]
    (tmp_path / "l.csv").write_text("id,truth\nr0,1\n")
    with pytest.raises(MonitoringError, match="must have the columns id and label; label is not there.$"):
        read_labels(tmp_path / "l.csv")


def test_measures_are_scikit_learns_with_intervals():
    given, y = world(np.random.default_rng(0), 500)
    found = {one.name: one for one in judge(given, y, Costs(1, 5)).measures}
    p = given.answered["predict_proba"]
    answer = np.where(p[:, 1] > 0.5, "yes", "no")
    wilson = stats.binomtest(int((answer == y).sum()), 500).proportion_ci(method="wilson")
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((wilson.low, wilson.high))
    assert found["log_loss"].value == pytest.approx(log_loss(y.tolist(), p, labels=["no", "yes"]))
    assert found["cost"].value == pytest.approx(((answer == "yes") & (y == "no")).mean() + 5 * ((answer == "no") & (y == "yes")).mean())
    bins, sure = np.minimum((p.max(1) * 15).astype(int), 14), p.max(1)
    gaps = sum(abs((sure - (answer == y))[bins == k].sum()) for k in range(15)) / 500
    assert found["calibration_error"].value == pytest.approx(gaps, abs=1e-5)
    assert found["calibration_error"].low < gaps < found["calibration_error"].high
    numbers = rows({"x": np.arange(4.0)}, predict=np.array([1.0, 2.0, 3.0, 4.0]))
    found = {one.name: one.value for one in judge(numbers, np.array([1.0, 1.0, 3.0, 6.0], object)).measures}
    assert found == pytest.approx({"mae": 0.75, "rmse": np.sqrt(1.25), "bias": -0.25})
    with pytest.raises(MonitoringError, match="^labels must be one of no, yes; got maybe.$"):
        judge(given, np.full(500, "maybe", object))


def test_what_is_worse_is_found_and_what_is_not_is_not():
    draw = np.random.default_rng(1)
    before, now, same = world(draw, 2000), world(draw, 2000, flip=0.4), world(draw, 2000)
    found = {one.name: one for one in performance_findings(*now, before=before)}
    assert found["accuracy"].state == "breach" and "before" in found["accuracy"].why
    bounds = PerformanceBounds(least={"accuracy": 0.99, "log_loss": 5.0})
    found = {one.name: one for one in performance_findings(*same, before=before, bounds=bounds) if not one.slice}
    assert found["accuracy"].state == "breach" and found["accuracy"].bound == 0.99 and found["log_loss"].state == "ok"
    assert all(one.state == "ok" for one in performance_findings(*same, before=before) if not one.slice)
    few = performance_findings(now[0].take(np.arange(9)), now[1][:9])
    assert [one.why for one in few] == ["too few labels, 9 of 30"]
    with pytest.raises(MonitoringError, match="^a bound must be of accuracy, log_loss, calibration_error; got f1.$"):
        performance_findings(*same, bounds=PerformanceBounds(least={"f1": 0.5}))


def test_a_slice_that_is_worse_is_named():
    given, y = world(np.random.default_rng(2), 3000)
    sick = (given.asked["group"] == "b") & (np.random.default_rng(3).uniform(size=3000) < 0.4)
    y = np.where(sick, np.where(y == "yes", "no", "yes"), y)
    assert "group = b" in [one.slice for one in performance_findings(given, y) if one.state == "warning"]


def test_labels_that_come_otherwise_have_drifted():
    draw = np.random.default_rng(3)
    before = draw.choice(["no", "yes"], 2000, p=[0.7, 0.3]).astype(object)
    for share, state in ((0.3, "ok"), (0.5, "breach")):
        y = draw.choice(["no", "yes"], 1000, p=[1 - share, share]).astype(object)
        asked = {"a": draw.normal(size=1000)}
        (found,) = label_findings(rows(asked, p=np.full((1000, 2), 0.5)), y, before)
        assert (found.kind, found.name, found.state) == ("label_drift", "labels", state)
        table = [[(side == one).sum() for one in ("no", "yes")] for side in (before, y)]
        assert found.p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    y = draw.normal(1.0, 1, 500).astype(object)
    (found,) = label_findings(rows({"a": draw.normal(size=500)}, predict=draw.normal(size=500)), y, draw.normal(size=3000).astype(object))
    assert found.state == "breach" and found.size == pytest.approx(1.0, abs=0.1)


def test_the_time_of_a_change_is_found():
    draw = np.random.default_rng(4)
    first, second = world(draw, 1500), world(draw, 1500, flip=0.9)
    both = rows({"x": np.zeros(3000)}, np.concatenate([one[0].answered["predict_proba"] for one in (first, second)]))
    (found,) = change_findings(both, np.concatenate([first[1], second[1]]), ddm())
    assert found.state == "breach" and 1500 < found.window[0] < 1700
    assert [one.why for one in change_findings(*first, ddm())] == ["no change"]


@pytest.mark.parametrize("middle, scale", [(0.0, 1.0), (0.8, 1.0), (0.0, 0.5), (-0.5, 1.3)])
def test_an_estimate_is_what_labels_say_later(middle, scale):
    draw = np.random.default_rng(5)
    known, now = world(draw, 4000), world(draw, 4000, middle, scale)
    realised = judge(*now).measures[0].value
    found = {one.way: one for one in estimate_accuracy(*known, now[0])}
    for one in found.values():
        assert one.low < realised < one.high and one.value == pytest.approx(realised, abs=0.025), one
    assert {one.state for one in estimate_findings(*known, now[0])} <= ({"ok"} if (middle, scale) == (0.0, 1.0) else {"ok", "warning", "breach"})


def test_no_estimate_is_made_where_rows_are_others():
    draw = np.random.default_rng(6)
    known, far = world(draw, 1000), world(draw, 1000, 9.0, 0.3)
    found = estimate_findings(*known, far[0])
    assert [(one.state, one.value) for one in found] == [("warning", None)] * 2 and "no estimate by" in found[0].why


@pytest.mark.slow
def test_intervals_of_estimates_hold():
    inside = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        known, now = world(draw, 1000), world(draw, 1000, 0.5)
        realised = judge_right(*now).mean()
        inside += [one.low <= realised <= one.high for one in estimate_accuracy(*known, now[0], seed=seed)]
    assert np.mean(inside) >= 0.85  # of 0.95: they leave out that the weights are estimated


def test_two_versions_are_compared_on_the_same_requests():
    given, y = world(np.random.default_rng(7), 200)
    p = given.answered["predict_proba"].copy()
    p[:20] = p[:20, ::-1]
    other = rows(given.asked, p, version="2").take(np.arange(150))
    found = compare_versions(given, other, y)
    assert found["rows"] == 150 and found["same"] == pytest.approx(130 / 150) and 0 < found["distance"] < 1
    assert found["right"] != found["other_right"] and 0 < found["p"] < 1
    with pytest.raises(MonitoringError, match="^no request was answered by m/1 and m/2 alike.$"):
        compare_versions(given, other._replace(id=np.array(["x"] * 150)))
