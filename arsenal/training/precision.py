"""Precision policy: what parameters are kept in, what the model computes in, and what leaves it.

Micikevicius et al., ICLR 2018 (1710.03740): parameters and sums in float32, the products in between in half precision,
and for float16, whose smallest numbers a gradient may fall below, a loss scaled up before the gradient is taken.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from arsenal.models.adapted import FROZEN
from arsenal.models.aside import ASIDE
from arsenal.records import Model

Float = Literal["float32", "bfloat16", "float16"]
GROWTH_EVERY = 2000
"""Steps without an overflow after which the scale of the loss doubles."""


CAST = ("params", FROZEN, ASIDE)
"""Collections of parameters."""


class Precision(NamedTuple):
    """The types of a model's numbers."""

    parameters: Float = "float32"
    compute: Float = "float32"
    output: Float = "float32"

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled: where float16, with its five bits of exponent, takes part."""
        return "float16" in (self.parameters, self.compute)


class Scale(NamedTuple):
    """What the loss is multiplied by, float32 [], and the steps since it last changed, int32 []."""

    value: Any
    steps: Any


def policy(given: Float | Mapping[str, Float]) -> Precision:
    """The policy that a config gives: the type to compute in, or `parameters`, `compute` and `output` by name.

    >>> policy("bfloat16")
    Precision(parameters='float32', compute='bfloat16', output='float32')
    """
    chosen = {"compute": given} if isinstance(given, str) else dict(given)
    allowed = get_args(Float)
    for name, dtype in chosen.items():
        if name not in Precision._fields or dtype not in allowed:
            raise ValueError(
                f"`precision` gives {', '.join(Precision._fields)} one of {', '.join(allowed)}; got {name}={dtype!r}."
            )
    return Precision(**chosen)


def cast_model(model: Model, precision: Precision) -> Model:
    """The model under a policy: floats among parameters and inputs are cast on the way in, outputs on the way out.

    Parameters that are frozen, or of a model to compare with, are cast too. Other collections, such as running statistics, stay
    as they are; gradients arrive in the type of the parameters.
    """
    if precision == Precision():
        return model

    def inside(variables):
        return {name: cast(part, precision.compute) if name in CAST else part for name, part in variables.items()}

    def init(key, inputs):
        variables = model.init(key, inputs)
        return variables | {"params": cast(variables["params"], precision.parameters)}

    def apply(variables, inputs, training=None):
        outputs, collections = model.apply(inside(variables), cast(inputs, precision.compute), training)
        return cast(outputs, precision.output), collections

    def read(method):
        return lambda variables, inputs: cast(method(inside(variables), cast(inputs, precision.compute)), precision.output)

    return model._replace(init=init, apply=apply, methods={name: read(method) for name, method in model.methods.items()})


def cast(tree: Any, dtype: str) -> Any:
    """The tree with its floats in `dtype`."""

    def one(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


def first_scale() -> Scale:
    """2¹⁵: half of float16's largest power of two."""
    return Scale(jnp.full((), 2.0**15, jnp.float32), jnp.zeros((), jnp.int32))


def rescale(scale: Scale, finite: jax.Array) -> Scale:
    """Half the scale, down to 1, after an overflow; twice of it after `GROWTH_EVERY` steps without one."""
    grown = scale.steps + 1 >= GROWTH_EVERY
    value = jnp.where(finite, jnp.where(grown, scale.value * 2, scale.value), jnp.maximum(scale.value / 2, 1))
    return Scale(value, jnp.where(finite & ~grown, scale.steps + 1, 0))


def all_finite(tree: Any) -> jax.Array:
    """Whether every float of the tree is finite. [] bool."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all() if floats else jnp.array(True)
