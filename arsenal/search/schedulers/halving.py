"""Early stopping by rungs: at growing numbers of steps only the better part of the trials goes on.

Successive halving: Jamieson & Talwalkar, AISTATS 2016. Hyperband: Li et al., JMLR 18 (2018). ASHA: Li et al., MLSys 2020
(1810.05934), in the form that stops at a rung rather than promotes to it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arsenal.records import CONTINUE, STOP, Scheduler


class Reports(NamedTuple):
    """What was reported at rungs, m reports in the order of their coming; between rungs nothing is kept."""

    trial: Any
    """[m] int32."""
    rung: Any
    """[m] int32."""
    value: Any
    """[m]: infinite where it was not finite."""
    stopped: Any
    """[m] bool: what was decided then."""


class Bracket(NamedTuple):
    """Trials that are compared with each other, and the steps at which they are."""

    first: int
    """The id of the first of `size` trials."""
    size: int
    rungs: tuple[int, ...]


def asha(least: int = 1, factor: float = 4, most: int | None = None) -> Scheduler:
    """Asynchronous successive halving: goes on when among the best `1 / factor` of all that have come to this rung so far.

    Rungs are at `least`, `least * factor`, ... steps, below `most`, at which a trial ends. Nobody waits: the first to
    come goes on. A report counts for the highest rung that its step has reached, once; what is not finite stops, and so
    does whoever was stopped before. The same report again is decided again, by all that have come since: trials in
    lockstep, which report at once, are asked twice, and no order among them matters.
    """
    check_rungs("asha", least, factor, most)

    def report(state, number, step, value):
        value = or_infinite(value)
        mine = state.trial == number
        again = mine & (state.rung == highest_rung(least, factor, step)) & (state.value == value)
        if (mine & state.stopped & ~again).any() or (most is not None and step >= most):
            return state, STOP
        rung = highest_rung(least, factor, step)
        if math.isinf(value):
            return add_report(state, number, rung, value, True), STOP
        if again.any():
            here = state.rung == rung
            stop = bool((state.value[here] < value).sum() >= max(1.0, here.sum() / factor))
            return state._replace(stopped=np.where(mine & here, stop, state.stopped)), STOP if stop else CONTINUE
        if rung < 0 or (mine & (state.rung >= rung)).any():
            return state, CONTINUE
        peers = np.append(state.value[state.rung == rung], value)
        stop = bool((peers < value).sum() >= max(1.0, len(peers) / factor))
        return add_report(state, number, rung, value, stop), STOP if stop else CONTINUE

    return Scheduler(no_reports, report)


def successive_halving(trials: int, least: int = 1, factor: float = 3, most: int | None = None) -> Scheduler:
    """Synchronous successive halving of every `trials` trials in a row: when all are at a rung, the best `1 / factor` go on.

    Rungs are at `least`, `least * factor`, ... steps, below `most`, at which a trial ends, until one trial is left. Nobody
    waits for the last to come: a trial whose rung is still open goes on, and is told at its next report, of the same step
    or a later one, whether that was for nothing. What is not finite stops, and does not keep a rung open. A trial that
    will never report keeps it open: report NaN for it.
    """
    check_rungs("successive_halving", least, factor, most)
    if trials < 1:
        raise ValueError(f"`trials` of `successive_halving` must be >= 1; got {trials}.")
    rungs = ladder(trials, least, factor, most)
    return synchronous_halving(lambda number: Bracket(number - number % trials, trials, rungs), factor, most, trials)


def hyperband(most: int, least: int = 1, factor: float = 3) -> Scheduler:
    """Successive halving in brackets that differ in how many trials start and how early the first rung is.

    With R = `most` / `least` and s from log_factor(R) to 0, a bracket has ceil((s_max + 1) / (s + 1) * factor^s) trials and
    its first rung at most / factor^s steps; ids fill one bracket after the other, and then begin again. See
    `successive_halving` for who waits for whom.
    """
    check_rungs("hyperband", least, factor, most)
    top = int(math.log(most / least) / math.log(factor) + 1e-9)
    sizes = [math.ceil((top + 1) / (s + 1) * factor**s) for s in range(top, -1, -1)]
    firsts = [max(least, round(most / factor**s)) for s in range(top, -1, -1)]
    ladders = [ladder(size, first, factor, most) for size, first in zip(sizes, firsts, strict=True)]
    starts = np.cumsum([0, *sizes])

    def bracket(number):
        turn, place = divmod(number, int(starts[-1]))
        i = int(np.searchsorted(starts, place, "right")) - 1
        return Bracket(turn * int(starts[-1]) + int(starts[i]), sizes[i], ladders[i])

    return synchronous_halving(bracket, factor, most, max(sizes))


def synchronous_halving(bracket: Callable[[int], Bracket], factor: float, most: int | None, trials: int) -> Scheduler:
    """Halving within brackets, `id -> Bracket`: who is left is a function of all reports, not of their order."""

    def report(state, number, step, value):
        number, value = int(number), or_infinite(value)
        mine, here = state.trial == number, bracket(number)
        if not (mine & state.stopped).any():
            rung = sum(step >= at for at in here.rungs) - 1
            if math.isinf(value):
                state = add_report(state, number, max(rung, 0), value, True)
            elif rung >= 0 and not (mine & (state.rung >= rung)).any():
                state = add_report(state, number, rung, value, False)
        ended = most is not None and step >= most
        return state, CONTINUE if not ended and number in survivors(state, here, factor) else STOP

    return Scheduler(no_reports, report, trials)


def survivors(state: Reports, here: Bracket, factor: float) -> set[int]:
    """The trials of a bracket that may go on, as far as is known."""
    alive = set(range(here.first, here.first + here.size))
    inside = (state.trial >= here.first) & (state.trial < here.first + here.size)
    trial, rung, value = state.trial[inside], state.rung[inside], state.value[inside]
    lost = set(trial[np.isinf(value)].tolist())
    for at in range(len(here.rungs)):
        # Who skipped a rung is judged there by the next one that it reported at.
        seen: dict[int, tuple[int, float]] = {}
        for one, its, its_value in zip(trial.tolist(), rung.tolist(), value.tolist(), strict=True):
            if one in alive and its >= at and its < seen.get(one, (len(here.rungs), 0.0))[0]:
                seen[one] = (its, its_value)
        if not alive <= seen.keys() | lost:
            break
        ranked = sorted(alive - lost, key=lambda one: (seen[one][1], one))
        alive = set(ranked[: max(1, int(len(alive) / factor))])
    return alive - lost


def highest_rung(least: int, factor: float, step: int) -> int:
    """The highest rung at or below a step, -1 below the first."""
    return -1 if step < least else int(math.log(step / least) / math.log(factor) + 1e-9)


def ladder(trials: int, least: int, factor: float, most: int | None) -> tuple[int, ...]:
    """The steps of rungs, until one trial is left or `most` is reached."""
    rungs, here = [], float(least)
    while trials > 1 and (most is None or here < most):
        rungs.append(math.ceil(here - 1e-9))
        trials, here = max(1, int(trials / factor)), here * factor
    return tuple(rungs)


def no_reports() -> Reports:
    """Nothing reported yet."""
    whole = np.zeros(0, np.int32)
    return Reports(whole, whole, np.zeros(0), np.zeros(0, bool))


def add_report(state: Reports, *report: Any) -> Reports:
    """The reports and one more."""
    return Reports(*(np.append(column, np.asarray(one, column.dtype)) for column, one in zip(state, report, strict=True)))


def or_infinite(value: Any) -> float:
    """The value, infinite where it is not finite."""
    value = float(value)
    return value if math.isfinite(value) else math.inf


def check_rungs(name: str, least: int, factor: float, most: int | None) -> None:
    """ValueError where there are no rungs to climb."""
    if least < 1:
        raise ValueError(f"`least` of `{name}` must be >= 1 step; got {least}.")
    if factor <= 1:
        raise ValueError(f"`factor` of `{name}` must be > 1; got {factor}.")
    if most is not None and most <= least:
        raise ValueError(f"`most` of `{name}` must be more than `least`, {least} steps; got {most}.")
