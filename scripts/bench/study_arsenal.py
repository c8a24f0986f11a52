"""arsenal's side of a study: 10 folds x 5 repeats x 30 penalties as lanes of one program, and its table; float64."""

import json
import sys
import time
from importlib.metadata import version

import jax
import study_data as data

from arsenal import estimators
from arsenal.combine import after
from arsenal.data import k_fold, stratified_k_fold
from arsenal.evaluation.study import study
from arsenal.features import standardize
from arsenal.metrics import accuracy, r2_score
from arsenal.records import batch

jax.config.update("jax_enable_x64", True)


def main(given: dict) -> dict:
    """Rates of the calls after the first, or of the first alone where `cold` says so."""
    x, y = data.rows(given["what"])
    rows = batch(x=x, y=y)
    labels = given["what"] == "logistic"
    model = after(standardize(), estimators.logistic() if labels else estimators.ridge())
    splits = (stratified_k_fold if labels else k_fold)(data.FOLDS, data.REPEATS)
    metrics = {"score": accuracy() if labels else r2_score()}
    grid = {"alpha": data.ALPHAS.tolist()}
    rates, found = [], None
    for _ in range(1 if given["cold"] else 1 + given["windows"]):
        began = time.perf_counter()
        found = study(model, rows, splits, metrics, grid, lanes=data.FOLDS * data.REPEATS)
        rates.append(data.FITS / (time.perf_counter() - began))
    best = found.leaderboard().iloc[0]
    return {
        "rates": rates if given["cold"] else rates[1:], "setting": f"best {best['mean']:.4f} at alpha {best['alpha']:.3g}",
        "versions": {name: version(name) for name in ("jax", "numpy")},
    }  # fmt: skip


if __name__ == "__main__":
    if json.loads(sys.argv[1])["cold"]:
        jax.config.update("jax_enable_compilation_cache", False)
    print(json.dumps(main(json.loads(sys.argv[1]))))
