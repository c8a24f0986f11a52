"""Every law fails a record that breaks it: each of these is wrong in one way."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from rows import PARAMS, ROWS

from arsenal import optim, search
from arsenal.data import codec
from arsenal.features import scale
from arsenal.features.arrays import formula
from arsenal.records import (
    CONTINUE,
    STOP,
    Additive,
    Codec,
    Converged,
    Estimator,
    Loss,
    Mean,
    Metric,
    Model,
    Scheduler,
    Search,
    Transform,
)
from arsenal.testing import check

SPACE = search.space({"rate": {"log": [1e-4, 1.0]}})
NOISY = {"in expectation": "rows draw noise by their place"}


def centred() -> Model:
    """Outputs less their mean over the batch."""
    return Model(lambda key, x: {"params": {}}, lambda variables, x, training=None: (x - x.mean(0), {}))


def counting_rows() -> Transform:
    """The mean over rows that are there or not."""
    return Transform(lambda key, rows, hp: (rows.x.mean(0), rows), lambda state, x: x - state)


def noisy_mean(biased: bool) -> Estimator:
    """The mean with noise by place, which no weight moves; or of rows that are there or not."""

    def fit(key, rows, hp):
        weight = jnp.ones_like(rows.weight) if biased else rows.weight
        noise = jax.random.normal(key, rows.weight.shape)
        return (weight @ (rows.y + noise)) / weight.sum(), Converged(jnp.array(True), jnp.array(1))

    return Estimator(fit, {"predict": lambda mean, x: jnp.broadcast_to(mean, x.shape[:1])}, exempt=NOISY)


def closed_over() -> Additive:
    """A learning rate that `hp` names and the update does not look at."""
    additive = worlds.mean_by_gradient()

    def update(key, state, sums, hp):
        return state - 0.1 * sums["gradient"] / sums["weight"], {"weight": Mean(sums["weight"], jnp.ones(()))}

    return additive._replace(update=update)


def forgetful() -> Search:
    """Candidates that depend on how often anybody asked."""
    turn, sound = itertools.count(), search.random(SPACE)
    return sound._replace(
        ask=lambda key, state, n: (sound.ask(key, state, n)[0], {"rate": np.full(n, next(turn))}, sound.ask(key, state, n)[2])
    )


def by_heart() -> Search:
    """A state that no file of arrays holds."""
    sound = search.random(SPACE)
    return sound._replace(
        init=lambda key: {"state": sound.init(key), "more": {"a": object()}},
        ask=lambda key, state, n: sound.ask(key, state["state"], n),
    )


def confusing() -> Codec:
    """What is unknown gets the first code."""
    sound = codec.category()
    return sound._replace(
        encode=lambda state, values: np.where((codes := sound.encode(state, values)) == len(state["values"]), 0, codes).astype(
            np.int32
        )
    )


BROKEN = {
    "rows that see each other": (centred(), ROWS, "Rows are strangers"),
    "rows counted by shape": (counting_rows(), ROWS, "equals eager without them"),
    "names that are too few": (scale(2.0)._replace(names=lambda names: {"x": names["x"][1:]}), ROWS, "has a name"),
    "columns of one name": (scale(2.0)._replace(names=lambda names: {"x": ["a"] * len(names["x"])}), ROWS, "have one name"),
    "rows that are counted while traced": (formula(lambda state, x: x.reshape(len(x), -1)), ROWS, "any number of rows"),
    "a biased estimate": (noisy_mean(biased=True), ROWS, "on average"),
    "a float closed over": (closed_over(), ROWS, "Every float of `hp` is read"),
    "a loss that knows its batch": (Loss(lambda outputs, rows, hp: jnp.abs(outputs[:, 0] - rows.y) / rows.weight.sum()), ROWS, "weight"),
    "a loss that knows its weight": (Loss(lambda outputs, rows, hp: rows.weight * jnp.abs(outputs[:, 0] - rows.y)), ROWS, "does not know its weight"),
    "a loss of one number": (Loss(lambda outputs, rows, hp: jnp.abs(outputs[:, :1] - rows.y[:, None])), ROWS, "one value for every row"),
    "a coupled loss that sees dead rows": (
        Loss(lambda outputs, rows, hp: outputs[:, 0] - outputs.mean(), exempt={"batch-coupled": "a mean over the batch"}), ROWS, "equals eager without them",
    ),
    "an optimizer uphill": (optim.sgd(0.01)._replace(update=lambda s, p, g, hp, v: (s, jax.tree.map(lambda a, b: a + (hp["learning_rate"] + hp["momentum"]) * b, p, g))), PARAMS, "Downhill"),
    "a search that counts asks": (forgetful(), None, "Asking is a function"),
    "everybody goes on": (Scheduler(lambda: (), lambda state, number, step, value: (state, CONTINUE)), None, "never has a finite value"),
    "nobody goes on": (Scheduler(lambda: (), lambda state, number, step, value: (state, STOP)), None, "best at every step goes on"),
    "clones unasked": (Scheduler(lambda: (), lambda state, number, step, value: (state, 0 if number else CONTINUE)), None, "unless `clones`"),
    "unknown is known": (confusing(), ["b", "a", "ç"], "code of its own"),
    "a mean of means": (
        Metric(lambda: jnp.zeros(2), lambda acc, outputs, rows: acc + jnp.stack([outputs["predict"].mean(), 1.0]), lambda a, b: a + b, lambda acc: {"mean": acc[0] / acc[1]}),
        ({"predict": ROWS.y}, ROWS), "whole",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_record_that_breaks_a_law_is_told(name):
    record, rows, law = BROKEN[name]
    with pytest.raises(AssertionError, match=law):
        check(record, rows)


def test_noise_that_is_right_on_average_passes():
    check(noisy_mean(biased=False), ROWS)


def test_a_search_that_no_file_holds_is_told():
    with pytest.raises((ValueError, TypeError)):
        check(by_heart())
