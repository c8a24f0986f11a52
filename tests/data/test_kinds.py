"""What a column is taken for."""

import numpy as np
import pytest

from arsenal.data.kinds import find_format, find_kind

LETTERS = [chr(97 + i) for i in range(26)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", "", "-3e2"], "number"),
        (["yes", "No", "", "YES"], "boolean"),
        (["true", "f", "T"], "boolean"),
        (["2024-02-29", "1999-12-31", "NA"], "time"),
        (["2024-02-29T12:00:00Z", "1999-12-31 23:59"], "time"),
        (["31.12.2024", "1.2.2025"], "time"),
        (["$1,234.50", "$12", "$3"], "formatted"),
        (["12 %", "7%", "n/a", "8.5 %"], "formatted"),
        (["1.234,50 €", "2,00 €", "7,10 €"], "formatted"),
        (["(1,200)", "300", "4,500"], "formatted"),
        (["007", "012", "100", "007"], "category"),
        (LETTERS * 2, "category"),
        ([f"user-{i}" for i in range(100)], "identifier"),
        ([str(i) for i in range(100)], "identifier"),
        ([str(2**60 + 7 * i) for i in range(100)], "identifier"),
        ([f"the {LETTERS[i % 26]} of number {i} is long" for i in range(100)], "text"),
        (["a", "a", "a"], "constant"),
        (["", "NA"], "constant"),
        (["a", "a", ""], "category"),
        (["1", "", "1"], "number"),
    ],
)  # fmt: skip
def test_columns_are_typed_by_their_values(values, kind):
    assert find_kind("c", values).kind == kind


def test_a_few_words_among_numbers_are_a_mistake_and_many_a_category():
    with pytest.raises(ValueError, match=r"Column `c` must hold numbers, as 99 of its values do; got 'twelve' in row 8, and 0 more"):
        find_kind("c", [*map(str, range(7)), "twelve", *map(str, range(92))])
    mixed = find_kind("ticket", [*map(str, range(100, 160)), *[f"A/5 {i}" for i in range(40)]] * 2)
    assert mixed.kind == "category" and mixed.why == "120 of 200 read as numbers, 100 levels"


@pytest.mark.parametrize(
    ("values", "format", "told"),
    [
        (["31.12.2024", "01.02.2024"], "%d.%m.%Y", False),
        (["12/31/2024", "01/02/2024"], "%m/%d/%Y", False),
        (["31/12/2024 18:30", "1/2/2024 07:05"], "%d/%m/%Y %H:%M", False),
        (["Dec 31, 2024", "May 1, 2024"], "%b %d, %Y", False),
        (["2024-12-31 18:30:00+02:00", "2024-12-31"], None, False),
        (["20241231", "20240101"], None, False),
        (["20241231", "20240101"], "%Y%m%d", True),
        (["31.12.2024", "1.1.2024", "soon"], None, False),
        (["31.12.2024", "soon", "never"], "%d.%m.%Y", True),
    ],
)
def test_the_format_of_dates_is_the_one_that_all_have(values, format, told):
    assert find_format("when", values, told) == format


def test_what_float32_cannot_hold_is_said():
    many = [str(i) for i in np.random.default_rng(0).integers(2**24, 2**30, 50)] * 2
    assert "float32" in find_kind("c", many).why
