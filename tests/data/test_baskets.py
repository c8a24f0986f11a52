"""Lines of items become rows of 0 and 1, and one item of each the target."""

import numpy as np
import pytest

from arsenal.data import baskets


def saved(tmp_path, content: str) -> str:
    path = tmp_path / "some.txt"
    path.write_text(content)
    return str(path)


def test_a_line_is_a_basket(tmp_path):
    path = saved(tmp_path, "milk; bread\n\nbread;bread ; tea\ntea\n")
    data = baskets(path, ";")
    assert data.schema.inputs["x"].columns == ["bread", "milk", "tea"]
    assert data.rows.x.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert data.rows.y is None and data.rows.row.tolist() == [0, 2, 3]
    one = baskets(path, ";", "one")
    assert one.rows.x.tolist() == [[1, 0, 0], [0, 0, 1]] and one.rows.y.tolist() == [1, 0]
    assert one.schema.target.columns == ["bread", "milk", "tea"]


def test_groceries_ship():
    data = baskets(target="one")
    assert data.rows.x.shape == (964, 31) and np.isin(data.rows.x, [0, 1]).all()
    assert not data.rows.x[np.arange(964), data.rows.y].any()


def test_what_is_no_basket_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"some.txt must have a basket of 2 or more items, separated by ','; got none"):
        baskets(saved(tmp_path, "milk\ntea\n"), target="one")
    with pytest.raises(ValueError, match="`target` of `baskets` must be one or none; got 'last'"):
        baskets(target="last")
