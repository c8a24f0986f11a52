"""Evidently's side of drift: its preset for data drift, with its defaults, and the page."""

import json
import sys
import tempfile
from importlib.metadata import version

import drift_data as data
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

NUMBERS, LEVELS = [f"n{k}" for k in range(data.NUMBERS)], [f"c{k}" for k in range(data.LEVELS)]


def report(reference, came) -> set[str]:
    """The page, written, and the columns that have drifted."""
    definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=LEVELS)
    sets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (came, reference)]
    made = Report([DataDriftPreset()]).run(*sets)
    with tempfile.NamedTemporaryFile(suffix=".html") as page:
        made.save_html(page.name)
    found = set()
    for metric in json.loads(made.json())["metrics"]:
        config = metric.get("config", {})
        if "column" in config and isinstance(metric["value"], int | float):
            method, bound = config.get("method", ""), config.get("threshold", 0.1)
            drifted = metric["value"] < bound if "p_value" in method or "p-value" in method else metric["value"] >= bound
            found |= {config["column"]} if drifted else set()
    return found


given = json.loads(sys.argv[1])
print(json.dumps(data.measure(report, given) | {"versions": {name: version(name) for name in ("evidently",)}}))
