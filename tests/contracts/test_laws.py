"""Every public record keeps every law of its kind, and none is without a case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from cases import CASES, TOKENS

from arsenal import estimators
from arsenal.nn.convolution import by_library, by_slices
from arsenal.records import batch, hyperparameters
from arsenal.testing import LAWS, factories


def test_every_factory_has_a_case():
    assert set(CASES) >= LONG
    missing = sorted(set(factories()) - set(CASES))
    assert not missing, f"No row in tests/contracts/cases.py for: {', '.join(missing)}."
    stale = sorted(name for name in CASES if name.startswith("arsenal.") and name not in factories())
    assert not stale, f"Rows in tests/contracts/cases.py for what is not there: {', '.join(stale)}."


# What compiles longest is checked with the slow tests.
LONG = {
    "arsenal.combine.ema.ema", "arsenal.combine.population.ensemble", "arsenal.combine.population.population", "arsenal.estimators.cluster.kmeans", "arsenal.models.autoencoder.variational",
    "arsenal.models.transformer.transformer",
    "arsenal.rl.ppo.ppo", "arsenal.training.adversarial.adversarial", "arsenal.training.parallel.lying",
    "arsenal.training.supervised.supervised", "arsenal.training.supervised.additive", "supervised without labels",
    "arsenal.losses.alignment.ctc", "arsenal.combine.skipping.skipping", "arsenal.combine.chain.after",
    "arsenal.combine.accumulate.learner", "arsenal.estimators.linear.logistic", "arsenal.optim.gradient.lamb", "gpt",
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in CASES])
def test_laws(name):
    for case in CASES[name]():
        for law, holds in LAWS[type(case.record)].items():
            try:
                holds(case)
            except AssertionError as error:
                raise AssertionError(f"{name}, law `{law}`: {error}") from error


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
