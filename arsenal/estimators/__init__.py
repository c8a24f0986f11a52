"""Classical learners by family."""

from arsenal.estimators.linear import logistic, ridge

__all__ = ["logistic", "ridge"]
