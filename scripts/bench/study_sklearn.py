"""scikit-learn's side of a study: GridSearchCV over repeated folds with two processes, its fastest solver."""

import json
import sys
import time
from importlib.metadata import version

import study_data as data
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RepeatedKFold, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(given: dict) -> dict:
    """Rates of the calls after the first, or of the first alone where `cold` says so."""
    x, y = data.rows(given["what"])
    labels = given["what"] == "logistic"
    model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky") if labels else Ridge())
    splits = (RepeatedStratifiedKFold if labels else RepeatedKFold)(n_splits=data.FOLDS, n_repeats=data.REPEATS, random_state=0)
    grid = {"logisticregression__C": 1 / data.ALPHAS} if labels else {"ridge__alpha": data.ALPHAS}
    rates, found = [], None
    for _ in range(1 if given["cold"] else 1 + given["windows"]):
        began = time.perf_counter()
        found = GridSearchCV(model, grid, cv=splits, n_jobs=2, refit=False, return_train_score=True).fit(x, y)
        rates.append(data.FITS / (time.perf_counter() - began))
    return {
        "rates": rates if given["cold"] else rates[1:], "setting": f"best {found.best_score_:.4f}",
        "versions": {name: version(name) for name in ("scikit-learn", "numpy")},
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
