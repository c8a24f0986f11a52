"""The shell that gives a factory of records scikit-learn's face: parameters, tags, checks, labels, weights, names.

A class is made of the signature of its factory. `fit` makes the record, fits it in the type of x (float64 under
`jax.enable_x64`) and keeps the parameters as numpy arrays, so that a fitted object is plain data.
"""

import functools
import inspect
import typing
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from pydantic import TypeAdapter, ValidationError
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    DensityMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_array,
    check_is_fitted,
    check_non_negative,
    check_random_state,
    validate_data,
)

from arsenal.records import Batch, Estimator, Transform, mask_dead_rows
from arsenal.sklearn.levels import as_codes, learn_levels, level_schema
from arsenal.sklearn.programs import programs
from arsenal.sklearn.traits import TRAITS, Traits

LEARNED = ("classes", "sizes", "schema")
"""Arguments of factories that `fit` fills from the rows."""
DTYPES = [np.float64, np.float32]


class Made(NamedTuple):
    """A record, the arguments that it was made of, and its factory."""

    factory: Callable
    arguments: dict[str, Any]
    record: Estimator | Transform


class Shell(BaseEstimator):
    """What every class shares; `factory` and `traits` belong to the class, what is fitted to the object."""

    factory: ClassVar[Callable]
    traits: ClassVar[Traits]
    kind: ClassVar[str]
    """classifier, regressor, clusterer, transformer, outlier_detector, density_estimator."""
    answers: ClassVar[tuple[str, ...]]
    random_state: Any

    def _made(self, filled: dict[str, Any]) -> Made:
        """The record of the parameters as they are set, and of what `fit` fills in. Raises ValueError for a bad parameter."""
        factory = type(self).factory
        arguments = {name: self._parameter(name, allowed) for name, allowed in annotations(factory).items()} | filled
        return Made(factory, arguments, factory(**arguments))

    def _fitted(self) -> Made:
        """The record as it was fitted, whatever was set since."""
        factory = type(self).factory
        return Made(factory, self.arguments_, factory(**self.arguments_))

    def _parameter(self, name: str, allowed: TypeAdapter) -> Any:
        """A parameter's value, as its factory's annotation allows it."""
        value = getattr(self, name)
        try:
            return allowed.validate_python(value.item() if isinstance(value, np.generic) else value)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Input should be ").removeprefix("Input should ")
            raise ValueError(f"`{name}` of `{type(self).__name__}` must be {said}; got {value!r}.") from None

    def _read_x(self, x: Any, *y: Any, fitted: bool) -> Any:
        """x, and y where it is given, as arrays; columns of levels as codes."""
        finite = "allow-nan" if self.traits.gaps else True
        given: dict[str, Any] = {"reset": not fitted, "ensure_all_finite": finite}
        if takes_levels(self):
            given |= {"dtype": None, "ensure_all_finite": "allow-nan"}
        else:
            given |= {"dtype": self.dtype_ if fitted else DTYPES}
        if y:
            given |= {"y_numeric": self.kind == "regressor"}
        found = validate_data(self, x, *y, **given)
        if self.traits.positive_x:
            check_non_negative(found[0] if y else found, type(self).__name__)
        return found

    def _fit_rows(self, x: Any, y: Any, weight: Any) -> Any:
        """Fit the record; what its `fit` gives beside the parameters."""
        needs_y = self.__sklearn_tags__().target_tags.required
        x, y = self._read_x(x, y, fitted=False) if needs_y else (self._read_x(x, fitted=False), None)
        self.dtype_ = np.dtype(x.dtype if x.dtype in DTYPES else np.float64)
        weight = _check_sample_weight(weight, x, dtype=self.dtype_.type, ensure_non_negative=True)
        if not weight.any():
            raise ValueError(f"Sample weights of `{type(self).__name__}` must hold one above zero; got zeros.")
        filled: dict[str, Any] = {}
        if y is not None:
            y, filled = self._read_y(y, weight)
        if takes_levels(self):
            self.categories_ = learn_levels(x, weight)
            x = as_codes(x, self.categories_)
            filled |= {"schema": level_schema(self.categories_, getattr(self, "feature_names_in_", None))}
        elif self.traits.coded:
            x = x.astype(np.int32)
        made = self._made(filled)
        self.arguments_ = made.arguments
        rows = mask_dead_rows_there(Batch(x, y, weight, np.arange(len(x), dtype=np.int32)))
        try:
            made.record.check(rows)
        except ValueError as error:
            raise ValueError(f"{error}{' There is 1 sample.' if len(x) == 1 else ''}") from None
        seed = self.random_state
        seed = seed if isinstance(seed, int | np.integer) else check_random_state(seed).randint(2**31 - 1)
        with jax.enable_x64(self.dtype_ == np.float64):
            key: Any = jax.random.key(int(seed))
            hp = jax.tree.map(lambda value: np.asarray(value, self.dtype_), made.record.hp)
            if "host" in made.record.exempt:
                key = np.asarray(jax.random.key_data(key))
            params, more = programs(*made).fit(key, rows, hp)
            self.params_, more = jax.tree.map(np.asarray, (params, more))
        return more

    def _read_y(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The target as the record reads it, and the arguments that follow from it."""
        if self.kind == "regressor" or (self.kind == "transformer" and np.asarray(y).dtype.kind == "f"):
            return np.asarray(y, self.dtype_), {}
        check_classification_targets(y)
        self.classes_ = np.unique(y[weight > 0])
        if len(self.classes_) < 2:
            if self.kind == "transformer":
                return np.zeros(len(y), self.dtype_), {}
            only = self.classes_.tolist()[0]
            raise ValueError(f"`{type(self).__name__}` takes at least two classes; got 1 class, {only!r}.")
        codes = np.searchsorted(self.classes_, np.where(weight > 0, y, self.classes_[0])).astype(np.int32)
        return codes, {"classes": len(self.classes_)}

    def _answer(self, name: str, x: Any) -> Any:
        """An answer of the record to x."""
        check_is_fitted(self)
        if name == "inverse_transform":
            x = check_array(x, dtype=self.dtype_, ensure_all_finite="allow-nan")
        else:
            x = self._read_x(x, fitted=True)
        if takes_levels(self):
            x = as_codes(x, self.categories_)
        elif self.traits.coded:
            x = x.astype(np.int32)
        made = self._fitted()
        with jax.enable_x64(self.dtype_ == np.float64):
            return jax.tree.map(np.asarray, programs(*made).apply[name](self.params_, x))


def mask_dead_rows_there(rows: Batch) -> Batch:
    """`mask_dead_rows` of NumPy's arrays, in their own types."""
    if rows.weight.all():
        return rows
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, mask_dead_rows(rows))


def parameters(factory: Callable) -> dict[str, inspect.Parameter]:
    """The parameters that a user sets."""
    return {name: one for name, one in inspect.signature(factory).parameters.items() if name not in LEARNED}


@functools.cache
def annotations(factory: Callable) -> dict[str, TypeAdapter]:
    """What each parameter that a user sets may be."""
    hints = typing.get_type_hints(factory, include_extras=True)
    return {name: TypeAdapter(hints.get(name, Any)) for name in parameters(factory)}


def takes_levels(shell: Shell) -> bool:
    """Whether columns are levels of any kind, that become codes."""
    return "sizes" in inspect.signature(type(shell).factory).parameters


class Declared:
    """The tags, before all mixins of scikit-learn's, which write theirs after those of what follows them."""

    def __sklearn_tags__(self: Any) -> Any:
        """What scikit-learn's tools ask of an estimator, from what the record and its traits declare."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        traits = self.traits
        tags.input_tags.allow_nan = traits.gaps
        tags.input_tags.positive_only = traits.positive_x
        tags.input_tags.categorical = traits.coded or takes_levels(self)
        tags.target_tags.required = self.kind in ("classifier", "regressor") or traits.reads_y
        tags.target_tags.positive_only = traits.positive_y
        tags.non_deterministic = self.random_state is None
        for kind in (tags.classifier_tags, tags.regressor_tags):
            if kind is not None:
                kind.poor_score = traits.poor_score
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = [] if takes_levels(self) else ["float64", "float32"]
        return tags


class WithTarget:
    """What learns from a target."""

    def fit(self: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from X [n, d] and y [n]; a row of weight 2 is the row twice, one of weight 0 is not there."""
        keep_info(self, self._fit_rows(X, y, sample_weight))
        return self


class WithoutTarget:
    """What learns without a target."""

    def fit(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learn from X [n, d]; y is not read."""
        keep_info(self, self._fit_rows(X, y, sample_weight))
        if self.kind == "clusterer":
            self.labels_ = self.predict(X)
        return self


class Transforming:
    """What learns a transform."""

    def fit(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learn from X [n, d], and from y where the transform reads it."""
        self._fit_rows(X, y, sample_weight)
        return self


def keep_info(self: Any, info: Any) -> None:
    """What a fit reported as `info_`, `n_iter_`, `coef_`; a warning where it did not converge."""
    self.info_ = info
    iterations = getattr(info, "iterations", None)
    if iterations is not None:
        self.n_iter_ = int(iterations)
    if self.kind == "outlier_detector":
        self.offset_ = getattr(self.params_, "border", 0.0)
    if not np.all(getattr(info, "converged", True)):
        name = type(self).__name__
        warnings.warn(f"`{name}` did not converge in {iterations} iterations.", ConvergenceWarning, stacklevel=3)
    slope, intercept = getattr(self.params_, "slope", None), getattr(self.params_, "intercept", None)
    if slope is None or intercept is None:
        return
    if self.kind != "classifier":
        self.coef_, self.intercept_ = slope, (intercept.item() if intercept.ndim == 0 else intercept)
        return
    if len(self.classes_) == 2 and slope.ndim == 2:
        slope, intercept = slope[:, 1] - slope[:, 0], intercept[1] - intercept[0]
    self.coef_, self.intercept_ = np.atleast_2d(slope.T), np.atleast_1d(intercept)


def predict(self: Any, X: Any) -> np.ndarray:
    """The answer to each row of X [n, d]: a number, a label, a cluster, or -1 for an outlier and 1 for any other, [n]."""
    answer = self._answer(next(name for name in ("cluster", "outlier", "predict") if name in self.answers), X)
    if self.kind == "outlier_detector":
        return np.where(answer, -1, 1)
    return self.classes_[answer] if self.kind == "classifier" else answer


def predict_proba(self: Any, X: Any) -> np.ndarray:
    """The probabilities of `classes_` [n, classes], or of clusters."""
    return self._answer("cluster_proba" if self.kind == "clusterer" else "predict_proba", X)


def predict_log_proba(self: Any, X: Any) -> np.ndarray:
    """The logarithms of `predict_proba`."""
    with np.errstate(divide="ignore"):
        return np.log(self.predict_proba(X))


def decision_function(self: Any, X: Any) -> np.ndarray:
    """Scores [n, classes]; of two classes [n], above 0 where the second is likelier."""
    scores = self._answer("decision_function", X)
    return scores[:, 1] - scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 2 and self.kind == "classifier" else scores


def score_samples(self: Any, X: Any) -> np.ndarray:
    """How usual each row is, [n]."""
    return self._answer("score_samples", X)


def score_density(self: Any, X: Any, y: Any = None) -> float:
    """The logarithm of the likelihood of all rows together."""
    return float(self.score_samples(X).sum())


def transform(self: Any, X: Any) -> np.ndarray:
    """X [n, d] changed."""
    return self._answer("transform", X)


def fit_transform(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """`fit`, and X as training shall see it: out of fold where that is another than `transform`'s."""
    return np.asarray(self._fit_rows(X, y, sample_weight).x)


def inverse_transform(self: Any, X: Any) -> np.ndarray:
    """What `transform` made of rows, as it was."""
    return self._answer("inverse_transform", X)


def get_feature_names_out(self: Any, input_features: Any = None) -> np.ndarray:
    """What the columns of `transform` are called."""
    check_is_fitted(self)
    given = _check_feature_names_in(self, input_features)
    record = self._fitted().record
    if isinstance(record, Transform) and record.names is not None:
        return np.asarray(record.names({"x": [str(name) for name in given]})["x"], dtype=object)
    with jax.enable_x64(self.dtype_ == np.float64):
        like = jax.ShapeDtypeStruct((1, self.n_features_in_), self.dtype_)
        width = jax.eval_shape(record.apply["transform"], self.params_, like).shape[1]
    return np.asarray([f"{type(self).__name__.lower()}{i}" for i in range(width)], dtype=object)


def other_answer(name: str) -> Callable:
    """The method of an answer that scikit-learn has no name for."""

    def answer(self: Any, X: Any) -> Any:
        return self._answer(name, X)

    answer.__name__, answer.__doc__ = name, f"The record's answer `{name}` to X [n, d]."
    return answer


METHODS: dict[str, tuple[Callable, ...]] = {
    "predict_proba": (predict_proba, predict_log_proba), "decision_function": (decision_function,),
    "score_samples": (score_samples,), "transform": (transform, get_feature_names_out), "inverse_transform": (inverse_transform,),
    "predict": (predict,), "cluster": (predict,), "outlier": (predict,), "cluster_proba": (predict_proba,),
}  # fmt: skip
"""What a class has for each answer of its record."""


def shell_class(name: str, kind: str, factory: Callable, record: Estimator | Transform, module: str) -> type:
    """The class of a kind for a factory's records."""
    if isinstance(record, Transform):
        answers = ["transform", "inverse_transform"] if record.inverse else ["transform"]
    else:
        answers = [*record.apply]
    mixins: tuple = {
        "classifier": (ClassifierMixin, WithTarget), "regressor": (RegressorMixin, WithTarget),
        "clusterer": (ClusterMixin, WithoutTarget), "transformer": (Transforming, TransformerMixin),
        "outlier_detector": (OutlierMixin, WithoutTarget), "density_estimator": (DensityMixin, WithoutTarget),
    }[kind]  # fmt: skip
    if kind == "transformer" and isinstance(record, Estimator):
        mixins = (TransformerMixin, WithoutTarget)
    if kind != "transformer" and "transform" in answers:
        mixins = (TransformerMixin, *mixins)
    methods = {one.__name__: one for answer in answers for one in METHODS.get(answer) or (other_answer(answer),)}
    if kind == "density_estimator":
        methods["score"] = score_density
    if isinstance(record, Transform):
        methods["fit_transform"] = fit_transform  # here, not in a mixin: scikit-learn wraps what a class itself has
    traits = TRAITS.get(factory.__name__, Traits())
    if kind == "regressor" or traits.positive_x:  # as scikit-learn's own have none
        methods.pop("decision_function", None)
    described = {
        "__doc__": (inspect.getdoc(factory) or "").partition(">>> ")[0].rstrip(), "__module__": module, "__qualname__": name,
        "__init__": init_like(factory), "factory": staticmethod(factory), "kind": kind, "answers": tuple(answers),
        "traits": traits,
    }  # fmt: skip
    return type(name, (Declared, *mixins, Shell), described | methods)


def init_like(factory: Callable) -> Callable:
    """A constructor with the signature of a factory, and a `random_state`: the same one draws the same."""
    plain = [one.replace(kind=one.POSITIONAL_OR_KEYWORD) for one in parameters(factory).values()]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    seed = inspect.Parameter("random_state", inspect.Parameter.KEYWORD_ONLY, default=0)
    signature = inspect.Signature([own, *plain, seed])

    def __init__(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        self = bound.arguments.pop("self")
        for name, value in bound.arguments.items():
            setattr(self, name, value)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__
