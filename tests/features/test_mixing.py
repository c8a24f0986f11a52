"""Mixed batches: what is drawn, by hand, and that dead rows neither lend nor move anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses
from arsenal.features.mixing import box, living_row_at, mix_rows, paste_boxes
from arsenal.records import batch, hyperparameters

KEY = jax.random.key(3)
N = 400
SHAPE = (9, 4, 4)
mixup_jitted, cutmix_jitted = (jax.jit(mix, static_argnames="classes") for mix in (mix_rows, paste_boxes))
both = pytest.mark.parametrize("mix", [mixup_jitted, cutmix_jitted], ids=["mixup", "cutmix"])


def labelled(x, weight=None):
    return batch(x=x, y=np.arange(len(x)) % 3, weight=weight)


def test_a_place_between_0_and_1_falls_on_a_living_row():
    weight = jnp.array([0.0, 2.0, 0.0, 0.5, 1.0, 0.0])
    at = jnp.array([0.0, 0.33, 0.34, 0.66, 0.67, 1.0])
    assert living_row_at(at, weight).tolist() == [1, 1, 3, 3, 4, 4]
    assert living_row_at(at, jnp.zeros(6)).tolist() == [0] * 6


def test_a_box_by_hand():
    # sqrt(1 - 0.75) is half of each side: 2 of 4 rows, 3 of 6 columns, of which half of 3 is 1 to either side.
    share = jnp.array([0.75, 0.75, 0.0, 1.0])
    centre = jnp.array([[0.5, 0.5], [0.0, 0.99], [0.5, 0.5], [0.5, 0.5]])
    inside = np.asarray(box(share, centre, (4, 6)))
    wanted = np.zeros((4, 4, 6), bool)
    wanted[0, 1:3, 2:4] = True
    wanted[1, 0:1, 4:6] = True
    wanted[2] = True
    assert np.array_equal(inside, wanted)


def test_mixup_by_hand():
    # Of nine rows two are alive, so either is the other's partner or its own.
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    rows = labelled(x, weight=[0, 1, 0, 0, 0, 2, 0, 0, 0])._replace(y=jnp.array([2, 0, 2, 2, 2, 1, 2, 2, 2]))
    seen = []
    for seed in range(6):
        mixed = mixup_jitted(jax.random.key(seed), rows, 0.4, classes=3)
        y = np.asarray(mixed.y[jnp.array([1, 5])])
        np.testing.assert_allclose(mixed.x[1], y[0, 0] * x[1] + y[0, 1] * x[5], atol=1e-5)
        np.testing.assert_allclose(mixed.x[5], y[1, 0] * x[1] + y[1, 1] * x[5], atol=1e-5)
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
        assert y[:, 2].tolist() == [0, 0]
        seen.append(y[0, 0])
    assert min(seen) < 0.9 and len(set(seen)) > 2


def test_probabilities_and_inputs_by_name_are_mixed_alike():
    rows = labelled(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    alone = mixup_jitted(KEY, rows, 1.0, classes=3)
    hot = jax.nn.one_hot(rows.y, 3)
    named = mixup_jitted(KEY, rows._replace(x={"a": rows.x, "b": 2 * rows.x}, y=hot), 1.0)
    np.testing.assert_allclose(named.x["a"], alone.x, atol=1e-6)
    np.testing.assert_allclose(named.x["b"], 2 * alone.x, atol=1e-6)
    np.testing.assert_allclose(named.y, alone.y, atol=1e-6)
    assert jnp.array_equal(named.row, rows.row) and jnp.array_equal(named.weight, rows.weight)


def test_cutmix_puts_the_target_where_the_pixels_are():
    # Every image is of one colour, its number, so the mean colour says how much of the partner is there.
    images = np.broadcast_to(np.arange(N, dtype=np.float32)[:, None, None, None], (N, 8, 6, 2))
    rows = batch(x=images, y=np.eye(N, dtype=np.float32))
    mixed = cutmix_jitted(KEY, rows, 1.0)
    np.testing.assert_allclose(mixed.x.mean((1, 2, 3)), np.asarray(mixed.y) @ np.arange(N), rtol=1e-4)
    assert mixed.x.dtype == rows.x.dtype and set(np.unique(mixed.x)) <= set(range(N))
    # Whole pixels change, whatever the channels, and they fill a rectangle.
    changed = np.asarray(mixed.x != rows.x)
    assert np.array_equal(changed[..., 0], changed[..., 1])
    for image in changed[..., 0]:
        assert image.sum() == image.any(0).sum() * image.any(1).sum()
    assert 0.1 < changed.mean() < 0.5


@both
def test_dead_rows_are_nobodys_partner_and_move_nothing(mix):
    rng = np.random.default_rng(0)
    rows = labelled(rng.normal(size=(6, 4, 4)).astype(np.float32))
    at = np.minimum(np.arange(9), 5)
    last = jax.tree.map(lambda v: v[at], rows)._replace(weight=jnp.array([1.0] * 6 + [0.0] * 3))
    alone = jax.tree.map(lambda v: v[:6], mix(KEY, last, 0.7, classes=3))
    at = np.array([0, 0, 1, 2, 3, 3, 4, 5, 5])
    dead = np.array([False, True, False, False, False, True, False, False, True])
    grown = jax.tree.map(lambda v: v[at], rows)
    grown = grown._replace(
        x=jnp.where(dead[:, None, None], jnp.nan, grown.x), weight=jnp.where(dead, 0.0, 1.0), row=jnp.where(dead, 99, grown.row)
    )
    mixed = mix(KEY, grown, 0.7, classes=3)
    np.testing.assert_array_equal(mixed.x[~dead], alone.x)
    np.testing.assert_array_equal(mixed.y[~dead], alone.y)
    assert mixed.weight.tolist() == grown.weight.tolist()


@both
def test_a_row_alone_stays_as_it_is(mix):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    mixed = mix(KEY, labelled(x, weight=[0, 1] + [0] * 7), 1.0, classes=3)
    np.testing.assert_allclose(mixed.x[1], x[1], rtol=1e-6)
    np.testing.assert_allclose(mixed.y[1], [0, 1, 0], atol=1e-6)


def test_shares_and_partners_are_drawn_as_told():
    rows = batch(x=np.zeros((N, 1), np.float32), y=np.eye(N, dtype=np.float32))
    traces = []

    @jax.jit
    def mixed(alpha):
        traces.append(1)
        return mix_rows(KEY, rows, alpha)

    for alpha in (0.2, 5.0):
        y = np.asarray(mixed(jnp.float32(alpha)).y)
        share = np.diag(y)
        # Beta(a, a) has the mean 1/2 and the variance 1 / (8 a + 4).
        assert share.mean() == pytest.approx(0.5, abs=0.06)
        assert share.var() == pytest.approx(1 / (8 * alpha + 4), rel=0.2)
        partners = (y - np.diag(share)).argmax(1)
        assert len(set(partners.tolist())) > 0.55 * N  # 1 - 1/e of them, drawn with replacement
    assert len(traces) == 1


def test_cross_entropy_takes_the_mixed_targets():
    loss, logits = losses.cross_entropy(), jnp.asarray(np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32))
    rows = mixup_jitted(KEY, labelled(np.zeros(SHAPE, np.float32)), 1.0, classes=3)
    loss.check(logits, rows)
    wanted = -(np.asarray(rows.y) * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    np.testing.assert_allclose(loss.value(logits, rows, hyperparameters(loss.hp)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("mix", "x", "y", "classes", "message"),
    [
        (mix_rows, np.zeros((2, 3), np.int32), np.zeros(2, int), 3, "`mixup` takes x of floats.*int32 of shape"),
        (mix_rows, np.zeros((2, 3), np.float32), np.zeros(2, int), None, "or of labels .n. with `classes` given; got int.*classes=None"),
        (mix_rows, np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32), 3, r"got float32 of shape \(2, 4\) and classes=3"),
        (paste_boxes, np.zeros((2, 3), np.float32), np.zeros(2, int), 3, r"`cutmix` takes images.*got \(2, 3\)"),
    ],
)
def test_errors_say_what_came(mix, x, y, classes, message):
    with pytest.raises(ValueError, match=message):
        mix(KEY, batch(x=x, y=y), 1.0, classes=classes)
