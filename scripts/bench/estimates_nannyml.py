"""NannyML's confidence-based estimates of accuracies that nobody counted, beside what they were."""

import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from estimates_data import SETS, worlds


def table(proba: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Rows as NannyML takes them."""
    made = pd.DataFrame({f"p{k}": proba[:, k] for k in range(proba.shape[1])})
    return made.assign(answer=proba.argmax(1).astype(int), truth=y)


def main(given: dict) -> dict:
    """The errors of all worlds, by set."""
    from nannyml import CBPE

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    errors = {}
    for name in SETS:
        errors[name] = []
        for known, came in worlds(name, given["seeds"], given["strength"], given["size"]):
            before, now = table(*known[1:]), table(*came[1:])
            classes = known[1].shape[1]
            proba = "p1" if classes == 2 else {k: f"p{k}" for k in range(classes)}
            kind = "classification_binary" if classes == 2 else "classification_multiclass"
            made = CBPE(
                metrics=["accuracy"], y_pred_proba=proba, y_pred="answer", y_true="truth", problem_type=kind,
                chunk_size=len(now),
            )  # fmt: skip
            frame = made.fit(before).estimate(now.drop(columns="truth")).filter(period="analysis").to_df()
            value = float(frame[("accuracy", "value")].iloc[-1])
            errors[name].append(abs(value - float((now.answer == now.truth).mean())))
    said = {"errors": errors, "versions": {"nannyml": version("nannyml")}}
    Path(given["rows"]).with_name("estimates_nannyml.json").write_text(json.dumps(said))
    return said


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
