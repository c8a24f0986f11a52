"""Transforms against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from arsenal.features import one_hot, scale, standardize
from arsenal.records import batch

rng = np.random.default_rng(2)
X = (rng.normal(size=(20, 4)) * [1, 5, 0.1, 0] + [0, 3, -2, 7]).astype(np.float32)
ROWS = batch(x=X, weight=rng.uniform(0, 3, 20).round())
NEW = rng.normal(size=(5, 4)).astype(np.float32)


def test_standardizing_is_scikit_learns():
    state, rows = jax.jit(standardize().fit)(None, ROWS, {})
    theirs = StandardScaler().fit(X, sample_weight=ROWS.weight)
    np.testing.assert_allclose(state.mean, theirs.mean_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows.x, theirs.transform(X), atol=1e-3)
    np.testing.assert_allclose(standardize().apply(state, NEW), theirs.transform(NEW), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(standardize().inverse(state, NEW), theirs.inverse_transform(NEW), atol=1e-3)


def test_codes_are_scikit_learns_columns():
    codes = np.array([[0, 1], [1, 1], [2, 0], [3, 2], [1, 2]])
    numbers = rng.normal(size=(5, 2)).astype(np.float32)
    theirs = OneHotEncoder(sparse_output=False, handle_unknown="ignore", dtype=np.float32).fit(codes)
    ours = one_hot([4, 3])
    new = np.array([[3, 0], [4, 1], [0, 3], [2, 2], [1, 1]])  # 4 and 3 are the codes of what is unknown
    got = ours.apply((), {"numeric": jnp.asarray(numbers), "categorical": jnp.asarray(new)})
    np.testing.assert_array_equal(got, np.concatenate([numbers, theirs.transform(new)], 1))


def test_scaling_is_the_formula():
    state, rows = scale(0.25, -1.0).fit(None, ROWS, {})
    np.testing.assert_allclose(rows.x, X / 4 - 1, rtol=1e-6)
    np.testing.assert_allclose(scale(0.25, -1.0).inverse(state, rows.x), X, atol=1e-5)
    assert scale(1 / 255).apply((), np.array([[255]], np.uint8)).dtype == jnp.float32
