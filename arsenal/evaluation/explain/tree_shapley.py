"""Shapley values of trees, exact in polynomial time: against rows of a background, or along the paths that training rows took.

Lundberg et al., Nature Machine Intelligence 2 (2020, 1905.04610), of which this is another form: in each leaf the game is a
product over the features of its path, and the sum over coalitions an integral of a polynomial.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.estimators.trees import WORD, Trees, tree_columns
from arsenal.evaluation.explain.coalitions import check_background
from arsenal.evaluation.explain.shapley import Attributions
from arsenal.records import Batch, mask_dead_rows

AT_ONCE = 2**20
"""Numbers that a step holds: leaves times the features of a path times rows."""


class LeafPaths(NamedTuple):
    """What leads to every leaf, [trees, leaves, slots]: a slot is a feature of its path, with all that is asked of it."""

    feature: Any
    """int32; -1 of a slot that is not there."""
    low: Any
    """What is above this goes to the leaf; NaN where that is not asked."""
    high: Any
    """And at most this."""
    missing: Any
    """Whether NaN goes to the leaf."""
    categorical: Any
    members: Any
    """[trees, leaves, slots, words] uint32: the categories that go to the leaf; () where no split is by category."""
    unknown: Any
    """Whether a code beyond those does."""
    share: Any
    """Of the rows that came to the splits by this feature, how many went on to the leaf."""
    value: Any
    """[trees, leaves, values]"""
    output: Any
    """[trees] int32"""
    base: Any
    """[outputs, values]: what every row's score begins with."""


def tree_shapley(
    trees: Trees, rows: Batch, background: Batch, method: Literal["interventional", "path_dependent"] = "interventional",
) -> Attributions:  # fmt: skip
    """Shapley values [n, features, outputs * values] of the summed scores of `trees`, x [n, d] or {"numeric", "categorical"}.

    `interventional`: absent features have the values of the background's rows, as in the other methods here. `path_dependent`:
    rows go both ways at a split by an absent feature, as often as the background's did; it is quicker, and with the training
    rows equal to `shap.TreeExplainer` where a library keeps how many rows came to a node. On the host as far as the trees are
    read. Raises ValueError for another `method`, an empty background and, against it, for a path by more than 32 features.

    >>> from arsenal.estimators import tree
    >>> from arsenal.records import batch
    >>> rows = batch(x=np.float32([[0, 0], [0, 1], [1, 0], [1, 1]]), y=np.float32([0, 0, 0, 4]))
    >>> rows = jax.tree.map(np.asarray, rows)
    >>> trees, _ = tree(leaves=3).fit(np.uint32([0, 0]), rows, {"pruning": 0.0})
    >>> tree_shapley(trees, rows, rows).values[3, :, 0].tolist()
    [1.5, 1.5]
    """
    if method not in METHODS:
        raise ValueError(f"`method` of `tree_shapley` must be {' or '.join(METHODS)}; got {method!r}.")
    background = check_background("tree_shapley", background)
    return METHODS[method](read_paths(trees, background), rows, background)


def read_paths(trees: Trees, background: Batch) -> LeafPaths:
    """The paths of the trees and how the background's rows went along them; on the host."""
    trees = jax.tree.map(np.asarray, trees)
    rounds, outputs = trees.feature.shape[:2]
    flat = jax.tree.map(lambda part: part.reshape(rounds * outputs, *part.shape[2:]), trees._replace(base=()))
    words = 0 if isinstance(trees.members, tuple) else trees.members.shape[-1]
    found = [leaf_paths(jax.tree.map(lambda part, at=at: part[at], flat), words) for at in range(rounds * outputs)]
    slots = max((len(path) for tree in found for path in tree.values()), default=1) or 1
    shape, dtype = (rounds * outputs, trees.value.shape[2], slots), trees.threshold.dtype
    paths = LeafPaths(
        np.full(shape, -1, np.int32), np.full(shape, np.nan, dtype), np.full(shape, np.inf, dtype), np.ones(shape, bool),
        np.zeros(shape, bool), np.zeros((*shape, words), np.uint32) if words else (), np.ones(shape, bool), np.ones(shape, dtype),
        flat.value, np.tile(np.arange(outputs, dtype=np.int32), rounds), trees.base,
    )  # fmt: skip
    for tree, leaves in enumerate(found):
        for leaf, path in leaves.items():
            for slot, (feature, edge) in enumerate(path.items()):
                at = tree, leaf, slot
                paths.feature[at], paths.low[at], paths.high[at] = feature, edge.low, edge.high
                paths.missing[at], paths.categorical[at], paths.unknown[at] = edge.missing, edge.members is not None, edge.unknown
                if edge.members is not None:
                    paths.members[at] = edge.members
    cover = np.asarray(jax.jit(leaf_weights)(paths, background), float)
    for tree, leaves in enumerate(found):
        write_shares(paths, tree, leaves, cover[tree], jax.tree.map(lambda part, at=tree: part[at], flat))
    return paths


class Branch(NamedTuple):
    """All that a path asks of one feature."""

    low: float = np.nan
    high: float = np.inf
    missing: bool = True
    members: Any = None
    unknown: bool = True


def leaf_paths(tree: Trees, words: int) -> dict[int, dict[int, Branch]]:
    """Of every leaf that is there, what its path asks of each feature."""
    found: dict[int, dict[int, Branch]] = {}
    walk: list[tuple[int, dict[int, Branch]]] = [(first_node(tree), {})]
    while walk:
        node, path = walk.pop()
        if node < 0:
            found[-1 - node] = path
            continue
        feature = int(tree.feature[node])
        for below, left in ((tree.left[node], True), (tree.right[node], False)):
            edge = narrow(path.get(feature, Branch()), tree, node, left, words)
            walk.append((int(below), path | {feature: edge}))
    return found


def first_node(tree: Trees) -> int:
    """The root: a split, or the leaf of a tree that has no split, whose two ways lead to it."""
    return int(tree.left[0]) if tree.left[0] == tree.right[0] else 0


def narrow(edge: Branch, tree: Trees, split: int, left: bool, words: int) -> Branch:
    """What is asked of the feature after one more split by it."""
    missing = edge.missing and bool(tree.missing_left[split]) == left
    if words and tree.categorical[split]:
        inside = tree.members[split] if left else ~tree.members[split]
        members = inside if edge.members is None else edge.members & inside
        return edge._replace(missing=missing, members=members, unknown=edge.unknown and not left)
    threshold = tree.threshold[split]
    if left:
        return edge._replace(missing=missing, high=min(edge.high, threshold))
    return edge._replace(missing=missing, low=threshold if np.isnan(edge.low) else max(edge.low, threshold))


def write_shares(paths: LeafPaths, tree: int, leaves: dict[int, dict[int, Branch]], cover: np.ndarray, one: Trees) -> None:
    """Write how many of the rows that came to the splits by each feature went on to the leaf: products along its path."""
    def weigh(node):
        weight[node] = cover[-1 - node] if node < 0 else weigh(int(one.left[node])) + weigh(int(one.right[node]))
        return weight[node]

    weight: dict[int, float] = {}
    root = first_node(one)
    weigh(root)
    walk: list[tuple[int, dict[int, float]]] = [(root, {})]
    while walk:
        node, share = walk.pop()
        if node < 0:
            for slot, feature in enumerate(leaves[-1 - node]):
                paths.share[tree, -1 - node, slot] = share[feature]
            continue
        feature = int(one.feature[node])
        for below in (int(one.left[node]), int(one.right[node])):
            went = weight[below] / weight[node] if weight[node] > 0 else 0.5
            walk.append((below, share | {feature: share.get(feature, 1.0) * went}))


def meets(paths: LeafPaths, columns: jax.Array) -> jax.Array:
    """[leaves, slots, n] bool: whether rows, columns [d, n], do what the paths of one tree ask."""
    low, high, missing, unknown, categorical, feature = (
        part[..., None] for part in (paths.low, paths.high, paths.missing, paths.unknown, paths.categorical, paths.feature)
    )
    value = columns[jnp.maximum(paths.feature, 0)]
    inside = ~(value <= low) & (value <= high)
    if not isinstance(paths.members, tuple):
        words = paths.members.shape[-1]
        known = (value > -1) & (value < words * WORD)
        code = jnp.where(known, value, 0).astype(jnp.int32)
        word = jnp.zeros(code.shape, jnp.uint32)
        for i in range(words):
            word = jnp.where(code // WORD == i, paths.members[..., i, None], word)
        member = jnp.where(known, (word >> (code % WORD).astype(jnp.uint32)) & 1 == 1, unknown)
        inside &= member | ~categorical
    return jnp.where(jnp.isnan(value), missing, inside) | (feature < 0)


def leaf_weights(paths: LeafPaths, rows: Batch) -> jax.Array:
    """[trees, leaves]: the weight of the rows that come to each leaf."""
    columns = tree_columns(rows.x, paths.low.dtype)
    weight = rows.weight.astype(columns.dtype)
    return lax.map(lambda one: meets(one, columns).all(1).astype(weight.dtype) @ weight, paths._replace(base=()))


def over_trees(paths: LeafPaths, x: Any, share: Any, cost: int) -> jax.Array:
    """[n, features, outputs * values]: summed over trees and leaves, `share(paths of a tree, columns [d, n])` of a leaf's values.

    A share is [leaves, slots, n]; so many rows at a time as keep it, `cost` times as large, small.
    """
    columns = tree_columns(x, paths.low.dtype)
    (features, n), (outputs, values) = columns.shape, paths.base.shape

    def some(columns):
        def add(found, one):
            shares = share(one, columns)
            weighed = (one.value[:, None, :, None] * shares[:, :, None]).reshape(one.feature.size, -1)  # [l * s, v * n]
            whose = jax.nn.one_hot(one.feature.reshape(-1), features, dtype=shares.dtype)  # of -1 nothing
            more = jnp.matmul(whose.T, weighed, precision="highest").reshape(features, values, -1)
            return found.at[one.output].add(more), None

        start = jnp.zeros((outputs, features, values, columns.shape[1]), columns.dtype)
        return lax.scan(add, start, paths._replace(base=()))[0].transpose(3, 1, 0, 2)

    _, leaves, slots = paths.feature.shape
    size = max(1, AT_ONCE // (leaves * slots * cost))
    if not isinstance(n, int) or n <= size:  # of an exported program n may be any
        return some(columns).reshape(n, features, outputs * values)
    parts = -(-n // size)
    filled = jnp.pad(columns, ((0, 0), (0, parts * size - n))).reshape(features, parts, size)
    return lax.map(some, filled.swapaxes(0, 1)).reshape(parts * size, features, outputs * values)[:n]


def mean_score(paths: LeafPaths) -> jax.Array:
    """[outputs * values]: the mean score of the background, by the rows that came to each leaf."""
    each = jnp.einsum("tlv,tl->tv", paths.value, paths.share.prod(-1), precision="highest")
    return jnp.asarray(paths.base).at[paths.output].add(each).reshape(-1)


def share_by_paths(paths: LeafPaths, x: Any) -> jax.Array:
    """[n, features, outputs * values]: values where rows go both ways at a split by an absent feature, by its `share`.

    With o the slots that a row meets and z the shares, the values of a leaf are worth
    (o_i - z_i) ∫ Π_{j≠i} (t o_j + (1 - t) z_j) dt to slot i: Gauss's rule for polynomials of degree slots - 1 is exact.
    """
    point, mass = np.polynomial.legendre.leggauss(-(-paths.feature.shape[2] // 2))

    def share(one, columns):
        meet, z = meets(one, columns).astype(columns.dtype), one.share[..., None]
        total = jnp.zeros_like(meet)
        for t, w in zip((point + 1) / 2, mass / 2, strict=True):
            factor = jnp.maximum(t * meet + (1 - t) * z, 1e-18)  # of a leaf that no row came to it may be 0
            total += w * factor.prod(1, keepdims=True) / factor
        return (meet - z) * total

    return over_trees(paths, x, share, 4)


def share_by_background(paths: LeafPaths, x: Any, background: Batch) -> jax.Array:
    """[n, features, outputs * values]: values where absent features have those of the background's rows.

    Of a row and another, let a slots be met by the row alone, c by the other alone and each by one of the two: the values of
    the leaf are worth (a-1)! c! / (a+c)! to the former, -a! (c-1)! / (a+c)! to the latter.
    """
    slots = paths.feature.shape[2]
    a, c = np.indices((slots + 1, slots + 1))
    beta = np.exp(log_factorial(a) + log_factorial(c) - log_factorial(a + c))
    alone = np.where(a > 0, beta / np.maximum(a, 1), 0), np.where(c > 0, beta / np.maximum(c, 1), 0)
    bit = (np.uint32(1) << np.arange(slots, dtype=np.uint32))[None, :, None]
    full = np.uint32(bit.sum())
    others = tree_columns(background.x, paths.low.dtype)
    weight = background.weight.astype(others.dtype) / background.weight.sum().astype(others.dtype)

    def share(one, columns):
        mine, theirs = meets(one, columns), meets(one, others)
        x, z = ((jnp.where(met, bit, 0)).sum(1, dtype=jnp.uint32) for met in (mine, theirs))
        x, z = x[:, :, None], z[:, None, :]  # [leaves, n, background]
        place = lax.population_count(x & ~z) * (slots + 1) + lax.population_count(z & ~x)
        gain, loss = (
            jnp.where((x | z) == full, jnp.asarray(table.ravel(), columns.dtype)[place], 0) * weight for table in alone
        )
        mine, theirs = mine.astype(columns.dtype), theirs.astype(columns.dtype)
        up = jnp.einsum("lnb,lsb->lsn", gain, 1 - theirs, precision="highest")
        down = jnp.einsum("lnb,lsb->lsn", loss, theirs, precision="highest")
        return mine * up - (1 - mine) * down

    return over_trees(paths, x, share, max(4, -(-2 * others.shape[1] // slots)))


def log_factorial(n: np.ndarray) -> np.ndarray:
    """Of whole numbers."""
    from scipy.special import gammaln

    return gammaln(n + 1)


def interventional(paths: LeafPaths, rows: Batch, background: Batch) -> Attributions:
    """Values against the background's rows."""
    if paths.feature.shape[2] > WORD:
        raise ValueError(
            f"`tree_shapley` takes trees whose paths ask at most {WORD} different features; one asks {paths.feature.shape[2]}. "
            "`path_dependent` takes any."
        )
    found = jax.jit(share_by_background)(paths, mask_dead_rows(rows).x, background)
    return Attributions(found, mean_score(paths))


def path_dependent(paths: LeafPaths, rows: Batch, background: Batch) -> Attributions:
    """Values along the paths that the background's rows took."""
    del background
    return Attributions(jax.jit(share_by_paths)(paths, mask_dead_rows(rows).x), mean_score(paths))


METHODS = {"interventional": interventional, "path_dependent": path_dependent}
