"""The space of a search: named dimensions, and the two ways between candidates and the unit cube.

`candidates` are a dict of arrays, name -> [n]: float64 for floats, int32 for integers, seeds and the index of a choice.
A dimension that is conditional and not active in a candidate has a value there all the same; `Space.active` tells.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from arsenal.nearest import nearest

KINDS = ("float", "log", "int", "log_int", "choice", "seed")


class Dimension(NamedTuple):
    """One axis of a space."""

    kind: str
    low: float = 0.0
    """Inclusive, as is `high`; of a choice the first index, of a seed 0."""
    high: float = 0.0
    choices: tuple = ()
    """The values of a choice."""
    when: dict[str, tuple] = {}
    """Values of other dimensions under which this one is there."""
    step: int = 1
    """From one whole number to the next."""

    @property
    def size(self) -> int | None:
        """How many values there are; None for floats."""
        return None if self.kind in ("float", "log") else self.levels

    @property
    def levels(self) -> int:
        """How many whole numbers lie between the ends, both included."""
        return int(self.high - self.low) // self.step + 1

    @property
    def numbers(self) -> np.ndarray:
        """All whole numbers from end to end."""
        return np.arange(self.low, self.high + 1, self.step)

    @property
    def is_ordered(self) -> bool:
        """Whether neighbours are alike: not so for choices and seeds."""
        return self.kind not in ("choice", "seed")

    @property
    def is_logarithmic(self) -> bool:
        """Whether the unit interval is stretched along the logarithm."""
        return self.kind in ("log", "log_int")

    @property
    def edges(self) -> tuple[float, float]:
        """The ends of what the unit interval is stretched along: cells of whole numbers are whole."""
        if self.size is None:
            return self.low, self.high
        half = self.step / 2
        return (self.low - half, self.high + half) if self.is_ordered else (0.0, float(self.size))

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """Values [n] of numbers in [0, 1], [n]."""
        u, (low, high) = np.asarray(u, float), self.edges
        value = low * (high / low) ** u if self.is_logarithmic else low + u * (high - low)
        if self.size is None:
            return np.clip(value, self.low, self.high)
        value = self.low + self.step * np.rint((value - self.low) / self.step) if self.is_ordered else np.floor(value)
        return np.clip(value, self.low, self.high).astype(np.int32)

    def to_unit(self, value: np.ndarray) -> np.ndarray:
        """Numbers in [0, 1], [n], of values; a whole number is a point of its cell."""
        low, high = self.edges
        value = np.asarray(value, float) + (0.0 if self.is_ordered else 0.5)
        u = np.log(value / low) / math.log(high / low) if self.is_logarithmic else (value - low) / (high - low)
        return np.clip(u, 0.0, 1.0)

    def value(self, number: Any) -> Any:
        """What a candidate's entry stands for, as plain Python."""
        if self.kind == "choice":
            return self.choices[int(number)]
        return float(number) if self.size is None else int(number)

    def number(self, value: Any) -> float | int | None:
        """A candidate's entry for a value; None where the dimension does not have that value."""
        if self.kind == "choice":
            return next((i for i, choice in enumerate(self.choices) if equals(choice, value)), None)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and self.low <= value <= self.high
        return value if number and (self.size is None or (value - self.low) % self.step == 0) else None


class Space(NamedTuple):
    """Named dimensions, in order; d of them."""

    dimensions: dict[str, Dimension]

    def from_unit(self, u: np.ndarray) -> dict[str, np.ndarray]:
        """Candidates of points in the unit cube, [n, d]."""
        u = np.asarray(u, float)
        if u.ndim != 2 or u.shape[1] != len(self.dimensions):
            raise ValueError(f"Points of this space have shape [n, {len(self.dimensions)}]; got {list(u.shape)}.")
        return {name: one.from_unit(u[:, i]) for i, (name, one) in enumerate(self.dimensions.items())}

    def to_unit(self, candidates: Mapping[str, Any]) -> np.ndarray:
        """Points in the unit cube, [n, d]."""
        return np.stack([one.to_unit(np.asarray(candidates[name])) for name, one in self.dimensions.items()], 1)

    def active(self, candidates: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Which dimensions are there, name -> [n] bool: all that it is conditional on are, with one of the values asked for."""
        found: dict[str, np.ndarray] = {}

        def one(name):
            if name not in found:
                found[name] = np.ones(len(np.asarray(candidates[name])), bool)
                for other, values in self.dimensions[name].when.items():
                    numbers = [self.dimensions[other].number(value) for value in values]
                    found[name] = found[name] & one(other) & np.isin(np.asarray(candidates[other]), numbers)
            return found[name]

        return {name: one(name) for name in self.dimensions}

    def values(self, candidates: Mapping[str, Any], i: int) -> dict[str, Any]:
        """Candidate i as YAML has it, name -> value, without the dimensions that are not there."""
        one = {name: np.asarray(candidates[name])[i : i + 1] for name in self.dimensions}
        active = self.active(one)
        return {name: dimension.value(one[name][0]) for name, dimension in self.dimensions.items() if active[name][0]}

    def candidate(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """One candidate, name -> [1], of values; the reverse of `values`. Dimensions that are not there are at their middle."""
        for name in values:
            if name not in self.dimensions:
                raise ValueError(f"`{name}` is not in the space.{nearest(name, self.dimensions)}")
        made = self.from_unit(np.full((1, len(self.dimensions)), 0.5))
        for name, value in values.items():
            number = self.dimensions[name].number(value)
            if number is None:
                raise ValueError(f"`{name}` has no value {value!r} in the space; it is {entry_of(self.dimensions[name])}.")
            made[name][0] = number
        for name, there in self.active(made).items():
            if there[0] and name not in values:
                raise ValueError(f"A candidate needs a value for `{name}`; got {', '.join(values) or 'none'}.")
        return made

    def describe(self) -> dict[str, Any]:
        """The specification as JSON can hold it, in one form: `space(space.describe())` is this space."""
        return {
            name: entry_of(one) | ({"when": {other: list(values) for other, values in one.when.items()}} if one.when else {})
            for name, one in self.dimensions.items()
        }


def space(spec: Mapping[str, Any]) -> Space:
    """The space that YAML describes, one entry for each dimension; ValueError says what is wrong in one line.

    Kinds: `{float: [low, high]}`, `{log: [low, high]}` uniform in the logarithm, `{int: [low, high]}` and
    `{log_int: [low, high]}` with both ends, `{choice: [...]}` of any values, `{seed: n}` for 0..n-1. An int may have a `step`,
    `{int: [16, 64], step: 16}`. `when: {other: value}`, or a list of values, makes a dimension conditional.
    >>> made = space({"dropout": {"float": [0, 0.5]}, "width": {"int": [1, 4]}})
    >>> made.values(made.from_unit([[0.5, 0.9]]), 0)
    {'dropout': 0.25, 'width': 4}
    """
    if not isinstance(spec, Mapping) or not spec:
        raise ValueError(f"`space` must name at least one dimension; got {spec!r}.")
    dimensions = {str(name): dimension(str(name), entry) for name, entry in spec.items()}
    for name, one in dimensions.items():
        for other, values in one.when.items():
            if other not in dimensions:
                raise ValueError(f"`when` of `{name}` asks for `{other}`, which is not in the space.{nearest(other, dimensions)}")
            if dimensions[other].size is None:
                raise ValueError(f"`when` of `{name}` must ask for a choice, an int or a seed; got `{other}`, a float.")
            for value in values:
                if dimensions[other].number(value) is None:
                    allowed = entry_of(dimensions[other])
                    raise ValueError(f"`when` of `{name}` asks for {other} = {value!r}, which it never is: {allowed}.")
    check_acyclic(dimensions)
    return Space(dimensions)


def dimension(name: str, entry: Any) -> Dimension:
    """One dimension from its entry."""
    if not isinstance(entry, Mapping) or len(entry.keys() - {"when", "step"}) != 1:
        raise ValueError(f"`{name}` must have one of {', '.join(KINDS)}, and may have `when`; got {entry!r}.")
    (kind,) = entry.keys() - {"when", "step"}
    given, when, step = entry[kind], entry.get("when") or {}, entry.get("step", 1)
    if "step" in entry and kind != "int":
        raise ValueError(f"Only an int may have a `step`; `{name}` is a {kind}.")
    if kind not in KINDS:
        raise ValueError(f"`{name}` must be one of {', '.join(KINDS)}; got `{kind}`.{nearest(str(kind), KINDS)}")
    if not isinstance(when, Mapping):
        raise ValueError(f"`when` of `{name}` must name another dimension and its values; got {when!r}.")
    when = {str(other): tuple(values) if isinstance(values, (list, tuple)) else (values,) for other, values in when.items()}
    if any(not values for values in when.values()):
        raise ValueError(f"`when` of `{name}` must name at least one value; got {entry['when']!r}.")
    if kind == "choice":
        if not isinstance(given, (list, tuple)) or not given:
            raise ValueError(f"The choice `{name}` must list at least one value; got {given!r}.")
        twice = next((value for i, value in enumerate(given) if any(equals(value, other) for other in given[:i])), None)
        if twice is not None:
            raise ValueError(f"The choice `{name}` lists {twice!r} twice; the same run would be trained again.")
        return Dimension(kind, 0, len(given) - 1, tuple(given), when)
    if kind == "seed":
        if not is_whole(given) or given < 1:
            raise ValueError(f"The seed `{name}` must say how many seeds, at least 1; got {given!r}.")
        return Dimension(kind, 0, given - 1, (), when)
    if not isinstance(given, (list, tuple)) or len(given) != 2 or not all(is_finite_number(end) for end in given):
        raise ValueError(f"The range of `{name}` must be two numbers, [low, high]; got {given!r}.")
    low, high = given
    if kind in ("int", "log_int") and not (is_whole(low) and is_whole(high) and max(abs(low), abs(high)) < 2**31):
        raise ValueError(f"The range of `{name}` must be two whole numbers below 2**31; got {given!r}.")
    if low >= high:
        raise ValueError(f"The range of `{name}` must have low < high; got {list(given)}.")
    if kind in ("log", "log_int") and low <= 0:
        raise ValueError(f"The range of `{name}` is logarithmic and must lie above 0; got {list(given)}.")
    if not is_whole(step) or step < 1 or (step > 1 and (high - low) % step):
        raise ValueError(f"`step` of `{name}` must be a whole number that divides {high} - {low}; got {step!r}.")
    return Dimension(kind, low, high, (), when, step)


def check_acyclic(dimensions: Mapping[str, Dimension]) -> None:
    """ValueError where a dimension is conditional on itself, by whatever way."""

    def visit(name, path):
        if name in path:
            raise ValueError(f"`when` goes in a circle: {' -> '.join([*path[path.index(name) :], name])}.")
        for other in dimensions[name].when:
            visit(other, [*path, name])

    for name in dimensions:
        visit(name, [])


def entry_of(one: Dimension) -> dict[str, Any]:
    """A dimension's entry, without its condition."""
    if one.kind == "choice":
        return {"choice": list(one.choices)}
    if one.kind == "seed":
        return {"seed": one.size}
    return {one.kind: [one.low, one.high]} | ({"step": one.step} if one.step > 1 else {})


def equals(a: Any, b: Any) -> bool:
    """Equal as YAML has it: true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def is_finite_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """A whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
