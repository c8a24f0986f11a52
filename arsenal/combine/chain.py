"""Transforms one after another, alone or before an estimator, so that a fold never sees another fold's rows."""

from jax.random import fold_in

from arsenal.records import Estimator, Transform


def chain(*transforms: Transform) -> Transform:
    """The transforms from left to right, as one; none at all changes nothing. State: a tuple, one each."""

    def fit(key, batch):
        states = []
        for i, transform in enumerate(transforms):
            state, batch = transform.fit(fold_in(key, i), batch)
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

    invertible = all(transform.inverse for transform in transforms)
    exempt = {word: why for transform in transforms for word, why in transform.exempt.items()}
    return Transform(fit, apply, inverse if invertible else None, exempt)


def after(transform: Transform, estimator: Estimator) -> Estimator:
    """The estimator that fits `transform` first and carries it; params: `(transform state, params)`."""

    def fit(key, batch, hp):
        state, batch = transform.fit(fold_in(key, 0), batch)
        params, info = estimator.fit(fold_in(key, 1), batch, hp)
        return (state, params), info

    def read(name, f):
        if name in estimator.inputs:
            return lambda params, inputs: f(params[1], inputs)
        return lambda params, x: f(params[1], transform.apply(params[0], x))

    apply = {name: read(name, f) for name, f in estimator.apply.items()}
    return estimator._replace(fit=fit, apply=apply, update=None, exempt=transform.exempt | estimator.exempt)
