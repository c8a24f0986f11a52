"""Nearest rows are found whatever the block, the number of rows that ask, and the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.export import symbolic_shape
from sklearn.neighbors import KNeighborsRegressor

from arsenal.estimators import k_neighbors, neighbors, radius_neighbors
from arsenal.records import batch


@pytest.fixture(scope="module")
def rows():
    draw = np.random.default_rng(0)
    return draw.normal(size=(60, 3)).astype(np.float32), draw.normal(size=60).astype(np.float32), draw.normal(size=(23, 3)).astype(np.float32)


@pytest.mark.parametrize("held", [1, 400, 460, 1 << 20])
def test_blocks_change_nothing(rows, held, monkeypatch):
    monkeypatch.setattr(neighbors, "HELD", held)
    x, y, asked = rows
    made = k_neighbors(3)
    got = jax.jit(made.apply["predict"])(made.fit(None, batch(x=x, y=y), {})[0], asked)
    np.testing.assert_allclose(got, KNeighborsRegressor(3).fit(x, y).predict(asked), rtol=1e-5)


def test_fractions_of_rows_add_up_to_neighbours(rows):
    """Five copies of a fifth each are the row."""
    x, y, asked = rows
    made = k_neighbors(3, "distance")
    fitted = made.fit(None, batch(x=x.repeat(5, 0), y=y.repeat(5), weight=np.full(300, 0.2)), {})[0]
    wanted = KNeighborsRegressor(3, weights="distance").fit(x, y).predict(asked)
    np.testing.assert_allclose(made.apply["predict"](fitted, asked), wanted, rtol=1e-4)


def test_far_from_the_origin_rows_are_told_apart(rows):
    x, y, _ = rows
    made = k_neighbors(1)
    fitted = made.fit(None, batch(x=x + 1000, y=y), {})[0]
    np.testing.assert_array_equal(made.apply["predict"](fitted, x + 1000), y)
    ball = radius_neighbors(1.0, "distance")
    fitted = ball.fit(None, batch(x=x + 1000, y=y), {"radius": 1.0})[0]
    np.testing.assert_array_equal(ball.apply["predict"](fitted, x + 1000), y)


def test_any_number_of_rows_may_ask(rows):
    x, y, _ = rows
    made = k_neighbors(3)
    fitted = made.fit(None, batch(x=x, y=y), {})[0]
    (n,) = symbolic_shape("n")
    assert jax.eval_shape(made.apply["predict"], fitted, jax.ShapeDtypeStruct((n, 3), jnp.float32)).shape == (n,)


def test_where_no_row_is_near_the_answer_is_that_of_all(rows):
    x, y, _ = rows
    made = radius_neighbors(0.5)
    fitted = made.fit(None, batch(x=x, y=y), {"radius": 0.5})[0]
    np.testing.assert_allclose(made.apply["predict"](fitted, np.full((1, 3), 99, np.float32)), [y.mean()], rtol=1e-5)


def test_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"`neighbors`, 5; got 4\."):
        k_neighbors(5).check(batch(x=rows[0][:4], y=rows[1][:4]))
