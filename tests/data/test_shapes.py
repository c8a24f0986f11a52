"""Drawn shapes: what the pixels say, SciPy finds."""

import numpy as np
import pytest
from scipy import ndimage

from arsenal.data import shapes


@pytest.mark.parametrize("size", [32, 64])
def test_boxes_are_those_that_scipy_finds_in_the_masks(size):
    masks, boxes = (shapes(40, size, 1, target).rows.y for target in ("masks", "boxes"))
    for mask, (box,), (label,) in zip(masks, boxes["boxes"], boxes["labels"], strict=True):
        rows, columns = ndimage.find_objects((mask > 0).astype(int))[0]
        assert box.tolist() == [columns.start, rows.start, columns.stop, rows.stop]
        assert np.unique(mask).tolist() == [0, label + 1]


def test_shapes_have_the_areas_of_their_kinds():
    found = shapes(200, 64, 1)
    boxes = shapes(200, 64, 1, "boxes").rows.y
    size = boxes["boxes"][:, 0, 2:] - boxes["boxes"][:, 0, :2]
    share = (found.rows.y > 0).sum((1, 2)) / size.prod(1)
    for label, area in enumerate((np.pi / 4, 1, 0.5)):
        mine = share[boxes["labels"][:, 0] == label]
        assert len(mine) > 40 and abs(mine.mean() - area) < 0.05, label


def test_without_noise_a_picture_has_a_colour_for_each_shape_and_one_behind():
    still = shapes(30, noise=0.0)
    counts = (shapes(30, target="boxes", noise=0.0).rows.y["labels"] >= 0).sum(1)
    assert set(counts) == {1, 2, 3}
    for picture, mask, count in zip(still.rows.x, still.rows.y, counts, strict=True):
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) == count + 1
        assert len(np.unique(picture[mask == 0], axis=0)) == 1


def test_a_picture_is_a_function_of_the_seed_and_its_row():
    few, more, other = shapes(3), shapes(5), shapes(3, seed=1)
    np.testing.assert_array_equal(few.rows.x, more.rows.x[:3])
    assert not (few.rows.x == other.rows.x).all() and few.fingerprint != other.fingerprint
    assert few.rows.x.dtype == np.float32 and few.rows.x.min() >= 0 and few.rows.x.max() <= 1


def test_another_target_is_refused():
    with pytest.raises(ValueError, match="`target` of `shapes` must be masks or boxes; got both"):
        shapes(1, target="both")
