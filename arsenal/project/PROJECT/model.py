"""The model: two pure functions, `init` and `apply`. A Flax linen module would do as well."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Gt
from arsenal.records import Model


def radial(centres: Annotated[int, Gt(0)] = 24, width: Annotated[float, Gt(0)] = 0.2) -> Model:
    """A sum of Gaussian bumps whose centres move too: inputs [n, d] to outputs [n, 1]; `width` in x's units."""

    def init(key, inputs):
        where = jax.random.uniform(key, (centres, inputs.shape[1]), minval=-1.0, maxval=1.0)
        return {"params": {"centres": where, "heights": jnp.zeros((centres, 1)), "offset": jnp.zeros(1)}}

    def apply(variables, inputs, training=None):
        params = variables["params"]
        distance = jnp.square(inputs[:, None, :] - params["centres"]).sum(-1)
        bumps = jnp.exp(-distance / (2 * width**2))
        return bumps @ params["heights"] + params["offset"], {}

    return Model(init, apply)
