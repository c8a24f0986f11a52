"""Every public function below a package that makes a record."""

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable

from arsenal import records

KINDS = (
    records.Source, records.Model, records.Augmentation, records.Loss, records.Optimizer, records.Learner, records.Additive,
    records.Estimator, records.Transform, records.Codec, records.Metric, records.Search, records.Scheduler,
    records.Env, records.Split, records.Splits, records.Detector,
)  # fmt: skip


def factories(package: str = "arsenal") -> dict[str, Callable[..., typing.Any]]:
    """Public functions whose return annotation is a record, by `module.name`; modules at the top level are left out."""
    root = importlib.import_module(package)
    found = {}
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if info.name.count(".") < 2 or info.name.startswith(f"{package}.testing."):
            continue
        module = importlib.import_module(info.name)
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == info.name and not name.startswith("_")
            if own and makes_record(return_record(function)):
                found[f"{info.name}.{name}"] = function
    return found


def makes_record(hint: object) -> bool:
    """Whether a return annotation is a record, or whichever of some records."""
    either = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return all(one in KINDS for one in (typing.get_args(hint) if either else (hint,)))


def return_record(function: Callable[..., typing.Any]) -> object:
    """What the function's annotation says it returns; None where that cannot be read."""
    try:
        return typing.get_type_hints(function).get("return")
    except NameError:  # an annotation of a library that is imported only when the function runs
        return None
