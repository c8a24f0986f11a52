"""A checkpoint's tensors as variables of a model and back, by a text table that is read in both directions.

A line of a table names a tensor there, a leaf here, and how the one becomes the other:

    transformer.h.{}.attn.c_attn.weight      stack/blocks/attention/qkv/kernel       same
    model.layers.{}.self_attn.{q,k,v}_proj.weight   stack/blocks/attention/qkv/kernel    linear

`{}` is a layer's number: its tensors are stacked along a leading axis here. `{q,k,v}` are tensors that lie side by side
along the last axis here. A leaf of a collection other than `params` begins with the collection's name and a colon.
Ways: `same`; `linear`, [out, in] there and [in, out] here; `conv`, [out, in, h, w] there and [h, w, in, out] here; `point`,
[out, in, 1, 1] there and [in, out] here; `patches`, those of `conv` as one matrix [h * w * in, out]; `row`, [d] there and [1, d]
here; `token`, [1, 1, d] and [d]; `rows`, [1, t, d] and [t, d]; `experts`, parts that are [out, in] each there and [experts, in,
out] here. Four more name no leaf: `skip`, a tensor that is no parameter; `tied NAME`, one that must equal another and is not
written; `copy NAME`, one that must equal another and is written once more, in a line behind it; `counter LEAF`, a whole number
that we do not keep, written as 0 where there is the leaf.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from arsenal.nearest import nearest
from arsenal.optim.groups import quote

Tree = dict[str, Any]


class Entry(NamedTuple):
    """One line of a table."""

    theirs: str
    ours: str
    how: str


class Way(NamedTuple):
    """How an array becomes another, and back."""

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray, Sequence[int]], np.ndarray]
    """Of an array and, for patches, their [h, w, in]."""


def same(a: np.ndarray, *_: Any) -> np.ndarray:
    """The array as it is."""
    return a


WAYS = {
    "same": Way(same, same),
    "linear": Way(lambda a: a.T, lambda a, _: a.T),
    "conv": Way(lambda a: a.transpose(2, 3, 1, 0), lambda a, _: a.transpose(3, 2, 0, 1)),
    "point": Way(lambda a: a[:, :, 0, 0].T, lambda a, _: a.T[..., None, None]),
    "patches": Way(
        lambda a: a.transpose(2, 3, 1, 0).reshape(-1, a.shape[0]),
        lambda a, patch: a.reshape(*patch, a.shape[1]).transpose(3, 2, 0, 1),
    ),
    "row": Way(lambda a: a[None], lambda a, _: a[0]),
    "token": Way(lambda a: a[0, 0], lambda a, _: a[None, None]),
    "rows": Way(lambda a: a[0], lambda a, _: a[None]),
    "experts": Way(lambda a: a.T, lambda a, _: a.T),
}


NO_LEAF = ("skip", "tied", "copy", "counter")


def parse_table(text: str) -> list[Entry]:
    """The lines of a table; blank ones and what follows a # count for nothing."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[1] in NO_LEAF:
            found.append(Entry(words[0], "" if words[1] == "skip" else words[2], words[1]))
        else:
            theirs, ours, how = words
            WAYS[how]  # a way that is none is the table's mistake
            found.append(Entry(theirs, ours, how))
    return found


def parts_of(name: str) -> list[str]:
    """The names that `{q,k,v}` in a name stands for; `{}` stays.

    >>> parts_of("h.{}.{q,k}.w")
    ['h.{}.q.w', 'h.{}.k.w']
    """
    found = re.search(r"\{([^{}]+)\}", name)
    if not found:
        return [name]
    return [name[: found.start()] + word + name[found.end() :] for word in found.group(1).split(",")]


class Read(NamedTuple):
    """Variables, and how many tensors of the checkpoint are in them."""

    variables: Tree
    tensors: int


def to_variables(tensors: Mapping[str, Any], table: Sequence[Entry], prefix: str = "") -> Read:
    """The variables that a checkpoint's tensors are, by a table whose names a bare model's lack `prefix` of.

    Raises ValueError for a tensor that no line names, for a layer or a part that is missing, for tensors that ought to be tied
    and differ, and for those that do not lie side by side.
    """
    bare = prefix and not any(name.startswith(prefix) for name in tensors)
    left = set(tensors)

    def local(name: str) -> str:
        return name.removeprefix(prefix) if bare else name

    def take(name: str) -> np.ndarray:
        left.discard(name)
        return np.asarray(tensors[name])

    variables: Tree = {}
    for theirs, ours, how in table:
        names = [local(part) for part in parts_of(theirs)]
        numbers = layers_of(names, left)
        if numbers is None:
            continue
        if how in NO_LEAF:
            for name in names:
                for number in numbers:
                    one = name.replace("{}", str(number))
                    if how in ("tied", "copy") and not np.array_equal(take(one), np.asarray(tensors[local(ours)])):
                        raise ValueError(f"`{one}` must equal `{local(ours)}`, to which it is tied, and differs.")
                    left.discard(one)
            continue
        way, layers = WAYS[how], []
        for number in numbers:
            pieces = [way.read(take(name.replace("{}", str(number)))) for name in names]
            if len({piece.shape[:-1] for piece in pieces}) > 1:
                raise ValueError(f"{quote(names)} must lie side by side; their shapes are {[piece.shape for piece in pieces]}.")
            if how == "experts":
                layers.append(np.stack(pieces))
            else:
                layers.append(np.concatenate(pieces, -1) if len(pieces) > 1 else pieces[0])
        if len({layer.shape for layer in layers}) > 1:
            raise ValueError(f"`{names[0]}` has another shape in some layers: {sorted({layer.shape for layer in layers})}.")
        put(variables, ours, np.stack(layers) if "{}" in theirs else layers[0])
    if left:
        known = [name for line in table for name in map(local, parts_of(line.theirs))]
        first = min(left)
        hint = nearest(re.sub(r"\.\d+\.", ".{}.", first), known)
        raise ValueError(f"No parameter of the family is {quote(sorted(left))}.{hint}")
    return Read(variables, len(tensors) - len(left))


def layers_of(names: Sequence[str], there: set[str]) -> list[int] | None:
    """The numbers for which the names exist, 0..n-1, [0] for names without a number; None where there is none of them."""
    if "{}" not in names[0]:
        found = [name for name in names if name in there]
        if found and len(found) < len(names):
            raise ValueError(f"The checkpoint has no {quote(name for name in names if name not in there)}.")
        return [0] if found else None
    numbers: set[int] = set()
    for name in names:
        pattern = re.compile(re.escape(name).replace(re.escape("{}"), r"(\d+)"))
        numbers |= {int(match.group(1)) for match in map(pattern.fullmatch, there) if match}
    if not numbers:
        return None
    wanted = [name.replace("{}", str(number)) for number in range(max(numbers) + 1) for name in names]
    absent = [name for name in wanted if name not in there]
    if absent:
        raise ValueError(f"The checkpoint has no {quote(absent)}.")
    return sorted(numbers)


def to_tensors(variables: Tree, table: Sequence[Entry], sizes: Mapping[str, Sequence[int]] = {}) -> dict[str, np.ndarray]:
    """The checkpoint's tensors that variables are. `sizes`, by the name of a leaf's layer such as `qkv`, says how what lies side
    by side is cut (equal parts unless told), and by `patches` their [h, w, in].

    Raises ValueError for a leaf that no line names.
    """
    leaves = leaf_names(variables)
    left = set(leaves)
    tensors: dict[str, np.ndarray] = {}
    for theirs, ours, how in table:
        if how == "counter" and ours in leaves:
            tensors[theirs] = np.zeros((), np.int64)
        if how == "copy" and ours in tensors:
            tensors[theirs] = tensors[ours]
        if how in NO_LEAF or ours not in left:
            continue
        left.discard(ours)
        leaf, names = np.asarray(get(variables, ours)), parts_of(theirs)
        cuts = cuts_of(ours, names, sizes)
        for number, one in enumerate(leaf if "{}" in theirs else [leaf]):
            pieces = list(one) if how == "experts" else np.split(one, cuts, -1) if len(names) > 1 else [one]
            for name, piece in zip(names, pieces, strict=True):
                tensors[name.replace("{}", str(number))] = np.array(WAYS[how].write(piece, sizes.get("patches", ())), order="C")
    if left:
        raise ValueError(f"No line of the family's table names the parameters {quote(sorted(left))}.")
    return tensors


def cuts_of(ours: str, names: Sequence[str], sizes: Mapping[str, Sequence[int]]) -> Any:
    """Where a leaf that is tensors of these names side by side is cut, as `np.split` takes it."""
    layer = ours.split("/")[-2] if "/" in ours else ours
    return np.cumsum(sizes[layer])[:-1] if layer in sizes else len(names)


def path_of(name: str) -> list[str]:
    """A leaf's name as the keys that lead to it, its collection first."""
    collection, _, rest = name.rpartition(":")
    return [collection or "params", *rest.split("/")]


def put(variables: Tree, name: str, value: np.ndarray) -> None:
    """Set a leaf by its name."""
    *way, last = path_of(name)
    for key in way:
        variables = variables.setdefault(key, {})
    variables[last] = value


def get(variables: Tree, name: str) -> Any:
    """A leaf by its name."""
    for key in path_of(name):
        variables = variables[key]
    return variables


def leaf_names(variables: Tree) -> list[str]:
    """The names of all leaves."""
    def walk(node: Any, name: str) -> list[str]:
        if not isinstance(node, Mapping):
            return [name]
        return [one for key, child in node.items() for one in walk(child, f"{name}/{key}" if name else key)]

    return [
        one if collection == "params" else f"{collection}:{one}"
        for collection, tree in variables.items() for one in walk(tree, "")
    ]  # fmt: skip
