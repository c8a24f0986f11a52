"""Lengths in a researcher's words: `420 steps`, `30 epochs`, `1e6 examples`; for intervals also `60 seconds`."""

import math
import re
from typing import NamedTuple

from arsenal.records import Source

UNITS = ("steps", "epochs", "examples", "seconds")


class Length(NamedTuple):
    """A positive amount of one of `UNITS`."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: "str | int | Length") -> "Length":
        """A length from its words; a bare whole number counts steps.

        >>> Length.parse("1.5 epochs")
        Length(amount=1.5, unit='epochs')
        """
        if isinstance(text, Length):
            return text
        found = re.fullmatch(r"\s*([0-9]+(?:_[0-9]+)*\.?[0-9]*(?:[eE][+]?[0-9]+)?)\s*([a-z]*)\s*", str(text))
        unit = (found[2] or "steps") if found else ""
        unit = unit if unit.endswith("s") else unit + "s"
        if not found or unit not in UNITS or not 0 < float(found[1]) < math.inf:
            raise ValueError(f"A length is a positive number of {', '.join(UNITS)}, as in `30 epochs`; got {text!r}.")
        return cls(float(found[1]), unit)

    def steps(self, source: Source) -> int:
        """The number of steps, rounded up, for batches of this source."""
        if self.unit == "steps":
            return math.ceil(self.amount)
        if self.unit == "examples":
            return math.ceil(self.amount / source.batch_size)
        if self.unit == "epochs" and source.size is not None:
            return math.ceil(self.amount * -(-source.size // source.batch_size))
        raise ValueError(f"A length in {self.unit} has no number of steps here; give it in steps or examples.")
