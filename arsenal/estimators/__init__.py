"""Classical learners by family."""

from arsenal.estimators.linear import logistic

__all__ = ["logistic"]
