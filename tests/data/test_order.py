"""Shuffling visits every row once an epoch, in an order that the key alone decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arsenal.data.order import shuffle_positions

SHUFFLED = jax.jit(shuffle_positions, static_argnums=1)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**32 - 1))
@example(n=1, seed=0)
@example(n=2, seed=0)
@example(n=3, seed=1)
@example(n=4096, seed=2)
@example(n=5000, seed=2**32 - 1)
@pytest.mark.slow
def test_shuffling_is_a_bijection(n, seed):
    place = np.asarray(SHUFFLED(jax.random.key(seed), n, jnp.arange(n)))
    assert place.dtype == np.int32
    assert np.array_equal(np.sort(place), np.arange(n))


def test_a_few_positions_go_where_they_go_among_all():
    key, some = jax.random.key(3), jnp.array([[7, 0], [999, 500]])
    assert np.array_equal(SHUFFLED(key, 1000, some), SHUFFLED(key, 1000, jnp.arange(1000))[some])


def test_orders_are_even_and_differ_by_key():
    n = 100
    orders = np.stack([SHUFFLED(jax.random.key(seed), n, jnp.arange(n)) for seed in range(200)])
    assert len(np.unique(orders, axis=0)) == 200
    first_half = (orders[:, : n // 2] < n // 2).mean()
    assert abs(first_half - 0.5) < 0.02
    # Each position's mean is that of a uniform draw, (n-1)/2, within five standard errors.
    assert np.abs(orders.mean(0) - (n - 1) / 2).max() < 5 * n / np.sqrt(12 * 200)


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_a_size_out_of_range_is_named(n):
    with pytest.raises(ValueError, match=f"must be in 1..2.*got {n}"):
        shuffle_positions(jax.random.key(0), n, jnp.arange(3))
