"""A set is judged and answered in blocks: the same numbers whatever the blocks, and an end when one is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk

from arsenal import data, metrics
from arsenal.data.column import Column
from arsenal.evaluation import answers as module
from arsenal.evaluation.answers import answers, quantities, scorer
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


BOTH = {"accuracy": metrics.accuracy(), "roc_auc": metrics.roc_auc(), "heaviest": metrics.whole_rows("heaviest", lambda out, rows: rows.row[rows.weight.argmax()], ())}


def exact(params, weight=WEIGHT):
    p = jax.nn.softmax(params * X)
    return {"roc_auc": sk.roc_auc_score(Y, p, sample_weight=weight, multi_class="ovr"), "heaviest": weight.argmax()}


def test_metrics_on_the_host_are_counted_beside_those_of_the_program(few):
    key, params = jax.random.key(0), jnp.float32(2)
    alone = scorer(learner(), {"accuracy": metrics.accuracy()}, HERE, 4)(key, params, {})
    for rows, size in ((HERE, 4), (HERE, 100), (AWAY, 4)):
        found = scorer(learner(), BOTH, rows, size)(key, params, {})
        assert {name: found[name] for name in exact(2)} == pytest.approx(exact(2), rel=1e-6)
        if size == 4:
            assert {name: found[name] for name in alone} == alone, "What the program counts has the same bits."
    only = scorer(learner(), {"roc_auc": metrics.roc_auc()}, AWAY, 4)(key, params, {})
    assert set(only) == {"size", "roc_auc"} and only["roc_auc"] == pytest.approx(exact(2)["roc_auc"], rel=1e-6)


def test_lanes_have_a_value_each_on_the_host_too(few):
    keys, params = jax.random.split(jax.random.key(0), 3), jnp.array([2.0, -1.0, 0.5])
    found = scorer(learner(), BOTH, HERE, 4, lanes=True)(keys, params, {})
    for lane, one in enumerate(params):
        alone = {name: float(value) for name, value in scorer(learner(), BOTH, HERE, 4)(keys[lane], one, {}).items()}
        assert {name: float(value[lane]) for name, value in found.items()} == pytest.approx(alone, rel=1e-5)


def test_only_what_a_metric_reads_is_answered():
    def refuse(params, x):
        raise AssertionError("Nobody asked for this.")

    one = learner()
    one = one._replace(apply={**one.apply, "sample": refuse}, evaluate=lambda *given: {})
    found = scorer(one, {"roc_auc": metrics.roc_auc()}, HERE, 9)(jax.random.key(0), jnp.float32(2), {})
    assert found["roc_auc"] == pytest.approx(exact(2)["roc_auc"], rel=1e-6)


def test_inputs_are_brought_where_a_metric_reads_them(few):
    seen = {name: [] for name in ("with", "without")}
    kinds = {
        name: metrics.whole_rows(name, lambda out, rows, name=name: seen[name].append(rows.x) or 0, (), inputs=name == "with") for name in seen
    }  # fmt: skip
    scorer(learner(), kinds, AWAY, 4)(jax.random.key(0), jnp.float32(2), {})
    np.testing.assert_array_equal(seen["with"][0], X[WEIGHT > 0])
    assert seen["without"] == [None]


def test_an_interruption_ends_the_host_too(few):
    assert scorer(learner(), BOTH, AWAY, 4, interrupted=lambda: True)(jax.random.key(0), jnp.float32(2), {}) is None


def trainable():
    return learner()._replace(init=lambda key, rows, hp: jnp.float32(2), params=lambda state: state)


def test_what_the_host_will_measure_is_known_before():
    modes, shapes = quantities(trainable(), BOTH, jax.eval_shape(lambda: HERE))
    assert modes == {"accuracy": "max", "heaviest": None, "roc_auc": "max", "size": None}
    assert shapes["predict_proba"].shape == (N, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ap": metrics.average_precision(), "same": metrics.average_precision("micro")}, "The metrics `ap` and `same` both measure `average_precision`"),
        ({"cluster": metrics.silhouette()}, "The metric `cluster` does not fit .*: `silhouette` reads the answer `cluster`; the learner gives ids, predict, predict_proba"),
        ({"lift": metrics.lift()}, r"The metric `lift` does not fit .*: `lift` takes `predict_proba` \[n, 2\] and labels \[n\]; got \(53, 3\)"),
        ({"text": metrics.bleu()}, r"The metric `text` does not fit .*: `bleu` takes strings, or codes and `decode`; `predict` is int32 \[53\]"),
    ],
)
def test_what_does_not_fit_on_the_host_is_refused_before(given, message):
    with pytest.raises(ValueError, match=message):
        quantities(trainable(), given, HERE)
