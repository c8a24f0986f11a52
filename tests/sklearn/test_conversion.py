"""Pipelines of scikit-learn's as artifacts: the same answers from pure functions, and a refusal that names the step."""

import jax
import numpy as np
import pandas as pd
import pytest
from arsenal_serving import model
from arsenal_serving.export import export
from sklearn import datasets, decomposition, discriminant_analysis, ensemble, linear_model, naive_bayes, preprocessing, svm, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from arsenal import sklearn as ours
from arsenal.sklearn import from_sklearn

X, Y = datasets.load_diabetes(return_X_y=True)
WINE, KIND = datasets.load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KIND]
TWO = WINE[KIND < 2], NAMES[KIND < 2]
CODES = np.random.default_rng(0).integers(0, 5, (178, 2)).astype(float)
MIXED = np.column_stack([WINE, CODES])
GAPS = np.where(np.random.default_rng(1).random(MIXED.shape) < 0.1, np.nan, MIXED)
GAPS[:, -1] = MIXED[:, -1]
SOME = np.arange(13)


def encoded(encoder):
    return ColumnTransformer([("codes", encoder, [13, 14]), ("off", "drop", [0, 1]), ("as is", "passthrough", [2])],
                             remainder=make_pipeline(SimpleImputer(), preprocessing.StandardScaler()))  # fmt: skip


NUMBERS = {
    "ridge": lambda: make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge(2.0)),
    "least squares": lambda: make_pipeline(preprocessing.MinMaxScaler(clip=True), linear_model.LinearRegression()),
    "lasso": lambda: make_pipeline(preprocessing.RobustScaler(), linear_model.Lasso(0.1)),
    "elastic net": lambda: make_pipeline(decomposition.PCA(4, whiten=True), "passthrough", linear_model.ElasticNet(alpha=0.1)),
    "boosting": lambda: ensemble.HistGradientBoostingRegressor(max_iter=10),
    "boosting of counts": lambda: ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"),
    "forest": lambda: make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestRegressor(5, random_state=0)),
    "extra trees": lambda: ensemble.ExtraTreesRegressor(5, random_state=0),
    "tree": lambda: tree.DecisionTreeRegressor(random_state=0),
    "ours": lambda: make_pipeline(ours.Standardize(), ours.Splines(4), ours.Ridge(1.0)),
}
LABELS = {
    "logistic": lambda: (make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), WINE, NAMES),
    "logistic of two": lambda: (make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), *TWO),
    "lda": lambda: (discriminant_analysis.LinearDiscriminantAnalysis(), WINE, KIND),
    "lda of two": lambda: (discriminant_analysis.LinearDiscriminantAnalysis(), *TWO),
    "bayes": lambda: (naive_bayes.GaussianNB(), WINE, KIND * 2.0),
    "boosting": lambda: (ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=[13, 14]), GAPS, NAMES),
    "boosting of two": lambda: (ensemble.HistGradientBoostingClassifier(max_iter=5), *TWO),
    "forest": lambda: (ensemble.RandomForestClassifier(5, random_state=0), GAPS, NAMES),
    "extra trees": lambda: (ensemble.ExtraTreesClassifier(5, random_state=0), WINE, KIND),
    "tree": lambda: (tree.DecisionTreeClassifier(random_state=0), WINE, NAMES),
    "one-hot": lambda: (make_pipeline(encoded(preprocessing.OneHotEncoder(handle_unknown="ignore", drop="first")), linear_model.LogisticRegression(max_iter=1000)), MIXED, KIND),
    "ordinal": lambda: (make_pipeline(encoded(preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)), tree.DecisionTreeClassifier(random_state=0)), MIXED, KIND),
    "gaps": lambda: (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), preprocessing.StandardScaler(), linear_model.LogisticRegression()), GAPS, NAMES),
    "ours": lambda: (make_pipeline(ours.Impute(), ours.Logistic(alpha=0.1)), GAPS[:, :5], NAMES),
}  # fmt: skip


def of(made, name, x):
    """An answer under jit, in float64."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(made.methods[name].fn)(made.params, x))


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_the_pipelines(name):
    pipeline = NUMBERS[name]().fit(X, Y)
    np.testing.assert_allclose(of(from_sklearn(pipeline), "predict", X), pipeline.predict(X), rtol=1e-6)


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_the_pipelines(name):
    pipeline, x, y = LABELS[name]()
    pipeline.fit(x, y)
    made = from_sklearn(pipeline, x[:4])
    far = np.vstack([x, x + 1e3])  # categories and ranges that it never saw
    np.testing.assert_allclose(of(made, "predict_proba", far), pipeline.predict_proba(far), atol=1e-6)
    codes = of(made, "predict", far)
    labels = np.array(made.codecs["label"]["values"])[codes] if made.codecs else codes
    np.testing.assert_array_equal(labels, pipeline.predict(far))


def test_a_transform_alone_is_converted():
    fitted = preprocessing.StandardScaler().fit(X)
    np.testing.assert_allclose(of(from_sklearn(fitted), "transform", X), fitted.transform(X), atol=1e-12)


def test_the_artifact_answers_as_the_pipeline(tmp_path):
    """In float64, by column name, with gaps, and with labels as texts."""
    frame = pd.DataFrame(GAPS[:, :6], columns=list("abcdef"))
    pipeline = make_pipeline(SimpleImputer(), preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(frame, NAMES)
    made = from_sklearn(pipeline, frame[:20])
    with jax.enable_x64(True):
        export(tmp_path / "wine", made.methods, made.params, codecs=made.codecs)
    served = model.load(tmp_path / "wine")
    got = served.infer("predict_proba", {"x": frame.to_numpy()})["predict_proba"]
    np.testing.assert_allclose(got, pipeline.predict_proba(frame), atol=1e-6)
    np.testing.assert_array_equal(served.infer("predict", {"x": frame.to_numpy()})["predict"], pipeline.predict(frame))


def test_float32_is_served_in_float32():
    forest = ensemble.RandomForestClassifier(5, random_state=0).fit(WINE, KIND)
    made = from_sklearn(forest, WINE[:4].astype(np.float32))
    got = jax.jit(made.methods["predict"].fn)(made.params, WINE.astype(np.float32))
    np.testing.assert_array_equal(got, forest.predict(WINE))
    with pytest.raises(ValueError, match=r"x must be float64, under jax.enable_x64\(True\)"):
        from_sklearn(forest).methods["predict"].fn(None, np.zeros((1, 13), np.float32))


REFUSED = {
    "`svc`, SVC; it knows arsenal's own and ColumnTransformer, Decision": lambda: make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
    "`functiontransformer`, FunctionTransformer: its function may be": lambda: make_pipeline(preprocessing.FunctionTransformer(np.sqrt), linear_model.Ridge()),
    "`onehotencoder`, OneHotEncoder: its `handle_unknown` must be ignore": lambda: make_pipeline(preprocessing.OneHotEncoder(), linear_model.LogisticRegression()),
    "`simpleimputer`, SimpleImputer: its `missing_values` must be NaN; got -1": lambda: make_pipeline(SimpleImputer(missing_values=-1), linear_model.LogisticRegression()),
    "`RandomForestClassifier`, RandomForestClassifier: it must have one target; got 2": lambda: ensemble.RandomForestClassifier(2),
    "`hash`, OneHot: its levels": lambda: ColumnTransformer([("hash", ours.OneHot(), [0])]),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_converted_is_named(words):
    made = REFUSED[words]()
    y = np.stack([KIND, KIND], 1) if "one target" in words else KIND
    with pytest.raises(ValueError, match="^`from_sklearn` cannot convert the step ") as refused:
        from_sklearn(made.fit(WINE, y))
    assert words in str(refused.value) and "\n" not in str(refused.value)
