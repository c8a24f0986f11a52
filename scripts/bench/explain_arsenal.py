"""arsenal's side of explanation: compiled programs over rows, coalitions and repeats, of the same models."""

import json
import sys

import explain_data as data
import jax
import jax.numpy as jnp
import numpy as np

from arsenal.estimators.boosters import answers_of
from arsenal.estimators.boosters.histograms import read_histograms
from arsenal.evaluation import explain
from arsenal.evaluation.explain.tree_shapley import read_paths, share_by_background, share_by_paths
from arsenal.metrics import accuracy
from arsenal.records import batch

KEY = jax.random.key(0)


def weights():
    """Slope and intercept of scikit-learn's model."""
    model = data.line()
    return jnp.asarray(model.coef_[0], jnp.float32), jnp.float32(model.intercept_[0])


def kernel():
    """Values of 100 rows of 30 columns against 100."""
    x, _ = data.cells()
    rows, background = batch(x=x[: data.ROWS]), batch(x=x[-data.BACKGROUND :])
    answer = lambda line, x: jax.nn.sigmoid(x @ line[0] + line[1])  # noqa: E731
    program = jax.jit(lambda line: explain.kernel_shapley(KEY, answer, line, rows, background).values)
    line = weights()
    return lambda: np.abs(np.asarray(program(line))).mean(), data.ROWS


def trees(kind):
    """Values of 1,000 rows of 100 trees, whose paths were read before, as the library's explainer does too."""

    def make():
        x, model = data.grown()
        params = answers_of(read_histograms(model))[1]
        background = batch(x=x[:100] if kind == "interventional" else x)
        rows = batch(x=x[: data.TREE_ROWS])
        paths = read_paths(params, background)
        against = lambda paths, x: share_by_background(paths, x, background)  # noqa: E731
        program = jax.jit(share_by_paths if kind == "path_dependent" else against)
        return lambda: np.abs(np.asarray(program(paths, rows.x))).mean(), data.TREE_ROWS

    return make


def permutation():
    """30 columns, 30 times each, by accuracy."""
    x, y = data.cells()
    rows = batch(x=x, y=y)
    answer = lambda line, x: {"predict": (x @ line[0] + line[1] > 0).astype(jnp.int32)}  # noqa: E731
    program = jax.jit(
        lambda line, rows: explain.permutation_importance(KEY, answer, line, rows, accuracy(), repeats=data.REPEATS).mean
    )
    line = weights()
    return lambda: np.asarray(program(line, rows)).max(), data.FEATURES * data.REPEATS


JOBS = {
    "kernel": kernel, "permutation": permutation,
    "tree_paths": trees("path_dependent"), "tree_background": trees("interventional"),
}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(data.measure(JOBS, json.loads(sys.argv[1]), ("jax", "numpy"))))
