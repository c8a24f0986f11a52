"""Gradient boosting that scikit-learn, LightGBM or XGBoost grows on the host and that answers as arrays."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.combine.reduction import classes_of
from arsenal.estimators.boosters.growth import GROWERS, Growth, check_library
from arsenal.estimators.trees import Sizes, check_trees, pack, score_trees, tree_columns, tree_shapes
from arsenal.records import Converged, Estimator

INVERSE_LINKS = {"squared_error": lambda z: z, "absolute_error": lambda z: z, "poisson": jnp.exp, "gamma": jnp.exp}
"""From scores to predicted numbers, by loss."""
LEAST = {"poisson": "at least 0, one of them above", "gamma": "above 0"}
"""What a target must be, by loss."""
MOST_LEVELS = 254
"""Of a category, beside those that are unknown and missing: what a bin in a byte holds."""


MOST_TREES = 100_000
"""Of all rounds and classes: more would take days, and gigabytes to answer."""


def boosting(
    classes: Annotated[int, Gt(1)] | None = None,
    loss: Literal["squared_error", "absolute_error", "poisson", "gamma"] | None = None,
    learning_rate: Annotated[float, Gt(0)] = 0.1,
    l2: Annotated[float, Ge(0)] = 0.0,
    rounds: Annotated[int, Gt(0)] = 100,
    leaves: Annotated[int, Gt(1)] = 31,
    min_leaf: Annotated[int, Gt(0)] = 20,
    library: Literal["scikit-learn", "lightgbm", "xgboost"] = "scikit-learn",
    schema: Any = None,
) -> Estimator:
    """Histogram gradient boosting; log loss where there are `classes`, which the data's labels say by themselves.

    Friedman, Annals of Statistics 29 (2001); grown by scikit-learn's HistGradientBoosting on the host, since compiled
    programs do not compete there, and answered by `score_trees`. x [n, d], NaN where a value is missing, or
    {"numeric": [n, d], "categorical": [n, k] codes}, split by sets of at most 254 categories; y [n]. Answers: `predict` [n],
    of classes also `predict_proba` [n, classes] and `decision_function`. `loss` is `squared_error` unless it is told,
    `poisson` where the target of a table is a count (`data.task`). Beyond 10,000 rows a tenth of them says when to stop.
    LightGBM or XGBoost, where it is installed, grows all rounds instead, with the same settings and its own defaults for all
    others; XGBoost's `min_leaf` bounds the sum of second derivatives.
    """
    classes = classes_of(classes, schema, 0) or None
    check_library(library)
    if classes is not None and loss is not None:
        raise ValueError(f"`loss` of `boosting` is for numbers; with {classes} classes it is the log loss; got {loss!r}.")
    counts = schema is not None and schema.table.get("task") == "count"
    target = loss or ("poisson" if counts else "squared_error")
    known = levels_of(schema)

    def sizes(x):
        most = min(max(known.values(), default=MOST_LEVELS), MOST_LEVELS) + 2
        categories = most if isinstance(x, dict) and "categorical" in x else 0
        return Sizes(rounds, 1 if classes in (None, 2) else classes, leaves, categories=categories)

    def fit(key, rows, hp):
        there = rows.weight > 0
        x = tree_columns(rows.x, np.float64).T[there]
        y, weight = rows.y[there], rows.weight[there]
        numeric = x.shape[1] - (rows.x["categorical"].shape[1] if isinstance(rows.x, dict) and "categorical" in rows.x else 0)
        floats = float(hp["learning_rate"]), float(hp["l2"])
        grown = GROWERS[library](Growth(x, y, weight, numeric, classes, target, *floats, rounds, leaves, min_leaf, int(key[-1])))
        return pack(grown.trees, grown.base, sizes(rows.x)), Converged(np.array(True), np.array(len(grown.trees)))

    def shapes(rows, hp):
        info = Converged(jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32))
        return tree_shapes(sizes(rows.x)), info

    def scores(trees, x):
        return score_trees(trees, x)[..., 0]

    def proba(trees, x):
        z = scores(trees, x)
        return jax.nn.softmax(jnp.concatenate([jnp.zeros_like(z), z], 1) if z.shape[1] == 1 else z)

    def check(rows):
        check_trees("boosting", rows, classes)
        if (classes or 1) > 2 and rounds * (classes or 1) > MOST_TREES:
            raise ValueError(
                f"`boosting` grows a tree for each class in each round, at most {MOST_TREES:,}; got {rounds} rounds of "
                f"{classes:,} classes. Fewer `rounds`, or a perceptron, which has an output for each, are for that."
            )
        check_levels(rows, known)
        if classes is None and target in LEAST and hasattr(rows.y, "__array__"):
            y = np.asarray(rows.y)[np.asarray(rows.weight) > 0]
            if (y < 0).any() or not (y > 0).any() or (target == "gamma" and not (y > 0).all()):
                raise ValueError(f"`boosting` with the loss {target} takes y {LEAST[target]}; got {y.min():g}.")

    if classes is None:
        answers = {"predict": lambda trees, x: INVERSE_LINKS[target](scores(trees, x)[:, 0])}
    else:
        answers = {
            "predict": lambda trees, x: jnp.argmax(proba(trees, x), -1).astype(jnp.int32),
            "predict_proba": proba,
            "decision_function": lambda trees, x: scores(trees, x)[:, 0] if classes == 2 else scores(trees, x),
        }
    return Estimator(
        fit, answers, check=check, shapes=shapes, hp={"learning_rate": learning_rate, "l2": l2},
        exempt={"host": f"{library} grows the trees"},
    )  # fmt: skip


def levels_of(schema: Any) -> dict[str, int]:
    """How many levels each column of the input `categorical` has, by name, where the schema says so."""
    field = schema.inputs.get("categorical") if schema is not None else None
    if field is None or not field.columns or not field.codec:
        return {}
    codecs = [field.codec] * len(field.columns) if isinstance(field.codec, str) else field.codec
    states = [schema.codecs[codec] for codec in codecs]
    return {name: len(state.get("values", (False, True))) for name, state in zip(field.columns, states, strict=True)}


def check_levels(rows: Any, known: dict[str, int]) -> None:
    """Raise ValueError for a column of more levels than there are bins, by the schema or, where it does not say, by its codes."""
    codes = rows.x.get("categorical") if isinstance(rows.x, dict) else None
    if codes is None:
        return
    if len(known) != codes.shape[1]:
        if isinstance(codes, jax.ShapeDtypeStruct):
            return
        there = np.asarray(codes)[np.asarray(rows.weight) > 0]
        known = {f"column {i + 1}": int(column.max(initial=0)) + 1 for i, column in enumerate(there.T)}
    if large := [name for name, levels in known.items() if levels > MOST_LEVELS]:
        raise ValueError(
            f"`boosting` takes categories of at most {MOST_LEVELS} levels; `{large[0]}` has {known[large[0]]:,}. "
            "`+feature=tabular features.tabular.to=trees` makes numbers of it."
        )
