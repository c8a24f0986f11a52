"""Greedy selection of an ensemble from answers out of fold. Caruana, Niculescu-Mizil, Crew & Ksikes, ICML 2004."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Batch, Metric

ROUNDS, PATIENCE = 50, 5
"""Members that are taken at most, one of them as often as it helps; rounds without a better score after which none is."""


class Answers(NamedTuple):
    """What candidates answered of the rows that test, split by split; rows that fill up a split have weight 0."""

    values: np.ndarray
    """[candidates, splits, rows, ...]"""
    rows: Batch
    """[splits, rows]: targets, weights and what else the metric reads; x is not kept."""


def stack_answers(found: Sequence[Sequence[np.ndarray]], rows: Batch, masks: np.ndarray) -> Answers:
    """The answers of every candidate on every split, [rows that test, ...] each, as one array; masks [splits, n] say which."""
    counts = masks.sum(1)
    at = np.zeros((len(masks), counts.max()), np.int64)
    there = np.arange(counts.max()) < counts[:, None]
    at[there] = np.nonzero(masks)[1]
    values = np.zeros((len(found), *at.shape, *np.shape(found[0][0])[1:]), np.float32)
    for i, splits in enumerate(found):
        for s, answer in enumerate(splits):
            values[i, s, : len(answer)] = answer
    taken = jax.tree.map(lambda leaf: np.asarray(leaf)[at], rows._replace(x=()))
    return Answers(values, taken._replace(weight=taken.weight * there))


def answer_scores(metric: Metric, name: str, answer: str) -> Callable[[np.ndarray, float, np.ndarray, Batch], np.ndarray]:
    """`(total, count, values [candidates, splits, rows, ...], rows) -> [candidates, splits]` of a metric's value `name`.

    Scored is the mean of what was added up so far, `total` of one count less, and each candidate's answer. Of probabilities
    the label is the likeliest.
    """

    def one(mean, rows):
        outputs = {answer: mean}
        if answer == "predict_proba":
            outputs["predict"] = jnp.argmax(mean, -1).astype(jnp.int32)
        return metric.compute(metric.update(metric.empty(), outputs, rows))[name]

    if "host" in metric.exempt:

        def on_host(total, count, values, rows):
            def alone(mean, split):
                there = jax.tree.map(lambda leaf: leaf[split], rows)
                return float(one(mean, jax.tree.map(lambda leaf: leaf[there.weight > 0], there)))

            def living(split):
                return rows.weight[split] > 0

            means = ((total + own) / count for own in values)
            return np.array([[alone(mean[s][living(s)], s) for s in range(len(mean))] for mean in means])

        return on_host

    @jax.jit
    def on_device(total, count, values, rows):
        return jax.lax.map(lambda own: jax.vmap(one)((total + own) / count, rows), values)

    return lambda total, count, values, rows: np.asarray(on_device(total, np.float32(count), values, rows))


def select_ensemble(
    answers: Answers, score: Callable[..., np.ndarray], mode: str, splits: Sequence[int] | None = None, rounds: int = ROUNDS
) -> np.ndarray:
    """How often each candidate is in the ensemble, [candidates]: round by round the best to add joins, the best round is kept.

    A good one that joins again lets others join with less weight, so a round may be no better than the one before.
    `score` is `answer_scores`'; judged is the mean over the splits, all or those that are named. The first of equals joins. A
    candidate whose score is no number never does; ValueError where all are such.
    """
    used = np.arange(answers.values.shape[1]) if splits is None else np.asarray(splits)
    sign = 1.0 if mode == "min" else -1.0
    total, chosen, best, kept = np.zeros_like(answers.values[0]), [], np.inf, 0
    for taken in range(1, rounds + 1):
        scores = sign * score(total, taken, answers.values, answers.rows)[:, used].mean(1)
        scores = np.where(np.isnan(scores), np.inf, scores)
        if not np.isfinite(scores.min()) or taken - kept > PATIENCE:
            break
        chosen.append(int(scores.argmin()))
        total = total + answers.values[chosen[-1]]
        if scores.min() < best:
            best, kept = scores.min(), taken
    if not kept:
        raise ValueError("An ensemble is selected from candidates of which one has a score; got none.")
    return np.bincount(chosen[:kept], minlength=len(answers.values))


def honest_scores(answers: Answers, score: Callable[..., np.ndarray], mode: str, rounds: int = ROUNDS) -> np.ndarray:
    """The ensemble's score on each split [splits], its members selected on the others: its own choice does not flatter it."""
    found, every = [], range(answers.values.shape[1])
    for out in every:
        counts = select_ensemble(answers, score, mode, [split for split in every if split != out], rounds)
        mixed = np.tensordot(counts[counts > 0], answers.values[counts > 0], 1).astype(np.float32)
        found.append(score(np.zeros_like(mixed), float(counts.sum()), mixed[None], answers.rows)[0, out])
    return np.array(found)


def pays(scores: np.ndarray, others: np.ndarray, mode: str, ratio: float) -> bool:
    """Whether scores are better than others on the same splits [splits] by more than the standard error of the difference.

    The standard error is that of `resampled_t`: splits share rows. `ratio` is rows tested on over rows trained on.
    """
    gain = (others - scores) if mode == "min" else (scores - others)
    error = np.sqrt((1 / len(gain) + ratio) * gain.var(ddof=1)) if len(gain) > 1 else np.inf
    return bool(gain.mean() > error)


def members(names: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    """The weights of those that were selected, by name, the heaviest first."""
    shares = zip(names, (counts / counts.sum()).tolist(), strict=True)
    return dict(sorted(((name, share) for name, share in shares if share), key=lambda pair: -pair[1]))
