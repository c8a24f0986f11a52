"""The map is umap-learn's, where it is installed; without it one line says what installs it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from arsenal.estimators import by_neighbor, umap
from arsenal.records import batch

DIGITS = load_digits().data.astype(np.float32)


def fit(estimator, x, weight=None):
    rows = jax.tree.map(np.asarray, batch(x=x, weight=np.ones(len(x)) if weight is None else weight))
    estimator.check(rows)
    places, info = estimator.fit(np.array([0, 5], np.uint32), rows, jax.tree.map(np.asarray, estimator.hp))
    places = jax.tree.map(jnp.asarray, places)
    return info, lambda x: np.asarray(jax.jit(estimator.apply["transform"])(places, jnp.asarray(x)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of numba and umap-learn themselves
def test_the_map_is_umap_learns_and_new_rows_lie_near_where_it_puts_them():
    peer = pytest.importorskip("umap").UMAP(n_epochs=100, random_state=5, n_jobs=1)
    x, new = DIGITS[:500], DIGITS[500:700]
    weight = np.where(np.arange(500) % 5 == 0, 0, np.where(np.arange(500) % 7 == 0, 2, 1))
    wanted = peer.fit_transform(x.repeat(weight, 0))
    info, answer = fit(umap(epochs=100), x, weight)
    first = (np.cumsum(weight) - weight)[weight > 0]
    mean = np.add.reduceat(wanted, first) / weight[weight > 0, None]
    np.testing.assert_allclose(answer(x[weight > 0]), mean, atol=1e-4 * np.abs(wanted).max())
    spread = np.sqrt(np.square(wanted - wanted.mean(0)).sum(1).mean())
    far = np.sqrt(np.square(answer(new) - peer.transform(new)).sum(1)) / spread
    assert np.median(far) < 0.06 and np.mean(far) < 0.15  # rows apart are 1.4
    assert 0 < info.error < 0.2 and info.iterations == 100


def test_the_cross_entropy_is_that_of_its_formula():
    from scipy.sparse import csr_matrix

    place, (a, b) = np.random.default_rng(0).normal(size=(6, 2)), (1.6, 0.9)
    graph = np.random.default_rng(1).uniform(size=(6, 6)) * (np.random.default_rng(2).uniform(size=(6, 6)) < 0.5)
    terms = []
    for i in range(6):
        for j in set(range(6)) - {i}:
            near = 1 / (1 + a * np.linalg.norm(place[i] - place[j]) ** (2 * b))
            terms.append(-graph[i, j] * np.log(near) - (1 - graph[i, j]) * np.log(1 - near))
    assert by_neighbor.cross_entropy(csr_matrix(graph), place, a, b) == pytest.approx(np.mean(terms))


def test_what_does_not_fit_is_told(monkeypatch):
    monkeypatch.setattr(by_neighbor, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'^`umap` needs umap-learn: pip install "ml-arsenal\[umap\]"\.$'):
        umap().check(batch(x=DIGITS[:20]))
    monkeypatch.setattr(by_neighbor, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match="`umap` of 15 `neighbors` needs more than 15 rows; got 15"):
        umap().check(batch(x=DIGITS[:15]))
    with pytest.raises(ValueError, match="`umap` takes weights that are whole numbers; got 0.5"):
        umap(neighbors=2).check(batch(x=DIGITS[:20], weight=np.full(20, 0.5)))
