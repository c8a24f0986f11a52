"""Transforms one after another, alone or before an estimator, so that a fold never sees another fold's rows."""

import jax
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

    def check(batch):
        for transform in transforms:
            transform.check(batch)
            batch = shapes_behind(transform, batch)

    invertible = all(transform.inverse for transform in transforms)
    exempt = {word: why for transform in transforms for word, why in transform.exempt.items()}
    hp: dict = [transform.hp for transform in transforms]  # type: ignore[assignment]
    return Transform(fit, apply, inverse if invertible else None, check, hp, exempt)


def shapes_behind(transform: Transform, batch: Batch) -> Batch:
    """The rows with the shapes that x has behind the transform."""
    hp = hyperparameters(transform.hp)
    return batch._replace(x=jax.eval_shape(lambda batch: transform.fit(jax.random.key(0), batch, hp)[1].x, batch))


def after(transform: Transform, estimator: Estimator) -> Estimator:
    """The estimator that fits `transform` first and carries it; params: `(transform state, params)`.

    hp: the estimator's; where the transform has floats too, {"transform": ..., "estimator": ...}.
    """
    estimator = trace_host(estimator)
    floats = bool(jax.tree.leaves(transform.hp))

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
        estimator.check(shapes_behind(transform, batch))

    return estimator._replace(
        fit=fit, apply={name: read(name, f) for name, f in estimator.apply.items()}, check=check,
        hp={"transform": transform.hp, "estimator": estimator.hp} if floats else estimator.hp,
        exempt=transform.exempt | estimator.exempt,
    )  # fmt: skip
