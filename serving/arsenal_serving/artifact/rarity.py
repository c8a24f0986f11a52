"""How unlike the rows that a model learned from a row is: an outlier's score that `reference.json` alone gives.

Of each column minus the logarithm of the share of rows that lie as far out on the nearer side or farther, twice that
for both sides; of a level its share. Columns are added up (Li et al., ECOD, TKDE 35, 2022, with one tail of two). What
lies beyond all values counts as once in the rows, and one more for each standard deviation. Columns are taken each by
itself: a pair of values that never came together is not rare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from arsenal_serving.artifact.sketch import NUMBER, ReferenceColumn


def rarity(columns: Sequence[ReferenceColumn], values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By column that both have, how rare each value [n] is there, in nats; a row's score is their sum."""
    return {one.name: rarity_of(one, values[one.name]) for one in columns if one.name in values and any(one.counts)}


def rarity_of(column: ReferenceColumn, values: np.ndarray) -> np.ndarray:
    """Of one column: numbers [n], NaN where one is missing, or words [n] as objects, None where missing."""
    counts, rows = np.asarray(column.counts, float), sum(column.counts)
    share = np.maximum(counts, 0.5) / (rows + 1)  # what never came is rarer than what came once
    if column.kind != NUMBER:
        places = {level: at for at, level in enumerate(column.levels)}
        gap, other = column.parts - 1, column.parts - 2
        at = [gap if v is None or v != v else places.get(str(v), other) for v in values.tolist()]
        return -np.log(share[at])
    try:
        wide = values.astype(np.float64)
    except (TypeError, ValueError):  # words where numbers were
        return np.full(len(values), -np.log(share[-2]))
    found = np.full(len(wide), -np.log(share[-1]))
    there = ~np.isnan(wide)
    if column.least is None or column.most is None or not there.any():
        found[there] = -np.log(share[-2])
        return found
    x, edges, inner = wide[there], np.array(column.edges), counts[:-2]
    known, place = inner.sum(), np.searchsorted(edges, x)
    below = np.concatenate([[0.0], np.cumsum(inner)])
    low, high = below[place + 1], known - below[place]
    for end, near, rank, bin in ((column.least, x, low, 0), (column.most, x, high, len(inner) - 1)):
        side = edges[0] if bin == 0 and len(edges) else edges[-1] if len(edges) else None
        if side is None or side == end or abs(column.means[bin] - end) <= 1e-9 * abs(side - end):
            continue  # one value: nothing lies within
        inside = place == bin
        rank[inside] = inner[bin] * np.clip((near[inside] - end) / (side - end), 0.0, 1.0)
    tail = np.clip(2 * np.minimum(low, high), 1.0, known) / known
    beyond = np.maximum(np.maximum(column.least - x, x - column.most), 0.0) / (column.deviation or 1.0)
    out = np.where(beyond > 0, np.log(known + 1) + np.minimum(beyond, 1e6), 0.0)
    found[there] = np.maximum(-np.log(tail), out)
    return found
