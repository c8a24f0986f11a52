"""Which trials share a compiled program: what of a space is traced, what fixes a program, and each trial's own config.

A dimension is traced when all that it changes in the config are floats below `learner` that the learner has in its `hp`,
with the very value: then a trial is a lane with another number in it. This is tried, with two values, and not declared.
"""

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal import config as configs
from arsenal.config import Config, ConfigError, Settings
from arsenal.experiment import parts
from arsenal.records import hyperparameters
from arsenal.search.space import Space

SEED = "seed"
"""The key whose values are lanes' keys."""
SWEEPING = ("space", "search", "scheduler", "sweep", "ray", "launcher", "grid", "splits", "study", "automl", "portfolio")
"""Keys of sweeps and studies that a trial's own command does not have."""
SAMPLED = 64
"""Trials that are looked at to see what fixes a program."""
CHOICES_TRIED = 32
"""Values of a choice that are composed before anything begins."""

Path = tuple[Any, ...]


class Program(NamedTuple):
    """What trials have in common: everything but seeds and traced floats."""

    config: Config
    """With some values in the place of those that vary."""
    hp: Any
    """The learner's."""
    leaves: dict[str, list[Path]]
    """Where in the config's values each traced dimension stands."""
    floats: dict[str, list[str]]
    """Which leaves of `hp` it is."""
    order: list[str]
    """The space's names."""
    words: list[str]
    """Of the command line, without those that a dimension gives."""

    def config_of(self, values: Mapping[str, Any]) -> Config:
        """The config of the trial with these values: as it would be composed, without composing."""
        made = self.config.values
        for name, value in values.items():
            for path in self.leaves.get(name, []):
                made = replace_leaf(made, path, value)
        own = [word for name in self.order if name in values for word in configs.override_words(name, values[name])]
        return Config(made, [*self.words, *own])

    def seeds(self, trials: Sequence[Mapping[str, Any]]) -> list[int]:
        """The seed of each trial."""
        return [values.get(SEED, self.config.settings.seed) for values in trials]

    def lanes(self, trials: Sequence[Mapping[str, Any]]) -> Any:
        """The trials' floats as lanes: the leaves of `hp`, [trials, ...]."""
        names = {leaf: name for name, found in self.floats.items() for leaf in found}
        like = hyperparameters(self.hp)

        def filled(path, leaf):
            wide = np.broadcast_to(np.asarray(leaf), (len(trials), *leaf.shape)).copy()
            name = names.get(jax.tree_util.keystr(path))
            for i, values in enumerate(trials):
                if name in values:
                    wide[i] = values[name]
            return jax.numpy.asarray(wide)

        return jax.tree_util.tree_map_with_path(filled, like)


class Programs:
    """The programs of a space over a command line, composed when a trial first needs one."""

    def __init__(self, words: Sequence[str], space: Space):
        """`words` name the experiment; those of the sweep are left out of the trials' own commands."""
        self.words, self.space = configs.own_words(words, SWEEPING), space
        conditions = {other for one in space.dimensions.values() for other in one.when}
        self.fixed = [name for name, one in space.dimensions.items() if name in conditions or not is_numeric(one)]
        self.tried: dict[str, tuple[dict[str, list[Path]], dict[str, list[str]]]] = {}
        self.known: dict[str, Program] = {}

    @property
    def middle(self) -> dict[str, Any]:
        """The values of the trial in the middle of the space."""
        return self.space.values(self.space.from_unit(np.full((1, len(self.space.dimensions)), 0.5)), 0)

    @functools.cached_property
    def fixed_dimensions(self) -> list[str]:
        """Dimensions that fix a program, where they are there."""
        points = np.random.default_rng(0).random((SAMPLED, len(self.space.dimensions)))
        candidates, found = self.space.from_unit(np.concatenate([np.full((1, points.shape[1]), 0.5), points])), set()
        outer = {}
        for i in range(SAMPLED + 1):
            values = self.space.values(candidates, i)
            outer.setdefault(json.dumps([sorted(values), [values.get(name) for name in self.fixed]], default=str), values)
        for values in list(outer.values())[:CHOICES_TRIED]:
            with contextlib.suppress(ConfigError):  # such a trial will fail, and say so
                found |= values.keys() - self.traced_dimensions(values)[0].keys()
        return [name for name in self.space.dimensions if name in found]

    def compose(self, values: Mapping[str, Any]) -> Config:
        """The config of a command line with these values."""
        more = (word for name, value in values.items() for word in configs.override_words(name, value))
        return configs.compose_words([*self.words, *more])

    def of(self, values: Mapping[str, Any]) -> Program:
        """The program of a trial; a `ConfigError` where its config cannot be used."""
        leaves, floats = self.traced_dimensions(values)
        static = {name: value for name, value in values.items() if name not in leaves}
        key = json.dumps([static, sorted(leaves)], sort_keys=True, default=str)
        if key not in self.known:
            probe = {name: self.probe(name, 0) for name in leaves}
            config = self.compose({name: (static | probe)[name] for name in values})
            order = list(self.space.dimensions)
            self.known[key] = Program(config, parts(config).learner.hp, leaves, floats, order, self.words)
        return self.known[key]

    def config_of(self, values: Mapping[str, Any]) -> Config:
        """The config of a trial."""
        return self.of(values).config_of(values)

    def traced_dimensions(self, values: Mapping[str, Any]) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
        """Of the dimensions that a trial has, those that are traced: their leaves in the config and in `hp`."""
        outer = {name: values[name] for name in values if name in self.fixed}
        key = json.dumps([outer, sorted(values)], sort_keys=True, default=str)
        if key not in self.tried:
            self.tried[key] = self.tells(outer, [name for name in values if name not in self.fixed], list(values))
        return self.tried[key]

    def tells(self, fixed: Mapping[str, Any], names: Sequence[str], order: Sequence[str]) -> tuple[dict, dict]:
        """Give these names two values each, and see what becomes of it; one by one where they cannot be told apart."""
        if not names:
            return {}, {}
        pairs = {name: (self.probe(name, 0), self.probe(name, 1)) for name in names}
        rest = {name: self.probe(name, 0) for name in order if name not in fixed and name not in names}
        made = []
        for i in (0, 1):
            given = {**fixed, **rest, **{name: pair[i] for name, pair in pairs.items()}}
            made.append(self.compose({name: given[name] for name in order}))
        changed = leaf_differences(*(dict(walk_leaves(config.values)) for config in made))
        hps = leaf_differences(*(leaves_by_name(parts(config).learner.hp) for config in made))
        leaves = {name: [path for path, pair in changed.items() if holds_pair(pair, pairs[name])] for name in names}
        floats = {name: [leaf for leaf, pair in hps.items() if holds_pair(pair, pairs[name])] for name in names}
        told = sum(map(len, leaves.values())) == len(changed) and sum(map(len, floats.values())) == len(hps)
        if not told and len(names) > 1:
            found = [self.tells({**fixed, **rest}, [name], order) for name in names]
            return {k: v for one, _ in found for k, v in one.items()}, {k: v for _, one in found for k, v in one.items()}
        good = [name for name in names if told and is_traced(name, leaves[name], floats[name])]
        return {name: leaves[name] for name in good}, {name: floats[name] for name in good}

    def probe(self, name: str, which: int) -> Any:
        """A value of a dimension to try, unlike those of others."""
        one, position = self.space.dimensions[name], list(self.space.dimensions).index(name)
        if one.kind == "choice":
            return one.choices[min(which, len(one.choices) - 1)]
        if one.kind == "seed":
            return which * 2_000 + 1_000 + position
        # Multiples of the golden ratio keep away from each other.
        return one.value(one.from_unit(np.array([(0.5 + (2 * position + 1 + which) * 0.6180339887) % 1]))[0])

    def check(self) -> None:
        """Raise a `ConfigError` unless the space's keys exist and take the ends of their ranges and every choice."""
        middle = self.middle
        try:
            self.traced_dimensions(middle)
        except ConfigError:  # one of the probes cannot be used: perhaps an end says more
            for name in middle:
                if name not in self.fixed and (one := self.space.dimensions[name]).kind != "seed":
                    for end in one.choices or (one.value(one.low), one.value(one.high)):
                        self.compose({**middle, name: end})
            raise
        for name, one in self.space.dimensions.items():
            if one.kind == "seed" or name not in middle:
                continue
            ends = one.choices[:CHOICES_TRIED] if one.kind == "choice" else (one.value(one.low), one.value(one.high))
            if name not in self.fixed and name in self.traced_dimensions(middle)[0]:
                for end in ends:
                    values = self.of(middle).config_of({**middle, name: end}).values
                    configs.examine(values, set(values) - Settings.model_fields.keys())
                continue
            for end in ends:
                candidate = self.space.from_unit(np.full((1, len(self.space.dimensions)), 0.5))
                candidate[name][0] = one.number(end)
                self.compose(self.space.values(candidate, 0))

    def count(self, trials: int) -> float:
        """How many programs so many trials need, at most; infinite where a float fixes one."""
        static = [self.space.dimensions[name].size for name in self.fixed_dimensions]
        return min(float(trials), float(np.prod([np.inf if size is None else float(size) for size in static])))


def is_numeric(one: Any) -> bool:
    """Whether all values of a dimension are numbers, at least two of them."""
    values = one.choices if one.kind == "choice" else ()
    sound = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sound and (one.kind != "choice" or len(set(values)) > 1)


def is_traced(name: str, leaves: Sequence[Path], floats: Sequence[str]) -> bool:
    """Whether what a dimension changes is the seed, or floats of the learner that are all in `hp`."""
    if name == SEED:
        return list(leaves) == [(SEED,)] and not floats
    own = [path for path in leaves if path[0] == "learner"]
    elsewhere = [path for path in leaves if path[0] in Settings.model_fields and path[0] != "learner"]
    return bool(own) and not elsewhere and len(floats) >= len(own)


def holds_pair(found: tuple[Any, Any], pair: tuple[Any, Any]) -> bool:
    """Whether two leaves hold the two values."""

    def equal(leaf, value):
        if isinstance(leaf, str) or leaf is None or isinstance(value, str):
            return leaf == value
        return bool(np.all(np.asarray(leaf, np.float32) == np.float32(value)))

    return equal(found[0], pair[0]) and equal(found[1], pair[1])


def leaf_differences(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[Any, tuple[Any, Any]]:
    """The leaves that two flat trees do not have in common, as pairs."""
    pairs = {path: (one.get(path), other.get(path)) for path in dict.fromkeys([*one, *other])}

    def alike(path, pair):
        return path in one and path in other and np.all(pair[0] == pair[1])

    return {path: pair for path, pair in pairs.items() if not alike(path, pair)}


def walk_leaves(node: Any, path: Path = ()):
    """Yield every leaf of nested dicts and lists with its path."""
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from walk_leaves(value, (*path, key))
    else:
        yield path, None if isinstance(node, dict | list) else node


def leaves_by_name(hp: Any) -> dict[str, Any]:
    """The leaves of a tree by name."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(hp)}


def replace_leaf(node: Any, path: Path, value: Any) -> Any:
    """The nested dicts and lists with another leaf; what is on no path to it is shared."""
    if not path:
        return value
    made = dict(node) if isinstance(node, dict) else list(node)
    made[path[0]] = replace_leaf(node[path[0]], path[1:], value)
    return made
