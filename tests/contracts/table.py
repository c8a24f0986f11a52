"""How a room's table of cases becomes tests: every record keeps every law of its kind, within a budget."""

import os
import time
from collections.abc import Callable

import pytest

from arsenal.testing import LAWS, Case

BUDGET = 10.0
"""CPU seconds for all laws of a record, everything compiled anew."""


def law_test(cases: dict[str, Callable[[], list[Case]]], dear: dict[str, str] | None = None) -> Callable:
    """The test of a room's table, `name -> its cases`, which are made when their test runs. A room marks it slow.

    `dear` gives the reason of every record that takes more than the budget: smaller cases are better.
    """
    dear = dear or {}
    assert dear.keys() <= cases.keys(), f"Reasons for what is not in the table: {', '.join(dear.keys() - cases.keys())}."

    @pytest.mark.parametrize("name", cases)
    def test_laws(name):
        began = time.process_time()
        for case in cases[name]():
            for law, holds in LAWS[type(case.record)].items():
                try:
                    holds(case)
                except AssertionError as error:
                    raise AssertionError(f"{name}, law `{law}`: {error}") from error
        took = time.process_time() - began
        # Twice the budget fails: a busy or slower machine takes longer for the same. It is of programs that compile quickly.
        if os.environ.get("ARSENAL_TEST_QUICK") == "1":
            assert took < 2 * BUDGET or name in dear, f"The laws of {name} took {took:.1f} CPU seconds, over the budget of {BUDGET:g}."

    return test_laws
