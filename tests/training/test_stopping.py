"""When more steps are of no use: by hand."""

import pytest

from arsenal.training.stopping import is_exhausted


@pytest.mark.parametrize(("values", "more", "ends"), [
    ([1.0, 0.95], {"patience": 1, "min_delta": 0.1}, True),
    ([1.0, 0.85], {"patience": 1, "min_delta": 0.1}, False),
    ([1.0, 1.05], {"patience": 1, "min_delta": 0.1}, True),
    ([0.5, 0.55], {"patience": 1, "min_delta": 0.1, "mode": "max"}, True),
    ([0.5, 0.65], {"patience": 1, "min_delta": 0.1, "mode": "max"}, False),
    ([0.5, 0.4, 0.3], {"patience": 2, "mode": "max"}, True),
    ([0.5, 0.4, 0.6], {"patience": 2, "mode": "max"}, False),
    ([3.0, 3.0], {"patience": 1}, True),
    ([3.0, None, float("nan"), 2.0], {"patience": 3}, False),
    ([3.0, None, float("nan")], {"patience": 2}, True),
    ([3.0, 2.9, 2.88, 2.87], {"patience": 3, "min_delta": 0.15}, True),
    ([3.0, 2.9, 2.88, 2.80], {"patience": 3, "min_delta": 0.15}, False),
])  # fmt: skip
def test_patience_ends_where_nothing_gets_better(values, more, ends):
    assert is_exhausted(values, **more) == ends
