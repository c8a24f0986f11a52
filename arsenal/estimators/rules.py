"""Association rules: what is in a basket besides, of items that are often together. Agrawal & Srikant, VLDB 1994."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval

from arsenal.records import Estimator

Part = Annotated[float, Interval(gt=0, le=1)]


class Rules(NamedTuple):
    """Which items [rules, items] each rule needs, the item [rules] that it gives, how it holds; behind the last `support` is 0.

    [rules] each: the share of baskets that hold all of it, that of those with what it needs, their ratio to what chance would
    have, their difference from it, and how much more often the rule would fail by chance, infinite where it never does.
    """

    needs: Any
    gives: Any
    support: Any
    confidence: Any
    lift: Any
    leverage: Any
    conviction: Any
    share: Any
    """The share [items] of baskets that hold each item."""


class RulesFit(NamedTuple):
    """How many sets of items are frequent, and how many `rules` [] hold, also beyond those that are kept."""

    converged: Any
    iterations: Any
    itemsets: Any
    rules: Any


def association_rules(
    support: Part = 0.02, confidence: Part = 0.3, longest: Annotated[int, Gt(1)] = 4, rules: Annotated[int, Gt(0)] = 2000,
    count: Annotated[int, Gt(0)] = 3, schema: Any = None,
) -> Estimator:  # fmt: skip
    """Rules "who has these has that too", of one item each, that hold in the share `support` of baskets and mostly.

    x [n, items], an item is there where x > 0; y, if there is one, is an item [n] more, that `baskets` took out. "Mostly" is in
    the share `confidence` of the baskets that hold what it needs. Found are the sets of at most `longest` items that Apriori
    and FP-growth find, depth first in ever fewer baskets; of their rules the `rules` with most confidence are kept. Answers:
    `decision_function` [n, items], the confidence of the surest rule whose needs the basket holds, or the item's share where
    none is surer, -1 of what it holds already; `predict` [n], the item with most; `recommend` [n, count]. `rule_table` shows
    the rules. Itemsets and measures are equal to mlxtend's.
    """
    if schema is not None and schema.target.columns is not None and schema.target.columns != schema.inputs["x"].columns:
        raise ValueError("`association_rules` takes y None, or the item that `baskets` took out of each: this target is another.")

    def fit(key, rows, hp):
        there = baskets_of(rows)
        weight = np.asarray(rows.weight, float) / np.sum(rows.weight)
        found = frequent_itemsets(there, weight, float(hp["support"]), longest)
        made = [rule for items in found if len(items) > 1 for rule in rules_of(items, found, float(hp["confidence"]))]
        made.sort(key=lambda rule: (-rule.confidence, -rule.support, rule.needs, rule.gives))
        return pack_rules(made[:rules], rules, weight @ there), RulesFit(True, 1, len(found), len(made))

    def shapes(rows, hp):
        items, dtype = rows.x.shape[1], rows.x.dtype
        whole, one = jax.ShapeDtypeStruct((), np.int32), jax.ShapeDtypeStruct((rules,), dtype)
        needs, gives = jax.ShapeDtypeStruct((rules, items), np.bool_), jax.ShapeDtypeStruct((rules,), np.int32)
        found = Rules(needs, gives, one, one, one, one, one, jax.ShapeDtypeStruct((items,), dtype))
        return found, RulesFit(jax.ShapeDtypeStruct((), np.bool_), whole, whole, whole)

    def scores(fitted, x):
        held = x > 0
        lacking = jnp.matmul((~held).astype(fitted.share.dtype), fitted.needs.T.astype(fitted.share.dtype))
        sure = jnp.where((lacking == 0) & (fitted.support > 0), fitted.confidence, 0)
        best = jax.ops.segment_max(sure.T, fitted.gives, fitted.share.shape[0]).T
        return jnp.where(held, -1, jnp.maximum(best, fitted.share))

    def recommend(fitted, x):
        return jax.lax.top_k(scores(fitted, x), count)[1].astype(jnp.int32)

    def check(rows):
        shape = np.shape(rows.x) if not isinstance(rows.x, dict) else f"inputs {', '.join(rows.x)}"
        if isinstance(rows.x, dict) or len(shape) != 2 or not jnp.issubdtype(rows.x.dtype, jnp.floating):
            raise ValueError(f"`association_rules` takes x of floats [n, items], 0 where an item is not there; got {shape}.")
        if count > shape[1]:
            raise ValueError(f"`count` of `association_rules` must be at most the number of items, {shape[1]}; got {count}.")
        if rows.y is not None and (np.ndim(rows.y) != 1 or not jnp.issubdtype(rows.y.dtype, jnp.integer)):
            raise ValueError(f"`association_rules` takes y of items [n], or none; got shape {np.shape(rows.y)}.")
        if isinstance(rows.y, np.ndarray | jax.Array):
            known = np.asarray(rows.y)[np.asarray(rows.weight) > 0]
            if known.min(initial=0) < 0 or known.max(initial=0) >= shape[1]:
                raise ValueError(f"`association_rules` takes y of items 0 to {shape[1] - 1}; got {known.min()} to {known.max()}.")
        if not (np.asarray(rows.weight) > 0).any():
            raise ValueError("`association_rules` needs baskets with weight; got none.")

    answers = {
        "predict": lambda fitted, x: jnp.argmax(scores(fitted, x), 1).astype(jnp.int32), "decision_function": scores,
        "recommend": recommend,
    }  # fmt: skip
    return Estimator(
        fit, answers, check=check, shapes=shapes, hp={"support": support, "confidence": confidence},
        exempt={"host": "how many sets of items there are depends on the baskets"},
    )  # fmt: skip


class Rule(NamedTuple):
    """One rule: what it needs, what it gives, and how it holds."""

    needs: tuple[int, ...]
    gives: int
    support: float
    confidence: float
    lift: float
    leverage: float
    conviction: float


def baskets_of(rows: Any) -> np.ndarray:
    """Which items [n, items] are in the living baskets, y among them."""
    there = (np.asarray(rows.x) > 0) & (np.asarray(rows.weight) > 0)[:, None]
    if rows.y is not None:
        living = np.flatnonzero(np.asarray(rows.weight) > 0)
        there[living, np.asarray(rows.y)[living]] = True
    return there


def frequent_itemsets(
    there: np.ndarray, weight: np.ndarray, support: float, longest: int
) -> dict[tuple[int, ...], float]:
    """The sets of at most `longest` items, in order, that baskets [n, items] of this weight hold together, and that weight.

    >>> found = frequent_itemsets(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0]]) > 0, np.ones(3) / 3, 0.5, 2)
    >>> [(items, round(share, 2)) for items, share in found.items()]
    [((0,), 0.67), ((0, 1), 0.67), ((1,), 1.0)]
    """
    found: dict[tuple[int, ...], float] = {}

    def grow(items, rows, after):
        """All sets that begin with these items, in the baskets that hold them, by items `after` them."""
        shares = weight[rows] @ there[np.ix_(rows, after)]
        often = shares >= support * (1 - 1e-9)  # 0.1 * 30 is not 3 to the last bit
        rest = after[often]
        for place, (item, share) in enumerate(zip(rest.tolist(), shares[often].tolist(), strict=True)):
            found[(*items, item)] = share
            if len(items) + 1 < longest and place + 1 < len(rest):
                grow((*items, item), rows[there[rows, item]], rest[place + 1 :])

    grow((), np.flatnonzero(weight > 0), np.arange(there.shape[1]))
    return found


def rules_of(items: tuple[int, ...], found: dict[tuple[int, ...], float], confidence: float) -> list[Rule]:
    """The rules of a set of items that hold often enough, by the shares of all frequent sets."""
    made, both = [], found[items]
    for gives in items:
        needs = tuple(item for item in items if item != gives)
        one, other = found[needs], found[(gives,)]
        sure = both / one
        if sure >= confidence * (1 - 1e-9):
            fails = (1 - other) / (1 - sure) if sure < 1 - 1e-12 else np.inf
            made.append(Rule(needs, gives, both, sure, sure / other, both - one * other, fails))
    return made


def pack_rules(made: Sequence[Rule], size: int, share: np.ndarray) -> Rules:
    """Rules as arrays of a fixed size."""
    needs, gives = np.zeros((size, len(share)), bool), np.zeros(size, np.int32)
    measures = np.zeros((5, size))
    for at, rule in enumerate(made):
        needs[at, list(rule.needs)], gives[at], measures[:, at] = True, rule.gives, rule[2:]
    support, confidence, lift, leverage, conviction = measures
    return Rules(needs, gives, support, confidence, lift, leverage, conviction, share)


def rule_table(fitted: Rules, items: Sequence[str]) -> list[dict[str, Any]]:
    """The rules as lines of what each needs and gives, by the names of the items, and how it holds."""
    lines = []
    for at in np.flatnonzero(np.asarray(fitted.support) > 0):
        needs = [items[item] for item in np.flatnonzero(np.asarray(fitted.needs[at])).tolist()]
        measures = {name: float(getattr(fitted, name)[at]) for name in Rule._fields[2:]}
        lines.append({"needs": needs, "gives": items[int(fitted.gives[at])]} | measures)
    return lines
