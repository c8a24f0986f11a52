"""The front door: what a notebook shows of configs, runs, records and errors, and what `fit` takes."""

import signal

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

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


def test_a_run_draws_what_its_report_shows(run, tmp_path):
    assert "roc" in dir(run.plot) and "run" not in dir(run.plot) and repr(run.plot).startswith("Plots(calibration, ")
    y, proba = run.results["test"].shown.y, run.results["test"].answers["predict_proba"]
    legend = run.plot.roc().axes[0].get_legend().get_texts()[-1].get_text()
    assert legend == f"macro  {roc_auc_score(y, proba, multi_class='ovr'):.4f}"
    counts = [int(text.get_text()) for text in run.plot.confusion_matrix("validation").axes[0].texts]
    rows = run.results["validation"]
    wanted = confusion_matrix(rows.shown.y, rows.answers["predict_proba"].argmax(1))
    assert counts == wanted[wanted > 0].tolist()
    for name in ("calibration", "precision_recall", "wrong_examples", "learning_curves"):
        assert getattr(run.plot, name)().axes, name
    data, size = run.plot.calibration("train")._repr_png_()
    assert data.startswith(b"\x89PNG") and size["width"] > 300
    for call, said in (
        (run.plot.residuals, r"`residuals` needs a predicted number for each target; this run's answers on test are predict int32"),
        (lambda: run.plot.roc("later"), "`split` must be one of test, validation, train, which have rows; got 'later'"),
        (run.plot.coefficients, "`coefficients` needs a linear run"),
        (run.plot.sample_grid, "`sample_grid` needs a learner that draws images"),
        (lambda: run.plot.learning_curves(["speed"]), "`quantities` must be among .*; got 'speed'"),
        (run.plot.importances, "Of images `patches_of`"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_run_in_a_notebook_shows_what_its_report_found(tmp_path):
    run = fit("diabetes_ridge", [f"run.root={tmp_path}", "run.tensorboard=false"])
    before = run._repr_html_()
    arsenal.evaluate(run)
    page = run._repr_html_()
    metric = f"{run.metrics['test/r2_score']:.4f}"
    assert metric not in before and f"<td>test R² score</td><td>{metric}</td><td>(" in page and "report/index.html" in page
    bars = run.plot.coefficients().axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(np.ravel(run.params["learner"].slope).tolist()))
    y, predict = (np.asarray(part) for part in (run.results["test"].shown.y, run.results["test"].answers["predict"]))
    cloud = run.plot.residuals().axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(cloud[:, 1], (predict - y).ravel(), rtol=1e-5)
    assert len(run.plot.importances().axes[0].get_yticks()) == 10


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
