"""What scikit-learn's fitted steps do to x [n, d], as pure functions of parameters: those that change x, those that answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arsenal_serving.refused import Refused

from arsenal.estimators.boosters import Ensemble
from arsenal.estimators.boosters import answers_of as answers_of_trees
from arsenal.estimators.boosters.histograms import read_histograms
from arsenal.estimators.forests import forest_tree
from arsenal.sklearn.shell import Shell


class Step(NamedTuple):
    """A step: its functions `(params, x) -> x or answer` by name, of one that changes x only `transform`."""

    apply: dict[str, Callable[..., Any]]
    params: Any
    classes: Any = None
    """The labels in the order of their codes, of one that predicts codes."""


def changes(apply: Callable, params: Any) -> Step:
    """A step that changes x."""
    return Step({"transform": apply}, params)


def affine(factor: Any, offset: Any) -> Step:
    """`x * factor + offset`."""
    return changes(lambda params, x: x * params[0] + params[1], (np.asarray(factor), np.asarray(offset)))


def standard_scaler(step: Any) -> Step:
    """Shift and scale."""
    mean = step.mean_ if step.with_mean else np.zeros(step.n_features_in_)
    deviation = step.scale_ if step.with_std else np.ones(step.n_features_in_)
    return changes(lambda params, x: (x - params[0]) / params[1], (np.asarray(mean), np.asarray(deviation)))


def min_max_scaler(step: Any) -> Step:
    """Shift and scale, and cut where it says so."""
    made = affine(step.scale_, step.min_)
    low, high = step.feature_range
    if not step.clip:
        return made
    return changes(lambda params, x: jnp.clip(made.apply["transform"](params, x), low, high), made.params)


def robust_scaler(step: Any) -> Step:
    """Shift and scale."""
    middle = step.center_ if step.with_centering else np.zeros(step.n_features_in_)
    width = step.scale_ if step.with_scaling else np.ones(step.n_features_in_)
    return changes(lambda params, x: (x - params[0]) / params[1], (np.asarray(middle), np.asarray(width)))


def simple_imputer(step: Any) -> Step:
    """Values in place of NaN; features of which nothing is known are gone, columns that say what was missing come behind."""
    if not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
        raise Refused(f"its `missing_values` must be NaN; got {step.missing_values!r}")
    filling = np.asarray(step.statistics_, np.float64)
    kept = np.arange(len(filling)) if step.keep_empty_features else np.flatnonzero(~np.isnan(filling))
    told = step.indicator_.features_ if step.add_indicator else np.zeros(0, int)

    def apply(params, x):
        gaps = jnp.isnan(x)
        filled = jnp.where(gaps, params, x)[:, kept]
        return jnp.concatenate([filled, gaps[:, told].astype(x.dtype)], 1) if len(told) else filled

    return changes(apply, np.nan_to_num(filling))


def read_categories(step: Any) -> list[np.ndarray]:
    """The categories of an encoder's columns; Refused where they are not numbers, since x is."""
    for categories in step.categories_:
        if np.asarray(categories).dtype.kind not in "iufb":
            raise Refused(f"its categories must be coded as numbers; got {categories[0]!r}")
    if getattr(step, "_infrequent_enabled", False):
        raise Refused("its `min_frequency` and `max_categories` must be unset")
    return [np.asarray(one, np.float64) for one in step.categories_]


def same(x: jax.Array, category: Any) -> jax.Array:
    """Where x is a category; NaN is one."""
    category = jnp.asarray(category, x.dtype)
    return (x == category) | (jnp.isnan(x) & jnp.isnan(category))


def one_hot_encoder(step: Any) -> Step:
    """A column for every category that is not dropped; zeros for an unknown one."""
    found = read_categories(step)
    if step.handle_unknown not in ("ignore", "warn"):
        raise Refused(f"its `handle_unknown` must be ignore, since a program cannot raise; got {step.handle_unknown!r}")
    dropped = [None] * len(found) if step.drop_idx_ is None else step.drop_idx_
    pairs = [(i, at) for i, one in enumerate(found) for at in range(len(one)) if at != dropped[i]]
    column = np.array([i for i, _ in pairs], int)
    return changes(
        lambda params, x: same(x[:, column], params).astype(x.dtype), np.array([found[i][at] for i, at in pairs], np.float64)
    )


def ordinal_encoder(step: Any) -> Step:
    """The number of the category."""
    found = read_categories(step)
    if step.handle_unknown != "use_encoded_value":
        got = step.handle_unknown
        raise Refused(f"its `handle_unknown` must be use_encoded_value, since a program cannot raise; got {got!r}")
    unknown, missing = float(step.unknown_value), float(step.encoded_missing_value)
    most = max(map(len, found))
    # What a column does not have is infinite, which no value of x is.
    table = np.stack([np.append(one, np.full(most - len(one), np.inf)) for one in found])

    def apply(params, x):
        here = same(x[:, :, None], params)
        code = jnp.where(here.any(-1), jnp.argmax(here, -1).astype(x.dtype), jnp.asarray(unknown, x.dtype))
        known = jnp.isnan(params).any(-1)
        return jnp.where(jnp.isnan(x) & known, jnp.asarray(missing, x.dtype), code)

    return changes(apply, table)


def pca(step: Any) -> Step:
    """The principal components."""
    components = np.asarray(step.components_)
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        components = components / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]
    return changes(lambda params, x: (x - params[0]) @ params[1], (np.asarray(step.mean_), components.T))


def function_transformer(step: Any) -> Step:
    """Nothing: a function of the user's may be anything."""
    if step.func is not None:
        raise Refused("its function may be anything")
    return changes(lambda params, x: x, ())


def linear_regression(step: Any) -> Step:
    """`x @ slope + intercept`, [n] or [n, targets]."""
    params = np.asarray(step.coef_).T, np.asarray(step.intercept_)
    return Step({"predict": lambda params, x: x @ params[0] + params[1]}, params)


def answers_of(proba: Callable, params: Any, classes: Any, scores: Callable | None = None) -> Step:
    """A step whose codes are the likeliest by `proba`, or by `scores`, [n, classes]."""
    best = scores or proba
    codes = lambda params, x: jnp.argmax(best(params, x), -1).astype(jnp.int32)  # noqa: E731
    return Step({"predict": codes, "predict_proba": proba}, params, np.asarray(classes))


def linear_classifier(step: Any) -> Step:
    """Logistic regression and linear discriminants: one score of two classes, else one for each."""
    count = len(step.classes_)
    old = getattr(step, "multi_class", "auto") == "ovr" or getattr(step, "solver", "") == "liblinear"
    if count > 2 and old:
        raise Refused("it has a model for each class (liblinear, ovr), not one for all")

    def scores(params, x):
        z = x @ params[0] + params[1]
        return jnp.concatenate([jnp.zeros_like(z), z], 1) if count == 2 else z

    params = np.asarray(step.coef_).T, np.broadcast_to(np.asarray(step.intercept_, np.float64), (len(step.coef_),)).copy()
    return answers_of(lambda params, x: jax.nn.softmax(scores(params, x)), params, step.classes_, scores)


def gaussian_bayes_step(step: Any) -> Step:
    """Normal features."""

    def scores(params, x):
        share, mean, variance = params
        off = (x[:, None] - mean) ** 2 / variance
        return share - (jnp.log(2 * jnp.pi * variance) + off).sum(-1) / 2

    params = np.log(step.class_prior_), np.asarray(step.theta_), np.asarray(step.var_)
    return answers_of(lambda params, x: jax.nn.softmax(scores(params, x)), params, step.classes_, scores)


def hist_boosting(step: Any, dtype: Any) -> Step:
    """Boosted histogram trees."""
    return tree_step(read_histograms(step), dtype)


def tree_step(found: Ensemble, dtype: Any) -> Step:
    """An ensemble as a step."""
    return Step(*answers_of_trees(found, dtype), found.labels)


def gradient_boosting(step: Any, dtype: Any) -> Step:
    """Boosted trees of scikit-learn's older kind, which begins with a model of its own and reads x in float32."""
    if step.init_ != "zero" and not type(step.init_).__name__.startswith("Dummy"):
        raise Refused(f"its `init` must be unset or zero; got {step.init_!r}")
    trees = [[forest_tree(one.tree_, step.learning_rate) for one in row] for row in step.estimators_]
    base = step._raw_predict_init(np.zeros((1, step.n_features_in_))).ravel()
    labels, outputs = getattr(step, "classes_", None), len(trees[0])
    if labels is not None and step.loss == "exponential":  # its scores are half of the log odds
        trees, base = [[tree._replace(value=2 * tree.value) for tree in row] for row in trees], 2 * base
    link = "identity" if labels is None else "logistic" if outputs == 1 else "softmax"
    return tree_step(Ensemble(trees, base, link, step.n_features_in_, labels=labels), dtype)


def forest(step: Any, dtype: Any) -> Step:
    """A tree, or the mean of several; scikit-learn reads x in float32."""
    if step.n_outputs_ > 1:
        raise Refused(f"it must have one target; got {step.n_outputs_}")
    labels, parts = getattr(step, "classes_", None), np.ravel(getattr(step, "estimators_", [step]))
    trees = [forest_tree(one.tree_) for one in parts]
    total = [1 if labels is None else tree.value.sum(1, keepdims=True) for tree in trees]
    trees = [tree._replace(value=tree.value / own / len(parts)) for tree, own in zip(trees, total, strict=True)]
    link = "identity" if labels is None else "shares"
    return tree_step(Ensemble([[tree] for tree in trees], np.zeros(1), link, step.n_features_in_, labels=labels), dtype)


def shell_step(step: Shell) -> Step:
    """One of arsenal's own."""
    if hasattr(step, "categories_"):
        raise Refused("its levels are text or numbers of any kind: `arsenal.features` behind a table has them in the artifact")
    made = step._fitted()
    record, coded = made.record, step.traits.coded
    given = {"transform": record.apply} if callable(record.apply) else dict(record.apply)
    read = lambda x: x.astype(jnp.int32) if coded else x  # noqa: E731
    apply = {name: lambda params, x, answer=answer: answer(params, read(x)) for name, answer in given.items()}
    return Step(apply, step.params_, getattr(step, "classes_", None) if step.kind == "classifier" else None)


CHANGES: dict[str, Callable] = {
    "FunctionTransformer": function_transformer, "MinMaxScaler": min_max_scaler, "OneHotEncoder": one_hot_encoder,
    "OrdinalEncoder": ordinal_encoder, "PCA": pca, "RobustScaler": robust_scaler, "SimpleImputer": simple_imputer,
    "StandardScaler": standard_scaler,
}  # fmt: skip
ANSWERS: dict[str, Callable] = {
    "ElasticNet": linear_regression, "GaussianNB": gaussian_bayes_step, "Lasso": linear_regression,
    "LinearDiscriminantAnalysis": linear_classifier, "LinearRegression": linear_regression,
    "LogisticRegression": linear_classifier, "Ridge": linear_regression,
}  # fmt: skip
TREES: dict[str, Callable] = {
    "DecisionTreeClassifier": forest, "DecisionTreeRegressor": forest, "ExtraTreeClassifier": forest,
    "ExtraTreeRegressor": forest, "ExtraTreesClassifier": forest, "ExtraTreesRegressor": forest,
    "GradientBoostingClassifier": gradient_boosting, "GradientBoostingRegressor": gradient_boosting,
    "HistGradientBoostingClassifier": hist_boosting,
    "HistGradientBoostingRegressor": hist_boosting, "RandomForestClassifier": forest, "RandomForestRegressor": forest,
}  # fmt: skip
KNOWN = (*CHANGES, *ANSWERS, *TREES, "ColumnTransformer", "Pipeline")
