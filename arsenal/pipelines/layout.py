"""Where the steps of a flow stand in a drawing: layers from left to right, in an order with few crossings.

Sugiyama, Tagawa & Toda, Methods for Visual Understanding of Hierarchical System Structures (1981): longest paths, places for
edges that pass a layer, and medians of neighbours.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

WIDTH, HEIGHT, GAP, ROW = 176, 50, 64, 66
"""Of a step, between layers, and from one step to the next below it."""
PASS = 26
"""What an edge takes of a layer that it passes."""
SWEEPS = 8
Node = tuple[str, ...]
"""A step, or one of the places of an edge."""


class Drawing(NamedTuple):
    """A drawing in pixels."""

    width: float
    height: float
    places: dict[str, tuple[float, float]]
    """The left upper corner of each step."""
    edges: list[tuple[str, str, list[tuple[float, float]]]]
    """From, to, and the points that an edge goes through."""


def layout(waits: Mapping[str, Sequence[str]]) -> Drawing:
    """Steps, in an order in which each stands behind those that it waits for, as a drawing.

    >>> layout({"a": [], "b": ["a"]}).places
    {'a': (1.0, 1.0), 'b': (241.0, 1.0)}
    """
    level: dict[str, int] = {}
    for name, others in waits.items():
        level[name] = max((level[one] + 1 for one in others), default=0)
    layers: list[list[Node]] = [[] for _ in range(max(level.values(), default=0) + 1)]
    before: dict[Node, list[Node]] = {}
    after: dict[Node, list[Node]] = {}
    chains: dict[tuple[str, str], list[Node]] = {}
    for name in waits:
        layers[level[name]].append((name,))
    for name, others in waits.items():
        for other in others:
            chain: list[Node] = [(other,)]
            for at in range(level[other] + 1, level[name]):
                chain.append((other, name, str(at)))
                layers[at].append(chain[-1])
            chain.append((name,))
            chains[other, name] = chain
            for one, next_one in pairwise(chain):
                after.setdefault(one, []).append(next_one)
                before.setdefault(next_one, []).append(one)
    best, least = [list(one) for one in layers], crossings(layers, after)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            rank = {one: i for i, one in enumerate(layers[at - 1 if down else at + 1])}
            beside, here = before if down else after, {one: i for i, one in enumerate(layers[at])}
            wanted = {one: mean([rank[other] for other in beside.get(one, ())] or [here[one]]) for one in layers[at]}
            layers[at].sort(key=wanted.__getitem__)
        if (now := crossings(layers, after)) < least:
            best, least = [list(one) for one in layers], now
    tall = [sum(ROW if len(one) == 1 else PASS for one in layer) - (ROW - HEIGHT) * (len(layer[-1]) == 1) for layer in best]
    middle: dict[Node, float] = {}
    for layer, high in zip(best, tall, strict=True):
        y = 1.0 + (max(tall) - high) / 2
        for one in layer:
            middle[one] = y + (HEIGHT if len(one) == 1 else PASS) / 2
            y += ROW if len(one) == 1 else PASS
    left = [1.0 + at * (WIDTH + GAP) for at in range(len(best))]
    places = {name: (left[level[name]], middle[name,] - HEIGHT / 2) for name in waits}
    edges: list[tuple[str, str, list[tuple[float, float]]]] = []
    for (before_it, behind_it), chain in chains.items():
        points = [(left[level[before_it]] + WIDTH, middle[chain[0]])]
        for node in chain[1:-1]:
            x = left[int(node[2])]
            points += [(x, middle[node]), (x + WIDTH, middle[node])]
        edges.append((before_it, behind_it, [*points, (left[level[behind_it]], middle[chain[-1]])]))
    return Drawing(left[-1] + WIDTH + 1, max(tall) + 2, places, edges)


def crossings(layers: Sequence[Sequence[Node]], after: Mapping[Node, Sequence[Node]]) -> int:
    """How many edges cross between neighbouring layers."""
    count = 0
    for one, other in pairwise(layers):
        rank = {node: i for i, node in enumerate(other)}
        ends = [rank[end] for node in one for end in sorted(after.get(node, ()), key=rank.__getitem__)]
        count += sum(first > second for i, first in enumerate(ends) for second in ends[i + 1 :]) if len(ends) < 400 else 0
    return count


def curve(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path through the points that leaves and enters level; between the two points of a passed layer it is straight."""
    (x, y), parts = points[0], [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for i, (to, down) in enumerate(points[1:]):
        half = (x + to) / 2
        parts.append(f"L{to:.1f} {down:.1f}" if i % 2 else f"C{half:.1f} {y:.1f} {half:.1f} {down:.1f} {to:.1f} {down:.1f}")
        x, y = to, down
    return "".join(parts)
