"""FLAML's side of AutoML: its defaults, log loss or RMSE, a budget for each set; what came of it lies beside the rows."""

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import automl_data as data


def main(given: dict) -> dict:
    """Losses of the rows that were kept, and seconds, by set."""
    from flaml import AutoML

    warnings.filterwarnings("ignore")
    found, seconds = {}, {}
    for name in given["sets"]:
        train, test = data.frames(name, given["seed"])
        task, metric = ("regression", "rmse") if data.is_number(name) else ("classification", "log_loss")
        made, began = AutoML(), time.perf_counter()
        made.fit(
            dataframe=train, label=data.TARGET, time_budget=given["budget"], seed=given["seed"], verbose=0,
            n_jobs=given["threads"], task=task, metric=metric,
        )  # fmt: skip
        seconds[name] = time.perf_counter() - began
        x = test.drop(columns=data.TARGET)
        found[name] = data.loss(name, test, made.predict(x) if data.is_number(name) else made.predict_proba(x))
    said = {"losses": found, "seconds": seconds, "versions": {"flaml": version("flaml")}}
    Path(given["rows"]).with_name("automl_flaml.json").write_text(json.dumps(said))
    return said


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
