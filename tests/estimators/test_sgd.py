"""A step of one row is scikit-learn's; steps of all rows end where the elastic net is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import ElasticNet, SGDClassifier, SGDRegressor

from arsenal.estimators import sgd
from arsenal.records import batch, hyperparameters

X, KIND = load_wine(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
NUMBER = X[:, 0] * 2 + X[:, 3]


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "log", "perceptron", "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"])
def test_a_step_of_a_row_is_scikit_learns(loss):
    numbers = loss in ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
    peer = SGDRegressor if numbers else SGDClassifier
    theirs = peer(loss={"log": "log_loss"}.get(loss, loss), alpha=0.05, learning_rate="constant", eta0=0.02, epsilon=0.3)
    order = np.random.default_rng(0).permutation(len(X))[:25]
    y = NUMBER if numbers else KIND
    with jax.enable_x64(True):
        learner = sgd(loss, 0.05, learning_rate=0.02, epsilon=0.3, classes=3)
        hp = hyperparameters(learner.hp)
        state, step = learner.init(None, batch(x=X[:1]), hp), jax.jit(learner.step)
        for at in order:
            state, means = step(None, state, batch(x=X[at : at + 1], y=y[at : at + 1]), hp)
            theirs.partial_fit(X[at : at + 1], y[at : at + 1], **({} if numbers else {"classes": [0, 1, 2]}))
        line = learner.params(state)
        np.testing.assert_allclose(np.asarray(line.slope).reshape(13, -1), theirs.coef_.reshape(-1, 13).T, atol=1e-10)
        np.testing.assert_allclose(np.ravel(line.intercept), theirs.intercept_, atol=1e-10)
        np.testing.assert_array_equal(learner.apply["predict"](line, X), theirs.predict(X)) if not numbers else None
        if loss == "log":
            np.testing.assert_allclose(learner.apply["predict_proba"](line, X), theirs.predict_proba(X), atol=1e-10)
    assert float(means["loss"].weight) == 1


def test_all_rows_end_at_the_elastic_net():
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    theirs = ElasticNet(0.1, l1_ratio=0.7, tol=1e-12, max_iter=10_000).fit(x, y)
    with jax.enable_x64(True):
        learner = sgd("squared_error", 0.1, 0.7, 0.2)
        hp, rows = hyperparameters(learner.hp), batch(x=x, y=y)
        state = learner.init(None, rows, hp)
        state = jax.jit(lambda state: jax.lax.fori_loop(0, 800, lambda i, s: learner.step(None, s, rows, hp)[0], state))(state)
    np.testing.assert_allclose(state.line.slope, theirs.coef_, atol=1e-7)
    assert ((np.asarray(state.line.slope) == 0) == (theirs.coef_ == 0)).all() and (theirs.coef_ == 0).any()


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="`loss` of `sgd` must be one of hinge, squared_hinge, .*; got 'logistic'"):
        sgd("logistic")
    with pytest.raises(ValueError, match=r"`sgd` takes labels 0 to 1; got \[0, 5\]"):
        sgd().check(batch(x=jnp.ones((2, 1)), y=[0, 5]))
