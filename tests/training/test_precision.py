"""Half precision: what is kept, what is computed in, and what float16's small range costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses, models, optim
from arsenal.combine import skipping
from arsenal.data import arrays
from arsenal.records import Loss, Model, batch, compute, hyperparameters
from arsenal.training import advance, start, supervised
from arsenal.training.precision import GROWTH_EVERY, Precision, Scale, policy, rescale

ROWS = batch(
    x=np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32), y=np.arange(32) % 3,
)  # fmt: skip


def learner(**how):
    return supervised(models.perceptron(3, (16,)), losses.cross_entropy(), optim.adam(0.01), **how)


def trained(made, steps=60):
    source = arrays(ROWS, 16)
    train, means, _ = advance(made, source)(start(made, source, 0), source.block(0, 1), jnp.int32(steps))
    return train, {name: float(value) for name, value in compute(means).items()}


@pytest.mark.parametrize("compute_in", ["bfloat16", "float16"])
@pytest.mark.slow
def test_half_precision_learns_what_single_does(compute_in):
    (_, single), (train, half) = trained(learner()), trained(learner(precision=compute_in))
    assert abs(half["loss"] - single["loss"]) < 0.02 * single["loss"], (half, single)
    leaves = jax.tree.leaves(train.state.variables)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}, "Parameters stay in single precision."
    params = learner(precision=compute_in).params(train.state)
    assert learner(precision=compute_in).apply["predict_proba"](params, ROWS.x).dtype == jnp.float32


def test_the_model_computes_in_what_the_policy_says():
    seen = []

    def apply(variables, x, training=None):
        seen.append((variables["params"].dtype, x.dtype))
        return x @ variables["params"], {}

    model = Model(lambda key, x: {"params": jnp.ones((6, 3))}, apply)
    made = supervised(model, losses.cross_entropy(), optim.sgd(0.1), precision={"parameters": "bfloat16", "compute": "float16"})
    train, _ = trained(made, 1)
    assert set(seen) == {(jnp.dtype("float16"), jnp.dtype("float16"))}
    assert train.state.variables["params"].dtype == jnp.bfloat16


def spiky() -> Loss:
    """A loss whose gradient overflows float16 once the scale is large, and is finite by itself."""
    return Loss(lambda outputs, rows, hp: 20.0 * jnp.square(outputs[:, 0]))


def test_an_overflow_costs_a_step_and_half_the_scale():
    made = supervised(Model(lambda key, x: {"params": jnp.ones((6, 1))}, lambda v, x, t=None: (x @ v["params"], {})),
                      spiky(), optim.sgd(1e-3), precision="float16")  # fmt: skip
    source = arrays(ROWS, 32)
    train = start(made, source, 0)
    run, block = advance(made, source), source.block(0, 1)
    before, first = np.asarray(train.state.variables["params"]), float(train.state.scale.value)
    train, _, failure = run(train, block, jnp.int32(1))
    assert int(failure.step) == -1, "The loss itself is finite."
    assert float(train.state.scale.value) == first / 2
    np.testing.assert_array_equal(train.state.variables["params"], before)
    train, _, _ = run(train, block, jnp.int32(40))
    assert 1 < float(train.state.scale.value) < first
    assert (np.asarray(train.state.variables["params"]) != before).any(), "Below the overflow it learns."


def test_the_scale_grows_after_many_good_steps():
    scale = Scale(jnp.float32(8), jnp.int32(GROWTH_EVERY - 1))
    assert [float(rescale(scale, jnp.array(ok)).value) for ok in (True, False)] == [16, 4]
    assert int(rescale(scale._replace(steps=jnp.int32(3)), jnp.array(True)).steps) == 4


@pytest.mark.parametrize("given", ["float8", {"compute": "int8"}, {"weights": "float16"}])
def test_an_unknown_type_is_refused(given):
    with pytest.raises(ValueError, match=r"`precision` gives parameters, compute, output one of float32, bfloat16, float16; got"):
        policy(given)


def test_a_policy_by_name_is_the_one_to_compute_in():
    assert policy("float16") == Precision("float32", "float16", "float32") and policy("float16").scales_loss


def test_a_bad_batch_is_skipped_and_counted():
    x = np.array(ROWS.x)
    x[5] = np.inf
    source = arrays(ROWS._replace(x=jnp.asarray(x)), 8, shuffle=False)
    made = skipping(supervised(models.perceptron(3, (4,)), losses.cross_entropy(), optim.sgd(0.1)))
    train, means, failure = advance(made, source)(start(made, source, 0), source.block(0, 1), jnp.int32(8))
    assert int(failure.step) == -1
    assert float(compute(means)["skipped"]) == 2 / 8, "The first batch of each epoch."
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(train.state))


@pytest.mark.slow
def test_hyperparameters_of_an_augmentation_are_the_learners():
    from arsenal.records import Augmentation

    noise = Augmentation(
        lambda key, rows, hp: rows._replace(x=rows.x + hp["size"] * jax.random.normal(key, rows.x.shape)), {"size": 0.5}
    )
    made, plain = learner(augmentation=noise), learner()
    hp = hyperparameters(made.hp)
    state = made.init(jax.random.key(0), ROWS, hp)
    loud, _ = made.step(jax.random.key(1), state, ROWS, hp)
    quiet, _ = made.step(jax.random.key(1), state, ROWS, hp | {"augmentation": {"size": jnp.float32(0)}})
    wanted, _ = plain.step(jax.random.key(1), state, ROWS, hyperparameters(plain.hp))

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    assert same(quiet, wanted) and not same(loud, wanted)
