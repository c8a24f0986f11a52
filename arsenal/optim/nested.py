"""An optimizer's hyperparameters by name, however many combinators stand around it."""

from typing import Any


def reads(hp: dict[str, Any], name: str) -> bool:
    """Whether an optimizer with these hyperparameters has one of this name.

    >>> reads({"optimizer": {"learning_rate": 0.1}, "norm": 1.0}, "learning_rate")
    True
    """
    return name in hp or ("optimizer" in hp and reads(hp["optimizer"], name))


def multiply(hp: dict[str, Any], name: str, factor: Any) -> dict[str, Any]:
    """The same hyperparameters with the outermost one of this name, which must be there, times the factor.

    >>> multiply({"optimizer": {"learning_rate": 0.5}, "norm": 1.0}, "learning_rate", 0.5)
    {'optimizer': {'learning_rate': 0.25}, 'norm': 1.0}
    """
    if name in hp:
        return hp | {name: hp[name] * factor}
    return hp | {"optimizer": multiply(hp["optimizer"], name, factor)}
