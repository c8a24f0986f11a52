"""The mistakes worth looking at, counted by hand."""

import numpy as np

from arsenal.evaluation.mistakes import worst_mistakes

COLUMNS = {"size": np.array([1.0, 2.0, 3.0, 4.0]), "kind": np.array(["a", "b", "c", "d"])}
ROW = np.array([10, 11, 12, 13])


def test_the_surest_wrong_answers_come_first():
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])
    said = {"predict": proba.argmax(1).astype(np.int32), "predict_proba": proba}
    found = worst_mistakes(np.array([1, 1, 0, 0]), ROW, np.array([1, 1, 1, 1]), said, COLUMNS, ["no", "yes"], ["kind"])
    assert [(one.row, one.truth, one.said, one.size) for one in found] == [(13, "no", "yes", 0.95), (10, "yes", "no", 0.9), (12, "no", "yes", 0.6)]
    assert list(found[0].columns.items()) == [("kind", "d"), ("size", 4.0)]
    assert [one.row for one in worst_mistakes(np.array([1, 1, 0, 0]), ROW, np.array([1, 1, 1, 0]), said, COLUMNS, ["no", "yes"], most=1)] == [10]


def test_the_largest_errors_come_first_and_exact_answers_are_none():
    said = {"predict": np.array([1.0, 5.0, np.nan, 4.0])}
    found = worst_mistakes(np.array([1.5, 2.0, 1.0, 4.0]), ROW, np.ones(4), said, COLUMNS)
    assert [(one.row, one.size) for one in found] == [(11, 3.0), (10, 0.5)]
    assert worst_mistakes(np.zeros((4, 2)), ROW, np.ones(4), said, COLUMNS) == []
