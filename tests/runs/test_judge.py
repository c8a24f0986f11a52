"""What judges a run is read from its log: by name, with a direction, and the same whatever ended the run in between."""

import contextlib

import jax.numpy as jnp
import pytest

from arsenal.runs.checkpoints import Checkpoints, Keep
from arsenal.runs.judge import Judge, as_number, evaluations


def said(kind: str, step: int, **about) -> dict:
    return {"kind": kind, "step": step} | about


@pytest.mark.parametrize("value", [None, float("nan"), [1.0, None], [1.0, float("inf")]])
def test_what_is_no_number_judges_nothing(value):
    assert as_number(value) is None
    assert Judge("loss").best({10: {"loss": value}, 20: {"loss": [1.0, 3.0]}}) == [20]


def test_the_direction_decides_which_is_best():
    history = {10: {"accuracy": 0.5}, 20: {"accuracy": 0.9}, 30: {"accuracy": 0.9}, 40: {"loss": 0.0}}
    assert Judge("accuracy", "max").best(history) == [20, 30, 10]
    assert Judge("accuracy", "min").best(history) == [10, 20, 30]


def test_an_evaluation_at_an_end_that_was_passed_does_not_count():
    first = [said("start", 0, length=310, evaluate=100), *(said("validation", s, values={"loss": s}) for s in (100, 200, 300, 310))]
    assert list(evaluations(first)) == [100, 200, 300, 310]
    longer = [*first, said("start", 310, length=2000, evaluate=100), said("validation", 400, values={"loss": 4})]
    assert list(evaluations(longer)) == [100, 200, 300, 400] == list(evaluations(first, 100, 2000)) + [400]
    assert list(evaluations(first[1:])) == [100, 200, 300, 310], "The logs of 0.1.0 do not say how often."


def written(folder, ranking, *saves, **keep) -> list[int]:
    """The checkpoints that stay of those saved at (step, due), judged as the ranking says after each."""
    with contextlib.closing(Checkpoints(folder, Keep(**keep))) as saved:
        for step, due in saves:
            saved.best = lambda step=step: [s for s in ranking if s <= step]
            saved.save(step, {"w": jnp.full(2, float(step))}, due)
        saved.wait()
        return sorted(int(path.name) for path in saved.list_saved())


@pytest.mark.parametrize("keep", [{"last": 1, "best": 1}, {"last": 3}, {"last": 1, "every": 30}, {"last": 2, "best": 2}])
def test_interruptions_leave_the_checkpoints_of_a_run_without_them(tmp_path, keep):
    ranking, steps = [40, 20, 60, 10], range(10, 80, 10)
    whole = written(tmp_path / "whole", ranking, *((step, True) for step in steps), **keep)
    # Twice between two saves, at a save that is made up for, and where a shorter run ended.
    cut = [(10, True), (20, True), (23, False), (27, False), (30, True), (40, False), (40, True), (50, True), (55, False), (60, True)]
    assert written(tmp_path / "cut", ranking, *cut, (70, True), **keep) == whole
    assert written(tmp_path / "ends", ranking, (10, True), (15, False), **keep)[-1] == 15, "Where it ended is kept until then."


def test_the_best_is_of_those_that_are_still_there(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path, Keep(last=3), lambda: [5, 20, 10])) as saved:
        for step in (10, 20, 30):
            saved.save(step, {"w": jnp.zeros(1)})
        saved.wait()
        assert saved.find("best").name == "0000000020"
