"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import CLASSES, IMAGES, LABELS, ROWS, SENTENCES, floats, proba
from table import law_test

from arsenal import metrics
from arsenal.records import Batch
from arsenal.testing import Case

NUMBERS = {"predict": ROWS.x[:, 0]}
CLUSTERS = {"cluster": CLASSES.y[::-1]}


def read() -> tuple[dict, Batch]:
    """Answers for every token."""
    p = jax.nn.softmax(SENTENCES.x)
    return {"predict": jnp.argmax(p, -1).astype(jnp.int32), "predict_proba": p}, SENTENCES


MANY = CLASSES._replace(y=jnp.asarray(np.eye(4, dtype=np.int32)[[0, 1, 2, 3, 1, 0]] | np.eye(4, dtype=np.int32)[[1, 1, 3, 0, 2, 0]]))
SAID = {"predict_proba": jnp.abs(floats(6, 4)), "predict": jnp.asarray((np.asarray(floats(6, 4)) > 0).astype(np.int32))}
POSITIVE = ROWS._replace(y=jnp.abs(ROWS.y) + 0.5)
OVER = {"predict": jnp.abs(NUMBERS["predict"]) + 0.5}
WHOLE = jax.tree.map(np.asarray, CLASSES._replace(weight=np.array([1, 2, 1, 3, 1, 1.0], np.float32), y=np.array([0, 1, 2, 0, 1, 1])))
"""Of weights that are how often a row is there."""
GROUPS = {"cluster": np.array([0, 1, 1, 0, 2, 2])}
INTERVALS = {"interval": jnp.stack([ROWS.x[:, 0] - 1, ROWS.x[:, 0] + 2], 1)}
SIZED = {"predict": IMAGES.x + 0.3 * floats(6, 4, 4)[::-1]}
LARGE = ROWS._replace(x=None, y=jnp.abs(floats(6, 16, 13)))
SMALL = IMAGES._replace(y=(IMAGES.x > 0).astype(jnp.int32))
MASKS = {"predict": (SIZED["predict"] > 0.2).astype(jnp.int32)}
TEXTS = ROWS._replace(x=None, y=np.array(["the cat sat", "a dog", "the sea at night", "one", "it is late", "no"]))
WORDS = {"predict": np.array(["the cat sat down", "a cat", "at night the sea", "one", "late it is", "yes"])}
BOXES = {"boxes": np.cumsum(np.abs(np.asarray(floats(6, 2, 4))) * 30, -1), "labels": np.array([[0, 1], [1, -1], [0, 0], [1, 1], [0, -1], [1, 0]])}
FOUND = {"boxes": BOXES["boxes"] + 2, "labels": BOXES["labels"][:, ::-1], "scores": np.abs(np.asarray(floats(6, 2)))}


def both(metric) -> list[Case]:
    """A metric of labels, of classes, or of several labels."""
    return [Case(metric(), (proba(2), LABELS)), Case(metric("weighted", 4, True), (SAID, MANY)), Case(metric("samples", 4, True), (SAID, MANY))]


def layers(images):
    """What a network sees, as if."""
    return [jnp.stack([images, images**2], -1)]


CASES = {f"arsenal.metrics.{name}": make for name, make in {
    "average.average": lambda: [Case(metrics.average("size", lambda outputs, rows: jnp.abs(outputs["predict"])), (proba(3), CLASSES))],
    "plain.as_metric": lambda: [Case(metrics.as_metric(lambda y, predict: jnp.abs(y - predict)), (NUMBERS, ROWS))],
    "whole.whole_rows": lambda: [Case(metrics.whole_rows("mean", lambda outputs, rows: np.average(rows.y, weights=rows.weight)), (NUMBERS, ROWS))],
    "labels.accuracy": lambda: [
        *(Case(metrics.accuracy(), given) for given in ((proba(3), CLASSES), read())), Case(metrics.accuracy("tokens"), read())
    ],
    "labels.hamming_loss": lambda: [Case(metrics.hamming_loss(), given) for given in ((proba(3), CLASSES), (SAID, MANY))],
    "labels.zero_one_loss": lambda: [Case(metrics.zero_one_loss(), given) for given in ((proba(3), CLASSES), (SAID, MANY))],
    "labels.precision": lambda: both(metrics.precision),
    "labels.recall": lambda: both(metrics.recall),
    "labels.f1": lambda: both(metrics.f1),
    "labels.jaccard": lambda: both(metrics.jaccard),
    "labels.fbeta": lambda: [Case(metrics.fbeta(2.0), (proba(2), LABELS)), Case(metrics.fbeta(2.0, "macro", 4, True), (SAID, MANY))],
    "labels.f1_macro": lambda: [Case(metrics.f1_macro(3), (proba(3), CLASSES))],
    "labels.balanced_accuracy": lambda: [Case(metrics.balanced_accuracy(3), (proba(3), CLASSES))],
    "labels.precision_macro": lambda: [Case(metrics.precision_macro(3), (proba(3), CLASSES))],
    "labels.recall_macro": lambda: [Case(metrics.recall_macro(3), (proba(3), CLASSES))],
    "labels.matthews": lambda: [Case(metrics.matthews(3), (proba(3), CLASSES))],
    "labels.cohen_kappa": lambda: [Case(metrics.cohen_kappa(3, "linear"), (proba(3), CLASSES))],
    "labels.positive_likelihood_ratio": lambda: [Case(metrics.positive_likelihood_ratio(), (proba(2), LABELS))],
    "labels.negative_likelihood_ratio": lambda: [Case(metrics.negative_likelihood_ratio(), (proba(2), LABELS))],
    "probabilities.log_loss": lambda: [
        *(Case(metrics.log_loss(), given) for given in ((proba(3), CLASSES), read())), Case(metrics.log_loss("tokens"), read())
    ],
    "probabilities.brier_score": lambda: [Case(metrics.brier_score(), (proba(3), CLASSES))],
    "probabilities.top_k_accuracy": lambda: [Case(metrics.top_k_accuracy(2), (proba(3), CLASSES))],
    "probabilities.d2_log_loss": lambda: [Case(metrics.d2_log_loss(3), (proba(3), CLASSES))],
    "probabilities.d2_brier": lambda: [Case(metrics.d2_brier(3), (proba(3), CLASSES))],
    "calibration.calibration_error": lambda: [Case(metrics.calibration_error(), (proba(3), CLASSES))],
    "calibration.adaptive_calibration_error": lambda: [Case(metrics.adaptive_calibration_error(2), (proba(3), CLASSES))],
    "calibration.brier_decomposition": lambda: [Case(metrics.brier_decomposition(3), (proba(2), LABELS))],
    "scores.roc_auc": lambda: [Case(metrics.roc_auc(), given) for given in ((proba(2), LABELS), (proba(3), CLASSES))],
    "scores.average_precision": lambda: [Case(metrics.average_precision(), given) for given in ((proba(2), LABELS), (proba(3), CLASSES))],
    "scores.binned_roc_auc": lambda: [Case(metrics.binned_roc_auc(), (proba(2), LABELS))],
    "scores.binned_average_precision": lambda: [Case(metrics.binned_average_precision(), (proba(2), LABELS))],
    "scores.hinge_loss": lambda: [Case(metrics.hinge_loss(), ({"decision_function": ROWS.x}, CLASSES))],
    "targeting.gain": lambda: [Case(metrics.gain(0.3), (proba(2), LABELS))],
    "targeting.lift": lambda: [Case(metrics.lift(0.3), (proba(2), LABELS))],
    "targeting.kolmogorov_smirnov": lambda: [Case(metrics.kolmogorov_smirnov(), (proba(2), LABELS))],
    "targeting.profit": lambda: [Case(metrics.profit(3.0, 1.0), (proba(2), LABELS))],
    "targeting.maximum_profit": lambda: [Case(metrics.maximum_profit(3.0, 1.0), (proba(2), LABELS))],
    "ranking.coverage_error": lambda: [Case(metrics.coverage_error(), (SAID, MANY))],
    "ranking.label_ranking_average_precision": lambda: [Case(metrics.label_ranking_average_precision(), (SAID, MANY))],
    "ranking.label_ranking_loss": lambda: [Case(metrics.label_ranking_loss(), (SAID, MANY))],
    "ranking.dcg": lambda: [Case(metrics.dcg(2), (SAID, MANY))],
    "ranking.ndcg": lambda: [Case(metrics.ndcg(2), (SAID, MANY))],
    "ranking.mean_average_precision_at": lambda: [Case(metrics.mean_average_precision_at(2), (SAID, MANY))],
    "ranking.mean_reciprocal_rank": lambda: [Case(metrics.mean_reciprocal_rank(2), (SAID, MANY))],
    "ranking.hit_rate": lambda: [Case(metrics.hit_rate(2), (SAID, MANY))],
    "ranking.catalogue_coverage": lambda: [Case(metrics.catalogue_coverage(2, 4), (SAID, MANY))],
    "ranking.diversity": lambda: [Case(metrics.diversity(2, 4), (SAID, MANY))],
    **{f"clustering.{name}": lambda name=name: [Case(getattr(metrics, name)(3, 3), (CLUSTERS, CLASSES))] for name in (
        "adjusted_rand_index", "normalized_mutual_information", "rand_index", "fowlkes_mallows", "homogeneity", "completeness", "v_measure",
        "mutual_information",
    )},
    **{f"clustering.{name}": lambda name=name: [Case(getattr(metrics, name)(), (GROUPS, WHOLE))] for name in (
        "adjusted_mutual_information", "silhouette", "calinski_harabasz", "davies_bouldin",
    )},
    "density.negative_log_likelihood": lambda: [Case(metrics.negative_log_likelihood(), ({"score_samples": ROWS.x[:, 0]}, ROWS))],
    "codes.code_perplexity": lambda: [
        Case(metrics.code_perplexity(4), ({"codes": jnp.array([[0, 1], [2, 2], [3, 0], [0, 0], [-1, 7], [1, 1]])}, ROWS))
    ],
    "probes.probe_accuracy": lambda: [Case(metrics.probe_accuracy(2), ({"embedding": floats(6, 2, 3)}, CLASSES))],
    "language.perplexity": lambda: [Case(metrics.perplexity(), given) for given in (read(), (proba(3), CLASSES))],
    "language.bits_per_byte": lambda: [Case(metrics.bits_per_byte(4.0), read())],
    **{f"regression.{name}": lambda name=name: [Case(getattr(metrics, name)(), (NUMBERS, ROWS))] for name in (
        "mean_squared_error", "root_mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "r2_score",
        "explained_variance", "mean_pinball_loss", "max_error", "median_absolute_error", "d2_absolute_error", "d2_pinball",
    )},
    **{f"regression.{name}": lambda name=name: [Case(getattr(metrics, name)(), (OVER, POSITIVE))] for name in (
        "mean_squared_log_error", "root_mean_squared_log_error", "mean_tweedie_deviance", "mean_poisson_deviance", "mean_gamma_deviance",
        "d2_tweedie",
    )},
    "uncertainty.interval_coverage": lambda: [Case(metrics.interval_coverage(), (INTERVALS, ROWS))],
    "uncertainty.interval_width": lambda: [Case(metrics.interval_width(), (INTERVALS, ROWS))],
    "uncertainty.interval_score": lambda: [Case(metrics.interval_score(), (INTERVALS, ROWS))],
    "uncertainty.crps": lambda: [Case(metrics.crps(), ({"draws": ROWS.x}, ROWS))],
    "uncertainty.normal_crps": lambda: [Case(metrics.normal_crps(), (NUMBERS | {"predict_deviation": OVER["predict"]}, ROWS))],
    "samples.frechet_distance": lambda: [Case(metrics.frechet_distance(3), ({"sample": ROWS.x[::-1] * 2}, ROWS), tolerance=1e-3)],
    "samples.kernel_distance": lambda: [Case(metrics.kernel_distance(3), ({"sample": WHOLE.x[::-1] * 2}, WHOLE))],
    "samples.sample_accuracy": lambda: [Case(metrics.sample_accuracy(), ({"sample": CLASSES.x[::-1] * 2}, CLASSES))],
    "masks.iou": lambda: [Case(metrics.iou(3), (MASKS, SMALL))],
    "masks.dice": lambda: [Case(metrics.dice(3), (MASKS, SMALL))],
    "images.psnr": lambda: [Case(metrics.psnr(), (SIZED, IMAGES._replace(y=IMAGES.x)))],
    "images.ssim": lambda: [Case(metrics.ssim(), ({"predict": LARGE.y[::-1]}, LARGE))],
    "images.ms_ssim": lambda: [
        Case(metrics.ms_ssim(), ({"predict": jnp.abs(floats(6, 161, 161)[::-1])}, LARGE._replace(y=jnp.abs(floats(6, 161, 161)))))
    ],
    "images.perceptual_distance": lambda: [Case(metrics.perceptual_distance(layers), (SIZED, IMAGES._replace(y=IMAGES.x)))],
    "boxes.mean_average_precision": lambda: [Case(metrics.mean_average_precision(), (FOUND, ROWS._replace(x=None, y=BOXES)))],
    **{f"texts.{name}": lambda name=name: [Case(getattr(metrics, name)(), (WORDS, TEXTS))] for name in (
        "bleu", "chrf", "rouge", "meteor", "exact_answer", "answer_f1", "word_error_rate", "character_error_rate",
    )},
}.items()}  # fmt: skip

test_laws = pytest.mark.slow(law_test(CASES))
