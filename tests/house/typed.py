"""What a user's own code may rely on: `make types` checks that every answer has the type that is asserted here."""

from pathlib import Path
from typing import Any, assert_type

import arsenal
from arsenal import Config, Run, compose, evaluate, export, fit, load

config = compose("digits_mlp", ["optimizer.learning_rate=3e-3"])
assert_type(config, Config)
assert_type(config.overrides, list[str])
run = fit(config)
assert_type(run, Run)
assert_type(fit("digits_mlp", ["length=100"]), Run)
assert_type(load("experiments/digits_mlp/0123456789ab"), Run)
assert_type(run.metrics, dict[str, float])
assert_type(run.history, list[dict[str, Any]])
assert_type(run.step, int)
assert_type(evaluate(run), dict[str, float])
assert_type(export(run), Path)
assert_type(arsenal.export(run, explain="gradient"), Path)
