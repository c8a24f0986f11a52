"""Models of two answers to one question, of which the first is preferred: how likely each is, or how it scores."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arsenal.models.aside import ASIDE, begin_again, without_aside
from arsenal.nn.linen import as_model
from arsenal.numerics.wide import widen
from arsenal.records import Batch, Model, Training

SIDES = ("chosen", "rejected")


def answer_likelihoods(model: Any) -> Model:
    """Log-likelihoods [n] of two answers, `chosen` and `rejected`, and of both by the model as it was at first,
    `reference_chosen` and `reference_rejected`; `tokens` [n, 2] are how many each has. `losses.dpo` reads them.

    Inputs are {"chosen", "rejected"} tokens [n, t], question and answer, and {"begin", "end"} [n, 2], from where to where the
    answer is, see `data.preferences`. `model` gives logits of the next token, as `transformer` does, and is asked once for both.
    The reference is a copy of what learns, in a collection of its own: of `lora` around a model that are the adapters alone, all
    else is shared; of any other model all of it, kept a second time. Methods are those of the model.
    """
    model = as_model(model)

    def init(key, inputs):
        return begin_again(model.init(key, inputs["chosen"]), {"reference": None})

    def read(variables, inputs, training):
        tokens = side_by_side(inputs)
        logits, changed = model.apply(variables, tokens, twice(training))
        at, (begin, end) = jnp.arange(1, tokens.shape[1]), (inputs[name].reshape(-1, 1) for name in ("begin", "end"))
        each = log_likelihoods(widen(logits)[:, :-1], tokens[:, 1:], (at >= begin) & (at < end))
        return each.reshape(-1, 2).T, changed

    def apply(variables, inputs, training=None):
        now, changed = read(without_aside(variables), inputs, training)
        first = without_aside(variables) | {"params": variables[ASIDE]["reference"]}
        before, _ = read(first, inputs, None)
        names = (*SIDES, *(f"reference_{side}" for side in SIDES))
        count = jnp.maximum(inputs["end"] - inputs["begin"], 0).astype(now.dtype)
        return dict(zip(names, [*now, *before], strict=True)) | {"tokens": count}, changed

    count = model.flops
    # A step asks three times as much as an answer: 6 + 2 of 6, of two texts.
    flops = count and (lambda variables, inputs: count(without_aside(variables), inputs["chosen"]) * 8 / 3)
    inputs = {"generate": questions} if "generate" in model.inputs else {}
    return model._replace(init=init, apply=apply, methods=own_methods(model), inputs=inputs, flops=flops)


def answer_scores(model: Any) -> Model:
    """Scores [n] of two answers, `chosen` and `rejected`. `losses.bradley_terry` reads them.

    Inputs as those of `answer_likelihoods`. `model` gives one number to each text {"tokens" [n, t], "length" [n]}, as
    `transformer` does with `head=sequence` and `output=1`. The method `score` gives the numbers [n] of such texts.
    """
    model = as_model(model)

    def texts(inputs):
        return {"tokens": side_by_side(inputs), "length": inputs["end"].reshape(-1)}

    def apply(variables, inputs, training=None):
        scores, changed = model.apply(variables, texts(inputs), twice(training))
        scores = scores.reshape(-1, 2)
        return {side: scores[:, at] for at, side in enumerate(SIDES)}, changed

    def score(variables, inputs):
        return model.apply(variables, inputs)[0].reshape(-1)

    def preferred(rows: Batch):
        return {"tokens": rows.x["chosen"], "length": rows.x["end"][:, 0]}

    count = model.flops
    return model._replace(
        init=lambda key, inputs: model.init(key, texts(inputs)),
        apply=apply,
        methods=model.methods | {"score": score},
        inputs={"score": preferred},
        flops=count and (lambda variables, inputs: 2 * count(variables, inputs["chosen"])),
    )


def log_likelihoods(logits: jax.Array, tokens: jax.Array, counted: jax.Array) -> jax.Array:
    """The log-likelihood [n] of those tokens [n, t] that are `counted` [n, t], by the logits [n, t, vocabulary] before each.

    >>> float(log_likelihoods(jnp.zeros((1, 3, 4)), jnp.zeros((1, 3), int), jnp.array([[False, True, True]]))[0] / jnp.log(4.0))
    -2.0
    """
    each = jnp.take_along_axis(logits, tokens.astype(jnp.int32)[..., None], -1)[..., 0] - jax.nn.logsumexp(logits, -1)
    return jnp.where(counted, each, 0).sum(-1)


def side_by_side(inputs: Mapping[str, Any]) -> jax.Array:
    """Both texts of each row, [2 n, t]: a row's own stand beside each other, so rows on many devices stay where they are."""
    tokens = jnp.stack([inputs[side] for side in SIDES], 1)
    return tokens.reshape(-1, tokens.shape[2])


def twice(training: Training | None) -> Training | None:
    """What a model is told of training, for two texts of each row; both draw the same noise."""
    if training is None:
        return None
    return training._replace(weight=jnp.repeat(training.weight, 2), row=jnp.repeat(training.row, 2))


def questions(rows: Batch) -> dict[str, jax.Array]:
    """The inputs of `generate` that a batch stands for: the questions, which draw by their ids."""
    tokens, length = rows.x["chosen"], rows.x["begin"][:, 0]
    half = max(1, tokens.shape[1] // 2)
    length = jnp.clip(length, 1, half)
    kept = jnp.where(jnp.arange(half) < length[:, None], tokens[:, :half], 0)
    return {"tokens": kept, "length": length, "seed": rows.row.astype(jnp.uint32), "temperature": jnp.ones(len(length))}


def own_methods(model: Model) -> dict[str, Any]:
    """The model's methods, which know nothing of what lies aside."""
    return {
        name: (lambda variables, inputs, f=f, **more: f(without_aside(variables), inputs, **more))
        for name, f in model.methods.items()
    }
