"""Every configuration that ships can be used as it stands, and says what it is."""

import inspect
import re

import pytest
import yaml

from arsenal.config import CONF, TRUSTED, compose, locate

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
OPTIONS = sorted(path.relative_to(CONF).as_posix() for path in CONF.glob("*/*.yaml") if path.parent.name not in ("experiment", "debug", "deployment", "flow"))
TABLE = CONF.parent / "experiments" / "README.md"
FILES = ("diamonds", "penguins", "titanic")
"""Of these the user has the file."""
TEACHER = next((CONF.parent / "tests" / "kept" / "0.1.0" / "digits_mlp").iterdir())
TAUGHT = ("digits_student",)
"""Of these the user has the teacher."""
AFTER = ("digits_latent",)
"""These begin with another run."""
ANY = ("table", "automl")
"""Of any file: nobody knows what can be reached."""


def composed(name):
    """The config of an experiment, with a path where it is the user's to give."""
    told = ["data.path=FILE"] if name in FILES else [f"teacher={TEACHER}"] if name in TAUGHT else []
    return compose(name, [*told, *(["init_from=RUN"] if name in AFTER else [])])


def test_there_are_experiments_and_options():
    assert {"digits_mlp", "digits_cnn", "digits_gan", "breast_cancer_logistic"} <= set(EXPERIMENTS)
    assert len(OPTIONS) > 10


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_and_states_its_result(name):
    config = composed(name)
    assert config.values["name"] == name
    assert bool(config.values["expect"]) == (name not in ANY), f"{name} states no result."
    for metric, bounds in config.values["expect"].items():
        assert re.fullmatch(r"(test|validation)/\w+", metric), metric
        assert bounds.keys() <= {"min", "max"} and bounds, f"{name}: {metric} is bounded by min or max; got {bounds}."


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiments_header_says_source_cost_and_result(name):
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    header = []
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    text = " ".join(header)
    assert re.search(r"\b(19|20)\d\d\b", text), f"{name}: the header names no source with its year; got: {text}"
    assert re.search(r"About \d+ (s|minutes?|hours?) on", text), f"{name}: the header names no cost; got: {text}"
    expect = yaml.safe_load("\n".join(lines)).get("expect", {})
    bounds = {str(bound) for bounds in expect.values() for bound in bounds.values()}
    assert all(re.search(rf"(?<![\d.]){re.escape(bound)}(?![\d])", text) for bound in bounds), (
        f"{name}: the header does not name the result that `expect` asks for, {', '.join(bounds)}; got: {text}"
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_table_of_results_lists_every_experiment(name):
    assert name in TABLE.read_text(), f"experiments/README.md does not list {name}."


def factories(node, path=""):
    """Every `_target_` at or below a node, with its path and the keys beside it."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node["_target_"], {key for key in node if not key.startswith("_")}
        for key, value in node.items():
            yield from factories(value, f"{path}.{key}" if path else key)


GIVEN = {"search": {"space"}, "tracker": {"folder", "step", "config"}}
"""What whoever builds an option of a group passes, so that it does not stand there."""


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_names_a_factory_and_its_arguments(option):
    found = list(factories(yaml.safe_load((CONF / option).read_text())))
    assert found, f"{option} makes nothing."
    for path, target, keys in found:
        parameters = inspect.signature(locate(target, path, TRUSTED)).parameters
        assert keys <= parameters.keys(), f"{option}: {target} takes {', '.join(parameters)}; got {', '.join(keys)}."
        needed = {name for name, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
        needed -= GIVEN.get(option.partition("/")[0], set())
        assert needed <= keys, f"{option}: {target} needs {', '.join(needed - keys)}; say ??? where the user chooses."
