"""What a researcher asks of training beyond training: to stop, keep, inherit, look closer and say what is coming."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from arsenal.config import ConfigError
from arsenal.preflight import preflight
from arsenal.road import compose, export, fit, load
from arsenal.run import Unmet
from arsenal.runs.checkpoints import digest
from arsenal.runs.events import read_events
from arsenal.runs.folder import RunError, read_status
from arsenal.runs.judge import Judge

KEPT = Path(__file__).resolve().parents[1] / "kept"
SMALL = ["model.hidden=[8]", "every.log=10", "every.evaluate=10", "run.tensorboard=false"]


@pytest.fixture
def train(tmp_path):
    """Train the small digits run in a folder of its own; `fit`'s listener collects what was said."""
    said = []

    def one(*overrides, experiment="digits_mlp"):
        said.clear()
        config = compose(experiment, [*SMALL, f"run.root={tmp_path}", *overrides])
        return fit(config, listener=lambda kind, step, values: said.append((kind, step, values)))

    one.said = said
    return one


def validations(run) -> dict[int, float]:
    return {e["step"]: e["values"]["loss"] for e in run.history if e["kind"] == "validation"}


def steps_kept(run) -> list[int]:
    return sorted(int(path.parent.name) for path in run.folder.glob("checkpoints/*/commit.json"))


HASTY = ["optimizer=sgd", "optimizer.learning_rate=2.0", "length=300"]


def test_early_stopping_ends_where_patience_ends_and_the_best_is_kept(train):
    run = train(*HASTY, "early_stopping.patience=3", "run.checkpoints.best=1", "run.checkpoints.last=1")
    losses = validations(run)
    best = min(losses, key=losses.get)
    assert max(losses) == best + 30 == run.step < 300, "Three evaluations without a better one."
    assert steps_kept(run) == [best, run.step]
    assert read_status(run.folder)["state"] == "complete"
    assert load(run.folder, checkpoint="best").step == best == load(run.folder, checkpoint=str(best)).step
    before = digest(run.restored)
    again = train(*HASTY, "early_stopping.patience=3", "run.checkpoints.best=1", "run.checkpoints.last=1")
    assert digest(again.restored) == before and [kind for kind, *_ in train.said] == ["complete"]
    with pytest.raises(RunError, match=r"A checkpoint is last, best or one of the steps .*; got 7"):
        load(run.folder, checkpoint="7").restored  # noqa: B018


@pytest.mark.parametrize("value", [None, float("nan"), [1.0, None], [1.0, float("inf")]])
def test_what_is_no_number_judges_nothing_now_or_after_it_is_read_back(value):
    judge = Judge("loss", "min")
    assert judge.value({"loss": value}) is None
    assert judge.value({"loss": [1.0, 3.0]}) == 2.0


def test_patience_is_counted_across_a_kill(train, tmp_path):
    whole = train(*HASTY, "early_stopping.patience=3")
    stop = whole.step
    train(*HASTY, "seed=0", f"run.root={tmp_path}/cut", "early_stopping.patience=3", f"length={stop - 10}")
    cut = train(*HASTY, f"run.root={tmp_path}/cut", "early_stopping.patience=3")
    assert cut.step == stop and digest(cut.restored) == digest(whole.restored)


def test_checkpoints_are_kept_by_interval(train):
    run = train("length=100", "every.save=10", "run.checkpoints.last=1", "run.checkpoints.every=30 steps")
    assert steps_kept(run) == [10, 30, 60, 90, 100]


def test_a_run_begins_with_anothers_parameters(train):
    origin = train("length=60")
    tuned = train("length=10", "seed=1", "optimizer=sgd", "optimizer.learning_rate=0.0", f"init_from={origin.folder}")
    assert digest(tuned.params["learner"]) == digest(origin.params["learner"]), "A learning rate of 0 shows where it began."
    (note,) = [values["text"] for kind, _, values in train.said if kind == "note"]
    assert note == f"4 arrays taken from {origin.folder}"
    plain = train("length=10", "seed=1", "optimizer=sgd", "optimizer.learning_rate=0.0")
    assert plain.folder != tuned.folder, "What a run began with is part of what it is."


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.hidden=[9]"], r"`params/Dense_0/bias` has shape \(9,\) here; `params/Dense_0/bias` has \(8,\)"),
        (["model.hidden=[8,8]", "init_map={params/Dense_1: params/Dense_2}"], "leaves `params/Dense_1/bias`.* missing"),
        (["init_map={params/Dense_9: null}"], "`params/Dense_9` of `init_map` matches no parameter"),
        (["init_map={params/Dense_0: null, params/.*: null}"], "overlap"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(train, overrides, said):
    origin = train("length=10")
    with pytest.raises(ConfigError, match=said):
        train("length=10", "seed=1", f"init_from={origin.folder}", *overrides)
    assert not list(origin.folder.parent.glob("*/checkpoints/0*/../../status.json"))[1:]


@pytest.mark.slow
def test_an_averages_raw_parameters_answer_when_asked(train):
    run = train("learner=ema", "learner.decay=0.99", "length=60")
    raw = load(run.folder, "raw")
    assert digest(raw.params["learner"]) != digest(run.params["learner"])
    assert raw.metrics["test/loss"] < run.metrics["test/loss"], "Early on, the average lags."
    with pytest.raises(RunError, match="`params` of this run must be one of its learner's views, raw; got best"):
        load(run.folder, "best").params  # noqa: B018


DIVERGING = ["optimizer=sgd", "optimizer.learning_rate=1e30", "length=40"]


def test_a_run_that_diverges_says_at_which_step(train):
    with pytest.raises(RunError, match="`loss` is not finite at step 1; `on_nan=replay` names the operation"):
        train(*DIVERGING)
    # Which operation is the first differs between processors.
    with pytest.raises(RunError, match=r"step 1: `\w+` gives NaN at .*arsenal.(models|losses|training).\w+\.py:\d+, in \w+"):
        train(*DIVERGING, "on_nan=replay")
    (kept,) = [path.parent for path in Path(train.said[0][2]["folder"]).glob("checkpoints/*/commit.json")]
    assert int(kept.name) == 1, "The state before the failing step."
    assert read_status(kept.parents[1])["state"] == "failed"


def test_steps_that_go_wrong_can_be_left_out(train):
    run = train(*DIVERGING, "on_nan=skip")
    assert run.step == 40
    logged = [e["values"]["skipped"] for e in run.history if e["kind"] == "train"]
    assert logged == [pytest.approx(0.9), 1.0, 1.0, 1.0], "All but the very first."
    (warning,) = [values["text"] for kind, _, values in train.said if kind == "warning"]
    assert warning == "`on_nan=skip` left out 39 of 40 steps (98%), whose numbers were not finite."
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params["learner"]))


def test_a_window_of_steps_is_profiled(train):
    run = train("length=40", "run.profile.start=20", "run.profile.steps=5")
    (trace,) = run.folder.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000


def test_a_profile_that_does_not_fit_is_said_before_anything_is_trained(train, monkeypatch, tmp_path):
    mounted = tmp_path / "digits_mlp"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mounted], capture_output=True).returncode:
        pytest.skip("Only root can make a small disk.")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            train("length=40", "run.profile.start=20")
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_schedule_longer_than_the_run_is_a_warning(train):
    schedule = [
        "learner.optimizer={_target_: arsenal.optim.scheduled, optimizer: ${optimizer}, schedule: ${schedule}}",
        "+schedule=warmup_cosine", "schedule.steps=5", "schedule.schedule.length=100",
    ]  # fmt: skip
    train("length=20", *schedule)
    (warning,) = [values["text"] for kind, _, values in train.said if kind == "warning"]
    assert warning == (
        "The schedule `learner.optimizer.schedule` is 105 steps long and the run 20: it does not reach its end."
    )


SCHEDULED = "learner.optimizer={_target_: arsenal.optim.scheduled, optimizer: ${optimizer}, schedule: ${schedule}}"


def test_a_schedule_that_ends_in_nothing_before_the_run_is_a_warning(train, tmp_path, monkeypatch):
    (tmp_path / "paces.py").write_text(
        "from arsenal.optim import Schedule\n"
        "def halves(steps: float) -> Schedule:\n"
        "    return Schedule(lambda step, hp: 0.5 * (step.astype(float) < hp['steps']).astype(float), {'steps': steps}, lambda hp: hp['steps'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from arsenal.session import schedule_warnings

    def said(*words, stop=100):
        return schedule_warnings(compose("digits_mlp", [SCHEDULED, *words]).settings, stop)

    ends = "The schedule `learner.optimizer.schedule` ends at step 60 and the run at 100: from there the learning rate is multiplied by 0,"
    assert said("+schedule=cosine", "schedule.length=60")[0].startswith(ends)
    assert said("+schedule=warmup_cosine", "schedule.steps=5", "schedule.schedule.length=55")[0].startswith(ends)
    assert said("trusted=[paces]", "+schedule={_target_: paces.halves, steps: 60}")[0].startswith(ends), "One's own too."
    for words in (
        ["+schedule=cosine", "schedule.length=60", "schedule.end=0.1"], ["+schedule=cosine", "schedule.length=100"],
        ["+schedule={_target_: arsenal.optim.warmup, steps: 10, schedule: {_target_: arsenal.optim.constant}}"],
        ["+schedule=inverse_square_root", "schedule.warmup=10"], ["+schedule={_target_: arsenal.optim.piecewise, boundaries: [50], factors: [0.1]}"],
    ):  # fmt: skip
        assert said(*words) == [], words


def test_preflight_says_what_would_be_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups = "learner.optimizer={_target_: arsenal.optim.grouped, optimizer: ${optimizer}, groups: ${groups}}"
    config = compose("digits_mlp", [*SMALL, groups, "+groups=[{pattern: '.*bias', weight_decay: 0.0}, {pattern: '.*'}]"])
    text = "\n".join(preflight(config))
    for line in (
        r"train +1,240 rows", r"batch x +float32 +\[128, 8, 8\]", r"params/Dense_0/kernel +float32 +\[64, 8\] +512",
        r"in all 610 in 4 arrays", r"Dense_0/bias +\[8\] +\.\*bias", r"Dense_1/kernel +\[8, 10\] +\.\*$",
        r"operations a step, as XLA counts +\d", r"state and data +[\d.]+ MB", r"500 steps of 128 rows", "Nothing was trained",
    ):  # fmt: skip
        assert re.search(line, text, re.MULTILINE), f"{line}\n{text}"
    assert not list(tmp_path.iterdir())
    config = compose("digits_mlp", [*SMALL, groups, "+groups=[{pattern: '.*bais'}, {pattern: '.*'}]"])
    with pytest.raises(ConfigError, match=r"`\.\*bais` matches the whole path of no parameter"):
        list(preflight(config))


def test_a_tracker_of_ones_own_hears_everything(train, tmp_path, monkeypatch):
    (tmp_path / "listening.py").write_text(
        "from arsenal.runs.journal import Tracker\n"
        "heard = []\n"
        "def tracker(folder, step, config):\n"
        "    return Tracker(lambda kind, step, values: heard.append((kind, step)), lambda: heard.append('closed'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    train("length=10", "trusted=[listening]", "+run.trackers.mine={_target_: listening.tracker, _partial_: true}")
    heard = sys.modules["listening"].heard
    assert heard == [("start", 0), ("train", 10), ("validation", 10), ("cache", 10), ("complete", 10), "closed"]


def test_pace_and_use_of_the_machine_are_logged(train):
    run = train("length=30", "run.peak_flops=1e12", "model.hidden=[8]")
    last = [e["values"] for e in run.history if e["kind"] == "train"][-1]
    assert last["examples_per_second"] == pytest.approx(128 * last["steps_per_second"])
    assert last["step_time"] == pytest.approx(1 / last["steps_per_second"])
    assert "mfu" not in last, "The perceptron has no published formula."


# What version 0.1.0 left.


@pytest.fixture
def old(tmp_path):
    """A copy of the run that version 0.1.0 kept."""
    import shutil

    source = KEPT / "0.1.0" / "digits_mlp" / "56836d524a87"
    return Path(shutil.copytree(source, tmp_path / "old"))


def test_a_run_of_the_last_version_answers_and_exports(old, tmp_path):
    from arsenal_serving.model import load as served

    run = load(old)
    assert run.metrics["test/accuracy"] == pytest.approx(0.2517006, abs=1e-6)
    given = run.predict(run.kept[1].x)["predict"].tolist()
    assert given == [1, 5, 2, 5, 8, 2, 2, 1]
    assert served(old / "artifact").infer("predict", {"x": np.asarray(run.kept[1].x)})["predict"].tolist() == given
    with pytest.raises(Unmet, match="misses what its experiment states, so it is not exported"):
        export(run, tmp_path / "artifact")
    export(run, tmp_path / "artifact", force=True)


# Signals.

SLEEPY = """
import time
import jax.numpy as jnp
from arsenal.records import Metric

calls = []

def sleepy(at: int) -> Metric:
    \"\"\"A metric that takes half a minute to trace, the `at`-th time.\"\"\"
    def update(acc, outputs, batch):
        calls.append(1)
        if len(calls) == at:
            open("asleep", "w").close()
            time.sleep(30)
        return acc
    return Metric(lambda: jnp.zeros(()), update, lambda a, b: a, lambda acc: {"sleepy": acc})
"""


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "at", "saved"), [("while it is built", 1, False), ("while it evaluates", 2, True)])
def test_sigterm_ends_at_once_what_cannot_be_asked(tmp_path, moment, at, saved):
    (tmp_path / "dormouse.py").write_text(SLEEPY)
    line = [
        sys.executable, "-m", "arsenal.train", "+experiment=digits_mlp", *SMALL, "length=40", f"run.root={tmp_path}",
        "trusted=[dormouse]", f"++metrics.sleepy={{_target_: dormouse.sleepy, at: {at}}}",
    ]  # fmt: skip
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    until = time.monotonic() + 90
    while not (tmp_path / "asleep").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    sent = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=25)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert time.monotonic() - sent < 10
    assert re.fullmatch(r"arsenal: Interrupted .*; the same command .*\n", said), said
    if saved:
        (found,) = tmp_path.glob("digits_mlp/*/status.json")
        assert json.loads(found.read_text())["state"] == "interrupted"
        assert [path.parent.name for path in found.parent.glob("checkpoints/*/commit.json")] == ["0000000010"]


def test_what_was_interrupted_between_a_step_and_its_evaluation_is_evaluated_on_resume(train):
    whole = train("length=40")
    log = whole.folder / "events.jsonl"
    lines = [line for line in log.read_text().splitlines() if not ('"validation"' in line and '"step": 40' in line)]
    log.write_text("\n".join(lines) + "\n")
    again = train("length=40")
    assert validations(again) == {**validations(whole)} and 40 in validations(again)
    assert len([e for e in read_events(log) if e["kind"] == "validation" and e["step"] == 40]) == 1


# What judges a run.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["early_stopping.patience=2", "early_stopping.metric=train/loss"], "`early_stopping.metric` must name one of accuracy, "
         r".*, loss, .*of the validation rows; got train/loss"),
        (["early_stopping.patience=2", "early_stopping.metric=test/accuracy"], "of the validation rows; got test/accuracy"),
        (["run.checkpoints.best=1", "run.checkpoints.metric=acuracy"], "`run.checkpoints.metric` .*; got validation/acuracy"),
        (["++expect={train/accuracy: {min: 0.5}}"], "`expect` must name .*, of the validation or test rows; got train/accuracy"),
        (["++expect={accuracy: {min: 0.5}}"], "`expect` must name .*; got accuracy"),
        (["seed=4294967296"], "`seed` must be less than 4294967296"),
    ],
)  # fmt: skip
def test_what_cannot_judge_is_refused_before_anything_compiles(train, tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        train(*words)
    assert not list(tmp_path.iterdir())


ACCURATE = ["run.checkpoints.best=1", "run.checkpoints.last=1", "run.checkpoints.metric=accuracy"]


@pytest.mark.slow
def test_the_best_is_judged_by_name_and_direction_however_the_run_was_judged_before(train):
    train(*HASTY, "length=60", "run.checkpoints.best=3", "run.checkpoints.last=1")
    run = train(*HASTY, "length=70", *ACCURATE, "run.checkpoints.best=3")
    assert run.config.values["run"]["checkpoints"]["mode"] == "max", "Accuracy knows that."
    measured = {e["step"]: e["values"]["accuracy"] for e in run.history if e["kind"] == "validation"}
    there = steps_kept(run)
    assert measured[load(run.folder, checkpoint="best").step] == max(measured[step] for step in there)


@pytest.mark.slow
def test_a_shorter_run_that_goes_on_is_the_longer_one(train, tmp_path):
    words = [*HASTY, "early_stopping.patience=2", "every.evaluate=20", "every.save=1000 steps", "run.checkpoints.best=1", "run.checkpoints.last=1"]
    whole = train(*words, "length=300")
    assert whole.step < 300
    for cut in sorted({whole.step - 15, whole.step - 5}):
        train(*words, f"length={cut}", f"run.root={tmp_path}/{cut}")
        again = train(*words, "length=300", f"run.root={tmp_path}/{cut}")
        assert (again.step, steps_kept(again)) == (whole.step, steps_kept(whole))
        assert digest(again.restored) == digest(whole.restored)
        assert load(again.folder, checkpoint="best").step == load(whole.folder, checkpoint="best").step


def test_a_signal_while_the_best_step_is_judged_keeps_that_step(train, tmp_path):
    words = [*HASTY, "length=60", "every.evaluate=20", "every.save=1000 steps", "run.checkpoints.best=1", "run.checkpoints.last=1"]
    whole = train(*words)
    best = load(whole.folder, checkpoint="best").step
    # As a signal leaves it: saved, since it ended there, and not judged.
    copy = train(*words, f"length={best}", f"run.root={tmp_path}/cut")
    log = copy.folder / "events.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if '"validation"' not in line or f'"step": {best}' not in line))
    marker = copy.folder / "checkpoints" / f"{best:010d}" / "commit.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"due": False}))
    again = train(*words, f"run.root={tmp_path}/cut")
    assert steps_kept(again) == steps_kept(whole)
    assert validations(again) == validations(whole)
