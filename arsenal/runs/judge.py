"""What judges a run: one metric of the validation rows, read from the log, and which of its values are good."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Mode = Literal["min", "max"]


class Judge(NamedTuple):
    """A metric of the validation rows, and whether small or large values of it are good."""

    metric: str
    mode: Mode = "min"

    @classmethod
    def of(cls, section: Any) -> "Judge":
        """The judge that a section of a config names by its `metric` and `mode`."""
        return cls(section.metric.removeprefix("validation/"), section.mode)

    def value(self, values: Mapping[str, Any]) -> float | None:
        """Its value among those of an evaluation; None where it is no number or was not measured."""
        return as_number(values.get(self.metric))

    def each(self, values: Mapping[str, Sequence[Any]]) -> list[float | None]:
        """As `value`, of many that were evaluated together."""
        return [as_number(value) for value in values[self.metric]]

    def best(self, history: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """The steps that have a value, best first, the earlier one where two are equal.

        >>> Judge("accuracy", "max").best({10: {"accuracy": 0.5}, 20: {"accuracy": 0.9}, 30: {"accuracy": None}})
        [20, 10]
        """
        judged = [(value, step) for step, values in history.items() if (value := self.value(values)) is not None]
        return [step for _, step in sorted((value if self.mode == "min" else -value, step) for value, step in judged)]


def as_number(value: Any) -> float | None:
    """A measured value as one number, of a population the mean; None where it is none.

    The log has null where a number was not finite: a resumed run must judge as this one does.
    """
    mean = float(np.mean(np.array(np.nan if value is None else value, float)))
    return mean if np.isfinite(mean) else None


def evaluations(
    log: Sequence[Mapping[str, Any]], every: int | None = None, end: int | None = None
) -> dict[int, dict[str, Any]]:
    """What the validation rows measured, by step, of a run that is judged `every` so many steps and at its `end`.

    Both are what the log's last `start` says unless given. An evaluation that was made only since a shorter run ended there
    does not count in a longer one, which is the run that was never ended.
    """
    starts = [event for event in log if event["kind"] == "start"]
    if every is None and starts:
        every, end = starts[-1].get("evaluate"), starts[-1].get("length")
    return {
        event["step"]: event["values"]
        for event in log
        if event["kind"] == "validation" and (not every or event["step"] % every == 0 or event["step"] == end)
    }
