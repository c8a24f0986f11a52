"""Greedy selection of an ensemble from answers out of fold. Caruana, Niculescu-Mizil, Crew & Ksikes, ICML 2004."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Batch, Metric

ROUNDS = 50
"""Members that are taken at most, one of them as often as it helps."""


class Answers(NamedTuple):
    """What candidates answered of the rows that test, split by split; rows that fill up a split have weight 0."""

    values: np.ndarray
    """[candidates, splits, rows, ...]"""
    rows: Batch
    """[splits, rows]: targets, weights and what else the metric reads; x is not kept."""


def stack_answers(found: Sequence[Sequence[np.ndarray]], rows: Batch, masks: np.ndarray) -> Answers:
    """The answers of every candidate on every split, [rows that test, ...] each, as one array; masks [splits, n] say which rows."""
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
    """How often each candidate is in the ensemble, [candidates]: the one that helps most joins, until none does.

    `score` is `answer_scores`'; judged is the mean over the splits, all or those that are named. The first of equals joins. A
    candidate whose score is no number never does; ValueError where all are such.
    """
    used = np.arange(answers.values.shape[1]) if splits is None else np.asarray(splits)
    sign = 1.0 if mode == "min" else -1.0
    total, counts, best = np.zeros_like(answers.values[0]), np.zeros(len(answers.values), int), np.inf
    for taken in range(1, rounds + 1):
        scores = sign * score(total, taken, answers.values, answers.rows)[:, used].mean(1)
        scores = np.where(np.isnan(scores), np.inf, scores)
        if not scores.min() < best:
            break
        chosen = int(scores.argmin())
        best, total = scores[chosen], total + answers.values[chosen]
        counts[chosen] += 1
    if not counts.any():
        raise ValueError("An ensemble is selected from candidates of which one has a score; got none.")
    return counts


def honest_scores(answers: Answers, score: Callable[..., np.ndarray], mode: str, rounds: int = ROUNDS) -> np.ndarray:
    """The ensemble's score on each split [splits], its members selected on the others: its own choice does not flatter it."""
    found, every = [], range(answers.values.shape[1])
    for out in every:
        counts = select_ensemble(answers, score, mode, [split for split in every if split != out], rounds)
        mixed = np.tensordot(counts, answers.values, 1)
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
    shares: dict[str, Any] = {name: float(count) / float(counts.sum()) for name, count in zip(names, counts, strict=True) if count}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))
