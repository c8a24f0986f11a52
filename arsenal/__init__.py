"""arsenal: from one experiment file to a trained, evaluated, exported and served model, by pure functions.

Importing it loads nothing: `compose`, `fit` and `load` bring JAX when they are first used.
"""

__version__ = "0.2.0"

__all__ = ["compose", "fit", "load"]


def __getattr__(name: str):
    if name in __all__:
        import arsenal.road

        return getattr(arsenal.road, name)
    raise AttributeError(f"module 'arsenal' has no attribute '{name}'")
