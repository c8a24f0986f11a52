"""The laws as checks that anybody can run on a record of their own: `check(record, rows)`."""

from arsenal.testing.discovery import factories
from arsenal.testing.laws import LAWS, Case, check

__all__ = ["LAWS", "Case", "check", "factories"]
