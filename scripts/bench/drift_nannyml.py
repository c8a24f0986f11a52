"""NannyML's side of drift: its univariate calculator, with its defaults, over chunks of the rows, and its pictures' data."""

import json
import sys
from importlib.metadata import version

import drift_data as data
import nannyml

NAMES = [*(f"n{k}" for k in range(data.NUMBERS)), *(f"c{k}" for k in range(data.LEVELS))]


def report(reference, came) -> set[str]:
    """The columns of which some chunk is an alert."""
    found = nannyml.UnivariateDriftCalculator(column_names=NAMES, chunk_size=5000).fit(reference).calculate(came)
    table = found.filter(period="analysis").to_df()
    return {name for name in NAMES if any(table[column].any() for column in table if column[0] == name and column[2] == "alert")}


given = json.loads(sys.argv[1])
print(json.dumps(data.measure(report, given) | {"versions": {name: version(name) for name in ("nannyml",)}}))
