"""Supervised learning: a model, a loss and an optimizer make a learner."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.combine.accumulate import learner
from arsenal.losses.plain import as_loss
from arsenal.nn.linen import as_model
from arsenal.numerics.weighted import over_rows
from arsenal.numerics.wide import as_types, wide
from arsenal.records import Additive, Augmentation, Learner, Loss, Mean, Model, Optimizer, Training
from arsenal.training.precision import Float, Precision, Scale, all_finite, first_scale, policy, precise, rescaled


class Supervised(NamedTuple):
    """What it holds: parameters and collections, and the optimizer's state."""

    variables: dict
    optimizer: Any


class Scaled(NamedTuple):
    """The same in float16, with the scale of the loss."""

    variables: dict
    optimizer: Any
    scale: Scale


class Sums(NamedTuple):
    """What a batch contributes: everything here adds."""

    gradient: Any
    collections: Any
    weight: Any
    metrics: dict


def supervised(
    model: Any,
    loss: Any,
    optimizer: Optimizer,
    parts: Annotated[int, Gt(0)] = 1,
    precision: Float | Mapping[str, Float] = "float32",
    augmentation: Augmentation | None = None,
) -> Learner:
    """Lower the weighted mean of `loss` over `model`'s outputs, `parts` pieces of the batch at a time.

    `model` is a `Model` or a Flax linen module, `loss` a `Loss` or a function `(outputs, y) -> [n]`. `precision` is what
    the model computes in, or a dict of `parameters`, `compute` and `output`; in float16 the loss is scaled, and a step
    whose gradient overflows leaves everything but the scale as it was. `augmentation` changes the batches of training.
    The answers are the loss's readouts and those methods of the model that have inputs; the metrics are `loss`, the
    loss's measures and, in float16, `loss_scale`.
    """
    return learner(additive(as_model(model), as_loss(loss), optimizer, policy(precision), augmentation), parts)


def additive(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    precision: Precision = Precision(),  # noqa: B008
    augmentation: Augmentation | None = None,
) -> Additive:
    """The same, one level lower: gradients, collections (by weight) and metrics as sums over rows."""
    model = precise(model, precision)

    def init(key, batch, hp):
        variables = model.init(key, batch.x)
        begun = optimizer.init(variables["params"], hp["optimizer"])
        return Scaled(variables, begun, first_scale()) if precision.scaled else Supervised(variables, begun)

    def metrics(outputs, values, batch):
        count = batch.weight.sum()
        means = {"loss": values} | {name: f(outputs, batch) for name, f in loss.measures.items()}
        return {name: Mean(jnp.vdot(each, batch.weight), count) for name, each in wide(means).items()}

    def measure(key, state, batch, hp):
        if augmentation:
            batch = augmentation.apply(jax.random.fold_in(key, 1), batch, hp["augmentation"])
        training = Training(key, batch.weight, batch.row, hp["model"])

        def total(params):
            outputs, collections = model.apply(state.variables | {"params": params}, batch.x, training)
            values = wide(loss.value(outputs, batch, hp["loss"]))
            return jnp.vdot(values, batch.weight) * factor, (outputs, values, collections)

        count = batch.weight.sum()
        # Of float16 the mean is taken, which has the right size for the scale, and its gradient made the sum's again.
        factor = 1
        if precision.scaled:
            factor = state.scale.value / jnp.maximum(over_rows(count), jnp.finfo(count.dtype).tiny)
        gradient, (outputs, values, collections) = jax.grad(total, has_aux=True)(state.variables["params"])
        collections = jax.tree.map(lambda v: v * count.astype(v.dtype), wide(collections))
        gradient = wide(gradient)
        if precision.scaled:
            gradient = jax.tree.map(lambda g: g / factor, gradient)
        return Sums(gradient, collections, count, metrics(outputs, values, batch))

    def update(key, state, sums, hp):
        # A batch of dead rows only has gradient 0: dividing by any positive number leaves it there.
        count = jnp.maximum(sums.weight, jnp.finfo(sums.weight.dtype).tiny)
        before = state.variables["params"]
        gradient = jax.tree.map(lambda g, p: (g / count).astype(p.dtype), sums.gradient, before)
        value = sums.metrics["loss"].total / count
        moved, params = optimizer.update(state.optimizer, before, gradient, hp["optimizer"], value)
        collections = jax.tree.map(lambda v: v / count.astype(v.dtype), sums.collections)
        collections = as_types(collections, {name: state.variables[name] for name in collections})
        after = state._replace(variables=state.variables | collections | {"params": params}, optimizer=moved)
        if not precision.scaled:
            return after, sums.metrics
        finite = all_finite(gradient)
        kept = finite | (state.scale.value <= 1)  # there it is no matter of scale: let it be seen
        after = jax.tree.map(lambda new, old: jnp.where(kept, new, old), after, state)
        scale = {"loss_scale": Mean(state.scale.value, jnp.ones(()))}
        return after._replace(scale=rescaled(state.scale, finite)), sums.metrics | scale

    def evaluate(key, variables, batch, hp):
        outputs, _ = model.apply(variables, batch.x)
        return metrics(outputs, loss.value(outputs, batch, hp["loss"]), batch)

    def answer(readout):
        return lambda variables, inputs: readout(model.apply(variables, inputs)[0])

    def adopt(state, variables, hp):
        return state._replace(variables=variables, optimizer=optimizer.init(variables["params"], hp["optimizer"]))

    def check(rows):
        if augmentation:
            hp = jax.tree.map(jnp.asarray, augmentation.hp)
            jax.eval_shape(lambda rows: augmentation.apply(jax.random.key(0), rows, hp), rows)
        outputs = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x)[0], rows.x)
        loss.check(outputs, rows)

    methods = {name: model.methods[name] for name in model.inputs}
    hp, flops = {"model": model.hp, "loss": loss.hp, "optimizer": optimizer.hp}, model.flops
    return Additive(
        init, measure, update,
        params=lambda state: state.variables,
        apply={name: answer(readout) for name, readout in loss.readout.items()} | methods,
        evaluate=evaluate,
        modes={"loss": "min"} | loss.modes,
        inputs=model.inputs,
        check=check,
        adopt=adopt,
        flops=flops and (lambda state, batch: flops(state.variables, batch.x)),
        hp=hp | ({"augmentation": augmentation.hp} if augmentation else {}),
        exempt=model.exempt | loss.exempt | (augmentation.exempt if augmentation else {}),
    )  # fmt: skip
