"""A step lowers, and an evaluation measures, the same mean: by the floats it is given, over rows or over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics as sk

from arsenal import losses, metrics, optim, training
from arsenal.combine import ema, population, skipping
from arsenal.evaluation.answers import scorer
from arsenal.records import Model, batch, compute, hyperparameters

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype(np.float32), RNG.integers(0, 4, 12)


def linear(classes: int = 4, positions: tuple[int, ...] = ()) -> Model:
    """Logits [n, *positions, classes] that are linear in x."""

    def init(key, x):
        return {"params": jax.random.normal(key, (x.shape[1], int(np.prod((*positions, classes)))))}

    return Model(init, lambda v, x, training=None: ((x @ v["params"]).reshape(len(x), *positions, classes), {}))


def smooth(amount: float):
    return training.supervised(linear(), losses.cross_entropy(amount), optim.sgd(0.1))


def test_a_lane_is_judged_by_its_own_floats():
    rows, learner = batch(x=X, y=Y), smooth(0.0)
    keys, hp = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32)), hyperparameters(learner.hp)
    params = learner.params(learner.init(jax.random.key(0), rows, hp))
    both = jax.tree.map(lambda v: jnp.stack([v, v]), (params, hp))
    both[1]["loss"]["label_smoothing"] = jnp.array([0.0, 0.3])
    judged = scorer(learner, {}, rows, 5, lanes=True)(keys, *both)["loss"]
    for value, amount in zip(judged, (0.0, 0.3), strict=True):
        alone = scorer(smooth(amount), {}, rows, 5)(keys[0], params, hyperparameters(smooth(amount).hp))["loss"]
        assert value == pytest.approx(alone, rel=1e-6)
    logits = X @ np.asarray(params["params"])
    wanted = optax.softmax_cross_entropy(logits, 0.7 * jax.nn.one_hot(Y, 4, dtype=jnp.float32) + 0.3 / 4).mean()
    assert judged[1] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("around", [lambda one: ema(one, 0.9), skipping, lambda one: population(one, [0, 1])])
def test_combinators_pass_the_floats_on(around):
    rows, learner = batch(x=X, y=Y), around(smooth(0.0))
    hp = hyperparameters(learner.hp)
    params = learner.params(learner.init(jax.random.key(0), rows, hp))

    def judged(hp):
        return np.asarray(compute(learner.evaluate(jax.random.key(0), params, rows, hp))["loss"])

    other = jax.tree_util.tree_map_with_path(lambda path, v: v + 0.3 if "label_smoothing" in jax.tree_util.keystr(path) else v, hp)
    assert (judged(hp) != judged(other)).all()


LABELS = np.array([[0, 1, 2, 3], [1, -1, -1, -1], [2, 2, -1, 0], [-1, -1, -1, -1], [3, 0, 1, -1]])
TOKENS = batch(x=X[:5], y=LABELS, weight=[1.0, 2.0, 1.0, 5.0, 0.5])


@pytest.mark.parametrize("make", [losses.cross_entropy, losses.focal])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_mean_over_tokens_counts_every_token_alike(make, parts):
    learner = training.supervised(linear(4, (4,)), make(over="tokens"), optim.sgd(1.0), parts=parts)
    hp = hyperparameters(learner.hp)
    hp["loss"] = jax.tree.map(jnp.zeros_like, hp["loss"])  # no smoothing, no focus: the plain log loss
    state = learner.init(jax.random.key(0), TOKENS, hp)
    after, told = jax.jit(learner.step)(jax.random.key(0), state, TOKENS, hp)
    weight = np.repeat(np.asarray(TOKENS.weight), 4)[LABELS.reshape(-1) >= 0]
    labels = LABELS.reshape(-1)[LABELS.reshape(-1) >= 0]

    def probabilities(params):
        logits = (X[:5] @ params).reshape(-1, 4)[LABELS.reshape(-1) >= 0]
        return jax.nn.softmax(logits)

    p = np.asarray(probabilities(np.asarray(state.variables["params"])), float)
    p /= p.sum(1, keepdims=True)
    wanted = sk.log_loss(labels, p, sample_weight=weight, labels=range(4))
    found, judged = compute(told), compute(jax.jit(learner.evaluate)(jax.random.key(0), state.variables, TOKENS, hp))
    assert found["loss"] == pytest.approx(wanted, rel=1e-5) == float(judged["loss"])
    assert found["token_accuracy"] == pytest.approx(sk.accuracy_score(labels, p.argmax(1), sample_weight=weight))

    def mean(params):
        return (-jnp.log(probabilities(params)[np.arange(len(labels)), labels]) * weight).sum() / weight.sum()

    slope = jax.grad(mean)(state.variables["params"])
    np.testing.assert_allclose(state.variables["params"] - after.variables["params"], slope, atol=1e-5)


@pytest.mark.parametrize("over", ["rows", "tokens"])
def test_a_measure_and_a_metric_of_one_name_have_one_value(over):
    learner = training.supervised(linear(4, (4,)), losses.cross_entropy(over=over), optim.sgd(1.0))
    hp = hyperparameters(learner.hp)
    params = learner.params(learner.init(jax.random.key(0), TOKENS, hp))
    own = scorer(learner, {}, TOKENS, 2)(jax.random.key(0), params, hp)
    found = scorer(learner, {"a": metrics.accuracy(over), "b": metrics.log_loss(over), "c": metrics.perplexity()}, TOKENS, 2)(
        jax.random.key(0), params, hp
    )
    name, prefix = ("accuracy", "") if over == "rows" else ("token_accuracy", "token_")
    assert found[name] == pytest.approx(own[name], rel=1e-6)
    assert found[f"{prefix}log_loss"] == pytest.approx(own["loss"], rel=1e-5), "So is what is lowered, but for its name."
    assert over == "rows" or np.log(found["perplexity"]) == pytest.approx(own["loss"], rel=1e-5)


def test_rows_without_a_label_are_not_there():
    learner = training.supervised(linear(4, (4,)), losses.cross_entropy(), optim.sgd(1.0))
    hp = hyperparameters(learner.hp)
    state = learner.init(jax.random.key(0), TOKENS, hp)
    without = TOKENS._replace(weight=TOKENS.weight.at[3].set(0))
    step = jax.jit(learner.step)
    found, wanted = (step(jax.random.key(0), state, rows, hp) for rows in (TOKENS, without))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
