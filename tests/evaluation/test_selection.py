"""An ensemble is the one that a search by hand finds, its score is honest, and it wins only by more than the noise."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import log_loss as peer_log_loss

from arsenal.evaluation.selection import answer_scores, honest_scores, members, pays, select_ensemble, stack_answers
from arsenal.metrics import log_loss, roc_auc, root_mean_squared_error
from arsenal.records import Batch

SPLITS, ROWS, MOST = 3, 25, 6


def worlds(classes=2, candidates=4, seed=0):
    """Answers of candidates that see the labels through noise, of splits of 8, 8 and 9 rows."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, ROWS).astype(np.int32)
    masks = np.arange(ROWS) * SPLITS // ROWS == np.arange(SPLITS)[:, None]
    logits = draw.normal(size=(candidates, ROWS, classes)) + 1.5 * np.eye(classes)[y]
    proba = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
    rows = Batch((), y, np.ones(ROWS, np.float32), np.arange(ROWS, dtype=np.int32))
    return stack_answers([[one[mask] for mask in masks] for one in proba], rows, masks), proba, y, masks


def by_hand(proba, y, masks, score, splits):
    """Caruana's loop over whole arrays, written out."""
    chosen, best = [], []
    while len(chosen) < MOST:
        tried = []
        for i in range(len(proba)):
            mean = proba[[*chosen, i]].astype(np.float64).mean(0)
            tried.append(np.mean([score(y[masks[s]], mean[masks[s]]) for s in splits]))
        best.append(min(tried))
        chosen.append(int(np.argmin(tried)))
    return np.bincount(chosen[: int(np.argmin(best)) + 1], minlength=len(proba))


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (2, 1), (3, 1), (3, 3)])
def test_the_ensemble_is_that_of_a_loop_by_hand(classes, seed):
    answers, proba, y, masks = worlds(classes, seed=seed)
    score = answer_scores(log_loss(), "log_loss", "predict_proba")

    def peer(y, p):
        return peer_log_loss(y, p / p.sum(1, keepdims=True), labels=range(classes))

    for splits in (range(SPLITS), [0, 2]):
        counts = select_ensemble(answers, score, "min", list(splits), rounds=MOST)
        np.testing.assert_array_equal(counts, by_hand(proba, y, masks, peer, splits))


def test_no_ensemble_of_as_many_members_is_better_than_the_greedy_one_by_much():
    answers, proba, y, masks = worlds(candidates=3)
    score = answer_scores(log_loss(), "log_loss", "predict_proba")
    counts = select_ensemble(answers, score, "min", rounds=4)

    def value(chosen):
        mean = proba[list(chosen)].astype(np.float64).mean(0)
        mean /= mean.sum(1, keepdims=True)
        return np.mean([peer_log_loss(y[mask], mean[mask], labels=[0, 1]) for mask in masks])

    every = {chosen: value(chosen) for size in (1, 2, 3, 4) for chosen in itertools.combinations_with_replacement(range(3), size)}
    found = value(np.repeat(np.arange(3), counts))
    assert found <= min(every[(i,)] for i in range(3)) and found <= min(every.values()) * 1.02


def test_a_metric_on_the_host_and_one_of_numbers_select_too():
    answers, _, _, _ = worlds(seed=3)
    assert select_ensemble(answers, answer_scores(roc_auc(), "roc_auc", "predict_proba"), "max").sum() >= 1
    draw = np.random.default_rng(1)
    y = draw.normal(size=ROWS).astype(np.float32)
    masks = np.arange(ROWS) % SPLITS == np.arange(SPLITS)[:, None]
    values = np.stack([y + 1, y - 1, np.full(ROWS, np.nan, np.float32)]).astype(np.float32)
    rows = Batch((), y, np.ones(ROWS, np.float32), np.arange(ROWS, dtype=np.int32))
    answers = stack_answers([[one[mask] for mask in masks] for one in values], rows, masks)
    score = answer_scores(root_mean_squared_error(), "root_mean_squared_error", "predict")
    counts = select_ensemble(answers, score, "min")
    assert members(["above", "below", "none"], counts) == {"above": 0.5, "below": 0.5}, "Two errors that cancel."
    np.testing.assert_allclose(honest_scores(answers, score, "min"), 0, atol=1e-6)


def test_an_ensemble_is_scored_on_folds_that_did_not_choose_it():
    y, masks = np.zeros(8, np.float32), np.arange(8) // 4 == np.arange(2)[:, None]
    rows = Batch((), y, np.ones(8, np.float32), np.arange(8, dtype=np.int32))
    first, second = np.repeat([0.0, 3.0], 4), np.repeat([2.0, 0.0], 4)  # each right on one fold, and far off on the other
    answers = stack_answers([[one[mask] for mask in masks] for one in (first, second)], rows, masks)
    score = answer_scores(root_mean_squared_error(), "root_mean_squared_error", "predict")
    # The second fold chooses the second, which is 2 off on the first fold; the first fold the first, 3 off on the second.
    np.testing.assert_allclose(honest_scores(answers, score, "min"), [2.0, 3.0])


def test_an_ensemble_pays_only_beyond_the_noise():
    single = np.array([0.40, 0.44, 0.37, 0.42, 0.41])
    assert pays(single - np.array([0.02, 0.03, 0.02, 0.03, 0.02]), single, "min", 0.25)
    assert not pays(single - np.array([0.05, -0.05, 0.05, -0.04, 0.01]), single, "min", 0.25), "Better on average, within the noise."
    assert not pays(single, single, "max", 0.25) and not pays(single[:1], single[:1] + 1, "min", 0.25), "One split shows no noise."
