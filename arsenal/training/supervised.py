"""Supervised learning: a model, a loss and an optimizer make a learner."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.combine.accumulate import learner
from arsenal.losses.plain import as_loss
from arsenal.nn.linen import as_model
from arsenal.records import Additive, Learner, Loss, Mean, Model, Optimizer, Training


class Supervised(NamedTuple):
    """What it holds: parameters and collections, and the optimizer's state."""

    variables: dict
    optimizer: Any


class Sums(NamedTuple):
    """What a batch contributes: everything here adds."""

    gradient: Any
    collections: Any
    weight: Any
    metrics: dict


def supervised(model: Any, loss: Any, optimizer: Optimizer, parts: Annotated[int, Gt(0)] = 1) -> Learner:
    """Lower the weighted mean of `loss` over `model`'s outputs, `parts` pieces of the batch at a time.

    `model` is a `Model` or a Flax linen module, `loss` a `Loss` or a function `(outputs, y) -> [n]`. The answers
    are the loss's readouts; the metrics are `loss` and the loss's measures.
    """
    return learner(additive(as_model(model), as_loss(loss), optimizer), parts)


def additive(model: Model, loss: Loss, optimizer: Optimizer) -> Additive:
    """The same, one level lower: gradients, collections (by weight) and metrics as sums over rows."""

    def init(key, batch, hp):
        variables = model.init(key, batch.x)
        return Supervised(variables, optimizer.init(variables["params"], hp["optimizer"]))

    def metrics(outputs, values, batch):
        count = batch.weight.sum()
        means = {"loss": Mean(jnp.vdot(values, batch.weight), count)}
        return means | {name: Mean(jnp.vdot(f(outputs, batch), batch.weight), count) for name, f in loss.measures.items()}

    def measure(key, state, batch, hp):
        training = Training(key, batch.weight, batch.row, hp["model"])

        def total(params):
            outputs, collections = model.apply(state.variables | {"params": params}, batch.x, training)
            values = loss.value(outputs, batch, hp["loss"])
            return jnp.vdot(values, batch.weight), (outputs, values, collections)

        gradient, (outputs, values, collections) = jax.grad(total, has_aux=True)(state.variables["params"])
        count = batch.weight.sum()
        return Sums(gradient, jax.tree.map(lambda v: v * count, collections), count, metrics(outputs, values, batch))

    def update(key, state, sums, hp):
        # A batch of dead rows only has gradient 0: dividing by any positive number leaves it there.
        count = jnp.maximum(sums.weight, jnp.finfo(sums.weight.dtype).tiny)
        gradient = jax.tree.map(lambda g: g / count, sums.gradient)
        value = sums.metrics["loss"].total / count
        moved, params = optimizer.update(state.optimizer, state.variables["params"], gradient, hp["optimizer"], value)
        collections = jax.tree.map(lambda v: v / count, sums.collections)
        return Supervised(state.variables | collections | {"params": params}, moved), sums.metrics

    def evaluate(key, variables, batch):
        outputs, _ = model.apply(variables, batch.x)
        hp = jax.tree.map(jnp.asarray, loss.hp)
        return metrics(outputs, loss.value(outputs, batch, hp), batch)

    def answer(readout):
        return lambda variables, inputs: readout(model.apply(variables, inputs)[0])

    def check(rows):
        outputs = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x)[0], rows.x)
        loss.check(outputs, rows)

    return Additive(
        init, measure, update,
        params=lambda state: state.variables,
        apply={name: answer(readout) for name, readout in loss.readout.items()},
        evaluate=evaluate,
        check=check,
        hp={"model": model.hp, "loss": loss.hp, "optimizer": optimizer.hp},
        exempt=model.exempt | loss.exempt,
    )  # fmt: skip
