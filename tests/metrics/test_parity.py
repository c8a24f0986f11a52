"""Every metric that scikit-learn has too gives its number: random draws with ties, weights of all kinds and a missing class."""

import inspect
import warnings
from typing import NamedTuple

import jax
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk

from arsenal import metrics as m
from arsenal.metrics.whole import call_sklearn
from arsenal.records import Batch

N, CLASSES = 40, 4


class Rows(NamedTuple):
    """What a metric is given, whole weights and others."""

    y: np.ndarray
    answers: dict
    x: np.ndarray | None = None


def classes(rng, many=CLASSES):
    """Probabilities in tenths, so that many are equal; a class may be missing."""
    p = rng.multinomial(10, np.full(many, 1 / many), N) / 10
    y = rng.integers(0, many, N)
    return Rows(np.where(y == rng.integers(2, many + 3), 0, y), {"predict": p.argmax(1), "predict_proba": p})


def two(rng):
    p = rng.integers(0, 11, N) / 10
    y = (rng.random(N) < p).astype(int)
    return Rows(y, {"predict": (p > 0.5).astype(int), "predict_proba": np.stack([1 - p, p], 1), "decision_function": p - 0.5})


def margins(rng):
    return Rows(rng.permutation(np.arange(N) % CLASSES), {"decision_function": rng.integers(-3, 4, (N, CLASSES)) / 2})


def complete(rng):
    """All classes are there."""
    rows = classes(rng)
    return rows._replace(y=rng.permutation(np.arange(N) % CLASSES))


def labels(rng):
    p = rng.integers(0, 6, (N, CLASSES)) / 5
    y = (rng.random((N, CLASSES)) < p * 0.8).astype(int)
    y[3], y[5] = 0, 1
    return Rows(y, {"predict_proba": p, "predict": (p > 0.5).astype(int)})


def numbers(rng):
    y = rng.integers(1, 9, N) / 2
    return Rows(y, {"predict": y + rng.integers(0, 5, N) / 4 + 0.25})


def several(rng):
    y = rng.integers(1, 9, (N, 3)) / 2
    return Rows(y, {"predict": y + rng.normal(size=(N, 3)).round(1)})


def items(rng):
    return Rows(rng.integers(0, 3, (N, 6)).astype(float), {"predict": rng.integers(0, 4, (N, 6)) / 2})


def clusters(rng):
    x = rng.normal(size=(N, 2))
    return Rows(rng.integers(0, 3, N), {"cluster": (x[:, 0] > 0) + (x[:, 1] > 0.3)}, x)


def said(function, reads="predict", **more):
    return lambda rows, w: call_sklearn(function, rows.y, rows.answers[reads], sample_weight=w, **more)


def of_one(function, **more):
    """Of the probability of class 1 of two."""
    return lambda rows, w: call_sklearn(function, rows.y, rows.answers["predict_proba"][:, 1], sample_weight=w, **more)


def repeat(function, **more):
    """Of what takes no weights: each row as often as it weighs."""
    return lambda rows, w: call_sklearn(function, *(np.repeat(v, w.astype(int)) for v in (rows.y, rows.answers["cluster"])), **more)


def inside(function):
    return lambda rows, w: call_sklearn(function, *(np.repeat(v, w.astype(int), 0) for v in (rows.x, rows.answers["cluster"])))


def one_hot(rows, w):
    return call_sklearn("average_precision_score", rows.y[:, None] == np.arange(CLASSES), rows.answers["predict_proba"], sample_weight=w)


def ovo(average):
    def area(rows, w):
        y, p = (np.repeat(v, w.astype(int), 0) for v in (rows.y, rows.answers["predict_proba"]))
        return call_sklearn("roc_auc_score", y, p, multi_class="ovo", average=average, labels=range(CLASSES))

    return area


def likelihood_ratio(which):
    def ratio(rows, w):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return sk.class_likelihood_ratios(rows.y, rows.answers["predict"], sample_weight=w)[which]

    return ratio


def distance_of_classes(rows, w):
    score, w = rows.answers["predict_proba"][:, 1], w.astype(int)
    return scipy.stats.ks_2samp(*(np.repeat(score[rows.y == k], w[rows.y == k]) for k in (0, 1))).statistic


def lowest(rows, w):
    return np.abs(rows.y - rows.answers["predict"])[w > 0].max()


AVERAGES = ("micro", "macro", "weighted")
RATES = {"precision": "precision_score", "recall": "recall_score", "f1": "f1_score", "jaccard": "jaccard_score"}
WHOLE = "whole weights"
CASES = {
    "accuracy": (m.accuracy(), classes, said("accuracy_score")),
    "zero_one_loss": (m.zero_one_loss(), classes, said("zero_one_loss")),
    "zero_one_loss of several": (m.zero_one_loss(), labels, said("zero_one_loss")),
    "hamming_loss": (m.hamming_loss(), classes, said("hamming_loss")),
    "hamming_loss of several": (m.hamming_loss(), labels, said("hamming_loss")),
    "balanced_accuracy": (m.balanced_accuracy(CLASSES), classes, said("balanced_accuracy_score")),
    "matthews": (m.matthews(CLASSES), classes, said("matthews_corrcoef")),
    "cohen_kappa": (m.cohen_kappa(CLASSES), classes, said("cohen_kappa_score", labels=range(CLASSES))),
    **{f"cohen_kappa {one}": (m.cohen_kappa(CLASSES, one), classes, said("cohen_kappa_score", labels=range(CLASSES), weights=one))
       for one in ("linear", "quadratic")},
    **{name: (getattr(m, name)(), two, said(theirs)) for name, theirs in RATES.items()},
    **{f"{name} {one}": (getattr(m, name)(one, CLASSES), classes, said(theirs, average=one))
       for name, theirs in RATES.items() for one in AVERAGES},
    **{f"{name} {one} of several": (getattr(m, name)(one, CLASSES, multilabel=True), labels, said(theirs, average=one))
       for name, theirs in RATES.items() for one in (*AVERAGES, "samples")},
    "fbeta": (m.fbeta(0.5), two, said("fbeta_score", beta=0.5)),
    "fbeta macro": (m.fbeta(2.0, "macro", CLASSES), classes, said("fbeta_score", beta=2.0, average="macro")),
    "positive_likelihood_ratio": (m.positive_likelihood_ratio(), two, likelihood_ratio(0)),
    "negative_likelihood_ratio": (m.negative_likelihood_ratio(), two, likelihood_ratio(1)),
    "log_loss": (m.log_loss(), classes, said("log_loss", "predict_proba", labels=range(CLASSES))),
    "d2_log_loss": (m.d2_log_loss(CLASSES), classes, said("d2_log_loss_score", "predict_proba", labels=range(CLASSES))),
    "brier_score": (m.brier_score(), classes, said("brier_score_loss", "predict_proba", labels=range(CLASSES))),
    "d2_brier": (m.d2_brier(CLASSES), classes, said("d2_brier_score", "predict_proba", labels=range(CLASSES))),
    "roc_auc": (m.roc_auc(), two, of_one("roc_auc_score")),
    "roc_auc of classes": (m.roc_auc(), complete, said("roc_auc_score", "predict_proba", multi_class="ovr")),
    "roc_auc weighted": (m.roc_auc("weighted"), complete, said("roc_auc_score", "predict_proba", multi_class="ovr", average="weighted")),
    **{f"roc_auc of pairs {one}": (m.roc_auc(one, multi_class="ovo"), complete, ovo(one), WHOLE) for one in ("macro", "weighted")},
    "roc_auc of several": (m.roc_auc("micro"), labels, said("roc_auc_score", "predict_proba", average="micro")),
    "average_precision": (m.average_precision(), two, of_one("average_precision_score")),
    "average_precision of classes": (m.average_precision(), complete, one_hot),
    "average_precision of several": (m.average_precision("micro"), labels, said("average_precision_score", "predict_proba", average="micro")),
    "hinge_loss": (m.hinge_loss(), two, said("hinge_loss", "decision_function")),
    "hinge_loss of classes": (m.hinge_loss(), margins, said("hinge_loss", "decision_function", labels=range(CLASSES))),
    "coverage_error": (m.coverage_error(), labels, said("coverage_error", "predict_proba")),
    "label_ranking_average_precision": (
        m.label_ranking_average_precision(), labels, said("label_ranking_average_precision_score", "predict_proba")
    ),
    "label_ranking_loss": (m.label_ranking_loss(), labels, said("label_ranking_loss", "predict_proba")),
    "dcg": (m.dcg(3), items, said("dcg_score", k=3)),
    "ndcg": (m.ndcg(3), items, said("ndcg_score", k=3)),
    "ndcg beyond": (m.ndcg(9), items, said("ndcg_score", k=9)),
    **{name: (getattr(m, name)(), numbers, said(name)) for name in (
        "mean_squared_error", "mean_absolute_error", "root_mean_squared_error", "mean_absolute_percentage_error", "r2_score",
        "mean_squared_log_error", "root_mean_squared_log_error", "mean_poisson_deviance", "mean_gamma_deviance", "median_absolute_error",
    )},
    "explained_variance": (m.explained_variance(), numbers, said("explained_variance_score")),
    "r2_score of several": (m.r2_score(3), several, said("r2_score")),
    "explained_variance of several": (m.explained_variance(3), several, said("explained_variance_score")),
    "median_absolute_error of several": (m.median_absolute_error(), several, said("median_absolute_error")),
    "max_error": (m.max_error(), numbers, lowest),
    "mean_pinball_loss": (m.mean_pinball_loss(0.8), several, said("mean_pinball_loss", alpha=0.8)),
    **{f"mean_tweedie_deviance {p}": (m.mean_tweedie_deviance(p), numbers, said("mean_tweedie_deviance", power=p)) for p in (-1.5, 0.0, 1.0, 1.5, 2.0, 3.0)},
    "d2_tweedie": (m.d2_tweedie(1.5), numbers, said("d2_tweedie_score", power=1.5)),
    "d2_pinball": (m.d2_pinball(0.3), numbers, said("d2_pinball_score", alpha=0.3)),
    "d2_absolute_error": (m.d2_absolute_error(), several, said("d2_absolute_error_score")),
    **{name: (getattr(m, name)(3, 3), clusters, repeat(theirs), WHOLE) for name, theirs in {
        "adjusted_rand_index": "adjusted_rand_score", "rand_index": "rand_score", "fowlkes_mallows": "fowlkes_mallows_score",
        "homogeneity": "homogeneity_score", "completeness": "completeness_score", "mutual_information": "mutual_info_score",
        "normalized_mutual_information": "normalized_mutual_info_score",
    }.items()},
    "v_measure": (m.v_measure(3, 3, beta=0.5), clusters, repeat("v_measure_score", beta=0.5), WHOLE),
    "adjusted_mutual_information": (m.adjusted_mutual_information(), clusters, repeat("adjusted_mutual_info_score"), WHOLE),
    "silhouette": (m.silhouette(), clusters, inside("silhouette_score"), WHOLE),
    "calinski_harabasz": (m.calinski_harabasz(), clusters, inside("calinski_harabasz_score"), WHOLE),
    "davies_bouldin": (m.davies_bouldin(), clusters, inside("davies_bouldin_score"), WHOLE),
    "kolmogorov_smirnov": (m.kolmogorov_smirnov(), two, distance_of_classes, WHOLE),
}  # fmt: skip


def program(metric):
    run = lambda given, weight: metric.compute(metric.update(metric.empty(), *arguments(given, weight)))  # noqa: E731
    return run if "host" in metric.exempt else jax.jit(run)


def arguments(given, weight):
    return given.answers, Batch(given.x, given.y, weight, np.arange(N))


@pytest.mark.parametrize("name", CASES)
def test_parity(name):
    metric, data, truth, *more = CASES[name]
    run = program(metric)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            given = data(rng)
            weight = rng.choice([0.0, 1.0, 2.0] if more else [0.0, 1.0, 2.0, 0.5, 1.3], N)
            there = weight > 0
            wanted = truth(jax.tree.map(lambda v, there=there: v[there], given), weight[there])
            (found,) = run(given, weight).values()
            assert float(found) == pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True), f"draw {seed}"


def test_scikit_learns_sets_are_all_there():
    """What is left out draws a curve or a matrix, or makes other metrics; `consensus_score` is of biclusters."""
    left_out = {
        "auc", "classification_report", "cluster", "confusion_matrix", "confusion_matrix_at_thresholds", "consensus_score", "det_curve",
        "homogeneity_completeness_v_measure", "multilabel_confusion_matrix", "pair_confusion_matrix", "precision_recall_curve",
        "precision_recall_fscore_support", "roc_curve", "silhouette_samples", "check_scoring", "get_scorer", "get_scorer_names",
        "make_scorer", "metric_at_thresholds", "class_likelihood_ratios", "pairwise_distances", "pairwise_distances_argmin",
        "pairwise_distances_argmin_min", "pairwise_distances_chunked", "pairwise_kernels", "euclidean_distances", "nan_euclidean_distances",
    }  # fmt: skip
    ours = {
        "cohen_kappa_score": "cohen_kappa", "matthews_corrcoef": "matthews", "adjusted_mutual_info_score": "adjusted_mutual_information",
        "adjusted_rand_score": "adjusted_rand_index", "rand_score": "rand_index", "mutual_info_score": "mutual_information",
        "normalized_mutual_info_score": "normalized_mutual_information", "brier_score_loss": "brier_score",
    }  # fmt: skip
    theirs = {name for name in sk.__all__ if inspect.isfunction(getattr(sk, name))} - left_out
    missing = [name for name in theirs if not {name, name.removesuffix("_score"), ours.get(name)} & set(m.__all__)]
    assert not missing, f"Without a metric of that name: {', '.join(sorted(missing))}."
