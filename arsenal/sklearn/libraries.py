"""Whose a model or a file is, and what its library says of it."""

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from arsenal.estimators.boosters import Ensemble, read_catboost, read_lightgbm, read_xgboost, read_ydf
from arsenal.estimators.boosters.xgboost import best_rounds
from arsenal.estimators.boosters.ydf import dump_ydf

LIBRARIES = {"catboost": read_catboost, "lightgbm": read_lightgbm, "xgboost": read_xgboost, "ydf": read_ydf}
"""What reads a dump, by library."""
KEYS = {"catboost": "features_info", "lightgbm": "tree_info", "xgboost": "learner", "ydf": "ydf"}
"""What only a library's own JSON has."""


def library_of(model: Any) -> str | None:
    """The library that a model's class belongs to; None where it is none of `LIBRARIES`."""
    return next((name for kind in type(model).__mro__ if (name := kind.__module__.split(".")[0]) in LIBRARIES), None)


def read_model(model: Any, example: Any = None) -> Ensemble:
    """The ensemble of a fitted model, of the library's own kind or of scikit-learn's; `example` is rows as it takes them.

    Raises ValueError for what is refused.
    """
    found = READERS[str(library_of(model))](model, example)
    labels = getattr(model, "classes_", None)
    return found if found.labels is None or labels is None or not len(labels) else found._replace(labels=np.asarray(labels))


def of_lightgbm(model: Any, example: Any) -> Ensemble:
    """The rounds to the best one, as `predict` takes them."""
    return read_lightgbm(getattr(model, "booster_", model).dump_model())


def of_xgboost(model: Any, example: Any) -> Ensemble:
    """All rounds of a `Booster`, those to the best one of the others, as `predict` takes them."""
    if not hasattr(model, "get_booster"):
        return read_xgboost(json.loads(bytes(model.save_raw("json"))))
    if model.missing is not None and not np.isnan(model.missing):
        raise ValueError(f"its `missing` must be NaN; got {model.missing:g}")
    return read_xgboost(json.loads(bytes(model.get_booster().save_raw("json"))), best_rounds(model))


def of_catboost(model: Any, example: Any) -> Ensemble:
    """Its JSON; the words of its categories from the example, since the model itself holds hashes only."""
    pool = None
    if example is not None and len(words := model.get_cat_feature_indices()):
        pool = load("catboost").Pool(example, cat_features=words)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json", pool=pool)
        return read_catboost(json.loads(path.read_bytes()))


def of_ydf(model: Any, example: Any) -> Ensemble:
    """What its trees are by inspection."""
    return read_ydf(dump_ydf(model))


READERS = {"catboost": of_catboost, "lightgbm": of_lightgbm, "xgboost": of_xgboost, "ydf": of_ydf}
"""What reads a fitted model, by library."""


def read_file(path: str | Path, example: Any = None) -> Ensemble:
    """The ensemble of a file that a library saved, of YDF's a folder.

    XGBoost's and CatBoost's JSON and LightGBM's `dump_model` are read by themselves, the other forms by the libraries. Raises
    ValueError for a file of none of them, ImportError where its library is needed and is not there.
    """
    path = Path(path)
    if path.is_dir():
        return of_ydf(load("ydf").load_model(str(path)), example)
    if not path.is_file():
        raise ValueError("there is no such file")
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"CBM1"):
        return of_catboost(load("catboost").CatBoost().load_model(str(path)), example)
    if start.startswith(b"tree"):
        return of_lightgbm(load("lightgbm").Booster(model_file=path), example)
    if path.suffix == ".ubj":
        return of_xgboost(load("xgboost").Booster(model_file=path), example)
    try:
        dump = json.loads(path.read_bytes())
        library = next(name for name, key in KEYS.items() if key in dump)
    except (ValueError, StopIteration):
        raise ValueError("it must be a model that CatBoost, LightGBM, XGBoost or YDF saved") from None
    return LIBRARIES[library](dump)


def load(library: str) -> Any:
    """The library; ImportError, with what installs it, where it is not there."""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise ImportError(f'This file is read by {library}: pip install "ml-arsenal[{library}]".') from None
