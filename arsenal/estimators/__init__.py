"""Classical learners by family."""

from arsenal.estimators.cluster import kmeans
from arsenal.estimators.linear import logistic, ridge

__all__ = ["kmeans", "logistic", "ridge"]
