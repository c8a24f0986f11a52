"""A set is judged and answered in blocks: the same numbers whatever the blocks, and an end when one is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import data, metrics
from arsenal.data.column import Column
from arsenal.evaluation import answers as module
from arsenal.evaluation.answers import answers, scorer
from arsenal.records import Batch, Learner, Mean, batch

N = 53
RNG = np.random.default_rng(0)
X, Y, WEIGHT = RNG.normal(size=(N, 3)).astype(np.float32), RNG.integers(0, 3, N), RNG.uniform(0, 2, N).astype(np.float32)
HERE = batch(x=X, y=Y, weight=WEIGHT)
AWAY = Batch(
    Column((N, 3), np.dtype(np.float32), lambda at: X[at]), Column((N,), np.dtype(np.int64), lambda at: Y[at]), WEIGHT,
    np.arange(N, dtype=np.int32),
)  # fmt: skip
TOLD = 3 * X - 1
SEEN = (lambda state, x: state["factor"] * x - 1, {"factor": jnp.float32(3)})


def learner():
    def evaluate(key, params, rows, hp):
        return {"size": Mean((rows.weight * rows.x[:, 0]).sum(), rows.weight.sum())}

    apply = {"predict": lambda params, x: jnp.argmax(x, -1).astype(jnp.int32), "predict_proba": lambda params, x: jax.nn.softmax(params * x), "ids": lambda params, row: row}
    return Learner(None, None, None, apply, evaluate, inputs={"ids": lambda rows: rows.row})


@pytest.fixture
def few(monkeypatch):
    """Blocks of two batches of four rows."""
    monkeypatch.setattr(data.source, "BLOCK", 2 * 4 * 24)


def test_blocks_change_no_number(few):
    kinds = {"accuracy": metrics.accuracy(), "log_loss": metrics.log_loss()}
    key, params = jax.random.key(0), jnp.float32(2)
    whole = scorer(learner(), kinds, HERE, 4)(key, params, {})
    assert data.reading(AWAY, 4, key).window == 2
    assert scorer(learner(), kinds, AWAY, 4)(key, params, {}) == whole
    assert whole["size"] == pytest.approx((WEIGHT * X[:, 0]).sum() / WEIGHT.sum(), rel=1e-5)
    assert whole["accuracy"] == pytest.approx(WEIGHT[X.argmax(1) == Y].sum() / WEIGHT.sum(), rel=1e-5)
    seen = scorer(learner(), kinds, HERE._replace(x=jnp.asarray(TOLD)), 4)(key, params, {})
    for name, value in scorer(learner(), kinds, AWAY, 4, seen=SEEN)(key, params, {}).items():
        assert value == pytest.approx(seen[name]), name


def test_an_interruption_is_asked_for_between_blocks(few):
    asked = []

    def after(n):
        asked.clear()
        return lambda: len(asked) >= n or asked.append(1)

    for rows in (HERE, AWAY):
        for n in (0, 1):
            assert scorer(learner(), {}, rows, 1, interrupted=after(n))(jax.random.key(0), jnp.float32(1), {}) is None
        known = scorer(learner(), {}, rows, 1)(jax.random.key(0), jnp.float32(1), {})
        assert scorer(learner(), {}, rows, 1, interrupted=after(99))(jax.random.key(0), jnp.float32(1), {}) == known


def test_dispatches_are_cut_by_the_clock_and_change_no_bit(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 1e-9)
    monkeypatch.setattr(module, "FIRST", 3)
    known = scorer(learner(), {"accuracy": metrics.accuracy()}, HERE, 2)(jax.random.key(0), jnp.float32(1), {})
    asked = []
    cut = scorer(learner(), {"accuracy": metrics.accuracy()}, HERE, 2, interrupted=lambda: asked.append(1))
    assert cut(jax.random.key(0), jnp.float32(1), {}) == known
    assert len(asked) == 1 + (27 - 3)


def test_answers_are_in_order(few):
    one = learner()
    for size in (4, 53, 100):
        here = answers(one.apply, one.inputs, jnp.float32(2), HERE, size)
        away = answers(one.apply, one.inputs, jnp.float32(2), AWAY, size)
        assert here["ids"].tolist() == away["ids"].tolist() == list(range(N))
        np.testing.assert_array_equal(here["predict_proba"], away["predict_proba"])
        np.testing.assert_allclose(here["predict_proba"], jax.nn.softmax(2 * X), rtol=1e-5)
    seen = answers(one.apply, one.inputs, jnp.float32(2), AWAY, 4, SEEN)
    np.testing.assert_allclose(seen["predict_proba"], jax.nn.softmax(2 * TOLD), rtol=1e-5)
