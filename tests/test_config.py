"""A config survives being written and read, whatever is in it, and a misspelt key is answered with the one that was meant."""

import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arsenal import config as configs
from arsenal.config import ConfigError, Settings, compose, paths

RATE = st.floats(1e-12, 1e3, allow_subnormal=False)
WIDTHS = st.lists(st.integers(1, 10**6), max_size=4)
NAMES = st.text(st.characters(codec="ascii", categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=12)
KEYS = sorted(key for key in paths(compose("digits_mlp").values) if not key.startswith(("expect", "learner")) and len(key) > 4)
GROUPS = [path.name for path in configs.CONF.iterdir() if path.is_dir()]
"""Such as `feature`, which `features` without its last letter names."""


def written(config: configs.Config, folder) -> configs.Config:
    """The config as a run folder keeps it, read again."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(configs.as_yaml(config), encoding="utf-8")
    (folder / "overrides.txt").write_text("".join(f"{override}\n" for override in config.overrides), encoding="utf-8")
    return configs.read_config(folder)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=RATE, widths=WIDTHS, seed=st.integers(0, 2**32 - 1), name=NAMES, note=st.text(max_size=40))
def test_what_is_composed_is_what_a_folder_gives_back(tmp_path, rate, widths, seed, name, note):
    config = compose("digits_mlp", [f"optimizer.learning_rate={rate!r}", f"model.hidden={widths}", f"seed={seed}", f"name='{name}'"])
    assert config.values["learner"]["optimizer"]["learning_rate"] == rate
    assert (config.values["seed"], config.values["name"], config.values["model"]["hidden"]) == (seed, name, widths)
    assert written(config, tmp_path / "run") == config
    noted = config.replace(config.values | {"name": note})  # any text at all
    assert yaml.safe_load(configs.as_yaml(noted))["name"] == note


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), data=st.data())
def test_a_misspelt_key_is_answered_with_one_that_is_near(monkeypatch, key, data):
    """One letter left out of the last word: the key that was meant is suggested, or another as near to what was typed."""
    place = data.draw(st.integers(key.rfind(".") + 1, len(key) - 1))
    typed = key[:place] + key[place + 1 :]
    if typed in {*KEYS, *GROUPS, *Settings.model_fields} or not typed or typed.endswith("."):
        return
    monkeypatch.setattr(sys, "argv", ["arsenal", "+experiment=digits_mlp"])
    with pytest.raises(ConfigError) as error:
        compose("digits_mlp", [f"{typed}=1"])
    said = str(error.value)
    assert f"`{typed}`" in said and "Did you mean" in said and "\n" not in said
    suggested = said.partition("Did you mean `")[2].partition("`")[0]
    assert suggested in set(paths(compose("digits_mlp").values))


@pytest.mark.parametrize("value", ["-1", "1.5", "yes", "[1]", "null"])
def test_a_value_of_the_wrong_type_is_named(value):
    with pytest.raises(ConfigError, match="`seed` must "):
        compose("digits_mlp", [f"seed={value}"])


def test_what_judges_may_be_taken_out_as_a_whole():
    config = compose("digits_mlp", ["~expect", "~metrics"])
    assert config.values["expect"] == config.values["metrics"] == {}
    assert list(compose("digits_mlp", ["~metrics", "+metrics.right._target_=arsenal.metrics.accuracy", "~expect"]).values["metrics"]) == ["right"]


REFUSED = [
    (["optimizer.learning_rate = 3e-3"], "there are no blanks around `=`: optimizer.learning_rate=3e-3$"),
    (["length=0"], "`length` must be greater than 0; got 0.$"),
    (["batch_size=0"], "`batch_size` must be greater than 0"),
    (["seed=0..3"], r"`seed` must be a valid integer; got '0\.\.3'\. With --multirun, range\(0,4\) gives each\.$"),
    (["metrics=null"], "`metrics` takes one of its options, answers, binary, .*, or `~metrics` for none; got null.$"),
    (["seed=3", "optimizer=3e-3"], "`optimizer` takes one of its options, .*; got 3e-3.$"),
    (["metrics={}"], r"`metrics={}` would change nothing: .*; `~metrics.NAME` takes one out, `~metrics` all.$"),
    (["expect={ }"], "`expect={}` would change nothing"),
    (["+optimizer.learning_rate=1"], "`optimizer.learning_rate` is there already: without `\\+` it takes another value.$"),
    (["~batch_size"], "`batch_size` is missing.$"),
    (["init_map={params/Dense_1: params/Dense_2}"], "`init_map` says what parameters of another run are called here; .* init_from=RUN.$"),
    (["model={_target_: sys.exit}"], "`model._target_` must be in"),
]


@pytest.mark.parametrize("words, said", REFUSED)
def test_what_cannot_be_read_is_said_in_a_line(words, said):
    with pytest.raises(ConfigError, match=said) as error:
        compose("digits_mlp", words)
    assert "\n" not in str(error.value) and "Lexer" not in str(error.value)


def test_an_experiment_is_chosen_with_a_plus():
    with pytest.raises(ConfigError, match=r"chosen with a plus: `\+experiment=digits_cnn`"):
        configs.compose_words(["experiment=digits_cnn"])


def test_a_group_that_an_experiment_does_not_use():
    with pytest.raises(ConfigError, match="This experiment has no `optimizer`, a group of options; there are: adam, adamw"):
        compose("diabetes_ridge", ["optimizer=adam"])


def test_a_home_directory_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/somebodys/home")
    assert compose("digits_mlp", ["run.root=~/runs"]).values["run"]["root"] == "/somebodys/home/runs"


def test_a_file_whose_package_is_not_said_first(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# mine\n# @package _global_\ndefaults: [/data: digits]\nname: mine\n")
    with pytest.raises(ConfigError, match="must begin with the line `# @package _global_`"):
        compose("mine", config_dir=tmp_path)


def test_csv_and_parquet_name_what_they_may_be_told():
    for kind in ("csv", "parquet"):
        values = compose("digits_mlp", [f"data={kind}", "data.path=a", "data.target=b", "data.missing=drop", "data.id=c"]).values
        assert values["data"]["missing"] == "drop" and values["data"]["id"] == "c"


def test_a_dictionary_takes_the_place_of_what_is_there():
    """As a choice of a space: merged, `hidden` would stay, and a conv net that does not know it would be refused."""
    chosen = {"_target_": "arsenal.models.convolutional", "output": 10}
    values = compose("digits_mlp", configs.override_words("model", chosen)).values
    assert values["learner"]["model"] == values["model"] == chosen
