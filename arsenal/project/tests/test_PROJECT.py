"""What this project makes keeps arsenal's laws, and trains."""

from pathlib import Path

import pytest
from arsenal import compose, fit
from arsenal.records import batch
from arsenal.testing import check, model_test

from PROJECT.data import wave
from PROJECT.loss import quantile
from PROJECT.model import radial

HERE = Path(__file__).resolve().parents[1]
ROWS = batch(**wave(8))


@pytest.mark.parametrize("record", [radial(4), quantile()], ids=["radial", "quantile"])
def test_the_laws_hold(record):
    """The same bits for the same inputs, rows that do not see each other, one program for every value of `hp`."""
    check(record, ROWS)


def test_it_trains(tmp_path):
    """From the experiment's file to a result on rows that it was not trained on."""
    config = compose("PROJECT", ["length=300", f"run.root={tmp_path}"], config_dir=HERE / "conf")
    run = fit(config)
    assert run.step == 300
    assert run.metrics["test/loss"] < 0.2, "A constant gets 0.3."
    assert fit(config).folder == run.folder, "The same command finds the run complete."


def train():
    """The run of `arsenal train`, trained where it is not there yet."""
    return fit(compose("PROJECT", [f"run.root={HERE / 'experiments'}"], config_dir=HERE / "conf"))


test_model = model_test(train, HERE / "conf" / "tests" / "PROJECT.yaml")
