"""What is decided between versions: which are served, who gets a canary, when it is rolled back; against scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal_serving.refused import Refused
from arsenal_serving.repository import rollout
from arsenal_serving.repository.rollout import Rollback

CANARY = {"version": 3, "weight": 0.1}
FULL = {
    "loaded": True,
    "versions": {"newest": 2},
    "default": "champion",
    "aliases": {"champion": 2, "last-year": 1},
    "canary": {**CANARY, "weight": 0.0, "key": "X-User", "stopped": {"why": "slow", "when": "2026-01-01T00:00:00+00:00"}},
    "shadow": {"version": 3, "share": 1, "tolerance": 1e-6},
    "rollback": {"minimum": 5, "errors": 0.01, "latency": {"quantile": 0.9, "ratio": 2}, "difference": 0.1},
}


@pytest.mark.parametrize(
    ("document", "there", "every", "served", "default"),
    [
        ({}, [1, 2, 3], False, [3], 3),
        ({}, [1, 2, 3], True, [1, 2, 3], 3),
        ({"versions": "newest"}, [1, 2, 3], True, [3], 3),
        ({"versions": {"newest": 2}}, [1, 2, 3], False, [2, 3], 3),
        ({"versions": [1]}, [1, 2, 3], False, [1], 1),
        ({"canary": CANARY}, [1, 2, 3], False, [2, 3], 2),
        ({"canary": CANARY}, [1, 2, 3, 4], False, [3, 4], 4),
        ({"canary": CANARY, "default": 1}, [1, 2, 3], False, [1, 2, 3], 1),
        ({"shadow": {"version": 1, "share": 0.5}}, [1, 2], False, [1, 2], 2),
        ({"canary": CANARY}, [3], False, [3], 3),
        ({"versions": [1], "aliases": {"old": 2}, "default": "old"}, [1, 2, 3], False, [1, 2], 2),
        ({"loaded": False, "aliases": {"old": 9}}, [1, 2], False, [], None),
        (FULL, [1, 2, 3], False, [1, 2, 3], 2),
    ],
)
def test_which_versions_are_served(document, there, every, served, default):
    given = rollout.policy(document)
    assert rollout.choose(given, there, every) == served
    assert not served or rollout.default(given, served) == default


@pytest.mark.parametrize("document", [{}, FULL, {"versions": [2, 1], "canary": CANARY}])
def test_a_policy_is_the_same_after_it_was_written(document):
    given = rollout.policy(document)
    assert rollout.parse(json.dumps(rollout.document(given)).encode()) == given


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "a policy must be an object with loaded, versions"),
        ({"cannary": {}}, "unknown field 'cannary' of a policy; did you mean 'canary'?"),
        ({"loaded": 1}, "'loaded' of a policy must be true or false; got 1."),
        ({"versions": "latest"}, "'versions' must be 'newest', 'all', {'newest': N} or a list of numbers; got 'latest'."),
        ({"versions": []}, "'versions' must be"),
        ({"versions": {"newest": True}}, "'versions' must be"),
        ({"versions": [0]}, "each of 'versions' must be a version, 1 to 999999999; got 0."),
        ({"aliases": {"2nd": 2}}, "no digit first; got '2nd'."),
        ({"aliases": {"a": "b"}}, "alias 'a' must be a version"),
        ({"default": "champ", "aliases": {"champion": 1}}, "unknown alias 'champ' of 'default'; did you mean 'champion'?"),
        ({"canary": {"version": 2}}, "'canary' must have 'weight'"),
        ({"canary": {"version": 2, "weight": 1.5}}, "'weight' of 'canary' must lie in 0 to 1; got 1.5."),
        ({"canary": {"version": 2, "weight": float("nan")}}, "must lie in 0 to 1; got nan."),
        ({"canary": {"version": 2, "weight": 0.1, "key": "x y"}}, "'key' of 'canary' must be the name of a header"),
        ({"canary": {"version": 2, "weight": 0, "stopped": {"why": 3, "when": ""}}}, "must hold 'why' and 'when'"),
        ({"canary": {"version": 2, "weight": 1}, "default": 2}, "must be two versions; both are 2."),
        ({"shadow": {"version": 2, "share": 1, "tolerance": -1}}, "'tolerance' of 'shadow' must be a number >= 0; got -1."),
        ({"rollback": {"minimum": 0}}, "'minimum' of 'rollback' must be a whole number >= 1; got 0."),
        ({"rollback": {"latency": {"quantile": 0.9}}}, "must hold 'quantile' and 'ratio'"),
        ({"rollback": {"latency": {"quantile": 0.9, "ratio": 0.5}}}, "'ratio' of 'latency' must be a number >= 1; got 0.5."),
    ],
)
def test_a_policy_that_is_wrong_is_told_what_is_wrong(document, says):
    with pytest.raises(Refused) as refused:
        rollout.policy(document)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["newest", "all", "a"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FULL, *CANARY, "newest", "a"]), inner), max_leaves=8
)


@given(st.fixed_dictionaries({}, optional={key: VALUES | st.just(value) for key, value in FULL.items()}))
@settings(max_examples=300, deadline=None)
def test_whatever_a_policy_says_it_is_taken_or_refused_in_one_line(document):
    try:
        taken = rollout.policy(document)
    except Refused as error:
        assert "\n" not in str(error)
        return
    assert rollout.parse(json.dumps(rollout.document(taken)).encode()) == taken
    try:
        served = rollout.choose(taken, [1, 2, 3], every=False)
    except Refused as error:
        assert "is not there" in str(error)
        return
    assert set(served) <= {1, 2, 3}
    assert not served or rollout.default(taken, served) in served


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b" " * (rollout.LONGEST + 1)])
def test_a_file_that_is_no_policy_is_refused(content):
    with pytest.raises(Refused):
        rollout.parse(content)


def test_a_key_keeps_its_version_while_the_weight_grows():
    keys = [f"user-{number}".encode() for number in range(20_000)]
    before: set[bytes] = set()
    for weight in (0.0, 0.01, 0.2, 0.5, 1.0):
        taken = {key for key in keys if rollout.takes(b"3/model", key, weight)}
        assert before <= taken
        assert scipy.stats.binomtest(len(taken), len(keys), weight).pvalue > 1e-4
        before = taken
    # Another canary has other keys: as many of both as chance gives.
    both = [rollout.takes(b"3/model", key, 0.5) and rollout.takes(b"4/model", key, 0.5) for key in keys]
    assert scipy.stats.binomtest(sum(both), len(keys), 0.25).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.5, 0.99])
def test_the_tail_is_that_of_scipy(share):
    for of in (1, 10, 100, 4096, 1_000_000):
        for count in {0, 1, of // 1000, int(of * share), int(of * share * 1.1) + 1, of}:
            want = scipy.stats.binom.sf(count - 1, of, share)
            assert rollout.tail(count, of, share) == pytest.approx(want, rel=1e-7, abs=1e-13), (count, of)


def outcomes(failures: int, of: int, seconds: float = 0.01) -> np.ndarray:
    random = np.random.default_rng(of)
    return np.concatenate([np.full(failures, np.nan), random.exponential(seconds, of - failures)])


@pytest.mark.parametrize(
    ("rule", "canary", "stable", "shadowed", "says"),
    [
        (Rollback(errors=0.01), outcomes(10, 100), outcomes(0, 1000), None, "10 of 100 requests failed"),
        (Rollback(errors=0.01), outcomes(3, 100), outcomes(0, 1000), None, None),  # by chance in 8 of 100
        (Rollback(errors=0.01), outcomes(100, 1000), outcomes(98, 1000), None, None),  # both fail alike
        (Rollback(errors=0.01), outcomes(99, 99), outcomes(0, 1000), None, None),  # too few yet
        (Rollback(errors=0.01), outcomes(200, 200), outcomes(0, 99), None, None),
        (Rollback(latency={"quantile": 0.9, "ratio": 2}), outcomes(0, 500, 0.05), outcomes(0, 500), None, "the 0.9 quantile"),
        (Rollback(latency={"quantile": 0.9, "ratio": 2}), outcomes(0, 500, 0.018), outcomes(0, 500), None, None),
        (Rollback(difference=0.02), outcomes(0, 0), outcomes(0, 0), (1000, 60), "60 of 1000 rows differ"),
        (Rollback(difference=0.02), outcomes(0, 0), outcomes(0, 0), (1000, 25), None),
        (Rollback(difference=0.0), outcomes(0, 0), outcomes(0, 0), (100, 1), "1 of 100 rows differ"),
        (Rollback(), outcomes(100, 100), outcomes(0, 100), (100, 100), None),  # no limits
    ],
)
def test_a_canary_is_judged(rule, canary, stable, shadowed, says):
    why = rollout.verdict(rule, canary, stable, shadowed)
    assert why == says or (says is not None and why is not None and why.startswith(says))


def test_a_canary_that_is_as_good_is_left_alone():
    random, rule = np.random.default_rng(0), Rollback(errors=0.0, latency={"quantile": 0.95, "ratio": 1.2})
    stable, canaries = random.exponential(1.0, 4096), random.exponential(1.0, (300, 200))
    assert sum(rollout.verdict(rule, canary, stable) is not None for canary in canaries) <= 9  # 1 in 100 is allowed


def test_how_far_rows_are_apart():
    nan, inf = np.nan, np.inf
    got = np.float32([[1, 2], [nan, 1], [inf, 1], [inf, 1], [1, nan]])
    want = np.float32([[1, 2.5], [nan, 1], [inf, 1], [-inf, 1], [1, 0]])
    assert rollout.measure_apart(got, want, 5).tolist() == [0.5, 0, 0, inf, inf]
    assert rollout.measure_apart(np.array(["a", "b"], object), np.array(["a", "c"], object), 2).tolist() == [0, 1]
    assert rollout.measure_apart(np.uint8([3, 250]), np.uint8([250, 250]), 2).tolist() == [247, 0]
    assert rollout.measure_apart(got, want[:, :1], 5).tolist() == [inf] * 5
    assert rollout.measure_apart(np.int32([[1]]), np.float32([[1]]), 1).tolist() == [inf]
