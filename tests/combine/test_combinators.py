"""Every combinator against another library, or against the formula written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import worlds
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arsenal import combine, estimators, features
from arsenal.data import nothing
from arsenal.records import Learner, Mean, batch, compute, hyperparameters
from arsenal.training.driver import advance, start, streams

rng = np.random.default_rng(5)
X = rng.normal(size=(12, 3)).astype(np.float32)
ROWS = batch(x=X, y=X @ [2.0, -1.0, 0.5] + 1, weight=rng.uniform(0.5, 2, 12))
CLASSES = ROWS._replace(y=jnp.arange(12) % 3)
KEY = jax.random.key(7)


def steps(learner: Learner, rows, many: int) -> list:
    """The state after every step."""
    hp = hyperparameters(learner.hp)
    state, seen = learner.init(KEY, rows, hp), []
    step = jax.jit(learner.step)
    for i in range(many):
        state, _ = step(jax.random.fold_in(KEY, i), state, rows, hp)
        seen.append(state)
    return seen


def walker() -> Learner:
    """A state [2] that takes a step of noise, and a value that is not finite where the rows say so."""

    def step(key, state, rows, hp):
        state = state + jax.random.normal(key, (2,)) * hp["size"] + 0 * rows.y.sum()
        return state, {"size": Mean(jnp.abs(state).sum(), jnp.ones(()))}

    apply = {"predict": lambda state, x: x[:, :2] @ state, "predict_proba": lambda state, x: jax.nn.softmax(x[:, :2] * state)}
    return Learner(lambda key, rows, hp: jax.random.normal(key, (2,)), step, lambda state: state, apply, hp={"size": 0.5})


@pytest.mark.parametrize("decay", [0.9, 0.2, 0.0])
def test_an_average_is_optaxs(decay):
    averaged, alone = steps(combine.ema(walker(), decay), ROWS, 4), steps(walker(), ROWS, 4)
    theirs = walker().init(KEY, ROWS, {})
    for ours, state in zip(averaged, alone, strict=True):
        theirs = optax.incremental_update(state, theirs, step_size=1 - decay)
        np.testing.assert_allclose(ours.average, theirs, atol=1e-6)
        np.testing.assert_allclose(ours.state, state, atol=1e-6)


def test_a_member_is_the_learner_alone_with_its_own_key():
    seeds, sizes = (3, 0, 11), [0.5, 1.0, 2.0]
    many = combine.population(walker(), seeds)
    hp = {"size": jnp.array(sizes)}
    states = many.init(KEY, ROWS, hp)
    after, metrics = many.step(jax.random.fold_in(KEY, 1), states, ROWS, hp)
    for i, (seed, size) in enumerate(zip(seeds, sizes, strict=True)):
        own = np.asarray(jax.random.normal(jax.random.fold_in(KEY, seed), (2,)))
        noise = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, 1), seed), (2,)))
        np.testing.assert_allclose(states[i], own, atol=1e-6)
        np.testing.assert_allclose(after[i], own + size * noise, atol=1e-6)
        np.testing.assert_allclose(metrics["size"].total[i], np.abs(own + size * noise).sum(), rtol=1e-5)


def test_members_see_the_rows_that_they_are_given():
    def fold(seed, rows):
        return rows._replace(weight=jnp.where(rows.row % 2 == seed.astype(jnp.int32), rows.weight, 0.0))

    many = combine.population(combine.whole(estimators.ridge(0.1)), (0, 1), fold)
    state, _ = jax.jit(many.step)(KEY, many.init(KEY, ROWS, hyperparameters(many.hp)), ROWS, hyperparameters(many.hp))
    for seed in (0, 1):
        mine = np.arange(12) % 2 == seed
        theirs = Ridge(alpha=0.1).fit(X[mine], ROWS.y[mine], ROWS.weight[mine])
        np.testing.assert_allclose(many.params(state).slope[seed], theirs.coef_, rtol=1e-4)


def test_an_ensemble_averages_numbers_and_takes_the_label_of_the_mean():
    several = combine.ensemble(walker(), 3)
    params = several.params(several.init(KEY, ROWS, hyperparameters(several.hp)))
    single = [np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), (2,))) for i in range(3)]
    np.testing.assert_allclose(several.apply["predict"](params, X), np.mean([X[:, :2] @ p for p in single], 0), atol=1e-5)
    scores = np.exp([X[:, :2] * p for p in single])
    np.testing.assert_allclose(
        several.apply["predict_proba"](params, X), (scores / scores.sum(-1, keepdims=True)).mean(0), atol=1e-5
    )


def test_parts_of_a_batch_are_its_sums():
    for parts in (1, 2, 5):
        learner = combine.learner(worlds.mean_by_gradient(0.25), parts)
        x, weight, wanted = np.asarray(ROWS.x), np.asarray(ROWS.weight), np.zeros(3)
        for state in steps(learner, ROWS, 3):
            wanted = wanted - 0.25 * (wanted - weight @ x / weight.sum())
            np.testing.assert_allclose(state, wanted, atol=1e-6)


def test_a_pipeline_is_scikit_learns():
    pipeline = combine.after(combine.chain(features.scale(2.0, 1.0), features.standardize()), estimators.ridge(0.3))
    fitted, _ = jax.jit(pipeline.fit)(KEY, ROWS, hyperparameters(pipeline.hp))
    theirs = make_pipeline(StandardScaler(), Ridge(alpha=0.3))
    theirs.fit(2 * X + 1, ROWS.y, standardscaler__sample_weight=ROWS.weight, ridge__sample_weight=ROWS.weight)
    np.testing.assert_allclose(pipeline.apply["predict"](fitted, X), theirs.predict(2 * X + 1), atol=1e-4)


def test_a_chain_goes_from_left_to_right_and_back():
    both = combine.chain(features.scale(3.0), features.scale(1.0, 5.0))
    state, rows = both.fit(KEY, ROWS, hyperparameters(both.hp))
    np.testing.assert_allclose(rows.x, 3 * X + 5, rtol=1e-6)
    np.testing.assert_allclose(both.inverse(state, rows.x), X, atol=1e-6)


def test_a_fit_as_one_step_is_scikit_learns():
    learner = combine.whole(estimators.ridge(0.5))
    (fitted,) = steps(learner, ROWS, 1)
    theirs = Ridge(alpha=0.5).fit(X, ROWS.y, ROWS.weight)
    np.testing.assert_allclose(learner.apply["predict"](learner.params(fitted), X), theirs.predict(X), atol=1e-4)


def test_a_step_that_goes_wrong_is_left_out_as_optax_leaves_it_out():
    learner = combine.skipping(walker())
    bad = ROWS._replace(y=ROWS.y.at[0].set(jnp.nan))
    hp = hyperparameters(learner.hp)
    state = learner.init(KEY, ROWS, hp)
    theirs = optax.apply_if_finite(optax.scale(1.0), max_consecutive_errors=100)
    kept, their_state = state, theirs.init(state)
    for i, rows in enumerate((ROWS, bad, bad, ROWS)):
        key = jax.random.fold_in(KEY, i)
        noise = jax.random.normal(key, (2,)) * 0.5 + 0 * rows.y.sum()
        update, their_state = theirs.update(noise, their_state)
        kept = optax.apply_updates(kept, update)
        state, metrics = learner.step(key, state, rows, hp)
        np.testing.assert_allclose(state, kept, atol=1e-6)
        assert float(compute(metrics)["skipped"]) == (rows is bad)


def test_every_step_draws_noise_of_its_own():
    learner = walker()
    train = start(learner, nothing(), 3)
    source = nothing()._replace(at=lambda key, block, step: ROWS)
    state, key = np.asarray(train.state), streams(jax.random.key(3))["step"]
    for step in range(3):
        state = state + 0.5 * np.asarray(jax.random.normal(jax.random.fold_in(key, step), (2,)))
    train, *_ = advance(learner, source)(train, nothing().block(0, 1), jnp.int32(3))
    np.testing.assert_allclose(train.state, state, atol=1e-6)


def test_an_answer_is_a_feature():
    made = combine.as_transform(estimators.gaussian_bayes(classes=3), "predict_proba")
    state, seen = made.fit(KEY, CLASSES, hyperparameters(made.hp))
    np.testing.assert_allclose(seen.x.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(seen.x, made.apply(state, CLASSES.x))
    with pytest.raises(ValueError, match="`answer` of `as_transform` must be one of the estimator's, predict; got 'transform'"):
        combine.as_transform(estimators.ridge())
    with pytest.raises(ValueError, match="`as_transform` takes an answer of floats; `cluster` gives int32"):
        made = combine.as_transform(estimators.kmeans(2), "cluster")
        jax.eval_shape(made.fit, KEY, CLASSES, hyperparameters(made.hp))
