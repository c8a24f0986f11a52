"""The passenger list as scikit-learn people serve it: `serve_fastapi.py PORT FILE`, a pipeline behind FastAPI and uvicorn."""

import sys

import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

NUMBERS, WORDS = ["pclass", "age", "sibsp", "parch", "fare"], ["sex", "ticket", "cabin", "embarked"]


class Passenger(BaseModel):
    """A record; what it does not say is missing."""

    pclass: float | None = None
    age: float | None = None
    sibsp: float | None = None
    parch: float | None = None
    fare: float | None = None
    sex: str | None = None
    ticket: str | None = None
    cabin: str | None = None
    embarked: str | None = None


def fitted(path: str):
    """Ordinal codes for words, boosted trees behind them."""
    table = pd.read_csv(path)
    table.columns = table.columns.str.lower()
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1, max_categories=200
    )
    columns = make_column_transformer((codes, make_column_selector(dtype_include=object)), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))
    return model.fit(table[NUMBERS + WORDS].astype(dict.fromkeys(WORDS, object)), table["survived"])


app = FastAPI()
MODEL = fitted(sys.argv[2]) if len(sys.argv) > 2 else None


@app.post("/predict")
def predict(passenger: Passenger) -> dict[str, float]:
    """The chance of survival."""
    row = pd.DataFrame([passenger.model_dump()])
    row[NUMBERS] = row[NUMBERS].astype(float)
    row[WORDS] = row[WORDS].astype(object)
    return {"survived": float(MODEL.predict_proba(row)[0, 1])}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False, log_level="warning")
