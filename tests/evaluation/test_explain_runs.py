"""A run explained: from the command to table and page, and from its artifact the same as in this process."""

import itertools
import re
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from arsenal_serving.artifact import codecs
from arsenal_serving.model import load as open_artifact

from arsenal import cli
from arsenal.evaluation import explain, plot
from arsenal.explanation.methods import explain_run
from arsenal.explanation.request import pick_rows
from arsenal.explanation.served import SERVED
from arsenal.models import transformer
from arsenal.road import compose, export, fit

DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with gaps, words and dates, learned by trees of few leaves."""
    folder = tmp_path_factory.mktemp("table")
    n = 90
    age, town = DRAW.integers(18, 80, n).astype(object), DRAW.choice(["Ulm", "Bonn", "Jena"], n)
    when = pd.date_range("2024-01-01", periods=n, freq="3D").strftime("%Y-%m-%d")
    bought = np.where((age.astype(float) > 50) | (town == "Ulm"), "yes", "no")
    age[::9] = ""
    frame = pd.DataFrame({"age": age, "town": town, "size": DRAW.normal(size=n).round(3), "when": when, "bought": bought})
    frame.to_csv(folder / "table.csv", index=False)
    words = [
        f"data.path={folder}/table.csv", "data.target=bought", f"run.root={folder}/runs", "run.tensorboard=false",
        "+learner.rounds=6", "+learner.leaves=4", "+learner.min_leaf=2", "+learner.learning_rate=0.6",
    ]  # fmt: skip
    return fit(compose("table", words))


LATER = [pytest.param(name, marks=pytest.mark.slow) for name in (
    "partial_dependence", "tree_shapley", "permutation_importance", "conditional_importance", "accumulated_effects", "interactions", "kernel_shapley", "path_shapley",
    "lime", "anchors", "counterfactuals", "surrogate_tree", "prototypes",
)]  # fmt: skip
COLUMNS = ("age", "size", "town", "when")
ORDER = ("town", "age", "size", "when")  # by the names of the inputs, then as in the file
METHODS = ["exact_shapley", *LATER]


@pytest.mark.parametrize("method", METHODS)
def test_a_command_writes_a_table_and_a_page(table, method, tmp_path, monkeypatch, capsys):
    words = [f"run={table.folder}", f"method={method}", "rows=5", "background=20", f"output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["arsenal", "explain", *words])
    cli.arsenal()
    said = capsys.readouterr().out
    found, page = pd.read_parquet(tmp_path / f"{method}.parquet"), (tmp_path / f"{method}.html").read_text()
    assert {"row", "column", "value", "output"} <= set(found)
    assert f"table: {tmp_path / method}.parquet" in said and "<script" not in page and not re.search(r"(src|href)=\"https?:", page)
    if method != "prototypes":
        of = {"accumulated_effects": {"age", "size"}, "interactions": {f"{a} x {b}" for a, b in itertools.combinations(ORDER, 2)}}
        assert set(found["column"]) == of.get(method, set(COLUMNS))
    if method in ("exact_shapley", "kernel_shapley", "tree_shapley", "path_shapley"):
        assert found["value"].abs().groupby(found["column"]).mean().idxmax() in ("age", "town")
    if method == "exact_shapley":
        assert "sum to a row's answer to within" in said and "data:image/png" in page


@pytest.mark.slow
def test_shapley_values_are_those_of_the_columns_and_trees_sum_to_the_log_odds(table):
    found = explain_run(table, "exact_shapley", 4, 20)
    frame = pd.DataFrame(found.table)
    assert set(frame["output"]) == {"yes"}
    shown = found._repr_html_()
    assert shown.count("<img") == len(found.pictures) >= 3 and "over the mean answer" in shown and len(repr(found)) < 300
    rows = pick_rows(table.experiment.splits["test"], 4)
    proba = np.asarray(table.apply["predict_proba"](table.params, rows.x))[:, 1]
    background = pick_rows(table.experiment.splits["train"], 20)
    base = np.asarray(table.apply["predict_proba"](table.params, background.x))[:, 1].mean()
    np.testing.assert_allclose(frame.groupby("row", sort=False)["value"].sum(), proba - base, atol=1e-5)
    trees = pd.DataFrame(explain_run(table, "tree_shapley", 4, 20).table)
    score = np.asarray(table.apply["decision_function"](table.params, rows.x))
    start = np.asarray(table.apply["decision_function"](table.params, background.x)).mean()
    np.testing.assert_allclose(trees.groupby("row", sort=False)["value"].sum(), score - start, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["exact_shapley", "sampling_shapley"])
def test_an_artifact_explains_as_this_process_does(table, method, tmp_path):
    model = open_artifact(export(table, tmp_path / "model", explain=method))
    assert model.methods["explain"].rows == "independent"
    rows = table.kept[1]
    cells = {name: rows.x[name] for name in ("numeric",)}
    for name, column in (("categorical", "town"), ("time", "when")):
        cells[name] = codecs.decode(table.kept[0].codecs[column], rows.x[name])
    given = model.infer("explain", cells)
    assert given["explain"].shape == (len(rows.weight), 4)
    made = SERVED[method](table)
    wanted = jax.jit(made.fn)(table.params | {"explanation": made.kept}, rows.x)
    np.testing.assert_allclose(given["explain"], wanted["explain"], atol=1e-5)
    proba = np.asarray(table.apply["predict_proba"](table.params, rows.x)).max(1)
    np.testing.assert_allclose(given["explain"].sum(1) + given["base"], proba, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tree_shapley", "path_shapley"])
def test_an_artifact_has_the_trees_values_of_the_verb(table, method, tmp_path):
    model = open_artifact(export(table, tmp_path / "model", explain=method))
    assert model.methods["explain"].rows == "independent"
    rows = pick_rows(table.experiment.splits["test"], 6)
    cells = {"numeric": rows.x["numeric"]}
    for name, column in (("categorical", "town"), ("time", "when")):
        cells[name] = codecs.decode(table.kept[0].codecs[column], rows.x[name])
    given = [model.infer("explain", {name: part[i : i + 1] for name, part in cells.items()}) for i in range(6)]
    values, base = (np.concatenate([one[name] for one in given]) for name in ("explain", "base"))
    found = pd.DataFrame(explain_run(table, method, 6, 50).table).pivot(index="row", columns="column", values="value")
    score = np.asarray(table.apply["decision_function"](table.params, rows.x))
    sign = np.where(score > 0, 1, -1)
    wanted = found.loc[rows.row, list(ORDER)] * sign[:, None]
    np.testing.assert_allclose(values, wanted, atol=1e-5)
    np.testing.assert_allclose(values.sum(1) + base, np.abs(score), atol=1e-5)


@pytest.mark.slow
def test_counterfactuals_leave_what_is_fixed(table, tmp_path):
    free, held = (explain_run(table, "counterfactuals", 12, 60, fixed=fixed) for fixed in ((), ("age", "when")))
    changed = [pd.DataFrame(one.table).groupby("column")["value"].sum() for one in (free, held)]
    assert changed[0]["age"] > 0 and (changed[1][["age", "when"]] == 0).all() and changed[1].sum() > 0, changed
    assert "Kept as they are: age, when." in held.notes and not any("age:" in line[3] for line in held.lines)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A softmax regression of images, learned by gradients."""
    words = ["model.hidden=[]", "length=60", f"run.root={tmp_path_factory.mktemp('runs')}", "run.tensorboard=false"]
    return fit(compose("digits_mlp", words))


@pytest.mark.slow
def test_influence_of_a_run_solves_its_own_hessian(digits):
    found = explain_run(digits, "influence", 2)
    frame = pd.DataFrame(found.table)
    weights = digits.params["learner"]["params"]
    train, rows = (digits.experiment.splits[name] for name in ("train", "test"))
    flat, back = jax.flatten_util.ravel_pytree(weights)
    rows = pick_rows(rows, 2)

    def logs(flat, x):
        params = {"features": digits.params["features"], "learner": digits.params["learner"] | {"params": back(flat)}}
        return jax.numpy.log(digits.apply["predict_proba"](params, x))

    each = lambda flat: -jax.numpy.take_along_axis(logs(flat, train.x), train.y[:, None], 1)[:, 0]  # noqa: E731
    curved = np.asarray(jax.jit(jax.hessian(lambda flat: each(flat).sum()))(flat), float)
    slopes = np.asarray(jax.jit(jax.jacfwd(each))(flat), float)
    said = np.asarray(logs(flat, rows.x)).argmax(1)
    asked = np.asarray(jax.jit(jax.jacrev(lambda flat: jax.numpy.exp(logs(flat, rows.x))[np.arange(2), said]))(flat), float)
    ends = np.linalg.eigvalsh(curved)[[0, -1]]
    damped = curved + (max(0, -1.5 * ends[0]) + 1e-3 * ends[1]) * np.eye(len(curved))
    wanted = asked @ np.linalg.solve(damped, slopes.T)
    values = frame["value"].to_numpy().reshape(2, -1)
    assert np.corrcoef(values.ravel(), wanted.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(values, wanted, atol=0.03 * np.abs(wanted).max())


@pytest.mark.slow
def test_gradients_find_the_other_class_and_leave_what_is_fixed(tmp_path):
    run = fit(compose("breast_cancer_logistic", [f"run.root={tmp_path}", "run.tensorboard=false"]))
    fixed = run.kept[0].inputs["x"].columns[:20]
    found = explain_run(run, "gradient_counterfactuals", 8, 100, fixed=fixed)
    changed = pd.DataFrame(found.table).pivot(index="row", columns="column", values="value")
    assert (changed[list(fixed)] == 0).all(axis=None) and (changed.sum(axis=1) > 0).sum() >= 6
    assert sum("→" in line[3] for line in found.lines) >= 6 and changed.sum(axis=1).mean() < 5, "Of the ten that are free."


@pytest.mark.slow
def test_roll_out_multiplies_the_attention_of_layers(tmp_path):
    words = ["length=2", f"run.root={tmp_path}", "run.tensorboard=false", "data.context=16", "model.width=16", "model.heads=2"]
    run = fit(compose("text_gpt", [*words, "data.stride=400"]))
    found = pd.DataFrame(explain_run(run, "attention_rollout", 3).table)
    rows = pick_rows(run.experiment.splits["test"], 3)
    weights = transformer(256, 2, 2, 16, 16).methods["attention"](run.params["learner"], rows.x)
    for i, layers in enumerate(np.asarray(weights, float).mean(2)):
        mixed = [(layer + np.eye(16)) / 2 for layer in layers]
        np.testing.assert_allclose(found["value"][16 * i : 16 * i + 16], (mixed[1] @ mixed[0])[-1], atol=1e-5)
    assert "".join(found["token"][:16]) == bytes(np.asarray(rows.x[0]).tolist()).decode()
    with pytest.raises(ValueError, match="positions of a text"):
        explain_run(run, "influence", 1)


def test_what_a_run_cannot_be_asked_is_refused(table):
    for words, said in (
        ({"method": "lime", "fixed": ["age"]}, "`fixed` is for counterfactuals, gradient_counterfactuals; `lime` does not read it."),
        ({"method": "counterfactuals", "fixed": ["agee"]}, "Did you mean `age`"),
        ({"method": "second_order_effects", "column": "age"}, "needs `column` as two names with a comma between; got 'age'"),
        ({"method": "second_order_effects", "column": "age,town"}, "must be one column of numbers; `town` is not"),
        ({"method": "influence"}, "`influence` takes a learner whose `evaluate` gives a `loss`"),
        ({"method": "attention_rollout"}, "takes a model with a method `attention`"),
        ({"method": "shap"}, "`method` must be one of permutation_importance"),
        ({"method": "lime", "rows": 0}, "`rows` must be >= 1; got 0"),
        ({"method": "lime", "split": "later"}, "`split` must be one of test, validation, train"),
        ({"method": "partial_dependence", "column": "agee"}, "Did you mean `age`"),
        ({"method": "permutation_importance", "metric": "speed"}, "`metric` must be one of"),
        ({"method": "saliency"}, "takes inputs of floats"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            explain_run(table, **words)
    with pytest.raises(ValueError, match="`explain` must be one of gradient, gradient_times_input"):
        export(table, explain="magic")


def test_a_text_in_tokens_has_no_columns():
    from arsenal.data.text import text

    data = text(context=8, stride=4000)
    with pytest.raises(ValueError, match="positions of a text"):
        explain.columns_of(data.rows.x, data.schema)


def test_pictures_hold_what_they_are_given():
    values = DRAW.normal(size=(30, 25))
    names = [f"column {i}" for i in range(25)]
    bars = plot.importances(values.mean(0), values.std(0), names).axes[0]
    assert len(bars.get_yticks()) == 20
    swarm = plot.beeswarm(values, np.where(values > 1, np.nan, 0.5), names, "For yes").axes[0]
    assert sum(len(one.get_offsets()) for one in swarm.collections) == 20 * 30
    water = plot.waterfall(values[0], 0.5, names).axes[0]
    ends = [bar.get_x() + (bar.get_width() if bar.get_width() > 0 else 0) for bar in water.patches]
    assert len(ends) == 11 and water.get_yticklabels()[0].get_text() == "15 others"
    last = water.patches[-1]
    assert last.get_x() + last.get_width() == pytest.approx(0.5 + values[0].sum())
    line = plot.dependence(["a", "b"], np.array([1.0, 2.0]), values[:2], "sex", theme=plot.DARK).axes[0]
    assert line.lines[-1].get_ydata().tolist() == [1, 2] and len(line.lines) == 26
