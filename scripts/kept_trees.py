"""Make `tests/kept/trees` anew: small fitted models of other libraries, as they dump them, beside rows and their answers.

    pip install lightgbm xgboost catboost ydf scikit-learn pandas; PYTHONPATH=. python scripts/kept_trees.py

Each file is a trap: what one library does and another does not.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "kept" / "trees"
READ = {
    "lightgbm": {
        "average_output", "decision_type", "default_left", "feature_infos", "feature_names", "leaf_value", "left_child",
        "max_feature_idx", "missing_type", "num_tree_per_iteration", "objective", "pandas_categorical", "right_child",
        "split_feature", "threshold", "tree_info", "tree_structure", "values",
    },
    "catboost": {
        "bias", "border", "cat_feature_index", "cat_features_hash", "categorical_features", "class_names", "class_params",
        "feature_index", "feature_name", "features_info", "flat_feature_index", "float_feature_index", "float_features", "hash",
        "leaf_values", "left", "loss_function", "model_info", "nan_value_treatment", "oblivious_trees", "params", "right",
        "scale_and_bias", "split", "split_type", "splits", "trees", "type", "value", "values",
    },
    "xgboost": {
        "attributes", "base_score", "best_iteration", "categories", "categories_nodes", "cats", "enc", "offsets", "values",
        "categories_segments", "categories_sizes", "default_left", "feature_names", "gbtree", "gradient_booster",
        "iteration_indptr", "learner",
        "learner_model_param", "left_children", "model", "name", "num_class", "num_feature", "num_target", "objective",
        "right_children", "scikit_learn", "size_leaf_vector", "split_conditions", "split_indices", "tree_info", "tree_param",
        "trees", "weight_drop",
    },
}  # fmt: skip
"""The keys of a dump that arsenal reads; the others make the files five times as long."""


def rows(n=300):
    """Numbers on a grid, so that they equal thresholds; zeros, gaps; a category; and what is learned of them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 4)).round(1)
    x[draw.random(x.shape) < 0.15] = 0
    x[:, 3] = draw.integers(0, 40, n)
    whole = x.copy()
    x[:, :3][draw.random((n, 3)) < 0.1] = np.nan
    score = whole[:, 0] + whole[:, 1] * (whole[:, 2] > 0) + np.sin(7 * whole[:, 3])
    return whole, x, score


def asked(x):
    """Rows to answer: some of those learned from, gaps everywhere, extremes, categories that nobody has seen."""
    more = np.array([
        [np.nan] * 4, [0, 0, 0, 0], [0, 0, 0, -1], [1e-36, -1e-36, 1e-34, 77], [1e30, -1e30, 1e30, np.nan], [0.1, 0.1, 0.1, 39.0],
        [np.float32(0.1), np.nextafter(0.1, 1), np.nextafter(np.float32(0.1), np.float32(1)), 1000],
    ])  # fmt: skip
    return np.vstack([x[:23], more])


def kept(name, library, dump, x, **answers):
    """Write one file."""
    if library in READ:
        dump = prune(dump, READ[library])
    said = {"library": library, "dump": dump, "x": numbers(x), "answers": {key: numbers(value) for key, value in answers.items()}}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{library}_{name}.json"
    path.write_text(json.dumps(said, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def numbers(value):
    """An array as lists, None for NaN."""
    value = np.asarray(value, float)
    return np.where(np.isnan(value), None, value.astype(object)).tolist()


def prune(value, keys):
    """A dump without the keys that are not read."""
    if isinstance(value, list):
        return [prune(one, keys) for one in value]
    if isinstance(value, dict):
        return {key: prune(one, keys) for key, one in value.items() if key in keys}
    return value


def lightgbm():
    """Missing values of three kinds, categories, averages, dropped trees, links."""
    import lightgbm as library

    whole, gaps, score = rows()
    small = {"num_leaves": 6, "min_data_in_leaf": 5, "verbose": -1, "min_data_per_group": 5, "num_threads": 1}

    def grow(name, y, x=gaps, count=3, classes=False, categorical=(3,), **more):
        data = library.Dataset(x, y, categorical_feature=list(categorical))
        model = library.train(small | more, data, count)
        got = model.predict(asked(x))
        if classes:
            got = np.stack([1 - got, got], 1) if got.ndim == 1 else got
        kept(name, "lightgbm", model.dump_model(), asked(x), **{"predict_proba" if classes else "predict": got})

    label, three, positive = (score > 0).astype(int), np.digitize(score, [-0.7, 0.7]), np.exp(score)
    grow("gaps_and_categories", label, classes=True, objective="binary")
    grow("no_gaps_seen", score, whole, objective="regression", categorical=())
    grow("zero_as_missing", score, objective="quantile", alpha=0.7, zero_as_missing=True)
    grow("classes", three, count=2, classes=True, objective="multiclass", num_class=3)
    grow("one_against_all", three, count=2, classes=True, objective="multiclassova", num_class=3, sigmoid=2.0)
    grow("dropped_trees", positive.round(), count=6, objective="poisson", boosting="dart", drop_rate=0.5)
    grow("averaged", label, classes=True, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5)
    grow("root", positive, objective="regression", reg_sqrt=True)


def xgboost():
    """Less than in float32, directions of gaps, categories, base scores of every link, parallel and dropped trees."""
    import xgboost as library

    _, gaps, score = rows()
    types = ["float", "float", "float", "c"]
    small = {"max_depth": 3, "nthread": 1, "max_cat_to_onehot": 4}

    def frame(x, y=None):
        return library.DMatrix(x, y, feature_types=types, enable_categorical=True)

    def grow(name, y, count=3, classes=False, **more):
        model = library.train(small | more, frame(gaps, y), count)
        x = asked(gaps)
        got = model.predict(frame(x))
        if classes:
            got = np.stack([1 - got, got], 1) if got.ndim == 1 else got
        kept(name, "xgboost", json.loads(bytes(model.save_raw("json"))), x, **{"predict_proba" if classes else "predict": got})

    label, three, positive = (score > 0).astype(int), np.digitize(score, [-0.7, 0.7]), np.exp(score)
    grow("gaps_and_categories", label, classes=True, objective="binary:logistic", base_score=0.3)
    many = {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.7}
    grow("parallel_classes", three, count=2, classes=True, **many)
    grow("dropped_trees", positive, count=6, objective="reg:gamma", booster="dart", rate_drop=0.5)
    grow("counts", positive.round(), objective="count:poisson")
    grow("tweedie", positive, objective="reg:tweedie")
    grow("quantile", score, objective="reg:quantileerror", quantile_alpha=0.7)
    model = library.XGBRegressor(n_estimators=60, max_depth=3, early_stopping_rounds=2, learning_rate=0.9, n_jobs=1)
    model.fit(gaps[:150], score[:150], eval_set=[(gaps[150:], score[150:])], verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        model.save_model(Path(folder) / "model.json")
        dump = json.loads((Path(folder) / "model.json").read_bytes())
    kept("stopped_early", "xgboost", dump, asked(gaps), predict=model.predict(asked(gaps)))


def catboost():
    """Symmetric trees and others, gaps on either side, categories one by one, classes."""
    import catboost as library

    _, gaps, score = rows()
    x = asked(gaps)
    small = {"depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1, "learning_rate": 0.5}

    def dump(model, pool=None):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            model.save_model(str(path), format="json", pool=pool)
            return json.loads(path.read_bytes())

    def words(x):
        return [[*row[:3], "none" if np.isnan(row[3]) else f"town {row[3]:.0f}"] for row in np.asarray(x, object)]

    def grow(name, kind, y, count=3, table=None, **more):
        model = getattr(library, kind)(iterations=count, **small | more)
        classes = kind == "CatBoostClassifier"
        if table is None:
            model.fit(gaps[:, :3], y)
            got, said, given = (model.predict_proba if classes else model.predict)(x[:, :3]), dump(model), x[:, :3]
        else:
            pool = library.Pool(table(gaps), y, cat_features=[3])
            model.fit(pool)
            got, said, given = model.predict_proba(table(x)), dump(model, pool), x
            known = sorted(
                one["value"] for one in said["features_info"]["cat_features_hash"]
                if any((one["hash"] - value) % 2**32 == 0 for value in said["features_info"]["categorical_features"][0]["values"])
            )  # fmt: skip
            code = {word: at for at, word in enumerate(known)}
            given = np.column_stack([x[:, :3], [code.get(row[3], -1) for row in table(x)]])
        kept(name, "catboost", said, given, **{"predict_proba" if classes else "predict": got})

    label, three, positive = (score > 0).astype(int), np.digitize(score, [-0.7, 0.7]), np.exp(score)
    grow("gaps", "CatBoostClassifier", label)
    grow("gaps_high", "CatBoostRegressor", score, nan_mode="Max", loss_function="RMSE")
    grow("words", "CatBoostClassifier", three, 2, words, one_hot_max_size=50)
    grow("by_loss", "CatBoostRegressor", positive.round(), loss_function="Poisson", grow_policy="Lossguide", max_leaves=6)
    grow("classes_by_depth", "CatBoostClassifier", three, 2, grow_policy="Depthwise")


def ydf():
    """At least in float32, sets of words with and without the unknown, gaps, truth values, votes, classes."""
    import pandas as pd
    import ydf as library

    from arsenal.estimators.boosters.ydf import dump_ydf

    library.verbose(0)
    _, gaps, score = rows()

    def table(x, y=None):
        made = {f"f{i}": x[:, i].astype(np.float32) for i in range(3)}
        made["town"] = [None if np.isnan(one) else f"town {one:.0f}" for one in x[:, 3]]
        made["warm"] = x[:, 0] > 0
        return pd.DataFrame(made | ({} if y is None else {"y": y}))

    def grow(name, learner, y, task, **more):
        given = {"label": "y", "task": getattr(library.Task, task), "num_threads": 1, "min_vocab_frequency": 2}
        model = getattr(library, learner)(**given | more).train(table(gaps, y))
        given, said = table(asked(gaps)), dump_ydf(model)
        got = model.predict(given)
        if task == "CLASSIFICATION":
            got = np.stack([1 - got, got], 1) if got.ndim == 1 else got
        known = next(one["words"] for one in said["features"] if one["name"] == "town")
        towns = [np.nan if pd.isna(one) else known.index(one) if one in known else -1 for one in given["town"]]
        x = np.column_stack([*(given[f"f{i}"] for i in range(3)), towns, given["warm"]])
        kept(name, "ydf", said, x, **{"predict_proba" if task == "CLASSIFICATION" else "predict": got})

    label, three = np.where(score > 0, "yes", "no"), np.array(["a", "b", "c"])[np.digitize(score, [-0.7, 0.7])]
    boosted = {"num_trees": 3, "max_depth": 4, "validation_ratio": 0.0}
    grow("words", "GradientBoostedTreesLearner", label, "CLASSIFICATION", **boosted)
    grow("classes", "GradientBoostedTreesLearner", three, "CLASSIFICATION", **boosted | {"num_trees": 2, "max_depth": 3})
    grow("gaps_by_themselves", "GradientBoostedTreesLearner", score, "REGRESSION", allow_na_conditions=True, **boosted)
    grow("votes", "RandomForestLearner", three, "CLASSIFICATION", num_trees=3, max_depth=4)
    grow("forest", "RandomForestLearner", score, "REGRESSION", num_trees=3, max_depth=4)


if __name__ == "__main__":
    for make in (lightgbm, xgboost, catboost, ydf):
        make()
