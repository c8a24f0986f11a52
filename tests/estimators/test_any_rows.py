"""Answers of what is learned without labels are exported for any number of rows, as artifacts are."""

import jax
import numpy as np
import pytest
from jax import export

from arsenal import estimators as ours
from arsenal.combine.whole import trace_host
from arsenal.records import batch, hyperparameters

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
MAKE = {
    "bayesian_mixture": lambda: ours.bayesian_mixture(2),
    "dbscan": lambda: ours.dbscan(1.0),
    "gaussian_mixture": lambda: ours.gaussian_mixture(2),
    "isolation_forest": lambda: ours.isolation_forest(3, 9),
    "kernel_density": lambda: ours.kernel_density(),
    "local_outlier": lambda: ours.local_outlier(4),
    "mahalanobis": lambda: ours.mahalanobis(),
    "mean_shift": lambda: ours.mean_shift(1.5),
}


@pytest.mark.parametrize("name", MAKE)
def test_answers_take_any_number_of_rows(name):
    estimator = trace_host(MAKE[name]())
    like, _ = jax.eval_shape(lambda rows: estimator.fit(jax.random.key(0), rows, hyperparameters(estimator.hp)), batch(x=X))
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("n, 3"), np.float32)
    for answer in estimator.apply.values():
        assert len(export.export(jax.jit(answer))(like, rows).out_avals[0].shape) >= 1
