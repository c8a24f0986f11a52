"""What the training rows say of the levels of categories: the target's mean, how frequent they are, which are rare."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt

from arsenal.combine.folds import assign_folds
from arsenal.features.arrays import keep_names
from arsenal.features.codes import as_place, beside_numbers, check_sizes, levels, read_codes, split_names
from arsenal.numerics.weighted import known_mean
from arsenal.records import Transform


def target_mean(
    smoothing: Annotated[float, Ge(0)] | None = None, folds: Annotated[int, Gt(1)] = 5,
    classes: Annotated[int, Gt(1)] | None = None, sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None,
) -> Transform:  # fmt: skip
    """The target's mean over the rows of a level, drawn to the mean of all; Micci-Barreca, SIGKDD Explorations 3 (2001).

    Codes [n, k] to [n, k] float32, other inputs as `one_hot`'s; y [n] is numbers, or labels of `classes`, which the schema knows:
    of two the share of the second, of more the shares of all, column by column [n, k * classes]. `smoothing` is how many rows at
    the mean of all are added to each level, traced; None estimates it per level from the variances (empirical Bayes), as
    scikit-learn's TargetEncoder does. An unknown level has the mean of all.

    Training rows get the means of the other folds' rows, or a learner would read its own target from rare levels; folds are
    those of `crossfit`. Everybody else gets the means of all training rows.

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[0], [0], [1]], y=[1.0, 3.0, 8.0])
    >>> made = target_mean(0.0, sizes=[2])
    >>> state, _ = made.fit(jax.random.key(0), rows, {"smoothing": 0.0})
    >>> made.apply(state, jnp.array([[0], [1], [2]])).tolist()
    [[2.0], [8.0], [4.0]]
    """
    found = levels("target_mean", sizes, schema)
    labels = getattr(getattr(schema, "target", None), "columns", None)
    if classes is None and labels:
        classes = len(labels)

    def fit(key, rows, hp):
        codes = read_codes("target_mean", rows.x, found)
        target = as_targets(rows.y, classes)
        weight = rows.weight.astype(target.dtype)
        centre = known_mean(target, weight)
        moved = target - centre  # squares of numbers far from 0 would lose their digits
        fold = assign_folds(key, rows, folds)
        state, training = [], []
        for i, one in enumerate(found or ()):
            place, size = as_place(codes[:, i], one), one.size + 2
            parts = jnp.stack([jnp.ones_like(moved), moved, jnp.square(moved)])
            add = functools.partial(weighted_sums, weight=weight, at=fold * size + place, count=folds * size)
            sums = jax.vmap(add)(parts).reshape(3, folds, size, -1)
            # Sums of the other folds, not the sum of all less one's own: a difference of equals would not be 0.
            others = jnp.einsum("fg,pgsm->pfsm", 1 - jnp.eye(folds, dtype=sums.dtype), sums, precision="highest")
            state.append(centre + level_means(sums.sum(1), hp))
            training.append((centre + jax.vmap(lambda part: level_means(part, hp), 1)(others))[fold, place])
        made = jnp.concatenate(training, 1).astype(jnp.float32)
        return state, rows._replace(x=beside_numbers("target_mean", rows.x, made))

    def apply(state, x):
        codes = read_codes("target_mean", x, found)
        made = [table[as_place(codes[:, i], one)] for i, (table, one) in enumerate(zip(state, found or (), strict=True))]
        return beside_numbers("target_mean", x, jnp.concatenate(made, 1).astype(jnp.float32))

    def check(rows):
        check_sizes("target_mean", found, rows)
        check_targets(rows.y, classes)

    def names(given):
        numbers, coded = split_names(given)
        one = (classes or 2) == 2
        parts = [".mean"] if one else [f".mean={labels[i] if labels else i}" for i in range(classes)]
        return {"x": numbers + [name + part for name in coded for part in parts]}

    return Transform(fit, apply, check=check, hp={} if smoothing is None else {"smoothing": smoothing}, names=names)


def check_targets(y: Any, classes: int | None) -> None:
    """Raise ValueError where there is no target [n], or no label where there are classes."""
    if y is None or getattr(y, "ndim", 0) != 1:
        got = "none" if y is None else f"shape {tuple(y.shape)}"
        raise ValueError(f"`target_mean` takes a target y [n] of numbers or labels; got {got}.")
    if classes is not None and not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"`target_mean` takes y of labels where `classes` is {classes}; got {y.dtype}.")


def as_targets(y: Any, classes: int | None) -> jax.Array:
    """The target [n, m] whose means are taken: numbers, the second of two classes, or each of more."""
    check_targets(y, classes)
    if classes is None:
        return jnp.asarray(y, float)[:, None]
    return jax.nn.one_hot(y, classes, dtype=float)[:, 1 if classes == 2 else 0 :]


def weighted_sums(values: jax.Array, weight: jax.Array, at: jax.Array, count: int) -> jax.Array:
    """Sums of values [n, m] by weight [n] at each of so many places; [count, m]."""
    return jax.ops.segment_sum(values * weight[:, None], at, count)


def level_means(sums: jax.Array, hp: dict) -> jax.Array:
    """Means [size, m] drawn to the mean of all, from the sums of ones, values and squares [3, size, m] of every level."""
    count, total, squares = sums
    all_count, all_total, all_squares = sums.sum(1)
    tiny = jnp.finfo(count.dtype).tiny
    overall = all_total / jnp.maximum(all_count, tiny)
    own = total / jnp.maximum(count, tiny)
    if "smoothing" in hp:
        prior = hp["smoothing"].astype(count.dtype) if hasattr(hp["smoothing"], "astype") else hp["smoothing"]
        return jnp.where(count + prior > 0, (total + prior * overall) / jnp.maximum(count + prior, tiny), overall)
    variance = all_squares / jnp.maximum(all_count, tiny) - jnp.square(overall)
    within = jnp.maximum(squares / jnp.maximum(count, tiny) - jnp.square(own), 0)
    share = variance * count / jnp.maximum(variance * count + within, tiny)
    return jnp.where(count > 0, share * own + (1 - share) * overall, overall)


def level_shares(place: jax.Array, weight: jax.Array, size: int) -> jax.Array:
    """The share of the weight [n] at each of so many places."""
    total = jax.ops.segment_sum(weight, place, size)
    return total / jnp.maximum(total.sum(), jnp.finfo(weight.dtype).tiny)


def frequency(sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None) -> Transform:
    """How frequent a level is: its share of the training rows' weight; codes [n, k] to [n, k] float32, inputs as `one_hot`'s.

    >>> from arsenal.records import batch
    >>> frequency([2]).fit(None, batch(x=[[0], [0], [1], [0]]), {})[1].x[:, 0].tolist()
    [0.75, 0.75, 0.25, 0.75]
    """
    found = levels("frequency", sizes, schema)

    def fit(key, rows, hp):
        codes = read_codes("frequency", rows.x, found)
        state = [level_shares(as_place(codes[:, i], one), rows.weight, one.size + 2) for i, one in enumerate(found or ())]
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        codes = read_codes("frequency", x, found)
        made = [table[as_place(codes[:, i], one)] for i, (table, one) in enumerate(zip(state, found or (), strict=True))]
        return beside_numbers("frequency", x, jnp.stack(made, 1).astype(jnp.float32))

    def names(given):
        numbers, coded = split_names(given)
        return {"x": numbers + [f"{name}.share" for name in coded]}

    return Transform(fit, apply, check=lambda rows: check_sizes("frequency", found, rows), names=names)


def rare(
    share: Annotated[float, Ge(0), Lt(1)] = 0.01, sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None
) -> Transform:
    """Levels with less than a share of the training rows' weight become one, the unknown; codes stay codes, in x as it is.

    So a level that training never saw is treated as the rare ones are. Missing values stay so; `share` is traced.

    >>> from arsenal.records import batch
    >>> rare(sizes=[3]).fit(None, batch(x=[[0], [0], [1], [0]]), {"share": 0.3})[1].x[:, 0].tolist()
    [0, 0, 3, 0]
    """
    found = levels("rare", sizes, schema)

    def fit(key, rows, hp):
        codes = read_codes("rare", rows.x, found)
        tables = [level_shares(as_place(codes[:, i], one), rows.weight, one.size + 2) for i, one in enumerate(found or ())]
        state = [table >= hp["share"] for table in tables]
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        codes = read_codes("rare", x, found)
        made = []
        for i, (frequent, one) in enumerate(zip(state, found or (), strict=True)):
            unknown = one.known or one.size
            level = (codes[:, i] >= 0) & (codes[:, i] < unknown)
            made.append(jnp.where(level & ~frequent[as_place(codes[:, i], one)], unknown, codes[:, i]))
        changed = jnp.stack(made, 1)
        return x | {"categorical": changed} if isinstance(x, dict) else changed

    return Transform(fit, apply, check=lambda rows: check_sizes("rare", found, rows), hp={"share": share}, names=keep_names)
