"""Metrics of models that say how likely a row is."""

from arsenal.metrics.average import answer, average
from arsenal.records import Metric


def negative_log_likelihood() -> Metric:
    """The mean of `-score_samples` [n], the log-likelihood of each row; in nats where the answer is.

    >>> from arsenal.records import batch
    >>> from jax.numpy import array
    >>> metric = negative_log_likelihood()
    >>> acc = metric.update(metric.empty(), {"score_samples": array([-1.0, -3.0])}, batch(y=[0, 0]))
    >>> float(metric.compute(acc)["negative_log_likelihood"])
    2.0
    """
    name = "negative_log_likelihood"
    return average(name, lambda outputs, batch: -answer(outputs, "score_samples", name), "min")
