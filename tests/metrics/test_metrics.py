"""Every metric against scikit-learn or SciPy, and the laws of a monoid over weighted rows."""

import functools
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import sklearn.metrics as sk
from arsenal_serving.export import Tensor

import arsenal.metrics
from arsenal.data import Schema
from arsenal.metrics import (
    accuracy,
    adjusted_rand_index,
    average,
    balanced_accuracy,
    binned_average_precision,
    binned_roc_auc,
    bits_per_byte,
    brier_score,
    calibration_error,
    explained_variance,
    f1,
    f1_macro,
    frechet_distance,
    log_loss,
    matthews,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    negative_log_likelihood,
    normalized_mutual_information,
    perplexity,
    precision,
    precision_macro,
    r2_score,
    recall,
    recall_macro,
    root_mean_squared_error,
    top_k_accuracy,
)
from arsenal.metrics.histogram import histogram
from arsenal.records import Batch, batch

N = 60


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def labelled(classes):
    def data(rng):
        y = rng.integers(0, classes, N)
        logits = rng.normal(size=(N, classes)) + 1.5 * np.eye(classes)[y]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return Batch(rng.normal(size=(N, 2)), y, None, None), {"predict_proba": p, "predict": p.argmax(1).astype(np.int32)}

    return data


def strays(rng):
    """Answers of which some are a class that is never true, and never some class that is."""
    rows, outputs = labelled(4)(rng)
    predict = outputs["predict"]
    return rows._replace(y=np.minimum(rows.y, 2)), {"predict": np.where(predict == 1, 0, predict).astype(np.int32)}


def tokens(rng):
    """Five labels a row, some of which do not count; two rows have none that does."""
    y = rng.integers(0, 4, (N, 5))
    logits = rng.normal(size=(N, 5, 4)) + 1.5 * np.eye(4)[y]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    y = np.where(rng.random((N, 5)) < 0.3, -1, y)
    y[7], y[31] = -1, -1
    return Batch(rng.normal(size=(N, 2)), y, None, None), {"predict_proba": p, "predict": p.argmax(-1).astype(np.int32)}


def repeated(truth):
    """The truth of rows that stand as often as they weigh, where it takes no weights."""
    return lambda rows, outputs, w: truth(np.repeat(rows.y, w.astype(int)), np.repeat(outputs["cluster"], w.astype(int)))


def clustered(rng):
    rows, outputs = labelled(4)(rng)
    return rows, {"cluster": outputs["predict"]}


def likely(rng):
    return Batch(rng.normal(size=(N, 2)), np.zeros(N), None, None), {"score_samples": rng.normal(size=N)}


def row_by_row(truth, answer):
    """The weighted mean of a metric of every row's positions that count, over the rows that have some."""

    def mean(rows, outputs, w):
        counts = rows.y >= 0
        there = counts.any(1)
        each = [truth(y[c], out[c]) for y, out, c in zip(rows.y[there], outputs[answer][there], counts[there], strict=True)]
        return np.average(each, weights=w[there])

    return mean


def nats_per_token(rows, outputs, w):
    counts = rows.y >= 0
    by_token = np.broadcast_to(w[:, None], rows.y.shape)
    return sk.log_loss(rows.y[counts], outputs["predict_proba"][counts], sample_weight=by_token[counts], labels=range(4))


def numbers(rng):
    y = 1000 + rng.normal(size=N)
    return Batch(rng.normal(size=(N, 2)), y, None, None), {"predict": y + 0.3 * rng.normal(size=N)}


def several_numbers(rng):
    y = rng.normal(size=(N, 3))
    return Batch(rng.normal(size=(N, 2)), y, None, None), {"predict": y + 0.3 * rng.normal(size=(N, 3))}


def drawn(rng):
    x = rng.normal(size=(N, 2, 3))
    return Batch(x, np.zeros(N), None, None), {"sample": 0.5 + rng.normal(size=(N, 2, 3)) @ rng.normal(size=(3, 3))}


def expected_calibration_error(y, p, w, bins=15):
    """The definition of Guo et al., bin by bin."""
    confidence, right, error = p.max(1), p.argmax(1) == y, 0.0
    for low in np.arange(bins) / bins:
        held = (confidence > low) & (confidence <= low + 1 / bins)
        if held.any():
            gap = np.average(right[held], weights=w[held]) - np.average(confidence[held], weights=w[held])
            error += abs(gap) * w[held].sum() / w.sum()
    return error


def frechet(x, sample, w):
    x, sample = x.reshape(len(w), -1), sample.reshape(len(w), -1)
    apart = np.average(x, axis=0, weights=w) - np.average(sample, axis=0, weights=w)
    c1, c2 = (np.cov(v.T, fweights=w.astype(int)) for v in (x, sample))
    return apart @ apart + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)


def by_proba(truth):
    return lambda rows, outputs, w: truth(rows.y, outputs["predict_proba"], sample_weight=w)


def by_predict(truth, **more):
    return lambda rows, outputs, w: truth(rows.y, outputs["predict"], sample_weight=w, **more)


def quietly(truth):
    """The truth without its warning that a class is predicted but never true."""

    def found(*arguments, **more):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return truth(*arguments, **more)

    return found


class Case(NamedTuple):
    metric: object
    data: object
    truth: object
    name: str
    close: float = 1e-5


CASES = {
    "accuracy": Case(accuracy(), labelled(4), by_predict(sk.accuracy_score), "accuracy"),
    "log_loss": Case(log_loss(), labelled(4), by_proba(sk.log_loss), "log_loss"),
    "brier_score": Case(brier_score(), labelled(4), by_proba(sk.brier_score_loss), "brier_score"),
    "brier_score_binary": Case(
        brier_score(), labelled(2),
        lambda rows, out, w: sk.brier_score_loss(rows.y, out["predict_proba"][:, 1], sample_weight=w), "brier_score",
    ),
    "calibration_error": Case(
        calibration_error(), labelled(4),
        lambda rows, out, w: expected_calibration_error(rows.y, out["predict_proba"], w), "calibration_error",
    ),
    "f1_macro": Case(f1_macro(classes=4), labelled(4), by_predict(sk.f1_score, average="macro"), "f1_macro"),
    "f1_macro_absent_class": Case(f1_macro(classes=9), labelled(4), by_predict(sk.f1_score, average="macro"), "f1_macro"),
    "binned_roc_auc": Case(
        binned_roc_auc(), labelled(2),
        lambda rows, out, w: sk.roc_auc_score(rows.y, out["predict_proba"][:, 1], sample_weight=w), "binned_roc_auc", 1e-3,
    ),
    "binned_average_precision": Case(
        binned_average_precision(), labelled(2),
        lambda rows, out, w: sk.average_precision_score(rows.y, out["predict_proba"][:, 1], sample_weight=w), "binned_average_precision", 1e-3,
    ),
    "adjusted_rand_index": Case(adjusted_rand_index(4, 4), clustered, repeated(sk.adjusted_rand_score), "adjusted_rand_index"),
    "mean_squared_error": Case(mean_squared_error(), numbers, by_predict(sk.mean_squared_error), "mean_squared_error", 1e-3),
    "mean_squared_error_several": Case(
        mean_squared_error(), several_numbers, by_predict(sk.mean_squared_error), "mean_squared_error"
    ),
    "mean_absolute_error": Case(mean_absolute_error(), numbers, by_predict(sk.mean_absolute_error), "mean_absolute_error", 1e-3),
    "r2_score": Case(r2_score(), numbers, by_predict(sk.r2_score), "r2_score", 1e-3),
    "perplexity": Case(perplexity(), tokens, lambda *given: np.exp(nats_per_token(*given)), "perplexity"),
    "explained_variance": Case(
        explained_variance(), numbers, by_predict(sk.explained_variance_score), "explained_variance", 1e-3
    ),
    "frechet_distance": Case(
        frechet_distance(features=6), drawn, lambda rows, out, w: frechet(rows.x, out["sample"], w), "frechet_distance", 1e-4
    ),
}  # fmt: skip
# These have the accumulator of a metric above, so nothing new happens to them in pieces.
VARIANTS = {
    "accuracy_tokens": Case(accuracy(), tokens, row_by_row(sk.accuracy_score, "predict"), "accuracy"),
    "log_loss_tokens": Case(
        log_loss(), tokens, row_by_row(functools.partial(sk.log_loss, labels=range(4)), "predict_proba"), "log_loss"
    ),
    "top_k_accuracy": Case(
        top_k_accuracy(2), labelled(4),
        lambda rows, out, w: sk.top_k_accuracy_score(rows.y, out["predict_proba"], k=2, sample_weight=w, labels=range(4)),
        "top_2_accuracy",
    ),
    "mean_absolute_percentage_error": Case(
        mean_absolute_percentage_error(), several_numbers,
        by_predict(sk.mean_absolute_percentage_error), "mean_absolute_percentage_error", 1e-4,
    ),
    "balanced_accuracy": Case(balanced_accuracy(4), labelled(4), by_predict(sk.balanced_accuracy_score), "balanced_accuracy"),
    "precision_macro": Case(
        precision_macro(4), labelled(4), by_predict(sk.precision_score, average="macro"), "precision_macro"
    ),
    "recall_macro": Case(recall_macro(4), labelled(4), by_predict(sk.recall_score, average="macro"), "recall_macro"),
    "precision": Case(precision(), labelled(2), by_predict(sk.precision_score), "precision"),
    "recall": Case(recall(), labelled(2), by_predict(sk.recall_score), "recall"),
    "f1": Case(f1(), labelled(2), by_predict(sk.f1_score), "f1"),
    "normalized_mutual_information": Case(
        normalized_mutual_information(5, 4), clustered, repeated(sk.normalized_mutual_info_score), "normalized_mutual_information"
    ),
    "negative_log_likelihood": Case(
        negative_log_likelihood(), likely,
        lambda rows, out, w: -np.average(out["score_samples"], weights=w), "negative_log_likelihood",
    ),
    "matthews": Case(matthews(4), labelled(4), by_predict(sk.matthews_corrcoef), "matthews"),
    "bits_per_byte": Case(
        bits_per_byte(3.5), tokens, lambda *given: nats_per_token(*given) / np.log(2) / 3.5, "bits_per_byte"
    ),
    "root_mean_squared_error": Case(
        root_mean_squared_error(), numbers, by_predict(sk.root_mean_squared_error), "root_mean_squared_error", 1e-3
    ),
    "balanced_accuracy_strays": Case(
        balanced_accuracy(6), strays, by_predict(quietly(sk.balanced_accuracy_score)), "balanced_accuracy"
    ),
    "precision_macro_strays": Case(
        precision_macro(6), strays, by_predict(sk.precision_score, average="macro", zero_division=0), "precision_macro"
    ),
    "recall_macro_strays": Case(
        recall_macro(6), strays, by_predict(sk.recall_score, average="macro", zero_division=0), "recall_macro"
    ),
    "matthews_binary": Case(matthews(2), labelled(2), by_predict(sk.matthews_corrcoef), "matthews"),
    "perplexity_of_rows": Case(
        perplexity(), labelled(4), lambda *given: np.exp(by_proba(sk.log_loss)(*given)), "perplexity"
    ),
    "root_mean_squared_error_several": Case(
        root_mean_squared_error(), several_numbers,
        lambda *given: np.sqrt(by_predict(sk.mean_squared_error)(*given)), "root_mean_squared_error",
    ),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
all_cases = pytest.mark.parametrize("case", (CASES | VARIANTS).values(), ids=CASES | VARIANTS)


def arrays(tree):
    """The tree as JAX arrays of the precision in force; labels of 64 bits where there are any."""
    return jax.tree.map(jnp.asarray, tree)


def prepared(case, weight=None, seed=0):
    rng = np.random.default_rng(seed)
    rows, outputs = case.data(rng)
    weight = rng.integers(0, 4, N).astype(float) if weight is None else weight
    return rows._replace(weight=weight, row=np.arange(N)), outputs


@functools.cache
def compiled(empty, update, compute, x64):
    return jax.jit(lambda outputs, rows: compute(update(empty(), outputs, rows)))


def value(case, rows, outputs):
    return worth(case.metric, outputs, rows)[case.name]


def worth(metric, outputs, rows):
    """The metric of one batch, in one program per precision."""
    return compiled(metric.empty, metric.update, metric.compute, jax.config.jax_enable_x64)(arrays(outputs), arrays(rows))


def part(tree, keep):
    return jax.tree.map(lambda v: v[keep], tree)


@all_cases
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
def test_equals_the_other_library(case, x64):
    rows, outputs = prepared(case)
    there = rows.weight > 0
    wanted = case.truth(part(rows, there), part(outputs, there), rows.weight[there])
    with jax.enable_x64(x64):
        found = value(case, rows, outputs)
        assert found.shape == () and found.dtype == (jnp.float64 if x64 else jnp.float32)
        tight = 1e-12 if x64 and case.name != "binned_roc_auc" else case.close
        assert float(found) == pytest.approx(wanted, rel=tight, abs=tight)


@cases
def test_merge_is_update_over_the_union(case):
    rows, outputs = prepared(case)
    metric = case.metric

    @jax.jit
    def both_ways(rows, outputs):
        whole = metric.update(metric.empty(), outputs, rows)
        a, b, c = (metric.update(metric.empty(), part(outputs, k), part(rows, k)) for k in np.split(np.arange(N), [13, 40]))
        merged = metric.merge(metric.merge(metric.empty(), c), metric.merge(a, b))
        return (whole, metric.compute(whole)[case.name]), (merged, metric.compute(merged)[case.name])

    whole, merged = both_ways(arrays(rows), arrays(outputs))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@all_cases
def test_dead_rows_are_not_there_even_when_nan(case):
    rows, outputs = prepared(case)
    dead = rows.weight == 0

    def spoilt(v):
        v = v.copy()
        v[dead] = np.nan if v.dtype.kind == "f" else -7
        return v

    bad = rows._replace(x=spoilt(rows.x), y=spoilt(rows.y))
    found = float(value(case, bad, {name: spoilt(v) for name, v in outputs.items()}))
    assert found == float(value(case, rows, outputs))


@cases
def test_weight_two_is_the_row_twice(case):
    rows, outputs = prepared(case)
    twice = np.repeat(np.arange(N), rows.weight.astype(int))
    repeated = part(rows, twice)._replace(weight=np.ones(len(twice)))
    assert float(value(case, rows, outputs)) == pytest.approx(
        float(value(case, repeated, part(outputs, twice))), rel=1e-4, abs=1e-5
    )


@cases
def test_runs_in_a_scan_of_a_vmap_of_a_jit(case):
    metric, sets = case.metric, [prepared(case, seed=seed) for seed in (1, 2)]

    @jax.jit
    @jax.vmap
    def run(rows, outputs):
        split = jax.tree.map(lambda v: v.reshape(4, N // 4, *v.shape[1:]), (rows, outputs))
        step = lambda acc, piece: (metric.update(acc, piece[1], piece[0]), None)  # noqa: E731
        return metric.compute(jax.lax.scan(step, metric.empty(), split)[0])[case.name]

    together = run(*jax.tree.map(lambda *v: jnp.stack([jnp.asarray(one) for one in v]), *sets))
    for found, (rows, outputs) in zip(together, sets, strict=True):
        assert float(found) == pytest.approx(float(value(case, rows, outputs)), rel=1e-3, abs=1e-5)


@all_cases
def test_no_rows_have_no_value(case):
    rows, outputs = prepared(case, weight=np.zeros(N))
    assert np.isnan(value(case, rows, outputs))


@cases
def test_memory_does_not_grow(case):
    rows, outputs = map(arrays, prepared(case))
    metric = case.metric
    after = jax.eval_shape(metric.update, metric.empty(), outputs, rows)
    sizes = lambda acc: [(v.shape, v.dtype) for v in jax.tree.leaves(acc)]  # noqa: E731
    assert sizes(after) == sizes(metric.empty())


@pytest.mark.parametrize("name", ["log_loss", "calibration_error", "r2_score", "frechet_distance"])
def test_takes_answers_in_half_precision_and_weights_of_32_bits_in_the_64_bit_mode(name):
    case = CASES[name]
    rows, outputs = prepared(case)
    rows = rows._replace(y=rows.y - 1000 if name == "r2_score" else rows.y)
    outputs = {k: v - 1000 if name == "r2_score" else v for k, v in outputs.items()}
    with jax.enable_x64(True):
        exact = float(value(case, rows, outputs))
        half = {k: v if v.dtype.kind == "i" else jnp.asarray(v, jnp.bfloat16) for k, v in outputs.items()}
        rows = rows._replace(weight=jnp.asarray(rows.weight, jnp.float32))
        assert float(value(case, rows, half)) == pytest.approx(exact, rel=0.1)


def test_every_name_is_a_metric_or_makes_one():
    assert sorted(arsenal.metrics.__all__) == arsenal.metrics.__all__
    tried = {re.sub("^top_2_", "top_k_", case.name) for case in (CASES | VARIANTS).values()}
    assert tried <= set(arsenal.metrics.__all__)
    files = ("metrics/test_parity", "metrics/test_formulas", "metrics/test_texts", "metrics/test_vision", "models/test_contrastive")
    elsewhere = "".join((Path(__file__).parents[1] / f"{name}.py").read_text() for name in files)
    missing = [name for name in set(arsenal.metrics.__all__) - tried - {"average", "by_target"} if name not in elsewhere]
    assert not missing, f"No test knows {', '.join(missing)}."


def test_metrics_by_target_suit_it():
    def named(*labels):
        return set(arsenal.metrics.by_target(Schema(target=Tensor(columns=list(labels) or None))))

    assert named() == {"mean_absolute_error", "root_mean_squared_error", "r2_score"}
    assert named("a", "b") - named("a", "b", "c") == {"roc_auc"} and "log_loss" in named("a", "b", "c")
    assert arsenal.metrics.by_target() == {}  # before the data is known


def test_average_is_open_to_any_value_of_a_row():
    metric = average("margin", lambda outputs, rows: outputs["margin"])
    acc = metric.update(metric.empty(), {"margin": jnp.array([1.0, 5.0])}, batch(y=[0, 0], weight=[3.0, 1.0]))
    assert float(metric.compute(acc)["margin"]) == 2.0


def test_histogram_is_numpys():
    rng = np.random.default_rng(0)
    at, weight = rng.integers(0, 37, 500), rng.random(500)
    found = histogram(jnp.asarray(at), jnp.asarray(weight), 37)
    np.testing.assert_allclose(found, np.bincount(at, weight, 37), rtol=1e-5)


def test_binned_roc_auc_keeps_its_digits_where_probabilities_saturate():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    odds = (rng.normal(size=4000) + y - 6).astype(np.float32)
    p = jax.nn.softmax(jnp.stack([jnp.zeros(4000), jnp.asarray(odds)], 1))
    metric = binned_roc_auc()
    found = worth(metric, {"predict_proba": p}, batch(y=y))["binned_roc_auc"]
    assert float(found) == pytest.approx(sk.roc_auc_score(y, odds), abs=1e-4)


def test_binned_roc_auc_of_what_is_no_number_is_no_number():
    p = jnp.array([[0.5, 0.5], [jnp.nan, jnp.nan], [0.2, 0.8]])
    metric = binned_roc_auc()
    assert np.isnan(worth(metric, {"predict_proba": p}, batch(y=[0, 1, 1]))["binned_roc_auc"])


@pytest.mark.parametrize(("predict", "wanted"), [(np.array([2.0, 2.0]), 1.0), (np.array([2.0, 3.0]), 0.0)])
def test_r2_score_of_a_constant_target_is_scikit_learns(predict, wanted):
    found = worth(CASES["r2_score"].metric, {"predict": predict}, batch(y=[2.0, 2.0]))["r2_score"]
    assert float(found) == wanted == sk.r2_score([2.0, 2.0], predict)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_explained_variance_of_a_constant_target_is_scikit_learns(offset):
    for predict in ([2.0 + offset, 2.0 + offset], [2.0, 3.0]):
        found = worth(CASES["explained_variance"].metric, {"predict": np.array(predict)}, batch(y=[2.0, 2.0]))
        assert float(found["explained_variance"]) == sk.explained_variance_score([2.0, 2.0], predict)


@pytest.mark.parametrize(("y", "predict"), [([1, 1, 1], [0, 1, 2]), ([0, 1, 2], [1, 1, 1]), ([1, 1, 1], [1, 1, 1])])
def test_matthews_of_a_single_class_is_scikit_learns(y, predict):
    rows = batch(y=y, weight=[0.1, 0.7, 0.3])
    found = worth(matthews(3), {"predict": np.array(predict, np.int32)}, rows)["matthews"]
    assert float(found) == 0 == quietly(sk.matthews_corrcoef)(y, predict)


def test_top_k_accuracy_keeps_to_the_order_of_argmax_where_probabilities_are_equal():
    p, rows = jnp.full((4, 4), 0.25), batch(y=[0, 1, 2, 3])
    for k, wanted in ((1, 0.25), (2, 0.5), (4, 1.0), (9, 1.0)):
        assert float(worth(top_k_accuracy(k), {"predict_proba": p}, rows)[f"top_{k}_accuracy"]) == wanted


def test_top_k_accuracy_of_what_is_no_number_is_wrong():
    p = jnp.array([[jnp.nan, jnp.nan, jnp.nan]])
    assert float(worth(top_k_accuracy(2), {"predict_proba": p}, batch(y=[0]))["top_2_accuracy"]) == 0


def test_perplexity_counts_tokens_where_log_loss_counts_rows():
    rows = batch(y=[[0, 0, 0], [0, -1, -1]])
    outputs = {"predict_proba": jnp.array([[[0.5, 0.5]] * 3, [[0.125, 0.875]] * 3])}
    assert float(worth(log_loss(), outputs, rows)["log_loss"]) == pytest.approx(2 * np.log(2), rel=1e-6)
    assert float(worth(perplexity(), outputs, rows)["perplexity"]) == pytest.approx(2 ** (6 / 4), rel=1e-6)


def test_frechet_distance_in_float32_of_many_correlated_features():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(64, 64)) * np.logspace(0, -2, 64)
    x, sample = rng.normal(size=(400, 64)) @ mix, rng.normal(size=(400, 64)) @ mix + 0.02
    c1, c2 = np.cov(x.T), np.cov(sample.T)
    wanted = np.square(x.mean(0) - sample.mean(0)).sum() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)
    found = worth(frechet_distance(features=64), {"sample": sample}, batch(x=x))["frechet_distance"]
    assert float(found) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("metric", "outputs", "message"),
    [
        (log_loss(), {"predict": jnp.zeros(2)}, "reads the answer `predict_proba`; the learner gives predict"),
        (accuracy(), {}, "the learner gives none"),
        (accuracy(), {"predict": jnp.zeros((2, 1), jnp.int32)}, r"shape \(2,\); got \(2, 1\)"),
        (mean_squared_error(), {"predict": jnp.zeros((2, 1))}, r"shape \(2,\); got \(2, 1\)"),
        (brier_score(), {"predict_proba": jnp.zeros(2)}, r"`predict_proba` \[n, classes\] and labels \[n\]; got \(2,\)"),
        (perplexity(), {"predict_proba": jnp.zeros((2, 5, 3))}, r"\[n, t, classes\] and \[n, t\]; got \(2, 5, 3\) and \(2,\)"),
        (bits_per_byte(), {"predict": jnp.zeros(2)}, "`bits_per_byte` reads the answer `predict_proba`"),
        (matthews(2), {"predict": jnp.zeros((2, 1), jnp.int32)}, r"answers and labels \[n\]; got \(2, 1\) and \(2,\)"),
        (explained_variance(), {"predict": jnp.zeros((2, 1))}, r"\[n\] or \[n, 1\]; got \(2, 1\) and \(2,\)"),
        (binned_roc_auc(), {"predict_proba": jnp.zeros((2, 3))}, r"`predict_proba` \[n, 2\]; got \(2, 3\)"),
        (frechet_distance(features=3), {"sample": jnp.zeros((2, 4))}, r"for 3 features; `sample` has shape \(2, 4\)"),
    ],
)
def test_errors_say_what_came(metric, outputs, message):
    with pytest.raises(ValueError, match=message):
        metric.update(metric.empty(), outputs, batch(x=np.zeros((2, 3)), y=np.zeros(2, np.int32)))


def test_every_metric_says_which_of_its_values_are_good():
    import inspect

    from arsenal import metrics

    small = re.compile(
        "^(?!d2_)(bits_per_byte|brier_score|davies_bouldin|interval_width|interval_score|negative_likelihood_ratio|"
        "negative_log_likelihood|perplexity|.*(distance|loss|error|deviance|error_rate|crps))$"
    )
    both = {"brier_decomposition", "code_perplexity", "interval_coverage"}
    given = {"beta": 1.0, "benefit": 1.0, "cost": 1.0, "features": 3}
    made = {"average", "by_target", "as_metric", "measure", "whole_rows", "perceptual_distance", "random_patches"}
    for name in set(metrics.__all__) - made:
        factory = getattr(metrics, name)
        needed = [one.name for one in inspect.signature(factory).parameters.values() if one.default is one.empty]
        wanted = None if name in both else "min" if small.match(name) else "max"
        assert factory(**{one: given.get(one, 3) for one in needed}).mode == wanted, name
