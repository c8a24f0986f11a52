"""The words in which runs are chosen: `test/accuracy>0.97 and config.optimizer.learning_rate<1e-3`, `-test/accuracy`."""

import json
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from arsenal.nearest import nearest
from arsenal.runs.folder import RunError

Cell = tuple[float | None, str]
"""A value as a number, where it is one, and as text."""

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "==": operator.eq,
    "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


class Condition(NamedTuple):
    """What a run's value must be."""

    key: str
    sign: str
    value: str

    def holds(self, cell: Cell | None) -> bool:
        """Whether a run's value keeps to it; a run without the value only does where something else is asked for.

        One word is equal to a list that holds it.
        >>> Condition("step", ">", "1e2").holds((500.0, "500")), Condition("state", "!=", "complete").holds(None)
        (True, True)
        >>> Condition("config.tags", "=", "paper").holds((None, '["baseline", "paper"]'))
        True
        """
        if cell is None:
            return self.sign == "!="
        wanted = parse_number(self.value)
        if wanted is not None and cell[0] is not None:
            return SIGNS[self.sign](cell[0], wanted)
        if cell[1].startswith("[") and not self.value.startswith("["):
            return (self.value in map(str, json.loads(cell[1]))) == (self.sign != "!=")
        return SIGNS[self.sign](cell[1], self.value) if self.sign in ("=", "==", "!=") else False


def conditions(text: str) -> list[Condition]:
    """The conditions of a `where`, joined by `and`.

    >>> conditions("test/accuracy>0.97 and state!=failed")
    [Condition(key='test/accuracy', sign='>', value='0.97'), Condition(key='state', sign='!=', value='failed')]
    """
    found = []
    for part in re.split(r"\s+and\s+", text.strip()):
        match = re.fullmatch(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|==|=|<|>)\s*(\S.*?)\s*", part)
        if not match or re.search(r"\sand$", part):
            raise RunError(f"`where` must be KEY SIGN VALUE, joined by ` and `, SIGN one of {' '.join(SIGNS)}; got {part!r}.")
        condition = Condition(*match.groups())
        if condition.sign[0] in "<>" and parse_number(condition.value) is None:
            raise RunError(f"`where` compares by {condition.sign} with a number; got {part!r}.")
        found.append(condition)
    return found


def check_key(key: str, keys: Iterable[str], argument: str) -> str:
    """The key, or a `RunError` with the nearest when no run has it."""
    keys = list(keys)
    if key in keys:
        return key
    ends = [name for name in keys if name.endswith(f".{key}") or name.endswith(f"/{key}")]
    raise RunError(f"`{argument}`: no run has `{key}`.{nearest(key, sorted(ends, key=len)[:1] or keys, 0.0 if ends else 0.5)}")


def parse_number(text: str) -> float | None:
    """The text as a number; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None
