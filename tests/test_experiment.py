"""What a config describes is built, and what cannot be honoured is refused in one line before anything compiles."""

import pytest

from arsenal.config import ConfigError, compose
from arsenal.experiment import build, directed


def test_a_known_metric_says_which_of_its_values_are_good():
    config = compose("digits_mlp", ["sweep.metric=accuracy", "early_stopping.patience=3"], name="tune")
    found = directed(config, build(config).modes).values
    assert (found["sweep"]["mode"], found["early_stopping"]["mode"]) == ("max", "min")
    assert config.values["sweep"]["mode"] is None, "The config that was given stays as it was."
    given = compose("digits_mlp", ["sweep.metric=accuracy", "sweep.mode=min"], name="tune")
    assert directed(given, build(given).modes).values["sweep"]["mode"] == "min", "What is said is done."


def test_of_others_the_direction_must_be_given():
    with pytest.raises(ConfigError, match="`sweep.mode` must be min or max: `kl` does not say which of its values are good"):
        build(compose("digits_vae", ["sweep.metric=kl"], name="tune"))
    with pytest.raises(ConfigError, match="`sweep.metric` must name one of accuracy, .*, of the validation rows; got train/loss"):
        build(compose("digits_mlp", ["sweep.metric=train/loss"], name="tune"))
