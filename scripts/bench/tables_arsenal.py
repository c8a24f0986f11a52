"""Many fits of one table as one compiled program, float64: a path of penalties over folds, resamples, restarts."""

import json
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import tables_data as data

from arsenal import estimators
from arsenal.combine import after
from arsenal.features import standardize
from arsenal.records import Batch

jax.config.update("jax_enable_x64", True)
KEY = jax.random.key(0)


def rows_of(x, y, weight) -> Batch:
    """Rows with weights, ids in order."""
    return Batch(jnp.asarray(x), None if y is None else jnp.asarray(y), weight, jnp.arange(len(x), dtype=jnp.int32))


def path():
    """Accuracy on the held-out fold of every C, one program over folds and values."""
    x, y = data.breast_cancer()
    model = after(standardize(), estimators.logistic())

    def score(train, alpha):
        rows = rows_of(x, y, train)
        params, _ = model.fit(KEY, rows, model.hp | {"alpha": alpha})
        right = model.apply["predict"](params, rows.x) == rows.y
        return (right * (1 - train)).sum() / (1 - train).sum()

    program = jax.jit(jax.vmap(jax.vmap(score, (None, 0)), (0, None)))
    train, alphas = jnp.asarray(1.0 - data.held_out(y)), jnp.asarray(1 / data.C)

    def fit():
        mean = np.asarray(program(train, alphas)).mean(0)
        return f"best accuracy {mean.max():.4f} at C {data.C[mean.argmax()]:.3g}"

    return fit, train.shape[0] * alphas.size


def bootstrap(estimator, x, y):
    """The slopes of resamples, which are weights."""
    weight = jnp.asarray(data.resamples(len(x)))
    hp = jax.tree.map(jnp.asarray, estimator.hp)
    program = jax.jit(jax.vmap(lambda weight: estimator.fit(KEY, rows_of(x, y, weight), hp)[0].slope))

    def fit():
        return f"mean spread of a slope {float(program(weight).std(0).mean()):.6g}"

    return fit, len(weight)


def clusters():
    """Ten restarts of every number of clusters."""
    x = data.digits()
    programs = []
    for k in data.CLUSTERS:
        made = estimators.kmeans(k, restarts=10)
        programs.append(jax.jit(lambda key, made=made: made.fit(key, rows_of(x, None, jnp.ones(len(x))), made.hp)[1].inertia))

    def fit():
        return f"inertia, summed, {sum(float(one(KEY)) for one in programs):,.0f}"

    return fit, 10 * len(programs)


def mixtures():
    """Five restarts of every number of components, diagonal."""
    x = data.digits()
    programs = []
    for k in data.COMPONENTS:
        made = estimators.gaussian_mixture(k, covariance="diag", restarts=5, regularization=1e-2)
        programs.append(
            jax.jit(lambda key, made=made: made.fit(key, rows_of(x, None, jnp.ones(len(x))), made.hp)[1].log_likelihood)
        )

    def fit():
        return f"log-likelihood of a row, mean, {np.mean([float(one(KEY)) for one in programs]):.4g}"

    return fit, 5 * len(programs)


JOBS = {
    "path": path, "kmeans": clusters, "mixture": mixtures,
    "ridge": lambda: bootstrap(estimators.ridge(), *data.diabetes()),
    "logistic": lambda: bootstrap(estimators.logistic(), *data.breast_cancer(scaled=True)),
}  # fmt: skip


def main(given: dict) -> dict:
    """Rates of the windows after the first; of the first alone where it is asked for cold."""
    began = time.perf_counter()
    fit, fits = JOBS[given["what"]]()
    found = fit()
    first = fits / (time.perf_counter() - began)
    rates = [first] if given["cold"] else []
    while len(rates) < given["windows"] and not given["cold"]:
        began = time.perf_counter()
        fit()
        rates.append(fits / (time.perf_counter() - began))
    versions = {name: version(name) for name in ("jax", "numpy")}
    return {"rates": rates, "setting": f"{found}; first call {fits / first:.2f} s", "versions": versions}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
