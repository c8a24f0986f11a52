"""Many splits of the same rows, as cross-validation takes them: each a mask of those that train and a mask of those that test.

Where scikit-learn has the splitter, its index sets are these; purged folds: López de Prado, Advances in Financial Machine
Learning (2018), chapters 7 and 12.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval, Lt

from arsenal.data.splits import TENTHS, column_values
from arsenal.records import Batch, Splits

Count = Annotated[int, Ge(1)]
Folds = Annotated[int, Ge(2)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
Share = Annotated[float, Interval(gt=0, lt=1)]


def k_fold(folds: Folds = 5, repeats: Count = 1, shuffle: bool = True, seed: Seed = 0) -> Splits:
    """Every row tests once in each repeat; repeats are shuffled each in its own way.

    scikit-learn's `KFold`, of several repeats `RepeatedKFold`.

    >>> from arsenal.records import batch
    >>> k_fold(folds=2, shuffle=False).masks(batch(x=[[0.0]] * 4), None)["test"].tolist()
    [[True, True, False, False], [False, False, True, True]]
    """

    def splitter(y, groups):
        from sklearn.model_selection import KFold, RepeatedKFold

        if repeats > 1:
            return RepeatedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
        return KFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)

    check_shuffle("k_fold", repeats, shuffle)
    return by_splitter("k_fold", splitter)


def stratified_k_fold(
    folds: Folds = 5, repeats: Count = 1, shuffle: bool = True, seed: Seed = 0, column: str = "y"
) -> Splits:
    """Each class, a value of y or of another column, in the same shares in all folds; of numbers, each tenth.

    scikit-learn's `StratifiedKFold`, of several repeats `RepeatedStratifiedKFold`.
    """

    def splitter(y, groups):
        from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold

        if repeats > 1:
            return RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
        return StratifiedKFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)

    check_shuffle("stratified_k_fold", repeats, shuffle)
    return by_splitter("stratified_k_fold", splitter, strata=column)


def group_k_fold(column: str, folds: Folds = 5, shuffle: bool = False, seed: Seed = 0) -> Splits:
    """Rows of one group, a value of `column`, are in one fold; scikit-learn's `GroupKFold`."""

    def splitter(y, groups):
        from sklearn.model_selection import GroupKFold

        return GroupKFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)

    return by_splitter("group_k_fold", splitter, groups=column)


def stratified_group_k_fold(
    group: str, folds: Folds = 5, shuffle: bool = True, seed: Seed = 0, column: str = "y"
) -> Splits:
    """Rows of one `group` are in one fold, and classes of `column` in shares as equal as that allows.

    scikit-learn's `StratifiedGroupKFold`.
    """

    def splitter(y, groups):
        from sklearn.model_selection import StratifiedGroupKFold

        return StratifiedGroupKFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)

    return by_splitter("stratified_group_k_fold", splitter, strata=column, groups=group)


def leave_one_out() -> Splits:
    """Every row tests alone; scikit-learn's `LeaveOneOut`."""

    def splitter(y, groups):
        from sklearn.model_selection import LeaveOneOut

        return LeaveOneOut()

    return by_splitter("leave_one_out", splitter)


def leave_one_group_out(column: str) -> Splits:
    """Every group, a value of `column`, tests alone; scikit-learn's `LeaveOneGroupOut`."""

    def splitter(y, groups):
        from sklearn.model_selection import LeaveOneGroupOut

        return LeaveOneGroupOut()

    return by_splitter("leave_one_group_out", splitter, groups=column)


def shuffle_split(
    splits: Count = 10, test: Share = 0.2, stratify: str | None = None, group: str | None = None, seed: Seed = 0
) -> Splits:
    """Rows drawn to test, anew in each split: of each class of `stratify` the same share, or whole groups of `group`.

    scikit-learn's `ShuffleSplit`, `StratifiedShuffleSplit` and `GroupShuffleSplit`.
    """
    if stratify is not None and group is not None:
        raise ValueError("`shuffle_split` takes `stratify` or `group`, not both.")

    def splitter(y, groups):
        from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

        kind = GroupShuffleSplit if group is not None else StratifiedShuffleSplit if stratify is not None else ShuffleSplit
        return kind(splits, test_size=test, random_state=seed)

    return by_splitter("shuffle_split", splitter, strata=stratify, groups=group)


def by_fold(column: str) -> Splits:
    """Rows test in the fold that `column`, of whole numbers, names; those below 0 never. scikit-learn's `PredefinedSplit`."""

    def masks(rows, schema):
        from sklearn.model_selection import PredefinedSplit

        live, found = live_values(rows, schema, column)
        if not np.issubdtype(found.dtype, np.integer):
            raise ValueError(f"`column` of `by_fold` must hold whole numbers; `{column}` holds {found.dtype}.")
        return index_masks("by_fold", PredefinedSplit(found), live, len(rows.weight))

    return Splits(masks)


def time_series(
    splits: Folds = 5, column: str | None = None, gap: Annotated[int, Ge(0)] = 0, test_rows: Count | None = None,
    train_rows: Count | None = None,
) -> Splits:  # fmt: skip
    """Later and later rows test, and those before them train: all (an expanding origin), or the last `train_rows` (rolling).

    Rows are in the order of `column`, of numbers or dates, or of their ids; the `gap` rows before those that test do neither.
    scikit-learn's `TimeSeriesSplit`.
    """

    def masks(rows, schema):
        from sklearn.model_selection import TimeSeriesSplit

        live, at = live_values(rows, schema, column)
        kept = TimeSeriesSplit(splits, max_train_size=train_rows, test_size=test_rows, gap=gap)
        return index_masks("time_series", kept, live[np.argsort(at, kind="stable")], len(rows.weight))

    return Splits(masks)


def purged_k_fold(
    column: str, folds: Folds = 5, horizon: Annotated[float, Ge(0)] = 0.0, embargo: Annotated[float, Interval(ge=0, lt=1)] = 0.0
) -> Splits:
    """Folds in the order of `column`, without the training rows that know something of those that test.

    A row at time t tells of t to t + `horizon`, in the column's units. Who overlaps with the fold's span does not train
    (purged), nor do those that come within the share `embargo` of all rows after it.
    """

    return Splits(purged_masks("purged_k_fold", column, folds, 1, horizon, embargo))


def combinatorial_purged(
    column: str, folds: Annotated[int, Ge(3)] = 6, test_folds: Count = 2, horizon: Annotated[float, Ge(0)] = 0.0,
    embargo: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Splits:  # fmt: skip
    """Every choice of `test_folds` of the folds in the order of `column` tests, so that every row does in many splits.

    Of 6 folds and 2 of them 15 splits, which are 5 whole histories. Rows that know something of a fold that tests do not
    train, as in `purged_k_fold`: each fold that tests has its `horizon` and its `embargo`. López de Prado (2018), 12.3.
    """
    if test_folds >= folds:
        raise ValueError(f"`test_folds` of `combinatorial_purged` must be below its `folds`, here {folds}; got {test_folds}.")
    return Splits(purged_masks("combinatorial_purged", column, folds, test_folds, horizon, embargo))


def purged_masks(name: str, column: str, folds: int, together: int, horizon: float, embargo: float) -> Callable:
    """The masks of every choice of `together` folds in the order of a column, without the rows that know something of them."""

    def masks(rows, schema):
        live, at = live_values(rows, schema, column)
        at, order = at.astype(np.float64), np.argsort(at, kind="stable")
        if len(live) < folds:
            raise ValueError(f"`folds` of `{name}` must be at most the number of rows, here {len(live)}; got {folds}.")
        train, test = (np.zeros((math.comb(folds, together), len(rows.weight)), bool) for _ in range(2))
        later, parts = int(len(live) * embargo), np.array_split(order, folds)
        for i, chosen in enumerate(itertools.combinations(parts, together)):
            apart = np.ones(len(live), bool)
            for fold in chosen:
                begin, end = at[fold[0]], at[fold].max() + horizon
                apart &= (at + horizon < begin) | (at > end)
                apart[order[at[order] > end][:later]] = False
                apart[fold] = False
                test[i, live[fold]] = True
            train[i, live[apart]] = True
        return checked_masks(name, train, test)

    return masks


def check_shuffle(name: str, repeats: int, shuffle: bool) -> None:
    """Raise ValueError where repeats would all be the same."""
    if repeats > 1 and not shuffle:
        raise ValueError(f"`{name}` with `repeats` {repeats} shuffles: without, every repeat would be the same.")


def live_positions(rows: Batch) -> np.ndarray:
    """The positions of the rows that are there, by id: splits follow from ids, in whatever order rows come."""
    live = np.flatnonzero(np.asarray(rows.weight) > 0)
    return live[np.argsort(np.asarray(rows.row)[live], kind="stable")]


def live_values(rows: Batch, schema: Any, column: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the rows that are there, and their values of a column, of None their ids."""
    live = live_positions(rows)
    found = np.asarray(rows.row) if column is None else column_values(rows, schema, column)[0]
    return live, found[live]


def by_splitter(name: str, splitter: Callable, strata: str | None = None, groups: str | None = None) -> Splits:
    """The splits of a splitter of scikit-learn's kind, made by `splitter(y, groups)`, over the rows that are there."""

    def masks(rows, schema):
        live = live_positions(rows)
        y = None if strata is None else strata_of(live_values(rows, schema, strata)[1])
        of = None if groups is None else live_values(rows, schema, groups)[1]
        return index_masks(name, splitter(y, of), live, len(rows.weight), y, of)

    return Splits(masks)


def strata_of(values: np.ndarray) -> np.ndarray:
    """Classes as they are; of numbers, which tenth of all they are in."""
    return values if np.issubdtype(values.dtype, np.integer) else np.searchsorted(np.quantile(values, TENTHS), values)


def index_masks(
    name: str, splitter: Any, live: np.ndarray, n: int, y: np.ndarray | None = None, groups: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The masks [splits, n] of a splitter's index sets into `live` positions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds is looked at below
        try:
            pairs = list(splitter.split(np.zeros((len(live), 1)), y, groups))
        except ValueError as error:
            raise ValueError(f"`{name}` cannot split these {len(live)} rows: {' '.join(str(error).split())}") from error
    train, test = (np.zeros((len(pairs), n), bool) for _ in range(2))
    for i, (learn, judge) in enumerate(pairs):
        train[i, live[learn]], test[i, live[judge]] = True, True
    return checked_masks(name, train, test)


def checked_masks(name: str, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """The masks, or ValueError where a split has no row on one of its sides."""
    for side, mask in (("train", train), ("test", test)):
        if not mask.any(1).all():
            raise ValueError(f"Split {int(np.argmin(mask.any(1))) + 1} of `{name}` has no row to {side}.")
    return {"train": train, "test": test}
