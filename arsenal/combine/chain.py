"""Transforms one after another, alone or before an estimator, so that a fold never sees another fold's rows."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.random import fold_in

from arsenal.combine.whole import trace_host
from arsenal.records import Batch, Estimator, Transform, hyperparameters


def chain(*transforms: Transform) -> Transform:
    """The transforms from left to right, as one; none at all changes nothing. State and hp: one of each for every one."""

    def fit(key, batch, hp):
        states = []
        for i, (transform, own) in enumerate(zip(transforms, hp, strict=True)):
            state, batch = transform.fit(fold_in(key, i), batch, own)
            states.append(state)
        return tuple(states), batch

    def apply(states, x):
        for transform, state in zip(transforms, states, strict=True):
            x = transform.apply(state, x)
        return x

    def inverse(states, x):
        for transform, state in zip(reversed(transforms), reversed(states), strict=True):
            x = transform.inverse(state, x)
        return x

    behind = [shapes_behind(transform) for transform in transforms]

    def check(batch):
        for transform, shapes in zip(transforms, behind, strict=True):
            transform.check(batch)
            batch = shapes(batch)

    def names(given):
        for transform in transforms:
            given = transform.names(given)
        return given

    invertible = all(transform.inverse for transform in transforms)
    exempt = {word: why for transform in transforms for word, why in transform.exempt.items()}
    hp: dict = [transform.hp for transform in transforms]  # type: ignore[assignment]
    nameable = all(transform.names for transform in transforms)
    return Transform(fit, apply, inverse if invertible else None, check, hp, exempt, names if nameable else None)


def shapes_behind(transform: Transform) -> Callable[[Batch], Batch]:
    """The function of rows that gives them with the shapes that x has behind the transform; of rows of one shape it is fast."""

    def made(batch):
        return transform.fit(jax.random.key(0), batch, hyperparameters(transform.hp))[1].x

    return lambda batch: batch._replace(x=jax.eval_shape(made, batch))


def after(transform: Transform, estimator: Estimator) -> Estimator:
    """The estimator that fits `transform` first and carries it; params: `(transform state, params)`.

    hp: the estimator's; where the transform has floats too, {"transform": ..., "estimator": ...}.
    """
    estimator = trace_host(estimator)
    floats, behind = bool(jax.tree.leaves(transform.hp)), shapes_behind(transform)

    def fit(key, batch, hp):
        of_transform, own = (hp["transform"], hp["estimator"]) if floats else (transform.hp, hp)
        state, batch = transform.fit(fold_in(key, 0), batch, of_transform)
        params, info = estimator.fit(fold_in(key, 1), batch, own)
        return (state, params), info

    def read(name, f):
        if name in estimator.inputs:
            return lambda params, inputs: f(params[1], inputs)
        return lambda params, x: f(params[1], transform.apply(params[0], x))

    def check(batch):
        transform.check(batch)
        estimator.check(behind(batch))

    return estimator._replace(
        fit=fit, apply={name: read(name, f) for name, f in estimator.apply.items()}, check=check,
        hp={"transform": transform.hp, "estimator": estimator.hp} if floats else estimator.hp,
        exempt=transform.exempt | estimator.exempt,
    )  # fmt: skip


def as_transform(estimator: Estimator, answer: str = "transform") -> Transform:
    """What an estimator answers in place of x: places on a map, distances from centres, shares of a mixture.

    x [n, ...] to floats [n, columns], in training of the same fit: of an estimator that learns from y, `stacking` has the answers
    out of fold. State and hp: the estimator's parameters and floats. ValueError where the answer is missing or no floats.
    """
    if answer not in estimator.apply or answer in estimator.inputs:
        known = ", ".join(name for name in estimator.apply if name not in estimator.inputs)
        raise ValueError(f"`answer` of `as_transform` must be one of the estimator's, {known}; got {answer!r}.")
    called = trace_host(estimator)

    def fit(key, batch, hp):
        params, _ = called.fit(key, batch, hp)
        return params, batch._replace(x=apply(params, batch.x))

    def apply(params, x):
        made = estimator.apply[answer](params, x)
        if not jnp.issubdtype(made.dtype, jnp.floating):
            raise ValueError(f"`as_transform` takes an answer of floats; `{answer}` gives {made.dtype}.")
        return made.reshape(made.shape[0], math.prod(made.shape[1:]))

    return Transform(fit, apply, check=estimator.check, hp=estimator.hp, exempt=called.exempt)
