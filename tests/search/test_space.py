"""Spaces: both ways through the unit cube, conditions, and what a faulty one is told."""

import json

import numpy as np
import pytest

from arsenal.search import space

SPEC = {
    "optimizer.learning_rate": {"log": [1e-4, 1e-1]},
    "dropout": {"float": [0, 0.5]},
    "width": {"int": [16, 128]},
    "depth": {"log_int": [1, 64]},
    "optimizer": {"choice": ["adam", "sgd", None, 1, True]},
    "momentum": {"float": [0, 0.99], "when": {"optimizer": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"momentum_kind": [1, 2]}},
    "momentum_kind": {"int": [0, 2], "when": {"optimizer": ["sgd", "adam"]}},
    "seed": {"seed": 8},
}


def test_a_space_is_its_description():
    made = space(SPEC)
    assert space(json.loads(json.dumps(made.describe()))) == made


def test_the_unit_cube_and_back():
    made = space(SPEC)
    u = np.random.default_rng(0).random((500, len(SPEC)))
    candidates = made.from_unit(u)
    again = made.from_unit(made.to_unit(candidates))
    for name, values in candidates.items():
        assert values.dtype == (np.float64 if made.dimensions[name].size is None else np.int32)
        np.testing.assert_allclose(again[name], values, rtol=1e-12)
    rate = candidates["optimizer.learning_rate"]
    assert rate.min() >= 1e-4 and rate.max() <= 1e-1 and abs(np.log10(rate).mean() + 2.5) < 0.1
    assert set(candidates["momentum_kind"].tolist()) == {0, 1, 2}
    ends = made.from_unit(np.array([[0.0] * len(SPEC), [1.0] * len(SPEC)]))
    assert [ends[n].tolist() for n in ("optimizer.learning_rate", "width", "depth", "optimizer", "seed")] == [
        [1e-4, 1e-1], [16, 128], [1, 64], [0, 4], [0, 7],
    ]  # fmt: skip


def test_whole_numbers_are_equally_likely():
    made = space({"n": {"int": [3, 7]}, "c": {"choice": list("abc")}})
    n = made.from_unit(np.stack([np.linspace(0, 1, 100_000)] * 2, 1))
    assert np.ptp(np.bincount(n["n"])[3:]) < 5 and np.ptp(np.bincount(n["c"])) < 5


def test_conditions_chain():
    made = space(SPEC)
    candidates = made.from_unit(np.random.default_rng(1).random((200, len(SPEC))))
    active = made.active(candidates)
    for i in range(200):
        values = made.values(candidates, i)
        assert ("momentum" in values) == (values["optimizer"] == "sgd") == active["momentum"][i]
        assert ("momentum_kind" in values) == (values["optimizer"] in ("sgd", "adam"))
        assert ("nesterov" in values) == (values.get("momentum_kind", 0) in (1, 2))
        assert made.values(made.candidate(values), 0) == values


def test_true_is_not_one():
    made = space(SPEC)
    one = {"optimizer.learning_rate": 0.01, "dropout": 0.25, "width": 20, "depth": 2, "seed": 3}
    for choice in (1, True, None):
        assert made.values(made.candidate(one | {"optimizer": choice}), 0)["optimizer"] is choice


@pytest.mark.parametrize(("spec", "message"), [
    ({}, "must name at least one dimension"),
    ({"a": {"log": [0, 1]}}, r"The range of `a` is logarithmic and must lie above 0; got \[0, 1\]"),
    ({"a": {"log": [-1.0, 1.0]}}, "logarithmic"),
    ({"a": {"float": [1, 1]}}, r"must have low < high; got \[1, 1\]"),
    ({"a": {"float": ["1e-4", 1]}}, "must be two numbers"),
    ({"a": {"int": [0, 1.5]}}, "two whole numbers"),
    ({"a": {"choice": []}}, "must list at least one value"),
    ({"a": {"seed": 0}}, "at least 1"),
    ({"a": {"flaot": [0, 1]}}, "must be one of float, log, int, log_int, choice, seed; got `flaot`. Did you mean `float`?"),
    ({"a": {"float": [0, 1], "int": [0, 1]}}, "must have one of"),
    ({"a": 3}, "must have one of"),
    ({"a": {"float": [0, 1], "when": {"bb": 1}}, "b": {"int": [0, 1]}}, "`bb`, which is not in the space"),
    ({"a": {"float": [0, 1], "when": {"b": "z"}}, "b": {"choice": ["x", "y"]}}, "b = 'z', which it never is"),
    ({"a": {"float": [0, 1], "when": {"b": 0.5}}, "b": {"float": [0, 1]}}, "must ask for a choice, an int or a seed"),
    ({"a": {"int": [0, 1], "when": {"b": 1}}, "b": {"int": [0, 1], "when": {"a": 1}}}, "goes in a circle: a -> b -> a"),
])  # fmt: skip
def test_a_faulty_space_is_told_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        space(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("values", "message"), [
    ({"a": 2.0, "b": "x"}, "`a` has no value 2.0"),
    ({"a": 0.5}, "needs a value for `b`"),
    ({"a": 0.5, "b": "x", "bb": 1}, "`bb` is not in the space. Did you mean `b`?"),
])  # fmt: skip
def test_a_faulty_candidate_is_told(values, message):
    with pytest.raises(ValueError, match=message):
        space({"a": {"float": [0, 1]}, "b": {"choice": ["x", "y"]}}).candidate(values)


def test_whole_numbers_in_steps():
    made = space({"width": {"int": [16, 64], "step": 16}})
    one = made.dimensions["width"]
    assert one.numbers.tolist() == [16, 32, 48, 64] and one.size == 4
    drawn = one.from_unit(np.linspace(0, 1, 1001))
    assert sorted(set(drawn.tolist())) == [16, 32, 48, 64] and min(np.bincount(drawn)[[16, 32, 48, 64]]) > 240
    np.testing.assert_array_equal(one.from_unit(one.to_unit(one.numbers)), one.numbers)
    assert one.number(32) == 32 and one.number(40) is None and space(made.describe()) == made
    for entry, said in (
        ({"int": [16, 60], "step": 16}, "`step` of `width` must be a whole number that divides 60 - 16; got 16"),
        ({"float": [0, 1], "step": 1}, "Only an int may have a `step`; `width` is a float"),
        ({"choice": [1, 2, 1]}, "The choice `width` lists 1 twice"),
    ):
        with pytest.raises(ValueError, match=said):
            space({"width": entry})
