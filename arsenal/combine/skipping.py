"""Steps that go wrong are left out: one bad batch costs a step, not the run."""

import jax
import jax.numpy as jnp

from arsenal.records import Learner, Mean


def skipping(learner: Learner) -> Learner:
    """The learner whose state stays as it was where a step would leave a number in it, or a metric, not finite.

    Such a step reports nothing; the metric `skipped` is the share of them. In a population put it around the member,
    so that each skips for itself.
    """

    def step(key, state, batch, hp):
        after, metrics = learner.step(key, state, batch, hp)
        floats = [leaf for leaf in jax.tree.leaves((after, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        sound = jnp.stack([jnp.array(True), *(jnp.isfinite(leaf).all() for leaf in floats)]).all()
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
        metrics = jax.tree.map(lambda v: jnp.where(sound, v, jnp.zeros_like(v)), metrics)
        return kept, metrics | {"skipped": Mean(jnp.where(sound, 0.0, 1.0), jnp.ones(()))}

    return learner._replace(step=step)
