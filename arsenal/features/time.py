"""Times as numbers: the civil calendar and the clock, computed in whole numbers inside the program."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from arsenal.features.arrays import formula
from arsenal.features.codes import beside_numbers, column_states, split_names
from arsenal.records import Transform

MISSING = -(2**31)
"""What stands for a missing time."""
PARTS = ("year", "month", "day", "weekday", "hour", "minute", "day_of_year", "is_weekend", "days")
CLOCK = ("hour", "minute")
"""What a time counted in days has not."""
CYCLES = ("month", "day", "weekday", "hour", "minute", "day_of_year")
Unit = Literal["D", "s"]


def date_parts(
    parts: Sequence[str] = PARTS, cycles: bool = False, indicator: bool = False, unit: Unit | None = None, schema: Any = None
) -> Transform:
    """Parts of times, a column for each; int32 [n, m], or x {"time": times, perhaps "numeric": [n, d]}, to [n, p] float32.

    Times are days (`D`) or seconds (`s`) since 1970-01-01T00:00 UTC, as the schema's codecs or `unit` say. Parts are the year,
    month 1..12, day 1..31, weekday 0..6 from Monday, hour, minute, day of the year 1..366, whether it is Saturday or Sunday, and
    `days` since 1970 with their fraction. Days have no hour and no minute. With `cycles` those that come again are the sine and
    the cosine of their angle, so that December lies beside January. With `indicator` a last column says that the time is missing;
    in the others it is NaN then. The calendar is the proleptic Gregorian one, by H. Hinnant's algorithm (2013).

    >>> date_parts(["year", "month", "day"], unit="D").apply((), jnp.array([[0], [-1], [19782]])).tolist()
    [[1970.0, 1.0, 1.0], [1969.0, 12.0, 31.0], [2024.0, 2.0, 29.0]]
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"`parts` of `date_parts` must be of {', '.join(PARTS)}; got {part!r}.")
    if unit not in (None, "D", "s"):
        raise ValueError(f"`unit` of `date_parts` must be D or s; got {unit!r}.")
    states = column_states(schema, "time")
    known = None if states is None else [state.get("unit", "D") for state in states]  # a codec of kind `date` counts days

    def units(count: int) -> list[str]:
        if unit is None and known is None:
            raise ValueError("`unit` of `date_parts` must be given, D or s: this data does not say what its times count.")
        if unit is None and len(known or ()) != count:
            raise ValueError(f"`date_parts` takes the {len(known or ())} times that the schema names; got {count} columns.")
        return [unit] * count if unit else known  # type: ignore[return-value]

    def columns_of(unit: str) -> list[str]:
        """The suffixes of a column's parts, in their order."""
        found = [part for part in parts if unit == "s" or part not in CLOCK]
        waves = [(part, (".sin", ".cos") if cycles and part in CYCLES else ("",)) for part in found]
        return [f".{part}{wave}" for part, both in waves for wave in both] + [".missing"] * indicator

    def apply(state, x):
        times = read_times(x)
        found = [moment(times[:, i], one) for i, one in enumerate(units(times.shape[1]))]
        made = [column(suffix[1:]) for column, one in zip(found, units(len(found)), strict=True) for suffix in columns_of(one)]
        return beside_numbers("date_parts", x, jnp.stack(made, 1))

    def names(given):
        numbers, named = split_names(given, "time")
        both = zip(named, units(len(named)), strict=True)
        return {"x": numbers + [name + part for name, one in both for part in columns_of(one)]}

    return formula(apply, lambda rows: jax.eval_shape(lambda x: apply((), x), rows.x) and None, names)


def read_times(x: Any) -> jax.Array:
    """The times [n, m] of x, an array of them or a dictionary with the input `time`; ValueError where there are none."""
    if isinstance(x, dict) and "time" not in x:
        raise ValueError(f"`date_parts` takes x with an input `time`; this data has {', '.join(x)}.")
    times = x["time"] if isinstance(x, dict) else x
    if times.ndim != 2 or times.dtype != jnp.int32:
        raise ValueError(f"`date_parts` takes times [n, m], int32; got {times.dtype} of shape {tuple(times.shape)}.")
    return times


def moment(time: jax.Array, unit: str) -> Any:
    """The function that gives a part of a column of times [n] by name, `hour` or `hour.sin`, as float32 [n]."""
    missing = time == MISSING
    time = jnp.where(missing, 0, time)
    days, second = (time, jnp.zeros_like(time)) if unit == "D" else (time // 86400, time % 86400)
    year, month, day, day_of_year, length = civil(days)
    weekday = (days % 7 + 3) % 7  # 1970-01-01 was a Thursday; the remainder first, or the last days would overflow
    whole = {
        "year": year, "month": month, "day": day, "weekday": weekday, "hour": second // 3600, "minute": second % 3600 // 60,
        "day_of_year": day_of_year, "is_weekend": (weekday >= 5).astype(jnp.int32),
    }  # fmt: skip
    turns = {
        "month": (month - 1, 12), "day": (day - 1, 31), "weekday": (weekday, 7), "hour": (whole["hour"], 24),
        "minute": (whole["minute"], 60), "day_of_year": (day_of_year - 1, length),
    }  # fmt: skip

    def column(name):
        part, _, wave = name.partition(".")
        if part == "missing":
            return missing.astype(jnp.float32)
        if part == "days":
            made = days.astype(jnp.float32) + second.astype(jnp.float32) / 86400
        elif wave:
            at, period = turns[part]
            angle = 2 * jnp.pi * at.astype(jnp.float32) / jnp.asarray(period, jnp.float32)
            made = jnp.sin(angle) if wave == "sin" else jnp.cos(angle)
        else:
            made = whole[part].astype(jnp.float32)
        return jnp.where(missing, jnp.nan, made)

    return functools.cache(column)


def civil(days: jax.Array) -> tuple[jax.Array, ...]:
    """Year, month, day, day of the year and days of the year, of days since 1970-01-01, int32 of years up to five million.

    Years begin in March here, so that the leap day is their last, and 400 of them have 146,097 days.
    """
    days = days + 719_468  # since 0000-03-01
    era, day_of_era = days // 146_097, days % 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    since_march = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    count = (5 * since_march + 2) // 153
    day = since_march - (153 * count + 2) // 5 + 1
    month = jnp.where(count < 10, count + 3, count - 9)
    year = year_of_era + era * 400 + (month <= 2).astype(days.dtype)
    leap = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).astype(days.dtype)
    return year, month, day, jnp.where(month > 2, since_march + 60 + leap, since_march - 305), 365 + leap
