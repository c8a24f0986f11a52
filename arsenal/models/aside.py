"""What training compares a model with and no answer reads: it lies in a collection of its own, which artifacts leave out."""

from typing import Any

import jax
import jax.numpy as jnp

ASIDE = "aside"
"""The collection: `reference` is what learns as it was at first, `teacher` another model's variables."""


def without_aside(variables: Any) -> Any:
    """The variables that answers need; what is no dictionary as it is."""
    return {name: tree for name, tree in variables.items() if name != ASIDE} if isinstance(variables, dict) else variables


def begin_again(variables: dict[str, Any], aside: dict[str, Any]) -> dict[str, Any]:
    """The variables with what lies `aside`, of which a reference is what these learn from."""
    if "reference" in aside:
        # A copy: the driver donates both to the next step.
        aside = aside | {"reference": jax.tree.map(jnp.copy, variables["params"])}
    return variables | {ASIDE: aside}
