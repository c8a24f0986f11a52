"""What a user's own code may rely on: `make types` checks that every answer has the type that is asserted here. Pyright agrees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, assert_type

import arsenal_serving.model
import numpy as np

import arsenal
from arsenal import Config, Run, compose, evaluate, export, fit, load
from arsenal.optim import cosine, scheduled, sgd
from arsenal.records import Optimizer

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
assert_type(run.params, dict[str, Any])
assert_type(run.apply, dict[str, Callable[..., Any]])
assert_type(run.unmet, list[str])
assert_type(config.settings.expect, dict[str, dict[Literal["min", "max"], float]])
assert_type(evaluate(run), dict[str, float])
assert_type(export(run), Path)
assert_type(arsenal.export(run, explain="gradient"), Path)
optimizer = scheduled(sgd(0.1), cosine(100))
assert_type(optimizer, Optimizer)
assert_type(optimizer.hp, dict[str, Any])
served = arsenal_serving.model.load(export(run))
assert_type(served.version, int)
assert_type(served.infer("predict", {}), dict[str, np.ndarray])
