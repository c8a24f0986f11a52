"""Schedules against Optax's and the papers' formulas, at every step, for every value by one program."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.optim import (
    Schedule,
    adam,
    adamw,
    clipped,
    constant,
    cosine,
    grouped,
    inverse_square_root,
    linear,
    one_cycle,
    piecewise,
    scheduled,
    sgd,
    warmup,
)
from arsenal.records import Optimizer, hyperparameters

STEPS = jnp.arange(300, dtype=jnp.int32)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def curve(schedule: Schedule) -> np.ndarray:
    """The factors of the first 300 steps."""
    return np.asarray(jax.jit(jax.vmap(schedule.factor, (0, None)))(STEPS, hyperparameters(schedule.hp)))


def optaxes(schedule) -> np.ndarray:
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(jax.vmap(schedule))(STEPS))


def vaswani(step, warm: float, width: int = 512):
    """Eq. 3 of 1706.03762; its steps count from 1."""
    return width**-0.5 * jnp.minimum(step**-0.5, step * warm**-1.5)


PEERS = {
    "constant": (constant(), lambda: optax.constant_schedule(1.0)),
    "linear": (linear(170), lambda: optax.linear_schedule(1.0, 0.0, 170)),
    "linear, end": (linear(170, 0.3), lambda: optax.linear_schedule(1.0, 0.3, 170)),
    "cosine": (cosine(200), lambda: optax.cosine_decay_schedule(1.0, 200)),
    "cosine, end": (cosine(133, end=0.1), lambda: optax.cosine_decay_schedule(1.0, 133, 0.1)),
    "warmup, constant": (warmup(constant(), 20, 0.1), lambda: optax.warmup_constant_schedule(0.1, 1.0, 20)),
    "warmup, cosine": (warmup(cosine(150, 0.05), 30), lambda: optax.warmup_cosine_decay_schedule(0.0, 1.0, 30, 180, 0.05)),
    "warmup, linear": (
        warmup(linear(100), 50),
        lambda: optax.join_schedules([optax.linear_schedule(0.0, 1.0, 50), optax.linear_schedule(1.0, 0.0, 100)], [50]),
    ),
    "one cycle": (one_cycle(200), lambda: optax.cosine_onecycle_schedule(200, 1.0)),
    "one cycle, other values": (
        one_cycle(100, 0.25, 0.1, 0.001),
        lambda: optax.cosine_onecycle_schedule(100, 1.0, 0.25, 10.0, 100.0),
    ),
    "piecewise": (
        piecewise([50, 120, 200], [0.5, 0.05, 0.2]),
        lambda: optax.piecewise_constant_schedule(1.0, {50: 0.5, 120: 0.1, 200: 4.0}),
    ),
    "inverse square root": (
        inverse_square_root(40),
        lambda: lambda step: vaswani(step + 1, 40) / vaswani(40, 40),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_schedule_is_its_peers_at_every_step(name):
    ours, theirs = PEERS[name]
    np.testing.assert_allclose(curve(ours), optaxes(theirs()), atol=2e-6)


def test_one_cycle_is_pytorchs():
    """`OneCycleLR` with its defaults ends at step total - 1 and peaks at 0.3 * total - 1, as its source has it."""
    total, peak, start = 250, 0.3 * 250 - 1, 1 / 25

    def theirs(step):
        first, last, part = (start, 1.0, step / peak) if step <= peak else (1.0, start / 1e4, (step - peak) / (total - 1 - peak))
        return last + (first - last) / 2.0 * (1 + math.cos(math.pi * part))

    ours = curve(one_cycle(total - 1, peak / (total - 1)))[:total]
    np.testing.assert_allclose(ours, [theirs(step) for step in range(total)], atol=2e-6)


@pytest.mark.parametrize(
    ("schedule", "length", "end"),
    [
        (linear(100, 0.25), 100, 0.25),
        (cosine(100, 0.25), 100, 0.25),
        (cosine(99.5), 100, 0.0),
        (one_cycle(100, end=0.125), 100, 0.125),
        (warmup(linear(60, 0.5), 40), 100, 0.5),
        (piecewise([10, 100], [0.5, 0.25]), 100, 0.25),
    ],
)
def test_after_its_length_it_stays_at_its_end(schedule, length, end):
    values = curve(schedule)
    assert (values[length:] == np.float32(end)).all()
    assert (values[length - 1] != np.float32(end)) and (values >= 0).all() and (values <= 1).all()
    far = schedule.factor(jnp.int32(2**31 - 1), hyperparameters(schedule.hp))
    assert float(far) == end


@pytest.mark.parametrize("schedule", [linear(0, 0.5), cosine(0, 0.5), one_cycle(0, end=0.5)])
def test_a_length_of_nothing_is_over_at_once(schedule):
    assert (curve(schedule) == 0.5).all()


def test_a_warmup_of_nothing_is_the_schedule():
    np.testing.assert_array_equal(curve(warmup(cosine(50), 0)), curve(cosine(50)))


def test_a_part_of_a_step_of_warmup_ends_at_the_next_whole_one():
    np.testing.assert_allclose(curve(warmup(linear(10), 2.5))[:5], [0, 0.4, 0.8, 1.0, 0.9], atol=1e-6)


def test_all_lengths_are_one_program():
    calls = []

    def factor(step, hp):
        calls.append(1)
        return warmup(one_cycle(1), 1).factor(step, hp)

    run = jax.jit(jax.vmap(factor, (0, None)))
    lengths = [(5.0, 100.0), (20.0, 50.0), (0.0, 7.5)]
    made = []
    for steps, length in lengths:
        schedule = warmup(one_cycle(length), steps)
        made.append(run(STEPS, hyperparameters(schedule.hp)))
        np.testing.assert_allclose(made[-1], curve(schedule), atol=1e-6)
    assert len(calls) == 1
    many = jax.tree.map(lambda *v: jnp.stack(v), *(hyperparameters(warmup(one_cycle(n), s).hp) for s, n in lengths))
    lanes = jax.jit(jax.vmap(lambda hp: jax.vmap(factor, (0, None))(STEPS, hp)))(many)
    np.testing.assert_allclose(lanes, jnp.stack(made), atol=1e-6)


PARAMS = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array([0.1, -0.2])}


def start() -> dict:
    """The parameters in the precision that now holds."""
    return jax.tree.map(lambda p: jnp.asarray(p, dtype=float), PARAMS)


def descend(optimizer: Optimizer, steps: int = 25) -> dict:
    """Parameters after some steps along the gradient of |params|⁴/4."""
    hp = hyperparameters(optimizer.hp)
    state, params = optimizer.init(start(), hp), start()
    update = jax.jit(optimizer.update)
    for _ in range(steps):
        state, params = update(state, params, jax.tree.map(lambda p: p**3, params), hp, None)
    return params


def descend_optax(transformation, steps: int = 25) -> dict:
    state, params = transformation.init(start()), start()
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(transformation.update)
        for _ in range(steps):
            updates, state = update(jax.tree.map(lambda p: p**3, params), state, params)
            params = optax.apply_updates(params, updates)
    return params


def equal(ours, theirs, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: scheduled(sgd(0.05, 0.9), linear(20)), lambda: optax.sgd(optax.linear_schedule(0.05, 0.0, 20), 0.9)),
        (
            lambda: scheduled(adamw(0.1, weight_decay=0.1), warmup(cosine(15), 5)),
            lambda: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 20), weight_decay=0.1),
        ),
        (
            lambda: scheduled(clipped(adam(0.1), 0.5), cosine(20)),
            lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(optax.cosine_decay_schedule(0.1, 20))),
        ),
    ],
    ids=["sgd", "adamw", "clipped adam"],
)
def test_a_scheduled_optimizer_is_optaxs_with_a_schedule(ours, theirs):
    with jax.enable_x64(True):
        equal(descend(ours()), descend_optax(theirs()), atol=1e-12)


def test_a_finished_schedule_moves_nothing():
    optimizer = scheduled(sgd(0.05), linear(3))
    equal(descend(optimizer, 3), descend(optimizer, 9), atol=0)


def test_schedules_multiply_and_find_the_rate_inside():
    twice = scheduled(scheduled(sgd(0.1), piecewise([2], [0.5])), piecewise([4], [0.5]))
    equal(descend(twice), descend(scheduled(sgd(0.1), piecewise([2, 4], [0.5, 0.25]))))
    inside = scheduled(grouped([{"pattern": ".*"}], sgd(0.1)), cosine(10))
    equal(descend(inside), descend(scheduled(sgd(0.1), cosine(10))))


def test_the_count_does_not_turn_over():
    optimizer = scheduled(sgd(0.1), linear(5, 0.5))
    hp = hyperparameters(optimizer.hp)
    state = optimizer.init(start(), hp)._replace(count=jnp.int32(2**31 - 1))
    state, _ = optimizer.update(state, start(), start(), hp, None)
    assert int(state.count) == 2**31 - 1 and state.count.dtype == jnp.int32


def test_what_cannot_be_scheduled_is_said():
    still = Optimizer(lambda params, hp: (), lambda state, params, gradient, hp, value: (state, params), {"pace": 1.0})
    with pytest.raises(
        ValueError, match=r"`optimizer` of `scheduled` must have a `learning_rate` in its hp; its hp has `pace`\."
    ):
        scheduled(still, constant())
    with pytest.raises(ValueError, match="its hp has `optimizer`, `norm`"):
        scheduled(clipped(still, 1.0), constant())
    with pytest.raises(ValueError, match=r"`factors` of `piecewise` must be one for every boundary, here 2; got 1\."):
        piecewise([1, 2], [0.1])
    with pytest.raises(ValueError, match=r"`boundaries` of `piecewise` must rise; got \[2, 1\]\."):
        piecewise([2, 1], [0.1, 0.2])


OPTIONS = {
    "constant": [],
    "linear": ["length=100"],
    "cosine": ["length=100"],
    "warmup_cosine": ["steps=10", "schedule.length=90"],
    "one_cycle": ["length=100"],
    "inverse_square_root": ["warmup=10"],
    "piecewise": ["boundaries=[50,75]", "factors=[0.1,0.01]"],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_experiment_may_choose_a_schedule(name, tmp_path):
    from arsenal.config import CONF, compose, instantiate

    assert {path.stem for path in (CONF / "schedule").glob("*.yaml")} == set(OPTIONS)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "paced.yaml").write_text(
        "# @package _global_\n"
        "defaults: [/data: digits, /model: perceptron, /loss: cross_entropy, /learner: supervised,"
        f" /optimizer@optimizer.optimizer: sgd, /schedule@optimizer.schedule: {name}, _self_]\n"
        "name: paced\nlength: 10\nmodel: {output: 10}\noptimizer: {_target_: arsenal.optim.scheduled}\n"
    )
    config = compose("paced", [f"optimizer.schedule.{option}" for option in OPTIONS[name]], tmp_path)
    learner = instantiate(config.values["learner"], "learner")
    hp = learner.hp["optimizer"]
    assert hp["optimizer"]["momentum"] == 0.9
    assert hp.keys() == {"optimizer", "schedule"} and all(v >= 0 for v in jax.tree.leaves(hp))


LENGTHS, SHARES = st.floats(1, 1e5), st.floats(0, 1)
SMOOTH = st.one_of(
    st.builds(linear, LENGTHS, SHARES),
    st.builds(cosine, LENGTHS, SHARES),
    st.builds(warmup, st.builds(cosine, LENGTHS, SHARES), LENGTHS, SHARES),
    st.builds(one_cycle, LENGTHS),
    st.builds(inverse_square_root, LENGTHS),
)


def floats(tree, name=""):
    """Names and values of the floats in nested dicts."""
    return [pair for key, value in tree.items() for pair in floats(value, key)] if isinstance(tree, dict) else [(name, tree)]


@settings(max_examples=12, deadline=None)
@given(schedule=SMOOTH, begin=st.integers(0, 2 * 10**5))
def test_a_schedule_stays_within_the_rate_and_does_not_jump(schedule, begin):
    """Factors are in 0..1, and from one step to the next no further apart than the steepest part of their curve."""
    lengths = [float(value) for name, value in floats(schedule.hp) if name in ("length", "steps", "warmup")]
    peak = dict(floats(schedule.hp)).get("peak_at", 1.0)
    steepest = np.pi / 2 / (min(lengths) * min(peak, 1 - peak) if 0 < peak < 1 else min(lengths))  # a cosine's
    hp = hyperparameters(schedule.hp)
    for first in {begin, *(max(0, int(length * part) - 16) for length in [*lengths, sum(lengths)] for part in (peak, 1))}:
        steps = jnp.arange(first, first + 32, dtype=jnp.int32)
        factors = np.asarray(jax.vmap(lambda step: schedule.factor(step, hp))(steps))
        assert np.isfinite(factors).all() and factors.min() >= 0 and factors.max() <= 1 + 1e-6
        assert np.abs(np.diff(factors)).max() <= steepest + 1e-5
