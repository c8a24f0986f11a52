"""The driver calls back when it promised to, and what it computes does not depend on when that is."""

import jax
import jax.numpy as jnp
import pytest

from arsenal.data import stream
from arsenal.records import Learner, Mean, batch
from arsenal.runs.checkpoints import digest
from arsenal.training import advance, drive, start


def learner() -> Learner:
    """Adds up what it sees, with a little noise; its metric is the step's number."""

    def step(key, state, batch, hp):
        state = {"total": state["total"] * 0.99 + batch.x.sum() + jax.random.normal(key)}
        return state, {"seen": Mean(batch.x.sum(), jnp.ones(()))}

    return Learner(lambda key, batch, hp: {"total": jnp.zeros(())}, step, lambda state: state, {})


SOURCE = stream(lambda step: batch(x=[[float(step)]]), 1, window=8)
ADVANCE = advance(learner(), SOURCE)


def train(stop: int, train=None, **how):
    """The state, and what was called: (kind, step, mean of the metric) in order."""
    calls, kinds = [], {"log_every": 10} | how
    train = drive(
        ADVANCE, SOURCE, start(learner(), SOURCE, 0) if train is None else train, stop,
        log=lambda step, means: calls.append(("log", step, float(means["seen"].total / means["seen"].weight))),
        evaluate=lambda step, train: calls.append(("evaluate", step, int(train.step))),
        save=lambda step, train: calls.append(("save", step, int(train.step))),
        **kinds,
    )  # fmt: skip
    return train, calls


def test_everything_is_called_at_its_step():
    state, calls = train(25, log_every=10, evaluate_every=12, save_every=7)
    assert int(state.step) == 25
    # The batch of step i holds i: the mean over steps 0..9 is 4.5, and so on; the last one is short.
    assert [call for call in calls if call[0] == "log"] == [("log", 10, 4.5), ("log", 20, 14.5), ("log", 25, 22.0)]
    assert [call for call in calls if call[0] == "evaluate"] == [("evaluate", 12, 12), ("evaluate", 24, 24), ("evaluate", 25, 25)]
    assert [call for call in calls if call[0] == "save"] == [("save", 7, 7), ("save", 14, 14), ("save", 21, 21), ("save", 25, 25)]


@pytest.mark.parametrize("how", [{"log_every": 1}, {"log_every": 3, "save_every": 4}, {"log_every": 1000, "evaluate_every": 5}])
def test_intervals_change_no_bit(how):
    assert digest(train(40, **how)[0]) == digest(train(40)[0])


def test_half_and_half_is_the_whole():
    half, _ = train(20)
    assert digest(train(40, half)[0]) == digest(train(40)[0])


def test_an_interrupted_run_saves_and_goes_on_to_the_same_bits():
    answers = iter([False, False, True])
    stopped, calls = train(40, log_every=5, interrupted=lambda: next(answers))
    step = int(stopped.step)
    assert 0 < step < 40
    assert calls[-1] == ("save", step, step)
    assert digest(train(40, stopped)[0]) == digest(train(40)[0])


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_jax_would_cut_is_refused(seed):
    with pytest.raises(ValueError, match=f"`seed` must be in 0..4294967295; got {seed}"):
        start(learner(), SOURCE, seed)


def test_saves_by_the_clock():
    _, calls = train(30, save_due=lambda step: step == 10)
    assert [call[1] for call in calls if call[0] == "save"] == [10, 30]
