"""Gradient-free minimisation of a function, compiled by JAX or called as it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Search
from arsenal.search.samplers.gaussian_process import gaussian_process
from arsenal.search.samplers.pareto import front
from arsenal.search.space import Space

UNTRACEABLE = (
    jax.errors.TracerArrayConversionError, jax.errors.TracerBoolConversionError, jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
)  # fmt: skip


class Found(NamedTuple):
    """What a minimisation found, n trials in their order."""

    best: Any
    """The best candidate, name -> value; of several objectives those of the Pareto set, a list."""
    value: Any
    """Its value, a float; [p, objectives] for a list."""
    candidates: dict[str, np.ndarray]
    """Name -> [n]."""
    values: np.ndarray
    """[n] or [n, objectives]."""
    trace: np.ndarray
    """As `values`: the least so far, of each objective; infinite before the first finite value."""


def minimize(
    fn: Callable[[dict[str, Any]], Any], space: Space, search: Search | Callable[[Space], Search] = gaussian_process,
    budget: int = 100, *, key: jax.Array | None = None, batch: int = 1, vectorize: bool = True,
) -> Found:  # fmt: skip
    """The candidate of least `fn` after `budget` evaluations, `batch` at a time by one compiled `vmap`.

    `fn` takes one candidate, name -> [] (the index of a choice; dimensions that are not there have a value all the same) and
    gives a scalar, or a vector of objectives. With `vectorize=False` it is any Python function, called for one candidate
    after the other: name -> plain value, a choice as it is, without dimensions that are not there. `search` is a sampler of
    this space, or what makes one, such as `cma_es`.
    Values that are not finite count as failed. Raises ValueError where none is finite.

    >>> from arsenal.search import cma_es, functions
    >>> problem = functions.sphere(2)
    >>> minimize(problem.value, problem.space, cma_es, budget=400, batch=8).value < 1e-4
    True
    """
    for name, number in (("budget", budget), ("batch", batch)):
        if number < 1:
            raise ValueError(f"`{name}` of `minimize` must be >= 1; got {number}.")
    key = jax.random.key(0) if key is None else key
    sampler = search if isinstance(search, Search) else search(space)
    state, compiled = sampler.init(key), jax.jit(jax.vmap(fn))

    def evaluate(candidates: dict[str, np.ndarray], n: int) -> np.ndarray:
        if not vectorize:
            return np.asarray([fn(space.values(candidates, i)) for i in range(n)], float)
        filled = {name: np.resize(column, (batch, *column.shape[1:])) for name, column in candidates.items()}
        try:
            return np.asarray(compiled({name: jnp.asarray(column) for name, column in filled.items()}), float)[:n]
        except UNTRACEABLE as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise ValueError(
                "`fn` of `minimize` cannot be compiled by JAX, which NumPy and a Python `if` on a value prevent; "
                f"vectorize=False calls it for one candidate at a time. JAX says: {said}."
            ) from error

    tried, values, done = [], [], 0
    while done < budget:
        ids, candidates, state = sampler.ask(key, state, min(batch, budget - done))
        if not (n := len(ids)):
            break
        if candidates.keys() != space.dimensions.keys():
            other = ", ".join(f"`{name}`" for name in candidates)
            raise ValueError(f"`search` of `minimize` must be a sampler of `space`; got one of another, with {other}.")
        made = evaluate(candidates, n)
        if made.ndim > 2:
            raise ValueError(f"`fn` of `minimize` must give a scalar or a vector; got shape {list(made.shape[1:])}.")
        state = sampler.tell(state, ids, made.reshape(n, -1), np.isfinite(made.reshape(n, -1)).all(1))
        tried.append(candidates)
        values.append(made)
        done += n
    every = {name: np.concatenate([one[name] for one in tried]) for name in space.dimensions}
    all_values = np.concatenate(values)
    good = np.flatnonzero(np.isfinite(all_values.reshape(done, -1)).all(1))
    if not len(good):
        raise ValueError(f"`fn` of `minimize` gave no finite value in {done} evaluations.")
    trace = np.minimum.accumulate(np.where(np.isfinite(all_values), all_values, np.inf), 0)
    if all_values.ndim == 2:
        pareto = good[front(all_values[good])]
        return Found([space.values(every, i) for i in pareto], all_values[pareto], every, all_values, trace)
    best = good[np.argmin(all_values[good])]
    return Found(space.values(every, best), float(all_values[best]), every, all_values, trace)
