"""No public record is without a case, and what only the tests need is what others say it is."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from rows import TOKENS

from arsenal import estimators
from arsenal.nn.convolution import by_library, by_slices
from arsenal.records import batch, hyperparameters
from arsenal.testing import factories

TESTS = Path(__file__).parents[1]


def table(path):
    """The cases of a room."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


def test_every_factory_has_a_case_beside_its_room():
    tables = {path.parent.name: table(path) for path in sorted(TESTS.glob("*/cases.py"))}
    rows = [(name.split(".")[1], name) for name in factories()]
    missing = [f"{name} in tests/{room}/cases.py" for room, name in rows if name not in tables.get(room, {})]
    assert not missing, f"No row for {', '.join(missing)}."
    stale = [name for cases in tables.values() for name in cases if name.startswith("arsenal.") and name not in factories()]
    assert not stale, f"Rows for what is not there: {', '.join(stale)}."


def test_cached_decoding_is_the_whole_sequence():
    model = worlds.gpt()
    tokens = TOKENS.x
    variables = model.init(jax.random.key(0), tokens)
    wanted, _ = model.apply(variables, tokens)
    cache = {name: jnp.zeros((len(tokens), 6, 2, 4)) for name in "kv"}
    decode = jax.jit(model.methods["decode"])
    for i in range(tokens.shape[1]):
        made = decode(variables, {"token": tokens[:, i], "position": jnp.full(len(tokens), i), "cache": cache})
        cache = made["cache"]
        np.testing.assert_allclose(made["logits"], wanted[:, i], atol=1e-5)


@pytest.mark.slow
def test_density_clusters_are_scikit_learns():
    from sklearn.cluster import DBSCAN

    x = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    estimator = worlds.dbscan(0.35, 4.0)
    params, _ = estimator.fit(jax.random.key(0), batch(x=x), hyperparameters(estimator.hp))
    theirs = DBSCAN(eps=0.35, min_samples=4).fit(x)
    core = np.zeros(60, bool)
    core[theirs.core_sample_indices_] = True
    ours = np.asarray(params[0].label)
    assert np.array_equal(core, params[0].core)
    pairs = {(a, b) for a, b in zip(ours[core], theirs.labels_[core], strict=True)}
    assert len(pairs) == len(set(ours[core])) == len(set(theirs.labels_[core])) > 1
    assert np.array_equal(ours == -1, theirs.labels_ == -1)


@pytest.mark.slow
def test_logistic_is_scikit_learns():
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    with jax.enable_x64(True):
        estimator = estimators.logistic(alpha=2.0, tolerance=1e-10)
        fitted, info = jax.jit(estimator.fit)(None, batch(x=x, y=y, weight=weight), hyperparameters(estimator.hp))
        theirs = LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(x, y, weight)
        assert info.converged
        np.testing.assert_allclose(fitted.slope, theirs.coef_[0], rtol=1e-5)
        np.testing.assert_allclose(fitted.intercept, theirs.intercept_[0], rtol=1e-5)
        np.testing.assert_allclose(estimator.apply["predict_proba"](fitted, x), theirs.predict_proba(x), atol=1e-7)


def test_ridge_is_scikit_learns():
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    x, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    with jax.enable_x64(True):
        fitted, _ = jax.jit(estimators.ridge().fit)(None, batch(x=x, y=y, weight=weight), {"alpha": jnp.array(0.3)})
        theirs = Ridge(alpha=0.3).fit(x, y, weight)
        np.testing.assert_allclose(fitted.slope, theirs.coef_, rtol=1e-9)
        np.testing.assert_allclose(fitted.intercept, theirs.intercept_, rtol=1e-9)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (5, 3)])
def test_both_convolutions_are_one(kernel):
    x, w = jax.random.normal(jax.random.key(0), (2, 6, 5, 3)), jax.random.normal(jax.random.key(1), (*kernel, 3, 4))
    np.testing.assert_allclose(by_slices(x, w), by_library(x, w), atol=1e-4)
