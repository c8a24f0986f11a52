"""Decision trees as arrays: one form for single trees, forests and boosting, whoever grew them, and one compiled answer.

Trees stand in `rounds`, of which the scores are summed, and in each round one for every output that is scored by itself
(one for each class in boosting); a leaf holds `values` numbers (the shares of the classes in a forest). A split sends a row
left where its feature is at most the threshold, or where its category is one of those of the split: an unknown one goes right.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WORD, ALL = 32, 0xFFFFFFFF
"""Categories in a word of bits, and all of them; also the leaves up to which a tree is answered without walking it."""
MOST_PARTS = 12
"""Of a tree that is cut, times the values of a leaf: a part takes some 6 ns of a row, walking 70 to 130."""
FEW = 8
"""Words that are looked through one after another; among more the right one is fetched."""


class Trees(NamedTuple):
    """Splits and leaves of trees, filled up to one size: [rounds, outputs, splits] and [rounds, outputs, leaves, values].

    Splits are numbered from the root down, leaves from left to right.
    """

    feature: Any
    threshold: Any
    """The largest value that goes left, in the type of x."""
    categorical: Any
    """Whether the split is by `members`, not by the threshold."""
    missing_left: Any
    """Where NaN goes."""
    left: Any
    """The split below, or -1 - i for leaf i."""
    right: Any
    members: Any
    """[rounds, outputs, splits, words] uint32: bits of the categories that go left; () where no split is by category."""
    reach: Any
    """[rounds, outputs, splits] uint32: the leaves that can be reached to the right of a split; () of larger trees."""
    value: Any
    base: Any
    """[outputs, values]: what every row's score begins with."""


class Tree(NamedTuple):
    """One tree as a library gives it: arrays over its nodes, of which the first is the root."""

    feature: np.ndarray
    threshold: np.ndarray
    """float64: what is at most this goes left."""
    missing_left: np.ndarray
    left: np.ndarray
    """The node below; what is negative has none, and is a leaf."""
    right: np.ndarray
    value: np.ndarray
    """[nodes, values]"""
    members: dict[int, np.ndarray] = {}
    """Of splits by category: the categories that go left."""


class Sizes(NamedTuple):
    """What trees are filled up to."""

    rounds: int
    outputs: int
    leaves: int
    values: int = 1
    categories: int = 0
    """The codes that splits may ask for, 0..categories-1."""


def tree_shapes(sizes: Sizes, dtype: Any = np.float32) -> Trees:
    """The shapes and types of `Trees` of these sizes."""
    rounds, outputs, leaves, values, categories = sizes
    splits = max(1, leaves - 1)

    def one(kind, *more):
        return jax.ShapeDtypeStruct((rounds, outputs, *more), kind)

    index, flag = one(np.int32, splits), one(np.bool_, splits)
    return Trees(
        feature=index, threshold=one(dtype, splits), categorical=flag, missing_left=flag, left=index, right=index,
        members=one(np.uint32, splits, -(-categories // WORD)) if categories else (),
        reach=one(np.uint32, splits) if leaves <= WORD else (),
        value=one(dtype, leaves, values), base=jax.ShapeDtypeStruct((outputs, values), dtype),
    )  # fmt: skip


def pack(trees: Sequence[Sequence[Tree]], base: Any, sizes: Sizes, dtype: Any = np.float32) -> Trees:
    """Trees [rounds][outputs] as arrays; rounds and nodes that are not there add nothing. Raises ValueError for too many."""
    found: Trees = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), tree_shapes(sizes, dtype))
    found.base[...] = np.reshape(base, (-1, 1))
    found.left[...] = found.right[...] = -1
    if not isinstance(found.reach, tuple):
        found.reach[...] = ALL
    if len(trees) > sizes.rounds:
        raise ValueError(f"There is room for {sizes.rounds} rounds of trees; got {len(trees)}.")
    for at, row in enumerate(trees):
        for output, tree in enumerate(row):
            pack_one(jax.tree.map(lambda part, at=at, output=output: part[at, output], found._replace(base=())), tree)
    return found


def pack_one(into: Trees, tree: Tree) -> None:
    """Write a tree into its part of the arrays."""
    number: dict[int, int] = {}
    leaves, splits, walk, order = 0, 0, [0], []
    while walk:  # from left to right
        node = walk.pop()
        order.append(node)
        if tree.left[node] < 0:
            number[node] = -1 - leaves
            leaves += 1
        else:
            number[node] = splits
            splits += 1
            walk += [int(tree.right[node]), int(tree.left[node])]
    if leaves > into.value.shape[0]:
        raise ValueError(f"There is room for {into.value.shape[0]} leaves in a tree; got {leaves}.")
    under: dict[int, int] = {}
    for node in reversed(order):
        at = number[node]
        if at < 0:
            into.value[-1 - at] = tree.value[node]
            under[node] = 1 << (-1 - at)
            continue
        left, right = int(tree.left[node]), int(tree.right[node])
        under[node] = under[left] | under[right]
        into.feature[at], into.missing_left[at] = tree.feature[node], tree.missing_left[node]
        into.left[at], into.right[at] = number[left], number[right]
        if not isinstance(into.reach, tuple):
            into.reach[at] = ~under[left] & ALL
        if node in tree.members:
            into.categorical[at] = True
            for category in map(int, tree.members[node]):
                into.members[at, category // WORD] |= np.uint32(1 << category % WORD)
        else:
            into.threshold[at] = round_down(tree.threshold[node], into.threshold.dtype)


def round_down(value: Any, dtype: Any) -> Any:
    """The largest number of a type that is at most `value`: what is compared in it falls as it does in float64.

    XLA takes subnormal numbers for 0, so they are none of its answers: above 0 it is 0, below the first number that is normal.
    """
    with np.errstate(over="ignore"):
        near = np.asarray(value).astype(dtype)
    near = np.where(near > value, np.nextafter(near, np.asarray(-np.inf, dtype)), near)
    tiny = np.finfo(dtype).tiny
    return np.where((near != 0) & (np.abs(near) < tiny), np.where(near > 0, 0, -tiny), near).astype(dtype)


def score_trees(trees: Trees, x: Any) -> jax.Array:
    """The summed scores [n, outputs, values] of x [n, d], or of {"numeric": [n, d], "categorical": [n, k] codes}.

    Features of a dict are numbered with the numeric ones first. Without walking each output and value is summed by itself, so
    all that is done to a row is one loop over numbers side by side, which compilers make wide; a gather would make it narrow.
    """
    trees, columns = jax.tree.map(jnp.asarray, trees), tree_columns(x, trees.threshold.dtype)
    small, rounds = not isinstance(trees.reach, tuple), trees._replace(base=())
    if small and isinstance(trees.members, tuple):  # where NaN goes left, it is less than all, elsewhere than none
        rounds = rounds._replace(feature=jnp.where(trees.missing_left, trees.feature, trees.feature + len(columns)))
        columns = jnp.concatenate([jnp.where(jnp.isnan(columns), -jnp.inf, columns), columns])
    outputs, values = trees.base.shape
    answer, together = (find_value, 1) if small else (walk_tree, values)

    def one(output, first, base):
        mine = jax.tree.map(lambda part: part[:, output], rounds)
        mine = mine._replace(value=lax.dynamic_slice_in_dim(mine.value, first, together, 2))
        start = jnp.broadcast_to(base[:, None], (together, columns.shape[1]))
        return lax.scan(lambda scores, tree: (scores + answer(tree, columns), None), start, mine)[0]

    output, first = (jnp.asarray(at.ravel()) for at in np.indices((outputs, values // together), np.int32))
    scores = lax.map(lambda at: one(*at), (output, first, trees.base.reshape(-1, together)))
    return scores.reshape(outputs * values, -1).T.reshape(-1, outputs, values)


def tree_columns(x: Any, dtype: Any) -> Any:
    """The features as [d, n], codes of categories as numbers; NumPy's of NumPy's, since a fit on the host may not call JAX."""
    if not isinstance(x, dict):
        return x.T.astype(dtype)
    library = np if all(isinstance(part, np.ndarray) for part in x.values()) else jnp
    return library.concatenate([x[name].astype(dtype) for name in ("numeric", "categorical") if name in x], 1).T


def goes_left(tree: Trees, split: Any, value: jax.Array) -> jax.Array:
    """Whether values [...] of the split's feature go left; `split` is an index that broadcasts with them."""
    low = (value <= tree.threshold[split]) | (jnp.isnan(value) & tree.missing_left[split])
    if isinstance(tree.members, tuple):
        return low
    words = tree.members.shape[-1]
    known = (value > -1) & (value < words * WORD)  # NaN is not
    code = jnp.where(known, value, -1).astype(jnp.int32)
    word = jnp.zeros(code.shape, jnp.uint32)
    if words > FEW:
        word = jnp.where(code >= 0, tree.members[split, jnp.maximum(code, 0) // WORD], word)
    else:
        for i in range(words):
            word = jnp.where(code // WORD == i, tree.members[split, i], word)
    inside = (word >> (code % WORD).astype(jnp.uint32)) & 1 == 1
    return jnp.where(tree.categorical[split], inside | (jnp.isnan(value) & tree.missing_left[split]), low)


def find_value(tree: Trees, columns: jax.Array) -> jax.Array:
    """The one value [1, n] of every row's leaf, without walking: splits take away what they exclude, the first leaf left is it.

    Lucchese et al., QuickScorer, SIGIR 2015. All splits are asked, in order, and no address depends on a row.
    """
    reached, splits = jnp.full(columns.shape[1:], ALL, jnp.uint32), tree.feature.shape[0]

    def ask(split, reached):
        value = lax.dynamic_index_in_dim(columns, tree.feature[split], keepdims=False)
        plain = isinstance(tree.members, tuple)
        left = value <= tree.threshold[split] if plain else goes_left(tree, split, value)
        return reached & jnp.where(left, jnp.uint32(ALL), tree.reach[split])

    if isinstance(tree.members, tuple):
        for split in range(splits):
            reached = ask(split, reached)
    else:  # what asks for categories is long: unrolled it takes seconds to compile, for each size of a batch, and runs no faster
        reached = lax.fori_loop(0, splits, ask, reached)
    found = jnp.broadcast_to(tree.value[-1, 0], reached.shape)
    for leaf in reversed(range(tree.value.shape[0] - 1)):
        found = jnp.where(reached & jnp.uint32(1 << leaf) != 0, tree.value[leaf, 0], found)
    return found[None]


def walk_tree(tree: Trees, columns: jax.Array) -> jax.Array:
    """The values [values, n] of every row's leaf, from the root down."""

    def down(at):
        split = jnp.maximum(at, 0)
        value = jnp.take_along_axis(columns, tree.feature[split][None], 0)[0]
        below = jnp.where(goes_left(tree, split, value), tree.left[split], tree.right[split])
        return jnp.where(at < 0, at, below)

    at = lax.while_loop(lambda at: (at >= 0).any(), down, jnp.zeros(columns.shape[1], jnp.int32))
    return tree.value.T[:, -1 - at]


def cut_trees(rounds: Sequence[Sequence[Tree]]) -> list[list[Tree]]:
    """Large trees as the sum of several of at most 32 leaves, where that is answered sooner than by walking; else as they are.

    Each part holds leaves that are neighbours, and the splits above them; rows that belong elsewhere end in leaves of zeros, so
    sums are the same to the bit.
    """
    if all((tree.left < 0).sum() <= WORD for row in rounds for tree in row):
        return [list(row) for row in rounds]
    parts = [[cut_tree(tree) for tree in row] for row in rounds]
    counts = [len(one) for row in parts for one in row if one]
    values = max((tree.value.shape[1] for row in rounds for tree in row), default=1)
    if not all(one for row in parts for one in row) or sum(counts) * values > MOST_PARTS * len(counts):
        return [list(row) for row in rounds]
    zero, none = np.zeros(1), np.full(1, -1)
    nothing = Tree(zero.astype(int), zero, zero > 0, none, none, np.zeros((1, values)))
    most = [max(map(len, row)) for row in parts]
    padded = [[one + [nothing] * (many - len(one)) for one in row] for row, many in zip(parts, most, strict=True)]
    return [list(one) for row in padded for one in zip(*row, strict=True)]


def cut_tree(tree: Tree) -> list[Tree]:
    """The parts of a tree; none where a leaf lies so deep that the splits above it are too many."""
    first: dict[int, int] = {}
    lefts, rights, order, walk = [], [], [], [(0, 0, 0)]
    while walk:  # leaves from left to right, and how often the way down to each turns left and right
        node, left, right = walk.pop()
        order.append(node)
        first[node] = len(lefts)
        if tree.left[node] < 0:
            lefts.append(left)
            rights.append(right)
        else:
            walk += [(int(tree.right[node]), left, right + 1), (int(tree.left[node]), left + 1, right)]
    if max(np.add(lefts, rights)) >= WORD:
        return []
    last = dict.fromkeys(first, 0)
    for node in reversed(order):
        last[node] = first[node] + 1 if tree.left[node] < 0 else last[int(tree.right[node])]
    parts, start = [], 0
    while start < len(lefts):
        # Beside its own leaves a part has one of zeros wherever its ways turn away from leaves before or behind them.
        ends = range(start + 1, min(start + WORD, len(lefts)) + 1)
        stop = max(end for end in ends if end - start + rights[start] + lefts[end - 1] <= WORD)
        parts.append(keep_leaves(tree, {node for node in order if first[node] < stop and last[node] > start}))
        start = stop
    return parts


def keep_leaves(tree: Tree, kept: set[int]) -> Tree:
    """The tree of the nodes that are kept, with a leaf of zeros in place of each other that hangs on one of them."""
    walk, order = [0], []
    while walk:
        node = walk.pop()
        order.append(node)
        if node in kept and tree.left[node] >= 0:
            walk += [int(tree.right[node]), int(tree.left[node])]
    number = {node: at for at, node in enumerate(order)}

    def below(side):
        return np.array([number.get(int(side[node]), -1) if node in kept else -1 for node in order])

    value = np.where(np.isin(order, list(kept))[:, None], tree.value[order], 0)
    members = {number[node]: inside for node, inside in tree.members.items() if node in number}
    return Tree(
        tree.feature[order], tree.threshold[order], tree.missing_left[order], below(tree.left), below(tree.right), value, members
    )


def check_trees(name: str, rows: Any, classes: int | None) -> None:
    """Raise ValueError for what trees cannot learn from."""
    x, there = rows.x, np.asarray(rows.weight) > 0
    if np.ndim(rows.y) != 1:
        raise ValueError(f"`{name}` takes one target for each row, y [n]; got shape {np.shape(rows.y)}.")
    if not isinstance(x, dict) and np.ndim(x) != 2:
        raise ValueError(f"`{name}` takes x [n, d]; got shape {np.shape(x)}.")
    if isinstance(x, dict) and (not x or set(x) - {"numeric", "categorical"}):
        raise ValueError(f"`{name}` takes the inputs `numeric` and `categorical`; got {', '.join(x)}.")
    if classes is None or isinstance(rows.y, jax.ShapeDtypeStruct):
        return
    labels = np.unique(np.asarray(rows.y)[there])
    if not np.isin(labels, np.arange(classes)).all() or len(labels) < 2:
        raise ValueError(f"`{name}` takes at least two of the labels 0 to {classes - 1}; got {labels[:10].tolist()}.")
