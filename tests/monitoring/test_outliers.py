"""Which rows: those unlike what a model learned from, those unlike what came before, and how two versions answer the same ones."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arsenal_serving.artifact.reference import FILE, MethodReference
from arsenal_serving.artifact.reference import read as read_reference
from arsenal_serving.artifact.sketch import describe

from arsenal import compose, fit
from arsenal.evaluation.page import render
from arsenal.monitoring.logged import read_logged, represent
from arsenal.monitoring.outliers import find_outliers, outlier_finding, rare_threshold
from arsenal.monitoring.performance import compare_models, log_findings, log_parts
from arsenal.monitoring.watch import MonitoringError
from arsenal.road import export
from arsenal.verbs.monitor import compare, performance


def reference(learned):
    columns = [describe(name, values) for name, values in learned.items()]
    score, _ = find_outliers(MethodReference(columns, [], describe("rarity", np.zeros(1))), learned, [""] * 5000)
    return MethodReference(columns, [], describe("rarity", score))


@pytest.fixture(scope="module")
def learned():
    random = np.random.default_rng(0)
    return {"a": random.normal(size=5000), "b": random.gamma(2, 2, 5000), "c": random.choice([*"uvw"], 5000, p=[0.5, 0.4, 0.1]).astype(object)}


def come(seed, rows=1000):
    random = np.random.default_rng(seed)
    return {"a": random.normal(size=rows), "b": random.gamma(2, 2, rows), "c": random.choice([*"uvw"], rows, p=[0.5, 0.4, 0.1]).astype(object)}


def test_one_row_in_a_hundred_is_rare_and_windows_like_it_say_nothing(learned):
    known = reference(learned)
    score, _ = find_outliers(known, learned, [""] * 5000)
    assert 0.005 < (score > rare_threshold(known.rarity)).mean() <= 0.01
    said = [outlier_finding("m", "1", known, find_outliers(known, come(seed), [""] * 1000)[0], (0, 1)).state for seed in range(100)]
    assert said.count("breach") <= 1


def test_a_seeded_row_is_named_with_the_columns_that_tell(learned):
    known, rows = reference(learned), come(7)
    rows["b"][17] = 60.0
    rows["c"][400], rows["a"][400] = "q", np.nan
    score, found = find_outliers(known, rows, [f"r{k}" for k in range(1000)], np.arange(1000.0))
    assert {one.name for one in found[:2]} == {"r17", "r400"}
    by = {one.name: one.by for one in found}
    assert by["r17"].startswith("b 60") and {"a missing", "c q"} <= set(by["r400"].split(", "))
    few = outlier_finding("m", "1", known, score[:5], (0, 1))
    assert few.state == "ok" and few.why == "too few rows, 5 of 30"
    rows["a"][:80] += 9
    assert outlier_finding("m", "1", known, find_outliers(known, rows, [""] * 1000)[0], (0, 1)).state == "breach"


def write_log(folder, lines):
    folder.mkdir()
    stamp = lambda at: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".000000Z"  # noqa: E731
    texts = [json.dumps({"time": stamp(at), "operation": "infer", "status": 200, "seconds": 0.001, "version": "1", **line}) for at, line in lines]
    (folder / "requests-1-1-1.jsonl").write_text("\n".join(texts) + "\n")


def ports(age, town):
    return {"numeric": np.array(age, np.float32)[:, None], "categorical": np.array(town, object)[:, None]}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two artifacts of one table, and a log of what the first was asked: an hour as it learned, then another town and one strange row."""
    home, random = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    table = pd.DataFrame({"age": random.normal(40, 9, 500).round(1), "town": random.choice(["Ulm", "Bonn", "Kiel"], 500)})
    table["rich"] = np.where(table.age + 10 * (table.town == "Ulm") + random.normal(0, 4, 500) > 43, "yes", "no")
    table.to_csv(home / "people.csv", index=False)
    words = [f"data.path={home}/people.csv", "data.target=rich", f"run.root={home}/runs"]
    one = export(fit(compose("table", words)), home / "models" / "table", force=True)
    table[:120].to_csv(home / "few.csv", index=False)
    other = export(fit(compose("table", [f"data.path={home}/few.csv", *words[1:]])), home / "others" / "table", force=True)
    from arsenal_serving.model import load

    served, lines, begin = load(one), [], time.time() - 7200
    frame = table.sample(400, random_state=1, replace=True)
    frame.iloc[250:, 1] = "Ulm"
    frame.iloc[399, 0] = 140.0
    for k, (age, town) in enumerate(frame[["age", "town"]].itertuples(index=False)):
        asked = [{"name": "numeric", "shape": [1, 1], "datatype": "FP32", "data": [age]},
                 {"name": "categorical", "shape": [1, 1], "datatype": "BYTES", "data": [town]}]  # fmt: skip
        p = served.infer("predict_proba", ports([age], [town]))["predict_proba"]
        outputs = [{"name": "predict_proba", "shape": list(p.shape), "datatype": "FP32", "data": p.ravel().tolist()}]
        line = {"id": f"r{k}", "model": "table", "method": "predict_proba", "inputs": asked, "outputs": outputs}
        lines.append((begin + 15 * k, line))
    write_log(home / "log", lines)
    return home, one, other, begin


@pytest.mark.slow
def test_a_log_names_the_rows_that_have_moved(people, capsys):
    home, one, _, begin = people
    said = log_findings(home / "log", one, since=begin + 15 * 250)
    states = {(found.kind, found.name): found.state for found in said.findings}
    assert states["multivariate", "classifier"] == "breach" and states["multivariate", "outliers"] == "ok"
    assert said.rare[0].name == "r399" and said.rare[0].by.startswith("age 140")
    assert said.other and all("town Ulm" in row.by for row in said.other)
    titles = [part["title"] for part in log_parts(said)]
    assert titles == ["How good its answers are", "Rows least like those that it learned from", "Rows least like those before"]
    facts = {"title": "", "state": "", "good": True, "moved": 0, "bound": 0, "alpha": 0, "alpha_percent": "", "heads": []}
    lists = {name: [] for name in ("facts", "warnings", "tiles", "pictures", "answers", "columns", "qualities")}
    page = render("monitoring.html", {**facts, **lists, "parts": log_parts(said)})
    assert "r399" in page and "age 140" in page and titles[2] in page
    with pytest.raises(Exception, match="as a breach"):
        performance(str(home / "log"), str(one), since=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin + 15 * 250)))
    out = capsys.readouterr().out
    assert "unlike what it learned from: r399, by age 140" in out and "unlike those before: r" in out


@pytest.mark.slow
def test_another_version_answers_the_same_rows(people, tmp_path, capsys):
    home, one, other, _ = people
    same, apart = compare_models(home / "log", one, one)
    assert same == {"rows": 400, "same": 1.0, "distance": pytest.approx(0.0, abs=1e-6)}
    rows = read_logged(home / "log", one)
    town, age = rows.asked["town"], rows.asked["age"].astype(float)
    truth = np.where(age + 10 * (town == "Ulm") > 43, "yes", "no")
    pd.DataFrame({"id": rows.id, "label": truth}).to_csv(tmp_path / "labels.csv", index=False)
    found, apart = compare_models(home / "log", one, other, tmp_path / "labels.csv")
    from arsenal_serving.model import load

    ours, theirs = (load(path).infer("predict_proba", ports(age, town))["predict_proba"] for path in (one, other))
    assert found["same"] == pytest.approx((ours.argmax(1) == theirs.argmax(1)).mean())
    assert found["distance"] == pytest.approx(np.abs(ours - theirs).max(1).mean(), abs=1e-6)
    assert found["right"] == pytest.approx((np.array(rows.classes)[ours.argmax(1)] == truth).mean()) and 0 <= found["p"] <= 1
    assert apart[0].score == pytest.approx(np.abs(ours - theirs).max(), abs=1e-6)
    compare(str(home / "log"), str(one), str(other), str(tmp_path / "labels.csv"))
    out = capsys.readouterr().out
    assert out.startswith("400 rows, ") and "McNemar's" in out and "apart by " in out
    with pytest.raises(MonitoringError, match="has no method explain"):
        from arsenal.monitoring.logged import answer_again

        answer_again(other, rows, "explain")


@pytest.mark.slow
def test_pictures_are_compared_by_what_the_model_makes_of_them(tmp_path):
    run = fit(compose("digits_simclr", ["length=30 steps", f"run.root={tmp_path}/runs"]))
    artifact = export(run, tmp_path / "models" / "digits_simclr", force=True)
    known = read_reference((Path(artifact) / FILE).read_bytes())
    from arsenal_serving.model import load
    from sklearn.datasets import load_digits

    served = load(artifact)
    method = served.default
    port = served.methods[method].inputs[0]
    assert method in known.methods
    digits = load_digits()
    images = digits.images[..., None].astype(np.float32) / 16
    images = images.reshape(len(images), *[d for d in port.shape[1:]])
    lines, begin = [], 1.7e9
    random = np.random.default_rng(0)
    before, now = random.permutation(np.flatnonzero(digits.target < 5))[:150], random.permutation(np.flatnonzero(digits.target >= 5))[:150]
    for k, at in enumerate([*before, *now]):
        tensor = {"name": port.name, "shape": [1, *images.shape[1:]], "datatype": "FP32", "data": images[at].ravel().tolist()}
        lines.append((begin + k, {"id": f"r{k}", "model": served.name, "method": method, "inputs": [tensor], "outputs": []}))
    write_log(tmp_path / "log", lines)
    rows, how = represent(artifact, read_logged(tmp_path / "log", artifact))
    assert how == [f"{port.name}: compared by the model's `embedding`."]
    wanted = served.infer("embedding", {port.name: images[before[:1]]})["embedding"]
    np.testing.assert_allclose(rows.asked["embedding"][:1], wanted, rtol=1e-5, atol=1e-6)
    said = log_findings(tmp_path / "log", artifact, since=begin + 150)
    assert {one.name: one.state for one in said.findings}["classifier"] == "breach" and how[0] in said.remarks
