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


OWN = '''
import flax.linen as nn
import jax.numpy as jnp
from arsenal.records import Loss


class Two(nn.Module):
    output: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return nn.Dense(10)(x), nn.Dense(10)(x)


class One(nn.Module):
    output: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x.reshape(len(x), -1))


def first(outputs, y):
    return jnp.square(outputs[0]).mean(-1)


def scalar(outputs, y):
    return jnp.square(outputs).mean()


def crossed(outputs, y):
    return jnp.square(outputs - y.astype(float))


def unfit(outputs, y):
    return jnp.square(outputs - jnp.ones((3, 7)))


def measured():
    return Loss(lambda outputs, rows, hp: outputs[:, 0], measures={"size": lambda outputs, rows: outputs})
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A config of the digits with a model and a loss of one's own."""
    (tmp_path / "homemade.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def config(model, loss, partial="true"):
        words = [f"+model={{_target_: homemade.{model}}}", f"+loss={{_target_: homemade.{loss}, _partial_: {partial}}}"]
        return compose("digits_mlp", ["trusted=[homemade]", "~model", "~loss", "~metrics", "+metrics={}", "~expect", "+expect={}", *words])

    return config


@pytest.mark.parametrize(
    ("model", "loss", "partial", "said"),
    [
        ("Two", "first", "true", "The answer `predict` must be an array with a row for each row of x; got tuple. Of several outputs"),
        ("One", "scalar", "true", r"A loss must give one value for every row, \[1797\]; got \[\] for outputs \[1797, 1\] and y \[1797\]"),
        ("One", "crossed", "true", r"one value for every row, \[1797\]; got \[1797, 1797\] for outputs \[1797, 1\] and y \[1797\]"),
        ("One", "unfit", "true", r"The loss cannot take outputs \[1797, 1\] and y \[1797\]: "),
        ("One", "measured", "false", r"The measure `size` of a loss must give one value for every row, .*; got \[1797, 1\]"),
    ],
)
def test_outputs_that_are_no_rows_are_refused(own, model, loss, partial, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build(own(model, loss, partial))
    assert "\n" not in str(caught.value)


def test_labels_are_no_numbers():
    with pytest.raises(ConfigError, match="The target holds labels .`setosa`, `versicolor`, .*takes a loss or an estimator of classes"):
        build(compose("iris_mlp_csv", ["loss=squared_error", "model.output=1", "~metrics", "+metrics={}", "~expect", "+expect={}"]))
