"""Groups of parameters by the pattern of their paths: paces of their own, or frozen."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from arsenal.nearest import nearest
from arsenal.optim.gradient import as_optimizer
from arsenal.optim.nested import multiply, reads
from arsenal.records import Optimizer

PACES = ("learning_rate", "weight_decay")
KEYS = ("pattern", *PACES, "freeze")


class Match(NamedTuple):
    """A parameter and the group that it falls into."""

    path: str
    """Names joined by `/`, as in `Dense_0/kernel`."""
    shape: tuple[int, ...]
    group: str
    """The group's pattern."""


def grouped(groups: Sequence[dict[str, Any]], optimizer: Any) -> Optimizer:
    """An optimizer for each group of parameters; `hp` is {"optimizer": ..., "groups": [...]}.

    A group is a dict of `pattern`, a regular expression for the whole path of a parameter (`.*/bias`); where it
    differs, `learning_rate` and `weight_decay` >= 0, traced, which multiply the optimizer's; and `freeze`: its
    parameters stay as they are, bit for bit, and nothing is held for them. The first pattern that matches wins.

    Raises ValueError for a key, a pattern or a multiplier that cannot be used, and, once there are parameters, for
    one that no group covers and for a group that gets none. `.*` as the last pattern covers the rest, if any.
    Discriminative rates: Howard & Ruder, ACL 2018 (1801.06146), section 3.2.

    >>> from arsenal.optim.gradient import sgd
    >>> optimizer = grouped([{"pattern": "b", "freeze": True}, {"pattern": ".*", "learning_rate": 0.5}], sgd(1.0))
    >>> params = {"b": jax.numpy.array(0.0), "w": jax.numpy.array(0.0)}
    >>> gradient = {"b": jax.numpy.array(1.0), "w": jax.numpy.array(1.0)}
    >>> _, params = optimizer.update(optimizer.init(params, optimizer.hp), params, gradient, optimizer.hp, None)
    >>> float(params["b"]), float(params["w"])
    (0.0, -0.5)
    """
    optimizer = as_optimizer(optimizer)
    groups = [check_group(group) for group in groups]
    paces = [name for name in PACES if reads(optimizer.hp, name)]
    for group in groups:
        for name in PACES:
            if name in group and name not in paces:
                raise ValueError(f"The group `{group['pattern']}` changes `{name}`, but the optimizer has no `{name}`.")
    frozen = [group.get("freeze", False) for group in groups]

    def members(params):
        """The paths of each group that learns; none for one that is frozen."""
        order = {group["pattern"]: number for number, group in enumerate(groups)}
        found = [[] for _ in groups]
        for path, row in zip(by_path(params), matches(groups, params), strict=True):
            if not frozen[order[row.group]]:
                found[order[row.group]].append(path)
        return found

    def own(number, hp):
        chosen = hp["optimizer"]
        for name, factor in hp["groups"][number].items():
            chosen = multiply(chosen, name, factor)
        return chosen

    def init(params, hp):
        leaves = by_path(params)
        return tuple(
            optimizer.init(pick_leaves(leaves, paths), own(number, hp)) if paths else ()
            for number, paths in enumerate(members(params))
        )

    def update(state, params, gradient, hp, value):
        leaves, gradients, states = by_path(params), by_path(gradient), []
        for number, paths in enumerate(members(params)):
            inner = state[number]
            if paths:
                one, downhill = pick_leaves(leaves, paths), pick_leaves(gradients, paths)
                inner, moved = optimizer.update(inner, one, downhill, own(number, hp), value)
                leaves |= flatten_dict(moved)
            states.append(inner)
        return tuple(states), jax.tree.unflatten(jax.tree.structure(params), list(leaves.values()))

    def floats(group):
        return {} if group.get("freeze") else {name: group.get(name, 1.0) for name in paces}

    return Optimizer(init, update, {"optimizer": optimizer.hp, "groups": [floats(group) for group in groups]})


def matches(groups: Sequence[dict[str, Any]], params: Any) -> list[Match]:
    """The group of every parameter, in the order of the tree; shapes are enough (`jax.eval_shape`).

    Raises ValueError for a parameter that no pattern matches, and for a pattern that matches nothing or only what
    earlier ones took, unless it is a last `.*`.

    >>> groups = [{"pattern": ".*bias", "weight_decay": 0.0}, {"pattern": ".*"}]
    >>> params = {"Dense_0": {"bias": jax.numpy.zeros(2), "kernel": jax.numpy.zeros((3, 2))}}
    >>> matches(groups, params)[1]
    Match(path='Dense_0/kernel', shape=(3, 2), group='.*')
    """
    patterns = [check_group(group)["pattern"] for group in groups]
    named = {"/".join(path): leaf for path, leaf in by_path(params).items()}
    fitting = {path: [pattern for pattern in patterns if re.fullmatch(pattern, path)] for path in named}
    for path, found in fitting.items():
        if not found:
            raise ValueError(
                f"No group covers the parameter `{path}`; add a pattern that does, such as `.*` for the rest. "
                f"Patterns are {quote(patterns)}."
            )
    taken = [found[0] for found in fitting.values()]
    for number, pattern in enumerate(patterns):
        if pattern in patterns[:number]:
            raise ValueError(f"Patterns of groups must be distinct; got `{pattern}` twice.")
        if pattern in taken or (pattern == ".*" and number == len(patterns) - 1):
            continue
        if any(pattern in found for found in fitting.values()):
            raise ValueError(f"The pattern `{pattern}` matches only parameters that earlier groups took; move it up.")
        raise ValueError(f"The pattern `{pattern}` matches the whole path of no parameter; there are {quote(named)}.")
    return [Match(path, tuple(leaf.shape), group) for (path, leaf), group in zip(named.items(), taken, strict=True)]


def check_group(group: dict[str, Any]) -> dict[str, Any]:
    """The group as it came; raises ValueError unless its keys, its pattern and what stands beside it can be used."""
    if "pattern" not in group:
        raise ValueError(f"A group needs a `pattern`; got {group}.")
    for key in group:
        if key not in KEYS:
            raise ValueError(f"A group has {quote(KEYS)}; `{group['pattern']}` has `{key}`.{nearest(key, KEYS)}")
    try:
        re.compile(group["pattern"])
    except (re.error, TypeError) as error:
        hint = " Any text is `.*`, not `*`." if "*" in str(group["pattern"]) else ""
        raise ValueError(f"A pattern must be a regular expression; `{group['pattern']}` is none: {error}.{hint}") from error
    for name in PACES:
        if not isinstance(group.get(name, 1.0), int | float) or isinstance(group.get(name), bool) or group.get(name, 1.0) < 0:
            raise ValueError(f"`{name}` of the group `{group['pattern']}` must be a number >= 0; got {group[name]!r}.")
    if not isinstance(group.get("freeze", False), bool):
        raise ValueError(f"`freeze` of the group `{group['pattern']}` must be true or false; got {group['freeze']!r}.")
    return group


def by_path(tree: Any) -> dict[tuple[str, ...], Any]:
    """The leaves in the order of the tree by the names on the way to them; ("",) where the tree is one leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    found = {tuple(jax.tree_util.keystr((key,), simple=True) for key in path) or ("",): leaf for path, leaf in leaves}
    if len({"/".join(path) for path in found}) != len(leaves):
        raise ValueError("Every parameter needs a path of its own; two of these are written alike.")
    return found


def pick_leaves(leaves: dict[tuple[str, ...], Any], paths: list[tuple[str, ...]]) -> dict[str, Any]:
    """The leaves at some of the paths, as nested dicts."""
    return unflatten_dict({path: leaves[path] for path in paths})


def quote(names: Any, most: int = 8) -> str:
    """The first few names, each in backticks."""
    names = list(names)
    return ", ".join(f"`{name}`" for name in names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
