"""A fitted pipeline of scikit-learn's, or another library's trees, as pure functions and parameters: one artifact."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arsenal_serving.artifact.codecs.cells import MISSING
from arsenal_serving.export import Method, Tensor
from arsenal_serving.refused import Refused
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from arsenal.estimators.boosters import Ensemble, answers_of
from arsenal.sklearn.libraries import LIBRARIES, library_of, read_file, read_model
from arsenal.sklearn.shell import Shell
from arsenal.sklearn.steps import ANSWERS, CHANGES, KNOWN, TREES, Step, changes, shell_step
from arsenal.sklearn.words import find_words, read_words, word_rows


class Converted(NamedTuple):
    """What `arsenal_serving.export.export(folder, methods, params, codecs=codecs)` takes."""

    methods: dict[str, Method]
    """Answers by name; `methods["predict"].fn(params, x)` is a pure function of x [n, d]."""
    params: Any
    codecs: dict[str, Any]
    """Of labels that are texts: predictions are their codes within the program."""


def from_sklearn(pipeline: Any, example: Any = None) -> Converted:
    """The answers of a fitted pipeline, or of one step, as pure functions of x [n, d] and parameters.

    A step may be a fitted model of LightGBM's, XGBoost's, CatBoost's or YDF's, and so may the pipeline, or the path of a file
    that one of these saved; where such a model's columns are words, x is {"numeric": [n, d], "categorical": [n, k] codes}.
    `example` is rows as the pipeline takes them, zeros unless given; what is exported is proven on them. They are float64 unless
    it is an array of float32, and need `jax.enable_x64(True)` then, where answers equal the pipeline's to rounding. Raises
    `Refused`, which names the step, for what is not known here.

    >>> from sklearn.linear_model import LinearRegression
    >>> made = from_sklearn(LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]))
    >>> with jax.enable_x64(True):
    ...     print(made.methods["predict"].fn(made.params, jnp.array([[10.0]], "float64")).round(6))
    [21.]
    """
    if isinstance(pipeline, str | Path) or library_of(pipeline):
        return convert_ensemble(read(pipeline, example), example)
    check_is_fitted(pipeline)
    example = np.zeros((2, pipeline.n_features_in_)) if example is None else np.asarray(example)
    dtype = float_type(example)
    step = convert(pipeline, type(pipeline).__name__, dtype)  # before its cells are read: texts are refused with the step's name
    columns = [str(name) for name in pipeline.feature_names_in_] if hasattr(pipeline, "feature_names_in_") else None
    x = Tensor(columns=columns, gaps=MISSING if takes_gaps(pipeline, next(iter(step.apply))) else None)
    return methods_of(step, dtype, example.astype(dtype), {"x": x}, {})


def float_type(example: Any) -> np.dtype:
    """float32 for rows of it, else float64."""
    return np.dtype(np.float32 if getattr(example, "dtype", None) == np.float32 else np.float64)


def methods_of(step: Step, dtype: np.dtype, example: Any, inputs: dict[str, Tensor], states: dict[str, Any]) -> Converted:
    """A step's answers as methods of these inputs, their labels with a codec where they are texts."""
    outputs = {}
    if step.classes is not None:
        labels = [str(label) for label in step.classes]
        outputs["predict_proba"] = Tensor(columns=labels)
        if step.classes.dtype.kind not in "iufb":
            states = states | {"label": {"kind": "category", "values": labels}}
            outputs["predict"] = Tensor(codec="label")
    methods = {
        name: Method(answer(name, step, dtype), example, inputs, {k: v for k, v in outputs.items() if k == name})
        for name in step.apply
    }
    return Converted(methods, step.params, states)


def takes_gaps(pipeline: Any, name: str) -> bool:
    """Whether the pipeline answers a row of which everything is missing."""
    row = np.full((1, pipeline.n_features_in_), np.nan)
    if hasattr(pipeline, "feature_names_in_"):
        row = pd.DataFrame(row, columns=pipeline.feature_names_in_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(pipeline, name)(row)
        except ValueError:
            return False
    return True


def answer(name: str, step: Step, dtype: np.dtype) -> Any:
    """The function `(params, x)` of an answer; labels that are numbers in place of their codes."""
    apply, classes = step.apply[name], step.classes
    labels = classes is not None and classes.dtype.kind in "iufb" and name == "predict"

    def call(params, x):
        for part in jax.tree.leaves(x):
            if part.dtype not in (dtype, np.int32):
                raise Refused(f"x must be {dtype.name}, under jax.enable_x64(True) if that is float64; got {part.dtype.name}.")
        found = apply(jax.tree.map(lambda v: as_type(v, dtype), params), x)
        if labels:
            plain = classes.astype(dtype if classes.dtype.kind == "f" else np.int32)
            return jnp.asarray(plain)[found]
        return found

    return call


def as_type(value: Any, dtype: np.dtype) -> jax.Array:
    """Floats in the type of x."""
    value = jnp.asarray(value)
    return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value


def read(model: Any, example: Any) -> Ensemble:
    """What a library says of its model, or in its file; Refused, with its name, where it cannot be answered here."""
    if isinstance(model, BaseEstimator):
        check_is_fitted(model)
    try:
        return read_file(model, example) if isinstance(model, str | Path) else read_model(model, example)
    except ValueError as error:
        name = str(model) if isinstance(model, str | Path) else type(model).__name__
        raise Refused(f"`from_sklearn` cannot convert {name}: {error}.") from None


def convert_ensemble(found: Ensemble, example: Any) -> Converted:
    """Another library's trees: of x [n, d], or of {"numeric": [n, d], "categorical": [n, k] codes} where columns are words."""
    dtype = float_type(example)
    step = Step(*answers_of(found, dtype), found.labels)
    if found.levels:
        words = find_words(found)
        step = step._replace(apply={name: read_words(words, apply, dtype) for name, apply in step.apply.items()})
        return methods_of(step, dtype, word_rows(words, example, dtype), words.inputs, words.codecs)
    rows = np.zeros((2, found.features)) if example is None else np.asarray(example)
    x = Tensor(columns=found.columns and list(found.columns), gaps=MISSING)
    return methods_of(step, dtype, rows.astype(dtype), {"x": x}, {})


def convert(step: Any, name: str, dtype: np.dtype) -> Step:
    """A fitted step, or steps within one; Refused, with its name, where it is not known."""
    kind, own = type(step).__name__, type(step).__module__.startswith("sklearn.")
    if own and kind == "Pipeline":
        return one_after_another([convert(one, label, dtype) for label, one in step.steps], [label for label, _ in step.steps])
    if own and kind == "ColumnTransformer":
        return side_by_side(step, dtype)
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return changes(lambda params, x: x, ())
    try:
        if isinstance(step, Shell):
            return shell_step(step)
        if own and kind in TREES:
            return TREES[kind](step, dtype)
        if own and (kind in CHANGES or kind in ANSWERS):
            return (CHANGES | ANSWERS)[kind](step)
        if library_of(step):
            found = read_model(step)
            if found.levels:
                raise Refused("its columns of words have no place behind other steps: give the model alone")
            return Step(*answers_of(found, dtype), found.labels)
    except ValueError as error:
        raise Refused(f"`from_sklearn` cannot convert the step `{name}`, {kind}: {error}.") from None
    known = ", ".join(sorted(KNOWN))
    raise Refused(
        f"`from_sklearn` cannot convert the step `{name}`, {kind}; it knows arsenal's own and {known}, and trees of "
        f"{', '.join(LIBRARIES)}."
    )


def one_after_another(steps: list[Step], names: list[str]) -> Step:
    """The steps of a pipeline as one."""
    for step, name in zip(steps[:-1], names[:-1], strict=True):
        if "transform" not in step.apply:
            raise Refused(f"`from_sklearn` cannot convert the step `{name}`: only the last step of a pipeline may answer.")
    *before, last = steps

    def behind(apply):
        def call(params, x):
            for step, own in zip(before, params, strict=False):
                x = step.apply["transform"](own, x)
            return apply(params[-1], x)

        return call

    apply = {name: behind(one) for name, one in last.apply.items()}
    return Step(apply, [step.params for step in steps], last.classes)


def side_by_side(step: Any, dtype: np.dtype) -> Step:
    """The parts of a ColumnTransformer beside each other."""
    parts, columns = [], []
    for name, one, _ in step.transformers_:
        at = np.asarray(step._transformer_to_input_indices[name], int)
        if not (isinstance(one, str) and one == "drop") and len(at):
            parts.append(convert(one, name, dtype))
            columns.append(at)

    def apply(params, x):
        return jnp.concatenate(
            [part.apply["transform"](own, x[:, at]) for part, own, at in zip(parts, params, columns, strict=True)], 1
        )

    return changes(apply, [part.params for part in parts])
