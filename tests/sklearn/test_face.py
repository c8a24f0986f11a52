"""scikit-learn's own checks over every class, and its tools around them."""

import inspect
import os
import pickle
import re
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, datasets, model_selection
from sklearn.base import clone, is_classifier, is_clusterer, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from arsenal import estimators, features, sklearn
from arsenal.records import Converged, Estimator, Transform
from arsenal.sklearn.shell import shell_class

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "sklearn.md"
FEW = {
    "KMeans": {"clusters": 3, "restarts": 2}, "Scale": {"factor": 2.0}, "RandomProjection": {"components": 4},
    "BoostingClassifier": {"rounds": 10},
    "BoostingRegressor": {"rounds": 10}, "RandomForestClassifier": {"trees": 5, "leaves": 64},
    "RandomForestRegressor": {"trees": 5, "leaves": 64}, "ExtraTreesClassifier": {"trees": 5, "leaves": 64},
    "ExtraTreesRegressor": {"trees": 5, "leaves": 64},
    "Agglomerative": {"clusters": 3}, "KMedoids": {"clusters": 3}, "SpectralClustering": {"clusters": 3},
    "BayesianMixture": {"components": 3}, "GaussianMixture": {"components": 3}, "KernelPCA": {"components": 2},
    "LatentDirichlet": {"topics": 2}, "MeanShift": {"bandwidth": 2.0}, "NMF": {"components": 2}, "SparsePCA": {"components": 2},
    "TSNE": {"perplexity": 3.0}, "UMAP": {"neighbors": 3, "epochs": 20},
}  # fmt: skip
"""What has no default, and less of what takes long."""
FAST = ["Ridge", "Standardize"]
DEAR = (
    "BayesianMixture", "GaussianMixture", "GaussianProcess", "IsolationForest", "KMedoids", "KernelPCA", "LatentDirichlet",
    "LinearSVR", "LocalOutlier", "MeanShift",
)  # fmt: skip
"""Of which each of some hundred shapes takes a second to compile or more: `make test-all` checks them."""
X, Y = datasets.load_diabetes(return_X_y=True, as_frame=True)
WINE, KIND = datasets.load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KIND]


def table(head):
    """The rows of the page's table under a head, without their quotes: {first cell: the others}."""
    _, _, behind = PAGE.read_text().partition(f"| {head} |")
    lines = behind.splitlines()[2:]
    rows = [
        line.strip("|").split("|")
        for line in lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), None)]
    ]
    return {cells[0].strip(" `"): [cell.strip(" `") for cell in cells[1:]] for cells in rows}


def failing():
    """{class: {check: reason}} that the page tells."""
    found = {}
    for names, (checks, why) in table("does not pass").items():
        for name in re.findall(r"\w+", names):
            found.setdefault(name, {}).update(dict.fromkeys(re.findall(r"\w+", checks), why))
    return found


def check(name):
    jax.clear_caches()  # some hundred programs for each class: one process may not map those of all into its memory
    told = failing().get(name, {})
    results = check_estimator(sklearn.CLASSES[name](**FEW.get(name, {})), expected_failed_checks=told, on_fail=None, on_skip=None)
    failed = {one["check_name"]: one["exception"] for one in results if one["status"] == "failed"}
    assert not failed and len(results) > 40, failed
    seen = {one["check_name"] for one in results if one["status"] == "xfail"}
    here = {check for check, why in told.items() if not why.startswith("on some processors")}
    assert here <= seen <= told.keys(), "The page tells what fails, and no more."


@pytest.mark.parametrize("name", FAST)
def test_scikit_learns_checks(name):
    check(name)


def without_dear(names):
    """The names, those that take minutes only where they are asked for."""
    return sorted(set(names) - set(() if os.environ.get("ARSENAL_TEST_DEAR") == "1" else DEAR))


@pytest.mark.slow
@pytest.mark.parametrize("name", without_dear(set(sklearn.CLASSES) - set(FAST)))
def test_scikit_learns_checks_of_all(name):
    if name == "UMAP":
        pytest.importorskip("umap")
    check(name)


def test_every_public_factory_has_a_class_or_a_reason():
    made = {getattr(room, name) for room in (estimators, features) for name in room.__all__}
    made = {one for one in made if typing.get_type_hints(one)["return"] in (Estimator, Transform)}
    assert {one.factory for one in sklearn.CLASSES.values()} | {one for one in made if one.__name__ in sklearn.WITHOUT} == made
    assert len(sklearn.CLASSES) > 80


def test_the_page_lists_the_classes_and_those_that_there_are_not():
    listed = table("class")
    assert {name: [one.kind, one.factory.__name__] for name, one in sklearn.CLASSES.items()} == listed
    assert {name: [why] for name, why in sklearn.WITHOUT.items()} == table("no class")


def test_a_class_has_the_signature_of_its_factory():
    signature = inspect.signature(sklearn.Logistic)
    assert list(signature.parameters) == ["alpha", "tolerance", "max_iterations", "random_state"]
    assert sklearn.Logistic(0.3).get_params() == {"alpha": 0.3, "tolerance": 1e-6, "max_iterations": 100, "random_state": 0}
    with pytest.raises(TypeError, match="'lambda_'"):
        sklearn.Ridge(lambda_=2)
    assert (
        is_classifier(sklearn.BoostingClassifier())
        and is_regressor(sklearn.BoostingRegressor())
        and is_clusterer(sklearn.KMeans(2))
    )


@pytest.mark.parametrize(("made", "words"), [
    (lambda: sklearn.Ridge(alpha=-1.0).fit(X, Y), "`alpha` of `Ridge` must be greater than or equal to 0; got -1.0."),
    (lambda: sklearn.GLM(family="normal").fit(X, Y), "`family` of `GLM` must be 'poisson', 'gamma' or 'tweedie'; got 'normal'."),
    (lambda: sklearn.LDA().fit(X, np.ones(len(X), int)), "`LDA` takes at least two classes; got 1 class, 1."),
    (lambda: sklearn.GLM().fit(X, -Y), "`glm` of family poisson takes y at least 0; got -346 in row 257."),
    (lambda: sklearn.Ridge().fit(X, Y, np.zeros(len(X))), "Sample weights of `Ridge` must hold one above zero; got zeros."),
])  # fmt: skip
def test_bad_input_is_refused_in_a_line(made, words):
    with pytest.raises(ValueError, match="^" + re.escape(words) + "$|^Sample weights must contain"):
        made()


def test_labels_of_any_kind_and_answers_of_every_kind():
    model = sklearn.Logistic(alpha=0.1).fit(WINE[:, :4], NAMES)
    assert model.score(WINE[:, :4], NAMES) > 0.8 and model.classes_.tolist() == sorted(set(NAMES))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(WINE[:, :4])), model.predict_proba(WINE[:, :4]))
    np.testing.assert_allclose(WINE[:, :4] @ model.coef_.T + model.intercept_, model.decision_function(WINE[:, :4]), atol=1e-9)
    two = sklearn.LDA().fit(WINE[KIND < 2], KIND[KIND < 2] > 0)
    assert two.coef_.shape == (1, 13) and two.predict(WINE[:2]).dtype == bool
    np.testing.assert_allclose(WINE @ two.coef_[0] + two.intercept_, two.decision_function(WINE), atol=1e-6)


def test_a_label_of_weight_zero_is_not_there():
    weight = (KIND != 1).astype(float)
    x = np.where(weight[:, None] > 0, WINE, 1e30)
    np.testing.assert_allclose(
        sklearn.LDA().fit(x, NAMES, weight).coef_, sklearn.LDA().fit(WINE[KIND != 1], NAMES[KIND != 1]).coef_, rtol=1e-6
    )


DRAWS = [name for name, told in failing().items() if "check_sample_weight_equivalence_on_dense_data" in told]


@pytest.mark.slow
@pytest.mark.parametrize("name", without_dear(set(sklearn.CLASSES) - set(DRAWS)))
def test_weights_are_repeated_rows_on_real_data(name):
    """Beyond scikit-learn's check of fifteen rows."""
    made = sklearn.CLASSES[name]
    settings = FEW.get(name, {}) | ({"min_leaf": 1} if "min_leaf" in inspect.signature(made).parameters else {})
    x, y = (WINE, NAMES) if made.kind == "classifier" else (X.to_numpy(), Y.to_numpy())
    x = np.abs(x) if made.traits.positive_x else x
    x = np.round(x) if made.traits.coded else x
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    one, other = made(**settings).fit(x, y, weight), made(**settings).fit(x.repeat(weight, 0), y.repeat(weight))
    for answer in {"predict_proba", "decision_function", "transform", "score_samples"} & set(dir(one)) or {"predict"}:
        np.testing.assert_allclose(getattr(one, answer)(x), getattr(other, answer)(x), rtol=1e-5, atol=1e-8)


def test_fitted_arrays_are_numpy_in_the_type_of_x():
    for dtype in (np.float32, np.float64):
        model = sklearn.Ridge().fit(X.to_numpy(dtype), Y)
        leaves = jax.tree.leaves(model.params_)
        assert leaves and all(isinstance(leaf, np.ndarray) and leaf.dtype == dtype for leaf in leaves)
        assert model.coef_.dtype == model.predict(X.to_numpy()).dtype == dtype


def test_frames_in_and_out_with_the_names_of_columns():
    made = (
        make_pipeline(sklearn.Impute(indicator=True), sklearn.Polynomial(2))
        .set_output(transform="pandas")
        .fit_transform(X[["bmi", "s5"]])
    )
    assert list(made)[:6] == ["bmi", "s5", "bmi.missing", "s5.missing", "bmi^2", "bmi*s5"] and (made.index == X.index).all()
    model = sklearn.Ridge().fit(X, Y)
    assert list(model.feature_names_in_) == list(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[list(X)[::-1]])


def test_levels_of_any_kind_become_codes():
    frame = pd.DataFrame({"town": ["Ulm", "Bonn", None, "Ulm"], "floor": [2, 1, 2, 3]})
    one = sklearn.OneHot().set_output(transform="pandas").fit(frame)
    assert list(one.transform(frame)) == ["town=Bonn", "town=Ulm", "town=missing", "floor=1", "floor=2", "floor=3"]
    strange = pd.DataFrame({"town": ["Rome", None], "floor": [1, 9]})
    assert one.transform(strange).to_numpy().tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]
    mean = sklearn.TargetMean(smoothing=0.0).fit(frame, [1.0, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(mean.transform(frame[:2])[:, 0], [3, 2])
    share = sklearn.Frequency().fit(frame, sample_weight=[1, 0, 0, 1])
    np.testing.assert_allclose(share.transform(frame), [[1, 0.5], [0, 0], [0, 0.5], [1, 0.5]])


def test_transforms_go_back():
    for one in (sklearn.Standardize(), sklearn.MinMax(), sklearn.Quantile(), sklearn.Power()):
        np.testing.assert_allclose(one.inverse_transform(one.fit_transform(X.to_numpy())), X, atol=1e-6)
    assert not hasattr(sklearn.Bins(), "inverse_transform")


def test_pipelines_searches_and_folds():
    columns = ColumnTransformer(
        [("wide", sklearn.Standardize(), ["age", "bmi", "bp"]), ("sex", sklearn.OneHot(), ["sex"])],
        remainder=sklearn.Quantile(knots=50),
    )
    model = make_pipeline(columns, sklearn.Ridge())
    search = model_selection.GridSearchCV(model, {"ridge__alpha": np.array([0.1, 1.0, 10.0])}, cv=3).fit(
        X, Y, ridge__sample_weight=np.ones(len(X))
    )
    assert search.best_score_ > 0.4 and clone(model).get_params()["ridge__alpha"] == 1.0
    made = model_selection.cross_val_predict(sklearn.GaussianBayes(), WINE, NAMES, cv=3, method="predict_proba")
    assert made.shape == (178, 3) and model_selection.cross_val_score(sklearn.GaussianBayes(), WINE, NAMES, cv=3).mean() > 0.9
    assert "Ridge" in search._repr_html_() and "OneHot" in search._repr_html_()


@pytest.mark.slow
def test_searches_in_processes_of_their_own():
    alone, beside = (
        model_selection.GridSearchCV(sklearn.Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=3, n_jobs=jobs).fit(X, Y) for jobs in (1, 2)
    )
    np.testing.assert_allclose(alone.cv_results_["mean_test_score"], beside.cv_results_["mean_test_score"])


def test_weights_are_routed():
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(
            sklearn.Standardize().set_fit_request(sample_weight=False), sklearn.Ridge().set_fit_request(sample_weight=True)
        )
        weight = np.arange(len(X)) % 3
        routed = model.fit(X, Y, sample_weight=weight)[-1].coef_
        x = sklearn.Standardize().fit_transform(X)
    np.testing.assert_allclose(routed, sklearn.Ridge().fit(x, Y, weight).coef_)


@pytest.mark.parametrize("name", ["Ridge", "TreeClassifier", "OneHot", "KMeans"])
def test_a_pickle_answers_as_before_and_holds_data_only(name):
    one = sklearn.CLASSES[name](**FEW.get(name, {})).fit(WINE, NAMES if "Classifier" in name else KIND)
    word = "predict" if hasattr(one, "predict") else "transform"
    text = pickle.dumps(one)
    np.testing.assert_array_equal(getattr(pickle.loads(text), word)(WINE), getattr(one, word)(WINE))
    assert b"jaxlib" not in text


def test_what_was_fitted_answers_whatever_is_set_since():
    bins = sklearn.Bins(4, to="ordinal").fit(X)
    before = bins.transform(X)
    np.testing.assert_array_equal(bins.set_params(n=9, to="one_hot").transform(X), before)


def test_a_second_fit_of_the_same_shapes_does_not_trace():
    traced = []

    def counted(alpha: float = 1.0) -> Estimator:
        def fit(key, rows, hp):
            traced.append("fit")
            return hp["alpha"] * rows.x.mean(0), Converged(jnp.array(True), jnp.array(1))

        def predict(params, x):
            traced.append("predict")
            return x @ params

        return Estimator(fit, {"predict": predict}, hp={"alpha": alpha})

    made = shell_class("Counted", "regressor", counted, counted(), __name__)
    first, second = made().fit(X, Y), made(alpha=3.0).fit(X + 1, Y)
    assert traced == ["fit"] and not np.allclose(first.predict(X), second.predict(X)) and traced == ["fit", "predict"]
    made().fit(X.to_numpy(np.float32), Y)
    assert traced == ["fit", "predict", "fit"]


def test_what_did_not_converge_is_said():
    with pytest.warns(ConvergenceWarning, match="`Logistic` did not converge in 1 iterations"):
        sklearn.Logistic(alpha=1e-3, max_iterations=1).fit(WINE, KIND)
