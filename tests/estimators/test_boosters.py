"""Models of other libraries answer as those libraries do: from small files that they left here, and live where they are there."""

import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from arsenal_serving import model as serving
from arsenal_serving.export import export

from arsenal.estimators import boosting
from arsenal.estimators.boosters.ensemble import flat, read_rows, read_scores, sizes_of
from arsenal.estimators.trees import Sizes, pack, score_trees
from arsenal.records import Batch
from arsenal.sklearn import from_sklearn
from arsenal.sklearn.libraries import LIBRARIES

KEPT = Path(__file__).parents[1] / "kept" / "trees"


FLOAT32, FLOAT64 = {"rtol": 2e-6, "atol": 1e-7}, {"rtol": 1e-12, "atol": 1e-14}
"""To the rounding of what a library sums in."""
SIZES = Sizes(rounds=20, outputs=3, leaves=8, categories=64)
"""Of all kept files, so that one program answers to them."""
SCORE = jax.jit(score_trees)


@pytest.mark.parametrize("name", sorted(path.stem for path in KEPT.glob("*.json")))
def test_a_kept_model_answers_as_its_library_did(name):
    """`scripts/kept_trees.py` made them; each holds a trap: gaps of its library's kinds, rows on a threshold, unknown categories."""
    kept = json.loads((KEPT / f"{name}.json").read_text())
    found = LIBRARIES[kept["library"]](kept["dump"])
    sizes = SIZES if (own := sizes_of(found)).values == 1 else SIZES._replace(outputs=1, values=own.values)
    assert all(least <= there for least, there in zip(own, sizes, strict=True))
    with jax.enable_x64(True):
        base = np.append(found.base, np.zeros(sizes.outputs - len(found.base)))
        params = pack(found.trees, base, sizes, np.float64)
        scores = SCORE(params, read_rows(found, np.array(kept["x"], float)))
        got = read_scores(found, flat(scores[:, : len(found.base)]))
    for answer, wanted in kept["answers"].items():
        np.testing.assert_allclose(got[answer], np.array(wanted, float), **(FLOAT32 if found.single else FLOAT64))


def test_what_cannot_be_answered_is_refused(tmp_path):
    """In one line that says what is allowed; all but these two by the readers, as `test_live` tries."""
    def refused(library, words, **changed):
        kept = json.loads(next(KEPT.glob(f"{library}_*.json")).read_text())["dump"]
        with pytest.raises(ValueError, match=words):
            LIBRARIES[library](kept | changed)

    refused("lightgbm", "must be one of binary, .* of LightGBM's; got lambdarank", objective="lambdarank")
    refused("lightgbm", "numbers in their leaves; got linear ones", tree_info=[{"tree_structure": {"leaf_value": 0, "leaf_coeff": [1]}}])
    refused("lightgbm", "had 1 columns of categories and its trees know 0", pandas_categorical=[["a"]], feature_infos={})
    refused("catboost", "one category .`one_hot_max_size`.; got OnlineCtr", oblivious_trees=[{"splits": [{"split_type": "OnlineCtr"}], "leaf_values": [0, 1]}])
    refused("ydf", "classification or regression; got ranking", task="RANKING")
    (tmp_path / "notes.json").write_text("{}")
    for path, words in ((tmp_path / "notes.json", "must be a model that CatBoost, LightGBM, XGBoost or YDF saved"), (tmp_path / "none", "no such file")):
        with pytest.raises(ValueError, match=f"`from_sklearn` cannot convert .*{path.name}: .*{words}"):
            from_sklearn(path)


@pytest.mark.parametrize("served", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_of_words(tmp_path, served):
    """A file that CatBoost saved, read without CatBoost: numbers and words in, labels out."""
    kept = json.loads((KEPT / "catboost_words.json").read_text())
    (tmp_path / "towns.json").write_text(json.dumps(kept["dump"]))
    x = np.array(kept["x"], float)
    numbers, codes = x[:, :3], x[:, 3].astype(int)
    words = next(iter(from_sklearn(tmp_path / "towns.json").codecs.values()))["values"]
    towns = np.array([[words[code] if code >= 0 else "nowhere"] for code in codes], object)
    made = from_sklearn(tmp_path / "towns.json", np.hstack([numbers.astype(object), towns]))
    method = made.methods["predict_proba"]
    with jax.enable_x64(True):
        got = jax.jit(method.fn)(made.params, method.example)
        if served:
            export(tmp_path / "towns", made.methods, made.params, codecs=made.codecs)
            got = serving.load(tmp_path / "towns").infer("predict_proba", {"numeric": numbers, "categorical": towns})["predict_proba"]
    np.testing.assert_allclose(got, kept["answers"]["predict_proba"], atol=1e-6)


def frame(seed):
    """Numbers with gaps, words, and a target."""
    draw = np.random.default_rng(seed)
    x = pd.DataFrame({"a": draw.normal(size=400).round(2), "town": draw.choice(list("uvwxyz"), 400), "b": draw.normal(size=400)})
    score = x.a + (x.town > "w") + x.b**2 * draw.normal()
    x.loc[draw.random(400) < 0.1, "a"] = np.nan
    return x, score


def grow_lightgbm(library, x, y, labels, rounds, depth):
    kind = library.LGBMClassifier if labels else library.LGBMRegressor
    more = {} if labels else {"objective": ["gamma", "tweedie", "mape"][rounds % 3]}
    model = kind(n_estimators=rounds, num_leaves=2**depth, extra_trees=True, verbose=-1, **more).fit(x.astype({"town": "category"}), y)
    return model, getattr(model, "predict_proba" if labels else "predict")(x.astype({"town": "category"}))


def grow_xgboost(library, x, y, labels, rounds, depth):
    kind, codes = (library.XGBClassifier, np.unique(y, return_inverse=True)[1]) if labels else (library.XGBRegressor, y)
    more = {} if labels else {"objective": ["count:poisson", "reg:gamma", "reg:absoluteerror"][rounds % 3]}
    model = kind(n_estimators=rounds, max_depth=depth, enable_categorical=True, subsample=0.8, **more)
    model.fit(x.astype({"town": "category"}), codes)
    return model, getattr(model, "predict_proba" if labels else "predict")(x.astype({"town": "category"}))


def grow_catboost(library, x, y, labels, rounds, depth):
    kind = library.CatBoostClassifier if labels else library.CatBoostRegressor
    policy = ["SymmetricTree", "Depthwise", "Lossguide"][rounds % 3]
    model = kind(iterations=rounds, depth=depth, grow_policy=policy, one_hot_max_size=9, verbose=0, allow_writing_files=False)
    model.fit(x, y, cat_features=["town"])
    return model, getattr(model, "predict_proba" if labels else "predict")(x)


def grow_ydf(library, x, y, labels, rounds, depth):
    task = library.Task.CLASSIFICATION if labels else library.Task.REGRESSION
    learner = [library.GradientBoostedTreesLearner, library.RandomForestLearner][rounds % 2]
    model = learner(label="y", task=task, num_trees=rounds, max_depth=depth).train(x.assign(y=y), verbose=0)
    got = model.predict(x)
    return model, np.stack([1 - got, got], 1) if labels and got.ndim == 1 else got


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grow", [grow_lightgbm, grow_xgboost, grow_catboost, grow_ydf])
def test_live(grow, seed):
    library = pytest.importorskip(grow.__name__.removeprefix("grow_"))
    x, score = frame(seed)
    labels = seed % 3
    y = np.array(["low", "middle", "high"])[np.digitize(score, [0.5, 1.5][:labels])] if labels else np.exp(score).to_numpy()
    model, wanted = grow(library, x, y, labels, 5 + seed, 2 + seed)
    made = from_sklearn(model, x)
    method = made.methods["predict_proba" if labels else "predict"]
    with jax.enable_x64(True):
        got = method.fn(made.params, jax.tree.map(jax.numpy.asarray, method.example))
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [None, 2, 3])
@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_boosting_by_another_library(library, classes):
    """Settings, weights and categories arrive: the same answers as from the library, told them in its own words."""
    module = pytest.importorskip(library)
    x, score = frame(0)
    numbers, code = x[["a", "b"]].to_numpy(np.float32), pd.Categorical(x.town).codes.astype(np.int32)[:, None]
    y = np.exp(score).to_numpy(np.float32) if classes is None else np.digitize(score, [0.5, 1.5][: classes - 1]).astype(np.int32)
    weight = np.arange(400) % 3
    loss = "poisson" if classes is None else None
    made = boosting(classes, loss, 0.3, 2.0, rounds=4, leaves=5, min_leaf=3, library=library)
    rows = Batch({"numeric": numbers, "categorical": code}, y, weight.astype(np.float32), np.arange(400))
    made.check(rows)
    params, _ = made.fit(np.zeros(2, np.uint32), rows, {"learning_rate": np.float32(0.3), "l2": np.float32(2)})
    got = made.apply["predict" if classes is None else "predict_proba"](params, rows.x)
    whole, many = np.hstack([numbers, code]).astype(float), {} if classes != 3 else {"num_class": 3}
    there = weight > 0
    if library == "lightgbm":
        said = {"num_leaves": 5, "min_data_in_leaf": 3, "lambda_l2": 2.0, "learning_rate": float(np.float32(0.3)), "verbose": -1, "seed": 0, "deterministic": True}
        said["objective"] = {None: "poisson", 2: "binary", 3: "multiclass"}[classes]
        data = module.Dataset(whole[there], y[there], weight=weight[there], categorical_feature=[2])
        wanted = module.train(said | many, data, 4).predict(whole)
    else:
        said = {"max_leaves": 5, "grow_policy": "lossguide", "max_depth": 0, "min_child_weight": 3, "lambda": 2.0, "learning_rate": float(np.float32(0.3))}
        said["objective"] = {None: "count:poisson", 2: "binary:logistic", 3: "multi:softprob"}[classes]
        kinds = {"feature_types": ["float", "float", "c"], "enable_categorical": True}
        wanted = module.train(said | many, module.DMatrix(whole[there], y[there], weight=weight[there], **kinds), 4).predict(module.DMatrix(whole, **kinds))
    np.testing.assert_allclose(got, np.stack([1 - wanted, wanted], 1) if classes == 2 else wanted, rtol=1e-5, atol=1e-6)


def test_a_library_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("arsenal.estimators.boosters.growth.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'`library=lightgbm` of `boosting` needs lightgbm: pip install "ml-arsenal\[lightgbm\]"'):
        boosting(library="lightgbm")
