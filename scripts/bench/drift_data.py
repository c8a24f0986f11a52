"""Tables for the drift figures: 40 columns of numbers, 10 of levels, a reference and what came, and ten seeded drifts."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

NUMBERS, LEVELS, SHARES = 40, 10, np.array([0.4, 0.3, 0.2, 0.1])


def table(rows: int, seed: int) -> pd.DataFrame:
    """Columns n0..n39, normal, and c0..c9, of four levels."""
    rng = np.random.default_rng(seed)
    columns = {f"n{k}": rng.normal(k, 1 + k % 5, rows) for k in range(NUMBERS)}
    levels = np.array(list("abcd"))
    return pd.DataFrame(columns | {f"c{k}": levels[rng.choice(4, rows, p=SHARES)] for k in range(LEVELS)})


def seed_drift(frame: pd.DataFrame, kind: int) -> tuple[pd.DataFrame, str]:
    """The table with one of ten drifts in one column, and that column."""
    rng, made = np.random.default_rng(kind), frame.copy()
    name = f"n{kind}" if kind < 7 else f"c{kind}"
    values, deviation = made[name], 1 + kind % 5
    match kind:
        case 0 | 1 | 2:  # moved by 0.25, 0.5 and 1 standard deviations
            made[name] = values + deviation * (0.25, 0.5, 1.0)[kind]
        case 3 | 4:  # half and twice as wide
            made[name] = kind + (values - kind) * (0.5 if kind == 3 else 2.0)
        case 5:  # a third of the rows elsewhere
            made[name] = np.where(rng.uniform(size=len(made)) < 1 / 3, values + 3 * deviation, values)
        case 6:  # cut off below
            made[name] = values.clip(lower=6 - deviation / 2)
        case 7:  # other shares
            made[name] = np.array(list("abcd"))[rng.choice(4, len(made), p=SHARES[::-1])]
        case 8:  # a level is gone
            made[name] = values.replace("a", "b")
        case _:  # a new level
            made[name] = np.where(rng.uniform(size=len(made)) < 0.2, "new", values)
    return made, name


def measure(report: Callable[[pd.DataFrame, pd.DataFrame], set[str]], given: dict) -> dict:
    """Reports a minute of many rows, and which of ten drifts `report(reference, came)` sees, and of none."""
    reference, came, rates = table(given["reference"], 0), table(given["came"], 1), []
    for _ in range(given["windows"]):
        began = time.perf_counter()
        report(reference, came)
        rates.append(60 / (time.perf_counter() - began))
    small = table(5000, 2)
    found = [name in report(reference, frame) for frame, name in (seed_drift(small, kind) for kind in range(10))]
    said = f"of ten seeded drifts {sum(found)} seen {found}; {len(report(reference, small))} columns of none"
    return {"rates": rates, "setting": said}
