"""Projections and factors against scikit-learn's, with weights by repetition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, decomposition
from sklearn.decomposition import _nmf

from arsenal import features as ours
from arsenal.features import topics
from arsenal.features.factors import alternate, first_parts, separate
from arsenal.records import batch, hyperparameters

DIGITS = datasets.load_digits().data
WINE = datasets.load_wine().data
EVEN = ((WINE - WINE.mean(0)) / WINE.std(0))[::3]
MIXED = np.random.default_rng(3).laplace(size=(500, 3)) ** [1, 3, 1] @ np.random.default_rng(4).normal(size=(3, 5))
WEIGHT = np.random.default_rng(0).integers(0, 3, len(DIGITS))
PEERS = {
    "pca": (lambda: ours.pca(12), lambda: decomposition.PCA(12, svd_solver="full"), DIGITS, 1e-8),
    "pca whitened": (lambda: ours.pca(12, True), lambda: decomposition.PCA(12, whiten=True, svd_solver="full"), DIGITS, 1e-8),
    "truncated_svd": (lambda: ours.truncated_svd(7), lambda: decomposition.TruncatedSVD(7, algorithm="arpack", tol=1e-12), DIGITS, 1e-8),
    "factor_analysis": (lambda: ours.factor_analysis(4), lambda: decomposition.FactorAnalysis(4, svd_method="lapack"), WINE, 1e-8),
    "fast_ica": (lambda: ours.fast_ica(3, 1e-9, 2000), lambda: decomposition.FastICA(3, tol=1e-9, max_iter=2000, random_state=0), MIXED, 1e-6),
    "kernel_pca": (lambda: ours.kernel_pca(3, gamma=0.1), lambda: decomposition.KernelPCA(3, kernel="rbf", gamma=0.1, eigen_solver="dense"), EVEN, 1e-8),
    "sparse_pca": (lambda: ours.sparse_pca(3, tolerance=1e-9), lambda: decomposition.SparsePCA(3, tol=1e-9, method="cd"), EVEN, 1e-4),
}  # fmt: skip


def fit(make, x, weight):
    """The transform and what it learned."""
    transform, rows = make(), batch(x=jnp.asarray(x), weight=jnp.asarray(weight, float))
    transform.check(rows)
    return transform, jax.jit(transform.fit)(jax.random.key(0), rows, hyperparameters(transform.hp))


@pytest.mark.parametrize("name", PEERS)
def test_it_is_scikit_learns(name):
    make, peer, x, tolerance = PEERS[name]
    weight = WEIGHT[: len(x)]
    theirs = peer().fit(x.repeat(weight, 0))
    with jax.enable_x64(True):
        transform, (state, rows) = fit(make, x, weight)
        got, wanted = np.asarray(transform.apply(state, jnp.asarray(x))), theirs.transform(x)
        back = None if transform.inverse is None else np.asarray(transform.inverse(state, jnp.asarray(got)))
    np.testing.assert_allclose(got, rows.x, rtol=1e-9, atol=1e-9 * np.abs(got).max())  # two programs
    like = np.abs(np.corrcoef(got.T, wanted.T)[: got.shape[1], got.shape[1] :])
    order = like.argmax(0)  # of independent sources the order is the key's
    assert sorted(order) == list(range(got.shape[1])) and (name == "fast_ica" or (order == np.arange(len(order))).all())
    got = got[:, order]
    np.testing.assert_allclose(got * np.sign((got * wanted).sum(0)), wanted, atol=tolerance * np.abs(wanted).max())
    if back is not None:
        np.testing.assert_allclose(back, theirs.inverse_transform(wanted), atol=tolerance * x.max())


def test_signs_are_scikit_learns():
    with jax.enable_x64(True):
        _, (state, _) = fit(lambda: ours.pca(5), DIGITS, np.ones(len(DIGITS)))
    theirs = decomposition.PCA(5, svd_solver="full").fit(DIGITS)
    np.testing.assert_allclose(state.components, theirs.components_, atol=1e-10)
    np.testing.assert_allclose(state.variance, theirs.explained_variance_, rtol=1e-10)


def test_sources_from_the_same_start_are_scikit_learns():
    x = decomposition.PCA(4, whiten=True).fit_transform(WINE)
    start = np.random.default_rng(1).normal(size=(4, 4))
    theirs = decomposition.fastica(x, whiten=False, w_init=start, tol=1e-5, max_iter=500)[1]
    with jax.enable_x64(True):
        turn, _ = separate(jnp.asarray(x), jnp.ones(len(x)), jnp.asarray(start), 1e-5, 500)
    np.testing.assert_allclose(turn, theirs, atol=1e-8)


def test_parts_are_scikit_learns():
    weight, k = WEIGHT, 6
    many = DIGITS.repeat(weight, 0)
    with jax.enable_x64(True):
        rows, parts = first_parts(jnp.asarray(DIGITS), jnp.asarray(weight, float), k)
        start = _nmf._initialize_nmf(many, k, "nndsvda", random_state=0)
        np.testing.assert_allclose(np.asarray(rows).repeat(weight, 0), start[0], atol=1e-4)
        np.testing.assert_allclose(parts, start[1], atol=1e-4)
        made, iterations = alternate(jnp.asarray(DIGITS), jnp.asarray(weight, float), rows, parts, 1e-3, 200)
    peer = decomposition.NMF(k, init="custom", tol=1e-3)
    peer.fit_transform(many, W=np.asarray(rows).repeat(weight, 0), H=np.asarray(parts).copy())
    assert peer.n_iter_ == int(iterations) < 200
    np.testing.assert_allclose(made, peer.components_, atol=1e-8)


def test_a_row_is_the_sum_of_its_parts():
    with jax.enable_x64(True):
        transform, (state, rows) = fit(lambda: ours.nmf(6, max_iterations=500), DIGITS, WEIGHT)
        back = np.asarray(transform.inverse(state, rows.x))
        theirs = decomposition.non_negative_factorization(DIGITS, H=np.asarray(state.components), n_components=6, init="custom", update_H=False, tol=1e-10, max_iter=5000)[0]
    np.testing.assert_allclose(rows.x, theirs, atol=1e-4)
    peer = decomposition.NMF(6, init="nndsvda", random_state=0, max_iter=500).fit(DIGITS.repeat(WEIGHT, 0))
    error = np.sqrt(WEIGHT @ np.square(DIGITS - back).sum(1))
    assert error == pytest.approx(peer.reconstruction_err_, rel=1e-3)


@pytest.mark.parametrize("kind", ["gaussian", "sparse"])
def test_random_directions_keep_distances(kind):
    transform = ours.random_projection(32, kind)
    x = DIGITS[:50].astype(np.float32)
    far = jax.vmap(lambda key: jnp.square(transform.fit(key, batch(x=x), {})[1].x).sum(1))(jax.random.split(jax.random.key(0), 400))
    np.testing.assert_allclose(far.mean(0), np.square(x).sum(1), rtol=0.06)
    spread = np.std(far / np.square(x).sum(1))
    assert 0.2 < spread < 0.3  # √(2 / 32) is 0.25


def test_what_does_not_fit_is_told():
    rows = batch(x=[[1.0, 2.0], [3.0, float("nan")]])
    with pytest.raises(ValueError, match="`pca` takes numbers only; got nan"):
        ours.pca().check(rows)
    ours.pca().check(rows._replace(weight=jnp.array([1.0, 0.0])))
    with pytest.raises(ValueError, match="`components` of `nmf` must be at most the number of columns; got 3 of 2 feature"):
        ours.nmf(3).check(rows)
    with pytest.raises(ValueError, match="`nmf` takes x of at least 0; got -1"):
        ours.nmf(1).check(batch(x=[[-1.0]]))
    with pytest.raises(ValueError, match="`kind` of `random_projection` must be gaussian or sparse; got 'normal'"):
        ours.random_projection(1, "normal")
    constant = batch(x=[[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    state, made = ours.pca(whiten=True).fit(None, constant, {})
    assert np.isfinite(made.x).all() and (np.asarray(made.x)[:, 1] == 0).all()
    np.testing.assert_allclose(ours.pca(whiten=True).inverse(state, made.x), constant.x, atol=1e-5)


def test_sparse_directions_are_scikit_learns():
    with jax.enable_x64(True):
        _, (state, _) = fit(lambda: ours.sparse_pca(3, tolerance=1e-9), EVEN, np.ones(len(EVEN)))
    theirs = decomposition.SparsePCA(3, tol=1e-9, method="cd").fit(EVEN).components_
    found = np.asarray(state.mixing)
    found = found * np.sign((found * theirs).sum(1, keepdims=True))
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    assert (theirs == 0).any() and ((found == 0) == (theirs == 0)).all()


def test_topics_are_scikit_learns_from_one_start(monkeypatch):
    monkeypatch.setattr(topics, "TOLERANCE", 1e-7)
    monkeypatch.setattr(topics, "MOST", 3000)
    x, weight = DIGITS[:8], WEIGHT[:8]
    start = np.random.RandomState(7).gamma(100.0, 0.01, (4, 64))  # what their seed 7 draws
    theirs = decomposition.LatentDirichletAllocation(4, random_state=7, max_iter=1, max_doc_update_iter=3000, mean_change_tol=1e-7).fit(x.repeat(weight, 0))
    with jax.enable_x64(True):
        state = topics.learn_topics(*map(jnp.asarray, (x, weight.astype(float), start)), 0.25, 0.25, 1)
        np.testing.assert_allclose(state.words, theirs.components_, atol=1e-5 * theirs.components_.max())
        got = ours.latent_dirichlet(4).apply(state._replace(words=jnp.asarray(theirs.components_)), jnp.asarray(x))
    np.testing.assert_allclose(got, theirs.transform(x), atol=1e-5)
    transform = ours.latent_dirichlet(4)
    state, rows = transform.fit(jax.random.key(0), batch(x=x.astype(np.float32), weight=weight), transform.hp)
    np.testing.assert_allclose(rows.x.sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="`latent_dirichlet` takes x of at least 0; got -1"):
        transform.check(batch(x=[[-1.0, 2.0]]))
