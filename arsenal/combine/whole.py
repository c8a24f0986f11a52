"""An estimator as a learner, so that the driver, checkpoints, sweeps and export serve it too."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arsenal.records import Estimator, Learner, Mean


class Fitted(NamedTuple):
    """What a fit leaves: the parameters and how it went."""

    params: Any
    info: Any


def whole(estimator: Estimator) -> Learner:
    """The learner whose only step fits all rows; its state starts at zeros of the right shapes.

    Numbers in the estimator's `info` become metrics of the step.
    """

    def fit(key, batch, hp):
        return Fitted(*estimator.fit(key, batch, hp))

    def init(key, batch, hp):
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(fit, key, batch, hp))

    def step(key, state, batch, hp):
        fitted = fit(key, batch, hp)
        info = fitted.info._asdict() if hasattr(fitted.info, "_asdict") else {}
        means = {name: Mean(jnp.asarray(v, dtype=float), jnp.ones(())) for name, v in info.items() if jnp.ndim(v) == 0}
        return fitted, means

    return Learner(
        init, step, lambda state: state.params, estimator.apply,
        inputs=estimator.inputs, check=estimator.check, hp=estimator.hp, exempt=estimator.exempt,
    )  # fmt: skip
