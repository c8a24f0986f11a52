"""A learner trained for so many steps as one fit, so that folds, bags and studies take it like any estimator."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge
from jax import lax

from arsenal.data import arrays
from arsenal.records import Converged, Estimator, Learner
from arsenal.training.driver import first_state, step_of


def as_estimator(
    learner: Learner, steps: Annotated[int, Ge(1)] = 1, batch_size: Annotated[int, Ge(1)] | None = None
) -> Estimator:
    """The estimator whose fit is a run of `steps` steps over batches of rows, all rows at once where `batch_size` is None.

    Its key is that of a run with a seed: `fit(jax.random.key(seed), rows, hp)` gives what that run's last checkpoint answers
    with. Rows of weight 0 stand in batches like others, and count for nothing. `info` says whether all parameters are finite.
    """

    def fit(key, rows, hp):
        source = arrays(rows, batch_size)

        def step(_, train):
            return train._replace(state=step_of(learner, source, train, rows)[0], step=train.step + 1)

        params = learner.params(lax.fori_loop(0, steps, step, first_state(learner, source, key, rows, hp)).state)
        floats = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        finite = jnp.stack([jnp.array(True), *(jnp.isfinite(leaf).all() for leaf in floats)]).all()
        return params, Converged(finite, jnp.full((), steps, jnp.int32))

    # Who fits on the host is called back from within a step, so this fit is traced like any other.
    exempt = {word: why for word, why in learner.exempt.items() if word != "host"}
    return Estimator(fit, learner.apply, learner.inputs, learner.check, hp=learner.hp, exempt=exempt)
