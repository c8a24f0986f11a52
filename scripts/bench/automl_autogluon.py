"""AutoGluon's side of AutoML: its defaults, log loss or RMSE, a budget for each set; what came of it lies beside the rows."""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import automl_data as data


def main(given: dict) -> dict:
    """Losses of the rows that were kept, and seconds, by set."""
    from autogluon.tabular import TabularPredictor

    found, seconds = {}, {}
    for name in given["sets"]:
        train, test = data.frames(name, given["seed"])
        task, metric = ("regression", "root_mean_squared_error") if data.is_number(name) else (None, "log_loss")
        with tempfile.TemporaryDirectory() as folder:
            made = TabularPredictor(data.TARGET, task, metric, path=folder, verbosity=0)
            began = time.perf_counter()
            made.fit(train, time_limit=given["budget"], num_cpus=given["threads"], num_gpus=0)
            seconds[name] = time.perf_counter() - began
            x = test.drop(columns=data.TARGET)
            answer = made.predict(x) if data.is_number(name) else made.predict_proba(x)
        found[name] = data.loss(name, test, answer.to_numpy())
    said = {"losses": found, "seconds": seconds, "versions": {"autogluon.tabular": version("autogluon.tabular")}}
    Path(given["rows"]).with_name("automl_autogluon.json").write_text(json.dumps(said))
    return said


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
