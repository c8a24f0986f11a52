"""Importance and dependence: scikit-learn's numbers, closed forms, and what weights mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence, permutation_importance

from arsenal import losses, metrics
from arsenal.evaluation import explain
from arsenal.records import batch

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
N = 400
X = DRAW.normal(size=(N, 4)).astype(np.float32)
X[:, 3] = X[:, 0] + 0.05 * DRAW.normal(size=N)  # nearly a copy
Y = (2 * X[:, 0] + np.sin(3 * X[:, 1])).astype(np.float32)
ROWS = batch(x=X, y=Y)


def answer(_, x):
    return 2 * x[:, 0] + jnp.sin(3 * x[:, 1])


class Fitted(RegressorMixin, BaseEstimator):
    """The same function as scikit-learn asks it."""

    def fit(self, x, y):
        self.n_features_in_, self.is_fitted_ = x.shape[1], True
        return self

    def predict(self, x):
        return np.asarray(answer(None, jnp.asarray(x, jnp.float32)))


def importance(rows=ROWS, measure=None, repeats=20, **more):
    squared = lambda answer, rows: jnp.average(jnp.square(jnp.where(rows.weight > 0, answer - rows.y, 0)), weights=rows.weight)  # noqa: E731
    return explain.permutation_importance(KEY, answer, None, rows, measure or squared, repeats=repeats, **more)


def test_permutation_importance_is_scikit_learns():
    found = importance()
    theirs = permutation_importance(Fitted().fit(X, Y), X, Y, scoring="neg_mean_squared_error", n_repeats=20, random_state=0)
    error = theirs.importances_std / np.sqrt(20) + np.asarray(found.deviation) / np.sqrt(20)
    assert (np.abs(found.mean - theirs.importances_mean) < 5 * error + 1e-5).all()
    np.testing.assert_allclose(found.mean[2:], 0, atol=1e-6)


def test_measures_are_metrics_and_losses():
    named = lambda _, x: {"predict": answer(None, x)}  # noqa: E731
    by_metric = explain.permutation_importance(KEY, named, None, ROWS, metrics.mean_squared_error(), repeats=3).mean
    np.testing.assert_allclose(by_metric, importance(repeats=3).mean, atol=1e-5)
    np.testing.assert_allclose(importance(measure=losses.squared_error(), repeats=3).mean, importance(repeats=3).mean, atol=1e-5)
    r2 = explain.permutation_importance(KEY, named, None, ROWS, metrics.r2_score(), repeats=3)
    assert float(r2.baseline) == pytest.approx(-1) and float(r2.mean[0]) > 0.5


@pytest.mark.slow
def test_rows_that_are_not_there_take_no_part_wherever_rows_stand():
    more = batch(x=np.concatenate([np.full((3, 4), np.nan, np.float32), X[::-1]]), y=np.append(np.float32([9] * 3), Y[::-1]),
                 weight=np.append(np.zeros(3), np.ones(N)), row=np.append([900, 901, 902], np.arange(N)[::-1]))  # fmt: skip
    np.testing.assert_allclose(importance(more, repeats=2).repeats, importance(repeats=2).repeats, atol=1e-4)


def test_a_union_is_dealt_out_together_and_strata_tell_a_copy():
    both = explain.columns_of(X, unions={"both": ["x 1", "x 2"]})
    assert float(importance(players=both).mean[0]) == pytest.approx(float(importance().mean[:2].sum()), rel=0.2)
    strata = explain.conditional_strata(ROWS)
    assert strata.shape == (4, N) and strata[0].max() > 0
    given = importance(strata=strata)
    assert float(given.mean[0]) < 0.2 * float(importance().mean[0])  # the copy tells it
    assert float(given.mean[1]) == pytest.approx(float(importance().mean[1]), rel=0.3)  # nothing tells this one


@pytest.mark.parametrize("player", ["x 1", "x 2"])
def test_partial_dependence_and_curves_are_scikit_learns(player):
    at = int(player[2:]) - 1
    theirs = partial_dependence(Fitted().fit(X, Y), X, [at], kind="both", grid_resolution=9)
    grid = explain.grid_of(X, explain.columns_of(X), player, 9)
    np.testing.assert_allclose(np.asarray(grid)[:, at], theirs["grid_values"][0], atol=0.05)  # whose quantiles are of another kind
    grid[:, at] = theirs["grid_values"][0]
    found = explain.partial_dependence(answer, None, ROWS, grid, player)
    np.testing.assert_allclose(found.mean, theirs["average"][0], atol=1e-5)
    np.testing.assert_allclose(found.each.T, theirs["individual"][0], atol=1e-5)


def test_partial_dependence_counts_by_weight():
    rows = batch(x=np.float32([[0, 1], [0, 3], [0, np.nan]]), weight=[1.0, 2.0, 0.0])
    found = explain.partial_dependence(lambda _, x: x[:, 0] * x[:, 1], None, rows, jnp.array([[3.0, 0.0]]), "x 1")
    assert found.mean.tolist() == [7.0]


def test_grids_are_values_of_columns():
    x = {"numeric": np.float32([[1], [np.nan], [2]]), "categorical": np.int32([[4], [4], [0]])}
    players = explain.columns_of(x)
    grid = explain.grid_of(x, players, "categorical 1")
    assert grid["categorical"].tolist() == [[0], [4]] and grid["categorical"].dtype == np.int32
    assert explain.grid_of(x, players, "numeric 1")["numeric"].tolist() == [[1], [2]]


@pytest.mark.slow
def test_accumulated_effects_of_a_sum_are_the_function_though_columns_go_together():
    effects = explain.accumulated_effects(answer, None, ROWS, "x 2", bins=25)
    wanted = np.sin(3 * np.asarray(effects.edges))
    inner = slice(3, -3)
    np.testing.assert_allclose(effects.effect[inner], wanted[inner] - np.sin(3 * X[:, 1]).mean(), atol=0.08)
    twice = batch(x=np.concatenate([X, np.full((1, 4), np.nan, np.float32)]), weight=np.append(np.full(N, 2), 0))
    again = explain.accumulated_effects(answer, None, twice, "x 2", bins=25)
    np.testing.assert_allclose(again.effect, effects.effect, atol=1e-4)
    product = explain.accumulated_effects(lambda _, x: x[:, 0] * x[:, 3], None, ROWS, "x 1", bins=10)
    assert float(product.effect[-1]) > 2  # about x²/2 of each, where partial dependence is flat


def effects_by_loops(answer, x, i, j, bins):
    """Second-order effects as Apley and Zhu define them (section 3; `ALEPlot`'s choices), row by row and cell by cell."""
    n, pair = len(x), (i, j)
    edges = [np.r_[np.sort(x[:, c])[0], [np.sort(x[:, c])[int(np.ceil(k * n / bins)) - 1] for k in range(1, bins + 1)]] for c in pair]
    place = [[max(0, int(np.searchsorted(e, v, "left")) - 1) for v in x[:, c]] for e, c in zip(edges, pair, strict=True)]
    total, count = np.zeros((bins, bins)), np.zeros((bins, bins))
    for row, k, m in zip(x, *place, strict=True):
        corners = []
        for up, right in ((1, 1), (0, 1), (1, 0), (0, 0)):
            moved = row.copy()
            moved[i], moved[j] = edges[0][k + up], edges[1][m + right]
            corners.append(answer(moved))
        total[k, m] += corners[0] - corners[1] - corners[2] + corners[3]
        count[k, m] += 1
    middle = [(e[1:] + e[:-1]) / 2 / (e[-1] - e[0]) for e in edges]
    full = [(a, b) for a in range(bins) for b in range(bins) if count[a, b]]
    local = np.zeros((bins, bins))
    for a in range(bins):
        for b in range(bins):
            near = min(full, key=lambda c: (middle[0][c[0]] - middle[0][a]) ** 2 + (middle[1][c[1]] - middle[1][b]) ** 2)
            local[a, b] = total[near] / count[near]
    whole = np.zeros((bins + 1, bins + 1))
    for a in range(bins):
        for b in range(bins):
            whole[a + 1, b + 1] = local[: a + 1, : b + 1].sum()
    first, second = np.zeros(bins + 1), np.zeros(bins + 1)
    for a in range(bins):
        slopes = [(whole[a + 1, b] - whole[a, b] + whole[a + 1, b + 1] - whole[a, b + 1]) / 2 for b in range(bins)]
        first[a + 1] = first[a] + np.average(slopes, weights=count[a])
        slopes = [(whole[b, a + 1] - whole[b, a] + whole[b + 1, a + 1] - whole[b + 1, a]) / 2 for b in range(bins)]
        second[a + 1] = second[a] + np.average(slopes, weights=count[:, a])
    effect = whole - first[:, None] - second[None]
    corners = (effect[1:, 1:] + effect[:-1, 1:] + effect[1:, :-1] + effect[:-1, :-1]) / 4
    return effect - (count * corners).sum() / n


@pytest.mark.slow
def test_second_order_effects_are_those_of_loops_and_weights_count():
    x = X[:150, :3]
    one = lambda row: np.sin(2 * row[0]) + row[0] * row[2] + row[1] ** 2  # noqa: E731
    many = lambda _, x: jnp.stack([jnp.sin(2 * x[:, 0]) + x[:, 0] * x[:, 2] + x[:, 1] ** 2, x[:, 0] + x[:, 1]], 1)  # noqa: E731
    effects = jax.jit(lambda rows: explain.second_order_effects(many, None, rows, ("x 1", "x 3"), bins=6))
    found = effects(batch(x=x))
    np.testing.assert_allclose(found.effect[..., 0], effects_by_loops(one, x.astype(float), 0, 2, 6), atol=2e-4)
    np.testing.assert_allclose(found.effect[..., 1], 0, atol=1e-5)
    twice = batch(x=np.concatenate([x, np.full((1, 3), np.nan, np.float32)]), weight=np.append(np.full(150, 2), 0))
    np.testing.assert_allclose(effects(twice).effect, found.effect, atol=1e-5)
    square = DRAW.uniform(-1, 1, (4000, 2)).astype(np.float32)
    multiply = lambda _, x: x[:, 0] * x[:, 1]  # noqa: E731
    product = jax.jit(lambda rows: explain.second_order_effects(multiply, None, rows, ("x 1", "x 2")))(batch(x=square))
    wanted = np.outer(product.edges - square[:, 0].mean(), product.across - square[:, 1].mean())
    np.testing.assert_allclose(product.effect, wanted, atol=0.03)


@pytest.mark.slow
def test_interactions_are_shares_of_variance():
    x = DRAW.normal(size=(60, 3)).astype(np.float32)
    x = x - x.mean(0)
    found = explain.interactions(lambda _, x: x[:, 0] + x[:, 1] * x[:, 2], None, batch(x=x))
    np.testing.assert_allclose(found[0, 1:], 0, atol=1e-6)
    assert float(found[1, 2]) == pytest.approx(1, abs=0.01) and float(found[1, 2]) == float(found[2, 1])


@pytest.mark.parametrize(("call", "said"), [
    (lambda: importance(repeats=0), "`repeats` of `permutation_importance` must be >= 1; got 0"),
    (lambda: importance(ROWS._replace(weight=np.zeros(N))), "needs a row that is there"),
    (lambda: importance(measure=metrics.average("mean", lambda outputs, rows: outputs, None)), "its mode is None"),
    (lambda: explain.partial_dependence(answer, None, ROWS, X[:2], "age"), "`player` must be one of x 1, x 2, x 3, x 4; got 'age'"),
    (lambda: explain.accumulated_effects(lambda _, x: x["a"][:, 0] * 1.0, None, batch(x={"a": np.ones((3, 1), np.float32), "b": np.ones((3, 1), np.int32)}), "b 1"), "must be one column of numbers; `b 1` is not"),
    (lambda: explain.second_order_effects(answer, None, ROWS, ("x 1", "x 1")), "two different columns; got x 1, x 1"),
    (lambda: explain.columns_of(np.zeros((2, 3, 3))), "`patches_of` makes players of squares"),
    (lambda: explain.columns_of(X, unions={"a": ["x 1"], "b": ["x 1"]}), "each in one union; got `x 1`"),
    (lambda: explain.patches_of(X, 2), "takes images"),
])  # fmt: skip
def test_what_cannot_be_explained_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
