"""What a config describes is built, and what cannot be honoured is refused in one line before anything compiles."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from arsenal.config import ConfigError, compose
from arsenal.experiment import build, fill_modes, mathematics, parts


def test_a_known_metric_says_which_of_its_values_are_good():
    config = compose("digits_mlp", ["sweep.metric=accuracy", "early_stopping.patience=3"], name="tune")
    found = fill_modes(config, build(config).modes).values
    assert (found["sweep"]["mode"], found["early_stopping"]["mode"]) == ("max", "min")
    assert config.values["sweep"]["mode"] is None, "The config that was given stays as it was."
    given = compose("digits_mlp", ["sweep.metric=accuracy", "sweep.mode=min"], name="tune")
    assert fill_modes(given, build(given).modes).values["sweep"]["mode"] == "min", "What is said is done."


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


def apart(y, predict, by=1):
    return jnp.abs(predict - y.astype(predict.dtype)) > by


def margin(outputs, batch):
    return outputs["predict_proba"].max(-1)


def one_number(y, predict):
    return (predict != y).mean()


def three(a, b, c):
    return a


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


def with_metric(name):
    return compose("digits_mlp", ["trusted=[homemade]", f"+metrics.mine={{_target_: homemade.{name}, _partial_: true}}"])


def test_a_plain_function_is_a_metric(own):
    for name in ("apart", "margin"):
        built = build(with_metric(name))
        assert built.modes["mine"] is None and "accuracy" in built.modes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one_number", r"The metric `mine` does not fit what the learner answers: `mine` must give a value for every row, \(1797,\); got"),
        ("three", r"`metrics.mine`: `mine` must be a Metric or a function .*; got three\(a, b, c\)"),
    ],
)
def test_another_function_is_no_metric(own, name, said):
    with pytest.raises(ConfigError, match=said):
        build(with_metric(name))


def test_labels_are_no_numbers():
    with pytest.raises(ConfigError, match="The target holds labels .`setosa`, `versicolor`, .*takes a loss or an estimator of classes"):
        build(compose("iris_mlp_csv", ["loss=squared_error", "model.output=1", "~metrics", "+metrics={}", "~expect", "+expect={}"]))


def test_labels_are_not_measured_as_numbers():
    with pytest.raises(ConfigError, match="The metric `mean_squared_error` is of numbers, and the target holds labels .`setosa`, `versicolor`, `virginica`.: metrics="):
        build(compose("iris_mlp_csv", ["metrics=regression", "~expect"]))
    assert "mean_squared_error" in build(compose("diabetes_ridge")).modes


# Categories.


TABLE = "colour,size,kind,y\n" + "".join(f"{c},{i % 7},{k},{'yes' if i % 2 else 'no'}\n" for i, (c, k) in enumerate([
    *[("red", "a"), ("green", "b"), ("blue", "a")] * 20, ("red", "b")
]))  # fmt: skip


@pytest.fixture
def table(tmp_path):
    """The iris experiment on a table with two columns of strings, of three and two levels."""
    (tmp_path / "table.csv").write_text(TABLE)

    def config(hot="{_target_: arsenal.features.one_hot}", *words):
        own = [f"data.path={tmp_path}/table.csv", "data.target=y", "~features", f"+features={{hot: {hot}}}", "model.output=2"]
        return compose("iris_mlp_csv", [*own, "~expect", "+expect={}", "length=2 epochs", f"run.root={tmp_path}", *words])

    return config


def test_how_many_categories_there_are_is_known_from_the_data(table, tmp_path):
    import numpy as np

    from arsenal.runs import schema

    made = build(table())
    changed = made.parts.features.fit(jax.random.key(0), made.data.rows, made.parts.features.hp)[1]
    assert changed.x.shape == (61, 1 + 3 + 2)
    schema.write_schema(tmp_path, made.data.schema, made.data.rows, made.examples)
    again = parts(table(), schema.read_schema(tmp_path)[0]).features
    x = {"numeric": np.zeros((2, 1), np.float32), "categorical": np.array([[2, 1], [3, 2]], np.int32)}
    wanted = [[0, 0, 0, 1, 0, 1], [0] * 6]  # the second row's are unknown
    assert again.apply(((),), x).tolist() == wanted, "Without its data a run knows it from its schema."


def test_too_few_sizes_are_refused_and_more_are_not(table):
    with pytest.raises(ConfigError, match=r"`sizes` of `one_hot` must be at least \[3, 2\], .*; got \[2, 2\]: column 1 has 3"):
        build(table("{_target_: arsenal.features.one_hot, sizes: [2, 2]}"))
    build(table("{_target_: arsenal.features.one_hot, sizes: [4, 2]}"))


def test_sizes_are_held_against_codes_that_nobody_described():
    import numpy as np

    from arsenal.features import one_hot
    from arsenal.records import batch

    rows = batch(x={"categorical": np.array([[0, 2], [3, 0], [9, 9]], np.int32)}, weight=[1.0, 1.0, 0.0])
    one_hot([3, 2]).check(rows)  # 3 and 2 are the codes of what is unknown
    with pytest.raises(ValueError, match=r"at least \[3, 2\].*; got \[2, 2\]: column 1 has 3"):
        one_hot([2, 2]).check(rows)
    with pytest.raises(ValueError, match="`sizes` of `one_hot` must be given"):
        one_hot().check(rows)


# Data that is read as it goes.


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """The digits as mapped arrays, a label of row 77 wrong; of training rows every hundredth is looked at beforehand."""
    import numpy as np
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    y[77] = 12
    np.save(tmp_path / "x.npy", x.reshape(-1, 8, 8).astype(np.float32))
    np.save(tmp_path / "y.npy", y)
    monkeypatch.setattr("arsenal.experiment.SAMPLE_ROWS", 18)

    def config(*words):
        return compose("digits_mlp", ["data=memmap", f"data.path={tmp_path}", "model.hidden=[8]", f"run.root={tmp_path}", "~expect", "+expect={}", *words])

    return config


SAID = r"Labels of `cross_entropy` must be in 0\.\.9.*; got labels from 0 to 12, the first that does not fit in the row with id 77"


@pytest.mark.parametrize("words", [["split.validation=0", "split.test=0"], ["~split", "+split={_target_: arsenal.data.by_position, validation: 0.97, test: 0.0}", "every.evaluate=1 steps"]])
def test_labels_are_checked_as_they_are_read(mapped, words):
    from arsenal.road import fit

    with pytest.raises(ValueError, match=SAID):
        fit(mapped("length=2 epochs", "batch_size=32", *words))


@pytest.mark.parametrize("node", ["null", "3", "{factor: 2.0}"])
def test_a_feature_that_is_no_factory_is_refused(node):
    with pytest.raises(ConfigError, match="`features.more` must be a factory of a transform"):
        build(compose("digits_mlp", [f"+features.more={node}"]))


def test_what_defines_a_run_is_its_mathematics_and_no_more():
    def identity(*overrides, fingerprint="a", params=None):
        config = compose("digits_mlp", list(overrides))
        return mathematics(config, SimpleNamespace(fingerprint=fingerprint), params)

    plain = identity()
    assert identity("length=7", "run.root=elsewhere", "every.log=3", "early_stopping.patience=2") == plain
    for changed in (
        "seed=5", "batch_size=31", "split.seed=9", "+features.one={_target_: arsenal.features.scale, factor: 2.0}",
        "optimizer.learning_rate=0.123", "on_nan=skip",
    ):  # fmt: skip
        assert identity(changed) != plain, changed
    assert identity(fingerprint="b") != plain and identity(params={"w": np.zeros(2)}) != plain
    assert identity(params={"w": np.zeros(2)}) != identity(params={"w": np.ones(2)})
