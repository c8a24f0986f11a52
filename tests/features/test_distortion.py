"""Pictures changed at random: each change is the plain formula, each draw the row's own and as often as told."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from arsenal import features
from arsenal.features import distortion
from arsenal.features.distortion import OPERATIONS, operate
from arsenal.records import batch, hyperparameters

RNG = np.random.default_rng(0)
PICTURE = RNG.uniform(size=(7, 6, 3)).astype(np.float32)
MANY = batch(x=np.broadcast_to(PICTURE, (600, 7, 6, 3)))


def changed(augmentation, rows=MANY, seed=3):
    return np.asarray(jax.jit(augmentation.apply)(jax.random.key(seed), rows, hyperparameters(augmentation.hp)).x)


def places(made):
    """The different pictures and how often each came."""
    found, count = np.unique(made.reshape(len(made), -1).round(5), axis=0, return_counts=True)
    return found.reshape(-1, *made.shape[1:]), count


def test_a_crop_is_one_of_the_places_each_as_often():
    wide = np.pad(PICTURE, ((1, 1), (1, 1), (0, 0)))
    wanted = np.array([wide[i : i + 7, j : j + 6] for i in range(3) for j in range(3)])
    found, count = places(changed(features.random_crop(1)))
    np.testing.assert_allclose(found, places(wanted)[0])
    assert count.min() > 600 / 9 - 4 * np.sqrt(600 / 9)


def test_flips_come_as_often_as_told():
    made = changed(features.random_flip(0.25, 0.5))
    kinds = [PICTURE, PICTURE[:, ::-1], PICTURE[::-1], PICTURE[::-1, ::-1]]
    shares = [np.mean([np.array_equal(one, kind) for one in made]) for kind in kinds]
    np.testing.assert_allclose(shares, [0.375, 0.125, 0.375, 0.125], atol=0.07)
    assert sum(shares) == pytest.approx(1)


def hsv_turned(by):
    out = np.empty_like(PICTURE)
    for at in np.ndindex(7, 6):
        h, s, v = colorsys.rgb_to_hsv(*map(float, PICTURE[at]))
        out[at] = colorsys.hsv_to_rgb((h + by) % 1, s, v)
    return out


def blended(other, factor):
    return np.clip(factor * PICTURE + (1 - factor) * other, 0, 1)


GREY = PICTURE @ np.array([0.299, 0.587, 0.114], np.float32)


def smoothed():
    weight = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    out = PICTURE.copy()
    for c in range(3):
        out[1:-1, 1:-1, c] = ndimage.correlate(PICTURE[..., c], weight)[1:-1, 1:-1]
    return out


COLOR = {
    "brightness": lambda factor: blended(0, factor), "contrast": lambda factor: blended(GREY.mean(), factor),
    "saturation": lambda factor: blended(GREY[..., None], factor), "sharpness": lambda factor: blended(smoothed(), factor),
}  # fmt: skip


@pytest.mark.parametrize("value", [-0.3, 0.0, 0.17, 0.5])
def test_hue_is_colorsys(value):
    np.testing.assert_allclose(distortion.turn_hue(jnp.asarray(PICTURE), jnp.float32(value)), hsv_turned(value), atol=1e-5)


def test_colors_are_drawn_within_their_range():
    made = changed(features.color_jitter(0.5, 0.0, 0.0, 0.0), MANY._replace(x=MANY.x * 0.5))
    factor = made[:, 0, 0, 0] / (PICTURE[0, 0, 0] * 0.5)
    np.testing.assert_allclose(made, np.clip(factor[:, None, None, None] * PICTURE * 0.5, 0, 1), atol=1e-5)
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5001 and factor.mean() == pytest.approx(1, abs=0.05)
    in_bytes = changed(features.color_jitter(0.5, 0.3, 0.2, 0.1, 255.0), MANY._replace(x=MANY.x * 255))
    np.testing.assert_allclose(in_bytes / 255, changed(features.color_jitter(0.5, 0.3, 0.2, 0.1)), atol=1e-4)
    alone = changed(features.color_jitter(0.0, 0.0, 0.0, 0.4))
    assert len(places(alone)[0]) > 500 and np.allclose(alone.max(-1), PICTURE.max(-1), atol=1e-6)


def test_erased_boxes_have_the_area_and_the_shape_that_were_told():
    rows = batch(x=np.ones((2000, 40, 30), np.float32))
    made = changed(features.random_erasing(0.7, 0.1, 0.2, 2.0, fill=-1.0), rows)
    gone = made == -1
    there = gone.any((1, 2))
    assert there.mean() == pytest.approx(0.7, abs=0.04) and (made[~there] == 1).all()
    h, w = gone.any(2).sum(1)[there], gone.any(1).sum(1)[there]
    assert (gone.sum((1, 2))[there] == h * w).all()  # a rectangle
    area = h * w / 1200
    assert area.min() > 0.085 and area.max() < 0.22 and area.mean() == pytest.approx(0.15, abs=0.01)
    assert (h / w).min() > 0.45 and (h / w).max() < 2.2 and np.median(h / w) == pytest.approx(1, abs=0.1)
    assert gone[there].mean(0)[5:-5, 5:-5].min() > 0.05  # anywhere


def by_scipy(matrix, shift):
    """Each channel by SciPy; its pixels outside are mixed with the border's, as ours are."""
    centre = np.array([3.0, 2.5])
    offset = centre + shift - matrix @ centre
    pages = [ndimage.affine_transform(PICTURE[..., c], matrix, offset, order=1, mode="grid-constant") for c in range(3)]
    return np.stack(pages, -1)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", [-0.6, 0.4])
def test_each_operation_is_its_formula(name, size):
    made = jax.jit(operate)(jnp.asarray(PICTURE), jnp.int32(OPERATIONS.index(name)), jnp.float32(size))
    turn, eye = size * np.pi / 6, np.eye(2)
    wanted = {
        "identity": lambda: PICTURE,
        "rotate": lambda: by_scipy(np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]), 0),
        "shear_x": lambda: by_scipy(eye + [[0, 0], [0.3 * size, 0]], 0),
        "shear_y": lambda: by_scipy(eye + [[0, 0.3 * size], [0, 0]], 0),
        "translate_x": lambda: by_scipy(eye, np.array([0, 0.45 * 6 * size])),
        "translate_y": lambda: by_scipy(eye, np.array([0.45 * 7 * size, 0])),
        "solarize": lambda: np.where(1 - abs(size) <= PICTURE, 1 - PICTURE, PICTURE),
    } | {key: lambda key=key: COLOR[key](1 + 0.9 * size) for key in COLOR}
    np.testing.assert_allclose(made, wanted[name](), atol=2e-5)


def test_rand_augment_takes_every_operation_and_one_after_another():
    once = changed(features.rand_augment(1, 0.4))
    wanted = np.array([operate(jnp.asarray(PICTURE), jnp.int32(i), jnp.float32(s)) for i in range(len(OPERATIONS)) for s in (-0.4, 0.4)])
    far = np.abs(once[:, None] - wanted[None]).max((2, 3, 4))
    assert far.min(1).max() < 1e-5
    nearest = np.bincount(far.argmin(1) // 2, minlength=len(OPERATIONS))
    assert nearest.min() > 600 / 11 - 4 * np.sqrt(600 / 11)
    assert len(places(changed(features.rand_augment(2, 0.4)))[0]) > len(places(once)[0])


def test_steps_in_turn_are_one_after_another_with_floats_of_their_own():
    both = features.in_turn([features.random_flip(1.0), features.random_crop(2)])
    made = jax.jit(both.apply)(jax.random.key(5), MANY, hyperparameters(both.hp))
    first, second = features.random_flip(1.0), features.random_crop(2)
    keys = [jax.random.fold_in(jax.random.key(5), i) for i in range(2)]
    wanted = second.apply(keys[1], first.apply(keys[0], MANY, hyperparameters(first.hp)), hyperparameters(second.hp))
    np.testing.assert_array_equal(made.x, wanted.x)
    mixed = features.in_turn([features.random_crop(1), features.mixup(0.2, 3)])
    assert mixed.exempt == features.mixup(0.2, 3).exempt and mixed.hp == [{}, {"alpha": 0.2}]


@pytest.mark.parametrize(
    "augmentation", [features.random_crop(2), features.random_flip(), features.random_erasing(), features.color_jitter(), features.rand_augment()]
)
def test_a_rows_draw_is_its_ids(augmentation):
    rows = batch(x=RNG.uniform(size=(8, 5, 5)).astype(np.float32), row=np.arange(8) + 40)
    backwards = jax.tree.map(lambda v: v[::-1], rows)
    np.testing.assert_array_equal(changed(augmentation, backwards)[::-1], changed(augmentation, rows))


@pytest.mark.parametrize(
    ("augmentation", "x", "message"),
    [
        (features.random_crop(), np.zeros((2, 3), np.float32), r"`random_crop` takes pictures \[n, height, width\].*float32 of shape \(2, 3\)"),
        (features.color_jitter(), np.zeros((2, 3, 3), np.uint8), "`color_jitter` takes pictures .* of floats, of 1 or 3 channels; got uint8"),
        (features.rand_augment(), np.zeros((2, 3, 3, 2), np.float32), r"1 or 3 channels; got float32 of shape \(2, 3, 3, 2\)"),
        (features.random_flip(), {"a": np.zeros((2, 3))}, "`random_flip` takes pictures .*; got dict"),
    ],
)  # fmt: skip
def test_errors_say_what_came(augmentation, x, message):
    with pytest.raises(ValueError, match=message):
        augmentation.apply(jax.random.key(0), batch(x=x), hyperparameters(augmentation.hp))


def test_least_is_at_most_most():
    with pytest.raises(ValueError, match="`least` of `random_erasing` must be at most `most`, 0.1; got 0.2"):
        features.random_erasing(0.5, 0.2, 0.1)
