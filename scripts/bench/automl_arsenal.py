"""arsenal's side of AutoML: the portfolio that ships, within the same budget for each set, ranked beside a peer's losses."""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import automl_data as data

from arsenal import compose
from arsenal.search.automl import automl


def main(given: dict) -> dict:
    """The mean rank of two over the sets, 1.5 where both are as good; losses and seconds of both in `setting`."""
    file = Path(given["rows"]).with_name(f"automl_{given['peer']}.json")
    peer = json.loads(file.read_text()) if file.is_file() else {"losses": {}, "seconds": {}, "versions": {}}
    found, seconds, winners = {}, {}, {}
    for name in given["sets"]:
        train, test = data.frames(name, given["seed"])
        with tempfile.TemporaryDirectory() as folder:
            train.to_csv(Path(folder) / "train.csv", index=False)
            began = time.perf_counter()
            made = automl(compose("automl", [
                f"data.path={folder}/train.csv", f"data.target={data.TARGET}", f"run.root={folder}/runs", "run.tensorboard=false",
                f"data.task={'number' if data.is_number(name) else 'classes'}", f"automl.budget={given['budget']}",
                "split.validation=0.0", "split.test=0.0",
            ], name="automl"))  # fmt: skip
            seconds[name], winners[name] = time.perf_counter() - began, made.winner.kind
            answer = made.run.predict(test.drop(columns=data.TARGET))
        wanted = [column for column in answer if column.startswith("predict_proba")]
        found[name] = data.loss(name, test, answer["predict" if data.is_number(name) else wanted].to_numpy())
    beside = {name: peer["losses"][name] for name in found if name in peer["losses"]}
    ranks = [1.5 + 0.5 * ((found[name] > other) - (found[name] < other)) for name, other in beside.items()]
    said = "; ".join(
        f"{name} {found[name]:.4g} in {seconds[name]:.0f} s ({winners[name]})"
        + (f", {given['peer']} {beside[name]:.4g} in {peer['seconds'][name]:.0f} s" if name in beside else "")
        for name in found
    )
    versions = {name: version(name) for name in ("jax", "scikit-learn")} | peer["versions"]
    return {"value": sum(ranks) / len(ranks) if ranks else None, "all": ranks, "setting": said, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
