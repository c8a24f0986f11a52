"""Shapley values: brute force over coalitions, closed forms, and the numbers of the library `shap`."""

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.evaluation import explain
from arsenal.evaluation.explain.shapley import draw_coalitions
from arsenal.records import batch

KEPT = Path(__file__).resolve().parents[1] / "kept" / "explanations"
KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
X, OTHERS = DRAW.normal(size=(6, 4)).astype(np.float32), DRAW.normal(size=(9, 4)).astype(np.float32)
WEIGHT = np.array([1, 2, 0.5, 1, 0, 1, 1, 1, 3], np.float32)
W = jnp.asarray(DRAW.normal(size=(4, 3)), jnp.float32)


def scores(w, x):
    return jnp.tanh(x @ w) + (x[:, :1] * x[:, 1:2]) * jnp.array([1.0, 0.0, -1.0])


def by_definition(x, others, weight):
    """One row's values, from the sum over all coalitions without a player, in NumPy."""
    count = len(x)

    def worth(inside):
        mixed = others.copy()
        mixed[:, list(inside)] = x[list(inside)]
        return np.average(np.asarray(scores(W, jnp.asarray(mixed))), axis=0, weights=weight)

    found = []
    for i in range(count):
        rest = [j for j in range(count) if j != i]
        found.append(sum(
            math.factorial(len(s)) * math.factorial(count - len(s) - 1) / math.factorial(count) * (worth((*s, i)) - worth(s))
            for size in range(count) for s in itertools.combinations(rest, size)
        ))  # fmt: skip
    return np.array(found)


WANTED = np.array([by_definition(x, OTHERS, WEIGHT) for x in X])
ROWS, BACKGROUND = batch(x=X), batch(x=OTHERS, weight=WEIGHT)
FULL = {
    "exact": explain.exact_shapley,
    "kernel": lambda *given: explain.kernel_shapley(KEY, *given),
    "sampling": lambda *given: explain.sampling_shapley(KEY, *given, permutations=400),
}


@pytest.mark.parametrize("method", FULL)
def test_values_are_those_of_the_definition(method):
    found = FULL[method](scores, W, ROWS, BACKGROUND)
    np.testing.assert_allclose(found.values, WANTED, atol=0.08 if method == "sampling" else 2e-5)
    np.testing.assert_allclose(explain.gap(found, scores(W, X)), 0, atol=1e-5)


@pytest.mark.parametrize("method", FULL)
def test_rows_that_are_not_there_change_nothing_and_weight_two_is_the_row_twice(method):
    dead = batch(x=np.concatenate([OTHERS, np.full((1, 4), np.nan, np.float32)]), weight=np.append(WEIGHT, 0))
    twice = batch(x=np.concatenate([OTHERS, OTHERS[1:2]]), weight=np.append(np.where(WEIGHT == 2, 1, WEIGHT), 1))
    wanted = FULL[method](scores, W, ROWS, BACKGROUND).values
    for background in (dead, twice):
        np.testing.assert_allclose(FULL[method](scores, W, ROWS, background).values, wanted, atol=1e-5)


def test_a_linear_answer_has_its_closed_form():
    slope = W[:, 0]
    mean = np.average(OTHERS, axis=0, weights=WEIGHT)
    found = explain.linear_shapley(lambda w, x: x @ w, slope, ROWS, BACKGROUND)
    np.testing.assert_allclose(found.values, (X - mean) * np.asarray(slope), atol=1e-5)
    assert float(jnp.abs(explain.gap(explain.linear_shapley(scores, W, ROWS, BACKGROUND), scores(W, X))).max()) > 0.1


def test_a_rows_values_are_its_own_wherever_it_stands():
    turned = ROWS._replace(x=ROWS.x[::-1], row=ROWS.row[::-1])
    one, other = (explain.sampling_shapley(KEY, scores, W, rows, BACKGROUND, permutations=3).values for rows in (ROWS, turned))
    np.testing.assert_allclose(one, other[::-1], atol=1e-6)


def test_unions_play_as_one():
    players = explain.columns_of(X, unions={"both": ["x 1", "x 3"]})
    assert players.names == ("both", "x 2", "x 4")
    found = explain.exact_shapley(lambda _, x: x[:, 0] * x[:, 2] + x[:, 1], None, batch(x=np.ones((1, 4), np.float32)), batch(x=np.zeros((1, 4), np.float32)), players)
    np.testing.assert_allclose(found.values, [[1, 1, 0]], atol=1e-6)


def test_drawn_coalitions_come_in_pairs_and_weigh_as_the_kernel_does():
    present, weight = (np.asarray(part) for part in draw_coalitions(KEY, 9, 250))
    assert 248 <= len(present) <= 250
    size = present.sum(1)
    share = np.array([8 / (s * (9 - s)) for s in range(1, 9)])
    got = np.array([weight[size == s].sum() for s in range(1, 9)])
    np.testing.assert_allclose(got[[0, 1, 6, 7]], share[[0, 1, 6, 7]], rtol=1e-5)  # asked whole
    np.testing.assert_allclose(got[2:6].sum(), share[2:6].sum(), rtol=1e-5)
    drawn = {tuple(one) for one in present.tolist()}
    assert all(tuple(not bit for bit in one) in drawn for one in drawn)


def test_a_single_column_has_all_of_the_answer():
    x, others = np.array([[2.0], [-1.0]], np.float32), np.array([[1.0], [3.0], [5.0]], np.float32)
    found = explain.kernel_shapley(KEY, lambda w, x: w * x[:, 0] ** 2, jnp.float32(2), batch(x=x), batch(x=others))
    np.testing.assert_allclose(np.asarray(found.values).reshape(2), 2 * x[:, 0] ** 2 - 2 * (1 + 9 + 25) / 3, rtol=1e-5)


@pytest.mark.parametrize("name", ["kernel_all", pytest.param("kernel_some", marks=pytest.mark.slow)])
def test_kernel_values_are_shaps(name):
    kept = json.loads((KEPT / f"{name}.json").read_text())
    x, others, slope = (np.array(kept[part], np.float32) for part in ("x", "background", "slope"))
    answer = lambda w, x: jax.nn.sigmoid(x @ w + jnp.sin(3 * x[:, 0]) * x[:, 1])  # noqa: E731
    found = explain.kernel_shapley(KEY, answer, slope, batch(x=x), batch(x=others))
    np.testing.assert_allclose(found.base, kept["base"], atol=1e-6)
    np.testing.assert_allclose(found.values, kept["values"], atol=2e-6 if name == "kernel_all" else 0.01)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: explain.exact_shapley(lambda _, x: x.sum(1), None, batch(x=np.ones((1, 13), np.float32)), batch(x=np.ones((1, 13), np.float32))), "at most 12 players; got 13"),
    (lambda: explain.exact_shapley(scores, W, ROWS, batch(x=OTHERS, weight=np.zeros(9))), "`background` of `exact_shapley` must have a row that is there; got 9 rows, none"),
    (lambda: explain.exact_shapley(lambda w, x: jnp.argmax(x @ w, 1), W, ROWS, BACKGROUND), r"must give scores, floats \[n\] or \[n, k\]; got int32 \[6\]"),
    (lambda: explain.exact_shapley(lambda w, x: {"a": x}, W, ROWS, BACKGROUND), "got a dict"),
    (lambda: explain.kernel_shapley(KEY, scores, W, ROWS, BACKGROUND, coalitions=3), "must be >= 8, twice its players; got 3"),
    (lambda: explain.sampling_shapley(KEY, scores, W, ROWS, BACKGROUND, permutations=0), "`permutations` of `sampling_shapley` must be >= 1; got 0"),
])  # fmt: skip
def test_what_cannot_be_explained_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
