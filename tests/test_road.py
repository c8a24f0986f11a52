"""The front door: what a notebook shows of configs, runs, records and errors, and what `fit` takes."""

import signal

import numpy as np
import pytest

import arsenal
from arsenal import Config, Run, compose, fit, load
from arsenal.config import ConfigError
from arsenal.losses import cross_entropy
from arsenal.models import perceptron
from arsenal.optim import adam
from arsenal.records import batch
from arsenal.runs.signals import Interrupted
from arsenal.training import supervised

FAST = ["length=2", "every.evaluate=2", "model.hidden=[4]", "run.tensorboard=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return fit("digits_mlp", [*FAST, f"run.root={tmp_path_factory.mktemp('runs')}"])


def test_fit_takes_a_name_or_a_config_and_not_both(run):
    assert isinstance(run, Run) and run.step == 2
    with pytest.raises(TypeError, match="`overrides` are for an experiment's name"):
        fit(run.config, ["seed=1"])


def test_a_run_says_what_it_is_in_a_line_and_shows_itself_in_a_notebook(run):
    assert repr(run) == f"Run(digits_mlp, complete at step 2, {run.folder})"
    page = run._repr_html_()
    assert "validation accuracy" in page and "data:image/png;base64," in page


def test_a_config_and_the_records_are_a_line():
    config = compose("digits_mlp", ["seed=3"])
    assert repr(config) == "Config(digits_mlp +experiment=digits_mlp seed=3)" and "learning_rate" in config._repr_html_()
    learner = supervised(perceptron(3, (4,)), cross_entropy(), adam(0.5))
    assert repr(batch(x=[[1.0, 2.0]], y=[1])) == "Batch(x=float32[1, 2], y=int32[1], weight=float32[1], row=int32[1])"
    assert repr(learner).startswith("Learner(apply=predict, predict_proba") and "'learning_rate': 0.5" in repr(learner)
    assert len(repr(learner)) < 400 and " at 0x" not in repr(learner)


def test_an_error_of_ours_is_a_line_in_ipython(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        shell.run_cell("from arsenal import compose\ncompose('digit_mlp')")
    finally:
        InteractiveShell.clear_instance()
    assert capsys.readouterr().out.splitlines() == ["ConfigError: There is no experiment `digit_mlp`. Did you mean `digits_mlp`?"]


def test_what_the_front_door_offers():
    assert arsenal.export.__module__ == "arsenal.road" and set(arsenal.__all__) <= set(dir(arsenal))
    with pytest.raises(ConfigError):
        compose("digits_mlp", ["nothing=1"])
    assert Config is arsenal.config.Config


@pytest.mark.slow
def test_the_curve_of_a_run_that_was_interrupted_is_that_of_one_that_was_not(tmp_path):
    """A checkpoint between two logs: the first mean after it is over all steps since the last one."""
    words = ["model.hidden=[4]", "run.tensorboard=false", "every.log=10 steps", "every.evaluate=1000"]
    whole = fit("digits_mlp", [*words, "length=20", f"run.root={tmp_path / 'whole'}"])

    def interrupt(kind, step, values):
        if kind == "train" and step == 10:
            signal.raise_signal(signal.SIGTERM)

    cut = [*words, "length=20", "every.save=3 steps", f"run.root={tmp_path / 'cut'}"]
    with pytest.raises(Interrupted):
        fit("digits_mlp", cut, listener=interrupt)
    assert load(next((tmp_path / "cut").glob("*/*/config.yaml")).parent).step % 10, "The interruption lies between two logs."
    resumed = fit("digits_mlp", cut)
    pairs = [[e["values"]["loss"] for e in run.history if e["kind"] == "train"] for run in (whole, resumed)]
    np.testing.assert_allclose(*pairs, rtol=1e-6)
