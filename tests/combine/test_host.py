"""An estimator that fits on the host goes through the driver, checkpoints, the report and the artifact like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forest import forest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

from arsenal import estimators, features
from arsenal.combine import after, whole
from arsenal.data import arrays
from arsenal.records import batch
from arsenal.testing import check
from arsenal.training import advance, start

X, Y = load_breast_cancer(return_X_y=True)
X = X.astype(np.float32)[:200]
ROWS = batch(x=X, y=Y[:200])


def trained(estimator, rows=ROWS):
    learner, source = whole(estimator), arrays(rows, None)
    train, *_ = advance(learner, source)(start(learner, source, 0), source.block(0, 1), jnp.int32(1))
    return learner, learner.params(train.state)


def test_the_answers_are_those_of_scikit_learn():
    learner, params = trained(forest())
    # The words of the key that the step was given are the fit's; the last one is its seed.
    from jax.random import fold_in, key_data

    from arsenal.training.driver import streams

    seed = int(key_data(fold_in(streams(jax.random.key(0))["step"], 0))[-1])
    peer = RandomForestClassifier(5, max_depth=3, random_state=seed).fit(X, Y[:200], np.ones(200))
    np.testing.assert_allclose(learner.apply["predict_proba"](params, X), peer.predict_proba(X), atol=1e-6)


def test_it_obeys_the_laws():
    check(forest(), batch(x=X[:40], y=Y[:40]))


def test_transforms_and_lanes_take_it_too():
    rows = batch(x=X[:60], y=Y[:60])
    made = after(features.standardize(), forest())
    learner, params = trained(made, rows)
    assert (learner.apply["predict"](params, X[:60]) == Y[:60]).mean() > 0.9
    both = jax.vmap(lambda least: made.fit(jax.random.key(0), rows, {"least": least})[1].nodes)(jnp.array([0.0, 10.0]))
    assert both[0] > both[1] == 5, "With a decrease that no cut reaches a tree is its root."


def test_what_the_host_does_not_say_is_refused():
    with pytest.raises(ValueError, match="must say the `shapes` of what it learns"):
        whole(forest()._replace(shapes=None))
    small = forest(depth=2)
    with pytest.raises(Exception, match=r"gave `\[0\]\.feature` the shape \(5, 15\); its `shapes` say \(5, 7\)"):
        trained(forest()._replace(shapes=small.shapes))
    assert whole(estimators.ridge()).exempt == {}


@pytest.mark.slow
def test_it_is_a_run_like_any_other(tmp_path):
    from arsenal_serving.model import load as served

    from arsenal.road import compose, evaluate, export, fit, load

    words = ["trusted=[forest]", "~estimator", "learner={_target_: forest.forest, trees: 20, depth: 4}", "~expect", "+expect={}"]
    config = compose("breast_cancer_logistic", [*words, f"run.root={tmp_path}"])
    run = fit(config)
    assert evaluate(load(run.folder))["test/accuracy"] > 0.9
    assert (run.folder / "report" / "index.html").is_file()
    rows = run.kept[1].x
    given = run.predict(rows)["predict"].tolist()
    assert served(export(run)).infer("predict", {"x": np.asarray(rows)})["predict"].tolist() == given
