"""The libraries' own explanations: kernel and tree values of `shap`, permutation importance of scikit-learn."""

import json
import sys

import explain_data as data
import numpy as np


def kernel():
    """Values of 100 rows of 30 columns against 100."""
    import shap

    x, _ = data.cells()
    model = data.line()
    explainer = shap.KernelExplainer(lambda x: model.predict_proba(x)[:, 1], x[-data.BACKGROUND :].astype(float))
    rows = x[: data.ROWS].astype(float)
    return lambda: np.abs(explainer.shap_values(rows, l1_reg=False, silent=True)).mean(), data.ROWS


def trees(kind):
    """Values of 1,000 rows of 100 trees."""

    def make():
        import shap

        x, model = data.grown()
        given = (x[:100],) if kind == "interventional" else ()
        explainer = shap.TreeExplainer(model, *given)
        return lambda: np.abs(explainer.shap_values(x[: data.TREE_ROWS])).mean(), data.TREE_ROWS

    return make


def permutation():
    """30 columns, 30 times each, by accuracy."""
    from sklearn.inspection import permutation_importance

    (x, y), model = data.cells(), data.line()
    work = lambda: permutation_importance(model, x, y, n_repeats=data.REPEATS, random_state=0).importances_mean.max()  # noqa: E731
    return work, data.FEATURES * data.REPEATS


JOBS = {
    "kernel": kernel, "permutation": permutation,
    "tree_paths": trees("path_dependent"), "tree_background": trees("interventional"),
}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(data.measure(JOBS, json.loads(sys.argv[1]), ("scikit-learn", "numpy"))))
