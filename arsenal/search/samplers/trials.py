"""What a search remembers: every point that was asked for, and what came of it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.records import Search
from arsenal.search.space import Space

PENDING, DONE, FAILED = 0, 1, 2
FEW, TRIES = 20_000, 100
"""Points of a space up to which one that is new is looked for among all; else so many are drawn."""


class Trials(NamedTuple):
    """The state of a search, arrays only; a trial's id is its position."""

    seed: Any
    """[k] uint32: the key of `init`."""
    unit: Any
    """[n, d]: points in the unit cube, as they were asked for."""
    values: Any
    """[n, objectives]: NaN where nothing valid was told."""
    status: Any
    """[n] int8: PENDING, DONE or FAILED."""


def generator(key: jax.Array, *more: int) -> np.random.Generator:
    """NumPy's random numbers as a function of a JAX key and further numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([*key_words(key).tolist(), *more])))


def key_words(key: jax.Array) -> np.ndarray:
    """A key, typed or not, as [k] uint32."""
    typed = isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key, np.uint32).ravel()


def no_trials(key: jax.Array, dimensions: int) -> Trials:
    """No trials yet."""
    return Trials(key_words(key), np.zeros((0, dimensions)), np.zeros((0, 1)), np.zeros(0, np.int8))


def add_points(trials: Trials, unit: np.ndarray) -> tuple[np.ndarray, Trials]:
    """Ids [n] of further points [n, d], and the trials with them."""
    first, n = len(trials.unit), len(unit)
    unknown = np.full((n, trials.values.shape[1]), np.nan)
    grown = trials._replace(
        unit=np.concatenate([trials.unit, unit]),
        values=np.concatenate([trials.values, unknown]),
        status=np.concatenate([trials.status, np.full(n, PENDING, np.int8)]),
    )
    return np.arange(first, first + n, dtype=np.int32), grown


def record_values(trials: Trials, ids: Any, values: Any, valid: Any) -> Trials:
    """The trials with values [m, objectives] of some; what is not valid or not finite has failed.

    A trial that is told twice has what was told last. Raises ValueError for an id that was never given, and where the
    number of objectives changes.
    """
    ids, values, valid = np.atleast_1d(np.asarray(ids)), np.asarray(values, float), np.atleast_1d(np.asarray(valid, bool))
    if values.ndim != 2 or not len(ids) == len(values) == len(valid):
        shapes = [list(v.shape) for v in (ids, values, valid)]
        raise ValueError(f"`tell` takes ids [m], values [m, objectives] and valid [m]; got shapes {shapes}.")
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(trials.status):
        raise ValueError(f"`tell` takes ids that were asked for, 0 to {len(trials.status) - 1}; got {ids.tolist()}.")
    kept = trials.values
    if values.shape[1] != kept.shape[1]:
        if (trials.status == DONE).any():
            raise ValueError(f"Every trial has the same number of objectives, here {kept.shape[1]}; got {values.shape[1]}.")
        kept = np.full((len(kept), values.shape[1]), np.nan)
    good = valid & np.isfinite(values).all(1)
    kept, status = kept.copy(), trials.status.copy()
    kept[ids] = np.where(good[:, None], values, np.nan)
    status[ids] = np.where(good, DONE, FAILED)
    return trials._replace(values=kept, status=status)


def replace_duplicates(space: Space, trials: Trials, unit: np.ndarray) -> np.ndarray:
    """The points [n, d] with others, drawn by the trial's id, in place of those that were asked for before.

    Fewer points where the space has no more. A space with a float in it is left alone.
    """
    axes = list(space.dimensions.values())
    if not len(unit) or any(one.size is None for one in axes):
        return unit

    def names(points: np.ndarray) -> list[tuple]:
        """What tells points from each other: the values of the dimensions that are there."""
        candidates = space.from_unit(points)
        active = space.active(candidates)
        return list(map(tuple, np.stack([np.where(active[name], candidates[name], -1) for name in candidates], 1).tolist()))

    @functools.cache
    def every() -> tuple[np.ndarray, list[tuple]]:
        """All points of the space."""
        at = np.indices([one.levels for one in axes]).reshape(len(axes), -1)
        points = np.stack([one.to_unit(one.numbers)[at[i]] for i, one in enumerate(axes)], 1)
        return points, names(points)

    def other(id: int) -> np.ndarray | None:
        """A point that nobody has; None where there is none."""
        draws = generator(trials.seed, id)
        if math.prod(one.levels for one in axes) <= FEW:
            left = [point for point, name in zip(*every(), strict=True) if name not in known]
            return left[draws.integers(len(left))] if left else None
        drawn = draws.random((TRIES, len(axes)))
        return next((point for point, name in zip(drawn, names(drawn), strict=True) if name not in known), drawn[0])

    known, chosen = set(names(trials.unit)), []
    for i, (point, name) in enumerate(zip(unit, names(unit), strict=True)):
        found = other(len(trials.unit) + i) if name in known else point
        if found is None:
            break
        known.add(names(found[None])[0])
        chosen.append(found)
    return np.array(chosen).reshape(-1, len(axes))


def remembering(space: Space, suggest: Callable[[Any, Trials, int], np.ndarray], size: int | None = None) -> Search:
    """The search whose state is its trials: `suggest(key, trials, n) -> [n, d]` gives further points in the unit cube.

    A sampler is one function of what happened so far. It may give fewer than n points where there are no more; `size`
    says how many there are. In a space without floats no point is given twice: it would be the same run again.
    """

    def ask(key, state, n):
        ids, grown = add_points(state, replace_duplicates(space, state, suggest(key, state, n)))
        return ids, space.from_unit(grown.unit[ids]), grown

    return Search(lambda key: no_trials(key, len(space.dimensions)), ask, record_values, size)
