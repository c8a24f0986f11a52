"""Gates and model tests on runs of a table: what passes, what fails and by how much, what is refused before anything compiles."""

import json
import sys

import numpy as np
import pytest

from arsenal import cli, experiment
from arsenal.config import ConfigError
from arsenal.evaluation.gates import GateError
from arsenal.pipelines.behaviour import run_model_tests
from arsenal.pipelines.champions import find_champion
from arsenal.pipelines.gates import check_expectations, check_gates
from arsenal.road import compose, export, fit, load
from arsenal.run import Unmet
from arsenal.runs.notes import notes
from arsenal.runs.registry import open_registry
from arsenal.testing import model_test

pytestmark = pytest.mark.slow
ROWS = 900


def write_table(path, seed=0, rows=ROWS):
    """Who pays: by age and plan; `note` tells nothing; of those in Oslo less is known."""
    draw = np.random.default_rng(seed)
    age, plan = draw.integers(18, 80, rows), draw.choice(["basic", "full"], rows)
    town, note = draw.choice(["Bern", "Oslo"], rows), draw.normal(size=rows)
    score = 0.15 * (age - 50) + 2 * (plan == "full") - 1
    pays = draw.uniform(size=rows) < 1 / (1 + np.exp(-np.where(town == "Oslo", 0.4 * score, 4 * score)))
    cells = zip(age, plan, town, note, np.where(pays, "yes", "no"), strict=True)
    path.write_text("\n".join(["age,plan,town,note,pays", *(f"{a},{p},{t},{n:.3f},{y}" for a, p, t, n, y in cells)]) + "\n")
    return path


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A run of the table with further words."""
    root = tmp_path_factory.mktemp("check")
    write_table(root / "pays.csv")

    def run(*more):
        given = [f"data.path={root / 'pays.csv'}", "data.target=pays", f"run.root={root / 'runs'}", "run.tensorboard=false"]
        return fit(compose("table", [*given, *more]))

    run.root = root
    return run


@pytest.fixture(scope="module")
def run(train):
    return train("++expect={test/accuracy:{min:0.7}}")


@pytest.fixture(scope="module")
def weak(train):
    """A run that learned next to nothing."""
    return train("+learner.rounds=1", "+learner.learning_rate=0.001", "++expect={test/accuracy:{min:0.95}}")


def by_name(verdicts):
    return {one.name: one for one in verdicts}


GATES = {
    "test/accuracy": {"min": 0.6, "confidence": 0.9}, "test/log_loss": {"max": 0.2}, "calibration/test": {"max": 0.2},
    "slices/town": {"metric": "accuracy", "min": 0.8}, "slices/*": {"min": 0.3}, "latency/p50": {"max": 5.0},
    "latency/p99": {"max": 1e-9, "rows": 4}, "size/parameters": {"max": 10}, "size/bytes": {"min": 1},
    "size/artifact": {"max": 1e9}, "data/rows": {"min": 600}, "data/missing": {"max": 0.0}, "data/leaks": {"max": 0},
    "data/duplicates": {"max": 0.05}, "data/drift": {"max": 0.3},
}  # fmt: skip


def test_gates_of_every_family(run):
    found = by_name(check_gates(GATES, run))
    failed = {name for name, one in found.items() if not one.passed}
    assert failed == {"test/log_loss", "slices/town", "latency/p99", "size/parameters", "size/artifact"}
    accuracy = found["test/accuracy"]
    assert accuracy.value == run.metrics["test/accuracy"] and accuracy.ends[0] < accuracy.value < accuracy.ends[1]
    y, said = run.experiment.splits["test"].y, run.results["test"].answers["predict"]
    town = np.array(run.experiment.splits["test"].x["categorical"])[:, 1]
    shares = [np.mean((y == said)[town == code]) for code in (0, 1)]
    assert found["slices/town"].value == pytest.approx(min(shares), abs=1e-6)
    assert "town = Oslo, the worst of 2 parts" in found["slices/town"].why and found["slices/town"].p > 0.9
    assert "slower than the bound, p 1" in found["latency/p99"].why and found["latency/p50"].p < 1e-6
    assert found["size/artifact"].value is None and "nothing was exported" in found["size/artifact"].why
    assert found["data/rows"].value == len(run.experiment.splits["train"].weight)


def test_more_rows_than_a_report_shows_have_the_same_interval(run, monkeypatch):
    gate = {"test/accuracy": {"min": 0.6, "confidence": 0.9}}
    (whole,) = check_gates(gate, run)
    monkeypatch.setattr(experiment, "SHOWN_ROWS", 50)
    again = load(run.folder)
    (some,) = check_gates(gate, again)
    assert len(again.results["test"].shown.weight) == 50 and some == whole


def test_the_champion_is_compared_on_the_same_rows(run, weak):
    same = check_gates({"champion/accuracy": {"min": 0}}, run, run)[0]
    assert not same.passed and same.value == 0.0, "As good is not better."
    assert check_gates({"champion/accuracy": {"min": -0.01}}, run, run)[0].passed, "Within the margin."
    better = by_name(check_gates({"champion/accuracy": {"min": 0}, "champion/log_loss": {"min": 0}}, run, weak))
    for name in ("accuracy", "log_loss"):
        gain = run.metrics[f"test/{name}"] - weak.metrics[f"test/{name}"]
        assert better[f"champion/{name}"].passed and better[f"champion/{name}"].p < 0.01
        assert better[f"champion/{name}"].value == pytest.approx(gain if name == "accuracy" else -gain, abs=1e-5)
    assert "McNemar p" in better["champion/accuracy"].why
    worse = check_gates({"champion/accuracy": {"min": -0.01}}, weak, run)[0]
    assert not worse.passed and worse.p > 0.99 and "misses it by" in worse.why
    first = check_gates({"champion/accuracy": {"min": 0}}, run, None)[0]
    assert first.passed and first.why == "there is no champion to compare with"


def test_a_champion_of_other_data_is_compared_on_rows_that_it_never_saw(train, run):
    path = train.root / "more.csv"
    more = write_table(train.root / "new.csv", seed=1, rows=300).read_text().split("\n", 1)[1]
    path.write_text((train.root / "pays.csv").read_text() + more)
    challenger = train(f"data.path={path}")
    found = check_gates({"champion/accuracy": {"min": -0.2}}, challenger, run)[0]
    test = len(challenger.experiment.splits["test"].weight)
    assert found.passed and "rows of the run, " in found.why and "that the champion saw left out" in found.why
    left = int(found.why.split("rows of the run, ")[1].split()[0])
    assert 0 < left < test, "Dealt out anew, rows of its test trained the champion."


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({"test/acuracy": {"min": 0.9}}, "is never measured; this run measures .*Did you mean `accuracy`"),
        ({"champion/f1": {"min": 0}}, "is never measured"),
        ({"slices/towm": {"min": 0.9}}, "must name a column, .*Did you mean `town`"),
        ({"slices/town": {"min": 0.9, "metric": "acc"}}, "`metric` of `slices/town` must be one of"),
    ],
)
def test_a_gate_on_what_is_never_measured_is_one_line(run, gates, words):
    with pytest.raises(GateError, match=words):
        check_gates(gates, run)


TESTS = {
    "a note tells nothing": {"kind": "invariance", "change": {"note": {"deal": True}}, "share": 0.85},
    "the plan tells nothing": {"kind": "invariance", "change": {"plan": "basic"}, "share": 0.99},
    "older pays more": {"kind": "direction", "change": {"age": {"add": 15}}, "of": "predict_proba[yes]", "goes": "up", "share": 0.9},
    "older pays less": {"kind": "direction", "change": {"age": {"add": 15}}, "of": "predict_proba[yes]", "goes": "down"},
    "clear cases": {"kind": "functionality", "rows": [
        {"age": 79, "plan": "full", "town": "Bern", "note": 0, "predict": "yes"}, {"age": 19, "plan": "basic", "town": "Bern", "note": 0, "predict": "no"},
    ]},
}  # fmt: skip


def test_model_tests_of_every_kind(run, tmp_path):
    (tmp_path / "bad.csv").write_text("age,plan,town,note,predict\n78,full,Bern,0.1,no\n78,full,Bern,0.2,yes\n")
    (tmp_path / "tests.yaml").write_text(json.dumps({"tests": {**TESTS, "once wrong": {"kind": "known_bad", "file": "bad.csv"}}}))
    found = by_name(run_model_tests(tmp_path / "tests.yaml", run))
    assert {name for name, one in found.items() if not one.passed} == {"the plan tells nothing", "older pays less", "once wrong"}
    assert "row 1: predict must be no, got yes" in found["once wrong"].why and found["once wrong"].value == 0.5
    assert "became" in found["the plan tells nothing"].why
    assert found["older pays more"].value + found["older pays less"].value >= 1


def test_what_does_not_change_at_all_has_no_direction(run):
    test = {"kind": "direction", "change": {"age": {"add": 0}}, "of": "predict_proba[yes]", "goes": "up"}
    (found,) = run_model_tests({"nothing": test}, run)
    assert not found.passed and "does not change at all" in found.why


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({"kind": "invarance"}, "`kind` of the test `t` must be one of .*Did you mean `invariance`"),
        ({"kind": "invariance", "change": {"aeg": 1}}, "must name columns, .*Did you mean `age`"),
        ({"kind": "invariance", "change": {"plan": "fool"}}, "'fool' is no value that was known in training"),
        ({"kind": "invariance", "change": {"plan": {"add": 1}}}, "`add` is of numbers, and `plan` holds others"),
        ({"kind": "invariance", "change": {"age": {"plus": 1}}}, "must be a value, or one of set, add"),
        ({"kind": "invariance", "change": {"age": 3}, "of": "score"}, "`of` of the test `t` must be an answer"),
        ({"kind": "invariance"}, "needs `change`"),
        ({"kind": "direction", "change": {"age": 3}, "of": "predict", "goes": "up"}, "must be an answer that is a number"),
        ({"kind": "direction", "change": {"age": 3}, "goes": "up"}, "needs `of`, an answer"),
        ({"kind": "functionality"}, "needs either `rows`, a list, or `file`"),
        ({"kind": "functionality", "rows": [{"age": 3}]}, "must have an answer in a column such as predict"),
        ({"kind": "functionality", "rows": [{"age": 3, "predict": "yes"}]}, "there is no plan"),
        ({"kind": "functionality", "rows": [{"age": 3}], "goes": "up"}, "takes rows, file, within, share; got goes"),
        ({"kind": "known_bad", "rows": [], "share": 0}, "`share` of the test `t` must be above 0"),
    ],
)
def test_a_test_that_cannot_be_run_is_one_line(run, test, words):
    with pytest.raises(GateError, match=words):
        run_model_tests({"t": test}, run)


def test_what_the_experiment_states_keeps_it_from_going_further(run, weak, tmp_path):
    assert [one.passed for one in check_expectations(run)] == [True]
    with pytest.raises(Unmet, match=r"misses what its experiment states, so it is not exported: test/accuracy must be >= 0.95; got"):
        export(weak, tmp_path / "weak")
    assert not (tmp_path / "weak").exists()
    told = json.loads((export(weak, tmp_path / "weak", force=True) / "manifest.json").read_text())["provenance"]["expect"]
    assert told["forced"] is True and "must be >= 0.95" in told["missed"][0] and told["stated"] == {"test/accuracy": {"min": 0.95}}
    assert any("by force, although test/accuracy must be" in line for line in notes(weak.folder))
    told = json.loads((export(run, tmp_path / "good") / "manifest.json").read_text())["provenance"]["expect"]
    assert told["forced"] is False and told["missed"] == []


def test_what_cannot_be_measured_is_missed(train, run, tmp_path):
    path = train.root / "pays.csv"
    path.rename(train.root / "elsewhere.csv")
    try:
        with pytest.raises(Unmet, match="it cannot be measured: .*pays.csv does not exist"):
            export(load(run.folder), tmp_path / "blind")
    finally:
        (train.root / "elsewhere.csv").rename(path)


def test_a_version_that_missed_is_registered_and_promoted_by_force_alone(run, weak, tmp_path):
    registry = open_registry(str(tmp_path / "registry"))
    version = export(weak, tmp_path / "weak", force=True)
    with pytest.raises(ValueError, match="is not registered: its run misses what its experiment states, test/accuracy must be >= 0.95"):
        registry.register(version, "pays", run=weak.folder)
    assert registry.register(version, "pays", run=weak.folder, force=True) == 1
    with pytest.raises(ValueError, match="pays@1 is not promoted to champion: its run misses"):
        registry.set_alias("pays", "champion", 1)
    registry.set_alias("pays", "champion", 1, force=True)
    assert registry.register(export(run, tmp_path / "good"), "pays", run=run.folder) == 2
    registry.set_alias("pays", "champion", 2)
    forced = [event.get("forced") for event in registry.events("pays") if event["kind"] in ("registered", "alias")]
    assert [bool(one) for one in forced] == [True, True, False, False] and "must be >= 0.95" in forced[1][0]
    assert find_champion("pays@champion", str(tmp_path / "registry")).folder == run.folder.resolve()
    assert find_champion("pays@staging", str(tmp_path / "registry")) is None
    with pytest.raises(ValueError, match="champion"):
        find_champion("pays@chapmion", str(tmp_path / "registry"))
    assert find_champion("other@champion", str(tmp_path / "registry")) is None
    with pytest.raises(GateError, match=r"`against`: the registry has no model payss. Did you mean `pays`\?"):
        find_champion("payss@champion", str(tmp_path / "registry"))


def test_the_command(run, weak, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gates.yaml").write_text(json.dumps({"champion/accuracy": {"min": 0.0}, "test/accuracy": {"min": 0.7}}))
    (tmp_path / "tests.yaml").write_text(json.dumps({"older pays more": TESTS["older pays more"]}))

    def typed(*given):
        monkeypatch.setattr(sys, "argv", ["arsenal", "check", *given])
        try:
            cli.arsenal()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    given = [f"run={run.folder}", "gates=gates.yaml", "tests=tests.yaml"]
    code, out, err = typed(*given, f"against={weak.folder}", "to=page.html")
    assert code == 0 and err == "" and out.count("passed") == 4 and (tmp_path / "page.html").is_file()
    code, out, err = typed(f"run={weak.folder}", "gates=gates.yaml", f"against={run.folder}", "to=page.md")
    assert code == 1 and out.count("\nfailed") + out.startswith("failed") == 3
    assert err == "arsenal: 3 of 3 failed: test/accuracy, champion/accuracy, test/accuracy.\n"
    assert "❌" in (tmp_path / "page.md").read_text()
    code, out, err = typed(*given, "against=nobody@champion")
    assert code == 0 and "nobody@champion, of which there is none yet" in out and "there is no champion to compare with" in out
    for words, said in [
        (given, "`against` must say which"),
        ([f"run={run.folder}", "gates=none.yaml"], "must be a YAML file; there is none at none.yaml"),
        ([f"run={run.folder}", f"against={weak.folder}"], "`gates` has none"),
        ([*given, "against=elsewhere/run"], "must be a run's folder or NAME@ALIAS"),
        ([*given, f"against={weak.folder}", "to=page.txt"], "`to` must end in .html, .md, .json"),
    ]:
        code, _, err = typed(*words)
        assert code == 1 and said in err and err.count("\n") == 1, err




def test_gates_of_the_experiment_itself(train, monkeypatch, capsys):
    given = "++gates={data/rows: {min: 700}, size/bytes: {min: 1}}"
    run = train(given)
    monkeypatch.setattr(sys, "argv", ["arsenal", "check", f"run={run.folder}"])
    with pytest.raises(SystemExit):
        cli.arsenal()
    out, err = capsys.readouterr()
    assert "gates: the experiment's own" in out and out.count("passed") == 1 and err == "arsenal: 1 of 2 failed: data/rows.\n"
    with pytest.raises(ConfigError, match="`gates`: A gate is called FAMILY/WHAT"):
        compose("table", ["++gates={rows: {min: 700}}"])


def test_pytest_collects_them(run):
    made = model_test(lambda: run, {name: TESTS[name] for name in ("clear cases", "older pays less")}, {"test/accuracy": {"min": 0.7}})
    (names,) = (mark.args[1] for mark in made.pytestmark)
    assert names == ["clear cases", "older pays less", "test/accuracy"]
    made("clear cases")
    made("test/accuracy")
    with pytest.raises(pytest.fail.Exception, match="older pays less: .*must not go up"):
        made("older pays less")
    with pytest.raises(GateError, match="must be a YAML file"):
        model_test(lambda: run, "nothing.yaml")
