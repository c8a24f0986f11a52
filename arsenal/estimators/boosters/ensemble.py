"""A fitted ensemble as every library's dump says it: its trees, what their sum begins with, and how that reads as an answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.estimators.trees import Sizes, Tree, Trees, cut_trees, pack, score_trees

NUMBERS: dict[str, Callable] = {
    "identity": lambda z: z, "exp": jnp.exp, "logistic": jax.nn.sigmoid, "signed square": lambda z: jnp.sign(z) * z * z,
}  # fmt: skip
"""From a score to a number, by link."""
SHARES: dict[str, Callable] = {
    "logistic": lambda z: jnp.concatenate([1 - jax.nn.sigmoid(z), jax.nn.sigmoid(z)], 1),
    "softmax": jax.nn.softmax,
    "one against all": jax.nn.sigmoid,
    "shares": lambda z: z,
}
"""From scores [n, outputs] to the shares [n, classes] of classes, by link."""


class Ensemble(NamedTuple):
    """What was learned, before it is arrays."""

    trees: Sequence[Sequence[Tree]]
    """[rounds][outputs]: the scores are summed over rounds."""
    base: Any
    """[outputs]: what the scores begin with."""
    link: str
    """A key of `SHARES` where there are labels, else of `NUMBERS`."""
    features: int
    columns: Sequence[str] | None = None
    """What the features are called, where the library knows."""
    labels: Any = None
    """Of classes, in the order of their scores; None of numbers."""
    single: bool = True
    """Whether the library reads x in float32."""
    zeros: Sequence[int] = ()
    """The features in which zero stands for a missing value."""
    levels: Mapping[int, Sequence[Any]] = {}
    """Of features that are words, by feature: the words in the order of their codes in x, where NaN is missing and -1 unknown."""


ZERO = 1e-35
"""What LightGBM takes for zero, either side of it."""


def answers_of(found: Ensemble, dtype: Any = np.float32) -> tuple[dict[str, Callable], Trees]:
    """The answers `(params, x) -> answer` of x [n, features] in `dtype`, and the parameters.

    `predict` [n], of classes their codes, and `predict_proba` [n, classes] of classes.
    """

    def answer(name):
        return lambda params, x: read_scores(found, flat(score_trees(params, read_rows(found, x))))[name]

    found = found._replace(trees=cut_trees(found.trees))
    names = ("predict",) if found.labels is None else ("predict", "predict_proba")
    return {name: answer(name) for name in names}, pack(found.trees, found.base, sizes_of(found), dtype)


def flat(scores: Any) -> Any:
    """[n, outputs, values] as [n, outputs], or of leaves with several values [n, values]."""
    return scores.reshape(scores.shape[0], scores.shape[1] * scores.shape[2])


def sizes_of(found: Ensemble) -> Sizes:
    """The least that its trees are filled up to."""
    trees = [tree for row in found.trees for tree in row]
    leaves = max((int((tree.left < 0).sum()) for tree in trees), default=1)
    codes = [int(members.max(initial=0)) for tree in trees for members in tree.members.values()]
    values = trees[0].value.shape[1] if trees else 1
    return Sizes(len(found.trees), len(found.base), leaves, values, max(codes, default=-1) + 1)


def read_rows(found: Ensemble, x: Any) -> Any:
    """x as the library reads it, NaN where it takes a value for missing."""
    if found.single:
        x = x.astype(jnp.float32).astype(x.dtype)
    zeros = np.isin(np.arange(found.features), found.zeros)
    return jnp.where(zeros & (jnp.abs(x) <= ZERO), jnp.nan, x) if zeros.any() else x


def read_scores(found: Ensemble, scores: Any) -> dict[str, Any]:
    """The answers by name that scores [n, outputs] are."""
    if found.labels is None:
        return {"predict": NUMBERS[found.link](scores[:, 0])}
    shares = SHARES[found.link](scores)
    return {"predict": jnp.argmax(shares, -1).astype(jnp.int32), "predict_proba": shares}


def grow(root: Any, read: Callable[[Any], Any]) -> Tree:
    """A tree of nodes within nodes as arrays.

    `read(node)` is the leaf's value, one or several, or `(feature, threshold, missing_left, members or None, left, right)`.
    """
    rows: list[Any] = []
    members: dict[int, np.ndarray] = {}
    walk = [(root, -1, "")]
    while walk:
        node, above, side = walk.pop()
        at, said = len(rows), read(node)
        if above >= 0:
            rows[above][side] = at
        if not isinstance(said, tuple):
            rows.append({"value": said})
            continue
        feature, threshold, missing_left, inside, left, right = said
        rows.append({"feature": feature, "threshold": threshold, "missing_left": missing_left})
        if inside is not None:
            members[at] = np.asarray(inside, int)
        walk += [(right, at, "right"), (left, at, "left")]

    def column(name, otherwise, kind):
        return np.array([row.get(name, otherwise) for row in rows], kind)

    none = np.zeros(np.shape(next(row["value"] for row in rows if "value" in row)))

    return Tree(
        column("feature", 0, int), column("threshold", 0, float), column("missing_left", False, bool), column("left", -1, int),
        column("right", -1, int), column("value", none, float).reshape(len(rows), -1), members,
    )  # fmt: skip


def refuse_objective(library: str, got: Any, known: Sequence[str]) -> ValueError:
    """The error of an objective whose answers are not known here."""
    return ValueError(f"its objective must be one of {', '.join(sorted(known))} of {library}'s; got {got}")
