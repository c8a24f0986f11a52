"""What becomes of trials is decided in one place, whoever trains them."""

import contextlib
from types import SimpleNamespace

import jax
import pytest

from arsenal.records import CONTINUE, STOP
from arsenal.search import population_based, random, space, successive_halving
from arsenal.search.decisions import Decisions
from arsenal.search.searching import Searching
from arsenal.search.sweep import Sweep, read_log


@pytest.fixture
def begin(tmp_path):
    """Decisions about four trials of a sweep that is searched at random."""
    with contextlib.ExitStack() as stack:

        def make(scheduler, mode="min", on_failure="go_on"):
            sweep = stack.enter_context(contextlib.closing(Sweep(tmp_path, mode, 1, on_failure)))
            where = space({"rate": {"log": [1e-3, 1.0]}})
            searching = Searching(where, random(where), scheduler, jax.random.key(0))
            decisions = Decisions(sweep, searching, SimpleNamespace(metric="validation/loss", mode=mode))
            if not sweep.trials:
                assert decisions.suggest(4) == [0, 1, 2, 3]
            return decisions

        yield make


@pytest.mark.parametrize("mode", ["min", "max"])
def test_trials_that_report_at_once_are_all_decided_at_once(begin, mode):
    decisions, sign = begin(successive_halving(4, 10, 2), mode), 1 if mode == "min" else -1
    found = decisions.decide_together(10, range(4), {i: sign * value for i, value in enumerate([4.0, 1.0, 2.0, 3.0])})
    assert found == {0: STOP, 1: CONTINUE, 2: CONTINUE, 3: STOP}


def test_a_trial_on_its_own_is_never_kept_waiting_and_one_that_failed_keeps_nobody(begin):
    decisions = begin(population_based(4, 10))
    assert [decisions.decide_one(10, i, float(i)) for i in (0, 1, 2)] == [CONTINUE] * 3
    decisions.sweep.fail_trial(3, 7, "It went wrong.")
    assert [decisions.decide_one(10, i, float(i)) for i in (0, 1, 2)] == [CONTINUE] * 3
    assert decisions.decide_together(20, range(4), {0: 0.0, 1: 1.0, 2: 9.0}).keys() == {0, 1, 2}
    assert decisions.scheduling.value[decisions.scheduling.trial == 3].tolist() == [float("inf")] * 2


def test_a_clone_is_told_once_and_stands(begin):
    decisions = begin(population_based(4, 10))
    assert decisions.decide_together(10, range(4), {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}) == {0: -1, 1: -1, 2: -1, 3: 0}


def test_a_metric_that_is_no_number_fails_its_trial(begin):
    decisions = begin(None)
    assert decisions.judge_trials(10, {0: 1.0, 1: None}) == {0: 1.0}
    assert decisions.sweep.trials[1].reason == "The metric `validation/loss` is not finite at step 10."
    assert decisions.decide_together(10, range(4), {0: 1.0, 1: None}) == {0: CONTINUE, 1: CONTINUE}


def test_the_log_brings_the_scheduler_back(begin):
    decisions = begin(successive_halving(4, 10, 2))
    decisions.sweep.log_values("validation", 10, [0, 1, 2, 3], {"loss": [4.0, 1.0, None, 3.0]})
    decisions.decide_together(10, range(4), {0: 4.0, 1: 1.0, 2: None, 3: 3.0})
    again = begin(successive_halving(4, 10, 2))
    again.replay(list(read_log(again.sweep.path).trials))
    for one, other in zip(decisions.scheduling, again.scheduling, strict=True):
        assert one.tolist() == other.tolist()
