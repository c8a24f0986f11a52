"""An estimator as a learner, so that the driver, checkpoints, sweeps and export serve it too."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Estimator, Learner, Mean


class HostFit(NamedTuple):
    """What a fit leaves: the parameters and how it went."""

    params: Any
    info: Any


def whole(estimator: Estimator) -> Learner:
    """The learner whose only step fits all rows; its state starts at zeros of the right shapes.

    Numbers in the estimator's `info` become metrics of the step. An estimator that fits on the host is called from within
    the program.
    """
    called = trace_host(estimator)

    def fit(key, batch, hp):
        return HostFit(*called.fit(key, batch, hp))

    def init(key, batch, hp):
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(fit, key, batch, hp))

    def step(key, state, batch, hp):
        fitted = fit(key, batch, hp)
        info = fitted.info._asdict() if hasattr(fitted.info, "_asdict") else {}
        numbers = {name: v for name, v in info.items() if not isinstance(v, dict) and jnp.ndim(v) == 0}
        means = {name: Mean(jnp.asarray(v, dtype=float), jnp.ones(())) for name, v in numbers.items()}
        return fitted, means

    return Learner(
        init, step, lambda state: state.params, estimator.apply,
        inputs=estimator.inputs, check=estimator.check, hp=estimator.hp, exempt=estimator.exempt,
    )  # fmt: skip


def trace_host(estimator: Estimator):
    """The estimator with a `fit` that can be traced: one that runs on the host is called back with NumPy's arrays.

    Raises ValueError for one of the host that does not say its `shapes`, and, when it fits, for what has others.
    """
    if "host" not in estimator.exempt:
        return estimator
    if estimator.shapes is None:
        raise ValueError("An estimator that fits on the host must say the `shapes` of what it learns.")

    def fit(key, batch, hp):
        like = estimator.shapes(batch, hp)

        def there(words, batch, hp):
            words, batch, hp = jax.tree.map(np.asarray, (words, batch, hp))
            found = jax.tree.map(lambda s, leaf: np.asarray(leaf, s.dtype), like, estimator.fit(words, batch, hp))
            for (path, s), leaf in zip(jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(found), strict=True):
                if leaf.shape != s.shape:
                    name = jax.tree_util.keystr(path)
                    raise ValueError(f"The fit on the host gave `{name}` the shape {leaf.shape}; its `shapes` say {s.shape}.")
            return found

        return jax.pure_callback(there, like, jax.random.key_data(key), batch, hp, vmap_method="sequential")

    return estimator._replace(fit=fit, shapes=None, exempt={w: why for w, why in estimator.exempt.items() if w != "host"})
