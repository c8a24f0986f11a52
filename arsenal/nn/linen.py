"""A Flax linen module as a `Model`."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.traverse_util import flatten_dict

from arsenal.numerics.weighted import is_mapped
from arsenal.records import Model, Training


def linen(module: flax.linen.Module | Callable[..., flax.linen.Module], **hp: float) -> Model:
    """The module as pure functions; with `hp`, a function that builds the module from these traced floats.

    A module whose call takes `training` is given the `Training` record (None when it answers); one that takes
    `train` is given a bool. The random stream is called `dropout`. Numbers that modules sow into `losses` in training are added
    to the loss. Further methods of the module are not exposed;
    `Model._replace(methods=...)` adds them. Flax's own `BatchNorm` leaves out rows of weight 0, which fill up the last
    batch of an epoch, and counts all others once; `arsenal.nn.BatchNorm` counts them by weight.
    """
    build = module if hp else lambda: module
    accepted = inspect.signature(type(build(**hp)).__call__).parameters

    def mode_argument(training: Training | None) -> dict[str, Any]:
        if "training" in accepted:
            return {"training": training}
        return {"train": training is not None} if "train" in accepted else {}

    def init(key, inputs):
        return unfreeze(build(**hp).init(key, inputs, **mode_argument(None)))

    def apply(variables, inputs, training=None):
        if training is None:
            return build(**hp).apply(variables, inputs, **mode_argument(None)), {}
        changing = [name for name in variables if name != "params"]
        # What normalises by the batch keeps statistics in a collection: a module without any is called as it is.
        masked = flax.linen.intercept_methods(mask_rows(training.weight)) if changing else contextlib.nullcontext()
        with masked:
            outputs, collections = build(**training.hp).apply(
                variables, inputs, **mode_argument(training), rngs={"dropout": training.key}, mutable=[*changing, LOSSES]
            )
        changed = unfreeze(collections)
        return outputs, changed | ({LOSSES: sums_by_name(changed[LOSSES])} if LOSSES in changed else {})

    return Model(init, apply, hp=hp)


LOSSES = "losses"
"""The collection whose numbers training adds to the mean loss."""


def outputs_alone(name: str, found: tuple[Any, dict[str, Any]]) -> Any:
    """Of what a model gives in training the outputs; ValueError, for the learner of this name, where it adds to the loss."""
    refuse_losses(name, found[1])
    return found[0]


def refuse_losses(name: str, collections: dict[str, Any]) -> None:
    """Raise ValueError, for the learner of this name, where a model adds to the loss."""
    if LOSSES in collections:
        raise ValueError(f"`{name}` takes models that add nothing to its loss; this one adds {', '.join(collections[LOSSES])}.")


def sums_by_name(sown: dict[str, Any]) -> dict[str, jax.Array]:
    """What modules sowed, by the name that they gave it, each name's sum []."""
    found: dict[str, jax.Array] = {}
    for path, values in flatten_dict(sown).items():
        found[path[-1]] = found.get(path[-1], jnp.zeros(())) + sum(jnp.sum(value) for value in values)
    return found


def mask_rows(weight: jax.Array) -> Callable:
    """What calls Flax's `BatchNorm` with a mask of the rows that are there, by weight [n]; of none, as if all were."""
    there = weight > 0
    there = there | ~there.any()

    def call(method, args, kwargs, context):
        if not isinstance(context.module, flax.linen.BatchNorm) or context.method_name != "__call__":
            return method(*args, **kwargs)
        shape = jnp.shape(args[0] if args else kwargs["x"])
        if shape[0] != weight.shape[0]:
            raise ValueError(
                f"Flax's BatchNorm takes rows along the first axis, here {weight.shape[0]}, so that those that only fill up a "
                f"batch do not count; got x of shape {shape}."
            )
        if is_mapped():
            raise ValueError(
                "Flax's BatchNorm sees the rows of one device only where a step is mapped over devices; `arsenal.nn.BatchNorm` "
                "adds over all, and `parallel=sharded` takes either."
            )
        mask, own = there.reshape(-1, *(1,) * (len(shape) - 1)), kwargs.pop("mask", None)
        return method(*args, **kwargs, mask=mask if own is None else mask & own)

    return call


def as_model(model: Any) -> Model:
    """A `Model` as it is; a Flax linen module wrapped; anything with `init` and `apply` of a `Model` taken over."""
    if isinstance(model, Model):
        return model
    if isinstance(model, flax.linen.Module):
        return linen(model)
    if hasattr(model, "init") and hasattr(model, "apply"):
        return Model(model.init, model.apply)
    raise TypeError(
        f"`model` must be a Model, a Flax linen module or have init and apply; got {type(model).__name__}. NNX, Equinox and "
        "Haiku modules become a Model in a few lines, which docs/own/model.md shows."
    )
