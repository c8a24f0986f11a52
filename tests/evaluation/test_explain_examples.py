"""Explanations by examples and by rules: brute force, closed forms, and training again without a row."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from arsenal.estimators import logistic, ridge
from arsenal.evaluation import explain
from arsenal.evaluation.explain.rules import rule_texts
from arsenal.records import batch

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)


def test_lime_is_scikit_learns_ridge_on_what_is_kept_and_exact_of_a_sum():
    x, others = DRAW.normal(size=(3, 4)).astype(np.float32), np.zeros((1, 4), np.float32)
    slope = jnp.array([1.0, -2.0, 0.5, 0.0])
    found = explain.lime(KEY, lambda w, x: x @ w, slope, batch(x=x), batch(x=others), samples=400, alpha=0.0)
    np.testing.assert_allclose(found.values, x * np.asarray(slope), atol=1e-4)
    np.testing.assert_allclose(found.fidelity, 1, atol=1e-4)
    from arsenal.evaluation.explain.lime import plane

    kept = DRAW.integers(0, 2, (50, 4)).astype(np.float32)
    values = np.stack([np.sin(kept @ np.arange(4.0)), kept[:, 0] * kept[:, 1]], 1).astype(np.float32)
    weight = np.exp(-(1 - kept).mean(1) / 0.75**2)
    theirs = Ridge(alpha=1.0).fit(kept, values, weight)
    mine = plane(jnp.asarray(kept), jnp.asarray(values), 0.75, 1.0)
    np.testing.assert_allclose(mine[0].T, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(mine[1], theirs.intercept_, atol=1e-4)
    best = 1 - (weight[:, None] * (values - theirs.predict(kept)) ** 2).sum(0) / (weight[:, None] * (values - np.average(values, axis=0, weights=weight)) ** 2).sum(0)
    np.testing.assert_allclose(mine[2], best, atol=1e-4)


def test_anchors_hold_the_columns_that_decide():
    others = batch(x=DRAW.uniform(-1, 1, (200, 3)).astype(np.float32))
    rows = batch(x=np.float32([[0.9, 0.9, 0.0], [-0.9, 0.9, 0.0]]))
    answer = lambda _, x: jnp.where((x[:, 0] > 0) & (x[:, 1] > 0), 1.0, -1.0)  # noqa: E731
    found = explain.anchors(KEY, answer, None, rows, others, parts=4, samples=300)
    assert found.held.tolist() == [[True, True, False], [True, False, False]]
    assert (found.precision > 0.9).all() and 0.01 < float(found.coverage[0]) < 0.15 < float(found.coverage[1]) < 0.35
    players = explain.columns_of(rows.x)
    texts = rule_texts(found, rows.x, others, players, [["a", "b", "c"]] * 2)
    assert texts[0].startswith("x 1 > 0.") and " and x 2 > 0." in texts[0] and texts[1].startswith("x 1 <= -0.")


def test_nearest_counterfactuals_change_as_few_columns_as_any_of_the_donors_allows():
    w = np.float32([2, -1, 0.5, 1])
    answer = lambda w, x: x @ w - 1.0  # noqa: E731
    rows = batch(x=DRAW.normal(size=(6, 4)).astype(np.float32))
    others = batch(x=DRAW.normal(size=(12, 4)).astype(np.float32), weight=[0.0] + [1.0] * 11)
    players = explain.columns_of(rows.x)
    found = explain.nearest_counterfactuals(answer, w, rows, others, explain.to_class(1), fixed=["x 3"])
    assert not found.changed[:, 2].any() and players.names[2] == "x 3"
    for i, x in enumerate(np.asarray(rows.x)):
        counts = [
            len(part)
            for other in np.asarray(others.x)[1:] if other @ w > 1
            for size in range(4) for part in itertools.combinations([0, 1, 3], size)
            if np.where(np.isin(np.arange(4), part), other, x) @ w > 1
        ]  # fmt: skip
        assert bool(found.found[i]) == bool(counts)
        if counts:
            assert int(found.changed[i].sum()) == min(counts)
            assert np.asarray(found.x)[i] @ w > 1


@pytest.mark.slow
def test_gradient_counterfactuals_are_sparse_in_range_and_reach_the_class():
    w = jnp.array([[0.0, 0.1], [0.0, 2.0], [0.0, 0.1]])
    others = batch(x=DRAW.uniform(-1, 1, (50, 3)).astype(np.float32))
    rows = batch(x=np.float32([[0, -0.5, 0], [0.2, -0.1, 0.1]]))
    found = explain.gradient_counterfactuals(lambda w, x: x @ w, w, rows, others, explain.to_class(1))
    assert found.found.all() and (np.abs(np.asarray(found.x)) <= 1).all()
    assert found.changed.tolist() == [[False, True, False]] * 2
    held = explain.gradient_counterfactuals(lambda w, x: x @ w, w, rows, others, explain.to_class(1), fixed=["x 2"])
    assert not held.changed[:, 1].any()
    far = explain.gradient_counterfactuals(  # the steepest column alone does not reach it
        lambda _, x: x[:, 0] + 2 * x[:, 1] - 1.4, None, batch(x=np.float32([[-1, -1, 0]])), others, explain.to_class(1)
    )  # fmt: skip
    assert far.found.all() and far.changed.tolist() == [[True, True, False]]
    end = float(others.x[:, 1].max())
    assert float(far.x[0, 1]) == pytest.approx(end, abs=1e-3) and 0 < float(far.x[0, 0]) + 2 * end - 1.4 < 0.1


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_influence_is_training_again_without_the_row(kind):
    n = 60
    x = DRAW.normal(size=(n, 3)).astype(np.float32)
    signal = x @ np.float32([1, -1, 0.5]) + 0.3 * DRAW.normal(size=n).astype(np.float32)
    weight = np.ones(n, np.float32)
    weight[:2] = 0, 2
    made = ridge() if kind == "ridge" else logistic(tolerance=1e-7)
    y = signal if kind == "ridge" else (signal > 0).astype(np.int32)
    hp = made.hp | {"alpha": 1.0}
    fit = jax.jit(lambda weight: made.fit(None, batch(x=x, y=y)._replace(weight=weight), hp)[0])
    params, asked = fit(jnp.asarray(weight)), jnp.asarray(DRAW.normal(size=(4, 3)), jnp.float32)
    score = lambda params, x: x @ params.slope + params.intercept  # noqa: E731

    def losses(params, rows):
        z = score(params, rows.x)
        if kind == "ridge":
            return jnp.square(z - rows.y)
        return jnp.logaddexp(jnp.zeros_like(z), z) - rows.y.astype(z.dtype) * z

    def penalty(params):
        return jnp.square(params.slope).sum() * (1.0 if kind == "ridge" else 0.5)

    found = np.asarray(explain.influence(losses, penalty, score, params, batch(x=x, y=y, weight=weight), asked))
    assert (found[:, 0] == 0).all()
    without = [score(fit(jnp.asarray(np.where(np.arange(n) == i, 0, weight))), asked) - score(params, asked) for i in range(1, 20)]
    wanted = np.array(without).T
    np.testing.assert_allclose(found[:, 1:20], wanted, atol=0.25 * np.abs(wanted).max())
    assert np.corrcoef(found[:, 1:20].ravel(), wanted.ravel())[0, 1] > 0.98


def test_curvature_is_the_ends_of_the_spectrum():
    x = DRAW.normal(size=(30, 6)).astype(np.float32)
    bend = (x.T @ (x * DRAW.normal(size=(30, 1)))).astype(np.float64)
    ends = np.linalg.eigvalsh(bend + bend.T)
    form = jnp.asarray(bend, jnp.float32)
    penalty = lambda params: params @ form @ params  # noqa: E731
    rows = batch(x=x)
    losses = lambda params, rows: jnp.zeros(len(x))  # noqa: E731
    low, high = explain.curvature(KEY, losses, penalty, jnp.zeros(6), rows)
    np.testing.assert_allclose([low, high], ends[[0, -1]], rtol=1e-4)
    assert low < 0 < high


def test_prototypes_are_the_greedy_choice_and_weights_count():
    x = np.concatenate([DRAW.normal(size=(12, 2)), DRAW.normal(size=(6, 2)) + 6, [[3, 9]]]).astype(np.float32)
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(2) / 2)
    found = explain.prototypes(batch(x=x), 3, 1, width=1.0)

    def discrepancy(chosen):
        return kernel.mean() - 2 * kernel[:, chosen].mean() + kernel[np.ix_(chosen, chosen)].mean()

    chosen = []
    for _ in range(3):
        chosen.append(min((i for i in range(19) if i not in chosen), key=lambda i: discrepancy([*chosen, i])))
    assert found.prototypes.tolist() == chosen
    assert float(found.discrepancy) == pytest.approx(discrepancy(chosen), abs=1e-5)
    assert {bool(i >= 12) for i in chosen} == {True, False}
    witness = np.abs(kernel.mean(1) - kernel[:, chosen].mean(1))
    witness[chosen] = -1
    assert found.criticisms.tolist() == [witness.argmax()]
    weight = np.append(np.ones(19), 0)
    more = explain.prototypes(batch(x=np.concatenate([x, [[np.nan] * 2]]), weight=weight), 3, 1, width=1.0)
    assert more.prototypes.tolist() == chosen


def test_a_surrogate_says_rules_and_how_faithful_it_is():
    table = DRAW.uniform(0, 10, (300, 2))
    found = explain.surrogate_tree(table, ["age", "fare"], np.where(table[:, 0] > 5, 3.0, 1.0), leaves=2)
    assert "age <= 5.0" in found.rules or "age <= 4.9" in found.rules
    assert found.fidelity > 0.95
    noise = explain.surrogate_tree(table, ["age", "fare"], DRAW.normal(size=300))
    assert noise.fidelity < 0.3  # on rows that it did not learn from


@pytest.mark.parametrize(("call", "said"), [
    (lambda: explain.prototypes(batch(x=np.zeros((3, 2))), 2, 2), "together <= 3; got 2 and 2"),
    (lambda: explain.surrogate_tree(np.zeros((2, 1)), ["a"], np.zeros(2)), "at least 3 rows"),
    (lambda: explain.to_range(2, 1), "`low` of `to_range` must be < `high`; got 2 and 1"),
    (lambda: explain.nearest_counterfactuals(lambda _, x: x[:, 0], None, batch(x=np.zeros((1, 1), np.float32)), batch(x=np.zeros((1, 1), np.float32)), explain.to_class(1), fixed=["x 1"]), "must leave a player that may change"),
    (lambda: explain.gradient_counterfactuals(lambda _, x: x["a"], None, batch(x={"a": np.zeros(2)}), batch(x={"a": np.zeros(2)}), explain.to_class(1)), r"takes x \[n, d\] of floats"),
    (lambda: explain.influence(None, None, lambda p, x: x, jnp.zeros(2), batch(x=np.zeros((2, 2))), jnp.zeros((2, 2))), r"one number for each row, \[m\]; got \(2, 2\)"),
    (lambda: explain.lime(KEY, lambda _, x: x[:, 0], None, batch(x=np.zeros((1, 1), np.float32)), batch(x=np.zeros((1, 1), np.float32)), samples=1), "`samples` of `lime` must be >= 2; got 1"),
])  # fmt: skip
def test_what_cannot_be_explained_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
