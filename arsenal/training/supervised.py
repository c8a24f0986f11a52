"""Supervised learning: a model, a loss and an optimizer make a learner."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from flax.traverse_util import flatten_dict

from arsenal.combine.accumulate import learner
from arsenal.losses.plain import as_loss
from arsenal.nn.linen import LOSSES, as_model
from arsenal.numerics.weighted import over_rows
from arsenal.numerics.wide import as_types, widen
from arsenal.optim.gradient import as_optimizer
from arsenal.records import Additive, Augmentation, Learner, Loss, Mean, Model, Optimizer, Training, hyperparameters
from arsenal.training.precision import Float, Precision, Scale, all_finite, cast_model, first_scale, policy, rescale


class Supervised(NamedTuple):
    """What it holds: parameters and collections, and the optimizer's state."""

    variables: dict
    optimizer: Any


class ScaledState(NamedTuple):
    """The same in float16, with the scale of the loss."""

    variables: dict
    optimizer: Any
    scale: Scale


class Sums(NamedTuple):
    """What a batch contributes: everything here adds."""

    gradient: Any
    collections: Any
    weight: Any
    """Of the values that the loss is the mean of."""
    rows: Any
    """The weight of the rows."""
    metrics: dict
    added: Any
    """What the model adds to the loss, times the weight."""


def supervised(
    model: Any,
    loss: Any,
    optimizer: Any,
    parts: Annotated[int, Gt(0)] = 1,
    precision: Float | Mapping[str, Float] = "float32",
    augmentation: Augmentation | None = None,
) -> Learner:
    """Lower the weighted mean of `loss` over `model`'s outputs, `parts` pieces of the batch at a time.

    `model` is a `Model` or a Flax linen module, `loss` a `Loss` or a function `(outputs, y) -> [n]`,
    `optimizer` an `Optimizer` or one of Optax's. `precision` is what
    the model computes in, or a dict of `parameters`, `compute` and `output`; in float16 the loss is scaled, and a step
    whose gradient overflows leaves everything but the scale as it was. `augmentation` changes the batches of training.
    The answers are the loss's readouts and those methods of the model that have inputs; the metrics are `loss`, the
    loss's measures, what the model adds to the loss in training, by name, and, in float16, `loss_scale`.
    """
    return learner(additive(as_model(model), as_loss(loss), as_optimizer(optimizer), policy(precision), augmentation), parts)


def additive(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    precision: Precision = Precision(),  # noqa: B008
    augmentation: Augmentation | None = None,
) -> Additive:
    """The same, one level lower: gradients, collections (by weight) and metrics as sums over rows."""
    model = cast_model(model, precision)

    def init(key, batch, hp):
        variables = model.init(key, batch.x)
        begun = optimizer.init(variables["params"], hp["optimizer"])
        return ScaledState(variables, begun, first_scale()) if precision.scales_loss else Supervised(variables, begun)

    def row_weight(batch):
        """How much a row's value counts, [n]."""
        return batch.weight if loss.counts is None else batch.weight * loss.counts(batch).astype(batch.weight.dtype)

    def metrics(outputs, values, batch):
        weight = row_weight(batch)
        count = weight.sum()
        means = {"loss": values} | {name: f(outputs, batch) for name, f in loss.measures.items()}
        return {name: Mean(jnp.vdot(each, weight), count) for name, each in widen(means).items()}

    def measure(key, state, batch, hp):
        if augmentation:
            batch = augmentation.apply(jax.random.fold_in(key, 1), batch, hp["augmentation"])
        training = Training(key, batch.weight, batch.row, hp["model"])

        def total(params):
            outputs, collections = model.apply(state.variables | {"params": params}, batch.x, training)
            values = widen(loss.value(outputs, batch, hp["loss"]))
            changed = {name: tree for name, tree in collections.items() if name != LOSSES}
            added = {"_".join(path): widen(each) for path, each in flatten_dict(collections.get(LOSSES, {})).items()}
            whole = jnp.vdot(values, weight) + sum(added.values()) * count
            return whole * factor, (outputs, values, changed, added)

        weight, rows = row_weight(batch), batch.weight.sum()
        count = weight.sum()
        # Of float16 the mean is taken, which has the right size for the scale, and its gradient made the sum's again.
        factor = 1
        if precision.scales_loss:
            factor = state.scale.value / jnp.maximum(over_rows(count), jnp.finfo(count.dtype).tiny)
        gradient, (outputs, values, collections, added) = jax.grad(total, has_aux=True)(state.variables["params"])
        collections = jax.tree.map(lambda v: v * rows.astype(v.dtype), widen(collections))
        gradient = widen(gradient)
        if precision.scales_loss:
            gradient = jax.tree.map(lambda g: g / factor, gradient)
        more = {name: Mean(each * count, count) for name, each in added.items()}
        return Sums(gradient, collections, count, rows, metrics(outputs, values, batch) | more, sum(added.values()) * count)

    def update(key, state, sums, hp):
        # A batch of dead rows only has gradient 0: dividing by any positive number leaves it there.
        count, rows = (jnp.maximum(weight, jnp.finfo(weight.dtype).tiny) for weight in (sums.weight, sums.rows))
        before = state.variables["params"]
        gradient = jax.tree.map(lambda g, p: (g / count).astype(p.dtype), sums.gradient, before)
        value = (sums.metrics["loss"].total + sums.added) / count
        moved, params = optimizer.update(state.optimizer, before, gradient, hp["optimizer"], value)
        collections = jax.tree.map(lambda v: v / rows.astype(v.dtype), sums.collections)
        collections = as_types(collections, {name: state.variables[name] for name in collections})
        after = state._replace(variables=state.variables | collections | {"params": params}, optimizer=moved)
        if not precision.scales_loss:
            return after, sums.metrics
        finite = all_finite(gradient)
        kept = finite | (state.scale.value <= 1)  # there it is no matter of scale: let it be seen
        after = jax.tree.map(lambda new, old: jnp.where(kept, new, old), after, state)
        scale = {"loss_scale": Mean(state.scale.value, jnp.ones(()))}
        return after._replace(scale=rescale(state.scale, finite)), sums.metrics | scale

    def evaluate(key, variables, batch, hp):
        outputs, _ = model.apply(variables, batch.x)
        return metrics(outputs, loss.value(outputs, batch, hp["loss"]), batch)

    def answer(readout):
        return lambda variables, inputs: readout(model.apply(variables, inputs)[0])

    def adopt(state, variables, hp):
        return state._replace(variables=variables, optimizer=optimizer.init(variables["params"], hp["optimizer"]))

    @functools.lru_cache(8)  # data that is read as it goes is checked block by block
    def output_shapes(structure, *leaves):
        rows = jax.tree.unflatten(structure, leaves)
        return jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x)[0], rows.x)

    @functools.lru_cache(8)
    def try_loss(structure, *leaves):
        def values(rows):
            variables, training = model.init(key, rows.x), Training(key, rows.weight, rows.row, hyperparameters(model.hp))
            if augmentation:
                rows = augmentation.apply(key, rows, hyperparameters(augmentation.hp))
            outputs = model.apply(variables, rows.x, training)[0]
            try:
                found = {"loss": loss.value(outputs, rows, hyperparameters(loss.hp))}
                return outputs, found | {name: f(outputs, rows) for name, f in loss.measures.items()}
            except (TypeError, ValueError) as error:
                said = " ".join(str(error).split())
                given = f"outputs {shape_text(outputs)} and y {shape_text(rows.y)}"
                raise ValueError(f"The loss cannot take {given}: {said}") from error

        key, rows = jax.random.key(0), jax.tree.unflatten(structure, leaves)
        outputs, found = jax.eval_shape(values, rows)
        for name, each in found.items():
            if getattr(each, "shape", None) != rows.weight.shape:
                what = "A loss" if name == "loss" else f"The measure `{name}` of a loss"
                raise ValueError(
                    f"{what} must give one value for every row, {shape_text(rows.weight)}; got {shape_text(each)} for outputs "
                    f"{shape_text(outputs)} and y {shape_text(rows.y)}."
                )

    def check(rows):
        leaves, structure = jax.tree.flatten(rows)
        shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves]
        loss.check(output_shapes(structure, *shapes), rows)
        try_loss(structure, *shapes)

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


def shape_text(tree: Any) -> str:
    """The shapes of a tree's arrays."""
    if hasattr(tree, "shape"):
        return str(list(tree.shape))
    return f"{type(tree).__name__} of {', '.join(str(list(np.shape(leaf))) for leaf in jax.tree.leaves(tree)) or 'nothing'}"
