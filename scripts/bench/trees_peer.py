"""A library's own prediction of 100,000 rows by its boosted trees; asked to, it grows them and leaves them to both sides."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

LEARNED, ASKED, FEATURES = 20_000, 100_000, 20


def table() -> tuple[np.ndarray, np.ndarray]:
    """Rows in float32, one value in fifty missing, and what is learned of them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ASKED, FEATURES)).astype(np.float32)
    y = 2 * x[:, 0] + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.1 * draw.normal(size=ASKED)
    x[draw.random(x.shape) < 0.02] = np.nan
    return x, y


def paths(given: dict) -> Path:
    """Where the fitted model lies, beside the rows of the other figures."""
    ending = {"lightgbm": "txt", "xgboost": "json"}[given["library"]]
    return Path(given["rows"]).with_name(f"trees-{given['library']}-{given['trees']}.{ending}")


def histograms(given: dict):
    """scikit-learn's model, which has no file of its own: both sides grow it, the same to the bit."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = table()
    return HistGradientBoostingRegressor(
        max_iter=given["trees"], max_leaf_nodes=given["leaves"], max_depth=given["depth"] or None, min_samples_leaf=5,
        early_stopping=False, random_state=0,
    ).fit(x[:LEARNED], y[:LEARNED])  # fmt: skip


def grow(given: dict) -> None:
    """Grow the trees with LightGBM or XGBoost and save them."""
    x, y = table()
    x, y = x[:LEARNED], y[:LEARNED]
    trees, leaves, depth, threads = given["trees"], given["leaves"], given["depth"], given["threads"]
    if given["library"] == "lightgbm":
        import lightgbm

        said = {"num_leaves": leaves, "max_depth": depth or -1, "num_threads": threads, "verbose": -1, "min_data_in_leaf": 5}
        model = lightgbm.train(said, lightgbm.Dataset(x, y), trees)
        paths(given).with_suffix(".json").write_text(json.dumps(model.dump_model()))
        model.save_model(paths(given))
    elif given["library"] == "xgboost":
        import xgboost

        said = {"max_leaves": leaves, "max_depth": depth, "grow_policy": "lossguide", "nthread": threads}
        xgboost.train(said, xgboost.DMatrix(x, y), trees).save_model(paths(given))


def ways(given: dict, x: np.ndarray) -> dict:
    """How its users predict, by name."""
    if given["library"] == "lightgbm":
        import lightgbm

        model, wide = lightgbm.Booster(model_file=paths(given)), x.astype(float)
        return {
            "float32": lambda: model.predict(x, num_threads=given["threads"]),
            "float64": lambda: model.predict(wide, num_threads=given["threads"]),
        }
    if given["library"] == "xgboost":
        import xgboost

        booster = xgboost.Booster({"nthread": given["threads"]}, model_file=paths(given))
        return {"inplace_predict": lambda: booster.inplace_predict(x), "DMatrix": lambda: booster.predict(xgboost.DMatrix(x))}
    hist, wide = histograms(given), x.astype(float)
    return {"float32": lambda: hist.predict(x), "float64": lambda: hist.predict(wide)}


def rates(answer, times: int) -> list[float]:
    """Rows a second, time after time, the first not counted."""
    answer()
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        answer()
        found.append(ASKED / (time.perf_counter() - begun))
    return found


def main(given: dict) -> dict:
    """Grow, or predict in the way that is the fastest here."""
    if given.get("grow"):
        grow(given)
        return {}
    x, y = table()
    known = ways(given, x)
    tried = {name: max(rates(one, 2)) for name, one in known.items()}
    best = max(tried, key=tried.__getitem__)
    package = {"xgboost": "xgboost-cpu"}.get(given["library"], given["library"])
    return {
        "rates": rates(known[best], given["times"]),
        "loss": float(np.mean((known[best]() - y) ** 2)),
        "setting": best,
        "tried": {name: round(rate) for name, rate in tried.items()},
        "versions": {package: version(package)},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
