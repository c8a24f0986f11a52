"""Rules are those that counting every set of items gives, and mlxtend's on the groceries."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.data import Schema, baskets
from arsenal.estimators import association_rules, rule_table
from arsenal.records import batch

BASKETS = np.random.default_rng(0).random((40, 6)) < [0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
WEIGHT = np.random.default_rng(1).integers(0, 3, 40).astype(float)


def fit(estimator, x, y=None, weight=None):
    """The rules, and how many there are."""
    rows = jax.tree.map(np.asarray, batch(x=np.asarray(x, np.float32), y=y, weight=weight))
    estimator.check(rows)
    return estimator.fit(None, rows, estimator.hp)


def test_rules_are_those_of_counting():
    """The item that y is belongs to the basket; a weight is so many baskets."""
    last = np.array([row.nonzero()[0][-1] if row.any() else 0 for row in BASKETS])
    x = BASKETS.copy()
    x[np.arange(40), last] = False
    found, info = fit(association_rules(0.1, 0.5, longest=3), x, last, WEIGHT)
    many = BASKETS.copy()
    many[np.arange(40), last] = True
    many = many.repeat(WEIGHT.astype(int), 0)
    share = lambda items: many[:, list(items)].all(1).mean()  # noqa: E731
    sets = [s for size in (1, 2, 3) for s in combinations(range(6), size) if share(s) >= 0.1]
    wanted = {}
    for items in sets:
        for gives in items if len(items) > 1 else ():
            needs, both = tuple(i for i in items if i != gives), share(items)
            sure, other = both / share(needs), share((gives,))
            if sure >= 0.5:
                wanted[needs, gives] = both, sure, sure / other, both - share(needs) * other, (1 - other) / (1 - sure) if sure < 1 else np.inf
    lines = rule_table(found, range(6))
    assert (int(info.itemsets), int(info.rules)) == (len(sets), len(wanted)) == (len(sets), len(lines))
    got = {(tuple(line.pop("needs")), line.pop("gives")): tuple(line.values()) for line in lines}
    assert got.keys() == wanted.keys()
    for rule, measures in got.items():
        assert measures == pytest.approx(wanted[rule])


def test_rules_of_the_groceries_are_mlxtends():
    """What fpgrowth(min_support=0.02, max_len=4) and association_rules of mlxtend 0.25 give, of one item each."""
    data = baskets()
    found, info = fit(association_rules(0.02, 0.5), data.rows.x)
    lines = rule_table(found, data.schema.inputs["x"].columns)
    assert (int(info.itemsets), len(lines)) == (363, 614)
    assert lines[0]["needs"] == ["beer", "mustard"] and lines[0]["gives"] == "charcoal"
    wanted = {"support": 0.024, "confidence": 0.947368, "lift": 18.947368, "leverage": 0.022733, "conviction": 18.05}
    assert {name: lines[0][name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    totals = {"support": 31.101333, "confidence": 470.47075, "lift": 3585.005395, "leverage": 23.876917, "conviction": 2528.730602}
    assert {name: sum(line[name] for line in lines) for name in totals} == pytest.approx(totals)


def test_the_surest_rule_that_fits_answers_and_else_the_commonest():
    x = np.array([[1, 1, 0]] * 4 + [[0, 0, 1]] * 5 + [[1, 0, 0]])
    made = association_rules(0.1, 0.5, count=2)
    found = jax.tree.map(jnp.asarray, fit(made, x)[0])
    asked = jnp.asarray([[1.0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(made.apply["decision_function"](found, asked)[0], [-1, 0.8, 0.5])
    assert made.apply["predict"](found, asked).tolist() == [1, 0, 2, 0]
    assert made.apply["recommend"](found, asked)[0].tolist() == [1, 2]


def test_what_does_not_fit_is_told():
    made = association_rules()
    with pytest.raises(ValueError, match=r"takes x of floats \[n, items\], 0 where an item is not there; got \(2,\)"):
        made.check(batch(x=[1.0, 0.0]))
    with pytest.raises(ValueError, match="`count` of `association_rules` must be at most the number of items, 2; got 3"):
        made.check(batch(x=[[1.0, 0.0]]))
    with pytest.raises(ValueError, match="takes y of items 0 to 2; got 7 to 7"):
        made.check(batch(x=[[1.0, 0.0, 1.0]], y=[7]))
    schema = baskets(target="one").schema
    association_rules(schema=schema)
    with pytest.raises(ValueError, match="takes y None, or the item that `baskets` took out of each"):
        association_rules(schema=Schema(schema.inputs, schema.target._replace(columns=["yes", "no"])))
