"""arsenal's side of drift: the reference, the counts, the verdict of every column, and the page, from data frames."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import drift_data as data
import numpy as np
from arsenal_serving.artifact.reference import MethodReference, ModelReference
from arsenal_serving.artifact.sketch import Sketch, describe
from arsenal_serving.artifact.windows import Window

from arsenal.evaluation.report import render
from arsenal.monitoring.drift import DriftBounds, compare_columns
from arsenal.monitoring.report import page_of
from arsenal.monitoring.watch import Watched


def columns(frame):
    """Every column as sketches take it."""
    return {name: np.asarray(frame[name], dtype=object if frame[name].dtype.kind not in "fiu" else None) for name in frame}


def report(reference, came) -> set[str]:
    """The page, made, and the columns that have drifted."""
    learned = [describe(name, values) for name, values in columns(reference).items()]
    sketches = {column.name: Sketch(column) for column in learned}
    for name, values in columns(came).items():
        sketches[name].add(values)
    window, known = Window(0.0, 3600.0, len(came), sketches, {}), MethodReference(learned, [])
    watched = Watched("model", "1", "predict", known, ModelReference(len(reference), {"predict": known}), Path())
    render("monitoring.html", page_of(watched, window, [window], DriftBounds(), ()))
    return {one.column for one in compare_columns(sketches) if one.drifted}


given = json.loads(sys.argv[1])
print(json.dumps(data.measure(report, given) | {"versions": {name: version(name) for name in ("numpy", "scipy")}}))
