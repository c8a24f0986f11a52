"""What leaks is told, and honest data is left in peace."""

import numpy as np
import pytest

from arsenal import data
from arsenal.evaluation.leakage import find_leaks
from arsenal.records import Batch

N = 400
DRAW = np.random.default_rng(0)


def splits_of(x, y, aux=()):
    rows = Batch(x, y, np.ones(len(y), np.float32), np.arange(len(y), dtype=np.int32), aux)
    masks = data.by_row().masks(rows, data.Schema())
    take = {name: Batch(*(None if leaf is None else _take(leaf, mask) for leaf in rows)) for name, mask in masks.items()}
    return take


def _take(leaf, mask):
    return {name: value[mask] for name, value in leaf.items()} if isinstance(leaf, dict) else leaf[mask] if len(leaf) else leaf


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_honest_data_is_left_in_peace(name):
    made = getattr(data, name)()
    masks = data.by_row().masks(made.rows, made.schema)
    splits = {side: made.rows._replace(**{part: _take(getattr(made.rows, part), mask) for part in ("x", "y", "weight", "row")})
              for side, mask in masks.items()}  # fmt: skip
    assert [leak for leak in find_leaks(splits) if leak.kind != "duplicates"] == []


@pytest.mark.parametrize("labels", [True, False])
def test_a_column_that_is_the_target_is_named(labels):
    y = DRAW.integers(0, 3, N).astype(np.int32) if labels else DRAW.normal(size=N).astype(np.float32)
    x = {"good": DRAW.normal(size=(N, 2)).astype(np.float32), "after": (100.0 - 3 * y).astype(np.float32)}
    [leak] = find_leaks(splits_of(x, y))
    assert (leak.kind, leak.where) == ("target", "after") and "alone tells" in leak.text


def test_an_identifier_is_no_evidence():
    y = DRAW.integers(0, 2, N).astype(np.int32)
    assert find_leaks(splits_of({"id": np.arange(N, dtype=np.int32)}, y)) == []


def test_rows_that_are_on_both_sides_are_counted():
    x = DRAW.normal(size=(N // 2, 3)).astype(np.float32)
    splits = splits_of(np.concatenate([x, x]), DRAW.normal(size=N).astype(np.float32))
    texts = [leak.text for leak in find_leaks(splits) if leak.kind == "duplicates"]
    assert len(texts) == 2 and all(" rows have the inputs of a training row" in text for text in texts)


def test_training_rows_that_are_later_than_the_test_are_counted():
    at = np.arange(N, dtype=np.float32)
    made = splits_of(DRAW.normal(size=(N, 2)).astype(np.float32), DRAW.normal(size=N).astype(np.float32), {"when": at})
    [leak] = find_leaks(made, time="when")
    later = int((made["train"].aux["when"] > made["test"].aux["when"].min()).sum())
    assert leak.kind == "time" and leak.text.startswith(f"{later:,} of {len(made['train'].weight):,} training rows are later")
    with pytest.raises(ValueError, match="`time` names no column; there are when, x.1., x.2.; got then"):
        find_leaks(made, time="then")
