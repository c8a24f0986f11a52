"""Losses of embeddings: what belongs together is near, what does not is far."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.losses.outputs import check_parts
from arsenal.records import Loss


def triplet(margin: Annotated[float, Ge(0)] = 1.0) -> Loss:
    """`max(|anchor - positive| - |anchor - negative| + margin, 0)` of three embeddings [n, d] in a dict; y is not read.

    `margin >= 0` is traced. Answers: `predict` [n, d], the anchor's embedding. Also measures `accuracy`, the share of
    rows whose positive is nearer than the negative. Weinberger & Saul, JMLR 10 (2009); Schroff et al. 2015 (1503.03832)
    take squared lengths, here they are plain.
    """
    names = ("anchor", "positive", "negative")

    def value(outputs, rows, hp):
        near, far = (distance(outputs["anchor"], outputs[name]) for name in ("positive", "negative"))
        return jnp.maximum(near - far + hp["margin"].astype(near.dtype), 0)

    def nearer(outputs, rows):
        near, far = (distance(outputs["anchor"], outputs[name]) for name in ("positive", "negative"))
        return (near < far).astype(near.dtype)

    def check(outputs, rows):
        check_parts("triplet", outputs, *names)
        check_embeddings("triplet", "three", [outputs[name].shape for name in names])

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["anchor"]},
        measures={"accuracy": nearer},
        modes={"accuracy": "max"},
        check=check,
        hp={"margin": margin},
    )


def info_nce(temperature: Annotated[float, Gt(0)] = 0.07, symmetric: bool = True) -> Loss:
    """`-log(exp(s_ii / t) / Σ_j w_j exp(s_ij / t))`, s the cosine of `anchor` i and `positive` j, each [n, d] in a dict.

    So the positives of the batch's other rows are a row's negatives, as often as they weigh; dead rows are none. With
    `symmetric` the mean of this and the same with the parts exchanged, as in CLIP (Radford et al. 2021, 2103.00020,
    figure 3; the cross entropies that it averages). `temperature` t > 0 is traced; y is not read. The pieces of an
    accumulated batch have fewer negatives each. Answers: `predict` [n, d], the anchor's embedding. Also measures
    `accuracy`, the share of anchors whose nearest positive is their own. van den Oord et al. 2018 (1807.03748), eq. 4.
    """

    def value(outputs, rows, hp):
        scores = cosines(outputs["anchor"], outputs["positive"]) / hp["temperature"].astype(outputs["anchor"].dtype)
        counts = jnp.log(jnp.maximum(rows.weight, jnp.finfo(rows.weight.dtype).tiny)).astype(scores.dtype)
        own = jnp.diagonal(scores)
        each = jax.nn.logsumexp(scores + counts, 1) - own
        return (each + jax.nn.logsumexp(scores + counts[:, None], 0) - own) / 2 if symmetric else each

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["anchor"]},
        measures={"accuracy": positive_nearest},
        modes={"accuracy": "max"},
        check=lambda outputs, rows: check_views("info_nce", outputs),
        hp={"temperature": temperature},
        exempt={"batch-coupled": "the other rows of a batch are a row's negatives"},
    )


def nt_xent(temperature: Annotated[float, Gt(0)] = 0.5) -> Loss:
    """`-log(exp(s_ij / t) / Σ_k exp(s_ik / t))`, s the cosines of all views, j the other view of i's row, k any view but i.

    Views are `anchor` and `positive` [n, d] in a dict, and a row's value is the mean of its two. A view counts among the k as
    often as its row weighs, i itself once less; dead rows are none. `temperature` t > 0 is traced; y is not read. Answers:
    `predict` [n, d], the anchor, and the `embedding` of the outputs. Also measures `accuracy`, the share of anchors whose
    nearest positive is their own. Chen et al., ICML 2020 (2002.05709), eq. 1.
    """

    def value(outputs, rows, hp):
        views = jnp.concatenate([outputs["anchor"], outputs["positive"]])
        scores = cosines(views, views) / hp["temperature"].astype(views.dtype)
        n, weight = len(rows.weight), jnp.tile(rows.weight, 2)
        own = jnp.eye(2 * n, dtype=weight.dtype)
        counts = jnp.log(jnp.maximum(weight - own, jnp.finfo(weight.dtype).tiny)).astype(scores.dtype)
        each = jax.nn.logsumexp(scores + counts, 1) - jnp.tile(jnp.diagonal(scores, n), 2)
        return each.reshape(2, n).mean(0)

    def check(outputs, rows):
        check_parts("nt_xent", outputs, "embedding", "anchor", "positive")
        check_views("nt_xent", outputs)

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["anchor"], "embedding": lambda outputs: outputs["embedding"]},
        measures={"accuracy": positive_nearest},
        modes={"accuracy": "max"},
        check=check,
        hp={"temperature": temperature},
        exempt={"batch-coupled": "the other rows of a batch are a row's negatives"},
    )


def cosine_distance() -> Loss:
    """`2 - 2 cos(anchor, positive)` in 0..4, of a dict of embeddings `anchor` and `positive` [n, ..., k]: a mean over what lies
    between rows and numbers, such as the views of `byol`.

    y is not read. Answers: `predict`, the anchor, and the `embedding` of the outputs. Grill et al., NeurIPS 2020 (2006.07733),
    eq. 2, whose two terms are a sum.
    """

    def value(outputs, rows, hp):
        a, b = (normalize(outputs[name]) for name in ("anchor", "positive"))
        apart = 2 - 2 * (a * b).sum(-1)
        return apart.reshape(apart.shape[0], -1).mean(1)

    def check(outputs, rows):
        check_parts("cosine_distance", outputs, "embedding", "anchor", "positive")
        shapes = [outputs[part].shape for part in ("anchor", "positive")]
        if len(shapes[0]) < 2 or shapes[0] != shapes[1]:
            raise ValueError(f"`cosine_distance` takes two embeddings of one shape [n, ..., k]; the model gives {shapes}.")

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["anchor"], "embedding": lambda outputs: outputs["embedding"]},
        check=check,
    )


def contrastive(margin: Annotated[float, Gt(0)] = 1.0) -> Loss:
    """`|a - b|² / 2` of pairs that belong together, y 1, and `max(margin - |a - b|, 0)² / 2` of those that do not, y 0.

    Outputs are a dict of the embeddings `first` and `second` [n, d]; `margin > 0` is traced. Answers: `predict` [n], the
    distance. Also measures `pair_accuracy`, the share of pairs on the right side of half the margin. Hadsell, Chopra & LeCun,
    CVPR 2006, eq. 4, where Y is 1 - y.
    """
    names = ("first", "second")

    def apart(outputs):
        return distance(*(outputs[name] for name in names))

    def value(outputs, rows, hp):
        d = apart(outputs)
        beyond = jnp.maximum(hp["margin"].astype(d.dtype) - d, 0)
        return jnp.square(jnp.where(rows.y > 0, d, beyond)) / 2

    def right(outputs, rows):
        d = apart(outputs)
        return ((d < margin / 2) == (rows.y > 0)).astype(d.dtype)

    def check(outputs, rows):
        check_parts("contrastive", outputs, *names)
        check_embeddings("contrastive", "two", [outputs[name].shape for name in names])
        y = np.asarray(rows.y)
        if y.ndim != 1 or not np.isin(y[np.asarray(rows.weight) > 0], [0, 1]).all():
            raise ValueError(f"`contrastive` takes y [n] of 0 and 1; got {y.dtype} of shape {y.shape}.")

    return Loss(
        value, readout={"predict": apart}, measures={"pair_accuracy": right}, modes={"pair_accuracy": "max"}, check=check,
        hp={"margin": margin},
    )  # fmt: skip


def cosines(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cosine of each of a [n, d] and each of b [m, d], [n, m]."""
    return normalize(a) @ normalize(b).T


def positive_nearest(outputs, rows) -> jax.Array:
    """Whether no living row's `positive` is nearer to an `anchor` than its own, 1 or 0 [n]."""
    scores = jnp.where(rows.weight > 0, cosines(outputs["anchor"], outputs["positive"]), -2)
    return (jnp.diagonal(scores) >= scores.max(1)).astype(scores.dtype)


def check_views(name: str, outputs) -> None:
    """Raise ValueError unless the outputs have an `anchor` and a `positive` of one shape [n, d]."""
    check_parts(name, outputs, "anchor", "positive")
    check_embeddings(name, "two", [outputs[part].shape for part in ("anchor", "positive")])


def check_embeddings(name: str, count: str, shapes: list) -> None:
    """Raise ValueError unless the shapes are one, [n, d]."""
    if len(shapes[0]) != 2 or len(set(shapes)) != 1:
        raise ValueError(f"`{name}` takes {count} embeddings of one shape [n, d]; the model gives {shapes}.")


def normalize(x: jax.Array) -> jax.Array:
    """x [..., d] at length 1; a row of zeros stays one."""
    square = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square > 0, square, 1))


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """The length of `a - b + 1e-6`, [n]: never 0, where a length has no slope."""
    return jnp.sqrt(jnp.sum(jnp.square(a - b + 1e-6), -1))
