"""NannyML's side of drift: its univariate calculator, with its defaults, over chunks of the rows, and its pictures' data."""

import json
import sys
import time
from importlib.metadata import version

import drift_data as data
import nannyml

NAMES = [*(f"n{k}" for k in range(data.NUMBERS)), *(f"c{k}" for k in range(data.LEVELS))]


def report(reference, came) -> set[str]:
    """The columns of which some chunk is an alert."""
    found = nannyml.UnivariateDriftCalculator(column_names=NAMES, chunk_size=5000).fit(reference).calculate(came)
    table = found.filter(period="analysis").to_df()
    return {name for name in NAMES if any(table[column].any() for column in table if column[0] == name and column[2] == "alert")}


def main(given: dict) -> dict:
    """As arsenal's side."""
    reference, came = data.table(given["reference"], 0), data.table(given["rows"], 1)
    rates = []
    for _ in range(given["windows"]):
        began = time.perf_counter()
        report(reference, came)
        rates.append(1 / (time.perf_counter() - began))
    small = data.table(5000, 2)
    found = [name in report(reference, frame) for frame, name in (data.seed_drift(small, kind) for kind in range(10))]
    return {
        "rates": rates,
        "setting": f"of ten seeded drifts {sum(found)} seen {found}; {len(report(reference, small))} columns of none",
        "versions": {"nannyml": version("nannyml")},
    }  # fmt: skip


print(json.dumps(main(json.loads(sys.argv[1]))))
