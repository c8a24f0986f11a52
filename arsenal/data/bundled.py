"""Data sets that come inside scikit-learn's package, and seeds for learners that make their own experience."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Interval
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset, fingerprint
from arsenal.data.files import resolve_path
from arsenal.records import Batch


def digits() -> Dataset:
    """1,797 handwritten digits: x [n, 8, 8] float32 in 0..16, y [n] in 0..9. UCI ML, Alpaydin & Kaynak 1998."""
    # The very file that `load_digits` reads: importing scikit-learn takes longer than training on it.
    table = np.loadtxt(resolve_path("sklearn:datasets/data/digits.csv.gz"), np.int64, delimiter=",")
    schema = Schema({"x": Tensor()}, Tensor(columns=[str(digit) for digit in range(10)]))
    return dataset(table[:, :-1].reshape(-1, 8, 8).astype(float), table[:, -1], schema=schema)


def odd_digits(usual: Annotated[int, Interval(ge=0, le=9)] = 0, share: Annotated[float, Interval(gt=0, lt=1)] = 0.1) -> Dataset:
    """Images of one digit among which strangers are: x [n, 8, 8] in 0..16, y 0 for the digit `usual`, 1 for any other.

    The rows of `digits` that show it and, evenly from the file, as many others as make `share` of all.

    >>> odd_digits().rows.y.mean().round(2).item()
    0.1
    """
    found = digits()
    label = np.asarray(found.rows.y)
    mine, others = np.flatnonzero(label == usual), np.flatnonzero(label != usual)
    count = round(len(mine) * share / (1 - share))
    if not 0 < count <= len(others):
        raise ValueError(f"`share` of `odd_digits` must make 1 to {len(others)} of {len(mine)} rows others; got {share:g}.")
    at = np.sort(np.concatenate([mine, others[np.linspace(0, len(others) - 1, count).astype(int)]]))
    schema = Schema({"x": Tensor()}, Tensor(columns=["usual", "stranger"]))
    return dataset(np.asarray(found.rows.x)[at].astype(float), (label[at] != usual).astype(np.int64), schema=schema)


def diabetes() -> Dataset:
    """442 patients: x [n, 10] float32 measurements, as they were taken; y [n] the disease a year later. Efron et al. 2004."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    schema = Schema({"x": Tensor(columns=[str(name) for name in bunch.feature_names])})
    return dataset(bunch.data, bunch.target, schema=schema)


def breast_cancer() -> Dataset:
    """569 tumours: x [n, 30] float32 of cell measurements, y 0 malignant, 1 benign. Wolberg et al. 1995."""
    from sklearn.datasets import load_breast_cancer

    return classes_of_bunch(load_breast_cancer())


def wine() -> Dataset:
    """178 wines of one region: x [n, 13] float32 of chemical measurements, y which of three grapes. Forina et al. 1988."""
    from sklearn.datasets import load_wine

    return classes_of_bunch(load_wine())


def classes_of_bunch(bunch: Any) -> Dataset:
    """A bundled set of named measurements and classes as rows."""
    labels = [str(label) for label in bunch.target_names]
    schema = Schema(
        {"x": Tensor(columns=[str(name) for name in bunch.feature_names])},
        Tensor(columns=labels, codec="label"),
        {"label": {"kind": "category", "values": labels}},
    )
    return dataset(bunch.data, bunch.target, schema=schema)


def seeds(n: Annotated[int, Gt(0)]) -> Dataset:
    """x [n] uint32, the seeds 0..n-1, one episode each; nothing to predict. A split gives other episodes to each side."""
    rows = Batch(np.arange(n, dtype=np.uint32), None, np.ones(n, np.float32), np.arange(n, dtype=np.int32))
    schema = Schema({"x": Tensor()})
    return Dataset(rows, schema, fingerprint(rows, schema))
