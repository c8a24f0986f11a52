"""The laws as checks that anybody can run on a record of their own, `check(record, rows)`; model tests for pytest."""

from arsenal.testing.discovery import factories
from arsenal.testing.laws import LAWS, Case, check
from arsenal.testing.models import model_test

__all__ = ["LAWS", "Case", "check", "factories", "model_test"]
