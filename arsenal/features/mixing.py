"""Batches whose rows are mixed in pairs, targets and all: augmentations for classifiers, used while training.

Every row draws its share and its partner by its own id, and partners are drawn among the living rows, each as likely
as the others, the row itself among them. So a mixed row depends on its batch, but not on where dead rows stand.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.records import Augmentation, Batch, row_keys

COUPLED = {"batch-coupled": "a row is mixed with a partner from its batch"}


def mixup(alpha: Annotated[float, Gt(0)] = 0.2, classes: Annotated[int, Gt(1)] | None = None) -> Augmentation:
    """Rows that are averages of two, targets too, by `mix_rows`; `alpha > 0` is traced. Zhang et al. (1710.09412)."""
    return Augmentation(lambda key, batch, hp: mix_rows(key, batch, hp["alpha"], classes), {"alpha": alpha}, COUPLED)


def cutmix(alpha: Annotated[float, Gt(0)] = 1.0, classes: Annotated[int, Gt(1)] | None = None) -> Augmentation:
    """Images with a box of another's, targets by area, by `paste_boxes`; `alpha > 0` is traced. Yun et al. (1905.04899)."""
    return Augmentation(lambda key, batch, hp: paste_boxes(key, batch, hp["alpha"], classes), {"alpha": alpha}, COUPLED)


def mix_rows(key: jax.Array, batch: Batch, alpha: Any, classes: int | None = None) -> Batch:
    """`share * row + (1 - share) * partner` in x and in y, with a share from Beta(alpha, alpha); Zhang et al. (1710.09412).

    x is floats [n, ...] or a dict of them; y is probabilities [n, classes], or labels [n] where `classes` says how many
    there are. alpha > 0 may be traced. The answer's y is float probabilities [n, classes]; weight, row and aux stay.

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[0.0], [8.0]], y=[0, 1])
    >>> mixed = mix_rows(jax.random.key(0), rows, 0.2, classes=2)
    >>> bool((mixed.x[:, 0] == 8 * mixed.y[:, 1]).all())
    True
    """
    for leaf in jax.tree.leaves(batch.x):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"`mixup` takes x of floats, since rows are averaged; got {leaf.dtype} of shape {leaf.shape}.")
    target = as_probabilities("mixup", batch.y, classes)
    share, partner, _ = draw_partners(key, batch, alpha)
    return batch._replace(x=jax.tree.map(lambda v: blend(share, v, v[partner]), batch.x), y=blend(share, target, target[partner]))


def paste_boxes(key: jax.Array, batch: Batch, alpha: Any, classes: int | None = None) -> Batch:
    """A box of the partner's image in place of the row's own, and of its target the box's area; Yun et al. (1905.04899).

    x is images [n, height, width] or [n, height, width, channels] of any type. The box takes `1 - share` of the image,
    share from Beta(alpha, alpha), around a pixel drawn uniformly, and is cut at the border; y is mixed by the area that
    is left. y, alpha and the answer are as in `mix_rows`.
    """
    if getattr(batch.x, "ndim", 0) not in (3, 4):
        got = getattr(batch.x, "shape", type(batch.x).__name__)
        raise ValueError(f"`cutmix` takes images [n, height, width] or [n, height, width, channels]; got {got}.")
    target = as_probabilities("cutmix", batch.y, classes)
    share, partner, keys = draw_partners(key, batch, alpha)
    centre = jax.vmap(lambda one: jax.random.uniform(jax.random.fold_in(one, 2), (2,), share.dtype))(keys)
    inside = box(share, centre, batch.x.shape[1:3])
    kept = 1 - inside.mean((1, 2), dtype=share.dtype)
    inside = inside.reshape(*inside.shape, *(1,) * (batch.x.ndim - 3))
    return batch._replace(x=jnp.where(inside, batch.x[partner], batch.x), y=blend(kept, target, target[partner]))


def draw_partners(key: jax.Array, batch: Batch, alpha: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For every row its share in (0, 1), its partner's position, and its key for more."""
    keys = row_keys(key, batch.row)
    alpha = jnp.asarray(alpha, dtype=float)
    share = jax.vmap(lambda one: jax.random.beta(jax.random.fold_in(one, 0), alpha, alpha))(keys)
    at = jax.vmap(lambda one: jax.random.uniform(jax.random.fold_in(one, 1), dtype=share.dtype))(keys)
    return share, living_row_at(at, batch.weight), keys


def living_row_at(at: jax.Array, weight: jax.Array) -> jax.Array:
    """The position of the living row that `at` [n] in 0..1 falls on; the first row where none is alive. [n] int32."""
    # Counts are whole numbers: a dead row has the count of the row before it, so no search stops there.
    count = jnp.cumsum((weight > 0).astype(jnp.int32))
    number = jnp.minimum((at * count[-1].astype(at.dtype)).astype(jnp.int32), count[-1] - 1)
    return jnp.searchsorted(count, number, side="right").astype(jnp.int32)


def box(share: jax.Array, centre: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Whether a pixel is within the box [n, height, width] of sides `sqrt(1 - share)` around the pixel of centre [n, 2]."""

    def along(axis):
        length = size[axis]
        middle = jnp.floor(centre[:, axis] * length)
        half = jnp.floor(jnp.floor(length * jnp.sqrt(1 - share)) / 2)
        pixel = jnp.arange(length, dtype=share.dtype)
        return (pixel >= (middle - half)[:, None]) & (pixel < (middle + half)[:, None])

    return along(0)[:, :, None] & along(1)[:, None, :]


def blend(share: jax.Array, own: jax.Array, other: jax.Array) -> jax.Array:
    """`share * own + (1 - share) * other` of arrays [n, ...], in their own type."""
    share = share.astype(own.dtype).reshape(-1, *(1,) * (own.ndim - 1))
    return share * own + (1 - share) * other


def as_probabilities(name: str, y: Any, classes: int | None) -> jax.Array:
    """y as float probabilities [n, classes]; ValueError where it is neither those nor labels [n] of known classes."""
    shape, kind = getattr(y, "shape", None), getattr(y, "dtype", None)
    if shape is None or kind is None:
        kind = type(y).__name__
    elif len(shape) == 2 and classes in (None, shape[1]):
        return y if jnp.issubdtype(kind, jnp.floating) else y.astype(float)
    elif len(shape) == 1 and jnp.issubdtype(kind, jnp.integer) and classes is not None:
        return jax.nn.one_hot(y, classes, dtype=float)
    raise ValueError(
        f"`{name}` takes y of probabilities [n, classes], or of labels [n] with `classes` given; "
        f"got {kind} of shape {shape} and classes={classes}."
    )
