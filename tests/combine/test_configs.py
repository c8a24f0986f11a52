"""Combinators in configs: nested factories know the data's labels, the run is evaluated, exported and served like any other."""

import jax
import numpy as np
import pytest

from arsenal.config import ConfigError
from arsenal.data.dataset import Schema, Tensor
from arsenal.experiment import parts
from arsenal.records import batch, hyperparameters
from arsenal.road import compose

LABELS = Schema({}, Tensor(columns=["a", "b", "c"]), {})
TREE = "{_target_: arsenal.estimators.tree, leaves: 4}"
BAYES = "{_target_: arsenal.estimators.gaussian_bayes, smoothing: 0.01}"
NODES = {
    "ada_boost": f"estimator: {BAYES}, rounds: 3",
    "bagging": f"estimator: {TREE}, members: 2",
    "calibrated": f"estimator: {TREE}, method: isotonic",
    "conformal": f"estimator: {BAYES}, folds: 3, by_class: true",
    "crossfit": f"estimator: {BAYES}",
    "gradient_boosting": "estimator: {_target_: arsenal.estimators.tree, leaves: 4, schema: null}, rounds: 3",
    "one_vs_one": "estimator: {_target_: arsenal.estimators.gaussian_bayes, classes: 2}",
    "one_vs_rest": "estimator: {_target_: arsenal.estimators.logistic, classes: 2}",
    "stacking": f"estimators: {{a: {TREE}, b: {BAYES}}}, final: {{_target_: arsenal.estimators.logistic}}",
    "voting": f"estimators: [{TREE}, {BAYES}], weights: [1.0, 2.0]",
}


def build(node, schema=LABELS):
    """The learner of a config that says this, with the data's schema."""
    config = compose("breast_cancer_logistic", ["~estimator", f"learner={{{node}}}"])
    parts(config)  # without the data, as the road does first
    return parts(config, schema).learner


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
def test_a_nested_factory_knows_the_labels(name):
    learner = build(f"_target_: arsenal.combine.{name}, {NODES[name]}")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    rows = batch(x=(rng.normal(size=(60, 2)) * 0.3 + y[:, None]).astype(np.float32), y=y)
    learner.check(rows)
    hp, key = hyperparameters(learner.hp), jax.random.key(0)
    state = learner.init(key, rows, hp)
    state, _ = jax.jit(learner.step)(key, state, rows, hp)
    answers = {one: np.asarray(f(learner.params(state), rows.x)) for one, f in learner.apply.items()}
    assert answers["predict"].dtype == np.int32 and (answers["predict"] == y).mean() > 0.8
    for shape in (answers[one].shape for one in ("predict_proba", "prediction_set") if one in answers):
        assert shape == (60, 3)


def test_what_a_config_says_wrong_is_said():
    with pytest.raises(ConfigError, match=r"`learner\.method`.* must be 'platt', 'isotonic', 'temperature' or 'venn_abers'"):
        build(f"_target_: arsenal.combine.calibrated, estimator: {TREE}, method: plat")
    learner = build(f"_target_: arsenal.combine.calibrated, estimator: {TREE}", Schema())
    with pytest.raises(ValueError, match="`estimator` of `calibrated` must answer decision_function or predict_proba; it answers predict"):
        learner.check(batch(x=np.ones((20, 1)), y=np.ones(20)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calibrated", "stacking", "bagging"])
def test_an_option_is_a_run_like_any_other(tmp_path, name):
    from arsenal_serving.model import load as served

    from arsenal.road import evaluate, export, fit, load

    words = [f"estimator={name}", f"run.root={tmp_path}"]
    run = fit(compose("breast_cancer_boosting", words))
    assert evaluate(load(run.folder))["test/accuracy"] > 0.9
    assert not run.unmet
    rows = run.kept[1].x
    given = run.predict(rows)["predict"].tolist()
    assert served(export(run)).infer("predict", {"x": np.asarray(rows)})["predict"].tolist() == given
