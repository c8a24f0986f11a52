"""How a room's table of cases becomes tests: every record keeps every law of its kind."""

from collections.abc import Callable

import pytest

from arsenal.testing import LAWS, Case


def law_test(cases: dict[str, Callable[[], list[Case]]]) -> Callable:
    """The test of a room's table: `name -> the cases`, made when its test runs."""

    @pytest.mark.parametrize("name", cases)
    def test_laws(name):
        for case in cases[name]():
            for law, holds in LAWS[type(case.record)].items():
                try:
                    holds(case)
                except AssertionError as error:
                    raise AssertionError(f"{name}, law `{law}`: {error}") from error

    return test_laws
