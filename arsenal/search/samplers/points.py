"""Searches that learn nothing from values: every point of a grid, random points, Sobol's points."""

from collections.abc import Mapping

import numpy as np

from arsenal.nearest import nearest
from arsenal.records import Search
from arsenal.search.samplers.trials import Trials, generator, key_words, remembering
from arsenal.search.space import Space

LARGEST = 1_000_000
"""Points of a grid."""


def grid(space: Space, points: int | Mapping[str, int] = 5) -> Search:
    """Every point of a grid, the last dimension fastest; `Search.size` says how many there are, and asks past them get fewer.

    `points` of a float or an int, one number or name -> number; an int with fewer values has them all, as choices and seeds
    do. Values of dimensions that are not there do not multiply the points. Raises ValueError beyond a million points.
    """
    if isinstance(points, Mapping):
        for name in points.keys() - space.dimensions.keys():
            hint = nearest(name, space.dimensions)
            raise ValueError(f"`points` of `grid` names `{name}`, which is not in the space.{hint}")
    axes = []
    for name, one in space.dimensions.items():
        n = points.get(name, 5) if isinstance(points, Mapping) else points
        if n < 1:
            raise ValueError(f"`points` of `grid` must be >= 1; got {n} for `{name}`.")
        size = one.size if one.size is not None and (one.size <= n or not one.is_ordered) else None
        ends = one.from_unit(np.linspace(0, 1, n) if n > 1 else np.array([0.5]))
        axes.append(one.to_unit(one.numbers if size else np.unique(ends)))
    sizes = [len(axis) for axis in axes]
    if (total := float(np.prod([float(n) for n in sizes]))) > LARGEST:
        raise ValueError(f"A grid must have at most {LARGEST:,} points; got {' x '.join(map(str, sizes))} = {total:,.0f}.")
    at = np.stack([index.ravel() for index in np.indices(sizes)], 1)
    unit = np.stack([axis[at[:, i]] for i, axis in enumerate(axes)], 1)
    there = np.stack(list(space.active(space.from_unit(unit)).values()), 1)
    _, first = np.unique(np.where(there, at, 0), axis=0, return_index=True)
    unit = unit[np.sort(first)]
    return remembering(space, lambda key, trials, n: unit[len(trials.unit) :][:n], len(unit))._replace(learns=False)


def random(space: Space) -> Search:
    """Uniform points: that of a trial is a function of key and id, however many are asked for at once.

    Bergstra & Bengio, JMLR 13 (2012).
    """
    d = len(space.dimensions)
    blocks = -(-d // 4)  # Philox makes four numbers at a time

    def suggest(key, trials, n):
        draws = np.random.Philox(np.random.SeedSequence(key_words(key).tolist())).advance(blocks * len(trials.unit))
        return np.random.Generator(draws).random((n, 4 * blocks))[:, :d]

    return remembering(space, suggest)._replace(learns=False)


def sobol(space: Space) -> Search:
    """Sobol's points, scrambled by the key of `init`: they fill the cube evenly, best for powers of 2 of trials.

    Sobol 1967, directions of Joe & Kuo, SIAM J. Sci. Comput. 30 (2008), scrambled after Owen, J. Complexity 14 (1998).
    """

    return remembering(space, lambda key, trials, n: sobol_points(trials, n))._replace(learns=False)


def sobol_points(trials: Trials, n: int) -> np.ndarray:
    """The next n of Sobol's points, [n, d]: a trial's is a function of the seed and its id."""
    from scipy.stats import qmc

    first, d = trials.unit.shape
    last = max(first + n - 1, 1)
    return qmc.Sobol(d, rng=generator(trials.seed)).random_base2(last.bit_length())[first : first + n]
