"""arsenal's estimates of accuracies that nobody counted, beside what they were, and beside NannyML's errors."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from estimates_data import SETS, worlds

from arsenal.monitoring import LoggedRows, estimate_accuracy


def logged(x: np.ndarray, proba: np.ndarray) -> LoggedRows:
    """Rows as a request log gives them."""
    n, names = len(x), tuple(str(k) for k in range(proba.shape[1]))
    asked = {f"x{k}": x[:, k] for k in range(x.shape[1])}
    ids = np.arange(n).astype(str)
    return LoggedRows("m", "1", "predict_proba", ids, np.zeros(n, int), np.zeros(n), asked, {"predict_proba": proba}, names)


def main(given: dict) -> dict:
    """The mean error over NannyML's, of all worlds of all sets; by set and by way in `setting`."""
    file = Path(given["rows"]).with_name("estimates_nannyml.json")
    peer = json.loads(file.read_text()) if file.is_file() else {"errors": {}, "versions": {}}
    errors: dict[str, dict[str, list[float]]] = {}
    for name in SETS:
        for (x, proba, y), (now, chance, truth) in worlds(name, given["seeds"], given["strength"], given["size"]):
            known, rows = logged(x, proba), logged(now, chance)
            realised = float((chance.argmax(1) == truth).mean())
            found = {one.way: one for one in estimate_accuracy(known, y.astype(object), rows)}
            plain = estimate_accuracy(known, y.astype(object), rows, adapt=False)[0]
            for way, one in (*found.items(), ("unweighted", plain)):
                errors.setdefault(name, {}).setdefault(way, []).append(abs(one.value - realised))
    ours = np.mean([np.mean(one["confidence"]) for one in errors.values()])
    theirs = np.mean([np.mean(one) for one in peer["errors"].values()]) if peer["errors"] else None
    said = "; ".join(
        f"{name} " + ", ".join(f"{way} {np.mean(one):.4f}" for way, one in ways.items())
        + (f", NannyML {np.mean(peer['errors'][name]):.4f}" if peer["errors"] else "") for name, ways in errors.items()
    )  # fmt: skip
    versions = {name: version(name) for name in ("jax", "scikit-learn")} | peer["versions"]
    return {"value": float(ours / theirs) if theirs else None, "setting": said, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
