"""Whether a stream of losses, errors or scores has changed, value by value: ADWIN, Page and Hinkley's test, DDM and KSWIN.

Each begins anew after a change, as river's do, whose changes they find at the same values. They run on the host in float64,
where a sum of a million values is exact enough to decide as a loop over single values does; all values up to the next change are
judged together, so that a loop is as long as there are changes.
"""

import math
import random
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Interval
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal, stats

from arsenal.records import Detector

FIRST, MOST = 2048, 32_768
"""Values that are judged together after a change, and at most."""
HOST = {"host": "sums in float64 and stops at every change"}


class Alarms(NamedTuple):
    """Of each value whether a change was found there, or is near."""

    drift: np.ndarray
    """[n] bool."""
    warning: np.ndarray
    """[n] bool; only DDM warns."""


class Look(NamedTuple):
    """What a look at some values gave: those up to `used` are done, and where `drift`, the last of them showed a change."""

    state: Any
    used: int
    drift: bool
    warning: np.ndarray | None = None


def _by_blocks(name: str, init: Callable[[], Any], look: Callable[[Any, np.ndarray], Look], most: float = math.inf) -> Detector:
    """The detector whose `look(state, values)` goes as far as the next change; `most` bounds its values, which are then >= 0."""

    def update(state, values):
        values = np.asarray(values, float)
        if values.ndim != 1:
            raise ValueError(f"`values` of `{name}` must be numbers [n]; got shape {list(values.shape)}.")
        if not np.isfinite(values).all():
            at = int((~np.isfinite(values)).argmax())
            raise ValueError(f"`values` of `{name}` must be finite numbers; got {values[at]:g} in row {at + 1}.")
        if math.isfinite(most) and len(values) and not (values.min() >= 0 and values.max() <= most):
            at = int(((values < 0) | (values > most)).argmax())
            raise ValueError(f"`values` of `{name}` must be errors from 0 to {most:g}; got {values[at]:g} in row {at + 1}.")
        drift, warning = np.zeros(len(values), bool), np.zeros(len(values), bool)
        at, size = 0, FIRST
        while at < len(values):
            found = look(state, values[at : at + size])
            if found.warning is not None:
                warning[at : at + found.used] = found.warning[: found.used]
            at += found.used
            state, size = (init(), FIRST) if found.drift else (found.state, min(2 * size, MOST))
            drift[at - 1] = found.drift
        return state, Alarms(drift, warning)

    return Detector(init, update, HOST)


class PageHinkley(NamedTuple):
    """Sums since the last change."""

    n: int = 0
    total: float = 0.0
    up: float = 0.0
    down: float = 0.0
    least: float = math.inf
    most: float = -1.0


def page_hinkley(
    threshold: Annotated[float, Gt(0)] = 50.0, slack: Annotated[float, Ge(0)] = 0.005,
    forgetting: Annotated[float, Interval(gt=0, le=1)] = 0.9999, least: Annotated[int, Ge(1)] = 30,
    side: Literal["both", "up", "down"] = "both",
) -> Detector:  # fmt: skip
    """Page and Hinkley's test: the sum of deviations from the mean, less `slack` each, has left its extreme by `threshold`.

    `forgetting` is the factor of a sum from value to value; fewer than `least` values show nothing; `side` is where to.
    Page, Biometrika 41 (1954).

    >>> detector = page_hinkley()
    >>> _, alarms = detector.update(detector.init(), [0.0] * 100 + [5.0] * 100)
    >>> int(alarms.drift.argmax())
    110
    """
    if side not in ("both", "up", "down"):
        raise ValueError(f"`side` of `page_hinkley` must be both, up or down; got {side}.")
    if not 0 < forgetting <= 1:
        raise ValueError(f"`forgetting` of `page_hinkley` must be above 0 and at most 1; got {forgetting:g}.")

    def look(state, values):
        n = state.n + np.arange(1, len(values) + 1)
        total = state.total + np.cumsum(values)
        off = values - total / n
        up, down = (signal.lfilter([1.0], [1.0, -forgetting], off + move, zi=[forgetting * before])[0]
                    for move, before in ((-slack, state.up), (slack, state.down)))  # fmt: skip
        least_up = np.minimum(np.minimum.accumulate(up), state.least)
        most_down = np.maximum(np.maximum.accumulate(down), state.most)
        beyond = np.zeros(len(values), bool)
        if side != "down":
            beyond |= up - least_up > threshold
        if side != "up":
            beyond |= most_down - down > threshold
        beyond[: max(least - 1 - state.n, 0)] = False
        end = int(beyond.argmax())
        if beyond[end]:
            return Look(None, end + 1, True)
        last = PageHinkley(int(n[-1]), total[-1], up[-1], down[-1], least_up[-1], most_down[-1])
        return Look(last, len(values), False)

    return _by_blocks("page_hinkley", PageHinkley, look)


class Errors(NamedTuple):
    """Errors since the last change, and the rate at which rate and deviation together were least."""

    n: int = 0
    total: float = 0.0
    rate: float = math.inf
    deviation: float = 0.0


def ddm(
    warning: Annotated[float, Gt(0)] = 2.0, drift: Annotated[float, Gt(0)] = 3.0, least: Annotated[int, Ge(1)] = 30
) -> Detector:  # fmt: skip
    """The drift detection method: the rate of errors has risen by `drift` deviations above the least one, `warning` warns.

    Values are errors, 0 or 1, or shares of them. Up to `least` of them show nothing. Gama et al., SBIA (2004).

    >>> detector = ddm()
    >>> _, alarms = detector.update(detector.init(), [0, 1] * 100 + [1] * 100)
    >>> int(alarms.warning.argmax()), int(alarms.drift.argmax())
    (214, 233)
    """

    def look(state, values):
        n = state.n + np.arange(1, len(values) + 1)
        total = state.total + np.cumsum(values)
        rate = total / n
        deviation = np.sqrt(np.maximum(rate * (1 - rate), 0) / n)
        both = np.where(n > least, rate + deviation, math.inf)
        lowest = np.minimum(np.minimum.accumulate(both), state.rate + state.deviation)
        at = np.maximum.accumulate(np.where((both == lowest) & (n > least), np.arange(len(values)), -1))
        best, spread = np.where(at < 0, state.rate, rate[at]), np.where(at < 0, state.deviation, deviation[at])
        high = rate + deviation
        gone = (n > least) & (high > best + drift * spread)
        near = (n > least) & (high > best + warning * spread) & ~gone
        end = int(gone.argmax())
        if gone[end]:
            return Look(None, end + 1, True, near)
        return Look(Errors(int(n[-1]), total[-1], best[-1], spread[-1]), len(values), False, near)

    return _by_blocks("ddm", Errors, look, 1.0)


class Recent(NamedTuple):
    """The last values, and the state of the generator that picks among them; None where it has not begun."""

    values: np.ndarray
    generator: Any = None


def kswin(
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.005, window: Annotated[int, Ge(2)] = 100,
    recent: Annotated[int, Ge(1)] = 30, seed: int = 0,
) -> Detector:  # fmt: skip
    """Smirnov's test of the last `recent` values against as many of the older ones in a `window`, picked anew at each value.

    Every value is a test, so of streams without change a share well above `alpha` has one found. Raab et al., Neurocomputing 416
    (2020).

    >>> detector = kswin(alpha=0.0001)
    >>> _, alarms = detector.update(detector.init(), [7 * k % 10 + 20 * (k >= 200) for k in range(400)])
    >>> int(alarms.drift.argmax())
    216
    """
    if not 2 * recent <= window:
        raise ValueError(f"`window` of `kswin` must be at least twice `recent`, {2 * recent}; got {window}.")
    ramp = np.arange(recent, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where the exact p is too small, SciPy says that it takes the limit's
        p_of = np.array([stats.ks_2samp(ramp, ramp + h - 0.5 * (h > 0)).pvalue for h in range(recent + 1)])

    def look(state, values):
        whole = np.append(state.values, values)
        quiet = max(window - 1 - len(state.values), 0)
        if len(values) <= quiet:
            return Look(Recent(whole, state.generator), len(values), False)
        generator = random.Random(seed)
        if state.generator is not None:
            generator.setstate(state.generator)
        views = sliding_window_view(whole, window)
        picks = np.array([generator.sample(range(window - recent), recent) for _ in views])
        older, last = np.take_along_axis(views, picks, 1), views[:, window - recent :]
        far = smirnov_counts(older, last)
        gone = (p_of[far] <= alpha) & (far > 0.1 * recent)
        end = int(gone.argmax())
        if gone[end]:
            return Look(None, quiet + end + 1, True)
        return Look(Recent(whole[len(whole) - window + 1 :], generator.getstate()), len(values), False)

    return _by_blocks("kswin", lambda: Recent(np.zeros(0)), look)


def smirnov_counts(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far apart the counts of x and y [m, n] are at most, by row: n times Smirnov's statistic."""
    both = np.concatenate([x, y], 1)
    order = np.argsort(both, 1, kind="stable")
    ranked = np.take_along_axis(both, order, 1)
    apart = np.abs(np.cumsum(np.where(order < x.shape[1], 1, -1), 1))
    tied = np.append(ranked[:, 1:] == ranked[:, :-1], np.zeros((len(both), 1), bool), 1)
    return np.where(tied, 0, apart).max(1)


class Windowed(NamedTuple):
    """Values since the last change, less `center`: how many, their sum, of squares too, and the sum before each bucket."""

    n: int = 0
    total: float = 0.0
    square: float = 0.0
    center: float = 0.0
    begins: np.ndarray = np.zeros(0, int)
    sums: np.ndarray = np.zeros(0)


@lru_cache(maxsize=64)
def bucket_ages(first: int, clock: int, checks: int, buckets: int) -> np.ndarray:
    """How many values ago each bucket began [checks, rows * buckets], after first, first + clock, ... values; 0 where none is.

    Which buckets there are is a matter of counting: a row that has one too many hands its two oldest as one to the next row.
    """
    came = first + clock * np.arange(checks)
    rows, newer = [], np.zeros(checks, int)
    size = 1
    while came.any():
        handed = np.where(came > buckets, 1 + (came - buckets - 1) // 2, 0)
        held = came - 2 * handed
        slot = np.arange(1, buckets + 1)
        rows.append(np.where(slot <= held[:, None], newer[:, None] + size * slot, 0))
        newer, came, size = newer + size * held, handed, 2 * size
    return np.concatenate(rows, 1) if rows else np.zeros((checks, 0), int)


def adwin(
    delta: Annotated[float, Interval(gt=0, lt=1)] = 0.002, clock: Annotated[int, Ge(1)] = 32, buckets: Annotated[int, Ge(2)] = 5,
    least: Annotated[int, Ge(1)] = 5, grace: Annotated[int, Ge(0)] = 10,
) -> Detector:  # fmt: skip
    """Adaptive windowing: somewhere in the values since the last change, the means before and after differ beyond chance.

    Looked at every `clock` values from `grace` on, at the begins of buckets, up to `buckets` of each size 1, 2, 4, ..., with
    `least` values on both sides; `delta` is the chance of a false alarm. Memory grows by the logarithm.
    Bifet & Gavaldà, SDM (2007).

    >>> detector = adwin()
    >>> _, alarms = detector.update(detector.init(), [0.0] * 500 + [1.0] * 500)
    >>> int(alarms.drift.argmax())
    511
    """

    def look(state, values):
        center = state.center if state.n else float(values.mean())
        off = values - center
        sums = np.concatenate([[state.total], state.total + np.cumsum(off)])
        squares = state.square + np.cumsum(off * off)
        first = (state.n // clock + 1) * clock
        checks = (state.n + len(values) - first) // clock + 1 if state.n + len(values) >= first else 0

        def sums_before(place):
            """The sum of the values before each place since the last change."""
            if state.n == 0:
                return sums[place]
            made = sums[np.maximum(place - state.n, 0)]
            old = place < state.n
            made[old] = state.sums[np.searchsorted(state.begins, place[old])]
            return made

        if checks:
            n = first + clock * np.arange(checks)
            ages = bucket_ages(first, clock, checks, buckets)
            total = sums[n - state.n]
            mean = total / n
            variance = np.maximum(squares[n - state.n - 1] / n - mean**2, 0)
            strict = np.log(2 * np.log(np.maximum(n, 2)) / delta)
            n0 = n[:, None] - ages
            n0[ages == 0] = 0
            before = sums_before(n0)
            # No cut shows a change where the distance falls short of the root alone, without the corrections for few values.
            move = before - n0 * mean[:, None]
            spare = n0 - n0 * n0 / n[:, None].astype(float)
            possible = (move * move >= (2 * (1 - 1e-9) * variance * strict)[:, None] * spare) & (spare > 0)
            at, which = np.nonzero(possible)
            left = n0[at, which].astype(float)
            right = n[at] - left
            fair = (left >= least) & (right >= least) & (n[at] > grace)
            at, which, left, right = at[fair], which[fair], left[fair], right[fair]
            if len(at):
                share = 1 / (left - least + 1) + 1 / (right - least + 1)
                bound = np.sqrt(2 * share * variance[at] * strict[at]) + 2 / 3 * strict[at] * share
                u0 = before[at, which]
                cut = np.abs(u0 / left - (total[at] - u0) / right) > bound
                if cut.any():
                    return Look(None, int(n[at[cut][0]] - state.n), True)
        n = state.n + len(values)
        begins = np.sort(n - (ages := bucket_ages(n, 1, 1, buckets)[0])[ages > 0])
        kept = Windowed(n, sums[-1], squares[-1], center, begins, sums_before(begins))
        return Look(kept, len(values), False)

    return _by_blocks("adwin", Windowed, look)
