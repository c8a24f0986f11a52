"""arsenal: from one experiment file to a trained, evaluated, exported and served model, by pure functions.

Importing it loads nothing: what is offered here brings JAX when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arsenal.road import Config, Run, compose, evaluate, export, fit, load

__version__ = "0.2.0"

__all__ = ["Config", "Run", "compose", "evaluate", "export", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import arsenal.road

        return getattr(arsenal.road, name)
    raise AttributeError(f"module 'arsenal' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
