"""A report says how sure its numbers are, what a simpler model does, and where the run is worse than elsewhere."""

import json

import jax
import numpy as np
import pytest
from arsenal_serving.export import Tensor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arsenal import metrics
from arsenal.data import Schema
from arsenal.evaluation import findings
from arsenal.evaluation.findings import find
from arsenal.evaluation.report import plain_findings
from arsenal.evaluation.threshold import Costs
from arsenal.records import Batch

DRAW = np.random.default_rng(0)
N = 600
X = DRAW.normal(size=(N, 3)).astype(np.float32)
GROUP = (X[:, 2] > 0).astype(np.float32)
X[:, 2] = GROUP
Y = (X[:, 0] * (GROUP * 2 - 1) + 0.3 * DRAW.normal(size=N) > 0).astype(np.int32)
SCHEMA = Schema({"x": Tensor(["size", "noise", "kind"])}, Tensor(columns=["no", "yes"]))
METRICS = {"accuracy": metrics.accuracy(), "log_loss": metrics.log_loss(), "roc_auc": metrics.roc_auc()}


def rows_of(at):
    return Batch(X[at], Y[at], np.ones(len(X[at]), np.float32), np.arange(N, dtype=np.int32)[at])


SPLITS = {"train": rows_of(slice(0, 300)), "validation": rows_of(slice(300, 300)), "test": rows_of(slice(300, N))}


def proba(params, x):
    """It knows how the columns work together, which a linear model cannot."""
    p = jax.nn.sigmoid(6 * x[:, 0] * (x[:, 2] * 2 - 1))
    return jax.numpy.stack([1 - p, p], 1)


APPLY = {"predict_proba": proba, "predict": lambda params, x: proba(params, x).argmax(1).astype(np.int32)}
OUTPUTS = {name: np.asarray(f(None, SPLITS["test"].x)) for name, f in APPLY.items()}


@pytest.fixture(scope="module")
def found():
    return find(jax.random.key(0), "test", SPLITS, OUTPUTS, METRICS, SCHEMA, APPLY, None, groups=["kind"])


def test_every_metric_has_its_interval(found):
    rows, p = SPLITS["test"], OUTPUTS["predict_proba"]
    assert found.intervals.keys() == {"accuracy", "log_loss", "roc_auc"} and not found.why_none
    low, high = found.intervals["accuracy"]
    share = accuracy_score(rows.y, OUTPUTS["predict"])
    # The bootstrap of a share has the binomial's percentiles.
    error = np.sqrt(share * (1 - share) / len(rows.y))
    np.testing.assert_allclose((low, high), (share - 1.96 * error, share + 1.96 * error), atol=0.006)
    assert found.intervals["roc_auc"][0] < roc_auc_score(rows.y, p[:, 1]) < found.intervals["roc_auc"][1]


def test_thresholds_mistakes_and_drift_are_of_the_rows_that_test(found):
    rows, p = SPLITS["test"], OUTPUTS["predict_proba"]
    assert found.thresholds.positive == "yes" and not found.thresholds.found_on
    np.testing.assert_allclose(found.thresholds.curve.flagged[50], (p[:, 1] >= 0.5).mean())
    wrong = OUTPUTS["predict"] != rows.y
    surest = rows.row[wrong][np.argmax(p.max(1)[wrong])]
    assert found.mistakes[0].row == surest and found.mistakes[0].columns.keys() == {"size", "noise", "kind"}
    assert {one.column for one in found.drift} == {"size", "noise", "kind", "the target"} and not any(one.moved for one in found.drift)


@pytest.mark.slow
def test_costs_are_judged_on_other_rows_than_the_threshold_was_found_on():
    splits = SPLITS | {"validation": SPLITS["train"]}
    said = {name: np.asarray(f(None, splits["validation"].x)) for name, f in APPLY.items()}
    given = (splits, OUTPUTS, {}, SCHEMA, APPLY, None)
    found = find(jax.random.key(0), "test", *given, costs=Costs(1, 9), validation=said).thresholds
    assert found.found_on == "validation" and found.cost[1] <= found.cost[0] <= found.cost[2]
    beside = find(jax.random.key(0), "test", splits, OUTPUTS, METRICS, SCHEMA, APPLY, None, validation=said).validation
    low, high = beside["accuracy"]
    assert beside.keys() == METRICS.keys() and low < accuracy_score(splits["validation"].y, said["predict"]) < high
    none = find(jax.random.key(0), "test", *given, costs=Costs(1, 9))
    assert not none.thresholds.found_on and any("No threshold is chosen" in text for text in none.remarks)
    with pytest.raises(ValueError, match="`costs` are of yes or no, by a probability; this target has no classes"):
        find(jax.random.key(0), "test", splits, OUTPUTS, {}, SCHEMA._replace(target=Tensor()), APPLY, None, costs=Costs(1, 9))


def test_simpler_models_are_fitted_on_the_training_rows_and_compared_on_the_same_resamples(found):
    constant, linear = found.compared
    train, test = SPLITS["train"], SPLITS["test"]
    assert found.metric == "accuracy"
    assert constant.value == pytest.approx((test.y == np.bincount(train.y).argmax()).mean())
    peer = make_pipeline(StandardScaler(), LogisticRegression()).fit(train.x, train.y)
    assert linear.value == pytest.approx(peer.score(test.x, test.y), abs=0.01)
    assert linear.better == pytest.approx(accuracy_score(test.y, OUTPUTS["predict"]) - linear.value, abs=1e-6)
    assert 0 < linear.low < linear.better < linear.high


def test_groups_slices_and_importance_are_by_the_names_of_columns(found):
    assert [one.name for one in found.groups["kind"].groups] == ["0", "1"]
    assert set(found.slices) == {"size", "noise", "kind"}
    assert list(np.argsort(-found.importance.mean)[:2]) != [1] and abs(found.importance.mean[1]) < 1e-6
    text = json.dumps(plain_findings(found))
    assert json.loads(text)["compared"][0]["name"] == "constant"


def test_a_fold_with_one_class_says_why_there_is_no_interval():
    rare = SPLITS | {"test": SPLITS["test"]._replace(y=np.eye(300, dtype=np.int32)[0])}
    found = find(jax.random.key(0), "test", rare, OUTPUTS, METRICS, SCHEMA, APPLY, None)
    assert "roc_auc" not in found.intervals and "resamples of the rows have no value" in found.why_none["roc_auc"]


@pytest.mark.parametrize(("groups", "schema", "match"), [
    (["knid"], SCHEMA, "`groups` must name columns, size, noise, kind; got `knid`. Did you mean `kind`?"),
    (["kind"], Schema(SCHEMA.inputs), "compares what is said yes or no to; this target has no classes"),
])  # fmt: skip
def test_groups_that_cannot_be_compared_are_refused(groups, schema, match):
    with pytest.raises(ValueError, match=match.replace("?", r"\?")):
        find(jax.random.key(0), "test", SPLITS, OUTPUTS, METRICS, schema, APPLY, None, groups=groups)


def test_of_very_many_answers_a_line_says_what_was_not_looked_for(monkeypatch):
    monkeypatch.setattr(findings, "NUMBERS", 100)
    found = find(jax.random.key(0), "test", SPLITS, OUTPUTS, METRICS, SCHEMA, APPLY, None)
    assert found.intervals == {} and found.why_none.keys() == METRICS.keys() and "600 numbers" in found.why_none["accuracy"]
    said = " ".join(found.remarks)
    assert found.importance is None and "No linear model is compared: 300 rows times 2 classes are more than 100." in said
    assert "importance of columns is not looked for" in said and found.mistakes
