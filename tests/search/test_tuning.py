"""Sweeps as lanes: each trial is the run that it would be alone, failures stay where they are, a killed sweep goes on."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from arsenal.config import ConfigError, compose
from arsenal.evaluation.report import number
from arsenal.road import fit, load
from arsenal.runs.folder import RunError, lock
from arsenal.search.engines.programs import Programs
from arsenal.search.space import space
from arsenal.search.sweep import Sweep, read_log
from arsenal.search.tuning import SweepResult, tune

SMALL = ["model.hidden=[8]", "length=30", "every.log=10", "every.evaluate=10", "optimizer=sgd", "run.tensorboard=false"]
SPACE = "space={optimizer.learning_rate: {log: [1e-3, 1.0]}, seed: {seed: 3}}"


@pytest.fixture
def sweep(tmp_path):
    """Run a small sweep in a folder of its own; `say` collects what was said."""
    said = []

    def one(*overrides, root=tmp_path, say=said.append):
        said.clear()
        words = [*SMALL, "sweep.trials=5", f"run.root={root}", *overrides]
        words += [] if any(word.startswith("space=") for word in words) else [SPACE]
        return tune(compose("digits_mlp", words, name="tune"), say)

    one.said = said
    return one


def table(found) -> str:
    return (found.folder / "report" / "trials.csv").read_text()


def test_what_is_traced_is_found_and_a_lanes_config_is_the_composed_one():
    spec = {
        "optimizer.learning_rate": {"log": [1e-4, 1e-1]},
        "+optimizer.b1": {"float": [0.5, 0.99]},
        "loss.label_smoothing": {"choice": [0.0, 0.1]},
        "model.hidden": {"choice": [[8], [16]]},
        "batch_size": {"int": [16, 64]},
        "features.scale.factor": {"float": [0.01, 0.1]},
        "seed": {"seed": 4},
    }
    made = space(spec)
    programs = Programs(["+experiment=digits_mlp", "length=30", "sweep.trials=4"], made)
    values = made.values(made.from_unit(np.full((1, 7), 0.3)), 0)
    program = programs.of(values)
    assert program.leaves.keys() == {"optimizer.learning_rate", "+optimizer.b1", "loss.label_smoothing", "seed"}
    config = program.config_of(values)
    assert config == programs.compose(values)
    assert programs.of(values | {"optimizer.learning_rate": 0.05, "seed": 3}) is program
    assert programs.of(values | {"batch_size": 20}) is not program
    assert programs.count(8) == 8 and Programs(programs.words, space({"seed": spec["seed"]})).count(8) == 1


@pytest.mark.slow
def test_a_lane_is_the_run_that_its_trial_would_be_alone(sweep, tmp_path):
    found = sweep()
    assert found.counted == {"complete": 5}
    assert len(found.runs) == 1
    for trial, path in found.runs.items():
        kept = load(path)
        words = kept.config.overrides
        alone = fit(compose("digits_mlp", [word for word in words[1:] if not word.startswith("run.root")] + [f"run.root={tmp_path}/alone"]))
        assert alone.folder.name == path.name, "Its mathematics are those of the single run."
        assert alone.step == kept.step == 30
        for one, other in zip(jax.tree.leaves(alone.params), jax.tree.leaves(kept.params), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
        ours = {e["step"]: e["values"]["loss"] for e in kept.history if e["kind"] == "validation"}
        theirs = {e["step"]: e["values"]["loss"] for e in alone.history if e["kind"] == "validation"}
        assert ours.keys() == theirs.keys() == {10, 20, 30}
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-4)
        kinds: list[str] = []
        fit(kept.config, listener=lambda kind, step, values, kinds=kinds: kinds.append(kind))
        assert kinds == ["complete"], "The command of the best trial finds it complete."
        assert found.commands[trial].startswith("arsenal train +experiment=digits_mlp")


def lines(found) -> list[dict]:
    return [json.loads(line) for line in (found.folder / "trials.jsonl").read_text().splitlines()]


def losses_of(found) -> dict[int, dict[int, float]]:
    """Of the validation rows, by step and trial."""
    told = [line for line in lines(found) if line["kind"] == "validation"]
    return {line["step"]: dict(zip(line["trials"], line["values"]["loss"], strict=True)) for line in told}


@pytest.mark.slow
def test_halving_ends_trials_and_drops_their_lanes(sweep):
    found = sweep("sweep.trials=8", "scheduler=successive_halving", "scheduler.least=10", "scheduler.factor=2")
    assert found.counted == {"complete": 2, "stopped": 6}
    measured = losses_of(found)
    assert [len(measured[step]) for step in (10, 20, 30)] == [8, 4, 2]
    for step, after in ((10, 20), (20, 30)):
        best = sorted(measured[step], key=measured[step].get)[: len(measured[after])]
        assert set(measured[after]) == set(best), "The better half goes on."
    stopped = [trial for trial in read_log(found.folder).trials.values() if trial.state == "stopped"]
    assert all(measured[trial.step][trial.id] == trial.value for trial in stopped)
    assert len(found.trials) == 8 and found.trials[0].step == 30, "Those trained to the end rank first."


@pytest.mark.slow
def test_a_populations_losers_go_on_from_its_winners_with_other_floats(sweep):
    found = sweep("sweep.trials=4", "scheduler=population_based", "scheduler.interval=10", "sweep.keep=4")
    changes = [line for line in lines(found) if line["kind"] == "change"]
    assert [line["step"] for line in changes] == [10, 20]
    trials = read_log(found.folder).trials
    measured = losses_of(found)
    for line in changes:
        losses = measured[line["step"]]
        assert losses[line["trial"]] == max(losses.values()) and losses[line["source"]] == min(losses.values())
        earlier = [other for other in changes if other["trial"] == line["source"] and other["step"] < line["step"]]
        source = earlier[-1]["values"] if earlier else trials[line["source"]].values
        ratio = line["values"]["optimizer.learning_rate"] / source["optimizer.learning_rate"]
        assert min(abs(ratio - 0.8), abs(ratio - 1.25)) < 1e-4 or line["values"]["optimizer.learning_rate"] in (1e-3, 1.0)
    for trial, path in found.runs.items():
        run = load(path)
        assert float(run.restored["train"].hp["optimizer"]["learning_rate"]) == np.float32(trials[trial].now["optimizer.learning_rate"])
        assert (trial in found.commands) == (not trials[trial].changes), "No single command trains a member that changed."
        shown = run.history[-1]["values"]["loss"]
        np.testing.assert_allclose(run.metrics["validation/loss"], shown, rtol=1e-5)


@pytest.mark.slow
def test_early_stopping_ends_each_lane_where_it_would_have_ended_alone(sweep, tmp_path):
    words = ["early_stopping.patience=1", "space={optimizer.learning_rate: {choice: [0.01, 3.0]}}", "search=grid", "length=60", "sweep.keep=2"]
    found = sweep(*words)
    steps = {trial.values["optimizer.learning_rate"]: trial.step for trial in found.trials}
    alone = fit(compose("digits_mlp", [*SMALL, "early_stopping.patience=1", "length=60", "optimizer.learning_rate=3.0", f"run.root={tmp_path}/alone"]))
    assert steps[3.0] == alone.step < steps[0.01] == 60
    assert {load(path).step for path in found.runs.values()} == set(steps.values())


class Killed(Exception):
    """Stands for a kill between two evaluations."""


POPULATION = ["scheduler=population_based", "scheduler.interval=10", "sweep.lanes=null"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], POPULATION], ids=["plain", "population"])
def test_a_sweep_that_was_cut_goes_on_and_ends_as_if_it_had_not_been(sweep, tmp_path, monkeypatch, more):
    monkeypatch.setattr("arsenal.search.engines.progress.TELLING", -1.0)
    words = ["every.save=10", "sweep.lanes=3", "sweep.trials=6", *more]
    whole = table(sweep(*words, root=tmp_path / "whole"))

    def cut(text):
        if "best loss" in text:
            cut.heard += 1
            if cut.heard == cut.at:
                raise Killed

    for cut.at in (1, 2, 1):
        cut.heard = 0
        with pytest.raises(Killed):
            sweep(*words, root=tmp_path / "cut", say=cut)
    found = sweep(*words, root=tmp_path / "cut")
    assert table(found) == whole
    resumed = [line for line in lines(found) if line["kind"] == "resume"]
    assert [line["step"] for line in resumed][-2:] == [10, 10], "It went on from a checkpoint."
    if more:
        assert any(line["kind"] == "change" and line["step"] == 10 for line in lines(found))
        return
    before = (found.folder / "trials.jsonl").read_text()
    assert sweep(*words, root=tmp_path / "cut").counted == {"complete": 6}
    assert (found.folder / "trials.jsonl").read_text() == before, "Finished trials are not run again."
    longer = sweep(*words, "sweep.trials=7", root=tmp_path / "cut")
    assert longer.folder == found.folder and longer.counted == {"complete": 7}
    assert table(longer).startswith(whole)


@pytest.mark.slow
def test_a_trial_that_diverges_ends_no_other(sweep):
    found = sweep("space={optimizer.learning_rate: {choice: [0.1, 1e30, 0.2]}}", "search=grid", "sweep.trials=9")
    assert found.counted == {"complete": 2, "failed": 1}
    failed = next(trial for trial in read_log(found.folder).trials.values() if trial.state == "failed")
    assert "diverged" in failed.reason and "`loss`" in failed.reason
    assert (found.folder / "trials" / "1" / "failure.txt").read_text().strip() == failed.reason
    assert "no more than 3 candidates" in " ".join(sweep.said)
    page = (found.folder / "report" / "index.html").read_text()
    shown = found._repr_html_()
    assert f"<td>{found.trials[0].id}</td><td>{number(found.trials[0].value)}</td>" in shown and "1 failed" in shown
    assert "data:image/png" in shown and "report/index.html" in shown
    assert "1 failed" in page and "../trials/1/failure.txt" in page
    with pytest.raises(RunError, match="Trial 1 failed.*on_failure"):
        sweep("space={optimizer.learning_rate: {choice: [0.1, 1e30]}}", "search=grid", "sweep.on_failure=stop")


@pytest.mark.slow
def test_other_shapes_are_programs_of_their_own(sweep):
    found = sweep("space={model.hidden: {choice: [[8], [4]]}, seed: {seed: 2}}", "search=grid", "sweep.keep=4")
    assert any("Engine lanes: model.hidden" in text for text in sweep.said)
    assert [len(chunk["trials"]) for chunk in read_log(found.folder).chunks] == [2, 2]
    shapes = {load(path).params["learner"]["params"]["Dense_0"]["kernel"].shape for path in found.runs.values()}
    assert shapes == {(64, 8), (64, 4)}


@pytest.mark.slow
def test_one_process_at_a_time_holds_a_sweep_and_another_space_is_refused(sweep, tmp_path):
    found = sweep("length=10")
    with lock(found.folder), pytest.raises(RunError, match="is held by process"):
        sweep("length=10")
    with pytest.raises(RunError, match="of another sweep: `space: optimizer.learning_rate`"):
        sweep("length=10", "space={optimizer.learning_rate: {log: [1e-3, 2.0]}}", f"sweep.folder={found.folder}")
    with pytest.raises(RunError, match="begun with engine lanes; got sweep.engine=ray"):
        sweep("length=10", "sweep.engine=ray")


@pytest.mark.parametrize(
    "words, said",
    [
        (["space={optimizer.lerning_rate: {log: [1e-3, 1.0]}}"], "no key `optimizer.lerning_rate`. Did you mean `optimizer.learning_rate`"),
        (["space={optimizer.learning_rate: {log: [0, 1.0]}}"], "is logarithmic and must lie above 0"),
        (["space={}"], "`space` is empty"),
        (["space={optimizer.learning_rate: {float: [-1, 1.0]}}"], "must be greater than or equal to 0; got -1"),
        (["space={batch_size: {int: [0, 4]}}"], "`batch_size` must be greater than 0; got 0"),
        (["space={optimizer: {choice: [sgd, adm]}}"], "no optimizer `adm`. Did you mean `adam`"),
        (["sweep.metric=auc"], "`sweep.metric` must name one of accuracy"),
        (["split.validation=0.0"], "`sweep.metric` judges validation/loss, and `split` leaves no such rows"),
        (["sweep.trials=0"], "`sweep.trials` must be greater than 0"),
        (["launcher=processes"], "`launcher` places one run"),
        (["preflight=true"], "`preflight` looks at one run"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(sweep, words, said):
    with pytest.raises((ConfigError, RunError)) as caught:
        sweep(*words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_cluster_that_nobody_answers_is_one_clear_line(sweep):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        began = time.monotonic()
        with pytest.raises(RunError, match="No Ray cluster answers at `ray.address=127.0.0.1:"):
            sweep("sweep.engine=ray", f"ray.address=127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - began < 30


def test_what_does_not_fit_into_memory_is_said_before_it_is_tried(sweep):
    with pytest.raises(RunError, match=r"No trial of .* has a value; the first one: A trial needs about \d+.\d GB .* there are"):
        sweep("model.hidden=[2000000,20000]", "sweep.trials=2")


@pytest.mark.slow
def test_lanes_lie_on_all_devices_and_are_the_same_there(sweep, tmp_path):
    one = table(sweep("sweep.trials=6"))
    script = (
        "import sys; from arsenal.config import compose; from arsenal.search.tuning import tune; import jax;"
        f"found = tune(compose('digits_mlp', {[*SMALL, SPACE, 'sweep.trials=6', f'run.root={tmp_path}/many']!r}, name='tune'));"
        "assert jax.device_count() == 8; print(found.folder)"
    )
    env = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr[-3000:]
    folder = Path(done.stdout.split()[-1])
    many = (folder / "report" / "trials.csv").read_text()
    pairs = [(a.split(","), b.split(",")) for a, b in zip(one.splitlines()[1:], many.splitlines()[1:], strict=True)]
    np.testing.assert_allclose([float(a[3]) for a, _ in pairs], [float(b[3]) for _, b in pairs], rtol=1e-4)
    assert json.loads((folder / "trials.jsonl").read_text().splitlines()[6])["lanes"] == 8


def test_trials_that_left_out_steps_say_so(tmp_path):
    with contextlib.closing(Sweep(tmp_path, "min", 1, "go_on")) as kept:
        for i in (0, 1):
            kept.add_trial(i, {"rate": 0.1})
        for step, shares in ((10, [0.0, 0.9]), (20, [0.0, 1.0]), (25, [0.0, 0.5])):
            kept.log_values("train", step, [0, 1], {"loss": [1.0, 1.0], "skipped": shares})
        for i in (0, 1):
            kept.end_trial(i, "complete", 25, 1.0 + i)
        shares = [kept.skipped_share(i) for i in (0, 1)]
        assert shares == [0.0, pytest.approx((9 + 10 + 2.5) / 25)]
        found = SweepResult(tmp_path, kept.rank(), {"complete": 2}, {}, {}, "loss", {1: shares[1]})
    text = list(found.summary())
    assert text[3] == "    `on_nan=skip` left out 86% of its steps, whose numbers were not finite."
