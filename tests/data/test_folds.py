"""Folds have scikit-learn's index sets; those that it lacks keep what their definition says, counted by hand."""

import numpy as np
import pytest
from sklearn import model_selection as peer

from arsenal import data
from arsenal.data import Schema
from arsenal.records import Batch

N = 60
DRAW = np.random.default_rng(0)
Y = DRAW.integers(0, 3, N).astype(np.int32)
GROUP = DRAW.integers(0, 8, N).astype(np.int32)
TIME = DRAW.permutation(N).astype(np.float32)
FOLD = DRAW.integers(-1, 4, N).astype(np.int32)
ROWS = Batch(DRAW.normal(size=(N, 2)).astype(np.float32), Y, np.ones(N, np.float32), np.arange(N, dtype=np.int32),
             {"group": GROUP, "time": TIME, "fold": FOLD})  # fmt: skip
PEERS = {
    "k_fold": (data.k_fold(4, shuffle=False), peer.KFold(4)),
    "shuffled": (data.k_fold(4, seed=3), peer.KFold(4, shuffle=True, random_state=3)),
    "repeated": (data.k_fold(4, repeats=3, seed=1), peer.RepeatedKFold(n_splits=4, n_repeats=3, random_state=1)),
    "stratified": (data.stratified_k_fold(5, seed=2), peer.StratifiedKFold(5, shuffle=True, random_state=2)),
    "stratified twice": (
        data.stratified_k_fold(5, 2, seed=2), peer.RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=2)
    ),
    "groups": (data.group_k_fold("group", 3), peer.GroupKFold(3)),
    "stratified groups": (
        data.stratified_group_k_fold("group", 3), peer.StratifiedGroupKFold(3, shuffle=True, random_state=0)
    ),
    "one out": (data.leave_one_out(), peer.LeaveOneOut()),
    "one group out": (data.leave_one_group_out("group"), peer.LeaveOneGroupOut()),
    "drawn": (data.shuffle_split(7, 0.3, seed=5), peer.ShuffleSplit(7, test_size=0.3, random_state=5)),
    "drawn by class": (
        data.shuffle_split(7, 0.3, stratify="y"), peer.StratifiedShuffleSplit(7, test_size=0.3, random_state=0)
    ),
    "drawn groups": (data.shuffle_split(7, 0.3, group="group"), peer.GroupShuffleSplit(7, test_size=0.3, random_state=0)),
    "told": (data.by_fold("fold"), peer.PredefinedSplit(FOLD)),
    "expanding": (data.time_series(4, gap=2), peer.TimeSeriesSplit(4, gap=2)),
    "rolling": (data.time_series(4, test_rows=5, train_rows=9), peer.TimeSeriesSplit(4, test_size=5, max_train_size=9)),
}  # fmt: skip


def index_sets(masks) -> list[tuple[list[int], list[int]]]:
    return [(np.flatnonzero(a).tolist(), np.flatnonzero(b).tolist()) for a, b in zip(masks["train"], masks["test"], strict=True)]


@pytest.mark.parametrize("name", PEERS)
def test_folds_are_scikit_learns(name):
    ours, theirs = PEERS[name]
    wanted = [(sorted(a.tolist()), sorted(b.tolist())) for a, b in theirs.split(ROWS.x, Y, GROUP if "group" in name else None)]
    assert index_sets(ours.masks(ROWS, Schema())) == wanted


def test_rows_that_are_not_there_are_in_no_fold_and_leave_those_of_the_others_alone():
    there = np.arange(N) % 4 != 0
    masks = data.stratified_k_fold(3).masks(ROWS._replace(weight=there.astype(np.float32)), Schema())
    few = Batch(ROWS.x[there], Y[there], np.ones(there.sum(), np.float32), ROWS.row[there])
    alone = data.stratified_k_fold(3).masks(few, Schema())
    for side in ("train", "test"):
        assert not masks[side][:, ~there].any()
        np.testing.assert_array_equal(masks[side][:, there], alone[side])


def test_numbers_are_stratified_by_tenths():
    rows = ROWS._replace(y=DRAW.normal(size=N).astype(np.float32))
    for mask in data.stratified_k_fold(3).masks(rows, Schema())["test"]:
        assert abs(np.median(rows.y[mask]) - np.median(rows.y)) < 0.35


def test_time_series_follow_the_column():
    masks = data.time_series(3, "time").masks(ROWS, Schema())
    for train, test in zip(masks["train"], masks["test"], strict=True):
        assert TIME[train].max() < TIME[test].min()


def test_purged_folds_by_hand():
    """Ten rows at times 0 to 9, each of which tells of two steps ahead; a tenth of the rows is an embargo."""
    n = 10
    rows = Batch(np.zeros((n, 1)), np.zeros(n, np.int32), np.ones(n), np.arange(n), {"t": np.arange(n, dtype=np.int32)})
    masks = data.purged_k_fold("t", 5, horizon=2, embargo=0.1).masks(rows, Schema())
    # Fold 2 tests 4 and 5, which tell of 4 to 7: 2 and 3 reach 4, 6 and 7 begin before its end, 8 is the embargo.
    assert index_sets(masks)[2] == ([0, 1, 9], [4, 5])
    plain = data.purged_k_fold("t", 5).masks(rows, Schema())
    assert index_sets(plain) == index_sets(data.k_fold(5, shuffle=False).masks(rows, Schema()))


def test_combinations_of_purged_folds_are_those_of_every_pair_of_rows():
    """Row by row, by the definition: who overlaps with a fold that tests, or is among the first after it, does not train."""
    folds, chosen, horizon, later = 5, 2, 2.5, 3
    masks = data.combinatorial_purged("time", folds, chosen, horizon, embargo=later / N).masks(ROWS, Schema())
    order = np.argsort(TIME)
    parts = [order[12 * i : 12 * (i + 1)].tolist() for i in range(folds)]
    wanted = []
    for first in range(folds):
        for second in range(first + 1, folds):
            test, out = {*parts[first], *parts[second]}, set()
            for part in (parts[first], parts[second]):
                begin, end = min(TIME[i] for i in part), max(TIME[i] for i in part) + horizon
                out |= {i for i in range(N) if TIME[i] <= end and TIME[i] + horizon >= begin}
                out |= set([i for i in order.tolist() if TIME[i] > end][:later])
            wanted.append((sorted(set(range(N)) - out - test), sorted(test)))
    assert index_sets(masks) == wanted and len(wanted) == 10
    assert (masks["test"].sum(0) == 4).all(), "Every row is in four of the ten: whole histories can be put together."
    one = data.combinatorial_purged("time", 5, 1, 2, embargo=0.1).masks(ROWS, Schema())
    assert index_sets(one) == index_sets(data.purged_k_fold("time", 5, 2, embargo=0.1).masks(ROWS, Schema()))


@pytest.mark.parametrize(("make", "match"), [
    (lambda: data.combinatorial_purged("time", 4, 4), "`test_folds` of `combinatorial_purged` must be below .* 4; got 4"),
    (lambda: data.k_fold(3, repeats=2, shuffle=False), "`k_fold` with `repeats` 2 shuffles"),
    (lambda: data.shuffle_split(stratify="y", group="group"), "takes `stratify` or `group`, not both"),
    (lambda: data.k_fold(61).masks(ROWS, Schema()), "`k_fold` cannot split these 60 rows: .*61"),
    (lambda: data.group_k_fold("group", 9).masks(ROWS, Schema()), "`group_k_fold` cannot split these 60 rows"),
    (lambda: data.group_k_fold("gruop", 3).masks(ROWS, Schema()), "reads the column `gruop`; there are"),
    (lambda: data.by_fold("time").masks(ROWS, Schema()), "must hold whole numbers; `time` holds float32"),
    (lambda: data.purged_k_fold("time", 3, horizon=100).masks(ROWS, Schema()), "Split 1 of `purged_k_fold` has no row to train"),
    (lambda: data.purged_k_fold("time", 61).masks(ROWS, Schema()), "at most the number of rows, here 60; got 61"),
])  # fmt: skip
def test_what_cannot_be_split_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
