"""Disturbed rows are what was said of them, and what they do to a model of known coefficients is what its formula has."""

import jax
import numpy as np
import pytest
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal import metrics
from arsenal.data import Schema
from arsenal.evaluation.findings import find_robustness
from arsenal.evaluation.robustness import NOISE, SHIFTS, disturbances
from arsenal.records import Batch

DRAW = np.random.default_rng(2)
N = 4000
X = np.stack([DRAW.normal(5, 2, N), DRAW.normal(size=N), DRAW.integers(0, 2, N)], 1).astype(np.float32)
SLOPE = np.array([1.5, -0.5, 2.0], np.float32)
ROWS = Batch(X, X @ SLOPE, np.ones(N, np.float32), np.arange(N, dtype=np.int32))
SCHEMA = Schema({"x": Tensor(["size", "rate", "flag"])})


def test_rows_are_disturbed_as_said():
    made = disturbances(jax.random.key(0), X, ROWS, SCHEMA)
    assert list(made) == [
        *(("noise", "numbers", v) for v in NOISE), *(("shift", "numbers", v) for v in SHIFTS),
        *(("missing", f"{name} (its mean)", 1.0) for name in ("size", "rate", "flag")),
    ]  # fmt: skip
    sd = X.std(0)
    noise = made["noise", "numbers", 0.5] - X
    np.testing.assert_allclose(noise.std(0), [sd[0] / 2, sd[1] / 2, 0.0], rtol=0.05)
    np.testing.assert_allclose(made["shift", "numbers", -1.0], X - np.array([sd[0], sd[1], 0]), rtol=1e-4, atol=1e-4)
    gone = made["missing", "rate (its mean)", 1.0]
    np.testing.assert_array_equal(gone[:, [0, 2]], X[:, [0, 2]])
    np.testing.assert_allclose(gone[:, 1], X[:, 1].mean(), atol=1e-6)


def test_gaps_are_those_that_the_data_has():
    state = {"kind": "category", "missing": ["", "NA"], "values": ["a", "b"]}
    x = {"numeric": X[:, :2], "kind": np.zeros((N, 1), np.int32)}
    schema = Schema({"numeric": Tensor(["size", "rate"], gaps=["", "NA"]), "kind": Tensor(["kind"], codec=["kind"])}, codecs={"kind": state})
    made = disturbances(jax.random.key(0), x, ROWS._replace(x=x), schema)
    assert np.isnan(made["missing", "size", 1.0]["numeric"][:, 0]).all() and not np.isnan(made["missing", "size", 1.0]["numeric"][:, 1]).any()
    assert codecs.decode(state, made["missing", "kind", 1.0]["kind"][0]).tolist() in ([""], [None])


def test_what_they_do_is_what_the_formula_has():
    apply = {"predict": lambda params, x: x @ SLOPE}
    outputs, sd = {"predict": ROWS.y}, X.std(0)
    given = (jax.random.key(1), ROWS, ROWS, SCHEMA, apply, None, outputs, {"mse": metrics.mean_squared_error()})
    found = find_robustness(*given, "mean_squared_error")
    lines = {one[:3]: one for one in found.lines}
    assert found.clean == 0
    of_unit = (SLOPE[0] * sd[0]) ** 2 + (SLOPE[1] * sd[1]) ** 2
    for amount in NOISE:  # the error is the noise's, by the slopes
        one = lines["noise", "numbers", amount]
        assert one.worse == pytest.approx(amount**2 * of_unit, rel=0.08) and one.low < one.worse < one.high
    one = lines["shift", "numbers", 0.5]
    assert one.value == pytest.approx((0.5 * (SLOPE[0] * sd[0] + SLOPE[1] * sd[1])) ** 2, rel=1e-3)
    assert lines["missing", "flag (its mean)", 1.0].worse == pytest.approx((SLOPE[2] * sd[2]) ** 2, rel=1e-3)
    with pytest.raises(ValueError, match="`robustness` is of a table of up to 60 columns"):
        find_robustness(*given, "")
