"""Make `tests/kept/explanations` anew: Shapley values as the library `shap` has them, beside rows, models and backgrounds.

    pip install shap xgboost lightgbm scikit-learn; PYTHONPATH=. python scripts/kept_explanations.py
"""

import json
from pathlib import Path

import numpy as np
import shap

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "explanations"


def kept(name, **said):
    """Write one file, None for NaN."""

    def plain(value):
        value = np.asarray(value)
        return np.where(np.isnan(value), None, value.astype(object)).tolist() if value.dtype.kind == "f" else value.tolist()

    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    said = {key: one if isinstance(one, dict) else plain(one) for key, one in said.items()}
    path.write_text(json.dumps(said, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def kernel():
    """A smooth function of 6 columns, all coalitions; of 15, those that 2 * 15 + 2048 allow, without a penalty."""
    for name, count in (("kernel_all", 6), ("kernel_some", 15)):
        draw = np.random.default_rng(0)
        x, others, slope = draw.normal(size=(4, count)), draw.normal(size=(10, count)), draw.normal(size=count) / np.sqrt(count)
        x, others, slope = (np.round(part, 3) for part in (x, others, slope))

        def answer(x, slope=slope):
            return 1 / (1 + np.exp(-(x @ slope + np.sin(3 * x[:, 0]) * x[:, 1])))

        found = shap.KernelExplainer(answer, others)
        np.random.seed(0)
        values = found.shap_values(x, l1_reg=False, silent=True)
        kept(name, x=x, background=others, slope=slope, base=found.expected_value, values=values)


def rows(n=300):
    """Numbers, gaps and a column of 12 categories, and what is learned of them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 5)).round(2)
    x[:, 4] = draw.integers(0, 12, n)
    score = x[:, 0] + x[:, 1] * (x[:, 2] > 0) + np.sin(7 * x[:, 4])
    gaps = x.copy()
    gaps[:, :4][draw.random((n, 4)) < 0.1] = np.nan
    return x, gaps, score


def xgboost():
    """Gaps; squared errors, whose covers are numbers of rows."""
    import xgboost as library

    _, x, score = rows()
    settings = {"max_depth": 4, "nthread": 1, "objective": "reg:squarederror", "base_score": 0.5}
    model = library.train(settings, library.DMatrix(x, score), 5)
    dump = json.loads(bytes(model.save_raw("json")))
    paths, against = shap.TreeExplainer(model), shap.TreeExplainer(model, x[:20])
    kept(
        "trees_xgboost", dump=dump, x=x[:15], training=x,
        path_dependent=paths.shap_values(x[:15]), path_base=paths.expected_value,
        interventional=against.shap_values(x[:15]), base=against.expected_value,
    )  # fmt: skip


def lightgbm():
    """Gaps and categories, along paths, by LightGBM's own numbers of rows."""
    import lightgbm as library

    _, x, score = rows()
    settings = {
        "num_leaves": 7, "min_data_in_leaf": 5, "verbose": -1, "min_data_per_group": 5, "num_threads": 1,
        "objective": "regression",
    }  # fmt: skip
    model = library.train(settings, library.Dataset(x, score, categorical_feature=[4]), 5)
    paths = model.predict(x[:15], pred_contrib=True)
    kept("trees_lightgbm", dump=model.dump_model(), x=x[:15], training=x, path_dependent=paths[:, :-1], path_base=paths[0, -1])


def forests():
    """scikit-learn's forests without resampling, of classes, and boosting."""
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier

    x, _, score = rows(120)
    x = x.astype(np.float32)
    three = np.digitize(score, [-0.7, 0.7])
    for name, model, y in (
        ("forest", RandomForestClassifier(3, max_leaf_nodes=12, bootstrap=False, max_features=2, random_state=0), three),
        ("boosting", GradientBoostingRegressor(n_estimators=4, max_depth=3, random_state=0), score),
    ):
        model.fit(x, y)
        paths, against = shap.TreeExplainer(model), shap.TreeExplainer(model, x[:20])
        kept(
            f"trees_{name}", x=x[:15], training=x, y=y, path_dependent=paths.shap_values(x[:15]), path_base=paths.expected_value,
            interventional=against.shap_values(x[:15]), base=against.expected_value,
        )  # fmt: skip


if __name__ == "__main__":
    for make in (kernel, xgboost, lightgbm, forests):
        make()
