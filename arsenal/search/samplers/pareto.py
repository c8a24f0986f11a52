"""Which of several trials are best, by one objective or by many; lower is better."""

import numpy as np


def front(values: np.ndarray) -> np.ndarray:
    """Positions, ascending, of the rows [n, objectives] that no other row dominates; equal rows are all there.

    >>> front(np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 2.0], [3.0, 0.0]])).tolist()
    [0, 1, 3]
    """
    kept: list[int] = []
    members = np.empty((0, values.shape[1]))
    for i in np.lexsort(values.T[::-1]):  # whoever dominates a row comes before it
        if not ((members <= values[i]).all(1) & (members < values[i]).any(1)).any():
            kept.append(i)
            members = values[kept]
    return np.sort(np.array(kept, int))


def best_positions(values: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n best rows [m, objectives]: front by front, the most alone of the last front by crowding distance.

    Deb et al., IEEE Trans. Evolutionary Computation 6 (2002).
    """
    if values.shape[1] == 1:
        return np.argsort(values[:, 0], kind="stable")[:n]
    chosen, left = np.zeros(0, int), np.arange(len(values))
    while len(chosen) < min(n, len(values)):
        here = front(values[left])
        if len(chosen) + len(here) > n:
            here = here[np.argsort(-crowding_distance(values[left[here]]), kind="stable")[: n - len(chosen)]]
        chosen = np.concatenate([chosen, left[here]])
        left = np.delete(left, here)
    return chosen


def crowding_distance(values: np.ndarray) -> np.ndarray:
    """How far apart the neighbours of each row [n, objectives] are, summed over objectives; infinite at the ends. [n]."""
    total = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        span = ordered[-1] - ordered[0] or 1.0
        total[order] += np.concatenate([[np.inf], (ordered[2:] - ordered[:-2]) / span, [np.inf]])[: len(values)]
    return total
