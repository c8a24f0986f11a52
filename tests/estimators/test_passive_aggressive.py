"""Passes over rows in the same order end where scikit-learn's do, to the rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import SGDClassifier, SGDRegressor

from arsenal.estimators import passive_aggressive
from arsenal.records import batch, hyperparameters, row_keys

X, KIND = load_wine(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
NUMBERS, NUMBER = load_diabetes(return_X_y=True)
NUMBERS, NUMBER = NUMBERS[:150] / NUMBERS.std(0), (NUMBER[:150] - NUMBER.mean()) / NUMBER.std()
MIXED = np.random.default_rng(0).permutation(len(X))


def fit(estimator, x, y, weight=None, key=None):
    rows = batch(x=x, y=y, weight=weight)
    estimator.check(rows)
    return jax.jit(estimator.fit)(key, rows, hyperparameters(estimator.hp))


def check_equal(estimator, line, theirs, x):
    np.testing.assert_allclose(np.asarray(line.slope).reshape(x.shape[1], -1).T, theirs.coef_.reshape(-1, x.shape[1]), atol=1e-9)
    np.testing.assert_allclose(np.ravel(line.intercept), theirs.intercept_, atol=1e-9)
    np.testing.assert_allclose(estimator.apply["predict"](line, x), theirs.predict(x), atol=1e-9)


@pytest.mark.parametrize("form", ["pa1", "pa2"])
@pytest.mark.parametrize(("c", "most"), [(0.01, 1000), (1.0, 7)])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_scikit_learns(form, c, most, classes):
    x, y = X[MIXED], KIND[MIXED] if classes == 3 else (KIND[MIXED] == 1).astype(int)
    theirs = SGDClassifier(penalty=None, learning_rate=form, eta0=c, max_iter=most, tol=1e-3 if most > 9 else None, shuffle=False)
    theirs.fit(x, y)
    with jax.enable_x64(True):
        made = passive_aggressive(c, form, max_iterations=most, tolerance=1e-3 if most > 9 else 0.0, shuffle=False, classes=classes)
        line, info = fit(made, x, y)
        check_equal(made, line, theirs, x)
        np.testing.assert_allclose(made.apply["decision_function"](line, x), theirs.decision_function(x), atol=1e-9)
    assert int(info.iterations) == theirs.n_iter_ and bool(info.converged) == (theirs.n_iter_ < most)


@pytest.mark.parametrize("form", ["pa1", "pa2"])
def test_numbers_are_scikit_learns(form):
    theirs = SGDRegressor("epsilon_insensitive", penalty=None, learning_rate=form, eta0=0.02, epsilon=0.3, shuffle=False, tol=1e-4)
    theirs.fit(NUMBERS, NUMBER)
    with jax.enable_x64(True):
        made = passive_aggressive(0.02, form, 0.3, 1e-4, shuffle=False)
        line, info = fit(made, NUMBERS, NUMBER)
        check_equal(made, line, theirs, NUMBERS)
    assert bool(info.converged) and int(info.iterations) == theirs.n_iter_ > 5


def test_rows_come_in_an_order_drawn_anew_for_each_pass():
    x, y = X, KIND  # a class after another: in this order the first would be forgotten
    theirs = SGDClassifier(penalty=None, learning_rate="pa1", eta0=0.1)
    key = jax.random.key(3)
    with jax.enable_x64(True):
        made = passive_aggressive(0.1, max_iterations=3, classes=3)
        line, _ = fit(made, x, y, key=key)
        for i in range(3):
            keys = row_keys(jax.random.fold_in(key, i), jnp.arange(len(x)))
            order = np.argsort(jax.vmap(lambda one: jax.random.bits(one, (), jnp.uint32))(keys), kind="stable")
            for at in order:
                theirs.partial_fit(x[at : at + 1], y[at : at + 1], classes=[0, 1, 2])
        check_equal(made, line, theirs, x)
    assert theirs.score(x, y) > 0.97


def test_a_weight_is_a_number_of_times_and_its_rest_a_smaller_bound():
    x, y = X[MIXED][:30], KIND[MIXED][:30]
    weight = np.arange(30) % 3.0
    with jax.enable_x64(True):
        made = passive_aggressive(0.05, max_iterations=2, tolerance=0.0, shuffle=False, classes=3)
        (line, _), (twice, _) = fit(made, x, y, weight), fit(made, np.repeat(x, weight.astype(int), 0), np.repeat(y, weight.astype(int)))
        np.testing.assert_allclose(line.slope, twice.slope, atol=1e-12)
        half, whole = fit(made, x, y, np.full(30, 0.5))[0], fit(passive_aggressive(0.025, max_iterations=2, tolerance=0.0, shuffle=False, classes=3), x, y)[0]
        np.testing.assert_allclose(half.slope, whole.slope, atol=1e-12)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="`form` of `passive_aggressive` must be pa1 or pa2; got 'pa3'"):
        passive_aggressive(form="pa3")
    with pytest.raises(ValueError, match="`epsilon` of `passive_aggressive` is for numbers; there are 2 classes, and got 0.1"):
        passive_aggressive(epsilon=0.1, classes=2)
    with pytest.raises(ValueError, match=r"`passive_aggressive` takes labels 0 to 1; got \[0, 5\]"):
        passive_aggressive(classes=2).check(batch(x=jnp.ones((2, 1)), y=[0, 5]))
