"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
from rows import CLASSES, LABELS, ROWS, SENTENCES, proba
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


CASES = {f"arsenal.metrics.{name}": make for name, make in {
    "average.average": lambda: [Case(metrics.average("size", lambda outputs, rows: jnp.abs(outputs["predict"])), (proba(3), CLASSES))],
    "classification.accuracy": lambda: [
        *(Case(metrics.accuracy(), given) for given in ((proba(3), CLASSES), read())), Case(metrics.accuracy("tokens"), read())
    ],
    "classification.log_loss": lambda: [
        *(Case(metrics.log_loss(), given) for given in ((proba(3), CLASSES), read())), Case(metrics.log_loss("tokens"), read())
    ],
    "classification.brier_score": lambda: [Case(metrics.brier_score(), (proba(3), CLASSES))],
    "classification.calibration_error": lambda: [Case(metrics.calibration_error(), (proba(3), CLASSES))],
    "classification.f1_macro": lambda: [Case(metrics.f1_macro(3), (proba(3), CLASSES))],
    "classification.roc_auc": lambda: [Case(metrics.roc_auc(), (proba(2), LABELS))],
    "classification.precision": lambda: [Case(metrics.precision(), (proba(2), LABELS))],
    "classification.recall": lambda: [Case(metrics.recall(), (proba(2), LABELS))],
    "classification.f1": lambda: [Case(metrics.f1(), (proba(2), LABELS))],
    "classification.average_precision": lambda: [Case(metrics.average_precision(), (proba(2), LABELS))],
    "classification.top_k_accuracy": lambda: [Case(metrics.top_k_accuracy(2), (proba(3), CLASSES))],
    "classification.balanced_accuracy": lambda: [Case(metrics.balanced_accuracy(3), (proba(3), CLASSES))],
    "classification.precision_macro": lambda: [Case(metrics.precision_macro(3), (proba(3), CLASSES))],
    "classification.recall_macro": lambda: [Case(metrics.recall_macro(3), (proba(3), CLASSES))],
    "classification.matthews": lambda: [Case(metrics.matthews(3), (proba(3), CLASSES))],
    "clustering.adjusted_rand_index": lambda: [Case(metrics.adjusted_rand_index(3, 3), (CLUSTERS, CLASSES))],
    "clustering.normalized_mutual_information": lambda: [Case(metrics.normalized_mutual_information(3, 3), (CLUSTERS, CLASSES))],
    "density.negative_log_likelihood": lambda: [Case(metrics.negative_log_likelihood(), ({"score_samples": ROWS.x[:, 0]}, ROWS))],
    "language.perplexity": lambda: [Case(metrics.perplexity(), given) for given in (read(), (proba(3), CLASSES))],
    "language.bits_per_byte": lambda: [Case(metrics.bits_per_byte(4.0), read())],
    "regression.mean_squared_error": lambda: [Case(metrics.mean_squared_error(), (NUMBERS, ROWS))],
    "regression.root_mean_squared_error": lambda: [Case(metrics.root_mean_squared_error(), (NUMBERS, ROWS))],
    "regression.mean_absolute_error": lambda: [Case(metrics.mean_absolute_error(), (NUMBERS, ROWS))],
    "regression.mean_absolute_percentage_error": lambda: [Case(metrics.mean_absolute_percentage_error(), (NUMBERS, ROWS))],
    "regression.r2_score": lambda: [Case(metrics.r2_score(), (NUMBERS, ROWS))],
    "regression.explained_variance": lambda: [Case(metrics.explained_variance(), (NUMBERS, ROWS))],
    "samples.frechet_distance": lambda: [Case(metrics.frechet_distance(3), ({"sample": ROWS.x[::-1] * 2}, ROWS), tolerance=1e-3)],
}.items()}  # fmt: skip

test_laws = law_test(CASES)
