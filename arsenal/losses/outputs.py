"""What a loss reads of a model's outputs: a dict of several parts by name, or one number a row."""

import jax


def check_parts(name: str, outputs, *parts: str) -> None:
    """Raise ValueError unless the outputs are a dict that has these parts."""
    wanted = ", ".join(f"`{part}`" for part in parts)
    if not isinstance(outputs, dict):
        got = getattr(outputs, "shape", type(outputs).__name__)
        raise ValueError(f"`{name}` takes a dict of the outputs {wanted}; the model gives {got}.")
    missing = [part for part in parts if part not in outputs]
    if missing:
        has = ", ".join(f"`{part}`" for part in sorted(outputs)) or "none"
        raise ValueError(f"`{name}` takes the outputs {wanted}; the model gives {has}.")


def squeeze_last(outputs: jax.Array) -> jax.Array:
    """Outputs [n, 1] as [n]; others as they are."""
    return outputs[:, 0] if outputs.shape[1:] == (1,) else outputs
